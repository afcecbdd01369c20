//! gRPC through the gateway, between a client and a server of another make: Python's, which are those of C++, Ruby and PHP.
#![expect(
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not as expected"
)]

mod metadata;

use std::net::SocketAddr;
use std::process::Command;

use serde_json::{Value as Json, json};

use crate::control::{at_socket, reload};
use crate::support::{
    DEADLINE, Frames, Gateway, Output, Pki, Process, Setup, frames, free_port, python, run, scale,
};

const SERVER: &str = include_str!("server.py");
const CLIENT: &str = include_str!("client.py");

/// What the gateway may take in all.
const PEAK_KIB_MAX: u64 = 48 * 1024;

/// A server, a gateway in front of it, and what a client needs to find its way.
struct Calls {
    gateway: Gateway,
    _server: Process,
    authority: String,
    dir: tempfile::TempDir,
}

/// How the two sides of the gateway are spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Tls,
    Plain,
}

/// The program, kept in a folder, about to be started.
fn program(dir: &tempfile::TempDir, name: &str, text: &str) -> Command {
    let file = dir.path().join(name);
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(python(&["grpcio==1.85.1"]));
    command.arg(file);
    command
}

/// Starts a server; what it says first is its port.
fn server(dir: &tempfile::TempDir, args: &[&str]) -> (Process, SocketAddr) {
    let mut command = program(dir, "server.py", SERVER);
    let server = Process::start(command.args(args).current_dir(dir.path()));
    let port = server.wait_line("its port", |line| line.trim().parse::<u16>().ok());
    (server, SocketAddr::from(([127, 0, 0, 1], port)))
}

impl Calls {
    fn start(by: By, clauses: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::new();
        let pair = pki.issue(&["grpc.test", "127.0.0.1"]);
        for (name, text) in [
            ("ca.pem", &pki.ca),
            ("cert.pem", &pair.cert),
            ("key.pem", &pair.key),
        ] {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let (args, listener, target) = match by {
            By::Tls => (
                &["cert.pem", "key.pem"][..],
                ", tls: { certificates: [{ cert_file: cert.pem, key_file: key.pem }] }",
                (
                    "https",
                    ", protocol: http2, tls: { ca_file: ca.pem, server_name: grpc.test }",
                ),
            ),
            By::Plain => (&[][..], ", protocols: [http1, h2c]", ("h2c", "")),
        };
        let (server, addr) = server(&dir, args);
        let gateway = Setup::new(&config(
            listener,
            &format!("{}://{addr}", target.0),
            target.1,
            clauses,
        ))
        .file("ca.pem", &pki.ca)
        .file("cert.pem", &pair.cert)
        .file("key.pem", &pair.key)
        .spawn();
        let authority = match by {
            By::Tls => dir.path().join("ca.pem").display().to_string(),
            By::Plain => "-".to_owned(),
        };
        Self {
            gateway,
            _server: server,
            authority,
            dir,
        }
    }

    fn command(&self, what: &[&str]) -> Command {
        let mut command = program(&self.dir, "client.py", CLIENT);
        command.arg(self.gateway.addr().to_string());
        command.arg(&self.authority).args(what);
        command
    }

    #[track_caller]
    fn run(&self, what: &[&str]) -> Output {
        let output = run(&mut self.command(what), DEADLINE * 4);
        let log = self.gateway.process().log();
        assert_eq!(output.code, 0, "{what:?}: {}\n{log}", output.stderr);
        output
    }

    /// How one call ended that takes so many milliseconds at its server.
    #[track_caller]
    fn one(&self, millis: &str) -> Json {
        let output = self.run(&["one", millis]);
        serde_json::from_str(output.stdout.trim()).unwrap_or_else(|_| json!(output.stdout.trim()))
    }
}

fn config(listener: &str, target: &str, upstream: &str, clauses: &str) -> String {
    format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\"{listener} }} }}\nadmin: {{ socket: admin.sock }}\n\
         upstreams: {{ o: {{ targets: [{{ url: \"{target}\" }}]{upstream} }} }}\n\
         routes: [{{ name: calls, match: {{ path_prefix: / }}, upstream: o{clauses} }}]\n"
    )
}

#[track_caller]
fn every_case_passes(by: By) {
    let calls = Calls::start(by, "");
    let output = calls.run(&["cases"]);
    assert_eq!(output.stdout.lines().count(), 13, "{}", output.stdout);
}

#[test]
fn every_case_of_grpc_passes_by_tls() {
    every_case_passes(By::Tls);
}

#[test]
fn every_case_of_grpc_passes_without_tls() {
    every_case_passes(By::Plain);
}

#[test]
fn calls_go_on_through_reloads() {
    let calls = Calls::start(By::Plain, "");
    let number = scale(100_000);
    let mut command = calls.command(&["many", &number.to_string()]);
    let client = Process::start(&mut command);
    for percent in (0..100).rev() {
        client.wait_line("a hundredth more", |line| {
            let left: u64 = line.strip_prefix("left ")?.parse().ok()?;
            (left <= number * percent / 100).then_some(())
        });
        if percent % 25 == 0 {
            reload(&calls.gateway, 0);
        }
    }
    client.wait_log("passed many");
    assert!(client.wait_exit().success(), "{}", client.log());
}

#[test]
fn twelve_mebibytes_go_both_ways_at_once() {
    let calls = Calls::start(By::Plain, ", body_limits: { request: 16MiB }");
    calls.run(&["both_ways"]);
    // Both directions of 36 MiB passed; what was on its way at any moment is no more than the windows.
    let peak = calls.gateway.process().rss_peak_kib();
    assert!(peak < PEAK_KIB_MAX, "{peak} KiB");
}

