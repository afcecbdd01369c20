//! Tokens that are taken back: refused from the next request on, also those that were verified before, also after a restart.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test stops at the first thing that is not as expected"
)]

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value as Json, json};

use super::auth::sha256;
use super::control::{ask_socket, at_socket, reload};
use super::support::{Client, DEADLINE, Gateway, Origin, Reply, Setup, run, run_cli, scale};
use super::tokens::{Signer, claims, now, set};

const ISSUER: &str = "https://id.example.com";

fn signer() -> Signer {
    Signer::secret("s", &[7; 32])
}

/// A token with these claims besides, or instead.
fn token(with: &Json) -> String {
    signer().token(&claims(ISSUER, with))
}

/// A gateway that remembers in this folder; `more` is what else is trusted.
fn config(origin: &Origin, state: &Path, more: &str) -> String {
    format!(
        "version: 1\nruntime: {{ state_dir: \"{}\" }}\nlisteners: {{ public: {{ address: \"127.0.0.1:0\", limits: {{ requests_per_connection: 100000 }} }} }}\nadmin: {{ socket: admin.sock }}\n\
         authenticators: {{ user: {{ jwt: {{ issuer: \"{ISSUER}\", jwks_file: keys.json, audiences: [api], clock_skew: 0s }} }}{more} }}\n\
         upstreams: {{ o: {{ targets: [{{ url: \"{}\" }}] }} }}\n\
         routes: [{{ name: all, match: {{ path_prefix: / }}, auth: [{}], upstream: o }}]\n",
        state.display(),
        origin.url(),
        if more.is_empty() { "user" } else { "legacy" },
    )
}

fn setup(text: &str) -> Setup {
    let keys = set(&[&signer()]).to_string();
    Setup::new(text)
        .file("keys.json", keys)
        .file("hush", "hush")
}

fn spawn(origin: &Origin, state: &Path) -> Gateway {
    setup(&config(origin, state, "")).spawn()
}

fn status(client: &mut Client, token: &str) -> u16 {
    let bearer = format!("Bearer {token}");
    let answer = client.request("GET", "/", &[("Authorization", &bearer)], b"");
    if answer.status == 401 {
        let challenge = answer.header("www-authenticate").unwrap();
        assert!(challenge.contains("invalid_token"), "{challenge}");
    }
    answer.status
}

fn statuses(client: &mut Client, tokens: &[&str]) -> Vec<u16> {
    tokens.iter().map(|token| status(client, token)).collect()
}

#[track_caller]
fn done(gateway: &Gateway, args: &[&str]) -> String {
    let output = run_cli(args, gateway.dir());
    assert_eq!(output.code, 0, "{args:?}: {}", output.stderr);
    output.stdout.trim_end().to_owned()
}

#[track_caller]
fn refused(gateway: &Gateway, args: &[&str], why: &str) {
    let output = run_cli(args, gateway.dir());
    assert_eq!(output.code, 1, "{args:?}: {}", output.stderr);
    assert!(output.stderr.contains(why), "{args:?}: {}", output.stderr);
}

#[test]
fn a_token_is_taken_back_with_the_answer_and_after_a_crash() {
    let (origin, state) = (Origin::echo(), tempfile::tempdir().unwrap());
    let gateway = spawn(&origin, state.path());
    let count = scale(1_000).max(10);
    let tokens: Vec<String> = (0..count)
        .map(|number| token(&json!({ "jti": format!("t{number}"), "sub": "a" })))
        .collect();
    let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
    let mut client = gateway.client();
    // Every one of them is remembered as verified.
    assert!(statuses(&mut client, &tokens).iter().all(|it| *it == 200));
    for number in 1..count {
        let path = format!("/tokens/revoke?jti=t{number}&expires=2030-01-01");
        let request = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n");
        let (code, _, body) = ask_socket(gateway.dir(), &request);
        assert_eq!(code, 200, "{body}");
        // Over the connection that was there before.
        let at = usize::try_from(number).unwrap();
        assert_eq!(status(&mut client, tokens[at]), 401);
    }
    assert_eq!(status(&mut client, tokens[0]), 200);
    let seen = origin.count();
    gateway.process().signal("KILL");
    gateway.process().wait_exit();
    // What a crash in the middle of a writing leaves behind.
    std::fs::write(state.path().join("revoked.json.new"), "{\"format\":").unwrap();
    let gateway = spawn(&origin, state.path());
    let mut client = gateway.client();
    let after = statuses(&mut client, &tokens);
    assert_eq!(after[0], 200);
    assert!(after[1..].iter().all(|it| *it == 401), "{after:?}");
    assert_eq!(origin.count(), seen + 1);
    let listed: Json = serde_json::from_str(&at_socket(&gateway, "/tokens/revoked")).unwrap();
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len() as u64, count - 1);
    // And back.
    let first = listed.iter().find(|it| it["jti"] == "t1").unwrap();
    assert_eq!(first["by"], "socket");
    done(
        &gateway,
        &["tokens", "restore", first["id"].as_str().unwrap()],
    );
    assert_eq!(statuses(&mut client, &tokens[..3]), [200, 200, 401]);
    // A reload forgets nothing.
    reload(&gateway, 0);
    assert_eq!(statuses(&mut client, &tokens[..3]), [200, 200, 401]);
}

