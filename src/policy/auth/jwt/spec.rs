//! Tokens as the config writes them.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderName;
use jsonwebtoken::Algorithm;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::cache::Cache;
use super::super::carrier::Carrier;
use super::fetch::Where;
use super::keys::{KeySet, Source};
use super::source::KeySource;
use super::{Jwt, Keys};
use crate::base::net::{USER_IN_URL, user_of};
use crate::base::problem::{Place, Problem, Problems};
use crate::base::units::Span;
use crate::call::Remote;

/// The algorithms that are good with a public key.
const PUBLIC: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];
/// Those that are good with a shared secret.
const SHARED: [Algorithm; 3] = [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
/// A clock that is further off is none.
const SKEW_MAX_SECS: u64 = 600;

/// Tokens of one issuer. Its keys: at most one of `jwks_url` and `jwks_file`; else the issuer is asked where they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Who signs, e.g. `https://id.example.com`: what tokens say in `iss`, to the letter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    issuer: Option<String>,
    /// Where its keys are fetched from, e.g. `https://id.example.com/keys`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jwks_url: Option<String>,
    /// A file with its keys (JWKS), read when the config is loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    jwks_file: Option<String>,
    /// What this API is called in `aud`; a token has to name one of them. At least one.
    audiences: Vec<String>,
    /// What is accepted, e.g. `[RS256, ES256]`. Default: everything that is good with a public key, and with secrets of a
    /// `jwks_file` HS256, HS384 and HS512.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    algorithms: Vec<String>,
    /// Where tokens are looked for, in this order: `authorization` (`Bearer …`), `header:x`, `query:x`, `cookie:x`. Default
    /// `[authorization]`.
    #[serde(default = "authorization")]
    from: Vec<String>,
    /// How far clocks may be apart, up to 10m. Default `60s`.
    #[serde(default = "a_minute")]
    clock_skew: Span,
    /// How long keys are believed when they cannot be fetched again; then 503. At least `1s`. Default `24h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    keys_max_age: Option<Span>,
}

pub(in crate::policy::auth) fn authorization() -> Vec<String> {
    vec!["authorization".to_owned()]
}

const fn a_minute() -> Span {
    Span::from_secs(60)
}

const fn a_day() -> Span {
    Span::from_secs(24 * 3600)
}

impl Spec {
    /// The file it refers to, with its place, where `place` is its own.
    pub(in crate::policy::auth) fn file(&self, place: &Place) -> Option<(Place, String)> {
        Some((place.key("jwks_file"), self.jwks_file.clone()?))
    }

    /// Where its keys are asked for: the key that says so, and the URL.
    pub(in crate::policy::auth) fn asks(&self) -> Option<(&'static str, &str)> {
        let url = self.jwks_url.as_deref().map(|url| ("jwks_url", url));
        let issuer = self.issuer.as_deref().map(|url| ("issuer", url));
        url.or(issuer).filter(|_| self.jwks_file.is_none())
    }

    /// Makes the authenticator; `place` is its own.
    pub(in crate::policy::auth) fn compile(
        &self,
        place: &Place,
        files: &BTreeMap<Place, Bytes>,
        problems: &mut Problems,
    ) -> Option<Jwt> {
        if self.audiences.is_empty() {
            let problem = Problem::error("E011", place.key("audiences"), "an empty list");
            problems.push(problem.hint("say what this API is called in `aud`"));
        }
        let keys = self.keys(place, files, problems);
        let algorithms = self.algorithms(place, problems);
        let carriers = carriers(&self.from, place, problems);
        let skew = self.clock_skew.duration();
        if skew.as_secs() > SKEW_MAX_SECS {
            let problem = Problem::error("E030", place.key("clock_skew"), "a very wrong clock");
            problems.push(problem.hint("at most `10m`"));
        }
        Some(Jwt {
            issuer: self.issuer.as_deref().map(Into::into),
            audiences: self.audiences.iter().map(|it| it.as_str().into()).collect(),
            algorithms: algorithms.into(),
            carriers,
            skew: i64::try_from(skew.as_millis()).unwrap_or(0),
            keys: keys?,
            cache: Cache::default(),
        })
    }

