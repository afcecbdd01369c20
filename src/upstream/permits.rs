//! How many requests an upstream has at a time: a fixed number, or one that follows how it fares; a few wait.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::breaker::Fared;
use crate::base::units::Span;

/// No upstream has more at a time.
const LIMIT_MAX: u32 = 1_000_000;
/// So many answers are looked at before the limit changes, however low it is.
const SAMPLES_LEAST: u32 = 10;
/// Answers that take so much longer than usual, in percent, are no sign of a queue yet.
const TOLERANCE: u64 = 150;
/// The usual time follows what is slower by one part in so many: were it quicker, a queue that grows would become usual.
const USUAL_PARTS: u64 = 1024;

/// How many requests are under way at the upstream at a time. What is more waits, or gets 503.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConcurrencySpec {
    /// So many: 1 to 1000000. This, or `adaptive`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub limit: Option<u32>,
    /// As many as the upstream serves without getting slower: found out by how long answers take and how many fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adaptive: Option<AdaptiveSpec>,
    /// How many wait for their turn, first come first served. Default 0: none.
    #[serde(default)]
    #[schemars(range(max = 1_000_000))]
    pub queue: u32,
    /// How long each of them waits at most. Default `100ms`.
    #[serde(default = "a_moment")]
    pub queue_timeout: Span,
}

/// Between which bounds an adaptive limit stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AdaptiveSpec {
    /// The lowest limit, with which it begins: 1 to 1000000. Default 16.
    #[serde(default = "sixteen")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub min: u32,
    /// The highest: 1 to 1000000. Default 1024.
    #[serde(default = "a_thousand")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max: u32,
}

const fn a_moment() -> Span {
    Span::from_millis(100)
}
const fn sixteen() -> u32 {
    16
}
const fn a_thousand() -> u32 {
    1024
}

impl ConcurrencySpec {
    /// What means nothing: the key, what is wrong, and how to mend it.
    #[must_use]
    pub fn mistakes(&self) -> Vec<(&'static [&'static str], String, &'static str)> {
        let mut found = Vec::new();
        let counted = |number: u32| (1..=LIMIT_MAX).contains(&number);
        let range = "1 to 1000000";
        match (self.limit, &self.adaptive) {
            (None, None) => {
                let hint = "write `limit: 512`, or `adaptive: { min: 16, max: 1024 }`";
                found.push((&[][..], "neither `limit` nor `adaptive`".to_owned(), hint));
            }
            (Some(_), Some(_)) => {
                let what = "both `limit` and `adaptive`".to_owned();
                found.push((&["adaptive"][..], what, "keep one of them"));
            }
            (Some(limit), None) if !counted(limit) => {
                found.push((&["limit"][..], format!("a limit of {limit}"), range));
            }
            (None, Some(bounds)) => {
                for (key, bound) in [
                    (&["adaptive", "min"][..], bounds.min),
                    (&["adaptive", "max"][..], bounds.max),
                ] {
                    if !counted(bound) {
                        found.push((key, format!("a limit of {bound}"), range));
                    }
                }
                if bounds.max < bounds.min {
                    let what = format!("`max` is less than `min`: {}", bounds.max);
                    found.push((&["adaptive", "max"][..], what, "`min` or more"));
                }
            }
            (Some(_), None) => {}
        }
        if self.queue > LIMIT_MAX {
            found.push((
                &["queue"][..],
                format!("a queue of {}", self.queue),
                "0 to 1000000",
            ));
        }
        if self.queue > 0 && self.queue_timeout.duration().is_zero() {
            let hint = "a time of 1ms or more; for no queue, take `queue` out";
            found.push((&["queue_timeout"][..], "nobody would wait".to_owned(), hint));
        }
        found
    }

    fn bounds(&self) -> (u32, u32) {
        match (&self.adaptive, self.limit) {
            (Some(bounds), _) => (bounds.min.max(1), bounds.max.max(bounds.min.max(1))),
            (None, limit) => (limit.unwrap_or(LIMIT_MAX), limit.unwrap_or(LIMIT_MAX)),
        }
    }
}

/// The places of an upstream.
#[derive(Debug)]
pub struct Permits {
    spec: ConcurrencySpec,
    places: OnceLock<Arc<Places>>,
}

