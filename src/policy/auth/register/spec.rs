//! `keys` as written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::units::Span;

/// Consumers and keys that are made while the gateway runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeysSpec {
    /// Where they live: one of `stores`.
    pub store: String,
    /// For so long what was read last holds while the store cannot be read; then nobody of theirs is let in any more, and no
    /// consumer of the config, who may be suspended: 503. Default `5m`.
    #[serde(default = "five_minutes")]
    pub max_age: Span,
}

const fn five_minutes() -> Span {
    Span::from_secs(300)
}
