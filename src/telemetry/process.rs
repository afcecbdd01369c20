//! The process as Linux counts it: processor time, memory, descriptors; read whenever the metrics are.

use std::io::Read as _;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge};

/// In what `/proc/self/stat` counts processor time: Linux shows a hundredth of a second to every program.
const TICKS_PER_SECOND: f64 = 100.0;
/// The longest text of `/proc` that is read.
const PROC_BYTES_MAX: u64 = 16 * 1024;

/// The metrics of the process, under the names that all Prometheus clients give them.
pub(super) struct Process {
    cpu: Counter,
    memory: Gauge,
    descriptors: Gauge,
    descriptors_max: Gauge,
}

/// What was read of the process; what cannot be read is not told.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct Seen {
    cpu_seconds: Option<f64>,
    memory_bytes: Option<f64>,
    descriptors: Option<f64>,
    descriptors_max: Option<f64>,
}

impl Process {
    pub(super) fn new() -> Result<Self, prometheus::Error> {
        Ok(Self {
            cpu: Counter::new("process_cpu_seconds_total", "Processor time used")?,
            memory: Gauge::new("process_resident_memory_bytes", "Memory in use")?,
            descriptors: Gauge::new("process_open_fds", "File descriptors that are open")?,
            descriptors_max: Gauge::new("process_max_fds", "File descriptors that may be open")?,
        })
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        let gauges = [&self.memory, &self.descriptors, &self.descriptors_max];
        let mut all = self.cpu.desc();
        all.extend(gauges.into_iter().flat_map(Collector::desc));
        all
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let seen = Seen::now();
        let mut all = Vec::new();
        if let Some(seconds) = seen.cpu_seconds {
            // Two may ask at once: the counter only ever grows.
            self.cpu.inc_by((seconds - self.cpu.get()).max(0.0));
            all.extend(self.cpu.collect());
        }
        for (gauge, value) in [
            (&self.memory, seen.memory_bytes),
            (&self.descriptors, seen.descriptors),
            (&self.descriptors_max, seen.descriptors_max),
        ] {
            if let Some(value) = value {
                gauge.set(value);
                all.extend(gauge.collect());
            }
        }
        all
    }
}

impl Seen {
    fn now() -> Self {
        let mut seen = Self::default();
        if let Some(status) = proc_text("status") {
            let kib = field(&status, "VmRSS:");
            seen.memory_bytes = kib.map(|kib| kib * 1024.0);
        }
        seen.cpu_seconds = proc_text("stat").as_deref().and_then(cpu_seconds);
        let limits = proc_text("limits");
        seen.descriptors_max = limits.and_then(|text| field(&text, "Max open files"));
        // The descriptor that lists them is one of them.
        let open = std::fs::read_dir("/proc/self/fd").ok();
        let open = open.and_then(|all| u32::try_from(all.count()).ok());
        seen.descriptors = open.map(|open| f64::from(open.saturating_sub(1)));
        seen
    }
}

fn proc_text(name: &str) -> Option<String> {
    let file = std::fs::File::open(format!("/proc/self/{name}")).ok()?;
    let mut text = String::new();
    file.take(PROC_BYTES_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

/// The first number behind `name`, at the beginning of a line.
fn field(text: &str, name: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

/// Time in our own code and in the kernel. The name of the process stands in parentheses and may hold anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    // `utime` and `stime` are the 14th and 15th of all, the first after the name is the third.
    let mut times = rest.split_ascii_whitespace().skip(11);
    let (user, system): (f64, f64) = (times.next()?.parse().ok()?, times.next()?.parse().ok()?);
    Some((user + system) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::{Seen, cpu_seconds, field};

    #[test]
    fn a_process_with_a_strange_name_is_read() {
        let stat = "1 (a) b) S 0 1 1 0 -1 4194560 2 3 4 5 150 250 0 0 20 0 2 0 9 1 2 3";
        assert_eq!(cpu_seconds(stat), Some(4.0));
        assert_eq!(cpu_seconds("1 (a"), None);
    }

    #[test]
    fn numbers_are_found_by_their_name() {
        let text = "Name:\tx\nVmRSS:\t   12 kB\nMax open files   1024  4096 files\n";
        assert_eq!(field(text, "VmRSS:"), Some(12.0));
        assert_eq!(field(text, "Max open files"), Some(1024.0));
        assert_eq!(field(text, "VmSwap:"), None);
    }

    #[test]
    fn this_process_has_every_value() {
        let seen = Seen::now();
        assert!(seen.memory_bytes.is_some_and(|bytes| bytes > 1e5));
        assert!(seen.descriptors.is_some_and(|open| open >= 3.0));
        assert!(seen.descriptors_max >= seen.descriptors);
        assert!(seen.cpu_seconds.is_some());
    }
}
