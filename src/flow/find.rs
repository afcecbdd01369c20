//! Which route a request falls under; none is a route too.

use http::Method;

use crate::exchange::{Exchange, Reader, RequestHead, host_of, preflight_for};
use crate::plan::{Plan, Site};
use crate::router::{Found, Request};

/// Finds the route, and what is known with it.
pub(super) fn find(plan: &Plan, head: &RequestHead, exchange: &mut Exchange) {
    let Some(listener) = plan.listeners.get(exchange.listener) else {
        return;
    };
    let site: &Site = &listener.site;
    let asked = host_of(&head.headers);
    let alias = if site.environments.is_empty() {
        None
    } else {
        site.environments.get_key_value(asked)
    };
    exchange.environment = alias.map(|(host, _)| host.clone());
    let host = alias.map_or(asked, |(_, other)| &other.host);
    let request = Request {
        host,
        path: head.uri.path(),
        query: head.uri.query().unwrap_or_default(),
        method: &head.method,
        headers: &head.headers,
        client_ip: exchange.client.as_ref().map(|client| client.client),
        unix_millis: exchange.unix_millis,
        scheme: exchange.client_scheme().as_str(),
        id: exchange.id.text(),
    };
    let (found, reader) = match preflight_for(head) {
        Some(method) => before(site, &request, &method),
        None => (site.router.find(&request), Reader::Nobody),
    };
    exchange.reader = reader;
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

/// What a preflight falls under: the route of the request that it comes before, where that one answers preflights, else its own.
/// Then nobody may say in place of that route that pages may use it.
fn before(site: &Site, request: &Request<'_>, method: &Method) -> (Found<u32>, Reader) {
    let found = site.router.find(&Request { method, ..*request });
    let Found::Route(route) = &found else {
        return (site.router.find(request), Reader::Nobody);
    };
    let route = usize::try_from(route.id).ok().and_then(|id| site.route(id));
    if route.is_some_and(|route| route.chain.answers_preflights()) {
        (found, Reader::Nobody)
    } else {
        (site.router.find(request), Reader::Foreign)
    }
}
