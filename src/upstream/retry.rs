//! Whether a request that failed is sent again, and when.

use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::budget::{Budget, pause};
use super::condition::{Condition, Conditions};
use crate::base::units::{ByteSize, Share, Span};

/// A request is sent at most so often, by one clause.
const ATTEMPTS_MAX: u16 = 10;
/// The longest body that is kept to be sent again: as much as Pingora keeps.
const BODY_MAX: u64 = 64 * 1024;
/// What is tried again where nothing is written: what reached nobody, or broke before there was an answer.
const USUAL: [Condition; 3] = [
    Condition::ConnectFailure,
    Condition::RefusedStream,
    Condition::Reset,
];
const BACKOFF_BASE: Duration = Duration::from_millis(25);
const BACKOFF_MAX: Duration = Duration::from_millis(250);

/// When a request that failed is sent again. What may have been acted upon is only sent again where doing it twice is
/// doing it once: with a method that is idempotent (RFC 9110 section 9.2.2, and QUERY), or with an `Idempotency-Key`; calls of
/// gRPC for the conditions `grpc_…`. Nothing is sent again once the client got a byte of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetriesSpec {
    /// How often a request is sent, the first time included: 1 to 10. Default 2.
    #[serde(default = "two")]
    #[schemars(range(min = 1, max = 10))]
    pub attempts: u16,
    /// After which failures. Default `[connect_failure, refused_stream, reset]`.
    #[serde(default = "usual")]
    pub retry_on: Vec<Condition>,
    /// The share of the upstream's requests in the last 10 s that may be sent again; three may always. What reached nobody and goes
    /// to another target does not count. Default `20%`.
    #[serde(default = "a_fifth")]
    pub budget: Share,
    /// How long is waited before: a random time. A request that reached nobody goes to another target at once.
    #[serde(default)]
    pub backoff: BackoffSpec,
    /// The longest body that is kept to be sent again; of a longer one only the retry is lost. At most, and by default, `64KiB`.
    #[serde(default = "all_that_is_kept")]
    pub body: ByteSize,
    /// After so long without an answer, a request that may be sent twice is sent to a second target beside the first: the first
    /// good answer is taken, the other one is dropped. It counts as an attempt and takes of the budget. What is sent so is
    /// called, not streamed: its body and its answer pass as a whole. Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hedge_after: Option<Span>,
}

/// How long is waited before a request is sent again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BackoffSpec {
    /// The shortest pause. Default `25ms`.
    #[serde(default = "base")]
    pub base: Span,
    /// The longest one. An answer that says `Retry-After` a longer time is passed on. Default `250ms`.
    #[serde(default = "max")]
    pub max: Span,
}

impl Default for BackoffSpec {
    fn default() -> Self {
        Self {
            base: base(),
            max: max(),
        }
    }
}

impl Default for RetriesSpec {
    fn default() -> Self {
        Self {
            attempts: two(),
            retry_on: usual(),
            budget: a_fifth(),
            backoff: BackoffSpec::default(),
            body: all_that_is_kept(),
            hedge_after: None,
        }
    }
}

const fn two() -> u16 {
    2
}

fn usual() -> Vec<Condition> {
    USUAL.to_vec()
}

const fn a_fifth() -> Share {
    Share::from_percent(20)
}

const fn all_that_is_kept() -> ByteSize {
    ByteSize::from_bytes(BODY_MAX)
}

const fn base() -> Span {
    Span::from_millis(25)
}

const fn max() -> Span {
    Span::from_millis(250)
}

impl RetriesSpec {
    /// What is written, ready to be asked.
    #[must_use]
    pub fn compile(&self) -> Retries {
        Retries {
            attempts: self.attempts,
            on: Conditions::of(&self.retry_on),
            budget: self.budget,
            base: self.backoff.base.duration(),
            max: self.backoff.max.duration(),
            body: self.body.bytes(),
            hedge_after: self.hedge_after,
            written: true,
        }
    }

    /// What means nothing: the key, what is wrong, and how to mend it.
    #[must_use]
    pub fn mistakes(&self) -> Vec<(&'static [&'static str], String, &'static str)> {
        let mut found = Vec::new();
        if !(1..=ATTEMPTS_MAX).contains(&self.attempts) {
            let what = format!("{} attempts", self.attempts);
            let hint = "1 to 10, the first one included; for no retries write `retries: none`";
            found.push((&["attempts"][..], what, hint));
        }
        if self.backoff.base.duration().is_zero() {
            let hint = "a time of 1ms or more";
            found.push((&["backoff", "base"][..], "no time at all".to_owned(), hint));
        } else if self.backoff.base > self.backoff.max {
            let what = format!("`max` is shorter than `base`: {}", self.backoff.max);
            found.push((&["backoff", "max"][..], what, "`base` or more"));
        }
        if self.body.bytes() > BODY_MAX {
            let what = format!("a body of {}", self.body);
            found.push((&["body"][..], what, "at most `64KiB` are kept of a request"));
        }
        if let Some(after) = self.hedge_after {
            let key = &["hedge_after"][..];
            if after.duration().is_zero() {
                let hint = "a time of 1ms or more: about what 95 of 100 answers take";
                found.push((key, "every request would be sent twice".to_owned(), hint));
            } else if self.attempts == 1 {
                let what = "no attempt is left for it".to_owned();
                found.push((key, what, "the second one counts: `attempts: 2` or more"));
            }
        }
        found
    }
}

