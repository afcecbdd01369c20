//! What the client gets instead of what the upstream answered: other headers, addresses and cookies of the gateway's own.

mod location;

use http::header::{CONTENT_LOCATION, LOCATION, SET_COOKIE};
use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::body::{BodyChanges, BodySpec};
use super::headers::{HeaderChanges, HeadersSpec};
use super::{Env, Hooks, Stage};
use crate::base::problem::Problem;
use crate::exchange::{Exchange, Facts, Headers, RequestHead, ResponseHead};
use crate::expr::Moment;

/// Changes to an upstream's answer.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Changes to the headers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    headers: Option<HeadersSpec>,
    /// Whether `Location`, `Content-Location` and cookies that name the upstream name the gateway instead. Default true.
    #[serde(default = "yes")]
    rewrite_location: bool,
    /// What cookies say of where they belong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cookies: Option<CookiesSpec>,
    /// Changes to a JSON body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<BodySpec>,
}

/// Where the client's cookies belong.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CookiesSpec {
    /// The `Domain` of every cookie that has one, e.g. `api.example.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    domain: Option<String>,
    /// The `Path` of every cookie that has one, e.g. `/v1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<String>,
}

const fn yes() -> bool {
    true
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            headers: None,
            rewrite_location: true,
            cookies: None,
            body: None,
        }
    }
}

/// The same changes, ready to be made.
#[derive(Debug)]
pub struct Response {
    headers: HeaderChanges,
    rewrite_location: bool,
    cookie_domain: Option<String>,
    cookie_path: Option<String>,
    body: Option<BodyChanges>,
}

impl Spec {
    /// Makes the policy.
    pub fn compile(&self, env: &mut Env<'_>) -> Option<Response> {
        let place = env.place.key("headers");
        let headers = self
            .headers
            .as_ref()
            .map(|spec| spec.compile(env, &place, Moment::Response))
            .unwrap_or_default();
        let cookies = self.cookies.clone().unwrap_or(CookiesSpec {
            domain: None,
            path: None,
        });
        let place = env.place.key("cookies");
        if let Some(domain) = cookies
            .domain
            .as_deref()
            .filter(|domain| !is_cookie_domain(domain))
        {
            let problem = Problem::error(
                "E030",
                place.key("domain"),
                format!("`{domain}` is not a domain"),
            );
            env.problem(problem.hint("a name without port, e.g. `api.example.com`"));
        }
        if let Some(path) = cookies.path.as_deref().filter(|path| !is_cookie_path(path)) {
            let problem =
                Problem::error("E030", place.key("path"), format!("`{path}` is not a path"));
            env.problem(problem.hint("a path begins with `/` and holds no `;`"));
        }
        let place = env.place.key("body");
        let body = self.body.as_ref();
        let body = body.and_then(|body| body.compile(env, &place, Moment::Response));
        let rewrite_location = self.rewrite_location;
        Some(Response {
            headers,
            rewrite_location,
            cookie_domain: cookies.domain,
            cookie_path: cookies.path,
            body,
        })
    }
}

fn is_cookie_domain(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
}

fn is_cookie_path(text: &str) -> bool {
    text.starts_with('/')
        && text
            .bytes()
            .all(|byte| (0x21..0x7f).contains(&byte) && byte != b';')
}

impl Hooks for Response {
    const STAGE: Stage = Stage::Shape;
    const ON_REQUEST: bool = false;
    const ON_RESPONSE: bool = true;

    fn response_body(&self) -> Option<&BodyChanges> {
        self.body.as_ref()
    }

    fn on_response(&self, head: &RequestHead, answer: &mut ResponseHead, ex: &mut Exchange) {
        if self.rewrite_location {
            for name in [LOCATION, CONTENT_LOCATION] {
                rewrite(answer, &name, |value| location::rewrite(value, head, ex));
            }
        }
        if answer.headers.contains_key(SET_COOKIE) {
            self.rewrite_cookies(answer, ex);
        }
        if !self.headers.is_empty() {
            let mut edits = crate::exchange::HeaderEdits::default();
            self.headers.render(
                &Facts {
                    head,
                    exchange: ex,
                    response: Some(answer),
                },
                &mut edits,
            );
            edits.apply(answer);
        }
    }
}

impl Response {
    fn rewrite_cookies(&self, answer: &mut ResponseHead, ex: &Exchange) {
        let back = ex
            .to_upstream
            .back
            .as_deref()
            .filter(|_| self.rewrite_location);
        let rule = location::CookieRule {
            domain: self.cookie_domain.as_deref(),
            path: self.cookie_path.as_deref(),
            upstream_host: self
                .rewrite_location
                .then(|| location::upstream_host(ex))
                .flatten(),
            back,
        };
        if rule.is_empty() {
            return;
        }
        let cookies: Vec<HeaderValue> = answer
            .headers
            .get_all(SET_COOKIE)
            .iter()
            .map(|cookie| rule.apply(cookie))
            .collect();
        answer.remove(&SET_COOKIE);
        for cookie in cookies {
            answer.add(&SET_COOKIE, cookie);
        }
    }
}

fn rewrite(
    answer: &mut ResponseHead,
    name: &HeaderName,
    change: impl FnOnce(&str) -> Option<String>,
) {
    let new = answer
        .headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .and_then(change);
    if let Some(value) = new.and_then(|text| HeaderValue::from_str(&text).ok()) {
        answer.set(name, value);
    }
}
