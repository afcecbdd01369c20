//! Consistent hashing by a ring: each target has points on it, and a key belongs to the next point.

use super::{Entry, stable_hash};

/// Points of one target among equals: with fewer the parts of targets differ by more than a tenth.
const POINTS: usize = 1024;
/// Points of all targets together, 8 bytes each: what a processor's cache holds.
const POINTS_MAX: usize = 1 << 18;
/// Places are found by their first bits: so many of them lead to where to look.
const SECTOR_BITS: u32 = 14;

/// Points in order, each with its target, and where each sector of the ring begins.
#[derive(Debug)]
pub(super) struct Ring {
    points: Box<[(u32, u32)]>,
    sectors: Box<[u32]>,
}

impl Ring {
    /// Places every target by name and weight.
    pub(super) fn new(entries: &[Entry<'_>]) -> Self {
        let total: u64 = entries.iter().map(|entry| u64::from(entry.weight)).sum();
        let all = (entries.len() * POINTS).min(POINTS_MAX) as u64;
        let mut points = Vec::new();
        for (index, entry) in (0u32..).zip(entries) {
            let count = (all * u64::from(entry.weight))
                .checked_div(total)
                .unwrap_or(0);
            let count = if entry.weight > 0 { count.max(1) } else { 0 };
            for point in 0..count {
                let hash = stable_hash(&[entry.name.as_bytes(), &point.to_le_bytes()]);
                points.push((upper(hash), index));
            }
        }
        points.sort_unstable();
        let begins = |sector: u32| {
            points.partition_point(|(point, _)| *point >> (32 - SECTOR_BITS) < sector)
        };
        let sectors =
            (0..1 << SECTOR_BITS).map(|sector| u32::try_from(begins(sector)).unwrap_or(u32::MAX));
        Self {
            sectors: sectors.collect(),
            points: points.into(),
        }
    }

    /// The targets a key comes to, the nearest first; the same one may come again.
    pub(super) fn walk(&self, hash: u64) -> impl Iterator<Item = usize> {
        let place = upper(hash);
        let at = |index: u32| usize::try_from(index).unwrap_or(usize::MAX);
        let begin = self
            .sectors
            .get(at(place >> (32 - SECTOR_BITS)))
            .map_or(0, |begin| at(*begin));
        let (before, near) = self.points.split_at(begin.min(self.points.len()));
        let passed = near.iter().take_while(|(point, _)| *point < place).count();
        let (passed, next) = near.split_at(passed);
        next.iter()
            .chain(before)
            .chain(passed)
            .map(move |(_, index)| at(*index))
    }
}

fn upper(hash: u64) -> u32 {
    u32::try_from(hash >> 32).unwrap_or(u32::MAX)
}
