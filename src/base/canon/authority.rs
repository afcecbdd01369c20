//! The host and port that a request names, read strictly.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::faults;

/// The longest name that DNS can carry, without the last dot (RFC 1035 §2.3.4).
const NAME_BYTES_MAX: usize = 253;
/// The longest label of a name (RFC 1035 §2.3.4).
const LABEL_BYTES_MAX: usize = 63;

faults! {
    /// Why an authority (`host` or `host:port`) is refused.
    AuthorityFault {
        Empty, "host_empty", "the host is empty";
        Userinfo, "host_userinfo", "the host has a user name before `@`";
        NonAscii, "host_non_ascii", "the host has a character outside ASCII: write its A-label form, e.g. `xn--bcher-kva.example`";
        Character, "host_character", "the host has a character that no host has";
        Label, "host_label", "a part of the host between dots is empty or too long";
        Ipv4, "host_ipv4", "the host ends in a number but is not an IPv4 address";
        Ipv6, "host_ipv6", "the host is not an IPv6 address in brackets";
        Port, "host_port", "the port is not a number from 1 to 65535";
    }
}

/// What a host is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Host<'a> {
    /// A name, as written.
    Name(&'a str),
    /// An address: IPv4, or IPv6 in brackets.
    Ip(IpAddr),
}

/// A host and perhaps a port, as in `Host`, `:authority` and URLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Authority<'a> {
    text: &'a str,
    host: Host<'a>,
    port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// The host.
    #[must_use]
    pub fn host(&self) -> Host<'a> {
        self.host
    }

    /// The port, when one is written.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The one form of the host: lower case, no last dot, IPv6 in brackets and in the form of RFC 5952.
    #[must_use]
    pub fn canonical_host(&self) -> Cow<'a, str> {
        match self.host {
            Host::Name(name) => {
                let name = name.strip_suffix('.').unwrap_or(name);
                if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
                    Cow::Owned(name.to_ascii_lowercase())
                } else {
                    Cow::Borrowed(name)
                }
            }
            Host::Ip(IpAddr::V4(_)) => {
                Cow::Borrowed(self.text.strip_suffix('.').unwrap_or(self.text))
            }
            Host::Ip(IpAddr::V6(address)) => {
                let form = format!("[{address}]");
                if form == self.text {
                    Cow::Borrowed(self.text)
                } else {
                    Cow::Owned(form)
                }
            }
        }
    }

    /// The canonical host and the port as written: `api.example.com:8443`.
    #[must_use]
    pub fn canonical(&self) -> Cow<'a, str> {
        match self.port {
            Some(port) => Cow::Owned(format!("{}:{port}", self.canonical_host())),
            None => self.canonical_host(),
        }
    }
}

/// Reads `host` or `host:port` (RFC 9110 §7.2), more strictly than RFC 3986 §3.2: a host is a name of letters, digits, `-`, `_` and
/// dots, an IPv4 address, or an IPv6 address in brackets; no user, no escapes, no empty port.
pub fn parse_authority(text: &str) -> Result<Authority<'_>, AuthorityFault> {
    if text.contains('@') {
        return Err(AuthorityFault::Userinfo);
    }
    if !text.is_ascii() {
        return Err(AuthorityFault::NonAscii);
    }
    let bracket = if text.starts_with('[') {
        text.find(']')
            .map(|end| end + 1)
            .ok_or(AuthorityFault::Ipv6)?
    } else if text.find(':') != text.rfind(':') && text.parse::<Ipv6Addr>().is_ok() {
        return Err(AuthorityFault::Ipv6);
    } else {
        text.find(':').unwrap_or(text.len())
    };
    let (host_text, port_text) = text.split_at_checked(bracket).unwrap_or((text, ""));
    let host = match host_text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        Some(inner) => match inner.parse::<Ipv6Addr>() {
            Ok(address) => Host::Ip(address.into()),
            Err(_) => return Err(AuthorityFault::Ipv6),
        },
        None => parse_host_name(host_text)?,
    };
    let port = if port_text.is_empty() {
        None
    } else {
        Some(parse_port(port_text)?)
    };
    Ok(Authority {
        text: host_text,
        host,
        port,
    })
}

/// The one form of a host without a port; see [`Authority::canonical_host`].
pub fn canonical_host(text: &str) -> Result<Cow<'_, str>, AuthorityFault> {
    let authority = parse_authority(text)?;
    if authority.port.is_some() {
        return Err(AuthorityFault::Character);
    }
    Ok(authority.canonical_host())
}

fn parse_port(text: &str) -> Result<u16, AuthorityFault> {
    let digits = text.strip_prefix(':').ok_or(AuthorityFault::Character)?;
    // A sign or a leading zero would give one port two spellings.
    if !digits.starts_with(|first: char| matches!(first, '1'..='9')) {
        return Err(AuthorityFault::Port);
    }
    digits.parse().ok().ok_or(AuthorityFault::Port)
}

fn parse_host_name(text: &str) -> Result<Host<'_>, AuthorityFault> {
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.is_empty() {
        return Err(if text.is_empty() {
            AuthorityFault::Empty
        } else {
            AuthorityFault::Label
        });
    }
    if !name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
    {
        return Err(AuthorityFault::Character);
    }
    if name.len() > NAME_BYTES_MAX
        || name
            .split('.')
            .any(|label| label.is_empty() || label.len() > LABEL_BYTES_MAX)
    {
        return Err(AuthorityFault::Label);
    }
    // WHATWG URL §3.5: a host that ends in a number is an address; `127.1` and `0x7f.1` would reach one by a detour.
    let last = name.rsplit('.').next().unwrap_or(name);
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    let is_number = last.bytes().all(|byte| byte.is_ascii_digit())
        || hex.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if is_number {
        let address = name.parse::<Ipv4Addr>().ok().ok_or(AuthorityFault::Ipv4)?;
        return Ok(Host::Ip(address.into()));
    }
    Ok(Host::Name(text))
}
