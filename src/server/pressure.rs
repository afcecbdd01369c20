//! Whether the process has more to hold than it should: then it takes nothing new until that is over.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::plan::PlanHandle;

/// How often it is looked at.
const EVERY: Duration = Duration::from_millis(200);
/// It is over when so much less is held: in parts of a hundred of the limit.
const OVER_PERCENT: u64 = 97;

/// Whether there is too much to hold.
#[derive(Debug, Clone, Default)]
pub(super) struct Pressure(Arc<AtomicBool>);

impl Pressure {
    /// Whether new requests are sent away.
    pub(super) fn is_high(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Looks at the memory of the process for as long as the task lives.
    pub(super) async fn watch(self, plans: Arc<PlanHandle>) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let (Ok(held), Some(limit)) = (resident(), limit()) else {
                continue;
            };
            let share = plans.load().overload.memory;
            let most = share.of(limit);
            let was = self.is_high();
            let high = held > if was { most / 100 * OVER_PERCENT } else { most };
            if high != was {
                self.0.store(high, Ordering::Relaxed);
                if high {
                    log::warn!(held, limit = most; "memory is short: new requests get 503");
                } else {
                    log::info!(held, limit = most; "there is memory again");
                }
            }
        }
    }
}

/// Bytes of memory that the process holds.
fn resident() -> io::Result<u64> {
    let text = std::fs::read("/proc/self/status")?;
    field(&text, "VmRSS:").ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Bytes of memory that the process may hold: its control group's, else the machine's.
fn limit() -> Option<u64> {
    let machine = field(&std::fs::read("/proc/meminfo").ok()?, "MemTotal:")?;
    Some(group_limit().map_or(machine, |group| group.min(machine)))
}

/// The least `memory.max` from the process's control group up to the root (cgroups version 2).
fn group_limit() -> Option<u64> {
    let groups = std::fs::read("/proc/self/cgroup").ok()?;
    let groups = String::from_utf8(groups).ok()?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mut path = std::path::PathBuf::from("/sys/fs/cgroup");
    path.push(group.trim_start_matches('/'));
    let mut least = None;
    for folder in path
        .ancestors()
        .take_while(|path| path.starts_with("/sys/fs/cgroup"))
    {
        let Ok(text) = std::fs::read(folder.join("memory.max")) else {
            continue;
        };
        let max = std::str::from_utf8(&text)
            .ok()
            .and_then(|text| text.trim().parse().ok());
        least = least.into_iter().chain(max).min();
    }
    least
}

/// The value in bytes of a line such as `VmRSS:     1234 kB`.
fn field(text: &[u8], name: &str) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// How many connections the process may have: 45 % of its descriptors, because a request takes two.
pub(super) fn connections_max() -> u32 {
    let limits = std::fs::read("/proc/self/limits").unwrap_or_default();
    let limits = String::from_utf8_lossy(&limits);
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next());
    let soft: u64 = soft.and_then(|soft| soft.parse().ok()).unwrap_or(1024);
    u32::try_from(soft / 100 * 45).unwrap_or(u32::MAX).max(16)
}
