//! What was decided about a request, in order: codes without words, so that they cost nothing when nobody asks.

use smallvec::SmallVec;

use super::Fault;

/// More decisions than this are not kept; no request meets so many.
const EVENTS_MAX: usize = 24;

/// Who decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Who the client is, behind trusted proxies.
    Client,
    /// The hosts of the listener.
    Hosts,
    /// Whether the request was here before.
    Loop,
    /// The router.
    Match,
    /// The policy with this place in the route's chain.
    Policy(u8),
    /// The route's action.
    Action,
}

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Go on.
    Passed,
    /// This is the answer.
    Answered,
    /// It goes upstream.
    Forwarded,
    /// Somebody has to be asked, which only a real request does.
    Asks,
    /// No, because of this.
    Refused(Fault),
}

/// One decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// Who decided.
    pub step: Step,
    /// What.
    pub decision: Decision,
}

/// The decisions about one request.
#[derive(Debug, Clone, Default)]
pub struct Events(SmallVec<[Event; EVENTS_MAX]>);

impl Events {
    /// Notes a decision.
    pub fn note(&mut self, step: Step, decision: Decision) {
        if self.0.len() < EVENTS_MAX {
            self.0.push(Event { step, decision });
        }
    }

    /// Notes what became of a step that passes or refuses.
    pub fn check<T>(&mut self, step: Step, result: Result<T, Fault>) -> Result<T, Fault> {
        let decision = match &result {
            Ok(_) => Decision::Passed,
            Err(fault) => Decision::Refused(*fault),
        };
        self.note(step, decision);
        result
    }

    /// The decisions, in order.
    pub fn iter(&self) -> impl Iterator<Item = Event> {
        self.0.iter().copied()
    }

    /// The decision that ended it.
    #[must_use]
    pub fn last(&self) -> Option<Event> {
        self.0.last().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_takes_eight_bytes_at_most() {
        assert!(size_of::<Event>() <= 8, "{}", size_of::<Event>());
    }

    #[test]
    fn what_is_too_much_is_left_out() {
        let mut events = Events::default();
        for _ in 0..100 {
            events.note(Step::Match, Decision::Passed);
        }
        assert_eq!(events.iter().count(), EVENTS_MAX);
    }
}
