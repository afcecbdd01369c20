//! Where requests go: a group of targets with one name, and the choice among them.

mod patient;
mod pick;
mod resolve;
mod secure;
mod spec;
#[cfg(test)]
mod tests;
mod timeouts;

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy, Peer};
use pingora_load_balancing::discovery::ServiceDiscovery;
use pingora_load_balancing::{Backend, Backends, Extensions};

use crate::base::task::{Spawner, TaskGuard};
pub use patient::for_upgrade;
use pick::Schedule;
pub use resolve::{Found, NameError, Names, SystemNames};
use secure::Manner;
pub use secure::{Security, check_proof};
pub use spec::{Defaults, Protocol, Setting, Spec, TargetSpec, TlsSpec, Verify};
pub use timeouts::{Timeouts, TimeoutsSpec};

/// How long a write to a target may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an idle connection to a target is kept.
const IDLE_MAX: Duration = Duration::from_secs(55);

/// A group of targets.
pub struct Upstream {
    name: Arc<str>,
    number: usize,
    group: u64,
    security: Security,
    backends: Backends,
    discovery: Arc<Discovery>,
    ready: ArcSwapOption<Ready>,
    /// A shorter time to live is taken for this.
    ttl_min: Duration,
    timeouts: Timeouts,
    /// Where the turns begin.
    turn: AtomicUsize,
}

/// One address that a request can be sent to.
#[derive(Debug)]
pub struct Target {
    /// The address; of several the first.
    pub addr: SocketAddr,
    /// What was written: `http://users.internal:8080` without the scheme.
    pub authority: Arc<str>,
    /// One for each address of the target's name.
    peers: Box<[HttpPeer]>,
    /// Counts up when the address in use takes no connections.
    turn: AtomicUsize,
}

struct Ready {
    targets: Box<[Target]>,
    schedule: Schedule,
}

/// What the config says of the targets, and the addresses found for their names so far.
struct Discovery {
    targets: Box<[Written]>,
}

