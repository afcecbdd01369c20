//! Connections for requests that want to leave HTTP: what is read there waits until what was to be sent is sent.
//!
//! Pingora takes a 101 that comes before it noticed the end of the (empty) request body for the beginning of that end, and
//! closes. So the first read after a write takes one turn more.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use pingora::connectors::L4Connect;
use pingora::protocols::l4::socket::SocketAddr as PeerAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::l4::virt::{VirtualSockOpt, VirtualSocket, VirtualSocketStream};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, OrErr, Result};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Keeps these connections apart in the pool, where they stay for no time.
const APART: u64 = 1 << 63;

/// Lets `peer` be connected to for a request that wants to leave HTTP.
pub fn for_upgrade(peer: &mut HttpPeer) {
    afresh(peer);
    peer.options.custom_l4 = Some(Arc::new(Connector));
}

/// Lets `peer` be connected to anew, whatever is kept: those before may all be dead. No other that was made so is like it, which may
/// still be on its way out of the pool.
pub fn afresh(peer: &mut HttpPeer) {
    peer.group_key = APART | fastrand::u64(..);
    peer.options.idle_timeout = Some(Duration::ZERO);
}

#[derive(Debug)]
struct Connector;

#[async_trait]
impl L4Connect for Connector {
    async fn connect(&self, addr: &PeerAddr) -> Result<Stream> {
        let Some(addr): Option<SocketAddr> = addr.as_inet().copied() else {
            return Err(Error::explain(ErrorType::ConnectError, "no address"));
        };
        let io = TcpStream::connect(addr).await;
        let io = io.or_err(ErrorType::ConnectError, "connecting for an upgrade")?;
        io.set_nodelay(true)
            .or_err(ErrorType::ConnectError, "a socket without delay")?;
        let socket = Box::new(Patient { io, wrote: false });
        Ok(Stream::from(VirtualSocketStream::new(socket)))
    }
}

#[derive(Debug)]
struct Patient {
    io: TcpStream,
    /// Nothing was read since.
    wrote: bool,
}

impl VirtualSocket for Patient {
    fn set_socket_option(&self, option: VirtualSockOpt) -> io::Result<()> {
        if matches!(option, VirtualSockOpt::NoDelay) {
            return self.io.set_nodelay(true);
        }
        // A tunnel has its own ways to find out who is gone.
        Ok(())
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.wrote) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.wrote = true;
        Pin::new(&mut self.io).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
