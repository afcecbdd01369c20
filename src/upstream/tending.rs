//! An upstream's targets as they come and go: who serves is found out off the request path, and published as a whole.

use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use super::discovery::{Target, Written};
use super::health::{Check, Ill};
use super::member::{Health, Live, Member, Tally};
use super::ready::{Choice, Ready};
use super::{Duty, Upstream};

/// In so many steps a target that begins slowly comes to its weight; the first is its least.
const SLOW_STEPS: u32 = 10;
/// How long the choice stays as it is while nothing happens.
const REBUILD_MAX: Duration = Duration::from_secs(3600);

impl Upstream {
    /// How its targets are asked whether they are well.
    pub(super) fn check(&self) -> Option<Arc<Check>> {
        self.check.clone()
    }

    /// Target `index`; none while its name has no address.
    pub(super) fn target(&self, index: usize) -> Option<Arc<Target>> {
        self.connectable(self.targets.get(index)?)
    }

    fn connectable(&self, written: &Written) -> Option<Arc<Target>> {
        written.target(|addr, manner| self.peer(addr, manner))
    }

    /// Takes note of a check: the target stands as `health` says now; `ill` is what the check found wrong.
    pub(super) fn checked(&self, member: &Member, health: Health, ill: Option<&Ill>) {
        let Some(live) = self.live.get() else { return };
        live.observer
            .checked(ill.map_or(Health::Well, |ill| ill.health));
        let before = member.health();
        if before == health {
            return;
        }
        let target = member.authority();
        match (before.is_ill(), health.is_ill()) {
            (false, true) => {
                let why = ill.map_or("", |ill| ill.why.as_str());
                log::warn!(upstream:% = self.name, target:% = target, health:% = health.word(), cause:% = why; "target is not well");
            }
            (true, false) => {
                member.begin(live.now());
                log::info!(upstream:% = self.name, target:% = target; "target is well again");
            }
            _ => {}
        }
        member.set_health(health);
        live.change();
    }

    /// Takes a target out, or back in; how many requests are under way there. None where no target is called so.
    pub fn set_duty(&self, authority: &str, duty: Duty) -> Option<u32> {
        let live = self.live.get()?;
        let mut found = None;
        for written in self.targets.iter().filter(|it| *it.authority == *authority) {
            let member = written.member();
            let changed = match duty {
                Duty::Drain => member.drain(),
                Duty::Resume => member.resume(),
            };
            if changed {
                if duty == Duty::Resume {
                    member.begin(live.now());
                }
                log::info!(upstream:% = self.name, target:% = authority, drained = duty == Duty::Drain; "target drained or resumed");
            }
            found = Some(member.in_flight());
        }
        if found.is_some() {
            self.rebuild();
            live.change();
        }
        found
    }

    /// Builds the choice anew from what is known now, and publishes it. Returns how long it is right if nothing happens.
    pub(super) fn rebuild(&self) -> Duration {
        let Some(live) = self.live.get() else {
            return REBUILD_MAX;
        };
        let _building = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        let now = live.now();
        let mut due = REBUILD_MAX;
        let mut tally = Tally::default();
        let mut choices: Vec<Choice> = Vec::with_capacity(self.targets.len());
        for written in &self.targets {
            let member = written.member();
            due = due.min(self.pardon(member, live, now));
            let target = self.connectable(written);
            count(&mut tally, member, target.as_ref());
            let Some(target) = target.filter(|_| !member.is_drained()) else {
                continue;
            };
            let (step, next) = self.step(member, now);
            due = due.min(next);
            choices.push(Choice {
                target,
                weight: u32::from(written.weight) * step,
                priority: written.priority,
            });
        }
        let shared = (live, &self.connections);
        let mut ready = Ready::new(&choices, &self.choosing, self.ejecting, shared);
        if let Some(secret) = self.secret(live) {
            ready = ready.sticky(secret);
        }
        tally.panics = ready.panics();
        self.publish(ready, live, &tally);
        due
    }

    fn publish(&self, ready: Ready, live: &Live, tally: &Tally) {
        let before = self.ready.load_full();
        let was = before.map(|before| (before.is_empty(), before.panics()));
        match (was, ready.is_empty(), ready.panics()) {
            (Some((false, _)), true, _) => {
                log::error!(upstream:% = self.name; "no target is left");
            }
            (Some((true, _)), false, _) => {
                log::info!(upstream:% = self.name; "there is a target again");
            }
            (Some((_, false)), _, true) => {
                log::warn!(upstream:% = self.name, serving = tally.serving; "few targets are left, all that take connections get requests");
            }
            (Some((_, true)), _, false) => {
                log::info!(upstream:% = self.name, serving = tally.serving; "enough targets are left");
            }
            _ => {}
        }
        self.ready.store(Some(Arc::new(ready)));
        live.observer.stand(tally);
    }

    /// Brings a target back whose ejection is over; how long until it is.
    fn pardon(&self, member: &Member, live: &Live, now: u64) -> Duration {
        let Some(left) = member.ejected_for(now) else {
            return REBUILD_MAX;
        };
        if left.is_zero() || self.ejecting.is_none() {
            member.come_back(now);
            log::info!(upstream:% = self.name, target:% = member.authority(); "target is no more ejected");
            live.change();
            return REBUILD_MAX;
        }
        left
    }

    /// How far a target has come that began slowly, of [`SLOW_STEPS`], and how long until the next step.
    fn step(&self, member: &Member, now: u64) -> (u32, Duration) {
        let whole = self.choosing.slow_start;
        let served = member.serves_for(now).filter(|served| *served < whole);
        let Some(served) = served else {
            return (SLOW_STEPS, REBUILD_MAX);
        };
        let one = whole / SLOW_STEPS;
        let done = served.as_nanos() / one.as_nanos().max(1);
        let done = u32::try_from(done)
            .unwrap_or(SLOW_STEPS)
            .min(SLOW_STEPS - 1);
        let next = (one * (done + 1)).saturating_sub(served);
        (done + 1, next.max(one / SLOW_STEPS))
    }
}

fn count(tally: &mut Tally, member: &Member, target: Option<&Arc<Target>>) {
    let kind = if member.is_drained() {
        &mut tally.drained
    } else if target.is_none() {
        &mut tally.unresolved
    } else if member.health().is_ill() {
        &mut tally.unhealthy
    } else if member.is_ejected() {
        &mut tally.ejected
    } else {
        &mut tally.serving
    };
    *kind += 1;
}

/// Builds the choice anew whenever something is different, until the upstream is gone.
pub(super) async fn keep(upstream: Weak<Upstream>, mut changes: tokio::sync::watch::Receiver<()>) {
    loop {
        let Some(due) = upstream.upgrade().map(|upstream| upstream.rebuild()) else {
            return;
        };
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(due) => {}
        }
    }
}
