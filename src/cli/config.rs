//! `config`: the effective config, what differs, and the schema.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value as Json;

use super::args::{ConfigVerb, Format, Global};
use super::{Exit, check, print, report, say};
use crate::config;
use crate::config::source::Environment;

/// Does what the verb says.
pub(super) fn run(verb: &ConfigVerb, global: &Global) -> Exit {
    match verb {
        ConfigVerb::Schema => {
            print(&format!("{:#}\n", config::schema()));
            Exit::Done
        }
        ConfigVerb::Show => match effective(global) {
            Ok(json) => {
                print(&shown(&json, global.format));
                Exit::Done
            }
            Err(exit) => exit,
        },
        ConfigVerb::Diff { against: None } => {
            say(
                "error: no running gateway can be asked: this version has no admin socket\n  = hint: compare two files with `--against`",
            );
            Exit::Unreachable
        }
        ConfigVerb::Diff {
            against: Some(path),
        } => diff(global, path),
    }
}

fn effective(global: &Global) -> Result<Json, Exit> {
    let (loaded, _) = check::load(global, &Environment::Process).ok_or(Exit::Config)?;
    if loaded.problems.any_error() {
        report::problems(&loaded, global);
        return Err(Exit::Config);
    }
    Ok(config::show(&loaded))
}

fn shown(json: &Json, format: Format) -> String {
    match format {
        Format::Human => serde_yaml::to_string(json).unwrap_or_default(),
        Format::Json => format!("{json:#}\n"),
    }
}

fn diff(global: &Global, against: &Path) -> Exit {
    let other = Global {
        config: Some(against.to_owned()),
        ..global.clone()
    };
    let (old, new) = match (effective(&other), effective(global)) {
        (Ok(old), Ok(new)) => (old, new),
        (Err(exit), _) | (_, Err(exit)) => return exit,
    };
    let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
    flatten("", &old, &mut before);
    flatten("", &new, &mut after);
    let mut lines = String::new();
    let mut changes = Vec::new();
    for (key, value) in &before {
        match after.get(key) {
            Some(new) if new == value => {}
            Some(new) => {
                lines.push_str(&format!("~ {key}: {value} -> {new}\n"));
                changes.push(serde_json::json!({ "key": key, "old": value, "new": new }));
            }
            None => {
                lines.push_str(&format!("- {key}: {value}\n"));
                changes.push(serde_json::json!({ "key": key, "old": value }));
            }
        }
    }
    for (key, value) in after.iter().filter(|(key, _)| !before.contains_key(*key)) {
        lines.push_str(&format!("+ {key}: {value}\n"));
        changes.push(serde_json::json!({ "key": key, "new": value }));
    }
    let none = changes.is_empty();
    match global.format {
        Format::Human => print(&lines),
        Format::Json => print(&format!("{:#}\n", Json::Array(changes))),
    }
    if none { Exit::Done } else { Exit::Findings }
}

/// Every scalar by its path; the items of a list with a `name` by that name.
fn flatten(path: &str, json: &Json, out: &mut BTreeMap<String, Json>) {
    let join = |key: &str| {
        if path.is_empty() {
            key.to_owned()
        } else {
            format!("{path}.{key}")
        }
    };
    match json {
        Json::Object(map) if !map.is_empty() => map
            .iter()
            .for_each(|(key, value)| flatten(&join(key), value, out)),
        Json::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                let name = item
                    .get("name")
                    .and_then(Json::as_str)
                    .map_or_else(|| index.to_string(), str::to_owned);
                flatten(&join(&name), item, out);
            }
        }
        Json::Null
        | Json::Bool(_)
        | Json::Number(_)
        | Json::String(_)
        | Json::Array(_)
        | Json::Object(_) => {
            out.insert(path.to_owned(), json.clone());
        }
    }
}
