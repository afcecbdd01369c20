//! What a request has of a key: by it requests are alike.

use super::Facts;
use crate::base::key::{Key, KeyHash, KeyPart, network_of};
use crate::expr::{ClaimPath, Scope as _, claim_text};

/// The hash of what the request has of `key`; none where it has nothing of it. `params` are the names of the parameters of its
/// route's path.
#[must_use]
pub fn key_hash(key: &Key, facts: &Facts<'_>, params: &[Box<str>]) -> Option<u64> {
    let mut hash = KeyHash::default();
    let mut any = false;
    for part in &key.0 {
        any |= add(part, facts, params, &mut hash);
    }
    any.then(|| hash.finish())
}

/// Adds one part; says whether the request has it.
fn add(part: &KeyPart, facts: &Facts<'_>, params: &[Box<str>], hash: &mut KeyHash) -> bool {
    let text = match part {
        KeyPart::ClientIp(bits) => {
            let ip = facts.client_ip();
            let ip = ip.map(|ip| bits.map_or(ip, |bits| network_of(ip, bits)));
            return hash.ip(ip);
        }
        KeyPart::Host => facts.host().map(Into::into),
        KeyPart::Route => facts.route_name().map(Into::into),
        KeyPart::Header(name) => facts.header(name),
        KeyPart::Query(name) => facts.query(name),
        KeyPart::Cookie(name) => facts.cookie(name),
        KeyPart::Param(name) => params
            .iter()
            .position(|known| known == name)
            .and_then(|index| facts.param(index))
            .map(Into::into),
        KeyPart::Consumer => facts.consumer_name().map(Into::into),
        KeyPart::Plan => facts.consumer_plan().map(Into::into),
        KeyPart::Credential => {
            let identity = facts.exchange.identity.as_ref();
            identity.map(|identity| (&*identity.credential).into())
        }
        KeyPart::Claim(name) => {
            let claims = facts.claims();
            claims.and_then(|claims| claim_text(ClaimPath::new(name).of(claims)?))
        }
    };
    hash.part(text.as_deref().map(str::as_bytes))
}
