//! `doorward test`: each word of the language of request tests passes where it is so, and fails where it is not.
#![expect(
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not as expected"
)]

use std::path::Path;
use std::process::Command;

use serde_json::{Value as Json, json};

use super::support::{Gateway, Output, internet_calls, run_cli, traced};

/// The targets are names that nobody has: nothing is asked for them.
const CONFIG: &str = r#"version: 1
listeners:
  public: { address: "127.0.0.1:8080", trusted_proxies: [10.0.0.0/8] }
  other: { address: "127.0.0.1:8081" }
upstreams:
  orders: { targets: [{ url: "http://orders.invalid:3000" }] }
  spare: { targets: [{ url: "http://spare.invalid:3000" }] }
routes:
  - name: order
    match: { path: "/orders/{id}", methods: [GET] }
    request: { path: "/internal/{id}", host: orders.internal }
    response: { headers: { set: { x-order: "{id}", x-status: "{response.status}" } } }
    upstream: orders
  - { name: spare, match: { path: /spare }, upstream: spare }
  - { name: plain, match: { path: /h }, respond: { json: { beta: false, b: 1 } } }
  - { name: beta, match: { path: /h, headers: { x-beta: present } }, respond: { json: { beta: true } } }
  - { name: inner, match: { path: /l, listeners: [other] }, respond: { text: inner } }
  - { name: office, match: { path: /office, client_ips: [192.0.2.0/24] }, respond: { text: office } }
  - name: shaped
    match: { path: /shaped }
    request: { body: { rename: { qty: quantity }, omit: [note] } }
    body_limits: { request: 64B }
    upstream: orders
  - { name: old, match: { path: /old }, lifecycle: { sunset: "2027-01-01" }, upstream: orders }
tests:
"#;

