//! Routes that are called: bodies in another shape, read as a whole within limits and time, and whatever may go wrong.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test stops at the first thing that is not as expected"
)]

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::control::{metric, metric_becomes};
use super::support::{
    Client, Frames, Gate, Gateway, Origin, Outcome, Recorded, Reply, Response, frames, run_cli,
    scale,
};

const BOTH: &str =
    "request: { body: { omit: [secret] } }, response: { body: { omit: [internal] } }";
const JSON: (&str, &str) = ("Content-Type", "application/json");

fn config(url: &str, clauses: &str) -> String {
    format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\", protocols: [http1, h2c], limits: {{ requests_per_connection: 100000 }} }} }}\n\
         admin: {{ socket: admin.sock }}\n\
         upstreams: {{ o: {{ targets: [{{ url: \"{url}\" }}] }} }}\n\
         routes: [{{ name: all, match: {{ path_prefix: / }}, {clauses}, upstream: o }}]\n"
    )
}

fn before(origin: &Origin, clauses: &str) -> Gateway {
    Gateway::spawn(&config(&origin.url(), clauses))
}

fn answering(reply: Reply) -> Origin {
    Origin::answer(move |_| reply.clone())
}

fn of_json(body: &str) -> Reply {
    Reply::fixed(200, &[JSON], body)
}

fn post(gateway: &Gateway, headers: &[(&str, &str)], body: &[u8]) -> Response {
    gateway.client().request("POST", "/", headers, body)
}

#[track_caller]
fn check_problem(answer: &Response, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(
        answer.json()["type"],
        format!("urn:doorward:error:{code}"),
        "{}",
        answer.text()
    );
}

#[test]
fn both_bodies_get_their_new_shape_to_the_digit() {
    let answer = r#"{"id": 12345678901234567890, "cust_no": 7, "internal": {"cost": 1}, "items": [{"sku": "a", "cost": 2.50}]}"#;
    let origin = answering(of_json(answer));
    let gateway = before(
        &origin,
        "request: { body: { pick: [items], rename: { items.qty: quantity }, set: { source: \"{request.method}\", n: 1.50, who: \"{request.headers.x-who}\" } } }, \
         response: { body: { omit: [internal, items.cost], rename: { cust_no: customer_id }, set: { source: gateway, code: \"{response.status}\" } } }",
    );
    let sent = br#"{"secret":1,"items":[{"qty":9007199254740993,"who":"x"},{"qty":1e400}],"who":"forged"}"#;
    let answer = post(&gateway, &[JSON], sent).expect(200);
    assert_eq!(
        origin.last().text(),
        r#"{"items":[{"quantity":9007199254740993,"who":"x"},{"quantity":1e400}],"source":"POST","n":1.5}"#
    );
    assert_eq!(
        answer.text(),
        r#"{"id":12345678901234567890,"customer_id":7,"items":[{"sku":"a"}],"source":"gateway","code":"200"}"#
    );
    let length = answer.body.len().to_string();
    assert_eq!(answer.header("content-length"), Some(length.as_str()));
    assert_eq!(
        origin.last().header("content-length"),
        Some(origin.last().body.len().to_string().as_str())
    );
}

/// Headers and body of a request, and what is answered: a status and its code.
type Sent<'a> = (&'a [(&'a str, &'a str)], &'a [u8], u16, &'a str);

#[test]
fn a_request_that_is_no_json_gets_its_status_and_is_not_sent() {
    let origin = Origin::echo();
    let gateway = before(&origin, BOTH);
    let deep = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
    let cases: &[Sent<'_>] = &[
        (&[], b"{}", 415, "unsupported_media_type"),
        (
            &[("Content-Type", "text/plain")],
            b"{}",
            415,
            "unsupported_media_type",
        ),
        (
            &[JSON, ("Content-Encoding", "gzip")],
            b"{}",
            415,
            "unsupported_media_type",
        ),
        (&[JSON], b"{", 400, "bad_body"),
        (&[JSON], b"{} {}", 400, "bad_body"),
        (&[JSON], b"{\"a\":1,\"a\":2}", 400, "bad_body"),
        (&[JSON], b"\"\xff\"", 400, "bad_body"),
        (&[JSON], &deep, 400, "bad_body"),
    ];
    for (headers, body, status, code) in cases {
        check_problem(&post(&gateway, headers, body), *status, code);
    }
    assert_eq!(origin.count(), 0);
    let mut client = gateway.client();
    check_problem(&client.request("POST", "/", &[JSON], b"{"), 400, "bad_body");
    // The connection goes on, and what has no body needs no type.
    client.request("POST", "/", &[], b"").expect(200);
    client.get("/").expect(200);
    let problem = ("Content-Type", "application/problem+json; charset=utf-8");
    client
        .request("POST", "/", &[problem], b"{\"secret\":1}")
        .expect(200);
    assert_eq!(origin.last().text(), "{}");
}

