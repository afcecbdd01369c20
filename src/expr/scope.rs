//! The names that templates and expressions may quote, and where their values come from.

use std::borrow::Cow;
use std::net::IpAddr;

use http::header::{HeaderMap, HeaderName};
use serde_json::{Map, Value as Json};

use super::claims::{ClaimPath, claim_text};
use super::fields::{cookie_pairs, header_text};
use super::{ErrorKind, ExprError};
use crate::base::canon::{decode_segment, query_value};
use crate::base::problem::suggest;

/// One thing of a request or its response that can be quoted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Name {
    /// `{id}`, `params.id`: a path parameter, by its position among the names of the route.
    Param(usize),
    /// `request.id`
    RequestId,
    /// `request.method`
    Method,
    /// `request.scheme`
    Scheme,
    /// `request.host`
    Host,
    /// `request.path`: canonical, still percent-encoded.
    Path,
    /// `request.query`: the query as it was sent; in templates only, in expressions it is the map.
    RawQuery,
    /// `request.headers.x`: several lines of one name are joined with a comma.
    Header(HeaderName),
    /// `request.query.x`: decoded; the first of several.
    Query(Box<str>),
    /// `request.cookies.x`: the first of several.
    Cookie(Box<str>),
    /// `client.ip`
    ClientIp,
    /// `auth.method`: the kind of the authenticator that knows the caller.
    AuthMethod,
    /// `auth.sub`
    AuthSub,
    /// `auth.claims.x`
    Claim(ClaimPath),
    /// `consumer.name`
    ConsumerName,
    /// `consumer.plan`
    ConsumerPlan,
    /// `consumer.groups`: with commas between them.
    ConsumerGroups,
    /// `route.name`
    RouteName,
    /// `response.status`
    ResponseStatus,
    /// `response.headers.x`
    ResponseHeader(HeaderName),
}

/// How far a request has come: what is known then can be quoted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// A route is being chosen: `request`, `params` (of the candidate) and `client`.
    Routing,
    /// The route is known: also `route`, and once the caller is known, `auth` and `consumer`.
    Request,
    /// The answer's head is known: also `response`.
    Response,
}

/// Which names are allowed at a place of the config.
#[derive(Debug, Clone)]
pub struct Vocabulary<'a> {
    params: Vec<&'a str>,
    moment: Moment,
}

impl<'a> Vocabulary<'a> {
    /// The names of the route's path parameters, in the order of their index, and what is known at the place.
    #[must_use]
    pub fn new(params: impl IntoIterator<Item = &'a str>, moment: Moment) -> Self {
        Self {
            params: params.into_iter().collect(),
            moment,
        }
    }

    pub(super) fn params(&self) -> &[&'a str] {
        &self.params
    }

    fn index(&self, param: &str) -> Option<usize> {
        self.params.iter().position(|known| *known == param)
    }
}

