//! What is known of one target while the gateway runs: it outlives every rebuild of the choice, and reloads of the config.

use std::hash::RandomState;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::balance::{Counts, Load};
use super::ejecting::Ejecting;
use super::sticky::Secret;
use super::tiers::Standing;
use crate::base::clock::SharedClock;

/// Choices know the time as exactly as this: a millisecond.
const LATEST_NANOS: u64 = 1_000_000;

/// What active checks found out about a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Nothing yet: it serves.
    Unknown,
    /// It is well.
    Well,
    /// It answers, but not as it should.
    Failing,
    /// Nobody takes connections there.
    Gone,
}

impl Health {
    const ALL: [Self; 4] = [Self::Unknown, Self::Well, Self::Failing, Self::Gone];

    /// As it is called towards people and programs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Well => "healthy",
            Self::Failing => "unhealthy",
            Self::Gone => "unreachable",
        }
    }

    /// Whether it takes the target out.
    pub(super) const fn is_ill(self) -> bool {
        matches!(self, Self::Failing | Self::Gone)
    }
}

/// The live state of one target, by the name of its upstream and its authority.
#[derive(Debug)]
pub struct Member {
    authority: Arc<str>,
    pub(super) load: Load,
    drained: AtomicBool,
    /// The place in [`Health::ALL`].
    health: AtomicU8,
    /// Errors in a row.
    errors: AtomicU32,
    /// Until when it is ejected, in nanoseconds of [`Live`]; 0 = it is not.
    ejected_until: AtomicU64,
    /// How often it was ejected, less what was forgiven by then.
    ejections: AtomicU32,
    /// Since when it serves, in nanoseconds of [`Live`]; 0 = for as long as the upstream.
    since: AtomicU64,
}

