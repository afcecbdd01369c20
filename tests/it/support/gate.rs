//! A gate: the origin waits at it until the test lets it go on, so no test needs to sleep.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::DEADLINE;

/// How long an answer waits for its test, which may do thousands of things meanwhile.
const PATIENCE: Duration = Duration::from_secs(300);

/// Counts permits. Clones are the same gate.
#[derive(Clone, Default)]
pub(crate) struct Gate {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    permits: u64,
    open: bool,
    waiting: u64,
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passage {
    Granted,
    Gone,
    Stuck,
}

impl Gate {
    /// A closed gate.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Lets one wait pass, now or later.
    pub(crate) fn release(&self) {
        self.release_many(1);
    }

    pub(crate) fn release_many(&self, permits: u64) {
        self.change(|state| state.permits += permits);
    }

    /// Lets every wait pass from now on.
    pub(crate) fn open(&self) {
        self.change(|state| state.open = true);
    }

    /// Returns when `count` replies or bodies wait here at the same time.
    pub(crate) fn wait_until_waiting(&self, count: u64) {
        let state = self
            .inner
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let few = |state: &mut State| state.waiting < count;
        let (state, timeout) = self
            .inner
            .changed
            .wait_timeout_while(state, DEADLINE, few)
            .unwrap();
        assert!(
            !timeout.timed_out(),
            "{} of {count} wait at the gate",
            state.waiting
        );
    }

    /// Waits for a permit, or until `gone` is set and `wake` was called.
    pub(super) fn pass(&self, gone: &AtomicBool) -> Passage {
        let mut state = self
            .inner
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        state.waiting += 1;
        self.inner.changed.notify_all();
        let shut =
            |state: &mut State| !state.open && state.permits == 0 && !gone.load(Ordering::SeqCst);
        let waited = self.inner.changed.wait_timeout_while(state, PATIENCE, shut);
        let (mut state, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
        if state.open || state.permits > 0 {
            state.permits = state.permits.saturating_sub(1);
            return Passage::Granted;
        }
        if timeout.timed_out() {
            Passage::Stuck
        } else {
            Passage::Gone
        }
    }

    /// Makes the waits look again whether they are gone.
    pub(super) fn wake(&self) {
        self.change(|_| {});
    }

    fn change(&self, edit: impl FnOnce(&mut State)) {
        edit(
            &mut self
                .inner
                .state
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        self.inner.changed.notify_all();
    }
}
