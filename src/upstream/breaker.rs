//! Lets nothing through to who fails too often, and looks after a while whether it is better.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::breaker_spec::BreakerSpec;
use super::breaker_state::{BreakerState, Wish};
use super::condition::Conditions;
use crate::base::units::Share;

/// The window is counted in so many parts.
const BUCKETS: usize = 10;
/// What the client of a request that came while others tried is told to wait at least.
const SOON: Duration = Duration::from_secs(1);

/// A breaker: its rules, and what it has seen.
#[derive(Debug)]
pub struct Breaker {
    route: Option<Arc<str>>,
    upstream: Arc<str>,
    spec: BreakerSpec,
    errors: Conditions,
    seen: OnceLock<Arc<Seen>>,
}

/// What a breaker knows: it outlives the config.
#[derive(Debug, Default)]
struct Seen {
    began: OnceLock<Instant>,
    state: AtomicU8,
    wish: AtomicU8,
    /// Counts the states: what was let through in another one tells nothing.
    era: AtomicU32,
    /// Until when it is open, in milliseconds.
    until: AtomicU64,
    /// How often it opened since it was closed last.
    openings: AtomicU32,
    /// How many were let through to find out, and how many were good.
    probing: AtomicU32,
    good: AtomicU32,
    /// When the last of them was, in milliseconds; and how often others took their places since they found out nothing for long.
    probed: AtomicU64,
    round: AtomicU32,
    buckets: [Bucket; BUCKETS],
    /// The length of a bucket: another one makes all that was counted void.
    length: AtomicU64,
    /// One change of the state after the other.
    turn: Mutex<()>,
}

#[derive(Debug, Default)]
struct Bucket {
    number: AtomicU64,
    all: AtomicU32,
    errors: AtomicU32,
    slow: AtomicU32,
}

/// How something fared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fared {
    /// As it should.
    Well,
    /// Not as it should.
    Badly,
}

/// Why a request was let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// As every one.
    Usual,
    /// To find out, in this round.
    Probe(u32),
}

/// A request that was let through. Dropped without a word, it tells nothing.
#[derive(Debug)]
pub struct Ticket {
    breaker: Arc<Breaker>,
    era: u32,
    kind: Kind,
    told: bool,
}

/// What a breaker tells about itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Told {
    /// Whether requests pass.
    pub state: BreakerState,
    /// What somebody wants.
    pub wish: Wish,
    /// When it will be half open, if it is open by itself.
    pub opens_in: Option<Duration>,
    /// Requests, errors and slow answers in the window.
    pub counted: (u32, u32, u32),
}

impl Breaker {
    /// A closed breaker for `upstream`; of one route only, where one is named.
    #[must_use]
    pub fn new(spec: &BreakerSpec, route: Option<Arc<str>>, upstream: Arc<str>) -> Self {
        Self {
            route,
            upstream,
            errors: Conditions::of(&spec.errors),
            spec: spec.clone(),
            seen: OnceLock::new(),
        }
    }

    /// The route, where it is for one only.
    #[must_use]
    pub fn route(&self) -> Option<&Arc<str>> {
        self.route.as_ref()
    }

    /// The upstream.
    #[must_use]
    pub const fn upstream(&self) -> &Arc<str> {
        &self.upstream
    }

