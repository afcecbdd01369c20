//! Targets that fail: found out by asking and by their answers, left alone, and taken back.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first thing that is not as expected"
)]

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use serde_json::{Value as Json, json};

use super::balancing::{config, plain, target};
use super::control::{ask_socket, at_socket, metric, metric_becomes, reload};
use super::support::{
    Client, Gate, Gateway, Origin, Pki, Recorded, Reply, Script, Setup, TlsOrigin, free_port,
    run_cli,
};

const SERVING: &str = "doorward_upstream_targets{state=\"serving\",upstream=\"o\"}";
const FAST: &str = "interval: 20ms, unhealthy_threshold: 2, healthy_threshold: 2";

/// An origin that answers with its number, and 500 for everything asked while it is ill.
fn flagged(number: usize, ill: &Arc<AtomicBool>) -> Origin {
    let ill = Arc::clone(ill);
    let answer = move |_: &Recorded| {
        let status = if ill.load(Ordering::SeqCst) { 500 } else { 200 };
        Reply::fixed(status, &[], number.to_string())
    };
    Origin::start(Script::new(answer).probed_at("/healthz"))
}

/// So many origins, and what makes each of them ill.
fn several<const N: usize>() -> ([Origin; N], [Arc<AtomicBool>; N]) {
    let flags: [Arc<AtomicBool>; N] = std::array::from_fn(|_| Arc::default());
    let mut numbers = 0..;
    let origins = flags
        .each_ref()
        .map(|flag| flagged(numbers.next().unwrap(), flag));
    (origins, flags)
}

fn who(client: &mut Client) -> usize {
    client.get("/").expect(200).text().parse().unwrap()
}

fn seen(client: &mut Client, times: usize) -> BTreeSet<usize> {
    (0..times).map(|_| who(client)).collect()
}

fn serving(gateway: &Gateway, count: u64) {
    metric_becomes(gateway, SERVING, |now| now == count);
}

fn listed(gateway: &Gateway) -> Vec<Json> {
    let all: Json = serde_json::from_str(&at_socket(gateway, "/upstreams")).unwrap();
    all[0]["targets"].as_array().unwrap().clone()
}

#[test]
fn checks_take_a_target_out_and_bring_it_back() {
    let (origins, ill) = several::<2>();
    let keys = format!(
        "load_balancing: round_robin, health_check: {{ path: \"/healthz?deep=1\", {FAST} }}, "
    );
    let gateway = Gateway::spawn(&config(&keys, &plain(&origins)));
    let mut client = gateway.client();
    // Until something is known they serve.
    assert_eq!(seen(&mut client, 4), BTreeSet::from([0, 1]));
    ill[1].store(true, Ordering::SeqCst);
    serving(&gateway, 1);
    let line = gateway.process().wait_log("target is not well");
    assert!(
        line.contains("upstream=o") && line.contains("status 500"),
        "{line}"
    );
    assert_eq!(listed(&gateway)[1]["health"], "unhealthy");
    let list = run_cli(&["upstreams", "list"], gateway.dir()).stdout;
    assert!(list.contains("weight 1  unhealthy\n"), "{list}");
    assert_eq!(seen(&mut client, 10), BTreeSet::from([0]));
    ill[1].store(false, Ordering::SeqCst);
    serving(&gateway, 2);
    gateway.process().wait_log("target is well again");
    assert_eq!(seen(&mut client, 4), BTreeSet::from([0, 1]));
    let probe = origins[0].requests();
    let probe = probe
        .iter()
        .find(|request| request.path == "/healthz")
        .unwrap();
    assert_eq!(
        (probe.method.as_str(), probe.target.as_str()),
        ("GET", "/healthz?deep=1")
    );
    assert_eq!(
        probe.header("host"),
        Some(origins[0].addr().to_string().as_str())
    );
    assert!(probe.header("user-agent").unwrap().contains("health check"));
    for result in ["good", "bad"] {
        let name =
            format!("doorward_upstream_health_checks_total{{result=\"{result}\",upstream=\"o\"}}");
        assert!(metric(&gateway, &name).unwrap() > 1, "{result}");
    }
}

