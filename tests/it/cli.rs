//! The command line: verbs, flags, exit codes, what is printed where, and what never is.
#![expect(
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not as expected"
)]

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use serde_json::Value as Json;
use tempfile::TempDir;

use super::support::{
    Client, DEADLINE, Gateway, Origin, Output, Process, Reply, Setup, calls, get, internet_calls,
    run, run_cli, traced,
};

/// A config that answers with its own name, so that one can see which one was used.
fn config(name: &str) -> String {
    format!(
        "version: 1\nlisteners: {{ {name}: {{ address: \"127.0.0.1:0\" }} }}\n\
         routes: [{{ name: {name}, match: {{ path_prefix: / }}, respond: {{ text: {name} }} }}]\n"
    )
}

/// A folder with these files.
fn folder(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    dir
}

fn read(path: &Path) -> String {
    String::from_utf8(std::fs::read(path).unwrap()).unwrap()
}

fn doorward(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_doorward"));
    command
        .args(args)
        .current_dir(dir)
        .env_remove("DOORWARD_CONFIG");
    command
}

fn with_env(dir: &Path, args: &[&str], env: &[(&str, &str)]) -> Output {
    run(doorward(dir, args).envs(env.iter().copied()), DEADLINE)
}

#[test]
fn check_opens_no_socket_and_looks_nothing_up() {
    let names = "version: 1\nlisteners: { public: { address: \"127.0.0.1:1\" } }\n\
        upstreams: { app: { targets: [{ url: \"http://orders.invalid:80\" }] } }\n\
        routes: [{ name: a, match: { path_prefix: / }, upstream: app }]\n";
    let dir = folder(&[("doorward.yaml", names)]);
    let (output, trace) = traced(&doorward(dir.path(), &["check"]));
    assert_eq!(output.code, 0, "{}", output.stderr);
    for call in ["socket", "connect", "bind", "listen", "sendto"] {
        assert_eq!(calls(&trace, call), 0, "{call}:\n{trace}");
    }
    // The same strace sees what `run` does, here until the port is found busy.
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = busy.local_addr().unwrap().to_string();
    let served = config("a").replace("127.0.0.1:0", &address);
    let dir = folder(&[("doorward.yaml", &served)]);
    let (output, trace) = traced(&doorward(dir.path(), &["run"]));
    assert_eq!(output.code, 1, "{}", output.stderr);
    assert!(!internet_calls(&trace).is_empty(), "{trace}");
}

#[test]
fn words_of_later_versions_are_called_so() {
    let dir = folder(&[("doorward.yaml", &config("a"))]);
    for (args, word) in [
        (&["upgrade"][..], "upgrade"),
        (&["top", "--format", "json"], "top"),
        (&["tap", "--help"], "tap"),
        (&["cache", "purge", "--route", "a"], "cache"),
        (&["usage"], "usage"),
        (&["billing", "preview", "--month", "2026-11"], "billing"),
        (&["openapi"], "openapi"),
        (&["functions", "list"], "functions"),
        (&["check", "--config-key", "ed25519:a"], "--config-key"),
        (&["--config-key=ed25519:a", "run"], "--config-key"),
    ] {
        let output = run_cli(args, dir.path());
        assert_eq!(output.code, 2, "{args:?} {}", output.stderr);
        let said = format!("error: `{word}` is not in this version\n");
        assert!(
            output.stderr.starts_with(&said),
            "{args:?} {}",
            output.stderr
        );
        assert!(output.stderr.contains("= hint: "), "{}", output.stderr);
        assert_eq!(output.stdout, "");
    }
    let output = run_cli(&["stauts"], dir.path());
    assert_eq!(output.code, 2);
    assert!(output.stderr.contains("status"), "{}", output.stderr);
}

#[test]
fn check_names_all_that_is_asked_of_others() {
    let text = config("a")
        + "stores: { shared: { redis: { url: \"redis://me@10.0.0.5:6379/1\" } } }\nkeys: { store: shared }\n\
          upstreams: { u: { targets: [{ url: \"http://10.0.0.1\" }], credentials: { client_credentials: { token_url: \"https://id.test/token?kind=a\", client_id: a, client_secret: b } } } }\n";
    let text = text.replace("respond: { text: a }", "upstream: u");
    let dir = folder(&[("doorward.yaml", &text)]);
    let output = run_cli(&["check"], dir.path());
    assert_eq!(output.code, 0, "{}", output.stderr);
    let list =
        "not verified offline: tokens for `u` (id.test/token), store `shared` (10.0.0.5:6379)\n";
    assert!(output.stdout.contains(list), "{}", output.stdout);
}

