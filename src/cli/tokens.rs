//! `tokens`: tokens that are refused though they verify, looked at and changed in a running gateway.

use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::{Args as ClapArgs, Subcommand};
use serde_json::Value as Json;

use super::args::Global;
use super::callers::{change, list, text};
use super::client::escaped;
use super::{Exit, say};
use crate::base::digest::Digest;
use crate::base::units::Date;

/// A longer token is none.
const TOKEN_BYTES_MAX: u64 = 64 * 1024;

/// `tokens`
#[derive(Debug, Subcommand)]
pub(super) enum TokensVerb {
    /// Refuse tokens from now on, also those that were let in before
    #[command(
        after_help = "Examples:\n  doorward tokens revoke --jti 7f3c --expires 2027-01-01\n  doorward tokens revoke --sub user-7 --issuer https://id.example.com\n  doorward tokens revoke --issuer https://id.example.com --before 2026-11-01T00:00:00Z\n  doorward tokens revoke --stdin < token.txt"
    )]
    Revoke(Which),
    /// List what is refused
    #[command(
        after_help = "Examples:\n  doorward tokens list\n  doorward tokens list --format json"
    )]
    List,
    /// Take an entry out: its tokens are good again
    #[command(
        after_help = "Examples:\n  doorward tokens restore 9f86d081884c\n  doorward tokens restore 9f86d081884c --format json"
    )]
    Restore {
        /// Its id, as `tokens list` prints it
        id: String,
    },
}

/// Which tokens.
#[derive(Debug, ClapArgs)]
pub(super) struct Which {
    /// The one with this `jti`
    #[arg(long, value_name = "ID")]
    jti: Option<String>,
    /// Those of this `sub`
    #[arg(long, value_name = "SUBJECT", conflicts_with = "jti")]
    sub: Option<String>,
    /// The one with this SHA-256 of its text
    #[arg(long, value_name = "DIGEST", conflicts_with_all = ["jti", "sub", "issuer"])]
    sha256: Option<String>,
    /// The one that is read from the input; only its digest and its end are sent
    #[arg(long, conflicts_with_all = ["jti", "sub", "sha256", "issuer", "expires"])]
    stdin: bool,
    /// Of this issuer only; alone: all of its tokens
    #[arg(long, value_name = "ISSUER")]
    issuer: Option<String>,
    /// With `--sub` or `--issuer`: those that were made before; else before now
    #[arg(long, value_name = "DATE", conflicts_with_all = ["jti", "sha256", "stdin"])]
    before: Option<Date>,
    /// When the last of them ends, e.g. 2027-01-01; else the entry stays until it is taken out
    #[arg(long, value_name = "DATE")]
    expires: Option<Date>,
}

/// `tokens`.
pub(super) fn tokens(verb: &TokensVerb, global: &Global) -> Exit {
    match verb {
        TokensVerb::Revoke(which) => match which.query() {
            Ok(query) => change(&format!("/tokens/revoke?{query}"), global, |told| {
                format!("revoked {}\n", entry(told))
            }),
            Err(why) => {
                say(&format!("error: {why}"));
                Exit::Usage
            }
        },
        TokensVerb::List => list("/tokens/revoked", "no tokens are revoked\n", global, |it| {
            entry(it) + "\n"
        }),
        TokensVerb::Restore { id } => {
            let path = format!("/tokens/restore?id={}", escaped(id));
            change(&path, global, |told| format!("restored {}\n", entry(told)))
        }
    }
}

impl Which {
    fn query(&self) -> Result<String, &'static str> {
        let (mut sha256, mut expires) = (self.sha256.clone(), self.expires);
        if self.stdin {
            let mut token = String::new();
            let input = std::io::stdin().lock();
            let read = input.take(TOKEN_BYTES_MAX).read_to_string(&mut token);
            let token = token.trim();
            if read.is_err() || token.is_empty() {
                return Err("there is no token in the input");
            }
            sha256 = Some(Digest::of(token.as_bytes()).hex());
            expires = end_of(token);
        }
        let date = |date: Option<Date>| date.map(|date| date.to_string());
        let parts = [
            ("jti", self.jti.clone()),
            ("sub", self.sub.clone()),
            ("sha256", sha256),
            ("issuer", self.issuer.clone()),
            ("before", date(self.before)),
            ("expires", date(expires)),
        ];
        let parts = parts.into_iter();
        let parts = parts.filter_map(|(name, value)| Some((name, value?)));
        let parts: Vec<String> = parts
            .map(|(name, value)| format!("{name}={}", escaped(&value)))
            .collect();
        if parts.is_empty() {
            return Err("say which: --jti, --sub, --sha256, --stdin, or --issuer");
        }
        Ok(parts.join("&"))
    }
}

/// When a token says that it ends. Nothing of it is believed otherwise.
fn end_of(token: &str) -> Option<Date> {
    let claims = token.split('.').nth(1)?;
    let claims = URL_SAFE_NO_PAD.decode(claims).ok()?;
    let claims: Json = serde_json::from_slice(&claims).ok()?;
    let seconds = claims.get("exp")?.as_i64()?;
    Some(Date::from_unix_millis(seconds.checked_mul(1000)?))
}

fn entry(it: &Json) -> String {
    let mut line = text(it, "id").to_owned();
    for name in ["jti", "sub", "sha256", "issuer", "before", "expires"] {
        let value = text(it, name);
        if !value.is_empty() {
            line.push_str(&format!("  {name} {value}"));
        }
    }
    line
}
