//! 1: who asks, for what, and what becomes of it.

use http::header::{HeaderName, MAX_FORWARDS, ORIGIN};
use http::{HeaderValue, Method, StatusCode};
use pingora::Result;
use pingora_proxy::Session;

use super::state::State;
use super::{answer, peer};
use crate::base::forwarded::{ClientChain, request_id_valid};
use crate::exchange::{
    Exchange, Facts, Fault, Reply, RequestHead, RequestId, TraceContext, Verdict, host_of,
};
use crate::plan::{Action, Route};
use crate::router::{Allow, Found, Request};

/// More gateways of our kind than this one behind another is a loop.
const HOPS_MAX: usize = 8;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// What happens after the request was looked at.
enum Next {
    /// It goes upstream.
    Upstream,
    /// This is its answer.
    Answer(Reply),
}

/// Decides about a request. `Ok(true)`: it has its answer.
pub(super) async fn filter(session: &mut Session, state: &mut State) -> Result<bool> {
    if state.closing {
        session.set_keepalive(None);
    }
    match decide(session.req_header(), state) {
        // Answered here, where the connection can go on.
        Ok(Next::Upstream) if !peer::is_there(state) => {
            let fault = Fault::NoTarget;
            answer::fault(session, state, fault).await.map(|()| true)
        }
        Ok(Next::Upstream) => {
            if state.exchange.framing.expect_continue {
                // Pingora would close after an answer that comes before the body is whole; this one is none.
                let keepalive = session.get_keepalive();
                session.write_continue_response().await?;
                session.set_keepalive(keepalive);
            }
            Ok(false)
        }
        Ok(Next::Answer(reply)) => answer::reply(session, state, reply).await.map(|()| true),
        Err(fault) => answer::fault(session, state, fault).await.map(|()| true),
    }
}

fn decide(head: &RequestHead, state: &mut State) -> Result<Next, Fault> {
    identify(head, state)?;
    check_listener(head, state)?;
    check_loop(head, state)?;
    find(head, state);
    let State {
        plan,
        listener,
        exchange,
        ..
    } = state;
    let site = &plan.listeners.get(*listener).ok_or(Fault::Internal)?.site;
    let route = site.route(exchange.route).ok_or(Fault::Internal)?;
    if let Verdict::Respond(reply) = route.chain.request(head, exchange)? {
        return Ok(Next::Answer(reply));
    }
    act(route, head, exchange)
}

/// Who the client is, and the name of the request.
fn identify(head: &RequestHead, state: &mut State) -> Result<(), Fault> {
    let trusted = state
        .plan
        .listeners
        .get(state.listener)
        .map(|listener| &listener.trusted);
    let client = state
        .peer
        .zip(trusted)
        .map(|(peer, trusted)| ClientChain::resolve(peer, trusted, &head.headers));
    let vouched = client.as_ref().is_some_and(|client| client.trusted_peer);
    let given = head
        .headers
        .get(&REQUEST_ID)
        .filter(|id| vouched && id.to_str().is_ok_and(request_id_valid));
    let exchange = &mut state.exchange;
    exchange.id = given.map_or_else(
        || RequestId::new(exchange.unix_millis),
        |id| RequestId::given(id.clone()),
    );
    exchange.client = client;
    exchange.trace = Some(TraceContext::of(&head.headers));
    exchange.asked_host = head.headers.get(http::header::HOST).cloned();
    // Two stories about one client: whoever believed either could be led to believe the wrong one.
    if exchange
        .client
        .as_ref()
        .is_some_and(|client| client.conflict)
    {
        Err(Fault::BadRequest)
    } else {
        Ok(())
    }
}

/// A host that is not served here belongs to another connection (RFC 9110 section 15.5.20).
fn check_listener(head: &RequestHead, state: &State) -> Result<(), Fault> {
    let listener = state.listener().ok_or(Fault::Internal)?;
    let host = host_of(&head.headers);
    if listener.hosts.is_empty() || listener.hosts.iter().any(|pattern| pattern.matches(host)) {
        return Ok(());
    }
    Err(Fault::MisdirectedRequest)
}

