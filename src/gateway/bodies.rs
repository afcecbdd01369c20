//! The bodies of a request and of its answer as they pass: counted, and not longer than the route takes.

use std::time::Duration;

use bytes::Bytes;
use pingora::{Error, ErrorType, Result};

use super::state::State;
use crate::exchange::Fault;

/// A piece of the request's body passes.
pub(super) fn request(body: Option<&Bytes>, state: &mut State) -> Result<()> {
    let bytes = body.map_or(0, Bytes::len);
    state.signals.watch.uploaded(bytes);
    state.passed.0 += body.map_or(0, |piece| piece.len() as u64);
    if state
        .exchange
        .limits
        .request
        .is_some_and(|limit| state.passed.0 > limit)
    {
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
    if state
        .exchange
        .limits
        .response
        .is_some_and(|limit| state.passed.1 > limit)
    {
        return Err(too_large(state));
    }
    Ok(None)
}

/// The answer is longer than the route takes.
pub(super) fn too_large(state: &mut State) -> Box<Error> {
    state.exchange.fault = Some(Fault::ResponseTooLarge);
    let mut error = Error::explain(ErrorType::HTTPStatus(502), "the answer is too large");
    error.as_up();
    error
}
