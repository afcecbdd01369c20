//! 2: which target, and whether another one may be tried.

use std::sync::Arc;

use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use pingora_proxy::Session;

use super::attempt;
use super::state::State;
use crate::call::{changes_nothing, nobody_there};
use crate::exchange::{Fault, Next};
use crate::flow;
use crate::upstream::{Picked, for_upgrade};

/// Chooses the target of one attempt.
pub(super) fn choose(session: &Session, state: &mut State) -> Result<Box<HttpPeer>> {
    // After an address that took no connection comes the next one of the same target.
    let again = state.picked.take().filter(|_| state.unreachable > 0);
    let picked = again.or_else(|| pick(session, state));
    let target = picked.as_ref().and_then(|picked| picked.target());
    let mut times = flow::timeouts(&state.plan, &state.exchange);
    if state.exchange.is_call {
        times = times.of_call();
    }
    let Some((target, mut peer)) = target.and_then(|target| Some((target, target.peer(&times)?)))
    else {
        state.exchange.fault = Some(Fault::NoTarget);
        return Err(Error::explain(
            ErrorType::HTTPStatus(503),
            "no target has an address",
        ));
    };
    let watch = &state.signals.watch;
    watch.attempt(&times);
    let framing = &state.exchange.framing;
    if framing.has_body() {
        watch.uploads();
    }
    if framing.has_body() || framing.next == Next::Anything {
        // Pingora reads while it still sends: that the client takes its time is no silence of the target, and neither is
        // that of a tunnel. The watch alone knows.
        peer.options.read_timeout = None;
    }
    if session.is_upgrade_req() {
        for_upgrade(&mut peer);
    }
    // What passed in an attempt before this one passes again.
    state.passed = (0, 0);
    state.exchange.attempts = state.exchange.attempts.saturating_add(1);
    state.exchange.target = Some(Arc::clone(&target.authority));
    state.picked = picked;
    attempt::begins(state);
    Ok(peer)
}

fn pick(session: &Session, state: &mut State) -> Option<Picked> {
    let upstream = flow::upstream(&state.plan, &state.exchange)?;
    let ask = flow::ask(&state.plan, session.req_header(), &state.exchange);
    let picked = upstream.pick(&ask)?;
    let exchange = &mut state.exchange;
    let (now, scheme) = (exchange.unix_secs(), exchange.client_scheme());
    exchange.sticky = upstream.stick(&picked, ask.stuck, now, scheme);
    Some(picked)
}

/// A name may have several addresses, and somebody at one of them only. Nothing was sent yet: each is tried once.
pub(super) fn try_next_address(
    failed: &HttpPeer,
    state: &mut State,
    mut error: Box<Error>,
) -> Box<Error> {
    let target = state.picked.as_ref().and_then(|picked| picked.target());
    let nobody = nobody_there(&error);
    let Some(target) = target.filter(|_| nobody) else {
        return error;
    };
    target.avoid(failed);
    state.unreachable += 1;
    error.set_retry(state.unreachable < target.addresses());
    error
}

/// A connection from the pool may be dead before it is used: then a request that changes nothing is sent once more, on a new one.
#[expect(clippy::fn_params_excessive_bools, reason = "Pingora's own form")]
pub(super) fn may_retry(session: &mut Session, mut error: Box<Error>, reused: bool) -> Box<Error> {
    let safe = changes_nothing(&session.req_header().method);
    let untouched = session.response_written().is_none() && !session.retry_buffer_truncated();
    if safe && untouched {
        error.retry.decide_reuse(reused);
    } else {
        error.set_retry(false);
    }
    error
}
