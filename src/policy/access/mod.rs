//! Who may ask at all: by network, country, page, program and path.

mod countries;

use std::net::IpAddr;
use std::sync::Arc;

pub use countries::{Countries, Unread};
use http::header::USER_AGENT;
use regex::{RegexSet, bytes};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::origin::{OriginSpec, Origins, Page};
use super::{Env, Hooks, Stage};
use crate::base::net::{Net, NetList, NetSet};
use crate::base::problem::{Place, Problem};
use crate::exchange::{Exchange, Fault, RequestHead, Verdict};

/// Who may ask; everybody else gets 403. What is written must hold as a whole. The client is who `trusted_proxies` of the
/// listener say it is.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The networks that may, e.g. `10.0.0.0/8`. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    allow_ips: Option<Vec<Net>>,
    /// Networks that may not, also where `allow_ips` has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    deny_ips: Vec<Net>,
    /// Files with more networks that may not, one a line, with comments behind `#` or `;`. They are read again when they change,
    /// within a second; one that is broken then leaves its last good reading in force. At most 16 MiB each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ip_files: Vec<String>,
    /// The pages that may, by `Origin`, else by `Referer`: written as in `cors`. Who names no page is no browser, and may.
    /// Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    origins: Option<Vec<OriginSpec>>,
    /// Regular expressions; a `User-Agent` that holds one, in capital letters or not, may not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    deny_user_agents: Vec<String>,
    /// Regular expressions; a path that holds one may not be asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    deny_paths: Vec<String>,
    /// The countries that may, as ISO 3166 has them, e.g. `DE`; an address whose country is not known may not. Needs `geoip`.
    /// Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    countries: Option<Vec<String>>,
}

/// The lists.
#[derive(Debug)]
pub struct Access {
    allow: Option<NetSet>,
    deny: NetSet,
    files: Box<[Arc<NetList>]>,
    origins: Option<Origins>,
    agents: bytes::RegexSet,
    paths: RegexSet,
    countries: Option<Allowed>,
}

/// Countries that may.
#[derive(Debug)]
struct Allowed {
    known: Arc<Countries>,
    codes: Box<[[u8; 2]]>,
}

/// All patterns of a list as one. Each of them may do alone, and all together be too large: then nobody knows whom they mean.
fn together<S>(made: Result<S, regex::Error>, key: &str, env: &mut Env<'_>) -> Option<S> {
    made.inspect_err(|error| {
        // One that cannot be read was reported where it stands.
        if matches!(error, regex::Error::CompiledTooBig(_)) {
            let what = "together these are too large";
            let problem = Problem::error("E030", env.place.key(key), what);
            let hint = "repetitions with bounds such as `\\w{1,64}` take the room: `+` or `*`";
            env.problem(problem.hint(hint));
        }
    })
    .ok()
}

impl Spec {
    /// The files it refers to, with their places, where `place` is its own.
    #[must_use]
    pub fn files(&self, place: &Place) -> Vec<(Place, String)> {
        let place = place.key("ip_files");
        let files = self.ip_files.iter().enumerate();
        files
            .map(|(index, file)| (place.index(index), file.clone()))
            .collect()
    }

    /// Makes the policy.
    pub fn compile(&self, env: &mut Env<'_>) -> Option<Access> {
        self.check(env);
        let at = env.place.key("origins");
        let origins = self.origins.as_deref();
        let origins = origins.map(|list| Origins::compile(list, env, &at));
        // What could not be read was reported where it was.
        let files = self.files(env.place).into_iter();
        let files = files.filter_map(|(place, _)| env.names.get(&place.to_string()).cloned());
        let files: Vec<Arc<NetList>> = files.collect();
        let agents = self.deny_user_agents.iter();
        let agents: Vec<String> = agents.map(|text| format!("(?i:{text})")).collect();
        let countries = self.countries(env);
        Some(Access {
            allow: self
                .allow_ips
                .clone()
                .map(|nets| nets.into_iter().collect()),
            deny: self.deny_ips.iter().copied().collect(),
            files: files.into(),
            origins,
            agents: together(bytes::RegexSet::new(agents), "deny_user_agents", env)?,
            paths: together(RegexSet::new(&self.deny_paths), "deny_paths", env)?,
            countries,
        })
    }

