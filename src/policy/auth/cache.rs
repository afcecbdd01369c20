//! What was found out about a credential, kept by its digest: bounded, and the oldest goes first.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::base::digest::Digest;

/// So many are kept by one authenticator …
const ENTRIES_MAX: usize = 16 * 1024;
/// … that take so many bytes in all …
const BYTES_MAX: usize = 64 << 20;
/// … in so many parts, so that requests seldom wait for each other.
const SHARDS: usize = 16;

/// What is kept.
#[derive(Debug)]
pub(super) struct Cache<V> {
    shards: [Mutex<Shard<V>>; SHARDS],
}

/// When the newer half is full, the older one is forgotten as a whole: no order has to be kept.
#[derive(Debug)]
struct Shard<V> {
    newer: HashMap<Digest, (V, usize), ahash::RandomState>,
    older: HashMap<Digest, (V, usize), ahash::RandomState>,
    /// What the newer half takes.
    bytes: usize,
}

impl<V> Default for Cache<V> {
    fn default() -> Self {
        let shard = |_| {
            Mutex::new(Shard {
                newer: HashMap::default(),
                older: HashMap::default(),
                bytes: 0,
            })
        };
        Self {
            shards: std::array::from_fn(shard),
        }
    }
}

impl<V: Clone> Cache<V> {
    /// What is kept for this credential.
    pub(super) fn find(&self, digest: &Digest) -> Option<V> {
        let mut shard = self.shard(digest)?;
        if let Some((found, _)) = shard.newer.get(digest) {
            return Some(found.clone());
        }
        let (found, bytes) = shard.older.remove(digest)?;
        shard.keep(*digest, found.clone(), bytes);
        Some(found)
    }

    /// Keeps it; it takes so many bytes, roughly.
    pub(super) fn keep(&self, digest: Digest, value: V, bytes: usize) {
        if let Some(mut shard) = self.shard(&digest) {
            shard.keep(digest, value, bytes);
        }
    }

    /// Forgets it.
    pub(super) fn forget(&self, digest: &Digest) {
        if let Some(mut shard) = self.shard(digest) {
            let taken = shard.newer.remove(digest);
            shard.bytes -= taken.map_or(0, |(_, bytes)| bytes);
            shard.older.remove(digest);
        }
    }

    fn shard(&self, digest: &Digest) -> Option<std::sync::MutexGuard<'_, Shard<V>>> {
        let [first, ..] = digest.bytes();
        let shard = self.shards.get(usize::from(first) % SHARDS)?;
        Some(shard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<V> Shard<V> {
    fn keep(&mut self, digest: Digest, value: V, bytes: usize) {
        let full = self.newer.len() >= ENTRIES_MAX / SHARDS / 2;
        if full || self.bytes + bytes > BYTES_MAX / SHARDS / 2 {
            self.older = std::mem::take(&mut self.newer);
            self.bytes = 0;
        }
        self.bytes += bytes;
        let before = self.newer.insert(digest, (value, bytes));
        self.bytes -= before.map_or(0, |(_, bytes)| bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(number: usize) -> Digest {
        Digest::of(&number.to_be_bytes())
    }

    #[test]
    fn it_is_bounded_and_what_is_used_stays() {
        let cache = Cache::default();
        cache.keep(digest(0), 0, 1);
        for number in 1..10 * ENTRIES_MAX {
            cache.keep(digest(number), number, 1);
            assert_eq!(cache.find(&digest(0)), Some(0));
        }
        let kept = cache.shards.iter().map(|shard| {
            let shard = shard.lock().unwrap();
            shard.newer.len() + shard.older.len()
        });
        let kept: usize = kept.sum();
        assert!(kept <= ENTRIES_MAX && kept > ENTRIES_MAX / 4, "{kept}");
        assert_eq!(cache.find(&digest(1)), None);
        cache.forget(&digest(0));
        assert_eq!(cache.find(&digest(0)), None);
    }

    #[test]
    fn it_is_bounded_in_bytes_too() {
        let cache = Cache::default();
        for number in 0..ENTRIES_MAX {
            cache.keep(digest(number), number, 64 << 10);
            cache.keep(digest(number), number, 64 << 10);
        }
        let kept = cache.shards.iter().map(|shard| {
            let shard = shard.lock().unwrap();
            let all = shard.newer.values().chain(shard.older.values());
            all.map(|(_, bytes)| bytes).sum::<usize>()
        });
        let kept: usize = kept.sum();
        assert!(kept <= BYTES_MAX && kept > BYTES_MAX / 8, "{kept}");
    }

    #[test]
    fn threads_together_find_what_was_kept_under_that_name_or_nothing() {
        let cache = Cache::default();
        let work = |thread: usize| {
            for number in 0..2 * ENTRIES_MAX {
                let name = number * 7 % ENTRIES_MAX;
                if (number + thread).is_multiple_of(3) {
                    cache.keep(digest(name), name, 1);
                } else if (number + thread).is_multiple_of(101) {
                    cache.forget(&digest(name));
                } else {
                    assert!(cache.find(&digest(name)).is_none_or(|found| found == name));
                }
            }
        };
        let work = &work;
        std::thread::scope(|scope| {
            (0..4).for_each(|thread| drop(scope.spawn(move || work(thread))));
        });
        let kept = cache.shards.iter().map(|shard| {
            let shard = shard.lock().unwrap();
            shard.newer.len() + shard.older.len()
        });
        assert!(kept.sum::<usize>() <= ENTRIES_MAX);
    }
}
