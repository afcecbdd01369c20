//! How fast a client sends its body or takes its answer, over the time in which it is waited for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// This much waiting is forgiven before the pace counts.
const GRACE: Duration = Duration::from_secs(10);

/// One direction of one request. Times are milliseconds after the request's start.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Since when the client is waited for, and one more; 0 = it is not.
    since: AtomicU64,
    /// How long it was waited for before that.
    waited: AtomicU64,
    bytes: AtomicU64,
}

impl Pace {
    /// From now on it is the client that is waited for.
    pub(super) fn waits(&self, now: u64) {
        if self.since.load(Ordering::Relaxed) == 0 {
            self.since.store(now + 1, Ordering::Relaxed);
        }
    }

    /// So many bytes went, and the waiting is over.
    pub(super) fn went(&self, now: u64, bytes: usize) {
        self.passed(bytes);
        let since = self.since.swap(0, Ordering::Relaxed);
        if since > 0 {
            let waited = now.saturating_sub(since - 1);
            self.waited.fetch_add(waited, Ordering::Relaxed);
        }
    }

    /// So many bytes went; whether the client is waited for is as it was.
    pub(super) fn passed(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Whether it is the client that is waited for.
    pub(super) fn is_waiting(&self) -> bool {
        self.since.load(Ordering::Relaxed) > 0
    }

    /// How long the client was waited for, up to `now`.
    pub(super) fn waited(&self, now: u64) -> u64 {
        let since = self.since.load(Ordering::Relaxed).checked_sub(1);
        let present = since.map_or(0, |since| now.saturating_sub(since));
        self.waited.load(Ordering::Relaxed).saturating_add(present)
    }

    /// When the client is too slow for `rate` bytes in a second, if nothing goes until then.
    pub(super) fn due(&self, rate: u64) -> Option<u64> {
        let since = self.since.load(Ordering::Relaxed).checked_sub(1)?;
        let bytes = self.bytes.load(Ordering::Relaxed);
        let earned = bytes.saturating_mul(1000).checked_div(rate)?;
        let grace = u64::try_from(GRACE.as_millis()).unwrap_or(u64::MAX);
        let left = earned
            .max(grace)
            .saturating_sub(self.waited.load(Ordering::Relaxed));
        Some(since.saturating_add(left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_is_not_waited_for_is_never_too_slow() {
        let pace = Pace::default();
        assert_eq!(pace.due(256), None);
        pace.waits(5);
        pace.went(10, 1);
        assert_eq!(pace.due(256), None);
    }

    #[test]
    fn what_it_was_waited_for_is_added_up() {
        let pace = Pace::default();
        pace.waits(1000);
        pace.went(1500, 1);
        assert!(!pace.is_waiting());
        pace.waits(2000);
        assert!(pace.is_waiting());
        assert_eq!(pace.waited(2100), 600);
    }

    #[test]
    fn ten_seconds_are_forgiven_and_then_the_average_counts() {
        let pace = Pace::default();
        pace.waits(1000);
        assert_eq!(pace.due(256), Some(11_000));
        pace.went(6000, 256);
        pace.waits(7000);
        // Five seconds were waited for before, and 256 bytes earn no more than the grace does.
        assert_eq!(pace.due(256), Some(12_000));
        pace.went(7000, 256 * 60);
        pace.waits(8000);
        // 61 seconds are earned, and five are gone.
        assert_eq!(pace.due(256), Some(8000 + 61_000 - 5000));
    }
}
