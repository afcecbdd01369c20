//! Requests that fail are sent again where that is safe, within the budget, and never twice what may be done once only.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test stops at the first thing that is not as expected"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value as Json;

use super::control::{metric, metric_becomes};
use super::support::{
    Early, Frames, Gate, Gateway, Origin, Outcome, Reply, Response, Script, free_port, scale,
};

/// Two targets, clauses of the upstream and of the route; one after the other, so that it is known who is asked.
fn before(targets: &[&str], upstream: &str, route: &str) -> Gateway {
    let targets: Vec<String> = targets
        .iter()
        .map(|url| format!("{{ url: \"{url}\" }}"))
        .collect();
    let targets = targets.join(", ");
    Gateway::spawn(&format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\", protocols: [http1, h2c], limits: {{ requests_per_connection: 100000 }} }} }}\n\
         admin: {{ socket: admin.sock }}\n\
         upstreams: {{ o: {{ targets: [{targets}]{upstream} }} }}\n\
         routes: [{{ name: all, match: {{ path_prefix: / }}, upstream: o{route} }}]\n"
    ))
}

/// Fails the first `times` requests, and answers what follows.
fn failing(times: u64, how: impl Fn() -> Reply + Send + Sync + 'static) -> Origin {
    let seen = AtomicU64::new(0);
    Origin::answer(move |_| {
        if seen.fetch_add(1, Ordering::SeqCst) < times {
            how()
        } else {
            Reply::ok("well")
        }
    })
}

fn busy() -> Reply {
    Reply::fixed(503, &[], "busy")
}

fn ask(gateway: &Gateway, method: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
    let headers = [&[("Host", "a.test")], headers].concat();
    gateway.client().request(method, "/", &headers, body)
}

/// The number of attempts in the last record of the access log.
fn attempts(gateway: &Gateway) -> u64 {
    let record: Json = gateway.process().wait_line("a record", |line| {
        serde_json::from_str(line)
            .ok()
            .filter(|it: &Json| it["http.route"] == "all")
    });
    record["attempts"].as_u64().unwrap()
}

#[test]
fn an_answer_that_is_listed_is_asked_for_again() {
    for clauses in ["", ", response: { body: { omit: [x] } }"] {
        let origin = failing(2, busy);
        let retries =
            ", retries: { attempts: 3, retry_on: [http_503], backoff: { base: 1ms, max: 5ms } }";
        let gateway = before(&[&origin.url()], retries, clauses);
        assert_eq!(ask(&gateway, "GET", &[], b"").expect(200).text(), "well");
        assert_eq!(origin.count(), 3);
        assert_eq!(attempts(&gateway), 3);
        let seen = origin.requests();
        let told: Vec<_> = seen.iter().map(|it| it.header("x-attempt")).collect();
        assert_eq!(told, [None, Some("2"), Some("3")]);
        let again = metric(&gateway, "doorward_upstream_retries_total{upstream=\"o\"}");
        assert_eq!(again, Some(2));
    }
}

#[test]
fn the_last_answer_is_passed_on_as_it_is() {
    for clauses in ["", ", response: { body: { omit: [x] } }"] {
        let origin = failing(9, busy);
        let gateway = before(
            &[&origin.url()],
            ", retries: { retry_on: [http_5xx] }",
            clauses,
        );
        assert_eq!(ask(&gateway, "GET", &[], b"").expect(503).text(), "busy");
        assert_eq!(origin.count(), 2, "two attempts by default");
        let other = failing(9, || Reply::fixed(404, &[], "none"));
        let gateway = before(
            &[&other.url()],
            ", retries: { retry_on: [http_5xx] }",
            clauses,
        );
        ask(&gateway, "GET", &[], b"").expect(404);
        assert_eq!(other.count(), 1, "not listed");
    }
}

#[test]
fn what_may_be_done_once_only_is_sent_once() {
    for clauses in ["", ", response: { body: { omit: [x] } }"] {
        for (method, headers, sent) in [
            ("POST", &[][..], 1),
            ("PATCH", &[], 1),
            ("POST", &[("Idempotency-Key", "\"7\"")], 2),
            ("PUT", &[], 2),
            ("DELETE", &[], 2),
            ("QUERY", &[], 2),
        ] {
            for how in [busy as fn() -> Reply, Reply::reset, Reply::close] {
                let origin = failing(1, how);
                let retries = ", retries: { retry_on: [http_503, reset] }";
                let gateway = before(&[&origin.url()], retries, clauses);
                let answer = ask(&gateway, method, headers, b"{}");
                assert_eq!(origin.count(), sent, "{method}{clauses}");
                assert_eq!(answer.status == 200, sent == 2, "{method}{clauses}");
            }
        }
    }
}

