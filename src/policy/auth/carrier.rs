//! Where in a request a credential is, how it is read, and how it is taken off before the upstream sees the request.

use std::borrow::Cow;

use http::header::{AUTHORIZATION, COOKIE, HeaderName};
use http::{HeaderMap, HeaderValue};

use crate::base::canon::query_pairs;
use crate::exchange::{Edit, Exchange, RequestHead};

/// One place of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Carrier {
    /// `Authorization`, with one of these schemes in small letters (RFC 9110 section 11.6.2).
    Authorization(&'static [&'static str]),
    /// Another header, alone.
    Header(HeaderName),
    /// A query parameter.
    Query(Box<str>),
    /// A cookie.
    Cookie(Box<str>),
}

/// What is there.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shown<'h> {
    /// Nothing.
    Nothing,
    /// A credential.
    One(Cow<'h, str>),
    /// Two, of which the upstream might read the other; or no text.
    Unclear,
}

impl Carrier {
    /// What the request shows here.
    pub(super) fn read<'h>(&self, head: &'h RequestHead) -> Shown<'h> {
        match self {
            Self::Authorization(schemes) => {
                let shown = one(&head.headers, &AUTHORIZATION);
                let Shown::One(Cow::Borrowed(line)) = shown else {
                    return shown;
                };
                of_scheme(line, schemes)
            }
            Self::Header(name) => one(&head.headers, name),
            Self::Query(name) => {
                let query = head.uri.query().unwrap_or_default();
                only(query_pairs(query).filter(|(key, _)| key == &**name))
            }
            Self::Cookie(name) => {
                let found = cookies(&head.headers);
                let mut found = found.filter(|(key, _)| *key == name.as_bytes());
                match (found.next(), found.next()) {
                    (None, _) => Shown::Nothing,
                    (Some((_, value)), None) => std::str::from_utf8(value)
                        .map_or(Shown::Unclear, |text| Shown::One(Cow::Borrowed(text))),
                    (Some(_), Some(_)) => Shown::Unclear,
                }
            }
        }
    }
}

impl Carrier {
    /// Every value of a query parameter or a cookie.
    pub(super) fn every(&self, head: &RequestHead) -> Vec<Vec<u8>> {
        match self {
            Self::Query(name) => {
                let pairs = query_pairs(head.uri.query().unwrap_or_default());
                let named = pairs.filter(|(key, _)| key == &**name);
                named
                    .map(|(_, value)| value.into_owned().into_bytes())
                    .collect()
            }
            Self::Cookie(name) => {
                let named = cookies(&head.headers).filter(|(key, _)| *key == name.as_bytes());
                named.map(|(_, value)| value.to_vec()).collect()
            }
            Self::Authorization(_) | Self::Header(_) => Vec::new(),
        }
    }
}

/// Sees to it that the upstream gets nothing of what stands at these places.
pub(super) fn remove(carriers: &[Carrier], head: &RequestHead, ex: &mut Exchange) {
    let mut cookie = false;
    for carrier in carriers {
        match carrier {
            Carrier::Authorization(_) => ex.to_upstream.headers.push(Edit::Remove(AUTHORIZATION)),
            Carrier::Header(name) => ex.to_upstream.headers.push(Edit::Remove(name.clone())),
            Carrier::Query(name) => remove_parameter(name, head, ex),
            Carrier::Cookie(_) => cookie = true,
        }
    }
    if cookie {
        remove_cookies(carriers, head, ex);
    }
}

fn remove_parameter(name: &str, head: &RequestHead, ex: &mut Exchange) {
    let to = &mut ex.to_upstream;
    let query = to.query.as_deref().or_else(|| head.uri.query());
    let query = query.unwrap_or_default();
    let named = |pair: &str| query_pairs(pair).any(|(key, _)| key == name);
    if query.split('&').any(named) {
        let kept: Vec<&str> = query.split('&').filter(|pair| !named(pair)).collect();
        to.query = Some(kept.join("&"));
    }
}

fn remove_cookies(carriers: &[Carrier], head: &RequestHead, ex: &mut Exchange) {
    let removed = |key: &[u8]| {
        let mut carriers = carriers.iter();
        carriers.any(|it| matches!(it, Carrier::Cookie(name) if name.as_bytes() == key))
    };
    if !cookies(&head.headers).any(|(key, _)| removed(key)) {
        return;
    }
    let mut line = Vec::new();
    for (key, value) in cookies(&head.headers).filter(|(key, _)| !removed(key)) {
        if !line.is_empty() {
            line.extend_from_slice(b"; ");
        }
        line.extend_from_slice(key);
        line.push(b'=');
        line.extend_from_slice(value);
    }
    let edit = match HeaderValue::from_bytes(&line) {
        Ok(value) if !line.is_empty() => Edit::Set(COOKIE, value),
        _ => Edit::Remove(COOKIE),
    };
    ex.to_upstream.headers.push(edit);
}

/// The one line of a header.
fn one<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Shown<'h> {
    let mut lines = headers.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (None, _) => Shown::Nothing,
        (Some(line), None) => line
            .to_str()
            .map_or(Shown::Unclear, |text| Shown::One(Cow::Borrowed(text))),
        (Some(_), Some(_)) => Shown::Unclear,
    }
}

/// What stands behind the scheme, where it is one of `schemes`: of another nothing is shown here.
fn of_scheme<'h>(line: &'h str, schemes: &[&str]) -> Shown<'h> {
    let (scheme, rest) = line
        .split_once(|c: char| c.is_ascii_whitespace())
        .unwrap_or((line, ""));
    let known = schemes
        .iter()
        .any(|known| scheme.eq_ignore_ascii_case(known));
    if known && line.as_bytes().get(scheme.len()) == Some(&b'\t') {
        // RFC 9110 section 11.4 has a space there; others may read it all the same.
        Shown::Unclear
    } else if known {
        Shown::One(Cow::Borrowed(rest.trim_matches(' ')))
    } else {
        Shown::Nothing
    }
}

fn only<'h>(mut pairs: impl Iterator<Item = (Cow<'h, str>, Cow<'h, str>)>) -> Shown<'h> {
    match (pairs.next(), pairs.next()) {
        (None, _) => Shown::Nothing,
        (Some((_, value)), None) => Shown::One(value),
        (Some(_), Some(_)) => Shown::Unclear,
    }
}

/// Names and values of all cookies, in order.
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    let lines = headers.get_all(COOKIE).iter();
    let pairs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    pairs.filter_map(|pair| {
        let pair = pair.trim_ascii();
        let at = pair.iter().position(|byte| *byte == b'=')?;
        let (key, value) = pair.split_at_checked(at)?;
        Some((key.trim_ascii(), value.get(1..)?.trim_ascii()))
    })
}