    /// Its name for commands: the upstream's, behind the route's where it is for one only.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.route {
            Some(route) => format!("{route}/{}", self.upstream),
            None => self.upstream.to_string(),
        }
    }

    /// What counts as an error.
    #[must_use]
    pub const fn errors(&self) -> &Conditions {
        &self.errors
    }

    /// From when on an attempt is slow.
    #[must_use]
    pub fn slow_after(&self) -> Option<Duration> {
        self.spec.slow_after.map(|span| span.duration())
    }

    /// Whether it goes by these rules.
    #[must_use]
    pub fn has_rules(&self, spec: &BreakerSpec) -> bool {
        self.spec == *spec
    }

    /// Goes on with what `before` has seen.
    pub fn inherit(&self, before: &Self) {
        // Also what is under way is told to both from now on.
        drop(self.seen.set(Arc::clone(before.seen())));
    }

    fn seen(&self) -> &Arc<Seen> {
        self.seen.get_or_init(Arc::default)
    }

    /// Lets a request through.
    ///
    /// # Errors
    /// It is open: how long it will be.
    pub fn admit(self: &Arc<Self>, now: Instant) -> Result<Ticket, Duration> {
        let seen = self.seen();
        match seen.wish() {
            Wish::Open => return Err(self.spec.open_for.duration()),
            Wish::Closed => return Ok(self.ticket(Kind::Usual)),
            Wish::Auto => {}
        }
        if seen.state() == BreakerState::Closed {
            return Ok(self.ticket(Kind::Usual));
        }
        if seen.state() == BreakerState::Open {
            let left = seen.left(now);
            if !left.is_zero() {
                return Err(left);
            }
            self.shift(BreakerState::Open, BreakerState::HalfOpen, now);
        }
        match self.probe(now) {
            Some(ticket) => Ok(ticket),
            None if seen.state() == BreakerState::Closed => Ok(self.ticket(Kind::Usual)),
            None => Err(seen.left(now).max(SOON)),
        }
    }

    /// Whether those who find out are as many as there may be. Who has found out nothing for as long as it was open keeps nobody
    /// else from it: it may be a client that takes its time.
    fn is_full(&self, now: Instant) -> bool {
        let seen = self.seen();
        let open_for = u64::try_from(self.spec.open_for.duration().as_millis()).unwrap_or(u64::MAX);
        let free = seen.probed.load(Ordering::Relaxed).saturating_add(open_for);
        seen.probing.load(Ordering::Relaxed) >= self.spec.probes && seen.millis(now) < free
    }

    /// Lets one through to find out, where one may be.
    fn probe(self: &Arc<Self>, now: Instant) -> Option<Ticket> {
        if self.is_full(now) {
            // Nearly all of those that come meanwhile: they wait for nobody.
            return None;
        }
        let seen = self.seen();
        let _turn = seen.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.state() != BreakerState::HalfOpen || self.is_full(now) {
            return None;
        }
        let relaxed = Ordering::Relaxed;
        if seen.probing.load(relaxed) >= self.spec.probes {
            seen.round.fetch_add(1, relaxed);
            seen.probing.store(0, relaxed);
        }
        seen.probing.fetch_add(1, relaxed);
        seen.probed.store(seen.millis(now), relaxed);
        Some(self.ticket(Kind::Probe(seen.round.load(relaxed))))
    }

    fn ticket(self: &Arc<Self>, kind: Kind) -> Ticket {
        Ticket {
            breaker: Arc::clone(self),
            era: self.seen().era.load(Ordering::Acquire),
            kind,
            told: false,
        }
    }

    /// Says what it is told to be from now on.
    pub fn wish(&self, wish: Wish) {
        let seen = self.seen();
        {
            let _turn = seen.turn.lock().unwrap_or_else(PoisonError::into_inner);
            seen.wish.store(wish as u8, Ordering::Relaxed);
            if wish != Wish::Open {
                // Whoever closes it, or leaves it to itself, begins with a clean slate.
                seen.openings.store(0, Ordering::Relaxed);
                seen.enter(BreakerState::Closed);
            }
        }
        log::warn!(upstream:% = self.upstream, route:? = self.route, wish:? = wish; "circuit breaker set by hand");
    }

    /// What it tells about itself.
    #[must_use]
    pub fn told(&self, now: Instant) -> Told {
        let seen = self.seen();
        let wish = seen.wish();
        let state = match (wish, seen.state()) {
            (Wish::Open, _) => BreakerState::Open,
            (Wish::Closed, _) => BreakerState::Closed,
            (Wish::Auto, BreakerState::Open) if seen.left(now).is_zero() => BreakerState::HalfOpen,
            (Wish::Auto, state) => state,
        };
        let left = seen.left(now);
        Told {
            state,
            wish,
            opens_in: (wish == Wish::Auto && state == BreakerState::Open).then_some(left),
            counted: seen.counted(self.length(), now),
        }
    }

    fn length(&self) -> u64 {
        let window = self.spec.window.duration().as_millis();
        u64::try_from(window).unwrap_or(u64::MAX) / BUCKETS as u64
    }

    /// An attempt ended.
    fn note(&self, ticket: &Ticket, (error, slow): (bool, bool), now: Instant) {
        let seen = self.seen();
        if seen.era.load(Ordering::Acquire) != ticket.era {
            return;
        }
        if matches!(ticket.kind, Kind::Probe(_)) {
            let bad = error || slow;
            let good = u32::from(!bad) + seen.good.fetch_add(u32::from(!bad), Ordering::Relaxed);
            if bad {
                self.shift(BreakerState::HalfOpen, BreakerState::Open, now);
            } else if good >= self.spec.probes {
                self.shift(BreakerState::HalfOpen, BreakerState::Closed, now);
            }
            return;
        }
        let bucket = seen.bucket(self.length(), now);
        bucket.all.fetch_add(1, Ordering::Relaxed);
        bucket.errors.fetch_add(u32::from(error), Ordering::Relaxed);
        bucket.slow.fetch_add(u32::from(slow), Ordering::Relaxed);
        let (all, errors, slow) = seen.counted(self.length(), now);
        let reached = |count: u32, rate: Share| {
            f64::from(count) >= f64::from(all) * rate.fraction() && count > 0
        };
        let bad = reached(errors, self.spec.error_rate) || reached(slow, self.spec.slow_rate);
        if all >= self.spec.min_requests && bad && seen.wish() == Wish::Auto {
            self.shift(BreakerState::Closed, BreakerState::Open, now);
        }
    }

    /// Changes the state, unless somebody else just did.
    fn shift(&self, from: BreakerState, to: BreakerState, now: Instant) {
        let seen = self.seen();
        {
            let _turn = seen.turn.lock().unwrap_or_else(PoisonError::into_inner);
            if seen.state() != from {
                return;
            }
            if to == BreakerState::Open {
                let openings = seen.openings.fetch_add(1, Ordering::Relaxed);
                let longer = 2_u32.saturating_pow(openings.min(20));
                let span = self.spec.open_for.duration().saturating_mul(longer);
                let span = span.min(self.spec.max_open.duration());
                seen.until.store(seen.millis(now + span), Ordering::Relaxed);
            }
            if to == BreakerState::Closed {
                seen.openings.store(0, Ordering::Relaxed);
            }
            seen.enter(to);
        }
        let (all, errors, slow) = seen.counted(self.length(), now);
        let left = seen.left(now);
        log::warn!(
            upstream:% = self.upstream, route:? = self.route, from:% = from.name(), to:% = to.name(),
            requests = all, errors = errors, slow = slow, open_for:? = left;
            "circuit breaker changed"
        );
    }
}

