//! The head of an upstream's answer: refused where two readers could read it differently, freed of what is not for the client.

use http::header::{CONNECTION, CONTENT_LENGTH, ETAG, HeaderName, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderValue, StatusCode, Version};
use smallvec::SmallVec;

use super::{Headers as _, ResponseHead, edit_answer};

/// More interim answers than this are an attack.
const INTERIM_MAX: u8 = 8;

/// Say what a body was before it was changed.
pub const DIGESTS: [HeaderName; 4] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
];

/// Whether a header belongs to one connection only (RFC 9110 section 7.6.1), whoever names it or not, or tells what stands
/// behind the gateway.
fn is_telltale(name: &HeaderName) -> bool {
    let of_one_connection = matches!(
        name.as_str(),
        "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authentication-info"
            | "te"
            | "trailer"
    );
    of_one_connection
        || matches!(
            name.as_str(),
            "server"
                | "x-powered-by"
                | "x-aspnet-version"
                | "x-aspnetmvc-version"
                | "x-generator"
                | "x-runtime"
                | "x-backend"
                | "x-backend-server"
                | "x-served-by"
                | "x-upstream"
                | "x-envoy-upstream-service-time"
                | "x-envoy-decorator-operation"
                | "via"
                | "proxy-status"
                // What we say of an answer is said by nobody else.
                | "gateway-fallback"
                | "gateway-partial"
        )
}

/// Whether the client asked for another protocol on its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upgrade {
    /// It did.
    Asked,
    /// It did not.
    None,
}

/// Checks an upstream's head, and takes off what is not for the client. `interim` counts the answers before the answer.
///
/// # Errors
/// What is wrong with the head, in words for the log.
pub fn check(
    head: &mut ResponseHead,
    upgrade: Upgrade,
    interim: &mut u8,
) -> Result<(), &'static str> {
    check_head(head, upgrade, interim)?;
    strip(head, |name| {
        is_telltale(name) || name.as_str().starts_with("x-user-")
    });
    Ok(())
}

/// The same for an answer that no client gets: what it says of users stays.
pub fn check_own(
    head: &mut ResponseHead,
    upgrade: Upgrade,
    interim: &mut u8,
) -> Result<(), &'static str> {
    check_head(head, upgrade, interim)?;
    strip(head, is_telltale);
    Ok(())
}

fn check_head(
    head: &mut ResponseHead,
    upgrade: Upgrade,
    interim: &mut u8,
) -> Result<(), &'static str> {
    let status = head.status.as_u16();
    if status == 101 {
        if upgrade == Upgrade::None {
            return Err("101 to a request that asked for nothing of the kind");
        }
    } else if head.status.is_informational() {
        *interim = interim.saturating_add(1);
        if *interim > INTERIM_MAX {
            return Err("too many interim answers");
        }
    }
    if status >= 600 {
        return Err("a status that is none");
    }
    // Any other coding, or a second one: where the body ends another reader may see differently.
    let mut codings = head.headers.get_all(TRANSFER_ENCODING).iter();
    let first = codings.next();
    let coded = first.is_some();
    let known = first.is_none_or(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"));
    if !known || codings.next().is_some() {
        return Err("a transfer coding that is not `chunked`");
    }
    check_length(head, coded)?;
    speak(head);
    Ok(())
}