#[test]
fn the_body_is_sent_again_up_to_its_limit() {
    for clauses in ["", ", response: { body: { omit: [x] } }"] {
        let origin = failing(1, busy);
        let retries = ", retries: { retry_on: [http_503], body: 16KiB }";
        let gateway = before(&[&origin.url()], retries, clauses);
        let body = vec![b'a'; 16 * 1024];
        ask(&gateway, "PUT", &[], &body).expect(200);
        let seen = origin.requests();
        assert_eq!(seen.len(), 2);
        assert!(seen.iter().all(|request| request.body == body));
        let origin = failing(1, busy);
        let gateway = before(&[&origin.url()], retries, clauses);
        let body = vec![b'a'; 16 * 1024 + 1];
        ask(&gateway, "PUT", &[], &body).expect(503);
        assert_eq!(origin.count(), 1, "only the retry is lost");
    }
}

#[test]
fn a_body_that_is_still_on_its_way_goes_to_the_next_attempt() {
    let seen = AtomicU64::new(0);
    let script = Script::new(|request| Reply::ok(request.text())).early(move |_| {
        if seen.fetch_add(1, Ordering::SeqCst) == 0 {
            Early::Answer(busy().then_close())
        } else {
            Early::Read
        }
    });
    let origin = Origin::start(script);
    let gateway = before(&[&origin.url()], ", retries: { retry_on: [http_503] }", "");
    let mut client = gateway.client();
    client.send_request(
        "PUT",
        "/",
        &[("Host", "a.test"), ("Content-Length", "6")],
        b"abc",
    );
    origin.wait_for_heads(2);
    assert!(client.send_raw(b"def"));
    assert_eq!(client.response("PUT").expect(200).text(), "abcdef");
}

#[test]
fn another_target_is_asked_first() {
    for clauses in ["", ", response: { body: { omit: [x] } }"] {
        let (bad, good) = (failing(99, busy), failing(0, busy));
        let retries =
            ", retries: { retry_on: [http_503], budget: 100%, backoff: { base: 1ms, max: 2ms } }";
        let gateway = before(&[&bad.url(), &good.url()], retries, clauses);
        for _ in 0..8 {
            ask(&gateway, "GET", &[], b"").expect(200);
        }
        assert_eq!(good.count(), 8, "{clauses}");
        assert!((1..=8).contains(&bad.count()), "{clauses}: {}", bad.count());
    }
}

#[test]
fn nobody_there_is_no_failure_where_somebody_else_is() {
    for clauses in ["", ", response: { body: { omit: [x] } }"] {
        let dead = format!("http://127.0.0.1:{}", free_port());
        let good = failing(0, busy);
        let gateway = before(&[&dead, &good.url()], "", clauses);
        for method in ["GET", "POST", "PUT", "POST"] {
            ask(&gateway, method, &[], b"").expect(200);
        }
        assert_eq!(
            good.count(),
            4,
            "nobody has seen it: also a POST goes elsewhere"
        );
    }
}

#[test]
fn whoever_refuses_alone_is_not_asked_twice_unless_somebody_wants_it() {
    let dead = format!("http://127.0.0.1:{}", free_port());
    let gateway = before(&[&dead], "", "");
    ask(&gateway, "GET", &[], b"").expect(502);
    assert_eq!(attempts(&gateway), 1);
    let gateway = before(
        &[&dead],
        ", retries: { retry_on: [connect_failure], attempts: 3 }",
        "",
    );
    ask(&gateway, "POST", &[], b"").expect(502);
    assert_eq!(attempts(&gateway), 3);
    let gateway = before(&[&dead], ", retries: { attempts: 3 }", ", retries: none");
    ask(&gateway, "GET", &[], b"").expect(502);
    assert_eq!(attempts(&gateway), 1, "the route has the last word");
}

#[test]
fn a_broken_connection_is_tried_once_more_without_any_config() {
    for clauses in ["", ", response: { body: { omit: [x] } }"] {
        let origin = failing(1, Reply::reset);
        let gateway = before(&[&origin.url()], "", clauses);
        ask(&gateway, "GET", &[], b"").expect(200);
        assert_eq!(origin.count(), 2);
        let origin = failing(1, Reply::reset);
        let gateway = before(&[&origin.url()], ", retries: none", clauses);
        ask(&gateway, "GET", &[], b"").expect(502);
        assert_eq!(origin.count(), 1);
    }
}

#[test]
fn an_answer_that_has_begun_is_never_asked_for_again() {
    let origin = Origin::answer(|_| Reply::truncated(9, "half"));
    let gateway = before(
        &[&origin.url()],
        ", retries: { attempts: 5, retry_on: [reset, protocol_error, http_5xx] }",
        "",
    );
    let mut client = gateway.client();
    client.send_request("GET", "/", &[("Host", "a.test")], b"");
    assert!(client.try_response("GET").is_err(), "it is cut");
    assert_eq!(origin.count(), 1);
}

