//! What may go wrong with an attempt, in the words of the config: for retries, breakers and fallbacks.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// One way in which an attempt fails. The words of faults are their codes: the log's `error.type`, the metrics'
/// `error_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Condition {
    /// No connection was made, or not in time: the target has seen nothing of the request.
    ConnectFailure,
    /// The connection broke before the answer was whole.
    Reset,
    /// A target of HTTP/2 said that it did nothing with the request.
    RefusedStream,
    /// No connection, or no answer, in time.
    Timeout,
    /// What came is not HTTP as we accept it.
    ProtocolError,
    /// The handshake failed, or the certificate was refused.
    TlsFailure,
    /// The breaker lets nothing through.
    CircuitOpen,
    /// There is no target to send to.
    NoTarget,
    /// The upstream has as many requests as it may have.
    Overload,
    /// An answer with a status of this class: 4 or 5.
    Class(u8),
    /// An answer with this status, 400 to 599.
    Status(u16),
    /// A call of gRPC that ended with this status, not 0.
    Grpc(u8),
}

/// The conditions that are words of their own, in the order of their bits.
const WORDS: [(&str, Condition); 11] = [
    ("connect_failure", Condition::ConnectFailure),
    ("reset", Condition::Reset),
    ("refused_stream", Condition::RefusedStream),
    ("timeout", Condition::Timeout),
    ("protocol_error", Condition::ProtocolError),
    ("tls_failure", Condition::TlsFailure),
    ("circuit_open", Condition::CircuitOpen),
    ("no_target", Condition::NoTarget),
    ("overload", Condition::Overload),
    ("http_4xx", Condition::Class(4)),
    ("http_5xx", Condition::Class(5)),
];

/// The canonical codes of gRPC but OK, from 1 on.
const GRPC: [&str; 16] = [
    "grpc_cancelled",
    "grpc_unknown",
    "grpc_invalid_argument",
    "grpc_deadline_exceeded",
    "grpc_not_found",
    "grpc_already_exists",
    "grpc_permission_denied",
    "grpc_resource_exhausted",
    "grpc_failed_precondition",
    "grpc_aborted",
    "grpc_out_of_range",
    "grpc_unimplemented",
    "grpc_internal",
    "grpc_unavailable",
    "grpc_data_loss",
    "grpc_unauthenticated",
];

/// What is shown where a word is not known: the words, and one of each family.
const KNOWN: &[&str] = &[
    "connect_failure",
    "reset",
    "refused_stream",
    "timeout",
    "protocol_error",
    "tls_failure",
    "circuit_open",
    "no_target",
    "overload",
    "http_4xx",
    "http_5xx",
    "http_503",
    "grpc_unavailable",
];

impl Condition {
    /// The condition of this name.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        if let Some((_, condition)) = WORDS.iter().find(|(name, _)| *name == word) {
            return Some(*condition);
        }
        if let Some(code) = GRPC.iter().position(|name| *name == word) {
            return u8::try_from(code + 1).ok().map(Self::Grpc);
        }
        let digits = word.strip_prefix("http_").filter(|it| it.len() == 3)?;
        let status: u16 = digits.parse().ok()?;
        (400..600).contains(&status).then_some(Self::Status(status))
    }

    fn bit(self) -> u32 {
        let place = WORDS.iter().position(|(_, known)| *known == self);
        place.map_or(0, |place| 1 << place)
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "http_{status}"),
            Self::Grpc(code) => {
                let name = usize::from(*code).checked_sub(1);
                f.write_str(name.and_then(|at| GRPC.get(at)).unwrap_or(&"grpc_ok"))
            }
            Self::ConnectFailure
            | Self::Reset
            | Self::RefusedStream
            | Self::Timeout
            | Self::ProtocolError
            | Self::TlsFailure
            | Self::CircuitOpen
            | Self::NoTarget
            | Self::Overload
            | Self::Class(_) => {
                let known = WORDS.iter().find(|(_, known)| known == self);
                f.write_str(known.map_or("", |(name, _)| name))
            }
        }
    }
}

