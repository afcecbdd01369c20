//! What an operator sees and does while it runs: reloads, the admin interface, records, counts, traces, systemd.
#![expect(
    clippy::unwrap_used,
    clippy::string_slice,
    reason = "a test stops at the first thing that is not as expected"
)]

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use super::support::{
    Client, DEADLINE, Gate, Gateway, Origin, Output, Reply, Response, Setup, get, run_cli, scale,
};

/// A gateway with a socket that answers `text`.
pub(crate) fn answering(text: &str, rest: &str) -> String {
    format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\" }} }}\n\
         admin: {{ socket: admin.sock }}\n{rest}routes: [{{ name: a, match: {{ path_prefix: / }}, respond: {{ text: {text} }} }}]\n"
    )
}

/// A gateway with a socket in front of these origins.
pub(crate) fn before(origins: &[&Origin], clauses: &str) -> String {
    let targets = origins
        .iter()
        .map(|o| format!("{{ url: \"{}\" }}", o.url()));
    let targets = targets.collect::<Vec<_>>().join(", ");
    format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\" }} }}\nadmin: {{ socket: admin.sock }}\n\
         upstreams: {{ o: {{ load_balancing: round_robin, targets: [{targets}] }} }}\n\
         routes: [{{ name: all, match: {{ path_prefix: / }}, upstream: o{clauses} }}]\n"
    )
}

pub(crate) fn read(path: impl AsRef<Path>) -> String {
    String::from_utf8(fs::read(path).unwrap()).unwrap()
}

/// What no gateway takes.
pub(crate) fn invalid() -> String {
    answering("c", "").replace("respond: { text: c }", "upstream: nowhere")
}

/// Asks at the socket; status, head and body.
pub(crate) fn ask_socket(dir: &Path, request: &str) -> (u16, String, String) {
    let mut stream = UnixStream::connect(dir.join("admin.sock")).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let request = format!("{request}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_lowercase(), body.to_owned())
}

pub(crate) fn at_socket(gateway: &Gateway, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n");
    let (status, _, body) = ask_socket(gateway.dir(), &request);
    assert_eq!(status, 200, "{path}: {body}");
    body
}

/// The value of one metric: the line up to the value.
pub(crate) fn metric(gateway: &Gateway, name: &str) -> Option<u64> {
    let text = at_socket(gateway, "/metrics");
    let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
    text.lines().find_map(value)
}

/// Reads a metric until it is as expected: it is counted when an answer has ended, which its reader may see earlier.
#[expect(
    clippy::disallowed_methods,
    reason = "only the deadline is taken from the clock"
)]
#[track_caller]
pub(crate) fn metric_becomes(gateway: &Gateway, name: &str, expected: impl Fn(u64) -> bool) -> u64 {
    let since = Instant::now();
    loop {
        let value = metric(gateway, name);
        match value.filter(|value| expected(*value)) {
            Some(value) => return value,
            None => assert!(since.elapsed() < DEADLINE, "{name} is {value:?}"),
        }
    }
}

#[track_caller]
pub(crate) fn reload(gateway: &Gateway, code: i32) -> Output {
    let output = run_cli(&["reload"], gateway.dir());
    assert_eq!(output.code, code, "{}{}", output.stdout, output.stderr);
    output
}

/// A gateway whose admin interface is at an address of its own; where that is.
fn with_address(text: &str, tokens: &str) -> (Gateway, SocketAddr) {
    let admin = format!("admin: {{ socket: admin.sock, address: \"127.0.0.2:0\"{tokens} }}");
    let config = answering(text, "").replace("admin: { socket: admin.sock }", &admin);
    let gateway = Gateway::spawn(&config);
    let addr = gateway.process().wait_line("\"admin on http\"", |line| {
        line.split_once("admin on http://")?.1.parse().ok()
    });
    (gateway, addr)
}

