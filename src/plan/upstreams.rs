//! Numbers of upstreams that mean something.

use crate::base::problem::{Place, Problem, Problems};
use crate::config::document::Document;
use crate::upstream::{Setting, TimeoutsSpec};

/// Reports deadlines that leave no time at all.
pub(super) fn check(document: &Document, problems: &mut Problems) {
    let defaults = &document.upstream_defaults.timeouts;
    let place = Place::root().key("defaults").key("upstreams");
    zeros(defaults, &place, problems);
    for item in &document.upstreams {
        let (spec, place) = (&item.spec, &item.place);
        if let Some(balancing) = &spec.load_balancing {
            balancing.check(&place.key("load_balancing"), problems);
        }
        if let Some(sticky) = &spec.sticky {
            sticky.check(&place.key("sticky"), problems);
        }
        if let Some(check) = spec.health_check.on() {
            check.check(&place.key("health_check"), spec.is_http2(), problems);
        }
        if let Some(outlier) = spec.outlier_detection.on() {
            outlier.check(&place.key("outlier_detection"), problems);
        }
        // What is inherited was looked at where it is written.
        if item.spec.timeouts != *defaults {
            zeros(&item.spec.timeouts, &item.place, problems);
        }
    }
}

fn zeros(times: &Setting<TimeoutsSpec>, place: &Place, problems: &mut Problems) {
    for key in times.on().into_iter().flat_map(TimeoutsSpec::zeros) {
        let place = place.key("timeouts").key(key);
        let problem = Problem::error("E030", place, "no time at all");
        problems.push(problem.hint("a time of 1ms or more; to have the default, take the key out"));
    }
}
