//! A token as it is written (RFC 7519, RFC 7515): read strictly, before anything of it is believed.

use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value as Json};

use super::strict;

/// A longer one is none.
const TOKEN_BYTES_MAX: usize = 16 * 1024;
/// The name of a key is no longer.
const KEY_ID_BYTES_MAX: usize = 256;

/// What a token's header may be about: tokens for access (RFC 9068), or nothing in particular. Tokens of other kinds, which
/// somebody else should read, are no credential here (RFC 8725 section 3.11).
const TYPES: [&str; 4] = ["jwt", "at+jwt", "application/jwt", "application/at+jwt"];

/// What a header may not have: keys that the token brings along or says where to fetch, extensions that nobody here knows,
/// and other forms of its content (RFC 8725 sections 2.10 and 3.10, RFC 7797, RFC 7516).
const REFUSED: [&str; 8] = ["crit", "b64", "jwk", "jku", "x5u", "x5c", "zip", "enc"];

/// A token, of which nothing is proven.
#[derive(Debug)]
pub(super) struct Token<'t> {
    pub(super) algorithm: Algorithm,
    /// Which key it says it was signed with.
    pub(super) key_id: Option<Box<str>>,
    pub(super) claims: Map<String, Json>,
    /// What was signed, and the signature, both as they are written.
    pub(super) signed: &'t str,
    pub(super) signature: &'t str,
}

/// The same, before its claims are read.
#[derive(Debug)]
pub(super) struct Parts<'t> {
    pub(super) algorithm: Algorithm,
    pub(super) key_id: Option<Box<str>>,
    pub(super) payload: Vec<u8>,
    pub(super) signed: &'t str,
    pub(super) signature: &'t str,
}

impl<'t> Token<'t> {
    /// Reads it.
    pub(super) fn read(text: &'t str) -> Result<Self, &'static str> {
        let parts = Parts::read(text)?;
        let claims = strict::object(&parts.payload).ok_or("its claims cannot be read")?;
        Ok(Self {
            algorithm: parts.algorithm,
            key_id: parts.key_id,
            claims,
            signed: parts.signed,
            signature: parts.signature,
        })
    }
}

impl<'t> Parts<'t> {
    /// Takes it apart.
    pub(super) fn read(text: &'t str) -> Result<Self, &'static str> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err("the token is too long");
        }
        const NONE: &str = "this is no signed token";
        let (signed, signature) = text.rsplit_once('.').ok_or(NONE)?;
        let (header, payload) = signed.split_once('.').ok_or(NONE)?;
        // Five parts would be an encrypted one.
        if payload.contains('.') || signature.is_empty() {
            return Err(NONE);
        }
        // The engine takes no padding, no blanks, and no bits that mean nothing.
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_error| NONE);
        decode(signature)?;
        let header = strict::object(&decode(header)?).ok_or("its header cannot be read")?;
        let (algorithm, key_id) = header_of(&header)?;
        Ok(Self {
            algorithm,
            key_id,
            payload: decode(payload)?,
            signed,
            signature,
        })
    }
}

fn header_of(header: &Map<String, Json>) -> Result<(Algorithm, Option<Box<str>>), &'static str> {
    if REFUSED.iter().any(|name| header.contains_key(*name)) {
        return Err("its header asks for what is not done");
    }
    let algorithm = header.get("alg").and_then(Json::as_str);
    // `none` is no algorithm here, in whatever letters.
    let algorithm = algorithm.and_then(|name| Algorithm::from_str(name).ok());
    let algorithm = algorithm.ok_or("its algorithm is not accepted")?;
    let kind = match header.get("typ") {
        None => true,
        Some(kind) => kind
            .as_str()
            .is_some_and(|kind| TYPES.iter().any(|known| kind.eq_ignore_ascii_case(known))),
    };
    if !kind {
        return Err("it is a token of another kind");
    }
    let key_id = match header.get("kid") {
        None => None,
        Some(Json::String(id)) if is_key_id(id) => Some(id.as_str().into()),
        Some(_) => return Err("the name of its key cannot be one"),
    };
    Ok((algorithm, key_id))
}

/// Whether a key can be called so.
pub(super) fn is_key_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= KEY_ID_BYTES_MAX && !id.chars().any(char::is_control)
}