/// RFC 9110 section 8.6: a length that is said several times is one where all are the same; RFC 9112 section 6.3: with a coding
/// there is none.
fn check_length(head: &mut ResponseHead, coded: bool) -> Result<(), &'static str> {
    let mut told = head.headers.get_all(CONTENT_LENGTH).iter();
    let Some(first) = told.next() else {
        return Ok(());
    };
    if coded {
        return Err("a length beside a transfer coding");
    }
    let several = told.next().is_some() || first.as_bytes().contains(&b',');
    if !several {
        return Ok(());
    }
    let mut one = None;
    for line in head.headers.get_all(CONTENT_LENGTH) {
        for length in line.to_str().unwrap_or_default().split(',') {
            let length = length.trim_matches([' ', '\t']);
            let number = Some(length).filter(|it| it.bytes().all(|byte| byte.is_ascii_digit()));
            let number: Option<u64> = number.and_then(|it| it.parse().ok());
            let number = number.ok_or("a length that is none")?;
            if *one.get_or_insert(number) != number {
                return Err("two lengths");
            }
        }
    }
    if let Some(length) = one {
        head.set(&CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(())
}

/// RFC 9110 section 6.2: the version is ours, not the upstream's. Its words for the status are its own, and tell who it is.
fn speak(head: &mut ResponseHead) {
    if head.version < Version::HTTP_11 {
        head.set_version(Version::HTTP_11);
    }
    let _always = head.set_reason_phrase(None);
}

/// Takes off what belongs to the upstream's connection, and the headers that `more` names.
fn strip(head: &mut ResponseHead, more: impl Fn(&HeaderName) -> bool) {
    let upgraded = head.status.as_u16() == 101;
    let empty = head.status == StatusCode::NO_CONTENT;
    let mut gone = named(&head.headers);
    let goes = |name: &&HeaderName| match **name {
        UPGRADE | CONNECTION => !upgraded,
        // RFC 9110 section 8.6: an answer that has no body has no length.
        CONTENT_LENGTH | TRANSFER_ENCODING => empty,
        _ => more(name),
    };
    gone.extend(head.headers.keys().filter(goes).cloned());
    edit_answer(head, |headers| {
        for name in &gone {
            headers.remove(name);
        }
    });
}

/// The headers that `Connection` names, but for those that say what the connection does.
fn named(headers: &HeaderMap) -> SmallVec<[HeaderName; 8]> {
    let mut gone = SmallVec::new();
    for line in headers.get_all(CONNECTION) {
        for name in line.to_str().unwrap_or_default().split(',') {
            let name = name.trim();
            let kept = [
                "close",
                "keep-alive",
                "upgrade",
                "content-length",
                "transfer-encoding",
            ];
            if !kept.iter().any(|kept| name.eq_ignore_ascii_case(kept)) {
                gone.extend(HeaderName::from_bytes(name.as_bytes()).ok());
            }
        }
    }
    gone
}

/// Byte for byte it is another body, in its meaning the same (RFC 9110 section 8.8.1).
pub fn weaken(head: &mut ResponseHead) {
    let strong = head.headers.get(ETAG).map(HeaderValue::as_bytes);
    let Some(strong) = strong.filter(|etag| !etag.starts_with(b"W/")) else {
        return;
    };
    match HeaderValue::from_bytes(&[b"W/", strong].concat()) {
        Ok(weak) => head.set(&ETAG, weak),
        Err(_) => head.remove(&ETAG),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_said_once_and_by_nothing_else() {
        let checked = |lines: &[(&'static str, &'static str)]| {
            let mut head = ResponseHead::build(200, None).unwrap();
            for (name, value) in lines {
                head.append_header(*name, *value).unwrap();
            }
            check(&mut head, Upgrade::None, &mut 0).ok()?;
            let told = head.headers.get_all(CONTENT_LENGTH).iter();
            Some(told.cloned().collect::<Vec<_>>())
        };
        let length = "content-length";
        for lines in [
            &[(length, "5")][..],
            &[(length, "5, 5")],
            &[(length, "5"), (length, "5")],
        ] {
            assert_eq!(checked(lines).unwrap(), ["5"], "{lines:?}");
        }
        for lines in [
            &[(length, "5, 6")][..],
            &[(length, "5"), (length, "6")],
            &[(length, "5,")],
            &[(length, "+5, +5")],
            &[(length, "5"), ("transfer-encoding", "chunked")],
        ] {
            assert_eq!(checked(lines), None, "{lines:?}");
        }
    }
}
