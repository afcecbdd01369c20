//! What took the place of an upstream that failed.

use http::header::{AGE, HeaderName};
use http::{HeaderValue, StatusCode};

use super::{Fault, Headers};

const GATEWAY_FALLBACK: HeaderName = HeaderName::from_static("gateway-fallback");
const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// The step of the ladder that a request is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fallen {
    /// The number of the step.
    pub step: u8,
    /// What is served there.
    pub served: Served,
    /// Why the route's own upstream has no good answer.
    pub reason: Reason,
}

/// What is served in place of the upstream's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Served {
    /// The answer of another upstream.
    Upstream,
    /// The last good answer, so many seconds old.
    Stale(u32),
    /// A fixed answer.
    Respond,
}

/// Why an upstream has no good answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It has none.
    Fault(Fault),
    /// It has one with this status.
    Status(u16),
}

impl Served {
    /// The word for it: the key of the step.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Upstream => "upstream",
            Self::Stale(_) => "stale",
            Self::Respond => "respond",
        }
    }

    /// Says in the answer what was served.
    pub fn mark(self, head: &mut impl Headers) {
        head.set(&GATEWAY_FALLBACK, HeaderValue::from_static(self.word()));
        if let Self::Stale(age) = self {
            head.set(&AGE, HeaderValue::from(age));
            // RFC 9211 sections 2.1 and 2.2: why it was forwarded; a `hit` would say that it was not.
            let status = HeaderValue::from_static("doorward; fwd=stale");
            head.set(&CACHE_STATUS, status);
        }
    }
}

impl Reason {
    /// The fault's code, or the class of the status.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Fault(fault) => fault.code(),
            Self::Status(status) => match StatusCode::from_u16(status).map(|it| it.as_u16()) {
                Ok(500) => "http_500",
                Ok(502) => "http_502",
                Ok(503) => "http_503",
                Ok(504) => "http_504",
                Ok(429) => "http_429",
                Ok(400..500) => "http_4xx",
                Ok(500..600) => "http_5xx",
                // Of calls of gRPC, whose answers are all good as far as HTTP goes.
                _ => "grpc_status",
            },
        }
    }
}
