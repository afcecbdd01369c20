//! Consumers and keys that are made while the gateway runs: at once in force, kept over a crash, closed when nobody can say;
//! in a folder, and in a real Redis.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::string_slice,
    reason = "a test stops at the first thing that is not as expected"
)]

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use serde_json::Value as Json;

use super::auth::sha256;
use super::control::{ask_socket, asked, at_socket, metric, reload};
use super::support::{
    Client, DEADLINE, Gateway, Origin, Output, Process, Setup, debian, free_port, run_cli, scale,
};

const TOLD: &str = "request: { headers: { set: { x-told: \"{consumer.name}/{consumer.groups}/{auth.method}\" } } }";

/// A gateway with keys in the folder `store`; `keys` is what else stands there.
fn config(origin: &Origin, store: &Path, keys: &str) -> String {
    format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\" }} }}\nadmin: {{ socket: admin.sock }}\n\
         authenticators: {{ partner: {{ api_key: {{}} }} }}\n\
         consumers: {{ courier: {{ groups: [riders], api_keys: [{{ sha256: {} }}] }}, guest: {{}} }}\n\
         stores: {{ local: {{ file: {{ path: \"{}\" }} }} }}\nkeys: {{ store: local{keys} }}\n\
         upstreams: {{ o: {{ targets: [{{ url: \"{}\" }}] }} }}\n\
         routes:\n  - {{ name: all, match: {{ path_prefix: / }}, auth: [partner], {TOLD}, upstream: o }}\n\
         \x20 - {{ name: open, match: {{ path_prefix: /open }}, auth: {{ any: [partner], anonymous: guest }}, {TOLD}, upstream: o }}\n",
        sha256("key-of-courier"),
        store.display(),
        origin.url(),
    )
}

fn spawn(origin: &Origin, store: &Path) -> Gateway {
    Gateway::spawn(&config(origin, store, ""))
}

fn cli(gateway: &Gateway, args: &[&str]) -> Output {
    run_cli(args, gateway.dir())
}

#[track_caller]
fn done(gateway: &Gateway, args: &[&str]) -> String {
    let output = cli(gateway, args);
    assert_eq!(output.code, 0, "{args:?}: {}", output.stderr);
    output.stdout.trim_end().to_owned()
}

#[track_caller]
fn refused(gateway: &Gateway, args: &[&str], why: &str) {
    let output = cli(gateway, args);
    assert_eq!(output.code, 1, "{args:?}: {}", output.stderr);
    assert!(output.stderr.contains(why), "{args:?}: {}", output.stderr);
}

/// The statuses of one request with each of these keys; the connections stay the same.
fn statuses(client: &mut Client, keys: &[&str]) -> Vec<u16> {
    let ask = |key: &&str| {
        client
            .request("GET", "/", &[("X-Api-Key", key)], b"")
            .status
    };
    keys.iter().map(ask).collect()
}

fn status(gateway: &Gateway, key: &str) -> u16 {
    statuses(&mut gateway.client(), &[key])[0]
}

/// Asks until the answer is as expected: what another process wrote, and what is too old, is seen without a word.
#[track_caller]
fn becomes(gateway: &Gateway, key: &str, expected: u16) {
    let since = Instant::now();
    loop {
        let status = status(gateway, key);
        if status == expected {
            return;
        }
        assert!(since.elapsed() < DEADLINE, "{status}, not {expected}");
    }
}

fn list(gateway: &Gateway, what: &str) -> Vec<Json> {
    let told: Json = serde_json::from_str(&at_socket(gateway, what)).unwrap();
    told.as_array().unwrap().clone()
}

