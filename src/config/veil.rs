//! Secrets that stand in the config itself: whoever is told of a mistake beside them does not see them.

use std::borrow::Cow;
use std::ops::Range;

use super::Loaded;
use super::tree::{Node, Origin, Value};
use super::urls::carries_secret;
use crate::base::problem::{Place, Problem, Step};
use crate::telemetry::Hidden;

/// Words that name a secret, for a file that cannot be read as YAML.
const WORDS: &[&str] = &[
    "authorization",
    "cookie",
    "token",
    "secret",
    "password",
    "passwd",
    "key",
    "credential",
    "sha256",
];

/// Takes the place of a secret.
const VEIL: char = '*';

/// A scalar that nobody is shown.
pub(super) struct Private<'a> {
    pub(super) place: Place,
    pub(super) text: Cow<'a, str>,
    node: &'a Node,
}

impl Private<'_> {
    /// Whether the file itself says it, and no variable.
    pub(super) fn is_written(&self) -> bool {
        self.node.origin == Origin::Written
    }
}

/// Every secret that stands in the tree.
pub(super) fn privates(tree: &Node) -> Vec<Private<'_>> {
    let mut found = Vec::new();
    below(tree, &Place::root(), &mut found);
    found
}

fn below<'a>(node: &'a Node, place: &Place, found: &mut Vec<Private<'a>>) {
    for entry in node.entries() {
        below(&entry.node, &place.key(&entry.key), found);
    }
    for (index, item) in node.items().iter().enumerate() {
        below(item, &place.index(index), found);
    }
    let text = match &node.value {
        Value::Text(text) if !text.is_empty() => Cow::Borrowed(text.as_str()),
        Value::Number(number) => Cow::Owned(number.to_string()),
        Value::Text(_) | Value::Null | Value::Bool(_) | Value::List(_) | Value::Map(_) => return,
    };
    if is_private(place, node, &text) {
        let place = place.clone();
        found.push(Private { place, text, node });
    }
}

/// Whether a secret of its own stands at `place`.
pub(super) fn is_inline(node: &Node, place: &Place) -> bool {
    node.text()
        .is_some_and(|text| is_private(place, node, text))
}

/// Whether a token is written where its digest belongs, or a secret header with its value.
fn is_private(place: &Place, node: &Node, text: &str) -> bool {
    let steps: Vec<&str> = place
        .steps()
        .iter()
        .map(|step| match step {
            Step::Key(key) => key.as_str(),
            Step::Index(_) => "*",
        })
        .collect();
    if let ["admin", "tokens", .., last] = steps.as_slice() {
        return *last != "role" && node.origin != Origin::Secret && !is_digest(text);
    }
    if let ["consumers", _, "api_keys", .., last] = steps.as_slice() {
        return *last != "expires" && node.origin != Origin::Secret && !is_digest(text);
    }
    // What is asked in a test is shown as it is: nothing is sent there.
    if steps.first() != Some(&"tests") && carries_secret(text) {
        return true;
    }
    if super::secrets::is_plain(place) {
        let named = matches!(steps.last(), Some(&("env" | "file" | "credential")));
        return node.origin == Origin::Written && !named;
    }
    // Also below a header that holds a list or map: that is a mistake, and beside it stands the secret.
    let headers = steps.windows(4).position(|steps| {
        matches!(steps, ["request", "headers", "set" | "add", name] if Hidden::default().hides_header(name))
    });
    let named = matches!(steps.last(), Some(&("env" | "file" | "credential")));
    match headers {
        Some(at) if at + 4 < steps.len() => !named,
        Some(_) => node.origin == Origin::Written && holds_own(text),
        None => false,
    }
}

/// Whether a text is more than what it quotes of the request, and the word before a credential (RFC 9110 section 11.1).
pub(super) fn holds_own(text: &str) -> bool {
    let mut own = text.to_owned();
    for name in super::audit::quoted(text) {
        own = own.replace(&format!("{{{name}}}"), "");
    }
    let own = own.trim();
    let schemes = ["bearer", "basic", "token", "apikey"];
    let bare = schemes
        .iter()
        .any(|scheme| own.eq_ignore_ascii_case(scheme));
    !bare && own.chars().any(char::is_alphanumeric)
}

