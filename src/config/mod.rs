//! What the user wrote: files into one typed document, with the place of everything and every mistake.

mod admin;
pub mod audit;
mod authentication;
mod by_name;
mod clients;
mod decode;
mod diff;
pub mod document;
mod interpolate;
mod later;
mod listener;
mod marks;
mod mistake;
mod read;
mod referenced;
pub mod request_test;
mod runtime;
mod schema;
mod secrets;
mod section;
mod show;
pub mod source;
#[cfg(test)]
mod tests;
mod tree;
mod urls;
mod veil;

use std::path::{Path, PathBuf};

use crate::base::problem::{Mark, Place, Problem, Problems};
use crate::store::StoreSpec;
pub use diff::diff;
use document::Document;
pub use document::TYPE_BASE;
pub use schema::schema;
pub use show::{compared, show};
use source::{Environment, Source};
use tree::{Node, Origin};
pub use veil::Veil;

/// A document with everything that is needed to talk about it.
#[derive(Debug)]
pub struct Loaded {
    /// The document; only as complete as the problems allow.
    pub document: Document,
    /// What is wrong with it so far.
    pub problems: Problems,
    /// The files that were read.
    pub sources: Vec<Source>,
    tree: Node,
    references: interpolate::References,
    secrets: secrets::Origins,
    referenced: Vec<referenced::Referenced>,
}

/// Reads the config at `path` and the `conf.d` beside it.
#[must_use]
pub fn load(path: &Path, environment: &Environment) -> Loaded {
    let (mut sources, mut problems) = (Vec::new(), Problems::default());
    let tree = source::gather(path, &mut sources, &mut problems);
    finish(tree, sources, problems, environment)
}

/// Reads a config that is no file, such as the built-in one of `demo`.
#[must_use]
pub fn load_text(name: &str, text: &str, environment: &Environment) -> Loaded {
    let mut problems = Problems::default();
    let tree = source::parse(text, 0, &mut problems);
    let sources = vec![Source {
        path: PathBuf::from(name),
        text: text.to_owned(),
    }];
    finish(tree, sources, problems, environment)
}

fn finish(
    tree: Option<Node>,
    sources: Vec<Source>,
    mut problems: Problems,
    environment: &Environment,
) -> Loaded {
    let start = Mark {
        file: 0,
        line: 1,
        col: 1,
        len: 1,
    };
    let Some(mut tree) = tree else {
        return Loaded {
            document: Document::default(),
            problems,
            sources,
            tree: Node::empty_map(start),
            references: interpolate::References::new(),
            secrets: secrets::Origins::new(),
            referenced: Vec::new(),
        };
    };
    let base = sources
        .first()
        .and_then(|source| source.path.parent())
        .unwrap_or_else(|| Path::new(""))
        .to_owned();
    let references =
        interpolate::interpolate(&mut tree, &Place::root(), environment, &mut problems);
    let mut secrets = secrets::Secrets {
        base: &base,
        environment,
        origins: secrets::Origins::new(),
        files: Vec::new(),
    };
    secrets.resolve(&mut tree, &Place::root(), &mut problems);
    let (secrets, referenced) = (secrets.origins, secrets.files);
    let document = read::document(&tree, &mut problems);
    let mut loaded = Loaded {
        document,
        problems,
        sources,
        tree,
        references,
        secrets,
        referenced,
    };
    loaded.read_files();
    loaded
}

impl Loaded {
    /// Reads the files that the document refers to, so that compiling needs none.
    fn read_files(&mut self) {
        let mut wanted: Vec<(Place, String)> = Vec::new();
        for route in &self.document.routes {
            if let document::Action::Respond(respond) = &route.action
                && let Some(file) = &respond.file
            {
                wanted.push((route.place.key("respond").key("file"), file.clone()));
            }
        }
        if let Some(file) = &self.document.errors.html_file {
            wanted.push((Place::root().key("errors").key("html_file"), file.clone()));
        }
        if let Some(geoip) = &self.document.geoip {
            wanted.push((Place::root().key("geoip").key("file"), geoip.file.clone()));
        }
        let stores = self.document.stores.iter().filter_map(|store| {
            let StoreSpec::File(file) = &store.spec else {
                return None;
            };
            let place = store.place.key("file").key("path");
            let path = self.base(&place).join(&file.path);
            Some((place, path))
        });
        let stores: Vec<_> = stores.collect();
        self.document.paths.extend(stores);
        if let Some(folder) = &self.document.runtime.state_dir {
            let place = Place::root().key("runtime").key("state_dir");
            let path = self.base(&place).join(folder);
            self.document.paths.insert(place, path);
        }
        wanted.extend(self.document.net_lists());
        wanted.extend(self.document.tls_files());
        let authenticators = self.document.authenticators.iter();
        wanted.extend(authenticators.filter_map(|item| item.spec.file(&item.place)));
        for (place, file) in wanted {
            let path = self.base(&place).join(&file);
            let read = source::read_bytes(&path);
            self.referenced.push(referenced::Referenced {
                place: place.clone(),
                name: file.clone(),
                path: path.clone(),
                version: referenced::Version::of(read.as_deref().unwrap_or_default()),
            });
            match read {
                Ok(bytes) => {
                    self.document.paths.insert(place.clone(), path);
                    self.document.files.insert(place, bytes);
                }
                Err(_) if self.is_opaque(&place) => {}
                Err(error) => {
                    let problem =
                        Problem::error("E007", place, format!("cannot read `{file}`: {error}"));
                    self.problems
                        .push(problem.hint("a relative path is relative to the config file"));
                }
            }
        }
    }

