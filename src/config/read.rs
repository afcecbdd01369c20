//! The merged tree into the typed document, section by section, every mistake noted.

use std::collections::HashMap;

use super::document::{Action, Document, Listener, Named, Route};
use super::later::{self, Part};
use super::section::{Section, value_not_yet, without_later};
use super::tree::{Node, Value};
use crate::base::problem::{Place, Problem, Problems};
use crate::link::Section as _;
use crate::policy::Specs;
use crate::upstream;

/// Reads the whole document.
pub(super) fn document(root: &Node, problems: &mut Problems) -> Document {
    let mut document = Document::default();
    let mut section = Section::new(root, Place::root(), Part::Document, problems);
    version(&mut section);
    if let Some((node, place)) = section.take("runtime") {
        let runtime = Section::new(node, place, Part::Runtime, section.problems);
        document.runtime = runtime.rest(&[]).unwrap_or_default();
    }
    if let Some((node, place)) = section.take("listeners") {
        document.listeners = named(node, &place, section.problems, listener);
    }
    if let Some((node, place)) = section.take("defaults") {
        document.route_defaults = defaults(node, place, section.problems);
    }
    if let Some((node, place)) = section.take("environments") {
        document.environments = named(node, &place, section.problems, |node, place, problems| {
            super::decode::decode(node, place, problems)
        });
    }
    if let Some((node, place)) = section.take("upstreams") {
        document.upstreams = named(node, &place, section.problems, upstream);
    }
    if let Some((node, place)) = section.take("routes") {
        document.routes = routes(node, &place, section.problems);
    }
    document.errors = section.decode("errors").unwrap_or_default();
    section.finish();
    document
}

fn version(section: &mut Section<'_>) {
    let Some((node, place)) = section.take("version") else {
        let problem = Problem::error("E003", section.place().clone(), "`version` is missing");
        section
            .problems
            .push(problem.hint("begin the config with `version: 1`"));
        return;
    };
    if !matches!(&node.value, Value::Number(number) if number.as_u64() == Some(1)) {
        let problem = Problem::error(
            "E003",
            place,
            "this version of the config language is not known",
        );
        section.problems.push(problem.hint("write `version: 1`"));
    }
}

fn named<T>(
    node: &Node,
    place: &Place,
    problems: &mut Problems,
    read: impl Fn(&Node, &Place, &mut Problems) -> Option<T>,
) -> Vec<Named<T>> {
    if !matches!(node.value, Value::Map(_) | Value::Null) {
        let what = format!("{} where a map of names belongs", node.kind());
        problems.push(
            Problem::error("E012", place.clone(), what).hint("write `name: { … }` lines below it"),
        );
    }
    let mut items = Vec::new();
    for entry in node.entries() {
        let place = place.key(&entry.key);
        check_name(&entry.key, &place, problems);
        if let Some(spec) = read(&entry.node, &place, problems) {
            items.push(Named {
                name: entry.key.clone(),
                place,
                spec,
            });
        }
    }
    items
}

/// Names stand in logs, metrics and commands: letters, digits, `-`, `_` and `.`.
fn check_name(name: &str, place: &Place, problems: &mut Problems) {
    let good = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    if name.is_empty() || name.len() > 64 || !good {
        let problem = Problem::error("E014", place.clone(), format!("`{name}` cannot be a name"));
        problems.push(
            problem
                .hint("1 to 64 letters, digits, `-`, `_` or `.`")
                .at_key(),
        );
    }
}

fn listener(node: &Node, place: &Place, problems: &mut Problems) -> Option<Listener> {
    let mut node = node.clone();
    if let Value::Map(entries) = &mut node.value
        && let Some(entry) = entries.iter_mut().find(|entry| entry.key == "protocols")
        && let Value::List(items) = &mut entry.node.value
    {
        let place = place.key("protocols");
        let mut index = 0;
        items.retain(|item| {
            let later = item.text().filter(|word| later::PROTOCOLS.contains(word));
            if let Some(word) = later {
                problems.push(value_not_yet(place.index(index), word));
            }
            index += 1;
            later.is_none()
        });
    }
    let defaults = node.child("defaults").map(|node| {
        let mut section = Section::new(node, place.key("defaults"), Part::Route, problems);
        let specs = Specs::take(&mut section);
        section.finish();
        specs
    });
    let section = Section::new(&node, place.clone(), Part::Listener, problems);
    let mut listener: Listener = section.rest(&["defaults"])?;
    listener.defaults = defaults.unwrap_or_default();
    Some(listener)
}

fn defaults(node: &Node, place: Place, problems: &mut Problems) -> Specs {
    let mut section = Section::new(node, place, Part::Defaults, problems);
    let mut specs = Specs::default();
    if let Some((node, place)) = section.take("routes") {
        let mut routes = Section::new(node, place, Part::Route, section.problems);
        specs = Specs::take(&mut routes);
        routes.finish();
    }
    if let Some((node, place)) = section.take("upstreams") {
        Section::new(node, place, Part::Upstream, section.problems).finish();
    }
    section.finish();
    specs
}

