//! The files a config refers to: a reload names those that changed, and `run --watch` reloads when one does.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test stops at the first thing that is not as expected; only deadlines are taken from the clock"
)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Instant;

use serde_json::Value as Json;

use super::support::{DEADLINE, Gateway, Origin, Setup, run_cli, scale};

/// Answers of its own: a text, and a file.
fn answering(text: &str) -> String {
    format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\" }} }}\nadmin: {{ socket: admin.sock }}\n\
         telemetry: {{ access_log: {{ format: none }} }}\n\
         routes:\n  - {{ name: text, match: {{ path: /text }}, respond: {{ text: {text} }} }}\n  \
         - {{ name: page, match: {{ path: /page }}, respond: {{ file: pages/page.html }} }}\n"
    )
}

fn watching(text: &str) -> Setup {
    Setup::new(&answering(text))
        .file("pages/page.html", "one")
        .flag("--watch")
}

/// Asks until the answer is as expected.
#[track_caller]
fn becomes(gateway: &Gateway, path: &str, expected: &str) {
    let since = Instant::now();
    loop {
        let answer = gateway.client().get(path);
        if answer.text() == expected {
            return;
        }
        assert!(since.elapsed() < DEADLINE, "{path} is {:?}", answer.text());
    }
}

/// Puts a file in the place of another in one step.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

fn generation(gateway: &Gateway) -> u64 {
    let status = run_cli(&["status", "--format", "json"], gateway.dir());
    let status: Json = serde_json::from_str(&status.stdout).unwrap();
    status["generation"].as_u64().unwrap()
}

// The difference

/// A gateway whose config refers to a page and to a secret.
fn referring(origin: &Origin) -> Gateway {
    let config = format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\" }} }}\nadmin: {{ socket: admin.sock }}\n\
         upstreams: {{ o: {{ targets: [{{ url: \"{}\" }}] }} }}\n\
         routes:\n  - {{ name: home, match: {{ path: / }}, respond: {{ file: maintenance.html }} }}\n  \
         - name: orders\n    match: {{ path: /orders }}\n    upstream: o\n    \
         request: {{ headers: {{ set: {{ authorization: {{ file: token }} }} }} }}\n\
         errors: {{ html_file: error.html }}\n",
        origin.url()
    );
    Setup::new(&config)
        .file("maintenance.html", "soon")
        .file("error.html", "{title}")
        .file("token", "canary-one")
        .spawn()
}

#[test]
fn a_reload_names_the_files_that_changed() {
    let origin = Origin::echo();
    let gateway = referring(&origin);
    let in_force = |generation: u64| format!("generation {generation} is in force, 0 changed\n");
    let verb = |words: &[&str], code: i32| {
        let output = run_cli(words, gateway.dir());
        assert_eq!(output.code, code, "{}{}", output.stdout, output.stderr);
        assert!(!(output.stdout + &output.stderr).contains("canary"));
    };
    let reload = |expected: &str| {
        let output = run_cli(&["reload"], gateway.dir());
        assert_eq!(output.stdout, expected, "{}", output.stderr);
    };
    verb(&["config", "diff"], 0);
    reload(&in_force(2));
    for (file, text, line) in [
        (
            "maintenance.html",
            "sooner",
            "~ routes.home.respond.file: content of maintenance.html changed\n",
        ),
        (
            "error.html",
            "{status}",
            "~ errors.html_file: content of error.html changed\n",
        ),
        (
            "token",
            "canary-two",
            "~ routes.orders.request.headers.set.authorization: secret in token was written anew\n",
        ),
    ] {
        let before = generation(&gateway);
        replace(&gateway.dir().join(file), text);
        // Before the reload it would change, after it no more.
        let diff = run_cli(&["config", "diff"], gateway.dir());
        assert_eq!((diff.code, diff.stdout.as_str()), (1, line));
        let diff = run_cli(&["config", "diff", "--format", "json"], gateway.dir());
        let json: Json = serde_json::from_str(&diff.stdout).unwrap();
        let (key, note) = line
            .trim_start_matches("~ ")
            .trim_end()
            .split_once(": ")
            .unwrap();
        assert_eq!(json, serde_json::json!([{ "key": key, "note": note }]));
        let one = format!("generation {} is in force, 1 changed\n", before + 1);
        reload(&format!("{line}{one}"));
        verb(&["config", "diff"], 0);
        reload(&in_force(before + 2));
    }
    gateway.client().get("/orders").expect(200);
    assert_eq!(origin.last().header("authorization"), Some("canary-two"));
    // Another file is another value.
    let config = fs::read(gateway.dir().join("doorward.yaml")).unwrap();
    let config = String::from_utf8(config).unwrap();
    fs::write(gateway.dir().join("other.html"), "other").unwrap();
    gateway.write_config(&config.replace("maintenance.html", "other.html"));
    let diff = run_cli(&["config", "diff"], gateway.dir());
    let line = "~ routes.home.respond.file: \"maintenance.html\" -> \"other.html\"\n";
    assert_eq!(diff.stdout, line);
}

