//! Tests of canonical names.

use std::borrow::Cow;

use proptest::prelude::*;

use super::*;

const KEEP_SLASHES: PathOptions = PathOptions {
    merge_slashes: false,
};

fn check_path(raw: &str, expected: Result<&str, PathFault>) {
    let found = canonical_path(raw, PathOptions::default());
    assert_eq!(
        found.as_deref(),
        expected.as_ref().map(|path| *path),
        "{raw:?}"
    );
}

fn check_paths(cases: &[(&str, &str)]) {
    for (raw, expected) in cases {
        check_path(raw, Ok(expected));
    }
}

fn check_refused(fault: PathFault, cases: &[&str]) {
    for raw in cases {
        check_path(raw, Err(fault));
    }
}

#[test]
fn canonical_paths_are_borrowed() {
    let cases = [
        "/",
        "/a",
        "/a/",
        "/v1/orders/7",
        "/a.b/c..d/...",
        "/.well-known/x",
        "/..a",
        "/a..",
        "/.a/",
        "/a%20b",
        "/caf%C3%A9",
        "/%F0%9F%98%80",
        "/a;b=c,d",
        "/x;y/.z",
        "/~u/-_.!$&'()*+,;=:@",
        "/%252e%252e/x",
        "/%25",
        "/%3Bx",
        "/a%3B",
        "/...;x",
        "/a.;x",
    ];
    for raw in cases {
        let found = canonical_path(raw, PathOptions::default()).unwrap();
        assert!(matches!(found, Cow::Borrowed(_)), "{raw}: {found}");
        assert_eq!(found, raw);
    }
}

#[test]
fn only_unreserved_escapes_are_decoded() {
    check_paths(&[
        ("/%41%7a%30%2D%2e%5F%7ex", "/Az0-._~x"),
        ("/%61dmin/secret", "/admin/secret"),
        ("/%2a%3a%40%2B", "/%2A%3A%40%2B"),
        ("/caf%c3%a9", "/caf%C3%A9"),
        ("/a%3fb%23c", "/a%3Fb%23c"),
        ("/api%2e/admin", "/api./admin"),
    ]);
}

#[test]
fn nothing_is_decoded_twice() {
    check_paths(&[
        ("/%252e%252e/x", "/%252e%252e/x"),
        ("/%25%32%65", "/%252e"),
        ("/%252f", "/%252f"),
        ("/%2525", "/%2525"),
    ]);
}

#[test]
fn dot_segments_are_resolved() {
    check_paths(&[
        ("/a/./b", "/a/b"),
        ("/a/../b", "/b"),
        ("/a/b/..", "/a/"),
        ("/a/..", "/"),
        ("/a/.", "/a/"),
        ("/.", "/"),
        ("/./", "/"),
        ("/a/b/../../c", "/c"),
        ("/a/%2e%2e/b", "/b"),
        ("/a/.%2E/b", "/b"),
        ("/a/%2e/b", "/a/b"),
        ("/public/%2e%2e/admin/secret", "/admin/secret"),
        ("/.//b", "/b"),
        ("/a/..//b", "/b"),
    ]);
}

#[test]
fn what_leads_above_the_root_is_refused() {
    check_refused(
        PathFault::AboveRoot,
        &[
            "/..",
            "/../",
            "/../a",
            "/a/../..",
            "/a/../../b",
            "/%2e%2e/",
            "/./..",
            "//..",
            "/../../../etc/passwd",
        ],
    );
}

#[test]
fn slashes_are_merged_unless_kept() {
    check_paths(&[
        ("//", "/"),
        ("//admin/secret", "/admin/secret"),
        ("/a//b///c//", "/a/b/c/"),
        ("/a//../b", "/b"),
    ]);
    let cases = [
        ("/a//b", "/a//b"),
        ("/a//", "/a//"),
        ("/a//../b", "/a/b"),
        ("//evil.test/p", "/evil.test/p"),
        ("/.//b", "/b"),
        ("/a/..//b", "/b"),
        ("/a/b/..//c", "/a//c"),
    ];
    for (raw, expected) in cases {
        assert_eq!(
            canonical_path(raw, KEEP_SLASHES).as_deref(),
            Ok(expected),
            "{raw}"
        );
    }
}

