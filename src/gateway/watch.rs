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
/// How long an attempt that has no answer in time may take to let go of its request.
const LETTING_GO: Duration = Duration::from_millis(50);
/// How much later a tunnel is cut that should have ended by itself.
const TUNNEL_SLACK: Duration = Duration::from_secs(5);
/// How long nothing may pass through a tunnel: what it carries has pauses of its own, and nobody waits for an answer.
const TUNNEL_SILENCE: Duration = Duration::from_secs(600);

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
    /// A body that may come for ever: an event stream.
    Stream = 3,
    /// No HTTP any more: bytes both ways.
    Tunnel = 4,
    /// Nothing: the answer is ours, and whoever sends it sees to its end.
    Answered = 5,
}

const BEFORE: u8 = Phase::Before as u8;
pub(super) const HEAD: u8 = Phase::Head as u8;
const BODY: u8 = Phase::Body as u8;
const TUNNEL: u8 = Phase::Tunnel as u8;

/// The deadlines of one request. Its own task writes; the task that watches it is the same one.
#[derive(Debug)]
pub struct Watch {
    pub(super) started: Instant,
    /// When its task had its turn last: milliseconds after the start. Within one turn no other time is read.
    turn: AtomicU64,
    times: OnceLock<Timeouts>,
    /// Those of the upstream that took the place of the first.
    others: OnceLock<Timeouts>,
    phase: AtomicU8,
    /// When the attempt began, and when anything moved last: milliseconds after the start.
    pub(super) attempt: AtomicU64,
    pub(super) moved: AtomicU64,
    /// When the whole request was sent, likewise; and in microseconds, for who measures.
    sent: AtomicU64,
    pub(super) sent_micros: AtomicU64,
    /// The request's body is not sent yet.
    pub(super) uploading: AtomicBool,
    /// Nothing of the request is left to be sent.
    is_sent: AtomicBool,
    /// How fast the client has to be, in bytes a second; 0 = any.
    min_rate: AtomicU64,
    /// How long it may send nothing of its body: milliseconds.
    silence: AtomicU64,
    /// How fast it sends, as its connection sees it, or its stream.
    pub(super) upload: Pace,
    pub(super) stream: Pace,
    /// How fast it takes.
    pub(super) taking: Pace,
    /// The client takes nothing: what the upstream sends has to wait.
    stalled: AtomicBool,
    /// It waits for other answers of its connection, which the client does not take; and whether it ever did.
    pub(super) held: AtomicBool,
    pub(super) was_held: AtomicBool,
    /// How long a tunnel may be silent: milliseconds.
    tunnel_silence: AtomicU64,
    /// Why it ends before its peers wanted it to.
    reason: OnceLock<Fault>,
    /// It is over, whatever it waits for.
    over: AtomicBool,
    /// When a call has to be over: milliseconds after the start.
    pub(super) deadline: AtomicU64,
    /// Whether something else follows an attempt that has no answer in time.
    goes_on: AtomicBool,
    /// When such an attempt was told to let go: milliseconds; 0 = it was not.
    told: AtomicU64,
    /// It did.
    let_go: AtomicBool,
    /// What is left of a request that was dropped before its end.
    left: Mutex<Option<Box<State>>>,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            started: Instant::now(),
            turn: AtomicU64::new(0),
            times: OnceLock::new(),
            others: OnceLock::new(),
            phase: AtomicU8::new(Phase::Before as u8),
            attempt: AtomicU64::new(0),
            moved: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            sent_micros: AtomicU64::new(0),
            uploading: AtomicBool::new(false),
            is_sent: AtomicBool::new(false),
            min_rate: AtomicU64::new(0),
            silence: AtomicU64::new(u64::MAX),
            upload: Pace::default(),
            stream: Pace::default(),
            taking: Pace::default(),
            stalled: AtomicBool::new(false),
            held: AtomicBool::new(false),
            was_held: AtomicBool::new(false),
            tunnel_silence: AtomicU64::new(millis(TUNNEL_SILENCE)),
            reason: OnceLock::new(),
            over: AtomicBool::new(false),
            deadline: AtomicU64::new(u64::MAX),
            goes_on: AtomicBool::new(false),
            told: AtomicU64::new(0),
            let_go: AtomicBool::new(false),
            left: Mutex::new(None),
        }
    }
}