#[test]
fn the_config_that_is_shown_is_one_that_can_be_loaded() {
    let origin = Origin::echo();
    let gateway = referring(&origin);
    let shown = run_cli(&["config", "show"], gateway.dir());
    assert_eq!(shown.code, 0, "{}", shown.stderr);
    fs::write(gateway.dir().join("shown.yaml"), &shown.stdout).unwrap();
    let checked = run_cli(&["check", "--config", "shown.yaml"], gateway.dir());
    assert_eq!(checked.code, 0, "{}{}", checked.stderr, shown.stdout);
}

// Watching

#[test]
fn every_file_of_the_config_is_watched() {
    let gateway = watching("one").spawn();
    let dir = gateway.dir();
    becomes(&gateway, "/text", "one");
    // Written in place, and put in its place.
    fs::write(dir.join("doorward.yaml"), answering("two")).unwrap();
    becomes(&gateway, "/text", "two");
    gateway.write_config(&answering("three"));
    becomes(&gateway, "/text", "three");
    fs::write(dir.join("pages/page.html"), "two").unwrap();
    becomes(&gateway, "/page", "two");
    replace(&dir.join("pages/page.html"), "three");
    becomes(&gateway, "/page", "three");
    // A folder that was not there.
    fs::create_dir(dir.join("conf.d")).unwrap();
    let more = |text: &str| {
        format!(
            "routes: [{{ name: more, match: {{ path: /more }}, respond: {{ text: {text} }} }}]\n"
        )
    };
    fs::write(dir.join("conf.d/more.yaml"), more("one")).unwrap();
    becomes(&gateway, "/more", "one");
    fs::write(dir.join("conf.d/more.yaml"), more("two")).unwrap();
    becomes(&gateway, "/more", "two");
    fs::remove_file(dir.join("conf.d/more.yaml")).unwrap();
    becomes(&gateway, "/text", "three");
    let since = Instant::now();
    while gateway.client().get("/more").status != 404 {
        assert!(since.elapsed() < DEADLINE);
    }
}

#[test]
fn an_invalid_file_keeps_the_old_config_until_it_is_mended() {
    let gateway = watching("one").spawn();
    gateway.write_config(&answering("two").replace("path: /text", "pth: /text"));
    gateway
        .process()
        .wait_log("config not reloaded, the running one was kept");
    assert_eq!(gateway.client().get("/text").text(), "one");
    gateway.write_config(&answering("three"));
    becomes(&gateway, "/text", "three");
    // A file that is missing is watched for, also where its folder is missing.
    let later = answering("four").replace("pages/page.html", "later/page.html");
    gateway.write_config(&later);
    gateway.process().wait_log("later/page.html");
    assert_eq!(gateway.client().get("/text").text(), "three");
    fs::create_dir(gateway.dir().join("later")).unwrap();
    fs::write(gateway.dir().join("later/page.html"), "late").unwrap();
    becomes(&gateway, "/page", "late");
    assert_eq!(gateway.client().get("/text").text(), "four");
}