impl Seen {
    fn state(&self) -> BreakerState {
        BreakerState::of(self.state.load(Ordering::Acquire))
    }

    fn wish(&self) -> Wish {
        match self.wish.load(Ordering::Relaxed) {
            0 => Wish::Auto,
            1 => Wish::Open,
            _ => Wish::Closed,
        }
    }

    /// Only for who has the turn.
    fn enter(&self, state: BreakerState) {
        self.probing.store(0, Ordering::Relaxed);
        self.good.store(0, Ordering::Relaxed);
        if state == BreakerState::Closed {
            for bucket in &self.buckets {
                bucket.empty();
            }
        }
        self.era.fetch_add(1, Ordering::AcqRel);
        self.state.store(state as u8, Ordering::Release);
    }

    fn millis(&self, at: Instant) -> u64 {
        let began = *self.began.get_or_init(|| at);
        let millis = at.saturating_duration_since(began).as_millis();
        u64::try_from(millis).unwrap_or(u64::MAX)
    }

    fn left(&self, now: Instant) -> Duration {
        let until = self.until.load(Ordering::Relaxed);
        Duration::from_millis(until.saturating_sub(self.millis(now)))
    }

    /// The number of the bucket that is filled at `now`, from 1.
    fn number(&self, length: u64, now: Instant) -> u64 {
        self.millis(now).checked_div(length).unwrap_or(0) + 1
    }

