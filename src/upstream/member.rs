//! What is known of one target while the gateway runs: it outlives every rebuild of the choice, and reloads of the config.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::balance::{Counts, Load};
use crate::base::clock::SharedClock;

/// The live state of one target, by the name of its upstream and its authority.
#[derive(Debug)]
pub struct Member {
    authority: Arc<str>,
    pub(super) load: Load,
    drained: AtomicBool,
    /// Since when it serves, in nanoseconds of [`Live`]; 0 = for as long as the upstream.
    since: AtomicU64,
}

impl Member {
    /// A target that serves for as long as its upstream.
    pub(super) fn new(authority: &Arc<str>) -> Self {
        Self {
            authority: Arc::clone(authority),
            load: Load::default(),
            drained: AtomicBool::new(false),
            since: AtomicU64::new(0),
        }
    }

    /// What was written: the host and port of its URL.
    #[must_use]
    pub const fn authority(&self) -> &Arc<str> {
        &self.authority
    }

    /// How many requests are under way there.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.load.in_flight()
    }

    /// Whether it gets no new requests because somebody said so.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.drained.load(Ordering::Relaxed)
    }

    /// Whether a choice that was built before passes it over.
    pub(super) fn is_out(&self) -> bool {
        self.is_drained()
    }

    /// It serves from `now` on: it begins slowly where its upstream says so.
    pub(super) fn begin(&self, now: u64) {
        self.since.store(now.max(1), Ordering::Relaxed);
    }

    /// For how long it has served; none = for as long as the upstream.
    pub(super) fn serves_for(&self, now: u64) -> Option<Duration> {
        let since = self.since.load(Ordering::Relaxed);
        (since > 0).then(|| Duration::from_nanos(now.saturating_sub(since)))
    }
}

/// What lives behind the name of an upstream, from one config to the next.
#[derive(Debug)]
pub(super) struct Live {
    clock: SharedClock,
    began: Instant,
    /// What all targets count together.
    pub(super) counts: Counts,
    /// Says that something about a member is different.
    changed: watch::Sender<()>,
}

impl Live {
    pub(super) fn new(clock: &SharedClock) -> Self {
        Self {
            began: clock.instant(),
            clock: Arc::clone(clock),
            counts: Counts::default(),
            changed: watch::Sender::new(()),
        }
    }

    /// The time since it began, in nanoseconds.
    pub(super) fn now(&self) -> u64 {
        let passed = self.clock.instant().saturating_duration_since(self.began);
        u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Something about a member is different.
    #[expect(dead_code, reason = "whoever finds out about health says so")]
    pub(super) fn change(&self) {
        self.changed.send_replace(());
    }

    /// Hears of changes from now on.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}
