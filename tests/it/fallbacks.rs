//! What a client gets where its upstream fails: another upstream, then a fixed answer, marked and logged, and in time.
#![expect(
    clippy::disallowed_methods,
    reason = "a test stops at the first thing that is not as expected"
)]

use std::time::{Duration, Instant};

use serde_json::Value as Json;

use super::control::{metric, metric_becomes};
use super::support::{Frames, Gate, Gateway, Origin, Outcome, Reply, Response, free_port, run_cli};

fn config(main: &str, spare: &str, upstream: &str, clauses: &str) -> String {
    format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\", protocols: [http1, h2c] }} }}\nadmin: {{ socket: admin.sock }}\n\
         upstreams:\n  main: {{ targets: [{{ url: \"{main}\" }}], retries: none{upstream} }}\n  spare: {{ targets: [{{ url: \"{spare}\" }}], retries: none }}\n\
         routes: [{{ name: all, match: {{ path_prefix: / }}, upstream: main, {clauses} }}]\n"
    )
}

const LADDER: &str = "fallback: { steps: [{ upstream: spare }, { stale: 5m }, { respond: { status: 200, json: { items: [], path: \"{request.path}\" } } }] }";
const CALLED: &str = "response: { body: { omit: [x] } }, ";

fn ask(gateway: &Gateway, method: &str, body: &[u8]) -> Response {
    let headers = [("Host", "a.test")];
    gateway.client().request(method, "/menu", &headers, body)
}

/// The last record of the access log.
fn record(gateway: &Gateway) -> Json {
    gateway.process().wait_line("a record", |line| {
        let record: Option<Json> = serde_json::from_str(line).ok();
        record.filter(|it| it["http.route"] == "all")
    })
}

fn answering(status: u16, body: &'static str) -> Origin {
    Origin::answer(move |_| Reply::fixed(status, &[], body))
}

fn dead() -> String {
    format!("http://127.0.0.1:{}", free_port())
}

#[test]
fn another_upstream_takes_its_place() {
    for called in ["", CALLED] {
        let (main, spare) = (answering(503, "busy"), answering(200, "spare"));
        for (url, why) in [(main.url(), "http_503"), (dead(), "connect_failure")] {
            let clauses = format!("{called}{LADDER}");
            let gateway = Gateway::spawn(&config(&url, &spare.url(), "", &clauses));
            let before = spare.count();
            let answer = ask(&gateway, "PUT", b"{}").expect(200);
            assert_eq!(answer.text(), "spare");
            assert_eq!(answer.header("gateway-fallback"), Some("upstream"));
            assert_eq!(spare.count(), before + 1);
            assert_eq!(spare.last().text(), "{}", "with its body");
            let record = record(&gateway);
            assert_eq!(record["decided_by"], "fallback", "{record}");
            assert_eq!(record["fallback"], "upstream");
            assert_eq!(record["fallback.reason"], why);
            assert_eq!(record["upstream"], "spare");
            assert_eq!(record["attempts"], 2);
            assert!(record["error.type"].is_null(), "{record}");
        }
    }
}

#[test]
fn a_fixed_answer_is_the_last_step() {
    for called in ["", CALLED] {
        let spare = answering(500, "bad");
        let clauses = format!("{called}{LADDER}");
        let gateway = Gateway::spawn(&config(&dead(), &spare.url(), "", &clauses));
        let mut client = gateway.client();
        for _ in 0..2 {
            let answer = client
                .request("GET", "/menu", &[("Host", "a.test")], b"")
                .expect(200);
            assert_eq!(answer.header("gateway-fallback"), Some("respond"));
            assert_eq!(answer.header("retry-after"), None);
            assert_eq!(answer.json()["path"], "/menu");
        }
        assert_eq!(spare.count(), 2);
        let record = record(&gateway);
        assert_eq!(record["fallback"], "respond");
        assert_eq!(record["fallback.reason"], "connect_failure", "why it began");
    }
}

#[test]
fn what_failed_is_the_main_upstreams_whatever_takes_its_place() {
    for called in ["", CALLED] {
        for steps in ["{ upstream: spare }", "{ respond: { status: 200 } }"] {
            let (main, spare) = (answering(503, "busy"), answering(200, "spare"));
            let second = answering(503, "busy");
            let clauses = format!("{called}fallback: {{ steps: [{steps}] }}");
            let upstream =
                ", outlier_detection: { consecutive_errors: 1 }, load_balancing: round_robin";
            let targets = format!("{}\" }}, {{ url: \"{}", main.url(), second.url());
            let config = config(&targets, &spare.url(), upstream, &clauses);
            let gateway = Gateway::spawn(&config);
            for _ in 0..3 {
                ask(&gateway, "GET", b"").expect(200);
            }
            let seen = |upstream: &str, class: &str| {
                let of = format!("status_class=\"{class}\",upstream=\"{upstream}\"");
                let name = "http_client_request_duration_seconds_count{error_type=\"\",";
                metric(&gateway, &format!("{name}{of}}}")).unwrap_or(0)
            };
            let spared = if steps.contains("upstream") { 3 } else { 0 };
            assert_eq!(
                (seen("main", "5xx"), seen("spare", "5xx")),
                (3, 0),
                "{steps}"
            );
            assert_eq!(seen("spare", "2xx"), spared, "{steps}");
            let ejected = "doorward_upstream_ejections_total{upstream=\"main\"}";
            metric_becomes(&gateway, ejected, |times| times == 1);
            assert!(
                !gateway.log().contains("request failed"),
                "{}",
                gateway.log()
            );
            let who = if spared > 0 { "spare" } else { "main" };
            assert_eq!(record(&gateway)["upstream"], who);
        }
    }
}

