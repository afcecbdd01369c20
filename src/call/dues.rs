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
    /// How much of that was gone before the call began.
    gone: Duration,
    first_byte: Duration,
}

impl Dues {
    pub(super) fn new(terms: &Terms<'_>) -> Self {
        let times = &terms.times;
        let since = Instant::from_std(terms.since);
        let total = times.total.map(|total| since + total);
        Self {
            per_try: times.per_try,
            head: total.unwrap_or_else(|| Instant::now() + times.total_to_head),
            total,
            gone: since.elapsed(),
            first_byte: times.first_byte,
        }
    }

    /// By what an attempt is judged that failed like this after so long: where less of the total was left for it than its client had
    /// used up, that is the client's.
    pub(super) fn blamed(&self, fault: Fault, took: Duration) -> Fault {
        let over = self.total.is_some_and(|total| Instant::now() >= total);
        if over && fault == Fault::Timeout && took < self.gone.min(self.first_byte) {
            return Fault::ClientError;
        }
        fault
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
