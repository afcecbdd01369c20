//! Counts, records and warnings: every metric with its name, handles to them, the access log.

pub mod access_log;
mod asks;
mod attempts;
mod connections;
mod metrics;
mod process;
mod resilience;
mod sample;
mod spec;
mod stores;
mod targets;
mod throttle;
mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;

pub use access_log::{AccessLog, Fields, Form, Hidden, OWN_FIELDS, Record};
pub use asks::{AskResult, Asking, FetchResult, KeyMetrics};
pub use connections::{Connected, Ending, ListenerMetrics};
pub use metrics::{RouteMetrics, UpstreamMetrics};
pub use sample::{Recording, Sample};
pub use spec::{AccessLogFormat, AccessLogSpec, Level, LogFormat, LogSpec, MetricsSpec, Spec};
pub use tls::{OcspMetrics, OcspResult};

use crate::exchange::{Exchange, Fault};
use crate::upstream::{Crowd, Observer};
use metrics::Metrics;
use throttle::Throttle;

/// How long the log that a reload replaces may take for its last records.
const REPLACE_PATIENCE: Duration = Duration::from_millis(100);

/// The metrics and the access log of the process.
#[derive(Debug)]
pub struct Telemetry {
    metrics: Metrics,
    throttle: Throttle,
    access: ArcSwapOption<Access>,
}

/// The access log, and what goes into it.
#[derive(Debug)]
pub struct Access {
    log: AccessLog,
    /// Which of the good requests are recorded, where their route says nothing else.
    sample: Sample,
}

impl Telemetry {
    /// Registers every metric.
    ///
    /// # Errors
    /// Two metrics of one name: a mistake of ours.
    pub fn new(spec: &MetricsSpec) -> Result<Self, prometheus::Error> {
        Ok(Self {
            metrics: Metrics::new(spec)?,
            throttle: Throttle::new(),
            access: ArcSwapOption::empty(),
        })
    }

    /// Every metric, for tests.
    #[must_use]
    pub fn gather(&self) -> Vec<prometheus::proto::MetricFamily> {
        self.metrics.gather()
    }

    /// Every metric in the Prometheus text form.
    #[must_use]
    pub fn text(&self) -> String {
        prometheus::TextEncoder::new()
            .encode_to_string(&self.metrics.gather())
            .unwrap_or_default()
    }

    /// What is only looked at when metrics are read: the state of each breaker by route and upstream, and how many are under way
    /// at upstreams that have a limit.
    pub fn observe(&self, breakers: &[(String, String, i64)], crowds: &[(&str, Crowd)]) {
        self.metrics.resilience.breakers(breakers);
        self.metrics.resilience.crowds(crowds);
    }

    /// Says whether the store of consumers and keys could be read lately, if there is one.
    pub fn observe_keys(&self, store: Option<(&str, bool)>) {
        self.metrics.stores.keys(store);
    }

    /// The metrics of the route `name`.
    #[must_use]
    pub fn route(&self, name: &str) -> RouteMetrics {
        self.metrics.route(name)
    }

    /// Forgets the metrics of the route `name`, which no config has any more: what is counted must not grow for ever.
    pub fn forget(&self, name: &str) {
        self.metrics.forget_route(name);
    }

    /// The metrics of the upstream `name`.
    #[must_use]
    pub fn upstream(&self, name: &str) -> UpstreamMetrics {
        self.metrics.upstream(name)
    }

    /// Forgets the metrics of the upstream `name`.
    pub fn forget_upstream(&self, name: &str) {
        self.metrics.forget_upstream(name);
    }

    /// Who counts how the targets of the upstream `name` stand.
    #[must_use]
    pub fn targets(&self, name: &str) -> Arc<dyn Observer> {
        Arc::new(self.metrics.targets.of(name))
    }

    /// The metrics of the listener `name`.
    #[must_use]
    pub fn listener(&self, name: &str) -> ListenerMetrics {
        self.metrics.listener(name)
    }

    /// The questions about the certificates of the listener `name`.
    #[must_use]
    pub fn ocsp(&self, name: &str) -> OcspMetrics {
        self.metrics.ocsp(name)
    }

