//! The closed set of operators, functions and macros of the language.

use cel::common::ast::operators;

use super::{ErrorKind, ExprError};
use crate::base::problem::suggest;

/// How a function is written.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Style {
    /// `x.f(y)`
    Of,
    /// `f(x)`
    Free,
}

/// What the parser makes of the operators.
pub(super) const OPERATORS: [&str; 18] = [
    operators::CONDITIONAL,
    operators::LOGICAL_AND,
    operators::LOGICAL_OR,
    operators::LOGICAL_NOT,
    operators::SUBSTRACT,
    operators::ADD,
    operators::MULTIPLY,
    operators::DIVIDE,
    operators::MODULO,
    operators::EQUALS,
    operators::NOT_EQUALS,
    operators::GREATER_EQUALS,
    operators::LESS_EQUALS,
    operators::GREATER,
    operators::LESS,
    operators::NEGATE,
    operators::INDEX,
    operators::IN,
];

/// Made by the parser for `all` and `exists`.
const LOOP: &str = operators::NOT_STRICTLY_FALSE;

/// The functions of the language: name, style, how many values they take.
const FUNCTIONS: &[(&str, Style, usize)] = &[
    ("size", Style::Of, 0),
    ("size", Style::Free, 1),
    ("contains", Style::Of, 1),
    ("startsWith", Style::Of, 1),
    ("endsWith", Style::Of, 1),
    ("matches", Style::Of, 1),
    ("matches", Style::Free, 2),
    ("lowerAscii", Style::Of, 0),
    ("upperAscii", Style::Of, 0),
    ("trim", Style::Of, 0),
    ("int", Style::Free, 1),
    ("uint", Style::Free, 1),
    ("double", Style::Free, 1),
    ("string", Style::Free, 1),
    ("bool", Style::Free, 1),
    ("dyn", Style::Free, 1),
    ("timestamp", Style::Free, 1),
    ("duration", Style::Free, 1),
    (LOOP, Style::Free, 1),
];

/// The macros, and how they are written.
const MACROS: [(&str, &str); 7] = [
    ("has", "has(request.headers.NAME)"),
    ("exists", "LIST.exists(name, CONDITION)"),
    ("exists_one", "LIST.exists_one(name, CONDITION)"),
    ("existsOne", "LIST.existsOne(name, CONDITION)"),
    ("all", "LIST.all(name, CONDITION)"),
    ("map", "LIST.map(name, VALUE)"),
    ("filter", "LIST.filter(name, CONDITION)"),
];

/// Refuses a call of what is no function, or with another number of values.
pub(super) fn known_function(name: &str, style: Style, values: usize) -> Result<(), ExprError> {
    if FUNCTIONS.contains(&(name, style, values)) {
        return Ok(());
    }
    if let Some((_, form)) = MACROS.iter().find(|(known, _)| *known == name) {
        return Err(ExprError::new(
            ErrorKind::Syntax,
            format!("`{name}` is written `{form}`"),
        ));
    }
    let Some((_, known, takes)) = FUNCTIONS.iter().find(|(known, ..)| *known == name) else {
        let error = ExprError::new(ErrorKind::Unknown, format!("unknown function `{name}`"));
        let names = FUNCTIONS
            .iter()
            .map(|(known, ..)| *known)
            .chain(MACROS.iter().map(|(known, _)| *known));
        return Err(match suggest(name, names) {
            Some(hint) => error.hint(hint),
            None => error,
        });
    };
    let form = match (known, takes) {
        (Style::Of, 0) => format!("TEXT.{name}()"),
        (Style::Of, _) => format!("TEXT.{name}(TEXT)"),
        (Style::Free, _) => format!("{name}(VALUE)"),
    };
    Err(ExprError::new(
        ErrorKind::Syntax,
        format!("`{name}` is written `{form}`"),
    ))
}