fn upstream(node: &Node, place: &Place, problems: &mut Problems) -> Option<upstream::Spec> {
    let mut node = without_later(node, place, Part::Upstream, &[], problems);
    let mut only_later = false;
    if let Value::Map(entries) = &mut node.value {
        for entry in entries.iter_mut().filter(|entry| entry.key == "targets") {
            let place = place.key("targets");
            if let Value::List(items) = &mut entry.node.value {
                let before = items.len();
                for (index, item) in items.iter_mut().enumerate() {
                    *item = target(item, &place.index(index), problems);
                }
                items.retain(|item| {
                    !item.entries().is_empty() || !matches!(item.value, Value::Map(_))
                });
                only_later = items.is_empty() && before > 0;
            }
        }
        // Everything that was written is for later versions: that was said, nothing is missing besides.
        only_later |= !entries.iter().any(|entry| entry.key == "targets");
    }
    let said = only_later && !problems.is_empty();
    if said {
        return None;
    }
    let spec: upstream::Spec =
        Section::new(&node, place.clone(), Part::Upstream, problems).rest(&[])?;
    if spec.targets.is_empty() {
        let problem = Problem::error("E015", place.key("targets"), "an upstream without targets");
        problems.push(problem.hint("add one: `targets: [{ url: \"http://127.0.0.1:3000\" }]`"));
    }
    for (index, target) in spec
        .targets
        .iter()
        .enumerate()
        .filter(|(_, target)| target.weight.get() > 1000)
    {
        let place = place.key("targets").index(index).key("weight");
        let what = format!("a weight of {}", target.weight);
        problems.push(Problem::error("E012", place, what).hint("weights go from 1 to 1000"));
    }
    Some(spec)
}

fn target(item: &Node, place: &Place, problems: &mut Problems) -> Node {
    let mut item = without_later(item, place, Part::Target, &[], problems);
    if let Value::Map(entries) = &mut item.value {
        entries.retain(|entry| {
            let url = entry.node.text().filter(|_| entry.key == "url");
            let later = url.and_then(|url| {
                later::SCHEMES
                    .iter()
                    .find(|scheme| url.starts_with(**scheme))
            });
            if let Some(scheme) = later {
                problems.push(value_not_yet(
                    place.key("url"),
                    scheme.trim_end_matches("://"),
                ));
            }
            later.is_none()
        });
    }
    item
}

fn routes(node: &Node, place: &Place, problems: &mut Problems) -> Vec<Route> {
    if !matches!(node.value, Value::List(_) | Value::Null) {
        let problem = Problem::error(
            "E012",
            place.clone(),
            format!("{} where a list of routes belongs", node.kind()),
        );
        problems.push(problem.hint("write `- name: …` lines below it"));
    }
    let mut seen: HashMap<&str, Place> = HashMap::new();
    let mut routes = Vec::new();
    for (index, item) in node.items().iter().enumerate() {
        let place = place.index(index);
        if let Some(name) = item.child("name").and_then(Node::text) {
            if let Some(first) = seen.get(name) {
                let problem = Problem::error(
                    "E016",
                    place.key("name"),
                    format!("a second route `{name}`"),
                );
                problems.push(
                    problem
                        .also(first.clone(), "the first")
                        .hint("give each route a name of its own"),
                );
            } else {
                seen.insert(name, place.key("name"));
            }
        }
        routes.extend(route(item, &place, problems));
    }
    routes
}

fn route(node: &Node, place: &Place, problems: &mut Problems) -> Option<Route> {
    let mut section = Section::new(node, place.clone(), Part::Route, problems);
    let name: Option<String> = section.decode("name");
    match &name {
        Some(name) => check_name(name, &place.key("name"), section.problems),
        None if section.take("name").is_none() => {
            let problem = Problem::error("E011", place.clone(), "a route without a name");
            section.problems.push(problem.hint("add `name: …`"));
        }
        None => {}
    }
    let matches = section.decode("match");
    if section.take("match").is_none() {
        let problem = Problem::error("E011", place.clone(), "a route without `match`");
        section.problems.push(
            problem.hint("add `match: { path: /… }`; for everything: `match: { path_prefix: / }`"),
        );
    }
    let policies = Specs::take(&mut section);
    let action = action(&mut section, node);
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

fn action(section: &mut Section<'_>, node: &Node) -> Option<Action> {
    let place = section.place().clone();
    let written: Vec<&str> = ACTIONS
        .into_iter()
        .filter(|key| node.child(key).is_some())
        .collect();
    match written.as_slice() {
        [_] => {}
        [] => {
            let problem = Problem::error("E017", place, "a route without an action");
            section
                .problems
                .push(problem.hint("add one of `upstream`, `redirect`, `respond`"));
        }
        [first, second, ..] => {
            let problem = Problem::error(
                "E017",
                place.key(second),
                format!("two actions: `{first}` and `{second}`"),
            );
            section.problems.push(
                problem
                    .hint("a route does one thing: keep one of them")
                    .at_key(),
            );
        }
    }
    let upstream = section.clause::<String>("upstream");
    let redirect = section.clause("redirect");
    let respond = section.take("respond").and_then(|(node, place)| {
        let node = without_later(node, &place, Part::Respond, &[], section.problems);
        super::decode::decode(&node, &place, section.problems)
    });
    let upstream = upstream
        .spec()
        .map(|(name, _)| Action::Upstream(name.clone()));
    let redirect = redirect
        .spec()
        .map(|(redirect, _): (&super::document::Redirect, _)| Action::Redirect(redirect.clone()));
    upstream
        .or(redirect)
        .or_else(|| respond.map(|respond| Action::Respond(Box::new(respond))))
}
