//! Requests that two readers could read differently: refused, or passed on in the one canonical form; never a second request.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test stops at the first thing that is not as expected"
)]

use serde::Deserialize;

use super::support::{Client, Early, Ended, Gateway, Origin, Recorded, Reply, Response, Script};

/// One case of `tests/data/http1-corpus.json`; what the fields mean says the README beside it.
#[derive(Deserialize)]
struct Case {
    id: String,
    cls: String,
    expect: String,
    note: String,
    raw_b64: String,
}

impl Case {
    fn bytes(&self) -> Vec<u8> {
        let (mut out, mut bits, mut held) = (Vec::new(), 0u32, 0u32);
        for byte in self.raw_b64.bytes().filter(|byte| *byte != b'=') {
            let value = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                _ => 63,
            };
            bits = bits << 6 | u32::from(value);
            held += 6;
            if held >= 8 {
                held -= 8;
                out.push((bits >> held).to_le_bytes()[0]);
            }
        }
        out
    }

    fn method(&self) -> &'static str {
        if self.bytes().starts_with(b"HEAD ") {
            "HEAD"
        } else {
            "GET"
        }
    }
}

fn catch_all(origin: &Origin) -> Gateway {
    Gateway::spawn(&format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\" }} }}\n\
         upstreams: {{ o: {{ targets: [{{ url: \"{}\" }}] }} }}\n\
         routes: [{{ name: all, match: {{ path_prefix: / }}, upstream: o }}]\n",
        origin.url()
    ))
}

/// Requests of the corpus that the origin got.
fn asked(origin: &Origin) -> Vec<Recorded> {
    let mut requests = origin.requests();
    requests.retain(|request| !request.path.starts_with("/own/"));
    requests
}

/// A fresh connection gets its own answer.
#[track_caller]
fn own_answer(gateway: &Gateway, nonce: &str) {
    let path = format!("/own/{nonce}");
    let answer = gateway.client().get(&path).expect(200);
    assert_eq!(answer.json()["path"], path, "somebody else's answer");
}

#[track_caller]
fn answer_is_ours(case: &Case, answer: &Response) {
    assert_ne!(answer.header("server"), Some("Pingora"), "{}", case.id);
}

/// Sends the case, and a last request behind it: when that has its answer, nothing of the case is on the way any more.
fn replay(gateway: &Gateway, case: &Case) -> Result<Response, Ended> {
    let mut client = gateway.client();
    client.send_raw(&case.bytes());
    let answer = client.try_response(case.method());
    if answer.is_ok() {
        client.send_request("GET", "/own/last", &[("Host", "a.test")], b"");
        while client.try_response("GET").is_ok() {
            client.finish_sending();
        }
    }
    answer
}

#[track_caller]
fn check(gateway: &Gateway, origin: &Origin, case: &Case) {
    let before = asked(origin).len();
    let answer = replay(gateway, case);
    own_answer(gateway, &case.id);
    let requests = asked(origin);
    let new = requests.get(before..).unwrap_or_default();
    let whole = new.iter().filter(|request| request.complete).count();
    let Case { id, note, .. } = case;
    let told = format!("{id} ({note}): {answer:?}");
    for request in new {
        assert!(!request.target.contains("CANARY"), "smuggled: {told}");
        if !request.complete {
            assert_eq!(case.cls, "framing-chunk", "half a request: {told}");
            origin.wait_closed(request.connection);
        }
    }
    let refused = match &answer {
        Ok(answer) => {
            answer_is_ours(case, answer);
            answer.status >= 400
        }
        Err(Ended::Closed | Ended::Reset) => true,
        Err(Ended::Truncated | Ended::TimedOut | Ended::Garbage(_)) => {
            panic!("no answer and no end: {told}")
        }
    };
    match case.expect.as_str() {
        "reject" => assert!(refused && whole == 0, "not refused: {told}"),
        "one" => assert!(!refused && whole == 1, "{whole} requests: {told}"),
        "one_or_reject" => assert_eq!(whole, usize::from(!refused), "{told}"),
        other => panic!("{id} expects {other}"),
    }
}

