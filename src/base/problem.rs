//! Mistakes of the config's author: where, what, and how to mend them.

use std::fmt;
use std::ops::Range;

/// How many problems one run reports; a config with more has one cause for most of them.
pub const PROBLEMS_MAX: usize = 200;

/// Every code with the rule it stands for; a code never changes its meaning.
pub const CODES: &[(&str, &str)] = &[
    ("E000", "the config file can be read"),
    (
        "E001",
        "it is YAML, and not nested or multiplied beyond reason",
    ),
    ("E002", "a key is written once, also across files"),
    ("E003", "`version` says which language it is"),
    ("E004", "`${…}` is well formed"),
    ("E005", "variables are set"),
    ("E006", "secrets can be read"),
    ("E007", "files that are referred to can be read"),
    ("E010", "keys are known"),
    ("E011", "what has to be there is there"),
    ("E012", "values have the right form, with their unit"),
    ("E013", "words are known"),
    ("E014", "names are short and plain"),
    (
        "E015",
        "there is at least one listener, and one target in an upstream",
    ),
    ("E016", "names of routes are unique"),
    ("E017", "a route has one action"),
    ("E018", "addresses are listened on once"),
    (
        "E019",
        "the hosts of an environment are exact, of routes, and its own",
    ),
    ("E020", "keys of later versions are not used"),
    ("E021", "routes do not tie"),
    (
        "E030",
        "hosts, methods, statuses and the like mean something",
    ),
    ("E031", "names lead somewhere"),
    ("E032", "templates and expressions mean something"),
    ("E033", "headers have names that may be changed"),
    ("E034", "a path or host for the upstream can be sent"),
    ("E035", "a route has one path, and it can be matched"),
    ("E036", "regular expressions can be read"),
    ("E037", "a version is looked for in one place"),
    ("E038", "an answer has one body"),
    ("E039", "answers of our own are named and linked well"),
    ("E040", "the admin interface is open to nobody unmeant"),
    ("E041", "request tests can be asked, and can fail"),
    (
        "E042",
        "what is hidden in the access log is not quoted there",
    ),
    (
        "E050",
        "certificates, keys and authorities can be read, and belong together",
    ),
    ("E051", "one certificate is the default"),
    ("E052", "client certificates are asked for at exact hosts"),
    ("E053", "what is spoken to an upstream fits its targets"),
    ("E054", "what is spoken at a listener fits it"),
    ("E060", "how callers prove who they are can be checked"),
    (
        "E061",
        "a credential is known by its digest, and is one consumer's",
    ),
    ("W010", "every upstream is used"),
    ("W021", "every route can match"),
    ("W022", "every token and key can be had"),
    ("W050", "every certificate holds, and for two weeks more"),
    (
        "W051",
        "a host that asks for client certificates has one itself",
    ),
    (
        "W052",
        "where `ocsp_stapling` is on, somebody can be asked about every certificate",
    ),
    ("W060", "every authenticator is trusted by a route"),
    ("W061", "conditions quote parameters that the path has"),
    ("W062", "every store is used"),
    (
        "W063",
        "a decision that is kept holds for requests that are alike only",
    ),
    (
        "W064",
        "clauses about callers stand where somebody is known",
    ),
    (
        "W065",
        "certificates are looked at where they are asked for",
    ),
];

/// Where in the document something stands: the steps from the root to a node, e.g. `routes`, `3`, `upstream`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place(Vec<Step>);

/// One step of a [`Place`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// Into a map, by key.
    Key(String),
    /// Into a list, by position.
    Index(usize),
}

impl Place {
    /// The document itself.
    #[must_use]
    pub fn root() -> Self {
        Self::default()
    }

    /// The place of `key` below this one.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        self.with(Step::Key(key.to_owned()))
    }

    /// The place of item `index` below this one.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.with(Step::Index(index))
    }

    /// The place one step further down.
    #[must_use]
    pub fn with(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }

    /// The steps from the root.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// The place this one stands in.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let (_, rest) = self.0.split_last()?;
        Some(Self(rest.to_vec()))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if i == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing; the config is used.
    Warning,
    /// The config is not used.
    Error,
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Stable code, e.g. `E010` or `W021`; one of [`CODES`].
    pub code: &'static str,
    /// Error or warning.
    pub severity: Severity,
    /// The node that is wrong.
    pub place: Place,
    /// Points at the key of the node instead of at its value.
    pub at_key: bool,
    /// Which characters of the node's text are wrong, if not all of it.
    pub part: Option<Range<usize>>,
    /// What is wrong: lower case, no full stop, names in backticks.
    pub what: String,
    /// What stands under the caret, if more can be said about the very place.
    pub label: Option<String>,
    /// How to mend it.
    pub hint: Option<String>,
    /// A second place that matters, with what it is: "first defined here".
    pub also: Option<(Place, String)>,
    /// For mistakes found before there are places (syntax): file index, line and column from 1.
    pub mark: Option<Mark>,
}

