//! Keys that are fetched: kept fresh by one task, asked for again when a token names a key that nobody knows, and kept for a
//! while when whoever has them is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, watch};

use super::keys::KeySet;

/// How long after an attempt, whatever became of it, a token can cause the next one.
pub(super) const COOLDOWN: Duration = Duration::from_secs(30);
/// A request waits no longer for keys: two questions, each within its time.
const WAIT_MAX: Duration = Duration::from_secs(12);
/// Keys are fetched again after as long as their server says, within these, and before they are too old.
const FRESH_MIN: Duration = Duration::from_secs(60);
const FRESH_MAX: Duration = Duration::from_secs(24 * 3600);
/// The same where it says nothing.
const FRESH: Duration = Duration::from_secs(15 * 60);
/// After a failure so long, then twice as long each time …
const RETRY_MIN: Duration = COOLDOWN;
/// … up to so long.
const RETRY_MAX: Duration = Duration::from_secs(300);

/// The keys as they are known, and who waits for them.
#[derive(Debug)]
pub(super) struct KeySource {
    known: ArcSwapOption<Known>,
    /// How old they may become, in milliseconds.
    age_max: i64,
    /// When the last attempt to fetch them began, in milliseconds since 1970.
    last_attempt: AtomicI64,
    /// Whether it is under way.
    busy: AtomicBool,
    wanted: Notify,
    /// Counts attempts that ended.
    ended: watch::Sender<u64>,
}

/// Keys that were fetched.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) keys: KeySet,
    /// Counts sets that differ.
    pub(super) generation: u64,
    /// When, in milliseconds since 1970.
    fetched: i64,
    /// How long they are fresh.
    fresh: Duration,
}

impl KeySource {
    pub(super) fn new(age_max: Duration) -> Self {
        Self {
            known: ArcSwapOption::empty(),
            age_max: i64::try_from(age_max.as_millis()).unwrap_or(i64::MAX),
            last_attempt: AtomicI64::new(i64::MIN),
            busy: AtomicBool::new(false),
            wanted: Notify::new(),
            ended: watch::Sender::new(0),
        }
    }

    /// The keys, unless they are too old to be believed.
    pub(super) fn current(&self, now: i64) -> Option<Arc<Known>> {
        let known = self.known.load_full()?;
        (now.saturating_sub(known.fetched) < self.age_max).then_some(known)
    }

    /// Whether it is of use to wait: an attempt is under way, or may begin.
    pub(super) fn may_ask(&self, now: i64) -> bool {
        self.busy.load(Ordering::Acquire) || self.is_rested(now)
    }

    fn is_rested(&self, now: i64) -> bool {
        let since = now.saturating_sub(self.last_attempt.load(Ordering::Acquire));
        // A clock that was set back keeps nobody waiting.
        since < 0 || Duration::from_millis(since.unsigned_abs()) >= COOLDOWN
    }

    /// Waits for the end of an attempt; `again` is asked once more whether that is still of use.
    pub(super) async fn wait(&self, again: impl Fn() -> bool) {
        let mut ended = self.ended.subscribe();
        if again() {
            self.wanted.notify_one();
            // In time or not: what is known is looked at once more.
            drop(tokio::time::timeout(WAIT_MAX, ended.changed()).await);
        }
    }

    /// Takes over what was known under another config.
    pub(super) fn inherit(&self, before: &Self) {
        self.known.store(before.known.load_full());
        let attempt = before.last_attempt.load(Ordering::Acquire);
        self.last_attempt.store(attempt, Ordering::Release);
    }

    /// An attempt begins.
    pub(super) fn begins(&self, now: i64) {
        self.last_attempt.store(now, Ordering::Release);
        self.busy.store(true, Ordering::Release);
    }

    /// It ended: whoever waits looks again.
    pub(super) fn ends(&self, now: i64, found: Option<(KeySet, Option<Duration>)>) {
        if let Some((keys, fresh)) = found {
            let before = self.known.load_full();
            let same = before.as_ref().filter(|it| it.keys.digest == keys.digest);
            let generation = match (same, &before) {
                (Some(same), _) => same.generation,
                (None, Some(before)) => before.generation + 1,
                (None, None) => 1,
            };
            let fresh = fresh.unwrap_or(FRESH).clamp(FRESH_MIN, FRESH_MAX);
            let half = Duration::from_millis(self.age_max.unsigned_abs() / 2);
            self.known.store(Some(Arc::new(Known {
                keys,
                generation,
                fetched: now,
                fresh: fresh.min(half.max(Duration::from_secs(1))),
            })));
        }
        self.busy.store(false, Ordering::Release);
        self.ended
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    /// How long the task may sleep after so many failures in a row.
    fn pause(&self, now: i64, failures: u32) -> Duration {
        let Some(known) = self.known.load_full() else {
            return match failures {
                0 => Duration::ZERO,
                _ => retry(failures),
            };
        };
        if failures > 0 {
            // Often enough to be there before the keys are too old.
            return retry(failures).min(known.fresh.max(Duration::from_secs(1)));
        }
        let age = Duration::from_millis(now.saturating_sub(known.fetched).max(0).unsigned_abs());
        known.fresh.saturating_sub(age)
    }

    /// Sleeps until it is time for the next attempt: it is due, or somebody wants one and may.
    pub(super) async fn next(&self, now: impl Fn() -> i64, failures: u32) {
        let due = tokio::time::Instant::now() + self.pause(now(), failures);
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(due) => return,
                () = self.wanted.notified() => {
                    if self.is_rested(now()) {
                        return;
                    }
                    // Whoever came too late for the last one learns what it found.
                    self.ended.send_modify(|count| *count = count.wrapping_add(1));
                }
            }
        }
    }
}

