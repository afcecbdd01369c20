//! What the choice of a target costs a request, with the end of it: `cargo bench --bench balance`.

use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use doorward::base::clock::{SharedClock, SystemClock};
use doorward::base::task::Spawner;
use doorward::upstream::{
    Ask, Health, Names, Observer, Outside, Prober, Security, Spec, SystemNames, Tally, Upstream,
};

const TARGETS: usize = 1_000;
const PICKS: u32 = 100_000;
const ROUNDS: usize = 32;
/// What a pick may cost, in the median of the rounds.
const NANOS_MAX: f64 = 200.0;

/// Nobody counts here.
#[derive(Debug)]
struct Nobody;

impl Observer for Nobody {
    fn stand(&self, _: &Tally) {}
    fn checked(&self, _: Health) {}
    fn ejected(&self) {}
}

fn upstream(balancing: &str) -> Arc<Upstream> {
    let targets: Vec<String> = (0..TARGETS)
        .map(|n| format!("{{ url: \"http://10.0.{}.{}:80\" }}", n / 250, n % 250 + 1))
        .collect();
    let text = format!(
        "load_balancing: {balancing}\ntargets: [{}]",
        targets.join(", ")
    );
    // By way of a tree, as configs are read: YAML itself wants tags for what is one of several.
    let tree: serde_json::Value =
        serde_yaml::from_str(&text).unwrap_or_else(|e| unreachable!("{e}"));
    let spec: Spec = serde_json::from_value(tree).unwrap_or_else(|e| unreachable!("{e}"));
    Arc::new(Upstream::new("orders", 1, &spec, Security::default()))
}

#[expect(clippy::print_stdout, reason = "a report for whoever runs it")]
fn main() -> ExitCode {
    let mut dear = false;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap_or_else(|error| unreachable!("{error}"));
    let names: Arc<dyn Names> = Arc::new(SystemNames::new());
    let clock: SharedClock = Arc::new(SystemClock);
    let spawner = Spawner::new(runtime.handle().clone());
    for balancing in [
        "least_request",
        "round_robin",
        "random",
        "peak_ewma",
        "{ ring_hash: { by: client_ip } }",
        "{ ring_hash: { by: client_ip, bounded_load: 125% } }",
        "{ maglev: { by: client_ip } }",
        "{ maglev: { by: client_ip, bounded_load: 125% } }",
    ] {
        let upstream = upstream(balancing);
        let outside = Outside {
            names: &names,
            spawner: &spawner,
            clock: &clock,
            prober: &Arc::new(Prober::default()),
            observer: Arc::new(Nobody),
            patience: Duration::ZERO,
        };
        let _tasks = runtime.block_on(upstream.start(&outside));
        let mut nanos: Vec<f64> = (0..ROUNDS).map(|_| round(&upstream)).collect();
        nanos.sort_unstable_by(f64::total_cmp);
        let median = nanos.get(ROUNDS / 2).copied().unwrap_or_default();
        dear |= median >= NANOS_MAX;
        println!("a pick among {TARGETS} targets, {balancing}: {median:.0} ns");
    }
    if dear {
        println!("that is more than {NANOS_MAX:.0} ns");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Nanoseconds of one pick.
#[expect(
    clippy::disallowed_methods,
    reason = "it measures the machine's own time"
)]
fn round(upstream: &Upstream) -> f64 {
    let begun = Instant::now();
    for number in 0..PICKS {
        // The bits of a number, mixed: keys are spread as real ones are.
        let key = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let ask = Ask {
            key: Some(key),
            ..Ask::default()
        };
        black_box(upstream.pick(black_box(&ask)));
    }
    begun.elapsed().as_secs_f64() * 1e9 / f64::from(PICKS)
}