/// A digest is no secret; documents cut it short.
fn is_digest(text: &str) -> bool {
    let digits = text.trim_end_matches('…');
    (digits.len() == 64 || digits.len() < text.len())
        && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// What is shown of a config in reports.
#[derive(Debug)]
pub struct Veil {
    privates: Vec<(Place, String)>,
    texts: Vec<String>,
}

impl Loaded {
    /// The config as reports may show it.
    #[must_use]
    pub fn veil(&self) -> Veil {
        let mut files: Vec<Vec<String>> = self
            .sources
            .iter()
            .map(|source| source.text.split('\n').map(str::to_owned).collect())
            .collect();
        let privates = privates(&self.tree);
        for private in &privates {
            let mark = private.node.mark;
            let Some(lines) = files.get_mut(mark.file) else {
                continue;
            };
            let first = mark.line.saturating_sub(1);
            if let Some(line) = lines.get_mut(first) {
                let start = mark.col.saturating_sub(1);
                veil(line, start..start + mark.len);
            }
            // It may go on below, or stand once more in a comment behind it.
            let count = private.text.lines().count() + 2;
            for line in lines.iter_mut().skip(first).take(count) {
                for part in parts(&private.text) {
                    while let Some(at) = line.find(part) {
                        let start = line.get(..at).unwrap_or_default().chars().count();
                        veil(line, start..start + part.chars().count());
                    }
                }
            }
        }
        for problem in self.problems.list() {
            let file = problem.mark.filter(|_| problem.code == "E001");
            if let Some(lines) = file.and_then(|mark| files.get_mut(mark.file)) {
                lines.iter_mut().for_each(veil_by_word);
            }
        }
        let privates = privates.into_iter();
        Veil {
            privates: privates
                .map(|private| (private.place, private.text.into_owned()))
                .collect(),
            texts: files.into_iter().map(|lines| lines.join("\n")).collect(),
        }
    }
}

impl Veil {
    /// The text of file number `index`, line for line and column for column as it is, but without secrets.
    #[must_use]
    pub fn text(&self, index: usize) -> &str {
        self.texts.get(index).map_or("", String::as_str)
    }

    /// A sentence about the config, without what it quotes of a secret.
    #[must_use]
    pub fn words(&self, problem: &Problem, words: &str) -> String {
        let mut words = words.to_owned();
        for (place, text) in &self.privates {
            // A short text stands in many sentences by chance; what is quoted of it goes all the same.
            if text.len() > 3 {
                words = words.replace(text, "…");
            }
            if *place == problem.place {
                words = without_quotes(&words, text);
            }
        }
        words
    }
}

/// The lines of a secret that can be looked for: a veil in its place is none of them.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    let veiled = |c: char| matches!(c, VEIL | '"' | '\'');
    text.lines()
        .filter(move |part| part.len() > 3 && !part.chars().all(veiled))
}

/// Takes out what stands in backticks or quotes and is a part of `secret`.
fn without_quotes(words: &str, secret: &str) -> String {
    let pieces = words.split('`').enumerate().map(|(at, piece)| {
        let quoted = at % 2 == 1 && secret.contains(piece.trim_matches('"'));
        if quoted { "…" } else { piece }
    });
    pieces.collect::<Vec<_>>().join("`")
}

/// Replaces these characters of a line, but for blanks at its end.
fn veil(line: &mut String, range: Range<usize>) {
    let veiled = line.chars().enumerate().map(|(at, c)| {
        let hidden = range.contains(&at) && !matches!(c, '"' | '\'');
        if hidden { VEIL } else { c }
    });
    *line = veiled.collect();
}

/// Hides what stands behind a word that names a secret.
fn veil_by_word(line: &mut String) {
    let lower = line.to_ascii_lowercase();
    let named = WORDS.iter().filter_map(|word| {
        let at = lower.find(word)?;
        let rest = lower.get(at..)?;
        let colon = rest.find(':')?;
        Some(at + colon + 1)
    });
    // The rest of a URL may hold a password before its host, or a key behind it.
    let url = lower.find("://").map(|at| at + 3);
    let url = url.filter(|at| {
        lower
            .get(*at..)
            .is_some_and(|rest| rest.contains(['@', '=']))
    });
    let Some(from) = named.chain(url).min() else {
        return;
    };
    let start = line.get(..from).unwrap_or_default().chars().count();
    let end = line.chars().count();
    let veiled = line.chars().enumerate().map(|(at, c)| {
        let hidden = (start..end).contains(&at) && c.is_alphanumeric();
        if hidden { VEIL } else { c }
    });
    *line = veiled.collect();
}

#[cfg(test)]
mod tests {
    use super::{is_digest, veil_by_word, without_quotes};

    #[test]
    fn a_digest_is_no_token() {
        assert!(is_digest(&"0f".repeat(32)) && is_digest("5e884898…"));
        assert!(!is_digest("hunter2") && !is_digest("abcdef") && !is_digest(&"0g".repeat(32)));
    }

    #[test]
    fn a_line_that_cannot_be_read_shows_no_secret() {
        for (line, shown) in [
            ("  x-token: \"abc 1", "  x-token: \"*** *"),
            ("{ sha256: raw, role: admin", "{ sha256: ***, ****: *****"),
            ("  path: /a", "  path: /a"),
            ("  url: http://a:b@c/", "  url: http://*:*@*/"),
            ("  url: http://a:1/b", "  url: http://a:1/b"),
            ("  password", "  password"),
        ] {
            let mut veiled = line.to_owned();
            veil_by_word(&mut veiled);
            assert_eq!(veiled, shown);
        }
    }

    #[test]
    fn what_is_quoted_of_a_secret_is_left_out() {
        assert_eq!(
            without_quotes("unknown `b` in `x`", "a {b}"),
            "unknown `…` in `x`"
        );
    }
}
