//! A document into a plan, or every mistake found. Pure: no file, network, clock or task.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::action::{Redirection, Response};
use super::conflicts::{shadowed, tie};
use super::matching::{self, Matching, text_problem};
use super::pages::Pages;
use super::{Action, EnvironmentHost, Listener, Plan, Route, Site};
use crate::base::canon;
use crate::base::net::NetSet;
use crate::base::problem::{Place, Problem, Problems, suggest};
use crate::config::document::{self, Document, Named};
use crate::link::{Clause, Env, Names, RouteFacts};
use crate::policy::Specs;
use crate::router::{Builder, HostPattern, PathParser, Router};
use crate::upstream::Upstream;

/// Compiles `document`. Mistakes go to `problems`; with an error among them there is no plan.
#[must_use]
pub fn compile(document: &Document, via: &str, problems: &mut Problems) -> Option<Plan> {
    let upstreams: Vec<Arc<Upstream>> = document
        .upstreams
        .iter()
        .enumerate()
        .map(|(index, item)| Arc::new(Upstream::new(&item.name, group(index), &item.spec)))
        .collect();
    let html = document
        .files
        .get(&Place::root().key("errors").key("html_file"));
    let pages = Arc::new(Pages::compile(&document.errors, html, problems));
    let mut compiler = Compiler::new(document, &upstreams, problems);
    compiler.check_listeners();
    compiler.check_unused();
    let matchings = compiler.matchings();
    let environments = compiler.environments();
    let listeners = compiler.listeners(&matchings, &environments);
    if compiler.problems.any_error() {
        return None;
    }
    let threads = match document.runtime.threads {
        document::Threads::Auto => None,
        document::Threads::Count(count) => Some(count),
    };
    Some(Plan {
        generation: 1,
        threads,
        listeners,
        upstreams,
        pages,
        via: via.into(),
    })
}

/// Keeps connections of unlike upstreams apart in the pool.
fn group(index: usize) -> u64 {
    u64::try_from(index).unwrap_or(u64::MAX).wrapping_add(1)
}

type Environments = Vec<(String, String, BTreeMap<usize, usize>)>;

struct Compiler<'a> {
    document: &'a Document,
    upstreams: &'a [Arc<Upstream>],
    by_name: HashMap<&'a str, usize>,
    names: Names,
    problems: &'a mut Problems,
}

impl<'a> Compiler<'a> {
    fn new(
        document: &'a Document,
        upstreams: &'a [Arc<Upstream>],
        problems: &'a mut Problems,
    ) -> Self {
        let by_name = document
            .upstreams
            .iter()
            .enumerate()
            .map(|(index, item)| (item.name.as_str(), index))
            .collect();
        Self {
            document,
            upstreams,
            by_name,
            names: Names::default(),
            problems,
        }
    }

    fn check_listeners(&mut self) {
        if self.document.listeners.is_empty() && !self.problems.any_error() {
            let problem = Problem::error("E015", Place::root(), "no listener");
            self.problems.push(
                problem.hint("add one: `listeners: { public: { address: \"127.0.0.1:8080\" } }`"),
            );
        }
        let mut seen: HashMap<String, Place> = HashMap::new();
        for listener in &self.document.listeners {
            for (index, address) in listener.spec.address.0.iter().enumerate() {
                let text = address.to_string();
                let whole = listener.place.key("address");
                let place = if listener.spec.address.0.len() > 1 {
                    whole.index(index)
                } else {
                    whole
                };
                let any_port = address.tcp().is_some_and(|address| address.port() == 0);
                if let Some(first) = seen.get(&text).filter(|_| !any_port) {
                    let problem = Problem::error(
                        "E018",
                        place.clone(),
                        format!("`{text}` is listened on twice"),
                    );
                    self.problems.push(
                        problem
                            .also(first.clone(), "the first")
                            .hint("give each listener an address of its own"),
                    );
                }
                seen.insert(text, place);
            }
        }
    }

    fn check_unused(&mut self) {
        let mut used: HashSet<&str> = HashSet::new();
        for route in &self.document.routes {
            if let document::Action::Upstream(name) = &route.action {
                used.insert(name);
            }
        }
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
    fn matchings(&mut self) -> Vec<Option<Matching>> {
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
            if let Some(matching) = &matching {
                self.names
                    .insert::<RouteFacts>(&route.name, matching.facts.clone());
            }
            matchings.push(matching);
        }
        matchings
    }

    fn upstream(&mut self, name: &str, place: Place) -> Option<usize> {
        let found = self.by_name.get(name).copied();
        if found.is_none() {
            let problem = Problem::error("E031", place, format!("unknown upstream `{name}`"))
                .label("no upstream has this name");
            let hint = suggest(name, self.by_name.keys().copied()).unwrap_or_else(|| {
                match self.by_name.len() {
                    0 => "there are no upstreams yet: add `upstreams: { … }`".to_owned(),
                    _ => format!(
                        "one of {}",
                        listed(
                            self.document
                                .upstreams
                                .iter()
                                .map(|item| item.name.as_str())
                        )
                    ),
                }
            });
            self.problems.push_new(problem.hint(hint));
        }
        found
    }

