//! The public keys of whoever signs tokens (RFC 7517): which there are, and for which algorithms each is good.

use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value as Json};
use smallvec::SmallVec;

use super::strict;
use super::token::is_key_id;
use crate::base::digest::Digest;

/// A set has no more keys; of more the first are taken.
const KEYS_MAX: usize = 100;
/// So many keys are tried for a token that names none.
const TRIED_MAX: usize = 4;
/// RFC 7518 section 3.3.
const RSA_BYTES_MIN: usize = 256;

/// Who says which keys there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::policy::auth) enum Source {
    /// A file of the config: it may hold shared secrets.
    File,
    /// Somebody who was asked: secrets that everybody can fetch are none.
    Fetched,
}

/// One key, prepared for what it is good for.
#[derive(Debug)]
pub(in crate::policy::auth) struct Key {
    id: Option<Box<str>>,
    /// What it may verify: the algorithm is bound to the key, not to what a token says (RFC 8725 section 3.1).
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
    /// Whether another of the set is called the same and is for the same, so that nobody knows which is meant.
    twin: bool,
}

/// The keys of one issuer.
#[derive(Debug)]
pub(in crate::policy::auth) struct KeySet {
    keys: Vec<Key>,
    /// The same for the same keys.
    pub(super) digest: Digest,
}

/// What was found for a token.
#[derive(Debug)]
pub(super) enum Found<'k> {
    /// Its key.
    Key(&'k Key),
    /// Those that may be, where no name says which; should none be, there may be another by now.
    Some(SmallVec<[&'k Key; TRIED_MAX]>),
    /// No key of this name; there may be one by now.
    Unknown,
    /// More than one, or one that is for something else.
    Unclear,
}

impl KeySet {
    /// Reads a set. What cannot be used here is left out; nothing usable at all is a mistake.
    pub(in crate::policy::auth) fn parse(
        bytes: &[u8],
        source: Source,
    ) -> Result<Self, &'static str> {
        let set = strict::object(bytes).ok_or("this is no JSON object without a name twice")?;
        let keys = set.get("keys").and_then(Json::as_array);
        let keys = keys.ok_or("there is no list `keys` in it")?;
        let written: Vec<_> = keys
            .iter()
            .take(KEYS_MAX)
            .filter_map(Json::as_object)
            .collect();
        let keys = written.iter().filter_map(|key| {
            // Also of one that cannot be used.
            let twins = written.iter().filter(|other| is_called_like(key, other));
            let twin = twins.count() > 1;
            Key::read(key, source).map(|read| Key { twin, ..read })
        });
        let keys: Vec<Key> = keys.collect();
        if keys.is_empty() {
            return Err("it holds no key that can be used");
        }
        Ok(Self {
            keys,
            digest: Digest::of(bytes),
        })
    }

    /// The one key of this name.
    pub(in crate::policy::auth) fn named(&self, id: &str) -> Option<&Key> {
        let named = |key: &&Key| key.id.as_deref() == Some(id);
        let mut named = self.keys.iter().filter(named);
        let only = named.next().filter(|_| named.next().is_none());
        only.filter(|key| !key.twin)
    }

    /// Whether there is a key with a name that is good for one of these.
    pub(in crate::policy::auth) fn has_named(&self, algorithms: &[Algorithm]) -> bool {
        let good = |key: &Key| key.algorithms.iter().any(|it| algorithms.contains(it));
        self.keys.iter().any(|key| key.id.is_some() && good(key))
    }

    /// The key that a token says it was signed with, or those that it may be signed with.
    pub(super) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Found<'_> {
        let fits = |key: &&Key| key.algorithms.contains(&algorithm);
        // A name says which of several it is; where one of the two says none, the signature does.
        let Some(id) = id.filter(|_| self.keys.iter().any(|key| key.id.is_some())) else {
            let fitting = self.keys.iter().filter(|key| fits(key) && !key.twin);
            let fitting: SmallVec<_> = fitting.take(TRIED_MAX).collect();
            return match fitting.is_empty() {
                true => Found::Unknown,
                false => Found::Some(fitting),
            };
        };
        let named = |key: &&Key| key.id.as_deref() == Some(id);
        let mut fitting = self.keys.iter().filter(named).filter(fits);
        match (fitting.next(), fitting.next()) {
            (Some(key), None) if !key.twin => Found::Key(key),
            (Some(_), _) => Found::Unclear,
            (None, _) if !self.keys.iter().any(|key| named(&key)) => Found::Unknown,
            (None, _) => Found::Unclear,
        }
    }
}