pub(crate) fn asked(
    addr: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Response {
    Client::connect(addr).request(method, path, headers, b"")
}

// Reloads

#[test]
fn reloads_lose_no_request_and_no_connection() {
    let origin = Origin::echo();
    let version = |x: &str| {
        before(
            &[&origin],
            &format!(", response: {{ headers: {{ set: {{ x-plan: {x} }} }} }}"),
        )
    };
    let (a, b) = (version("a"), version("b"));
    let gateway = Gateway::spawn(&a);
    let (over, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    let (a_seen, b_seen) = (AtomicU64::new(0), AtomicU64::new(0));
    let seen = |answer: Response| {
        assert_eq!(answer.status, 200, "{}", answer.text());
        match answer.header("x-plan") {
            Some("a") => a_seen.fetch_add(1, Ordering::Relaxed),
            Some("b") => b_seen.fetch_add(1, Ordering::Relaxed),
            other => panic!("no plan of ours: {other:?}"),
        };
        answered.fetch_add(1, Ordering::Relaxed);
    };
    let applied = thread::scope(|threads| {
        for kept in [true, true, true, false] {
            let (over, gateway, seen) = (&over, &gateway, &seen);
            threads.spawn(move || {
                let mut client = gateway.client();
                while !over.load(Ordering::Relaxed) {
                    if kept {
                        // The same connection for as many requests as one may have.
                        let answer = client.get("/x");
                        if answer.header("connection") == Some("close") {
                            client = gateway.client();
                        }
                        seen(answer);
                    } else {
                        seen(get(gateway.addr(), "/new", "a.test"));
                    }
                }
                // One that is idle meanwhile is closed in its time.
                if kept {
                    seen(client.get("/last"));
                }
            });
        }
        let mut applied = 0;
        for round in 0..scale(1_200) {
            let (config, code) = match round % 3 {
                0 => (&b, 0),
                1 => (&invalid(), 78),
                _ => (&a, 0),
            };
            gateway.write_config(config);
            reload(&gateway, code);
            applied += u64::from(code == 0);
        }
        while answered.load(Ordering::Relaxed) < scale(40_000) {
            thread::yield_now();
        }
        over.store(true, Ordering::Relaxed);
        applied
    });
    assert!(a_seen.load(Ordering::Relaxed) > 0 && b_seen.load(Ordering::Relaxed) > 0);
    let generation = metric(&gateway, "doorward_config_generation");
    assert_eq!(generation, Some(applied + 1));
}

#[test]
fn sighup_applies_the_changed_file() {
    let gateway = Gateway::spawn(&answering("one", ""));
    gateway.write_config(&answering("two", ""));
    gateway.process().signal("HUP");
    gateway.process().wait_log("config reloaded");
    assert_eq!(gateway.client().get("/").text(), "two");
}

#[test]
fn an_invalid_config_keeps_the_old_one() {
    let gateway = Gateway::spawn(&answering("one", ""));
    let mut client = gateway.client();
    let good = "doorward_config_last_reload_successful";
    assert_eq!(metric(&gateway, good), Some(1));
    gateway.write_config(&invalid());
    let output = reload(&gateway, 78);
    for text in [
        "unknown upstream `nowhere`",
        "doorward.yaml:4:",
        "the running config was kept",
    ] {
        assert!(output.stderr.contains(text), "{}", output.stderr);
    }
    assert_eq!(client.get("/").text(), "one");
    assert_eq!(metric(&gateway, good), Some(0));
    assert_eq!(metric(&gateway, "doorward_config_generation"), Some(1));
    // No file is no config, and never the defaults.
    fs::remove_file(gateway.dir().join("doorward.yaml")).unwrap();
    let gone = run_cli(&["reload", "--admin", "./admin.sock"], gateway.dir());
    assert_eq!(gone.code, 78, "{}", gone.stderr);
    assert_eq!(client.get("/").text(), "one");
    gateway.write_config(&answering("two", ""));
    reload(&gateway, 0);
    assert_eq!(client.get("/").text(), "two");
    assert_eq!(metric(&gateway, good), Some(1));
}

#[test]
fn a_config_that_is_too_broken_to_say_where_the_gateway_is_has_to_be_mended() {
    let gateway = Gateway::spawn(&answering("a", ""));
    for broken in ["", "version: 1\nlisteners: {", "admin: [x]\nversion: 1\n"] {
        gateway.write_config(broken);
        let output = reload(&gateway, 78);
        assert!(output.stderr.contains("error[E"), "{}", output.stderr);
        // Told where it is, it says so itself.
        let told = run_cli(&["reload", "--admin", "admin.sock"], gateway.dir());
        assert_eq!(told.code, 78, "{}", told.stderr);
        assert!(told.stderr.contains("was kept"), "{}", told.stderr);
    }
    assert_eq!(get(gateway.addr(), "/", "a.test").expect(200).text(), "a");
}

#[test]
fn what_only_a_restart_can_change_is_refused() {
    let gateway = Gateway::spawn(&answering("one", ""));
    let two = answering("two", "");
    let admin = two.replace("socket: admin.sock", "socket: other.sock");
    gateway.write_config(&admin);
    let output = run_cli(&["reload", "--admin", "./admin.sock"], gateway.dir());
    assert_eq!(output.code, 1, "{}", output.stderr);
    assert!(
        output.stderr.contains("needs a restart"),
        "{}",
        output.stderr
    );
    assert!(
        output.stderr.contains("`admin` is different"),
        "{}",
        output.stderr
    );
    assert_eq!(gateway.client().get("/").text(), "one");
    gateway.write_config(&two);
    reload(&gateway, 0);
    assert_eq!(gateway.client().get("/").text(), "two");
}

#[test]
fn what_takes_effect_after_a_restart_is_said_until_then() {
    let gateway = Gateway::spawn(&answering("one", "runtime: { threads: 1 }\n"));
    let rest = "runtime: { threads: 2 }\ntelemetry: { log: { level: debug } }\n";
    for text in ["two", "three"] {
        gateway.write_config(&answering(text, rest));
        let said = reload(&gateway, 0).stdout;
        assert!(
            said.contains("! runtime.threads takes effect after a restart\n"),
            "{said}"
        );
        assert!(
            said.contains("! telemetry.log.level takes effect after a restart\n"),
            "{said}"
        );
        assert_eq!(gateway.client().get("/").text(), text);
    }
    gateway.write_config(&answering("four", "runtime: { threads: 1 }\n"));
    let said = reload(&gateway, 0).stdout;
    assert!(!said.contains('!'), "{said}");
}

#[test]
fn a_reload_prints_the_difference() {
    let gateway = Gateway::spawn(&answering("one", ""));
    gateway.write_config(&answering("two", ""));
    assert_eq!(
        reload(&gateway, 0).stdout,
        "~ routes.a.respond.text: \"one\" -> \"two\"\ngeneration 2 is in force, 1 changed\n"
    );
    assert_eq!(
        reload(&gateway, 0).stdout,
        "generation 3 is in force, 0 changed\n"
    );
    let more = answering("two", "").replace(
        "text: two }",
        "text: two }, response: { headers: { set: { x-a: b } } }",
    );
    gateway.write_config(&more);
    let said = reload(&gateway, 0).stdout;
    assert!(
        said.contains("+ routes.a.response.headers.set.x-a: \"b\"\n"),
        "{said}"
    );
    gateway.write_config(&answering("three", ""));
    let output = run_cli(&["reload", "--wait", "--format", "json"], gateway.dir());
    let said: Json = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(said["result"], "applied");
    assert_eq!(said["generation"], 5);
    let changes = said["changes"].as_array().unwrap();
    let text = json!({ "key": "routes.a.respond.text", "old": "two", "new": "three" });
    assert!(changes.contains(&text), "{said:#}");
    let gone = |change: &Json| {
        change["key"] == "routes.a.response.headers.set.x-a" && change.get("new").is_none()
    };
    assert!(changes.iter().any(gone), "{said:#}");
}

#[test]
fn turns_go_on_after_a_reload() {
    let origins = [Origin::echo(), Origin::echo()];
    let config = before(&[&origins[0], &origins[1]], "");
    let gateway = Gateway::spawn(&config);
    let mut client = gateway.client();
    for _ in 0..6 {
        client.get("/").expect(200);
        reload(&gateway, 0);
    }
    assert_eq!(origins.each_ref().map(Origin::count), [3, 3]);
}

#[test]
fn connections_to_targets_outlive_a_reload() {
    let origin = Origin::echo();
    let gateway = Gateway::spawn(&before(&[&origin], ""));
    let mut client = gateway.client();
    client.get("/").expect(200);
    for _ in 0..3 {
        reload(&gateway, 0);
        client.get("/").expect(200);
    }
    assert_eq!(origin.connections().len(), 1);
}

#[test]
fn a_request_in_flight_ends_on_the_plan_it_began_with() {
    let gate = Gate::new();
    let origin = Origin::answer({
        let gate = gate.clone();
        move |_| Reply::ok("slow").after(&gate)
    });
    let old = before(
        &[&origin],
        ", response: { headers: { set: { x-plan: old } } }",
    );
    let gateway = Gateway::spawn(&old);
    let mut waiting = gateway.client();
    waiting.send_request("GET", "/slow", &[], b"");
    gate.wait_until_waiting(1);
    gateway.write_config(&answering("new", ""));
    reload(&gateway, 0);
    assert_eq!(gateway.client().get("/").text(), "new");
    gate.open();
    let answer = waiting.try_response("GET").unwrap().expect(200);
    assert_eq!(answer.header("x-plan"), Some("old"));
    assert_eq!(answer.text(), "slow");
    assert_eq!(waiting.get("/").text(), "new");
}

#[test]
fn a_reload_opens_the_log_file_again() {
    let config = answering("one", "telemetry: { access_log: { file: access.log } }\n");
    let gateway = Gateway::spawn(&config);
    let path = gateway.dir().join("access.log");
    gateway.client().get("/before").expect(200);
    fs::rename(&path, gateway.dir().join("access.log.1")).unwrap();
    reload(&gateway, 0);
    gateway.client().get("/after").expect(200);
    assert_eq!(gateway.process().stop().unwrap().code(), Some(0));
    let written = read(&path);
    assert!(
        written.contains("/after") && !written.contains("/before"),
        "{written}"
    );
    let before = read(gateway.dir().join("access.log.1"));
    assert!(
        before.contains("/before") && !before.contains("/after"),
        "{before}"
    );
}

// The admin interface

#[test]
fn the_socket_has_full_rights() {
    let tokens = format!(
        ", tokens: [{{ sha256: \"{}\", role: viewer }}]",
        "0".repeat(64)
    );
    let (gateway, _) = with_address("one", &tokens);
    for host in ["localhost", "evil.example"] {
        for request in ["GET /config", "GET /status", "POST /reload"] {
            let request = format!("{request} HTTP/1.1\r\nHost: {host}\r\n");
            let (status, _, body) = ask_socket(gateway.dir(), &request);
            assert_eq!(status, 200, "{request}: {body}");
        }
    }
    let mode = fs::metadata(gateway.dir().join("admin.sock"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o660);
}

#[test]
fn an_address_is_asked_by_itself_or_as_localhost() {
    let (gateway, addr) = with_address("one", "");
    let own = addr.to_string();
    let paths = [
        "/livez",
        "/healthz",
        "/readyz",
        "/metrics",
        "/config",
        "/upstreams",
        "/status",
        "/openapi.yaml",
    ];
    for path in paths {
        for host in ["localhost", "localhost:1", "127.0.0.1", "[::1]", &own] {
            asked(addr, "GET", path, &[("Host", host)]).expect(200);
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
        ] {
            asked(addr, "GET", path, &[("Host", host)]).expect(421);
        }
    }
    let meant = [("Host", "evil.example"), ("Doorward-Admin", "1")];
    asked(addr, "POST", "/reload", &meant).expect(421);
    assert_eq!(metric(&gateway, "doorward_config_generation"), Some(1));
}

#[test]
fn a_change_at_an_address_must_be_meant() {
    let (gateway, addr) = with_address("one", "");
    let form = ("Content-Type", "application/x-www-form-urlencoded");
    asked(addr, "POST", "/reload", &[form]).expect(403);
    assert_eq!(metric(&gateway, "doorward_config_generation"), Some(1));
    let answer = asked(addr, "POST", "/reload", &[("Doorward-Admin", "1")]).expect(200);
    assert_eq!(answer.json()["generation"], 2);
    assert_eq!(metric(&gateway, "doorward_config_generation"), Some(2));
}

#[test]
fn a_reload_over_http_says_how_it_went() {
    let (gateway, addr) = with_address("one", "");
    let config = read(gateway.dir().join("doorward.yaml"));
    let reload = || asked(addr, "POST", "/reload", &[("Doorward-Admin", "1")]);
    gateway.write_config(&config.replace("respond: { text: one }", "upstream: nowhere"));
    let answer = reload().expect(422).json();
    assert_eq!(answer["result"], "invalid");
    assert!(
        answer["report"].as_str().unwrap().contains("`nowhere`"),
        "{answer}"
    );
    gateway.write_config(&config.replace("socket: admin.sock", "socket: other.sock"));
    let answer = reload().expect(409).json();
    assert_eq!(answer["result"], "needs_restart");
    assert_eq!(answer["reasons"][0], "`admin` is different");
}

#[test]
fn who_begins_a_head_does_not_hold_the_door() {
    let (gateway, addr) = with_address("one", "");
    // More than a door serves at a time.
    let mut slow: Vec<Client> = (0..80).map(|_| Client::connect(addr)).collect();
    for client in &mut slow {
        client.send_raw(b"GET /livez HTTP/1.1\r\nHost: loc");
    }
    let mut unfinished = Client::connect(addr);
    unfinished.send_raw(b"POST /explain HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{");
    // The other door is not held, and this one not for long.
    assert_eq!(at_socket(&gateway, "/livez"), "ok\n");
    asked(addr, "GET", "/livez", &[("Host", "localhost")]).expect(200);
    unfinished.response("POST").expect(408);
}

#[test]
fn what_was_sent_to_the_admin_interface_is_not_logged() {
    let (gateway, addr) = with_address("one", "");
    let many: String = (0..300).map(|n| format!("x-{n}: 1\r\n")).collect();
    for rest in ["a b c: d\r\n", "x\r\n", &many] {
        let mut client = Client::connect(addr);
        let head = format!(
            "GET /livez HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer canary\r\n{rest}\r\n"
        );
        client.send_raw(head.as_bytes());
        client.response("GET").expect(400);
    }
    assert_eq!(at_socket(&gateway, "/livez"), "ok\n");
    assert!(!gateway.log().contains("canary"), "{}", gateway.log());
}

#[test]
fn a_method_that_is_not_taken_is_told_which_are() {
    let (_gateway, addr) = with_address("one", "");
    let local = [("Host", "localhost"), ("Doorward-Admin", "1")];
    for (method, path, allow) in [
        ("GET", "/reload", "POST"),
        ("PUT", "/metrics", "GET, HEAD"),
        ("DELETE", "/explain", "POST"),
    ] {
        let answer = asked(addr, method, path, &local).expect(405);
        assert_eq!(answer.header("allow"), Some(allow), "{method} {path}");
    }
}

#[test]
fn tokens_are_good_for_their_role() {
    let digest = |text: &str| {
        let output = Command::new("sh")
            .args(["-c", "printf %s \"$0\" | sha256sum", text])
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()[..64].to_owned()
    };
    let tokens = format!(
        ", tokens: [{{ sha256: \"{}\", role: viewer }}, {{ sha256: \"{}\", role: operator }}]",
        digest("look"),
        digest("change")
    );
    let (_gateway, addr) = with_address("one", &tokens);
    let status = |method: &str, path: &str, token: &str| {
        let value = format!("Bearer {token}");
        let headers = [("Authorization", value.as_str()), ("Doorward-Admin", "1")];
        asked(addr, method, path, &headers).status
    };
    let cases = [
        ("look", 200, 403),
        ("change", 200, 200),
        ("other", 401, 401),
    ];
    for (token, view, operate) in cases {
        assert_eq!(status("GET", "/config", token), view, "{token}");
        assert_eq!(status("POST", "/reload", token), operate, "{token}");
    }
    let answer = asked(addr, "GET", "/metrics", &[]).expect(401);
    assert!(
        answer
            .header("www-authenticate")
            .unwrap()
            .starts_with("Bearer ")
    );
    asked(addr, "GET", "/livez", &[]).expect(200);
    asked(addr, "GET", "/readyz", &[]).expect(200);
}

#[test]
fn an_admin_address_that_others_reach_needs_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let check = |admin: &str| {
        let config = answering("one", "").replace("socket: admin.sock", admin);
        fs::write(dir.path().join("doorward.yaml"), config).unwrap();
        run_cli(&["check"], dir.path())
    };
    let token = format!(
        "tokens: [{{ sha256: \"{}\", role: viewer }}]",
        "0".repeat(64)
    );
    for address in ["0.0.0.0:9901", "[::]:9901", "10.0.0.1:9901"] {
        let output = check(&format!("address: \"{address}\""));
        assert_eq!(output.code, 78, "{address}");
        assert!(output.stderr.contains("E040"), "{}", output.stderr);
        let output = check(&format!("address: \"{address}\", {token}"));
        assert_eq!(output.code, 0, "{}", output.stderr);
    }
    for address in ["127.0.0.1:9901", "[::1]:9901"] {
        let output = check(&format!("address: \"{address}\""));
        assert_eq!(output.code, 0, "{}", output.stderr);
    }
    let output = check("address: \"127.0.0.1:9901\", tokens: [{ sha256: abc, role: viewer }]");
    assert_eq!(output.code, 78);
    assert!(output.stderr.contains("E040"), "{}", output.stderr);
}

#[test]
fn every_address_of_the_admin_interface_answers() {
    let origin = Origin::echo();
    let gateway = Gateway::spawn(&before(&[&origin], ""));
    gateway.client().get("/").expect(200);
    for (path, kind) in [
        ("/livez", "text/plain; charset=utf-8"),
        ("/readyz", "text/plain; charset=utf-8"),
        ("/readyz?verbose", "application/json"),
        ("/metrics", "text/plain; version=0.0.4; charset=utf-8"),
        ("/config", "application/json"),
        ("/upstreams", "application/json"),
        ("/status", "application/json"),
        ("/openapi.yaml", "application/yaml"),
    ] {
        let request = |method: &str| format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
        let (status, head, body) = ask_socket(gateway.dir(), &request("GET"));
        assert_eq!(status, 200, "{path}");
        assert!(
            head.contains(&format!("content-type: {kind}\r\n")),
            "{path}: {head}"
        );
        assert!(head.contains("cache-control: no-store"), "{path}: {head}");
        assert!(!body.is_empty(), "{path}");
        let (status, _, body) = ask_socket(gateway.dir(), &request("HEAD"));
        assert_eq!((status, body.as_str()), (200, ""), "HEAD {path}");
        let (status, ..) = ask_socket(gateway.dir(), &request("DELETE"));
        assert_eq!(status, 405, "{path}");
    }
    let (status, ..) = ask_socket(gateway.dir(), "GET /reload HTTP/1.1\r\nHost: localhost\r\n");
    assert_eq!(status, 405);
    for path in ["/", "/config/", "/nothing"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n");
        let (status, head, _) = ask_socket(gateway.dir(), &request);
        assert_eq!(status, 404, "{path}");
        assert!(head.contains("application/problem+json"), "{head}");
    }
    let config: Json = serde_json::from_str(&at_socket(&gateway, "/config")).unwrap();
    assert_eq!(config["routes"][0]["upstream"], "o");
    let status: Json = serde_json::from_str(&at_socket(&gateway, "/status")).unwrap();
    assert_eq!(status["generation"], 1);
    assert_eq!(status["ready"], true);
    assert_eq!(status["listeners"][0]["address"], gateway.url_of("public"));
    let upstreams: Json = serde_json::from_str(&at_socket(&gateway, "/upstreams")).unwrap();
    let address = origin.addr().to_string();
    let target = json!({
        "target": address, "address": address, "weight": 1, "priority": 0,
        "health": null, "ejected_seconds": null, "drained": false, "in_flight": 0,
    });
    assert_eq!(upstreams, json!([{ "name": "o", "targets": [target] }]));
}

#[test]
fn the_description_names_what_is_served() {
    let gateway = Gateway::spawn(&answering("one", ""));
    let text = at_socket(&gateway, "/openapi.yaml");
    let described: Json = serde_yaml::from_str(&text).unwrap();
    let paths = described["paths"].as_object().unwrap();
    let known = [
        "/livez",
        "/healthz",
        "/readyz",
        "/metrics",
        "/config",
        "/upstreams",
        "/status",
        "/openapi.yaml",
        "/explain",
        "/upstreams/drain",
        "/upstreams/resume",
        "/breakers",
        "/breakers/set",
        "/reload",
        "/consumers",
        "/consumers/history",
        "/consumers/new",
        "/consumers/suspend",
        "/consumers/resume",
        "/consumers/revoke",
        "/keys",
        "/keys/new",
        "/keys/suspend",
        "/keys/resume",
        "/keys/revoke",
        "/tokens/revoked",
        "/tokens/revoke",
        "/tokens/restore",
    ];
    let names: BTreeSet<&str> = paths.keys().map(String::as_str).collect();
    assert_eq!(names, BTreeSet::from(known));
    for (path, methods) in paths {
        for method in methods.as_object().unwrap().keys() {
            let request = format!(
                "{} {path} HTTP/1.1\r\nHost: localhost\r\n",
                method.to_uppercase()
            );
            // Nothing is asked here; what is asked, `explain.rs`, `health.rs`, `breakers.rs`, `keys.rs` and `revoking.rs` try.
            let asks = [
                "/explain",
                "/upstreams/drain",
                "/upstreams/resume",
                "/breakers/set",
            ];
            let callers = ["/consumers/", "/keys/", "/tokens/"];
            let callers = callers.iter().any(|begin| path.starts_with(begin));
            let asks = asks.contains(&path.as_str()) || callers && method == "post";
            let status = if asks { 400 } else { 200 };
            assert_eq!(ask_socket(gateway.dir(), &request).0, status, "{request}");
        }
    }
}

#[test]
fn secrets_appear_nowhere() {
    let origin = Origin::answer(|_| Reply::ok("ok"));
    let secrets = ", request: { headers: { set: { x-env: { env: SECRET_ENV }, x-file: { file: secret.txt }, authorization: \"Bearer ${SECRET_MIXED}\" } } }";
    let config = before(&[&origin], secrets);
    let gateway = Setup::new(&config)
        .file("secret.txt", "canary-file\n")
        .env("SECRET_ENV", "canary-env")
        .env("SECRET_MIXED", "canary-mixed")
        .env("RUST_LOG", "trace")
        .spawn();
    let asked = "/a?token=canary-token&api_key=canary-key";
    let headers = [
        ("Authorization", "Bearer canary-bearer"),
        ("Cookie", "session=canary-cookie"),
        ("Referer", "https://a.test/?code=canary-code"),
        ("X-Api-Key", "canary-header"),
    ];
    let mut client = gateway.client();
    client.request("GET", asked, &headers, b"").expect(200);
    let seen = origin.last();
    assert_eq!(seen.header("x-env"), Some("canary-env"));
    assert_eq!(seen.header("x-file"), Some("canary-file"));
    assert_eq!(seen.header("authorization"), Some("Bearer canary-mixed"));
    gateway.process().wait_log("\"request_id\"");
    let post = |path: &str| {
        ask_socket(
            gateway.dir(),
            &format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n"),
        )
    };
    // A reload that fails on the very line of a secret.
    gateway.write_config(&config.replace("x-env:", "\"x env\":"));
    let (status, _, report) = post("/reload");
    assert_eq!(status, 422, "{report}");
    gateway.write_config(&config.replace("x-env:", "x-changed:"));
    fs::write(gateway.dir().join("secret.txt"), "canary-changed").unwrap();
    let (status, _, changes) = post("/reload");
    assert_eq!(status, 200, "{changes}");
    client.get("/b").expect(200);
    assert_eq!(origin.last().header("x-file"), Some("canary-changed"));
    let mut told = vec![report, changes];
    for path in [
        "/config",
        "/metrics",
        "/status",
        "/upstreams",
        "/readyz?verbose",
    ] {
        told.push(at_socket(&gateway, path));
    }
    assert_eq!(gateway.process().stop().unwrap().code(), Some(0));
    told.push(gateway.log());
    for text in told {
        assert!(!text.contains("canary-"), "{text}");
    }
}

// Records

/// A gateway whose log goes to `access.log`, with these settings.
pub(crate) fn logging(settings: &str) -> String {
    let log = format!("telemetry: {{ access_log: {{ file: access.log{settings} }} }}\n");
    answering("one", &log)
}

/// Stops the gateway, and reads what it wrote to its log.
#[track_caller]
pub(crate) fn written(gateway: &Gateway) -> String {
    assert_eq!(gateway.process().stop().unwrap().code(), Some(0));
    read(gateway.dir().join("access.log"))
}

pub(crate) fn records(text: &str) -> Vec<Json> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn every_request_has_one_record() {
    let origin = Origin::echo();
    let config = before(&[&origin], "").replace("path_prefix: /", "path_prefix: /app");
    let log = "telemetry: { access_log: { file: access.log } }\n";
    let gateway = Gateway::spawn(&(config + log));
    let mut client = gateway.client();
    let headers = [
        ("Host", "app.test"),
        ("User-Agent", "test/1"),
        ("Referer", "http://from.test/"),
    ];
    let first = client.request("POST", "/app/a%20b?q=1", &headers, b"hello");
    assert_eq!(first.status, 200);
    client.head("/app").expect(200);
    client.get("/none").expect(404);
    let records = records(&written(&gateway));
    assert_eq!(records.len(), 3, "{records:#?}");
    let [record, head, missed] = [&records[0], &records[1], &records[2]];
    for (key, value) in [
        ("request_id", json!(first.header("x-request-id").unwrap())),
        ("client.address", json!("127.0.0.1")),
        ("http.request.method", json!("POST")),
        ("server.address", json!("app.test")),
        ("url.path", json!("/app/a%20b")),
        ("url.query", json!("q=1")),
        ("http.route", json!("all")),
        ("http.response.status_code", json!(200)),
        ("http.request.body.size", json!(5)),
        ("http.response.body.size", json!(first.body.len())),
        ("upstream", json!("o")),
        ("target", json!(origin.addr().to_string())),
        ("attempts", json!(1)),
        ("user_agent.original", json!("test/1")),
        ("http.request.header.referer", json!("http://from.test/")),
        ("network.protocol.version", json!("1.1")),
    ] {
        assert_eq!(record[key], value, "{key}: {record:#}");
    }
    assert!(record["duration_us"].as_u64().unwrap() > 0, "{record}");
    assert!(
        record["timestamp"].as_str().unwrap().ends_with('Z'),
        "{record}"
    );
    assert_eq!(head["http.response.body.size"], 0, "{head}");
    assert_eq!(missed["http.response.status_code"], 404, "{missed}");
    assert!(
        missed.get("upstream").is_none() && missed.get("attempts").is_none(),
        "{missed}"
    );
}

#[test]
fn a_head_that_is_refused_has_a_record_too() {
    let gateway = Gateway::spawn(&logging(""));
    let refused = [
        "GET\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "\x16\x03\x01 \r\n\r\n",
    ];
    for head in refused {
        let mut client = gateway.client();
        assert!(client.send_raw(head.as_bytes()));
        let answer = client.try_response("GET").unwrap();
        assert_eq!(answer.status, 400, "{head:?}");
    }
    let records = records(&written(&gateway));
    assert_eq!(records.len(), refused.len(), "{records:#?}");
    let id = |record: &Json| record["request_id"].as_str().unwrap().to_owned();
    let ids: BTreeSet<String> = records.iter().map(id).collect();
    assert_eq!(ids.len(), refused.len());
    for record in records {
        assert_eq!(record["http.response.status_code"], 400, "{record}");
        assert_eq!(record["client.address"], "127.0.0.1", "{record}");
        assert!(record["error.type"].is_string(), "{record}");
    }
}

#[test]
fn records_are_on_standard_output_unless_it_is_said_otherwise() {
    let gateway = Gateway::spawn(&answering("one", ""));
    gateway.client().get("/seen").expect(200);
    let line = gateway.process().wait_log("\"request_id\"");
    assert_eq!(records(&line)[0]["url.path"], "/seen");
    let none = Gateway::spawn(&answering(
        "one",
        "telemetry: { access_log: { format: none } }\n",
    ));
    none.client().get("/seen").expect(200);
    assert_eq!(none.process().stop().unwrap().code(), Some(0));
    assert!(!none.log().contains("/seen"), "{}", none.log());
}

#[test]
fn the_combined_form_has_its_nine_fields() {
    let gateway = Gateway::spawn(&logging(", format: clf"));
    let headers = [("User-Agent", "a \"b\""), ("Referer", "http://from.test/")];
    let mut client = gateway.client();
    client
        .request("GET", "/x?q=1&token=secret", &headers, b"")
        .expect(200);
    client.get("/y").expect(200);
    let text = written(&gateway);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    let (start, rest) = lines[0].split_once('[').unwrap();
    let (date, end) = rest.split_once(']').unwrap();
    assert_eq!(start, "127.0.0.1 - - ");
    // 22/Nov/2026:04:34:44 +0000
    assert_eq!(
        (date.len(), &date[2..3], &date[20..]),
        (26, "/", " +0000"),
        "{date}"
    );
    assert_eq!(
        end,
        " \"GET /x?q=1&token=*** HTTP/1.1\" 200 3 \"http://from.test/\" \"a \\\"b\\\"\""
    );
    assert!(
        lines[1].ends_with(" \"GET /y HTTP/1.1\" 200 3 \"-\" \"-\""),
        "{text}"
    );
}

#[test]
fn what_is_to_be_redacted_is_hidden() {
    let asked = "/?page=7&other=8";
    let headers = [("User-Agent", "canary")];
    for (settings, query, agent) in [
        ("", "page=7&other=8", "canary"),
        (", redact: [User-Agent, PAGE]", "page=***&other=8", "***"),
    ] {
        let gateway = Gateway::spawn(&logging(settings));
        gateway
            .client()
            .request("GET", asked, &headers, b"")
            .expect(200);
        let records = records(&written(&gateway));
        assert_eq!(records[0]["url.query"], query);
        assert_eq!(records[0]["user_agent.original"], agent);
    }
}

#[test]
fn a_sample_has_its_exact_share_and_every_failure() {
    let config = logging(", sample: 10%").replace("path_prefix: /", "path: /good");
    let gateway = Gateway::spawn(&config);
    let mut client = gateway.client();
    for _ in 0..100 {
        client.get("/good").expect(200);
        client.get("/bad").expect(404);
    }
    let records = records(&written(&gateway));
    let count = |path: &str| records.iter().filter(|r| r["url.path"] == path).count();
    assert_eq!((count("/good"), count("/bad")), (10, 100));
}

#[test]
fn a_gateway_that_cannot_write_its_log_does_not_start() {
    let config = logging("").replace("file: access.log", "file: none/access.log");
    let output = Gateway::fails(&config);
    assert_eq!(output.code, 1, "{}", output.stderr);
    let said = "error: cannot write the access log to none/access.log";
    assert!(output.stderr.contains(said), "{}", output.stderr);
}

#[test]
fn a_reload_changes_the_access_log() {
    let gateway = Gateway::spawn(&logging(""));
    let mut client = gateway.client();
    client.get("/json").expect(200);
    gateway.write_config(&logging(", format: clf"));
    reload(&gateway, 0);
    client.get("/clf").expect(200);
    gateway.write_config(&logging(", format: none"));
    reload(&gateway, 0);
    client.get("/none").expect(200);
    // A file that cannot be had is an invalid config.
    gateway.write_config(&logging("").replace("file: access.log", "file: none/access.log"));
    let output = reload(&gateway, 78);
    assert!(
        output.stderr.contains("cannot write the access log"),
        "{}",
        output.stderr
    );
    let text = written(&gateway);
    let lines: BTreeSet<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with('{') && line.contains("\"/json\"")),
        "{text}"
    );
    assert!(
        lines
            .iter()
            .any(|line| line.contains("\"GET /clf HTTP/1.1\"")),
        "{text}"
    );
}

