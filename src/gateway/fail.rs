//! When something breaks after the request was let through: from Pingora's error to a fault, and to its answer.

use std::sync::atomic::Ordering;

use http::StatusCode;
use pingora::{Error, ErrorSource, ErrorType};
use pingora_proxy::{FailToProxy, Session};

use super::{Ctx, answer};
use crate::exchange::Fault;
use crate::telemetry::Telemetry;

/// Answers a request that failed, if its answer has not begun.
pub(super) async fn answer(
    session: &mut Session,
    error: &Error,
    ctx: &mut Ctx,
    telemetry: &Telemetry,
) -> FailToProxy {
    const GONE: FailToProxy = FailToProxy {
        error_code: 0,
        can_reuse_downstream: false,
    };
    let Some(state) = ctx.0.as_deref_mut() else {
        return GONE;
    };
    let fault = state.exchange.fault.unwrap_or_else(|| fault(error));
    state.exchange.fault = Some(fault);
    telemetry.upstream_failed(&state.exchange, fault, error);
    let begun = session.response_written().is_some_and(|head| {
        !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS
    });
    if begun || client_is_gone(error) {
        return GONE;
    }
    state.closing |= matches!(fault, Fault::ClientError | Fault::BodyTimeout);
    if answer::fault(session, state, fault).await.is_err() {
        return GONE;
    }
    // Pingora lets go of the client's connection after a failure; ours comes home where it can go on.
    if session.get_keepalive().is_some() && session.is_body_done() {
        let flushed = session.write_response_body(None, true).await.is_ok();
        state.signals.goes_on.store(flushed, Ordering::Release);
    }
    FailToProxy {
        error_code: fault.meaning().status.as_u16(),
        can_reuse_downstream: false,
    }
}

fn client_is_gone(error: &Error) -> bool {
    let broken = matches!(
        error.etype(),
        ErrorType::WriteError | ErrorType::WriteTimedout | ErrorType::ConnectionClosed
    );
    *error.esource() == ErrorSource::Downstream && broken
}

/// What an error of Pingora's means.
pub(super) fn fault(error: &Error) -> Fault {
    if *error.esource() == ErrorSource::Downstream {
        let silent = *error.etype() == ErrorType::ReadTimedout;
        return if silent {
            Fault::BodyTimeout
        } else {
            Fault::ClientError
        };
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
        assert_eq!(fault(&error), Fault::BodyTimeout);
        error.as_up();
        assert_eq!(fault(&error), Fault::Timeout);
    }
}
