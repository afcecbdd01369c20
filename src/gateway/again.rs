//! Whether another attempt follows one that failed.

use std::sync::Arc;
use std::time::Duration;

use pingora_proxy::Session;

use super::attempt;
use super::state::{Instead, State};
use crate::call::{Attempted, Forgetful, is_repeatable};
use crate::exchange::{Fault, RequestHead, ResponseHead};
use crate::flow::{self, Fall, Means};
use crate::upstream::{Again, Picked, Tries};

/// Decides about a request of which an attempt failed, and nothing went to the client. When it is sent again, the pause before
/// is noted.
fn follows(session: &Session, state: &mut State, outcome: Result<&ResponseHead, Fault>) -> bool {
    let kept = kept(session, state);
    decide(state, session.req_header(), outcome, kept)
}

/// Whether the request goes on after an attempt that failed, and nothing went to the client: at the same upstream, or at the next
/// one of its ladder. Where an answer takes its place, that is noted.
pub(super) fn goes_on(
    session: &Session,
    state: &mut State,
    outcome: Result<&ResponseHead, Fault>,
) -> bool {
    follows(session, state, outcome) || {
        let kept = kept(session, state);
        falls(state, session.req_header(), outcome, kept)
    }
}

/// Takes the next step of the ladder, if there is one.
fn falls(
    state: &mut State,
    asked: &RequestHead,
    outcome: Result<&ResponseHead, Fault>,
    kept: Option<u64>,
) -> bool {
    let plan = Arc::clone(&state.plan);
    // A route's own total is for everything; an upstream's ends with it.
    let over = state.exchange.timeouts.is_some()
        && state.signals.watch.time_left() == Some(Duration::ZERO);
    let means = Means {
        resend: kept.is_some() && !over,
        last_good: state.last_good.as_deref().unwrap_or(&Forgetful),
    };
    let failed = attempt::Told::of(&state.exchange);
    let fall = flow::fall(&plan, asked, &mut state.exchange, outcome, &means);
    if !matches!(fall, Fall::Nothing) {
        // What failed was an attempt at the upstream before, whatever takes its place.
        attempt::ends_as(state, failed);
    }
    match fall {
        Fall::Upstream => {
            state.tries = Tries::default();
            state.tried.clear();
            state.unreachable = 0;
            state.picked = None;
            if state.exchange.timeouts.is_none() {
                let times = flow::timeouts(&plan, &state.exchange);
                state.signals.watch.begins_anew(&times);
            }
            true
        }
        Fall::Stale(answer) => {
            state.instead = Some(Instead::Stale(answer));
            false
        }
        Fall::Reply(reply) => {
            state.instead = Some(Instead::Reply(reply));
            false
        }
        Fall::Nothing => false,
    }
}

/// The same for a call of gRPC that ended without a message, by the head of its answer.
pub(super) fn follows_call(state: &mut State, asked: &RequestHead, head: &ResponseHead) -> bool {
    let kept = (!state.kept.is_cut()).then_some(state.passed.0);
    let goes_on = decide(state, asked, Ok(head), kept) || falls(state, asked, Ok(head), kept);
    state.decided = goes_on.then_some(true);
    goes_on
}

fn decide(
    state: &mut State,
    asked: &RequestHead,
    outcome: Result<&ResponseHead, Fault>,
    kept: Option<u64>,
) -> bool {
    let plan = Arc::clone(&state.plan);
    let was_at = state.picked.as_ref().and_then(Picked::member);
    state.tried.extend(was_at);
    let exchange = &state.exchange;
    let Some(retries) = flow::retries(&plan, exchange) else {
        return false;
    };
    let Some(upstream) = flow::upstream(&plan, exchange) else {
        return false;
    };
    let attempted = Attempted {
        outcome,
        grpc: exchange.grpc_status.filter(|_| exchange.is_call),
        repeatable: is_repeatable(asked),
        kept,
        elsewhere: upstream.has_other(&state.tried),
        left: state.signals.watch.time_left(),
        unix_millis: exchange.unix_millis,
    };
    let now = state.clock.instant();
    match attempted.again(retries, &mut state.tries, upstream, now) {
        Again::After(pause) => {
            state.pause = Some(pause);
            if !pause.is_zero() {
                // Its target has nothing to do meanwhile.
                state.unreachable = 0;
            }
            true
        }
        Again::No => false,
        Again::Exhausted => {
            if let Some(metrics) = plan.metrics_of(upstream) {
                metrics.exhausted();
            }
            false
        }
    }
}

/// How much of the request's body was sent, where that can be sent once more.
pub(super) fn kept(session: &Session, state: &State) -> Option<u64> {
    let cut = session.as_downstream().retry_buffer_truncated() || state.kept.is_cut();
    (!cut).then_some(state.passed.0)
}

/// Whether a request that got no answer in time may be sent again: whoever watches it then lets it go on.
pub(super) fn may_follow(state: &State, asked: &RequestHead) -> bool {
    let retries = flow::retries(&state.plan, &state.exchange);
    let again = retries.is_some_and(|retries| {
        Fault::Timeout.meets(retries.on()) && retries.has_more(&state.tries) && is_repeatable(asked)
    });
    again || flow::has_fallback(&state.plan, &state.exchange, Fault::Timeout)
}

/// Waits as long as was decided.
pub(super) async fn pause(state: &mut State) {
    if let Some(pause) = state.pause.take().filter(|pause| *pause > Duration::ZERO) {
        state.signals.watch.pauses();
        tokio::time::sleep(pause).await;
    }
}