#[test]
fn tokens_are_taken_back_one_by_one_or_all_of_somebody() {
    let (origin, state) = (Origin::echo(), tempfile::tempdir().unwrap());
    let gateway = spawn(&origin, state.path());
    let (by_text, later) = (token(&json!({ "sub": "x" })), now() + 30);
    let older = token(&json!({ "sub": "a", "iat": now() - 90 }));
    // Of one that does not say when it was made nobody knows that it is newer.
    let timeless = token(&json!({ "sub": "a", "iat": null }));
    let others = token(&json!({ "sub": "b", "iat": now() - 90 }));
    let all = [&*by_text, &older, &timeless, &others];
    let mut client = gateway.client();
    assert_eq!(statuses(&mut client, &all), [200; 4]);
    // Only its digest leaves the command.
    std::fs::write(gateway.dir().join("token.txt"), format!("{by_text}\n")).unwrap();
    let mut command = Command::new("bash");
    let revoke = "exec \"$0\" tokens revoke --stdin < token.txt";
    command
        .args(["-c", revoke, env!("CARGO_BIN_EXE_doorward")])
        .current_dir(gateway.dir());
    let output = run(&mut command, DEADLINE);
    assert_eq!(output.code, 0, "{}", output.stderr);
    assert!(output.stdout.contains("expires 20"), "{}", output.stdout);
    assert_eq!(statuses(&mut client, &all), [401, 200, 200, 200]);
    let elsewhere = [
        "tokens",
        "revoke",
        "--sub",
        "a",
        "--issuer",
        "https://else.test",
    ];
    done(&gateway, &elsewhere);
    assert_eq!(statuses(&mut client, &all), [401, 200, 200, 200]);
    done(
        &gateway,
        &["tokens", "revoke", "--sub", "a", "--issuer", ISSUER],
    );
    assert_eq!(statuses(&mut client, &all), [401, 401, 401, 200]);
    done(&gateway, &["tokens", "revoke", "--issuer", ISSUER]);
    assert_eq!(statuses(&mut client, &all), [401; 4]);
    // What is made from now on is good.
    let new = signer().token(&claims(ISSUER, &json!({ "sub": "a", "iat": later })));
    assert_eq!(status(&mut client, &new), 401, "made in the future");
    let text = config(&origin, state.path(), "").replace("clock_skew: 0s", "clock_skew: 60s");
    gateway.write_config(&text);
    reload(&gateway, 0);
    assert_eq!(status(&mut client, &new), 200);
    let told = done(&gateway, &["tokens", "list"]);
    assert_eq!(told.lines().count(), 4, "{told}");
    assert!(!told.contains(&by_text) && !gateway.log().contains(&by_text));
    refused(
        &gateway,
        &["tokens", "restore", "x"],
        "nothing has the id `x`",
    );
    refused(
        &gateway,
        &["tokens", "revoke", "--jti", "a", "--expires", "2020-01-01"],
        "ended already",
    );
    let nothing = run_cli(&["tokens", "revoke"], gateway.dir());
    assert_eq!(nothing.code, 2, "{}", nothing.stderr);
}

