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
    /// The date so many milliseconds after 1970-01-01 UTC.
    #[must_use]
    pub const fn from_unix_millis(millis: i64) -> Self {
        Self(millis)
    }

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
    let mut out = Vec::with_capacity(24);
    push_log_date(&mut out, unix_millis);
    String::from_utf8(out).unwrap_or_default()
}

/// Adds [`log_date`] to `out`. By hand, because every request has one.
pub fn push_log_date(out: &mut Vec<u8>, unix_millis: i64) {
    let at = Moment::of(unix_millis);
    let (year, month, day) = civil(at.days);
    let mut text = *b"0000-00-00T00:00:00.000Z";
    for (place, value) in [
        (0..4, year),
        (5..7, month),
        (8..10, day),
        (11..13, at.hour),
        (14..16, at.minute),
        (17..19, at.second),
        (20..23, at.milli),
    ] {
        write_digits(text.get_mut(place), value);
    }
    out.extend_from_slice(&text);
}

/// Adds the date as in the common log format to `out`: `01/Sep/2026:12:00:00 +0000`.
pub fn push_clf_date(out: &mut Vec<u8>, unix_millis: i64) {
    const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    let at = Moment::of(unix_millis);
    let (year, month, day) = civil(at.days);
    let mut text = *b"00/Jan/0000:00:00:00 +0000";
    for (place, value) in [
        (0..2, day),
        (7..11, year),
        (12..14, at.hour),
        (15..17, at.minute),
        (18..20, at.second),
    ] {
        write_digits(text.get_mut(place), value);
    }
    let name = usize::try_from(month - 1).ok().map(|month| month * 3);
    let name = name.and_then(|start| MONTHS.get(start..start + 3));
    if let (Some(place), Some(name)) = (text.get_mut(3..6), name) {
        place.copy_from_slice(name);
    }
    out.extend_from_slice(&text);
}

/// A point in time, taken apart.
struct Moment {
    /// Since 1970-01-01.
    days: i64,
    hour: i64,
    minute: i64,
    second: i64,
    milli: i64,
}

impl Moment {
    fn of(unix_millis: i64) -> Self {
        // The form has four digits for the year.
        let millis = unix_millis.clamp(0, 253_402_300_799_999);
        let (days, millis) = (millis / 86_400_000, millis % 86_400_000);
        Self {
            days,
            hour: millis / 3_600_000,
            minute: millis / 60_000 % 60,
            second: millis / 1000 % 60,
            milli: millis % 1000,
        }
    }
}

fn write_digits(place: Option<&mut [u8]>, value: i64) {
    let mut rest = value;
    for digit in place.into_iter().flatten().rev() {
        *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
    }
}

/// Year, month and day of a day since 1970-01-01. Years begin in March, so that the day that comes and goes is the last.
fn civil(days: i64) -> (i64, i64, i64) {
    // 400 years have 146,097 days; day 719,468 before 1970 is the first of March of the year 0.
    let shifted = days + 719_468;
    let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let first = (153 * month + 2) / 5;
    let turned = i64::from(month >= 10);
    (
        year + era * 400 + turned,
        month + 3 - 12 * turned,
        day - first + 1,
    )
}
