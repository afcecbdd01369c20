//! A document into a plan, or every mistake found. Pure: no file, network, clock or task.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use http::HeaderName;
use http::header::{AUTHORIZATION, COOKIE, HOST};

use super::addresses;
use super::admin;
use super::breakers::Breakers;
use super::callers;
use super::conflicts::{shadowed, tie};
use super::environments;
use super::lists;
use super::matching::{self, Matching};
use super::pages::Pages;
use super::{
    Action, Authentication, Clients, Entrance, EnvironmentHost, Listener, Plan, Route, Site,
    request_tests, upstreams as rules,
};
use crate::base::net::NetSet;
use crate::base::problem::{Place, Problem, Problems, suggest};
use crate::config::document::{self, Document, Named};
use crate::link::{Names, RouteFacts};
use crate::policy::fallback::{self, UpstreamNamed};
use crate::policy::log::HIDDEN;
use crate::router::{Builder, HostPattern, PathParser, Router};
use crate::telemetry::Hidden;
use crate::upstream::{Breaker, Credentials, Security, Upstream};

/// Compiles `document`. Mistakes go to `problems`; with an error among them there is no plan.
#[must_use]
pub fn compile(document: &Document, via: &str, problems: &mut Problems) -> Option<Plan> {
    let upstreams: Vec<Arc<Upstream>> = document
        .upstreams
        .iter()
        .enumerate()
        .map(|(number, item)| {
            let files = &document.files;
            let security = Security::compile(&item.spec, &item.place, files, problems);
            let upstream = Upstream::new(&item.name, group(&item.name), &item.spec, security);
            let credentials = item.spec.credentials.as_ref();
            let place = item.place.key("credentials");
            let credentials = credentials.map(|spec| Credentials::compile(spec, &place, problems));
            Arc::new(upstream.numbered(number).showing(credentials.flatten()))
        })
        .collect();
    let html = document
        .files
        .get(&Place::root().key("errors").key("html_file"));
    let pages = Pages::compile(&document.errors, html, problems);
    let busy = document.runtime.overload.retry_after.duration();
    let pages = Arc::new(pages.busy(busy));
    let mut names = named(document, &upstreams);
    let authentication = Authentication::compile(document, &names, problems);
    authentication.name(document, &mut names);
    let hidden = Hidden::new(&authentication.hidden(document));
    names.insert(HIDDEN, hidden);
    let mut compiler = Compiler::new(document, &upstreams, names, problems);
    addresses::check(document, compiler.problems);
    let matchings = compiler.matchings();
    let environments = compiler.environments();
    let listeners = compiler.listeners(&matchings, &environments);
    compiler.check_unused();
    let admin = admin::compile(document, compiler.problems);
    callers::check(document, compiler.problems);
    request_tests::check(document, compiler.problems);
    rules::check(document, compiler.problems);
    if compiler.problems.any_error() {
        return None;
    }
    let mut telemetry = document.telemetry.clone();
    telemetry.access_log.redact = authentication.hidden(document);
    let threads = match document.runtime.threads {
        document::Threads::Auto => None,
        document::Threads::Count(count) => Some(count),
    };
    let asserted = asserted(&listeners);
    let route_breakers = std::mem::take(&mut compiler.breakers);
    Some(Plan {
        generation: 1,
        threads,
        drain: document.runtime.drain,
        overload: document.runtime.overload,
        listeners,
        upstreams,
        prober: Arc::default(),
        authentication,
        pages,
        via: via.into(),
        asserted,
        admin,
        telemetry,
        places: HashMap::new(),
        route_breakers,
        upstream_metrics: std::sync::OnceLock::new(),
    })
}

