//! What the client gets of an upstream's answer.

use http::header::{SET_COOKIE, TRANSFER_ENCODING};
use http::{StatusCode, Version};

use crate::exchange::{Exchange, Headers, RequestHead, ResponseHead};
use crate::plan::Plan;

const X_REQUEST_ID: &str = "x-request-id";

/// Makes the answer ours: policies in reverse, what they queued, the request's id.
pub fn shape(plan: &Plan, asked: &RequestHead, head: &mut ResponseHead, exchange: &mut Exchange) {
    if head.status.is_informational() && head.status != StatusCode::SWITCHING_PROTOCOLS {
        return;
    }
    super::credential::heard(plan, head.status, exchange);
    if let Some(route) = super::route(plan, exchange) {
        route.chain.response(asked, head, exchange);
        if let Some(fallen) = exchange.fallen {
            fallen.served.mark(head);
        }
    }
    exchange.to_client.apply(head);
    if let Some(cookie) = exchange.sticky.take() {
        head.add(&SET_COOKIE, cookie);
    }
    if let Some(careful) = exchange.careful {
        careful.apply(head, exchange.client_scheme());
    }
    if asked.version == Version::HTTP_10 {
        // It knows no chunks: the body ends with the connection.
        head.remove(&TRANSFER_ENCODING);
    }
    if let Some(id) = exchange.id.value() {
        // By its text: Pingora copies the text of a name that is none of the usual ones.
        drop(head.insert_header(X_REQUEST_ID, id.clone()));
    }
}