#[test]
fn answers_that_are_not_to_be_shaped_pass_as_they_are() {
    let body = "{\"internal\":1}";
    let text = [
        ("Content-Type", "text/html"),
        ("ETag", "\"a\""),
        ("Content-Encoding", "br"),
    ];
    for (reply, status, expected) in [
        (
            Reply::fixed(404, &[JSON, ("ETag", "\"a\"")], body),
            404,
            body,
        ),
        (Reply::fixed(200, &text, body), 200, body),
        (
            Reply::fixed(200, &[("ETag", "\"a\"")], "no json"),
            200,
            "no json",
        ),
        (Reply::fixed(200, &[JSON, ("ETag", "\"a\"")], ""), 200, ""),
    ] {
        let origin = answering(reply);
        let answer = before(&origin, BOTH).client().get("/").expect(status);
        assert_eq!(answer.text(), expected);
        assert_eq!(answer.header("etag"), Some("\"a\""));
    }
    let origin = answering(Reply::fixed(204, &[], ""));
    let gateway = before(&origin, BOTH);
    let mut client = gateway.client();
    assert_eq!(client.get("/").expect(204).header("content-length"), None);
    client.get("/").expect(204);
    // What says nothing of itself, but looks like JSON, must not get past.
    let origin = answering(Reply::ok(body));
    assert_eq!(
        before(&origin, BOTH).client().get("/").expect(200).text(),
        "{}"
    );
}

#[test]
fn what_was_said_of_the_old_body_is_gone() {
    let said = [
        JSON,
        ("ETag", "\"a\""),
        ("Content-Digest", "sha-256=:AAAA:"),
        ("Repr-Digest", "sha-256=:AAAA:"),
        ("Digest", "sha-256=AAAA"),
        ("Content-MD5", "AAAA"),
        ("Accept-Ranges", "bytes"),
        ("X-Kept", "1"),
    ];
    let origin = Origin::answer(move |request: &Recorded| match request.path.as_str() {
        "/304" => Reply::fixed(304, &said, ""),
        _ => Reply::fixed(200, &said, "{\"internal\":1}"),
    });
    let gateway = before(&origin, BOTH);
    let mut client = gateway.client();
    for (method, path) in [("GET", "/"), ("HEAD", "/"), ("GET", "/304")] {
        let asked = [
            ("Accept-Encoding", "gzip"),
            ("Range", "bytes=0-1"),
            ("If-Range", "\"a\""),
            ("X-Kept", "1"),
        ];
        let answer = client.request(method, path, &asked, b"");
        for name in [
            "content-digest",
            "repr-digest",
            "digest",
            "content-md5",
            "accept-ranges",
        ] {
            assert_eq!(answer.header(name), None, "{method} {path} {name}");
        }
        assert_eq!(answer.header("etag"), Some("W/\"a\""), "{method} {path}");
        assert_eq!(answer.header("x-kept"), Some("1"));
        let length = (method, path) == ("GET", "/");
        assert_eq!(
            answer.header("content-length"),
            length.then_some("2"),
            "{method} {path}"
        );
        let seen = origin.last();
        assert_eq!(seen.header("accept-encoding"), Some("identity"));
        assert_eq!(
            (seen.header("range"), seen.header("if-range")),
            (None, None)
        );
        assert_eq!(seen.header("x-kept"), Some("1"));
    }
}

