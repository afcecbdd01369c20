//! Where requests go: a group of targets with one name, and the choice among them.

mod balance;
mod choosing;
mod discovery;
mod member;
mod patient;
mod ready;
mod resolve;
mod secure;
mod spec;
#[cfg(test)]
mod tests;
mod tiers;
mod timeouts;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};

use choosing::Choosing;
pub use choosing::{HashSpec, LoadBalancing};
pub use discovery::Target;
use discovery::Written;
use member::Live;
pub use member::Member;
pub use patient::for_upgrade;
pub use ready::{Ask, Outcome, Picked};
use ready::{Choice, Ready};
pub use resolve::{Found, NameError, Names, SystemNames};
use secure::Manner;
pub use secure::{Security, check_proof};
pub use spec::{Defaults, Protocol, Setting, Spec, TargetSpec, TlsSpec, Verify};
pub use timeouts::{Timeouts, TimeoutsSpec};

use crate::base::clock::SharedClock;
use crate::base::key::Key;
use crate::base::task::{Spawner, TaskGuard};

/// How long a write to a target may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an idle connection to a target is kept.
const IDLE_MAX: Duration = Duration::from_secs(55);
/// In so many steps a target that begins slowly comes to its weight; the first is its least.
const SLOW_STEPS: u32 = 10;
/// How long the choice stays as it is while nothing happens.
const REBUILD_MAX: Duration = Duration::from_secs(3600);

/// A group of targets.
pub struct Upstream {
    name: Arc<str>,
    number: usize,
    group: u64,
    security: Security,
    targets: Box<[Written]>,
    choosing: Choosing,
    /// What outlives this config; made when the upstream is started, unless it is taken over.
    live: OnceLock<Arc<Live>>,
    ready: ArcSwapOption<Ready>,
    /// One builds at a time, so that nothing older is published over something newer.
    building: Mutex<()>,
    /// A shorter time to live is taken for this.
    ttl_min: Duration,
    timeouts: Timeouts,
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl Upstream {
    /// Makes the group; nothing is asked or started yet.
    #[must_use]
    pub fn new(name: &str, group: u64, spec: &Spec, security: Security) -> Self {
        let written = |target| Written::new(target, &security);
        Self {
            name: name.into(),
            number: 0,
            // Where anything about TLS is different, no connection is shared, not even across a reload.
            group: group ^ security.digest(),
            targets: spec.targets.iter().map(written).collect(),
            choosing: Choosing::of(spec),
            security,
            live: OnceLock::new(),
            ready: ArcSwapOption::empty(),
            building: Mutex::new(()),
            ttl_min: resolve::TTL_MIN,
            timeouts: spec
                .timeouts
                .on()
                .map_or_else(Timeouts::default, TimeoutsSpec::compile),
        }
    }

    /// Says its number in the plan.
    #[must_use]
    pub fn numbered(mut self, number: usize) -> Self {
        self.number = number;
        self
    }

    /// Its number in the plan.
    #[must_use]
    pub fn number(&self) -> usize {
        self.number
    }

    /// The name in the config.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// How long its requests may take, where their route says nothing else.
    #[must_use]
    pub const fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }

    /// The authorities written for the targets: what a target may call itself in a `Location`.
    pub fn authorities(&self) -> impl Iterator<Item = &str> {
        self.targets.iter().map(|written| &*written.authority)
    }

    /// Whether there is an address to send to; there is none while no name has one.
    #[must_use]
    pub fn has_target(&self) -> bool {
        self.ready
            .load()
            .as_ref()
            .is_some_and(|ready| !ready.is_empty())
    }

    /// Takes over what lives behind the name in another generation of this upstream: addresses of names, and how each target
    /// stands. A target that is new begins now.
    pub fn inherit(&self, before: &Self) {
        let Some(live) = before.live.get() else {
            return;
        };
        self.live.get_or_init(|| Arc::clone(live));
        for written in &self.targets {
            let mut known = before.targets.iter();
            let known = known.find(|known| known.authority == written.authority);
            let member = known.map_or_else(
                || {
                    let new = Member::new(&written.authority);
                    new.begin(live.now());
                    Arc::new(new)
                },
                |known| Arc::clone(known.member()),
            );
            written.take_over(member);
            let known = known.filter(|known| written.is_name && known.is_name);
            if let Some(addresses) = known.and_then(|known| known.addresses.load_full()) {
                written.addresses.store(Some(addresses));
            }
        }
    }

    /// Every target with the address in use, for `upstreams list`.
    pub fn targets(&self) -> impl Iterator<Item = (&str, Option<SocketAddr>, u16)> {
        let targets = self.targets.iter();
        targets.map(|written| (&*written.authority, written.address(), written.weight))
    }

    /// What requests are alike by, where the target is chosen by that.
    #[must_use]
    pub const fn key(&self) -> Option<&Key> {
        self.choosing.key.as_ref()
    }

    /// Chooses the target of one attempt; `None` where nobody can be asked: no name has an address, or all targets are known to
    /// be gone. Takes no lock and no memory.
    #[must_use]
    pub fn pick(&self, ask: &Ask<'_>) -> Option<Picked> {
        self.ready.load_full()?.choose(ask)
    }

    /// The target that a request with this key comes to next, without taking its turn; none where chance has a part in it.
    #[must_use]
    pub fn peek(&self, key: Option<u64>) -> Option<Arc<str>> {
        let ready = self.ready.load_full()?;
        Some(Arc::clone(&ready.peek(key)?.authority))
    }

