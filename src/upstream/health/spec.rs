//! Active checks, as written.

use std::fmt;
use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use http::HeaderValue;
use http::uri::PathAndQuery;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Check, Kind};
use crate::base::list::OneOrMany;
use crate::base::problem::{Place, Problem, Problems};
use crate::base::units::{Span, TextError, TextForm, text_form};

/// How often a target is asked.
const INTERVAL: Duration = Duration::from_secs(5);
/// How long a check may take.
const TIMEOUT: Duration = Duration::from_secs(1);
/// So many good checks bring a target back.
const RISE: u16 = 2;
/// So many bad checks take a target out.
const FALL: u16 = 3;

/// Targets are asked on their own whether they are well: exactly one of `path`, `tcp` and `grpc` says how.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthCheckSpec {
    /// What is asked for by `GET`: a path, with a query where it needs one. Protocol and TLS are the upstream's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// `true`: whoever takes a connection is well.
    #[serde(default, skip_serializing_if = "is_false")]
    pub tcp: bool,
    /// `true`: `grpc.health.v1.Health/Check` is called for the server as a whole.
    #[serde(default, skip_serializing_if = "is_false")]
    pub grpc: bool,
    /// `Host` of the question. Default: host and port of the target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// How often each target is asked, a tenth more or less by chance. Default `5s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Span>,
    /// How long one check may take, its connection included. Default `1s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// So many good checks in a row bring a target back. Default 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy_threshold: Option<NonZeroU16>,
    /// So many bad checks in a row take it out. Until the first check a target counts as well. Default 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unhealthy_threshold: Option<NonZeroU16>,
    /// What a good answer looks like; with `path` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<ExpectSpec>,
}

/// What a good answer looks like.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExpectSpec {
    /// Its status: one or a list of `"204"` and `"200-299"`. Default `"200-299"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<OneOrMany<StatusRange>>,
    /// A text that stands in the first 64 KiB of its body. Default: any body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

/// Statuses from one to another: `200-299`, or one alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusRange {
    first: u16,
    last: u16,
}

impl StatusRange {
    const fn range(self) -> RangeInclusive<u16> {
        self.first..=self.last
    }
}

impl TextForm for StatusRange {
    const WHAT: &'static str = "a range of statuses";
    const EXAMPLE: &'static str = "200-299";
    const PATTERN: &'static str = "[1-5][0-9]{2}(?:-[1-5][0-9]{2})?";
}

text_form!(StatusRange);

impl FromStr for StatusRange {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let status = |text: &str| {
            text.parse()
                .ok()
                .filter(|status| (100..=599).contains(status))
        };
        match (status(first), status(last)) {
            (Some(first), Some(last)) if first <= last => Ok(Self { first, last }),
            _ => Err(TextError::new(format!(
                "`{text}` is not a range of statuses: write e.g. `200-299` or `204`"
            ))),
        }
    }
}

impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

impl HealthCheckSpec {
    /// Reports, where it stands at `place`, that it asks by gRPC where not every target speaks HTTP/2.
    pub fn check_protocol(&self, place: &Place, problems: &mut Problems) {
        if self.grpc {
            let problem = Problem::error("E030", place.key("grpc"), "gRPC is spoken over HTTP/2");
            problems.push(
                problem.hint("write `h2c://` in the URL of each target, or `protocol: http2`"),
            );
        }
    }

    /// Reports what cannot be, where it stands at `place`.
    pub fn check(&self, place: &Place, problems: &mut Problems) {
        let kinds = [self.path.is_some(), self.tcp, self.grpc];
        match kinds.iter().filter(|kind| **kind).count() {
            0 => {
                let problem =
                    Problem::error("E011", place.clone(), "nothing says how targets are asked");
                problems.push(problem.hint("write `path: /healthz`, `tcp: true` or `grpc: true`"));
            }
            1 => {}
            _ => {
                let problem = Problem::error("E030", place.clone(), "targets are asked in one way");
                problems.push(problem.hint("keep one of `path`, `tcp` and `grpc`"));
            }
        }
        for (key, there) in [
            ("expect", self.expect.is_some()),
            ("host", self.host.is_some()),
        ] {
            if there && self.path.is_none() {
                let problem =
                    Problem::error("E030", place.key(key), format!("`{key}` without `path`"));
                problems.push(
                    problem.hint(
                        "only an answer of HTTP can be looked at: add `path`, or take it out",
                    ),
                );
            }
        }
        if self
            .path
            .as_deref()
            .is_some_and(|path| parse(path).is_none())
        {
            let problem = Problem::error("E030", place.key("path"), "not a path");
            problems.push(problem.hint("a path begins with `/`, e.g. `/healthz`"));
        }
        if self
            .host
            .as_deref()
            .is_some_and(|host| host.is_empty() || HeaderValue::from_str(host).is_err())
        {
            let problem = Problem::error("E030", place.key("host"), "not a host");
            problems.push(problem.hint("write e.g. `orders.internal`"));
        }
        for (key, span) in [("interval", &self.interval), ("timeout", &self.timeout)] {
            if span.is_some_and(|span| span.duration().is_zero()) {
                let problem = Problem::error("E030", place.key(key), "no time at all");
                problems.push(
                    problem.hint("a time of 1ms or more; to have the default, take the key out"),
                );
            }
        }
    }

    /// As it is run; none where something about it is wrong, which [`Self::check`] reports.
    pub(in crate::upstream) fn compile(&self) -> Option<Check> {
        let kind = if self.tcp {
            Kind::Tcp
        } else if self.grpc {
            Kind::Grpc
        } else {
            let expect = self.expect.clone().unwrap_or_default();
            let statuses = expect.status.map_or_else(
                || vec![200..=299],
                |statuses| statuses.0.into_iter().map(StatusRange::range).collect(),
            );
            Kind::Http {
                path: parse(self.path.as_deref()?)?,
                host: match &self.host {
                    Some(host) => Some(HeaderValue::from_str(host).ok()?),
                    None => None,
                },
                statuses: statuses.into(),
                body: expect.body.map(Into::into),
            }
        };
        let or = |span: Option<Span>, default| span.map_or(default, |span| span.duration());
        Some(Check {
            kind,
            interval: or(self.interval, INTERVAL),
            timeout: or(self.timeout, TIMEOUT),
            rise: self.healthy_threshold.map_or(RISE, NonZeroU16::get),
            fall: self.unhealthy_threshold.map_or(FALL, NonZeroU16::get),
        })
    }
}

fn parse(path: &str) -> Option<PathAndQuery> {
    path.starts_with('/').then(|| path.parse().ok())?
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's own form")]
const fn is_false(written: &bool) -> bool {
    !*written
}
