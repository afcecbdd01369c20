//! What is left to do for a request that was dropped before its end: its answer, if none began, and its record.

use bytes::Bytes;
use http::Method;
use http::header::CONTENT_LENGTH;

use super::state::State;
use super::{attempt, finish};
use crate::exchange::{Fault, Headers as _, RequestHead, ResponseHead, is_grpc};
use crate::flow;
use crate::telemetry::Telemetry;

/// What the client still gets.
#[derive(Debug)]
pub enum Rest {
    /// This whole answer: its head, and a body that is empty where none is sent.
    Answer(Box<ResponseHead>, Bytes),
    /// Nothing: the answer had begun, and is cut.
    Cut,
}

/// Notes that the request ended by `fault`; says what the client still gets. `head` is its head.
#[must_use]
pub fn rest_of(
    mut state: Box<State>,
    head: &RequestHead,
    fault: Fault,
    telemetry: &Telemetry,
) -> Rest {
    state.exchange.fault = Some(fault);
    if is_grpc(&head.headers) && state.status.is_none() {
        state.exchange.grpc_status = Some(fault.meaning().grpc);
    }
    attempt::fails(&mut state, fault);
    let exchange = &state.exchange;
    let (rest, status, sent) = match state.status {
        Some(begun) => (Rest::Cut, begun.as_u16(), state.passed.1),
        None => match flow::of_fault(&state.plan.pages, &head.headers, exchange, fault) {
            Ok((mut answer, mut body)) => {
                answer.set(&CONTENT_LENGTH, body.len().into());
                if head.method == Method::HEAD {
                    body.clear();
                }
                let (status, sent) = (answer.status.as_u16(), body.len() as u64);
                (Rest::Answer(Box::new(answer), body), status, sent)
            }
            Err(_) => (Rest::Cut, 0, 0),
        },
    };
    let received = state.passed.0;
    finish::note(
        (head, None),
        status,
        (received, sent),
        &mut state,
        telemetry,
    );
    rest
}
