//! One attempt at a target as it is counted, and the rules by which another one follows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::Method;
use pingora::{Error, ErrorType};
use tokio::time::Instant;

use super::dues::Dues;
use super::{Ended, Meter, Passage};
use crate::exchange::Fault;
use crate::upstream::{Outcome, Picked, Upstream};

/// Whether a request changes nothing, so that it may be sent once more when nobody knows what became of it.
#[must_use]
pub fn changes_nothing(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) || *method == Method::QUERY
}

/// Whether nobody was at the address. Whoever answered, but could not prove who it is, answered for all addresses of the
/// name.
#[must_use]
pub fn nobody_there(error: &Error) -> bool {
    !matches!(
        error.etype(),
        ErrorType::TLSHandshakeFailure | ErrorType::TLSHandshakeTimedout | ErrorType::InvalidCert
    )
}

/// Why no target was chosen: there is none, or each has as many connections as it may.
#[must_use]
pub fn nobody_free(upstream: &Upstream) -> (Fault, &'static str) {
    if upstream.has_target() {
        (
            Fault::Overload,
            "every target has as many connections as it may",
        )
    } else {
        (Fault::NoTarget, "no target has an address")
    }
}

/// What an attempt that ended with `fault`, or with this status, says of its target; 0 is no status.
#[must_use]
pub const fn outcome_of(fault: Option<Fault>, status: u16) -> Outcome {
    match fault {
        Some(
            Fault::ConnectFailure
            | Fault::ConnectTimeout
            | Fault::TlsFailure
            | Fault::Reset
            | Fault::Timeout
            | Fault::ProtocolError,
        ) => Outcome::Failed,
        None if status > 0 => Outcome::Answered(status),
        // Whoever gave it up was not the target.
        Some(_) | None => Outcome::Unknown,
    }
}

/// An attempt that is under way; one that is dropped was given up by the client.
pub(super) struct Attempt<'a> {
    /// Which one of its call, from 1.
    pub(super) number: u16,
    meter: Option<&'a dyn Meter>,
    pick: Arc<Picked>,
    /// Whether nobody needs it any more, since another one was sooner.
    over: &'a AtomicBool,
    /// What let it through, where there is such.
    passage: Option<Passage>,
    since: Instant,
    /// What the target answered; 0 while it has not.
    status: u16,
    /// How long that took.
    took: Option<Duration>,
    /// The status of a call of gRPC, once that is known.
    grpc: Option<u8>,
    fault: Option<Fault>,
    /// What it is judged by.
    blamed: Option<Fault>,
}

impl<'a> Attempt<'a> {
    pub(super) fn begin(
        meter: Option<&'a dyn Meter>,
        pick: Arc<Picked>,
        (number, passage): (u16, Passage),
        over: &'a AtomicBool,
    ) -> Self {
        Self {
            number,
            meter,
            pick,
            over,
            passage: Some(passage),
            since: Instant::now(),
            status: 0,
            took: None,
            grpc: None,
            fault: None,
            blamed: None,
        }
    }

    /// A connection was made for it.
    pub(super) fn connected(&self) {
        if let Some(meter) = self.meter {
            meter.connected();
        }
    }

    /// It found a connection there already.
    pub(super) fn reused(&self) {
        if let Some(meter) = self.meter {
            meter.reused();
        }
    }

    /// The head of the answer is here.
    pub(super) fn answered(&mut self, status: u16) {
        self.status = status;
        let took = self.since.elapsed();
        self.pick.answered(took);
        self.took = Some(took);
    }

    /// The call of gRPC ended with this status.
    pub(super) const fn concluded(&mut self, grpc: Option<u8>) {
        self.grpc = grpc;
    }

    /// Whether the target said anything.
    pub(super) fn is_answered(&self) -> bool {
        self.status > 0
    }

    /// Gives back what let it through, as it may hold for another address of the target; and how long it took so far.
    pub(super) fn hand_over(&mut self) -> (Passage, Duration) {
        let passage = self.passage.take().unwrap_or_default();
        (passage, self.since.elapsed())
    }

    /// It failed.
    pub(super) fn failed(&mut self, fault: Fault, dues: &Dues) {
        self.fault = Some(fault);
        self.blamed = Some(dues.blamed(fault, self.since.elapsed()));
    }
}

impl Attempt<'_> {
    /// It was given up for one that was sooner: that its target took so long is all that is known of it.
    fn outrun(&mut self) {
        let took = self.since.elapsed();
        self.pick.waited(took);
        if let Some(passage) = self.passage.take() {
            passage.outrun(took, Instant::now().into_std());
        }
        if let Some(meter) = self.meter {
            meter.outrun(took.as_secs_f64());
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.fault.is_none() && self.status == 0 && self.over.load(Ordering::Relaxed) {
            return self.outrun();
        }
        self.pick.report(outcome_of(self.blamed, self.status));
        if let Some(passage) = self.passage.take() {
            let ended = Ended {
                fault: self.blamed,
                status: self.status,
                grpc: self.grpc,
                took: Some(self.took.unwrap_or_else(|| self.since.elapsed())),
            };
            passage.ends(&ended, Instant::now().into_std());
        }
        let Some(meter) = self.meter else { return };
        let seconds = self.since.elapsed().as_secs_f64();
        match (self.fault, self.status) {
            (Some(fault), _) => meter.failed(fault, seconds),
            (None, 0) => meter.failed(Fault::ClientError, seconds),
            (None, status) => meter.answered(status, seconds),
        }
    }
}
