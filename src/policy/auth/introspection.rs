//! Tokens that only their issuer can read: it is asked about each (RFC 7662), once for all who show the same one, and its word is
//! kept for a while.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::authenticator::Means;
use super::cache::Cache;
use super::carrier::{Carrier, Shown};
use super::consumers::Consumers;
use super::finding::Finding;
use super::flights::Flights;
use super::jwt::{bound_to, carriers, is_bound, object, scopes, twin};
use crate::base::canon::encode_query;
use crate::base::digest::Digest;
use crate::base::net::USER_IN_URL;
use crate::base::problem::{Place, Problem, Problems};
use crate::base::task::TaskGuard;
use crate::base::units::Span;
use crate::call::{Outside, Remote};
use crate::exchange::{Exchange, Identity, RequestHead};

/// A longer token is none.
const TOKEN_BYTES_MAX: usize = 4 * 1024;
/// A longer answer is none.
const ANSWER_BYTES_MAX: u64 = 16 * 1024;
/// What an answer takes in memory, roughly, for each of its bytes: names, numbers and lists are nodes of their own.
const BYTES_OF_A_BYTE: usize = 4;
const TTL_MAX_SECS: u64 = 3600;

const NOT_ACTIVE: &str = "its issuer says that it does not hold";
const UNCLEAR: Finding = Finding::Unavailable("its issuer gave no clear answer");
const BUSY: Finding = Finding::Unavailable("too many tokens are being asked about");

/// Tokens that their issuer is asked about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Where, e.g. `https://id.example.com/introspect`.
    endpoint: String,
    /// Who the gateway is there.
    client_id: String,
    /// And how it is proved: a secret, e.g. `{ credential: idp }`.
    #[schemars(schema_with = "secret_schema")]
    client_secret: String,
    /// How the secret is sent: in `Authorization` (`basic`), or with the question (`post`). Default `basic`.
    #[serde(default)]
    client_auth: ClientAuth,
    /// What this API is called in `aud`; the answer has to name one of them. Default: whatever the issuer answers for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    audiences: Vec<String>,
    /// Where tokens are looked for, in this order: `authorization` (`Bearer …`), `header:x`, `query:x`, `cookie:x`. Default
    /// `[authorization]`.
    #[serde(default = "super::jwt::authorization")]
    from: Vec<String>,
    /// How long a good token is believed before it is asked about again; never longer than it holds. Up to `1h`. Default `60s`.
    #[serde(default = "a_minute")]
    cache_ttl: Span,
    /// The same for one that does not hold. Default `5s`.
    #[serde(default = "a_moment")]
    negative_ttl: Span,
}

/// How a client proves who it is to an issuer (RFC 6749 section 2.3.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum ClientAuth {
    /// In `Authorization`.
    #[default]
    Basic,
    /// In the body.
    Post,
}

const fn a_minute() -> Span {
    Span::from_secs(60)
}

const fn a_moment() -> Span {
    Span::from_secs(5)
}

/// In the file a secret may come from elsewhere.
fn secret_schema(_: &mut SchemaGenerator) -> Schema {
    let from = |key: &str| serde_json::json!({ "type": "object", "additionalProperties": false, "required": [key], "properties": { key: { "type": "string" } } });
    schemars::json_schema!({ "anyOf": [{ "type": "string" }, from("env"), from("file"), from("credential")] })
}

/// Asks about tokens.
pub(super) struct Introspection {
    endpoint: Arc<Remote>,
    /// The header that says who the gateway is, or what it adds to the question for that.
    proof: Result<HeaderValue, String>,
    audiences: Box<[Box<str>]>,
    pub(super) carriers: Vec<Carrier>,
    /// In milliseconds.
    cache_ttl: i64,
    negative_ttl: i64,
    known: Cache<Known>,
    flights: Flights<Result<Known, Finding>>,
}

/// What an issuer said of a token.
#[derive(Debug, Clone)]
struct Known {
    /// Nothing: it does not hold.
    active: Option<Arc<Active>>,
    /// In milliseconds since 1970.
    until: i64,
}

#[derive(Debug)]
struct Active {
    identity: Arc<Identity>,
    /// The certificate that has to come with it (RFC 8705 section 3.2).
    bound: Option<Box<[u8]>>,
    /// Of the token's text.
    digest: Digest,
    /// Of the other text that its signature has, where there is one.
    twin: Option<Digest>,
}

impl fmt::Debug for Introspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never what proves who the gateway is.
        f.debug_tuple("Introspection")
            .field(&self.endpoint)
            .finish()
    }
}

impl Spec {
    /// Whom it asks.
    pub(super) fn asks(&self) -> &str {
        &self.endpoint
    }

