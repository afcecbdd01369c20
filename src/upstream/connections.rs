//! Connections to targets: how many, for how long, and whose they are.

use std::hash::BuildHasher as _;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::connectors::L4Connect;
use pingora::protocols::l4::socket::SocketAddr as Address;
use pingora::protocols::l4::stream::Stream;
use pingora::upstreams::peer::{HttpPeer, Peer as _};
use pingora::{Error, ErrorType, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use super::Spec;
use super::discovery::Written;
use super::member::Live;
use super::secure::STREAMS_MAX;
use crate::base::problem::{Place, Problem, Problems};
use crate::base::proxy_protocol::{self, Version};
use crate::base::units::Span;

/// How long an idle connection to a target is kept: less than most servers keep one, so that few requests meet one that is closed.
const IDLE_MAX: Duration = Duration::from_secs(55);

/// Connections to the targets of an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConnectionsSpec {
    /// How many connections one target may have in use; what is more goes to another target, or gets 503. Over HTTP/2 each stands for
    /// `http2_streams` requests. Default: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_per_target: Option<NonZeroU32>,
    /// How long a connection that nobody uses is kept. Default `55s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<Span>,
    /// How old a connection may be for a new request; those of one target are renewed at a time of their own. Default: any age.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Span>,
    /// How many requests share one connection of HTTP/2. Default 100, at most 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub http2_streams: Option<NonZeroU16>,
}

/// The most that `http2_streams` may be.
const HTTP2_STREAMS_MAX: u16 = 1000;

impl ConnectionsSpec {
    /// Reports what cannot be, where it stands at `place`.
    pub fn check(&self, place: &Place, problems: &mut Problems) {
        for (key, span) in [("idle", &self.idle), ("max_age", &self.max_age)] {
            if span.as_ref().is_some_and(|span| span.duration().is_zero()) {
                let problem = Problem::error("E030", place.key(key), "no time at all");
                problems.push(problem.hint("a time of 1ms or more"));
            }
        }
        if self
            .http2_streams
            .is_some_and(|streams| streams.get() > HTTP2_STREAMS_MAX)
        {
            let place = place.key("http2_streams");
            let problem = Problem::error("E030", place, "more requests than a connection takes");
            problems.push(problem.hint(format!("1 to {HTTP2_STREAMS_MAX}")));
        }
    }
}

/// Which version of the PROXY protocol a target is told the client by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Announce {
    /// The line of text.
    V1,
    /// The binary form.
    V2,
}

/// The two ends of a client's connection: its own, and the gateway's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ends {
    /// Who the client is; its port is 0 where only a proxy knows it.
    pub client: SocketAddr,
    /// Where it was connected to.
    pub gateway: SocketAddr,
}

/// The same, as run.
#[derive(Debug)]
pub(super) struct Connections {
    /// How many requests one target may have.
    pub(super) requests_max: Option<u32>,
    idle: Duration,
    max_age: Option<Duration>,
    pub(super) streams: usize,
    announce: Option<Version>,
}

impl Connections {
    /// What `spec` says of connections to `targets`.
    pub(super) fn of(spec: &Spec, targets: &[Written]) -> Self {
        let http2 = targets.iter().all(|written| written.manner.http2);
        let (spec, announce) = (spec.connections.as_ref(), spec.proxy_protocol);
        let span = |span: Option<&Span>| span.map(|span| span.duration());
        let streams = spec.and_then(|spec| spec.http2_streams);
        let streams = streams.map_or(STREAMS_MAX, |streams| usize::from(streams.get()));
        let each = if http2 {
            u32::try_from(streams).unwrap_or(u32::MAX)
        } else {
            1
        };
        let most = spec.and_then(|spec| spec.max_per_target);
        Self {
            requests_max: most.map(|most| most.get().saturating_mul(each)),
            idle: span(spec.and_then(|spec| spec.idle.as_ref())).unwrap_or(IDLE_MAX),
            max_age: span(spec.and_then(|spec| spec.max_age.as_ref())),
            streams,
            announce: announce.map(|announce| match announce {
                Announce::V1 => Version::One,
                Announce::V2 => Version::Two,
            }),
        }
    }

    /// Puts what is the same for all connections into what Pingora connects by.
    pub(super) fn apply(&self, peer: &mut HttpPeer) {
        peer.options.idle_timeout = Some(self.idle);
        if let Some(version) = self.announce {
            // As long as nobody's connection is passed on: a probe is our own.
            let header = proxy_protocol::write(version, None);
            peer.options.custom_l4 = Some(Arc::new(Announced {
                header,
                within: None,
            }));
        }
    }

    /// Whether targets are told the client.
    pub(super) const fn announces(&self) -> bool {
        self.announce.is_some()
    }

    /// Whether connections differ by when they are made, or for whom.
    pub(super) const fn differ(&self) -> bool {
        self.max_age.is_some() || self.announce.is_some()
    }

    /// Puts into `peer` what is different: connections are shared by requests of one client where it is announced, and, where they
    /// have a greatest age, by requests of one span of that length.
    pub(super) fn tell_apart(&self, peer: &mut HttpPeer, live: &Live, ends: Option<&Ends>) {
        let hasher = live.hasher();
        if let Some(age) = self.max_age {
            let age = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX).max(1);
            // The spans of different targets begin at different times: not all are renewed at once.
            let shift = hasher.hash_one(peer.address()) % age;
            let span = live.now().saturating_add(shift) / age;
            peer.group_key ^= hasher.hash_one(("age", span));
        }
        if let Some(version) = self.announce {
            peer.group_key ^= hasher.hash_one(("client", ends));
            let header =
                proxy_protocol::write(version, ends.map(|ends| (ends.client, ends.gateway)));
            peer.options.custom_l4 = Some(Arc::new(Announced {
                header,
                within: peer.options.connection_timeout,
            }));
        }
    }
}

/// Connects, and says first whose connection it is.
#[derive(Debug)]
struct Announced {
    header: Vec<u8>,
    within: Option<Duration>,
}

#[async_trait]
impl L4Connect for Announced {
    async fn connect(&self, address: &Address) -> Result<Stream> {
        let Some(address) = address.as_inet() else {
            return Error::e_explain(ErrorType::ConnectError, "no address of the internet");
        };
        let connecting = async {
            let mut stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            stream.write_all(&self.header).await?;
            Ok::<_, std::io::Error>(stream)
        };
        let connected = match self.within {
            Some(within) => tokio::time::timeout(within, connecting).await,
            None => Ok(connecting.await),
        };
        match connected {
            Ok(Ok(stream)) => Ok(Stream::from(stream)),
            Ok(Err(error)) => {
                let kind = error.kind();
                let unreachable = [ErrorKind::HostUnreachable, ErrorKind::NetworkUnreachable];
                let kind = if kind == ErrorKind::ConnectionRefused {
                    ErrorType::ConnectRefused
                } else if unreachable.contains(&kind) {
                    ErrorType::ConnectNoRoute
                } else {
                    ErrorType::ConnectError
                };
                Error::e_because(kind, "a target that is told its client", error)
            }
            Err(elapsed) => Error::e_because(
                ErrorType::ConnectTimedout,
                "a target that is told its client",
                elapsed,
            ),
        }
    }
}
