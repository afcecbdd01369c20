//! One clause of the tree into its type, with every mistake found, not only the first.

use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use serde_path_to_error::{Path, Segment};

use super::tree::{Node, Origin};
use crate::base::problem::{Place, Problem, Problems, Step, suggest};

/// How many mistakes one clause may give; after that it is more likely something else altogether.
const TRIES_MAX: usize = 40;

/// What an opaque scalar (`--no-env`) may stand for, tried in this order.
const STAND_INS: &[&str] = &[
    "\"1s\"",
    "\"1KiB\"",
    "\"1/s\"",
    "\"1%\"",
    "1",
    "true",
    "\"http://unset.invalid:80\"",
    "\"127.0.0.1:0\"",
    "\"10.0.0.0/8\"",
    "\"2030-01-01\"",
    "\"GET\"",
    "\"/\"",
    "\"none\"",
    "\"http1\"",
    "\"https\"",
];

/// Reads `node`, which stands at `place`, as a `T`. Mistakes go to `problems`; then there is no `T`.
pub(super) fn decode<T: DeserializeOwned>(
    node: &Node,
    place: &Place,
    problems: &mut Problems,
) -> Option<T> {
    let mut json = node.to_json();
    let mut found: Vec<Problem> = Vec::new();
    let mut removed: Vec<Vec<Step>> = Vec::new();
    let mut stand_ins: Vec<(Vec<Step>, usize)> = Vec::new();
    for _ in 0..TRIES_MAX {
        let error = match serde_path_to_error::deserialize::<_, T>(&json) {
            Ok(value) if found.is_empty() => return Some(value),
            Ok(_) => break,
            Err(error) => error,
        };
        let path = steps(error.path());
        let mistake = Mistake::read(&error.into_inner().to_string(), path);
        if substitute(node, &mut json, &mistake.path, &mut stand_ins) {
            continue;
        }
        let caused_by_removal = mistake.missing
            && mistake.field.as_ref().is_some_and(|field| {
                let mut gone = mistake.path.clone();
                gone.push(Step::Key(field.clone()));
                removed.contains(&gone)
            });
        // What is wrong is taken out, so that what stands beside it is looked at too.
        let target = mistake.target();
        if !caused_by_removal {
            found.push(mistake.problem(place));
        }
        if target.is_empty() || !remove(&mut json, &target) {
            break;
        }
        removed.push(target);
    }
    for problem in found {
        problems.push(problem);
    }
    None
}

/// One message of serde, taken apart.
struct Mistake {
    path: Vec<Step>,
    field: Option<String>,
    missing: bool,
    unknown: bool,
    known: Vec<String>,
    message: String,
}

impl Mistake {
    fn read(message: &str, mut path: Vec<Step>) -> Self {
        let unknown_field = message.strip_prefix("unknown field `");
        let unknown_variant = message.strip_prefix("unknown variant `");
        let missing_field = message.strip_prefix("missing field `");
        let field = unknown_field
            .or(missing_field)
            .or(unknown_variant)
            .and_then(|rest| rest.split('`').next());
        // The path of an unknown key ends in the map or in the key itself.
        if let (Some(_), Some(name)) = (unknown_field, field)
            && path.last() == Some(&Step::Key(name.to_owned()))
        {
            path.pop();
        }
        let known = message
            .split("expected ")
            .nth(1)
            .map_or_else(Vec::new, |list| {
                list.split('`')
                    .skip(1)
                    .step_by(2)
                    .map(str::to_owned)
                    .collect()
            });
        Self {
            field: field.map(str::to_owned),
            missing: missing_field.is_some(),
            unknown: unknown_field.is_some(),
            known,
            message: message.to_owned(),
            path,
        }
    }

    /// The node to take out before the next try.
    fn target(&self) -> Vec<Step> {
        let mut target = self.path.clone();
        if let (true, Some(field)) = (self.unknown, &self.field) {
            target.push(Step::Key(field.clone()));
        }
        target
    }

