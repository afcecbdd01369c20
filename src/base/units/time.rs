//! Spans of time, and dates.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveTime, SecondsFormat};

use super::{TextError, TextForm, scaled, split_unit, unknown_unit, unreadable, unscaled};

/// A span of time: `300ms`, `5s`, `1.5h`; zero to ten years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(Duration);

impl Span {
    const MAX: Duration = Duration::from_secs(3650 * 86_400);
    /// Longest first, in milliseconds.
    const UNITS: [(&str, u64); 5] = [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
        ("ms", 1),
    ];

    /// So many milliseconds; for defaults.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    /// So many seconds; for defaults.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }

    /// The span itself.
    #[must_use]
    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        span.0
    }
}

impl TextForm for Span {
    const WHAT: &'static str = "a duration";
    const EXAMPLE: &'static str = "5s";
    const PATTERN: &'static str = r"[0-9]+(?:\.[0-9]{1,6})?(?:ms|s|m|h|d)";
}

impl FromStr for Span {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let (number, unit) = split_unit(text);
        let Some((_, millis)) = Self::UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(unknown_unit::<Self>(
                text,
                unit,
                "`ms`, `s`, `m`, `h` or `d`",
            ));
        };
        if number.is_empty()
            || number.split('.').any(str::is_empty)
            || number.split('.').count() > 2
        {
            return Err(unreadable::<Self>(text));
        }
        if number
            .split_once('.')
            .is_some_and(|(_, fraction)| fraction.len() > 6)
        {
            return Err(TextError(format!(
                "`{text}` is too fine: at most 6 digits after the point"
            )));
        }
        // A millionth of a millisecond is a nanosecond: whatever can be written is exact.
        let nanos = scaled(number, 6).and_then(|millionths| millionths.checked_mul(*millis));
        match nanos.map(Duration::from_nanos) {
            Some(span) if span <= Self::MAX => Ok(Self(span)),
            _ => Err(TextError(format!("`{text}` is too long: at most `3650d`"))),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX);
        if nanos == 0 {
            return f.write_str("0s");
        }
        let exact = Self::UNITS
            .iter()
            .find(|(_, millis)| nanos.is_multiple_of(millis * 1_000_000));
        match exact {
            Some((unit, millis)) => write!(f, "{}{unit}", nanos / (millis * 1_000_000)),
            None => write!(f, "{}ms", unscaled(nanos, 6)),
        }
    }
}

/// A point in time: `2026-09-01` (midnight UTC) or `2026-12-01T00:00:00Z` (RFC 3339, any offset).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date(i64);

impl Date {
    /// Milliseconds since 1970-01-01 UTC, as [`crate::base::clock::Clock::unix_millis`] gives them.
    #[must_use]
    pub const fn unix_millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since 1970-01-01 UTC.
    #[must_use]
    pub const fn unix_secs(self) -> i64 {
        self.0.div_euclid(1000)
    }
}

impl TextForm for Date {
    const WHAT: &'static str = "a date";
    const EXAMPLE: &'static str = "2026-09-01";
    const PATTERN: &'static str = r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:Z|[+-][0-9]{2}:[0-9]{2}))?";
}

impl FromStr for Date {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let no_date = || {
            TextError(format!(
                "`{text}` is not a date: write e.g. `2026-09-01` or `2026-09-01T12:00:00Z`"
            ))
        };
        let shape: String = text
            .chars()
            .take(11)
            .map(|c| if c.is_ascii_digit() { '0' } else { c })
            .collect();
        if shape == "0000-00-00" {
            let day = text.parse::<NaiveDate>().ok().ok_or_else(no_date)?;
            return Ok(Self(
                day.and_time(NaiveTime::MIN).and_utc().timestamp_millis(),
            ));
        }
        if shape != "0000-00-00T" {
            return Err(no_date());
        }
        if let Ok(instant) = DateTime::parse_from_rfc3339(text) {
            return Ok(Self(instant.timestamp_millis()));
        }
        match DateTime::parse_from_rfc3339(&format!("{text}Z")) {
            Ok(_) => Err(TextError(format!(
                "`{text}` does not say its offset: write `{text}Z` for UTC"
            ))),
            Err(_) => Err(no_date()),
        }
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let instant = DateTime::from_timestamp_millis(self.0).unwrap_or_default();
        if instant.time() == NaiveTime::MIN {
            return write!(f, "{}", instant.date_naive());
        }
        f.write_str(&instant.to_rfc3339_opts(SecondsFormat::AutoSi, true))
    }
}

/// IMF-fixdate, the date of HTTP header fields (RFC 9110 §5.6.7): `Tue, 01 Sep 2026 00:00:00 GMT`.
#[must_use]
pub fn http_date(unix_secs: i64) -> String {
    // The form has four digits for the year.
    let secs = unix_secs.clamp(0, 253_402_300_799);
    let instant = DateTime::from_timestamp(secs, 0).unwrap_or_default();
    instant.format("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// A Date of Structured Fields (RFC 9651 §3.3.7), as `Deprecation` wants it (RFC 9745): `@1788220800`.
#[must_use]
pub fn structured_date(unix_secs: i64) -> String {
    format!("@{unix_secs}")
}

/// RFC 3339 with milliseconds in UTC, as logs have it: `2026-09-01T12:00:00.000Z`.
#[must_use]
pub fn log_date(unix_millis: i64) -> String {
    let instant = DateTime::from_timestamp_millis(unix_millis).unwrap_or_default();
    instant.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// As in the common log format: `01/Sep/2026:12:00:00 +0000`.
#[must_use]
pub fn clf_date(unix_millis: i64) -> String {
    let instant = DateTime::from_timestamp_millis(unix_millis).unwrap_or_default();
    instant.format("%d/%b/%Y:%H:%M:%S +0000").to_string()
}