impl Watch {
    /// The request's task has its turn: this is the time until its next.
    pub fn has_turn(&self) {
        let now = millis(self.started.elapsed());
        self.turn.store(now, Ordering::Relaxed);
    }

    /// An attempt begins, within these times.
    pub(super) fn attempt(&self, times: &Timeouts) {
        self.times.get_or_init(|| *times);
        self.attempt.store(self.now(), Ordering::Relaxed);
        self.is_sent.store(false, Ordering::Relaxed);
        self.goes_on.store(false, Ordering::Relaxed);
        self.told.store(0, Ordering::Relaxed);
        self.let_go.store(false, Ordering::Relaxed);
        self.enter(Phase::Head);
    }

    /// Another upstream takes the place of the first, with times of its own, which begin now.
    pub(super) fn begins_anew(&self, times: &Timeouts) {
        let passed = Duration::from_millis(self.now());
        self.others.get_or_init(|| Timeouts {
            total: times.total.map(|total| total + passed),
            ..*times
        });
    }

    pub(super) fn times(&self) -> Option<&Timeouts> {
        self.others.get().or_else(|| self.times.get())
    }

    /// When this attempt has no answer in time, something else follows.
    pub(super) fn may_go_on(&self) {
        self.goes_on.store(true, Ordering::Relaxed);
    }

    /// Nothing is waited for but the time until the next attempt.
    pub(super) fn pauses(&self) {
        self.enter(Phase::Before);
    }

    /// Whether an attempt that has no answer in time has to let go of the request, which goes on. Asked after [`Watch::due`]
    /// said so; whoever gets a yes lets the request have its turn.
    #[must_use]
    pub fn tells_to_let_go(&self, fault: Fault) -> bool {
        let goes_on = self.goes_on.load(Ordering::Relaxed);
        let sent = !self.uploading.load(Ordering::Relaxed);
        let over = self.over.load(Ordering::Relaxed);
        let can = goes_on && sent && !over && fault == Fault::Timeout;
        if !can || self.phase() != HEAD || self.told.load(Ordering::Relaxed) > 0 {
            return false;
        }
        self.told.store(self.now().max(1), Ordering::Relaxed);
        true
    }

    /// Whether the attempt has to let go now: said once.
    #[must_use]
    pub fn lets_go(&self) -> bool {
        self.told.load(Ordering::Relaxed) > 0 && !self.let_go.swap(true, Ordering::Relaxed)
    }

    /// Whether it did.
    pub(super) fn was_let_go(&self) -> bool {
        self.let_go.load(Ordering::Relaxed)
    }