/// The rules by which a request that failed is sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retries {
    attempts: u16,
    on: Conditions,
    budget: Share,
    base: Duration,
    max: Duration,
    body: u64,
    hedge_after: Option<Span>,
    /// Whether somebody wrote them.
    written: bool,
}

impl Default for Retries {
    /// What holds where nothing is written.
    fn default() -> Self {
        Self {
            attempts: two(),
            on: Conditions::of(&USUAL),
            budget: a_fifth(),
            base: BACKOFF_BASE,
            max: BACKOFF_MAX,
            body: BODY_MAX,
            hedge_after: None,
            written: false,
        }
    }
}

/// How a request failed, as far as it matters for another attempt.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, named where it is found"
)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Broke {
    /// Whether the failure is one after which the request is to be sent again.
    pub meant: bool,
    /// Whether nobody has seen anything of the request.
    pub unsent: bool,
    /// Whether nobody was there to see it.
    pub absent: bool,
    /// Whether doing it twice is doing it once.
    pub repeatable: bool,
    /// Whether all of the request so far is kept, and no longer than it may be.
    pub kept: bool,
    /// Whether there is a target that was not tried.
    pub elsewhere: bool,
    /// When the target wants to be asked again.
    pub retry_after: Option<Duration>,
    /// How much time the request has left; none = any.
    pub left: Option<Duration>,
}

/// What becomes of a request that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// It is sent again after this pause.
    After(Duration),
    /// It is not.
    No,
    /// It would be, but too many are already.
    Exhausted,
}

/// What was tried for a request at one upstream.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tries {
    /// How many attempts failed, those on connections that were found dead not counted.
    failed: u16,
    pause: Duration,
}

impl Retries {
    /// After which failures a request is sent again.
    #[must_use]
    pub const fn on(&self) -> &Conditions {
        &self.on
    }

    /// How often a request is sent at most.
    #[must_use]
    pub const fn attempts(&self) -> u16 {
        self.attempts
    }

    /// Whether they are the config's own, and not what holds without any.
    #[must_use]
    pub const fn is_written(&self) -> bool {
        self.written
    }

    /// The longest body that is kept, in bytes.
    #[must_use]
    pub const fn body(&self) -> u64 {
        self.body
    }

    /// After how long without an answer a request is sent to a second target beside the first; none = never.
    #[must_use]
    pub const fn hedge_after(&self) -> Option<Span> {
        self.hedge_after
    }

    /// Whether the request could be sent once more after `tries`.
    #[must_use]
    pub const fn has_more(&self, tries: &Tries) -> bool {
        tries.failed + 1 < self.attempts
    }

    /// Decides whether a request that has no answer yet is sent a second time beside the first.
    pub fn hedge(&self, tries: &mut Tries, budget: &Budget, now: Instant) -> bool {
        if !self.has_more(tries) || !budget.take(self.budget, now) {
            return false;
        }
        // Of the two only the one that ends last is counted as it fails.
        tries.failed = tries.failed.saturating_add(1);
        true
    }

