//! What clients get by TLS: the certificate they ask for, nothing old or weak, and no host by the wrong door.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test stops at the first thing that is not as expected"
)]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pingora::tls::ssl::SslVersion;

use super::handshakes;
use super::support::{Client, DEADLINE, Origin, Pair, Pki, Setup, Tls, run, run_cli, scale};

/// A gateway with these certificates at one listener; `tls` is what else stands in its `tls`.
fn setup(origin: &Origin, pairs: &[&Pair], tls: &str) -> Setup {
    let listed = (0..pairs.len())
        .map(|index| format!("{{ cert_file: {index}.pem, key_file: {index}.key }}"));
    let listed = listed.collect::<Vec<_>>().join(", ");
    let mut setup = Setup::new(&format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\", tls: {{ certificates: [{listed}]{tls} }} }} }}\n\
         admin: {{ socket: admin.sock }}\n\
         upstreams: {{ o: {{ targets: [{{ url: \"{}\" }}] }} }}\n\
         routes: [{{ name: all, match: {{ path_prefix: / }}, upstream: o }}]\n",
        origin.url()
    ));
    for (index, pair) in pairs.iter().enumerate() {
        setup = setup
            .file(&format!("{index}.pem"), &pair.cert)
            .file(&format!("{index}.key"), &pair.key);
    }
    setup
}

/// The first name of the certificate that the gateway showed.
fn shown(client: &Client) -> String {
    let certificate = client.ssl().peer_certificate().unwrap();
    let names = certificate.subject_alt_names().unwrap();
    names[0].dnsname().unwrap().to_owned()
}

fn ask(client: &mut Client, host: &str) -> u16 {
    client.request("GET", "/", &[("Host", host)], b"").status
}

#[test]
fn a_request_by_tls_is_one_of_https() {
    let (pki, origin) = (Pki::new(), Origin::echo());
    let pair = pki.issue(&["api.example.com"]);
    let gateway = setup(&origin, &[&pair], "").spawn();
    assert!(gateway.url_of("public").starts_with("https://"));
    let mut client = Tls::new(&pki.ca, "api.example.com").connect(gateway.addr());
    for _ in 0..3 {
        let body = vec![b'x'; 100_000];
        let answer = client.request("POST", "/a?b", &[("Host", "api.example.com")], &body);
        assert_eq!(answer.status, 200);
        let seen = origin.last();
        assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
        assert!(seen.header("forwarded").unwrap().contains("proto=https"));
        assert_eq!(seen.body_len, 100_000);
    }
    assert_eq!(origin.connections().len(), 1);
}

#[test]
fn each_name_has_its_certificate() {
    let (pki, origin) = (Pki::new(), Origin::echo());
    let (exact, wild) = (
        pki.issue(&["api.example.com", "a.test"]),
        pki.issue(&["*.example.com"]),
    );
    let other = pki.issue(&["other.test"]);
    let gateway = setup(&origin, &[&wild, &exact, &other], "").spawn();
    for (name, certificate) in [
        ("api.example.com", "api.example.com"),
        ("a.test", "api.example.com"),
        ("www.example.com", "*.example.com"),
        ("other.test", "other.test"),
    ] {
        let mut client = Tls::new(&pki.ca, name).connect(gateway.addr());
        assert_eq!(shown(&client), certificate, "{name}");
        assert_eq!(ask(&mut client, name), 200);
    }
    // No name: the first certificate.
    let client = Tls::new(&pki.ca, "").nameless().connect(gateway.addr());
    assert_eq!(shown(&client), "*.example.com");
    for name in ["example.com", "a.b.example.com", "unknown.test"] {
        let refused = Tls::new(&pki.ca, name)
            .try_connect(gateway.addr())
            .err()
            .unwrap();
        assert!(refused.contains("unrecognized name"), "{name}: {refused}");
    }
}

