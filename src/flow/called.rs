//! A route whose bodies are needed as a whole: what goes upstream, and what the client gets of the answer.

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, IF_RANGE,
    RANGE, TRANSFER_ENCODING, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};

use super::{outgoing, route};
use crate::call::{Answer, Request, strip_connection};
use crate::exchange::{
    DIGESTS, Edit, Exchange, Facts, Fault, Headers as _, RequestHead, ResponseHead, is_told_body,
    weaken,
};
use crate::plan::Plan;
use crate::policy::{BodyChanges, Chain};
use crate::upstream::Payload;

/// The longest bodies that are read as a whole where `body_limits` says nothing: 10 MiB.
const WHOLE_MAX: u64 = 10 * 1024 * 1024;

/// How long a request's body may be, and an answer's: both are held in memory.
#[must_use]
pub fn whole_max(exchange: &Exchange) -> (u64, u64) {
    let limits = &exchange.limits;
    let or = |limit: Option<u64>| limit.unwrap_or(WHOLE_MAX);
    (or(limits.request), or(limits.response))
}

/// Whether the body of a request is one that can be shaped, where that is asked for: known before it is read.
pub(super) fn check_type(
    chain: &Chain,
    head: &RequestHead,
    exchange: &Exchange,
) -> Result<(), Fault> {
    let shaped = chain.request_body().is_some() && exchange.framing.has_body();
    if shaped && (!is_json(&head.headers) || is_encoded(&head.headers)) {
        return Err(Fault::UnsupportedMediaType);
    }
    Ok(())
}

/// The whole request, as the upstream gets it.
///
/// # Errors
/// The body is not what the route takes.
pub fn to_upstream(
    plan: &Plan,
    head: &RequestHead,
    mut body: Bytes,
    exchange: &Exchange,
) -> Result<Request, Fault> {
    // Only here is there a body to hold it to.
    if exchange.body_is_signed && !is_told_body(&head.headers, &body) {
        return Err(Fault::Unauthenticated);
    }
    let chain = &route(plan, exchange).ok_or(Fault::Internal)?.chain;
    let mut sent = head.clone();
    strip_connection(&mut sent);
    let changes = chain.request_body().filter(|_| !body.is_empty());
    if let Some(changes) = changes {
        let shaped = changes.apply(&body, &Facts::of(head, exchange));
        body = Bytes::from(shaped.map_err(|_unreadable| Fault::BadBody)?);
        for name in &DIGESTS {
            sent.remove(name);
        }
    }
    outgoing::write(&mut sent, plan, exchange)?;
    super::show_credential(plan, &mut sent, exchange, Payload::Whole(&body))?;
    if chain.response_body().is_some() {
        // Only what comes whole and plain can be changed.
        sent.set(&ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        sent.remove(&RANGE);
        sent.remove(&IF_RANGE);
    }
    Ok(Request { head: sent, body })
}

/// Says what would help whose body is not the one that was signed (RFC 9110 section 15.5.2).
pub fn ask_again(fault: Fault, exchange: &mut Exchange) {
    if fault == Fault::Unauthenticated {
        let challenge = HeaderValue::from_static("Signature realm=\"api\"");
        exchange
            .to_client
            .push(Edit::Add(WWW_AUTHENTICATE, challenge));
    }
}

/// The whole answer, as the client gets it.
///
/// # Errors
/// It is not what it says it is.
pub fn to_client(
    plan: &Plan,
    asked: &RequestHead,
    answer: Answer,
    exchange: &mut Exchange,
) -> Result<(ResponseHead, Bytes), Fault> {
    let Answer {
        mut head, mut body, ..
    } = answer;
    let chain = &route(plan, exchange).ok_or(Fault::Internal)?.chain;
    if let Some(changes) = chain.response_body() {
        let facts = Facts {
            head: asked,
            exchange,
            response: Some(&head),
        };
        if let Some(shaped) = shaped(changes, &body, &facts)? {
            body = shaped;
            is_another(&mut head);
        }
    }
    head.set_version(Version::HTTP_11);
    if asked.method != Method::HEAD && has_body(head.status) {
        head.set(&CONTENT_LENGTH, HeaderValue::from(body.len()));
    }
    super::shape(plan, asked, &mut head, exchange);
    head.remove(&TRANSFER_ENCODING);
    Ok((head, body))
}

const fn has_body(status: StatusCode) -> bool {
    !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// The body of an answer in its new shape; none where it stays what it is.
fn shaped(changes: &BodyChanges, body: &Bytes, facts: &Facts<'_>) -> Result<Option<Bytes>, Fault> {
    let Some(head) = facts.response else {
        return Ok(None);
    };
    // It tells of what the client has already, which was changed.
    if head.status == StatusCode::NOT_MODIFIED {
        return Ok(Some(Bytes::new()));
    }
    let typed = head.headers.contains_key(CONTENT_TYPE);
    let looks = body.trim_ascii_start().first();
    let json = is_json(&head.headers) || (!typed && matches!(looks, Some(b'{' | b'[')));
    if !head.status.is_success() || !json {
        return Ok(None);
    }
    // A head alone tells of the same body.
    if facts.head.method == Method::HEAD {
        return Ok(Some(Bytes::new()));
    }
    if body.is_empty() {
        return Ok(None);
    }
    if is_encoded(&head.headers) || head.status == StatusCode::PARTIAL_CONTENT {
        return Err(Fault::BadAnswer);
    }
    let shaped = changes.apply(body, facts);
    let shaped = shaped.map_err(|_unreadable| Fault::BadAnswer)?;
    Ok(Some(Bytes::from(shaped)))
}

/// The body is another one than the upstream's: what was said of that holds no more.
fn is_another(head: &mut ResponseHead) {
    for name in DIGESTS.iter().chain(&[CONTENT_LENGTH, ACCEPT_RANGES]) {
        head.remove(name);
    }
    weaken(head);
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    let kind = kind.and_then(|kind| kind.split(';').next());
    kind.is_some_and(|kind| {
        let kind = kind.trim().to_ascii_lowercase();
        kind == "application/json" || kind.ends_with("+json")
    })
}

fn is_encoded(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(CONTENT_ENCODING).iter();
    codings.any(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"))
}
