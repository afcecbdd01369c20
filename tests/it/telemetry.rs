//! What is written down and counted: the form of messages, buckets, upstreams, connections, the records of a route.
#![expect(
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not as expected"
)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

use serde_json::Value as Json;

use super::control::{
    answering, at_socket, before, invalid, logging, metric, metric_becomes, read, records, reload,
    written,
};
use super::support::{
    Client, DEADLINE, Gate, Gateway, Origin, Process, Reply, Setup, run, run_cli, scale,
};

// Messages

/// A gateway in a folder of its own whose messages have this form.
fn telling(format: &str) -> (tempfile::TempDir, Command) {
    let dir = tempfile::tempdir().unwrap();
    let config = answering("one", &format!("telemetry: {{ log: {{ {format} }} }}\n"));
    fs::write(dir.path().join("doorward.yaml"), config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_doorward"));
    command.arg("run").current_dir(dir.path());
    command.env_remove("RUST_LOG").env_remove("JOURNAL_STREAM");
    (dir, command)
}

#[test]
fn messages_for_programs_are_one_object_a_line() {
    let (dir, mut command) = telling("format: json, level: info");
    let gateway = Process::start(&mut command);
    let addr = gateway.wait_line("its address", |line| {
        let line: Json = serde_json::from_str(line).ok()?;
        let said = line["message"].as_str()?.to_owned();
        said.strip_prefix("listening on public http://")?
            .parse()
            .ok()
    });
    Client::connect(addr).get("/").expect(200);
    assert_eq!(run_cli(&["reload"], dir.path()).code, 0);
    gateway.wait_log("config reloaded");
    // What is wrong with a config has many lines, and is one message.
    fs::write(dir.path().join("doorward.yaml"), invalid()).unwrap();
    assert_eq!(run_cli(&["reload"], dir.path()).code, 78);
    gateway.wait_log("config not reloaded");
    assert_eq!(gateway.stop().unwrap().code(), Some(0));
    let log = gateway.log();
    let lines: Vec<Json> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic_with(line)))
        .collect();
    let messages = lines.iter().filter(|line| line.get("request_id").is_none());
    for line in messages.clone() {
        for name in ["timestamp", "level", "target", "message"] {
            assert!(line[name].is_string(), "{name}: {line}");
        }
    }
    let of = |start: &str| {
        let begins = |line: &&Json| line["message"].as_str().unwrap().starts_with(start);
        messages.clone().find(begins).unwrap().clone()
    };
    let reloaded = of("config reloaded");
    assert_eq!(reloaded["generation"], 2, "{reloaded}");
    assert_eq!(reloaded["level"], "info", "{reloaded}");
    assert_eq!(reloaded["target"], "doorward::server::reload", "{reloaded}");
    let refused = of("config not reloaded");
    assert_eq!(refused["level"], "error", "{refused}");
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .contains("unknown upstream `nowhere`")
    );
}

#[expect(
    clippy::panic,
    reason = "a test stops at the first thing that is not as expected"
)]
fn panic_with(line: &str) -> Json {
    panic!("not JSON: {line}")
}

/// Where standard error leads, as systemd would say.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Leads {
    ToJournal,
    Elsewhere,
}

/// What a gateway whose standard error leads to a file writes there until it ends.
fn to_file(format: &str, leads: Leads) -> String {
    let (dir, mut command) = telling(format);
    let path = dir.path().join("stderr");
    let file = fs::File::create(&path).unwrap();
    let known = file.metadata().unwrap();
    if leads == Leads::ToJournal {
        command.env("JOURNAL_STREAM", format!("{}:{}", known.dev(), known.ino()));
    }
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(file)
        .spawn()
        .unwrap();
    let said = wait_for(&path, "listening on");
    let term = format!("kill -s TERM {}", child.id());
    let killed = run(Command::new("sh").args(["-c", &term]), DEADLINE);
    assert_eq!(killed.code, 0, "{said}");
    child.wait().unwrap();
    read(&path)
}

#[expect(
    clippy::disallowed_methods,
    reason = "only the deadline is taken from the clock"
)]
fn wait_for(path: &std::path::Path, text: &str) -> String {
    let since = std::time::Instant::now();
    loop {
        let said = read(path);
        if said.contains(text) {
            return said;
        }
        assert!(since.elapsed() < DEADLINE, "no `{text}` in {said}");
    }
}

