//! Answers of the admin interface.

use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::{Response, StatusCode};
use serde_json::{Value as Json, json};

/// A text.
pub(super) fn plain(status: StatusCode, kind: &str, body: &str) -> Response<Vec<u8>> {
    let builder = Response::builder()
        .status(status)
        .header(CONTENT_TYPE, kind)
        .header(CONTENT_LENGTH, body.len())
        .header(CACHE_CONTROL, "no-store");
    builder.body(body.as_bytes().to_vec()).unwrap_or_default()
}

/// JSON.
pub(super) fn to_json(status: StatusCode, body: &Json) -> Response<Vec<u8>> {
    plain(status, "application/json", &format!("{body:#}\n"))
}

/// A problem (RFC 9457).
pub(super) fn problem(status: StatusCode, code: &str, detail: &str) -> Response<Vec<u8>> {
    let title = status.canonical_reason().unwrap_or_default();
    let body = json!({ "type": format!("urn:doorward:admin:{code}"), "title": title, "status": status.as_u16(), "detail": detail });
    plain(status, "application/problem+json", &format!("{body:#}\n"))
}
