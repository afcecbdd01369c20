//! Canonical names: one reading of a path, a query and an authority, made once and used by every part.

use std::borrow::Cow;

mod authority;
mod encode;
#[cfg(test)]
mod tests;

pub use authority::{Authority, AuthorityFault, Host, canonical_host, parse_authority};
pub use encode::{
    QueryFault, check_query, decode_segment, encode_query, encode_segment, query_pairs, query_value,
};

/// An enum of faults: each with its stable code and its sentence.
macro_rules! faults {
    ($(#[$about:meta])* $name:ident { $($variant:ident, $code:literal, $text:literal;)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $(#[doc = $text] $variant,)*
        }

        impl $name {
            /// The stable name of this fault, for logs, counters and problem documents.
            #[must_use]
            pub fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $(Self::$variant => $text,)* })
            }
        }

        impl std::error::Error for $name {}
    };
}
use faults;

faults! {
    /// Why a path is refused.
    PathFault {
        NotAbsolute, "path_not_absolute", "the path does not begin with `/`";
        AboveRoot, "path_above_root", "a `..` segment leads above the root";
        EncodedSlash, "path_encoded_slash", "the path has an encoded slash, `%2F`";
        EncodedBackslash, "path_encoded_backslash", "the path has an encoded backslash, `%5C`";
        EncodedControl, "path_encoded_control", "the path has an encoded control character";
        BadEscape, "path_bad_escape", "a `%` is not followed by two hexadecimal digits";
        BadUtf8, "path_bad_utf8", "the escapes of the path are not valid UTF-8";
        Backslash, "path_backslash", "the path has a backslash";
        Fragment, "path_fragment", "the path has a `#`";
        Space, "path_space", "the path has a space: write `%20`";
        Control, "path_control", "the path has a control character";
        NonAscii, "path_non_ascii", "the path has a character outside ASCII: write it as escapes, e.g. `%C3%A9`";
        DotSegmentParameter, "path_dot_segment_parameter", "a dot segment has a parameter, e.g. `..;x`";
        Character, "path_character", "the path has a character that must be escaped, e.g. `<`";
        Template, "path_template", "a `{` or `}` of the pattern has no partner, or nothing or a slash between them";
    }
}

/// How a path is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathOptions {
    /// `//` counts as `/`. At the start of a path it does so always: `//host` is a network-path reference (RFC 3986 §4.2).
    pub merge_slashes: bool,
}

impl Default for PathOptions {
    fn default() -> Self {
        Self {
            merge_slashes: true,
        }
    }
}

/// The one form of `raw`, the path part of a request target: from `/` up to but without `?`.
///
/// Unreserved escapes are decoded and the digits of all others upper-cased (RFC 3986 §6.2.2), dot segments are resolved (§5.2.4),
/// and `|`, `^`, `[`, `]`, which browsers send as they are, become escapes. The result holds nothing but `pchar` (§3.3) and `/`;
/// taking it again changes nothing. What two readers could understand in two ways is refused.
pub fn canonical_path(raw: &str, options: PathOptions) -> Result<Cow<'_, str>, PathFault> {
    if !raw.starts_with('/') {
        return Err(PathFault::NotAbsolute);
    }
    if is_canonical(raw.as_bytes(), options) {
        return Ok(Cow::Borrowed(raw));
    }
    rebuild(raw, options, read_unit).map(Cow::Owned)
}

/// The canonical form of a path of the config: its literals as by [`canonical_path`], its `{…}` untouched; `{{` is a brace.
pub fn canonical_pattern(text: &str) -> Result<Cow<'_, str>, PathFault> {
    if !text.starts_with('/') {
        return Err(PathFault::NotAbsolute);
    }
    let built = rebuild(text, PathOptions::default(), read_pattern_unit)?;
    Ok(if built == text {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(built)
    })
}