#[test]
fn an_unknown_name_may_get_the_default() {
    let (pki, origin) = (Pki::new(), Origin::echo());
    let (first, second) = (
        pki.issue(&["a.test"]),
        pki.issue(&["unknown.test", "b.test"]),
    );
    let setup = setup(&origin, &[&first, &second], ", unknown_name: use_default");
    let config = std::fs::read_to_string(setup.path("doorward.yaml")).unwrap();
    let config = config.replace("key_file: 1.key", "key_file: 1.key, default: true");
    let gateway = setup.file("doorward.yaml", config).spawn();
    let client = Tls::new(&pki.ca, "b.test").connect(gateway.addr());
    assert_eq!(shown(&client), "unknown.test");
    let client = Tls::new(&pki.ca, "").nameless().connect(gateway.addr());
    assert_eq!(shown(&client), "unknown.test");
    let refused = Tls::new(&pki.ca, "c.test")
        .try_connect(gateway.addr())
        .err()
        .unwrap();
    assert!(refused.contains("certificate verify failed"), "{refused}");
}

#[test]
fn a_host_of_another_certificate_is_sent_away() {
    let (pki, origin) = (Pki::new(), Origin::echo());
    let (one, two) = (pki.issue(&["a.test", "b.test"]), pki.issue(&["c.test"]));
    let gateway = setup(&origin, &[&one, &two], "").spawn();
    let mut client = Tls::new(&pki.ca, "a.test").connect(gateway.addr());
    assert_eq!(ask(&mut client, "b.test"), 200);
    assert_eq!(ask(&mut client, "c.test"), 421);
    assert_eq!(ask(&mut client, "a.test:443"), 200);
    assert_eq!(ask(&mut client, "unlisted.test"), 200);
}

#[test]
fn old_versions_and_weak_suites_are_refused() {
    let (pki, origin) = (Pki::new(), Origin::echo());
    let pair = pki.issue(&["a.test"]);
    let gateway = setup(&origin, &[&pair], "").spawn();
    let tls = || Tls::new(&pki.ca, "a.test");
    let (v11, v12, v13) = (SslVersion::TLS1_1, SslVersion::TLS1_2, SslVersion::TLS1_3);
    for (version, name) in [(v12, "TLSv1.2"), (v13, "TLSv1.3")] {
        let client = tls().versions(version, version).connect(gateway.addr());
        assert_eq!(client.ssl().version_str(), name);
    }
    assert!(
        tls()
            .suites("ALL")
            .versions(v11, v11)
            .try_connect(gateway.addr())
            .is_err()
    );
    for weak in [
        "AES128-SHA",
        "ECDHE-ECDSA-AES128-SHA",
        "ECDHE-ECDSA-AES128-SHA256",
        "ECDHE-ECDSA-AES256-CCM8",
    ] {
        let refused = tls()
            .suites(weak)
            .versions(v12, v12)
            .try_connect(gateway.addr());
        assert!(refused.is_err(), "{weak}");
    }
    let gateway = setup(&origin, &[&pair], ", min_version: \"1.3\"").spawn();
    assert!(
        tls()
            .versions(v12, v12)
            .try_connect(gateway.addr())
            .is_err()
    );
    tls().versions(v12, v13).connect(gateway.addr());
}

/// Whether a session that was begun with `from` goes on with `to`.
fn resumes(addr: SocketAddr, from: &str, to: &str, version: &str) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let mut last = String::new();
    for (name, session) in [(from, "-sess_out"), (to, "-sess_in")] {
        if session == "-sess_in" && !dir.path().join("s.pem").exists() {
            // Who was not let in has nothing to go on with.
            return false;
        }
        let script = format!(
            "(printf 'GET / HTTP/1.1\\r\\nHost: {name}\\r\\nConnection: close\\r\\n\\r\\n'; sleep 1) | \
             openssl s_client -connect {addr} -servername {name} {version} {session} s.pem 2>&1"
        );
        let done = run(
            Command::new("sh")
                .arg("-c")
                .arg(script)
                .current_dir(dir.path()),
            DEADLINE,
        );
        last = done.stdout;
    }
    assert!(
        last.contains("New, ") || last.contains("Reused, "),
        "{last}"
    );
    last.contains("Reused, ")
}

