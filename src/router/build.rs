//! From rules to a router: orders them, looks for conflicts, lays them out.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use ahash::RandomState;

use super::find::labels;
use super::split::{Kind, Shape, hash, hash_leaf, hash_literal, hash_pattern};
use super::table::{
    CHECKED, Checks, EXACT, Forms, Index, Key, LAST, Leaf, Link, NONE, PREFIX, Pattern, REGEX,
    Scope, TEMPLATE, TemplateShape, number,
};
use super::{Conflict, HostPattern, PathRank, Router, Rule, Warning, conflict, shadow};

/// Seeds of the hash. Fixed, since only the config decides what is in the tables.
const SEEDS: [u64; 4] = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];

/// Collects rules.
pub struct Builder<T> {
    rules: Vec<Rule<T>>,
}

/// A router, and what is odd about its rules.
pub struct Built<T> {
    /// The router.
    pub router: Router<T>,
    /// Rules that can never match.
    pub warnings: Vec<Warning<T>>,
}

/// One rule on one of its hosts.
pub(super) struct Entry<'r, T> {
    pub(super) scope: u32,
    /// Position of the rule.
    pub(super) at: u32,
    pub(super) rule: &'r Rule<T>,
    /// Of the path, but for typed parameters.
    pub(super) rank: PathRank,
    /// What decides among paths of equal rank: typed parameters, priority, conditions.
    pub(super) order: (u8, i32, u16),
}

impl<'r, T> Entry<'r, T> {
    /// What the path is found by; regexes are tried one by one.
    pub(super) fn literal(&self) -> &'r str {
        match self.rule.path.shape.kind {
            Kind::Regex => "",
            Kind::Exact | Kind::Template | Kind::Prefix => &self.rule.path.literal,
        }
    }

    pub(super) fn shape(&self) -> Shape {
        self.rule.path.shape
    }

    /// Whether both are found together.
    pub(super) fn joins(&self, other: &Self) -> bool {
        self.scope == other.scope
            && self.shape() == other.shape()
            && self.literal() == other.literal()
    }
}

impl<T> Default for Builder<T> {
    fn default() -> Self {
        Self { rules: Vec::new() }
    }
}

impl<T: Copy> Builder<T> {
    /// No rules yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a rule.
    pub fn add(&mut self, rule: Rule<T>) {
        self.rules.push(rule);
    }

    /// Builds the router.
    ///
    /// # Errors
    /// Rules that tie: for each at least one other that could match the same request with equal rank.
    pub fn build(self) -> Result<Built<T>, Vec<Conflict<T>>> {
        let [a, b, c, d] = SEEDS;
        let hasher = RandomState::with_seeds(a, b, c, d);
        let hosts = Hosts::of(&self.rules, &hasher);
        let mut entries = entries(&self.rules, &hosts);
        entries.sort_by(|a, b| {
            let key = |e: &Entry<'_, T>| (e.scope, Reverse(e.rank), e.shape());
            let order = |e: &Entry<'_, T>| (Reverse(e.order), e.at);
            (key(a).cmp(&key(b)))
                .then_with(|| a.literal().cmp(b.literal()))
                .then_with(|| order(a).cmp(&order(b)))
        });
        let conflicts = conflict::conflicts(&entries, &hosts.keys);
        if !conflicts.is_empty() {
            return Err(conflicts);
        }
        let warnings = shadow::warnings(&self.rules, &entries);
        let layout = Layout::new(&hosts, hasher);
        let router = layout.router(&entries, hosts, self.rules.iter().map(checks).collect());
        Ok(Built { router, warnings })
    }
}

/// The hosts of all rules, and the empty key for any host, in the order of the table.
struct Hosts<'r> {
    index: Index,
    /// Each with the next one in the same bucket.
    keys: Vec<(&'r str, u32)>,
    ids: HashMap<&'r str, u32>,
}

impl<'r> Hosts<'r> {
    fn of<T>(rules: &'r [Rule<T>], hasher: &RandomState) -> Self {
        let mut seen = HashSet::from([""]);
        let named = rules
            .iter()
            .flat_map(|rule| &rule.hosts)
            .map(HostPattern::key);
        let named: Vec<&str> = std::iter::once("")
            .chain(named.filter(|key| seen.insert(*key)))
            .collect();
        let hashes: Vec<u64> = named
            .iter()
            .map(|key| hash(key.as_bytes(), hasher))
            .collect();
        let (index, placed) = Index::new(&hashes);
        let keys: Vec<_> = placed
            .into_iter()
            .filter_map(|(at, next)| Some((*named.get(at)?, next)))
            .collect();
        let ids = keys.iter().map(|(key, _)| *key).zip(0..).collect();
        Self { index, keys, ids }
    }
}

