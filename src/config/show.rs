//! The effective config as `config show` prints it: merged, inherited, defaults written out, secrets hidden.

use serde_json::{Map, Value as Json, json};

use super::Loaded;
use super::document::{Action, Route};
use super::tree::{Node, Origin, Value};
use crate::base::problem::{Place, Step};
use crate::policy::Specs;

/// What is printed instead of a secret.
const HIDDEN: &str = "[redacted]";

/// The effective config of `loaded`.
#[must_use]
pub fn show(loaded: &Loaded) -> Json {
    let document = &loaded.document;
    let mut out = Map::new();
    out.insert("version".to_owned(), json!(1));
    out.insert("runtime".to_owned(), to_json(&document.runtime));
    let listeners = document.listeners.iter().map(|listener| {
        let mut shown = object(to_json(&listener.spec));
        let defaults: Map<String, Json> = clauses(&listener.spec.defaults, loaded);
        if !defaults.is_empty() {
            shown.insert("defaults".to_owned(), Json::Object(defaults));
        }
        (listener.name.clone(), Json::Object(shown))
    });
    out.insert("listeners".to_owned(), Json::Object(listeners.collect()));
    let environments = document
        .environments
        .iter()
        .map(|item| (item.name.clone(), to_json(&item.spec)));
    out.insert(
        "environments".to_owned(),
        Json::Object(environments.collect()),
    );
    let upstreams = document
        .upstreams
        .iter()
        .map(|item| (item.name.clone(), to_json(&item.spec)));
    out.insert("upstreams".to_owned(), Json::Object(upstreams.collect()));
    out.insert(
        "routes".to_owned(),
        document
            .routes
            .iter()
            .map(|item| route(item, loaded))
            .collect(),
    );
    out.insert("errors".to_owned(), to_json(&document.errors));
    Json::Object(out)
}

fn route(route: &Route, loaded: &Loaded) -> Json {
    let mut shown = Map::new();
    shown.insert("name".to_owned(), json!(route.name));
    shown.insert("match".to_owned(), to_json(&route.matches));
    match &route.action {
        Action::Upstream(name) => shown.insert("upstream".to_owned(), json!(name)),
        Action::Redirect(redirect) => shown.insert("redirect".to_owned(), to_json(redirect)),
        Action::Respond(respond) => shown.insert("respond".to_owned(), to_json(respond)),
    };
    shown.extend(clauses(
        &route.policies.or(&loaded.document.route_defaults),
        loaded,
    ));
    Json::Object(shown)
}

fn clauses(specs: &Specs, loaded: &Loaded) -> Map<String, Json> {
    let places = specs.places();
    let mut shown = Map::new();
    for ((key, mut json), place) in specs.show().into_iter().zip(places) {
        if let Some(node) = loaded.tree.at(&place) {
            hide(&mut json, node, &place);
        }
        shown.insert(key.to_owned(), json);
    }
    shown
}

/// Hides what came from where secrets are, and what a variable put into a header that carries secrets.
fn hide(json: &mut Json, node: &Node, place: &Place) {
    let sensitive = matches!(place.steps().last(), Some(Step::Key(key)) if is_sensitive(key));
    let replaced = matches!(node.origin, Origin::Reference | Origin::Mixed);
    if node.origin == Origin::Secret || (sensitive && replaced) {
        *json = json!(HIDDEN);
        return;
    }
    match (&node.value, json) {
        (Value::Map(entries), Json::Object(map)) => {
            for entry in entries {
                if let Some(json) = map.get_mut(&entry.key) {
                    hide(json, &entry.node, &place.key(&entry.key));
                }
            }
        }
        (Value::List(items), Json::Array(list)) => {
            for ((index, item), json) in items.iter().enumerate().zip(list) {
                hide(json, item, &place.index(index));
            }
        }
        _ => {}
    }
}

/// Whether a header of this name is likely to carry a secret.
fn is_sensitive(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    [
        "authorization",
        "cookie",
        "token",
        "secret",
        "password",
        "key",
        "credential",
    ]
    .iter()
    .any(|word| name.contains(word))
}

fn to_json(value: &impl serde::Serialize) -> Json {
    serde_json::to_value(value).unwrap_or_default()
}

fn object(json: Json) -> Map<String, Json> {
    match json {
        Json::Object(map) => map,
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Array(_) => {
            Map::new()
        }
    }
}
