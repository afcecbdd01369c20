//! The merged tree into the typed document, section by section, every mistake noted.

use std::collections::HashMap;
use std::sync::Arc;

use super::authentication;
use super::decode::decode;
use super::document::{Action, Document, Errors, Named, Route};
use super::later::{self, Part};
use super::listener;
use super::request_test::RequestTest;
use super::section::{Section, value_not_yet, without_later};
use super::tree::{Entry, Node, Origin, Value};
use crate::base::problem::{Place, Problem, Problems};
use crate::link::{Clause, Section as _};
use crate::policy::Specs;
use crate::{telemetry, upstream};

/// Reads the whole document.
pub(super) fn document(root: &Node, problems: &mut Problems) -> Document {
    let mut document = Document::default();
    if !matches!(root.value, Value::Map(_)) {
        let problem = Problem::error(
            "E012",
            Place::root(),
            format!("{} where the config belongs", root.kind()),
        );
        problems.push(problem.hint("a config is a map; begin it with `version: 1`"));
        return document;
    }
    let mut section = Section::new(root, Place::root(), Part::Document, problems);
    version(&mut section);
    if let Some((node, place)) = section.take("runtime") {
        let runtime = Section::new(node, place, Part::Runtime, section.problems);
        document.runtime = runtime.rest(&[]).unwrap_or_default();
    }
    if let Some((node, place)) = section.take("listeners") {
        (document.listeners, document.refused.listeners) =
            named(node, &place, section.problems, listener::read);
    }
    let map = |node: &Node| matches!(node.value, Value::Map(_) | Value::Null);
    let none = document.listeners.is_empty() && document.refused.listeners.is_empty();
    if none && root.child("listeners").is_none_or(map) {
        let problem = Problem::error("E015", section.place().key("listeners"), "no listener");
        section.problems.push(
            problem.hint("add one: `listeners: { public: { address: \"127.0.0.1:8080\" } }`"),
        );
    }
    if let Some((node, place)) = section.take("defaults") {
        (document.route_defaults, document.upstream_defaults) =
            defaults(node, place, section.problems);
    }
    callers(&mut section, &mut document);
    if let Some((node, place)) = section.take("environments") {
        (document.environments, _) = named(node, &place, section.problems, decode);
    }
    if let Some((node, place)) = section.take("upstreams") {
        (document.upstreams, document.refused.upstreams) =
            named(node, &place, section.problems, upstream);
    }
    for upstream in &mut document.upstreams {
        upstream.spec.inherit(&document.upstream_defaults);
    }
    unasked(&mut document);
    if let Some((node, place)) = section.take("routes") {
        routes(node, &place, &mut document, section.problems);
    }
    if let Some((node, place)) = section.take("errors") {
        document.errors = errors(node, &place, section.problems).unwrap_or_default();
    }
    if let Some((node, place)) = section.take("geoip") {
        document.geoip = decode(node, &place, section.problems);
    }
    if let Some((node, place)) = section.take("telemetry") {
        document.telemetry = telemetry(node, &place, section.problems).unwrap_or_default();
    }
    if let Some((node, place)) = section.take("admin") {
        document.admin = Section::new(node, place, Part::Admin, section.problems).rest(&[]);
    }
    if let Some((node, place)) = section.take("tests") {
        document.tests = tests(node, &place, section.problems);
    }
    section.finish();
    document
}

/// What no user should have to ask for.
fn unasked(document: &mut Document) {
    if matches!(document.route_defaults.body_limits, Clause::Absent) {
        let place = Place::root().key("defaults").key("routes");
        let place = place.key("body_limits");
        document.route_defaults.body_limits = Clause::On(Arc::default(), place);
    }
}

/// Who is known, and how.
fn callers(section: &mut Section<'_>, document: &mut Document) {
    if let Some((node, place)) = section.take("authenticators") {
        (document.authenticators, document.refused.authenticators) = named(
            node,
            &place,
            section.problems,
            authentication::authenticator,
        );
    }
    if let Some((node, place)) = section.take("plans") {
        (document.usage_plans, document.refused.usage_plans) =
            named(node, &place, section.problems, authentication::usage_plan);
    }
    if let Some((node, place)) = section.take("consumers") {
        (document.consumers, _) = named(node, &place, section.problems, authentication::consumer);
    }
    if let Some((node, place)) = section.take("stores") {
        (document.stores, document.refused.stores) =
            named(node, &place, section.problems, authentication::store);
    }
    // `none`: there are those of this file alone.
    let keys = section.take("keys");
    if let Some((node, place)) = keys.filter(|(node, _)| !node.is_none_word()) {
        document.keys = decode(node, &place, section.problems);
    }
}

