//! Signatures as the config writes them.

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::jwt::{KeySet, Source};
use super::base::DERIVED;
use super::{ALGORITHMS, Signature};
use crate::base::problem::{Place, Problem, Problems};
use crate::base::units::Span;

/// A clock that is further off is none.
const SKEW_MAX_SECS: u64 = 600;

/// Requests that their client signs (RFC 9421).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// A file with the keys (JWKS), read when the config is loaded. The `kid` of each is what signatures name in `keyid`; its
    /// type, and `alg` where it is there, say the algorithm: hmac-sha256, ed25519, ecdsa-p256-sha256, ecdsa-p384-sha384,
    /// rsa-pss-sha512 or rsa-v1_5-sha256.
    pub(in crate::policy::auth) keys_file: String,
    /// What each signature has to cover: `@method`, `@target-uri`, `@authority`, `@scheme`, `@request-target`, `@path`,
    /// `@query`, and headers. With `content-digest` the body is read as a whole and has to be the one of that digest (RFC
    /// 9530). Default `["@method", "@authority", "@path", "@query", content-digest]`.
    #[serde(default = "everything")]
    components: Vec<String>,
    /// How old a signature may be; it has to say when it was made. At least `1s`. Default `5m`.
    #[serde(default = "five_minutes")]
    max_age: Span,
    /// How far clocks may be apart, up to 10m: for signatures from the future, and their own end. Default `30s`.
    #[serde(default = "half_a_minute")]
    clock_skew: Span,
}

fn everything() -> Vec<String> {
    let all = ["@method", "@authority", "@path", "@query", "content-digest"];
    all.map(str::to_owned).into()
}

const fn five_minutes() -> Span {
    Span::from_secs(300)
}

const fn half_a_minute() -> Span {
    Span::from_secs(30)
}

impl Spec {
    /// Makes the authenticator of the file with keys; `place` is its own.
    pub(in crate::policy::auth) fn compile(
        &self,
        place: &Place,
        file: Option<&Bytes>,
        problems: &mut Problems,
    ) -> Option<Signature> {
        self.components(place, problems);
        if self.max_age.duration().as_secs() == 0 {
            let problem = Problem::error("E030", place.key("max_age"), "no time at all");
            problems.push(problem.hint("at least `1s`"));
        }
        if self.clock_skew.duration().as_secs() > SKEW_MAX_SECS {
            let problem = Problem::error("E030", place.key("clock_skew"), "a very wrong clock");
            problems.push(problem.hint("at most `10m`"));
        }
        // Where it cannot be read, that was said.
        let keys = KeySet::parse(file?, Source::File).and_then(|keys| {
            let usable = ALGORITHMS.map(|(_, algorithm)| algorithm);
            match keys.has_named(&usable) {
                true => Ok(keys),
                false => Err("it holds no key with a `kid` that signatures can be made with"),
            }
        });
        let keys = match keys {
            Ok(keys) => keys,
            Err(what) => {
                let problem = Problem::error("E060", place.key("keys_file"), what);
                problems.push(problem.hint(
                    "a JSON Web Key Set (RFC 7517): `{\"keys\":[…]}`, each key with its `kid`",
                ));
                return None;
            }
        };
        let quoted = self.components.iter().map(|name| format!("\"{name}\""));
        let quoted = quoted.collect::<Vec<_>>().join(" ");
        let millis = |span: &Span| i64::try_from(span.duration().as_millis()).unwrap_or(0);
        Some(Signature {
            keys,
            components: self
                .components
                .iter()
                .map(|name| name.as_str().into())
                .collect(),
            age_max: millis(&self.max_age),
            skew: millis(&self.clock_skew),
            wanted: HeaderValue::try_from(format!("sig=({quoted});created;keyid")).ok(),
        })
    }

    fn components(&self, place: &Place, problems: &mut Problems) {
        let place = place.key("components");
        if self.components.is_empty() {
            let problem = Problem::error("E011", place.clone(), "a signature over nothing");
            problems.push(problem.hint("e.g. `[\"@method\", \"@path\", content-digest]`"));
        }
        for (index, name) in self.components.iter().enumerate() {
            let header = || {
                let known = HeaderName::from_bytes(name.as_bytes());
                known.is_ok_and(|known| known.as_str() == name)
            };
            if !DERIVED.contains(&name.as_str()) && !header() {
                let what = format!("`{}` is no part of a request", name.escape_debug());
                let problem = Problem::error("E060", place.index(index), what);
                problems.push(problem.hint(
                    "a header in small letters, or one of @method, @target-uri, @authority, @scheme, @request-target, @path, @query",
                ));
            }
        }
    }
}
