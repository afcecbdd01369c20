//! Counts, records and warnings: every metric with its name, handles to them, the access log.

pub mod access_log;
mod spec;
mod throttle;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    TextEncoder,
};

pub use access_log::{AccessLog, Form, Record};
pub use spec::{AccessLogFormat, AccessLogSpec, Level, LogSpec, Spec};

use crate::base::units::Share;
use crate::exchange::{Exchange, Fault};
use throttle::Throttle;

/// Bounds of the duration's buckets, as OpenTelemetry's HTTP conventions have them.
const BUCKETS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

/// The classes of status that are told apart.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// The metrics and the access log of the process.
#[derive(Debug)]
pub struct Telemetry {
    registry: Registry,
    duration: HistogramVec,
    active: IntGauge,
    faults: IntCounterVec,
    dropped: IntCounter,
    reload_good: IntGauge,
    reload_seconds: IntGauge,
    generation: IntGauge,
    throttle: Throttle,
    access: ArcSwapOption<Access>,
}

/// The access log, and what goes into it.
#[derive(Debug)]
pub struct Access {
    log: AccessLog,
    /// Which share of good requests, in parts of [`Share::WHOLE`].
    sample: u32,
    /// Adds up the shares: a record is written each time it passes the whole.
    credit: AtomicU64,
}

/// The metrics of one route: resolved when the config is loaded, never by name.
#[derive(Debug)]
pub struct RouteMetrics([Histogram; CLASSES.len()]);

impl Telemetry {
    /// Registers every metric.
    ///
    /// # Errors
    /// Two metrics of one name: a mistake of ours.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let options = HistogramOpts::new(
            "http_server_request_duration_seconds",
            "Duration of requests",
        )
        .buckets(BUCKETS.to_vec());
        let gauge = |name: &str, help: &str| IntGauge::new(name, help);
        let telemetry = Self {
            duration: HistogramVec::new(options, &["http_route", "status_class"])?,
            active: gauge(
                "http_server_active_requests",
                "Requests that have no complete answer yet",
            )?,
            faults: IntCounterVec::new(
                Opts::new("doorward_faults_total", "Requests that ended in a fault"),
                &["error_type"],
            )?,
            dropped: IntCounter::new(
                "doorward_access_log_dropped_total",
                "Records that were not written",
            )?,
            reload_good: gauge(
                "doorward_config_last_reload_successful",
                "Whether the last reload was (1), or was refused (0)",
            )?,
            reload_seconds: gauge(
                "doorward_config_last_reload_success_timestamp_seconds",
                "When the config in force was loaded",
            )?,
            generation: gauge(
                "doorward_config_generation",
                "How many configs were in force so far",
            )?,
            throttle: Throttle::new(),
            access: ArcSwapOption::empty(),
            registry,
        };
        let registry = &telemetry.registry;
        registry.register(Box::new(telemetry.duration.clone()))?;
        registry.register(Box::new(telemetry.active.clone()))?;
        registry.register(Box::new(telemetry.faults.clone()))?;
        registry.register(Box::new(telemetry.dropped.clone()))?;
        registry.register(Box::new(telemetry.reload_good.clone()))?;
        registry.register(Box::new(telemetry.reload_seconds.clone()))?;
        registry.register(Box::new(telemetry.generation.clone()))?;
        Ok(telemetry)
    }

    /// Every metric, for tests.
    #[must_use]
    pub fn gather(&self) -> Vec<prometheus::proto::MetricFamily> {
        self.registry.gather()
    }

    /// Every metric in the Prometheus text form.
    #[must_use]
    pub fn text(&self) -> String {
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap_or_default()
    }

    /// The metrics of the route `name`.
    #[must_use]
    pub fn route(&self, name: &str) -> RouteMetrics {
        RouteMetrics(CLASSES.map(|class| self.duration.with_label_values(&[name, class])))
    }

    /// Forgets the metrics of the route `name`, which no config has any more: what is counted must not grow for ever.
    pub fn forget(&self, name: &str) {
        for class in CLASSES {
            // There may be none: then there is nothing to forget.
            drop(self.duration.remove_label_values(&[name, class]));
        }
    }

    /// Opens the access log that `spec` asks for; the one before it ends.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open_access_log(&self, spec: &AccessLogSpec) -> std::io::Result<()> {
        let form = match spec.format {
            AccessLogFormat::Json => Form::Json,
            AccessLogFormat::Clf => Form::Clf,
            AccessLogFormat::None => {
                self.access.store(None);
                return Ok(());
            }
        };
        let dropped = self.dropped.clone();
        let log = match spec.file.as_str() {
            "stdout" => AccessLog::stdout(form, &spec.redact, dropped)?,
            path => AccessLog::file(form, &spec.redact, dropped, std::path::Path::new(path))?,
        };
        let sample = spec.sample.parts();
        let credit = AtomicU64::new(0);
        self.access.store(Some(Arc::new(Access {
            log,
            sample,
            credit,
        })));
        Ok(())
    }

    /// Waits until every record so far is written, for `patience` at most: a reader that stalls must not hold the end.
    pub fn flush(&self, patience: Duration) {
        if let Some(access) = self.access.load_full()
            && !access.log.flush(patience)
        {
            log::warn!("the last records of the access log were not written");
        }
    }

    /// How many requests have no complete answer yet.
    #[must_use]
    pub fn active(&self) -> i64 {
        self.active.get()
    }

    /// A request began; it ends when the guard is dropped.
    pub fn began(self: &Arc<Self>) -> Active {
        self.active.inc();
        Active(Arc::clone(self))
    }

    /// A request ended.
    pub fn finished(
        &self,
        record: &Record<'_>,
        fault: Option<Fault>,
        route: Option<&RouteMetrics>,
    ) {
        if let Some(metrics) = route {
            let class = usize::from(record.status / 100).clamp(1, CLASSES.len()) - 1;
            if let Some(histogram) = metrics.0.get(class) {
                histogram.observe(record.seconds);
            }
        }
        if let Some(fault) = fault {
            self.faults.with_label_values(&[fault.code()]).inc();
        }
        if let Some(access) = &*self.access.load()
            && (fault.is_some() || record.status >= 500 || access.has_its_turn())
        {
            access.log.push(record);
        }
    }

    /// A config came into force.
    pub fn reloaded(&self, unix_seconds: i64, generation: u64) {
        self.reload_good.set(1);
        self.reload_seconds.set(unix_seconds);
        self.generation
            .set(i64::try_from(generation).unwrap_or(i64::MAX));
    }

    /// A config was refused.
    pub fn reload_failed(&self) {
        self.reload_good.set(0);
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

impl Access {
    /// Whether a good request is recorded: exactly the share of them that was asked for.
    fn has_its_turn(&self) -> bool {
        if self.sample >= Share::WHOLE {
            return true;
        }
        let (share, whole) = (u64::from(self.sample), u64::from(Share::WHOLE));
        let before = self.credit.fetch_add(share, Ordering::Relaxed);
        (before % whole) + share >= whole
    }
}

/// A request in flight.
#[derive(Debug)]
pub struct Active(Arc<Telemetry>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.dec();
    }
}
