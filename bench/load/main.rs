//! Asks a gateway at a fixed rate, whatever it answers, and says how long answers took from when they were due.
//!
//! `load --url http://127.0.0.1:8080/ --rate 200 --duration 10 --connections 16 [--header 'name: value'] [--json]`
//!
//! Each connection has its own timetable: a slow answer delays the next question of that connection, and that delay counts.
//! It is bounded by itself: no more than the constants below, and it ends.

mod answer;
mod asked;

use std::io::Write as _;
use std::net::TcpStream;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use answer::read_answer;
use asked::Asked;

/// Nobody measures with less than this per second, and more is an attack.
const RATE_MAX: u32 = 20_000;
/// Seconds.
const DURATION_MAX: u64 = 300;
const CONNECTIONS_MAX: u32 = 256;
/// What a sleep is too long: the rest of the time is spent looking at the clock.
const SLEEP_SLACK: Duration = Duration::from_micros(90);
/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(10);

/// What one connection saw, in nanoseconds.
#[derive(Default)]
struct Seen {
    latency: Vec<u64>,
    /// How late the question went out.
    lag: Vec<u64>,
    bad: u64,
}

fn main() -> ExitCode {
    let asked = match Asked::read(std::env::args().skip(1)) {
        Ok(asked) => asked,
        Err(what) => {
            tell(&format!("load: {what}"));
            return ExitCode::from(2);
        }
    };
    let seen = run(&asked);
    say(&asked, seen);
    ExitCode::SUCCESS
}

/// Every connection in a thread of its own.
#[expect(clippy::disallowed_methods, reason = "it is time that is measured")]
fn run(asked: &Asked) -> Seen {
    let start = Instant::now() + Duration::from_millis(50);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..asked.connections)
            .map(|index| scope.spawn(move || one_connection(asked, index, start)))
            .collect();
        let mut all = Seen::default();
        for thread in threads {
            let seen = thread.join().unwrap_or_default();
            all.latency.extend(seen.latency);
            all.lag.extend(seen.lag);
            all.bad += seen.bad;
        }
        all
    })
}

/// Asks at its own times: `index`, `index + connections`, … of the common timetable.
fn one_connection(asked: &Asked, index: u32, start: Instant) -> Seen {
    let mut seen = Seen::default();
    let mut stream = None;
    let step = Duration::from_secs(1) / asked.rate;
    let mut due = start + step * index;
    let end = start + asked.duration;
    while due < end {
        wait_until(due);
        let lag = due.elapsed();
        match one_question(asked, &mut stream) {
            Ok(200..=399) => {
                seen.latency.push(nanos(due.elapsed()));
                seen.lag.push(nanos(lag));
            }
            Ok(_) => seen.bad += 1,
            Err(_) => {
                seen.bad += 1;
                stream = None;
            }
        }
        due += step * asked.connections;
    }
    seen
}

/// Returns the status.
fn one_question(asked: &Asked, stream: &mut Option<TcpStream>) -> std::io::Result<u16> {
    let mut open = match stream.take() {
        Some(open) => open,
        None => {
            let open = TcpStream::connect(&asked.authority)?;
            open.set_nodelay(true)?;
            open.set_read_timeout(Some(PATIENCE))?;
            open
        }
    };
    open.write_all(&asked.request)?;
    let (status, goes_on) = read_answer(&mut open)?;
    *stream = goes_on.then_some(open);
    Ok(status)
}

/// Sleeps for most of it, since sleeping is not exact.
#[expect(clippy::disallowed_methods, reason = "it is time that is measured")]
fn wait_until(due: Instant) {
    let left = due.saturating_duration_since(Instant::now());
    if left > SLEEP_SLACK {
        thread::sleep(left - SLEEP_SLACK);
    }
    while Instant::now() < due {
        // Others of this core may work meanwhile.
        thread::yield_now();
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// Microseconds at a share of sorted nanoseconds.
fn at(sorted: &[u64], per_mille: usize) -> f64 {
    let index = sorted.len() * per_mille / 1000;
    let nanos = sorted.get(index.min(sorted.len().saturating_sub(1)));
    nanos.copied().unwrap_or_default() as f64 / 1e3
}

fn say(asked: &Asked, mut seen: Seen) {
    seen.latency.sort_unstable();
    seen.lag.sort_unstable();
    let (latency, lag) = (&seen.latency, &seen.lag);
    let (answers, bad) = (latency.len(), seen.bad);
    let [p50, p90, p99] = [500, 900, 990].map(|share| at(latency, share));
    let [lag50, lag99] = [500, 990].map(|share| at(lag, share));
    if asked.json {
        tell(&format!(
            "{{\"answers\":{answers},\"bad\":{bad},\"p50_us\":{p50:.1},\"p90_us\":{p90:.1},\"p99_us\":{p99:.1},\
             \"lag_p50_us\":{lag50:.1},\"lag_p99_us\":{lag99:.1}}}"
        ));
        return;
    }
    tell(&format!(
        "{answers} answers, {bad} refused or lost, at {} a second for {:?}",
        asked.rate, asked.duration
    ));
    tell(&format!(
        "latency p50 {p50:.0} us, p90 {p90:.0} us, p99 {p99:.0} us, from when each was due"
    ));
    tell(&format!(
        "the generator itself was late by p50 {lag50:.0} us, p99 {lag99:.0} us"
    ));
}

#[expect(clippy::print_stdout, reason = "a report for whoever runs it")]
fn tell(line: &str) {
    println!("{line}");
}