#[test]
fn check_says_what_it_looked_at() {
    let dir = folder(&[("doorward.yaml", &config("a"))]);
    let output = run_cli(&["check"], dir.path());
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert_eq!(
        output.stdout,
        "  ok  syntax, references, expressions, 1 listener, 0 upstreams, 1 route\n"
    );
    assert_eq!(output.stderr, "using doorward.yaml\n");
}

#[test]
fn check_reports_for_programs_too() {
    let dir = folder(&[(
        "doorward.yaml",
        "version: 1\nlisteners: { a: { adress: \"127.0.0.1:0\" } }\n",
    )]);
    let output = run_cli(&["check", "--format", "json"], dir.path());
    assert_eq!(output.code, 78);
    let report: Json = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(report["ok"], false);
    let problem = &report["problems"][1];
    assert_eq!(problem["code"], "E010");
    assert_eq!(problem["severity"], "error");
    assert_eq!(problem["file"], "doorward.yaml");
    assert_eq!(
        (&problem["line"], &problem["column"]),
        (&2.into(), &19.into())
    );
    assert_eq!(problem["place"], "listeners.a.adress");
    assert_eq!(problem["message"], "unknown key `adress`");
    assert_eq!(problem["hint"], "did you mean `address`?");

    let good = folder(&[("doorward.yaml", &config("a"))]);
    let output = run_cli(&["--format", "json", "check"], good.path());
    assert_eq!((output.code, output.stderr.as_str()), (0, ""));
    let report: Json = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(report["ok"], true);
}

#[test]
fn colours_come_only_where_they_are_asked_for() {
    let dir = folder(&[("doorward.yaml", "version: 2\n")]);
    let plain = run_cli(&["check"], dir.path()).stderr;
    assert!(!plain.contains('\u{1b}'), "{plain}");
    let never = run_cli(&["check", "--color", "never"], dir.path()).stderr;
    assert!(!never.contains('\u{1b}'), "{never}");
    let always = run_cli(&["check", "--color", "always"], dir.path()).stderr;
    assert!(always.contains('\u{1b}'), "{always}");
}

#[test]
fn without_the_environment_a_variable_fits_wherever_it_stands() {
    let text = r#"version: 1
runtime: { threads: "${THREADS}" }
listeners:
  public: { address: "${ADDRESS}", trusted_proxies: ["${NET}"], hosts: ["${HOST}"], protocols: ["${PROTOCOL}"] }
upstreams:
  app: { targets: [{ url: "${URL}", weight: "${WEIGHT}" }, { url: "http://${NAME}:${PORT}" }] }
  other: { targets: [{ url: "http://127.0.0.1:1" }] }
routes:
  - name: a
    match: { hosts: ["${HOST}"], path: "${ONE_PATH}", methods: ["${METHOD}"], after: "${DATE}", headers: { x-a: "${TEST}" }, query: { v: { exact: "${V}" } } }
    upstream: "${UPSTREAM}"
    maintenance: { retry_after: "${TIME}", message: "${MESSAGE}" }
    lifecycle: { sunset: "${SUNSET}", successor: "${SUCCESSOR}" }
    response: { rewrite_location: "${REWRITE}" }
  - { name: b, match: { hosts: ["${A}"], path: /b }, redirect: { scheme: "${SCHEME}", status: "${STATUS}", host: "${TO}" } }
  - { name: c, match: { hosts: ["${B}"], path: /b }, respond: { status: "${STATUS}", text: "${TEXT}" } }
  - { name: d, match: { path: "${OTHER_PATH}" }, request: { headers: { set: { x-key: { env: SECRET } } } }, upstream: other }
"#;
    let dir = folder(&[("doorward.yaml", text)]);
    let output = run_cli(&["check", "--no-env", "--deny-warnings"], dir.path());
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert!(output.stdout.contains("4 routes"), "{}", output.stdout);
    // With it, each is told.
    let output = run_cli(&["check"], dir.path());
    assert_eq!(output.code, 78);
    assert_eq!(
        output.stderr.matches("error[E005]").count(),
        text.matches("${").count()
    );
    assert_eq!(output.stderr.matches("error[E006]").count(), 1);
    assert_eq!(
        output.stderr.matches("error[").count(),
        text.matches("${").count() + 1
    );
}

#[test]
fn without_the_environment_everything_else_is_still_checked() {
    let text = r#"version: 1
listeners: { public: { address: "${ADDRESS}", hosst: [] } }
routes:
  - { name: a, match: { path: "/${X}/{id}" }, respond: { text: "${Y} {idd}", json: "${Z}" } }
  - { name: b, match: { path: b }, upstream: nowhere }
"#;
    let dir = folder(&[("doorward.yaml", text)]);
    let output = run_cli(&["check", "--no-env"], dir.path());
    assert_eq!(output.code, 78);
    for code in ["E010", "E038", "E035", "E031"] {
        assert!(output.stderr.contains(code), "{code}:\n{}", output.stderr);
    }
    assert!(!output.stderr.contains("E005"), "{}", output.stderr);
}

