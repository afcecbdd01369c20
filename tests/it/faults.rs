//! The fault table: what each fault of an upstream does to a client, what it is counted as, and what holds all the same; and
//! many faults at random, which never make a request happen twice that may happen once only.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test stops at the first thing that is not as expected; the table is its output"
)]

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::control::{at_socket, metric, metric_becomes};
use super::support::{Client, Ended, Gate, Gateway, Origin, Reply, free_port, scale};

/// Every row of the table, in its order.
const ROWS: [&str; 22] = [
    "refused",
    "SYN black hole",
    "reset before head",
    "reset or short CL or partial chunk mid-body",
    "stall before head / mid-body",
    "garbage, 1xx flood, large head",
    "close at reuse",
    "DNS fail / flap / CRLF in answer",
    "certificate expired, mismatch",
    "Redis down / +5 s slow",
    "auth service down",
    "JWKS down / rotated",
    "disk full (logs, cache)",
    "fd exhaustion",
    "memory pressure (cgroup)",
    "SIGTERM",
    "SIGHUP x1000, 30 % invalid",
    "kill -9",
    "upgrade x20 under load",
    "clock +-1 h, -1 s, leap",
    "10 k idle; 100 k routes; hot tenant",
    "breaker flapping, all peers down",
];

/// One line of the table, as it was seen.
struct Row {
    fault: &'static str,
    client: String,
    metric: String,
    promise: String,
}

/// A row that other tests show: where, by the name of one.
fn elsewhere(fault: &'static str, file: &'static str, text: &str, test: &str) -> Row {
    assert!(
        text.contains(&format!("fn {test}(")),
        "{file} has no `{test}`"
    );
    Row {
        fault,
        client: "see there".to_owned(),
        metric: "see there".to_owned(),
        promise: format!("tests/it/{file}: {test}"),
    }
}

fn later(fault: &'static str, what: &str) -> Row {
    Row {
        fault,
        client: "-".to_owned(),
        metric: "-".to_owned(),
        promise: format!("{what}: not in this version"),
    }
}

fn gateway(target: &str, upstream: &str, route: &str) -> Gateway {
    Gateway::spawn(&format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\" }} }}\nadmin: {{ socket: admin.sock }}\n\
         upstreams: {{ o: {{ targets: [{{ url: \"{target}\" }}]{upstream} }} }}\n\
         routes: [{{ name: all, match: {{ path_prefix: / }}, upstream: o{route} }}]\n"
    ))
}

/// One request on a connection of its own: its status, or how it was cut.
fn ask(gateway: &Gateway, method: &str) -> Result<u16, Ended> {
    let mut client = gateway.client();
    client.send_request(
        method,
        "/",
        &[("Host", "a.test"), ("Content-Length", "0")],
        b"",
    );
    client.try_response(method).map(|answer| answer.status)
}

fn cell(status: Result<u16, Ended>) -> String {
    status.map_or_else(|_| "cut".to_owned(), |status| status.to_string())
}

/// Faults are counted by their code.
fn counted(gateway: &Gateway, code: &str) -> String {
    let name = format!("doorward_faults_total{{error_type=\"{code}\"}}");
    metric_becomes(gateway, &name, |count| count > 0);
    code.to_owned()
}

fn refused() -> Row {
    let gateway = gateway(&format!("http://127.0.0.1:{}", free_port()), "", "");
    let status = ask(&gateway, "GET");
    assert_eq!(status, Ok(502));
    let attempts = metric(&gateway, "doorward_upstream_retries_total{upstream=\"o\"}");
    assert_eq!(attempts, Some(0), "nobody else is there");
    Row {
        fault: ROWS[0],
        client: cell(status),
        metric: counted(&gateway, "connect_failure"),
        promise: "one attempt; with another target it goes there".to_owned(),
    }
}

