//! What the upstream gets instead of what the client sent: another path, host, query, other headers.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderValue;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::body::{BodyChanges, BodySpec};
use super::headers::{HeaderChanges, HeadersSpec};
use super::{Env, Hooks, Stage};
use crate::base::canon::{self, PathOptions};
use crate::base::problem::Problem;
use crate::exchange::{Exchange, Facts, Fault, PathBack, Piece, RequestHead, Verdict};
use crate::expr::{Encoding, Moment, Template};

/// Changes to a request before it goes upstream.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The upstream's path, e.g. `/internal/orders/{id}`. For a `path_prefix` route `{path}` is what follows the prefix, so
    /// that `path: "{path}"` takes the prefix off. Default: the client's path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    /// The upstream's `Host`, e.g. `orders.internal`. Default: the client's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    /// Changes to the query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    query: Option<QuerySpec>,
    /// Changes to the headers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    headers: Option<HeadersSpec>,
    /// Changes to a JSON body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<BodySpec>,
}

/// Changes to a query; what is not named stays as it was sent.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QuerySpec {
    /// Name and value, e.g. `v: "2"`; takes the place of all values of that name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    set: BTreeMap<String, String>,
    /// Names to take away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    remove: Vec<String>,
}

/// The same changes, ready to be made.
#[derive(Debug)]
pub struct Request {
    path: Option<Template>,
    back: Option<Arc<PathBack>>,
    stripped_prefix: Option<HeaderValue>,
    host: Option<HeaderValue>,
    query: Option<QueryChanges>,
    headers: HeaderChanges,
    body: Option<BodyChanges>,
}

#[derive(Debug)]
struct QueryChanges {
    set: Vec<(String, Template)>,
    remove: Vec<String>,
}

impl Spec {
    /// Makes the policy.
    pub fn compile(&self, env: &mut Env<'_>) -> Option<Request> {
        let path = self.compile_path(env);
        let host = self.compile_host(env);
        let query = self.query.as_ref().map(|query| query.compile(env));
        let place = env.place.key("headers");
        let headers = self
            .headers
            .as_ref()
            .map(|spec| spec.compile(env, &place, Moment::Request))
            .unwrap_or_default();
        let place = env.place.key("body");
        let body = self.body.as_ref();
        let body = body.and_then(|body| body.compile(env, &place, Moment::Request));
        let back = path.as_ref().and_then(|_| self.back(env)).map(Arc::new);
        let stripped = self.path.as_deref() == Some("{path}");
        let prefix = env
            .route
            .prefix
            .as_deref()
            .filter(|prefix| stripped && !prefix.is_empty());
        let stripped_prefix = prefix.and_then(|prefix| HeaderValue::from_str(prefix).ok());
        Some(Request {
            path,
            back,
            stripped_prefix,
            host,
            query,
            headers,
            body,
        })
    }

    fn compile_path(&self, env: &mut Env<'_>) -> Option<Template> {
        let text = self.path.as_deref()?;
        let place = env.place.key("path");
        if text.contains('?') {
            let problem = Problem::error("E034", place, "a path holds no query");
            env.problem(problem.hint("write `query: { set: … }` beside it"));
            return None;
        }
        let begins_with_rest = env.route.prefix.is_some() && text.starts_with("{path}");
        if !text.starts_with('/') && !begins_with_rest {
            env.problem(
                Problem::error("E034", place, "a path begins with `/`")
                    .hint(format!("write `/{text}`")),
            );
            return None;
        }
        // `{path}` brings its own slash, or is empty: `rewritten` sees to what is left then.
        let whole = if begins_with_rest {
            format!("/{text}")
        } else {
            text.to_owned()
        };
        match canon::canonical_pattern(&whole) {
            Ok(whole) => {
                let text = whole.get(usize::from(begins_with_rest)..).unwrap_or(&whole);
                env.template(text, &place, Moment::Request)
            }
            Err(fault) => {
                let hint = if text.split('/').any(|segment| matches!(segment, "." | "..")) {
                    "write the path without dot segments"
                } else {
                    "percent-encode what is not a path character"
                };
                env.problem(Problem::error("E034", place, format!("{fault}")).hint(hint));
                None
            }
        }
    }

    fn compile_host(&self, env: &mut Env<'_>) -> Option<HeaderValue> {
        let text = self.host.as_deref()?;
        let parsed = canon::parse_authority(text)
            .ok()
            .and_then(|host| HeaderValue::from_str(&host.canonical()).ok());
        if parsed.is_none() {
            let problem = Problem::error(
                "E034",
                env.place.key("host"),
                format!("`{text}` is not a host"),
            );
            env.problem(
                problem.hint("a name or address, with or without a port: `orders.internal:8080`"),
            );
        }
        parsed
    }

    /// The way back for `Location` and cookie paths.
    fn back(&self, env: &Env<'_>) -> Option<PathBack> {
        let upstream = pieces(self.path.as_deref()?, env)?;
        let client = match (&env.route.prefix, &env.route.path) {
            (Some(prefix), _) => vec![Piece::Text(prefix.clone()), Piece::Rest(0)],
            (None, Some(path)) => pieces(path, env)?,
            (None, None) => return None,
        };
        PathBack::new(upstream, client)
    }
}

