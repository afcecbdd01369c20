//! Redirects.

use http::header::{HOST, LOCATION};
use http::{HeaderValue, StatusCode};

use crate::base::canon;
use crate::base::problem::Problem;
use crate::config::document::{Redirect, UrlScheme};
use crate::exchange::{Facts, Reply};
use crate::expr::{Encoding, Moment, Scope as _, Template};
use crate::link::Env;

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
        // Without what told who is calling.
        let query = match facts.exchange.to_upstream.query.as_deref() {
            Some(kept) => Some(kept).filter(|kept| !kept.is_empty()),
            None => facts.raw_query(),
        };
        if let Some(query) = query {
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