/// The places themselves: they outlive the config.
#[derive(Debug)]
struct Places {
    free: Arc<Semaphore>,
    limit: AtomicU32,
    /// So many places are to go as soon as they are free.
    debt: AtomicU32,
    taken: AtomicU32,
    waiting: AtomicU32,
    refused: AtomicU64,
    samples: Samples,
}

/// What was seen since the limit changed last.
#[derive(Debug, Default)]
struct Samples {
    count: AtomicU32,
    micros: AtomicU64,
    bad: AtomicU32,
    /// The most that were under way.
    most: AtomicU32,
    /// How long an answer usually takes, in microseconds; 0 = not known.
    usual: AtomicU64,
    turn: Mutex<()>,
}

/// A place that is taken. Whoever drops it gives it back.
#[derive(Debug)]
pub struct Permit {
    permits: Arc<Permits>,
    place: Option<OwnedSemaphorePermit>,
}

/// What an upstream tells about its places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crowd {
    /// How many requests are under way.
    pub taken: u32,
    /// How many may be.
    pub limit: u32,
    /// How many wait.
    pub waiting: u32,
    /// How many were sent away so far.
    pub refused: u64,
}

impl Permits {
    /// Free places.
    #[must_use]
    pub fn new(spec: &ConcurrencySpec) -> Self {
        Self {
            spec: spec.clone(),
            places: OnceLock::new(),
        }
    }

    /// Goes on with the places of `before`: who holds one there is counted here.
    pub fn inherit(&self, before: &Self) {
        let places = Arc::clone(before.places());
        let (min, max) = self.spec.bounds();
        let limit = places.limit.load(Ordering::Relaxed).clamp(min, max);
        places.set_limit(limit);
        drop(self.places.set(places));
    }

    fn places(&self) -> &Arc<Places> {
        self.places.get_or_init(|| {
            let (first, _) = self.spec.bounds();
            Arc::new(Places {
                free: Arc::new(Semaphore::new(usize::try_from(first).unwrap_or(1))),
                limit: AtomicU32::new(first),
                debt: AtomicU32::new(0),
                taken: AtomicU32::new(0),
                waiting: AtomicU32::new(0),
                refused: AtomicU64::new(0),
                samples: Samples::default(),
            })
        })
    }

    /// Takes a place, or waits for one as long as the config lets it; none: the request has to go.
    pub async fn take(self: &Arc<Self>) -> Option<Permit> {
        if let Some(permit) = self.take_now() {
            return Some(permit);
        }
        let places = self.places();
        let queue = self.spec.queue;
        let more = |waiting: u32| (waiting < queue).then_some(waiting + 1);
        let relaxed = Ordering::Relaxed;
        if places.waiting.fetch_update(relaxed, relaxed, more).is_err() {
            places.refused.fetch_add(1, relaxed);
            return None;
        }
        let waiting = Waiting(places);
        let place = Arc::clone(&places.free).acquire_owned();
        let place = timeout(self.spec.queue_timeout.duration(), place).await;
        drop(waiting);
        match place {
            Ok(Ok(place)) => Some(self.permit(place)),
            Ok(Err(_)) | Err(_) => {
                places.refused.fetch_add(1, relaxed);
                None
            }
        }
    }

    /// Takes a place that is free; nobody waits, and nobody is counted as sent away.
    #[must_use]
    pub fn take_now(self: &Arc<Self>) -> Option<Permit> {
        let place = Arc::clone(&self.places().free).try_acquire_owned();
        place.ok().map(|place| self.permit(place))
    }

    fn permit(self: &Arc<Self>, place: OwnedSemaphorePermit) -> Permit {
        let places = self.places();
        let taken = places.taken.fetch_add(1, Ordering::Relaxed) + 1;
        places.samples.most.fetch_max(taken, Ordering::Relaxed);
        Permit {
            permits: Arc::clone(self),
            place: Some(place),
        }
    }

    /// What is told about the places.
    #[must_use]
    pub fn crowd(&self) -> Crowd {
        let places = self.places();
        Crowd {
            taken: places.taken.load(Ordering::Relaxed),
            limit: places.limit.load(Ordering::Relaxed),
            waiting: places.waiting.load(Ordering::Relaxed),
            refused: places.refused.load(Ordering::Relaxed),
        }
    }

    /// Whether the limit follows how the upstream fares.
    #[must_use]
    pub const fn is_adaptive(&self) -> bool {
        self.spec.adaptive.is_some()
    }
}