/// The headers by which any route tells upstreams who is calling, each once. A credential is no such word: whoever reads it sees
/// for itself whether it is good.
fn asserted(listeners: &[Listener]) -> Box<[HeaderName]> {
    let routes = listeners
        .iter()
        .flat_map(|listener| listener.site.routes.iter());
    let told = routes.flat_map(|route| route.chain.asserts());
    let told = told.filter(|name| ![AUTHORIZATION, COOKIE, HOST].contains(name));
    let told: BTreeSet<&str> = told.map(HeaderName::as_str).collect();
    let told = told.into_iter().filter_map(|name| name.parse().ok());
    told.collect()
}

/// Keeps connections of unlike upstreams apart in the pool: the same number for a name in every config (FNV-1a).
fn group(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The upstreams by name; nothing for one that was refused already.
fn named(document: &Document, upstreams: &[Arc<Upstream>]) -> Names {
    let mut names = Names::default();
    for (item, upstream) in document.upstreams.iter().zip(upstreams) {
        names.insert(&item.name, UpstreamNamed(Some(Arc::clone(upstream))));
    }
    for name in &document.refused.upstreams {
        names.insert(name, UpstreamNamed(None));
    }
    names
}

type Environments = Vec<(String, String, BTreeMap<usize, usize>)>;

pub(super) struct Compiler<'a> {
    pub(super) document: &'a Document,
    pub(super) upstreams: &'a [Arc<Upstream>],
    by_name: HashMap<&'a str, usize>,
    pub(super) names: Names,
    /// Upstreams that environments put in the place of others: pairs of numbers.
    pub(super) swaps: Vec<(usize, usize)>,
    pub(super) breakers: Vec<Arc<Breaker>>,
    pub(super) problems: &'a mut Problems,
}

impl<'a> Compiler<'a> {
    fn new(
        document: &'a Document,
        upstreams: &'a [Arc<Upstream>],
        mut names: Names,
        problems: &'a mut Problems,
    ) -> Self {
        let by_name = document
            .upstreams
            .iter()
            .enumerate()
            .map(|(index, item)| (item.name.as_str(), index))
            .collect();
        lists::compile(document, &mut names, problems);
        Self {
            document,
            upstreams,
            by_name,
            names,
            swaps: Vec::new(),
            breakers: Vec::new(),
            problems,
        }
    }

    fn check_unused(&mut self) {
        let mut used: HashSet<&str> = HashSet::new();
        for route in &self.document.routes {
            if let document::Action::Upstream(name) = &route.action {
                used.insert(name);
            }
        }
        let fallbacks = self.document.fallbacks();
        used.extend(fallbacks.flat_map(fallback::Spec::upstreams));
        let asked = self.document.authenticators.iter();
        used.extend(asked.filter_map(|item| item.spec.upstream()));
        used.extend(
            self.document
                .environments
                .iter()
                .flat_map(|item| item.spec.upstreams.values())
                .map(String::as_str),
        );
        for item in &self.document.upstreams {
            if !used.contains(item.name.as_str()) && !self.problems.any_error() {
                let problem = Problem::warning(
                    "W010",
                    item.place.clone(),
                    format!("no route uses the upstream `{}`", item.name),
                );
                self.problems
                    .push(problem.hint("use it, or take it out").at_key());
            }
        }
    }

    /// The matching of every route; its facts become known to clauses by the route's name.
    fn matchings(&mut self) -> Vec<Matching> {
        let mut parser = PathParser::new(&matching::canonical_literal);
        let mut matchings = Vec::with_capacity(self.document.routes.len());
        for route in &self.document.routes {
            let place = route.place.key("match");
            let matching = matching::compile(
                &route.name,
                &route.matches,
                &place,
                &mut parser,
                self.problems,
            );
            let facts = matching.facts.clone().unwrap_or_default();
            self.names.insert::<RouteFacts>(&route.name, facts);
            matchings.push(matching);
        }
        for name in &self.document.refused.routes {
            self.names.insert(name, RouteFacts::default());
        }
        matchings
    }

