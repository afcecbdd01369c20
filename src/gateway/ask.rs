//! 1: a request that nobody here can decide about: somebody is asked, for as long as the client waits.

use std::sync::Arc;
use std::time::Duration;

use pingora::Result;
use pingora_proxy::Session;
use tokio::time::{Instant, timeout_at};

use super::Gateway;
use super::called::{self, gone};
use super::peer;
use super::state::State;
use crate::call::{Outside, Transport};
use crate::exchange::Fault;
use crate::flow::{self, Next};
use crate::telemetry::AskResult;

/// Everything that is asked about one request takes no longer; whoever asks has shorter times of its own.
const ASKING_MAX: Duration = Duration::from_secs(30);

/// Asks until the request is decided. Where the request has a body, what its client does is not seen meanwhile: the body
/// is not read before it is known where it goes, unless whoever is asked has to be shown it.
pub(super) async fn decide(
    session: &mut Session,
    state: &mut State,
    gateway: &Gateway,
) -> Result<std::result::Result<Next, Fault>> {
    let plan = Arc::clone(&state.plan);
    let head = session.req_header().clone();
    let mut due = Instant::now() + ASKING_MAX;
    loop {
        match flow::shown_max(&plan, &head, &mut state.exchange) {
            Ok(None) => {}
            Ok(Some(longest)) => {
                match called::read(session, state, longest).await? {
                    Ok(body) => state.exchange.body = Some(body),
                    Err(fault) => {
                        return Ok(Err(flow::not_shown(&plan, fault, &mut state.exchange)));
                    }
                }
                // The client has had its own time.
                due = Instant::now() + ASKING_MAX;
            }
            Err(fault) => return Ok(Err(fault)),
        }
        let clause = flow::asking(&plan, &state.exchange);
        let metered = gateway.telemetry.asks(clause);
        let ends = peer::ends(session, &state.exchange);
        let outside = Outside::new(Transport::Http(&gateway.calls), &*plan)
            .about(state.exchange.unix_millis, ends);
        let has_all = !state.exchange.framing.has_body() || state.exchange.body.is_some();
        let asked = flow::inquire(&plan, &head, &mut state.exchange, &outside);
        let next = tokio::select! {
            biased;
            next = timeout_at(due, asked) => next.unwrap_or(Err(Fault::AuthUnavailable)),
            // Nobody waits for the answer any more: whoever is asked hears no more of it.
            _ = session.as_downstream_mut().read_body_or_idle(true), if has_all => return Err(gone()),
        };
        metered.ended(match &next {
            Ok(Next::Upstream | Next::Call | Next::Ask) => AskResult::Passed,
            Err(Fault::AuthUnavailable | Fault::Internal) => AskResult::Failed,
            Ok(Next::Answer(_)) | Err(_) => AskResult::Refused,
        });
        if !matches!(next, Ok(Next::Ask)) {
            return Ok(next);
        }
    }
}
