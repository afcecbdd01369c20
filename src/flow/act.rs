//! Performs a route's action, as far as it needs no upstream.

use http::header::{ALLOW, MAX_FORWARDS, ORIGIN};
use http::{HeaderValue, Method, StatusCode};

use super::{Next, upstream};
use crate::exchange::{Exchange, Facts, Fault, Mode, Reply, RequestHead};
use crate::plan::{Action, Plan, Route};
use crate::router::Allow;

/// What the action of `route` does with the request.
pub(super) fn act(
    plan: &Plan,
    route: &Route,
    head: &RequestHead,
    exchange: &Exchange,
) -> Result<Next, Fault> {
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
        Action::Proxy(..) => {
            let there = exchange.mode == Mode::Offline
                || upstream(plan, exchange).is_some_and(|upstream| upstream.has_target());
            let lacks = if there {
                super::check_credential(plan, exchange).err()
            } else {
                Some(Fault::NoTarget)
            };
            // Answered here, where the connection can go on, unless somebody else may help.
            let alone = |fault: &Fault| {
                !super::has_fallback(plan, exchange, *fault)
                    && !super::retries(plan, exchange)
                        .is_some_and(|retries| fault.meets(retries.on()))
            };
            if let Some(fault) = lacks.filter(alone) {
                return Err(fault);
            }
            if !route.chain.called_by().is_empty() {
                super::called::check_type(&route.chain, head, exchange).map(|()| Next::Call)
            } else if exchange.body.is_some() || super::hedges(plan, head, exchange) {
                Ok(Next::Call)
            } else {
                Ok(Next::Upstream)
            }
        }
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
        Ok(value) => reply.header(ALLOW, value),
        Err(_) => reply,
    }
}
