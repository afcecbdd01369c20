//! Which pages of other origins may read answers (Fetch standard, "CORS protocol").

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderName, VARY,
};
use http::{HeaderValue, Method, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::origin::{OriginSpec, Origins, Page};
use super::{Env, Hooks, Stage};
use crate::base::problem::{Place, Problem};
use crate::base::units::Span;
use crate::exchange::{
    Edit, Exchange, Fault, Headers as _, Reader, Reply, RequestHead, ResponseHead, Verdict,
    preflight_for,
};

/// Not in the list of known names: answers to pages of networks that are more private than theirs.
const ALLOW_PRIVATE_NETWORK: HeaderName =
    HeaderName::from_static("access-control-allow-private-network");
const VARY_ORIGIN: HeaderValue = HeaderValue::from_static("Origin");
const VARY_PREFLIGHT: HeaderValue =
    HeaderValue::from_static("Access-Control-Request-Method, Access-Control-Request-Headers");
const TRUE: HeaderValue = HeaderValue::from_static("true");
const STAR: HeaderValue = HeaderValue::from_static("*");

/// What an upstream may say of the same, which is taken off: two words on one thing are none to a browser.
const ANSWERS: [HeaderName; 7] = [
    ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_MAX_AGE,
    ALLOW_PRIVATE_NETWORK,
];

/// Which pages of other origins may read answers of the route, also those of the gateway's own. Preflights are answered by the
/// gateway before anything else; they find the route that takes the method they ask for, by host and path: a condition on a
/// header never holds of them.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Whose pages: `https://app.example.com`, `https://*.example.com` for all hosts below, `{ regex: … }` for all of an origin,
    /// or `*` for every page there is.
    origins: Vec<OriginSpec>,
    /// The methods that a page may use. Default: those that the route takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    methods: Option<Vec<String>>,
    /// The headers that a page may send besides those that every page may, e.g. `authorization`; `*` = whatever it asks for.
    /// Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    headers: Vec<String>,
    /// The headers of an answer that a page may read besides those that every page may; `*` = all, but not with
    /// `credentials`. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    expose: Vec<String>,
    /// Whether a page may send cookies and the like; not with the origin `*`. Default false.
    #[serde(default)]
    credentials: bool,
    /// How long a browser may keep the answer to a preflight, in whole seconds; browsers have a maximum of their own. Default:
    /// as the browser likes, mostly `5s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_age: Option<Span>,
}

/// The answers to pages.
#[derive(Debug)]
pub struct Cors {
    origins: Origins,
    /// None = the one that is asked for.
    methods: Option<HeaderValue>,
    headers: Asked,
    expose: Option<HeaderValue>,
    credentials: bool,
    max_age: Option<HeaderValue>,
}

/// The headers that a page may send.
#[derive(Debug)]
enum Asked {
    Whatever,
    These(Option<HeaderValue>),
}

impl Spec {
    /// Makes the policy.
    pub fn compile(&self, env: &mut Env<'_>) -> Option<Cors> {
        let at = env.place.key("origins");
        if self.origins.is_empty() {
            let problem = Problem::error("E011", at.clone(), "an empty list");
            env.problem(problem.hint("write `cors: none` to let no page read anything"));
        }
        let origins = Origins::compile(&self.origins, env, &at);
        if origins.any() && self.credentials {
            let what = "`*` with `credentials`: every page could act for whoever looks at it";
            env.problem(Problem::error("E030", at, what).hint("name the origins"));
        }
        let at = env.place.key("methods");
        let methods = self.methods.as_ref().map(|methods| {
            for (index, method) in methods.iter().enumerate() {
                let good = Method::from_bytes(method.as_bytes()).is_ok();
                if !good || method.bytes().any(|byte| byte.is_ascii_lowercase()) {
                    let what = format!("`{method}` is not a method");
                    let problem = Problem::error("E030", at.index(index), what);
                    env.problem(problem.hint("in capital letters, e.g. `GET`"));
                }
            }
            methods.join(", ")
        });
        let headers = names(&self.headers, env, &env.place.key("headers"));
        let at = env.place.key("expose");
        let expose = names(&self.expose, env, &at);
        if self.credentials && self.expose.iter().any(|name| name == "*") {
            let what = "with `credentials` a `*` is no wildcard, but a name";
            env.problem(Problem::error("E030", at, what).hint("name the headers"));
        }
        let value = |text: String| HeaderValue::from_str(&text).ok();
        Some(Cors {
            origins,
            methods: methods.and_then(value),
            headers: if self.headers.iter().any(|name| name == "*") {
                Asked::Whatever
            } else {
                Asked::These(headers)
            },
            expose,
            credentials: self.credentials,
            max_age: self
                .max_age
                .map(|age| HeaderValue::from(age.duration().as_secs())),
        })
    }
}

