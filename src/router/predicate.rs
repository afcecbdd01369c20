//! What must hold of a request besides its host, path and method.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use http::header::{ACCEPT, COOKIE, HeaderName};
use ipnet::IpNet;
use regex::Regex;

use super::path::anchored;
use super::{Params, Request};

/// An expression over a request, compiled elsewhere.
pub trait Condition: Send + Sync {
    /// Whether it is true of this request; `params` are those of the rule's path.
    fn holds(&self, request: &Request<'_>, params: &Params) -> bool;
}

/// All of these must hold. A name that a request has several times counts with its first value.
#[derive(Clone, Default)]
pub struct Conditions {
    /// Headers.
    pub headers: Vec<(HeaderName, Test)>,
    /// Query parameters, by their decoded names and values.
    pub query: Vec<(Box<str>, Test)>,
    /// Cookies.
    pub cookies: Vec<(Box<str>, Test)>,
    /// The client is in one of these; none = anywhere.
    pub client_ips: Vec<IpNet>,
    /// Not before this time.
    pub after: Option<i64>,
    /// Before this time.
    pub before: Option<i64>,
    /// The version the request asks for.
    pub version: Option<VersionMatch>,
    /// An expression.
    pub when: Option<Arc<dyn Condition>>,
}

/// What must be true of one value.
#[derive(Clone, Debug)]
pub enum Test {
    /// It is this.
    Exact(Box<str>),
    /// It begins with this.
    Prefix(Box<str>),
    /// This matches the whole of it.
    Regex(Arc<Regex>),
    /// It is there, or it is not.
    Present(bool),
}

/// Which version of an API a request must ask for.
#[derive(Clone, Debug)]
pub struct VersionMatch {
    /// Where the request names it.
    pub location: VersionLocation,
    /// One of these.
    pub any_of: Vec<String>,
    /// A request that names none matches too.
    pub default: bool,
}

/// Where a request names a version.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum VersionLocation {
    /// In this header.
    Header(HeaderName),
    /// In this query parameter.
    Query(Box<str>),
    /// In this parameter of a media type in `Accept`: `application/json;version=2`.
    MediaType(Box<str>),
}

impl Conditions {
    /// How many there are: each header, query parameter and cookie is one.
    #[must_use]
    pub fn count(&self) -> u16 {
        let lists = self.headers.len() + self.query.len() + self.cookies.len();
        let others = [
            !self.client_ips.is_empty(),
            self.after.is_some(),
            self.before.is_some(),
            self.version.is_some(),
            self.when.is_some(),
        ];
        let others = others.iter().filter(|is_there| **is_there).count();
        u16::try_from(lists + others).unwrap_or(u16::MAX)
    }

    /// Whether no request can hold both, as far as that shows.
    #[must_use]
    pub fn excludes(&self, other: &Self) -> bool {
        let versions = match (&self.version, &other.version) {
            (Some(one), Some(two)) => one.excludes(two),
            _ => false,
        };
        let ended = |end: Option<i64>, start: Option<i64>| match (end, start) {
            (Some(end), Some(start)) => end <= start,
            _ => false,
        };
        any_excludes(&self.headers, &other.headers)
            || any_excludes(&self.query, &other.query)
            || any_excludes(&self.cookies, &other.cookies)
            || versions
            || ended(self.before, other.after)
            || ended(other.before, self.after)
            || networks_apart(&self.client_ips, &other.client_ips)
    }

    /// Whether no request at all can hold these.
    pub(super) fn never_hold(&self) -> bool {
        matches!((self.after, self.before), (Some(after), Some(before)) if before <= after)
    }

    /// Whether all hold.
    pub(super) fn hold(&self, request: &Request<'_>) -> bool {
        let in_time = self.after.is_none_or(|after| after <= request.unix_millis)
            && self
                .before
                .is_none_or(|before| request.unix_millis < before);
        in_time
            && (self.headers.iter()).all(|(name, test)| test.holds(header(request, name)))
            && (self.query.iter()).all(|(name, test)| test.holds(query(request, name).as_deref()))
            && (self.cookies.iter()).all(|(name, test)| test.holds(cookie(request, name)))
            && self
                .version
                .as_ref()
                .is_none_or(|version| version.holds(request))
            && (self.client_ips.is_empty() || self.is_from(request))
    }

    fn is_from(&self, request: &Request<'_>) -> bool {
        (request.client_ip).is_some_and(|ip| self.client_ips.iter().any(|net| net.contains(&ip)))
    }
}

impl Test {
    /// A regex that must match the whole value.
    ///
    /// # Errors
    /// Says what is wrong with the text.
    pub fn regex(text: &str) -> Result<Self, String> {
        Ok(Self::Regex(Arc::new(anchored(text)?)))
    }

