//! Upstreams that fail are left alone for a while, and never get more than they can take.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test stops at the first thing that is not as expected"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value as Json;

use super::control::{ask_socket, at_socket, metric, metric_becomes, reload};
use super::support::{Client, Gate, Gateway, Origin, Reply, Response, is_full, run_cli, scale};

fn config(url: &str, upstream: &str, route: &str) -> String {
    format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\", limits: {{ requests_per_connection: 100000 }} }} }}\nadmin: {{ socket: admin.sock }}\n\
         upstreams: {{ o: {{ targets: [{{ url: \"{url}\" }}], retries: none{upstream} }} }}\n\
         routes: [{{ name: all, match: {{ path_prefix: / }}, upstream: o{route} }}]\n"
    )
}

fn before(origin: &Origin, upstream: &str, route: &str) -> Gateway {
    Gateway::spawn(&config(&origin.url(), upstream, route))
}

fn ask(gateway: &Gateway) -> Response {
    gateway
        .client()
        .request("GET", "/", &[("Host", "a.test")], b"")
}

/// Fails as long as the flag is set.
fn moody() -> (Origin, Arc<AtomicBool>) {
    let bad = Arc::new(AtomicBool::new(true));
    let mood = Arc::clone(&bad);
    let origin = Origin::answer(move |_| {
        if mood.load(Ordering::SeqCst) {
            Reply::fixed(500, &[], "bad")
        } else {
            Reply::ok("good")
        }
    });
    (origin, bad)
}

fn breakers(gateway: &Gateway) -> Json {
    serde_json::from_str(&at_socket(gateway, "/breakers")).unwrap()
}

const CALLED: &str = ", response: { body: { omit: [x] } }";

#[test]
fn it_opens_and_says_when_to_come_back_and_closes_again() {
    for (upstream, route, name) in [
        (
            ", circuit_breaker: { min_requests: 4, open_for: 1s }",
            "",
            "o",
        ),
        (
            ", circuit_breaker: { min_requests: 4, open_for: 1s }",
            CALLED,
            "o",
        ),
        (
            "",
            ", circuit_breaker: { min_requests: 4, open_for: 1s }",
            "all/o",
        ),
        (
            ", circuit_breaker: { min_requests: 1 }",
            ", circuit_breaker: { min_requests: 4, open_for: 1s }",
            "all/o",
        ),
    ] {
        let (origin, bad) = moody();
        let gateway = before(&origin, upstream, route);
        for _ in 0..4 {
            ask(&gateway).expect(500);
        }
        metric_becomes(&gateway, &state(name), |state| state == 2);
        let refused = ask(&gateway).expect(503);
        assert_eq!(refused.header("retry-after"), Some("1"), "{name}");
        assert_eq!(refused.json()["type"], "urn:doorward:error:circuit_open");
        assert_eq!(origin.count(), 4, "nothing was sent");
        bad.store(false, Ordering::SeqCst);
        let since = Instant::now();
        while ask(&gateway).status != 200 {
            assert!(
                since.elapsed() < Duration::from_secs(20),
                "it never tries again"
            );
        }
        assert_eq!(origin.count(), 5, "one was let through");
        metric_becomes(&gateway, &state(name), |state| state == 0);
        ask(&gateway).expect(200);
    }
}

fn state(name: &str) -> String {
    let route = if name == "o" { "" } else { "all" };
    format!("doorward_circuit_breaker_state{{http_route=\"{route}\",upstream=\"o\"}}")
}

#[test]
fn a_route_may_go_without() {
    let (origin, _bad) = moody();
    let upstream = ", circuit_breaker: { min_requests: 2 }";
    let gateway = before(&origin, upstream, ", circuit_breaker: none");
    for _ in 0..10 {
        ask(&gateway).expect(500);
    }
    assert_eq!(origin.count(), 10);
}

