//! Where the rules stand in memory: an index of hashes, and behind it a few bytes per rule and host, so that the second
//! cache of a core holds about a hundred thousand of them.

use std::sync::Arc;

use ahash::RandomState;
use regex::Regex;

use super::methods::{self, Methods};
use super::split::{self, Shape};
use super::{Conditions, PathRank, Rank, Route};

/// An immutable set of rules. `T` is what they lead to.
pub struct Router<T> {
    pub(super) hasher: RandomState,
    pub(super) host_index: Index,
    /// What there is for each host, and for any host, whose key is empty.
    pub(super) scopes: Box<[Scope]>,
    pub(super) pattern_index: Index,
    pub(super) patterns: Box<[Pattern]>,
    pub(super) leaf_index: Index,
    pub(super) leaves: Box<[Leaf<T>]>,
    /// What belongs to the leaf at the same position, but is seldom needed.
    pub(super) links: Box<[Link]>,
    pub(super) rules: Box<[Checks]>,
    pub(super) shapes: Box<[TemplateShape]>,
    /// What to look for on every host; none when there is too much of it, and each host has its own.
    pub(super) common: Option<Forms>,
    /// Keys too long to stand in their line.
    pub(super) texts: Box<[u8]>,
    /// How many labels the wildcards have: bit n for n, the last for all longer ones.
    pub(super) wildcard_labels: u64,
}

impl<T> Router<T> {
    /// How many rules there are, counted once for each of their hosts.
    #[must_use]
    pub fn len(&self) -> usize {
        self.leaves.len()
    }

    /// Whether there are no rules.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.leaves.is_empty()
    }

    /// How specific the match was that led to `route`; none if this router did not find it.
    #[must_use]
    pub fn rank(&self, route: &Route<T>) -> Option<Rank> {
        let checks = self.checks(usize::try_from(route.leaf).ok()?)?;
        let (_, priority, conditions) = checks.order;
        Some(Rank {
            host: route.host,
            path: checks.path,
            priority,
            conditions,
        })
    }

    pub(super) fn checks(&self, leaf: usize) -> Option<&Checks> {
        let rule = self.links.get(leaf)?.rule;
        self.rules.get(usize::try_from(rule).ok()?)
    }
}

/// One host, or all hosts below one, or any host.
#[repr(align(64))]
pub(super) struct Scope {
    pub(super) key: Key<38>,
    pub(super) forms: Forms,
    /// The best of its regexes.
    pub(super) regexes: u32,
    /// Another in the same bucket.
    pub(super) next: u32,
}

/// No position.
pub(super) const NONE: u32 = u32::MAX;

/// Which forms paths have, apart from exact ones and regexes.
#[derive(Clone, Copy)]
pub(super) struct Forms {
    /// Bit n: there are prefixes of n segments.
    pub(super) prefixes: u64,
    /// Templates, best shape first: from, to.
    pub(super) shapes: (u32, u32),
}

/// A shape that templates of a host have.
#[derive(Clone, Copy)]
pub(super) struct TemplateShape {
    pub(super) shape: Shape,
    pub(super) id: u32,
}

/// The ids of shapes; templates have those from [`TEMPLATE`] on.
pub(super) const EXACT: u32 = 0;
pub(super) const PREFIX: u32 = 1;
pub(super) const REGEX: u32 = 2;
pub(super) const TEMPLATE: u32 = 3;

/// One rule on one host: what every request needs of it.
pub(super) struct Leaf<T> {
    pub(super) scope: u32,
    pub(super) pattern: u32,
    pub(super) methods: u16,
    pub(super) flags: u16,
    pub(super) id: T,
}

/// The last leaf of its host and pattern.
pub(super) const LAST: u16 = 1;
/// There is more to check than the path and the method.
pub(super) const CHECKED: u16 = 1 << 1;

impl<T> Leaf<T> {
    pub(super) fn is(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    pub(super) fn needs_list(&self, wanted: u16) -> bool {
        methods::needs_list(self.methods, wanted)
    }
}

/// What follows on a leaf, and its rule.
pub(super) struct Link {
    /// The next leaf of the same host and pattern, best first; then others in the same bucket.
    pub(super) next: u32,
    pub(super) rule: u32,
}

/// The shape and the literals that leaves of many hosts may have in common.
#[repr(align(64))]
pub(super) struct Pattern {
    pub(super) key: Key<54>,
    pub(super) shape: u32,
    /// Another in the same bucket.
    pub(super) next: u32,
}

/// What is looked at only after host and path have matched.
pub(super) struct Checks {
    pub(super) methods: Methods,
    pub(super) typed: Box<[Option<Arc<Regex>>]>,
    pub(super) regex: Option<Arc<Regex>>,
    pub(super) conditions: Option<Box<Conditions>>,
    pub(super) path: PathRank,
    /// Decides among paths that are equally specific but for their typed parameters: these, priority, conditions.
    pub(super) order: (u8, i32, u16),
}

/// A text that stands in its line if it has at most `N` bytes.
pub(super) struct Key<const N: usize> {
    bytes: [u8; N],
    len: u16,
}

impl<const N: usize> Key<N> {
    pub(super) fn new(text: &str, texts: &mut Vec<u8>) -> Self {
        let mut bytes = [0; N];
        let outside = u32::try_from(texts.len()).unwrap_or(u32::MAX).to_le_bytes();
        let inside = if text.len() > N {
            &outside
        } else {
            text.as_bytes()
        };
        bytes
            .iter_mut()
            .zip(inside)
            .for_each(|(to, from)| *to = *from);
        if text.len() > N {
            texts.extend_from_slice(text.as_bytes());
        }
        Self {
            bytes,
            len: u16::try_from(text.len()).unwrap_or(u16::MAX),
        }
    }

