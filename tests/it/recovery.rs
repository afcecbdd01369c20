//! Upstreams that go away and come back: what clients feel of it, and what those who come back do.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test stops at the first thing that is not as expected; what was measured is told"
)]

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::control::metric_becomes;
use super::support::{Client, Gate, Gateway, Nginx, Origin, Reply, is_full, scale};

/// What a load of requests met: those that failed, each with its method and whether the server was killed by then; and how long
/// each took.
#[derive(Default)]
struct Met {
    failed: Vec<(&'static str, bool)>,
    times: Vec<(bool, Duration)>,
}

/// How far a load is.
#[derive(Default)]
struct Load {
    killed: AtomicBool,
    over: AtomicBool,
    answered: AtomicU64,
}

impl Load {
    /// Asks one request after the other until it is over.
    fn run(&self, addr: SocketAddr, method: &'static str) -> Met {
        let mut client = Client::connect(addr);
        let mut met = Met::default();
        while !self.over.load(Ordering::SeqCst) {
            let after = self.killed.load(Ordering::SeqCst);
            let began = Instant::now();
            let answer = client.try_request(method, "/", &[("Host", "a.test")], b"");
            met.times.push((after, began.elapsed()));
            self.answered.fetch_add(1, Ordering::SeqCst);
            if !answer.as_ref().is_ok_and(|answer| answer.status == 200) {
                met.failed.push((method, after));
                client = Client::connect(addr);
            }
        }
        met
    }

    fn until(&self, count: u64) {
        while self.answered.load(Ordering::SeqCst) < count {
            std::thread::yield_now();
        }
    }
}

fn well(server: usize) -> String {
    format!("location / {{ return 200 {server}; }}")
}

fn before(targets: &[SocketAddr], upstream: &str) -> Gateway {
    let targets: Vec<String> = targets
        .iter()
        .map(|addr| format!("{{ url: \"http://{addr}\" }}"))
        .collect();
    let targets = targets.join(", ");
    Gateway::spawn(&format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\", limits: {{ requests_per_connection: 100000 }} }} }}\nadmin: {{ socket: admin.sock }}\n\
         upstreams: {{ o: {{ targets: [{targets}]{upstream} }} }}\n\
         routes: [{{ name: all, match: {{ path_prefix: / }}, upstream: o }}]\n"
    ))
}

fn serving(gateway: &Gateway, count: u64) {
    let name = "doorward_upstream_targets{state=\"serving\",upstream=\"o\"}";
    metric_becomes(gateway, name, |seen| seen == count);
}

/// The time within which nine of ten of these stay.
fn p90(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    *times.get(times.len() * 9 / 10).unwrap()
}

/// Three real servers, of which one is killed while requests go on, and comes back.
#[test]
fn one_of_three_servers_is_killed_under_load() {
    let mut servers: Vec<Nginx> = (0..3).map(|it| Nginx::start(&well(it))).collect();
    let targets: Vec<SocketAddr> = servers.iter().map(Nginx::addr).collect();
    let gateway = before(
        &targets,
        ", load_balancing: round_robin, slow_start: 10h, \
         health_check: { path: /, interval: 100ms, timeout: 5s, healthy_threshold: 2, unhealthy_threshold: 2 }",
    );
    let addr = gateway.addr();
    let load = Load::default();
    let rounds = scale(20_000).max(400);
    let met = std::thread::scope(|scope| {
        let load = &load;
        let methods = ["POST", "GET", "GET", "GET"];
        let clients = methods.map(|method| scope.spawn(move || load.run(addr, method)));
        load.until(rounds);
        drop(servers.remove(0));
        load.killed.store(true, Ordering::SeqCst);
        load.until(2 * rounds);
        load.over.store(true, Ordering::SeqCst);
        clients.map(|client| client.join().unwrap())
    });
    let failed: Vec<_> = met.iter().flat_map(|met| &met.failed).collect();
    // One client sends POST: one of its requests was in flight, or found a connection that was dead already.
    assert!(failed.len() <= 2, "{failed:?}");
    assert!(
        failed.iter().all(|(method, _)| *method == "POST"),
        "{failed:?}"
    );
    let [before, after] = [false, true].map(|after| {
        let times = met.iter().flat_map(|met| &met.times);
        let times = times.filter(|(it, _)| *it == after);
        p90(times.map(|(_, time)| *time).collect())
    });
    let ratio = after.as_secs_f64() / before.as_secs_f64();
    println!(
        "one of three killed: {} requests failed; p90 {before:?} before, {after:?} after: ratio {ratio:.2}",
        failed.len(),
    );
    // How fast something is can be told where nothing else runs.
    assert!(!is_full() || ratio <= 2.0, "{ratio:.2}");
    serving(&gateway, 2);
    let _again = Nginx::start_at(targets[0], &well(0));
    serving(&gateway, 3);
    let mut client = gateway.client();
    let mut parts = [0; 3];
    for _ in 0..210 {
        let answer = client.request("GET", "/", &[("Host", "a.test")], b"");
        let server: usize = answer.expect(200).text().trim().parse().unwrap();
        parts[server] += 1;
    }
    println!("parts of who came back and of the others: {parts:?}");
    // A tenth of its weight in its first hour.
    assert!((9..=11).contains(&parts[0]), "{parts:?}");
}