#[test]
fn recovery_is_no_stampede() {
    let gate = Gate::new();
    let held = gate.clone();
    let (slow, probing) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
    );
    let (is_slow, probed) = (Arc::clone(&slow), Arc::clone(&probing));
    let origin = Origin::answer(move |_| {
        if is_slow.load(Ordering::SeqCst) {
            probed.store(true, Ordering::SeqCst);
            Reply::ok("good").after(&held)
        } else {
            Reply::fixed(500, &[], "bad")
        }
    });
    // A probe that finds out nothing for so long lets another one try: the others ask within that.
    let open_for = if is_full() { "20s" } else { "1s" };
    let upstream = format!(", circuit_breaker: {{ min_requests: 2, open_for: {open_for} }}");
    let gateway = before(&origin, &upstream, "");
    ask(&gateway).expect(500);
    ask(&gateway).expect(500);
    slow.store(true, Ordering::SeqCst);
    let addr = gateway.addr();
    let probe = std::thread::spawn(move || {
        let since = Instant::now();
        loop {
            let answer = Client::connect(addr).request("GET", "/", &[("Host", "a.test")], b"");
            if answer.status == 200 || since.elapsed() > Duration::from_secs(120) {
                return answer.status;
            }
        }
    });
    origin.wait_for_heads(3);
    for _ in 0..scale(10_000) {
        ask(&gateway).expect(503);
    }
    gate.open();
    assert_eq!(probe.join().unwrap(), 200);
    assert!(probing.load(Ordering::SeqCst));
    assert_eq!(origin.count(), 3, "one alone found out");
    ask(&gateway).expect(200);
}

#[test]
fn a_slow_upload_keeps_nobody_from_finding_out() {
    for route in ["", ", request: { body: { omit: [x] } }"] {
        let (origin, bad) = moody();
        let breaker = ", circuit_breaker: { min_requests: 2, open_for: 300ms }";
        let gateway = before(&origin, breaker, route);
        ask(&gateway).expect(500);
        ask(&gateway).expect(500);
        bad.store(false, Ordering::SeqCst);
        // Each of them may be the one that is let through; none of them is ever whole.
        let mut slow = Vec::new();
        let since = Instant::now();
        while since.elapsed() < Duration::from_millis(600) {
            let mut client = gateway.client();
            let head = "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{";
            client.send_raw(head.as_bytes());
            slow.push(client);
            std::thread::sleep(Duration::from_millis(20));
        }
        while ask(&gateway).status != 200 {
            // After ten seconds such an upload is given up by itself.
            let waited = since.elapsed();
            assert!(waited < Duration::from_secs(8), "it is kept from it");
        }
        metric_becomes(&gateway, &state("o"), |state| state == 0);
    }
}

#[test]
fn a_reload_changes_nothing_about_it() {
    let (origin, _bad) = moody();
    let text = |open_for: &str| {
        let rules = format!(", circuit_breaker: {{ min_requests: 2, open_for: {open_for} }}");
        (
            config(&origin.url(), &rules, ""),
            config(&origin.url(), "", &rules),
        )
    };
    for of_route in [false, true] {
        let pick = |(upstream, route): (String, String)| if of_route { route } else { upstream };
        let gateway = Gateway::spawn(&pick(text("1m")));
        while ask(&gateway).status == 500 {}
        let sent = origin.count();
        gateway.write_config(&pick(text("2m")));
        reload(&gateway, 0);
        ask(&gateway).expect(503);
        assert_eq!(origin.count(), sent);
        assert_eq!(breakers(&gateway)[0]["state"], "open");
    }
}

#[test]
fn it_is_told_by_hand_what_to_be() {
    let (origin, bad) = moody();
    bad.store(false, Ordering::SeqCst);
    let gateway = before(&origin, ", circuit_breaker: { min_requests: 2 }", "");
    let tell = |verb: &str, name: &str, code: i32| {
        let told = run_cli(&["breakers", verb, name], gateway.dir());
        assert_eq!(told.code, code, "{}{}", told.stdout, told.stderr);
        told.stdout
    };
    assert!(tell("open", "o", 0).contains("open (by hand)"));
    ask(&gateway).expect(503);
    assert_eq!(metric(&gateway, &state("o")), Some(2));
    let listed = run_cli(&["breakers", "list"], gateway.dir());
    assert!(
        listed.stdout.contains("breaker o  open (by hand)"),
        "{}",
        listed.stdout
    );
    bad.store(true, Ordering::SeqCst);
    tell("close", "o", 0);
    for _ in 0..5 {
        ask(&gateway).expect(500);
    }
    assert_eq!(breakers(&gateway)[0]["mode"], "forced");
    tell("auto", "o", 0);
    ask(&gateway).expect(500);
    ask(&gateway).expect(500);
    ask(&gateway).expect(503);
    tell("open", "nobody", 1);
    tell("open", "o&state=close", 1);
    // A route's own has the name that the list gives it.
    let gateway = before(&origin, "", ", circuit_breaker: { min_requests: 2 }");
    let told = run_cli(&["breakers", "open", "all/o"], gateway.dir());
    assert_eq!(told.code, 0, "{}", told.stderr);
    assert!(told.stdout.contains("all/o"), "{}", told.stdout);
    ask(&gateway).expect(503);
}

