//! Templates: text with `{names}` in it, cut into pieces once and put together for each request.

use std::borrow::Cow;

use super::{ErrorKind, ExprError, Name, Scope, Vocabulary};
use crate::base::canon::{encode_query, encode_segment};

/// How long a template may be, in bytes.
const TEMPLATE_BYTES_MAX: usize = 64 * 1024;

/// How values go into the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// As they are, for one line such as a header value: a value with a control character counts as missing.
    Raw,
    /// As they are, for the text of a body.
    Text,
    /// For a path: each value is one segment's worth; what comes from the path (parameters, `request.path`) is
    /// canonical already and stays as it is.
    Path,
    /// For a query: each value is one encoded value.
    Query,
}

/// A compiled template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    body: Body,
    one_line: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Body {
    Literal(Box<str>),
    Pieces(Box<[Piece]>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    Name(Name),
}

impl Template {
    /// Cuts `text` into pieces and resolves its names.
    ///
    /// # Errors
    /// When a brace has no partner or a name is refused; the span covers the name.
    pub fn compile(text: &str, vocabulary: &Vocabulary<'_>) -> Result<Self, ExprError> {
        if text.len() > TEMPLATE_BYTES_MAX {
            let what = format!("the template is longer than {TEMPLATE_BYTES_MAX} bytes");
            return Err(ExprError::new(ErrorKind::TooLarge, what).at(0..text.chars().count()));
        }
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut one_line = true;
        let mut chars = text.chars().enumerate().peekable();
        while let Some((start, c)) = chars.next() {
            one_line &= !c.is_control();
            if (c == '{' || c == '}') && chars.next_if(|(_, next)| *next == c).is_some() {
                plain.push(c);
            } else if c == '}' {
                return Err(ExprError::new(ErrorKind::Syntax, "`}` without `{`")
                    .hint("write `}}` for a brace")
                    .at(start..start + 1));
            } else if c == '{' {
                let name: String =
                    std::iter::from_fn(|| chars.next_if(|(_, next)| !matches!(next, '{' | '}')))
                        .map(|(_, c)| c)
                        .collect();
                let end = start + 1 + name.chars().count();
                if chars.next_if(|(_, next)| *next == '}').is_none() {
                    return Err(ExprError::new(ErrorKind::Syntax, "`{` without `}`")
                        .hint("write `{{` for a brace")
                        .at(start..start + 1));
                }
                let span = if name.is_empty() {
                    start..end + 1
                } else {
                    start + 1..end
                };
                let name = Name::parse(&name, vocabulary).map_err(|error| error.at(span))?;
                if !plain.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut plain).into()));
                }
                pieces.push(Piece::Name(name));
            } else {
                plain.push(c);
            }
        }
        if pieces.is_empty() {
            return Ok(Self {
                body: Body::Literal(plain.into()),
                one_line,
            });
        }
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain.into()));
        }
        Ok(Self {
            body: Body::Pieces(pieces.into()),
            one_line,
        })
    }

    /// The text of a template that quotes nothing.
    #[must_use]
    pub fn literal(&self) -> Option<&str> {
        match &self.body {
            Body::Literal(text) => Some(text),
            Body::Pieces(_) => None,
        }
    }

    /// Whether its own text has no control character; a header value, path or query must refuse one that has.
    #[must_use]
    pub fn is_one_line(&self) -> bool {
        self.one_line
    }

    /// The names it quotes, in order.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        let pieces = match &self.body {
            Body::Literal(_) => &[][..],
            Body::Pieces(pieces) => pieces,
        };
        pieces.iter().filter_map(|piece| match piece {
            Piece::Text(_) => None,
            Piece::Name(name) => Some(name),
        })
    }

    /// The text for one request. `None` when a value is missing, or when the values would make it unsafe: a control
    /// character where one line is wanted, a path that leads elsewhere (`..`, `//host`) or has an empty value in it.
    #[must_use]
    pub fn render<'t>(&'t self, scope: &'t dyn Scope, encoding: Encoding) -> Option<Cow<'t, str>> {
        if !self.one_line && encoding != Encoding::Text {
            return None;
        }
        let pieces = match &self.body {
            Body::Literal(text) => return Some(Cow::Borrowed(text)),
            Body::Pieces(pieces) => pieces,
        };
        let rendered = match &**pieces {
            [Piece::Name(name)] => quote(name, scope, encoding)?,
            pieces => {
                let mut out = String::new();
                for piece in pieces {
                    match piece {
                        Piece::Text(text) => out.push_str(text),
                        Piece::Name(name) => out.push_str(&quote(name, scope, encoding)?),
                    }
                }
                Cow::Owned(out)
            }
        };
        let leaves = encoding == Encoding::Path && leaves(&rendered);
        (!leaves).then_some(rendered)
    }

    /// The text for people to read: a value that is missing is nothing, and what stands around it stays.
    #[must_use]
    pub fn text<'t>(&'t self, scope: &'t dyn Scope) -> Cow<'t, str> {
        let pieces = match &self.body {
            Body::Literal(text) => return Cow::Borrowed(text),
            Body::Pieces(pieces) => pieces,
        };
        let mut out = String::new();
        for piece in pieces {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Name(name) => {
                    out.push_str(&quote(name, scope, Encoding::Text).unwrap_or_default());
                }
            }
        }
        Cow::Owned(out)
    }
}

/// Whether values have made a path lead elsewhere than its author meant: pieces may become `..` together, and `//` at
/// the start names a host (RFC 3986 §4.2).
fn leaves(path: &str) -> bool {
    let dots = |segment: &str| matches!(segment.split(';').next(), Some("." | ".."));
    path.starts_with("//") || path.split('/').any(dots)
}

/// One value, ready to stand in the text.
fn quote<'s>(name: &Name, scope: &'s dyn Scope, encoding: Encoding) -> Option<Cow<'s, str>> {
    let value = match (encoding, name) {
        (Encoding::Path, Name::Param(index)) => Cow::Borrowed(scope.param(*index)?),
        (Encoding::Path, Name::Path) | (Encoding::Raw | Encoding::Text, _) => name.value(scope)?,
        (Encoding::Path, _) => match name.value(scope)? {
            Cow::Borrowed(text) => encode_segment(text)?,
            Cow::Owned(text) => Cow::Owned(encode_segment(&text)?.into_owned()),
        },
        (Encoding::Query, _) => match name.value(scope)? {
            Cow::Borrowed(text) => encode_query(text),
            Cow::Owned(text) => Cow::Owned(encode_query(&text).into_owned()),
        },
    };
    let safe = encoding == Encoding::Text || !value.chars().any(char::is_control);
    safe.then_some(value)
}
