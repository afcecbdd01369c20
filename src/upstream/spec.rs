//! An upstream as written.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroU16;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    Announce, BreakerSpec, ConcurrencySpec, ConnectionsSpec, CredentialsSpec, HealthCheckSpec,
    LoadBalancing, OutlierSpec, RetriesSpec, StickySpec, TimeoutsSpec,
};
use crate::base::net::{TargetScheme, TargetUrl};
use crate::base::problem::Place;
use crate::base::units::{Share, Span};
use crate::tls::Version;

/// A group of targets that answer the same requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Where requests go. At least one.
    pub targets: Vec<TargetSpec>,
    /// How the target of a request is chosen. Default `least_request`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_balancing: Option<LoadBalancing>,
    /// For how long a target that comes back, or is new after a reload, gets less than its weight says, from a tenth on.
    /// Default: it gets all of it at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_start: Option<Span>,
    /// Where fewer than this share of the targets are well and there is no backup, all that take connections get
    /// requests: rather would many be asked in vain than few be crushed. `0%`: never. Default `50%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub panic_threshold: Option<Share>,
    /// Clients stay with their target by a cookie. Default: they do not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky: Option<StickySpec>,
    /// Targets are asked whether they are well. Default: nobody asks; `none` turns an inherited one off.
    #[serde(default, skip_serializing_if = "Setting::is_absent")]
    pub health_check: Setting<HealthCheckSpec>,
    /// Targets whose answers are errors are left alone for a while. Default: they are not; `none` turns an inherited one off.
    #[serde(default, skip_serializing_if = "Setting::is_absent")]
    pub outlier_detection: Setting<OutlierSpec>,
    /// How long the steps of a request may take. `none` turns an inherited one off: then the defaults hold.
    #[serde(default, skip_serializing_if = "Setting::is_absent")]
    pub timeouts: Setting<TimeoutsSpec>,
    /// When a request that failed is sent again. Default: what reached nobody or broke before its answer, once. `none`: never.
    #[serde(default, skip_serializing_if = "Setting::is_absent")]
    pub retries: Setting<RetriesSpec>,
    /// When nothing is sent for a while, because too much fails. Default: never.
    #[serde(default, skip_serializing_if = "Setting::is_absent")]
    pub circuit_breaker: Setting<BreakerSpec>,
    /// How many requests are under way at a time. Default: any number.
    #[serde(default, skip_serializing_if = "Setting::is_absent")]
    pub concurrency: Setting<ConcurrencySpec>,
    /// What is spoken: `http1`, `http2` (by TLS), `h2c` (HTTP/2 without TLS). Default: by the URL's scheme, `http1` for `https`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// What connections are limited to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<ConnectionsSpec>,
    /// By which version of the PROXY protocol targets are told the client; connections are then shared by requests of one client
    /// only. Default: by none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<Announce>,
    /// What holds for targets with `https://`. Default: their name and the authorities of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsSpec>,
    /// What targets are shown, so that they know who asks; it takes the place of what the client showed. Default: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<CredentialsSpec>,
}

/// What an upstream inherits from `defaults.upstreams` where it is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Defaults {
    /// How the target of a request is chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_balancing: Option<LoadBalancing>,
    /// For how long a target that comes back gets less than its weight says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow_start: Option<Span>,
    /// Fewer than this share of the targets left, and all that take connections get requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub panic_threshold: Option<Share>,
    /// Targets are asked whether they are well.
    #[serde(default, skip_serializing_if = "Setting::is_absent")]
    pub health_check: Setting<HealthCheckSpec>,
    /// Targets whose answers are errors are left alone for a while.
    #[serde(default, skip_serializing_if = "Setting::is_absent")]
    pub outlier_detection: Setting<OutlierSpec>,
    /// How long the steps of a request may take.
    #[serde(default, skip_serializing_if = "Setting::is_absent")]
    pub timeouts: Setting<TimeoutsSpec>,
    /// When a request that failed is sent again.
    #[serde(default, skip_serializing_if = "Setting::is_absent")]
    pub retries: Setting<RetriesSpec>,
    /// When nothing is sent for a while, because too much fails.
    #[serde(default, skip_serializing_if = "Setting::is_absent")]
    pub circuit_breaker: Setting<BreakerSpec>,
    /// How many requests are under way at each upstream at a time.
    #[serde(default, skip_serializing_if = "Setting::is_absent")]
    pub concurrency: Setting<ConcurrencySpec>,
}

