//! A request that has no answer after a while is sent to a second target: the first good answer is taken, the other is given up.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test stops at the first thing that is not as expected"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use super::control::{at_socket, metric, metric_becomes};
use super::support::{Frames, Gate, Gateway, Origin, Outcome, Reply, Response, run_cli, scale};

/// What is sent a second time soon, whatever others did.
const SOON: &str = "retries: { hedge_after: 20ms, budget: 100%, retry_on: [http_503, reset] }";

fn config(targets: &[&Origin], clauses: &str) -> String {
    let targets: Vec<String> = targets
        .iter()
        .map(|origin| format!("{{ url: \"{}\" }}", origin.url()))
        .collect();
    let targets = targets.join(", ");
    format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\", protocols: [http1, h2c], limits: {{ requests_per_connection: 100000 }} }} }}\n\
         admin: {{ socket: admin.sock }}\n\
         upstreams: {{ o: {{ targets: [{targets}], load_balancing: round_robin, {clauses} }} }}\n\
         routes: [{{ name: all, match: {{ path_prefix: / }}, upstream: o }}]\n"
    )
}

/// Two targets of which the first to be asked does the first thing, whoever is next the second, and so on; then all is well.
fn pair(script: &'static [Told], gate: &Gate) -> [Origin; 2] {
    let next = Arc::new(AtomicU64::new(0));
    [(); 2].map(|()| {
        let (next, gate) = (Arc::clone(&next), gate.clone());
        Origin::answer(move |_| {
            let number = next.fetch_add(1, Ordering::SeqCst);
            let number = usize::try_from(number).unwrap();
            match script.get(number).unwrap_or(&Told::Well) {
                Told::Silent => Reply::never(&gate),
                Told::Late => Reply::ok("late").after(&gate),
                Told::Busy => Reply::fixed(503, &[], "busy"),
                Told::BusyLate => Reply::fixed(503, &[], "busy late").after(&gate),
                Told::Reset => Reply::reset(),
                Told::Well => Reply::ok("well"),
            }
        })
    })
}

#[derive(Debug, Clone, Copy)]
enum Told {
    /// Nothing.
    Silent,
    /// It is well once the gate is open.
    Late,
    Busy,
    BusyLate,
    Reset,
    Well,
}

fn both(origins: &[Origin; 2]) -> u64 {
    origins.iter().map(Origin::count).sum()
}

fn before(origins: &[Origin; 2], clauses: &str) -> Gateway {
    let [one, two] = origins;
    Gateway::spawn(&config(&[one, two], clauses))
}

fn ask(gateway: &Gateway, method: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
    let headers = [&[("Host", "a.test")], headers].concat();
    gateway.client().request(method, "/", &headers, body)
}

fn counted(gateway: &Gateway, name: &str) -> u64 {
    metric(gateway, &format!("{name}{{upstream=\"o\"}}")).unwrap()
}

const HEDGES: &str = "doorward_upstream_hedges_total";
const WON: &str = "doorward_upstream_hedges_won_total";
const OUTRUN: &str = "http_client_request_duration_seconds_count{error_type=\"outrun\",status_class=\"\",upstream=\"o\"}";

/// Requests under way at the targets of the gateway.
fn under_way(gateway: &Gateway) -> u64 {
    let told: Json = serde_json::from_str(&at_socket(gateway, "/status")).unwrap();
    let targets = told["upstreams"][0]["targets"].as_array().unwrap();
    let in_flight = targets.iter().map(|it| it["in_flight"].as_u64().unwrap());
    in_flight.sum()
}

