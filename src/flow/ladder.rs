//! The ladder of a route whose upstream has no good answer: which step comes next.

use std::sync::LazyLock;
use std::time::Duration;

use super::{environment, route};
use crate::call::{Answer, LastGood, is_repeatable};
use crate::exchange::{
    Exchange, Facts, Fallen, Fault, Reason, Reply, RequestHead, ResponseHead, Served, is_grpc,
};
use crate::plan::Plan;
use crate::policy::fallback::{Fallback, Rung};
use crate::upstream::{Condition, Conditions, Upstream};

/// What is no answer of a step: each way to fail, an answer with 5xx, and a call that ended by its target's fault (UNKNOWN,
/// DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE and DATA_LOSS).
static FAILED: LazyLock<Conditions> = LazyLock::new(|| {
    Conditions::of(&[
        Condition::ConnectFailure,
        Condition::Reset,
        Condition::RefusedStream,
        Condition::Timeout,
        Condition::ProtocolError,
        Condition::TlsFailure,
        Condition::CircuitOpen,
        Condition::NoTarget,
        Condition::Overload,
        Condition::Class(5),
        Condition::Grpc(2),
        Condition::Grpc(4),
        Condition::Grpc(13),
        Condition::Grpc(14),
        Condition::Grpc(15),
    ])
});

/// What a request gets in place of an answer that is none.
#[derive(Debug)]
pub enum Fall {
    /// It goes to another upstream, which is the exchange's from now on.
    Upstream,
    /// The last good answer.
    Stale(Box<Answer>),
    /// A fixed one.
    Reply(Reply),
    /// Nothing: what happened is what it gets.
    Nothing,
}

/// What may still be done for a request.
#[derive(Debug, Clone, Copy)]
pub struct Means<'a> {
    /// Whether it is there to be sent once more, to somebody else, and has the time. Whether that is safe is decided here.
    pub resend: bool,
    /// Who remembers answers.
    pub last_good: &'a dyn LastGood,
}

/// Takes the next step for a request that ended like this, after its retries.
pub fn fall(
    plan: &Plan,
    asked: &RequestHead,
    exchange: &mut Exchange,
    outcome: Result<&ResponseHead, Fault>,
    means: &Means<'_>,
) -> Fall {
    let Some(fallback) = route(plan, exchange).and_then(|route| route.chain.fallback()) else {
        return Fall::Nothing;
    };
    // `when` says who gets onto the ladder: whoever is there takes step after step, whatever a step failed by.
    if !is_meant(fallback.when(), exchange, outcome)
        && !(exchange.fallen.is_some() && is_meant(&FAILED, exchange, outcome))
    {
        return Fall::Nothing;
    }
    let before = exchange.fallen;
    let reason = before.map_or_else(|| reason(outcome), |fallen| fallen.reason);
    let next = before.map_or(0, |fallen| fallen.step.saturating_add(1));
    let means = Means {
        resend: means.resend && is_safe(fallback, asked, exchange, outcome),
        ..*means
    };
    for (step, rung) in (0u8..).zip(fallback.rungs()).skip(usize::from(next)) {
        let Some((fall, served)) = take(rung, plan, asked, exchange, &means) else {
            continue;
        };
        exchange.fallen = Some(Fallen {
            step,
            served,
            reason,
        });
        exchange.fault = None;
        exchange.retry_after = None;
        exchange.grpc_status = None;
        return fall;
    }
    // Nothing took the upstream's place after all.
    exchange.fallen = None;
    Fall::Nothing
}

/// Whether the ladder of the request, if it has one, is taken after `fault`.
#[must_use]
pub fn has_fallback(plan: &Plan, exchange: &Exchange, fault: Fault) -> bool {
    let fallback = route(plan, exchange).and_then(|route| route.chain.fallback());
    fallback.is_some_and(|fallback| {
        fault.meets(fallback.when()) || exchange.fallen.is_some() && fault.meets(&FAILED)
    })
}

fn is_meant(when: &Conditions, exchange: &Exchange, outcome: Result<&ResponseHead, Fault>) -> bool {
    match outcome {
        Err(fault) => fault.meets(when),
        Ok(head) => {
            let status = exchange.grpc_status.filter(|_| exchange.is_call);
            when.has_answer(head.status.as_u16()) || status.is_some_and(|code| when.has_grpc(code))
        }
    }
}

/// Whether somebody else may get the same request: nobody got it so far, or doing it twice is doing it once. By the same rule
/// it would be retried.
fn is_safe(
    fallback: &Fallback,
    asked: &RequestHead,
    exchange: &Exchange,
    outcome: Result<&ResponseHead, Fault>,
) -> bool {
    let status = exchange.grpc_status.filter(|_| exchange.is_call);
    // Calls of gRPC are all POST: who names their statuses says that they may be made again.
    let named = status.is_some_and(|code| fallback.when().has_grpc(code));
    named || is_repeatable(asked) || outcome.is_err_and(Fault::is_unsent)
}

