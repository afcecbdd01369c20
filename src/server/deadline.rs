//! Timers of connections and requests: what takes too long is dropped, also where no hook of the request path would run again.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::exchange::Fault;
use crate::gateway::Watch;

/// A timer for one wait after the other. Nearly all that is waited for comes in time: a timer that stands is left as it is by
/// who waits longer, and looked at when it goes off, so that few requests touch the timers of the runtime.
#[derive(Debug, Default)]
pub(super) struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Ready once `due` is here.
    fn poll(&mut self, cx: &mut Context<'_>, due: Instant) -> Poll<()> {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if due < sleep.deadline() {
            sleep.as_mut().reset(due);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if sleep.deadline() >= due {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(due);
        }
        Poll::Pending
    }

    /// What `work` comes to; none if that takes longer than `span` from when it has to wait.
    pub(super) async fn within<T>(
        &mut self,
        span: Duration,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let mut work = pin!(work);
        let mut due = None;
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(done));
            }
            let due = *due.get_or_insert_with(|| Instant::now() + span);
            self.poll(cx, due).map(|()| None)
        })
        .await
    }
}

/// Works until the end, or until the request's time is over; then what was begun is dropped.
pub(super) async fn within<T>(
    watch: &Watch,
    alarm: &mut Alarm,
    work: impl Future<Output = T>,
) -> Result<T, Fault> {
    let mut work = pin!(work);
    poll_fn(|cx| {
        watch.has_turn();
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(Ok(done));
        }
        loop {
            // Looked at after the work had its turn: only then it is known what it waits for, and until when.
            let due = match watch.due() {
                Ok(due) => due,
                Err(fault) if watch.tells_to_let_go(fault) => {
                    // What follows may be there at once.
                    if let Poll::Ready(done) = work.as_mut().poll(cx) {
                        return Poll::Ready(Ok(done));
                    }
                    continue;
                }
                Err(fault) => return Poll::Ready(Err(fault)),
            };
            if alarm.poll(cx, due).is_pending() {
                return Poll::Pending;
            }
            // What it waited for came; it waits for something else now.
            watch.has_turn();
        }
    })
    .await
}
