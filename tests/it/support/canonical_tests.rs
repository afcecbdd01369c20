//! The canonical form, rule by rule.

use super::canonical::check_form;
use super::*;

pub(super) const GOOD: &str = "Host: a.test\r\nX-Request-Id: 1\r\n";

fn check(line: &str, fields: &str, expected: Result<(), &str>) {
    let head = format!("{line}\r\n{GOOD}{fields}\r\n");
    let seen = check_request(head.as_bytes());
    assert_eq!(
        seen.map(drop).map_err(|violation| violation.rule),
        expected,
        "{head:?}"
    );
}

pub(super) fn good(method: &str, target: &str, fields: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\n{GOOD}{fields}\r\n")
}

#[test]
fn good_targets_pass() {
    for target in [
        "/",
        "/a",
        "/a/b/",
        "/a?b=/c?d",
        "/a;v=1/b",
        "/%C3%A9",
        "/a%20b",
        "/...",
        "/.well-known/a",
        "/a:@!$&'()*+,=~",
        "/a?",
        "/a?x=%2f%00",
    ] {
        check(&format!("GET {target} HTTP/1.1"), "", Ok(()));
    }
    check("OPTIONS * HTTP/1.1", "", Ok(()));
    check("M-SEARCH / HTTP/1.1", "", Ok(()));
}

#[test]
fn other_targets_do_not() {
    let rows = [
        ("a", "a target is in origin form"),
        ("http://a.test/", "a target is in origin form"),
        ("*", "only OPTIONS has the target *"),
        ("//a", "no empty segment in a path"),
        ("/a//b", "no empty segment in a path"),
        ("/a//", "no empty segment in a path"),
        ("/.", "no dot segment in a path"),
        ("/a/../b", "no dot segment in a path"),
        ("/a/..;x/b", "no dot segment in a path"),
        ("/a%2Fb", "no escaped slash, backslash or control in a path"),
        ("/a%5Cb", "no escaped slash, backslash or control in a path"),
        ("/a%00", "no escaped slash, backslash or control in a path"),
        ("/a%1F", "no escaped slash, backslash or control in a path"),
        ("/a%7F", "no escaped slash, backslash or control in a path"),
        ("/%2E%2E/a", "no escaped unreserved byte in a path"),
        ("/%61", "no escaped unreserved byte in a path"),
        ("/%c3%A9", "escapes in a path are upper-case"),
        ("/%4", "an escape is % and two hex digits"),
        ("/%+1", "an escape is % and two hex digits"),
        ("/a?%zz", "an escape is % and two hex digits"),
        ("/a\\b", "only pchar in a target"),
        ("/a#b", "only pchar in a target"),
        ("/a?{}", "only pchar in a target"),
        ("/\u{e9}", "a target is visible ASCII"),
    ];
    for (target, rule) in rows {
        check(&format!("GET {target} HTTP/1.1"), "", Err(rule));
    }
}

#[test]
fn one_request_line_passes() {
    let form = "request line is METHOD SP target SP HTTP/1.1";
    for line in [
        "GET  / HTTP/1.1",
        "GET / HTTP/1.0",
        "GET / HTTP/2",
        "GET /",
        "GET / HTTP/1.1 ",
        "GET / / HTTP/1.1",
        "GET\t/ HTTP/1.1",
    ] {
        check(line, "", Err(form));
    }
    check("get / HTTP/1.1", "", Err("a method is upper-case letters"));
    check(" / HTTP/1.1", "", Err("a method is upper-case letters"));
}

#[test]
fn good_fields_pass() {
    for fields in [
        "Content-Length: 0\r\n",
        "Transfer-Encoding: chunked\r\n",
        "x-a: \r\nx-b:\r\n",
        "x-a: 1\r\nX-A: 2\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket\r\n",
        "X-Forwarded-For: 1.2.3.4\r\nVia: 1.1 a, 1.1 b\r\n",
        "x-a: \u{e9}\r\n",
    ] {
        check("GET / HTTP/1.1", fields, Ok(()));
    }
}

