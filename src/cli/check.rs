//! `check`: the config, by the same code as `run`, without a socket.

use super::args::{CheckArgs, Format, Global};
use super::{Exit, print, report, say};
use crate::base::clock::{Clock as _, SystemClock};
use crate::base::problem::Severity;
use crate::config::document::Document;
use crate::config::source::{self, Environment};
use crate::config::{self, Loaded};
use crate::plan::{self, Plan};
use crate::store::StoreSpec;

/// Checks the config.
pub(super) fn run(args: &CheckArgs, global: &Global) -> Exit {
    let environment = if args.no_env {
        Environment::Opaque
    } else {
        Environment::Process
    };
    let Some((loaded, plan)) = load(global, &environment) else {
        return Exit::Config;
    };
    report::problems(&loaded, global);
    if loaded.problems.any_error() {
        return Exit::Config;
    }
    if global.format == Format::Human {
        let document = &loaded.document;
        let count = |number: usize, what: &str| {
            format!("{number} {what}{}", if number == 1 { "" } else { "s" })
        };
        let certificates = plan.as_ref().map(|plan| {
            let listed = plan.certificates(SystemClock.unix_millis() / 1000);
            if listed.is_empty() {
                listed
            } else {
                format!("certificates ({listed}), ")
            }
        });
        let called = plan.as_ref().map(called).unwrap_or_default();
        let fetched = plan.as_ref().map(|plan| fetched(plan, document));
        let fetched = fetched.unwrap_or_default();
        let upstreams = plan.map_or(document.upstreams.len(), |plan| plan.upstreams.len());
        print(&format!(
            "  ok  syntax, references, expressions, {}{}, {}, {}\n{called}{fetched}",
            certificates.unwrap_or_default(),
            count(document.listeners.len(), "listener"),
            count(upstreams, "upstream"),
            count(document.routes.len(), "route"),
        ));
    }
    let warned = loaded
        .problems
        .list()
        .iter()
        .any(|problem| problem.severity == Severity::Warning);
    if warned && args.deny_warnings {
        Exit::Findings
    } else {
        Exit::Done
    }
}

/// The routes that are called, and why; the others are streamed, which needs no word.
fn called(plan: &Plan) -> String {
    let routes = plan.called();
    let routes = routes
        .iter()
        .map(|(name, clauses)| format!("{name} ({})", clauses.join(", ")));
    let routes: Vec<String> = routes.collect();
    if routes.is_empty() {
        String::new()
    } else {
        format!(
            "      called with whole bodies, not streamed: {}\n",
            routes.join(", ")
        )
    }
}

/// What is asked of others while the gateway runs: `check` asks nobody.
fn fetched(plan: &Plan, document: &Document) -> String {
    let authenticators = plan.authentication.authenticators.iter();
    let mut fetched: Vec<String> = authenticators.filter_map(|it| it.fetched()).collect();
    let upstreams = plan.upstreams.iter();
    fetched.extend(upstreams.filter_map(|it| {
        let at = it.tokens()?.shown();
        Some(format!("tokens for `{}` ({at})", it.name()))
    }));
    fetched.extend(document.stores.iter().filter_map(|item| match &item.spec {
        StoreSpec::Redis(redis) => Some(format!("store `{}` ({})", item.name, redis.authority())),
        StoreSpec::File(_) => None,
    }));
    fetched.extend(plan.listeners.iter().filter_map(|listener| {
        let asked = listener.entrance.tls.as_ref()?.staples().iter().next()?;
        let host = asked.responder().host();
        Some(format!("certificates of `{}` ({host})", listener.name))
    }));
    if fetched.is_empty() {
        String::new()
    } else {
        format!("      not verified offline: {}\n", fetched.join(", "))
    }
}

/// What a variable that is not set stands for cannot be right or wrong; that it is not set was said.
fn forgive_opaque(loaded: &mut Loaded) {
    let mut problems = std::mem::take(&mut loaded.problems);
    let mut forgiven = false;
    problems.retain(|problem| {
        // The key is written, and that it is not set is no judgement of the value.
        let elsewhere = problem.at_key || matches!(problem.code, "E004" | "E005");
        let keep = elsewhere || !loaded.is_opaque(&problem.place);
        forgiven |= !keep;
        keep
    });
    // The upstream that nobody uses may be the one that a variable names.
    problems.retain(|problem| !forgiven || problem.code != "W010");
    loaded.problems = problems;
}

/// Finds, loads and compiles the config; what is wrong is in `Loaded`. `None`: there is no config, and that was said.
pub(super) fn load(global: &Global, environment: &Environment) -> Option<(Loaded, Option<Plan>)> {
    let Some(path) = global.config.clone().or_else(source::search) else {
        say(
            "error: no config found\n  = hint: write one with `doorward init`, or name one with `--config`; `doorward demo` needs none",
        );
        return None;
    };
    let afar = path.to_str().and_then(|text| text.split_once("://"));
    if let Some((scheme @ ("etcd" | "http" | "https"), _)) = afar {
        say(&format!(
            "error: a config from `{scheme}://` is not in this version\n  = hint: name a file with `--config`"
        ));
        return None;
    }
    if global.format == Format::Human {
        say(&format!("using {}", path.display()));
    }
    Some(compile(config::load(&path, environment)))
}

/// Compiles what was loaded.
pub(super) fn compile(mut loaded: Loaded) -> (Loaded, Option<Plan>) {
    let mut problems = std::mem::take(&mut loaded.problems);
    let mut plan = plan::compile(&loaded.document, &via(), &mut problems);
    if let Some(plan) = &mut plan {
        plan.locate(|place| loaded.position(place));
        plan.check_certificates(SystemClock.unix_millis() / 1000, &mut problems);
    }
    loaded.problems = problems;
    forgive_opaque(&mut loaded);
    (loaded, plan)
}

/// The name of this gateway in `Via`: one of its own, so that only its own requests look like a loop.
fn via() -> String {
    let id = uuid::Uuid::new_v4().simple().to_string();
    format!("doorward-{}", id.get(..8).unwrap_or_default())
}
