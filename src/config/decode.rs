//! One clause of the tree into its type, with every mistake found, not only the first.

use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use serde_path_to_error::{Path, Segment};

use super::by_name::ByName;
use super::mistake::Mistake;
use super::tree::{Node, Origin, Value};
use crate::base::problem::{Place, Problem, Problems, Step};

/// How many mistakes one clause may give; after that it is more likely something else altogether.
const MISTAKES_MAX: usize = 40;
/// How often one clause is tried: once a mistake, and once a stand-in for each variable that is not set.
const TRIES_MAX: usize = 1000;

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
    "\"present\"",
    "\"http1\"",
    "\"https\"",
];

/// Reads `node`, which stands at `place`, as a `T`. Mistakes go to `problems`; then there is no `T`.
pub(super) fn decode<T: DeserializeOwned>(
    node: &Node,
    place: &Place,
    problems: &mut Problems,
) -> Option<T> {
    decode_beside(node, place, &[], problems)
}

/// As [`decode`]; keys in `later` were refused before, and are what a misspelt one may mean.
pub(super) fn decode_beside<T: DeserializeOwned>(
    node: &Node,
    place: &Place,
    later: &[&str],
    problems: &mut Problems,
) -> Option<T> {
    if let (Value::Null, Some(Step::Key(key)), 2..) =
        (&node.value, place.steps().last(), place.steps().len())
    {
        problems.push(no_value(place.clone(), key));
        return None;
    }
    let json = if node.value == Value::Null && place.steps().len() == 1 {
        // A section whose lines are all comments.
        Json::Object(serde_json::Map::new())
    } else {
        node.to_json()
    };
    let mut attempt = Attempt {
        node,
        later,
        json,
        found: Vec::new(),
        gone: Vec::new(),
        stand_ins: Vec::new(),
    };
    attempt.empty_values(node, &mut Vec::new(), place);
    let mut value = None;
    for _ in 0..TRIES_MAX {
        match serde_path_to_error::deserialize::<_, T>(ByName(&attempt.json)) {
            Ok(read) => {
                value = Some(read);
                break;
            }
            Err(error) => {
                let path = attempt.original(&steps(error.path()));
                let mistake = Mistake::read(&error.into_inner().to_string(), path);
                if !attempt.mend(mistake, place) {
                    break;
                }
            }
        }
    }
    let good = attempt.found.is_empty();
    if good && value.is_none() {
        attempt.found.push(
            Problem::error("E012", place.clone(), "this cannot be read")
                .hint("write the values out instead of taking them from variables"),
        );
    }
    for problem in attempt.found {
        problems.push(problem);
    }
    value.filter(|_| good)
}

/// A clause that is read again and again, each time without the mistake found last.
struct Attempt<'n> {
    node: &'n Node,
    later: &'n [&'n str],
    json: Json,
    found: Vec<Problem>,
    /// What was taken out, by its place in `node`.
    gone: Vec<Vec<Step>>,
    stand_ins: Vec<(Vec<Step>, usize)>,
}

