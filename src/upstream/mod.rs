//! Where requests go: a group of targets with one name, and the choice among them.

mod balance;
mod breaker;
mod breaker_spec;
mod breaker_state;
mod budget;
mod choosing;
mod condition;
mod connections;
mod credentials;
mod discovery;
mod ejecting;
mod health;
mod member;
mod patient;
mod permits;
mod ready;
mod resilience;
mod resolve;
mod retry;
mod secure;
mod spec;
mod sticky;
mod tending;
#[cfg(test)]
mod tests;
mod tiers;
mod timeouts;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};

pub use breaker::{Breaker, Fared, Ticket, Told};
pub use breaker_spec::BreakerSpec;
pub use breaker_state::{BreakerState, Wish};
pub use budget::Budget;
use choosing::Choosing;
pub use choosing::{HashSpec, LoadBalancing};
pub use condition::{Condition, Conditions};
use connections::Connections;
pub use connections::{Announce, ConnectionsSpec, Ends};
pub use credentials::{Credentials, CredentialsSpec, NoCredential, Payload, Tokens, Unusable};
pub use discovery::Target;
use discovery::Written;
use ejecting::Ejecting;
pub use ejecting::OutlierSpec;
use futures_util::future::join_all;
use health::Check;
pub use health::{ExpectSpec, HealthCheckSpec, Prober, StatusRange};
use member::Live;
pub use member::{Health, Member, Observer, Tally, Unobserved};
pub use patient::{afresh, for_upgrade};
pub use permits::{ConcurrencySpec, Crowd, Permit, Permits};
use ready::Ready;
pub use ready::{Ask, Outcome, Picked};
pub use resilience::Resilience;
pub use resolve::{Found, NameError, Names, SystemNames};
pub use retry::{Again, Broke, Retries, RetriesSpec, Tries};
use secure::Manner;
pub use secure::{Security, check_proof};
pub use spec::{Defaults, Protocol, Setting, Spec, TargetSpec, TlsSpec, Verify};
use sticky::{Secret, Sticky};
pub use sticky::{StickySpec, Stuck};
pub use timeouts::{Timeouts, TimeoutsSpec};

use crate::base::clock::SharedClock;
use crate::base::control::Duty;
use crate::base::forwarded::Scheme;
use crate::base::key::Key;
use crate::base::task::{Spawner, TaskGuard};

/// How long a write to a target may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// A group of targets.
pub struct Upstream {
    name: Arc<str>,
    number: usize,
    group: u64,
    security: Security,
    targets: Box<[Written]>,
    choosing: Choosing,
    check: Option<Arc<Check>>,
    ejecting: Option<Ejecting>,
    sticky: Option<Sticky>,
    /// What outlives this config; made when the upstream is started, unless it is taken over.
    live: OnceLock<Arc<Live>>,
    ready: ArcSwapOption<Ready>,
    /// One builds at a time, so that nothing older is published over something newer.
    building: Mutex<()>,
    /// A shorter time to live is taken for this.
    ttl_min: Duration,
    timeouts: Timeouts,
    resilience: Resilience,
    connections: Arc<Connections>,
    credentials: Option<Credentials>,
}

/// What an upstream needs of the world to be started.
pub struct Outside<'a> {
    /// Who knows names.
    pub names: &'a Arc<dyn Names>,
    /// Who starts tasks.
    pub spawner: &'a Spawner,
    /// The time.
    pub clock: &'a SharedClock,
    /// Who asks targets how they are.
    pub prober: &'a Arc<Prober>,
    /// Who counts what becomes of them.
    pub observer: Arc<dyn Observer>,
    /// How long the start waits for names.
    pub patience: Duration,
}

