//! Who comes far more often than anybody honest would is sent away before anything is read: an estimate by address, of fixed size.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pingora_limits::estimator::Estimator;

use super::caps::network;
use crate::base::clock::SharedClock;

/// The table that counts: so many rows of so many slots, 2 MiB whoever comes. An address shares a slot with others in one row, but
/// hardly in all: it is counted too high by about one where 65,536 others come in the same second, and too low only by those that are
/// being counted on other workers.
const ROWS: usize = 4;
const SLOTS: usize = 65_536;

/// So many connections of an address may have to be ended in a second for what they did. Whoever goes on so gets no further one
/// before the next second: coming anew would give back what a connection may do at once.
const MISUSES_MAX: isize = 10;
/// So many requests may all connections of an address take back in a second, or half of what they ask for if that is more; then
/// whichever takes back one more is not read until the next. It is twice what a browser has open when somebody goes to another page.
const TAKEN_BACK_MAX: isize = 200;
/// What these are counted as: numbers that hash like none of [`Arriving`].
const MISUSE: u8 = u8::MAX;
const TAKEN_BACK: u8 = u8::MAX - 1;

/// What comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Arriving {
    Connection,
    Request,
}

impl Arriving {
    /// The key of the config that limits it.
    pub(super) const fn limit(self) -> &'static str {
        match self {
            Self::Connection => "connection_rate_per_ip",
            Self::Request => "request_rate_per_ip",
        }
    }
}

/// How often every address came in this second.
pub(super) struct Flood {
    counts: Estimator,
    start: Instant,
    /// The second that is counted, from 1.
    second: AtomicU64,
    /// Whether somebody was told of this second.
    told: AtomicBool,
    clock: SharedClock,
}

impl Flood {
    /// Counts from none.
    pub(super) fn new(clock: SharedClock) -> Self {
        Self {
            counts: Estimator::new(ROWS, SLOTS),
            start: clock.instant(),
            second: AtomicU64::new(1),
            told: AtomicBool::new(false),
            clock,
        }
    }

    /// Counts one more of `address` (IPv6: of its /64 network) at listener number `listener`, named `name`; `false`: it is more
    /// than `most` in this second.
    pub(super) fn admits(
        &self,
        what: Arriving,
        (listener, name): (usize, &str),
        address: IpAddr,
        most: Option<u32>,
    ) -> bool {
        let Some(most) = most else {
            return true;
        };
        self.turn();
        let address = network(address);
        let count = self.counts.incr((what, listener, address), 1);
        if u64::try_from(count).unwrap_or(0) <= u64::from(most) {
            return true;
        }
        self.tell(name, address, what.limit());
        false
    }

    /// Tells of a flood, once in a second: it must not become one of messages.
    fn tell(&self, listener: &str, client: IpAddr, limit: &str) {
        if !self.told.swap(true, Ordering::Relaxed) {
            log::warn!(listener:%, client:%, limit:%; "a flood is held off");
        }
    }

    /// Notes that clients at `address` took back `requests` at listener number `listener`, named `name`. Returns how long
    /// nothing more of who did so is read: until this second is over, if there were too many in it.
    pub(super) fn takes_back(
        &self,
        (listener, name): (usize, &str),
        address: IpAddr,
        requests: u32,
    ) -> Option<Duration> {
        let second = self.turn();
        let address = network(address);
        let more = isize::try_from(requests).unwrap_or(isize::MAX);
        let count = self.counts.incr((TAKEN_BACK, listener, address), more);
        let asked = self.counts.get((Arriving::Request, listener, address));
        if count <= TAKEN_BACK_MAX || count <= asked / 2 {
            return None;
        }
        self.tell(name, address, "taken_back");
        let now = self.clock.instant();
        let over = self.start + Duration::from_secs(second);
        Some(over.saturating_duration_since(now))
    }

    /// Notes that a connection of `address` at listener number `listener` was ended for what it did.
    pub(super) fn misused(&self, listener: usize, address: IpAddr) {
        self.turn();
        self.counts.incr((MISUSE, listener, network(address)), 1);
    }

    /// Whether that was the case too often in this second.
    pub(super) fn is_misusing(&self, listener: usize, address: IpAddr) -> bool {
        self.turn();
        let count = self.counts.get((MISUSE, listener, network(address)));
        count > MISUSES_MAX
    }

