//! `authenticators` and `consumers` into what routes refer to by name.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::join_all;

use crate::base::problem::{Place, Problem, Problems, suggest};
use crate::base::task::TaskGuard;
use crate::config::document::{Document, Named};
use crate::link::Names;
use crate::policy::Specs;
use crate::policy::auth::{
    Authenticator, Consumers, Means, References, RefusedAuthenticator, Register, Revoked,
    UsagePlans,
};
use crate::store::{Store, StoreSpec};
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
        let mut consumers = Consumers::of_plans(usage_plans(document, problems));
        for item in &document.consumers {
            consumers.add(&item.name, &item.spec, &item.place, problems);
        }
        let consumers = consumers.with_register(register(document, problems));
        let consumers = Arc::new(consumers.with_revoked(revoked(document, problems)));
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

    /// Begins what needs a task, and waits a little for names.
    pub(super) async fn start(&self, means: &Means, telemetry: &Telemetry) -> Vec<TaskGuard> {
        let authenticators = self.authenticators.iter();
        let started = join_all(authenticators.map(|it| it.start(means, telemetry))).await;
        started.into_iter().flatten().collect()
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

/// What consumers may have.
fn usage_plans(document: &Document, problems: &mut Problems) -> UsagePlans {
    let routes = document.routes.iter().map(|route| route.name.as_str());
    let refused = document.refused.routes.iter().map(String::as_str);
    let routes: Vec<&str> = routes.chain(refused).collect();
    let mut plans = UsagePlans::default();
    for item in &document.usage_plans {
        plans.add((&item.name, &item.spec), &item.place, &routes, problems);
    }
    for name in &document.refused.usage_plans {
        plans.refuse(name);
    }
    plans
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

/// The tokens that are refused though they verify, which live in the folder of the process.
fn revoked(document: &Document, problems: &mut Problems) -> Option<Revoked> {
    let folder = document.runtime.state_dir.as_deref()?;
    let place = Place::root().key("runtime").key("state_dir");
    if folder.is_empty() {
        let problem = Problem::error("E030", place.clone(), "no folder");
        problems.push(problem.hint("e.g. `/var/lib/doorward`"));
    }
    let path = document.paths.get(&place)?;
    Some(Revoked::new(Store::folder("state_dir", path.clone())))
}

/// Those who are made at run time, and live in a store.
fn register(document: &Document, problems: &mut Problems) -> Option<Register> {
    let keys = document.keys.as_ref();
    let mut made = HashMap::new();
    for item in &document.stores {
        made.extend(store(item, document, problems).map(|store| (item.name.as_str(), store)));
        if keys.is_none_or(|keys| keys.store != item.name) {
            let what = format!("nothing uses the store `{}`", item.name);
            let problem = Problem::warning("W062", item.place.clone(), what);
            problems.push(problem.hint("use it, or take it out").at_key());
        }
    }
    let keys = keys?;
    let named = |item: &&Named<StoreSpec>| item.name == keys.store;
    if document.stores.iter().find(named).is_none() {
        if !document.refused.stores.contains(&keys.store) {
            let place = Place::root().key("keys").key("store");
            let what = format!("unknown store `{}`", keys.store);
            let known = document.stores.iter().map(|item| item.name.as_str());
            let hint = suggest(&keys.store, known);
            let hint = hint.unwrap_or_else(|| {
                "no store has this name: add `stores: { local: { file: { path: … } } }`".to_owned()
            });
            problems.push(Problem::error("E031", place, what).hint(hint));
        }
        return None;
    };
    Some(Register::new(made.remove(keys.store.as_str())?, keys))
}

/// A store, unless it cannot be one.
fn store(
    item: &Named<StoreSpec>,
    document: &Document,
    problems: &mut Problems,
) -> Option<Arc<Store>> {
    match &item.spec {
        StoreSpec::File(file) => {
            let place = item.place.key("file").key("path");
            if file.path.is_empty() {
                let problem = Problem::error("E030", place.clone(), "no folder");
                problems.push(problem.hint("e.g. `/var/lib/doorward/state`"));
            }
            let path = document.paths.get(&place)?;
            Some(Arc::new(Store::folder(&item.name, path.clone())))
        }
        StoreSpec::Redis(redis) => match Store::redis(&item.name, redis) {
            Ok(store) => Some(Arc::new(store)),
            Err((what, hint)) => {
                let place = item.place.key("redis").key("url");
                problems.push(Problem::error("E030", place, what).hint(hint));
                None
            }
        },
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
