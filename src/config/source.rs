//! The only code that reads config files and the environment.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::interpolate::Variables;
use super::marks;
use super::tree::{Entry, Node, Value};
use crate::base::problem::{Mark, Place, Problem, Problems};

/// The largest config file, and the largest file a config refers to.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// One file that was read.
#[derive(Debug, Clone)]
pub struct Source {
    /// Where it was.
    pub path: PathBuf,
    /// What it holds.
    pub text: String,
}

/// Where variables and secrets come from.
#[derive(Debug, Clone)]
pub enum Environment {
    /// The process's own environment.
    Process,
    /// Nowhere: a variable that is not set stands for any value (`check --no-env`).
    Opaque,
    /// These, for tests.
    Fixed(BTreeMap<String, String>),
}

impl Variables for Environment {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the environment"
    )]
    fn variable(&self, name: &str) -> Option<String> {
        match self {
            Self::Process | Self::Opaque => std::env::var(name).ok(),
            Self::Fixed(variables) => variables.get(name).cloned(),
        }
    }

    fn opaque(&self) -> bool {
        matches!(self, Self::Opaque)
    }
}

impl Environment {
    /// A variable of the process.
    #[must_use]
    pub fn value(name: &str) -> Option<String> {
        Self::Process.variable(name)
    }

    /// Whether a variable of the process is set to anything.
    #[must_use]
    pub fn is_set(name: &str) -> bool {
        Self::Process
            .variable(name)
            .is_some_and(|value| !value.is_empty())
    }
}

/// Where the config is, when nobody says: `$DOORWARD_CONFIG`, `./doorward.yaml`, `/etc/doorward/doorward.yaml`.
#[must_use]
pub fn search() -> Option<PathBuf> {
    let named = Environment::Process
        .variable("DOORWARD_CONFIG")
        .map(PathBuf::from);
    named.or_else(|| {
        ["doorward.yaml", "/etc/doorward/doorward.yaml"]
            .into_iter()
            .map(PathBuf::from)
            .find(|path| path.exists())
    })
}

/// Reads a file as text.
///
/// # Errors
/// Why it cannot be read, in words.
pub fn read_text(path: &Path) -> Result<String, String> {
    let not_text = "stream did not contain valid UTF-8";
    String::from_utf8(whole(path)?).map_err(|_error| not_text.to_owned())
}

/// Reads a file as it is.
///
/// # Errors
/// Why it cannot be read, in words.
pub fn read_bytes(path: &Path) -> Result<Bytes, String> {
    whole(path).map(Bytes::from)
}

/// All of a file; of one that does not say how long it is, such as a device, no more than of any other.
fn whole(path: &Path) -> Result<Vec<u8>, String> {
    let too_large = || format!("larger than {} MiB", FILE_BYTES_MAX / 1024 / 1024);
    let file = File::open(path).map_err(|error| error.to_string())?;
    let said = file.metadata().map_err(|error| error.to_string())?.len();
    if said > FILE_BYTES_MAX {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    let read = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes);
    let length = read.map_err(|error| error.to_string())?;
    if u64::try_from(length).is_ok_and(|length| length <= FILE_BYTES_MAX) {
        Ok(bytes)
    } else {
        Err(too_large())
    }
}

/// Reads `path` and the `conf.d/*.yaml` beside it into one tree.
pub fn gather(path: &Path, sources: &mut Vec<Source>, problems: &mut Problems) -> Option<Node> {
    let mut files = vec![path.to_owned()];
    let folder = path
        .parent()
        .unwrap_or_else(|| Path::new(""))
        .join("conf.d");
    if let Ok(entries) = std::fs::read_dir(&folder) {
        let mut more: Vec<PathBuf> = entries
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .collect();
        more.retain(|path| {
            path.extension()
                .is_some_and(|ending| ending == "yaml" || ending == "yml")
        });
        more.sort();
        files.extend(more);
    }
    let mut merged: Option<Node> = None;
    for file in files {
        let text = match read_text(&file) {
            Ok(text) => text,
            Err(error) => {
                let what = format!("cannot read `{}`: {error}", file.display());
                let hint = if error.contains("UTF-8") {
                    "save it as UTF-8"
                } else if file == path {
                    "name the file with `--config`, or write one with `doorward init`"
                } else {
                    "make it readable, or take it away"
                };
                problems.push(Problem::error("E000", Place::root(), what).hint(hint));
                continue;
            }
        };
        sources.push(Source {
            path: file,
            text: text.clone(),
        });
        let Some(tree) = parse(&text, sources.len() - 1, problems) else {
            continue;
        };
        match &mut merged {
            None => merged = Some(tree),
            Some(merged) => merge(merged, tree, sources, problems),
        }
    }
    merged
}

