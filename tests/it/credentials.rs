//! What targets are shown, so that they know who asks: the same always, a token, or a signature; and nothing without it.

use super::support::{Gate, Gateway, Origin, Recorded, Reply, Script, Setup, free_port, run_cli};

fn config(origin: &Origin, credentials: &str) -> String {
    format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\" }} }}\n\
         upstreams:\n  o:\n    targets: [{{ url: \"{}\" }}]\n    credentials: {{ {credentials} }}\n\
         routes:\n  - {{ name: o, match: {{ path_prefix: / }}, upstream: o }}\n\
         \x20 - {{ name: called, match: {{ path: /called }}, upstream: o, response: {{ body: {{ omit: [x] }} }} }}\n",
        origin.url()
    )
}

fn seen(gateway: &Gateway, origin: &Origin, method: &str, path: &str, body: &[u8]) -> Recorded {
    let forged = [
        ("Authorization", "Bearer of-the-client"),
        ("X-Amz-Security-Token", "x"),
    ];
    gateway
        .client()
        .request(method, path, &forged, body)
        .expect(200);
    origin.last()
}

fn origin() -> Origin {
    Origin::answer(|_| Reply::ok("{}"))
}

#[test]
fn a_fixed_credential_takes_the_place_of_the_clients() {
    let origin = origin();
    let basic = config(
        &origin,
        "basic: { username: gw, password: { env: SECRET } }",
    );
    let gateway = Setup::new(&basic).env("SECRET", "pa{ss}:1").spawn();
    for path in ["/", "/called"] {
        let request = seen(&gateway, &origin, "GET", path, b"");
        // The braces of a secret are no template.
        assert_eq!(
            request.headers_all("authorization"),
            ["Basic Z3c6cGF7c3N9OjE="],
            "{path}"
        );
    }
    let header = config(
        &origin,
        "header: { name: X-Api-Key, value: { file: key.txt } }",
    );
    let gateway = Setup::new(&header).file("key.txt", "canary-key\n").spawn();
    let request = seen(&gateway, &origin, "GET", "/", b"");
    assert_eq!(request.headers_all("x-api-key"), ["canary-key"]);
    assert_eq!(
        request.header("authorization"),
        Some("Bearer of-the-client")
    );
    let shown = run_cli(&["config", "show"], gateway.dir()).stdout;
    assert!(
        shown.contains("key.txt") && !shown.contains("canary"),
        "{shown}"
    );
    assert!(!gateway.log().contains("canary"));
}

#[test]
fn a_request_is_signed_with_its_body_where_that_is_whole() {
    let origin = origin();
    let sigv4 = "sigv4: { region: eu-central-1, service: s3, access_key_id: AKID, secret_access_key: { env: KEY }, session_token: { env: SESSION } }";
    let setup = Setup::new(&config(&origin, sigv4)).env("KEY", "canary-key");
    let gateway = setup.env("SESSION", "session").spawn();
    let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    for (method, path, body, digest) in [
        ("GET", "/a?b=c", &b""[..], nothing),
        ("PUT", "/a", b"abc", "UNSIGNED-PAYLOAD"),
        ("PUT", "/called", b"abc", abc),
    ] {
        let request = seen(&gateway, &origin, method, path, body);
        assert_eq!(
            request.headers_all("x-amz-content-sha256"),
            [digest],
            "{path}"
        );
        assert_eq!(request.headers_all("x-amz-security-token"), ["session"]);
        let shown = request.headers_all("authorization");
        assert_eq!(shown.len(), 1);
        let begins = "AWS4-HMAC-SHA256 Credential=AKID/20";
        assert!(shown[0].starts_with(begins), "{shown:?}");
        let signed =
            "SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-security-token, Signature=";
        assert!(shown[0].contains(signed), "{shown:?}");
    }
}

/// Where tokens come from.
fn answers(answer: impl Fn(&Recorded) -> Reply + Send + Sync + 'static) -> Origin {
    Origin::start(Script::new(answer).probed_at("/token"))
}

/// An authority that gives one token after the other: so long each holds.
fn authority(seconds: u32) -> Origin {
    let given = std::sync::atomic::AtomicU32::new(0);
    answers(move |_| {
        let number = given.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        let token = format!("token-{number}");
        let answer = serde_json::json!({ "access_token": token, "token_type": "bearer", "expires_in": seconds });
        Reply::json(200, &answer)
    })
}

fn tokens_of(url: &str) -> String {
    format!(
        "client_credentials: {{ token_url: \"{url}/token\", client_id: gw, client_secret: {{ env: SECRET }}, scope: \"a b\" }}"
    )
}

fn with_tokens(origin: &Origin, authority: &Origin) -> Gateway {
    let config = config(origin, &tokens_of(&authority.url()));
    Setup::new(&config).env("SECRET", "canary-secret").spawn()
}