#[test]
fn a_session_goes_on_at_its_own_certificate() {
    let (pki, origin) = (Pki::new(), Origin::echo());
    let (one, two) = (pki.issue(&["a.test", "b.test"]), pki.issue(&["c.test"]));
    let gateway = setup(&origin, &[&one, &two], "").spawn();
    for version in ["-tls1_2", "-tls1_3"] {
        assert!(
            resumes(gateway.addr(), "a.test", "a.test", version),
            "{version}"
        );
        assert!(
            !resumes(gateway.addr(), "a.test", "c.test", version),
            "{version}"
        );
    }
}

#[test]
fn whoever_speaks_no_tls_is_let_go() {
    let (pki, origin) = (Pki::new(), Origin::echo());
    let gateway = setup(&origin, &[&pki.issue(&["a.test"])], "").spawn();
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"[..],
        &[0x16, 3, 1, 0, 0],
        &[0x80; 64],
    ] {
        let mut stream = TcpStream::connect(gateway.addr()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        // An end or a reset: nothing is said.
        drop(stream.read_to_end(&mut answer));
        assert_eq!(answer, b"", "{bytes:?}");
    }
    assert_eq!(origin.count(), 0);
}

#[test]
fn a_reload_changes_certificates_and_no_handshake_fails() {
    let (pki, origin) = (Pki::new(), Origin::echo());
    let pairs = [pki.issue(&["a.test"]), pki.issue(&["a.test", "b.test"])];
    let gateway = setup(&origin, &[&pairs[0]], "").spawn();
    let (addr, done, made) = (gateway.addr(), AtomicBool::new(false), AtomicU64::new(0));
    let mut kept = Tls::new(&pki.ca, "a.test").connect(addr);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let mut client = Tls::new(&pki.ca, "a.test").connect(addr);
                    assert_eq!(ask(&mut client, "a.test"), 200);
                    made.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // An error must not leave the others running for ever.
        let swapped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for turn in 1..=scale(500) + 5 {
                let pair = &pairs[usize::try_from(turn % 2).unwrap()];
                std::fs::write(gateway.dir().join("0.pem.new"), &pair.cert).unwrap();
                std::fs::write(gateway.dir().join("0.key.new"), &pair.key).unwrap();
                std::fs::rename(gateway.dir().join("0.pem.new"), gateway.dir().join("0.pem"))
                    .unwrap();
                std::fs::rename(gateway.dir().join("0.key.new"), gateway.dir().join("0.key"))
                    .unwrap();
                let reloaded = run_cli(&["reload", "--admin", "admin.sock"], gateway.dir());
                assert_eq!(reloaded.code, 0, "{}", reloaded.stderr);
                // Who was connected before the first of them stays so, and is not idle for long.
                assert_eq!(ask(&mut kept, "a.test"), 200);
                let got = Tls::new(&pki.ca, "a.test").connect(addr);
                let names = got
                    .ssl()
                    .peer_certificate()
                    .unwrap()
                    .subject_alt_names()
                    .unwrap()
                    .len();
                assert_eq!(
                    names,
                    if turn % 2 == 0 { 1 } else { 2 },
                    "the new one is shown"
                );
            }
        }));
        done.store(true, Ordering::Relaxed);
        if let Err(panic) = swapped {
            std::panic::resume_unwind(panic);
        }
    });
    let made = made.load(Ordering::Relaxed);
    assert!(made > 0);
    eprintln!("{made} handshakes while certificates changed");
    assert_eq!(ask(&mut kept, "a.test"), 200);
    handshakes::none_failed(&gateway);
}