#[test]
fn the_journal_gets_the_priority_and_nobody_else_does() {
    let stopping = |said: &str| {
        let line = said.lines().find(|line| line.ends_with("stopping"));
        line.unwrap_or_default().to_owned()
    };
    for (format, leads, prioritised) in [
        ("format: auto", Leads::ToJournal, true),
        ("level: info", Leads::ToJournal, true),
        ("format: auto", Leads::Elsewhere, false),
        ("format: journald", Leads::Elsewhere, true),
        ("format: text", Leads::ToJournal, false),
    ] {
        let line = stopping(&to_file(format, leads));
        let expected = "<6>doorward::cli::run: stopping";
        assert_eq!(line == expected, prioritised, "{format} {leads:?}: {line}");
        assert!(prioritised || line.starts_with('['), "{format}: {line}");
    }
}

#[test]
fn only_a_restart_changes_format_and_buckets() {
    let gateway = Gateway::spawn(&answering("one", ""));
    let rest = "telemetry: { log: { format: journald }, metrics: { latency_buckets: [1s] } }\n";
    gateway.write_config(&answering("two", rest));
    let said = reload(&gateway, 0).stdout;
    for key in ["telemetry.log.format", "telemetry.metrics.latency_buckets"] {
        let line = format!("! {key} takes effect after a restart\n");
        assert!(said.contains(&line), "{said}");
    }
    assert!(!said.contains("! telemetry.log.level"), "{said}");
    assert_eq!(gateway.client().get("/").text(), "two");
    assert!(at_socket(&gateway, "/metrics").contains("le=\"0.005\""));
}

// Metrics

#[test]
fn buckets_are_those_of_the_config() {
    let bounds = |gateway: &Gateway| -> Vec<String> {
        gateway.client().get("/").expect(200);
        let name = "http_server_request_duration_seconds_bucket{http_route=\"a\",status_class=\"2xx\",le=\"";
        let text = at_socket(gateway, "/metrics");
        let le = |line: &str| Some(line.strip_prefix(name)?.split_once('"')?.0.to_owned());
        text.lines().filter_map(le).collect()
    };
    let own = "telemetry: { metrics: { latency_buckets: [1ms, 1.5s, 1m] } }\n";
    let gateway = Gateway::spawn(&answering("one", own));
    assert_eq!(bounds(&gateway), ["0.001", "1.5", "60", "+Inf"]);
    let usual = Gateway::spawn(&answering("one", ""));
    assert_eq!(bounds(&usual).len(), 15);
    let shown = run_cli(&["config", "show", "--format", "json"], usual.dir());
    let shown: Json = serde_json::from_str(&shown.stdout).unwrap();
    let buckets = &shown["telemetry"]["metrics"]["latency_buckets"];
    let expected = "5ms 10ms 25ms 50ms 75ms 100ms 250ms 500ms 750ms 1s 2500ms 5s 7500ms 10s";
    let expected: Vec<&str> = expected.split(' ').collect();
    assert_eq!(*buckets, serde_json::json!(expected));
}

/// The series of a metric and their values.
fn series(gateway: &Gateway, name: &str) -> BTreeMap<String, f64> {
    let text = at_socket(gateway, "/metrics");
    let one = |line: &str| {
        let (labels, value) = line.strip_prefix(name)?.rsplit_once(' ')?;
        Some((labels.to_owned(), value.parse().ok()?))
    };
    text.lines().filter_map(one).collect()
}

#[test]
fn attempts_are_counted_by_upstream_and_how_they_ended() {
    let origin = Origin::answer(|request| match request.path.as_str() {
        "/reset" => Reply::close(),
        "/garbage" => Reply::garbage(),
        "/none" => Reply::fixed(204, &[], ""),
        "/bad" => Reply::fixed(503, &[], "x"),
        _ => Reply::ok("x"),
    });
    let gateway = Gateway::spawn(&before(&[&origin], ""));
    let rounds = scale(300);
    for _ in 0..rounds {
        let mut client = gateway.client();
        client.get("/good").expect(200);
        client.get("/none").expect(204);
        client.head("/good").expect(200);
        client.get("/bad").expect(503);
    }
    gateway
        .client()
        .request("POST", "/reset", &[], b"")
        .expect(502);
    gateway
        .client()
        .request("POST", "/garbage", &[], b"")
        .expect(502);
    let name = |class: &str, error: &str| {
        format!(
            "http_client_request_duration_seconds_count{{error_type=\"{error}\",status_class=\"{class}\",upstream=\"o\"}}"
        )
    };
    for (class, error, count) in [
        ("2xx", "", 3 * rounds),
        ("5xx", "", rounds),
        ("", "reset", 1),
        ("", "protocol_error", 1),
    ] {
        let seen = metric_becomes(&gateway, &name(class, error), |seen| seen >= count);
        assert_eq!(seen, count, "{class} {error}");
    }
    // What never failed so is no series.
    assert_eq!(metric(&gateway, &name("", "timeout")), None);
    let made = metric(
        &gateway,
        "doorward_upstream_connections_total{upstream=\"o\"}",
    );
    let made = made.unwrap();
    assert!(
        (1..=4).contains(&made),
        "{made} connections for {rounds} rounds"
    );
    assert_eq!(
        metric(&gateway, "doorward_upstream_retries_total{upstream=\"o\"}"),
        Some(0)
    );
    let failed = series(&gateway, "doorward_faults_total");
    assert_eq!(
        failed.values().filter(|count| **count > 0.0).count(),
        2,
        "{failed:?}"
    );
}