#[test]
fn encoded_separators_and_controls_are_refused() {
    check_refused(
        PathFault::EncodedSlash,
        &["/public/..%2fadmin/secret", "/a%2F", "/admin%2fsecret"],
    );
    check_refused(PathFault::EncodedBackslash, &["/public/..%5cadmin", "/%5C"]);
    check_refused(
        PathFault::EncodedControl,
        &["/%00", "/a%0a", "/%0D%0A", "/%1f", "/%7F"],
    );
}

#[test]
fn bad_escapes_are_refused() {
    check_refused(
        PathFault::BadEscape,
        &[
            "/%", "/%2", "/%zz", "/%u002e", "/a%", "/%%41", "/%4", "/%+1", "/%4g", "/% 1",
        ],
    );
    check_refused(
        PathFault::BadUtf8,
        &[
            "/%c0%af",
            "/%C0%80",
            "/%e0%80%af",
            "/%80",
            "/%FF",
            "/%c3",
            "/%c3x",
            "/%c3%28",
            "/%c3/%a9",
            "/%ed%a0%80",
            "/%f4%90%80%80",
            "/%f0%9f%98",
            "/%E2%28%A1",
            "/%c3%zz",
            "/%f8%80%80%80%80",
        ],
    );
}

#[test]
fn raw_characters_outside_a_path_are_refused() {
    check_refused(PathFault::Backslash, &["/a\\b", "/\\evil", "/..\\admin"]);
    check_refused(PathFault::Fragment, &["/a#", "/#f"]);
    check_refused(PathFault::Space, &["/a b", "/ "]);
    check_refused(PathFault::Control, &["/a\0", "/\t", "/\r\n", "/\x7f"]);
    check_refused(PathFault::NonAscii, &["/é", "/a\u{2f}\u{2215}"]);
    check_refused(
        PathFault::Character,
        &["/<", "/>", "/\"", "/`", "/{", "/}", "/a?b"],
    );
    check_refused(
        PathFault::NotAbsolute,
        &["", "p", "*", "@evil.test/p", "http://a/", " /", "%2f"],
    );
}

#[test]
fn what_browsers_leave_raw_is_escaped() {
    check_paths(&[("/a|b^c[d]", "/a%7Cb%5Ec%5Bd%5D")]);
}

#[test]
fn dot_segments_with_parameters_are_refused() {
    check_refused(
        PathFault::DotSegmentParameter,
        &[
            "/public/..;/admin",
            "/..;",
            "/.;x/",
            "/a/.;",
            "/a/..;x=y/b",
            "/a/..%3b/b",
            "/a/%2e%2e;/b",
            "/a/.%2e%3B",
            "/%2e;",
        ],
    );
    check_paths(&[
        ("/admin/secret;x.css", "/admin/secret;x.css"),
        ("/;a", "/;a"),
        ("/a/;/..", "/a/"),
    ]);
}

#[test]
fn faults_have_stable_codes() {
    assert_eq!(PathFault::EncodedSlash.code(), "path_encoded_slash");
    assert_eq!(QueryFault::Control.code(), "query_control");
    assert_eq!(AuthorityFault::Userinfo.code(), "host_userinfo");
    assert_eq!(
        PathFault::AboveRoot.to_string(),
        "a `..` segment leads above the root"
    );
}

fn check_pattern(text: &str, expected: Result<&str, PathFault>) {
    let found = canonical_pattern(text);
    assert_eq!(
        found.as_deref(),
        expected.as_ref().map(|path| *path),
        "{text}"
    );
}

#[test]
fn patterns_keep_their_templates() {
    check_pattern("/v1/orders/{id}", Ok("/v1/orders/{id}"));
    check_pattern("/%61/{id}/./{path*}", Ok("/a/{id}/{path*}"));
    check_pattern("/{a}/../b", Ok("/b"));
    check_pattern(
        "/x-{request.headers.x-a}.json",
        Ok("/x-{request.headers.x-a}.json"),
    );
    check_pattern("/..{a}//b", Ok("/..{a}/b"));
    check_pattern("/{{a}}", Ok("/%7Ba%7D"));
    for bad in ["/{", "/{}", "/}", "/a}b", "/{a/b}", "/{a{b}}"] {
        check_pattern(bad, Err(PathFault::Template));
    }
    check_pattern("/a%2fb", Err(PathFault::EncodedSlash));
    check_pattern("/straße", Err(PathFault::NonAscii));
    check_pattern("v1", Err(PathFault::NotAbsolute));
}

