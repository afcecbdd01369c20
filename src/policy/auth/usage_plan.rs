//! `plans`: what the consumers of a plan may have; in this version, which routes they may call.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::problem::{Place, Problem, Problems, suggest};
use crate::exchange::UsagePlan;

/// So many plans: each route knows of each of them whether it is in it.
const PLANS_MAX: usize = 1000;

/// What the consumers of a plan may have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UsagePlanSpec {
    /// The routes, by name, that they may call; at any other that asks who is calling they get 403. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    routes: Option<Vec<String>>,
}

impl UsagePlanSpec {
    /// Whether it says which routes may be called.
    #[must_use]
    pub const fn names_routes(&self) -> bool {
        self.routes.is_some()
    }
}

/// The routes that a plan lets call; none = all.
type Routes = Option<Box<[Box<str>]>>;

/// Every plan, by name.
#[derive(Debug, Default)]
pub struct UsagePlans {
    known: BTreeMap<Box<str>, (Arc<UsagePlan>, Routes)>,
    /// What is written, but was refused: that somebody has it is no further mistake.
    refused: Vec<Box<str>>,
}

impl UsagePlans {
    /// Adds the plan `name`, which stands at `place`; `routes` are all that there are. Mistakes are reported.
    pub fn add(
        &mut self,
        (name, spec): (&str, &UsagePlanSpec),
        place: &Place,
        routes: &[&str],
        problems: &mut Problems,
    ) {
        let place = place.key("routes");
        let number = self.known.len();
        if number == PLANS_MAX {
            let what = format!("more than {PLANS_MAX} plans");
            let problem = Problem::error("E030", place.clone(), what);
            problems.push(problem.hint("let consumers share them"));
        }
        let named = spec.routes.as_deref();
        if named.is_some_and(<[String]>::is_empty) {
            let problem = Problem::error("E011", place.clone(), "no route");
            problems
                .push(problem.hint("name those that may be called, or leave `routes` out for all"));
        }
        for (index, route) in named.unwrap_or_default().iter().enumerate() {
            if !routes.contains(&route.as_str()) {
                let what = format!("unknown route `{}`", route.escape_debug());
                let problem = Problem::error("E031", place.index(index), what);
                let hint = suggest(route, routes.iter().copied());
                problems
                    .push(problem.hint(hint.unwrap_or_else(|| "no route has this name".into())));
            }
        }
        let named = named.map(|routes| routes.iter().map(|it| it.as_str().into()).collect());
        let plan = UsagePlan {
            name: name.into(),
            number,
        };
        self.known.insert(name.into(), (Arc::new(plan), named));
    }

    /// Notes that the plan `name` is written, but was refused.
    pub fn refuse(&mut self, name: &str) {
        self.refused.push(name.into());
    }

    /// The plan of this name; that there is none is reported, for the consumer whose plan it is.
    pub(super) fn of_consumer(
        &self,
        name: &str,
        place: Place,
        problems: &mut Problems,
    ) -> Option<Arc<UsagePlan>> {
        let found = self.by_name(name);
        if found.is_none() && !self.refused.iter().any(|refused| **refused == *name) {
            let what = format!("unknown plan `{}`", name.escape_debug());
            let hint = suggest(name, self.known.keys().map(|known| &**known));
            let hint =
                hint.unwrap_or_else(|| "no plan has this name: add it to `plans`".to_owned());
            problems.push(Problem::error("E031", place, what).hint(hint));
        }
        found.cloned()
    }

    /// The plan of this name.
    pub(super) fn by_name(&self, name: &str) -> Option<&Arc<UsagePlan>> {
        self.known.get(name).map(|(plan, _)| plan)
    }

    /// Which plans let the route of this name be called, by their numbers; nothing where all do.
    pub(super) fn of_route(&self, route: &str) -> Box<[bool]> {
        let mut lets = vec![false; self.known.len()];
        for (plan, routes) in self.known.values() {
            let named = |routes: &[Box<str>]| routes.iter().any(|name| **name == *route);
            if let Some(lets) = lets.get_mut(plan.number) {
                *lets = routes.as_deref().is_none_or(named);
            }
        }
        if lets.iter().all(|lets| *lets) {
            lets.clear();
        }
        lets.into()
    }
}
