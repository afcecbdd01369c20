//! How an upstream's targets stand, as numbers.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::metrics::Register;
use crate::upstream::{Health, Observer, Tally};

/// How a target can stand.
const STATES: [&str; 5] = ["serving", "unhealthy", "ejected", "drained", "unresolved"];
/// What a check can find.
const RESULTS: [&str; 2] = ["good", "bad"];

/// What is told of the targets of every upstream.
#[derive(Debug)]
pub(super) struct TargetMetrics {
    targets: IntGaugeVec,
    panic: IntGaugeVec,
    checks: IntCounterVec,
    ejections: IntCounterVec,
}

/// The same of one upstream.
#[derive(Debug)]
pub(super) struct Targets {
    /// In the order of [`STATES`].
    states: [IntGauge; STATES.len()],
    panic: IntGauge,
    /// In the order of [`RESULTS`].
    checks: [IntCounter; RESULTS.len()],
    ejections: IntCounter,
}

impl TargetMetrics {
    pub(super) fn new(register: &Register<'_>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            targets: register.gauges(
                "doorward_upstream_targets",
                "Targets, by how they stand",
                &["upstream", "state"],
            )?,
            panic: register.gauges(
                "doorward_upstream_panic",
                "Whether so few targets are well that all get requests",
                &["upstream"],
            )?,
            checks: register.counters(
                "doorward_upstream_health_checks_total",
                "Active checks of targets, by what they found",
                &["upstream", "result"],
            )?,
            ejections: register.counters(
                "doorward_upstream_ejections_total",
                "Targets that were ejected for their errors",
                &["upstream"],
            )?,
        })
    }

    pub(super) fn of(&self, name: &str) -> Targets {
        Targets {
            states: STATES.map(|state| self.targets.with_label_values(&[name, state])),
            panic: self.panic.with_label_values(&[name]),
            checks: RESULTS.map(|result| self.checks.with_label_values(&[name, result])),
            ejections: self.ejections.with_label_values(&[name]),
        }
    }

    pub(super) fn forget(&self, name: &str) {
        // There may be none: then there is nothing to forget.
        for state in STATES {
            drop(self.targets.remove_label_values(&[name, state]));
        }
        for result in RESULTS {
            drop(self.checks.remove_label_values(&[name, result]));
        }
        drop(self.panic.remove_label_values(&[name]));
        drop(self.ejections.remove_label_values(&[name]));
    }
}

impl Observer for Targets {
    fn stand(&self, tally: &Tally) {
        let counts = [
            tally.serving,
            tally.unhealthy,
            tally.ejected,
            tally.drained,
            tally.unresolved,
        ];
        for (gauge, count) in self.states.iter().zip(counts) {
            gauge.set(count.into());
        }
        self.panic.set(tally.panics.into());
    }

    fn checked(&self, health: Health) {
        let [good, bad] = &self.checks;
        match health {
            Health::Unknown | Health::Well => good.inc(),
            Health::Failing | Health::Gone => bad.inc(),
        }
    }

    fn ejected(&self) {
        self.ejections.inc();
    }
}
