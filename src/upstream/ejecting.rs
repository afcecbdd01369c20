//! Passive checks: a target whose answers are errors, one after the other, gets no requests for a while (Envoy's outlier detection).

use std::num::NonZeroU32;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::problem::{Place, Problem, Problems};
use crate::base::units::{Share, Span};

/// So many errors in a row are enough.
const ERRORS: u32 = 5;
/// For how long a target is ejected the first time.
const BASE: Duration = Duration::from_secs(30);
/// The longest ejection.
const LONGEST: Duration = Duration::from_secs(300);
/// How many may be ejected at the same time.
const SHARE: Share = Share::from_percent(50);
/// After so long without another ejection one is forgiven.
const INTERVAL: Duration = Duration::from_secs(10);

/// Targets whose answers are errors, one after the other, get no requests for a while. An error is a status of 5xx (of gRPC:
/// what stands for one), and what is no answer at all: no connection, a broken one, silence, no HTTP.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutlierSpec {
    /// So many errors in a row eject a target. Default 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consecutive_errors: Option<NonZeroU32>,
    /// For how long, times how often it was ejected before. Default `30s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_ejection_time: Option<Span>,
    /// The longest ejection. Default `5m`, or `base_ejection_time` where that is longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_ejection_time: Option<Span>,
    /// The largest share of the targets that may be ejected at the same time; one may be in any case, unless it is `0%` or
    /// nobody else is left. Default `50%`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_ejected: Option<Share>,
    /// For each of these in which a target serves, one of its ejections is forgiven. Default `10s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Span>,
}

impl OutlierSpec {
    /// Reports what cannot be, where it stands at `place`.
    pub fn check(&self, place: &Place, problems: &mut Problems) {
        for (key, span) in [
            ("base_ejection_time", &self.base_ejection_time),
            ("max_ejection_time", &self.max_ejection_time),
            ("interval", &self.interval),
        ] {
            if span.is_some_and(|span| span.duration().is_zero()) {
                let problem = Problem::error("E030", place.key(key), "no time at all");
                problems.push(
                    problem.hint("a time of 1ms or more; to have the default, take the key out"),
                );
            }
        }
    }

    pub(super) fn compile(&self) -> Ejecting {
        let or = |span: Option<Span>, default| span.map_or(default, |span: Span| span.duration());
        let base = or(self.base_ejection_time, BASE);
        Ejecting {
            errors: self.consecutive_errors.map_or(ERRORS, NonZeroU32::get),
            base,
            longest: or(self.max_ejection_time, LONGEST.max(base)),
            share: self.max_ejected.unwrap_or(SHARE),
            interval: or(self.interval, INTERVAL),
        }
    }
}

/// The same, as run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ejecting {
    pub(super) errors: u32,
    base: Duration,
    longest: Duration,
    share: Share,
    interval: Duration,
}

impl Ejecting {
    /// Whether one more may be ejected of `all`, where `ejected` are.
    pub(super) fn allows(&self, ejected: usize, all: usize) -> bool {
        if self.share.parts() == 0 {
            return false;
        }
        let most = self.share.of(all as u64).max(1);
        ((ejected + 1) as u64) <= most
    }

    /// How often a target counts as ejected that was `times` before and has served for `served` since.
    pub(super) fn times(&self, times: u32, served: Duration) -> u32 {
        let forgiven = served.as_nanos() / self.interval.as_nanos().max(1);
        times
            .saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX))
            .saturating_add(1)
    }

    /// For how long it is ejected the `times`th time.
    pub(super) fn span(&self, times: u32) -> Duration {
        self.base.saturating_mul(times).min(self.longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_ejected_often_is_ejected_for_long_and_forgiven_by_and_by() {
        let rules = OutlierSpec::default().compile();
        assert_eq!(rules.span(1), Duration::from_secs(30));
        assert_eq!(rules.span(3), Duration::from_secs(90));
        assert_eq!(rules.span(1000), Duration::from_secs(300));
        assert_eq!(rules.times(0, Duration::ZERO), 1);
        assert_eq!(rules.times(3, Duration::from_secs(9)), 4);
        assert_eq!(rules.times(3, Duration::from_secs(20)), 2);
        assert_eq!(rules.times(3, Duration::from_secs(3600)), 1);
    }

    #[test]
    fn half_may_be_ejected_and_one_in_any_case() {
        let rules = OutlierSpec::default().compile();
        for (all, most) in [(1, 1), (2, 1), (3, 1), (4, 2), (10, 5), (1000, 500)] {
            assert!(
                rules.allows(most - 1, all) && !rules.allows(most, all),
                "{all}"
            );
        }
        let never = OutlierSpec {
            max_ejected: Some(Share::from_percent(0)),
            ..OutlierSpec::default()
        };
        assert!(!never.compile().allows(0, 10));
    }
}
