//! What serde says of a value, in the words of this language: what is wrong, and what to write.

use super::tree::Node;
use crate::base::problem::{Place, Problem, Step, suggest};

/// One message of serde, taken apart.
pub(super) struct Mistake {
    /// Where it is, from the clause.
    pub(super) path: Vec<Step>,
    kind: Kind,
    known: Vec<String>,
    message: String,
}

enum Kind {
    UnknownKey(String),
    MissingKey(String),
    UnknownWord(String),
    Value,
}

impl Mistake {
    /// Takes `message` apart; it is about what stands at `path`.
    pub(super) fn read(message: &str, mut path: Vec<Step>) -> Self {
        let quoted = |prefix: &str| {
            let rest = message.strip_prefix(prefix)?;
            Some(rest.split('`').next().unwrap_or(rest).to_owned())
        };
        let kind = if let Some(key) = quoted("unknown field `") {
            // The path of an unknown key ends in the map or in the key itself.
            if path.last() == Some(&Step::Key(key.clone())) {
                path.pop();
            }
            Kind::UnknownKey(key)
        } else if let Some(key) = quoted("missing field `") {
            Kind::MissingKey(key)
        } else if let Some(word) = quoted("unknown variant `") {
            if path.last() == Some(&Step::Key(word.clone())) {
                path.pop();
            }
            Kind::UnknownWord(word)
        } else {
            Kind::Value
        };
        let known = message.split("expected ").nth(1).unwrap_or_default();
        let known = known.split('`').skip(1).step_by(2).map(str::to_owned);
        Self {
            path,
            kind,
            known: known.collect(),
            message: message.to_owned(),
        }
    }

    /// Whether a key is missing.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self.kind, Kind::MissingKey(_))
    }

    /// Whether a key is not known.
    pub(super) fn is_unknown_key(&self) -> bool {
        matches!(self.kind, Kind::UnknownKey(_))
    }

    /// Where the missing key would be.
    pub(super) fn missing_path(&self) -> Vec<Step> {
        let mut path = self.path.clone();
        if let Kind::MissingKey(key) = &self.kind {
            path.push(Step::Key(key.clone()));
        }
        path
    }

    /// The node to take out before the next try.
    pub(super) fn target(&self) -> Vec<Step> {
        let mut target = self.path.clone();
        if let Kind::UnknownKey(key) = &self.kind {
            target.push(Step::Key(key.clone()));
        }
        target
    }

    /// The problem; `clause` is what was read and stands at `base`; `later` are keys of it that are no mistake, but not yet.
    pub(super) fn problem(self, base: &Place, clause: &Node, later: &[&str]) -> Problem {
        let place = self
            .path
            .iter()
            .fold(base.clone(), |place, step| place.with(step.clone()));
        let node = self
            .path
            .iter()
            .try_fold(clause, |node, step| node.step(step));
        let known = || self.known.iter().map(String::as_str);
        match &self.kind {
            Kind::UnknownKey(key) => {
                let later = later.iter().copied().filter(|_| self.path.is_empty());
                unknown_key(&place.key(key), key, known().chain(later), known())
            }
            Kind::MissingKey(key) => Problem::error("E011", place, format!("`{key}` is missing"))
                .hint(format!("add `{key}: …`"))
                .at_key(),
            Kind::UnknownWord(word) => unknown_word(place, word, &self.known, node),
            Kind::Value => value_problem(place, &self.message, node),
        }
    }
}

/// The problem of a key nobody knows; `near` are all keys that may be meant, `here` those that may be written.
pub(super) fn unknown_key<'a>(
    place: &Place,
    key: &str,
    near: impl Iterator<Item = &'a str>,
    here: impl Iterator<Item = &'a str>,
) -> Problem {
    let hint = match (key, suggest(key, near)) {
        ("<<", _) => {
            "merge keys are no part of the language; what items share goes under `defaults`"
                .to_owned()
        }
        (_, Some(hint)) => hint,
        (_, None) => match listed(here).as_str() {
            "" => "no key of it is in this version".to_owned(),
            list => format!("known here: {list}"),
        },
    };
    Problem::error("E010", place.clone(), format!("unknown key `{key}`"))
        .hint(hint)
        .at_key()
}

