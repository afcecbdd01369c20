//! A client's connection: it gives Pingora one request at a time, and keeps what belongs to the next.
//!
//! Pingora never sees a byte beyond the request it works on: the body ends where its framing says, strictly read, and what a
//! client sends after it waits here until the next head is taken.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::body::BodyEnd;
use super::conversation::Conversation;
use super::outbox::Outbox;
use super::transport::Transport;
use crate::gateway::Signals;

/// How much is read at once: a head with a short body behind it, which then goes to the upstream in one piece.
const READ_BUFFER: usize = 16 * 1024;
/// How much of a WebSocket is read at once.
const HEARD_BYTES: usize = 16 * 1024;
/// How much of the next request waits while one is served; beyond that the client waits.
const AHEAD_MAX: usize = 64 * 1024;

/// A client's connection.
#[derive(Debug)]
pub(super) struct ClientStream {
    io: Outbox,
    /// Read, but not yet given to anybody.
    ahead: BytesMut,
    end: BodyEnd,
    signals: Arc<Signals>,
    /// The WebSocket that this became, where its route has rules for it.
    conversation: Option<Box<Conversation>>,
}

impl ClientStream {
    pub(super) fn new(io: Transport) -> Self {
        let ahead = BytesMut::new();
        Self {
            io: Outbox::new(io),
            ahead,
            end: BodyEnd::none(),
            signals: Arc::default(),
            conversation: None,
        }
    }

    /// What it comes by.
    pub(super) fn transport(&mut self) -> &mut Transport {
        self.io.io_mut()
    }

    /// The same, to look at.
    pub(super) fn transport_ref(&self) -> &Transport {
        self.io.io()
    }

    /// What it comes by, with what was read put back.
    pub(super) fn into_transport(self) -> Transport {
        let mut io = self.io.into_io();
        io.rewind(&self.ahead);
        io
    }

    /// What was read and not given to anybody.
    pub(super) fn ahead(&self) -> &[u8] {
        &self.ahead
    }

    /// Reads more. `Ok(0)`: the client is done.
    pub(super) async fn fill(&mut self) -> io::Result<usize> {
        poll_fn(|cx| self.poll_fill(cx)).await
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        // Who waits for long, as between two requests, holds no memory meanwhile, and a short head takes no more than it needs.
        let mut space = [const { MaybeUninit::uninit() }; READ_BUFFER];
        let mut read = ReadBuf::uninit(&mut space);
        ready!(Pin::new(self.io.io_mut()).poll_read(cx, &mut read))?;
        self.ahead.extend_from_slice(read.filled());
        Poll::Ready(Ok(read.filled().len()))
    }

    /// Takes the first `length` bytes.
    pub(super) fn take(&mut self, length: usize) -> BytesMut {
        if length >= self.ahead.len() {
            return std::mem::take(&mut self.ahead);
        }
        self.ahead.split_to(length)
    }

    /// The request that begins now ends as `end` says; the gateway tells by `signals` when both sides leave HTTP.
    pub(super) fn begin(&mut self, end: BodyEnd, signals: Arc<Signals>) {
        self.end = end;
        self.signals = signals;
        self.conversation = None;
    }

    /// Nothing of the body is left on the way.
    pub(super) fn is_between_requests(&self) -> bool {
        self.end.is_reached()
    }

    /// Passes on what is part of the body; keeps the rest.
    fn pass(&mut self, buf: &mut ReadBuf<'_>, before: usize) -> io::Result<()> {
        let fresh = buf.filled().get(before..).unwrap_or_default();
        let taken = self.end.accept(fresh)?;
        if let Some(rest) = fresh.get(taken..).filter(|rest| !rest.is_empty()) {
            self.ahead.extend_from_slice(rest);
            buf.set_filled(before + taken);
        }
        Ok(())
    }

    /// The body is over: only the client's leaving is of interest now, and what it sends is kept.
    fn poll_leaving(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.ahead.len() >= AHEAD_MAX {
                return Poll::Pending;
            }
            let mut scratch = [0u8; 2048];
            let mut buf = ReadBuf::new(&mut scratch);
            ready!(Pin::new(self.io.io_mut()).poll_read(cx, &mut buf))?;
            if buf.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.ahead.extend_from_slice(buf.filled());
        }
    }
}

/// A WebSocket that has rules.
impl ClientStream {
    /// Whether it is one.
    fn converses(&mut self) -> bool {
        if self.conversation.is_none()
            && let Some(rules) = self.signals.websocket.get()
        {
            let signals = Arc::clone(&self.signals);
            self.conversation = Some(Conversation::begin(*rules, signals));
        }
        self.conversation.is_some()
    }

