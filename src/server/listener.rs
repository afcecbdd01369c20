//! Sockets: bound before anything starts, then accepted from.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use pingora::protocols::l4::stream::Stream as L4Stream;
use pingora::protocols::{GetSocketDigest as _, SocketDigest};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener};
use tokio::sync::oneshot;

use super::arrival::{self, Arrival};
use super::caps::{Full, Seat};
use super::close;
use super::connection::Shared;
use super::drain::Presence;
use crate::base::forwarded::Scheme;
use crate::base::net::ListenAddress;
use crate::plan::{Listener, Plan};
use crate::telemetry::ListenerMetrics;

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 4096;
/// How long to wait when no descriptor is left.
const FULL_PAUSE: Duration = Duration::from_millis(50);

/// A socket that clients can connect to.
#[derive(Debug)]
pub struct Bound {
    /// The listener's name.
    pub name: Arc<str>,
    pub(super) listener: usize,
    scheme: Scheme,
    /// As it is written.
    pub(super) address: ListenAddress,
    pub(super) socket: Arc<Socket>,
}

/// A socket that connections are accepted from.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

/// Binds every address of the plan. Must be called inside a runtime.
///
/// # Errors
/// The first address that cannot be had, and why.
pub fn bind(plan: &Plan) -> Result<Vec<Bound>, (String, io::Error)> {
    let mut bound = Vec::new();
    for (index, listener) in plan.listeners.iter().enumerate() {
        for address in &listener.addresses {
            bound.push(Bound::open(index, listener, address)?);
        }
    }
    Ok(bound)
}

impl Bound {
    /// Binds one address of a listener.
    pub(super) fn open(
        number: usize,
        listener: &Listener,
        address: &ListenAddress,
    ) -> Result<Self, (String, io::Error)> {
        let socket = open(address).map_err(|error| (address.to_string(), error))?;
        Ok(Self::on(Arc::new(socket), number, listener, address))
    }

    /// One address of a listener, on a socket that is open already.
    pub(super) fn on(
        socket: Arc<Socket>,
        number: usize,
        listener: &Listener,
        address: &ListenAddress,
    ) -> Self {
        Self {
            name: Arc::clone(&listener.name),
            listener: number,
            scheme: match listener.entrance.tls {
                Some(_) => Scheme::Https,
                None => Scheme::Http,
            },
            address: address.clone(),
            socket,
        }
    }
}

fn open(address: &ListenAddress) -> io::Result<Socket> {
    match address {
        ListenAddress::Tcp(address) => {
            let socket = if address.is_ipv4() {
                TcpSocket::new_v4()?
            } else {
                TcpSocket::new_v6()?
            };
            socket.set_reuseaddr(true)?;
            socket.bind(*address)?;
            Ok(Socket::Tcp(socket.listen(BACKLOG)?))
        }
        ListenAddress::Unix(path) => Ok(Socket::Unix(unix(path)?, path.clone())),
    }
}

/// Binds a unix socket; one that nobody listens on is left over from a gateway that was killed.
pub(super) fn unix(path: &Path) -> io::Result<UnixListener> {
    if std::os::unix::net::UnixStream::connect(path).is_err() && path.exists() {
        std::fs::remove_file(path)?;
    }
    UnixListener::bind(path)
}

impl Bound {
    /// The address as a URL: `http://127.0.0.1:8080`, or `unix:/run/doorward/http.sock`.
    #[must_use]
    pub fn url(&self) -> String {
        match &*self.socket {
            Socket::Tcp(socket) => {
                let scheme = self.scheme.as_str();
                let address = socket.local_addr();
                let address = address.map_or_else(|_| "?".to_owned(), |it| it.to_string());
                format!("{scheme}://{address}")
            }
            Socket::Unix(_, path) => format!("unix:{}", path.display()),
        }
    }

    /// The TCP address.
    #[must_use]
    pub fn tcp(&self) -> Option<SocketAddr> {
        match &*self.socket {
            Socket::Tcp(socket) => socket.local_addr().ok(),
            Socket::Unix(..) => None,
        }
    }
}