    /// A connection of the listener `name` was ended for what its client did.
    pub fn connection_ended(&self, name: &str, ending: Ending, client: Option<SocketAddr>) {
        self.metrics.connections.ended(name, ending, 1);
        if self.throttle.admits(ending.code()) {
            let client = client.map_or_else(|| "unix".to_owned(), |client| client.ip().to_string());
            log::warn!(listener:% = name, reason:% = ending.code(), client:% = client; "connection ended");
        }
    }

    /// The clause asks somebody about a request; it ends when the guard is told, or dropped.
    #[must_use]
    pub fn asks(&self, clause: &'static str) -> Asking {
        Asking::begin(&self.metrics.asks.durations, clause)
    }

    /// The fetches of the keys of the authenticator `name`.
    #[must_use]
    pub fn keys_of(&self, name: &str) -> KeyMetrics {
        KeyMetrics::new(&self.metrics.asks, name)
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
                self.replace(None);
                return Ok(());
            }
        };
        let dropped = self.metrics.dropped.clone();
        let log = match spec.file.as_str() {
            "stdout" => AccessLog::stdout(form, &spec.redact, dropped)?,
            path => AccessLog::file(form, &spec.redact, dropped, std::path::Path::new(path))?,
        };
        let sample = Sample::new(spec.sample);
        self.replace(Some(Access { log, sample }));
        Ok(())
    }

    /// Puts another log in the place of the one before, whose last records are written before it goes, if its reader takes them.
    fn replace(&self, access: Option<Access>) {
        let before = self.access.swap(access.map(Arc::new));
        if let Some(before) = before
            && !before.log.flush(REPLACE_PATIENCE)
        {
            log::warn!("the last records of the access log that was replaced may be lost");
        }
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
        self.metrics.active.get()
    }

    /// A request began; it ends when the guard is dropped.
    pub fn began(self: &Arc<Self>) -> Active {
        self.metrics.active.inc();
        Active(Arc::clone(self))
    }

    /// A request ended.
    pub fn finished(
        &self,
        record: &Record<'_>,
        fault: Option<Fault>,
        route: Option<&RouteMetrics>,
        recording: Recording<'_>,
    ) {
        if let Some(metrics) = route {
            metrics.ended(record.status, record.duration.as_secs_f64());
            if let Some(status) = record.grpc_status {
                metrics.called(status);
            }
        }
        if let Some(fault) = fault {
            self.metrics.faults.with_label_values(&[fault.code()]).inc();
        }
        if let Some(access) = &*self.access.load() {
            let always = fault.is_some() || record.status >= 500;
            let recorded = match recording {
                Recording::Usual => always || access.sample.has_its_turn(),
                Recording::Sampled(sample) => always || sample.has_its_turn(),
                Recording::Off => false,
            };
            if recorded {
                access.log.push(record);
            }
        }
    }

    /// The gateway begins to serve with this config.
    pub fn began_serving(&self, unix_seconds: i64, generation: u64) {
        self.metrics.config.start_seconds.set(unix_seconds);
        self.in_force(unix_seconds, generation);
    }

    /// A config came into force.
    fn in_force(&self, unix_seconds: i64, generation: u64) {
        self.metrics.config.reload_good.set(1);
        self.metrics.config.reload_seconds.set(unix_seconds);
        self.metrics
            .config
            .generation
            .set(i64::try_from(generation).unwrap_or(i64::MAX));
    }

    /// A reload was applied.
    pub fn reloaded(&self, unix_seconds: i64, generation: u64) {
        self.metrics.reload_ended("applied", 1);
        self.in_force(unix_seconds, generation);
    }

    /// A config was refused: `invalid`, or `needs_restart`.
    pub fn reload_failed(&self, result: &'static str) {
        self.metrics.reload_ended(result, 1);
        self.metrics.config.reload_good.set(0);
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
pub struct Active(Arc<Telemetry>);

impl Drop for Active {
    fn drop(&mut self) {
        self.0.metrics.active.dec();
    }
}
