//! The rules of heads, faults and ways back.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;

use super::{
    Fault, Framing, HeadLimits, PathBack, Piece, check_head, end_of_head, leading_empty_lines,
    unbind_values,
};

fn check(head: &str) -> Result<(String, Framing), Fault> {
    let (bytes, framing) = check_head(head.as_bytes(), &HeadLimits::default())?;
    Ok((String::from_utf8(bytes.to_vec()).unwrap(), framing))
}

fn refused(head: &str, fault: Fault) {
    assert_eq!(check(head).map(|(head, _)| head), Err(fault), "{head:?}");
}

#[test]
fn a_canonical_head_stays_byte_for_byte() {
    let head = "GET /a/b?x=1 HTTP/1.1\r\nHost: a.test\r\nX-Some: Thing\r\n\r\n";
    assert_eq!(check(head).unwrap(), (head.to_owned(), Framing::default()));
}

#[test]
fn path_host_and_target_form_are_made_canonical() {
    let cases = [
        (
            "GET /a/./b HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "GET /a/b HTTP/1.1\r\nHost: a.test\r\n\r\n",
        ),
        (
            "GET /%7eada//x HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "GET /~ada/x HTTP/1.1\r\nHost: a.test\r\n\r\n",
        ),
        (
            "GET http://a.test/x?y HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "GET /x?y HTTP/1.1\r\nHost: a.test\r\n\r\n",
        ),
        (
            "GET http://a.test HTTP/1.1\r\nHost: a.test\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        ),
        (
            "GET / HTTP/1.1\r\nX: 1\r\nHOST: A.Test.:80\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a.test:80\r\nX: 1\r\n\r\n",
        ),
    ];
    for (head, canonical) in cases {
        assert_eq!(check(head).unwrap().0, canonical, "{head:?}");
    }
}

#[test]
fn what_connection_names_goes_no_further() {
    let head = |lines: &str| format!("GET / HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n");
    for (lines, left) in [
        ("X-A: 1\r\nConnection: X-a\r\nX-B: 2\r\n", "X-B: 2\r\n"),
        (
            "Connection: Upgrade, x-a\r\nx-A: 1\r\nX-A: 2\r\nUpgrade: h2c\r\nconnection: x-b,close\r\nX-B: 3\r\n",
            "Connection: Upgrade\r\nUpgrade: h2c\r\nConnection: close\r\n",
        ),
        (
            "connection: Keep-Alive, close\r\n",
            "connection: Keep-Alive, close\r\n",
        ),
        // Naming itself would take off what it says of the connection.
        (
            "Connection: close, connection\r\n",
            "Connection: close, connection\r\n",
        ),
    ] {
        assert_eq!(check(&head(lines)).unwrap().0, head(left), "{lines:?}");
    }
    let rewritten = "GET / HTTP/1.1\r\nX-A: 1\r\nHost: A.test\r\nConnection: x-a\r\n\r\n";
    assert_eq!(
        check(rewritten).unwrap().0,
        "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"
    );
    refused(
        &head("Connection: a, b, c, d, e, f, g, h, i, j\r\n"),
        Fault::BadRequest,
    );
}

#[test]
fn what_two_readers_could_read_differently_is_refused() {
    let head = |lines: &str| format!("POST / HTTP/1.1\r\nHost: a.test\r\n{lines}\r\n");
    let cases = [
        (
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            Fault::BadRequest,
        ),
        (
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            Fault::BadRequest,
        ),
        ("Content-Length: 5, 5\r\n", Fault::BadRequest),
        ("Content-Length: +5\r\n", Fault::BadRequest),
        ("Content-Length: \r\n", Fault::BadRequest),
        (
            "Content-Length: 18446744073709551616\r\n",
            Fault::BodyTooLarge,
        ),
        ("Transfer-Encoding: gzip, chunked\r\n", Fault::BadRequest),
        ("Transfer-Encoding: identity\r\n", Fault::BadRequest),
        (
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            Fault::BadRequest,
        ),
        ("Transfer-Encoding : chunked\r\n", Fault::BadRequest),
        ("Transfer_Encoding: chunked\r\n", Fault::BadRequest),
        ("X: a\r\n b\r\n", Fault::BadRequest),
        ("X: a\nY: b\r\n", Fault::BadRequest),
        ("X: a\rY: b\r\n", Fault::BadRequest),
        ("X: \0\r\n", Fault::BadRequest),
        (": x\r\n", Fault::BadRequest),
        ("no colon\r\n", Fault::BadRequest),
        (
            "Authorization: a\r\nAuthorization: b\r\n",
            Fault::BadRequest,
        ),
        ("Content-Type: a\r\ncontent-type: b\r\n", Fault::BadRequest),
        ("Connection: close, Authorization\r\n", Fault::BadRequest),
        ("Connection: x-forwarded-for\r\n", Fault::BadRequest),
        ("Expect: 200-ok\r\n", Fault::ExpectationFailed),
        ("Host: b.test\r\n", Fault::BadHost),
    ];
    for (lines, fault) in cases {
        refused(&head(lines), fault);
    }
}

#[test]
fn request_lines_are_read_strictly() {
    let host = "\r\nHost: a.test\r\n\r\n";
    let cases = [
        ("GET  / HTTP/1.1", Fault::BadRequest),
        ("GET / HTTP/1.1 ", Fault::BadRequest),
        ("GET /", Fault::BadRequest),
        ("G(T / HTTP/1.1", Fault::BadRequest),
        ("GET / HTTP/2.0", Fault::VersionNotSupported),
        ("GET / http/1.1", Fault::BadRequest),
        ("GET p HTTP/1.1", Fault::BadPath),
        ("GET * HTTP/1.1", Fault::BadPath),
        ("GET @evil.test/p HTTP/1.1", Fault::BadPath),
        ("GET /../x HTTP/1.1", Fault::BadPath),
        ("GET /a%2fb HTTP/1.1", Fault::BadPath),
        ("GET /a%00 HTTP/1.1", Fault::BadPath),
        ("GET /a\\b HTTP/1.1", Fault::BadPath),
        ("GET /a#b HTTP/1.1", Fault::BadPath),
        ("GET https://a.test/ HTTP/1.1", Fault::BadPath),
        ("GET ftp://a.test/ HTTP/1.1", Fault::BadPath),
        ("GET http://b.test/ HTTP/1.1", Fault::BadHost),
        ("GET http://u@a.test/ HTTP/1.1", Fault::BadHost),
        ("TRACE / HTTP/1.1", Fault::MethodNotAllowed),
        ("CONNECT a.test:443 HTTP/1.1", Fault::MethodNotAllowed),
    ];
    for (line, fault) in cases {
        refused(&format!("{line}{host}"), fault);
    }
    assert!(check(&format!("OPTIONS * HTTP/1.1{host}")).is_ok());
}

#[test]
fn hosts_are_read_strictly() {
    for host in [
        "",
        "a.test/evil",
        "a.test, evil",
        "a.test:99999",
        "a.test:80a",
        "[::1",
        "u@a.test",
    ] {
        refused(
            &format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"),
            Fault::BadHost,
        );
    }
    refused("GET / HTTP/1.1\r\nX: y\r\n\r\n", Fault::BadHost);
}

#[test]
fn heads_have_limits() {
    refused(
        &format!("GET /{} HTTP/1.1\r\nHost: a.test\r\n\r\n", "a".repeat(9000)),
        Fault::UriTooLong,
    );
    refused(
        &format!(
            "GET / HTTP/1.1\r\nHost: a.test\r\n{}\r\n",
            "X: y\r\n".repeat(100)
        ),
        Fault::HeadersTooLarge,
    );
    refused(
        &format!(
            "GET / HTTP/1.1\r\nHost: a.test\r\nX: {}\r\n\r\n",
            "a".repeat(17_000)
        ),
        Fault::HeadersTooLarge,
    );
    assert!(
        check(&format!(
            "GET / HTTP/1.1\r\nHost: a.test\r\n{}\r\n",
            "X: y\r\n".repeat(99)
        ))
        .is_ok()
    );
}

#[test]
fn the_end_of_a_head_is_found_wherever_it_was_cut() {
    let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\nbody";
    for searched in 0..=head.len() - 4 {
        assert_eq!(
            end_of_head(head, searched.min(25)),
            Some(head.len() - 4),
            "{searched}"
        );
    }
    assert_eq!(end_of_head(b"GET / HTTP/1.1\r\nHost: a\r\n", 0), None);
    assert_eq!(end_of_head(b"GET / HTTP/1.1\nHost: a\n\nrest", 0), Some(24));
    assert_eq!(leading_empty_lines(b"\r\n\r\nGET"), 4);
}

#[test]
fn every_fault_has_a_row_and_a_name_of_its_own() {
    let codes: std::collections::BTreeSet<&str> = Fault::all().map(Fault::code).collect();
    assert_eq!(codes.len(), Fault::all().count());
    for fault in Fault::all() {
        assert_eq!(Fault::named(fault.code()), Some(fault));
        assert!(fault.meaning().status.as_u16() >= 400, "{fault:?}");
    }
}

#[test]
fn a_rewritten_path_finds_its_way_back() {
    let text = |text: &str| Piece::Text(text.to_owned());
    let strip = PathBack::new(vec![Piece::Rest(0)], vec![text("/v1"), Piece::Rest(0)]).unwrap();
    assert_eq!(strip.undo("/orders/7").as_deref(), Some("/v1/orders/7"));
    let template = PathBack::new(
        vec![text("/internal/"), Piece::Segment(0), text("/x")],
        vec![text("/v1/orders/"), Piece::Segment(0)],
    )
    .unwrap();
    assert_eq!(
        template.undo("/internal/7/x").as_deref(),
        Some("/v1/orders/7")
    );
    assert_eq!(template.undo("/internal/7/y"), None);
    assert_eq!(template.undo("/internal//x"), None);
    assert!(PathBack::new(vec![text("/fixed")], vec![Piece::Segment(0)]).is_none());
}

proptest! {
    #[test]
    fn no_head_makes_it_panic(head in prop::collection::vec(any::<u8>(), 0..300)) {
        drop(check_head(&head, &HeadLimits::default()));
    }

    #[test]
    fn what_was_accepted_is_accepted_again_unchanged(
        path in "/[a-zA-Z0-9%./~_-]{0,40}",
        host in "[a-zA-Z0-9.-]{1,20}(:[0-9]{1,5})?",
        name in "[A-Za-z0-9_-]{1,12}",
        value in "[ -~]{0,20}",
    ) {
        let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{name}: {value}\r\n\r\n");
        if let Ok((once, framing)) = check(&head) {
            let again = check(&once);
            prop_assert_eq!(again, Ok((once, framing)));
        }
    }
}

#[test]
fn what_a_client_is_sent_keeps_no_buffer_of_the_upstream() {
    let buffer = Bytes::from(vec![b'v'; 4096]);
    let mut lines = HeaderMap::new();
    let mut secret = HeaderValue::from_maybe_shared(buffer.slice(..3)).unwrap();
    secret.set_sensitive(true);
    lines.append("a", secret);
    lines.append(
        "a",
        HeaderValue::from_maybe_shared(buffer.slice(..4)).unwrap(),
    );
    assert!(!buffer.is_unique());
    unbind_values(&mut lines);
    assert!(buffer.is_unique());
    let values: Vec<_> = lines.get_all("a").iter().collect();
    assert_eq!(values, ["vvv", "vvvv"]);
    assert!(values[0].is_sensitive() && !values[1].is_sensitive());
}
