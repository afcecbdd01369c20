//! What somebody who was asked decided: taken over for a while where the config says by what requests are alike, and asked for
//! once at a time.

use std::future::Future;
use std::sync::Arc;

use http::HeaderName;
use http::header::{AUTHORIZATION, COOKIE};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cache::Cache;
use super::carrier::Carrier;
use super::finding::{Finding, Vouched};
use super::flights::Flights;
use crate::base::digest::Digest;
use crate::base::key::{Key, KeyPart};
use crate::base::problem::{Place, Problem, Problems};
use crate::base::units::Span;
use crate::exchange::{Exchange, Facts, Mode, RequestHead};
use crate::expr::Scope as _;
use crate::telemetry::Hidden;

/// A decision that is older than this is nobody's any more.
const TTL_MAX_SECS: u64 = 3600;
/// What one of them may take in memory, roughly, beside its headers.
const ENTRY_BYTES: usize = 512;

const BUSY: Finding = Finding::Unavailable("too many are being asked about");

/// How long a yes holds, and for which requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CacheSpec {
    /// How long, up to `1h`, e.g. `30s`. Only a yes is kept.
    ttl: Span,
    /// What makes requests alike, e.g. `["header:cookie"]`: `client_ip`, `client_ip/64`, `host`, `route`, `header:x`,
    /// `query:x`, `cookie:x`. The method and the path are not among them: whoever decides by these is asked without a cache.
    /// A request that has none of it is asked about each time. Credentials that are sent have to be part of it.
    key: Key,
}

/// The decisions of one authenticator.
#[derive(Debug)]
pub(super) struct Decisions {
    /// In milliseconds.
    ttl: i64,
    key: Box<[KeyPart]>,
    /// Whether requests are alike only with the same body.
    by_body: bool,
    kept: Cache<Kept>,
    flights: Flights<Finding>,
}

#[derive(Debug, Clone)]
struct Kept {
    vouched: Arc<Vouched>,
    /// In milliseconds since 1970.
    until: i64,
}

impl CacheSpec {
    /// Makes it for somebody who gets to see what is `sent`.
    pub(super) fn compile(
        &self,
        sent: &[Carrier],
        place: &Place,
        problems: &mut Problems,
    ) -> Decisions {
        if !(1..=TTL_MAX_SECS).contains(&self.ttl.duration().as_secs()) {
            let problem = Problem::error("E030", place.key("ttl"), "no time to keep it for");
            problems.push(problem.hint("`1s` to `1h`"));
        }
        if self.key.0.is_empty() {
            let problem = Problem::error("E011", place.key("key"), "an empty list");
            problems.push(problem.hint("e.g. `[\"header:cookie\"]`"));
        }
        for (index, part) in self.key.0.iter().enumerate() {
            let known = matches!(
                part,
                KeyPart::ClientIp(_)
                    | KeyPart::Host
                    | KeyPart::Route
                    | KeyPart::Header(_)
                    | KeyPart::Query(_)
                    | KeyPart::Cookie(_)
            );
            if !known {
                let what = format!("`{part}` is not known before somebody is asked");
                let problem = Problem::error("E060", place.key("key").index(index), what);
                problems.push(
                    problem
                        .hint("`client_ip`, `host`, `route`, `header:x`, `query:x` or `cookie:x`"),
                );
            }
        }
        self.check_sent(sent, &place.key("key"), problems);
        Decisions {
            ttl: i64::try_from(self.ttl.duration().as_millis()).unwrap_or(0),
            key: self.key.0.iter().cloned().collect(),
            by_body: false,
            kept: Cache::default(),
            flights: Flights::default(),
        }
    }
}

impl CacheSpec {
    /// Whoever decides may do so by all it gets: what was decided about one credential must not hold for another.
    fn check_sent(&self, sent: &[Carrier], place: &Place, problems: &mut Problems) {
        for carrier in sent.iter().filter(|it| !self.covers(it)) {
            let (part, secret) = match carrier {
                Carrier::Authorization(_) => ("header:authorization".to_owned(), true),
                Carrier::Header(name) => {
                    let secret = Hidden::default().hides_header(name.as_str());
                    (format!("header:{name}"), secret)
                }
                Carrier::Cookie(name) => (format!("cookie:{name}"), true),
                Carrier::Query(name) => (format!("query:{name}"), true),
            };
            let what = format!("a decision about one `{part}` would hold for another");
            // One cookie of the line may be all that is decided by.
            let some = matches!(carrier, Carrier::Header(name) if *name == COOKIE)
                && self.key.0.iter().any(|it| matches!(it, KeyPart::Cookie(_)));
            let problem = match secret && !some {
                true => Problem::error("E060", place.clone(), what),
                false => Problem::warning("W063", place.clone(), what),
            };
            problems.push(problem.hint(format!("add `{part}` to the key, or do not send it")));
        }
    }