impl Serialize for Condition {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Condition {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Word;
        impl Visitor<'_> for Word {
            type Value = Condition;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a condition, e.g. `connect_failure` or `http_503`")
            }
            fn visit_str<E: de::Error>(self, word: &str) -> Result<Condition, E> {
                if word == "partial" {
                    return Err(E::custom("`partial` is not in this version"));
                }
                Condition::named(word).ok_or_else(|| E::unknown_variant(word, KNOWN))
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Condition, E> {
                Err(E::custom(format!(
                    "a number where a condition belongs; hint: write `http_{number}`"
                )))
            }
        }
        from.deserialize_any(Word)
    }
}

impl JsonSchema for Condition {
    fn schema_name() -> Cow<'static, str> {
        "Condition".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let mut words: Vec<&str> = WORDS.iter().map(|(word, _)| *word).collect();
        words.extend(GRPC);
        json_schema!({
            "description": "A way in which an attempt fails; `http_NNN` is an answer with that status, 400 to 599.",
            "anyOf": [
                { "enum": words },
                { "type": "string", "pattern": "^http_[45][0-9][0-9]$|\\$\\{" },
            ],
        })
    }
}

/// A set of conditions, ready to be asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conditions {
    words: u32,
    grpc: u32,
    statuses: Box<[u16]>,
    /// As they were written.
    written: Box<[Condition]>,
}

impl Conditions {
    /// These conditions.
    #[must_use]
    pub fn of(written: &[Condition]) -> Self {
        let mut set = Self {
            written: written.into(),
            ..Self::default()
        };
        let mut statuses = Vec::new();
        for condition in written {
            set.words |= condition.bit();
            if let Condition::Status(status) = condition {
                statuses.push(*status);
            }
            if let Condition::Grpc(code) = condition {
                set.grpc |= 1 << code;
            }
        }
        set.statuses = statuses.into();
        set
    }

    /// Whether `condition`, which is a word of its own, is among them.
    #[must_use]
    pub fn has(&self, condition: Condition) -> bool {
        self.words & condition.bit() != 0
    }

    /// Whether an answer with this status is meant.
    #[must_use]
    pub fn has_answer(&self, status: u16) -> bool {
        (400..600).contains(&status)
            && (u8::try_from(status / 100).is_ok_and(|class| self.has(Condition::Class(class)))
                || self.statuses.contains(&status))
    }

    /// Whether a call of gRPC that ended so is meant.
    #[must_use]
    pub const fn has_grpc(&self, code: u8) -> bool {
        code < 32 && self.grpc & (1 << code) != 0
    }

    /// As they were written.
    #[must_use]
    pub fn written(&self) -> &[Condition] {
        &self.written
    }
}

impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, condition) in self.written.iter().enumerate() {
            let comma = if at > 0 { ", " } else { "" };
            write!(f, "{comma}{condition}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read_and_written_alike() {
        let families = ["http_400", "http_503", "http_599"];
        let words = WORDS.iter().map(|(word, _)| *word);
        for word in words
            .chain(GRPC)
            .chain(families)
            .chain(KNOWN.iter().copied())
        {
            let condition = Condition::named(word);
            assert_eq!(condition.map(|it| it.to_string()).as_deref(), Some(word));
        }
    }

    #[test]
    fn what_is_no_failure_is_no_condition() {
        for word in [
            "http_200", "http_600", "http_5x", "http_+50", "grpc_ok", "", "Reset",
        ] {
            assert_eq!(Condition::named(word), None, "{word}");
        }
    }

    #[test]
    fn a_set_holds_what_is_written_and_nothing_else() {
        let set = Conditions::of(&[
            Condition::Reset,
            Condition::Class(5),
            Condition::Status(429),
            Condition::Grpc(14),
        ]);
        assert!(set.has(Condition::Reset) && !set.has(Condition::Timeout));
        for (status, meant) in [
            (499, false),
            (500, true),
            (599, true),
            (600, false),
            (429, true),
            (200, false),
        ] {
            assert_eq!(set.has_answer(status), meant, "{status}");
        }
        assert!(set.has_grpc(14) && !set.has_grpc(13) && !set.has_grpc(0));
        assert_eq!(
            set.to_string(),
            "reset, http_5xx, http_429, grpc_unavailable"
        );
    }
}
