//! What a request sees: immutable, linked, flat.

mod action;
mod compile;
mod conflicts;
mod environments;
mod matching;
mod pages;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

pub use action::{Redirection, Response};
use arc_swap::ArcSwap;
pub use compile::compile;
pub use pages::{Page, Pages};

use crate::base::net::{ListenAddress, NetSet};
use crate::base::problem::Place;
use crate::base::task::{Spawner, TaskGuard};
use crate::policy::Chain;
use crate::router::{HostPattern, Router};
use crate::upstream::{Names, Upstream};

/// How long start-up waits for the names of an upstream's targets; later answers are taken as they come.
const NAMES_PATIENCE: Duration = Duration::from_secs(2);

/// A compiled config. Every request holds one from its first phase to its last.
#[derive(Debug)]
pub struct Plan {
    /// Counts the configs that were published, from 1.
    pub generation: u64,
    /// Worker threads; none = one a core.
    pub threads: Option<u16>,
    /// Where clients connect.
    pub listeners: Vec<Listener>,
    /// Where requests go.
    pub upstreams: Vec<Arc<Upstream>>,
    /// Answers of our own.
    pub pages: Arc<Pages>,
    /// The id of this gateway in `Via`: a request that carries it has been here before.
    pub via: Arc<str>,
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
    /// What is served.
    pub site: Arc<Site>,
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

impl Plan {
    /// Starts what needs a task, and waits a little for names.
    pub async fn start(&self, names: &Arc<dyn Names>, spawner: &Spawner) -> Vec<TaskGuard> {
        let mut guards = Vec::new();
        for upstream in &self.upstreams {
            guards.extend(upstream.start(names, spawner, NAMES_PATIENCE).await);
        }
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

/// The plan in force.
#[derive(Debug)]
pub struct PlanHandle(ArcSwap<Plan>);

impl PlanHandle {
    /// Publishes the first plan.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        Self(ArcSwap::from_pointee(plan))
    }

    /// The plan in force.
    #[must_use]
    pub fn load(&self) -> Arc<Plan> {
        self.0.load_full()
    }
}
