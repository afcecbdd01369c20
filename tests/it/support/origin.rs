//! The scripted origin: it records every byte it gets and holds the gateway to the canonical form.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use super::serve::{Link, serve};
use super::{DEADLINE, Gate, Pattern, Reply, Script, Violation};

/// Of a body and of a connection no more than this is kept; lengths and sums count all.
pub(super) const KEPT_BYTES_MAX: usize = 1024 * 1024;
/// Requests after these are answered and counted, not kept.
const KEPT_REQUESTS_MAX: usize = 20_000;
const CONNECTIONS_OPEN_MAX: usize = 2_000;

/// An HTTP/1.1 upstream on a free port of 127.0.0.1. Dropping it stops it, and panics if a violation was seen
/// that the test did not take with `violations`.
pub(crate) struct Origin {
    addr: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

/// One request, as it came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recorded {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    /// In order, names as written.
    pub(crate) headers: Vec<(String, String)>,
    /// The first MiB.
    pub(crate) body: Vec<u8>,
    pub(crate) body_len: u64,
    pub(crate) body_sum: u64,
    /// Whether every byte of the body was the pattern's.
    pub(crate) body_is_pattern: bool,
    /// Whether the whole body came.
    pub(crate) complete: bool,
    /// Counted from 0 in order of arrival.
    pub(crate) connection: usize,
    pub(crate) raw_head: Vec<u8>,
}

impl Recorded {
    /// The first header of that name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers_all(name).first().copied()
    }

    pub(crate) fn headers_all(&self, name: &str) -> Vec<&str> {
        let named = self
            .headers
            .iter()
            .filter(|header| header.0.eq_ignore_ascii_case(name));
        named.map(|header| header.1.as_str()).collect()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("the request body is JSON")
    }
}

/// One connection, as far as it got.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ConnectionSeen {
    /// Requests whose head came.
    pub(crate) requests: u64,
    pub(crate) bytes: u64,
    /// Whether the gateway closed it (or the origin did).
    pub(crate) closed: bool,
}

