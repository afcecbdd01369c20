//! The time of day and the time that passes, behind a trait, so that tests can move both.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where our own code reads the time. Pingora's and the kernel's timers stay real.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// The time of day in milliseconds since 1970-01-01 UTC; for dates in the config and for headers.
    fn unix_millis(&self) -> i64;
    /// A point on a line that never goes back; for durations.
    fn instant(&self) -> Instant;
}

/// A clock that can be handed around.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's own clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the wall clock"
    )]
    fn unix_millis(&self) -> i64 {
        millis(
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
        )
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the monotonic clock"
    )]
    fn instant(&self) -> Instant {
        Instant::now()
    }
}

/// A clock that stands still until a test moves it.
#[derive(Debug)]
pub struct ManualClock {
    start: Instant,
    origin_millis: i64,
    passed_millis: AtomicI64,
}

impl ManualClock {
    /// Starts at `unix_millis`.
    #[must_use]
    pub fn at(unix_millis: i64) -> Self {
        Self {
            start: SystemClock.instant(),
            origin_millis: unix_millis,
            passed_millis: AtomicI64::new(0),
        }
    }

    /// Moves both times forward.
    pub fn advance(&self, by: Duration) {
        self.passed_millis.fetch_add(millis(by), Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn unix_millis(&self) -> i64 {
        self.origin_millis
            .saturating_add(self.passed_millis.load(Ordering::Relaxed))
    }

    fn instant(&self) -> Instant {
        let passed = u64::try_from(self.passed_millis.load(Ordering::Relaxed)).unwrap_or(0);
        self.start + Duration::from_millis(passed)
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