/// What one request can tell. An implementation overrides what it has; the rest is missing.
pub trait Scope {
    /// The path parameter `index` as a slice of the canonical path, still percent-encoded.
    fn param(&self, _index: usize) -> Option<&str> {
        None
    }
    /// The id given to the request.
    fn request_id(&self) -> Option<&str> {
        None
    }
    /// The method.
    fn method(&self) -> Option<&str> {
        None
    }
    /// `http` or `https`, as the client used it.
    fn scheme(&self) -> Option<&str> {
        None
    }
    /// The canonical host, without the port.
    fn host(&self) -> Option<&str> {
        None
    }
    /// The canonical path, percent-encoded.
    fn path(&self) -> Option<&str> {
        None
    }
    /// What follows the `?`, as it was sent.
    fn raw_query(&self) -> Option<&str> {
        None
    }
    /// The header of the request.
    fn headers(&self) -> Option<&HeaderMap> {
        None
    }
    /// The client's address, behind trusted proxies too.
    fn client_ip(&self) -> Option<IpAddr> {
        None
    }
    /// The kind of authenticator that knows the caller.
    fn auth_method(&self) -> Option<&str> {
        None
    }
    /// Who the caller is.
    fn auth_sub(&self) -> Option<&str> {
        None
    }
    /// What was said of the caller.
    fn claims(&self) -> Option<&Map<String, Json>> {
        None
    }
    /// Whose credential it is.
    fn consumer_name(&self) -> Option<&str> {
        None
    }
    /// The plan of whom it is.
    fn consumer_plan(&self) -> Option<&str> {
        None
    }
    /// The groups of whom it is.
    fn consumer_groups(&self) -> Option<&[Box<str>]> {
        None
    }
    /// The name of the chosen route.
    fn route_name(&self) -> Option<&str> {
        None
    }
    /// The status of the answer.
    fn response_status(&self) -> Option<u16> {
        None
    }
    /// The header of the answer.
    fn response_headers(&self) -> Option<&HeaderMap> {
        None
    }
    /// One field of the request's header, read from [`Scope::headers`].
    fn header(&self, name: &HeaderName) -> Option<Cow<'_, str>> {
        header_text(self.headers()?, name)
    }
    /// One field of the answer's header, read from [`Scope::response_headers`].
    fn response_header(&self, name: &HeaderName) -> Option<Cow<'_, str>> {
        header_text(self.response_headers()?, name)
    }
    /// One value of the query, decoded, read from [`Scope::raw_query`].
    fn query(&self, name: &str) -> Option<Cow<'_, str>> {
        query_value(self.raw_query()?, name)
    }
    /// One cookie, read from [`Scope::headers`].
    fn cookie(&self, name: &str) -> Option<Cow<'_, str>> {
        cookie_pairs(self.headers()?)
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
    }
}

impl Name {
    /// The name that `text` means in a template, e.g. `id` or `request.headers.x-tenant`.
    ///
    /// # Errors
    /// When there is no such name, or none at this place or in this version; the span is the whole of `text`.
    pub fn parse(text: &str, vocabulary: &Vocabulary<'_>) -> Result<Self, ExprError> {
        let mut parts = text.splitn(3, '.');
        let root = parts.next().unwrap_or_default();
        let found = match parts.next() {
            None => vocabulary
                .index(text)
                .map(Self::Param)
                .ok_or_else(|| bare_error(text, vocabulary)),
            Some(field) => Self::of(root, field, parts.next(), vocabulary),
        };
        found.map_err(|error| error.at(0..text.chars().count()))
    }

    /// The name `root.field` or `root.field[key]`.
    pub(super) fn of(
        root: &str,
        field: &str,
        key: Option<&str>,
        vocabulary: &Vocabulary<'_>,
    ) -> Result<Self, ExprError> {
        let (name, from) = match (root, field, key) {
            ("request", "id", None) => (Self::RequestId, Moment::Routing),
            ("request", "method", None) => (Self::Method, Moment::Routing),
            ("request", "scheme", None) => (Self::Scheme, Moment::Routing),
            ("request", "host", None) => (Self::Host, Moment::Routing),
            ("request", "path", None) => (Self::Path, Moment::Routing),
            ("request", "query", None) => (Self::RawQuery, Moment::Routing),
            ("request", "headers", Some(key)) => (Self::Header(header_name(key)?), Moment::Routing),
            ("request", "query", Some(key)) => {
                (Self::Query(not_empty(key)?.into()), Moment::Routing)
            }
            ("request", "cookies", Some(key)) => {
                (Self::Cookie(not_empty(key)?.into()), Moment::Routing)
            }
            ("params", name, None) => {
                let index = vocabulary
                    .index(name)
                    .ok_or_else(|| param_error(name, vocabulary))?;
                (Self::Param(index), Moment::Routing)
            }
            ("client", "ip", None) => (Self::ClientIp, Moment::Routing),
            ("auth", "method", None) => (Self::AuthMethod, Moment::Request),
            ("auth", "sub", None) => (Self::AuthSub, Moment::Request),
            ("auth", "claims", Some(key)) => {
                let path = ClaimPath::new(not_empty(key)?);
                (Self::Claim(path), Moment::Request)
            }
            ("consumer", "name", None) => (Self::ConsumerName, Moment::Request),
            ("consumer", "plan", None) => (Self::ConsumerPlan, Moment::Request),
            ("consumer", "groups", None) => (Self::ConsumerGroups, Moment::Request),
            ("route", "name", None) => (Self::RouteName, Moment::Request),
            ("response", "status", None) => (Self::ResponseStatus, Moment::Response),
            ("response", "headers", Some(key)) => {
                (Self::ResponseHeader(header_name(key)?), Moment::Response)
            }
            _ => return Err(field_error(root, field, key, vocabulary)),
        };
        if vocabulary.moment < from {
            Err(not_here(&format!("{root}.{field}"), vocabulary))
        } else {
            Ok(name)
        }
    }

