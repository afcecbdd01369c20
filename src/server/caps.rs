//! How many connections there may be: of the process, of a listener, of one address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ahash::RandomState;

use super::flood::Arriving;

/// Addresses are spread over so many maps, so that two workers seldom wait for one lock.
const SHARDS: usize = 64;

/// Every connection is counted here.
#[derive(Debug)]
pub(super) struct Caps {
    process: Arc<AtomicU32>,
    process_max: u32,
    addresses: Arc<[Shard; SHARDS]>,
    hasher: RandomState,
    listeners: Mutex<HashMap<Arc<str>, Arc<AtomicU32>>>,
    turned_away: Arc<AtomicU32>,
    requests: Arc<AtomicU32>,
}

/// More than this are not told why they are turned away; each takes a descriptor meanwhile.
const TURNED_AWAY_MAX: u32 = 64;
/// So many of a process that may have few: one for so many places.
const PLACES_FOR_ONE: u32 = 8;

/// A place among a few, until this is dropped: of somebody who is told why there is no seat, of a request.
#[derive(Debug)]
pub(super) struct Turn(Arc<AtomicU32>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

type Shard = Mutex<HashMap<IpAddr, u32, RandomState>>;

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// The process, or the listener, has as many as it may.
    Connections,
    /// The address has.
    Address,
    /// The address comes too often.
    Rate,
    /// Its connections had to be ended too often.
    Misuse,
}

impl Full {
    /// As a metric calls it.
    pub(super) const fn code(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Address => "connections_per_ip",
            Self::Rate => Arriving::Connection.limit(),
            Self::Misuse => "misuse",
        }
    }
}

/// What one connection takes; it is given back when this is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    counts: [Arc<AtomicU32>; 2],
    address: Option<(Arc<[Shard; SHARDS]>, usize, IpAddr)>,
}

impl Caps {
    /// Counts from none; the process may have `process_max`.
    pub(super) fn new(process_max: u32) -> Self {
        Self {
            process: Arc::default(),
            process_max,
            addresses: Arc::new(std::array::from_fn(|_| Shard::default())),
            hasher: RandomState::new(),
            listeners: Mutex::default(),
            turned_away: Arc::default(),
            requests: Arc::default(),
        }
    }

    /// Takes a place for one more request of a connection that may have many at once. Each may take a descriptor for its
    /// upstream, so there are no more of them than of connections; `None`: there is no place.
    pub(super) fn request(&self) -> Option<Turn> {
        let before = self.requests.fetch_add(1, Ordering::Relaxed);
        let place = Turn(Arc::clone(&self.requests));
        (before < self.process_max).then_some(place)
    }

    /// The count of the listener `name`, whichever config it is in.
    pub(super) fn listener(&self, name: &Arc<str>) -> Arc<AtomicU32> {
        let mut listeners = self
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Nobody else counts on what only this map still knows.
        listeners.retain(|known, count| known == name || Arc::strong_count(count) > 1);
        Arc::clone(listeners.entry(Arc::clone(name)).or_default())
    }

    /// Whether somebody who is not let in is told why; who has more than their share is not.
    pub(super) fn turn_away(&self, full: Full) -> Option<Turn> {
        if full != Full::Connections {
            return None;
        }
        let turn = Turn(Arc::clone(&self.turned_away));
        let before = self.turned_away.fetch_add(1, Ordering::Relaxed);
        let most = (self.process_max / PLACES_FOR_ONE).clamp(1, TURNED_AWAY_MAX);
        (before < most).then_some(turn)
    }

