//! What authorities say of the certificates of a plan: asked in the background, again before it is over.

use std::sync::Arc;
use std::time::Duration;

use super::Plan;
use crate::base::clock::SharedClock;
use crate::telemetry::{OcspMetrics, OcspResult, Telemetry};
use crate::tls::{Answer, Staple, Unanswered, Unusable};
use crate::upstream::Names;

/// So many seconds after a first failure somebody is asked again, then twice as many each time …
const RETRY_MIN: i64 = 10;
/// … up to so many.
const RETRY_MAX: i64 = 3600;
/// The time of day is looked at every so many seconds: an answer is not shown after its time, also where the machine slept.
const LOOK: u8 = 5;

/// What was said to the plan before still holds.
pub(super) fn inherit(plan: &Plan, old: &Plan) {
    for staple in staples(plan) {
        for before in staples(old) {
            staple.inherit(before);
        }
    }
}

fn staples(plan: &Plan) -> impl Iterator<Item = &Arc<Staple>> {
    let listeners = plan.listeners.iter();
    let sites = listeners.filter_map(|listener| listener.entrance.tls.as_ref());
    sites.flat_map(|site| site.staples())
}

/// A task for each certificate that somebody is asked about.
pub(super) fn keep<'a>(
    plan: &'a Plan,
    names: &'a Arc<dyn Names>,
    telemetry: &'a Telemetry,
    clock: &'a SharedClock,
) -> impl Iterator<Item = impl Future<Output = ()> + Send + 'static + use<>> + 'a {
    let served = plan.listeners.iter().filter(|listener| !listener.retired);
    let sites = served.filter_map(|listener| Some((listener, listener.entrance.tls.as_ref()?)));
    sites.flat_map(move |(listener, site)| {
        site.staples().iter().map(move |staple| {
            let keeper = Keeper {
                staple: Arc::clone(staple),
                listener: Arc::clone(&listener.name),
                names: Arc::clone(names),
                clock: Arc::clone(clock),
                metrics: telemetry.ocsp(&listener.name),
                failures: 0,
                due: staple.answer().map_or(i64::MIN, |answer| answer.again()),
            };
            keeper.run()
        })
    })
}

/// Keeps one answer fresh.
struct Keeper {
    staple: Arc<Staple>,
    listener: Arc<str>,
    names: Arc<dyn Names>,
    clock: SharedClock,
    metrics: OcspMetrics,
    /// One after the other.
    failures: u32,
    /// When to ask again, in seconds since 1970.
    due: i64,
}

