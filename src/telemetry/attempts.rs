//! What is counted of attempts at targets after the first of a request.

use prometheus::{IntCounter, IntCounterVec};

use super::metrics::Register;

/// Of all upstreams.
#[derive(Debug)]
pub(super) struct AttemptMetrics {
    retries: IntCounterVec,
    hedges: IntCounterVec,
    hedges_won: IntCounterVec,
    exhausted: IntCounterVec,
}

/// Of one upstream.
#[derive(Debug)]
pub(super) struct Attempts {
    pub(super) retries: IntCounter,
    pub(super) hedges: IntCounter,
    pub(super) hedges_won: IntCounter,
    pub(super) exhausted: IntCounter,
}

impl AttemptMetrics {
    pub(super) fn new(register: &Register<'_>) -> Result<Self, prometheus::Error> {
        let of_upstream = |name, help| register.counters(name, help, &["upstream"]);
        Ok(Self {
            retries: of_upstream(
                "doorward_upstream_retries_total",
                "Attempts at targets after the first of a request",
            )?,
            hedges: of_upstream(
                "doorward_upstream_hedges_total",
                "Requests that were sent to a second target while the first had not answered",
            )?,
            hedges_won: of_upstream(
                "doorward_upstream_hedges_won_total",
                "Requests whose answer came from the second target",
            )?,
            exhausted: of_upstream(
                "doorward_upstream_retry_budget_exhausted_total",
                "Requests that were not sent again because too many were",
            )?,
        })
    }

    pub(super) fn of(&self, name: &str) -> Attempts {
        Attempts {
            retries: self.retries.with_label_values(&[name]),
            hedges: self.hedges.with_label_values(&[name]),
            hedges_won: self.hedges_won.with_label_values(&[name]),
            exhausted: self.exhausted.with_label_values(&[name]),
        }
    }

    pub(super) fn forget(&self, name: &str) {
        for counter in [
            &self.retries,
            &self.hedges,
            &self.hedges_won,
            &self.exhausted,
        ] {
            // There may be none: then there is nothing to forget.
            drop(counter.remove_label_values(&[name]));
        }
    }
}
