//! What an upstream has to prove before it gets a request by TLS; without the proof it gets not one byte.
#![expect(
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test stops at the first thing that is not as expected"
)]

use std::net::SocketAddr;

use pingora::tls::ssl::{AlpnError, SslVerifyMode, SslVersion};
use pingora::tls::x509::X509;
use pingora::tls::x509::store::X509StoreBuilder;

use super::support::{Gateway, Pair, Pki, Response, Setup, TlsOrigin};

/// A gateway before one upstream: its target's URL, what else stands in it, the tests' authority in `ca.pem`.
fn setup(url: &str, more: &str, pki: &Pki) -> Setup {
    Setup::new(&format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\" }} }}\nadmin: {{ socket: admin.sock }}\n\
         upstreams: {{ o: {{ targets: [{{ url: \"{url}\" }}]{more} }} }}\n\
         routes: [{{ name: all, match: {{ path_prefix: / }}, upstream: o }}]\n"
    ))
    .file("ca.pem", &pki.ca)
}

fn get(gateway: &Gateway) -> Response {
    gateway.client().get("/secret")
}

fn by_ip(addr: SocketAddr) -> String {
    format!("https://{addr}")
}

#[track_caller]
fn refused(what: &str, gateway: &Gateway, origin: &TlsOrigin) {
    for _ in 0..2 {
        let answer = get(gateway).expect(502);
        assert_eq!(
            answer.json()["type"],
            "urn:doorward:error:tls_failure",
            "{what}"
        );
    }
    let heard = origin.heard();
    assert!(heard.connections >= 2, "{what}: {heard:?}");
    assert_eq!(String::from_utf8_lossy(&heard.bytes), "", "{what}");
}

#[test]
fn a_target_is_verified_by_address_or_name() {
    let pki = Pki::new();
    for (names, server_name) in [
        (&["127.0.0.1"][..], ""),
        (&["orders.internal"], ", server_name: orders.internal"),
        (&["*.shop.internal"], ", server_name: orders.shop.internal"),
    ] {
        let origin = TlsOrigin::start(&pki.issue(names), |_| {});
        let tls = format!(", tls: {{ ca_file: ca.pem{server_name} }}");
        let gateway = setup(&by_ip(origin.addr()), &tls, &pki).spawn();
        let mut client = gateway.client();
        for _ in 0..3 {
            assert_eq!(client.get("/secret").expect(200).text(), "ok");
        }
        let heard = origin.heard();
        assert_eq!(
            (heard.connections, heard.requests),
            (1, 3),
            "the connection is kept"
        );
        let name = server_name.strip_prefix(", server_name: ");
        assert_eq!(heard.name.as_deref(), name);
        assert_eq!(heard.client, None);
    }
}

#[test]
fn a_name_of_the_url_is_the_one_verified() {
    let pki = Pki::new();
    for (named, good) in [("localhost", true), ("elsewhere.test", false)] {
        let origin = TlsOrigin::start(&pki.issue(&[named]), |_| {});
        let url = format!("https://localhost:{}", origin.addr().port());
        let gateway = setup(&url, ", tls: { ca_file: ca.pem }", &pki).spawn();
        if good {
            get(&gateway).expect(200);
            assert_eq!(origin.heard().name.as_deref(), Some("localhost"));
        } else {
            refused(named, &gateway, &origin);
        }
    }
}

#[test]
fn who_does_not_prove_to_be_the_target_hears_nothing() {
    let (pki, stranger) = (Pki::new(), Pki::new());
    let trusted = ", tls: { ca_file: ca.pem, server_name: orders.internal }";
    let name = &["orders.internal"][..];
    let cases: [(&str, Pair, &str); 6] = [
        ("expired", pki.expired(name), trusted),
        ("wrong name", pki.issue(&["other.internal"]), trusted),
        ("unknown authority", stranger.issue(name), trusted),
        (
            "authority of nobody but us",
            pki.issue(name),
            ", tls: { server_name: orders.internal }",
        ),
        (
            "wrong address",
            pki.issue(&["127.0.0.2"]),
            ", tls: { ca_file: ca.pem }",
        ),
        (
            "a name where an address is wanted",
            pki.issue(name),
            ", tls: { ca_file: ca.pem }",
        ),
    ];
    for (what, pair, tls) in cases {
        let origin = TlsOrigin::start(&pair, |_| {});
        let gateway = setup(&by_ip(origin.addr()), tls, &pki).spawn();
        refused(what, &gateway, &origin);
    }
}

#[test]
fn old_versions_and_weak_suites_are_no_privacy() {
    let pki = Pki::new();
    let pair = pki.issue(&["orders.internal"]);
    let trusted = "ca_file: ca.pem, server_name: orders.internal";
    let limit = |from: SslVersion, to: SslVersion, suites: &'static str| {
        TlsOrigin::start(&pair, move |builder| {
            builder.clear_options(pingora::tls::ssl::SslOptions::all());
            builder.set_security_level(0);
            builder.set_cipher_list(suites).unwrap();
            builder.set_min_proto_version(Some(from)).unwrap();
            builder.set_max_proto_version(Some(to)).unwrap();
        })
    };
    let (v11, v12, v13) = (SslVersion::TLS1_1, SslVersion::TLS1_2, SslVersion::TLS1_3);
    let cases = [
        ("TLS 1.1", limit(v11, v11, "ALL"), "", false),
        (
            "CBC",
            limit(v12, v12, "ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA384"),
            "",
            false,
        ),
        (
            "TLS 1.2 below 1.3",
            limit(v12, v12, "ALL"),
            ", min_version: \"1.3\"",
            false,
        ),
        (
            "TLS 1.2",
            limit(v12, v12, "ECDHE-ECDSA-AES128-GCM-SHA256"),
            "",
            true,
        ),
        (
            "TLS 1.3",
            limit(v12, v13, "ALL"),
            ", min_version: \"1.3\"",
            true,
        ),
    ];
    for (what, origin, more, good) in cases {
        let tls = format!(", tls: {{ {trusted}{more} }}");
        let gateway = setup(&by_ip(origin.addr()), &tls, &pki).spawn();
        if good {
            get(&gateway).expect(200);
        } else {
            refused(what, &gateway, &origin);
        }
    }
}

