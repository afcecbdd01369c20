//! Authenticators that ask somebody: the issuer of a token, a service by HTTP, a service by gRPC as Envoy asks it; and what
//! becomes of requests while these are slow, down, or lie.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test stops at the first thing that is not as expected"
)]

mod obeyed;
mod shown;

use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value as Json, json};

use crate::oidc::Provider;
use crate::support::{
    Client, DEADLINE, Gate, Gateway, Origin, Process, Reply, Response, Script, Setup, python,
    run_cli, scale,
};

const SECRET: &str = "s3cr{e}t & more";

fn config(authenticator: &str, auth: &str, upstreams: &str, origin: &Origin) -> String {
    let more = if upstreams.is_empty() { "" } else { ", " };
    format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\", limits: {{ connections_per_ip: 5000 }} }} }}\n\
         admin: {{ socket: admin.sock }}\n\
         authenticators: {{ partner: {{ api_key: {{}} }}, asked: {{ {authenticator} }} }}\n\
         consumers: {{ acme: {{ api_keys: [{{ sha256: {} }}], identify: {{ claim: client_id, equals: web }} }}, \
           gone: {{ suspended: true, identify: {{ claim: sub, equals: gone }} }} }}\n\
         upstreams: {{ o: {{ targets: [{{ url: \"{}\" }}] }}{more}{upstreams} }}\n\
         routes: [{{ name: all, match: {{ path_prefix: / }}, auth: {auth}, \
           request: {{ headers: {{ set: {{ x-sub: \"{{auth.sub}}\", x-method: \"{{auth.method}}\", x-by: \"{{consumer.name}}\" }} }} }}, upstream: o }}, \
           {{ name: keyed, match: {{ path: /keyed }}, auth: [partner], respond: {{}} }}]\n",
        super::auth::sha256("key-of-acme"),
        origin.url(),
    )
}

fn ask(gateway: &Gateway, target: &str, headers: &[(&str, &str)]) -> Response {
    gateway.client().request("GET", target, headers, b"")
}

#[track_caller]
fn unavailable(answer: &Response) {
    assert_eq!(answer.status, 503, "{}", answer.text());
    let kind = answer.json()["type"].clone();
    assert_eq!(kind, "urn:doorward:error:auth_unavailable");
    assert_eq!(answer.header("www-authenticate"), None);
}

fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap()
}

// ---- tokens that their issuer is asked about

