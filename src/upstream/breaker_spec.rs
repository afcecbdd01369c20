//! A circuit breaker as written.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::condition::Condition;
use crate::base::units::{Share, Span};

/// When nothing is sent to an upstream for a while: too many of the requests in the window failed, or were slow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BreakerSpec {
    /// The share of errors from which on it opens. Default `50%`.
    #[serde(default = "half")]
    pub error_rate: Share,
    /// The share of slow answers from which on it opens, where `slow_after` says which are. Default `80%`.
    #[serde(default = "most")]
    pub slow_rate: Share,
    /// An attempt that takes so long up to the head of its answer is slow. Default: none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_after: Option<Span>,
    /// With fewer requests in the window it stays closed: 1 to 1000000. Default 20.
    #[serde(default = "twenty")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub min_requests: u32,
    /// How far back is looked, `100ms` to `10m`. Default `10s`.
    #[serde(default = "ten_seconds")]
    pub window: Span,
    /// How long it is open the first time; each time that it opens again at once, twice as long. Default `15s`.
    #[serde(default = "a_while")]
    pub open_for: Span,
    /// How long it is open at most. Default `5m`.
    #[serde(default = "long")]
    pub max_open: Span,
    /// So many requests are let through after it, and all have to be good: 1 to 1000. Default 1.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1000))]
    pub probes: u32,
    /// What counts as an error. Default: whatever is no answer, `http_5xx`, and of calls of gRPC `grpc_unknown`,
    /// `grpc_deadline_exceeded`, `grpc_internal`, `grpc_unavailable`, `grpc_data_loss`.
    #[serde(default = "errors")]
    pub errors: Vec<Condition>,
}

impl Default for BreakerSpec {
    fn default() -> Self {
        Self {
            error_rate: half(),
            slow_rate: most(),
            slow_after: None,
            min_requests: twenty(),
            window: ten_seconds(),
            open_for: a_while(),
            max_open: long(),
            probes: one(),
            errors: errors(),
        }
    }
}

const fn half() -> Share {
    Share::from_percent(50)
}
const fn most() -> Share {
    Share::from_percent(80)
}
const fn twenty() -> u32 {
    20
}
const fn ten_seconds() -> Span {
    Span::from_secs(10)
}
const fn a_while() -> Span {
    Span::from_secs(15)
}
const fn long() -> Span {
    Span::from_secs(300)
}
const fn one() -> u32 {
    1
}
fn errors() -> Vec<Condition> {
    vec![
        Condition::ConnectFailure,
        Condition::Reset,
        Condition::RefusedStream,
        Condition::Timeout,
        Condition::ProtocolError,
        Condition::TlsFailure,
        Condition::Class(5),
        Condition::Grpc(2),
        Condition::Grpc(4),
        Condition::Grpc(13),
        Condition::Grpc(14),
        Condition::Grpc(15),
    ]
}

impl BreakerSpec {
    /// What means nothing: the key, what is wrong, and how to mend it.
    #[must_use]
    pub fn mistakes(&self) -> Vec<(&'static [&'static str], String, &'static str)> {
        let mut found = Vec::new();
        let mut wrong =
            |key: &'static [&'static str], what: String, hint| found.push((key, what, hint));
        for (key, rate) in [
            (&["error_rate"][..], self.error_rate),
            (&["slow_rate"][..], self.slow_rate),
        ] {
            if rate.parts() == 0 {
                let what = "it would be open always".to_owned();
                wrong(
                    key,
                    what,
                    "more than `0%`; to have no breaker, take the clause out",
                );
            }
        }
        if !(1..=1_000_000).contains(&self.min_requests) {
            let what = format!("{} requests", self.min_requests);
            wrong(&["min_requests"], what, "1 to 1000000");
        }
        if !(1..=1000).contains(&self.probes) {
            let what = format!("{} probes", self.probes);
            wrong(&["probes"], what, "1 to 1000");
        }
        let window = self.window.duration();
        if window < Duration::from_millis(100) || window > Duration::from_secs(600) {
            let what = format!("a window of {}", self.window);
            wrong(&["window"], what, "`100ms` to `10m`");
        }
        if self.open_for.duration().is_zero() {
            wrong(
                &["open_for"],
                "no time at all".to_owned(),
                "a time of 1ms or more",
            );
        } else if self.max_open < self.open_for {
            let what = format!("`max_open` is shorter than `open_for`: {}", self.max_open);
            wrong(&["max_open"], what, "`open_for` or more");
        }
        if self
            .slow_after
            .is_some_and(|span| span.duration().is_zero())
        {
            let hint = "a time of 1ms or more; to count no answer as slow, take the key out";
            wrong(
                &["slow_after"],
                "every answer would be slow".to_owned(),
                hint,
            );
        }
        found
    }
}