/// Reads a text that is file number `file` of the sources.
pub fn parse(text: &str, file: usize, problems: &mut Problems) -> Option<Node> {
    let start = Mark {
        file,
        line: 1,
        col: 1,
        len: 1,
    };
    let mut found = Vec::new();
    let marks = match marks::read(text, file, &mut found) {
        Ok(marks) => marks,
        Err(problem) => {
            problems.push(*problem);
            return None;
        }
    };
    let refused = found.iter().any(|problem| problem.code == "E001");
    for problem in found {
        problems.push(problem);
    }
    if refused {
        return None;
    }
    let Some(marks) = marks else {
        return Some(Node::empty_map(start));
    };
    match serde_yaml::from_str::<serde_json::Value>(text) {
        Ok(json) => Some(Node::join(json, marks)),
        Err(error) => {
            let location = error.location();
            let (line, col) =
                location.map_or((1, 1), |location| (location.line(), location.column()));
            let what = error.to_string();
            let what = what.split(" at line ").next().unwrap_or(&what).to_owned();
            let mark = Mark {
                file,
                line: line.max(1),
                col: col.max(1),
                len: 1,
            };
            problems.push(
                Problem::error("E001", Place::root(), format!("not valid YAML: {what}"))
                    .hint(marks::QUOTES)
                    .mark(mark),
            );
            None
        }
    }
}

/// Sections whose items are merged by name.
const BY_NAME: [&str; 13] = [
    "listeners",
    "acme",
    "authenticators",
    "plans",
    "consumers",
    "stores",
    "signers",
    "protos",
    "functions",
    "environments",
    "upstreams",
    "keys",
    "runtime",
];

/// Adds what a further file brings; the same name twice is a mistake that shows both places.
fn merge(into: &mut Node, from: Node, sources: &[Source], problems: &mut Problems) {
    if into.value == Value::Null {
        *into = from;
        return;
    }
    let mark = from.mark;
    let (entries, more) = match (&mut into.value, from.value) {
        (_, Value::Null) => return,
        (Value::Map(entries), Value::Map(more)) => (entries, more),
        (Value::Map(_), _) => {
            let problem =
                Problem::error("E012", Place::root(), "a file of `conf.d` that is no map");
            let hint = "it holds the same keys as the config: `upstreams: { … }`, `routes: [ … ]`";
            problems.push(problem.hint(hint).mark(mark));
            return;
        }
        // That the config itself is no map is said when it is read.
        _ => return,
    };
    for entry in more {
        let Some(known) = entries.iter_mut().find(|known| known.key == entry.key) else {
            entries.push(entry);
            continue;
        };
        match (&mut known.node.value, entry.node.value) {
            (Value::List(items), Value::List(more)) => items.extend(more),
            (Value::Map(items), Value::Map(more)) if BY_NAME.contains(&entry.key.as_str()) => {
                for item in more {
                    match items.iter().find(|known| known.key == item.key) {
                        Some(first) => problems.push(twice(first, &item, sources)),
                        None => items.push(item),
                    }
                }
            }
            (first, second) if *first == second && entry.key == "version" => {}
            (_, value) => {
                let second = Entry {
                    node: Node {
                        value,
                        mark: entry.node.mark,
                        origin: entry.node.origin,
                    },
                    ..entry
                };
                problems.push(twice(known, &second, sources));
            }
        }
    }
}

fn twice(first: &Entry, second: &Entry, sources: &[Source]) -> Problem {
    let at = first.key_mark;
    let file = sources
        .get(at.file)
        .map(|source| source.path.display().to_string())
        .unwrap_or_default();
    Problem::error(
        "E002",
        Place::root(),
        format!("`{}` is written twice", second.key),
    )
    .hint(format!(
        "the first is at {file}:{}:{}; keep one of them",
        at.line, at.col
    ))
    .mark(second.key_mark)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_an_end_is_too_large() {
        let error = read_bytes(Path::new("/dev/zero")).unwrap_err();
        assert_eq!(error, "larger than 64 MiB");
        let error = read_text(Path::new("/dev/zero")).unwrap_err();
        assert_eq!(error, "larger than 64 MiB");
        assert_eq!(read_bytes(Path::new("/dev/null")).unwrap(), Bytes::new());
    }
}