#[test]
fn variables_are_replaced_and_defaults_hold() {
    let text = r#"version: 1
runtime: { threads: "${THREADS:-2}" }
listeners: { public: { address: "127.0.0.1:${PORT:-8080}" } }
routes:
  - { name: a, match: { path: "/${STAGE}/x" }, respond: { status: "${STATUS}", text: "$$5 ${EMPTY:-${STAGE}} $" } }
"#;
    let dir = folder(&[("doorward.yaml", text)]);
    let env = [("STAGE", "live"), ("STATUS", "201"), ("EMPTY", "")];
    let output = with_env(dir.path(), &["config", "show", "--format", "json"], &env);
    assert_eq!(output.code, 0, "{}", output.stderr);
    let shown: Json = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(shown["runtime"]["threads"], 2);
    assert_eq!(shown["listeners"]["public"]["address"], "127.0.0.1:8080");
    assert_eq!(shown["routes"][0]["match"]["path"], "/live/x");
    assert_eq!(shown["routes"][0]["respond"]["status"], 201);
    assert_eq!(shown["routes"][0]["respond"]["text"], "$5 live $");
}

#[test]
fn the_config_is_searched_in_this_order() {
    let dir = folder(&[
        ("doorward.yaml", &config("here")),
        ("named.yaml", &config("named")),
        ("flag.yaml", &config("flag")),
    ]);
    let used = |args: &[&str], env: &[(&str, &str)]| {
        let output = with_env(dir.path(), args, env);
        assert_eq!(output.code, 0, "{}", output.stderr);
        output.stderr.lines().next().unwrap_or_default().to_owned()
    };
    assert_eq!(used(&["check"], &[]), "using doorward.yaml");
    let named = [("DOORWARD_CONFIG", "named.yaml")];
    assert_eq!(used(&["check"], &named), "using named.yaml");
    assert_eq!(
        used(&["check", "--config", "flag.yaml"], &named),
        "using flag.yaml"
    );
    // One that is named and missing is not replaced by another.
    let gone = with_env(dir.path(), &["check"], &[("DOORWARD_CONFIG", "gone.yaml")]);
    assert_eq!(gone.code, 78);
    assert!(gone.stderr.contains("E000"), "{}", gone.stderr);
}

#[test]
fn no_config_at_all_is_said_with_the_ways_out() {
    // Where a packaged gateway is installed there is one for every folder.
    if Path::new("/etc/doorward/doorward.yaml").exists() {
        return;
    }
    let dir = folder(&[]);
    for verb in [&["check"][..], &["run"], &["config", "show"]] {
        let output = with_env(dir.path(), verb, &[]);
        assert_eq!(output.code, 78);
        assert!(
            output.stderr.contains("error: no config found"),
            "{}",
            output.stderr
        );
        assert!(output.stderr.contains("doorward init"), "{}", output.stderr);
    }
}

#[test]
fn a_config_from_afar_is_not_in_this_version() {
    let dir = folder(&[]);
    for place in [
        "etcd://127.0.0.1/doorward",
        "https://example.com/doorward.yaml",
    ] {
        let output = with_env(dir.path(), &["check", "--config", place], &[]);
        assert_eq!(output.code, 78);
        assert!(
            output.stderr.contains("is not in this version"),
            "{}",
            output.stderr
        );
    }
}

#[test]
fn wrong_words_end_with_two() {
    let dir = folder(&[("doorward.yaml", &config("a"))]);
    for args in [
        &[][..],
        &["chekc"],
        &["check", "--nope"],
        &["check", "--format", "xml"],
        &["proxy"],
        &["proxy", "--to", "https://127.0.0.1"],
        &["proxy", "--to", "http://127.0.0.1/path"],
        &["proxy", "--to", "127.0.0.1:1", "--listen", "nowhere"],
        &["completions", "tcsh"],
        &["config"],
    ] {
        let output = run_cli(args, dir.path());
        assert_eq!(output.code, 2, "{args:?}: {}", output.stderr);
        assert!(
            !output.stderr.is_empty() && output.stdout.is_empty(),
            "{args:?}"
        );
    }
}