const HOP: &str = "no hop-by-hop header";
const ONCE: &str = "this header comes at most once";
const SPACE: &str = "one space before a value, none after it";
const TOKEN: &str = "a header name is a token without `_`";
const CODING: &str = "Transfer-Encoding is exactly `chunked`";

const FIELDS_REFUSED: &[(&str, &str)] = &[
    ("x_a: 1\r\n", TOKEN),
    ("x a: 1\r\n", TOKEN),
    ("x-a : 1\r\n", TOKEN),
    (": 1\r\n", TOKEN),
    ("x-a\r\n", "a header has a colon"),
    (" x-a: 1\r\n", "no folded header"),
    ("x-a: 1\r\n\tb\r\n", "no folded header"),
    ("x-a:1\r\n", SPACE),
    ("x-a:  1\r\n", SPACE),
    ("x-a: 1 \r\n", SPACE),
    ("x-a: a\tb\r\n", "no control byte in a header"),
    ("x-a: a\0b\r\n", "no control byte in a header"),
    ("x-a: a\rb\r\n", "no CR without LF"),
    ("x-a: a\nb: c\r\n", "lines end with CRLF, not LF"),
    ("Host: b.test\r\n", "exactly one Host"),
    ("X-Request-Id: 2\r\n", "exactly one X-Request-Id"),
    (
        "Content-Length: 1\r\nContent-Length: 1\r\n",
        "at most one Content-Length",
    ),
    (
        "Content-Length: 1, 1\r\n",
        "Content-Length is a plain number",
    ),
    ("Content-Length: 01\r\n", "Content-Length is a plain number"),
    ("Content-Length: +1\r\n", "Content-Length is a plain number"),
    ("Content-Length: \r\n", "Content-Length is a plain number"),
    (
        "Content-Length: 18446744073709551616\r\n",
        "Content-Length is a plain number",
    ),
    (
        "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
        "never Content-Length with Transfer-Encoding",
    ),
    ("Transfer-Encoding: gzip, chunked\r\n", CODING),
    ("Transfer-Encoding: Chunked\r\n", CODING),
    (
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        CODING,
    ),
    ("Connection: close\r\n", HOP),
    ("Connection: keep-alive\r\n", HOP),
    ("Connection: upgrade\r\n", HOP),
    ("Upgrade: websocket\r\n", HOP),
    ("Connection: upgrade\r\nUpgrade: h2c\r\n", HOP),
    ("Keep-Alive: timeout=5\r\n", HOP),
    ("Proxy-Connection: close\r\n", HOP),
    ("Proxy-Authorization: Basic eDp5\r\n", HOP),
    ("TE: trailers\r\n", HOP),
    ("Trailer: x-a\r\n", HOP),
    ("HTTP2-Settings: AAA\r\n", HOP),
    ("Expect: 100-continue\r\n", HOP),
    (
        "X-Forwarded-For: 1.1.1.1\r\nx-forwarded-for: 1.1.1.1\r\n",
        ONCE,
    ),
    (
        "X-Forwarded-Proto: http\r\nX-Forwarded-Proto: http\r\n",
        ONCE,
    ),
    ("X-Forwarded-Host: a\r\nX-Forwarded-Host: a\r\n", ONCE),
    ("Authorization: a\r\nAuthorization: a\r\n", ONCE),
    ("Cookie: a\r\nCookie: b\r\n", ONCE),
    ("Content-Type: a/b\r\nContent-Type: a/b\r\n", ONCE),
    ("Via: 1.1 a\r\nVia: 1.1 b\r\n", ONCE),
];

#[test]
fn other_fields_do_not() {
    for (fields, rule) in FIELDS_REFUSED {
        check("GET / HTTP/1.1", fields, Err(rule));
    }
}