#[test]
fn an_answer_has_to_be_as_expected() {
    let cases = [
        ("good", "path: /healthz", 200, "anything"),
        ("created", "path: /healthz", 204, ""),
        ("moved", "path: /healthz", 302, ""),
        (
            "listed",
            "path: /healthz, expect: { status: [\"200\", \"300-399\"] }",
            302,
            "",
        ),
        (
            "unlisted",
            "path: /healthz, expect: { status: \"201-299\" }",
            200,
            "",
        ),
        (
            "text",
            "path: /healthz, expect: { body: \"all ok\" }",
            200,
            "{\"state\":\"all ok\"}",
        ),
        (
            "words",
            "path: /healthz, expect: { body: \"all ok\" }",
            200,
            "not all is ok",
        ),
    ];
    let mut origins = Vec::new();
    let upstreams = cases.map(|(name, check, status, body)| {
        let reply = Reply::fixed(status, &[], body);
        let origin = Origin::start(Script::new(move |_| reply.clone()).probed_at("/healthz"));
        let target = target(&origin, "");
        origins.push(origin);
        format!("{name}: {{ targets: [{target}], health_check: {{ {check}, {FAST} }} }}")
    });
    let routes = cases.map(|(name, ..)| {
        format!("{{ name: {name}, match: {{ path: /{name} }}, upstream: {name} }}")
    });
    let gateway = Gateway::spawn(&format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\" }} }}\nadmin: {{ socket: admin.sock }}\nupstreams: {{ {} }}\nroutes: [{}]\n",
        upstreams.join(", "),
        routes.join(", ")
    ));
    for (name, ..) in cases {
        let result = |result: &str| {
            format!(
                "doorward_upstream_health_checks_total{{result=\"{result}\",upstream=\"{name}\"}}"
            )
        };
        let well = ["good", "created", "listed", "text"].contains(&name);
        metric_becomes(
            &gateway,
            &result(if well { "good" } else { "bad" }),
            |now| now > 2,
        );
        assert_eq!(
            metric(&gateway, &result(if well { "bad" } else { "good" })),
            Some(0),
            "{name}"
        );
    }
}

#[test]
fn where_nobody_takes_connections_the_answer_is_there_at_once() {
    let origin = Origin::echo();
    let addr = origin.addr();
    let keys = format!("health_check: {{ tcp: true, {FAST} }}, ");
    let gateway = Gateway::spawn(&config(&keys, &[target(&origin, "")]));
    gateway.client().get("/").expect(200);
    drop(origin);
    serving(&gateway, 0);
    gateway.process().wait_log("no target is left");
    let answer = gateway.client().get("/").expect(503);
    assert!(
        answer.text().contains("urn:doorward:error:no_target"),
        "{}",
        answer.text()
    );
    assert!(answer.header("retry-after").is_some());
    assert_eq!(listed(&gateway)[0]["health"], "unreachable");
    let _again = Origin::start_at(addr, Script::echo());
    serving(&gateway, 1);
    gateway.process().wait_log("there is a target again");
    gateway.client().get("/").expect(200);
}

/// A server of gRPC that says how it is: the status of `grpc.health.v1`.
fn grpc_server(state: &Arc<AtomicU8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    let state = Arc::clone(state);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let head = request.headers();
                    let called = request.uri().path() == "/grpc.health.v1.Health/Check"
                        && request.method() == http::Method::POST
                        && head["content-type"] == "application/grpc"
                        && head["te"] == "trailers";
                    let state = if called {
                        state.load(Ordering::SeqCst)
                    } else {
                        9
                    };
                    let answer =
                        http::Response::builder().header("content-type", "application/grpc");
                    let mut body = respond
                        .send_response(answer.body(()).unwrap(), false)
                        .unwrap();
                    let message = vec![0, 0, 0, 0, 2, 8, state];
                    body.send_data(message.into(), false).unwrap();
                    let mut trailers = http::HeaderMap::new();
                    trailers.insert("grpc-status", "0".parse().unwrap());
                    body.send_trailers(trailers).unwrap();
                }
            }
        });
    });
    addr
}

