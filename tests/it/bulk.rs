//! Size changes nothing: bodies stream through, a slow side stops the fast one, and memory stays where it was.
#![expect(
    clippy::print_stderr,
    clippy::indexing_slicing,
    reason = "the figures are what the full run is for; a test stops at the first thing that is not as expected"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::support::{Checksum, Client, Gate, Gateway, Origin, Pattern, Reply, Script, scale};

const MIB: u64 = 1024 * 1024;
const GIB: u64 = 1024 * MIB;

/// However much passes through, the gateway's memory grows by less than this.
const GROWTH_MAX_KIB: u64 = 16 * 1024;

/// What the buffers of the kernel between an origin and a client hold at most (4 MiB to send and 32 MiB to receive, on
/// both sides of the gateway), and something for the gateway's own.
const ON_THE_WAY_MAX: u64 = 96 * MIB;

#[test]
fn a_large_download_needs_no_memory() {
    download(scale(10 * GIB), Reply::large);
}

#[test]
fn a_large_chunked_download_needs_no_memory() {
    download(scale(10 * GIB), Reply::large_chunked);
}

#[test]
fn a_large_upload_needs_no_memory() {
    upload(scale(GIB), Framed::Length);
}

#[test]
fn a_large_chunked_upload_needs_no_memory() {
    upload(scale(GIB), Framed::Chunks);
}

#[test]
fn a_slow_reader_stops_the_origin() {
    let bytes = 4 * ON_THE_WAY_MAX;
    let origin = Origin::answer(move |_| Reply::large(bytes));
    let (gateway, before) = warm(&origin);
    let mut slow = gateway.client();
    slow.send_request("GET", "/slow", &[], b"");
    slow.response_head("GET");
    let connection = origin.wait_for_heads(2)[1].connection;
    // As long as this takes, the gateway could take the other body too: it must not.
    assert_eq!(fetch(&gateway), (bytes, true));
    let taken = origin.sent(connection);
    assert!(
        taken < ON_THE_WAY_MAX,
        "{taken} bytes were taken for a client that reads nothing"
    );
    assert_grown_little("a reader that stands still", &gateway, before);
    assert_eq!(slow.drain(), (bytes, true));
    assert_grown_little("the same when it goes on", &gateway, before);
}

#[test]
fn a_slow_origin_stops_the_upload() {
    let bytes = 4 * ON_THE_WAY_MAX;
    let gate = Gate::new();
    let origin = Origin::start(Script::echo().hold_bodies(&gate));
    let swift = Origin::answer(move |_| Reply::large(bytes));
    let gateway = Gateway::spawn(&format!(
        "{}  - {{ name: swift, match: {{ path: /swift }}, upstream: swift }}\n",
        config(&origin).replace(
            "upstreams:",
            &format!(
                "upstreams:\n  swift: {{ targets: [{{ url: \"{}\" }}] }}",
                swift.url()
            )
        )
    ));
    let before = gateway.process().rss_peak_kib();
    let sent = Arc::new(AtomicU64::new(0));
    let mut client = gateway.client();
    let sender = thread::spawn({
        let sent = Arc::clone(&sent);
        move || {
            let length = bytes.to_string();
            client.send_request("POST", "/", &[("Content-Length", &length)], b"");
            let pattern = Pattern::new();
            while sent.load(Ordering::SeqCst) < bytes {
                let offset = sent.load(Ordering::SeqCst);
                let piece = pattern.slice(offset, bytes - offset);
                assert!(client.send_raw(piece), "the upload was cut off at {offset}");
                sent.fetch_add(piece.len() as u64, Ordering::SeqCst);
            }
            client.response("POST").expect(200)
        }
    });
    gate.wait_until_waiting(1);
    let mut other = gateway.client();
    other.send_request("GET", "/swift", &[], b"");
    other.response_head("GET").expect(200);
    assert_eq!(other.drain(), (bytes, true));
    let taken = sent.load(Ordering::SeqCst);
    assert!(
        taken < ON_THE_WAY_MAX,
        "{taken} bytes were taken for an origin that reads nothing"
    );
    assert_grown_little("an origin that stands still", &gateway, before);
    gate.open();
    assert_eq!(sender.join().unwrap().json()["body_len"], bytes);
    assert!(origin.last().body_is_pattern);
    assert_grown_little("the same when it goes on", &gateway, before);
}

#[test]
fn a_download_that_the_client_leaves_ends_at_the_origin() {
    let origin = Origin::answer(|_| Reply::endless());
    let gateway = Gateway::spawn(&config(&origin));
    let mut client = gateway.client();
    client.send_request("GET", "/", &[], b"");
    client.response_head("GET").expect(200);
    assert!(client.read_some().is_some());
    let connection = origin.last().connection;
    drop(client);
    origin.wait_closed(connection);
}