#[test]
fn a_target_that_does_not_answer_in_time_is_left_for_another() {
    for clauses in ["", ", response: { body: { omit: [x] } }"] {
        let gate = Gate::new();
        let held = gate.clone();
        let origin = failing(1, move || Reply::never(&held));
        let retries =
            ", timeouts: { per_try: 150ms, total: 20s }, retries: { retry_on: [timeout] }";
        let gateway = before(&[&origin.url()], retries, clauses);
        let answer = ask(&gateway, "PUT", &[], b"{}").expect(200);
        assert_eq!(answer.text(), "well", "{clauses}");
        assert_eq!(attempts(&gateway), 2);
        assert_eq!(origin.last().text(), "{}");
        let mut client = gateway.client();
        for _ in 0..2 {
            client
                .request("GET", "/", &[("Host", "a.test")], b"")
                .expect(200);
        }
        gate.open();
    }
}

#[test]
fn the_same_over_http2_and_the_connection_stays() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = failing(1, move || Reply::never(&held));
    let retries = ", timeouts: { first_byte: 150ms }, retries: { retry_on: [timeout, http_503] }";
    let gateway = before(&[&origin.url()], retries, "");
    let mut client = Frames::connect(gateway.addr());
    for _ in 0..3 {
        let fields = [
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "a.test"),
            (":path", "/"),
        ];
        let outcome = client.request(&fields, None);
        assert_eq!(outcome, Outcome::Answer("well".to_owned()));
    }
    assert_eq!(origin.count(), 4);
    gate.open();
}

#[test]
fn the_total_deadline_has_the_last_word() {
    for clauses in ["", ", response: { body: { omit: [x] } }"] {
        let gate = Gate::new();
        let held = gate.clone();
        let origin = failing(99, move || Reply::never(&held));
        let retries = ", timeouts: { total: 300ms }, retries: { attempts: 9, retry_on: [timeout] }";
        let gateway = before(&[&origin.url()], retries, clauses);
        ask(&gateway, "GET", &[], b"").expect(504);
        assert_eq!(origin.count(), 1, "{clauses}");
        let origin = failing(99, busy);
        let retries = ", timeouts: { total: 300ms }, retries: { attempts: 9, retry_on: [http_503], backoff: { base: 10s, max: 20s } }";
        let gateway = before(&[&origin.url()], retries, clauses);
        let began = Instant::now();
        ask(&gateway, "GET", &[], b"").expect(503);
        assert_eq!(origin.count(), 1, "there is no time for the pause");
        assert!(began.elapsed() < Duration::from_secs(5));
        gate.open();
    }
}

#[test]
fn when_to_come_back_is_honoured() {
    let asks = |after: &'static str| {
        failing(1, move || {
            Reply::fixed(503, &[("Retry-After", after)], "busy")
        })
    };
    let retries = ", retries: { retry_on: [http_503], backoff: { base: 1ms, max: 1500ms } }";
    let origin = asks("1");
    let gateway = before(&[&origin.url()], retries, "");
    let began = Instant::now();
    ask(&gateway, "GET", &[], b"").expect(200);
    assert!(
        began.elapsed() >= Duration::from_secs(1),
        "it was asked for a second"
    );
    let origin = asks("2");
    let gateway = before(&[&origin.url()], retries, "");
    let answer = ask(&gateway, "GET", &[], b"").expect(503);
    assert_eq!(answer.header("retry-after"), Some("2"));
    assert_eq!(origin.count(), 1);
}

#[test]
fn the_budget_bounds_what_is_sent_again() {
    let requests = scale(20_000);
    let origin = failing(u64::MAX, busy);
    let retries = ", retries: { attempts: 4, retry_on: [http_503], budget: 10%, backoff: { base: 1ms, max: 1ms } }";
    let gateway = before(&[&origin.url()], retries, "");
    let mut client = gateway.client();
    let began = Instant::now();
    for _ in 0..requests {
        client
            .request("GET", "/", &[("Host", "a.test")], b"")
            .expect(503);
    }
    let windows = 2 + began.elapsed().as_secs() / 10;
    let again = origin.count() - requests;
    assert!(again >= 3, "{again}");
    assert!(
        again <= requests / 10 + 3 * windows,
        "{again} of {requests}"
    );
    let exhausted = metric(
        &gateway,
        "doorward_upstream_retry_budget_exhausted_total{upstream=\"o\"}",
    );
    assert!(exhausted.unwrap() >= 1);
}

#[test]
fn a_word_of_the_client_does_not_pass_for_ours() {
    let origin = failing(0, busy);
    let gateway = before(&[&origin.url()], "", "");
    ask(&gateway, "GET", &[("X-Attempt", "7")], b"").expect(200);
    assert_eq!(origin.last().header("x-attempt"), None);
}

