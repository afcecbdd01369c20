//! Secrets: `{ env: X }`, `{ file: path }`, `{ credential: name }` where a text belongs that nobody else may see.

use std::path::Path;

use super::interpolate::Variables;
use super::source::{Environment, read_text};
use super::tree::{Node, Origin, Value};
use crate::base::problem::{Place, Problem, Problems, Step};

/// Where secrets may stand: the steps of a place, `*` for any.
const PLACES: &[&[&str]] = &[
    &["routes", "*", "request", "headers", "set", "*"],
    &["routes", "*", "request", "headers", "add", "*"],
    &["defaults", "routes", "request", "headers", "set", "*"],
    &["defaults", "routes", "request", "headers", "add", "*"],
    &[
        "listeners",
        "*",
        "defaults",
        "request",
        "headers",
        "set",
        "*",
    ],
    &[
        "listeners",
        "*",
        "defaults",
        "request",
        "headers",
        "add",
        "*",
    ],
];

/// Puts every secret in its place. Its text never leaves the process: `config show` prints where it comes from.
pub(super) fn resolve(
    node: &mut Node,
    place: &Place,
    base: &Path,
    environment: &Environment,
    problems: &mut Problems,
) {
    if is_secret_place(place) {
        if matches!(node.value, Value::Map(_)) {
            one(node, place, base, environment, problems);
        }
        return;
    }
    if !leads_to_secret(place) {
        return;
    }
    match &mut node.value {
        Value::List(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                resolve(item, &place.index(index), base, environment, problems);
            }
        }
        Value::Map(entries) => {
            for entry in entries {
                resolve(
                    &mut entry.node,
                    &place.key(&entry.key),
                    base,
                    environment,
                    problems,
                );
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) => {}
    }
}

fn matches(place: &Place, pattern: &[&str]) -> bool {
    place
        .steps()
        .iter()
        .zip(pattern)
        .all(|(step, wanted)| match step {
            Step::Key(key) => *wanted == "*" || key == wanted,
            Step::Index(_) => *wanted == "*",
        })
}

fn is_secret_place(place: &Place) -> bool {
    PLACES
        .iter()
        .any(|pattern| pattern.len() == place.steps().len() && matches(place, pattern))
}

fn leads_to_secret(place: &Place) -> bool {
    PLACES
        .iter()
        .any(|pattern| pattern.len() > place.steps().len() && matches(place, pattern))
}

fn one(
    node: &mut Node,
    place: &Place,
    base: &Path,
    environment: &Environment,
    problems: &mut Problems,
) {
    let (source, name) = match node.entries() {
        [entry] => (entry.key.clone(), entry.node.text().map(str::to_owned)),
        _ => (String::new(), None),
    };
    let Some(name) = name.filter(|_| matches!(source.as_str(), "env" | "file" | "credential"))
    else {
        let problem = Problem::error(
            "E006",
            place.clone(),
            "this is not where a secret comes from",
        );
        problems
            .push(problem.hint("one of `{ env: NAME }`, `{ file: path }`, `{ credential: name }`"));
        node.value = Value::Text(String::new());
        return;
    };
    let read =
        |path: &Path| read_text(path).map(|text| text.trim_end_matches(['\r', '\n']).to_owned());
    let secret = match source.as_str() {
        "env" => environment
            .variable(&name)
            .ok_or_else(|| "it is not set".to_owned()),
        "credential" => match environment.variable("CREDENTIALS_DIRECTORY") {
            Some(folder) if !name.contains('/') => read(&Path::new(&folder).join(&name)),
            Some(_) => Err("a credential's name holds no `/`".to_owned()),
            None => Err(
                "`CREDENTIALS_DIRECTORY` is not set: systemd sets it with `LoadCredential=`"
                    .to_owned(),
            ),
        },
        _ => read(&base.join(&name)),
    };
    match secret {
        // Braces of a secret are no template.
        Ok(secret) => node.value = Value::Text(secret.replace('{', "{{").replace('}', "}}")),
        Err(_) if environment.opaque() => node.value = Value::Text(String::new()),
        Err(error) => {
            let problem = Problem::error(
                "E006",
                place.clone(),
                format!("no secret from {source} `{name}`: {error}"),
            );
            problems.push(problem.hint("check with `--no-env` where secrets are not at hand"));
            node.value = Value::Text(String::new());
        }
    }
    node.origin = Origin::Secret;
}
