//! What authorities say of certificates (OCSP): shown in handshakes, checked before, and never waited for. `openssl` answers
//! as the authority, and looks as the client.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test stops at the first thing that is not as expected"
)]

use std::process::Command;
use std::sync::Arc;

use super::control::{metric, metric_becomes, reload};
use super::support::{
    DEADLINE, Gateway, Pair, Pki, Process, Responder, Setup, Tls, free_port, run, run_cli, spoken,
};

const FETCHES: &str = "doorward_tls_ocsp_fetches_total";

fn setup(pair: &Pair, stapling: &str) -> Setup {
    Setup::new(&format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\", tls: {{ certificates: [{{ cert_file: a.pem, key_file: a.key }}]{stapling} }} }} }}\n\
         admin: {{ socket: admin.sock }}\n\
         routes: [{{ name: all, match: {{ path_prefix: / }}, respond: {{ text: here }} }}]\n"
    ))
    .file("a.pem", &pair.cert)
    .file("a.key", &pair.key)
}

const ON: &str = ", ocsp_stapling: true";

/// The certificate with its issuer, as it has to stand in its file.
fn issue(pki: &Pki, name: &str, url: &str) -> Pair {
    let mut pair = pki.issue_with_responder(&[name], url);
    pair.cert.push_str(&pki.ca);
    pair
}

/// What a client that asks for it is shown, as `openssl` prints it.
fn shown(gateway: &Gateway, more: &[&str]) -> String {
    let addr = gateway.addr().to_string();
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &addr, "-servername", "a.test"]);
    let done = run(command.arg("-status").args(more), DEADLINE);
    assert!(done.stdout.contains("New, TLSv1."), "{}", done.stdout);
    done.stdout
}

#[track_caller]
pub(crate) fn shows(gateway: &Gateway, status: &str) -> String {
    let said = shown(gateway, &[]);
    let successful = said.contains("OCSP Response Status: successful");
    let wanted = format!("Cert Status: {status}");
    assert!(successful && said.contains(&wanted), "{said}");
    said
}

#[track_caller]
fn shows_nothing(gateway: &Gateway) {
    let said = shown(gateway, &[]);
    assert!(said.contains("OCSP response: no response sent"), "{said}");
}

/// Waits until so many questions ended so.
#[track_caller]
pub(crate) fn fetched(gateway: &Gateway, result: &str, times: u64) {
    let name = format!("{FETCHES}{{listener=\"public\",result=\"{result}\"}}");
    metric_becomes(gateway, &name, |value| value == times);
}

#[test]
fn what_an_authority_says_is_shown_while_it_holds() {
    let (pki, port) = (Pki::new(), free_port());
    let pair = issue(&pki, "a.test", &format!("http://127.0.0.1:{port}/"));
    let authority = Process::start(&mut pki.responder(port));
    // A connection to see whether it is there would be all that it serves.
    authority.wait_log("waiting for OCSP client connections");
    let gateway = setup(&pair, ON).spawn();
    fetched(&gateway, "good", 1);
    for version in ["-tls1_2", "-tls1_3"] {
        let said = shown(&gateway, &[version]);
        assert!(said.contains("Cert Status: good"), "{version}: {said}");
    }
    // Who does not ask gets the connection and nothing else.
    Tls::new(&pki.ca, "a.test")
        .connect(gateway.addr())
        .request("GET", "/", &[("Host", "a.test")], b"")
        .expect(200);
    // Nobody answers any more: what was said still holds, also under a config that was loaded since.
    authority.stop();
    shows(&gateway, "good");
    reload(&gateway, 0);
    shows(&gateway, "good");
    fetched(&gateway, "good", 1);
    // Whoever does not want it does not get it.
    let config = std::fs::read_to_string(gateway.dir().join("doorward.yaml")).unwrap();
    gateway.write_config(&config.replace(ON, ""));
    reload(&gateway, 0);
    shows_nothing(&gateway);
    gateway.write_config(&config);
    reload(&gateway, 0);
    fetched(&gateway, "unreachable", 1);
    shows_nothing(&gateway);
    let said = gateway.process().wait_log("no OCSP answer");
    assert!(said.contains("127.0.0.1"), "{said}");
}

type Says = Box<dyn Fn(&[u8]) -> Vec<u8> + Send>;

/// Answers that nobody may see, and as what each is counted.
fn bad_answers(pki: &Arc<Pki>, url: &str) -> Vec<(&'static str, &'static str, Says)> {
    let (stranger, sibling) = (Pki::new(), pki.issue(&["sibling.test"]));
    let foreign = stranger.issue_delegate();
    let by = |signer: Option<Pair>, args: &'static str| -> Says {
        let pki = Arc::clone(pki);
        Box::new(move |question| spoken(&pki.answer(question, signer.as_ref(), args)))
    };
    let always = |bytes: Vec<u8>| -> Says { Box::new(move |_| bytes.clone()) };
    // Somebody else's answer, good in itself: what our own question is, is known once it is asked.
    let other = issue(pki, "other.test", url);
    let good = Arc::clone(pki);
    let garbled: Says = Box::new(move |question| {
        let mut said = good.answer(question, None, " -ndays 7");
        let middle = said.len() / 2;
        said[middle] ^= 0x55;
        spoken(&said)
    });
    let cut = Arc::clone(pki);
    let cut: Says = Box::new(move |question| {
        let mut said = spoken(&cut.answer(question, None, " -ndays 7"));
        said.truncate(said.len() - 1);
        said
    });
    let of_other = Arc::clone(pki);
    let of_other: Says =
        Box::new(move |_| spoken(&of_other.answer(&question_about(&other), None, " -ndays 7")));
    vec![
        ("nonsense", "invalid", always(spoken(b"nonsense"))),
        ("nothing", "invalid", always(spoken(b""))),
        ("a changed byte", "invalid", garbled),
        ("one byte less", "unreachable", cut),
        ("a closed connection", "unreachable", always(Vec::new())),
        (
            "another status",
            "refused",
            always(b"HTTP/1.1 503 No\r\n\r\n".to_vec()),
        ),
        (
            "elsewhere",
            "refused",
            always(b"HTTP/1.1 302 Found\r\nLocation: /b\r\n\r\n".to_vec()),
        ),
        (
            "try later",
            "refused",
            always(spoken(&[0x30, 3, 0x0a, 1, 3])),
        ),
        (
            "without an end",
            "refused",
            always([b"HTTP/1.1 200 OK\r\n\r\n", &[b'a'; 70_000][..]].concat()),
        ),
        ("a stranger's", "invalid", by(Some(foreign), " -ndays 7")),
        ("a sibling's", "invalid", by(Some(sibling), " -ndays 7")),
        ("of another certificate", "invalid", of_other),
        ("without a time", "invalid", by(None, "")),
    ]
}

