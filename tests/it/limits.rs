//! What clients may have and how long they may take: each limit of a listener, of the process, and its memory.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test stops at the first thing that is not as expected"
)]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::support::frames::{DATA, END_STREAM, GOAWAY};
use super::support::{
    Client, DEADLINE, Frames, Gate, Origin, Pki, Process, Reply, Response, Setup, get, run_cli,
    scale,
};

/// The catch-all in front of `origin`, with clauses of the listener and of the process.
fn before(origin: &Origin, listener: &str, runtime: &str) -> Setup {
    Setup::new(&config(&origin.url(), listener, runtime))
}

fn config(url: &str, listener: &str, runtime: &str) -> String {
    format!(
        "version: 1\nruntime: {{ {runtime} }}\nlisteners: {{ public: {{ address: \"127.0.0.1:0\"{listener} }} }}\n\
         admin: {{ socket: admin.sock }}\n\
         upstreams: {{ o: {{ targets: [{{ url: \"{url}\" }}] }} }}\n\
         routes: [{{ name: all, match: {{ path_prefix: / }}, upstream: o }}]\n"
    )
}

/// A connection that has had one answer, and is kept.
fn kept(addr: SocketAddr) -> Client {
    let mut client = Client::connect(addr);
    client.get("/").expect(200);
    client
}

/// What a new connection gets: an answer, or none.
fn one_more(addr: SocketAddr) -> Option<Response> {
    let mut client = Client::connect(addr);
    client.send_request("GET", "/", &[], b"");
    client.try_response("GET").ok()
}

/// Asks until the answer is as wanted: what was given back is free a moment later.
fn soon(addr: SocketAddr, wanted: u16) -> Duration {
    let began = Instant::now();
    while began.elapsed() < DEADLINE {
        if one_more(addr).is_some_and(|answer| answer.status == wanted) {
            return began.elapsed();
        }
        std::thread::yield_now();
    }
    panic!("never {wanted}");
}

fn admin(dir: &Path, path: &str) -> String {
    let mut stream = UnixStream::connect(dir.join("admin.sock")).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_connection_too_many_gets_503_and_a_free_place_is_taken_again() {
    let origin = Origin::echo();
    let gateway = before(&origin, ", limits: { connections: 3 }", "").spawn();
    let mut clients: Vec<Client> = (0..3).map(|_| kept(gateway.addr())).collect();
    let refused = one_more(gateway.addr()).unwrap();
    assert_eq!(refused.status, 503);
    assert_eq!(refused.header("retry-after"), Some("5"));
    assert_eq!(refused.header("connection"), Some("close"));
    assert!(refused.text().contains("overload"), "{}", refused.text());
    // Who is in stays in.
    for client in &mut clients {
        client.get("/").expect(200);
    }
    drop(clients.pop());
    soon(gateway.addr(), 200);
    let seen = gateway.process().wait_log("\"error.type\":\"overload\"");
    assert!(seen.contains("\"decided_by\":\"overload\""), "{seen}");
}

#[test]
fn an_address_has_so_many_connections_and_proxies_have_more() {
    let origin = Origin::echo();
    let limit = ", limits: { connections_per_ip: 2 }";
    let gateway = before(&origin, limit, "").spawn();
    let clients = [kept(gateway.addr()), kept(gateway.addr())];
    assert!(one_more(gateway.addr()).is_none());
    drop(clients);
    soon(gateway.addr(), 200);
    let trusted = format!("{limit}, trusted_proxies: [127.0.0.0/8]");
    let gateway = before(&origin, &trusted, "").spawn();
    let many: Vec<Client> = (0..5).map(|_| kept(gateway.addr())).collect();
    assert_eq!(many.len(), 5);
}

#[test]
fn a_connection_carries_so_many_requests() {
    let origin = Origin::echo();
    let gateway = before(&origin, ", limits: { requests_per_connection: 3 }", "").spawn();
    let mut client = gateway.client();
    for _ in 0..2 {
        let answer = client.get("/").expect(200);
        assert_eq!(answer.header("connection"), Some("keep-alive"));
    }
    let last = client.get("/").expect(200);
    assert_eq!(last.header("connection"), Some("close"));
    assert!(client.closed_by_gateway());
}

#[test]
fn heads_are_as_long_as_the_listener_lets_them() {
    let origin = Origin::echo();
    let limits = ", limits: { uri: 100B, header_bytes: 400B, headers: 5 }";
    let gateway = before(&origin, limits, "").spawn();
    let path = |length: usize| format!("/{}", "a".repeat(length - 1));
    get(gateway.addr(), &path(100), "a.test").expect(200);
    get(gateway.addr(), &path(101), "a.test").expect(414);
    let value = "v".repeat(300);
    let one = [("x-a", value.as_str())];
    gateway.client().request("GET", "/", &one, b"").expect(200);
    let two = [("x-a", value.as_str()), ("x-b", value.as_str())];
    gateway.client().request("GET", "/", &two, b"").expect(431);
    let four = [("x-a", ""), ("x-b", ""), ("x-c", ""), ("x-d", "")];
    gateway.client().request("GET", "/", &four, b"").expect(200);
    let five = [
        ("x-a", ""),
        ("x-b", ""),
        ("x-c", ""),
        ("x-d", ""),
        ("x-e", ""),
    ];
    gateway.client().request("GET", "/", &five, b"").expect(431);
    assert_eq!(origin.count(), 3);
}

#[test]
fn limits_may_be_wider_than_the_defaults() {
    let origin = Origin::echo();
    let limits = ", limits: { uri: 32KiB, header_bytes: 64KiB, headers: 150 }";
    let gateway = before(&origin, limits, "").spawn();
    let path = format!("/{}", "a".repeat(20_000));
    get(gateway.addr(), &path, "a.test").expect(200);
    let value = "v".repeat(7_000);
    let names: Vec<String> = (0..140).map(|number| format!("x-{number}")).collect();
    let long = names
        .iter()
        .take(3)
        .map(|name| (name.as_str(), value.as_str()));
    let short = names.iter().skip(3).map(|name| (name.as_str(), "v"));
    let headers: Vec<(&str, &str)> = long.chain(short).collect();
    gateway
        .client()
        .request("GET", "/", &headers, b"")
        .expect(200);
}

#[test]
fn a_head_that_comes_byte_by_byte_gets_408() {
    let origin = Origin::echo();
    let gateway = before(&origin, ", timeouts: { header: 300ms }", "").spawn();
    let mut client = gateway.client();
    let began = Instant::now();
    for byte in b"GET / HTTP/1.1\r\nhost: a.test\r\nx-slow: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    {
        if began.elapsed() > Duration::from_secs(2) || !client.send_raw(&[*byte]) {
            break;
        }
        std::thread::park_timeout(Duration::from_millis(20));
    }
    client.response("GET").expect(408);
    assert!(client.closed_by_gateway());
    assert_eq!(origin.count(), 0);
}