fn issuer(answer: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Origin {
    let script = Script::new(move |request| {
        let text = request.text();
        let token = text.split('&').find_map(|pair| pair.strip_prefix("token="));
        answer(token.unwrap_or_default())
    });
    Origin::start(script)
}

fn introspection(issuer: &str, more: &str) -> String {
    format!(
        "introspection: {{ endpoint: \"{issuer}/introspect\", client_id: \"gw:1\", client_secret: {{ file: secret.txt }}{more} }}"
    )
}

fn by_issuer(issuer: &Origin, origin: &Origin, more: &str) -> Gateway {
    let text = config(&introspection(&issuer.url(), more), "[asked]", "", origin);
    Setup::new(&text).file("secret.txt", SECRET).spawn()
}

fn show(gateway: &Gateway, token: &str) -> Response {
    ask(
        gateway,
        "/",
        &[("Authorization", &format!("Bearer {token}"))],
    )
}

#[test]
fn an_issuer_says_who_shows_a_token() {
    let issuer = issuer(|token| match token {
        "good" => Reply::json(
            200,
            &json!({ "active": true, "sub": "user-7", "client_id": "web" }),
        ),
        "gone" => Reply::json(200, &json!({ "active": true, "sub": "gone" })),
        _ => Reply::json(200, &json!({ "active": false })),
    });
    let origin = Origin::echo();
    let gateway = by_issuer(&issuer, &origin, "");
    for _ in 0..3 {
        show(&gateway, "good").expect(200);
        let seen = origin.last();
        assert_eq!(seen.header("x-sub"), Some("user-7"));
        assert_eq!(seen.header("x-by"), Some("acme"));
        assert_eq!(seen.header("authorization"), None);
    }
    let asked = issuer.last();
    assert_eq!(
        (asked.method.as_str(), asked.path.as_str()),
        ("POST", "/introspect")
    );
    assert_eq!(asked.text(), "token=good&token_type_hint=access_token");
    // RFC 6749 section 2.3.1: `gw%3A1` and `s3cr%7Be%7Dt%20%26%20more`.
    let proof = "Basic Z3clM0ExOnMzY3IlN0JlJTdEdCUyMCUyNiUyMG1vcmU=";
    assert_eq!(asked.header("authorization"), Some(proof));
    for _ in 0..2 {
        let answer = show(&gateway, "bad").expect(401);
        let challenge = answer.header("www-authenticate");
        assert_eq!(
            challenge,
            Some("Bearer realm=\"api\", error=\"invalid_token\"")
        );
    }
    show(&gateway, "gone").expect(403);
    // What cannot be a token is nobody's business.
    for wrong in ["a b", "a,b", "\"", &"x".repeat(5000)] {
        show(&gateway, wrong).expect(401);
    }
    assert_eq!(
        gateway
            .client()
            .get("/")
            .expect(401)
            .header("www-authenticate"),
        Some("Bearer realm=\"api\"")
    );
    assert_eq!(issuer.count(), 3);
    let shown = run_cli(&["config", "show"], gateway.dir());
    for text in [gateway.log(), shown.stdout, shown.stderr] {
        assert!(
            !text.contains("s3cr") && !text.contains("Bearer good"),
            "{text}"
        );
    }
}

#[test]
fn a_secret_goes_with_the_question_where_the_issuer_wants_that() {
    let issuer = issuer(|_| Reply::json(200, &json!({ "active": true, "aud": ["api"] })));
    let origin = Origin::echo();
    let gateway = by_issuer(
        &issuer,
        &origin,
        ", client_auth: post, audiences: [api], from: [\"cookie:t\"]",
    );
    ask(&gateway, "/", &[("Cookie", "a=1; t=good")]).expect(200);
    assert_eq!(origin.last().header("cookie"), Some("a=1"));
    let asked = issuer.last();
    assert_eq!(
        asked.text(),
        "token=good&token_type_hint=access_token&client_id=gw%3A1&client_secret=s3cr%7Be%7Dt%20%26%20more"
    );
    assert_eq!(asked.header("authorization"), None);
    let text = config(
        &introspection(&issuer.url(), ", audiences: [other]"),
        "[asked]",
        "",
        &origin,
    );
    let gateway = Setup::new(&text).file("secret.txt", SECRET).spawn();
    show(&gateway, "good").expect(401);
}

#[test]
fn an_issuer_is_asked_once_by_all_who_show_the_same_token() {
    for size in [4, 4 * scale(250)] {
        let gate = Gate::new();
        let held = gate.clone();
        let issuer = issuer(move |_| Reply::json(200, &json!({ "active": true })).after(&held));
        let origin = Origin::echo();
        let gateway = by_issuer(&issuer, &origin, "");
        let mut clients: Vec<Client> = (0..size).map(|_| gateway.client()).collect();
        for client in &mut clients {
            client.send_request("GET", "/", &[("Authorization", "Bearer one")], b"");
        }
        gate.wait_until_waiting(1);
        // Who asked goes away: somebody else asks.
        let mut stay = clients.split_off(1);
        drop(clients);
        gate.open();
        for client in &mut stay {
            client.response("GET").expect(200);
        }
        show(&gateway, "one").expect(200);
        assert!(issuer.count() <= 2, "{}", issuer.count());
    }
}

#[test]
fn a_kept_connection_to_an_issuer_may_die_at_its_next_question() {
    let seen = std::sync::Mutex::new(std::collections::BTreeSet::new());
    // Each connection takes two questions, and answers the first.
    let issuer = Origin::answer(move |request| {
        if seen.lock().unwrap().insert(request.connection) {
            Reply::json(200, &json!({ "active": true, "sub": "user-7" }))
        } else {
            Reply::close()
        }
    });
    let origin = Origin::echo();
    let gateway = by_issuer(&issuer, &origin, "");
    for number in 0..6 {
        show(&gateway, &format!("good-{number}")).expect(200);
    }
    // What is asked once more goes over a connection of its own, which is not kept. One that Pingora is asked for in the very
    // moment in which it puts it away is lost, too.
    let asked = issuer.count();
    assert!(
        (7..=9).contains(&asked),
        "six answers, up to three in vain: {asked}"
    );
}

#[test]
fn what_an_issuer_said_holds_no_longer_than_the_token() {
    let ends = now() + 3;
    let issuer = issuer(move |_| Reply::json(200, &json!({ "active": true, "exp": ends })));
    let origin = Origin::echo();
    let gateway = by_issuer(&issuer, &origin, "");
    let since = Instant::now();
    while show(&gateway, "good").status == 200 {
        assert!(since.elapsed() < DEADLINE, "it is believed after its end");
        std::thread::park_timeout(Duration::from_millis(20));
    }
    assert!(now() >= ends);
    // Whoever still calls it active is not believed.
    show(&gateway, "good").expect(401);
    assert_eq!(issuer.count(), 2);
}

#[test]
fn an_issuer_that_is_gone_is_believed_for_a_while_and_then_nobody_comes_in() {
    let issuer = issuer(|_| Reply::json(200, &json!({ "active": true })).then_close());
    let origin = Origin::echo();
    let gateway = by_issuer(&issuer, &origin, ", cache_ttl: 6s");
    show(&gateway, "good").expect(200);
    drop(issuer);
    show(&gateway, "good").expect(200);
    let since = Instant::now();
    let last = loop {
        let answer = show(&gateway, "good");
        if answer.status != 200 {
            break answer;
        }
        assert!(since.elapsed() < DEADLINE, "it is believed for ever");
        std::thread::park_timeout(Duration::from_millis(20));
    };
    unavailable(&last);
    unavailable(&show(&gateway, "other"));
}

#[test]
fn an_issuer_without_a_clear_answer_lets_nobody_in() {
    let gate = Gate::new();
    let held = gate.clone();
    let issuer = issuer(move |token| match token {
        "slow" => Reply::never(&held),
        "down" => Reply::close(),
        "reset" => Reply::reset(),
        "garbage" => Reply::garbage(),
        "500" => Reply::fixed(500, &[], "{\"active\":true}"),
        "401" => Reply::fixed(401, &[], "{\"active\":true}"),
        "elsewhere" => Reply::fixed(302, &[("Location", "http://169.254.169.254/")], ""),
        "text" => Reply::json(200, &json!({ "active": "true" })),
        "number" => Reply::json(200, &json!({ "active": 1 })),
        "nothing" => Reply::json(200, &json!({})),
        "list" => Reply::json(200, &json!([{ "active": true }])),
        "twice" => Reply::fixed(200, &[], "{\"active\":false,\"active\":true}"),
        "exp" => Reply::json(200, &json!({ "active": true, "exp": "never" })),
        "large" => Reply::fixed(
            200,
            &[],
            format!("{{\"active\":true,\"a\":\"{}\"}}", "x".repeat(1 << 20)),
        ),
        _ => Reply::truncated(100, "{\"active\":true}"),
    });
    let origin = Origin::echo();
    let gateway = by_issuer(&issuer, &origin, "");
    for token in [
        "down",
        "reset",
        "garbage",
        "500",
        "401",
        "elsewhere",
        "text",
        "number",
        "nothing",
        "list",
        "twice",
        "exp",
        "large",
        "cut",
        "slow",
    ] {
        unavailable(&show(&gateway, token));
    }
    assert_eq!(origin.count(), 0);
    // Nobody who can be known without asking has to suffer for it.
    ask(&gateway, "/keyed", &[("X-Api-Key", "key-of-acme")]).expect(200);
    gate.open();
}

#[test]
fn a_real_provider_is_asked_and_may_take_a_token_back() {
    let (provider, origin) = (Provider::start(), Origin::echo());
    let text = config(
        &format!(
            "introspection: {{ endpoint: \"{}/token/introspection\", client_id: gateway, client_secret: {{ file: secret.txt }}, cache_ttl: 1s, negative_ttl: 1s }}",
            provider.url()
        ),
        "[asked]",
        "",
        &origin,
    );
    let gateway = Setup::new(&text)
        .file("secret.txt", "secret-of-gateway")
        .spawn();
    let token = provider.token("opaque");
    show(&gateway, &token).expect(200);
    assert_eq!(origin.last().header("x-by"), Some("acme"));
    show(&gateway, "of-nobody").expect(401);
    let form = format!("token={token}&client_id=web&client_secret=secret-of-web");
    provider.post("/token/revocation", &form).expect(200);
    let since = Instant::now();
    while show(&gateway, &token).status == 200 {
        assert!(since.elapsed() < DEADLINE, "it was taken back");
        std::thread::park_timeout(Duration::from_millis(20));
    }
    show(&gateway, &token).expect(401);
}

// ---- a service that decides, by HTTP

fn by_service(service: &Origin, origin: &Origin, forward: &str, auth: &str) -> Gateway {
    let upstream = format!(
        "auth: {{ targets: [{{ url: \"{}\" }}], timeouts: {{ first_byte: 4s }} }}",
        service.url()
    );
    let more = if forward.is_empty() { "" } else { ", " };
    let forward = format!("forward: {{ upstream: auth, path: /verify{more}{forward} }}");
    Gateway::spawn(&config(&forward, auth, &upstream, origin))
}

#[test]
fn a_service_lets_in_and_says_what_the_upstream_hears() {
    let service = Origin::answer(|request| match request.header("cookie") {
        Some("session=7") => Reply::fixed(
            204,
            &[("X-Who", "user-7"), ("X-Team", "a"), ("X-Team", "b")],
            "",
        ),
        Some("session=gone") => Reply::fixed(200, &[("X-Who", "x"), ("sub", "gone")], ""),
        _ => Reply::fixed(200, &[], ""),
    });
    let origin = Origin::echo();
    let forward = "send: [\"cookie:session\", \"header:x-kind\"], keep: [x-who, x-team, sub]";
    let gateway = by_service(&service, &origin, forward, "{ any: [partner, asked] }");
    let headers = [
        ("Cookie", "a=1; session=7"),
        ("X-Kind", "web"),
        ("X-Who", "admin"),
        ("X-Team", "admins"),
        ("X-User-Id", "admin"),
        ("X-Forwarded-Uri", "/open"),
        ("X-Forwarded-For", "10.0.0.1"),
        ("Authorization", "Bearer secret"),
    ];
    ask(&gateway, "/a/%7Eb/../c%20d?x=1&y=%2F", &headers).expect(200);
    let (seen, asked) = (origin.last(), service.last());
    assert_eq!(
        (asked.method.as_str(), asked.target.as_str()),
        ("GET", "/verify")
    );
    // P04: to the byte what goes upstream.
    assert_eq!(asked.header("x-forwarded-uri"), Some(&*seen.target));
    for (name, value) in [
        ("x-forwarded-method", Some("GET")),
        ("x-forwarded-proto", Some("http")),
        ("x-forwarded-for", Some("127.0.0.1")),
        ("x-request-id", seen.header("x-request-id")),
        ("cookie", Some("session=7")),
        ("x-kind", Some("web")),
        ("x-who", None),
        ("x-user-id", None),
        ("authorization", None),
    ] {
        let lines = asked.headers_all(name);
        assert_eq!(
            (lines.first().copied(), lines.len()),
            (value, usize::from(value.is_some())),
            "{name}"
        );
    }
    assert_eq!(seen.headers_all("x-who"), ["user-7"]);
    assert_eq!(seen.headers_all("x-team"), ["a", "b"]);
    assert_eq!(seen.header("x-sub"), Some("user-7"));
    assert_eq!(seen.header("x-method"), Some("forward"));
    assert_eq!(seen.header("cookie"), Some("a=1"));
    // Where it says nothing of them, and where it is not asked at all, the client's own are gone all the same.
    for known in [("Cookie", "session=8"), ("X-Api-Key", "key-of-acme")] {
        ask(
            &gateway,
            "/",
            &[known, ("X-Who", "admin"), ("X-Team", "admins")],
        )
        .expect(200);
        let seen = origin.last();
        assert_eq!((seen.header("x-who"), seen.header("x-team")), (None, None));
    }
    ask(&gateway, "/", &[("Cookie", "session=gone")]).expect(403);
    assert_eq!(service.count(), 3);
}

#[test]
fn what_a_service_says_to_a_client_reaches_it() {
    let service = Origin::answer(|request| match request.header("x-forwarded-uri") {
        Some("/login") => Reply::fixed(
            302,
            &[
                ("Location", "https://id.test/?a=b"),
                ("Set-Cookie", "s=1"),
                ("X-Internal", "x"),
            ],
            "",
        ),
        Some("/who") => Reply::fixed(401, &[("WWW-Authenticate", "Token")], "who?"),
        Some("/often") => Reply::fixed(429, &[("Retry-After", "7")], ""),
        _ => Reply::fixed(403, &[("Content-Type", "application/json")], "{}"),
    });
    let origin = Origin::echo();
    let gateway = by_service(&service, &origin, "", "[asked]");
    for (target, status, name, value) in [
        ("/login", 302, "location", "https://id.test/?a=b"),
        ("/login", 302, "set-cookie", "s=1"),
        ("/who", 401, "www-authenticate", "Token"),
        ("/often", 429, "retry-after", "7"),
        ("/other", 403, "content-type", "application/json"),
        ("/other", 403, "cache-control", "no-store"),
    ] {
        let answer = ask(&gateway, target, &[]).expect(status);
        assert_eq!(answer.header(name), Some(value), "{target}");
        assert_eq!(answer.header("x-internal"), None);
    }
    assert_eq!(ask(&gateway, "/who", &[]).text(), "who?");
    assert_eq!(origin.count(), 0);
}

#[test]
fn a_service_without_a_clear_answer_lets_nobody_in() {
    let gate = Gate::new();
    let held = gate.clone();
    let service = Origin::answer(move |request| match request.header("x-forwarded-uri") {
        Some("/slow") => Reply::never(&held),
        Some("/down") => Reply::close(),
        Some("/reset") => Reply::reset(),
        Some("/garbage") => Reply::garbage(),
        Some("/500") => Reply::fixed(500, &[], "ok"),
        Some("/503") => Reply::fixed(503, &[], "ok"),
        Some("/304") => Reply::fixed(304, &[], ""),
        Some("/large") => Reply::large(1 << 20),
        _ => Reply::truncated(100, "ok"),
    });
    let origin = Origin::echo();
    let gateway = by_service(&service, &origin, "", "[asked]");
    for target in [
        "/slow", "/down", "/reset", "/garbage", "/500", "/503", "/304", "/large", "/cut",
    ] {
        unavailable(&ask(&gateway, target, &[]));
    }
    drop(service);
    unavailable(&ask(&gateway, "/", &[]));
    assert_eq!(origin.count(), 0);
    ask(&gateway, "/keyed", &[("X-Api-Key", "key-of-acme")]).expect(200);
    gate.open();
}

#[test]
fn whoever_is_asked_sees_no_header_that_the_upstream_does_not() {
    let service = Origin::answer(|_| Reply::fixed(200, &[], ""));
    let origin = Origin::echo();
    let forward = "send: [\"header:x-role\"]";
    let gateway = by_service(&service, &origin, forward, "[asked]");
    for (connection, role) in [("close", Some("admin")), ("close, X-Role", None)] {
        let headers = [("X-Role", "admin"), ("Connection", connection)];
        ask(&gateway, "/", &headers).expect(200);
        assert_eq!(service.last().header("x-role"), role, "{connection}");
        assert_eq!(origin.last().header("x-role"), role, "{connection}");
    }
}

#[test]
fn a_yes_is_taken_over_for_a_while_by_requests_that_are_alike() {
    let service = Origin::answer(|request| match request.header("cookie") {
        Some("s=bad") => Reply::fixed(401, &[], ""),
        _ => Reply::fixed(200, &[("X-Who", "user")], ""),
    });
    let origin = Origin::echo();
    let forward = "send: [\"cookie:s\"], keep: [x-who], cache: { ttl: 5s, key: [\"cookie:s\", \"header:x-kind\"] }";
    let gateway = by_service(&service, &origin, forward, "[asked]");
    let since = Instant::now();
    for target in ["/a", "/b", "/c"] {
        ask(&gateway, target, &[("Cookie", "s=7")]).expect(200);
        assert_eq!(origin.last().header("x-who"), Some("user"));
    }
    assert_eq!(service.count(), 1);
    // None of these is like it, or like another.
    for headers in [
        &[("Cookie", "s=8")][..],
        &[("Cookie", "s=7"), ("X-Kind", "a")],
        &[("Cookie", "s=7a")],
        &[("Cookie", "t=7"), ("X-Kind", "7")],
        &[("Cookie", "s=7; s=8")],
    ] {
        let before = service.count();
        ask(&gateway, "/", headers).expect(200);
        assert_eq!(service.count(), before + 1, "{headers:?}");
    }
    // A no is asked for again, and so is who shows nothing.
    for headers in [&[("Cookie", "s=bad")][..], &[]] {
        let before = service.count();
        for _ in 0..2 {
            ask(&gateway, "/", headers);
        }
        assert_eq!(service.count(), before + 2, "{headers:?}");
    }
    let before = service.count();
    while service.count() == before {
        ask(&gateway, "/", &[("Cookie", "s=7")]).expect(200);
        assert!(since.elapsed() < DEADLINE, "it holds for ever");
        std::thread::park_timeout(Duration::from_millis(20));
    }
    assert!(since.elapsed() >= Duration::from_secs(5));
}

#[test]
fn a_decision_is_asked_for_once_at_a_time() {
    for size in [4, 4 * scale(250)] {
        let gate = Gate::new();
        let held = gate.clone();
        let service = Origin::answer(move |_| Reply::fixed(200, &[], "").after(&held));
        let origin = Origin::echo();
        let forward = "send: [\"cookie:s\"], cache: { ttl: 1m, key: \"cookie:s\" }";
        let gateway = by_service(&service, &origin, forward, "[asked]");
        let mut clients: Vec<Client> = (0..size).map(|_| gateway.client()).collect();
        for client in &mut clients {
            client.send_request("GET", "/", &[("Cookie", "s=7")], b"");
        }
        gate.wait_until_waiting(1);
        gate.open();
        for client in &mut clients {
            client.response("GET").expect(200);
        }
        assert_eq!(service.count(), 1);
    }
}

#[test]
fn request_tests_and_explain_ask_nobody() {
    let service = Origin::answer(|_| Reply::fixed(200, &[], ""));
    let origin = Origin::echo();
    let upstream = format!("auth: {{ targets: [{{ url: \"{}\" }}] }}", service.url());
    let forward = "forward: { upstream: auth, path: /verify, keep: [x-who] }";
    let text = config(forward, "[asked]", &upstream, &origin);
    let tests = "tests:\n\
        - { request: GET http://a.test/, given: { auth: { headers: { x-who: user-7 } } }, expect: { status: 200, upstream: o } }\n\
        - { request: GET http://a.test/, given: { auth: { status: 403 } }, expect: { status: 403, decided_by: auth, calls: { o: 0 } } }\n\
        - { request: GET http://a.test/, given: { auth: { fail: timeout } }, expect: { status: 503, decided_by: auth } }\n\
        - { request: GET http://a.test/, expect: { status: 503, decided_by: auth } }\n\
        - { request: GET http://a.test/, as: { consumer: acme }, expect: { status: 200 } }\n";
    let setup = Setup::new(&format!("{text}{tests}"));
    let output = run_cli(&["test"], setup.dir());
    assert_eq!(output.code, 0, "{}{}", output.stdout, output.stderr);
    assert!(
        output.stdout.contains("5 passed, 0 failed"),
        "{}",
        output.stdout
    );
    let output = run_cli(&["explain", "GET", "http://a.test/"], setup.dir());
    assert!(output.stdout.contains("asks asked"), "{}", output.stdout);
    assert_eq!((service.count(), origin.count()), (0, 0));
}

// ---- a service that decides, by gRPC

struct Policyd {
    process: Process,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Policyd {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("server.py");
        std::fs::write(&file, include_str!("server.py")).unwrap();
        let mut command = Command::new(python(&["grpcio==1.85.1", "xds-protos==1.85.0"]));
        let process = Process::start(command.arg(file));
        let port = process.wait_line("its port", |line| line.trim().parse::<u16>().ok());
        Self {
            process,
            port,
            _dir: dir,
        }
    }

    /// The last question, as the messages of Envoy read it.
    fn asked(&self) -> Json {
        let log = self.process.log();
        let last = log.lines().rev().find_map(|line| line.split_once("CHECK "));
        serde_json::from_str(last.unwrap().1).unwrap()
    }

    fn count(&self) -> usize {
        self.process.log().matches("CHECK ").count()
    }
}

fn by_policyd(policyd: &Policyd, origin: &Origin, more: &str, auth: &str) -> Gateway {
    let upstream = format!(
        "policyd: {{ targets: [{{ url: \"h2c://127.0.0.1:{}\" }}] }}",
        policyd.port
    );
    let ext_authz = format!("ext_authz: {{ upstream: policyd, timeout: 5s{more} }}");
    Gateway::spawn(&config(&ext_authz, auth, &upstream, origin))
}

#[test]
fn a_service_is_asked_as_envoy_asks_it_and_its_word_is_done() {
    let (policyd, origin) = (Policyd::start(), Origin::echo());
    let gateway = by_policyd(&policyd, &origin, "", "[asked]");
    let headers = [
        ("X-User", "admin"),
        ("X-Tag", "one"),
        ("X-Gone", "here"),
        ("X-User-Id", "admin"),
        ("X-Forwarded-For", "10.0.0.1"),
        ("Authorization", "Bearer t"),
        ("X-Two", "a"),
        ("X-Two", "b"),
    ];
    let answer = ask(&gateway, "/allow?x=1", &headers).expect(200);
    assert_eq!(answer.header("x-decided"), Some("yes"));
    let seen = origin.last();
    assert_eq!(seen.headers_all("x-user"), ["u1"]);
    assert_eq!(seen.headers_all("x-tag"), ["one", "more"]);
    assert_eq!(seen.header("x-gone"), None);
    assert_eq!(seen.header("authorization"), None);
    assert_eq!(seen.header("x-method"), Some("ext_authz"));
    assert_ne!(seen.header("host"), Some("evil.test"));
    let asked = policyd.asked();
    let http = &asked["attributes"]["request"]["http"];
    assert_eq!(
        asked["attributes"]["source"]["address"]["socketAddress"]["address"],
        "127.0.0.1"
    );
    for (name, value) in [
        ("method", "GET"),
        ("path", "/allow?x=1"),
        ("scheme", "http"),
        ("protocol", "HTTP/1.1"),
    ] {
        assert_eq!(http[name], value, "{name}");
    }
    assert_eq!(http["host"], seen.header("host").unwrap());
    assert_eq!(http["id"], seen.header("x-request-id").unwrap());
    let sent = &http["headers"];
    for (name, value) in [
        (":path", "/allow?x=1"),
        ("authorization", "Bearer t"),
        ("x-two", "a,b"),
        ("x-forwarded-for", "127.0.0.1"),
    ] {
        assert_eq!(sent[name], value, "{name}");
    }
    assert_eq!(sent["x-user-id"], Json::Null);
    ask(&gateway, "/plainly", &[]).expect(200);
    let denied = ask(&gateway, "/deny", &[]).expect(401);
    assert_eq!(denied.text(), "who?");
    assert_eq!(denied.header("www-authenticate"), Some("Token"));
    let plain = ask(&gateway, "/deny-plainly", &[]).expect(403);
    for refusal in [denied, plain] {
        assert_eq!(refusal.headers_all("cache-control"), ["no-store"]);
    }
    assert_eq!(http["rawBody"], Json::Null);
    assert_eq!(origin.count(), 2);
}

#[test]
fn a_service_of_envoys_without_a_clear_answer_lets_nobody_in() {
    let (policyd, origin) = (Policyd::start(), Origin::echo());
    let gateway = by_policyd(&policyd, &origin, "", "[asked]");
    for target in [
        "/slow",
        "/error",
        "/error-behind",
        "/garbage",
        "/deny-with-200",
        "/large",
    ] {
        unavailable(&ask(&gateway, target, &[]));
    }
    ask(&gateway, "/plainly", &[]).expect(200);
    policyd.process.stop();
    unavailable(&ask(&gateway, "/plainly", &[]));
    assert_eq!(origin.count(), 1);
}

#[test]
fn a_yes_by_grpc_is_taken_over_too() {
    let (policyd, origin) = (Policyd::start(), Origin::echo());
    let more = ", cache: { ttl: 1m, key: [\"header:authorization\", host] }";
    let gateway = by_policyd(&policyd, &origin, more, "[asked]");
    for _ in 0..3 {
        ask(&gateway, "/allow", &[("Authorization", "Bearer t")]).expect(200);
        assert_eq!(origin.last().header("x-user"), Some("u1"));
    }
    assert_eq!(policyd.count(), 1);
    ask(&gateway, "/allow", &[("Authorization", "Bearer u")]).expect(200);
    assert_eq!(policyd.count(), 2);
}