#[test]
fn our_own_certificate_is_shown_where_it_is_asked_for() {
    let pki = Pki::new();
    let own = pki.issue(&["gateway.internal"]);
    let ca = X509::from_pem(pki.ca.as_bytes()).unwrap();
    let origin = TlsOrigin::start(&pki.issue(&["127.0.0.1"]), |builder| {
        let mut store = X509StoreBuilder::new().unwrap();
        store.add_cert(ca).unwrap();
        builder.set_verify_cert_store(store.build()).unwrap();
        builder.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
        builder.set_session_id_context(b"tests").unwrap();
    });
    let shown = ", tls: { ca_file: ca.pem, cert_file: own.pem, key_file: own.key }";
    let gateway = setup(&by_ip(origin.addr()), shown, &pki)
        .file("own.pem", &own.cert)
        .file("own.key", &own.key)
        .spawn();
    get(&gateway).expect(200);
    assert!(origin.heard().client.unwrap().contains("gateway.internal"));
    let gateway = setup(&by_ip(origin.addr()), ", tls: { ca_file: ca.pem }", &pki).spawn();
    get(&gateway).expect(502);
    assert_eq!(origin.heard().requests, 1);
}

#[test]
fn nothing_is_verified_where_that_is_said() {
    let (pki, stranger) = (Pki::new(), Pki::new());
    let origin = TlsOrigin::start(&stranger.expired(&["whoever.test"]), |_| {});
    let gateway = setup(&by_ip(origin.addr()), ", tls: { verify: none }", &pki).spawn();
    get(&gateway).expect(200);
}

#[test]
fn the_authorities_of_the_system_are_those_of_an_upstream_without_its_own() {
    let pki = Pki::new();
    let origin = TlsOrigin::start(&pki.issue(&["127.0.0.1"]), |_| {});
    let setup = setup(&by_ip(origin.addr()), "", &pki);
    let system = setup.path("ca.pem");
    let gateway = setup.env("SSL_CERT_FILE", system.to_str().unwrap()).spawn();
    get(&gateway).expect(200);
}

#[test]
fn connections_are_not_shared_across_tls_settings() {
    let pki = Pki::new();
    let own = pki.issue(&["gateway.internal"]);
    let origin = TlsOrigin::start(&pki.issue(&["127.0.0.1"]), |_| {});
    let url = by_ip(origin.addr());
    let gateway = Setup::new(&format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\" }} }}\nadmin: {{ socket: admin.sock }}\n\
         upstreams:\n  a: {{ targets: [{{ url: \"{url}\" }}], tls: {{ ca_file: ca.pem }} }}\n\
         \x20 b: {{ targets: [{{ url: \"{url}\" }}], tls: {{ ca_file: ca.pem, cert_file: own.pem, key_file: own.key }} }}\n\
         routes:\n  - {{ name: a, match: {{ path: /a }}, upstream: a }}\n  - {{ name: b, match: {{ path: /b }}, upstream: b }}\n"
    ))
    .file("ca.pem", &pki.ca)
    .file("own.pem", &own.cert)
    .file("own.key", &own.key)
    .spawn();
    let mut client = gateway.client();
    for turn in 0..3 {
        client.get("/a").expect(200);
        client.get("/b").expect(200);
        assert_eq!(origin.heard().connections, 2, "turn {turn}");
    }
    // The same name with another authority: what was made under the old one serves nobody.
    let config = std::fs::read_to_string(gateway.dir().join("doorward.yaml")).unwrap();
    let stranger = Pki::new();
    std::fs::write(gateway.dir().join("other.pem"), &stranger.ca).unwrap();
    gateway.write_config(&config.replacen("ca_file: ca.pem }", "ca_file: other.pem }", 1));
    let reloaded = super::support::run_cli(&["reload", "--admin", "admin.sock"], gateway.dir());
    assert_eq!(reloaded.code, 0, "{}", reloaded.stderr);
    client.get("/b").expect(200);
    client.get("/a").expect(502);
}

#[test]
fn http2_by_tls_is_agreed_upon_or_nothing_is_sent() {
    let pki = Pki::new();
    let pair = pki.issue(&["127.0.0.1"]);
    let gateway = |origin: &TlsOrigin| {
        setup(
            &by_ip(origin.addr()),
            ", protocol: http2, tls: { ca_file: ca.pem }",
            &pki,
        )
        .spawn()
    };
    let silent = TlsOrigin::start(&pair, |_| {});
    refused("no ALPN", &gateway(&silent), &silent);
    let old = TlsOrigin::start(&pair, |builder| {
        builder.set_alpn_select_callback(|_, wanted| {
            pingora::tls::ssl::select_next_proto(b"\x08http/1.1", wanted)
                .ok_or(AlpnError::ALERT_FATAL)
        });
    });
    for _ in 0..2 {
        get(&gateway(&old)).expect(502);
    }
    assert!(old.heard().bytes.is_empty());
}