#[test]
fn a_value_becomes_one_segment() {
    let cases = [
        ("7", Some("7")),
        ("a/b", Some("a%2Fb")),
        ("../admin", Some("..%2Fadmin")),
        ("?x=1", Some("%3Fx%3D1")),
        ("#", Some("%23")),
        ("@evil", Some("%40evil")),
        ("%2e%2e", Some("%252e%252e")),
        ("é b", Some("%C3%A9%20b")),
        (";", Some("%3B")),
        ("...", Some("...")),
        ("", None),
        (".", None),
        ("..", None),
        ("a\0", None),
        ("a\r\n", None),
    ];
    for (value, expected) in cases {
        assert_eq!(encode_segment(value).as_deref(), expected, "{value:?}");
    }
    assert_eq!(decode_segment("a%20b+c"), "a b+c");
}

#[test]
fn a_value_becomes_one_query_value() {
    for (value, expected) in [
        ("", ""),
        ("a b&c=d", "a%20b%26c%3Dd"),
        ("..", ".."),
        ("+\n", "%2B%0A"),
    ] {
        assert_eq!(encode_query(value), expected);
    }
}

#[test]
fn queries_are_checked() {
    for good in ["", "a=b&c", "%zz=%", "a=b?c/d", "x={|}^`\"<>\\"] {
        assert_eq!(check_query(good), Ok(()), "{good}");
    }
    assert_eq!(check_query("a b"), Err(QueryFault::Space));
    assert_eq!(check_query("a\tb"), Err(QueryFault::Control));
    assert_eq!(check_query("a\0"), Err(QueryFault::Control));
    assert_eq!(check_query("a#b"), Err(QueryFault::Fragment));
    assert_eq!(check_query("é"), Err(QueryFault::NonAscii));
}

#[test]
fn query_pairs_are_decoded() {
    let found: Vec<_> = query_pairs("a=1&&b&c=%41+%2B=x&%zz=%C3%A9&=e&d=%FF").collect();
    let found: Vec<_> = found
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .collect();
    let expected = [
        ("a", "1"),
        ("b", ""),
        ("c", "A +=x"),
        ("%zz", "é"),
        ("", "e"),
        ("d", "\u{fffd}"),
    ];
    assert_eq!(found, expected);
    assert_eq!(query_value("x=1&%78=2", "x").as_deref(), Some("1"));
    assert_eq!(query_value("%78=2", "x").as_deref(), Some("2"));
    assert_eq!(query_value("xy=2", "x"), None);
}

fn check_host(text: &str, expected: Result<(&str, Option<u16>), AuthorityFault>) {
    let found =
        parse_authority(text).map(|found| (found.canonical_host().into_owned(), found.port()));
    let expected = expected.map(|(host, port)| (host.to_owned(), port));
    assert_eq!(found, expected, "{text:?}");
}

#[test]
fn hosts_have_one_form() {
    check_host("a.test", Ok(("a.test", None)));
    check_host("A.TEST.", Ok(("a.test", None)));
    check_host("a.test:80", Ok(("a.test", Some(80))));
    check_host("a.test.:65535", Ok(("a.test", Some(65535))));
    check_host("a_b-c.test", Ok(("a_b-c.test", None)));
    check_host("localhost", Ok(("localhost", None)));
    check_host("127.0.0.1:1", Ok(("127.0.0.1", Some(1))));
    check_host("[::1]", Ok(("[::1]", None)));
    check_host("[2001:DB8:0:0::1]:443", Ok(("[2001:db8::1]", Some(443))));
    check_host("1.example", Ok(("1.example", None)));
    check_host("xn--bcher-kva.example", Ok(("xn--bcher-kva.example", None)));
    assert_eq!(
        parse_authority("A.test:81").unwrap().canonical(),
        "a.test:81"
    );
    for borrowed in ["a.test", "a.test.", "[2001:db8::1]", "192.0.2.1"] {
        assert!(
            matches!(canonical_host(borrowed), Ok(Cow::Borrowed(_))),
            "{borrowed}"
        );
    }
    assert_eq!(canonical_host("a.test:80"), Err(AuthorityFault::Character));
}

