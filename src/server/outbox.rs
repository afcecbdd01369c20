//! What waits to be sent to a client: memory is taken only while something does.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::transport::Transport;

/// Head and first piece of a body leave in one write.
const WAITING_MAX: usize = 16 * 1024;
/// Room for a head and a short body.
const ROOM: usize = 2 * 1024;

/// A transport that gathers short writes. An idle connection costs nothing here.
#[derive(Debug)]
pub(super) struct Outbox {
    io: Transport,
    waiting: BytesMut,
}

impl Outbox {
    pub(super) fn new(io: Transport) -> Self {
        Self {
            io,
            waiting: BytesMut::new(),
        }
    }

    pub(super) fn io(&self) -> &Transport {
        &self.io
    }

    pub(super) fn io_mut(&mut self) -> &mut Transport {
        &mut self.io
    }

    /// The transport; what waits is lost.
    pub(super) fn into_io(self) -> Transport {
        self.io
    }

    /// Whether something waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Sends what waits.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.waiting.is_empty() {
            match ready!(Pin::new(&mut self.io).poll_write(cx, &self.waiting))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => self.waiting.advance(sent),
            }
        }
        // The memory goes with what was in it.
        self.waiting = BytesMut::new();
        Poll::Ready(Ok(()))
    }

    /// Sends what waits and, in the same write where the transport can do that, what comes now; returns how much of that went.
    fn poll_both(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        while !self.waiting.is_empty() {
            let both = [IoSlice::new(&self.waiting), IoSlice::new(buf)];
            let sent = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, &both))?;
            let waited = self.waiting.len();
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            if sent > waited {
                self.waiting = BytesMut::new();
                return Poll::Ready(Ok(sent - waited));
            }
            self.waiting.advance(sent);
        }
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    /// Sees that so many bytes more have a place, or are too many to wait at all.
    fn poll_room(&mut self, cx: &mut Context<'_>, bytes: usize) -> Poll<io::Result<()>> {
        if self.waiting.len() + bytes > WAITING_MAX {
            return self.poll_send(cx);
        }
        if self.waiting.capacity() - self.waiting.len() < bytes {
            self.waiting.reserve(bytes.max(ROOM));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Outbox {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Outbox {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if buf.len() >= WAITING_MAX {
            return self.poll_both(cx, buf);
        }
        ready!(self.poll_room(cx, buf.len()))?;
        self.waiting.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes = bufs.iter().map(|buf| buf.len()).sum();
        ready!(self.poll_room(cx, bytes))?;
        if bytes >= WAITING_MAX {
            return Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        }
        for buf in bufs {
            self.waiting.extend_from_slice(buf);
        }
        Poll::Ready(Ok(bytes))
    }
    fn is_write_vectored(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use pingora::protocols::l4::stream::Stream as L4Stream;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// An outbox, and who reads what it sends.
    async fn pair() -> (Outbox, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let reader = TcpStream::connect(listener.local_addr().unwrap());
        let (reader, accepted) = tokio::join!(reader, listener.accept());
        let io = Transport::Plain(L4Stream::from(accepted.unwrap().0));
        (Outbox::new(io), reader.unwrap())
    }

    #[tokio::test]
    async fn what_waits_goes_out_in_its_order() {
        let (mut outbox, mut reader) = pair().await;
        let expected: Vec<u8> = (0u8..=250).cycle().take(200_000).collect();
        let pieces = [100, 900, 70_000, 10, 16_383, 16_384, 40, 60_000];
        let read = async {
            let mut got = Vec::new();
            reader.read_to_end(&mut got).await.unwrap();
            got
        };
        let write = async {
            let mut rest = &expected[..];
            for piece in pieces {
                let (now, later) = rest.split_at(piece);
                outbox.write_all(now).await.unwrap();
                rest = later;
            }
            outbox.write_all(rest).await.unwrap();
            outbox.shutdown().await.unwrap();
        };
        let (got, ()) = tokio::join!(read, write);
        assert!(got == expected, "{} bytes came", got.len());
    }

    #[tokio::test]
    async fn short_writes_wait_and_then_hold_no_memory() {
        let (mut outbox, mut reader) = pair().await;
        outbox.write_all(b"head ").await.unwrap();
        outbox.write_all(b"body").await.unwrap();
        assert!(!outbox.is_empty(), "nothing goes out before it is time");
        outbox.flush().await.unwrap();
        assert_eq!(outbox.waiting.capacity(), 0);
        let mut got = [0; 64];
        let length = reader.read(&mut got).await.unwrap();
        assert_eq!(&got[..length], b"head body", "in one piece");
    }
}
