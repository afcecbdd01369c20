//! What lets an attempt through to its upstream, and hears how it ended: the breaker, and the places that the upstream has.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::exchange::Fault;
use crate::upstream::{Breaker, Fared, Permit, Ticket, Upstream};

/// An attempt that was let through. Dropped without a word, it gives back what it holds and tells nothing.
#[derive(Debug, Default)]
pub struct Passage {
    ticket: Option<Ticket>,
    permit: Option<Permit>,
}

/// An attempt that was not: why, and when to come back, where that is known.
#[derive(Debug, Clone, Copy)]
pub struct Held {
    /// `circuit_open` or `overload`.
    pub fault: Fault,
    /// How long the breaker is open.
    pub retry_after: Option<Duration>,
}

/// How an attempt ended, as far as its upstream is judged by it.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// Why there is no whole answer.
    pub fault: Option<Fault>,
    /// The status of the answer; 0 where there was none.
    pub status: u16,
    /// The status of a call of gRPC.
    pub grpc: Option<u8>,
    /// How long it took from the end of the request up to the head of the answer, or up to the failure; none where the request
    /// was not whole by then.
    pub took: Option<Duration>,
}

impl Ended {
    /// It failed without an answer, after so long.
    pub(super) const fn failed(fault: Fault, took: Duration) -> Self {
        Self {
            fault: Some(fault),
            status: 0,
            grpc: None,
            took: Some(took),
        }
    }
}

impl Passage {
    /// Asks the breaker, then waits for a place, as far as there are such.
    ///
    /// # Errors
    /// It is held back.
    pub async fn ask(
        breaker: Option<&Arc<Breaker>>,
        upstream: &Upstream,
        now: Instant,
    ) -> Result<Self, Held> {
        let ticket = breaker.map(|breaker| breaker.admit(now)).transpose();
        let ticket = ticket.map_err(|left| Held {
            fault: Fault::CircuitOpen,
            retry_after: Some(left),
        })?;
        let permit = match upstream.resilience().permits() {
            None => None,
            Some(permits) => Some(permits.take().await.ok_or(Held {
                fault: Fault::Overload,
                retry_after: None,
            })?),
        };
        Ok(Self { ticket, permit })
    }

    /// Asks for both without waiting, for what may as well not be; none where one of them says no.
    #[must_use]
    pub fn at_once(
        breaker: Option<&Arc<Breaker>>,
        upstream: &Upstream,
        now: Instant,
    ) -> Option<Self> {
        let permit = match upstream.resilience().permits() {
            None => None,
            Some(permits) => Some(permits.take_now()?),
        };
        let ticket = match breaker {
            None => None,
            Some(breaker) => Some(breaker.admit(now).ok()?),
        };
        Some(Self { ticket, permit })
    }

    /// The attempt was given up for one that was sooner, after so long: the breaker hears of it where that is slow.
    pub fn outrun(mut self, took: Duration, now: Instant) {
        if let Some(ticket) = self.ticket.take() {
            let slow = ticket.breaker().slow_after();
            if slow.is_some_and(|slow| took >= slow) {
                ticket.tell(Fared::Well, took, now);
            }
        }
    }

    /// The attempt ended.
    pub fn ends(mut self, ended: &Ended, now: Instant) {
        self.told(ended, now);
        if let Some(permit) = self.permit.take()
            && !is_nobodys(ended)
        {
            let bad = ended.fault.is_some() || matches!(ended.status, 429 | 503);
            let fared = if bad { Fared::Badly } else { Fared::Well };
            // An answer to half a request says nothing about how long answers take.
            match ended.took {
                Some(took) => permit.tell(fared, took),
                None if bad => permit.tell(fared, Duration::ZERO),
                None => {}
            }
        }
    }

    /// The breaker hears how it ended; its place stays taken.
    pub fn told(&mut self, ended: &Ended, now: Instant) {
        let Some(ticket) = self.ticket.take() else {
            return;
        };
        if is_nobodys(ended) {
            return;
        }
        let errors = ticket.breaker().errors();
        let error = match ended.fault {
            Some(fault) => fault.meets(errors),
            None => {
                errors.has_answer(ended.status)
                    || ended.grpc.is_some_and(|code| errors.has_grpc(code))
            }
        };
        let fared = if error { Fared::Badly } else { Fared::Well };
        ticket.tell(fared, ended.took.unwrap_or_default(), now);
    }
}

/// Whether it was ended by somebody else than the upstream: that says nothing about it.
const fn is_nobodys(ended: &Ended) -> bool {
    match ended.fault {
        Some(fault) => matches!(
            fault,
            Fault::ClientError
                | Fault::BodyTimeout
                | Fault::BodyTooLarge
                | Fault::Stopped
                | Fault::Internal
                | Fault::NoTarget
        ),
        None => ended.status == 0,
    }
}
