//! Sizes, rates and shares.

use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};
use std::str::FromStr;
use std::time::Duration;

use super::{TextError, TextForm, scaled, split_unit, unknown_unit, unreadable, unscaled};

/// A number of bytes: `512B`, `8KiB`, `10MiB`, `20GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

impl ByteSize {
    /// Largest first.
    const UNITS: [(&str, u64); 5] = [
        ("TiB", 1 << 40),
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
        ("B", 1),
    ];

    /// So many bytes; for defaults.
    #[must_use]
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// So many times 1024 bytes; for defaults.
    #[must_use]
    pub const fn from_kib(kib: u32) -> Self {
        Self((kib as u64) << 10)
    }

    /// So many times 1024² bytes; for defaults.
    #[must_use]
    pub const fn from_mib(mib: u32) -> Self {
        Self((mib as u64) << 20)
    }

    /// The number of bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl TextForm for ByteSize {
    const WHAT: &'static str = "a size";
    const EXAMPLE: &'static str = "10MiB";
    const PATTERN: &'static str = "[0-9]+(?:B|KiB|MiB|GiB|TiB)";
}

impl FromStr for ByteSize {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let (number, unit) = split_unit(text);
        let Some((_, bytes)) = Self::UNITS.iter().find(|(name, _)| *name == unit) else {
            let stem = size_stem(unit);
            let meant = Self::UNITS.iter().find(|(name, _)| size_stem(name) == stem);
            return Err(match meant {
                Some((name, _)) if !unit.is_empty() && !number.is_empty() => TextError(format!(
                    "unknown unit `{unit}` in `{text}`: write `{number}{name}`"
                )),
                _ => unknown_unit::<Self>(text, unit, "`B`, `KiB`, `MiB`, `GiB` or `TiB`"),
            });
        };
        if number.contains('.') {
            return Err(TextError(format!(
                "`{text}` is not a whole number: use a smaller unit"
            )));
        }
        if number.is_empty() {
            return Err(unreadable::<Self>(text));
        }
        let size = scaled(number, 0).and_then(|number| number.checked_mul(*bytes));
        // Lengths are also kept in signed 64-bit numbers.
        match size.filter(|size| i64::try_from(*size).is_ok()) {
            Some(size) => Ok(Self(size)),
            None => Err(TextError(format!(
                "`{text}` is too large: at most `8388607TiB`"
            ))),
        }
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = Self::UNITS
            .iter()
            .find(|(_, bytes)| self.0 != 0 && self.0.is_multiple_of(*bytes));
        let (unit, bytes) = exact.unwrap_or(&("B", 1));
        write!(f, "{}{unit}", self.0 / bytes)
    }
}

/// What `KiB`, `KB`, `kb` and `k` have in common.
fn size_stem(unit: &str) -> String {
    let lower = unit.to_ascii_lowercase();
    let stem = lower.strip_suffix('b').unwrap_or(&lower);
    stem.strip_suffix('i').unwrap_or(stem).to_owned()
}

/// Bytes in a second: `256B/s`, `1MiB/s`; never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteRate(NonZeroU64);

impl ByteRate {
    /// So many bytes in a second; for defaults.
    #[must_use]
    pub const fn from_bytes(bytes: NonZeroU64) -> Self {
        Self(bytes)
    }

    /// Bytes in a second.
    #[must_use]
    pub const fn bytes_per_second(self) -> u64 {
        self.0.get()
    }
}

impl TextForm for ByteRate {
    const WHAT: &'static str = "a number of bytes in a second";
    const EXAMPLE: &'static str = "256B/s";
    const PATTERN: &'static str = "[0-9]+(?:B|KiB|MiB|GiB|TiB)/s";
}

impl FromStr for ByteRate {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let Some(size) = text.strip_suffix("/s") else {
            return Err(unreadable::<Self>(text));
        };
        if scaled(size, 0).is_some() {
            return Err(unreadable::<Self>(size));
        }
        let bytes = size.parse::<ByteSize>()?.bytes();
        NonZeroU64::new(bytes)
            .map(Self)
            .ok_or_else(|| nothing_passes(text))
    }
}

impl fmt::Display for ByteRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", ByteSize(self.0.get()))
    }
}