#[test]
fn a_dead_target_is_counted_and_so_is_the_second_attempt() {
    // The first connection answers once and is dead afterwards.
    let origin = Origin::answer(|_| Reply::ok("x").then_close());
    let gateway = Gateway::spawn(&before(&[&origin], ""));
    let mut client = gateway.client();
    for _ in 0..5 {
        client.get("/").expect(200);
    }
    let answered = "http_client_request_duration_seconds_count{error_type=\"\",status_class=\"2xx\",upstream=\"o\"}";
    metric_becomes(&gateway, answered, |seen| seen == 5);
    let dead = "version: 1\nlisteners: { public: { address: \"127.0.0.1:0\" } }\nadmin: { socket: admin.sock }\n\
                upstreams: { o: { targets: [{ url: \"http://127.0.0.1:1\" }] } }\n\
                routes: [{ name: all, match: { path_prefix: / }, upstream: o }]\n";
    let gateway = Gateway::spawn(dead);
    gateway.client().get("/").expect(502);
    let failed = "http_client_request_duration_seconds_count{error_type=\"connect_failure\",status_class=\"\",upstream=\"o\"}";
    metric_becomes(&gateway, failed, |seen| seen == 1);
    assert_eq!(
        metric(
            &gateway,
            "doorward_upstream_connections_total{upstream=\"o\"}"
        ),
        Some(0)
    );
}

#[test]
fn upstreams_that_are_gone_leave_no_counts() {
    let origin = Origin::echo();
    let config = before(&[&origin], "");
    let gateway = Gateway::spawn(&config);
    for name in ["p", "q"] {
        gateway.client().get("/").expect(200);
        let renamed = config
            .replace("upstreams: { o:", &format!("upstreams: {{ {name}:"))
            .replace("upstream: o", &format!("upstream: {name}"));
        gateway.write_config(&renamed);
        reload(&gateway, 0);
    }
    gateway.client().get("/").expect(200);
    let metrics = at_socket(&gateway, "/metrics");
    assert!(metrics.contains("upstream=\"q\""), "{metrics}");
    for gone in ["o", "p"] {
        assert!(
            !metrics.contains(&format!("upstream=\"{gone}\"")),
            "{metrics}"
        );
    }
}

#[test]
fn connections_are_counted_by_listener() {
    let gateway = Gateway::spawn(&answering("one", ""));
    let count = scale(500);
    let mut open: Vec<Client> = Vec::new();
    for number in 0..count {
        // One address may have so many.
        let from = u8::try_from(number / 100).unwrap();
        let mut client = Client::from([127, 0, 2, from], gateway.addr());
        client.get("/").expect(200);
        client.get("/").expect(200);
        open.push(client);
    }
    let (total, active) = (
        "doorward_connections_total{listener=\"public\"}",
        "doorward_connections_active{listener=\"public\"}",
    );
    assert_eq!(metric(&gateway, total), Some(count));
    assert_eq!(metric(&gateway, active), Some(count));
    open.truncate(3);
    metric_becomes(&gateway, active, |seen| seen == 3);
    assert_eq!(metric(&gateway, total), Some(count));
}

