//! What a record costs the request that leaves it, from the facts to the queue: `cargo bench --bench access_log`.

use std::hint::black_box;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use doorward::base::units::Share;
use doorward::telemetry::{AccessLog, Fields, Form, Record, Sample};
use prometheus::IntCounter;

/// Fewer than the queue holds, so that none is dropped: a drop is cheaper than a record.
const BATCH: usize = 4096;
const ROUNDS: usize = 64;
const PATIENCE: Duration = Duration::from_secs(60);

/// Where records end, without a cost of its own.
struct Nowhere;

impl Write for Nowhere {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(black_box(bytes).len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Two fields of a route.
#[derive(Debug)]
struct Two;

impl Fields for Two {
    fn each(&self, add: &mut dyn FnMut(&str, &str)) {
        add("tenant", black_box("acme"));
        add("cache", black_box("hit"));
    }
}

/// As a browser leaves it.
fn record(fields: Option<&dyn Fields>) -> Record<'_> {
    Record {
        unix_millis: 1_795_000_000_123,
        id: "01a201dd-ca80-72ff-8b16-122143c8ea5e",
        client: Some([192, 0, 2, 17].into()),
        method: "GET",
        host: "api.example.com",
        path: "/v1/orders/8f14e45f",
        query: Some("page=2&size=50&access_token=0123456789abcdef"),
        route: "order",
        status: 200,
        duration: Duration::from_micros(1234),
        received: 0,
        sent: 1832,
        upstream: Some("orders"),
        target: Some("10.1.0.11:8080"),
        attempts: 1,
        user_agent: Some("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
        referer: Some("https://shop.example.com/orders?page=1"),
        protocol: "1.1",
        trace_id: Some(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736),
        fields,
        ..Record::default()
    }
}

#[expect(clippy::print_stdout, reason = "a report for whoever runs it")]
fn main() {
    let redact = ["authorization".to_owned(), "cookie".to_owned()];
    let two = Two;
    for (name, form, fields) in [
        ("json", Form::Json, None),
        ("json, two fields", Form::Json, Some(&two as &dyn Fields)),
        ("clf", Form::Clf, None),
    ] {
        let dropped = IntCounter::new("dropped", "dropped").unwrap_or_else(|e| unreachable!("{e}"));
        let log = AccessLog::start(form, &redact, dropped.clone(), Nowhere);
        let log = log.unwrap_or_else(|error| unreachable!("{error}"));
        let sample = Sample::new(Share::from_percent(100));
        let record = record(fields);
        let mut nanos: Vec<f64> = (0..ROUNDS)
            .map(|_| one_round(&log, &sample, &record))
            .collect();
        nanos.sort_by(f64::total_cmp);
        let at = |index: usize| nanos.get(index).copied().unwrap_or_default();
        let (low, median, high) = (at(0), at(ROUNDS / 2), at(ROUNDS - 1));
        println!(
            "{name}: {median:.0} ns a record ({low:.0} to {high:.0}), {} dropped of {}",
            dropped.get(),
            BATCH * ROUNDS
        );
    }
}

/// Nanoseconds a record.
#[expect(clippy::disallowed_methods, reason = "it is time that is measured")]
fn one_round(log: &AccessLog, sample: &Sample, record: &Record<'_>) -> f64 {
    let start = Instant::now();
    for _ in 0..BATCH {
        if sample.has_its_turn() {
            log.push(black_box(record));
        }
    }
    let nanos = start.elapsed().as_secs_f64() * 1e9 / BATCH as f64;
    assert!(log.flush(PATIENCE), "the writer is stuck");
    nanos
}