#[test]
fn one_token_serves_all_requests() {
    let (origin, authority) = (origin(), authority(3600));
    let gateway = with_tokens(&origin, &authority);
    for path in ["/", "/called", "/x"] {
        let request = seen(&gateway, &origin, "GET", path, b"");
        assert_eq!(
            request.headers_all("authorization"),
            ["Bearer token-1"],
            "{path}"
        );
    }
    let asked = authority.requests();
    assert_eq!(asked.len(), 1);
    assert_eq!(
        (asked[0].method.as_str(), asked[0].path.as_str()),
        ("POST", "/token")
    );
    assert_eq!(asked[0].text(), "grant_type=client_credentials&scope=a+b");
    assert_eq!(
        asked[0].header("authorization"),
        Some("Basic Z3c6Y2FuYXJ5LXNlY3JldA==")
    );
    assert!(!gateway.log().contains("canary") && !gateway.log().contains("token-1"));
    // A reload keeps the token that still holds.
    gateway.process().signal("HUP");
    gateway.process().wait_log("reloaded");
    let request = seen(&gateway, &origin, "GET", "/", b"");
    assert_eq!(request.header("authorization"), Some("Bearer token-1"));
    assert_eq!(authority.count(), 1);
}

#[test]
fn a_new_token_comes_before_the_last_one_ends() {
    let (origin, authority) = (origin(), authority(2));
    let gateway = with_tokens(&origin, &authority);
    // Asked for with a fifth of its time left, so that no request is ever without one.
    authority.wait_for(3);
    let request = seen(&gateway, &origin, "GET", "/", b"");
    let shown = request.header("authorization").unwrap_or_default();
    assert!(
        ["Bearer token-2", "Bearer token-3"].contains(&shown),
        "{shown}"
    );
}

#[test]
fn without_a_token_nothing_is_sent() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = origin();
    let slow = answers(move |_| Reply::never(&held));
    let refusing = answers(|_| Reply::fixed(401, &[], "{}"));
    let lying = answers(|_| Reply::ok("<html>you are in</html>"));
    let down = format!("http://127.0.0.1:{}", free_port());
    for url in [slow.url(), refusing.url(), lying.url(), down] {
        let config = config(&origin, &tokens_of(&url));
        let gateway = Setup::new(&config).env("SECRET", "canary-secret").spawn();
        for path in ["/", "/called"] {
            let answer = gateway.client().get(path).expect(503);
            assert_eq!(
                answer.json()["type"],
                "urn:doorward:error:no_credential",
                "{url}"
            );
        }
        assert!(!gateway.log().contains("canary"));
    }
    gate.open();
    assert_eq!(origin.count(), 0);
}

#[test]
fn who_has_no_token_leaves_the_request_to_the_next() {
    let (main, spare) = (origin(), origin());
    let refusing = answers(|_| Reply::fixed(401, &[], "{}"));
    let fallback = "fallback: { when: [no_target], steps: [{ upstream: spare }] }";
    let config = format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\" }} }}\n\
         upstreams:\n  o: {{ targets: [{{ url: \"{}\" }}], credentials: {{ {} }} }}\n\
         \x20 spare: {{ targets: [{{ url: \"{}\" }}], credentials: {{ header: {{ name: x-api-key, value: {{ env: SECRET }} }} }} }}\n\
         routes:\n  - {{ name: o, match: {{ path_prefix: / }}, upstream: o, {fallback} }}\n\
         \x20 - {{ name: called, match: {{ path: /called }}, upstream: o, {fallback}, response: {{ body: {{ omit: [x] }} }} }}\n",
        main.url(),
        tokens_of(&refusing.url()),
        spare.url()
    );
    let gateway = Setup::new(&config).env("SECRET", "canary-secret").spawn();
    for path in ["/", "/called"] {
        let request = seen(&gateway, &spare, "GET", path, b"");
        assert_eq!(
            request.headers_all("x-api-key"),
            ["canary-secret"],
            "{path}"
        );
    }
    assert_eq!((main.count(), spare.count()), (0, 2));
}

#[test]
fn what_one_upstream_is_shown_the_next_never_sees() {
    let main = Origin::answer(|_| Reply::fixed(503, &[], "{}"));
    let spare = origin();
    let fallback = "fallback: { when: [http_503], steps: [{ upstream: spare }] }";
    let config = format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\" }} }}\n\
         upstreams:\n  o: {{ targets: [{{ url: \"{}\" }}], credentials: {{ basic: {{ username: gw, password: {{ env: SECRET }} }} }} }}\n\
         \x20 spare: {{ targets: [{{ url: \"{}\" }}] }}\n\
         routes:\n  - {{ name: o, match: {{ path_prefix: / }}, upstream: o, {fallback} }}\n\
         \x20 - {{ name: called, match: {{ path: /called }}, upstream: o, {fallback}, response: {{ body: {{ omit: [x] }} }} }}\n",
        main.url(),
        spare.url()
    );
    let gateway = Setup::new(&config).env("SECRET", "canary-secret").spawn();
    for path in ["/", "/called"] {
        let request = seen(&gateway, &spare, "GET", path, b"");
        assert_eq!(
            request.headers_all("authorization"),
            ["Bearer of-the-client"],
            "{path}"
        );
    }
    assert!(main.count() >= 2);
    assert!(
        main.requests()
            .iter()
            .all(|it| { it.headers_all("authorization") == ["Basic Z3c6Y2FuYXJ5LXNlY3JldA=="] })
    );
}
