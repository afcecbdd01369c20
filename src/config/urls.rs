//! URLs that carry a secret: a name or password before the host, or a parameter of a secret name.

use crate::base::net::user_of;
use crate::telemetry::Hidden;

/// Whether a text is a URL that carries a secret of its own; what it quotes of a request is none.
pub(super) fn carries_secret(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once("://") else {
        return false;
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    if scheme.is_empty() || !scheme.bytes().all(plain) {
        return false;
    }
    has_password(scheme, text, rest) || has_parameter(rest)
}

/// A user's name alone is none in the URL of a Redis; anywhere else it may be a token.
fn has_password(scheme: &str, url: &str, rest: &str) -> bool {
    if let Some(user) = user_of(url) {
        return !matches!(scheme, "redis" | "rediss") || user.contains(':');
    }
    // A password that was not encoded cuts the host short, and what is left of it is no port.
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, behind) = rest.split_at_checked(end).unwrap_or((rest, ""));
    let port = authority.rsplit_once(':').map(|(_, port)| port);
    let port = port.is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    behind.contains('@') && authority.contains(':') && !port && !authority.ends_with(']')
}

fn has_parameter(rest: &str) -> bool {
    let rest = rest.split('#').next().unwrap_or_default();
    let query = rest.split_once('?').map_or("", |(_, query)| query);
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let hidden = Hidden::default();
    pairs.any(|(name, value)| hidden.hides_parameter(name) && super::veil::holds_own(value))
}

#[cfg(test)]
mod tests {
    use super::carries_secret;

    #[test]
    fn a_url_with_a_password_or_a_key_carries_a_secret() {
        for secret in [
            "https://user:pass@id.test/",
            "https://token@id.test",
            "redis://:hush@10.0.0.1",
            "redis://user:hush@10.0.0.1/1",
            "redis://:hu/sh@10.0.0.1",
            "h2c://a:b@10.0.0.1",
            "https://id.test/keys?api_key=hush",
            "https://id.test?a=b&access%5Ftoken=hush",
            "https://id.test/?sig=hush{request.id}",
        ] {
            assert!(carries_secret(secret), "{secret}");
        }
        for plain in [
            "https://id.test/",
            "redis://user@10.0.0.1",
            "https://id.test:8443/@v1/",
            "https://[::1]:8443/@v1/",
            "https://[::1]/@v1/",
            "https://id.test/keys?kid=1",
            "https://id.test/keys?token=",
            "https://id.test/?token={request.id}",
            "me@example.com",
            "GET https://a.test/?token=hush",
            "://a:b@c",
        ] {
            assert!(!carries_secret(plain), "{plain}");
        }
    }
}
