//! Answers without an upstream: fixed ones and redirects.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, LOCATION};
use http::{HeaderName, HeaderValue, StatusCode};
use serde_json::Value as Json;

use crate::base::canon;
use crate::base::problem::Problem;
use crate::config::document::{Redirect, Respond, UrlScheme};
use crate::exchange::{Facts, Reply};
use crate::expr::{Encoding, Moment, Scope as _, Template};
use crate::link::{Env, JsonTemplate};

/// Sends the client elsewhere.
#[derive(Debug)]
pub struct Redirection {
    status: StatusCode,
    scheme: Option<UrlScheme>,
    host: Option<String>,
    path: Option<Template>,
}

impl Redirection {
    /// Compiles a `redirect`; mistakes are reported.
    pub(super) fn compile(spec: &Redirect, env: &mut Env<'_>) -> Option<Self> {
        let status = StatusCode::from_u16(spec.status)
            .ok()
            .filter(|status| matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308));
        if status.is_none() {
            let problem = Problem::error(
                "E030",
                env.place.key("status"),
                format!("{} is not a redirect", spec.status),
            );
            env.problem(problem.hint("one of 301, 302, 303, 307, 308"));
        }
        if let Some(host) = spec
            .host
            .as_deref()
            .filter(|host| canon::parse_authority(host).is_err())
        {
            let problem = Problem::error(
                "E030",
                env.place.key("host"),
                format!("`{host}` is not a host"),
            );
            env.problem(problem.hint("a name, with or without a port: `www.example.com`"));
        }
        if spec.scheme.is_none() && spec.host.is_none() && spec.path.is_none() {
            let problem = Problem::error(
                "E030",
                env.place.clone(),
                "a redirect to where the client already is",
            );
            env.problem(problem.hint("say what changes: `scheme`, `host` or `path`"));
        }
        let place = env.place.key("path");
        let path = match spec.path.as_deref() {
            Some(text) if !text.starts_with('/') && !text.starts_with("{path}") => {
                env.problem(
                    Problem::error("E034", place, "a path begins with `/`")
                        .hint(format!("write `/{text}`")),
                );
                None
            }
            Some(text) => env.template(text, &place, Moment::Request),
            None => None,
        };
        Some(Self {
            status: status?,
            scheme: spec.scheme,
            host: spec.host.clone(),
            path,
        })
    }

    /// The answer to one request; none when the path cannot be made.
    #[must_use]
    pub fn reply(&self, facts: &Facts<'_>) -> Option<Reply> {
        let path = match &self.path {
            Some(template) => template.render(facts, Encoding::Path)?.into_owned(),
            None => facts.path()?.to_owned(),
        };
        // `//evil` would be another host to a browser.
        let path = if path.is_empty() { "/" } else { path.as_str() };
        let path = canon::canonical_path(path, canon::PathOptions::default()).ok()?;
        let mut location = String::with_capacity(64);
        let asked = facts
            .head
            .headers
            .get(HOST)
            .and_then(|host| host.to_str().ok())
            .unwrap_or_default();
        let client = facts
            .exchange
            .client
            .as_ref()
            .and_then(|client| client.host.as_deref())
            .unwrap_or(asked);
        if self.scheme.is_some() || self.host.is_some() {
            location.push_str(self.scheme.map_or_else(
                || facts.exchange.client_scheme().as_str(),
                UrlScheme::as_str,
            ));
            location.push_str("://");
            match (&self.host, self.scheme) {
                (Some(host), _) => location.push_str(host),
                // The port of the other scheme is not known: the usual one.
                (None, Some(_)) => location.push_str(without_port(client)),
                (None, None) => location.push_str(client),
            }
        }
        location.push_str(&path);
        if let Some(query) = facts.raw_query() {
            location.push('?');
            location.push_str(query);
        }
        let location = HeaderValue::from_str(&location).ok()?;
        Some(Reply::empty(self.status).header(LOCATION, location))
    }
}

fn without_port(authority: &str) -> &str {
    authority
        .rsplit_once(':')
        .filter(|(_, port)| !port.ends_with(']'))
        .map_or(authority, |(host, _)| host)
}

/// A fixed answer.
#[derive(Debug)]
pub struct Response {
    status: StatusCode,
    headers: Vec<(HeaderName, Template)>,
    body: Body,
}

#[derive(Debug)]
enum Body {
    Fixed(Bytes),
    Text(Template),
    Json(JsonTemplate),
}