    /// Whether `root` (`route`, `response`) has values at this place.
    pub(super) fn root_is_known(root: &str, vocabulary: &Vocabulary<'_>) -> Result<(), ExprError> {
        let from = match root {
            "response" => Moment::Response,
            "route" | "auth" | "consumer" => Moment::Request,
            _ => Moment::Routing,
        };
        if vocabulary.moment < from {
            Err(not_here(root, vocabulary))
        } else {
            Ok(())
        }
    }

    /// The value as text: parameters, query values and cookies decoded. `None` when the request has none.
    ///
    /// Bytes that are not UTF-8 become U+FFFD, so that what was sent never counts as missing.
    #[must_use]
    pub fn value<'s>(&self, scope: &'s dyn Scope) -> Option<Cow<'s, str>> {
        match self {
            Self::Param(index) => scope.param(*index).map(decode_segment),
            Self::RequestId => scope.request_id().map(Cow::Borrowed),
            Self::Method => scope.method().map(Cow::Borrowed),
            Self::Scheme => scope.scheme().map(Cow::Borrowed),
            Self::Host => scope.host().map(Cow::Borrowed),
            Self::Path => scope.path().map(Cow::Borrowed),
            Self::RawQuery => scope.raw_query().map(Cow::Borrowed),
            Self::Header(name) => scope.header(name),
            Self::Query(name) => scope.query(name),
            Self::Cookie(name) => scope.cookie(name),
            Self::ClientIp => scope.client_ip().map(|ip| Cow::Owned(ip.to_string())),
            Self::AuthMethod => scope.auth_method().map(Cow::Borrowed),
            Self::AuthSub => scope.auth_sub().map(Cow::Borrowed),
            Self::Claim(path) => claim_text(path.of(scope.claims()?)?),
            Self::ConsumerName => scope.consumer_name().map(Cow::Borrowed),
            Self::ConsumerPlan => scope.consumer_plan().map(Cow::Borrowed),
            Self::ConsumerGroups => scope
                .consumer_groups()
                .map(|groups| Cow::Owned(groups.join(","))),
            Self::RouteName => scope.route_name().map(Cow::Borrowed),
            Self::ResponseStatus => scope
                .response_status()
                .map(|status| Cow::Owned(status.to_string())),
            Self::ResponseHeader(name) => scope.response_header(name),
        }
    }
}

/// The roots of all names, and the fields of each.
const KNOWN: [(&str, &[&str]); 7] = [
    (
        "request",
        &[
            "id", "method", "scheme", "host", "path", "headers", "query", "cookies",
        ],
    ),
    ("params", &[]),
    ("client", &["ip"]),
    ("route", &["name"]),
    ("auth", &["method", "sub", "claims"]),
    ("consumer", &["name", "plan", "groups"]),
    ("response", &["status", "headers"]),
];

/// Roots of the language that need what this version does not have.
const LATER_ROOTS: [&str; 5] = ["steps", "status", "headers", "item", "keys"];

/// Fields of the language that need what this version does not have.
const LATER_FIELDS: [(&str, &str); 3] = [
    ("request", "body"),
    ("response", "body"),
    ("client", "country"),
];

fn later(name: &str) -> ExprError {
    ExprError::new(
        ErrorKind::NotInThisVersion,
        format!("`{name}` is not supported in this version"),
    )
}

/// What to say of a word without a dot that is no parameter.
fn bare_error(word: &str, vocabulary: &Vocabulary<'_>) -> ExprError {
    if word.is_empty() {
        return ExprError::new(ErrorKind::Syntax, "empty `{}`").hint("`{{` and `}}` give braces");
    }
    if LATER_ROOTS.contains(&word) {
        return later(word);
    }
    if let Some((root, fields)) = KNOWN.iter().find(|(root, _)| *root == word) {
        return ExprError::new(ErrorKind::Unknown, format!("`{root}` alone has no value")).hint(
            fields.first().map_or_else(
                || format!("write `{root}.NAME`"),
                |field| format!("e.g. `{root}.{field}`"),
            ),
        );
    }
    param_error(word, vocabulary)
}

