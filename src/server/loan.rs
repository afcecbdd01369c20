//! A client's connection, lent to Pingora for one request: it comes home also where Pingora would let go of it.

use std::io;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use async_trait::async_trait;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::stream::ClientStream;
use crate::gateway::Signals;

/// Where what was lent comes back to.
#[derive(Debug)]
pub(super) struct Home<T>(Arc<Mutex<Option<T>>>);

impl<T> Clone for Home<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Home<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

/// The connection while Pingora has it.
#[derive(Debug)]
pub(super) struct Loan {
    stream: Option<Box<ClientStream>>,
    home: Home<Box<ClientStream>>,
    signals: Arc<Signals>,
}

impl<T> Home<T> {
    /// It came back.
    pub(super) fn put(&self, lent: T) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(lent);
    }

    /// What was lent, when it came back.
    pub(super) fn take(&self) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Home<Box<ClientStream>> {
    /// Lends the connection for one request; the gateway tells by `signals` whether it may come back.
    pub(super) fn lend(&self, stream: Box<ClientStream>, signals: Arc<Signals>) -> Loan {
        Loan {
            stream: Some(stream),
            home: self.clone(),
            signals,
        }
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        // Also a request that was dropped gets an answer, if none began.
        let unanswered = !self.signals.watch.is_answered();
        let comes_home = unanswered || self.signals.goes_on.load(Ordering::Acquire);
        if let Some(stream) = self.stream.take().filter(|_| comes_home) {
            self.home.put(stream);
        }
    }
}

impl Loan {
    /// There is a stream until the loan is dropped.
    fn stream(&mut self) -> io::Result<Pin<&mut ClientStream>> {
        let stream = self.stream.as_deref_mut().map(Pin::new);
        stream.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl AsyncRead for Loan {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream()?.poll_read(cx, buf)
    }
}

impl AsyncWrite for Loan {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_shutdown(cx)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream()?.poll_write_vectored(cx, bufs)
    }
    fn is_write_vectored(&self) -> bool {
        let stream = self.stream.as_deref();
        stream.is_some_and(AsyncWrite::is_write_vectored)
    }
}

#[async_trait]
impl Shutdown for Loan {
    async fn shutdown(&mut self) {
        if let Some(stream) = &mut self.stream {
            // The client may be gone already: nothing is lost then.
            drop(AsyncWriteExt::shutdown(stream).await);
        }
    }
}

impl UniqueID for Loan {
    fn id(&self) -> UniqueIDType {
        let stream = self.stream.as_deref();
        stream.map_or(-1, |stream| stream.transport_ref().id())
    }
}

impl Ssl for Loan {}

#[async_trait]
impl Peek for Loan {}

impl GetTimingDigest for Loan {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        let stream = self.stream.as_deref();
        stream.map_or_else(Vec::new, |stream| stream.transport_ref().timing())
    }
}

impl GetProxyDigest for Loan {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for Loan {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.stream.as_deref()?.transport_ref().socket_digest()
    }
    fn set_socket_digest(&mut self, digest: SocketDigest) {
        if let Some(stream) = self.stream.as_deref_mut() {
            stream.transport().set_socket_digest(digest);
        }
    }
}
