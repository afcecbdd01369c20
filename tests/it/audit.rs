//! `doorward audit`: every rule finds what breaks it, where it stands, and nothing in what is fine.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test stops at the first thing that is not as expected"
)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use doorward::config::audit::RULES;
use serde_json::Value as Json;

use super::support::{DEADLINE, Output, run};

const FRAME: &str = "version: 1\nlisteners: { public: { address: \"127.0.0.1:8080\" } }\n\
    upstreams: { app: { targets: [{ url: \"http://10.0.0.1:3000\" }] } }\n\
    routes: [{ name: a, match: { path: \"/{id}\" }, upstream: app }]\n";

const PAIR: &str = "certificates: [{ cert_file: a.pem, key_file: a.key }]";

/// Audits a config beside a file with a secret, and files of TLS.
fn audit(config: &str, mode: u32, args: &[&str]) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls");
    for name in ["a.pem", "a.key", "a.crl"] {
        fs::copy(files.join(name), dir.path().join(name)).unwrap();
    }
    fs::write(dir.path().join("doorward.yaml"), config).unwrap();
    let secret = dir.path().join("secret.txt");
    fs::write(&secret, "hush").unwrap();
    let (shared, public) = (
        dir.path().join("hooks.jwks"),
        dir.path().join("public.jwks"),
    );
    let keys = include_str!("../../conf/examples/files/hooks.jwks");
    fs::write(&shared, keys).unwrap();
    fs::set_permissions(&shared, fs::Permissions::from_mode(mode)).unwrap();
    let keys = include_str!("../../conf/examples/files/keys.json");
    fs::write(&public, keys).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(mode)).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_doorward"));
    let command = command.arg("audit").args(args).current_dir(dir.path());
    run(command.env("NO_COLOR", "1"), DEADLINE)
}

/// Rule and covered text of each finding.
fn findings(config: &str, mode: u32) -> Vec<(String, String)> {
    let output = audit(config, mode, &["--format", "json"]);
    let json: Json = serde_json::from_str(&output.stdout).unwrap_or_default();
    let empty = Vec::new();
    let list = json["findings"].as_array().unwrap_or(&empty);
    assert!(json["ok"].is_boolean(), "{config}\n{output:?}");
    assert_eq!(output.code, i32::from(!list.is_empty()), "{output:?}");
    assert_eq!(json["ok"], list.is_empty());
    let one = |finding: &Json| {
        let line = usize::try_from(finding["line"].as_u64().unwrap()).unwrap();
        let text = config.lines().nth(line - 1).unwrap_or_default();
        let column = usize::try_from(finding["column"].as_u64().unwrap()).unwrap();
        let rest: String = text.chars().skip(column - 1).take(12).collect();
        (finding["code"].as_str().unwrap().to_owned(), rest)
    };
    list.iter().map(one).collect()
}

/// The frame with one text in the place of another.
fn with(from: &str, to: &str) -> String {
    assert!(FRAME.contains(from), "{from}");
    FRAME.replace(from, to)
}

fn route(rest: &str) -> String {
    with("upstream: app }]", &format!("upstream: app, {rest} }}]"))
}

fn top(rest: &str) -> String {
    format!("{FRAME}{rest}\n")
}

