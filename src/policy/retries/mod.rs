//! When this route's requests are sent again, in place of what their upstream says.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Env, Hooks, Stage};
use crate::base::problem::Problem;
use crate::upstream::{Retries as Rules, RetriesSpec};

/// As an upstream's `retries`, which this clause replaces as a whole.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Spec(RetriesSpec);

/// The rules of the route; none: nothing is sent again.
#[derive(Debug)]
pub struct Retries(Option<Rules>);

impl Spec {
    /// Makes the policy.
    pub fn compile(&self, env: &mut Env<'_>) -> Option<Retries> {
        for (keys, what, hint) in self.0.mistakes() {
            let place = keys.iter().fold(env.place.clone(), |at, key| at.key(key));
            env.problem(Problem::error("E030", place, what).hint(hint));
        }
        Some(Retries(Some(self.0.compile())))
    }
}

impl Retries {
    /// `none`: also what the upstream says does not hold.
    pub(super) const fn off() -> Self {
        Self(None)
    }

    /// The rules.
    #[must_use]
    pub const fn rules(&self) -> Option<&Rules> {
        self.0.as_ref()
    }
}

impl Hooks for Retries {
    const STAGE: Stage = Stage::Act;
    const ON_REQUEST: bool = false;

    fn retries(&self) -> Option<&Self> {
        Some(self)
    }
}