#[test]
fn servers_of_grpc_say_how_they_are() {
    let state = Arc::new(AtomicU8::new(1));
    let addr = grpc_server(&state);
    let keys = format!("panic_threshold: 0%, health_check: {{ grpc: true, {FAST} }}, ");
    let gateway = Gateway::spawn(&config(&keys, &[format!("{{ url: \"h2c://{addr}\" }}")]));
    let good = "doorward_upstream_health_checks_total{result=\"good\",upstream=\"o\"}";
    metric_becomes(&gateway, good, |now| now > 2);
    assert_eq!(listed(&gateway)[0]["health"], "healthy");
    state.store(2, Ordering::SeqCst);
    serving(&gateway, 0);
    gateway.client().get("/").expect(503);
    state.store(1, Ordering::SeqCst);
    serving(&gateway, 1);
}

#[test]
fn who_cannot_prove_who_it_is_is_not_well() {
    let pki = Pki::new();
    let app = TlsOrigin::start(&pki.issue(&["127.0.0.1"]), |_| {});
    let url = format!("https://{}", app.addr());
    let upstream = |tls: &str| {
        format!("targets: [{{ url: \"{url}\" }}], health_check: {{ path: /healthz, {FAST} }}{tls}")
    };
    let text = format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\" }} }}\nadmin: {{ socket: admin.sock }}\nupstreams:\n  proven: {{ {} }}\n  unproven: {{ {} }}\n\
         routes:\n  - {{ name: a, match: {{ path: /a }}, upstream: proven }}\n  - {{ name: b, match: {{ path: /b }}, upstream: unproven }}\n",
        upstream(", tls: { ca_file: ca.pem }"),
        upstream("")
    );
    let gateway = Setup::new(&text).file("ca.pem", &pki.ca).spawn();
    for (name, state) in [("proven", "serving"), ("unproven", "unhealthy")] {
        let checks = if state == "serving" { "good" } else { "bad" };
        let checks = format!(
            "doorward_upstream_health_checks_total{{result=\"{checks}\",upstream=\"{name}\"}}"
        );
        metric_becomes(&gateway, &checks, |now| now > 2);
        let standing =
            format!("doorward_upstream_targets{{state=\"{state}\",upstream=\"{name}\"}}");
        metric_becomes(&gateway, &standing, |now| now == 1);
    }
}

#[test]
fn errors_in_a_row_eject_a_target_for_a_while() {
    let (origins, ill) = several::<2>();
    let keys = "load_balancing: round_robin, outlier_detection: { consecutive_errors: 3, base_ejection_time: 10m }, ";
    let gateway = Gateway::spawn(&config(keys, &plain(&origins)));
    let mut client = gateway.client();
    let statuses = |client: &mut Client, times: usize| {
        let each = (0..times).map(|_| client.get("/").status);
        each.filter(|status| *status == 500).count()
    };
    // Two errors, a good answer, two errors: never three in a row.
    for _ in 0..3 {
        ill[1].store(true, Ordering::SeqCst);
        assert_eq!(statuses(&mut client, 4), 2);
        ill[1].store(false, Ordering::SeqCst);
        assert_eq!(statuses(&mut client, 2), 0);
    }
    assert_eq!(metric(&gateway, SERVING), Some(2));
    ill[1].store(true, Ordering::SeqCst);
    assert_eq!(statuses(&mut client, 6), 3);
    // From the third on nobody meets it.
    assert_eq!(statuses(&mut client, 20), 0);
    gateway.process().wait_log("target ejected for its errors");
    assert_eq!(
        metric(
            &gateway,
            "doorward_upstream_ejections_total{upstream=\"o\"}"
        ),
        Some(1)
    );
    assert!(listed(&gateway)[1]["ejected_seconds"].as_f64().unwrap() > 0.0);
    let gateway = Gateway::spawn(&config(&keys.replace("10m", "300ms"), &plain(&origins)));
    let mut client = gateway.client();
    while metric(
        &gateway,
        "doorward_upstream_ejections_total{upstream=\"o\"}",
    ) == Some(0)
    {
        client.get("/");
    }
    ill[1].store(false, Ordering::SeqCst);
    gateway.process().wait_log("target is no more ejected");
    serving(&gateway, 2);
    assert_eq!(seen(&mut client, 4), BTreeSet::from([0, 1]));
}