/// A gateway whose standard output nobody reads.
struct Unread {
    child: std::process::Child,
    addr: SocketAddr,
}

impl Unread {
    fn spawn(dir: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_doorward"))
            .arg("run")
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let addr = lines.find_map(|line| {
            let line = line.unwrap();
            line.split_once("listening on public http://")?
                .1
                .parse()
                .ok()
        });
        thread::spawn(move || lines.for_each(drop));
        let addr = addr.unwrap();
        Self { child, addr }
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Does it, and says that it took no longer.
#[expect(clippy::disallowed_methods, reason = "it is time that is measured")]
#[track_caller]
fn within(limit: Duration, work: impl FnOnce()) {
    let since = Instant::now();
    work();
    assert!(since.elapsed() < limit, "{:?}", since.elapsed());
}

#[test]
fn a_reader_that_stalls_delays_no_request_and_drops_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("doorward.yaml"), answering("one", "")).unwrap();
    let gateway = Unread::spawn(dir.path());
    // More than the pipe (64 KiB), a batch and the queue hold together.
    let (rounds, batch) = (120u64, 100u64);
    for _ in 0..rounds {
        let requests = "GET /a/path/that/is/seen HTTP/1.1\r\nHost: a.test\r\n\r\n".repeat(100);
        let mut client = Client::connect(gateway.addr);
        assert!(client.send_raw(requests.as_bytes()));
        for _ in 0..batch {
            client.try_response("GET").unwrap().expect(200);
        }
    }
    // While it stalls, a request takes what it always takes; one that waits would wait for ever.
    within(Duration::from_secs(5), || {
        Client::connect(gateway.addr)
            .get("/while/it/stalls")
            .expect(200);
    });
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n";
    let (_, _, metrics) = ask_socket(dir.path(), request);
    let name = "doorward_access_log_dropped_total ";
    let dropped = metrics.lines().find_map(|line| line.strip_prefix(name));
    let dropped: u64 = dropped.unwrap().parse().unwrap();
    let total = rounds * batch + 1;
    // The queue holds 8192; the writer has one batch in its hands at most.
    assert!(
        dropped > 0 && dropped < total - 8192,
        "{dropped} of {total}"
    );
}