fn entries<'r, T>(rules: &'r [Rule<T>], hosts: &Hosts<'_>) -> Vec<Entry<'r, T>> {
    let mut entries = Vec::with_capacity(rules.len());
    for (at, rule) in rules.iter().enumerate() {
        let mut scopes: Vec<u32> = (rule.hosts.iter())
            .filter_map(|host| hosts.ids.get(host.key()).copied())
            .collect();
        if scopes.is_empty() {
            scopes.extend(hosts.ids.get(""));
        }
        scopes.sort_unstable();
        scopes.dedup();
        entries.extend(scopes.into_iter().map(|scope| Entry {
            scope,
            at: number(at),
            rule,
            rank: rule.path.shape.rank(0),
            order: order(rule),
        }));
    }
    entries
}

fn checks<T>(rule: &Rule<T>) -> Checks {
    let conditions = &rule.conditions;
    Checks {
        methods: rule.methods.clone(),
        typed: rule.path.typed.clone(),
        regex: rule.path.regex.clone(),
        conditions: (conditions.count() > 0).then(|| Box::new(conditions.clone())),
        path: rule.path.rank(),
        order: order(rule),
    }
}

fn order<T>(rule: &Rule<T>) -> (u8, i32, u16) {
    (
        rule.path.typed_count(),
        rule.priority,
        rule.conditions.count(),
    )
}

/// Up to so many shapes are looked for on every host, so that the search for the path does not wait for the host's own.
const COMMON_SHAPES_MAX: usize = if cfg!(test) { 2 } else { 12 };

/// The tables while they are filled.
struct Layout<'e, T> {
    hasher: RandomState,
    scopes: Vec<Scope>,
    leaves: Vec<Leaf<T>>,
    links: Vec<Link>,
    patterns: Vec<Pattern>,
    pattern_ids: HashMap<(Shape, &'e str), u32>,
    shape_ids: HashMap<Shape, u32>,
    shapes: Vec<TemplateShape>,
    /// Hosts with the same shapes share one list.
    shape_lists: HashMap<Vec<Shape>, (u32, u32)>,
    texts: Vec<u8>,
}

impl<'e, T: Copy> Layout<'e, T> {
    fn new(hosts: &Hosts<'_>, hasher: RandomState) -> Self {
        let mut texts = Vec::new();
        let scopes = hosts.keys.iter().map(|(host, next)| Scope {
            key: Key::new(host, &mut texts),
            forms: Forms {
                prefixes: 0,
                shapes: (0, 0),
            },
            regexes: NONE,
            next: *next,
        });
        Self {
            hasher,
            scopes: scopes.collect(),
            leaves: Vec::new(),
            links: Vec::new(),
            patterns: Vec::new(),
            pattern_ids: HashMap::new(),
            shape_ids: HashMap::new(),
            shapes: Vec::new(),
            shape_lists: HashMap::new(),
            texts,
        }
    }