#[test]
fn what_belongs_to_one_connection_is_not_called_with() {
    let origin = Origin::echo();
    let gateway = before(&origin, BOTH);
    let sent = [
        (
            "Connection",
            "x-hop, keep-alive, TE, Upgrade, HTTP2-Settings",
        ),
        ("X-Hop", "1"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "keep-alive"),
        ("Proxy-Authorization", "Basic x"),
        ("TE", "trailers"),
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA"),
        ("X-User-Id", "forged"),
        ("X-Kept", "1"),
        ("Transfer-Encoding", "chunked"),
        JSON,
    ];
    let mut client = gateway.client();
    client.send_request("POST", "/a?b=c", &sent, b"");
    client.send_chunk(b"{\"a\":1,");
    client.send_chunk(b"\"secret\":2}");
    client.send_chunk(b"");
    client.response("POST").expect(200);
    let seen = origin.last();
    for name in [
        "connection",
        "x-hop",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "te",
        "upgrade",
        "http2-settings",
        "x-user-id",
        "transfer-encoding",
    ] {
        assert_eq!(seen.header(name), None, "{name}");
    }
    assert_eq!(seen.header("x-kept"), Some("1"));
    assert_eq!(seen.target, "/a?b=c");
    assert_eq!(seen.text(), "{\"a\":1}");
    assert!(seen.header("x-forwarded-for").is_some() && seen.header("via").is_some());
    client.get("/").expect(200);
}

#[test]
fn a_body_over_the_limit_gets_413_before_the_upstream_is_asked() {
    let limit = scale(10 * 1024 * 1024);
    let origin = Origin::echo();
    let limits = format!("{BOTH}, body_limits: {{ request: {limit}B }}");
    let gateway = before(&origin, &limits);
    let body = |length: u64| {
        let length = usize::try_from(length).unwrap();
        format!("[\"{}\"]", "x".repeat(length - 4))
    };
    check_problem(
        &post(&gateway, &[JSON], body(limit + 1).as_bytes()),
        413,
        "body_too_large",
    );
    let mut client = gateway.client();
    client.send_request("POST", "/", &[JSON, ("Transfer-Encoding", "chunked")], b"");
    client.send_chunk(body(limit + 1).as_bytes());
    check_problem(&client.response("POST"), 413, "body_too_large");
    assert_eq!(origin.count(), 0);
    post(&gateway, &[JSON], body(limit).as_bytes()).expect(200);
    assert_eq!(origin.last().body_len, limit);
}

#[test]
fn an_answer_over_the_limit_is_502_however_it_comes() {
    let limit = scale(10 * 1024 * 1024);
    for reply in [
        Reply::large(limit + 1),
        Reply::large_chunked(limit + 1),
        Reply::endless(),
    ] {
        let origin = answering(reply);
        let limits = format!("{BOTH}, body_limits: {{ response: {limit}B }}");
        let gateway = before(&origin, &limits);
        check_problem(&gateway.client().get("/"), 502, "response_too_large");
        origin.wait_closed(0);
    }
    let origin = answering(Reply::large(limit));
    let limits = format!("{BOTH}, body_limits: {{ response: {limit}B }}");
    let answer = before(&origin, &limits).client().get("/").expect(200);
    assert_eq!(answer.body.len() as u64, limit);
    // Where nothing is written, 10 MiB.
    let origin = answering(Reply::large(10 * 1024 * 1024 + 1));
    let gateway = before(&origin, &format!("{BOTH}, body_limits: none"));
    check_problem(&gateway.client().get("/"), 502, "response_too_large");
}

/// What an upstream may say that is not so, and the code of the fault.
fn lies() -> Vec<(&'static str, String, &'static str)> {
    let length = |length: usize, body: &str| {
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    };
    let chunks = |body: &str| {
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{body}"
        )
    };
    let json = "{\"a\":1}";
    vec![
        ("longer than it says", length(4, json), "bad_answer"),
        ("shorter than it says", length(99, json), "reset"),
        ("chunks that end", chunks("7\r\n{\"a\":1}\r\n"), "reset"),
        ("chunks that are none", chunks("zz\r\n"), "protocol_error"),
        ("no JSON", length(1, "{"), "bad_answer"),
        ("twice", length(13, "{\"a\":1,\"a\":2}"), "bad_answer"),
        (
            "encoded all the same",
            length(2, "{}").replace("Content-Length", "Content-Encoding: gzip\r\nContent-Length"),
            "bad_answer",
        ),
        (
            "a part",
            length(2, "{}").replace(
                "200 OK",
                "206 Partial Content\r\nContent-Range: bytes 0-1/9",
            ),
            "bad_answer",
        ),
        ("closed", String::new(), "reset"),
        (
            "half a head",
            "HTTP/1.1 200 OK\r\nContent-Le".to_owned(),
            "reset",
        ),
        ("garbage", "no http\r\n\r\n".to_owned(), "protocol_error"),
        (
            "two lengths",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab".to_owned(),
            "protocol_error",
        ),
        (
            "an unknown coding",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, x\r\n\r\nab".to_owned(),
            "protocol_error",
        ),
        (
            "an upgrade nobody asked for",
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
                .to_owned(),
            "protocol_error",
        ),
    ]
}

