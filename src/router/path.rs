//! Which paths a rule is for: exact, template, prefix or regex.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use regex::{Regex, RegexBuilder};

use super::PathRank;
use super::split::Shape;

/// How many segments a pattern may have: their positions are bits of a `u64`.
const SEGMENTS_MAX: usize = 63;
const PATTERN_BYTES_MAX: usize = 8 * 1024;
/// What one compiled regex may weigh.
const REGEX_BYTES_MAX: usize = 1024 * 1024;

/// A path, a template, a prefix or a regex.
#[derive(Clone, Debug)]
pub struct PathPattern {
    /// As written.
    text: Box<str>,
    pub(super) shape: Shape,
    /// The literal segments, each with its slash before it; for a regex what was written.
    pub(super) literal: Box<str>,
    names: Box<[Box<str>]>,
    /// What the parameters must match, in their order; empty when none has a pattern.
    pub(super) typed: Box<[Option<Arc<Regex>>]>,
    pub(super) regex: Option<Arc<Regex>>,
}

impl PathPattern {
    /// The names of the parameters; the position of a name is its index in [`super::Params`].
    #[must_use]
    pub fn names(&self) -> &[Box<str>] {
        &self.names
    }

    /// How specific it is.
    #[must_use]
    pub fn rank(&self) -> PathRank {
        self.shape.rank(self.typed_count())
    }

    pub(super) fn typed_count(&self) -> u8 {
        let count = self.typed.iter().filter(|regex| regex.is_some()).count();
        u8::try_from(count).unwrap_or(u8::MAX)
    }
}

/// As written.
impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Reads patterns; keeps the regexes, since many routes have the same few.
pub struct PathParser<'a> {
    canonical: &'a dyn Fn(&str) -> Result<String, String>,
    regexes: HashMap<Box<str>, Arc<Regex>>,
}

impl<'a> PathParser<'a> {
    /// `canonical` brings a literal segment into the form request paths have.
    #[must_use]
    pub fn new(canonical: &'a dyn Fn(&str) -> Result<String, String>) -> Self {
        Self {
            canonical,
            regexes: HashMap::new(),
        }
    }

    /// Reads an exact path or a template: `/v1/orders/{id}`, `/v1/orders/{id:[0-9]+}`, `/files/{path*}`; `{{` is a brace.
    ///
    /// # Errors
    /// Says what is wrong with the text.
    pub fn parse_path(&mut self, text: &str) -> Result<PathPattern, String> {
        let pieces = pieces(text)?;
        let mut pattern = PathPattern {
            text: text.into(),
            shape: Shape::EXACT,
            literal: Box::default(),
            names: Box::default(),
            typed: Box::default(),
            regex: None,
        };
        let rest = matches!(pieces.last(), Some(Piece::Rest(_)));
        let segments = pieces.len() - usize::from(rest);
        let (mut literal, mut names, mut typed, mut mask) = (String::new(), vec![], vec![], 0_u64);
        for (at, piece) in pieces.iter().enumerate() {
            match piece {
                Piece::Literal(segment) => {
                    mask |= 1 << at;
                    literal.push('/');
                    literal.push_str(&(self.canonical)(segment)?);
                }
                Piece::Parameter(name, None) => {
                    names.push(*name);
                    typed.push(None);
                }
                Piece::Parameter(name, Some(regex)) => {
                    names.push(*name);
                    typed.push(Some(self.compile(regex)?));
                }
                Piece::Rest(name) if at == segments => names.push(*name),
                Piece::Rest(name) => {
                    return Err(format!(
                        "`{{{name}*}}` stands for the rest of the path: it must be the last segment"
                    ));
                }
            }
        }
        for (at, name) in names.iter().enumerate() {
            if names.iter().skip(at + 1).any(|other| other == name) {
                return Err(format!("parameter `{name}` stands in the path twice"));
            }
        }
        pattern.literal = literal.into();
        if !names.is_empty() {
            let shape = Shape::template(mask, segments);
            pattern.shape = if rest { shape.with_rest() } else { shape };
            pattern.names = names.into_iter().map(Into::into).collect();
            if typed.iter().any(Option::is_some) {
                pattern.typed = typed.into();
            }
        }
        Ok(pattern)
    }

    /// Reads a prefix of whole segments: `/v1` is for `/v1`, `/v1/` and `/v1/x`, not for `/v1x`; `/` is for every path.
    /// Its parameter `path` is what follows it, with the slash before it.
    ///
    /// # Errors
    /// Says what is wrong with the text.
    pub fn parse_prefix(&mut self, text: &str) -> Result<PathPattern, String> {
        let mut literal = String::new();
        let mut segments = 0;
        let whole = text.trim_end_matches('/');
        let pieces = if whole.is_empty() && !text.is_empty() {
            vec![]
        } else {
            pieces(whole)?
        };
        for piece in pieces {
            let Piece::Literal(segment) = piece else {
                return Err(
                    "a prefix has no parameters: use `path` with `{rest*}` at its end".to_owned(),
                );
            };
            segments += 1;
            literal.push('/');
            literal.push_str(&(self.canonical)(&segment)?);
        }
        Ok(PathPattern {
            text: text.into(),
            shape: Shape::prefix(segments),
            literal: literal.into(),
            // What follows the prefix.
            names: Box::new(["path".into()]),
            typed: Box::default(),
            regex: None,
        })
    }

