//! One question for everybody who wants to know the same at the same time.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OnceCell;

use crate::base::digest::Digest;

/// So many different questions of one authenticator are under way at most; who comes then gets 503.
const FLIGHTS_MAX: usize = 1024;

type Open<V> = HashMap<Digest, Arc<OnceCell<V>>, ahash::RandomState>;

/// The questions that are under way.
#[derive(Debug)]
pub(super) struct Flights<V>(Mutex<Open<V>>);

/// A place at one of them; the last to leave takes it away.
struct Seat<'f, V> {
    flights: &'f Flights<V>,
    digest: Digest,
    cell: Arc<OnceCell<V>>,
}

impl<V> Default for Flights<V> {
    fn default() -> Self {
        Self(Mutex::new(HashMap::default()))
    }
}

impl<V: Clone> Flights<V> {
    /// What `ask` finds out. Whoever comes first asks; whoever comes meanwhile hears the same; when the first one goes away,
    /// the next one asks. Nothing: too many questions are under way.
    pub(super) async fn join(&self, digest: Digest, ask: impl Future<Output = V>) -> Option<V> {
        let seat = self.seat(digest)?;
        Some(seat.cell.get_or_init(|| ask).await.clone())
    }

    fn seat(&self, digest: Digest) -> Option<Seat<'_, V>> {
        let mut open = self.open();
        let full = open.len() >= FLIGHTS_MAX;
        let cell = match open.get(&digest) {
            Some(cell) => Arc::clone(cell),
            None if full => return None,
            None => {
                let cell = Arc::new(OnceCell::new());
                open.insert(digest, Arc::clone(&cell));
                cell
            }
        };
        Some(Seat {
            flights: self,
            digest,
            cell,
        })
    }
}

impl<V> Flights<V> {
    fn open(&self) -> MutexGuard<'_, Open<V>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V> Drop for Seat<'_, V> {
    fn drop(&mut self) {
        let mut open = self.flights.open();
        let mine = |open: &Open<V>| {
            let cell = open.get(&self.digest);
            cell.is_some_and(|cell| Arc::ptr_eq(cell, &self.cell))
        };
        // What was found out is told to who was there; who comes later asks anew. Two hold it: the map, and this one.
        let over = self.cell.initialized() || Arc::strong_count(&self.cell) <= 2;
        if over && mine(&open) {
            open.remove(&self.digest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Waker};

    use super::*;

    fn is_pending<F: Future>(work: &mut Pin<Box<F>>) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        work.as_mut().poll(&mut context).is_pending()
    }

    #[tokio::test]
    async fn one_asks_for_all_and_the_next_where_it_goes_away() {
        let (flights, asked) = (Flights::<usize>::default(), AtomicUsize::new(0));
        let digest = Digest::of(b"a");
        let gate = tokio::sync::Semaphore::new(0);
        let ask = || async {
            let number = asked.fetch_add(1, Ordering::SeqCst);
            drop(gate.acquire().await);
            number
        };
        {
            let mut first = Box::pin(flights.join(digest, ask()));
            let mut second = Box::pin(flights.join(digest, ask()));
            assert!(is_pending(&mut first));
            assert!(is_pending(&mut second));
            assert_eq!(asked.load(Ordering::SeqCst), 1);
            drop(first);
            assert!(is_pending(&mut second));
            let mut third = Box::pin(flights.join(digest, ask()));
            assert!(is_pending(&mut third));
            gate.add_permits(9);
            assert_eq!((second.await, third.await), (Some(1), Some(1)));
        }
        assert!(flights.open().is_empty());
        assert_eq!(flights.join(digest, ask()).await, Some(2));
        let mut abandoned = Box::pin(flights.join(digest, std::future::pending()));
        assert!(is_pending(&mut abandoned));
        drop(abandoned);
        assert!(flights.open().is_empty());
    }

    #[tokio::test]
    async fn there_are_only_so_many_at_a_time() {
        let flights = Flights::<u8>::default();
        let mut held: Vec<_> = (0..FLIGHTS_MAX)
            .map(|number| flights.seat(Digest::of(&number.to_be_bytes())))
            .collect();
        assert_eq!(
            flights.join(Digest::of(b"one more"), async { 1 }).await,
            None
        );
        held.pop();
        assert_eq!(
            flights.join(Digest::of(b"one more"), async { 1 }).await,
            Some(1)
        );
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn workers_together_ask_once_and_hear_the_same() {
        let flights = Arc::new(Flights::<usize>::default());
        for round in 0..500_usize {
            let asked = Arc::new(AtomicUsize::new(0));
            let gate = Arc::new(tokio::sync::Semaphore::new(0));
            let here = Arc::new(AtomicUsize::new(0));
            let who = (0..8).map(|_| {
                let (flights, asked) = (Arc::clone(&flights), Arc::clone(&asked));
                let (gate, here) = (Arc::clone(&gate), Arc::clone(&here));
                tokio::spawn(async move {
                    let ask = async {
                        asked.fetch_add(1, Ordering::SeqCst);
                        drop(gate.acquire().await);
                        round
                    };
                    let heard = flights.join(Digest::of(&round.to_be_bytes()), ask);
                    let mut heard = Box::pin(heard);
                    // Each of them has taken its seat before anybody hears anything.
                    let pending = is_pending(&mut heard);
                    if here.fetch_add(1, Ordering::SeqCst) == 7 {
                        gate.add_permits(1);
                    }
                    assert!(pending);
                    heard.await
                })
            });
            let who: Vec<_> = who.collect();
            for one in who {
                assert_eq!(one.await.unwrap(), Some(round));
            }
            assert_eq!(asked.load(Ordering::SeqCst), 1);
        }
        assert!(flights.open().is_empty());
    }
}
