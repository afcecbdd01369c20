//! 2: which target, and whether another one may be tried.

use std::net::SocketAddr;
use std::sync::Arc;

use pingora::protocols::l4::socket::SocketAddr as Address;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use pingora_proxy::Session;

use super::state::State;
use super::{again, attempt};
use crate::call::{Passage, changes_nothing, fault_of, nobody_free, nobody_there};
use crate::exchange::{After, Exchange, Fault, GrpcMessages};
use crate::flow;
use crate::upstream::{Ask, Ends, Picked, afresh, for_upgrade};

/// Chooses the target of one attempt, after the pause before it.
pub(super) async fn choose(session: &Session, state: &mut State) -> Result<Box<HttpPeer>> {
    again::pause(state).await;
    if let Err(fault) = flow::check_credential(&state.plan, &state.exchange) {
        return Err(nothing_sent(session, state, fault, "nothing to show it"));
    }
    if state.passage.is_none() {
        pass(session, state).await?;
    }
    // After an address that took no connection comes the next one of the same target.
    let again = state.picked.take().filter(|_| state.unreachable > 0);
    let picked = again.or_else(|| pick(session, state));
    let target = picked.as_ref().and_then(|picked| picked.target());
    let mut times = flow::timeouts(&state.plan, &state.exchange);
    if state.exchange.is_call {
        times = times.of_call();
    }
    note_ends(session, state);
    let peer = picked
        .as_ref()
        .and_then(|picked| picked.peer(&times, state.exchange.ends.as_ref()));
    let Some((target, mut peer)) = target.zip(peer) else {
        let upstream = flow::upstream(&state.plan, &state.exchange);
        let (fault, why) = upstream.map_or((Fault::NoTarget, ""), |upstream| nobody_free(upstream));
        state.passage = None;
        return Err(nothing_sent(session, state, fault, why));
    };
    let watch = &state.signals.watch;
    watch.attempt(&times);
    if again::may_follow(state, session.req_header()) {
        watch.may_go_on();
    }
    let framing = &state.exchange.framing;
    if framing.has_body() {
        watch.uploads();
    }
    if framing.has_body() || framing.next == After::Anything {
        // Pingora reads while it still sends: that the client takes its time is no silence of the target, and neither is
        // that of a tunnel. The watch alone knows.
        peer.options.read_timeout = None;
    }
    if session.is_upgrade_req() {
        for_upgrade(&mut peer);
    } else if std::mem::take(&mut state.afresh) {
        afresh(&mut peer);
    }
    // What passed in an attempt before this one passes again.
    state.passed = (0, 0);
    state.messages = GrpcMessages::default();
    state.answers = GrpcMessages::default();
    state.exchange.fault = None;
    state.exchange.grpc_status = None;
    state.interim = 0;
    state.exchange.attempts = state.exchange.attempts.saturating_add(1);
    state.exchange.target = Some(Arc::clone(&target.authority));
    let upstream = flow::upstream(&state.plan, &state.exchange);
    state.exchange.upstream = upstream.map(|upstream| Arc::clone(upstream.name()));
    state.picked = picked;
    attempt::begins(state);
    Ok(peer)
}

/// Ends an attempt before anything of it was sent; another one follows where its rules say so.
fn nothing_sent(
    session: &Session,
    state: &mut State,
    fault: Fault,
    why: &'static str,
) -> Box<Error> {
    state.exchange.fault = Some(fault);
    let mut error = Error::explain(ErrorType::HTTPStatus(503), why);
    error.set_retry(again::goes_on(session, state, Err(fault)));
    error
}

/// Notes the ends of the client's connection, where targets are told of it.
pub(super) fn note_ends(session: &Session, state: &mut State) {
    let upstream = flow::upstream(&state.plan, &state.exchange);
    if !upstream.is_some_and(|upstream| upstream.announces()) {
        return;
    }
    state.exchange.ends = ends(session, &state.exchange);
}

/// The ends of the client's connection, where both are known.
pub(super) fn ends(session: &Session, exchange: &Exchange) -> Option<Ends> {
    let gateway = session.server_addr().and_then(Address::as_inet).copied();
    // Only of who is connected to us the port is known.
    let client = exchange.client.as_ref().map(|client| {
        let port = if Some(client.client) == exchange.peer {
            exchange.peer_port
        } else {
            0
        };
        SocketAddr::new(client.client, port)
    });
    client
        .zip(gateway)
        .map(|(client, gateway)| Ends { client, gateway })
}

