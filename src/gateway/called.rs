//! A route that is called: its request is read as a whole, sent, and answered as a whole.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pingora::{Error, ErrorType, Result};
use pingora_proxy::Session;

use super::request::go_on;
use super::state::State;
use super::{Gateway, answer, peer};
use crate::call::{Answer, Failed, Forgetful, Meter, Request, Terms, Transport};
use crate::exchange::Fault;
use crate::flow::{self, Fall, Means};
use crate::plan::Plan;
use crate::upstream::Timeouts;

/// The call keeps its own deadlines and answers when one has passed; whoever watches the request sees to the client alone.
const UNWATCHED: Duration = Duration::from_secs(24 * 60 * 60);

/// Serves one request.
pub(super) async fn serve(
    session: &mut Session,
    state: &mut State,
    gateway: &Gateway,
) -> Result<()> {
    state.signals.watch.attempt(&Timeouts {
        first_byte: UNWATCHED,
        between_bytes: UNWATCHED,
        per_try: None,
        total_to_head: UNWATCHED,
        total: None,
        ..Timeouts::default()
    });
    let (longest, _) = flow::whole_max(&state.exchange);
    let body = match read(session, state, longest).await? {
        Ok(body) => body,
        Err(fault) => return answer::fault(session, state, fault).await,
    };
    loop {
        let plan = Arc::clone(&state.plan);
        let request = flow::to_upstream(&plan, session.req_header(), body.clone(), &state.exchange);
        let called = match request {
            Ok(request) => call(session, state, gateway, (&plan, &request)).await?,
            // Another upstream may have one.
            Err(Fault::NoCredential) => Err(Fault::NoCredential),
            Err(fault) => {
                flow::ask_again(fault, &mut state.exchange);
                return answer::fault(session, state, fault).await;
            }
        };
        let asked = session.req_header();
        let outcome = match &called {
            Ok(answer) => Ok(&answer.head),
            Err(fault) => Err(*fault),
        };
        let means = Means {
            resend: has_time(state),
            last_good: state.last_good.as_deref().unwrap_or(&Forgetful),
        };
        let answer = match flow::fall(&plan, asked, &mut state.exchange, outcome, &means) {
            Fall::Upstream => continue,
            Fall::Reply(reply) => return answer::reply(session, state, reply).await,
            Fall::Stale(answer) => Ok(*answer),
            Fall::Nothing => called,
        };
        let answer =
            answer.and_then(|answer| flow::to_client(&plan, asked, answer, &mut state.exchange));
        return match answer {
            Ok((head, body)) => answer::whole(session, state, head, body).await,
            Err(fault) => answer::fault(session, state, fault).await,
        };
    }
}

/// Whether there is time for another upstream: a route's own total is for everything.
fn has_time(state: &State) -> bool {
    let Some(times) = state.exchange.timeouts else {
        return true;
    };
    let passed = state
        .clock
        .instant()
        .saturating_duration_since(state.exchange.started);
    times.total.is_none_or(|total| passed < total)
}

/// Makes the call, at the upstream whose turn it is. `Err`: nobody waits for its answer any more.
async fn call(
    session: &mut Session,
    state: &mut State,
    gateway: &Gateway,
    (plan, request): (&Plan, &Request),
) -> Result<Result<Answer, Fault>> {
    let Some(upstream) = flow::upstream(plan, &state.exchange) else {
        return Ok(Err(Fault::NoTarget));
    };
    peer::note_ends(session, state);
    let metrics = plan.metrics_of(upstream);
    // What took the place of an upstream has the time that is its own, unless the route says how long all may take.
    let anew = state.exchange.fallen.is_some() && state.exchange.timeouts.is_none();
    let terms = Terms {
        ours: false,
        harmless: false,
        times: flow::timeouts(plan, &state.exchange),
        ask: flow::ask(plan, session.req_header(), &state.exchange),
        since: if anew {
            state.clock.instant()
        } else {
            state.exchange.started
        },
        answer_max: flow::whole_max(&state.exchange).1,
        breaker: flow::breaker(plan, &state.exchange),
        retries: flow::retries(plan, &state.exchange),
        meter: metrics.map(|metrics| metrics as &dyn Meter),
    };
    let transport = Transport::Http(&gateway.calls);
    let called = tokio::select! {
        biased;
        called = transport.call(upstream, request, &terms, &mut state.exchange) => called,
        // Nobody waits for the answer any more: the call is dropped here.
        _ = session.as_downstream_mut().read_body_or_idle(true) => return Err(gone()),
    };
    Ok(called.map_err(|Failed { fault, cause }| {
        let telemetry = &gateway.telemetry;
        telemetry.upstream_failed(&state.exchange, fault, &cause);
        fault
    }))
}

pub(super) fn gone() -> Box<Error> {
    let mut error = Error::explain(ErrorType::ConnectionClosed, "the client went away");
    error.as_down();
    error
}

/// Reads the body of the request, up to this length, unless it was read before.
pub(super) async fn read(
    session: &mut Session,
    state: &mut State,
    longest: u64,
) -> Result<Result<Bytes, Fault>> {
    if !state.exchange.framing.has_body() {
        return Ok(Ok(Bytes::new()));
    }
    if let Some(body) = &state.exchange.body {
        state.signals.watch.sent();
        return Ok(Ok(body.clone()));
    }
    let length = state.exchange.framing.content_length;
    if length.is_some_and(|length| length > longest) {
        return Ok(Err(Fault::BodyTooLarge));
    }
    go_on(session, state).await?;
    state.signals.watch.uploads();
    let mut body = BytesMut::new();
    loop {
        let piece = session.read_request_body().await;
        let Some(piece) = piece.map_err(|error| error.into_down())? else {
            break;
        };
        state.signals.watch.uploaded(piece.len());
        state.passed.0 += piece.len() as u64;
        if state.passed.0 > longest {
            return Ok(Err(Fault::BodyTooLarge));
        }
        body.extend_from_slice(&piece);
    }
    state.signals.watch.sent();
    Ok(Ok(body.freeze()))
}
