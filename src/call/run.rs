//! One run of a call: to a target that was chosen, up to the head of its answer. Two of one call may be under way.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_LENGTH;
use http::uri::Scheme;
use http::{HeaderMap, Method};
use pingora::Result as Outcome;
use pingora::connectors::http::Connector;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::{HttpPeer, Peer as _};
use smallvec::SmallVec;
use tokio::time::{Instant, sleep_until};

use super::attempt::Attempt;
use super::dues::{Dues, until};
use super::scripted::{refused, too_large};
use super::{Answer, Failed, Held, Passage, Request, Terms, wire};
use crate::exchange::{
    Fault, ResponseHead, Upgrade, check_answer, check_own_answer, grpc_status, is_grpc,
};
use crate::upstream::{Picked, Upstream, check_proof};

/// How long a write may take: a target that takes nothing may have answered all the same.
const WRITE_MAX: Duration = Duration::from_secs(30);

/// One call: what is asked of whom, and within what.
pub(super) struct Errand<'a> {
    pub(super) upstream: &'a Upstream,
    pub(super) request: &'a Request,
    pub(super) terms: &'a Terms<'a>,
    pub(super) dues: Dues,
    /// After how long without an answer a second run begins beside the first; none = never.
    pub(super) hedge_after: Option<Duration>,
}

/// Where a run goes.
pub(super) struct Way {
    pub(super) pick: Arc<Picked>,
    pub(super) peer: Box<HttpPeer>,
    /// Which attempt of its call it is, from 1.
    pub(super) number: u16,
    /// What let it through, where that was asked already.
    pub(super) passage: Option<Passage>,
    /// How many addresses of its target took no connection.
    pub(super) unreachable: usize,
    /// Whether it is the second of two.
    pub(super) hedge: bool,
}

/// A run that came to the head of an answer, or to its end.
pub(super) struct Ran<'a> {
    /// The choice that it went by.
    pub(super) pick: Arc<Picked>,
    /// Whether it was the second of two.
    pub(super) hedge: bool,
    pub(super) outcome: Result<Headed<'a>, Stopped>,
}

/// An answer whose body is still on its way.
pub(super) struct Headed<'a> {
    session: HttpSession,
    peer: Box<HttpPeer>,
    pub(super) head: ResponseHead,
    attempt: Attempt<'a>,
    /// Whether the whole request was sent.
    whole: bool,
}

/// Where a run stopped.
pub(super) enum Stopped {
    /// Nothing was sent: it was held back.
    Held(Held),
    /// No connection was made, in so long; what let it through still holds.
    Unconnected(Failed, Box<Way>, Duration),
    /// On a connection; whether it had been there before, and the target had said nothing yet.
    Connected { failed: Failed, stale: bool },
}

/// The runs of a call that are under way: two at most.
#[derive(Default)]
pub(super) struct Runs<'a>(SmallVec<[Pin<Box<dyn Future<Output = Ran<'a>> + Send + 'a>>; 2]>);

impl<'a> Runs<'a> {
    /// One more.
    pub(super) fn begin(&mut self, run: impl Future<Output = Ran<'a>> + Send + 'a) {
        self.0.push(Box::pin(run));
    }

    /// Ends all that are under way.
    pub(super) fn give_up(&mut self) {
        self.0.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next that is over; none where none is by `due`.
    pub(super) async fn next(&mut self, due: Option<Instant>) -> Option<Ran<'a>> {
        let next = poll_fn(|cx| {
            let ready = self.0.iter_mut().enumerate().find_map(|(index, run)| {
                match run.as_mut().poll(cx) {
                    Poll::Ready(ran) => Some((index, ran)),
                    Poll::Pending => None,
                }
            });
            ready.map_or(Poll::Pending, |(index, ran)| {
                drop(self.0.remove(index));
                Poll::Ready(ran)
            })
        });
        let Some(due) = due else {
            return Some(next.await);
        };
        tokio::select! {
            biased;
            ran = next => Some(ran),
            () = sleep_until(due) => None,
        }
    }
}

