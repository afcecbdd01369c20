//! What is counted of TLS: handshakes of clients, and questions about certificates.

use std::sync::OnceLock;

use prometheus::{IntCounter, IntCounterVec};

use super::metrics::Register;
use crate::tls::{Failure, Version};

/// The versions that are spoken.
const VERSIONS: [&str; 2] = ["1.2", "1.3"];

/// The metrics of every listener that speaks TLS.
#[derive(Debug, Clone)]
pub(super) struct TlsCounters {
    done: IntCounterVec,
    failed: IntCounterVec,
    ocsp: IntCounterVec,
}

/// The handshakes of one listener; it may never have any.
#[derive(Debug)]
pub(super) struct Handshakes {
    counters: TlsCounters,
    listener: Box<str>,
    /// Found with the first handshake: a listener without TLS has no such series.
    own: OnceLock<Own>,
}

#[derive(Debug)]
struct Own {
    done: [IntCounter; VERSIONS.len()],
    failed: [IntCounter; Failure::ALL.len()],
}

/// What became of a question about a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OcspResult {
    /// It is good.
    Good,
    /// It was taken back.
    Revoked,
    /// Nobody answered.
    Unreachable,
    /// The responder did, but not the question.
    Refused,
    /// An answer that nobody may see.
    Invalid,
}

impl OcspResult {
    const ALL: [Self; 5] = [
        Self::Good,
        Self::Revoked,
        Self::Unreachable,
        Self::Refused,
        Self::Invalid,
    ];

    const fn code(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Revoked => "revoked",
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
            Self::Invalid => "invalid",
        }
    }
}

/// Questions about the certificates of one listener, in the order of [`OcspResult::ALL`].
#[derive(Debug, Clone)]
pub struct OcspMetrics([IntCounter; OcspResult::ALL.len()]);

impl OcspMetrics {
    /// A question ended so.
    pub fn asked(&self, result: OcspResult) {
        let at = OcspResult::ALL.iter().position(|known| *known == result);
        if let Some(counter) = at.and_then(|at| self.0.get(at)) {
            counter.inc();
        }
    }
}

impl TlsCounters {
    pub(super) fn new(register: &Register<'_>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            done: register.counters(
                "doorward_tls_handshakes_total",
                "TLS handshakes of clients that succeeded",
                &["listener", "version"],
            )?,
            failed: register.counters(
                "doorward_tls_handshakes_failed_total",
                "TLS handshakes of clients that failed",
                &["listener", "reason"],
            )?,
            ocsp: register.counters(
                "doorward_tls_ocsp_fetches_total",
                "Questions to OCSP responders about certificates of listeners",
                &["listener", "result"],
            )?,
        })
    }

    pub(super) fn handshakes(&self, listener: &str) -> Handshakes {
        Handshakes {
            counters: self.clone(),
            listener: listener.into(),
            own: OnceLock::new(),
        }
    }

    pub(super) fn ocsp(&self, listener: &str) -> OcspMetrics {
        let counter = |result: OcspResult| {
            let labels = [listener, result.code()];
            self.ocsp.with_label_values(&labels)
        };
        OcspMetrics(OcspResult::ALL.map(counter))
    }
}

impl Handshakes {
    fn own(&self) -> &Own {
        self.own.get_or_init(|| {
            let (counters, name) = (&self.counters, &*self.listener);
            Own {
                done: VERSIONS.map(|version| counters.done.with_label_values(&[name, version])),
                failed: Failure::ALL
                    .map(|failure| counters.failed.with_label_values(&[name, failure.code()])),
            }
        })
    }

    pub(super) fn done(&self, version: Version) {
        let [old, new] = &self.own().done;
        match version {
            Version::V12 => old.inc(),
            Version::V13 => new.inc(),
        }
    }

    pub(super) fn failed(&self, failure: Failure) {
        let at = Failure::ALL.iter().position(|known| *known == failure);
        if let Some(counter) = at.and_then(|at| self.own().failed.get(at)) {
            counter.inc();
        }
    }
}
