//! Answers of our own: to what was asked for, and to faults, as the client reads them best.

use bytes::Bytes;
use http::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, RETRY_AFTER,
    TRANSFER_ENCODING, VARY,
};
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::base::units::http_date;
use crate::exchange::{Exchange, Fault, Headers, Reply, RequestHead, ResponseHead, is_grpc};
use crate::plan::{Pages, Plan};

/// When to come back after a 503 that says nothing else.
const RETRY_AFTER_SECONDS: u128 = 5;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// The answer that was asked for.
///
/// # Errors
/// A status that is none: our own mistake.
pub fn of_reply(reply: Reply, exchange: &Exchange) -> Result<(ResponseHead, Bytes), Fault> {
    let mut head = build(reply.status, reply.headers.len() + 4)?;
    for (name, value) in reply.headers {
        head.add(&name, value);
    }
    if let Some(fallen) = exchange.fallen {
        fallen.served.mark(&mut head);
    }
    common(&mut head, exchange);
    Ok((head, reply.body))
}

/// The answer that was asked for, as the policies of its route let the client have it.
///
/// # Errors
/// A status that is none: our own mistake.
pub fn of_own(
    plan: &Plan,
    asked: &RequestHead,
    reply: Reply,
    exchange: &mut Exchange,
) -> Result<(ResponseHead, Bytes), Fault> {
    let (mut head, body) = of_reply(reply, exchange)?;
    head.set(&CONTENT_LENGTH, HeaderValue::from(body.len()));
    if let Some(route) = super::route(plan, exchange) {
        route.chain.reply(asked, &mut head, exchange);
    }
    head.remove(&TRANSFER_ENCODING);
    head.remove(&CONTENT_LENGTH);
    Ok((head, body))
}

/// The answer to `fault`, in the form that a client with these headers reads best.
///
/// # Errors
/// A text that cannot be sent: our own mistake.
pub fn of_fault(
    pages: &Pages,
    asked: &HeaderMap,
    exchange: &Exchange,
    fault: Fault,
) -> Result<(ResponseHead, Bytes), Fault> {
    let detail = exchange.detail.as_deref();
    let page = match Kind::of(asked) {
        Kind::Problem => pages.problem(fault, detail, exchange.id.text()),
        Kind::Html => pages.html(fault, detail, exchange.id.text()),
        Kind::Grpc => return Ok((grpc(pages, exchange, fault)?, Bytes::new())),
    };
    let mut head = build(page.status, 10)?;
    head.set(&CONTENT_TYPE, value(page.content_type)?);
    head.set(&CACHE_CONTROL, HeaderValue::from_static("no-store"));
    head.set(&VARY, HeaderValue::from_static("accept"));
    if let Some(allow) = exchange
        .allow
        .as_ref()
        .filter(|_| fault == Fault::MethodNotAllowed)
    {
        head.set(&ALLOW, value(&allow.to_string())?);
    }
    if page.status == StatusCode::SERVICE_UNAVAILABLE {
        let seconds = match exchange.retry_after {
            Some(after) => after.as_millis().div_ceil(1000).max(1),
            None if fault == Fault::Overload => pages.busy_for().into(),
            None => RETRY_AFTER_SECONDS,
        };
        let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
        head.set(&RETRY_AFTER, HeaderValue::from(seconds));
    }
    if fault == Fault::TooManyRequests {
        // The next second begins with none.
        head.set(&RETRY_AFTER, HeaderValue::from(1));
    }
    proxy_status(&mut head, exchange, fault)?;
    common(&mut head, exchange);
    Ok((head, page.body))
}

