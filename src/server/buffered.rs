//! What is written to a client, gathered so that head and first piece of a body leave together; while nothing waits, it has no memory.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

use super::transport::Transport;

/// Head and first piece of a body leave in one write.
const WRITE_BUFFER: usize = 16 * 1024;
/// Most answers have room in so much.
const WRITE_BUFFER_FIRST: usize = 4 * 1024;

/// A transport with what was written and has not gone out. Like tokio's `BufWriter`, but its memory can be given back.
#[derive(Debug)]
pub(super) struct Buffered {
    io: Transport,
    waiting: Vec<u8>,
    /// How much of it went.
    gone: usize,
}

impl Buffered {
    pub(super) const fn new(io: Transport) -> Self {
        Self {
            io,
            waiting: Vec::new(),
            gone: 0,
        }
    }

    pub(super) const fn get_ref(&self) -> &Transport {
        &self.io
    }

    pub(super) const fn get_mut(&mut self) -> &mut Transport {
        &mut self.io
    }

    /// What waits is lost.
    pub(super) fn into_inner(self) -> Transport {
        self.io
    }

    /// Whether nothing waits.
    pub(super) const fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Gives its memory back, if nothing waits.
    pub(super) fn rest(&mut self) {
        if self.is_empty() {
            self.waiting = Vec::new();
        }
    }

    /// Sends all that waits.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self
            .waiting
            .get(self.gone..)
            .filter(|rest| !rest.is_empty())
        {
            let sent = ready!(Pin::new(&mut self.io).poll_write(cx, rest))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.gone += sent;
        }
        self.waiting.clear();
        self.gone = 0;
        Poll::Ready(Ok(()))
    }

    /// Makes room for `length` bytes; `false`: they are too many to wait, and everything before them has gone out.
    fn poll_room(&mut self, cx: &mut Context<'_>, length: usize) -> Poll<io::Result<bool>> {
        if self.waiting.len() + length > WRITE_BUFFER {
            ready!(self.poll_send(cx))?;
        }
        if length >= WRITE_BUFFER {
            return Poll::Ready(Ok(false));
        }
        if self.waiting.capacity() == 0 {
            self.waiting.reserve(length.max(WRITE_BUFFER_FIRST));
        }
        Poll::Ready(Ok(true))
    }
}

impl AsyncWrite for Buffered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if ready!(self.poll_room(cx, buf.len()))? {
            self.waiting.extend_from_slice(buf);
            return Poll::Ready(Ok(buf.len()));
        }
        Pin::new(&mut self.io).poll_write(cx, buf)
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
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = bufs.iter().map(|buf| buf.len()).sum();
        if ready!(self.poll_room(cx, length))? {
            for buf in bufs {
                self.waiting.extend_from_slice(buf);
            }
            return Poll::Ready(Ok(length));
        }
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use pingora::protocols::l4::stream::Stream as L4Stream;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixStream;

    use super::*;

    fn pair() -> (Buffered, UnixStream) {
        let (here, there) = UnixStream::pair().unwrap();
        (Buffered::new(Transport::Plain(L4Stream::from(here))), there)
    }

    #[tokio::test]
    async fn what_is_small_waits_and_what_is_large_passes_it_in_order() {
        let (mut out, mut there) = pair();
        out.write_all(b"head").await.unwrap();
        let pieces = [io::IoSlice::new(b"er"), io::IoSlice::new(b"s ")];
        assert_eq!(out.write_vectored(&pieces).await.unwrap(), 4);
        assert!(there.try_read(&mut [0; 9]).is_err());
        let large = vec![b'b'; 3 * WRITE_BUFFER];
        let (sent, got) = tokio::join!(
            async {
                out.write_all(&large).await.unwrap();
                out.write_all(b"end").await.unwrap();
                out.shutdown().await
            },
            async {
                let mut got = Vec::new();
                there.read_to_end(&mut got).await.unwrap();
                got
            }
        );
        sent.unwrap();
        assert_eq!(got, [b"headers ", &large[..], b"end"].concat());
    }

    #[tokio::test]
    async fn nothing_is_held_while_it_rests() {
        let (mut out, mut there) = pair();
        assert_eq!(out.waiting.capacity(), 0);
        out.write_all(b"answer").await.unwrap();
        out.rest();
        assert!(!out.is_empty());
        out.flush().await.unwrap();
        out.rest();
        assert_eq!(out.waiting.capacity(), 0);
        let mut got = [0; 6];
        there.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"answer");
    }
}