fn unknown_word(place: Place, word: &str, known: &[String], node: Option<&Node>) -> Problem {
    let words = || known.iter().map(String::as_str);
    let is_key = node.is_some_and(|node| node.child(word).is_some());
    let place = if is_key { place.key(word) } else { place };
    let (what, hint) = match suggest(word, words()) {
        _ if !is_key
            && known.iter().any(|word| word == "exact")
            && suggest(word, words()).is_none() =>
        {
            (
                format!("`{word}` does not say how to compare"),
                format!(
                    "write `{{ exact: \"{word}\" }}`, or one of `prefix`, `regex`; `present` and `absent` stand alone"
                ),
            )
        }
        Some(hint) => (format!("unknown word `{word}`"), hint),
        None => (
            format!("unknown word `{word}`"),
            format!("one of {}", listed(words())),
        ),
    };
    let problem = Problem::error("E013", place, what).hint(hint);
    if is_key { problem.at_key() } else { problem }
}

fn value_problem(place: Place, message: &str, node: Option<&Node>) -> Problem {
    let kind = node.map_or("nothing", Node::kind);
    if let Some((_, expected)) = message
        .strip_prefix("invalid type: ")
        .and_then(|rest| rest.rsplit_once(", expected "))
    {
        let (wanted, hint) = wanted(expected, node);
        return Problem::error("E012", place, format!("{kind} where {wanted} belongs")).hint(hint);
    }
    if let Some((_, expected)) = message
        .strip_prefix("invalid value: ")
        .and_then(|rest| rest.rsplit_once(", expected "))
    {
        if expected == "map with a single key" {
            let what = "a map where exactly one key belongs";
            return Problem::error("E012", place, what).hint("keep one of its keys");
        }
        let text = node.map(|node| node.to_json().to_string().replace('"', ""));
        let what = format!("`{}` does not fit here", text.unwrap_or_default());
        let (_, hint) = wanted(expected, node);
        return Problem::error("E012", place, what).hint(hint);
    }
    if message.ends_with("is not in this version") {
        let hint = "take it out; a later version of doorward brings it";
        return Problem::error("E020", place, message).hint(hint);
    }
    Problem::of_text(
        "E012",
        place,
        message,
        "see `doorward config schema` for what may stand here",
    )
}

/// What serde expects, in our words, with the way to write it.
fn wanted(expected: &str, node: Option<&Node>) -> (String, String) {
    let json = node
        .map(|node| node.to_json().to_string())
        .unwrap_or_default();
    let scalar = node.is_some_and(|node| node.entries().is_empty() && node.items().is_empty());
    let own = |what: &str, hint: &str| (what.to_owned(), hint.to_owned());
    match expected {
        "a string" | "a borrowed string" if scalar => (
            "a text".to_owned(),
            format!("put it in quotes: `\"{}\"`", json.replace('"', "")),
        ),
        "a string" | "a borrowed string" => own("a text", "write one text"),
        "a boolean" => own(
            "`true` or `false`",
            "write `true` or `false`, without quotes",
        ),
        "a sequence" => (
            "a list".to_owned(),
            format!("put it in brackets: `[{json}]`"),
        ),
        "a nonzero u16" | "a nonzero u32" | "a nonzero u64" | "a nonzero usize" => own(
            "a whole number of 1 or more",
            "write a whole number of 1 or more without quotes, e.g. `1`",
        ),
        "u8" | "u16" | "u32" | "u64" | "usize" | "i32" | "i64" => own(
            "a whole number",
            "write a whole number without quotes, e.g. `1`",
        ),
        "string or map" | "a map" => {
            own("a map", "write `key: value` pairs, e.g. `{ key: value }`")
        }
        "newtype variant" => own("a map", "give it a value: `{ word: value }`"),
        "unit variant" | "unit" => own("the word alone", "write the word without a value"),
        _ if expected.starts_with("struct ") || expected.starts_with("map") => {
            own("a map", "write `key: value` pairs, e.g. `{ key: value }`")
        }
        _ => match expected.split_once(", e.g. ") {
            Some((what, example)) => (what.to_owned(), format!("write e.g. {example}")),
            None => (expected.to_owned(), format!("write {expected}")),
        },
    }
}

fn listed<'a, I: Iterator<Item = &'a str>>(words: I) -> String {
    let mut list: Vec<String> = Vec::new();
    for word in words {
        let word = format!("`{word}`");
        if !list.contains(&word) {
            list.push(word);
        }
    }
    list.join(", ")
}
