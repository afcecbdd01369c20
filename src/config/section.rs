//! One map of the document, read key by key; what nobody took is unknown.

use serde::de::DeserializeOwned;

use super::decode::{decode, decode_beside};
use super::later::{self, Part};
use super::mistake::unknown_key;
use super::tree::{Node, Value};
use crate::base::problem::{Place, Problem, Problems};
use crate::link::{self, Clause};

/// A map whose keys are taken one by one.
pub(super) struct Section<'a> {
    node: &'a Node,
    place: Place,
    part: Part,
    taken: Vec<&'static str>,
    /// Where mistakes go.
    pub problems: &'a mut Problems,
}

impl<'a> Section<'a> {
    /// Reads `node`, which stands at `place`; anything but a map is a mistake, and then read as an empty one.
    pub(super) fn new(
        node: &'a Node,
        place: Place,
        part: Part,
        problems: &'a mut Problems,
    ) -> Self {
        if !matches!(node.value, Value::Map(_) | Value::Null) {
            let what = format!("{} where a map belongs", node.kind());
            problems.push(
                Problem::error("E012", place.clone(), what)
                    .hint("write `key: value` lines below it"),
            );
        }
        Self {
            node,
            place,
            part,
            taken: Vec::new(),
            problems,
        }
    }

    /// The node under `key` with its place; from now on the key is known.
    pub(super) fn take(&mut self, key: &'static str) -> Option<(&'a Node, Place)> {
        self.taken.push(key);
        let node = self.node.child(key)?;
        Some((node, self.place.key(key)))
    }

    /// Reads what stands under `key`.
    pub(super) fn decode<T: DeserializeOwned>(&mut self, key: &'static str) -> Option<T> {
        let (node, place) = self.take(key)?;
        decode(node, &place, self.problems)
    }

    /// Reads all of the map but `but` as a `T`.
    pub(super) fn rest<T: DeserializeOwned>(self, but: &[&str]) -> Option<T> {
        let Self {
            node,
            place,
            part,
            problems,
            ..
        } = self;
        if !matches!(node.value, Value::Map(_) | Value::Null) {
            // That was said.
            return None;
        }
        let node = without_later(node, &place, part, but, problems);
        decode_beside(&node, &place, later::keys(part), problems)
    }

    /// The place of the map.
    #[must_use]
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Reports every key that nobody took.
    pub(super) fn finish(self) {
        for entry in self.node.entries() {
            if self.taken.contains(&entry.key.as_str()) {
                continue;
            }
            let place = self.place.key(&entry.key);
            if later::keys(self.part).contains(&entry.key.as_str()) {
                self.problems.push(not_yet(place, &entry.key));
            } else {
                let here = self.taken.iter().copied();
                let near = here.clone().chain(later::keys(self.part).iter().copied());
                self.problems
                    .push(unknown_key(&place, &entry.key, near, here));
            }
        }
    }
}

/// The problem of a key that a later version brings.
fn not_yet(place: Place, key: &str) -> Problem {
    Problem::error("E020", place, format!("`{key}` is not in this version"))
        .hint("take it out; a later version of doorward brings it")
        .at_key()
}

/// The problem of a value that a later version brings.
pub(super) fn value_not_yet(place: Place, value: &str) -> Problem {
    Problem::error("E020", place, format!("`{value}` is not in this version"))
        .hint("take it out; a later version of doorward brings it")
}

/// A copy of the map without the keys in `but` and those that later versions bring; the latter are reported.
pub(super) fn without_later(
    node: &Node,
    place: &Place,
    part: Part,
    but: &[&str],
    problems: &mut Problems,
) -> Node {
    let mut copy = node.clone();
    if let Value::Map(entries) = &mut copy.value {
        entries.retain(|entry| {
            let later = later::keys(part).contains(&entry.key.as_str());
            if later {
                problems.push(not_yet(place.key(&entry.key), &entry.key));
            }
            !later && !but.contains(&entry.key.as_str())
        });
    }
    copy
}

impl link::Section for Section<'_> {
    fn clause<T: DeserializeOwned>(&mut self, key: &'static str) -> Clause<T> {
        let Some((node, place)) = self.take(key) else {
            return Clause::Absent;
        };
        if node.is_none_word() {
            return Clause::Off;
        }
        let node = match key {
            "identity" => without_later(node, &place, Part::Identity, &[], self.problems),
            "respond" => without_later(node, &place, Part::Respond, &[], self.problems),
            _ => node.clone(),
        };
        match decode(&node, &place, self.problems) {
            Some(spec) => Clause::On(std::sync::Arc::new(spec), place),
            None => Clause::Off,
        }
    }
}