/// Why there is no new answer.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("its address is not known: {0}")]
    Unknown(crate::upstream::NameError),
    #[error(transparent)]
    Unanswered(#[from] Unanswered),
    #[error(transparent)]
    Unusable(#[from] Unusable),
}

impl Failed {
    const fn result(&self) -> OcspResult {
        match self {
            Self::Unknown(_) | Self::Unanswered(Unanswered::Unreachable(_)) => {
                OcspResult::Unreachable
            }
            Self::Unanswered(Unanswered::Refused(_)) | Self::Unusable(Unusable::Refused(_)) => {
                OcspResult::Refused
            }
            Self::Unusable(Unusable::Invalid(_)) => OcspResult::Invalid,
        }
    }
}

impl Keeper {
    async fn run(mut self) {
        loop {
            self.look().await;
            tokio::time::sleep(Duration::from_secs(LOOK.into())).await;
        }
    }

    /// Asks, if it is time to.
    async fn look(&mut self) {
        self.staple.expire(self.now() + i64::from(LOOK));
        if self.now() >= self.due {
            let said = self.ask().await;
            self.heard(said);
        }
    }

    fn now(&self) -> i64 {
        self.clock.unix_millis().div_euclid(1000)
    }

    async fn ask(&self) -> Result<Vec<u8>, Failed> {
        let responder = self.staple.responder();
        let addresses = match responder.host().parse() {
            Ok(ip) => vec![ip],
            Err(_) => {
                let found = self.names.look_up(responder.host()).await;
                found.map_err(Failed::Unknown)?.addresses
            }
        };
        let question = self.staple.question();
        let question = question
            .map_err(|_error| Unusable::Invalid("the certificate cannot be asked about"))?;
        Ok(responder.ask(&addresses, &question).await?)
    }

    /// Takes an answer that is as it should be; any other leaves what was known before.
    fn heard(&mut self, said: Result<Vec<u8>, Failed>) {
        let now = self.now();
        let known = self.staple.answer();
        let result = match said.and_then(|said| Ok(self.staple.check(&said, now)?)) {
            Ok(answer) => {
                let (again, revoked) = (answer.again(), answer.is_revoked());
                let taken = self.staple.take(answer).map_err(Failed::from);
                taken.map(|()| (again, revoked))
            }
            Err(error) => Err(error),
        };
        let (listener, host) = (&self.listener, self.staple.responder().host());
        match result {
            Ok((again, revoked)) => {
                (self.failures, self.due) = (0, again);
                // Clients are told all the same: to keep it from them would be to work against their safety.
                if revoked && !known.as_deref().is_some_and(Answer::is_revoked) {
                    log::error!(listener:% = listener, responder:% = host; "a certificate is revoked: replace it");
                }
                self.metrics.asked(if revoked {
                    OcspResult::Revoked
                } else {
                    OcspResult::Good
                });
            }
            Err(error) => {
                let kept = known.is_some();
                log::warn!(listener:% = listener, responder:% = host, kept, error:% = error; "no OCSP answer");
                self.due = now + retry(self.failures);
                self.failures = self.failures.saturating_add(1);
                self.metrics.asked(error.result());
            }
        }
    }
}

/// How long to wait after so many failures before.
fn retry(failures: u32) -> i64 {
    let factor = 1_i64.checked_shl(failures).unwrap_or(i64::MAX);
    RETRY_MIN.saturating_mul(factor.max(1)).min(RETRY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::{Clock as _, ManualClock};
    use crate::tls::Certificate;
    use crate::upstream::SystemNames;

    const PEM: &[u8] = include_bytes!("../../tests/data/tls/a.pem");
    const KEY: &[u8] = include_bytes!("../../tests/data/tls/a.key");
    /// Of that certificate, from November 2026 to June 2125.
    const GOOD: &[u8] = include_bytes!("../../tests/data/tls/a.ocsp");
    /// In January 2030.
    const THEN: i64 = 1_893_456_000;
    /// When the answer is over.
    const OVER: i64 = 4_905_737_474;

    fn keeper(now: i64) -> (Keeper, Arc<ManualClock>) {
        let certificate = Certificate::read(PEM, KEY).unwrap();
        let clock = Arc::new(ManualClock::at(now * 1000));
        let telemetry = Telemetry::new(&Default::default()).unwrap();
        let keeper = Keeper {
            staple: Arc::new(Staple::new(&certificate).unwrap()),
            listener: "public".into(),
            names: Arc::new(SystemNames::new()),
            clock: clock.clone(),
            metrics: telemetry.ocsp("public"),
            failures: 0,
            due: i64::MIN,
        };
        (keeper, clock)
    }

    fn silent() -> Result<Vec<u8>, Failed> {
        Err(Unanswered::Unreachable(std::io::ErrorKind::TimedOut.into()).into())
    }

    #[test]
    fn it_is_asked_again_when_half_of_the_time_is_left() {
        let (mut keeper, clock) = keeper(THEN);
        keeper.heard(Ok(GOOD.to_vec()));
        let first = keeper.staple.answer().unwrap();
        assert_eq!(keeper.due, THEN + (OVER - THEN) / 2);
        clock.advance(Duration::from_secs(3600));
        keeper.heard(Ok(GOOD.to_vec()));
        assert_eq!(keeper.due, THEN + 3600 + (OVER - THEN - 3600) / 2);
        assert!(!first.is_revoked());
    }

    #[test]
    fn the_last_good_answer_is_kept_until_it_is_over() {
        let (mut keeper, clock) = keeper(THEN);
        keeper.heard(Ok(GOOD.to_vec()));
        let good = keeper.staple.answer();
        assert!(good.is_some());
        let mut garbled = GOOD.to_vec();
        *garbled.last_mut().unwrap() ^= 1;
        for said in [
            silent(),
            Ok(b"nonsense".to_vec()),
            Ok(garbled),
            Ok(Vec::new()),
        ] {
            keeper.heard(said);
            assert_eq!(keeper.staple.answer(), good);
        }
        let left = u64::try_from(OVER - THEN).unwrap();
        clock.advance(Duration::from_secs(left - 60));
        keeper.staple.expire(keeper.now());
        assert_eq!(keeper.staple.answer(), good);
        clock.advance(Duration::from_secs(60));
        keeper.staple.expire(keeper.now());
        assert_eq!(keeper.staple.answer(), None);
        // And is not taken any more.
        keeper.heard(Ok(GOOD.to_vec()));
        assert_eq!(keeper.staple.answer(), None);
    }

    #[test]
    fn an_answer_of_the_future_or_the_past_is_not_taken() {
        for now in [1_700_000_000, OVER, OVER + 1] {
            let (mut keeper, _) = keeper(now);
            keeper.heard(Ok(GOOD.to_vec()));
            assert_eq!(keeper.staple.answer(), None, "{now}");
        }
    }

    #[test]
    fn who_does_not_answer_is_asked_less_and_less_often() {
        let (mut keeper, clock) = keeper(THEN);
        let mut waits = Vec::new();
        for _ in 0..11 {
            keeper.heard(silent());
            waits.push(keeper.due - clock.unix_millis() / 1000);
        }
        assert_eq!(waits[..4], [10, 20, 40, 80]);
        assert_eq!(waits[10], RETRY_MAX);
        assert_eq!(retry(u32::MAX), RETRY_MAX);
        keeper.heard(Ok(GOOD.to_vec()));
        keeper.heard(silent());
        assert_eq!(keeper.due - THEN, 10);
    }
}
