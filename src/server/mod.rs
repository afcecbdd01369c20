//! The process: sockets, tasks, signals, and their end.

mod body;
mod connection;
mod deadline;
mod doors;
mod listener;
mod loan;
mod reload;
mod stream;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pingora::server::configuration::ServerConf;
use tokio::sync::watch;

use crate::base::clock::SharedClock;
use crate::base::control::Control;
use crate::base::task::{Spawner, TaskGuard};
use crate::exchange::HeadLimits;
use crate::gateway::{Gateway, Proxy};
use crate::plan::{Plan, PlanHandle};
use crate::telemetry::Telemetry;
use crate::upstream::Names;
use connection::Shared;
pub use doors::{OpenDoor, open as open_doors};
pub use listener::{Bound, bind};
use reload::Parts;
pub use reload::{Candidate, Loader, Moment, Reloader};

/// How many idle connections to targets are kept, for each worker thread.
const POOL_SIZE: usize = 1024;
/// How long requests in flight may take to end after a stop was asked for.
const DRAIN_MAX: Duration = Duration::from_secs(30);

/// A gateway that serves.
#[derive(Debug)]
pub struct Running {
    addresses: Vec<(Arc<str>, String)>,
    tcp: Vec<SocketAddr>,
    stop: watch::Sender<bool>,
    telemetry: Arc<Telemetry>,
    accepting: Vec<TaskGuard>,
    /// The doors of the admin interface stay open until the last request has ended.
    _doors: Vec<TaskGuard>,
    control: Arc<Reloader>,
}

/// Why a gateway does not begin to serve.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A mistake of ours.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// Requests would go unrecorded.
    #[error("cannot write the access log to {0}: {1}")]
    AccessLog(String, std::io::Error),
}

/// What a gateway finds around it.
pub struct Surroundings {
    /// Who knows the addresses of names.
    pub names: Arc<dyn Names>,
    /// The time.
    pub clock: SharedClock,
    /// Loads the config again.
    pub loader: Loader,
    /// The effective config, secrets hidden.
    pub shown: serde_json::Value,
    /// The doors of the admin interface.
    pub doors: Vec<OpenDoor>,
}

/// Begins to serve `plan` on sockets that are bound already. Must be called inside a runtime.
///
/// # Errors
/// See [`StartError`].
pub async fn start(
    plan: Plan,
    bound: Vec<Bound>,
    surroundings: Surroundings,
) -> Result<Running, StartError> {
    let Surroundings {
        names,
        clock,
        loader,
        shown,
        doors,
    } = surroundings;
    let spawner = Spawner::new(tokio::runtime::Handle::current());
    let telemetry = Arc::new(Telemetry::new()?);
    let log = &plan.telemetry.access_log;
    let opened = telemetry.open_access_log(log);
    opened.map_err(|error| StartError::AccessLog(log.file.clone(), error))?;
    telemetry.reloaded(clock.unix_millis() / 1000, plan.generation);
    let tasks = plan.start(&names, &spawner, &telemetry).await;
    let proxy = proxy(&telemetry);
    let (stop, shutdown) = watch::channel(false);
    let plans = Arc::new(PlanHandle::new(plan, tasks));
    let shared = Arc::new(Shared {
        plans: Arc::clone(&plans),
        proxy: Arc::new(proxy),
        telemetry: Arc::clone(&telemetry),
        clock: Arc::clone(&clock),
        shutdown,
        limits: HeadLimits::default(),
    });
    let addresses = bound
        .iter()
        .map(|bound| (Arc::clone(&bound.name), bound.url()));
    let addresses: Vec<(Arc<str>, String)> = addresses.collect();
    let control = Arc::new(Reloader::new(Parts {
        plans,
        names,
        spawner: spawner.clone(),
        telemetry: Arc::clone(&telemetry),
        clock,
        loader,
        addresses: addresses.clone(),
    }));
    control.note(shown);
    let mut open = Vec::new();
    for door in doors {
        let control: Arc<dyn Control> = Arc::clone(&control) as Arc<dyn Control>;
        let telemetry = Arc::clone(&telemetry);
        let shutdown = shared.shutdown.clone();
        open.push(doors::serve(door, control, telemetry, shutdown, &spawner));
    }
    let mut running = Running {
        addresses,
        tcp: Vec::new(),
        stop,
        telemetry,
        accepting: Vec::new(),
        _doors: open,
        control,
    };
    for bound in bound {
        running.tcp.extend(bound.tcp());
        running.accepting.push(spawner.spawn(listener::accept(
            bound,
            Arc::clone(&shared),
            spawner.clone(),
        )));
    }
    Ok(running)
}

/// The request path, with the connections to upstreams that it keeps.
fn proxy(telemetry: &Arc<Telemetry>) -> Proxy {
    let threads = tokio::runtime::Handle::current().metrics().num_workers();
    let conf = ServerConf {
        threads,
        upstream_keepalive_pool_size: POOL_SIZE,
        max_retries: 4,
        ..ServerConf::default()
    };
    let gateway = Gateway {
        telemetry: Arc::clone(telemetry),
    };
    gateway.into_proxy(conf)
}

impl Running {
    /// The name of each listener with an address as a URL, in the order of the config.
    #[must_use]
    pub fn addresses(&self) -> &[(Arc<str>, String)] {
        &self.addresses
    }

    /// The TCP addresses, in the order of the config.
    #[must_use]
    pub fn tcp(&self) -> &[SocketAddr] {
        &self.tcp
    }

    /// What may be asked of this gateway.
    #[must_use]
    pub fn control(&self) -> Arc<Reloader> {
        Arc::clone(&self.control)
    }

    /// The metrics.
    #[must_use]
    pub fn telemetry(&self) -> &Arc<Telemetry> {
        &self.telemetry
    }

    /// Takes no more connections and waits for the requests in flight, for 30 seconds at most.
    pub async fn stop(mut self) {
        self.control.stopping();
        self.accepting.clear();
        self.stop.send_replace(true);
        let drained = async {
            while self.telemetry.active() > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(DRAIN_MAX, drained).await.is_err() {
            log::warn!(requests = self.telemetry.active(); "requests in flight were cut off");
        }
    }
}
