//! `run`: the gateway in the foreground, until a signal ends it.

use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use sd_notify::NotifyState;

use super::args::{Format, Global, RunArgs};
use super::messages::{self, Teller};
use super::{Exit, check, report, say, test};
use crate::base::clock::SystemClock;
use crate::base::control::{Control as _, Reloaded, Tests};
use crate::base::task::Spawner;
use crate::config;
use crate::config::Loaded;
use crate::config::source::{self, Environment};
use crate::plan::Plan;
use crate::server::{self, Candidate, FileWatch, Left, Loader, Moment, Surroundings};
use crate::upstream::{Names, SystemNames};

/// How long the access log may take for its last records.
const LOG_PATIENCE: Duration = Duration::from_secs(1);
/// The least time between two signs of life, whatever the unit says.
const BEAT_MIN: Duration = Duration::from_millis(1);

/// How often the config is read again because a folder was not watched yet while it was read.
const READS_MAX: usize = 3;

/// Runs the gateway on the config file.
pub(super) fn run(args: &RunArgs, global: &Global) -> Exit {
    let files = match args.watch.then(FileWatch::new).transpose() {
        Ok(files) => files.map(Arc::new),
        Err(error) => {
            say(&format!(
                "error: cannot watch the files of the config: {error}"
            ));
            return Exit::Findings;
        }
    };
    let quiet = Global {
        format: Format::Json,
        ..global.clone()
    };
    let Some((loaded, plan)) = load(&quiet, files.as_deref()) else {
        return Exit::Config;
    };
    let log = &loaded.document.telemetry.log;
    messages::to_stderr(log);
    let path = global.config.clone().or_else(source::search);
    if let Some(path) = path.filter(|_| global.format == Format::Human) {
        Teller::of(log).say(&format!("using {}", path.display()));
    }
    let followed = files.clone();
    let loader: Loader = Arc::new(move |tests| match load(&quiet, followed.as_deref()) {
        Some((loaded, plan)) => candidate(&loaded, plan, tests),
        None => Candidate {
            plan: None,
            report: "error: the config is gone".to_owned(),
            failed_tests: None,
            shown: serde_json::Value::Null,
        },
    });
    let sources = Sources { loader, files };
    serve(&loaded, plan, global, sources, |_| {})
}

/// One worker has nobody to share work with: it needs no queues that others can take from, and no thread but this one.
fn runtime(threads: Option<u16>) -> tokio::runtime::Builder {
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    match threads.map_or_else(cores, usize::from) {
        1 => tokio::runtime::Builder::new_current_thread(),
        threads => {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(threads);
            builder
        }
    }
}

/// Loads the config, and watches its files where that is asked for.
fn load(global: &Global, files: Option<&FileWatch>) -> Option<(Loaded, Option<Plan>)> {
    let mut found = check::load(global, &Environment::Process)?;
    let Some(files) = files else {
        return Some(found);
    };
    let quiet = Global {
        format: Format::Json,
        ..global.clone()
    };
    for _ in 1..READS_MAX {
        if !files.follow(&found.0.paths()) {
            break;
        }
        found = check::load(&quiet, &Environment::Process)?;
    }
    Some(found)
}

/// Where a new config comes from.
pub(super) struct Sources {
    /// Loads it.
    pub(super) loader: Loader,
    /// Its files, where they are watched.
    pub(super) files: Option<Arc<FileWatch>>,
}

/// What a reload works with.
pub(super) fn candidate(loaded: &Loaded, plan: Option<Plan>, tests: Tests) -> Candidate {
    let plan = plan.filter(|_| !loaded.problems.any_error());
    let run = tests == Tests::Run && plan.is_some();
    Candidate {
        plan,
        report: report::plain(loaded),
        failed_tests: run.then(|| test::failures(loaded)).flatten(),
        shown: config::compared(loaded),
    }
}

