//! A new config while requests go on: load, compile, start, publish; or the old one stays.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use async_trait::async_trait;
use serde_json::{Value as Json, json};

use super::breakers;
use super::sockets::Sockets;
use crate::base::control::{
    BreakerWish, CallerList, CallerWish, Control, Duty, NotDone, Question, Reloaded, Tests,
};
use crate::base::problem::suggest;
use crate::config;
use crate::exchange::Mode;
use crate::flow;
use crate::plan::{Plan, PlanHandle};
use crate::policy::auth::Means;
use crate::telemetry::{LogSpec, MetricsSpec, Telemetry};
use crate::upstream::Health;

/// A config that was loaded and compiled.
#[derive(Debug)]
pub struct Candidate {
    /// The plan; none when the config is wrong.
    pub plan: Option<Plan>,
    /// What is wrong, for people.
    pub report: String,
    /// What its request tests say, for people, where they were asked for and fail.
    pub failed_tests: Option<String>,
    /// The effective config, secrets hidden.
    pub shown: Json,
}

/// Loads and compiles the config; it may take its time.
pub type Loader = Arc<dyn Fn(Tests) -> Candidate + Send + Sync>;

/// What a reload works with.
pub(super) struct Parts {
    pub(super) plans: Arc<PlanHandle>,
    pub(super) means: Means,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) loader: Loader,
    pub(super) sockets: Arc<Mutex<Sockets>>,
}

/// A reload as its observer sees it.
#[derive(Debug, Clone, Copy)]
pub enum Moment<'a> {
    /// It begins.
    Begins,
    /// What became of it.
    Ended(&'a Reloaded),
}

/// What the process began with, and only a restart changes.
struct Began {
    threads: Option<u16>,
    log: LogSpec,
    metrics: MetricsSpec,
}

impl Began {
    fn of(plan: &Plan) -> Self {
        Self {
            threads: plan.threads,
            log: plan.telemetry.log.clone(),
            metrics: plan.telemetry.metrics.clone(),
        }
    }

    /// The keys by which `plan` differs.
    fn differences(&self, plan: &Plan) -> Vec<String> {
        let (log, metrics) = (&plan.telemetry.log, &plan.telemetry.metrics);
        let differ = [
            ("runtime.threads", plan.threads != self.threads),
            ("telemetry.log.level", log.level != self.log.level),
            ("telemetry.log.format", log.format != self.log.format),
            // A histogram cannot go on with other bounds.
            (
                "telemetry.metrics.latency_buckets",
                *metrics != self.metrics,
            ),
        ];
        let differ = differ.into_iter().filter(|(_, differs)| *differs);
        differ.map(|(key, _)| key.to_owned()).collect()
    }
}

type Observer = Box<dyn Fn(Moment<'_>) + Send + Sync>;

/// Reloads the config, and tells what is in force.
pub struct Reloader {
    parts: Parts,
    /// One reload after the other.
    turn: tokio::sync::Mutex<()>,
    shown: Mutex<Json>,
    stopping: AtomicBool,
    observer: OnceLock<Observer>,
    began: Began,
}

impl std::fmt::Debug for Reloader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reloader").finish_non_exhaustive()
    }
}

impl Reloader {
    pub(super) fn new(parts: Parts) -> Self {
        let began = Began::of(&parts.plans.load());
        Self {
            parts,
            began,
            turn: tokio::sync::Mutex::new(()),
            shown: Mutex::new(Json::Null),
            stopping: AtomicBool::new(false),
            observer: OnceLock::new(),
        }
    }

    /// Notes the effective config that is in force from the start.
    pub fn note(&self, shown: Json) {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = shown;
    }

