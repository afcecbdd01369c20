//! Credentials as written.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

/// What targets are shown: exactly one. A secret is `{ env: X }`, `{ file: path }` or `{ credential: name }`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CredentialsSpec {
    /// A name and a password (RFC 7617).
    Basic(BasicSpec),
    /// A header that is always the same, e.g. a key.
    Header(HeaderSpec),
    /// A token of an authority (RFC 6749 section 4.4), asked for in time before the last one ends. Without one nothing is sent:
    /// 503.
    ClientCredentials(ClientCredentialsSpec),
    /// A signature over each request, as AWS wants it (version 4). Bodies that pass piece by piece are not signed.
    Sigv4(SigV4Spec),
}

/// A name and a password.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BasicSpec {
    /// The name.
    pub username: String,
    /// The password: a secret.
    #[schemars(schema_with = "secret_schema")]
    pub password: String,
}

/// A header that is always the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeaderSpec {
    /// The header's name, e.g. `x-api-key`.
    pub name: String,
    /// All of its value: a secret.
    #[schemars(schema_with = "secret_schema")]
    pub value: String,
}

/// Where tokens come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientCredentialsSpec {
    /// Whom to ask, e.g. `https://id.example.com/token`.
    pub token_url: String,
    /// Who we are there.
    pub client_id: String,
    /// And how it is proved: a secret.
    #[schemars(schema_with = "secret_schema")]
    pub client_secret: String,
    /// What the token is for, e.g. `orders:read orders:write`. Default: what the authority thinks fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// For whom the token is, where the authority wants to know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// How the secret is sent: in `Authorization` (`basic`), or with the question (`post`). Default `basic`.
    #[serde(default)]
    pub client_auth: ClientAuth,
}

/// How a client proves who it is to an authority (RFC 6749 section 2.3.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// In `Authorization`.
    #[default]
    Basic,
    /// In the body.
    Post,
}

/// Whose signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SigV4Spec {
    /// The region, e.g. `eu-central-1`.
    pub region: String,
    /// The service, e.g. `s3` or `execute-api`.
    pub service: String,
    /// The id of the key.
    pub access_key_id: String,
    /// The key: a secret.
    #[schemars(schema_with = "secret_schema")]
    pub secret_access_key: String,
    /// The token of a session: a secret. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "secret_schema")]
    pub session_token: Option<String>,
}

/// In the file a secret may come from elsewhere.
pub(in crate::upstream) fn secret_schema(_: &mut SchemaGenerator) -> Schema {
    let from = |key: &str| serde_json::json!({ "type": "object", "additionalProperties": false, "required": [key], "properties": { key: { "type": "string" } } });
    schemars::json_schema!({ "anyOf": [{ "type": "string" }, from("env"), from("file"), from("credential")] })
}
