//! One connection: head after head is read, checked, and handed to the request path.

use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use pingora::apps::HttpServerApp;
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use smallvec::SmallVec;
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;
use tokio::time::timeout;

use super::arrival::Arrival;
use super::body::BodyEnd;
use super::caps::Caps;
use super::deadline::{self, Alarm};
use super::drain::{Drain, Presence};
use super::flood::{Arriving, Flood};
use super::loan::Home;
use super::pressure::Pressure;
use super::stream::ClientStream;
use super::untaken::AllUntaken;
use crate::base::clock::SharedClock;
use crate::base::forwarded::Scheme;
use crate::base::task::Spawner;
use crate::exchange::{
    After, Exchange, Fault, Framing, GrpcMessages, HeadLimits, RequestId, check_head, end_of_head,
    leading_empty_lines,
};
use crate::flow::{raw_answer, read_head, to_bytes};
use crate::gateway::{Kept, Proxy, Rest, Signals, State, rest_of};
use crate::plan::{Clients, PlanHandle};
use crate::telemetry::{Record, Recording, Telemetry};
use crate::upstream::Tries;

/// How long a WebSocket that has to end may take to say so.
const GOODBYE: Duration = Duration::from_millis(250);

/// What every connection needs.
pub(super) struct Shared {
    pub(super) plans: Arc<PlanHandle>,
    pub(super) proxy: Arc<Proxy>,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) clock: SharedClock,
    /// When all this ends.
    pub(super) drain: Drain,
    /// Whether it does, as Pingora asks it.
    pub(super) shutdown: watch::Receiver<bool>,
    pub(super) caps: Caps,
    pub(super) flood: Flood,
    pub(super) pressure: Pressure,
    pub(super) untaken: AllUntaken,
    pub(super) spawner: Spawner,
}

impl Shared {
    /// What clients of a listener may have now.
    pub(super) fn clients(&self, listener: usize) -> Clients {
        let plan = self.plans.load();
        let listener = plan.listeners.get(listener);
        listener
            .map(|listener| listener.clients)
            .unwrap_or_default()
    }

    /// Counts one more request; `false`: it is one of a flood.
    pub(super) fn admits_request(&self, arrival: &Arrival) -> bool {
        let plan = self.plans.load();
        let (Some(address), Some(listener)) =
            (arrival.counted, plan.listeners.get(arrival.listener))
        else {
            return true;
        };
        let (here, most) = (
            (arrival.listener, &*listener.name),
            listener.clients.request_rate,
        );
        self.flood.admits(Arriving::Request, here, address, most)
    }
}

/// One head: as the request path gets it, and as it was sent.
struct RawHead {
    canonical: BytesMut,
    received: BytesMut,
    /// By which it was checked.
    limits: HeadLimits,
    /// How long the client may send or take nothing.
    silence: Duration,
}

/// What a connection has from its first request to its last.
struct Held {
    home: Home<Box<ClientStream>>,
    alarm: Alarm,
    presence: Presence,
}

/// What came of waiting for a head.
enum Head {
    Whole(usize),
    Closed,
    Refused(Fault),
}

/// Serves a connection to its end.
pub(super) async fn serve(
    mut stream: Box<ClientStream>,
    arrival: Arrival,
    shared: Arc<Shared>,
    presence: Presence,
) {
    let no_request = Signals::default();
    let mut held = Held {
        home: Home::default(),
        alarm: Alarm::default(),
        presence,
    };
    for served in 1u32.. {
        let clients = shared.clients(arrival.listener);
        if !begins(&mut stream, clients.idle, &mut held).await {
            return;
        }
        if !shared.admits_request(&arrival) {
            let fault = Fault::TooManyRequests;
            return refuse(&mut stream, &shared, arrival.peer, fault).await;
        }
        let head = tokio::select! {
            biased;
            head = next_head(&mut stream, &clients, &mut held.alarm) => head,
            () = held.presence.over(&no_request) => return,
        };
        let length = match head {
            Head::Whole(length) => length,
            Head::Closed => return,
            Head::Refused(fault) => return refuse(&mut stream, &shared, arrival.peer, fault).await,
        };
        let raw = stream.take(length);
        match check_head(&raw, &clients.head) {
            Ok((head, framing)) => {
                let mut state = state(&arrival, &shared, framing);
                let last = served >= clients.requests || framing.next == After::Anything;
                state.closing = last || is_retired(&state) || shared.pressure.is_high();
                state.signals.watch.expect(clients.min_rate, clients.write);
                stream.begin(BodyEnd::of(&framing), Arc::clone(&state.signals));
                let _active = shared.telemetry.began();
                let head = RawHead {
                    canonical: head,
                    received: raw,
                    limits: clients.head,
                    silence: clients.write,
                };
                match request((stream, head), state, &shared, &mut held).await {
                    Some(next) => stream = next,
                    None => return,
                }
            }
            Err(fault) => return refuse(&mut stream, &shared, arrival.peer, fault).await,
        }
        if last_was_incomplete(&stream) {
            return;
        }
    }
}