    /// Makes the authenticator; `place` is its own.
    pub(super) fn compile(&self, place: &Place, problems: &mut Problems) -> Option<Introspection> {
        let endpoint = Remote::parse(&self.endpoint);
        if let Err(what) = &endpoint {
            let hint = match *what {
                USER_IN_URL => "take it out, and use `client_id` and `client_secret`",
                _ => "e.g. `https://id.example.com/introspect`",
            };
            let problem = Problem::error("E060", place.key("endpoint"), *what);
            problems.push(problem.hint(hint));
        }
        if self.client_id.is_empty() {
            let problem = Problem::error("E011", place.key("client_id"), "an empty name");
            problems.push(problem.hint("as whom the issuer knows this gateway"));
        }
        for (key, span, least) in [
            ("cache_ttl", &self.cache_ttl, 0),
            ("negative_ttl", &self.negative_ttl, 1),
        ] {
            if !(least..=TTL_MAX_SECS).contains(&span.duration().as_secs()) {
                let problem = Problem::error("E030", place.key(key), "no time to keep it for");
                problems.push(problem.hint(format!("`{least}s` to `1h`")));
            }
        }
        let carriers = carriers(&self.from, place, problems);
        let (id, secret) = (
            encode_query(&self.client_id),
            encode_query(&self.client_secret),
        );
        let proof = match self.client_auth {
            ClientAuth::Basic => {
                let pair = STANDARD.encode(format!("{id}:{secret}"));
                let value = HeaderValue::try_from(format!("Basic {pair}"));
                value.map(|mut value| {
                    value.set_sensitive(true);
                    value
                })
            }
            .map_err(|_error| String::new()),
            ClientAuth::Post => Err(format!("&client_id={id}&client_secret={secret}")),
        };
        let millis = |span: &Span| i64::try_from(span.duration().as_millis()).unwrap_or(0);
        Some(Introspection {
            endpoint: Arc::new(endpoint.ok()?),
            proof,
            audiences: self.audiences.iter().map(|it| it.as_str().into()).collect(),
            carriers,
            cache_ttl: millis(&self.cache_ttl),
            negative_ttl: millis(&self.negative_ttl),
            known: Cache::default(),
            flights: Flights::default(),
        })
    }
}

impl Introspection {
    /// What is asked while the gateway runs, for people.
    pub(super) fn asked(&self) -> String {
        self.endpoint.shown()
    }

    /// Looks the name of the issuer up, so that the first request can be decided, and keeps it looked up.
    pub(super) async fn start(&self, means: &Means) -> Vec<TaskGuard> {
        self.endpoint
            .start(&means.names, &means.spawner, &means.clock)
            .await
    }

    /// Who shows a token that was asked about before.
    pub(super) fn look(&self, head: &RequestHead, ex: &Exchange, known: &Consumers) -> Finding {
        let token = match self.shown(head) {
            Ok(Some(token)) => token,
            Ok(None) => return Finding::Absent,
            Err(why) => return Finding::Refused(why),
        };
        let digest = Digest::of(token.as_bytes());
        match self.known.find(&digest) {
            Some(found) if found.until > ex.unix_millis => admit(found.active.as_ref(), ex, known),
            Some(_) => {
                self.known.forget(&digest);
                Finding::Ask
            }
            None => Finding::Ask,
        }
    }

    /// Asks about the token, unless somebody does already.
    pub(super) async fn ask(
        &self,
        head: &RequestHead,
        ex: &Exchange,
        known: (&Arc<str>, &Consumers),
        outside: &Outside<'_>,
    ) -> Finding {
        let Ok(Some(token)) = self.shown(head) else {
            return Finding::Absent;
        };
        let digest = Digest::of(token.as_bytes());
        let now = ex.unix_millis;
        let ask = Box::pin(async {
            // It may have been found out since this one looked.
            match self.known.find(&digest).filter(|found| found.until > now) {
                Some(found) => Ok(found),
                None => self.inquire(&token, (digest, ex), known, outside).await,
            }
        });
        match self.flights.join(digest, ask).await {
            Some(Ok(found)) => admit(found.active.as_ref(), ex, known.1),
            Some(Err(finding)) => finding,
            None => BUSY,
        }
    }

