//! Which of several targets a request goes to: compiled when the targets change, then a choice takes no lock and no memory.

mod load;
mod lots;
mod maglev;
mod ring;
#[cfg(test)]
mod tests;
mod turns;

use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

pub(super) use load::Load;
use lots::Lots;
use maglev::Maglev;
use ring::Ring;
use turns::Turns;

/// So many places of a ring or table are looked at before every target is asked in turn.
const PROBES: usize = 64;

/// How fine caps are: so fine that among a million requests they are exact, whatever the weights.
const SHARE_BITS: u32 = 56;

/// How targets are chosen, as written.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Method {
    /// By turns and weight.
    RoundRobin,
    /// By chance and weight.
    Random,
    /// Of two drawn, the one with fewer requests for its weight.
    LeastRequest,
    /// Of two drawn, the one that is expected to be done sooner.
    PeakEwma,
    /// The same key leads to the same target, by its place on a ring. `Some`: no target has more than this share of its
    /// part, in thousandths.
    RingHash(Option<u32>),
    /// The same key leads to the same target, by a table. `Some` as above.
    Maglev(Option<u32>),
}

/// One target, as the choice sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'a> {
    /// What it is called: the same name has the same places on ring and table, on every machine.
    pub(super) name: &'a str,
    /// Its part of the requests; 0 is none.
    pub(super) weight: u32,
}

/// What one choice is made by.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Draw {
    /// Of the key, where there is one; without one chance decides.
    pub(super) hash: Option<u64>,
    /// The time of the last answer, in nanoseconds since any beginning.
    pub(super) now: u64,
}

/// What all choices of an upstream count together. It outlives the structure that is chosen from.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Requests that are under way, at all targets.
    pub(super) busy: AtomicU32,
    /// Turns that were taken.
    pub(super) turns: AtomicUsize,
}

enum How {
    Turns(Turns),
    Random(Lots),
    LeastRequest(Lots),
    PeakEwma(Lots),
    Ring(Ring),
    Maglev(Maglev),
}

/// Targets, ready to be chosen from.
pub(super) struct Balance {
    how: How,
    weights: Box<[u32]>,
    /// The most that each target may have of all requests, in parts of 2^[`SHARE_BITS`]; empty = any.
    caps: Box<[u64]>,
}

impl Balance {
    /// Lays out turns, lots, ring or table.
    #[must_use]
    pub(super) fn new(method: Method, entries: &[Entry<'_>]) -> Self {
        let weights: Box<[u32]> = entries.iter().map(|entry| entry.weight).collect();
        let bound = match method {
            Method::RingHash(bound) | Method::Maglev(bound) => bound.unwrap_or(0),
            Method::RoundRobin | Method::Random | Method::LeastRequest | Method::PeakEwma => 0,
        };
        let how = match method {
            Method::RoundRobin => How::Turns(Turns::new(&weights)),
            Method::Random => How::Random(Lots::new(&weights)),
            Method::LeastRequest => How::LeastRequest(Lots::new(&weights)),
            Method::PeakEwma => How::PeakEwma(Lots::new(&weights)),
            Method::RingHash(_) => How::Ring(Ring::new(entries)),
            Method::Maglev(_) => How::Maglev(Maglev::new(entries)),
        };
        let caps = if bound > 0 {
            caps(&weights, bound)
        } else {
            Box::default()
        };
        Self { how, weights, caps }
    }

    /// Chooses a target that is `fit`, and counts the request as its own: whoever is done says [`Load::leave`].
    pub(super) fn choose<'l>(
        &self,
        draw: Draw,
        loads: impl Fn(usize) -> Option<&'l Load>,
        fit: impl Fn(usize) -> bool,
        counts: &Counts,
    ) -> Option<usize> {
        let turns = || counts.turns.fetch_add(1, Ordering::Relaxed);
        if self.caps.is_empty() {
            let index = self.look(draw, &loads, &fit, &turns)?;
            loads(index)?.enter();
            return Some(index);
        }
        // Relaxed: a count that is a moment old makes the bound no less a bound.
        let all = u64::from(counts.busy.load(Ordering::Relaxed)) + 1;
        let enter = |index: usize| {
            fit(index) && loads(index).is_some_and(|load| load.enter_below(self.cap(index, all)))
        };
        self.look(draw, &loads, &enter, &turns)
    }