    /// Reads a regex that must match the whole path; its named groups become parameters.
    ///
    /// # Errors
    /// Says what is wrong with the text.
    pub fn parse_regex(&mut self, text: &str) -> Result<PathPattern, String> {
        let regex = self.compile(text)?;
        Ok(PathPattern {
            text: text.into(),
            shape: Shape::REGEX,
            literal: text.into(),
            names: regex.capture_names().flatten().map(Into::into).collect(),
            typed: Box::default(),
            regex: Some(regex),
        })
    }

    fn compile(&mut self, text: &str) -> Result<Arc<Regex>, String> {
        if let Some(regex) = self.regexes.get(text) {
            return Ok(regex.clone());
        }
        let regex = Arc::new(anchored(text)?);
        self.regexes.insert(text.into(), regex.clone());
        Ok(regex)
    }
}

/// Compiles a regex that must match a whole text.
pub(super) fn anchored(text: &str) -> Result<Regex, String> {
    let compile = |text: &str| {
        let mut builder = RegexBuilder::new(text);
        builder
            .size_limit(REGEX_BYTES_MAX)
            .dfa_size_limit(REGEX_BYTES_MAX);
        builder.build()
    };
    let broken = |e| {
        if let regex::Error::CompiledTooBig(max) = e {
            return format!("regex `{text}` is too big: compiled it is more than {max} bytes");
        }
        format!("regex `{text}` cannot be read: {e}")
    };
    // Alone first: `a)|(b` would be valid inside the group.
    compile(text).map_err(broken)?;
    compile(&format!(r"\A(?:{text})\z")).map_err(broken)
}

enum Piece<'t> {
    Literal(String),
    Parameter(&'t str, Option<&'t str>),
    Rest(&'t str),
}

/// The segments of a pattern.
fn pieces(text: &str) -> Result<Vec<Piece<'_>>, String> {
    let Some(mut left) = text.strip_prefix('/') else {
        return Err(format!("path `{text}` does not begin with `/`"));
    };
    if text.len() > PATTERN_BYTES_MAX {
        return Err(format!("a path may have {PATTERN_BYTES_MAX} bytes"));
    }
    let mut pieces = Vec::new();
    loop {
        let (piece, after) = if left.starts_with('{') && !left.starts_with("{{") {
            parameter(left)?
        } else {
            literal(left)?
        };
        pieces.push(piece);
        if pieces.len() > SEGMENTS_MAX {
            return Err(format!("a path may have {SEGMENTS_MAX} segments"));
        }
        match after.strip_prefix('/') {
            Some(next) => left = next,
            None if after.is_empty() => return Ok(pieces),
            None => return Err(whole_segment(text)),
        }
    }
}

fn whole_segment(text: &str) -> String {
    format!("in `{text}` a parameter is only part of a segment: it must be the whole one")
}

/// Reads `left` up to the next slash.
fn literal(left: &str) -> Result<(Piece<'_>, &str), String> {
    let mut segment = String::new();
    let mut chars = left.chars();
    loop {
        let after = chars.as_str();
        match chars.next() {
            None | Some('/') => return Ok((Piece::Literal(segment), after)),
            Some(brace @ ('{' | '}')) if after.starts_with([brace]) => {
                if chars.next() != Some(brace) {
                    let unpaired =
                        format!("`}}` without `{{` in `{left}`: write `}}}}` for a brace");
                    return Err(if brace == '{' {
                        whole_segment(left)
                    } else {
                        unpaired
                    });
                }
                segment.push(brace);
            }
            Some(c @ ('?' | '#')) => {
                return Err(format!("a path has no `{c}`: for queries there is `query`"));
            }
            Some(c) => segment.push(c),
        }
    }
}

/// Reads the parameter that `left` begins with.
fn parameter(left: &str) -> Result<(Piece<'_>, &str), String> {
    let mut depth = 0_u32;
    let mut escaped = false;
    let end = left.find(|c| {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0
    });
    let body = end.and_then(|end| left.get(1..end));
    let (Some(body), Some(after)) = (body, end.and_then(|end| left.get(end + 1..))) else {
        return Err(format!(
            "`{left}` has a `{{` that is not closed: write `{{{{` for a brace"
        ));
    };
    let (name, regex) = match body.split_once(':') {
        Some((name, regex)) => (name, Some(regex)),
        None => (body, None),
    };
    let (name, rest) = match name.strip_suffix('*') {
        Some(name) => (name, true),
        None => (name, false),
    };
    let letter = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') || !name.chars().all(letter)
    {
        return Err(format!(
            "`{{{body}}}` has no valid name: letters, digits, `_` and `-`"
        ));
    }
    match (rest, regex) {
        (true, Some(_)) => Err(format!(
            "`{{{body}}}` stands for the rest of the path: it takes no pattern"
        )),
        (true, None) => Ok((Piece::Rest(name), after)),
        (false, regex) => Ok((Piece::Parameter(name, regex), after)),
    }
}
