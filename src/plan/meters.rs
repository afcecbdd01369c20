//! The attempts of calls are counted where those of what is proxied are: in the metrics of their upstream.

use super::Plan;
use crate::call::{Meter, Meters};
use crate::exchange::Fault;
use crate::telemetry::UpstreamMetrics;
use crate::upstream::Upstream;

impl Meter for UpstreamMetrics {
    fn connected(&self) {
        Self::connected(self);
    }
    fn reused(&self) {
        Self::reused(self);
    }
    fn retried(&self) {
        Self::retried(self);
    }
    fn exhausted(&self) {
        Self::exhausted(self);
    }
    fn hedged(&self) {
        Self::hedged(self);
    }
    fn hedge_won(&self) {
        Self::hedge_won(self);
    }
    fn outrun(&self, seconds: f64) {
        Self::outrun(self, seconds);
    }
    fn answered(&self, status: u16, seconds: f64) {
        Self::answered(self, status, seconds);
    }
    fn failed(&self, fault: Fault, seconds: f64) {
        Self::failed(self, fault, seconds);
    }
}

impl Meters for Plan {
    fn of(&self, upstream: &Upstream) -> Option<&dyn Meter> {
        self.metrics_of(upstream)
            .map(|metrics| metrics as &dyn Meter)
    }
}
