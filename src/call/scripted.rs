//! An upstream that is not asked: what it would say is written down.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Answer, Attempted, Failed, Request, Terms, is_repeatable};
use crate::exchange::{Exchange, Fault, ResponseHead, Upgrade, check_answer, check_own_answer};
use crate::upstream::{Again, Fared, Tries, Upstream};

/// What an upstream would say.
#[derive(Debug)]
pub struct Scripted {
    /// The head of its answer.
    pub head: ResponseHead,
    /// The body.
    pub body: Bytes,
    /// It does not answer, and why.
    pub fail: Option<Fault>,
}

impl Scripted {
    /// Answers one call, and again as often as it is made; nobody waits in between.
    pub(super) fn call(
        &self,
        upstream: &Upstream,
        request: &Request,
        terms: &Terms<'_>,
        exchange: &mut Exchange,
    ) -> Result<Answer, Failed> {
        let mut tries = Tries::default();
        upstream.resilience().budget().request(terms.since);
        loop {
            let answered = self.attempt(upstream, terms, exchange);
            let attempted = Attempted {
                outcome: answered.as_ref().map(|it| &it.head).map_err(|it| it.fault),
                grpc: None,
                repeatable: is_repeatable(&request.head),
                kept: Some(request.body.len() as u64),
                elsewhere: upstream.authorities().count() > usize::from(exchange.attempts),
                left: None,
                unix_millis: exchange.unix_millis,
            };
            let again = terms
                .retries
                .map(|it| attempted.again(it, &mut tries, upstream, terms.since));
            if !matches!(again, Some(Again::After(_))) {
                return answered;
            }
        }
    }

    /// One attempt, as far as the breaker lets it through; places are not counted where nobody waits.
    fn attempt(
        &self,
        upstream: &Upstream,
        terms: &Terms<'_>,
        exchange: &mut Exchange,
    ) -> Result<Answer, Failed> {
        let ticket = terms.breaker.map(|it| it.admit(terms.since)).transpose();
        let ticket = ticket.map_err(|left| {
            exchange.retry_after = Some(left);
            Failed::new(Fault::CircuitOpen, "the breaker is open")
        })?;
        let answered = self.answer(upstream, terms, exchange);
        if let Some(ticket) = ticket {
            let errors = ticket.breaker().errors();
            let error = match &answered {
                Ok(answer) => errors.has_answer(answer.head.status.as_u16()),
                Err(failed) => failed.fault.meets(errors),
            };
            let fared = if error { Fared::Badly } else { Fared::Well };
            ticket.tell(fared, Duration::ZERO, terms.since);
        }
        answered
    }

    fn answer(
        &self,
        upstream: &Upstream,
        terms: &Terms<'_>,
        exchange: &mut Exchange,
    ) -> Result<Answer, Failed> {
        exchange.attempts = exchange.attempts.saturating_add(1);
        // What an answer says of the target is rewritten, as it is for a real one.
        exchange.target = upstream.authorities().next().map(Into::into);
        exchange.upstream = Some(Arc::clone(upstream.name()));
        if let Some(fault) = self.fail {
            return Err(Failed::new(fault, "as it is written"));
        }
        let mut head = self.head.clone();
        let checked = match terms.ours {
            true => check_own_answer(&mut head, Upgrade::None, &mut 0),
            false => check_answer(&mut head, Upgrade::None, &mut 0),
        };
        checked.map_err(refused)?;
        if self.body.len() as u64 > terms.answer_max {
            return Err(too_large());
        }
        let body = self.body.clone();
        Ok(Answer {
            head,
            body,
            trailers: None,
        })
    }
}

/// The head is none that could be passed on.
pub(super) fn refused(why: &'static str) -> Failed {
    Failed::new(Fault::ProtocolError, why)
}

/// The answer is longer than it may be.
pub(super) fn too_large() -> Failed {
    Failed::new(Fault::ResponseTooLarge, "the answer is too large")
}