fn tests(node: &Node, place: &Place, problems: &mut Problems) -> Vec<(Place, RequestTest)> {
    if !matches!(node.value, Value::List(_) | Value::Null) {
        let what = format!("{} where a list of tests belongs", node.kind());
        let problem = Problem::error("E012", place.clone(), what);
        problems.push(problem.hint("write `- request: GET https://…` lines below it"));
    }
    let mut tests = Vec::new();
    for (index, item) in node.items().iter().enumerate() {
        let place = place.index(index);
        let mut item = item.clone();
        if let Value::Map(entries) = &mut item.value
            && let Some(entry) = entries.iter_mut().find(|entry| entry.key == "as")
        {
            let place = place.key("as");
            entry.node = without_later(&entry.node, &place, Part::Asker, &[], problems);
        }
        tests.extend(decode(&item, &place, problems).map(|test| (place, test)));
    }
    tests
}

fn telemetry(node: &Node, place: &Place, problems: &mut Problems) -> Option<telemetry::Spec> {
    let mut node = without_later(node, place, Part::Telemetry, &[], problems);
    if let Value::Map(entries) = &mut node.value
        && let Some(entry) = entries.iter_mut().find(|entry| entry.key == "metrics")
    {
        let place = place.key("metrics");
        entry.node = without_later(&entry.node, &place, Part::TelemetryMetrics, &[], problems);
    }
    decode(&node, place, problems)
}

fn errors(node: &Node, place: &Place, problems: &mut Problems) -> Option<Errors> {
    let mut node = node.clone();
    if let Value::Map(entries) = &mut node.value
        && let Some(entry) = entries.iter_mut().find(|entry| entry.key == "override")
    {
        let place = place.key("override");
        entry.node = without_later(&entry.node, &place, Part::Override, &[], problems);
    }
    decode(&node, place, problems)
}

fn version(section: &mut Section<'_>) {
    let Some((node, place)) = section.take("version") else {
        let problem = Problem::error("E003", section.place().clone(), "`version` is missing");
        section
            .problems
            .push(problem.hint("begin the config with `version: 1`"));
        return;
    };
    let one = match &node.value {
        Value::Number(number) => number.as_u64() == Some(1),
        // From a variable.
        Value::Text(text) => node.origin != Origin::Written && text == "1",
        Value::Null | Value::Bool(_) | Value::List(_) | Value::Map(_) => false,
    };
    if !one {
        let problem = Problem::error(
            "E003",
            place,
            "this is no known version of the config language",
        );
        section.problems.push(problem.hint("write `version: 1`"));
    }
}

/// The items that can be read, and the names of those that cannot.
fn named<T>(
    node: &Node,
    place: &Place,
    problems: &mut Problems,
    read: impl Fn(&Node, &Place, &mut Problems) -> Option<T>,
) -> (Vec<Named<T>>, Vec<String>) {
    if !matches!(node.value, Value::Map(_) | Value::Null) {
        let what = format!("{} where a map of names belongs", node.kind());
        problems.push(
            Problem::error("E012", place.clone(), what).hint("write `name: { … }` lines below it"),
        );
    }
    let (mut items, mut refused) = (Vec::new(), Vec::new());
    for entry in node.entries() {
        let place = place.key(&entry.key);
        if let Some(problem) = bad_name(&entry.key, &place) {
            problems.push(problem.at_key());
        }
        let name = entry.key.clone();
        match read(&entry.node, &place, problems) {
            Some(spec) => items.push(Named { name, place, spec }),
            None => refused.push(name),
        }
    }
    (items, refused)
}

