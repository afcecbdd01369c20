//! What is counted of decisions that somebody else is asked about: which clause asked, how it ended, how long it took.

use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec};
use tokio::time::Instant;

use super::MetricsSpec;
use super::metrics::Register;

/// What is counted.
#[derive(Debug)]
pub(super) struct AskMetrics {
    pub(super) durations: HistogramVec,
    pub(super) key_fetches: IntCounterVec,
}

impl AskMetrics {
    pub(super) fn new(
        register: &Register<'_>,
        spec: &MetricsSpec,
    ) -> Result<Self, prometheus::Error> {
        let options = HistogramOpts::new(
            "doorward_ask_duration_seconds",
            "How long somebody else was asked about a request",
        );
        Ok(Self {
            durations: register
                .durations(options.buckets(spec.seconds()), &["clause", "result"])?,
            key_fetches: register.counters(
                "doorward_key_fetches_total",
                "Fetches of the keys of issuers",
                &["authenticator", "result"],
            )?,
        })
    }
}

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

/// What became of fetching the keys of an issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchResult {
    /// They are here.
    Fetched,
    /// Nobody answered.
    Unreachable,
    /// Somebody did, but not with 200.
    Refused,
    /// What was answered are no keys.
    Invalid,
}

impl FetchResult {
    const ALL: [Self; 4] = [
        Self::Fetched,
        Self::Unreachable,
        Self::Refused,
        Self::Invalid,
    ];

    const fn code(self) -> &'static str {
        match self {
            Self::Fetched => "fetched",
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
            Self::Invalid => "invalid",
        }
    }
}

/// Fetches of the keys of one authenticator, in the order of [`FetchResult::ALL`].
#[derive(Debug)]
pub struct KeyMetrics([IntCounter; FetchResult::ALL.len()]);

impl KeyMetrics {
    pub(super) fn new(fetches: &IntCounterVec, authenticator: &str) -> Self {
        let counter =
            |result: FetchResult| fetches.with_label_values(&[authenticator, result.code()]);
        Self(FetchResult::ALL.map(counter))
    }

    /// A fetch ended so.
    pub fn fetched(&self, result: FetchResult) {
        let at = FetchResult::ALL.iter().position(|known| *known == result);
        if let Some(counter) = at.and_then(|at| self.0.get(at)) {
            counter.inc();
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