/// What stands at one point of a path.
#[derive(Debug, Clone, Copy)]
enum Unit<'a> {
    Slash,
    /// A byte that stays.
    Plain(u8),
    /// An unreserved byte that was written as an escape.
    Decoded(u8),
    /// A byte that has to be written as an escape.
    Bare(u8),
    /// The escapes of one character, which stay.
    Escaped(&'a [u8]),
    /// `{…}` of a pattern, with its braces.
    Template(&'a str),
}

/// A unit and how many bytes it takes.
type Read<'a> = Result<(Unit<'a>, usize), PathFault>;

/// Whether `path`, which begins with `/`, is canonical as it stands. Reads each byte once and keeps nothing.
fn is_canonical(path: &[u8], options: PathOptions) -> bool {
    let mut at = 1;
    // The dots of the current segment, while it has nothing else.
    let mut dots = Some(0_usize);
    while let Some(rest) = path.get(at..).filter(|rest| !rest.is_empty()) {
        // Most of a path is letters and digits, which say nothing but that the segment is no dot segment.
        let word = rest.iter().take_while(|byte| byte.is_ascii_alphanumeric());
        let word = word.count();
        if word > 0 {
            dots = None;
            at += word;
            continue;
        }
        let Ok((unit, taken)) = read_unit(rest) else {
            return false;
        };
        dots = match (unit, dots) {
            (Unit::Slash, Some(1 | 2)) => return false,
            (Unit::Slash, Some(0)) if options.merge_slashes || at == 1 => return false,
            (Unit::Slash, _) => Some(0),
            (Unit::Plain(b'.'), Some(count)) => Some(count + 1),
            (Unit::Plain(b';') | Unit::Escaped(b"%3B"), Some(1 | 2)) => return false,
            (Unit::Plain(_), _) => None,
            (Unit::Escaped(text), _) if !text.iter().any(u8::is_ascii_lowercase) => None,
            _ => return false,
        };
        at += taken;
    }
    !matches!(dots, Some(1 | 2))
}

/// Writes the canonical form of `path`, which begins with `/`.
fn rebuild(
    path: &str,
    options: PathOptions,
    read: for<'a> fn(&'a [u8]) -> Read<'a>,
) -> Result<String, PathFault> {
    let mut out = String::with_capacity(path.len() + 8);
    out.push('/');
    let mut slash = 0; // where in `out` the current segment's slash is
    let mut at = 1;
    while let Some(rest) = path.as_bytes().get(at..).filter(|rest| !rest.is_empty()) {
        let (unit, taken) = read(rest)?;
        at += taken;
        match unit {
            Unit::Slash => {
                if let Some(end) = removed(&out, slash)? {
                    out.truncate(end);
                } else if out.len() == slash + 1 && (options.merge_slashes || slash == 0) {
                    out.truncate(slash);
                }
                slash = out.len();
                out.push('/');
            }
            Unit::Plain(byte) | Unit::Decoded(byte) => out.push(char::from(byte)),
            Unit::Bare(byte) => push_escape(&mut out, byte),
            Unit::Escaped(text) => {
                out.extend(
                    text.iter()
                        .map(|byte| char::from(byte.to_ascii_uppercase())),
                );
            }
            Unit::Template(text) => out.push_str(text),
        }
    }
    if let Some(end) = removed(&out, slash)? {
        out.truncate(end);
        out.push('/'); // RFC 3986 §5.2.4: `/a/.` and `/a/b/..` are `/a/`
    }
    Ok(out)
}

/// Where `out` ends without its last segment, when that is a dot segment and goes.
fn removed(out: &str, slash: usize) -> Result<Option<usize>, PathFault> {
    let (before, segment) = out.split_at_checked(slash + 1).unwrap_or((out, ""));
    match segment {
        "." => Ok(Some(slash)),
        ".." => {
            let parent = before
                .strip_suffix('/')
                .and_then(|before| before.rfind('/'));
            parent.map(Some).ok_or(PathFault::AboveRoot)
        }
        _ => {
            // `..;x` is a dot segment to servers that cut parameters off before they resolve.
            let rest = segment
                .strip_prefix("..")
                .or_else(|| segment.strip_prefix('.'));
            match rest {
                Some(rest) if rest.starts_with(';') || rest.starts_with("%3B") => {
                    Err(PathFault::DotSegmentParameter)
                }
                _ => Ok(None),
            }
        }
    }
}