    /// For every environment and host: the host, whose routes are served there, and what takes whose place.
    fn environments(&mut self) -> Environments {
        let document = self.document;
        let mut all = Environments::new();
        let routed: HashSet<&str> = document
            .routes
            .iter()
            .flat_map(|route| &route.matches.hosts)
            .map(String::as_str)
            .collect();
        for item in &document.environments {
            let mut swaps = BTreeMap::new();
            for (from, to) in &item.spec.upstreams {
                let place = item.place.key("upstreams").key(from);
                let from = self.upstream(from, place.clone());
                let to = self.upstream(to, place);
                swaps.extend(from.zip(to));
            }
            for (host, at) in &item.spec.hosts {
                let place = item.place.key("hosts").key(host);
                let (Some(host), Some(at)) =
                    (self.exact_host(host, &place), self.exact_host(at, &place))
                else {
                    continue;
                };
                if routed.contains(at.as_str()) {
                    let problem =
                        Problem::error("E019", place, format!("`{at}` is a host of routes too"));
                    self.problems.push(
                        problem
                            .hint("an environment's host serves the routes of another host only"),
                    );
                } else if all.iter().any(|(known, ..)| *known == at) {
                    self.problems.push(
                        Problem::error("E019", place, format!("`{at}` stands for two hosts"))
                            .hint("keep one of them"),
                    );
                } else {
                    all.push((at, host, swaps.clone()));
                }
            }
        }
        all
    }

    fn exact_host(&mut self, text: &str, place: &Place) -> Option<String> {
        let host = canon::canonical_host(text)
            .ok()
            .map(std::borrow::Cow::into_owned);
        if host.is_none() {
            let problem = Problem::error("E019", place.clone(), format!("`{text}` is not a host"));
            self.problems
                .push(problem.hint("an exact name, e.g. `api.staging.example.com`"));
        }
        host
    }

    fn listeners(
        &mut self,
        matchings: &[Option<Matching>],
        environments: &Environments,
    ) -> Vec<Listener> {
        let document = self.document;
        for route in &document.routes {
            for (index, name) in route.matches.listeners.iter().enumerate() {
                if document.listeners.iter().any(|item| item.name == *name) {
                    continue;
                }
                let place = route.place.key("match").key("listeners").index(index);
                let problem = Problem::error("E031", place, format!("unknown listener `{name}`"));
                let known = || document.listeners.iter().map(|item| item.name.as_str());
                let hint =
                    suggest(name, known()).unwrap_or_else(|| format!("one of {}", listed(known())));
                self.problems.push(problem.hint(hint));
            }
        }
        let mut listeners = Vec::with_capacity(document.listeners.len());
        for item in &document.listeners {
            let hosts = self.listener_hosts(item);
            let site = self.site(item, matchings, environments);
            let Some(site) = site else { continue };
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
                site: Arc::new(site),
            });
        }
        listeners
    }

    fn listener_hosts(&mut self, item: &Named<document::Listener>) -> Vec<HostPattern> {
        let mut hosts = Vec::new();
        for (index, host) in item.spec.hosts.iter().enumerate() {
            match HostPattern::parse(host) {
                Ok(pattern) => hosts.push(pattern),
                Err(error) => self.problems.push(text_problem(
                    "E030",
                    item.place.key("hosts").index(index),
                    &error,
                )),
            }
        }
        hosts
    }

    /// What is served on one listener. What is wrong with a route is said once, on however many it is.
    fn site(
        &mut self,
        item: &Named<document::Listener>,
        matchings: &[Option<Matching>],
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
            let Some(matching) = matching.as_ref().filter(|_| here) else {
                continue;
            };
            let Some(compiled) = self.route(route, &matching.facts, &inherited) else {
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

    fn route(
        &mut self,
        route: &document::Route,
        facts: &RouteFacts,
        inherited: &Specs,
    ) -> Option<Route> {
        let mut specs = route.policies.or(inherited);
        let action = self.action(route, facts);
        let proxied = matches!(action, Some(Action::Proxy(..)));
        if proxied && specs.response.spec().is_none() {
            // Addresses of the upstream are rewritten also where nobody asked for it.
            specs.response = Clause::On(Arc::default(), route.place.key("response"));
        }
        let mut found = Problems::default();
        let chain = specs.compile(&self.names, facts, &mut found);
        self.problems.absorb(found);
        Some(Route {
            name: route.name.as_str().into(),
            place: route.place.clone(),
            chain,
            action: action?,
        })
    }

    fn action(&mut self, route: &document::Route, facts: &RouteFacts) -> Option<Action> {
        let mut found = Problems::default();
        let action = match &route.action {
            document::Action::Upstream(name) => {
                let number = self.upstream(name, route.place.key("upstream"))?;
                let upstream = self.upstreams.get(number)?;
                Some(Action::Proxy(number, Arc::clone(upstream)))
            }
            document::Action::Redirect(redirect) => {
                let place = route.place.key("redirect");
                let mut env = self.env(facts, &place, &mut found);
                Redirection::compile(redirect, &mut env).map(Action::Redirect)
            }
            document::Action::Respond(respond) => {
                let place = route.place.key("respond");
                let file = self.document.files.get(&place.key("file"));
                let mut env = self.env(facts, &place, &mut found);
                let response = Response::compile(respond, file, &mut env);
                response.map(|response| Action::Respond(Box::new(response)))
            }
        };
        self.problems.absorb(found);
        action
    }

    fn env<'e>(
        &'e self,
        route: &'e RouteFacts,
        place: &'e Place,
        problems: &'e mut Problems,
    ) -> Env<'e> {
        let names = &self.names;
        Env {
            names,
            route,
            place,
            problems,
        }
    }
}

fn listed<'a, I: Iterator<Item = &'a str>>(names: I) -> String {
    names
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}
