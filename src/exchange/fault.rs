//! What went wrong with a request.

use super::meaning::{INTERNAL, Meaning, TABLE};
use crate::upstream::{Condition, Conditions};

/// A request that ends in an answer of our own that nobody wished for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Fault {
    /// The head is not HTTP as we accept it.
    #[error("bad request")]
    BadRequest,
    /// The path is not one that means the same to everybody.
    #[error("bad path")]
    BadPath,
    /// `Host` is missing, doubled, or no authority.
    #[error("bad host")]
    BadHost,
    /// The request target is longer than 8 KiB.
    #[error("uri too long")]
    UriTooLong,
    /// More than 100 header lines or 16 KiB of them.
    #[error("headers too large")]
    HeadersTooLarge,
    /// The head did not arrive in time.
    #[error("header timeout")]
    HeaderTimeout,
    /// The body came too slowly.
    #[error("body timeout")]
    BodyTimeout,
    /// A body that is longer than the route takes.
    #[error("body too large")]
    BodyTooLarge,
    /// A body in a form that the route does not take.
    #[error("unsupported media type")]
    UnsupportedMediaType,
    /// A body that is not what it says it is.
    #[error("bad body")]
    BadBody,
    /// An `Expect` other than `100-continue`.
    #[error("expectation failed")]
    ExpectationFailed,
    /// A version of HTTP we do not speak.
    #[error("version not supported")]
    VersionNotSupported,
    /// What HTTP/2 could carry, and we do not.
    #[error("not implemented")]
    NotImplemented,
    /// No route.
    #[error("not found")]
    NotFound,
    /// A route, but not for this method.
    #[error("method not allowed")]
    MethodNotAllowed,
    /// A host this listener does not answer for.
    #[error("misdirected request")]
    MisdirectedRequest,
    /// Who asks shows nothing, or nothing good, that says who it is.
    #[error("unauthenticated")]
    Unauthenticated,
    /// Who could say whether a credential is good cannot be asked.
    #[error("authentication unavailable")]
    AuthUnavailable,
    /// Who asks may not.
    #[error("forbidden")]
    Forbidden,
    /// The route's sunset has passed.
    #[error("gone")]
    Gone,
    /// The route is closed for maintenance.
    #[error("maintenance")]
    Maintenance,
    /// The request has been here before.
    #[error("loop detected")]
    LoopDetected,
    /// No address to send the request to.
    #[error("no target")]
    NoTarget,
    /// The breaker lets nothing through.
    #[error("circuit open")]
    CircuitOpen,
    /// There is nothing to show the upstream, so that it knows who asks.
    #[error("no credential")]
    NoCredential,
    /// Nobody took the connection.
    #[error("connect failure")]
    ConnectFailure,
    /// The connection was not made in time.
    #[error("connect timeout")]
    ConnectTimeout,
    /// The upstream's certificate or handshake was refused.
    #[error("tls failure")]
    TlsFailure,
    /// The upstream closed before its answer was whole.
    #[error("reset")]
    Reset,
    /// The upstream says that it did nothing with the request.
    #[error("refused stream")]
    RefusedStream,
    /// The upstream did not answer in time.
    #[error("timeout")]
    Timeout,
    /// The upstream's answer is longer than the route takes.
    #[error("response too large")]
    ResponseTooLarge,
    /// The upstream's answer is not HTTP as we accept it.
    #[error("protocol error")]
    ProtocolError,
    /// The upstream's answer is not what it says it is.
    #[error("bad answer")]
    BadAnswer,
    /// The client went away or sent a body that is broken.
    #[error("client error")]
    ClientError,
    /// Its address sends far more requests than anybody honest would.
    #[error("too many requests")]
    TooManyRequests,
    /// There is more to do than can be done.
    #[error("overload")]
    Overload,
    /// The process ended before the answer was whole.
    #[error("stopped")]
    Stopped,
    /// Our own mistake.
    #[error("internal error")]
    Internal,
}

impl Fault {
    /// Every fault, for tests and documents.
    pub fn all() -> impl Iterator<Item = Self> + Clone {
        TABLE.iter().map(|(fault, _)| *fault)
    }

    /// The fault's row of the table.
    #[must_use]
    pub fn meaning(self) -> &'static Meaning {
        let row = TABLE.iter().find(|(fault, _)| *fault == self);
        row.map_or(&INTERNAL, |(_, meaning)| meaning)
    }

    /// Whether it is one of these conditions of the config.
    #[must_use]
    pub fn meets(self, conditions: &Conditions) -> bool {
        let condition = match self {
            Self::ConnectFailure => Condition::ConnectFailure,
            // It is both: nobody was reached, and not in time.
            Self::ConnectTimeout if conditions.has(Condition::Timeout) => return true,
            Self::ConnectTimeout => Condition::ConnectFailure,
            Self::TlsFailure => Condition::TlsFailure,
            Self::Reset => Condition::Reset,
            Self::RefusedStream => Condition::RefusedStream,
            Self::Timeout => Condition::Timeout,
            Self::ProtocolError | Self::BadAnswer => Condition::ProtocolError,
            // There is nobody who could be asked.
            Self::NoTarget | Self::NoCredential => Condition::NoTarget,
            Self::CircuitOpen => Condition::CircuitOpen,
            Self::Overload => Condition::Overload,
            // Whatever else goes wrong is no failure of an upstream.
            Self::BadRequest
            | Self::BadPath
            | Self::BadHost
            | Self::UriTooLong
            | Self::HeadersTooLarge
            | Self::HeaderTimeout
            | Self::BodyTimeout
            | Self::BodyTooLarge
            | Self::UnsupportedMediaType
            | Self::BadBody
            | Self::ExpectationFailed
            | Self::VersionNotSupported
            | Self::NotImplemented
            | Self::NotFound
            | Self::MethodNotAllowed
            | Self::MisdirectedRequest
            | Self::Forbidden
            | Self::Unauthenticated
            | Self::AuthUnavailable
            | Self::Gone
            | Self::Maintenance
            | Self::LoopDetected
            | Self::ResponseTooLarge
            | Self::ClientError
            | Self::TooManyRequests
            | Self::Stopped
            | Self::Internal => return false,
        };
        conditions.has(condition)
    }

    /// Whether no target has seen anything of the request, or says that it did nothing with it.
    #[must_use]
    pub const fn is_unsent(self) -> bool {
        matches!(
            self,
            Self::ConnectFailure
                | Self::ConnectTimeout
                | Self::TlsFailure
                | Self::RefusedStream
                | Self::NoTarget
                | Self::NoCredential
                | Self::CircuitOpen
                | Self::Overload
        )
    }

    /// Whether nobody was there.
    #[must_use]
    pub const fn is_absent(self) -> bool {
        matches!(
            self,
            Self::ConnectFailure
                | Self::ConnectTimeout
                | Self::TlsFailure
                | Self::NoTarget
                | Self::NoCredential
        )
    }

    /// The stable name.
    #[must_use]
    pub fn code(self) -> &'static str {
        self.meaning().code
    }

    /// The fault with this stable name.
    #[must_use]
    pub fn named(code: &str) -> Option<Self> {
        Self::all().find(|fault| fault.code() == code)
    }
}
