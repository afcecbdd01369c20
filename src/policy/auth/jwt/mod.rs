//! Signed tokens (JWT): whose keys are known, whose claims hold (RFC 7519, RFC 8725, RFC 9068).

mod fetch;
mod keys;
mod source;
mod spec;
mod strict;
mod token;
mod twin;
#[cfg(test)]
mod wycheproof;

use std::sync::Arc;

use jsonwebtoken::Algorithm;
use serde_json::{Map, Value as Json};

use self::fetch::{Keeper, Where};
use self::keys::{Found, Key};
pub(super) use self::keys::{KeySet, Source};
use self::source::KeySource;
pub(super) use self::spec::{Spec, authorization, carriers};
pub(super) use self::strict::object;
use self::token::Token;
pub(super) use self::twin::twin;
use super::authenticator::Means;
use super::cache::Cache;
use super::carrier::{Carrier, Shown};
use super::consumers::Consumers;
use super::finding::Finding;
use crate::base::digest::Digest;
use crate::base::task::TaskGuard;
use crate::exchange::{Exchange, Identity, Mode, RequestHead};
use crate::telemetry::KeyMetrics;

/// What a token takes in memory, roughly, for each of its bytes: names, numbers and lists are nodes of their own.
const BYTES_OF_A_BYTE: usize = 3;

const UNKNOWN_KEY: &str = "its key is not known";
const BAD: &str = "its signature does not hold";
const NO_KEYS: &str = "the keys of its issuer cannot be fetched";

/// Verifies tokens.
#[derive(Debug)]
pub(super) struct Jwt {
    issuer: Option<Box<str>>,
    audiences: Box<[Box<str>]>,
    algorithms: Box<[Algorithm]>,
    pub(super) carriers: Vec<Carrier>,
    /// In milliseconds.
    skew: i64,
    keys: Keys,
    /// Tokens that were verified.
    cache: Cache<Arc<Verified>>,
}

#[derive(Debug)]
enum Keys {
    /// Those of a file.
    Fixed(KeySet),
    /// Those that are fetched.
    Live(Arc<KeySource>, Arc<Where>),
}

/// A token whose signature and claims hold.
#[derive(Debug)]
struct Verified {
    identity: Arc<Identity>,
    /// When it ends, with the skew, in milliseconds since 1970.
    until: i64,
    /// The certificate that has to come with it (RFC 8705 section 3.1).
    bound: Option<Box<[u8]>>,
    /// Of its text.
    digest: Digest,
    /// Of the other text that its signature has, where there is one.
    twin: Option<Digest>,
    /// Of which keys.
    generation: u64,
}

impl Jwt {
    /// What is asked while the gateway runs, for people.
    pub(super) fn fetched(&self) -> Option<String> {
        match &self.keys {
            Keys::Fixed(_) => None,
            Keys::Live(_, from) => from.remotes().first().map(|remote| remote.shown()),
        }
    }

    /// Takes over keys that were fetched under another config, where they are those of the same place.
    pub(super) fn inherit(&self, before: &Self) {
        let (Keys::Live(mine, from), Keys::Live(theirs, other)) = (&self.keys, &before.keys) else {
            return;
        };
        let (new, old) = (from.remotes(), other.remotes());
        if new.len() == old.len() && new.iter().zip(old).all(|(new, old)| new.is_at(old)) {
            mine.inherit(theirs);
        }
    }

    /// Begins to keep its keys fresh.
    pub(super) fn start(
        &self,
        name: &Arc<str>,
        means: &Means,
        metrics: impl FnOnce() -> KeyMetrics,
    ) -> Option<TaskGuard> {
        let Keys::Live(source, from) = &self.keys else {
            return None;
        };
        let keeper = Keeper {
            name: Arc::clone(name),
            source: Arc::clone(source),
            from: Arc::clone(from),
            means: means.clone(),
            metrics: metrics(),
            found: None,
            failures: 0,
        };
        Some(means.spawner.spawn(keeper.run()))
    }

