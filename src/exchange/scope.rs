//! The facts of an exchange under the names that templates and expressions quote.

use std::net::IpAddr;

use http::HeaderMap;
use http::header::HOST;

use super::{Exchange, RequestHead, ResponseHead};
use crate::expr::Scope;

/// An exchange with the heads that are known.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// The request's head, canonical.
    pub head: &'a RequestHead,
    /// What is known of it.
    pub exchange: &'a Exchange,
    /// The answer's head, once there is one.
    pub response: Option<&'a ResponseHead>,
}

impl<'a> Facts<'a> {
    /// The facts while the answer is not known.
    #[must_use]
    pub const fn of(head: &'a RequestHead, exchange: &'a Exchange) -> Self {
        Self {
            head,
            exchange,
            response: None,
        }
    }
}

/// The canonical host of a request, without its port.
#[must_use]
pub fn host_of(headers: &HeaderMap) -> &str {
    let authority = headers
        .get(HOST)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    // What does not end in a digit does not end in a port.
    if !authority.ends_with(|last: char| last.is_ascii_digit()) {
        return authority;
    }
    match authority.rsplit_once(':') {
        // `[::1]` has colons but no port.
        Some((host, port)) if !port.ends_with(']') => host,
        _ => authority,
    }
}

impl Scope for Facts<'_> {
    fn param(&self, index: usize) -> Option<&str> {
        self.exchange.params.get(index, self.head.uri.path())
    }
    fn request_id(&self) -> Option<&str> {
        Some(self.exchange.id.text())
    }
    fn method(&self) -> Option<&str> {
        Some(self.head.method.as_str())
    }
    fn scheme(&self) -> Option<&str> {
        Some(self.exchange.client_scheme().as_str())
    }
    fn host(&self) -> Option<&str> {
        Some(host_of(&self.head.headers))
    }
    fn path(&self) -> Option<&str> {
        Some(self.head.uri.path())
    }
    fn raw_query(&self) -> Option<&str> {
        self.head.uri.query()
    }
    fn headers(&self) -> Option<&HeaderMap> {
        Some(&self.head.headers)
    }
    fn client_ip(&self) -> Option<IpAddr> {
        self.exchange.client.as_ref().map(|client| client.client)
    }
    fn route_name(&self) -> Option<&str> {
        Some(&self.exchange.route_name)
    }
    fn auth_method(&self) -> Option<&str> {
        self.exchange
            .identity
            .as_ref()
            .map(|identity| identity.method)
    }
    fn auth_sub(&self) -> Option<&str> {
        self.exchange.identity.as_ref()?.subject.as_deref()
    }
    fn claims(&self) -> Option<&serde_json::Map<String, serde_json::Value>> {
        self.exchange
            .identity
            .as_ref()
            .map(|identity| &identity.claims)
    }
    fn consumer_name(&self) -> Option<&str> {
        let consumer = self.exchange.identity.as_ref()?.consumer.as_ref()?;
        Some(&consumer.name)
    }
    fn consumer_plan(&self) -> Option<&str> {
        let consumer = self.exchange.identity.as_ref()?.consumer.as_ref()?;
        consumer.plan.as_ref().map(|plan| &*plan.name)
    }
    fn consumer_groups(&self) -> Option<&[Box<str>]> {
        let consumer = self.exchange.identity.as_ref()?.consumer.as_ref()?;
        Some(&consumer.groups)
    }
    fn response_status(&self) -> Option<u16> {
        self.response.map(|head| head.status.as_u16())
    }
    fn response_headers(&self) -> Option<&HeaderMap> {
        self.response.map(|head| &head.headers)
    }
}
