//! What is under way at one target, and how long it takes. It outlives publications and reloads.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// After so many seconds an old time counts a third (1/e): longer than a pause of a collector, shorter than a deployment.
const DECAY: f64 = 10.0;
/// A product is done sooner than a division.
const PER_SECOND: f64 = 1.0 / DECAY;
/// Nobody is done sooner: what is idle and unknown is worth a try.
const LEAST: f64 = 1_000.0;
/// What is unknown and busy gets no more before it is known: an hour, in nanoseconds.
const UNKNOWN: f64 = 3.6e12;
/// What was not heard of for so long is unknown again.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// The load of one target.
#[derive(Debug, Default)]
pub(in crate::upstream) struct Load {
    in_flight: AtomicU32,
    /// Nanoseconds that a request takes, as the bits of an `f64`, and when that was known. Written together often enough:
    /// whoever reads one of them too old is wrong by one request.
    takes: AtomicU64,
    seen: AtomicU64,
}

impl Load {
    /// A request begins.
    pub(in crate::upstream) fn enter(&self) {
        // Relaxed, here and below: numbers alone, nothing is published through them.
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// A request begins, unless that would be more than `cap`.
    pub(in crate::upstream) fn enter_below(&self, cap: u32) -> bool {
        let more = |now: u32| (now < cap).then_some(now + 1);
        self.in_flight
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .is_ok()
    }

    /// A request is over.
    pub(in crate::upstream) fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many requests are under way.
    pub(in crate::upstream) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// A request took so long; `now` is in nanoseconds. What takes longer than expected is believed at once, what takes less
    /// by and by.
    pub(in crate::upstream) fn took(&self, time: Duration, now: u64) {
        let fresh = time.as_secs_f64() * 1e9;
        let known = f64::from_bits(self.takes.load(Ordering::Relaxed));
        let kept = self.kept(now);
        let takes = if fresh > known {
            fresh
        } else {
            known * kept + fresh * (1.0 - kept)
        };
        self.takes.store(takes.to_bits(), Ordering::Relaxed);
        self.seen.store(now, Ordering::Relaxed);
    }

    /// A request took longer than this; how long, nobody knows.
    pub(in crate::upstream) fn took_longer(&self, time: Duration, now: u64) {
        let known = f64::from_bits(self.takes.load(Ordering::Relaxed));
        if time.as_secs_f64() * 1e9 > known {
            self.took(time, now);
        }
    }

    /// How long one more request would take at a target of this weight, in nanoseconds. A time that nobody confirmed for long
    /// is forgotten, so that a target that was slow once is tried again, by one request first.
    pub(in crate::upstream) fn expected(&self, now: u64, weight: u32) -> f64 {
        let in_flight = self.in_flight();
        let waiting = f64::from(in_flight) / f64::from(weight.max(1));
        let takes = f64::from_bits(self.takes.load(Ordering::Relaxed));
        let since = now.saturating_sub(self.seen.load(Ordering::Relaxed));
        if takes == 0.0 || Duration::from_nanos(since) >= FORGOTTEN {
            return LEAST + UNKNOWN * waiting;
        }
        (takes * self.kept(now)).max(LEAST) * (waiting + 1.0)
    }

    /// What is left of an old time.
    fn kept(&self, now: u64) -> f64 {
        let since = now.saturating_sub(self.seen.load(Ordering::Relaxed));
        let x = Duration::from_nanos(since).as_secs_f64() * PER_SECOND;
        // The beginning of e^x: as good here, and each choice does it twice.
        (1.0 + x * (1.0 + x * (0.5 + x / 6.0))).recip()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_together_stay_below_the_cap_and_leave_nothing() {
        let load = Load::default();
        let count = || {
            for now in 0..20_000 {
                if load.enter_below(3) {
                    assert!(load.in_flight() <= 3);
                    load.took(Duration::from_millis(5), now);
                    load.leave();
                }
            }
        };
        std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(count))));
        assert_eq!(load.in_flight(), 0);
        // Two words that are written apart are believed together only within their bounds.
        let expected = load.expected(20_000, 1);
        assert!((LEAST..=5.1e6).contains(&expected), "{expected}");
    }
}