#[test]
fn a_stalled_reader_does_not_hold_the_end() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("doorward.yaml"), answering("one", "")).unwrap();
    let mut gateway = Unread::spawn(dir.path());
    let mut client = Client::connect(gateway.addr);
    for _ in 0..400 {
        client.get("/a/path/that/is/seen").expect(200);
    }
    let term = Command::new("sh")
        .args(["-c", "kill -s TERM \"$0\"", &gateway.child.id().to_string()])
        .status();
    assert!(term.unwrap().success());
    assert_eq!(gateway.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_full_disk_costs_records_that_are_counted() {
    let config = logging("").replace("access.log", "/dev/full");
    let gateway = Gateway::spawn(&config);
    let mut client = gateway.client();
    for _ in 0..50 {
        within(Duration::from_secs(5), || drop(client.get("/").expect(200)));
    }
    let name = "doorward_access_log_dropped_total";
    assert_eq!(metric_becomes(&gateway, name, |lost| lost >= 50), 50);
}

// Counts and traces

#[test]
fn requests_are_counted_by_route_and_class() {
    let origin = Origin::answer(|request| {
        let status = request.path.trim_start_matches('/').parse().unwrap();
        // A 204 ends with its head: a body behind it would stand before the next answer.
        Reply::fixed(status, &[], if status == 204 { "" } else { "x" })
    });
    let gateway = Gateway::spawn(&before(&[&origin], ""));
    let mut client = gateway.client();
    for (status, times) in [(200, 3), (204, 1), (302, 2), (404, 4), (503, 5)] {
        for _ in 0..times {
            client.get(&format!("/{status}")).expect(status);
        }
    }
    let name = |class: &str| {
        format!(
            "http_server_request_duration_seconds_count{{http_route=\"all\",status_class=\"{class}\"}}"
        )
    };
    for (class, count) in [("2xx", 4), ("3xx", 2), ("4xx", 4), ("5xx", 5)] {
        assert_eq!(
            metric_becomes(&gateway, &name(class), |seen| seen >= count),
            count,
            "{class}"
        );
    }
    metric_becomes(&gateway, "http_server_active_requests", |active| {
        active == 0
    });
    // What a client sends makes no label.
    for path in ["/200?x=canary", "/200"] {
        client
            .request("GET", path, &[("Host", "canary.test")], b"")
            .expect(200);
    }
    metric_becomes(&gateway, &name("2xx"), |seen| seen == 6);
    assert!(!at_socket(&gateway, "/metrics").contains("canary"));
    // A head that is refused is a fault, counted by its code.
    let mut bad = gateway.client();
    assert!(bad.send_raw(b"GET\r\n\r\n"));
    assert_eq!(bad.try_response("GET").unwrap().status, 400);
    let faults = at_socket(&gateway, "/metrics");
    let line = faults
        .lines()
        .find(|line| line.starts_with("doorward_faults_total{"));
    assert!(line.unwrap().ends_with(" 1"), "{faults}");
}

#[test]
fn counts_go_on_after_a_reload() {
    let gateway = Gateway::spawn(&answering("one", ""));
    let name = "http_server_request_duration_seconds_count{http_route=\"a\",status_class=\"2xx\"}";
    let mut client = gateway.client();
    client.get("/").expect(200);
    gateway.write_config(&answering("two", ""));
    reload(&gateway, 0);
    client.get("/").expect(200);
    metric_becomes(&gateway, name, |count| count == 2);
}

#[test]
fn routes_that_are_gone_leave_no_counts() {
    let config = answering("one", "");
    let gateway = Gateway::spawn(&config);
    let mut client = gateway.client();
    for name in ["b", "c", "d"] {
        client.get("/").expect(200);
        gateway.write_config(&config.replace("name: a", &format!("name: {name}")));
        reload(&gateway, 0);
    }
    let metrics = at_socket(&gateway, "/metrics");
    let label = |line: &str| {
        Some(
            line.split_once("http_route=\"")?
                .1
                .split_once('"')?
                .0
                .to_owned(),
        )
    };
    let routes: BTreeSet<String> = metrics.lines().filter_map(label).collect();
    assert!(routes.contains("d"), "{routes:?}");
    for gone in ["a", "b", "c"] {
        assert!(!routes.contains(gone), "{routes:?}");
    }
}

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[test]
fn a_trace_is_continued_with_a_span_of_our_own() {
    let origin = Origin::echo();
    let gateway = Gateway::spawn(&before(&[&origin], ""));
    let headers = [("Traceparent", TRACE), ("Tracestate", "vendor=1")];
    gateway
        .client()
        .request("GET", "/", &headers, b"")
        .expect(200);
    let seen = origin.last();
    let lines = seen.headers_all("traceparent");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].starts_with(&TRACE[..36]) && lines[0].ends_with("-01"),
        "{lines:?}"
    );
    assert_ne!(lines[0], TRACE);
    assert_eq!(seen.header("tracestate"), Some("vendor=1"));
    let line = gateway.process().wait_log("\"request_id\"");
    assert_eq!(records(&line)[0]["trace_id"], TRACE[3..35]);
}

