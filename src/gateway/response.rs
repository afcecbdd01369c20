//! 5: what the client gets of an upstream's answer.

use std::sync::atomic::Ordering;

use http::StatusCode;
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorType, Result};
use pingora_proxy::Session;

use super::state::State;
use crate::exchange::Fault;
use crate::flow;

/// Checks an upstream's head, and takes off what is not for the client.
pub(super) fn check(session: &Session, head: &mut ResponseHeader, state: &mut State) -> Result<()> {
    let checked = flow::check_answer(head, session.is_upgrade_req(), &mut state.interim);
    if let Err(why) = checked {
        state.exchange.fault = Some(Fault::ProtocolError);
        let mut error = Error::explain(ErrorType::InvalidHTTPHeader, why);
        error.as_up();
        return Err(error);
    }
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        state.signals.tunnel.store(true, Ordering::Release);
    }
    Ok(())
}
