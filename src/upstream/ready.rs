//! The targets, ready to be chosen from: built when something changes, off the request path, and replaced as a whole.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::balance::{Balance, Draw, Entry, Method};
use super::discovery::Target;
use super::member::{Live, Member};
use super::tiers::{Candidate, Standing, Tiers};

/// What one choice is made by.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ask<'a> {
    /// The hash of what requests are alike by, where the upstream chooses by that and the request has it; else chance decides.
    pub key: Option<u64>,
    /// Targets that the request was at already: others come first.
    pub tried: &'a [Arc<Member>],
}

/// A target with its weight at this time and its priority.
pub(super) struct Choice {
    pub(super) target: Arc<Target>,
    pub(super) weight: u32,
    pub(super) priority: u8,
}

/// All that requests can go to.
pub(super) struct Ready {
    live: Arc<Live>,
    first: Set,
    /// For requests that were everywhere else.
    reserve: Option<Set>,
}

/// Targets among which the choice is by the upstream's method.
struct Set {
    targets: Box<[Arc<Target>]>,
    balance: Balance,
    /// How a target stands counts for nothing.
    panics: bool,
}

impl Ready {
    pub(super) fn new(
        choices: &[Choice],
        method: Method,
        panic_threshold: f64,
        live: &Arc<Live>,
    ) -> Self {
        let candidate = |choice: &Choice| Candidate {
            priority: choice.priority,
            standing: Standing::Serving,
        };
        let candidates: Vec<Candidate> = choices.iter().map(candidate).collect();
        let tiers = Tiers::of(&candidates, panic_threshold);
        let reserve = &tiers.reserve;
        Self {
            live: Arc::clone(live),
            first: Set {
                panics: tiers.panics,
                ..Set::new(choices, &tiers.first, method)
            },
            reserve: (!reserve.is_empty()).then(|| Set::new(choices, reserve, method)),
        }
    }

    /// Whether there is anybody.
    pub(super) fn is_empty(&self) -> bool {
        self.first.targets.is_empty()
    }

    /// Chooses; the request counts as the target's from now on.
    pub(super) fn choose(self: Arc<Self>, ask: &Ask<'_>) -> Option<Picked> {
        let new = |set: &Set| {
            let fit = |target: &Target| {
                !ask.tried
                    .iter()
                    .any(|tried| Arc::ptr_eq(tried, target.member()))
                    && (set.panics || !target.member().is_out())
            };
            set.choose(ask, &self.live, fit)
        };
        let (of, index) = if let Some(index) = new(&self.first) {
            (Of::First, index)
        } else if let Some(index) = self.reserve.as_ref().and_then(new) {
            (Of::Reserve, index)
        } else {
            // Who was drained meanwhile gets nothing, whatever else.
            let any = |target: &Target| !target.member().is_drained();
            (Of::First, self.first.choose(ask, &self.live, any)?)
        };
        // Relaxed: a count alone, nothing is published through it.
        self.live.counts.busy.fetch_add(1, Ordering::Relaxed);
        Some(Picked {
            ready: self,
            of,
            index,
        })
    }

    /// Who comes next, where that is sure; nothing is counted.
    pub(super) fn peek(&self, key: Option<u64>) -> Option<&Arc<Target>> {
        let index = self.first.balance.peek(key, &self.live.counts)?;
        self.first.targets.get(index)
    }
}

impl Set {
    fn new(choices: &[Choice], members: &[usize], method: Method) -> Self {
        let chosen: Vec<&Choice> = members.iter().filter_map(|at| choices.get(*at)).collect();
        let entries: Vec<Entry<'_>> = chosen
            .iter()
            .map(|choice| Entry {
                name: &choice.target.authority,
                weight: choice.weight,
            })
            .collect();
        Self {
            balance: Balance::new(method, &entries),
            targets: chosen
                .iter()
                .map(|choice| Arc::clone(&choice.target))
                .collect(),
            panics: false,
        }
    }

    fn choose(&self, ask: &Ask<'_>, live: &Live, fit: impl Fn(&Target) -> bool) -> Option<usize> {
        let draw = Draw {
            hash: ask.key,
            now: if self.balance.wants_time() {
                live.now()
            } else {
                0
            },
        };
        self.balance.choose(
            draw,
            |index| Some(&self.targets.get(index)?.member().load),
            |index| self.targets.get(index).is_some_and(|target| fit(target)),
            &live.counts,
        )
    }
}

#[derive(Debug, Clone, Copy)]
enum Of {
    First,
    Reserve,
}

/// How an attempt at a target ended, as far as the target is to be judged by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It answered to the end, with this status.
    Answered(u16),
    /// It could not be reached, broke off, was silent for too long or gave no HTTP.
    Failed,
    /// It was given up by somebody else: that says nothing.
    Unknown,
}

/// A target that was chosen; it lives as long as the choice, whatever is published meanwhile. The request counts as the
/// target's until this is dropped.
pub struct Picked {
    ready: Arc<Ready>,
    of: Of,
    index: usize,
}

impl std::fmt::Debug for Picked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Picked").field(&self.target()).finish()
    }
}

impl Picked {
    /// The target.
    #[must_use]
    pub fn target(&self) -> Option<&Target> {
        let set = match self.of {
            Of::First => Some(&self.ready.first),
            Of::Reserve => self.ready.reserve.as_ref(),
        };
        set?.targets.get(self.index).map(|target| &**target)
    }

    /// The head of the answer was here after so long.
    pub fn answered(&self, after: Duration) {
        if let Some(target) = self.target() {
            let now = self.ready.live.now();
            target.member().load.took(after, now);
        }
    }

    /// The attempt is over.
    pub fn report(&self, _outcome: Outcome) {}
}

impl Drop for Picked {
    fn drop(&mut self) {
        if let Some(target) = self.target() {
            target.member().load.leave();
        }
        self.ready.live.counts.busy.fetch_sub(1, Ordering::Relaxed);
    }
}