#[test]
fn who_cannot_be_reached_is_ejected_but_never_the_last_one() {
    let origin = Origin::echo();
    let dead: Vec<String> = (0..3)
        .map(|_| format!("{{ url: \"http://127.0.0.1:{}\" }}", free_port()))
        .collect();
    let keys = "retries: none, load_balancing: round_robin, panic_threshold: 0%, outlier_detection: { consecutive_errors: 1, base_ejection_time: 10m, max_ejected: 100% }, ";
    let mut targets = dead.clone();
    targets.push(target(&origin, ""));
    let gateway = Gateway::spawn(&config(keys, &targets));
    let mut client = gateway.client();
    let bad = (0..20).filter(|_| client.get("/").status == 502).count();
    assert_eq!(bad, 3);
    // Where all are dead the last one is asked in vain: it might be back.
    let gateway = Gateway::spawn(&config(keys, &dead));
    let mut client = gateway.client();
    for _ in 0..10 {
        client.get("/").expect(502);
    }
    assert_eq!(
        metric(
            &gateway,
            "doorward_upstream_ejections_total{upstream=\"o\"}"
        ),
        Some(2)
    );
    // Half of them at most, where nothing else is said.
    let keys = "retries: none, load_balancing: round_robin, outlier_detection: { consecutive_errors: 1 }, panic_threshold: 0%, ";
    let gateway = Gateway::spawn(&config(keys, &targets));
    let mut client = gateway.client();
    for _ in 0..20 {
        client.get("/");
    }
    assert_eq!(
        metric(
            &gateway,
            "doorward_upstream_ejections_total{upstream=\"o\"}"
        ),
        Some(2)
    );
}

#[test]
fn where_few_are_left_everybody_who_answers_is_asked() {
    let (origins, ill) = several::<3>();
    for (threshold, expected) in [
        ("", BTreeSet::from([0, 1, 2])),
        ("panic_threshold: 0%, ", BTreeSet::from([0])),
    ] {
        let keys = format!(
            "load_balancing: round_robin, {threshold}health_check: {{ path: /healthz, {FAST} }}, "
        );
        for flag in &ill {
            flag.store(false, Ordering::SeqCst);
        }
        let gateway = Gateway::spawn(&config(&keys, &plain(&origins)));
        serving(&gateway, 3);
        for flag in &ill[1..] {
            flag.store(true, Ordering::SeqCst);
        }
        serving(&gateway, 1);
        let panics = u64::from(threshold.is_empty());
        metric_becomes(&gateway, "doorward_upstream_panic{upstream=\"o\"}", |now| {
            now == panics
        });
        let mut client = gateway.client();
        let asked: BTreeSet<usize> = (0..9)
            .map(|_| client.get("/").text().parse().unwrap())
            .collect();
        assert_eq!(asked, expected);
    }
}

#[test]
fn a_backup_stands_in_and_is_left_again() {
    let (origins, ill) = several::<3>();
    let keys = format!("health_check: {{ path: /healthz, {FAST} }}, ");
    let targets = [
        target(&origins[0], ""),
        target(&origins[1], ""),
        target(&origins[2], ", priority: 1"),
    ];
    let gateway = Gateway::spawn(&config(&keys, &targets));
    let mut client = gateway.client();
    assert_eq!(seen(&mut client, 40), BTreeSet::from([0, 1]));
    ill[0].store(true, Ordering::SeqCst);
    serving(&gateway, 2);
    assert_eq!(seen(&mut client, 10), BTreeSet::from([1]));
    ill[1].store(true, Ordering::SeqCst);
    serving(&gateway, 1);
    assert_eq!(seen(&mut client, 10), BTreeSet::from([2]));
    ill[0].store(false, Ordering::SeqCst);
    serving(&gateway, 2);
    assert_eq!(seen(&mut client, 10), BTreeSet::from([0]));
}