impl Spec {
    /// The files it refers to, with their places, where `place` is its own.
    #[must_use]
    pub fn files(&self, place: &Place) -> Vec<(Place, String)> {
        let place = place.key("tls");
        let Some(tls) = &self.tls else {
            return Vec::new();
        };
        let written = [
            ("ca_file", &tls.ca_file),
            ("cert_file", &tls.cert_file),
            ("key_file", &tls.key_file),
        ];
        let files = written
            .into_iter()
            .filter_map(|(key, file)| Some((place.key(key), file.clone()?)));
        files.collect()
    }

    /// Whether all its targets speak HTTP/2.
    #[must_use]
    pub fn is_http2(&self) -> bool {
        let said = matches!(self.protocol, Some(Protocol::Http2 | Protocol::H2c));
        let mut targets = self.targets.iter();
        said || targets.all(|target| target.url.scheme() == TargetScheme::H2c)
    }

    /// Takes what is left out from `defaults`, each clause as a whole.
    pub fn inherit(&mut self, defaults: &Defaults) {
        if self.timeouts.is_absent() {
            self.timeouts.clone_from(&defaults.timeouts);
        }
        if self.load_balancing.is_none() {
            self.load_balancing.clone_from(&defaults.load_balancing);
        }
        if self.health_check.is_absent() {
            self.health_check.clone_from(&defaults.health_check);
        }
        if self.outlier_detection.is_absent() {
            self.outlier_detection
                .clone_from(&defaults.outlier_detection);
        }
        self.slow_start = self.slow_start.or(defaults.slow_start);
        self.panic_threshold = self.panic_threshold.or(defaults.panic_threshold);
        if self.retries.is_absent() {
            self.retries.clone_from(&defaults.retries);
        }
        if self.circuit_breaker.is_absent() {
            self.circuit_breaker.clone_from(&defaults.circuit_breaker);
        }
        if self.concurrency.is_absent() {
            self.concurrency.clone_from(&defaults.concurrency);
        }
    }
}

/// A clause of an upstream: left out, `none`, or written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Setting<T> {
    /// Left out: the inherited one holds.
    #[default]
    Absent,
    /// `none`: also the inherited one does not hold.
    Off,
    /// Written.
    On(T),
}

impl<T> Setting<T> {
    /// Whether it is left out.
    #[must_use]
    pub const fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    /// What is written.
    #[must_use]
    pub const fn on(&self) -> Option<&T> {
        match self {
            Self::On(spec) => Some(spec),
            Self::Absent | Self::Off => None,
        }
    }
}

impl<T: Serialize> Serialize for Setting<T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.on() {
            Some(spec) => spec.serialize(to),
            None => to.serialize_str("none"),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Setting<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Form<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Form<T> {
            type Value = Setting<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map, or `none`")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                if text == "none" {
                    Ok(Setting::Off)
                } else {
                    Err(E::invalid_value(de::Unexpected::Str(text), &self))
                }
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Setting::On)
            }
        }
        from.deserialize_any(Form(PhantomData))
    }
}

impl<T: JsonSchema> JsonSchema for Setting<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("{}OrNone", T::schema_name()).into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let spec = generator.subschema_for::<T>();
        schemars::json_schema!({ "anyOf": [spec, { "const": "none" }] })
    }
}

/// What is spoken to a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, agreed upon by ALPN.
    Http2,
    /// HTTP/2 without TLS, by prior knowledge.
    H2c,
}

/// How a target proves who it is, and we to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsSpec {
    /// The name that the target's certificate has to be for, and that it is asked by. Default: the host of its URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// The authorities that may have issued it, in PEM form. Default: those of the system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<String>,
    /// Our own certificate in PEM form, then those of its issuers. Default: none is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cert_file: Option<String>,
    /// The private key of `cert_file`, without a passphrase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_file: Option<String>,
    /// The oldest version that is spoken: `"1.2"` or `"1.3"`. Default `"1.2"`.
    #[serde(default)]
    pub min_version: Version,
    /// `full`, or `none`: then anybody may be the target. Default `full`.
    #[serde(default)]
    pub verify: Verify,
}

/// How far a target's certificate is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verify {
    /// Who issued it, for which name, and its time.
    #[default]
    Full,
    /// Not at all.
    None,
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
    /// 0 comes first; a target with a higher number is a backup: it is used while none before it is well. Default 0, at most 255.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: u8,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's own form")]
const fn is_zero(priority: &u8) -> bool {
    *priority == 0
}

const fn one() -> NonZeroU16 {
    NonZeroU16::MIN
}
