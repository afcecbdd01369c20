//! 5: what the client gets of an upstream's answer.

use std::sync::atomic::Ordering;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, SEC_WEBSOCKET_EXTENSIONS};
use http::{Method, StatusCode};
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorType, Result};
use pingora_proxy::Session;

use super::state::State;
use super::{again, attempt, bodies};
use crate::exchange::{Fault, Upgrade, WebSocketRules, check_answer};

/// Checks an upstream's head, and takes off what is not for the client.
pub(super) fn check(session: &Session, head: &mut ResponseHeader, state: &mut State) -> Result<()> {
    let checked = check_answer(head, upgrade(session), &mut state.interim);
    if let Err(why) = checked {
        state.exchange.fault = Some(Fault::ProtocolError);
        let mut error = Error::explain(ErrorType::InvalidHTTPHeader, why);
        error.as_up();
        return Err(error);
    }
    let length = head.headers.get(CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let limit = state.exchange.limits.response;
    if limit
        .zip(length)
        .is_some_and(|(limit, length)| length > limit)
        && session.req_header().method != Method::HEAD
    {
        return Err(bodies::too_large(state));
    }
    if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
        attempt::answered(state, head.status.as_u16());
    }
    if head.status.as_u16() >= 400 && is_not_taken(session, head, state) {
        return Err(Error::explain(
            ErrorType::Custom("AnotherAttempt"),
            "its answer is not taken",
        ));
    }
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        if let Some(rules) = state.exchange.websocket {
            let compressed = head.headers.contains_key(SEC_WEBSOCKET_EXTENSIONS);
            let rules = WebSocketRules {
                compressed,
                ..rules
            };
            state.signals.websocket.get_or_init(|| rules);
            state.signals.watch.may_be_silent(rules.idle);
        }
        state.signals.tunnel.store(true, Ordering::Release);
    }
    Ok(())
}

/// Whether something else follows an answer with this head, of which nothing went to the client.
fn is_not_taken(session: &Session, head: &ResponseHeader, state: &mut State) -> bool {
    let goes_on = again::goes_on(session, state, Ok(head));
    if !goes_on && state.instead.is_none() {
        return false;
    }
    state.decided = Some(goes_on);
    attempt::ends(state);
    true
}

/// Whether the client asked for another protocol.
fn upgrade(session: &Session) -> Upgrade {
    if session.is_upgrade_req() {
        Upgrade::Asked
    } else {
        Upgrade::None
    }
}

/// The head goes to the client: from here on only the body is waited for.
pub(super) fn begins(
    session: &mut Session,
    head: &ResponseHeader,
    state: &mut State,
) -> Result<()> {
    let upgraded = head.status == StatusCode::SWITCHING_PROTOCOLS;
    if head.status.is_informational() && !upgraded {
        state.signals.watch.moved();
        return Ok(());
    }
    state.encoder = bodies::encoder(state.exchange.coding)?;
    if state.is_last() {
        session.set_keepalive(None);
    }
    let kind = head.headers.get(CONTENT_TYPE);
    let kind = kind.map_or(&b""[..], http::HeaderValue::as_bytes);
    let endless = ["text/event-stream", "application/grpc"]
        .iter()
        .any(|endless| kind.starts_with(endless.as_bytes()));
    state.status = Some(head.status);
    if upgraded {
        // A client that is silent is no request body that does not come.
        session.set_read_timeout(None);
        state.signals.watch.tunnels();
    } else if endless {
        state.signals.watch.streams();
    } else {
        state.signals.watch.answered();
    }
    Ok(())
}
