//! What authenticators find in a request, and what a route makes of what several of them find.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::exchange::{Edit, Identity, Reply};

/// Somebody else vouches for the caller, and says what the request, and its answer, get for that.
#[derive(Debug)]
pub(super) struct Vouched {
    pub(super) identity: Arc<Identity>,
    pub(super) to_upstream: Vec<Edit>,
    pub(super) to_client: Vec<Edit>,
}

impl Vouched {
    /// What its headers take, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let edits = self.to_upstream.iter().chain(&self.to_client);
        let edits = edits.map(|edit| match edit {
            Edit::Set(name, value) | Edit::Add(name, value) => name.as_str().len() + value.len(),
            Edit::Remove(name) | Edit::Rename(name, _) => name.as_str().len(),
        });
        // Once as a change, and once as a claim.
        edits.map(|bytes| 2 * bytes + 128).sum()
    }
}

/// What one authenticator finds.
#[derive(Debug, Clone)]
pub(super) enum Finding {
    /// Nothing that is meant for it.
    Absent,
    /// Who is calling.
    Known(Arc<Identity>),
    /// The same, from somebody who was asked.
    Vouched(Arc<Vouched>),
    /// What is shown does not hold, and why, for people.
    Refused(&'static str),
    /// The same from somebody who was asked, and what the client gets.
    Answered(Arc<Reply>),
    /// It holds, and is not let in all the same.
    Barred(&'static str),
    /// Somebody has to be asked.
    Ask,
    /// Somebody would have to be asked who cannot be.
    Unavailable(&'static str),
}

impl Finding {
    /// Whether what is shown holds.
    pub(super) const fn is_good(&self) -> bool {
        matches!(self, Self::Known(_) | Self::Vouched(_))
    }
}

/// What a route makes of it.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Somebody is calling; and what those say who were asked.
    Known(Arc<Identity>, Vec<Arc<Vouched>>),
    /// Nothing is shown at all.
    Nobody,
    /// What is shown is not good enough.
    Refused(&'static str),
    /// The same, and what the client gets.
    Answered(Arc<Reply>),
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

/// Who finds it out where it is not known yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// This machine, in a while.
    Us,
    /// Somebody else.
    Others,
}

/// What was found so far: the worst of it counts, unless somebody is known where one is enough and nobody is barred.
#[derive(Debug)]
pub(super) struct Tally {
    wanted: Wanted,
    known: SmallVec<[Arc<Identity>; 1]>,
    vouched: Vec<Arc<Vouched>>,
    answered: Option<Arc<Reply>>,
    refused: Option<&'static str>,
    barred: Option<&'static str>,
    unavailable: Option<&'static str>,
    /// Of how many so.
    absent: usize,
    ask: usize,
    /// Whether there is one that this machine has yet to find out by itself.
    open_here: bool,
}

impl Tally {
    /// Nothing yet.
    pub(super) fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            known: SmallVec::new(),
            vouched: Vec::new(),
            answered: None,
            absent: 0,
            refused: None,
            barred: None,
            unavailable: None,
            ask: 0,
            open_here: false,
        }
    }

    /// Whether somebody is known already where one is enough: the others only count where they bar.
    pub(super) fn is_enough(&self) -> bool {
        self.wanted == Wanted::Any && !self.known.is_empty()
    }

    /// Adds what one found. `Some`: the others need not look.
    pub(super) fn add(&mut self, finding: Finding, by: By) -> Option<Outcome> {
        match finding {
            // The first that knows the caller counts.
            Finding::Known(_) | Finding::Vouched(_) if self.is_enough() => {}
            Finding::Known(identity) => self.known.push(identity),
            Finding::Vouched(vouched) => {
                self.known.push(Arc::clone(&vouched.identity));
                self.vouched.push(vouched);
            }
            Finding::Answered(reply) => self.answered = self.answered.take().or(Some(reply)),
            Finding::Absent => self.absent += 1,
            Finding::Refused(why) => self.refused = self.refused.or(Some(why)),
            // Whoever is barred does not come in by another door.
            Finding::Barred(why) if self.wanted == Wanted::Any => {
                return Some(Outcome::Barred(why));
            }
            Finding::Barred(why) => self.barred = self.barred.or(Some(why)),
            Finding::Unavailable(why) => {
                self.unavailable = self.unavailable.or(Some(why));
                self.open_here |= by == By::Us;
            }
            Finding::Ask => {
                self.ask += 1;
                self.open_here |= by == By::Us;
            }
        }
        let over = self.wanted == Wanted::All && self.is_refused();
        over.then(|| self.worst())
    }

    const fn is_refused(&self) -> bool {
        self.refused.is_some() || self.barred.is_some() || self.answered.is_some()
    }

    /// What it comes to.
    pub(super) fn end(self) -> Outcome {
        if self.is_enough() && !self.open_here {
            return join(&self.known, self.vouched);
        }
        if self.is_refused() && self.ask == 0 && self.unavailable.is_none() {
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
            (0, false) => join(&self.known, self.vouched),
            (_, false) => Outcome::Refused("one of the credentials is missing"),
        }
    }

    fn worst(&self) -> Outcome {
        match (self.barred, &self.answered, self.refused) {
            (Some(why), _, _) => Outcome::Barred(why),
            (None, Some(reply), _) => Outcome::Answered(Arc::clone(reply)),
            (None, None, Some(why)) => Outcome::Refused(why),
            (None, None, None) => Outcome::Nobody,
        }
    }
}

/// Several that are the same caller: who it is says the last; the consumer is that of whoever knows one, and there is only one.
fn join(known: &[Arc<Identity>], vouched: Vec<Arc<Vouched>>) -> Outcome {
    let Some(last) = known.last() else {
        return Outcome::Nobody;
    };
    let mut consumers = known.iter().filter_map(|it| it.consumer.as_ref());
    let Some(consumer) = consumers.next() else {
        return Outcome::Known(Arc::clone(last), vouched);
    };
    if consumers.any(|other| other.name != consumer.name) {
        return Outcome::Refused("the credentials are of different consumers");
    }
    if last.consumer.is_some() {
        return Outcome::Known(Arc::clone(last), vouched);
    }
    let joined = Identity {
        consumer: Some(Arc::clone(consumer)),
        ..Identity::clone(last)
    };
    Outcome::Known(Arc::new(joined), vouched)
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
            if let Some(outcome) = tally.add(finding, By::Others) {
                return word(&outcome);
            }
        }
        word(&tally.end())
    }

    fn word(outcome: &Outcome) -> String {
        match outcome {
            Outcome::Known(it, vouched) => {
                let consumer = it.consumer.as_ref().map_or("-", |consumer| &*consumer.name);
                let more = "+".repeat(vouched.len());
                format!(
                    "{consumer}/{}{more}",
                    it.subject.as_deref().unwrap_or_default()
                )
            }
            Outcome::Nobody => "nobody".to_owned(),
            Outcome::Refused(_) => "refused".to_owned(),
            Outcome::Answered(_) => "answered".to_owned(),
            Outcome::Barred(_) => "barred".to_owned(),
            Outcome::Ask => "ask".to_owned(),
            Outcome::Unavailable(_) => "unavailable".to_owned(),
        }
    }

    use Finding::{Absent, Answered, Ask, Barred, Refused, Unavailable};
    use Wanted::{All, Any};

    #[test]
    fn one_good_credential_is_enough_where_any_is() {
        assert_eq!(tally(Any, vec![Absent, known("a", "1")]), "a/1");
        assert_eq!(tally(Any, vec![Refused("x"), known("a", "1")]), "a/1");
        assert_eq!(tally(Any, vec![Ask, known("a", "1")]), "a/1");
        assert_eq!(tally(Any, vec![Unavailable("x"), known("", "1")]), "-/1");
        let two = || vec![known("a", "1"), known("b", "2")];
        assert_eq!(tally(Any, two()), "a/1");
    }

    #[test]
    fn who_is_barred_does_not_come_in_by_another_door() {
        assert_eq!(tally(Any, vec![known("a", "1"), Barred("x")]), "barred");
        assert_eq!(tally(Any, vec![Barred("x"), known("a", "1")]), "barred");
        assert_eq!(
            tally(Any, vec![known("a", "1"), Absent, Barred("x")]),
            "barred"
        );
        assert_eq!(tally(Any, vec![Ask, Barred("x")]), "barred");
        // What this machine finds out itself is found out; nobody else is asked for it.
        for (by, told) in [(By::Us, "ask"), (By::Others, "a/1")] {
            let mut tally = Tally::new(Any);
            assert!(tally.add(known("a", "1"), By::Others).is_none());
            assert!(tally.add(Ask, by).is_none());
            assert_eq!(word(&tally.end()), told);
        }
    }

    #[test]
    fn who_was_asked_has_its_word_told() {
        let answered = || Answered(Arc::new(Reply::empty(http::StatusCode::FOUND)));
        let vouched = || {
            let Finding::Known(identity) = known("a", "1") else {
                return Absent;
            };
            Finding::Vouched(Arc::new(Vouched {
                identity,
                to_upstream: Vec::new(),
                to_client: Vec::new(),
            }))
        };
        assert_eq!(tally(Any, vec![answered(), Absent]), "answered");
        assert_eq!(tally(Any, vec![Refused("x"), answered()]), "answered");
        assert_eq!(tally(Any, vec![answered(), Barred("x")]), "barred");
        assert_eq!(
            tally(Any, vec![answered(), Unavailable("x")]),
            "unavailable"
        );
        assert_eq!(tally(Any, vec![answered(), vouched()]), "a/1+");
        assert_eq!(tally(All, vec![vouched(), known("a", "2")]), "a/2+");
        assert_eq!(tally(All, vec![vouched(), answered()]), "answered");
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
