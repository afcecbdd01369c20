//! Digests of bodies that a header tells (RFC 9530).

use http::{HeaderMap, HeaderName};
use sfv::{BareItem, ListEntry};
use sha2::{Digest as _, Sha256, Sha512};

use super::structured::dictionary;

/// The digest of the content, as it is on the wire.
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");

/// Whether the body is the one that `Content-Digest` tells of: it has to hold for each algorithm that is known, and for one
/// at least. Those that are broken count for nothing (RFC 9530 section 5).
#[must_use]
pub fn is_told_body(headers: &HeaderMap, body: &[u8]) -> bool {
    let Ok(Some(told)) = dictionary(headers, &CONTENT_DIGEST) else {
        return false;
    };
    let mut held = false;
    for (name, member) in &told {
        let digest = match name.as_str() {
            "sha-256" => Sha256::digest(body).to_vec(),
            "sha-512" => Sha512::digest(body).to_vec(),
            _ => continue,
        };
        let ListEntry::Item(item) = member else {
            return false;
        };
        let BareItem::ByteSeq(said) = &item.bare_item else {
            return false;
        };
        if digest != *said {
            return false;
        }
        held = true;
    }
    held
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn holds(told: &str, body: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_DIGEST, HeaderValue::from_str(told).unwrap());
        is_told_body(&headers, body.as_bytes())
    }

    #[test]
    fn a_body_is_held_to_every_digest_that_is_known() {
        // RFC 9530 appendix B.1 and RFC 9421 appendix B.2.
        const SHORT: &str = "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:";
        const LONG: &str = "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:";
        const OTHER: &str = "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:";
        assert!(holds(SHORT, "{\"hello\": \"world\"}\n"));
        let body = "{\"hello\": \"world\"}";
        assert!(holds(LONG, body));
        assert!(holds(OTHER, body));
        assert!(holds(&format!("{LONG}, {OTHER}"), body));
        assert!(holds(&format!("md5=:AAAA:, {LONG}"), body));
        for wrong in [
            SHORT,
            &format!("{LONG}, {SHORT}"),
            &format!("{LONG}, {LONG}"),
            "md5=:AAAA:",
            "sha-256=1",
            "sha-256=()",
            "sha-256=::",
            "",
            "x",
        ] {
            assert!(!holds(wrong, body), "{wrong}");
        }
        assert!(!is_told_body(&HeaderMap::new(), b""));
    }
}