fn pick(session: &Session, state: &mut State) -> Option<Picked> {
    let upstream = flow::upstream(&state.plan, &state.exchange)?;
    let asked = flow::ask(&state.plan, session.req_header(), &state.exchange);
    let ask = Ask {
        tried: &state.tried,
        ..asked
    };
    let picked = upstream.pick(&ask)?;
    let exchange = &mut state.exchange;
    let (now, scheme) = (exchange.unix_secs(), exchange.client_scheme());
    exchange.sticky = upstream.stick(&picked, ask.stuck, now, scheme);
    Some(picked)
}

/// Asks whether something may be sent to the upstream now, and waits for a place.
async fn pass(session: &Session, state: &mut State) -> Result<()> {
    let breaks = flow::breaker(&state.plan, &state.exchange).is_some();
    let upstream = flow::upstream(&state.plan, &state.exchange);
    let counts = upstream.is_some_and(|it| it.resilience().permits().is_some());
    if !breaks && !counts {
        return Ok(());
    }
    let plan = Arc::clone(&state.plan);
    let Some(upstream) = flow::upstream(&plan, &state.exchange) else {
        return Ok(());
    };
    let breaker = flow::breaker(&plan, &state.exchange);
    let now = state.clock.instant();
    match Passage::ask(breaker, upstream, now).await {
        Ok(passage) => {
            state.passage = Some(passage);
            Ok(())
        }
        Err(held) => {
            state.exchange.retry_after = held.retry_after;
            Err(nothing_sent(session, state, held.fault, "it was held back"))
        }
    }
}

/// A name may have several addresses, and somebody at one of them only. Nothing was sent yet: each is tried once.
fn try_next_address(failed: &HttpPeer, state: &mut State, mut error: Box<Error>) -> Box<Error> {
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

/// No connection was made: the next address of the target, else another attempt where one follows.
pub(super) fn not_connected(
    session: &Session,
    failed: &HttpPeer,
    state: &mut State,
    error: Box<Error>,
) -> Box<Error> {
    let fault = fault_of(&error);
    let attempt = attempt::is_given_up(state, fault);
    let mut error = try_next_address(failed, state, error);
    if !error.retry() {
        state.unreachable = 0;
        if let Some(attempt) = attempt {
            attempt::over(state, &attempt, Some(fault));
        }
        error.set_retry(again::goes_on(session, state, Err(fault)));
    }
    error
}

/// An attempt broke. A connection from the pool may be dead before it is used: then a request that changes nothing is sent once
/// more at once, on a new one; else another attempt follows where its rules say so.
#[expect(clippy::fn_params_excessive_bools, reason = "Pingora's own form")]
pub(super) fn broke(
    session: &Session,
    state: &mut State,
    mut error: Box<Error>,
    reused: bool,
) -> Box<Error> {
    if let Some(goes_on) = state.decided.take() {
        // By the head of its answer.
        error.set_retry(goes_on);
        return error;
    }
    let late = state.signals.watch.was_let_go();
    if late {
        error.as_up();
        state.exchange.fault = Some(Fault::Timeout);
    }
    let fault = state.exchange.fault.unwrap_or_else(|| fault_of(&error));
    let begun = session.response_written();
    let untouched = begun.is_none_or(|head| head.status.is_informational());
    error.retry.decide_reuse(reused);
    let safe =
        changes_nothing(&session.req_header().method) && again::kept(session, state).is_some();
    // What Pingora finds worth another try on a connection that is new is an answer: the rules of retries are for that.
    // So is a refusal.
    let refused = fault == Fault::RefusedStream;
    let dead = reused && !refused && error.retry() && !late && safe && state.interim == 0;
    if untouched && dead && !state.was_dead {
        (state.was_dead, state.afresh) = (true, true);
        let _its_end_says_nothing = attempt::is_given_up(state, fault);
        return error;
    }
    attempt::fails(state, fault);
    error.set_retry(untouched && again::goes_on(session, state, Err(fault)));
    error
}