#[test]
fn who_is_silent_is_outrun_by_a_second_target_and_given_up_at_once() {
    let mut took = Vec::new();
    for number in 0..scale(300) {
        let gate = Gate::new();
        // Whoever is asked first is silent, also where the second is asked before the first one's thread had its turn.
        let origins = [(); 2].map(|()| {
            let gate = gate.clone();
            Origin::answer(move |request| match request.header("x-attempt") {
                None => Reply::never(&gate),
                Some(_) => Reply::ok("well"),
            })
        });
        let gateway = before(&origins, SOON);
        assert_eq!(ask(&gateway, "GET", &[], b"").expect(200).text(), "well");
        let answered = Instant::now();
        for origin in &origins {
            origin.wait_for_heads(1);
        }
        // Of the two the one that said nothing is left with a connection that was closed.
        let silent = origins
            .iter()
            .find(|it| it.last().header("x-attempt").is_none());
        silent.unwrap().wait_closed(0);
        took.push(answered.elapsed());
        assert_eq!(origins.each_ref().map(Origin::count), [1, 1]);
        let second = origins
            .iter()
            .find(|it| it.last().header("x-attempt").is_some());
        assert_eq!(second.unwrap().last().header("x-attempt"), Some("2"));
        if number == 0 {
            assert_eq!([HEDGES, WON].map(|it| counted(&gateway, it)), [1, 1]);
            assert_eq!(counted(&gateway, "doorward_upstream_retries_total"), 1);
            metric_becomes(&gateway, OUTRUN, |seen| seen == 1);
            assert_eq!(under_way(&gateway), 0);
            let record: Json = gateway.process().wait_line("a record", |line| {
                serde_json::from_str(line)
                    .ok()
                    .filter(|it: &Json| it["http.route"] == "all")
            });
            assert_eq!(record["attempts"], 2);
            let target = second.unwrap().addr().to_string();
            assert_eq!(record["target"], target.as_str(), "{record}");
        }
        gate.open();
    }
    took.sort();
    let median = took[took.len() / 2];
    println!("the one that was outrun is closed after {median:?}");
    assert!(median < Duration::from_millis(100), "{median:?}");
}

#[test]
fn the_first_good_answer_is_taken_whoever_gives_it() {
    for (script, opens, text, won) in [
        // The first one answers after all.
        (&[Told::Late, Told::Silent][..], true, "late", 0),
        // A bad answer beside it is none.
        (&[Told::Late, Told::Busy], true, "late", 0),
        (&[Told::Late, Told::Reset], true, "late", 0),
        (&[Told::BusyLate, Told::Late], true, "late", 1),
        (&[Told::Silent, Told::Well], false, "well", 1),
    ] {
        let gate = Gate::new();
        let origins = pair(script, &gate);
        let gateway = before(&origins, SOON);
        let answer = std::thread::scope(|scope| {
            let asking = scope.spawn(|| ask(&gateway, "GET", &[], b""));
            if opens {
                for origin in &origins {
                    origin.wait_for(1);
                }
                gate.open();
            }
            asking.join().unwrap()
        });
        assert_eq!(answer.expect(200).text(), text, "{script:?}");
        assert_eq!(both(&origins), 2, "{script:?}");
        assert_eq!(counted(&gateway, WON), won, "{script:?}");
        gate.open();
    }
}

#[test]
fn a_hedge_counts_as_an_attempt() {
    for (attempts, sent, status) in [(2, 2, 503), (3, 3, 200)] {
        let gate = Gate::new();
        let origins = pair(&[Told::BusyLate, Told::Busy], &gate);
        let retries = format!(
            "retries: {{ attempts: {attempts}, hedge_after: 20ms, budget: 100%, retry_on: [http_503], backoff: {{ base: 1ms, max: 2ms }} }}"
        );
        let gateway = before(&origins, &retries);
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| ask(&gateway, "GET", &[], b""));
            for origin in &origins {
                origin.wait_for(1);
            }
            gate.open();
            asking.join().unwrap().expect(status);
        });
        assert_eq!(both(&origins), sent);
    }
}

#[test]
fn who_answers_in_time_is_asked_once() {
    let origins = pair(&[], &Gate::new());
    let gateway = before(&origins, "retries: { hedge_after: 20s, budget: 100% }");
    for _ in 0..10 {
        ask(&gateway, "GET", &[], b"").expect(200);
    }
    assert_eq!(both(&origins), 10);
    assert_eq!(counted(&gateway, HEDGES), 0);
}

