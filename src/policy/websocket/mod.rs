//! WebSockets that pass through: from which pages, how long and how silent they may be, and how long their messages.

use std::time::Duration;

use http::header::{ORIGIN, UPGRADE};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::origin::{is_origin, no_origin};
use super::{Env, Hooks, Stage};
use crate::base::problem::Problem;
use crate::base::units::{ByteSize, Span};
use crate::exchange::{Exchange, Fault, RequestHead, Verdict, WebSocketRules};

/// What holds for WebSockets of a route; requests that are none pass as ever.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// How long nothing may pass in either direction; then both sides are told that it is over (1001). Default `10m`.
    #[serde(default = "ten_minutes")]
    idle: Span,
    /// How often both sides are sent a ping; who sends nothing until the next one is due is gone. Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ping: Option<Span>,
    /// The longest message in either direction, as it is on the wire; who sends a longer one gets 1009. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_message: Option<ByteSize>,
    /// How old a connection may become; then both sides are told that it is over (1001). Default: any age.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_age: Option<Span>,
    /// From which pages a browser may open one, e.g. `https://app.example.com`; others get 403. Clients that send no `Origin`
    /// are no browsers, and pass. Default: from any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    origins: Option<Vec<String>>,
}

const fn ten_minutes() -> Span {
    Span::from_secs(600)
}

/// The rules, and who may ask.
#[derive(Debug)]
pub struct Websocket {
    rules: WebSocketRules,
    origins: Option<Box<[Box<str>]>>,
}

impl Spec {
    /// Makes the policy.
    pub fn compile(&self, env: &mut Env<'_>) -> Option<Websocket> {
        for (key, span) in [
            ("idle", Some(&self.idle)),
            ("ping", self.ping.as_ref()),
            ("max_age", self.max_age.as_ref()),
        ] {
            if span.is_some_and(|span| span.duration().is_zero()) {
                let problem = Problem::error("E030", env.place.key(key), "no time at all");
                env.problem(problem.hint("a time of 1ms or more"));
            }
        }
        let origins = self.origins.as_deref();
        for (index, origin) in origins.unwrap_or_default().iter().enumerate() {
            if !is_origin(origin) {
                let place = env.place.key("origins").index(index);
                env.problem(no_origin(place, origin));
            }
        }
        let lower = |origin: &String| origin.to_ascii_lowercase().into_boxed_str();
        Some(Websocket {
            rules: WebSocketRules {
                idle: self.idle.duration(),
                ping: self.ping.as_ref().map(|span| span.duration()),
                message_bytes_max: self.max_message.as_ref().map(|size| size.bytes()),
                age_max: self.max_age.as_ref().map(|span| span.duration()),
                compressed: false,
            },
            origins: origins.map(|origins| origins.iter().map(lower).collect()),
        })
    }
}

impl Hooks for Websocket {
    const STAGE: Stage = Stage::Shield;

    fn on_request(&self, head: &RequestHead, ex: &mut Exchange) -> Result<Verdict, Fault> {
        let asked = head.headers.get(UPGRADE);
        if !asked.is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket")) {
            return Ok(Verdict::Continue);
        }
        let known = |origin: &[u8]| {
            let mut all = self.origins.iter().flatten();
            all.any(|known| known.as_bytes().eq_ignore_ascii_case(origin))
        };
        let mut told = head.headers.get_all(ORIGIN).iter();
        if self.origins.is_some() && !told.all(|origin| known(origin.as_bytes())) {
            return Err(Fault::Forbidden);
        }
        ex.websocket = Some(self.rules);
        Ok(Verdict::Continue)
    }

    fn explain(&self, ex: &Exchange) -> Option<String> {
        let idle: Duration = ex.websocket?.idle;
        Some(format!("closed after {idle:?} of silence"))
    }
}