#[test]
fn a_trace_is_started_where_none_can_be_read() {
    let origin = Origin::echo();
    let gateway = Gateway::spawn(&before(&[&origin], ""));
    let broken = TRACE.replace("00-4bf", "ff-4bf");
    let mut traces = BTreeSet::new();
    for given in [None, Some("nonsense"), Some(broken.as_str())] {
        let state = [("Tracestate", "vendor=1")].into_iter();
        let headers: Vec<(&str, &str)> = state
            .chain(given.map(|line| ("Traceparent", line)))
            .collect();
        gateway
            .client()
            .request("GET", "/", &headers, b"")
            .expect(200);
        let seen = origin.last();
        let lines = seen.headers_all("traceparent");
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(
            lines[0].starts_with("00-") && lines[0].len() == 55,
            "{lines:?}"
        );
        assert_eq!(seen.header("tracestate"), None);
        traces.insert(lines[0][3..35].to_owned());
    }
    assert_eq!(traces.len(), 3);
    assert!(!traces.contains(&TRACE[3..35]));
}

// The command line, and systemd

#[test]
fn a_list_of_nothing_says_so() {
    let gateway = Gateway::spawn(&answering("one", ""));
    for (verb, nothing) in [
        ("upstreams", "no upstreams\n"),
        ("breakers", "no circuit breakers\n"),
    ] {
        let output = run_cli(&[verb, "list"], gateway.dir());
        assert_eq!((output.code, output.stdout.as_str()), (0, nothing));
        let output = run_cli(&[verb, "list", "--format", "json"], gateway.dir());
        assert_eq!((output.code, output.stdout.as_str()), (0, "[]\n"));
    }
}