#[test]
fn who_comes_back_begins_slowly() {
    let (origins, ill) = several::<2>();
    let keys = format!(
        "load_balancing: round_robin, slow_start: 10h, health_check: {{ path: /healthz, {FAST} }}, "
    );
    let gateway = Gateway::spawn(&config(&keys, &plain(&origins)));
    ill[1].store(true, Ordering::SeqCst);
    serving(&gateway, 1);
    ill[1].store(false, Ordering::SeqCst);
    serving(&gateway, 2);
    let mut client = gateway.client();
    let slow = (0..22).filter(|_| who(&mut client) == 1).count();
    assert_eq!(slow, 2);
}

#[test]
fn checks_end_with_their_config_and_what_they_found_does_not() {
    let (origins, ill) = several::<2>();
    let keys = format!("panic_threshold: 0%, health_check: {{ path: /healthz, {FAST} }}, ");
    let gateway = Gateway::spawn(&config(&keys, &plain(&origins)));
    ill[1].store(true, Ordering::SeqCst);
    serving(&gateway, 1);
    // So rarely that no check comes before the end of the test.
    let rare = keys.replace("20ms", "10h");
    gateway.write_config(&config(&rare, &plain(&origins)));
    reload(&gateway, 0);
    assert_eq!(listed(&gateway)[1]["health"], "unhealthy");
    assert_eq!(seen(&mut gateway.client(), 10), BTreeSet::from([0]));
    let probes = || {
        origins[0]
            .requests()
            .iter()
            .filter(|request| request.path == "/healthz")
            .count()
    };
    let before = probes();
    // Without checks nobody knows anything of anybody.
    gateway.write_config(&config("", &plain(&origins)));
    reload(&gateway, 0);
    assert_eq!(listed(&gateway)[1]["health"], Json::Null);
    serving(&gateway, 2);
    assert_eq!(probes(), before);
}

#[test]
fn a_drained_target_ends_what_it_has_and_gets_no_more() {
    let gate = Gate::new();
    let held = gate.clone();
    let slow = Origin::answer(move |request| {
        let reply = Reply::ok("0");
        if request.path == "/held" {
            reply.after(&held)
        } else {
            reply
        }
    });
    let other = Origin::answer(|_| Reply::ok("1"));
    let origins = [slow, other];
    let text = config("load_balancing: round_robin, ", &plain(&origins));
    let gateway = Gateway::spawn(&text);
    let mut waiting = gateway.client();
    waiting.send_request("GET", "/held", &[], b"");
    gate.wait_until_waiting(1);
    let name = origins[0].addr().to_string();
    let duty = |verb: &str, upstream: &str, target: &str| {
        run_cli(&["upstreams", verb, upstream, target], gateway.dir())
    };
    let output = duty("drain", "o", &name);
    assert_eq!(
        (output.code, output.stdout),
        (0, format!("drained o {name}, 1 requests in flight\n")),
        "{}",
        output.stderr
    );
    let mut client = gateway.client();
    assert_eq!(seen(&mut client, 10), BTreeSet::from([1]));
    // A reload changes nothing about it.
    gateway.write_config(&text.replace("round_robin", "random"));
    reload(&gateway, 0);
    assert_eq!(seen(&mut client, 10), BTreeSet::from([1]));
    let list = run_cli(&["upstreams", "list"], gateway.dir()).stdout;
    assert!(list.contains("weight 1  drained  1 in flight\n"), "{list}");
    gate.open();
    assert_eq!(waiting.response("GET").expect(200).text(), "0");
    // When the last one is drained too, nobody is left.
    assert_eq!(duty("drain", "o", &origins[1].addr().to_string()).code, 0);
    let answer = client.get("/").expect(503);
    assert!(answer.text().contains("no_target"), "{}", answer.text());
    let output = run_cli(
        &["upstreams", "resume", "o", &name, "--format", "json"],
        gateway.dir(),
    );
    let told: Json = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(
        told,
        json!({ "upstream": "o", "target": name, "drained": false, "in_flight": 0 })
    );
    assert_eq!(seen(&mut client, 10), BTreeSet::from([0]));
}

