//! Handshakes are counted: those that succeed by version, those that fail by one of a few reasons. And many of them, while
//! certificates and authorities are changed.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a test stops at the first thing that is not as expected"
)]

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pingora::tls::ssl::SslVersion;

use super::control::{metric, metric_becomes, reload};
use super::support::{Client, Gateway, Pair, Pki, Setup, Tls, scale};

const V12: SslVersion = SslVersion::TLS1_2;
const V13: SslVersion = SslVersion::TLS1_3;

/// A listener `public` at `a.test`; `tls` is what else stands in its `tls`, `rest` what stands beside it.
fn setup(pair: &Pair, tls: &str, rest: &str) -> Setup {
    Setup::new(&format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\"{rest}, tls: {{ certificates: [{{ cert_file: a.pem, key_file: a.key }}]{tls} }} }} }}\n\
         admin: {{ socket: admin.sock }}\n\
         routes: [{{ name: all, match: {{ path_prefix: / }}, respond: {{ text: here }} }}]\n"
    ))
    .file("a.pem", &pair.cert)
    .file("a.key", &pair.key)
}

fn failed(reason: &str) -> String {
    format!("doorward_tls_handshakes_failed_total{{listener=\"public\",reason=\"{reason}\"}}")
}

fn done(version: &str) -> String {
    format!("doorward_tls_handshakes_total{{listener=\"public\",version=\"{version}\"}}")
}

const REASONS: [&str; 10] = [
    "unknown_name",
    "version",
    "cipher",
    "alpn",
    "client_certificate",
    "client_alert",
    "timeout",
    "closed",
    "not_tls",
    "protocol",
];

/// Waits until `reason` was counted so often, and nothing else was.
#[track_caller]
fn only(gateway: &Gateway, reason: &str, times: u64) {
    metric_becomes(gateway, &failed(reason), |value| value == times);
    for other in REASONS.iter().filter(|other| **other != reason) {
        assert_eq!(
            metric(gateway, &failed(other)),
            Some(0),
            "{reason}, {other}"
        );
    }
}

/// Whether every client came in that wanted to.
#[track_caller]
pub(crate) fn none_failed(gateway: &Gateway) {
    // Who is gone as soon as it has seen what it wanted to see may be so before the gateway is done.
    for reason in REASONS.iter().filter(|reason| **reason != "closed") {
        assert_eq!(metric(gateway, &failed(reason)), Some(0), "{reason}");
    }
}

/// A greeting that is well formed as far as we read it; `compressions` is what it offers of them.
fn greeting(compressions: &[u8]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 0xc0, 0x2b]);
    body.extend(compressions);
    let length = u8::try_from(body.len()).unwrap();
    let mut bytes = vec![22, 3, 1, 0, length + 4, 1, 0, 0, length];
    bytes.extend(body);
    bytes
}

fn send(addr: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.write_all(bytes).unwrap();
    stream
}