#[test]
fn a_running_gateway_tells_its_status() {
    let origins = [Origin::echo(), Origin::echo()];
    let gateway = Gateway::spawn(&before(&[&origins[0], &origins[1]], ""));
    let targets: Vec<String> = origins
        .iter()
        .map(|o| format!("  upstream o  {0}  {0}  weight 1\n", o.addr()))
        .collect();
    let output = run_cli(&["upstreams", "list"], gateway.dir());
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert_eq!(output.stdout, targets.concat());
    let output = run_cli(&["status"], gateway.dir());
    assert_eq!(output.code, 0, "{}", output.stderr);
    let version = env!("CARGO_PKG_VERSION");
    let expected = format!(
        "doorward {version}, generation 1, 0 requests in flight\n  listener public  {}\n{}",
        gateway.url_of("public"),
        targets.concat()
    );
    assert_eq!(output.stdout, expected);
    let output = run_cli(&["status", "--format", "json"], gateway.dir());
    let status: Json = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(status["version"], version);
}

#[test]
fn a_difference_to_the_running_gateway_has_a_code_of_its_own() {
    let gateway = Gateway::spawn(&answering("one", ""));
    let diff = || run_cli(&["config", "diff"], gateway.dir());
    let same = diff();
    assert_eq!(
        (same.code, same.stdout.as_str()),
        (0, ""),
        "{}",
        same.stderr
    );
    gateway.write_config(&answering("two", ""));
    let other = diff();
    assert_eq!(other.code, 1, "{}", other.stderr);
    assert_eq!(
        other.stdout,
        "~ routes.a.respond.text: \"one\" -> \"two\"\n"
    );
    reload(&gateway, 0);
    assert_eq!(diff().code, 0);
}

