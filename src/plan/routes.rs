//! One route: its chain, its action, and the breakers that are its own.

use std::sync::Arc;

use super::action::Redirection;
use super::breakers::Breakers;
use super::compile::Compiler;
use super::{Action, Route};
use crate::base::problem::{Place, Problem, Problems};
use crate::config::document;
use crate::link::{Clause, Env, RouteFacts};
use crate::policy::fallback::Fallback;
use crate::policy::{Chain, Response, Specs};
use crate::upstream::Upstream;

impl Compiler<'_> {
    pub(super) fn route(
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
        let name: Arc<str> = route.name.as_str().into();
        let action = action?;
        let breakers = self.breakers(&name, &chain, &action);
        Some(Route {
            name,
            place: route.place.clone(),
            chain,
            params: facts
                .params
                .iter()
                .map(|name| name.as_str().into())
                .collect(),
            action,
            breakers,
            metrics: std::sync::OnceLock::new(),
        })
    }

    /// The breakers of a route, for each upstream that it may go to.
    fn breakers(&mut self, name: &Arc<str>, chain: &Chain, action: &Action) -> Breakers {
        let Action::Proxy(number, _) = action else {
            return Breakers::default();
        };
        let mut numbers = vec![*number];
        numbers.extend(chain.fallback().into_iter().flat_map(Fallback::numbers));
        let mut swapped = Vec::new();
        for (from, to) in &self.swaps {
            swapped.extend(numbers.contains(from).then_some(*to));
        }
        numbers.extend(swapped);
        numbers.extend(
            self.swaps
                .iter()
                .filter_map(|(from, to)| (from == number).then_some(*to)),
        );
        numbers.sort_unstable();
        numbers.dedup();
        let upstreams = numbers
            .iter()
            .filter_map(|number| self.upstreams.get(*number));
        let upstreams: Vec<Arc<Upstream>> = upstreams.cloned().collect();
        Breakers::of_route(name, chain, &upstreams, &mut self.breakers)
    }

    fn action(&mut self, route: &document::Route, facts: &RouteFacts) -> Option<Action> {
        let mut found = Problems::default();
        let action = match &route.action {
            document::Action::Upstream(name) => {
                let place = route.place.key("upstream");
                let number = self.upstream(name, |what| Problem::error("E031", place, what))?;
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
