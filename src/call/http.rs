//! Calls over the network: by HTTP/1.1 or HTTP/2, on connections that are kept.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Method;
use http::header::CONTENT_LENGTH;
use http::uri::Scheme;
use pingora::Result as Outcome;
use pingora::connectors::ConnectorOptions;
use pingora::connectors::http::Connector;
use pingora::protocols::http::client::HttpSession;
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::{HttpPeer, Peer as _};
use tokio::time::{Instant, timeout_at};

use super::attempt::{Attempt, RETRIES_MAX, changes_nothing, nobody_free, nobody_there};
use super::scripted::{refused, too_large};
use super::{Answer, Attempted, Ended, Failed, Passage, Request, Terms, is_repeatable, wire};
use crate::exchange::{Exchange, Fault, ResponseHead, Upgrade, check_answer};
use crate::upstream::{Again, Ask, Member, Picked, Target, Tries, Upstream, check_proof};

/// How long a write may take: a target that takes nothing may have answered all the same.
const WRITE_MAX: Duration = Duration::from_secs(30);

/// The connections of calls.
pub struct Http {
    connector: Connector,
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http").finish_non_exhaustive()
    }
}

/// Where an attempt stopped.
enum Stopped {
    /// No connection was made, in so long; what let the attempt through still holds.
    Unconnected(Failed, Passage, Duration),
    /// On a connection; whether it had been there before, and the target had said nothing yet.
    Connected { failed: Failed, stale: bool },
}

/// One call: what is asked of whom, and within what.
struct Errand<'a> {
    upstream: &'a Upstream,
    request: &'a Request,
    terms: &'a Terms<'a>,
    dues: Dues,
}

/// What was tried for a call so far.
#[derive(Default)]
struct Course {
    tries: Tries,
    /// The targets that it was at.
    tried: Vec<Arc<Member>>,
    /// The target that has another address, and what let the attempt at the first one through.
    picked: Option<Picked>,
    passage: Option<Passage>,
    unreachable: usize,
    /// How many connections that were kept turned out to be dead.
    dead: u16,
}

impl Http {
    /// No connection yet; as many are kept as `conf` says.
    #[must_use]
    pub fn new(conf: &ServerConf) -> Self {
        let options = ConnectorOptions::from_server_conf(conf);
        Self {
            connector: Connector::new(Some(options)),
        }
    }

