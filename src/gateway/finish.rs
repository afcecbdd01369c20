//! 6: the end of every request, once.

use pingora::Error;
use pingora_proxy::Session;

use super::Ctx;
use crate::telemetry::Telemetry;

/// Notes how the request ended.
pub(super) fn record(
    session: &Session,
    error: Option<&Error>,
    ctx: &mut Ctx,
    telemetry: &Telemetry,
) {
    let Some(state) = ctx.as_deref_mut() else {
        return;
    };
    let status = session
        .response_written()
        .map_or(0, |head| head.status.as_u16());
    let seconds = state
        .clock
        .instant()
        .saturating_duration_since(state.exchange.started)
        .as_secs_f64();
    telemetry.finished(&state.exchange, status, seconds);
    log::debug!(
        id:% = state.exchange.id.text(), route:% = state.exchange.route_name, status, error:? = error.map(Error::etype),
        cache:% = session.cache.phase().as_str();
        "request"
    );
}
