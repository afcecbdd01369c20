//! `tests` as written: a request, what upstreams would say, and what is expected of the answer.

use std::collections::BTreeMap;
use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::base::units::Date;

/// A request that `doorward test` tries without a network.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestTest {
    /// What is shown by `doorward test`. Default: the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Method and URL, e.g. `GET https://api.example.com/v1/orders/7`.
    pub request: String,
    /// Headers of the request.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The body of the request as JSON; `content-type` says so, unless `headers` say something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<Json>,
    /// The body as text; likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The name of the listener. Default: the one with the URL's port, else the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<String>,
    /// Who asks.
    #[serde(default, rename = "as", skip_serializing_if = "Option::is_none")]
    pub asker: Option<Asker>,
    /// The time of day, e.g. `2026-11-22T12:00:00Z`. Default: now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Date>,
    /// How often it is asked, 1 to 100000; the last answer is looked at. Default 1.
    #[serde(default = "once")]
    pub times: u32,
    /// What upstreams would say, by their names. Default: 200 without a body.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub given: BTreeMap<String, Given>,
    /// What is expected; at least one thing.
    pub expect: Expect,
}

const fn once() -> u32 {
    1
}

/// Who asks.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Asker {
    /// The address of the client's connection. Default `127.0.0.1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ip: Option<IpAddr>,
    /// Whose credential it is, by name: it is taken for good wherever a route asks for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumer: Option<String>,
    /// The scopes of that credential.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// What it says of the caller; `sub` is `auth.sub`.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub claims: serde_json::Map<String, Json>,
}

impl Asker {
    /// Whether it shows a credential.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.consumer.is_some() || !self.scopes.is_empty() || !self.claims.is_empty()
    }
}

/// What an upstream would say.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Given {
    /// The status, 200 to 599. Default 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The headers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The body as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<Json>,
    /// The body as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// It does not answer, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fail: Option<Failure>,
}

impl Given {
    /// The body, with what it is said to be.
    #[must_use]
    pub fn body(&self) -> Option<(String, &'static str)> {
        body(self.json.as_ref(), self.text.as_ref())
    }
}

fn body(json: Option<&Json>, text: Option<&String>) -> Option<(String, &'static str)> {
    match (json, text) {
        (Some(json), _) => Some((json.to_string(), "application/json")),
        (None, Some(text)) => Some((text.clone(), "text/plain; charset=utf-8")),
        (None, None) => None,
    }
}

/// Why an upstream does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// Nobody takes the connection.
    ConnectFailure,
    /// The connection breaks before the answer.
    Reset,
    /// It does not answer in time.
    Timeout,
    /// The handshake fails, or the certificate is refused.
    TlsFailure,
    /// What it answers is not HTTP as we accept it.
    ProtocolError,
    /// None of its targets has an address.
    NoTarget,
}

/// What is expected of the last answer.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// The status towards the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The clause that decides, by its key, e.g. `lifecycle`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<String>,
    /// The name of the route; `not_found` for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// Headers of the answer: a value, `present`, or `absent`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// How often each upstream is called, in all the times.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub calls: BTreeMap<String, u64>,
    /// The name of the upstream that is called last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// The path that it is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_path: Option<String>,
    /// The whole body that it is sent, as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_json: Option<Json>,
    /// The whole body of the answer as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<Json>,
}

impl Expect {
    /// Whether nothing is expected: then the test could not fail.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self {
            status,
            decided_by,
            route,
            headers,
            calls,
            upstream,
            upstream_path,
            upstream_json,
            json,
        } = self;
        let words = [decided_by, route, upstream, upstream_path];
        status.is_none()
            && json.is_none()
            && upstream_json.is_none()
            && headers.is_empty()
            && calls.is_empty()
            && words.iter().all(|word| word.is_none())
    }
}

impl RequestTest {
    /// What it is called.
    #[must_use]
    pub fn title(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.request)
    }

    /// The body of the request, with what it is said to be.
    #[must_use]
    pub fn body(&self) -> Option<(String, &'static str)> {
        body(self.json.as_ref(), self.text.as_ref())
    }
}