#[test]
fn a_lying_upstream_gives_502_and_its_connection_is_not_used_again() {
    for (what, bytes, code) in lies() {
        let origin = Origin::answer(move |request: &Recorded| match request.path.as_str() {
            "/good" => of_json("{\"a\":1}"),
            _ => Reply::raw(bytes.clone()),
        });
        let gateway = before(&origin, BOTH);
        let mut client = gateway.client();
        let answer = client.request("POST", "/", &[], b"");
        assert_eq!(answer.status, 502, "{what}: {}", answer.text());
        check_problem(&answer, 502, code);
        assert_eq!(origin.count(), 1, "{what}");
        assert_eq!(
            client.get("/good").expect(200).text(),
            "{\"a\":1}",
            "{what}"
        );
        if what != "no JSON" && what != "twice" {
            assert_eq!(origin.last().connection, 1, "{what}");
        }
    }
}

#[test]
fn an_answer_behind_interim_ones_is_the_answer() {
    let origin = answering(of_json("{\"internal\":1}").interim(103, &[("Link", "</a>")]));
    let mut client = before(&origin, BOTH);
    assert_eq!(client.client().get("/").expect(200).text(), "{}");
    let mut flood = of_json("{}");
    for _ in 0..9 {
        flood = flood.interim(103, &[]);
    }
    let origin = answering(flood);
    client = before(&origin, BOTH);
    check_problem(&client.client().get("/"), 502, "protocol_error");
}

/// An origin that stalls in one way or another, at `/PLACE`.
fn stalling(gate: &Gate) -> Origin {
    let gate = gate.clone();
    Origin::answer(move |request: &Recorded| match request.path.as_str() {
        "/head" => Reply::never(&gate),
        "/body" => Reply::gated_length(200, &[JSON], &[b"{}"], &gate),
        _ => of_json("{}"),
    })
}

#[test]
fn a_stalled_upstream_gives_504_in_time() {
    for (times, paths) in [
        ("first_byte: 200ms", &["/head"][..]),
        ("between_bytes: 200ms", &["/body"]),
        ("per_try: 200ms", &["/head"]),
        ("total: 200ms", &["/head", "/body"]),
    ] {
        let gate = Gate::new();
        let origin = stalling(&gate);
        let gateway = before(&origin, &format!("{BOTH}, timeouts: {{ {times} }}"));
        for path in paths {
            let began = Instant::now();
            check_problem(&gateway.client().get(path), 504, "timeout");
            let took = began.elapsed();
            assert!(
                took >= Duration::from_millis(190),
                "{times} {path}: {took:?}"
            );
            assert!(took < Duration::from_secs(10), "{times} {path}: {took:?}");
            // Over HTTP/2 it is an answer too, not a reset.
            let mut client = Frames::connect(gateway.addr());
            let answer = client.request(&asked("GET", path), None);
            assert_eq!(answer.status(), Some(504), "{times} {path}: {answer:?}");
        }
        gateway.client().get("/good").expect(200);
        let failed = "http_client_request_duration_seconds_count{error_type=\"timeout\",status_class=\"\",upstream=\"o\"}";
        let expected = 2 * paths.len() as u64;
        metric_becomes(&gateway, failed, |seen| seen == expected);
        gate.open();
    }
}

fn asked<'a>(method: &'a str, path: &'a str) -> Vec<(&'a str, &'a str)> {
    vec![
        (":method", method),
        (":scheme", "http"),
        (":authority", "a.test"),
        (":path", path),
        ("content-type", "application/json"),
    ]
}

