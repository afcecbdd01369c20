//! The tokens that upstreams are shown: asked for in the background, again before the last one ends.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use pingora::server::configuration::ServerConf;
use tokio::time::{Instant, timeout_at};

use super::Plan;
use crate::base::clock::SharedClock;
use crate::base::forwarded::Scheme;
use crate::base::task::{Spawner, TaskGuard};
use crate::call::{self, Request, Terms, Transport};
use crate::exchange::{Exchange, Fault, Headers as _, RequestHead};
use crate::upstream::{Ask, Names, Outside, Timeouts, Tokens, Unobserved, Unusable, Upstream};

/// How long start-up waits for first tokens.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long an authority may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// The longest answer of one.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;
/// After a first failure somebody is asked again so soon, then twice as late each time …
const RETRY_MIN: Duration = Duration::from_secs(1);
/// … up to this; a token that targets do not take is asked for again no sooner either.
const RETRY_MAX: Duration = Duration::from_secs(30);
/// The time of day is looked at so often: a token is not late where the machine slept.
const LOOK: Duration = Duration::from_secs(5);
/// So many connections to authorities are kept.
const CONNECTIONS_MAX: usize = 8;

/// Why there is no new token.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("it could not be asked: {}", .0.code())]
    Unasked(Fault),
    #[error(transparent)]
    Unusable(#[from] Unusable),
}

/// Tokens that still hold are taken over.
pub(super) fn inherit(plan: &Plan, old: &Plan) {
    for upstream in &plan.upstreams {
        let before = old.upstreams.iter().find(|it| it.name() == upstream.name());
        if let (Some(tokens), Some(before)) = (upstream.tokens(), before.and_then(|it| it.tokens()))
        {
            tokens.inherit(before);
        }
    }
}

/// A task for each upstream with tokens; waits a little for the first ones.
pub(super) async fn start(
    plan: &Plan,
    names: &Arc<dyn Names>,
    spawner: &Spawner,
    clock: &SharedClock,
) -> Vec<TaskGuard> {
    let mut guards = Vec::new();
    let with_tokens = || plan.upstreams.iter().filter(|it| it.tokens().is_some());
    if with_tokens().next().is_none() {
        return guards;
    }
    let calls = Arc::new(call::Http::new(&ServerConf {
        upstream_keepalive_pool_size: CONNECTIONS_MAX,
        ..ServerConf::default()
    }));
    let due = Instant::now() + PATIENCE;
    for upstream in with_tokens() {
        let Some(tokens) = upstream.tokens() else {
            continue;
        };
        let outside = Outside {
            names,
            spawner,
            clock,
            prober: &plan.prober,
            // The upstream's own targets are counted by its name.
            observer: Arc::new(Unobserved),
            patience: PATIENCE,
        };
        guards.extend(tokens.endpoint().start(&outside).await);
        let keeper = Keeper {
            upstream: Arc::clone(upstream),
            calls: Arc::clone(&calls),
            clock: Arc::clone(clock),
            failures: 0,
        };
        guards.push(spawner.spawn(keeper.run()));
    }
    for tokens in with_tokens().filter_map(|it| it.tokens()) {
        // Whoever is late is waited for by nobody: its upstream has no credential until then.
        drop(timeout_at(due, tokens.asked()).await);
    }
    guards
}

/// Keeps one token fresh.
struct Keeper {
    upstream: Arc<Upstream>,
    calls: Arc<call::Http>,
    clock: SharedClock,
    /// One after the other.
    failures: u32,
}

impl Keeper {
    async fn run(mut self) {
        let upstream = Arc::clone(&self.upstream);
        let Some(tokens) = upstream.tokens() else {
            return;
        };
        let now = self.clock.unix_millis();
        let inherited = tokens
            .until_millis()
            .map(|until| until.saturating_sub(now) / 5 * 4);
        let mut due = inherited.map_or(now, |left| now.saturating_add(left));
        loop {
            let now = self.clock.unix_millis();
            if now >= due {
                due = now.saturating_add(millis(self.ask(tokens).await));
                tokens.was_asked();
            }
            let left = due.saturating_sub(self.clock.unix_millis());
            let left = Duration::from_millis(u64::try_from(left).unwrap_or_default());
            tokio::select! {
                () = tokio::time::sleep(left.min(LOOK)) => {}
                () = tokens.doubted() => {
                    due = due.min(now.saturating_add(millis(RETRY_MAX)));
                }
            }
        }
    }

    /// Asks; says how long nobody needs to be asked again.
    async fn ask(&mut self, tokens: &Tokens) -> Duration {
        let name = self.upstream.name();
        let answered = self.call(tokens).await;
        let taken = answered.and_then(|answer| {
            let status = answer.head.status.as_u16();
            Ok(tokens.take(status, &answer.body, self.clock.unix_millis())?)
        });
        match taken {
            Ok(life) => {
                self.failures = 0;
                log::info!(upstream:% = name, seconds = life.as_secs(); "a new token");
                // With a fifth of it left there is time for failures.
                (life * 4 / 5).max(RETRY_MIN)
            }
            Err(error) => {
                let kept = tokens.header(self.clock.unix_millis()).is_some();
                log::warn!(upstream:% = name, kept, error:% = error; "no new token");
                let wait = retry(self.failures);
                self.failures = self.failures.saturating_add(1);
                wait
            }
        }
    }

    async fn call(&self, tokens: &Tokens) -> Result<call::Answer, Failed> {
        let (header, body) = tokens.question();
        let head = head(tokens, header).ok_or(Failed::Unasked(Fault::Internal))?;
        let request = Request {
            head,
            body: Bytes::from(body),
        };
        let now = self.clock.instant();
        let terms = Terms {
            ours: true,
            harmless: false,
            times: Timeouts {
                total: Some(ANSWER_MAX),
                ..Timeouts::default()
            },
            since: now,
            answer_max: ANSWER_BYTES_MAX,
            breaker: None,
            retries: None,
            meter: None,
            ask: Ask::default(),
        };
        let mut own = Exchange::new(now, self.clock.unix_millis(), Scheme::Https);
        let transport = Transport::Http(&self.calls);
        let asked = transport.call(tokens.endpoint(), &request, &terms, &mut own);
        asked.await.map_err(|failed| Failed::Unasked(failed.fault))
    }
}

fn head(tokens: &Tokens, authorization: Option<HeaderValue>) -> Option<RequestHead> {
    let mut head = RequestHead::build("POST", tokens.path().as_bytes(), Some(4)).ok()?;
    let host = tokens.endpoint().authorities().next()?;
    head.set(&HOST, HeaderValue::from_str(host).ok()?);
    let form = HeaderValue::from_static("application/x-www-form-urlencoded");
    head.set(&CONTENT_TYPE, form);
    head.set(&ACCEPT, HeaderValue::from_static("application/json"));
    if let Some(authorization) = authorization {
        head.set(&AUTHORIZATION, authorization);
    }
    Some(head)
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// How long to wait after so many failures before.
fn retry(failures: u32) -> Duration {
    RETRY_MIN
        .saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX))
        .min(RETRY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gives_no_token_is_asked_less_and_less_often() {
        let waits: Vec<u64> = (0..7).map(|failures| retry(failures).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(retry(u32::MAX), RETRY_MAX);
    }
}
