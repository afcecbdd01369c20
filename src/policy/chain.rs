//! The policies of one route, in the order of their stages, run once for the request and once, in reverse, for the answer.

use std::sync::Arc;

use http::HeaderName;

use super::{BodyChanges, Policy, circuit_breaker, fallback, log, retries};
use crate::base::net::NetList;
use crate::base::problem::Place;
use crate::call::Outside;
use crate::exchange::{Decision, Exchange, Fault, Mode, RequestHead, ResponseHead, Step, Verdict};

/// A route's policies.
#[derive(Debug, Default)]
pub struct Chain {
    policies: Box<[Policy]>,
    /// Where each stands in the config.
    places: Box<[Place]>,
    on_request: bool,
    on_response: bool,
    /// The clauses that need whole bodies.
    called_by: Box<[&'static str]>,
    /// The one that shows bodies of requests to whoever it asks.
    shows_body: Option<usize>,
    /// Which of them says when requests are sent again.
    retries: Option<usize>,
    /// Which of them says what comes where the upstream fails.
    fallback: Option<usize>,
}

/// Notes what a policy decided; says whether the next has its turn.
fn note(index: u8, verdict: &Result<Verdict, Fault>, ex: &mut Exchange) -> bool {
    let decision = match verdict {
        Ok(Verdict::Continue) => Decision::Passed,
        Ok(Verdict::Respond(_)) => Decision::Answered,
        Ok(Verdict::Ask) => Decision::Asks,
        Err(fault) => Decision::Refused(*fault),
    };
    ex.events.note(Step::Policy(index), decision);
    decision == Decision::Passed
}

impl Chain {
    /// The headers by which upstreams are told who is calling.
    pub fn asserts(&self) -> impl Iterator<Item = &HeaderName> {
        self.policies.iter().flat_map(Policy::asserts)
    }

    /// Puts `policies` in order; each comes with its place in the config.
    #[must_use]
    pub fn new(mut policies: Vec<(Policy, Place)>) -> Self {
        policies.sort_by_key(|(policy, _)| policy.stage());
        let (policies, places): (Vec<_>, Vec<_>) = policies.into_iter().unzip();
        let on_request = policies.iter().any(Policy::on_request_wanted);
        let on_response = policies.iter().any(Policy::on_response_wanted);
        let retries = policies.iter().position(|it| it.retries().is_some());
        let fallback = policies.iter().position(|it| it.fallback().is_some());
        let shows_body = policies.iter().position(Policy::shows_body);
        let called_by: Vec<&'static str> = [
            ("auth", policies.iter().any(Policy::wants_body)),
            (
                "request.body",
                policies.iter().any(|it| it.request_body().is_some()),
            ),
            (
                "response.body",
                policies.iter().any(|it| it.response_body().is_some()),
            ),
        ]
        .into_iter()
        .filter_map(|(clause, there)| there.then_some(clause))
        .collect();
        Self {
            policies: policies.into(),
            places: places.into(),
            on_request,
            on_response,
            called_by: called_by.into(),
            shows_body,
            retries,
            fallback,
        }
    }

    /// Asks every policy about the request, until one answers it.
    ///
    /// # Errors
    /// What is wrong with the request.
    pub fn request(&self, head: &RequestHead, ex: &mut Exchange) -> Result<Verdict, Fault> {
        if !self.on_request {
            return Ok(Verdict::Continue);
        }
        self.request_from(0, head, ex)
    }

    fn request_from(
        &self,
        first: u8,
        head: &RequestHead,
        ex: &mut Exchange,
    ) -> Result<Verdict, Fault> {
        for (index, policy) in (0u8..).zip(&self.policies).skip(usize::from(first)) {
            if !policy.on_request_wanted() {
                continue;
            }
            let verdict = policy.on_request(head, ex);
            if matches!(verdict, Ok(Verdict::Ask)) {
                ex.asking = index;
                if ex.mode != Mode::Live {
                    ex.events.note(Step::Policy(index), Decision::Asks);
                }
                return verdict;
            }
            if !note(index, &verdict, ex) {
                return verdict;
            }
        }
        Ok(Verdict::Continue)
    }

    /// Decides only what every answer tells the page that asks: for requests that are sent away before anything else.
    pub fn greet(&self, head: &RequestHead, ex: &mut Exchange) {
        let greets =
            |policy: &&Policy| matches!(policy, Policy::Cors(_) | Policy::SecurityHeaders(_));
        for policy in self.policies.iter().filter(greets) {
            drop(policy.on_request(head, ex));
        }
    }

    /// Whether preflights are answered here.
    #[must_use]
    pub fn answers_preflights(&self) -> bool {
        self.policies
            .iter()
            .any(|policy| matches!(policy, Policy::Cors(_)))
    }