    /// Begins with none when a second is over. What others count meanwhile may be lost: it was a flood, or does not matter.
    ///
    /// Returns the second that is counted, from 1: it is over so many seconds after the start.
    fn turn(&self) -> u64 {
        let passed = self.clock.instant().saturating_duration_since(self.start);
        let now = passed.as_secs() + 1;
        // Relaxed: only the numbers matter, nothing is published through them.
        let last = self.second.load(Ordering::Relaxed);
        let (set, read) = (Ordering::Relaxed, Ordering::Relaxed);
        if now > last && self.second.compare_exchange(last, now, set, read).is_ok() {
            self.counts.reset();
            self.told.store(false, Ordering::Relaxed);
        }
        now
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::base::clock::ManualClock;

    const HERE: (usize, &str) = (0, "public");

    fn flood() -> (Flood, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::at(0));
        (Flood::new(Arc::clone(&clock) as SharedClock), clock)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn so_many_in_a_second_and_no_more() {
        let (flood, clock) = flood();
        let one = || flood.admits(Arriving::Connection, HERE, ip("192.0.2.1"), Some(3));
        for _ in 0..3 {
            assert_eq!([one(), one(), one(), one()], [true, true, true, false]);
            // Others, other things and other listeners have their own.
            let [other, mapped] = ["192.0.2.2", "::ffff:192.0.2.1"].map(ip);
            assert!(flood.admits(Arriving::Connection, HERE, other, Some(3)));
            assert!(flood.admits(Arriving::Request, HERE, ip("192.0.2.1"), Some(3)));
            assert!(flood.admits(Arriving::Connection, (1, "b"), ip("192.0.2.1"), Some(3)));
            assert!(!flood.admits(Arriving::Connection, HERE, mapped, Some(3)));
            assert!(flood.admits(Arriving::Connection, HERE, ip("192.0.2.1"), None));
            clock.advance(Duration::from_secs(1));
        }
    }

    #[test]
    fn who_misuses_connections_gets_none_until_the_second_is_over() {
        let (flood, clock) = flood();
        let one = ip("192.0.2.1");
        for _ in 0..=MISUSES_MAX {
            assert!(!flood.is_misusing(0, one));
            flood.misused(0, one);
        }
        assert!(flood.is_misusing(0, ip("::ffff:192.0.2.1")));
        assert!(!flood.is_misusing(1, one) && !flood.is_misusing(0, ip("192.0.2.2")));
        clock.advance(Duration::from_secs(1));
        assert!(!flood.is_misusing(0, one));
    }

    #[test]
    fn who_took_back_too_many_waits_until_the_second_is_over() {
        let (flood, clock) = flood();
        let one = ip("192.0.2.1");
        clock.advance(Duration::from_millis(300));
        assert_eq!(flood.takes_back(HERE, one, 150), None);
        assert_eq!(flood.takes_back(HERE, one, 50), None);
        assert_eq!(flood.takes_back(HERE, ip("192.0.2.2"), 200), None);
        let left = Some(Duration::from_millis(700));
        assert_eq!(flood.takes_back(HERE, ip("::ffff:192.0.2.1"), 1), left);
        assert_eq!(flood.takes_back(HERE, one, 0), left);
        assert_eq!(flood.takes_back((1, "b"), one, 0), None);
        clock.advance(Duration::from_millis(700));
        assert_eq!(flood.takes_back(HERE, one, 1), None);
        // Where much is asked for, more may be taken back.
        for _ in 0..600 {
            flood.admits(Arriving::Request, HERE, one, Some(50_000));
        }
        assert_eq!(flood.takes_back(HERE, one, 299), None);
        assert!(flood.takes_back(HERE, one, 1).is_some());
    }

    #[test]
    fn neighbours_of_one_network_share_what_they_may() {
        let (flood, _) = flood();
        let comes = |text| flood.admits(Arriving::Request, HERE, ip(text), Some(2));
        assert!(comes("2001:db8::1") && comes("2001:db8::ffff:2"));
        assert!(!comes("2001:db8::3"));
        assert!(comes("2001:db8:0:1::3"));
    }

    #[test]
    fn threads_together_let_in_as_many_as_one() {
        let (flood, _) = flood();
        let admitted = AtomicU64::new(0);
        let come = || {
            for _ in 0..20_000 {
                let one = flood.admits(Arriving::Request, HERE, ip("192.0.2.1"), Some(30_000));
                admitted.fetch_add(u64::from(one), Ordering::Relaxed);
            }
        };
        std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(come))));
        // Whoever is between two rows of the table is not counted yet: the three others at most.
        let admitted = admitted.load(Ordering::Relaxed);
        assert!((30_000..=30_003).contains(&admitted), "{admitted}");
    }

    #[test]
    fn a_hundred_thousand_others_make_nobody_a_flood() {
        let (flood, _) = flood();
        for number in 0..100_000_u32 {
            let other = IpAddr::from(number.to_be_bytes());
            flood.admits(Arriving::Connection, HERE, other, Some(5));
        }
        let counted = (0..1000_u32).filter(|number| {
            let one = IpAddr::from((0x0900_0000 | number).to_be_bytes());
            (0..5).all(|_| flood.admits(Arriving::Connection, HERE, one, Some(13)))
        });
        assert_eq!(counted.count(), 1000);
    }
}
