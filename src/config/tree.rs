//! The document as a tree in which every node knows where it stands in which file.

use serde_json::Value as Json;

use super::marks::{Marks, MarksKind};
use crate::base::problem::{Mark, Place, Step};

/// One node: what it is and where it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// What was written.
    pub value: Value,
    /// Where.
    pub mark: Mark,
    /// How the value came to be.
    pub origin: Origin,
}

/// How a scalar came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// As it stands in the file.
    Written,
    /// `${…}` was replaced; the whole scalar was one reference, so it may be meant as a number.
    Reference,
    /// `${…}` was replaced inside a longer text.
    Mixed,
    /// It was read from where secrets are; it is never shown.
    Secret,
    /// `--no-env`: a variable that is not set stands for any value of the right type.
    Opaque,
}

/// What a node holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing, or `~`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(serde_json::Number),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A map, in the order of the file.
    Map(Vec<Entry>),
}

/// A key of a map with its node.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Where the key stands.
    pub key_mark: Mark,
    /// What it leads to.
    pub node: Node,
}

impl Node {
    /// An empty map at `mark`.
    #[must_use]
    pub fn empty_map(mark: Mark) -> Self {
        Self {
            value: Value::Map(Vec::new()),
            mark,
            origin: Origin::Written,
        }
    }

    /// Joins what was read (values) with where it stands (marks).
    #[must_use]
    pub fn join(json: Json, marks: Marks) -> Self {
        let mark = marks.mark;
        let value = match (json, marks.kind) {
            (Json::Object(mut map), MarksKind::Map(entries)) => {
                Value::Map(join_map(&mut map, entries))
            }
            (Json::Array(items), MarksKind::List(marks)) => Value::List(
                items
                    .into_iter()
                    .zip(marks)
                    .map(|(item, mark)| Self::join(item, mark))
                    .collect(),
            ),
            (Json::Null, _) => Value::Null,
            (Json::Bool(value), _) => Value::Bool(value),
            (Json::Number(value), _) => Value::Number(value),
            (Json::String(value), _) => Value::Text(value),
            (Json::Array(_) | Json::Object(_), _) => Value::Null,
        };
        Self {
            value,
            mark,
            origin: Origin::Written,
        }
    }

    /// The tree without its marks.
    #[must_use]
    pub fn to_json(&self) -> Json {
        match &self.value {
            Value::Null => Json::Null,
            Value::Bool(value) => Json::Bool(*value),
            Value::Number(value) => Json::Number(value.clone()),
            Value::Text(value) => Json::String(value.clone()),
            Value::List(items) => Json::Array(items.iter().map(Self::to_json).collect()),
            Value::Map(entries) => Json::Object(
                entries
                    .iter()
                    .map(|entry| (entry.key.clone(), entry.node.to_json()))
                    .collect(),
            ),
        }
    }

    /// The entries of a map; nothing for anything else.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::List(_) => {
                &[]
            }
        }
    }

    /// The items of a list; nothing for anything else.
    #[must_use]
    pub fn items(&self) -> &[Self] {
        match &self.value {
            Value::List(items) => items,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) | Value::Map(_) => &[],
        }
    }

    /// What `key` of this map leads to.
    #[must_use]
    pub fn child(&self, key: &str) -> Option<&Self> {
        self.entries()
            .iter()
            .find(|entry| entry.key == key)
            .map(|entry| &entry.node)
    }

    /// The text of a scalar that is one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::List(_) | Value::Map(_) => {
                None
            }
        }
    }

    /// Whether it says `none`: this clause is turned off.
    #[must_use]
    pub fn is_none_word(&self) -> bool {
        self.text() == Some("none")
    }

    /// The node one step down.
    #[must_use]
    pub fn step(&self, step: &Step) -> Option<&Self> {
        match step {
            Step::Key(key) => self.child(key),
            Step::Index(index) => self.items().get(*index),
        }
    }

    /// Where the value at `place` stands. A place that does not exist stands where its nearest existing parent does.
    #[must_use]
    pub(crate) fn mark_of(&self, place: &Place) -> Mark {
        let mut node = self;
        for step in place.steps() {
            let Some(next) = node.step(step) else { break };
            node = next;
        }
        node.mark
    }

    /// Where the key of `place` stands; where there is none, as [`Node::mark_of`].
    #[must_use]
    pub(crate) fn key_mark_of(&self, place: &Place) -> Mark {
        let parent = place.parent().and_then(|parent| self.at(&parent));
        let (Some(parent), Some(Step::Key(key))) = (parent, place.steps().last()) else {
            return self.mark_of(place);
        };
        let entry = parent.entries().iter().find(|entry| entry.key == *key);
        entry.map_or_else(|| self.mark_of(place), |entry| entry.key_mark)
    }

    /// The node at `place`, if it exists.
    #[must_use]
    pub fn at(&self, place: &Place) -> Option<&Self> {
        place
            .steps()
            .iter()
            .try_fold(self, |node, step| node.step(step))
    }

    /// What kind of thing it is, for messages.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "true or false",
            Value::Number(_) => "a number",
            Value::Text(_) => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }
}

fn join_map(
    map: &mut serde_json::Map<String, Json>,
    entries: Vec<(String, Mark, Marks)>,
) -> Vec<Entry> {
    let mut joined = Vec::with_capacity(entries.len());
    for (key, key_mark, marks) in entries {
        // A duplicate was reported by the marks. A key that the two readers of YAML spell unlike stays, without its value.
        let json = map.remove(&key).unwrap_or(Json::Null);
        joined.push(Entry {
            node: Node::join(json, marks),
            key,
            key_mark,
        });
    }
    joined
}