/// A test as it is written, and what is said of it: nothing, or what is not as expected.
const CASES: &[(&str, &str)] = &[
    // What is expected, one by one.
    (
        "request: GET http://a.test/orders/7, expect: { status: 200 }",
        "",
    ),
    (
        "request: GET http://a.test/orders/7, expect: { status: 201 }",
        "status: expected 201, got 200",
    ),
    (
        "request: GET http://a.test/orders/7, expect: { decided_by: upstream }",
        "",
    ),
    (
        "request: GET http://a.test/orders/7, expect: { decided_by: respond }",
        "decided_by: expected `respond`, got `upstream`",
    ),
    (
        "request: GET http://a.test/orders/7, expect: { route: order }",
        "",
    ),
    (
        "request: GET http://a.test/orders/7, expect: { route: spare }",
        "route: expected `spare`, got `order`",
    ),
    (
        "request: GET http://a.test/nowhere, expect: { route: not_found, status: 404 }",
        "",
    ),
    (
        "request: GET http://a.test/orders/7, expect: { route: not_found }",
        "route: expected `not_found`, got `order`",
    ),
    (
        "request: GET http://a.test/orders/7, expect: { upstream: orders }",
        "",
    ),
    (
        "request: GET http://a.test/orders/7, expect: { upstream: spare }",
        "upstream: expected `spare`, got `orders`",
    ),
    (
        "request: GET http://a.test/h, expect: { upstream: spare }",
        "upstream: expected `spare`, got none",
    ),
    (
        "request: GET http://a.test/orders/7, expect: { upstream_path: /internal/7 }",
        "",
    ),
    (
        "request: GET http://a.test/orders/7, expect: { upstream_path: /orders/7 }",
        "upstream_path: expected `/orders/7`, got `/internal/7`",
    ),
    (
        "request: GET http://a.test/orders/7, expect: { calls: { orders: 1, spare: 0 } }",
        "",
    ),
    (
        "request: GET http://a.test/orders/7, expect: { calls: { spare: 1 } }",
        "calls of spare: expected 1, got 0",
    ),
    (
        "request: GET http://a.test/orders/7, expect: { headers: { x-order: \"7\" } }",
        "",
    ),
    (
        "request: GET http://a.test/orders/7, expect: { headers: { x-order: \"8\" } }",
        "header x-order: expected `8`, got `7`",
    ),
    (
        "request: GET http://a.test/orders/7, expect: { headers: { X-Order: present } }",
        "",
    ),
    (
        "request: GET http://a.test/orders/7, expect: { headers: { x-none: present } }",
        "header x-none: expected `present`, got none",
    ),
    (
        "request: GET http://a.test/orders/7, expect: { headers: { x-none: absent } }",
        "",
    ),
    (
        "request: GET http://a.test/orders/7, expect: { headers: { x-order: absent } }",
        "header x-order: expected `absent`, got `7`",
    ),
    (
        "request: GET http://a.test/h, expect: { json: { b: 1, beta: false } }",
        "",
    ),
    (
        "request: GET http://a.test/h, expect: { json: { beta: false } }",
        "json: expected {\"beta\":false}, got {\"beta\":false,\"b\":1}",
    ),
    (
        "request: GET http://a.test/spare, expect: { json: {} }",
        "json: expected {}, got no JSON",
    ),
    (
        "request: HEAD http://a.test/h, expect: { json: { beta: false, b: 1 } }",
        "json: expected {\"beta\":false,\"b\":1}, got no JSON",
    ),
    // Several at once.
    (
        "request: GET http://a.test/orders/7, expect: { status: 404, route: spare }",
        "status: expected 404, got 200; route: expected `spare`, got `order`",
    ),
    // The request.
    (
        "request: POST http://a.test/orders/7, expect: { status: 405, headers: { allow: \"GET, HEAD, OPTIONS\" } }",
        "",
    ),
    (
        "request: GET http://a.test/%2F, expect: { status: 400, decided_by: http, route: \"not_found\" }",
        "route: expected `not_found`, got ``",
    ),
    (
        "request: GET http://a.test/h, headers: { x-beta: \"1\" }, expect: { route: beta }",
        "",
    ),
    (
        "request: GET http://a.test/h, expect: { route: beta }",
        "route: expected `beta`, got `plain`",
    ),
    (
        "request: GET http://a.test/h, headers: { x-beta: \"a\\nb\" }, expect: { route: beta }",
        "the header `x-beta` is not one line",
    ),
    (
        "request: GET gopher://a.test/h, expect: { status: 200 }",
        "a URL begins with `http://`, not with `gopher://`",
    ),
    (
        "request: GET http://a.test/l, listener: other, expect: { status: 200 }",
        "",
    ),
    (
        "request: GET http://a.test:8081/l, expect: { status: 200 }",
        "",
    ),
    (
        "request: GET http://a.test/l, listener: public, expect: { status: 200 }",
        "status: expected 200, got 404",
    ),
    (
        "request: GET http://a.test/office, as: { client_ip: 192.0.2.7 }, expect: { status: 200 }",
        "",
    ),
    (
        "request: GET http://a.test/office, as: { client_ip: 198.51.100.7 }, expect: { status: 200 }",
        "status: expected 200, got 404",
    ),
    (
        "request: GET http://a.test/office, as: { client_ip: 10.0.0.1 }, headers: { x-forwarded-for: 192.0.2.7 }, expect: { status: 200 }",
        "",
    ),
    (
        "request: GET http://a.test/old, at: \"2026-12-31\", expect: { status: 200 }",
        "",
    ),
    (
        "request: GET http://a.test/old, at: \"2027-01-01T00:00:00Z\", expect: { status: 200 }",
        "status: expected 200, got 410",
    ),
    (
        "request: GET http://a.test/orders/7, times: 3, expect: { calls: { orders: 3 } }",
        "",
    ),
    (
        "request: GET http://a.test/orders/7, times: 3, expect: { calls: { orders: 1 } }",
        "calls of orders: expected 1, got 3",
    ),
    // Its body.
    (
        "request: POST http://a.test/shaped, json: { qty: 2, note: x }, expect: { status: 200, upstream_json: { quantity: 2 } }",
        "",
    ),
    (
        "request: POST http://a.test/shaped, json: { qty: 2 }, expect: { upstream_json: { qty: 2 } }",
        "upstream_json: expected {\"qty\":2}, got {\"quantity\":2}",
    ),
    (
        "request: POST http://a.test/spare, json: { qty: 2 }, expect: { upstream_json: { qty: 2 } }",
        "",
    ),
    (
        "request: POST http://a.test/spare, expect: { upstream_json: {} }",
        "upstream_json: expected {}, got no JSON",
    ),
    (
        "request: POST http://a.test/h, json: {}, expect: { upstream_json: {} }",
        "upstream_json: expected {}, got no JSON",
    ),
    (
        "request: POST http://a.test/shaped, text: \"{\", headers: { Content-Type: application/json }, expect: { status: 400, calls: { orders: 0 } }",
        "",
    ),
    (
        "request: POST http://a.test/shaped, text: \"{}\", expect: { status: 415 }",
        "",
    ),
    (
        "request: POST http://a.test/shaped, json: { long: \"0123456789012345678901234567890123456789012345678901234567890123\" }, expect: { status: 413, decided_by: body_limits }",
        "",
    ),
    (
        "request: POST http://a.test/shaped, json: {}, given: { orders: { fail: reset } }, expect: { status: 502, calls: { orders: 1 } }",
        "",
    ),
    (
        "request: PUT http://a.test/shaped, json: {}, given: { orders: { fail: reset } }, expect: { status: 502, calls: { orders: 2 } }",
        "",
    ),
    // What upstreams would say.
    (
        "request: GET http://a.test/orders/7, given: { orders: { status: 503 } }, expect: { status: 503, headers: { x-status: \"503\" } }",
        "",
    ),
    (
        "request: GET http://a.test/orders/7, given: { spare: { status: 503 } }, expect: { status: 503 }",
        "status: expected 503, got 200",
    ),
    (
        "request: GET http://a.test/orders/7, given: { orders: { headers: { x-a: b, server: s } } }, expect: { headers: { x-a: b, server: absent } }",
        "",
    ),
    (
        "request: GET http://a.test/orders/7, given: { orders: { headers: { location: \"http://orders.invalid:3000/internal/7\" } } }, expect: { headers: { location: \"http://a.test/orders/7\" } }",
        "",
    ),
    (
        "request: GET http://a.test/orders/7, given: { orders: { json: { id: 7 } } }, expect: { json: { id: 7 }, headers: { content-type: application/json } }",
        "",
    ),
    (
        "request: GET http://a.test/orders/7, given: { orders: { json: { id: 7 } } }, expect: { json: { id: 8 } }",
        "json: expected {\"id\":8}, got {\"id\":7}",
    ),
    (
        "request: GET http://a.test/orders/7, given: { orders: { text: \"[1]\" } }, expect: { json: [1], headers: { content-type: \"text/plain; charset=utf-8\" } }",
        "",
    ),
    (
        "request: GET http://a.test/orders/7, given: { orders: { fail: connect_failure } }, expect: { status: 502, headers: { proxy-status: doorward; error=connection_refused }, calls: { orders: 1 } }",
        "",
    ),
    (
        "request: GET http://a.test/orders/7, given: { orders: { fail: reset } }, expect: { status: 502, headers: { proxy-status: doorward; error=connection_terminated } }",
        "",
    ),
    (
        "request: GET http://a.test/orders/7, given: { orders: { fail: timeout } }, expect: { status: 504, headers: { proxy-status: doorward; error=http_response_timeout } }",
        "",
    ),
    (
        "request: GET http://a.test/orders/7, given: { orders: { fail: tls_failure } }, expect: { status: 502, headers: { proxy-status: doorward; error=tls_protocol_error } }",
        "",
    ),
    (
        "request: GET http://a.test/orders/7, given: { orders: { fail: protocol_error } }, expect: { status: 502, headers: { proxy-status: doorward; error=http_protocol_error } }",
        "",
    ),
    (
        "request: GET http://a.test/orders/7, given: { orders: { fail: no_target } }, expect: { status: 503, headers: { proxy-status: doorward; error=destination_unavailable }, calls: { orders: 0 } }",
        "",
    ),
    (
        "request: GET http://a.test/orders/7, given: { orders: { fail: timeout } }, expect: { status: 200 }",
        "status: expected 200, got 504",
    ),
];

