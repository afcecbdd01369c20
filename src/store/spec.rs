//! Stores as written.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use crate::base::units::Span;

/// Where something is kept: exactly one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StoreSpec {
    /// In a folder of this machine.
    File(FileSpec),
    /// In a Redis, for gateways on several machines.
    Redis(RedisSpec),
}

/// A folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileSpec {
    /// The folder, which is made where it is missing, e.g. `/var/lib/doorward/state`. Only the gateway's user may read it. A
    /// relative path is relative to the config file.
    pub path: String,
}

/// A Redis.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedisSpec {
    /// Where it is: `redis://HOST:PORT/DATABASE`, or `rediss://` over TLS. A user's name may stand before the host.
    pub url: String,
    /// Its password: a secret. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "secret_schema")]
    pub password: Option<String>,
    /// How long a short answer may take; a whole document has five seconds. Default `1s`.
    #[serde(default = "a_second")]
    pub timeout: Span,
}

impl RedisSpec {
    /// Host and port, for people.
    #[must_use]
    pub fn authority(&self) -> &str {
        let rest = self.url.split_once("://").map_or("", |(_, rest)| rest);
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        authority.rsplit('@').next().unwrap_or_default()
    }
}

impl std::fmt::Debug for RedisSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never its password.
        let mut f = f.debug_struct("RedisSpec");
        f.field("url", &self.url).finish_non_exhaustive()
    }
}

const fn a_second() -> Span {
    Span::from_secs(1)
}

/// In the file a secret may come from elsewhere.
fn secret_schema(_: &mut SchemaGenerator) -> Schema {
    let from = |key: &str| serde_json::json!({ "type": "object", "additionalProperties": false, "required": [key], "properties": { key: { "type": "string" } } });
    schemars::json_schema!({ "anyOf": [{ "type": "string" }, from("env"), from("file"), from("credential")] })
}
