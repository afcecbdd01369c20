//! `admin` as written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::net::ListenAddress;

/// The admin interface.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// A unix socket with full rights, e.g. `/run/doorward/admin.sock`. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<String>,
    /// An address, e.g. `127.0.0.1:9901`. Anything but loopback needs `tokens`. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<ListenAddress>,
    /// Who may do what at the address; none = anybody on this machine may do everything but look at consumers and keys, and change
    /// them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<TokenSpec>,
}

/// A bearer token, known by its digest only.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenSpec {
    /// SHA-256 of the token, in 64 hexadecimal digits.
    pub sha256: String,
    /// What it is good for.
    pub role: Role,
}

/// What a token is good for.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// May look.
    Viewer,
    /// May look, and change what runs: reload, targets, breakers.
    Operator,
    /// May do everything, also say who may come in: consumers and keys.
    Admin,
}
