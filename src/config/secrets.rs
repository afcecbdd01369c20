//! Secrets: `{ env: X }`, `{ file: path }`, `{ credential: name }` where a text belongs that nobody else may see.

use std::collections::BTreeMap;
use std::path::Path;

use super::interpolate::Variables;
use super::referenced::{Referenced, Version};
use super::source::{Environment, read_text};
use super::tree::{Node, Origin, Value};
use crate::base::problem::{Place, Problem, Problems, Step};

/// Where secrets may stand: the steps of a place, `*` for any.
const PLACES: &[&[&str]] = &[
    &["routes", "*", "request", "headers", "set", "*"],
    &["routes", "*", "request", "headers", "add", "*"],
    &["defaults", "routes", "request", "headers", "set", "*"],
    &["defaults", "routes", "request", "headers", "add", "*"],
    &[
        "listeners",
        "*",
        "defaults",
        "request",
        "headers",
        "set",
        "*",
    ],
    &[
        "listeners",
        "*",
        "defaults",
        "request",
        "headers",
        "add",
        "*",
    ],
];

/// The same, where a text is what it is, and no template.
const PLAIN: &[&[&str]] = &[
    &["stores", "*", "redis", "password"],
    &["upstreams", "*", "credentials", "basic", "password"],
    &["upstreams", "*", "credentials", "header", "value"],
    &[
        "upstreams",
        "*",
        "credentials",
        "client_credentials",
        "client_secret",
    ],
    &[
        "upstreams",
        "*",
        "credentials",
        "sigv4",
        "secret_access_key",
    ],
    &["upstreams", "*", "credentials", "sigv4", "session_token"],
    &["upstreams", "*", "sticky", "secret"],
    &["authenticators", "*", "introspection", "client_secret"],
];

/// What stands for a secret that was not read: nothing runs with it, but what it may be is no second mistake.
const UNREAD: &str = "a secret that was not read";

/// Where each secret comes from, by its place: `config show` prints that instead of it.
pub(super) type Origins = BTreeMap<Place, (String, String)>;

/// Puts every secret in its place. Its text never leaves the process.
pub(super) struct Secrets<'a> {
    /// The folder of the config file.
    pub(super) base: &'a Path,
    /// Where variables are.
    pub(super) environment: &'a Environment,
    /// What was put where.
    pub(super) origins: Origins,
    /// The files among them.
    pub(super) files: Vec<Referenced>,
}

impl Secrets<'_> {
    /// Reads the secrets below `node`, which stands at `place`.
    pub(super) fn resolve(&mut self, node: &mut Node, place: &Place, problems: &mut Problems) {
        if is_secret_place(place) {
            if matches!(node.value, Value::Map(_)) {
                self.one(node, place, problems);
            }
            return;
        }
        if !leads_to_secret(place) {
            return;
        }
        match &mut node.value {
            Value::List(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.resolve(item, &place.index(index), problems);
                }
            }
            Value::Map(entries) => {
                for entry in entries {
                    self.resolve(&mut entry.node, &place.key(&entry.key), problems);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Text(_) => {}
        }
    }

    fn one(&mut self, node: &mut Node, place: &Place, problems: &mut Problems) {
        let written = match node.entries() {
            [entry] => entry
                .node
                .text()
                .map(|name| (entry.key.clone(), name.to_owned())),
            _ => None,
        };
        let mark = node
            .entries()
            .first()
            .map_or(node.mark, |entry| entry.node.mark);
        let known = |(source, _): &(String, String)| KINDS.contains(&source.as_str());
        node.value = match written.filter(known) {
            None => {
                let what = "this is not where a secret comes from";
                let hint = "one of `{ env: NAME }`, `{ file: path }`, `{ credential: name }`";
                problems.push(Problem::error("E006", place.clone(), what).hint(hint));
                Value::Text(UNREAD.to_owned())
            }
            Some((source, name)) => {
                let secret = self.read(&source, &name, place);
                if let Err((error, hint)) = &secret
                    && !self.environment.opaque()
                {
                    let what = format!("no secret from {source} `{name}`: {error}");
                    let problem = Problem::error("E006", place.clone(), what).mark(mark);
                    problems.push(problem.hint(format!("{hint}, or check with `--no-env`")));
                }
                self.origins.insert(place.clone(), (source, name));
                // Braces of a secret are no template.
                let escaped = |secret: String| match is_plain(place) {
                    true => secret,
                    false => secret.replace('{', "{{").replace('}', "}}"),
                };
                Value::Text(secret.map_or_else(|_told| UNREAD.to_owned(), escaped))
            }
        };
        node.origin = Origin::Secret;
    }

    /// The secret, or why there is none and what helps.
    fn read(
        &mut self,
        source: &str,
        name: &str,
        place: &Place,
    ) -> Result<String, (String, &'static str)> {
        let path = match source {
            "env" => {
                let unset = || ("it is not set".to_owned(), "set the environment variable");
                return self.environment.variable(name).ok_or_else(unset);
            }
            "credential" if name.contains('/') => {
                let what = "a credential's name holds no `/`".to_owned();
                return Err((what, "write `{ file: path }` for a file"));
            }
            "credential" => match self.environment.variable("CREDENTIALS_DIRECTORY") {
                Some(folder) => Path::new(&folder).join(name),
                None => {
                    let what = "`CREDENTIALS_DIRECTORY` is not set".to_owned();
                    return Err((what, "systemd sets it: add `LoadCredential=` to the unit"));
                }
            },
            _ => self.base.join(name),
        };
        self.files.push(Referenced {
            place: place.clone(),
            name: name.to_owned(),
            version: Version::of_secret(&path),
            path: path.clone(),
        });
        let text = read_text(&path).map_err(|error| (error, "write the secret into that file"))?;
        Ok(text.trim_end_matches(['\r', '\n']).to_owned())
    }
}

/// Where secrets come from.
const KINDS: [&str; 3] = ["env", "file", "credential"];

fn matches(place: &Place, pattern: &[&str]) -> bool {
    place
        .steps()
        .iter()
        .zip(pattern)
        .all(|(step, wanted)| match step {
            Step::Key(key) => *wanted == "*" || key == wanted,
            Step::Index(_) => *wanted == "*",
        })
}

/// Whether a secret stands at `place`, or below it, that is no template.
pub(super) fn is_plain(place: &Place) -> bool {
    PLAIN
        .iter()
        .any(|pattern| pattern.len() <= place.steps().len() && matches(place, pattern))
}

fn is_secret_place(place: &Place) -> bool {
    PLACES
        .iter()
        .chain(PLAIN)
        .any(|pattern| pattern.len() == place.steps().len() && matches(place, pattern))
}

fn leads_to_secret(place: &Place) -> bool {
    PLACES
        .iter()
        .chain(PLAIN)
        .any(|pattern| pattern.len() > place.steps().len() && matches(place, pattern))
}
