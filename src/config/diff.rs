//! What differs between two effective configs.

use std::collections::BTreeMap;

use serde_json::{Map, Value as Json};

use super::referenced::KEY;
use crate::base::control::Change;

/// Every value that differs, by its path; the items of a list with a `name` go by that name. Of the files that are
/// referred to it is said that they changed.
#[must_use]
pub fn diff(old: &Json, new: &Json) -> Vec<Change> {
    let (mut old, mut new) = (old.clone(), new.clone());
    let (files_before, files_after) = (files(&mut old), files(&mut new));
    let mut changes = values(&old, &new);
    for (key, after) in &files_after {
        let name = |file: &Json| file.get("file").cloned();
        // Where another file is named, the value itself differs.
        let changed = files_before
            .get(key)
            .is_some_and(|before| before != after && name(before) == name(after));
        if changed {
            let name = after.get("file").and_then(Json::as_str).unwrap_or_default();
            let note = if after.get("sha256").is_some() {
                format!("content of {name} changed")
            } else {
                format!("secret in {name} was written anew")
            };
            changes.push(Change {
                key: key.clone(),
                old: None,
                new: None,
                note: Some(note),
            });
        }
    }
    changes
}

/// Takes the files out of what is compared.
fn files(json: &mut Json) -> Map<String, Json> {
    match json.as_object_mut().and_then(|json| json.shift_remove(KEY)) {
        Some(Json::Object(files)) => files,
        _ => Map::new(),
    }
}

fn values(old: &Json, new: &Json) -> Vec<Change> {
    let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
    flatten("", old, &mut before);
    flatten("", new, &mut after);
    let mut changes: Vec<Change> = before
        .iter()
        .filter(|(key, value)| after.get(*key) != Some(value))
        .map(|(key, value)| Change {
            key: key.clone(),
            old: Some(value.clone()),
            new: after.get(key).cloned(),
            note: None,
        })
        .collect();
    let fresh = after
        .into_iter()
        .filter(|(key, _)| !before.contains_key(key));
    changes.extend(fresh.map(|(key, value)| Change {
        key,
        old: None,
        new: Some(value),
        note: None,
    }));
    changes
}

fn flatten(path: &str, json: &Json, out: &mut BTreeMap<String, Json>) {
    let join = |key: &str| match path {
        "" => key.to_owned(),
        _ => format!("{path}.{key}"),
    };
    match json {
        Json::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                flatten(&join(key), value, out);
            }
        }
        Json::Array(items) if !items.is_empty() => {
            for (index, item) in items.iter().enumerate() {
                let name = item.get("name").and_then(Json::as_str);
                let name = name.map_or_else(|| index.to_string(), str::to_owned);
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

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::diff;

    fn check(old: &Json, new: &Json, expected: &[&str]) {
        let lines: Vec<String> = diff(old, new).iter().map(|change| change.line()).collect();
        assert_eq!(lines, expected, "{old} {new}");
    }

    #[test]
    fn what_is_the_same_is_no_change() {
        let config = json!({ "a": [{ "name": "x", "b": null }], "c": {}, "d": [] });
        check(&config, &config, &[]);
    }

    #[test]
    fn every_value_is_named_by_its_path() {
        let old = json!({ "a": { "b": 1, "c": "x", "d": true } });
        let new = json!({ "a": { "b": 2, "d": true, "e": [1, "two"] } });
        let lines = [
            "~ a.b: 1 -> 2",
            "- a.c: \"x\"",
            "+ a.e.0: 1",
            "+ a.e.1: \"two\"",
        ];
        check(&old, &new, &lines);
    }

    #[test]
    fn items_with_a_name_go_by_it_wherever_they_stand() {
        let old = json!({ "routes": [{ "name": "a", "to": 1 }, { "name": "b", "to": 2 }] });
        let turned = json!({ "routes": [{ "name": "b", "to": 2 }, { "name": "a", "to": 1 }] });
        check(&old, &turned, &[]);
        let fewer = json!({ "routes": [{ "name": "b", "to": 3 }] });
        let lines = [
            "- routes.a.name: \"a\"",
            "- routes.a.to: 1",
            "~ routes.b.to: 2 -> 3",
        ];
        check(&old, &fewer, &lines);
    }

    #[test]
    fn what_becomes_empty_is_seen() {
        let lines = ["- a: {}", "+ a.b: 1"];
        check(&json!({ "a": {} }), &json!({ "a": { "b": 1 } }), &lines);
        check(
            &json!({ "a": [1] }),
            &json!({ "a": [] }),
            &["- a.0: 1", "+ a: []"],
        );
        check(
            &json!({ "a": null }),
            &json!({ "a": false }),
            &["~ a: null -> false"],
        );
    }
}
