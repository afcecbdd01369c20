//! The search for the best rule of one request.

use http::Method;

use super::methods::{Methods, bit};
use super::split::{Kind, Shape, Split, hash_leaf, hash_pattern};
use super::table::{CHECKED, Checks, EXACT, Forms, LAST, PREFIX, Scope, number, position};
use super::{Allow, Found, HostRank, Params, PathRank, Request, Route, Router};

impl<T: Copy> Router<T> {
    /// The best rule whose every key holds of `request`.
    pub fn find(&self, request: &Request<'_>) -> Found<T> {
        // Cut where it stands: it is large, and moving it would cost as much as cutting it.
        let mut path = Split::new(request.path);
        if path.cut(&self.hasher).is_none() {
            return Found::NotFound;
        }
        let mut search = Search {
            router: self,
            request,
            path: &path,
            wanted: bit(request.method),
            allow: Methods::none(),
        };
        match search.best() {
            Some(route) => Found::Route(route),
            None => search.missed(),
        }
    }
}

struct Search<'s, T> {
    router: &'s Router<T>,
    request: &'s Request<'s>,
    path: &'s Split<'s>,
    /// The bit of the method.
    wanted: u16,
    /// What the rules take that match but for the method.
    allow: Methods,
}

/// A host, or a pattern of hosts, that the request's host is one of.
struct Place<'s> {
    scope: &'s Scope,
    id: u32,
    hash: u64,
    rank: HostRank,
}

impl<'s, T: Copy> Search<'s, T> {
    fn best(&mut self) -> Option<Route<T>> {
        let router = self.router;
        let host = self.request.host;
        if !host.starts_with('.')
            && let Some(place) = router.place(host, HostRank::Exact)
            && let Some(route) = self.best_on(&place)
        {
            return Some(route);
        }
        if router.wildcard_labels != 0 {
            for (at, _) in host.match_indices('.').filter(|(at, _)| *at > 0) {
                let suffix = host.get(at..)?;
                let labels = labels(suffix);
                if router.wildcard_labels & 1 << labels.min(63) != 0
                    && let Some(place) = router.place(suffix, HostRank::Wildcard(labels))
                    && let Some(route) = self.best_on(&place)
                {
                    return Some(route);
                }
            }
        }
        let place = router.place("", HostRank::Any)?;
        self.best_on(&place)
    }

    fn best_on(&mut self, place: &Place<'s>) -> Option<Route<T>> {
        self.exact(place)
            .or_else(|| self.template(place))
            .or_else(|| self.prefix(place))
            .or_else(|| self.regex(place))
    }

    fn exact(&mut self, place: &Place<'s>) -> Option<Route<T>> {
        let path = self.path.path.as_bytes();
        let leaf = self.leaf(place, EXACT, self.path.whole, |literal| literal == path);
        let leaf = self.first(leaf, Shape::EXACT)?;
        self.route(place, leaf, Params::default())
    }

    fn template(&mut self, place: &Place<'s>) -> Option<Route<T>> {
        let (from, to) = self.forms(place).shapes;
        let mut best: Option<(usize, Shape, PathRank)> = None;
        for template in part(&self.router.shapes, from, to) {
            let shape = template.shape;
            if !shape.fits(self.path.count) {
                continue;
            }
            let rank = shape.rank(0);
            if best.is_some_and(|(_, _, best)| rank < best) {
                break;
            }
            let literals = self.path.literals(shape.mask)?;
            let spells = |literal: &[u8]| self.path.spells(shape.mask, literal);
            let leaf = self.leaf(place, template.id, literals, spells);
            if let Some(leaf) = self.first(leaf, shape)
                && best.is_none_or(|(best, ..)| self.order(best) < self.order(leaf))
            {
                best = Some((leaf, shape, rank));
            }
        }
        let (leaf, shape, _) = best?;
        self.route(place, leaf, self.parameters(shape))
    }

    fn prefix(&mut self, place: &Place<'s>) -> Option<Route<T>> {
        let longest = u64::MAX >> (63 - self.path.count.min(63));
        let mut lengths = self.forms(place).prefixes & longest;
        while lengths != 0 {
            let segments = 63 - lengths.leading_zeros();
            lengths ^= 1 << segments;
            let shape = Shape::prefix(u8::try_from(segments).unwrap_or(u8::MAX));
            let literals = self.path.literals(shape.mask)?;
            let spells = |literal: &[u8]| self.path.spells(shape.mask, literal);
            let leaf = self.leaf(place, PREFIX, literals, spells);
            if let Some(leaf) = self.first(leaf, shape) {
                return self.route(place, leaf, self.parameters(shape));
            }
        }
        None
    }

    fn regex(&mut self, place: &Place<'s>) -> Option<Route<T>> {
        let leaf = self.first(position(place.scope.regexes), Shape::REGEX)?;
        let params = self.router.checks(leaf).map(|checks| self.groups(checks));
        self.route(place, leaf, params.unwrap_or_default())
    }

    fn forms(&self, place: &Place<'s>) -> Forms {
        self.router.common.unwrap_or(place.scope.forms)
    }

    fn order(&self, leaf: usize) -> Option<(u8, i32, u16)> {
        self.router.checks(leaf).map(|checks| checks.order)
    }