/// A signature of ES256 holds as well with the order of the curve less `s`: who has the token can write the other text.
fn other_text(token: &str) -> String {
    use openssl::bn::BigNum;
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let mut signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let order = "FFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551";
    let order = BigNum::from_hex_str(order).unwrap();
    let s = BigNum::from_slice(&signature[32..]).unwrap();
    let turned = (&order - &s).to_vec_padded(32).unwrap();
    signature[32..].copy_from_slice(&turned);
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[test]
fn a_token_that_is_taken_back_by_its_text_has_no_other_text() {
    let (origin, state) = (Origin::echo(), tempfile::tempdir().unwrap());
    let signer = Signer::ec("e");
    let gateway = Setup::new(&config(&origin, state.path(), ""))
        .file("keys.json", set(&[&signer]).to_string())
        .spawn();
    let mut client = gateway.client();
    let made: Vec<String> = (0..4)
        .map(|number| signer.token(&claims(ISSUER, &json!({ "sub": number.to_string() }))))
        .collect();
    let (others, kept) = (other_text(&made[1]), &made[3]);
    // Both texts of the second are remembered as verified; nobody has seen the first.
    assert_eq!(statuses(&mut client, &[&made[1], &others, kept]), [200; 3]);
    for token in &made[..3] {
        done(&gateway, &["tokens", "revoke", "--sha256", &sha256(token)]);
    }
    for token in &made[..3] {
        let both = [token.as_str(), &other_text(token)];
        assert_eq!(statuses(&mut client, &both), [401, 401]);
    }
    let both = [kept.as_str(), &other_text(kept)];
    assert_eq!(statuses(&mut client, &both), [200, 200]);
}

#[test]
fn who_was_told_by_the_issuer_is_taken_back_too() {
    let issuer = Origin::answer(|_| {
        Reply::json(
            200,
            &json!({ "active": true, "sub": "a", "jti": "opaque-1" }),
        )
    });
    let (origin, state) = (Origin::echo(), tempfile::tempdir().unwrap());
    let legacy = format!(
        ", legacy: {{ introspection: {{ endpoint: \"{}/introspect\", client_id: g, client_secret: {{ file: hush }} }} }}",
        issuer.url()
    );
    let gateway = setup(&config(&origin, state.path(), &legacy)).spawn();
    let mut client = gateway.client();
    assert_eq!(statuses(&mut client, &["abc", "abc"]), [200, 200]);
    done(&gateway, &["tokens", "revoke", "--jti", "opaque-1"]);
    // What was kept of its answer does not help.
    assert_eq!(statuses(&mut client, &["abc", "def"]), [401, 401]);
    assert_eq!(origin.count(), 2);
}

#[test]
fn nobody_comes_in_before_it_is_known_what_was_taken_back() {
    let (origin, state) = (Origin::echo(), tempfile::tempdir().unwrap());
    let file = state.path().join("revoked.json");
    let one = token(&json!({ "jti": "one" }));
    {
        let gateway = spawn(&origin, state.path());
        done(&gateway, &["tokens", "revoke", "--jti", "one"]);
    }
    let good = std::fs::read(&file).unwrap();
    let half = &good[..good.len() / 2];
    std::fs::write(&file, half).unwrap();
    let output = setup(&config(&origin, state.path(), "")).fails();
    assert_eq!(output.code, 1, "{}", output.stderr);
    let why = "cannot read which tokens were revoked";
    assert!(output.stderr.contains(why), "{}", output.stderr);
    assert_eq!(std::fs::read(&file).unwrap(), half);
    // A reload into such a folder is none; what is known stays so.
    let elsewhere = tempfile::tempdir().unwrap();
    let gateway = spawn(&origin, elsewhere.path());
    done(&gateway, &["tokens", "revoke", "--jti", "one"]);
    gateway.write_config(&config(&origin, state.path(), ""));
    let told = reload(&gateway, 78);
    assert!(told.stderr.contains(why), "{}", told.stderr);
    let mut client = gateway.client();
    assert_eq!(status(&mut client, &one), 401);
    // The file goes, or is cut, while the gateway runs: what was read holds, and nothing can be changed.
    let file = elsewhere.path().join("revoked.json");
    let good = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    gateway.process().wait_log("it is gone");
    refused(
        &gateway,
        &["tokens", "revoke", "--jti", "two"],
        "nobody knows",
    );
    std::fs::write(&file, &good[..good.len() / 2]).unwrap();
    gateway.process().wait_log("it is not what was written");
    assert_eq!(status(&mut client, &one), 401);
    std::fs::write(&file, &good).unwrap();
    gateway.process().wait_log("can be read again");
    done(&gateway, &["tokens", "revoke", "--jti", "two"]);
}

#[test]
fn what_another_process_took_back_is_seen_without_a_word() {
    let (origin, state) = (Origin::echo(), tempfile::tempdir().unwrap());
    let (one, other) = (spawn(&origin, state.path()), spawn(&origin, state.path()));
    let token = token(&json!({ "jti": "a" }));
    assert_eq!(status(&mut other.client(), &token), 200);
    done(&one, &["tokens", "revoke", "--jti", "a"]);
    let since = Instant::now();
    while status(&mut other.client(), &token) != 401 {
        assert!(since.elapsed() < DEADLINE, "it was never seen");
    }
    // Both write.
    done(&other, &["tokens", "revoke", "--jti", "b"]);
    done(&one, &["tokens", "revoke", "--jti", "c"]);
    assert_eq!(done(&one, &["tokens", "list"]).lines().count(), 3);
}

#[test]
fn without_a_place_to_remember_it_nothing_is_taken_back() {
    let origin = Origin::echo();
    let text = config(&origin, Path::new("x"), "").replace("runtime: { state_dir: \"x\" }\n", "");
    let gateway = setup(&text).spawn();
    refused(&gateway, &["tokens", "revoke", "--jti", "a"], "state_dir");
    assert_eq!(done(&gateway, &["tokens", "list"]), "no tokens are revoked");
}