#[test]
fn idle_and_slow_connections_cost_little_and_stop_nobody() {
    const EACH_MAX_KIB: u64 = 32;
    let count = usize::try_from(scale(5_000).max(200)).unwrap();
    let origin = Origin::echo();
    let (gateway, before) = warm(&origin);
    let descriptors = gateway.process().descriptors();
    let mut clients: Vec<Client> = (0..count).map(|_| gateway.client()).collect();
    // One in four says nothing, one waits after its answer, one is inside its head, one inside its body.
    for four in clients.chunks_mut(4) {
        four[1].get("/").expect(200);
        assert!(four[2].send_raw(b"GET /head HTTP/1.1\r\nHost: sl"));
        assert!(four[3].send_raw(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nslow"));
    }
    gateway.client().get("/").expect(200);
    let grown = gateway.process().rss_peak_kib() - before;
    eprintln!("{count} idle and slow connections: {grown} KiB");
    let bound = 4 * 1024 + EACH_MAX_KIB * count as u64;
    assert!(grown < bound, "{grown} KiB for {count} connections");
    let [quiet, answered, head, body] = clients.last_chunk_mut().unwrap();
    quiet.get("/").expect(200);
    answered.get("/").expect(200);
    assert!(head.send_raw(b"ow\r\n\r\n"));
    assert_eq!(head.response("GET").expect(200).json()["path"], "/head");
    assert!(body.send_raw(b"poke!"));
    assert_eq!(
        body.response("POST").expect(200).json()["body"],
        "slowpoke!"
    );
    drop(clients);
    let freed = (0..10_000).any(|_| {
        gateway.client().get("/").expect(200);
        gateway.process().descriptors() <= descriptors + 16
    });
    assert!(
        freed,
        "{} descriptors stay open",
        gateway.process().descriptors()
    );
}

#[test]
fn a_connection_is_renewed_after_a_thousand_requests() {
    let origin = Origin::echo();
    let (gateway, before) = warm(&origin);
    let mut client = gateway.client();
    for number in 1..=1000 {
        let response = client.get(&format!("/{number}")).expect(200);
        assert_eq!(response.json()["path"], format!("/{number}"));
        let closes = response.header("connection") == Some("close");
        assert_eq!(closes, number == 1000, "request {number}");
    }
    assert!(client.closed_by_gateway());
    gateway.client().get("/").expect(200);
    // What the client renews need not be made anew upstream; the last connection may still be on its way back to the pool.
    let made = origin.connections().len();
    assert!(origin.count() == 1002 && made <= 2, "{made}");
    assert_grown_little("1,000 requests on a connection", &gateway, before);
}

#[derive(Clone, Copy)]
enum Framed {
    Length,
    Chunks,
}

/// Clients may stand still for as long as it takes: how long that is, is another matter.
fn config(origin: &Origin) -> String {
    format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\", limits: {{ connections_per_ip: 10000, connection_rate_per_ip: none }}, timeouts: {{ write: 10m, min_rate: 1B/s }} }} }}\n\
         upstreams:\n  origin: {{ targets: [{{ url: \"{}\" }}] }}\n\
         routes:\n  - {{ name: all, match: {{ path_prefix: / }}, body_limits: none, upstream: origin }}\n",
        origin.url()
    )
}

/// A gateway that has served a request, and the most memory it had so far.
fn warm(origin: &Origin) -> (Gateway, u64) {
    let gateway = Gateway::spawn(&config(origin));
    gateway.client().head("/").expect(200);
    let before = gateway.process().rss_peak_kib();
    (gateway, before)
}

fn download(bytes: u64, reply: fn(u64) -> Reply) {
    let origin = Origin::answer(move |_| reply(bytes));
    let (gateway, before) = warm(&origin);
    assert_eq!(fetch(&gateway), (bytes, true));
    assert_grown_little(&format!("{bytes} bytes down"), &gateway, before);
}

/// Downloads: how long the body was, and whether it was the pattern.
fn fetch(gateway: &Gateway) -> (u64, bool) {
    let mut client = gateway.client();
    client.send_request("GET", "/", &[], b"");
    client.response_head("GET").expect(200);
    client.drain()
}

fn upload(bytes: u64, framed: Framed) {
    let origin = Origin::echo();
    let (gateway, before) = warm(&origin);
    let mut client = gateway.client();
    let mut sum = Checksum::default();
    let length = bytes.to_string();
    let framing = match framed {
        Framed::Length => ("Content-Length", length.as_str()),
        Framed::Chunks => ("Transfer-Encoding", "chunked"),
    };
    client.send_request("POST", "/", &[framing], b"");
    let pattern = Pattern::new();
    let mut sent = 0;
    while sent < bytes {
        let piece = pattern.slice(sent, bytes - sent);
        let taken = match framed {
            Framed::Length => client.send_raw(piece),
            Framed::Chunks => client.send_chunk(piece),
        };
        assert!(taken, "the upload was cut off at {sent}");
        sum.add(piece);
        sent += piece.len() as u64;
    }
    if matches!(framed, Framed::Chunks) {
        assert!(client.send_chunk(b""));
    }
    let answer = client.response("POST").expect(200).json();
    assert_eq!(answer["body_len"], bytes);
    assert_eq!(answer["body_sum"], format!("{:016x}", sum.value()));
    assert!(origin.last().body_is_pattern);
    assert_grown_little(&format!("{bytes} bytes up"), &gateway, before);
}

fn assert_grown_little(what: &str, gateway: &Gateway, before: u64) {
    let peak = gateway.process().rss_peak_kib();
    let grown = peak.saturating_sub(before);
    eprintln!("{what}: {before} KiB before, {peak} KiB at most, {grown} KiB more");
    assert!(grown < GROWTH_MAX_KIB, "{what}: {grown} KiB");
}
