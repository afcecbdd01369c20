//! How long the steps of a request to an upstream may take.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::units::Span;

/// How long a connection to a target may take.
const CONNECT: Duration = Duration::from_secs(1);
/// How long a target may be silent, before its answer and inside it.
const SILENCE: Duration = Duration::from_secs(30);
/// How long the head of the answer may take from the last byte sent, over all attempts, where no `total` is written.
const TOTAL_TO_HEAD: Duration = Duration::from_secs(60);

/// How long the steps of a request may take; what passes before the answer's head was sent gives 504, after it the
/// answer is cut. Calls of gRPC over HTTP/2 may last and be silent: of these only what is written holds, and no default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TimeoutsSpec {
    /// Until the connection to a target stands, its handshake included. Default `1s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connect: Option<Span>,
    /// From the last byte sent to the head of the answer. Default `30s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte: Option<Span>,
    /// Between two pieces of the answer's body; time in which the client takes nothing, or still sends its request, does not
    /// count. Default `30s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub between_bytes: Option<Span>,
    /// For one attempt, up to the head of its answer. Default: no limit of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_try: Option<Span>,
    /// For everything, from the request's head to the last byte of the answer; event streams, gRPC and upgraded connections
    /// are free of it once their head was sent. Default: `60s` from the last byte sent to the head of the answer, no limit after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<Span>,
}

/// The same, as run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Until the connection stands.
    pub connect: Duration,
    /// Up to the head of the answer, after the last byte sent.
    pub first_byte: Duration,
    /// Between two pieces of the body.
    pub between_bytes: Duration,
    /// One attempt.
    pub per_try: Option<Duration>,
    /// Up to the head of the answer: from the beginning where a total is written, else from the last byte sent.
    pub total_to_head: Duration,
    /// Up to the end of the answer, from the beginning.
    pub total: Option<Duration>,
    /// Whether `first_byte` and `between_bytes` were written, or are defaults.
    pub written: (bool, bool),
}

/// No limit.
const EVER: Duration = Duration::from_secs(u32::MAX as u64);

impl Default for Timeouts {
    fn default() -> Self {
        TimeoutsSpec::default().compile()
    }
}

impl TimeoutsSpec {
    /// What is written, and defaults for the rest.
    #[must_use]
    pub fn compile(&self) -> Timeouts {
        let or = |written: &Option<Span>, default| {
            written.as_ref().map_or(default, |span| span.duration())
        };
        let total = self.total.as_ref().map(|span| span.duration());
        Timeouts {
            connect: or(&self.connect, CONNECT),
            first_byte: or(&self.first_byte, SILENCE),
            between_bytes: or(&self.between_bytes, SILENCE),
            per_try: self.per_try.as_ref().map(|span| span.duration()),
            total_to_head: total.unwrap_or(TOTAL_TO_HEAD),
            total,
            written: (self.first_byte.is_some(), self.between_bytes.is_some()),
        }
    }

    /// The keys whose time is none at all.
    pub fn zeros(&self) -> impl Iterator<Item = &'static str> {
        let all = [
            ("connect", &self.connect),
            ("first_byte", &self.first_byte),
            ("between_bytes", &self.between_bytes),
            ("per_try", &self.per_try),
            ("total", &self.total),
        ];
        all.into_iter().filter_map(|(key, span)| {
            span.as_ref()
                .is_some_and(|span| span.duration().is_zero())
                .then_some(key)
        })
    }
}

impl Timeouts {
    /// How long one read from a target may take: the deadlines between are watched from outside.
    #[must_use]
    pub fn read(&self) -> Duration {
        self.first_byte.max(self.between_bytes)
    }

    /// The same for a call, which may last: what is silent there is alive, unless something else was written.
    #[must_use]
    pub fn of_call(mut self) -> Self {
        let (first_byte, between_bytes) = self.written;
        if !first_byte {
            self.first_byte = EVER;
        }
        if !between_bytes {
            self.between_bytes = EVER;
        }
        if self.total.is_none() {
            self.total_to_head = EVER;
        }
        self
    }

    /// How long an attempt may take to connect.
    #[must_use]
    pub fn connect(&self) -> Duration {
        let try_ = self.per_try.unwrap_or(Duration::MAX);
        self.connect.min(self.total_to_head).min(try_)
    }
}
