//! A service of Envoy's that is shown the body: the upstream gets the same bytes, and nobody decides about what was not seen.

use serde_json::{Value as Json, json};

use super::{Policyd, unavailable};
use crate::support::{Frames, Gateway, Origin, Outcome, Reply, Response, Setup, run_cli};

/// How long a body may be here.
const SHOWN: usize = 64;

fn text(policyd: &Policyd, origin: &Origin, more: &str) -> String {
    format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\", protocols: [http1, h2c] }} }}\n\
         admin: {{ socket: admin.sock }}\n\
         authenticators: {{ asked: {{ ext_authz: {{ upstream: policyd, body: {SHOWN}B, timeout: 5s{more} }} }} }}\n\
         upstreams:\n  o: {{ targets: [{{ url: \"{}\" }}], retries: {{ attempts: 2, retry_on: [http_503] }} }}\n  \
           policyd: {{ targets: [{{ url: \"h2c://127.0.0.1:{}\" }}] }}\n\
         routes: [{{ name: all, match: {{ path_prefix: / }}, auth: [asked], upstream: o }}]\n",
        origin.url(),
        policyd.port,
    )
}

fn gateway(policyd: &Policyd, origin: &Origin, more: &str) -> Gateway {
    Gateway::spawn(&text(policyd, origin, more))
}

fn put(gateway: &Gateway, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
    gateway.client().request("PUT", target, headers, body)
}

/// What the service was shown, as the messages of Envoy read it: the text, the bytes in base64, the size.
fn shown(policyd: &Policyd) -> (Json, Json, Json) {
    let http = &policyd.asked()["attributes"]["request"]["http"];
    let partial = &http["headers"]["x-envoy-auth-partial-body"];
    assert_eq!(partial, "false");
    (
        http["body"].clone(),
        http["rawBody"].clone(),
        http["size"].clone(),
    )
}

#[test]
fn what_the_service_is_shown_is_what_the_upstream_gets() {
    let (policyd, origin) = (Policyd::start(), Origin::echo());
    let gateway = gateway(&policyd, &origin, "");
    let mut client = gateway.client();
    let forged = [("X-Envoy-Auth-Partial-Body", "true")];
    let answer = client.request("POST", "/by-body", &forged, b"{\"pay\":1}");
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(
        shown(&policyd),
        (json!("{\"pay\":1}"), json!("eyJwYXkiOjF9"), json!("9"))
    );
    assert_eq!(origin.last().text(), "{\"pay\":1}");
    // Piece by piece, and what is no text.
    client.send_request("POST", "/by-body", &[("Transfer-Encoding", "chunked")], b"");
    for piece in [&b"\xff\x00"[..], b"ab"] {
        assert!(client.send_chunk(piece));
    }
    assert!(client.send_raw(b"0\r\n\r\n"));
    drop(client.response("POST").expect(200));
    assert_eq!(shown(&policyd).1, json!("/wBhYg=="));
    assert_eq!(origin.last().body, b"\xff\0ab");
    // As long as it may be, and not at all.
    let longest = vec![b'x'; SHOWN];
    drop(
        client
            .request("POST", "/by-body", &[], &longest)
            .expect(200),
    );
    assert_eq!(origin.last().body, longest);
    drop(client.get("/by-body").expect(200));
    assert_eq!(shown(&policyd), (Json::Null, Json::Null, Json::Null));
    // What it does not like it saw, and the connection goes on.
    let denied = client.request("POST", "/by-body", &[], b"{\"evil\":1}");
    assert_eq!(denied.status, 403, "{}", denied.text());
    assert_eq!(denied.headers_all("cache-control"), ["no-store"]);
    drop(client.request("POST", "/by-body", &[], b"good").expect(200));
    assert_eq!((origin.count(), policyd.count()), (5, 6));
}

#[test]
fn nobody_decides_about_a_body_that_is_too_long_to_be_shown() {
    let (policyd, origin) = (Policyd::start(), Origin::echo());
    let gateway = gateway(&policyd, &origin, "");
    let long = vec![b'x'; SHOWN + 1];
    let answer = put(&gateway, "/by-body", &[], &long).expect(413);
    let kind = answer.json()["type"].clone();
    assert_eq!(kind, "urn:doorward:error:body_too_large");
    let mut client = gateway.client();
    client.send_request("PUT", "/by-body", &[("Transfer-Encoding", "chunked")], b"");
    for piece in [&long[..SHOWN], b"x"] {
        client.send_chunk(piece);
    }
    client.send_raw(b"0\r\n\r\n");
    drop(client.response("PUT").expect(413));
    // Nobody has to send a body that is not taken.
    let mut client = gateway.client();
    client.send_raw(
        b"PUT /by-body HTTP/1.1\r\nHost: a.test\r\nContent-Length: 65\r\nExpect: 100-continue\r\n\r\n",
    );
    let head = client.one_head().ok();
    assert_eq!(head.map(|head| head.status), Some(413));
    let record = gateway.process().wait_log("\"decided_by\":\"auth\"");
    assert!(record.contains("body_too_large"), "{record}");
    assert_eq!((policyd.count(), origin.count()), (0, 0));
}