impl Attempt<'_> {
    /// `key:` with nothing behind it is a mistake, never a default.
    fn empty_values(&mut self, node: &Node, path: &mut Vec<Step>, place: &Place) {
        for entry in node.entries() {
            path.push(Step::Key(entry.key.clone()));
            if entry.node.value == Value::Null {
                let place = path
                    .iter()
                    .fold(place.clone(), |at, step| at.with(step.clone()));
                self.found.push(no_value(place, &entry.key));
                self.remove(&path.clone());
            } else if entry.key != "json" {
                // Whatever JSON is answered may hold `null`.
                self.empty_values(&entry.node, path, place);
            }
            path.pop();
        }
        for (index, item) in node.items().iter().enumerate() {
            path.push(Step::Index(index));
            self.empty_values(item, path, place);
            path.pop();
        }
    }

    /// Notes the mistake and takes it out, so that what stands beside it is looked at too. `false`: that is all.
    fn mend(&mut self, mistake: Mistake, place: &Place) -> bool {
        if self.substitute(&mistake.path) {
            return true;
        }
        let target = mistake.target();
        if !self.caused_by_removal(&mistake) {
            self.found
                .push(mistake.problem(place, self.node, self.later));
        }
        !target.is_empty() && self.found.len() < MISTAKES_MAX && self.remove(&target)
    }

    /// Whether this is no mistake of the author's, but because something wrong was taken out.
    fn caused_by_removal(&self, mistake: &Mistake) -> bool {
        if mistake.is_missing() || mistake.is_unknown_key() {
            return mistake.is_missing() && self.gone.contains(&mistake.missing_path());
        }
        self.gone.iter().any(|gone| {
            gone.split_last()
                .is_some_and(|(_, parents)| parents == mistake.path)
        })
    }

    /// A scalar that came from a variable may be meant as a number, or, when opaque, as anything.
    fn substitute(&mut self, path: &[Step]) -> bool {
        let node = path
            .iter()
            .try_fold(self.node, |node, step| node.step(step));
        let reduced = self.reduced(path);
        let (Some(node), Some(target)) = (node, locate(&mut self.json, &reduced)) else {
            return false;
        };
        if node.origin == Origin::Reference
            && let Json::String(text) = &*target
            && let Ok(typed @ (Json::Number(_) | Json::Bool(_))) =
                serde_json::from_str::<Json>(text)
        {
            *target = typed;
            return true;
        }
        if node.origin != Origin::Opaque {
            return false;
        }
        let tried = self.stand_ins.iter().filter(|(known, _)| known == path);
        let next = tried.count();
        let Some(Ok(stand_in)) = STAND_INS.get(next).map(|text| serde_json::from_str(text)) else {
            return false;
        };
        *target = stand_in;
        self.stand_ins.push((path.to_vec(), next));
        true
    }

    fn remove(&mut self, path: &[Step]) -> bool {
        let reduced = self.reduced(path);
        let Some((last, parents)) = reduced.split_last() else {
            return false;
        };
        let removed = match (last, locate(&mut self.json, parents)) {
            (Step::Key(key), Some(Json::Object(map))) => map.shift_remove(key).is_some(),
            (Step::Index(index), Some(Json::Array(items))) if *index < items.len() => {
                items.remove(*index);
                true
            }
            (Step::Key(_) | Step::Index(_), _) => false,
        };
        if removed {
            self.gone.push(path.to_vec());
        }
        removed
    }

    /// A path in what is left, as a path in what was written.
    fn original(&self, reduced: &[Step]) -> Vec<Step> {
        let mut path: Vec<Step> = Vec::with_capacity(reduced.len());
        for step in reduced {
            let Step::Index(index) = step else {
                path.push(step.clone());
                continue;
            };
            let mut gone: Vec<usize> = self.gone_items(&path).collect();
            gone.sort_unstable();
            let original = gone
                .into_iter()
                .fold(*index, |at, gone| if gone <= at { at + 1 } else { at });
            path.push(Step::Index(original));
        }
        path
    }

    /// A path in what was written, as a path in what is left.
    fn reduced(&self, original: &[Step]) -> Vec<Step> {
        let mut path = Vec::with_capacity(original.len());
        for (at, step) in original.iter().enumerate() {
            path.push(match step {
                Step::Key(_) => step.clone(),
                Step::Index(index) => {
                    let list = original.get(..at).unwrap_or_default();
                    let before = self.gone_items(list).filter(|gone| gone < index).count();
                    Step::Index(index - before)
                }
            });
        }
        path
    }

    /// The items that were taken out of the list at `path`.
    fn gone_items<'a>(&'a self, path: &'a [Step]) -> impl Iterator<Item = usize> + 'a {
        self.gone
            .iter()
            .filter_map(move |gone| match gone.split_last() {
                Some((Step::Index(index), parents)) if parents == path => Some(*index),
                Some((Step::Index(_) | Step::Key(_), _)) | None => None,
            })
    }
}

fn no_value(place: Place, key: &str) -> Problem {
    Problem::error("E012", place, format!("`{key}` has no value"))
        .hint("write one, or take the key out")
        .at_key()
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

fn locate<'j>(json: &'j mut Json, path: &[Step]) -> Option<&'j mut Json> {
    path.iter().try_fold(json, |json, step| match step {
        Step::Key(key) => json.as_object_mut()?.get_mut(key),
        Step::Index(index) => json.as_array_mut()?.get_mut(*index),
    })
}
