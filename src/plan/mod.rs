//! What a request sees: immutable, linked, flat.

mod action;
mod addresses;
mod admin;
mod authentication;
mod breakers;
mod callers;
mod certificates;
mod clients;
mod compile;
mod conflicts;
mod entrance;
mod environments;
mod lists;
mod matching;
mod meters;
mod pages;
mod request_tests;
mod routes;
mod staples;
#[cfg(test)]
mod tests;
mod tokens;
mod upstreams;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use http::HeaderName;

pub use action::Redirection;
pub use admin::AdminDoors;
use arc_swap::ArcSwap;
pub use authentication::Authentication;
use breakers::Breakers;
pub use clients::Clients;
pub use compile::compile;
pub use entrance::{Balancers, Entrance};
use futures_util::future::join_all;
pub use pages::{Page, Pages};

use crate::base::net::{ListenAddress, NetSet};
use crate::base::problem::Place;
use crate::base::task::TaskGuard;
use crate::config::document::{Drain, Overload};
use crate::policy::auth::Means;
use crate::policy::{Chain, Response};
use crate::router::{HostPattern, Router};
use crate::telemetry::{self, RouteMetrics, Telemetry, UpstreamMetrics};
use crate::upstream::{Breaker, Outside, Prober, Upstream};

/// So many listeners, with those that were taken away while the gateway runs.
const LISTENERS_MAX: usize = 1024;
/// The key by which a route is called, not streamed, because a request of it may be at two targets at the same time.
pub const HEDGING: &str = "retries.hedge_after";
/// How long start-up waits for the names of an upstream's targets; later answers are taken as they come.
const NAMES_PATIENCE: Duration = Duration::from_secs(2);

/// A compiled config. Every request holds one from its first phase to its last.
#[derive(Debug)]
pub struct Plan {
    /// Counts the configs that were published, from 1.
    pub generation: u64,
    /// Worker threads; none = one a core.
    pub threads: Option<u16>,
    /// How long what is under way may go on when the process is asked to stop.
    pub drain: Drain,
    /// When new requests are sent away.
    pub overload: Overload,
    /// Where clients connect.
    pub listeners: Vec<Listener>,
    /// Where requests go.
    pub upstreams: Vec<Arc<Upstream>>,
    /// Who asks targets how they are.
    pub prober: Arc<Prober>,
    /// Who is known, and how.
    pub authentication: Authentication,
    /// Answers of our own.
    pub pages: Arc<Pages>,
    /// The id of this gateway in `Via`: a request that carries it has been here before.
    pub via: Arc<str>,
    /// Headers by which any route tells upstreams who is calling: nobody behind the gateway gets one that the client wrote.
    pub asserted: Box<[HeaderName]>,
    /// The doors of the admin interface.
    pub admin: AdminDoors,
    /// What is recorded.
    pub telemetry: telemetry::Spec,
    /// Where routes and their clauses stand, as `file:line:col`: only read when somebody asks.
    pub places: HashMap<Place, String>,
    /// The breakers of routes, each once.
    route_breakers: Vec<Arc<Breaker>>,
    upstream_metrics: OnceLock<Box<[UpstreamMetrics]>>,
}

/// A listener, and what is served on it.
#[derive(Debug)]
pub struct Listener {
    /// Its name.
    pub name: Arc<str>,
    /// Where it listens.
    pub addresses: Vec<ListenAddress>,
    /// The hosts that are answered here; none = any.
    pub hosts: Vec<HostPattern>,
    /// Peers whose word on the client is taken.
    pub trusted: NetSet,
    /// What comes before HTTP, and which HTTP it is.
    pub entrance: Entrance,
    /// What its clients may have, and how long they may take.
    pub clients: Clients,
    /// What is served.
    pub site: Arc<Site>,
    /// Whether it was taken out of the config: who is connected gets one more answer.
    pub retired: bool,
}

impl Listener {
    /// Who is counted as one client by the address `ip`; nobody if it is a proxy's, behind which there are many.
    #[must_use]
    pub fn client(&self, ip: IpAddr) -> Option<IpAddr> {
        (!self.trusted.contains(ip)).then_some(ip)
    }

    /// The same, but nobody can connect any more.
    fn retired(&self) -> Self {
        Self {
            name: Arc::clone(&self.name),
            addresses: Vec::new(),
            hosts: self.hosts.clone(),
            trusted: self.trusted.clone(),
            entrance: self.entrance.clone(),
            clients: self.clients,
            site: Arc::clone(&self.site),
            retired: true,
        }
    }
}