fn retry(failures: u32) -> Duration {
    let factor = 1u32
        .checked_shl(failures.saturating_sub(1))
        .unwrap_or(u32::MAX);
    RETRY_MIN.saturating_mul(factor.max(1)).min(RETRY_MAX)
}

/// What `Cache-Control` says of how long an answer is fresh (RFC 9111 section 5.2).
pub(super) fn max_age(header: &str) -> Option<Duration> {
    header.split(',').find_map(|directive| {
        let (name, value) = directive.trim().split_once('=')?;
        let seconds = value.trim_matches('"').parse().ok()?;
        name.eq_ignore_ascii_case("max-age")
            .then(|| Duration::from_secs(seconds))
    })
}

#[cfg(test)]
mod tests {
    use super::super::keys::Source;
    use super::*;

    const SET: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"a","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    const DAY: i64 = 24 * 3600 * 1000;

    fn set(text: &str) -> KeySet {
        KeySet::parse(text.as_bytes(), Source::Fetched).unwrap()
    }

    fn source() -> KeySource {
        KeySource::new(Duration::from_secs(24 * 3600))
    }

    #[test]
    fn an_attempt_rests_the_next_whatever_became_of_it() {
        let source = source();
        assert!(source.may_ask(0));
        source.begins(1000);
        // Under way: whoever comes now waits for its end.
        assert!(source.may_ask(1000));
        source.ends(6000, None);
        for (now, may) in [(6000, false), (30_999, false), (31_000, true), (0, true)] {
            assert_eq!(source.may_ask(now), may, "{now}");
        }
    }

    #[test]
    fn keys_are_believed_until_they_are_too_old() {
        let source = source();
        assert!(source.current(0).is_none());
        source.begins(0);
        source.ends(0, Some((set(SET), None)));
        for failed in 1..10 {
            source.begins(failed);
            source.ends(failed, None);
        }
        assert!(source.current(DAY - 1).is_some());
        assert!(source.current(DAY).is_none());
        source.ends(DAY, Some((set(SET), None)));
        assert_eq!(source.current(2 * DAY - 1).unwrap().generation, 1);
        source.ends(DAY, Some((set(&SET.replace("\"a\"", "\"b\"")), None)));
        assert_eq!(source.current(DAY).unwrap().generation, 2);
    }

    #[test]
    fn they_are_fetched_again_in_time() {
        let source = source();
        assert_eq!(source.pause(0, 0), Duration::ZERO);
        let waits: Vec<u64> = (1..7).map(|n| source.pause(0, n).as_secs()).collect();
        assert_eq!(waits, [30, 60, 120, 240, 300, 300]);
        assert_eq!(retry(u32::MAX).as_secs(), 300);
        for (said, secs) in [
            (None, 900),
            (Some(1), 60),
            (Some(600), 600),
            (Some(7 * 24 * 3600), 12 * 3600),
        ] {
            source.ends(0, Some((set(SET), said.map(Duration::from_secs))));
            assert_eq!(source.pause(0, 0).as_secs(), secs, "{said:?}");
            assert_eq!(source.pause(10_000, 0).as_secs(), secs - 10, "{said:?}");
        }
        assert_eq!(source.pause(i64::MAX, 0), Duration::ZERO);
        let short = KeySource::new(Duration::from_secs(3));
        short.ends(0, Some((set(SET), None)));
        assert_eq!(short.pause(0, 0), Duration::from_millis(1500));
    }

    #[test]
    fn an_answer_says_how_long_it_is_fresh() {
        for (header, expected) in [
            ("max-age=60", Some(60)),
            ("public, Max-Age=\"60\", must-revalidate", Some(60)),
            ("no-store", None),
            ("max-age=x", None),
            ("", None),
        ] {
            assert_eq!(
                max_age(header),
                expected.map(Duration::from_secs),
                "{header}"
            );
        }
    }
}
