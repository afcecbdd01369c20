//! Until when the steps of a call may take.

use std::future::Future;
use std::time::Duration;

use pingora::Result as Outcome;
use tokio::time::{Instant, timeout_at};

use super::{Failed, Terms};
use crate::exchange::Fault;

/// Until when a call may take.
pub(super) struct Dues {
    per_try: Option<Duration>,
    /// The head of an answer has to be here.
    pub(super) head: Instant,
    /// Everything.
    total: Option<Instant>,
}

impl Dues {
    pub(super) fn new(terms: &Terms<'_>) -> Self {
        let times = &terms.times;
        let total = times
            .total
            .map(|total| Instant::from_std(terms.since) + total);
        Self {
            per_try: times.per_try,
            head: total.unwrap_or_else(|| Instant::now() + times.total_to_head),
            total,
        }
    }

    /// For an attempt that begins now, up to the head of its answer.
    pub(super) fn of_try(&self) -> Instant {
        let own = self.per_try.map(|span| Instant::now() + span);
        own.map_or(self.head, |own| own.min(self.head))
    }

    /// For a piece of a body.
    pub(super) fn of_piece(&self, terms: &Terms<'_>) -> Instant {
        let piece = Instant::now() + terms.times.between_bytes;
        self.total.map_or(piece, |total| total.min(piece))
    }

    pub(super) fn over(&self) -> bool {
        Instant::now() >= self.head
    }
}

/// Waits for `work` no longer than that.
pub(super) async fn until<T>(
    due: Instant,
    work: impl Future<Output = Outcome<T>>,
) -> Result<T, Failed> {
    match timeout_at(due, work).await {
        Ok(done) => Ok(done?),
        Err(_elapsed) => Err(Failed::new(Fault::Timeout, "the time was over")),
    }
}
