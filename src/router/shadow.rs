//! Rules that can never match, since better ones take everything they could.

use std::collections::HashMap;

use regex::Regex;

use super::build::Entry;
use super::split::{Kind, Shape};
use super::{Methods, Rule};

/// A rule that can never match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Warning<T> {
    /// The rule.
    pub rule: T,
    /// Why.
    pub reason: Reason<T>,
}

/// Why a rule can never match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason<T> {
    /// Better rules, of which this is one, take everything that it could.
    Shadowed {
        /// One of them.
        by: T,
    },
    /// Its `before` is not later than its `after`.
    NeverInTime,
    /// It takes no method.
    NoMethod,
}

pub(super) fn warnings<T: Copy>(rules: &[Rule<T>], entries: &[Entry<'_, T>]) -> Vec<Warning<T>> {
    let mut shadows: HashMap<u32, (usize, T)> = HashMap::new();
    for host in entries.chunk_by(|a, b| a.scope == b.scope) {
        let mut wide = Wide {
            covers: HashMap::new(),
            shapes: Vec::new(),
        };
        for group in host.chunk_by(Entry::joins) {
            wide.add_group(group, &mut shadows);
        }
    }
    let mut hosts: HashMap<u32, usize> = HashMap::new();
    for entry in entries {
        *hosts.entry(entry.at).or_default() += 1;
    }
    let reason = |at: u32, rule: &Rule<T>| {
        if rule.conditions.never_hold() {
            return Some(Reason::NeverInTime);
        }
        if rule.methods.is_empty() {
            return Some(Reason::NoMethod);
        }
        let (count, by) = shadows.get(&at)?;
        (hosts.get(&at) == Some(count)).then_some(Reason::Shadowed { by: *by })
    };
    let named = (0..).zip(rules).filter_map(|(at, rule)| {
        Some(Warning {
            rule: rule.id,
            reason: reason(at, rule)?,
        })
    });
    named.collect()
}

/// The methods that some rules take whatever else a request has.
#[derive(Clone)]
struct Cover<T> {
    methods: Methods,
    by: Vec<(Methods, T)>,
}

impl<T: Copy> Cover<T> {
    fn none() -> Self {
        Self {
            methods: Methods::none(),
            by: Vec::new(),
        }
    }

    fn add(&mut self, methods: &Methods, by: T) {
        if !self.methods.contains(methods) {
            self.methods.add(methods);
            self.by.push((methods.clone(), by));
        }
    }

    fn add_all(&mut self, other: &Self) {
        for (methods, by) in &other.by {
            self.add(methods, *by);
        }
    }

    /// One of the rules that together take all of `methods`.
    fn shadow(&self, methods: &Methods) -> Option<T> {
        let all = self.methods.contains(methods);
        let mut by = self
            .by
            .iter()
            .filter(|(taken, _)| all && taken.overlaps(methods));
        by.next().map(|(_, by)| *by)
    }
}

/// The patterns of one host, from the best on, that take every path that begins in a certain way.
struct Wide<T> {
    covers: HashMap<(Shape, String), Cover<T>>,
    /// Which shapes with a `{rest*}` there are.
    shapes: Vec<Shape>,
}

impl<T: Copy> Wide<T> {
    /// Goes through rules that are found together, best first.
    fn add_group(&mut self, group: &[Entry<'_, T>], shadows: &mut HashMap<u32, (usize, T)>) {
        let Some(first) = group.first() else {
            return;
        };
        let outer = self.around(first);
        // Rules that have the same patterns for their parameters stand in each other's way.
        let mut covers: HashMap<String, Cover<T>> = HashMap::new();
        for entry in group {
            let cover = covers
                .entry(patterns(entry))
                .or_insert_with(|| outer.clone());
            if let Some(by) = cover.shadow(&entry.rule.methods) {
                shadows.entry(entry.at).or_insert((0, by)).0 += 1;
            }
            if entry.rule.conditions.count() == 0 {
                cover.add(&entry.rule.methods, entry.rule.id);
            }
        }
        let shape = first.shape();
        if (shape.rest || shape == Shape::prefix(0))
            && let Some(cover) = covers.remove("")
        {
            self.covers
                .insert((shape, first.literal().to_owned()), cover);
            if shape.rest && !self.shapes.contains(&shape) {
                self.shapes.push(shape);
            }
        }
    }

    /// What better rules with other patterns take of every path that `entry` is for.
    fn around(&self, entry: &Entry<'_, T>) -> Cover<T> {
        let mut cover = Cover::none();
        let mut add = |shape: Shape, literal: String| {
            if let Some(outer) = self.covers.get(&(shape, literal)) {
                cover.add_all(outer);
            }
        };
        match entry.shape().kind {
            Kind::Exact | Kind::Template => {}
            Kind::Prefix => {
                let segments: Vec<&str> = entry.literal().split('/').skip(1).collect();
                for shape in &self.shapes {
                    if let Some(literal) = literal_in(*shape, &segments) {
                        add(*shape, literal);
                    }
                }
            }
            Kind::Regex => {
                add(Shape::template(0, 0).with_rest(), String::new());
                add(Shape::prefix(0), String::new());
            }
        }
        cover
    }
}

/// The literals a template of this shape has if it is for every path that begins with `segments`.
fn literal_in(shape: Shape, segments: &[&str]) -> Option<String> {
    let mut literal = String::new();
    if shape.segments == 0 {
        return Some(literal);
    }
    if usize::from(shape.segments) >= segments.len() {
        return None;
    }
    for (at, segment) in segments
        .iter()
        .enumerate()
        .take(usize::from(shape.segments))
    {
        if shape.mask & 1 << at != 0 {
            literal.push('/');
            literal.push_str(segment);
        } else if segment.is_empty() {
            return None;
        }
    }
    Some(literal)
}

/// The patterns of the parameters, or the regex.
fn patterns<T>(entry: &Entry<'_, T>) -> String {
    let path = &entry.rule.path;
    let mut text = String::new();
    for regex in path
        .typed
        .iter()
        .map(Option::as_deref)
        .chain([path.regex.as_deref()])
    {
        text.push_str(regex.map_or("", Regex::as_str));
        if !path.typed.is_empty() {
            text.push('\n');
        }
    }
    text
}