/// Replays every case of some classes; says how many there were.
#[track_caller]
fn replay_classes(classes: &[&str]) -> usize {
    let corpus = include_str!("../data/http1-corpus.json");
    let corpus: Vec<Case> = serde_json::from_str(corpus).expect("the corpus is JSON");
    let origin = Origin::echo();
    let gateway = catch_all(&origin);
    own_answer(&gateway, "first");
    let cases = corpus
        .iter()
        .filter(|case| classes.contains(&case.cls.as_str()));
    let mut count = 0;
    for case in cases {
        check(&gateway, &origin, case);
        count += 1;
    }
    count
}

#[test]
fn two_framings_or_a_strange_head_never_pass() {
    assert_eq!(replay_classes(&["framing"]), 22);
}

#[test]
fn transfer_encoding_has_one_spelling() {
    assert_eq!(replay_classes(&["framing-te"]), 32);
}

#[test]
fn content_length_is_one_plain_number() {
    assert_eq!(replay_classes(&["framing-cl"]), 12);
}

#[test]
fn chunks_are_read_strictly() {
    assert_eq!(replay_classes(&["framing-chunk"]), 14);
}

#[test]
fn a_host_is_one_authority() {
    assert_eq!(replay_classes(&["host"]), 11);
}

#[test]
fn a_path_means_the_same_to_everybody() {
    assert_eq!(replay_classes(&["path"]), 18);
}

#[test]
fn nobody_forges_who_they_are() {
    assert_eq!(replay_classes(&["identity", "hopbyhop"]), 9);
}

#[test]
fn heads_have_a_size() {
    assert_eq!(replay_classes(&["limits"]), 4);
}

#[test]
fn the_recorder_sees_what_passes_the_gateway_by() {
    Origin::control();
    let origin = Origin::echo();
    let mut client = Client::connect(origin.addr());
    client.send_raw(b"GET /CANARY HTTP/1.1\r\nHost: a.test\r\nX-Request-Id: 1\r\n\r\n");
    client.response("GET").expect(200);
    assert!(asked(&origin).iter().any(|one| one.target == "/CANARY"));
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let origin = Origin::echo();
    let gateway = catch_all(&origin);
    let mut client = gateway.client();
    client.send_raw(
        b"GET /1 HTTP/1.1\r\nHost: a.test\r\n\r\n\
          POST /2 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello\
          POST /3 HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\
          HEAD /4 HTTP/1.1\r\nHost: a.test\r\n\r\n\
          GET /5 HTTP/1.1\r\nHost: a.test\r\n\r\n",
    );
    for (method, path, body) in [
        ("GET", "/1", ""),
        ("POST", "/2", "hello"),
        ("POST", "/3", "abc"),
        ("HEAD", "/4", ""),
        ("GET", "/5", ""),
    ] {
        let answer = client.response(method).expect(200);
        if method != "HEAD" {
            let echo = answer.json();
            assert_eq!((&echo["path"], &echo["body"]), (&path.into(), &body.into()));
        }
    }
    let paths: Vec<String> = origin.wait_for(5).into_iter().map(|one| one.path).collect();
    assert_eq!(paths, ["/1", "/2", "/3", "/4", "/5"]);
}

#[test]
fn each_pipelined_request_is_checked() {
    let origin = Origin::echo();
    let gateway = catch_all(&origin);
    for bad in [
        "GET /b HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n",
        "GET /b HTTP/1.1\nHost: a.test\n\n",
        "POST /b HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET /b%2fc HTTP/1.1\r\nHost: a.test\r\n\r\n",
    ] {
        let before = origin.count();
        let mut client = gateway.client();
        client.send_raw(
            format!("GET /a HTTP/1.1\r\nHost: a.test\r\n\r\n{bad}GET /CANARY HTTP/1.1\r\nHost: a.test\r\n\r\n").as_bytes(),
        );
        assert_eq!(client.response("GET").expect(200).json()["path"], "/a");
        let refused = client.response("GET").expect(400);
        assert_eq!(refused.header("connection"), Some("close"));
        assert!(client.closed_by_gateway(), "{bad:?}");
        own_answer(&gateway, "x");
        assert_eq!(origin.count(), before + 2, "{bad:?}");
    }
}

