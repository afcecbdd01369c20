//! When something breaks after the request was let through: from Pingora's error to a fault, and to its answer.

use std::sync::atomic::Ordering;

use http::StatusCode;
use pingora::{Error, ErrorSource, ErrorType};
use pingora_proxy::{FailToProxy, Session};

use super::state::Instead;
use super::{Ctx, answer};
use crate::call::fault_of;
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
    let instead = state.instead.take();
    let fault = state.exchange.fault.unwrap_or_else(|| fault_of(error));
    if instead.is_none() {
        state.exchange.fault = Some(fault);
        telemetry.upstream_failed(&state.exchange, fault, error);
    }
    let begun = session.response_written().is_some_and(|head| {
        !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS
    });
    if begun || client_is_gone(error) {
        return GONE;
    }
    state.closing |= matches!(fault, Fault::ClientError | Fault::BodyTimeout);
    let answered = match instead {
        Some(Instead::Reply(reply)) => answer::reply(session, state, reply).await,
        Some(Instead::Stale(stale)) => answer::stale(session, state, *stale).await,
        None => answer::fault(session, state, fault).await,
    };
    if answered.is_err() {
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