#[test]
fn help_has_two_examples_a_verb() {
    let dir = folder(&[]);
    let verbs: &[&[&str]] = &[
        &[],
        &["run"],
        &["proxy"],
        &["demo"],
        &["init"],
        &["check"],
        &["audit"],
        &["test"],
        &["explain"],
        &["config"],
        &["config", "show"],
        &["config", "diff"],
        &["config", "schema"],
        &["reload"],
        &["status"],
        &["upstreams"],
        &["upstreams", "list"],
        &["completions"],
        &["man"],
    ];
    for verb in verbs {
        let mut args = verb.to_vec();
        args.push("--help");
        let output = run_cli(&args, dir.path());
        assert_eq!(output.code, 0, "{verb:?}");
        let examples = output.stdout.split("Examples:").nth(1).unwrap_or_default();
        assert!(
            examples.matches("doorward ").count() >= 2,
            "{verb:?}:\n{}",
            output.stdout
        );
    }
    assert_eq!(run_cli(&["--version"], dir.path()).code, 0);
}

/// A stream that nobody reads.
fn unread() -> std::os::fd::OwnedFd {
    std::os::unix::net::UnixStream::pair().unwrap().0.into()
}

#[test]
fn a_reader_that_has_seen_enough_changes_no_exit_code() {
    let wrong = config("a").replace("respond", "respnd");
    let dir = folder(&[("good.yaml", &config("a")), ("wrong.yaml", &wrong)]);
    for (args, code) in [
        (&["check", "--config", "good.yaml"][..], 0),
        (&["check", "--config", "wrong.yaml"], 78),
        (&["check", "--config", "wrong.yaml", "--format", "json"], 78),
        (&["config", "schema"], 0),
        (&["status", "--config", "good.yaml"], 69),
        (&["nope"], 2),
    ] {
        let mut command = doorward(dir.path(), args);
        let status = command.stdout(unread()).stderr(unread()).status().unwrap();
        assert_eq!(status.code(), Some(code), "{args:?}");
    }
}

#[test]
fn what_cannot_be_written_is_a_failure() {
    let dir = folder(&[]);
    let full = || {
        std::fs::File::options()
            .write(true)
            .open("/dev/full")
            .unwrap()
    };
    let mut command = doorward(dir.path(), &["config", "schema"]);
    let output = command.stdout(full()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("cannot write"), "{said}");
}

#[test]
fn show_writes_defaults_and_inheritance_out() {
    let text = r#"version: 1
listeners:
  public: { address: "127.0.0.1:0", defaults: { maintenance: { message: listener } } }
  internal: { address: ["127.0.0.1:0", "unix:/tmp/a.sock"] }
defaults: { routes: { maintenance: { message: all }, response: { rewrite_location: false } } }
upstreams: { app: { targets: [{ url: "http://LOCALHOST" }] } }
routes:
  - { name: own, match: { path: /a }, upstream: app, maintenance: { retry_after: 90s } }
  - { name: off, match: { path: /b }, upstream: app, maintenance: none }
  - { name: public, match: { path: /c, listeners: [public] }, upstream: app }
  - { name: internal, match: { path: /d, listeners: [internal] }, upstream: app }
  - { name: both, match: { path: /e }, upstream: app }
"#;
    let dir = folder(&[("doorward.yaml", text)]);
    let output = run_cli(&["config", "show", "--format", "json"], dir.path());
    assert_eq!(output.code, 0, "{}", output.stderr);
    let shown: Json = serde_json::from_str(&output.stdout).unwrap();
    let route = |index: usize, key: &str| shown["routes"][index][key].clone();
    assert_eq!(shown["runtime"]["threads"], "auto");
    assert_eq!(shown["listeners"]["public"]["protocols"][0], "http1");
    assert_eq!(shown["upstreams"]["app"]["targets"][0]["weight"], 1);
    assert_eq!(
        shown["upstreams"]["app"]["targets"][0]["url"],
        "http://localhost"
    );
    assert_eq!(shown["errors"]["type_base"], "urn:doorward:error:");
    assert_eq!(route(0, "maintenance")["retry_after"], "90s");
    assert_eq!(route(0, "maintenance").get("message"), None);
    assert_eq!(route(0, "response")["rewrite_location"], false);
    assert_eq!(route(1, "maintenance"), "none");
    assert_eq!(route(2, "maintenance")["message"], "listener");
    assert_eq!(route(2, "maintenance")["retry_after"], "1m");
    assert_eq!(route(3, "maintenance")["message"], "all");
    // On the two listeners it is not the same: it stays theirs.
    assert_eq!(route(4, "maintenance"), Json::Null);
    assert_eq!(
        shown["listeners"]["public"]["defaults"]["maintenance"]["message"],
        "listener"
    );
    assert_eq!(shown["defaults"]["routes"]["maintenance"]["message"], "all");
}

