//! Clauses about callers where nobody is known, and proofs that nobody asks for: they say less than their author thinks.

use std::collections::HashSet;

use crate::base::problem::{Place, Problem, Problems};
use crate::config::document::{Document, Route};
use crate::policy::Specs;
use crate::policy::auth::Proof;

/// Warns of both.
pub(super) fn check(document: &Document, problems: &mut Problems) {
    let mut told: HashSet<(&'static str, Place)> = HashSet::new();
    for route in &document.routes {
        for specs in served(route, document) {
            if specs.auth.spec().is_some() {
                continue;
            }
            let authorize = specs.authorize.spec();
            let authorize = authorize.filter(|(spec, _)| spec.asks_who());
            let identity = specs.identity.spec();
            let identity = identity.filter(|(spec, _)| spec.tells_who());
            let places = [
                ("authorize", authorize.map(|(_, place)| place)),
                ("identity", identity.map(|(_, place)| place)),
            ];
            for (key, place) in places {
                let Some(place) = place.filter(|place| told.insert((key, (*place).clone()))) else {
                    continue;
                };
                let what = format!("nobody is known on the route `{}`", route.name);
                let hint = match key {
                    "authorize" => "everybody is refused: add `auth`, or take it out",
                    _ => "nothing is told: add `auth`, or take it out",
                };
                let problem = Problem::warning("W064", place.clone(), what);
                problems.push(problem.hint(hint).at_key());
            }
        }
    }
    certificates(document, problems);
}

/// The clauses of a route, by each listener that serves it.
fn served<'a>(route: &'a Route, document: &'a Document) -> impl Iterator<Item = Specs> + 'a {
    let named = &route.matches.listeners;
    let listeners = document.listeners.iter();
    let here = listeners.filter(|item| named.is_empty() || named.contains(&item.name));
    here.map(|item| {
        let inherited = item.spec.defaults.or(&document.route_defaults);
        route.policies.or(&inherited)
    })
}

/// Nobody shows a certificate who is not asked for one.
fn certificates(document: &Document, problems: &mut Problems) {
    let mut listeners = document.listeners.iter();
    let asked = listeners.any(|item| {
        let tls = item.spec.tls.as_ref();
        tls.is_some_and(|tls| !tls.client_auth.is_empty())
    });
    let authenticators = document.authenticators.iter();
    let by_certificate =
        authenticators.filter(|item| item.spec.proof() == Some(Proof::Certificate));
    for item in by_certificate.filter(|_| !asked && document.refused.listeners.is_empty()) {
        let place = item.place.key("client_cert");
        let what = "no listener asks for certificates of clients";
        let hint = "add `tls.client_auth` to the listener where they come";
        problems.push(Problem::warning("W065", place, what).hint(hint).at_key());
    }
}
