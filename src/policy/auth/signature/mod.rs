//! Signed requests (RFC 9421): the client proves by a key that the parts of the request that count are as it wrote them.

mod base;
mod spec;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderName, HeaderValue};
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value as Json};
use sfv::{BareItem, InnerList, ListEntry};

pub(super) use self::spec::Spec;
use super::carrier::Carrier;
use super::consumers::Consumers;
use super::finding::Finding;
use super::jwt::KeySet;
use crate::exchange::{Exchange, Identity, RequestHead, structured};

pub(super) const SIGNATURE: HeaderName = HeaderName::from_static("signature");
pub(super) const SIGNATURE_INPUT: HeaderName = HeaderName::from_static("signature-input");

/// A request with more signatures is refused: each may cost a verification.
const SIGNATURES_MAX: usize = 8;

/// The algorithms of RFC 9421 section 3.3, by what tokens call them: the same keys sign both. What stands first is taken where
/// neither key nor signature says which.
const ALGORITHMS: [(&str, Algorithm); 6] = [
    ("rsa-pss-sha512", Algorithm::PS512),
    ("rsa-v1_5-sha256", Algorithm::RS256),
    ("ecdsa-p256-sha256", Algorithm::ES256),
    ("ecdsa-p384-sha384", Algorithm::ES384),
    ("ed25519", Algorithm::EdDSA),
    ("hmac-sha256", Algorithm::HS256),
];

/// The component that is a digest of the body (RFC 9530).
const CONTENT_DIGEST: &str = "content-digest";

/// Verifies signatures.
#[derive(Debug)]
pub(super) struct Signature {
    keys: KeySet,
    /// What each signature has to cover.
    components: Box<[Box<str>]>,
    /// How old one may be, and how far clocks may be apart, in milliseconds.
    age_max: i64,
    skew: i64,
    /// What `Accept-Signature` says (RFC 9421 section 5.1).
    pub(super) wanted: Option<HeaderValue>,
}

/// One signature, as the request shows it.
struct Shown {
    input: InnerList,
    signature: Vec<u8>,
}

impl Signature {
    /// What of a request the upstream does not get.
    pub(super) fn carriers() -> Vec<Carrier> {
        vec![Carrier::Header(SIGNATURE), Carrier::Header(SIGNATURE_INPUT)]
    }

    /// Whether the body has to be the one that was signed.
    pub(super) fn covers_body(&self) -> bool {
        self.components.iter().any(|name| **name == *CONTENT_DIGEST)
    }

    /// Who has signed the request. One signature that holds is enough: others may be meant for somebody else.
    pub(super) fn look(
        &self,
        head: &RequestHead,
        ex: &Exchange,
        (name, known): (&Arc<str>, &Consumers),
    ) -> Finding {
        let shown = match read(&head.headers) {
            Ok(None) => return Finding::Absent,
            Ok(Some(shown)) => shown,
            Err(why) => return Finding::Refused(why),
        };
        let mut refused = None;
        for shown in &shown {
            match self.verify(shown, head, ex) {
                Ok(Some(claims)) => return admit(claims, (name, known)),
                Ok(None) => {}
                Err(why) => refused = refused.or(Some(why)),
            }
        }
        Finding::Refused(refused.unwrap_or("the key of the signature is not known"))
    }