#[test]
fn a_client_that_waits_to_be_told_is_told_once() {
    let (policyd, origin) = (Policyd::start(), Origin::echo());
    let gateway = gateway(&policyd, &origin, "");
    let mut client = gateway.client();
    client.send_raw(
        b"PUT /by-body HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n",
    );
    let head = client.one_head().ok();
    assert_eq!(head.map(|head| head.status), Some(100));
    client.send_raw(b"good");
    let head = client.one_head().ok();
    assert_eq!(head.map(|head| head.status), Some(200));
    assert_eq!((origin.count(), origin.last().text().as_str()), (1, "good"));
}

#[test]
fn a_body_that_was_shown_is_sent_again_as_it_was() {
    let policyd = Policyd::start();
    let origin = Origin::answer(|request| {
        let first = request.header("x-attempt").is_none_or(|it| it == "1");
        let fails = first && request.path == "/by-body/again";
        Reply::fixed(if fails { 503 } else { 200 }, &[], "")
    });
    let gateway = gateway(&policyd, &origin, "");
    drop(put(&gateway, "/by-body/again", &[], b"good").expect(200));
    let bodies: Vec<String> = origin.requests().iter().map(|it| it.text()).collect();
    assert_eq!(bodies, ["good", "good"]);
    assert_eq!(policyd.count(), 1);
}

#[test]
fn bodies_of_http2_are_shown_and_calls_of_grpc_refused() {
    let policyd = Policyd::start();
    let origin = Origin::answer(|_| Reply::json(200, &json!({ "status": 200 })));
    let gateway = gateway(&policyd, &origin, "");
    let mut client = Frames::connect(gateway.addr());
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "a.test"),
        (":path", "/by-body"),
    ];
    assert_eq!(client.request(&fields, Some(b"good")).status(), Some(200));
    assert_eq!(origin.last().text(), "good");
    assert_eq!(shown(&policyd).0, json!("good"));
    let denied = client.request(&fields, Some(b"evil"));
    assert_eq!(denied.status(), Some(403));
    let long = vec![b'x'; SHOWN + 1];
    assert_eq!(client.request(&fields, Some(&long)).status(), Some(413));
    // Its messages come one by one: there is no whole that could be shown.
    let call = [&fields[..], &[("content-type", "application/grpc")]].concat();
    let refused = client.request(&call, Some(b"\0\0\0\0\0"));
    assert_eq!(refused, Outcome::Answer(String::new()), "a head alone");
    let plain = put(
        &gateway,
        "/by-body",
        &[("Content-Type", "application/grpc")],
        b"1",
    );
    assert_eq!(plain.header("grpc-status"), Some("3"), "INVALID_ARGUMENT");
    assert_eq!((policyd.count(), origin.count()), (2, 1));
}

#[test]
fn a_yes_to_one_body_is_none_to_another() {
    let (policyd, origin) = (Policyd::start(), Origin::echo());
    let more = ", cache: { ttl: 1m, key: [\"header:authorization\"] }";
    let gateway = gateway(&policyd, &origin, more);
    let headers = [("Authorization", "Bearer t")];
    for _ in 0..3 {
        drop(put(&gateway, "/by-body", &headers, b"good").expect(200));
    }
    assert_eq!(policyd.count(), 1);
    drop(put(&gateway, "/by-body", &headers, b"evil").expect(403));
    drop(put(&gateway, "/by-body", &headers, b"").expect(200));
    drop(put(&gateway, "/by-body", &headers, b"fine").expect(200));
    assert_eq!(policyd.count(), 4);
    assert_eq!(origin.last().text(), "fine");
    policyd.process.stop();
    unavailable(&put(&gateway, "/by-body", &headers, b"other"));
    drop(put(&gateway, "/by-body", &headers, b"good").expect(200));
}

#[test]
fn who_asks_is_told_that_bodies_are_shown() {
    let (policyd, origin) = (Policyd::start(), Origin::echo());
    let tests = "tests:\n\
        - { request: PUT http://a.test/, text: short, expect: { status: 503, decided_by: auth } }\n\
        - { request: PUT http://a.test/, text: \"0123456789012345678901234567890123456789012345678901234567890123x\", expect: { status: 413, decided_by: auth } }\n";
    let setup = Setup::new(&format!("{}{tests}", text(&policyd, &origin, "")));
    let checked = run_cli(&["check"], setup.dir());
    assert!(
        checked.stdout.contains("not streamed: all (auth)"),
        "{}{}",
        checked.stdout,
        checked.stderr
    );
    let told = run_cli(&["explain", "PUT", "http://a.test/"], setup.dir());
    assert!(
        told.stdout.contains("shows bodies of up to 64B"),
        "{}",
        told.stdout
    );
    let tried = run_cli(&["test"], setup.dir());
    assert_eq!(tried.code, 0, "{}{}", tried.stdout, tried.stderr);
    assert_eq!((policyd.count(), origin.count()), (0, 0));
}