    /// Takes a seat at a listener that may have `most` connections, and `most_of_one` of one address.
    pub(super) fn enter(
        &self,
        listener: &Arc<AtomicU32>,
        most: Option<u32>,
        address: Option<(IpAddr, u32)>,
    ) -> Result<Seat, Full> {
        let counts = [Arc::clone(&self.process), Arc::clone(listener)];
        let mut seat = Seat {
            counts,
            address: None,
        };
        let [process, here] = &seat.counts;
        // Relaxed: only the numbers matter, nothing is published through them.
        let all = process.fetch_add(1, Ordering::Relaxed);
        let mine = here.fetch_add(1, Ordering::Relaxed);
        if all >= self.process_max || most.is_some_and(|most| mine >= most) {
            return Err(Full::Connections);
        }
        let Some((address, most)) = address else {
            return Ok(seat);
        };
        let address = network(address);
        let shards = u64::try_from(SHARDS).unwrap_or(1);
        let shard = usize::try_from(self.hasher.hash_one(address) % shards).unwrap_or(0);
        let Some(counts) = self.addresses.get(shard) else {
            return Ok(seat);
        };
        let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if *count >= most {
            return Err(Full::Address);
        }
        *count += 1;
        drop(counts);
        seat.address = Some((Arc::clone(&self.addresses), shard, address));
        Ok(seat)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        for count in &self.counts {
            count.fetch_sub(1, Ordering::Relaxed);
        }
        let Some((shards, shard, address)) = self.address.take() else {
            return;
        };
        if let Some(counts) = shards.get(shard) {
            let mut counts = counts.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(count) = counts.get_mut(&address) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(&address);
                }
            }
        }
    }
}

/// Whoever has one address of IPv6 has its /64 network too.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match crate::base::net::canonical_ip(address) {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let bits = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(bits))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Option<(IpAddr, u32)> {
        Some((text.parse().unwrap(), 2))
    }

    #[test]
    fn seats_are_given_back() {
        let caps = Caps::new(3);
        let count = caps.listener(&"a".into());
        let seats: Vec<Seat> = (0..3)
            .map(|_| caps.enter(&count, None, None).unwrap())
            .collect();
        assert_eq!(
            caps.enter(&count, None, None).unwrap_err(),
            Full::Connections
        );
        drop(seats);
        assert_eq!(count.load(Ordering::Relaxed), 0);
        caps.enter(&count, None, None).unwrap();
    }

    #[test]
    fn a_listener_has_its_own_count() {
        let caps = Caps::new(100);
        let (a, b) = (caps.listener(&"a".into()), caps.listener(&"b".into()));
        let _seat = caps.enter(&a, Some(1), None).unwrap();
        assert_eq!(
            caps.enter(&a, Some(1), None).unwrap_err(),
            Full::Connections
        );
        caps.enter(&b, Some(1), None).unwrap();
        assert_eq!(a.load(Ordering::Relaxed), 1);
        // Another task of the same listener counts on.
        assert_eq!(caps.listener(&"a".into()).load(Ordering::Relaxed), 1);
    }

    #[test]
    fn an_address_has_so_many_and_no_more_and_ipv6_counts_by_network() {
        let caps = Caps::new(100);
        let count = caps.listener(&"a".into());
        let first = caps.enter(&count, None, ip("2001:db8::1")).unwrap();
        let _second = caps.enter(&count, None, ip("2001:db8::2")).unwrap();
        let third = caps.enter(&count, None, ip("2001:db8::3"));
        assert_eq!(third.unwrap_err(), Full::Address);
        caps.enter(&count, None, ip("2001:db8:0:1::1")).unwrap();
        caps.enter(&count, None, ip("192.0.2.1")).unwrap();
        drop(first);
        caps.enter(&count, None, ip("2001:db8::4")).unwrap();
        assert_eq!(
            caps.addresses
                .iter()
                .map(|shard| shard.lock().unwrap().len())
                .sum::<usize>(),
            1
        );
    }

    #[test]
    fn threads_together_have_no_more_seats_than_there_are() {
        let caps = Caps::new(8);
        let count = caps.listener(&"a".into());
        let (seated, entered) = (AtomicU32::new(0), AtomicU32::new(0));
        let sit = || {
            for round in 0_u32..20_000 {
                let address = ip(if round % 2 == 0 {
                    "192.0.2.1"
                } else {
                    "192.0.2.2"
                });
                if let Ok(seat) = caps.enter(&count, Some(3), address) {
                    assert!(seated.fetch_add(1, Ordering::SeqCst) < 3);
                    entered.fetch_add(1, Ordering::Relaxed);
                    seated.fetch_sub(1, Ordering::SeqCst);
                    drop(seat);
                }
            }
        };
        std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(sit))));
        assert!(entered.load(Ordering::Relaxed) > 0);
        assert_eq!(count.load(Ordering::Relaxed), 0);
        assert_eq!(caps.process.load(Ordering::Relaxed), 0);
        let known = |shard: &Shard| shard.lock().unwrap().len();
        assert_eq!(caps.addresses.iter().map(known).sum::<usize>(), 0);
    }
}
