//! Ends a request whose time is over, also where no hook of the request path would run again.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use tokio::time::sleep_until;

use crate::exchange::Fault;
use crate::gateway::Watch;

/// Works until the end, or until the request's time is over; then what was begun is dropped.
pub(super) async fn within<T>(watch: &Watch, work: impl Future<Output = T>) -> Result<T, Fault> {
    let mut work = pin!(work);
    let mut timer = pin!(None);
    poll_fn(|cx| {
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
            match timer.as_mut().as_pin_mut() {
                None => timer.set(Some(sleep_until(due))),
                Some(sleep) if due < sleep.deadline() => sleep.reset(due),
                Some(_) => {}
            }
            let Some(sleep) = timer.as_mut().as_pin_mut() else {
                return Poll::Pending;
            };
            if sleep.poll(cx).is_pending() {
                return Poll::Pending;
            }
            // What it waited for came; it waits for something else now.
            timer.set(None);
        }
    })
    .await
}