    /// Makes one call, again as often as its terms let it.
    pub(super) async fn call(
        &self,
        upstream: &Upstream,
        request: &Request,
        terms: &Terms<'_>,
        exchange: &mut Exchange,
    ) -> Result<Answer, Failed> {
        let dues = Dues::new(terms);
        let errand = Errand {
            upstream,
            request,
            terms,
            dues,
        };
        let mut course = Course::default();
        let budget = upstream.resilience().budget();
        budget.request(Instant::now().into_std());
        loop {
            let Some(answered) = self.turn(&errand, &mut course, exchange).await else {
                continue;
            };
            match errand.pause(&answered, &mut course, exchange) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return answered,
            }
        }
    }

    /// One attempt. Nothing: it was none that counts, since nobody takes connections at this address of the target, or since the
    /// connection that was kept was dead.
    async fn turn(
        &self,
        errand: &Errand<'_>,
        course: &mut Course,
        exchange: &mut Exchange,
    ) -> Option<Result<Answer, Failed>> {
        let Errand {
            request,
            terms,
            dues,
            ..
        } = errand;
        let again = course.picked.take();
        let (pick, peer) = match choose(errand.upstream, again, &course.tried, terms, exchange) {
            Ok(chosen) => chosen,
            Err(failed) => return Some(Err(failed)),
        };
        let Some(target) = pick.target() else {
            return Some(Err(none_free(errand.upstream)));
        };
        let passage = match course.passage.take() {
            Some(passage) => passage,
            None => match errand.passage(exchange).await {
                Ok(passage) => passage,
                Err(held) => return Some(Err(held)),
            },
        };
        exchange.attempts = exchange.attempts.saturating_add(1);
        exchange.target = Some(target.authority.clone());
        let (now, scheme) = (exchange.unix_secs(), exchange.client_scheme());
        exchange.sticky = errand.upstream.stick(&pick, terms.ask.stuck, now, scheme);
        if let Some(meter) = terms.meter.filter(|_| exchange.attempts > 1) {
            meter.retried();
        }
        let number = (exchange.attempts, passage);
        match self
            .attempt((&pick, &peer), request, terms, (dues, number))
            .await
        {
            Ok(answer) => {
                course.tried.extend(pick.member());
                Some(Ok(answer))
            }
            Err(Stopped::Unconnected(failed, passage, took)) => {
                let another = another_address(target, &peer, &failed, &mut course.unreachable);
                if !another || dues.over() {
                    course.unreachable = 0;
                    course.tried.extend(pick.member());
                    let ended = Ended::failed(failed.fault, took);
                    passage.ends(&ended, Instant::now().into_std());
                    return Some(Err(failed));
                }
                course.passage = Some(passage);
                course.picked = Some(pick);
                None
            }
            Err(Stopped::Connected { failed, stale }) => {
                let again = stale && changes_nothing(&request.head.method);
                if !again || course.dead >= RETRIES_MAX || dues.over() {
                    course.tried.extend(pick.member());
                    return Some(Err(failed));
                }
                course.dead += 1;
                None
            }
        }
    }

    async fn attempt(
        &self,
        (pick, peer): (&Picked, &HttpPeer),
        request: &Request,
        terms: &Terms<'_>,
        (dues, number): (&Dues, (u16, Passage)),
    ) -> Result<Answer, Stopped> {
        let mut attempt = Attempt::begin(terms.meter, pick, number);
        let due = dues.of_try();
        let connected = until(due, self.connector.get_http_session(peer)).await;
        let (mut session, reused) = match connected {
            Ok(connected) => connected,
            Err(failed) => {
                attempt.failed(failed.fault);
                let (passage, took) = attempt.hand_over();
                return Err(Stopped::Unconnected(failed, passage, took));
            }
        };
        if reused {
            attempt.reused();
        } else {
            attempt.connected();
        }
        let times = (dues, due, &mut attempt);
        let answered = exchange(&mut session, peer, request, terms, times).await;
        match answered {
            Ok((answer, whole)) => {
                // Where the target answered before it took everything, nobody knows what it reads next.
                if whole {
                    let idle = peer.options.idle_timeout;
                    self.connector
                        .release_http_session(session, peer, idle)
                        .await;
                }
                Ok(answer)
            }
            Err(mut failed) => {
                attempt.failed(failed.fault);
                failed.cause.retry.decide_reuse(reused);
                let dead = failed.fault == Fault::Reset || failed.cause.retry();
                let stale = reused && !attempt.is_answered() && dead;
                Err(Stopped::Connected { failed, stale })
            }
        }
    }
}

/// Sends the request and reads the answer, on a connection that is there. Also says whether the whole request was sent.
async fn exchange(
    session: &mut HttpSession,
    peer: &HttpPeer,
    request: &Request,
    terms: &Terms<'_>,
    (dues, due, attempt): (&Dues, Instant, &mut Attempt<'_>),
) -> Result<(Answer, bool), Failed> {
    check_proof(peer, session.digest())?;
    // Our own deadlines are shorter; what is written has none of its own.
    session.set_read_timeout(None);
    session.set_write_timeout(Some(WRITE_MAX));
    let sent = until(due, send(session, peer, request, attempt.number)).await;
    let silence = Instant::now() + terms.times.first_byte;
    let whole = sent.is_ok();
    let head = match (read_head(session, due.min(silence)).await, sent) {
        // It may have answered before it took everything.
        (Ok(head), _) => head,
        (Err(_), Err(unsent)) => return Err(unsent),
        (Err(failed), Ok(())) => return Err(failed),
    };
    attempt.answered(head.status.as_u16());
    let body = if request.head.method == Method::HEAD {
        Bytes::new()
    } else {
        read_body(session, &head, terms, dues).await?
    };
    Ok((Answer { head, body }, whole))
}

impl Errand<'_> {
    /// Asks whether the call may be made now, and waits for a place.
    async fn passage(&self, exchange: &mut Exchange) -> Result<Passage, Failed> {
        let now = Instant::now().into_std();
        let asked = Passage::ask(self.terms.breaker, self.upstream, now);
        match asked.await {
            Ok(passage) => Ok(passage),
            Err(held) => {
                exchange.retry_after = held.retry_after;
                Err(Failed::new(held.fault, "it was held back"))
            }
        }
    }

    /// How long to wait before the call is made again; none: this was the last time.
    fn pause(
        &self,
        answered: &Result<Answer, Failed>,
        course: &mut Course,
        exchange: &Exchange,
    ) -> Option<Duration> {
        let now = Instant::now();
        let attempted = Attempted {
            outcome: match answered {
                Ok(answer) => Ok(&answer.head),
                Err(failed) => Err(failed.fault),
            },
            grpc: None,
            repeatable: is_repeatable(&self.request.head),
            kept: Some(self.request.body.len() as u64),
            elsewhere: self.upstream.has_other(&course.tried),
            left: Some(self.dues.head.saturating_duration_since(now)),
            unix_millis: exchange.unix_millis,
        };
        let retries = self.terms.retries?;
        let now = now.into_std();
        match attempted.again(retries, &mut course.tries, self.upstream, now) {
            Again::After(pause) => Some(pause),
            Again::No => None,
            Again::Exhausted => {
                if let Some(meter) = self.terms.meter {
                    meter.exhausted();
                }
                None
            }
        }
    }
}

