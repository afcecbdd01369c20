//! A connection that carries frames of HTTP/2, as Pingora wants it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::Instant;

use super::conduct::{Conduct, Follower};
use super::transport::Transport;

/// RFC 9113 section 4.1 and 6.5.
const FRAME_HEAD_BYTES: usize = 9;
const SETTING_BYTES: usize = 6;
/// `SETTINGS_ENABLE_CONNECT_PROTOCOL` (RFC 8441 section 3).
const ENABLE_CONNECT_PROTOCOL: [u8; 2] = [0, 8];

/// The connection. The `h2` crate resets an extended CONNECT unless it is told to offer it; a browser that is offered it asks
/// for WebSockets in no other way. So it is told to, and what it then offers is taken back on its way out: the few that ask
/// all the same can be answered.
#[derive(Debug)]
pub(super) struct Frames {
    io: Transport,
    greeted: bool,
    follower: Follower,
    conduct: Arc<Conduct>,
}

impl Frames {
    /// What the client's frames say of it is noted in `conduct`.
    pub(super) fn new(io: Transport, conduct: Arc<Conduct>) -> Self {
        Self {
            io,
            greeted: false,
            follower: Follower::new(Instant::now()),
            conduct,
        }
    }
}

/// The first frame, its SETTINGS, without the offer.
fn modest(buf: &[u8]) -> Option<Vec<u8>> {
    let length = u32::from_be_bytes([0, *buf.first()?, *buf.get(1)?, *buf.get(2)?]);
    let end = FRAME_HEAD_BYTES + usize::try_from(length).ok()?;
    let mut frame = buf.get(..end)?.to_vec();
    let settings = frame.get_mut(FRAME_HEAD_BYTES..)?;
    for setting in settings.chunks_exact_mut(SETTING_BYTES) {
        if let [first, second, value @ ..] = setting
            && [*first, *second] == ENABLE_CONNECT_PROTOCOL
        {
            value.fill(0);
        }
    }
    Some(frame)
}

impl AsyncRead for Frames {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.conduct.is_unread() {
            // Whoever serves the connection says goodbye, or asks again.
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut this.io).poll_read(cx, buf);
        let new = buf.filled_mut().get_mut(before..).unwrap_or_default();
        if !new.is_empty() {
            let good = this.follower.read(new, &this.conduct);
            buf.set_filled(before + good);
            if good == 0 {
                // Nothing that was read is an end to whoever reads.
                return Poll::Pending;
            }
        }
        read
    }
}

impl AsyncWrite for Frames {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let first = if self.greeted { None } else { modest(buf) };
        let written = Pin::new(&mut self.io).poll_write(cx, first.as_deref().unwrap_or(buf));
        self.greeted |= written.is_ready();
        written
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.greeted {
            return Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        }
        let first = bufs.iter().find(|buf| !buf.is_empty());
        self.poll_write(cx, first.map_or(&[], |buf| buf))
    }
    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[async_trait]
impl Shutdown for Frames {
    async fn shutdown(&mut self) {
        // The client may be gone already: nothing is lost then.
        drop(AsyncWriteExt::shutdown(self).await);
    }
}

impl UniqueID for Frames {
    fn id(&self) -> UniqueIDType {
        self.io.id()
    }
}

impl Ssl for Frames {}

#[async_trait]
impl Peek for Frames {}

impl GetTimingDigest for Frames {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.io.timing()
    }
}

impl GetProxyDigest for Frames {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Frames {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.io.socket_digest()
    }
    fn set_socket_digest(&mut self, digest: SocketDigest) {
        self.io.set_socket_digest(digest);
    }
}

#[cfg(test)]
mod tests {
    use super::modest;

    #[test]
    fn the_offer_of_extended_connect_is_taken_back() {
        let mut frame = vec![0, 0, 12, 4, 0, 0, 0, 0, 0];
        frame.extend([0, 3, 0, 0, 0, 100, 0, 8, 0, 0, 0, 1]);
        let mut wanted = frame.clone();
        wanted[20] = 0;
        frame.extend(b"next");
        assert_eq!(modest(&frame), Some(wanted));
        assert_eq!(modest(&frame[..15]), None);
    }
}