/// Names stand in logs, metrics and commands: letters, digits, `-`, `_` and `.`.
fn bad_name(name: &str, place: &Place) -> Option<Problem> {
    let good = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    if (1..=64).contains(&name.len()) && good && name != "none" {
        return None;
    }
    let hint = match name {
        "none" => "`none` turns things off; choose another name",
        _ => "a name has 1 to 64 letters, digits, `-`, `_` or `.`",
    };
    let problem = Problem::error("E014", place.clone(), format!("`{name}` cannot be a name"));
    Some(problem.hint(hint))
}

fn defaults(node: &Node, place: Place, problems: &mut Problems) -> (Specs, upstream::Defaults) {
    let mut section = Section::new(node, place, Part::Defaults, problems);
    let mut specs = Specs::default();
    let mut upstreams = None;
    if let Some((node, place)) = section.take("routes") {
        let mut routes = Section::new(node, place, Part::Route, section.problems);
        specs = Specs::take(&mut routes);
        routes.finish();
    }
    if let Some((node, place)) = section.take("upstreams") {
        upstreams = Section::new(node, place, Part::Upstream, section.problems).rest(&[]);
    }
    section.finish();
    (specs, upstreams.unwrap_or_default())
}

fn upstream(written: &Node, place: &Place, problems: &mut Problems) -> Option<upstream::Spec> {
    let mut node = without_later(written, place, Part::Upstream, &[], problems);
    let targets = place.key("targets");
    if let Value::Map(entries) = &mut node.value
        && let Some(entry) = entries.iter_mut().find(|entry| entry.key == "targets")
        && let Value::List(items) = &mut entry.node.value
    {
        for (index, item) in items.iter_mut().enumerate() {
            target(item, &targets.index(index), problems);
        }
    }
    // Refused already: what it would be instead of targets.
    if written
        .child("lambda")
        .or_else(|| written.child("function"))
        .is_some()
    {
        return None;
    }
    let spec: upstream::Spec =
        Section::new(&node, place.clone(), Part::Upstream, problems).rest(&[])?;
    if spec.targets.is_empty() {
        let problem = Problem::error("E015", targets, "an upstream without targets");
        problems.push(problem.hint("add one: `targets: [{ url: \"http://127.0.0.1:3000\" }]`"));
    }
    Some(spec)
}

/// Reports what is not in this version; it is replaced, so that the other targets keep their places.
fn target(item: &mut Node, place: &Place, problems: &mut Problems) {
    let mut heavy = false;
    if let Some(weight) = item.child("weight") {
        let number = match &weight.value {
            Value::Number(number) => number.as_u64(),
            Value::Text(text) => text.parse().ok(),
            Value::Null | Value::Bool(_) | Value::List(_) | Value::Map(_) => None,
        };
        if let Some(number) = number.filter(|number| !(1..=1000).contains(number)) {
            heavy = true;
            let what = format!("a weight of {number}");
            let problem = Problem::error("E012", place.key("weight"), what);
            problems.push(
                problem.hint("weights go from 1 to 1000; to send nothing, take the target out"),
            );
        }
    }
    let mut kept = without_later(item, place, Part::Target, &[], problems);
    let later = kept.entries().len() < item.entries().len();
    if let Value::Map(entries) = &mut kept.value {
        entries.retain(|entry| !heavy || entry.key != "weight");
        let url = entries.iter_mut().find(|entry| entry.key == "url");
        if let Some(url) = url {
            let scheme = later::SCHEMES.iter().find(|scheme| {
                url.node
                    .text()
                    .is_some_and(|text| text.starts_with(**scheme))
            });
            if let Some(scheme) = scheme {
                let scheme = scheme.trim_end_matches("://");
                let problem = value_not_yet(place.key("url"), scheme);
                problems.push(problem.part(0..scheme.len()));
                url.node.value = Value::Text(STAND_IN.to_owned());
            }
        } else if later {
            let node = Node {
                value: Value::Text(STAND_IN.to_owned()),
                ..Node::empty_map(item.mark)
            };
            entries.push(Entry {
                key: "url".to_owned(),
                key_mark: item.mark,
                node,
            });
        }
    }
    *item = kept;
}

/// Stands for a target that this version refuses.
const STAND_IN: &str = "http://127.0.0.1:1";

