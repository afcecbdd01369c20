//! The end of the process: until when what is under way may go on, and what is left of it.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::config::document::Drain as Spans;
use crate::gateway::Signals;
use crate::telemetry::Telemetry;

/// How long after the signal a client that is idle may still ask, once: what it sent while the signal came is answered.
const GRACE: Duration = Duration::from_secs(2);
/// How long what is cut off may take to notice it, and to be recorded.
const CUT_TIME_MAX: Duration = Duration::from_millis(250);
/// How often it is told how many are left.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// What is under way, and until when.
#[derive(Debug)]
pub(super) struct Drain {
    /// Whether each answer is the last of its connection.
    stopping: Arc<AtomicBool>,
    /// The same, as Pingora hears it.
    shutdown: watch::Sender<bool>,
    /// Everybody who holds a receiver has to end before the process does.
    deadlines: watch::Sender<Option<Deadlines>>,
    requests_cut: AtomicU64,
    tunnels_closed: AtomicU64,
}

/// When each kind of connection ends, once the process was asked to stop.
#[derive(Debug, Clone, Copy)]
struct Deadlines {
    idle: Instant,
    requests: Instant,
    tunnels: Instant,
}

/// A connection, or a socket that connections come from: the process goes on for as long as there is one.
pub(super) struct Presence {
    asked: Asked,
    /// Whether the process was asked to stop: set before anybody hears of deadlines.
    stopping: Arc<AtomicBool>,
    /// Who is woken then.
    waker: Option<Waker>,
}

/// Whether somebody heard of the end.
enum Asked {
    /// Not yet: one wait for the whole life of a connection, not one a request.
    Waits(Pin<Box<dyn Future<Output = Self> + Send + Sync>>),
    /// Of these deadlines; none when nobody is left who could set them. Whoever heard is counted all the same.
    Told {
        _counted: watch::Receiver<Option<Deadlines>>,
        deadlines: Option<Deadlines>,
    },
}

/// What is under way while the process stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// Connections, also those that left HTTP.
    pub connections: usize,
    /// Requests without a whole answer.
    pub requests: i64,
}

impl Drain {
    pub(super) fn new() -> Self {
        Self {
            stopping: Arc::default(),
            shutdown: watch::channel(false).0,
            deadlines: watch::channel(None).0,
            requests_cut: AtomicU64::new(0),
            tunnels_closed: AtomicU64::new(0),
        }
    }

    /// Something that has to end before the process does.
    pub(super) fn join(&self) -> Presence {
        let mut deadlines = self.deadlines.subscribe();
        let asked = async move {
            let set = deadlines.wait_for(Option::is_some).await;
            let set = set.ok().and_then(|set| *set);
            Asked::Told {
                _counted: deadlines,
                deadlines: set,
            }
        };
        Presence {
            // Whoever has used up its turn is not told, and would not be woken.
            asked: Asked::Waits(Box::pin(tokio::task::unconstrained(asked))),
            stopping: Arc::clone(&self.stopping),
            waker: None,
        }
    }

    /// Whether each answer is the last of its connection, as the request path asks it.
    pub(super) fn stopping(&self) -> &Arc<AtomicBool> {
        &self.stopping
    }

    /// Whether the process stops, as Pingora asks it.
    pub(super) fn shutdown(&self) -> watch::Receiver<bool> {
        self.shutdown.subscribe()
    }

    /// Notes that a connection was cut off.
    pub(super) fn cut(&self, signals: &Signals) {
        let kind = if signals.tunnel.load(Ordering::Acquire) {
            &self.tunnels_closed
        } else {
            &self.requests_cut
        };
        kind.fetch_add(1, Ordering::Relaxed);
    }

    /// Lets everybody know that this is the end, and waits for it. `tell` hears now and then how many are left.
    pub(super) async fn run(&self, spans: Spans, telemetry: &Telemetry, tell: impl Fn(Left)) {
        let (now, requests) = (Instant::now(), spans.requests.duration());
        let deadlines = Deadlines {
            idle: now + GRACE.min(requests),
            requests: now + requests,
            tunnels: now + spans.websockets.duration(),
        };
        // In this order: who hears of the deadlines finds everything else said already.
        self.stopping.store(true, Ordering::Release);
        self.shutdown.send_replace(true);
        self.deadlines.send_replace(Some(deadlines));
        let mut ends = [deadlines.requests, deadlines.tunnels];
        ends.sort();
        let told = async {
            let mut told = None;
            loop {
                let left = Left {
                    connections: self.deadlines.receiver_count(),
                    requests: telemetry.active(),
                };
                if told.replace(left) != Some(left) {
                    tell(left);
                }
                tokio::time::sleep(TOLD_EVERY).await;
            }
        };
        let ended = async {
            for end in ends {
                let ended = timeout_at(end + CUT_TIME_MAX * 2, self.deadlines.closed()).await;
                self.warn();
                if ended.is_ok() {
                    return;
                }
            }
            log::warn!(connections = self.deadlines.receiver_count(); "connections did not end");
        };
        tokio::select! {
            () = ended => {}
            () = told => {}
        }
    }

    /// Says what had to be cut off.
    fn warn(&self) {
        let requests = self.requests_cut.swap(0, Ordering::Relaxed);
        if requests > 0 {
            log::warn!(requests; "requests in flight were cut off");
        }
        let tunnels = self.tunnels_closed.swap(0, Ordering::Relaxed);
        if tunnels > 0 {
            log::warn!(connections = tunnels; "connections that left HTTP were closed");
        }
    }
}

impl Presence {
    /// Waits until the process was asked to stop.
    pub(super) async fn asked_to_stop(&mut self) {
        self.deadlines().await;
    }

    /// Waits until an idle connection is to end.
    pub(super) async fn idle_over(&mut self) {
        if let Some(deadlines) = self.deadlines().await {
            sleep_until(deadlines.idle).await;
        }
    }

    /// Waits until the request that `signals` belong to is to end; whether it left HTTP is asked when the time comes.
    pub(super) async fn over(&mut self, signals: &Signals) {
        let Some(deadlines) = self.deadlines().await else {
            return;
        };
        let mut ends = [deadlines.requests, deadlines.tunnels];
        ends.sort();
        for end in ends {
            sleep_until(end).await;
            let its_own = if signals.tunnel.load(Ordering::Acquire) {
                deadlines.tunnels
            } else {
                deadlines.requests
            };
            if its_own <= end {
                return;
            }
        }
    }

    /// The deadlines, once there are any; none when nobody is left who could set them.
    async fn deadlines(&mut self) -> Option<Deadlines> {
        poll_fn(|cx| self.poll_deadlines(cx)).await
    }

    fn poll_deadlines(&mut self, cx: &mut Context<'_>) -> Poll<Option<Deadlines>> {
        let known = self
            .waker
            .as_ref()
            .is_some_and(|it| it.will_wake(cx.waker()));
        if known && !self.stopping.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        loop {
            match &mut self.asked {
                Asked::Told { deadlines, .. } => return Poll::Ready(*deadlines),
                Asked::Waits(told) => {
                    if let Poll::Ready(told) = told.as_mut().poll(cx) {
                        self.asked = told;
                        continue;
                    }
                    self.waker = Some(cx.waker().clone());
                    return Poll::Pending;
                }
            }
        }
    }
}
