//! From a socket that was accepted to a connection that speaks HTTP: what has to happen before the first head.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::BytesMut;
use pingora::protocols::l4::stream::Stream as L4Stream;
use tokio::io::AsyncReadExt as _;

use super::caps::{Full, Seat, Turn};
use super::connection::{self, Shared};
use super::drain::Presence;
use super::flood::Arriving;
use super::handshake;
use super::http2;
use super::stream::ClientStream;
use super::transport::Transport;
use crate::base::proxy_protocol::{self, Header};
use crate::exchange::Fault;
use crate::plan::{Balancers, Clients, Entrance, Listener};
use crate::telemetry::ListenerMetrics;
use crate::tls::{Failure, Secured};

/// How one connection came in.
pub(super) struct Arrival {
    pub(super) listener: usize,
    pub(super) peer: Option<SocketAddr>,
    /// Whose requests are counted together; none for a proxy, which has many clients, and on a unix socket.
    pub(super) counted: Option<IpAddr>,
    /// What TLS told of the client; none without TLS.
    pub(super) secured: Option<Arc<Secured>>,
    pub(super) metrics: Arc<ListenerMetrics>,
}

/// What a connection speaks, once it stands.
#[expect(
    clippy::large_enum_variant,
    reason = "one a connection, and moved once"
)]
enum Speech {
    Http1(Box<ClientStream>),
    Http2(Transport),
}

/// Serves a socket to its end.
pub(super) async fn serve(
    io: L4Stream,
    arrival: Arrival,
    shared: Arc<Shared>,
    mut presence: Presence,
    _seat: Seat,
) {
    let plan = shared.plans.load();
    let Some(entered) = plan.listeners.get(arrival.listener) else {
        return;
    };
    if entered.entrance.tls.is_none()
        && !entered.entrance.h2c
        && entered.entrance.balancers.is_none()
    {
        drop(plan);
        let stream = Box::new(ClientStream::new(Transport::Plain(io)));
        // Each is as large as its protocol makes it: none pays for another's.
        return Box::pin(connection::serve(stream, arrival, shared, presence)).await;
    }
    // It is large, and over before the first request.
    let entering = Box::pin(enter(io, arrival, entered, &shared));
    let come = tokio::select! {
        biased;
        come = entering => come,
        () = presence.idle_over() => return,
    };
    let (speech, arrival) = match come {
        Ok(come) => come,
        Err(error) => {
            log::debug!(listener:% = entered.name, error:% = error; "nobody came in");
            return;
        }
    };
    drop(plan);
    match speech {
        Speech::Http1(stream) => {
            Box::pin(connection::serve(stream, arrival, shared, presence)).await;
        }
        Speech::Http2(io) => Box::pin(http2::serve(io, arrival, shared, presence)).await,
    }
}

/// Tells somebody for whom there is no place to come back later; only who speaks HTTP/1 without TLS understands.
pub(super) async fn turn_away(io: L4Stream, arrival: Arrival, shared: Arc<Shared>, _turn: Turn) {
    let plan = shared.plans.load();
    let listener = plan.listeners.get(arrival.listener);
    if listener.is_none_or(|listener| {
        let entrance = &listener.entrance;
        entrance.tls.is_some() || entrance.balancers.is_some() || !entrance.offer.http1
    }) {
        return;
    }
    let mut stream = ClientStream::new(Transport::Plain(io));
    connection::refuse(&mut stream, &shared, arrival.peer, Fault::Overload).await;
}

