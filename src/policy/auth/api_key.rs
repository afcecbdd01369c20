//! API keys: a secret that the client holds, of which only the digest is known here.

use http::HeaderName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::carrier::{Carrier, Shown};
use super::consumers::Consumers;
use super::finding::Finding;
use crate::base::digest::Digest;
use crate::base::problem::{Place, Problem, Problems};
use crate::exchange::{Exchange, RequestHead};

/// Shorter is none: it could be guessed. Longer ones are not looked at.
const KEY_BYTES_MAX: usize = 512;

/// Where clients show their key: at most one of `header`, `query`, `cookie`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// In this header. `authorization` takes `ApiKey KEY` and `Bearer KEY`. Default `x-api-key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    header: Option<String>,
    /// In this query parameter; it is hidden in logs, but others may log it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    query: Option<String>,
    /// In this cookie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cookie: Option<String>,
}

/// Reads keys.
#[derive(Debug)]
pub(super) struct ApiKey {
    pub(super) carrier: Carrier,
    pub(super) challenge: String,
}

impl Spec {
    /// Makes the authenticator; `place` is its own.
    pub(super) fn compile(&self, place: &Place, problems: &mut Problems) -> Option<ApiKey> {
        let written = [&self.header, &self.query, &self.cookie];
        if written.iter().filter(|it| it.is_some()).count() > 1 {
            let problem = Problem::error("E060", place.clone(), "a key in more than one place");
            problems.push(problem.hint("keep one of `header`, `query`, `cookie`"));
            return None;
        }
        let (carrier, of) = if let Some(name) = &self.query {
            (
                Carrier::Query(name.as_str().into()),
                ("query", name.clone()),
            )
        } else if let Some(name) = &self.cookie {
            (
                Carrier::Cookie(name.as_str().into()),
                ("cookie", name.clone()),
            )
        } else {
            let name = self.header.as_deref().unwrap_or("x-api-key");
            let carrier = header(name);
            if carrier.is_none() {
                let what = format!("`{}` cannot carry a key", name.escape_debug());
                let problem = Problem::error("E033", place.key("header"), what);
                problems.push(problem.hint("a header of your own, e.g. `x-api-key`"));
            }
            (carrier?, ("header", name.to_ascii_lowercase()))
        };
        let (kind, name) = of;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty() || !name.bytes().all(plain) {
            let what = format!("`{}` cannot be its name", name.escape_debug());
            let problem = Problem::error("E060", place.key(kind), what);
            problems.push(problem.hint("letters, digits, `-`, `_` and `.`"));
            return None;
        }
        Some(ApiKey {
            carrier,
            challenge: format!("ApiKey realm=\"api\", in=\"{kind}\", name=\"{name}\""),
        })
    }
}

fn header(name: &str) -> Option<Carrier> {
    let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
    // What frames the message or belongs to the connection is no place for a secret.
    const TAKEN: &[&str] = &[
        "host",
        "cookie",
        "content-length",
        "content-type",
        "transfer-encoding",
        "connection",
        "upgrade",
        "te",
        "trailer",
        "expect",
    ];
    match name.as_str() {
        "authorization" => Some(Carrier::Authorization(&["apikey", "bearer"])),
        taken if TAKEN.contains(&taken) || taken.starts_with("x-forwarded-") => None,
        _ => Some(Carrier::Header(name)),
    }
}

impl ApiKey {
    /// Whose key it is.
    pub(super) fn look(&self, head: &RequestHead, ex: &Exchange, known: &Consumers) -> Finding {
        let key = match self.carrier.read(head) {
            Shown::Nothing => return Finding::Absent,
            Shown::Unclear => return Finding::Refused("there is more than one key"),
            Shown::One(key) => key,
        };
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Finding::Refused("this is no key");
        }
        let digest = Digest::of(key.as_bytes());
        match known.by_key(&digest) {
            Some(found) => found.look(ex, known),
            None => known.kept(&key, &digest, ex),
        }
    }
}
