//! A dead target must not fill the log: the same warning is written so often a second, and no more.

use std::time::Duration;

use pingora_limits::rate::Rate;

/// Warnings about one thing in one second.
const PER_SECOND: isize = 10;

/// Holds back warnings that repeat. An estimate is enough here: it may hold back one too many, never one too few.
pub(super) struct Throttle(Rate);

impl Throttle {
    /// Nothing was written yet.
    pub(super) fn new() -> Self {
        Self(Rate::new(Duration::from_secs(1)))
    }

    /// Whether a warning about `what` is written.
    pub(super) fn admits(&self, what: &str) -> bool {
        self.0.observe(&what, 1) <= PER_SECOND
    }
}

impl std::fmt::Debug for Throttle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Throttle").finish_non_exhaustive()
    }
}