    pub(super) fn bytes<'a>(&'a self, texts: &'a [u8]) -> &'a [u8] {
        let len = usize::from(self.len);
        if let Some(inside) = self.bytes.get(..len) {
            return inside;
        }
        let start = self
            .bytes
            .first_chunk()
            .map_or(0, |at| u32::from_le_bytes(*at));
        let start = usize::try_from(start).unwrap_or(usize::MAX);
        texts
            .get(start..start.saturating_add(len))
            .unwrap_or_default()
    }
}

/// From hashes to positions, in about three bytes for each, so that it stays in the cache of the core when the things
/// themselves do not. Hashes fall into buckets; the things stand in the order of their buckets, so that the position of
/// one is the number of buckets in use before its own.
pub(super) struct Index {
    blocks: Box<[Block]>,
    /// Of the thing at each position: a part of its hash, or 0 where a bucket has several.
    tags: Box<[u8]>,
    shift: u32,
}

/// 64 buckets.
#[derive(Clone, Copy, Default)]
struct Block {
    /// Which are in use.
    used: u64,
    /// How many are in use before these.
    before: u32,
}

/// Most buckets stay empty, so that most hashes that are not there cost one look.
const BUCKETS_PER_HASH: usize = 8;

impl Index {
    /// The index, and which of `hashes` comes to stand at which position, with its next in the same bucket. Those that
    /// are equal stay in their order.
    pub(super) fn new(hashes: &[u64]) -> (Self, Vec<(usize, u32)>) {
        let buckets = (hashes.len() * BUCKETS_PER_HASH)
            .next_power_of_two()
            .max(64);
        let mut index = Self {
            blocks: vec![Block::default(); buckets / 64].into(),
            tags: Box::default(),
            shift: 64 - buckets.trailing_zeros(),
        };
        let mut order: Vec<(u64, usize)> = hashes.iter().copied().zip(0..).collect();
        order.sort_by_key(|(hash, _)| *hash);
        let same = |a: &(u64, usize), b: &(u64, usize)| a.0 >> index.shift == b.0 >> index.shift;
        let firsts = order.chunk_by(same).count();
        let (mut tags, mut placed, mut others) = (Vec::new(), Vec::new(), Vec::new());
        for bucket in order.chunk_by(same) {
            let hash = bucket.first().map_or(0, |(hash, _)| *hash);
            let alone = bucket.iter().all(|(other, _)| *other == hash);
            tags.push(if alone { tag(hash) } else { 0 });
            for (at, (_, item)) in bucket.iter().enumerate() {
                let next = firsts + others.len() + usize::from(at > 0);
                let next = if at + 1 < bucket.len() {
                    number(next)
                } else {
                    NONE
                };
                let list = if at == 0 { &mut placed } else { &mut others };
                list.push((*item, next));
            }
        }
        for (hash, _) in &order {
            let (block, bit) = (index.block(*hash), index.bit(*hash));
            index
                .blocks
                .get_mut(block)
                .into_iter()
                .for_each(|block| block.used |= bit);
        }
        let mut before = 0;
        for block in &mut index.blocks {
            block.before = before;
            before += block.used.count_ones();
        }
        index.tags = tags.into();
        placed.extend(others);
        (index, placed)
    }

    /// For hashes that are nearly always there: one look less, and more looks at things that are not meant.
    pub(super) fn without_tags(self) -> Self {
        Self {
            tags: Box::default(),
            ..self
        }
    }

    /// Where the first thing stands that may have this hash.
    #[inline]
    pub(super) fn position(&self, hash: u64) -> Option<usize> {
        let block = self.blocks.get(self.block(hash))?;
        let bit = self.bit(hash);
        let before = (block.used & (bit - 1)).count_ones();
        let position = usize::try_from(block.before + before).ok()?;
        let there = self
            .tags
            .get(position)
            .is_none_or(|t| *t == tag(hash) || *t == 0);
        (block.used & bit != 0 && there).then_some(position)
    }

    fn block(&self, hash: u64) -> usize {
        usize::try_from(hash >> self.shift >> 6).unwrap_or(0)
    }

    fn bit(&self, hash: u64) -> u64 {
        1 << (hash >> self.shift & 63)
    }
}

/// Part of a hash, never 0.
fn tag(hash: u64) -> u8 {
    u8::try_from(hash & 0xff).unwrap_or(0).max(1)
}

impl<T> Router<T> {
    /// The host, or pattern of hosts, that has this key.
    pub(super) fn scope(&self, key: &str, hash: u64) -> Option<(u32, &Scope)> {
        let mut at = self.host_index.position(hash)?;
        loop {
            let scope = self.scopes.get(at)?;
            if scope.key.bytes(&self.texts) == key.as_bytes() {
                return Some((u32::try_from(at).ok()?, scope));
            }
            at = position(scope.next)?;
        }
    }

    /// The leaf that follows on this one.
    pub(super) fn next(&self, leaf: usize) -> Option<usize> {
        position(self.links.get(leaf)?.next)
    }

    pub(super) fn hash(&self, text: &str) -> u64 {
        split::hash(text.as_bytes(), &self.hasher)
    }
}

/// A position; a config that has more of anything than fits does not fit in memory either.
pub(super) fn number(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

pub(super) fn position(number: u32) -> Option<usize> {
    (number != NONE)
        .then_some(number)
        .and_then(|number| usize::try_from(number).ok())
}