// Relaxed everywhere: each of these is a fact of its own, and nothing is published through them.
impl Member {
    /// A target that serves for as long as its upstream.
    pub(super) fn new(authority: &Arc<str>) -> Self {
        Self {
            authority: Arc::clone(authority),
            load: Load::default(),
            drained: AtomicBool::new(false),
            health: AtomicU8::new(0),
            errors: AtomicU32::new(0),
            ejected_until: AtomicU64::new(0),
            ejections: AtomicU32::new(0),
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

    /// From now on it gets no new requests; says whether it did before.
    pub(super) fn drain(&self) -> bool {
        !self.drained.swap(true, Ordering::Relaxed)
    }

    /// It gets requests again; says whether it did not before.
    pub(super) fn resume(&self) -> bool {
        self.drained.swap(false, Ordering::Relaxed)
    }

    /// What active checks found out.
    #[must_use]
    pub fn health(&self) -> Health {
        let place = usize::from(self.health.load(Ordering::Relaxed));
        Health::ALL.get(place).copied().unwrap_or(Health::Unknown)
    }

    pub(super) fn set_health(&self, health: Health) {
        self.health.store(health as u8, Ordering::Relaxed);
    }

    /// Whether it gets no requests for a while because of its errors.
    #[must_use]
    pub fn is_ejected(&self) -> bool {
        self.ejected_until.load(Ordering::Relaxed) > 0
    }

    /// How it stands.
    pub(super) fn standing(&self) -> Standing {
        match self.health() {
            Health::Gone => Standing::Gone,
            Health::Failing => Standing::Failing,
            Health::Unknown | Health::Well if self.is_ejected() => Standing::Failing,
            Health::Unknown | Health::Well => Standing::Serving,
        }
    }

    /// Whether a choice that was built before passes it over.
    pub(super) fn is_out(&self) -> bool {
        self.is_drained() || self.standing() != Standing::Serving
    }

    /// It answered well.
    pub(super) fn well(&self) {
        // Written only where it makes a difference: many cores read it.
        if self.errors.load(Ordering::Relaxed) > 0 {
            self.errors.store(0, Ordering::Relaxed);
        }
    }

    /// It made an error; says how many these are in a row.
    pub(super) fn errs(&self) -> u32 {
        self.errors
            .fetch_add(1, Ordering::Relaxed)
            .saturating_add(1)
    }

    /// Takes it out for its errors; says for how long.
    fn eject(&self, rules: &Ejecting, now: u64) -> Duration {
        let served = self.serves_for(now).unwrap_or(Duration::MAX);
        let times = rules.times(self.ejections.load(Ordering::Relaxed), served);
        let span = rules.span(times);
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        self.ejections.store(times, Ordering::Relaxed);
        let until = now.saturating_add(nanos);
        self.ejected_until.store(until, Ordering::Relaxed);
        span
    }

    /// How long it stays ejected; none where it is not.
    pub(super) fn ejected_for(&self, now: u64) -> Option<Duration> {
        let until = self.ejected_until.load(Ordering::Relaxed);
        (until > 0).then(|| Duration::from_nanos(until.saturating_sub(now)))
    }

    /// Its ejection is over.
    pub(super) fn come_back(&self, now: u64) {
        self.ejected_until.store(0, Ordering::Relaxed);
        self.errors.store(0, Ordering::Relaxed);
        self.begin(now);
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

/// How many targets of an upstream stand how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// They get requests, as far as their priority goes.
    pub serving: u32,
    /// Active checks took them out.
    pub unhealthy: u32,
    /// Their errors took them out.
    pub ejected: u32,
    /// Somebody took them out.
    pub drained: u32,
    /// Their names have no address.
    pub unresolved: u32,
    /// Whether so few are left that it counts for nothing how they stand.
    pub panics: bool,
}

/// Whoever counts what becomes of an upstream's targets.
pub trait Observer: Send + Sync + std::fmt::Debug {
    /// Something is different.
    fn stand(&self, tally: &Tally);
    /// A check found a target so.
    fn checked(&self, health: Health);
    /// A target was ejected.
    fn ejected(&self);
}

/// Nobody counts how targets stand: what their answers are worth is counted where they are asked for.
#[derive(Debug)]
pub struct Unobserved;

impl Observer for Unobserved {
    fn stand(&self, _tally: &Tally) {}
    fn checked(&self, _health: Health) {}
    fn ejected(&self) {}
}

/// What lives behind the name of an upstream, from one config to the next.
#[derive(Debug)]
pub(super) struct Live {
    name: Arc<str>,
    clock: SharedClock,
    began: Instant,
    /// When the last answer came, in nanoseconds since then.
    latest: AtomicU64,
    pub(super) observer: Arc<dyn Observer>,
    /// What all targets count together.
    pub(super) counts: Counts,
    /// Says that something about a member is different.
    changed: watch::Sender<()>,
    /// One target is judged at a time.
    judging: Mutex<()>,
    /// What cookies are signed by, from the first that is read or written.
    secret: OnceLock<Option<Secret>>,
    /// Tells connections apart that must not be shared, by numbers that nobody outside can foresee.
    hasher: RandomState,
}

impl Live {
    pub(super) fn new(name: &Arc<str>, clock: &SharedClock, observer: Arc<dyn Observer>) -> Self {
        Self {
            name: Arc::clone(name),
            began: clock.instant(),
            latest: AtomicU64::new(0),
            clock: Arc::clone(clock),
            observer,
            counts: Counts::default(),
            changed: watch::Sender::new(()),
            judging: Mutex::new(()),
            secret: OnceLock::new(),
            hasher: RandomState::new(),
        }
    }

    /// The time since it began, in nanoseconds.
    pub(super) fn now(&self) -> u64 {
        let passed = self.clock.instant().saturating_duration_since(self.began);
        u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX)
    }

    /// The time now, which choices go by from now on.
    pub(super) fn note_now(&self) -> u64 {
        let now = self.now();
        // Written now and then only: all workers read it for each choice.
        if now.saturating_sub(self.latest.load(Ordering::Relaxed)) >= LATEST_NANOS {
            self.latest.store(now, Ordering::Relaxed);
        }
        now
    }

    /// The time when the last answer came, to a millisecond: a choice that reads the clock would take twice as long.
    pub(super) fn latest(&self) -> u64 {
        self.latest.load(Ordering::Relaxed)
    }

    /// What cookies are signed by.
    pub(super) fn secret(&self) -> Option<&Secret> {
        self.secret.get_or_init(Secret::draw).as_ref()
    }

    /// By what connections are told apart.
    pub(super) const fn hasher(&self) -> &RandomState {
        &self.hasher
    }

    /// Something about a member is different.
    pub(super) fn change(&self) {
        self.changed.send_replace(());
    }

    /// Hears of changes from now on.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Takes `member`, which made too many errors, out of `all` for a while, unless too many are out already.
    pub(super) fn eject(&self, member: &Member, all: &[Arc<Member>], rules: &Ejecting) {
        let _judging = self.judging.lock().unwrap_or_else(PoisonError::into_inner);
        let ejected = all.iter().filter(|other| other.is_ejected()).count();
        let mut others = all
            .iter()
            .filter(|other| !std::ptr::eq(&raw const ***other, member));
        let left = others.any(|other| !other.is_out());
        if member.is_ejected() || !left || !rules.allows(ejected, all.len()) {
            return;
        }
        let span = member.eject(rules, self.now());
        log::warn!(upstream:% = self.name, target:% = member.authority, seconds = span.as_secs_f64(); "target ejected for its errors");
        self.observer.ejected();
        self.change();
    }
}