#[test]
fn each_failure_has_its_reason() {
    let pki = Pki::new();
    let pair = pki.issue(&["a.test"]);
    let tls = || Tls::new(&pki.ca, "a.test");
    let fails = |tls: Tls, gateway: &Gateway| assert!(tls.try_connect(gateway.addr()).is_err());
    let plain = || setup(&pair, "", "").spawn();

    let gateway = plain();
    for times in 1..=3 {
        fails(Tls::new(&pki.ca, "elsewhere.test"), &gateway);
        only(&gateway, "unknown_name", times);
    }

    let gateway = setup(&pair, ", min_version: \"1.3\"", "").spawn();
    fails(tls().versions(V12, V12), &gateway);
    only(&gateway, "version", 1);

    let gateway = plain();
    fails(tls().suites("AES128-SHA").versions(V12, V12), &gateway);
    only(&gateway, "cipher", 1);

    let gateway = setup(&pair, "", ", protocols: [http2]").spawn();
    fails(tls().alpn(&["http/1.1"]), &gateway);
    only(&gateway, "alpn", 1);
    // Who names no protocol speaks HTTP/1.
    drop(tls().try_connect(gateway.addr()));
    only(&gateway, "alpn", 2);

    let gateway = plain();
    fails(Tls::new(&Pki::new().ca, "a.test"), &gateway);
    only(&gateway, "client_alert", 1);

    let gateway = setup(&pair, "", ", timeouts: { handshake: 100ms }").spawn();
    let silent = [
        send(gateway.addr(), b""),
        send(gateway.addr(), &greeting(&[1, 0])[..9]),
    ];
    only(&gateway, "timeout", 2);
    drop(silent);

    let gateway = plain();
    drop(send(gateway.addr(), b""));
    only(&gateway, "closed", 1);
    drop(send(gateway.addr(), &greeting(&[1, 0])[..9]));
    only(&gateway, "closed", 2);

    let gateway = plain();
    let _talking = send(gateway.addr(), b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    only(&gateway, "not_tls", 1);

    let gateway = plain();
    // Each client has to offer that nothing is compressed.
    let _talking = send(gateway.addr(), &greeting(&[1, 1]));
    only(&gateway, "protocol", 1);
}

#[test]
fn a_client_without_a_good_certificate_is_counted() {
    let (pki, stranger) = (Pki::new(), Pki::new());
    let pair = pki.issue(&["a.test"]);
    let bad = [pki.expired(&["c.test"]), stranger.issue(&["c.test"])];
    let auth = ", client_auth: { a.test: { ca_file: ca.pem } }";
    let gateway = setup(&pair, auth, "").file("ca.pem", &pki.ca).spawn();
    let mut times = 0;
    for version in [V12, V13] {
        let tls = || Tls::new(&pki.ca, "a.test").versions(version, version);
        drop(tls().try_connect(gateway.addr()));
        for bad in &bad {
            drop(tls().identity(bad).try_connect(gateway.addr()));
        }
        times += 3;
        only(&gateway, "client_certificate", times);
    }
    for version in ["1.2", "1.3"] {
        assert_eq!(metric(&gateway, &done(version)), Some(0), "{version}");
    }
}

#[test]
fn good_handshakes_are_counted_by_version() {
    let pki = Pki::new();
    let pair = pki.issue(&["a.test"]);
    let plain = "plain: { address: \"127.0.0.1:0\" }, public";
    let setup = setup(&pair, "", "");
    let config = std::fs::read_to_string(setup.path("doorward.yaml")).unwrap();
    let config = config.replacen("public", plain, 1);
    let gateway = Setup::new(&config)
        .file("a.pem", &pair.cert)
        .file("a.key", &pair.key)
        .spawn();
    for (version, name, times) in [(V12, "1.2", 2), (V13, "1.3", 3)] {
        for _ in 0..times {
            let tls = Tls::new(&pki.ca, "a.test").versions(version, version);
            let mut client = tls.connect(gateway.addr());
            client
                .request("GET", "/", &[("Host", "a.test")], b"")
                .expect(200);
        }
        assert_eq!(metric(&gateway, &done(name)), Some(times), "{name}");
    }
    for reason in REASONS {
        assert_eq!(metric(&gateway, &failed(reason)), Some(0), "{reason}");
    }
    // Where no TLS is spoken there is nothing to count.
    Client::connect(gateway.addr_of("plain"))
        .get("/")
        .expect(200);
    let text = super::control::at_socket(&gateway, "/metrics");
    let of_plain = text
        .lines()
        .find(|line| line.starts_with("doorward_tls_") && line.contains("listener=\"plain\""));
    assert_eq!(of_plain, None);
}

/// Puts a file in place of another with one step.
fn swap(gateway: &Gateway, name: &str, text: &str) {
    let new = gateway.dir().join(format!("{name}.new"));
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, gateway.dir().join(name)).unwrap();
}

/// Where an authority is taken in and out again under load: whose certificate holds all the time always comes in, and
/// whose does not, comes in exactly while it does.
#[test]
fn a_reload_changes_authorities_of_clients_and_no_handshake_fails() {
    let (pki, other) = (Pki::new(), Pki::new());
    let pair = pki.issue(&["a.test"]);
    let (old, new) = (pki.issue(&["old.test"]), other.issue(&["new.test"]));
    let both = format!("{}{}", pki.ca, other.ca);
    let auth = ", client_auth: { a.test: { ca_file: ca.pem } }";
    let gateway = setup(&pair, auth, "").file("ca.pem", &pki.ca).spawn();
    let (addr, over, made) = (gateway.addr(), AtomicBool::new(false), AtomicU64::new(0));
    let status = |identity: &Pair| {
        let client = Tls::new(&pki.ca, "a.test")
            .identity(identity)
            .try_connect(addr);
        let answer = client.and_then(|mut client| {
            let answer = client.try_request("GET", "/", &[("Host", "a.test")], b"");
            answer.map_err(|error| format!("{error:?}"))
        });
        answer.map(|answer| answer.status)
    };
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    // 421: who came in under the old authorities proves itself anew, on another connection.
                    let status = status(&old);
                    assert!(matches!(status, Ok(200 | 421)), "{status:?}");
                    made.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let swapped = catch_unwind(AssertUnwindSafe(|| {
            for turn in 1..=scale(200) + 3 {
                let known = turn % 2 == 1;
                swap(&gateway, "ca.pem", if known { &both } else { &pki.ca });
                reload(&gateway, 0);
                assert_eq!(status(&new).is_ok(), known, "turn {turn}");
            }
        }));
        over.store(true, Ordering::Relaxed);
        if let Err(panic) = swapped {
            resume_unwind(panic);
        }
    });
    let made = made.load(Ordering::Relaxed);
    assert!(made > 0);
    eprintln!("{made} handshakes of one client while authorities changed");
    // Nobody failed but those who were to.
    let refused = (scale(200) + 3) / 2;
    only(&gateway, "client_certificate", refused);
}
