//! Consistent hashing by a table (Maglev, NSDI 2016, section 3.4): parts are more even than on a ring, a change moves a few keys more.

use super::{Entry, stable_hash};

/// Sizes of the table: primes. The paper wants a hundred places for each target.
const SIZES: [usize; 3] = [65_537, 655_373, 2_097_169];

/// Which target each place of the table belongs to.
#[derive(Debug)]
pub(super) struct Maglev(Box<[u32]>);

/// A target that fills the table.
struct Filler {
    index: u32,
    next: usize,
    skip: usize,
    weight: u64,
    /// What it has earned and not yet taken.
    credit: u64,
}

impl Maglev {
    /// Has the targets take their places in turn, by weight.
    pub(super) fn new(entries: &[Entry<'_>]) -> Self {
        let wanted = entries.len() * 100;
        let size = SIZES
            .into_iter()
            .find(|size| *size >= wanted)
            .unwrap_or(SIZES[2]);
        let mut fillers: Vec<Filler> = (0u32..)
            .zip(entries)
            .filter(|(_, entry)| entry.weight > 0)
            .map(|(index, entry)| filler(index, entry, size))
            .collect();
        let heaviest = fillers
            .iter()
            .map(|filler| filler.weight)
            .max()
            .unwrap_or(0);
        if heaviest == 0 {
            return Self(Box::default());
        }
        let mut table = vec![u32::MAX; size];
        let mut free = size;
        while free > 0 {
            for filler in &mut fillers {
                filler.credit += filler.weight;
                if filler.credit < heaviest {
                    continue;
                }
                filler.credit -= heaviest;
                if !filler.fill(&mut table) {
                    continue;
                }
                free -= 1;
                if free == 0 {
                    break;
                }
            }
        }
        Self(table.into())
    }

    /// The targets a key comes to, the place it belongs to first; the same one may come again.
    pub(super) fn walk(&self, hash: u64) -> impl Iterator<Item = usize> {
        // Lemire's reduction: a division would take as long as a look into the table.
        let start = (u128::from(hash) * self.0.len() as u128) >> 64;
        let start = usize::try_from(start).unwrap_or(0);
        let (before, after) = self.0.split_at(start);
        after
            .iter()
            .chain(before)
            .filter_map(|index| usize::try_from(*index).ok())
    }
}

fn filler(index: u32, entry: &Entry<'_>, size: usize) -> Filler {
    let hash =
        |salt: &[u8]| usize::try_from(stable_hash(&[entry.name.as_bytes(), salt])).unwrap_or(0);
    Filler {
        index,
        next: hash(b"offset") % size,
        skip: hash(b"skip") % (size - 1) + 1,
        weight: u64::from(entry.weight),
        credit: 0,
    }
}

impl Filler {
    /// Takes the next place of its own order that is free.
    fn fill(&mut self, table: &mut [u32]) -> bool {
        for _ in 0..table.len() {
            let place = self.next;
            self.next = (self.next + self.skip) % table.len();
            if let Some(owner) = table.get_mut(place).filter(|owner| **owner == u32::MAX) {
                *owner = self.index;
                return true;
            }
        }
        false
    }
}
