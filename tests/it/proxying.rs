//! What passes between client and upstream, and what the client gets where nothing can pass.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test stops at the first thing that is not as expected"
)]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::support::{
    Client, Early, Ended, Gate, Gateway, Origin, Pattern, Recorded, Reply, Response, Script,
    check_request, free_port, get,
};

/// The catch-all in front of these targets, each a flow map.
fn before_targets(targets: &str) -> Gateway {
    Gateway::spawn(&format!(
        "version: 1\nlisteners:\n  public: {{ address: \"127.0.0.1:0\" }}\n  behind: {{ address: \"127.0.0.1:0\", trusted_proxies: [127.0.0.0/8, 10.0.0.0/8] }}\n\
         upstreams: {{ o: {{ load_balancing: round_robin, targets: [{targets}] }} }}\n\
         routes: [{{ name: all, match: {{ path_prefix: / }}, upstream: o }}]\n"
    ))
}

/// The same, where bodies may be as long as they like.
fn before_unlimited(origin: &Origin) -> Gateway {
    Gateway::spawn(&format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\" }} }}\n\
         upstreams: {{ o: {{ targets: [{{ url: \"{}\" }}] }} }}\n\
         routes: [{{ name: all, match: {{ path_prefix: / }}, body_limits: none, upstream: o }}]\n",
        origin.url()
    ))
}

fn before(origin: &Origin) -> Gateway {
    before_targets(&format!("{{ url: \"{}\" }}", origin.url()))
}

/// A connection to the listener that believes its peer.
fn behind(gateway: &Gateway) -> Client {
    Client::connect(gateway.addr_of("behind"))
}

#[test]
fn targets_get_their_share_by_weight_exactly() {
    let origins = [Origin::echo(), Origin::echo(), Origin::echo()];
    let target =
        |(origin, weight): (&Origin, &str)| format!("{{ url: \"{}\"{weight} }}", origin.url());
    let targets: Vec<String> = origins
        .iter()
        .zip(["", ", weight: 2", ", weight: 3"])
        .map(target)
        .collect();
    let gateway = before_targets(&targets.join(", "));
    let mut client = gateway.client();
    for _ in 0..60 {
        client.get("/").expect(200);
    }
    assert_eq!(origins.each_ref().map(Origin::count), [10, 20, 30]);
}

#[test]
fn connections_are_kept_on_both_sides() {
    let origin = Origin::echo();
    let gateway = before(&origin);
    let mut client = gateway.client();
    for _ in 0..10 {
        assert_eq!(
            client.get("/").expect(200).header("connection"),
            Some("keep-alive")
        );
        client.request("POST", "/", &[], b"body").expect(200);
    }
    let seen = origin.connections();
    assert_eq!((seen.len(), seen[0].requests), (1, 20));
    // A connection may still be on its way back to the pool when the next client comes, but not every time.
    for _ in 0..20 {
        get(gateway.addr(), "/", "other.test").expect(200);
    }
    assert!(origin.connections().len() <= 3);
}

#[test]
fn a_connection_closes_when_the_client_or_its_version_wants_it() {
    let origin = Origin::answer(|_| Reply::chunked(200, &[], &[b"hello, ", b"world"]));
    let gateway = before(&origin);
    for connection in ["close", "Close", "x-a, close"] {
        let mut client = gateway.client();
        let answer = client.request("GET", "/", &[("Connection", connection)], b"");
        assert_eq!(
            answer.expect(200).header("connection"),
            Some("close"),
            "{connection}"
        );
        assert!(client.closed_by_gateway());
    }
    let mut old = gateway.client();
    old.send_raw(b"GET / HTTP/1.0\r\nHost: a.test\r\n\r\n");
    let whole = String::from_utf8(old.read_to_end().unwrap()).unwrap();
    assert!(whole.ends_with("\r\n\r\nhello, world"), "{whole}");
    assert!(
        !whole.to_lowercase().contains("transfer-encoding"),
        "{whole}"
    );
    let mut counted = gateway.client();
    counted.send_raw(b"GET / HTTP/1.0\r\nHost: a.test\r\nConnection: keep-alive\r\n\r\n");
    assert!(counted.read_to_end().unwrap().ends_with(b"hello, world"));
}

#[test]
fn an_upstream_connection_that_is_to_close_is_not_used_again() {
    let origin =
        Origin::answer(|_| Reply::fixed(200, &[("Connection", "close")], "x").then_close());
    let gateway = before(&origin);
    let mut client = gateway.client();
    for _ in 0..3 {
        let answer = client.get("/").expect(200);
        assert_eq!(answer.header("connection"), Some("keep-alive"));
    }
    assert_eq!(origin.connections().len(), 3);
}

#[test]
fn a_download_arrives_piece_by_piece() {
    let pieces: [&[u8]; 2] = [b"data: one\n\n", b"data: two\n\n"];
    let events = [("Content-Type", "text/event-stream")];
    for kind in ["events", "chunks", "counted"] {
        let gate = Gate::new();
        let reply = match kind {
            "events" => Reply::gated(200, &events, &pieces, &gate),
            "chunks" => Reply::gated(200, &[], &pieces, &gate),
            _ => Reply::gated_length(200, &[], &pieces, &gate),
        };
        let origin = Origin::answer(move |_| reply.clone());
        let gateway = before(&origin);
        let mut client = gateway.client();
        client.send_request("GET", "/", &[], b"");
        assert_eq!(client.response_head("GET").status, 200);
        for piece in pieces {
            gate.wait_until_waiting(1);
            gate.release();
            assert_eq!(client.read_exactly(piece.len()), piece);
        }
        // The last chunk of a chunked body waits too.
        gate.open();
        assert_eq!(client.read_some(), None);
        assert_eq!(client.get("/").expect(200).body, pieces.concat());
    }
}

