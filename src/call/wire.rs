//! The head of a call as it is sent: what belongs to the client's connection is gone, and the body has its length.

use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Method, Uri, Version};
use smallvec::SmallVec;

use super::{Failed, Request};
use crate::exchange::{Fault, Headers as _, RequestHead};

/// How often the request was sent, this time included; only where it was sent before.
const ATTEMPT: HeaderName = HeaderName::from_static("x-attempt");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Belong to one connection (RFC 9110 section 7.6.1).
const OF_A_CONNECTION: [HeaderName; 10] = [
    KEEP_ALIVE,
    PROXY_CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    CONNECTION,
    UPGRADE,
    HTTP2_SETTINGS,
];

/// Takes off what belongs to the client's connection, and what `Connection` says does. What others rely on is never named
/// there: such a head was refused.
pub fn strip_connection(head: &mut RequestHead) {
    let mut named: SmallVec<[HeaderName; 4]> = SmallVec::new();
    for line in head.headers.get_all(CONNECTION) {
        let names = line.as_bytes().split(|byte| *byte == b',');
        named.extend(names.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok()));
    }
    for name in named.iter().chain(&OF_A_CONNECTION) {
        head.remove(name);
    }
}

/// The head for a connection of HTTP/1.
pub(super) fn http1(request: &Request, attempt: u16) -> Result<Box<RequestHead>, Failed> {
    let mut head = framed(request, attempt);
    head.set_version(Version::HTTP_11);
    head.set_uri(Uri::from(path(&head)?));
    Ok(head)
}

/// The head for a stream of HTTP/2: who is asked stands in its address only.
pub(super) fn http2(
    request: &Request,
    scheme: Scheme,
    attempt: u16,
) -> Result<Box<RequestHead>, Failed> {
    let mut head = framed(request, attempt);
    let mut parts = http::uri::Parts::default();
    let host = head.headers.get(HOST).map(HeaderValue::as_bytes);
    parts.authority = host.and_then(|host| host.try_into().ok());
    parts.path_and_query = Some(path(&head)?);
    parts.scheme = Some(scheme);
    let uri = Uri::from_parts(parts).map_err(|_error| unsendable())?;
    head.remove(&HOST);
    head.set_uri(uri);
    head.set_version(Version::HTTP_2);
    Ok(head)
}

fn framed(request: &Request, attempt: u16) -> Box<RequestHead> {
    let mut head = Box::new(request.head.clone());
    if attempt > 1 {
        head.set(&ATTEMPT, HeaderValue::from(attempt));
    }
    head.remove(&TRANSFER_ENCODING);
    let length = request.body.len();
    let expected = matches!(head.method, Method::POST | Method::PUT | Method::PATCH);
    if length > 0 || expected {
        head.set(&CONTENT_LENGTH, HeaderValue::from(length));
    } else {
        head.remove(&CONTENT_LENGTH);
    }
    head
}

fn path(head: &RequestHead) -> Result<PathAndQuery, Failed> {
    head.uri.path_and_query().cloned().ok_or_else(unsendable)
}

fn unsendable() -> Failed {
    Failed::new(Fault::Internal, "a head that cannot be sent")
}
