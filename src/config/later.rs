//! Keys of the language that this version does not have yet: refused by name, never ignored, never "unknown".

/// A part of the document whose keys are looked up by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The top level.
    Document,
    /// `telemetry`.
    Telemetry,
    /// `telemetry.metrics`.
    TelemetryMetrics,
    /// `admin`.
    Admin,
    /// `runtime`.
    Runtime,
    /// One of `listeners`.
    Listener,
    /// `tls` of a listener.
    ListenerTls,
    /// `defaults`.
    Defaults,
    /// One of `upstreams`.
    Upstream,
    /// One of `targets`.
    Target,
    /// One of `routes`, or clauses for routes.
    Route,
    /// `respond` of a route.
    Respond,
    /// `errors.override`.
    Override,
    /// `as` of one of `tests`.
    Asker,
    /// One of `authenticators`.
    Authenticator,
    /// One of `plans`.
    UsagePlan,
    /// One of `consumers`.
    Consumer,
    /// `identity` of a route.
    Identity,
    /// One of `stores`.
    Store,
}

const DOCUMENT: &[&str] = &[
    "acme",
    "signers",
    "protos",
    "cache_storage",
    "functions",
    "openapi",
    "fleet",
];
const TELEMETRY: &[&str] = &["tracing", "usage"];
const TELEMETRY_METRICS: &[&str] = &["consumer_label"];
const ADMIN: &[&str] = &["dashboard"];
const RUNTIME: &[&str] = &[];
const LISTENER: &[&str] = &[];
const LISTENER_TLS: &[&str] = &[];
const UPSTREAM: &[&str] = &["lambda", "function", "sign"];
const TARGET: &[&str] = &[
    "dns",
    "srv",
    "min_ttl",
    "max_ttl",
    "file",
    "http",
    "registered",
    "consul",
    "etcd",
    "kubernetes",
];
const ROUTE: &[&str] = &[
    "compose",
    "websocket_api",
    "split",
    "mirror",
    "fault",
    "rate_limit",
    "quota",
    "concurrency",
    "idempotency",
    "validate",
    "cache",
    "sign",
    "views",
    "metering",
    "transcode",
    "bridge",
    "graphql",
];
const OVERRIDE: &[&str] = &[
    "rate_limited",
    "quota_exceeded",
    "concurrency_limited",
    "invalid_request",
    "partial",
];
const ASKER: &[&str] = &[];
const AUTHENTICATOR: &[&str] = &["function"];
const CONSUMER: &[&str] = &[];
const USAGE_PLAN: &[&str] = &["rate_limit", "quota", "concurrency", "price"];
const IDENTITY: &[&str] = &["token"];
const STORE: &[&str] = &[];
const RESPOND: &[&str] = &["openapi_example"];

/// The keys of `part` that later versions bring.
#[must_use]
pub(crate) const fn keys(part: Part) -> &'static [&'static str] {
    match part {
        Part::Document => DOCUMENT,
        Part::Telemetry => TELEMETRY,
        Part::TelemetryMetrics => TELEMETRY_METRICS,
        Part::Admin => ADMIN,
        Part::Runtime => RUNTIME,
        Part::Listener => LISTENER,
        Part::ListenerTls => LISTENER_TLS,
        Part::Defaults => &[],
        Part::Upstream => UPSTREAM,
        Part::Target => TARGET,
        Part::Route => ROUTE,
        Part::Respond => RESPOND,
        Part::Override => OVERRIDE,
        Part::Asker => ASKER,
        Part::Authenticator => AUTHENTICATOR,
        Part::UsagePlan => USAGE_PLAN,
        Part::Consumer => CONSUMER,
        Part::Identity => IDENTITY,
        Part::Store => STORE,
    }
}

/// Schemes of targets that later versions bring.
pub(super) const SCHEMES: &[&str] = &["ws://", "wss://"];
