//! Dotted paths into JSON, and the tree that several of them make.

use std::fmt;

/// How many names a path may have.
const NAMES_MAX: usize = 16;

/// A dotted path: `total.amount`. A dot that is part of a name is written `\.`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path(Vec<String>);

/// Why a text is no path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathError {
    /// Nothing between two dots, before the first or after the last.
    Empty,
    /// More than 16 names.
    TooDeep,
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "a path with an empty name",
            Self::TooDeep => "a path of more than 16 names",
        })
    }
}

impl Path {
    /// Reads a path.
    ///
    /// # Errors
    /// A name is empty, or there are too many.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        let mut names = vec![String::new()];
        let mut chars = text.chars().peekable();
        while let Some(char) = chars.next() {
            match char {
                '\\' if matches!(chars.peek(), Some('.' | '\\')) => {
                    let escaped = chars.next();
                    if let Some(name) = names.last_mut() {
                        name.extend(escaped);
                    }
                }
                '.' => names.push(String::new()),
                _ => {
                    if let Some(name) = names.last_mut() {
                        name.push(char);
                    }
                }
            }
        }
        if names.iter().any(String::is_empty) {
            return Err(PathError::Empty);
        }
        if names.len() > NAMES_MAX {
            return Err(PathError::TooDeep);
        }
        Ok(Self(names))
    }

    /// Its names.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// Its last name, and the names before it.
    #[must_use]
    pub fn split(&self) -> (&[String], &str) {
        match self.0.split_last() {
            Some((last, parents)) => (parents, last),
            None => (&[], ""),
        }
    }
}

/// Names that lead to names; where one ends there may be something.
#[derive(Debug, Clone)]
pub(super) struct Tree<T> {
    pub(super) end: Option<T>,
    pub(super) below: Vec<(String, Self)>,
}

impl<T> Tree<T> {
    pub(super) const fn new() -> Self {
        Self {
            end: None,
            below: Vec::new(),
        }
    }

    /// Puts `end` where the path ends.
    pub(super) fn insert(&mut self, names: &[String], end: T) {
        let Some((first, rest)) = names.split_first() else {
            self.end = Some(end);
            return;
        };
        let at = self.below.iter().position(|(name, _)| name == first);
        let at = at.unwrap_or_else(|| {
            self.below.push((first.clone(), Self::new()));
            self.below.len() - 1
        });
        if let Some((_, tree)) = self.below.get_mut(at) {
            tree.insert(rest, end);
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Self> {
        let found = self.below.iter().find(|(known, _)| known == name);
        found.map(|(_, tree)| tree)
    }
}
