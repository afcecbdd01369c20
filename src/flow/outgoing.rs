//! What the upstream gets. What a client could forge is taken off first, then ours is set.

use bytes::Bytes;
use http::header::{EXPECT, FORWARDED, HOST, HeaderName, MAX_FORWARDS, TRANSFER_ENCODING, VIA};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Uri, Version};
use smallvec::SmallVec;

use crate::exchange::{Exchange, Fault, RequestHead, edit_request, is_ours};
use crate::plan::Plan;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// RFC 9440.
const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
const CLIENT_CERT_CHAIN: HeaderName = HeaderName::from_static("client-cert-chain");

/// How often the request was sent, this time included; only where it was sent before.
const ATTEMPT: HeaderName = HeaderName::from_static("x-attempt");

/// All lines of ours together are shorter, but for those of clients far behind other proxies.
const LINES_BYTES: usize = 384;
/// So many headers are ours.
const OURS: usize = 8;

/// Writes the head of the request that goes upstream.
///
/// # Errors
/// A path or value of ours that cannot be sent: our own mistake.
pub fn write(head: &mut RequestHead, plan: &Plan, exchange: &Exchange) -> Result<(), Fault> {
    edit_request(head, |head| {
        strip(head, plan, exchange);
        rewrite(head, exchange)?;
        let headers = &mut head.headers;
        headers
            .try_reserve(OURS)
            .map_err(|_error| Fault::Internal)?;
        tell(headers, &plan.via, exchange)?;
        if let Some(id) = exchange.id.value() {
            headers.insert(X_REQUEST_ID, id.clone());
        }
        if exchange.attempts > 1 {
            headers.insert(ATTEMPT, HeaderValue::from(exchange.attempts));
        }
        if let Some(client) = exchange.secured.as_ref().and_then(|it| it.client.as_ref()) {
            headers.insert(CLIENT_CERT, client.leaf.clone());
            if let Some(chain) = &client.chain {
                headers.insert(CLIENT_CERT_CHAIN, chain.clone());
            }
        }
        exchange.to_upstream.headers.apply(headers);
        Ok(())
    })
}

fn strip(head: &mut Parts, plan: &Plan, exchange: &Exchange) {
    // The gateway answers the expectation itself.
    let goes = |name: &&HeaderName| is_ours(name.as_str()) || **name == EXPECT;
    let forged = head.headers.keys().filter(goes).cloned();
    let forged: SmallVec<[HeaderName; 8]> = forged.collect();
    for name in forged.iter().chain(&plan.asserted) {
        head.headers.remove(name);
    }
    if exchange.framing.chunked && head.version != Version::HTTP_2 {
        // However the client spelled it.
        let chunked = HeaderValue::from_static("chunked");
        head.headers.insert(TRANSFER_ENCODING, chunked);
    }
    if let Some(hops) = head
        .headers
        .get(MAX_FORWARDS)
        .and_then(|hops| hops.to_str().ok()?.parse::<u32>().ok())
    {
        let hops = HeaderValue::from(hops.saturating_sub(1));
        head.headers.insert(MAX_FORWARDS, hops);
    }
}

/// Path, query and host, where a policy changed them.
fn rewrite(head: &mut Parts, exchange: &Exchange) -> Result<(), Fault> {
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
        head.uri = Uri::try_from(target).map_err(|_error| Fault::Internal)?;
    }
    if let Some(host) = &to.host {
        head.headers.insert(HOST, host.clone());
    }
    Ok(())
}

/// Who asked, how, for which host, and by which way: each line is written behind the one before, in one piece of memory.
fn tell(headers: &mut HeaderMap, via: &str, exchange: &Exchange) -> Result<(), Fault> {
    let scheme = exchange.client_scheme();
    let asked = exchange.asked_host.as_ref();
    let client = exchange.client.as_ref();
    let told_host = client.and_then(|client| client.host.as_deref());
    let mut text = String::with_capacity(LINES_BYTES);
    let mut ends = [0; 4];
    let [addresses, forwarded, way, trace] = &mut ends;
    if let Some(client) = client {
        client.x_forwarded_for(&mut text);
        *addresses = text.len();
        let host = asked.and_then(|host| host.to_str().ok());
        let host = told_host.or(host).unwrap_or_default();
        client.forwarded(scheme, host, &mut text);
    }
    *forwarded = text.len();
    write_via(&mut text, headers, via, exchange.version);
    *way = text.len();
    if let Some(trace) = &exchange.trace {
        trace.write(&mut text);
    }
    *trace = text.len();
    let mut text = Bytes::from(text);
    let mut from = 0;
    let lines = ends.map(|end| {
        let length = (end - from).min(text.len());
        from = end;
        HeaderValue::from_maybe_shared(text.split_to(length)).map_err(|_error| Fault::Internal)
    });
    let [addresses, forwarded, way, trace] = lines;
    let proto = HeaderValue::from_static(scheme.as_str());
    headers.insert(X_FORWARDED_PROTO, proto);
    if client.is_some() {
        let addresses = addresses?;
        headers.insert(X_REAL_IP, first_of(&addresses)?);
        headers.insert(X_FORWARDED_FOR, addresses);
        headers.insert(FORWARDED, forwarded?);
    }
    let host = match (told_host, asked) {
        (Some(host), _) => Some(HeaderValue::from_str(host).map_err(|_error| Fault::Internal)?),
        (None, Some(asked)) => Some(asked.clone()),
        (None, None) => client.map(|_| HeaderValue::from_static("")),
    };
    if let Some(host) = host {
        headers.insert(X_FORWARDED_HOST, host);
    }
    if let Some(prefix) = &exchange.to_upstream.stripped_prefix {
        headers.insert(X_FORWARDED_PREFIX, prefix.clone());
    }
    headers.insert(VIA, way?);
    if let Some(known) = &exchange.trace {
        if !known.is_continued() {
            headers.remove(TRACESTATE);
        }
        headers.insert(TRACEPARENT, trace?);
    }
    Ok(())
}

/// The first of several addresses.
fn first_of(addresses: &HeaderValue) -> Result<HeaderValue, Fault> {
    let line = addresses.as_bytes();
    match line.split(|byte| *byte == b',').next() {
        Some(first) if first.len() < line.len() => {
            HeaderValue::from_bytes(first).map_err(|_error| Fault::Internal)
        }
        _ => Ok(addresses.clone()),
    }
}

/// One line: what was there, and us (RFC 9110 section 7.6.3).
fn write_via(text: &mut String, headers: &HeaderMap, name: &str, received: Version) {
    let received = if received == Version::HTTP_2 {
        "2"
    } else {
        "1.1"
    };
    let known = headers.get_all(VIA).iter();
    for before in known.filter_map(|line| line.to_str().ok()) {
        text.push_str(before);
        text.push_str(", ");
    }
    for word in [received, " ", name] {
        text.push_str(word);
    }
}
