//! Active checks: each target is asked on its own whether it is well, as long as its upstream is there.

mod prober;
mod spec;

use std::ops::RangeInclusive;
use std::sync::{Arc, Weak};
use std::time::Duration;

use http::HeaderValue;
use http::uri::PathAndQuery;

pub use prober::Prober;
pub use spec::{ExpectSpec, HealthCheckSpec, StatusRange};

use super::Upstream;
use super::member::Health;

/// How targets are asked.
#[derive(Debug)]
pub(super) struct Check {
    kind: Kind,
    interval: Duration,
    timeout: Duration,
    rise: u16,
    fall: u16,
}

#[derive(Debug)]
enum Kind {
    Http {
        path: PathAndQuery,
        host: Option<HeaderValue>,
        statuses: Box<[RangeInclusive<u16>]>,
        body: Option<Box<str>>,
    },
    Tcp,
    Grpc,
}

/// What is wrong with a target.
#[derive(Debug)]
pub(super) struct Ill {
    /// Whether anybody took the connection.
    pub(super) health: Health,
    pub(super) why: String,
}

impl Ill {
    /// Nobody took the connection.
    #[expect(clippy::needless_pass_by_value, reason = "errors come by value")]
    fn gone(why: impl ToString) -> Self {
        Self {
            health: Health::Gone,
            why: why.to_string(),
        }
    }

    /// It answers, but not as it should.
    #[expect(clippy::needless_pass_by_value, reason = "errors come by value")]
    fn failing(why: impl ToString) -> Self {
        Self {
            health: Health::Failing,
            why: why.to_string(),
        }
    }
}

/// Checks of one kind in a row.
#[derive(Debug, Default)]
struct Row {
    good: u16,
    bad: u16,
}

impl Row {
    /// How a target stands that stood as `before`, after one more check.
    fn after(&mut self, found: Option<Health>, before: Health, check: &Check) -> Health {
        let Some(ill) = found else {
            self.bad = 0;
            self.good = self.good.saturating_add(1);
            let down = matches!(before, Health::Failing | Health::Gone);
            return if down && self.good < check.rise {
                before
            } else {
                Health::Well
            };
        };
        self.good = 0;
        self.bad = self.bad.saturating_add(1);
        match before {
            // What is wrong with it may change while it is out.
            Health::Failing | Health::Gone => ill,
            Health::Unknown | Health::Well if self.bad >= check.fall => ill,
            Health::Unknown | Health::Well => before,
        }
    }
}

impl Check {
    /// A pause that many gateways and many targets do not share.
    fn pause(&self) -> Duration {
        self.interval.mul_f64(0.9 + 0.2 * fastrand::f64())
    }
}

/// Asks target `index` again and again, until the upstream is gone.
pub(super) async fn watch(upstream: Weak<Upstream>, index: usize, prober: Arc<Prober>) {
    let mut row = Row::default();
    let Some(check) = upstream.upgrade().and_then(|upstream| upstream.check()) else {
        return;
    };
    // All of an upstream's targets would be asked at once.
    tokio::time::sleep(check.interval.mul_f64(fastrand::f64() / 10.0)).await;
    loop {
        let Some(target) = upstream.upgrade().map(|upstream| upstream.target(index)) else {
            return;
        };
        if let Some(target) = target {
            let found = prober.probe(&target, &check).await;
            let Some(upstream) = upstream.upgrade() else {
                return;
            };
            let ill = found.err();
            let before = target.member().health();
            let health = row.after(ill.as_ref().map(|ill| ill.health), before, &check);
            upstream.checked(target.member(), health, ill.as_ref());
        }
        tokio::time::sleep(check.pause()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rise: u16, fall: u16) -> Check {
        Check {
            kind: Kind::Tcp,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(1),
            rise,
            fall,
        }
    }

    fn run(begin: Health, checks: &[Option<Health>], rule: &Check) -> Vec<Health> {
        let (mut row, mut health) = (Row::default(), begin);
        let each = checks.iter().map(|found| {
            health = row.after(*found, health, rule);
            health
        });
        each.collect()
    }

    #[test]
    fn so_many_in_a_row_change_how_a_target_stands() {
        use Health::{Failing, Gone, Unknown, Well};
        let rule = check(2, 3);
        let ill = Some(Failing);
        assert_eq!(
            run(Unknown, &[ill, ill, ill], &rule),
            [Unknown, Unknown, Failing]
        );
        assert_eq!(run(Unknown, &[None], &rule), [Well]);
        assert_eq!(run(Well, &[ill, ill, None, ill, ill], &rule), [Well; 5]);
        assert_eq!(
            run(Failing, &[None, ill, None, None], &rule),
            [Failing, Failing, Failing, Well]
        );
        assert_eq!(
            run(Failing, &[Some(Gone), ill, None], &rule),
            [Gone, Failing, Failing]
        );
        assert_eq!(run(Well, &[Some(Gone)], &check(1, 1)), [Gone]);
    }

    #[test]
    fn pauses_differ_by_a_tenth() {
        let rule = check(1, 1);
        for _ in 0..1000 {
            let pause = rule.pause().as_secs_f64();
            assert!((4.5..=5.5).contains(&pause), "{pause}");
        }
    }
}
