//! Every decision that a request would meet, in words: by the code that decides about real ones.

use std::sync::Arc;
use std::time::Instant;

use http::HeaderMap;
use http::header::{ALLOW, LOCATION};
use serde_json::{Map, Value as Json, json};

use super::ask::Asked;
use super::{Next, decide, decided_by, name, of_fault, of_reply, route, upstream, upstream_path};
use crate::base::clock::Clock;
use crate::base::control::Question;
use crate::call::is_repeatable;
use crate::exchange::{
    Decision, Event, Exchange, Fault, Mode, RequestHead, RequestId, ResponseHead, Step, is_grpc,
};
use crate::plan::{Plan, Route};
use crate::policy::fallback::Rung;

/// The names of listeners that are open, and their addresses.
pub type Bound = [(Arc<str>, String)];

/// Says what would become of a request. Nothing is counted, taken or sent.
///
/// # Errors
/// What cannot be asked, in words.
pub fn explain(
    plan: &Plan,
    question: &Question,
    bound: &Bound,
    clock: &dyn Clock,
    mode: Mode,
) -> Result<Json, String> {
    let asked = Asked::new(plan, question, bound)?;
    let now = question.unix_millis.unwrap_or_else(|| clock.unix_millis());
    let mut exchange = begin(clock.instant(), now, &asked);
    exchange.mode = mode;
    let mut told = Map::new();
    told.insert("method".to_owned(), json!(question.method));
    told.insert("url".to_owned(), json!(question.url));
    let listener = plan.listeners.get(asked.listener);
    told.insert(
        "listener".to_owned(),
        json!(listener.map(|listener| &*listener.name)),
    );
    let (head, framing) = match asked.head {
        Ok(read) => read,
        Err(fault) => {
            exchange.id = RequestId::new(now);
            answered(&mut told, plan, &HeaderMap::new(), &exchange, Err(fault));
            told.insert("decided_by".to_owned(), json!("http"));
            told.insert(
                "steps".to_owned(),
                json!([step("http", &Decision::Refused(fault))]),
            );
            return Ok(Json::Object(told));
        }
    };
    exchange.framing = framing;
    let next = decide(plan, &head, &mut exchange);
    if let Some(route) = route(plan, &exchange).filter(|_| !exchange.route_name.is_empty()) {
        told.insert("route".to_owned(), json!(&*route.name));
        told.insert("place".to_owned(), json!(plan.places.get(&route.place)));
    }
    told.insert("decided_by".to_owned(), json!(decided_by(plan, &exchange)));
    match next {
        Ok(Next::Upstream | Next::Call) => forwarded(&mut told, plan, &head, &exchange),
        Ok(Next::Ask) => {
            told.insert("status_from".to_owned(), json!("whoever is asked"));
            told_called(&mut told, plan, &head, &exchange);
        }
        Ok(Next::Answer(reply)) => {
            let answer = of_reply(reply, &exchange);
            answered(
                &mut told,
                plan,
                &head.headers,
                &exchange,
                answer.map(|(head, _)| head),
            );
        }
        Err(fault) => answered(&mut told, plan, &head.headers, &exchange, Err(fault)),
    }
    told.insert("steps".to_owned(), steps(plan, &exchange));
    Ok(Json::Object(told))
}

fn begin(started: Instant, unix_millis: i64, asked: &Asked) -> Exchange {
    let mut exchange = Exchange::new(started, unix_millis, asked.scheme);
    exchange.listener = asked.listener;
    exchange.peer = asked.peer;
    exchange
}

/// Where it goes, and what is asked there. Of the answer nothing is known: it is taken to be good.
fn forwarded(told: &mut Map<String, Json>, plan: &Plan, head: &RequestHead, exchange: &Exchange) {
    let mut sent = head.clone();
    if let Err(fault) = super::write_upstream_request(&mut sent, plan, exchange) {
        return answered(told, plan, &head.headers, exchange, Err(fault));
    }
    let Some(upstream) = upstream(plan, exchange) else {
        return;
    };
    told.insert("status".to_owned(), json!(200));
    told.insert(
        "status_from".to_owned(),
        json!("upstream, if it answers so"),
    );
    told.insert("upstream".to_owned(), json!(&**upstream.name()));
    told_called(told, plan, head, exchange);
    let ask = super::ask(plan, head, exchange);
    let target = match exchange.mode {
        Mode::Offline => None,
        Mode::Live | Mode::Dry => upstream.peek(&ask),
    };
    let written: Vec<&str> = upstream.authorities().collect();
    match (target, written.as_slice()) {
        (Some(target), _) => told.insert("target".to_owned(), json!(&*target)),
        (None, [only]) => told.insert("target".to_owned(), json!(only)),
        (None, _) => told.insert("targets".to_owned(), json!(written)),
    };
    if written.len() > 1 {
        told.insert("chosen_by".to_owned(), json!(upstream.reason(&ask)));
    }
    resilience(told, plan, head, exchange);
    if let Some(credentials) = upstream.credentials() {
        told.insert("upstream_credential".to_owned(), json!(credentials.kind()));
    }
    told.insert("upstream_method".to_owned(), json!(sent.method.as_str()));
    told.insert(
        "upstream_path".to_owned(),
        json!(upstream_path(head, exchange)),
    );
    if let Some(query) = sent.uri.query() {
        told.insert("upstream_query".to_owned(), json!(query));
    }
    let host = sent.headers.get(http::header::HOST);
    told.insert(
        "upstream_host".to_owned(),
        json!(host.and_then(|host| host.to_str().ok())),
    );
}