/// A point in a source file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// Which of the files that were read.
    pub file: usize,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub col: usize,
    /// How many characters the caret covers, at least 1.
    pub len: usize,
}

impl Problem {
    /// An error at `place`.
    #[must_use]
    pub fn error(code: &'static str, place: Place, what: impl Into<String>) -> Self {
        Self::new(code, Severity::Error, place, what.into())
    }

    /// A warning at `place`.
    #[must_use]
    pub fn warning(code: &'static str, place: Place, what: impl Into<String>) -> Self {
        Self::new(code, Severity::Warning, place, what.into())
    }

    fn new(code: &'static str, severity: Severity, place: Place, what: String) -> Self {
        Self {
            code,
            severity,
            place,
            at_key: false,
            part: None,
            what,
            label: None,
            hint: None,
            also: None,
            mark: None,
        }
    }

    /// Says how to mend it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says more about the very place.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Points at the key, not at the value.
    #[must_use]
    pub fn at_key(mut self) -> Self {
        self.at_key = true;
        self
    }

    /// Points at some characters of the node's text.
    #[must_use]
    pub fn part(mut self, characters: Range<usize>) -> Self {
        self.part = Some(characters).filter(|part| !part.is_empty());
        self
    }

    /// An error in the words of a parser, "what is wrong: how to mend it"; `hint` is for one that says only what is wrong.
    #[must_use]
    pub fn of_text(code: &'static str, place: Place, text: &str, hint: &str) -> Self {
        let (what, mend) = split_hint(text);
        Self::error(code, place, what).hint(mend.unwrap_or(hint))
    }

    /// Names a second place.
    #[must_use]
    pub fn also(mut self, place: Place, label: impl Into<String>) -> Self {
        self.also = Some((place, label.into()));
        self
    }

    /// Gives the point in the source, where no node has one.
    #[must_use]
    pub fn mark(mut self, mark: Mark) -> Self {
        self.mark = Some(mark);
        self
    }
}

/// All mistakes of one load, in the order they were found.
#[derive(Debug, Default)]
pub struct Problems {
    list: Vec<Problem>,
    left_out: usize,
}

impl Problems {
    /// Adds one; beyond [`PROBLEMS_MAX`] it is only counted.
    pub fn push(&mut self, problem: Problem) {
        if self.list.len() < PROBLEMS_MAX {
            self.list.push(problem);
        } else {
            self.left_out += 1;
        }
    }

    /// Adds one, unless the very same is there: what is wrong with a route is so on every listener.
    pub fn push_new(&mut self, problem: Problem) {
        if !self.list.contains(&problem) {
            self.push(problem);
        }
    }

    /// Adds those of `others` that are not there yet.
    pub fn absorb(&mut self, others: Self) {
        self.left_out += others.left_out;
        for problem in others.list {
            self.push_new(problem);
        }
    }

    /// Whether one of them is an error.
    #[must_use]
    pub fn any_error(&self) -> bool {
        self.left_out > 0 || self.list.iter().any(|p| p.severity == Severity::Error)
    }

    /// Those kept.
    #[must_use]
    pub fn list(&self) -> &[Problem] {
        &self.list
    }

    /// How many more there were.
    #[must_use]
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// Drops those that `keep` refuses.
    pub fn retain(&mut self, keep: impl FnMut(&Problem) -> bool) {
        self.list.retain(keep);
    }

    /// Whether nothing was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty() && self.left_out == 0
    }
}

/// Splits "what is wrong: how to mend it" at the first colon that stands in no backticks.
fn split_hint(text: &str) -> (&str, Option<&str>) {
    if let Some((what, mend)) = text.split_once("; hint: ") {
        return (what, Some(mend));
    }
    let mut quoted = false;
    for (at, c) in text.char_indices() {
        quoted ^= c == '`';
        if quoted || c != ':' {
            continue;
        }
        let (what, rest) = text.split_at(at);
        match rest.strip_prefix(": ") {
            // Why an address cannot be read is no mend.
            Some(_) if what.ends_with("the URL of a target") => return (text, None),
            Some(mend) => return (what, Some(mend)),
            None => {}
        }
    }
    (text, None)
}

/// The nearest of `known` to `word`, when it is near enough to be meant: "did you mean `orders`?".
#[must_use]
pub fn suggest<'a, I: IntoIterator<Item = &'a str>>(word: &str, known: I) -> Option<String> {
    let mut best: Option<(f64, &str)> = None;
    for candidate in known {
        let score = strsim::jaro_winkler(&word.to_lowercase(), &candidate.to_lowercase());
        // Of two that are as near the first by name, in whatever order they come: the same mistake has the same mend.
        let nearer = |(top, name): (f64, &str)| score > top || score >= top && candidate < name;
        if best.is_none_or(nearer) {
            best = Some((score, candidate));
        }
    }
    let (score, name) = best?;
    (score >= 0.84).then(|| format!("did you mean `{name}`?"))
}
