//! `Retry-After`: when to come back (RFC 9110 section 10.2.3).

use std::time::Duration;

use chrono::DateTime;
use http::HeaderValue;

/// How long to wait, as `value` says it: in seconds, or up to a date; none where it says neither. It is `unix_millis` now.
#[must_use]
pub fn retry_after(value: Option<&HeaderValue>, unix_millis: i64) -> Option<Duration> {
    let text = value?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    let date = DateTime::parse_from_rfc2822(text).ok()?;
    let left = date.timestamp_millis().saturating_sub(unix_millis);
    Some(Duration::from_millis(u64::try_from(left).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_nothing_else() {
        // 1 September 2026.
        let now = 1_788_220_800_000;
        for (text, seconds) in [
            ("0", Some(0)),
            ("120", Some(120)),
            ("Tue, 01 Sep 2026 00:00:30 GMT", Some(30)),
            ("Mon, 31 Aug 2026 00:00:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
            ("1.5", None),
        ] {
            let value = HeaderValue::from_static(text);
            let read = retry_after(Some(&value), now);
            assert_eq!(read, seconds.map(Duration::from_secs), "{text}");
        }
        assert_eq!(retry_after(None, now), None);
    }
}
