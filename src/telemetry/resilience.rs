//! What is told of upstreams that fail or are full: looked at when somebody reads the metrics, and then only.

use prometheus::{IntCounterVec, IntGaugeVec};

use super::metrics::Register;
use crate::upstream::Crowd;

/// The state of breakers, and the places of upstreams.
#[derive(Debug)]
pub(super) struct ResilienceMetrics {
    breakers: IntGaugeVec,
    taken: IntGaugeVec,
    limit: IntGaugeVec,
    waiting: IntGaugeVec,
    refused: IntCounterVec,
}

impl ResilienceMetrics {
    pub(super) fn new(register: &Register<'_>) -> Result<Self, prometheus::Error> {
        let of_upstream = |name, help| register.gauges(name, help, &["upstream"]);
        Ok(Self {
            breakers: register.gauges(
                "doorward_circuit_breaker_state",
                "Whether requests pass: 0 closed, 1 half open, 2 open",
                &["http_route", "upstream"],
            )?,
            taken: of_upstream(
                "doorward_upstream_concurrency",
                "Requests under way at upstreams that have a limit",
            )?,
            limit: of_upstream(
                "doorward_upstream_concurrency_limit",
                "How many may be under way",
            )?,
            waiting: of_upstream(
                "doorward_upstream_concurrency_waiting",
                "Requests that wait for their turn",
            )?,
            refused: register.counters(
                "doorward_upstream_concurrency_refused_total",
                "Requests for which there was no place",
                &["upstream"],
            )?,
        })
    }

    /// Route, upstream and state of every breaker there is.
    pub(super) fn breakers(&self, states: &[(String, String, i64)]) {
        self.breakers.reset();
        for (route, upstream, state) in states {
            self.breakers
                .with_label_values(&[route, upstream])
                .set(*state);
        }
    }

    /// How many are under way at every upstream that has a limit.
    pub(super) fn crowds(&self, crowds: &[(&str, Crowd)]) {
        for gauge in [&self.taken, &self.limit, &self.waiting] {
            gauge.reset();
        }
        for (upstream, crowd) in crowds {
            let labels = [*upstream];
            self.taken
                .with_label_values(&labels)
                .set(crowd.taken.into());
            self.limit
                .with_label_values(&labels)
                .set(crowd.limit.into());
            self.waiting
                .with_label_values(&labels)
                .set(crowd.waiting.into());
            let refused = self.refused.with_label_values(&labels);
            refused.inc_by(crowd.refused.saturating_sub(refused.get()));
        }
    }

    pub(super) fn forget(&self, upstream: &str) {
        drop(self.refused.remove_label_values(&[upstream]));
    }
}
