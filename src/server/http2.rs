//! A connection that speaks HTTP/2: each stream is a request like any other.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::OptionFuture;
use h2::Reason;
use h2::server::Connection;
use http::Version;
use pingora::apps::HttpServerApp as _;
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{
    H2Accept, H2Options, HttpSession, default_h2_options, handshake,
};
use pingora::protocols::{Digest, Stream};
use tokio::sync::Notify;
use tokio::time::sleep;

use super::arrival::Arrival;
use super::caps::Turn;
use super::conduct::Conduct;
use super::connection::{Shared, note_refusal, state};
use super::deadline::{self, Alarm};
use super::drain::Presence;
use super::frames::Frames;
use super::session::StreamLoan;
use super::transport::Transport;
use super::untaken::{Untaken, in_turn};
use crate::exchange::{Fault, Framing, check_http2_head, is_grpc};
use crate::gateway::{Rest, Returned, Signals, State, admit, rest_of};
use crate::plan::Clients;
use crate::telemetry::Ending;

/// How many requests of one connection may be so malformed that they never become one; h2 counts the others.
const MALFORMED_MAX: usize = 32;
/// How much of a body may be on its way, for one stream and for all of a connection.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// How much of an answer waits for its client, for each stream.
const SEND_BUFFER: usize = 64 * 1024;
/// How many streams it may make h2 reset for the way they are used.
const MISUSED_MAX: usize = 100;
/// How many requests may still come behind the goodbye: they were on their way.
const LATE_MAX: u32 = 200;
/// How long it may take to go, once it has nothing left to wait for.
const GOODBYE: Duration = Duration::from_secs(2);

/// The streams that are being served.
#[derive(Default)]
struct Open {
    count: AtomicUsize,
    changed: Notify,
}

/// One of them.
struct Stay(Arc<Open>);

impl Drop for Stay {
    fn drop(&mut self) {
        // Relaxed: only the number matters, nothing is published through it.
        self.0.count.fetch_sub(1, Ordering::Relaxed);
        self.0.changed.notify_one();
    }
}

/// So many streams are few: whatever they hold, it is not much.
const FEW: usize = 8;

impl Open {
    fn is_crowded(&self) -> bool {
        self.count.load(Ordering::Relaxed) > FEW
    }

    fn enter(self: &Arc<Self>) -> Stay {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.changed.notify_one();
        Stay(Arc::clone(self))
    }

    /// Nobody came for `time`, and nobody was there.
    async fn idle(&self, time: Duration) {
        loop {
            if self.count.load(Ordering::Relaxed) > 0 {
                self.changed.notified().await;
            } else if tokio::time::timeout(time, self.changed.notified())
                .await
                .is_err()
            {
                return;
            }
        }
    }
}

fn options(clients: &Clients) -> H2Options {
    let limits = &clients.head;
    let mut options = default_h2_options();
    // RFC 9113 section 6.5.2 counts 32 bytes more for each line; what is left is for the target.
    let lines = limits.headers * 32 + limits.uri + limits.header_bytes;
    options
        .max_header_list_size(u32::try_from(lines).unwrap_or(u32::MAX))
        .max_concurrent_streams(clients.http2_streams)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_local_error_reset_streams(Some(MISUSED_MAX))
        .enable_connect_protocol();
    options
}

/// Serves a connection to its end.
pub(super) async fn serve(
    io: Transport,
    arrival: Arrival,
    shared: Arc<Shared>,
    mut presence: Presence,
) {
    let conduct = Arc::new(Conduct::default());
    let stream: Stream = Box::new(Frames::new(io, Arc::clone(&conduct)));
    let digest = Arc::new(Digest {
        ssl_digest: None,
        timing_digest: stream.get_timing_digest(),
        proxy_digest: None,
        socket_digest: stream.get_socket_digest(),
    });
    let clients = shared.clients(arrival.listener);
    let greeting = handshake(stream, Some(options(&clients)));
    let Ok(Ok(mut connection)) = tokio::time::timeout(clients.handshake, greeting).await else {
        return;
    };
    let arrival = Arc::new(arrival);
    let ended = requests(
        &mut connection,
        (digest, &conduct),
        &arrival,
        &shared,
        &mut presence,
    );
    if let Some(ending) = ended.await {
        calm(&mut connection, ending, &arrival, &shared).await;
    }
}