    /// The target that would come next, without its turn taken or anything counted; none where chance has a part in it.
    pub(super) fn peek(&self, hash: Option<u64>, counts: &Counts) -> Option<usize> {
        match (&self.how, hash) {
            (How::Turns(turns), _) => turns.choice(counts.turns.load(Ordering::Relaxed)),
            (How::Ring(ring), Some(hash)) => ring.walk(hash).next(),
            (How::Maglev(table), Some(hash)) => table.walk(hash).next(),
            _ if self.weights.len() == 1 => Some(0),
            _ => None,
        }
    }

    /// How many requests target `index` may have when there are `all`.
    fn cap(&self, index: usize, all: u64) -> u32 {
        let share = self.caps.get(index).copied().unwrap_or(0);
        // A product and a shift: a division of this size takes as long as all the rest of a choice.
        let part = u128::from(all) * u128::from(share);
        let whole = (1 << SHARE_BITS) - 1;
        u32::try_from((part + whole) >> SHARE_BITS).unwrap_or(u32::MAX)
    }

    /// The first target that is `fit`, in the order of the method.
    fn look<'l>(
        &self,
        draw: Draw,
        loads: &impl Fn(usize) -> Option<&'l Load>,
        fit: &impl Fn(usize) -> bool,
        turn: &impl Fn() -> usize,
    ) -> Option<usize> {
        let hash = || draw.hash.unwrap_or_else(|| fastrand::u64(..));
        let weight = |index: usize| self.weights.get(index).map_or(1, |weight| (*weight).max(1));
        match &self.how {
            How::Turns(turns) => self.among((0..PROBES).map_while(|_| turns.choice(turn())), fit),
            How::Random(lots) => self.among((0..PROBES).map_while(|_| lots.draw()), fit),
            How::LeastRequest(lots) => self.better(lots, fit, |index| {
                Some(f64::from(loads(index)?.in_flight()) / f64::from(weight(index)))
            }),
            How::PeakEwma(lots) => self.better(lots, fit, |index| {
                Some(loads(index)?.expected(draw.now, weight(index)))
            }),
            How::Ring(ring) => self.among(ring.walk(hash()).take(PROBES), fit),
            How::Maglev(table) => self.among(table.walk(hash()).take(PROBES), fit),
        }
    }

    /// The first of `order` that is fit; when there is none, the first of all.
    fn among(
        &self,
        mut order: impl Iterator<Item = usize>,
        fit: &impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let first = order.next()?;
        if fit(first) {
            return Some(first);
        }
        let others = (first + 1..self.weights.len()).chain(0..first);
        let mut others =
            others.filter(|index| self.weights.get(*index).is_some_and(|weight| *weight > 0));
        order
            .find(|index| *index != first && fit(*index))
            .or_else(|| others.find(|index| fit(*index)))
    }

    /// Of two that are drawn, the one that costs less; the first where they cost the same.
    fn better(
        &self,
        lots: &Lots,
        fit: &impl Fn(usize) -> bool,
        cost: impl Fn(usize) -> Option<f64>,
    ) -> Option<usize> {
        let draws = || (0..PROBES).map_while(|_| lots.draw());
        let one = self.among(draws(), fit)?;
        if self.weights.len() == 1 {
            return Some(one);
        }
        // Beside a very heavy target nobody else may come up: that is what its weight says.
        let Some(other) = draws().take(16).find(|index| *index != one && fit(*index)) else {
            return Some(one);
        };
        if cost(other)? < cost(one)? {
            Some(other)
        } else {
            Some(one)
        }
    }
}

/// What each target may have of all requests, by weight: `bound` is in thousandths.
fn caps(weights: &[u32], bound: u32) -> Box<[u64]> {
    let total: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
    let cap = |weight: &u32| {
        let part = (u128::from(*weight) * u128::from(bound)) << SHARE_BITS;
        u64::try_from(part / (total.max(1) * 1000)).unwrap_or(u64::MAX)
    };
    weights.iter().map(cap).collect()
}

/// A hash that is the same on every machine that runs this version, so that all of a fleet choose alike.
#[must_use]
pub(super) fn stable_hash(parts: &[&[u8]]) -> u64 {
    use std::hash::Hasher as _;
    let mut hasher = std::hash::DefaultHasher::new();
    for part in parts {
        hasher.write(part);
        hasher.write_u8(0xff);
    }
    hasher.finish()
}
