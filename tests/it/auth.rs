//! Who is calling: credentials, consumers, and what becomes of whom nobody knows.
#![expect(
    clippy::indexing_slicing,
    reason = "a test stops at the first thing that is not as expected"
)]

use sha2::{Digest as _, Sha256};

use super::control::metric;
use super::support::{
    Frames, Gateway, Origin, Outcome, Pki, Reply, Response, Setup, Tls, frames, run_cli, scale,
};

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
    gateway.process().wait_log("\"consumer\":\"acme\"");
    gateway.client().get("/").expect(401);
    let line = gateway.process().wait_log("unauthenticated");
    assert!(
        line.contains("\"refusal\":\"no credential is shown\""),
        "{line}"
    );
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
fn who_is_suspended_does_not_come_in_by_another_credential() {
    let hash = bcrypt::hash("secret", 4).unwrap();
    let origin = Origin::echo();
    let authenticators = "one: { api_key: {} }, two: { api_key: { header: x-other } }, \
        staff: { basic: { htpasswd_file: users } }";
    let more = format!(
        "{}, away: {{ identify: {{ basic: alice }}, suspended: true }}",
        consumers()
    );
    let (good, gone) = ("key-of-acme", "key-of-former");
    let alice = basic("alice:secret");
    for auth in ["[one, two, staff]", "[staff, two, one]"] {
        let text = config(
            &origin.url(),
            authenticators,
            &more,
            &format!("auth: {auth}, {TOLD}"),
        );
        let gateway = Setup::new(&text)
            .file("users", format!("alice:{hash}\n"))
            .spawn();
        for (headers, status) in [
            (vec![("X-Api-Key", good)], 200),
            (vec![("X-Api-Key", good), ("X-Other", good)], 200),
            (vec![("X-Api-Key", good), ("X-Other", "wrong")], 200),
            (vec![("X-Api-Key", good), ("X-Other", gone)], 403),
            (vec![("X-Api-Key", gone), ("X-Other", good)], 403),
            (vec![("Authorization", alice.as_str())], 403),
        ] {
            assert_eq!(ask(&gateway, "/", &headers).status, status, "{headers:?}");
        }
        // Whoever has not been verified yet is, first.
        let wrong = basic("alice:wrong");
        for (pair, status) in [(&alice, 403), (&wrong, 200), (&alice, 403)] {
            let both = [("X-Api-Key", good), ("Authorization", pair.as_str())];
            assert_eq!(ask(&gateway, "/", &both).status, status);
        }
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

/// Basic credentials of `name:password`.
fn basic(pair: &str) -> String {
    use base64::Engine as _;
    let pair = base64::engine::general_purpose::STANDARD.encode(pair);
    format!("Basic {pair}")
}

#[test]
fn passwords_are_verified_and_stay_here() {
    let origin = Origin::echo();
    // `somesalt`, from the tests of the reference implementation.
    let argon2 =
        "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
    let bcrypt = bcrypt::hash("geheim: mit Punkt", 4).unwrap();
    let long = bcrypt::hash("x".repeat(72), 4).unwrap();
    let file = format!("# people\nana:{bcrypt}\n\nbo:{argon2}\nlong:{long}\n");
    let consumers = "acme: { identify: [{ basic: bo }] }, former: { suspended: true, identify: { basic: long } }";
    let text = config(
        &origin.url(),
        "ops: { basic: { htpasswd_file: ops.htpasswd } }",
        consumers,
        "auth: [ops], identity: { headers: { x-told: \"{auth.method}/{auth.sub}\", x-by: \"{consumer.name}\" } }",
    );
    let gateway = Setup::new(&text).file("ops.htpasswd", file).spawn();
    let asked = |pair: &str| ask(&gateway, "/", &[("Authorization", &basic(pair))]);
    for _ in 0..2 {
        asked("ana:geheim: mit Punkt").expect(200);
        let seen = origin.last();
        assert_eq!(seen.header("x-told"), Some("basic/ana"));
        assert_eq!(
            (seen.header("x-by"), seen.header("authorization")),
            (None, None)
        );
        asked("bo:password").expect(200);
        assert_eq!(origin.last().header("x-by"), Some("acme"));
    }
    let before = origin.count();
    refused(
        &asked(&format!("long:{}", "x".repeat(72))),
        403,
        "forbidden",
    );
    for pair in [
        "ana:geheim",
        "ana:",
        ":geheim: mit Punkt",
        "ana",
        "Ana:geheim: mit Punkt",
        "nobody:password",
        "bo:geheim: mit Punkt",
        "bo:password\0",
        &format!("long:{}", "x".repeat(73)),
        &format!("bo:{}", "x".repeat(2000)),
    ] {
        let answer = asked(pair);
        refused(&answer, 401, "unauthenticated");
        let challenge = answer.header("www-authenticate");
        assert_eq!(challenge, Some("Basic realm=\"api\", charset=\"UTF-8\""));
    }
    for wrong in ["Basic", "Basic !", "Basic YW5h\u{20}", "Bearer YW5hOmE="] {
        let answer = ask(&gateway, "/", &[("Authorization", wrong)]);
        refused(&answer, 401, "unauthenticated");
    }
    assert_eq!(origin.count(), before);
    assert!(!gateway.log().contains("geheim"), "{}", gateway.log());
}

#[test]
fn a_name_is_that_of_the_file_that_is_trusted_with_it() {
    let origin = Origin::echo();
    let hash = bcrypt::hash("open", 4).unwrap();
    let file = format!("alice:{hash}\n");
    let authenticators = "ops: { basic: { htpasswd_file: a.htpasswd } }, partners: { basic: { htpasswd_file: b.htpasswd } }";
    for (rule, boss) in [(", authenticator: ops", None), ("", Some("boss"))] {
        let consumers = format!("boss: {{ identify: {{ basic: alice{rule} }} }}");
        let told = "identity: { headers: { x-by: \"{consumer.name}\" } }";
        let text = config(&origin.url(), authenticators, &consumers, told);
        let routes = format!(
            "routes: [{{ name: ops, match: {{ path: /ops }}, auth: [ops], {told}, upstream: o }}, {{ name: all, match: {{ path_prefix: / }}, auth: [partners],"
        );
        let text = text.replace("routes: [{ name: all, match: { path_prefix: / },", &routes);
        let setup = Setup::new(&text);
        let gateway = setup
            .file("a.htpasswd", &file)
            .file("b.htpasswd", &file)
            .spawn();
        for (path, who) in [("/ops", Some("boss")), ("/", boss)] {
            ask(&gateway, path, &[("Authorization", &basic("alice:open"))]).expect(200);
            assert_eq!(origin.last().header("x-by"), who, "{path}");
        }
    }
}

#[test]
fn who_was_verified_comes_in_after_a_reload_however_many_they_are() {
    let origin = Origin::echo();
    let file = format!("ana:{}\n", bcrypt::hash("open", 8).unwrap());
    let authenticators = "ops: { basic: { htpasswd_file: a.htpasswd } }";
    let text = config(&origin.url(), authenticators, "", "auth: [ops]");
    let gateway = Setup::new(&text).file("a.htpasswd", file).spawn();
    let pair = basic("ana:open");
    for _ in 0..2 {
        let mut clients: Vec<_> = (0..100).map(|_| gateway.client()).collect();
        for client in &mut clients {
            client.send_request("GET", "/", &[("Authorization", &pair)], b"");
        }
        for client in &mut clients {
            client.response("GET").expect(200);
        }
        super::control::reload(&gateway, 0);
    }
}

#[test]
fn what_is_shown_in_an_odd_way_is_no_credential_and_stays_here() {
    let origin = Origin::echo();
    let gateway = keyed(
        &origin,
        "cookie: sess",
        "{ any: [partner], anonymous: guest }",
    );
    let raw = |cookie: &[u8]| {
        let mut client = gateway.client();
        let head = b"GET / HTTP/1.1\r\nHost: a.test\r\nCookie: ".as_slice();
        client.send_raw(&[head, cookie, b"\r\n\r\n"].concat());
        client.response("GET")
    };
    raw(b"sess=key-of-acme; b=1").expect(200);
    assert_eq!(origin.last().header("cookie"), Some("b=1"));
    raw(b"sess=key-of-acme; sess=\xff\xfe").expect(401);
    raw(b"b=1").expect(200);
    let file = format!("ana:{}\n", bcrypt::hash("open", 4).unwrap());
    let authenticators = "ops: { basic: { htpasswd_file: a.htpasswd } }";
    let clauses = "auth: { any: [ops], anonymous: guest }";
    let text = config(&origin.url(), authenticators, "guest: {}", clauses);
    let gateway = Setup::new(&text).file("a.htpasswd", file).spawn();
    let asked = |line: &str| ask(&gateway, "/", &[("Authorization", line)]);
    asked(&basic("ana:open").replace(' ', "\t")).expect(401);
    asked("Bearer of-somebody-else").expect(200);
    assert_eq!(origin.last().header("authorization"), None);
}

#[test]
fn a_redirect_leads_nobody_to_a_credential() {
    let authenticators = "partner: { api_key: { query: uid } }";
    let text = config(
        "http://127.0.0.1:1",
        authenticators,
        &consumers(),
        "auth: [partner]",
    );
    let text = text.replace(", upstream: o }]", ", redirect: { path: /other } }]");
    let gateway = Gateway::spawn(&text);
    for (query, location) in [
        ("uid=key-of-acme&a=b", "/other?a=b"),
        ("uid=key-of-acme", "/other"),
    ] {
        let answer = ask(&gateway, &format!("/x?{query}"), &[]);
        assert_eq!(
            answer.header("location"),
            Some(location),
            "{}",
            answer.text()
        );
    }
}

#[test]
fn hashes_that_take_no_time_or_all_of_it_are_refused() {
    let origin = Origin::echo();
    let argon2 =
        "$argon2id$v=19$m=1065536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc";
    let good = bcrypt::hash("secret-word", 4).unwrap();
    for (line, what) in [
        (
            "a:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=".to_owned(),
            "neither bcrypt nor argon2",
        ),
        (
            "a:$apr1$aaaaaaaa$bbbbbbbbbbbbbbbbbbbbbb".to_owned(),
            "neither bcrypt nor argon2",
        ),
        ("a:secret-word".to_owned(), "neither bcrypt nor argon2"),
        ("secret-word".to_owned(), "is no name with a hash"),
        (
            format!("a:{}", good.replace("$04$", "$15$")),
            "cost is too high",
        ),
        (format!("a:{argon2}"), "cost is too high"),
        (format!("a:{good}\na:{good}"), "stands there already"),
    ] {
        let authenticators = "ops: { basic: { htpasswd_file: ops.htpasswd } }";
        let text = config(&origin.url(), authenticators, "", "auth: [ops]");
        let setup = Setup::new(&text).file("ops.htpasswd", &line);
        let output = run_cli(&["check"], setup.dir());
        assert_eq!(output.code, 78, "{line}");
        assert!(output.stderr.contains(what), "{line}: {}", output.stderr);
        assert!(!output.stderr.contains("secret-word"), "{}", output.stderr);
    }
}

#[test]
fn a_certificate_says_who_is_calling() {
    let pki = Pki::new();
    let server = pki.issue(&["api.test"]);
    let (web, other, two) = (
        pki.issue(&["web.acme.test"]),
        pki.issue(&["other.test"]),
        pki.issue(&["web.acme.test", "second.test"]),
    );
    let origin = Origin::echo();
    let tls = "tls: { certificates: [{ cert_file: s.pem, key_file: s.key }], client_auth: { api.test: { mode: optional, ca_file: ca.pem } } }";
    let consumers = format!(
        "acme: {{ identify: {{ san_dns: web.acme.test }}, api_keys: [{{ sha256: {} }}] }}, guest: {{ api_keys: [{{ sha256: {} }}] }}",
        sha256("key-of-acme"),
        sha256("key-of-guest"),
    );
    let text = config(
        &origin.url(),
        "device: { client_cert: { identity: san_dns } }, key: { api_key: {} }",
        &consumers,
        &format!("auth: {{ all: [device, key] }}, {TOLD}"),
    )
    .replace("{consumer.groups}/", "")
    .replace("protocols: [http1, h2c]", tls);
    let gateway = Setup::new(&text)
        .file("s.pem", &server.cert)
        .file("s.key", &server.key)
        .file("ca.pem", &pki.ca)
        .spawn();
    let connect = || Tls::new(&pki.ca, "api.test");
    for (tls, key, status) in [
        (connect().identity(&web), Some("key-of-acme"), 200),
        (connect().identity(&web), Some("key-of-guest"), 401),
        (connect().identity(&web), None, 401),
        (connect().identity(&other), Some("key-of-acme"), 200),
        (connect().identity(&two), Some("key-of-acme"), 401),
        (connect(), Some("key-of-acme"), 401),
    ] {
        let mut client = tls.connect(gateway.addr());
        let host = ("Host", "api.test");
        let headers: Vec<(&str, &str)> = [host]
            .into_iter()
            .chain(key.map(|key| ("X-Api-Key", key)))
            .collect();
        let answer = client.request("GET", "/", &headers, b"").expect(status);
        let asked = answer.headers_all("www-authenticate");
        assert_eq!(asked.is_empty(), status == 200, "{asked:?}");
        if headers.len() == 2 && !asked.is_empty() {
            // The key is good, and not asked for once more.
            assert_eq!(asked, ["ClientCertificate realm=\"api\""]);
        }
    }
    assert_eq!(origin.count(), 2);
    assert_eq!(origin.last().header("x-told"), Some("acme/api_key/acme"));
}

/// Upstreams believe these headers whichever route a request took.
#[test]
fn what_one_route_tells_of_callers_nobody_writes_on_another() {
    let origin = Origin::echo();
    let text = config(
        &origin.url(),
        "partner: { api_key: {} }",
        &consumers(),
        "auth: [partner], identity: { headers: { X-Tenant: \"{consumer.name}\", authorization: \"Us {consumer.name}\" } }",
    );
    let open = "routes: [{ name: open, match: { path_prefix: /open }, upstream: o }, {";
    let gateway = Gateway::spawn(&text.replace("routes: [{", open));
    let shown = [
        ("X-Api-Key", "key-of-acme"),
        ("x-TENANT", "forged"),
        ("x-other", "kept"),
        ("Authorization", "Basic YTpi"),
    ];
    ask(&gateway, "/", &shown).expect(200);
    assert_eq!(origin.last().headers_all("x-tenant"), ["acme"]);
    ask(&gateway, "/open/a", &shown).expect(200);
    let seen = origin.last();
    assert_eq!(seen.headers_all("x-tenant"), [""; 0]);
    assert_eq!(seen.header("x-other"), Some("kept"));
    // A credential speaks for itself.
    assert_eq!(seen.header("authorization"), Some("Basic YTpi"));
}

#[test]
fn what_connection_names_takes_no_header_of_ours_away() {
    let origin = Origin::echo();
    let text = config(
        &origin.url(),
        "partner: { api_key: {} }",
        &consumers(),
        "auth: [partner], identity: { headers: { x-user-id: \"{auth.sub}\", x-who: \"{consumer.name}\" } }",
    );
    let gateway = Gateway::spawn(&text);
    let key = ("X-Api-Key", "key-of-acme");
    for connection in ["close, X-Who", "keep-alive, x-who, x-other"] {
        let forged = ("X-Who", "admin");
        ask(&gateway, "/", &[key, ("Connection", connection), forged]).expect(200);
        assert_eq!(origin.last().headers_all("x-who"), ["acme"], "{connection}");
        assert_eq!(
            origin.last().headers_all("x-user-id"),
            ["acme"],
            "{connection}"
        );
    }
    // A credential that is named there is for nobody behind the connection.
    let answer = ask(&gateway, "/", &[key, ("Connection", "close, X-Api-Key")]);
    assert_eq!(answer.status, 401);
    // What every upstream believes is not even named there.
    let answer = ask(&gateway, "/", &[key, ("Connection", "close, X-User-Id")]);
    assert_eq!(answer.status, 400);
    // Over HTTP/2, and beside a trailer of that name.
    for forged in ["x-user-id", "x-who"] {
        let mut frames = Frames::connect(gateway.addr());
        let fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", "a.test"),
            (":path", "/"),
            ("x-api-key", "key-of-acme"),
            ("te", "trailers"),
            (forged, "admin"),
        ];
        let stream = frames.begin(&fields, 0);
        frames.send(frames::DATA, 0, stream, b"a");
        let trailer = frames::block(&[(forged, "admin")]);
        let last = frames::END_STREAM | frames::END_HEADERS;
        frames.send(frames::HEADERS, last, stream, &trailer);
        let outcome = frames.outcome(stream);
        assert!(matches!(outcome, Outcome::Answer(_)), "{outcome:?}");
        let seen = origin.last();
        assert_eq!(seen.headers_all(forged), ["acme"]);
        let seen = seen.text();
        assert_eq!(seen, "a", "and no trailer");
    }
}

/// I02: on every way to an upstream.
#[test]
fn what_a_client_says_of_itself_is_taken_off_on_every_way() {
    let (origin, down) = (Origin::echo(), Origin::answer(|_| Reply::close()));
    let key = ("X-Api-Key", "key-of-acme");
    let body = "request: { body: { pick: [a] } }";
    let rungs = "fallback: { steps: [{ upstream: spare }] }";
    for (clauses, known) in [
        ("", true),
        ("", false),
        (body, true),
        (body, false),
        (rungs, true),
        (rungs, false),
    ] {
        let first = if clauses == rungs { &down } else { &origin };
        let auth = "auth: { any: [partner], anonymous: guest }, \
            identity: { headers: { x-user-id: \"{auth.sub}\", x-credential: \"{auth.claims.id}\" } }";
        let clauses = if clauses.is_empty() {
            auth.to_owned()
        } else {
            format!("{auth}, {clauses}")
        };
        let text = config(
            &first.url(),
            "partner: { api_key: {} }",
            &consumers(),
            &clauses,
        );
        let spare = format!(
            "upstreams: {{ spare: {{ targets: [{{ url: \"{}\" }}] }}, ",
            origin.url()
        );
        let gateway = Gateway::spawn(&text.replace("upstreams: { ", &spare));
        for name in ["X-User-Id", "x-uSeR-iD", "X-Credential"] {
            let mut headers = vec![(name, "admin"), ("Content-Type", "application/json")];
            headers.extend(known.then_some(key));
            let answer = gateway.client().request("PUT", "/", &headers, b"{\"a\":1}");
            answer.expect(200);
            let seen = origin.last();
            let expected: &[&str] = if known { &["acme"] } else { &[] };
            assert_eq!(seen.headers_all("x-user-id"), expected, "{clauses} {name}");
            assert_eq!(seen.header("x-credential"), None, "{clauses} {name}");
        }
        let answer = ask(&gateway, "/", &[("X_User_Id", "admin")]);
        assert_eq!(answer.status, 400);
    }
}

/// I08: one line or two, what is asked of a header is asked of all of it.
#[test]
fn a_header_in_two_lines_is_judged_like_one() {
    let origin = Origin::echo();
    let rule = "auth: [partner], authorize: { expr: 'request.headers[\"x-role\"] == \"user\"' }";
    let text = config(
        &origin.url(),
        "partner: { api_key: {} }",
        &consumers(),
        rule,
    );
    let gateway = Gateway::spawn(&text);
    let key = ("X-Api-Key", "key-of-acme");
    let status = |roles: &[(&str, &str)]| ask(&gateway, "/", &[&[key], roles].concat()).status;
    assert_eq!(status(&[("X-Role", "user")]), 200);
    for (first, second) in [("user", "admin"), ("admin", "user")] {
        let joined = format!("{first}, {second}");
        let one = status(&[("X-Role", &joined)]);
        let two = status(&[("X-Role", first), ("X-Role", second)]);
        assert_eq!((one, two), (403, 403), "{joined}");
    }
}
