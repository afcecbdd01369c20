//! A request test: the request asked as often as it says, with upstreams that say what is given, and what is not as expected.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::Value as Json;

use super::ask::Asked;
use super::{
    Fall, Means, Next, decide, decided_by, fall, of_fault, of_own, upstream, upstream_path,
};
use crate::base::clock::Clock;
use crate::base::control::Question;
use crate::call::{Answer, Forgetful, Outside, Request, Scripted, Terms, Transport};
use crate::config::request_test::{Asker, Expect, Failure, Given, RequestTest};
use crate::exchange::{
    Exchange, Fault, Headers, Identity, Mode, RequestHead, RequestId, ResponseHead,
};
use crate::plan::Plan;
use crate::upstream::{Ask, Upstream};

/// What came of one request.
struct Outcome {
    head: ResponseHead,
    body: Bytes,
    decided_by: &'static str,
    route: String,
    upstream: Option<Called>,
    /// How often each upstream was called.
    calls: Vec<(String, u64)>,
}

/// An upstream that was called.
struct Called {
    name: String,
    /// The path that it was asked for.
    path: String,
    /// What it was sent.
    body: Bytes,
}

/// Tries `test` on `plan`, which should be nobody else's: what is counted stays counted. Returns what is not as expected.
#[must_use]
pub fn trial(plan: &Plan, test: &RequestTest, clock: &dyn Clock) -> Vec<String> {
    let (method, url) = test.request.split_once(' ').unwrap_or_default();
    let (headers, body) = sent(test);
    let question = Question {
        method: method.to_owned(),
        url: url.to_owned(),
        headers,
        listener: test.listener.clone(),
        client: test.asker.as_ref().and_then(|asker| asker.client_ip),
        unix_millis: test.at.map(crate::base::units::Date::unix_millis),
    };
    let mut calls: BTreeMap<String, u64> = BTreeMap::new();
    let mut last = None;
    let assumed = test.asker.as_ref().and_then(|asker| assumed(plan, asker));
    for _ in 0..test.times {
        let asked = match Asked::new(plan, &question, &[]) {
            Ok(asked) => asked,
            Err(why) => return vec![why],
        };
        let now = question.unix_millis.unwrap_or_else(|| clock.unix_millis());
        let mut exchange = Exchange::new(clock.instant(), now, asked.scheme);
        exchange.listener = asked.listener;
        exchange.peer = asked.peer;
        exchange.mode = Mode::Offline;
        exchange.assumed.clone_from(&assumed);
        let outcome = run(plan, (asked, &body), &mut exchange, &test.given);
        let Some(outcome) = outcome else {
            return vec!["no answer could be made".to_owned()];
        };
        for (upstream, attempts) in &outcome.calls {
            *calls.entry(upstream.clone()).or_default() += attempts;
        }
        last = Some(outcome);
    }
    last.map_or_else(Vec::new, |outcome| {
        differences(&test.expect, &outcome, &calls)
    })
}

/// What is sent with the request: its headers, and its body.
fn sent(test: &RequestTest) -> (Vec<(String, String)>, Bytes) {
    let headers = test.headers.iter();
    let mut headers: Vec<(String, String)> = headers
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let Some((body, kind)) = test.body() else {
        return (headers, Bytes::new());
    };
    let typed = |(name, _): &(String, String)| name.eq_ignore_ascii_case("content-type");
    if !headers.iter().any(typed) {
        headers.push(("content-type".to_owned(), kind.to_owned()));
    }
    headers.push(("content-length".to_owned(), body.len().to_string()));
    (headers, Bytes::from(body))
}

/// Who is taken to be calling.
fn assumed(plan: &Plan, asker: &Asker) -> Option<Arc<Identity>> {
    let consumers = &plan.authentication.consumers;
    let name = asker.consumer.as_deref();
    let subject = asker.claims.get("sub").and_then(Json::as_str).or(name);
    asker.is_known().then(|| {
        Arc::new(Identity {
            method: "test",
            subject: subject.map(Into::into),
            claims: asker.claims.clone(),
            scopes: asker
                .scopes
                .iter()
                .map(|scope| scope.as_str().into())
                .collect(),
            consumer: name.and_then(|name| consumers.by_name(name)).cloned(),
            ..Identity::default()
        })
    })
}

