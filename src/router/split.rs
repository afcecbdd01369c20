//! A path cut into segments and hashed, in the same way for requests and for rules.

use ahash::RandomState;
use smallvec::SmallVec;

use super::PathRank;

/// Segments that are kept; no pattern looks at later ones by themselves.
const SEGMENTS_KEPT: usize = 64;
const START: u64 = 0x9e37_79b9_7f4a_7c15;

/// What the literals of a pattern are literals of: the same literals mean different paths in different shapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Shape {
    pub(super) kind: Kind,
    /// Which segments are literal.
    pub(super) mask: u64,
    /// How many segments a template or a prefix has, without the rest.
    pub(super) segments: u8,
    /// A template ends in `{rest*}`.
    pub(super) rest: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    Exact,
    Template,
    Prefix,
    Regex,
}

impl Shape {
    pub(super) const EXACT: Self = Self::plain(Kind::Exact, 0);
    pub(super) const REGEX: Self = Self::plain(Kind::Regex, 0);

    const fn plain(kind: Kind, segments: u8) -> Self {
        Self {
            kind,
            mask: 0,
            segments,
            rest: false,
        }
    }

    pub(super) fn prefix(segments: u8) -> Self {
        Self {
            mask: (1 << segments) - 1,
            ..Self::plain(Kind::Prefix, segments)
        }
    }

    pub(super) fn template(mask: u64, segments: usize) -> Self {
        let segments = u8::try_from(segments).unwrap_or(u8::MAX);
        Self {
            mask,
            ..Self::plain(Kind::Template, segments)
        }
    }

    pub(super) fn with_rest(self) -> Self {
        Self { rest: true, ..self }
    }

    pub(super) fn rank(self, typed: u8) -> PathRank {
        match self.kind {
            Kind::Exact => PathRank::Exact,
            Kind::Regex => PathRank::Regex,
            Kind::Prefix => PathRank::Prefix {
                segments: self.segments,
            },
            Kind::Template => PathRank::Template {
                literals: u8::try_from(self.mask.count_ones()).unwrap_or(u8::MAX),
                whole: !self.rest,
                segments: self.segments,
                typed,
            },
        }
    }

    /// Whether a path of `count` segments can have this shape.
    pub(super) fn fits(self, count: usize) -> bool {
        let segments = usize::from(self.segments);
        if self.rest {
            segments < count
        } else {
            segments == count
        }
    }

    /// The positions of parameters.
    pub(super) fn free(self) -> u64 {
        !self.mask & ((1 << self.segments) - 1)
    }
}

/// A request's path.
pub(super) struct Split<'p> {
    pub(super) path: &'p str,
    pub(super) segments: SmallVec<[Segment; 16]>,
    /// How many segments there are.
    pub(super) count: usize,
    /// The hash of all segments.
    pub(super) whole: u64,
    /// Which of the segments kept are empty.
    pub(super) empty: u64,
}

/// A part between two slashes.
#[derive(Clone, Copy)]
pub(super) struct Segment {
    pub(super) start: u32,
    pub(super) end: u32,
    hash: u64,
    /// The hash of this segment and all before it.
    pub(super) chain: u64,
}

impl<'p> Split<'p> {
    pub(super) fn new(path: &'p str) -> Self {
        Self {
            path,
            segments: SmallVec::new(),
            count: 0,
            whole: START,
            empty: 0,
        }
    }

    /// Cuts the path; none for what is no path: without a slash at its start.
    pub(super) fn cut(&mut self, hasher: &RandomState) -> Option<()> {
        let bytes = self.path.as_bytes().strip_prefix(b"/")?;
        u32::try_from(self.path.len()).ok()?;
        let mut start = 1_u32;
        for segment in bytes.split(|byte| *byte == b'/') {
            let hash = hash(segment, hasher);
            let end = start.saturating_add(u32::try_from(segment.len()).unwrap_or(u32::MAX));
            self.whole = mix(self.whole, hash);
            if self.count < SEGMENTS_KEPT {
                self.empty |= u64::from(segment.is_empty()) << self.count;
                self.segments.push(Segment {
                    start,
                    end,
                    hash,
                    chain: self.whole,
                });
            }
            self.count += 1;
            start = end.saturating_add(1);
        }
        Some(())
    }

    /// The hash of the first `segments`.
    pub(super) fn prefix(&self, segments: usize) -> Option<u64> {
        let Some(last) = segments.checked_sub(1) else {
            return Some(START);
        };
        self.segments.get(last).map(|segment| segment.chain)
    }

    /// The hash of the segments where `mask` is set.
    pub(super) fn literals(&self, mask: u64) -> Option<u64> {
        let leading = mask.trailing_ones();
        let mut hash = self.prefix(usize::try_from(leading).ok()?)?;
        let mut left = mask & u64::MAX.checked_shl(leading).unwrap_or(0);
        while left != 0 {
            let at = usize::try_from(left.trailing_zeros()).ok()?;
            hash = mix(hash, self.segments.get(at)?.hash);
            left &= left - 1;
        }
        Some(hash)
    }

    /// Where segment `at` begins, and where it ends.
    pub(super) fn span(&self, at: u32) -> Option<(u32, u32)> {
        let segment = self.segments.get(usize::try_from(at).ok()?)?;
        Some((segment.start, segment.end))
    }

    /// Whether the segments where `mask` is set are `literal`, each with its slash before it.
    pub(super) fn spells(&self, mask: u64, literal: &[u8]) -> bool {
        let mut literal = literal;
        let mut left = mask;
        while left != 0 {
            let first = left.trailing_zeros();
            let length = (left >> first).trailing_ones();
            let (Some((start, _)), Some((_, end))) =
                (self.span(first), self.span(first + length - 1))
            else {
                return false;
            };
            let run = self.text(start - 1, end).unwrap_or_default();
            let Some(after) = literal.strip_prefix(run.as_bytes()) else {
                return false;
            };
            literal = after;
            left &= u64::MAX.checked_shl(first + length).unwrap_or(0);
        }
        literal.is_empty()
    }

    pub(super) fn text(&self, start: u32, end: u32) -> Option<&'p str> {
        let (start, end) = (usize::try_from(start).ok()?, usize::try_from(end).ok()?);
        self.path.get(start..end)
    }
}

/// The hash of the literals of a pattern: as [`Split::literals`] of a path that has them.
pub(super) fn hash_literal(literal: &str, hasher: &RandomState) -> u64 {
    let segments = literal.split('/').skip(1);
    segments.fold(START, |chain, s| mix(chain, hash(s.as_bytes(), hasher)))
}

/// The hash of a pattern: which literals in which shape.
pub(super) fn hash_pattern(literals: u64, shape: u32) -> u64 {
    mix(literals, u64::from(shape))
}

/// The hash of a pattern on a host.
pub(super) fn hash_leaf(pattern: u64, host: u64) -> u64 {
    mix(pattern, host)
}

#[inline]
pub(super) fn hash(bytes: &[u8], hasher: &RandomState) -> u64 {
    hasher.hash_one(bytes)
}

/// Folds two hashes into one; the order matters.
#[inline]
fn mix(first: u64, second: u64) -> u64 {
    let (low, high) = (first ^ second.rotate_left(29)).carrying_mul(START, 0);
    high ^ low.rotate_left(17)
}
