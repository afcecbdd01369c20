//! Why a handshake fails, in the few words that a metric has for it.

use pingora::tls::ssl::{Error, ErrorCode};

/// Why nobody came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The client asks for a name of no certificate.
    UnknownName,
    /// Client and gateway have no version of TLS in common.
    Version,
    /// They have no cipher, group or signature in common.
    Cipher,
    /// They have no protocol in common.
    Alpn,
    /// The client had to show a certificate and did not, or one that is not good.
    ClientCertificate,
    /// The client said that it cannot go on: it does not like our certificate, for one.
    ClientAlert,
    /// It took too long.
    Timeout,
    /// The client was gone.
    Closed,
    /// What came is no TLS.
    NotTls,
    /// What came is not as TLS has it.
    Protocol,
}

impl Failure {
    /// Each of them.
    pub const ALL: [Self; 10] = [
        Self::UnknownName,
        Self::Version,
        Self::Cipher,
        Self::Alpn,
        Self::ClientCertificate,
        Self::ClientAlert,
        Self::Timeout,
        Self::Closed,
        Self::NotTls,
        Self::Protocol,
    ];

    /// As a metric calls it.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::UnknownName => "unknown_name",
            Self::Version => "version",
            Self::Cipher => "cipher",
            Self::Alpn => "alpn",
            Self::ClientCertificate => "client_certificate",
            Self::ClientAlert => "client_alert",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::NotTls => "not_tls",
            Self::Protocol => "protocol",
        }
    }

    /// What OpenSSL calls it: its numbers stay, its words change.
    #[must_use]
    pub fn of(error: &Error) -> Self {
        let Some(stack) = error.ssl_error() else {
            // The socket's end, and what else is not of TLS.
            let gone = [ErrorCode::SYSCALL, ErrorCode::ZERO_RETURN].contains(&error.code());
            return if gone { Self::Closed } else { Self::Protocol };
        };
        let reason = stack.errors().first().map(|error| error.reason_code());
        reason.map_or(Self::Protocol, Self::of_reason)
    }

    /// `SSL_R_…` of OpenSSL's `sslerr.h`.
    fn of_reason(reason: i32) -> Self {
        match reason {
            // unsupported protocol, version too low or high, no protocols available, bad legacy version, inappropriate fallback
            258 | 396 | 166 | 191 | 292 | 373 => Self::Version,
            // no shared cipher, no suitable key share, groups, signature algorithms (shared or not)
            193 | 101 | 295 | 118 | 376 | 410 => Self::Cipher,
            // no application protocol
            235 => Self::Alpn,
            // no certificate returned, verify failed, and what is wrong with its proof
            199 | 134 | 100 | 123 => Self::ClientCertificate,
            // unexpected end
            294 => Self::Closed,
            // What the other side says stands above this, as its alert.
            1000.. => Self::ClientAlert,
            _ => Self::Protocol,
        }
    }
}