    fn bucket(&self, length: u64, now: Instant) -> &Bucket {
        if self.length.swap(length, Ordering::Relaxed) != length {
            for bucket in &self.buckets {
                bucket.empty();
            }
        }
        let [first, ..] = &self.buckets;
        let number = self.number(length, now);
        let at = usize::try_from(number).unwrap_or(0) % BUCKETS;
        let bucket = self.buckets.get(at).unwrap_or(first);
        let before = bucket.number.load(Ordering::Relaxed);
        let relaxed = Ordering::Relaxed;
        if before != number
            && bucket
                .number
                .compare_exchange(before, number, relaxed, relaxed)
                .is_ok()
        {
            bucket.empty();
        }
        bucket
    }

    fn counted(&self, length: u64, now: Instant) -> (u32, u32, u32) {
        let number = self.number(length, now);
        let recent = self.buckets.iter().filter(|bucket| {
            let age = number.saturating_sub(bucket.number.load(Ordering::Relaxed));
            age < BUCKETS as u64
        });
        recent.fold((0, 0, 0), |(all, errors, slow), bucket| {
            (
                all + bucket.all.load(Ordering::Relaxed),
                errors + bucket.errors.load(Ordering::Relaxed),
                slow + bucket.slow.load(Ordering::Relaxed),
            )
        })
    }
}

impl Bucket {
    fn empty(&self) {
        self.all.store(0, Ordering::Relaxed);
        self.errors.store(0, Ordering::Relaxed);
        self.slow.store(0, Ordering::Relaxed);
    }
}

impl Ticket {
    /// The attempt ended: how, and after how long up to the head of the answer.
    pub fn tell(mut self, fared: Fared, took: Duration, now: Instant) {
        self.told = true;
        let slow = self.breaker.slow_after().is_some_and(|after| took >= after);
        let error = fared == Fared::Badly;
        self.breaker.note(&self, (error, slow), now);
    }

