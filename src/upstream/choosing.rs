//! How the target of a request is chosen, as written and as run.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Spec;
use super::balance::Method;
use crate::base::key::Key;
use crate::base::problem::{Place, Problem, Problems};
use crate::base::units::{Ratio, Share};

/// Fewer than this part of its targets left: see [`Spec::panic_threshold`].
const PANIC_THRESHOLD: Share = Share::from_percent(50);

/// How the target of a request is chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LoadBalancing {
    /// Of two drawn by weight, the one with fewer requests under way for its weight.
    #[default]
    LeastRequest,
    /// By turns and weight.
    RoundRobin,
    /// By chance and weight.
    Random,
    /// Of two drawn by weight, the one that is expected to be done sooner: by how long its answers take, the slowest
    /// weighing most, and how many requests are under way there.
    PeakEwma,
    /// Requests with the same key go to the same target, by a ring: when a target goes, only its own keys move.
    RingHash(HashSpec),
    /// Requests with the same key go to the same target, by a table: more even than a ring, and a few more keys move.
    Maglev(HashSpec),
}

/// By what requests are alike.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HashSpec {
    /// What requests are alike by: one, or a list that counts together. A request that has nothing of it goes by chance.
    pub by: Key,
    /// The most that one target may have of what its weight says, from `100%`: what is beyond it goes to the next of the
    /// ring or table. Default: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bounded_load: Option<Ratio>,
}

impl HashSpec {
    /// In thousandths, rounded up.
    fn bound(&self) -> Option<u32> {
        self.bounded_load.map(Ratio::thousandths)
    }
}

impl LoadBalancing {
    /// Its word in the config.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::LeastRequest => "least_request",
            Self::RoundRobin => "round_robin",
            Self::Random => "random",
            Self::PeakEwma => "peak_ewma",
            Self::RingHash(_) => "ring_hash",
            Self::Maglev(_) => "maglev",
        }
    }

    /// What it goes by, in words.
    const fn reason(&self) -> &'static str {
        match self {
            Self::LeastRequest => "of two drawn by weight, the one with fewer requests under way",
            Self::RoundRobin => "by turns and weight",
            Self::Random => "by chance and weight",
            Self::PeakEwma => "of two drawn by weight, the one that is expected to be done sooner",
            Self::RingHash(_) => "by its key's place on the ring",
            Self::Maglev(_) => "by its key's place in the table",
        }
    }

    const fn hash(&self) -> Option<&HashSpec> {
        match self {
            Self::RingHash(hash) | Self::Maglev(hash) => Some(hash),
            Self::LeastRequest | Self::RoundRobin | Self::Random | Self::PeakEwma => None,
        }
    }

    fn method(&self) -> Method {
        match self {
            Self::LeastRequest => Method::LeastRequest,
            Self::RoundRobin => Method::RoundRobin,
            Self::Random => Method::Random,
            Self::PeakEwma => Method::PeakEwma,
            Self::RingHash(hash) => Method::RingHash(hash.bound()),
            Self::Maglev(hash) => Method::Maglev(hash.bound()),
        }
    }

    /// Reports what cannot be, where it stands at `place`.
    pub fn check(&self, place: &Place, problems: &mut Problems) {
        let bound = self.hash().and_then(HashSpec::bound);
        if bound.is_some_and(|bound| bound < 1000) {
            let place = place.key(self.name()).key("bounded_load");
            let problem = Problem::error("E030", place, "less than all requests");
            problems
                .push(problem.hint("`100%` or more: with less, nobody could take the last ones"));
        }
    }
}

/// The same, as run.
#[derive(Debug)]
pub(super) struct Choosing {
    pub(super) method: Method,
    /// What requests are alike by, where it goes by that.
    pub(super) key: Option<Key>,
    name: &'static str,
    reason: &'static str,
    pub(super) panic_threshold: f64,
    /// For how long a target that begins to serve gets less.
    pub(super) slow_start: Duration,
}

impl Choosing {
    pub(super) fn of(spec: &Spec) -> Self {
        let balancing = spec.load_balancing.clone().unwrap_or_default();
        Self {
            method: balancing.method(),
            key: balancing.hash().map(|hash| hash.by.clone()),
            name: balancing.name(),
            reason: balancing.reason(),
            panic_threshold: spec.panic_threshold.unwrap_or(PANIC_THRESHOLD).fraction(),
            slow_start: spec
                .slow_start
                .map_or(Duration::ZERO, |span| span.duration()),
        }
    }

    /// `round_robin: by turns and weight`.
    pub(super) fn words(&self) -> String {
        format!("{}: {}", self.name, self.reason)
    }
}
