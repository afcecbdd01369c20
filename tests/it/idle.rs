//! What a connection costs while it waits for its next request.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test stops at the first thing that is not as expected"
)]

use std::time::Instant;

use super::support::{Client, DEADLINE, Frames, Gateway, Origin, Pki, Reply, Setup, Tls, scale};

/// The most that an idle connection in HTTP/1 may hold, in bytes: no buffer of ours is among it.
const IDLE_MAX: u64 = 16 * 1024;
/// With TLS and in HTTP/2, what their libraries keep for as long as a connection lives comes on top.
const IDLE_TLS_MAX: u64 = 48 * 1024;
const IDLE_HTTP2_MAX: u64 = 40 * 1024;

/// The memory that is the process's own, in bytes; of the program's file there are other users.
fn held(gateway: &Gateway) -> u64 {
    let path = format!("/proc/{}/status", gateway.process().pid());
    let text = String::from_utf8(std::fs::read(path).unwrap()).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    kib.and_then(|kib| kib.parse::<u64>().ok()).unwrap() * 1024
}

fn before(origin: &Origin, listener: &str) -> Setup {
    let limits = "timeouts: { idle: 10m }, limits: { connections_per_ip: 10000 }";
    Setup::new(&format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\", {listener} {limits} }} }}\n\
         upstreams: {{ o: {{ targets: [{{ url: \"{}\" }}] }} }}\n\
         routes: [{{ name: all, match: {{ path_prefix: / }}, upstream: o }}]\n",
        origin.url()
    ))
}

fn origin() -> Origin {
    let json = [("content-type", "application/json")];
    Origin::answer(move |_| Reply::fixed(200, &json, "{\"status\":200}"))
}

/// Opens connections that each have one answer; once they are idle, each of them holds at most so much.
fn each_holds<T>(gateway: &Gateway, most: u64, what: &str, open: impl Fn() -> T) {
    // The first ones make the room that is used again and again.
    let mut kept: Vec<T> = (0..200).map(|_| open()).collect();
    let before = held(gateway);
    let count = scale(8_700).max(500);
    kept.extend((0..count).map(|_| open()));
    let began = Instant::now();
    let each = || held(gateway).saturating_sub(before) / count;
    while each() > most {
        assert!(began.elapsed() < DEADLINE, "{what}: {} bytes each", each());
        std::thread::yield_now();
    }
    eprintln!("{what}: {} bytes each of {}", each(), kept.len());
}

#[test]
fn an_idle_connection_holds_little() {
    let origin = origin();
    let gateway = before(&origin, "").spawn();
    each_holds(&gateway, IDLE_MAX, "HTTP/1", || {
        let mut client = gateway.client();
        client.get("/").expect(200);
        client
    });
}

#[test]
fn an_idle_connection_with_tls_holds_little() {
    let (pki, origin) = (Pki::new(), origin());
    let pair = pki.issue(&["a.test"]);
    let tls = "tls: { certificates: [{ cert_file: a.pem, key_file: a.key }] },";
    let gateway = before(&origin, tls)
        .file("a.pem", &pair.cert)
        .file("a.key", &pair.key)
        .spawn();
    each_holds(&gateway, IDLE_TLS_MAX, "HTTP/1 with TLS", || -> Client {
        let mut client = Tls::new(&pki.ca, "a.test").connect(gateway.addr());
        client
            .request("GET", "/", &[("Host", "a.test")], b"")
            .expect(200);
        client
    });
}

#[test]
fn an_idle_connection_of_http2_holds_little() {
    let origin = origin();
    let gateway = before(&origin, "protocols: [h2c],").spawn();
    let fields = [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "a.test"),
        (":path", "/"),
    ];
    each_holds(&gateway, IDLE_HTTP2_MAX, "HTTP/2", || {
        let mut client = Frames::connect(gateway.addr());
        assert_eq!(client.request(&fields, None).status(), Some(200));
        client
    });
}
