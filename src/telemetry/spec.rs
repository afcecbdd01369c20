//! `telemetry` as written.

use schemars::JsonSchema;
use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize};

use crate::base::units::{Share, Span};

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
    /// What is counted, for Prometheus to read.
    #[serde(default)]
    pub metrics: MetricsSpec,
}

/// Messages of the process, on standard error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogSpec {
    /// The least important messages that are written. Default `info`.
    #[serde(default)]
    pub level: Level,
    /// `text`, `json` (one object a line), `journald` (text with its priority), or `auto`: `journald` where standard error
    /// leads to the journal, else `text`. Default `auto`.
    #[serde(default)]
    pub format: LogFormat,
}

/// The form of the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// What fits where standard error leads.
    #[default]
    Auto,
    /// For people: time, level, target, message, fields.
    Text,
    /// For programs: one JSON object a line.
    Json,
    /// For the journal of systemd: `<6>` and the like before each line, no time.
    Journald,
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
        Self {
            level: Level::Info,
            format: LogFormat::Auto,
        }
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

/// What is counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MetricsSpec {
    /// The bounds of the histograms of durations, each longer than the one before, 1 to 32 of them. Default: those of
    /// OpenTelemetry, from `5ms` to `10s`.
    #[serde(default)]
    pub latency_buckets: Buckets,
}

impl MetricsSpec {
    /// The bounds in seconds.
    #[must_use]
    pub fn seconds(&self) -> Vec<f64> {
        let spans = self.latency_buckets.0.iter();
        spans.map(|span| span.duration().as_secs_f64()).collect()
    }
}

/// Bounds of a histogram.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Buckets(Vec<Span>);

impl Buckets {
    /// More of them cost every route and upstream a series each.
    const MAX: usize = 32;
}

impl Default for Buckets {
    /// As OpenTelemetry's HTTP conventions have them.
    fn default() -> Self {
        let millis = [
            5, 10, 25, 50, 75, 100, 250, 500, 750, 1000, 2500, 5000, 7500, 10_000,
        ];
        Self(millis.into_iter().map(Span::from_millis).collect())
    }
}

impl<'de> Deserialize<'de> for Buckets {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let bounds = Vec::<Span>::deserialize(from)?;
        let wrong = if bounds.is_empty() {
            Some("the list is empty; hint: name at least one bound, e.g. `[100ms, 1s]`".to_owned())
        } else if bounds.len() > Self::MAX {
            Some(format!(
                "{} bounds are too many; hint: at most {}",
                bounds.len(),
                Self::MAX
            ))
        } else if bounds.first() == Some(&Span::from_millis(0)) {
            Some("nothing takes no time; hint: begin with a bound above zero".to_owned())
        } else {
            let falls = bounds.windows(2).find_map(|pair| match pair {
                [one, next] if next <= one => Some((*one, *next)),
                _ => None,
            });
            falls.map(|(one, next)| {
                format!(
                    "`{next}` stands after `{one}`; hint: each bound is longer than the one before"
                )
            })
        };
        match wrong {
            Some(wrong) => Err(de::Error::custom(wrong)),
            None => Ok(Self(bounds)),
        }
    }
}

impl JsonSchema for Buckets {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Buckets".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let span = generator.subschema_for::<Span>();
        schemars::json_schema!({ "type": "array", "items": span, "minItems": 1, "maxItems": Self::MAX })
    }
}