#[test]
#[expect(clippy::too_many_lines, reason = "it is one table")]
fn every_rule_finds_what_breaks_it_and_nothing_else() {
    let header = |name: &str, value: &str| {
        route(&format!(
            "request: {{ headers: {{ set: {{ {name}: {value} }} }} }}"
        ))
    };
    let answer = |name: &str, value: &str| {
        route(&format!(
            "response: {{ headers: {{ set: {{ {name}: {value} }} }} }}"
        ))
    };
    let listen = |to: &str| with("address: \"127.0.0.1:8080\"", to);
    let target = |to: &str| with("http://10.0.0.1:3000", to);
    let client_auth = |rest: &str| {
        listen(&format!(
            "address: \"127.0.0.1:8080\", tls: {{ {PAIR}, client_auth: {{ a.test: {{ ca_file: a.pem{rest} }} }} }}"
        ))
    };
    let authenticator = |kind: &str| {
        let auth = route("auth: [u]");
        format!("{auth}authenticators: {{ u: {{ {kind} }} }}\n")
    };
    let two_issuers = |rule: &str| {
        let auth = route("auth: [u, v]");
        let jwt = |name: &str| {
            format!("{name}: {{ jwt: {{ audiences: [a], issuer: \"https://{name}.test\" }} }}")
        };
        let (u, v) = (jwt("u"), jwt("v"));
        format!(
            "{auth}authenticators: {{ {u}, {v} }}\nconsumers: {{ acme: {{ identify: {{ claim: azp, equals: w{rule} }} }} }}\n"
        )
    };
    let planned = |acme: &str| {
        let auth = route("auth: [u]");
        format!(
            "{auth}authenticators: {{ u: {{ api_key: {{}} }} }}\nplans: {{ gold: {{ routes: [a] }} }}\nconsumers: {{ acme: {acme} }}\n"
        )
    };
    let issuer =
        |url: &str| authenticator(&format!("jwt: {{ audiences: [a], issuer: \"{url}\" }}"));
    let asked = |url: &str, secret: &str| {
        authenticator(&format!(
            "introspection: {{ endpoint: \"{url}\", client_id: g, client_secret: {secret} }}"
        ))
    };
    let redis = |url: &str| {
        let store =
            format!("stores: {{ s: {{ redis: {{ url: \"{url}\" }} }} }}\nkeys: {{ store: s }}");
        top(&store)
    };
    // Rule, a config that breaks it, what the finding is at, and one that keeps it.
    let cases = [
        (
            "A001",
            header("authorization", "Bearer hush"),
            "Bearer hush ",
            header("authorization", "\"Bearer {request.headers.x-t}\""),
        ),
        (
            "A001",
            header("x-api-key", "\"hush{request.id}\""),
            "\"hush{reques",
            header("x-tenant", "hush"),
        ),
        (
            "A002",
            header("x-a", "{ file: secret.txt }"),
            "",
            header("x-a", "{ env: HOME }"),
        ),
        (
            "A003",
            listen("address: \"127.0.0.1:8080\", trusted_proxies: [0.0.0.0/0]"),
            "0.0.0.0/0] }",
            listen("address: \"127.0.0.1:8080\", trusted_proxies: [10.0.0.0/8, 127.0.0.0/8]"),
        ),
        (
            "A003",
            listen("address: \"127.0.0.1:8080\", trusted_proxies: [10.0.0.0/8, \"::/0\"]"),
            "\"::/0\"] } }",
            listen("address: \"127.0.0.1:8080\", trusted_proxies: [\"fd00::/16\"]"),
        ),
        (
            "A004",
            header("x-user-id", "\"{request.headers.x-id}\""),
            "\"{request.he",
            header("x-user-id", "\"{request.id}\""),
        ),
        (
            "A004",
            route("request: { headers: { rename: { x-id: x-consumer-id } } }"),
            "x-consumer-i",
            route("request: { headers: { rename: { x-id: x-other } } }"),
        ),
        (
            "A005",
            answer("location", "\"{request.query.next}\""),
            "\"{request.qu",
            answer("location", "\"https://a.test/{request.query.next}\""),
        ),
        (
            "A006",
            listen("address: \"0.0.0.0:8080\", hosts: [a.test]"),
            "\"0.0.0.0:808",
            listen("address: \"[::1]:8080\", hosts: [a.test]"),
        ),
        (
            "A007",
            target("http://api.example.com"),
            "\"http://api.",
            target("http://api.internal"),
        ),
        (
            "A007",
            target("http://8.8.8.8"),
            "\"http://8.8.",
            target("http://[fd00::1]:80"),
        ),
        (
            "A007",
            with(
                "targets: [{ url: \"http://10.0.0.1:3000\" }]",
                "targets: [{ url: \"http://10.0.0.1:3000\" }], credentials: { client_credentials: { token_url: \"http://id.example.com/t\", client_id: a, client_secret: { env: HOME } } }",
            ),
            "\"http://id.e",
            with(
                "targets: [{ url: \"http://10.0.0.1:3000\" }]",
                "targets: [{ url: \"http://10.0.0.1:3000\" }], credentials: { client_credentials: { token_url: \"https://id.example.com/t\", client_id: a, client_secret: { env: HOME } } }",
            ),
        ),
        (
            "A001",
            with(
                "targets: [{ url: \"http://10.0.0.1:3000\" }]",
                "targets: [{ url: \"http://10.0.0.1:3000\" }], credentials: { basic: { username: a, password: hush } }",
            ),
            "hush } } } }",
            with(
                "targets: [{ url: \"http://10.0.0.1:3000\" }]",
                "targets: [{ url: \"http://10.0.0.1:3000\" }], credentials: { basic: { username: a, password: { env: HOME } } }",
            ),
        ),
        (
            "A007",
            issuer("http://id.example.com"),
            "\"http://id.e",
            issuer("https://id.example.com"),
        ),
        (
            "A007",
            asked("http://id.example.com/i", "{ env: HOME }"),
            "\"http://id.e",
            asked("http://127.0.0.1:81/i", "{ env: HOME }"),
        ),
        (
            "A001",
            asked("https://id.example.com/i", "hush"),
            "hush } } }",
            asked("https://id.example.com/i", "{ env: HOME }"),
        ),
        (
            "A001",
            asked("https://id.example.com/i?code=hush", "{ env: HOME }"),
            "\"https://id.",
            asked("https://id.example.com/i?code=${HOME}", "{ env: HOME }"),
        ),
        (
            "A025",
            route("auth: [u], authorize: { scopes: [a], mode: log_only }")
                + "authenticators: { u: { api_key: {} } }\n",
            "log_only } }",
            route("auth: [u], authorize: { scopes: [a], mode: enforce }")
                + "authenticators: { u: { api_key: {} } }\n",
        ),
        (
            "A026",
            authenticator("api_key: { query: key }"),
            "key } } }",
            authenticator("api_key: { cookie: key }"),
        ),
        (
            "A026",
            authenticator(
                "jwt: { audiences: [a], issuer: \"https://id.test\", from: [authorization, \"query:t\"] }",
            ),
            "\"query:t\"] }",
            authenticator(
                "jwt: { audiences: [a], issuer: \"https://id.test\", from: [authorization, \"header:t\"] }",
            ),
        ),
        (
            "A008",
            top(&format!(
                "admin: {{ address: \"0.0.0.0:9901\", tokens: [{{ sha256: {}, role: viewer }}] }}",
                "0f".repeat(32)
            )),
            "\"0.0.0.0:990",
            top("admin: { socket: admin.sock }"),
        ),
        (
            "A009",
            top("admin: { address: \"127.0.0.1:9901\" }"),
            "\"127.0.0.1:9",
            top(&format!(
                "admin: {{ address: \"127.0.0.1:9901\", tokens: [{{ sha256: {}, role: viewer }}] }}",
                "0f".repeat(32)
            )),
        ),
        (
            "A010",
            top("telemetry: { access_log: { format: none } }"),
            "none } }",
            top("telemetry: { access_log: { format: clf } }"),
        ),
        (
            "A011",
            top("telemetry: { access_log: { sample: 99% } }"),
            "99% } }",
            top("telemetry: { access_log: { sample: 100% } }"),
        ),
        (
            "A011",
            top("defaults: { routes: { log: none } }"),
            "none } }",
            route("log: none"),
        ),
        (
            "A011",
            top("defaults: { routes: { log: { sample: 1% } } }"),
            "1% } } }",
            route("log: { sample: 1% }"),
        ),
        (
            "A012",
            top("telemetry: { log: { level: debug } }"),
            "debug } }",
            top("telemetry: { log: { level: warn } }"),
        ),
        (
            "A014",
            route("lifecycle: { sunset: \"2001-01-01\" }"),
            "\"2001-01-01\"",
            route("lifecycle: { sunset: \"2999-01-01\" }"),
        ),
        (
            "A015",
            answer("server", "nginx"),
            "nginx } } } ",
            answer("x-server", "nginx"),
        ),
        (
            "A006",
            listen("address: \"0.0.0.0:8080\", hosts: [a.test], protocols: [h2c]"),
            "\"0.0.0.0:808",
            listen(&format!(
                "address: \"0.0.0.0:8080\", hosts: [a.test], tls: {{ {PAIR} }}"
            )),
        ),
        (
            "A016",
            target("https://a.test\" }], tls: { verify: none }, protocol: http1 } }\n#"),
            "none }, prot",
            target("https://a.test\" }], tls: { verify: full }, protocol: http1 } }\n#"),
        ),
        (
            "A017",
            listen(
                "address: \"127.0.0.1:8080\", proxy_protocol: { from: [10.0.0.0/8, 0.0.0.0/0] }",
            ),
            "0.0.0.0/0] }",
            listen("address: \"127.0.0.1:8080\", proxy_protocol: { from: [10.0.0.0/8] }"),
        ),
        (
            "A018",
            top("defaults: { routes: { body_limits: none } }"),
            "none } }",
            route("body_limits: none"),
        ),
        (
            "A018",
            listen("address: \"127.0.0.1:8080\", defaults: { body_limits: none }"),
            "none } } }",
            listen("address: \"127.0.0.1:8080\", defaults: { body_limits: { request: 1GiB } }"),
        ),
        (
            "A019",
            client_auth(""),
            "{ ca_file: a",
            client_auth(", crl_file: a.crl"),
        ),
        (
            "A023",
            two_issuers(""),
            "{ claim: azp",
            two_issuers(", authenticator: u"),
        ),
        ("A027", planned("{}"), "{} }", planned("{ plan: gold }")),
        (
            "A020",
            listen("address: \"127.0.0.1:8080\", limits: { connections_per_ip: 10001 }"),
            "10001 } } }",
            listen("address: \"127.0.0.1:8080\", limits: { connections_per_ip: 10000 }"),
        ),
        (
            "A020",
            listen("address: \"127.0.0.1:8080\", limits: { requests_per_connection: 100001 }"),
            "100001 } } }",
            listen("address: \"127.0.0.1:8080\", limits: { requests_per_connection: 100000 }"),
        ),
        (
            "A020",
            listen("address: \"127.0.0.1:8080\", limits: { connection_rate_per_ip: 50001/s }"),
            "50001/s } }",
            listen("address: \"127.0.0.1:8080\", limits: { connection_rate_per_ip: 50000/s }"),
        ),
        (
            "A020",
            listen("address: \"127.0.0.1:8080\", limits: { request_rate_per_ip: none }"),
            "none } } }",
            listen("address: \"127.0.0.1:8080\", limits: { request_rate_per_ip: 500000/s }"),
        ),
        (
            "A020",
            listen("address: \"127.0.0.1:8080\", limits: { http2_streams: 501 }"),
            "501 } } }",
            listen("address: \"127.0.0.1:8080\", limits: { http2_streams: 500 }"),
        ),
        (
            "A020",
            listen("address: \"127.0.0.1:8080\", timeouts: { header: 61s }"),
            "61s } } }",
            listen("address: \"127.0.0.1:8080\", timeouts: { header: 60s, handshake: 60s }"),
        ),
        (
            "A020",
            listen("address: \"127.0.0.1:8080\", timeouts: { handshake: 61s }"),
            "61s } } }",
            listen("address: \"127.0.0.1:8080\", timeouts: { idle: 15m, write: 15m }"),
        ),
        (
            "A020",
            listen("address: \"127.0.0.1:8080\", timeouts: { idle: 16m }"),
            "16m } } }",
            listen("address: \"127.0.0.1:8080\", timeouts: { min_rate: 1B/s }"),
        ),
        (
            "A020",
            listen("address: \"127.0.0.1:8080\", timeouts: { write: 16m }"),
            "16m } } }",
            listen("address: \"127.0.0.1:8080\", limits: { headers: 250 }"),
        ),
        (
            "A021",
            route("cors: { origins: [\"*\"] }"),
            "\"*\"] }",
            route("cors: { origins: [\"https://*.a.test\"] }"),
        ),
        (
            "A021",
            top("defaults: { routes: { cors: { origins: [{ regex: \"https://.*\" }] } } }"),
            "{ regex: \"ht",
            top(
                "defaults: { routes: { cors: { origins: [{ regex: \"https://.*[.]a[.]test\" }] } } }",
            ),
        ),
        (
            "A022",
            redis("redis://user@10.0.0.5:6379/1"),
            "\"redis://use",
            redis("rediss://10.0.0.5:6379"),
        ),
        (
            "A022",
            redis("redis://store.internal:6379"),
            "\"redis://sto",
            redis("redis://127.0.0.1:6379/2"),
        ),
        (
            "A022",
            redis("redis://localhost.evil.test"),
            "\"redis://loc",
            redis("redis://localhost"),
        ),
        (
            "A002",
            authenticator("signature: { keys_file: hooks.jwks }"),
            "hooks.jwks }",
            authenticator("signature: { keys_file: public.jwks }"),
        ),
    ];
    let mut found = BTreeSet::from(["A024"]);
    for (id, breaks, place, keeps) in cases {
        let list = findings(&breaks, 0o644);
        let [(code, covered)] = list.as_slice() else {
            return assert_eq!(list.len(), 1, "{id}: {breaks}\n{list:?}");
        };
        assert_eq!(code, id, "{breaks}");
        assert!(covered.starts_with(place), "{id}: `{covered}` in\n{breaks}");
        assert_eq!(findings(&keeps, 0o640), [], "{id}: {keeps}");
        found.insert(id);
    }
    // A file that only owner and group read is fine.
    assert_eq!(findings(&header("x-a", "{ file: secret.txt }"), 0o640), []);
    // A public listener without hosts breaks two rules.
    let public = listen("address: \"0.0.0.0:8080\"");
    let ids: Vec<String> = findings(&public, 0o640)
        .into_iter()
        .map(|(id, _)| id)
        .collect();
    assert_eq!(ids, ["A006", "A013"]);
    found.insert("A013");
    let all: BTreeSet<&str> = RULES.iter().map(|rule| rule.id).collect();
    assert_eq!(found, all);
}

