//! What bytes come and go by: a socket, or TLS on one.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pingora::protocols::l4::stream::Stream as L4Stream;
use pingora::protocols::tls::SslStream;
use pingora::protocols::{
    GetSocketDigest as _, GetTimingDigest as _, SocketDigest, TimingDigest, UniqueID as _,
    UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The client's end.
#[expect(
    clippy::large_enum_variant,
    reason = "one a connection; without TLS it saves an allocation"
)]
#[derive(Debug)]
pub(super) enum Transport {
    /// The socket itself.
    Plain(L4Stream),
    /// TLS on it.
    Tls(Box<SslStream<L4Stream>>),
}

/// Does the same with either.
macro_rules! either {
    ($of:expr, $io:ident => $do:expr) => {
        match $of {
            Transport::Plain($io) => $do,
            Transport::Tls($io) => $do,
        }
    };
}

impl Transport {
    /// Puts back what was read; of TLS nothing is read before it is known what is spoken.
    pub(super) fn rewind(&mut self, bytes: &[u8]) {
        if let Self::Plain(io) = self {
            io.rewind(bytes);
        }
    }

    pub(super) fn id(&self) -> UniqueIDType {
        either!(self, io => io.id())
    }

    pub(super) fn timing(&self) -> Vec<Option<TimingDigest>> {
        either!(self, io => io.get_timing_digest())
    }

    pub(super) fn socket_digest(&self) -> Option<Arc<SocketDigest>> {
        either!(self, io => io.get_socket_digest())
    }

    pub(super) fn set_socket_digest(&mut self, digest: SocketDigest) {
        either!(self, io => io.set_socket_digest(digest));
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        either!(self.get_mut(), io => Pin::new(io).poll_read(cx, buf))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), io => Pin::new(io).poll_write(cx, buf))
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), io => Pin::new(io).poll_flush(cx))
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), io => Pin::new(io).poll_shutdown(cx))
    }
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        either!(self.get_mut(), io => Pin::new(io).poll_write_vectored(cx, bufs))
    }
    fn is_write_vectored(&self) -> bool {
        either!(self, io => io.is_write_vectored())
    }
}