fn check_hosts_refused(fault: AuthorityFault, texts: &str) {
    for text in texts.split('|') {
        let found = parse_authority(text).map(|found| found.canonical().into_owned());
        assert_eq!(found, Err(fault), "{text:?}");
    }
}

#[test]
fn strange_hosts_are_refused() {
    check_hosts_refused(AuthorityFault::Empty, "|:80");
    check_hosts_refused(AuthorityFault::Userinfo, "a.test@evil.test|u:p@a.test|@");
    check_hosts_refused(AuthorityFault::NonAscii, "bücher.example|a。test");
    check_hosts_refused(
        AuthorityFault::Character,
        "a.test/evil|a.test, evil|a test| a.test|a.test ",
    );
    check_hosts_refused(AuthorityFault::Character, "a%2etest|a\\b|a\0|*.a|[::1]x");
    check_hosts_refused(AuthorityFault::Label, "a..test|.a|a.test..|.|..");
    check_hosts_refused(AuthorityFault::Label, &format!("{}.test", "a".repeat(64)));
    check_hosts_refused(AuthorityFault::Label, &("a.".repeat(127) + "a"));
}

#[test]
fn strange_addresses_and_ports_are_refused() {
    check_hosts_refused(
        AuthorityFault::Ipv4,
        "127.1|0x7f.1|1.2.3.4.5|256.1.1.1|2130706433|01.2.3.4",
    );
    check_hosts_refused(AuthorityFault::Ipv4, "a.0x|1.2.3.08|a.1");
    check_hosts_refused(
        AuthorityFault::Ipv6,
        "[::1|[]|[::1%25eth0]|[v1.a]|[1.2.3.4]|[[::1]]|[::1::]",
    );
    check_hosts_refused(AuthorityFault::Ipv6, "::1|2001:db8::1");
    check_hosts_refused(
        AuthorityFault::Port,
        "a.test:|a.test:0|a.test:80a|a.test:99999|a.test:+80",
    );
    check_hosts_refused(
        AuthorityFault::Port,
        "a.test:080|a.test:80:80|a.test: 80|[::1]:",
    );
}

/// Pieces that mean something to a reader of paths, and some noise.
fn any_path() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        8 => prop::sample::select(vec![
            "/", "//", ".", "..", "%2e", "%2E", "%2f", "%5c", ";", "%3b", "%25", "%", "%41", "%7E", "a", "b1",
            "%c3%a9", "%C3%A9", "%c0%af", "|", "^", "[", "\\", "#", "?", "{", "%00", "%20", "~", "+", ":",
        ]).prop_map(str::to_owned),
        1 => "[ -~]{0,3}",
        1 => "\\PC{0,2}",
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
}

/// The rules once more, slowly: decode, split, resolve with a stack.
fn naive(raw: &str) -> Option<String> {
    let mut text = String::new();
    let bytes = raw.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let escape = bytes.get(at..at + 3).filter(|escape| escape[0] == b'%');
        if let Some(escape) = escape {
            let digits = std::str::from_utf8(&escape[1..]).ok()?;
            if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return None;
            }
            let byte = u8::from_str_radix(digits, 16).ok()?;
            if byte.is_ascii_control() || byte == b'/' || byte == b'\\' {
                return None;
            }
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                text.push(char::from(byte));
            } else {
                text.push_str(&format!("%{byte:02X}"));
            }
            at += 3;
            continue;
        }
        let byte = bytes[at];
        if b"|^[]".contains(&byte) {
            text.push_str(&format!("%{byte:02X}"));
        } else if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte) {
            text.push(char::from(byte));
        } else {
            return None;
        }
        at += 1;
    }
    String::from_utf8(unescaped(&text)).ok()?;
    let mut stack = Vec::new();
    let segments: Vec<&str> = text.split('/').skip(1).collect();
    for segment in &segments {
        match *segment {
            "" | "." => {}
            ".." => drop(stack.pop()?),
            other
                if [".;", "..;", ".%3B", "..%3B"]
                    .iter()
                    .any(|bad| other.starts_with(bad)) =>
            {
                return None;
            }
            other => stack.push(other),
        }
    }
    let open = stack.is_empty() || matches!(segments.last(), Some(&("" | "." | "..")));
    let end = if open && !stack.is_empty() { "/" } else { "" };
    Some(format!("/{}{end}", stack.join("/")))
}