fn black_hole() -> Row {
    // A queue that is full takes nobody: what comes is not even refused.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&any.into()).unwrap();
    socket.listen(1).unwrap();
    let listener = TcpListener::from(socket);
    let addr = listener.local_addr().unwrap();
    let fill = |_| std::net::TcpStream::connect_timeout(&addr, Duration::from_millis(200));
    let full: Vec<_> = (0..4).map(fill).collect();
    let gateway = gateway(
        &format!("http://{addr}"),
        ", timeouts: { connect: 300ms }",
        "",
    );
    let status = ask(&gateway, "GET");
    assert_eq!(status, Ok(504));
    drop(full);
    Row {
        fault: ROWS[1],
        client: cell(status),
        metric: counted(&gateway, "connect_timeout"),
        promise: "at the connect timeout".to_owned(),
    }
}

fn reset_before_head() -> Row {
    let seen = AtomicU64::new(0);
    let origin = Origin::answer(move |_| match seen.fetch_add(1, Ordering::SeqCst) {
        0 | 2 => Reply::reset(),
        _ => Reply::ok("well"),
    });
    let gateway = gateway(&origin.url(), "", "");
    assert_eq!(ask(&gateway, "GET"), Ok(200));
    assert_eq!(origin.count(), 2);
    assert_eq!(ask(&gateway, "POST"), Ok(502));
    assert_eq!(origin.count(), 3, "a POST exactly once");
    Row {
        fault: ROWS[2],
        client: "200 (GET, the second time), 502 (POST)".to_owned(),
        metric: counted(&gateway, "reset"),
        promise: "a POST exactly once".to_owned(),
    }
}

fn broken_body() -> Row {
    let seen = AtomicU64::new(0);
    let origin = Origin::answer(move |_| match seen.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::truncated(9, "half").then_reset(),
        1 => Reply::truncated(9, "half"),
        _ => Reply::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf"),
    });
    let gateway = gateway(&origin.url(), "", "");
    for _ in 0..3 {
        assert!(ask(&gateway, "GET").is_err(), "never a clean end");
    }
    assert_eq!(origin.count(), 3, "not retried");
    Row {
        fault: ROWS[3],
        client: "cut".to_owned(),
        metric: counted(&gateway, "reset"),
        promise: "never a clean end, not retried".to_owned(),
    }
}

fn stall() -> Row {
    let gate = Gate::new();
    let held = gate.clone();
    let seen = AtomicU64::new(0);
    let origin = Origin::answer(move |_| match seen.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::never(&held),
        1 => Reply::gated(200, &[], &[b"half"], &held),
        _ => Reply::ok("well"),
    });
    let times = ", timeouts: { first_byte: 200ms, between_bytes: 200ms }";
    let gateway = gateway(&origin.url(), times, "");
    assert_eq!(ask(&gateway, "GET"), Ok(504));
    assert!(ask(&gateway, "GET").is_err());
    assert_eq!(ask(&gateway, "GET"), Ok(200));
    gate.open();
    Row {
        fault: ROWS[4],
        client: "504 / cut".to_owned(),
        metric: counted(&gateway, "timeout"),
        promise: "at the deadline; the next request is served".to_owned(),
    }
}

fn garbage() -> Row {
    let seen = AtomicU64::new(0);
    let origin = Origin::answer(move |_| match seen.fetch_add(1, Ordering::SeqCst) {
        0 => Reply::garbage(),
        1 => (0..200).fold(Reply::ok("late"), |reply, _| reply.interim(103, &[])),
        2 => Reply::fixed(200, &[("X-Large", &"a".repeat(2 * 1024 * 1024))], "large"),
        _ => Reply::ok("well"),
    });
    let gateway = gateway(&origin.url(), "", "");
    for _ in 0..3 {
        assert_eq!(ask(&gateway, "POST"), Ok(502));
    }
    assert_eq!(ask(&gateway, "POST"), Ok(200));
    assert_eq!(origin.connections().len(), 4, "none of them is used again");
    Row {
        fault: ROWS[5],
        client: "502".to_owned(),
        metric: counted(&gateway, "protocol_error"),
        promise: "the connection is not used again".to_owned(),
    }
}