    /// Whether two requests with the same key have the same there.
    fn covers(&self, carrier: &Carrier) -> bool {
        self.key.0.iter().any(|part| match (part, carrier) {
            (KeyPart::Header(known), Carrier::Header(sent)) => known == sent,
            (KeyPart::Header(known), Carrier::Authorization(_)) => *known == AUTHORIZATION,
            (KeyPart::Header(known), Carrier::Cookie(_)) => *known == COOKIE,
            (KeyPart::Cookie(known), Carrier::Cookie(sent)) => known == sent,
            (KeyPart::Query(known), Carrier::Query(sent)) => known == sent,
            _ => false,
        })
    }
}

impl Decisions {
    /// The same for somebody who is shown the body: what is said of one holds for no other.
    pub(super) fn by_body(mut self) -> Self {
        self.by_body = true;
        self
    }

    /// What is known already.
    pub(super) fn look(&self, head: &RequestHead, ex: &Exchange) -> Finding {
        let Some(digest) = self.digest(head, ex) else {
            return Finding::Ask;
        };
        match self.kept.find(&digest) {
            Some(kept) if kept.until > ex.unix_millis => Finding::Vouched(kept.vouched),
            Some(_) => {
                self.kept.forget(&digest);
                Finding::Ask
            }
            None => Finding::Ask,
        }
    }

    /// What `ask` finds out, or what was found out while somebody else was asking.
    pub(super) async fn ask(
        &self,
        head: &RequestHead,
        ex: &Exchange,
        ask: impl Future<Output = Finding>,
    ) -> Finding {
        let Some(digest) = self.digest(head, ex) else {
            return ask.await;
        };
        let asked = async {
            // It may have been found out since this one looked.
            let kept = self.look(head, ex);
            if matches!(kept, Finding::Vouched(_)) {
                return kept;
            }
            let found = ask.await;
            if let Finding::Vouched(vouched) = &found {
                let kept = Kept {
                    vouched: Arc::clone(vouched),
                    until: ex.unix_millis.saturating_add(self.ttl),
                };
                let bytes = vouched.bytes() + ENTRY_BYTES;
                // What request tests say is nobody's decision.
                if ex.mode == Mode::Live {
                    self.kept.keep(digest, kept, bytes);
                }
            }
            found
        };
        self.flights.join(digest, asked).await.unwrap_or(BUSY)
    }

    /// What the request has of the key; nothing where it has nothing of it, or where its body is not read yet. Each part counts
    /// with its length, so that no two requests are taken for one.
    fn digest(&self, head: &RequestHead, ex: &Exchange) -> Option<Digest> {
        let facts = Facts::of(head, ex);
        let mut whole = Vec::new();
        let mut any = false;
        for part in &self.key {
            let lines = lines(part, head, &facts);
            any |= !lines.is_empty();
            whole.extend_from_slice(&(lines.len() as u64).to_be_bytes());
            for line in lines {
                whole.extend_from_slice(&(line.len() as u64).to_be_bytes());
                whole.extend_from_slice(&line);
            }
        }
        if self.by_body {
            let body = match &ex.body {
                None if ex.framing.has_body() => return None,
                body => body.as_deref().unwrap_or_default(),
            };
            whole.extend_from_slice(&Digest::of(body).bytes());
        }
        any.then(|| Digest::of(&whole))
    }
}

/// Everything that the request has under this part of a key.
fn lines(part: &KeyPart, head: &RequestHead, facts: &Facts<'_>) -> Vec<Vec<u8>> {
    let one = |text: Option<String>| text.map(String::into_bytes).into_iter().collect();
    match part {
        KeyPart::ClientIp(bits) => {
            let ip = facts.client_ip();
            let ip = ip.map(|ip| bits.map_or(ip, |bits| crate::base::key::network_of(ip, bits)));
            one(ip.map(|ip| ip.to_string()))
        }
        KeyPart::Host => one(facts.host().map(str::to_owned)),
        KeyPart::Route => one(facts.route_name().map(str::to_owned)),
        KeyPart::Header(name) => {
            let lines = head.headers.get_all(name).iter();
            lines.map(|line| line.as_bytes().to_vec()).collect()
        }
        KeyPart::Query(name) => Carrier::Query(name.clone()).every(head),
        KeyPart::Cookie(name) => Carrier::Cookie(name.clone()).every(head),
        // Refused when the config is compiled.
        KeyPart::Consumer
        | KeyPart::Credential
        | KeyPart::Plan
        | KeyPart::Claim(_)
        | KeyPart::Param(_) => Vec::new(),
    }
}

/// Names of headers, without those that frame a message or that the gateway writes itself.
pub(super) fn names(written: &[String], place: &Place, problems: &mut Problems) -> Vec<HeaderName> {
    let mut names = Vec::with_capacity(written.len());
    for (index, name) in written.iter().enumerate() {
        let parsed = HeaderName::from_bytes(name.as_bytes()).ok();
        let parsed = parsed.filter(super::vouching::may_be_written);
        if parsed.is_none() {
            let what = format!("`{}` cannot be handed on", name.escape_debug());
            let problem = Problem::error("E033", place.index(index), what);
            problems.push(problem.hint("a header about the caller, e.g. `x-user-id`"));
        }
        names.extend(parsed);
    }
    names
}