fn id_of(gateway: &Gateway, consumer: &str) -> String {
    let keys = list(gateway, "/keys");
    let mine = |key: &&Json| key["consumer"] == consumer && key["source"] == "store";
    let mine = keys.iter().find(mine).unwrap();
    mine["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_change_is_in_force_with_its_answer() {
    let (origin, store) = (Origin::echo(), tempfile::tempdir().unwrap());
    let gateway = spawn(&origin, store.path());
    let mut client = gateway.client();
    done(
        &gateway,
        &["consumers", "new", "acme", "--group", "a", "--group", "b"],
    );
    let key = done(&gateway, &["keys", "new", "acme"]);
    let used = |gateway: &Gateway| -> Vec<bool> {
        let keys = list(gateway, "/keys");
        keys.iter()
            .map(|key| key["last_used"].is_string())
            .collect()
    };
    assert_eq!(used(&gateway), [false, false]);
    assert_eq!(statuses(&mut client, &[&key, "key-of-courier"]), [200, 200]);
    assert_eq!(used(&gateway), [true, true]);
    let told = done(&gateway, &["keys", "list"]);
    assert_eq!(told.matches("last used 20").count(), 2, "{told}");
    reload(&gateway, 0);
    assert_eq!(used(&gateway), [true, true]);
    assert_eq!(
        origin.requests()[0].header("x-told"),
        Some("acme/a,b/api_key")
    );
    let consumer = |word: &str, name: &str| done(&gateway, &["consumers", word, name]);
    let key_is = |word: &str, id: &str| done(&gateway, &["keys", word, id]);
    let id = id_of(&gateway, "acme");
    // Also over a connection that was there before.
    assert_eq!(consumer("suspend", "acme"), "suspended acme");
    assert_eq!(statuses(&mut client, &[&key, "key-of-courier"]), [403, 200]);
    consumer("suspend", "courier");
    assert_eq!(statuses(&mut client, &[&key, "key-of-courier"]), [403, 403]);
    consumer("resume", "acme");
    assert_eq!(statuses(&mut client, &[&key, "key-of-courier"]), [200, 403]);
    consumer("resume", "courier");
    key_is("suspend", &id);
    assert_eq!(statuses(&mut client, &[&key, "key-of-courier"]), [403, 200]);
    key_is("resume", &id);
    assert_eq!(statuses(&mut client, &[&key]), [200]);
    let second = done(&gateway, &["keys", "new", "acme"]);
    refused(&gateway, &["keys", "new", "acme"], "2 live keys");
    assert_eq!(key_is("revoke", &id), format!("revoked {id}"));
    assert_eq!(statuses(&mut client, &[&key, &second]), [401, 200]);
    consumer("revoke", "acme");
    assert_eq!(statuses(&mut client, &[&key, &second]), [401, 401]);
    // Whoever shows nothing is somebody, too.
    assert_eq!(client.get("/open").status, 200);
    consumer("suspend", "guest");
    assert_eq!(client.get("/open").status, 403);
}

#[test]
fn a_key_ends_when_it_should() {
    let (origin, store) = (Origin::echo(), tempfile::tempdir().unwrap());
    let gateway = spawn(&origin, store.path());
    refused(
        &gateway,
        &["keys", "new", "courier", "--expires", "2020-01-01"],
        "expired",
    );
    assert_eq!(
        cli(&gateway, &["keys", "new", "courier", "--expires", "soon"]).code,
        2
    );
    let key = done(
        &gateway,
        &["keys", "new", "courier", "--expires", "2999-01-01"],
    );
    assert_eq!(status(&gateway, &key), 200);
    // The same key, as if time had passed.
    let file = store.path().join("keys.json");
    let written = std::fs::read_to_string(&file).unwrap();
    assert!(written.contains("2999-01-01"), "{written}");
    std::fs::write(&file, written.replace("2999-01-01", "2020-01-01")).unwrap();
    becomes(&gateway, &key, 401);
    let listed = done(&gateway, &["keys", "list"]);
    assert!(listed.contains("expires 2020-01-01  expired"), "{listed}");
}

#[test]
fn what_is_made_survives_a_crash_and_a_restart() {
    let (origin, store) = (Origin::echo(), tempfile::tempdir().unwrap());
    let count = scale(1_000).max(10);
    let post = |gateway: &Gateway, path: &str| {
        let request = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n");
        let (status, head, body) = ask_socket(gateway.dir(), &request);
        assert_eq!(status, 200, "{path}: {body}");
        assert!(head.contains("cache-control: no-store"), "{head}");
        serde_json::from_str::<Json>(&body).unwrap()
    };
    let gateway = spawn(&origin, store.path());
    let mut keys = Vec::new();
    for number in 0..count {
        post(&gateway, &format!("/consumers/new?name=c{number}&groups=a"));
        let made = post(&gateway, &format!("/keys/new?consumer=c{number}"));
        keys.push(made["key"].as_str().unwrap().to_owned());
    }
    post(&gateway, "/consumers/suspend?name=c0");
    gateway.process().signal("KILL");
    gateway.process().wait_exit();
    // What a crash in the middle of a writing leaves behind.
    std::fs::write(store.path().join("keys.json.new"), "{\"format\":").unwrap();
    let gateway = spawn(&origin, store.path());
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let statuses = statuses(&mut gateway.client(), &keys);
    assert_eq!(statuses[0], 403);
    assert!(statuses[1..].iter().all(|status| *status == 200));
    assert_eq!(list(&gateway, "/consumers").len() as u64, count + 2);
    // And another change on top of it.
    post(&gateway, "/consumers/resume?name=c0");
    assert_eq!(status(&gateway, keys[0]), 200);
}

#[test]
fn two_gateways_share_a_folder() {
    let (origin, store) = (Origin::echo(), tempfile::tempdir().unwrap());
    let (one, other) = (spawn(&origin, store.path()), spawn(&origin, store.path()));
    let key = done(&one, &["keys", "new", "courier"]);
    becomes(&other, &key, 200);
    // The other one knows what the first one did, and the first one what the other one does.
    let second = done(&other, &["keys", "new", "courier"]);
    becomes(&one, &second, 200);
    let id = id_of(&other, "courier");
    done(&other, &["keys", "revoke", &id]);
    done(&one, &["consumers", "suspend", "courier"]);
    becomes(&other, "key-of-courier", 403);
    assert_eq!(list(&one, "/consumers/history").len(), 4);
}

#[test]
fn nobody_comes_in_while_nobody_can_say_who_may() {
    let (origin, store) = (Origin::echo(), tempfile::tempdir().unwrap());
    let file = store.path().join("keys.json");
    let key = {
        let gateway = spawn(&origin, store.path());
        done(&gateway, &["keys", "new", "courier"])
    };
    let good = std::fs::read(&file).unwrap();
    std::fs::write(&file, &good[..good.len() / 2]).unwrap();
    let gateway = Gateway::spawn(&config(&origin, store.path(), ", max_age: 1s"));
    let mut client = gateway.client();
    let before = origin.count();
    // The courier of the config may have been suspended.
    let shown = [&*key, "key-of-courier", "somebody-elses"];
    assert_eq!(statuses(&mut client, &shown), [503, 503, 401]);
    assert_eq!(client.get("/open").status, 503);
    assert_eq!(origin.count(), before);
    refused(&gateway, &["keys", "new", "courier"], "cannot be read");
    refused(&gateway, &["keys", "list"], "cannot be read");
    let readable = "doorward_keys_store_readable{store=\"local\"}";
    assert_eq!(metric(&gateway, readable), Some(0));
    assert_eq!(std::fs::read(&file).unwrap(), good[..good.len() / 2]);
    std::fs::write(&file, &good).unwrap();
    gateway.process().wait_log("can be read again");
    assert_eq!(statuses(&mut client, &shown), [200, 200, 401]);
    assert_eq!(metric(&gateway, readable), Some(1));
    // One that is gone is not an empty one; what was read holds for `max_age`.
    std::fs::remove_file(&file).unwrap();
    gateway.process().wait_log("it is gone");
    becomes(&gateway, &key, 503);
    becomes(&gateway, "key-of-courier", 503);
    refused(
        &gateway,
        &["consumers", "suspend", "courier"],
        "cannot be read",
    );
    std::fs::write(&file, &good).unwrap();
    becomes(&gateway, &key, 200);
}

#[test]
fn what_cannot_be_written_down_is_not_done() {
    let (origin, store) = (Origin::echo(), tempfile::tempdir().unwrap());
    let gateway = spawn(&origin, store.path());
    // Where the new document would be written stands what cannot be taken away.
    let new = store.path().join("keys.json.new/x");
    std::fs::create_dir_all(&new).unwrap();
    refused(
        &gateway,
        &["consumers", "suspend", "courier"],
        "not written",
    );
    assert_eq!(status(&gateway, "key-of-courier"), 200);
    std::fs::remove_dir_all(store.path().join("keys.json.new")).unwrap();
    done(&gateway, &["consumers", "suspend", "courier"]);
    assert_eq!(status(&gateway, "key-of-courier"), 403);
}

#[test]
fn the_keys_of_whoever_had_a_name_before_open_nothing() {
    let (origin, store) = (Origin::echo(), tempfile::tempdir().unwrap());
    let gateway = spawn(&origin, store.path());
    let key = done(&gateway, &["keys", "new", "courier"]);
    assert_eq!(status(&gateway, &key), 200);
    let text = config(&origin, store.path(), "");
    gateway.write_config(&text.replace("courier: {", "other: {"));
    reload(&gateway, 0);
    assert_eq!(status(&gateway, &key), 401);
    done(&gateway, &["consumers", "new", "courier"]);
    assert_eq!(status(&gateway, &key), 401);
    let new = done(&gateway, &["keys", "new", "courier"]);
    assert_eq!(statuses(&mut gateway.client(), &[&key, &new]), [401, 200]);
}

#[test]
fn a_key_is_shown_once() {
    let (origin, store) = (Origin::echo(), tempfile::tempdir().unwrap());
    let gateway = spawn(&origin, store.path());
    let key = done(&gateway, &["keys", "new", "courier"]);
    let json = done(&gateway, &["keys", "new", "courier", "--format", "json"]);
    let json: Json = serde_json::from_str(&json).unwrap();
    let second = json["key"].as_str().unwrap();
    assert_eq!(json["consumer"], "courier");
    assert_eq!(statuses(&mut gateway.client(), &[&key, second]), [200, 200]);
    gateway.process().wait_log("\"request_id\"");
    let mut all = gateway.log();
    for path in [
        "/keys",
        "/consumers",
        "/consumers/history",
        "/config",
        "/status",
        "/metrics",
    ] {
        all += &at_socket(&gateway, path);
    }
    for entry in std::fs::read_dir(store.path()).unwrap() {
        all += &String::from_utf8(std::fs::read(entry.unwrap().path()).unwrap()).unwrap();
    }
    for secret in [&*key, second, &key[3..20], &second[3..20]] {
        assert!(!all.contains(secret), "{secret}");
    }
    // Its digest tells two keys apart, here as in the access log.
    let ids: Vec<Json> = list(&gateway, "/keys")
        .iter()
        .map(|it| it["id"].clone())
        .collect();
    assert!(ids.contains(&sha256(&key)[..12].into()), "{ids:?}");
}

#[test]
fn every_change_is_remembered_with_who_wanted_it() {
    let (origin, store) = (Origin::echo(), tempfile::tempdir().unwrap());
    let gateway = spawn(&origin, store.path());
    assert_eq!(done(&gateway, &["consumers", "history"]), "no changes");
    done(&gateway, &["consumers", "new", "acme"]);
    done(&gateway, &["keys", "new", "acme"]);
    let id = id_of(&gateway, "acme");
    done(&gateway, &["keys", "revoke", &id]);
    refused(&gateway, &["keys", "revoke", &id], "no key");
    done(&gateway, &["consumers", "suspend", "acme"]);
    done(&gateway, &["consumers", "revoke", "acme"]);
    let lines = done(&gateway, &["consumers", "history"]);
    let told: Vec<String> = lines
        .lines()
        .map(|line| line.split_once("Z  ").unwrap().1.to_owned())
        .collect();
    let expected = [
        "socket  consumer made acme",
        &format!("socket  key made acme {id}"),
        &format!("socket  key revoked acme {id}"),
        "socket  consumer suspended acme",
        "socket  consumer revoked acme",
    ];
    assert_eq!(told, expected);
    assert!(gateway.log().contains("consumer suspended"));
}

#[test]
fn only_who_proves_who_it_is_may_say_who_comes_in() {
    let (origin, store) = (Origin::echo(), tempfile::tempdir().unwrap());
    let config = config(&origin, store.path(), "");
    let at_address = |tokens: &str| -> (Gateway, SocketAddr) {
        let admin = format!("admin: {{ socket: admin.sock, address: \"127.0.0.2:0\"{tokens} }}");
        let gateway = Gateway::spawn(&config.replace("admin: { socket: admin.sock }", &admin));
        let addr = gateway.process().wait_line("\"admin on http\"", |line| {
            line.split_once("admin on http://")?.1.parse().ok()
        });
        (gateway, addr)
    };
    let (gateway, addr) = at_address("");
    let meant = [("Doorward-Admin", "1")];
    for (method, path) in [
        ("GET", "/keys"),
        ("GET", "/consumers"),
        ("GET", "/consumers/history"),
        ("POST", "/keys/new?consumer=courier"),
        ("POST", "/consumers/suspend?name=courier"),
    ] {
        asked(addr, method, path, &meant).expect(403);
    }
    assert_eq!(status(&gateway, "key-of-courier"), 200);
    let roles = ["viewer", "operator", "admin"];
    let tokens = roles.map(|role| format!("{{ sha256: {}, role: {role} }}", sha256(role)));
    let (gateway, addr) = at_address(&format!(", tokens: [{}]", tokens.join(", ")));
    for (role, changes) in [
        ("viewer", 403),
        ("operator", 403),
        ("admin", 200),
        ("nobody", 401),
    ] {
        let bearer = format!("Bearer {role}");
        let headers = [("Authorization", bearer.as_str())];
        let looks = if role == "nobody" { 401 } else { 200 };
        asked(addr, "GET", "/keys", &headers).expect(looks);
        asked(addr, "POST", "/consumers/suspend?name=courier", &headers).expect(changes);
    }
    assert_eq!(status(&gateway, "key-of-courier"), 403);
    let by = list(&gateway, "/consumers/history")[0]["by"].clone();
    assert_eq!(by, format!("token:{}", &sha256("admin")[..12]).as_str());
}

#[test]
fn what_cannot_be_asked_is_said() {
    let (origin, store) = (Origin::echo(), tempfile::tempdir().unwrap());
    let gateway = spawn(&origin, store.path());
    for (args, why) in [
        (&["consumers", "new", "courier"][..], "already"),
        (&["consumers", "new", "a b"], "a name has"),
        (
            &["consumers", "new", "x", "--group", "a\tb"],
            "cannot be a group",
        ),
        (&["consumers", "revoke", "courier"], "stands in the config"),
        (&["consumers", "resume", "courier"], "is not suspended"),
        (&["consumers", "suspend", "nobody"], "unknown consumer"),
        (&["keys", "new", "nobody"], "unknown consumer"),
        (&["keys", "suspend", "000000000000"], "no key"),
    ] {
        refused(&gateway, args, why);
    }
    for (path, status) in [
        ("/keys/new", 400),
        ("/keys/new?consumer=courier&expires=soon", 400),
        ("/consumers/new", 400),
        ("/consumers/delete?name=courier", 404),
        ("/consumers/suspend?name=nobody", 404),
        ("/consumers/revoke?name=courier", 409),
    ] {
        let request = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n");
        assert_eq!(ask_socket(gateway.dir(), &request).0, status, "{path}");
    }
    assert!(!store.path().join("keys.json").exists());
}

#[test]
fn without_a_store_the_config_alone_says_who_comes_in() {
    let (origin, store) = (Origin::echo(), tempfile::tempdir().unwrap());
    let with = config(&origin, store.path(), "");
    let lines = with.lines().filter(|line| !line.starts_with("stores:"));
    let without: Vec<&str> = lines.filter(|line| !line.starts_with("keys:")).collect();
    let without = without.join("\n");
    let gateway = Gateway::spawn(&without);
    refused(&gateway, &["keys", "new", "courier"], "no store is set");
    let listed = done(&gateway, &["consumers", "list"]);
    assert_eq!(
        listed,
        "courier  config  keys 1  groups riders\nguest  config  keys 0"
    );
    assert_eq!(status(&gateway, "key-of-courier"), 200);
    // A reload brings one, and takes it away again.
    gateway.write_config(&with);
    done(&gateway, &["reload"]);
    let key = done(&gateway, &["keys", "new", "courier"]);
    assert_eq!(status(&gateway, &key), 200);
    done(&gateway, &["reload"]);
    assert_eq!(status(&gateway, &key), 200);
    gateway.write_config(&without);
    done(&gateway, &["reload"]);
    assert_eq!(status(&gateway, &key), 401);
}

/// A Redis with the password `canary-of-redis`, whose folder outlives it.
pub(super) struct Redis {
    process: Process,
    pub(super) port: u16,
    folder: Arc<tempfile::TempDir>,
}

impl Redis {
    pub(super) fn start() -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        Self::start_at(free_port(), folder)
    }

    fn start_at(port: u16, folder: Arc<tempfile::TempDir>) -> Self {
        let mut command = Command::new(debian("redis-server", "redis-server"));
        command
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--appendonly", "yes", "--appendfsync", "always"])
            .args(["--requirepass", "canary-of-redis", "--dir"])
            .arg(folder.path());
        let process = Process::start(&mut command);
        process.wait_log("Ready to accept connections");
        Self {
            process,
            port,
            folder,
        }
    }

    fn again(&self) -> Self {
        Self::start_at(self.port, Arc::clone(&self.folder))
    }

    /// The config of a gateway that keeps its keys there.
    fn config(&self, origin: &Origin, keys: &str) -> String {
        let store = format!(
            "stores: {{ local: {{ redis: {{ url: \"redis://127.0.0.1:{}\", password: {{ env: REDIS }}, timeout: 500ms }} }} }}",
            self.port
        );
        let config = config(origin, Path::new("none"), keys);
        let lines = config.lines().map(|line| match line {
            line if line.starts_with("stores:") => store.as_str(),
            line => line,
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    fn gateway(&self, origin: &Origin, password: &str, keys: &str) -> Gateway {
        let setup = Setup::new(&self.config(origin, keys));
        setup.env("REDIS", password).spawn()
    }
}

#[test]
fn a_fleet_shares_a_redis() {
    let (origin, redis) = (Origin::echo(), Redis::start());
    let fleet = [(); 2].map(|()| redis.gateway(&origin, "canary-of-redis", ""));
    let [one, other] = &fleet;
    done(one, &["consumers", "new", "acme", "--group", "a"]);
    let key = done(one, &["keys", "new", "acme"]);
    assert_eq!(status(one, &key), 200);
    becomes(other, &key, 200);
    done(other, &["consumers", "suspend", "acme"]);
    assert_eq!(status(other, &key), 403);
    becomes(one, &key, 403);
    // Each change counts once, whoever makes it.
    for number in 0..scale(400) {
        let gateway = &fleet[usize::try_from(number % 2).unwrap()];
        done(gateway, &["consumers", "new", &format!("c{number}")]);
    }
    for gateway in &fleet {
        let changes = list(gateway, "/consumers/history").len() as u64;
        assert!(changes >= 2 + scale(400), "{changes}");
    }
    let shown = run_cli(&["config", "show", "--format", "json"], one.dir());
    for text in [
        one.log(),
        other.log(),
        shown.stdout,
        at_socket(one, "/config"),
    ] {
        assert!(!text.contains("canary-of-redis"), "{text}");
        assert!(!text.contains(&key), "{text}");
    }
}

#[test]
fn without_its_redis_nobody_comes_in_for_long() {
    let (origin, redis) = (Origin::echo(), Redis::start());
    let gateway = redis.gateway(&origin, "canary-of-redis", ", max_age: 1s");
    let key = done(&gateway, &["keys", "new", "courier"]);
    assert_eq!(status(&gateway, &key), 200);
    // One that hangs keeps no request waiting.
    redis.process.signal("STOP");
    becomes(&gateway, &key, 503);
    becomes(&gateway, "key-of-courier", 503);
    redis.process.signal("CONT");
    becomes(&gateway, &key, 200);
    redis.process.signal("KILL");
    redis.process.wait_exit();
    becomes(&gateway, &key, 503);
    refused(&gateway, &["keys", "new", "courier"], "cannot be read");
    let again = redis.again();
    becomes(&gateway, &key, 200);
    // One that lost everything is not an empty one.
    again.process.signal("KILL");
    again.process.wait_exit();
    let empty = Redis::start_at(redis.port, Arc::new(tempfile::tempdir().unwrap()));
    gateway.process().wait_log("it is gone");
    becomes(&gateway, &key, 503);
    drop(empty);
    assert!(!gateway.log().contains("canary-of-redis"));
}

#[test]
fn a_redis_that_does_not_let_us_in_lets_nobody_in() {
    let (origin, redis) = (Origin::echo(), Redis::start());
    let gateway = redis.gateway(&origin, "canary-wrong", "");
    assert_eq!(status(&gateway, "key-of-courier"), 503);
    assert_eq!(origin.count(), 0);
    assert!(!gateway.log().contains("canary"));
    // A mistake, or somebody else's.
    let setup = Setup::new(
        &redis
            .config(&origin, "")
            .replace("redis://", "redis://:canary@"),
    );
    let output = setup.env("REDIS", "canary").fails();
    assert!(
        output.stderr.contains("a password in the URL"),
        "{}",
        output.stderr
    );
}
