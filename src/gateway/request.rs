//! 1: what becomes of a request, and its answer where it is ours.

use http::Version;
use http::header::TE;
use pingora::Result;
use pingora::http::RequestHeader;
use pingora_proxy::Session;

use super::state::State;
use super::{Gateway, answer, ask, called, grpc};
use crate::exchange::{Fault, unspell};
use crate::flow::{self, Next};
use crate::upstream::Payload;

/// Decides about a request. `Ok(true)`: it has its answer.
pub(super) async fn filter(
    session: &mut Session,
    state: &mut State,
    gateway: &Gateway,
) -> Result<bool> {
    if state.closing {
        session.set_keepalive(None);
    }
    // Pingora copies the head for the upstream: the copy is made and changed for half the price.
    unspell(session.req_header_mut());
    let mut next = flow::decide(&state.plan, session.req_header(), &mut state.exchange);
    if matches!(next, Ok(Next::Ask)) {
        // Boxed: most requests are decided at once.
        next = Box::pin(ask::decide(session, state, gateway)).await?;
    }
    match next {
        Ok(Next::Upstream) if grpc::is_one(session, state) => {
            gateway.grpc.serve(session, state).await.map(|()| true)
        }
        Ok(Next::Upstream) => {
            go_on(session, state).await?;
            Ok(false)
        }
        Ok(Next::Call) => {
            // Boxed: the requests that are streamed need not carry its state along.
            Box::pin(called::serve(session, state, gateway)).await?;
            Ok(true)
        }
        Ok(Next::Answer(reply)) => answer::reply(session, state, reply).await.map(|()| true),
        // It was asked.
        Ok(Next::Ask) => Err(answer::internal(Fault::Internal)),
        Err(fault) => answer::fault(session, state, fault).await.map(|()| true),
    }
}

/// Writes the head that goes upstream, of the one that was `asked`.
pub(super) fn send(
    asked: &RequestHeader,
    head: &mut RequestHeader,
    state: &mut State,
) -> Result<()> {
    state.signals.watch.moved();
    let apart = head.version == Version::HTTP_2 && asked.version == Version::HTTP_2;
    // Between two streams it stays: gRPC asks for its status by it. Pingora leaves it only in sessions of its own.
    if let Some(trailers) = asked.headers.get(TE).filter(|_| apart) {
        head.insert_header(TE, trailers.clone())?;
    }
    flow::write_upstream_request(head, &state.plan, &state.exchange).map_err(answer::internal)?;
    show(head, state)
}

/// Shows the target who we are; a body that comes is not here yet.
pub(super) fn show(head: &mut RequestHeader, state: &mut State) -> Result<()> {
    let exchange = &state.exchange;
    let payload = if exchange.framing.has_body() {
        Payload::Streamed
    } else {
        Payload::Whole(b"")
    };
    let shown = flow::show_credential(&state.plan, head, exchange, payload);
    shown.map_err(|fault| {
        state.exchange.fault = Some(fault);
        answer::internal(fault)
    })
}

/// Lets a client that waits to be told send its body.
pub(super) async fn go_on(session: &mut Session, state: &State) -> Result<()> {
    if state.exchange.framing.expect_continue {
        // Pingora would close after an answer that comes before the body is whole; this one is none.
        let keepalive = session.get_keepalive();
        session.write_continue_response().await?;
        session.set_keepalive(keepalive);
    }
    Ok(())
}
