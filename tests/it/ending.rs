//! How the process ends: who waits is served, answers say that they are the last, and what takes too long is cut off.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test stops at the first thing that is not as expected; only deadlines are taken from the clock"
)]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use super::support::{
    Client, DEADLINE, Ended, Gate, Gateway, Origin, Recorded, Reply, Response, Setup, run, run_cli,
    scale,
};

/// How many requests one connection carries; then its answer says `close` too.
const REQUESTS_MAX: u64 = 1_000;

/// A gateway with a socket in front of an origin; `drain` as it stands in the config.
fn before(origin: &Origin, drain: &str) -> String {
    format!(
        "version: 1\nruntime: {{ drain: {{ {drain} }} }}\n\
         listeners: {{ public: {{ address: \"127.0.0.1:0\", limits: {{ connections_per_ip: 10000 }} }} }}\nadmin: {{ socket: admin.sock }}\n\
         telemetry: {{ access_log: {{ format: json }} }}\n\
         upstreams: {{ o: {{ targets: [{{ url: \"{}\" }}] }} }}\n\
         routes: [{{ name: all, match: {{ path_prefix: / }}, upstream: o }}]\n",
        origin.url()
    )
}

/// An origin that answers `/slow` when the gate lets it, all other requests at once.
fn slow(gate: &Gate) -> Origin {
    let gate = gate.clone();
    Origin::answer(move |request: &Recorded| match request.path.as_str() {
        "/slow" => Reply::ok("late").after(&gate),
        "/begun" => Reply::gated_length(200, &[], &[b"first", b"second"], &gate),
        "/ws" => Reply::upgrade(&[]).after(&gate),
        _ => Reply::ok("soon"),
    })
}

fn is_last(answer: &Response) -> bool {
    answer.header("connection") == Some("close")
}

/// Waits until the gateway takes no more connections.
#[track_caller]
fn wait_refused(gateway: &Gateway) {
    let since = Instant::now();
    loop {
        match TcpStream::connect_timeout(&gateway.addr(), DEADLINE) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => return,
            Err(error) => panic!("{error}"),
            // It came in before the end, and leaves at once.
            Ok(_) => assert!(since.elapsed() < DEADLINE, "the sockets stay open"),
        }
    }
}

/// Asks the admin socket; the status and the body.
fn ask(gateway: &Gateway, path: &str) -> (String, String) {
    let mut stream = UnixStream::connect(gateway.dir().join("admin.sock")).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap();
    (status.to_owned(), body.to_owned())
}

#[test]
fn the_end_under_load_fails_no_request() {
    let origin = Origin::echo();
    let (closed, answered) = (AtomicU64::new(0), AtomicU64::new(0));
    for _ in 0..scale(200) {
        let gateway = Gateway::spawn(&before(&origin, ""));
        let (asked, end) = (AtomicU64::new(0), AtomicBool::new(false));
        thread::scope(|threads| {
            for kept in [true, true, true, false, false, false] {
                let (gateway, closed, asked, end) = (&gateway, &closed, &asked, &end);
                threads.spawn(move || {
                    // Until nobody takes the connection: that is no request that failed.
                    'connections: loop {
                        let mut client = match Client::try_connect(gateway.addr()) {
                            Ok(client) => client,
                            Err(error) => {
                                assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
                                assert!(end.load(Ordering::SeqCst), "refused before the end");
                                return;
                            }
                        };
                        for number in 1..=REQUESTS_MAX {
                            let answer = client.get("/x").expect(200);
                            asked.fetch_add(1, Ordering::SeqCst);
                            if is_last(&answer) {
                                let early = u64::from(kept && number < REQUESTS_MAX);
                                closed.fetch_add(early, Ordering::SeqCst);
                                continue 'connections;
                            }
                            if !kept {
                                continue 'connections;
                            }
                        }
                    }
                });
            }
            while asked.load(Ordering::SeqCst) < 300 {
                thread::yield_now();
            }
            end.store(true, Ordering::SeqCst);
            gateway.process().signal("TERM");
        });
        assert_eq!(gateway.process().wait_exit().code(), Some(0));
        answered.fetch_add(asked.into_inner(), Ordering::SeqCst);
    }
    assert!(closed.into_inner() > 0);
    assert_eq!(origin.count(), answered.into_inner());
}