impl Origin {
    /// Listens on a free port and follows the script.
    pub(crate) fn start(script: Script) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), script)
    }

    /// Listens there: for an origin that comes back.
    pub(crate) fn start_at(addr: SocketAddr, script: Script) -> Self {
        let listener =
            TcpListener::bind(addr).unwrap_or_else(|error| panic!("no origin at {addr}: {error}"));
        // The library's own queue is short, and full when a hundred requests come at once.
        socket2::SockRef::from(&listener)
            .listen(4096)
            .expect("it listens already");
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script,
            pattern: Pattern::new(),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let acceptor = thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Self {
            addr,
            shared,
            acceptor: Some(acceptor),
        }
    }

    /// Answers each whole request by a closure.
    pub(crate) fn answer(answer: impl Fn(&Recorded) -> Reply + Send + Sync + 'static) -> Self {
        Self::start(Script::new(answer))
    }

    pub(crate) fn echo() -> Self {
        Self::start(Script::echo())
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://127.0.0.1:PORT`
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Every request whose head came, bodies as far as they got (while one arrives: only `body_len`).
    pub(crate) fn requests(&self) -> Vec<Recorded> {
        self.shared.state().requests.clone()
    }

    /// The latest request.
    pub(crate) fn last(&self) -> Recorded {
        let state = self.shared.state();
        state
            .requests
            .last()
            .expect("the origin got a request")
            .clone()
    }

    /// How many heads came, also those no longer kept.
    pub(crate) fn count(&self) -> u64 {
        self.shared.state().heads
    }

    /// How many requests came whole.
    pub(crate) fn complete(&self) -> u64 {
        self.shared.state().complete
    }

    /// In order of arrival.
    pub(crate) fn connections(&self) -> Vec<ConnectionSeen> {
        let state = self.shared.state();
        state
            .connections
            .iter()
            .map(|kept| kept.seen.clone())
            .collect()
    }

    /// The first MiB that came on a connection.
    pub(crate) fn bytes(&self, connection: usize) -> Vec<u8> {
        self.shared.state().connections[connection].bytes.clone()
    }

    /// How many bytes of large replies the gateway (or the kernel for it) has taken on that connection.
    pub(crate) fn sent(&self, connection: usize) -> u64 {
        self.shared.state().connections[connection].pattern_sent
    }

    /// Waits until `n` requests came whole.
    pub(crate) fn wait_for(&self, n: u64) -> Vec<Recorded> {
        self.wait(&format!("{n} whole requests"), |state| state.complete >= n);
        self.requests()
    }

    /// Waits until the heads of `n` requests came.
    pub(crate) fn wait_for_heads(&self, n: u64) -> Vec<Recorded> {
        self.wait(&format!("{n} request heads"), |state| state.heads >= n);
        self.requests()
    }

    /// Waits until at least `bytes` of the latest request's body came.
    pub(crate) fn wait_for_body(&self, bytes: u64) -> Recorded {
        self.wait(&format!("{bytes} bytes of a body"), |state| {
            state
                .requests
                .last()
                .is_some_and(|request| request.body_len >= bytes)
        });
        self.last()
    }

    /// Waits until that connection is closed: the gateway gave the request up.
    pub(crate) fn wait_closed(&self, connection: usize) {
        self.wait(&format!("the end of connection {connection}"), |state| {
            state
                .connections
                .get(connection)
                .is_some_and(|kept| kept.seen.closed)
        });
    }

    /// Takes what broke the canonical form so far; what was taken no longer fails the test.
    pub(crate) fn violations(&self) -> Vec<Violation> {
        std::mem::take(&mut self.shared.state().violations)
    }

    /// Waits until a violation was seen, then takes them.
    pub(crate) fn wait_for_violations(&self) -> Vec<Violation> {
        self.wait("a violation", |state| !state.violations.is_empty());
        self.violations()
    }

    /// Proves that the recorder sees: a request with two faults is sent past the gateway and must be noticed.
    pub(crate) fn control() {
        let origin = Self::echo();
        let mut stream = TcpStream::connect(origin.addr).unwrap();
        stream
            .write_all(b"GET /a HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n")
            .unwrap();
        let seen = origin.wait_for_violations();
        assert!(!seen.is_empty(), "the recorder is blind");
    }

    fn wait(&self, what: &str, reached: impl Fn(&State) -> bool) {
        let state = self.shared.state();
        let (state, timeout) = self
            .shared
            .changed
            .wait_timeout_while(state, DEADLINE, |state| !reached(state))
            .unwrap();
        if timeout.timed_out() {
            let (heads, complete) = (state.heads, state.complete);
            let connections = state.connections.len();
            let violations = state.violations.clone();
            drop(state);
            panic!(
                "the origin waited in vain for {what}: {connections} connections, {heads} heads, {complete} whole requests, {violations:?}"
            );
        }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.shared.stop();
        // Wakes the acceptor, which then sees that it shall stop.
        let woken = TcpStream::connect(self.addr);
        if let Some(acceptor) = self.acceptor.take()
            && woken.is_ok()
        {
            self.shared.join(acceptor);
        }
        let violations: Vec<String> = self.violations().iter().map(Violation::to_string).collect();
        if violations.is_empty() {
            return;
        }
        let report = format!(
            "origin {}: not in canonical form\n{}",
            self.addr,
            violations.join("\n")
        );
        if thread::panicking() {
            eprintln!("{report}");
        } else {
            panic!("{report}");
        }
    }
}

/// What the origin and its threads share.
pub(super) struct Shared {
    pub(super) script: Script,
    pub(super) pattern: Pattern,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    connections: Vec<Kept>,
    live: BTreeMap<usize, Live>,
    requests: Vec<Recorded>,
    heads: u64,
    complete: u64,
    violations: Vec<Violation>,
    stopped: bool,
}

#[derive(Default)]
struct Kept {
    seen: ConnectionSeen,
    bytes: Vec<u8>,
    pattern_sent: u64,
}

