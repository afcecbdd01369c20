//! What clients of HTTP/2 have not taken of their answers: when it is much, what else they asked for waits.
//!
//! A stream whose client takes nothing holds some pieces of its answer on their way through Pingora, and a connection may have
//! a hundred streams. So a connection may hold so much, and no other stream of it takes from its upstream until it holds less.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use tokio::sync::Notify;

use crate::gateway::Watch;

/// What one connection may hold: about sixteen large answers that are not taken.
const CONNECTION_MAX: usize = 6 * 1024 * 1024;
/// What all connections may hold together; beyond that no connection holds more than one answer.
const ALL_MAX: usize = 128 * 1024 * 1024;
/// Pingora has so many pieces of a body on their way, beside those that are being sent.
const PIECES_AHEAD: usize = 5;
/// Small pieces may be followed by larger ones.
const PIECE_BYTES_MIN: usize = 8 * 1024;

/// What all connections hold.
#[derive(Debug, Clone, Default)]
pub(super) struct AllUntaken(Arc<AtomicUsize>);

/// What one connection holds.
#[derive(Debug)]
pub(super) struct Untaken {
    all: AllUntaken,
    held: AtomicUsize,
    less: Notify,
}

/// Something that is held.
#[derive(Debug)]
pub(super) struct Held<'a>(&'a Untaken, usize);

impl Untaken {
    pub(super) fn new(all: AllUntaken) -> Self {
        Self {
            all,
            held: AtomicUsize::new(0),
            less: Notify::new(),
        }
    }

    /// An answer waits for its client: so many bytes of it are here, in pieces of at most `piece_bytes`.
    pub(super) fn hold(&self, bytes: usize, piece_bytes: usize) -> Held<'_> {
        let held = bytes + PIECES_AHEAD * piece_bytes.max(PIECE_BYTES_MIN);
        // Relaxed: only the numbers matter; `Notify` orders what it tells of.
        self.held.fetch_add(held, Ordering::Relaxed);
        self.all.0.fetch_add(held, Ordering::Relaxed);
        Held(self, held)
    }

    /// Whether other streams have to wait.
    pub(super) fn is_much(&self) -> bool {
        let held = self.held.load(Ordering::Relaxed);
        held >= CONNECTION_MAX || held > 0 && self.all.0.load(Ordering::Relaxed) >= ALL_MAX
    }

    /// Returns when there is room for another answer.
    pub(super) async fn room(&self) {
        loop {
            // Before the look, so that nothing is missed between the two.
            let less = self.less.notified();
            if !self.is_much() {
                return;
            }
            less.await;
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let Self(untaken, held) = self;
        untaken.held.fetch_sub(*held, Ordering::Relaxed);
        untaken.all.0.fetch_sub(*held, Ordering::Relaxed);
        untaken.less.notify_waiters();
    }
}

/// Works on a request that was begun. Where `crowded` is true there are many beside it.
pub(super) async fn in_turn<T>(
    untaken: &Untaken,
    watch: &Watch,
    crowded: impl Fn() -> bool,
    work: impl Future<Output = T>,
) -> T {
    let mut work = pin!(work);
    let mut room = pin!(None);
    poll_fn(|cx| {
        // Who waits for the client itself has its turn: nobody else would make room. Who has not sent its request yet may
        // hold what others need to connect.
        while watch.is_sent() && !watch.is_stalled() && untaken.is_much() {
            if room.is_none() {
                room.set(Some(untaken.room()));
            }
            let waits = room.as_mut().as_pin_mut().map(|room| room.poll(cx));
            if waits.is_some_and(|waits| waits.is_pending()) {
                watch.waits_its_turn();
                return Poll::Pending;
            }
            room.set(None);
        }
        room.set(None);
        watch.has_its_turn();
        let sent = watch.is_sent();
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(done);
        }
        if !sent || !crowded() || watch.is_stalled() {
            return Poll::Pending;
        }
        // What came in one turn goes out in the next: then it is known whether the client takes it, before another stream
        // takes from its upstream.
        work.as_mut().poll(cx)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_holds_so_much_and_less_when_all_hold_much() {
        let all = AllUntaken::default();
        let (a, b) = (Untaken::new(all.clone()), Untaken::new(all.clone()));
        let first = a.hold(64 * 1024, 64 * 1024);
        assert!(!a.is_much());
        let many: Vec<Held<'_>> = (0..15).map(|_| a.hold(64 * 1024, 64 * 1024)).collect();
        assert!(a.is_much() && !b.is_much());
        drop(many);
        assert!(!a.is_much());
        all.0.fetch_add(ALL_MAX, Ordering::Relaxed);
        assert!(a.is_much() && !b.is_much());
        drop(first);
        assert!(!a.is_much());
        all.0.fetch_sub(ALL_MAX, Ordering::Relaxed);
        assert_eq!(all.0.load(Ordering::Relaxed), 0);
    }
}