    /// Lets the policy ask that has to, then goes on behind it, until the next that has to, or one answers.
    ///
    /// # Errors
    /// What is wrong with the request.
    pub async fn ask(
        &self,
        head: &RequestHead,
        ex: &mut Exchange,
        outside: &Outside<'_>,
    ) -> Result<Verdict, Fault> {
        let index = ex.asking;
        let policy = self.policies.get(usize::from(index));
        let verdict = match policy {
            Some(policy) => policy.ask(head, ex, outside).await,
            None => Err(Fault::Internal),
        };
        // Whoever was asked has to say something.
        let verdict = match verdict {
            Ok(Verdict::Ask) => Err(Fault::Internal),
            verdict => verdict,
        };
        if !note(index, &verdict, ex) {
            return verdict;
        }
        self.request_from(index.saturating_add(1), head, ex)
    }

    /// The key of the policy that has to ask somebody.
    #[must_use]
    pub fn asking(&self, ex: &Exchange) -> &'static str {
        self.name(usize::from(ex.asking)).unwrap_or("policy")
    }

    /// The longest body that whoever is about to be asked can be shown; none = it is asked without.
    #[must_use]
    pub fn shown_max(&self, head: &RequestHead, ex: &Exchange) -> Option<u64> {
        let policy = self.policies.get(usize::from(ex.asking))?;
        policy.shown_max(head, ex)
    }

    /// Notes that the request is refused because of its body, before the policy could ask.
    pub fn refuse_unasked(&self, fault: Fault, ex: &mut Exchange) {
        note(ex.asking, &Err(fault), ex);
    }

    /// Lets every policy change the upstream's answer.
    pub fn response(&self, head: &RequestHead, answer: &mut ResponseHead, ex: &mut Exchange) {
        if self.on_response {
            for policy in self.policies.iter().rev() {
                policy.on_response(head, answer, ex);
            }
        }
    }

    /// Lets every policy change an answer of our own.
    pub fn reply(&self, head: &RequestHead, answer: &mut ResponseHead, ex: &mut Exchange) {
        if self.on_response {
            for policy in self.policies.iter().rev() {
                policy.on_reply(head, answer, ex);
            }
        }
    }

    /// The clauses that need whole bodies: with any, a route that has an upstream is called, not streamed.
    #[must_use]
    pub fn called_by(&self) -> &[&'static str] {
        &self.called_by
    }

    /// The clause that shows bodies of requests to whoever it asks: a request that has one is called.
    #[must_use]
    pub fn shows_body(&self) -> Option<&'static str> {
        self.name(self.shows_body?)
    }

    /// What changes in the body of a request.
    #[must_use]
    pub fn request_body(&self) -> Option<&BodyChanges> {
        self.policies.iter().find_map(Policy::request_body)
    }

    /// What changes in the body of an answer.
    #[must_use]
    pub fn response_body(&self) -> Option<&BodyChanges> {
        self.policies.iter().find_map(Policy::response_body)
    }

    /// The files of networks that its policies look into.
    pub fn lists(&self) -> impl Iterator<Item = &Arc<NetList>> {
        self.policies.iter().flat_map(Policy::lists)
    }

    /// When requests are sent again, where the route says so.
    #[must_use]
    pub fn retries(&self) -> Option<&retries::Retries> {
        self.policies.get(self.retries?)?.retries()
    }

    /// What comes where the upstream fails.
    #[must_use]
    pub fn fallback(&self) -> Option<&fallback::Fallback> {
        self.policies.get(self.fallback?)?.fallback()
    }

    /// When nothing is sent, where the route says so. Asked when a config is compiled.
    #[must_use]
    pub fn circuit_breaker(&self) -> Option<&circuit_breaker::CircuitBreaker> {
        self.policies.iter().find_map(Policy::circuit_breaker)
    }

    /// The key of the policy with place `index`.
    #[must_use]
    pub fn name(&self, index: usize) -> Option<&'static str> {
        self.policies.get(index).map(Policy::name)
    }

    /// Where the policies stand in the config, in order.
    #[must_use]
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// What the policy with place `index` did with the request, in words.
    #[must_use]
    pub fn explain(&self, index: usize, ex: &Exchange) -> Option<String> {
        self.policies.get(index)?.explain(ex)
    }

    /// What is written down of a request, where the route says so.
    #[must_use]
    pub fn recording(&self) -> Option<&log::Log> {
        // Its stage is the last.
        self.policies.last()?.on_record()
    }

    /// The keys of the policies, in order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.policies.iter().map(Policy::name)
    }
}