    /// How the target is chosen, in words.
    #[must_use]
    pub fn reason(&self) -> String {
        self.choosing.words()
    }

    /// Whether all its targets speak HTTP/2.
    #[must_use]
    pub fn is_http2(&self) -> bool {
        let mut targets = self.targets.iter();
        targets.all(|written| written.manner.http2)
    }

    /// Looks names up (once, within `patience`) and keeps them looked up as their time to live ends.
    pub async fn start(
        self: &Arc<Self>,
        names: &Arc<dyn Names>,
        spawner: &Spawner,
        clock: &SharedClock,
        patience: Duration,
    ) -> Vec<TaskGuard> {
        let live = self.live.get_or_init(|| Arc::new(Live::new(clock)));
        let mut guards = Vec::new();
        for (index, written) in self.targets.iter().enumerate() {
            if !written.is_name {
                continue;
            }
            // An address that is known already serves while the name is asked for again.
            let ttl = if written.addresses.load().is_some() {
                Duration::ZERO
            } else {
                let first = tokio::time::timeout(patience, names.look_up(&written.host)).await;
                first.map_or(self.ttl_min, |found| self.found(index, found))
            };
            guards.push(spawner.spawn(resolve::keep(
                Arc::clone(self),
                index,
                Arc::clone(names),
                ttl,
            )));
        }
        let changes = live.changes();
        self.rebuild();
        if !self.choosing.slow_start.is_zero() {
            guards.push(spawner.spawn(keep(Arc::downgrade(self), changes)));
        }
        guards
    }

    /// Takes note of an answer for the name of target `index`; returns how long it may be used.
    fn found(&self, index: usize, answer: Result<Found, NameError>) -> Duration {
        let Some(written) = self.targets.get(index) else {
            return resolve::TTL_MAX;
        };
        match answer {
            Ok(found) => {
                // The address in use stays while the name still has it: a rotation of the answer is no change.
                let current = written.addresses.load_full();
                let current = current.as_deref().and_then(|known| known.first());
                let in_use = current.filter(|addr| found.addresses.contains(&addr.ip()));
                let others = found.addresses.iter();
                let others = others.map(|ip| SocketAddr::new(*ip, written.port));
                let others = others.filter(|addr| Some(addr) != in_use);
                let addresses: Box<[SocketAddr]> =
                    in_use.copied().into_iter().chain(others).collect();
                if !addresses.is_empty() {
                    written.addresses.store(Some(Arc::new(addresses)));
                }
                found.ttl.clamp(self.ttl_min, resolve::TTL_MAX)
            }
            Err(error) => {
                log::warn!(upstream:% = self.name, host:% = written.host, error:% = error; "name not found, the last address is kept");
                self.ttl_min
            }
        }
    }

    fn peer(&self, addr: SocketAddr, manner: &Manner) -> HttpPeer {
        let mut peer = HttpPeer::new(addr, manner.tls, manner.name.clone());
        // Two upstreams at one address never share a connection: their settings may differ.
        peer.group_key = self.group;
        let options = &mut peer.options;
        options.write_timeout = Some(WRITE_TIMEOUT);
        options.idle_timeout = Some(IDLE_MAX);
        options.http_upstream_request_policy = HttpUpstreamRequestPolicy::default();
        self.security.apply(manner, &mut peer);
        peer
    }

    /// Builds the choice anew from what is known now, and publishes it. Returns how long it is right if nothing happens.
    fn rebuild(&self) -> Duration {
        let Some(live) = self.live.get() else {
            return REBUILD_MAX;
        };
        let _building = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        let now = live.now();
        let mut due = REBUILD_MAX;
        let mut choices: Vec<Choice> = Vec::with_capacity(self.targets.len());
        for written in &self.targets {
            let member = written.member();
            let target = written.target(|addr, manner| self.peer(addr, manner));
            let Some(target) = target.filter(|_| !member.is_drained()) else {
                continue;
            };
            let (step, next) = self.step(member, now);
            due = due.min(next);
            choices.push(Choice {
                target,
                weight: u32::from(written.weight) * step,
                priority: written.priority,
            });
        }
        let choosing = &self.choosing;
        let ready = Ready::new(&choices, choosing.method, choosing.panic_threshold, live);
        self.ready.store(Some(Arc::new(ready)));
        due
    }

    /// How far a target has come that began slowly, of [`SLOW_STEPS`], and how long until the next step.
    fn step(&self, member: &Member, now: u64) -> (u32, Duration) {
        let whole = self.choosing.slow_start;
        let served = member.serves_for(now).filter(|served| *served < whole);
        let Some(served) = served else {
            return (SLOW_STEPS, REBUILD_MAX);
        };
        let one = whole / SLOW_STEPS;
        let done = served.as_nanos() / one.as_nanos().max(1);
        let done = u32::try_from(done)
            .unwrap_or(SLOW_STEPS)
            .min(SLOW_STEPS - 1);
        (
            done + 1,
            (one * (done + 1)).saturating_sub(served).max(one / 10),
        )
    }
}

/// Builds the choice anew whenever something is different, until the upstream is gone.
async fn keep(upstream: Weak<Upstream>, mut changes: tokio::sync::watch::Receiver<()>) {
    loop {
        let Some(due) = upstream.upgrade().map(|upstream| upstream.rebuild()) else {
            return;
        };
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(due) => {}
        }
    }
}