/// Takes requests, until the connection is over, or has to be for what its client does.
async fn requests(
    connection: &mut Connection<Stream, Bytes>,
    (digest, conduct): (Arc<Digest>, &Conduct),
    arrival: &Arc<Arrival>,
    shared: &Arc<Shared>,
    presence: &mut Presence,
) -> Option<Ending> {
    let clients = shared.clients(arrival.listener);
    let (mut last, no_request) = (shared.drain.join(), Signals::default());
    let open = Arc::new(Open::default());
    let untaken = Arc::new(Untaken::new(shared.untaken.clone()));
    let (mut going, mut malformed, mut served, mut resting) = (false, 0, 0, None);
    loop {
        let wait = if going { GOODBYE } else { clients.idle };
        let accepted = tokio::select! {
            biased;
            () = presence.asked_to_stop(), if !going => {
                leave(connection, conduct);
                going = true;
                continue;
            }
            accepted = HttpSession::from_h2_conn(connection, Arc::clone(&digest)) => accepted,
            () = last.over(&no_request) => return None,
            Some(()) = OptionFuture::from(resting.as_mut()) => {
                conduct.go_on();
                resting = None;
                continue;
            }
            ending = conduct.is_bad(clients.header) => return Some(ending),
            () = open.idle(wait) => {
                if going {
                    return None;
                }
                leave(connection, conduct);
                going = true;
                continue;
            }
        };
        match accepted {
            Ok(Some(H2Accept::Session(session))) => {
                served += 1;
                let stay = (open.enter(), Arc::clone(&untaken));
                let served_by = (Arc::clone(arrival), Arc::clone(shared));
                shared.spawner.detach(request(session, served_by, stay));
                let pause = rest(conduct, arrival, shared).map(|time| Box::pin(sleep(time)));
                resting = pause.or(resting);
            }
            Ok(Some(H2Accept::Rejected)) => {
                note_refusal(shared, arrival.peer, Fault::BadRequest, "2");
                malformed += 1;
            }
            Ok(None) => return None,
            Err(error) => {
                note_end(&error, arrival, shared);
                return None;
            }
        }
        if malformed >= MALFORMED_MAX {
            return Some(Ending::Malformed);
        }
        if served >= clients.requests.saturating_add(LATE_MAX) {
            return Some(Ending::Requests);
        }
        let enough = served >= clients.requests || wants_no_more(arrival, shared);
        if enough && !going {
            leave(connection, conduct);
            going = true;
        }
    }
}

/// Whether connections of this listener come to their end, whatever they do.
fn wants_no_more(arrival: &Arrival, shared: &Shared) -> bool {
    let plan = shared.plans.load();
    let listener = plan.listeners.get(arrival.listener);
    listener.is_none_or(|listener| listener.retired) || shared.pressure.is_high()
}

/// How long nothing more is read of a connection: if its client took back requests since this was last asked, and its address too
/// many. Each costs an upstream as much as one that is not taken back.
fn rest(conduct: &Conduct, arrival: &Arrival, shared: &Shared) -> Option<Duration> {
    let taken_back = conduct.taken_back();
    let address = arrival.counted.filter(|_| taken_back > 0)?;
    let plan = shared.plans.load();
    let here = &plan.listeners.get(arrival.listener)?.name;
    let here = (arrival.listener, &**here);
    let time = shared.flood.takes_back(here, address, taken_back)?;
    conduct.rest();
    Some(time)
}

/// Notes that h2 ended a connection for what its client did; that it is just gone is nothing to be told.
fn note_end(error: &pingora::Error, arrival: &Arrival, shared: &Shared) {
    let cause = error.cause.as_deref();
    let cause = cause.and_then(|cause| cause.downcast_ref::<h2::Error>());
    if let Some(reason) = cause
        .filter(|cause| cause.is_library())
        .and_then(h2::Error::reason)
    {
        let ending = match reason {
            Reason::ENHANCE_YOUR_CALM => Ending::Flood,
            _ => Ending::Protocol,
        };
        end(ending, arrival, shared);
    }
}

fn end(ending: Ending, arrival: &Arrival, shared: &Shared) {
    if let (Ending::Flood, Some(address)) = (ending, arrival.counted) {
        shared.flood.misused(arrival.listener, address);
    }
    let plan = shared.plans.load();
    if let Some(listener) = plan.listeners.get(arrival.listener) {
        let telemetry = &shared.telemetry;
        telemetry.connection_ended(&listener.name, ending, arrival.peer);
    }
}

/// Tells the client that nothing new is served here; what it asked for until it heard that is.
fn leave(connection: &mut Connection<Stream, Bytes>, conduct: &Conduct) {
    conduct.leaves();
    connection.graceful_shutdown();
}

