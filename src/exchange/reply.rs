//! An answer of our own that was asked for: a fixed answer or a redirect.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};

/// A complete answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Status.
    pub status: StatusCode,
    /// Headers, without those that every answer gets.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The whole body.
    pub body: Bytes,
}

impl Reply {
    /// An answer without a body.
    #[must_use]
    pub const fn empty(status: StatusCode) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }
}

/// What a policy decides about a request.
#[derive(Debug)]
pub enum Verdict {
    /// Go on.
    Continue,
    /// This is the answer.
    Respond(Reply),
    /// Somebody has to be asked first.
    Ask,
}
