//! 1: what becomes of a request, and its answer where it is ours.

use pingora::Result;
use pingora_proxy::Session;

use super::answer;
use super::state::State;
use crate::flow::{self, Next};

/// Decides about a request. `Ok(true)`: it has its answer.
pub(super) async fn filter(session: &mut Session, state: &mut State) -> Result<bool> {
    if state.closing {
        session.set_keepalive(None);
    }
    match flow::decide(&state.plan, session.req_header(), &mut state.exchange) {
        Ok(Next::Upstream) => {
            if state.exchange.framing.expect_continue {
                // Pingora would close after an answer that comes before the body is whole; this one is none.
                let keepalive = session.get_keepalive();
                session.write_continue_response().await?;
                session.set_keepalive(keepalive);
            }
            Ok(false)
        }
        Ok(Next::Answer(reply)) => answer::reply(session, state, reply).await.map(|()| true),
        Err(fault) => answer::fault(session, state, fault).await.map(|()| true),
    }
}
