//! Requests that a page of another origin makes with what a browser sends by itself are refused: cookies, passwords, certificates.

use http::header::{AUTHORIZATION, COOKIE, HeaderName, UPGRADE};
use http::{HeaderMap, HeaderValue, Method};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::origin::{OriginSpec, Origins, Page};
use super::{Env, Hooks, Stage};
use crate::base::forwarded::Scheme;
use crate::base::problem::Problem;
use crate::exchange::{Exchange, Fault, RequestHead, Verdict};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Refuses what a page of another origin asks for with what a browser sends by itself (cookies, `Authorization: Basic` and what
/// else it asks people for, certificates): every method but GET, HEAD, OPTIONS and TRACE, and WebSockets.
/// Who a page belongs to is what the browser says (`Sec-Fetch-Site`, `Origin`, `Referer`); who says nothing is no browser,
/// and passes.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Whose pages may besides those of the same origin, e.g. `https://app.example.com`. Default: nobody's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    origins: Vec<OriginSpec>,
}

/// The check.
#[derive(Debug)]
pub struct Csrf {
    origins: Origins,
}

impl Spec {
    /// Makes the policy.
    pub fn compile(&self, env: &mut Env<'_>) -> Option<Csrf> {
        let at = env.place.key("origins");
        let origins = Origins::compile(&self.origins, env, &at);
        if origins.any() {
            let problem = Problem::error("E030", at, "with `*` nothing would be refused");
            env.problem(problem.hint("name the origins, or write `csrf: none`"));
        }
        Some(Csrf { origins })
    }
}

impl Hooks for Csrf {
    const STAGE: Stage = Stage::Cors;

    fn on_request(&self, head: &RequestHead, ex: &mut Exchange) -> Result<Verdict, Fault> {
        let safe = matches!(
            head.method,
            Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE
        );
        let upgrades = head.headers.get(UPGRADE).is_some_and(|to| {
            let mut all = to.as_bytes().split(|byte| *byte == b',');
            all.any(|to| to.trim_ascii().eq_ignore_ascii_case(b"websocket"))
        });
        if safe && !upgrades || !is_sent_by_itself(&head.headers, ex) || self.may(head, ex) {
            return Ok(Verdict::Continue);
        }
        ex.refusal = Some("a page of another origin asks with what the browser sends");
        Err(Fault::Forbidden)
    }

    fn explain(&self, ex: &Exchange) -> Option<String> {
        ex.refusal.map(str::to_owned)
    }
}

impl Csrf {
    fn may(&self, head: &RequestHead, ex: &Exchange) -> bool {
        let page = Page::by_any(&head.headers);
        if let Page::Of(origin) = &page
            && self.origins.admit(origin)
        {
            return true;
        }
        let mut sites = head.headers.get_all(SEC_FETCH_SITE).iter();
        // A browser that says it says it of the page itself: scripts cannot write this header.
        match (sites.next(), sites.next()) {
            (Some(site), None) => matches!(site.as_bytes(), b"same-origin" | b"none"),
            (Some(_), Some(_)) => false,
            (None, _) => match page {
                Page::Unsaid => true,
                Page::Of(origin) => is_same(&origin, ex),
                Page::Unclear => false,
            },
        }
    }
}

/// Whether a browser sends a credential that no script had to know.
fn is_sent_by_itself(headers: &HeaderMap, ex: &Exchange) -> bool {
    const ASKED_FOR: [&[u8]; 4] = [b"basic", b"digest", b"negotiate", b"ntlm"];
    let certified = ex.secured.as_ref().is_some_and(|it| it.client.is_some());
    let mut shown = headers.get_all(AUTHORIZATION).iter();
    certified
        || headers.contains_key(COOKIE)
        || shown.any(|value| {
            let value = value.as_bytes().trim_ascii_start();
            let scheme = value.split(|byte| *byte == b' ').next().unwrap_or_default();
            ASKED_FOR.iter().any(|it| scheme.eq_ignore_ascii_case(it))
        })
}

/// Whether `origin` is the one that the client asked.
fn is_same(origin: &HeaderValue, ex: &Exchange) -> bool {
    let scheme = ex.client_scheme();
    let (start, port) = match scheme {
        Scheme::Http => ("http://", ":80"),
        Scheme::Https => ("https://", ":443"),
    };
    let told = ex.client.as_ref().and_then(|client| client.host.as_deref());
    let asked = ex.asked_host.as_ref().and_then(|host| host.to_str().ok());
    let host = told.or(asked).unwrap_or_default();
    let host = host.strip_suffix(port).unwrap_or(host);
    let origin = origin.to_str().ok().and_then(|it| it.strip_prefix(start));
    origin.is_some_and(|origin| !host.is_empty() && origin.eq_ignore_ascii_case(host))
}