/// Until when a call may take.
struct Dues {
    per_try: Option<Duration>,
    /// The head of an answer has to be here.
    head: Instant,
    /// Everything.
    total: Option<Instant>,
}

impl Dues {
    fn new(terms: &Terms<'_>) -> Self {
        let times = &terms.times;
        let total = times
            .total
            .map(|total| Instant::from_std(terms.since) + total);
        Self {
            per_try: times.per_try,
            head: total.unwrap_or_else(|| Instant::now() + times.total_to_head),
            total,
        }
    }

    /// For an attempt that begins now, up to the head of its answer.
    fn of_try(&self) -> Instant {
        let own = self.per_try.map(|span| Instant::now() + span);
        own.map_or(self.head, |own| own.min(self.head))
    }

    /// For a piece of a body.
    fn of_piece(&self, terms: &Terms<'_>) -> Instant {
        let piece = Instant::now() + terms.times.between_bytes;
        self.total.map_or(piece, |total| total.min(piece))
    }

    fn over(&self) -> bool {
        Instant::now() >= self.head
    }
}

/// Waits for `work` no longer than that.
async fn until<T>(due: Instant, work: impl Future<Output = Outcome<T>>) -> Result<T, Failed> {
    match timeout_at(due, work).await {
        Ok(done) => Ok(done?),
        Err(_elapsed) => Err(Failed::new(Fault::Timeout, "the time was over")),
    }
}

/// The target of an attempt, and what Pingora needs to connect: the one that was picked before, or the next.
fn choose(
    upstream: &Upstream,
    again: Option<Picked>,
    tried: &[Arc<Member>],
    terms: &Terms<'_>,
    exchange: &Exchange,
) -> Result<(Picked, Box<HttpPeer>), Failed> {
    let ask = Ask { tried, ..terms.ask };
    let picked = again.or_else(|| upstream.pick(&ask));
    let picked = picked.ok_or_else(|| none_free(upstream))?;
    let peer = picked.peer(&terms.times, exchange.ends.as_ref());
    let peer = peer.ok_or_else(|| none_free(upstream))?;
    Ok((picked, peer))
}

fn none_free(upstream: &Upstream) -> Failed {
    let (fault, why) = nobody_free(upstream);
    Failed::new(fault, why)
}

/// Whether the target has another address, which was not tried.
fn another_address(
    target: &Target,
    failed_at: &HttpPeer,
    failed: &Failed,
    unreachable: &mut usize,
) -> bool {
    if !nobody_there(&failed.cause) {
        return false;
    }
    target.avoid(failed_at);
    *unreachable += 1;
    *unreachable < target.addresses()
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
async fn read_head(session: &mut HttpSession, due: Instant) -> Result<ResponseHead, Failed> {
    let mut interim = 0;
    loop {
        until(due, session.read_response_header()).await?;
        let head = session.response_header();
        let mut head = head.ok_or_else(|| refused("no head"))?.clone();
        check_answer(&mut head, Upgrade::None, &mut interim).map_err(refused)?;
        if !head.status.is_informational() {
            return Ok(head);
        }
    }
}

/// The whole body of the answer.
async fn read_body(
    session: &mut HttpSession,
    head: &ResponseHead,
    terms: &Terms<'_>,
    dues: &Dues,
) -> Result<Bytes, Failed> {
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