#[test]
fn check_says_how_long_certificates_hold() {
    let pki = Pki::new();
    let origin = Origin::echo();
    let pair = pki.issue(&["api.example.com"]);
    let gateway = setup(&origin, &[&pair], "").spawn();
    let checked = run_cli(&["check"], gateway.dir());
    assert_eq!(checked.code, 0, "{}", checked.stderr);
    // A day is counted when it is whole.
    let left = |days: u8| format!("certificates (api.example.com: {days} days left), ");
    let said = [left(89), left(90)]
        .iter()
        .any(|left| checked.stdout.contains(left));
    assert!(said, "{}", checked.stdout);
    let over = pki.expired(&["api.example.com"]);
    std::fs::write(gateway.dir().join("0.pem"), &over.cert).unwrap();
    let checked = run_cli(&["check"], gateway.dir());
    assert_eq!(checked.code, 78);
    assert!(
        checked.stderr.contains("E050") && checked.stderr.contains("not that of the certificate"),
        "{}",
        checked.stderr
    );
    std::fs::write(gateway.dir().join("0.key"), &over.key).unwrap();
    let checked = run_cli(&["check"], gateway.dir());
    assert_eq!(checked.code, 0);
    assert!(
        checked.stderr.contains("warning[W050]") && checked.stderr.contains("is over since"),
        "{}",
        checked.stderr
    );
    let denied = run_cli(&["check", "--deny-warnings"], gateway.dir());
    assert_eq!(denied.code, 1);
}

/// A gateway whose clients show certificates at `partner.test`; its other host, `open.test`, is in the same certificate.
fn mutual(origin: &Origin, pki: &Pki, mode: &str, crl: Option<&str>) -> Setup {
    let pair = pki.issue(&["open.test", "partner.test"]);
    let crl_file = crl.map_or("", |_| ", crl_file: crl.pem");
    let auth =
        format!(", client_auth: {{ partner.test: {{ mode: {mode}, ca_file: ca.pem{crl_file} }} }}");
    let setup = setup(origin, &[&pair], &auth).file("ca.pem", &pki.ca);
    match crl {
        Some(crl) => setup.file("crl.pem", crl),
        None => setup,
    }
}

/// Whether a client comes in at `partner.test`: in TLS 1.3 it learns only from the answer.
fn comes_in(addr: SocketAddr, tls: Tls) -> bool {
    tls.try_connect(addr).is_ok_and(|mut client| {
        let host = [("Host", "partner.test")];
        client
            .try_request("GET", "/", &host, b"")
            .is_ok_and(|answer| answer.status == 200)
    })
}

fn der(cert: &str) -> String {
    let lines = cert.lines().filter(|line| !line.starts_with("-----"));
    format!(":{}:", lines.collect::<String>())
}

#[test]
fn who_must_show_a_certificate_shows_a_good_one() {
    let (pki, stranger, origin) = (Pki::new(), Pki::new(), Origin::echo());
    let (good, revoked) = (pki.issue(&["client.test"]), pki.issue(&["revoked.test"]));
    pki.revoke(&revoked);
    let (expired, unknown) = (
        pki.expired(&["client.test"]),
        stranger.issue(&["client.test"]),
    );
    let gateway = mutual(&origin, &pki, "required", Some(&pki.crl())).spawn();
    let (v12, v13) = (SslVersion::TLS1_2, SslVersion::TLS1_3);
    for version in [v12, v13] {
        let tls = || Tls::new(&pki.ca, "partner.test").versions(version, version);
        assert!(comes_in(gateway.addr(), tls().identity(&good)));
        assert!(!comes_in(gateway.addr(), tls()), "none");
        for (what, bad) in [
            ("revoked", &revoked),
            ("expired", &expired),
            ("unknown", &unknown),
        ] {
            assert!(!comes_in(gateway.addr(), tls().identity(bad)), "{what}");
        }
    }
    assert_eq!(origin.count(), 2);
    // The other host asks for nothing.
    let mut client = Tls::new(&pki.ca, "open.test").connect(gateway.addr());
    assert_eq!(ask(&mut client, "open.test"), 200);
}

