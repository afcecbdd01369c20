//! Ranges of IPv6 addresses, so many that a binary search from the start would take too long.

/// The longest index: 2^17 positions, half a megabyte. More ranges share its entries.
const INDEX_BITS_MAX: u32 = 17;

/// Ranges that do not meet. The first bits by which they differ say where to look: halving 50,000 ranges takes 17 comparisons of
/// 128 bits, each of which waits for the one before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ranges {
    starts: Vec<u128>,
    ends: Vec<u128>,
    /// So many bits are the same in all starts …
    skip: u32,
    /// … so many after them are looked up …
    bits: u32,
    /// … and for each value of those here stands how many starts are below it.
    index: Vec<u32>,
}

impl Ranges {
    /// Of `ranges` in order, no two of which meet.
    pub(super) fn new(ranges: &[(u128, u128)]) -> Self {
        let starts: Vec<u128> = ranges.iter().map(|(start, _)| *start).collect();
        let ends = ranges.iter().map(|(_, end)| *end).collect();
        let (Some(first), Some(last)) = (starts.first(), starts.last()) else {
            return Self::default();
        };
        let skip = (first ^ last).leading_zeros().min(u128::BITS - 1);
        let wanted = ranges.len().ilog2() + 2;
        let bits = wanted.min(INDEX_BITS_MAX).min(u128::BITS - skip);
        let mut index = vec![0; (1 << bits) + 1];
        for (value, below) in (0_u128..).zip(&mut index) {
            let start = value << (u128::BITS - bits);
            let before = starts.partition_point(|it| (*it << skip) < start);
            let all = value == 1 << bits;
            let before = if all { starts.len() } else { before };
            *below = u32::try_from(before).unwrap_or(u32::MAX);
        }
        Self {
            starts,
            ends,
            skip,
            bits,
            index,
        }
    }

    /// Whether `ip` is in one of them.
    pub(super) fn holds(&self, ip: u128) -> bool {
        let before = self.up_to(ip).checked_sub(1);
        let end = before.and_then(|at| self.ends.get(at));
        end.is_some_and(|end| ip <= *end)
    }

    /// How many begin at `ip` or below.
    fn up_to(&self, ip: u128) -> usize {
        let Some(first) = self.starts.first() else {
            return 0;
        };
        if (ip ^ first).leading_zeros() < self.skip {
            return if ip < *first { 0 } else { self.starts.len() };
        }
        let slot = (ip << self.skip) >> (u128::BITS - self.bits);
        let slot = usize::try_from(slot).unwrap_or(usize::MAX);
        let from = self.position(slot);
        let near = self.starts.get(from..self.position(slot.saturating_add(1)));
        from + near.map_or(0, |near| near.partition_point(|start| *start <= ip))
    }

    fn position(&self, slot: usize) -> usize {
        let at = self.index.get(slot).copied().unwrap_or_default();
        usize::try_from(at).unwrap_or_default()
    }

    /// Whether there are none.
    pub(super) const fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The next number of a row that looks like chance.
    fn next(seed: &mut u64) -> u64 {
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        *seed
    }

    #[test]
    fn the_index_changes_nothing() {
        let mut seed = 0x2545_f491_4f6c_dd1d;
        for (networks, prefix, same) in [
            (0, 48, 0),
            (1, 48, 0),
            (2, 128, 0),
            (3_000, 48, 16),
            (3_000, 64, 3),
            (3_000, 128, 64),
            (3_000, 128, 100),
            (300, 1, 0),
        ] {
            let mask = u128::MAX >> prefix.min(127) >> u32::from(prefix == 128);
            let mut drawn = || {
                let ip = (u128::from(next(&mut seed)) << 64) | u128::from(next(&mut seed));
                let common = u128::MAX.checked_shl(128 - same).unwrap_or(0);
                (0x2001_0db8 << 96) & common | ip & !common
            };
            let mut ranges: Vec<(u128, u128)> = (0..networks)
                .map(|_| drawn())
                .map(|ip| (ip & !mask, ip | mask))
                .collect();
            ranges.sort_unstable();
            ranges.dedup();
            let set = Ranges::new(&ranges);
            let edges = ranges.iter().flat_map(|(start, end)| {
                [start.wrapping_sub(1), *start, *end, end.wrapping_add(1)]
            });
            let asked: Vec<u128> = (0..2_000).map(|_| drawn()).collect();
            for ip in edges.chain(asked).chain([0, u128::MAX]) {
                let before = ranges.partition_point(|(start, _)| *start <= ip);
                let plain = before.checked_sub(1).is_some_and(|at| ip <= ranges[at].1);
                assert_eq!(set.holds(ip), plain, "{ip:x} in {networks} of /{prefix}");
            }
        }
    }
}
