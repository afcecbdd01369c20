//! Whether another attempt follows one that failed: one decision for what is streamed, called and relayed.

use std::time::{Duration, Instant};

use http::Method;
use http::header::RETRY_AFTER;

use crate::exchange::{Fault, RequestHead, ResponseHead, retry_after};
use crate::upstream::{Again, Broke, Conditions, Retries, Tries, Upstream};

/// How an attempt failed, as far as it matters for another one.
#[derive(Debug, Clone, Copy)]
pub struct Attempted<'a> {
    /// Its answer, or why there is none.
    pub outcome: Result<&'a ResponseHead, Fault>,
    /// The status of a call of gRPC whose answer has no message.
    pub grpc: Option<u8>,
    /// Whether doing it twice is doing it once.
    pub repeatable: bool,
    /// Whether its body, so long, can be sent once more.
    pub kept: Option<u64>,
    /// Whether there is a target that was not tried.
    pub elsewhere: bool,
    /// How much time the request has left; none = any.
    pub left: Option<Duration>,
    /// The time of day, in milliseconds since 1970.
    pub unix_millis: i64,
}

impl Attempted<'_> {
    /// Whether it ended by one of these conditions.
    #[must_use]
    pub fn meets(&self, conditions: &Conditions) -> bool {
        match self.outcome {
            Err(fault) => fault.meets(conditions),
            Ok(head) => conditions.has_answer(head.status.as_u16()) || self.has_status(conditions),
        }
    }

    fn has_status(&self, conditions: &Conditions) -> bool {
        self.grpc.is_some_and(|code| conditions.has_grpc(code))
    }

    /// Decides whether the request is sent again, and takes what that needs of the upstream's budget.
    pub fn again(
        &self,
        retries: &Retries,
        tries: &mut Tries,
        upstream: &Upstream,
        now: Instant,
    ) -> Again {
        let head = self.outcome.ok();
        let after = head.and_then(|head| head.headers.get(RETRY_AFTER));
        let broke = Broke {
            meant: self.meets(retries.on()),
            unsent: self.outcome.is_err_and(Fault::is_unsent),
            absent: self.outcome.is_err_and(Fault::is_absent),
            // Calls of gRPC are all POST: who names their statuses says that they may be made again.
            repeatable: self.repeatable || self.has_status(retries.on()),
            kept: self.kept.is_some_and(|bytes| bytes <= retries.body()),
            elsewhere: self.elsewhere,
            retry_after: retry_after(after, self.unix_millis),
            left: self.left,
        };
        retries.again(tries, &broke, upstream.resilience().budget(), now)
    }
}

/// Whether doing it twice is doing it once: by the method (RFC 9110 section 9.2.2, and QUERY), or because the client says so.
#[must_use]
pub fn is_repeatable(head: &RequestHead) -> bool {
    let method = &head.method;
    matches!(
        *method,
        Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE
    ) || *method == Method::QUERY
        || head.headers.contains_key("idempotency-key")
}
