//! Pages of browsers: who may read which answer, who may act with cookies, and what makes browsers careful.
use std::collections::BTreeMap;

use super::support::{
    Client, Gate, Gateway, Origin, Pki, Reply, Response, Setup, Tls, free_port, run_cli,
};

const APP: (&str, &str) = ("Origin", "https://app.test");
const EVIL: (&str, &str) = ("Origin", "https://evil.test");
const ASKS_PUT: (&str, &str) = ("Access-Control-Request-Method", "PUT");

fn config(origin: &Origin, defaults: &str, routes: &str) -> String {
    format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\", protocols: [http1, h2c] }} }}\n\
         upstreams:\n  o: {{ targets: [{{ url: \"{}\" }}] }}\n  dead: {{ targets: [{{ url: \"http://127.0.0.1:{}\" }}] }}\n\
         defaults: {{ routes: {{ {defaults} }} }}\nroutes:\n{routes}",
        origin.url(),
        free_port()
    )
}

/// The CORS headers of an answer, by what follows `access-control-`; and `vary`.
fn told(answer: &Response) -> BTreeMap<String, String> {
    let names = [
        "allow-origin",
        "allow-credentials",
        "expose-headers",
        "allow-methods",
        "allow-headers",
        "max-age",
    ];
    let mut told = BTreeMap::new();
    for name in names {
        let values = answer.headers_all(&format!("access-control-{name}"));
        assert!(values.len() < 2, "{name} twice: {values:?}");
        told.extend(
            values
                .first()
                .map(|value| (name.to_owned(), (*value).to_owned())),
        );
    }
    let vary = answer.headers_all("vary").join(", ");
    if !vary.is_empty() {
        told.insert("vary".to_owned(), vary);
    }
    told
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn ask(gateway: &Gateway, method: &str, path: &str, headers: &[(&str, &str)]) -> Response {
    gateway.client().request(method, path, headers, b"")
}

const CORS: &str = "cors: { origins: [\"https://app.test\"], methods: [GET, PUT], headers: [X-Token], expose: [x-total], credentials: true, max_age: 1h }";

#[test]
fn a_preflight_is_answered_before_anything_else() {
    let origin = Origin::answer(|_| Reply::ok("o"));
    let routes = format!(
        "  - {{ name: read, match: {{ path: /a, methods: [GET] }}, upstream: o, cors: {{ origins: [\"https://reader.test\"] }} }}\n\
         \x20 - {{ name: write, match: {{ path: /a, methods: [PUT] }}, upstream: o, maintenance: {{}}, {CORS} }}\n\
         \x20 - {{ name: plain, match: {{ path: /a, methods: [DELETE] }}, upstream: o }}\n"
    );
    let gateway = Gateway::spawn(&config(&origin, "", &routes));
    let answer = ask(
        &gateway,
        "OPTIONS",
        "/a",
        &[APP, ASKS_PUT, ("Access-Control-Request-Headers", "x-token")],
    )
    .expect(204);
    let preflight = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers";
    let expected = [
        ("allow-origin", "https://app.test"),
        ("allow-credentials", "true"),
        ("allow-methods", "GET, PUT"),
        ("allow-headers", "x-token"),
        ("max-age", "3600"),
        ("vary", preflight),
    ];
    assert_eq!(told(&answer), map(&expected));
    // A page that may not is told nothing.
    let answer = ask(&gateway, "OPTIONS", "/a", &[EVIL, ASKS_PUT]).expect(204);
    assert_eq!(told(&answer), map(&[("vary", preflight)]));
    // It is the route of the asked method that says who may.
    let asks = |method| ("Access-Control-Request-Method", method);
    let answer = ask(
        &gateway,
        "OPTIONS",
        "/a",
        &[("Origin", "https://reader.test"), asks("GET")],
    )
    .expect(204);
    let expected = [
        ("allow-origin", "https://reader.test"),
        ("allow-methods", "GET"),
        ("vary", preflight),
    ];
    assert_eq!(told(&answer), map(&expected));
    let answer = ask(&gateway, "OPTIONS", "/a", &[APP, asks("DELETE")]).expect(204);
    assert_eq!(told(&answer), map(&[]));
    assert_eq!(
        answer.header("allow"),
        Some("GET, HEAD, PUT, DELETE, OPTIONS")
    );
    // OPTIONS that asks for nothing is no preflight.
    let answer = ask(&gateway, "OPTIONS", "/a", &[APP]).expect(204);
    assert_eq!(
        answer.header("allow"),
        Some("GET, HEAD, PUT, DELETE, OPTIONS")
    );
    assert_eq!(origin.count(), 0);
}

#[test]
fn a_route_that_lets_no_page_read_is_not_opened_by_another() {
    let origin = Origin::answer(|_| Reply::ok("o"));
    let routes = "  - { name: closed, match: { path: /a, methods: [PUT] }, upstream: o, cors: none }\n\
                  \x20 - { name: open, match: { path_prefix: / }, upstream: o }\n";
    for origins in ["https://app.test", "*"] {
        let defaults = format!("cors: {{ origins: [\"{origins}\"] }}");
        let gateway = Gateway::spawn(&config(&origin, &defaults, routes));
        let answer = ask(&gateway, "OPTIONS", "/a", &[APP, ASKS_PUT]).expect(204);
        assert!(
            !told(&answer).contains_key("allow-origin"),
            "{origins}: {:?}",
            told(&answer)
        );
        let answer = ask(&gateway, "OPTIONS", "/b", &[APP, ASKS_PUT]).expect(204);
        let allowed = if origins == "*" {
            "*"
        } else {
            "https://app.test"
        };
        assert_eq!(told(&answer)["allow-origin"], allowed);
    }
}

/// Every kind of answer, with its status: those of the gateway's own, and the upstream's.
const KINDS: [(u16, &str, &str); 10] = [
    (404, "GET", "/nothing"),
    (405, "DELETE", "/own"),
    (410, "GET", "/gone"),
    (502, "GET", "/dead"),
    (503, "GET", "/closed"),
    (504, "GET", "/slow"),
    (502, "GET", "/called"),
    (200, "GET", "/own"),
    (308, "GET", "/moved"),
    (200, "GET", "/o"),
];

/// A gateway with all kinds, its origin, and what holds the slow one.
fn all_kinds(defaults: &str) -> (Gateway, Origin, Gate) {
    let gate = Gate::new();
    let held = gate.clone();
    let cors = ("access-control-allow-origin", "*");
    let more = ("access-control-allow-credentials", "true");
    let origin = Origin::answer(move |request| match request.path.as_str() {
        "/slow" => Reply::never(&held),
        "/called" => Reply::fixed(200, &[cors, ("content-type", "application/json")], "{"),
        _ => Reply::fixed(200, &[cors, more, ("x-frame-options", "SAMEORIGIN")], "o"),
    });
    let routes = "  - { name: forbidden, match: { path: /forbidden }, upstream: o, csrf: {} }\n\
                  \x20 - { name: gone, match: { path: /gone }, upstream: o, lifecycle: { sunset: \"2020-01-01\" } }\n\
                  \x20 - { name: dead, match: { path: /dead }, upstream: dead }\n\
                  \x20 - { name: closed, match: { path: /closed }, upstream: o, maintenance: {} }\n\
                  \x20 - { name: slow, match: { path: /slow }, upstream: o, timeouts: { first_byte: 100ms } }\n\
                  \x20 - { name: called, match: { path: /called }, upstream: o, response: { body: { omit: [x] } } }\n\
                  \x20 - { name: own, match: { path: /own, methods: [GET] }, respond: { text: own, headers: { access-control-allow-origin: \"*\" } } }\n\
                  \x20 - { name: moved, match: { path: /moved }, redirect: { path: /own } }\n\
                  \x20 - { name: o, match: { path: /o }, upstream: o }\n";
    let gateway = Gateway::spawn(&config(&origin, defaults, routes));
    (gateway, origin, gate)
}

fn every_answer(gateway: &Gateway, headers: &[(&str, &str)]) -> Vec<(u16, Response)> {
    let mut answers = Vec::new();
    for (status, method, path) in KINDS {
        answers.push((status, ask(gateway, method, path, headers).expect(status)));
    }
    let mut forged = vec![("Cookie", "s=1"), ("Sec-Fetch-Site", "cross-site")];
    forged.extend(headers);
    answers.push((403, ask(gateway, "POST", "/forbidden", &forged).expect(403)));
    answers
}

#[test]
fn every_answer_says_who_may_read_it() {
    let (gateway, _origin, gate) = all_kinds(CORS);
    for (status, answer) in every_answer(&gateway, &[APP]) {
        let told = told(&answer);
        assert_eq!(told["allow-origin"], "https://app.test", "{status}");
        assert_eq!(told["allow-credentials"], "true", "{status}");
        assert_eq!(told["expose-headers"], "x-total", "{status}");
        assert!(told["vary"].contains("Origin"), "{status}");
    }
    let twice = [APP, APP];
    for headers in [&[EVIL][..], &[("Origin", "null")], &[], &twice] {
        for (status, answer) in every_answer(&gateway, headers) {
            let told = told(&answer);
            assert!(
                told.keys().all(|name| name == "vary"),
                "{status} {headers:?}: {told:?}"
            );
            assert!(told["vary"].contains("Origin"), "{status}");
        }
    }
    gate.open();
}

#[test]
fn every_answer_makes_browsers_careful() {
    let (gateway, _origin, gate) = all_kinds("security_headers: { preset: api }");
    for (status, answer) in every_answer(&gateway, &[]) {
        assert_eq!(
            answer.header("x-content-type-options"),
            Some("nosniff"),
            "{status}"
        );
        let policy = "default-src 'none'; frame-ancestors 'none'";
        assert_eq!(
            answer.header("content-security-policy"),
            Some(policy),
            "{status}"
        );
        assert_eq!(
            answer.header("referrer-policy"),
            Some("no-referrer"),
            "{status}"
        );
        assert_eq!(answer.header("strict-transport-security"), None, "{status}");
    }
    // What the upstream says itself stays.
    let answer = ask(&gateway, "GET", "/o", &[]).expect(200);
    assert_eq!(answer.headers_all("x-frame-options"), ["SAMEORIGIN"]);
    let answer = ask(&gateway, "GET", "/own", &[]).expect(200);
    assert_eq!(answer.headers_all("x-frame-options"), ["DENY"]);
    gate.open();
}

#[test]
fn only_over_tls_browsers_are_told_to_come_by_tls() {
    let pki = Pki::new();
    let pair = pki.issue(&["a.test"]);
    let setup = Setup::new(
        "version: 1\nlisteners:\n  plain: { address: \"127.0.0.1:0\", trusted_proxies: [127.0.0.2/32] }\n  \
         secured: { address: \"127.0.0.1:0\", tls: { certificates: [{ cert_file: a.pem, key_file: a.key }] } }\n\
         defaults: { routes: { security_headers: { preset: web } } }\n\
         routes: [{ name: own, match: { path: / }, respond: { text: own } }]\n",
    );
    let gateway = setup
        .file("a.pem", &pair.cert)
        .file("a.key", &pair.key)
        .spawn();
    let mut client = Tls::new(&pki.ca, "a.test").connect(gateway.addr_of("secured"));
    let answer = client
        .request("GET", "/", &[("Host", "a.test")], b"")
        .expect(200);
    assert_eq!(
        answer.header("strict-transport-security"),
        Some("max-age=31536000")
    );
    assert_eq!(answer.header("x-frame-options"), Some("SAMEORIGIN"));
    let plain = ask(&gateway, "GET", "/", &[("X-Forwarded-Proto", "https")]).expect(200);
    assert_eq!(plain.header("strict-transport-security"), None);
    let mut proxy = Client::from([127, 0, 0, 2], gateway.addr_of("plain"));
    let behind = proxy
        .request("GET", "/", &[("X-Forwarded-Proto", "https")], b"")
        .expect(200);
    assert_eq!(
        behind.header("strict-transport-security"),
        Some("max-age=31536000")
    );
}

#[test]
fn a_page_of_another_origin_does_not_act_with_cookies() {
    let origin = Origin::answer(|_| Reply::ok("o"));
    let routes = "  - { name: o, match: { path_prefix: / }, upstream: o, csrf: { origins: [\"https://*.app.test\"] } }\n";
    let gateway = Gateway::spawn(&config(&origin, "", routes));
    let cookie = ("Cookie", "session=1");
    let password = ("Authorization", "Basic YTpi");
    let negotiated = ("Authorization", "negotiate YTpi");
    let token = ("Authorization", "Bearer abc");
    let host = ("Host", "site.test");
    let of = |origin| ("Origin", origin);
    let site = |site| ("Sec-Fetch-Site", site);
    let upgrade = [("Connection", "Upgrade"), ("Upgrade", "websocket")];
    for (method, headers, passes) in [
        ("POST", &[cookie, site("cross-site")][..], false),
        ("POST", &[cookie, site("same-site")], false),
        ("POST", &[cookie, site("same-origin")], true),
        ("POST", &[cookie, site("none")], true),
        ("POST", &[cookie, site("none"), site("none")], false),
        (
            "POST",
            &[cookie, site("cross-site"), of("https://x.app.test")],
            true,
        ),
        (
            "POST",
            &[cookie, site("cross-site"), of("https://app.test.evil.test")],
            false,
        ),
        // A browser that does not say it: by the page's origin, or its address.
        ("POST", &[cookie, of("http://site.test")], true),
        ("POST", &[cookie, of("http://site.test:8080")], false),
        ("POST", &[cookie, of("https://site.test")], false),
        ("POST", &[cookie, of("null")], false),
        (
            "DELETE",
            &[cookie, ("Referer", "http://site.test/form?x")],
            true,
        ),
        (
            "DELETE",
            &[cookie, ("Referer", "http://site.test.evil.test/form")],
            false,
        ),
        (
            "PUT",
            &[cookie, of("http://site.test"), of("http://evil.test")],
            false,
        ),
        // What a browser asks people for, and then sends by itself, is as good as a cookie.
        ("POST", &[password, site("cross-site")], false),
        ("POST", &[negotiated, of("https://evil.test")], false),
        ("POST", &[password, site("same-origin")], true),
        ("POST", &[token, site("cross-site")], true),
        // No cookie, no harm; and who says nothing is no browser.
        ("POST", &[site("cross-site"), of("https://evil.test")], true),
        ("POST", &[cookie], true),
        // What changes nothing.
        (
            "GET",
            &[cookie, site("cross-site"), of("https://evil.test")],
            true,
        ),
        ("HEAD", &[cookie, site("cross-site")], true),
        (
            "GET",
            &[cookie, site("cross-site"), upgrade[0], upgrade[1]],
            false,
        ),
    ] {
        let mut headers = headers.to_vec();
        headers.push(host);
        let status = ask(&gateway, method, "/", &headers).status;
        assert_eq!(
            status,
            if passes { 200 } else { 403 },
            "{method} {headers:?}"
        );
    }
}

#[test]
fn the_gateway_tells_why() {
    let origin = Origin::answer(|_| Reply::ok("o"));
    let routes = format!(
        "  - {{ name: o, match: {{ path: /, methods: [PUT] }}, upstream: o, csrf: {{}}, {CORS} }}\n"
    );
    let gateway = Gateway::spawn(&config(&origin, "", &routes));
    let explain = |method: &str, headers: &[&str]| {
        let mut args = vec!["explain", method, "http://127.0.0.1/"];
        for header in headers {
            args.extend(["-H", header]);
        }
        run_cli(&args, gateway.dir()).stdout
    };
    let told = explain(
        "OPTIONS",
        &[
            "origin: https://app.test",
            "access-control-request-method: PUT",
        ],
    );
    assert!(told.contains("the page may read the answer"), "{told}");
    assert!(told.contains("204"), "{told}");
    let told = explain("PUT", &["origin: https://evil.test", "cookie: a=b"]);
    assert!(told.contains("the page may not read the answer"), "{told}");
    assert!(
        told.contains("a page of another origin asks with what the browser sends"),
        "{told}"
    );
}