/// The cases as the list under `tests`.
fn written(cases: &[(&str, &str)]) -> String {
    let lines = cases.iter().map(|(case, _)| format!("  - {{ {case} }}\n"));
    lines.collect()
}

fn folder(config: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("doorward.yaml"), config).unwrap();
    folder
}

fn tested(config: &str, args: &[&str]) -> Output {
    run_cli(&[&["test"], args].concat(), folder(config).path())
}

#[test]
fn each_word_passes_where_it_is_so_and_fails_where_it_is_not() {
    let output = tested(
        &(CONFIG.to_owned() + &written(CASES)),
        &["--format", "json"],
    );
    assert_eq!(output.code, 1, "{}", output.stderr);
    let told: Json = serde_json::from_str(&output.stdout).unwrap();
    let tests = told["tests"].as_array().unwrap();
    assert_eq!(tests.len(), CASES.len());
    let mut wrong = String::new();
    for ((case, expected), test) in CASES.iter().zip(tests) {
        let failures = test["failures"].as_array().unwrap().iter();
        let failures: Vec<&str> = failures.filter_map(Json::as_str).collect();
        let failures = failures.join("; ");
        if failures != *expected {
            wrong += &format!("{case}\n  expected: {expected}\n  got:      {failures}\n");
        }
        assert_eq!(test["passed"], expected.is_empty(), "{case}");
    }
    assert!(wrong.is_empty(), "{wrong}");
    let failed = CASES.iter().filter(|(_, told)| !told.is_empty()).count();
    assert_eq!(told["failed"], failed);
    assert_eq!(told["passed"], CASES.len() - failed);
}

