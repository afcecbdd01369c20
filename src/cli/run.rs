//! `run`: the gateway in the foreground, until a signal ends it.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use sd_notify::NotifyState;

use super::args::{Format, Global};
use super::{Exit, check, report, say, test};
use crate::base::clock::SystemClock;
use crate::base::control::{Control as _, Reloaded, Tests};
use crate::config;
use crate::config::Loaded;
use crate::config::source::Environment;
use crate::plan::Plan;
use crate::server::{self, Candidate, Loader, Moment, Surroundings};
use crate::telemetry::Level;
use crate::upstream::{Names, SystemNames};

/// How long the access log may take for its last records.
const LOG_PATIENCE: Duration = Duration::from_secs(1);

/// Runs the gateway on the config file.
pub(super) fn run(global: &Global) -> Exit {
    let Some((loaded, plan)) = check::load(global, &Environment::Process) else {
        return Exit::Config;
    };
    log_to_stderr(loaded.document.telemetry.log.level);
    let quiet = Global {
        format: Format::Json,
        ..global.clone()
    };
    let loader: Loader = Arc::new(
        move |tests| match check::load(&quiet, &Environment::Process) {
            Some((loaded, plan)) => candidate(&loaded, plan, tests),
            None => Candidate {
                plan: None,
                report: "error: the config is gone".to_owned(),
                failed_tests: None,
                shown: serde_json::Value::Null,
            },
        },
    );
    serve(&loaded, plan, global, loader, |_| {})
}

/// What a reload works with.
pub(super) fn candidate(loaded: &Loaded, plan: Option<Plan>, tests: Tests) -> Candidate {
    let plan = plan.filter(|_| !loaded.problems.any_error());
    let run = tests == Tests::Run && plan.is_some();
    Candidate {
        plan,
        report: report::plain(loaded),
        failed_tests: run.then(|| test::failures(loaded)).flatten(),
        shown: config::show(loaded),
    }
}

/// Runs the gateway on a plan; `ready` hears the addresses.
pub(super) fn serve(
    loaded: &Loaded,
    plan: Option<Plan>,
    global: &Global,
    loader: Loader,
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
        Ok(runtime) => runtime.block_on(until_stopped(plan, config::show(loaded), loader, ready)),
        Err(error) => {
            say(&format!("error: cannot start worker threads: {error}"));
            Exit::Findings
        }
    }
}

async fn until_stopped(
    plan: Plan,
    shown: serde_json::Value,
    loader: Loader,
    ready: impl FnOnce(&[(Arc<str>, String)]),
) -> Exit {
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
    let (running, admin) = match start(plan, shown, loader).await {
        Ok(started) => started,
        Err(what) => {
            say(&format!("error: {what}"));
            return Exit::Findings;
        }
    };
    for (name, url) in running.addresses() {
        say(&format!("listening on {name} {url}"));
    }
    for url in admin {
        say(&format!("admin on {url}"));
    }
    ready(running.addresses());
    let control = running.control();
    control.watch(tell_of_reload);
    tell_systemd(&[
        NotifyState::Ready,
        NotifyState::Status("generation 1 is in force"),
    ]);
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            // Left alone, each of these would end the process.
            _ = hangup.recv() => drop(control.reload(Tests::Skip).await),
            _ = user1.recv() => {}
            _ = user2.recv() => {}
        }
    }
    log::info!("stopping");
    tell_systemd(&[NotifyState::Stopping]);
    let telemetry = Arc::clone(running.telemetry());
    running.stop().await;
    telemetry.flush(LOG_PATIENCE);
    Exit::Done
}

/// Binds every socket, then serves.
async fn start(
    plan: Plan,
    shown: serde_json::Value,
    loader: Loader,
) -> Result<(server::Running, Vec<String>), String> {
    let refused = |what: &str, (address, error): (String, std::io::Error)| {
        format!("cannot {what} {address}: {error}")
    };
    let bound = server::bind(&plan).map_err(|error| refused("listen on", error))?;
    let doors = server::open_doors(&plan.admin).await;
    let doors = doors.map_err(|error| refused("open the admin door", error))?;
    let admin: Vec<String> = doors.iter().map(|door| door.url.clone()).collect();
    let names: Arc<dyn Names> = Arc::new(SystemNames::new());
    let surroundings = Surroundings {
        names,
        clock: Arc::new(SystemClock),
        loader,
        shown,
        doors,
    };
    let running = server::start(plan, bound, surroundings).await;
    Ok((running.map_err(|error| error.to_string())?, admin))
}

/// Systemd hears of every reload, and how it went.
fn tell_of_reload(moment: Moment<'_>) {
    let reloaded = match moment {
        Moment::Begins => return tell_systemd(&[NotifyState::Reloading]),
        Moment::Ended(reloaded) => reloaded,
    };
    let status = match reloaded {
        Reloaded::Applied { generation, .. } => format!("generation {generation} is in force"),
        Reloaded::Invalid { .. } => "the new config is invalid, the old one was kept".to_owned(),
        Reloaded::TestsFailed { .. } => {
            "the tests of the new config fail, the old one was kept".to_owned()
        }
        Reloaded::NeedsRestart { .. } => {
            "the new config needs a restart, the old one was kept".to_owned()
        }
    };
    tell_systemd(&[NotifyState::Ready, NotifyState::Status(&status)]);
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

/// Tells systemd how far the process is; without `NOTIFY_SOCKET` nobody wants to know.
fn tell_systemd(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        log::warn!(error:% = error; "systemd was not told");
    }
}

/// Messages go to standard error; `RUST_LOG` says more or less of them than `telemetry.log.level`.
pub(super) fn log_to_stderr(level: Level) {
    let level = match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    };
    let filter = env_logger::Env::default().default_filter_or(format!(
        "{level},pingora_core=error,pingora_proxy=error,hickory_resolver=error,hickory_net=error",
    ));
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