    fn holds(&self, value: Option<&[u8]>) -> bool {
        let Some(value) = value else {
            return matches!(self, Self::Present(false));
        };
        match self {
            Self::Exact(wanted) => value == wanted.as_bytes(),
            Self::Prefix(start) => value.starts_with(start.as_bytes()),
            Self::Regex(regex) => std::str::from_utf8(value).is_ok_and(|v| regex.is_match(v)),
            Self::Present(wanted) => *wanted,
        }
    }

    fn excludes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Present(false), Self::Present(there)) => *there,
            (Self::Present(false), _) => true,
            (Self::Exact(value), test) => !test.holds(Some(value.as_bytes())),
            (Self::Prefix(one), Self::Prefix(two)) => {
                !one.starts_with(&**two) && !two.starts_with(&**one)
            }
            (_, Self::Exact(_) | Self::Present(false)) => other.excludes(self),
            (Self::Prefix(_) | Self::Regex(_) | Self::Present(true), _) => false,
        }
    }
}

impl VersionMatch {
    fn holds(&self, request: &Request<'_>) -> bool {
        let named = match &self.location {
            VersionLocation::Header(name) => header(request, name).map(Cow::Borrowed),
            VersionLocation::Query(name) => query(request, name),
            VersionLocation::MediaType(name) => media_parameter(request, name).map(Cow::Borrowed),
        };
        match named.as_deref().map(<[u8]>::trim_ascii) {
            None | Some([]) => self.default,
            Some(version) => self.any_of.iter().any(|one| one.as_bytes() == version),
        }
    }

    fn excludes(&self, other: &Self) -> bool {
        if self.location != other.location || self.default && other.default {
            return false;
        }
        let ours: HashSet<&String> = self.any_of.iter().collect();
        !other.any_of.iter().any(|version| ours.contains(version))
    }
}

fn any_excludes<N: PartialEq>(ours: &[(N, Test)], theirs: &[(N, Test)]) -> bool {
    let apart = |(name, test): &(N, Test)| {
        (theirs.iter()).any(|(other, theirs)| other == name && test.excludes(theirs))
    };
    ours.iter().any(apart)
}

fn networks_apart(ours: &[IpNet], theirs: &[IpNet]) -> bool {
    let apart = |a: &IpNet, b: &IpNet| !a.contains(b) && !b.contains(a);
    let given = !ours.is_empty() && !theirs.is_empty();
    given && ours.iter().all(|a| theirs.iter().all(|b| apart(a, b)))
}

fn header<'r>(request: &Request<'r>, name: &HeaderName) -> Option<&'r [u8]> {
    request.headers.get(name).map(http::HeaderValue::as_bytes)
}

fn query<'r>(request: &Request<'r>, name: &str) -> Option<Cow<'r, [u8]>> {
    let mut pairs = request.query.as_bytes().split(|byte| *byte == b'&');
    pairs.find_map(|pair| {
        let (key, value) = cut(pair, b'=').unwrap_or((pair, &[]));
        (!pair.is_empty() && *decoded(key) == *name.as_bytes()).then(|| decoded(value))
    })
}

fn cookie<'r>(request: &Request<'r>, name: &str) -> Option<&'r [u8]> {
    let headers = request.headers.get_all(COOKIE).into_iter();
    let mut pairs = headers.flat_map(|header| header.as_bytes().split(|byte| *byte == b';'));
    pairs.find_map(|pair| {
        let (key, value) = cut(pair, b'=')?;
        (key.trim_ascii() == name.as_bytes()).then(|| value.trim_ascii())
    })
}

/// The parameter in the first media type that has it.
fn media_parameter<'r>(request: &Request<'r>, name: &str) -> Option<&'r [u8]> {
    request
        .headers
        .get_all(ACCEPT)
        .into_iter()
        .find_map(|header| {
            let mut quoted = false;
            let mut parts = header.as_bytes().split(move |byte| {
                quoted ^= *byte == b'"';
                !quoted && (*byte == b';' || *byte == b',')
            });
            parts.find_map(|part| {
                let (key, value) = cut(part, b'=')?;
                let value = value.trim_ascii();
                let bare = value
                    .strip_prefix(b"\"")
                    .and_then(|v| v.strip_suffix(b"\""));
                let same = key.trim_ascii().eq_ignore_ascii_case(name.as_bytes());
                same.then(|| bare.unwrap_or(value))
            })
        })
}

fn cut(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let mut halves = text.splitn(2, |byte| *byte == at);
    Some((halves.next()?, halves.next()?))
}

/// Undoes `%xx` and `+`; borrows when there is nothing to undo.
fn decoded(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.contains(&b'%') && !text.contains(&b'+') {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut left = text;
    while let Some((first, after)) = left.split_first() {
        let escaped = match (first, after) {
            (b'%', [high, low, after @ ..]) => hex(*high, *low).map(|byte| (byte, after)),
            (b'+', _) => Some((b' ', after)),
            _ => None,
        };
        let (byte, after) = escaped.unwrap_or((*first, after));
        out.push(byte);
        left = after;
    }
    Cow::Owned(out)
}

fn hex(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}
