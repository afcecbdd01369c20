//! Which route a request falls under: every key of `match`, what is answered where none does, and what routes inherit.
#![expect(
    clippy::expect_used,
    reason = "a test stops at the first thing that is not as expected"
)]

use super::support::{Client, Gateway, Origin, Response};

type Headers<'a> = &'a [(&'a str, &'a str)];

/// A gateway on which every route answers its own name.
fn named(routes: &[(&str, &str)]) -> Gateway {
    Gateway::spawn(&format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\", trusted_proxies: [127.0.0.0/8] }} }}\n{}",
        answering(routes)
    ))
}

fn answering(routes: &[(&str, &str)]) -> String {
    let route = |(name, matches): &(&str, &str)| {
        format!("  - {{ name: {name}, match: {{ {matches} }}, respond: {{ text: {name} }} }}\n")
    };
    format!("routes:\n{}", routes.iter().map(route).collect::<String>())
}

/// The name of the route that answered, or the status of another answer.
fn told(response: &Response) -> String {
    if response.status == 200 {
        response.text()
    } else {
        response.status.to_string()
    }
}

/// Sends each request (`GET http://host/path`, then headers) and compares which route answered.
#[track_caller]
fn check(gateway: &Gateway, cases: &[(&str, Headers<'_>, &str)]) {
    let mut client = gateway.client();
    for (request, headers, expected) in cases {
        let response = send(&mut client, request, headers);
        assert_eq!(&told(&response), expected, "{request} {headers:?}");
        if response.header("connection") == Some("close") {
            client = gateway.client();
        }
    }
}

fn send(client: &mut Client, request: &str, headers: &[(&str, &str)]) -> Response {
    let (method, url) = request.split_once(' ').expect("a method and a URL");
    let rest = url.strip_prefix("http://").expect("a URL");
    let (host, path) = rest.split_at(rest.find('/').expect("a path"));
    let mut all = vec![("Host", host)];
    all.extend_from_slice(headers);
    client.request(method, path, &all, b"")
}

#[test]
fn exact_host_then_longest_wildcard_then_any() {
    let gateway = named(&[
        ("any", "path_prefix: /"),
        ("wide", "hosts: [\"*.example.com\"]"),
        ("long", "hosts: [\"*.eu.example.com\"]"),
        ("exact", "hosts: [api.eu.example.com, other.test]"),
    ]);
    check(
        &gateway,
        &[
            ("GET http://api.eu.example.com/", &[], "exact"),
            ("GET http://other.test/", &[], "exact"),
            ("GET http://www.eu.example.com/", &[], "long"),
            ("GET http://a.b.eu.example.com/", &[], "long"),
            ("GET http://eu.example.com/", &[], "wide"),
            ("GET http://a.b.example.com/", &[], "wide"),
            ("GET http://example.com/", &[], "any"),
            ("GET http://badexample.com/", &[], "any"),
        ],
    );
}

#[test]
fn case_port_and_trailing_dot_of_a_host_make_no_difference() {
    let gateway = named(&[
        ("api", "hosts: [API.example.com]"),
        ("wild", "hosts: [\"*.Wild.test\"]"),
    ]);
    check(
        &gateway,
        &[
            ("GET http://api.example.com/", &[], "api"),
            ("GET http://API.Example.COM/", &[], "api"),
            ("GET http://api.example.com:8443/", &[], "api"),
            ("GET http://api.example.com./", &[], "api"),
            ("GET http://Api.Example.Com.:80/", &[], "api"),
            ("GET http://A.WILD.test.:1/", &[], "wild"),
            ("GET http://api.example.org/", &[], "404"),
        ],
    );
}

#[test]
fn an_exact_path_is_that_path_only() {
    let gateway = named(&[
        ("a", "path: /v1/a"),
        ("slash", "path: /v1/b/"),
        ("root", "path: /"),
    ]);
    check(
        &gateway,
        &[
            ("GET http://x.test/v1/a", &[], "a"),
            ("GET http://x.test/v1/a?b=/v1/b/", &[], "a"),
            ("GET http://x.test/v1/a/", &[], "404"),
            ("GET http://x.test/v1/A", &[], "404"),
            ("GET http://x.test/v1/a/b", &[], "404"),
            ("GET http://x.test/v1/b/", &[], "slash"),
            ("GET http://x.test/v1/b", &[], "404"),
            ("GET http://x.test/", &[], "root"),
        ],
    );
}

#[test]
fn a_path_is_canonical_before_it_is_matched() {
    let gateway = named(&[
        ("a", "path: /v1/a~b"),
        ("guarded", "path_prefix: /admin"),
        ("rest", "path_prefix: /"),
    ]);
    check(
        &gateway,
        &[
            ("GET http://x.test/v1/%61~b", &[], "a"),
            ("GET http://x.test/v1/a%7Eb", &[], "a"),
            ("GET http://x.test/%61dmin/x", &[], "guarded"),
            ("GET http://x.test/x/../admin", &[], "guarded"),
            ("GET http://x.test/../admin", &[], "400"),
            ("GET http://x.test/x%2Fadmin", &[], "400"),
        ],
    );
    let mut client = gateway.client();
    let absolute = client.request("GET", "http://x.test/v1/a~b", &[("Host", "x.test")], b"");
    assert_eq!(absolute.expect(200).text(), "a");
}

#[test]
fn a_template_matches_one_segment_a_parameter() {
    let gateway = Gateway::spawn(
        r#"
version: 1
listeners: { public: { address: "127.0.0.1:0" } }
routes:
  - { name: order, match: { path: "/v1/orders/{id}" }, respond: { text: "order {id}" } }
  - { name: item, match: { path: "/v1/orders/{id}/items/{item}" }, respond: { text: "item {id} {item}" } }
  - { name: number, match: { path: "/n/{n:[0-9]+}" }, respond: { text: "number {n}" } }
  - { name: word, match: { path: "/n/{w}" }, respond: { text: "word {w}" } }
  - { name: file, match: { path: "/files/{path*}" }, respond: { text: "file {path}" } }
"#,
    );
    check(
        &gateway,
        &[
            ("GET http://x.test/v1/orders/7", &[], "order 7"),
            ("GET http://x.test/v1/orders/a%20b", &[], "order a b"),
            ("GET http://x.test/v1/orders/", &[], "404"),
            ("GET http://x.test/v1/orders/7/", &[], "404"),
            ("GET http://x.test/v1/orders/7/items/9", &[], "item 7 9"),
            ("GET http://x.test/v1/orders/7/x/9", &[], "404"),
            ("GET http://x.test/n/12", &[], "number 12"),
            ("GET http://x.test/n/12a", &[], "word 12a"),
            ("GET http://x.test/files/a/b.txt", &[], "file a/b.txt"),
            ("GET http://x.test/filesx/a", &[], "404"),
        ],
    );
}

#[test]
fn a_prefix_matches_whole_segments() {
    let gateway = named(&[
        ("v1", "path_prefix: /v1"),
        ("deep", "path_prefix: /v1/deep/er"),
        ("slash", "path_prefix: /v2/"),
    ]);
    check(
        &gateway,
        &[
            ("GET http://x.test/v1", &[], "v1"),
            ("GET http://x.test/v1/", &[], "v1"),
            ("GET http://x.test/v1/x/y", &[], "v1"),
            ("GET http://x.test/v1x", &[], "404"),
            ("GET http://x.test/v1/deep", &[], "v1"),
            ("GET http://x.test/v1/deep/er", &[], "deep"),
            ("GET http://x.test/v1/deep/er/x", &[], "deep"),
            ("GET http://x.test/v1/deep/erx", &[], "v1"),
            ("GET http://x.test/v2/x", &[], "slash"),
            ("GET http://x.test/v", &[], "404"),
        ],
    );
}

#[test]
fn a_regex_is_anchored_and_its_groups_are_parameters() {
    let gateway = Gateway::spawn(
        r#"
version: 1
listeners: { public: { address: "127.0.0.1:0" } }
routes:
  - { name: year, match: { path_regex: "/(?P<year>[0-9]{4})/(?P<rest>[a-z]+)" }, respond: { text: "{year} {rest}" } }
"#,
    );
    check(
        &gateway,
        &[
            ("GET http://x.test/2026/nov", &[], "2026 nov"),
            ("GET http://x.test/2026/nov/", &[], "404"),
            ("GET http://x.test/x/2026/nov", &[], "404"),
            ("GET http://x.test/226/nov", &[], "404"),
        ],
    );
}

#[test]
fn exact_path_before_template_before_prefix_before_regex() {
    let gateway = named(&[
        ("regex", "path_regex: \"/a/.*\", priority: 1000"),
        ("prefix", "path_prefix: /a"),
        ("longer", "path_prefix: /a/b/c"),
        ("template", "path: \"/a/{x}\""),
        ("literal", "path: \"/a/{x}/{y}/d\""),
        ("loose", "path: \"/a/{x}/{y}/{z}\""),
        ("exact", "path: /a/b"),
    ]);
    check(
        &gateway,
        &[
            ("GET http://x.test/a/b", &[], "exact"),
            ("GET http://x.test/a/c", &[], "template"),
            ("GET http://x.test/a/1/2/d", &[], "literal"),
            ("GET http://x.test/a/1/2/3", &[], "loose"),
            ("GET http://x.test/a/b/c", &[], "longer"),
            ("GET http://x.test/a/1/2", &[], "prefix"),
            ("GET http://x.test/a", &[], "prefix"),
        ],
    );
    let gateway = named(&[
        ("regex", "path_regex: \"/a/[0-9]+\""),
        ("root", "path_prefix: /zz"),
    ]);
    check(&gateway, &[("GET http://x.test/a/1", &[], "regex")]);
}

#[test]
fn methods_decide_and_what_is_left_falls_to_the_next_route() {
    let gateway = named(&[
        ("read", "path: /a, methods: [GET]"),
        ("write", "path: /a, methods: [POST, PUT]"),
        ("own", "path: /a, methods: [REPORT]"),
        ("rest", "path_prefix: /, methods: [PATCH]"),
    ]);
    check(
        &gateway,
        &[
            ("GET http://x.test/a", &[], "read"),
            ("POST http://x.test/a", &[], "write"),
            ("PUT http://x.test/a", &[], "write"),
            ("REPORT http://x.test/a", &[], "own"),
            ("PATCH http://x.test/a", &[], "rest"),
            ("get http://x.test/a", &[], "400"),
        ],
    );
}

#[test]
fn another_method_gets_405_with_allow() {
    let gateway = named(&[
        ("read", "path: /a, methods: [GET]"),
        ("remove", "path: \"/{any}\", methods: [DELETE, REPORT]"),
        ("elsewhere", "path: /b, methods: [PATCH]"),
    ]);
    let mut client = gateway.client();
    let refused = send(&mut client, "POST http://x.test/a", &[]).expect(405);
    assert_eq!(
        refused.header("allow"),
        Some("GET, HEAD, DELETE, OPTIONS, REPORT")
    );
    assert_eq!(
        refused.json()["type"],
        "urn:doorward:error:method_not_allowed"
    );
    let refused = send(&mut client, "GET http://x.test/c", &[]).expect(405);
    assert_eq!(refused.header("allow"), Some("DELETE, OPTIONS, REPORT"));
    let nothing = send(&mut client, "GET http://x.test/a/b", &[]).expect(404);
    assert_eq!(nothing.header("allow"), None);
    assert_eq!(nothing.json()["type"], "urn:doorward:error:not_found");
}

#[test]
fn options_is_answered_unless_a_route_takes_it() {
    let gateway = named(&[
        ("read", "path: /a, methods: [GET, PUT]"),
        ("own", "path: /own, methods: [OPTIONS]"),
        ("all", "path: /all"),
    ]);
    let mut client = gateway.client();
    let automatic = send(&mut client, "OPTIONS http://x.test/a", &[]).expect(204);
    assert_eq!(automatic.header("allow"), Some("GET, HEAD, PUT, OPTIONS"));
    let preflight = [
        ("Origin", "http://o.test"),
        ("Access-Control-Request-Method", "PUT"),
    ];
    let plain = send(&mut client, "OPTIONS http://x.test/a", &preflight).expect(204);
    assert_eq!(plain.header("access-control-allow-origin"), None);
    assert_eq!(
        told(&send(&mut client, "OPTIONS http://x.test/own", &[])),
        "own"
    );
    assert_eq!(
        told(&send(&mut client, "OPTIONS http://x.test/all", &[])),
        "all"
    );
    send(&mut client, "OPTIONS http://x.test/none", &[]).expect(404);
    let whole = client.request("OPTIONS", "*", &[("Host", "x.test")], b"");
    assert!(whole.expect(204).header("allow").is_some());
}

#[test]
fn head_is_a_get_without_a_body() {
    let gateway = named(&[
        ("read", "path: /a, methods: [GET]"),
        ("write", "path: /b, methods: [PUT]"),
    ]);
    let mut client = gateway.client();
    let head = send(&mut client, "HEAD http://x.test/a", &[]).expect(200);
    assert_eq!(
        (head.header("content-length"), &head.body[..]),
        (Some("4"), &b""[..])
    );
    let refused = send(&mut client, "HEAD http://x.test/b", &[]).expect(405);
    assert!(refused.body.is_empty());
    assert_eq!(told(&send(&mut client, "GET http://x.test/a", &[])), "read");
}

#[test]
fn headers_are_tested_in_every_way() {
    let gateway = named(&[
        ("exact", "path: /a, headers: { X-Kind: { exact: one } }"),
        ("prefix", "path: /a, headers: { x-kind: { prefix: two- } }"),
        (
            "regex",
            "path: /a, headers: { x-kind: { regex: \"[0-9]+\" } }, priority: 1",
        ),
        ("present", "path: /b, headers: { x-kind: present }"),
        ("absent", "path: /b, headers: { x-kind: absent }"),
    ]);
    check(
        &gateway,
        &[
            ("GET http://x.test/a", &[("X-Kind", "one")], "exact"),
            ("GET http://x.test/a", &[("x-kinD", "two-x")], "prefix"),
            ("GET http://x.test/a", &[("x-kind", "123")], "regex"),
            ("GET http://x.test/a", &[("x-kind", "123a")], "404"),
            ("GET http://x.test/a", &[("x-kind", "one more")], "404"),
            ("GET http://x.test/a", &[("x-kind", "ONE")], "404"),
            ("GET http://x.test/a", &[], "404"),
            ("GET http://x.test/b", &[("x-kind", "any")], "present"),
            ("GET http://x.test/b", &[], "absent"),
        ],
    );
}

#[test]
fn query_parameters_are_tested_in_every_way() {
    let gateway = named(&[
        ("exact", "path: /a, query: { kind: { exact: \"a b\" } }"),
        ("prefix", "path: /a, query: { kind: { prefix: two- } }"),
        (
            "regex",
            "path: /a, query: { kind: { regex: \"[0-9]+\" } }, priority: 1",
        ),
        ("present", "path: /b, query: { kind: present }"),
        ("absent", "path: /b, query: { kind: absent }"),
    ]);
    check(
        &gateway,
        &[
            ("GET http://x.test/a?kind=a+b", &[], "exact"),
            ("GET http://x.test/a?x=1&k%69nd=a%20b", &[], "exact"),
            ("GET http://x.test/a?kind=two-3", &[], "prefix"),
            ("GET http://x.test/a?kind=77", &[], "regex"),
            ("GET http://x.test/a?kind=77x", &[], "404"),
            ("GET http://x.test/a?Kind=77", &[], "404"),
            ("GET http://x.test/a", &[], "404"),
            ("GET http://x.test/b?kind", &[], "present"),
            ("GET http://x.test/b?kinds=1", &[], "absent"),
        ],
    );
}

#[test]
fn cookies_are_tested_in_every_way() {
    let gateway = named(&[
        ("exact", "path: /a, cookies: { kind: { exact: one } }"),
        ("prefix", "path: /a, cookies: { kind: { prefix: two- } }"),
        (
            "regex",
            "path: /a, cookies: { kind: { regex: \"[0-9]+\" } }, priority: 1",
        ),
        ("present", "path: /b, cookies: { kind: present }"),
        ("absent", "path: /b, cookies: { kind: absent }"),
    ]);
    check(
        &gateway,
        &[
            (
                "GET http://x.test/a",
                &[("Cookie", "a=b; kind=one")],
                "exact",
            ),
            (
                "GET http://x.test/a",
                &[("cookie", "kind=two-2; c=d")],
                "prefix",
            ),
            ("GET http://x.test/a", &[("cookie", "kind=5")], "regex"),
            ("GET http://x.test/a", &[("cookie", "kinds=5")], "404"),
            ("GET http://x.test/b", &[("cookie", "kind=")], "present"),
            ("GET http://x.test/b", &[("cookie", "unkind=1")], "absent"),
        ],
    );
}

#[test]
fn the_client_is_who_a_trusted_proxy_says() {
    let routes = answering(&[
        (
            "office",
            "path: /a, client_ips: [192.0.2.0/24, \"2001:db8::/32\"]",
        ),
        ("loop", "path: /a, client_ips: [127.0.0.1]"),
    ]);
    let gateway = Gateway::spawn(&format!(
        "version: 1\nlisteners:\n  public: {{ address: \"127.0.0.1:0\", trusted_proxies: [127.0.0.0/8, 10.0.0.0/8] }}\n  strict: {{ address: \"127.0.0.1:0\" }}\n{routes}"
    ));
    check(
        &gateway,
        &[
            ("GET http://x.test/a", &[], "loop"),
            (
                "GET http://x.test/a",
                &[("X-Forwarded-For", "192.0.2.9")],
                "office",
            ),
            (
                "GET http://x.test/a",
                &[("X-Forwarded-For", "192.0.2.9, 10.1.1.1")],
                "office",
            ),
            (
                "GET http://x.test/a",
                &[("X-Forwarded-For", "192.0.2.9, 8.8.8.8")],
                "404",
            ),
            (
                "GET http://x.test/a",
                &[("Forwarded", "for=\"[2001:db8::7]\"")],
                "office",
            ),
            ("GET http://x.test/a", &[("X-Real-IP", "192.0.2.9")], "loop"),
        ],
    );
    let mut client = Client::connect(gateway.addr_of("strict"));
    let forged = [
        ("X-Forwarded-For", "192.0.2.9"),
        ("Forwarded", "for=192.0.2.9"),
    ];
    assert_eq!(
        told(&send(&mut client, "GET http://x.test/a", &forged)),
        "loop"
    );
}

#[test]
fn a_route_holds_between_after_and_before() {
    let gateway = named(&[
        (
            "now",
            "path: /a, after: 2020-01-01, before: \"2100-01-01T00:00:00Z\"",
        ),
        ("future", "path: /b, after: 2100-01-01"),
        ("past", "path: /c, before: 2020-01-01"),
        ("since", "path: /d, after: 2020-01-01"),
        ("until", "path: /d, before: 2020-01-01"),
    ]);
    check(
        &gateway,
        &[
            ("GET http://x.test/a", &[], "now"),
            ("GET http://x.test/b", &[], "404"),
            ("GET http://x.test/c", &[], "404"),
            ("GET http://x.test/d", &[], "since"),
        ],
    );
}

/// Two versions of one address, the older by default.
fn versions(place: &str) -> Gateway {
    named(&[
        (
            "old",
            &format!(
                "path: /a, version: {{ {place}, any_of: [\"2025-01\", \"2025-07\"], default: true }}"
            ),
        ),
        (
            "new",
            &format!("path: /a, version: {{ {place}, any_of: [\"2026-07\"] }}"),
        ),
    ])
}

#[test]
fn a_version_is_named_in_a_header() {
    check(
        &versions("header: Api-Version"),
        &[
            ("GET http://x.test/a", &[], "old"),
            ("GET http://x.test/a", &[("api-version", "2025-07")], "old"),
            ("GET http://x.test/a", &[("api-version", "2026-07")], "new"),
            ("GET http://x.test/a", &[("api-version", "2024-01")], "404"),
        ],
    );
}

#[test]
fn a_version_is_named_in_the_query() {
    check(
        &versions("query: v"),
        &[
            ("GET http://x.test/a", &[], "old"),
            ("GET http://x.test/a?v=2025-01", &[], "old"),
            ("GET http://x.test/a?x=1&v=2026-07", &[], "new"),
            ("GET http://x.test/a?v=2024-01", &[], "404"),
        ],
    );
}

#[test]
fn a_version_is_named_in_a_media_type() {
    let accept = |value: &'static str| [("Accept", value)];
    check(
        &versions("media_type: version"),
        &[
            ("GET http://x.test/a", &accept("application/json"), "old"),
            (
                "GET http://x.test/a",
                &accept("application/json; version=2025-07"),
                "old",
            ),
            (
                "GET http://x.test/a",
                &accept("text/html, application/json;version=\"2026-07\""),
                "new",
            ),
            (
                "GET http://x.test/a",
                &accept("application/json;version=2024-01"),
                "404",
            ),
        ],
    );
}

#[test]
fn a_version_is_the_first_segment_of_the_path() {
    let gateway = named(&[
        (
            "old",
            "path: /a, version: { path: true, any_of: [v1], default: true }",
        ),
        ("new", "path: /a, version: { path: true, any_of: [v2, v3] }"),
        (
            "tree",
            "path_prefix: /t, version: { path: true, any_of: [v2] }",
        ),
    ]);
    check(
        &gateway,
        &[
            ("GET http://x.test/a", &[], "old"),
            ("GET http://x.test/v1/a", &[], "old"),
            ("GET http://x.test/v2/a", &[], "new"),
            ("GET http://x.test/v3/a", &[], "new"),
            ("GET http://x.test/v4/a", &[], "404"),
            ("GET http://x.test/v2/t/x", &[], "tree"),
            ("GET http://x.test/t/x", &[], "404"),
        ],
    );
}

#[test]
fn an_expression_over_request_params_and_client_decides() {
    let gateway = named(&[
        (
            "beta",
            "path: \"/a/{id}\", when: 'request.headers[\"x-beta\"] == \"1\" && params.id.startsWith(\"b\")'",
        ),
        (
            "query",
            "path: \"/a/{id}\", priority: -1, when: 'request.query[\"debug\"] == \"1\" && request.method == \"GET\"'",
        ),
        (
            "client",
            "path: /c, when: 'client.ip == \"192.0.2.7\" && request.host == \"x.test\" && request.scheme == \"https\"'",
        ),
        ("plain", "path: \"/a/{id}\", priority: -2"),
    ]);
    check(
        &gateway,
        &[
            ("GET http://x.test/a/b7", &[("x-beta", "1")], "beta"),
            ("GET http://x.test/a/c7", &[("x-beta", "1")], "plain"),
            ("GET http://x.test/a/b7", &[], "plain"),
            ("GET http://x.test/a/b7?debug=1", &[], "query"),
            ("PUT http://x.test/a/b7?debug=1", &[], "plain"),
            ("GET http://x.test/c", &[], "404"),
            (
                "GET http://x.test/c",
                &[
                    ("X-Forwarded-For", "192.0.2.7"),
                    ("X-Forwarded-Proto", "https"),
                ],
                "client",
            ),
            (
                "GET http://x.test/c",
                &[
                    ("X-Forwarded-For", "192.0.2.7"),
                    ("X-Forwarded-Proto", "http"),
                ],
                "404",
            ),
        ],
    );
}

#[test]
fn priority_then_the_number_of_conditions_decides_between_equals() {
    let gateway = named(&[
        ("low", "path: /a, headers: { x-a: present }, priority: -5"),
        ("high", "path: /a, headers: { x-b: present }, priority: 5"),
        ("two", "path: /b, headers: { x-a: present, x-b: present }"),
        ("one", "path: /b, headers: { x-a: present }"),
        ("plain", "path: /b"),
    ]);
    let both: &[(&str, &str)] = &[("x-a", "1"), ("x-b", "1")];
    check(
        &gateway,
        &[
            ("GET http://x.test/a", both, "high"),
            ("GET http://x.test/a", &[("x-a", "1")], "low"),
            ("GET http://x.test/b", both, "two"),
            ("GET http://x.test/b", &[("x-a", "1")], "one"),
            ("GET http://x.test/b", &[], "plain"),
        ],
    );
}

#[test]
fn a_route_is_served_on_the_listeners_it_names() {
    let routes = answering(&[
        ("public", "path: /a, listeners: [public]"),
        ("internal", "path: /a, listeners: [internal, third]"),
        ("both", "path: /b"),
    ]);
    let gateway = Gateway::spawn(&format!(
        "version: 1\nlisteners:\n  public: {{ address: \"127.0.0.1:0\" }}\n  internal: {{ address: [\"127.0.0.1:0\", \"127.0.0.1:0\"] }}\n  third: {{ address: \"127.0.0.1:0\" }}\n{routes}"
    ));
    for (listener, name) in [
        ("public", "public"),
        ("internal", "internal"),
        ("third", "internal"),
    ] {
        let mut client = Client::connect(gateway.addr_of(listener));
        assert_eq!(told(&send(&mut client, "GET http://x.test/a", &[])), name);
        assert_eq!(told(&send(&mut client, "GET http://x.test/b", &[])), "both");
    }
}

#[test]
fn a_listener_answers_for_its_hosts_only() {
    let routes = answering(&[("all", "path_prefix: /")]);
    let gateway = Gateway::spawn(&format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\", hosts: [\"*.example.com\", one.test] }} }}\n{routes}"
    ));
    check(
        &gateway,
        &[
            ("GET http://api.example.com/", &[], "all"),
            ("GET http://One.test:80/", &[], "all"),
            ("GET http://example.com/", &[], "421"),
            ("GET http://two.test/", &[], "421"),
        ],
    );
    let misdirected = send(&mut gateway.client(), "GET http://two.test/", &[]);
    assert_eq!(
        misdirected.json()["type"],
        "urn:doorward:error:misdirected_request"
    );
}

#[test]
fn clauses_are_inherited_as_a_whole_and_none_turns_them_off() {
    let origin = Origin::echo();
    let gateway = Gateway::spawn(&format!(
        r#"
version: 1
listeners:
  public: {{ address: "127.0.0.1:0" }}
  second: {{ address: "127.0.0.1:0", defaults: {{ request: {{ headers: {{ set: {{ x-from: listener }} }} }}, response: none }} }}
upstreams: {{ o: {{ targets: [{{ url: "{}" }}] }} }}
defaults:
  routes:
    request: {{ headers: {{ set: {{ x-from: defaults, x-more: "1" }} }} }}
    response: {{ headers: {{ set: {{ x-answer: defaults }} }} }}
routes:
  - {{ name: plain, match: {{ path: /plain }}, upstream: o }}
  - {{ name: own, match: {{ path: /own }}, upstream: o, request: {{ headers: {{ set: {{ x-from: route }} }} }} }}
  - {{ name: off, match: {{ path: /off }}, upstream: o, request: none }}
"#,
        origin.url()
    ));
    let cases = [
        (
            "public",
            "/plain",
            Some("defaults"),
            Some("1"),
            Some("defaults"),
        ),
        ("public", "/own", Some("route"), None, Some("defaults")),
        ("public", "/off", None, None, Some("defaults")),
        ("second", "/plain", Some("listener"), None, None),
        ("second", "/own", Some("route"), None, None),
        ("second", "/off", None, None, None),
    ];
    for (listener, path, from, more, answer) in cases {
        let mut client = Client::connect(gateway.addr_of(listener));
        let response = client.get(path).expect(200);
        assert_eq!(response.header("x-answer"), answer, "{listener} {path}");
        let seen = origin.last();
        assert_eq!(
            (seen.header("x-from"), seen.header("x-more")),
            (from, more),
            "{listener} {path}"
        );
    }
}

#[test]
fn an_inherited_clause_holds_where_no_route_matches_too() {
    let gateway = Gateway::spawn(
        r#"
version: 1
listeners:
  public: { address: "127.0.0.1:0", defaults: { maintenance: { retry_after: 7s } } }
  open: { address: "127.0.0.1:0" }
routes:
  - { name: a, match: { path: /a }, respond: { text: a } }
  - { name: b, match: { path: /b }, respond: { text: b }, maintenance: none }
"#,
    );
    check(
        &gateway,
        &[
            ("GET http://x.test/a", &[], "503"),
            ("GET http://x.test/b", &[], "b"),
            ("GET http://x.test/none", &[], "503"),
        ],
    );
    let mut client = Client::connect(gateway.addr_of("open"));
    assert_eq!(told(&send(&mut client, "GET http://x.test/a", &[])), "a");
    send(&mut client, "GET http://x.test/none", &[]).expect(404);
}

#[test]
fn an_environment_serves_the_routes_of_a_host_again_with_other_upstreams() {
    let (live, next, other) = (Origin::echo(), Origin::echo(), Origin::echo());
    let gateway = Gateway::spawn(&format!(
        r#"
version: 1
listeners: {{ public: {{ address: "127.0.0.1:0" }} }}
upstreams:
  orders: {{ targets: [{{ url: "{}" }}] }}
  next: {{ targets: [{{ url: "{}" }}] }}
  users: {{ targets: [{{ url: "{}" }}] }}
environments:
  staging: {{ hosts: {{ api.example.com: api.staging.example.com }}, upstreams: {{ orders: next }} }}
routes:
  - {{ name: orders, match: {{ hosts: [api.example.com], path: /orders }}, upstream: orders }}
  - {{ name: users, match: {{ hosts: [api.example.com], path: /users }}, upstream: users }}
"#,
        live.url(),
        next.url(),
        other.url()
    ));
    let mut client = gateway.client();
    send(&mut client, "GET http://api.example.com/orders", &[]).expect(200);
    assert_eq!((live.count(), next.count()), (1, 0));
    send(
        &mut client,
        "GET http://API.staging.example.com:80/orders",
        &[],
    )
    .expect(200);
    assert_eq!((live.count(), next.count()), (1, 1));
    send(&mut client, "GET http://api.staging.example.com/users", &[]).expect(200);
    assert_eq!(other.count(), 1);
    assert_eq!(
        other.last().header("x-forwarded-host"),
        Some("api.staging.example.com")
    );
    send(&mut client, "GET http://api.staging.example.com/none", &[]).expect(404);
    send(
        &mut client,
        "GET http://www.staging.example.com/orders",
        &[],
    )
    .expect(404);
}