/// Reads what stands at the start of `text`, which is not empty.
fn read_unit(text: &[u8]) -> Read<'_> {
    let unit = match text.first().copied().unwrap_or_default() {
        b'/' => Unit::Slash,
        b'%' => return read_escape(text),
        byte if is_pchar(byte) => Unit::Plain(byte),
        // WHATWG URL §1.3: not in the path percent-encode set (`^` joined it in 2023), so browsers send them.
        byte @ (b'|' | b'^' | b'[' | b']') => Unit::Bare(byte),
        b'\\' => return Err(PathFault::Backslash),
        b'#' => return Err(PathFault::Fragment),
        b' ' => return Err(PathFault::Space),
        0..=0x1f | 0x7f => return Err(PathFault::Control),
        0x80.. => return Err(PathFault::NonAscii),
        _ => return Err(PathFault::Character),
    };
    Ok((unit, 1))
}

fn read_escape(text: &[u8]) -> Read<'_> {
    let byte = escaped_byte(text).ok_or(PathFault::BadEscape)?;
    let count = match byte {
        b'/' => return Err(PathFault::EncodedSlash),
        b'\\' => return Err(PathFault::EncodedBackslash),
        0..=0x1f | 0x7f => return Err(PathFault::EncodedControl),
        _ if is_unreserved(byte) => return Ok((Unit::Decoded(byte), 3)),
        0..=0x7f => 1,
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return Err(PathFault::BadUtf8),
    };
    let mut sequence = [0_u8; 4];
    for (i, slot) in sequence.iter_mut().take(count).enumerate() {
        let escape = text.get(i * 3..).and_then(escaped_byte);
        *slot = escape.ok_or(PathFault::BadUtf8)?;
    }
    let whole = sequence
        .get(..count)
        .and_then(|bytes| std::str::from_utf8(bytes).ok());
    match (whole, text.get(..count * 3)) {
        (Some(_), Some(escapes)) => Ok((Unit::Escaped(escapes), count * 3)),
        _ => Err(PathFault::BadUtf8),
    }
}

/// As [`read_unit`], with `{…}`, `{{` and `}}`.
fn read_pattern_unit(text: &[u8]) -> Read<'_> {
    match text {
        [b'{', b'{', ..] => Ok((Unit::Bare(b'{'), 2)),
        [b'}', b'}', ..] => Ok((Unit::Bare(b'}'), 2)),
        [b'}', ..] => Err(PathFault::Template),
        [b'{', inner @ ..] => {
            let end = inner
                .iter()
                .position(|byte| matches!(byte, b'{' | b'}' | b'/'));
            let end = end.filter(|end| *end > 0 && inner.get(*end) == Some(&b'}'));
            let whole = end.and_then(|end| text.get(..end + 2));
            let whole = whole.and_then(|whole| std::str::from_utf8(whole).ok());
            whole
                .map(|whole| (Unit::Template(whole), whole.len()))
                .ok_or(PathFault::Template)
        }
        _ => read_unit(text),
    }
}

/// RFC 3986 §2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// RFC 3986 §3.3, without escapes.
fn is_pchar(byte: u8) -> bool {
    is_unreserved(byte) || matches!(byte, b'!' | b'$' | b'&'..=b',' | b';' | b'=' | b':' | b'@')
}

fn escaped_byte(text: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = text else {
        return None;
    };
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    Some(digit(*high)? << 4 | digit(*low)?)
}

fn push_escape(out: &mut String, byte: u8) {
    out.push('%');
    for half in [byte >> 4, byte & 0x0f] {
        let digit = char::from_digit(u32::from(half), 16).unwrap_or_default();
        out.push(digit.to_ascii_uppercase());
    }
}