#[test]
fn show_merges_the_files_of_conf_d() {
    let dir = folder(&[
        ("doorward.yaml", &config("a")),
        (
            "conf.d/20-b.yaml",
            "routes: [{ name: c, match: { path: /c }, respond: {} }]\n",
        ),
        (
            "conf.d/10-a.yaml",
            "upstreams: { x: { targets: [{ url: \"http://127.0.0.1:1\" }] } }\nroutes: [{ name: b, match: { path: /b }, upstream: x }]\n",
        ),
        ("conf.d/ignored.txt", "this is no config\n"),
    ]);
    let output = run_cli(&["config", "show", "--format", "json"], dir.path());
    assert_eq!(output.code, 0, "{}", output.stderr);
    let shown: Json = serde_json::from_str(&output.stdout).unwrap();
    let names: Vec<&str> = shown["routes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|route| route["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["a", "b", "c"]);
}

const CANARIES: &str = r#"version: 1
listeners: { public: { address: "127.0.0.1:0" } }
upstreams: { app: { targets: [{ url: "http://127.0.0.1:1" }] } }
defaults: { routes: { request: { headers: { add: { x-inherited: { env: CANARY_ENV } } } } } }
routes:
  - name: own
    match: { path: /a, headers: { x-api-key: { exact: "${CANARY_MATCH}" } } }
    request:
      headers:
        set:
          x-env: { env: CANARY_ENV }
          x-file: { file: secret.txt }
          x-credential: { credential: idp }
          authorization: "Bearer ${CANARY_MIXED}"
          x-plain: "${HARMLESS}"
        add: { cookie: "${CANARY_MIXED}" }
      query: { set: { api_key: "${CANARY_MIXED}" } }
    upstream: app
  - { name: inherits, match: { path: /b }, upstream: app }
  - { name: answer, match: { path: /c }, respond: { headers: { set-cookie: "a=${CANARY_MIXED}" } } }
"#;

/// The config with secrets from everywhere, and what the environment holds for it.
fn canaries(config: &str) -> (TempDir, Vec<(String, String)>) {
    let dir = folder(&[
        ("doorward.yaml", config),
        ("secret.txt", "canary-of-a-file\n"),
        ("credentials/idp", "canary-{of}-a-credential\n"),
    ]);
    let credentials = dir.path().join("credentials").display().to_string();
    let env = [
        ("CREDENTIALS_DIRECTORY", credentials.as_str()),
        ("CANARY_ENV", "canary-of-the-environment"),
        ("CANARY_MIXED", "canary-in-a-text"),
        ("CANARY_MATCH", "canary-of-a-match"),
        ("HARMLESS", "harmless"),
    ];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
    (dir, env.to_vec())
}

