//! How long a request may take: each of its steps ends in time, also where an upstream sends just enough to look alive.
#![expect(
    clippy::disallowed_methods,
    reason = "a test stops at the first thing that is not as expected"
)]

use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::support::{
    Early, Ended, Gate, Gateway, Origin, Reply, Script, dribbling, dribbling_after, get, run_cli,
};

/// The catch-all in front of one target, with clauses of the upstream and of the route.
fn before(target: &str, upstream: &str, route: &str) -> Gateway {
    Gateway::spawn(&format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\" }} }}\n\
         upstreams: {{ o: {{ targets: [{{ url: \"{target}\" }}]{upstream} }} }}\n\
         routes: [{{ name: all, match: {{ path_prefix: / }}, upstream: o{route} }}]\n"
    ))
}

/// The answer to one GET, and how long it took.
fn timed(gateway: &Gateway) -> (super::support::Response, Duration) {
    let began = Instant::now();
    let response = get(gateway.addr(), "/", "a.test");
    (response, began.elapsed())
}

/// Both bounds are wide: the lower one shows that the deadline was waited for, the upper one that nothing else was.
fn about(took: Duration, expected: u64) {
    let expected = Duration::from_millis(expected);
    assert!(took >= expected, "{took:?} is before {expected:?}");
    assert!(took < expected + Duration::from_secs(2), "{took:?}");
}

const ENDLESS_HEAD: &str = "HTTP/1.1 200 OK\r\nx-padding: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\ncontent-length: 0\r\n\r\n";

#[test]
fn a_head_that_dribbles_is_504_at_the_total_deadline() {
    let target = dribbling(ENDLESS_HEAD, Duration::from_millis(60));
    let url = format!("http://{target}");
    let gateway = before(&url, ", timeouts: { total: 300ms }", "");
    let (response, took) = timed(&gateway);
    assert_eq!(response.status, 504);
    assert!(response.text().contains("timeout"), "{}", response.text());
    about(took, 300);
}

#[test]
fn a_head_that_dribbles_is_504_at_the_deadline_of_its_try() {
    let target = dribbling(ENDLESS_HEAD, Duration::from_millis(60));
    let url = format!("http://{target}");
    let gateway = before(&url, ", timeouts: { per_try: 250ms }", "");
    let (response, took) = timed(&gateway);
    assert_eq!(response.status, 504);
    about(took, 250);
}

#[test]
fn a_silent_target_is_504_at_first_byte() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::start(Script::new(move |_| Reply::never(&held)));
    for clause in [
        ", timeouts: { first_byte: 200ms }",
        // The longer one must not stand for the shorter one.
        ", timeouts: { first_byte: 200ms, between_bytes: 30s }",
        ", timeouts: { total: 200ms }",
    ] {
        let gateway = before(&origin.url(), clause, "");
        let (response, took) = timed(&gateway);
        assert_eq!(response.status, 504, "{clause}");
        about(took, 200);
    }
    gate.open();
}

#[test]
fn a_request_that_is_given_up_is_answered_and_recorded_whatever_its_head_holds() {
    let target = dribbling(ENDLESS_HEAD, Duration::from_millis(60));
    let gateway = Gateway::spawn(&format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\", limits: {{ header_bytes: 64KiB, uri: 32KiB }} }} }}\n\
         upstreams: {{ o: {{ targets: [{{ url: \"http://{target}\" }}], timeouts: {{ total: 200ms }} }} }}\n\
         routes: [{{ name: all, match: {{ path_prefix: / }}, upstream: o }}]\n"
    ));
    // Bytes that are no UTF-8 (RFC 9110 section 5.5), and more than fits where nothing is written.
    let long = "v".repeat(20_000);
    let heads: [(&str, &[u8]); 3] = [
        ("/latin", b"x-name: caf\xe9 \xff"),
        ("/long", long.as_bytes()),
        ("/plain", b"x-name: cafe"),
    ];
    for (path, line) in heads {
        let mut client = gateway.client();
        let name: &[u8] = if path == "/long" { b"x-long: " } else { b"" };
        let head = format!("GET {path} HTTP/1.1\r\nhost: a.test\r\n");
        client.send_raw(&[head.as_bytes(), name, line, b"\r\n\r\n"].concat());
        client.response("GET").expect(504);
        gateway
            .process()
            .wait_log(&format!("\"url.path\":\"{path}\""));
    }
}