/// Why it would be read and answered as a whole.
fn told_called(told: &mut Map<String, Json>, plan: &Plan, head: &RequestHead, exchange: &Exchange) {
    let called_by = super::called_by(plan, head, exchange);
    if !called_by.is_empty() {
        told.insert("called_by".to_owned(), json!(called_by));
    }
}

/// What holds where the upstream fails, as far as somebody wrote it.
fn resilience(told: &mut Map<String, Json>, plan: &Plan, head: &RequestHead, exchange: &Exchange) {
    match super::retries(plan, exchange) {
        Some(retries) if retries.is_written() => {
            let on = retries.on().to_string();
            let hedges = super::hedges(plan, head, exchange);
            let after = retries.hedge_after().filter(|_| hedges);
            let after = after.map(|after| json!({ "hedge_after": after.to_string() }));
            let mut said = json!({ "attempts": retries.attempts(), "retry_on": on });
            if let (Some(said), Some(Json::Object(after))) = (said.as_object_mut(), after) {
                said.extend(after);
            }
            told.insert("retries".to_owned(), said);
        }
        Some(_) => {}
        None => drop(told.insert("retries".to_owned(), json!("none"))),
    }
    if let Some(breaker) = super::breaker(plan, exchange) {
        let state = breaker.told(exchange.started).state;
        let breaker = json!({ "name": breaker.name(), "state": state.name() });
        told.insert("circuit_breaker".to_owned(), breaker);
    }
    let permits = upstream(plan, exchange).and_then(|it| it.resilience().permits());
    if let Some(permits) = permits {
        let crowd = permits.crowd();
        let crowd = json!({ "limit": crowd.limit, "under_way": crowd.taken });
        told.insert("concurrency".to_owned(), crowd);
    }
    let fallback = route(plan, exchange).and_then(|route| route.chain.fallback());
    if let Some(fallback) = fallback {
        let when = fallback.when().to_string();
        // Calls of gRPC may be made again after the statuses that are named.
        let named = is_grpc(&head.headers) && (0..=16).any(|code| fallback.when().has_grpc(code));
        let again = named || is_repeatable(head);
        let steps = fallback.rungs().iter().map(|rung| match rung {
            Rung::Upstream(_) if !again => format!("{rung} (where nobody got it so far)"),
            Rung::Upstream(_) | Rung::Stale(_) | Rung::Respond(_) => rung.to_string(),
        });
        let steps: Vec<String> = steps.collect();
        told.insert(
            "fallback".to_owned(),
            json!({ "when": when, "steps": steps }),
        );
    }
}

/// An answer of our own.
fn answered(
    told: &mut Map<String, Json>,
    plan: &Plan,
    asked: &HeaderMap,
    exchange: &Exchange,
    answer: Result<ResponseHead, Fault>,
) {
    let head = match answer {
        Ok(head) => Ok(head),
        Err(fault) => {
            told.insert("error_type".to_owned(), json!(fault.code()));
            of_fault(&plan.pages, asked, exchange, fault).map(|(head, _)| head)
        }
    };
    let Ok(head) = head else { return };
    told.insert("status".to_owned(), json!(head.status.as_u16()));
    told.insert("status_from".to_owned(), json!("gateway"));
    for (name, header) in [("location", LOCATION), ("allow", ALLOW)] {
        let value = head.headers.get(header);
        if let Some(value) = value.and_then(|value| value.to_str().ok()) {
            told.insert(name.to_owned(), json!(value));
        }
    }
}

fn steps(plan: &Plan, exchange: &Exchange) -> Json {
    let route = route(plan, exchange);
    let steps = exchange.events.iter().map(|event| {
        let mut told = step(name(event.step, route), &event.decision);
        if let Some(map) = told.as_object_mut() {
            if let Some(place) = place(event, route).and_then(|place| plan.places.get(place)) {
                map.insert("place".to_owned(), json!(place));
            }
            if let Some(detail) = detail(event, route, exchange) {
                map.insert("detail".to_owned(), json!(detail));
            }
        }
        told
    });
    Json::Array(steps.collect())
}

fn step(name: &str, decision: &Decision) -> Json {
    match decision {
        Decision::Passed => json!({ "clause": name, "decision": "passed" }),
        Decision::Answered => json!({ "clause": name, "decision": "answered" }),
        Decision::Asks => json!({ "clause": name, "decision": "would_ask" }),
        Decision::Forwarded => json!({ "clause": name, "decision": "forwarded" }),
        Decision::Refused(fault) => {
            json!({ "clause": name, "decision": "refused", "error_type": fault.code() })
        }
    }
}

fn place(event: Event, route: Option<&Route>) -> Option<&crate::base::problem::Place> {
    let route = route?;
    match event.step {
        Step::Policy(index) => route.chain.places().get(usize::from(index)),
        Step::Match | Step::Action => Some(&route.place),
        Step::Client | Step::Hosts | Step::Loop => None,
    }
}

fn detail(event: Event, route: Option<&Route>, exchange: &Exchange) -> Option<String> {
    let refused = matches!(event.decision, Decision::Refused(_));
    match event.step {
        Step::Client if refused => {
            Some("`Forwarded` and `X-Forwarded-For` tell two stories".to_owned())
        }
        Step::Hosts if refused => Some("not a host of this listener".to_owned()),
        Step::Loop if refused => Some("it was here before".to_owned()),
        Step::Client => {
            let client = exchange.client.as_ref()?;
            let by = if client.trusted_peer {
                ", behind a trusted proxy"
            } else {
                ""
            };
            Some(format!("client {}{by}", client.client))
        }
        Step::Match => exchange
            .environment
            .as_ref()
            .map(|host| format!("in the environment of {host}")),
        Step::Policy(index) => route?.chain.explain(usize::from(index), exchange),
        Step::Hosts | Step::Loop | Step::Action => None,
    }
}
