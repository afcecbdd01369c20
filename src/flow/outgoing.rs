//! What the upstream gets. What a client could forge is taken off first, then ours is set.

use http::header::{EXPECT, FORWARDED, HOST, HeaderName, MAX_FORWARDS, TRANSFER_ENCODING, VIA};
use http::{HeaderValue, Uri, Version};
use smallvec::SmallVec;

use crate::exchange::{Exchange, Fault, Headers, RequestHead, is_ours};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// RFC 9440.
const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
const CLIENT_CERT_CHAIN: HeaderName = HeaderName::from_static("client-cert-chain");

/// How often the request was sent, this time included; only where it was sent before.
const ATTEMPT: HeaderName = HeaderName::from_static("x-attempt");

/// Most lines of ours are shorter.
const LINE_BYTES: usize = 128;

/// Writes the head of the request that goes upstream. `via` is our name.
///
/// # Errors
/// A path or value of ours that cannot be sent: our own mistake.
pub fn write(head: &mut RequestHead, via: &str, exchange: &Exchange) -> Result<(), Fault> {
    strip(head, exchange);
    rewrite(head, exchange)?;
    forwarded(head, exchange)?;
    add_via(head, via, exchange.version)?;
    if let Some(id) = exchange.id.value() {
        head.set(&X_REQUEST_ID, id.clone());
    }
    traced(head, exchange);
    if exchange.attempts > 1 {
        head.set(&ATTEMPT, HeaderValue::from(exchange.attempts));
    }
    if let Some(client) = exchange.secured.as_ref().and_then(|it| it.client.as_ref()) {
        head.set(&CLIENT_CERT, client.leaf.clone());
        if let Some(chain) = &client.chain {
            head.set(&CLIENT_CERT_CHAIN, chain.clone());
        }
    }
    exchange.to_upstream.headers.apply(head);
    Ok(())
}

fn strip(head: &mut RequestHead, exchange: &Exchange) {
    let forged: SmallVec<[HeaderName; 8]> = head
        .headers
        .keys()
        .filter(|name| is_ours(name.as_str()))
        .cloned()
        .collect();
    for name in &forged {
        head.remove(name);
    }
    // The gateway answers the expectation itself.
    head.remove_header(&EXPECT);
    if exchange.framing.chunked && head.version != Version::HTTP_2 {
        // However the client spelled it.
        head.set(&TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    if let Some(hops) = head
        .headers
        .get(MAX_FORWARDS)
        .and_then(|hops| hops.to_str().ok()?.parse::<u32>().ok())
    {
        head.set(&MAX_FORWARDS, HeaderValue::from(hops.saturating_sub(1)));
    }
}

/// Path, query and host, where a policy changed them.
fn rewrite(head: &mut RequestHead, exchange: &Exchange) -> Result<(), Fault> {
    let to = &exchange.to_upstream;
    if to.path.is_some() || to.query.is_some() {
        let path = to.path.as_deref().unwrap_or_else(|| head.uri.path());
        let query = to
            .query
            .as_deref()
            .or_else(|| head.uri.query())
            .unwrap_or_default();
        let target = if query.is_empty() {
            path.to_owned()
        } else {
            format!("{path}?{query}")
        };
        head.set_uri(Uri::try_from(target).map_err(|_error| Fault::Internal)?);
    }
    if let Some(host) = &to.host {
        head.set(&HOST, host.clone());
    }
    Ok(())
}

/// Who asked, how, and for which host.
fn forwarded(head: &mut RequestHead, exchange: &Exchange) -> Result<(), Fault> {
    let scheme = exchange.client_scheme();
    head.set(
        &X_FORWARDED_PROTO,
        HeaderValue::from_static(scheme.as_str()),
    );
    let asked = exchange.asked_host.clone();
    if let Some(client) = &exchange.client {
        let mut line = String::with_capacity(LINE_BYTES);
        client.x_forwarded_for(&mut line);
        head.set(&X_FORWARDED_FOR, value(&line)?);
        let first = line.split(',').next().unwrap_or_default();
        head.set(&X_REAL_IP, value(first)?);
        line.clear();
        let host = asked
            .as_ref()
            .and_then(|host| host.to_str().ok())
            .unwrap_or_default();
        let host = client.host.as_deref().unwrap_or(host);
        client.forwarded(scheme, host, &mut line);
        head.set(&FORWARDED, value(&line)?);
        head.set(&X_FORWARDED_HOST, value(host)?);
    } else if let Some(host) = asked {
        head.set(&X_FORWARDED_HOST, host);
    }
    if let Some(prefix) = &exchange.to_upstream.stripped_prefix {
        head.set(&X_FORWARDED_PREFIX, prefix.clone());
    }
    Ok(())
}

fn value(text: &str) -> Result<HeaderValue, Fault> {
    HeaderValue::from_str(text).map_err(|_error| Fault::Internal)
}

/// One line: what was there, and us (RFC 9110 section 7.6.3).
fn add_via(head: &mut RequestHead, name: &str, received: Version) -> Result<(), Fault> {
    let received = if received == Version::HTTP_2 {
        "2"
    } else {
        "1.1"
    };
    let mut line = String::with_capacity(LINE_BYTES);
    let known = head.headers.get_all(VIA).iter();
    for before in known.filter_map(|line| line.to_str().ok()) {
        line.push_str(before);
        line.push_str(", ");
    }
    for word in [received, " ", name] {
        line.push_str(word);
    }
    head.set(&VIA, value(&line)?);
    Ok(())
}

/// The upstream's span hangs below ours (W3C Trace Context).
fn traced(head: &mut RequestHead, exchange: &Exchange) {
    let Some(trace) = &exchange.trace else {
        return;
    };
    if !trace.is_continued() {
        head.remove_header("tracestate");
    }
    if let Some(header) = trace.header() {
        head.set(&TRACEPARENT, header);
    }
}