#[test]
fn where_nothing_helps_the_failure_is_told() {
    for called in ["", CALLED] {
        let spare = answering(500, "bad");
        let clauses = format!("{called}fallback: {{ steps: [{{ upstream: spare }}] }}");
        let gateway = Gateway::spawn(&config(&dead(), &spare.url(), "", &clauses));
        let answer = ask(&gateway, "GET", b"").expect(500);
        assert_eq!(answer.text(), "bad");
        let gateway = Gateway::spawn(&config(&dead(), &dead(), "", &clauses));
        let answer = ask(&gateway, "GET", b"").expect(502);
        assert_eq!(answer.header("gateway-fallback"), None);
        assert_eq!(record(&gateway)["decided_by"], "upstream");
    }
}

#[test]
fn what_is_not_named_is_passed_on() {
    for called in ["", CALLED] {
        let (main, spare) = (answering(500, "bad"), answering(200, "spare"));
        let clauses = format!(
            "{called}fallback: {{ when: [timeout, http_503], steps: [{{ upstream: spare }}] }}"
        );
        let gateway = Gateway::spawn(&config(&main.url(), &spare.url(), "", &clauses));
        assert_eq!(ask(&gateway, "GET", b"").expect(500).text(), "bad");
        assert_eq!(spare.count(), 0);
    }
}

#[test]
fn a_good_answer_is_not_marked_whatever_it_says() {
    let main = Origin::answer(|_| Reply::fixed(200, &[("Gateway-Fallback", "stale")], "good"));
    // Nor on a route without a ladder, streamed or called.
    let called = format!("{CALLED}timeouts: none");
    for clauses in [LADDER, "timeouts: none", &called] {
        let gateway = Gateway::spawn(&config(&main.url(), &dead(), "", clauses));
        let answer = ask(&gateway, "GET", b"").expect(200);
        assert_eq!(answer.header("gateway-fallback"), None, "{clauses}");
    }
}

#[test]
fn who_is_silent_is_left_in_time() {
    for called in ["", CALLED] {
        for (upstream, spare_is_asked) in [
            (", timeouts: { first_byte: 200ms }", true),
            (", timeouts: { per_try: 200ms }", true),
            (", timeouts: { total: 200ms }", true),
        ] {
            let gate = Gate::new();
            let held = gate.clone();
            let main = Origin::answer(move |_| Reply::never(&held));
            let spare = answering(200, "spare");
            let clauses = format!("{called}{LADDER}");
            let gateway = Gateway::spawn(&config(&main.url(), &spare.url(), upstream, &clauses));
            let began = Instant::now();
            let answer = ask(&gateway, "PUT", b"{}").expect(200);
            assert!(began.elapsed() < Duration::from_secs(10));
            assert_eq!(answer.text() == "spare", spare_is_asked, "{upstream}");
            gate.open();
        }
        // A route's own total is for everything.
        let gate = Gate::new();
        let held = gate.clone();
        let main = Origin::answer(move |_| Reply::never(&held));
        let spare = answering(200, "spare");
        let clauses = format!("{called}timeouts: {{ total: 200ms }}, {LADDER}");
        let gateway = Gateway::spawn(&config(&main.url(), &spare.url(), "", &clauses));
        let answer = ask(&gateway, "GET", b"").expect(200);
        assert_eq!(answer.header("gateway-fallback"), Some("respond"));
        assert_eq!(spare.count(), 0);
        assert_eq!(record(&gateway)["fallback.reason"], "timeout");
        gate.open();
    }
}

#[test]
fn what_must_not_be_done_twice_goes_to_no_other_upstream_once_it_was_sent() {
    for called in ["", CALLED] {
        let clauses = format!("{called}{LADDER}");
        let gate = Gate::new();
        let held = gate.clone();
        let mute = Origin::answer(move |_| Reply::never(&held));
        let bad = answering(500, "bad");
        for main in [&mute, &bad] {
            let spare = answering(200, "spare");
            let times = ", timeouts: { first_byte: 200ms }";
            let gateway = Gateway::spawn(&config(&main.url(), &spare.url(), times, &clauses));
            for method in ["POST", "PATCH"] {
                let answer = ask(&gateway, method, b"{}").expect(200);
                assert_eq!(answer.header("gateway-fallback"), Some("respond"));
            }
            assert_eq!(spare.count(), 0, "{called}");
            let headers = [("Host", "a.test"), ("Idempotency-Key", "1")];
            let answer = gateway.client().request("POST", "/menu", &headers, b"{}");
            assert_eq!(answer.expect(200).text(), "spare");
        }
        gate.open();
        // Nobody got it.
        let spare = answering(200, "spare");
        let gateway = Gateway::spawn(&config(&dead(), &spare.url(), "", &clauses));
        assert_eq!(ask(&gateway, "POST", b"{}").expect(200).text(), "spare");
    }
}