#[test]
fn only_what_may_be_done_twice_is_sent_to_two() {
    let long = vec![b'a'; 64 * 1024 + 1];
    let key = [("Idempotency-Key", "\"7\"")];
    for (method, headers, body, sent) in [
        ("POST", &[][..], &b"{}"[..], 1),
        ("PATCH", &[], b"{}", 1),
        ("POST", &key, b"{}", 2),
        ("PUT", &[], b"{}", 2),
        ("DELETE", &[], b"", 2),
        ("QUERY", &[], b"{}", 2),
        ("HEAD", &[], b"", 2),
        // It is not kept.
        ("PUT", &[], &long, 1),
    ] {
        let gate = Gate::new();
        let origins = pair(&[Told::Late, Told::Silent], &gate);
        let gateway = before(&origins, SOON);
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| ask(&gateway, method, headers, body));
            gate.wait_until_waiting(1);
            if sent == 1 {
                // One that comes later is sent to two meanwhile.
                let host = [("Host", "a.test")];
                let other = gateway.client().request("GET", "/other", &host, b"");
                assert_eq!(other.expect(200).text(), "well");
            } else {
                gate.wait_until_waiting(2);
            }
            gate.open();
            asking.join().unwrap().expect(200);
        });
        let seen = origins.iter().flat_map(Origin::requests);
        let seen: Vec<_> = seen.filter(|it| it.path == "/").collect();
        assert_eq!(seen.len(), sent, "{method} {headers:?}");
        if body.len() < 10 {
            assert!(seen.iter().all(|it| it.body == body), "{method}");
        }
    }
}

#[test]
fn hedges_stay_within_the_budget() {
    let requests = scale(20_000);
    // Each answer takes three times as long as is waited for it, but for those that are asked for twice.
    let slow = Origin::answer(|request| match request.header("x-attempt") {
        None => {
            std::thread::sleep(Duration::from_millis(3));
            Reply::ok("slow")
        }
        Some(_) => Reply::ok("quick"),
    });
    let gateway = Gateway::spawn(&config(
        &[&slow],
        "retries: { hedge_after: 1ms, budget: 10% }",
    ));
    let began = Instant::now();
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = gateway.client();
                while next.fetch_add(1, Ordering::SeqCst) < requests {
                    let headers = [("Host", "a.test")];
                    let answer = client.request("GET", "/", &headers, b"").expect(200);
                    // A connection takes only so many.
                    if answer.header("connection") == Some("close") {
                        client = gateway.client();
                    }
                }
            });
        }
    });
    let windows = 2 + began.elapsed().as_secs() / 10;
    let hedges = counted(&gateway, HEDGES);
    assert!(
        (requests / 20..=requests / 10 + 3 * windows).contains(&hedges),
        "{hedges} of {requests}"
    );
    assert!(counted(&gateway, "doorward_upstream_retry_budget_exhausted_total") > 0);
    println!("{hedges} of {requests} requests were sent to two");
}

#[test]
fn where_there_is_no_place_for_a_second_one_the_first_is_waited_for() {
    let gate = Gate::new();
    let origins = pair(&[Told::Late], &gate);
    let clauses = format!("{SOON}, concurrency: {{ limit: 1, queue: 8, queue_timeout: 20s }}");
    let gateway = before(&origins, &clauses);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask(&gateway, "GET", &[], b""));
        gate.wait_until_waiting(1);
        let waiting = scope.spawn(|| ask(&gateway, "GET", &[], b""));
        metric_becomes(
            &gateway,
            "doorward_upstream_concurrency_waiting{upstream=\"o\"}",
            |seen| seen == 1,
        );
        gate.open();
        assert_eq!(asking.join().unwrap().expect(200).text(), "late");
        waiting.join().unwrap().expect(200);
    });
    assert_eq!(counted(&gateway, HEDGES), 0);
    assert_eq!(both(&origins), 2);
    metric_becomes(
        &gateway,
        "doorward_upstream_concurrency{upstream=\"o\"}",
        |seen| seen == 0,
    );
}

