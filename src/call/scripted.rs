//! An upstream that is not asked: what it would say is written down.

use bytes::Bytes;

use super::{Answer, Failed, Terms};
use crate::exchange::{Exchange, Fault, ResponseHead, Upgrade, check_answer};
use crate::upstream::Upstream;

/// What an upstream would say.
#[derive(Debug)]
pub struct Scripted {
    /// The head of its answer.
    pub head: ResponseHead,
    /// The body.
    pub body: Bytes,
    /// It does not answer, and why.
    pub fail: Option<Fault>,
}

impl Scripted {
    /// Answers one call.
    pub(super) fn call(
        &self,
        upstream: &Upstream,
        terms: &Terms<'_>,
        exchange: &mut Exchange,
    ) -> Result<Answer, Failed> {
        exchange.attempts = exchange.attempts.saturating_add(1);
        // What an answer says of the target is rewritten, as it is for a real one.
        exchange.target = upstream.authorities().next().map(Into::into);
        if let Some(fault) = self.fail {
            return Err(Failed::new(fault, "as it is written"));
        }
        let mut head = self.head.clone();
        check_answer(&mut head, Upgrade::None, &mut 0).map_err(refused)?;
        if self.body.len() as u64 > terms.answer_max {
            return Err(too_large());
        }
        let body = self.body.clone();
        Ok(Answer { head, body })
    }
}

/// The head is none that could be passed on.
pub(super) fn refused(why: &'static str) -> Failed {
    Failed::new(Fault::ProtocolError, why)
}

/// The answer is longer than it may be.
pub(super) fn too_large() -> Failed {
    Failed::new(Fault::ResponseTooLarge, "the answer is too large")
}
