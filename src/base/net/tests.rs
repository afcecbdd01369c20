//! Tests of networks and addresses.

use proptest::prelude::*;
use serde::de::DeserializeOwned;

use super::*;

fn check<T: TextForm + DeserializeOwned>(text: &str, expected: Result<&str, &str>) {
    let found = serde_json::from_value::<T>(text.into());
    let printed = found
        .map(|value| value.to_string())
        .map_err(|error| error.to_string());
    assert_eq!(
        printed.as_deref().map_err(|error| &**error),
        expected,
        "{text}"
    );
    if let Ok(printed) = &printed {
        let again = printed.parse::<T>().map(|again| again.to_string());
        assert_eq!(again.as_ref(), Ok(printed), "{text}");
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn set(nets: &[&str]) -> NetSet {
    nets.iter().map(|net| net.parse::<Net>().unwrap()).collect()
}

#[test]
fn networks_are_read_strictly() {
    check::<Net>("10.0.0.0/8", Ok("10.0.0.0/8"));
    check::<Net>("192.0.2.7", Ok("192.0.2.7"));
    check::<Net>("192.0.2.7/32", Ok("192.0.2.7"));
    check::<Net>("2001:DB8::/32", Ok("2001:db8::/32"));
    check::<Net>("::1", Ok("::1"));
    check::<Net>("0.0.0.0/0", Ok("0.0.0.0/0"));
    check::<Net>("::ffff:10.0.0.0/104", Ok("10.0.0.0/8"));
    check::<Net>("::ffff:10.1.2.3", Ok("10.1.2.3"));
    check::<Net>(
        "10.1.2.3/8",
        Err(
            "`10.1.2.3/8` has bits set beyond its prefix: write `10.0.0.0/8`, or `10.1.2.3` for the one address",
        ),
    );
    check::<Net>(
        "2001:db8::1/64",
        Err(
            "`2001:db8::1/64` has bits set beyond its prefix: write `2001:db8::/64`, or `2001:db8::1` for the one address",
        ),
    );
    check::<Net>(
        "10.0.0.0/33",
        Err("`10.0.0.0/33` is not a network: the prefix is a number from 0 to 32"),
    );
    check::<Net>(
        "::/129",
        Err("`::/129` is not a network: the prefix is a number from 0 to 128"),
    );
    check::<Net>(
        "10.0.0.0/",
        Err("`10.0.0.0/` is not a network: the prefix is a number from 0 to 32"),
    );
    for bad in [
        "",
        "localhost",
        "10.0.0/8",
        "fe80::1%eth0",
        "10.0.0.1-10.0.0.9",
        "010.0.0.0/8",
    ] {
        check::<Net>(
            bad,
            Err(&format!(
                "`{bad}` is not a network: write an address or e.g. `10.0.0.0/8`"
            )),
        );
    }
}

#[test]
fn mapped_addresses_are_ipv4() {
    assert_eq!(canonical_ip(ip("::ffff:192.0.2.1")), ip("192.0.2.1"));
    assert_eq!(canonical_ip(ip("::192.0.2.1")), ip("::192.0.2.1"));
    let nets = set(&["10.0.0.0/8", "::ffff:192.0.2.0/120", "2001:db8::/32"]);
    for inside in [
        "10.255.0.1",
        "::ffff:10.0.0.1",
        "192.0.2.9",
        "::ffff:192.0.2.9",
        "2001:db8:1::",
    ] {
        assert!(nets.contains(ip(inside)), "{inside}");
    }
    for outside in [
        "11.0.0.0",
        "9.255.255.255",
        "::10.0.0.1",
        "2001:db9::",
        "::ffff:11.0.0.0",
    ] {
        assert!(!nets.contains(ip(outside)), "{outside}");
    }
}

#[test]
fn all_of_ipv6_is_not_ipv4() {
    assert!(set(&["::/0"]).contains(ip("2001:db8::1")));
    assert!(!set(&["::/0"]).contains(ip("192.0.2.1")));
    assert!(!set(&["::/0"]).contains(ip("::ffff:192.0.2.1")));
    assert!(!set(&["0.0.0.0/0"]).contains(ip("::1")));
    assert!(set(&[]).is_empty() && !set(&[]).contains(ip("::")));
}

#[test]
fn ranges_that_meet_are_merged() {
    let nets = set(&[
        "10.1.0.0/16",
        "10.0.0.0/16",
        "10.0.3.0/24",
        "0.0.0.0/1",
        "255.0.0.0/8",
        "128.0.0.0/1",
    ]);
    assert_eq!(nets, set(&["0.0.0.0/0"]));
    assert_eq!(set(&["10.0.0.0/16", "10.1.0.0/16"]), set(&["10.0.0.0/15"]));
    assert_eq!(
        NetSet::from(vec!["10.0.0.9/8".parse().unwrap()]),
        set(&["10.0.0.0/8"])
    );
}

#[test]
fn clients_are_grouped_by_network() {
    let cases = [
        ("192.0.2.77", 24, 64, "192.0.2.0"),
        ("::ffff:192.0.2.77", 24, 64, "192.0.2.0"),
        ("2001:db8:1:2:3:4:5:6", 24, 64, "2001:db8:1:2::"),
        ("192.0.2.77", 0, 0, "0.0.0.0"),
        ("192.0.2.77", 32, 128, "192.0.2.77"),
        ("2001:db8::1", 200, 200, "2001:db8::1"),
    ];
    for (from, v4_bits, v6_bits, expected) in cases {
        assert_eq!(
            network_of(ip(from), v4_bits, v6_bits),
            ip(expected),
            "{from}"
        );
    }
}

#[test]
fn listen_addresses() {
    let cases = [
        ("[::]:443", Ok("[::]:443")),
        ("0.0.0.0:80", Ok("0.0.0.0:80")),
        ("127.0.0.1:0", Ok("127.0.0.1:0")),
        (":8080", Ok("[::]:8080")),
        (
            "unix:/run/doorward/http.sock",
            Ok("unix:/run/doorward/http.sock"),
        ),
        (
            "localhost:8080",
            Err(
                "`localhost:8080` is not an address to listen on: a name is not looked up: write `127.0.0.1:8080` or `[::1]:8080`",
            ),
        ),
        (
            "*:80",
            Err("`*:80` is not an address to listen on: write `:80` for every address"),
        ),
        ("8080", Err("`8080` is only a port: write `:8080`")),
        (
            "0.0.0.0",
            Err("`0.0.0.0` has no port: write e.g. `0.0.0.0:8080`"),
        ),
        ("::", Err("`::` has no port: write e.g. `[::]:8080`")),
        ("[::1]", Err("`[::1]` has no port: write e.g. `[::1]:8080`")),
        (
            "::1:80",
            Err("`::1:80` has an IPv6 address without brackets: write e.g. `[::1]:80`"),
        ),
        (
            "0.0.0.0:99999",
            Err(
                "`0.0.0.0:99999` is not an address to listen on: the port is a number from 0 to 65535",
            ),
        ),
        (
            ":http",
            Err("`:http` is not an address to listen on: the port is a number from 0 to 65535"),
        ),
        (
            "gateway.example:80",
            Err(
                "`gateway.example:80` is not an address to listen on: write e.g. `0.0.0.0:80`, `[::]:443` or `unix:/run/doorward/http.sock`",
            ),
        ),
        (
            "unix:http.sock",
            Err(
                "`unix:http.sock` has no absolute path to a socket: write e.g. `unix:/run/doorward/http.sock`",
            ),
        ),
    ];
    for (text, expected) in cases {
        check::<ListenAddress>(text, expected);
    }
    let long = format!("unix:/{}", "a".repeat(107));
    assert!(long.parse::<ListenAddress>().is_err());
    let number = serde_json::from_value::<ListenAddress>(8080.into()).unwrap_err();
    assert_eq!(number.to_string(), "`8080` is only a port: write `:8080`");
    let unix: ListenAddress = "unix:/run/x".parse().unwrap();
    assert_eq!(
        (unix.tcp(), unix.unix()),
        (None, Some(std::path::Path::new("/run/x")))
    );
}

#[test]
fn target_urls() {
    let cases = [
        ("http://10.0.0.1:8080", "http://10.0.0.1:8080"),
        ("http://10.0.0.1:80", "http://10.0.0.1"),
        ("https://Orders.Internal.", "https://orders.internal"),
        ("https://orders.internal:443/", "https://orders.internal"),
        ("h2c://[::1]:50051", "h2c://[::1]:50051"),
        ("ws://chat_1:8080", "ws://chat_1:8080"),
        ("wss://chat", "wss://chat"),
    ];
    for (text, expected) in cases {
        check::<TargetUrl>(text, Ok(expected));
    }
    let url: TargetUrl = "wss://[::ffff:10.0.0.1]".parse().unwrap();
    assert_eq!(
        (url.scheme(), url.port(), url.ip()),
        (TargetScheme::Wss, 443, Some(ip("10.0.0.1")))
    );
    let url: TargetUrl = "http://a:8080".parse().unwrap();
    assert_eq!(
        (url.host(), url.ip(), url.authority()),
        ("a", None, "a:8080".to_owned())
    );
}

#[test]
fn target_urls_are_no_more_than_a_host_and_a_port() {
    for text in ["http://a/b", "http://a//", "http://a?b", "http://a/#"] {
        let more =
            "has more than a host and a port: to change the path use `request.path` of the route";
        check::<TargetUrl>(text, Err(&format!("`{text}` {more}")));
    }
    for text in ["http://u:secret@a", "u:secret@a:80", "htp://secret@a/b"] {
        let user = "a name or password in the URL: use `credentials` of the upstream";
        check::<TargetUrl>(text, Err(user));
    }
    let cases = [
        ("http://", "the host is empty"),
        ("http://a:0", "the port is not a number from 1 to 65535"),
        ("http://::1", "the host is not an IPv6 address in brackets"),
        (
            "http://127.1",
            "the host ends in a number but is not an IPv4 address",
        ),
        ("http://a b", "the host has a character that no host has"),
    ];
    for (text, why) in cases {
        check::<TargetUrl>(
            text,
            Err(&format!("`{text}` is not the URL of a target: {why}")),
        );
    }
    check::<TargetUrl>(
        "a:80",
        Err("`a:80` has no scheme: write e.g. `http://a:80`"),
    );
    check::<TargetUrl>(
        "htps://a",
        Err("unknown scheme `htps` in `htps://a`: did you mean `https`?"),
    );
    let known = "use `http`, `https`, `h2c`, `ws` or `wss`";
    check::<TargetUrl>(
        "tcp://a",
        Err(&format!("unknown scheme `tcp` in `tcp://a`: {known}")),
    );
}

fn any_net() -> impl Strategy<Value = IpNet> {
    prop_oneof![
        (any::<u16>(), 0..=32_u8).prop_map(|(bits, prefix)| {
            let ip = Ipv4Addr::from_bits(u32::from(bits) << 12 | 0x0a00_0001);
            IpNet::new(ip.into(), prefix).unwrap()
        }),
        (any::<u8>(), 0..=128_u8).prop_map(|(bits, prefix)| {
            let ip = Ipv6Addr::from_bits(u128::from(bits) << 60 | 0x2001_0db8 << 96);
            IpNet::new(ip.into(), prefix).unwrap()
        }),
    ]
}

proptest! {
    #[test]
    fn a_set_is_its_networks(nets in prop::collection::vec(any_net(), 0..8), low in any::<u32>(), near in any_net()) {
        let set = NetSet::from(nets.clone());
        let (network, broadcast) = (near.network(), near.broadcast());
        for wanted in [IpAddr::from(Ipv4Addr::from_bits(low)), near.addr(), network, broadcast] {
            let expected = nets.iter().any(|net| net.contains(&wanted));
            prop_assert_eq!(set.contains(wanted), expected, "{}", wanted);
            if let IpAddr::V4(wanted) = wanted {
                prop_assert_eq!(set.contains(wanted.to_ipv6_mapped().into()), expected);
            }
        }
    }

    #[test]
    fn nothing_panics(text in "\\PC{0,16}|[0-9a-f:./\\[\\]%]{0,24}|(http|unix|ws)(:|://)[ -~]{0,16}") {
        let read = [
            text.parse::<Net>().map(|value| value.to_string()),
            text.parse::<ListenAddress>().map(|value| value.to_string()),
            text.parse::<TargetUrl>().map(|value| value.to_string()),
        ];
        prop_assert!(read.iter().flatten().all(|printed| !printed.is_empty()));
    }
}

#[test]
fn addresses_of_one_network_of_64_bits_are_told_apart() {
    let nets = [
        "2001:db8::5",
        "2001:db8::7",
        "2001:db8:0:1::/64",
        "2001:db7::/32",
    ];
    let set: NetSet = nets.iter().map(|net| net.parse::<Net>().unwrap()).collect();
    for (ip, held) in [
        ("2001:db8::4", false),
        ("2001:db8::5", true),
        ("2001:db8::6", false),
        ("2001:db8::7", true),
        ("2001:db8::8", false),
        ("2001:db8:0:1::", true),
        ("2001:db8:0:1:ffff::1", true),
        ("2001:db8:0:2::", false),
        ("2001:db7:ffff::1", true),
        ("2001:db6:ffff::1", false),
        ("::1", false),
    ] {
        assert_eq!(set.contains(ip.parse().unwrap()), held, "{ip}");
    }
}