/// Goes there, and reads the head of the answer. `over` says that nobody needs it any more.
pub(super) async fn run<'a>(
    connector: &Connector,
    errand: &'a Errand<'a>,
    way: Way,
    over: &'a AtomicBool,
) -> Ran<'a> {
    let (pick, hedge) = (Arc::clone(&way.pick), way.hedge);
    let outcome = go(connector, errand, way, over).await;
    Ran {
        pick,
        hedge,
        outcome,
    }
}

async fn go<'a>(
    connector: &Connector,
    errand: &'a Errand<'a>,
    mut way: Way,
    over: &'a AtomicBool,
) -> Result<Headed<'a>, Stopped> {
    let terms = errand.terms;
    let passage = match way.passage.take() {
        Some(passage) => passage,
        None => {
            let now = Instant::now().into_std();
            let asked = Passage::ask(terms.breaker, errand.upstream, now);
            asked.await.map_err(Stopped::Held)?
        }
    };
    if let Some(meter) = terms.meter.filter(|_| way.number > 1) {
        meter.retried();
    }
    let number = (way.number, passage);
    let mut attempt = Attempt::begin(terms.meter, Arc::clone(&way.pick), number, over);
    let due = errand.dues.of_try();
    let connected = until(due, connector.get_http_session(&*way.peer)).await;
    let (mut session, reused) = match connected {
        Ok(connected) => connected,
        Err(failed) => {
            attempt.failed(failed.fault, &errand.dues);
            let (passage, took) = attempt.hand_over();
            way.passage = Some(passage);
            return Err(Stopped::Unconnected(failed, Box::new(way), took));
        }
    };
    if reused {
        attempt.reused();
    } else {
        attempt.connected();
    }
    match ask(&mut session, &way.peer, errand, (due, &mut attempt)).await {
        Ok((head, whole)) => Ok(Headed {
            session,
            peer: way.peer,
            head,
            attempt,
            whole,
        }),
        Err(mut failed) => {
            attempt.failed(failed.fault, &errand.dues);
            failed.cause.retry.decide_reuse(reused);
            // A refusal is an answer: the rules of retries are for that.
            let refused = failed.fault == Fault::RefusedStream;
            let dead = failed.fault == Fault::Reset || failed.cause.retry() && !refused;
            let stale = reused && !attempt.is_answered() && dead;
            Err(Stopped::Connected { failed, stale })
        }
    }
}

/// Sends the request and reads the head of the answer, on a connection that is there. Also says whether the whole request
/// was sent.
async fn ask(
    session: &mut HttpSession,
    peer: &HttpPeer,
    errand: &Errand<'_>,
    (due, attempt): (Instant, &mut Attempt<'_>),
) -> Result<(ResponseHead, bool), Failed> {
    check_proof(peer, session.digest())?;
    // Our own deadlines are shorter; what is written has none of its own.
    session.set_read_timeout(None);
    session.set_write_timeout(Some(WRITE_MAX));
    let sent = until(due, send(session, peer, errand.request, attempt.number)).await;
    let silence = Instant::now() + errand.terms.times.first_byte;
    let whole = sent.is_ok();
    let head = match (
        read_head(session, due.min(silence), errand.terms).await,
        sent,
    ) {
        // It may have answered before it took everything.
        (Ok(head), _) => head,
        (Err(_), Err(unsent)) => return Err(unsent),
        (Err(failed), Ok(())) => return Err(failed),
    };
    attempt.answered(head.status.as_u16());
    Ok((head, whole))
}

impl Headed<'_> {
    /// Reads the body, and gives the connection back.
    pub(super) async fn finish(
        mut self,
        connector: &Connector,
        errand: &Errand<'_>,
    ) -> Result<Answer, Failed> {
        let rest = if errand.request.head.method == Method::HEAD {
            Ok((Bytes::new(), None))
        } else {
            read_rest(&mut self.session, &self.head, errand).await
        };
        let (body, trailers) = match rest {
            Ok(rest) => rest,
            Err(failed) => {
                self.attempt.failed(failed.fault, &errand.dues);
                return Err(failed);
            }
        };
        if is_grpc(&self.head.headers) {
            // Behind the messages, or in the head where there are none (gRPC over HTTP/2).
            let status = trailers.as_ref().unwrap_or(&self.head.headers);
            self.attempt.concluded(grpc_status(status));
        }
        // Where the target answered before it took everything, nobody knows what it reads next.
        if self.whole {
            let idle = self.peer.options.idle_timeout;
            let released = connector.release_http_session(self.session, &*self.peer, idle);
            released.await;
        }
        let head = self.head;
        Ok(Answer {
            head,
            body,
            trailers: trailers.map(Box::new),
        })
    }
}