    /// Whose ticket it is.
    #[must_use]
    pub fn breaker(&self) -> &Breaker {
        &self.breaker
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let seen = self.breaker.seen();
        let Kind::Probe(round) = self.kind else {
            return;
        };
        // Whoever was to find out found out nothing: somebody else may, unless somebody did long ago.
        let _turn = seen.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let relaxed = Ordering::Relaxed;
        let holds =
            seen.era.load(Ordering::Acquire) == self.era && seen.round.load(relaxed) == round;
        if !self.told && holds {
            let less = |out: u32| out.checked_sub(1);
            let less = seen.probing.fetch_update(relaxed, relaxed, less);
            log::debug!(given_back = less.is_ok(); "a probe found out nothing");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::{Clock as _, SystemClock};

    const NO_TIME: Duration = Duration::ZERO;

    fn breaker(text: &str) -> Arc<Breaker> {
        let spec: BreakerSpec = serde_yaml::from_str(text).unwrap();
        Arc::new(Breaker::new(&spec, None, "orders".into()))
    }

    fn ask(breaker: &Arc<Breaker>, fared: Fared, now: Instant) -> bool {
        let ticket = breaker.admit(now);
        let passed = ticket.is_ok();
        if let Ok(ticket) = ticket {
            ticket.tell(fared, NO_TIME, now);
        }
        passed
    }

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn it_opens_at_its_rate_and_not_with_too_few() {
        let breaker = breaker("{ min_requests: 10 }");
        let now = SystemClock.instant();
        for _ in 0..5 {
            assert!(ask(&breaker, Fared::Well, now));
        }
        for _ in 0..4 {
            assert!(ask(&breaker, Fared::Badly, now));
        }
        assert_eq!(breaker.told(now).state, BreakerState::Closed);
        assert!(
            ask(&breaker, Fared::Badly, now),
            "the tenth, and the fifth error"
        );
        assert_eq!(breaker.told(now).state, BreakerState::Open);
        assert_eq!(breaker.admit(now).unwrap_err(), secs(15));
    }

    #[test]
    fn what_is_out_of_the_window_counts_no_more() {
        let breaker = breaker("{ min_requests: 4, window: 10s }");
        let now = SystemClock.instant();
        for _ in 0..3 {
            assert!(ask(&breaker, Fared::Badly, now));
        }
        let later = now + secs(10);
        for _ in 0..3 {
            assert!(ask(&breaker, Fared::Badly, later));
        }
        assert_eq!(breaker.told(later).state, BreakerState::Closed);
        assert_eq!(breaker.told(later).counted, (3, 3, 0));
    }

    #[test]
    fn slow_answers_open_it_too() {
        let breaker = breaker("{ min_requests: 5, slow_after: 1s, slow_rate: 80% }");
        let now = SystemClock.instant();
        breaker.admit(now).unwrap().tell(Fared::Well, NO_TIME, now);
        for _ in 0..4 {
            breaker.admit(now).unwrap().tell(Fared::Well, secs(1), now);
        }
        assert_eq!(breaker.told(now).state, BreakerState::Open);
    }

    fn opened(text: &str, now: Instant) -> Arc<Breaker> {
        let breaker = breaker(text);
        while breaker.told(now).state == BreakerState::Closed {
            assert!(ask(&breaker, Fared::Badly, now));
        }
        breaker
    }

    #[test]
    fn one_is_let_through_to_find_out_and_a_good_one_closes_it() {
        let now = SystemClock.instant();
        let breaker = opened("{ min_requests: 2 }", now);
        let later = now + secs(15);
        let probe = breaker.admit(later).unwrap();
        assert_eq!(breaker.told(later).state, BreakerState::HalfOpen);
        for _ in 0..100 {
            assert_eq!(breaker.admit(later).unwrap_err(), secs(1), "no storm");
        }
        probe.tell(Fared::Well, NO_TIME, later);
        assert_eq!(breaker.told(later).state, BreakerState::Closed);
        assert_eq!(breaker.told(later).counted, (0, 0, 0), "it begins anew");
    }

    #[test]
    fn a_bad_one_opens_it_again_for_twice_as_long() {
        let mut now = SystemClock.instant();
        let breaker = opened("{ min_requests: 2, max_open: 1m }", now);
        for open_for in [15, 30, 60, 60] {
            assert_eq!(breaker.admit(now).unwrap_err(), secs(open_for));
            now += secs(open_for);
            assert!(ask(&breaker, Fared::Badly, now));
        }
        now += secs(60);
        assert!(ask(&breaker, Fared::Well, now));
        assert_eq!(breaker.told(now).state, BreakerState::Closed);
        while breaker.told(now).state == BreakerState::Closed {
            ask(&breaker, Fared::Badly, now);
        }
        assert_eq!(
            breaker.admit(now).unwrap_err(),
            secs(15),
            "as the first time"
        );
    }

    #[test]
    fn one_that_found_out_nothing_gives_its_place_away() {
        let now = SystemClock.instant();
        let breaker = opened("{ min_requests: 2 }", now);
        let later = now + secs(15);
        drop(breaker.admit(later).unwrap());
        assert!(breaker.admit(later).is_ok());
    }

    #[test]
    fn one_that_finds_out_nothing_for_long_keeps_nobody_from_it() {
        let now = SystemClock.instant();
        let breaker = opened("{ min_requests: 2 }", now);
        let later = now + secs(15);
        let slow = breaker.admit(later).unwrap();
        assert!(breaker.admit(later + secs(14)).is_err());
        let later = later + secs(15);
        let other = breaker.admit(later).unwrap();
        assert!(breaker.admit(later).is_err(), "one at a time");
        drop(slow);
        assert!(breaker.admit(later).is_err(), "its place is another's");
        other.tell(Fared::Well, NO_TIME, later);
        assert_eq!(breaker.told(later).state, BreakerState::Closed);
    }

    #[test]
    fn all_of_several_have_to_be_good() {
        let now = SystemClock.instant();
        let breaker = opened("{ min_requests: 2, probes: 3 }", now);
        let later = now + secs(15);
        let probes: Vec<_> = (0..3).map(|_| breaker.admit(later).unwrap()).collect();
        assert!(breaker.admit(later).is_err());
        for probe in probes {
            assert_eq!(breaker.told(later).state, BreakerState::HalfOpen);
            probe.tell(Fared::Well, NO_TIME, later);
        }
        assert_eq!(breaker.told(later).state, BreakerState::Closed);
    }

    #[test]
    fn what_was_under_way_before_it_opened_says_nothing() {
        let now = SystemClock.instant();
        let breaker = breaker("{ min_requests: 2 }");
        let old = breaker.admit(now).unwrap();
        while breaker.told(now).state == BreakerState::Closed {
            ask(&breaker, Fared::Badly, now);
        }
        let later = now + secs(15);
        let probe = breaker.admit(later).unwrap();
        old.tell(Fared::Badly, NO_TIME, later);
        assert_eq!(breaker.told(later).state, BreakerState::HalfOpen);
        probe.tell(Fared::Well, NO_TIME, later);
        assert_eq!(breaker.told(later).state, BreakerState::Closed);
    }

    #[test]
    fn it_does_what_it_is_told() {
        let now = SystemClock.instant();
        let breaker = breaker("{ min_requests: 2 }");
        breaker.wish(Wish::Open);
        assert_eq!(breaker.admit(now).unwrap_err(), secs(15));
        assert_eq!(breaker.admit(now + secs(600)).unwrap_err(), secs(15));
        breaker.wish(Wish::Closed);
        for _ in 0..100 {
            assert!(ask(&breaker, Fared::Badly, now));
        }
        breaker.wish(Wish::Auto);
        assert!(ask(&breaker, Fared::Badly, now) && ask(&breaker, Fared::Badly, now));
        assert!(!ask(&breaker, Fared::Badly, now));
    }

    #[test]
    fn another_config_goes_on_where_this_one_was() {
        let now = SystemClock.instant();
        let before = opened("{ min_requests: 2 }", now);
        let after = breaker("{ min_requests: 2, open_for: 1m }");
        after.inherit(&before);
        assert_eq!(after.admit(now).unwrap_err(), secs(15));
        let later = now + secs(15);
        assert!(ask(&after, Fared::Badly, later));
        assert_eq!(after.admit(later).unwrap_err(), secs(120), "the new rules");
    }

    #[test]
    fn threads_together_have_no_more_probes_than_there_may_be() {
        let now = SystemClock.instant();
        let breaker = opened("{ min_requests: 2, probes: 3 }", now);
        let later = now + secs(15);
        let (out, through) = (AtomicU32::new(0), AtomicU32::new(0));
        let probe = || {
            for _ in 0..20_000 {
                if let Ok(ticket) = breaker.admit(later) {
                    assert!(out.fetch_add(1, Ordering::SeqCst) < 3);
                    through.fetch_add(1, Ordering::Relaxed);
                    out.fetch_sub(1, Ordering::SeqCst);
                    drop(ticket);
                }
            }
        };
        std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(probe))));
        assert!(through.load(Ordering::Relaxed) > 0);
        assert_eq!(breaker.told(later).state, BreakerState::HalfOpen);
        // Nobody found anything out, and every place was given back.
        for _ in 0..3 {
            breaker
                .admit(later)
                .unwrap()
                .tell(Fared::Well, NO_TIME, later);
        }
        assert_eq!(breaker.told(later).state, BreakerState::Closed);
    }
}
