//! Every metric by its name, and handles to them, which are found when a config is loaded, never by a request.

use std::sync::OnceLock;

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
};

use super::asks::AskMetrics;
use super::attempts::{AttemptMetrics, Attempts};
use super::connections::{ConnectionMetrics, ListenerMetrics};
use super::resilience::ResilienceMetrics;
use super::spec::MetricsSpec;
use super::stores::StoreMetrics;
use super::targets::TargetMetrics;
use super::tls::{OcspMetrics, TlsCounters};
use crate::exchange::{Fault, GRPC_CODES};

/// The classes of status that are told apart.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// How an attempt at a target can fail.
const FAILURES: [Fault; 10] = [
    Fault::ConnectFailure,
    Fault::ConnectTimeout,
    Fault::TlsFailure,
    Fault::Reset,
    Fault::RefusedStream,
    Fault::Timeout,
    Fault::ProtocolError,
    Fault::ResponseTooLarge,
    Fault::ClientError,
    Fault::Internal,
];

/// An attempt that was given up because another one was sooner: no failure of anybody.
const OUTRUN: &str = "outrun";

const FAULTS: &str = "doorward_faults_total";
/// What can become of a reload.
const RESULTS: [&str; 4] = ["applied", "invalid", "tests_failed", "needs_restart"];

/// Every metric of the process.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    server_duration: HistogramVec,
    client_duration: HistogramVec,
    upstream_connections: IntCounterVec,
    upstream_reused: IntCounterVec,
    attempts: AttemptMetrics,
    pub(super) targets: TargetMetrics,
    pub(super) resilience: ResilienceMetrics,
    pub(super) stores: StoreMetrics,
    pub(super) connections: ConnectionMetrics,
    tls: TlsCounters,
    pub(super) config: ConfigMetrics,
    pub(super) active: IntGauge,
    pub(super) faults: IntCounterVec,
    calls: IntCounterVec,
    pub(super) asks: AskMetrics,
    pub(super) dropped: IntCounter,
}

/// What is told of the config and its reloads.
#[derive(Debug)]
pub(super) struct ConfigMetrics {
    reloads: IntCounterVec,
    pub(super) reload_good: IntGauge,
    pub(super) reload_seconds: IntGauge,
    pub(super) generation: IntGauge,
    pub(super) start_seconds: IntGauge,
}

/// The metrics of one route.
#[derive(Debug)]
pub struct RouteMetrics {
    ended: [Histogram; CLASSES.len()],
    /// Made with the first call: most routes have none.
    calls: OnceLock<[IntCounter; GRPC_CODES.len()]>,
    every_call: IntCounterVec,
    name: Box<str>,
}

/// The metrics of one upstream.
#[derive(Debug)]
pub struct UpstreamMetrics {
    answered: [Histogram; CLASSES.len()],
    failed: [Histogram; FAILURES.len()],
    connections: IntCounter,
    reused: IntCounter,
    attempts: Attempts,
    /// Attempts that nobody needed any more.
    outrun: Histogram,
}

