//! The breakers of routes: one for each upstream that a route may go to, on whichever listener it is served.

use std::sync::Arc;

use super::{Plan, Route};
use crate::policy::Chain;
use crate::upstream::{Breaker, Upstream};

/// Which breaker holds for the requests of a route.
#[derive(Debug, Default)]
pub(super) enum Breakers {
    /// Its upstream's.
    #[default]
    OfUpstream,
    /// None.
    Off,
    /// Its own, each with the number of its upstream.
    Own(Box<[(usize, Arc<Breaker>)]>),
}

impl Breakers {
    /// What `chain` says for the route `name`, which may go to `upstreams`. A breaker that is in `known` is shared.
    pub(super) fn of_route(
        name: &Arc<str>,
        chain: &Chain,
        upstreams: &[Arc<Upstream>],
        known: &mut Vec<Arc<Breaker>>,
    ) -> Self {
        let Some(clause) = chain.circuit_breaker() else {
            return Self::OfUpstream;
        };
        let Some(rules) = clause.rules() else {
            return Self::Off;
        };
        let own = upstreams.iter().map(|upstream| {
            let same = known.iter().find(|it| {
                it.route() == Some(name) && it.upstream() == upstream.name() && it.has_rules(rules)
            });
            let breaker = same.cloned().unwrap_or_else(|| {
                let upstream = Arc::clone(upstream.name());
                let new = Arc::new(Breaker::new(rules, Some(Arc::clone(name)), upstream));
                known.push(Arc::clone(&new));
                new
            });
            (upstream.number(), breaker)
        });
        Self::Own(own.collect())
    }

    /// The breaker for requests to `upstream`.
    #[must_use]
    fn of<'a>(&'a self, upstream: &'a Upstream) -> Option<&'a Arc<Breaker>> {
        match self {
            Self::OfUpstream => upstream.resilience().breaker(),
            Self::Off => None,
            Self::Own(own) => {
                let mut own = own.iter();
                let own = own.find(|(number, _)| *number == upstream.number());
                own.map(|(_, breaker)| breaker)
            }
        }
    }
}

impl Plan {
    /// Every breaker: those of upstreams, then those of routes.
    pub fn breakers(&self) -> impl Iterator<Item = &Arc<Breaker>> {
        let upstreams = self.upstreams.iter();
        let of_upstreams = upstreams.filter_map(|upstream| upstream.resilience().breaker());
        of_upstreams.chain(&self.route_breakers)
    }

    /// Goes on with what the breakers of `old` have seen; those of upstreams did already.
    pub(super) fn inherit_breakers(&self, old: &Self) {
        for breaker in &self.route_breakers {
            let mut before = old.route_breakers.iter();
            let before = before
                .find(|it| it.route() == breaker.route() && it.upstream() == breaker.upstream());
            if let Some(before) = before {
                breaker.inherit(before);
            }
        }
    }
}

impl Route {
    /// The breaker for its requests to `upstream`.
    #[must_use]
    pub fn breaker<'a>(&'a self, upstream: &'a Upstream) -> Option<&'a Arc<Breaker>> {
        self.breakers.of(upstream)
    }
}
