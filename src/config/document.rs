//! The document as types: every section that this version knows, each item with its place.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use super::admin::{Admin, Role, TokenSpec};
pub use super::clients::{ClientTimesSpec, LimitsSpec};
pub use super::listener::{Listener, Protocol, ProxyProtocol};
use super::request_test::RequestTest;
pub use super::runtime::{Drain, Overload, Runtime, Threads};
use crate::base::net::Net;
use crate::base::problem::Place;
use crate::base::units::Date;
pub use crate::policy::Respond;
use crate::policy::auth::{AuthenticatorSpec, ConsumerSpec, KeysSpec, UsagePlanSpec};
use crate::policy::{Specs, fallback};
use crate::store::StoreSpec;
use crate::{telemetry, upstream};

/// A whole config, as written.
#[derive(Debug, Default)]
pub struct Document {
    /// `runtime`.
    pub runtime: Runtime,
    /// `listeners`, by name.
    pub listeners: Vec<Named<Listener>>,
    /// `defaults.routes`.
    pub route_defaults: Specs,
    /// `defaults.upstreams`.
    pub upstream_defaults: upstream::Defaults,
    /// `environments`, by name.
    pub environments: Vec<Named<Environment>>,
    /// `authenticators`, by name.
    pub authenticators: Vec<Named<AuthenticatorSpec>>,
    /// `plans`, by name.
    pub usage_plans: Vec<Named<UsagePlanSpec>>,
    /// `consumers`, by name.
    pub consumers: Vec<Named<ConsumerSpec>>,
    /// `stores`, by name.
    pub stores: Vec<Named<StoreSpec>>,
    /// `keys`.
    pub keys: Option<KeysSpec>,
    /// `upstreams`, by name.
    pub upstreams: Vec<Named<upstream::Spec>>,
    /// `routes`, in the order of the files.
    pub routes: Vec<Route>,
    /// `errors`.
    pub errors: Errors,
    /// `geoip`.
    pub geoip: Option<GeoIp>,
    /// `telemetry`.
    pub telemetry: telemetry::Spec,
    /// `admin`.
    pub admin: Option<Admin>,
    /// `tests`, with their places.
    pub tests: Vec<(Place, RequestTest)>,
    /// The files that the document refers to, by their place.
    pub files: BTreeMap<Place, Bytes>,
    /// Where they are.
    pub paths: BTreeMap<Place, PathBuf>,
    /// What is written, but was refused.
    pub refused: Refused,
}

impl Document {
    /// The files of networks, with their places.
    #[must_use]
    pub fn net_lists(&self) -> Vec<(Place, String)> {
        let listeners = self.listeners.iter().map(|item| &item.spec.defaults);
        let routes = self.routes.iter().map(|route| &route.policies);
        let all = listeners.chain(routes).chain([&self.route_defaults]);
        let written = all.filter_map(|specs| specs.access.spec());
        written
            .flat_map(|(access, place)| access.files(place))
            .collect()
    }

    /// Every `fallback` that is written.
    pub fn fallbacks(&self) -> impl Iterator<Item = &fallback::Spec> {
        let routes = self.routes.iter().map(|route| &route.policies);
        let listeners = self.listeners.iter().map(|item| &item.spec.defaults);
        let all = routes.chain(listeners).chain([&self.route_defaults]);
        all.filter_map(|specs| Some(specs.fallback.spec()?.0))
    }

    /// The files of everything that has to do with TLS, with their places.
    pub(super) fn tls_files(&self) -> Vec<(Place, String)> {
        let mut files = Vec::new();
        for listener in &self.listeners {
            if let Some(tls) = &listener.spec.tls {
                files.extend(tls.files(&listener.place.key("tls")));
            }
        }
        for upstream in &self.upstreams {
            files.extend(upstream.spec.files(&upstream.place));
        }
        files
    }
}

/// What is written, but was refused: that something refers to it is no further mistake.
#[derive(Debug, Default)]
pub struct Refused {
    /// Names of authenticators.
    pub authenticators: Vec<String>,
    /// Names of plans.
    pub usage_plans: Vec<String>,
    /// Names of stores.
    pub stores: Vec<String>,
    /// Names of upstreams.
    pub upstreams: Vec<String>,
    /// Names of listeners.
    pub listeners: Vec<String>,
    /// Names of routes.
    pub routes: Vec<String>,
    /// The upstreams that refused routes name, and where.
    pub references: Vec<(String, Place)>,
}

/// An item with the name and place it has in the document.
#[derive(Debug)]
pub struct Named<T> {
    /// The key it stands under.
    pub name: String,
    /// Where it stands.
    pub place: Place,
    /// The item.
    pub spec: T,
}