#[test]
fn who_waits_to_be_accepted_is_served() {
    let origin = Origin::echo();
    let config = before(&origin, "");
    for (config, all) in [
        (config.clone(), false),
        (config.replace("127.0.0.1:0", "0.0.0.0:0"), true),
    ] {
        let gateway = Gateway::spawn(&config);
        let mut addr = gateway.addr();
        if all {
            addr.set_ip([127, 0, 0, 1].into());
        }
        // While it stands still, the kernel takes connections for it.
        gateway.process().signal("STOP");
        let clients: Vec<Client> = (0..scale(2_000))
            .map(|_| {
                let mut client = Client::connect(addr);
                assert!(client.send_request("GET", "/x", &[], b""));
                client
            })
            .collect();
        gateway.process().signal("TERM");
        gateway.process().signal("CONT");
        for mut client in clients {
            // The first of them may be served before the signal is heard.
            client.response("GET").expect(200);
        }
        assert_eq!(gateway.process().wait_exit().code(), Some(0));
    }
}

#[test]
fn who_waits_at_a_unix_socket_is_served_too() {
    let origin = Origin::echo();
    let config = before(&origin, "").replace("\"127.0.0.1:0\"", "[\"127.0.0.1:0\", \"unix:PATH\"]");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("http.sock");
    let gateway = Gateway::spawn(&config.replace("PATH", path.to_str().unwrap()));
    gateway.process().signal("STOP");
    let mut waiting: Vec<UnixStream> = (0..5)
        .map(|_| {
            let mut stream = UnixStream::connect(&path).unwrap();
            stream.set_read_timeout(Some(DEADLINE)).unwrap();
            let request = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n";
            stream.write_all(request).unwrap();
            stream
        })
        .collect();
    gateway.process().signal("TERM");
    gateway.process().signal("CONT");
    for stream in &mut waiting {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    assert_eq!(gateway.process().wait_exit().code(), Some(0));
    assert!(UnixStream::connect(&path).is_err());
}

#[test]
fn the_process_ends_with_its_last_request() {
    let gate = Gate::new();
    let origin = slow(&gate);
    let gateway = Gateway::spawn(&before(&origin, "requests: 300s"));
    assert_eq!(ask(&gateway, "/readyz").0, "200");
    let mut client = gateway.client();
    client.send_request("GET", "/slow", &[], b"");
    gate.wait_until_waiting(1);
    gateway.process().signal("TERM");
    wait_refused(&gateway);
    // The admin interface answers until the end.
    assert_eq!(
        ask(&gateway, "/readyz"),
        ("503".to_owned(), "stopping\n".to_owned())
    );
    assert_eq!(ask(&gateway, "/livez").0, "200");
    assert!(gateway.process().exit().is_none());
    gate.release();
    let answer = client.response("GET").expect(200);
    assert_eq!(answer.text(), "late");
    // It was on its way when the signal came, but its head was not.
    assert!(is_last(&answer), "{:?}", answer.headers);
    assert_eq!(gateway.process().wait_exit().code(), Some(0));
}

#[test]
fn an_idle_client_has_one_more_answer() {
    let origin = Origin::echo();
    let gateway = Gateway::spawn(&before(&origin, ""));
    let (mut kept, mut fresh) = (gateway.client(), gateway.client());
    assert!(!is_last(&kept.get("/x").expect(200)));
    // Whoever is served after `fresh` came after it.
    gateway.client().get("/x").expect(200);
    gateway.process().signal("TERM");
    wait_refused(&gateway);
    for client in [&mut kept, &mut fresh] {
        assert!(is_last(&client.get("/x").expect(200)));
        assert!(client.closed_by_gateway());
    }
    assert_eq!(gateway.process().wait_exit().code(), Some(0));
}

#[test]
fn clients_that_stay_idle_do_not_hold_the_end() {
    let gate = Gate::new();
    let origin = slow(&gate);
    let gateway = Gateway::spawn(&before(&origin, "requests: 300s"));
    let (mut kept, mut fresh) = (gateway.client(), gateway.client());
    kept.get("/x").expect(200);
    gateway.process().signal("TERM");
    assert!(kept.closed_by_gateway() && fresh.closed_by_gateway());
    assert_eq!(gateway.process().wait_exit().code(), Some(0));
}

#[test]
fn a_second_signal_ends_at_once() {
    for (first, second) in [("TERM", "TERM"), ("INT", "TERM"), ("TERM", "INT")] {
        let gate = Gate::new();
        let origin = slow(&gate);
        let gateway = Gateway::spawn(&before(&origin, "requests: 300s"));
        let mut client = gateway.client();
        client.send_request("GET", "/slow", &[], b"");
        gate.wait_until_waiting(1);
        gateway.process().signal(first);
        wait_refused(&gateway);
        assert!(gateway.process().exit().is_none());
        gateway.process().signal(second);
        assert_eq!(gateway.process().wait_exit().code(), Some(0));
        assert!(client.closed_by_gateway());
        gateway.process().wait_log("stopping at once");
    }
}

#[test]
fn requests_that_take_too_long_are_cut_off_and_counted() {
    let gate = Gate::new();
    let origin = slow(&gate);
    let gateway = Gateway::spawn(&before(&origin, "requests: 300s"));
    // What counts is the config in force.
    gateway.write_config(&before(&origin, "requests: 100ms"));
    assert_eq!(run_cli(&["reload"], gateway.dir()).code, 0);
    let (mut waits, mut begun) = (gateway.client(), gateway.client());
    begun.send_request("GET", "/begun", &[], b"");
    gate.wait_until_waiting(1);
    gate.release();
    begun.response_head("GET");
    assert_eq!(begun.read_exactly(5), b"first");
    waits.send_request("GET", "/slow", &[], b"");
    gate.wait_until_waiting(2);
    gateway.process().signal("TERM");
    let answer = waits.response("GET").expect(503);
    assert!(is_last(&answer));
    assert_eq!(answer.json()["type"], "urn:doorward:error:stopped");
    assert_eq!(begun.try_read_some(), Err(Ended::Truncated));
    assert_eq!(gateway.process().wait_exit().code(), Some(0));
    let warned = gateway
        .process()
        .wait_log("requests in flight were cut off");
    assert!(warned.contains("requests=2"), "{warned}");
    let log = gateway.log();
    let records = log.lines().filter(|line| line.contains("\"stopped\""));
    assert_eq!(records.count(), 2, "{log}");
}

#[test]
fn connections_that_left_http_have_their_own_time() {
    let gate = Gate::new();
    let origin = slow(&gate);
    // One way round, and the other.
    for (drain, tunnel_is_first) in [
        ("requests: 100ms, websockets: 2s", false),
        ("requests: 2s, websockets: 100ms", true),
    ] {
        let gateway = Gateway::spawn(&before(&origin, drain));
        let mut tunnel = gateway.client();
        let upgrade = [
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("Sec-WebSocket-Version", "13"),
        ];
        tunnel.send_request("GET", "/ws", &upgrade, b"");
        gate.wait_until_waiting(1);
        gate.release();
        assert_eq!(tunnel.response_head("GET").status, 101);
        let mut waits = gateway.client();
        waits.send_request("GET", "/slow", &[], b"");
        gate.wait_until_waiting(1);
        gateway.process().signal("TERM");
        if tunnel_is_first {
            assert!(tunnel.closed_by_gateway());
            gate.release();
            waits.response("GET").expect(200);
        } else {
            waits.response("GET").expect(503);
            assert!(tunnel.send_raw(b"still here"));
            assert_eq!(tunnel.read_raw().unwrap(), b"still here");
            assert!(tunnel.closed_by_gateway());
        }
        assert_eq!(gateway.process().wait_exit().code(), Some(0));
        gateway
            .process()
            .wait_log("connections that left HTTP were closed");
    }
}

#[test]
fn the_end_waits_for_no_reload() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    systemd.set_read_timeout(Some(DEADLINE)).unwrap();
    let origin = Origin::echo();
    let config = before(&origin, "");
    let gateway = Setup::new(&config)
        .env("NOTIFY_SOCKET", path.to_str().unwrap())
        .spawn();
    // Whoever opens this to read waits for somebody who writes, and nobody does.
    let pipe = gateway.dir().join("page.html");
    assert_eq!(run(Command::new("mkfifo").arg(&pipe), DEADLINE).code, 0);
    gateway.write_config(&format!("{config}errors: {{ html_file: page.html }}\n"));
    gateway.process().signal("HUP");
    let mut heard = String::new();
    while !heard.contains("RELOADING=1") {
        let mut buffer = [0; 512];
        let length = systemd.recv(&mut buffer).unwrap();
        heard.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
    }
    gateway.process().signal("TERM");
    assert_eq!(gateway.process().wait_exit().code(), Some(0));
}