#[test]
fn what_is_kept_on_disk_is_nobody_elses() {
    let dir = tempfile::tempdir().unwrap();
    let config = top("stores: { s: { file: { path: state } } }\nkeys: { store: s }")
        + "runtime: { state_dir: state }\n";
    fs::write(dir.path().join("doorward.yaml"), config).unwrap();
    let found = |folder: u32, file: u32| {
        let state = dir.path().join("state");
        fs::create_dir_all(&state).unwrap();
        let document = state.join("keys.json");
        fs::write(&document, "{}").unwrap();
        fs::write(state.join("keys.lock"), "").unwrap();
        fs::set_permissions(&document, fs::Permissions::from_mode(file)).unwrap();
        fs::set_permissions(&state, fs::Permissions::from_mode(folder)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_doorward"));
        let command = command.args(["audit", "--format", "json"]);
        let output = run(command.current_dir(dir.path()), DEADLINE);
        let json: Json = serde_json::from_str(&output.stdout).unwrap();
        let list = json["findings"].as_array().unwrap().iter();
        let list = list.map(|it| (it["code"].as_str().unwrap(), it["line"].as_u64().unwrap()));
        list.map(|(code, line)| format!("{code} {line}"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    // For the store in line 5, and for the folder of the process in line 7.
    assert_eq!(found(0o755, 0o640), "");
    assert_eq!(found(0o777, 0o600), "A024 5, A024 7");
    assert_eq!(found(0o700, 0o604), "A002 5, A002 7");
}

#[test]
fn findings_are_told_to_people_worst_first_with_line_and_mend() {
    let config = route("request: { headers: { set: { x-api-key: hush } } }")
        .replace("127.0.0.1:8080", "0.0.0.0:8080");
    let output = audit(&config, 0o640, &[]);
    assert_eq!(output.code, 1);
    let said = &output.stdout;
    for text in [
        "high[A001]: a secret stands in the config\n",
        "medium[A006]: other machines reach `0.0.0.0:8080` without TLS\n",
        "low[A013]: 1 route on `public` for whatever host is asked\n",
        "--> doorward.yaml:4:",
        "^^^^",
        "= hint: write `{ env: NAME }`",
        "3 findings: 1 high, 1 medium, 1 low\n",
    ] {
        assert!(said.contains(text), "no `{text}` in\n{said}");
    }
    let order: Vec<Option<usize>> = ["high[", "medium[", "low["]
        .map(|risk| said.find(risk))
        .to_vec();
    assert!(order.is_sorted(), "{said}");
    assert!(!said.contains("hush"), "{said}");
    let fine = audit(FRAME, 0o640, &[]);
    assert_eq!(
        (fine.code, fine.stdout.as_str()),
        (0, "  ok  no findings\n")
    );
    let broken = audit("version: 1\nnothing: 1\n", 0o640, &[]);
    assert_eq!(broken.code, 78);
    assert!(broken.stderr.contains("error[E010]"), "{}", broken.stderr);
}

#[test]
fn examples_are_fine_but_for_what_they_show() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf");
    let dir = tempfile::tempdir().unwrap();
    for name in ["app.key", "app-token"] {
        let path = dir.path().join(name);
        fs::write(&path, "hush").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    let copied = Command::new("cp")
        .arg("-r")
        .arg(root.join("examples/files"))
        .arg(dir.path())
        .status();
    assert!(copied.unwrap().success());
    for name in ["auth-secret.txt", "hooks.jwks"] {
        let secret = dir.path().join("files").join(name);
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    }
    // What an example is there to show.
    let shown = [
        ("admin.yaml", "A009"),
        ("authorize.yaml", "A025"),
        ("cors.yaml", "A021"),
        ("lifecycle.yaml", "A014"),
        ("tls.yaml", "A019"),
    ];
    let mut seen: BTreeSet<&(&str, &str)> = BTreeSet::new();
    let mut looked = 0;
    for folder in [root.clone(), root.join("examples")] {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|ending| ending != "yaml") {
                continue;
            }
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            fs::copy(&path, dir.path().join(&name)).unwrap();
            let mut command = Command::new(env!("CARGO_BIN_EXE_doorward"));
            let command = command.args(["audit", "--format", "json", "--config", &name]);
            let command = command
                .current_dir(dir.path())
                .env("CREDENTIALS_DIRECTORY", dir.path())
                .env("APP_API_KEY", "hush")
                .env("CLIENT_SECRET", "hush")
                .env("PRICES_PASSWORD", "hush")
                .env("SEARCH_KEY", "hush")
                .env("AWS_KEY", "hush")
                .env("STICKY_SECRET", "hush-hush-hush-hush")
                .env("APP_ADDRESS", "127.0.0.1:1");
            let output = run(command, DEADLINE);
            let json: Json = serde_json::from_str(&output.stdout).unwrap();
            let list = json["findings"].as_array();
            assert!(list.is_some(), "{name}: {}", output.stdout);
            for finding in list.into_iter().flatten() {
                let id = finding["code"].as_str().unwrap().to_owned();
                let known = shown
                    .iter()
                    .find(|(file, rule)| *file == name && *rule == id);
                assert!(known.is_some(), "{name}: {finding}");
                seen.extend(known);
            }
            looked += 1;
        }
    }
    assert!(looked > 20, "{looked}");
    assert_eq!(seen.len(), shown.len());
}

#[test]
fn the_architecture_names_every_rule() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ARCHITECTURE.md");
    let text = fs::read_to_string(path).unwrap();
    let rows: Vec<String> = RULES
        .iter()
        .map(|rule| format!("| `{}` | {} | {} |", rule.id, rule.risk, rule.rule))
        .collect();
    for row in &rows {
        assert!(text.contains(row), "src/ARCHITECTURE.md has no row\n{row}");
    }
    assert_eq!(text.matches("\n| `A0").count(), rows.len());
}