fn reason(outcome: Result<&ResponseHead, Fault>) -> Reason {
    match outcome {
        Ok(head) => Reason::Status(head.status.as_u16()),
        Err(fault) => Reason::Fault(fault),
    }
}

fn take(
    rung: &Rung,
    plan: &Plan,
    asked: &RequestHead,
    exchange: &Exchange,
    means: &Means<'_>,
) -> Option<(Fall, Served)> {
    // Who makes a call of gRPC reads no answer of HTTP.
    let plain = !is_grpc(&asked.headers);
    match rung {
        Rung::Upstream(upstream) => {
            let upstream = swapped(plan, exchange, upstream);
            let fits = !exchange.is_call || upstream.is_http2();
            (means.resend && fits).then_some((Fall::Upstream, Served::Upstream))
        }
        Rung::Stale(age_max) if plain => {
            let age_max = age_max.duration();
            let found = means.last_good.find(asked, exchange, age_max);
            let (answer, age) = found.filter(|(_, age)| *age <= age_max)?;
            Some((Fall::Stale(Box::new(answer)), Served::Stale(seconds(age))))
        }
        Rung::Respond(response) if plain => {
            let reply = response.reply(&Facts::of(asked, exchange));
            Some((Fall::Reply(reply), Served::Respond))
        }
        Rung::Stale(_) | Rung::Respond(_) => None,
    }
}

fn seconds(age: Duration) -> u32 {
    u32::try_from(age.as_secs()).unwrap_or(u32::MAX)
}

/// The upstream that a request is at by its ladder.
pub(super) fn upstream<'a>(
    plan: &'a Plan,
    exchange: &Exchange,
) -> Option<&'a std::sync::Arc<Upstream>> {
    let fallen = exchange.fallen.filter(|it| it.served == Served::Upstream)?;
    let fallback = route(plan, exchange)?.chain.fallback()?;
    Some(swapped(plan, exchange, fallback.upstream(fallen.step)?))
}

/// The upstream that takes the place of this one where the request was asked in an environment.
fn swapped<'a>(
    plan: &'a Plan,
    exchange: &Exchange,
    upstream: &'a std::sync::Arc<Upstream>,
) -> &'a std::sync::Arc<Upstream> {
    environment(plan, exchange)
        .and_then(|environment| environment.upstreams.get(&upstream.number()))
        .unwrap_or(upstream)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::base::clock::{Clock as _, SystemClock};
    use crate::base::forwarded::Scheme;
    use crate::base::problem::Problems;
    use crate::config::source::Environment;

    const CONFIG: &str = r#"
version: 1
listeners: { public: { address: "127.0.0.1:0" } }
upstreams:
  main: { targets: [{ url: "http://127.0.0.1:1" }] }
  spare: { targets: [{ url: "http://127.0.0.1:2" }] }
routes:
  - name: all
    match: { path_prefix: / }
    upstream: main
    fallback:
      when: [timeout, connect_failure, http_503]
      steps: [{ upstream: spare }, { stale: 5m }, { respond: { json: { items: [] } } }]
