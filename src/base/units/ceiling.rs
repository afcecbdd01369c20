//! A number in a second that is not to be gone over, or none.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use super::{Per, Rate, TextError, TextForm};

/// So many in a second at most, or as many as come: `500/s`, `none`; never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ceiling(Option<NonZeroU32>);

impl Ceiling {
    /// So many; for defaults.
    #[must_use]
    pub const fn new(count: NonZeroU32) -> Self {
        Self(Some(count))
    }

    /// How many in a second; `None`: as many as come.
    #[must_use]
    pub fn per_second(self) -> Option<u32> {
        self.0.map(NonZeroU32::get)
    }
}

impl TextForm for Ceiling {
    const WHAT: &'static str = "a rate, or `none`";
    const EXAMPLE: &'static str = "500/s";
    const PATTERN: &'static str = "[0-9]+/s|none";
}

impl FromStr for Ceiling {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        if text == "none" {
            return Ok(Self(None));
        }
        let rate: Rate = text.parse()?;
        if rate.per() != Per::Second {
            return Err(TextError(format!(
                "`{text}` is counted in each second: write e.g. `{}`",
                Self::EXAMPLE
            )));
        }
        Ok(Self(NonZeroU32::new(rate.count())))
    }
}

impl fmt::Display for Ceiling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(count) => write!(f, "{count}/s"),
            None => f.write_str("none"),
        }
    }
}