    pub(super) fn upstream(
        &mut self,
        name: &str,
        problem_at: impl FnOnce(String) -> Problem,
    ) -> Option<usize> {
        let found = self.by_name.get(name).copied();
        let refused = &self.document.refused.upstreams;
        if found.is_none() && !refused.iter().any(|refused| refused == name) {
            let written = &self.document.upstreams;
            let known: Vec<&str> = written
                .iter()
                .map(|item| item.name.as_str())
                .chain(refused.iter().map(String::as_str))
                .collect();
            let hint = match known.len() {
                0 => "there are no upstreams yet: add `upstreams: { … }`".to_owned(),
                _ => suggest(name, known.iter().copied())
                    .unwrap_or_else(|| format!("one of {}", listed(known.into_iter()))),
            };
            let problem = problem_at(format!("unknown upstream `{name}`"));
            self.problems
                .push_new(problem.label("no upstream has this name").hint(hint));
        }
        found
    }

    /// For every host of an environment: the host, whose routes are served there, and what takes whose place.
    fn environments(&mut self) -> Environments {
        let document = self.document;
        let mut swaps = Vec::with_capacity(document.environments.len());
        for item in &document.environments {
            let mut swap = BTreeMap::new();
            for (from, to) in &item.spec.upstreams {
                let place = item.place.key("upstreams").key(from);
                let at_key = |what| Problem::error("E031", place.clone(), what).at_key();
                let from = self.upstream(from, at_key);
                let to = self.upstream(to, |what| Problem::error("E031", place.clone(), what));
                swap.extend(from.zip(to));
            }
            self.swaps
                .extend(swap.iter().map(|(from, to)| (*from, *to)));
            swaps.push(swap);
        }
        environments::twins(document, self.problems)
            .into_iter()
            .map(|twin| {
                let swap = swaps.get(twin.environment).cloned().unwrap_or_default();
                (twin.at, twin.host, swap)
            })
            .collect()
    }

    fn listeners(&mut self, matchings: &[Matching], environments: &Environments) -> Vec<Listener> {
        let document = self.document;
        self.check_listener_names();
        self.check_unserved(matchings);
        let mut listeners = Vec::with_capacity(document.listeners.len());
        for item in &document.listeners {
            let hosts = self.listener_hosts(item);
            let entrance = Entrance::compile(item, &document.files, self.problems);
            let site = self.site(item, matchings, environments);
            let Some(site) = site else { continue };
            let (limits, times) = (&item.spec.limits, &item.spec.timeouts);
            let clients = Clients::compile(limits, times, &item.place, self.problems);
            listeners.push(Listener {
                name: item.name.as_str().into(),
                addresses: item.spec.address.0.clone(),
                hosts,
                trusted: item
                    .spec
                    .trusted_proxies
                    .iter()
                    .copied()
                    .collect::<NetSet>(),
                entrance,
                clients,
                site: Arc::new(site),
                retired: false,
            });
        }
        listeners
    }

    fn check_listener_names(&mut self) {
        let document = self.document;
        let known = || {
            let read = document.listeners.iter().map(|item| &item.name);
            read.chain(&document.refused.listeners).map(String::as_str)
        };
        for route in &document.routes {
            for (index, name) in route.matches.listeners.iter().enumerate() {
                if known().any(|known| known == name) {
                    continue;
                }
                let place = route.place.key("match").key("listeners").index(index);
                let problem = Problem::error("E031", place, format!("unknown listener `{name}`"));
                let hint =
                    suggest(name, known()).unwrap_or_else(|| format!("one of {}", listed(known())));
                self.problems.push(problem.hint(hint));
            }
        }
    }

