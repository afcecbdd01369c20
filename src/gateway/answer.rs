//! Answers of our own onto the wire; the connection stays open where the client can safely go on.

use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderName,
    RETRY_AFTER, VARY,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora_proxy::Session;

use super::state::State;
use crate::base::units::http_date;
use crate::exchange::{Exchange, Fault, Reply};
use crate::plan::{Page, Pages};

/// A body up to this is read to its end, so that the connection can go on after a refusal.
const DRAIN_BYTES_MAX: usize = 64 * 1024;
/// How long that may take.
const DRAIN_TIME_MAX: Duration = Duration::from_millis(250);
/// How long a client that goes on sending is read from after its answer: a closed socket would take the answer from it.
const LINGER_TIME_MAX: Duration = Duration::from_secs(2);
/// When to come back after a 503 that says nothing else.
const RETRY_AFTER_SECONDS: u64 = 5;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// Sends an answer that was asked for.
pub(super) async fn reply(session: &mut Session, state: &mut State, reply: Reply) -> Result<()> {
    let mut head = ResponseHeader::build(reply.status, Some(reply.headers.len() + 4))?;
    for (name, value) in reply.headers {
        head.append_header(name, value)?;
    }
    common(&mut head, &state.exchange)?;
    write(session, state, head, reply.body).await
}

