//! The addresses the gateway calls.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::canonical_ip;
use crate::base::canon::{Host, parse_authority};
use crate::base::problem::suggest;
use crate::base::units::{TextError, TextForm};

/// How a target is spoken to; the part of its URL before `://`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TargetScheme {
    /// HTTP/1 unless the upstream says otherwise.
    Http,
    /// As `http`, with TLS.
    Https,
    /// HTTP/2 with prior knowledge, without TLS (RFC 9113 §3.3).
    H2c,
    /// WebSocket (RFC 6455 §3).
    Ws,
    /// As `ws`, with TLS.
    Wss,
}

impl TargetScheme {
    const ALL: [Self; 5] = [Self::Http, Self::Https, Self::H2c, Self::Ws, Self::Wss];

    /// As written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::H2c => "h2c",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }

    /// Whether it means TLS.
    #[must_use]
    pub const fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Wss)
    }

    /// The port when none is written: 443 with TLS, else 80.
    #[must_use]
    pub const fn default_port(self) -> u16 {
        if self.is_tls() { 443 } else { 80 }
    }
}

/// Where a target is: `http://10.0.0.1:8080`, `https://orders.internal`, `h2c://…`, `ws://…`, `wss://…`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TargetUrl {
    scheme: TargetScheme,
    host: String,
    ip: Option<IpAddr>,
    port: u16,
}

impl TargetUrl {
    /// How it is spoken to.
    #[must_use]
    pub fn scheme(&self) -> TargetScheme {
        self.scheme
    }

    /// The canonical host; IPv6 in brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The address, when the host is one, IPv4 if it is IPv4-mapped; else the host is a name to look up.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.ip
    }

    /// The port, written or by the scheme.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What `Host` says: the host, and the port unless it is the scheme's (RFC 9110 §7.2).
    #[must_use]
    pub fn authority(&self) -> String {
        if self.port == self.scheme.default_port() {
            self.host.clone()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl TextForm for TargetUrl {
    const WHAT: &'static str = "the URL of a target";
    const EXAMPLE: &'static str = "http://10.0.0.1:8080";
    const PATTERN: &'static str = r"(?:https?|h2c|wss?)://[^/?#@]+/?";
}

impl FromStr for TargetUrl {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        if text.contains('@') {
            // It may hold a password, so it is not repeated.
            let what = format!("{USER_IN_URL}: use `credentials` of the upstream");
            return Err(TextError::new(what));
        }
        let Some((scheme_text, rest)) = text.split_once("://") else {
            let example = if text.is_empty() {
                "10.0.0.1:8080"
            } else {
                text
            };
            return Err(TextError::new(format!(
                "`{text}` has no scheme: write e.g. `http://{example}`"
            )));
        };
        let scheme = TargetScheme::ALL
            .into_iter()
            .find(|scheme| scheme.as_str() == scheme_text);
        let scheme = scheme.ok_or_else(|| unknown_scheme(scheme_text, text))?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#']) {
            return Err(TextError::new(format!(
                "`{text}` has more than a host and a port: to change the path use `request.path` of the route"
            )));
        }
        let authority = parse_authority(rest).map_err(|fault| {
            TextError::new(format!("`{text}` is not the URL of a target: {fault}"))
        })?;
        let ip = match authority.host() {
            Host::Ip(ip) => Some(canonical_ip(ip)),
            Host::Name(_) => None,
        };
        let port = authority.port().unwrap_or_else(|| scheme.default_port());
        Ok(Self {
            scheme,
            host: authority.canonical_host().into_owned(),
            ip,
            port,
        })
    }
}

impl fmt::Display for TargetUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.authority())
    }
}

/// What is wrong with a URL that says before its host who asks: it would stand wherever the URL does.
pub const USER_IN_URL: &str = "a name or password in the URL";

/// What stands before the host of a URL: a name, and often a password (RFC 3986 section 3.2.1).
#[must_use]
pub fn user_of(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (user, _) = rest.get(..end)?.rsplit_once('@')?;
    Some(user)
}

fn unknown_scheme(scheme: &str, text: &str) -> TextError {
    let known = TargetScheme::ALL.map(TargetScheme::as_str);
    let hint = suggest(scheme, known)
        .unwrap_or_else(|| "use `http`, `https`, `h2c`, `ws` or `wss`".to_owned());
    TextError::new(format!("unknown scheme `{scheme}` in `{text}`: {hint}"))
}
