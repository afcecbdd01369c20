//! GrpcCalls of gRPC: both directions pass at the same time, each at its own pace.
//!
//! Pingora writes a piece of the request before it reads on in the answer. A target that writes before it reads on, as gRPC lets
//! it, would wait for ever; and a call that is dropped could not be told why.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::OnceLock;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::{Reason, SendStream};
use http::header::HOST;
use http::response::Parts as ResponseParts;
use http::{HeaderMap, Uri, Version};
use pingora::connectors::ConnectorOptions;
use pingora::connectors::http::v2::Connector;
use pingora::protocols::http::client::HttpSession;
use pingora::protocols::http::v2::client::Http2Session;
use pingora::protocols::http::v2::server::HttpSession as Client;
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::{HttpPeer, Peer as _};
use pingora::{Error, ErrorType, OrErr as _, Result};
use pingora_proxy::Session;
use tokio::time::{Sleep, sleep};

use super::home::own_stream;
use super::state::State;
use super::{Watch, again, answer, attempt, bodies, peer};
use crate::call::fault_of;
use crate::exchange::{
    Fault, RequestHead, ResponseHead, Upgrade, check_answer, grpc_status, grpc_timeout, is_grpc,
    unbind_values,
};
use crate::flow;
use crate::upstream::Payload;
use crate::upstream::check_proof;

/// How long a client may take nothing of what waits for it: as long as proxies commonly let a stream be idle.
const TAKE_NOTHING_MAX: Duration = Duration::from_secs(300);

/// So much of a request is kept, so that it can be sent again.
const KEPT_MAX: u64 = 64 * 1024;

/// The connections that calls share.
pub struct GrpcCalls {
    options: ConnectorOptions,
    /// Made when it is first needed, or prepared before.
    connector: OnceLock<Connector>,
}

impl std::fmt::Debug for GrpcCalls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GrpcCalls").finish_non_exhaustive()
    }
}

/// Whether the request is a call, by HTTP/2 on both sides.
pub(super) fn is_one(session: &Session, state: &State) -> bool {
    let head = session.req_header();
    let upstream = flow::upstream(&state.plan, &state.exchange);
    head.version == Version::HTTP_2
        && is_grpc(&head.headers)
        && upstream.is_some_and(|upstream| upstream.is_http2())
}

impl GrpcCalls {
    /// No connection yet.
    #[must_use]
    pub fn new(conf: &ServerConf) -> Self {
        Self {
            options: ConnectorOptions::from_server_conf(conf),
            connector: OnceLock::new(),
        }
    }

    /// Does what takes time now, so that the first call has not to wait for it.
    pub fn prepare(&self) {
        self.connector();
    }

    fn connector(&self) -> &Connector {
        let make = || Connector::new(Some(self.options.clone()));
        self.connector.get_or_init(make)
    }

    /// Serves a call to its end. `Err`: its answer has not begun, or cannot be ended.
    pub(super) async fn serve(&self, session: &mut Session, state: &mut State) -> Result<()> {
        state.exchange.is_call = true;
        let signals = std::sync::Arc::clone(&state.signals);
        let watch = &signals.watch;
        watch.is_call(grpc_timeout(&session.req_header().headers));
        loop {
            let connected = in_time(watch, self.connect(session, state)).await;
            let (peer, target) = match connected {
                Ok(connected) => connected?,
                Err(fault) => return Err(given_up(state, fault)),
            };
            let Some(client) = own_stream(session, state) else {
                return Err(answer::internal(Fault::Internal));
            };
            state.kept.rewind();
            let mut call = Call::new(client, target);
            let ended = match in_time(watch, call.pass(&peer, state)).await {
                Ok(ended) => ended,
                Err(fault) => Err(given_up(state, fault)),
            };
            let ended = ended.or_else(|error| call.break_off(state, error));
            let begun = call.answer.is_some() || call.is_over;
            let target = call.target;
            self.connector()
                .release_http_session(target, &*peer, peer.idle_timeout());
            if ended.is_err() && !begun && goes_on(session, state) {
                continue;
            }
            attempt::ends(state);
            return ended;
        }
    }

