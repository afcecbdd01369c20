//! The targets, ready to be chosen from: built when something changes, off the request path, and replaced as a whole.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pingora::upstreams::peer::HttpPeer;

use super::balance::{Balance, Draw, Entry, Method};
use super::choosing::Choosing;
use super::connections::{Connections, Ends};
use super::discovery::Target;
use super::ejecting::Ejecting;
use super::member::{Live, Member};
use super::sticky::{Secret, Stuck};
use super::tiers::{Candidate, Tiers};
use super::timeouts::Timeouts;

/// What one choice is made by.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ask<'a> {
    /// The hash of what requests are alike by, where the upstream chooses by that and the request has it; else chance decides.
    pub key: Option<u64>,
    /// Targets that the request was at already: others come first.
    pub tried: &'a [Arc<Member>],
    /// The target that the client stays with, by its cookie.
    pub stuck: Option<Stuck>,
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
    /// All that are not drained.
    members: Box<[Arc<Member>]>,
    ejecting: Option<Ejecting>,
    /// The first by what stands for them in cookies, in order; empty where there are none.
    stuck: Box<[(u64, usize)]>,
    connections: Arc<Connections>,
    first: Set,
    /// For requests that were everywhere else.
    reserve: Option<Set>,
}

/// Targets among which the choice is by the upstream's method.
struct Set {
    targets: Box<[Arc<Target>]>,
    /// Theirs, in the same order: a choice looks at nothing else.
    members: Box<[Arc<Member>]>,
    balance: Balance,
    /// How a target stands counts for nothing.
    panics: bool,
}

