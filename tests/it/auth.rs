//! Who is calling: credentials, consumers, and what becomes of whom nobody knows.
#![expect(
    clippy::indexing_slicing,
    reason = "a test stops at the first thing that is not as expected"
)]

use sha2::{Digest as _, Sha256};

use super::control::metric;
use super::support::{Gateway, Origin, Response, run_cli, scale};

pub(super) fn sha256(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn config(url: &str, authenticators: &str, consumers: &str, clauses: &str) -> String {
    format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\", protocols: [http1, h2c] }} }}\n\
         admin: {{ socket: admin.sock }}\n\
         authenticators: {{ {authenticators} }}\nconsumers: {{ {consumers} }}\n\
         upstreams: {{ o: {{ targets: [{{ url: \"{url}\" }}] }} }}\n\
         routes: [{{ name: all, match: {{ path_prefix: / }}, {clauses}, upstream: o }}]\n"
    )
}

fn consumers() -> String {
    format!(
        "acme: {{ groups: [partners, eu], api_keys: [{{ sha256: {} }}, {{ sha256: {} }}, {{ sha256: {}, expires: \"2020-01-01\" }}] }}, \
         former: {{ api_keys: [{{ sha256: {} }}], suspended: true }}, guest: {{ groups: [public] }}",
        sha256("key-of-acme"),
        sha256("second-key-of-acme"),
        sha256("old-key-of-acme"),
        sha256("key-of-former"),
    )
}

const TOLD: &str = "request: { headers: { set: { x-told: \"{consumer.name}/{consumer.groups}/{auth.method}/{auth.sub}\" } } }";

/// A route that takes keys in this place.
fn keyed(origin: &Origin, carrier: &str, auth: &str) -> Gateway {
    let authenticators = format!("partner: {{ api_key: {{ {carrier} }} }}");
    let clauses = format!("auth: {auth}, {TOLD}");
    Gateway::spawn(&config(
        &origin.url(),
        &authenticators,
        &consumers(),
        &clauses,
    ))
}

#[track_caller]
fn refused(answer: &Response, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    let kind = format!("urn:doorward:error:{code}");
    assert_eq!(answer.json()["type"], kind.as_str(), "{}", answer.text());
}

fn ask(gateway: &Gateway, target: &str, headers: &[(&str, &str)]) -> Response {
    gateway.client().request("GET", target, headers, b"")
}