/// Sends the answer to a fault: as the client reads it best.
pub(super) async fn fault(session: &mut Session, state: &mut State, fault: Fault) -> Result<()> {
    state.exchange.fault = Some(fault);
    let kind = Kind::of(&session.req_header().headers);
    let (head, body) = fault_answer(&state.plan.pages, &state.exchange, fault, kind)?;
    write(session, state, head, body).await
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
        let content_type = headers
            .get(CONTENT_TYPE)
            .map_or(&b""[..], HeaderValue::as_bytes);
        let is_grpc = content_type
            .strip_prefix(b"application/grpc")
            .is_some_and(|rest| !rest.starts_with(b"-web"));
        if is_grpc {
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

fn fault_answer(
    pages: &Pages,
    exchange: &Exchange,
    fault: Fault,
    kind: Kind,
) -> Result<(ResponseHeader, Bytes)> {
    let detail = exchange.detail.as_deref();
    let page = match kind {
        Kind::Problem => pages.problem(fault, detail, exchange.id.text()),
        Kind::Html => pages.html(fault, detail, exchange.id.text()),
        Kind::Grpc => return Ok((grpc(pages, exchange, fault)?, Bytes::new())),
    };
    let mut head = ResponseHeader::build(page.status, Some(10))?;
    head.insert_header(CONTENT_TYPE, page.content_type)?;
    head.insert_header(CACHE_CONTROL, "no-store")?;
    head.insert_header(VARY, "accept")?;
    if let Some(allow) = exchange
        .allow
        .as_ref()
        .filter(|_| fault == Fault::MethodNotAllowed)
    {
        head.insert_header(ALLOW, allow.to_string())?;
    }
    if page.status == StatusCode::SERVICE_UNAVAILABLE {
        head.insert_header(RETRY_AFTER, RETRY_AFTER_SECONDS)?;
    }
    proxy_status(&mut head, exchange, fault)?;
    common(&mut head, exchange)?;
    Ok((head, page.body))
}

/// gRPC reads its status from the trailers; an answer without a body has them in its head.
fn grpc(pages: &Pages, exchange: &Exchange, fault: Fault) -> Result<ResponseHeader> {
    let mut head = ResponseHeader::build(StatusCode::OK, Some(6))?;
    head.insert_header(CONTENT_TYPE, "application/grpc")?;
    head.insert_header("grpc-status", u64::from(fault.meaning().grpc))?;
    let detail = exchange
        .detail
        .as_deref()
        .unwrap_or_else(|| pages.detail(fault));
    head.insert_header("grpc-message", grpc_message(detail))?;
    common(&mut head, exchange)?;
    Ok(head)
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
fn proxy_status(head: &mut ResponseHeader, exchange: &Exchange, fault: Fault) -> Result<()> {
    let internal = exchange
        .client
        .as_ref()
        .is_none_or(|client| match client.client {
            std::net::IpAddr::V4(ip) => ip.is_loopback() || ip.is_private(),
            std::net::IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local(),
        });
    if internal {
        let error = fault.meaning().proxy_status;
        head.insert_header(PROXY_STATUS, format!("doorward; error={error}"))?;
    }
    Ok(())
}

/// What every answer has.
fn common(head: &mut ResponseHeader, exchange: &Exchange) -> Result<()> {
    if let Some(id) = exchange.id.value() {
        head.insert_header(REQUEST_ID, id.clone())?;
    }
    exchange.to_client.apply(head);
    Ok(())
}

async fn write(
    session: &mut Session,
    state: &State,
    mut head: ResponseHeader,
    body: Bytes,
) -> Result<()> {
    let status = head.status;
    let bodiless = status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
        || status.is_informational();
    if !bodiless {
        head.insert_header(CONTENT_LENGTH, body.len())?;
    }
    let settled = !state.closing && settle(session, state).await;
    if !settled {
        session.set_keepalive(None);
    }
    let silent = bodiless || body.is_empty() || session.req_header().method == Method::HEAD;
    session
        .write_response_header(Box::new(head), silent)
        .await?;
    if !silent {
        session.write_response_body(Some(body), true).await?;
    }
    if !settled {
        linger(session, state).await?;
    }
    Ok(())
}

/// Reads on for a while behind the last answer of a connection, so that a client that is still sending gets to read it.
async fn linger(session: &mut Session, state: &State) -> Result<()> {
    let framing = &state.exchange.framing;
    if !framing.has_body() || framing.expect_continue || session.is_body_done() {
        return Ok(());
    }
    session.write_response_body(None, true).await?;
    let rest = async { while let Ok(Some(_)) = session.read_request_body().await {} };
    // Both ends are fine: the client is done, or it had its time.
    drop(tokio::time::timeout(LINGER_TIME_MAX, rest).await);
    Ok(())
}

/// Reads what is left of the request. `false`: the client is still sending, its next request could not be found.
async fn settle(session: &mut Session, state: &State) -> bool {
    let framing = &state.exchange.framing;
    if !framing.has_body() || session.is_body_done() {
        return true;
    }
    let too_large = framing
        .content_length
        .is_some_and(|length| length > DRAIN_BYTES_MAX as u64);
    // A client that waits for `100 Continue` may send its body or not: nobody can know.
    if too_large || framing.expect_continue {
        return false;
    }
    let drain = async {
        let mut read = 0;
        while let Ok(Some(chunk)) = session.read_request_body().await {
            read += chunk.len();
            if read > DRAIN_BYTES_MAX {
                return false;
            }
        }
        session.is_body_done()
    };
    tokio::time::timeout(DRAIN_TIME_MAX, drain)
        .await
        .unwrap_or(false)
}

/// The whole answer to a head that was refused before there was a session; the connection closes after it.
#[must_use]
pub fn raw(pages: &Pages, exchange: &Exchange, fault: Fault, unix_millis: i64) -> Bytes {
    let Page {
        status,
        content_type,
        body,
    } = pages.problem(fault, None, exchange.id.text());
    let mut out = Vec::with_capacity(512 + body.len());
    let mut line = |text: &str| out.extend_from_slice(text.as_bytes());
    line(&format!(
        "HTTP/1.1 {} {}\r\n",
        status.as_str(),
        status.canonical_reason().unwrap_or_default()
    ));
    for (name, value) in [
        (DATE, http_date(unix_millis / 1000).as_str()),
        (CONTENT_TYPE, content_type),
        (CONTENT_LENGTH, &body.len().to_string()),
        (CACHE_CONTROL, "no-store"),
        (REQUEST_ID, exchange.id.text()),
        (CONNECTION, "close"),
    ] {
        line(&format!("{name}: {value}\r\n"));
    }
    line("\r\n");
    out.extend_from_slice(&body);
    Bytes::from(out)
}
