//! What is counted of decisions that somebody else is asked about: which clause asked, how it ended, how long it took.

use prometheus::HistogramVec;
use tokio::time::Instant;

/// How asking can end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskResult {
    /// The request goes on.
    Passed,
    /// It is refused, or answered.
    Refused,
    /// Nobody could say.
    Failed,
    /// The client went away first.
    Abandoned,
}

impl AskResult {
    const fn code(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Abandoned => "abandoned",
        }
    }
}

/// One question that is under way; dropped before its end, it counts as abandoned.
#[derive(Debug)]
pub struct Asking {
    duration: HistogramVec,
    clause: &'static str,
    since: Instant,
    result: AskResult,
}

impl Asking {
    pub(super) fn begin(duration: &HistogramVec, clause: &'static str) -> Self {
        Self {
            duration: duration.clone(),
            clause,
            since: Instant::now(),
            result: AskResult::Abandoned,
        }
    }

    /// It ended so.
    pub fn ended(mut self, result: AskResult) {
        self.result = result;
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        let labels = [self.clause, self.result.code()];
        let seconds = self.since.elapsed().as_secs_f64();
        self.duration.with_label_values(&labels).observe(seconds);
    }
}
