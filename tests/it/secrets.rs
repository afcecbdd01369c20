//! Canary secrets wherever one can be, and every output of the gateway searched for them.
#![expect(
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not as expected"
)]

use std::fs;

use super::control::{ask_socket, at_socket, read};
use super::support::{Client, Gateway, Origin, Output, Reply, Setup, run_cli};

/// Every secret holds this.
const CANARY: &str = "canary";
/// The same in the form of basic authentication: `user:canary-basic` and what may be cut of it.
const ENCODED: &str = "dXNlcjpjYW5hcnktYmFzaWM";

/// Everything that was told to anybody, by whom.
#[derive(Default)]
struct Told(Vec<(String, String)>);

impl Told {
    /// Collects an output; `marker` is no secret and stands in it, so that the collector is known to work.
    #[track_caller]
    fn add(&mut self, whose: &str, marker: &str, text: String) {
        assert!(text.contains(marker), "{whose}: no `{marker}` in\n{text}");
        self.0.push((whose.to_owned(), text));
    }

    fn add_output(&mut self, whose: &str, marker: &str, output: &Output) {
        self.add(whose, marker, format!("{}{}", output.stdout, output.stderr));
    }

    /// Those that tell a secret.
    fn leaks(&self) -> Vec<&str> {
        let leaks = self.0.iter().filter(|(_, text)| {
            let text = text.to_lowercase();
            text.contains(CANARY) || text.contains(&ENCODED.to_lowercase())
        });
        leaks.map(|(whose, _)| whose.as_str()).collect()
    }
}