#[test]
fn only_an_operator_sets_it() {
    let viewer = "tokens: [{ sha256: \"d35ca5051b82ffc326a3b0b6574a9a3161dee16b9478a199ee39cd803ce5b799\", role: viewer }]";
    let (origin, _bad) = moody();
    let text = config(&origin.url(), ", circuit_breaker: {}", "");
    let admin = format!("admin: {{ socket: admin.sock, address: \"127.0.0.2:0\", {viewer} }}");
    let gateway = Gateway::spawn(&text.replace("admin: { socket: admin.sock }", &admin));
    let addr = gateway.process().wait_line("\"admin on http\"", |line| {
        line.split_once("admin on http://")?.1.parse().ok()
    });
    let mut client = Client::connect(addr);
    let token = ("Authorization", "Bearer viewer");
    client
        .request("GET", "/breakers", &[("Host", "localhost"), token], b"")
        .expect(200);
    let path = "/breakers/set?name=o&state=open";
    for (headers, status) in [
        (&[("Host", "localhost"), token][..], 403),
        (&[("Host", "localhost")], 401),
    ] {
        let mut client = Client::connect(addr);
        client.request("POST", path, headers, b"").expect(status);
    }
    let request = "GET /breakers/set?name=o&state=open HTTP/1.1\r\nHost: localhost\r\n";
    assert_eq!(ask_socket(gateway.dir(), request).0, 405);
    assert_eq!(breakers(&gateway)[0]["state"], "closed");
}

#[test]
fn an_upstream_has_no_more_than_its_limit() {
    for route in ["", CALLED] {
        let gate = Gate::new();
        let held = gate.clone();
        let origin = Origin::answer(move |_| Reply::ok("good").after(&held));
        let gateway = before(&origin, ", concurrency: { limit: 2 }", route);
        let mut held: Vec<Client> = (0..2).map(|_| gateway.client()).collect();
        for client in &mut held {
            client.send_request("GET", "/", &[("Host", "a.test")], b"");
        }
        origin.wait_for(2);
        let refused = ask(&gateway).expect(503);
        assert_eq!(refused.json()["type"], "urn:doorward:error:overload");
        assert!(refused.header("retry-after").is_some());
        let of = |name: &str| {
            metric(
                &gateway,
                &format!("doorward_upstream_concurrency{name}{{upstream=\"o\"}}"),
            )
        };
        assert_eq!(of(""), Some(2));
        assert_eq!(of("_limit"), Some(2));
        assert_eq!(of("_refused_total"), Some(1));
        gate.open();
        for client in &mut held {
            client.response("GET").expect(200);
        }
        ask(&gateway).expect(200);
        assert_eq!(origin.count(), 3, "{route}");
    }
}

#[test]
fn a_few_wait_for_their_turn() {
    for route in ["", CALLED] {
        let gate = Gate::new();
        let held = gate.clone();
        let origin = Origin::answer(move |_| Reply::ok("good").after(&held));
        let limit = ", concurrency: { limit: 1, queue: 1, queue_timeout: 20s }";
        let gateway = before(&origin, limit, route);
        let send = || {
            let mut client = gateway.client();
            client.send_request("GET", "/", &[("Host", "a.test")], b"");
            client
        };
        let mut first = send();
        origin.wait_for(1);
        let mut second = send();
        let waiting = "doorward_upstream_concurrency_waiting{upstream=\"o\"}";
        metric_becomes(&gateway, waiting, |waiting| waiting == 1);
        ask(&gateway).expect(503);
        gate.open();
        first.response("GET").expect(200);
        second.response("GET").expect(200);
        assert_eq!(origin.count(), 2, "{route}");
    }
}

#[test]
fn who_goes_away_gives_the_place_back() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::answer(move |_| Reply::ok("good").after(&held));
    let gateway = before(&origin, ", concurrency: { limit: 1 }", "");
    let mut client = gateway.client();
    client.send_request("GET", "/", &[("Host", "a.test")], b"");
    origin.wait_for(1);
    drop(client);
    let taken = "doorward_upstream_concurrency{upstream=\"o\"}";
    metric_becomes(&gateway, taken, |taken| taken == 0);
    gate.open();
    ask(&gateway).expect(200);
}