#[test]
fn an_idle_connection_is_closed() {
    let origin = Origin::echo();
    let gateway = before(&origin, ", timeouts: { idle: 250ms }", "").spawn();
    let mut fresh = gateway.client();
    let mut used = kept(gateway.addr());
    assert!(fresh.closed_by_gateway());
    assert!(used.closed_by_gateway());
}

#[test]
fn a_handshake_that_does_not_go_on_is_ended() {
    let (pki, origin) = (Pki::new(), Origin::echo());
    let pair = pki.issue(&["api.example.com"]);
    let tls = ", timeouts: { handshake: 250ms }, tls: { certificates: [{ cert_file: a.pem, key_file: a.key }] }";
    let setup = before(&origin, tls, "");
    let gateway = setup
        .file("a.pem", &pair.cert)
        .file("a.key", &pair.key)
        .spawn();
    let mut silent = gateway.client();
    let mut begun = gateway.client();
    begun.send_raw(b"\x16\x03\x01\x02\x00\x01");
    assert!(silent.closed_by_gateway());
    assert!(begun.closed_by_gateway());
    let h2c = before(
        &origin,
        ", protocols: [h2c], timeouts: { handshake: 250ms }",
        "",
    )
    .spawn();
    let mut greeting = h2c.client();
    greeting.send_raw(b"PRI * HTTP/2.0\r\n");
    assert!(greeting.closed_by_gateway());
}

#[test]
fn a_client_that_takes_nothing_is_let_go() {
    let origin = Origin::answer(|_| Reply::endless());
    let gateway = before(&origin, ", timeouts: { write: 300ms }", "").spawn();
    let mut client = gateway.client();
    client.send_request("GET", "/", &[], b"");
    client.response_head("GET").expect(200);
    // The origin's connection ends with the client's: nobody reads it any more.
    origin.wait_closed(0);
}

#[test]
fn a_body_that_stops_gets_no_answer_from_an_upstream() {
    let origin = Origin::echo();
    let gateway = before(&origin, ", timeouts: { write: 300ms }", "").spawn();
    let mut client = gateway.client();
    client.send_raw(b"POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 10\r\n\r\nhello");
    client.response("POST").expect(408);
    assert!(client.closed_by_gateway());
    assert_eq!(origin.complete(), 0);
}

