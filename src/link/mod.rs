//! What a clause may refer to while it is compiled, and where its mistakes go.

mod json;

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::sync::Arc;

pub use json::JsonTemplate;
use serde::de::DeserializeOwned;

use crate::base::problem::{Place, Problem, Problems};
use crate::expr::{ErrorKind, ExprError, Moment, Template, Vocabulary};

/// A clause of a route: left out, turned off, or written.
#[derive(Debug, Clone, Default)]
pub enum Clause<T> {
    /// Left out: the inherited one holds.
    #[default]
    Absent,
    /// `none`: turned off.
    Off,
    /// Written, at this place.
    On(Arc<T>, Place),
}

impl<T> Clause<T> {
    /// This clause, or the inherited one where it is left out.
    #[must_use]
    pub fn or(&self, inherited: &Self) -> Self {
        match self {
            Self::Absent => inherited.share(),
            Self::Off | Self::On(..) => self.share(),
        }
    }

    /// Another handle on the same clause.
    #[must_use]
    pub fn share(&self) -> Self {
        match self {
            Self::Absent => Self::Absent,
            Self::Off => Self::Off,
            Self::On(spec, place) => Self::On(Arc::clone(spec), place.clone()),
        }
    }

    /// What is written, if it holds.
    #[must_use]
    pub fn spec(&self) -> Option<(&T, &Place)> {
        match self {
            Self::On(spec, place) => Some((spec, place)),
            Self::Absent | Self::Off => None,
        }
    }
}

/// A section of the config that gives away its clauses one by one.
pub trait Section {
    /// Reads the clause under `key` and takes it out of the section.
    fn clause<T: DeserializeOwned>(&mut self, key: &'static str) -> Clause<T>;
}

/// What a clause may refer to: names of this document with what they stand for, by type.
#[derive(Default)]
pub struct Names(HashMap<(TypeId, String), Box<dyn Any>>);

impl Names {
    /// Makes `value` known as `name`.
    pub fn insert<T: Any>(&mut self, name: &str, value: T) {
        self.0
            .insert((TypeId::of::<T>(), name.to_owned()), Box::new(value));
    }

    /// What `name` stands for, among the things of type `T`.
    #[must_use]
    pub fn get<T: Any>(&self, name: &str) -> Option<&T> {
        self.0
            .get(&(TypeId::of::<T>(), name.to_owned()))?
            .downcast_ref()
    }

    /// All names of things of type `T`.
    pub fn names<T: Any>(&self) -> impl Iterator<Item = &str> + Clone {
        self.0
            .keys()
            .filter(|(kind, _)| *kind == TypeId::of::<T>())
            .map(|(_, name)| name.as_str())
    }
}

/// The route a clause belongs to, as far as clauses need it.
#[derive(Debug, Clone, Default)]
pub struct RouteFacts {
    /// Its name.
    pub name: Arc<str>,
    /// The parameters of its path, by index.
    pub params: Vec<String>,
    /// The path as written, canonical: for a template or an exact path.
    pub path: Option<String>,
    /// The prefix as written, canonical, without its last slash: for a prefix.
    pub prefix: Option<String>,
    /// The hosts as written.
    pub hosts: Vec<String>,
}

/// Where one clause is compiled.
pub struct Env<'a> {
    /// What the clause may refer to.
    pub names: &'a Names,
    /// The route it belongs to.
    pub route: &'a RouteFacts,
    /// Where the clause stands.
    pub place: &'a Place,
    /// Where its mistakes go.
    pub problems: &'a mut Problems,
}

impl Env<'_> {
    /// Compiles a template that stands at `place`; a mistake is reported and gives `None`.
    pub fn template(&mut self, text: &str, place: &Place, moment: Moment) -> Option<Template> {
        let vocabulary = Vocabulary::new(self.route.params.iter().map(String::as_str), moment);
        match Template::compile(text, &vocabulary) {
            Ok(template) if template.is_one_line() => Some(template),
            Ok(_) => {
                let problem = Problem::error(
                    "E032",
                    place.clone(),
                    "a line break or control character in a template",
                );
                self.problems
                    .push(problem.hint("write the text on one line"));
                None
            }
            Err(error) => {
                self.problems.push(expression_problem(place, &error));
                None
            }
        }
    }

    /// Reports a mistake at `place`.
    pub fn problem(&mut self, problem: Problem) {
        self.problems.push(problem);
    }
}

/// A refused template or expression as a problem at `place`.
#[must_use]
pub fn expression_problem(place: &Place, error: &ExprError) -> Problem {
    let (code, what, hint) = match error.kind {
        ErrorKind::NotInThisVersion => (
            "E020",
            error.what.replace("not supported in", "not in"),
            "take it out; a later version of doorward brings it",
        ),
        ErrorKind::TooLarge => ("E032", error.what.clone(), "say it more shortly"),
        ErrorKind::Syntax | ErrorKind::Unknown | ErrorKind::NotHere | ErrorKind::Type => (
            "E032",
            error.what.clone(),
            "names are e.g. `request.path`, `request.headers[\"x\"]`, `params.id`, `client.ip`",
        ),
    };
    let hint = error.hint.as_deref().unwrap_or(hint);
    Problem::error(code, place.clone(), what)
        .hint(hint)
        .part(error.span.clone())
}
