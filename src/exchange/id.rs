//! The name of one request, for client, upstream, log and error answers.

use http::HeaderValue;
use uuid::{ContextV7, Timestamp, Uuid};

/// A request's id: a UUID of version 7 (RFC 9562), or the text a trusted proxy sent.
#[derive(Debug, Clone, Default)]
pub struct RequestId(Option<HeaderValue>);

impl RequestId {
    /// A new one; ids made later sort later.
    #[must_use]
    pub fn new(unix_millis: i64) -> Self {
        let millis = u64::try_from(unix_millis).unwrap_or(0);
        let nanos = u32::try_from(millis % 1000).unwrap_or(0) * 1_000_000;
        let timestamp = Timestamp::from_unix(ContextV7::new(), millis / 1000, nanos);
        let mut buffer = Uuid::encode_buffer();
        let text = Uuid::new_v7(timestamp)
            .hyphenated()
            .encode_lower(&mut buffer);
        Self(HeaderValue::from_str(text).ok())
    }

    /// The id a trusted proxy gave; the caller has checked its form.
    #[must_use]
    pub const fn given(value: HeaderValue) -> Self {
        Self(Some(value))
    }

    /// As a header's value.
    #[must_use]
    pub const fn value(&self) -> Option<&HeaderValue> {
        self.0.as_ref()
    }

    /// As text; empty until there is one.
    #[must_use]
    pub fn text(&self) -> &str {
        self.0
            .as_ref()
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }
}