#[test]
fn a_key_says_who_is_calling_and_stays_here() {
    let origin = Origin::echo();
    let gateway = keyed(&origin, "header: x-api-key", "[partner]");
    for key in ["key-of-acme", "second-key-of-acme"] {
        ask(&gateway, "/a?b=1", &[("X-Api-Key", key)]).expect(200);
        let seen = origin.last();
        assert_eq!(seen.header("x-told"), Some("acme/partners,eu/api_key/acme"));
        assert_eq!(seen.header("x-api-key"), None);
        assert_eq!(seen.target, "/a?b=1");
    }
    let before = origin.count();
    for (headers, status, code) in [
        (vec![], 401, "unauthenticated"),
        (vec![("X-Api-Key", "")], 401, "unauthenticated"),
        (vec![("X-Api-Key", "key-of-acm")], 401, "unauthenticated"),
        (vec![("X-Api-Key", "KEY-OF-ACME")], 401, "unauthenticated"),
        (
            vec![("X-Api-Key", "old-key-of-acme")],
            401,
            "unauthenticated",
        ),
        (
            vec![("X-Api-Key", &sha256("key-of-acme"))],
            401,
            "unauthenticated",
        ),
        (
            vec![("X-Api-Key", "key-of-acme"), ("X-Api-Key", "key-of-acme")],
            401,
            "unauthenticated",
        ),
        (
            vec![("Authorization", "Bearer key-of-acme")],
            401,
            "unauthenticated",
        ),
        (vec![("X-Api-Key", "key-of-former")], 403, "forbidden"),
    ] {
        let answer = ask(&gateway, "/", &headers);
        refused(&answer, status, code);
        let challenge = answer.header("www-authenticate");
        assert_eq!(challenge.is_some(), status == 401, "{headers:?}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
    }
    assert_eq!(origin.count(), before);
}

#[test]
fn a_key_is_found_where_the_config_says_and_nowhere_else() {
    for (carrier, target, headers, left) in [
        (
            "query: key",
            "/a?x=1&key=key-of-acme&y=%20",
            vec![],
            "/a?x=1&y=%20",
        ),
        ("query: key", "/a?%6bey=key-of-acme", vec![], "/a"),
        (
            "cookie: key",
            "/a",
            vec![("Cookie", "a=1; key=key-of-acme; b=2")],
            "/a",
        ),
        (
            "cookie: key",
            "/a",
            vec![("Cookie", "key=key-of-acme")],
            "/a",
        ),
        (
            "header: authorization",
            "/a",
            vec![("Authorization", "ApiKey key-of-acme")],
            "/a",
        ),
        (
            "header: authorization",
            "/a",
            vec![("Authorization", "bearer key-of-acme")],
            "/a",
        ),
    ] {
        let origin = Origin::echo();
        let gateway = keyed(&origin, carrier, "[partner]");
        ask(&gateway, target, &headers).expect(200);
        let seen = origin.last();
        assert_eq!(seen.target, left, "{carrier}");
        assert_eq!(seen.header("authorization"), None);
        let cookie = seen.header("cookie");
        assert!(
            cookie.is_none_or(|cookie| cookie == "a=1; b=2"),
            "{cookie:?}"
        );
        refused(
            &ask(&gateway, "/", &[("X-Api-Key", "key-of-acme")]),
            401,
            "unauthenticated",
        );
        let twice = ask(
            &gateway,
            "/?key=key-of-acme&key=x",
            &[("Cookie", "key=key-of-acme; key=x")],
        );
        refused(&twice, 401, "unauthenticated");
        assert!(!gateway.log().contains("key-of-acme"), "{}", gateway.log());
    }
}

#[test]
fn the_upstream_gets_the_credential_only_where_the_config_says_so() {
    let origin = Origin::echo();
    let gateway = keyed(
        &origin,
        "query: key",
        "{ any: [partner], forward_credential: true }",
    );
    ask(&gateway, "/?key=key-of-acme", &[]).expect(200);
    assert_eq!(origin.last().target, "/?key=key-of-acme");
}

#[test]
fn a_query_that_is_rewritten_holds_no_credential_either() {
    let origin = Origin::echo();
    let clauses = "auth: [partner], request: { query: { set: { v: \"2\" } } }";
    let gateway = Gateway::spawn(&config(
        &origin.url(),
        "partner: { api_key: { query: key } }",
        &consumers(),
        clauses,
    ));
    ask(&gateway, "/?a=1&key=key-of-acme", &[]).expect(200);
    assert_eq!(origin.last().target, "/?a=1&v=2");
}

#[test]
fn who_shows_nothing_may_be_the_guest_but_not_who_shows_something_wrong() {
    let origin = Origin::echo();
    let gateway = keyed(&origin, "", "{ any: [partner], anonymous: guest }");
    ask(&gateway, "/", &[]).expect(200);
    let told = origin.last().header("x-told").map(str::to_owned);
    // A value that is missing takes the header with it.
    assert_eq!(told, None);
    for key in ["wrong", "old-key-of-acme", ""] {
        refused(
            &ask(&gateway, "/", &[("X-Api-Key", key)]),
            401,
            "unauthenticated",
        );
    }
    refused(
        &ask(&gateway, "/", &[("X-Api-Key", "key-of-former")]),
        403,
        "forbidden",
    );
    assert_eq!(origin.count(), 1);
}

#[test]
fn several_ways_are_asked_for_by_several_challenges() {
    let origin = Origin::echo();
    let authenticators =
        "one: { api_key: {} }, two: { api_key: { header: authorization } }, three: { api_key: {} }";
    for (auth, good, bad) in [
        ("[one, two, three]", 200, 401),
        ("{ all: [one, two] }", 401, 401),
    ] {
        let clauses = format!("auth: {auth}, {TOLD}");
        let text = config(&origin.url(), authenticators, &consumers(), &clauses);
        let gateway = Gateway::spawn(&text);
        let nothing = ask(&gateway, "/", &[]);
        refused(&nothing, 401, "unauthenticated");
        assert_eq!(
            nothing.headers_all("www-authenticate"),
            [
                "ApiKey realm=\"api\", in=\"header\", name=\"x-api-key\"",
                "ApiKey realm=\"api\", in=\"header\", name=\"authorization\""
            ]
        );
        let key = ("X-Api-Key", "key-of-acme");
        let bearer = ("Authorization", "Bearer second-key-of-acme");
        assert_eq!(ask(&gateway, "/", &[key]).status, good);
        assert_eq!(ask(&gateway, "/", &[bearer]).status, good);
        assert_eq!(ask(&gateway, "/", &[key, bearer]).status, 200);
        assert_eq!(ask(&gateway, "/", &[("X-Api-Key", "wrong")]).status, bad);
    }
}

#[test]
fn grpc_hears_unauthenticated_by_its_status() {
    let origin = Origin::echo();
    let gateway = keyed(&origin, "", "[partner]");
    let grpc = ("Content-Type", "application/grpc");
    let answer = gateway.client().request("POST", "/s/M", &[grpc], b"");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("grpc-status"), Some("16"));
    assert!(answer.header("www-authenticate").is_some());
}

