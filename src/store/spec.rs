//! Stores as written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where something is kept: exactly one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StoreSpec {
    /// In a folder of this machine.
    File(FileSpec),
}

/// A folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileSpec {
    /// The folder, which is made where it is missing, e.g. `/var/lib/doorward/state`. Only the gateway's user may read it. A
    /// relative path is relative to the config file.
    pub path: String,
}
