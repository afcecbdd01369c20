//! `run`: the gateway in the foreground, until a signal ends it.

use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use super::args::Global;
use super::{Exit, check, report, say};
use crate::base::clock::SystemClock;
use crate::config::Loaded;
use crate::config::source::Environment;
use crate::plan::Plan;
use crate::server;
use crate::upstream::{Names, SystemNames};

/// Runs the gateway on the config file.
pub(super) fn run(global: &Global) -> Exit {
    log_to_stderr();
    let Some((loaded, plan)) = check::load(global, &Environment::Process) else {
        return Exit::Config;
    };
    serve(&loaded, plan, global, |_| {})
}

/// Runs the gateway on a plan; `ready` hears the addresses.
pub(super) fn serve(
    loaded: &Loaded,
    plan: Option<Plan>,
    global: &Global,
    ready: impl FnOnce(&[(Arc<str>, String)]),
) -> Exit {
    report::problems(loaded, global);
    let Some(plan) = plan.filter(|_| !loaded.problems.any_error()) else {
        return Exit::Config;
    };
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = plan.threads {
        builder.worker_threads(usize::from(threads));
    }
    match builder.enable_all().thread_name("worker").build() {
        Ok(runtime) => runtime.block_on(until_stopped(plan, ready)),
        Err(error) => {
            say(&format!("error: cannot start worker threads: {error}"));
            Exit::Findings
        }
    }
}

async fn until_stopped(plan: Plan, ready: impl FnOnce(&[(Arc<str>, String)])) -> Exit {
    let signals = [
        SignalKind::terminate(),
        SignalKind::interrupt(),
        SignalKind::hangup(),
        SignalKind::user_defined1(),
        SignalKind::user_defined2(),
    ];
    let [
        mut terminate,
        mut interrupt,
        mut hangup,
        mut user1,
        mut user2,
    ] = match watch(signals) {
        Ok(signals) => signals,
        Err(error) => {
            say(&format!("error: cannot listen for signals: {error}"));
            return Exit::Findings;
        }
    };
    let bound = match server::bind(&plan) {
        Ok(bound) => bound,
        Err((address, error)) => {
            say(&format!("error: cannot listen on {address}: {error}"));
            return Exit::Findings;
        }
    };
    let names: Arc<dyn Names> = Arc::new(SystemNames::new());
    let running = match server::start(plan, bound, names, Arc::new(SystemClock)).await {
        Ok(running) => running,
        Err(error) => {
            say(&format!("error: {error}"));
            return Exit::Findings;
        }
    };
    for (name, url) in running.addresses() {
        say(&format!("listening on {name} {url}"));
    }
    ready(running.addresses());
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            // Left alone, each of these would end the process.
            _ = hangup.recv() => log::warn!("SIGHUP: this version cannot reload; restart to use a new config"),
            _ = user1.recv() => {}
            _ = user2.recv() => {}
        }
    }
    log::info!("stopping");
    running.stop().await;
    Exit::Done
}

fn watch<const N: usize>(
    kinds: [SignalKind; N],
) -> std::io::Result<[tokio::signal::unix::Signal; N]> {
    let mut signals = Vec::with_capacity(N);
    for kind in kinds {
        signals.push(signal(kind)?);
    }
    signals
        .try_into()
        .map_err(|signals: Vec<_>| std::io::Error::other(format!("{} signals", signals.len())))
}

/// Messages go to standard error; `RUST_LOG` says more or less of them.
pub(super) fn log_to_stderr() {
    let filter = env_logger::Env::default().default_filter_or(
        "info,pingora_core=error,pingora_proxy=error,hickory_resolver=error,hickory_net=error",
    );
    let logger = env_logger::Builder::from_env(filter).build();
    log::set_max_level(logger.filter());
    // Twice in one process is no mistake: the first one stays.
    drop(log::set_boxed_logger(Box::new(Discreet(logger))));
}

/// Whatever `RUST_LOG` says: below warnings Pingora prints whole requests, and with them secrets.
struct Discreet(env_logger::Logger);

impl log::Log for Discreet {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        let tells_requests =
            metadata.level() > log::Level::Warn && metadata.target().starts_with("pingora");
        !tells_requests && self.0.enabled(metadata)
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            self.0.log(record);
        }
    }

    fn flush(&self) {
        self.0.flush();
    }
}
