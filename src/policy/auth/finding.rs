//! What authenticators find in a request, and what a route makes of what several of them find.

use std::sync::Arc;

use crate::exchange::Identity;

/// What one authenticator finds.
#[derive(Debug)]
pub(super) enum Finding {
    /// Nothing that is meant for it.
    Absent,
    /// Who is calling.
    Known(Arc<Identity>),
    /// What is shown does not hold, and why, for people.
    Refused(&'static str),
    /// It holds, and is not let in all the same.
    Barred(&'static str),
    /// Somebody has to be asked.
    Ask,
    /// Somebody would have to be asked who cannot be.
    Unavailable(&'static str),
}

/// What a route makes of it.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Somebody is calling.
    Known(Arc<Identity>),
    /// Nothing is shown at all.
    Nobody,
    /// What is shown is not good enough.
    Refused(&'static str),
    /// It is good, but not let in.
    Barred(&'static str),
    /// Somebody has to be asked.
    Ask,
    /// Nobody can say.
    Unavailable(&'static str),
}

/// How many of a route's authenticators have to know the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// One of them.
    Any,
    /// Each of them.
    All,
}

/// What was found so far: the worst of it counts, unless somebody is known where one is enough.
#[derive(Debug)]
pub(super) struct Tally {
    wanted: Wanted,
    known: Vec<Arc<Identity>>,
    refused: Option<&'static str>,
    barred: Option<&'static str>,
    unavailable: Option<&'static str>,
    /// Of how many so.
    absent: usize,
    ask: usize,
}

impl Tally {
    /// Nothing yet.
    pub(super) const fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            known: Vec::new(),
            absent: 0,
            refused: None,
            barred: None,
            unavailable: None,
            ask: 0,
        }
    }

    /// Adds what one found. `Some`: the others need not look.
    pub(super) fn add(&mut self, finding: Finding) -> Option<Outcome> {
        match finding {
            Finding::Known(identity) if self.wanted == Wanted::Any => {
                return Some(Outcome::Known(identity));
            }
            Finding::Known(identity) => self.known.push(identity),
            Finding::Absent => self.absent += 1,
            Finding::Refused(why) => self.refused = self.refused.or(Some(why)),
            // Whoever is barred does not come in by another door.
            Finding::Barred(why) => self.barred = self.barred.or(Some(why)),
            Finding::Unavailable(why) => self.unavailable = self.unavailable.or(Some(why)),
            Finding::Ask => self.ask += 1,
        }
        let over = self.wanted == Wanted::All && (self.refused.is_some() || self.barred.is_some());
        over.then(|| self.worst())
    }

    /// What it comes to.
    pub(super) fn end(self) -> Outcome {
        let found = self.refused.is_some() || self.barred.is_some();
        if found && self.ask == 0 && self.unavailable.is_none() {
            return self.worst();
        }
        if self.ask > 0 {
            return Outcome::Ask;
        }
        if let Some(why) = self.unavailable {
            return Outcome::Unavailable(why);
        }
        match (self.absent, self.known.is_empty()) {
            (_, true) => Outcome::Nobody,
            (0, false) => join(&self.known),
            (_, false) => Outcome::Refused("one of the credentials is missing"),
        }
    }

    fn worst(&self) -> Outcome {
        match (self.barred, self.refused) {
            (Some(why), _) => Outcome::Barred(why),
            (None, Some(why)) => Outcome::Refused(why),
            (None, None) => Outcome::Nobody,
        }
    }
}

/// Several that are the same caller: who it is says the last; the consumer is that of whoever knows one, and there is only one.
fn join(known: &[Arc<Identity>]) -> Outcome {
    let Some(last) = known.last() else {
        return Outcome::Nobody;
    };
    let mut consumers = known.iter().filter_map(|it| it.consumer.as_ref());
    let Some(consumer) = consumers.next() else {
        return Outcome::Known(Arc::clone(last));
    };
    if consumers.any(|other| other.name != consumer.name) {
        return Outcome::Refused("the credentials are of different consumers");
    }
    if last.consumer.is_some() {
        return Outcome::Known(Arc::clone(last));
    }
    Outcome::Known(Arc::new(Identity {
        consumer: Some(Arc::clone(consumer)),
        ..Identity::clone(last)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::Consumer;

    fn known(consumer: &str, subject: &str) -> Finding {
        Finding::Known(Arc::new(Identity {
            subject: Some(subject.into()),
            consumer: (!consumer.is_empty()).then(|| {
                Arc::new(Consumer {
                    name: consumer.into(),
                    ..Consumer::default()
                })
            }),
            ..Identity::default()
        }))
    }

    fn tally(wanted: Wanted, findings: Vec<Finding>) -> String {
        let mut tally = Tally::new(wanted);
        for finding in findings {
            if let Some(outcome) = tally.add(finding) {
                return word(&outcome);
            }
        }
        word(&tally.end())
    }

    fn word(outcome: &Outcome) -> String {
        match outcome {
            Outcome::Known(it) => {
                let consumer = it.consumer.as_ref().map_or("-", |consumer| &*consumer.name);
                format!("{consumer}/{}", it.subject.as_deref().unwrap_or_default())
            }
            Outcome::Nobody => "nobody".to_owned(),
            Outcome::Refused(_) => "refused".to_owned(),
            Outcome::Barred(_) => "barred".to_owned(),
            Outcome::Ask => "ask".to_owned(),
            Outcome::Unavailable(_) => "unavailable".to_owned(),
        }
    }

    use Finding::{Absent, Ask, Barred, Refused, Unavailable};
    use Wanted::{All, Any};

    #[test]
    fn one_good_credential_is_enough_where_any_is() {
        assert_eq!(tally(Any, vec![Absent, known("a", "1")]), "a/1");
        assert_eq!(tally(Any, vec![Refused("x"), known("a", "1")]), "a/1");
        assert_eq!(tally(Any, vec![Ask, known("a", "1")]), "a/1");
        assert_eq!(tally(Any, vec![Unavailable("x"), known("", "1")]), "-/1");
    }

    #[test]
    fn a_credential_that_does_not_hold_is_never_nobody() {
        assert_eq!(tally(Any, vec![Absent, Absent]), "nobody");
        assert_eq!(tally(Any, vec![Absent, Refused("x")]), "refused");
        assert_eq!(tally(Any, vec![Barred("x"), Absent]), "barred");
        assert_eq!(tally(Any, vec![Refused("x"), Ask]), "ask");
        assert_eq!(
            tally(Any, vec![Refused("x"), Unavailable("y")]),
            "unavailable"
        );
        assert_eq!(tally(All, vec![Absent, Absent]), "nobody");
    }

    #[test]
    fn where_all_are_wanted_each_counts() {
        assert_eq!(tally(All, vec![known("", "d"), Absent]), "refused");
        assert_eq!(tally(All, vec![known("", "d"), Refused("x")]), "refused");
        assert_eq!(tally(All, vec![Refused("x"), Ask]), "refused");
        assert_eq!(tally(All, vec![known("", "d"), Ask]), "ask");
        assert_eq!(tally(All, vec![known("a", "d"), known("", "u")]), "a/u");
        assert_eq!(tally(All, vec![known("a", "d"), known("a", "u")]), "a/u");
        assert_eq!(
            tally(All, vec![known("a", "d"), known("b", "u")]),
            "refused"
        );
    }
}