/// Somebody waits.
struct Waiting<'a>(&'a Places);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Permit {
    /// The attempt ended: how, as far as the upstream is to blame, and after how long.
    pub fn tell(self, fared: Fared, took: Duration) {
        if self.permits.is_adaptive() {
            self.permits.note(fared, took);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let places = self.permits.places();
        places.taken.fetch_sub(1, Ordering::Relaxed);
        if let Some(place) = self.place.take() {
            let less = |debt: u32| debt.checked_sub(1);
            let relaxed = Ordering::Relaxed;
            if places.debt.fetch_update(relaxed, relaxed, less).is_ok() {
                place.forget();
            }
        }
    }
}

impl Permits {
    /// An answer, or a failure: after some of them the limit follows.
    fn note(&self, fared: Fared, took: Duration) {
        let samples = &self.places().samples;
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        samples.micros.fetch_add(micros, Ordering::Relaxed);
        samples
            .bad
            .fetch_add(u32::from(fared == Fared::Badly), Ordering::Relaxed);
        let count = samples.count.fetch_add(1, Ordering::Relaxed) + 1;
        let limit = self.places().limit.load(Ordering::Relaxed);
        if count < limit.max(SAMPLES_LEAST) {
            return;
        }
        let Ok(_turn) = samples.turn.try_lock() else {
            return;
        };
        self.follow();
    }

    /// Sets the limit by what was seen: lower where answers take longer than usual or fail, a little higher where not and where
    /// the limit was felt.
    fn follow(&self) {
        let places = self.places();
        let samples = &places.samples;
        let count = u64::from(samples.count.swap(0, Ordering::Relaxed)).max(1);
        let mean = (samples.micros.swap(0, Ordering::Relaxed) / count).max(1);
        let bad = u64::from(samples.bad.swap(0, Ordering::Relaxed));
        let taken = places.taken.load(Ordering::Relaxed);
        let most = samples.most.swap(taken, Ordering::Relaxed);
        let usual = match samples.usual.load(Ordering::Relaxed) {
            0 => mean,
            usual => usual,
        };
        // What is faster is usual at once; what is slower may become so.
        let next = if mean < usual {
            mean
        } else {
            usual + (mean - usual) / USUAL_PARTS
        };
        samples.usual.store(next.max(1), Ordering::Relaxed);
        let limit = places.limit.load(Ordering::Relaxed);
        let (min, max) = self.spec.bounds();
        let slow = mean * 100 > usual * TOLERANCE;
        let wanted = if bad * 10 > count {
            // More than a tenth failed.
            limit * 9 / 10
        } else if slow {
            let fitting = u64::from(limit) * usual * TOLERANCE / 100 / mean;
            u32::try_from(fitting).unwrap_or(limit).max(limit / 2)
        } else if most.saturating_mul(2) > limit {
            limit.saturating_add(limit.isqrt().max(1))
        } else {
            limit
        };
        places.set_limit(wanted.clamp(min, max));
    }
}

impl Places {
    fn set_limit(&self, limit: u32) {
        let before = self.limit.swap(limit, Ordering::Relaxed);
        if limit < before {
            self.debt.fetch_add(before - limit, Ordering::Relaxed);
            self.pay();
        } else if limit > before {
            // What is still to go need not come back.
            let mut more = limit - before;
            let relaxed = Ordering::Relaxed;
            let less = |debt: u32| Some(debt.saturating_sub(more));
            if let Ok(debt) = self.debt.fetch_update(relaxed, relaxed, less) {
                more -= debt.min(more);
            }
            self.free.add_permits(usize::try_from(more).unwrap_or(0));
        }
    }

