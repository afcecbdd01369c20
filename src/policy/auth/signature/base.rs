//! What a signature is made over: the parts of a request that it names, one a line (RFC 9421 section 2).

use std::borrow::Cow;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderName;
use http::header::HOST;
use sfv::{BareItem, InnerList, Parameters};

use crate::base::canon::query_pairs;
use crate::base::forwarded::Scheme;
use crate::exchange::{Exchange, RequestHead, structured};

/// A signature over more parts is none.
const COMPONENTS_MAX: usize = 64;

const UNKNOWN: &str = "the signature covers what cannot be looked at here";
const MISSING: &str = "the signature covers what the request does not have";
const TWICE: &str = "the signature covers something twice";

/// The parts of a request that are no header (RFC 9421 section 2.2), as far as they need no parameter.
pub(super) const DERIVED: [&str; 7] = [
    "@method",
    "@target-uri",
    "@authority",
    "@scheme",
    "@request-target",
    "@path",
    "@query",
];

/// The text that was signed, if `input` says of this request what was.
pub(super) fn base(
    input: &InnerList,
    head: &RequestHead,
    ex: &Exchange,
) -> Result<String, &'static str> {
    if input.items.len() > COMPONENTS_MAX {
        return Err(UNKNOWN);
    }
    let mut text = String::with_capacity(512);
    let mut covered: Vec<String> = Vec::with_capacity(input.items.len());
    for item in &input.items {
        let name = item.bare_item.as_str().ok_or(UNKNOWN)?;
        let id = structured::item_text(item).ok_or(UNKNOWN)?;
        if covered.contains(&id) {
            return Err(TWICE);
        }
        let value = match name.starts_with('@') {
            true => derived(name, &item.params, head, ex)?,
            false => Cow::Owned(field(name, &item.params, head)?),
        };
        text.push_str(&id);
        text.push_str(": ");
        text.push_str(&value);
        text.push('\n');
        covered.push(id);
    }
    text.push_str("\"@signature-params\": ");
    text.push_str(&structured::list_text(input).ok_or(UNKNOWN)?);
    Ok(text)
}

fn derived<'h>(
    name: &str,
    params: &Parameters,
    head: &'h RequestHead,
    ex: &Exchange,
) -> Result<Cow<'h, str>, &'static str> {
    let query = head.uri.query();
    if name == "@query-param" {
        let mut params = params.iter();
        let (Some((key, BareItem::String(named))), None) = (params.next(), params.next()) else {
            return Err(UNKNOWN);
        };
        let (true, query) = (key == "name", query.unwrap_or_default()) else {
            return Err(UNKNOWN);
        };
        return parameter(query, named).map(Cow::Owned);
    }
    if !params.is_empty() {
        return Err(UNKNOWN);
    }
    let path = match head.uri.path() {
        "" => "/",
        path => path,
    };
    let target = || match query {
        Some(query) => Cow::Owned(format!("{path}?{query}")),
        None => Cow::Borrowed(path),
    };
    Ok(match name {
        "@method" => Cow::Borrowed(head.method.as_str()),
        "@target-uri" => {
            let (scheme, authority) = (ex.client_scheme().as_str(), authority(head, ex)?);
            Cow::Owned(format!("{scheme}://{authority}{}", target()))
        }
        "@authority" => Cow::Owned(authority(head, ex)?),
        "@scheme" => Cow::Borrowed(ex.client_scheme().as_str()),
        "@request-target" => target(),
        "@path" => Cow::Borrowed(path),
        // A request without one has an empty one (RFC 9421 section 2.2.7).
        "@query" => Cow::Owned(format!("?{}", query.unwrap_or_default())),
        _ => return Err(UNKNOWN),
    })
}

/// The host that was asked for, without the port that its scheme has anyway (RFC 9421 section 2.2.3).
fn authority(head: &RequestHead, ex: &Exchange) -> Result<String, &'static str> {
    let host = ex.asked_host.as_ref().or_else(|| head.headers.get(HOST));
    let host = host.and_then(|host| host.to_str().ok()).ok_or(MISSING)?;
    let usual = match ex.client_scheme() {
        Scheme::Http => ":80",
        Scheme::Https => ":443",
    };
    let host = host.strip_suffix(usual).unwrap_or(host);
    Ok(host.to_ascii_lowercase())
}

/// The value of a query parameter, which has to be there once (RFC 9421 section 2.2.8).
fn parameter(query: &str, named: &str) -> Result<String, &'static str> {
    let mut found = query_pairs(query).filter(|(name, _)| form(name) == named);
    match (found.next(), found.next()) {
        (Some((_, value)), None) => Ok(form(&value)),
        (None, _) => Err(MISSING),
        (Some(_), Some(_)) => Err(UNKNOWN),
    }
}

/// A name or a value of a query in the one form that signatures know: the percent-encode set of
/// `application/x-www-form-urlencoded`, with `%20` for a blank.
fn form(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"*-._".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing into memory cannot fail.
            let _written = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// The value of a header (RFC 9421 section 2.1).
fn field(name: &str, params: &Parameters, head: &RequestHead) -> Result<String, &'static str> {
    let known = HeaderName::from_bytes(name.as_bytes()).map_err(|_error| UNKNOWN)?;
    if known.as_str() != name {
        return Err(UNKNOWN);
    }
    if !head.headers.contains_key(&known) {
        return Err(MISSING);
    }
    let mut params = params.iter();
    match (params.next(), params.next()) {
        (None, _) => structured::joined(&head.headers, &known).ok_or(UNKNOWN),
        (Some((key, BareItem::Boolean(true))), None) if key == "bs" => {
            let lines = head.headers.get_all(&known).iter();
            let lines =
                lines.map(|line| format!(":{}:", STANDARD.encode(line.as_bytes().trim_ascii())));
            Ok(lines.collect::<Vec<_>>().join(", "))
        }
        (Some((key, BareItem::String(member))), None) if key == "key" => {
            let members = structured::dictionary(&head.headers, &known)?.ok_or(MISSING)?;
            let member = members.get(member.as_str()).ok_or(MISSING)?;
            structured::member_text(member).ok_or(UNKNOWN)
        }
        // Of trailers nothing is known before the body came; of what a header means, only its name.
        (Some(_), _) => Err(UNKNOWN),
    }
}