#[test]
fn a_head_request_that_is_given_up_gets_a_head_only() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::start(Script::new(move |_| Reply::never(&held)));
    let gateway = before(&origin.url(), ", timeouts: { total: 200ms }", "");
    let mut client = gateway.client();
    client.send_request("HEAD", "/given-up", &[("host", "a.test")], b"");
    let answer = client.response_head("HEAD").expect(504);
    assert_ne!(answer.header("content-length"), Some("0"));
    assert_eq!(client.read_to_end(), Ok(Vec::new()));
    let record = gateway.process().wait_log("/given-up");
    assert!(record.contains("\"http.response.body.size\":0"), "{record}");
    gate.open();
}

#[test]
fn a_route_replaces_the_times_of_its_upstream_as_a_whole() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::start(Script::new(move |_| Reply::never(&held)));
    let upstream = ", timeouts: { first_byte: 150ms }";
    let gateway = before(&origin.url(), upstream, ", timeouts: { total: 600ms }");
    let (response, took) = timed(&gateway);
    assert_eq!(response.status, 504);
    about(took, 600);
    gate.open();
}

#[test]
fn upstreams_inherit_their_times() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::start(Script::new(move |_| Reply::never(&held)));
    let gateway = Gateway::spawn(&format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\" }} }}\n\
         defaults: {{ upstreams: {{ timeouts: {{ first_byte: 200ms }} }} }}\n\
         upstreams:\n  a: {{ targets: [{{ url: \"{0}\" }}] }}\n  b: {{ targets: [{{ url: \"{0}\" }}], timeouts: {{ total: 700ms }} }}\n\
         routes:\n  - {{ name: a, match: {{ path: /a }}, upstream: a }}\n  - {{ name: b, match: {{ path: /b }}, upstream: b }}\n",
        origin.url()
    ));
    for (path, expected) in [("/a", 200), ("/b", 700)] {
        let began = Instant::now();
        assert_eq!(get(gateway.addr(), path, "a.test").status, 504);
        about(began.elapsed(), expected);
    }
    gate.open();
}

#[test]
fn a_body_that_stops_is_cut_between_bytes() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::answer(move |_| Reply::gated(200, &[], &[b"first", b"second"], &held));
    let gateway = before(&origin.url(), ", timeouts: { between_bytes: 200ms }", "");
    gate.release();
    let began = Instant::now();
    let mut client = gateway.client();
    client.send_request("GET", "/", &[("host", "a.test")], b"");
    let ended = client.try_response("GET");
    assert!(
        matches!(ended, Err(Ended::Truncated | Ended::Reset)),
        "{ended:?}"
    );
    about(began.elapsed(), 200);
    gate.open();
}

#[test]
fn a_written_total_holds_to_the_last_byte() {
    static HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 200\r\n\r\n";
    static BODY: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    let target = dribbling_after(HEAD, BODY, Duration::from_millis(15));
    let url = format!("http://{target}");
    let gateway = before(&url, ", timeouts: { total: 900ms }", "");
    let began = Instant::now();
    let mut client = gateway.client();
    client.send_request("GET", "/", &[("host", "a.test")], b"");
    let ended = client.try_response("GET");
    assert!(
        matches!(ended, Err(Ended::Truncated | Ended::Reset)),
        "{ended:?}"
    );
    about(began.elapsed(), 900);
}