#[test]
fn the_exit_code_says_whether_all_passed() {
    let case = |status: u16| {
        format!(
            "{CONFIG}  - {{ name: orders are shown, request: GET http://a.test/orders/7, expect: {{ status: {status} }} }}\n"
        )
    };
    let good = tested(&case(200), &[]);
    assert_eq!(good.code, 0, "{}", good.stderr);
    assert_eq!(
        good.stdout,
        "  ok    orders are shown (doorward.yaml:26:5)\n1 passed, 0 failed\n"
    );
    let bad = tested(&case(201), &[]);
    assert_eq!(bad.code, 1, "{}", bad.stderr);
    assert_eq!(
        bad.stdout,
        "  FAIL  orders are shown (doorward.yaml:26:5)\n        status: expected 201, got 200\n0 passed, 1 failed\n"
    );
    let broken = tested(&case(200).replace("upstream: spare", "upstream: spar"), &[]);
    assert_eq!((broken.code, broken.stdout.as_str()), (78, ""));
    assert!(
        broken.stderr.contains("unknown upstream `spar`"),
        "{}",
        broken.stderr
    );
    let none = tested(&format!("{CONFIG}  []\n"), &[]);
    assert_eq!(none.code, 0, "{}", none.stderr);
    assert!(none.stdout.contains("no tests"), "{}", none.stdout);
    let lost = run_cli(&["test", "--config", "lost.yaml"], Path::new("/"));
    assert_eq!(lost.code, 78, "{}", lost.stdout);
}