#[test]
fn a_gateway_that_does_not_answer_is_unreachable() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("doorward.yaml");
    let verbs: [&[&str]; 4] = [
        &["reload"],
        &["status"],
        &["upstreams", "list"],
        &["config", "diff"],
    ];
    let socket = answering("one", "");
    let none = socket.replace("admin: { socket: admin.sock }\n", "");
    let address = socket.replace("socket: admin.sock", "address: \"127.0.0.1:1\"");
    for config in [&socket, &none, &address] {
        fs::write(&path, config).unwrap();
        for verb in verbs {
            let output = run_cli(verb, dir.path());
            assert_eq!(
                output.code, 69,
                "{verb:?}: {}{}",
                output.stdout, output.stderr
            );
            assert_eq!(output.stdout, "", "{verb:?}");
        }
    }
}

#[test]
fn a_gateway_that_refuses_is_no_answer() {
    let tokens = format!(
        ", tokens: [{{ sha256: \"{}\", role: viewer }}]",
        "0".repeat(64)
    );
    let (gateway, addr) = with_address("one", &tokens);
    let addr = addr.to_string();
    for verb in [
        &["reload"][..],
        &["status"],
        &["upstreams", "list"],
        &["config", "diff"],
    ] {
        let output = run_cli(&[verb, &["--admin", &addr]].concat(), gateway.dir());
        assert_eq!(output.code, 1, "{verb:?}: {}", output.stderr);
        assert!(output.stderr.contains("401"), "{verb:?}: {}", output.stderr);
        assert_eq!(output.stdout, "", "{verb:?}");
    }
}

