//! `telemetry` as written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::units::Share;

/// What the gateway tells about its work.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Messages of the process, on standard error.
    #[serde(default)]
    pub log: LogSpec,
    /// One record a request.
    #[serde(default)]
    pub access_log: AccessLogSpec,
}

/// Messages of the process, on standard error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogSpec {
    /// The least important messages that are written. Default `info`.
    #[serde(default)]
    pub level: Level,
}

/// How important a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Something failed.
    Error,
    /// Something may fail.
    Warn,
    /// Something changed.
    #[default]
    Info,
    /// What developers want to see.
    Debug,
    /// Everything.
    Trace,
}

impl Default for LogSpec {
    fn default() -> Self {
        Self { level: Level::Info }
    }
}

/// The access log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessLogSpec {
    /// `json`, `clf` (the combined log format), or `none` for no log. Default `json`.
    #[serde(default)]
    pub format: AccessLogFormat,
    /// `stdout`, or the path of a file that is added to. Default `stdout`.
    #[serde(default = "stdout")]
    pub file: String,
    /// Headers and query parameters whose values are hidden, besides those that always are. Default
    /// `[authorization, cookie]`.
    #[serde(default = "redact")]
    pub redact: Vec<String>,
    /// Which share of good requests is recorded; those that fail always are. Default `100%`.
    #[serde(default = "all")]
    pub sample: Share,
}

/// The form of the access log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AccessLogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// The combined log format of Apache and nginx.
    Clf,
    /// No access log.
    None,
}

fn stdout() -> String {
    "stdout".to_owned()
}

fn redact() -> Vec<String> {
    vec!["authorization".to_owned(), "cookie".to_owned()]
}

const fn all() -> Share {
    Share::from_percent(100)
}

impl Default for AccessLogSpec {
    fn default() -> Self {
        Self {
            format: AccessLogFormat::Json,
            file: stdout(),
            redact: redact(),
            sample: all(),
        }
    }
}
