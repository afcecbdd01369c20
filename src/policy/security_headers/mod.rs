//! Headers that make browsers careful with what they got.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Env, Hooks, Stage};
use crate::exchange::{Careful, Exchange, Fault, RequestHead, Verdict};

/// Headers that make browsers careful, on every answer of the route, also those of the gateway's own. What an upstream, or
/// `response`, says itself stays, but for `Strict-Transport-Security`: that is about the gateway's host, so the longer time
/// holds, and it is sent over TLS only.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Which headers.
    preset: Preset,
}

/// What is served.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// Answers to programs: nothing in them is shown, run or put into a frame.
    Api,
    /// Pages: they are put into frames of their own origin only, and tell others no more of themselves than their origin.
    Web,
}

/// Which headers.
#[derive(Debug)]
pub struct SecurityHeaders {
    careful: Careful,
}

impl Spec {
    /// Makes the policy.
    pub fn compile(&self, _env: &mut Env<'_>) -> Option<SecurityHeaders> {
        let careful = match self.preset {
            Preset::Api => Careful::Api,
            Preset::Web => Careful::Web,
        };
        Some(SecurityHeaders { careful })
    }
}

impl Hooks for SecurityHeaders {
    const STAGE: Stage = Stage::Cors;

    fn on_request(&self, _head: &RequestHead, ex: &mut Exchange) -> Result<Verdict, Fault> {
        ex.careful = Some(self.careful);
        Ok(Verdict::Continue)
    }
}