/// gRPC reads its status from the trailers; an answer without a body has them in its head.
fn grpc(pages: &Pages, exchange: &Exchange, fault: Fault) -> Result<ResponseHead, Fault> {
    let mut head = build(StatusCode::OK, 6)?;
    head.set(&CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    for (name, value) in &trailers(pages, exchange, fault)? {
        head.set(name, value.clone());
    }
    common(&mut head, exchange);
    Ok(head)
}

/// What ends a call of gRPC whose answer has begun.
///
/// # Errors
/// A text that cannot be sent: our own mistake.
pub fn trailers(pages: &Pages, exchange: &Exchange, fault: Fault) -> Result<HeaderMap, Fault> {
    let detail = exchange
        .detail
        .as_deref()
        .unwrap_or_else(|| pages.detail(fault));
    let mut trailers = HeaderMap::with_capacity(2);
    trailers.insert(
        GRPC_STATUS,
        HeaderValue::from(u64::from(fault.meaning().grpc)),
    );
    trailers.insert(GRPC_MESSAGE, value(&grpc_message(detail))?);
    Ok(trailers)
}

/// Percent-encoded as the gRPC protocol has it: everything but printable ASCII, and `%`.
fn grpc_message(text: &str) -> String {
    text.bytes()
        .fold(String::with_capacity(text.len()), |mut out, byte| {
            match byte {
                b'%' | 0..0x20 | 0x7f.. => out.push_str(&format!("%{byte:02X}")),
                _ => out.push(char::from(byte)),
            }
            out
        })
}

/// Why there is no answer of an upstream (RFC 9209): told to clients of our own network, nobody else's business.
fn proxy_status(head: &mut ResponseHead, exchange: &Exchange, fault: Fault) -> Result<(), Fault> {
    let internal = exchange
        .client
        .as_ref()
        .is_none_or(|client| match client.client {
            std::net::IpAddr::V4(ip) => ip.is_loopback() || ip.is_private(),
            std::net::IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local(),
        });
    if internal {
        let error = fault.meaning().proxy_status;
        head.set(&PROXY_STATUS, value(&format!("doorward; error={error}"))?);
    }
    Ok(())
}

/// What every answer has.
fn common(head: &mut ResponseHead, exchange: &Exchange) {
    if let Some(id) = exchange.id.value() {
        head.set(&REQUEST_ID, id.clone());
    }
    exchange.to_client.apply(head);
    if let Some(careful) = exchange.careful {
        careful.apply(head, exchange.client_scheme());
    }
}

fn build(status: StatusCode, headers: usize) -> Result<ResponseHead, Fault> {
    ResponseHead::build(status, Some(headers)).map_err(|_error| Fault::Internal)
}

fn value(text: &str) -> Result<HeaderValue, Fault> {
    HeaderValue::from_str(text).map_err(|_error| Fault::Internal)
}

/// The form of an answer to a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Problem,
    Html,
    Grpc,
}

impl Kind {
    /// gRPC reads trailers, browsers ask for HTML first, everybody else gets a problem.
    fn of(headers: &HeaderMap) -> Self {
        if is_grpc(headers) {
            return Self::Grpc;
        }
        let accept = headers
            .get(ACCEPT)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let place = |wanted: &str| {
            accept.split(',').position(|item| {
                item.split(';')
                    .next()
                    .is_some_and(|kind| kind.trim() == wanted)
            })
        };
        match (
            place("text/html"),
            place("application/json").or_else(|| place("application/problem+json")),
        ) {
            (Some(html), Some(json)) if html < json => Self::Html,
            (Some(_), None) => Self::Html,
            (Some(_) | None, _) => Self::Problem,
        }
    }
}

/// The whole answer to a head that was refused before there was a session; the connection closes after it.
#[must_use]
pub fn raw(pages: &Pages, exchange: &Exchange, fault: Fault) -> Bytes {
    let answer = of_fault(pages, &HeaderMap::new(), exchange, fault);
    answer.map_or_else(
        |_| Bytes::new(),
        |(mut head, body)| {
            head.set(&CONTENT_LENGTH, body.len().into());
            to_bytes(&head, &body, exchange.unix_millis)
        },
    )
}

/// An answer as HTTP/1.1 has it on the wire, with the length that its head tells; the connection closes after it.
#[must_use]
pub fn to_bytes(head: &ResponseHead, body: &Bytes, unix_millis: i64) -> Bytes {
    let mut out = Vec::with_capacity(512 + body.len());
    let mut line = |name: &str, value: &[u8]| {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    };
    let status = head.status;
    let reason = status.canonical_reason().unwrap_or_default();
    line(
        "HTTP/1.1 ",
        format!("{} {reason}", status.as_str()).as_bytes(),
    );
    line("date: ", http_date(unix_millis / 1000).as_bytes());
    line("connection: ", b"close");
    for (name, value) in &head.headers {
        line(&format!("{name}: "), value.as_bytes());
    }
    line("", b"");
    out.extend_from_slice(body);
    Bytes::from(out)
}