impl Metrics {
    /// Registers every metric.
    ///
    /// # Errors
    /// Two metrics of one name: a mistake of ours.
    pub(super) fn new(spec: &MetricsSpec) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let register = Register(&registry);
        let options =
            |name: &str, help: &str| HistogramOpts::new(name, help).buckets(spec.seconds());
        let of_upstream = |name, help| register.counters(name, help, &["upstream"]);
        let metrics = Self {
            server_duration: register.durations(
                options(
                    "http_server_request_duration_seconds",
                    "Duration of requests",
                ),
                &["http_route", "status_class"],
            )?,
            client_duration: register.durations(
                options(
                    "http_client_request_duration_seconds",
                    "Duration of attempts at targets, to the end of the answer",
                ),
                &["upstream", "status_class", "error_type"],
            )?,
            active: register.gauge(
                "http_server_active_requests",
                "Requests that have no complete answer yet",
            )?,
            faults: register.counters(FAULTS, "Requests that ended in a fault", &["error_type"])?,
            calls: calls(&register)?,
            asks: AskMetrics::new(&register, spec)?,
            upstream_connections: of_upstream(
                "doorward_upstream_connections_total",
                "Connections made to targets",
            )?,
            upstream_reused: of_upstream(
                "doorward_upstream_connections_reused_total",
                "Attempts at targets that found a connection there already",
            )?,
            attempts: AttemptMetrics::new(&register)?,
            targets: TargetMetrics::new(&register)?,
            resilience: ResilienceMetrics::new(&register)?,
            stores: StoreMetrics::new(&register)?,
            connections: ConnectionMetrics::new(&register)?,
            tls: TlsCounters::new(&register)?,
            dropped: registered(
                &registry,
                IntCounter::new(
                    "doorward_access_log_dropped_total",
                    "Records that were not written",
                )?,
            )?,
            config: ConfigMetrics::new(&register)?,
            registry,
        };
        metrics.begin()?;
        Ok(metrics)
    }

    /// What is known from the start.
    fn begin(&self) -> Result<(), prometheus::Error> {
        for result in RESULTS {
            self.reload_ended(result, 0);
        }
        let build = Opts::new("doorward_build_info", "The version that runs; always 1");
        let build = registered(&self.registry, IntGaugeVec::new(build, &["version"])?)?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        self.registry
            .register(Box::new(super::process::Process::new()?))
    }

    /// Every metric. Failures that never happened are left out: there are many, and each would be a whole histogram.
    pub(super) fn gather(&self) -> Vec<MetricFamily> {
        let mut families = self.registry.gather();
        for family in &mut families {
            if family.name() != "http_client_request_duration_seconds" {
                continue;
            }
            let failed = |metric: &prometheus::proto::Metric| {
                let labels = metric.get_label().iter();
                let mut kinds = labels.filter(|label| label.name() == "error_type");
                kinds.any(|label| !label.value().is_empty())
            };
            let mut kept = family.take_metric();
            kept.retain(|metric| !failed(metric) || metric.get_histogram().get_sample_count() > 0);
            family.set_metric(kept);
        }
        families.retain(|family| !family.get_metric().is_empty());
        families
    }

    pub(super) fn route(&self, name: &str) -> RouteMetrics {
        RouteMetrics {
            ended: CLASSES.map(|class| self.server_duration.with_label_values(&[name, class])),
            calls: OnceLock::new(),
            every_call: self.calls.clone(),
            name: name.into(),
        }
    }

    pub(super) fn forget_route(&self, name: &str) {
        for class in CLASSES {
            // There may be none: then there is nothing to forget.
            drop(self.server_duration.remove_label_values(&[name, class]));
        }
        for code in GRPC_CODES {
            drop(self.calls.remove_label_values(&[name, code]));
        }
    }

    pub(super) fn upstream(&self, name: &str) -> UpstreamMetrics {
        let duration = |labels: &[&str]| self.client_duration.with_label_values(labels);
        UpstreamMetrics {
            answered: CLASSES.map(|class| duration(&[name, class, ""])),
            failed: FAILURES.map(|fault| duration(&[name, "", fault.code()])),
            connections: self.upstream_connections.with_label_values(&[name]),
            reused: self.upstream_reused.with_label_values(&[name]),
            attempts: self.attempts.of(name),
            outrun: duration(&[name, "", OUTRUN]),
        }
    }

    pub(super) fn forget_upstream(&self, name: &str) {
        for class in CLASSES {
            drop(self.client_duration.remove_label_values(&[name, class, ""]));
        }
        for fault in FAILURES {
            let labels = [name, "", fault.code()];
            drop(self.client_duration.remove_label_values(&labels));
        }
        self.targets.forget(name);
        drop(self.upstream_connections.remove_label_values(&[name]));
        drop(self.upstream_reused.remove_label_values(&[name]));
        self.attempts.forget(name);
        let outrun = [name, "", OUTRUN];
        drop(self.client_duration.remove_label_values(&outrun));
        self.resilience.forget(name);
    }

    pub(super) fn listener(&self, name: &str) -> ListenerMetrics {
        self.connections.listener(name, self.tls.handshakes(name))
    }

    pub(super) fn ocsp(&self, listener: &str) -> OcspMetrics {
        self.tls.ocsp(listener)
    }

    /// Counts so many reloads that ended so.
    pub(super) fn reload_ended(&self, result: &'static str, times: u64) {
        self.config
            .reloads
            .with_label_values(&[result])
            .inc_by(times);
    }
}

