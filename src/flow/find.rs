//! Which route a request falls under; none is a route too.

use crate::exchange::{Exchange, RequestHead, host_of};
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