fn routes(node: &Node, place: &Place, document: &mut Document, problems: &mut Problems) {
    if !matches!(node.value, Value::List(_) | Value::Null) {
        let problem = Problem::error(
            "E012",
            place.clone(),
            format!("{} where a list of routes belongs", node.kind()),
        );
        problems.push(problem.hint("write `- name: …` lines below it"));
    }
    let mut seen: HashMap<&str, Place> = HashMap::new();
    for (index, item) in node.items().iter().enumerate() {
        let place = place.index(index);
        if !matches!(item.value, Value::Map(_)) {
            let what = format!("{} where a route belongs", item.kind());
            let problem = Problem::error("E012", place, what);
            problems.push(problem.hint("write `- name: …` with `match` and an action below it"));
            continue;
        }
        let name = item.child("name").and_then(Node::text);
        if let Some(first) = name.and_then(|name| seen.get(name)) {
            let what = format!("a second route `{}`", name.unwrap_or_default());
            let problem = Problem::error("E016", place.key("name"), what);
            problems.push(
                problem
                    .also(first.clone(), "the first")
                    .hint("give each route a name of its own"),
            );
        } else if let Some(name) = name {
            seen.insert(name, place.key("name"));
        }
        if let Some(route) = route(item, &place, problems) {
            document.routes.push(route);
            continue;
        }
        document.refused.routes.extend(name.map(str::to_owned));
        if let Some(upstream) = item.child("upstream").and_then(Node::text) {
            let reference = (upstream.to_owned(), place.key("upstream"));
            document.refused.references.push(reference);
        }
    }
}

fn route(node: &Node, place: &Place, problems: &mut Problems) -> Option<Route> {
    let mut section = Section::new(node, place.clone(), Part::Route, problems);
    let name: Option<String> = section.decode("name");
    let named = match node.child("name") {
        Some(_) => place.key("name"),
        None => place.clone(),
    };
    if let Some(problem) = name.as_ref().and_then(|name| bad_name(name, &named)) {
        section.problems.push(problem);
    }
    if node.child("name").is_none() {
        let problem = Problem::error("E011", place.clone(), "a route without a name");
        section.problems.push(problem.hint("add `name: …`"));
    }
    let matches = section.decode("match");
    if node.child("match").is_none() {
        let problem = Problem::error("E011", named.clone(), "a route without `match`");
        section.problems.push(
            problem.hint("add `match: { path: /… }`; for everything: `match: { path_prefix: / }`"),
        );
    }
    let policies = Specs::take(&mut section);
    let action = action(&mut section, node, named);
    section.finish();
    Some(Route {
        name: name?,
        place: place.clone(),
        matches: matches?,
        action: action?,
        policies,
    })
}

const ACTIONS: [&str; 5] = [
    "upstream",
    "redirect",
    "respond",
    "compose",
    "websocket_api",
];

fn action(section: &mut Section<'_>, node: &Node, named: Place) -> Option<Action> {
    let written: Vec<&str> = ACTIONS
        .into_iter()
        .filter(|key| node.child(key).is_some_and(|node| !node.is_none_word()))
        .collect();
    match written.as_slice() {
        [_] => {}
        [] => {
            let problem = Problem::error("E017", named, "a route without an action");
            section
                .problems
                .push(problem.hint("add one of `upstream`, `redirect`, `respond`"));
        }
        [first, others @ ..] => {
            for other in others {
                let what = format!("two actions: `{first}` and `{other}`");
                let problem = Problem::error("E017", section.place().key(other), what);
                let problem = problem.hint("a route does one thing: keep one of them");
                section.problems.push(problem.at_key());
            }
        }
    }
    let upstream = section.clause::<String>("upstream");
    let redirect = section.clause::<super::document::Redirect>("redirect");
    let respond = section.clause::<super::document::Respond>("respond");
    let upstream = upstream
        .spec()
        .map(|(name, _)| Action::Upstream(name.clone()));
    let redirect = redirect
        .spec()
        .map(|(spec, _)| Action::Redirect(spec.clone()));
    let respond = respond
        .spec()
        .map(|(spec, _)| Action::Respond(Box::new(spec.clone())));
    upstream.or(redirect).or(respond)
}