/// A body that looks like a request.
const TRAP: &str = "GET /CANARY HTTP/1.1\r\nHost: a.test\r\n\r\n";

#[test]
fn the_body_of_a_request_that_the_gateway_answers_is_no_request() {
    let gateway = Gateway::spawn(
        r#"
version: 1
listeners: { public: { address: "127.0.0.1:0", hosts: [a.test] } }
routes:
  - { name: canary, match: { path: /CANARY }, respond: { text: smuggled } }
  - { name: text, match: { path: /text }, respond: { text: hello } }
  - { name: move, match: { path: /move }, redirect: { path: /text } }
  - { name: closed, match: { path: /closed }, maintenance: {}, respond: {} }
  - { name: get, match: { path: /get, methods: [GET] }, respond: {} }
"#,
    );
    for (path, host, status) in [
        ("/text", "a.test", 200),
        ("/move", "a.test", 308),
        ("/closed", "a.test", 503),
        ("/get", "a.test", 405),
        ("/none", "a.test", 404),
        ("/text", "b.test", 421),
    ] {
        let chunked = format!(
            "Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{TRAP}\r\n0\r\n\r\n",
            TRAP.len()
        );
        let counted = format!("Content-Length: {}\r\n\r\n{TRAP}", TRAP.len());
        for framed in [chunked, counted] {
            let mut client = gateway.client();
            client.send_raw(format!("POST {path} HTTP/1.1\r\nHost: {host}\r\n{framed}").as_bytes());
            client.response("POST").expect(status);
            let next = client.request("GET", "/text", &[("Host", "a.test")], b"");
            assert_eq!(
                next.text(),
                "hello",
                "{path}: the connection goes on behind the body"
            );
        }
    }
}

#[test]
fn a_body_that_the_upstream_did_not_wait_for_is_no_request() {
    let script = Script::echo().early(|request| match request.path.as_str() {
        "/early" => Early::Answer(Reply::fixed(413, &[], "too much").then_close()),
        _ => Early::Read,
    });
    let origin = Origin::start(script);
    let gateway = catch_all(&origin);
    let mut client = gateway.client();
    let length = TRAP.len() * 2;
    client.send_raw(
        format!("POST /early HTTP/1.1\r\nHost: a.test\r\nContent-Length: {length}\r\n\r\n{TRAP}")
            .as_bytes(),
    );
    client.response("POST").expect(413);
    client.send_raw(TRAP.as_bytes());
    client.send_request("GET", "/own/last", &[("Host", "a.test")], b"");
    // Either the rest of the body is read and the next request answered, or the connection is closed.
    match client.try_response("GET") {
        Ok(answer) => assert_eq!(answer.json()["path"], "/own/last"),
        Err(ended) => assert!(matches!(ended, Ended::Closed | Ended::Reset), "{ended:?}"),
    }
    own_answer(&gateway, "next");
    assert!(asked(&origin).iter().all(|one| one.path == "/early"));
}

#[test]
fn a_request_cut_off_inside_its_body_is_never_whole_upstream() {
    let origin = Origin::echo();
    let gateway = catch_all(&origin);
    for framed in [
        "Content-Length: 50\r\n\r\nhalf",
        "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        let before = origin.count();
        let mut client = gateway.client();
        client.send_raw(format!("POST /cut HTTP/1.1\r\nHost: a.test\r\n{framed}").as_bytes());
        let seen = origin.wait_for_heads(before + 1);
        origin.wait_for_body(4);
        drop(client);
        origin.wait_closed(seen.last().expect("it came").connection);
        assert!(!origin.last().complete);
        own_answer(&gateway, "after");
    }
}