fn borrowed(env: &[(String, String)]) -> Vec<(&str, &str)> {
    env.iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

#[test]
fn secrets_are_never_printed() {
    let (dir, env) = canaries(CANARIES);
    let broken =
        format!("{CANARIES}  - {{ name: broken, match: {{ path: x }}, upstream: nowhere }}\n");
    std::fs::write(dir.path().join("broken.yaml"), broken).unwrap();
    let spoilt = CANARIES
        .replace("x-env: {", "\"x env\": {")
        .replace("x-file:", "te:");
    std::fs::write(dir.path().join("spoilt.yaml"), spoilt).unwrap();
    let verbs: &[&[&str]] = &[
        &["config", "show"],
        &["config", "show", "--format", "json"],
        &["config", "diff", "--against", "doorward.yaml"],
        &["config", "diff", "--against", "broken.yaml"],
        &["check"],
        &["check", "--format", "json"],
        &["check", "--config", "broken.yaml"],
        &["check", "--config", "spoilt.yaml"],
        &["check", "--config", "spoilt.yaml", "--format", "json"],
        &["config", "show", "--config", "spoilt.yaml"],
    ];
    for verb in verbs {
        let output = with_env(dir.path(), verb, &borrowed(&env));
        let printed = output.stdout + &output.stderr;
        assert!(!printed.contains("canary-"), "{verb:?}:\n{printed}");
    }
    let output = with_env(
        dir.path(),
        &["config", "show", "--format", "json"],
        &borrowed(&env),
    );
    let shown: Json = serde_json::from_str(&output.stdout).unwrap();
    let set = &shown["routes"][0]["request"]["headers"]["set"];
    assert_eq!(set["x-env"]["env"], "CANARY_ENV");
    assert_eq!(set["x-file"]["file"], "secret.txt");
    assert_eq!(set["x-credential"]["credential"], "idp");
    assert_eq!(set["authorization"], "Bearer ${CANARY_MIXED}");
    assert_eq!(set["x-plain"], "harmless");
    let inherited = &shown["routes"][1]["request"]["headers"]["add"];
    assert_eq!(inherited["x-inherited"]["env"], "CANARY_ENV");
}

#[test]
fn secrets_reach_the_upstream_and_no_log() {
    let origin = Origin::answer(|_| Reply::ok("ok"));
    let config = CANARIES
        .replace("http://127.0.0.1:1", &origin.url())
        .replace(
            ", headers: { x-api-key: { exact: \"${CANARY_MATCH}\" } }",
            "",
        );
    let (dir, env) = canaries(&config);
    let setup = Setup::new(&config).file("secret.txt", "canary-of-a-file\n");
    let setup = env
        .iter()
        .fold(setup.env("RUST_LOG", "trace"), |setup, (name, value)| {
            setup.env(name, value)
        });
    let gateway = setup.spawn();
    let mut client = Client::connect(gateway.addr());
    assert_eq!(client.get("/a").status, 200);
    let seen = origin.last();
    assert_eq!(seen.header("x-env"), Some("canary-of-the-environment"));
    assert_eq!(seen.header("x-file"), Some("canary-of-a-file"));
    // Braces of a secret are no template.
    assert_eq!(
        seen.header("x-credential"),
        Some("canary-{of}-a-credential")
    );
    assert_eq!(
        seen.header("authorization"),
        Some("Bearer canary-in-a-text")
    );
    let log = gateway.log();
    assert!(!log.contains("canary-"), "{log}");
    drop(dir);
}

#[test]
fn what_show_prints_is_a_config_that_means_the_same() {
    let odd = r#"version: 1
listeners:
  public: { address: "127.0.0.1:0", defaults: { maintenance: { message: "on ${HARMLESS}" } } }
  internal: { address: "127.0.0.1:0" }
upstreams: { app: { targets: [{ url: "http://[::1]:80", weight: 3 }] } }
routes:
  - { name: dollar, match: { path: /a }, respond: { text: "$${{X}} $$$$ $5 $$$${{Y}}$", headers: { x-a: "{{}}" } } }
  - { name: words, match: { path: /b, query: { a: present, b: { exact: "true" }, c: { regex: "^a$" } } }, respond: { json: [null, true, 1.5, "1", "yes", ~] } }
  - { name: off, match: { path: /c }, upstream: app, maintenance: none }
  - { name: old, match: { path: /d, after: "2026-01-01", before: "2027-01-01T12:00:00Z" }, upstream: app, lifecycle: { sunset: "2027-01-01", successor: off } }
"#;
    for config in [odd, CANARIES] {
        let (dir, env) = canaries(config);
        let env = borrowed(&env);
        let first = with_env(dir.path(), &["config", "show"], &env);
        assert_eq!(first.code, 0, "{}", first.stderr);
        std::fs::write(dir.path().join("shown.yaml"), &first.stdout).unwrap();
        let again = with_env(
            dir.path(),
            &["config", "show", "--config", "shown.yaml"],
            &env,
        );
        assert_eq!(again.code, 0, "{}\n{}", again.stderr, first.stdout);
        assert_eq!(again.stdout, first.stdout);
        let same = [
            "config",
            "diff",
            "--config",
            "shown.yaml",
            "--against",
            "doorward.yaml",
        ];
        let diff = with_env(dir.path(), &same, &env);
        assert_eq!((diff.code, diff.stdout.as_str()), (0, ""));
    }
}

#[test]
fn diff_names_what_was_changed_added_and_taken_out() {
    let old = config("a");
    let new = old
        .replace("text: a", "text: b, status: 201")
        .replace("routes: [", "upstreams: { x: { targets: [{ url: \"http://127.0.0.1:1\" }] } }\nroutes: [{ name: b, match: { path: /b }, upstream: x }, ");
    let dir = folder(&[
        ("old.yaml", &old),
        ("new.yaml", &new),
        ("bad.yaml", "version: 3\n"),
    ]);
    let diff = |new: &str, old: &str, more: &[&str]| {
        let mut args = vec!["config", "diff", "--config", new, "--against", old];
        args.extend(more);
        run_cli(&args, dir.path())
    };
    let output = diff("new.yaml", "old.yaml", &[]);
    assert_eq!(output.code, 1, "{}", output.stderr);
    for line in [
        "~ routes.a.respond.status: 200 -> 201",
        "~ routes.a.respond.text: \"a\" -> \"b\"",
        "+ routes.b.upstream: \"x\"",
        "+ upstreams.x.targets.0.url: \"http://127.0.0.1:1\"",
    ] {
        assert!(
            output.stdout.lines().any(|found| found == line),
            "{line}:\n{}",
            output.stdout
        );
    }
    let back = diff("old.yaml", "new.yaml", &[]);
    assert!(
        back.stdout.contains("- routes.b.upstream: \"x\"\n"),
        "{}",
        back.stdout
    );
    let json: Json =
        serde_json::from_str(&diff("new.yaml", "old.yaml", &["--format", "json"]).stdout).unwrap();
    let status = json
        .as_array()
        .unwrap()
        .iter()
        .find(|change| change["key"] == "routes.a.respond.status");
    assert_eq!(status.unwrap()["new"], 201);
    assert_eq!(diff("old.yaml", "old.yaml", &[]).code, 0);
    assert_eq!(diff("new.yaml", "bad.yaml", &[]).code, 78);
    assert_eq!(diff("gone.yaml", "old.yaml", &[]).code, 78);
}

#[test]
fn what_needs_a_running_gateway_says_where_it_looked_for_one() {
    let silent = format!(
        "{}admin: {{ socket: \"nobody.sock\" }}\n",
        config("a").as_str()
    );
    let dir = folder(&[("doorward.yaml", &config("a")), ("silent.yaml", &silent)]);
    for verb in [
        &["config", "diff"][..],
        &["reload"],
        &["reload", "--wait"],
        &["status"],
        &["upstreams", "list"],
    ] {
        let said = |more: &[&str]| {
            let args: Vec<&str> = verb.iter().chain(more).copied().collect();
            let output = run_cli(&args, dir.path());
            assert_eq!(output.code, 69, "{args:?}: {}", output.stderr);
            assert_eq!(output.stdout, "", "{args:?}");
            output.stderr
        };
        let nowhere = said(&[]);
        let unknown = "error: no admin socket is known";
        assert!(nowhere.contains(unknown), "{verb:?}: {nowhere}");
        assert!(nowhere.contains("`--admin`"), "{verb:?}: {nowhere}");
        let dead = said(&["--config", "silent.yaml"]);
        let silence = "error: no answer from nobody.sock";
        assert!(dead.contains(silence), "{verb:?}: {dead}");
        // What is typed goes before what is written.
        let typed = said(&["--config", "silent.yaml", "--admin", "./typed.sock"]);
        let silence = "error: no answer from ./typed.sock";
        assert!(typed.contains(silence), "{verb:?}: {typed}");
    }
}

#[test]
fn completions_exist_for_every_shell() {
    let dir = folder(&[]);
    for shell in ["bash", "zsh", "fish"] {
        let output = run_cli(&["completions", shell], dir.path());
        assert_eq!(output.code, 0, "{shell}");
        for word in ["check", "proxy", "deny-warnings", "print-config"] {
            assert!(output.stdout.contains(word), "{shell} does not know {word}");
        }
    }
    let script = run_cli(&["completions", "bash"], dir.path()).stdout;
    std::fs::write(dir.path().join("doorward.bash"), script).unwrap();
    let check = "source ./doorward.bash && COMP_WORDS=(doorward ch) COMP_CWORD=1 && _doorward doorward ch doorward && echo \"${COMPREPLY[*]}\"";
    let output = run(
        Command::new("bash")
            .args(["--norc", "-c", check])
            .current_dir(dir.path()),
        DEADLINE,
    );
    assert_eq!(output.stdout.trim(), "check", "{}", output.stderr);
}

#[test]
fn manual_pages_are_written_one_a_verb() {
    let dir = folder(&[]);
    let page = run_cli(&["man"], dir.path());
    assert_eq!(page.code, 0);
    assert!(page.stdout.contains(".TH doorward 1"), "{}", page.stdout);
    let output = run_cli(&["man", "--dir", "share/man1"], dir.path());
    assert_eq!(output.code, 0, "{}", output.stderr);
    for page in [
        "doorward.1",
        "doorward-run.1",
        "doorward-check.1",
        "doorward-config-show.1",
    ] {
        let text = read(&dir.path().join("share/man1").join(page));
        assert!(text.contains(".SH SYNOPSIS"), "{page}");
    }
}

#[test]
fn init_writes_a_config_that_works_and_never_overwrites() {
    let dir = folder(&[]);
    let first = run_cli(&["init"], dir.path());
    assert_eq!(first.code, 0, "{}", first.stderr);
    assert!(
        first.stderr.contains("wrote doorward.yaml"),
        "{}",
        first.stderr
    );
    let check = run_cli(&["check", "--deny-warnings"], dir.path());
    assert_eq!(check.code, 0, "{}", check.stderr);
    let path = dir.path().join("doorward.yaml");
    std::fs::write(&path, "mine").unwrap();
    let again = run_cli(&["init"], dir.path());
    assert_eq!(again.code, 1);
    assert!(
        again.stderr.contains("hint: name another file"),
        "{}",
        again.stderr
    );
    assert_eq!(read(&path), "mine");
    let other = run_cli(&["init", "--output", "other.yaml"], dir.path());
    assert_eq!(other.code, 0);
    let printed = run_cli(&["init", "--output", "-"], dir.path()).stdout;
    assert_eq!(printed, read(&dir.path().join("other.yaml")));
}

/// A verb that serves; it says where.
fn serving(args: &[&str], dir: &Path) -> (Process, std::net::SocketAddr) {
    let process = Process::start(&mut doorward(dir, args));
    let addr = process.wait_line("where it listens", |line| {
        line.split_once("http://")?
            .1
            .trim_end_matches('/')
            .parse()
            .ok()
    });
    (process, addr)
}

#[test]
fn proxy_needs_no_config() {
    let origin = Origin::answer(|_| Reply::ok("from the origin"));
    let dir = folder(&[("doorward.yaml", "this is not read")]);
    for to in [origin.addr().to_string(), origin.url()] {
        let (process, addr) = serving(
            &["proxy", "--to", &to, "--listen", "127.0.0.1:0"],
            dir.path(),
        );
        let response = get(addr, "/a/b?c=d", "a.example.com");
        assert_eq!(
            (response.status, response.text().as_str()),
            (200, "from the origin")
        );
        assert_eq!(origin.last().target, "/a/b?c=d");
        assert_eq!(process.stop().unwrap().code(), Some(0));
    }
}

#[test]
fn the_config_of_the_demo_can_be_kept() {
    let dir = folder(&[]);
    let printed = run_cli(&["demo", "--print-config"], dir.path());
    assert_eq!(printed.code, 0);
    std::fs::write(dir.path().join("doorward.yaml"), printed.stdout).unwrap();
    let check = run_cli(&["check", "--deny-warnings"], dir.path());
    assert_eq!(check.code, 0, "{}", check.stderr);
}

#[test]
fn a_busy_port_is_named_and_ends_the_gateway() {
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = busy.local_addr().unwrap().to_string();
    let output = Gateway::fails(&config("a").replace("127.0.0.1:0", &address));
    assert_eq!(output.code, 1, "{}", output.stderr);
    let line = format!("error: cannot listen on {address}");
    assert!(output.stderr.contains(&line), "{}", output.stderr);
}

#[test]
fn a_wrong_config_is_never_served() {
    let output = Gateway::fails(
        "version: 1\nlisteners: { a: { address: \"127.0.0.1:0\" } }\nroutes: [{ name: a }]\n",
    );
    assert_eq!(output.code, 78, "{}", output.stderr);
    assert!(output.stderr.contains("error[E017]"), "{}", output.stderr);
    assert!(!output.stderr.contains("listening"), "{}", output.stderr);
}

#[test]
fn a_signal_that_asks_for_the_end_ends_it_well() {
    for signal in ["TERM", "INT"] {
        let dir = folder(&[("doorward.yaml", &config("a"))]);
        let (process, addr) = serving(&["run"], dir.path());
        assert_eq!(get(addr, "/", "a.example.com").text(), "a");
        process.signal(signal);
        assert_eq!(
            process.wait_exit().code(),
            Some(0),
            "{signal}: {}",
            process.log()
        );
    }
}

#[test]
fn sighup_loads_the_config_again_and_keeps_the_old_one_when_the_new_one_is_wrong() {
    let dir = folder(&[("doorward.yaml", &config("a"))]);
    let (process, addr) = serving(&["run"], dir.path());
    let rewrite = |text: &str| std::fs::write(dir.path().join("doorward.yaml"), text).unwrap();
    rewrite(&config("a").replace("text: a", "text: b"));
    process.signal("HUP");
    process.wait_log("config reloaded");
    assert_eq!(get(addr, "/", "a.example.com").text(), "b");
    rewrite(&config("a").replace("text: a", "txt: c"));
    process.signal("HUP");
    process.wait_log("config not reloaded");
    process.wait_log("unknown key `txt`");
    assert_eq!(get(addr, "/", "a.example.com").text(), "b");
    assert_eq!(process.stop().unwrap().code(), Some(0));
}

#[test]
fn signals_without_a_meaning_leave_it_running() {
    let dir = folder(&[("doorward.yaml", &config("a"))]);
    let (process, addr) = serving(&["run"], dir.path());
    for signal in ["USR1", "USR2", "HUP"] {
        process.signal(signal);
    }
    process.wait_log("config reloaded");
    assert_eq!(get(addr, "/", "a.example.com").text(), "a");
    assert_eq!(process.exit(), None);
    assert_eq!(process.stop().unwrap().code(), Some(0));
}