#[test]
fn an_upload_arrives_piece_by_piece() {
    let origin = Origin::echo();
    let gateway = before(&origin);
    let mut client = gateway.client();
    client
        .send_raw(b"POST /chunked HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (piece, arrived) in [("one", 3), ("two!", 7), ("three", 12)] {
        client.send_chunk(piece.as_bytes());
        assert_eq!(origin.wait_for_body(arrived).body_len, arrived);
    }
    client.send_chunk(b"");
    assert_eq!(
        client.response("POST").expect(200).json()["body"],
        "onetwo!three"
    );
    client.send_raw(b"POST /counted HTTP/1.1\r\nHost: a.test\r\nContent-Length: 6\r\n\r\nabc");
    origin.wait_for_heads(2);
    assert_eq!(origin.wait_for_body(3).path, "/counted");
    client.send_raw(b"def");
    assert_eq!(client.response("POST").expect(200).json()["body"], "abcdef");
}

#[test]
fn an_answer_comes_down_while_the_upload_goes_up() {
    let gate = Gate::new();
    let reply = Reply::gated(200, &[], &[b"first", b"second"], &gate);
    let origin = Origin::start(Script::echo().early(move |_| Early::Answer(reply.clone())));
    let gateway = before(&origin);
    let mut client = gateway.client();
    client.send_raw(b"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n");
    client.send_chunk(b"up1");
    assert_eq!(client.response_head("POST").status, 200);
    gate.release();
    assert_eq!(client.read_exactly(5), b"first");
    client.send_chunk(b"up22");
    assert_eq!(origin.wait_for_body(7).body_len, 7);
    gate.release();
    assert_eq!(client.read_exactly(6), b"second");
    client.send_chunk(b"");
    gate.release();
    assert_eq!(client.read_some(), None);
    assert!(origin.wait_for(1)[0].complete);
}

/// More than two sockets and a gateway may hold for somebody who does not read.
const FLOOD: u64 = 96 * 1024 * 1024;
/// What they may hold.
const HELD_MAX: u64 = 32 * 1024 * 1024;

/// Writes the pattern until nothing more is taken for a while; says how much was.
fn flood(mut to: impl Write) -> u64 {
    let pattern = Pattern::new();
    let mut sent = 0;
    while sent < FLOOD {
        match to.write(pattern.slice(sent, FLOOD - sent)) {
            Ok(taken) => sent += taken as u64,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                break;
            }
            Err(error) => panic!("{error}"),
        }
    }
    sent
}

#[test]
fn an_upload_waits_for_an_upstream_that_does_not_read() {
    let gate = Gate::new();
    let origin = Origin::start(Script::echo().hold_bodies(&gate));
    let gateway = before_unlimited(&origin);
    let rss = gateway.rss_kib();
    let mut client = gateway.client();
    client.send_raw(
        format!("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {FLOOD}\r\n\r\n").as_bytes(),
    );
    gate.wait_until_waiting(1);
    client
        .stream()
        .set_write_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let sent = flood(client.stream());
    assert!(sent < HELD_MAX, "{sent} bytes were taken");
    assert!(gateway.rss_kib() < rss + 16 * 1024);
    gate.open();
    client
        .stream()
        .set_write_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let pattern = Pattern::new();
    let mut at = sent;
    while at < FLOOD {
        let piece = pattern.slice(at, FLOOD - at);
        client.send_raw(piece);
        at += piece.len() as u64;
    }
    client.response("POST").expect(200);
    let seen = origin.last();
    assert_eq!((seen.body_len, seen.body_is_pattern), (FLOOD, true));
}

#[test]
fn a_download_waits_for_a_client_that_does_not_read() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway = before_targets(&format!(
        "{{ url: \"http://{}\" }}",
        listener.local_addr().unwrap()
    ));
    let rss = gateway.rss_kib();
    let mut client = gateway.client();
    client.send_request("GET", "/", &[("Host", "a.test")], b"");
    let (mut upstream, _) = listener.accept().unwrap();
    let mut head = vec![0; 4096];
    let length = upstream.read(&mut head).unwrap();
    check_request(&head[..length]).unwrap();
    upstream
        .set_write_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    write!(
        upstream,
        "HTTP/1.1 200 OK\r\nContent-Length: {FLOOD}\r\n\r\n"
    )
    .unwrap();
    let sent = flood(&upstream);
    assert!(sent < HELD_MAX, "{sent} bytes were taken");
    assert!(gateway.rss_kib() < rss + 16 * 1024);
    upstream.set_write_timeout(None).unwrap();
    let writer = std::thread::spawn(move || {
        let pattern = Pattern::new();
        let mut at = sent;
        while at < FLOOD {
            at += upstream.write(pattern.slice(at, FLOOD - at)).unwrap() as u64;
        }
    });
    assert_eq!(client.response_head("GET").status, 200);
    assert_eq!(client.drain(), (FLOOD, true));
    writer.join().unwrap();
}

fn is_uuid_v7(id: &str) -> bool {
    let dashes = [8, 13, 18, 23];
    let hex = |(at, byte): (usize, u8)| match at {
        _ if dashes.contains(&at) => byte == b'-',
        14 => byte == b'7',
        19 => b"89ab".contains(&byte),
        _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
    };
    id.len() == 36 && id.bytes().enumerate().all(hex)
}

