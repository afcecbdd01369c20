//! A connection that speaks HTTP/2: each stream is a request like any other.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
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

use super::arrival::Arrival;
use super::conduct::Conduct;
use super::connection::{Shared, note_refusal, state};
use super::deadline;
use super::drain::Presence;
use super::frames::Frames;
use super::loan::Home;
use super::session::StreamLoan;
use super::transport::Transport;
use crate::exchange::{Fault, Framing, check_http2_head};
use crate::gateway::{Rest, Signals, admit, rest_of};
use crate::plan::Clients;

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

impl Open {
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
    let (mut last, no_request) = (shared.drain.join(), Signals::default());
    let arrival = Arc::new(arrival);
    let open = Arc::new(Open::default());
    let (mut going, mut malformed, mut served) = (false, 0, 0);
    loop {
        let wait = if going { GOODBYE } else { clients.idle };
        let accepted = tokio::select! {
            biased;
            () = presence.asked_to_stop(), if !going => {
                connection.graceful_shutdown();
                going = true;
                continue;
            }
            accepted = HttpSession::from_h2_conn(&mut connection, Arc::clone(&digest)) => accepted,
            () = last.over(&no_request) => return,
            () = conduct.is_bad(clients.header) => return calm(&mut connection).await,
            () = open.idle(wait) => {
                if going {
                    return;
                }
                connection.graceful_shutdown();
                going = true;
                continue;
            }
        };
        match accepted {
            Ok(Some(H2Accept::Session(session))) => {
                served += 1;
                let stay = open.enter();
                let task = request(session, Arc::clone(&arrival), Arc::clone(&shared), stay);
                shared.spawner.detach(task);
            }
            Ok(Some(H2Accept::Rejected)) => {
                note_refusal(&shared, arrival.peer, Fault::BadRequest, "2");
                malformed += 1;
            }
            Ok(None) | Err(_) => return,
        }
        if malformed >= MALFORMED_MAX || served >= clients.requests.saturating_add(LATE_MAX) {
            return calm(&mut connection).await;
        }
        let plan = shared.plans.load();
        let listener = plan.listeners.get(arrival.listener);
        let retired = listener.is_none_or(|listener| listener.retired);
        if (served >= clients.requests || retired) && !going {
            connection.graceful_shutdown();
            going = true;
        }
    }
}

/// Ends a connection whose client asks for too much, or for nothing.
async fn calm(connection: &mut Connection<Stream, Bytes>) {
    connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
    let closed = poll_fn(|cx| connection.poll_closed(cx));
    // Whoever does not take the goodbye goes without.
    drop(tokio::time::timeout(GOODBYE, closed).await);
}

/// Hands one stream to the request path.
async fn request(
    mut session: HttpSession,
    arrival: Arc<Arrival>,
    shared: Arc<Shared>,
    _stay: Stay,
) {
    let body = !session.is_body_empty();
    let clients = shared.clients(arrival.listener);
    let checked = if shared.admits_request(&arrival) {
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
    let mut state = state(&arrival, &shared, framing);
    let place = shared.caps.request();
    let full = place.is_none().then_some(Fault::Overload);
    state.exchange.refused = refused.or(state.exchange.refused).or(full);
    state.exchange.version = Version::HTTP_2;
    let signals = Arc::clone(&state.signals);
    signals.watch.expect(clients.min_rate, clients.write);
    if body {
        signals.watch.streams_body();
    }
    admit(session.req_header_mut(), state);
    let _active = shared.telemetry.began();
    let home = Home::default();
    let loan = StreamLoan::new(session, home.clone(), Arc::clone(&signals), clients.write);
    let Ok(loan) = loan else {
        return;
    };
    let session = ServerSession::new_custom(Box::new(loan));
    let mut presence = shared.drain.join();
    let process = shared.proxy.process_new_http(session, &shared.shutdown);
    let ended = tokio::select! {
        biased;
        ended = deadline::within(&signals.watch, process) => ended.map(drop),
        () = presence.over(&signals) => {
            shared.drain.cut(&signals);
            Err(Fault::Stopped)
        }
    };
    let Err(fault) = ended else {
        return;
    };
    if let (Some(state), Some((session, head))) = (signals.watch.left(), home.take())
        && let Rest::Answer(answer, body) = rest_of(state, &head, fault, &shared.telemetry)
    {
        last_words(session, answer, body).await;
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
