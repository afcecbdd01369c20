//! What is counted of decisions that somebody else is asked about: which clause asked, how it ended, how long it took.

use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use tokio::time::Instant;

use super::MetricsSpec;
use super::metrics::Register;

/// What is counted.
#[derive(Debug)]
pub(super) struct AskMetrics {
    pub(super) durations: HistogramVec,
    pub(super) key_fetches: IntCounterVec,
    pub(super) keys_fetched: IntGaugeVec,
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
            keys_fetched: register.gauges(
                "doorward_keys_fetched_timestamp_seconds",
                "When the keys of an issuer that are believed were fetched",
                &["authenticator"],
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

/// Fetches of the keys of one authenticator, in the order of [`FetchResult::ALL`], and when the last one that went well was.
#[derive(Debug)]
pub struct KeyMetrics {
    fetches: [IntCounter; FetchResult::ALL.len()],
    last: IntGauge,
}

impl KeyMetrics {
    pub(super) fn new(asks: &AskMetrics, authenticator: &str) -> Self {
        let fetches = &asks.key_fetches;
        let counter =
            |result: FetchResult| fetches.with_label_values(&[authenticator, result.code()]);
        Self {
            fetches: FetchResult::ALL.map(counter),
            last: asks.keys_fetched.with_label_values(&[authenticator]),
        }
    }

    /// A fetch ended so, at that time (in milliseconds since 1970).
    pub fn fetched(&self, result: FetchResult, unix_millis: i64) {
        let at = FetchResult::ALL.iter().position(|known| *known == result);
        if let Some(counter) = at.and_then(|at| self.fetches.get(at)) {
            counter.inc();
        }
        if result == FetchResult::Fetched {
            self.last.set(unix_millis / 1000);
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
