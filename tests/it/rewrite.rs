//! What a route changes: the request on its way up, the answer on its way down, and the answers of the gateway's own.
#![expect(
    clippy::expect_used,
    reason = "a test stops at the first thing that is not as expected"
)]

use super::support::{Gateway, Origin, Recorded, Reply, Response, Setup};

type Headers<'a> = &'a [(&'a str, &'a str)];

const LISTENER: &str = "version: 1\nlisteners: { public: { address: \"127.0.0.1:0\", trusted_proxies: [127.0.0.0/8] } }\n";

/// A config with one upstream `o` and these routes, one a line, each as the inside of a map.
fn config(origin: &Origin, routes: &[&str]) -> String {
    let lines = routes.iter().enumerate().map(|(at, route)| {
        let name = if route.starts_with("name:") {
            String::new()
        } else {
            format!("name: r{at}, ")
        };
        format!("  - {{ {name}{route}, upstream: o }}\n")
    });
    format!(
        "{LISTENER}upstreams: {{ o: {{ targets: [{{ url: \"{}\" }}] }} }}\nroutes:\n{}",
        origin.url(),
        lines.collect::<String>()
    )
}

fn proxied(origin: &Origin, routes: &[&str]) -> Gateway {
    Gateway::spawn(&config(origin, routes))
}

/// Routes that need no upstream.
fn local(routes: &str) -> Gateway {
    Gateway::spawn(&format!("{LISTENER}routes:\n{routes}"))
}

#[test]
fn the_upstream_gets_the_path_the_route_says() {
    let origin = Origin::echo();
    let gateway = proxied(
        &origin,
        &[
            "match: { path: \"/v1/orders/{id}\" }, request: { path: \"/internal/orders/{id}/x\" }",
            "match: { path: \"/v1/{a}/{b}\" }, request: { path: \"/{b}/{a}\" }",
            "match: { path: \"/files/{rest*}\" }, request: { path: \"/store/{rest}\" }",
            "match: { path: /fixed }, request: { path: \"/a%2Db\" }",
            "match: { path: /tenant }, request: { path: \"/t/{request.headers.x-tenant}/x\" }",
            "match: { path: /same }",
        ],
    );
    let mut client = gateway.client();
    let cases = [
        ("/v1/orders/7", "/internal/orders/7/x"),
        (
            "/v1/orders/a%20b?q=1&q=2",
            "/internal/orders/a%20b/x?q=1&q=2",
        ),
        ("/v1/left/right", "/right/left"),
        ("/files/a/b%3Fc.txt", "/store/a/b%3Fc.txt"),
        ("/fixed", "/a-b"),
        ("/same?x=%7e&=&&y", "/same?x=%7e&=&&y"),
    ];
    for (asked, got) in cases {
        client.get(asked).expect(200);
        assert_eq!(origin.last().target, got, "{asked}");
    }
    let tenant = |value: &'static str| [("X-Tenant", value)];
    client
        .request("GET", "/tenant", &tenant("a b?c"), b"")
        .expect(200);
    assert_eq!(origin.last().target, "/t/a%20b%3Fc/x");
    let before = origin.count();
    for value in ["..", ".", "", "a/../../b"] {
        client
            .request("GET", "/tenant", &tenant(value), b"")
            .expect(400);
    }
    client.get("/tenant").expect(400);
    assert_eq!(origin.count(), before);
}

#[test]
fn a_prefix_is_taken_off_and_told_in_x_forwarded_prefix() {
    let origin = Origin::echo();
    let gateway = proxied(
        &origin,
        &[
            "match: { path_prefix: /api }, request: { path: \"{path}\" }",
            "match: { path_prefix: /moved/ }, request: { path: \"/v2{path}\" }",
            "match: { path_prefix: /kept }",
        ],
    );
    let mut client = gateway.client();
    let cases = [
        ("/api/a/b?c=d", "/a/b?c=d", Some("/api")),
        ("/api", "/", Some("/api")),
        ("/api/", "/", Some("/api")),
        ("/api?x=1", "/?x=1", Some("/api")),
        ("/moved/a", "/v2/a", None),
        ("/moved", "/v2", None),
        ("/kept/a", "/kept/a", None),
    ];
    for (asked, got, prefix) in cases {
        let forged = [("X-Forwarded-Prefix", "/forged")];
        client.request("GET", asked, &forged, b"").expect(200);
        let seen = origin.last();
        assert_eq!(
            (seen.target.as_str(), seen.header("x-forwarded-prefix")),
            (got, prefix),
            "{asked}"
        );
    }
}