    /// Tells `observer` of every reload, whoever asks for it. The first observer stays the only one.
    pub fn watch(&self, observer: impl Fn(Moment<'_>) + Send + Sync + 'static) {
        self.observer.get_or_init(|| Box::new(observer));
    }

    fn tell(&self, moment: Moment<'_>) {
        // Whoever heard that the process stops is told nothing else any more.
        if self.is_ready()
            && let Some(observer) = self.observer.get()
        {
            observer(moment);
        }
    }

    fn sockets(&self) -> MutexGuard<'_, Sockets> {
        let sockets = self.parts.sockets.lock();
        sockets.unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stopping(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    async fn apply(&self, tests: Tests) -> Reloaded {
        let loader = Arc::clone(&self.parts.loader);
        let candidate = match tokio::task::spawn_blocking(move || loader(tests)).await {
            Ok(candidate) => candidate,
            Err(error) => {
                let report = format!("error: loading the config failed: {error}");
                return Reloaded::Invalid { report };
            }
        };
        let Some(mut plan) = candidate.plan else {
            return Reloaded::Invalid {
                report: candidate.report,
            };
        };
        if let Some(report) = candidate.failed_tests {
            return Reloaded::TestsFailed { report };
        }
        let old = self.parts.plans.load();
        let restart = self.began.differences(&plan);
        if let Err(reasons) = plan.succeed(&old) {
            return Reloaded::NeedsRestart { reasons };
        }
        if let Err(why) = plan.prepare().await {
            let report = format!("error: {why}");
            return Reloaded::Invalid { report };
        }
        let generation = plan.generation;
        let parts = &self.parts;
        let prepared = self.sockets().prepare(&plan);
        let bound = match prepared {
            Ok(bound) => bound,
            Err((address, error)) => {
                let report = format!("error: cannot listen on {address}: {error}");
                return Reloaded::Invalid { report };
            }
        };
        // A file may have been moved away since: it is opened again, as a rotation of logs expects.
        let log = &plan.telemetry.access_log;
        if (log.file != "stdout" || *log != old.telemetry.access_log)
            && let Err(error) = parts.telemetry.open_access_log(&plan.telemetry.access_log)
        {
            let file = &plan.telemetry.access_log.file;
            let report = format!("error: cannot write the access log to {file}: {error}");
            return Reloaded::Invalid { report };
        }
        let tasks = plan.start(&parts.means, &parts.telemetry).await;
        let kept = (names(&plan), upstream_names(&plan));
        parts.plans.publish(plan, tasks);
        self.sockets().put(bound);
        for name in names(&old).difference(&kept.0) {
            parts.telemetry.forget(name);
        }
        for name in upstream_names(&old).difference(&kept.1) {
            parts.telemetry.forget_upstream(name);
        }
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = config::diff(&shown, &candidate.shown);
        *shown = candidate.shown;
        Reloaded::Applied {
            generation,
            changes,
            restart,
        }
    }
}

/// The names of every route that is served.
fn names(plan: &Plan) -> BTreeSet<Arc<str>> {
    let listeners = plan.listeners.iter();
    let routes = listeners.flat_map(|listener| &listener.site.routes);
    routes.map(|route| Arc::clone(&route.name)).collect()
}

fn upstream_names(plan: &Plan) -> BTreeSet<Arc<str>> {
    let upstreams = plan.upstreams.iter();
    upstreams
        .map(|upstream| Arc::clone(upstream.name()))
        .collect()
}

#[async_trait]
impl Control for Reloader {
    async fn reload(&self, tests: Tests) -> Reloaded {
        let _turn = self.turn.lock().await;
        if !self.is_ready() {
            let report = "error: the gateway is stopping".to_owned();
            return Reloaded::Invalid { report };
        }
        self.tell(Moment::Begins);
        let reloaded = self.apply(tests).await;
        let seconds = self.parts.means.clock.unix_millis() / 1000;
        match &reloaded {
            Reloaded::Applied {
                generation,
                changes,
                restart,
            } => {
                self.parts.telemetry.reloaded(seconds, *generation);
                log::info!(generation, changes = changes.len(), restart:? = restart; "config reloaded");
            }
            Reloaded::Invalid { report } => {
                self.parts.telemetry.reload_failed("invalid");
                log::error!("config not reloaded, the running one was kept:\n{report}");
            }
            Reloaded::TestsFailed { report } => {
                self.parts.telemetry.reload_failed("tests_failed");
                log::error!(
                    "config not reloaded, its tests fail, the running one was kept:\n{report}"
                );
            }
            Reloaded::NeedsRestart { reasons } => {
                self.parts.telemetry.reload_failed("needs_restart");
                log::error!(reasons:? = reasons; "config not reloaded: it needs a restart; the running one was kept");
            }
        }
        self.tell(Moment::Ended(&reloaded));
        reloaded
    }

    fn is_ready(&self) -> bool {
        !self.stopping.load(Ordering::Acquire)
    }

    fn explain(&self, question: &Question) -> Result<Json, String> {
        let parts = &self.parts;
        let plan = parts.plans.load();
        let addresses = self.sockets().addresses();
        flow::explain(&plan, question, &addresses, &*parts.means.clock, Mode::Dry)
    }

    fn set_duty(&self, upstream: &str, target: &str, duty: Duty) -> Result<u32, String> {
        let plan = self.parts.plans.load();
        let mut upstreams = plan.upstreams.iter();
        let found = upstreams.find(|known| **known.name() == *upstream);
        let found = found.ok_or_else(|| {
            let names = plan.upstreams.iter().map(|known| &**known.name());
            let hint = suggest(upstream, names).map(|name| format!("; did you mean `{name}`?"));
            format!(
                "unknown upstream `{}`{}",
                upstream.escape_debug(),
                hint.unwrap_or_default()
            )
        })?;
        found.set_duty(target, duty).ok_or_else(|| {
            let known: Vec<&str> = found.authorities().collect();
            let target = target.escape_debug();
            format!(
                "`{upstream}` has no target `{target}`; known: `{}`",
                known.join("`, `")
            )
        })
    }

    fn callers(&self, list: CallerList) -> Result<Json, NotDone> {
        let plan = self.parts.plans.load();
        plan.authentication
            .consumers
            .tell(list, &self.parts.means.clock)
    }

    async fn change_callers(&self, wish: CallerWish, by: &str) -> Result<Json, NotDone> {
        // With a reload under way it would change what goes out of force.
        let _turn = self.turn.lock().await;
        let plan = self.parts.plans.load();
        let known = &plan.authentication.consumers;
        known.change(&wish, by, &self.parts.means.clock).await
    }

    fn config(&self) -> Json {
        self.shown
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn observe(&self) {
        let plan = self.parts.plans.load();
        let states = breakers::states(&plan, self.parts.means.clock.instant());
        let upstreams = plan.upstreams.iter();
        let crowds = upstreams.filter_map(|upstream| {
            let permits = upstream.resilience().permits()?;
            Some((&**upstream.name(), permits.crowd()))
        });
        let crowds: Vec<_> = crowds.collect();
        self.parts.telemetry.observe(&states, &crowds);
        let now = self.parts.means.clock.instant();
        let register = plan.authentication.consumers.register();
        let keys = register.map(|it| (&**it.store(), it.is_readable(now)));
        self.parts.telemetry.observe_keys(keys);
    }

    fn breakers(&self) -> Json {
        let plan = self.parts.plans.load();
        let now = self.parts.means.clock.instant();
        Json::Array(plan.breakers().map(|it| breakers::told(it, now)).collect())
    }

    fn set_breaker(&self, name: &str, wish: BreakerWish) -> Option<Json> {
        let plan = self.parts.plans.load();
        breakers::set(&plan, name, wish, self.parts.means.clock.instant())
    }

    fn status(&self) -> Json {
        let plan = self.parts.plans.load();
        let addresses = self.sockets().addresses();
        let listeners = addresses.iter();
        let listeners = listeners.map(|(name, url)| json!({ "name": &**name, "address": url }));
        let upstreams = plan.upstreams.iter().map(|upstream| {
            let targets = upstream.targets().map(|target| {
                json!({
                    "target": target.authority,
                    "address": target.address.map(|address| address.to_string()),
                    "weight": target.weight,
                    "priority": target.priority,
                    "health": target.health.map(Health::word),
                    "ejected_seconds": target.ejected_for.map(|span| span.as_secs_f64()),
                    "drained": target.drained,
                    "in_flight": target.in_flight,
                })
            });
            json!({ "name": &**upstream.name(), "targets": targets.collect::<Vec<_>>() })
        });
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "generation": plan.generation,
            "ready": self.is_ready(),
            "requests": self.parts.telemetry.active(),
            "listeners": listeners.collect::<Vec<_>>(),
            "upstreams": upstreams.collect::<Vec<_>>(),
        })
    }
}
