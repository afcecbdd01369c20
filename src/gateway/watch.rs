//! What a request waits for, and until when: Pingora's own timers begin anew with every read, these do not.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use super::pace::Pace;
use super::state::State;
use crate::exchange::Fault;
use crate::upstream::Timeouts;

/// How often a request is looked at while nobody knows yet what it waits for.
const SOON: Duration = Duration::from_millis(10);
/// How often a request is looked at that may take its time.
const SOMETIMES: Duration = Duration::from_secs(5);
/// Pingora's own timers, which can answer better, come first.
const SLACK: Duration = Duration::from_millis(20);

/// What a request waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    /// Ourselves, or the client.
    Before = 0,
    /// The head of the upstream's answer.
    Head = 1,
    /// The body of that answer.
    Body = 2,
    /// A body that may come for ever: an event stream, a tunnel.
    Stream = 3,
    /// Nothing: the answer is ours, and whoever sends it sees to its end.
    Answered = 4,
}

/// The deadlines of one request. Its own task writes; the task that watches it is the same one.
#[derive(Debug)]
pub struct Watch {
    started: Instant,
    times: OnceLock<Timeouts>,
    phase: AtomicU8,
    /// When the attempt began, and when anything moved last: milliseconds after the start.
    attempt: AtomicU64,
    moved: AtomicU64,
    /// The request's body is not sent yet.
    uploading: AtomicBool,
    /// How fast the client has to be, in bytes a second; 0 = any.
    min_rate: AtomicU64,
    /// How long it may send nothing of its body: milliseconds.
    silence: AtomicU64,
    /// How fast it sends, as its connection sees it, or its stream.
    upload: Pace,
    stream: Pace,
    /// How fast it takes.
    taking: Pace,
    /// The client takes nothing: what the upstream sends has to wait.
    stalled: AtomicBool,
    /// What is left of a request that was dropped before its end.
    left: Mutex<Option<Box<State>>>,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            times: OnceLock::new(),
            phase: AtomicU8::new(Phase::Before as u8),
            attempt: AtomicU64::new(0),
            moved: AtomicU64::new(0),
            uploading: AtomicBool::new(false),
            min_rate: AtomicU64::new(0),
            silence: AtomicU64::new(u64::MAX),
            upload: Pace::default(),
            stream: Pace::default(),
            taking: Pace::default(),
            stalled: AtomicBool::new(false),
            left: Mutex::new(None),
        }
    }
}

impl Watch {
    /// An attempt begins, within these times.
    pub(super) fn attempt(&self, times: &Timeouts) {
        self.times.get_or_init(|| *times);
        self.attempt.store(self.now(), Ordering::Relaxed);
        self.enter(Phase::Head);
    }

    /// The head of the answer is here.
    pub(super) fn answered(&self) {
        self.enter(Phase::Body);
    }

    /// The answer is ours, and goes out now.
    pub(super) fn concluded(&self) {
        self.uploading.store(false, Ordering::Relaxed);
        self.enter(Phase::Answered);
    }

    /// The head of an answer is here whose body may come for ever.
    pub(super) fn streams(&self) {
        self.enter(Phase::Stream);
    }

    /// The request has a body, which is still to be sent.
    pub(super) fn uploads(&self) {
        self.uploading.store(true, Ordering::Relaxed);
    }

    /// The whole request was sent.
    pub(super) fn sent(&self) {
        self.stream.went(self.now(), 0);
        self.uploading.store(false, Ordering::Relaxed);
        self.moved();
    }

    /// A piece of the request's body passed.
    pub(super) fn uploaded(&self, bytes: usize) {
        self.stream.passed(bytes);
        self.moved();
    }

    /// A piece of a body passed.
    pub(super) fn moved(&self) {
        self.moved.store(self.now(), Ordering::Relaxed);
    }

    /// The client has to send and take so many bytes a second, and may send nothing for so long.
    pub fn expect(&self, min_rate: u64, silence: Duration) {
        self.min_rate.store(min_rate, Ordering::Relaxed);
        self.silence.store(millis(silence), Ordering::Relaxed);
    }

