//! One request as the connection hands it over: its plan, its listener, its exchange.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use http::StatusCode;
use pingora::http::RequestHeader;
use pingora::{Error, ErrorType, Result};
use smallvec::SmallVec;

use super::attempt::Attempt;
use super::home::StreamHome;
use super::kept::Kept;
use super::{Ctx, Watch};
use crate::base::clock::SharedClock;
use crate::call::{Answer, LastGood, Passage};
use crate::compress::Encoder;
use crate::exchange::{Exchange, GrpcMessages, Reply, WebSocketRules};
use crate::plan::Plan;
use crate::upstream::{Member, Picked, Tries};

/// What the gateway tells the client's connection.
#[derive(Debug, Default)]
pub struct Signals {
    /// The upstream agreed to leave HTTP: from now on bytes pass as they are.
    pub tunnel: AtomicBool,
    /// The rules of the WebSocket that it became, if its route has any.
    pub websocket: OnceLock<WebSocketRules>,
    /// The WebSocket is to end.
    pub goodbye: AtomicBool,
    /// What it waits for, and until when.
    pub watch: Watch,
    /// The answer is whole and the request read to its end: the next request may follow.
    pub goes_on: AtomicBool,
    /// Where its stream of HTTP/2 comes back to.
    pub stream: StreamHome,
}

/// What takes the place of an upstream's answer.
#[derive(Debug)]
pub enum Instead {
    /// The last good one.
    Stale(Box<Answer>),
    /// A fixed one.
    Reply(Reply),
}

/// Everything a request carries along.
#[derive(Debug)]
pub struct State {
    /// The plan it sees, from the first phase to the last.
    pub plan: Arc<Plan>,
    /// The facts.
    pub exchange: Exchange,
    /// Whether the connection closes after this answer.
    pub closing: bool,
    /// Whether the process was asked to stop: it may be at any time, and every answer from then on is the last.
    pub stopping: Arc<AtomicBool>,
    /// What the connection needs to know.
    pub signals: Arc<Signals>,
    /// The target that was tried last.
    pub picked: Option<Picked>,
    /// How many addresses of that target took no connection.
    pub unreachable: usize,
    /// How many bytes of each body passed: the request's, the answer's.
    pub passed: (u64, u64),
    /// The messages of a call, as the client sends them.
    pub messages: GrpcMessages,
    /// Those of its answer.
    pub answers: GrpcMessages,
    /// The status of the upstream's answer, once its head goes to the client.
    pub status: Option<StatusCode>,
    /// Makes the coded body of the answer, where it gets a coding on its way.
    pub encoder: Option<Encoder>,
    /// Whether its end was noted.
    pub noted: bool,
    /// How many interim answers (1xx) the upstream gave.
    pub interim: u8,
    /// What let that through, where there is such.
    pub passage: Option<Passage>,
    /// The targets that it was at, where it failed.
    pub tried: SmallVec<[Arc<Member>; 2]>,
    /// What was tried at its upstream.
    pub tries: Tries,
    /// What was read of a call, to be sent again.
    pub kept: Kept,
    /// How long is waited before the next attempt, where one follows.
    pub pause: Option<Duration>,
    /// What was decided when the head of an answer came that is not taken: whether the request is sent again.
    pub decided: Option<bool>,
    /// What the client gets in place of an answer of its upstream.
    pub instead: Option<Instead>,
    /// Who remembers answers; nobody, until they are cached.
    pub last_good: Option<Arc<dyn LastGood>>,
    /// Whether a connection that was kept turned out to be dead, so that it was sent once more: that happens once.
    pub was_dead: bool,
    /// Whether the next attempt is made on a connection that nobody used before.
    pub afresh: bool,
    /// The attempt at a target that is under way.
    pub attempt: Option<Attempt>,
    /// The time.
    pub clock: SharedClock,
}

impl State {
    /// Whether its answer is the last of the connection, if it begins now.
    pub(super) fn is_last(&self) -> bool {
        self.closing || self.stopping.load(Ordering::Acquire)
    }
}

/// Carries the state of a request in its head: where a connection carries many requests, none of them is the connection's.
#[derive(Clone)]
struct Admission(Arc<Mutex<Option<Box<State>>>>);

/// Hands a request over with its state.
pub fn admit(head: &mut RequestHeader, state: Box<State>) {
    let admission = Admission(Arc::new(Mutex::new(Some(state))));
    head.extensions_mut().insert(admission);
}

/// The state that came with the head.
pub(super) fn admitted(head: &RequestHeader) -> Option<Box<State>> {
    let Admission(state) = head.extensions.get()?;
    state.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// The state of a request; without one nobody admitted it.
pub(super) fn of(ctx: &mut Ctx) -> Result<&mut State> {
    ctx.0.as_deref_mut().ok_or_else(|| {
        Error::explain(
            ErrorType::InternalError,
            "a request that no listener admitted",
        )
    })
}