    /// Takes free places away, as far as there are any.
    fn pay(&self) {
        let relaxed = Ordering::Relaxed;
        while self.debt.load(relaxed) > 0 {
            let Ok(place) = self.free.try_acquire() else {
                return;
            };
            let less = |debt: u32| debt.checked_sub(1);
            if self.debt.fetch_update(relaxed, relaxed, less).is_ok() {
                place.forget();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::task::Spawner;

    fn permits(text: &str) -> Arc<Permits> {
        let spec: ConcurrencySpec = serde_yaml::from_str(text).unwrap();
        assert!(spec.mistakes().is_empty());
        Arc::new(Permits::new(&spec))
    }

    #[tokio::test]
    async fn there_are_never_more_than_the_limit() {
        let permits = permits("{ limit: 2 }");
        let (first, second) = (permits.take().await, permits.take().await);
        assert!(first.is_some() && second.is_some());
        assert!(permits.take().await.is_none());
        assert_eq!(permits.crowd().refused, 1);
        drop(first);
        assert!(permits.take().await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_wait_and_not_for_ever() {
        let permits = permits("{ limit: 1, queue: 1, queue_timeout: 50ms }");
        let held = permits.take().await.unwrap();
        let waiting = {
            let permits = Arc::clone(&permits);
            let (send, receive) = tokio::sync::oneshot::channel();
            let spawner = Spawner::new(tokio::runtime::Handle::current());
            spawner.detach(async move { drop(send.send(permits.take().await)) });
            receive
        };
        while permits.crowd().waiting == 0 {
            tokio::task::yield_now().await;
        }
        assert!(permits.take().await.is_none(), "the queue is full");
        drop(held);
        let next = waiting.await.unwrap();
        assert!(next.is_some());
        assert!(permits.take().await.is_none(), "nobody came back in time");
        assert_eq!((permits.crowd().taken, permits.crowd().waiting), (1, 0));
    }

    /// Rounds in which as many as may are under way, each with this outcome.
    fn rounds(
        permits: &Arc<Permits>,
        rounds: usize,
        fared: Fared,
        took: impl Fn(u32) -> u64,
    ) -> u32 {
        for _ in 0..rounds {
            let held: Vec<Permit> = std::iter::from_fn(|| permits.take_now()).collect();
            let took = Duration::from_micros(took(u32::try_from(held.len()).unwrap()));
            for permit in held {
                permit.tell(fared, took);
            }
        }
        permits.crowd().limit
    }

    #[test]
    fn an_adaptive_limit_finds_out_what_is_served_without_a_queue() {
        let permits = permits("{ adaptive: { min: 4, max: 1000 } }");
        // A service that does 100 at a time, each in 10 ms; what is more waits.
        let took = |held: u32| {
            if held <= 100 {
                10_000
            } else {
                u64::from(held) * 100
            }
        };
        let limit = rounds(&permits, 400, Fared::Well, took);
        assert!((80..=250).contains(&limit), "{limit}");
    }

    #[test]
    fn failures_lower_it_to_its_least() {
        let permits = permits("{ adaptive: { min: 4, max: 64 } }");
        assert_eq!(rounds(&permits, 200, Fared::Well, |_| 1000), 64);
        assert_eq!(rounds(&permits, 200, Fared::Badly, |_| 1000), 4);
        let held: Vec<Permit> = std::iter::from_fn(|| permits.take_now()).collect();
        assert_eq!(held.len(), 4);
    }

    #[test]
    fn a_new_config_counts_who_is_under_way() {
        let before = permits("{ limit: 3 }");
        let held: Vec<Permit> = std::iter::from_fn(|| before.take_now()).collect();
        let after = permits("{ limit: 2 }");
        after.inherit(&before);
        assert_eq!((after.crowd().taken, after.crowd().limit), (3, 2));
        let mut held = held.into_iter();
        drop(held.next());
        assert!(after.take_now().is_none(), "two are still under way");
        drop(held.next());
        assert!(after.take_now().is_some());
        let more = permits("{ limit: 4 }");
        more.inherit(&after);
        let free: Vec<Permit> = std::iter::from_fn(|| more.take_now()).collect();
        assert_eq!(free.len(), 3, "one is held");
    }

    #[test]
    fn threads_together_have_no_more_than_the_limit_and_give_all_back() {
        let permits = permits("{ limit: 3 }");
        let (out, through) = (AtomicU32::new(0), AtomicU32::new(0));
        let take = || {
            for _ in 0..20_000 {
                if let Some(permit) = permits.take_now() {
                    assert!(out.fetch_add(1, Ordering::SeqCst) < 3);
                    through.fetch_add(1, Ordering::Relaxed);
                    out.fetch_sub(1, Ordering::SeqCst);
                    permit.tell(Fared::Well, Duration::ZERO);
                }
            }
        };
        std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(take))));
        assert!(through.load(Ordering::Relaxed) > 0);
        assert_eq!(permits.crowd().taken, 0);
        assert_eq!(permits.places().free.available_permits(), 3);
    }
}
