//! Rules that tie: nothing says which of two is for a request that both match.

use std::collections::{HashMap, HashSet};

use ahash::RandomState;
use regex::Regex;

use super::build::Entry;
use super::methods::may_overlap;
use super::split::Kind;
use super::{Conditions, HostPattern, Test, VersionLocation};

/// Two rules that tie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict<T> {
    /// The one that was added first.
    pub first: T,
    /// The other.
    pub second: T,
    /// Where they meet; none = on any host.
    pub host: Option<HostPattern>,
    /// How they meet.
    pub overlap: Overlap,
}

/// How two rules meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlap {
    /// They have the same path, but for names and patterns of parameters.
    SamePath,
    /// Their templates have paths in common: `/a/{x}/c` and `/a/b/{y}`.
    Templates,
    /// Both are regexes, which might have paths in common.
    Regexes,
}

/// Up to this many rules each is compared with each.
const PAIRWISE_MAX: usize = 16;

pub(super) fn conflicts<T: Copy>(
    entries: &[Entry<'_, T>],
    hosts: &[(&str, u32)],
) -> Vec<Conflict<T>> {
    let mut report = Report {
        hosts,
        seen: HashSet::new(),
        list: Vec::new(),
    };
    for group in entries.chunk_by(Entry::joins) {
        for equal in group.chunk_by(|a, b| a.order == b.order) {
            if equal.len() > 1 {
                ties(
                    &equal.iter().collect::<Vec<_>>(),
                    &mut Vec::new(),
                    &mut report,
                );
            }
        }
    }
    let rank = |e: &Entry<'_, T>| (e.scope, e.rank);
    for ranked in entries.chunk_by(|a, b| rank(a) == rank(b)) {
        if ranked
            .first()
            .is_some_and(|e| e.shape().kind == Kind::Template)
        {
            templates(ranked, &mut report);
        }
    }
    report.list
}

struct Report<'h, T> {
    hosts: &'h [(&'h str, u32)],
    seen: HashSet<(u32, u32)>,
    list: Vec<Conflict<T>>,
}

impl<T: Copy> Report<'_, T> {
    /// Whether two rules on the same host, whose paths meet, tie; notes it.
    fn tie(&mut self, a: &Entry<'_, T>, b: &Entry<'_, T>, overlap: Overlap) -> bool {
        let (one, two) = (&a.rule.conditions, &b.rule.conditions);
        let possible = !one.never_hold() && !two.never_hold() && !one.excludes(two);
        if a.at == b.at || !possible || !a.rule.methods.overlaps(&b.rule.methods) {
            return false;
        }
        let (first, second) = if a.at < b.at { (a, b) } else { (b, a) };
        if self.seen.insert((first.at, second.at)) {
            let host = usize::try_from(a.scope)
                .ok()
                .and_then(|at| self.hosts.get(at));
            self.list.push(Conflict {
                first: first.rule.id,
                second: second.rule.id,
                host: host
                    .map(|(key, _)| *key)
                    .filter(|key| !key.is_empty())
                    .map(HostPattern::from_key),
                overlap,
            });
        }
        true
    }
}

/// Looks for ties among rules with the same path and order. Many such rules differ in the value of one header (or query
/// parameter, cookie, version): then only those with the same value are compared.
fn ties<'e, T: Copy>(
    equal: &[&'e Entry<'e, T>],
    used: &mut Vec<Facet>,
    report: &mut Report<'_, T>,
) {
    let overlap = match equal.first().map(|e| e.shape().kind) {
        Some(Kind::Regex) => Overlap::Regexes,
        _ => Overlap::SamePath,
    };
    let facet = (equal.len() > PAIRWISE_MAX)
        .then(|| common_facet(equal, used))
        .flatten();
    let Some(facet) = facet else {
        for (at, entry) in equal.iter().enumerate() {
            equal
                .iter()
                .take(at)
                .any(|other| report.tie(entry, other, overlap));
        }
        return;
    };
    let mut by_value: HashMap<String, Vec<&Entry<'_, T>>> = HashMap::new();
    let (with, without): (Vec<_>, Vec<_>) = (equal.iter().copied()).partition(|entry| {
        facets(&entry.rule.conditions)
            .iter()
            .any(|(f, _)| *f == facet)
    });
    for entry in &with {
        let values = facets(&entry.rule.conditions)
            .into_iter()
            .filter(|(f, _)| *f == facet);
        for (_, value) in values {
            by_value.entry(value).or_default().push(entry);
        }
    }
    for entry in &without {
        with.iter().any(|other| report.tie(entry, other, overlap));
    }
    ties(&without, used, report);
    used.push(facet);
    for equal in by_value.values() {
        ties(equal, used, report);
    }
    used.pop();
}

/// Where a request has one value, so that rules that want different ones exclude each other.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Facet {
    Header(String),
    Query(String),
    Cookie(String),
    Version(VersionLocation),
}

