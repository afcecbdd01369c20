//! Calls over the network: by HTTP/1.1 or HTTP/2, on connections that are kept.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use pingora::connectors::ConnectorOptions;
use pingora::connectors::http::Connector;
use pingora::server::configuration::ServerConf;
use tokio::time::Instant;

use super::attempt::{changes_nothing, nobody_free, nobody_there};
use super::dues::Dues;
use super::run::{Errand, Headed, Ran, Runs, Stopped, Way, run};
use super::{Answer, Attempted, Ended, Failed, Held, Passage, Request, Terms, is_repeatable};
use crate::exchange::{Exchange, Fault};
use crate::upstream::{Again, Ask, Member, Picked, Retries, Tries, Upstream, afresh};

/// The connections of calls.
pub struct Http {
    options: ConnectorOptions,
    /// Made when it is first needed, or prepared before: it reads the certificates of the system, which takes some ten milliseconds.
    connector: OnceLock<Connector>,
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http").finish_non_exhaustive()
    }
}

/// What was tried for a call so far.
#[derive(Default)]
struct Course {
    tries: Tries,
    /// The targets that it was at.
    tried: Vec<Arc<Member>>,
    /// Whether a connection that was kept turned out to be dead, so that it was sent once more: that happens once.
    was_dead: bool,
}

/// What became of a run.
#[expect(
    clippy::large_enum_variant,
    reason = "it is looked at where it is made"
)]
enum Settled<'a> {
    /// It goes on, elsewhere: nobody takes connections at this address of the target, or the connection that was kept was dead.
    Again(Way),
    /// It is over.
    Ended(End<'a>),
}

/// How a run ended.
struct End<'a> {
    /// The choice that it went by; none where there was none.
    pick: Option<Arc<Picked>>,
    hedge: bool,
    /// When to come back, where it was held back and that is known.
    retry_after: Option<Duration>,
    outcome: Result<Headed<'a>, Failed>,
}

impl Http {
    /// No connection yet; as many are kept as `conf` says.
    #[must_use]
    pub fn new(conf: &ServerConf) -> Self {
        Self {
            options: ConnectorOptions::from_server_conf(conf),
            connector: OnceLock::new(),
        }
    }

    /// Does what takes time now, so that the first call has not to wait for it.
    pub fn prepare(&self) {
        self.connector();
    }

    fn connector(&self) -> &Connector {
        let make = || Connector::new(Some(self.options.clone()));
        self.connector.get_or_init(make)
    }

    /// Makes one call, again as often as its terms let it.
    pub(super) async fn call(
        &self,
        upstream: &Upstream,
        request: &Request,
        terms: &Terms<'_>,
        exchange: &mut Exchange,
    ) -> Result<Answer, Failed> {
        let errand = Errand {
            upstream,
            request,
            terms,
            dues: Dues::new(terms),
            hedge_after: hedge_after(request, terms),
        };
        if errand.dues.over() {
            // The request itself took all the time there was.
            return Err(Failed::new(Fault::Timeout, "no time was left to send it"));
        }
        let mut course = Course::default();
        let budget = upstream.resilience().budget();
        budget.request(Instant::now().into_std());
        loop {
            let answered = self.round(&errand, &mut course, exchange).await;
            match errand.pause(&answered, &mut course, exchange) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return answered,
            }
        }
    }

    /// One attempt that counts; where it takes long, another one beside it, and of both the first good answer. The other one is
    /// dropped as soon as that has begun.
    async fn round(
        &self,
        errand: &Errand<'_>,
        course: &mut Course,
        exchange: &mut Exchange,
    ) -> Result<Answer, Failed> {
        let over = AtomicBool::new(false);
        let mut runs = Runs::default();
        let way = errand.way(course, exchange)?;
        let mut latest = way.pick.member();
        runs.begin(run(self.connector(), errand, way, &over));
        let mut hedge_at = errand.hedge_after.map(|after| Instant::now() + after);
        let mut end: Option<End<'_>> = None;
        while !runs.is_empty() {
            let due = hedge_at.filter(|_| end.is_none());
            let Some(ran) = runs.next(due).await else {
                hedge_at = None;
                if let Some(way) = errand.hedge(course, latest.take(), exchange) {
                    runs.begin(run(self.connector(), errand, way, &over));
                }
                continue;
            };
            match errand.settle(ran, course, exchange) {
                Settled::Again(way) => {
                    latest = way.pick.member();
                    runs.begin(run(self.connector(), errand, way, &over));
                }
                Settled::Ended(ended) => {
                    if errand.is_good(&ended) {
                        over.store(true, Ordering::Relaxed);
                        runs.give_up();
                    }
                    end = Some(better(end, ended));
                }
            }
        }
        let end = end.ok_or_else(|| none_free(errand.upstream))?;
        errand.note(&end, exchange);
        end.outcome?.finish(self.connector(), errand).await
    }
}