/// Names of headers as one value; none where there are none.
fn names(list: &[String], env: &mut Env<'_>, place: &Place) -> Option<HeaderValue> {
    for (index, name) in list.iter().enumerate() {
        if name != "*" && HeaderName::from_bytes(name.as_bytes()).is_err() {
            let what = format!("`{name}` is not the name of a header");
            let problem = Problem::error("E030", place.index(index), what);
            env.problem(problem.hint("letters, digits and `-`, e.g. `x-total-count`"));
        }
    }
    let all = list.join(", ").to_ascii_lowercase();
    HeaderValue::from_str(&all)
        .ok()
        .filter(|_| !list.is_empty())
}

impl Hooks for Cors {
    const STAGE: Stage = Stage::Cors;
    const ON_RESPONSE: bool = true;

    fn on_request(&self, head: &RequestHead, ex: &mut Exchange) -> Result<Verdict, Fault> {
        let page = Page::by_origin(&head.headers);
        ex.reader = match &page {
            // It is known already that the route it asks about lets no page read.
            _ if ex.reader == Reader::Foreign => Reader::Foreign,
            Page::Unsaid => Reader::Nobody,
            Page::Of(origin) if self.origins.admit(origin) => Reader::Admitted,
            Page::Of(_) | Page::Unclear => Reader::Foreign,
        };
        if self.origins.any() {
            if ex.reader != Reader::Foreign {
                ex.to_client
                    .push(Edit::Set(ACCESS_CONTROL_ALLOW_ORIGIN, STAR));
            }
        } else {
            // Whoever keeps answers keeps one for each origin.
            ex.to_client.push(Edit::Add(VARY, VARY_ORIGIN));
            if let (Page::Of(origin), Reader::Admitted) = (page, ex.reader) {
                ex.to_client
                    .push(Edit::Set(ACCESS_CONTROL_ALLOW_ORIGIN, origin));
            }
        }
        if ex.reader == Reader::Admitted && self.credentials {
            ex.to_client
                .push(Edit::Set(ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE));
        }
        if preflight_for(head).is_some() {
            self.preflight(head, ex);
            return Ok(Verdict::Respond(Reply::empty(StatusCode::NO_CONTENT)));
        }
        if let Some(expose) = &self.expose
            && (ex.reader == Reader::Admitted || self.origins.any() && ex.reader == Reader::Nobody)
        {
            ex.to_client
                .push(Edit::Set(ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone()));
        }
        Ok(Verdict::Continue)
    }

    fn on_response(&self, _head: &RequestHead, answer: &mut ResponseHead, _ex: &mut Exchange) {
        for name in &ANSWERS {
            answer.remove(name);
        }
    }

    fn on_reply(&self, head: &RequestHead, answer: &mut ResponseHead, ex: &mut Exchange) {
        // What was decided is on it already.
        if ex.reader != Reader::Admitted && !self.origins.any() {
            self.on_response(head, answer, ex);
        }
    }

    fn explain(&self, ex: &Exchange) -> Option<String> {
        Some(
            match ex.reader {
                Reader::Nobody => "no page of another origin asks",
                Reader::Admitted => "the page may read the answer",
                Reader::Foreign => "the page may not read the answer",
            }
            .to_owned(),
        )
    }
}

impl Cors {
    /// What a page may do.
    fn preflight(&self, head: &RequestHead, ex: &mut Exchange) {
        ex.to_client.push(Edit::Add(VARY, VARY_PREFLIGHT));
        if ex.reader != Reader::Admitted {
            return;
        }
        let asked = |name| head.headers.get(name).cloned();
        let methods = self.methods.clone();
        let headers = match &self.headers {
            Asked::Whatever => asked(ACCESS_CONTROL_REQUEST_HEADERS),
            Asked::These(these) => these.clone(),
        };
        for (name, value) in [
            (
                ACCESS_CONTROL_ALLOW_METHODS,
                methods.or_else(|| asked(ACCESS_CONTROL_REQUEST_METHOD)),
            ),
            (ACCESS_CONTROL_ALLOW_HEADERS, headers),
            (ACCESS_CONTROL_MAX_AGE, self.max_age.clone()),
        ] {
            if let Some(value) = value {
                ex.to_client.push(Edit::Set(name, value));
            }
        }
    }
}