    /// Who shows a token.
    pub(super) fn look(
        &self,
        head: &RequestHead,
        ex: &Exchange,
        (name, known): (&Arc<str>, &Consumers),
    ) -> Finding {
        let shown = self.carriers.iter().map(|carrier| carrier.read(head));
        let text = match shown.into_iter().find(|shown| *shown != Shown::Nothing) {
            None | Some(Shown::Nothing) => return Finding::Absent,
            Some(Shown::Unclear) => return Finding::Refused("there is more than one token"),
            Some(Shown::One(text)) => text,
        };
        let digest = Digest::of(text.as_bytes());
        if let Some(found) = self.cache.find(&digest) {
            if found.until > ex.unix_millis
                && self.generation(ex.unix_millis) == Some(found.generation)
            {
                return admit(&found, ex, known);
            }
            self.cache.forget(&digest);
        }
        let verified = self.verify(&text, ex.unix_millis, (name, known), &digest);
        match verified {
            Ok(verified) => {
                let verified = Arc::new(verified);
                if ex.mode == Mode::Live {
                    let weight = text.len() * BYTES_OF_A_BYTE + 512;
                    self.cache.keep(digest, Arc::clone(&verified), weight);
                }
                admit(&verified, ex, known)
            }
            Err(finding) => finding,
        }
    }

    /// Waits for the keys that are being fetched, or are to be; then looks once more.
    pub(super) async fn ask(
        &self,
        head: &RequestHead,
        ex: &Exchange,
        known: (&Arc<str>, &Consumers),
    ) -> Finding {
        if let Keys::Live(source, _) = &self.keys
            && ex.mode == Mode::Live
        {
            source
                .wait(|| matches!(self.look(head, ex, known), Finding::Ask))
                .await;
        }
        let found = self.look(head, ex, known);
        if !matches!(found, Finding::Ask) {
            return found;
        }
        // Somebody was asked.
        if self.generation(ex.unix_millis).is_some() {
            Finding::Refused(UNKNOWN_KEY)
        } else {
            Finding::Unavailable(NO_KEYS)
        }
    }

    /// Which keys are believed now.
    fn generation(&self, now: i64) -> Option<u64> {
        match &self.keys {
            Keys::Fixed(_) => Some(0),
            Keys::Live(source, _) => source.current(now).map(|known| known.generation),
        }
    }

    fn verify(
        &self,
        text: &str,
        now: i64,
        (name, known): (&Arc<str>, &Consumers),
        digest: &Digest,
    ) -> Result<Verified, Finding> {
        let written = text;
        let token = Token::read(text).map_err(Finding::Refused)?;
        // Before anybody is asked: the token may be another authenticator's.
        if !self.algorithms.contains(&token.algorithm) {
            return Err(Finding::Refused("its algorithm is not accepted"));
        }
        let until = self.claims(&token.claims, now).map_err(Finding::Refused)?;
        let generation = self.signature(&token, now)?;
        let bound = bound_to(&token.claims).map_err(Finding::Refused)?;
        let text = |name: &str| token.claims.get(name).and_then(Json::as_str);
        let credential = text("jti").map_or_else(|| digest.short(), str::to_owned);
        let consumer = known
            .of_claims(name, &token.claims)
            .map_err(Finding::Refused)?;
        let identity = Identity {
            method: "jwt",
            authenticator: Arc::clone(name),
            subject: text("sub").map(Into::into),
            scopes: scopes(&token.claims),
            consumer,
            credential: credential.into(),
            claims: token.claims,
        };
        Ok(Verified {
            identity: Arc::new(identity),
            until,
            bound,
            digest: *digest,
            twin: twin(written),
            generation,
        })
    }

    fn signature(&self, token: &Token<'_>, now: i64) -> Result<u64, Finding> {
        let live;
        let (keys, generation) = match &self.keys {
            Keys::Fixed(keys) => (keys, 0),
            Keys::Live(source, _) => {
                let Some(known) = source.current(now) else {
                    return Err(match source.may_ask(now) {
                        true => Finding::Ask,
                        false => Finding::Unavailable(NO_KEYS),
                    });
                };
                live = known;
                (&live.keys, live.generation)
            }
        };
        let may_ask = matches!(&self.keys, Keys::Live(source, _) if source.may_ask(now));
        let holds = |key: &Key| key.verifies(token.signed, token.signature, token.algorithm);
        match keys.find(token.key_id.as_deref(), token.algorithm) {
            Found::Key(key) if holds(key) => Ok(generation),
            Found::Some(keys) if keys.iter().any(|key| holds(key)) => Ok(generation),
            Found::Some(_) | Found::Unknown if may_ask => Err(Finding::Ask),
            Found::Key(_) | Found::Some(_) => Err(Finding::Refused(BAD)),
            Found::Unknown => Err(Finding::Refused(UNKNOWN_KEY)),
            Found::Unclear => Err(Finding::Refused("no one key is meant for it")),
        }
    }