#[test]
fn the_upstream_gets_the_clients_host_unless_the_route_says_another() {
    let origin = Origin::echo();
    let gateway = proxied(
        &origin,
        &[
            "match: { path: /kept }",
            "match: { path: /other }, request: { host: \"Orders.internal:8080\" }",
        ],
    );
    let mut client = gateway.client();
    for (path, host) in [
        ("/kept", "api.example.com:81"),
        ("/other", "orders.internal:8080"),
    ] {
        client
            .request("GET", path, &[("Host", "API.example.com:81")], b"")
            .expect(200);
        let seen = origin.last();
        assert_eq!(seen.header("host"), Some(host));
        assert_eq!(seen.header("x-forwarded-host"), Some("api.example.com:81"));
    }
}

#[test]
fn query_parameters_are_set_and_removed_and_the_rest_stays_byte_for_byte() {
    let origin = Origin::echo();
    let gateway = proxied(
        &origin,
        &[
            "match: { path: \"/a/{id}\" }, request: { query: { set: { v: \"2\", from: \"{request.headers.x-from}\", id: \"{id}\" }, remove: [debug, \"b c\"] } }",
            "match: { path: /b }, request: { query: { remove: [x] } }",
            "match: { path: /c }, request: { path: /d, query: { set: { v: \"1\" } } }",
        ],
    );
    let mut client = gateway.client();
    let from: Headers<'_> = &[("X-From", "a&b=c d")];
    let cases: [(&str, Headers<'_>, &str); 6] = [
        (
            "/a/7?v=1&q=%2f+x&debug=1&v=3&b+c=1&b%20c=2&e",
            from,
            "/a/7?q=%2f+x&e&from=a%26b%3Dc%20d&id=7&v=2",
        ),
        ("/a/a%20b", &[], "/a/a%20b?id=a%20b&v=2"),
        ("/a/7?%64ebug=1&from=me", &[], "/a/7?id=7&v=2"),
        ("/b?x=1", &[], "/b"),
        ("/b?y=1&x", &[], "/b?y=1"),
        ("/c?a=b", &[], "/d?a=b&v=1"),
    ];
    for (asked, headers, got) in cases {
        client.request("GET", asked, headers, b"").expect(200);
        assert_eq!(origin.last().target, got, "{asked}");
    }
}

#[test]
fn request_headers_are_set_added_renamed_and_removed() {
    let origin = Origin::echo();
    let gateway = proxied(
        &origin,
        &["match: { path: \"/a/{id}\" }, request: { headers: { \
            set: { X-Set: \"{id} {route.name} {client.ip}\", x-gone: \"{request.headers.x-none}\", x-user-id: ours }, \
            add: { x-tag: edge, x-none: \"{request.query.none}\" }, \
            rename: { x-old: x-new, x-lost: x-found }, remove: [Cookie, X-Secret] } }"],
    );
    let mut client = gateway.client();
    let sent = [
        ("X-Forwarded-For", "192.0.2.9"),
        ("X-Set", "theirs"),
        ("X-Gone", "theirs"),
        ("X-User-Id", "forged"),
        ("X-Tag", "client"),
        ("X-Old", "1"),
        ("X-Old", "2"),
        ("X-New", "theirs"),
        ("X-Found", "stays"),
        ("Cookie", "a=b"),
        ("x-secret", "s"),
        ("X-Other", "o"),
    ];
    client.request("GET", "/a/7", &sent, b"").expect(200);
    let seen = origin.last();
    let all = |name: &str| seen.headers_all(name);
    assert_eq!(all("x-set"), ["7 r0 192.0.2.9"]);
    assert_eq!(all("x-user-id"), ["ours"]);
    assert_eq!(all("x-tag"), ["client", "edge"]);
    assert_eq!(all("x-new"), ["1", "2"]);
    assert_eq!(all("x-found"), ["stays"]);
    assert_eq!(all("x-other"), ["o"]);
    for gone in ["x-gone", "x-none", "x-old", "x-lost", "cookie", "x-secret"] {
        assert!(all(gone).is_empty(), "{gone}");
    }
}

#[test]
fn a_header_may_hold_a_secret() {
    let origin = Origin::echo();
    let config = config(
        &origin,
        &[
            "match: { path: /a }, request: { headers: { set: { x-env: { env: DW_KEY }, x-file: { file: secrets/key }, \
            authorization: { credential: token } }, add: { x-added: { env: DW_KEY } } } }",
        ],
    );
    let gateway = Setup::new(&config)
        .env("DW_KEY", "from {env}")
        .file("secrets/key", "from file\n")
        .file("creds/token", "Bearer from-credential\r\n")
        .env("CREDENTIALS_DIRECTORY", "creds")
        .spawn();
    let sent = [("X-Env", "theirs"), ("Authorization", "theirs")];
    gateway
        .client()
        .request("GET", "/a", &sent, b"")
        .expect(200);
    let seen = origin.last();
    assert_eq!(seen.headers_all("x-env"), ["from {env}"]);
    assert_eq!(seen.headers_all("x-file"), ["from file"]);
    assert_eq!(
        seen.headers_all("authorization"),
        ["Bearer from-credential"]
    );
    assert_eq!(seen.headers_all("x-added"), ["from {env}"]);
    assert!(!gateway.log().contains("from-credential"));
}

#[test]
fn response_headers_are_set_added_renamed_and_removed() {
    let origin = Origin::answer(|_| {
        let headers = [
            ("X-Old", "1"),
            ("X-Old", "2"),
            ("X-New", "theirs"),
            ("X-Set", "theirs"),
            ("X-Tag", "origin"),
            ("X-Secret", "s"),
            ("ETag", "\"e\""),
            ("X-Other", "o"),
        ];
        Reply::fixed(201, &headers, "made")
    });
    let gateway = proxied(
        &origin,
        &["match: { path: \"/a/{id}\" }, response: { headers: { \
            set: { x-set: \"{response.status} {response.headers.etag} {id}\", x-gone: \"{response.headers.x-none}\" }, \
            add: { x-tag: edge }, rename: { x-old: x-new }, remove: [x-secret] } }"],
    );
    let answer = gateway.client().get("/a/7").expect(201);
    let all = |name: &str| answer.headers_all(name);
    assert_eq!(all("x-set"), ["201 \"e\" 7"]);
    assert_eq!(all("x-tag"), ["origin", "edge"]);
    assert_eq!(all("x-new"), ["1", "2"]);
    assert_eq!(all("x-other"), ["o"]);
    for gone in ["x-gone", "x-old", "x-secret"] {
        assert!(all(gone).is_empty(), "{gone}");
    }
    assert_eq!(answer.text(), "made");
}

/// An origin that answers with the header that the query quotes: `/path?Location=…`, `(o)` for its own authority.
fn telling() -> Origin {
    Origin::answer(|request: &Recorded| {
        let query = request.query.clone().unwrap_or_default();
        let (name, value) = query.split_once('=').expect("a header");
        let own = request.header("x-origin").unwrap_or_default();
        let value = value
            .replace("(o)", own)
            .replace("%22", "\"")
            .replace("%23", "#")
            .replace('+', " ");
        Reply::fixed(201, &[(name, &value)], "")
    })
}

/// What the client gets of a header that the origin sends.
#[track_caller]
fn header_back(gateway: &Gateway, origin: &Origin, path: &str, name: &str, value: &str) -> String {
    let target = format!("{path}?{name}={value}");
    let own = origin.addr().to_string();
    let target = target.replace('#', "%23");
    let sent = [("Host", "api.example.com"), ("X-Origin", own.as_str())];
    let answer = gateway
        .client()
        .request("GET", &target, &sent, b"")
        .expect(201);
    let all = answer.headers_all(name);
    assert!(all.len() <= 1, "{all:?}");
    all.first().copied().unwrap_or_default().to_owned()
}

#[track_caller]
fn check_addresses(gateway: &Gateway, origin: &Origin, cases: &[(&str, &str, &str)]) {
    let own = origin.addr().to_string();
    for name in ["Location", "Content-Location"] {
        for (path, sent, expected) in cases {
            let got = header_back(gateway, origin, path, name, sent);
            assert_eq!(got, expected.replace("(o)", &own), "{path} {name}: {sent}");
        }
    }
}

#[test]
fn addresses_of_the_upstream_become_addresses_of_the_gateway() {
    let origin = telling();
    let gateway = proxied(
        &origin,
        &[
            "match: { path: \"/v1/orders/{id}\" }, request: { path: \"/internal/{id}\" }",
            "match: { path_prefix: /api }, request: { path: \"{path}\", host: orders.internal }",
            "match: { path: \"/files/{rest*}\" }, request: { path: \"/store/{rest}\" }",
            "match: { path: /plain }",
        ],
    );
    let cases = [
        (
            "/v1/orders/7",
            "http://(o)/internal/8",
            "http://api.example.com/v1/orders/8",
        ),
        (
            "/v1/orders/7",
            "HTTP://(o)/internal/8?a=b#c",
            "http://api.example.com/v1/orders/8?a=b#c",
        ),
        (
            "/v1/orders/7",
            "//(o)/internal/8",
            "http://api.example.com/v1/orders/8",
        ),
        ("/v1/orders/7", "/internal/8?x", "/v1/orders/8?x"),
        ("/v1/orders/7", "/internal/8/more", "/internal/8/more"),
        (
            "/v1/orders/7",
            "http://(o)/elsewhere",
            "http://api.example.com/elsewhere",
        ),
        ("/v1/orders/7", "http://(o)", "http://api.example.com"),
        ("/v1/orders/7", "8", "8"),
        ("/v1/orders/7", "../internal/8", "../internal/8"),
        (
            "/v1/orders/7",
            "http://other.test/internal/8",
            "http://other.test/internal/8",
        ),
        (
            "/v1/orders/7",
            "//other.test/internal/8",
            "//other.test/internal/8",
        ),
        (
            "/v1/orders/7",
            "http://api.example.com/internal/8",
            "http://api.example.com/v1/orders/8",
        ),
        ("/v1/orders/7", "mailto:a@(o)", "mailto:a@(o)"),
    ];
    check_addresses(&gateway, &origin, &cases);
    let cases = [
        (
            "/api/a",
            "http://orders.internal/b/c",
            "http://api.example.com/api/b/c",
        ),
        ("/api/a", "http://(o)/b/c", "http://api.example.com/api/b/c"),
        ("/api/a", "/b/c", "/api/b/c"),
        ("/api/a", "/", "/api/"),
        ("/files/a/b", "/store/c/d", "/files/c/d"),
        ("/plain", "http://(o)/x", "http://api.example.com/x"),
        ("/plain", "/x", "/x"),
    ];
    check_addresses(&gateway, &origin, &cases);
}

#[test]
fn addresses_come_back_as_the_client_of_a_trusted_proxy_knows_them() {
    let origin = telling();
    let gateway = proxied(&origin, &["match: { path_prefix: / }"]);
    let target = format!("/a?Location=http://{}/b", origin.addr());
    let sent = [
        ("Host", "inner.test"),
        ("X-Forwarded-For", "192.0.2.1"),
        ("X-Forwarded-Host", "shop.example.com"),
        ("X-Forwarded-Proto", "https"),
    ];
    let answer = gateway.client().request("GET", &target, &sent, b"");
    assert_eq!(
        answer.header("location"),
        Some("https://shop.example.com/b")
    );
}

#[test]
fn the_asked_host_with_the_upstreams_own_port_is_the_gateway() {
    let origin = telling();
    let gateway = proxied(
        &origin,
        &["match: { path_prefix: /api }, request: { path: \"{path}\" }"],
    );
    let port = origin.addr().port();
    for (location, expected) in [
        (
            format!("http://api.example.com:{port}/docs/"),
            "http://api.example.com/api/docs/".to_owned(),
        ),
        (
            "http://api.example.com:1/docs/".to_owned(),
            "http://api.example.com:1/docs/".to_owned(),
        ),
        (
            format!("http://other.test:{port}/docs/"),
            format!("http://other.test:{port}/docs/"),
        ),
    ] {
        let target = format!("/api/docs?Location={location}");
        let sent = [("Host", "api.example.com")];
        let answer = gateway.client().request("GET", &target, &sent, b"");
        assert_eq!(answer.header("location"), Some(expected.as_str()));
    }
}

#[test]
fn rewrite_location_false_leaves_addresses_and_cookies() {
    let origin = telling();
    let gateway = proxied(
        &origin,
        &[
            "match: { path: \"/v1/orders/{id}\" }, request: { path: \"/internal/{id}\", host: orders.internal }, response: { rewrite_location: false }",
        ],
    );
    let cases = [
        ("Location", "http://orders.internal/internal/8"),
        ("Location", "/internal/8"),
        ("Content-Location", "//orders.internal/internal/8"),
        (
            "Set-Cookie",
            "a=b;+Domain=orders.internal;+Path=/internal/7",
        ),
    ];
    for (name, sent) in cases {
        let got = header_back(&gateway, &origin, "/v1/orders/7", name, sent);
        assert_eq!(got, sent.replace('+', " "), "{name}");
    }
}

#[test]
fn cookies_of_the_upstream_become_cookies_of_the_gateway() {
    let origin = telling();
    let gateway = proxied(
        &origin,
        &[
            "match: { path_prefix: /api }, request: { path: \"{path}\", host: \"orders.internal:8080\" }",
            "match: { path_prefix: /v1 }, request: { path: \"/internal{path}\" }",
        ],
    );
    let cases = [
        (
            "/api/a",
            "a=b;+Domain=orders.internal;+Path=/;+HttpOnly",
            "a=b; Path=/api; HttpOnly",
        ),
        (
            "/api/a",
            "a=b;+domain=.Orders.Internal;+path=/x;+Secure;+SameSite=Lax",
            "a=b; path=/api/x; Secure; SameSite=Lax",
        ),
        ("/api/a", "a=b;+Domain=other.test", "a=b; Domain=other.test"),
        (
            "/api/a",
            "a=\"b=/c\";+Expires=Wed,+21+Oct+2026+07:28:00+GMT;+Max-Age=5",
            "a=\"b=/c\"; Expires=Wed, 21 Oct 2026 07:28:00 GMT; Max-Age=5",
        ),
        ("/api/a", "a=b", "a=b"),
        ("/v1/a", "a=b;+Path=/internal/x", "a=b; Path=/v1/x"),
        ("/v1/a", "a=b;+Path=/internal", "a=b; Path=/v1"),
        ("/v1/a", "a=b;+Path=/internals", "a=b; Path=/internals"),
        ("/v1/a", "a=b;+Path=/", "a=b; Path=/"),
        ("/v1/a", "a=b;+Domain=127.0.0.1", "a=b"),
    ];
    for (path, sent, expected) in cases {
        let got = header_back(&gateway, &origin, path, "Set-Cookie", sent);
        assert_eq!(got, expected, "{path} {sent}");
    }
}

#[test]
fn cookies_belong_where_the_route_says() {
    let origin = Origin::answer(|_| {
        let cookies = [
            (
                "Set-Cookie",
                "a=1; Domain=anything.test; Path=/deep; Secure",
            ),
            ("Set-Cookie", "b=2"),
            ("Set-Cookie", "c=3; Path=/c"),
        ];
        Reply::fixed(200, &cookies, "")
    });
    let gateway = proxied(
        &origin,
        &[
            "match: { path: /both }, response: { cookies: { domain: api.example.com, path: /v1 } }",
            "match: { path: /off }, response: { rewrite_location: false, cookies: { path: /v2 } }",
        ],
    );
    let mut client = gateway.client();
    assert_eq!(
        client.get("/both").headers_all("set-cookie"),
        [
            "a=1; Domain=api.example.com; Path=/v1; Secure",
            "b=2",
            "c=3; Path=/v1"
        ]
    );
    assert_eq!(
        client.get("/off").headers_all("set-cookie"),
        [
            "a=1; Domain=anything.test; Path=/v2; Secure",
            "b=2",
            "c=3; Path=/v2"
        ]
    );
}

#[test]
fn a_redirect_changes_what_it_names_and_keeps_the_rest() {
    let gateway = local(
        r#"
  - { name: all, match: { path_prefix: /old }, redirect: { scheme: https, host: "www.example.com:8443", path: "/v1{path}", status: 301 } }
  - { name: host, match: { path: /host }, redirect: { host: www.example.com } }
  - { name: scheme, match: { path: /scheme }, redirect: { scheme: https } }
  - { name: path, match: { path: "/path/{id}" }, redirect: { path: "/new/{id}", status: 303 } }
  - { name: strip, match: { path_prefix: /strip }, redirect: { path: "{path}", status: 307 } }
  - { name: found, match: { path: /found }, redirect: { path: /x, status: 302 } }
"#,
    );
    let mut client = gateway.client();
    let cases = [
        (
            "/old/a/b?c=d&e=%7e",
            301,
            "https://www.example.com:8443/v1/a/b?c=d&e=%7e",
        ),
        ("/old", 301, "https://www.example.com:8443/v1"),
        ("/host?x", 308, "http://www.example.com/host?x"),
        ("/scheme", 308, "https://api.example.com/scheme"),
        ("/path/a%20b?", 303, "/new/a%20b?"),
        ("/path/7", 303, "/new/7"),
        ("/strip//evil.test/x", 307, "/evil.test/x"),
        ("/strip", 307, "/"),
        ("/found", 302, "/x"),
    ];
    for (asked, status, location) in cases {
        let answer = client.request("GET", asked, &[("Host", "api.example.com:8080")], b"");
        assert_eq!(
            (answer.status, answer.header("location")),
            (status, Some(location)),
            "{asked}"
        );
        assert_eq!(answer.header("content-length"), Some("0"));
    }
    let post = client.request("POST", "/host", &[("Host", "a.test")], b"small");
    assert_eq!(
        post.expect(308).header("location"),
        Some("http://www.example.com/host")
    );
    client.get("/found").expect(302);
}

fn kind(answer: &Response) -> Option<&str> {
    answer.header("content-type")
}

#[test]
fn a_fixed_answer_has_its_status_headers_and_text() {
    let gateway = local(
        r#"
  - { name: text, match: { path: "/text/{id}" }, respond: { status: 418, headers: { Cache-Control: no-store, x-id: "{id}", x-none: "{request.headers.x-none}" }, text: "hello {client.ip} {{{id}}}" } }
  - { name: empty, match: { path: /empty }, respond: { status: 204 } }
  - { name: default, match: { path: /default }, respond: {} }
"#,
    );
    let mut client = gateway.client();
    let from = [("X-Forwarded-For", "192.0.2.9")];
    let text = client.request("GET", "/text/a%20b", &from, b"").expect(418);
    assert_eq!(kind(&text), Some("text/plain; charset=utf-8"));
    assert_eq!(text.text(), "hello 192.0.2.9 {a b}");
    assert_eq!(text.header("cache-control"), Some("no-store"));
    assert_eq!(text.headers_all("x-id"), ["a b"]);
    assert_eq!(text.header("x-none"), None);
    let empty = client.get("/empty").expect(204);
    assert_eq!((empty.header("content-length"), kind(&empty)), (None, None));
    let default = client.get("/default").expect(200);
    assert_eq!(default.header("content-length"), Some("0"));
    assert_eq!(kind(&default), None);
    assert!(default.header("x-request-id").is_some() && default.header("date").is_some());
}

#[test]
fn a_fixed_answer_may_be_json() {
    let gateway = local(
        r#"
  - { name: json, match: { path: /json }, respond: { status: 201, json: { n: 1, b: true, list: [1, "{request.method}"], who: "{request.query.who}", path: "{request.path}" } } }
"#,
    );
    let mut client = gateway.client();
    let json = client.get("/json").expect(201);
    assert_eq!(kind(&json), Some("application/json"));
    assert_eq!(
        json.json(),
        serde_json::json!({ "n": 1, "b": true, "list": [1, "GET"], "path": "/json" })
    );
    let who = client.get("/json?who=%22me%22").json();
    assert_eq!(who["who"], "\"me\"");
}

#[test]
fn a_fixed_answer_may_be_a_file() {
    let gateway = Setup::new(&format!(
        "{LISTENER}{}",
        r#"
routes:
  - { name: html, match: { path: /html }, respond: { file: pages/a.html } }
  - { name: css, match: { path: /css }, respond: { file: pages/a.css, headers: { content-type: text/x-own } } }
"#
    ))
    .file("pages/a.html", "<p>{id}</p>")
    .file("pages/a.css", "p {}")
    .spawn();
    let mut client = gateway.client();
    let html = client.get("/html").expect(200);
    assert_eq!(html.text(), "<p>{id}</p>");
    assert_eq!(kind(&html), Some("text/html; charset=utf-8"));
    let css = client.get("/css").expect(200);
    assert_eq!(
        (css.text().as_str(), kind(&css)),
        ("p {}", Some("text/x-own"))
    );
    let head = client.head("/html").expect(200);
    assert_eq!(head.header("content-length"), Some("11"));
}

#[test]
fn maintenance_answers_503_with_a_time_to_come_back() {
    let origin = Origin::echo();
    let gateway = proxied(
        &origin,
        &[
            "match: { path: /told }, maintenance: { retry_after: 10m, message: \"Back at <noon>.\" }",
            "match: { path: /plain }, maintenance: {}",
        ],
    );
    let mut client = gateway.client();
    let told = client.get("/told").expect(503);
    assert_eq!(told.header("retry-after"), Some("600"));
    assert_eq!(told.json()["detail"], "Back at <noon>.");
    assert_eq!(told.json()["type"], "urn:doorward:error:maintenance");
    let page = client
        .request("GET", "/told", &[("Accept", "text/html")], b"")
        .expect(503);
    assert!(page.text().contains("Back at &lt;noon&gt;."));
    let plain = client.get("/plain").expect(503);
    assert_eq!(plain.headers_all("retry-after"), ["60"]);
    assert_eq!(
        plain.json()["detail"],
        "This address is closed for maintenance."
    );
    assert_eq!(origin.count(), 0);
}

#[test]
fn the_end_of_a_version_is_told_in_headers_and_then_410() {
    let origin = Origin::answer(|_| Reply::fixed(200, &[("Link", "</own>; rel=\"self\"")], "x"));
    let gateway = proxied(
        &origin,
        &[
            "name: old, match: { path: \"/v1/orders/{id}\" }, lifecycle: { deprecated: 2020-09-01, sunset: 2100-03-01, successor: new, docs: \"https://docs.example.com/v2\" }",
            "name: new, match: { path: \"/v2/orders/{id}\" }",
            "name: list, match: { path: /v1/orders }, lifecycle: { successor: new }",
            "name: tree, match: { path_prefix: /v1/tree }, lifecycle: { successor: trees }",
            "name: trees, match: { path_prefix: /v2/tree/ }",
            "name: files, match: { path: \"/v1/files/{rest*}\" }, lifecycle: { successor: new-files }",
            "name: new-files, match: { path: \"/v2/files/{rest*}\" }",
            "name: gone, match: { path: /gone }, lifecycle: { deprecated: 2019-01-01, sunset: \"2020-01-01T00:00:00Z\", docs: \"https://docs.example.com/bye\" }",
        ],
    );
    let mut client = gateway.client();
    let old = client.get("/v1/orders/a%20b").expect(200);
    assert_eq!(old.headers_all("deprecation"), ["@1598918400"]);
    assert_eq!(old.headers_all("sunset"), ["Mon, 01 Mar 2100 00:00:00 GMT"]);
    assert_eq!(
        old.headers_all("link"),
        [
            "</own>; rel=\"self\"",
            "<https://docs.example.com/v2>; rel=\"deprecation\"; type=\"text/html\"",
            "<https://docs.example.com/v2>; rel=\"sunset\"; type=\"text/html\"",
            "</v2/orders/a%20b>; rel=\"successor-version\"",
        ]
    );
    let new = client.get("/v2/orders/7").expect(200);
    assert_eq!(
        (new.header("deprecation"), new.header("sunset")),
        (None, None)
    );
    let link = |answer: Response| answer.headers_all("link")[1].to_owned();
    assert_eq!(
        link(client.get("/v1/orders")),
        "</v2/orders>; rel=\"successor-version\""
    );
    assert_eq!(
        link(client.get("/v1/tree/x")),
        "</v2/tree>; rel=\"successor-version\""
    );
    assert_eq!(
        link(client.get("/v1/files/a/b")),
        "</v2/files/a/b>; rel=\"successor-version\""
    );
    let before = origin.count();
    let gone = client.get("/gone").expect(410);
    assert_eq!(gone.json()["type"], "urn:doorward:error:gone");
    assert_eq!(gone.header("sunset"), Some("Wed, 01 Jan 2020 00:00:00 GMT"));
    assert_eq!(
        gone.header("link"),
        Some("<https://docs.example.com/bye>; rel=\"deprecation\"; type=\"text/html\"")
    );
    assert_eq!(origin.count(), before);
}

#[test]
fn problems_have_the_type_words_and_page_of_the_config() {
    let gateway = Setup::new(&format!(
        "{LISTENER}{}",
        r#"
errors:
  type_base: "https://errors.example.com/"
  html_file: page.html
  override: { not_found: { title: "Nothing <here>", detail: "Look elsewhere." }, method_not_allowed: { detail: "Not so." } }
routes:
  - { name: a, match: { path: /a, methods: [GET] }, respond: { text: a } }
"#
    ))
    .file("page.html", "<h1>{status} {title}</h1>{detail}|{instance}|{other}")
    .spawn();
    let mut client = gateway.client();
    let problem = client.get("/none").expect(404).json();
    assert_eq!(problem["type"], "https://errors.example.com/not_found");
    assert_eq!(
        (&problem["title"], &problem["detail"]),
        (&"Nothing <here>".into(), &"Look elsewhere.".into())
    );
    let problem = client.request("POST", "/a", &[], b"").expect(405).json();
    assert_eq!(
        (&problem["title"], &problem["detail"]),
        (&"Method not allowed".into(), &"Not so.".into())
    );
    let page = client
        .request("GET", "/none", &[("Accept", "text/html")], b"")
        .expect(404);
    let id = page.header("x-request-id").expect("an id");
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert_eq!(
        page.text(),
        format!("<h1>404 Nothing &lt;here&gt;</h1>Look elsewhere.|{id}|{{other}}")
    );
    client.send_raw(b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n");
    let refused = client.response("GET").expect(400).json();
    assert_eq!(refused["type"], "https://errors.example.com/bad_host");
}