#[test]
fn a_key_that_is_taken_out_is_refused_by_the_next_request() {
    let origin = Origin::echo();
    let text = |consumers: &str| {
        let authenticators = "partner: { api_key: {} }";
        config(&origin.url(), authenticators, consumers, "auth: [partner]")
    };
    let gateway = Gateway::spawn(&text(&consumers()));
    let mut client = gateway.client();
    let key = [("X-Api-Key", "key-of-acme")];
    client.request("GET", "/", &key, b"").expect(200);
    gateway.write_config(&text("guest: {}"));
    super::control::reload(&gateway, 0);
    client.request("GET", "/", &key, b"").expect(401);
}

#[test]
fn many_keys_are_told_apart() {
    let origin = Origin::echo();
    for size in [10, scale(10_000)] {
        let known: Vec<String> = (0..size)
            .map(|n| {
                format!(
                    "c{n}: {{ api_keys: [{{ sha256: {} }}] }}",
                    sha256(&format!("k{n}"))
                )
            })
            .collect();
        let clauses = format!("auth: [partner], {TOLD}").replace("{consumer.groups}", "");
        let text = config(
            &origin.url(),
            "partner: { api_key: {} }",
            &known.join(", "),
            &clauses,
        );
        let gateway = Gateway::spawn(&text);
        let mut client = gateway.client();
        for n in [0, size / 2, size - 1] {
            client
                .request("GET", "/", &[("X-Api-Key", &format!("k{n}"))], b"")
                .expect(200);
            let told = format!("c{n}//api_key/c{n}");
            assert_eq!(origin.last().header("x-told"), Some(told.as_str()));
        }
        let beyond = format!("k{size}");
        client
            .request("GET", "/", &[("X-Api-Key", &beyond)], b"")
            .expect(401);
        let counted = "doorward_faults_total{error_type=\"unauthenticated\"}";
        super::control::metric_becomes(&gateway, counted, |count| count == 1);
        assert_eq!(
            metric(&gateway, "doorward_ask_duration_seconds_count"),
            None
        );
    }
}

#[test]
fn explain_tells_who_would_be_let_in_and_why_not() {
    let origin = Origin::echo();
    let gateway = keyed(&origin, "", "[partner]");
    let explain = |args: &[&str]| {
        let args = [
            &["explain", "--color", "never", "GET", "http://a.test/"],
            args,
        ]
        .concat();
        let output = run_cli(&args, gateway.dir());
        assert_eq!(output.code, 0, "{}", output.stderr);
        assert!(!output.stdout.contains("key-of-acme"), "{}", output.stdout);
        output.stdout
    };
    for live in [&[][..], &["--live"]] {
        let told = explain(live);
        assert!(
            told.contains("auth") && told.contains("no credential is shown"),
            "{told}"
        );
        assert!(told.contains("401"), "{told}");
        let good = explain(&[live, &["-H", "x-api-key: key-of-acme"]].concat());
        assert!(good.contains("consumer acme"), "{good}");
        let old = explain(&[live, &["-H", "x-api-key: old-key-of-acme"]].concat());
        assert!(old.contains("the key is expired"), "{old}");
    }
    assert_eq!(origin.count(), 0);
}
