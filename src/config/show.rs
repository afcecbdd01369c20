//! The effective config as `config show` prints it: merged, inherited, defaults written out, secrets hidden.

use serde_json::{Map, Value as Json, json};

use super::document::{Action, Named, Route};
use super::tree::{Node, Origin, Value};
use super::{Loaded, referenced, urls, veil};
use crate::base::problem::{Place, Step};
use crate::policy::{NAMES, Specs};

/// What is printed instead of a secret of which nothing is known.
const HIDDEN: &str = "[redacted]";

/// The effective config of `loaded`. It is a config itself, and means the same.
#[must_use]
pub fn show(loaded: &Loaded) -> Json {
    let document = &loaded.document;
    let mut out = Map::new();
    out.insert("version".to_owned(), json!(1));
    out.insert("runtime".to_owned(), to_json(&document.runtime));
    let listeners = document.listeners.iter().map(|listener| {
        let mut shown = object(to_json(&listener.spec));
        let defaults = clauses(
            &listener.spec.defaults,
            &listener.place.key("defaults"),
            loaded,
        );
        if !defaults.is_empty() {
            shown.insert("defaults".to_owned(), Json::Object(defaults));
        }
        (listener.name.clone(), Json::Object(shown))
    });
    out.insert("listeners".to_owned(), Json::Object(listeners.collect()));
    let place = Place::root().key("defaults").key("routes");
    let defaults = clauses(&document.route_defaults, &place, loaded);
    if !defaults.is_empty() {
        out.insert("defaults".to_owned(), json!({ "routes": defaults }));
    }
    let authenticators = document.authenticators.iter();
    let authenticators = authenticators.map(|item| veiled(item, loaded));
    let usage_plans = document.usage_plans.iter();
    let usage_plans = usage_plans.map(|item| (item.name.clone(), to_json(&item.spec)));
    let consumers = document.consumers.iter();
    let consumers = consumers.map(|item| (item.name.clone(), to_json(&item.spec)));
    for (key, items) in [
        ("authenticators", authenticators.collect::<Map<_, _>>()),
        ("plans", usage_plans.collect()),
        ("consumers", consumers.collect()),
    ] {
        if !items.is_empty() {
            out.insert(key.to_owned(), Json::Object(items));
        }
    }
    out.extend(stores(loaded));
    let environments = document
        .environments
        .iter()
        .map(|item| (item.name.clone(), to_json(&item.spec)));
    out.insert(
        "environments".to_owned(),
        Json::Object(environments.collect()),
    );
    let upstreams = document.upstreams.iter();
    let upstreams = upstreams.map(|item| veiled(item, loaded));
    out.insert("upstreams".to_owned(), Json::Object(upstreams.collect()));
    let routes = document.routes.iter().map(|item| route(item, loaded));
    out.insert("routes".to_owned(), routes.collect());
    out.insert("errors".to_owned(), to_json(&document.errors));
    if let Some(geoip) = &document.geoip {
        out.insert("geoip".to_owned(), to_json(geoip));
    }
    out.insert("telemetry".to_owned(), to_json(&document.telemetry));
    if let Some(admin) = &document.admin {
        out.insert("admin".to_owned(), to_json(admin));
    }
    if !document.tests.is_empty() {
        let tests = document.tests.iter().map(|(_, test)| to_json(test));
        out.insert("tests".to_owned(), tests.collect());
    }
    Json::Object(out)
}

/// `stores` and `keys`, where they are written.
fn stores(loaded: &Loaded) -> Map<String, Json> {
    let document = &loaded.document;
    let stores = document.stores.iter().map(|item| {
        let mut json = to_json(&item.spec);
        if let Some(node) = loaded.tree.at(&item.place) {
            hide(&mut json, node, &item.place, loaded);
        }
        (item.name.clone(), json)
    });
    let stores: Map<_, _> = stores.collect();
    let mut out = Map::new();
    if !stores.is_empty() {
        out.insert("stores".to_owned(), Json::Object(stores));
    }
    if let Some(keys) = &document.keys {
        out.insert("keys".to_owned(), to_json(keys));
    }
    out
}

/// The same, with the versions of the files it refers to: what tells whether a reload would change anything.
#[must_use]
pub fn compared(loaded: &Loaded) -> Json {
    let mut shown = object(show(loaded));
    shown.insert(referenced::KEY.to_owned(), referenced::shown(loaded));
    Json::Object(shown)
}

fn route(route: &Route, loaded: &Loaded) -> Json {
    let mut shown = Map::new();
    shown.insert("name".to_owned(), json!(route.name));
    let (key, action) = match &route.action {
        Action::Upstream(name) => ("upstream", json!(name)),
        Action::Redirect(redirect) => ("redirect", to_json(redirect)),
        Action::Respond(respond) => ("respond", to_json(respond)),
    };
    for (key, mut json) in [("match", to_json(&route.matches)), (key, action)] {
        let place = route.place.key(key);
        if let Some(node) = loaded.tree.at(&place) {
            hide(&mut json, node, &place, loaded);
        }
        shown.insert(key.to_owned(), json);
    }
    shown.extend(clauses(&inherited(route, loaded), &route.place, loaded));
    Json::Object(shown)
}