struct Written {
    authority: Arc<str>,
    host: Arc<str>,
    port: u16,
    weight: u16,
    manner: Arc<Manner>,
    /// The address written, or the last ones found, the one in use first.
    addresses: ArcSwapOption<Addresses>,
    is_name: bool,
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl ServiceDiscovery for Shared {
    async fn discover(&self) -> pingora::Result<(BTreeSet<Backend>, HashMap<u64, bool>)> {
        Ok((self.0.known(), HashMap::new()))
    }
}

/// A handle for Pingora's side of the discovery.
struct Shared(Arc<Discovery>);

impl Discovery {
    fn known(&self) -> BTreeSet<Backend> {
        let mut known: BTreeSet<Backend> = BTreeSet::new();
        for written in &self.targets {
            let Some(addresses) = written.addresses.load_full() else {
                continue;
            };
            let Some(addr) = addresses.0.first().copied() else {
                continue;
            };
            let mut weight = usize::from(written.weight);
            let mut ext = Extensions::new();
            ext.insert(Arc::clone(&written.authority));
            ext.insert(Arc::clone(&written.manner));
            ext.insert(addresses);
            // The same address twice (two names, or a name and an address) is one target with both weights.
            let same = known
                .iter()
                .find(|backend| backend.addr.as_inet() == Some(&addr))
                .cloned();
            if let Some(same) = same {
                weight += same.weight;
                known.remove(&same);
            }
            known.insert(Backend {
                addr: pingora::protocols::l4::socket::SocketAddr::Inet(addr),
                weight,
                ext,
            });
        }
        known
    }
}

impl Upstream {
    /// Makes the group; nothing is asked or started yet.
    #[must_use]
    pub fn new(name: &str, group: u64, spec: &Spec, security: Security) -> Self {
        let written = |target| Written::new(target, &security);
        let targets: Box<[Written]> = spec.targets.iter().map(written).collect();
        let discovery = Arc::new(Discovery { targets });
        let backends = Backends::new(Box::new(Shared(Arc::clone(&discovery))));
        Self {
            name: name.into(),
            number: 0,
            // Where anything about TLS is different, no connection is shared, not even across a reload.
            group: group ^ security.digest(),
            security,
            backends,
            discovery,
            ready: ArcSwapOption::empty(),
            ttl_min: resolve::TTL_MIN,
            timeouts: spec
                .timeouts
                .on()
                .map_or_else(Timeouts::default, TimeoutsSpec::compile),
            turn: AtomicUsize::new(0),
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
        self.discovery
            .targets
            .iter()
            .map(|written| &*written.authority)
    }

    /// Whether there is an address to send to; there is none while no name has one.
    #[must_use]
    pub fn has_target(&self) -> bool {
        self.ready
            .load()
            .as_ref()
            .is_some_and(|ready| !ready.targets.is_empty())
    }

    /// Takes over what another generation of this upstream found out: addresses of names, and whose turn it is.
    pub fn inherit(&self, before: &Self) {
        for written in self
            .discovery
            .targets
            .iter()
            .filter(|written| written.is_name)
        {
            let known = before
                .discovery
                .targets
                .iter()
                .find(|known| known.authority == written.authority && known.is_name);
            if let Some(addresses) = known.and_then(|known| known.addresses.load_full()) {
                written.addresses.store(Some(addresses));
            }
        }
        if let Some(ready) = before.ready.load_full() {
            self.turn.store(ready.schedule.turn(), Ordering::Relaxed);
        }
    }

    /// Every target with the address in use, for `upstreams list`.
    pub fn targets(&self) -> impl Iterator<Item = (&str, Option<SocketAddr>, u16)> {
        self.discovery.targets.iter().map(|written| {
            let address = written
                .addresses
                .load_full()
                .and_then(|known| known.0.first().copied());
            (&*written.authority, address, written.weight)
        })
    }

    /// Chooses the target of one attempt; `None` while no name has an address.
    #[must_use]
    pub fn pick(&self) -> Option<Picked> {
        let ready = self.ready.load_full()?;
        let index = ready.schedule.next()?;
        (index < ready.targets.len()).then_some(Picked { ready, index })
    }

    /// The target that comes next, without taking its turn.
    #[must_use]
    pub fn peek(&self) -> Option<Arc<str>> {
        let ready = self.ready.load_full()?;
        let target = ready.targets.get(ready.schedule.peek()?)?;
        Some(Arc::clone(&target.authority))
    }

    /// Whether all its targets speak HTTP/2.
    #[must_use]
    pub fn is_http2(&self) -> bool {
        let mut targets = self.discovery.targets.iter();
        targets.all(|written| written.manner.http2)
    }

    /// Looks names up (once, within `patience`) and keeps them looked up as their time to live ends.
    pub async fn start(
        self: &Arc<Self>,
        names: &Arc<dyn Names>,
        spawner: &Spawner,
        patience: Duration,
    ) -> Vec<TaskGuard> {
        let mut guards = Vec::new();
        for index in 0..self.discovery.targets.len() {
            let Some(written) = self
                .discovery
                .targets
                .get(index)
                .filter(|written| written.is_name)
            else {
                continue;
            };
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
        self.refresh().await;
        guards
    }

    /// Takes note of an answer for the name of target `index`; returns how long it may be used.
    fn found(&self, index: usize, answer: Result<Found, NameError>) -> Duration {
        let Some(written) = self.discovery.targets.get(index) else {
            return resolve::TTL_MAX;
        };
        match answer {
            Ok(found) => {
                // The address in use stays while the name still has it: a rotation of the answer is no change.
                let current = written.addresses.load_full();
                let current = current.as_deref().and_then(|known| known.0.first());
                let in_use = current.filter(|addr| found.addresses.contains(&addr.ip()));
                let others = found.addresses.iter();
                let others = others.map(|ip| SocketAddr::new(*ip, written.port));
                let others = others.filter(|addr| Some(addr) != in_use);
                let addresses: Box<[SocketAddr]> =
                    in_use.copied().into_iter().chain(others).collect();
                if !addresses.is_empty() {
                    written
                        .addresses
                        .store(Some(Arc::new(Addresses(addresses))));
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

    /// Publishes the addresses that are known now.
    async fn refresh(&self) {
        let mut set = None;
        let updated = self.backends.update(|changed| set = Some(changed)).await;
        if let (Ok(()), Some(set)) = (updated, set) {
            let before = self.ready.load_full();
            let turn = before.map_or_else(
                || self.turn.load(Ordering::Relaxed),
                |ready| ready.schedule.turn(),
            );
            self.ready
                .store(Some(Arc::new(Ready::new(&set, self, turn))));
        }
    }
}

impl Written {
    fn new(spec: &TargetSpec, security: &Security) -> Self {
        let url = &spec.url;
        let address = url.ip().map(|ip| SocketAddr::new(ip, url.port()));
        Self {
            authority: url.authority().into(),
            host: url.host().into(),
            port: url.port(),
            weight: spec.weight.get(),
            manner: Arc::new(security.manner(url)),
            is_name: address.is_none(),
            addresses: ArcSwapOption::from(address.map(|addr| Arc::new(Addresses([addr].into())))),
        }
    }
}

impl Ready {
    fn new(set: &BTreeSet<Backend>, of: &Upstream, turn: usize) -> Self {
        let mut targets = Vec::with_capacity(set.len());
        let mut weights = Vec::with_capacity(set.len());
        for backend in set {
            let Some(addr) = backend.addr.as_inet().copied() else {
                continue;
            };
            let authority = backend
                .ext
                .get::<Arc<str>>()
                .cloned()
                .unwrap_or_else(|| addr.to_string().into());
            let Some(manner) = backend.ext.get::<Arc<Manner>>() else {
                continue;
            };
            let only = [addr];
            let addresses = backend.ext.get::<Arc<Addresses>>();
            let addresses = addresses.map_or(&only[..], |addresses| &addresses.0);
            targets.push(Target {
                addr,
                authority,
                peers: addresses
                    .iter()
                    .map(|addr| of.peer(*addr, manner))
                    .collect(),
                turn: AtomicUsize::new(0),
            });
            weights.push(u32::try_from(backend.weight).unwrap_or(u32::MAX));
        }
        Self {
            targets: targets.into(),
            schedule: Schedule::new(&weights).entered_at(turn),
        }
    }
}

/// The addresses of one target.
struct Addresses(Box<[SocketAddr]>);

/// A target that was chosen; it lives as long as the choice, whatever is published meanwhile.
pub struct Picked {
    ready: Arc<Ready>,
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
        self.ready.targets.get(self.index)
    }
}

impl Target {
    /// What Pingora needs to connect, within these times; none only for a target without addresses, which there is not.
    #[must_use]
    pub fn peer(&self, timeouts: &Timeouts) -> Option<Box<HttpPeer>> {
        // Relaxed: which address is tried first is a matter of speed only.
        let turn = self.turn.load(Ordering::Relaxed);
        let index = turn.checked_rem(self.peers.len())?;
        let mut peer = Box::new(self.peers.get(index)?.clone());
        let options = &mut peer.options;
        options.connection_timeout = Some(timeouts.connect());
        options.total_connection_timeout = Some(timeouts.connect());
        options.read_timeout = Some(timeouts.read());
        Some(peer)
    }

    /// How many addresses its name has.
    #[must_use]
    pub fn addresses(&self) -> usize {
        self.peers.len()
    }

    /// Nobody takes connections at `failed`: the next address comes first from now on.
    pub fn avoid(&self, failed: &HttpPeer) {
        let turn = self.turn.load(Ordering::Relaxed);
        let index = turn.checked_rem(self.peers.len()).unwrap_or(0);
        let in_use = self.peers.get(index).map(Peer::address);
        if in_use == Some(failed.address()) {
            // Somebody else may have noticed at the same time: one step is enough.
            let next = turn.wrapping_add(1);
            let relaxed = Ordering::Relaxed;
            let first = self.turn.compare_exchange(turn, next, relaxed, relaxed);
            log::debug!(target:% = self.authority, address:% = failed, first = first.is_ok(); "address avoided");
        }
    }
}
