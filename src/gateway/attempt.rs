//! One attempt at a target, from the choice to the end of the answer, as the metrics of its upstream count it.

use std::time::{Duration, Instant};

use super::state::State;
use crate::call::{Ended, outcome_of};
use crate::exchange::{Exchange, Fallen, Fault};
use crate::flow;
use crate::telemetry::UpstreamMetrics;

/// An attempt that is under way.
#[derive(Debug, Clone, Copy)]
pub struct Attempt {
    since: Instant,
    /// What the target answered; 0 while it has not.
    status: u16,
    /// How long that took once the whole request was there; none where it answered before that.
    took: Option<Duration>,
}

/// A target was chosen.
pub(super) fn begins(state: &mut State) {
    let first = state.exchange.attempts <= 1;
    let now = state.clock.instant();
    if first && let Some(upstream) = flow::upstream(&state.plan, &state.exchange) {
        upstream.resilience().budget().request(now);
    }
    if let Some(metrics) = metrics(state).filter(|_| !first) {
        metrics.retried();
    }
    state.attempt = Some(Attempt {
        since: now,
        status: 0,
        took: None,
    });
}

/// A connection was made for it.
pub(super) fn connected(state: &State) {
    if let Some(metrics) = metrics(state) {
        metrics.connected();
    }
}

/// It found a connection there already.
pub(super) fn reused(state: &State) {
    if let Some(metrics) = metrics(state) {
        metrics.reused();
    }
}

/// The target answered; after a 101 the connection is no more about requests.
pub(super) fn answered(state: &mut State, status: u16) {
    let took = state.attempt.and_then(|attempt| took(&attempt, state));
    if let Some(attempt) = &mut state.attempt {
        attempt.status = status;
        attempt.took = took;
        if let Some((picked, took)) = state.picked.as_ref().zip(took) {
            picked.answered(took);
        }
    }
    if status == 101 {
        ends(state);
    }
}

/// What a request says of its upstream, and of how an attempt there went.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told {
    fallen: Option<Fallen>,
    fault: Option<Fault>,
    grpc_status: Option<u8>,
}

impl Told {
    /// What it says now.
    pub(super) const fn of(exchange: &Exchange) -> Self {
        Self {
            fallen: exchange.fallen,
            fault: exchange.fault,
            grpc_status: exchange.grpc_status,
        }
    }

    const fn tell(self, exchange: &mut Exchange) {
        exchange.fallen = self.fallen;
        exchange.fault = self.fault;
        exchange.grpc_status = self.grpc_status;
    }
}

/// The attempt ended when the request said this.
pub(super) fn ends_as(state: &mut State, told: Told) {
    let now = Told::of(&state.exchange);
    told.tell(&mut state.exchange);
    ends(state);
    now.tell(&mut state.exchange);
}

/// The answer came to its end.
pub(super) fn ends(state: &mut State) {
    let Some(attempt) = state.attempt.take() else {
        return;
    };
    let seconds = seconds(&attempt, state);
    // Whose request it was that was given up, or whose answer broke off, is known by now.
    over(state, &attempt, state.exchange.fault);
    match metrics(state) {
        Some(metrics) if attempt.status > 0 => metrics.answered(attempt.status, seconds),
        // It was given up before the target answered.
        Some(metrics) => {
            let fault = state.exchange.fault.unwrap_or(Fault::ClientError);
            metrics.failed(fault, seconds);
        }
        None => {}
    }
    if attempt.status != 101 {
        // What was upgraded is under way until the connection ends.
        state.picked = None;
    }
}

/// It failed.
pub(super) fn fails(state: &mut State, fault: Fault) {
    if let Some(attempt) = is_given_up(state, fault) {
        over(state, &attempt, Some(fault));
    }
}

/// It is given up, and its target is not to blame so far: what let it through still holds.
pub(super) fn is_given_up(state: &mut State, fault: Fault) -> Option<Attempt> {
    let attempt = state.attempt.take()?;
    if let Some(metrics) = metrics(state) {
        metrics.failed(fault, seconds(&attempt, state));
    }
    Some(attempt)
}

/// Tells its target, and what let it through, how it ended: the one place where that is told.
pub(super) fn over(state: &mut State, attempt: &Attempt, fault: Option<Fault>) {
    let fault = match fault {
        // Nobody but the client is judged by it.
        Some(Fault::Timeout) if state.signals.watch.is_clients() => Some(Fault::ClientError),
        fault => fault,
    };
    if let Some(picked) = &state.picked {
        let status = match state.exchange.grpc_status {
            // A call that went wrong is an answer all the same; only its own status says so.
            Some(code) if attempt.status == 200 && fault.is_none() => of_grpc(code),
            _ => attempt.status,
        };
        picked.report(outcome_of(fault, status));
    }
    let Some(mut passage) = state.passage.take() else {
        return;
    };
    let now = state.clock.instant();
    let ended = Ended {
        fault,
        status: attempt.status,
        grpc: state
            .exchange
            .grpc_status
            .filter(|_| state.exchange.is_call),
        took: match attempt.status {
            0 => took(attempt, state),
            _ => attempt.took,
        },
    };
    if attempt.status == 101 {
        // It stays under way until the connection ends.
        passage.told(&ended, now);
        state.passage = Some(passage);
    } else {
        passage.ends(&ended, now);
    }
}

/// The status that stands for one of gRPC, as far as the target is to blame for it: UNKNOWN, DEADLINE_EXCEEDED, INTERNAL,
/// UNAVAILABLE and DATA_LOSS.
const fn of_grpc(code: u8) -> u16 {
    match code {
        4 => 504,
        14 => 503,
        2 | 13 | 15 => 500,
        _ => 200,
    }
}

/// How long the target took so far, from when it had the whole request: before that it is the client's time. None while it has not.
fn took(attempt: &Attempt, state: &State) -> Option<Duration> {
    let now = state.clock.instant();
    let since_sent = state.signals.watch.since_sent()?;
    Some(now.saturating_duration_since(attempt.since).min(since_sent))
}

fn seconds(attempt: &Attempt, state: &State) -> f64 {
    let now = state.clock.instant();
    now.saturating_duration_since(attempt.since).as_secs_f64()
}

fn metrics(state: &State) -> Option<&UpstreamMetrics> {
    let upstream = flow::upstream(&state.plan, &state.exchange)?;
    state.plan.metrics_of(upstream)
}