    fn keys(
        &self,
        place: &Place,
        files: &BTreeMap<Place, Bytes>,
        problems: &mut Problems,
    ) -> Option<Keys> {
        if let Some(key) = self.names_somebody() {
            let problem = Problem::error("E060", place.key(key), USER_IN_URL);
            problems.push(problem.hint("take it out: keys are given to everybody"));
            return None;
        }
        if let (Some(_), Some(_)) = (&self.jwks_url, &self.jwks_file) {
            let problem = Problem::error("E060", place.key("jwks_file"), "keys from two places");
            problems.push(
                problem
                    .hint("keep one of `jwks_url` and `jwks_file`")
                    .at_key(),
            );
            return None;
        }
        if let Some((at, _)) = self.file(place) {
            if self.keys_max_age.is_some() {
                let what = "keys of a file do not grow old";
                let problem = Problem::error("E060", place.key("keys_max_age"), what);
                problems.push(
                    problem
                        .hint("take it out; the file is read by each reload")
                        .at_key(),
                );
            }
            // Where it cannot be read, that was said.
            let read = KeySet::parse(files.get(&at)?, Source::File);
            return match read {
                Ok(keys) => Some(Keys::Fixed(keys)),
                Err(what) => {
                    let problem = Problem::error("E060", at, what);
                    problems.push(problem.hint("a JSON Web Key Set (RFC 7517): `{\"keys\":[…]}`"));
                    None
                }
            };
        }
        let (key, from) = match (&self.jwks_url, &self.issuer) {
            (Some(url), _) => (
                "jwks_url",
                Remote::parse(url).map(|it| Where::At(Arc::new(it))),
            ),
            (None, Some(issuer)) => ("issuer", Where::issuer(issuer)),
            (None, None) => {
                let problem = Problem::error("E011", place.clone(), "nobody whose keys are known");
                problems.push(problem.hint("add `issuer`, `jwks_url` or `jwks_file`"));
                return None;
            }
        };
        let age = self.keys_max_age.unwrap_or_else(a_day).duration();
        if age.as_secs() == 0 {
            let problem = Problem::error("E030", place.key("keys_max_age"), "no time at all");
            problems.push(problem.hint("at least `1s`"));
        }
        match from {
            Ok(from) => Some(Keys::Live(Arc::new(KeySource::new(age)), Arc::new(from))),
            Err(what) => {
                let problem = Problem::error("E060", place.key(key), what);
                problems.push(problem.hint("e.g. `https://id.example.com`"));
                None
            }
        }
    }

    /// The key of a URL with somebody's name in it.
    fn names_somebody(&self) -> Option<&'static str> {
        let urls = [("issuer", &self.issuer), ("jwks_url", &self.jwks_url)];
        let named = urls.iter().find(|(_, url)| {
            let user = url.as_deref().and_then(user_of);
            user.is_some()
        });
        named.map(|(key, _)| *key)
    }

    fn algorithms(&self, place: &Place, problems: &mut Problems) -> Vec<Algorithm> {
        let mut known: Vec<Algorithm> = PUBLIC.to_vec();
        if self.jwks_file.is_some() {
            known.extend(SHARED);
        }
        if self.algorithms.is_empty() {
            return known;
        }
        let mut algorithms = Vec::new();
        for (index, name) in self.algorithms.iter().enumerate() {
            let found = Algorithm::from_str(name)
                .ok()
                .filter(|it| known.contains(it));
            if found.is_none() {
                let place = place.key("algorithms").index(index);
                let what = format!("`{}` is not accepted", name.escape_debug());
                let hint = if name.starts_with("HS") {
                    "a shared secret comes from a `jwks_file`"
                } else {
                    "one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA"
                };
                problems.push(Problem::error("E060", place, what).hint(hint));
            }
            algorithms.extend(found);
        }
        algorithms
    }
}

/// Where tokens are looked for.
pub(in crate::policy::auth) fn carriers(
    from: &[String],
    place: &Place,
    problems: &mut Problems,
) -> Vec<Carrier> {
    let mut carriers = Vec::new();
    if from.is_empty() {
        let problem = Problem::error("E011", place.key("from"), "an empty list");
        problems.push(problem.hint("take it out to have `authorization`"));
    }
    for (index, text) in from.iter().enumerate() {
        let carrier = match text.split_once(':') {
            None if text == "authorization" => Some(Carrier::Authorization(&["bearer"])),
            Some((kind, name)) => carrier(kind, name),
            None => None,
        };
        if carrier.is_none() {
            let place = place.key("from").index(index);
            let what = format!("`{}` is no place for a token", text.escape_debug());
            let problem = Problem::error("E060", place, what);
            problems.push(problem.hint("`authorization`, `header:x`, `query:x` or `cookie:x`"));
        }
        carriers.extend(carrier);
    }
    carriers
}

fn carrier(kind: &str, name: &str) -> Option<Carrier> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || !name.bytes().all(plain) {
        return None;
    }
    match kind {
        "header" => match HeaderName::from_bytes(name.as_bytes()).ok()? {
            name if name == "authorization" => None,
            name => Some(Carrier::Header(name)),
        },
        "query" => Some(Carrier::Query(name.into())),
        "cookie" => Some(Carrier::Cookie(name.into())),
        _ => None,
    }
}
