//! Pages of other origins: whether one may read an answer, and what its browser asks before it does.

use http::Method;
use http::header::{ACCESS_CONTROL_REQUEST_METHOD, ORIGIN};

use super::RequestHead;

/// The page that asks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reader {
    /// None, or one of the same origin.
    #[default]
    Nobody,
    /// One that may read the answer.
    Admitted,
    /// One that may not.
    Foreign,
}

/// The method that a preflight asks for; none where the request is no preflight (Fetch standard, "CORS-preflight request").
#[must_use]
pub fn preflight_for(head: &RequestHead) -> Option<Method> {
    if head.method != Method::OPTIONS || !head.headers.contains_key(ORIGIN) {
        return None;
    }
    let method = head.headers.get(ACCESS_CONTROL_REQUEST_METHOD)?;
    Method::from_bytes(method.as_bytes()).ok()
}
