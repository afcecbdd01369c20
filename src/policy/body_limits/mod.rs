//! How long bodies may be: a request that says it is longer is refused before it is read, one that is longer breaks off.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Env, Hooks, Stage};
use crate::base::units::ByteSize;
use crate::exchange::{Exchange, Fault, RequestHead, Verdict};

/// Limits for the bodies of a route.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The longest body of a request; a longer one gets 413. Of calls of gRPC it is the longest message, and WebSockets have
    /// `max_message`. Default `10MiB`.
    #[serde(default = "ten_mebibytes")]
    request: ByteSize,
    /// The longest body of an answer; one that says it is longer gives 502, one that is longer is cut; calls of gRPC are free of
    /// it. Default: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    response: Option<ByteSize>,
}

const fn ten_mebibytes() -> ByteSize {
    ByteSize::from_mib(10)
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            request: ten_mebibytes(),
            response: None,
        }
    }
}

/// The limits in bytes.
#[derive(Debug)]
pub struct BodyLimits {
    request: u64,
    response: Option<u64>,
}

impl Spec {
    /// Makes the policy.
    pub fn compile(&self, _env: &mut Env<'_>) -> Option<BodyLimits> {
        Some(BodyLimits {
            request: self.request.bytes(),
            response: self.response.as_ref().map(|size| size.bytes()),
        })
    }
}

impl Hooks for BodyLimits {
    const STAGE: Stage = Stage::Shield;

    fn on_request(&self, _head: &RequestHead, ex: &mut Exchange) -> Result<Verdict, Fault> {
        ex.limits.request = Some(self.request);
        ex.limits.response = self.response;
        if ex
            .framing
            .content_length
            .is_some_and(|length| length > self.request)
        {
            return Err(Fault::BodyTooLarge);
        }
        Ok(Verdict::Continue)
    }
}