async fn send(
    session: &mut HttpSession,
    peer: &HttpPeer,
    request: &Request,
    attempt: u16,
) -> Outcome<()> {
    let wrong = |failed: Failed| failed.cause;
    let bodiless = request.body.is_empty();
    match session {
        HttpSession::H2(stream) => {
            let head = wire::http2(request, scheme(peer), attempt).map_err(wrong)?;
            stream.write_request_header(head, bodiless)?;
            if !bodiless {
                stream
                    .write_request_body(request.body.clone(), true)
                    .await?;
            }
        }
        HttpSession::H1(_) | HttpSession::Custom(()) => {
            let head = wire::http1(request, attempt).map_err(wrong)?;
            session.write_request_header(head).await?;
            if !bodiless {
                session
                    .write_request_body(request.body.clone(), true)
                    .await?;
            }
            session.finish_request_body().await?;
        }
    }
    Ok(())
}

fn scheme(peer: &HttpPeer) -> Scheme {
    if peer.tls() {
        Scheme::HTTPS
    } else {
        Scheme::HTTP
    }
}

/// The head of the answer, behind whatever comes before it.
async fn read_head(
    session: &mut HttpSession,
    due: Instant,
    terms: &Terms<'_>,
) -> Result<ResponseHead, Failed> {
    let mut interim = 0;
    loop {
        until(due, session.read_response_header()).await?;
        let head = session.response_header();
        let mut head = head.ok_or_else(|| refused("no head"))?.clone();
        let checked = match terms.ours {
            true => check_own_answer(&mut head, Upgrade::None, &mut interim),
            false => check_answer(&mut head, Upgrade::None, &mut interim),
        };
        checked.map_err(refused)?;
        if !head.status.is_informational() {
            return Ok(head);
        }
    }
}

/// The body of the answer, and what stands behind it where that is an answer of gRPC.
async fn read_rest(
    session: &mut HttpSession,
    head: &ResponseHead,
    errand: &Errand<'_>,
) -> Result<(Bytes, Option<HeaderMap>), Failed> {
    let body = read_body(session, head, errand).await?;
    let trailers = match session {
        HttpSession::H2(stream) if is_grpc(&head.headers) => {
            let due = errand.dues.of_piece(errand.terms);
            until(due, stream.read_trailers()).await?
        }
        HttpSession::H1(_) | HttpSession::H2(_) | HttpSession::Custom(()) => None,
    };
    Ok((body, trailers))
}

/// The whole body of the answer.
async fn read_body(
    session: &mut HttpSession,
    head: &ResponseHead,
    errand: &Errand<'_>,
) -> Result<Bytes, Failed> {
    let Errand { terms, dues, .. } = errand;
    let length = head.headers.get(CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > terms.answer_max) {
        return Err(too_large());
    }
    let mut whole = BytesMut::new();
    let mut first: Option<Bytes> = None;
    while let Some(piece) = until(dues.of_piece(terms), session.read_response_body()).await? {
        let so_far = first.as_ref().map_or(0, Bytes::len) + whole.len();
        if (so_far + piece.len()) as u64 > terms.answer_max {
            return Err(too_large());
        }
        // Most answers come in one piece, which is not copied.
        match first.take() {
            None if whole.is_empty() => first = Some(piece),
            None => whole.extend_from_slice(&piece),
            Some(before) => {
                whole.extend_from_slice(&before);
                whole.extend_from_slice(&piece);
            }
        }
    }
    Ok(first.unwrap_or_else(|| whole.freeze()))
}