/// How a client goes away, while its call waits.
fn leave(gateway: &Gateway, origin: &Origin, how: &str, call: u64) -> Instant {
    match how {
        "rst_stream" => {
            let mut client = Frames::connect(gateway.addr());
            let stream = client.begin(&asked("GET", "/head"), frames::END_STREAM);
            origin.wait_for_heads(call);
            let now = Instant::now();
            client.send(frames::RST_STREAM, 0, stream, &8u32.to_be_bytes());
            // The connection stays: it is the stream that ended.
            origin.wait_closed(usize::try_from(call - 1).unwrap());
            now
        }
        how => {
            let mut client = Client::connect(gateway.addr());
            client.send_request("POST", "/head", &[JSON], b"{}");
            origin.wait_for_heads(call);
            let now = Instant::now();
            if how == "rst" {
                let socket = socket2::SockRef::from(client.stream());
                socket.set_linger(Some(Duration::ZERO)).unwrap();
            }
            drop(client);
            origin.wait_closed(usize::try_from(call - 1).unwrap());
            now
        }
    }
}

#[test]
fn a_client_that_goes_away_cancels_its_call_within_100_ms() {
    for how in ["fin", "rst", "rst_stream"] {
        let gate = Gate::new();
        let origin = stalling(&gate);
        let gateway = before(&origin, BOTH);
        let calls = scale(300);
        let took = (1..=calls).map(|call| leave(&gateway, &origin, how, call).elapsed());
        let mut took: Vec<Duration> = took.collect();
        took.sort();
        // The machine may be busy with something else now and then, not each time.
        let median = took[took.len() / 2];
        assert!(median < Duration::from_millis(100), "{how}: {median:?}");
        let failed = "http_client_request_duration_seconds_count{error_type=\"client_error\",status_class=\"\",upstream=\"o\"}";
        metric_becomes(&gateway, failed, |seen| seen == calls);
        gate.open();
    }
}

#[test]
fn connections_are_kept_and_counted() {
    let origin = Origin::echo();
    let gateway = before(&origin, BOTH);
    let calls = scale(1_000);
    let mut client = gateway.client();
    for _ in 0..calls {
        client
            .request("POST", "/", &[JSON], b"{\"a\":1}")
            .expect(200);
    }
    // Pingora lets a connection go that it is asked for in the very moment in which it puts it away, and says so.
    let lost = gateway.process().log();
    let lost = lost.matches("failed to acquire reusable stream").count() as u64;
    assert!(lost <= calls / 100, "{lost} of {calls}");
    assert_eq!(origin.connections().len() as u64, 1 + lost);
    let reused = "doorward_upstream_connections_reused_total{upstream=\"o\"}";
    assert_eq!(metric(&gateway, reused), Some(calls - 1 - lost));
    let made = "doorward_upstream_connections_total{upstream=\"o\"}";
    assert_eq!(metric(&gateway, made), Some(1 + lost));
    let answered = "http_client_request_duration_seconds_count{error_type=\"\",status_class=\"2xx\",upstream=\"o\"}";
    assert_eq!(metric(&gateway, answered), Some(calls));
    // The same for what is streamed.
    let origin = Origin::echo();
    let gateway = before(&origin, "request: { path: / }");
    let mut client = gateway.client();
    client.get("/").expect(200);
    client.get("/").expect(200);
    metric_becomes(&gateway, reused, |seen| seen == 1);
}

#[test]
fn what_may_be_done_twice_is_called_once_more_when_a_kept_connection_dies() {
    let dying = || {
        Origin::answer(
            |request: &Recorded| match (request.path.as_str(), request.connection) {
                ("/die", 0) => Reply::close(),
                _ => of_json("{}"),
            },
        )
    };
    for method in ["GET", "OPTIONS", "DELETE"] {
        let origin = dying();
        let gateway = before(&origin, BOTH);
        let mut client = gateway.client();
        client.get("/first").expect(200);
        client.request(method, "/die", &[], b"").expect(200);
        let tries = origin.requests();
        let tries: Vec<usize> = tries[1..].iter().map(|one| one.connection).collect();
        assert_eq!(tries, [0, 1], "{method}");
        let again = "doorward_upstream_retries_total{upstream=\"o\"}";
        assert_eq!(metric(&gateway, again), Some(1));
        gateway.process().wait_log("\"attempts\":2");
    }
    for method in ["POST", "PATCH"] {
        let origin = dying();
        let gateway = before(&origin, BOTH);
        let mut client = gateway.client();
        client.get("/first").expect(200);
        check_problem(
            &client.request(method, "/die", &[JSON], b"{}"),
            502,
            "reset",
        );
        assert_eq!(origin.count(), 2, "{method}");
    }
}

