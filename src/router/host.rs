//! Which hosts a rule is for.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

const HOST_BYTES_MAX: usize = 253; // RFC 1035 §2.3.4

/// A host, or all hosts below one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPattern {
    /// `api.example.com`, or `.example.com` for `*.example.com`.
    text: Box<str>,
}

impl HostPattern {
    /// Reads `api.example.com`, `*.example.com` (one or more labels), or an IP address.
    ///
    /// # Errors
    /// Says what is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(address) = address(text) {
            let text = match address {
                IpAddr::V4(v4) => v4.to_string(),
                IpAddr::V6(v6) => format!("[{v6}]"),
            };
            return Ok(Self { text: text.into() });
        }
        if !text.is_ascii() {
            return Err(format!(
                "host `{text}` is not ASCII: write its IDNA form (`xn--…`), as clients send it"
            ));
        }
        let lower = text.to_ascii_lowercase();
        let whole = lower.strip_suffix('.').unwrap_or(&lower);
        let (wildcard, name) = match whole.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, whole),
        };
        check_name(text, name)?;
        let text = if wildcard {
            format!(".{name}")
        } else {
            name.to_owned()
        };
        Ok(Self { text: text.into() })
    }

    /// Whether it stands for all hosts below a name.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.text.starts_with('.')
    }

    /// Whether a canonical `host` is one of these.
    #[must_use]
    pub fn matches(&self, host: &str) -> bool {
        if !self.is_wildcard() {
            return *self.text == *host;
        }
        host.strip_suffix(&*self.text)
            .is_some_and(|left| !left.is_empty())
    }

    /// What the table is keyed by: the host, or what it ends in, beginning with the dot.
    pub(super) fn key(&self) -> &str {
        &self.text
    }

    pub(super) fn from_key(key: &str) -> Self {
        Self { text: key.into() }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let star = if self.is_wildcard() { "*" } else { "" };
        write!(f, "{star}{}", self.text)
    }
}

fn address(text: &str) -> Option<IpAddr> {
    if let Some(inner) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        return inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    }
    text.parse().ok()
}

fn check_name(text: &str, name: &str) -> Result<(), String> {
    if name.contains('*') {
        return Err(format!(
            "host `{text}` has a `*` that is not its first label: only `*.example.com` is a wildcard"
        ));
    }
    if name.contains(':') {
        return Err(format!(
            "host `{text}` has a port: ports are not matched, leave it out"
        ));
    }
    if name.is_empty() || name.len() > HOST_BYTES_MAX || name.split('.').any(|l| !is_label(l)) {
        return Err(format!("`{text}` is not a host name"));
    }
    let last = name.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("`{text}` is neither a host name nor an IP address"));
    }
    Ok(())
}

fn is_label(label: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    (1..=63).contains(&label.len()) && label.bytes().all(inner) && !label.starts_with('-')
}