/// The clauses of a route with those that it inherits; where its listeners differ, they stay the listeners'.
fn inherited(route: &Route, loaded: &Loaded) -> Specs {
    let document = &loaded.document;
    let named = &route.matches.listeners;
    let mut specs = document
        .listeners
        .iter()
        .filter(|listener| named.is_empty() || named.contains(&listener.name))
        .map(|listener| {
            let defaults = listener.spec.defaults.or(&document.route_defaults);
            route.policies.or(&defaults)
        });
    let Some(first) = specs.next() else {
        return route.policies.or(&document.route_defaults);
    };
    if specs.all(|other| other.places() == first.places()) {
        first
    } else {
        route.policies.or(&Specs::default())
    }
}

/// The clauses of `specs`, and those that `none` turns off at `place`.
fn clauses(specs: &Specs, place: &Place, loaded: &Loaded) -> Map<String, Json> {
    let places = specs.places();
    let mut shown = Map::new();
    for ((key, mut json), place) in specs.show().into_iter().zip(places) {
        escape(&mut json);
        if let Some(node) = loaded.tree.at(&place) {
            hide(&mut json, node, &place, loaded);
        }
        shown.insert(key.to_owned(), json);
    }
    let section = loaded.tree.at(place);
    for key in NAMES {
        let node = section.and_then(|section| section.child(key));
        if node.is_some_and(Node::is_none_word) {
            shown.insert((*key).to_owned(), json!("none"));
        }
    }
    shown
}

/// An item by its name, without its secrets.
fn veiled<T: serde::Serialize>(item: &Named<T>, loaded: &Loaded) -> (String, Json) {
    let mut json = to_json(&item.spec);
    if let Some(node) = loaded.tree.at(&item.place) {
        hide(&mut json, node, &item.place, loaded);
    }
    (item.name.clone(), json)
}

/// Puts where it comes from in the place of what came from where secrets are, and of what a variable put where a secret
/// is likely.
fn hide(json: &mut Json, node: &Node, place: &Place, loaded: &Loaded) {
    if node.origin == Origin::Secret {
        *json = match loaded.secrets.get(place) {
            Some((source, name)) => json!({ (source.as_str()): name }),
            None => json!(HIDDEN),
        };
        return;
    }
    let replaced = matches!(node.origin, Origin::Reference | Origin::Mixed);
    if veil::is_inline(node, place) {
        // Of a URL only the secret may have come from elsewhere.
        let is_url = replaced && node.text().is_some_and(urls::carries_secret);
        let written = loaded.references.get(place).filter(|_| is_url);
        let written = written.filter(|text| !urls::carries_secret(&around(text)));
        *json = json!(written.map_or(HIDDEN, String::as_str));
        return;
    }
    if replaced && is_sensitive(place) {
        *json = json!(loaded.references.get(place).map_or(HIDDEN, String::as_str));
        return;
    }
    match (&node.value, json) {
        (Value::Map(entries), Json::Object(map)) => {
            for entry in entries {
                if let Some(json) = map.get_mut(&entry.key) {
                    hide(json, &entry.node, &place.key(&entry.key), loaded);
                }
            }
        }
        (Value::List(items), Json::Array(list)) => {
            for ((index, item), json) in items.iter().enumerate().zip(list) {
                hide(json, item, &place.index(index), loaded);
            }
        }
        _ => {}
    }
}

/// What stands around the references of a text.
fn around(text: &str) -> String {
    let mut pieces = text.split("${");
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        // What a default says is written there.
        let (name, rest) = piece.split_once('}').unwrap_or((piece, ""));
        out.push_str(name.split_once(":-").map_or("", |(_, default)| default));
        out.push_str(rest);
    }
    out
}

/// Whether a header, parameter or cookie of a name that is likely to carry a secret stands here.
fn is_sensitive(place: &Place) -> bool {
    let words = [
        "authorization",
        "cookie",
        "token",
        "secret",
        "password",
        "key",
        "credential",
    ];
    place.steps().iter().any(|step| {
        let Step::Key(name) = step else { return false };
        let name = name.to_ascii_lowercase();
        words.iter().any(|word| name.contains(word))
    })
}

/// Doubles the dollar signs that would begin a reference when this is read again.
fn escape(json: &mut Json) {
    match json {
        Json::String(text) if text.contains('$') => {
            let mut out = String::with_capacity(text.len() + 2);
            let mut chars = text.chars().peekable();
            while let Some(c) = chars.next() {
                out.push(c);
                if c == '$' && matches!(chars.peek(), Some('$' | '{')) {
                    out.push('$');
                }
            }
            *text = out;
        }
        Json::Array(items) => items.iter_mut().for_each(escape),
        Json::Object(map) => map.values_mut().for_each(escape),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
    }
}

fn to_json(value: &impl serde::Serialize) -> Json {
    let mut json = serde_json::to_value(value).unwrap_or_default();
    escape(&mut json);
    json
}

fn object(json: Json) -> Map<String, Json> {
    match json {
        Json::Object(map) => map,
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) | Json::Array(_) => {
            Map::new()
        }
    }
}