/// What is served on a listener.
pub struct Site {
    /// Which route a request falls under.
    pub router: Router<u32>,
    /// The routes; the last is the one of requests that fall under none.
    pub routes: Vec<Route>,
    /// Hosts at which the routes of another host are served: the other host, and what takes an upstream's place.
    pub environments: HashMap<Box<str>, EnvironmentHost>,
}

impl std::fmt::Debug for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Site")
            .field("routes", &self.routes)
            .finish_non_exhaustive()
    }
}

/// A host at which the routes of another are served.
#[derive(Debug)]
pub struct EnvironmentHost {
    /// The host whose routes they are.
    pub host: Box<str>,
    /// Upstream (by its number in the plan) and the one in its place.
    pub upstreams: HashMap<usize, Arc<Upstream>>,
}

/// One route on one site.
#[derive(Debug)]
pub struct Route {
    /// Its name.
    pub name: Arc<str>,
    /// Where it stands in the config.
    pub place: Place,
    /// What happens to its requests, before and after the action.
    pub chain: Chain,
    /// What it does.
    pub action: Action,
    /// The names of its path's parameters, in order.
    pub params: Box<[Box<str>]>,
    breakers: Breakers,
    metrics: OnceLock<RouteMetrics>,
}

impl Route {
    /// Its metrics, from the moment the plan was started.
    #[must_use]
    pub fn metrics(&self) -> Option<&RouteMetrics> {
        self.metrics.get()
    }
}

/// What a route does with a request.
#[derive(Debug)]
pub enum Action {
    /// Sends it upstream: the number in the plan, and the upstream.
    Proxy(usize, Arc<Upstream>),
    /// Sends the client elsewhere.
    Redirect(Redirection),
    /// Answers it.
    Respond(Box<Response>),
    /// Nothing is served here.
    NotFound,
}

impl Action {
    /// Its key in the config; of requests that fall under no route, what let them fall.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Proxy(..) => "upstream",
            Self::Redirect(_) => "redirect",
            Self::Respond(_) => "respond",
            Self::NotFound => "match",
        }
    }
}

impl Plan {
    /// Notes where every route and clause stands.
    pub fn locate(&mut self, at: impl Fn(&Place) -> String) {
        let sites = self.listeners.iter().map(|listener| &listener.site);
        let routes = sites.flat_map(|site| &site.routes);
        let places = routes.flat_map(|route| {
            let clauses = route.chain.places().iter();
            clauses.chain(std::iter::once(&route.place))
        });
        self.places = places.map(|place| (place.clone(), at(place))).collect();
    }

