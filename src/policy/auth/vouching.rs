//! Which headers somebody who was asked may write: about the caller, never about the message or the connection.

use http::header::GetAll;
use http::{HeaderName, HeaderValue};

use crate::exchange::{Edit, ResponseHead};

/// So many headers of one answer are taken over.
pub(super) const EDITS_MAX: usize = 64;

/// Frame a message, belong to a connection, or say where a request goes (RFC 9110 section 7.6.1).
const TAKEN: &[&str] = &[
    "host",
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "content-length",
    "content-encoding",
    "content-type",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "via",
    "forwarded",
    "traceparent",
    "x-request-id",
    "x-real-ip",
    "x-attempt",
];

/// Whether it may.
pub(super) fn may_be_written(name: &HeaderName) -> bool {
    let name = name.as_str();
    !TAKEN.contains(&name)
        && !name.contains('_')
        && !["x-forwarded-", "proxy-", "http2-"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

/// Writes this header with these values, in place of what was there; without any it is taken off.
pub(super) fn write(name: &HeaderName, values: &GetAll<'_, HeaderValue>, edits: &mut Vec<Edit>) {
    let mut written = false;
    for value in values.iter().take(EDITS_MAX) {
        let (name, value) = (name.clone(), value.clone());
        edits.push(match written {
            true => Edit::Add(name, value),
            false => Edit::Set(name, value),
        });
        written = true;
    }
    if !written {
        edits.push(Edit::Remove(name.clone()));
    }
}

/// What a client is told of a refusal that somebody else made, beside its body.
pub(super) fn told(head: &ResponseHead) -> Vec<(HeaderName, HeaderValue)> {
    use http::header::{
        CACHE_CONTROL, CONTENT_TYPE, LOCATION, RETRY_AFTER, SET_COOKIE, WWW_AUTHENTICATE,
    };
    let mut told = Vec::new();
    for name in [
        WWW_AUTHENTICATE,
        LOCATION,
        SET_COOKIE,
        CONTENT_TYPE,
        RETRY_AFTER,
    ] {
        let values = head.headers.get_all(&name).iter().take(EDITS_MAX);
        told.extend(values.map(|value| (name.clone(), value.clone())));
    }
    // It is about this caller.
    told.push((CACHE_CONTROL, HeaderValue::from_static("no-store")));
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_frames_a_message_or_says_who_we_are_is_never_written() {
        for (name, may) in [
            ("x-user-id", true),
            ("authorization", true),
            ("cookie", true),
            ("host", false),
            ("content-length", false),
            ("x-forwarded-for", false),
            ("connection", false),
            ("x_user", false),
            ("x-request-id", false),
        ] {
            assert_eq!(
                may_be_written(&HeaderName::from_static(name)),
                may,
                "{name}"
            );
        }
    }
}