/// The facets of which so many rules want a certain value that it pays to compare by it.
fn common_facet<T>(equal: &[&Entry<'_, T>], used: &[Facet]) -> Option<Facet> {
    let mut counts: HashMap<Facet, usize> = HashMap::new();
    for (facet, _) in equal
        .iter()
        .flat_map(|entry| facets(&entry.rule.conditions))
    {
        *counts.entry(facet).or_default() += 1;
    }
    counts.retain(|facet, count| *count > equal.len() / 2 && !used.contains(facet));
    counts
        .into_iter()
        .max_by_key(|(_, count)| *count)
        .map(|(facet, _)| facet)
}

/// The facets of which a rule wants certain values, with the values.
fn facets(conditions: &Conditions) -> Vec<(Facet, String)> {
    let exact = |test: &Test| match test {
        Test::Exact(value) => Some(value.to_string()),
        Test::Prefix(_) | Test::Regex(_) | Test::Present(_) => None,
    };
    let headers = conditions.headers.iter();
    let headers = headers.map(|(name, test)| (Facet::Header(name.to_string()), exact(test)));
    let query = conditions.query.iter();
    let query = query.map(|(name, test)| (Facet::Query(name.to_string()), exact(test)));
    let cookies = conditions.cookies.iter();
    let cookies = cookies.map(|(name, test)| (Facet::Cookie(name.to_string()), exact(test)));
    let versions = conditions.version.iter().flat_map(|version| {
        let default = version.default.then(String::new);
        let values = version.any_of.iter().cloned().chain(default);
        values.map(|value| (Facet::Version(version.location.clone()), Some(value)))
    });
    let all = headers.chain(query).chain(cookies).chain(versions);
    all.filter_map(|(facet, value)| Some((facet, value?)))
        .collect()
}

/// A template, position by position.
struct Template<'e, T> {
    entry: &'e Entry<'e, T>,
    segments: Vec<Segment<'e>>,
    order: u64,
    hashes: Vec<u64>,
}

#[derive(Clone, Copy)]
enum Segment<'e> {
    Literal(&'e str),
    Plain,
    Typed(&'e Regex),
}

impl<'e, T> Template<'e, T> {
    fn of(entry: &'e Entry<'e, T>, hasher: &RandomState) -> Self {
        let shape = entry.shape();
        let mut literals = entry.literal().split('/').skip(1);
        let mut typed = entry.rule.path.typed.iter();
        let segments = (0..shape.segments).map(|at| {
            if shape.mask & 1 << at != 0 {
                return Segment::Literal(literals.next().unwrap_or_default());
            }
            let regex = typed.next().and_then(Option::as_deref);
            regex.map_or(Segment::Plain, Segment::Typed)
        });
        let segments: Vec<Segment<'_>> = segments.collect();
        let hashes = segments
            .iter()
            .zip(0_u8..)
            .map(|(segment, at)| match segment {
                Segment::Literal(literal) => hasher.hash_one((at, literal)),
                Segment::Plain | Segment::Typed(_) => 0,
            });
        Self {
            entry,
            order: hasher.hash_one(entry.order),
            hashes: hashes.collect(),
            segments,
        }
    }

    /// Whether some path has both forms, as far as that shows.
    fn meets(&self, other: &Self) -> bool {
        self.segments
            .iter()
            .zip(&other.segments)
            .all(|pair| match pair {
                (Segment::Literal(one), Segment::Literal(two)) => one == two,
                (Segment::Literal(one), Segment::Plain)
                | (Segment::Plain, Segment::Literal(one)) => !one.is_empty(),
                (Segment::Literal(one), Segment::Typed(regex))
                | (Segment::Typed(regex), Segment::Literal(one)) => regex.is_match(one),
                (Segment::Plain | Segment::Typed(_), Segment::Plain | Segment::Typed(_)) => true,
            })
    }

    /// Equal for templates that have the same literals where `mask` is set, and the same order.
    fn hash(&self, mask: u64) -> u64 {
        let hashes = self.hashes.iter().zip(0_u8..);
        let hashes = hashes.filter(|(_, at)| mask & 1 << at != 0);
        hashes.fold(self.order, |sum, (hash, _)| sum.wrapping_add(*hash))
    }
}

/// Looks for ties among templates of equal rank but different shape.
fn templates<'e, T: Copy>(ranked: &'e [Entry<'e, T>], report: &mut Report<'_, T>) {
    let hasher = RandomState::with_seed(1);
    let shapes: Vec<Vec<Template<'e, T>>> = ranked
        .chunk_by(|a, b| a.shape() == b.shape())
        .map(|same| same.iter().map(|e| Template::of(e, &hasher)).collect())
        .collect();
    for (at, ours) in shapes.iter().enumerate() {
        for theirs in shapes.iter().skip(at + 1) {
            join(ours, theirs, &hasher, report);
        }
    }
}

/// Looks for ties between two shapes. Only templates with the same literals at the positions where both shapes have one can meet.
fn join<T: Copy>(
    ours: &[Template<'_, T>],
    theirs: &[Template<'_, T>],
    hasher: &RandomState,
    report: &mut Report<'_, T>,
) {
    let mask = |list: &[Template<'_, T>]| list.first().map_or(0, |t| t.entry.shape().mask);
    let common = mask(ours) & mask(theirs);
    let mut by_literals: HashMap<(u64, u16), Vec<&Template<'_, T>>, RandomState> =
        HashMap::with_hasher(hasher.clone());
    let mut methods: Vec<u16> = Vec::new();
    for template in ours {
        let bits = template.entry.rule.methods.bits();
        let key = (template.hash(common), bits);
        by_literals.entry(key).or_default().push(template);
        if !methods.contains(&bits) {
            methods.push(bits);
        }
    }
    for template in theirs {
        let hash = template.hash(common);
        let bits = template.entry.rule.methods.bits();
        let possible = methods.iter().filter(|other| may_overlap(bits, **other));
        let mut candidates = possible
            .filter_map(|other| by_literals.get(&(hash, *other)))
            .flatten();
        candidates.any(|other| {
            template.meets(other) && report.tie(template.entry, other.entry, Overlap::Templates)
        });
    }
}
