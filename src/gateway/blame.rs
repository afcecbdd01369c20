//! Whose time it is that a request takes: its target's, or its client's.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::watch::{HEAD, Watch, millis};

impl Watch {
    /// It waits for other answers of its connection: meanwhile nobody is late.
    pub fn waits_its_turn(&self) {
        self.held.store(true, Ordering::Relaxed);
        self.was_held.store(true, Ordering::Relaxed);
    }

    /// It has its turn.
    pub fn has_its_turn(&self) {
        if self.held.load(Ordering::Relaxed) {
            self.held.store(false, Ordering::Relaxed);
            self.moved();
        }
    }

    /// How long the target had the whole request by now; none while that is still being sent.
    pub(super) fn since_sent(&self) -> Option<Duration> {
        let uploading = self.uploading.load(Ordering::Relaxed);
        let sent = Duration::from_micros(self.sent_micros.load(Ordering::Relaxed));
        (!uploading).then(|| self.started.elapsed().saturating_sub(sent))
    }

    /// Whether a time that is over now is one that the client used up, or that it set: then its target is not to blame.
    pub(super) fn is_clients(&self) -> bool {
        let now = self.now();
        let uploading = self.uploading.load(Ordering::Relaxed);
        let sends = uploading && (self.upload.is_waiting() || self.stream.is_waiting());
        let wished = self.deadline.load(Ordering::Relaxed) <= now;
        if sends || wished || self.is_stalled() || self.was_held.load(Ordering::Relaxed) {
            return true;
        }
        let since = |begun: &AtomicU64| now.saturating_sub(begun.load(Ordering::Relaxed));
        let silence = self.times().map(|times| match self.phase() {
            HEAD => times.first_byte,
            _ => times.between_bytes,
        });
        // Whoever said nothing for so long is late, whatever the client took before.
        if silence.is_some_and(|silence| since(&self.moved) >= millis(silence)) {
            return false;
        }
        let paces = [&self.upload, &self.stream, &self.taking];
        let clients: u64 = paces.iter().map(|pace| pace.waited(now)).sum();
        clients > since(&self.attempt).saturating_sub(clients)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use tokio::time::Instant;

    use super::*;
    use crate::exchange::Fault;
    use crate::upstream::Timeouts;

    /// A request of 90 s ago, of which an attempt began then.
    fn old(total: Option<u64>) -> Watch {
        let mut watch = Watch::default();
        watch.started = Instant::now() - Duration::from_secs(90);
        watch.has_turn();
        watch.attempt(&Timeouts {
            total: total.map(Duration::from_secs),
            ..Timeouts::default()
        });
        watch.attempt.store(0, Ordering::Relaxed);
        watch
    }

    #[test]
    fn a_time_that_the_client_used_up_is_not_its_targets() {
        let is_clients = |went: Option<u64>| {
            let watch = old(Some(80));
            watch.uploads();
            watch.upload.waits(0);
            if let Some(went) = went {
                watch.upload.went(went, 1);
                watch.sent();
            }
            assert_eq!(watch.due(), Err(Fault::Timeout));
            watch.is_clients()
        };
        assert!(is_clients(None), "it still sends");
        assert!(is_clients(Some(70_000)), "the target had the rest");
        assert!(!is_clients(Some(30_000)), "the target had most of it");
    }

    #[test]
    fn whoever_does_not_read_makes_nobody_late() {
        let watch = old(Some(80));
        assert!(!watch.is_clients());
        watch.wrote(Poll::Pending);
        assert!(watch.is_clients());
        watch.wrote(Poll::Ready(1));
        assert!(!watch.is_clients());
        watch.waits_its_turn();
        watch.has_its_turn();
        assert!(watch.is_clients(), "it was held up by other answers");
    }

    #[test]
    fn a_silent_target_is_late_whatever_the_client_took_before() {
        let watch = old(None);
        watch.uploads();
        watch.upload.waits(0);
        watch.upload.went(70_000, 1);
        watch.sent();
        assert!(watch.is_clients());
        watch.moved.store(0, Ordering::Relaxed);
        assert!(!watch.is_clients());
    }

    #[test]
    fn a_target_is_measured_from_the_end_of_the_request() {
        let watch = old(None);
        assert!(watch.since_sent().is_some_and(|span| span.as_secs() >= 90));
        watch.uploads();
        assert_eq!(watch.since_sent(), None);
        watch.sent();
        assert!(watch.since_sent().is_some_and(|span| span.as_secs() < 60));
    }

    #[test]
    fn a_time_that_the_client_set_is_not_its_targets() {
        let watch = old(None);
        watch.is_call(Some(Duration::from_secs(100)));
        assert!(!watch.is_clients());
        watch.is_call(Some(Duration::from_secs(80)));
        assert!(watch.is_clients());
    }
}
