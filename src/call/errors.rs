//! Why a call has no answer: from Pingora's error to a fault.

use pingora::{Error, ErrorSource, ErrorType};

use crate::exchange::Fault;

/// A call without an answer.
#[derive(Debug)]
pub struct Failed {
    /// What the client hears of it.
    pub fault: Fault,
    /// What is written down of it.
    pub cause: Box<Error>,
}

impl Failed {
    /// A failure that we noticed ourselves.
    pub(super) fn new(fault: Fault, why: &'static str) -> Self {
        let mut cause = Error::explain(ErrorType::InternalError, why);
        cause.as_up();
        Self { fault, cause }
    }
}

impl From<Box<Error>> for Failed {
    fn from(mut cause: Box<Error>) -> Self {
        cause.as_up();
        Self {
            fault: fault_of(&cause),
            cause,
        }
    }
}

/// What an error of Pingora's means.
#[must_use]
pub fn fault_of(error: &Error) -> Fault {
    if *error.esource() == ErrorSource::Downstream {
        let silent = *error.etype() == ErrorType::ReadTimedout;
        return if silent {
            Fault::BodyTimeout
        } else {
            Fault::ClientError
        };
    }
    if is_refused(error) {
        return Fault::RefusedStream;
    }
    match error.etype() {
        ErrorType::ConnectTimedout => Fault::ConnectTimeout,
        ErrorType::ConnectRefused
        | ErrorType::ConnectNoRoute
        | ErrorType::ConnectError
        | ErrorType::ConnectProxyFailure
        | ErrorType::SocketError
        | ErrorType::BindError => Fault::ConnectFailure,
        ErrorType::TLSHandshakeFailure
        | ErrorType::TLSHandshakeTimedout
        | ErrorType::TLSWantX509Lookup
        | ErrorType::InvalidCert
        | ErrorType::HandshakeError
        | ErrorType::H2Downgrade => Fault::TlsFailure,
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => Fault::Timeout,
        ErrorType::InvalidHTTPHeader
        | ErrorType::H1Error
        | ErrorType::H2Error
        | ErrorType::InvalidH2 => Fault::ProtocolError,
        ErrorType::ReadError | ErrorType::WriteError | ErrorType::ConnectionClosed => Fault::Reset,
        ErrorType::HTTPStatus(400) => Fault::BadRequest,
        ErrorType::AcceptError
        | ErrorType::HTTPStatus(_)
        | ErrorType::FileOpenError
        | ErrorType::FileCreateError
        | ErrorType::FileReadError
        | ErrorType::FileWriteError
        | ErrorType::InternalError
        | ErrorType::UnknownError
        | ErrorType::Custom(_)
        | ErrorType::CustomCode(..) => rare(error),
    }
}

/// Whether a target of HTTP/2 says that it did nothing with the request (RFC 9113 section 8.7).
fn is_refused(error: &Error) -> bool {
    let cause = error.cause.as_deref();
    let cause = cause.and_then(|cause| cause.downcast_ref::<h2::Error>());
    cause.is_some_and(|cause| {
        cause.is_remote() && cause.reason() == Some(h2::Reason::REFUSED_STREAM)
    })
}

/// What comes from no peer, as far as we know.
fn rare(error: &Error) -> Fault {
    if *error.esource() == ErrorSource::Upstream {
        Fault::ProtocolError
    } else {
        Fault::Internal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_stops_sending_is_told_so() {
        let mut error = Error::new(ErrorType::ReadTimedout);
        error.as_down();
        assert_eq!(fault_of(&error), Fault::BodyTimeout);
        error.as_up();
        assert_eq!(fault_of(&error), Fault::Timeout);
    }
}