struct Live {
    stream: TcpStream,
    link: Arc<Link>,
    gate: Option<Gate>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, edit: impl FnOnce(&mut State) -> T) -> T {
        let out = edit(&mut self.state());
        self.changed.notify_all();
        out
    }

    /// A new connection, unless the origin stops or has too many.
    fn admit(&self, stream: &TcpStream) -> Option<(usize, Arc<Link>)> {
        let copy = stream.try_clone().ok()?;
        self.change(|state| {
            if state.stopped || state.live.len() >= CONNECTIONS_OPEN_MAX {
                return None;
            }
            let id = state.connections.len();
            let link = Arc::new(Link::default());
            state.connections.push(Kept::default());
            let live = Live {
                stream: copy,
                link: Arc::clone(&link),
                gate: None,
            };
            state.live.insert(id, live);
            Some((id, link))
        })
    }

    /// Counts what of the pattern the gateway took.
    pub(super) fn sent(&self, connection: usize, bytes: u64) {
        self.change(|state| state.connections[connection].pattern_sent += bytes);
    }

    /// Keeps what came on a connection.
    pub(super) fn received(&self, connection: usize, bytes: &[u8]) {
        self.change(|state| {
            let kept = &mut state.connections[connection];
            kept.seen.bytes += bytes.len() as u64;
            let room = KEPT_BYTES_MAX.saturating_sub(kept.bytes.len());
            kept.bytes
                .extend_from_slice(&bytes[..bytes.len().min(room)]);
        });
    }

    /// Keeps a request whose head came; the number is for `progress` and `ended`.
    pub(super) fn began(&self, request: &Recorded) -> usize {
        self.change(|state| {
            state.connections[request.connection].seen.requests += 1;
            state.heads += 1;
            if state.requests.len() < KEPT_REQUESTS_MAX {
                state.requests.push(request.clone());
                return state.requests.len() - 1;
            }
            KEPT_REQUESTS_MAX
        })
    }

    pub(super) fn progress(&self, number: usize, body_len: u64) {
        self.change(|state| {
            if let Some(request) = state.requests.get_mut(number) {
                request.body_len = body_len;
            }
        });
    }

    pub(super) fn ended(&self, number: usize, request: &Recorded) {
        self.change(|state| {
            state.complete += u64::from(request.complete);
            if let Some(kept) = state.requests.get_mut(number) {
                kept.clone_from(request);
            }
        });
    }

    pub(super) fn broken(&self, connection: usize, violation: Violation) {
        let Violation { rule, seen } = violation;
        let seen = format!("connection {connection}: {seen}");
        self.change(|state| state.violations.push(Violation { rule, seen }));
    }

    /// So that the end of the connection can wake who waits at the gate.
    pub(super) fn waits(&self, connection: usize, gate: Option<&Gate>) {
        self.change(|state| {
            if let Some(live) = state.live.get_mut(&connection) {
                live.gate = gate.cloned();
            }
        });
    }

    /// Whether the answer on that connection has not ended for certain.
    pub(super) fn waits_inside_answer(&self, connection: usize) -> bool {
        let state = self.state();
        state
            .live
            .get(&connection)
            .is_some_and(|live| live.gate.is_some())
    }

    /// The connection is over, for whoever still writes to it too.
    pub(super) fn closed(&self, connection: usize) {
        let live = self.change(|state| {
            state.connections[connection].seen.closed = true;
            let live = state.live.remove(&connection)?;
            live.link.gone.store(true, Ordering::SeqCst);
            Some(live)
        });
        if let Some(gate) = live.and_then(|live| live.gate) {
            gate.wake();
        }
    }

    /// Waits for a thread; that it panicked fails the test too.
    fn join(&self, thread: JoinHandle<()>) {
        if thread.join().is_err() {
            let violation = Violation::new("the script panicked", b"");
            self.change(|state| state.violations.push(violation));
        }
    }

    fn stop(&self) {
        let live = self.change(|state| {
            state.stopped = true;
            for connection in state.live.values() {
                connection.link.gone.store(true, Ordering::SeqCst);
            }
            std::mem::take(&mut state.live)
        });
        for connection in live.into_values() {
            // The other side may have closed it before.
            drop(connection.stream.shutdown(Shutdown::Both));
            if let Some(gate) = connection.gate {
                gate.wake();
            }
        }
    }
}

/// Takes connections until the origin stops, then waits for their threads.
fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    for stream in listener.incoming() {
        if shared.state().stopped {
            break;
        }
        let Ok(stream) = stream else { continue };
        let Some((id, link)) = shared.admit(&stream) else {
            continue;
        };
        let shared = Arc::clone(shared);
        let (done, running): (Vec<_>, _) = threads.into_iter().partition(JoinHandle::is_finished);
        threads = running;
        done.into_iter().for_each(|thread| shared.join(thread));
        threads.push(thread::spawn(move || serve(&shared, stream, id, link)));
    }
    threads.into_iter().for_each(|thread| shared.join(thread));
}