#[test]
fn the_breaker_hears_of_who_was_outrun_as_slow_and_never_as_failed() {
    for (slow_after, state) in [("5ms", 2), ("1h", 0)] {
        let gate = Gate::new();
        let held = gate.clone();
        let origin = Origin::answer(move |request| match request.header("x-attempt") {
            None => Reply::never(&held),
            Some(_) => Reply::ok("quick"),
        });
        let clauses = format!(
            "{SOON}, circuit_breaker: {{ min_requests: 8, error_rate: 1%, slow_rate: 40%, slow_after: {slow_after} }}"
        );
        let gateway = Gateway::spawn(&config(&[&origin], &clauses));
        for _ in 0..4 {
            ask(&gateway, "GET", &[], b"").expect(200);
        }
        metric_becomes(&gateway, OUTRUN, |seen| seen == 4);
        let name = "doorward_circuit_breaker_state{http_route=\"\",upstream=\"o\"}";
        metric_becomes(&gateway, name, |seen| seen == state);
        gate.open();
    }
}

#[test]
fn over_http2_and_without_a_body_it_is_the_same() {
    let gate = Gate::new();
    let origins = pair(&[Told::Silent], &gate);
    let gateway = before(&origins, SOON);
    let mut client = Frames::connect(gateway.addr());
    let fields = [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "a.test"),
        (":path", "/"),
    ];
    for _ in 0..3 {
        let outcome = client.request(&fields, None);
        assert_eq!(outcome, Outcome::Answer("well".to_owned()));
    }
    assert!((1..=3).contains(&counted(&gateway, HEDGES)));
    gate.open();
}

#[test]
fn what_cannot_be_sent_twice_is_streamed_as_ever() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::answer(move |_| Reply::gated(200, &[], &[b"one", b"two"], &held));
    let gateway = Gateway::spawn(&config(&[&origin], SOON));
    let mut client = gateway.client();
    client.send_request("POST", "/", &[("Host", "a.test")], b"");
    // The head is there before the body is.
    client.response_head("POST").expect(200);
    gate.open();
    assert_eq!(client.read_exactly(6), b"onetwo");
}

#[test]
fn check_and_explain_say_who_may_be_asked_twice() {
    let folder = tempfile::tempdir().unwrap();
    let text = "version: 1\nlisteners: { public: { address: \"127.0.0.1:0\" } }\n\
        upstreams:\n  o: { targets: [{ url: \"http://127.0.0.1:3001\" }], retries: { hedge_after: 200ms } }\n\
        routes:\n  - { name: twice, match: { path: /t }, upstream: o }\n  \
        - { name: once, match: { path: /o }, upstream: o, retries: none }\n\
        tests:\n  - { request: GET http://a.test/t, given: { o: { text: x } }, expect: { status: 200, calls: { o: 1 } } }\n";
    std::fs::write(folder.path().join("doorward.yaml"), text).unwrap();
    let run = |args: &[&str]| {
        let said = run_cli(
            &[args, &["--config", "doorward.yaml"]].concat(),
            folder.path(),
        );
        assert_eq!(said.code, 0, "{}{}", said.stdout, said.stderr);
        said.stdout
    };
    let said = run(&["check"]);
    let line = "called with whole bodies, not streamed: twice (retries.hedge_after)\n";
    assert!(said.contains(line), "{said}");
    let said = run(&["explain", "GET", "http://a.test/t"]);
    for part in [
        "(called: retries.hedge_after)",
        "a second one beside the first after 200ms",
    ] {
        assert!(said.contains(part), "{said}");
    }
    for asked in [["POST", "http://a.test/t"], ["GET", "http://a.test/o"]] {
        let said = run(&["explain", asked[0], asked[1]]);
        assert!(
            !said.contains("called:") && !said.contains("beside"),
            "{said}"
        );
    }
    run(&["test"]);
}
