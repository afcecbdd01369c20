//! Pure matching: which rule a request falls under, whatever the rule leads to.
//!
//! A [`Router`] is built once from [`Rule`]s by a [`Builder`] and never changes. The best rule is the most specific one
//! whose every key holds: first by host (exact, longest wildcard, any), then by path (exact, template, prefix, regex),
//! then by `priority`, then by the number of conditions. Two rules that nothing of this tells apart are a [`Conflict`].

mod build;
mod conflict;
mod find;
mod host;
mod methods;
mod path;
mod predicate;
mod shadow;
mod split;
mod table;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use http::{HeaderMap, Method};
use smallvec::SmallVec;

pub use build::{Builder, Built};
pub use conflict::{Conflict, Overlap};
pub use host::HostPattern;
pub use methods::{Allow, Methods};
pub use path::{PathParser, PathPattern};
pub use predicate::{Condition, Conditions, Test, VersionLocation, VersionMatch};
pub use shadow::{Reason, Warning};
pub use table::Router;

/// What must hold of a request, and what it then leads to.
#[derive(Clone)]
pub struct Rule<T> {
    /// What this rule leads to; also its name in conflicts and warnings.
    pub id: T,
    /// One of these; none = any host.
    pub hosts: Vec<HostPattern>,
    /// The path.
    pub path: PathPattern,
    /// One of these.
    pub methods: Methods,
    /// All of these.
    pub conditions: Conditions,
    /// Decides between rules of equal specificity, higher first. Default 0.
    pub priority: i32,
}

impl<T> Rule<T> {
    /// A rule for every request to `path`: any host, all methods, no conditions, priority 0.
    pub fn new(id: T, path: PathPattern) -> Self {
        Self {
            id,
            hosts: Vec::new(),
            path,
            methods: Methods::all(),
            conditions: Conditions::default(),
            priority: 0,
        }
    }

    /// The same rule, leading elsewhere.
    pub fn leading_to<U>(self, id: U) -> Rule<U> {
        Rule {
            id,
            hosts: self.hosts,
            path: self.path,
            methods: self.methods,
            conditions: self.conditions,
            priority: self.priority,
        }
    }
}

/// What the router looks at.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// Canonical: lower case, no port, no trailing dot; an IPv6 address in brackets.
    pub host: &'a str,
    /// Canonical, begins with `/`; what does not (as in `OPTIONS *`) matches no rule.
    pub path: &'a str,
    /// As sent, without the `?`.
    pub query: &'a str,
    /// The method.
    pub method: &'a Method,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The client; none over a Unix socket, where no `client_ips` matches.
    pub client_ip: Option<IpAddr>,
    /// The time of day, for `after` and `before`.
    pub unix_millis: i64,
    /// `http` or `https`, for conditions.
    pub scheme: &'a str,
    /// The request's id, for conditions.
    pub id: &'a str,
}

/// The router's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found<T> {
    /// The best rule.
    Route(Route<T>),
    /// Some rules match but for the method.
    MethodNotAllowed {
        /// What they take.
        allow: Allow,
    },
    /// The method is OPTIONS, which no matching rule takes, and some rules match but for the method.
    Options {
        /// What they take.
        allow: Allow,
    },
    /// No rule matches, whatever the method.
    NotFound,
}

/// A rule that matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route<T> {
    /// The `id` of the rule.
    pub id: T,
    /// What the parameters of its path stand for.
    pub params: Params,
    /// How the host matched; [`Router::rank`] tells the rest.
    pub host: HostRank,
    leaf: u32,
}

/// How specific a match is; the greater wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rank {
    /// By host.
    pub host: HostRank,
    /// By path.
    pub path: PathRank,
    /// As the rule says.
    pub priority: i32,
    /// How many conditions the rule has.
    pub conditions: u16,
}

/// How specific a host is; the greater wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostRank {
    /// The rule names no host.
    Any,
    /// `*.` and so many labels.
    Wildcard(u8),
    /// The very host.
    Exact,
}

/// How specific a path is; the greater wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathRank {
    /// A regular expression.
    Regex,
    /// The first segments.
    Prefix {
        /// How many.
        segments: u8,
    },
    /// Segments with parameters among them.
    Template {
        /// How many segments are literal.
        literals: u8,
        /// No `{rest*}` at the end.
        whole: bool,
        /// How many segments there are, not counting `{rest*}`.
        segments: u8,
        /// How many parameters have a pattern.
        typed: u8,
    },
    /// The very path.
    Exact,
}

/// What the parameters of a path stand for: parts of the request's path, in the order of [`PathPattern::names`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Params {
    spans: SmallVec<[(u32, u32); 4]>,
}

impl Params {
    /// The parameter at `index`; none where a group of a regex took no part. `path` is the request's.
    #[must_use]
    pub fn get<'p>(&self, index: usize, path: &'p str) -> Option<&'p str> {
        let (start, end) = *self.spans.get(index)?;
        path.get(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether the path has no parameters.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    fn push(&mut self, start: u32, end: u32) {
        self.spans.push((start, end));
    }

    /// A parameter that took no part: a span that is never inside a path.
    fn push_absent(&mut self) {
        self.spans.push((u32::MAX, 0));
    }
}
