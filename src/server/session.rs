//! One stream of HTTP/2, lent to Pingora for its request: it comes home where the request is dropped, so that it can be
//! answered; and what its client takes of an answer is seen.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;
use h2::{Reason, SendStream};
use http::header::CONTENT_LENGTH;
use http::response::Parts as ResponseParts;
use http::{HeaderMap, Method};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Digest;
use pingora::protocols::http::HttpTask;
use pingora::protocols::http::custom::CustomMessageWrite;
use pingora::protocols::http::custom::server::Session;
use pingora::protocols::http::v2::server::HttpSession;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::{Error, ErrorType, OrErr as _, Result};
use tokio::time::timeout;

use super::untaken::Untaken;
use crate::exchange::unbind_values;
use crate::gateway::{Returned, Signals};

/// The stream while Pingora has it. The head of the answer goes out as Pingora's own session sends it, the body as it is
/// done here.
pub(super) struct StreamLoan {
    /// There is one until the loan is dropped.
    session: Option<HttpSession>,
    head: RequestHeader,
    signals: Arc<Signals>,
    /// By which the answer's body goes, once its head went.
    body: Option<SendStream<Bytes>>,
    /// The answer is whole.
    ended: bool,
    sent: usize,
    write_timeout: Option<Duration>,
    untaken: Arc<Untaken>,
    /// How much of the answer is here, and in pieces of how many bytes.
    waiting: usize,
    piece: usize,
}

impl StreamLoan {
    /// Lends a stream for its request.
    ///
    /// # Errors
    /// A mistake of ours.
    pub(super) fn new(
        mut session: HttpSession,
        signals: Arc<Signals>,
        (write_timeout, untaken): (Duration, Arc<Untaken>),
    ) -> Result<Self> {
        Ok(Self {
            head: std::mem::replace(session.req_header_mut(), nothing()?),
            session: Some(session),
            signals,
            body: None,
            ended: false,
            sent: 0,
            write_timeout: Some(write_timeout),
            untaken,
            waiting: 0,
            piece: 0,
        })
    }

    fn session(&mut self) -> Result<&mut HttpSession> {
        let session = self.session.as_mut();
        session.ok_or_else(|| Error::new(ErrorType::InternalError))
    }

    /// Waits until the client takes something more; returns how much.
    async fn room(&mut self, wanted: usize) -> Result<usize> {
        let Some(body) = self.body.as_mut() else {
            return Error::e_explain(ErrorType::H2Error, "a body before its head");
        };
        body.reserve_capacity(wanted);
        if body.capacity() > 0 {
            return Ok(body.capacity());
        }
        let watch = &self.signals.watch;
        let _held = self.untaken.hold(self.waiting.max(wanted), self.piece);
        let room = poll_fn(|cx| {
            let room = body.poll_capacity(cx);
            if room.is_pending() {
                watch.wrote(Poll::Pending);
            }
            room
        });
        let waited = match self.write_timeout {
            Some(time) => timeout(time, room).await,
            None => Ok(room.await),
        };
        match waited {
            Ok(Some(room)) => room.or_err(ErrorType::H2Error, "no room in the stream"),
            Ok(None) => Error::e_explain(ErrorType::WriteError, "the stream is over"),
            Err(_) => Error::e_explain(ErrorType::WriteTimedout, "the client takes nothing"),
        }
    }

    fn send(&mut self, data: Bytes, then: Then) -> Result<()> {
        let Some(body) = self.body.as_mut() else {
            return Error::e_explain(ErrorType::H2Error, "a body before its head");
        };
        let length = data.len();
        let sent = body.send_data(data, then == Then::End);
        sent.or_err(ErrorType::WriteError, "the stream takes no data")?;
        self.sent += length;
        self.waiting = self.waiting.saturating_sub(length);
        self.ended |= then == Then::End;
        self.signals.watch.wrote(Poll::Ready(length));
        Ok(())
    }

