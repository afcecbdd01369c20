//! Requests that two readers could read differently: refused, or passed on in the one canonical form; never a second request.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test stops at the first thing that is not as expected"
)]

use serde::Deserialize;

use super::support::{
    Client, Early, Ended, Gateway, Origin, Pki, Recorded, Reply, Response, Script, Setup, Tls,
};

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

/// The classes of the corpus, and how many cases each has.
const CLASSES: [(&str, usize); 9] = [
    ("framing", 22),
    ("framing-te", 32),
    ("framing-cl", 12),
    ("framing-chunk", 14),
    ("host", 11),
    ("path", 18),
    ("identity", 4),
    ("hopbyhop", 5),
    ("limits", 4),
];

/// Two ways into the same gateway, with one catch-all route and else the defaults.
struct Doors {
    gateway: Gateway,
    authority: String,
}

/// By which of them a case comes in.
#[derive(Debug, Clone, Copy)]
enum Door {
    Plain,
    Tls,
}

impl Doors {
    fn open(origin: &Origin) -> Self {
        let pki = Pki::new();
        let pair = pki.issue(&["a.test"]);
        let setup = Setup::new(&format!(
            "version: 1\nlisteners:\n  public: {{ address: \"127.0.0.1:0\" }}\n\
             \x20 secure: {{ address: \"127.0.0.1:0\", tls: {{ certificates: [{{ cert_file: a.pem, key_file: a.key }}] }} }}\n\
             upstreams: {{ o: {{ targets: [{{ url: \"{}\" }}] }} }}\n\
             routes: [{{ name: all, match: {{ path_prefix: / }}, upstream: o }}]\n",
            origin.url()
        ));
        let setup = setup.file("a.pem", &pair.cert).file("a.key", &pair.key);
        Self {
            gateway: setup.spawn(),
            authority: pki.ca,
        }
    }

    #[track_caller]
    fn client(&self, door: Door) -> Client {
        match door {
            Door::Plain => self.gateway.client(),
            Door::Tls => {
                Tls::new(&self.authority, "a.test").connect(self.gateway.addr_of("secure"))
            }
        }
    }
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

/// Sends the case, and a last request behind it: when that has its answer, nothing of the case is on the way any more.
fn replay(mut client: Client, case: &Case) -> Result<Response, Ended> {
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
fn check(doors: &Doors, door: Door, origin: &Origin, case: &Case) {
    let before = asked(origin).len();
    let answer = replay(doors.client(door), case);
    own_answer(&doors.gateway, &case.id);
    let requests = asked(origin);
    let new = requests.get(before..).unwrap_or_default();
    let whole = new.iter().filter(|request| request.complete).count();
    let Case { id, note, .. } = case;
    let told = format!("{id} ({note}) at {door:?}: {answer:?}");
    for request in new {
        assert!(!request.target.contains("CANARY"), "smuggled: {told}");
        if !request.complete {
            assert_eq!(case.cls, "framing-chunk", "half a request: {told}");
            origin.wait_closed(request.connection);
        }
    }
    let refused = match &answer {
        Ok(answer) => answer.status >= 400,
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

fn corpus() -> Vec<Case> {
    let corpus = include_str!("../data/http1-corpus.json");
    serde_json::from_str(corpus).expect("the corpus is JSON")
}

/// Replays every case of a class at both doors.
#[track_caller]
fn replay_class(class: &str) {
    let origin = Origin::echo();
    let doors = Doors::open(&origin);
    own_answer(&doors.gateway, "first");
    let mut cases = corpus();
    cases.retain(|case| case.cls == class);
    for case in &cases {
        check(&doors, Door::Plain, &origin, case);
        check(&doors, Door::Tls, &origin, case);
    }
    assert!(CLASSES.contains(&(class, cases.len())), "{}", cases.len());
}

#[test]
fn every_case_of_the_corpus_belongs_to_a_class_that_is_replayed() {
    let counted: usize = CLASSES.iter().map(|(_, count)| count).sum();
    assert_eq!((corpus().len(), counted), (122, 122));
    let own = include_str!("hostile.rs");
    for (class, _) in CLASSES {
        let replayed = format!("replay_class(\"{class}\");");
        assert!(own.contains(&replayed), "no test has `{replayed}`");
    }
}

#[test]
fn two_framings_or_a_strange_head_never_pass() {
    replay_class("framing");
}

#[test]
fn transfer_encoding_has_one_spelling() {
    replay_class("framing-te");
}

#[test]
fn content_length_is_one_plain_number() {
    replay_class("framing-cl");
}

#[test]
fn chunks_are_read_strictly() {
    replay_class("framing-chunk");
}

#[test]
fn a_host_is_one_authority() {
    replay_class("host");
}

#[test]
fn a_path_means_the_same_to_everybody() {
    replay_class("path");
}

#[test]
fn nobody_forges_who_they_are() {
    replay_class("identity");
    replay_class("hopbyhop");
}

#[test]
fn heads_have_a_size() {
    replay_class("limits");
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
