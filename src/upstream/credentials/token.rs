//! Tokens that an authority gives to whoever proves who they are (RFC 6749 section 4.4).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use serde::Deserialize;
use tokio::sync::Notify;

use super::spec::{ClientAuth, ClientCredentialsSpec};
use super::{secret, unsendable};
use crate::base::net::{TargetUrl, USER_IN_URL, user_of};
use crate::base::problem::{Place, Problem, Problems};
use crate::upstream::{Security, Spec, Upstream};

/// How long a token is used that does not say how long it holds.
const LIFE_UNSAID: Duration = Duration::from_secs(300);
/// No token is used longer, whatever it says.
const LIFE_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest token: it goes into a header.
const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// The tokens of an upstream, one after the other.
pub struct Tokens {
    spec: ClientCredentialsSpec,
    endpoint: Arc<Upstream>,
    path: String,
    held: ArcSwapOption<Token>,
    doubted: Notify,
    asked: Notify,
}

struct Token {
    header: HeaderValue,
    /// From when on it is not used any more.
    until_millis: i64,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

/// Why an answer gives no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// The authority refuses, or has trouble.
    #[error("it answered {0}")]
    Status(u16),
    /// It is not what RFC 6749 section 5.1 says.
    #[error("its answer is no token")]
    NoToken,
    /// The token is of another kind, or cannot be sent.
    #[error("its token is none that can be shown")]
    Unknown,
}

/// What RFC 6749 section 5.1 says of an answer; the rest means nothing here.
#[derive(Deserialize)]
struct Given {
    access_token: String,
    token_type: String,
    #[serde(default)]
    expires_in: Option<serde_json::Value>,
}

impl Tokens {
    pub(super) fn compile(
        spec: &ClientCredentialsSpec,
        place: &Place,
        problems: &mut Problems,
    ) -> Option<Self> {
        let at = place.key("token_url");
        if user_of(&spec.token_url).is_some() {
            let problem = Problem::error("E030", at, USER_IN_URL);
            problems.push(problem.hint("take it out, and use `client_id` and `client_secret`"));
            return None;
        }
        let Some((url, path)) = split(&spec.token_url) else {
            let what = format!("`{}` is not a URL", spec.token_url);
            let problem = Problem::error("E030", at, what);
            problems.push(problem.hint("e.g. `https://id.example.com/token`"));
            return None;
        };
        if secret(&spec.client_secret).is_none() {
            problems.push(unsendable(&place.key("client_secret")));
        }
        Some(Self {
            spec: spec.clone(),
            endpoint: Arc::new(Upstream::outside("token_url", &url)?),
            path,
            held: ArcSwapOption::empty(),
            doubted: Notify::new(),
            asked: Notify::new(),
        })
    }

    /// Whom to ask.
    #[must_use]
    pub const fn endpoint(&self) -> &Arc<Upstream> {
        &self.endpoint
    }

    /// Host, port and path that are asked, for people: the query may hold a key.
    #[must_use]
    pub fn shown(&self) -> String {
        let host = self.endpoint.authorities().next().unwrap_or_default();
        let path = self.path.split('?').next().unwrap_or_default();
        format!("{host}{path}")
    }

    /// The path to ask for.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What is asked: the `Authorization`, if it has one, and the body.
    #[must_use]
    pub fn question(&self) -> (Option<HeaderValue>, String) {
        let spec = &self.spec;
        let mut body = "grant_type=client_credentials".to_owned();
        for (name, value) in [("scope", &spec.scope), ("audience", &spec.audience)] {
            if let Some(value) = value {
                body.push_str(&format!("&{name}={}", form(value)));
            }
        }
        let (id, key) = (form(&spec.client_id), form(&spec.client_secret));
        match spec.client_auth {
            ClientAuth::Basic => {
                let pair = base64(format!("{id}:{key}").as_bytes());
                (secret(&format!("Basic {pair}")), body)
            }
            ClientAuth::Post => {
                body.push_str(&format!("&client_id={id}&client_secret={key}"));
                (None, body)
            }
        }
    }

    /// Takes the answer that came at that time; says how long its token holds.
    ///
    /// # Errors
    /// It gives none.
    pub fn take(&self, status: u16, body: &[u8], unix_millis: i64) -> Result<Duration, Unusable> {
        if status != 200 {
            return Err(Unusable::Status(status));
        }
        let given: Given = serde_json::from_slice(body).map_err(|_error| Unusable::NoToken)?;
        let token = &given.access_token;
        let plain = |byte: u8| byte.is_ascii_graphic();
        let sendable = (1..=TOKEN_BYTES_MAX).contains(&token.len()) && token.bytes().all(plain);
        if !sendable || !given.token_type.eq_ignore_ascii_case("bearer") {
            return Err(Unusable::Unknown);
        }
        let header = secret(&format!("Bearer {token}")).ok_or(Unusable::Unknown)?;
        let life = match &given.expires_in {
            None => LIFE_UNSAID,
            Some(said) => {
                let text = said.as_str().and_then(|text| text.parse().ok());
                let seconds = said.as_u64().or(text).ok_or(Unusable::NoToken)?;
                Duration::from_secs(seconds).min(LIFE_MAX)
            }
        };
        let millis = i64::try_from(life.as_millis()).unwrap_or(i64::MAX);
        self.held.store(Some(Arc::new(Token {
            header,
            until_millis: unix_millis.saturating_add(millis),
        })));
        Ok(life)
    }

