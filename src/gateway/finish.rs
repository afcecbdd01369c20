//! 6: the end of every request, once: metrics and one record of the access log.

use http::header::{REFERER, USER_AGENT};
use pingora::Error;
use pingora_proxy::Session;

use super::state::State;
use super::{Ctx, attempt};
use crate::exchange::{Facts, RequestHead, ResponseHead, TraceContext, host_of};
use crate::flow;
use crate::policy::log::Log;
use crate::telemetry::{Fields, Record, Recording, Telemetry};

/// Notes how the request ended.
pub(super) fn record(
    session: &Session,
    error: Option<&Error>,
    ctx: &mut Ctx,
    telemetry: &Telemetry,
) {
    let Some(state) = ctx.0.as_deref_mut() else {
        return;
    };
    let status = session
        .response_written()
        .map_or(0, |head| head.status.as_u16());
    log::debug!(
        id:% = state.exchange.id.text(), route:% = state.exchange.route_name, status, error:? = error.map(Error::etype),
        cache:% = session.cache.phase().as_str();
        "request"
    );
    let bodies = if state.exchange.is_call {
        state.passed
    } else {
        (
            session.body_bytes_read() as u64,
            session.body_bytes_sent() as u64,
        )
    };
    let answer = session.response_written();
    note(
        (session.req_header(), answer),
        status,
        bodies,
        state,
        telemetry,
    );
}

/// One record, and the counts. `bodies` are the bytes of the request's body and of the answer's.
pub(super) fn note(
    (head, response): (&RequestHead, Option<&ResponseHead>),
    status: u16,
    bodies: (u64, u64),
    state: &mut State,
    telemetry: &Telemetry,
) {
    attempt::ends(state);
    state.noted = true;
    let fault = state.exchange.fault;
    state.exchange.fault = fault.or_else(|| state.signals.watch.reason());
    let state = &*state;
    let route = flow::route(&state.plan, &state.exchange);
    let rule = route.and_then(|route| route.chain.recording());
    let facts = Facts {
        head,
        exchange: &state.exchange,
        response,
    };
    let fields = rule.map(|rule| rule.fields(facts));
    let record = Record {
        status,
        received: bodies.0,
        sent: bodies.1,
        fields: fields.as_ref().map(|fields| fields as &dyn Fields),
        ..of(head, state)
    };
    telemetry.finished(
        &record,
        state.exchange.fault,
        route.and_then(crate::plan::Route::metrics),
        rule.map_or(Recording::Usual, Log::recording),
    );
}

fn of<'a>(head: &'a RequestHead, state: &'a State) -> Record<'a> {
    let exchange = &state.exchange;
    let header = |name| {
        head.headers
            .get(name)
            .and_then(|value: &http::HeaderValue| value.to_str().ok())
    };
    let upstream = exchange.target.as_ref().and(exchange.upstream.as_deref());
    Record {
        unix_millis: exchange.unix_millis,
        id: exchange.id.text(),
        trace_id: exchange.trace.as_ref().map(TraceContext::id),
        client: exchange.client.as_ref().map(|client| client.client),
        method: head.method.as_str(),
        host: host_of(&head.headers),
        path: head.uri.path(),
        query: head.uri.query(),
        route: &exchange.route_name,
        duration: state
            .clock
            .instant()
            .saturating_duration_since(exchange.started),
        upstream,
        target: exchange.target.as_deref(),
        upstream_path: upstream.map(|_| flow::upstream_path(head, exchange)),
        consumer: exchange
            .identity
            .as_ref()
            .and_then(|identity| identity.consumer.as_ref())
            .map(|consumer| &*consumer.name),
        decided_by: flow::decided_by(&state.plan, exchange),
        refusal: exchange.refusal,
        fallback: exchange
            .fallen
            .map(|fallen| (fallen.served.word(), fallen.reason.word())),
        attempts: exchange.attempts,
        error_type: exchange.fault.map(crate::exchange::Fault::code),
        grpc_status: exchange.grpc_status,
        user_agent: header(USER_AGENT),
        referer: header(REFERER),
        protocol: match head.version {
            http::Version::HTTP_10 => "1.0",
            http::Version::HTTP_2 => "2",
            _ => "1.1",
        },
        ..Record::default()
    }
}
