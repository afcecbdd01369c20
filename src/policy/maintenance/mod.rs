//! Closes a route for a while: 503 with a time to come back and a friendly sentence.

use std::sync::Arc;

use http::HeaderValue;
use http::header::RETRY_AFTER;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Env, Hooks, Stage};
use crate::base::units::Span;
use crate::exchange::{Edit, Exchange, Fault, RequestHead, Verdict};

/// Answers every request of the route with 503.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// When to come back, e.g. `10m`; sent as `Retry-After` in whole seconds, at least 1. Default `1m`.
    #[serde(default = "a_minute")]
    retry_after: Span,
    /// What to tell people, e.g. `Back at noon.` Default: that the address is closed for maintenance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

const fn a_minute() -> Span {
    Span::from_secs(60)
}

/// A closed route.
#[derive(Debug)]
pub struct Maintenance {
    retry_after: HeaderValue,
    message: Option<Arc<str>>,
}

impl Spec {
    /// Makes the policy.
    pub fn compile(&self, _env: &mut Env<'_>) -> Option<Maintenance> {
        let seconds = self.retry_after.duration().as_secs().max(1);
        Some(Maintenance {
            retry_after: HeaderValue::from(seconds),
            message: self.message.as_deref().map(Arc::from),
        })
    }
}

impl Hooks for Maintenance {
    const STAGE: Stage = Stage::Shield;

    fn on_request(&self, _head: &RequestHead, ex: &mut Exchange) -> Result<Verdict, Fault> {
        ex.to_client
            .push(Edit::Set(RETRY_AFTER, self.retry_after.clone()));
        ex.detail.clone_from(&self.message);
        Err(Fault::Maintenance)
    }

    fn explain(&self, _ex: &Exchange) -> Option<String> {
        self.message.as_deref().map(str::to_owned)
    }
}