#[test]
fn only_what_is_there_can_be_drained() {
    let origin = Origin::echo();
    let gateway = Gateway::spawn(&config("", &[target(&origin, "")]));
    let name = origin.addr().to_string();
    let duty = |upstream: &str, target: &str| {
        run_cli(&["upstreams", "drain", upstream, target], gateway.dir())
    };
    for (upstream, target, why) in [
        ("p", name.as_str(), "unknown upstream `p`"),
        ("o", "nobody:1", "`o` has no target `nobody:1`"),
    ] {
        let output = duty(upstream, target);
        assert_eq!(output.code, 1);
        assert!(output.stderr.contains(why), "{}", output.stderr);
    }
    let post = |path: &str| {
        ask_socket(
            gateway.dir(),
            &format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n"),
        )
        .0
    };
    assert_eq!(post("/upstreams/drain?upstream=o"), 400);
    assert_eq!(
        post(&format!(
            "/upstreams/drain?upstream=o&target={}",
            name.replace(':', "%3A")
        )),
        200
    );
}

#[test]
fn clients_stay_with_their_target_by_a_cookie_that_says_nothing() {
    let (origins, ill) = several::<3>();
    let keys = format!(
        "load_balancing: round_robin, sticky: {{ cookie: route, ttl: 1h }}, health_check: {{ path: /healthz, {FAST} }}, "
    );
    let gateway = Gateway::spawn(&config(&keys, &plain(&origins)));
    let ask = |cookie: Option<&str>| {
        let headers: Vec<(&str, &str)> = cookie
            .map(|cookie| ("Cookie", cookie))
            .into_iter()
            .collect();
        let answer = gateway
            .client()
            .request("GET", "/", &headers, b"")
            .expect(200);
        let set = answer.header("set-cookie").map(str::to_owned);
        (answer.text().parse::<usize>().unwrap(), set)
    };
    let (first, set) = ask(None);
    let set = set.unwrap();
    let (cookie, attributes) = set.split_once("; ").unwrap();
    assert_eq!(attributes, "Max-Age=3600; Path=/; HttpOnly; SameSite=Lax");
    let value = cookie.strip_prefix("route=").unwrap();
    assert!(
        value.len() == 64 && value.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{value}"
    );
    for _ in 0..6 {
        assert_eq!(ask(Some(cookie)), (first, None));
        assert_eq!(ask(Some(&format!("a=b; {cookie}; c=d"))), (first, None));
    }
    // What somebody made up is as good as none.
    let forged = format!("route={}", "0".repeat(64));
    let met: BTreeSet<usize> = (0..6).map(|_| ask(Some(&forged)).0).collect();
    assert_eq!(met.len(), 3);
    // When the target is gone, the client goes elsewhere and stays there.
    ill[first].store(true, Ordering::SeqCst);
    serving(&gateway, 2);
    let (second, set) = ask(Some(cookie));
    assert_ne!(first, second);
    let set = set.unwrap();
    let (cookie, _) = set.split_once("; ").unwrap();
    ill[first].store(false, Ordering::SeqCst);
    serving(&gateway, 3);
    for _ in 0..6 {
        assert_eq!(ask(Some(cookie)), (second, None));
    }
    // A reload changes nothing about it.
    gateway.write_config(&config(
        &keys.replace("round_robin", "random"),
        &plain(&origins),
    ));
    reload(&gateway, 0);
    assert_eq!(ask(Some(cookie)), (second, None));
}
