//! The bodies of a request and of its answer as they pass: counted, and not longer than the route takes.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pingora::{Error, ErrorType, Result};

use super::state::State;
use crate::compress::{Coding, Encoder};
use crate::exchange::Fault;

/// So much of a whole body is encoded at a time.
const STEP_BYTES: usize = 64 * 1024;

/// A piece of the request's body passes.
pub(super) fn request(body: Option<&Bytes>, state: &mut State) -> Result<()> {
    let bytes = body.map_or(0, Bytes::len);
    state.signals.watch.uploaded(bytes);
    state.passed.0 += body.map_or(0, |piece| piece.len() as u64);
    // What passes after an upgrade is no body any more.
    let tunnel = state.signals.tunnel.load(Ordering::Acquire);
    let within = |limit| match body {
        // A call may go on for ever: what is limited is each of its messages.
        Some(piece) if state.exchange.is_call => state.messages.pass(piece, limit),
        _ => state.passed.0 <= limit || state.exchange.is_call || tunnel,
    };
    if !state.exchange.limits.request.is_none_or(within) {
        state.exchange.fault = Some(Fault::BodyTooLarge);
        let mut error = Error::explain(ErrorType::HTTPStatus(413), "the request body is too large");
        error.as_down();
        return Err(error);
    }
    Ok(())
}

/// A piece of the answer's body passes.
pub(super) fn response(body: Option<&Bytes>, state: &mut State) -> Result<Option<Duration>> {
    state.signals.watch.moved();
    state.passed.1 += body.map_or(0, |piece| piece.len() as u64);
    let tunnel = state.signals.tunnel.load(Ordering::Acquire);
    let within = |limit| match body {
        Some(piece) if state.exchange.is_call => state.answers.pass(piece, limit),
        _ => state.passed.1 <= limit || state.exchange.is_call || tunnel,
    };
    if !state.exchange.limits.response.is_none_or(within) {
        return Err(too_large(state));
    }
    Ok(None)
}

/// A piece of the answer's body goes to the client, in the coding that was chosen.
pub(super) fn encode(body: &mut Option<Bytes>, state: &mut State) -> Result<()> {
    let piece = body.as_ref().filter(|piece| !piece.is_empty());
    if let (Some(encoder), Some(piece)) = (&mut state.encoder, piece) {
        let coded = encoder.encode(piece).map_err(broken)?;
        *body = Some(coded).filter(|coded| !coded.is_empty());
    }
    Ok(())
}

/// The last piece does, with the end of the coding.
pub(super) fn finish(body: &mut Option<Bytes>, state: &mut State) -> Result<()> {
    if let Some(mut encoder) = state.encoder.take() {
        let piece = body.take().unwrap_or_default();
        *body = Some(encoder.finish(&piece).map_err(broken)?);
    }
    Ok(())
}

/// What makes a body in this coding.
pub(super) fn encoder(coding: Option<Coding>) -> Result<Option<Encoder>> {
    coding.map(Encoder::new).transpose().map_err(broken)
}

/// A whole body in this coding.
pub(super) async fn encoded(body: Bytes, coding: Option<Coding>) -> Result<Bytes> {
    let Some(coding) = coding.filter(|_| !body.is_empty()) else {
        return Ok(body);
    };
    let mut encoder = Encoder::new(coding).map_err(broken)?;
    let mut coded = BytesMut::with_capacity(body.len() / 4);
    for piece in body.chunks(STEP_BYTES) {
        coded.extend_from_slice(&encoder.encode(piece).map_err(broken)?);
        // A long body takes its time: others have their turn in between.
        tokio::task::yield_now().await;
    }
    coded.extend_from_slice(&encoder.finish(&[]).map_err(broken)?);
    Ok(coded.freeze())
}

#[expect(clippy::needless_pass_by_value, reason = "the form of `map_err`")]
fn broken(error: std::io::Error) -> Box<Error> {
    Error::explain(ErrorType::InternalError, error.to_string())
}

/// The answer is longer than the route takes.
pub(super) fn too_large(state: &mut State) -> Box<Error> {
    state.exchange.fault = Some(Fault::ResponseTooLarge);
    let mut error = Error::explain(ErrorType::HTTPStatus(502), "the answer is too large");
    error.as_up();
    error
}
