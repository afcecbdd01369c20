//! `${VAR}`, `${VAR:-default}`, `${VAR:?message}` in values, after parsing; `$$` is a dollar sign.

use std::collections::BTreeMap;
use std::ops::Range;

use super::tree::{Node, Origin, Value};
use crate::base::problem::{Place, Problem, Problems};

/// Where variables come from.
pub(super) trait Variables {
    /// The value of `name`, if it is set.
    fn variable(&self, name: &str) -> Option<String>;
    /// Whether a variable that is not set stands for any value of the right type (`check --no-env`).
    fn opaque(&self) -> bool {
        false
    }
}

/// The texts that held references, as they were written.
pub(super) type References = BTreeMap<Place, String>;

/// Replaces every reference below `node`, which stands at `place`.
pub(super) fn interpolate(
    node: &mut Node,
    place: &Place,
    variables: &dyn Variables,
    problems: &mut Problems,
) -> References {
    let mut references = References::new();
    below(node, place, variables, &mut references, problems);
    references
}

fn below(
    node: &mut Node,
    place: &Place,
    variables: &dyn Variables,
    references: &mut References,
    problems: &mut Problems,
) {
    match &mut node.value {
        Value::Text(text) if text.contains('$') => {
            let mut reader = Reader {
                variables,
                mistakes: Vec::new(),
            };
            let (replaced, origin) = reader.replace(text, 0);
            if reader.mistakes.is_empty() {
                references.insert(place.clone(), std::mem::replace(text, replaced));
                node.origin = origin;
            } else {
                // What it would have become cannot be right or wrong.
                node.origin = Origin::Opaque;
            }
            for mistake in reader.mistakes {
                let problem = Problem::error(mistake.code, place.clone(), mistake.what);
                problems.push(problem.hint(mistake.hint).part(mistake.part));
            }
        }
        Value::List(items) => {
            for (i, item) in items.iter_mut().enumerate() {
                below(item, &place.index(i), variables, references, problems);
            }
        }
        Value::Map(entries) => {
            for entry in entries {
                below(
                    &mut entry.node,
                    &place.key(&entry.key),
                    variables,
                    references,
                    problems,
                );
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) => {}
    }
}

struct Mistake {
    code: &'static str,
    what: String,
    hint: String,
    part: Range<usize>,
}

/// What a reference became; `Opaque` when a variable that is not set stands for anything.
type Replaced = (String, Origin);

struct Reader<'v> {
    variables: &'v dyn Variables,
    mistakes: Vec<Mistake>,
}

impl Reader<'_> {
    /// Replaces the references of `text`, which begins `at` characters into the scalar.
    fn replace(&mut self, text: &str, at: usize) -> Replaced {
        let mut out = String::with_capacity(text.len());
        let mut origin = Origin::Written;
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            if let Some(after) = after.strip_prefix('$') {
                out.push('$');
                rest = after;
                continue;
            }
            let Some(after) = after.strip_prefix('{') else {
                // A dollar sign that begins nothing is itself: regular expressions end in one.
                out.push('$');
                rest = after;
                continue;
            };
            let start = at + text.chars().count() - after.chars().count() - 2;
            let Some((reference, tail)) = split_reference(after) else {
                self.mistakes.push(Mistake {
                    code: "E004",
                    what: "`${` is never closed".to_owned(),
                    hint: "write `${NAME}`, or `$$` for a dollar sign".to_owned(),
                    part: start..start + 2 + after.chars().count(),
                });
                return (out, Origin::Opaque);
            };
            let whole = before.is_empty() && tail.is_empty() && rest.len() == text.len();
            let (value, opaque) = self.resolve(reference, start);
            out.push_str(&value);
            origin = match (opaque, whole) {
                (true, _) => Origin::Opaque,
                (false, true) => Origin::Reference,
                (false, false) if origin == Origin::Opaque => Origin::Opaque,
                (false, false) => Origin::Mixed,
            };
            rest = tail;
        }
        out.push_str(rest);
        (out, origin)
    }

    /// The value of `NAME:-default`, which stands in braces; whether it stands for anything.
    fn resolve(&mut self, reference: &str, start: usize) -> (String, bool) {
        let end = reference
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
            .unwrap_or(reference.len());
        let (name, operation) = reference.split_at(end);
        let part = start..start + 3 + reference.chars().count();
        let named = !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit());
        let known =
            operation.is_empty() || operation.starts_with(":-") || operation.starts_with(":?");
        if !named || !known {
            let what = if named {
                format!("`${{{reference}}}` is not understood")
            } else {
                format!("`${{{reference}}}` names no variable")
            };
            self.mistakes.push(Mistake {
                code: "E004",
                what,
                hint: "write `${NAME}`, `${NAME:-default}` or `${NAME:?message}`".to_owned(),
                part,
            });
            return (String::new(), true);
        }
        let set = self
            .variables
            .variable(name)
            .filter(|value| !value.is_empty() || operation.is_empty());
        if let Some(value) = set {
            return (value, false);
        }
        if let Some(default) = operation.strip_prefix(":-") {
            let (value, origin) = self.replace(default, start + 4 + name.len());
            return (value, origin == Origin::Opaque);
        }
        if !self.variables.opaque() {
            let (what, hint) = match operation.strip_prefix(":?") {
                Some(message) => (
                    format!("`{name}` is not set: {message}"),
                    format!("set the environment variable `{name}`"),
                ),
                None => (
                    format!("the environment variable `{name}` is not set"),
                    format!("set it, give a default (`${{{name}:-…}}`), or check with `--no-env`"),
                ),
            };
            self.mistakes.push(Mistake {
                code: "E005",
                what,
                hint,
                part,
            });
        }
        (opaque(name), true)
    }
}

/// Splits `NAME:-default} tail` at the brace that closes it; defaults may hold references themselves.
fn split_reference(after: &str) -> Option<(&str, &str)> {
    let mut depth = 1usize;
    for (at, c) in after.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            let (reference, tail) = after.split_at(at);
            return Some((reference, tail.strip_prefix('}').unwrap_or(tail)));
        }
    }
    None
}

/// What an unset variable stands for under `--no-env`, until a type asks for something else. Two variables are two
/// values, so that hosts or paths made of them do not collide; as it is, it could be a host.
fn opaque(name: &str) -> String {
    format!("unset-{}", name.to_ascii_lowercase().replace('_', "-"))
}
