//! What is counted of the connections of clients.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::metrics::Register;
use super::tls::Handshakes;
use crate::tls::{Failure, Version};

/// Why a connection is turned away.
const REFUSALS: [&str; 4] = [
    "connections",
    "connections_per_ip",
    "connection_rate_per_ip",
    "misuse",
];

/// What is told of the connections of clients.
#[derive(Debug)]
pub(super) struct ConnectionMetrics {
    total: IntCounterVec,
    refused: IntCounterVec,
    ended: IntCounterVec,
    active: IntGaugeVec,
}

/// The connections of one listener.
#[derive(Debug)]
pub struct ListenerMetrics {
    total: IntCounter,
    active: IntGauge,
    /// In the order of [`REFUSALS`].
    refused: [IntCounter; REFUSALS.len()],
    handshakes: Handshakes,
}

/// Why a connection of HTTP/2 is ended before its client wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Frames that ask for nothing, or requests that are taken back: too many of them.
    Flood,
    /// A head that does not come.
    Head,
    /// Too many requests that are none.
    Malformed,
    /// What is no HTTP/2.
    Protocol,
    /// Requests behind the goodbye.
    Requests,
}

impl Ending {
    const ALL: [Self; 5] = [
        Self::Flood,
        Self::Head,
        Self::Malformed,
        Self::Protocol,
        Self::Requests,
    ];

    /// As the metric calls it.
    pub(super) const fn code(self) -> &'static str {
        match self {
            Self::Flood => "flood",
            Self::Head => "head",
            Self::Malformed => "malformed",
            Self::Protocol => "protocol",
            Self::Requests => "requests",
        }
    }
}

/// A connection that is open for as long as this lives.
#[derive(Debug)]
pub struct Connected(IntGauge);

impl ConnectionMetrics {
    pub(super) fn new(register: &Register<'_>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            total: register.counters(
                "doorward_connections_total",
                "Connections accepted from clients",
                &["listener"],
            )?,
            refused: register.counters(
                "doorward_connections_refused_total",
                "Connections that were turned away, because one of these limits was reached",
                &["listener", "limit"],
            )?,
            ended: register.counters(
                "doorward_connections_ended_total",
                "Connections of HTTP/2 that were ended for what their client did",
                &["listener", "reason"],
            )?,
            active: register.gauges(
                "doorward_connections_active",
                "Connections of clients that are open",
                &["listener"],
            )?,
        })
    }

    /// The connections of the listener `name`.
    pub(super) fn listener(&self, name: &str, handshakes: Handshakes) -> ListenerMetrics {
        for ending in Ending::ALL {
            self.ended(name, ending, 0);
        }
        ListenerMetrics {
            total: self.total.with_label_values(&[name]),
            active: self.active.with_label_values(&[name]),
            refused: REFUSALS.map(|limit| self.refused.with_label_values(&[name, limit])),
            handshakes,
        }
    }

    /// Counts so many connections of `listener` that ended so.
    pub(super) fn ended(&self, listener: &str, ending: Ending, times: u64) {
        self.ended
            .with_label_values(&[listener, ending.code()])
            .inc_by(times);
    }
}

impl ListenerMetrics {
    /// A connection was accepted.
    #[must_use]
    pub fn connected(&self) -> Connected {
        self.total.inc();
        self.active.inc();
        Connected(self.active.clone())
    }

    /// A connection was turned away because of this one of [`REFUSALS`].
    pub fn refused(&self, limit: &str) {
        let at = REFUSALS.iter().position(|known| *known == limit);
        if let Some(counter) = at.and_then(|at| self.refused.get(at)) {
            counter.inc();
        }
    }

    /// A TLS handshake succeeded.
    pub fn secured(&self, version: Version) {
        self.handshakes.done(version);
    }

    /// A TLS handshake failed.
    pub fn unsecured(&self, failure: Failure) {
        self.handshakes.failed(failure);
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.dec();
    }
}