    async fn write(&mut self, mut data: Bytes, then: Then) -> Result<()> {
        if self.ended {
            return Ok(());
        }
        if data.is_empty() && then == Then::End {
            return self.send(data, then);
        }
        while !data.is_empty() {
            let room = self.room(data.len()).await?;
            let piece = data.split_to(room.min(data.len()));
            self.send(piece, if data.is_empty() { then } else { Then::More })?;
        }
        Ok(())
    }

    /// The client gave the stream up.
    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<Result<Reason>> {
        if self.signals.watch.lets_go() {
            // Pingora lets go of an attempt when its client fails: the client stays, and so does the request.
            return Poll::Ready(Error::e_explain(
                ErrorType::ReadTimedout,
                "no answer in time",
            ));
        }
        if let Some(body) = self.body.as_mut() {
            let reset = body.poll_reset(cx);
            return reset.map_err(|error| gone(error).into_down());
        }
        match self.session() {
            Ok(session) => std::pin::pin!(session.idle()).poll(cx),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    fn end(&mut self) -> Result<()> {
        // Without a head there is nothing to be ended: the stream is reset when it is dropped.
        if self.ended || self.body.is_none() {
            return Ok(());
        }
        self.send(Bytes::new(), Then::End)
    }
}

/// What follows a piece of an answer's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    More,
    End,
}

impl From<bool> for Then {
    /// As Pingora says it.
    fn from(end: bool) -> Self {
        if end { Self::End } else { Self::More }
    }
}

/// Stands where a head was.
fn nothing() -> Result<RequestHeader> {
    RequestHeader::build_no_case(Method::GET, b"/", Some(0))
}

fn gone(error: h2::Error) -> Box<Error> {
    Error::because(ErrorType::H2Error, "the client is gone", error)
}

impl Drop for StreamLoan {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        if let (Some(session), Ok(nothing)) = (self.session.take(), nothing()) {
            let head = std::mem::replace(&mut self.head, nothing);
            self.signals.stream.put(Returned {
                stream: session,
                head,
            });
        }
    }
}

