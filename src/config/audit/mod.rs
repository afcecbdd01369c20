//! Settings that are valid and risky: each rule with its weight, and where a config breaks it.

mod authenticators;
mod pages;
mod rules;

use std::fmt;

use super::Loaded;
use crate::base::problem::{Place, Problem};

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Risk {
    /// Somebody can take what is not theirs.
    High,
    /// A guard is missing that another mistake would need.
    Medium,
    /// It says more, or less, than it should.
    Low,
}

impl Risk {
    /// As it is printed.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
        }
    }
}

impl fmt::Display for Risk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Its id, which never changes its meaning.
    pub id: &'static str,
    /// How much it matters when it is broken.
    pub risk: Risk,
    /// What holds in a config that keeps it.
    pub rule: &'static str,
    /// How to mend one that does not.
    pub hint: &'static str,
}

const fn rule(id: &'static str, risk: Risk, rule: &'static str, hint: &'static str) -> Rule {
    Rule {
        id,
        risk,
        rule,
        hint,
    }
}

/// Every rule.
pub const RULES: &[Rule] = &[
    rule(
        "A001",
        Risk::High,
        "secrets stand outside the config",
        "write `{ env: NAME }`, `{ file: path }` or `{ credential: name }` in its place",
    ),
    rule(
        "A002",
        Risk::High,
        "files with secrets are read by their owner and group only",
        "take the right away: `chmod o= FILE`",
    ),
    rule(
        "A003",
        Risk::High,
        "only proxies of our own say who the client is",
        "name the networks of the proxies that stand before this gateway",
    ),
    rule(
        "A004",
        Risk::High,
        "clients do not write who they are",
        "upstreams take this header for the truth: give it another name, or take it out",
    ),
    rule(
        "A005",
        Risk::High,
        "no answer sends a browser where the request says",
        "write the host yourself: `https://www.example.com/{…}`",
    ),
    rule(
        "A006",
        Risk::Medium,
        "clients from other machines are reached over TLS",
        "add `tls`, or listen on loopback or a unix socket, behind a proxy that speaks TLS",
    ),
    rule(
        "A007",
        Risk::Medium,
        "targets outside private networks are reached over TLS",
        "reach it over a private network, or by a proxy of your own that speaks TLS",
    ),
    rule(
        "A008",
        Risk::Medium,
        "the admin interface is reached from this machine only",
        "use `socket`, or `127.0.0.1`: tokens pass over this address unencrypted",
    ),
    rule(
        "A009",
        Risk::Low,
        "whoever asks at the admin address says who it is",
        "add `tokens`, or use `socket` alone: every process of this machine may reload",
    ),
    rule(
        "A010",
        Risk::Medium,
        "there is an access log",
        "set `format` to `json` or `clf`",
    ),
    rule(
        "A011",
        Risk::Low,
        "every request leaves a record",
        "what is not recorded cannot be looked up after an incident; failures always are, unless `log` is `none`",
    ),
    rule(
        "A012",
        Risk::Low,
        "messages hold no details of requests",
        "set `level` to `info`, and use RUST_LOG while you look for something",
    ),
    rule(
        "A013",
        Risk::Low,
        "what other machines reach is served at known hosts only",
        "name the hosts of the listener, or of its routes",
    ),
    rule(
        "A014",
        Risk::Low,
        "routes that are over are taken out",
        "nobody is served there any more: take the route out",
    ),
    rule(
        "A015",
        Risk::Low,
        "answers do not tell what made them",
        "take the header out: it helps only those who look for a known weakness",
    ),
    rule(
        "A016",
        Risk::High,
        "targets that are reached over TLS prove who they are",
        "take `verify: none` out; a certificate of an authority of your own is believed with `ca_file`",
    ),
    rule(
        "A017",
        Risk::High,
        "only load balancers of our own say whose connection it is",
        "name the networks of the load balancers that stand before this gateway",
    ),
    rule(
        "A018",
        Risk::Medium,
        "bodies of requests have a longest length everywhere",
        "write `body_limits: none` only at the routes that take bodies of any length",
    ),
    rule(
        "A019",
        Risk::Low,
        "certificates of clients can be taken back",
        "add `crl_file`, so that a key that was stolen opens nothing any more",
    ),
    rule(
        "A020",
        Risk::Low,
        "one client may have and take little more than by default",
        "one client alone can use up much of the gateway: write what your clients need",
    ),
    rule(
        "A021",
        Risk::Medium,
        "pages that may read answers are named",
        "name the origins, unless everybody on the internet may read what is served here",
    ),
    rule(
        "A022",
        Risk::Medium,
        "stores on other machines are reached over TLS",
        "write `rediss://`: whoever listens on the way learns the password, and may say who comes in",
    ),
    rule(
        "A023",
        Risk::Medium,
        "whoever vouches for a consumer is named",
        "write `authenticator: NAME` beside it: else whoever gets that name of another one is taken for this consumer",
    ),
    rule(
        "A024",
        Risk::High,
        "nobody else writes what the gateway keeps on disk",
        "take the right away: `chmod o= FOLDER`",
    ),
    rule(
        "A025",
        Risk::Medium,
        "what is asked of callers is held to",
        "write `mode: enforce` once the log tells of no refusal that is wrong",
    ),
    rule(
        "A026",
        Risk::Medium,
        "credentials are no part of URLs",
        "let clients send it in a header: URLs stand in logs, histories and `Referer`",
    ),
    rule(
        "A027",
        Risk::Low,
        "where plans say which routes may be called, every consumer has one",
        "give it a `plan`: without one every route that trusts its credential is open to it",
    ),
];

/// One place where a rule is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub risk: Risk,
    /// The rule's id, the place, what is found, and how to mend it.
    pub problem: Problem,
}

/// Everything that is risky in a valid config, at this time of day, the worst first.
#[must_use]
pub fn audit(loaded: &Loaded, unix_millis: i64) -> Vec<Finding> {
    let mut findings = Findings {
        loaded,
        unix_millis,
        list: Vec::new(),
    };
    findings.look();
    let mut list = findings.list;
    list.sort_by_key(|finding| (finding.risk, loaded.mark(&finding.problem)));
    list
}

/// What was found so far.
struct Findings<'a> {
    loaded: &'a Loaded,
    unix_millis: i64,
    list: Vec<Finding>,
}

impl Findings<'_> {
    /// Notes that the rule `id` is broken at `place`.
    fn add(&mut self, id: &str, place: &Place, what: String) {
        if let Some(rule) = RULES.iter().find(|rule| rule.id == id) {
            let problem = Problem::warning(rule.id, place.clone(), what).hint(rule.hint);
            let risk = rule.risk;
            self.list.push(Finding { risk, problem });
        }
    }
}

/// The names that a template quotes, as they are written.
pub(super) fn quoted(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            let (_, after) = rest.split_once('{')?;
            if let Some(brace) = after.strip_prefix('{') {
                rest = brace;
                continue;
            }
            let (name, next) = after.split_once('}')?;
            rest = next;
            return Some(name);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::{RULES, quoted};

    #[test]
    fn rules_are_numbered_without_gaps() {
        for (at, rule) in RULES.iter().enumerate() {
            assert_eq!(rule.id, format!("A{:03}", at + 1));
        }
    }

    #[test]
    fn names_in_a_template_are_found() {
        let names: Vec<&str> = quoted("a {{b}} {request.id}-{id}{").collect();
        assert_eq!(names, ["request.id", "id"]);
    }
}
