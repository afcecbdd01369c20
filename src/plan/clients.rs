//! What a listener's clients may have, and how long they may take, as run.

use std::time::Duration;

use crate::base::problem::{Place, Problem, Problems};
use crate::base::units::Span;
use crate::config::document::{ClientTimesSpec, LimitsSpec};
use crate::exchange::HeadLimits;

/// The longest request target that may be allowed.
const URI_MAX: u64 = 32 * 1024;
/// The most bytes of header lines.
const HEADER_BYTES_MAX: u64 = 64 * 1024;
/// The most header lines: Pingora has room for 256, and adds some.
const HEADERS_MAX: u16 = 250;
/// The most streams.
const STREAMS_MAX: u16 = 1000;

/// What clients may have, and how long they may take.
#[derive(Debug, Clone, Copy)]
pub struct Clients {
    /// Sizes of heads.
    pub head: HeadLimits,
    /// Connections of the listener; none = as many as the process may have.
    pub connections: Option<u32>,
    /// Connections of one address.
    pub connections_per_ip: u32,
    /// New connections of one address in a second; none = not counted.
    pub connection_rate: Option<u32>,
    /// Requests of one address in a second; none = not counted.
    pub request_rate: Option<u32>,
    /// Requests on one connection.
    pub requests: u32,
    /// Open streams of one connection.
    pub http2_streams: u32,
    /// For what comes before HTTP.
    pub handshake: Duration,
    /// For a whole head.
    pub header: Duration,
    /// Without a request.
    pub idle: Duration,
    /// Without taking or sending anything.
    pub write: Duration,
    /// Bytes in a second.
    pub min_rate: u64,
}

impl Default for Clients {
    fn default() -> Self {
        let (limits, times) = (LimitsSpec::default(), ClientTimesSpec::default());
        Self::new(&limits, &times)
    }
}

impl Clients {
    fn new(limits: &LimitsSpec, times: &ClientTimesSpec) -> Self {
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        Self {
            head: HeadLimits {
                uri: size(limits.uri.bytes()),
                header_bytes: size(limits.header_bytes.bytes()),
                headers: usize::from(limits.headers.get()),
            },
            connections: limits.connections.map(std::num::NonZeroU32::get),
            connections_per_ip: limits.connections_per_ip.get(),
            connection_rate: limits.connection_rate_per_ip.per_second(),
            request_rate: limits.request_rate_per_ip.per_second(),
            requests: limits.requests_per_connection.get(),
            http2_streams: u32::from(limits.http2_streams.get()),
            handshake: times.handshake.duration(),
            header: times.header.duration(),
            idle: times.idle.duration(),
            write: times.write.duration(),
            min_rate: times.min_rate.bytes_per_second(),
        }
    }

    /// Compiles the two clauses of the listener at `place`; mistakes are reported.
    pub(super) fn compile(
        limits: &LimitsSpec,
        times: &ClientTimesSpec,
        place: &Place,
        problems: &mut Problems,
    ) -> Self {
        let at = place.key("limits");
        for (key, written, most) in [
            ("uri", limits.uri.bytes(), URI_MAX),
            (
                "header_bytes",
                limits.header_bytes.bytes(),
                HEADER_BYTES_MAX,
            ),
            (
                "headers",
                u64::from(limits.headers.get()),
                u64::from(HEADERS_MAX),
            ),
            (
                "http2_streams",
                u64::from(limits.http2_streams.get()),
                u64::from(STREAMS_MAX),
            ),
        ] {
            let hint = match most {
                URI_MAX => "at most 32KiB".to_owned(),
                HEADER_BYTES_MAX => "at most 64KiB".to_owned(),
                most => format!("at most {most}"),
            };
            if written > most {
                let problem = Problem::error("E030", at.key(key), "more than can be held");
                problems.push(problem.hint(hint));
            } else if written == 0 {
                let problem = Problem::error("E030", at.key(key), "nothing would fit");
                problems.push(problem.hint(hint));
            }
        }
        let at = place.key("timeouts");
        let zero = |span: &Span| span.duration().is_zero();
        for (key, span) in [
            ("handshake", &times.handshake),
            ("header", &times.header),
            ("idle", &times.idle),
            ("write", &times.write),
        ] {
            if zero(span) {
                let problem = Problem::error("E030", at.key(key), "no time at all");
                problems.push(
                    problem.hint("a time of 1ms or more; to have the default, take the key out"),
                );
            }
        }
        Self::new(limits, times)
    }
}
