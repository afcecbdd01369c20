//! The head of a request in HTTP/2: the same rules as in HTTP/1, by the same code, and those of RFC 9113 section 8.

use bytes::BytesMut;
use http::header::{COOKIE, HOST, TE};
use http::{HeaderMap, HeaderValue, Method, Uri};
use pingora::http::RequestHeader;

use super::fault::Fault;
use super::fields::Lines;
use super::grpc::{check_metadata, is_grpc};
use super::head::{Framing, HeadLimits, authority_equals, check_method};
use super::target::Target;
use crate::base::canon;

/// Headers that belong to a connection of HTTP/1 (RFC 9113 section 8.2.2).
const FORBIDDEN: [&str; 5] = [
    "connection",
    "transfer-encoding",
    "upgrade",
    "keep-alive",
    "proxy-connection",
];

/// Gives the values of an answer's lines a place of their own.
///
/// HPACK keeps them for as long as the client's connection lives, and each of them keeps all that was read along with it: the
/// whole buffer of the upstream's head.
pub fn unbind_values(lines: &mut HeaderMap) {
    let mut place = BytesMut::with_capacity(lines.values().map(HeaderValue::len).sum());
    for value in lines.values_mut() {
        place.extend_from_slice(value.as_bytes());
        if let Ok(mut own) = HeaderValue::from_maybe_shared(place.split().freeze()) {
            own.set_sensitive(value.is_sensitive());
            *value = own;
        }
    }
}

/// Checks a head and makes it canonical: its target is a path, its host is in `Host`.
///
/// # Errors
/// What is wrong with it; such a request never reaches an upstream.
pub fn check(head: &mut RequestHeader, limits: &HeadLimits) -> Result<Framing, Fault> {
    if head.method == Method::CONNECT {
        // WebSockets over HTTP/2 (RFC 8441) are not spoken; a tunnel is nobody's business.
        // Only an extended one has a scheme (RFC 8441 section 4).
        return Err(if head.uri.scheme().is_some() {
            Fault::NotImplemented
        } else {
            Fault::MethodNotAllowed
        });
    }
    check_method(head.method.as_str().as_bytes())?;
    if !matches!(head.uri.scheme_str(), None | Some("http" | "https")) {
        return Err(Fault::BadRequest);
    }
    let mut lines = Lines::default();
    let mut bytes = 0;
    for (name, value) in &head.headers {
        let name = name.as_str();
        // As it would be in HTTP/1: with its colon, its blank and its end.
        bytes += name.len() + value.len() + 4;
        let trailers = name != TE.as_str() || value.as_bytes() == b"trailers";
        if FORBIDDEN.contains(&name) || !trailers {
            return Err(Fault::BadRequest);
        }
        lines.note(name.as_bytes(), value.as_bytes(), limits)?;
    }
    if bytes > limits.header_bytes {
        return Err(Fault::HeadersTooLarge);
    }
    lines.check(1)?;
    let authority = head.uri.authority().map(http::uri::Authority::as_str);
    let host = match (authority, lines.hosts) {
        (Some(authority), 0) => canon::parse_authority(authority)
            .map_err(|_fault| Fault::BadHost)?
            .canonical()
            .into_owned(),
        (_, 1) => lines.host()?.into_owned(),
        (_, _) => return Err(Fault::BadHost),
    };
    if authority.is_some_and(|authority| !authority_equals(authority, &host)) {
        return Err(Fault::BadHost);
    }
    let path = head.uri.path_and_query().map_or("", |path| path.as_str());
    if path.len() > limits.uri {
        return Err(Fault::UriTooLong);
    }
    let target = Target::parse(head.method.as_str(), path)?;
    let uri = uri(&target)?;
    let framing = lines.framing(1)?;
    let host = HeaderValue::try_from(host).map_err(|_error| Fault::BadHost)?;
    head.set_uri(uri);
    head.insert_header(HOST, host)
        .map_err(|_error| Fault::BadHost)?;
    join_cookies(head)?;
    if is_grpc(&head.headers) {
        check_metadata(head)?;
    }
    Ok(framing)
}

fn uri(target: &Target<'_>) -> Result<Uri, Fault> {
    let text = match &target.query {
        Some(query) => format!("{}?{query}", target.path),
        None => target.path.clone().into_owned(),
    };
    Uri::try_from(text).map_err(|_error| Fault::BadPath)
}

/// They may come in pieces, which HTTP/1 does not know (RFC 9113 section 8.2.3).
fn join_cookies(head: &mut RequestHeader) -> Result<(), Fault> {
    let mut pieces = head.headers.get_all(COOKIE).iter();
    if pieces.next().is_none() || pieces.next().is_none() {
        return Ok(());
    }
    let mut joined = BytesMut::new();
    for piece in head.headers.get_all(COOKIE) {
        if !joined.is_empty() {
            joined.extend_from_slice(b"; ");
        }
        joined.extend_from_slice(piece.as_bytes());
    }
    let joined = HeaderValue::from_maybe_shared(joined.freeze());
    let joined = joined.map_err(|_error| Fault::BadRequest)?;
    let set = head.insert_header(COOKIE, joined);
    set.map_err(|_error| Fault::BadRequest)
}