/// Accepts connections until the process is to stop, or the socket is for nobody any more (`stop` is dropped): then
/// those that wait already, and no more. What is counted of it can be read from now on.
pub(super) fn accept(
    bound: Bound,
    shared: Arc<Shared>,
    stop: oneshot::Receiver<()>,
    presence: Presence,
) -> impl Future<Output = ()> + Send + 'static {
    let metrics = Arc::new(shared.telemetry.listener(&bound.name));
    accepting(bound, shared, metrics, (stop, presence))
}

async fn accepting(
    bound: Bound,
    shared: Arc<Shared>,
    metrics: Arc<ListenerMetrics>,
    (stop, mut presence): (oneshot::Receiver<()>, Presence),
) {
    let Bound {
        name,
        listener,
        socket,
        ..
    } = bound;
    let count = shared.caps.listener(&name);
    let serve = |stream, peer| {
        let (shared, presence) = (Arc::clone(&shared), shared.drain.join());
        let spawner = shared.spawner.clone();
        let mut arrival = Arrival {
            listener,
            peer,
            counted: None,
            secured: None,
            metrics: Arc::clone(&metrics),
        };
        match seat(&shared, &count, &mut arrival) {
            Ok(seat) => {
                let connected = metrics.connected();
                let entered = arrival::serve(stream, arrival, shared, presence, seat);
                spawner.detach(async move {
                    entered.await;
                    drop(connected);
                });
            }
            Err(full) => {
                metrics.refused(full.code());
                if let Some(turn) = shared.caps.turn_away(full) {
                    spawner.detach(arrival::turn_away(stream, arrival, shared, turn));
                }
            }
        }
    };
    let mut stop = std::pin::pin!(stop);
    loop {
        let next = tokio::select! {
            biased;
            () = presence.asked_to_stop() => break,
            _ = &mut stop => break,
            next = next(&socket) => next,
        };
        match next {
            Ok((stream, peer)) => serve(stream, peer),
            Err(error) if is_passing(&error) => {}
            Err(error) => {
                log::warn!(listener:% = name, error:% = error; "cannot accept");
                tokio::time::sleep(FULL_PAUSE).await;
            }
        }
    }
    // Else it went to another listener.
    let Ok(socket) = Arc::try_unwrap(socket) else {
        return;
    };
    if let Err(error) = close::gently(socket, serve).await {
        log::warn!(listener:% = name, error:% = error; "who waited to be accepted may be lost");
    }
}

/// A seat for one more connection, if there is one; notes by whose address it is counted.
fn seat(shared: &Shared, count: &Arc<AtomicU32>, arrival: &mut Arrival) -> Result<Seat, Full> {
    let plan = shared.plans.load();
    let Some(listener) = plan.listeners.get(arrival.listener) else {
        return shared.caps.enter(count, None, None);
    };
    let clients = &listener.clients;
    let balancers = listener.entrance.balancers.as_ref();
    let is_balancer = |ip: &IpAddr| balancers.is_some_and(|balancers| balancers.from.contains(*ip));
    let ip = arrival.peer.map(|peer| peer.ip());
    let ip = ip.filter(|ip| !is_balancer(ip));
    arrival.counted = ip.and_then(|ip| listener.client(ip));
    arrival::admitted(arrival, listener, shared)?;
    let of_one = arrival.counted.map(|ip| (ip, clients.connections_per_ip));
    shared.caps.enter(count, clients.connections, of_one)
}

pub(super) async fn next(socket: &Socket) -> io::Result<(L4Stream, Option<SocketAddr>)> {
    match socket {
        Socket::Tcp(socket) => {
            let (stream, peer) = socket.accept().await?;
            stream.set_nodelay(true)?;
            Ok((of_tcp(stream), Some(peer)))
        }
        Socket::Unix(socket, _) => {
            let (stream, _) = socket.accept().await?;
            Ok((L4Stream::from(stream), None))
        }
    }
}

/// A connection as Pingora wants it; its addresses are looked up when somebody asks.
pub(super) fn of_tcp(stream: TcpStream) -> L4Stream {
    let digest = SocketDigest::from_raw_fd(stream.as_raw_fd());
    let mut stream = L4Stream::from(stream);
    stream.set_socket_digest(digest);
    stream
}

/// The client was gone before it was accepted.
pub(super) fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}