/// A body that was not read to its end hides where the next request begins.
fn last_was_incomplete(stream: &ClientStream) -> bool {
    !stream.is_between_requests()
}

/// Waits long for the first byte of a request; `false`: none comes, or it is too late for one.
async fn begins(stream: &mut ClientStream, idle: Duration, held: &mut Held) -> bool {
    if !stream.ahead().is_empty() {
        return true;
    }
    tokio::select! {
        biased;
        filled = held.alarm.within(idle, stream.fill()) => matches!(filled, Some(Ok(1..))),
        () = held.presence.idle_over() => false,
    }
}

/// Waits for the rest of a head, not so long.
async fn next_head(stream: &mut ClientStream, clients: &Clients, alarm: &mut Alarm) -> Head {
    let limits = &clients.head;
    let whole = async {
        let mut searched = 0;
        loop {
            let empty = leading_empty_lines(stream.ahead());
            if empty > 0 && empty < stream.ahead().len() {
                drop(stream.take(empty));
                searched = 0;
            }
            if let Some(length) = end_of_head(stream.ahead(), searched) {
                return if length > limits.head_max() {
                    Head::Refused(Fault::HeadersTooLarge)
                } else {
                    Head::Whole(length)
                };
            }
            searched = stream.ahead().len();
            if searched > limits.head_max() {
                let one_line = !stream.ahead().contains(&b'\n');
                return Head::Refused(if one_line {
                    Fault::UriTooLong
                } else {
                    Fault::HeadersTooLarge
                });
            }
            match stream.fill().await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Head::Closed,
            }
        }
    };
    alarm
        .within(clients.header, whole)
        .await
        .unwrap_or(Head::Refused(Fault::HeaderTimeout))
}

pub(super) fn state(arrival: &Arrival, shared: &Shared, framing: Framing) -> Box<State> {
    let scheme = match arrival.secured {
        Some(_) => Scheme::Https,
        None => Scheme::Http,
    };
    let (now, millis) = (shared.clock.instant(), shared.clock.unix_millis());
    let mut exchange = Exchange::new(now, millis, scheme);
    exchange.framing = framing;
    exchange.listener = arrival.listener;
    exchange.secured.clone_from(&arrival.secured);
    exchange.peer = arrival.peer.map(|peer| -> IpAddr { peer.ip() });
    exchange.peer_port = arrival.peer.map_or(0, |peer| peer.port());
    if shared.pressure.is_high() {
        exchange.refused = Some(Fault::Overload);
    }
    Box::new(State {
        plan: shared.plans.load(),
        exchange,
        closing: false,
        stopping: Arc::clone(shared.drain.stopping()),
        signals: Arc::default(),
        picked: None,
        unreachable: 0,
        passed: (0, 0),
        messages: GrpcMessages::default(),
        answers: GrpcMessages::default(),
        status: None,
        encoder: None,
        noted: false,
        interim: 0,
        clock: Arc::clone(&shared.clock),
        attempt: None,
        passage: None,
        tried: SmallVec::new(),
        tries: Tries::default(),
        kept: Kept::default(),
        pause: None,
        decided: None,
        instead: None,
        last_good: None,
        was_dead: false,
        afresh: false,
    })
}

