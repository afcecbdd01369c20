//! `${VAR}`, `${VAR:-default}`, `${VAR:?message}` in values, after parsing; `$$` is a dollar sign.

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

/// Replaces every reference below `node`, which stands at `place`.
pub(super) fn interpolate(
    node: &mut Node,
    place: &Place,
    variables: &dyn Variables,
    problems: &mut Problems,
) {
    match &mut node.value {
        Value::Text(text) if text.contains('$') => match replace(text, variables) {
            Ok((replaced, origin)) => {
                *text = replaced;
                node.origin = origin;
            }
            Err(mistake) => {
                problems.push(mistake.problem(place.clone()));
                node.origin = Origin::Opaque;
            }
        },
        Value::List(items) => {
            for (i, item) in items.iter_mut().enumerate() {
                interpolate(item, &place.index(i), variables, problems);
            }
        }
        Value::Map(entries) => {
            for entry in entries {
                interpolate(&mut entry.node, &place.key(&entry.key), variables, problems);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) => {}
    }
}

struct Mistake {
    code: &'static str,
    what: String,
    hint: String,
}

impl Mistake {
    fn problem(self, place: Place) -> Problem {
        Problem::error(self.code, place, self.what).hint(self.hint)
    }
}

fn replace(text: &str, variables: &dyn Variables) -> Result<(String, Origin), Mistake> {
    let mut out = String::with_capacity(text.len());
    let mut origin = Origin::Written;
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some(after) = after.strip_prefix('{') {
            let (reference, tail) = split_reference(after)?;
            let whole = before.is_empty() && tail.is_empty() && rest.len() == text.len();
            let (value, opaque) = resolve(reference, variables)?;
            out.push_str(&value);
            origin = match (opaque, whole) {
                (true, _) => Origin::Opaque,
                (false, true) => Origin::Reference,
                (false, false) if origin == Origin::Opaque => Origin::Opaque,
                (false, false) => Origin::Mixed,
            };
            rest = tail;
        } else {
            // A dollar sign that begins nothing is itself: regular expressions end in one.
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    Ok((out, origin))
}

/// Splits `NAME:-default} tail` at the brace that closes it; defaults may hold references themselves.
fn split_reference(after: &str) -> Result<(&str, &str), Mistake> {
    let mut depth = 1usize;
    for (i, c) in after.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            let (reference, tail) = after.split_at(i);
            return Ok((reference, tail.strip_prefix('}').unwrap_or(tail)));
        }
    }
    Err(Mistake {
        code: "E004",
        what: "`${` is never closed".to_owned(),
        hint: "write `${NAME}`, or `$$` for a dollar sign".to_owned(),
    })
}

fn resolve(reference: &str, variables: &dyn Variables) -> Result<(String, bool), Mistake> {
    let end = reference
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .unwrap_or(reference.len());
    let (name, operation) = reference.split_at(end);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(Mistake {
            code: "E004",
            what: format!("`${{{reference}}}` names no variable"),
            hint: "write `${NAME}`, `${NAME:-default}` or `${NAME:?message}`".to_owned(),
        });
    }
    let set = variables
        .variable(name)
        .filter(|value| !value.is_empty() || operation.is_empty());
    if let Some(value) = set {
        return Ok((value, false));
    }
    if let Some(default) = operation.strip_prefix(":-") {
        return replace(default, variables)
            .map(|(value, origin)| (value, origin == Origin::Opaque));
    }
    if variables.opaque() {
        return Ok((OPAQUE.to_owned(), true));
    }
    if let Some(message) = operation.strip_prefix(":?") {
        return Err(Mistake {
            code: "E005",
            what: format!("`{name}` is not set: {message}"),
            hint: format!("set the environment variable `{name}`"),
        });
    }
    if !operation.is_empty() {
        return Err(Mistake {
            code: "E004",
            what: format!("`${{{reference}}}` is not understood"),
            hint: "write `${NAME}`, `${NAME:-default}` or `${NAME:?message}`".to_owned(),
        });
    }
    Err(Mistake {
        code: "E005",
        what: format!("the environment variable `{name}` is not set"),
        hint: format!("set it, give a default (`${{{name}:-…}}`), or check with `--no-env`"),
    })
}

/// What an unset variable stands for under `--no-env`, until a type asks for something else.
pub(super) const OPAQUE: &str = "unset";