async fn enter(
    mut io: L4Stream,
    mut arrival: Arrival,
    entered: &Listener,
    shared: &Shared,
) -> io::Result<(Speech, Arrival)> {
    let (listener, clients) = (&entered.entrance, &entered.clients);
    if let Some(balancers) = &listener.balancers {
        let client = announced(&mut io, arrival.peer, balancers, clients).await?;
        if let Some(client) = client {
            arrival.peer = Some(client);
            // Only now it is known who comes.
            arrival.counted = entered.client(client.ip());
            if let Err(full) = admitted(&arrival, entered, shared) {
                arrival.metrics.refused(full.code());
                return Err(io::Error::other("a flood"));
            }
        }
    }
    let Some(site) = &listener.tls else {
        let speech = if listener.h2c {
            preface(Transport::Plain(io), listener, clients).await?
        } else {
            Speech::Http1(Box::new(ClientStream::new(Transport::Plain(io))))
        };
        return Ok((speech, arrival));
    };
    let metrics = &arrival.metrics;
    let fail = |failure: Failure| {
        metrics.unsecured(failure);
        io::Error::other(format!("no TLS: {}", failure.code()))
    };
    let secured = tokio::time::timeout(clients.handshake, handshake::secure(io, site)).await;
    let secured = secured.map_err(|_elapsed| fail(Failure::Timeout))?;
    let (stream, secured) = secured.map_err(fail)?;
    let http2 = stream.ssl().selected_alpn_protocol() == Some(b"h2");
    if !http2 && !listener.offer.http1 {
        return Err(fail(Failure::Alpn));
    }
    metrics.secured(handshake::version(stream.ssl()));
    arrival.secured = Some(secured);
    let io = Transport::Tls(Box::new(stream));
    let speech = if http2 {
        Speech::Http2(io)
    } else {
        Speech::Http1(Box::new(ClientStream::new(io)))
    };
    Ok((speech, arrival))
}

/// Counts one more connection of its address; an error if it is one of a flood, or too many before it had to be ended.
pub(super) fn admitted(arrival: &Arrival, entered: &Listener, shared: &Shared) -> Result<(), Full> {
    let Some(address) = arrival.counted else {
        return Ok(());
    };
    let (here, most) = (
        (arrival.listener, &*entered.name),
        entered.clients.connection_rate,
    );
    let flood = &shared.flood;
    if !flood.admits(Arriving::Connection, here, address, most) {
        Err(Full::Rate)
    } else if flood.is_misusing(arrival.listener, address) {
        Err(Full::Misuse)
    } else {
        Ok(())
    }
}

/// The client that a load balancer passes on; none if it is the one who is connected.
async fn announced(
    io: &mut L4Stream,
    peer: Option<SocketAddr>,
    balancers: &Balancers,
    clients: &Clients,
) -> io::Result<Option<SocketAddr>> {
    // Who can connect to a unix socket is said by its file.
    if !peer.is_none_or(|peer| balancers.from.contains(peer.ip())) {
        return if balancers.required {
            Err(io::Error::other("a peer that is no load balancer"))
        } else {
            Ok(None)
        };
    }
    let patience = if balancers.required {
        clients.handshake
    } else {
        clients.idle
    };
    let mut bytes = BytesMut::with_capacity(512);
    if tokio::time::timeout(patience, io.read_buf(&mut bytes)).await?? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let whole = async {
        loop {
            match proxy_protocol::read(&bytes) {
                Header::Partial => {}
                Header::Whole(length, client) => {
                    io.rewind(bytes.get(length..).unwrap_or_default());
                    return Ok(client);
                }
                Header::Absent if !balancers.required => {
                    io.rewind(&bytes);
                    return Ok(None);
                }
                Header::Absent | Header::Malformed => {
                    return Err(io::Error::other("no PROXY header as it should be"));
                }
            }
            if io.read_buf(&mut bytes).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    };
    tokio::time::timeout(clients.handshake, whole).await?
}

/// RFC 9113 section 3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Sees by its first bytes whether a client speaks HTTP/2; what was read is put back.
async fn preface(io: Transport, listener: &Entrance, clients: &Clients) -> io::Result<Speech> {
    let mut stream = Box::new(ClientStream::new(io));
    let first = tokio::time::timeout(clients.idle, stream.fill()).await??;
    if first == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let rest = async {
        while stream.ahead().len() < PREFACE.len() && PREFACE.starts_with(stream.ahead()) {
            if stream.fill().await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        io::Result::Ok(())
    };
    tokio::time::timeout(clients.handshake, rest).await??;
    if stream.ahead().starts_with(PREFACE) {
        return Ok(Speech::Http2(stream.into_transport()));
    }
    if listener.offer.http1 {
        Ok(Speech::Http1(stream))
    } else {
        Err(io::Error::other("HTTP/1 is not spoken here"))
    }
}