    /// The header to show at that time.
    #[must_use]
    pub fn header(&self, unix_millis: i64) -> Option<HeaderValue> {
        let held = self.held.load();
        let token = held.as_ref()?;
        (unix_millis < token.until_millis).then(|| token.header.clone())
    }

    /// Until when the token holds that is there, in milliseconds since 1970.
    #[must_use]
    pub fn until_millis(&self) -> Option<i64> {
        self.held.load().as_ref().map(|token| token.until_millis)
    }

    /// A target did not take the token: it may have been taken back.
    pub fn doubt(&self) {
        self.doubted.notify_one();
    }

    /// Waits until somebody doubts.
    pub async fn doubted(&self) {
        self.doubted.notified().await;
    }

    /// Notes that the authority was asked.
    pub fn was_asked(&self) {
        self.asked.notify_one();
    }

    /// Waits until it was.
    pub async fn asked(&self) {
        self.asked.notified().await;
    }

    /// Takes over the token of another generation, where it was asked for in the same way.
    pub fn inherit(&self, before: &Self) {
        if self.spec == before.spec {
            self.held.store(before.held.load_full());
        }
    }
}

/// Scheme, host and port of a URL, and its path with the query.
fn split(text: &str) -> Option<(TargetUrl, String)> {
    let (scheme, rest) = text.split_once("://")?;
    if !matches!(scheme, "http" | "https") {
        return None;
    }
    let end = rest.find('/').unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end)?;
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
    if authority.contains(['?', '#', '@']) || !path.bytes().all(plain) {
        return None;
    }
    let path = if path.is_empty() { "/" } else { path };
    let url = format!("{scheme}://{authority}").parse().ok()?;
    Some((url, path.to_owned()))
}

/// As forms have it (RFC 6749 appendix B).
fn form(text: &str) -> String {
    text.bytes()
        .fold(String::with_capacity(text.len()), |mut out, byte| {
            match byte {
                b' ' => out.push('+'),
                _ if byte.is_ascii_alphanumeric() || b"-._*".contains(&byte) => {
                    out.push(char::from(byte));
                }
                _ => out.push_str(&format!("%{byte:02X}")),
            }
            out
        })
}

/// RFC 4648 section 4.
pub(super) fn base64(bytes: &[u8]) -> String {
    openssl::base64::encode_block(bytes)
}

impl Upstream {
    /// One address outside, which is asked by us alone: it proves who it is to the authorities of the system.
    pub(crate) fn outside(name: &str, url: &TargetUrl) -> Option<Self> {
        let spec = serde_json::json!({ "targets": [{ "url": url }] });
        let spec: Spec = serde_json::from_value(spec).ok()?;
        Some(Self::new(name, 0, &spec, Security::default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(client_auth: ClientAuth) -> Tokens {
        let spec = ClientCredentialsSpec {
            token_url: "https://id.test/oauth/token?x=1".to_owned(),
            client_id: "gate way".to_owned(),
            client_secret: "a:b%c".to_owned(),
            scope: Some("orders:read all".to_owned()),
            audience: None,
            client_auth,
        };
        let mut problems = Problems::default();
        Tokens::compile(&spec, &Place::root(), &mut problems).unwrap()
    }

    #[test]
    fn the_question_is_as_oauth_has_it() {
        let tokens_basic = tokens(ClientAuth::Basic);
        assert_eq!(tokens_basic.path(), "/oauth/token?x=1");
        let (header, body) = tokens_basic.question();
        assert_eq!(
            body,
            "grant_type=client_credentials&scope=orders%3Aread+all"
        );
        let expected = format!("Basic {}", base64(b"gate+way:a%3Ab%25c"));
        assert_eq!(header.unwrap(), expected.as_str());
        let (header, body) = tokens(ClientAuth::Post).question();
        assert_eq!(header, None);
        assert!(body.ends_with("&client_id=gate+way&client_secret=a%3Ab%25c"));
    }

    #[test]
    fn what_is_no_token_changes_nothing() {
        let tokens = tokens(ClientAuth::Basic);
        let good = br#"{"access_token":"t","token_type":"Bearer","expires_in":60}"#;
        assert_eq!(tokens.take(200, good, 1000), Ok(Duration::from_secs(60)));
        for (status, body) in [
            (500, &good[..]),
            (204, good),
            (200, b"<html>"),
            (200, br#"{"access_token":"u"}"#),
            (200, br#"{"access_token":"u","token_type":"mac"}"#),
            (200, br#"{"access_token":"","token_type":"bearer"}"#),
            (200, br#"{"access_token":"u\n","token_type":"bearer"}"#),
            (
                200,
                br#"{"access_token":"u","token_type":"bearer","expires_in":"soon"}"#,
            ),
        ] {
            let body = String::from_utf8_lossy(body);
            assert!(
                tokens.take(status, body.as_bytes(), 2000).is_err(),
                "{status} {body}"
            );
            assert_eq!(tokens.header(2000).unwrap(), "Bearer t");
        }
        assert!(tokens.header(60_999).is_some());
        assert_eq!(tokens.header(61_000), None);
        assert!(format!("{:?}", tokens.header(2000)).contains("Sensitive"));
    }

    #[test]
    fn a_url_is_read_strictly() {
        for wrong in [
            "id.test/token",
            "ftp://id.test",
            "https://a@id.test/",
            "https://id.test/a b",
            "https://?x",
        ] {
            assert!(split(wrong).is_none(), "{wrong}");
        }
        assert_eq!(split("http://id.test:81").unwrap().1, "/");
    }
}