#[test]
fn every_request_has_an_id_of_ours() {
    let origin = Origin::answer(|_| Reply::fixed(200, &[("X-Request-Id", "theirs")], ""));
    let gateway = before(&origin);
    let mut client = gateway.client();
    let mut ids = Vec::new();
    for _ in 0..3 {
        let answer = client.request("GET", "/", &[("X-Request-ID", "forged-id")], b"");
        let [id] = answer.headers_all("x-request-id")[..] else {
            panic!("{:?}", answer.headers)
        };
        assert!(is_uuid_v7(id), "{id}");
        assert_eq!(origin.last().headers_all("x-request-id"), [id]);
        ids.push(id.to_owned());
    }
    assert!(ids.is_sorted_by(|one, next| one < next), "{ids:?}");
}

#[test]
fn a_trusted_proxy_may_name_a_request() {
    let origin = Origin::echo();
    let gateway = before(&origin);
    let mut client = behind(&gateway);
    let answer = client.request("GET", "/", &[("X-Request-Id", "edge_7.a-b")], b"");
    assert_eq!(answer.headers_all("x-request-id"), ["edge_7.a-b"]);
    assert_eq!(origin.last().headers_all("x-request-id"), ["edge_7.a-b"]);
    for bad in ["a b", "a\"b", "", &"x".repeat(129)] {
        let answer = client.request("GET", "/", &[("X-Request-Id", bad)], b"");
        let id = answer.header("x-request-id").unwrap();
        assert!(is_uuid_v7(id), "{bad}: {id}");
        assert_eq!(origin.last().header("x-request-id"), Some(id));
    }
}

#[test]
fn what_a_client_says_of_itself_is_replaced() {
    let origin = Origin::echo();
    let gateway = before(&origin);
    let sent = [
        ("Host", "Api.test:81"),
        ("X-Forwarded-For", "1.2.3.4"),
        ("x-forwarded-for", "5.6.7.8"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "evil.test"),
        ("X-Forwarded-Port", "443"),
        ("X-Forwarded-Prefix", "/evil"),
        ("X-Forwarded-Anything", "evil"),
        ("Forwarded", "for=1.2.3.4;proto=https"),
        ("X-Real-IP", "1.2.3.4"),
    ];
    gateway.client().request("GET", "/", &sent, b"").expect(200);
    let seen = origin.last();
    let expected = [
        ("x-forwarded-for", &["127.0.0.1"][..]),
        ("x-forwarded-proto", &["http"]),
        ("x-forwarded-host", &["api.test:81"]),
        ("x-real-ip", &["127.0.0.1"]),
        (
            "forwarded",
            &["for=127.0.0.1;host=\"api.test:81\";proto=http"],
        ),
        ("x-forwarded-port", &[]),
        ("x-forwarded-prefix", &[]),
        ("x-forwarded-anything", &[]),
        ("host", &["api.test:81"]),
    ];
    for (name, values) in expected {
        assert_eq!(seen.headers_all(name), values, "{name}");
    }
}

