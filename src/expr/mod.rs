//! Templates `{…}` and CEL expressions over one request: compiled at load, with closed sets of names and functions.

mod bind;
mod claims;
mod condition;
mod fields;
mod functions;
mod guard;
mod scope;
mod template;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::Range;

pub use claims::{ClaimPath, claim_text};
pub use condition::Condition;
pub use scope::{Moment, Name, Scope, Vocabulary};
pub use template::{Encoding, Template};

/// Why a template or an expression is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExprError {
    /// The family of the mistake.
    pub kind: ErrorKind,
    /// What is wrong: lower case, no full stop, names in backticks.
    pub what: String,
    /// How to mend it.
    pub hint: Option<String>,
    /// Which characters of the text (not bytes) are meant.
    pub span: Range<usize>,
}

/// The family of a mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// It cannot be read: a brace, a bracket, a literal.
    Syntax,
    /// No such name, field or function.
    Unknown,
    /// The name exists, but has no value yet where this stands.
    NotHere,
    /// The name belongs to the language, but this version cannot give its value.
    NotInThisVersion,
    /// It can be read, but never gives an answer: a pattern that is no pattern, a result that is not yes or no.
    Type,
    /// Too long, too deep, or too much work for every request.
    TooLarge,
}

impl ExprError {
    fn new(kind: ErrorKind, what: impl Into<String>) -> Self {
        Self {
            kind,
            what: what.into(),
            hint: None,
            span: 0..0,
        }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    fn at(mut self, span: Range<usize>) -> Self {
        self.span = span;
        self
    }
}

impl fmt::Display for ExprError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ExprError {}
