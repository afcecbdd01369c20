//! How long this route's requests may take, in place of what their upstream says.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Env, Hooks, Stage};
use crate::base::problem::Problem;
use crate::exchange::{Exchange, Fault, RequestHead, Verdict};
use crate::upstream::{Timeouts as Times, TimeoutsSpec};

/// As an upstream's `timeouts`, which this clause replaces as a whole.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Spec(TimeoutsSpec);

/// The times, ready to be used.
#[derive(Debug)]
pub struct Timeouts(Times);

impl Spec {
    /// Makes the policy.
    pub fn compile(&self, env: &mut Env<'_>) -> Option<Timeouts> {
        for key in self.0.zeros() {
            let problem = Problem::error("E030", env.place.key(key), "no time at all");
            env.problem(
                problem.hint("a time of 1ms or more; to have the default, take the key out"),
            );
        }
        Some(Timeouts(self.0.compile()))
    }
}

impl Hooks for Timeouts {
    const STAGE: Stage = Stage::Act;

    fn on_request(&self, _head: &RequestHead, ex: &mut Exchange) -> Result<Verdict, Fault> {
        ex.timeouts = Some(self.0);
        Ok(Verdict::Continue)
    }
}