    /// How much time is left up to the head of an answer; none = any.
    pub(super) fn time_left(&self) -> Option<Duration> {
        let times = self.times()?;
        let total = times.total.map(millis);
        let sent = self.sent.load(Ordering::Relaxed);
        let head = (total.is_none() && sent > 0).then(|| sent + millis(times.total_to_head));
        let deadline = Some(self.deadline.load(Ordering::Relaxed));
        let deadline = deadline.filter(|deadline| *deadline < u64::MAX);
        let due = earlier(earlier(total, head), deadline)?;
        Some(Duration::from_millis(due.saturating_sub(self.now())))
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

    /// Both sides left HTTP.
    pub(super) fn tunnels(&self) {
        self.enter(Phase::Tunnel);
    }

    /// As a tunnel it may be silent for `idle`; whoever sees to it itself comes first.
    pub(super) fn may_be_silent(&self, idle: Duration) {
        let silence = millis(idle + TUNNEL_SLACK);
        self.tunnel_silence.store(silence, Ordering::Relaxed);
    }

    /// It is going to end because of `fault`.
    pub fn ends(&self, fault: Fault) {
        self.reason.get_or_init(|| fault);
    }

    /// Why it ended, where neither of its peers wanted it to.
    pub(super) fn reason(&self) -> Option<Fault> {
        self.reason.get().copied()
    }

    /// That end is here.
    pub fn over(&self) {
        self.over.store(true, Ordering::Relaxed);
    }

    /// The request has a body, which is still to be sent.
    pub(super) fn uploads(&self) {
        self.uploading.store(true, Ordering::Relaxed);
    }

    /// It is a call of gRPC, which its client wants to be over within `timeout`. Its messages come when there are any.
    pub(super) fn is_call(&self, timeout: Option<Duration>) {
        self.stream.went(self.now(), 0);
        let deadline = timeout.map_or(u64::MAX, millis);
        self.deadline.store(deadline, Ordering::Relaxed);
    }

    /// The whole request was sent.
    pub(super) fn sent(&self) {
        self.stream.went(self.now(), 0);
        self.uploading.store(false, Ordering::Relaxed);
        let passed = self.started.elapsed();
        self.sent.store(millis(passed), Ordering::Relaxed);
        self.sent_micros.store(micros(passed), Ordering::Relaxed);
        self.is_sent.store(true, Ordering::Relaxed);
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

    /// Whether the client takes nothing of its answer.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        self.stalled.load(Ordering::Relaxed)
    }

    /// Whether the whole request was sent.
    #[must_use]
    pub fn is_sent(&self) -> bool {
        self.is_sent.load(Ordering::Relaxed)
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
        if self.over.load(Ordering::Relaxed) {
            return Err(self.reason().unwrap_or(Fault::Timeout));
        }
        if self.phase() == Phase::Answered as u8 || self.held.load(Ordering::Relaxed) {
            return Ok(self.later(SOMETIMES));
        }
        let now = self.now();
        let told = self.told.load(Ordering::Relaxed);
        if told > 0 && self.phase() == HEAD {
            let due = told + millis(LETTING_GO);
            return if due > now {
                Ok(self.started + Duration::from_millis(due))
            } else {
                Err(Fault::Timeout)
            };
        }
        // What a tunnel carries has a pace of its own.
        let client = self.client_due().filter(|_| self.phase() != TUNNEL);
        if let Some((_, fault)) = client.filter(|(due, _)| *due <= now) {
            return Err(fault);
        }
        let Some(times) = self.times() else {
            return Ok(self.later(SOON));
        };
        let deadline = Some(self.deadline.load(Ordering::Relaxed));
        let deadline = deadline.filter(|deadline| *deadline < u64::MAX);
        let due = match self.phase() {
            BEFORE => None,
            HEAD => self.head_due(times),
            TUNNEL => {
                let silence = self.tunnel_silence.load(Ordering::Relaxed);
                Some(self.moved.load(Ordering::Relaxed) + silence)
            }
            phase => {
                let total = times.total.filter(|_| phase == BODY).map(millis);
                earlier(total, self.silence_due(times))
            }
        };
        let due = earlier(due, deadline);
        if due.is_some_and(|due| due <= now) {
            return Err(Fault::Timeout);
        }
        match earlier(due, client.map(|(due, _)| due)) {
            Some(due) => Ok(self.started + Duration::from_millis(due)),
            None => Ok(self.later(SOMETIMES)),
        }
    }

    /// When the head of the answer has to be here.
    fn head_due(&self, times: &Timeouts) -> Option<u64> {
        let since = |begun: &AtomicU64, span| begun.load(Ordering::Relaxed) + millis(span);
        let mut due = times.total.map(millis);
        if let Some(span) = times.per_try {
            due = earlier(due, Some(since(&self.attempt, span)));
        }
        // Before the whole request was sent, it is the client that is waited for: only what is written counts.
        if !self.uploading.load(Ordering::Relaxed) {
            let silence = since(&self.moved, times.first_byte + SLACK);
            due = earlier(due, Some(silence));
            if times.total.is_none() {
                due = earlier(due, Some(since(&self.sent, times.total_to_head)));
            }
        }
        due
    }

    /// When the next piece of the answer's body has to be here.
    fn silence_due(&self, times: &Timeouts) -> Option<u64> {
        // A target that has not the whole request may wait for the rest before it goes on.
        let waits_for_client =
            self.stalled.load(Ordering::Relaxed) || self.uploading.load(Ordering::Relaxed);
        let moved = self.moved.load(Ordering::Relaxed);
        (!waits_for_client).then(|| moved + millis(times.between_bytes + SLACK))
    }

    /// When the client is too slow, and what that is.
    fn client_due(&self) -> Option<(u64, Fault)> {
        let rate = self.min_rate.load(Ordering::Relaxed);
        let stream = self.stream.due(rate);
        // Of a stream nobody sees when it is waited for: there the pieces count.
        let silent = stream.map(|_| {
            let moved = self.moved.load(Ordering::Relaxed);
            let silence = self.silence.load(Ordering::Relaxed);
            moved.saturating_add(silence).saturating_add(millis(SLACK))
        });
        let body = earlier(self.upload.due(rate), earlier(stream, silent));
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

    pub(super) fn phase(&self) -> u8 {
        self.phase.load(Ordering::Relaxed)
    }

    pub(super) fn now(&self) -> u64 {
        self.turn.load(Ordering::Relaxed)
    }

    /// So long after this turn began.
    fn later(&self, span: Duration) -> Instant {
        self.started + Duration::from_millis(self.now()) + span
    }
}

/// The earlier of two times, of which either may be none.
fn earlier(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    [a, b].into_iter().flatten().min()
}

pub(super) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request of 90 s ago, of which an attempt begins now.
    fn old() -> Watch {
        let watch = Watch {
            started: Instant::now() - Duration::from_secs(90),
            ..Watch::default()
        };
        watch.has_turn();
        watch
    }

    #[test]
    fn a_client_that_sends_slowly_has_its_time() {
        let watch = old();
        watch.attempt(&Timeouts::default());
        watch.uploads();
        assert!(watch.due().is_ok());
        watch.sent();
        assert!(watch.due().is_ok());
    }

    #[test]
    fn what_is_written_holds_for_the_client_too() {
        let watch = old();
        watch.attempt(&Timeouts {
            total: Some(Duration::from_secs(80)),
            ..Timeouts::default()
        });
        watch.uploads();
        assert_eq!(watch.due(), Err(Fault::Timeout));
    }

    #[test]
    fn a_target_has_its_time_from_the_last_byte_sent() {
        let watch = old();
        watch.times.get_or_init(Timeouts::default);
        watch.enter(Phase::Head);
        assert_eq!(watch.due(), Err(Fault::Timeout), "the head did not come");
        watch.moved.store(0, Ordering::Relaxed);
        watch.sent.store(watch.now(), Ordering::Relaxed);
        assert_eq!(watch.due(), Err(Fault::Timeout), "silence");
    }

    #[test]
    fn nobody_is_late_who_waits_for_a_turn() {
        let watch = old();
        watch.attempt(&Timeouts::default());
        watch.sent();
        watch.moved.store(0, Ordering::Relaxed);
        watch.waits_its_turn();
        assert!(watch.due().is_ok());
        watch.has_its_turn();
        assert!(watch.due().is_ok(), "the target is waited for anew");
        watch.moved.store(0, Ordering::Relaxed);
        assert_eq!(watch.due(), Err(Fault::Timeout));
    }

    #[test]
    fn a_call_is_over_when_its_client_wants_it_to_be() {
        let watch = old();
        watch.is_call(Some(Duration::from_secs(100)));
        watch.attempt(&Timeouts::default().of_call());
        watch.streams();
        assert!(watch.due().is_ok());
        watch.is_call(Some(Duration::from_secs(80)));
        assert_eq!(watch.due(), Err(Fault::Timeout));
    }

    #[test]
    fn a_tunnel_ends_when_nothing_passes_for_long() {
        let watch = old();
        watch.attempt(&Timeouts::default());
        watch.tunnels();
        watch.moved.store(0, Ordering::Relaxed);
        assert!(watch.due().is_ok());
        let longer = Watch {
            started: Instant::now() - Duration::from_secs(601),
            ..watch
        };
        longer.has_turn();
        assert_eq!(longer.due(), Err(Fault::Timeout));
    }
}
