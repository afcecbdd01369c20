//! The process: sockets, tasks, signals, and their end.

mod arrival;
mod body;
mod breakers;
mod caps;
mod close;
mod conduct;
mod connection;
mod conversation;
mod deadline;
mod doors;
mod drain;
mod files;
mod flood;
mod frames;
mod handshake;
mod http2;
mod listener;
mod loan;
mod outbox;
mod pressure;
mod reload;
mod session;
mod sockets;
mod stream;
#[cfg(test)]
mod tests;
mod transport;
mod untaken;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use pingora::server::configuration::ServerConf;

use crate::base::clock::SharedClock;
use crate::base::control::Control;
use crate::base::task::{Spawner, TaskGuard};
use crate::call;
use crate::gateway::{Gateway, GrpcCalls, Proxy};
use crate::plan::{Plan, PlanHandle};
use crate::policy::auth::Means;
use crate::telemetry::Telemetry;
use crate::upstream::Names;
use caps::Caps;
use connection::Shared;
pub use doors::{OpenDoor, open as open_doors};
use drain::Drain;
pub use drain::Left;
pub use files::FileWatch;
use flood::Flood;
pub use listener::{Bound, bind};
use pressure::Pressure;
use reload::Parts;
pub use reload::{Candidate, Loader, Moment, Reloader};
use sockets::Sockets;
use untaken::AllUntaken;

/// How many idle connections to targets are kept, for each worker thread, where there are descriptors enough.
const POOL_SIZE: usize = 1024;
/// All of them together are one for so many connections that the process may have: else those to many targets would take the
/// descriptors that requests need.
const CONNECTIONS_FOR_IDLE: usize = 9;

/// A gateway that serves.
pub struct Running {
    addresses: Vec<(Arc<str>, String)>,
    tcp: Vec<SocketAddr>,
    shared: Arc<Shared>,
    /// Open for as long as this lives; their tasks end by themselves when it is time.
    _sockets: Arc<Mutex<Sockets>>,
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
    /// Nobody knows who may come in.
    #[error("{0}")]
    Unknown(String),
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
    let telemetry = Arc::new(Telemetry::new(&plan.telemetry.metrics)?);
    let log = &plan.telemetry.access_log;
    let opened = telemetry.open_access_log(log);
    opened.map_err(|error| StartError::AccessLog(log.file.clone(), error))?;
    telemetry.began_serving(clock.unix_millis() / 1000, plan.generation);
    let (means, proxy, grpc) = outside(names, &spawner, &clock, &telemetry);
    let calls = Arc::clone(&means.http);
    plan.prepare().await.map_err(StartError::Unknown)?;
    let tasks = plan.start(&means, &telemetry).await;
    let drain = Drain::new();
    let plans = Arc::new(PlanHandle::new(plan, tasks));
    let pressure = Pressure::default();
    let shared = Arc::new(Shared {
        plans: Arc::clone(&plans),
        proxy: Arc::new(proxy),
        telemetry: Arc::clone(&telemetry),
        clock: Arc::clone(&clock),
        shutdown: drain.shutdown(),
        drain,
        caps: Caps::new(pressure::connections_max()),
        flood: Flood::new(Arc::clone(&clock)),
        pressure: pressure.clone(),
        untaken: AllUntaken::default(),
        spawner: spawner.clone(),
    });
    let tcp = bound.iter().filter_map(Bound::tcp).collect();
    let sockets = Sockets::new(bound, Arc::clone(&shared));
    let addresses = sockets.addresses();
    let sockets = Arc::new(Mutex::new(sockets));
    let control = Arc::new(Reloader::new(Parts {
        plans,
        means,
        telemetry: Arc::clone(&telemetry),
        loader,
        sockets: Arc::clone(&sockets),
    }));
    control.note(shown);
    let mut open = vec![spawner.spawn(pressure.watch(Arc::clone(&shared.plans)))];
    for door in doors {
        let control: Arc<dyn Control> = Arc::clone(&control) as Arc<dyn Control>;
        let telemetry = Arc::clone(&telemetry);
        let shutdown = shared.shutdown.clone();
        open.push(doors::serve(door, control, telemetry, shutdown, &spawner));
    }
    prepare(calls, grpc);
    Ok(Running {
        addresses,
        tcp,
        _sockets: sockets,
        _doors: open,
        control,
        shared,
    })
}

/// Makes what calls connect by; requests are served meanwhile. Where there is no thread for it, the first call has to wait.
fn prepare(calls: Arc<call::Http>, grpc: Arc<GrpcCalls>) {
    let made = std::thread::Builder::new().name("connectors".to_owned());
    drop(made.spawn(move || {
        calls.prepare();
        grpc.prepare();
    }));
}

/// No request takes more turns through Pingora, whatever it tries in each.
const TURNS_MAX: usize = 128;

/// What tasks ask the world by, and the request path, with the connections to upstreams that both keep.
fn outside(
    names: Arc<dyn Names>,
    spawner: &Spawner,
    clock: &SharedClock,
    telemetry: &Arc<Telemetry>,
) -> (Means, Proxy, Arc<GrpcCalls>) {
    let threads = tokio::runtime::Handle::current().metrics().num_workers();
    let connections = usize::try_from(pressure::connections_max()).unwrap_or(usize::MAX);
    let idle = connections / CONNECTIONS_FOR_IDLE;
    let conf = ServerConf {
        threads,
        upstream_keepalive_pool_size: POOL_SIZE.min(idle / threads.max(1)).max(1),
        // The request path counts them itself: attempts, addresses of a name, connections that turned out to be dead.
        max_retries: TURNS_MAX,
        ..ServerConf::default()
    };
    let means = Means {
        names,
        spawner: spawner.clone(),
        clock: Arc::clone(clock),
        http: Arc::new(call::Http::new(&conf)),
    };
    let grpc = Arc::new(GrpcCalls::new(&conf));
    let gateway = Gateway {
        telemetry: Arc::clone(telemetry),
        calls: Arc::clone(&means.http),
        grpc: Arc::clone(&grpc),
    };
    (means, gateway.into_proxy(conf), grpc)
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running")
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

impl Running {
    /// The name of each listener with an address as a URL, in the order of the config, as it began.
    #[must_use]
    pub fn addresses(&self) -> &[(Arc<str>, String)] {
        &self.addresses
    }

    /// The TCP addresses, in the order of the config, as it began.
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
        &self.shared.telemetry
    }

    /// Ends: who waits to be accepted is still served, every answer is the last of its connection, requests in flight
    /// and connections that left HTTP may take as long as `runtime.drain` of the config in force says. Dropping the
    /// future ends at once. `tell` hears how many are left.
    pub async fn stop(self, tell: impl Fn(Left)) {
        self.control.stopping();
        let spans = self.shared.plans.load().drain;
        let Shared {
            drain, telemetry, ..
        } = &*self.shared;
        drain.run(spans, telemetry, tell).await;
    }
}