fn config(origin: &Origin, form: &str) -> String {
    let digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    format!(
        "version: 1
listeners: {{ public: {{ address: \"127.0.0.1:0\" }} }}
admin:
  socket: admin.sock
  address: \"127.0.0.2:0\"
  tokens:
    - {{ sha256: {digest}, role: viewer }}
telemetry:
  log: {{ level: trace }}
  access_log: {{ format: {form}, file: access.log }}
upstreams: {{ o: {{ targets: [{{ url: \"{}\" }}], sticky: {{ cookie: stays, secret: canary-sticky-0123456789 }} }}, dead: {{ targets: [{{ url: \"http://127.0.0.1:1\" }}] }} }}
routes:
  - name: marker-route
    match: {{ path_prefix: /app }}
    upstream: o
    log: {{ fields: {{ tenant: \"{{request.headers.x-tenant}}\" }} }}
    request:
      headers:
        set:
          x-env: {{ env: SECRET_ENV }}
          x-file: {{ file: secret.txt }}
          x-credential: {{ credential: token }}
          authorization: \"Bearer ${{SECRET_MIXED}}\"
          x-api-key: canary-inline
          x-token: \"canary-{{request.id}}\"
  - {{ name: dead, match: {{ path_prefix: /dead }}, upstream: dead }}
  - {{ name: guarded, match: {{ path_prefix: /guarded }}, auth: [idp], respond: {{ text: in }} }}
authenticators:
  idp: {{ jwt: {{ jwks_url: \"https://127.0.0.1:1/keys?api_key=canary-url&kind=${{SECRET_MIXED}}\", audiences: [a] }} }}
",
        origin.url()
    )
}

fn spawn(config: &str) -> Gateway {
    let credentials = tempfile::tempdir().unwrap().keep();
    fs::write(credentials.join("token"), "canary-credential").unwrap();
    Setup::new(config)
        .file("secret.txt", "canary-file\n")
        .env("SECRET_ENV", "canary-env")
        .env("SECRET_MIXED", "canary-mixed")
        .env("CREDENTIALS_DIRECTORY", credentials.to_str().unwrap())
        .env("RUST_LOG", "trace")
        .spawn()
}

/// The query of every request.
const QUERY: &str = "marker=1&access_token=canary&api_key=canary&password=canary&sig=canary&%74oken=canary&authorization=canary";

/// Requests that carry secrets in every place, to every kind of answer.
fn ask(gateway: &Gateway, told: &mut Told) {
    let basic = format!("Basic {ENCODED}");
    let headers = [
        ("Authorization", basic.as_str()),
        ("Proxy-Authorization", "Bearer canary-proxy"),
        ("Cookie", "session=canary-cookie; a=canary"),
        (
            "Referer",
            "https://user:canary-userinfo@a.test/?code=canary-code#access_token=canary",
        ),
        ("X-Api-Key", "canary-header"),
        ("X-Auth-Token", "canary-header"),
        ("X-Tenant", "marker-tenant"),
        ("User-Agent", "marker-agent"),
    ];
    for (path, status) in [
        ("/app", 200),
        ("/app/reset", 502),
        ("/dead", 502),
        ("/guarded", 401),
        ("/nothing", 404),
    ] {
        let target = format!("{path}?{QUERY}");
        let answer = gateway.client().request("GET", &target, &headers, b"");
        assert_eq!(answer.status, status, "{path}");
        if status != 200 {
            let text = format!("{:?} {}", answer.headers, answer.text());
            told.add(
                &format!("the answer {status}"),
                "x-request-id",
                text.to_lowercase(),
            );
        }
    }
    // Heads that are refused, with secrets in what was read of them.
    for head in [
        format!("GET /a?{QUERY} HTTP/1.1\r\nAuthorization: Bearer canary\r\n\r\n"),
        format!("GET http://user:canary@a.test/?{QUERY} HTTP/1.1\r\nHost: a.test\r\n\r\n"),
        "GET / HTTP/1.1\r\nHost: a.test\r\nAuthorization: Bearer canary\r\nBad Header: canary\r\n\r\n".to_owned(),
        "POST /app HTTP/1.1\r\nHost: a.test\r\nCookie: canary\r\nTransfer-Encoding: chunked\r\n\r\ncanary\r\n".to_owned(),
    ] {
        let mut client = gateway.client();
        assert!(client.send_raw(head.as_bytes()));
        let answer = client.try_response("GET").unwrap();
        let text = format!("{:?} {}", answer.headers, answer.text());
        told.add("the answer to a refused head", "x-request-id", text.to_lowercase());
    }
}

/// Configs that are wrong beside a secret, or in it.
fn wrong(config: &str) -> Vec<(&'static str, String)> {
    let with = |from: &str, to: &str| {
        assert!(config.contains(from), "{from}");
        config.replace(from, to)
    };
    let digest = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    vec![
        ("E040", with(digest, "canary-admin-token")),
        (
            "E010",
            with(
                &format!("sha256: {digest},"),
                "sha256: canary-admin-token, rol: x,",
            ),
        ),
        (
            "E010",
            with(
                "x-token: \"canary-{request.id}\"",
                "x-token: \"canary-{request.id}\"\n        sett: {}",
            ),
        ),
        (
            "E001",
            with("x-api-key: canary-inline", "x-api-key: \"canary-inline"),
        ),
        (
            "E001",
            with("x-api-key: canary-inline", "x-api-key: {canary-inline"),
        ),
        (
            "E001",
            with("x-api-key: canary-inline", "\tx-api-key: canary-inline"),
        ),
        ("E032", with("canary-inline", "\"canary-{canary-inline}\"")),
        ("E032", with("canary-inline", "\"canary-{inline\"")),
        ("E033", with("x-token: \"canary", "\"x token\": \"canary")),
        (
            "E002",
            with(
                "x-api-key: canary-inline",
                "x-api-key: canary-inline\n          x-api-key: canary-two",
            ),
        ),
        (
            "E012",
            with("x-api-key: canary-inline", "x-api-key: [canary-inline]"),
        ),
        (
            "E006",
            with("x-env: { env: SECRET_ENV }", "x-env: { env: NOT_SET }"),
        ),
        ("E031", with("upstream: dead }", "upstream: nowhere }")),
        (
            "E012",
            with("http://127.0.0.1:1\"", "http://a:canary@127.0.0.1:1\""),
        ),
        ("E060", with("https://127", "https://canary@127")),
        (
            "E060",
            with("https://127.0.0.1:1/", "https://:can/ary@127.0.0.1:1/"),
        ),
        (
            "E001",
            with("jwks_url: \"https://", "url: \"https://a:canary@\"\""),
        ),
    ]
}

#[test]
fn canary_secrets_appear_in_no_output() {
    let origin = Origin::answer(|request| match request.path.as_str() {
        "/app/reset" => Reply::close(),
        _ => Reply::fixed(200, &[("Set-Cookie", "session=canary-set-cookie")], "ok"),
    });
    let mut told = Told::default();
    for form in ["json", "clf"] {
        let good = config(&origin, form);
        let gateway = spawn(&good);
        ask(&gateway, &mut told);
        let seen = origin.requests();
        let seen = seen
            .iter()
            .find(|request| request.path.starts_with("/app"))
            .unwrap();
        for (name, value) in [
            ("x-env", "canary-env"),
            ("x-file", "canary-file"),
            ("x-credential", "canary-credential"),
            ("authorization", "Bearer canary-mixed"),
            ("x-api-key", "canary-inline"),
        ] {
            assert_eq!(seen.header(name), Some(value), "secrets reach the upstream");
        }
        admin(&gateway, &mut told);
        verbs(&gateway, &good, &mut told);
        let access = gateway.dir().join("access.log");
        assert_eq!(gateway.process().stop().unwrap().code(), Some(0));
        let records = read(access);
        assert!(records.contains("marker=1&access_token=***"), "{records}");
        told.add("the access log", "marker-agent", records);
        told.add("standard output and error", "TRACE", gateway.log());
    }
    assert!(told.0.len() > 60, "{}", told.0.len());
    let leaks = told.leaks();
    let all: Vec<&(String, String)> = told
        .0
        .iter()
        .filter(|(whose, _)| leaks.contains(&whose.as_str()))
        .collect();
    assert!(
        leaks.is_empty(),
        "{leaks:#?}\n{}",
        all.iter()
            .map(|(w, t)| format!("== {w}\n{}", lines_with(t)))
            .collect::<String>()
    );
    // The search finds one where there is one.
    told.add("a leak", "x", "x: CANARY-1".to_owned());
    told.add("an encoded leak", "x", format!("x {ENCODED}"));
    assert_eq!(told.leaks(), ["a leak", "an encoded leak"]);
}

fn lines_with(text: &str) -> String {
    let lines = text
        .lines()
        .filter(|line| line.to_lowercase().contains(CANARY) || line.contains(ENCODED));
    lines.take(5).map(|line| format!("{line}\n")).collect()
}

/// What the admin interface tells, also to somebody with a wrong token.
fn admin(gateway: &Gateway, told: &mut Told) {
    for (path, marker) in [
        ("/metrics", "marker-route"),
        ("/config", "marker-route"),
        ("/status", "generation"),
        ("/upstreams", "targets"),
        ("/openapi.yaml", "openapi"),
        ("/readyz?verbose&token=canary", "ready"),
    ] {
        told.add(path, marker, at_socket(gateway, path));
    }
    let door = gateway.process().wait_line("its admin address", |line| {
        line.split_once("admin on http://")?.1.parse().ok()
    });
    let headers = [("Authorization", "Bearer canary-admin-token")];
    let answer = Client::connect(door).request("GET", "/config?token=canary", &headers, b"");
    assert_eq!(answer.status, 401);
    told.add(
        "the refusal of a token",
        "problem",
        format!("{:?} {}", answer.headers, answer.text()),
    );
}

/// What the commands print of good and of wrong configs, and what a reload says.
fn verbs(gateway: &Gateway, good: &str, told: &mut Told) {
    let dir = gateway.dir();
    fs::write(
        dir.join("other.yaml"),
        good.replace("canary-inline", "canary-other")
            .replace("/dead", "/gone"),
    )
    .unwrap();
    // `config show` and `audit` need what the environment of the gateway has.
    let bare = good
        .replace("{ env: SECRET_ENV }", "{ file: secret.txt }")
        .replace("{ credential: token }", "{ file: secret.txt }")
        .replace("${SECRET_MIXED}", "canary-mixed");
    fs::write(dir.join("bare.yaml"), &bare).unwrap();
    fs::write(
        dir.join("bare2.yaml"),
        bare.replace("canary-inline", "canary-2")
            .replace("/dead", "/gone"),
    )
    .unwrap();
    for format in ["human", "json"] {
        for (args, marker) in [
            (
                vec!["config", "show", "--config", "bare.yaml"],
                "marker-route",
            ),
            (
                vec![
                    "config",
                    "diff",
                    "--config",
                    "bare2.yaml",
                    "--against",
                    "bare.yaml",
                ],
                "/gone",
            ),
            (vec!["audit", "--config", "bare.yaml"], "A001"),
            (vec!["check", "--no-env", "--config", "other.yaml"], "o"),
            (vec!["status"], "generation"),
            (vec!["upstreams", "list"], "127.0.0.1"),
        ] {
            let mut args = args;
            args.extend(["--format", format]);
            told.add_output(&format!("{args:?}"), marker, &run_cli(&args, dir));
        }
        for (code, text) in wrong(good) {
            fs::write(dir.join("wrong.yaml"), &text).unwrap();
            for verb in ["check", "audit"] {
                let output = run_cli(&[verb, "--config", "wrong.yaml", "--format", format], dir);
                assert_eq!(output.code, 78, "{text}\n{}", output.stderr);
                // Without the variables of the gateway there is more to say.
                told.add_output(&format!("{verb} {format} of {code}"), "wrong.yaml", &output);
            }
        }
    }
    reloads(gateway, good, told);
}

fn reloads(gateway: &Gateway, good: &str, told: &mut Told) {
    let dir = gateway.dir();
    let post = |request: &str| {
        let request = format!("POST {request} HTTP/1.1\r\nHost: localhost\r\n");
        ask_socket(dir, &request).2
    };
    for (code, text) in wrong(good) {
        gateway.write_config(&text);
        told.add(&format!("a reload with {code}"), code, post("/reload"));
    }
    let changed = good
        .replace("canary-inline", "canary-changed")
        .replace("canary-{", "canary-new-{");
    gateway.write_config(&changed.replace("/dead", "/gone"));
    told.add("a reload", "applied", post("/reload"));
    told.add(
        "the config after it",
        "/gone",
        at_socket(gateway, "/config"),
    );
}