    /// The folder of the file that `place` stands in.
    fn base(&self, place: &Place) -> PathBuf {
        let mark = self.tree.mark_of(place);
        let source = self.sources.get(mark.file);
        let folder = source.and_then(|source| source.path.parent());
        folder.unwrap_or_else(|| Path::new("")).to_owned()
    }

    /// Where a problem is: its own mark, else that of its place.
    #[must_use]
    pub fn mark(&self, problem: &Problem) -> Mark {
        let mark = problem.mark.unwrap_or_else(|| {
            if problem.at_key {
                self.tree.key_mark_of(&problem.place)
            } else {
                self.part_mark(problem)
            }
        });
        self.trimmed(mark)
    }

    /// What is missing at the end is missed right behind it: parsers have other ideas of where a file ends and what ends a line.
    fn within(&self, mark: Mark) -> Mark {
        let Some(source) = self.sources.get(mark.file) else {
            return mark;
        };
        let lines = source.text.split('\n').take(mark.line.max(1));
        let (mut number, mut last) = (0, "");
        for line in lines {
            number += 1;
            last = line;
        }
        let end = last.strip_suffix('\r').unwrap_or(last).chars().count() + 1;
        let beyond = number < mark.line;
        Mark {
            line: number,
            col: if beyond { end } else { mark.col.clamp(1, end) },
            ..mark
        }
    }

    /// Without the blanks and the comment that the parser counts to what stands before them.
    fn trimmed(&self, mark: Mark) -> Mark {
        let mark = self.within(mark);
        let covered: Option<String> = self.line(mark).map(|line| {
            let rest = line.chars().skip(mark.col.saturating_sub(1));
            rest.take(mark.len).collect()
        });
        let covered = covered.unwrap_or_default();
        let len = match covered.chars().next() {
            Some(quote @ ('"' | '\'')) => quoted_len(&covered, quote),
            _ => covered.trim_end().chars().count(),
        };
        Mark {
            len: len.max(1),
            ..mark
        }
    }

    /// The line of the file in which `mark` is.
    fn line(&self, mark: Mark) -> Option<&str> {
        let source = self.sources.get(mark.file)?;
        source.text.lines().nth(mark.line.checked_sub(1)?)
    }

    /// Where the wrong part of a value is; all of the value, if it is not found as it stands in the file.
    fn part_mark(&self, problem: &Problem) -> Mark {
        let whole = self.tree.mark_of(&problem.place);
        let found = || {
            let part = problem.part.as_ref()?;
            let text = self.tree.at(&problem.place)?.text()?;
            let word: String = text.chars().skip(part.start).take(part.len()).collect();
            let line = self.line(whole)?;
            let from = whole.col.checked_sub(1)? + part.start;
            let tail: String = line.chars().skip(from).collect();
            let (before, _) = tail.split_once(word.as_str())?;
            let at = before.chars().count();
            Some(Mark {
                col: from + at + 1,
                len: part.len(),
                ..whole
            })
        };
        found().unwrap_or(whole)
    }

    /// Where `place` is.
    #[must_use]
    pub fn mark_of(&self, place: &Place) -> Mark {
        self.trimmed(self.tree.mark_of(place))
    }

    /// Where `place` is, as `file:line:col`.
    #[must_use]
    pub fn position(&self, place: &Place) -> String {
        let mark = self.tree.mark_of(place);
        let source = self.sources.get(mark.file);
        let path = source.map(|source| source.path.display().to_string());
        let path = path.unwrap_or_default();
        format!("{path}:{}:{}", mark.line, mark.col)
    }

    /// Whether what stands at `place` is a variable that is not set (`check --no-env`).
    #[must_use]
    pub fn is_opaque(&self, place: &Place) -> bool {
        self.tree
            .at(place)
            .is_some_and(|node| node.origin == Origin::Opaque)
    }
}

/// How many characters a text in quotes has, with them.
fn quoted_len(text: &str, quote: char) -> usize {
    let mut chars = text.chars().enumerate().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        let escapes = match quote {
            '"' => c == '\\',
            _ => c == quote && chars.peek().is_some_and(|(_, next)| *next == quote),
        };
        if escapes {
            chars.next();
        } else if c == quote {
            return at + 1;
        }
    }
    text.trim_end().chars().count()
}
