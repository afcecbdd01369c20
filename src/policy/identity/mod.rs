//! What the upstream is told of the caller: headers that only the gateway writes.

use std::collections::BTreeMap;

use http::HeaderName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::headers::{HeaderChanges, HeaderText, compile_set};
use super::{Env, Hooks, Stage};
use crate::base::problem::Problem;
use crate::exchange::{Exchange, Facts, Fault, RequestHead, Verdict};
use crate::expr::Moment;

/// What the upstream is told of the caller.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Header and value, e.g. `x-user-id: "{auth.sub}"`. What the client sent under these names is taken off first; a value
    /// that is missing sends no header.
    headers: BTreeMap<String, HeaderText>,
}

/// Headers about the caller.
#[derive(Debug)]
pub struct Told {
    headers: HeaderChanges,
}

impl Spec {
    /// Whether it quotes what is known of the caller.
    #[must_use]
    pub fn tells_who(&self) -> bool {
        self.headers.values().any(HeaderText::quotes_caller)
    }

    /// Makes the policy.
    pub fn compile(&self, env: &mut Env<'_>) -> Option<Told> {
        if self.headers.is_empty() {
            let place = env.place.key("headers");
            let problem = Problem::error("E011", place, "no header");
            env.problem(problem.hint("e.g. `x-user-id: \"{auth.sub}\"`"));
        }
        let place = env.place.key("headers");
        let headers = compile_set(&self.headers, env, &place, Moment::Request);
        Some(Told { headers })
    }
}

impl Hooks for Told {
    const STAGE: Stage = Stage::Act;

    fn on_request(&self, head: &RequestHead, ex: &mut Exchange) -> Result<Verdict, Fault> {
        let mut edits = std::mem::take(&mut ex.to_upstream.headers);
        self.headers.render(&Facts::of(head, ex), &mut edits);
        ex.to_upstream.headers = edits;
        Ok(Verdict::Continue)
    }

    fn asserts(&self) -> Box<dyn Iterator<Item = &HeaderName> + '_> {
        Box::new(self.headers.names())
    }
}