impl Key {
    fn read(key: &Map<String, Json>, source: Source) -> Option<Self> {
        let text = |name: &str| key.get(name).and_then(Json::as_str);
        let id = match key.get("kid") {
            None => None,
            Some(Json::String(id)) if is_key_id(id) => Some(id.as_str().into()),
            Some(_) => return None,
        };
        if text("use").is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let verifies = |all: &Vec<Json>| all.iter().any(|one| one == "verify");
        if key
            .get("key_ops")
            .is_some_and(|all| !all.as_array().is_some_and(verifies))
        {
            return None;
        }
        let (mut algorithms, prepared) = prepare(text("kty")?, key, source)?;
        if let Some(name) = key.get("alg") {
            let only = Algorithm::from_str(name.as_str()?).ok()?;
            algorithms.retain(|algorithm| *algorithm == only);
        }
        (!algorithms.is_empty()).then_some(Self {
            id,
            algorithms,
            key: prepared,
            twin: false,
        })
    }

    /// What it is good for.
    pub(in crate::policy::auth) fn algorithms(&self) -> &[Algorithm] {
        &self.algorithms
    }

    /// Whether it has signed `signed`; the signature is in the letters of URLs.
    pub(in crate::policy::auth) fn verifies(
        &self,
        signed: &str,
        signature: &str,
        algorithm: Algorithm,
    ) -> bool {
        let verified =
            jsonwebtoken::crypto::verify(signature, signed.as_bytes(), &self.key, algorithm);
        self.algorithms.contains(&algorithm) && verified.unwrap_or(false)
    }
}

/// What a key of this type is good for, and the key.
fn prepare(
    kind: &str,
    key: &Map<String, Json>,
    source: Source,
) -> Option<(Vec<Algorithm>, DecodingKey)> {
    use Algorithm::{ES256, ES384, EdDSA, HS256, HS384, HS512};
    use Algorithm::{PS256, PS384, PS512, RS256, RS384, RS512};
    let text = |name: &str| key.get(name).and_then(Json::as_str);
    let bytes = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
    match kind {
        "RSA" => {
            let modulus = bytes("n")?;
            if modulus.len() < RSA_BYTES_MIN || can_be_factored(&modulus) {
                return None;
            }
            let key = DecodingKey::from_rsa_raw_components(&modulus, &bytes("e")?);
            Some((vec![RS256, RS384, RS512, PS256, PS384, PS512], key))
        }
        "EC" => {
            let (algorithm, length) = match text("crv")? {
                "P-256" => (ES256, 32),
                "P-384" => (ES384, 48),
                _ => return None,
            };
            if bytes("x")?.len() != length || bytes("y")?.len() != length {
                return None;
            }
            let key = DecodingKey::from_ec_components(text("x")?, text("y")?).ok()?;
            Some((vec![algorithm], key))
        }
        "OKP" => {
            if text("crv")? != "Ed25519" || bytes("x")?.len() != 32 {
                return None;
            }
            let key = DecodingKey::from_ed_components(text("x")?).ok()?;
            Some((vec![EdDSA], key))
        }
        "oct" if source == Source::File => {
            let secret = bytes("k")?;
            // A secret that is shorter than the digest can be guessed (RFC 7518 section 3.2).
            let mut algorithms = vec![(HS256, 32), (HS384, 48), (HS512, 64)];
            algorithms.retain(|(_, length)| secret.len() >= *length);
            let algorithms = algorithms.into_iter().map(|(algorithm, _)| algorithm);
            Some((algorithms.collect(), DecodingKey::from_secret(&secret)))
        }
        _ => None,
    }
}

/// Whether two keys have one name, and are for the same.
fn is_called_like(one: &Map<String, Json>, other: &Map<String, Json>) -> bool {
    let same = |name: &str| one.get(name) == other.get(name);
    one.contains_key("kid") && ["kid", "kty", "alg", "use"].into_iter().all(same)
}

/// Whether it was made by a chip whose primes can be found (CVE-2017-15361): the remainder by each small prime is a power of
/// 65537 then, which by chance happens once in a hundred million.
fn can_be_factored(modulus: &[u8]) -> bool {
    const PRIMES: [u32; 38] = [
        3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89,
        97, 101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
    ];
    PRIMES.iter().all(|prime| {
        let rest = modulus
            .iter()
            .fold(0, |rest, byte| (rest * 256 + u32::from(*byte)) % prime);
        let powers = std::iter::successors(Some(1), |power| Some(power * 65_537 % prime));
        let mut powers = powers.take(usize::try_from(*prime).unwrap_or(0));
        powers.any(|power| power == rest)
    })
}