    async fn inquire(
        &self,
        token: &str,
        (digest, ex): (Digest, &Exchange),
        (name, known): (&Arc<str>, &Consumers),
        outside: &Outside<'_>,
    ) -> Result<Known, Finding> {
        let (mut question, mut headers) = (
            format!("token={}&token_type_hint=access_token", encode_query(token)),
            vec![
                (ACCEPT, HeaderValue::from_static("application/json")),
                (
                    CONTENT_TYPE,
                    HeaderValue::from_static("application/x-www-form-urlencoded"),
                ),
            ],
        );
        // By it the issuer's log is found; of several requests, that of the first.
        if let Some(id) = ex.id.value() {
            headers.push((HeaderName::from_static("x-request-id"), id.clone()));
        }
        match &self.proof {
            Ok(header) => headers.push((AUTHORIZATION, header.clone())),
            Err(more) => question.push_str(more),
        }
        let headers: &[(HeaderName, HeaderValue)] = &headers;
        let question = (Method::POST, Bytes::from(question));
        let asked = outside
            .ask(&self.endpoint, question, headers, ANSWER_BYTES_MAX)
            .await;
        let answer = match asked {
            Ok(answer) if answer.head.status == StatusCode::OK => answer,
            // Also a 401 is about the gateway, not about the token.
            Ok(_) => return Err(UNCLEAR),
            Err(_failed) => return Err(Finding::Unavailable("its issuer cannot be asked")),
        };
        let Some(said) = object(&answer.body) else {
            return Err(UNCLEAR);
        };
        let weight = answer.body.len() * BYTES_OF_A_BYTE + 512;
        let found = self.judge(said, (digest, twin(token)), ex.unix_millis, (name, known))?;
        self.known.keep(digest, found.clone(), weight);
        Ok(found)
    }

    /// What is made of an answer.
    fn judge(
        &self,
        said: Map<String, Json>,
        (digest, twin): (Digest, Option<Digest>),
        now: i64,
        (name, known): (&Arc<str>, &Consumers),
    ) -> Result<Known, Finding> {
        let nothing = Known {
            active: None,
            until: now.saturating_add(self.negative_ttl),
        };
        match said.get("active") {
            Some(Json::Bool(true)) => {}
            Some(Json::Bool(false)) => return Ok(nothing),
            Some(_) | None => return Err(UNCLEAR),
        }
        let time = |name: &str| match said.get(name) {
            None | Some(Json::Null) => Ok(None),
            Some(when) => {
                let seconds = when.as_i64().filter(|seconds| *seconds >= 0);
                let millis = seconds.and_then(|seconds| seconds.checked_mul(1000));
                millis.map(Some).ok_or(UNCLEAR)
            }
        };
        let (ends, begins) = (time("exp")?, time("nbf")?);
        // Whoever calls a token active that is over is not believed about its end.
        if ends.is_some_and(|ends| ends <= now) || begins.is_some_and(|begins| begins > now) {
            return Ok(nothing);
        }
        let ours = |name: &Json| {
            let name = name.as_str();
            name.is_some_and(|name| self.audiences.iter().any(|known| **known == *name))
        };
        let audience = match said.get("aud") {
            _ if self.audiences.is_empty() => true,
            Some(Json::Array(names)) => names.iter().any(ours),
            Some(name) => ours(name),
            None => false,
        };
        if !audience {
            return Ok(nothing);
        }
        let bound = bound_to(&said).map_err(Finding::Refused)?;
        let text = |name: &str| said.get(name).and_then(Json::as_str);
        let subject = text("sub")
            .or_else(|| text("username"))
            .or_else(|| text("client_id"));
        let identity = Identity {
            method: "introspection",
            authenticator: Arc::clone(name),
            subject: subject.map(Into::into),
            scopes: scopes(&said),
            consumer: known.of_claims(name, &said).map_err(Finding::Refused)?,
            credential: text("jti")
                .map_or_else(|| digest.short(), str::to_owned)
                .into(),
            claims: said,
        };
        let until = now.saturating_add(self.cache_ttl);
        Ok(Known {
            active: Some(Arc::new(Active {
                identity: Arc::new(identity),
                bound,
                digest,
                twin,
            })),
            until: ends.map_or(until, |ends| ends.min(until)),
        })
    }

    /// The token that the request shows.
    fn shown(&self, head: &RequestHead) -> Result<Option<String>, &'static str> {
        let shown = self.carriers.iter().map(|carrier| carrier.read(head));
        let text = match shown.into_iter().find(|shown| *shown != Shown::Nothing) {
            None | Some(Shown::Nothing) => return Ok(None),
            Some(Shown::Unclear) => return Err("there is more than one token"),
            Some(Shown::One(text)) => text,
        };
        // RFC 6750 section 2.1.
        let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        if text.is_empty() || text.len() > TOKEN_BYTES_MAX || !text.bytes().all(good) {
            return Err("this is no token");
        }
        Ok(Some(text.into_owned()))
    }
}

/// Lets somebody in whose token holds, on a connection that it may be shown on.
fn admit(active: Option<&Arc<Active>>, ex: &Exchange, known: &Consumers) -> Finding {
    let Some(active) = active else {
        return Finding::Refused(NOT_ACTIVE);
    };
    match &active.bound {
        Some(bound) if !is_bound(bound, ex) => {
            Finding::Refused("it is bound to another certificate")
        }
        Some(_) | None => known
            .takes_back(&active.identity, (&active.digest, active.twin.as_ref()), ex)
            .unwrap_or_else(|| known.admit(Arc::clone(&active.identity))),
    }
}