#[async_trait]
impl Session for StreamLoan {
    fn req_header(&self) -> &RequestHeader {
        &self.head
    }
    fn req_header_mut(&mut self) -> &mut RequestHeader {
        &mut self.head
    }
    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        self.session()?.read_body_bytes().await
    }
    async fn drain_request_body(&mut self) -> Result<()> {
        self.session()?.drain_request_body().await
    }
    async fn write_response_header(&mut self, head: Box<ResponseHeader>, end: bool) -> Result<()> {
        let session = self.session()?;
        let mut parts = ResponseParts::from(*head);
        unbind_values(&mut parts.headers);
        session.write_response_header(Box::new(parts.into()), end)?;
        // Interim answers are not sent, and begin nothing.
        if session.response_written().is_some() && self.body.is_none() {
            self.body = self.session()?.take_response_body_writer();
            self.ended = end;
        }
        Ok(())
    }
    async fn write_response_header_ref(&mut self, head: &ResponseHeader, end: bool) -> Result<()> {
        self.write_response_header(Box::new(head.clone()), end)
            .await
    }
    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        let written = self.write(data, end.into()).await;
        written.map_err(|error| error.into_down())
    }
    async fn write_trailers(&mut self, mut trailers: HeaderMap) -> Result<()> {
        unbind_values(&mut trailers);
        let Some(body) = self.body.as_mut().filter(|_| !self.ended) else {
            return Ok(());
        };
        let sent = body.send_trailers(trailers);
        self.ended = true;
        sent.or_err(ErrorType::WriteError, "the stream takes no trailers")
    }
    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        let mut over = false;
        for task in &tasks {
            if let HttpTask::Body(Some(data), _) = task {
                self.waiting += data.len();
                self.piece = self.piece.max(data.len());
            }
        }
        for task in tasks {
            over |= match task {
                HttpTask::Header(head, end) => {
                    let written = self.write_response_header(head, end).await;
                    written.map_err(|error| error.into_down())?;
                    end
                }
                HttpTask::Body(data, end) => {
                    let data = data.unwrap_or_default();
                    let written = self.write(data, end.into()).await;
                    written.map_err(|error| error.into_down())?;
                    end
                }
                HttpTask::Trailer(Some(trailers)) => {
                    self.write_trailers(*trailers).await?;
                    true
                }
                HttpTask::Trailer(None) | HttpTask::Done => true,
                HttpTask::UpgradedBody(..) => {
                    return Error::e_explain(ErrorType::InternalError, "HTTP/2 is not left");
                }
                HttpTask::Failed(error) => return Err(error),
            };
        }
        if over {
            self.end().map_err(|error| error.into_down())?;
        }
        Ok(over)
    }
    fn set_read_timeout(&mut self, _: Option<Duration>) {
        // The request's watch knows how long a client may be silent.
    }
    fn get_read_timeout(&self) -> Option<Duration> {
        None
    }
    fn set_write_timeout(&mut self, time: Option<Duration>) {
        self.write_timeout = time;
    }
    fn get_write_timeout(&self) -> Option<Duration> {
        self.write_timeout
    }
    fn set_total_drain_timeout(&mut self, time: Option<Duration>) {
        if let Some(session) = self.session.as_mut() {
            session.set_total_drain_timeout(time);
        }
    }
    fn get_total_drain_timeout(&self) -> Option<Duration> {
        self.session.as_ref()?.get_total_drain_timeout()
    }
    fn request_summary(&self) -> String {
        format!("{} {}", self.head.method, self.head.uri)
    }
    fn response_written(&self) -> Option<&ResponseHeader> {
        self.session.as_ref()?.response_written()
    }
    async fn shutdown(&mut self, _code: u32, _why: &str) {
        if !self.ended
            && let Some(session) = self.session.as_mut()
        {
            session.shutdown();
        }
    }
    fn is_body_done(&mut self) -> bool {
        let done = self.session.as_ref().is_none_or(HttpSession::is_body_done);
        done || self.is_body_empty()
    }
    async fn finish(&mut self) -> Result<()> {
        self.end()
    }
    fn is_body_empty(&mut self) -> bool {
        let length = self.head.headers.get(CONTENT_LENGTH);
        let none = length.is_some_and(|length| length.as_bytes() == b"0");
        self.session
            .as_ref()
            .is_none_or(|session| none || session.is_body_empty())
    }
    async fn read_body_or_idle(&mut self, no_body_expected: bool) -> Result<Option<Bytes>> {
        if !no_body_expected && !self.is_body_done() {
            return self.read_body_bytes().await;
        }
        let reason = poll_fn(|cx| self.poll_reset(cx)).await?;
        Error::e_explain(ErrorType::H2Error, format!("the client gave up: {reason}"))
    }
    fn body_bytes_sent(&self) -> usize {
        self.sent
    }
    fn body_bytes_read(&self) -> usize {
        let session = self.session.as_ref();
        session.map_or(0, HttpSession::body_bytes_read)
    }
    fn digest(&self) -> Option<&Digest> {
        self.session.as_ref()?.digest()
    }
    fn digest_mut(&mut self) -> Option<&mut Digest> {
        self.session.as_mut()?.digest_mut()
    }
    fn client_addr(&self) -> Option<&SocketAddr> {
        self.session.as_ref()?.client_addr()
    }
    fn server_addr(&self) -> Option<&SocketAddr> {
        self.session.as_ref()?.server_addr()
    }
    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        // Only for requests that Pingora makes of this one; it makes none.
        Bytes::new()
    }
    fn enable_retry_buffering(&mut self) {
        if let Some(session) = self.session.as_mut() {
            session.enable_retry_buffering();
        }
    }
    fn retry_buffer_truncated(&self) -> bool {
        let session = self.session.as_ref();
        session.is_some_and(HttpSession::retry_buffer_truncated)
    }
    fn get_retry_buffer(&self) -> Option<Bytes> {
        self.session.as_ref()?.get_retry_buffer()
    }
    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }
    fn take_custom_message_reader(
        &mut self,
    ) -> Option<Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>> {
        None
    }
    fn restore_custom_message_reader(
        &mut self,
        _: Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>,
    ) -> Result<()> {
        Ok(())
    }
    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }
    fn restore_custom_message_writer(&mut self, _: Box<dyn CustomMessageWrite>) -> Result<()> {
        Ok(())
    }
}
