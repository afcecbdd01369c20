//! What breakers tell about themselves, and what they are told to be.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value as Json, json};

use crate::base::control::BreakerWish;
use crate::plan::Plan;
use crate::upstream::{Breaker, BreakerState, Wish};

/// One breaker, for people and programs.
pub(super) fn told(breaker: &Arc<Breaker>, now: Instant) -> Json {
    let told = breaker.told(now);
    let (requests, errors, slow) = told.counted;
    let mode = match told.wish {
        Wish::Auto => "auto",
        Wish::Open | Wish::Closed => "forced",
    };
    let left = told.opens_in.map(|left| left.as_millis().div_ceil(1000));
    json!({
        "name": breaker.name(),
        "route": breaker.route().map(|route| &**route),
        "upstream": &**breaker.upstream(),
        "state": told.state.name(),
        "mode": mode,
        "requests": requests,
        "errors": errors,
        "slow": slow,
        "half_open_in_seconds": left.and_then(|left| u64::try_from(left).ok()),
    })
}

/// Tells the breaker of this name what to be.
pub(super) fn set(plan: &Plan, name: &str, wish: BreakerWish, now: Instant) -> Option<Json> {
    let mut found = None;
    // A route that two listeners serve by other rules has two of one name.
    for breaker in plan.breakers().filter(|breaker| breaker.name() == name) {
        breaker.wish(match wish {
            BreakerWish::Open => Wish::Open,
            BreakerWish::Close => Wish::Closed,
            BreakerWish::Auto => Wish::Auto,
        });
        found.get_or_insert_with(|| told(breaker, now));
    }
    found
}

/// The state of every breaker, as a number: what is told when metrics are read.
pub(super) fn states(plan: &Plan, now: Instant) -> Vec<(String, String, i64)> {
    let state = |breaker: &Arc<Breaker>| match breaker.told(now).state {
        BreakerState::Closed => 0,
        BreakerState::HalfOpen => 1,
        BreakerState::Open => 2,
    };
    let all = plan.breakers().map(|breaker| {
        let route = breaker.route().map_or("", |route| &**route);
        (
            route.to_owned(),
            breaker.upstream().to_string(),
            state(breaker),
        )
    });
    all.collect()
}
