//! The end of a version: told in time by headers, then 410 (RFC 9745, RFC 8594, RFC 8288).

use http::header::LINK;
use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Env, Hooks, Stage};
use crate::base::net::{USER_IN_URL, user_of};
use crate::base::problem::{Problem, suggest};
use crate::base::units::{Date, http_date, structured_date};
use crate::exchange::{Edit, Exchange, Facts, Fault, RequestHead, Verdict};
use crate::expr::{Encoding, Moment, Template};
use crate::link::RouteFacts;

const DEPRECATION: HeaderName = HeaderName::from_static("deprecation");
const SUNSET: HeaderName = HeaderName::from_static("sunset");

/// When a route was given up, when it ends, and what comes after it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// From when on it should not be used, e.g. `2026-09-01`; sent as `Deprecation`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deprecated: Option<Date>,
    /// When it ends, e.g. `2027-03-01`; sent as `Sunset`, after it the route answers 410.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sunset: Option<Date>,
    /// The route to use instead, by name; its path is sent as `Link` with `rel="successor-version"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    successor: Option<String>,
    /// Where people read more, e.g. `https://docs.example.com/v2`; sent as `Link`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    docs: Option<String>,
}

/// The headers to send and the time after which nothing is served.
#[derive(Debug)]
pub struct Lifecycle {
    sunset_millis: Option<i64>,
    headers: Vec<(HeaderName, HeaderValue)>,
    successor: Option<Template>,
}

impl Spec {
    /// Makes the policy.
    pub fn compile(&self, env: &mut Env<'_>) -> Option<Lifecycle> {
        let mut headers = Vec::new();
        if let Some(date) = self.deprecated {
            headers.push((
                DEPRECATION,
                HeaderValue::from_str(&structured_date(date.unix_millis() / 1000)).ok()?,
            ));
        }
        if let Some(date) = self.sunset {
            headers.push((
                SUNSET,
                HeaderValue::from_str(&http_date(date.unix_millis() / 1000)).ok()?,
            ));
        }
        if let (Some(deprecated), Some(sunset)) = (self.deprecated, self.sunset)
            && sunset.unix_millis() < deprecated.unix_millis()
        {
            let what = "`sunset` is before `deprecated`";
            env.problem(
                Problem::error("E030", env.place.key("sunset"), what)
                    .hint("a route is given up before it ends"),
            );
        }
        self.docs_links(env, &mut headers);
        let successor = self.successor_link(env);
        Some(Lifecycle {
            sunset_millis: self.sunset.map(Date::unix_millis),
            headers,
            successor,
        })
    }

    /// Where people read more, for each date that is given.
    fn docs_links(&self, env: &mut Env<'_>, headers: &mut Vec<(HeaderName, HeaderValue)>) {
        let Some(docs) = &self.docs else { return };
        let dates = [
            ("deprecation", self.deprecated.is_some()),
            ("sunset", self.sunset.is_some()),
        ];
        let place = env.place.key("docs");
        if !dates.iter().any(|(_, given)| *given) {
            let problem = Problem::error("E030", place.clone(), "`docs` about no date");
            env.problem(problem.hint("add `deprecated` or `sunset`"));
        }
        if user_of(docs).is_some() {
            let problem = Problem::error("E030", place.clone(), USER_IN_URL);
            env.problem(problem.hint("take it out: every client gets it"));
        }
        let is_url = docs.contains(':') && !docs.contains(['<', '>', '"', ' ']);
        for (relation, _) in dates.iter().filter(|(_, given)| *given) {
            let text = format!("<{docs}>; rel=\"{relation}\"; type=\"text/html\"");
            match HeaderValue::from_str(&text) {
                Ok(value) if is_url => headers.push((LINK, value)),
                _ => {
                    let problem = Problem::error("E030", place, "`docs` is not a URL");
                    return env.problem(problem.hint("e.g. `https://docs.example.com/v2`"));
                }
            }
        }
    }

    /// The path of the successor, with the parameters that both routes have.
    fn successor_link(&self, env: &mut Env<'_>) -> Option<Template> {
        let name = self.successor.as_ref()?;
        let place = env.place.key("successor");
        let Some(successor) = env.names.get::<RouteFacts>(name).cloned() else {
            let problem = Problem::error("E031", place, format!("unknown route `{name}`"));
            let hint = suggest(name, env.names.names::<RouteFacts>())
                .unwrap_or_else(|| "no route has this name".to_owned());
            env.problem(problem.hint(hint));
            return None;
        };
        let path = successor
            .path
            .or(successor.prefix)
            .unwrap_or_else(|| "/".to_owned());
        let path = if path.is_empty() {
            "/".to_owned()
        } else {
            path
        };
        if !successor
            .params
            .iter()
            .all(|param| env.route.params.contains(param))
        {
            // The parameters of the successor are not known here: its path is named up to the first of them.
            let known = path.split('{').next().unwrap_or_default();
            let known = match known.trim_end_matches('/') {
                "" => "/",
                known => known,
            };
            return env.template(known, &place, Moment::Request);
        }
        env.template(&path.replace("*}", "}"), &place, Moment::Request)
    }
}

impl Hooks for Lifecycle {
    const STAGE: Stage = Stage::Shield;

    fn on_request(&self, head: &RequestHead, ex: &mut Exchange) -> Result<Verdict, Fault> {
        for (name, value) in &self.headers {
            ex.to_client.push(Edit::Add(name.clone(), value.clone()));
        }
        let path = self.successor.as_ref().and_then(|path| {
            let text = path
                .render(&Facts::of(head, ex), Encoding::Path)
                .map(std::borrow::Cow::into_owned);
            HeaderValue::from_str(&format!("<{}>; rel=\"successor-version\"", text?)).ok()
        });
        if let Some(link) = path {
            ex.to_client.push(Edit::Add(LINK, link));
        }
        match self.sunset_millis {
            Some(sunset) if ex.unix_millis >= sunset => Err(Fault::Gone),
            Some(_) | None => Ok(Verdict::Continue),
        }
    }

    fn explain(&self, ex: &Exchange) -> Option<String> {
        let sunset = self.sunset_millis?;
        let word = if ex.unix_millis >= sunset {
            "since"
        } else {
            "on"
        };
        Some(format!("sunset {word} {}", http_date(sunset / 1000)))
    }
}