    /// Checks what it says of itself (RFC 7519 section 4.1); says until when it holds.
    fn claims(&self, claims: &Map<String, Json>, now: i64) -> Result<i64, &'static str> {
        if let Some(issuer) = &self.issuer
            && claims.get("iss").and_then(Json::as_str) != Some(issuer)
        {
            return Err("it is of another issuer");
        }
        let ours = |name: &Json| {
            let name = name.as_str();
            name.is_some_and(|name| self.audiences.iter().any(|audience| **audience == *name))
        };
        let audience = match claims.get("aud") {
            Some(Json::Array(names)) => names.iter().any(ours),
            Some(name) => ours(name),
            None => false,
        };
        if !audience {
            return Err("it is meant for somebody else");
        }
        // What tells an ID token, which says who logged in, and lets nobody in (OpenID Connect Core section 3.1.3.6).
        if claims.contains_key("at_hash") || claims.contains_key("c_hash") {
            return Err("it is a token of another kind");
        }
        let time = |name: &'static str| match claims.get(name) {
            None => Ok(None),
            Some(when) => {
                let seconds = when.as_i64().filter(|seconds| *seconds >= 0);
                let millis = seconds.and_then(|seconds| seconds.checked_mul(1000));
                millis.map(Some).ok_or("one of its times is none")
            }
        };
        let until = time("exp")?
            .ok_or("it never ends")?
            .saturating_add(self.skew);
        if until <= now {
            return Err("it is expired");
        }
        let latest = now.saturating_add(self.skew);
        for (name, why) in [
            ("nbf", "it does not hold yet"),
            ("iat", "it was made in the future"),
        ] {
            if time(name)?.is_some_and(|when| when > latest) {
                return Err(why);
            }
        }
        Ok(until)
    }
}

/// Lets somebody in whose token holds, on a connection that it may be shown on.
fn admit(verified: &Verified, ex: &Exchange, known: &Consumers) -> Finding {
    if let Some(bound) = &verified.bound
        && !is_bound(bound, ex)
    {
        return Finding::Refused("it is bound to another certificate");
    }
    // Also of one that was verified before.
    let digests = (&verified.digest, verified.twin.as_ref());
    if let Some(taken_back) = known.takes_back(&verified.identity, digests, ex) {
        return taken_back;
    }
    known.admit(Arc::clone(&verified.identity))
}

/// Whether the connection has this certificate.
pub(super) fn is_bound(thumbprint: &[u8], ex: &Exchange) -> bool {
    let secured = ex.secured.as_ref();
    let shown = secured.and_then(|secured| secured.client.as_ref());
    shown.is_some_and(|client| client.thumbprint.bytes()[..] == *thumbprint)
}

/// The certificate that a token is bound to. Bound to anything else, it is good for nothing here (RFC 9449 section 7.1).
pub(super) fn bound_to(claims: &Map<String, Json>) -> Result<Option<Box<[u8]>>, &'static str> {
    use base64::Engine as _;
    const UNKNOWN: &str = "it is bound to what cannot be shown here";
    let Some(confirmation) = claims.get("cnf") else {
        return Ok(None);
    };
    let members = confirmation.as_object().ok_or(UNKNOWN)?;
    let [(name, digest)] = &members.iter().collect::<Vec<_>>()[..] else {
        return Err(UNKNOWN);
    };
    let digest = digest
        .as_str()
        .filter(|_| *name == "x5t#S256")
        .ok_or(UNKNOWN)?;
    let digest = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(digest);
    digest
        .map(|digest| Some(digest.into()))
        .map_err(|_error| UNKNOWN)
}

/// What it is good for: `scope` (RFC 9068 section 2.2.3), or `scp` as others have it.
pub(super) fn scopes(claims: &Map<String, Json>) -> Box<[Box<str>]> {
    let words =
        |text: &str| -> Vec<Box<str>> { text.split_ascii_whitespace().map(Into::into).collect() };
    let scopes = match claims.get("scope").or_else(|| claims.get("scp")) {
        Some(Json::String(text)) => words(text),
        Some(Json::Array(items)) => items
            .iter()
            .filter_map(Json::as_str)
            .map(Into::into)
            .collect(),
        Some(Json::Null | Json::Bool(_) | Json::Number(_) | Json::Object(_)) | None => Vec::new(),
    };
    scopes.into()
}