    /// What a signature says of itself, where it holds; nothing where its key is somebody else's.
    fn verify(
        &self,
        shown: &Shown,
        head: &RequestHead,
        ex: &Exchange,
    ) -> Result<Option<Map<String, Json>>, &'static str> {
        let params = &shown.input.params;
        let text = |name: &str| params.get(name).and_then(BareItem::as_str);
        let id = text("keyid").ok_or("the signature names no key")?;
        let Some(key) = self.keys.named(id) else {
            return Ok(None);
        };
        // The key says which algorithm; the signature may only say the same (RFC 9421 section 3.2).
        let fits = |(name, algorithm): &&(&str, Algorithm)| {
            key.algorithms().contains(algorithm)
                && params
                    .get("alg")
                    .is_none_or(|said| said.as_str() == Some(name))
        };
        let algorithm = ALGORITHMS.iter().find(fits);
        let (written, algorithm) =
            algorithm.ok_or("the algorithm of the signature is not its key's")?;
        let covers = |name: &str| {
            let mut items = shown.input.items.iter();
            items.any(|item| item.params.is_empty() && item.bare_item.as_str() == Some(name))
        };
        if !self.components.iter().all(|name| covers(name)) {
            return Err("the signature does not cover all that it has to");
        }
        let created = self.times(&shown.input, ex.unix_millis)?;
        let base = base::base(&shown.input, head, ex)?;
        let signature = URL_SAFE_NO_PAD.encode(&shown.signature);
        if !key.verifies(&base, &signature, *algorithm) {
            return Err("the signature does not hold");
        }
        let mut claims = Map::new();
        claims.insert("keyid".to_owned(), id.into());
        claims.insert("alg".to_owned(), (*written).into());
        claims.insert("created".to_owned(), created.into());
        if let Some(tag) = text("tag") {
            claims.insert("tag".to_owned(), tag.into());
        }
        Ok(Some(claims))
    }

    /// Checks when it was made and when it ends; says when it was made, in seconds since 1970.
    fn times(&self, input: &InnerList, now: i64) -> Result<i64, &'static str> {
        let time = |name: &str| match input.params.get(name) {
            None => Ok(None),
            Some(when) => {
                let when = when.as_int().filter(|seconds| *seconds >= 0);
                when.map(Some)
                    .ok_or("one of the times of the signature is none")
            }
        };
        let created = time("created")?.ok_or("the signature does not say when it was made")?;
        let made = created.saturating_mul(1000);
        if made > now.saturating_add(self.skew) {
            return Err("the signature was made in the future");
        }
        if now.saturating_sub(made) > self.age_max {
            return Err("the signature is too old");
        }
        let ends = time("expires")?.map(|ends| ends.saturating_mul(1000).saturating_add(self.skew));
        if ends.is_some_and(|ends| ends <= now) {
            return Err("the signature is expired");
        }
        Ok(created)
    }
}

fn admit(claims: Map<String, Json>, (name, known): (&Arc<str>, &Consumers)) -> Finding {
    let consumer = match known.of_claims(name, &claims) {
        Ok(consumer) => consumer,
        Err(why) => return Finding::Refused(why),
    };
    let key = claims.get("keyid").and_then(Json::as_str);
    let key: Box<str> = key.unwrap_or_default().into();
    known.admit(Arc::new(Identity {
        method: "signature",
        authenticator: Arc::clone(name),
        subject: Some(key.clone()),
        credential: key,
        consumer,
        claims,
        ..Identity::default()
    }))
}

/// The signatures of a request; nothing where it has none.
fn read(headers: &HeaderMap) -> Result<Option<Vec<Shown>>, &'static str> {
    const HALF: &str = "a signature has no input, or an input no signature";
    let inputs = structured::dictionary(headers, &SIGNATURE_INPUT)?;
    let signatures = structured::dictionary(headers, &SIGNATURE)?;
    let (inputs, mut signatures) = match (inputs, signatures) {
        (None, None) => return Ok(None),
        (Some(inputs), Some(signatures)) => (inputs, signatures),
        (_, _) => return Err(HALF),
    };
    if inputs.len() != signatures.len() || inputs.is_empty() {
        return Err(HALF);
    }
    if inputs.len() > SIGNATURES_MAX {
        return Err("there are too many signatures");
    }
    let mut shown = Vec::with_capacity(inputs.len());
    for (label, input) in inputs {
        let (ListEntry::InnerList(input), Some(ListEntry::Item(item))) =
            (input, signatures.get_mut(&label))
        else {
            return Err(HALF);
        };
        let BareItem::ByteSeq(signature) = &mut item.bare_item else {
            return Err(HALF);
        };
        shown.push(Shown {
            input,
            signature: std::mem::take(signature),
        });
    }
    Ok(Some(shown))
}