#[test]
fn an_event_stream_is_free_of_the_total() {
    let gate = Gate::new();
    let held = gate.clone();
    let stream = [("content-type", "text/event-stream")];
    let origin = Origin::answer(move |_| {
        Reply::gated(200, &stream, &[b"data: 1\n\n", b"data: 2\n\n"], &held)
    });
    let times = ", timeouts: { total: 200ms, between_bytes: 10s }";
    let gateway = before(&origin.url(), times, "");
    let mut client = gateway.client();
    client.send_request("GET", "/", &[("host", "a.test")], b"");
    client.response_head("GET").expect(200);
    // Longer than the total: what waits here is the stream itself, not the test.
    std::thread::park_timeout(Duration::from_millis(500));
    gate.open();
    let (bytes, reset) = client.drain();
    assert_eq!((bytes, reset), (18, false));
}

#[test]
fn a_client_that_takes_its_time_to_send_is_no_silent_target() {
    let origin = Origin::echo();
    let gateway = before(&origin.url(), ", timeouts: { first_byte: 150ms }", "");
    let mut client = gateway.client();
    client.send_raw(b"POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 10\r\n\r\nhello");
    origin.wait_for_body(5);
    std::thread::park_timeout(Duration::from_millis(400));
    client.send_raw(b"world");
    client.response("POST").expect(200);
}

#[test]
fn an_answer_that_begins_before_the_request_is_whole_waits_for_the_client() {
    let gate = Gate::new();
    let reply = Reply::gated(200, &[], &[b"first", b"second"], &gate);
    let script = Script::echo().early(move |_| Early::Answer(reply.clone()));
    let origin = Origin::start(script);
    let gateway = before(&origin.url(), ", timeouts: { between_bytes: 150ms }", "");
    let mut client = gateway.client();
    client.send_raw(b"POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 10\r\n\r\nhello");
    assert_eq!(client.response_head("POST").status, 200);
    std::thread::park_timeout(Duration::from_millis(400));
    client.send_raw(b"world");
    assert_eq!(origin.wait_for_body(10).body_len, 10);
    gate.open();
    assert_eq!(client.drain(), (11, false));
}

#[test]
fn a_tunnel_may_be_silent_longer_than_an_answer() {
    let origin = Origin::answer(|_| Reply::upgrade(&[]));
    let times = ", timeouts: { first_byte: 150ms, between_bytes: 150ms, total: 200ms }";
    let gateway = before(&origin.url(), times, "");
    let mut client = gateway.client();
    let upgrade = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Version", "13"),
    ];
    client.send_request("GET", "/", &upgrade, b"");
    assert_eq!(client.response_head("GET").status, 101);
    for _ in 0..2 {
        std::thread::park_timeout(Duration::from_millis(500));
        assert!(client.send_raw(b"still here"));
        assert_eq!(client.read_raw(), Ok(b"still here".to_vec()));
    }
}

#[test]
fn a_request_that_is_sent_again_is_not_counted_twice() {
    // It answers the first request of a connection, and is gone when the second one comes.
    let origin = Origin::answer(|request| {
        if request.path == "/die" && request.connection == 0 {
            Reply::close()
        } else {
            Reply::echo(request)
        }
    });
    let gateway = before(&origin.url(), "", ", body_limits: { request: 1KiB }");
    let mut client = gateway.client();
    client.get("/first").expect(200);
    let answer = client.request("GET", "/die", &[], &[b'a'; 700]).expect(200);
    assert_eq!(
        (answer.json()["body_len"].as_u64(), origin.count()),
        (Some(700), 3)
    );
}

#[test]
fn a_request_that_is_given_up_is_recorded_once() {
    let target = dribbling(ENDLESS_HEAD, Duration::from_millis(60));
    let url = format!("http://{target}");
    let gateway = before(&url, ", timeouts: { total: 200ms }", "");
    assert_eq!(get(gateway.addr(), "/late?x=1", "a.test").status, 504);
    let line = gateway.process().wait_log("/late");
    let record = line
        .lines()
        .find(|line| line.contains("/late"))
        .unwrap()
        .to_owned();
    for part in [
        "\"http.response.status_code\":504",
        "\"error.type\":\"timeout\"",
        "\"http.route\":\"all\"",
        "\"decided_by\":\"upstream\"",
    ] {
        assert!(record.contains(part), "{part} in {record}");
    }
}

