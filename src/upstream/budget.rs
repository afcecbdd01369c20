//! How many requests may be sent again: a share of all that came in the last seconds, and a few more.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::base::units::Share;

/// How far back is looked.
const WINDOW_SECONDS: u64 = 10;
/// One for each second of the window, and the one that is being filled.
const BUCKETS: usize = 11;
/// So many may be sent again in a window, however few requests there are.
const LEAST: u64 = 3;
/// The room between two states of the jitter (the golden ratio of 2^64).
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// What was sent, and what was sent again. Without a lock; what it counts is at most a few requests behind.
#[derive(Debug)]
pub struct Budget {
    began: OnceLock<Instant>,
    buckets: [Bucket; BUCKETS],
    chance: AtomicU64,
}

/// One second.
#[derive(Debug, Default)]
struct Bucket {
    /// Which second it counts, from 1.
    second: AtomicU64,
    requests: AtomicU32,
    again: AtomicU32,
}

impl Default for Budget {
    fn default() -> Self {
        use std::hash::{BuildHasher as _, Hasher as _};
        Self {
            began: OnceLock::new(),
            buckets: Default::default(),
            chance: AtomicU64::new(std::hash::RandomState::new().build_hasher().finish()),
        }
    }
}

impl Budget {
    /// A request is sent for the first time.
    pub fn request(&self, now: Instant) {
        self.bucket(now).requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes the right to send a request again, where there is one: at most `share` of the requests in the window, and a few
    /// where there are hardly any.
    #[must_use]
    pub fn take(&self, share: Share, now: Instant) -> bool {
        let bucket = self.bucket(now);
        // Counted first, so that two who take the last one at the same time both see it.
        bucket.again.fetch_add(1, Ordering::Relaxed);
        let (requests, again) = self.counted(now);
        if again <= LEAST + share.of(requests) {
            return true;
        }
        bucket.again.fetch_sub(1, Ordering::Relaxed);
        false
    }

    /// A number that nobody can guess, below `below`; 0 where that is 0.
    #[must_use]
    pub fn chance(&self, below: u64) -> u64 {
        let mut state = self.chance.fetch_add(STEP, Ordering::Relaxed);
        // The mixer of SplitMix64.
        state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (state ^ (state >> 31)).checked_rem(below).unwrap_or(0)
    }

    /// Requests in the window, and how many of them were sent again.
    fn counted(&self, now: Instant) -> (u64, u64) {
        let second = self.second(now);
        let recent = self.buckets.iter().filter(|bucket| {
            let age = second.saturating_sub(bucket.second.load(Ordering::Relaxed));
            age < WINDOW_SECONDS
        });
        recent.fold((0, 0), |(requests, again), bucket| {
            (
                requests + u64::from(bucket.requests.load(Ordering::Relaxed)),
                again + u64::from(bucket.again.load(Ordering::Relaxed)),
            )
        })
    }

    fn second(&self, now: Instant) -> u64 {
        let began = *self.began.get_or_init(|| now);
        now.saturating_duration_since(began).as_secs() + WINDOW_SECONDS
    }

    fn bucket(&self, now: Instant) -> &Bucket {
        let [first, ..] = &self.buckets;
        let second = self.second(now);
        let at = usize::try_from(second).unwrap_or(0) % BUCKETS;
        let bucket = self.buckets.get(at).unwrap_or(first);
        let before = bucket.second.load(Ordering::Relaxed);
        if before < second {
            let relaxed = Ordering::Relaxed;
            // Whoever is first in a new second empties it; who counts in that very moment may be forgotten.
            let first = bucket
                .second
                .compare_exchange(before, second, relaxed, relaxed);
            if first.is_ok() {
                bucket.requests.store(0, relaxed);
                bucket.again.store(0, relaxed);
            }
        }
        bucket
    }
}

/// A pause before the next attempt: somewhere between `base` and three times the one before, at most `max` (decorrelated
/// jitter).
#[must_use]
pub(super) fn pause(budget: &Budget, base: Duration, max: Duration, before: Duration) -> Duration {
    let micros = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
    let most = micros(before).saturating_mul(3).max(micros(base));
    let room = most.saturating_sub(micros(base)).saturating_add(1);
    let pause = micros(base).saturating_add(budget.chance(room));
    Duration::from_micros(pause).min(max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::{Clock as _, SystemClock};

    #[test]
    fn a_fifth_of_the_requests_and_a_few_more_are_sent_again() {
        let (budget, now) = (Budget::default(), SystemClock.instant());
        let share = Share::from_percent(20);
        assert_eq!((0..10).filter(|_| budget.take(share, now)).count(), 3);
        (0..1000).for_each(|_| budget.request(now));
        let taken = (0..1000).filter(|_| budget.take(share, now)).count();
        assert_eq!(taken, 200);
        assert!(!budget.take(share, now + Duration::from_secs(9)));
    }

    #[test]
    fn what_is_long_ago_counts_no_more() {
        let (budget, now) = (Budget::default(), SystemClock.instant());
        let share = Share::from_percent(20);
        (0..1000).for_each(|_| budget.request(now));
        let later = now + Duration::from_secs(11);
        assert_eq!((0..1000).filter(|_| budget.take(share, later)).count(), 3);
        let much_later = now + Duration::from_secs(3600);
        assert_eq!((0..9).filter(|_| budget.take(share, much_later)).count(), 3);
    }

    #[test]
    fn threads_together_take_no_more_than_there_is() {
        let (budget, now) = (Budget::default(), SystemClock.instant());
        (0..1000).for_each(|_| budget.request(now));
        let share = Share::from_percent(10);
        let taken = std::thread::scope(|scope| {
            let take = || (0..1000).filter(|_| budget.take(share, now)).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            threads
                .into_iter()
                .map(|it| it.join().unwrap())
                .sum::<usize>()
        });
        assert!((1..=103).contains(&taken), "{taken}");
    }

    #[test]
    fn pauses_stay_within_their_bounds_and_differ() {
        let budget = Budget::default();
        let (base, max) = (Duration::from_millis(25), Duration::from_millis(250));
        let mut seen = std::collections::BTreeSet::new();
        let mut before = Duration::ZERO;
        for _ in 0..1000 {
            before = pause(&budget, base, max, before);
            assert!((base..=max).contains(&before), "{before:?}");
            seen.insert(before);
        }
        assert!(seen.len() > 100, "{}", seen.len());
    }
}
