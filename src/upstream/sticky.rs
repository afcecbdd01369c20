//! Clients that stay with their target, by a cookie that is signed and says nothing of the target.

use std::time::Duration;

use http::HeaderValue;
use openssl::hash::MessageDigest;
use openssl::memcmp;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::forwarded::Scheme;
use crate::base::problem::{Place, Problem, Problems};
use crate::base::units::Span;

/// A shorter secret can be guessed.
const SECRET_LEAST: usize = 16;
/// How long a client stays with its target.
const TTL: Duration = Duration::from_secs(3600);
/// Bytes of a cookie: which target, until when, and that it is ours.
const BYTES: usize = 32;

/// Clients stay with the target that answered them first, as long as it is well, by a cookie. Who has none, or whose target
/// is gone, goes where `load_balancing` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StickySpec {
    /// The name of the cookie.
    pub cookie: String,
    /// How long a client stays after its last request, to half of it exactly. Default `1h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<Span>,
    /// What cookies are signed by: a secret of 16 characters or more. With the same one a cookie holds wherever the upstream has
    /// this name, after a restart and at every gateway of a fleet. Default: one of the process's own, which outlives reloads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::credentials::secret_schema")]
    pub secret: Option<String>,
}

impl StickySpec {
    /// Reports what cannot be, where it stands at `place`.
    pub fn check(&self, place: &Place, problems: &mut Problems) {
        if !is_name(&self.cookie) {
            let what = format!("`{}` cannot be the name of a cookie", self.cookie);
            let problem = Problem::error("E030", place.key("cookie"), what);
            problems.push(problem.hint("letters, digits, `-` and `_`, e.g. `route`"));
        }
        if self
            .ttl
            .is_some_and(|ttl| ttl.duration() < Duration::from_secs(1))
        {
            let problem = Problem::error("E030", place.key("ttl"), "less than a second");
            problems.push(problem.hint("cookies count in seconds: `1s` or more"));
        }
        let secret = self.secret.as_deref();
        if secret.is_some_and(|secret| secret.len() < SECRET_LEAST) {
            let what = "a secret that can be guessed";
            let problem = Problem::error("E030", place.key("secret"), what);
            problems.push(problem.hint("16 characters or more: `openssl rand -hex 32` makes one"));
        }
    }

    pub(super) fn compile(&self) -> Sticky {
        Sticky {
            cookie: self.cookie.as_str().into(),
            ttl: self.ttl.map_or(TTL, |ttl| ttl.duration()).as_secs().max(1),
            secret: self.secret.as_deref().map(Secret::of),
        }
    }
}

/// RFC 6265 section 4.1.1 takes a token; what stands in others is asked for by names that people can say.
fn is_name(name: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !name.is_empty() && name.len() <= 64 && name.bytes().all(good)
}

/// The same, as run.
#[derive(Debug)]
pub(super) struct Sticky {
    cookie: Box<str>,
    /// In seconds.
    ttl: u64,
    /// What somebody wrote to sign by.
    secret: Option<Secret>,
}

/// What a cookie says, which is ours and still good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stuck {
    /// The target, by [`Secret::id`].
    pub(super) id: u64,
    /// Until when it is good, in seconds since 1970.
    until: u64,
}