    /// What is on no listener, or was refused, is looked at too: all mistakes are told at once.
    fn check_unserved(&mut self, matchings: &[Matching]) {
        let document = self.document;
        for (route, matching) in document.routes.iter().zip(matchings) {
            let named = &route.matches.listeners;
            let served = document
                .listeners
                .iter()
                .any(|item| named.is_empty() || named.contains(&item.name));
            match &matching.facts {
                Some(_) if served => {}
                Some(facts) => drop(self.route(route, facts, &document.route_defaults)),
                None => {
                    if let document::Action::Upstream(name) = &route.action {
                        let place = route.place.key("upstream");
                        self.upstream(name, |what| Problem::error("E031", place, what));
                    }
                }
            }
        }
        for (name, place) in &document.refused.references {
            self.upstream(name, |what| Problem::error("E031", place.clone(), what));
        }
    }

    fn listener_hosts(&mut self, item: &Named<document::Listener>) -> Vec<HostPattern> {
        let mut hosts = Vec::new();
        for (index, host) in item.spec.hosts.iter().enumerate() {
            match HostPattern::parse(host) {
                Ok(pattern) => hosts.push(pattern),
                Err(error) => {
                    let place = item.place.key("hosts").index(index);
                    self.problems.push(matching::host_problem(place, &error));
                }
            }
        }
        hosts
    }

    /// What is served on one listener. What is wrong with a route is said once, on however many it is.
    fn site(
        &mut self,
        item: &Named<document::Listener>,
        matchings: &[Matching],
        environments: &Environments,
    ) -> Option<Site> {
        let document = self.document;
        let inherited = item.spec.defaults.or(&document.route_defaults);
        let mut builder = Builder::new();
        let mut routes = Vec::new();
        let mut numbers = Vec::new();
        for (route, matching) in document.routes.iter().zip(matchings) {
            let named = &route.matches.listeners;
            let here = named.is_empty() || named.contains(&item.name);
            let Some(facts) = matching.facts.as_ref().filter(|_| here) else {
                continue;
            };
            let Some(compiled) = self.route(route, facts, &inherited) else {
                continue;
            };
            let number = u32::try_from(routes.len()).unwrap_or(u32::MAX);
            routes.push(compiled);
            numbers.push(route);
            for rule in &matching.rules {
                builder.add(rule.clone().leading_to(number));
            }
        }
        let facts = RouteFacts {
            name: "not_found".into(),
            ..RouteFacts::default()
        };
        let mut found = Problems::default();
        let chain = inherited.compile(&self.names, &facts, &mut found);
        self.problems.absorb(found);
        routes.push(Route {
            name: "not_found".into(),
            place: Place::root(),
            chain,
            action: Action::NotFound,
            params: Box::default(),
            breakers: Breakers::default(),
            metrics: std::sync::OnceLock::new(),
        });
        let router = self.router(builder, &numbers)?;
        Some(Site {
            router,
            routes,
            environments: self.environment_hosts(environments),
        })
    }

    fn environment_hosts(&self, environments: &Environments) -> HashMap<Box<str>, EnvironmentHost> {
        let mut hosts = HashMap::new();
        for (at, host, swaps) in environments {
            let swap =
                |(from, to): (&usize, &usize)| Some((*from, Arc::clone(self.upstreams.get(*to)?)));
            let upstreams = swaps.iter().filter_map(swap).collect();
            hosts.insert(
                at.as_str().into(),
                EnvironmentHost {
                    host: host.as_str().into(),
                    upstreams,
                },
            );
        }
        hosts
    }

    fn router(
        &mut self,
        builder: Builder<u32>,
        routes: &[&document::Route],
    ) -> Option<Router<u32>> {
        let route = |number: u32| {
            usize::try_from(number)
                .ok()
                .and_then(|number| routes.get(number))
                .copied()
        };
        match builder.build() {
            Ok(built) => {
                for warning in built.warnings {
                    self.problems.push_new(shadowed(&warning, &route));
                }
                Some(built.router)
            }
            Err(conflicts) => {
                for conflict in conflicts {
                    self.problems.push_new(tie(&conflict, &route));
                }
                None
            }
        }
    }
}

/// Names in backticks, for a hint.
pub(super) fn listed<'a, I: Iterator<Item = &'a str>>(names: I) -> String {
    names
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}
