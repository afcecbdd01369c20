//! WebSockets and event streams through the gateway, between a client and a server of another make, and byte by byte.
#![expect(
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not as expected"
)]

use std::process::Command;

use serde_json::{Value as Json, json};

use crate::support::{Client, DEADLINE, Gateway, Process, Setup, python, run, scale};

const SERVER: &str = include_str!("server.py");
const CLIENT: &str = include_str!("client.py");

/// A server, and a gateway in front of it.
struct Sockets {
    gateway: Gateway,
    server: Process,
    dir: tempfile::TempDir,
}

fn program(dir: &tempfile::TempDir, name: &str, text: &str) -> Command {
    let file = dir.path().join(name);
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(python(&["websockets==17.4"]));
    command.arg(file);
    command
}

impl Sockets {
    /// With the rules `websocket: { … }`, or other clauses of the route.
    fn start(clauses: &str) -> Self {
        Self::start_with(clauses, "")
    }

    fn start_with(clauses: &str, more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = Process::start(&mut program(&dir, "server.py", SERVER));
        let ports = server.wait_line("its ports", |line| {
            let (one, other) = line.strip_prefix("ports ")?.split_once(' ')?;
            Some((one.parse::<u16>().ok()?, other.parse::<u16>().ok()?))
        });
        let target = |port: u16| format!("{{ targets: [{{ url: \"http://127.0.0.1:{port}\" }}] }}");
        let gateway = Setup::new(&format!(
            "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\" }} }}\n{more}\
             upstreams: {{ sockets: {}, events: {} }}\nroutes:\n\
             \x20 - {{ name: sockets, match: {{ path: /ws }}, upstream: sockets{clauses} }}\n\
             \x20 - {{ name: events, match: {{ path: /events }}, upstream: events, timeouts: {{ total: 500ms }} }}\n",
            target(ports.0),
            target(ports.1)
        ))
        .spawn();
        Self {
            gateway,
            server,
            dir,
        }
    }

    fn command(&self, what: &[&str]) -> Command {
        let mut command = program(&self.dir, "client.py", CLIENT);
        command.arg(self.gateway.addr().to_string()).args(what);
        command
    }

    /// What came of it.
    #[track_caller]
    fn run(&self, what: &[&str]) -> Json {
        let output = run(&mut self.command(what), DEADLINE * 4);
        let log = self.gateway.process().log();
        assert_eq!(output.code, 0, "{what:?}: {}\n{log}", output.stderr);
        serde_json::from_str(output.stdout.trim()).unwrap()
    }

    /// The server heard this code.
    #[track_caller]
    fn server_hears(&self, code: u16) {
        self.server.wait_log(&format!("ended {code}"));
    }

    /// The record of the WebSocket has this reason.
    #[track_caller]
    fn recorded(&self, reason: &str) {
        self.gateway
            .process()
            .wait_log(&format!("\"error.type\":\"{reason}\""));
    }