/// The time of a [`Rate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Per {
    /// `/s`.
    Second,
    /// `/min`.
    Minute,
    /// `/h`.
    Hour,
    /// `/d`: 24 hours.
    Day,
}

impl Per {
    const UNITS: [(&str, Self); 4] = [
        ("s", Self::Second),
        ("min", Self::Minute),
        ("h", Self::Hour),
        ("d", Self::Day),
    ];

    /// How long it is.
    #[must_use]
    pub const fn duration(self) -> Duration {
        Duration::from_secs(match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
        })
    }
}

/// How often: `50/s`, `100/min`, `1000/h`, `10/d`; never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate {
    count: NonZeroU32,
    per: Per,
}

impl Rate {
    /// `count` in each `per`; for defaults.
    #[must_use]
    pub const fn new(count: NonZeroU32, per: Per) -> Self {
        Self { count, per }
    }

    /// How many in each [`Rate::period`].
    #[must_use]
    pub const fn count(self) -> u32 {
        self.count.get()
    }

    /// The unit after the slash.
    #[must_use]
    pub const fn per(self) -> Per {
        self.per
    }

    /// How long the unit after the slash is.
    #[must_use]
    pub const fn period(self) -> Duration {
        self.per.duration()
    }

    /// The time from one to the next, when they are evenly spread; at least a nanosecond.
    #[must_use]
    pub fn interval(self) -> Duration {
        (self.period() / self.count.get()).max(Duration::from_nanos(1))
    }

    /// How many in a second.
    #[must_use]
    pub fn per_second(self) -> f64 {
        f64::from(self.count.get()) / self.period().as_secs_f64()
    }
}

impl TextForm for Rate {
    const WHAT: &'static str = "a rate";
    const EXAMPLE: &'static str = "50/s";
    const PATTERN: &'static str = "[0-9]+/(?:s|min|h|d)";
}

impl FromStr for Rate {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let (count, unit) = split_rate::<Self>(text)?;
        let Some((_, per)) = Per::UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(unknown_unit::<Self>(text, unit, "`s`, `min`, `h` or `d`"));
        };
        let count = u32::try_from(count).ok().and_then(NonZeroU32::new);
        let count = count.ok_or_else(|| {
            TextError(format!(
                "`{text}` is too much: at most `{}/{unit}`",
                u32::MAX
            ))
        })?;
        Ok(Self { count, per: *per })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = Per::UNITS
            .iter()
            .find(|(_, per)| *per == self.per)
            .map_or("s", |(name, _)| name);
        write!(f, "{}/{unit}", self.count)
    }
}

/// The stretch of the calendar of an [`Allowance`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Calendar {
    /// `/h`, from minute 0.
    Hour,
    /// `/d`, from midnight.
    Day,
    /// `/week`, from Monday (ISO 8601).
    Week,
    /// `/month`, from the 1st.
    Month,
    /// `/year`, from January 1st.
    Year,
}

impl Calendar {
    const UNITS: [(&str, Self); 5] = [
        ("h", Self::Hour),
        ("d", Self::Day),
        ("week", Self::Week),
        ("month", Self::Month),
        ("year", Self::Year),
    ];
}

/// How many in a stretch of the calendar, for quotas: `10000/month`; never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Allowance {
    count: NonZeroU64,
    per: Calendar,
}

impl Allowance {
    /// How many in each stretch.
    #[must_use]
    pub const fn count(self) -> u64 {
        self.count.get()
    }

    /// The stretch.
    #[must_use]
    pub const fn per(self) -> Calendar {
        self.per
    }
}

impl TextForm for Allowance {
    const WHAT: &'static str = "a quota";
    const EXAMPLE: &'static str = "10000/month";
    const PATTERN: &'static str = "[0-9]+/(?:h|d|week|month|year)";
}

impl FromStr for Allowance {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let (count, unit) = split_rate::<Self>(text)?;
        let Some((_, per)) = Calendar::UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(unknown_unit::<Self>(
                text,
                unit,
                "`h`, `d`, `week`, `month` or `year`",
            ));
        };
        let count = NonZeroU64::new(count).ok_or_else(|| nothing_passes(text))?;
        Ok(Self { count, per: *per })
    }
}