/// Nobody may connect where these listen.
fn untouched(listeners: &[TcpListener]) {
    for listener in listeners {
        let came = listener.accept().map(drop).map_err(|error| error.kind());
        assert_eq!(came, Err(ErrorKind::WouldBlock), "somebody was asked");
    }
}

#[test]
fn when_all_are_down_the_answer_is_there_at_once_and_says_when_to_come_back() {
    const OPEN: Duration = Duration::from_secs(60);
    let servers: Vec<Nginx> = (0..3).map(|it| Nginx::start(&well(it))).collect();
    let targets: Vec<SocketAddr> = servers.iter().map(Nginx::addr).collect();
    let gateway = before(
        &targets,
        ", circuit_breaker: { min_requests: 10, open_for: 60s }",
    );
    let mut client = gateway.client();
    let mut ask = || client.request("GET", "/", &[("Host", "a.test")], b"");
    ask().expect(200);
    drop(servers);
    let listeners: Vec<TcpListener> = targets
        .iter()
        .map(|addr| {
            // It fails each connection until nobody comes any more.
            let listener = TcpListener::bind(addr).unwrap();
            listener.set_nonblocking(true).unwrap();
            listener
        })
        .collect();
    let opened = loop {
        let asked = Instant::now();
        let stop = AtomicBool::new(false);
        let answer = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    listeners.iter().for_each(|it| drop(it.accept()));
                    std::thread::yield_now();
                }
            });
            let answer = ask();
            stop.store(true, Ordering::SeqCst);
            answer
        });
        if answer.status == 503 {
            break asked;
        }
        assert_eq!(answer.status, 502);
    };
    for listener in &listeners {
        while listener.accept().is_ok() {}
    }
    let mut times = Vec::new();
    for _ in 0..scale(10_000) {
        let asked = Instant::now();
        let answer = ask().expect(503);
        times.push(asked.elapsed());
        assert_eq!(answer.json()["type"], "urn:doorward:error:circuit_open");
        // The time to half-open, in seconds that are rounded up.
        let told: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        let left = OPEN.saturating_sub(opened.elapsed()).as_secs_f64();
        assert!((told as f64 - left).abs() <= 2.0, "{told} of {left}");
    }
    untouched(&listeners);
    times.sort_unstable();
    let (median, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    println!("all down: 503 after {median:?} in the median, {p99:?} at p99");
    assert!(!is_full() || p99 < Duration::from_millis(5), "{p99:?}");
}

#[test]
fn a_crowd_that_waits_for_recovery_is_let_through_by_probes_alone() {
    let gate = Gate::new();
    let held = gate.clone();
    let well = Arc::new(AtomicBool::new(false));
    let is_well = Arc::clone(&well);
    let origin = Origin::answer(move |_| {
        if is_well.load(Ordering::SeqCst) {
            Reply::ok("good").after(&held)
        } else {
            Reply::fixed(500, &[], "bad")
        }
    });
    // Probes that find out nothing for so long let others try: the crowd asks within that.
    let open_for = if is_full() { "10s" } else { "1s" };
    let gateway = before(
        &[origin.addr()],
        &format!(
            ", retries: none, circuit_breaker: {{ min_requests: 4, open_for: {open_for}, probes: 2 }}"
        ),
    );
    let addr = gateway.addr();
    let crowd = scale(10_000);
    let (refused, good) = (AtomicU64::new(0), AtomicU64::new(0));
    let mut client = gateway.client();
    while client.get("/").status == 500 {}
    let before = origin.count();
    well.store(true, Ordering::SeqCst);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = Client::connect(addr);
                loop {
                    let answer = client.get("/");
                    // A connection takes only so many.
                    if answer.header("connection") == Some("close") {
                        client = Client::connect(addr);
                    }
                    match answer.status {
                        200 => break good.fetch_add(1, Ordering::SeqCst),
                        503 => refused.fetch_add(1, Ordering::SeqCst),
                        status => unreachable!("{status}"),
                    };
                }
            });
        }
        gate.wait_until_waiting(2);
        // Everybody else goes on asking meanwhile.
        let since = refused.load(Ordering::SeqCst);
        while refused.load(Ordering::SeqCst) < since + crowd {
            std::thread::yield_now();
        }
        assert_eq!(origin.count(), before + 2, "two find out for all");
        gate.open();
    });
    assert_eq!(good.load(Ordering::SeqCst), 8);
    println!(
        "{} requests were refused while two found out",
        refused.load(Ordering::SeqCst)
    );
}