#[test]
fn the_upstream_is_told_whose_certificate_it_was() {
    let (pki, origin) = (Pki::new(), Origin::echo());
    let good = pki.issue(&["client.test"]);
    let gateway = mutual(&origin, &pki, "optional", None).spawn();
    let forged = [
        ("Host", "partner.test"),
        ("Client-Cert", ":AAAA:"),
        ("Client-Cert-Chain", ":AAAA:"),
    ];
    let mut client = Tls::new(&pki.ca, "partner.test")
        .identity(&good)
        .connect(gateway.addr());
    assert_eq!(client.request("GET", "/", &forged, b"").status, 200);
    assert_eq!(origin.last().headers_all("client-cert"), [der(&good.cert)]);
    // OpenSSL sends the authority along, because this client knows it.
    let chain = der(&pki.ca);
    assert_eq!(origin.last().headers_all("client-cert-chain"), [chain]);
    let mut client = Tls::new(&pki.ca, "partner.test").connect(gateway.addr());
    assert_eq!(client.request("GET", "/", &forged, b"").status, 200);
    assert_eq!(origin.last().header("client-cert"), None);
    // Who shows one shows a good one, also where none is needed.
    let stranger = Pki::new().issue(&["client.test"]);
    assert!(!comes_in(
        gateway.addr(),
        Tls::new(&pki.ca, "partner.test").identity(&stranger)
    ));
}

#[test]
fn a_host_that_asks_for_certificates_is_reached_by_its_own_name_only() {
    let (pki, origin) = (Pki::new(), Origin::echo());
    let good = pki.issue(&["client.test"]);
    let gateway = mutual(&origin, &pki, "required", None).spawn();
    let mut open = Tls::new(&pki.ca, "open.test").connect(gateway.addr());
    assert_eq!(ask(&mut open, "partner.test"), 421);
    assert_eq!(ask(&mut open, "Partner.test:443"), 421);
    assert_eq!(ask(&mut open, "open.test"), 200);
    let mut nameless = Tls::new(&pki.ca, "").nameless().connect(gateway.addr());
    assert_eq!(ask(&mut nameless, "partner.test"), 421);
    let mut partner = Tls::new(&pki.ca, "partner.test")
        .identity(&good)
        .connect(gateway.addr());
    assert_eq!(ask(&mut partner, "partner.test"), 200);
    assert_eq!(ask(&mut partner, "open.test"), 421);
    for (from, to) in [
        ("open.test", "partner.test"),
        ("partner.test", "partner.test"),
    ] {
        for version in ["-tls1_2", "-tls1_3"] {
            assert!(
                !resumes(gateway.addr(), from, to, version),
                "{from} {to} {version}"
            );
        }
    }
}

#[test]
fn a_reload_takes_certificates_of_clients_back() {
    let (pki, origin) = (Pki::new(), Origin::echo());
    let client = pki.issue(&["client.test"]);
    let gateway = mutual(&origin, &pki, "required", Some(&pki.crl())).spawn();
    let tls = || Tls::new(&pki.ca, "partner.test").identity(&client);
    let mut kept = tls().connect(gateway.addr());
    assert_eq!(ask(&mut kept, "partner.test"), 200);
    pki.revoke(&client);
    std::fs::write(gateway.dir().join("crl.pem"), pki.crl()).unwrap();
    let reloaded = run_cli(&["reload", "--admin", "admin.sock"], gateway.dir());
    assert_eq!(reloaded.code, 0, "{}", reloaded.stderr);
    assert!(!comes_in(gateway.addr(), tls()));
    // What stands already has to prove itself anew.
    assert_eq!(ask(&mut kept, "partner.test"), 421);
}
