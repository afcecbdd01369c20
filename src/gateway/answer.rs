//! Answers of our own onto the wire; the connection stays open where the client can safely go on.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Method, StatusCode, Version};
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorType, Result};
use pingora_proxy::Session;

use super::bodies;
use super::home::own_stream;
use super::state::State;
use crate::call::Answer;
use crate::exchange::{Fault, Reply, is_grpc};
use crate::flow;

/// A body up to this is read to its end, so that the connection can go on after a refusal.
const DRAIN_BYTES_MAX: usize = 64 * 1024;
/// How long that may take.
const DRAIN_TIME_MAX: Duration = Duration::from_millis(250);
/// A whole answer is written in pieces of this size: how long a client may take is counted for each.
const PIECE_BYTES: usize = 64 * 1024;
/// How long a client that goes on sending is read from after its answer: a closed socket would take the answer from it.
const LINGER_TIME_MAX: Duration = Duration::from_secs(2);

/// Sends an answer that was asked for.
pub(super) async fn reply(session: &mut Session, state: &mut State, reply: Reply) -> Result<()> {
    let asked = session.req_header();
    let answer = flow::of_own(&state.plan, asked, reply, &mut state.exchange);
    let (head, body) = answer.map_err(internal)?;
    let body = bodies::encoded(body, state.exchange.coding).await?;
    write(session, state, head, body).await
}

/// Sends the last good answer of an upstream, as the policies of the route let the client have it.
pub(super) async fn stale(session: &mut Session, state: &mut State, last: Answer) -> Result<()> {
    let Answer { mut head, body, .. } = last;
    let asked = session.req_header();
    flow::shape(&state.plan, asked, &mut head, &mut state.exchange);
    head.remove_header(&TRANSFER_ENCODING);
    let body = bodies::encoded(body, state.exchange.coding).await?;
    write(session, state, head, body).await
}

/// Sends the answer to a fault: as the client reads it best.
pub(super) async fn fault(session: &mut Session, state: &mut State, fault: Fault) -> Result<()> {
    state.exchange.fault = Some(fault);
    let asked = &session.req_header().headers;
    if is_grpc(asked) {
        state.exchange.grpc_status = Some(fault.meaning().grpc);
    }
    let answer = flow::of_fault(&state.plan.pages, asked, &state.exchange, fault);
    let (head, body) = answer.map_err(internal)?;
    write(session, state, head, body).await
}

/// Sends a whole answer of an upstream.
pub(super) async fn whole(
    session: &mut Session,
    state: &mut State,
    mut head: ResponseHeader,
    mut body: Bytes,
) -> Result<()> {
    body = bodies::encoded(body, state.exchange.coding).await?;
    let is_head = session.req_header().method == Method::HEAD;
    let bodiless = matches!(
        head.status,
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
    );
    if !is_head && !bodiless {
        head.insert_header(CONTENT_LENGTH, body.len())?;
    }
    if state.is_last() {
        session.set_keepalive(None);
    }
    state.status = Some(head.status);
    // From here on it is the client that is waited for.
    state.signals.watch.answered();
    let silent = bodiless || is_head || body.is_empty();
    session
        .write_response_header(Box::new(head), silent)
        .await?;
    while !silent && !body.is_empty() {
        let piece = body.split_to(body.len().min(PIECE_BYTES));
        state.passed.1 += piece.len() as u64;
        session
            .write_response_body(Some(piece), body.is_empty())
            .await?;
    }
    Ok(())
}

/// A mistake of ours, as Pingora hears of it.
pub(super) fn internal(fault: Fault) -> Box<Error> {
    Error::explain(ErrorType::InternalError, fault.code())
}

async fn write(
    session: &mut Session,
    state: &mut State,
    mut head: ResponseHeader,
    body: Bytes,
) -> Result<()> {
    let status = head.status;
    let bodiless = status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
        || status.is_informational();
    if !bodiless {
        head.insert_header(CONTENT_LENGTH, body.len())?;
    }
    let settled = !state.is_last() && settle(session, state).await;
    if !settled {
        session.set_keepalive(None);
    }
    state.status = Some(status);
    state.signals.watch.concluded();
    let silent = bodiless || body.is_empty() || session.req_header().method == Method::HEAD;
    if silent && let Some(stream) = own_stream(session, state) {
        // Its end goes with the head: to gRPC an answer with an empty end is another one.
        return stream.write_response_header(Box::new(head), true);
    }
    session
        .write_response_header(Box::new(head), silent)
        .await?;
    if !silent {
        session.write_response_body(Some(body), true).await?;
    }
    if !settled {
        linger(session, state).await?;
    }
    Ok(())
}

/// Reads on for a while behind the last answer of a connection, so that a client that is still sending gets to read it.
async fn linger(session: &mut Session, state: &State) -> Result<()> {
    let framing = &state.exchange.framing;
    let apart = session.req_header().version == Version::HTTP_2;
    if apart || !framing.has_body() || framing.expect_continue || session.is_body_done() {
        return Ok(());
    }
    session.write_response_body(None, true).await?;
    let rest = async { while let Ok(Some(_)) = session.read_request_body().await {} };
    // Both ends are fine: the client is done, or it had its time.
    drop(tokio::time::timeout(LINGER_TIME_MAX, rest).await);
    Ok(())
}

/// Reads what is left of the request. `false`: the client is still sending, its next request could not be found.
async fn settle(session: &mut Session, state: &State) -> bool {
    let framing = &state.exchange.framing;
    // In HTTP/2 what is left of one stream is in nobody's way.
    let apart = session.req_header().version == Version::HTTP_2;
    if apart || !framing.has_body() || session.is_body_done() {
        return true;
    }
    let too_large = framing
        .content_length
        .is_some_and(|length| length > DRAIN_BYTES_MAX as u64);
    // A client that waits for `100 Continue` may send its body or not: nobody can know.
    if too_large || framing.expect_continue {
        return false;
    }
    let drain = async {
        let mut read = 0;
        while let Ok(Some(chunk)) = session.read_request_body().await {
            read += chunk.len();
            if read > DRAIN_BYTES_MAX {
                return false;
            }
        }
        session.is_body_done()
    };
    tokio::time::timeout(DRAIN_TIME_MAX, drain)
        .await
        .unwrap_or(false)
}
