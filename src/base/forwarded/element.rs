//! One entry of `Forwarded` or `X-Forwarded-For`, read strictly.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Scheme;
use crate::base::canon::parse_authority;
use crate::base::net::canonical_ip;

/// One element of `Forwarded`: what a proxy says about the hop before it. What it does not say, or not in a readable way, is `None`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) hop: Option<IpAddr>,
    pub(super) scheme: Option<Scheme>,
    pub(super) host: Option<String>,
}

/// The last element of a line, and what stands before its comma.
///
/// Read from the right, since the right is what the nearest proxy wrote: a quote that a client left open further left cannot swallow it.
/// A comma inside a quoted string does not split, because what follows it is then no element.
pub(super) fn split_last(line: &str) -> Option<(Option<&str>, Element)> {
    for (comma, _) in line.rmatch_indices(',') {
        let (before, after) = line.split_at_checked(comma)?;
        if let Some(element) = after.strip_prefix(',').and_then(parse_element) {
            return Some((Some(before), element));
        }
    }
    parse_element(line).map(|element| (None, element))
}

/// RFC 7239 §4: `for=192.0.2.60;proto=http;by=203.0.113.43`; also with blanks around `;`, which some write.
fn parse_element(text: &str) -> Option<Element> {
    let (mut hop, mut scheme, mut host) = (None, None, None);
    let mut rest = text;
    loop {
        let (name, after) = rest.split_once('=')?;
        let name = trimmed(name);
        if name.is_empty() || !name.bytes().all(is_token) {
            return None;
        }
        let (value, after) = split_value(after)?;
        let twice = if name.eq_ignore_ascii_case("for") {
            hop.replace(parse_node(&value)).is_some()
        } else if name.eq_ignore_ascii_case("proto") {
            scheme.replace(Scheme::parse(&value)).is_some()
        } else if name.eq_ignore_ascii_case("host") {
            host.replace(parse_host(&value)).is_some()
        } else {
            false
        };
        if twice {
            return None;
        }
        let after = trimmed(after);
        if after.is_empty() {
            let (hop, scheme, host) = (hop.flatten(), scheme.flatten(), host.flatten());
            return Some(Element { hop, scheme, host });
        }
        rest = after.strip_prefix(';')?;
    }
}

/// The token or quoted string at the start of `text`, and the rest.
fn split_value(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let Some(inner) = text.strip_prefix('"') else {
        let end = text
            .bytes()
            .position(|byte| !is_token(byte))
            .unwrap_or(text.len());
        let (token, rest) = text.split_at_checked(end)?;
        return (!token.is_empty()).then_some((Cow::Borrowed(token), rest));
    };
    let mut value = String::new();
    let mut chars = inner.chars();
    loop {
        match chars.next()? {
            '"' => return Some((Cow::Owned(value), chars.as_str())),
            '\\' => value.push(chars.next()?),
            c => value.push(c),
        }
    }
}

/// The address of a node (RFC 7239 §6): `192.0.2.43`, `[2001:db8::1]`, each perhaps with a port; `unknown` and `_hidden` have none.
fn parse_node(text: &str) -> Option<IpAddr> {
    let (address, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (inner, port) = rest.split_once(']')?;
            (IpAddr::from(inner.parse::<Ipv6Addr>().ok()?), port)
        }
        None => {
            let colon = text.find(':').unwrap_or(text.len());
            let (address, port) = text.split_at_checked(colon)?;
            (IpAddr::from(address.parse::<Ipv4Addr>().ok()?), port)
        }
    };
    let is_port = port.is_empty() || port.strip_prefix(':').is_some_and(is_node_port);
    is_port.then(|| canonical_ip(address))
}

/// Digits, or an obfuscated port such as `_p1` (RFC 7239 §6.2).
fn is_node_port(text: &str) -> bool {
    match text.strip_prefix('_') {
        Some(hidden) => !hidden.is_empty() && hidden.bytes().all(is_obfuscated),
        None => text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok(),
    }
}

fn is_obfuscated(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

/// An entry of `X-Forwarded-For`: a bare address, or as in `Forwarded`. No zone (`%eth0`): it means nothing on another machine.
pub(super) fn parse_hop(text: &str) -> Option<IpAddr> {
    let bare = text.parse::<Ipv6Addr>().ok().map(IpAddr::from);
    bare.map(canonical_ip).or_else(|| parse_node(text))
}

/// The canonical host, and port, of a `host` parameter or of `X-Forwarded-Host`.
pub(super) fn parse_host(text: &str) -> Option<String> {
    parse_authority(text)
        .ok()
        .map(|authority| authority.canonical().into_owned())
}

/// RFC 9110 §5.6.2.
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn trimmed(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}
