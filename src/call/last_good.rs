//! The last good answer to a request, for when there is no new one.

use std::time::Duration;

use super::Answer;
use crate::exchange::{Exchange, RequestHead};

/// Who remembers answers.
pub trait LastGood: std::fmt::Debug + Send + Sync {
    /// The last good answer to this request for this client, if it is no older than `age_max`; and how old it is.
    fn find(
        &self,
        asked: &RequestHead,
        exchange: &Exchange,
        age_max: Duration,
    ) -> Option<(Answer, Duration)>;
}

/// Nobody does: answers are not stored in this version.
#[derive(Debug, Clone, Copy, Default)]
pub struct Forgetful;

impl LastGood for Forgetful {
    fn find(&self, _: &RequestHead, _: &Exchange, _: Duration) -> Option<(Answer, Duration)> {
        None
    }
}