    /// Decides about a request of which another attempt failed.
    pub fn again(&self, tries: &mut Tries, broke: &Broke, budget: &Budget, now: Instant) -> Again {
        tries.failed = tries.failed.saturating_add(1);
        let safe = broke.unsent || broke.repeatable;
        if !broke.meant || !safe || !broke.kept || tries.failed >= self.attempts {
            return Again::No;
        }
        // Nobody asked for it: then whoever refuses connections is not asked twice.
        if broke.absent && !broke.elsewhere && !self.written {
            return Again::No;
        }
        if broke.retry_after.is_some_and(|after| after > self.max) {
            return Again::No;
        }
        let wait = if broke.unsent && broke.elsewhere {
            Duration::ZERO
        } else {
            let drawn = pause(budget, self.base, self.max, tries.pause);
            drawn.max(broke.retry_after.unwrap_or_default())
        };
        if broke.left.is_some_and(|left| wait >= left) {
            return Again::No;
        }
        // What reached nobody makes nobody's work more.
        let free = broke.absent && broke.elsewhere;
        if !free && !budget.take(self.budget, now) {
            return Again::Exhausted;
        }
        tries.pause = wait;
        Again::After(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::{Clock as _, SystemClock};

    fn retries(text: &str) -> Retries {
        let spec: RetriesSpec = serde_yaml::from_str(text).unwrap();
        spec.compile()
    }

    /// An idempotent request whose connection broke.
    const BROKE: Broke = Broke {
        meant: true,
        unsent: false,
        absent: false,
        repeatable: true,
        kept: true,
        elsewhere: true,
        retry_after: None,
        left: None,
    };

    fn again(retries: &Retries, broke: &Broke) -> Again {
        let (mut tries, budget) = (Tries::default(), Budget::default());
        retries.again(&mut tries, broke, &budget, SystemClock.instant())
    }

    fn goes_on(retries: &Retries, broke: Broke) -> bool {
        matches!(again(retries, &broke), Again::After(_))
    }

    #[test]
    fn attempts_counts_the_first_one() {
        for attempts in 1..=4 {
            let retries = retries(&format!("{{ attempts: {attempts}, budget: 100% }}"));
            let (mut tries, budget) = (Tries::default(), Budget::default());
            let now = SystemClock.instant();
            let mut made = 1;
            while let Again::After(_) = retries.again(&mut tries, &BROKE, &budget, now) {
                made += 1;
            }
            assert_eq!(made, attempts);
        }
    }

    #[test]
    fn only_what_may_be_done_twice_is_sent_twice() {
        let retries = Retries::default();
        assert!(goes_on(&retries, BROKE));
        let changes = Broke {
            repeatable: false,
            ..BROKE
        };
        assert!(!goes_on(&retries, changes), "somebody may have acted on it");
        let unsent = Broke {
            unsent: true,
            ..changes
        };
        assert!(goes_on(&retries, unsent), "nobody has seen it");
        let long = Broke {
            kept: false,
            ..BROKE
        };
        assert!(!goes_on(&retries, long), "its body is not there any more");
        let other = Broke {
            meant: false,
            ..BROKE
        };
        assert!(!goes_on(&retries, other));
    }

    #[test]
    fn whoever_refuses_is_asked_again_only_where_somebody_wants_it() {
        let alone = Broke {
            unsent: true,
            absent: true,
            elsewhere: false,
            ..BROKE
        };
        assert!(!goes_on(&Retries::default(), alone));
        assert!(goes_on(&retries("{}"), alone));
        let present = Broke {
            absent: false,
            ..alone
        };
        assert!(goes_on(&Retries::default(), present), "it is there");
        let elsewhere = Broke {
            elsewhere: true,
            ..alone
        };
        let at_once = Again::After(Duration::ZERO);
        assert_eq!(again(&Retries::default(), &elsewhere), at_once);
    }

    #[test]
    fn what_the_target_asks_for_is_honoured() {
        let retries = retries("{ backoff: { base: 10ms, max: 1s } }");
        let asks = |after| Broke {
            retry_after: Some(Duration::from_secs(after)),
            ..BROKE
        };
        let second = Again::After(Duration::from_secs(1));
        assert_eq!(again(&retries, &asks(1)), second);
        assert_eq!(again(&retries, &asks(2)), Again::No);
    }

    #[test]
    fn nothing_is_sent_again_when_the_time_is_over() {
        let late = Broke {
            left: Some(Duration::from_millis(25)),
            ..BROKE
        };
        assert!(!goes_on(&Retries::default(), late));
    }

    #[test]
    fn a_hedge_is_an_attempt_and_takes_of_the_budget() {
        let retries = retries("{ attempts: 3, hedge_after: 10ms, budget: 0% }");
        assert_eq!(retries.hedge_after(), Some(Span::from_millis(10)));
        let (mut tries, budget) = (Tries::default(), Budget::default());
        let now = SystemClock.instant();
        assert!(retries.hedge(&mut tries, &budget, now));
        // Both failed: one more is left.
        let again = retries.again(&mut tries, &BROKE, &budget, now);
        assert!(matches!(again, Again::After(_)));
        assert!(!retries.hedge(&mut tries, &budget, now), "that is the last");
        assert_eq!(retries.again(&mut tries, &BROKE, &budget, now), Again::No);
        let hedge = || retries.hedge(&mut Tries::default(), &budget, now);
        assert!(hedge(), "three may always");
        assert!(!hedge());
    }

    #[test]
    fn the_budget_is_the_last_word() {
        let (retries, budget) = (Retries::default(), Budget::default());
        let now = SystemClock.instant();
        let absent = Broke {
            unsent: true,
            absent: true,
            ..BROKE
        };
        for _ in 0..9 {
            let free = retries.again(&mut Tries::default(), &absent, &budget, now);
            assert_eq!(free, Again::After(Duration::ZERO), "it costs nothing");
        }
        let decide = || retries.again(&mut Tries::default(), &BROKE, &budget, now);
        let decided: Vec<bool> = (0..5)
            .map(|_| matches!(decide(), Again::After(_)))
            .collect();
        assert_eq!(decided, [true, true, true, false, false]);
        assert_eq!(decide(), Again::Exhausted);
    }
}