    /// A connection that is a WebSocket already, byte by byte.
    fn raw(&self) -> Client {
        let mut client = self.gateway.client();
        let upgrade = [
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        client.send_request("GET", "/ws", &upgrade, b"");
        assert_eq!(client.response_head("GET").status, 101);
        client
    }
}

/// Reads so many bytes.
#[track_caller]
fn read(client: &mut Client, bytes: usize) -> Vec<u8> {
    let mut all = Vec::new();
    while all.len() < bytes {
        let more = client.read_raw().unwrap();
        assert!(!more.is_empty(), "{all:?}");
        all.extend(more);
    }
    all
}

#[test]
fn a_silent_socket_is_told_that_it_is_over() {
    let sockets = Sockets::start(", websocket: { idle: 2s }");
    let ended = sockets.run(&["silent", "20"]);
    assert_eq!(ended["code"], 1001, "{ended}");
    assert!(ended["after"].as_f64().unwrap() >= 1.9, "{ended}");
    sockets.server_hears(1001);
    sockets.recorded("timeout");
}

#[test]
fn a_socket_may_be_silent_for_as_long_as_is_written() {
    // The times of answers are over long before.
    let times = "timeouts: { connect: 1s, first_byte: 1s, between_bytes: 1s, total: 1s }";
    let sockets = Sockets::start(&format!(", {times}, websocket: {{ idle: 1h }}"));
    let seconds = scale(90).max(3).to_string();
    assert_eq!(sockets.run(&["silent", &seconds]), json!({ "alive": true }));
}

#[test]
fn pings_are_answered_and_keep_nobody() {
    let sockets = Sockets::start(", websocket: { ping: 1s, idle: 1h }");
    // Several are answered meanwhile by both sides; a second is enough for that, whatever else the machine does.
    assert_eq!(sockets.run(&["silent", "5"]), json!({ "alive": true }));
    // What only answers our pings says nothing.
    let sockets = Sockets::start(", websocket: { ping: 1s, idle: 3s }");
    assert_eq!(sockets.run(&["silent", "20"])["code"], 1001);
}

#[test]
fn a_client_that_answers_no_ping_is_gone() {
    let sockets = Sockets::start(", websocket: { ping: 300ms }");
    let mut client = sockets.raw();
    let heard = read(&mut client, 14);
    assert_eq!(heard[..2], [0x89, 8], "a ping");
    assert_eq!(heard[10..], [0x88, 2, 3, 233], "the end");
    sockets.server_hears(1001);
    sockets.recorded("client_error");
}

#[test]
fn a_long_message_of_a_client_is_refused() {
    let sockets = Sockets::start(", websocket: { max_message: 1KiB }");
    assert_eq!(sockets.run(&["send", "1024"]), json!({ "length": 1024 }));
    assert_eq!(sockets.run(&["refused", "1025"]), json!({ "code": 1009 }));
    sockets.server_hears(1001);
    sockets.recorded("body_too_large");
}

#[test]
fn a_long_message_of_a_server_is_refused() {
    let sockets = Sockets::start(", websocket: { max_message: 1KiB }");
    assert_eq!(
        sockets.run(&["send", "send 1024"]),
        json!({ "length": 1024 })
    );
    assert_eq!(
        sockets.run(&["refused", "send 1025"]),
        json!({ "code": 1001 })
    );
    sockets.server_hears(1009);
    sockets.recorded("response_too_large");
}

#[test]
fn a_socket_that_is_old_is_told_that_it_is_over() {
    let sockets = Sockets::start(", websocket: { max_age: 1500ms }");
    assert_eq!(sockets.run(&["silent", "20"])["code"], 1001);
    sockets.server_hears(1001);
}

#[test]
fn only_pages_that_are_named_open_sockets() {
    let sockets = Sockets::start(", websocket: { origins: [\"https://App.example.com\"] }");
    for (origin, status) in [
        ("https://app.example.com", 101),
        ("https://app.example.com.evil.test", 403),
        ("http://app.example.com", 403),
        ("null", 403),
        ("none", 101),
    ] {
        assert_eq!(
            sockets.run(&["origin", origin])["status"],
            status,
            "{origin}"
        );
    }
}

#[test]
fn a_process_that_stops_says_so() {
    let drain = "runtime: { drain: { requests: 1s, websockets: 1s } }\n";
    let sockets = Sockets::start_with(", websocket: { idle: 1h }", drain);
    let client = Process::start(&mut sockets.command(&["wait"]));
    client.wait_log("open");
    sockets.gateway.process().signal("TERM");
    client.wait_log("{\"code\": 1001}");
    sockets.server_hears(1001);
    sockets.recorded("stopped");
}

#[test]
fn what_is_no_websocket_ends_it() {
    let sockets = Sockets::start(", websocket: { idle: 1h }");
    let mut client = sockets.raw();
    assert!(client.send_raw(&[0x81, 0x85, 0, 0, 0, 0, b'h', b'e', b'l', b'l', b'o']));
    assert_eq!(read(&mut client, 7), b"\x81\x05hello");
    // Not masked.
    assert!(client.send_raw(b"\x81\x05hello"));
    assert_eq!(read(&mut client, 4), [0x88, 2, 3, 234]);
    sockets.server_hears(1001);
    sockets.recorded("client_error");
}

#[test]
fn twelve_mebibytes_go_both_ways() {
    for rules in ["", ", websocket: { ping: 2s, max_message: 12MiB }"] {
        let sockets = Sockets::start(rules);
        for [count, size, compression] in [
            ["12", "1048576", "none"],
            ["1", "12582912", "none"],
            ["48", "262144", "deflate"],
        ] {
            let ended = sockets.run(&["both_ways", count, size, compression]);
            assert_eq!(
                ended,
                json!({ "code": 1000 }),
                "{rules} {size} {compression}"
            );
            sockets.server_hears(1000);
        }
    }
}

#[test]
fn events_come_when_they_are_sent_for_as_long_as_they_do() {
    let sockets = Sockets::start("");
    // 2 s of them, where answers may take half a second.
    let heard = sockets.run(&["events", "20"]);
    assert_eq!(heard["status"], 200);
    assert!(heard["late"].as_f64().unwrap() < 0.05, "{heard}");
}