    fn router(
        mut self,
        entries: &[Entry<'e, T>],
        hosts: Hosts<'_>,
        rules: Box<[Checks]>,
    ) -> Router<T> {
        for host in entries.chunk_by(|a, b| a.scope == b.scope) {
            self.host(host);
        }
        let common = self.common();
        let host_hashes = hosts
            .keys
            .iter()
            .map(|(key, _)| hash(key.as_bytes(), &self.hasher));
        let host_hashes: Vec<u64> = host_hashes.collect();
        let (pattern_index, pattern_hashes) = self.patterns(entries);
        let leaf_index = self.leaves(entries, &pattern_hashes, &host_hashes);
        let keys = hosts.keys.iter().map(|(key, _)| *key);
        let wildcards = keys.filter(|key| key.starts_with('.'));
        Router {
            hasher: self.hasher,
            host_index: hosts.index,
            scopes: self.scopes.into(),
            pattern_index,
            patterns: self.patterns.into(),
            leaf_index: leaf_index.without_tags(),
            leaves: self.leaves.into(),
            links: self.links.into(),
            rules,
            shapes: self.shapes.into(),
            common,
            texts: self.texts.into(),
            wildcard_labels: wildcards.fold(0, |mask, key| mask | 1 << labels(key).min(63)),
        }
    }

    /// Notes what there is on one host.
    fn host(&mut self, host: &[Entry<'_, T>]) {
        let mut shapes = Vec::new();
        let mut prefixes = 0;
        for group in host.chunk_by(Entry::joins) {
            match group.first().map(Entry::shape) {
                Some(shape) if shape.kind == Kind::Template => shapes.push(shape),
                Some(shape) if shape.kind == Kind::Prefix => prefixes |= 1 << shape.segments,
                _ => {}
            }
        }
        shapes.dedup();
        let shapes = self.shape_list(shapes);
        if let Some(scope) = host.first().and_then(|e| item(&mut self.scopes, e.scope)) {
            scope.forms = Forms { prefixes, shapes };
        }
    }

    /// All forms, if there are few.
    fn common(&mut self) -> Option<Forms> {
        let mut shapes: Vec<Shape> = self.shape_ids.keys().copied().collect();
        if shapes.len() > COMMON_SHAPES_MAX {
            return None;
        }
        shapes.sort_by_key(|shape| (Reverse(shape.rank(0)), *shape));
        let prefixes = self
            .scopes
            .iter()
            .fold(0, |mask, scope| mask | scope.forms.prefixes);
        Some(Forms {
            prefixes,
            shapes: self.shape_list(shapes),
        })
    }

    /// Puts the patterns where their index finds them; gives their hashes by position.
    fn patterns(&mut self, entries: &[Entry<'e, T>]) -> (Index, Vec<u64>) {
        let mut seen = HashSet::new();
        let found = entries
            .iter()
            .filter(|entry| entry.shape().kind != Kind::Regex);
        let patterns = found.map(|entry| (entry.shape(), entry.literal()));
        let patterns: Vec<_> = patterns.filter(|pattern| seen.insert(*pattern)).collect();
        let hashes = patterns.iter().map(|(shape, literal)| {
            let literals = hash_literal(literal, &self.hasher);
            hash_pattern(literals, self.shape_id(*shape))
        });
        let hashes: Vec<u64> = hashes.collect();
        let (index, placed) = Index::new(&hashes);
        for (at, next) in &placed {
            let Some((shape, literal)) = patterns.get(*at) else {
                continue;
            };
            let id = number(self.patterns.len());
            self.pattern_ids.insert((*shape, literal), id);
            self.patterns.push(Pattern {
                key: Key::new(literal, &mut self.texts),
                shape: self.shape_id(*shape),
                next: *next,
            });
        }
        let hashes = placed.iter().filter_map(|(at, _)| hashes.get(*at).copied());
        (index, hashes.collect())
    }

    /// Puts the rules where their index finds them, and the regexes behind them.
    fn leaves(&mut self, entries: &[Entry<'e, T>], patterns: &[u64], hosts: &[u64]) -> Index {
        let (found, tried): (Vec<_>, Vec<_>) = entries
            .chunk_by(Entry::joins)
            .flat_map(|group| group.iter().zip((0..group.len()).rev()))
            .partition(|(entry, _)| entry.shape().kind != Kind::Regex);
        let hash = |(entry, _): &(&Entry<'e, T>, usize)| {
            let pattern = patterns.get(usize::try_from(self.pattern_id(entry)).ok()?)?;
            let host = hosts.get(usize::try_from(entry.scope).ok()?)?;
            Some(hash_leaf(*pattern, *host))
        };
        let hashes: Vec<u64> = found.iter().map(|e| hash(e).unwrap_or(0)).collect();
        let (index, placed) = Index::new(&hashes);
        for (at, next) in placed {
            if let Some((entry, after)) = found.get(at) {
                self.leaf(entry, *after, next);
            }
        }
        for (entry, after) in tried {
            let at = number(self.leaves.len());
            let next = if after > 0 { at + 1 } else { NONE };
            self.leaf(entry, after, next);
            if let Some(scope) = item(&mut self.scopes, entry.scope)
                && scope.regexes == NONE
            {
                scope.regexes = at;
            }
        }
        index
    }

    /// Puts down a rule that so many `after` it join.
    fn leaf(&mut self, entry: &Entry<'e, T>, after: usize, next: u32) {
        let (typed, _, conditions) = entry.order;
        let checked = typed > 0 || conditions > 0 || entry.shape().kind == Kind::Regex;
        let flags = if checked { CHECKED } else { 0 } | if after == 0 { LAST } else { 0 };
        let leaf = Leaf {
            scope: entry.scope,
            pattern: self.pattern_id(entry),
            methods: entry.rule.methods.bits(),
            flags,
            id: entry.rule.id,
        };
        self.leaves.push(leaf);
        let rule = entry.at;
        self.links.push(Link { next, rule });
    }

    fn pattern_id(&self, entry: &Entry<'e, T>) -> u32 {
        let pattern = (entry.shape(), entry.literal());
        self.pattern_ids.get(&pattern).copied().unwrap_or(NONE)
    }

    fn shape_id(&self, shape: Shape) -> u32 {
        match shape.kind {
            Kind::Exact => EXACT,
            Kind::Prefix => PREFIX,
            Kind::Regex => REGEX,
            Kind::Template => self.shape_ids.get(&shape).copied().unwrap_or(u32::MAX),
        }
    }

    fn shape_list(&mut self, list: Vec<Shape>) -> (u32, u32) {
        if let Some(range) = self.shape_lists.get(&list) {
            return *range;
        }
        let from = number(self.shapes.len());
        for shape in &list {
            let next = TEMPLATE + number(self.shape_ids.len());
            let id = *self.shape_ids.entry(*shape).or_insert(next);
            self.shapes.push(TemplateShape { shape: *shape, id });
        }
        let range = (from, number(self.shapes.len()));
        self.shape_lists.insert(list, range);
        range
    }
}

fn item<E>(list: &mut [E], at: u32) -> Option<&mut E> {
    list.get_mut(usize::try_from(at).ok()?)
}