    fn problem(self, base: &Place) -> Problem {
        let place = self
            .path
            .iter()
            .fold(base.clone(), |place, step| place.with(step.clone()));
        let known = || self.known.iter().map(String::as_str);
        match &self.field {
            Some(field) if self.unknown => unknown_key(&place.key(field), field, known()),
            Some(field) if self.missing => {
                Problem::error("E011", place, format!("`{field}` is missing"))
                    .hint(format!("add `{field}: …`"))
                    .at_key()
            }
            Some(word) => {
                let hint =
                    suggest(word, known()).unwrap_or_else(|| format!("one of {}", listed(known())));
                Problem::error(
                    "E013",
                    place,
                    format!("`{word}` is not one of the words this takes"),
                )
                .hint(hint)
            }
            None => self.value_problem(place),
        }
    }

    fn value_problem(self, place: Place) -> Problem {
        let (what, hint) = match self.message.split_once("; hint: ") {
            Some((what, hint)) => (what.to_owned(), Some(hint.to_owned())),
            None => (self.message, None),
        };
        let problem = Problem::error("E012", place, what);
        match hint {
            Some(hint) => problem.hint(hint),
            None => problem,
        }
    }
}

/// The problem of a key nobody knows.
pub(super) fn unknown_key<'a, I: Iterator<Item = &'a str> + Clone>(
    place: &Place,
    key: &str,
    known: I,
) -> Problem {
    let hint =
        suggest(key, known.clone()).unwrap_or_else(|| format!("known here: {}", listed(known)));
    Problem::error("E010", place.clone(), format!("unknown key `{key}`"))
        .hint(hint)
        .at_key()
}

fn listed<'a, I: Iterator<Item = &'a str>>(words: I) -> String {
    words
        .map(|word| format!("`{word}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

fn steps(path: &Path) -> Vec<Step> {
    path.iter()
        .filter_map(|segment| match segment {
            Segment::Seq { index } => Some(Step::Index(*index)),
            Segment::Map { key } => Some(Step::Key(key.clone())),
            Segment::Enum { variant } => Some(Step::Key(variant.clone())),
            Segment::Unknown => None,
        })
        .collect()
}

/// A scalar that came from a variable may be meant as a number, or, when opaque, as anything.
fn substitute(
    node: &Node,
    json: &mut Json,
    path: &[Step],
    tried: &mut Vec<(Vec<Step>, usize)>,
) -> bool {
    let Some(origin) = path
        .iter()
        .try_fold(node, |n, step| n.step(step))
        .map(|n| n.origin)
    else {
        return false;
    };
    let Some(target) = locate(json, path) else {
        return false;
    };
    if origin == Origin::Reference
        && let Json::String(text) = &*target
        && let Ok(typed @ (Json::Number(_) | Json::Bool(_))) = serde_json::from_str::<Json>(text)
    {
        *target = typed;
        return true;
    }
    if origin != Origin::Opaque {
        return false;
    }
    let next = tried.iter().filter(|(p, _)| p == path).count();
    let Some(Ok(stand_in)) = STAND_INS.get(next).map(|text| serde_json::from_str(text)) else {
        return false;
    };
    *target = stand_in;
    tried.push((path.to_vec(), next));
    true
}

fn locate<'j>(json: &'j mut Json, path: &[Step]) -> Option<&'j mut Json> {
    path.iter().try_fold(json, |json, step| match step {
        Step::Key(key) => json.as_object_mut()?.get_mut(key),
        Step::Index(index) => json.as_array_mut()?.get_mut(*index),
    })
}

/// Takes the node at `path` out; a list item becomes a gap that its neighbours' indices survive, so the whole list goes.
fn remove(json: &mut Json, path: &[Step]) -> bool {
    let Some((last, parents)) = path.split_last() else {
        return false;
    };
    match (last, locate(json, parents)) {
        (Step::Key(key), Some(Json::Object(map))) => map.shift_remove(key).is_some(),
        (Step::Index(_), Some(_)) => remove(json, parents),
        (Step::Key(_) | Step::Index(_), _) => false,
    }
}