/// A target as it stands.
#[derive(Debug)]
pub struct Listed<'a> {
    /// Host and port as written.
    pub authority: &'a str,
    /// The address in use.
    pub address: Option<SocketAddr>,
    /// As written.
    pub weight: u16,
    /// As written.
    pub priority: u8,
    /// What active checks found out, where there are any.
    pub health: Option<Health>,
    /// How long it stays ejected, if it is.
    pub ejected_for: Option<Duration>,
    /// Whether somebody took it out.
    pub drained: bool,
    /// Requests under way.
    pub in_flight: u32,
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
        let targets: Box<[Written]> = spec.targets.iter().map(written).collect();
        let connections = Connections::of(spec, &targets);
        Self {
            name: name.into(),
            number: 0,
            // Where anything about TLS is different, no connection is shared, not even across a reload.
            group: group ^ security.digest(),
            targets,
            connections: Arc::new(connections),
            choosing: Choosing::of(spec),
            check: spec
                .health_check
                .on()
                .and_then(HealthCheckSpec::compile)
                .map(Arc::new),
            ejecting: spec.outlier_detection.on().map(OutlierSpec::compile),
            sticky: spec.sticky.as_ref().map(StickySpec::compile),
            security,
            live: OnceLock::new(),
            ready: ArcSwapOption::empty(),
            building: Mutex::new(()),
            ttl_min: resolve::TTL_MIN,
            timeouts: spec
                .timeouts
                .on()
                .map_or_else(Timeouts::default, TimeoutsSpec::compile),
            resilience: Resilience::new(&name.into(), spec),
            credentials: None,
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

    /// What holds where it fails.
    #[must_use]
    pub const fn resilience(&self) -> &Resilience {
        &self.resilience
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
        self.resilience.inherit(&before.resilience);
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

    /// Every target as it stands, for `upstreams list`.
    pub fn targets(&self) -> impl Iterator<Item = Listed<'_>> {
        let now = self.live.get().map_or(0, |live| live.now());
        self.targets.iter().map(move |written| {
            let member = written.member();
            Listed {
                authority: &written.authority,
                address: written.address(),
                weight: written.weight,
                priority: written.priority,
                health: self.check.as_ref().map(|_| member.health()),
                ejected_for: member.ejected_for(now),
                drained: member.is_drained(),
                in_flight: member.in_flight(),
            }
        })
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

    /// The target that a request comes to next, without taking its turn; none where chance has a part in it.
    #[must_use]
    pub fn peek(&self, ask: &Ask<'_>) -> Option<Arc<str>> {
        let ready = self.ready.load_full()?;
        Some(Arc::clone(&ready.peek(ask)?.authority))
    }

    /// The name of the cookie by which clients stay with their target.
    #[must_use]
    pub fn sticky_cookie(&self) -> Option<&str> {
        self.sticky.as_ref().map(Sticky::cookie)
    }

    /// What cookies are signed by; none where there are none.
    fn secret<'a>(&'a self, live: &'a Live) -> Option<&'a Secret> {
        let sticky = self.sticky.as_ref()?;
        sticky.secret().or_else(|| live.secret())
    }

    /// What a client's cookie says; none where it is not ours, or no more good. `now` is in seconds since 1970.
    #[must_use]
    pub fn stuck(&self, cookie: &str, now: u64) -> Option<Stuck> {
        let secret = self.secret(self.live.get()?)?;
        self.sticky.as_ref()?.read(secret, &self.name, cookie, now)
    }

    /// The cookie by which a client stays with the target that was picked; none where there is no such thing, or it has it.
    #[must_use]
    pub fn stick(
        &self,
        picked: &Picked,
        had: Option<Stuck>,
        now: u64,
        scheme: Scheme,
    ) -> Option<HeaderValue> {
        let secret = self.secret(self.live.get()?)?;
        let id = secret.id(&picked.target()?.authority);
        let to = (&*self.name, id);
        self.sticky.as_ref()?.write(secret, to, had, (now, scheme))
    }

    /// How the target is chosen, in words.
    #[must_use]
    pub fn reason(&self, ask: &Ask<'_>) -> String {
        if ask.stuck.is_some() {
            return "sticky: by the client's cookie, while that target is well".to_owned();
        }
        self.choosing.words()
    }

    /// Whether there is somebody to be asked who is not among `tried`.
    #[must_use]
    pub fn has_other(&self, tried: &[Arc<Member>]) -> bool {
        let ready = self.ready.load();
        ready.as_ref().is_some_and(|ready| ready.has_other(tried))
    }

    /// Whether its targets are told the client, by the PROXY protocol.
    #[must_use]
    pub fn announces(&self) -> bool {
        self.connections.announces()
    }

    /// Whether all its targets speak HTTP/2.
    #[must_use]
    pub fn is_http2(&self) -> bool {
        let mut targets = self.targets.iter();
        targets.all(|written| written.manner.http2)
    }

    /// Looks names up (once, with some patience) and keeps them looked up as their time to live ends; asks targets how they are,
    /// where that is written.
    pub async fn start(self: &Arc<Self>, outside: &Outside<'_>) -> Vec<TaskGuard> {
        let live = self.live.get_or_init(|| {
            Arc::new(Live::new(
                &self.name,
                outside.clock,
                Arc::clone(&outside.observer),
            ))
        });
        if self.check.is_none() {
            // Nobody looks any more.
            let targets = self.targets.iter();
            targets.for_each(|written| written.member().set_health(Health::Unknown));
        }
        let names = self.targets.iter().enumerate();
        let names = names.filter(|(_, written)| written.is_name);
        let kept = names.map(async |(index, written)| {
            let names = outside.names;
            // An address that is known already serves while the name is asked for again.
            let ttl = if written.addresses.load().is_some() {
                Duration::ZERO
            } else {
                let look_up = names.look_up(&written.host);
                let first = tokio::time::timeout(outside.patience, look_up).await;
                first.map_or(self.ttl_min, |found| self.found(index, found))
            };
            let kept = resolve::keep(Arc::clone(self), index, Arc::clone(names), ttl);
            outside.spawner.spawn(kept)
        });
        let mut guards = join_all(kept).await;
        let changes = live.changes();
        self.rebuild();
        let slow = !self.choosing.slow_start.is_zero();
        if slow || self.check.is_some() || self.ejecting.is_some() {
            let kept = tending::keep(Arc::downgrade(self), changes);
            guards.push(outside.spawner.spawn(kept));
        }
        if self.check.is_some() {
            for index in 0..self.targets.len() {
                let prober = Arc::clone(outside.prober);
                let watched = health::watch(Arc::downgrade(self), index, prober);
                guards.push(outside.spawner.spawn(watched));
            }
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
        options.http_upstream_request_policy = HttpUpstreamRequestPolicy::default();
        self.connections.apply(&mut peer);
        self.security
            .apply(manner, self.connections.streams, &mut peer);
        peer
    }
}