/// The routes of some hosts served again at others, with other upstreams.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// A host of the routes, and the host at which they are served again.
    pub hosts: BTreeMap<String, String>,
    /// An upstream of the routes, and the one that takes its place there.
    #[serde(default)]
    pub upstreams: BTreeMap<String, String>,
}

/// Answers of our own.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Errors {
    /// A page for browsers; `{status}`, `{title}`, `{detail}` and `{instance}` are replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub html_file: Option<String>,
    /// What the `type` of a problem begins with, e.g. `https://errors.example.com/`. Default `urn:doorward:error:`.
    #[serde(default = "default_type_base")]
    pub type_base: Option<String>,
    /// Other words for a fault, by its code.
    #[serde(default, rename = "override")]
    pub overrides: BTreeMap<String, ErrorWords>,
}

impl Default for Errors {
    fn default() -> Self {
        Self {
            html_file: None,
            type_base: default_type_base(),
            overrides: BTreeMap::new(),
        }
    }
}

#[expect(clippy::unnecessary_wraps, reason = "serde wants the field's type")]
fn default_type_base() -> Option<String> {
    Some(TYPE_BASE.to_owned())
}

/// What the `type` of a problem begins with, unless the config says otherwise.
pub const TYPE_BASE: &str = "urn:doorward:error:";

/// Other words for one fault.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ErrorWords {
    /// Instead of the problem's `title`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Instead of its `detail`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// One route.
#[derive(Debug)]
pub struct Route {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub place: Place,
    /// Which requests it is for.
    pub matches: Match,
    /// What it does with them.
    pub action: Action,
    /// Its policies.
    pub policies: Specs,
}

/// What a route does with a request.
#[derive(Debug)]
pub enum Action {
    /// Sends it to this upstream.
    Upstream(String),
    /// Sends the client elsewhere.
    Redirect(Redirect),
    /// Answers it.
    Respond(Box<Respond>),
}

/// Which requests a route is for. Every key given must match.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// Listeners, by name. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub listeners: Vec<String>,
    /// Exact hosts, or `*.example.com` for every host below one. Default: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// The path: exact, or a template such as `/v1/orders/{id}`, `/v1/orders/{id:[0-9]+}` or `/files/{path*}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The path's first segments: `/v1` is for `/v1` and `/v1/x`, not for `/v1x`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_prefix: Option<String>,
    /// A regular expression for the whole path; named groups become parameters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_regex: Option<String>,
    /// Methods, e.g. `GET`; GET brings HEAD. Default: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Headers, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Test>,
    /// Query parameters, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub query: BTreeMap<String, Test>,
    /// Cookies, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cookies: BTreeMap<String, Test>,
    /// Networks of clients.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub client_ips: Vec<Net>,
    /// From this time on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Date>,
    /// Until this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Date>,
    /// A version of the API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// An expression (CEL) over `request`, `params` and `client`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// Decides between routes of equal specificity; the higher wins. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<i32>,
}

/// Which country an address is of.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GeoIp {
    /// A file in MaxMind's format with countries, e.g. `GeoLite2-Country.mmdb`, read when the config is loaded; a relative path is
    /// relative to the config file.
    pub file: String,
}

/// What must hold of one value.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Test {
    /// It is this.
    Exact(String),
    /// It begins with this.
    Prefix(String),
    /// A regular expression for all of it.
    Regex(String),
    /// It is there.
    Present,
    /// It is not there.
    Absent,
}

/// Which version of the API a request asks for, and where it says so: exactly one of `header`, `query`, `media_type`, `path`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Version {
    /// In this header, e.g. `api-version`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// In this query parameter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// In this parameter of a media type in `Accept`, e.g. `version` for `application/json;version=2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// In the path's first segment: `/v2/orders` for the path `/orders` and the version `v2`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub path: bool,
    /// The versions this route is for, e.g. `["2026-07"]`.
    pub any_of: Vec<String>,
    /// Whether it is also for requests that name no version. Default false.
    #[serde(default)]
    pub default: bool,
}

/// Sends the client elsewhere; what is left out stays as it was asked.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Redirect {
    /// `http` or `https`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<UrlScheme>,
    /// Host, with or without a port, e.g. `www.example.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Path, e.g. `/v1{path}` for a `path_prefix` route. The query stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// 301, 302, 303, 307 or 308. Default 308: the method stays too.
    #[serde(default = "permanent")]
    pub status: u16,
}

const fn permanent() -> u16 {
    308
}

/// The scheme of a URL.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum UrlScheme {
    /// Without TLS.
    Http,
    /// With TLS.
    Https,
}

impl UrlScheme {
    /// As in a URL.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}
