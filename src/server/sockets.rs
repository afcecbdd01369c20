//! The sockets that are open: which listener each is for, and how a reload changes that.

use std::io;
use std::sync::{Arc, Weak};

use tokio::sync::oneshot;

use super::connection::Shared;
use super::listener::{Bound, Socket, accept};
use crate::base::net::ListenAddress;
use crate::plan::Plan;

/// Every socket that clients can connect to. Each belongs to the task that takes its connections.
pub(super) struct Sockets {
    open: Vec<Open>,
    shared: Arc<Shared>,
}

struct Open {
    name: Arc<str>,
    listener: usize,
    address: ListenAddress,
    url: String,
    socket: Weak<Socket>,
    /// Dropped, the task serves who waits already, and closes.
    stop: oneshot::Sender<()>,
}

impl std::fmt::Debug for Sockets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sockets").finish_non_exhaustive()
    }
}

impl Sockets {
    /// Begins to take connections.
    pub(super) fn new(bound: Vec<Bound>, shared: Arc<Shared>) -> Self {
        let open = Vec::new();
        let mut sockets = Self { open, shared };
        sockets.put(bound);
        sockets
    }

    /// Opens what `plan` needs and is not open yet; nothing changes until [`Self::put`].
    ///
    /// # Errors
    /// The first address that cannot be had, and why.
    pub(super) fn prepare(&self, plan: &Plan) -> Result<Vec<Bound>, (String, io::Error)> {
        let mut free: Vec<&Open> = self.open.iter().collect();
        let mut wanted = Vec::new();
        for (number, listener) in plan.listeners.iter().enumerate() {
            for address in &listener.addresses {
                // A listener keeps its own; a port that was taken freely is of no use to another.
                let own = free
                    .iter()
                    .position(|open| open.name == listener.name && open.address == *address);
                let own = own.map(|at| free.remove(at));
                wanted.push((number, listener, address, own));
            }
        }
        let mut bound = Vec::with_capacity(wanted.len());
        for (number, listener, address, own) in wanted {
            let fixed = address.tcp().is_none_or(|address| address.port() != 0);
            let mut others = free.iter();
            let other = others.position(|open| fixed && open.address == *address);
            let open = match (own, other) {
                (Some(own), _) => Some(own),
                (None, other) => other.map(|at| free.remove(at)),
            };
            bound.push(match open.and_then(|open| open.socket.upgrade()) {
                Some(socket) => Bound::on(socket, number, listener, address),
                None => Bound::open(number, listener, address)?,
            });
        }
        Ok(bound)
    }

    /// Takes connections on these sockets, and on no others.
    pub(super) fn put(&mut self, bound: Vec<Bound>) {
        let mut before = std::mem::take(&mut self.open);
        for bound in bound {
            let same = before.iter().position(|open| {
                open.listener == bound.listener
                    && std::ptr::eq(open.socket.as_ptr(), Arc::as_ptr(&bound.socket))
            });
            let (name, url) = (Arc::clone(&bound.name), bound.url());
            let (listener, address) = (bound.listener, bound.address.clone());
            let socket = Arc::downgrade(&bound.socket);
            let stop = match same {
                Some(at) => before.swap_remove(at).stop,
                None => self.accept(bound),
            };
            self.open.push(Open {
                name,
                listener,
                address,
                url,
                socket,
                stop,
            });
        }
    }

    fn accept(&self, bound: Bound) -> oneshot::Sender<()> {
        let (stop, stopped) = oneshot::channel();
        // Joined here: the process must not end before the task has begun.
        let presence = self.shared.drain.join();
        let shared = Arc::clone(&self.shared);
        let task = accept(bound, shared, stopped, presence);
        self.shared.spawner.detach(task);
        stop
    }

    /// The name of each listener with an address as a URL, in the order of the config.
    pub(super) fn addresses(&self) -> Vec<(Arc<str>, String)> {
        let open = self.open.iter();
        open.map(|open| (Arc::clone(&open.name), open.url.clone()))
            .collect()
    }
}
