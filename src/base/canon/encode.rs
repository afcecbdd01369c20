//! Values as parts of a path or a query, and back.

use std::borrow::Cow;

use super::{escaped_byte, faults, is_unreserved, push_escape};

faults! {
    /// Why a query is refused.
    QueryFault {
        Control, "query_control", "the query has a control character";
        Space, "query_space", "the query has a space";
        NonAscii, "query_non_ascii", "the query has a character outside ASCII";
        Fragment, "query_fragment", "the query has a `#`";
    }
}

/// `value` as one path segment: nothing but unreserved characters and escapes.
///
/// `None` for what no segment can say: nothing at all, `.` and `..` (a reader decodes `%2E`), and control characters. A slash becomes
/// `%2F`, which [`super::canonical_path`] refuses: canonicalise a pattern before values are put in, not after.
#[must_use]
pub fn encode_segment(value: &str) -> Option<Cow<'_, str>> {
    let unsayable = matches!(value, "" | "." | "..") || value.chars().any(char::is_control);
    (!unsayable).then(|| encode_query(value))
}

/// `value` as one name or value of a query: nothing but unreserved characters and escapes.
#[must_use]
pub fn encode_query(value: &str) -> Cow<'_, str> {
    if value.bytes().all(is_unreserved) {
        return Cow::Borrowed(value);
    }
    let mut out = String::with_capacity(value.len() + 8);
    for byte in value.bytes() {
        if is_unreserved(byte) {
            out.push(char::from(byte));
        } else {
            push_escape(&mut out, byte);
        }
    }
    Cow::Owned(out)
}

/// The text that one segment of a canonical path stands for; the value of a path parameter.
#[must_use]
pub fn decode_segment(segment: &str) -> Cow<'_, str> {
    if segment.contains('%') {
        Cow::Owned(decoded(segment, b'+'))
    } else {
        Cow::Borrowed(segment)
    }
}

/// Refuses what no query may hold. Bad escapes are the origin's affair and pass (WHATWG URL §3.5 lets them).
pub fn check_query(raw: &str) -> Result<(), QueryFault> {
    let fault = raw.bytes().find_map(|byte| match byte {
        b' ' => Some(QueryFault::Space),
        b'#' => Some(QueryFault::Fragment),
        0..=0x1f | 0x7f => Some(QueryFault::Control),
        0x80.. => Some(QueryFault::NonAscii),
        _ => None,
    });
    fault.map_or(Ok(()), Err)
}

/// The decoded names and values of a query (the part after `?`), in their order; `+` is a space, a bad escape stands for itself.
pub fn query_pairs(raw: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    raw.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode_query(name), decode_query(value))
    })
}

/// The first value of `name` in a query.
#[must_use]
pub fn query_value<'a>(raw: &'a str, name: &str) -> Option<Cow<'a, str>> {
    query_pairs(raw)
        .find(|(found, _)| found == name)
        .map(|(_, value)| value)
}

fn decode_query(text: &str) -> Cow<'_, str> {
    if text.contains(['%', '+']) {
        Cow::Owned(decoded(text, b' '))
    } else {
        Cow::Borrowed(text)
    }
}

/// Decodes every good escape; `+` becomes `plus`. What is not UTF-8 is replaced by U+FFFD.
fn decoded(text: &str, plus: u8) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escape = escaped_byte(rest);
        out.push(if byte == b'+' {
            plus
        } else {
            escape.unwrap_or(byte)
        });
        rest = if escape.is_some() {
            rest.get(3..).unwrap_or_default()
        } else {
            after
        };
    }
    String::from_utf8(out)
        .unwrap_or_else(|not| String::from_utf8_lossy(not.as_bytes()).into_owned())
}