#[test]
fn systemd_is_told_how_far_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    systemd.set_read_timeout(Some(DEADLINE)).unwrap();
    let heard = |last: &str| {
        let mut heard = String::new();
        while !heard.contains(last) {
            let mut buffer = [0; 4096];
            let length = systemd
                .recv(&mut buffer)
                .unwrap_or_else(|error| panic!("{error}: {heard}"));
            heard.push_str(std::str::from_utf8(&buffer[..length]).unwrap().trim_end());
            heard.push('\n');
        }
        heard
    };
    let gateway = Setup::new(&answering("one", ""))
        .env("NOTIFY_SOCKET", path.to_str().unwrap())
        .spawn();
    assert_eq!(
        heard("STATUS"),
        "READY=1\nSTATUS=generation 1 is in force\n"
    );
    gateway.write_config(&answering("two", ""));
    gateway.process().signal("HUP");
    let said = heard("STATUS");
    assert!(said.starts_with("RELOADING=1\n"), "{said}");
    assert!(
        said.ends_with("READY=1\nSTATUS=generation 2 is in force\n"),
        "{said}"
    );
    gateway.write_config(&invalid());
    gateway.process().signal("HUP");
    let said = heard("STATUS");
    assert!(
        said.starts_with("RELOADING=1\n") && said.contains("READY=1\n"),
        "{said}"
    );
    assert!(
        said.ends_with("STATUS=the new config is invalid, the old one was kept\n"),
        "{said}"
    );
    // A reload that is asked for at the socket is one too.
    gateway.write_config(&answering("three", ""));
    reload(&gateway, 0);
    let said = heard("STATUS");
    assert!(said.starts_with("RELOADING=1\n"), "{said}");
    assert!(
        said.ends_with("READY=1\nSTATUS=generation 3 is in force\n"),
        "{said}"
    );
    gateway.process().signal("TERM");
    let said = heard("STOPPING");
    assert!(said.starts_with("STOPPING=1\nSTATUS=stopping, "), "{said}");
    assert_eq!(gateway.process().wait_exit().code(), Some(0));
}

#[test]
fn runtime_threads_is_the_number_of_workers() {
    for count in [2, 5] {
        let config = format!(
            "version: 1\nruntime: {{ threads: {count} }}\n\
             listeners: {{ public: {{ address: \"127.0.0.1:0\" }} }}\n\
             routes: [{{ name: a, match: {{ path: / }}, respond: {{}} }}]\n"
        );
        let gateway = Gateway::spawn(&config);
        gateway.client().get("/").expect(200);
        let tasks = format!("/proc/{}/task", gateway.process().pid());
        let names = fs::read_dir(tasks).unwrap().map(|task| {
            let name = fs::read(task.unwrap().path().join("comm")).unwrap();
            String::from_utf8(name).unwrap()
        });
        assert_eq!(names.filter(|name| name.trim() == "worker").count(), count);
    }
}
