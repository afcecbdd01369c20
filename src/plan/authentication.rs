//! `authenticators` and `consumers` into what routes refer to by name.

use std::sync::Arc;

use crate::base::problem::{Problem, Problems, suggest};
use crate::base::task::TaskGuard;
use crate::config::document::Document;
use crate::link::Names;
use crate::policy::Specs;
use crate::policy::auth::{Authenticator, Consumers, Means, References, RefusedAuthenticator};
use crate::telemetry::Telemetry;

/// Everything that says who is calling.
#[derive(Debug, Default)]
pub struct Authentication {
    /// The authenticators, in the order of the config.
    pub authenticators: Vec<Arc<Authenticator>>,
    /// Whom they know.
    pub consumers: Arc<Consumers>,
}

impl Authentication {
    /// Compiles both; mistakes are reported.
    pub(super) fn compile(document: &Document, names: &Names, problems: &mut Problems) -> Self {
        let mut consumers = Consumers::default();
        for item in &document.consumers {
            consumers.add(&item.name, &item.spec, &item.place, problems);
        }
        let consumers = Arc::new(consumers);
        let mut authenticators = Vec::with_capacity(document.authenticators.len());
        for item in &document.authenticators {
            let refer = References {
                consumers: &consumers,
                files: &document.files,
                names,
            };
            let made = item.spec.compile(&item.name, &item.place, refer, problems);
            authenticators.extend(made.map(Arc::new));
        }
        unused(document, problems);
        unknown(document, problems);
        Self {
            authenticators,
            consumers,
        }
    }

    /// Takes over what was found out under another config.
    pub(super) fn inherit(&self, old: &Self) {
        for authenticator in &self.authenticators {
            let mut before = old.authenticators.iter();
            if let Some(before) = before.find(|before| before.name() == authenticator.name()) {
                authenticator.inherit(before);
            }
        }
    }

    /// Begins what needs a task.
    pub(super) fn start(&self, means: &Means, telemetry: &Telemetry) -> Vec<TaskGuard> {
        let authenticators = self.authenticators.iter();
        authenticators
            .filter_map(|it| it.start(means, telemetry))
            .collect()
    }

    /// Makes them known to the clauses of routes.
    pub(super) fn name(&self, document: &Document, names: &mut Names) {
        for authenticator in &self.authenticators {
            names.insert(authenticator.name(), Arc::clone(authenticator));
        }
        let written = document.authenticators.iter().map(|item| &item.name);
        for name in written.chain(&document.refused.authenticators) {
            names.insert(name, RefusedAuthenticator);
        }
        names.insert("", Arc::clone(&self.consumers));
    }

    /// Names of headers and query parameters that logs never quote: those of the config, and where credentials are.
    pub(super) fn hidden(&self, document: &Document) -> Vec<String> {
        let written = document.telemetry.access_log.redact.iter().cloned();
        let ours = self.authenticators.iter().flat_map(|it| it.secret_names());
        written.chain(ours).collect()
    }
}

/// A rule that wants the word of somebody who is not there holds for nobody.
fn unknown(document: &Document, problems: &mut Problems) {
    let known = || {
        let written = document.authenticators.iter().map(|item| &item.name);
        written
            .chain(&document.refused.authenticators)
            .map(String::as_str)
    };
    for item in &document.consumers {
        for (place, name) in item.spec.trusted(&item.place) {
            if known().any(|known| known == name) {
                continue;
            }
            let problem = Problem::error("E031", place, format!("unknown authenticator `{name}`"));
            let hint = suggest(name, known().collect::<Vec<_>>());
            let hint = hint.unwrap_or_else(|| "no authenticator has this name".to_owned());
            problems.push(problem.hint(hint));
        }
    }
}

/// An authenticator that no route trusts guards nothing: somebody thinks that it does.
fn unused(document: &Document, problems: &mut Problems) {
    let listeners = document.listeners.iter().map(|item| &item.spec.defaults);
    let routes = document.routes.iter().map(|route| &route.policies);
    let specs: Vec<&Specs> = listeners
        .chain(routes)
        .chain(std::iter::once(&document.route_defaults))
        .collect();
    for item in &document.authenticators {
        let used = specs.iter().any(|specs| {
            let auth = specs.auth.spec();
            auth.is_some_and(|(auth, _)| auth.names().any(|name| name == item.name))
        });
        if !used {
            let what = format!("no route trusts the authenticator `{}`", item.name);
            let problem = Problem::warning("W060", item.place.clone(), what);
            problems.push(problem.hint("use it, or take it out").at_key());
        }
    }
}