impl fmt::Display for Allowance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = Calendar::UNITS
            .iter()
            .find(|(_, per)| *per == self.per)
            .map_or("h", |(name, _)| name);
        write!(f, "{}/{unit}", self.count)
    }
}

/// A part of a whole: `5%`, `0.5%`; 0 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share(u32);

impl Share {
    /// The whole, in the parts that [`Share::parts`] counts.
    pub const WHOLE: u32 = 1_000_000;

    /// So many per cent, at most 100; for defaults.
    #[must_use]
    pub const fn from_percent(percent: u8) -> Self {
        Self(if percent > 100 {
            Self::WHOLE
        } else {
            percent as u32 * 10_000
        })
    }

    /// How many parts of [`Share::WHOLE`]; a draw from `0..WHOLE` below it hits.
    #[must_use]
    pub const fn parts(self) -> u32 {
        self.0
    }

    /// This share of `whole`, rounded down.
    #[must_use]
    pub fn of(self, whole: u64) -> u64 {
        let share = u128::from(whole) * u128::from(self.0) / u128::from(Self::WHOLE);
        u64::try_from(share).unwrap_or(u64::MAX)
    }

    /// From 0 to 1.
    #[must_use]
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / f64::from(Self::WHOLE)
    }
}

impl TextForm for Share {
    const WHAT: &'static str = "a share";
    const EXAMPLE: &'static str = "5%";
    const PATTERN: &'static str = r"[0-9]+(?:\.[0-9]{1,4})?%";
}

impl FromStr for Share {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        percentage::<Self>(text, 100).map(Self)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", unscaled(self.0.into(), 4))
    }
}

/// A part or a multiple of a whole: `125%`; 0 to 1000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ratio(u32);

impl Ratio {
    /// So many per cent; for defaults.
    #[must_use]
    pub const fn from_percent(percent: u8) -> Self {
        Self(percent as u32 * 10_000)
    }

    /// In thousandths, rounded down.
    #[must_use]
    pub const fn thousandths(self) -> u32 {
        self.0 / 1000
    }

    /// From 0 to 10.
    #[must_use]
    pub fn factor(self) -> f64 {
        f64::from(self.0) / f64::from(Share::WHOLE)
    }
}

impl TextForm for Ratio {
    const WHAT: &'static str = "a percentage";
    const EXAMPLE: &'static str = "125%";
    const PATTERN: &'static str = r"[0-9]+(?:\.[0-9]{1,4})?%";
}

impl FromStr for Ratio {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        percentage::<Self>(text, 1000).map(Self)
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", unscaled(self.0.into(), 4))
    }
}

/// The count before the slash of a rate, and the unit after it.
fn split_rate<T: TextForm>(text: &str) -> Result<(u64, &str), TextError> {
    let (count, unit) = text.split_once('/').ok_or_else(|| unreadable::<T>(text))?;
    if count.contains('.') && scaled(count, 9).is_some() {
        return Err(TextError(format!(
            "`{text}` is not whole: use a longer unit, e.g. `30/min` for one every 2s"
        )));
    }
    match scaled(count, 0) {
        Some(0) => Err(nothing_passes(text)),
        Some(count) => Ok((count, unit)),
        None => Err(unreadable::<T>(text)),
    }
}

fn nothing_passes(text: &str) -> TextError {
    TextError(format!(
        "`{text}` would let nothing through: at least 1 is needed"
    ))
}

/// Millionths, from a text in per cent.
fn percentage<T: TextForm>(text: &str, percent_max: u32) -> Result<u32, TextError> {
    let (number, unit) = split_unit(text);
    if unit != "%" || number.is_empty() {
        return Err(unreadable::<T>(text));
    }
    if number
        .split_once('.')
        .is_some_and(|(_, fraction)| fraction.len() > 4)
    {
        return Err(TextError(format!(
            "`{text}` is too fine: at most 4 digits after the point"
        )));
    }
    let parts = scaled(number, 4).ok_or_else(|| unreadable::<T>(text))?;
    let parts = u32::try_from(parts)
        .ok()
        .filter(|parts| *parts <= percent_max * 10_000);
    parts.ok_or_else(|| TextError(format!("`{text}` is too much: at most `{percent_max}%`")))
}
