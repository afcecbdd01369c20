//! What the router says of its rules, as problems of the routes they came from.

use crate::base::problem::{Place, Problem};
use crate::config::document;
use crate::router::{Conflict, Overlap, Reason, Warning};

/// The problem of two routes that tie.
pub(super) fn tie<'a>(
    conflict: &Conflict<u32>,
    route: &impl Fn(u32) -> Option<&'a document::Route>,
) -> Problem {
    let (Some(first), Some(second)) = (route(conflict.first), route(conflict.second)) else {
        return Problem::error("E021", Place::root(), "two routes tie");
    };
    if first.place == second.place {
        let what = format!("the paths of route `{}` tie with each other", second.name);
        return Problem::error("E021", second.place.key("match"), what).hint("make two routes");
    }
    let how = match conflict.overlap {
        Overlap::SamePath => "for the same path",
        Overlap::Templates => "for paths that fit both templates",
        Overlap::Regexes => "for paths that may fit both regular expressions",
    };
    Problem::error(
        "E021",
        second.place.key("match"),
        format!("route `{}` ties with `{}` {how}", second.name, first.name),
    )
    .also(first.place.key("match"), "the other route")
    .hint("give one of them a higher `priority`, or a condition that the other excludes")
}

/// The problem of a route that can never match.
pub(super) fn shadowed<'a>(
    warning: &Warning<u32>,
    route: &impl Fn(u32) -> Option<&'a document::Route>,
) -> Problem {
    let Some(rule) = route(warning.rule) else {
        return Problem::warning("W021", Place::root(), "a route can never match");
    };
    let problem = Problem::warning(
        "W021",
        rule.place.clone(),
        format!("route `{}` can never match", rule.name),
    );
    match &warning.reason {
        Reason::Shadowed { by } => match route(*by) {
            Some(by) => {
                let problem = problem.also(by.place.clone(), format!("shadowed by `{}`", by.name));
                problem.hint(if same_target(&rule.matches, &by.matches) {
                    "give it a higher `priority`, or delete it"
                } else {
                    // Host and path come before `priority`.
                    "narrow the `match` of the other route, or delete this one"
                })
            }
            None => problem.hint("delete it"),
        },
        Reason::NeverInTime => problem.hint("`before` has to be later than `after`"),
        Reason::NoMethod => problem.hint("name a method, or leave `methods` out"),
    }
}

/// Whether `priority` is what decides between two routes.
fn same_target(one: &document::Match, other: &document::Match) -> bool {
    one.path == other.path
        && one.path_prefix == other.path_prefix
        && one.path_regex == other.path_regex
        && one.hosts.iter().all(|host| other.hosts.contains(host))
        && one.hosts.is_empty() == other.hosts.is_empty()
}