    /// The best leaf on this host with this shape and literals.
    fn leaf(
        &self,
        place: &Place<'s>,
        shape: u32,
        literals: u64,
        spells: impl Fn(&[u8]) -> bool,
    ) -> Option<usize> {
        let router = self.router;
        let hash = hash_pattern(literals, shape);
        let mut number = router.pattern_index.position(hash)?;
        // The processor goes on to the leaf before it knows that the pattern is the right one.
        loop {
            let pattern = router.patterns.get(number)?;
            if pattern.shape == shape && spells(pattern.key.bytes(&router.texts)) {
                break;
            }
            number = position(pattern.next)?;
        }
        let number = u32::try_from(number).ok()?;
        let mut at = router.leaf_index.position(hash_leaf(hash, place.hash))?;
        loop {
            let leaf = router.leaves.get(at)?;
            if leaf.pattern == number && leaf.scope == place.id {
                return Some(at);
            }
            at = router.next(at)?;
        }
    }

    /// The first from `leaf` on that matches and takes the method; notes the methods of those that match before it.
    fn first(&mut self, leaf: Option<usize>, shape: Shape) -> Option<usize> {
        let mut at = leaf?;
        let empty = self.path.empty & shape.free() != 0;
        loop {
            let leaf = self.router.leaves.get(at)?;
            let checked = empty || leaf.is(CHECKED) || leaf.needs_list(self.wanted);
            if !checked && leaf.methods & self.wanted != 0 {
                return Some(at);
            }
            let checks = self.router.checks(at)?;
            let takes = checks.methods.takes(self.request.method);
            if (takes || !self.allow.contains(&checks.methods)) && self.holds(checks, shape) {
                if takes {
                    return Some(at);
                }
                self.allow.add(&checks.methods);
            }
            if leaf.is(LAST) {
                return None;
            }
            at = self.router.next(at)?;
        }
    }

    fn route(&self, place: &Place<'_>, leaf: usize, params: Params) -> Option<Route<T>> {
        Some(Route {
            id: self.router.leaves.get(leaf)?.id,
            params,
            host: place.rank,
            leaf: number(leaf),
        })
    }

    /// Whether everything but the method matches.
    fn holds(&self, checks: &Checks, shape: Shape) -> bool {
        let path = match &checks.regex {
            Some(regex) => regex.is_match(self.path.path),
            None => self.parameters_hold(checks, shape),
        };
        let Some(conditions) = &checks.conditions else {
            return path;
        };
        path && conditions.hold(self.request)
            && conditions.when.as_ref().is_none_or(|when| {
                let regex = checks.regex.is_some();
                let params = if regex {
                    self.groups(checks)
                } else {
                    self.parameters(shape)
                };
                when.holds(self.request, &params)
            })
    }

    /// Whether the parameters match their patterns; those that have none are not empty.
    fn parameters_hold(&self, checks: &Checks, shape: Shape) -> bool {
        let mut typed = checks.typed.iter();
        positions(shape.free()).all(|at| {
            let Some((start, end)) = self.path.span(at) else {
                return false;
            };
            match typed.next() {
                Some(Some(regex)) => {
                    let value = self.path.text(start, end);
                    value.is_some_and(|value| regex.is_match(value))
                }
                Some(None) | None => start < end,
            }
        })
    }

    fn parameters(&self, shape: Shape) -> Params {
        let mut params = Params::default();
        if shape.kind == Kind::Prefix {
            // What follows the prefix, with the slash before it.
            let end = u32::try_from(self.path.path.len()).unwrap_or(u32::MAX);
            let next = self.path.span(u32::from(shape.segments));
            params.push(next.map_or(end, |(start, _)| start.saturating_sub(1)), end);
            return params;
        }
        for (start, end) in positions(shape.free()).filter_map(|at| self.path.span(at)) {
            params.push(start, end);
        }
        if shape.rest {
            let end = u32::try_from(self.path.path.len()).unwrap_or(u32::MAX);
            let start = self.path.span(u32::from(shape.segments));
            params.push(start.map_or(end, |(start, _)| start), end);
        }
        params
    }

    fn groups(&self, checks: &Checks) -> Params {
        let mut params = Params::default();
        let Some(regex) = (checks.regex.as_ref()).filter(|r| r.captures_len() > 1) else {
            return params;
        };
        let captures = regex.captures(self.path.path);
        let names = regex.capture_names().enumerate();
        for (at, _) in names.filter(|(_, name)| name.is_some()) {
            let group = captures.as_ref().and_then(|captures| captures.get(at));
            match group.map(|g| (u32::try_from(g.start()), u32::try_from(g.end()))) {
                Some((Ok(start), Ok(end))) => params.push(start, end),
                _ => params.push_absent(),
            }
        }
        params
    }

    fn missed(self) -> Found<T> {
        if self.allow.is_empty() {
            return Found::NotFound;
        }
        let allow = Allow::of(self.allow);
        if self.request.method == Method::OPTIONS {
            Found::Options { allow }
        } else {
            Found::MethodNotAllowed { allow }
        }
    }
}

impl<T> Router<T> {
    fn place(&self, host: &str, rank: HostRank) -> Option<Place<'_>> {
        let hash = self.hash(host);
        let (id, scope) = self.scope(host, hash)?;
        Some(Place {
            scope,
            id,
            hash,
            rank,
        })
    }
}

/// How many labels stand behind the `*` of a wildcard's key.
pub(super) fn labels(suffix: &str) -> u8 {
    let dots = suffix.bytes().filter(|byte| *byte == b'.').count();
    u8::try_from(dots).unwrap_or(u8::MAX)
}

fn part<E>(list: &[E], from: u32, to: u32) -> &[E] {
    let (Ok(from), Ok(to)) = (usize::try_from(from), usize::try_from(to)) else {
        return &[];
    };
    list.get(from..to).unwrap_or_default()
}

/// The positions of the bits set, from the lowest.
fn positions(mask: u64) -> impl Iterator<Item = u32> {
    let mut left = mask;
    std::iter::from_fn(move || {
        let at = (left != 0).then(|| left.trailing_zeros())?;
        left &= left - 1;
        Some(at)
    })
}