    /// A connection to a target with room for one more call; of a name with several addresses each is tried.
    async fn connect(
        &self,
        session: &Session,
        state: &mut State,
    ) -> Result<(Box<HttpPeer>, Http2Session)> {
        loop {
            let peer = match peer::choose(session, state).await {
                Ok(peer) => peer,
                Err(error) if error.retry() => continue,
                Err(error) => return Err(error),
            };
            let error = match self.open(&peer, state).await {
                Ok(target) => return Ok((peer, target)),
                Err(error) => error.into_up(),
            };
            let error = peer::not_connected(session, &peer, state, error);
            if !error.retry() {
                return Err(error);
            }
        }
    }

    async fn open(&self, peer: &HttpPeer, state: &State) -> Result<Http2Session> {
        // One that is gone by now is as good as none.
        if let Ok(Some(known)) = self.connector().reused_http_session(peer).await {
            attempt::reused(state);
            return Ok(known);
        }
        let HttpSession::H2(new) = self.connector().new_http_session::<_, ()>(peer).await? else {
            return Err(Error::explain(ErrorType::H2Downgrade, "no HTTP/2"));
        };
        attempt::connected(state);
        check_proof(peer, new.digest())?;
        Ok(new)
    }
}

/// Whether another attempt follows one that broke before its answer began.
fn goes_on(session: &Session, state: &mut State) -> bool {
    if let Some(goes_on) = state.decided.take() {
        return goes_on;
    }
    let fault = state.exchange.fault.unwrap_or(Fault::Internal);
    again::goes_on(session, state, Err(fault))
}

/// Works until the end, or until the request's time is over.
async fn in_time<T>(watch: &Watch, work: impl Future<Output = T>) -> Result<T, Fault> {
    let mut work = pin!(work);
    // Whoever watches the request wakes it when it is time, and looks at the clock only after this did.
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Ok(done)),
        Poll::Pending => match watch.due() {
            Ok(_) => Poll::Pending,
            Err(fault) => Poll::Ready(Err(fault)),
        },
    })
    .await
}

fn given_up(state: &mut State, fault: Fault) -> Box<Error> {
    state.exchange.fault = Some(fault);
    attempt::fails(state, fault);
    let mut error = Error::explain(ErrorType::ReadTimedout, "the time of the call is over");
    error.as_up();
    error
}

