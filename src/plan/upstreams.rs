//! Clauses of upstreams that mean something.

use crate::base::problem::{Place, Problem, Problems};
use crate::config::document::Document;
use crate::upstream::{
    BreakerSpec, ConcurrencySpec, HealthCheckSpec, LoadBalancing, OutlierSpec, RetriesSpec,
    Setting, TimeoutsSpec,
};

/// Reports what can never hold: deadlines that leave no time at all, and the like.
pub(super) fn check(document: &Document, problems: &mut Problems) {
    let defaults = &document.upstream_defaults;
    let place = Place::root().key("defaults").key("upstreams");
    balancing(defaults.load_balancing.as_ref(), &place, problems);
    health(&defaults.health_check, &place, problems);
    outlier(&defaults.outlier_detection, &place, problems);
    zeros(&defaults.timeouts, &place, problems);
    retries(&defaults.retries, &place, problems);
    breaker(&defaults.circuit_breaker, &place, problems);
    concurrency(&defaults.concurrency, &place, problems);
    for item in &document.upstreams {
        let (spec, place) = (&item.spec, &item.place);
        if let Some(sticky) = &spec.sticky {
            sticky.check(&place.key("sticky"), problems);
        }
        if let Some(connections) = &item.spec.connections {
            connections.check(&item.place.key("connections"), problems);
        }
        // What is inherited was looked at where it is written.
        if spec.load_balancing != defaults.load_balancing {
            balancing(spec.load_balancing.as_ref(), place, problems);
        }
        if spec.health_check != defaults.health_check {
            health(&spec.health_check, place, problems);
        }
        if let Some(check) = spec.health_check.on().filter(|_| !spec.is_http2()) {
            check.check_protocol(&place.key("health_check"), problems);
        }
        if spec.outlier_detection != defaults.outlier_detection {
            outlier(&spec.outlier_detection, place, problems);
        }
        if item.spec.timeouts != defaults.timeouts {
            zeros(&item.spec.timeouts, &item.place, problems);
        }
        if item.spec.retries != defaults.retries {
            retries(&item.spec.retries, &item.place, problems);
        }
        if item.spec.circuit_breaker != defaults.circuit_breaker {
            breaker(&item.spec.circuit_breaker, &item.place, problems);
        }
        if item.spec.concurrency != defaults.concurrency {
            concurrency(&item.spec.concurrency, &item.place, problems);
        }
    }
}

fn balancing(balancing: Option<&LoadBalancing>, place: &Place, problems: &mut Problems) {
    if let Some(balancing) = balancing {
        balancing.check(&place.key("load_balancing"), problems);
    }
}

fn health(health: &Setting<HealthCheckSpec>, place: &Place, problems: &mut Problems) {
    if let Some(health) = health.on() {
        health.check(&place.key("health_check"), problems);
    }
}

fn outlier(outlier: &Setting<OutlierSpec>, place: &Place, problems: &mut Problems) {
    if let Some(outlier) = outlier.on() {
        outlier.check(&place.key("outlier_detection"), problems);
    }
}

fn zeros(times: &Setting<TimeoutsSpec>, place: &Place, problems: &mut Problems) {
    for key in times.on().into_iter().flat_map(TimeoutsSpec::zeros) {
        let place = place.key("timeouts").key(key);
        let problem = Problem::error("E030", place, "no time at all");
        problems.push(problem.hint("a time of 1ms or more; to have the default, take the key out"));
    }
}

fn retries(retries: &Setting<RetriesSpec>, place: &Place, problems: &mut Problems) {
    let found = retries.on().into_iter().flat_map(RetriesSpec::mistakes);
    mistakes(found, &place.key("retries"), problems);
}

fn breaker(breaker: &Setting<BreakerSpec>, place: &Place, problems: &mut Problems) {
    let found = breaker.on().into_iter().flat_map(BreakerSpec::mistakes);
    mistakes(found, &place.key("circuit_breaker"), problems);
}

fn concurrency(spec: &Setting<ConcurrencySpec>, place: &Place, problems: &mut Problems) {
    let found = spec.on().into_iter().flat_map(ConcurrencySpec::mistakes);
    mistakes(found, &place.key("concurrency"), problems);
}

/// Reports what is wrong in a clause at `place`: the keys on the way, what is wrong, and how to mend it.
fn mistakes(
    found: impl Iterator<Item = (&'static [&'static str], String, &'static str)>,
    place: &Place,
    problems: &mut Problems,
) {
    for (keys, what, hint) in found {
        let place = keys.iter().fold(place.clone(), |at, key| at.key(key));
        problems.push(Problem::error("E030", place, what).hint(hint));
    }
}
