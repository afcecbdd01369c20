//! What targets are shown, so that they know who asks.

use http::StatusCode;

use super::upstream;
use crate::exchange::{Exchange, Fault, Mode, RequestHead};
use crate::plan::Plan;
use crate::upstream::Payload;

/// Adds the credential of the upstream to a request that is written already.
///
/// # Errors
/// There is none right now: then nothing is sent.
pub fn show(
    plan: &Plan,
    head: &mut RequestHead,
    exchange: &Exchange,
    payload: Payload<'_>,
) -> Result<(), Fault> {
    let credentials = upstream(plan, exchange).and_then(|upstream| upstream.credentials());
    match credentials.filter(|_| exchange.mode != Mode::Offline) {
        None => Ok(()),
        Some(credentials) => credentials
            .show(head, exchange.unix_millis, payload)
            .map_err(|_none| Fault::NoCredential),
    }
}

/// Whether the upstream has what it is to be shown.
///
/// # Errors
/// It has not, right now.
pub fn check(plan: &Plan, exchange: &Exchange) -> Result<(), Fault> {
    let credentials = upstream(plan, exchange).and_then(|upstream| upstream.credentials());
    let there = credentials.is_none_or(|it| it.is_there(exchange.unix_millis));
    if there || exchange.mode == Mode::Offline {
        Ok(())
    } else {
        Err(Fault::NoCredential)
    }
}

/// Looks at the status of an answer: a token that was not taken may have been taken back.
pub(super) fn heard(plan: &Plan, status: StatusCode, exchange: &Exchange) {
    if status == StatusCode::UNAUTHORIZED
        && exchange.mode == Mode::Live
        && let Some(tokens) = upstream(plan, exchange).and_then(|upstream| upstream.tokens())
    {
        tokens.doubt();
    }
}