    /// Reads what is for the upstream.
    fn poll_hear(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let Some(conversation) = &mut self.conversation else {
                return Poll::Ready(Ok(()));
            };
            conversation.tick(cx);
            let length = conversation.up.len().min(buf.remaining());
            if length > 0 {
                buf.put_slice(&conversation.up.split_to(length));
                return Poll::Ready(Ok(()));
            }
            // What is ours goes out now, as far as the client takes it.
            if let Poll::Ready(Err(error)) = self.poll_told(cx) {
                return Poll::Ready(Err(error));
            }
            if !self.io.is_empty()
                && let Poll::Ready(Err(error)) = Pin::new(&mut self.io).poll_flush(cx)
            {
                return Poll::Ready(Err(error));
            }
            let mut heard = self.ahead.split();
            if heard.is_empty() {
                let mut space = [0; HEARD_BYTES];
                let mut read = ReadBuf::new(&mut space);
                ready!(Pin::new(self.io.io_mut()).poll_read(cx, &mut read))?;
                if read.filled().is_empty() {
                    return Poll::Ready(Ok(()));
                }
                heard.extend_from_slice(read.filled());
            }
            if let Some(conversation) = &mut self.conversation {
                conversation.hear_client(&heard);
            }
        }
    }

    /// Takes what the upstream sends.
    fn poll_say(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_told(cx))?;
        if let Some(conversation) = &mut self.conversation {
            conversation.hear_upstream(bytes);
        }
        match self.poll_told(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(bytes.len())),
        }
    }

    /// Writes what is for the client.
    fn poll_told(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(conversation) = &mut self.conversation
            && !conversation.down.is_empty()
        {
            let written = Pin::new(&mut self.io).poll_write(cx, &conversation.down);
            self.signals.watch.wrote(went(&written));
            let written = ready!(written)?;
            conversation
                .down
                .advance(written.min(conversation.down.len()));
        }
        Poll::Ready(Ok(()))
    }
}

/// How much of it went.
fn went(written: &Poll<io::Result<usize>>) -> Poll<usize> {
    match written {
        Poll::Pending => Poll::Pending,
        Poll::Ready(written) => Poll::Ready(*written.as_ref().unwrap_or(&0)),
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        // Who waits for the client has written what there is: it goes out now, also when it is part of a counted body.
        if !this.io.is_empty()
            && let Poll::Ready(Err(error)) = Pin::new(&mut this.io).poll_flush(cx)
        {
            return Poll::Ready(Err(error));
        }
        let tunnel = this.signals.tunnel.load(Ordering::Acquire);
        if tunnel && this.converses() {
            return this.poll_hear(cx, buf);
        }
        if this.end.is_reached() && !tunnel {
            if this.signals.watch.lets_go() {
                // Pingora lets go of an attempt when its client fails: the client stays, and so does the request.
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            return this.poll_leaving(cx);
        }
        let before = buf.filled().len();
        if this.ahead.is_empty() {
            let read = Pin::new(this.io.io_mut()).poll_read(cx, buf);
            if !tunnel {
                let bytes = buf.filled().len() - before;
                this.signals.watch.read(if read.is_ready() {
                    Poll::Ready(bytes)
                } else {
                    Poll::Pending
                });
            }
            ready!(read)?;
        } else {
            let length = this.ahead.len().min(buf.remaining());
            buf.put_slice(this.ahead.get(..length).unwrap_or_default());
            this.ahead.advance(length);
        }
        if tunnel {
            return Poll::Ready(Ok(()));
        }
        // What was put back is in front of what is still ahead.
        let kept = this.ahead.split();
        this.pass(buf, before)?;
        this.ahead.unsplit(kept);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.converses() {
            return self.poll_say(cx, buf);
        }
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.signals.watch.wrote(went(&written));
        written
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.converses() {
            ready!(self.poll_told(cx))?;
        }
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.signals.watch.wrote(match &flushed {
            Poll::Ready(_) => Poll::Ready(0),
            Poll::Pending => Poll::Pending,
        });
        flushed
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.converses() {
            let first = bufs.iter().find(|buf| !buf.is_empty());
            return self.poll_say(cx, first.map_or(&[], |buf| buf));
        }
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.signals.watch.wrote(went(&written));
        written
    }
    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use pingora::protocols::l4::stream::Stream as L4Stream;
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn who_waits_for_a_request_holds_no_memory() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (client, accepted) = tokio::join!(client, listener.accept());
        let mut client = client.unwrap();
        let io = Transport::Plain(L4Stream::from(accepted.unwrap().0));
        let mut stream = ClientStream::new(io);
        for _ in 0..2 {
            let waiting = poll_fn(|cx| Poll::Ready(stream.poll_fill(cx).is_pending()));
            assert!(waiting.await, "nothing was sent");
            assert_eq!(stream.ahead.capacity(), 0);
            client.write_all(&[b'x'; 9000]).await.unwrap();
            let mut got = 0;
            while got < 9000 {
                got += stream.fill().await.unwrap();
            }
            assert_eq!(ClientStream::take(&mut stream, 9000).len(), 9000);
        }
    }
}
