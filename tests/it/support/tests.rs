//! The support itself: that the recorder sees, and that origin and client tell the truth.

use std::sync::Mutex;
use std::time::Duration;

use super::canonical_tests::good;
use super::*;

fn send(origin: &Origin, request: &str) -> Client {
    let mut client = Client::connect(origin.addr());
    client.send_raw(request.as_bytes());
    client
}

#[test]
fn pattern_and_checksum_show_every_change() {
    let pattern = Pattern::new();
    let first: Vec<u8> = [pattern.slice(0, 65_521), pattern.slice(65_521, 65_521)].concat();
    assert!(pattern.matches(0, &first) && pattern.matches(131_042, &first));
    assert!(!pattern.matches(1, &first) && !pattern.matches(65_536, &first));
    let mut cut = Checksum::default();
    first.chunks(7).for_each(|piece| cut.add(piece));
    assert_eq!(cut.value(), checksum(&first));
    assert_ne!(checksum(b"a"), checksum(b"a\0"));
    assert_ne!(checksum(&first), checksum(&first[1..]));
}

#[test]
fn the_recorder_is_not_blind() {
    Origin::control();
}

#[test]
#[should_panic(expected = "no hop-by-hop header: \"connection 0: TE: trailers\"")]
fn a_violation_fails_the_test() {
    let origin = Origin::echo();
    let mut client = send(&origin, &good("GET", "/", "TE: trailers\r\n"));
    assert_eq!(client.try_response("GET"), Err(Ended::Closed));
}

#[test]
fn bytes_before_the_answer_are_a_violation() {
    let late = [
        Reply::ok("a"),
        Reply::ok("a").after(&Gate::new()),
        Reply::gated(200, &[], &[b"a"], &Gate::new()),
    ];
    for reply in late {
        let origin = Origin::answer(move |_| reply.clone());
        let _client = send(
            &origin,
            &[good("GET", "/a", ""), good("GET", "/b", "")].concat(),
        );
        assert_eq!(
            origin.wait_for_violations()[0].rule,
            "no byte before the answer"
        );
        assert_eq!(origin.count(), 1);
    }
}

#[test]
fn probes_need_no_request_id_where_they_are_expected() {
    let origin = Origin::start(Script::echo().probed_at("/healthz"));
    let probe = |path: &str| {
        send(&origin, &format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).try_response("GET")
    };
    assert_eq!(probe("/healthz").unwrap().status, 200);
    assert_eq!(probe("/other"), Err(Ended::Closed));
    assert_eq!(origin.violations()[0].rule, "exactly one X-Request-Id");
}

#[test]
fn requests_are_recorded_as_they_came() {
    let origin = Origin::echo();
    let mut client = send(
        &origin,
        &good("POST", "/a/b?c=d", "X-Mixed: 1\r\nContent-Length: 5\r\n"),
    );
    client.send_raw(b"hello");
    let echo = client.response("POST").expect(200).json();
    assert_eq!(echo["body"], "hello");
    assert_eq!(echo["headers"][2], serde_json::json!(["X-Mixed", "1"]));
    client.send_raw(good("PUT", "/c", "Transfer-Encoding: chunked\r\n").as_bytes());
    assert!(client.send_chunk(b"ab") && client.send_chunk(b"c") && client.send_chunk(b""));
    client.response("PUT").expect(200);
    let seen = origin.wait_for(2);
    assert_eq!(
        (
            seen[0].path.as_str(),
            seen[0].query.as_deref(),
            seen[0].header("x-mixed")
        ),
        ("/a/b", Some("c=d"), Some("1"))
    );
    assert_eq!(
        (seen[1].text(), seen[1].body_sum, seen[1].connection),
        ("abc".to_owned(), checksum(b"abc"), 0)
    );
    assert_eq!(origin.connections()[0].requests, 2);
    assert!(
        origin
            .bytes(0)
            .starts_with(b"POST /a/b?c=d HTTP/1.1\r\nHost: a.test\r\n")
    );
}

#[test]
fn chunks_come_when_they_are_released() {
    let gate = Gate::new();
    let reply = Reply::gated(
        200,
        &[("Content-Type", "text/event-stream")],
        &[b"one", b"two"],
        &gate,
    )
    .interim(103, &[]);
    let origin = Origin::answer(move |_| reply.clone());
    let mut client = send(&origin, &good("GET", "/", ""));
    let head = client.response_head("GET");
    assert_eq!((head.status, head.interim), (200, vec![103]));
    gate.wait_until_waiting(1);
    gate.release();
    assert_eq!(client.read_some().unwrap(), b"one");
    gate.release();
    assert_eq!(client.read_exactly(3), b"two");
    gate.release();
    assert_eq!(client.read_some(), None);
}

