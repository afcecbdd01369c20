//! What the config says of the targets, and the addresses found for their names so far.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use pingora::upstreams::peer::{HttpPeer, Peer};
use pingora_load_balancing::{Backend, Extensions};

use super::member::Member;
use super::secure::{Manner, Security};
use super::{TargetSpec, Timeouts};

/// A target as written, with what was found out about it.
pub(super) struct Written {
    pub(super) authority: Arc<str>,
    pub(super) host: Arc<str>,
    pub(super) port: u16,
    pub(super) weight: u16,
    pub(super) priority: u8,
    pub(super) manner: Manner,
    /// The address written, or the last ones found, the one in use first.
    pub(super) addresses: ArcSwapOption<Box<[SocketAddr]>>,
    pub(super) is_name: bool,
    member: OnceLock<Arc<Member>>,
    target: ArcSwapOption<Target>,
}

impl Written {
    pub(super) fn new(spec: &TargetSpec, security: &Security) -> Self {
        let url = &spec.url;
        let address = url.ip().map(|ip| SocketAddr::new(ip, url.port()));
        Self {
            authority: url.authority().into(),
            host: url.host().into(),
            port: url.port(),
            weight: spec.weight.get(),
            priority: spec.priority,
            manner: security.manner(url),
            is_name: address.is_none(),
            addresses: ArcSwapOption::from(address.map(|addr| Arc::new([addr].into()))),
            member: OnceLock::new(),
            target: ArcSwapOption::empty(),
        }
    }

    /// Its live state.
    pub(super) fn member(&self) -> &Arc<Member> {
        self.member
            .get_or_init(|| Arc::new(Member::new(&self.authority)))
    }

    /// Goes on with what another generation knows of it; what has begun already stays.
    pub(super) fn take_over(&self, member: Arc<Member>) {
        self.member.get_or_init(|| member);
    }

    /// The address in use.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.addresses
            .load()
            .as_ref()
            .and_then(|known| known.first().copied())
    }

    /// It as it can be connected to; none while its name has no address.
    pub(super) fn target(
        &self,
        peer: impl Fn(SocketAddr, &Manner) -> HttpPeer,
    ) -> Option<Arc<Target>> {
        let addresses = self.addresses.load_full()?;
        let first = addresses.first()?;
        if let Some(known) = self.target.load_full()
            && known.stands_for(&addresses)
        {
            return Some(known);
        }
        let target = Arc::new(Target {
            authority: Arc::clone(&self.authority),
            backend: Backend {
                addr: pingora::protocols::l4::socket::SocketAddr::Inet(*first),
                weight: self.weight.into(),
                ext: Extensions::new(),
            },
            peers: addresses
                .iter()
                .map(|addr| peer(*addr, &self.manner))
                .collect(),
            turn: AtomicUsize::new(0),
            member: Arc::clone(self.member()),
        });
        self.target.store(Some(Arc::clone(&target)));
        Some(target)
    }
}

/// One address that a request can be sent to.
#[derive(Debug)]
pub struct Target {
    /// What was written: `http://users.internal:8080` without the scheme.
    pub authority: Arc<str>,
    /// As Pingora's checks see it: the address; of several the first.
    backend: Backend,
    /// One for each address of the target's name.
    peers: Box<[HttpPeer]>,
    /// Counts up when the address in use takes no connections.
    turn: AtomicUsize,
    member: Arc<Member>,
}

impl Target {
    fn stands_for(&self, addresses: &[SocketAddr]) -> bool {
        let own = self.peers.iter().map(|peer| peer.address().as_inet());
        own.eq(addresses.iter().map(Some))
    }

    /// The address; of several the first.
    #[must_use]
    pub fn addr(&self) -> Option<SocketAddr> {
        self.backend.addr.as_inet().copied()
    }

    /// It as Pingora's checks see it.
    pub(super) const fn backend(&self) -> &Backend {
        &self.backend
    }

    /// Its live state.
    #[must_use]
    pub const fn member(&self) -> &Arc<Member> {
        &self.member
    }

    /// What Pingora needs to connect, within these times; none only for a target without addresses, which there is not.
    pub(super) fn peer(&self, timeouts: &Timeouts) -> Option<Box<HttpPeer>> {
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