    /// The routes that are called, not streamed, in the order of the config, each with the clauses that need whole bodies.
    #[must_use]
    pub fn called(&self) -> Vec<(&str, Vec<&'static str>)> {
        let sites = self.listeners.iter().map(|listener| &listener.site);
        let mut called: Vec<(&str, Vec<&'static str>)> = Vec::new();
        for route in sites.flat_map(|site| &site.routes) {
            let Action::Proxy(_, upstream) = &route.action else {
                continue;
            };
            let retries = match route.chain.retries() {
                Some(own) => own.rules(),
                None => upstream.resilience().retries(),
            };
            let hedges = retries.is_some_and(|retries| retries.hedge_after().is_some());
            let clauses = route.chain.called_by().iter().copied();
            let shows = route.chain.shows_body();
            let shows = shows.filter(|clause| !route.chain.called_by().contains(clause));
            let clauses: Vec<_> = shows
                .into_iter()
                .chain(clauses)
                .chain(hedges.then_some(HEDGING))
                .collect();
            let known = called.iter().any(|(name, _)| **name == *route.name);
            if !clauses.is_empty() && !known {
                called.push((&route.name, clauses));
            }
        }
        called
    }

    /// The metrics of one of its upstreams, from the moment it was started.
    #[must_use]
    pub fn metrics_of(&self, upstream: &Upstream) -> Option<&UpstreamMetrics> {
        self.upstream_metrics.get()?.get(upstream.number())
    }

    /// Takes over from the plan in force: its generation, its name, and what lives behind names that both have.
    ///
    /// # Errors
    /// What only a restart can change.
    pub fn succeed(&mut self, old: &Self) -> Result<(), Vec<String>> {
        // Connections know their listener by its number: it stays, also where nobody can come in any more.
        let mut listeners = Vec::with_capacity(old.listeners.len() + self.listeners.len());
        for before in &old.listeners {
            let mut new = self.listeners.iter();
            let new = new.position(|new| new.name == before.name);
            listeners.push(match new {
                Some(at) => self.listeners.remove(at),
                None => before.retired(),
            });
        }
        listeners.append(&mut self.listeners);
        self.listeners = listeners;
        if self.listeners.len() > LISTENERS_MAX {
            return Err(vec!["too many listeners came and went".to_owned()]);
        }
        if self.admin != old.admin {
            return Err(vec!["`admin` is different".to_owned()]);
        }
        self.generation = old.generation + 1;
        self.via = Arc::clone(&old.via);
        self.prober = Arc::clone(&old.prober);
        for upstream in &self.upstreams {
            if let Some(before) = old
                .upstreams
                .iter()
                .find(|old| old.name() == upstream.name())
            {
                upstream.inherit(before);
            }
        }
        self.inherit_breakers(old);
        staples::inherit(self, old);
        let known = &self.authentication.consumers;
        known.inherit(&old.authentication.consumers);
        tokens::inherit(self, old);
        self.authentication.inherit(&old.authentication);
        Ok(())
    }

    /// Reads what has to be known before anybody may come in.
    ///
    /// # Errors
    /// It cannot be read, in words.
    pub async fn prepare(&self) -> Result<(), String> {
        self.authentication.consumers.prepare().await
    }

    /// Starts what needs a task, and waits a little for names; finds the metrics of every route and upstream.
    pub async fn start(&self, means: &Means, telemetry: &Telemetry) -> Vec<TaskGuard> {
        let (names, spawner, clock) = (&means.names, &means.spawner, &means.clock);
        for route in self
            .listeners
            .iter()
            .flat_map(|listener| &listener.site.routes)
        {
            route.metrics.get_or_init(|| telemetry.route(&route.name));
        }
        self.upstream_metrics.get_or_init(|| {
            let upstreams = self.upstreams.iter();
            upstreams
                .map(|upstream| telemetry.upstream(upstream.name()))
                .collect()
        });
        // All at once: names that nobody answers for cost the patience once, however many they are.
        let upstreams = self.upstreams.iter().map(async |upstream| {
            let outside = Outside {
                names,
                spawner,
                clock,
                prober: &self.prober,
                observer: telemetry.targets(upstream.name()),
                patience: NAMES_PATIENCE,
            };
            upstream.start(&outside).await
        });
        let (upstreams, authenticators) = tokio::join!(
            join_all(upstreams),
            self.authentication.start(means, telemetry)
        );
        let mut guards: Vec<_> = upstreams.into_iter().flatten().collect();
        guards.extend(authenticators);
        let spawn = |asking| spawner.spawn(asking);
        let known = self.authentication.consumers.watch(clock).await;
        guards.extend(known.map(|looking| spawner.spawn(looking)));
        let revoked = self.authentication.consumers.watch_revoked();
        guards.extend(revoked.map(|looking| spawner.spawn(looking)));
        guards.extend(tokens::start(self, names, spawner, clock).await);
        guards.extend(lists::keep(self).map(|watching| spawner.spawn(watching)));
        guards.extend(staples::keep(self, names, telemetry, clock).map(spawn));
        guards
    }
}

impl Site {
    /// The route of requests that fall under none.
    #[must_use]
    pub fn not_found(&self) -> usize {
        self.routes.len().saturating_sub(1)
    }

    /// The route number `index`.
    #[must_use]
    pub fn route(&self, index: usize) -> Option<&Route> {
        self.routes.get(index)
    }
}

/// The plan in force, with the tasks that work for it.
#[derive(Debug)]
pub struct PlanHandle {
    plan: ArcSwap<Plan>,
    tasks: Mutex<Vec<TaskGuard>>,
}

impl PlanHandle {
    /// Publishes the first plan.
    #[must_use]
    pub fn new(plan: Plan, tasks: Vec<TaskGuard>) -> Self {
        Self {
            plan: ArcSwap::from_pointee(plan),
            tasks: Mutex::new(tasks),
        }
    }

    /// The plan in force.
    #[must_use]
    pub fn load(&self) -> Arc<Plan> {
        self.plan.load_full()
    }

    /// Puts `plan` into force with one swap; the tasks of the one before it stop.
    pub fn publish(&self, plan: Plan, tasks: Vec<TaskGuard>) {
        self.plan.store(Arc::new(plan));
        let before = std::mem::replace(
            &mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner),
            tasks,
        );
        drop(before);
    }
}