fn close_at_reuse() -> Row {
    // It answers once, says that the connection stays, and closes it at the next request.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let heard = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&heard);
    std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        for mut stream in listener.incoming().map_while(Result::ok) {
            let counted = Arc::clone(&counted);
            std::thread::spawn(move || {
                let mut buf = [0; 4096];
                if stream.read(&mut buf).is_ok_and(|read| read > 0) {
                    counted.fetch_add(1, Ordering::SeqCst);
                    drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
                    if stream.read(&mut buf).is_ok_and(|read| read > 0) {
                        counted.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    let gateway = gateway(&format!("http://{addr}"), "", "");
    for _ in 0..10 {
        assert_eq!(ask(&gateway, "GET"), Ok(200), "nobody notices");
    }
    let before = heard.load(Ordering::SeqCst);
    let status = ask(&gateway, "POST");
    let after = heard.load(Ordering::SeqCst);
    assert_eq!(after, before + 1, "a POST exactly once");
    Row {
        fault: ROWS[6],
        client: format!("200 (GET), {} (POST)", cell(status)),
        metric: "doorward_upstream_retries_total".to_owned(),
        promise: "a POST exactly once".to_owned(),
    }
}

fn no_name() -> Row {
    let gateway = gateway("http://nowhere.invalid:80", "", "");
    let status = ask(&gateway, "GET");
    assert_eq!(status, Ok(503));
    Row {
        fault: ROWS[7],
        client: cell(status),
        metric: counted(&gateway, "no_target"),
        promise: "the last good address is kept (src/upstream/tests.rs)".to_owned(),
    }
}

fn no_proof() -> Row {
    let (plain, spare) = (
        Origin::answer(|_| Reply::ok("plain")),
        Origin::answer(|_| Reply::ok("spare")),
    );
    let gateway = Gateway::spawn(&format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\" }} }}\nadmin: {{ socket: admin.sock }}\n\
         upstreams:\n  o: {{ targets: [{{ url: \"https://{}\" }}] }}\n  spare: {{ targets: [{{ url: \"{}\" }}] }}\n\
         routes: [{{ name: all, match: {{ path_prefix: / }}, upstream: o, fallback: {{ steps: [{{ upstream: spare }}] }} }}]\n",
        plain.addr(),
        spare.url()
    ));
    let status = ask(&gateway, "GET");
    assert_eq!(status, Ok(502));
    assert_eq!((plain.count(), spare.count()), (0, 0));
    drop(plain.wait_for_violations());
    Row {
        fault: ROWS[8],
        client: cell(status),
        metric: counted(&gateway, "tls_failure"),
        promise: "not one byte is sent, and no fallback unless it names `tls_failure`".to_owned(),
    }
}

fn all_down() -> Row {
    let origin = Origin::answer(|_| Reply::fixed(500, &[], "bad"));
    let breaker = ", retries: none, circuit_breaker: { min_requests: 2 }";
    let gateway = gateway(&origin.url(), breaker, "");
    for _ in 0..2 {
        assert_eq!(ask(&gateway, "GET"), Ok(500));
    }
    let mut client = gateway.client();
    let refused = client
        .request("GET", "/", &[("Host", "a.test")], b"")
        .expect(503);
    assert!(refused.header("retry-after").is_some());
    let state = at_socket(&gateway, "/metrics");
    assert!(state.contains("doorward_circuit_breaker_state{http_route=\"\",upstream=\"o\"} 2"));
    Row {
        fault: ROWS[21],
        client: "503 with Retry-After".to_owned(),
        metric: format!(
            "{}, doorward_circuit_breaker_state",
            counted(&gateway, "circuit_open")
        ),
        promise: "one probe at a time (tests/it/breakers.rs: recovery_is_no_stampede)".to_owned(),
    }
}

#[test]
fn the_fault_table_holds() {
    let rows = [
        refused(),
        black_hole(),
        reset_before_head(),
        broken_body(),
        stall(),
        garbage(),
        close_at_reuse(),
        no_name(),
        no_proof(),
        later(ROWS[9], "stores"),
        later(ROWS[10], "authentication by a service"),
        later(ROWS[11], "key sets"),
        elsewhere(
            ROWS[12],
            "control.rs",
            include_str!("control.rs"),
            "a_full_disk_costs_records_that_are_counted",
        ),
        elsewhere(
            ROWS[13],
            "limits.rs",
            include_str!("limits.rs"),
            "out_of_descriptors_it_sheds_answers_at_the_admin_door_and_recovers",
        ),
        elsewhere(ROWS[14], "limits.rs", include_str!("limits.rs"), MEMORY),
        elsewhere(
            ROWS[15],
            "ending.rs",
            include_str!("ending.rs"),
            "an_idle_client_has_one_more_answer",
        ),
        elsewhere(
            ROWS[16],
            "control.rs",
            include_str!("control.rs"),
            "sighup_applies_the_changed_file",
        ),
        later(ROWS[17], "state that outlives the process"),
        later(ROWS[18], "upgrades by handing sockets over"),
        later(ROWS[19], "tokens and limits by the clock"),
        elsewhere(
            ROWS[20],
            "bulk.rs",
            include_str!("bulk.rs"),
            "idle_and_slow_connections_cost_little_and_stop_nobody",
        ),
        all_down(),
    ];
    let seen: Vec<&str> = rows.iter().map(|row| row.fault).collect();
    assert_eq!(seen, ROWS, "a row is missing, or stands elsewhere");
    println!("| Fault | Client sees | Metric, log | Promise |\n|---|---|---|---|");
    for row in rows {
        println!(
            "| {} | {} | {} | {} |",
            row.fault, row.client, row.metric, row.promise
        );
    }
}

const MEMORY: &str = "short_of_memory_new_requests_get_503_and_the_admin_answers";

#[test]
fn many_faults_at_random_make_nothing_happen_twice() {
    let requests = scale(100_000);
    // What a request meets depends on its number and on how often it came: the same in every run.
    let seen: Arc<Mutex<HashMap<u64, u64>>> = Arc::default();
    let served: Mutex<Vec<u64>> = Mutex::default();
    let came = Arc::clone(&seen);
    let origin = Origin::answer(move |request| {
        let number: u64 = request.header("x-number").unwrap().parse().unwrap();
        let attempt: u64 = request
            .header("x-attempt")
            .map_or(1, |it| it.parse().unwrap());
        *came.lock().unwrap().entry(number).or_default() += 1;
        match (number * 7 + attempt * 3) % 11 {
            0 => Reply::reset(),
            1 => Reply::close(),
            2 => Reply::garbage(),
            3 | 4 => Reply::fixed(503, &[], "busy"),
            5 => Reply::truncated(9, "half"),
            6 => Reply::ok("well").then_close(),
            _ => Reply::ok("well"),
        }
    });
    let retries = ", retries: { attempts: 3, retry_on: [connect_failure, reset, protocol_error, http_503], budget: 20%, backoff: { base: 1ms, max: 2ms } }";
    let gateway = gateway(&origin.url(), retries, "");
    let began = Instant::now();
    let next = AtomicU64::new(0);
    let addr = gateway.addr();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = Client::connect(addr);
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    if number >= requests {
                        return;
                    }
                    // Half of them may be done twice, since their client says so.
                    let text = number.to_string();
                    let headers = [
                        ("Host", "a.test"),
                        ("X-Number", text.as_str()),
                        ("Idempotency-Key", text.as_str()),
                    ];
                    let headers = headers.get(..2 + (number % 2) as usize).unwrap();
                    match client.try_request("POST", "/", headers, b"") {
                        Ok(answer) if answer.status < 500 => served.lock().unwrap().push(number),
                        Ok(_) => {}
                        Err(_) => client = Client::connect(addr),
                    }
                }
            });
        }
    });
    let seen = seen.lock().unwrap();
    let all: u64 = seen.values().sum();
    let once = || seen.iter().filter(|(number, _)| *number % 2 == 0);
    let posts = once().count();
    let twice: Vec<_> = once().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    // What goes out on a connection that its target closes meanwhile may be lost; that is told, and sent again where it may.
    let (lost, served) = (requests - seen.len() as u64, served.into_inner().unwrap());
    assert!(served.iter().all(|number| seen.contains_key(number)));
    assert!(lost <= requests / 20, "{lost}");
    let windows = 2 + began.elapsed().as_secs() / 10;
    let again = all - seen.len() as u64;
    assert!(again <= requests / 5 + 3 * windows, "{again} of {requests}");
    println!(
        "{requests} requests with faults: {posts} POST without a key arrived, none twice; {lost} lost on connections that closed; {again} sent again"
    );
    assert!(again > 0);
}
