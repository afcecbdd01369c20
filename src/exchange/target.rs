//! The target of a request in its canonical form.

use std::borrow::Cow;

use super::fault::Fault;
use super::query;
use crate::base::canon::{self, PathOptions};

/// Path and query, canonical.
pub(super) struct Target<'a> {
    pub(super) path: Cow<'a, str>,
    pub(super) query: Option<Cow<'a, str>>,
    pub(super) authority: Option<&'a str>,
    /// Nothing had to be changed.
    pub(super) as_sent: bool,
}

impl<'a> Target<'a> {
    pub(super) fn parse(method: &str, target: &'a str) -> Result<Self, Fault> {
        // A tunnel through the gateway and an echo of its headers are refused (RFC 9110 sections 9.3.6 and 9.3.8).
        if matches!(method, "CONNECT" | "TRACE") {
            return Err(Fault::MethodNotAllowed);
        }
        if target == "*" {
            let star = Self {
                path: Cow::Borrowed("*"),
                query: None,
                authority: None,
                as_sent: true,
            };
            return if method == "OPTIONS" {
                Ok(star)
            } else {
                Err(Fault::BadPath)
            };
        }
        let (authority, rest) = match target.split_at_checked(7) {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http://") => {
                let end = rest.find(['/', '?']).unwrap_or(rest.len());
                let (authority, rest) = rest.split_at(end);
                (Some(authority), rest)
            }
            _ => (None, target),
        };
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        if let Some(query) = query {
            canon::check_query(query).map_err(|_fault| Fault::BadPath)?;
        }
        let query = query.map(query::canonical);
        let path = if path.is_empty() && authority.is_some() {
            "/"
        } else {
            path
        };
        if !path.starts_with('/') {
            return Err(Fault::BadPath);
        }
        let path =
            canon::canonical_path(path, PathOptions::default()).map_err(|_fault| Fault::BadPath)?;
        let as_sent = authority.is_none()
            && matches!(path, Cow::Borrowed(_))
            && !matches!(query, Some(Cow::Owned(_)));
        Ok(Self {
            path,
            query,
            authority,
            as_sent,
        })
    }
}