"#;

    fn plan() -> Plan {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("doorward.yaml");
        std::fs::write(&path, CONFIG).unwrap();
        let loaded = crate::config::load(&path, &Environment::Process);
        let mut problems = Problems::default();
        crate::plan::compile(&loaded.document, "test", &mut problems).unwrap()
    }

    /// Remembers one answer of this age.
    #[derive(Debug)]
    struct Remembers(Duration);

    impl LastGood for Remembers {
        fn find(
            &self,
            _: &RequestHead,
            _: &Exchange,
            age_max: Duration,
        ) -> Option<(Answer, Duration)> {
            let head = ResponseHead::build(200, None).unwrap();
            let body = Bytes::from_static(b"old");
            let answer = Answer {
                head,
                body,
                trailers: None,
            };
            (self.0 <= age_max).then_some((answer, self.0))
        }
    }

    fn fallen(
        outcome: Result<&ResponseHead, Fault>,
        means: &Means<'_>,
    ) -> (Vec<&'static str>, Exchange) {
        let asked = RequestHead::build("GET", b"/", None).unwrap();
        fallen_of(&asked, outcome, means)
    }

    fn fallen_of(
        asked: &RequestHead,
        outcome: Result<&ResponseHead, Fault>,
        means: &Means<'_>,
    ) -> (Vec<&'static str>, Exchange) {
        let plan = plan();
        let mut exchange = Exchange::new(SystemClock.instant(), 0, Scheme::Http);
        let mut words = Vec::new();
        loop {
            let fall = fall(&plan, asked, &mut exchange, outcome, means);
            words.push(match &fall {
                Fall::Upstream => "upstream",
                Fall::Stale(_) => "stale",
                Fall::Reply(_) => "respond",
                Fall::Nothing => "nothing",
            });
            if !matches!(fall, Fall::Upstream) {
                return (words, exchange);
            }
        }
    }

    const fn means(last_good: &dyn LastGood) -> Means<'_> {
        Means {
            resend: true,
            last_good,
        }
    }

    #[test]
    fn the_steps_are_taken_in_order() {
        let (words, exchange) = fallen(Err(Fault::Timeout), &means(&crate::call::Forgetful));
        assert_eq!(words, ["upstream", "respond"]);
        let fallen_to = exchange.fallen.unwrap();
        assert_eq!(fallen_to.reason, Reason::Fault(Fault::Timeout));
        let young = Remembers(Duration::from_secs(299));
        let (words, exchange) = fallen(Err(Fault::Timeout), &means(&young));
        assert_eq!(words, ["upstream", "stale"]);
        let mut head = ResponseHead::build(200, None).unwrap();
        exchange.fallen.unwrap().served.mark(&mut head);
        assert_eq!(head.headers["gateway-fallback"], "stale");
        assert_eq!(head.headers["age"], "299");
        assert_eq!(head.headers["cache-status"], "doorward; fwd=stale");
    }

    #[test]
    fn what_is_too_old_is_not_served() {
        let old = Remembers(Duration::from_secs(301));
        assert_eq!(
            fallen(Err(Fault::Timeout), &means(&old)).0,
            ["upstream", "respond"]
        );
    }

    #[test]
    fn what_cannot_be_sent_again_goes_to_no_other_upstream() {
        let means = Means {
            resend: false,
            last_good: &crate::call::Forgetful,
        };
        let (words, _) = fallen(Err(Fault::Timeout), &means);
        assert_eq!(words, ["respond"]);
    }

    #[test]
    fn what_must_not_be_done_twice_goes_to_nobody_else_once_it_was_sent() {
        let forgetful = crate::call::Forgetful;
        let means = means(&forgetful);
        let busy = ResponseHead::build(503, None).unwrap();
        let mut post = RequestHead::build("POST", b"/", None).unwrap();
        for outcome in [Err(Fault::Timeout), Ok(&busy)] {
            assert_eq!(fallen_of(&post, outcome, &means).0, ["respond"]);
        }
        let unsent = fallen_of(&post, Err(Fault::ConnectFailure), &means).0;
        assert_eq!(unsent, ["upstream", "respond"]);
        post.insert_header("idempotency-key", "1").unwrap();
        for outcome in [Err(Fault::Timeout), Ok(&busy)] {
            assert_eq!(fallen_of(&post, outcome, &means).0, ["upstream", "respond"]);
        }
    }

    #[test]
    fn a_step_that_fails_by_what_is_not_named_is_followed_by_the_next_one() {
        let forgetful = crate::call::Forgetful;
        let means = means(&forgetful);
        let (plan, asked) = (plan(), RequestHead::build("GET", b"/", None).unwrap());
        let answer = |status| ResponseHead::build(status, None).unwrap();
        let (bad, none) = (answer(500), answer(404));
        for (outcome, goes_on) in [
            (Err(Fault::Reset), true),
            (Ok(&bad), true),
            (Ok(&none), false),
            (Err(Fault::ClientError), false),
        ] {
            let mut exchange = Exchange::new(SystemClock.instant(), 0, Scheme::Http);
            let first = fall(&plan, &asked, &mut exchange, Err(Fault::Timeout), &means);
            assert!(matches!(first, Fall::Upstream));
            assert!(has_fallback(&plan, &exchange, Fault::Timeout));
            let next = fall(&plan, &asked, &mut exchange, outcome, &means);
            assert_eq!(matches!(next, Fall::Reply(_)), goes_on, "{outcome:?}");
        }
    }

    #[test]
    fn only_what_is_named_is_caught() {
        let forgetful = crate::call::Forgetful;
        assert_eq!(fallen(Err(Fault::Reset), &means(&forgetful)).0, ["nothing"]);
        for (status, words) in [(503, &["upstream", "respond"][..]), (500, &["nothing"])] {
            let head = ResponseHead::build(status, None).unwrap();
            assert_eq!(fallen(Ok(&head), &means(&forgetful)).0, words, "{status}");
        }
    }
}