/// Ends a connection whose client asks for too much, or for nothing.
async fn calm(
    connection: &mut Connection<Stream, Bytes>,
    ending: Ending,
    arrival: &Arrival,
    shared: &Shared,
) {
    end(ending, arrival, shared);
    connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
    let closed = poll_fn(|cx| connection.poll_closed(cx));
    // Whoever does not take the goodbye goes without.
    drop(tokio::time::timeout(GOODBYE, closed).await);
}

/// Hands one stream to the request path, once its connection has room for another answer.
async fn request(
    mut session: HttpSession,
    (arrival, shared): (Arc<Arrival>, Arc<Shared>),
    (stay, untaken): (Stay, Arc<Untaken>),
) {
    let clients = shared.clients(arrival.listener);
    let (state, _place) = begin(&mut session, &arrival, &shared, &clients);
    let signals = Arc::clone(&state.signals);
    let _active = shared.telemetry.began();
    let mut presence = shared.drain.join();
    if untaken.is_much() {
        let fault = tokio::select! {
            biased;
            () = untaken.room() => None,
            _gone = session.idle() => Some(Fault::ClientError),
            () = presence.over(&signals) => Some(Fault::Stopped),
        };
        if let Some(fault) = fault {
            let head = session.req_header().clone();
            let returned = Returned {
                stream: session,
                head,
            };
            return give_up(state, returned, fault, &shared).await;
        }
    }
    if !session.is_body_empty() {
        signals.watch.streams_body();
    }
    // A call of gRPC keeps its stream: when it is cut, the head is what is left of it.
    let head = session.req_header();
    let call = is_grpc(&head.headers).then(|| head.clone());
    admit(session.req_header_mut(), state);
    let from_client = (clients.write, Arc::clone(&untaken));
    let loan = StreamLoan::new(session, Arc::clone(&signals), from_client);
    let Ok(loan) = loan else {
        return;
    };
    let session = ServerSession::new_custom(Box::new(loan));
    let process = shared.proxy.process_new_http(session, &shared.shutdown);
    let process = in_turn(&untaken, &signals.watch, || stay.0.is_crowded(), process);
    let mut alarm = Alarm::default();
    let ended = tokio::select! {
        biased;
        ended = deadline::within(&signals.watch, &mut alarm, process) => ended.map(drop),
        () = presence.over(&signals) => {
            shared.drain.cut(&signals);
            Err(Fault::Stopped)
        }
    };
    if let Err(fault) = ended
        && let Some(state) = signals.watch.left()
    {
        match (signals.stream.take(), call) {
            (Some(returned), _) => give_up(state, *returned, fault, &shared).await,
            (None, Some(head)) => drop(rest_of(state, &head, fault, &shared.telemetry)),
            (None, None) => {}
        }
    }
}

/// Checks the head of a stream; what is wrong with it is noted in the request's state. Beside it: its place among all requests.
fn begin(
    session: &mut HttpSession,
    arrival: &Arrival,
    shared: &Shared,
    clients: &Clients,
) -> (Box<State>, Option<Turn>) {
    let body = !session.is_body_empty();
    let checked = if shared.admits_request(arrival) {
        check_http2_head(session.req_header_mut(), &clients.head)
    } else {
        Err(Fault::TooManyRequests)
    };
    let (framing, refused) = match checked {
        Ok(mut framing) => {
            // Whoever goes on in HTTP/1 has to say where the body ends.
            framing.chunked = body && framing.content_length.is_none();
            (framing, None)
        }
        Err(fault) => (Framing::default(), Some(fault)),
    };
    let mut state = state(arrival, shared, framing);
    let place = shared.caps.request();
    let full = place.is_none().then_some(Fault::Overload);
    state.exchange.refused = refused.or(state.exchange.refused).or(full);
    state.exchange.version = Version::HTTP_2;
    let watch = &state.signals.watch;
    watch.expect(clients.min_rate, clients.write);
    (state, place)
}

/// A request that was dropped gets its answer, if none began; else its stream is reset.
async fn give_up(state: Box<State>, returned: Returned, fault: Fault, shared: &Shared) {
    let rest = rest_of(state, &returned.head, fault, &shared.telemetry);
    if let Rest::Answer(answer, body) = rest {
        last_words(returned.stream, answer, body).await;
    }
}

/// The answer to a request that was dropped before there was one.
async fn last_words(mut session: HttpSession, answer: Box<ResponseHeader>, body: Bytes) {
    let whole = body.is_empty();
    if session.write_response_header(answer, whole).is_ok() && !whole {
        // Whoever does not take it goes without.
        drop(tokio::time::timeout(GOODBYE, session.write_body(body, true)).await);
    }
}