#[test]
fn what_trusted_proxies_say_is_walked_from_right_to_left() {
    let origin = Origin::echo();
    let gateway = before(&origin);
    let mut client = behind(&gateway);
    let sent = [
        ("Host", "inner.test"),
        ("X-Forwarded-For", "6.6.6.6, 192.0.2.9, 10.1.1.1"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-Host", "Shop.test"),
        ("X-Real-IP", "6.6.6.6"),
    ];
    client.request("GET", "/", &sent, b"").expect(200);
    let seen = origin.last();
    let expected = [
        ("x-forwarded-for", "192.0.2.9, 10.1.1.1, 127.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "shop.test"),
        ("x-real-ip", "192.0.2.9"),
        (
            "forwarded",
            "for=192.0.2.9;host=shop.test;proto=https, for=10.1.1.1, for=127.0.0.1",
        ),
        ("host", "inner.test"),
    ];
    for (name, value) in expected {
        assert_eq!(seen.headers_all(name), [value], "{name}");
    }
    let new = [(
        "Forwarded",
        "for=6.6.6.6, for=\"[2001:db8::1]:99\";proto=https;host=shop.test",
    )];
    client.request("GET", "/", &new, b"").expect(200);
    let seen = origin.last();
    assert_eq!(
        seen.header("x-forwarded-for"),
        Some("2001:db8::1, 127.0.0.1")
    );
    assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
    let both = [
        ("X-Forwarded-For", "192.0.2.1"),
        ("Forwarded", "for=192.0.2.2"),
    ];
    client.request("GET", "/", &both, b"").expect(400);
}

#[test]
fn headers_that_tell_who_somebody_is_are_stripped_in_any_spelling() {
    let origin = Origin::echo();
    let gateway = before(&origin);
    let names = [
        "X-User-Id",
        "x-uSeR-iD",
        "X-USER-ROLES",
        "X-Consumer-Name",
        "X-Auth-Request-Email",
        "X-Authenticated-User",
        "X-Credential-Id",
        "X-Remote-User",
        "Remote-User",
        "X-Client-Ip",
        "X-Cluster-Client-Ip",
        "True-Client-Ip",
        "CF-Connecting-IP",
        "Fastly-Client-Ip",
        "X-Original-Url",
        "X-Rewrite-Url",
        "X-Original-Host",
        "X-HTTP-Method-Override",
        "X-Http-Method",
        "X-Method-Override",
        "X-Host",
        "Client-Cert",
        "Client-Cert-Chain",
        "X-SSL-Client-Cert",
        "x-ssl-client-verify",
        "X-Client-Cert",
        "X-Remote-Addr",
        "X-Originating-Ip",
        "X-Remote-Ip",
        "X-Anonymous-Consumer",
    ];
    for listener in ["public", "behind"] {
        let mut client = Client::connect(gateway.addr_of(listener));
        let sent: Vec<(&str, &str)> = names.iter().map(|name| (*name, "forged")).collect();
        client.request("GET", "/", &sent, b"").expect(200);
        let seen = origin.last();
        assert!(
            seen.headers.iter().all(|(_, value)| value != "forged"),
            "{:?}",
            seen.headers
        );
        client
            .request(
                "GET",
                "/",
                &[("X-Userland", "kept"), ("X-Tenant", "kept")],
                b"",
            )
            .expect(200);
        assert_eq!(origin.last().headers_all("x-userland"), ["kept"]);
    }
    let before = origin.count();
    let refused = gateway
        .client()
        .request("GET", "/", &[("X_User_Id", "forged")], b"");
    assert_eq!((refused.status, origin.count()), (400, before));
}

#[test]
fn what_belongs_to_one_connection_goes_no_further() {
    let origin = Origin::answer(|_| {
        let headers = [
            ("Connection", "x-hop-back, keep-alive"),
            ("X-Hop-Back", "1"),
            ("Keep-Alive", "timeout=5"),
            ("Proxy-Connection", "keep-alive"),
            ("Proxy-Authenticate", "Basic"),
            ("Upgrade", "h2c"),
            ("Trailer", "x-a"),
            ("TE", "trailers"),
            ("X-Kept", "1"),
        ];
        Reply::fixed(200, &headers, "x")
    });
    let gateway = before(&origin);
    let sent = [
        (
            "Connection",
            "x-hop, keep-alive, TE, Upgrade, HTTP2-Settings",
        ),
        ("X-Hop", "1"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Connection", "keep-alive"),
        ("Proxy-Authorization", "Basic x"),
        ("TE", "trailers"),
        ("Trailer", "x-a"),
        ("Upgrade", "h2c"),
        ("HTTP2-Settings", "AAMAAABkAARAAAAAAAIAAAAA"),
        ("X-Kept", "1"),
    ];
    let mut client = gateway.client();
    let answer = client.request("GET", "/", &sent, b"").expect(200);
    let seen = origin.last();
    let gone = [
        "connection",
        "x-hop",
        "x-hop-back",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "proxy-authenticate",
        "te",
        "trailer",
        "upgrade",
        "http2-settings",
    ];
    for name in gone {
        assert_eq!(seen.header(name), None, "upstream got {name}");
        if name != "connection" {
            assert_eq!(answer.header(name), None, "client got {name}");
        }
    }
    assert_eq!(
        (seen.header("x-kept"), answer.header("x-kept")),
        (Some("1"), Some("1"))
    );
    assert_eq!(answer.headers_all("connection"), ["keep-alive"]);
    client.get("/").expect(200);
}

#[test]
fn a_connection_header_takes_nothing_away_that_others_rely_on() {
    let origin = Origin::echo();
    let gateway = before(&origin);
    for name in [
        "Authorization",
        "Cookie",
        "Host",
        "X-Forwarded-For",
        "Content-Length",
        "Via",
    ] {
        let before = origin.count();
        let refused = gateway
            .client()
            .request("GET", "/", &[("Connection", name)], b"");
        assert_eq!((refused.status, origin.count()), (400, before), "{name}");
    }
}

#[test]
fn a_request_that_was_here_before_is_a_loop() {
    let origin = Origin::echo();
    let gateway = before(&origin);
    let mut client = gateway.client();
    client
        .request(
            "GET",
            "/",
            &[("Via", "1.0 fred, 1.1 p.example.net (Apache)")],
            b"",
        )
        .expect(200);
    let via = origin.last().header("via").unwrap().to_owned();
    let ours = via
        .strip_prefix("1.0 fred, 1.1 p.example.net (Apache), 1.1 ")
        .expect("all hops");
    assert!(
        ours.starts_with("doorward") && !ours.contains([',', ' ']),
        "{ours}"
    );
    let before = origin.count();
    for line in [
        format!("1.1 {ours}"),
        format!("1.0 fred, HTTP/1.1 {ours} (x), 1.1 other"),
    ] {
        let refused = client
            .request("GET", "/", &[("Via", line.as_str())], b"")
            .expect(508);
        assert_eq!(refused.json()["type"], "urn:doorward:error:loop_detected");
    }
    let many = ["1.1 doorward-00000000"; 9].join(", ");
    client
        .request("GET", "/", &[("Via", many.as_str())], b"")
        .expect(508);
    assert_eq!(origin.count(), before);
    let few = ["1.1 doorward-00000000"; 3].join(", ");
    client
        .request("GET", "/", &[("Via", few.as_str())], b"")
        .expect(200);
}

#[test]
fn answers_do_not_tell_what_stands_behind() {
    let names = [
        "Server",
        "X-Powered-By",
        "X-AspNet-Version",
        "X-AspNetMvc-Version",
        "X-Generator",
        "X-Runtime",
        "X-Backend",
        "X-Backend-Server",
        "X-Served-By",
        "X-Upstream",
        "X-Envoy-Upstream-Service-Time",
        "X-Envoy-Decorator-Operation",
        "Via",
        "Proxy-Status",
        "X-User-Id",
    ];
    let origin = Origin::answer(move |_| {
        let headers: Vec<(&str, &str)> = names.iter().map(|name| (*name, "telltale")).collect();
        Reply::fixed(200, &headers, "x")
    });
    let gateway = before(&origin);
    let answer = gateway.client().get("/").expect(200);
    assert!(
        answer.headers.iter().all(|(_, value)| value != "telltale"),
        "{:?}",
        answer.headers
    );
    assert_eq!(answer.header("server"), None);
}

#[test]
fn version_and_words_of_a_status_line_are_ours() {
    for (there, here) in [
        ("HTTP/1.0 404 Not in nginx/1.30.6", "HTTP/1.1 404 Not Found"),
        ("HTTP/1.1 200 Jetty", "HTTP/1.1 200 OK"),
    ] {
        for end in ["Content-Length: 2\r\n\r\nno", "\r\nno"] {
            let raw = format!("{there}\r\n{end}");
            let origin = Origin::answer(move |_| Reply::raw(raw.as_str()).then_close());
            let gateway = before(&origin);
            let mut client = gateway.client();
            client.send_raw(b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
            let answer = String::from_utf8(client.read_to_end().unwrap()).unwrap();
            assert!(answer.starts_with(&format!("{here}\r\n")), "{answer}");
        }
    }
}

#[test]
fn the_gateway_answers_expect_itself() {
    let origin = Origin::echo();
    let gateway = before(&origin);
    let mut client = gateway.client();
    client.send_raw(
        b"POST / HTTP/1.1\r\nHost: a.test\r\nExpect: 100-Continue\r\nContent-Length: 5\r\n\r\n",
    );
    assert_eq!(client.one_head().unwrap().status, 100);
    client.send_raw(b"hello");
    let answer = client.response("POST").expect(200);
    assert_eq!(
        (answer.json()["body"].as_str(), answer.interim.len()),
        (Some("hello"), 0)
    );
    assert_eq!(origin.last().header("expect"), None);
    let before = origin.count();
    let refused = client.request("POST", "/", &[("Expect", "200-ok")], b"x");
    assert_eq!((refused.status, origin.count()), (417, before));
}

#[test]
fn who_is_refused_is_not_asked_for_the_body() {
    let gateway = Gateway::spawn(
        "version: 1\nlisteners: { public: { address: \"127.0.0.1:0\" } }\nroutes: [{ name: a, match: { path: /a }, respond: { text: a } }]\n",
    );
    for (path, status) in [("/a", 200), ("/none", 404)] {
        let mut client = gateway.client();
        client.send_raw(format!("PUT {path} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").as_bytes());
        let answer = client.response("PUT").expect(status);
        assert!(answer.interim.is_empty());
        // Whether the body comes nobody knows: the connection ends.
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(client.closed_by_gateway());
    }
}

#[test]
fn max_forwards_counts_down() {
    let origin = Origin::echo();
    let gateway = before(&origin);
    let mut client = gateway.client();
    for (method, length) in [("OPTIONS", None), ("OPTIONS", Some("0")), ("GET", None)] {
        let mut sent = vec![("Max-Forwards", "5")];
        sent.extend(length.map(|length| ("Content-Length", length)));
        client.request(method, "/", &sent, b"").expect(200);
        let seen = origin.last();
        assert_eq!(
            (seen.method.as_str(), seen.header("max-forwards")),
            (method, Some("4"))
        );
    }
    let before = origin.count();
    let answer = client.request("OPTIONS", "/", &[("Max-Forwards", "0")], b"");
    assert!(answer.expect(204).header("allow").is_some());
    assert_eq!(origin.count(), before);
}

const WEBSOCKET: [(&str, &str); 4] = [
    ("Connection", "keep-alive, Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("Sec-WebSocket-Version", "13"),
];

#[test]
fn an_upgraded_connection_passes_bytes_both_ways() {
    let origin = Origin::answer(|_| {
        Reply::upgrade(&[("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")])
    });
    let gateway = before(&origin);
    let mut client = gateway.client();
    client.send_request("GET", "/chat", &WEBSOCKET, b"");
    let answer = client.response("GET").expect(101);
    assert_eq!(
        answer.header("sec-websocket-accept"),
        Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    );
    assert!(
        answer
            .header("upgrade")
            .is_some_and(|upgrade| upgrade.eq_ignore_ascii_case("websocket"))
    );
    assert!(
        answer
            .header("connection")
            .is_some_and(|connection| connection.eq_ignore_ascii_case("upgrade"))
    );
    for bytes in [
        &b"\x81\x02hi"[..],
        b"GET / HTTP/1.1\r\n\r\n",
        b"\0\xff\r\n\r\n0\r\n\r\n",
    ] {
        client.send_raw(bytes);
        let mut back = Vec::new();
        while back.len() < bytes.len() {
            back.extend(client.read_raw().unwrap());
        }
        assert_eq!(back, bytes);
    }
    drop(client);
    origin.wait_closed(0);
    assert_eq!(origin.count(), 1);
}

#[test]
fn a_refused_upgrade_is_an_answer_like_any_other() {
    let origin = Origin::answer(|_| Reply::fixed(403, &[], "no"));
    let gateway = before(&origin);
    let answer = gateway.client().request("GET", "/", &WEBSOCKET, b"");
    assert_eq!(answer.expect(403).text(), "no");
}

#[test]
fn an_upgrade_nobody_asked_for_is_a_fault_of_the_upstream() {
    let origin = Origin::answer(|_| Reply::upgrade(&[]));
    let gateway = before(&origin);
    let mut client = gateway.client();
    for asked in [&[][..], &[("Upgrade", "h2c"), ("Connection", "Upgrade")]] {
        let answer = client.request("GET", "/", asked, b"").expect(502);
        assert_eq!(answer.json()["type"], "urn:doorward:error:protocol_error");
        client = gateway.client();
    }
    origin.wait_closed(0);
}

#[test]
fn interim_answers_pass_and_a_flood_of_them_does_not() {
    let origin = Origin::answer(|request| {
        let count = if request.path == "/flood" { 100 } else { 2 };
        (0..count).fold(Reply::ok("x"), |reply, _| {
            reply.interim(103, &[("Link", "</a>")])
        })
    });
    let gateway = before(&origin);
    let answer = gateway.client().get("/").expect(200);
    assert_eq!(
        (answer.interim, answer.body),
        (vec![103, 103], b"x".to_vec())
    );
    let flooded = gateway.client().get("/flood").expect(502);
    assert!(flooded.interim.len() <= 8);
}

#[test]
fn a_listener_may_be_a_unix_socket() {
    let origin = Origin::echo();
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("http.sock");
    let gateway = Gateway::spawn(&format!(
        "version: 1\nlisteners:\n  public: {{ address: \"127.0.0.1:0\" }}\n  local: {{ address: \"unix:{}\" }}\n\
         upstreams: {{ o: {{ targets: [{{ url: \"{}\" }}] }} }}\n\
         routes:\n- {{ name: all, match: {{ path_prefix: /, listeners: [local] }}, upstream: o }}\n\
         - {{ name: who, match: {{ path: /who, listeners: [local] }}, respond: {{ text: \"you are {{client.ip}}.\" }} }}\n",
        socket.display(),
        origin.url()
    ));
    let mut stream = UnixStream::connect(&socket).unwrap();
    stream.write_all(b"GET /a HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: 1.2.3.4\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    // Who comes by a socket has no address; the rest of the text stays.
    let mut stream = UnixStream::connect(&socket).unwrap();
    stream
        .write_all(b"GET /who HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
        .unwrap();
    answer.clear();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("\r\n\r\nyou are ."), "{answer}");
    let seen = origin.last();
    assert_eq!(
        (seen.header("x-forwarded-for"), seen.header("x-real-ip")),
        (None, None)
    );
    assert_eq!(seen.header("x-forwarded-host"), Some("a.test"));
    gateway.client().get("/a").expect(404);
}

#[test]
fn a_target_may_have_a_name() {
    let origin = Origin::echo();
    let gateway = before_targets(&format!(
        "{{ url: \"http://localhost:{}\" }}",
        origin.addr().port()
    ));
    gateway.client().get("/a").expect(200);
    assert_eq!(origin.last().path, "/a");
}

#[test]
fn a_name_with_several_addresses_is_tried_at_each_of_them() {
    let origin = Origin::start_at("[::1]:0".parse().unwrap(), Script::echo());
    let gateway = before_targets(&format!(
        "{{ url: \"http://localhost:{}\" }}",
        origin.addr().port()
    ));
    for at in 1..=3 {
        gateway
            .client()
            .request("POST", "/a", &[], b"body")
            .expect(200);
        assert_eq!(origin.count(), at);
    }
}

#[track_caller]
fn check_problem(answer: &Response, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{code}: {}", answer.text());
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json")
    );
    let problem = answer.json();
    let id = answer.header("x-request-id").expect("an id");
    assert_eq!(problem["type"], format!("urn:doorward:error:{code}"));
    assert_eq!(problem["status"], status);
    assert_eq!(problem["instance"], id);
    assert!(is_uuid_v7(id));
    for field in ["title", "detail"] {
        assert!(
            problem[field].as_str().is_some_and(|text| !text.is_empty()),
            "{field}"
        );
    }
    assert_eq!(problem.as_object().map(serde_json::Map::len), Some(5));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

/// Nothing is served but `/get`, and that by GET.
fn refusing() -> Gateway {
    Gateway::spawn(
        "version: 1\nlisteners: { public: { address: \"127.0.0.1:0\", trusted_proxies: [127.0.0.0/8] } }\n\
         routes: [{ name: get, match: { path: /get, methods: [GET] }, respond: { text: got } }]\n",
    )
}

#[test]
fn a_refusal_is_a_problem_with_the_id_of_the_request() {
    let gateway = refusing();
    let mut client = gateway.client();
    check_problem(&client.get("/none"), 404, "not_found");
    check_problem(
        &client.request("PUT", "/get", &[], b""),
        405,
        "method_not_allowed",
    );
    check_problem(
        &client.request("GET", "/none", &[("Accept", "*/*")], b""),
        404,
        "not_found",
    );
    for (bytes, status, code) in [
        ("GET / HTTP/1.1\r\n\r\n", 400, "bad_host"),
        ("GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad_path"),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nX Y: 1\r\n\r\n",
            400,
            "bad_request",
        ),
        (
            "GET / HTTP/1.9\r\nHost: a\r\n\r\n",
            505,
            "version_not_supported",
        ),
        (
            "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
            405,
            "method_not_allowed",
        ),
        (
            "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n",
            405,
            "method_not_allowed",
        ),
    ] {
        let mut client = gateway.client();
        client.send_raw(bytes.as_bytes());
        let answer = client.response("GET");
        check_problem(&answer, status, code);
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(answer.header("date").is_some() && client.closed_by_gateway());
    }
}

#[test]
fn browsers_get_a_page() {
    let gateway = refusing();
    let mut client = gateway.client();
    let firefox = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    for (accept, page) in [
        (firefox, true),
        ("text/html, application/json", true),
        ("application/json, text/html", false),
        ("application/json", false),
        ("text/plain", false),
    ] {
        let answer = client
            .request("GET", "/none", &[("Accept", accept)], b"")
            .expect(404);
        let kind = if page {
            "text/html; charset=utf-8"
        } else {
            "application/problem+json"
        };
        assert_eq!(answer.header("content-type"), Some(kind), "{accept}");
        assert!(
            answer
                .text()
                .contains(answer.header("x-request-id").unwrap())
        );
        assert_eq!(answer.header("vary"), Some("accept"));
    }
    let head = client
        .request("HEAD", "/none", &[("Accept", firefox)], b"")
        .expect(404);
    assert!(head.body.is_empty());
}

#[test]
fn grpc_clients_get_a_status_of_grpc() {
    let gateway = refusing();
    let mut client = gateway.client();
    for kind in ["application/grpc", "application/grpc+proto"] {
        let answer = client
            .request("POST", "/a.B/C", &[("Content-Type", kind)], b"\0\0\0\0\0")
            .expect(200);
        assert_eq!(answer.header("content-type"), Some("application/grpc"));
        assert_eq!(answer.header("grpc-status"), Some("12"));
        assert_eq!(
            answer.header("grpc-message"),
            Some("Nothing is served at this address.")
        );
        assert!(answer.body.is_empty() && answer.header("x-request-id").is_some());
    }
    let web = client.request(
        "POST",
        "/a",
        &[("Content-Type", "application/grpc-web")],
        b"",
    );
    check_problem(&web, 404, "not_found");
}

#[test]
fn the_reason_is_told_to_clients_of_our_own_network_only() {
    let gateway = refusing();
    let mut client = gateway.client();
    let told = |client: &mut Client, sent: &[(&str, &str)]| {
        let answer = client.request("GET", "/none", sent, b"").expect(404);
        answer.header("proxy-status").map(str::to_owned)
    };
    let reason = Some("doorward; error=destination_not_found".to_owned());
    assert_eq!(told(&mut client, &[]), reason);
    assert_eq!(
        told(&mut client, &[("X-Forwarded-For", "10.1.2.3")]),
        reason
    );
    assert_eq!(told(&mut client, &[("X-Forwarded-For", "192.0.2.1")]), None);
}

#[test]
fn the_connection_goes_on_after_a_refusal() {
    let gateway = refusing();
    let mut client = gateway.client();
    let small = vec![b'x'; 60_000];
    for _ in 0..2 {
        for body in [&b""[..], b"small", &small] {
            let refused = client.request("POST", "/none", &[], body).expect(404);
            assert_eq!(refused.header("connection"), Some("keep-alive"));
            client.request("POST", "/get", &[], body).expect(405);
        }
        client.send_raw(b"POST /none HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
        client.send_chunk(b"abc");
        client.send_chunk(b"");
        client.response("POST").expect(404);
        assert_eq!(client.get("/get").expect(200).text(), "got");
    }
}

#[test]
fn who_sends_much_to_nobody_still_reads_the_refusal() {
    let gateway = refusing();
    let bytes = 4 * 1024 * 1024;
    for framing in [
        format!("Content-Length: {bytes}\r\n\r\n"),
        format!("Transfer-Encoding: chunked\r\n\r\n{bytes:x}\r\n"),
    ] {
        let mut client = gateway.client();
        client.send_raw(format!("POST /none HTTP/1.1\r\nHost: a\r\n{framing}").as_bytes());
        assert_eq!(client.send_pattern(bytes), bytes, "the whole body is taken");
        let answer = client.response("POST").expect(404);
        assert_eq!(answer.header("connection"), Some("close"));
    }
}

#[test]
fn a_broken_upstream_gives_the_promised_status() {
    let many: String = (0..400).map(|at| format!("X-{at}: v\r\n")).collect();
    let cases: Vec<(&str, Reply, u16, &str)> = vec![
        ("closed", Reply::close(), 502, "reset"),
        ("reset", Reply::reset(), 502, "reset"),
        ("garbage", Reply::garbage(), 502, "protocol_error"),
        (
            "half a head",
            Reply::raw("HTTP/1.1 200 OK\r\nContent-Le"),
            502,
            "reset",
        ),
        (
            "no status",
            Reply::raw("HTTP/1.1 abc OK\r\n\r\n"),
            502,
            "protocol_error",
        ),
        (
            "status 999",
            Reply::fixed(999, &[], ""),
            502,
            "protocol_error",
        ),
        (
            "two lengths",
            Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
            502,
            "protocol_error",
        ),
        (
            "a length that is none",
            Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nab"),
            502,
            "protocol_error",
        ),
        (
            "an unknown coding",
            Reply::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, x\r\n\r\nab"),
            502,
            "protocol_error",
        ),
        (
            "too many headers",
            Reply::raw(format!("HTTP/1.1 200 OK\r\n{many}\r\n")),
            502,
            "protocol_error",
        ),
    ];
    for (what, reply, status, code) in cases {
        for method in ["POST", "GET"] {
            let reply = reply.clone();
            let origin = Origin::answer(move |_| reply.clone());
            let gateway = before(&origin);
            let mut client = gateway.client();
            let answer = client.request(method, "/", &[], b"");
            assert_eq!(answer.status, status, "{what} {method}: {}", answer.text());
            check_problem(&answer, status, code);
            // Nothing came back: what may be done twice was tried twice. What came was no HTTP, which is final.
            let tried = if (method, code) == ("GET", "reset") {
                2
            } else {
                1
            };
            assert_eq!(origin.count(), tried, "{what} {method}");
            assert_eq!(answer.header("connection"), Some("keep-alive"), "{what}");
            check_problem(&client.request("POST", "/", &[], b"more"), status, code);
        }
    }
}

#[test]
fn nobody_at_the_address_of_a_target_is_502() {
    let gateway = before_targets(&format!("{{ url: \"http://127.0.0.1:{}\" }}", free_port()));
    let answer = gateway.client().request("POST", "/", &[], b"body");
    check_problem(&answer, 502, "connect_failure");
    assert_eq!(
        answer.header("proxy-status"),
        Some("doorward; error=connection_refused")
    );
    let grpc = gateway
        .client()
        .request("POST", "/", &[("Content-Type", "application/grpc")], b"");
    assert_eq!(grpc.expect(200).header("grpc-status"), Some("14"));
}

#[test]
fn an_answer_that_breaks_off_never_looks_whole() {
    let replies = [
        Reply::truncated(10, "abc"),
        Reply::truncated(10, "abc").then_reset(),
        Reply::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"),
        Reply::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n"),
    ];
    for (at, reply) in replies.into_iter().enumerate() {
        let origin = Origin::answer(move |_| reply.clone());
        let gateway = before(&origin);
        let mut client = gateway.client();
        let ended = client.try_request("GET", "/", &[], b"");
        assert!(
            matches!(ended, Err(Ended::Truncated | Ended::Reset)),
            "{at}: {ended:?}"
        );
        assert_eq!(origin.count(), 1);
    }
}

#[test]
fn what_comes_behind_an_answer_is_nobodys_answer() {
    let origin = Origin::answer(|request| {
        match request.path.as_str() {
        "/extra" => Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil").then_keep(),
        "/none" => Reply::raw("HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nevil").then_keep(),
        _ => Reply::ok("own"),
    }
    });
    let gateway = before(&origin);
    let mut client = gateway.client();
    assert_eq!(client.get("/extra").expect(200).text(), "ok");
    assert_eq!(client.get("/own").expect(200).text(), "own");
    let empty = client.get("/none").expect(204);
    assert_eq!(empty.header("content-length"), None);
    assert_eq!(client.get("/own").expect(200).text(), "own");
}

#[test]
fn chunks_win_over_a_length_that_an_upstream_sends_beside_them() {
    let both = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    let origin = Origin::answer(move |_| Reply::raw(both).then_keep());
    let gateway = before(&origin);
    let answer = gateway.client().get("/").expect(200);
    assert_eq!(
        (answer.header("content-length"), answer.text()),
        (None, "hello".to_owned())
    );
}

#[test]
fn answers_without_a_body_pass() {
    let origin = Origin::answer(|request| match request.path.as_str() {
        "/304" => Reply::fixed(304, &[("ETag", "\"a\"")], ""),
        "/204" => Reply::fixed(204, &[], ""),
        "/205" => Reply::fixed(205, &[], ""),
        _ => Reply::fixed(200, &[("ETag", "\"b\"")], "0123456789"),
    });
    let gateway = before(&origin);
    let mut client = gateway.client();
    assert_eq!(client.get("/304").expect(304).header("etag"), Some("\"a\""));
    client.get("/204").expect(204);
    client.get("/205").expect(205);
    let head = client.head("/").expect(200);
    assert_eq!(
        (head.header("content-length"), head.header("etag")),
        (Some("10"), Some("\"b\""))
    );
    assert_eq!(client.get("/").expect(200).text(), "0123456789");
    assert_eq!(origin.connections().len(), 1);
}

/// An origin whose first connection dies when it is used again.
fn dying() -> Origin {
    Origin::answer(
        |request: &Recorded| match (request.path.as_str(), request.connection) {
            ("/die", 0) | ("/always", _) => Reply::close(),
            _ => Reply::ok("alive"),
        },
    )
}

#[test]
fn a_read_is_repeated_once_when_a_pooled_connection_dies() {
    for method in ["GET", "HEAD", "OPTIONS"] {
        let origin = dying();
        let gateway = before(&origin);
        let mut client = gateway.client();
        client.get("/first").expect(200);
        client.request(method, "/die", &[], b"").expect(200);
        let tries: Vec<usize> = origin.requests()[1..]
            .iter()
            .map(|one| one.connection)
            .collect();
        assert_eq!(tries, [0, 1], "{method}");
    }
}

/// A gateway whose upstream has no retries.
fn before_once(origin: &Origin) -> Gateway {
    Gateway::spawn(&format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\" }} }}\n\
         upstreams: {{ o: {{ retries: none, targets: [{{ url: \"{}\" }}] }} }}\n\
         routes: [{{ name: all, match: {{ path_prefix: / }}, upstream: o }}]\n",
        origin.url()
    ))
}

#[test]
fn a_read_that_dies_on_a_new_connection_is_not_repeated_without_retries() {
    let origin = dying();
    let gateway = before_once(&origin);
    let mut client = gateway.client();
    check_problem(&client.get("/always"), 502, "reset");
    assert_eq!(origin.count(), 1);
    client = gateway.client();
    client.get("/first").expect(200);
    check_problem(&client.get("/always"), 502, "reset");
    assert_eq!(
        origin.count(),
        4,
        "once on the pooled connection, once on a new one"
    );
}

#[test]
fn a_change_is_sent_exactly_once() {
    // PUT and DELETE may be repeated (RFC 9110 section 9.2.2), so retries do; nobody else does.
    for (method, retries) in [
        ("POST", true),
        ("PATCH", true),
        ("POST", false),
        ("PUT", false),
        ("PATCH", false),
        ("DELETE", false),
    ] {
        let origin = dying();
        let gateway = if retries {
            before(&origin)
        } else {
            before_once(&origin)
        };
        let mut client = gateway.client();
        client.get("/first").expect(200);
        check_problem(
            &client.request(method, "/die", &[], b"change"),
            502,
            "reset",
        );
        assert_eq!(origin.count(), 2, "{method} {retries}");
        gateway.client().get("/after").expect(200);
    }
}

#[test]
fn requests_at_the_same_time_get_their_own_answers() {
    let origin = Origin::echo();
    let gateway = before(&origin);
    let wrong = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (gateway, wrong) = (&gateway, &wrong);
            scope.spawn(move || {
                let mut client = gateway.client();
                for at in 0..25 {
                    let path = format!("/{thread}/{at}");
                    let body = path.repeat(50);
                    let echo = client.request("POST", &path, &[], body.as_bytes()).json();
                    let own = echo["path"] == path && echo["body"] == body;
                    wrong.fetch_add(u64::from(!own), Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!((wrong.load(Ordering::SeqCst), origin.complete()), (0, 200));
    assert!(origin.connections().len() <= 8);
}
