//! Counts and warnings: names of metrics, handles to them, and a hold on warnings that repeat.

mod throttle;

use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry};

use crate::exchange::{Exchange, Fault};
use throttle::Throttle;

/// The metrics of the process.
#[derive(Debug)]
pub struct Telemetry {
    registry: Registry,
    duration: Histogram,
    active: IntGauge,
    faults: IntCounterVec,
    throttle: Throttle,
}

impl Telemetry {
    /// Registers every metric.
    ///
    /// # Errors
    /// Two metrics of one name: a mistake of ours.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let buckets = vec![
            0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
        ];
        let options = HistogramOpts::new(
            "http_server_request_duration_seconds",
            "Duration of requests",
        )
        .buckets(buckets);
        let duration = Histogram::with_opts(options)?;
        let active = IntGauge::new(
            "http_server_active_requests",
            "Requests that have no complete answer yet",
        )?;
        let faults = IntCounterVec::new(
            Opts::new("doorward_faults_total", "Requests that ended in a fault"),
            &["error_type"],
        )?;
        registry.register(Box::new(duration.clone()))?;
        registry.register(Box::new(active.clone()))?;
        registry.register(Box::new(faults.clone()))?;
        Ok(Self {
            registry,
            duration,
            active,
            faults,
            throttle: Throttle::new(),
        })
    }

    /// Every metric, for scrapes and tests.
    #[must_use]
    pub fn gather(&self) -> Vec<prometheus::proto::MetricFamily> {
        self.registry.gather()
    }

    /// How many requests have no complete answer yet.
    #[must_use]
    pub fn active(&self) -> i64 {
        self.active.get()
    }

    /// A request began; it ends when the guard is dropped.
    pub fn began(self: &std::sync::Arc<Self>) -> Active {
        self.active.inc();
        Active(std::sync::Arc::clone(self))
    }

    /// A request ended.
    pub fn finished(&self, exchange: &Exchange, _status: u16, seconds: f64) {
        self.duration.observe(seconds);
        if let Some(fault) = exchange.fault {
            self.faults.with_label_values(&[fault.code()]).inc();
        }
    }

    /// A head was refused before there was a request.
    pub fn refused(&self, fault: Fault) {
        self.faults.with_label_values(&[fault.code()]).inc();
    }

    /// A request failed on its way to or from an upstream.
    pub fn upstream_failed(&self, exchange: &Exchange, fault: Fault, error: &pingora::Error) {
        let target = exchange.target.as_deref().unwrap_or("none");
        if self.throttle.admits(target) {
            log::warn!(
                id:% = exchange.id.text(), route:% = exchange.route_name, target:% = target, error_type:% = fault.code(), cause:% = error;
                "request failed"
            );
        }
    }
}

/// A request in flight.
#[derive(Debug)]
pub struct Active(std::sync::Arc<Telemetry>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.dec();
    }
}
