//! What tells a browser to be careful with an answer.

use http::header::{
    CONTENT_SECURITY_POLICY, HeaderName, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderValue};

use super::edits::Headers;
use crate::base::forwarded::Scheme;

/// How long a browser asks by TLS only, in seconds: a year (RFC 6797 section 6.1.1).
const TLS_ONLY_SECONDS: u64 = 31_536_000;
const TLS_ONLY: HeaderValue = HeaderValue::from_static("max-age=31536000");

type Lines = [(HeaderName, HeaderValue); 4];

const API: Lines = [
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    ),
];

const WEB: Lines = [
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (X_FRAME_OPTIONS, HeaderValue::from_static("SAMEORIGIN")),
    (
        REFERRER_POLICY,
        HeaderValue::from_static("strict-origin-when-cross-origin"),
    ),
    (
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("object-src 'none'; base-uri 'self'; frame-ancestors 'self'"),
    ),
];

/// Which headers an answer gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Careful {
    /// Those for programs.
    Api,
    /// Those for pages.
    Web,
}

impl Careful {
    /// Adds the headers that are not there. `scheme` is how the client speaks.
    pub fn apply(self, head: &mut impl Headers, scheme: Scheme) {
        match scheme {
            // RFC 6797 section 7.2: never over plain HTTP.
            Scheme::Http => head.remove(&STRICT_TRANSPORT_SECURITY),
            Scheme::Https if tls_only(head.map()) < Some(TLS_ONLY_SECONDS) => {
                head.set(&STRICT_TRANSPORT_SECURITY, TLS_ONLY);
            }
            Scheme::Https => {}
        }
        let lines = match self {
            Self::Api => &API,
            Self::Web => &WEB,
        };
        for (name, value) in lines {
            if !head.map().contains_key(name) {
                head.set(name, value.clone());
            }
        }
    }
}

/// How long a browser is told to ask by TLS only, in seconds.
fn tls_only(headers: &HeaderMap) -> Option<u64> {
    let line = headers.get(STRICT_TRANSPORT_SECURITY)?.to_str().ok()?;
    line.split(';').find_map(|directive| {
        let (name, value) = directive.split_once('=')?;
        let value = value.trim().trim_matches('"');
        name.trim()
            .eq_ignore_ascii_case("max-age")
            .then(|| value.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::ResponseHead;

    fn sent(scheme: Scheme, said: &[(&'static str, &'static str)]) -> ResponseHead {
        let mut head = ResponseHead::build(200, None).unwrap();
        for (name, value) in said {
            head.append_header(*name, *value).unwrap();
        }
        Careful::Web.apply(&mut head, scheme);
        head
    }

    #[test]
    fn the_longer_time_of_tls_holds_and_only_over_tls() {
        for (said, holds) in [
            (None, "max-age=31536000"),
            (Some("max-age=0"), "max-age=31536000"),
            (Some("includeSubDomains"), "max-age=31536000"),
            (
                Some("includeSubDomains; Max-Age=\"63072000\""),
                "includeSubDomains; Max-Age=\"63072000\"",
            ),
        ] {
            let said = said.map(|said| ("strict-transport-security", said));
            let said = said.as_slice();
            let head = sent(Scheme::Https, said);
            assert_eq!(head.headers["strict-transport-security"], holds);
            let head = sent(Scheme::Http, said);
            assert!(!head.headers.contains_key("strict-transport-security"));
        }
    }

    #[test]
    fn what_was_said_stays() {
        let head = sent(Scheme::Http, &[("content-security-policy", "script-src x")]);
        let mut lines = head.headers.get_all("content-security-policy").iter();
        assert_eq!(lines.next().unwrap(), "script-src x");
        assert!(lines.next().is_none());
        assert_eq!(head.headers["x-frame-options"], "SAMEORIGIN");
    }
}