#[test]
fn a_body_of_a_byte_a_second_gets_408() {
    let origin = Origin::echo();
    let gateway = before(&origin, "", "").spawn();
    let mut client = gateway.client().read_timeout(Duration::from_secs(30));
    client.send_raw(b"POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 1000\r\n\r\n");
    let writer = client.stream().try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(30) && (&writer).write_all(b"a").is_ok() {
            std::thread::park_timeout(Duration::from_secs(1));
        }
        began.elapsed()
    });
    let began = Instant::now();
    let answer = client.response("POST").expect(408);
    assert!(answer.text().contains("body_timeout"), "{}", answer.text());
    assert!(began.elapsed() > Duration::from_secs(9));
    drop(client);
    assert!(sender.join().unwrap() < Duration::from_secs(30));
}

#[test]
fn a_slower_pace_is_allowed_where_it_is_written() {
    let origin = Origin::echo();
    let gateway = before(&origin, ", timeouts: { min_rate: 1B/s }", "").spawn();
    let mut client = gateway.client().read_timeout(Duration::from_secs(30));
    client.send_raw(b"POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 36\r\n\r\n");
    for _ in 0..12 {
        assert!(client.send_raw(b"aaa"));
        std::thread::park_timeout(Duration::from_secs(1));
    }
    client.response("POST").expect(200);
}

#[test]
fn a_slow_upstream_is_no_slow_client() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::answer(move |_| Reply::ok("late").after(&held));
    let limits = ", timeouts: { write: 200ms, idle: 200ms, header: 200ms, min_rate: 1MiB/s }";
    let gateway = before(&origin, limits, "").spawn();
    let mut client = gateway.client();
    client.send_request("POST", "/", &[], b"a body");
    gate.wait_until_waiting(1);
    std::thread::park_timeout(Duration::from_millis(500));
    gate.open();
    client.response("POST").expect(200);
}

#[test]
fn short_of_memory_new_requests_get_503_and_the_admin_answers() {
    let origin = Origin::echo();
    let short = "overload: { memory: 0.0001%, retry_after: 7s }";
    let gateway = before(&origin, ", protocols: [http1, h2c]", short).spawn();
    soon(gateway.addr(), 503);
    let mut streams = Frames::connect(gateway.addr());
    let asked = [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "a.test"),
        (":path", "/"),
    ];
    // The goodbye may come before the answer.
    let (mut code, mut body): (Option<Vec<u8>>, Vec<u8>) = (None, Vec::new());
    let stream = streams.begin(&asked, END_STREAM);
    while code.is_none() || !body.ends_with(b"}") {
        let frame = streams.frame().unwrap();
        match frame.kind {
            GOAWAY => code = frame.payload.get(4..8).map(<[u8]>::to_vec),
            DATA if frame.stream == stream => body.extend(frame.payload),
            _ => {}
        }
    }
    assert_eq!(code, Some(vec![0; 4]));
    assert!(String::from_utf8_lossy(&body).contains("overload"));
    let mut client = gateway.client();
    let answer = client.get("/").expect(503);
    assert_eq!(answer.header("retry-after"), Some("7"));
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(answer.text().contains("overload"), "{}", answer.text());
    assert!(admin(gateway.dir(), "/livez").starts_with("HTTP/1.1 200"));
    assert!(admin(gateway.dir(), "/metrics").contains("overload"));
    gateway.write_config(&config(&origin.url(), "", "overload: { memory: 90% }"));
    let generation = |text: &str| text.contains("doorward_config_generation 2");
    gateway.process().signal("HUP");
    while !generation(&admin(gateway.dir(), "/metrics")) {
        std::thread::yield_now();
    }
    let took = soon(gateway.addr(), 200);
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn out_of_descriptors_it_sheds_answers_at_the_admin_door_and_recovers() {
    let origin = Origin::echo();
    let dir = tempfile::tempdir().unwrap();
    let descriptors = scale(5_000).max(100);
    let listener = ", limits: { connections_per_ip: 20000, connection_rate_per_ip: none }";
    let (process, addr) = with_descriptors(descriptors, listener, &origin, dir.path());
    let mut held: Vec<TcpStream> = Vec::new();
    for _ in 0..3 * descriptors {
        held.push(TcpStream::connect_timeout(&addr, DEADLINE).unwrap());
    }
    // Nobody new comes in, and who is told so gets 503.
    let shed = soon_or(addr, |answer| {
        answer.is_none_or(|answer| answer.status == 503)
    });
    assert!(shed);
    assert!(admin(dir.path(), "/livez").starts_with("HTTP/1.1 200"));
    assert!(process.descriptors() < usize::try_from(descriptors / 10 * 9).unwrap());
    drop(held);
    let took = soon(addr, 200);
    assert!(took < Duration::from_secs(1), "{took:?}");
}