#[test]
fn a_call_whose_client_takes_nothing_holds_up_no_other() {
    Calls::start(By::Plain, "").run(&["slow_reader"]);
}

#[test]
fn what_is_silent_is_not_cut_by_the_times_of_others() {
    // All of them would be over by then.
    let times = ", timeouts: { connect: 400ms, total: 500ms }";
    let calls = Calls::start(By::Tls, times);
    assert_eq!(
        calls.one("2000"),
        json!({ "code": 4, "details": "The service behind this address did not answer in time." })
    );
    let calls = Calls::start(By::Tls, "");
    calls.run(&["silent", "1500"]);
}

#[test]
fn a_written_time_ends_a_call_with_deadline_exceeded() {
    for times in ["first_byte: 300ms", "total: 300ms", "per_try: 300ms"] {
        let calls = Calls::start(By::Plain, &format!(", timeouts: {{ {times} }}"));
        let ended = calls.one("5000");
        assert_eq!(ended["code"], 4, "{times}: {ended}");
        assert_eq!(calls.one("0"), "ok", "{times}");
    }
}

#[test]
fn a_message_over_the_limit_is_refused_and_many_small_ones_are_not() {
    let calls = Calls::start(By::Plain, ", body_limits: { request: 1MiB }");
    let output = run(&mut calls.command(&["both_ways"]), DEADLINE);
    // 48 messages of 256 KiB passed; then the whole of them is one message too long.
    assert!(
        output.stderr.contains("RESOURCE_EXHAUSTED"),
        "{}",
        output.stderr
    );
    assert!(
        output.stderr.contains("all(answer == whole"),
        "{}",
        output.stderr
    );
}

#[test]
fn an_answer_over_the_limit_is_not_passed_on() {
    let limit = |limit| {
        Calls::start(
            By::Plain,
            &format!(", body_limits: {{ response: {limit} }}"),
        )
    };
    // One message of 314,159 bytes.
    let calls = limit("256KiB");
    let output = run(&mut calls.command(&["large_unary"]), DEADLINE);
    assert!(output.stderr.contains("StatusCode."), "{}", output.stderr);
    limit("512KiB").run(&["large_unary"]);
    // Many that are longer together.
    limit("64KiB").run(&["server_streaming"]);
}

#[test]
fn faults_of_ours_are_statuses_of_grpc() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    for (clauses, code) in [
        ("", 14),
        (", maintenance: { message: 'closed: 100 %' }", 14),
        (
            ", lifecycle: { deprecated: 2020-01-01, sunset: 2020-02-01 }",
            12,
        ),
    ] {
        let config = config(
            ", protocols: [http1, h2c]",
            &format!("h2c://127.0.0.1:{port}"),
            "",
            clauses,
        );
        let gateway = Setup::new(&config).spawn();
        let mut command = program(&dir, "client.py", CLIENT);
        command.args([&gateway.addr().to_string(), "-", "one", "0"]);
        let output = run(&mut command, DEADLINE);
        let ended: Json = serde_json::from_str(output.stdout.trim()).unwrap();
        assert_eq!(ended["code"], code, "{clauses}: {ended}");
        if clauses.contains("100 %") {
            assert_eq!(ended["details"], "closed: 100 %");
        }
    }
}

#[test]
fn the_status_of_a_call_is_logged_and_counted() {
    let calls = Calls::start(By::Plain, "");
    calls.run(&["cases"]);
    let gateway = &calls.gateway;
    let metrics = at_socket(gateway, "/metrics");
    for (status, at_least) in [("OK", 5.0), ("UNKNOWN", 4.0), ("UNIMPLEMENTED", 2.0)] {
        let name = format!(
            "doorward_grpc_calls_total{{http_route=\"calls\",rpc_response_status_code=\"{status}\"}} "
        );
        let counted = metrics
            .lines()
            .find_map(|line| line.strip_prefix(&name)?.parse::<f64>().ok());
        assert!(
            counted.is_some_and(|counted| counted >= at_least),
            "{status}: {metrics}"
        );
        let logged = format!("\"rpc.response.status_code\":\"{status}\"");
        assert!(gateway.process().log().contains(&logged), "{status}");
    }
}

#[test]
fn the_gateway_ends_a_call_when_its_client_wanted_it_to_end() {
    let calls = Calls::start(By::Plain, "");
    ends_when_wanted(&calls);
}

#[test]
fn a_call_that_its_client_wanted_to_end_says_nothing_about_its_target() {
    let breaker = ", circuit_breaker: { min_requests: 2, open_for: 1m }";
    let calls = Calls::start(By::Plain, breaker);
    for _ in 0..3 {
        ends_when_wanted(&calls);
    }
    assert_eq!(calls.one("0"), "ok");
}

/// A call whose client has no clock of its own, and whose server waits for the first message.
#[track_caller]
fn ends_when_wanted(calls: &Calls) {
    let mut client = Frames::connect(calls.gateway.addr());
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/interop.Test/ClientStream"),
        (":authority", "grpc.test"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("grpc-timeout", "300m"),
    ];
    let stream = client.begin(&fields, 0);
    let answer = loop {
        let frame = client.frame().unwrap();
        if frame.stream == stream {
            break frame;
        }
    };
    let whole = frames::END_STREAM | frames::END_HEADERS;
    assert_eq!((answer.kind, answer.flags), (frames::HEADERS, whole));
    let log = calls.gateway.process();
    log.wait_log("\"rpc.response.status_code\":\"DEADLINE_EXCEEDED\"");
}