/// What cookies are signed by: a cookie of another one is none.
#[derive(Clone)]
pub(super) struct Secret([u8; 32]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// A secret by chance; none where the machine has none to give.
    pub(super) fn draw() -> Option<Self> {
        let mut bytes = [0; 32];
        openssl::rand::rand_bytes(&mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// The secret that is written so.
    fn of(written: &str) -> Self {
        let parts = [&b"doorward sticky "[..], written.as_bytes()];
        Self(openssl::sha::sha256(&parts.concat()))
    }

    /// What stands for a target in cookies.
    pub(super) fn id(&self, authority: &str) -> u64 {
        let [first, ..] = self
            .sign(&[b"target", authority.as_bytes()])
            .unwrap_or_default();
        first
    }

    /// The first bytes of an HMAC with SHA-256.
    fn sign(&self, parts: &[&[u8]]) -> Option<[u64; 2]> {
        let key = PKey::hmac(&self.0).ok()?;
        let mut signer = Signer::new(MessageDigest::sha256(), &key).ok()?;
        for part in parts {
            signer.update(&(part.len() as u64).to_be_bytes()).ok()?;
            signer.update(part).ok()?;
        }
        let mac = signer.sign_to_vec().ok()?;
        let (first, rest) = mac.split_first_chunk()?;
        let (second, _) = rest.split_first_chunk()?;
        Some([u64::from_be_bytes(*first), u64::from_be_bytes(*second)])
    }

    fn seal(&self, upstream: &str, id: u64, until: u64) -> Option<[u64; 2]> {
        let parts = [upstream.as_bytes(), &id.to_be_bytes(), &until.to_be_bytes()];
        self.sign(&[b"cookie", parts[0], parts[1], parts[2]])
    }
}

impl Sticky {
    /// The name of the cookie.
    pub(super) const fn cookie(&self) -> &str {
        &self.cookie
    }

    /// What somebody wrote to sign by.
    pub(super) const fn secret(&self) -> Option<&Secret> {
        self.secret.as_ref()
    }

    /// Reads the value of a cookie; none where it is not ours for this upstream, or no more good at `now`.
    pub(super) fn read(
        &self,
        secret: &Secret,
        upstream: &str,
        value: &str,
        now: u64,
    ) -> Option<Stuck> {
        let words = words(value)?;
        let [id, until, ..] = words;
        let [first, second] = secret.seal(upstream, id, until)?;
        let given = [words[2].to_be_bytes(), words[3].to_be_bytes()].concat();
        let ours = [first.to_be_bytes(), second.to_be_bytes()].concat();
        // Longer than we say cannot be ours: the time to live was longer once.
        let good = memcmp::eq(&given, &ours) && until > now && until - now <= self.ttl;
        good.then_some(Stuck { id, until })
    }

    /// The cookie for a client that comes to target `id`; none while the one it has is good for long enough.
    pub(super) fn write(
        &self,
        secret: &Secret,
        (upstream, id): (&str, u64),
        had: Option<Stuck>,
        (now, scheme): (u64, Scheme),
    ) -> Option<HeaderValue> {
        if had.is_some_and(|had| had.id == id && had.until.saturating_sub(now) > self.ttl / 2) {
            return None;
        }
        let until = now.saturating_add(self.ttl);
        let [first, second] = secret.seal(upstream, id, until)?;
        let secure = if scheme == Scheme::Https {
            "; Secure"
        } else {
            ""
        };
        let (name, ttl) = (&self.cookie, self.ttl);
        let text = format!(
            "{name}={id:016x}{until:016x}{first:016x}{second:016x}; Max-Age={ttl}; Path=/; HttpOnly; SameSite=Lax{secure}"
        );
        HeaderValue::try_from(text).ok()
    }
}

/// Four numbers in hexadecimal.
fn words(value: &str) -> Option<[u64; 4]> {
    let plain = value.len() == 2 * BYTES && value.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !plain {
        return None;
    }
    let mut words = [0; 4];
    for (at, word) in words.iter_mut().enumerate() {
        *word = u64::from_str_radix(value.get(at * 16..at * 16 + 16)?, 16).ok()?;
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sticky() -> Sticky {
        let spec = StickySpec {
            cookie: "route".to_owned(),
            ttl: Some(Span::from_secs(100)),
            secret: None,
        };
        spec.compile()
    }

    fn value(cookie: &HeaderValue) -> String {
        let text = cookie.to_str().unwrap();
        let (value, attributes) = text
            .strip_prefix("route=")
            .unwrap()
            .split_once(';')
            .unwrap();
        assert_eq!(attributes, " Max-Age=100; Path=/; HttpOnly; SameSite=Lax");
        value.to_owned()
    }

    #[test]
    fn what_was_written_is_read_by_the_same_upstream_in_its_time() {
        let (sticky, secret) = (sticky(), Secret::draw().unwrap());
        let id = secret.id("10.0.0.1:80");
        let cookie = sticky
            .write(&secret, ("orders", id), None, (1000, Scheme::Http))
            .unwrap();
        let value = value(&cookie);
        let read = sticky.read(&secret, "orders", &value, 1050).unwrap();
        assert_eq!((read.id, read.until), (id, 1100));
        for (upstream, now) in [("users", 1050), ("orders", 1100), ("orders", 999)] {
            assert_eq!(
                sticky.read(&secret, upstream, &value, now),
                None,
                "{upstream} {now}"
            );
        }
        assert_eq!(
            sticky.read(&Secret::draw().unwrap(), "orders", &value, 1050),
            None
        );
    }

    #[test]
    fn the_same_words_make_the_same_secret() {
        let (one, two) = (
            Secret::of("of all of a fleet"),
            Secret::of("of all of a fleet"),
        );
        assert_eq!(one.id("10.0.0.1:80"), two.id("10.0.0.1:80"));
        let other = Secret::of("of somebody else");
        assert_ne!(one.id("10.0.0.1:80"), other.id("10.0.0.1:80"));
        let cookie = sticky().write(&one, ("orders", 7), None, (1000, Scheme::Http));
        let value = value(&cookie.unwrap());
        let read = |secret| sticky().read(secret, "orders", &value, 1001);
        assert_eq!(read(&two).map(|it| it.id), Some(7));
        assert_eq!(read(&other), None);
    }

    #[test]
    fn what_was_changed_is_not_ours() {
        let (sticky, secret) = (sticky(), Secret::draw().unwrap());
        let cookie = sticky
            .write(&secret, ("orders", 7), None, (1000, Scheme::Http))
            .unwrap();
        let value = value(&cookie);
        for at in 0..value.len() {
            let mut other = value.clone();
            let digit = if other.as_bytes()[at] == b'0' {
                "1"
            } else {
                "0"
            };
            other.replace_range(at..=at, digit);
            assert_eq!(sticky.read(&secret, "orders", &other, 1001), None, "{at}");
        }
        for other in ["", "x", &format!("{value}0"), &"é".repeat(32)] {
            assert_eq!(sticky.read(&secret, "orders", other, 1001), None, "{other}");
        }
    }

    #[test]
    fn a_cookie_is_written_anew_at_half_of_its_time() {
        let (sticky, secret) = (sticky(), Secret::draw().unwrap());
        let had = |until| Some(Stuck { id: 7, until });
        let write = |id, had| sticky.write(&secret, ("orders", id), had, (1000, Scheme::Https));
        assert_eq!(write(7, had(1051)), None);
        assert!(write(7, had(1050)).is_some());
        let moved = write(8, had(1099)).unwrap();
        assert!(moved.to_str().unwrap().ends_with("; SameSite=Lax; Secure"));
    }
}
