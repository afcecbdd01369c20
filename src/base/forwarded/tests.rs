//! Tests of the client's chain.

use http::{HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;
use crate::base::net::Net;

const XFF: &str = "x-forwarded-for";
const FWD: &str = "forwarded";
const PROTO: &str = "x-forwarded-proto";
const HOST: &str = "x-forwarded-host";

fn trusted() -> NetSet {
    ["10.0.0.0/8", "fd00::/8"]
        .iter()
        .map(|net| net.parse::<Net>().unwrap())
        .collect()
}

fn resolve(peer: &str, headers: &[(&'static str, &str)]) -> ClientChain {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(
            HeaderName::from_static(name),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    ClientChain::resolve(peer.parse().unwrap(), &trusted(), &map)
}

fn x_forwarded_for(client: &ClientChain) -> String {
    let mut line = String::new();
    client.x_forwarded_for(&mut line);
    line
}

fn forwarded(client: &ClientChain, scheme: Scheme, host: &str) -> String {
    let mut line = String::new();
    client.forwarded(scheme, host, &mut line);
    line
}

/// The client, and the chain that the next hop is told.
fn check(headers: &[(&'static str, &str)], client: &str, next: &str) {
    let found = resolve("10.0.0.1", headers);
    assert_eq!(found.client.to_string(), client, "{headers:?}");
    assert_eq!(x_forwarded_for(&found), next, "{headers:?}");
    assert!(found.trusted_peer && !found.conflict, "{headers:?}");
}

#[test]
fn an_untrusted_peer_is_the_client() {
    let headers = [
        (XFF, "1.1.1.1"),
        (FWD, "for=1.1.1.1;proto=https;host=a"),
        (PROTO, "https"),
        (HOST, "evil.test"),
    ];
    let found = resolve("192.0.2.9", &headers);
    assert_eq!(found, ClientChain::direct("192.0.2.9".parse().unwrap()));
    assert_eq!(
        (found.scheme, found.host.as_deref(), found.trusted_peer),
        (None, None, false)
    );
    assert_eq!(x_forwarded_for(&found), "192.0.2.9");
    assert_eq!(
        forwarded(&found, Scheme::Http, "a.test"),
        "for=192.0.2.9;host=a.test;proto=http"
    );
}

#[test]
fn a_mapped_peer_is_its_ipv4_address() {
    let found = resolve("::ffff:10.0.0.1", &[(XFF, "::ffff:192.0.2.9")]);
    assert_eq!(found.client.to_string(), "192.0.2.9");
    assert_eq!(found.peer().to_string(), "10.0.0.1");
    assert_eq!(
        resolve("::ffff:192.0.2.9", &[]).client.to_string(),
        "192.0.2.9"
    );
}

#[test]
fn the_rightmost_untrusted_address_is_the_client() {
    check(&[], "10.0.0.1", "10.0.0.1");
    check(&[(XFF, "192.0.2.9")], "192.0.2.9", "192.0.2.9, 10.0.0.1");
    check(
        &[(XFF, "1.1.1.1, 192.0.2.9")],
        "192.0.2.9",
        "192.0.2.9, 10.0.0.1",
    );
    check(
        &[(XFF, "1.1.1.1,192.0.2.9 ,\t10.2.2.2")],
        "192.0.2.9",
        "192.0.2.9, 10.2.2.2, 10.0.0.1",
    );
    check(
        &[
            (XFF, "1.1.1.1"),
            (XFF, "192.0.2.9, 10.3.3.3"),
            (XFF, "10.2.2.2"),
        ],
        "192.0.2.9",
        "192.0.2.9, 10.3.3.3, 10.2.2.2, 10.0.0.1",
    );
    check(
        &[(XFF, "10.3.3.3, fd00::2")],
        "10.3.3.3",
        "10.3.3.3, fd00::2, 10.0.0.1",
    );
}

#[test]
fn what_cannot_be_read_ends_the_walk() {
    check(
        &[(XFF, "1.1.1.1, , garbage, ::1%eth0")],
        "10.0.0.1",
        "10.0.0.1",
    );
    check(
        &[(XFF, "1.1.1.1, , garbage, 10.2.2.2")],
        "10.2.2.2",
        "10.2.2.2, 10.0.0.1",
    );
    for bad in [
        "",
        " ",
        "unknown",
        "_hidden",
        "localhost",
        "1.1.1",
        "01.1.1.1",
        "1.1.1.1.1",
        "1.1.1.1:",
        "1.1.1.1:x",
        "1.1.1.1:99999",
        "[::1",
        "::1]",
        "[1.1.1.1]",
        "[::1]x",
        "\"1.1.1.1\"",
        "for=1.1.1.1",
        "1.1.1.1 2.2.2.2",
        "fe80::1%1",
        "192.0.2.9,",
        "192.0.2.9;",
        "é",
    ] {
        check(&[(XFF, bad)], "10.0.0.1", "10.0.0.1");
    }
}

#[test]
fn ports_and_brackets_are_read() {
    for good in [
        "192.0.2.9:443",
        "192.0.2.9:0",
        "::ffff:192.0.2.9",
        "[::ffff:192.0.2.9]:1",
    ] {
        check(&[(XFF, good)], "192.0.2.9", "192.0.2.9, 10.0.0.1");
    }
    for good in ["2001:DB8::1", "[2001:db8::1]", "[2001:db8:0::1]:443"] {
        check(&[(XFF, good)], "2001:db8::1", "2001:db8::1, 10.0.0.1");
    }
}

#[test]
fn a_chain_has_an_end() {
    let long = vec!["10.9.9.9"; 100].join(",");
    let found = resolve("10.0.0.1", &[(XFF, &long)]);
    assert_eq!(found.addresses().count(), HOPS_MAX + 1);
}

#[test]
fn forwarded_elements() {
    let cases = [
        ("for=192.0.2.9", "192.0.2.9"),
        ("For=\"192.0.2.9:4711\"", "192.0.2.9"),
        ("for=\"192.0.2.9:_p1\"", "192.0.2.9"),
        ("for=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17"),
        ("for=\"\\1\\92.0.2.9\"", "192.0.2.9"),
        ("for=192.0.2.9;proto=http;by=203.0.113.43", "192.0.2.9"),
        ("by=10.0.0.1; for=192.0.2.9 ; x=\"a, b\"", "192.0.2.9"),
        ("for=1.1.1.1, for=192.0.2.9", "192.0.2.9"),
        ("for=192.0.2.9, for=10.2.2.2", "192.0.2.9"),
        // An open quote of the client does not hide what the proxy wrote.
        ("for=\"1.1.1.1, for=192.0.2.9", "192.0.2.9"),
        ("for=1.1.1.1;x=\", for=\"192.0.2.9:1\"", "192.0.2.9"),
        ("x=\"\\, for=192.0.2.9;y=\"z\"", "192.0.2.9"),
        ("for=unknown", "10.0.0.1"),
        ("for=_SEVKISEK", "10.0.0.1"),
        ("for=2001:db8::1", "10.0.0.1"),
        ("for=[2001:db8::1]", "10.0.0.1"),
        ("for=\"2001:db8::1\"", "10.0.0.1"),
        ("for=192.0.2.9:80", "10.0.0.1"),
        ("for=192.0.2.9;for=1.1.1.1", "10.0.0.1"),
        ("for=192.0.2.9 proto=http", "10.0.0.1"),
        ("for=192.0.2.9;", "10.0.0.1"),
        ("for = 192.0.2.9", "10.0.0.1"),
        ("for=", "10.0.0.1"),
        ("for=\"192.0.2.9", "10.0.0.1"),
        ("for=\"\\", "10.0.0.1"),
        ("192.0.2.9", "10.0.0.1"),
        ("proto=https", "10.0.0.1"),
        ("for=192.0.2.9, ", "10.0.0.1"),
        ("for=192.0.2.9, , for=10.2.2.2", "10.2.2.2"),
        ("", "10.0.0.1"),
    ];
    for (value, client) in cases {
        let found = resolve("10.0.0.1", &[(FWD, value)]);
        assert_eq!(found.client.to_string(), client, "{value}");
    }
    let lines = [
        (FWD, "for=192.0.2.9;x=\""),
        (FWD, "for=192.0.2.10"),
        (FWD, "for=10.2.2.2"),
    ];
    assert_eq!(resolve("10.0.0.1", &lines).client.to_string(), "192.0.2.10");
}

fn check_origin(headers: &[(&'static str, &str)], scheme: Option<Scheme>, host: Option<&str>) {
    let found = resolve("10.0.0.1", headers);
    assert_eq!(
        (found.scheme, found.host.as_deref()),
        (scheme, host),
        "{headers:?}"
    );
    assert!(!found.conflict, "{headers:?}");
}

#[test]
fn a_trusted_peer_says_scheme_and_host() {
    let https = Some(Scheme::Https);
    check_origin(
        &[(PROTO, "https"), (HOST, "API.test.:8443")],
        https,
        Some("api.test:8443"),
    );
    check_origin(&[(PROTO, "HTTPS")], https, None);
    check_origin(
        &[(PROTO, "http, https"), (HOST, "evil.test, a.test")],
        https,
        Some("a.test"),
    );
    check_origin(&[(PROTO, "http"), (PROTO, "https")], https, None);
    check_origin(
        &[(FWD, "for=1.1.1.1;proto=https;host=\"[::1]:1\"")],
        https,
        Some("[::1]:1"),
    );
    // The client's own connection is described by the element that names the client.
    check_origin(
        &[(
            FWD,
            "for=1.1.1.1;proto=https;host=a, for=10.2.2.2;proto=http;host=b",
        )],
        https,
        Some("a"),
    );
    check_origin(
        &[(FWD, "for=2.2.2.2;proto=http, for=1.1.1.1;proto=https")],
        https,
        None,
    );
    check_origin(&[(FWD, "for=unknown;proto=https")], https, None);
    check_origin(
        &[(FWD, "for=unknown;proto=https"), (PROTO, "https")],
        https,
        None,
    );
    for bad in ["ftp", "https://", "", "https;", "wss", "\"https\""] {
        check_origin(&[(PROTO, bad)], None, None);
    }
    for bad in ["a@b", "", "a/b", "a b", "a:0", "a..b", "é"] {
        check_origin(&[(HOST, bad)], None, None);
    }
    check_origin(&[(FWD, "for=1.1.1.1;proto=ftp;host=\"a/b\"")], None, None);
}

/// `Err` when the headers contradict each other.
fn check_both(xff: &str, forwarded: &str, expected: Result<&str, &str>) {
    let found = resolve("10.0.0.1", &[(XFF, xff), (FWD, forwarded)]);
    let client = &*found.client.to_string();
    assert_eq!(
        if found.conflict {
            Err(client)
        } else {
            Ok(client)
        },
        expected,
        "{xff} {forwarded}"
    );
}

#[test]
fn only_what_both_headers_say_counts() {
    check_both("192.0.2.9", "for=192.0.2.9", Ok("192.0.2.9"));
    check_both(
        "1.1.1.1, 192.0.2.9",
        "for=2.2.2.2, for=192.0.2.9",
        Ok("192.0.2.9"),
    );
    check_both("192.0.2.9", "for=1.1.1.1", Err("10.0.0.1"));
    check_both("192.0.2.9", "for=10.9.9.9", Err("10.0.0.1"));
    check_both(
        "192.0.2.9, 10.2.2.2",
        "for=1.1.1.1, for=10.2.2.2",
        Err("10.2.2.2"),
    );
    check_both("192.0.2.9, 10.2.2.2", "for=10.2.2.2", Err("10.2.2.2"));
    check_both("192.0.2.9", "for=unknown", Err("10.0.0.1"));
    let found = resolve(
        "10.0.0.1",
        &[
            (FWD, "for=1.1.1.1;proto=http;host=a"),
            (PROTO, "https"),
            (HOST, "b"),
        ],
    );
    assert_eq!(
        (found.scheme, found.host, found.conflict),
        (None, None, true)
    );
}

#[test]
fn the_next_hop_gets_only_verified_addresses() {
    let found = resolve("fd00::1", &[(XFF, "1.1.1.1, 2001:db8::9, 10.2.2.2")]);
    assert_eq!(x_forwarded_for(&found), "2001:db8::9, 10.2.2.2, fd00::1");
    assert_eq!(
        forwarded(&found, Scheme::Https, "a.test:8443"),
        "for=\"[2001:db8::9]\";host=\"a.test:8443\";proto=https, for=10.2.2.2, for=\"[fd00::1]\""
    );
    assert_eq!(
        forwarded_for("::ffff:192.0.2.1".parse().unwrap()),
        "for=192.0.2.1"
    );
    let mut line = String::new();
    told::write_quoted(&mut line, "a\"b\\c\r\n");
    assert_eq!(line, "\"a\\\"b\\\\c\"");
}

#[test]
fn request_ids_are_plain() {
    let longest = "a".repeat(128);
    for good in ["7", "0197-aB_c.9", &longest] {
        assert!(request_id_valid(good), "{good}");
    }
    let too_long = "a".repeat(129);
    for bad in [
        "", " ", "a b", "a\n", "a\"", "é", "a/b", "a=b", "{}", &too_long,
    ] {
        assert!(!request_id_valid(bad), "{bad:?}");
    }
}

fn any_value() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "for=", "proto=", "host=", "\"", "\\", ",", ";", " ", "=", "1.1.1.1", "10.2.2.2", "[::1]",
        "::1", ":80", "https", "a.test", "unknown", "_x", "%eth0",
    ]);
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn what_a_client_writes_first_changes_nothing(forged in any_value(), v6: bool, quoted_port: bool) {
        let client = if v6 { "2001:db8::9" } else { "192.0.2.9" };
        let found = resolve("10.0.0.1", &[(XFF, &format!("{forged}, {client}"))]);
        prop_assert_eq!(found.client.to_string(), client);
        let own = match (v6, quoted_port) {
            (true, _) => format!("for=\"[{client}]\";proto=https"),
            (false, true) => format!("for=\"{client}:1\";x=\"y\""),
            (false, false) => format!("for={client}"),
        };
        let found = resolve("10.0.0.1", &[(FWD, &format!("{forged}, {own}"))]);
        prop_assert_eq!(found.client.to_string(), client);
        prop_assert_eq!(found.addresses().count(), 2);
    }

    #[test]
    fn addresses_are_written_as_usual(octets in any::<[u8; 4]>()) {
        let mut line = String::new();
        let address = IpAddr::from(octets);
        told::write_address(&mut line, address);
        prop_assert_eq!(line, address.to_string());
    }

    #[test]
    fn what_is_told_is_read_the_same(value in any_value()) {
        let found = resolve("10.0.0.1", &[(XFF, &value)]);
        let told = [x_forwarded_for(&found), forwarded(&found, Scheme::Https, "a.test:1")];
        // The next gateway trusts this one, whose peer is a proxy.
        for (name, told) in [(XFF, &told[0]), (FWD, &told[1])] {
            let again = resolve("10.0.0.7", &[(name, told)]);
            prop_assert_eq!(again.client, found.client);
        }
    }

    #[test]
    fn nothing_panics(one in "[ -~]{0,40}", other in any_value()) {
        for (first, second) in [(&one, &other), (&other, &one)] {
            let found = resolve("10.0.0.1", &[(XFF, first), (FWD, second), (HOST, first), (PROTO, second)]);
            prop_assert!(found.addresses().count() <= HOPS_MAX + 1);
        }
    }
}