fn run(
    plan: &Plan,
    (asked, body): (Asked, &Bytes),
    exchange: &mut Exchange,
    given: &BTreeMap<String, Given>,
) -> Option<Outcome> {
    let (head, framing) = match asked.head {
        Ok(read) => read,
        Err(fault) => {
            exchange.id = RequestId::new(exchange.unix_millis);
            let answer = of_fault(&plan.pages, &HeaderMap::new(), exchange, fault).ok()?;
            return Some(Outcome {
                head: answer.0,
                body: answer.1,
                decided_by: "http",
                route: String::new(),
                upstream: None,
                calls: Vec::new(),
            });
        }
    };
    exchange.framing = framing;
    let mut calls = Vec::new();
    let mut called = None;
    let mut next = decide(plan, &head, exchange);
    if matches!(next, Ok(Next::Ask)) {
        next = asked_of((plan, given), (&head, body), exchange);
    }
    let answer = match next {
        Ok(next @ (Next::Upstream | Next::Call)) => {
            let mut course = Course {
                next,
                body,
                given,
                calls: &mut calls,
                called: &mut called,
            };
            course.answered(plan, &head, exchange)
        }
        // What cannot be known is refused, as it is where nobody answers.
        Ok(Next::Ask) => Err(Fault::AuthUnavailable),
        Ok(Next::Answer(reply)) => of_own(plan, &head, reply, exchange),
        Err(fault) => Err(fault),
    };
    let answer = answer.or_else(|fault| of_fault(&plan.pages, &head.headers, exchange, fault));
    let (answer, body) = answer.ok()?;
    let is_head = head.method == http::Method::HEAD;
    Some(Outcome {
        head: answer,
        body: if is_head { Bytes::new() } else { body },
        decided_by: decided_by(plan, exchange),
        route: exchange.route_name.to_string(),
        upstream: called,
        calls,
    })
}

/// What comes of a question, where those who are asked say what is given. Of whom nothing is given, nothing is known.
fn asked_of(
    (plan, given): (&Plan, &BTreeMap<String, Given>),
    (head, body): (&RequestHead, &Bytes),
    exchange: &mut Exchange,
) -> Result<Next, Fault> {
    if super::shown_max(plan, head, exchange)?.is_some() {
        exchange.body = Some(body.clone());
    }
    let mut said = BTreeMap::new();
    for (name, given) in given {
        said.insert(name.clone(), scripted(given)?);
    }
    let outside = Outside::new(Transport::Each(&said), plan);
    let next = at_once(super::inquire(plan, head, exchange, &outside));
    next.unwrap_or(Err(Fault::AuthUnavailable))
}

/// A request on its way through the upstreams that it may go to.
struct Course<'a> {
    next: Next,
    body: &'a Bytes,
    given: &'a BTreeMap<String, Given>,
    calls: &'a mut Vec<(String, u64)>,
    /// The upstream that was called last.
    called: &'a mut Option<Called>,
}

impl Course<'_> {
    /// What the client gets, after retries and fallbacks.
    fn answered(
        &mut self,
        plan: &Plan,
        head: &RequestHead,
        exchange: &mut Exchange,
    ) -> Result<(ResponseHead, Bytes), Fault> {
        let longest = match self.next {
            Next::Call => super::whole_max(exchange).0,
            Next::Upstream | Next::Answer(_) | Next::Ask => u64::MAX,
        };
        if self.body.len() as u64 > longest {
            return Err(Fault::BodyTooLarge);
        }
        loop {
            let upstream = Arc::clone(upstream(plan, exchange).ok_or(Fault::NoTarget)?);
            let name = upstream.name().to_string();
            let path = upstream_path(head, exchange).to_owned();
            let before = exchange.attempts;
            let given = self.given.get(&name);
            let next = &self.next;
            let request = sent_on(plan, head, self.body, exchange, next)?;
            let called = called((plan, &upstream), &request, exchange, given, next);
            let attempts = exchange.attempts.saturating_sub(before);
            if attempts > 0 && given.and_then(|given| given.fail) != Some(Failure::NoTarget) {
                self.calls.push((name.clone(), attempts.into()));
                let body = request.body;
                *self.called = Some(Called { name, path, body });
            }
            let outcome = match &called {
                Ok(answer) => Ok(&answer.head),
                Err(fault) => Err(*fault),
            };
            let means = Means {
                resend: true,
                last_good: &Forgetful,
            };
            return match fall(plan, head, exchange, outcome, &means) {
                Fall::Upstream => continue,
                Fall::Reply(reply) => of_own(plan, head, reply, exchange),
                Fall::Stale(answer) => to_client(plan, head, *answer, exchange, next),
                Fall::Nothing => to_client(plan, head, called?, exchange, next),
            };
        }
    }
}

/// The answer as the client gets it.
fn to_client(
    plan: &Plan,
    asked: &RequestHead,
    answer: Answer,
    exchange: &mut Exchange,
    next: &Next,
) -> Result<(ResponseHead, Bytes), Fault> {
    if matches!(next, Next::Call) {
        return super::to_client(plan, asked, answer, exchange);
    }
    let Answer { mut head, body, .. } = answer;
    super::shape(plan, asked, &mut head, exchange);
    Ok((head, body))
}

/// The request as the upstream gets it.
fn sent_on(
    plan: &Plan,
    asked: &RequestHead,
    body: &Bytes,
    exchange: &Exchange,
    next: &Next,
) -> Result<Request, Fault> {
    if matches!(next, Next::Call) {
        return super::to_upstream(plan, asked, body.clone(), exchange);
    }
    let mut head = asked.clone();
    super::write_upstream_request(&mut head, plan, exchange)?;
    let body = body.clone();
    Ok(Request { head, body })
}

