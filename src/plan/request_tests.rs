//! The request tests of a config: what they name is there, and each of them can fail.

use http::{HeaderName, HeaderValue, Method};

use crate::base::problem::{Place, Problem, Problems, suggest};
use crate::config::document::Document;
use crate::config::request_test::{Given, RequestTest};

/// A test asks this often at most.
const TIMES_MAX: u32 = 100_000;

/// Reports what is wrong with `tests`.
pub(super) fn check(document: &Document, problems: &mut Problems) {
    for (place, test) in &document.tests {
        let mut at = |place: Place, what: String, hint: &str| {
            problems.push(Problem::error("E041", place, what).hint(hint));
        };
        if !(1..=TIMES_MAX).contains(&test.times) {
            let what = format!("{} times", test.times);
            at(place.key("times"), what, "1 to 100000");
        }
        let words: Vec<&str> = test.request.split(' ').collect();
        let is_request = matches!(words.as_slice(), [method, url]
            if Method::from_bytes(method.as_bytes()).is_ok() && !url.is_empty());
        if !is_request {
            let what = format!("`{}` is not a request", test.request);
            let hint = "a method and a URL: `GET https://api.example.com/v1/orders/7`";
            at(place.key("request"), what, hint);
        }
        if test.expect.is_empty() {
            let hint = "say e.g. `expect: { status: 200 }`";
            let what = "nothing is expected: this test could not fail".to_owned();
            at(place.key("expect"), what, hint);
        }
        for name in test.expect.headers.keys() {
            // A name that cannot be there would be `absent` for ever.
            if HeaderName::from_bytes(name.as_bytes()).is_err() {
                let place = place.key("expect").key("headers").key(name);
                let what = format!("`{name}` is not the name of a header");
                at(place, what, "letters, digits and hyphens");
            }
        }
        sends(test, place, &mut at);
        for (name, given) in &test.given {
            answers(given, &place.key("given").key(name), &mut at);
        }
        names(document, test, place, problems);
    }
}

/// A request has one body, whose length is its own.
fn sends(test: &RequestTest, place: &Place, at: &mut impl FnMut(Place, String, &str)) {
    if test.json.is_some() && test.text.is_some() {
        let what = "both `json` and `text`".to_owned();
        let hint = "a request has one body: keep one of them";
        at(place.key("text"), what, hint);
    }
    let framed = |name: &&String| {
        let framing = ["content-length", "transfer-encoding"];
        framing.iter().any(|it| name.eq_ignore_ascii_case(it))
    };
    if let Some(name) = test.headers.keys().find(framed)
        && test.body().is_some()
    {
        let what = format!("`{name}` beside a body");
        let hint = "take the header out: the body is sent with its own length";
        at(place.key("headers").key(name), what, hint);
    }
}

/// What an upstream would say can be said.
fn answers(given: &Given, place: &Place, at: &mut impl FnMut(Place, String, &str)) {
    if let Some(status) = given.status.filter(|status| !(200..600).contains(status)) {
        let what = format!("{status} is not a status of an answer");
        at(place.key("status"), what, "200 to 599");
    }
    let says = given.status.is_some()
        || !given.headers.is_empty()
        || given.json.is_some()
        || given.text.is_some();
    if given.fail.is_some() && says {
        let what = "it fails and answers".to_owned();
        at(place.clone(), what, "keep `fail`, or what is answered");
    }
    if given.json.is_some() && given.text.is_some() {
        let what = "both `json` and `text`".to_owned();
        at(
            place.clone(),
            what,
            "an answer has one body: keep one of them",
        );
    }
    for (name, value) in &given.headers {
        let good =
            HeaderName::from_bytes(name.as_bytes()).is_ok() && HeaderValue::from_str(value).is_ok();
        if !good {
            let what = format!("`{name}` cannot be a header with this value");
            at(
                place.key("headers").key(name),
                what,
                "a name and one line of text",
            );
        }
    }
}

/// What a test names is in the config.
fn names(document: &Document, test: &RequestTest, place: &Place, problems: &mut Problems) {
    let upstreams: Vec<&str> = document
        .upstreams
        .iter()
        .map(|item| item.name.as_str())
        .chain(document.refused.upstreams.iter().map(String::as_str))
        .collect();
    let routes: Vec<&str> = document
        .routes
        .iter()
        .map(|route| route.name.as_str())
        .chain(document.refused.routes.iter().map(String::as_str))
        .chain(["not_found"])
        .collect();
    let listeners: Vec<&str> = document
        .listeners
        .iter()
        .map(|item| item.name.as_str())
        .chain(document.refused.listeners.iter().map(String::as_str))
        .collect();
    let mut known = |what: &str, name: &str, known: &[&str], place: Place, at_key: bool| {
        if known.contains(&name) {
            return;
        }
        let hint = suggest(name, known.iter().copied());
        let hint = hint.unwrap_or_else(|| format!("no {what} has this name"));
        let problem = Problem::error("E031", place, format!("unknown {what} `{name}`")).hint(hint);
        problems.push(if at_key { problem.at_key() } else { problem });
    };
    let consumers: Vec<&str> = document
        .consumers
        .iter()
        .map(|item| item.name.as_str())
        .collect();
    let asker = test.asker.as_ref();
    if let Some(name) = asker.and_then(|asker| asker.consumer.as_deref()) {
        let place = place.key("as").key("consumer");
        known("consumer", name, &consumers, place, false);
    }
    let expect = place.key("expect");
    for name in test.given.keys() {
        let place = place.key("given").key(name);
        known("upstream", name, &upstreams, place, true);
    }
    for name in test.expect.calls.keys() {
        let place = expect.key("calls").key(name);
        known("upstream", name, &upstreams, place, true);
    }
    if let Some(name) = &test.expect.upstream {
        known("upstream", name, &upstreams, expect.key("upstream"), false);
    }
    if let Some(name) = &test.expect.route {
        known("route", name, &routes, expect.key("route"), false);
    }
    if let Some(name) = &test.listener {
        known("listener", name, &listeners, place.key("listener"), false);
    }
}
