//! One request through chain and action, without a session: what the gateway does, `explain` tells, and `test` tries.

mod act;
mod answer;
mod arrive;
mod ask;
mod called;
mod credential;
mod explain;
mod find;
mod incoming;
mod ladder;
mod outgoing;
mod trial;

use std::sync::Arc;

pub use answer::{
    of_fault, of_own, of_reply, raw as raw_answer, to_bytes, trailers as fault_trailers,
};
pub use ask::read as read_head;

pub use called::{ask_again, to_client, to_upstream, whole_max};
pub use credential::{check as check_credential, show as show_credential};
pub use explain::{Bound, explain};
pub use incoming::shape;
pub use ladder::{Fall, Means, fall, has_fallback};
pub use outgoing::write as write_upstream_request;
pub use trial::trial;

use crate::call::{Outside, is_repeatable};
use crate::exchange::{
    After, Decision, Exchange, Facts, Fault, Reply, RequestHead, Step, Verdict, is_grpc, key_hash,
};
use crate::expr::Scope as _;
use crate::plan::{Action, EnvironmentHost, HEDGING, Plan, Route};
use crate::upstream::{Ask, Breaker, Retries, Timeouts, Upstream};

/// What a call of gRPC hears whose messages somebody would have to see first.
const NO_CALLS: &str = "Calls of gRPC are not taken here: the body has to be whole first.";

/// What happens after a request was looked at.
#[derive(Debug)]
pub enum Next {
    /// It goes upstream, piece by piece.
    Upstream,
    /// It goes upstream as a whole, and so does the answer come back.
    Call,
    /// This is its answer.
    Answer(Reply),
    /// Somebody has to be asked before more is known: [`inquire`].
    Ask,
}

/// Decides about a request. What is decided on the way is noted in the exchange.
///
/// # Errors
/// What is wrong with the request, or keeps it from being served.
pub fn decide(plan: &Plan, head: &RequestHead, exchange: &mut Exchange) -> Result<Next, Fault> {
    let known = arrive::identify(plan, head, exchange);
    if let Some(fault) = exchange.refused {
        if fault == Fault::Overload {
            greet(plan, head, exchange);
        }
        return Err(fault);
    }
    exchange.events.check(Step::Client, known)?;
    let host = arrive::check_hosts(plan, head, exchange);
    exchange.events.check(Step::Hosts, host)?;
    let new = arrive::check_loop(plan, head);
    exchange.events.check(Step::Loop, new)?;
    find::find(plan, head, exchange);
    let route = route(plan, exchange).ok_or(Fault::Internal)?;
    exchange.events.note(Step::Match, Decision::Passed);
    match route.chain.request(head, exchange)? {
        Verdict::Continue => perform(plan, route, head, exchange),
        Verdict::Respond(reply) => Ok(Next::Answer(reply)),
        Verdict::Ask => Ok(Next::Ask),
    }
}

/// Lets a policy ask that has to, and decides with what it is told; the policy is dropped with the future.
///
/// # Errors
/// What is wrong with the request, or keeps it from being served.
pub async fn inquire(
    plan: &Plan,
    head: &RequestHead,
    exchange: &mut Exchange,
    outside: &Outside<'_>,
) -> Result<Next, Fault> {
    let route = route(plan, exchange).ok_or(Fault::Internal)?;
    match route.chain.ask(head, exchange, outside).await? {
        Verdict::Continue => perform(plan, route, head, exchange),
        Verdict::Respond(reply) => Ok(Next::Answer(reply)),
        Verdict::Ask => Ok(Next::Ask),
    }
}