/// After how long without an answer the request is sent to a second target beside the first; none = never.
fn hedge_after(request: &Request, terms: &Terms<'_>) -> Option<Duration> {
    let retries = terms.retries?;
    let after = retries.hedge_after()?;
    let safe = is_repeatable(&request.head) && request.body.len() as u64 <= retries.body();
    safe.then_some(after.duration())
}

/// Of two that are no good answers: one of a target is better than none, the later one of two.
fn better<'a>(before: Option<End<'a>>, now: End<'a>) -> End<'a> {
    match before {
        Some(before) if now.outcome.is_err() => before,
        Some(_) | None => now,
    }
}

impl Errand<'_> {
    /// Chooses a target for the next attempt.
    fn way(&self, course: &Course, exchange: &mut Exchange) -> Result<Way, Failed> {
        let ask = Ask {
            tried: &course.tried,
            ..self.terms.ask
        };
        let pick = self.upstream.pick(&ask);
        let pick = pick.ok_or_else(|| none_free(self.upstream))?;
        self.towards(Arc::new(pick), exchange)
            .ok_or_else(|| none_free(self.upstream))
    }

    /// The next attempt, at the target that was chosen: noted as it begins.
    fn towards(&self, pick: Arc<Picked>, exchange: &mut Exchange) -> Option<Way> {
        let peer = pick.peer(&self.terms.times, exchange.ends.as_ref())?;
        exchange.attempts = exchange.attempts.saturating_add(1);
        self.note_target(&pick, exchange);
        Some(Way {
            pick,
            peer,
            number: exchange.attempts,
            passage: None,
            unreachable: 0,
            hedge: false,
        })
    }

    fn note_target(&self, pick: &Picked, exchange: &mut Exchange) {
        let target = pick.target();
        exchange.target = target.map(|target| Arc::clone(&target.authority));
        exchange.upstream = Some(Arc::clone(self.upstream.name()));
        let (now, scheme) = (exchange.unix_secs(), exchange.client_scheme());
        exchange.sticky = self.upstream.stick(pick, self.terms.ask.stuck, now, scheme);
    }

    /// A second attempt beside the first, which is at `first` and has no answer yet; none where that is not to be.
    fn hedge(
        &self,
        course: &mut Course,
        first: Option<Arc<Member>>,
        exchange: &mut Exchange,
    ) -> Option<Way> {
        let retries = self.terms.retries?;
        if !retries.has_more(&course.tries) || self.dues.over() {
            return None;
        }
        let now = Instant::now().into_std();
        // Nobody else waits for its sake.
        let passage = Passage::at_once(self.terms.breaker, self.upstream, now)?;
        let budget = self.upstream.resilience().budget();
        if !retries.hedge(&mut course.tries, budget, now) {
            if let Some(meter) = self.terms.meter {
                meter.exhausted();
            }
            return None;
        }
        course.tried.extend(first);
        let mut way = self.way(course, exchange).ok()?;
        if let Some(meter) = self.terms.meter {
            meter.hedged();
        }
        way.passage = Some(passage);
        way.hedge = true;
        Some(way)
    }

    /// Finds out what follows from a run.
    fn settle<'a>(
        &self,
        ran: Ran<'a>,
        course: &mut Course,
        exchange: &mut Exchange,
    ) -> Settled<'a> {
        let outcome = match ran.outcome {
            Ok(headed) => Ok(headed),
            Err(Stopped::Held(held)) => return self.held(&held, course, exchange),
            Err(Stopped::Unconnected(failed, way, took)) => {
                match self.another_address(*way, &failed, exchange) {
                    Ok(way) => return Settled::Again(way),
                    Err(passage) => {
                        let blamed = self.dues.blamed(failed.fault, took);
                        let ended = Ended::failed(blamed, took);
                        passage.ends(&ended, Instant::now().into_std());
                        Err(failed)
                    }
                }
            }
            Err(Stopped::Connected { failed, stale }) => {
                let harmless = self.terms.harmless || changes_nothing(&self.request.head.method);
                let again = stale && harmless;
                if again && !course.was_dead && !self.dues.over() {
                    course.was_dead = true;
                    match self.way(course, exchange) {
                        Ok(mut way) => {
                            afresh(&mut way.peer);
                            let hedge = ran.hedge;
                            return Settled::Again(Way { hedge, ..way });
                        }
                        Err(nobody) => Err(nobody),
                    }
                } else {
                    Err(failed)
                }
            }
        };
        course.tried.extend(ran.pick.member());
        Settled::Ended(End {
            pick: Some(ran.pick),
            hedge: ran.hedge,
            retry_after: None,
            outcome,
        })
    }

    /// A run that was held back was none, and its target none that was tried.
    fn held<'a>(&self, held: &Held, course: &Course, exchange: &mut Exchange) -> Settled<'a> {
        exchange.attempts = exchange.attempts.saturating_sub(1);
        let before = course.tried.last();
        exchange.target = before.map(|member| Arc::clone(member.authority()));
        exchange.sticky = None;
        Settled::Ended(End {
            pick: None,
            hedge: false,
            retry_after: held.retry_after,
            outcome: Err(Failed::new(held.fault, "it was held back")),
        })
    }

    /// The same target at another address, which was not tried; else what let the attempt through.
    fn another_address(
        &self,
        way: Way,
        failed: &Failed,
        exchange: &mut Exchange,
    ) -> Result<Way, Passage> {
        let passage = way.passage.unwrap_or_default();
        let Some(target) = way.pick.target().filter(|_| nobody_there(&failed.cause)) else {
            return Err(passage);
        };
        target.avoid(&way.peer);
        let unreachable = way.unreachable + 1;
        if unreachable >= target.addresses() || self.dues.over() {
            return Err(passage);
        }
        match self.towards(Arc::clone(&way.pick), exchange) {
            None => Err(passage),
            Some(next) => Ok(Way {
                passage: Some(passage),
                unreachable,
                hedge: way.hedge,
                ..next
            }),
        }
    }

    /// Whether nothing better is to be had: an answer that is not one of those after which requests are sent again.
    fn is_good(&self, end: &End<'_>) -> bool {
        let Ok(headed) = &end.outcome else {
            return false;
        };
        let on = self.terms.retries.map(Retries::on);
        !on.is_some_and(|on| on.has_answer(headed.head.status.as_u16()))
    }

    /// Notes the end that counts.
    fn note(&self, end: &End<'_>, exchange: &mut Exchange) {
        exchange.retry_after = end.retry_after.or(exchange.retry_after);
        if let Some(pick) = &end.pick {
            self.note_target(pick, exchange);
        }
        if let Some(meter) = self.terms.meter.filter(|_| end.hedge && self.is_good(end)) {
            meter.hedge_won();
        }
    }

    /// How long to wait before the call is made again; none: this was the last time.
    fn pause(
        &self,
        answered: &Result<Answer, Failed>,
        course: &mut Course,
        exchange: &Exchange,
    ) -> Option<Duration> {
        let now = Instant::now();
        let attempted = Attempted {
            outcome: match answered {
                Ok(answer) => Ok(&answer.head),
                Err(failed) => Err(failed.fault),
            },
            grpc: None,
            repeatable: is_repeatable(&self.request.head),
            kept: Some(self.request.body.len() as u64),
            elsewhere: self.upstream.has_other(&course.tried),
            left: Some(self.dues.head.saturating_duration_since(now)),
            unix_millis: exchange.unix_millis,
        };
        let retries = self.terms.retries?;
        let now = now.into_std();
        match attempted.again(retries, &mut course.tries, self.upstream, now) {
            Again::After(pause) => Some(pause),
            Again::No => None,
            Again::Exhausted => {
                if let Some(meter) = self.terms.meter {
                    meter.exhausted();
                }
                None
            }
        }
    }
}

fn none_free(upstream: &Upstream) -> Failed {
    let (fault, why) = nobody_free(upstream);
    Failed::new(fault, why)
}