/// The question about a certificate, as `openssl` asks it.
fn question_about(pair: &Pair) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let both = dir.path().join("both.pem");
    let issuer = dir.path().join("issuer.pem");
    std::fs::write(&both, &pair.cert).unwrap();
    let end = "-----END CERTIFICATE-----\n";
    std::fs::write(&issuer, pair.cert.split_once(end).unwrap().1).unwrap();
    let mut command = Command::new("openssl");
    command.args(["ocsp", "-no_nonce", "-reqout", "question", "-issuer"]);
    command.arg(&issuer).arg("-cert").arg(&both);
    let done = run(command.current_dir(dir.path()), DEADLINE);
    assert_eq!(done.code, 0, "{}", done.stderr);
    std::fs::read(dir.path().join("question")).unwrap()
}

#[test]
fn only_an_answer_of_the_issuer_about_the_certificate_is_shown() {
    let (pki, responder) = (Arc::new(Pki::new()), Responder::start());
    let pair = issue(&pki, "a.test", &responder.url());
    let mut counts = std::collections::BTreeMap::from([("unreachable", 1)]);
    let gateway = setup(&pair, ON).spawn();
    fetched(&gateway, "unreachable", 1);
    for (what, result, says) in bad_answers(&pki, &responder.url()) {
        responder.say(says);
        let asked = responder.asked();
        reload(&gateway, 0);
        let times = counts.entry(result).or_insert(0);
        *times += 1;
        fetched(&gateway, result, *times);
        assert_eq!(responder.asked(), asked + 1, "{what}");
        let said = shown(&gateway, &[]);
        assert!(said.contains("no response sent"), "{what}: {said}");
    }
    let good = format!("{FETCHES}{{listener=\"public\",result=\"good\"}}");
    assert_eq!(metric(&gateway, &good), Some(0));
    // Whom the issuer lets answer for it is as good as the issuer.
    let (delegate, from) = (pki.issue_delegate(), Arc::clone(&pki));
    responder.say(move |question| spoken(&from.answer(question, Some(&delegate), " -ndays 7")));
    reload(&gateway, 0);
    fetched(&gateway, "good", 1);
    shows(&gateway, "good");
}

#[test]
fn a_reload_brings_the_answer_of_the_new_certificate() {
    let (pki, responder) = (Arc::new(Pki::new()), Responder::start());
    let from = Arc::clone(&pki);
    responder.say(move |question| spoken(&from.answer(question, None, " -ndays 7")));
    let pairs = ["first", "second"].map(|_| issue(&pki, "a.test", &responder.url()));
    let [first, second] = &pairs;
    let checked = setup(first, ON);
    let check = run_cli(&["check", "--deny-warnings"], checked.dir());
    assert_eq!(check.code, 0, "{}", check.stderr);
    assert_eq!(responder.asked(), 0, "who only checks asks nobody");
    let gateway = checked.spawn();
    fetched(&gateway, "good", 1);
    assert!(shows(&gateway, "good").contains("Serial Number: 1000"));
    // The same certificate: nobody is asked again.
    reload(&gateway, 0);
    assert!(shows(&gateway, "good").contains("Serial Number: 1000"));
    assert_eq!(responder.asked(), 1);
    std::fs::write(gateway.dir().join("a.pem"), &second.cert).unwrap();
    std::fs::write(gateway.dir().join("a.key"), &second.key).unwrap();
    reload(&gateway, 0);
    fetched(&gateway, "good", 2);
    assert!(shows(&gateway, "good").contains("Serial Number: 1001"));
}

#[test]
fn a_revoked_certificate_is_told_of() {
    let (pki, responder) = (Pki::new(), Responder::start());
    let pair = issue(&pki, "a.test", &responder.url());
    pki.revoke(&pair);
    responder.say(move |question| spoken(&pki.answer(question, None, " -ndays 7")));
    let gateway = setup(&pair, ON).spawn();
    fetched(&gateway, "revoked", 1);
    shows(&gateway, "revoked");
    gateway.process().wait_log("a certificate is revoked");
}

#[test]
fn no_handshake_waits_for_an_authority() {
    let (pki, responder) = (Pki::new(), Responder::start());
    let pair = issue(&pki, "a.test", &responder.url());
    // Until the end of the test.
    let (held, never) = std::sync::mpsc::channel::<()>();
    responder.say(move |_| {
        never.recv().ok();
        Vec::new()
    });
    let gateway = setup(&pair, ON).spawn();
    for _ in 0..3 {
        shows_nothing(&gateway);
    }
    assert_eq!(gateway.process().stop().unwrap().code(), Some(0));
    drop(held);
}