impl ConfigMetrics {
    fn new(register: &Register<'_>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            reloads: register.counters(
                "doorward_config_reloads_total",
                "Reloads that were asked for",
                &["result"],
            )?,
            reload_good: register.gauge(
                "doorward_config_last_reload_successful",
                "Whether the last reload was (1), or was refused (0)",
            )?,
            reload_seconds: register.gauge(
                "doorward_config_last_reload_success_timestamp_seconds",
                "When the config in force was loaded",
            )?,
            generation: register.gauge(
                "doorward_config_generation",
                "How many configs were in force so far",
            )?,
            start_seconds: register.gauge(
                "process_start_time_seconds",
                "When the process began to serve",
            )?,
        })
    }
}

fn calls(register: &Register<'_>) -> Result<IntCounterVec, prometheus::Error> {
    register.counters(
        "doorward_grpc_calls_total",
        "Calls of gRPC that ended, by their status",
        &["http_route", "rpc_response_status_code"],
    )
}

/// Makes metrics and registers them.
pub(super) struct Register<'a>(&'a Registry);

impl Register<'_> {
    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        registered(self.0, IntGauge::new(name, help)?)
    }

    pub(super) fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, prometheus::Error> {
        registered(self.0, IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    pub(super) fn gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntGaugeVec, prometheus::Error> {
        registered(self.0, IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    pub(super) fn durations(
        &self,
        options: HistogramOpts,
        labels: &[&str],
    ) -> Result<HistogramVec, prometheus::Error> {
        registered(self.0, HistogramVec::new(options, labels)?)
    }
}

fn registered<C: Collector + Clone + 'static>(
    registry: &Registry,
    metric: C,
) -> Result<C, prometheus::Error> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

/// Where the class of `status` stands in [`CLASSES`].
fn class(status: u16) -> usize {
    usize::from(status / 100).clamp(1, CLASSES.len()) - 1
}

impl RouteMetrics {
    /// A request of the route ended.
    pub(super) fn ended(&self, status: u16, seconds: f64) {
        if let Some(histogram) = self.ended.get(class(status)) {
            histogram.observe(seconds);
        }
    }

    /// A call of the route ended with this status of gRPC.
    pub(super) fn called(&self, status: u8) {
        let labelled = |code| self.every_call.with_label_values(&[&*self.name, code]);
        let calls = self.calls.get_or_init(|| GRPC_CODES.map(labelled));
        if let Some(counter) = calls.get(usize::from(status)) {
            counter.inc();
        }
    }
}

impl UpstreamMetrics {
    /// A target answered, with this status; so long it took to the end of its answer.
    pub fn answered(&self, status: u16, seconds: f64) {
        if let Some(histogram) = self.answered.get(class(status)) {
            histogram.observe(seconds);
        }
    }

    /// An attempt failed after so long.
    pub fn failed(&self, fault: Fault, seconds: f64) {
        let known = FAILURES.iter().position(|known| *known == fault);
        // What is no failure of an attempt is a mistake of ours.
        let index = known.unwrap_or(FAILURES.len() - 1);
        if let Some(histogram) = self.failed.get(index) {
            histogram.observe(seconds);
        }
    }

    /// A connection was made.
    pub fn connected(&self) {
        self.connections.inc();
    }

    /// A connection was there already.
    pub fn reused(&self) {
        self.reused.inc();
    }

    /// A request is tried once more.
    pub fn retried(&self) {
        self.attempts.retries.inc();
    }

    /// A request was sent to a second target while the first has not answered.
    pub fn hedged(&self) {
        self.attempts.hedges.inc();
    }

    /// Its answer is the one that is taken.
    pub fn hedge_won(&self) {
        self.attempts.hedges_won.inc();
    }

    /// An attempt was given up after so long, since another one was sooner.
    pub fn outrun(&self, seconds: f64) {
        self.outrun.observe(seconds);
    }

    /// A request would be tried once more, but too many are.
    pub fn exhausted(&self) {
        self.attempts.exhausted.inc();
    }
}