#[test]
fn what_is_watched_follows_the_config() {
    let gateway = watching("one").file("other/page.html", "other one").spawn();
    let (old, new) = (
        gateway.dir().join("pages/page.html"),
        gateway.dir().join("other/page.html"),
    );
    gateway.write_config(&answering("two").replace("pages/page", "other/page"));
    becomes(&gateway, "/page", "other one");
    fs::write(&new, "other two").unwrap();
    becomes(&gateway, "/page", "other two");
    // The old file is nobody's business now. What comes after it is noticed, so this one was not.
    let before = generation(&gateway);
    fs::write(&old, "nobody").unwrap();
    fs::write(gateway.dir().join("beside.txt"), "nobody").unwrap();
    fs::write(&new, "other three").unwrap();
    becomes(&gateway, "/page", "other three");
    assert_eq!(generation(&gateway), before + 1);
}

#[test]
fn links_that_are_turned_are_noticed() {
    // As Kubernetes does it: the files are links through one link, which is turned to a new folder.
    let setup = Setup::new(&answering("unused")).flag("--watch");
    let setup = setup
        .file("mount/v1/doorward.yaml", answering("one"))
        .file("mount/v1/page.html", "one")
        .file("mount/v2/doorward.yaml", answering("two"))
        .file("mount/v2/page.html", "two");
    let dir = setup.dir().to_owned();
    let mount = dir.join("mount");
    symlink("v1", mount.join("..data")).unwrap();
    fs::remove_file(dir.join("doorward.yaml")).unwrap();
    symlink("mount/..data/doorward.yaml", dir.join("doorward.yaml")).unwrap();
    fs::create_dir(dir.join("pages")).unwrap();
    symlink("../mount/..data/page.html", dir.join("pages/page.html")).unwrap();
    let gateway = setup.spawn();
    becomes(&gateway, "/page", "one");
    for round in 0..scale(300) {
        for version in ["v2", "v1"] {
            symlink(version, mount.join("..data_tmp")).unwrap();
            fs::rename(mount.join("..data_tmp"), mount.join("..data")).unwrap();
            let word = if version == "v1" { "one" } else { "two" };
            becomes(&gateway, "/page", word);
            becomes(&gateway, "/text", word);
        }
        if round == 0 {
            let three = mount.join("v1/page.html");
            fs::write(three, "one and more").unwrap();
            becomes(&gateway, "/page", "one and more");
            fs::write(mount.join("v1/page.html"), "one").unwrap();
            becomes(&gateway, "/page", "one");
        }
    }
}

#[test]
fn several_writes_in_a_row_are_one_change() {
    let gateway = watching("one").spawn();
    let before = generation(&gateway);
    for round in 0..20 {
        fs::write(gateway.dir().join("pages/page.html"), round.to_string()).unwrap();
    }
    becomes(&gateway, "/page", "19");
    assert!(generation(&gateway) < before + 5);
}

#[test]
fn nothing_is_watched_unless_it_is_asked_for() {
    let setup = Setup::new(&answering("one")).file("pages/page.html", "one");
    let gateway = setup.spawn();
    gateway.write_config(&answering("two"));
    // No watch is held: the kernel would say so.
    let held = fs::read_dir(format!("/proc/{}/fd", gateway.process().pid())).unwrap();
    let held = held.filter_map(|fd| fs::read_link(fd.unwrap().path()).ok());
    assert!(
        !held
            .into_iter()
            .any(|fd| fd.to_string_lossy().contains("inotify"))
    );
    assert_eq!(gateway.client().get("/text").text(), "one");
}
