//! How long the certificates of a plan hold.

use super::Plan;
use crate::base::problem::{Problem, Problems};
use crate::tls;

/// A certificate with less time left is warned of.
const DAYS_LEFT_MIN: i64 = 14;

impl Plan {
    /// Warns of every certificate that does not hold at `now` (seconds since 1970), or not for long.
    pub fn check_certificates(&self, now: i64, problems: &mut Problems) {
        let sites = self
            .listeners
            .iter()
            .filter_map(|it| it.entrance.tls.as_ref());
        for (place, name, validity) in sites.flat_map(|site| site.certificates()) {
            let days = validity.days_left(now);
            let what = if validity.from > now {
                format!("the certificate of `{name}` does not hold yet")
            } else if validity.until <= now {
                format!(
                    "the certificate of `{name}` is over since {} days",
                    -days - 1
                )
            } else if days < DAYS_LEFT_MIN {
                format!("the certificate of `{name}` has {days} days left")
            } else {
                continue;
            };
            let problem = Problem::warning("W050", place.clone(), what);
            problems
                .push(problem.hint("clients refuse it then: put the new one there, and reload"));
        }
    }

    /// Each certificate with the days it has left at `now`; nothing when there is none.
    #[must_use]
    pub fn certificates(&self, now: i64) -> String {
        let sites = self
            .listeners
            .iter()
            .filter_map(|it| it.entrance.tls.as_ref());
        tls::listed(&sites.collect::<Vec<_>>(), now)
    }
}