#[test]
fn only_valid_hosts_pass() {
    let rule = "Host is a valid authority";
    let rows = [
        ("a.test", Ok(())),
        ("a.test:8080", Ok(())),
        ("127.0.0.1:1", Ok(())),
        ("[::1]:8080", Ok(())),
        ("[::1]", Ok(())),
        ("", Err(rule)),
        ("a.test:", Err(rule)),
        ("a.test:0", Err(rule)),
        ("a.test:65536", Err(rule)),
        ("a.test:80a", Err(rule)),
        ("a.test/evil", Err(rule)),
        ("a.test, evil", Err(rule)),
        ("u@a.test", Err(rule)),
        ("[::1", Err(rule)),
        ("::1", Err(rule)),
        ("%61", Err(rule)),
    ];
    for (host, expected) in rows {
        let head = format!("GET / HTTP/1.1\r\nHost: {host}\r\nX-Request-Id: 1\r\n\r\n");
        let seen = check_request(head.as_bytes()).map(drop);
        assert_eq!(seen.map_err(|violation| violation.rule), expected, "{host}");
    }
}

#[test]
fn a_head_is_whole_single_and_not_too_long() {
    let good = good("GET", "/", "");
    for head in [
        "",
        "GET / HTTP/1.1\r\n",
        &format!("{good}x"),
        &format!("\r\n{good}"),
        &good.replace("\r\n", "\n"),
    ] {
        assert!(check_request(head.as_bytes()).is_err(), "{head:?}");
    }
    let fields = |length| format!("x-a: {}\r\n", "a".repeat(length));
    check("GET / HTTP/1.1", &fields(32_000), Ok(()));
    check(
        "GET / HTTP/1.1",
        &fields(32_768),
        Err("a head has at most 32 KiB"),
    );
    let probe = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    assert!(check_form(probe).is_ok() && check_request(probe).is_err());
}

/// Feeds the body whole and byte by byte: data, bytes taken, whether it ended; or the rule.
fn body(framing: Framing, bytes: &str) -> Result<(String, usize, bool), &'static str> {
    let feed = |piece: usize| {
        let (mut check, mut data, mut taken) = (BodyCheck::new(framing), Vec::new(), 0);
        for part in bytes.as_bytes().chunks(piece) {
            taken += check
                .feed(part, |bytes| data.extend_from_slice(bytes))
                .map_err(|violation| violation.rule)?;
        }
        Ok((String::from_utf8(data).unwrap(), taken, check.is_done()))
    };
    let whole = feed(bytes.len().max(1));
    assert_eq!(whole, feed(1), "{bytes:?}");
    whole
}

#[test]
fn one_form_of_chunks_passes() {
    let chunked = |bytes| body(Framing::Chunked, bytes);
    assert_eq!(
        chunked("5\r\nhello\r\nA\r\n0123456789\r\n0\r\n\r\n"),
        Ok(("hello0123456789".to_owned(), 30, true))
    );
    assert_eq!(chunked("0\r\n\r\nGET"), Ok((String::new(), 5, true)));
    assert_eq!(chunked("5\r\nhel"), Ok(("hel".to_owned(), 6, false)));
    let size = Err("a chunk size is plain hex and CRLF");
    for bytes in [
        "5;a=b\r\n",
        "05\r\n",
        "00\r\n",
        "\r\n",
        "5\n",
        "5 \r\n",
        "+5\r\n",
        "0x5\r\n",
        "g\r\n",
        "11111111111111111\r\n",
    ] {
        assert_eq!(chunked(bytes), size, "{bytes:?}");
    }
    assert_eq!(chunked("1\r\nab\r\n"), Err("a chunk ends with CRLF"));
    assert_eq!(chunked("0\r\nx-a: b\r\n\r\n"), Err("no trailers"));
}

#[test]
fn a_length_ends_the_body() {
    assert_eq!(
        body(Framing::Length(3), "abcd"),
        Ok(("abc".to_owned(), 3, true))
    );
    assert_eq!(
        body(Framing::Length(3), "ab"),
        Ok(("ab".to_owned(), 2, false))
    );
    assert_eq!(body(Framing::Length(0), "a"), Ok((String::new(), 0, true)));
    assert_eq!(body(Framing::Empty, "a"), Ok((String::new(), 0, true)));
}
