//! When nothing of this route is sent to its upstream for a while, in place of what the upstream says.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Env, Hooks, Stage};
use crate::base::problem::Problem;
use crate::upstream::BreakerSpec;

/// As an upstream's `circuit_breaker`, which this clause replaces as a whole: this route has a breaker of its own for each upstream.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Spec(BreakerSpec);

/// The rules of the route; none: nothing is ever held back.
#[derive(Debug)]
pub struct CircuitBreaker(Option<BreakerSpec>);

impl Spec {
    /// Makes the policy.
    pub fn compile(&self, env: &mut Env<'_>) -> Option<CircuitBreaker> {
        for (keys, what, hint) in self.0.mistakes() {
            let place = keys.iter().fold(env.place.clone(), |at, key| at.key(key));
            env.problem(Problem::error("E030", place, what).hint(hint));
        }
        Some(CircuitBreaker(Some(self.0.clone())))
    }
}

impl CircuitBreaker {
    /// `none`: also what the upstream says does not hold.
    pub(super) const fn off() -> Self {
        Self(None)
    }

    /// The rules.
    #[must_use]
    pub const fn rules(&self) -> Option<&BreakerSpec> {
        self.0.as_ref()
    }
}

impl Hooks for CircuitBreaker {
    const STAGE: Stage = Stage::Act;
    const ON_REQUEST: bool = false;

    fn circuit_breaker(&self) -> Option<&Self> {
        Some(self)
    }
}