    /// What came of reading the body from the client.
    pub fn read(&self, read: Poll<usize>) {
        match read {
            Poll::Pending => self.upload.waits(self.now()),
            Poll::Ready(bytes) => self.upload.went(self.now(), bytes),
        }
    }

    /// The body comes in a stream of its own: nobody sees when it is waited for.
    pub fn streams_body(&self) {
        self.stream.waits(self.now());
    }

    /// What came of sending something to the client: how much it takes.
    pub fn wrote(&self, written: Poll<usize>) {
        let stalled = match written {
            Poll::Pending => {
                self.taking.waits(self.now());
                true
            }
            Poll::Ready(bytes) => {
                self.taking.went(self.now(), bytes);
                false
            }
        };
        if self.stalled.load(Ordering::Relaxed) != stalled {
            self.stalled.store(stalled, Ordering::Relaxed);
            self.moved();
        }
    }

    /// Whether the head of an answer went to the client.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        self.phase() >= Phase::Body as u8
    }

    /// When the request has to be looked at again; `Err`: its time is over.
    ///
    /// # Errors
    /// What it waited for too long.
    pub fn due(&self) -> Result<Instant, Fault> {
        if self.phase() == Phase::Answered as u8 {
            return Ok(Instant::now() + SOMETIMES);
        }
        let now = self.now();
        let client = self.client_due();
        if let Some((_, fault)) = client.filter(|(due, _)| *due <= now) {
            return Err(fault);
        }
        let Some(times) = self.times.get() else {
            return Ok(Instant::now() + SOON);
        };
        let attempt = self.attempt.load(Ordering::Relaxed);
        let moved = self.moved.load(Ordering::Relaxed);
        let phase = self.phase();
        let total = if phase == Phase::Head as u8 {
            Some(times.total_to_head)
        } else {
            times.total.filter(|_| phase == Phase::Body as u8)
        };
        let silence = if phase == Phase::Head as u8 {
            // Before the whole request was sent, it is the client that is waited for.
            let sent = !self.uploading.load(Ordering::Relaxed);
            sent.then(|| moved + millis(times.first_byte + SLACK))
        } else {
            let waits = phase != Phase::Before as u8 && !self.stalled.load(Ordering::Relaxed);
            waits.then(|| moved + millis(times.between_bytes + SLACK))
        };
        let attempt = times
            .per_try
            .filter(|_| phase == Phase::Head as u8)
            .map(|span| attempt + millis(span));
        let due = [total.map(millis), silence, attempt];
        let due = due.into_iter().flatten().min();
        if due.is_some_and(|due| due <= now) {
            return Err(Fault::Timeout);
        }
        let client = client.map(|(due, _)| due);
        match due.into_iter().chain(client).min() {
            Some(due) => Ok(self.started + Duration::from_millis(due)),
            None => Ok(Instant::now() + SOMETIMES),
        }
    }

    /// When the client is too slow, and what that is.
    fn client_due(&self) -> Option<(u64, Fault)> {
        let rate = self.min_rate.load(Ordering::Relaxed);
        let body = [self.upload.due(rate), self.stream.due(rate)];
        let silent = self.uploading.load(Ordering::Relaxed).then(|| {
            let moved = self.moved.load(Ordering::Relaxed);
            let silence = self.silence.load(Ordering::Relaxed);
            moved.saturating_add(silence).saturating_add(millis(SLACK))
        });
        let body = body.into_iter().chain([silent]).flatten().min();
        let body = body.map(|due| (due, Fault::BodyTimeout));
        let taking = self.taking.due(rate);
        let taking = taking.map(|due| (due, Fault::ClientError));
        body.into_iter().chain(taking).min_by_key(|(due, _)| *due)
    }

    /// Keeps what is left of a request that was dropped.
    pub(super) fn keep(&self, state: Box<State>) {
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) = Some(state);
    }

    /// What is left of the request.
    #[must_use]
    pub fn left(&self) -> Option<Box<State>> {
        self.left
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    fn enter(&self, phase: Phase) {
        self.moved();
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    fn phase(&self) -> u8 {
        self.phase.load(Ordering::Relaxed)
    }

    fn now(&self) -> u64 {
        millis(self.started.elapsed())
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