/// What to say of a root that expressions do not know.
pub(super) fn root_error(word: &str, vocabulary: &Vocabulary<'_>) -> ExprError {
    if vocabulary.index(word).is_some() {
        return ExprError::new(ErrorKind::Unknown, format!("unknown name `{word}`"))
            .hint(format!("did you mean `params.{word}`?"));
    }
    if LATER_ROOTS.contains(&word) || KNOWN.iter().any(|(root, _)| *root == word) {
        return bare_error(word, vocabulary);
    }
    let error = ExprError::new(ErrorKind::Unknown, format!("unknown name `{word}`"));
    match suggest(word, KNOWN.iter().map(|(root, _)| *root)) {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

fn param_error(word: &str, vocabulary: &Vocabulary<'_>) -> ExprError {
    let error = ExprError::new(
        ErrorKind::Unknown,
        format!("unknown path parameter `{word}`"),
    );
    let plain = word.trim_end_matches('*');
    if let Some((root, _)) = KNOWN.iter().find(|(_, fields)| fields.contains(&word)) {
        return error.hint(format!("did you mean `{root}.{word}`?"));
    }
    if plain != word && vocabulary.index(plain).is_some() {
        return error.hint(format!("did you mean `{plain}`?"));
    }
    if let Some(hint) = suggest(word, vocabulary.params.iter().copied()) {
        return error.hint(hint);
    }
    if vocabulary.params.is_empty() {
        return error.hint("the path of this route has no parameters");
    }
    error.hint(format!(
        "the path of this route has {}",
        listed(&vocabulary.params)
    ))
}

fn field_error(
    root: &str,
    field: &str,
    key: Option<&str>,
    vocabulary: &Vocabulary<'_>,
) -> ExprError {
    if LATER_ROOTS.contains(&root) {
        return later(&format!("{root}.{field}"));
    }
    if LATER_FIELDS.contains(&(root, field)) {
        return later(&format!("{root}.{field}"));
    }
    let Some((_, fields)) = KNOWN.iter().find(|(known, _)| *known == root) else {
        return root_error(root, vocabulary);
    };
    if root == "params" {
        return param_error(
            key.map_or_else(|| field.to_owned(), |key| format!("{field}.{key}"))
                .as_str(),
            vocabulary,
        );
    }
    if fields.contains(&field) {
        let error =
            |what: &str| ExprError::new(ErrorKind::Unknown, format!("`{root}.{field}` {what}"));
        return match key {
            Some(_) => error("is one value: it has no fields"),
            None => error("is a map").hint(format!("name one of its keys: `{root}.{field}.NAME`")),
        };
    }
    let error = ExprError::new(ErrorKind::Unknown, format!("unknown name `{root}.{field}`"));
    match suggest(field, fields.iter().copied()) {
        Some(hint) => error.hint(hint),
        None => error.hint(format!("`{root}` has {}", listed(fields))),
    }
}

fn not_here(name: &str, vocabulary: &Vocabulary<'_>) -> ExprError {
    let hint = match vocabulary.moment {
        Moment::Routing => "while a route is chosen there are `request`, `params` and `client`",
        Moment::Request | Moment::Response => "it is known when the answer has come",
    };
    ExprError::new(ErrorKind::NotHere, format!("`{name}` has no value here")).hint(hint)
}

fn listed(names: &[&str]) -> String {
    names
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

fn not_empty(key: &str) -> Result<&str, ExprError> {
    if key.is_empty() {
        Err(ExprError::new(
            ErrorKind::Unknown,
            "the name after the dot is missing",
        ))
    } else {
        Ok(key)
    }
}

fn header_name(key: &str) -> Result<HeaderName, ExprError> {
    HeaderName::from_bytes(not_empty(key)?.as_bytes()).map_err(|_invalid| {
        ExprError::new(
            ErrorKind::Unknown,
            format!("`{key}` cannot be the name of a header"),
        )
    })
}