#[test]
fn reloads_are_counted_by_what_became_of_them() {
    let config = answering("one", "");
    let gateway = Gateway::spawn(&config);
    let count = |result: &str| {
        let name = format!("doorward_config_reloads_total{{result=\"{result}\"}}");
        metric(&gateway, &name)
    };
    assert_eq!(count("applied"), Some(0), "a start is no reload");
    reload(&gateway, 0);
    reload(&gateway, 0);
    gateway.write_config(&invalid());
    reload(&gateway, 78);
    let other = config.replace("socket: admin.sock", "socket: other.sock");
    assert_ne!(other, config);
    gateway.write_config(&other);
    let refused = run_cli(&["reload", "--admin", "./admin.sock"], gateway.dir());
    assert_eq!(refused.code, 1);
    let counts = ["applied", "invalid", "needs_restart"].map(count);
    assert_eq!(counts, [Some(2), Some(1), Some(1)]);
}

#[test]
fn the_process_tells_what_it_is_and_uses() {
    let gateway = Gateway::spawn(&answering("one", ""));
    let build = format!(
        "doorward_build_info{{version=\"{}\"}}",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(metric(&gateway, &build), Some(1));
    let value = |name: &str| series(&gateway, name)[""];
    let rss = gateway.rss_kib() as f64 * 1024.0;
    let told = value("process_resident_memory_bytes");
    assert!(told > rss / 4.0 && told < rss * 4.0, "{told} {rss}");
    let open = value("process_open_fds");
    let seen = gateway.process().descriptors() as f64;
    assert!((open - seen).abs() < 8.0, "{open} {seen}");
    assert!(value("process_max_fds") >= open);
    let before = value("process_cpu_seconds_total");
    assert!(before >= 0.0);
    assert!(value("process_start_time_seconds") > 1.7e9);
    // It is read anew each time.
    let more: Vec<Client> = (0..50).map(|_| gateway.client()).collect();
    let active = "doorward_connections_active{listener=\"public\"}";
    metric_becomes(&gateway, active, |seen| seen == 50);
    let now = value("process_open_fds");
    assert!(now > open && now >= 50.0, "{now} {open}");
    drop(more);
}

// Records of a route

#[test]
fn the_sample_of_a_route_takes_the_place_of_the_usual_one() {
    let count = usize::try_from(scale(5000)).unwrap();
    let origin = Origin::answer(|request| match request.path.as_str() {
        path if path.starts_with("/bad") => Reply::fixed(503, &[], "x"),
        _ => Reply::ok("x"),
    });
    let route = |name: &str, rest: &str| {
        format!("  - {{ name: {name}, match: {{ path_prefix: /{name} }}, upstream: o{rest} }}\n")
    };
    let config = before(&[&origin], "");
    let (head, _) = config.split_once("routes:").unwrap();
    let config = format!(
        "{head}defaults: {{ routes: {{ log: {{ sample: 10% }} }} }}\n\
         telemetry: {{ access_log: {{ file: access.log, sample: 20% }} }}\nroutes:\n{}{}{}{}{}",
        route("inherits", ""),
        route("half", ", log: { sample: 50% }"),
        route("usual", ", log: {}"),
        route("never", ", log: none"),
        route("bad", ", log: { sample: 0% }"),
    );
    let gateway = Gateway::spawn(&config);
    for _ in 0..count {
        // One connection carries a thousand requests at most.
        let mut client = gateway.client();
        for (path, status) in [
            ("inherits", 200),
            ("half", 200),
            ("usual", 200),
            ("never", 200),
            ("bad", 503),
        ] {
            client.get(&format!("/{path}")).expect(status);
        }
    }
    let records = records(&written(&gateway));
    let of = |route: &str| records.iter().filter(|r| r["http.route"] == route).count();
    let counts = ["inherits", "half", "usual", "never", "bad"].map(of);
    assert_eq!(counts, [count / 10, count / 2, count / 5, 0, count]);
}

#[test]
fn fields_of_a_route_are_rendered_when_the_answer_is_known() {
    let fields = "telemetry: { access_log: { file: access.log } }\n";
    let long = "x".repeat(600);
    let config = answering("one", fields).replace(
        "path_prefix: / }",
        "path: \"/{what}\" }, log: { fields: { what: \"<{what}>\", tenant: \"{request.headers.x-tenant}\", \
         code: \"{response.status}\", kind: \"{response.headers.content-type}\", fixed: yes-it-is } }",
    );
    let gateway = Gateway::spawn(&config);
    let headers = [("X-Tenant", "a\"b\\c")];
    gateway
        .client()
        .request("GET", "/%22q", &headers, b"")
        .expect(200);
    gateway
        .client()
        .request("GET", "/two", &[("X-Tenant", &long)], b"")
        .expect(200);
    let records = records(&written(&gateway));
    let of = |path: &str| records.iter().find(|r| r["url.path"] == path).unwrap();
    let (one, two) = (of("/%22q"), of("/two"));
    for (name, value) in [
        ("what", "<\"q>"),
        ("tenant", "a\"b\\c"),
        ("code", "200"),
        ("fixed", "yes-it-is"),
    ] {
        assert_eq!(one[name], value, "{name}: {one}");
    }
    assert!(
        one["kind"].as_str().unwrap().starts_with("text/plain"),
        "{one}"
    );
    let cut = two["tenant"].as_str().unwrap();
    assert_eq!((cut.chars().count(), cut.ends_with('…')), (257, true));
}

// One record for every request

/// The records of what one client does: how many requests it began, and how each ended.
#[test]
fn however_a_request_ends_it_has_one_record() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::answer(move |request| match request.path.as_str() {
        "/endless" => Reply::endless(),
        "/never" => Reply::never(&held),
        "/truncated" => Reply::truncated(100, "x"),
        "/upgrade" => Reply::upgrade(&[]),
        _ => Reply::ok("x"),
    });
    let log = "telemetry: { access_log: { file: access.log } }\n";
    let gateway = Gateway::spawn(&(before(&[&origin], "") + log));
    // Gone while the answer comes.
    let mut client = gateway.client();
    client.send_request("GET", "/endless", &[], b"");
    client.response_head("GET");
    drop(client);
    // Gone while the target thinks.
    let mut client = gateway.client();
    client.send_request("GET", "/never", &[], b"");
    origin.wait_for_heads(2);
    drop(client);
    // Gone in the middle of its own body.
    let mut client = gateway.client();
    assert!(
        client.send_raw(b"POST /half HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\nabc")
    );
    origin.wait_for_heads(3);
    drop(client);
    // A body that is none.
    let mut client = gateway.client();
    assert!(client.send_raw(
        b"POST /chunks HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
    ));
    drop(client.try_response("POST"));
    // A target that breaks off.
    drop(gateway.client().try_request("GET", "/truncated", &[], b""));
    // HTTP/1.0, and a connection that leaves HTTP.
    let mut client = gateway.client();
    assert!(client.send_raw(b"GET /old HTTP/1.0\r\nHost: a.test\r\n\r\n"));
    client.try_response("GET").unwrap().expect(200);
    let mut client = gateway.client();
    assert!(client.send_raw(
        b"GET /upgrade HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ));
    assert_eq!(client.one_head().unwrap().status, 101);
    drop(client);
    // No request, so no record.
    drop(gateway.client());
    let mut client = gateway.client();
    assert!(client.send_raw(b"GET /unfinished HTTP/1.1\r\n"));
    drop(client);
    let active = "http_server_active_requests";
    gate.open();
    metric_becomes(&gateway, active, |active| active == 0);
    let written = written(&gateway);
    let records = records(&written);
    let mut paths: Vec<&str> = records
        .iter()
        .filter_map(|r| r["url.path"].as_str())
        .collect();
    paths.sort_unstable();
    let expected = [
        "/chunks",
        "/endless",
        "/half",
        "/never",
        "/old",
        "/truncated",
        "/upgrade",
    ];
    assert_eq!(paths, expected, "{written}");
    assert_eq!(records.len(), expected.len(), "{written}");
    let of = |path: &str| records.iter().find(|r| r["url.path"] == path).unwrap();
    assert_eq!(of("/old")["network.protocol.version"], "1.0");
    assert_eq!(of("/upgrade")["http.response.status_code"], 101);
    assert_eq!(of("/chunks")["error.type"], "client_error");
    assert!(of("/truncated")["error.type"].is_string(), "{written}");
}

#[test]
fn a_record_in_the_combined_form_has_no_fields_of_the_route() {
    let config = logging(", format: clf")
        .replace("respond:", "log: { fields: { tenant: canary } }, respond:");
    let gateway = Gateway::spawn(&config);
    gateway.client().get("/").expect(200);
    let text = written(&gateway);
    assert!(
        text.contains("\"GET / HTTP/1.1\"") && !text.contains("canary"),
        "{text}"
    );
    let config = Setup::new(&config.replace("clf", "json")).spawn();
    config.client().get("/").expect(200);
    assert!(written(&config).contains("\"tenant\":\"canary\""));
}
