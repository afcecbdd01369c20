//! Tokens to ask with: `tokens ALG COUNT KEY_FILE FOLDER` writes `tokens` (one a line, no two the same) and `keys.json` (JWKS).

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr as _;

use doorward::base::clock::{Clock as _, SystemClock};
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;

/// Nobody asks with more.
const COUNT_MAX: u32 = 100_000;
/// So long they hold, in seconds.
const TIME: i64 = 24 * 60 * 60;
const KEY_ID: &str = "bench";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match made(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            drop(writeln!(std::io::stderr(), "tokens: {what}"));
            ExitCode::from(2)
        }
    }
}

fn made(words: &[&str]) -> Result<(), String> {
    let [alg, count, key, folder] = *words else {
        return Err("ALG COUNT KEY_FILE FOLDER".to_owned());
    };
    let alg = Algorithm::from_str(alg).map_err(|_error| format!("{alg}: no algorithm"))?;
    let count: u32 = count.parse().unwrap_or(0);
    if !(1..=COUNT_MAX).contains(&count) {
        return Err(format!("1 to {COUNT_MAX} tokens"));
    }
    let key = std::fs::read(key).map_err(|error| format!("{key}: {error}"))?;
    let key = if alg == Algorithm::HS256 {
        Ok(EncodingKey::from_secret(&key))
    } else if alg == Algorithm::ES256 {
        EncodingKey::from_ec_pem(&key)
    } else {
        EncodingKey::from_rsa_pem(&key)
    };
    let key = key.map_err(|error| error.to_string())?;
    let mut jwk = Jwk::from_encoding_key(&key, alg).map_err(|error| error.to_string())?;
    jwk.common.key_id = Some(KEY_ID.to_owned());
    let keys = JwkSet { keys: vec![jwk] };
    let keys = serde_json::to_string(&keys).map_err(|error| error.to_string())?;
    let mut header = Header::new(alg);
    header.kid = Some(KEY_ID.to_owned());
    let ends = SystemClock.unix_millis() / 1000 + TIME;
    let mut tokens = String::new();
    for number in 0..count {
        let claims = json!({ "iss": "https://id.bench.test", "aud": "api", "sub": format!("user-{number}"), "exp": ends, "scope": "orders:read" });
        let token = encode(&header, &claims, &key).map_err(|error| error.to_string())?;
        writeln!(tokens, "{token}").map_err(|error| error.to_string())?;
    }
    let folder = Path::new(folder);
    std::fs::write(folder.join("keys.json"), keys)
        .and_then(|()| std::fs::write(folder.join("tokens"), tokens))
        .map_err(|error| error.to_string())
}