fn unescaped(text: &str) -> Vec<u8> {
    let mut parts = text.split('%');
    let mut out = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at(2);
        out.push(u8::from_str_radix(digits, 16).unwrap());
        out.extend(rest.bytes());
    }
    out
}

proptest! {
    #[test]
    fn canonical_again_changes_nothing(raw in any_path(), merge_slashes: bool) {
        let options = PathOptions { merge_slashes };
        if let Ok(once) = canonical_path(&raw, options) {
            let twice = canonical_path(&once, options);
            prop_assert!(matches!(&twice, Ok(Cow::Borrowed(same)) if *same == once), "{once} {twice:?}");
            prop_assert!(once.starts_with('/') && !once.starts_with("//"));
            let odd = |byte: u8| !byte.is_ascii_graphic() || b"\\#?<>\"`{}|^[]".contains(&byte);
            prop_assert!(!once.bytes().any(odd));
            prop_assert!(once.split('/').all(|segment| segment != "." && segment != ".."));
            prop_assert!(!merge_slashes || !once.contains("//"));
        }
    }

    #[test]
    fn the_naive_reader_agrees(raw in any_path()) {
        let found = canonical_path(&raw, PathOptions::default()).ok().map(Cow::into_owned);
        prop_assert_eq!(found, naive(&raw));
    }

    #[test]
    fn patterns_are_stable(raw in any_path()) {
        if let Ok(once) = canonical_pattern(&raw) {
            let twice = canonical_pattern(&once);
            prop_assert_eq!(twice.as_deref(), Ok(&*once));
        }
    }

    #[test]
    fn nothing_panics(raw in "\\PC*|[\\x00-\\x7f]*") {
        let rooted = format!("/{raw}");
        let path = canonical_path(&rooted, KEEP_SLASHES);
        prop_assert!(path.is_err() || canonical_pattern(&rooted).is_ok());
        prop_assert!(query_pairs(&raw).count() <= raw.len());
        prop_assert!(decode_segment(&raw).len() <= raw.len() * 3);
        prop_assert!(check_query(&raw).is_ok() || canonical_path(&rooted, KEEP_SLASHES).is_err());
        if let Ok(authority) = parse_authority(&raw) {
            let once = authority.canonical().into_owned();
            prop_assert_eq!(parse_authority(&once).map(|again| again.canonical().into_owned()), Ok(once));
        }
    }

    #[test]
    fn encoded_values_come_back(value in "\\PC{0,8}|[ -~]{0,8}") {
        let query = format!("v={}", encode_query(&value));
        let found = query_value(&query, "v");
        prop_assert_eq!(found.as_deref(), Some(&*value));
        if let Some(segment) = encode_segment(&value) {
            prop_assert_eq!(decode_segment(&segment), &*value);
            let path = format!("/{segment}");
            if !value.contains(['/', '\\']) && !value.starts_with(".;") && !value.starts_with("..;") {
                let found = canonical_path(&path, PathOptions::default());
                prop_assert_eq!(found.as_deref(), Ok(&*path));
            }
        }
    }

    #[test]
    fn hosts_are_stable(host in "[a-zA-Z0-9._-]{1,20}(:[0-9]{1,5})?|\\[[0-9a-fA-F:.]{2,20}\\]") {
        if let Ok(found) = parse_authority(&host) {
            let once = found.canonical().into_owned();
            prop_assert_eq!(parse_authority(&once).map(|again| again.canonical().into_owned()), Ok(once));
        }
    }
}
