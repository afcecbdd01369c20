//! Who asks, by which door, and whether the request was here before.

use http::header::{HOST, HeaderName, VIA};

use crate::base::forwarded::{ClientChain, request_id_valid};
use crate::exchange::{Exchange, Fault, Mode, RequestHead, RequestId, TraceContext, host_of};
use crate::plan::{Listener, Plan};

/// More gateways of our kind than this one behind another is a loop.
const HOPS_MAX: usize = 8;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Who the client is, and the name of the request.
pub(super) fn identify(
    plan: &Plan,
    head: &RequestHead,
    exchange: &mut Exchange,
) -> Result<(), Fault> {
    let trusted = plan
        .listeners
        .get(exchange.listener)
        .map(|listener| &listener.trusted);
    let client = exchange
        .peer
        .zip(trusted)
        .map(|(peer, trusted)| ClientChain::resolve(peer, trusted, &head.headers));
    let vouched = client.as_ref().is_some_and(|client| client.trusted_peer);
    let given = head
        .headers
        .get(&REQUEST_ID)
        .filter(|id| vouched && id.to_str().is_ok_and(request_id_valid));
    exchange.id = given.map_or_else(
        || RequestId::new(exchange.unix_millis),
        |id| RequestId::given(id.clone()),
    );
    exchange.client = client;
    exchange.trace = Some(TraceContext::of(&head.headers));
    exchange.asked_host = head.headers.get(HOST).cloned();
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
pub(super) fn check_hosts(
    plan: &Plan,
    head: &RequestHead,
    exchange: &Exchange,
) -> Result<(), Fault> {
    let listener = plan
        .listeners
        .get(exchange.listener)
        .ok_or(Fault::Internal)?;
    let host = host_of(&head.headers);
    let served =
        listener.hosts.is_empty() || listener.hosts.iter().any(|pattern| pattern.matches(host));
    if served && is_secured_for(listener, exchange, host) {
        return Ok(());
    }
    Err(Fault::MisdirectedRequest)
}

/// A connection that was made for one host is good for another only where both are kept in the same way.
fn is_secured_for(listener: &Listener, exchange: &Exchange, host: &str) -> bool {
    match (&listener.entrance.tls, exchange.secured.as_deref()) {
        (Some(site), Some(secured)) => site.admits(secured.name.as_deref(), secured.policy, host),
        (None, None) => true,
        // A request that is only thought of has no connection.
        (Some(_), None) if exchange.mode != Mode::Live => true,
        // The listener was changed since: the client has to come again.
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// A request that went round comes back with our name in `Via` (RFC 9110 section 7.6.3).
pub(super) fn check_loop(plan: &Plan, head: &RequestHead) -> Result<(), Fault> {
    let mut ours = 0;
    for line in head.headers.get_all(VIA) {
        let Ok(line) = line.to_str() else { continue };
        for hop in line.split(',') {
            let mut words = hop.split_ascii_whitespace().skip(1);
            let name = words.next().unwrap_or_default();
            if name == &*plan.via {
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