/// How long the body may be that whoever is about to be asked has to be shown; none = it needs no more than is known.
///
/// # Errors
/// The request has a body that cannot be shown.
pub fn shown_max(
    plan: &Plan,
    head: &RequestHead,
    exchange: &mut Exchange,
) -> Result<Option<u64>, Fault> {
    if exchange.body.is_some() || !exchange.framing.has_body() {
        return Ok(None);
    }
    let chain = &route(plan, exchange).ok_or(Fault::Internal)?.chain;
    let Some(max) = chain.shown_max(head, exchange) else {
        return Ok(None);
    };
    let max = max.min(whole_max(exchange).0);
    let length = exchange.framing.content_length;
    if is_grpc(&head.headers) {
        // Its messages come one by one, and the next may wait for an answer to the last.
        exchange.detail = Some(Arc::from(NO_CALLS));
        return Err(not_shown(plan, Fault::UnsupportedMediaType, exchange));
    }
    if length.is_some_and(|length| length > max) {
        return Err(not_shown(plan, Fault::BodyTooLarge, exchange));
    }
    Ok(Some(max))
}

/// Notes that somebody cannot be asked, because of the request's body.
pub fn not_shown(plan: &Plan, fault: Fault, exchange: &mut Exchange) -> Fault {
    exchange.refusal = Some("whoever decides cannot be shown the body");
    if let Some(route) = route(plan, exchange) {
        route.chain.refuse_unasked(fault, exchange);
    }
    fault
}

/// The clause that has to ask somebody, by its key in the config.
#[must_use]
pub fn asking(plan: &Plan, exchange: &Exchange) -> &'static str {
    route(plan, exchange).map_or("policy", |route| route.chain.asking(exchange))
}

/// The route's action, once every policy has let the request through.
fn perform(
    plan: &Plan,
    route: &Route,
    head: &RequestHead,
    exchange: &mut Exchange,
) -> Result<Next, Fault> {
    let next = act::act(plan, route, head, exchange);
    let decision = match &next {
        Ok(Next::Upstream | Next::Call) => Decision::Forwarded,
        Ok(Next::Answer(_)) => Decision::Answered,
        Ok(Next::Ask) => Decision::Asks,
        Err(fault) => Decision::Refused(*fault),
    };
    exchange.events.note(Step::Action, decision);
    next
}

/// A page has to be able to read that it was sent away.
fn greet(plan: &Plan, head: &RequestHead, exchange: &mut Exchange) {
    find::find(plan, head, exchange);
    if let Some(route) = route(plan, exchange) {
        route.chain.greet(head, exchange);
    }
}

/// The route that the request falls under.
#[must_use]
pub fn route<'a>(plan: &'a Plan, exchange: &Exchange) -> Option<&'a Route> {
    let listener = plan.listeners.get(exchange.listener)?;
    listener.site.route(exchange.route)
}

/// The environment that the request was asked in.
fn environment<'a>(plan: &'a Plan, exchange: &Exchange) -> Option<&'a EnvironmentHost> {
    let listener = plan.listeners.get(exchange.listener)?;
    listener
        .site
        .environments
        .get(exchange.environment.as_deref()?)
}

/// The upstream of the route, or the one in its place: where the request was asked in an environment, or fell to another one.
#[must_use]
pub fn upstream<'a>(plan: &'a Plan, exchange: &Exchange) -> Option<&'a Arc<Upstream>> {
    if exchange.fallen.is_some() {
        return ladder::upstream(plan, exchange);
    }
    match &route(plan, exchange)?.action {
        Action::Proxy(number, upstream) => Some(
            environment(plan, exchange)
                .and_then(|environment| environment.upstreams.get(number))
                .unwrap_or(upstream),
        ),
        Action::Redirect(_) | Action::Respond(_) | Action::NotFound => None,
    }
}