#[test]
fn broken_answers_are_told_apart() {
    let answer = |reply: Reply| {
        let origin = Origin::answer(move |_| reply.clone());
        send(&origin, &good("GET", "/", "")).try_response("GET")
    };
    assert_eq!(answer(Reply::close()), Err(Ended::Closed));
    assert_eq!(answer(Reply::reset()), Err(Ended::Reset));
    assert_eq!(
        answer(Reply::ok("a").then_reset()).map(|response| response.text()),
        Ok("a".to_owned())
    );
    assert_eq!(answer(Reply::truncated(10, "abc")), Err(Ended::Truncated));
    assert!(matches!(answer(Reply::garbage()), Err(Ended::Garbage(_))));
    assert_eq!(
        answer(Reply::raw("HTTP/1.1 200 OK\r\n\r\nend")).map(|response| response.text()),
        Ok("end".to_owned())
    );
    assert_eq!(
        answer(Reply::chunked(200, &[], &[b"a", b"b"])).map(|response| response.text()),
        Ok("ab".to_owned())
    );
}

#[test]
fn an_origin_that_never_answers_stops_all_the_same() {
    let gate = Gate::new();
    let never = Reply::never(&gate);
    let origin = Origin::answer(move |_| never.clone());
    let client = send(&origin, &good("GET", "/a", ""));
    gate.wait_until_waiting(1);
    drop(client);
    origin.wait_closed(0);
    let mut client = send(&origin, &good("GET", "/b", "")).read_timeout(Duration::from_millis(5));
    assert_eq!(client.try_response("GET"), Err(Ended::TimedOut));
    gate.wait_until_waiting(1);
    drop(origin);
    assert!(client.closed_by_gateway());
}

#[test]
fn large_bodies_need_no_memory() {
    let origin = Origin::answer(|request| Reply::large(request.body_len));
    let bytes = 40_000_000;
    let mut client = send(
        &origin,
        &good("POST", "/", &format!("Content-Length: {bytes}\r\n")),
    );
    assert_eq!(client.send_pattern(bytes), bytes);
    assert_eq!(client.response_head("POST").status, 200);
    assert_eq!(client.drain(), (bytes, true));
    let seen = origin.last();
    assert_eq!(
        (seen.body_len, seen.body.len(), seen.body_is_pattern),
        (bytes, 1024 * 1024, true)
    );
    drop(origin);
    let origin = Origin::answer(|_| Reply::endless());
    let mut client = send(&origin, &good("GET", "/", ""));
    client.response_head("GET");
    assert!(client.read_some().is_some());
}

#[test]
fn held_bodies_press_back() {
    let gate = Gate::new();
    let origin = Origin::start(Script::echo().hold_bodies(&gate));
    let bytes = 30_000_000;
    let mut client = send(
        &origin,
        &good("POST", "/", &format!("Content-Length: {bytes}\r\n")),
    );
    let sender = std::thread::spawn(move || {
        let sent = client.send_pattern(bytes);
        (sent, client.response("POST").status)
    });
    gate.wait_until_waiting(1);
    assert_eq!(origin.wait_for_heads(1)[0].body_len, 0);
    gate.open();
    assert!(origin.wait_for_body(1_000_000).body_len >= 1_000_000);
    assert_eq!(sender.join().unwrap(), (bytes, 200));
}

#[test]
fn early_answers_come_before_the_body() {
    let script = Script::echo().early(|request| match request.path.as_str() {
        "/early" => Early::Answer(Reply::fixed(413, &[], "")),
        _ => Early::Read,
    });
    let origin = Origin::start(script);
    let mut client = send(&origin, &good("POST", "/early", "Content-Length: 5\r\n"));
    client.response("POST").expect(413);
    client.send_raw(b"hello");
    assert_eq!(origin.wait_for(1)[0].text(), "hello");
    client.send_raw(good("GET", "/next", "").as_bytes());
    client.response("GET").expect(200);
}

#[test]
fn after_101_bytes_come_back() {
    let origin = Origin::answer(|_| Reply::upgrade(&[]));
    let mut client = send(
        &origin,
        &good("GET", "/", "Connection: Upgrade\r\nUpgrade: websocket\r\n"),
    );
    assert_eq!(client.response("GET").status, 101);
    client.send_raw(b"\x81\0GET / HTTP/1.1\n\n");
    assert_eq!(client.read_raw().unwrap(), b"\x81\0GET / HTTP/1.1\n\n");
}

#[test]
fn a_cut_request_is_not_whole() {
    let origin = Origin::echo();
    drop(send(&origin, &good("POST", "/", "Content-Length: 5\r\n")));
    drop(send(&origin, "GET / HT"));
    origin.wait_closed(0);
    origin.wait_closed(1);
    assert_eq!((origin.count(), origin.complete()), (1, 0));
    assert!(!origin.last().complete);
}

#[test]
fn an_origin_comes_back_at_its_port() {
    let addr = Origin::echo().addr();
    assert!(Client::try_connect(addr).is_err());
    let origin = Origin::start_at(addr, Script::fixed(204, &[("X-A", "1")], ""));
    let mut client = send(&origin, &good("HEAD", "/", ""));
    assert_eq!(client.response("HEAD").expect(204).header("x-a"), Some("1"));
}

#[test]
fn ports_are_given_once() {
    let given = Mutex::new(std::collections::BTreeSet::new());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert!((0..5).all(|_| given.lock().unwrap().insert(free_port()))));
        }
    });
}
