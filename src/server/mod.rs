//! The process: sockets, tasks, signals, and their end.

mod body;
mod connection;
mod listener;
mod loan;
mod stream;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pingora::server::configuration::ServerConf;
use tokio::sync::watch;

use crate::base::clock::SharedClock;
use crate::base::task::{Spawner, TaskGuard};
use crate::exchange::HeadLimits;
use crate::gateway::Gateway;
use crate::plan::{Plan, PlanHandle};
use crate::telemetry::Telemetry;
use crate::upstream::Names;
use connection::Shared;
pub use listener::{Bound, bind};

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
    _tasks: Vec<TaskGuard>,
}

/// Begins to serve `plan` on sockets that are bound already. Must be called inside a runtime.
///
/// # Errors
/// A mistake of ours in the metrics.
pub async fn start(
    plan: Plan,
    bound: Vec<Bound>,
    names: Arc<dyn Names>,
    clock: SharedClock,
) -> Result<Running, prometheus::Error> {
    let spawner = Spawner::new(tokio::runtime::Handle::current());
    let telemetry = Arc::new(Telemetry::new()?);
    let tasks = plan.start(&names, &spawner).await;
    let threads = tokio::runtime::Handle::current().metrics().num_workers();
    let conf = ServerConf {
        threads,
        upstream_keepalive_pool_size: POOL_SIZE,
        max_retries: 4,
        ..ServerConf::default()
    };
    let gateway = Gateway {
        telemetry: Arc::clone(&telemetry),
    };
    let proxy = gateway.into_proxy(conf);
    let (stop, shutdown) = watch::channel(false);
    let shared = Arc::new(Shared {
        plans: Arc::new(PlanHandle::new(plan)),
        proxy: Arc::new(proxy),
        telemetry: Arc::clone(&telemetry),
        clock,
        shutdown,
        limits: HeadLimits::default(),
    });
    let mut running = Running {
        addresses: Vec::new(),
        tcp: Vec::new(),
        stop,
        telemetry,
        accepting: Vec::new(),
        _tasks: tasks,
    };
    for bound in bound {
        running
            .addresses
            .push((Arc::clone(&bound.name), bound.url()));
        running.tcp.extend(bound.tcp());
        running.accepting.push(spawner.spawn(listener::accept(
            bound,
            Arc::clone(&shared),
            spawner.clone(),
        )));
    }
    Ok(running)
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

    /// The metrics.
    #[must_use]
    pub fn telemetry(&self) -> &Arc<Telemetry> {
        &self.telemetry
    }

    /// Takes no more connections and waits for the requests in flight, for 30 seconds at most.
    pub async fn stop(mut self) {
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