/// What the target of the request is chosen by, as far as its upstream wants to know.
#[must_use]
pub fn ask(plan: &Plan, head: &RequestHead, exchange: &Exchange) -> Ask<'static> {
    let mut ask = Ask::default();
    let Some(upstream) = upstream(plan, exchange) else {
        return ask;
    };
    let facts = Facts::of(head, exchange);
    if let Some(key) = upstream.key() {
        let params = route(plan, exchange).map_or(&[][..], |route| &route.params);
        ask.key = key_hash(key, &facts, params);
    }
    if let Some(cookie) = upstream.sticky_cookie() {
        let cookie = facts.cookie(cookie);
        ask.stuck = cookie.and_then(|value| upstream.stuck(&value, exchange.unix_secs()));
    }
    ask
}

/// How long the steps of the request may take: as its route says, else as its upstream.
#[must_use]
pub fn timeouts(plan: &Plan, exchange: &Exchange) -> Timeouts {
    exchange
        .timeouts
        .or_else(|| Some(*upstream(plan, exchange)?.timeouts()))
        .unwrap_or_default()
}

/// When the request is sent again: as its route says, else as its upstream; none = never.
#[must_use]
pub fn retries<'a>(plan: &'a Plan, exchange: &Exchange) -> Option<&'a Retries> {
    match route(plan, exchange)?.chain.retries() {
        Some(own) => own.rules(),
        None => upstream(plan, exchange)?.resilience().retries(),
    }
}

/// The clauses that need the request or its answer as a whole: it is called, not streamed, where there are any.
#[must_use]
pub fn called_by(plan: &Plan, head: &RequestHead, exchange: &Exchange) -> Vec<&'static str> {
    let clauses = route(plan, exchange).map_or(&[][..], |route| route.chain.called_by());
    let shows = route(plan, exchange).and_then(|route| route.chain.shows_body());
    let shows = shows.filter(|clause| exchange.framing.has_body() && !clauses.contains(clause));
    let hedges = hedges(plan, head, exchange).then_some(HEDGING);
    let clauses = shows.into_iter().chain(clauses.iter().copied());
    clauses.chain(hedges).collect()
}

/// Whether the request is sent to a second target where the first takes long: it may be sent twice, and is known to be short
/// enough to be kept.
fn hedges(plan: &Plan, head: &RequestHead, exchange: &Exchange) -> bool {
    let Some(retries) = retries(plan, exchange).filter(|it| it.hedge_after().is_some()) else {
        return false;
    };
    let framing = &exchange.framing;
    let short = !framing.chunked && framing.content_length.unwrap_or(0) <= retries.body();
    let plain = framing.next == After::Request && !is_grpc(&head.headers);
    short && plain && is_repeatable(head)
}

/// What may hold the request back: as its route says, else as its upstream.
#[must_use]
pub fn breaker<'a>(plan: &'a Plan, exchange: &Exchange) -> Option<&'a Arc<Breaker>> {
    route(plan, exchange)?.breaker(upstream(plan, exchange)?)
}

/// The path that the upstream is asked for.
#[must_use]
pub fn upstream_path<'a>(head: &'a RequestHead, exchange: &'a Exchange) -> &'a str {
    let rewritten = exchange.to_upstream.path.as_deref();
    rewritten.unwrap_or_else(|| head.uri.path())
}

/// The clause that decided about the request, by its key in the config.
#[must_use]
pub fn decided_by(plan: &Plan, exchange: &Exchange) -> &'static str {
    if exchange.refused == Some(Fault::Overload) {
        return "overload";
    }
    if exchange.fallen.is_some() {
        return "fallback";
    }
    let route = route(plan, exchange);
    exchange
        .events
        .last()
        .map_or("http", |event| name(event.step, route))
}

/// The name of a step: the key of the config that it comes from.
fn name(step: Step, route: Option<&Route>) -> &'static str {
    match step {
        Step::Client => "trusted_proxies",
        Step::Hosts => "hosts",
        Step::Loop => "via",
        Step::Match => "match",
        Step::Policy(index) => route
            .and_then(|route| route.chain.name(usize::from(index)))
            .unwrap_or("policy"),
        Step::Action => route.map_or("match", |route| route.action.name()),
    }
}