#[test]
fn nobody_at_the_target_is_a_fault_as_ever() {
    let gateway = Gateway::spawn(&config("http://127.0.0.1:1", BOTH));
    check_problem(&gateway.client().get("/"), 502, "connect_failure");
    let log = gateway
        .process()
        .wait_log("\"error.type\":\"connect_failure\"");
    assert!(log.contains("\"attempts\":1"), "{log}");
}

#[test]
fn http2_on_both_sides_is_called_too() {
    let origin = Origin::answer(|request: &Recorded| {
        Reply::fixed(
            200,
            &[JSON],
            format!("{{\"internal\":1,\"got\":{}}}", request.text()),
        )
    });
    // A gateway of its own is the upstream that speaks HTTP/2.
    let behind = before(&origin, "timeouts: { first_byte: 20s }");
    let gateway = Gateway::spawn(&config(&format!("h2c://{}", behind.addr()), BOTH));
    let mut client = Frames::connect(gateway.addr());
    for at in 0..scale(300) {
        let body = format!("{{\"secret\":1,\"a\":{at}}}");
        let outcome = client.request(&asked("POST", "/a/b?c=d"), Some(body.as_bytes()));
        assert_eq!(
            outcome,
            Outcome::Answer(format!("{{\"got\":{{\"a\":{at}}}}}"))
        );
    }
    let seen = origin.last();
    assert_eq!(
        (seen.target.as_str(), seen.header("host")),
        ("/a/b?c=d", Some("a.test"))
    );
    let made = "doorward_upstream_connections_total{upstream=\"o\"}";
    assert_eq!(metric(&gateway, made), Some(1));
}

#[test]
fn check_and_explain_say_what_is_called_and_why() {
    let folder = tempfile::tempdir().unwrap();
    let text = "version: 1\nlisteners: { public: { address: \"127.0.0.1:0\" } }\n\
        upstreams: { o: { targets: [{ url: \"http://127.0.0.1:3001\" }] } }\n\
        routes:\n  - { name: streamed, match: { path: /s }, upstream: o }\n  \
        - { name: called, match: { path: /c }, response: { body: { omit: [a] } }, upstream: o }\n  \
        - { name: ours, match: { path: /o }, response: { body: { omit: [a] } }, respond: { text: x } }\n\
        tests:\n  - request: GET http://a.test/c\n    given: { o: { json: { a: 1, b: 12345678901234567890 } } }\n    \
        expect: { status: 200, json: { b: 12345678901234567890 } }\n  \
        - request: GET http://a.test/c\n    given: { o: { text: \"{\", headers: { content-type: application/json } } }\n    expect: { status: 502 }\n";
    std::fs::write(folder.path().join("doorward.yaml"), text).unwrap();
    let said = run_cli(&["check", "--config", "doorward.yaml"], folder.path());
    assert!(
        said.stdout
            .contains("called with whole bodies, not streamed: called (response.body)\n"),
        "{}",
        said.stdout
    );
    let explain = |url: &str| {
        let args = [
            "explain",
            "--config",
            "doorward.yaml",
            "--format",
            "json",
            "GET",
            url,
        ];
        serde_json::from_str::<Value>(&run_cli(&args, folder.path()).stdout).unwrap()
    };
    assert_eq!(
        explain("http://a.test/c")["called_by"],
        json!(["response.body"])
    );
    for url in ["http://a.test/s", "http://a.test/o"] {
        assert_eq!(explain(url)["called_by"], Value::Null);
    }
    let tried = run_cli(&["test", "--config", "doorward.yaml"], folder.path());
    assert_eq!(tried.code, 0, "{}{}", tried.stdout, tried.stderr);
}