/// One call on its way.
struct Call<'a> {
    client: &'a mut Client,
    target: Http2Session,
    /// Where the request goes; none before its head went, and once the target wants no more of it.
    request: Option<SendStream<Bytes>>,
    /// Where the answer goes; none before its head went.
    answer: Option<SendStream<Bytes>>,
    /// What was read and is still to be sent: of the request, and of the answer.
    pieces: (Bytes, Bytes),
    /// The head of the answer was all of it.
    is_over: bool,
    /// Since when the client takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<'a> Call<'a> {
    fn new(client: &'a mut Client, target: Http2Session) -> Self {
        Self {
            client,
            target,
            request: None,
            answer: None,
            pieces: (Bytes::new(), Bytes::new()),
            is_over: false,
            stalled: None,
        }
    }

    /// Passes request and answer on, each to its end.
    async fn pass(&mut self, peer: &HttpPeer, state: &mut State) -> Result<()> {
        let head = request_head(self.client.req_header(), peer, state)?;
        let sent = self.target.write_request_header(Box::new(head), false);
        sent.map_err(Error::into_up)?;
        self.request = self.target.take_request_body_writer();
        poll_fn(|cx| {
            let answered = self.poll_answer(cx, state)?;
            if answered.is_ready() {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_request(cx, state))?;
            // The request is sent: of the client nothing more is to be heard but that it takes it back.
            let reset = match &mut self.answer {
                Some(answer) => ready!(answer.poll_reset(cx)).map_err(client_gone),
                None => ready!(Pin::new(&mut self.client.idle()).poll(cx)),
            };
            let reason = reset.map_err(Error::into_down)?;
            let why = format!("the client took it back: {reason}");
            Poll::Ready(Err(
                Error::explain(ErrorType::ConnectionClosed, why).into_down()
            ))
        })
        .await?;
        self.finish(state).await
    }

    /// The request, up to its end.
    fn poll_request(&mut self, cx: &mut Context<'_>, state: &mut State) -> Poll<Result<()>> {
        while let Some(to) = &mut self.request {
            let piece = &mut self.pieces.0;
            if !piece.is_empty() {
                if ready!(push(to, piece, cx)).is_err() {
                    // It has its answer, or none will come: whoever reads that says which.
                    self.request = None;
                }
                continue;
            }
            if let Some(known) = state.kept.next() {
                bodies::request(Some(&known), state)?;
                *piece = known;
                continue;
            }
            let read = if state.kept.is_ended() {
                None
            } else {
                ready!(self.client.poll_read_body_bytes(cx))
            };
            match read {
                Some(Ok(read)) => {
                    state.kept.read(&read, KEPT_MAX);
                    bodies::request(Some(&read), state)?;
                    *piece = read;
                }
                Some(Err(error)) => return Poll::Ready(Err(client_gone(error))),
                None => {
                    state.kept.end();
                    state.signals.watch.sent();
                    // Where it fails the target is gone, as above.
                    drop(to.send_data(Bytes::new(), true));
                    self.request = None;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The answer, up to the end of its last message.
    fn poll_answer(&mut self, cx: &mut Context<'_>, state: &mut State) -> Result<Poll<()>> {
        loop {
            let Some(to) = &mut self.answer else {
                match self.target.poll_read_response_header(cx) {
                    Poll::Pending => return Ok(Poll::Pending),
                    Poll::Ready(read) => read.map_err(target_gone)?,
                }
                self.begin(state)?;
                if self.is_over {
                    return Ok(Poll::Ready(()));
                }
                continue;
            };
            let piece = &mut self.pieces.1;
            if !piece.is_empty() {
                match push(to, piece, cx) {
                    Poll::Ready(pushed) => pushed.map_err(client_gone)?,
                    Poll::Pending => return self.poll_stalled(cx),
                }
                self.stalled = None;
                continue;
            }
            match self.target.poll_read_response_body(cx) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(None) => return Ok(Poll::Ready(())),
                Poll::Ready(Some(read)) => {
                    let read = read.map_err(target_gone)?;
                    bodies::response(Some(&read), state)?;
                    *piece = read;
                }
            }
        }
    }

    /// The client takes nothing.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>> {
        let over = || Box::pin(sleep(TAKE_NOTHING_MAX));
        let over = self.stalled.get_or_insert_with(over);
        match over.as_mut().poll(cx) {
            Poll::Pending => Ok(Poll::Pending),
            Poll::Ready(()) => Err(Error::new_down(ErrorType::WriteTimedout)),
        }
    }

    /// The head of the answer is here, and goes to the client.
    fn begin(&mut self, state: &mut State) -> Result<()> {
        let head = self.target.response_header();
        let mut head: ResponseHead = head
            .cloned()
            .ok_or_else(|| Error::new_in(ErrorType::H2Error))?;
        if let Err(why) = check_answer(&mut head, Upgrade::None, &mut state.interim) {
            state.exchange.fault = Some(Fault::ProtocolError);
            return Err(Error::explain(ErrorType::InvalidHTTPHeader, why).into_up());
        }
        attempt::answered(state, head.status.as_u16());
        state.exchange.grpc_status = grpc_status(&head.headers);
        let is_over = self.target.check_response_end_or_error();
        let is_over = is_over.map_err(Error::into_up)?;
        let asked = self.client.req_header();
        if is_over && again::follows_call(state, asked, &head) {
            attempt::ends(state);
            let why = "its answer is not taken";
            return Err(Error::explain(ErrorType::Custom("AnotherAttempt"), why));
        }
        state.kept.let_go();
        flow::shape(&state.plan, asked, &mut head, &mut state.exchange);
        state.status = Some(head.status);
        state.signals.watch.streams();
        self.is_over = is_over;
        let mut head = ResponseParts::from(head);
        unbind_values(&mut head.headers);
        let sent = self
            .client
            .write_response_header(Box::new(head.into()), self.is_over);
        sent.map_err(Error::into_down)?;
        self.answer = self.client.take_response_body_writer();
        Ok(())
    }

    /// The last message was passed on: what is left is how the call ended.
    async fn finish(&mut self, state: &mut State) -> Result<()> {
        let trailers = if self.is_over {
            None
        } else {
            self.target.read_trailers().await.map_err(Error::into_up)?
        };
        if let Some(request) = &mut self.request {
            // RFC 9113 section 8.1: the rest of the request is not wanted, and nothing is wrong.
            request.send_reset(Reason::NO_ERROR);
        }
        let Some(to) = self.answer.as_mut().filter(|_| !self.is_over) else {
            return Ok(());
        };
        let sent = match trailers {
            Some(mut trailers) => {
                unbind_values(&mut trailers);
                let status = grpc_status(&trailers);
                state.exchange.grpc_status = status.or(state.exchange.grpc_status);
                to.send_trailers(trailers)
            }
            None => to.send_data(Bytes::new(), true),
        };
        sent.map_err(client_gone)
    }

    /// The call broke: the target hears of it, and the client, where its answer has begun.
    fn break_off(&mut self, state: &mut State, error: Box<Error>) -> Result<()> {
        if let Some(request) = &mut self.request {
            request.send_reset(Reason::CANCEL);
        }
        let fault = state.exchange.fault.unwrap_or_else(|| fault_of(&error));
        state.exchange.fault = Some(fault);
        attempt::fails(state, fault);
        let Some(to) = self.answer.as_mut().filter(|_| fault != Fault::ClientError) else {
            return Err(error);
        };
        let trailers: HeaderMap = flow::fault_trailers(&state.plan.pages, &state.exchange, fault)
            .map_err(answer::internal)?;
        state.exchange.grpc_status = Some(fault.meaning().grpc);
        state.signals.watch.concluded();
        to.send_trailers(trailers).map_err(client_gone)
    }
}

/// Sends as much of `piece` as may go now.
fn push(
    to: &mut SendStream<Bytes>,
    piece: &mut Bytes,
    cx: &mut Context<'_>,
) -> Poll<Result<(), h2::Error>> {
    to.reserve_capacity(piece.len());
    match ready!(to.poll_capacity(cx)) {
        Some(Ok(room)) => {
            let part = piece.split_to(room.min(piece.len()));
            if !part.is_empty() {
                to.send_data(part, false)?;
            }
            Poll::Ready(Ok(()))
        }
        Some(Err(error)) => Poll::Ready(Err(error)),
        None => Poll::Ready(Err(Reason::CANCEL.into())),
    }
}

/// The head as the target gets it.
fn request_head(asked: &RequestHead, peer: &HttpPeer, state: &State) -> Result<RequestHead> {
    let mut head = asked.clone();
    flow::write_upstream_request(&mut head, &state.plan, &state.exchange)
        .map_err(answer::internal)?;
    let shown = flow::show_credential(&state.plan, &mut head, &state.exchange, Payload::Streamed);
    shown.map_err(answer::internal)?;
    let host = head.remove_header(&HOST);
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let uri = Uri::builder()
        .scheme(if peer.is_tls() { "https" } else { "http" })
        .authority(host.as_ref().map_or(&b""[..], |host| host.as_bytes()))
        .path_and_query(path)
        .build();
    head.set_uri(uri.or_err(ErrorType::InternalError, "a target that cannot be sent")?);
    Ok(head)
}

fn client_gone(error: h2::Error) -> Box<Error> {
    Error::because(ErrorType::ConnectionClosed, "the client of a call", error).into_down()
}

fn target_gone(error: h2::Error) -> Box<Error> {
    let kind = if error.is_io() || error.is_remote() {
        ErrorType::ReadError
    } else {
        ErrorType::H2Error
    };
    Error::because(kind, "the target of a call", error).into_up()
}