    fn check(&self, env: &mut Env<'_>) {
        let empty = |list: Option<usize>| list == Some(0);
        for (key, none) in [
            ("allow_ips", empty(self.allow_ips.as_ref().map(Vec::len))),
            ("origins", empty(self.origins.as_ref().map(Vec::len))),
            ("countries", empty(self.countries.as_ref().map(Vec::len))),
        ] {
            if none {
                let problem = Problem::error("E011", env.place.key(key), "an empty list");
                env.problem(problem.hint("take it out to let everybody in"));
            }
        }
        let lists = [&self.ip_files, &self.deny_user_agents, &self.deny_paths];
        let anything = self.allow_ips.is_some()
            || !self.deny_ips.is_empty()
            || self.origins.is_some()
            || self.countries.is_some()
            || lists.iter().any(|list| !list.is_empty());
        if !anything {
            let problem = Problem::error("E011", env.place.clone(), "nobody is refused");
            env.problem(
                problem
                    .hint("say who may, e.g. `allow_ips: [10.0.0.0/8]`, or write `access: none`"),
            );
        }
        for (key, list) in [
            ("deny_user_agents", &self.deny_user_agents),
            ("deny_paths", &self.deny_paths),
        ] {
            for (index, text) in list.iter().enumerate() {
                let place = env.place.key(key).index(index);
                if text.is_empty() {
                    let problem =
                        Problem::error("E036", place, "an empty pattern is in every text");
                    env.problem(problem.hint("take it out"));
                } else if let Err(error) = regex::Regex::new(text) {
                    let what = format!("`{text}` is not a regular expression");
                    let why = error.to_string();
                    let why = why.lines().last().unwrap_or_default().to_owned();
                    env.problem(Problem::error("E036", place, what).hint(why));
                }
            }
        }
    }

    fn countries(&self, env: &mut Env<'_>) -> Option<Allowed> {
        let list = self.countries.as_ref()?;
        let at = env.place.key("countries");
        let mut codes = Vec::with_capacity(list.len());
        for (index, text) in list.iter().enumerate() {
            match <[u8; 2]>::try_from(text.as_bytes()) {
                Ok(code) if code.iter().all(u8::is_ascii_uppercase) => codes.push(code),
                Ok(_) | Err(_) => {
                    let what = format!("`{text}` is not a country");
                    let problem = Problem::error("E030", at.index(index), what);
                    env.problem(problem.hint("two capital letters of ISO 3166, e.g. `DE`"));
                }
            }
        }
        let Some(known) = env.names.get::<Arc<Countries>>("").cloned() else {
            if !env.names.names::<Unread>().any(|_| true) {
                let problem =
                    Problem::error("E031", at, "no file says which country an address is of");
                env.problem(problem.hint("add `geoip: { file: countries.mmdb }` at the top"));
            }
            return None;
        };
        let codes = codes.into();
        Some(Allowed { known, codes })
    }
}

impl Hooks for Access {
    const STAGE: Stage = Stage::Shield;

    fn on_request(&self, head: &RequestHead, ex: &mut Exchange) -> Result<Verdict, Fault> {
        let client = ex.client.as_ref().map(|client| client.client);
        match self.refusal(head, client) {
            None => Ok(Verdict::Continue),
            Some(why) => {
                ex.refusal = Some(why);
                Err(Fault::Forbidden)
            }
        }
    }

    fn explain(&self, ex: &Exchange) -> Option<String> {
        ex.refusal.map(str::to_owned)
    }

    fn lists(&self) -> &[Arc<NetList>] {
        &self.files
    }
}

impl Access {
    /// Why it may not.
    fn refusal(&self, head: &RequestHead, client: Option<IpAddr>) -> Option<&'static str> {
        let is = |test: &dyn Fn(IpAddr) -> bool| client.is_some_and(test);
        if is(&|ip| self.deny.contains(ip)) {
            return Some("its network is one of `deny_ips`");
        }
        if is(&|ip| self.files.iter().any(|list| list.contains(ip))) {
            return Some("its network is in one of `ip_files`");
        }
        let allowed = |nets: &NetSet| is(&|ip| nets.contains(ip));
        if self.allow.as_ref().is_some_and(|nets| !allowed(nets)) {
            return Some("its network is none of `allow_ips`");
        }
        if let Some(Allowed { known, codes }) = &self.countries
            && !is(&|ip| known.of(ip).is_some_and(|code| codes.contains(&code)))
        {
            return Some("its country is none of `countries`");
        }
        if self.paths.is_match(head.uri.path()) {
            return Some("its path is one of `deny_paths`");
        }
        let mut agents = head.headers.get_all(USER_AGENT).iter();
        if agents.any(|agent| self.agents.is_match(agent.as_bytes())) {
            return Some("its user agent is one of `deny_user_agents`");
        }
        let origins = self.origins.as_ref()?;
        let known = match Page::by_any(&head.headers) {
            Page::Unsaid => true,
            Page::Of(origin) => origins.admit(&origin),
            Page::Unclear => false,
        };
        (!known).then_some("its page is none of `origins`")
    }
}