/// A request that went round comes back with our name in `Via` (RFC 9110 section 7.6.3).
fn check_loop(head: &RequestHead, state: &State) -> Result<(), Fault> {
    let mut ours = 0;
    for line in head.headers.get_all(http::header::VIA) {
        let Ok(line) = line.to_str() else { continue };
        for hop in line.split(',') {
            let mut words = hop.split_ascii_whitespace().skip(1);
            let name = words.next().unwrap_or_default();
            if name == &*state.plan.via {
                return Err(Fault::LoopDetected);
            }
            ours += usize::from(name.starts_with("doorward"));
        }
    }
    if ours > HOPS_MAX {
        Err(Fault::LoopDetected)
    } else {
        Ok(())
    }
}

/// Which route the request falls under; none is a route too.
fn find(head: &RequestHead, state: &mut State) {
    let State {
        plan,
        listener,
        exchange,
        environment,
        ..
    } = state;
    let Some(listener) = plan.listeners.get(*listener) else {
        return;
    };
    let site = &listener.site;
    let asked = host_of(&head.headers);
    let alias = if site.environments.is_empty() {
        None
    } else {
        site.environments.get_key_value(asked)
    };
    *environment = alias.map(|(host, _)| host.clone());
    let host = alias.map_or(asked, |(_, other)| &other.host);
    let found = site.router.find(&Request {
        host,
        path: head.uri.path(),
        query: head.uri.query().unwrap_or_default(),
        method: &head.method,
        headers: &head.headers,
        client_ip: exchange.client.as_ref().map(|client| client.client),
        unix_millis: exchange.unix_millis,
        scheme: exchange.client_scheme().as_str(),
        id: exchange.id.text(),
    });
    exchange.route = site.not_found();
    match found {
        Found::Route(route) => {
            exchange.route = usize::try_from(route.id).unwrap_or(exchange.route);
            exchange.params = route.params;
        }
        Found::MethodNotAllowed { allow } | Found::Options { allow } => {
            exchange.allow = Some(allow);
        }
        Found::NotFound => {}
    }
    if let Some(route) = site.route(exchange.route) {
        exchange.route_name.clone_from(&route.name);
    }
}

/// Performs the route's action, as far as it needs no upstream.
fn act(route: &Route, head: &RequestHead, exchange: &Exchange) -> Result<Next, Fault> {
    let facts = Facts::of(head, exchange);
    if head.method == Method::OPTIONS
        && head
            .headers
            .get(MAX_FORWARDS)
            .is_some_and(|hops| hops.as_bytes() == b"0")
    {
        // RFC 9110 section 7.6.2: the last recipient answers.
        return Ok(Next::Answer(options(exchange.allow.as_ref())));
    }
    match &route.action {
        Action::Proxy(..) => Ok(Next::Upstream),
        Action::Respond(response) => Ok(Next::Answer(response.reply(&facts))),
        Action::Redirect(redirection) => redirection
            .reply(&facts)
            .map(Next::Answer)
            .ok_or(Fault::BadPath),
        Action::NotFound => not_found(head, exchange.allow.as_ref()),
    }
}

fn not_found(head: &RequestHead, allow: Option<&Allow>) -> Result<Next, Fault> {
    let preflight = head.headers.contains_key(ORIGIN)
        && head.headers.contains_key("access-control-request-method");
    match allow {
        // Without a CORS clause a preflight gets the same plain answer: the browser then refuses.
        Some(allow) if head.method == Method::OPTIONS || preflight => {
            Ok(Next::Answer(options(Some(allow))))
        }
        Some(_) => Err(Fault::MethodNotAllowed),
        None if head.method == Method::OPTIONS && head.uri.path() == "*" => {
            Ok(Next::Answer(options(None)))
        }
        None => Err(Fault::NotFound),
    }
}

fn options(allow: Option<&Allow>) -> Reply {
    let allow = allow.map_or_else(
        || "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS".to_owned(),
        ToString::to_string,
    );
    let reply = Reply::empty(StatusCode::NO_CONTENT);
    match HeaderValue::from_str(&allow) {
        Ok(value) => reply.header(http::header::ALLOW, value),
        Err(_) => reply,
    }
}
