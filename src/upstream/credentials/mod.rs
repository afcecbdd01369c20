//! What a gateway shows targets of an upstream, so that they know who asks.

mod signature;
mod spec;
mod token;

use std::fmt;

use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue};
use pingora::http::RequestHeader;
pub use signature::Payload;
use signature::Signer;
pub use spec::CredentialsSpec;
pub(super) use spec::secret_schema;
pub use token::{Tokens, Unusable};

use super::Upstream;
use crate::base::problem::{Place, Problem, Problems};

/// The credential of an upstream.
pub enum Credentials {
    /// The same header on every request.
    Fixed(HeaderName, HeaderValue),
    /// A token that an authority gives for a time.
    Tokens(Tokens),
    /// A signature over each request.
    Signer(Signer),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never what they are.
        f.write_str(self.kind())
    }
}

/// There is none right now, and without one nothing is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no credential")]
pub struct NoCredential;

impl Credentials {
    /// Compiles what is written at `place`; mistakes are reported.
    pub fn compile(spec: &CredentialsSpec, place: &Place, problems: &mut Problems) -> Option<Self> {
        match spec {
            CredentialsSpec::Basic(basic) => {
                let place = place.key("basic");
                if basic.username.contains(':') || basic.username.chars().any(char::is_control) {
                    let what = "a colon, or a control character, in the name";
                    let problem = Problem::error("E030", place.key("username"), what);
                    problems.push(
                        problem.hint("nothing else separates it from the password (RFC 7617)"),
                    );
                }
                let pair = format!("{}:{}", basic.username, basic.password);
                let text = format!("Basic {}", token::base64(pair.as_bytes()));
                fixed(AUTHORIZATION, &text, &place.key("password"), problems)
            }
            CredentialsSpec::Header(header) => {
                let place = place.key("header");
                let name = HeaderName::from_bytes(header.name.as_bytes());
                let Some(name) = name.ok().filter(|name| !FRAMING.contains(&name.as_str())) else {
                    let what = format!("`{}` cannot carry a credential", header.name);
                    let problem = Problem::error("E033", place.key("name"), what);
                    problems.push(problem.hint("e.g. `authorization` or `x-api-key`"));
                    return None;
                };
                fixed(name, &header.value, &place.key("value"), problems)
            }
            CredentialsSpec::ClientCredentials(spec) => {
                Tokens::compile(spec, &place.key("client_credentials"), problems).map(Self::Tokens)
            }
            CredentialsSpec::Sigv4(spec) => {
                Signer::compile(spec, &place.key("sigv4"), problems).map(Self::Signer)
            }
        }
    }

    /// Its key in the config.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Fixed(AUTHORIZATION, _) => "authorization",
            Self::Fixed(..) => "header",
            Self::Tokens(_) => "client_credentials",
            Self::Signer(_) => "sigv4",
        }
    }

    /// The tokens, where they are some.
    #[must_use]
    pub const fn tokens(&self) -> Option<&Tokens> {
        match self {
            Self::Tokens(tokens) => Some(tokens),
            Self::Fixed(..) | Self::Signer(_) => None,
        }
    }

    /// Whether there is one at that time.
    #[must_use]
    pub fn is_there(&self, unix_millis: i64) -> bool {
        self.tokens()
            .is_none_or(|tokens| tokens.header(unix_millis).is_some())
    }

    /// Adds it to a request, which is as it is sent but for this; whatever stood in its place is gone.
    ///
    /// # Errors
    /// There is none at that time.
    pub fn show(
        &self,
        head: &mut RequestHeader,
        unix_millis: i64,
        payload: Payload<'_>,
    ) -> Result<(), NoCredential> {
        let shown = match self {
            Self::Fixed(name, value) => head.insert_header(name.clone(), value.clone()),
            Self::Tokens(tokens) => {
                let header = tokens.header(unix_millis).ok_or(NoCredential)?;
                head.insert_header(AUTHORIZATION, header)
            }
            Self::Signer(signer) => return signer.sign(head, unix_millis, payload),
        };
        shown.map_err(|_error| NoCredential)
    }
}

impl Upstream {
    /// Says what its targets are shown.
    #[must_use]
    pub fn showing(mut self, credentials: Option<Credentials>) -> Self {
        self.credentials = credentials;
        self
    }

    /// What its targets are shown.
    #[must_use]
    pub const fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    /// The tokens that its targets are shown.
    #[must_use]
    pub fn tokens(&self) -> Option<&Tokens> {
        self.credentials.as_ref()?.tokens()
    }
}

/// What frames the message is no place for a secret.
const FRAMING: &[&str] = &[
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "via",
];

/// A header that nobody is shown; `place` is that of its secret.
fn fixed(
    name: HeaderName,
    text: &str,
    place: &Place,
    problems: &mut Problems,
) -> Option<Credentials> {
    let Some(value) = secret(text) else {
        problems.push(unsendable(place));
        return None;
    };
    Some(Credentials::Fixed(name, value))
}

fn unsendable(place: &Place) -> Problem {
    let problem = Problem::error("E033", place.clone(), "a secret that no header can carry");
    problem.hint("one line, without control characters")
}

/// A value that is left out wherever headers are printed.
fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}