/// Hands one request to the request path. The stream comes back when the connection can go on.
async fn request(
    (stream, mut head): (Box<ClientStream>, RawHead),
    state: Box<State>,
    shared: &Shared,
    held: &mut Held,
) -> Option<Box<ClientStream>> {
    let Held {
        home,
        alarm,
        presence,
    } = held;
    let signals = Arc::clone(&state.signals);
    let stream: Stream = Box::new(home.lend(stream, Arc::clone(&signals)));
    let mut session = ServerSession::new_http1(stream);
    session.set_pipelined_prefix(std::mem::take(&mut head.canonical));
    // Only whether there is one: the connection is read by us between two requests.
    session.set_keepalive(Some(60));
    session.set_read_timeout(Some(head.silence));
    session.set_write_timeout(Some(head.silence));
    session.set_connection_user_context(Some(state));
    let process = shared.proxy.process_new_http(session, &shared.shutdown);
    // What is left of a request is there once its work is dropped.
    let ended = {
        let mut process = pin!(deadline::within(&signals.watch, alarm, process));
        tokio::select! {
            biased;
            ended = &mut process => ended,
            () = presence.over(&signals) => {
                shared.drain.cut(&signals);
                signals.goodbye.store(true, Ordering::Release);
                let goodbye = signals.websocket.get().map_or(Duration::ZERO, |_| GOODBYE);
                timeout(goodbye, process).await.unwrap_or(Err(Fault::Stopped))
            }
        }
    };
    let reused = match ended {
        Ok(reused) => reused,
        Err(fault) => {
            give_up(&head, &signals, shared, home, fault).await;
            return None;
        }
    };
    if reused.is_some() {
        signals.goes_on.store(true, Ordering::Release);
    }
    drop(reused);
    // It comes home also after an answer that was the last.
    home.take()
        .filter(|_| signals.goes_on.load(Ordering::Acquire))
}

/// A request whose time is over was dropped: it gets its answer, if none began, and the connection closes.
async fn give_up(
    raw: &RawHead,
    signals: &Signals,
    shared: &Shared,
    home: &Home<Box<ClientStream>>,
    fault: Fault,
) {
    let head = read_head(&raw.received, &raw.limits);
    let (Some(state), Ok((head, _))) = (signals.watch.left(), head) else {
        return;
    };
    let rest = rest_of(state, &head, fault, &shared.telemetry);
    let (Rest::Answer(answer, body), Some(mut stream)) = (rest, home.take()) else {
        return;
    };
    let answer = to_bytes(&answer, &body, shared.clock.unix_millis());
    last_words(&mut stream, &answer).await;
}

/// Answers what never became a request, and closes: where the next one begins nobody can say.
pub(super) async fn refuse(
    stream: &mut ClientStream,
    shared: &Shared,
    peer: Option<SocketAddr>,
    fault: Fault,
) {
    let plan = shared.plans.load();
    let exchange = note_refusal(shared, peer, fault, "1.1");
    let answer = raw_answer(&plan.pages, &exchange, fault);
    last_words(stream, &answer).await;
}

/// The last answer of a connection.
async fn last_words(stream: &mut ClientStream, answer: &[u8]) {
    let write = async {
        stream.write_all(answer).await?;
        stream.shutdown().await?;
        // What the client still sends is read for a moment: a reset would take the answer from it.
        while stream.ahead().len() < 64 * 1024 && stream.fill().await? > 0 {}
        std::io::Result::Ok(())
    };
    drop(timeout(Duration::from_millis(500), write).await);
}

/// Whether its listener was taken out of the config.
fn is_retired(state: &State) -> bool {
    let listener = state.plan.listeners.get(state.exchange.listener);
    listener.is_none_or(|listener| listener.retired)
}

/// Records what never became a request.
pub(super) fn note_refusal(
    shared: &Shared,
    peer: Option<SocketAddr>,
    fault: Fault,
    protocol: &'static str,
) -> Exchange {
    let millis = shared.clock.unix_millis();
    let mut exchange = Exchange::new(shared.clock.instant(), millis, Scheme::Http);
    exchange.id = RequestId::new(millis);
    let record = Record {
        unix_millis: millis,
        id: exchange.id.text(),
        client: peer.map(|peer| crate::base::net::canonical_ip(peer.ip())),
        status: fault.meaning().status.as_u16(),
        error_type: Some(fault.code()),
        decided_by: if fault == Fault::Overload {
            "overload"
        } else {
            "http"
        },
        protocol,
        ..Record::default()
    };
    shared
        .telemetry
        .finished(&record, Some(fault), None, Recording::Usual);
    log::debug!(id:% = exchange.id.text(), error_type:% = fault.code(); "head refused");
    exchange
}
