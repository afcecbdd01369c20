//! A fixed answer: what a route responds, and what a fallback says at its end.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::base::problem::Problem;
use crate::exchange::{Facts, Reply};
use crate::expr::{Encoding, Moment, Template};
use crate::link::{Env, JsonTemplate};

/// Answers without an upstream. At most one of `text`, `json`, `file`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Respond {
    /// Status, 200 to 599. Default 200.
    #[serde(default = "ok")]
    pub status: u16,
    /// Header and value; values may quote the request.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// A text, e.g. `hello {client.ip}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Any JSON; its texts may quote the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<Json>,
    /// A file, read when the config is loaded; a relative path is relative to the config file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
}

const fn ok() -> u16 {
    200
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
    pub fn compile(spec: &Respond, file: Option<&Bytes>, env: &mut Env<'_>) -> Option<Self> {
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