impl Response {
    /// Compiles a `respond`; `file` is what its file holds. Mistakes are reported.
    pub(super) fn compile(spec: &Respond, file: Option<&Bytes>, env: &mut Env<'_>) -> Option<Self> {
        let status = StatusCode::from_u16(spec.status)
            .ok()
            .filter(|status| (200..600).contains(&status.as_u16()));
        if status.is_none() {
            let problem = Problem::error(
                "E030",
                env.place.key("status"),
                format!("{} is not a status of an answer", spec.status),
            );
            env.problem(problem.hint("200 to 599"));
        }
        let bodies = [
            ("text", spec.text.is_some()),
            ("json", spec.json.is_some()),
            ("file", spec.file.is_some()),
        ];
        let mut given = bodies
            .iter()
            .filter(|(_, given)| *given)
            .map(|(key, _)| *key);
        if let (Some(first), Some(second)) = (given.next(), given.next()) {
            let problem = Problem::error(
                "E038",
                env.place.key(second),
                format!("both `{first}` and `{second}`"),
            );
            env.problem(
                problem
                    .hint("an answer has one body: keep one of them")
                    .at_key(),
            );
        }
        let mut headers = Self::compile_headers(spec, env);
        let body = Self::compile_body(spec, file, env)?;
        let kind = body_type(spec, &body);
        if let Some(kind) = kind.filter(|_| !headers.iter().any(|(name, _)| name == CONTENT_TYPE)) {
            let place = env.place.clone();
            headers.extend(
                env.template(kind, &place, Moment::Request)
                    .map(|template| (CONTENT_TYPE, template)),
            );
        }
        Some(Self {
            status: status?,
            headers,
            body,
        })
    }

    fn compile_headers(spec: &Respond, env: &mut Env<'_>) -> Vec<(HeaderName, Template)> {
        let mut headers = Vec::new();
        for (name, value) in &spec.headers {
            let place = env.place.key("headers").key(name);
            let Ok(parsed) = HeaderName::from_bytes(name.as_bytes()) else {
                let problem =
                    Problem::error("E033", place, format!("`{name}` is not a header's name"));
                env.problem(
                    problem
                        .hint("letters, digits and dashes, e.g. `cache-control`")
                        .at_key(),
                );
                continue;
            };
            if matches!(
                parsed.as_str(),
                "content-length" | "transfer-encoding" | "connection"
            ) {
                let problem = Problem::error("E033", place, format!("`{name}` cannot be changed"));
                env.problem(problem.hint("the gateway writes it itself").at_key());
                continue;
            }
            headers.extend(
                env.template(value, &place, Moment::Request)
                    .map(|template| (parsed, template)),
            );
        }
        headers
    }

    fn compile_body(spec: &Respond, file: Option<&Bytes>, env: &mut Env<'_>) -> Option<Body> {
        if let Some(text) = &spec.text {
            let place = env.place.key("text");
            let vocabulary = crate::expr::Vocabulary::new(
                env.route.params.iter().map(String::as_str),
                Moment::Request,
            );
            return match Template::compile(text, &vocabulary) {
                Ok(template) => Some(match template.literal() {
                    Some(text) => Body::Fixed(Bytes::copy_from_slice(text.as_bytes())),
                    None => Body::Text(template),
                }),
                Err(error) => {
                    env.problem(crate::link::expression_problem(&place, &error));
                    None
                }
            };
        }
        if let Some(json) = &spec.json {
            let place = env.place.key("json");
            let template = JsonTemplate::compile(json, &place, env, Moment::Request)?;
            return Some(match template.fixed() {
                Some(json) => Body::Fixed(Bytes::from(json.to_string())),
                None => Body::Json(template),
            });
        }
        Some(Body::Fixed(file.cloned().unwrap_or_default()))
    }

    /// The answer to one request.
    #[must_use]
    pub fn reply(&self, facts: &Facts<'_>) -> Reply {
        let mut reply = Reply::empty(self.status);
        for (name, template) in &self.headers {
            let value = template
                .render(facts, Encoding::Raw)
                .and_then(|text| HeaderValue::from_str(&text).ok());
            if let Some(value) = value {
                reply.headers.push((name.clone(), value));
            }
        }
        reply.body = match &self.body {
            Body::Fixed(bytes) => bytes.clone(),
            Body::Text(template) => Bytes::from(template.text(facts).into_owned()),
            Body::Json(template) => {
                Bytes::from(template.fill(facts).unwrap_or(Json::Null).to_string())
            }
        };
        reply
    }
}

fn body_type(spec: &Respond, body: &Body) -> Option<&'static str> {
    if spec.json.is_some() {
        return Some("application/json");
    }
    if spec.text.is_some() {
        return Some("text/plain; charset=utf-8");
    }
    let file = spec.file.as_deref()?;
    Some(match file.rsplit_once('.').map(|(_, ending)| ending) {
        Some("html" | "htm") => "text/html; charset=utf-8",
        Some("json") => "application/json",
        Some("txt") => "text/plain; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("xml") => "application/xml",
        Some("yaml" | "yml") => "application/yaml",
        _ if matches!(body, Body::Fixed(bytes) if bytes.is_empty()) => return None,
        _ => "application/octet-stream",
    })
}
