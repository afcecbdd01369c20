//! Addresses in an answer that name the upstream, made to name the gateway.

use http::HeaderValue;
use http::header::HOST;

use crate::exchange::{Exchange, PathBack, RequestHead};

/// The host that the upstream believes to be its own, without its port.
pub(super) fn upstream_host(ex: &Exchange) -> Option<&str> {
    let authority = ex
        .to_upstream
        .host
        .as_ref()
        .and_then(|host| host.to_str().ok())
        .or(ex.target.as_deref())?;
    Some(
        authority
            .rsplit_once(':')
            .filter(|(_, port)| !port.ends_with(']'))
            .map_or(authority, |(host, _)| host),
    )
}

/// The client's form of an address; none where it is not the upstream's.
pub(super) fn rewrite(location: &str, head: &RequestHead, ex: &Exchange) -> Option<String> {
    let (origin, rest) = split_origin(location);
    let (path, tail) = rest.split_at(rest.find(['?', '#']).unwrap_or(rest.len()));
    let asked = head
        .headers
        .get(HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    let names_upstream = origin.is_some_and(|authority| is_upstream(authority, asked, ex));
    let names_us = origin.is_none_or(|authority| authority.eq_ignore_ascii_case(asked));
    if !names_upstream && !names_us {
        return None;
    }
    // A relative path is relative to the client's address already.
    let absolute = path.starts_with('/');
    let back = ex
        .to_upstream
        .back
        .as_deref()
        .filter(|_| absolute)
        .and_then(|back| back.undo(path));
    if back.is_none() && !names_upstream {
        return None;
    }
    let client_host = ex
        .client
        .as_ref()
        .and_then(|client| client.host.as_deref())
        .unwrap_or(asked);
    let path = back.as_deref().unwrap_or(path);
    Some(match origin {
        Some(_) => format!(
            "{}://{client_host}{path}{tail}",
            ex.client_scheme().as_str()
        ),
        None => format!("{path}{tail}"),
    })
}

/// Scheme and authority off an absolute or network-path reference (RFC 3986 section 4.2).
fn split_origin(location: &str) -> (Option<&str>, &str) {
    let rest = ["http://", "https://", "//"].iter().find_map(|scheme| {
        let head = location.get(..scheme.len())?;
        if head.eq_ignore_ascii_case(scheme) {
            location.get(scheme.len()..)
        } else {
            None
        }
    });
    match rest {
        Some(rest) => {
            let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
            (Some(authority), path)
        }
        None => (None, location),
    }
}

/// The upstream by a name it was given, or by the host that was asked with the upstream's own port: what a server writes
/// that knows its port, but not that a gateway stands before it.
fn is_upstream(authority: &str, asked: &str, ex: &Exchange) -> bool {
    let host = ex
        .to_upstream
        .host
        .as_ref()
        .and_then(|host| host.to_str().ok());
    let target = ex.target.as_deref();
    let known = |name: &str| name.eq_ignore_ascii_case(authority);
    if host.is_some_and(known) || target.is_some_and(known) {
        return true;
    }
    let (name, port) = split_port(authority);
    let target_port = target.map_or("80", |target| split_port(target).1);
    let names = [Some(asked), host]
        .into_iter()
        .flatten()
        .map(|host| split_port(host).0);
    let same_name = names
        .into_iter()
        .any(|known| known.eq_ignore_ascii_case(name));
    same_name && port == target_port && authority != asked
}

/// Host and port; without one it is that of plain HTTP.
fn split_port(authority: &str) -> (&str, &str) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => (authority, "80"),
    }
}

/// What becomes of the attributes of a cookie.
pub(super) struct CookieRule<'a> {
    /// `Domain` of every cookie that has one.
    pub(super) domain: Option<&'a str>,
    /// `Path` of every cookie that has one.
    pub(super) path: Option<&'a str>,
    /// A `Domain` that is this goes: the cookie then belongs to the host that was asked.
    pub(super) upstream_host: Option<&'a str>,
    /// How an upstream's path becomes a client's.
    pub(super) back: Option<&'a PathBack>,
}

impl CookieRule<'_> {
    /// Whether cookies stay as they are.
    pub(super) fn is_empty(&self) -> bool {
        self.domain.is_none()
            && self.path.is_none()
            && self.upstream_host.is_none()
            && self.back.is_none()
    }

    /// The cookie with its attributes changed; what cannot be read stays as it is.
    pub(super) fn apply(&self, cookie: &HeaderValue) -> HeaderValue {
        let Ok(text) = cookie.to_str() else {
            return cookie.clone();
        };
        let mut parts = text.split(';');
        let mut out = parts.next().unwrap_or_default().to_owned();
        for attribute in parts {
            let (name, value) = attribute
                .trim()
                .split_once('=')
                .unwrap_or_else(|| (attribute.trim(), ""));
            let changed = if name.eq_ignore_ascii_case("domain") {
                self.changed_domain(value)
            } else if name.eq_ignore_ascii_case("path") {
                Some(self.changed_path(value))
            } else {
                None
            };
            match changed {
                Some(Some(value)) => out.push_str(&format!("; {name}={value}")),
                Some(None) => {}
                None => out.push_str(&format!("; {}", attribute.trim())),
            }
        }
        HeaderValue::from_str(&out).unwrap_or_else(|_| cookie.clone())
    }

    /// `Some(None)`: the attribute goes.
    fn changed_domain(&self, value: &str) -> Option<Option<String>> {
        if let Some(domain) = self.domain {
            return Some(Some(domain.to_owned()));
        }
        let named = value.trim_start_matches('.');
        self.upstream_host
            .filter(|host| host.eq_ignore_ascii_case(named))
            .map(|_| None)
    }

    fn changed_path(&self, value: &str) -> Option<String> {
        if let Some(path) = self.path {
            return Some(path.to_owned());
        }
        let undone = self
            .back
            .and_then(|back| back.undo(value).or_else(|| back.undo(&format!("{value}/"))));
        let Some(undone) = undone else {
            return Some(value.to_owned());
        };
        // The upstream's root is the prefix itself, with or without a slash: RFC 6265 section 5.1.4 lets the shorter match both.
        let shorter = undone
            .strip_suffix('/')
            .filter(|path| value == "/" && !path.is_empty());
        Some(shorter.unwrap_or(&undone).to_owned())
    }
}