#[test]
fn the_network_is_never_asked() {
    let folder = folder(&(CONFIG.to_owned() + &written(CASES)));
    let mut command = Command::new(env!("CARGO_BIN_EXE_doorward"));
    command.arg("test").current_dir(folder.path());
    let (output, trace) = traced(&command);
    assert_eq!(output.code, 1, "{}", output.stderr);
    assert_eq!(internet_calls(&trace), Vec::<&str>::new());
    command = Command::new(env!("CARGO_BIN_EXE_doorward"));
    command
        .args(["explain", "GET", "http://a.test/orders/7"])
        .current_dir(folder.path());
    let (output, trace) = traced(&command);
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert!(
        output.stdout.contains("orders.invalid:3000"),
        "{}",
        output.stdout
    );
    assert_eq!(internet_calls(&trace), Vec::<&str>::new());
}

/// A gateway whose only test wants this status of a route that answers 200.
fn config(text: &str, status: u16) -> String {
    format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\" }} }}\nadmin: {{ socket: admin.sock }}\n\
         routes: [{{ name: a, match: {{ path: / }}, respond: {{ text: {text} }} }}]\n\
         tests: [{{ request: GET http://a.test/, expect: {{ status: {status} }} }}]\n"
    )
}

#[test]
fn reload_refuses_a_config_whose_tests_fail_when_it_is_asked_to() {
    let gateway = Gateway::spawn(&config("first", 200));
    let reload = |args: &[&str], code: i32| {
        let output = run_cli(&[&["reload"], args].concat(), gateway.dir());
        assert_eq!(output.code, code, "{}{}", output.stdout, output.stderr);
        output
    };
    let text = || gateway.client().get("/").expect(200).text();
    gateway.write_config(&config("second", 200));
    reload(&["--test"], 0);
    assert_eq!(text(), "second");

    gateway.write_config(&config("third", 201));
    let refused = reload(&["--test"], 1);
    assert!(
        refused.stderr.contains("status: expected 201, got 200"),
        "{}",
        refused.stderr
    );
    assert!(
        refused.stderr.contains("the running config was kept"),
        "{}",
        refused.stderr
    );
    assert_eq!(text(), "second");
    gateway.process().wait_log("its tests fail");
    let told: Json =
        serde_json::from_str(&reload(&["--test", "--format", "json"], 1).stdout).unwrap();
    assert_eq!(told["result"], "tests_failed");
    let status = run_cli(&["status", "--format", "json"], gateway.dir()).stdout;
    let status: Json = serde_json::from_str(&status).unwrap();
    assert_eq!(status["generation"], json!(2));

    // Whoever does not ask gets what is written.
    reload(&[], 0);
    assert_eq!(text(), "third");

    // A wrong config is wrong before it is tested.
    gateway.write_config(&config("fourth", 201).replace("path: /", "pth: /"));
    reload(&["--test"], 78);
    assert_eq!(text(), "third");
}

#[test]
fn what_is_asked_by_tls_is_asked_by_https() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls");
    let config = format!(
        "version: 1\nlisteners: {{ private: {{ address: \"127.0.0.1:443\", tls: {{ certificates: [{{ cert_file: {0}/a.pem, key_file: {0}/a.key }}] }} }} }}\n\
         routes:\n  - {{ name: s, match: {{ path: /, when: 'request.scheme == \"https\"' }}, respond: {{ text: s }} }}\n\
         tests: [{{ request: GET https://a.test/, expect: {{ route: s, status: 200 }} }}]\n",
        data.display()
    );
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("doorward.yaml"), config).unwrap();
    let tried = run_cli(&["test"], dir.path());
    assert_eq!(tried.code, 0, "{}{}", tried.stdout, tried.stderr);
    let told = run_cli(&["explain", "GET", "https://a.test/"], dir.path());
    assert!(
        told.stdout.contains("route s "),
        "{}{}",
        told.stdout,
        told.stderr
    );
}