#[test]
fn a_connection_that_nobody_takes_is_504_in_time() {
    // A backlog of nothing: the third connection waits for ever.
    let full = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = full.local_addr().unwrap();
    let mut waiting = Vec::new();
    while waiting.len() < 5000 {
        match TcpStream::connect_timeout(&addr, Duration::from_millis(150)) {
            Ok(stream) => waiting.push(stream),
            Err(_) => break,
        }
    }
    let gateway = before(
        &format!("http://{addr}"),
        ", timeouts: { connect: 200ms }",
        "",
    );
    let (response, took) = timed(&gateway);
    assert_eq!(response.status, 504, "{}", waiting.len());
    about(took, 200);
}

#[test]
fn a_long_request_body_is_413_before_it_is_read() {
    let origin = Origin::echo();
    let gateway = before(&origin.url(), "", ", body_limits: { request: 1KiB }");
    let mut client = gateway.client();
    client.send_raw(b"POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 1025\r\n\r\n");
    client.response("POST").expect(413);
    assert_eq!(origin.count(), 0);
    let whole = vec![b'a'; 1024];
    gateway
        .client()
        .request("POST", "/", &[("host", "a.test")], &whole)
        .expect(200);
}

#[test]
fn a_body_that_does_not_say_how_long_it_is_breaks_off_at_the_limit() {
    let origin = Origin::echo();
    let gateway = before(&origin.url(), "", ", body_limits: { request: 1KiB }");
    let mut client = gateway.client();
    client.send_raw(b"POST / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n");
    client.send_chunk(&[b'a'; 1000]);
    client.send_chunk(&[b'a'; 1000]);
    client.response("POST").expect(413);
    assert_eq!(origin.complete(), 0);
}

#[test]
fn ten_mebibytes_are_the_limit_where_nothing_is_written() {
    let origin = Origin::echo();
    let gateway = before(&origin.url(), "", "");
    let mut client = gateway.client();
    client.send_raw(b"POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 10485761\r\n\r\n");
    client.response("POST").expect(413);
    let off = before(&origin.url(), "", ", body_limits: none");
    let mut client = off.client();
    client.send_raw(b"POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 10485761\r\n\r\n");
    client.send_pattern(10_485_761);
    client.response("POST").expect(200);
}

#[test]
fn an_answer_that_says_it_is_too_long_is_502_and_one_that_is_gets_cut() {
    let counted = Origin::answer(|_| Reply::large(2048));
    let limits = ", body_limits: { response: 1KiB }";
    let gateway = before(&counted.url(), "", limits);
    let response = get(gateway.addr(), "/", "a.test").expect(502);
    assert!(
        response.text().contains("response_too_large"),
        "{}",
        response.text()
    );
    let uncounted = Origin::answer(|_| Reply::large_chunked(2048));
    let gateway = before(&uncounted.url(), "", limits);
    let mut client = gateway.client();
    client.send_request("GET", "/", &[("host", "a.test")], b"");
    let ended = client.try_response("GET");
    match ended {
        Ok(response) => assert_eq!(response.status, 502),
        Err(ended) => assert!(
            matches!(ended, Ended::Truncated | Ended::Reset),
            "{ended:?}"
        ),
    }
    let short = Origin::answer(|_| Reply::large(1024));
    let gateway = before(&short.url(), "", limits);
    get(gateway.addr(), "/", "a.test").expect(200);
}

#[test]
fn shipped_limits_of_bodies_are_shown() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("doorward.yaml"),
        "version: 1\nlisteners: { a: { address: \"127.0.0.1:0\" } }\n",
    )
    .unwrap();
    let shown = run_cli(&["config", "show", "--format", "json"], dir.path());
    let shown: serde_json::Value = serde_json::from_str(&shown.stdout).expect("JSON");
    assert_eq!(
        shown["defaults"]["routes"]["body_limits"]["request"],
        "10MiB"
    );
}