#[test]
fn the_same_over_http2() {
    let gate = Gate::new();
    let held = gate.clone();
    let main = Origin::answer(move |_| Reply::never(&held));
    let spare = answering(200, "spare");
    let gateway = Gateway::spawn(&config(
        &main.url(),
        &spare.url(),
        ", timeouts: { first_byte: 200ms }",
        LADDER,
    ));
    let mut client = Frames::connect(gateway.addr());
    let fields = [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "a.test"),
        (":path", "/menu"),
    ];
    for _ in 0..2 {
        assert_eq!(
            client.request(&fields, None),
            Outcome::Answer("spare".to_owned())
        );
    }
    gate.open();
}

#[test]
fn an_open_breaker_falls_at_once() {
    for called in ["", CALLED] {
        let (main, spare) = (answering(500, "bad"), answering(200, "spare"));
        let clauses = format!(
            "{called}fallback: {{ when: [circuit_open, no_target], steps: [{{ upstream: spare }}] }}"
        );
        let breaker = ", circuit_breaker: { min_requests: 2 }";
        let gateway = Gateway::spawn(&config(&main.url(), &spare.url(), breaker, &clauses));
        ask(&gateway, "GET", b"").expect(500);
        ask(&gateway, "GET", b"").expect(500);
        assert_eq!(ask(&gateway, "GET", b"").expect(200).text(), "spare");
        assert_eq!((main.count(), spare.count()), (2, 1), "{called}");
    }
}

#[test]
fn nothing_is_asked_again_once_the_answer_began() {
    let main = Origin::answer(|_| Reply::truncated(9, "half"));
    let spare = answering(200, "spare");
    let gateway = Gateway::spawn(&config(&main.url(), &spare.url(), "", LADDER));
    let mut client = gateway.client();
    client.send_request("GET", "/", &[("Host", "a.test")], b"");
    assert!(client.try_response("GET").is_err(), "it is cut");
    assert_eq!(spare.count(), 0);
}

#[test]
fn a_body_that_is_too_long_goes_to_no_other_upstream() {
    let (main, spare) = (answering(503, "busy"), answering(200, "spare"));
    let gateway = Gateway::spawn(&config(&main.url(), &spare.url(), "", LADDER));
    let answer = ask(&gateway, "PUT", &vec![b'a'; 64 * 1024 + 1]).expect(200);
    assert_eq!(answer.header("gateway-fallback"), Some("respond"));
    assert_eq!(spare.count(), 0);
}

#[test]
fn tests_and_explain_show_the_ladder() {
    let text = config("http://127.0.0.1:1", "http://127.0.0.1:2", ", circuit_breaker: {}", LADDER)
        .replace("spare: { targets: [{ url: \"http://127.0.0.1:2\" }], retries: none }", "spare: { targets: [{ url: \"http://127.0.0.1:2\" }], retries: { attempts: 2, retry_on: [http_503] } }");
    let tests = "tests:\n\
        - { request: GET http://a.test/menu, given: { main: { fail: timeout } }, expect: { status: 200, decided_by: fallback, upstream: spare, calls: { main: 1, spare: 1 }, headers: { gateway-fallback: upstream } } }\n\
        - { request: GET http://a.test/menu, given: { main: { status: 503 }, spare: { status: 503 } }, expect: { status: 200, decided_by: fallback, calls: { main: 1, spare: 2 }, json: { items: [], path: /menu } } }\n\
        - { request: GET http://a.test/menu, times: 40, given: { main: { fail: reset }, spare: { fail: reset } }, expect: { calls: { main: 20, spare: 40 }, headers: { gateway-fallback: respond } } }\n";
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(
        folder.path().join("doorward.yaml"),
        format!("{text}{tests}"),
    )
    .unwrap();
    let tested = run_cli(&["test"], folder.path());
    assert_eq!(tested.code, 0, "{}{}", tested.stdout, tested.stderr);
    let told = run_cli(
        &["--format", "json", "explain", "GET", "http://a.test/menu"],
        folder.path(),
    );
    let told: Json = serde_json::from_str(&told.stdout).unwrap();
    assert_eq!(
        told["fallback"]["steps"],
        serde_json::json!(["upstream spare", "stale 5m", "respond"])
    );
    // What must not be done twice goes elsewhere only where nobody got it.
    let posted = run_cli(&["explain", "POST", "http://a.test/menu"], folder.path());
    let spare = "else: upstream spare (where nobody got it so far), stale 5m, respond";
    assert!(posted.stdout.contains(spare), "{}", posted.stdout);
    assert_eq!(told["circuit_breaker"]["state"], "closed");
    let line = run_cli(&["explain", "GET", "http://a.test/menu"], folder.path()).stdout;
    for part in [
        "main 127.0.0.1:1 /menu",
        "breaker closed",
        "else: upstream spare, stale 5m, respond",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
}
