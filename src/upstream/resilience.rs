//! What an upstream does when it fails: how often requests are sent again, when nothing is sent, how many at a time.

use std::sync::{Arc, OnceLock};

use super::breaker::Breaker;
use super::budget::Budget;
use super::permits::Permits;
use super::retry::{Retries, RetriesSpec};
use super::spec::{Setting, Spec};

/// The rules of one upstream, and what has been seen.
#[derive(Debug)]
pub struct Resilience {
    retries: Option<Retries>,
    budget: OnceLock<Arc<Budget>>,
    breaker: Option<Arc<Breaker>>,
    permits: Option<Arc<Permits>>,
}

impl Resilience {
    /// As `spec` has it.
    pub(super) fn new(name: &Arc<str>, spec: &Spec) -> Self {
        let breaker = spec.circuit_breaker.on();
        Self {
            retries: match &spec.retries {
                Setting::Absent => Some(Retries::default()),
                Setting::Off => None,
                Setting::On(retries) => Some(RetriesSpec::compile(retries)),
            },
            budget: OnceLock::new(),
            breaker: breaker.map(|spec| Arc::new(Breaker::new(spec, None, Arc::clone(name)))),
            permits: spec
                .concurrency
                .on()
                .map(|spec| Arc::new(Permits::new(spec))),
        }
    }

    /// Goes on with what `before` has seen.
    pub(super) fn inherit(&self, before: &Self) {
        drop(self.budget.set(Arc::clone(before.shared_budget())));
        if let (Some(breaker), Some(before)) = (&self.breaker, &before.breaker) {
            breaker.inherit(before);
        }
        if let (Some(permits), Some(before)) = (&self.permits, &before.permits) {
            permits.inherit(before);
        }
    }

    fn shared_budget(&self) -> &Arc<Budget> {
        self.budget.get_or_init(Arc::default)
    }

    /// When its requests are sent again; none = never.
    #[must_use]
    pub const fn retries(&self) -> Option<&Retries> {
        self.retries.as_ref()
    }

    /// How many may be.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        self.shared_budget()
    }

    /// When nothing is sent.
    #[must_use]
    pub const fn breaker(&self) -> Option<&Arc<Breaker>> {
        self.breaker.as_ref()
    }

    /// How many requests it has at a time.
    #[must_use]
    pub const fn permits(&self) -> Option<&Arc<Permits>> {
        self.permits.as_ref()
    }
}