/// A gateway of one worker that may have so many descriptors.
fn with_descriptors(
    descriptors: u64,
    listener: &str,
    origin: &Origin,
    dir: &Path,
) -> (Process, SocketAddr) {
    let config = config(&origin.url(), listener, "threads: 1");
    std::fs::write(dir.join("doorward.yaml"), config).unwrap();
    let mut command = Command::new("bash");
    command.current_dir(dir);
    let run = format!("ulimit -n {descriptors}; exec \"$0\" run --config doorward.yaml");
    command.args(["-c", &run, env!("CARGO_BIN_EXE_doorward")]);
    let process = Process::start(&mut command);
    let line = process.wait_log("listening on");
    let addr = line.lines().find_map(|line| line.split_once("http://"));
    let addr = addr.and_then(|(_, addr)| addr.trim().parse().ok());
    (process, addr.unwrap())
}

/// What so many answers say, one behind the other.
fn bodies(client: &mut Frames, mut answers: u32) -> String {
    let (mut bodies, end_stream, data) = (Vec::new(), 1, 0);
    while answers > 0 {
        let frame = client.frame().unwrap();
        if frame.kind == data {
            bodies.extend(&frame.payload);
        }
        // Of a head as of a body; an answer to SETTINGS has no stream.
        if frame.stream > 0 && frame.kind <= 1 && frame.flags & end_stream != 0 {
            answers -= 1;
        }
    }
    String::from_utf8(bodies).unwrap()
}

fn ok() -> Reply {
    let json = [("content-type", "application/json")];
    Reply::fixed(200, &json, "{\"status\":200}")
}

#[test]
fn streams_take_no_more_descriptors_than_there_are() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::answer(move |_| ok().after(&held));
    let dir = tempfile::tempdir().unwrap();
    let descriptors = scale(2_000).max(100);
    // Threefold: streams that all wait for their upstream.
    let listener = ", protocols: [http1, h2c], limits: { http2_streams: 100 }";
    let (process, addr) = with_descriptors(descriptors, listener, &origin, dir.path());
    let fields = [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "a.test"),
        (":path", "/"),
    ];
    let mut clients = Vec::new();
    for _ in 0..(3 * descriptors).div_ceil(100) {
        let mut client = Frames::connect(addr);
        for _ in 0..100 {
            client.begin(&fields, 1);
        }
        clients.push(client);
    }
    let most = descriptors / 100 * 45;
    let refused = u64::try_from(clients.len()).unwrap() * 100 - most;
    gate.wait_until_waiting(most);
    // At the admin door there is an answer all the while.
    let line = format!("doorward_faults_total{{error_type=\"overload\"}} {refused}\n");
    let began = Instant::now();
    while !admin(dir.path(), "/metrics").contains(&line) {
        assert!(began.elapsed() < DEADLINE, "never {line}");
    }
    gate.open();
    let bodies: String = clients
        .iter_mut()
        .map(|client| bodies(client, 100))
        .collect();
    let count = |body: &str| u64::try_from(bodies.matches(body).count()).unwrap();
    assert_eq!(count("\"status\":200"), most);
    assert_eq!(count("\"status\":503"), refused);
    assert!(process.exit().is_none());
    drop(clients);
    let took = soon(addr, 200);
    assert!(took < Duration::from_secs(1), "{took:?}");
}

fn soon_or(addr: SocketAddr, wanted: impl Fn(Option<Response>) -> bool) -> bool {
    let began = Instant::now();
    while began.elapsed() < DEADLINE {
        if wanted(one_more(addr)) {
            return true;
        }
    }
    false
}

#[test]
fn shipped_limits_are_shown() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("doorward.yaml"),
        "version: 1\nlisteners: { a: { address: \"127.0.0.1:0\" } }\n",
    )
    .unwrap();
    let shown = run_cli(&["config", "show", "--format", "json"], dir.path());
    let shown: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap();
    let listener = shown.pointer("/listeners/a").unwrap();
    assert_eq!(
        listener.get("limits").unwrap(),
        &serde_json::json!({ "connections_per_ip": 256, "connection_rate_per_ip": "5000/s", "request_rate_per_ip": "50000/s", "requests_per_connection": 1000, "uri": "8KiB", "header_bytes": "16KiB", "headers": 100, "http2_streams": 100 })
    );
    assert_eq!(
        listener.get("timeouts").unwrap(),
        &serde_json::json!({ "handshake": "10s", "header": "10s", "idle": "1m", "write": "30s", "min_rate": "256B/s" })
    );
    let overload = shown.pointer("/runtime/overload").unwrap();
    assert_eq!(
        overload,
        &serde_json::json!({ "memory": "90%", "retry_after": "5s" })
    );
}