/// A path template as pieces; none when it quotes anything but path parameters. A path to match may say `{rest*}`.
fn pieces(template: &str, env: &Env<'_>) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut rest = template;
    while let Some((text, tail)) = rest.split_once('{') {
        let (name, tail) = tail.split_once('}')?;
        let name = name.strip_suffix('*').unwrap_or(name);
        let index = env.route.params.iter().position(|param| param == name)?;
        if !text.is_empty() {
            pieces.push(Piece::Text(text.to_owned()));
        }
        let last = tail.is_empty();
        let is_rest = last
            && (env.route.prefix.is_some()
                || env
                    .route
                    .path
                    .as_deref()
                    .is_some_and(|path| path.ends_with(&format!("{{{name}*}}"))));
        pieces.push(if is_rest {
            Piece::Rest(index)
        } else {
            Piece::Segment(index)
        });
        rest = tail;
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest.to_owned()));
    }
    Some(pieces)
}

impl QuerySpec {
    fn compile(&self, env: &mut Env<'_>) -> QueryChanges {
        let place = env.place.key("query").key("set");
        let set = self.set.iter().filter_map(|(name, value)| {
            Some((
                name.clone(),
                env.template(value, &place.key(name), Moment::Request)?,
            ))
        });
        QueryChanges {
            set: set.collect(),
            remove: self.remove.clone(),
        }
    }
}

impl QueryChanges {
    /// The new query; what is not named stays byte for byte.
    fn apply(&self, raw: Option<&str>, facts: &Facts<'_>) -> String {
        let mut out = String::with_capacity(raw.map_or(0, str::len) + 32);
        let named = |pair: &str| {
            let name = canon::query_pairs(pair)
                .next()
                .map(|(name, _)| name.into_owned())
                .unwrap_or_default();
            self.remove.contains(&name) || self.set.iter().any(|(set, _)| *set == name)
        };
        for pair in raw
            .unwrap_or_default()
            .split('&')
            .filter(|pair| !pair.is_empty() && !named(pair))
        {
            push_pair(&mut out, pair, None);
        }
        for (name, template) in &self.set {
            if let Some(value) = template.render(facts, Encoding::Query) {
                push_pair(&mut out, &canon::encode_query(name), Some(&value));
            }
        }
        out
    }
}

fn push_pair(out: &mut String, name: &str, value: Option<&str>) {
    if !out.is_empty() {
        out.push('&');
    }
    out.push_str(name);
    if let Some(value) = value {
        out.push('=');
        out.push_str(value);
    }
}

impl Hooks for Request {
    const STAGE: Stage = Stage::Act;

    fn on_request(&self, head: &RequestHead, ex: &mut Exchange) -> Result<Verdict, Fault> {
        let facts = Facts::of(head, ex);
        let path = match &self.path {
            Some(template) => Some(rewritten(template, &facts)?),
            None => None,
        };
        let query = self.query.as_ref().map(|changes| {
            // A credential may have been taken off it.
            let query = ex.to_upstream.query.as_deref();
            changes.apply(query.or_else(|| head.uri.query()), &facts)
        });
        let mut edits = std::mem::take(&mut ex.to_upstream.headers);
        if !self.headers.is_empty() {
            self.headers.render(&Facts::of(head, ex), &mut edits);
        }
        let to = &mut ex.to_upstream;
        to.headers = edits;
        to.back.clone_from(&self.back);
        to.stripped_prefix.clone_from(&self.stripped_prefix);
        to.host.clone_from(&self.host);
        to.path = path;
        to.query = query.or_else(|| to.query.take());
        Ok(Verdict::Continue)
    }

    fn request_body(&self) -> Option<&BodyChanges> {
        self.body.as_ref()
    }

    fn explain(&self, ex: &Exchange) -> Option<String> {
        let to = &ex.to_upstream;
        let host = to.host.as_ref().and_then(|host| host.to_str().ok());
        let words = [("path", to.path.as_deref()), ("host", host)];
        let words = words.iter().filter_map(|(what, value)| {
            let value = value.as_ref()?;
            Some(format!("{what} {value}"))
        });
        let words: Vec<String> = words.collect();
        (!words.is_empty()).then(|| words.join(", "))
    }
}

/// The upstream's path. It is made canonical once more: what a rewrite joins must not become another path on the way.
fn rewritten(template: &Template, facts: &Facts<'_>) -> Result<String, Fault> {
    let path = template
        .render(facts, Encoding::Path)
        .ok_or(Fault::BadPath)?;
    let path = if path.is_empty() {
        Cow::Borrowed("/")
    } else {
        path
    };
    let canonical =
        canon::canonical_path(&path, PathOptions::default()).map_err(|_fault| Fault::BadPath)?;
    Ok(canonical.into_owned())
}
