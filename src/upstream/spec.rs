//! An upstream as written.

use std::num::NonZeroU16;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::net::TargetUrl;

/// A group of targets that answer the same requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Where requests go, by turns and by weight. At least one.
    pub targets: Vec<TargetSpec>,
}

/// One source of targets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TargetSpec {
    /// Scheme, host and port, e.g. `http://10.1.0.11:8080`. A name is looked up again as its time to live ends.
    pub url: TargetUrl,
    /// How many requests go here for each one that goes to a target of weight 1. Default 1, at most 1000.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1000))]
    pub weight: NonZeroU16,
}

const fn one() -> NonZeroU16 {
    NonZeroU16::MIN
}