/// A target of gRPC that does with each call what it is told.
fn calls(script: &'static [Told]) -> (SocketAddr, Arc<AtomicU64>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let addr = listener.local_addr().unwrap();
    let heard = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&heard);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((io, _)) = listener.accept().await {
                tokio::spawn(connection(io, script, Arc::clone(&counted)));
            }
        });
    });
    (addr, heard)
}

#[derive(Debug, Clone, Copy)]
enum Told {
    /// The stream is refused.
    Refuse,
    /// The call ends with this status, without a message.
    Status(&'static str),
    /// A message, then this status.
    Message(&'static str),
}

async fn connection(io: tokio::net::TcpStream, script: &'static [Told], heard: Arc<AtomicU64>) {
    let mut connection = h2::server::handshake(io).await.unwrap();
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let heard = Arc::clone(&heard);
        tokio::spawn(async move {
            let number = heard.fetch_add(1, Ordering::SeqCst);
            let told = script.get(usize::try_from(number).unwrap());
            let told = *told.unwrap_or(&Told::Message("0"));
            if let Told::Refuse = told {
                return respond.send_reset(h2::Reason::REFUSED_STREAM);
            }
            let mut body = request.into_body();
            let mut got = Vec::new();
            while let Some(Ok(piece)) = body.data().await {
                drop(body.flow_control().release_capacity(piece.len()));
                got.extend_from_slice(&piece);
            }
            assert_eq!(got, MESSAGE, "the whole request, each time");
            let head = http::Response::builder().header("content-type", "application/grpc");
            match told {
                Told::Refuse => {}
                Told::Status(status) => {
                    let head = head.header("grpc-status", status).body(()).unwrap();
                    drop(respond.send_response(head, true));
                }
                Told::Message(status) => {
                    let mut send = respond
                        .send_response(head.body(()).unwrap(), false)
                        .unwrap();
                    send.send_data(Bytes::from_static(MESSAGE), false).unwrap();
                    let trailers = [("grpc-status".parse().unwrap(), status.parse().unwrap())];
                    drop(send.send_trailers(trailers.into_iter().collect()));
                }
            }
        });
    }
}

const MESSAGE: &[u8] = &[0, 0, 0, 0, 3, b'a', b'b', b'c'];

/// One call; its outcome.
fn call(gateway: &Gateway) -> Outcome {
    let mut client = Frames::connect(gateway.addr());
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "a.test"),
        (":path", "/a.B/C"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    client.request(&fields, Some(MESSAGE))
}

#[test]
fn a_refusal_on_a_new_connection_goes_by_the_rules_of_retries() {
    const REFUSES: &[Told] = &[Told::Refuse, Told::Refuse, Told::Refuse, Told::Refuse];
    let thrice = ", retries: { attempts: 3, budget: 100%, backoff: { base: 1ms, max: 5ms } }";
    let other = ", retries: { attempts: 3, retry_on: [reset] }";
    for called in ["", ", response: { body: { omit: [x] } }"] {
        for (clauses, sent) in [(", retries: none", 1), (other, 1), (thrice, 3)] {
            let (addr, heard) = calls(REFUSES);
            let clauses = format!("{clauses}{called}");
            let gateway = before(&[&format!("h2c://{addr}")], "", &clauses);
            ask(&gateway, "GET", &[], b"").expect(502);
            assert_eq!(heard.load(Ordering::SeqCst), sent, "{clauses}");
        }
    }
}

#[test]
fn a_call_of_grpc_is_made_again_before_any_message() {
    let named = ", retries: { attempts: 3, retry_on: [refused_stream, grpc_unavailable], backoff: { base: 1ms, max: 5ms } }";
    for (script, clauses, made, status) in [
        (&[Told::Refuse, Told::Status("14")][..], named, 3, "0"),
        (
            &[Told::Status("14")],
            ", retries: { retry_on: [reset, http_503] }",
            1,
            "14",
        ),
        (&[Told::Status("13")], named, 1, "13"),
        (&[Told::Message("14")], named, 1, "14"),
        (
            &[Told::Status("14"), Told::Status("14"), Told::Status("14")],
            named,
            3,
            "14",
        ),
        (&[Told::Refuse], "", 2, "0"),
    ] {
        let (addr, heard) = calls(script);
        let gateway = before(&[&format!("h2c://{addr}")], clauses, "");
        assert!(matches!(call(&gateway), Outcome::Answer(_)), "{script:?}");
        assert_eq!(heard.load(Ordering::SeqCst), made, "{script:?}");
        let status = match status {
            "0" => "OK",
            "13" => "INTERNAL",
            _ => "UNAVAILABLE",
        };
        let ended = format!(
            "doorward_grpc_calls_total{{http_route=\"all\",rpc_response_status_code=\"{status}\"}}"
        );
        metric_becomes(&gateway, &ended, |calls| calls == 1);
    }
}