impl Ready {
    pub(super) fn new(
        choices: &[Choice],
        choosing: &Choosing,
        ejecting: Option<Ejecting>,
        (live, connections): (&Arc<Live>, &Arc<Connections>),
    ) -> Self {
        let method = choosing.method;
        let candidate = |choice: &Choice| Candidate {
            priority: choice.priority,
            standing: choice.target.member().standing(),
        };
        let candidates: Vec<Candidate> = choices.iter().map(candidate).collect();
        let tiers = Tiers::of(&candidates, choosing.panic_threshold);
        let reserve = &tiers.reserve;
        Self {
            live: Arc::clone(live),
            members: choices
                .iter()
                .map(|choice| Arc::clone(choice.target.member()))
                .collect(),
            ejecting,
            stuck: Box::default(),
            connections: Arc::clone(connections),
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

    /// Lets clients stay with its targets, by what stands for these in their cookies.
    pub(super) fn sticky(mut self, secret: &Secret) -> Self {
        let targets = self.first.targets.iter().enumerate();
        let mut stuck: Vec<(u64, usize)> = targets
            .map(|(index, target)| (secret.id(&target.authority), index))
            .collect();
        stuck.sort_unstable();
        self.stuck = stuck.into();
        self
    }

    /// Whether it counts for nothing how its targets stand.
    pub(super) fn panics(&self) -> bool {
        self.first.panics
    }

    /// Whether there is somebody who is not among `tried`.
    pub(super) fn has_other(&self, tried: &[Arc<Member>]) -> bool {
        let reserve = self.reserve.iter().flat_map(|set| &set.targets);
        let mut all = self.first.targets.iter().chain(reserve);
        all.any(|target| {
            let member = target.member();
            !member.is_out()
                && !member.is_drained()
                && !tried.iter().any(|tried| Arc::ptr_eq(tried, member))
        })
    }

    /// Chooses; the request counts as the target's from now on.
    pub(super) fn choose(self: Arc<Self>, ask: &Ask<'_>) -> Option<Picked> {
        let fit = |set: &Set, member: &Arc<Member>| {
            let mut tried = ask.tried.iter();
            !tried.any(|tried| Arc::ptr_eq(tried, member))
                && !set.passes(member)
                && !self.is_full(member)
        };
        let new = |set: &Set| set.choose(ask, &self.live, |member| fit(set, member));
        let stuck = || {
            let index = self.stuck_at(ask.stuck?)?;
            let member = self.first.members.get(index)?;
            fit(&self.first, member).then(|| {
                member.load.enter();
                index
            })
        };
        let (of, index) = if let Some(index) = stuck() {
            (Of::First, index)
        } else if let Some(index) = new(&self.first) {
            (Of::First, index)
        } else if let Some(index) = self.reserve.as_ref().and_then(new) {
            (Of::Reserve, index)
        } else {
            // Who was drained meanwhile gets nothing, whatever else.
            let any = |member: &Arc<Member>| !member.is_drained() && !self.is_full(member);
            (Of::First, self.first.choose(ask, &self.live, any)?)
        };
        // Relaxed: a count alone, nothing is published through it.
        self.live.counts.busy.fetch_add(1, Ordering::Relaxed);
        let picked = Picked {
            ready: self,
            of,
            index,
        };
        // Somebody else may have chosen at the same time.
        let most = picked.ready.connections.requests_max.unwrap_or(u32::MAX);
        let count = picked.target().map(|target| target.member().in_flight());
        count.is_some_and(|count| count <= most).then_some(picked)
    }

    /// Whether a target has as many requests as it may.
    fn is_full(&self, member: &Member) -> bool {
        let most = self.connections.requests_max;
        most.is_some_and(|most| member.in_flight() >= most)
    }

    /// Where among the first the target stands that a client stays with.
    fn stuck_at(&self, stuck: Stuck) -> Option<usize> {
        let at = self.stuck.binary_search_by_key(&stuck.id, |(id, _)| *id);
        Some(self.stuck.get(at.ok()?)?.1)
    }

    /// Who comes next, where that is sure; nothing is counted.
    pub(super) fn peek(&self, ask: &Ask<'_>) -> Option<&Arc<Target>> {
        let stuck = ask.stuck.and_then(|stuck| self.stuck_at(stuck));
        let next = || self.first.balance.peek(ask.key, &self.live.counts);
        self.first.targets.get(stuck.or_else(next)?)
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
            members: chosen
                .iter()
                .map(|choice| Arc::clone(choice.target.member()))
                .collect(),
            targets: chosen
                .iter()
                .map(|choice| Arc::clone(&choice.target))
                .collect(),
            panics: false,
        }
    }

    /// Whether a target gets nothing, because something was found out about it since this was built.
    fn passes(&self, member: &Member) -> bool {
        member.is_drained() || (!self.panics && member.is_out())
    }

    fn choose(
        &self,
        ask: &Ask<'_>,
        live: &Live,
        fit: impl Fn(&Arc<Member>) -> bool,
    ) -> Option<usize> {
        let draw = Draw {
            hash: ask.key,
            now: live.latest(),
        };
        self.balance.choose(
            draw,
            |index| Some(&self.members.get(index)?.load),
            |index| self.members.get(index).is_some_and(&fit),
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

    /// The member of the upstream that it is.
    #[must_use]
    pub fn member(&self) -> Option<Arc<Member>> {
        Some(Arc::clone(self.target()?.member()))
    }

    /// What Pingora needs to connect to it, within these times and for a client whose connection has these ends.
    #[must_use]
    pub fn peer(&self, times: &Timeouts, ends: Option<&Ends>) -> Option<Box<HttpPeer>> {
        let mut peer = self.target()?.peer(times)?;
        let connections = &self.ready.connections;
        if connections.differ() {
            connections.tell_apart(&mut peer, &self.ready.live, ends);
        }
        Some(peer)
    }

    /// The head of the answer was here after so long.
    pub fn answered(&self, after: Duration) {
        if let Some(target) = self.target() {
            let now = self.ready.live.note_now();
            target.member().load.took(after, now);
        }
    }

    /// The head of an answer was not here after so long, and nobody waits for it any more.
    pub fn waited(&self, so_long: Duration) {
        if let Some(target) = self.target() {
            let now = self.ready.live.note_now();
            target.member().load.took_longer(so_long, now);
        }
    }

    /// The attempt is over.
    pub fn report(&self, outcome: Outcome) {
        let (Some(rules), Some(target)) = (&self.ready.ejecting, self.target()) else {
            return;
        };
        let member = target.member();
        match outcome {
            Outcome::Unknown => {}
            Outcome::Answered(status) if status < 500 => member.well(),
            Outcome::Answered(_) | Outcome::Failed => {
                if member.errs() >= rules.errors {
                    self.ready.live.eject(member, &self.ready.members, rules);
                }
            }
        }
    }
}

impl Drop for Picked {
    fn drop(&mut self) {
        if let Some(target) = self.target() {
            target.member().load.leave();
        }
        self.ready.live.counts.busy.fetch_sub(1, Ordering::Relaxed);
    }
}
