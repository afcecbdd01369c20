//! `limits` and `timeouts` of a listener as written: what a client may have, and how long it may take.

use std::num::{NonZeroU16, NonZeroU32, NonZeroU64};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::units::{ByteRate, ByteSize, Ceiling, Span};

/// What clients may have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitsSpec {
    /// Connections at once; one more gets 503 and is closed. Default: no limit besides that of the process, which is 45 %
    /// of the descriptors that it may have, because a request takes two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<NonZeroU32>,
    /// Connections of one address at once (IPv6: of one /64 network); one more is closed. Peers in `trusted_proxies` or in
    /// `proxy_protocol.from` are not counted. Default 256.
    #[serde(default = "per_ip")]
    pub connections_per_ip: NonZeroU32,
    /// New connections of one address in a second (IPv6: of one /64 network), counted before anything is read; one more is
    /// closed. `none`: not counted. Peers as above are not; who comes by the PROXY protocol is. An estimate, too high by
    /// a few while a hundred thousand addresses come in one second. Default `5000/s`.
    #[serde(default = "connection_rate")]
    pub connection_rate_per_ip: Ceiling,
    /// Requests of one address in a second, counted in the same way before they are read; one more gets 429, and in HTTP/1
    /// its connection closes. `none`: not counted. Default `50000/s`.
    #[serde(default = "request_rate")]
    pub request_rate_per_ip: Ceiling,
    /// Requests on one connection; after the last one it closes. Default 1000.
    #[serde(default = "per_connection")]
    pub requests_per_connection: NonZeroU32,
    /// The longest request target; a longer one gets 414. Default `8KiB`, at most `32KiB`.
    #[serde(default = "uri")]
    pub uri: ByteSize,
    /// All header lines together; more get 431. Default `16KiB`, at most `64KiB`.
    #[serde(default = "header_bytes")]
    pub header_bytes: ByteSize,
    /// How many header lines; more get 431. Default 100, at most 250.
    #[serde(default = "headers")]
    pub headers: NonZeroU16,
    /// How many requests one connection may have open at once in HTTP/2. Default 100, at most 1000.
    #[serde(default = "streams")]
    pub http2_streams: NonZeroU16,
}

const fn nonzero(number: u32) -> NonZeroU32 {
    match NonZeroU32::new(number) {
        Some(number) => number,
        None => NonZeroU32::MIN,
    }
}

const fn hundred() -> NonZeroU16 {
    match NonZeroU16::new(100) {
        Some(number) => number,
        None => NonZeroU16::MIN,
    }
}

const fn per_ip() -> NonZeroU32 {
    nonzero(256)
}

// One machine comes so often to measure, not to use: a thousand people behind one address make a hundredth of it.
const fn connection_rate() -> Ceiling {
    Ceiling::new(nonzero(5000))
}

const fn request_rate() -> Ceiling {
    Ceiling::new(nonzero(50_000))
}

const fn per_connection() -> NonZeroU32 {
    nonzero(1000)
}

const fn uri() -> ByteSize {
    ByteSize::from_kib(8)
}

const fn header_bytes() -> ByteSize {
    ByteSize::from_kib(16)
}

const fn headers() -> NonZeroU16 {
    hundred()
}

const fn streams() -> NonZeroU16 {
    hundred()
}

impl Default for LimitsSpec {
    fn default() -> Self {
        Self {
            connections: None,
            connections_per_ip: per_ip(),
            connection_rate_per_ip: connection_rate(),
            request_rate_per_ip: request_rate(),
            requests_per_connection: per_connection(),
            uri: uri(),
            header_bytes: header_bytes(),
            headers: headers(),
            http2_streams: streams(),
        }
    }
}

/// How long clients may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientTimesSpec {
    /// For everything that comes before HTTP: the PROXY header, the handshake of TLS, the greeting of HTTP/2. Default `10s`.
    #[serde(default = "ten_seconds")]
    pub handshake: Span,
    /// For a whole head, from its first byte to its last; then 408. Default `10s`.
    #[serde(default = "ten_seconds")]
    pub header: Span,
    /// For a connection without a request. Default `60s`.
    #[serde(default = "a_minute")]
    pub idle: Span,
    /// For a client that takes nothing of its answer, or sends nothing of its body. Default `30s`.
    #[serde(default = "half_a_minute")]
    pub write: Span,
    /// How fast a body has to come and an answer has to be taken, on average over the time in which the client is waited
    /// for, after the first 10 s of it; a body gets 408, an answer is cut. Default `256B/s`.
    #[serde(default = "a_little")]
    pub min_rate: ByteRate,
}

const fn ten_seconds() -> Span {
    Span::from_secs(10)
}

const fn a_minute() -> Span {
    Span::from_secs(60)
}

const fn half_a_minute() -> Span {
    Span::from_secs(30)
}

const fn a_little() -> ByteRate {
    ByteRate::from_bytes(NonZeroU64::MIN.saturating_add(255))
}

impl Default for ClientTimesSpec {
    fn default() -> Self {
        Self {
            handshake: ten_seconds(),
            header: ten_seconds(),
            idle: a_minute(),
            write: half_a_minute(),
            min_rate: a_little(),
        }
    }
}