/// What the upstream would say.
fn called(
    (plan, upstream): (&Plan, &Upstream),
    request: &Request,
    exchange: &mut Exchange,
    given: Option<&Given>,
    next: &Next,
) -> Result<Answer, Fault> {
    let nothing = Given::default();
    let scripted = scripted(given.unwrap_or(&nothing))?;
    let terms = Terms {
        ours: false,
        harmless: false,
        times: super::timeouts(plan, exchange),
        ask: Ask::default(),
        since: exchange.started,
        answer_max: if matches!(next, Next::Call) {
            super::whole_max(exchange).1
        } else {
            exchange.limits.response.unwrap_or(u64::MAX)
        },
        breaker: super::breaker(plan, exchange),
        retries: super::retries(plan, exchange),
        meter: None,
    };
    let transport = Transport::Scripted(&scripted);
    let called = at_once(transport.call(upstream, request, &terms, exchange));
    let answer = called.ok_or(Fault::Internal)?;
    answer.map_err(|failed| failed.fault)
}

/// The upstream that says what is given.
fn scripted(given: &Given) -> Result<Scripted, Fault> {
    let status = StatusCode::from_u16(given.status.unwrap_or(200)).unwrap_or(StatusCode::OK);
    let mut head =
        ResponseHead::build(status, Some(given.headers.len())).map_err(|_error| Fault::Internal)?;
    let body = given.body().map(|(body, kind)| {
        head.set(&http::header::CONTENT_TYPE, HeaderValue::from_static(kind));
        body
    });
    for (name, value) in &given.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_error| Fault::Internal)?;
        let value = HeaderValue::from_str(value).map_err(|_error| Fault::Internal)?;
        head.set(&name, value);
    }
    Ok(Scripted {
        head,
        body: Bytes::from(body.unwrap_or_default()),
        fail: given.fail.map(fault),
    })
}

/// What is ready without anybody being asked.
fn at_once<T>(work: impl Future<Output = T>) -> Option<T> {
    let mut work = pin!(work);
    match work.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => Some(done),
        Poll::Pending => None,
    }
}

const fn fault(failure: Failure) -> Fault {
    match failure {
        Failure::ConnectFailure => Fault::ConnectFailure,
        Failure::Reset => Fault::Reset,
        Failure::Timeout => Fault::Timeout,
        Failure::TlsFailure => Fault::TlsFailure,
        Failure::ProtocolError => Fault::ProtocolError,
        Failure::NoTarget => Fault::NoTarget,
    }
}

fn differences(expect: &Expect, outcome: &Outcome, calls: &BTreeMap<String, u64>) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |what: &str, expected: Option<String>, got: String| {
        if let Some(expected) = expected.filter(|expected| *expected != got) {
            found.push(format!("{what}: expected {expected}, got {got}"));
        }
    };
    let quoted = |text: &String| format!("`{text}`");
    let status = outcome.head.status.as_u16().to_string();
    compare(
        "status",
        expect.status.map(|status| status.to_string()),
        status,
    );
    let decided = format!("`{}`", outcome.decided_by);
    compare(
        "decided_by",
        expect.decided_by.as_ref().map(quoted),
        decided,
    );
    compare(
        "route",
        expect.route.as_ref().map(quoted),
        quoted(&outcome.route),
    );
    let called = |part: Option<&String>| part.map_or_else(|| "none".to_owned(), quoted);
    let upstream = outcome.upstream.as_ref();
    compare(
        "upstream",
        expect.upstream.as_ref().map(quoted),
        called(upstream.map(|it| &it.name)),
    );
    let path = called(upstream.map(|it| &it.path));
    compare(
        "upstream_path",
        expect.upstream_path.as_ref().map(quoted),
        path,
    );
    for (name, times) in &expect.calls {
        let got = calls.get(name).copied().unwrap_or(0).to_string();
        compare(&format!("calls of {name}"), Some(times.to_string()), got);
    }
    let got = upstream.map(|it| &it.body);
    for (what, expected, got) in [
        ("upstream_json", &expect.upstream_json, got),
        ("json", &expect.json, Some(&outcome.body)),
    ] {
        let Some(json) = expected else { continue };
        // Compared as values: the order of keys means nothing.
        let got = got.and_then(|body| serde_json::from_slice::<Json>(body).ok());
        if got.as_ref() != Some(json) {
            let got = got.map_or_else(|| "no JSON".to_owned(), |got| got.to_string());
            found.push(format!("{what}: expected {json}, got {got}"));
        }
    }
    wrong_headers(expect, &outcome.head.headers, &mut found);
    found
}

fn wrong_headers(expect: &Expect, headers: &HeaderMap, found: &mut Vec<String>) {
    for (name, expected) in &expect.headers {
        let lines = headers.get_all(name.as_str()).iter();
        let lines = lines.map(|line| String::from_utf8_lossy(line.as_bytes()));
        let lines: Vec<_> = lines.collect();
        let good = match expected.as_str() {
            "present" => !lines.is_empty(),
            "absent" => lines.is_empty(),
            value => lines.iter().any(|line| line == value),
        };
        if !good {
            let got = if lines.is_empty() {
                "none".to_owned()
            } else {
                format!("`{}`", lines.join("`, `"))
            };
            found.push(format!("header {name}: expected `{expected}`, got {got}"));
        }
    }
}
