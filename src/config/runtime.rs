//! `runtime`: settings of the whole process.

use schemars::JsonSchema;
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};

use crate::base::units::{Share, Span};

/// Process-wide settings.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Runtime {
    /// Worker threads, or `auto` for one a core. Default `auto`.
    #[serde(default)]
    pub threads: Threads,
    /// A folder for what the process has to remember when it is started again: which tokens were revoked. It is made when
    /// there is something to remember. Default: none, and no token can be revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_dir: Option<String>,
    /// How long what is under way may go on when the process is asked to stop.
    #[serde(default)]
    pub drain: Drain,
    /// When new requests get 503, so that those under way can be finished.
    #[serde(default)]
    pub overload: Overload,
}

/// When new requests get 503.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Overload {
    /// The share of the memory that the process may hold: of its control group's, else of the machine's. Default `90%`.
    #[serde(default = "nearly_all")]
    pub memory: Share,
    /// When clients are told to come back, in whole seconds, at least 1. Default `5s`.
    #[serde(default = "five_seconds")]
    pub retry_after: Span,
}

const fn nearly_all() -> Share {
    Share::from_percent(90)
}

const fn five_seconds() -> Span {
    Span::from_secs(5)
}

impl Default for Overload {
    fn default() -> Self {
        Self {
            memory: nearly_all(),
            retry_after: five_seconds(),
        }
    }
}

/// How long what is under way may go on, counted from the signal that asks the process to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Drain {
    /// Requests without a whole answer; then they are cut off. Default 30s.
    #[serde(default = "half_a_minute")]
    pub requests: Span,
    /// Connections that left HTTP, such as WebSockets; then they are closed. Default 60s.
    #[serde(default = "a_minute")]
    pub websockets: Span,
}

const fn half_a_minute() -> Span {
    Span::from_secs(30)
}

const fn a_minute() -> Span {
    Span::from_secs(60)
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            requests: half_a_minute(),
            websockets: a_minute(),
        }
    }
}

/// How many worker threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Threads {
    /// One a core.
    #[default]
    Auto,
    /// So many, 1 to 1024.
    Count(u16),
}

impl Serialize for Threads {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => to.serialize_str("auto"),
            Self::Count(count) => to.serialize_u16(*count),
        }
    }
}

impl<'de> Deserialize<'de> for Threads {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Form;
        impl Visitor<'_> for Form {
            type Value = Threads;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("`auto` or a number of threads from 1 to 1024")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Threads, E> {
                if text == "auto" {
                    Ok(Threads::Auto)
                } else {
                    Err(E::invalid_value(de::Unexpected::Str(text), &self))
                }
            }
            fn visit_u64<E: de::Error>(self, count: u64) -> Result<Threads, E> {
                let fits = u16::try_from(count)
                    .ok()
                    .filter(|count| (1..=1024).contains(count));
                fits.map(Threads::Count)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(count), &self))
            }
        }
        from.deserialize_any(Form)
    }
}

impl JsonSchema for Threads {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Threads".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "anyOf": [{ "const": "auto" }, { "type": "integer", "minimum": 1, "maximum": 1024 }] })
    }
}