/// Runs the gateway on a plan; `ready` hears the addresses.
pub(super) fn serve(
    loaded: &Loaded,
    plan: Option<Plan>,
    global: &Global,
    sources: Sources,
    ready: impl FnOnce(&[(Arc<str>, String)]),
) -> Exit {
    let teller = Teller::of(&loaded.document.telemetry.log);
    teller.report(loaded, global);
    let Some(plan) = plan.filter(|_| !loaded.problems.any_error()) else {
        return Exit::Config;
    };
    match runtime(plan.threads)
        .enable_all()
        .thread_name("worker")
        .build()
    {
        Ok(runtime) => {
            let shown = config::compared(loaded);
            let exit = runtime.block_on(until_stopped(plan, shown, sources, teller, ready));
            // A reload that is still reading files is not waited for.
            runtime.shutdown_background();
            exit
        }
        Err(error) => {
            teller.fail(&format!("cannot start worker threads: {error}"));
            Exit::Findings
        }
    }
}

async fn until_stopped(
    plan: Plan,
    shown: serde_json::Value,
    Sources { loader, files }: Sources,
    teller: Teller,
    ready: impl FnOnce(&[(Arc<str>, String)]),
) -> Exit {
    let signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => {
            teller.fail(&format!("cannot listen for signals: {error}"));
            return Exit::Findings;
        }
    };
    let (running, admin) = match start(plan, shown, loader).await {
        Ok(started) => started,
        Err(what) => {
            teller.fail(&what);
            return Exit::Findings;
        }
    };
    for (name, url) in running.addresses() {
        teller.say(&format!("listening on {name} {url}"));
    }
    for url in admin {
        teller.say(&format!("admin on {url}"));
    }
    ready(running.addresses());
    let control = running.control();
    control.watch(tell_of_reload);
    tell_systemd(&[
        NotifyState::Ready,
        NotifyState::Status("generation 1 is in force"),
    ]);
    let spawner = Spawner::new(tokio::runtime::Handle::current());
    let _watchdog = sd_notify::watchdog_enabled()
        .filter(|limit| !limit.is_zero())
        .map(|limit| spawner.spawn(feed(limit)));
    let _files = files.map(|files| {
        let control = Arc::clone(&control);
        spawner.spawn(async move { files.reload(control).await })
    });
    let Signals {
        mut end,
        mut hangup,
        ..
    } = signals;
    // In a task of its own: the end of the process waits for no reload.
    let _hangups = spawner.spawn(async move {
        while hangup.recv().await.is_some() {
            drop(control.reload(Tests::Skip).await);
        }
    });
    asked_to_end(&mut end).await;
    log::info!("stopping");
    let telemetry = Arc::clone(running.telemetry());
    tokio::select! {
        () = running.stop(tell_of_end) => {}
        () = asked_to_end(&mut end) => log::warn!(requests = telemetry.active(); "stopping at once"),
    }
    telemetry.flush(LOG_PATIENCE);
    Exit::Done
}

/// The signals that are listened to; left alone, each of them would end the process.
struct Signals {
    /// SIGTERM and SIGINT.
    end: [Signal; 2],
    hangup: Signal,
    /// SIGUSR1 and SIGUSR2, which mean nothing.
    _others: [Signal; 2],
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            end: [
                signal(SignalKind::terminate())?,
                signal(SignalKind::interrupt())?,
            ],
            hangup: signal(SignalKind::hangup())?,
            _others: [
                signal(SignalKind::user_defined1())?,
                signal(SignalKind::user_defined2())?,
            ],
        })
    }
}

async fn asked_to_end([terminate, interrupt]: &mut [Signal; 2]) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Tells systemd that the process is alive, twice in each `limit`. It runs where requests run: when they hang, it does.
async fn feed(limit: Duration) {
    let mut beat = tokio::time::interval((limit / 2).max(BEAT_MIN));
    loop {
        beat.tick().await;
        tell_systemd(&[NotifyState::Watchdog]);
    }
}

/// Systemd hears that this is the end, and how many are left.
fn tell_of_end(left: Left) {
    let Left {
        connections,
        requests,
    } = left;
    let status = format!("stopping, {connections} connections and {requests} requests left");
    tell_systemd(&[NotifyState::Stopping, NotifyState::Status(&status)]);
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

/// Tells systemd how far the process is; without `NOTIFY_SOCKET` nobody wants to know.
fn tell_systemd(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        log::warn!(error:% = error; "systemd was not told");
    }
}
