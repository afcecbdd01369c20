//! Values that the config writes as text with a unit: spans of time, sizes, rates, shares and dates.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use schemars::{Schema, json_schema};
use serde::de::{self, Visitor};

mod amount;
mod ceiling;
#[cfg(test)]
mod tests;
mod time;

pub use amount::{Allowance, ByteRate, ByteSize, Calendar, Per, Rate, Ratio, Share};
pub use ceiling::Ceiling;
pub use time::{Date, Span, http_date, log_date, push_clf_date, push_log_date, structured_date};

/// Why a text is not what it should be: lower case, with a hint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextError(String);

impl TextError {
    /// An error that says `what`.
    pub fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TextError {}

/// A value that the config writes as one text; `text_form!` gives it serde and a schema.
pub trait TextForm: FromStr<Err = TextError> + fmt::Display {
    /// What it is, with its article: "a duration".
    const WHAT: &'static str;
    /// One good text: `5s`.
    const EXAMPLE: &'static str;
    /// A regular expression (ECMA 262) for the whole text, for the schema.
    const PATTERN: &'static str;
}

/// Implements `Deserialize`, `Serialize` and `JsonSchema` for types that are a [`TextForm`].
macro_rules! text_form {
    ($($type:ident),* $(,)?) => { $(
        impl<'de> ::serde::Deserialize<'de> for $type {
            fn deserialize<D: ::serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                from.deserialize_any($crate::base::units::TextVisitor::<Self>::default())
            }
        }

        impl ::serde::Serialize for $type {
            fn serialize<S: ::serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl ::schemars::JsonSchema for $type {
            fn schema_name() -> ::std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut ::schemars::SchemaGenerator) -> ::schemars::Schema {
                $crate::base::units::text_schema::<Self>()
            }
        }
    )* };
}
pub(crate) use text_form;

text_form!(
    Span, ByteSize, ByteRate, Rate, Ceiling, Allowance, Share, Ratio, Date
);

/// Reads a [`TextForm`] from a string; a bare number gets the error its text would get.
#[derive(Debug)]
pub struct TextVisitor<T>(PhantomData<T>);

impl<T> Default for TextVisitor<T> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: TextForm> Visitor<'_> for TextVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, e.g. `{}`", T::WHAT, T::EXAMPLE)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

/// The schema of a [`TextForm`]. A text with `${…}` always fits: what it becomes is known only when it is read.
#[must_use]
pub fn text_schema<T: TextForm>() -> Schema {
    json_schema!({
        "type": "string",
        "pattern": format!("^(?:{})$|\\$\\{{", T::PATTERN),
        "examples": [T::EXAMPLE],
    })
}

/// "`x` is not a duration: write one number and one unit, e.g. `5s`"; for a bare number, that it has no unit.
fn unreadable<T: TextForm>(text: &str) -> TextError {
    let example = T::EXAMPLE;
    let digits = text.strip_prefix('-').unwrap_or(text);
    if !digits.is_empty()
        && digits
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.')
    {
        return TextError(format!(
            "bare number `{text}` has no unit: write e.g. `{example}`"
        ));
    }
    TextError(format!(
        "`{text}` is not {}: write e.g. `{example}`",
        T::WHAT
    ))
}

/// "unknown unit `sec` in `5sec`: use `ms`, `s`, `m`, `h` or `d`"; the unit is a word, else the text as a whole is [`unreadable`].
fn unknown_unit<T: TextForm>(text: &str, unit: &str, known: &str) -> TextError {
    if unit.is_empty() || unit == text || !unit.bytes().all(|byte| byte.is_ascii_alphabetic()) {
        return unreadable::<T>(text);
    }
    TextError(format!("unknown unit `{unit}` in `{text}`: use {known}"))
}

/// The number at the start of `text`, and the rest.
fn split_unit(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

/// A decimal number times ten to the power of `decimals`, which is also the most digits it may have after the point.
fn scaled(number: &str, decimals: usize) -> Option<u64> {
    let (whole, fraction) = match number.split_once('.') {
        Some((whole, fraction)) if !whole.is_empty() && !fraction.is_empty() => (whole, fraction),
        Some(_) => return None,
        None => (number, ""),
    };
    let digits = format!("{whole}{fraction:0<decimals$}");
    let readable = !whole.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !readable || fraction.len() > decimals {
        return None;
    }
    digits.parse().ok()
}

/// `units` of a `1/10^decimals` each, without needless zeros: the inverse of [`scaled`].
fn unscaled(units: u64, decimals: u32) -> String {
    let one = 10_u64.pow(decimals);
    let width = usize::try_from(decimals).unwrap_or_default();
    let text = format!("{}.{:0width$}", units / one, units % one);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}
