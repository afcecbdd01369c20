//! Answers in a content coding: which ones, for whom, that nothing is lost and nothing held back.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test stops at the first thing that is not as expected"
)]

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use super::support::{
    Client, Ended, Frames, Gate, Gateway, Origin, Outcome, Recorded, Reply, Response, scale,
};

const CODINGS: [&str; 3] = ["zstd", "br", "gzip"];
const CSV: (&str, &str) = ("Content-Type", "text/csv");

fn config(url: &str, clauses: &str) -> String {
    format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\", protocols: [http1, h2c] }} }}\n\
         upstreams: {{ o: {{ targets: [{{ url: \"{url}\" }}] }} }}\n\
         defaults: {{ routes: {{ {clauses} }} }}\n\
         routes:\n  - {{ name: all, match: {{ path_prefix: / }}, upstream: o }}\n  \
         - {{ name: called, match: {{ path: /called }}, response: {{ body: {{ omit: [x] }} }}, upstream: o }}\n  \
         - {{ name: own, match: {{ path: /own }}, respond: {{ text: \"{}\" }} }}\n",
        "our own words ".repeat(200)
    )
}

fn before(origin: &Origin) -> Gateway {
    Gateway::spawn(&config(&origin.url(), "compression: {}"))
}

fn ask(gateway: &Gateway, path: &str, accept: &str) -> Response {
    let accept = [("Accept-Encoding", accept)];
    gateway.client().request("GET", path, &accept, b"")
}

fn plain(coding: Option<&str>, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match coding {
        Some("zstd") => out = zstd::stream::decode_all(bytes).unwrap(),
        Some("br") => {
            let mut decoder = brotli::Decompressor::new(bytes, 4096);
            decoder.read_to_end(&mut out).unwrap();
        }
        Some("gzip") => {
            let mut decoder = flate2::read::MultiGzDecoder::new(bytes);
            decoder.read_to_end(&mut out).unwrap();
        }
        None => out = bytes.to_vec(),
        Some(other) => panic!("a coding nobody asked for: {other}"),
    }
    out
}

/// Lines that are alike and never the same.
fn lines(bytes: u64) -> String {
    let mut text = String::new();
    let mut at = 0u64;
    while (text.len() as u64) < bytes {
        text += &format!(
            "{at},{:x},some words that come again\n",
            at.wrapping_mul(0x9e37_79b9)
        );
        at += 1;
    }
    text
}

#[test]
fn every_coding_gives_back_what_went_in() {
    let body = lines(scale(8 * 1024 * 1024));
    let long = body.clone();
    let origin = Origin::answer(move |request: &Recorded| match request.path.as_str() {
        "/chunks" => {
            let pieces: Vec<&[u8]> = long.as_bytes().chunks(100_003).collect();
            Reply::chunked(200, &[CSV], &pieces)
        }
        "/called" => Reply::fixed(
            200,
            &[("Content-Type", "application/json"), ("ETag", "\"a\"")],
            format!("{{\"x\":1,\"a\":{long:?}}}"),
        ),
        _ => Reply::fixed(200, &[CSV, ("ETag", "\"a\"")], long.clone()),
    });
    let gateway = before(&origin);
    let called = format!("{{\"a\":{body:?}}}");
    for coding in CODINGS {
        for (path, expected) in [("/", &body), ("/chunks", &body), ("/called", &called)] {
            let answer = ask(&gateway, path, coding).expect(200);
            assert_eq!(answer.header("content-encoding"), Some(coding), "{path}");
            assert!(answer.body.len() * 2 < expected.len(), "{path} {coding}");
            let read = plain(Some(coding), &answer.body);
            assert!(read == expected.as_bytes(), "{path} {coding}");
        }
        let own = ask(&gateway, "/own", coding).expect(200);
        assert_eq!(own.header("content-encoding"), Some(coding));
        let length = own.body.len().to_string();
        assert_eq!(own.header("content-length"), Some(length.as_str()));
        assert_eq!(
            plain(Some(coding), &own.body),
            "our own words ".repeat(200).as_bytes()
        );
    }
}

#[test]
fn what_is_said_of_a_coded_answer_is_true_of_it() {
    let said = [
        CSV,
        ("ETag", "\"a\""),
        ("Vary", "origin"),
        ("Accept-Ranges", "bytes"),
        ("Content-Digest", "sha-256=:AAAA:"),
    ];
    let origin = Origin::answer(move |request: &Recorded| match request.path.as_str() {
        "/304" => Reply::fixed(304, &said[1..], ""),
        _ => Reply::fixed(200, &said, lines(4_000)),
    });
    let gateway = before(&origin);
    let mut client = gateway.client();
    let coded = client.request("GET", "/", &[("Accept-Encoding", "gzip")], b"");
    for name in ["content-length", "accept-ranges", "content-digest"] {
        assert_eq!(coded.header(name), None, "{name}");
    }
    assert_eq!(coded.header("etag"), Some("W/\"a\""));
    assert_eq!(coded.header("transfer-encoding"), Some("chunked"));
    assert_eq!(
        coded.headers_all("vary").join(", "),
        "origin, accept-encoding"
    );
    // Whoever gets it plain hears that others do not.
    for accept in ["", "identity", "gzip;q=0", "deflate"] {
        let answer = client.request("GET", "/", &[("Accept-Encoding", accept)], b"");
        assert_eq!(answer.header("content-encoding"), None, "{accept}");
        assert_eq!(
            answer.headers_all("vary").join(", "),
            "origin, accept-encoding"
        );
        assert_eq!(answer.header("etag"), Some("\"a\""), "{accept}");
        assert_eq!(answer.text(), lines(4_000), "{accept}");
    }
    let gzip = [("Accept-Encoding", "gzip")];
    // HEAD is told what GET would be; nothing is told of what a client has already.
    for (method, path, coding, tag) in [
        ("HEAD", "/", Some("gzip"), "W/\"a\""),
        ("GET", "/304", None, "\"a\""),
    ] {
        let answer = client.request(method, path, &gzip, b"");
        assert_eq!(answer.header("content-encoding"), coding, "{method} {path}");
        assert_eq!(answer.header("etag"), Some(tag), "{method} {path}");
        assert_eq!(answer.header("content-length"), None, "{method} {path}");
        assert_eq!(
            answer.headers_all("vary").join(", "),
            "origin, accept-encoding"
        );
    }
    client.get("/").expect(200);
}

/// What it is, the headers, the status, and the length.
type Plain = (&'static str, Vec<(&'static str, &'static str)>, u16, usize);

#[test]
fn what_must_not_be_compressed_is_not() {
    let long = "data: words that come again\n\n".repeat(100);
    let cases: Vec<Plain> = vec![
        (
            "an event stream",
            vec![("Content-Type", "text/event-stream; charset=utf-8")],
            200,
            2900,
        ),
        (
            "gRPC",
            vec![("Content-Type", "application/grpc+json")],
            200,
            2900,
        ),
        ("an image", vec![("Content-Type", "image/png")], 200, 2900),
        ("no type", vec![], 200, 2900),
        (
            "encoded",
            vec![CSV, ("Content-Encoding", "deflate")],
            200,
            2900,
        ),
        (
            "no-transform",
            vec![CSV, ("Cache-Control", "public, No-Transform")],
            200,
            2900,
        ),
        (
            "a part",
            vec![CSV, ("Content-Range", "bytes 0-2899/9999")],
            206,
            2900,
        ),
        ("tiny", vec![CSV], 200, 1023),
    ];
    for (what, headers, status, length) in cases {
        let reply = Reply::fixed(status, &headers, &long.as_bytes()[..length]);
        let origin = Origin::answer(move |_| reply.clone());
        let answer = ask(&before(&origin), "/", "gzip, br, zstd").expect(status);
        assert_eq!(answer.body, &long.as_bytes()[..length], "{what}");
        assert_eq!(answer.header("vary"), None, "{what}");
        assert_eq!(
            answer.header("content-length").map(str::len),
            Some(4),
            "{what}"
        );
    }
    let origin = Origin::answer(|_| Reply::fixed(200, &[CSV], lines(1_024)));
    let gateway = before(&origin);
    // It is the length that decides.
    assert_eq!(
        ask(&gateway, "/", "gzip").header("content-encoding"),
        Some("gzip")
    );
    let asked = [
        ("Accept-Encoding", "gzip"),
        ("Cache-Control", "no-transform"),
    ];
    let answer = gateway.client().request("GET", "/", &asked, b"");
    assert_eq!(answer.header("content-encoding"), None);
    let mut old = gateway.client();
    old.send_raw(b"GET / HTTP/1.0\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n");
    assert_eq!(old.response("GET").header("content-encoding"), None);
    let off = Gateway::spawn(&config(&origin.url(), "log: {}"));
    assert_eq!(ask(&off, "/", "gzip").header("content-encoding"), None);
}

/// What can be told of a body so far.
fn beginning(coding: &str, bytes: &[u8]) -> Vec<u8> {
    match coding {
        "zstd" => {
            let mut decoder = zstd::stream::write::Decoder::new(Vec::new()).unwrap();
            decoder.write_all(bytes).unwrap();
            decoder.flush().unwrap();
            decoder.get_ref().clone()
        }
        "br" => {
            // Its buffer holds all: what does not fit waits for more.
            let mut decoder = brotli::DecompressorWriter::new(Vec::new(), 64 * 1024);
            decoder.write_all(bytes).unwrap();
            decoder.get_ref().clone()
        }
        _ => {
            let mut decoder = flate2::write::GzDecoder::new(Vec::new());
            decoder.write_all(bytes).unwrap();
            decoder.flush().unwrap();
            decoder.get_ref().clone()
        }
    }
}

/// A client with the head of a coded answer, whose body comes as the gate lets it.
fn begun(gateway: &Gateway, coding: &str) -> Client {
    let mut client = gateway.client();
    client.send_request("GET", "/", &[("Accept-Encoding", coding)], b"");
    let head = client.response_head("GET").expect(200);
    assert_eq!(head.header("content-encoding"), Some(coding));
    client
}

#[test]
fn each_piece_goes_out_as_it_comes() {
    for coding in CODINGS {
        let gate = Gate::new();
        let held = gate.clone();
        let count = usize::try_from(scale(300)).unwrap();
        let pieces = vec![b"one piece of many\n".as_slice(); count];
        let reply = Reply::gated(200, &[CSV], &pieces, &held);
        let origin = Origin::answer(move |_| reply.clone());
        let gateway = before(&origin);
        let mut client = begun(&gateway, coding);
        let (mut got, mut took) = (Vec::new(), Vec::new());
        for piece in 1..=count {
            let began = Instant::now();
            gate.release();
            // The next one is not let go before this one was read.
            while beginning(coding, &got).len() < piece * 18 {
                got.extend(client.read_some().unwrap());
            }
            took.push(began.elapsed());
        }
        gate.open();
        while let Some(more) = client.read_some() {
            got.extend(more);
        }
        assert_eq!(plain(Some(coding), &got), pieces.concat(), "{coding}");
        took.sort();
        let median = took[took.len() / 2];
        assert!(median < Duration::from_millis(50), "{coding}: {median:?}");
    }
}

#[test]
fn an_answer_that_breaks_off_does_not_look_whole() {
    for coding in CODINGS {
        let origin = Origin::answer(|_| {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\nContent-Length: 9999\r\n\r\n";
            Reply::raw(format!("{head}{}", lines(2_000)))
        });
        let gateway = before(&origin);
        let asked = [("Accept-Encoding", coding)];
        let ended = gateway.client().try_request("GET", "/", &asked, b"");
        assert!(
            matches!(ended, Err(Ended::Truncated | Ended::Reset)),
            "{coding}: {ended:?}"
        );
    }
}

#[test]
fn many_coded_streams_take_little_memory() {
    // Each begins, and does not end.
    let piece = lines(64 * 1024);
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\nTransfer-Encoding: chunked\r\n\r\n";
    let begun_only = format!("{head}{:x}\r\n{piece}\r\n", piece.len());
    let origin = Origin::answer(move |_| Reply::raw(begun_only.clone()).then_keep());
    let many = "protocols: [http1, h2c], limits: { connections_per_ip: 1000 }";
    let config = config(&origin.url(), "compression: {}").replace("protocols: [http1, h2c]", many);
    let gateway = Gateway::spawn(&config);
    // Beside a few the allocator's own room would count.
    let streams = scale(300).max(30);
    let empty = gateway.rss_kib();
    let mut clients = Vec::new();
    for at in 0..streams {
        let coding = CODINGS[usize::try_from(at % 3).unwrap()];
        let mut client = begun(&gateway, coding);
        // The first piece went through the encoder.
        assert!(client.read_some().is_some());
        clients.push(client);
    }
    let each = gateway.rss_kib().saturating_sub(empty) / streams;
    assert!(each < 3 * 1024, "{each} KiB for each stream");
    drop(clients);
}

#[test]
fn http2_on_both_sides_is_coded_too() {
    let gate = Gate::new();
    let held = gate.clone();
    let body = lines(200_000);
    let origin = Origin::answer(move |request: &Recorded| {
        let (first, rest) = body.as_bytes().split_at(70_000);
        match request.path.as_str() {
            "/late" => Reply::gated(200, &[CSV], &[first, rest], &held),
            _ => Reply::chunked(200, &[CSV], &[first, rest]),
        }
    });
    // A gateway of its own is the upstream that speaks HTTP/2.
    let behind = Gateway::spawn(&config(&origin.url(), "log: {}"));
    let gateway = Gateway::spawn(&config(
        &format!("h2c://{}", behind.addr()),
        "compression: {}",
    ));
    gate.open();
    for path in ["/", "/late"] {
        for coding in CODINGS {
            let answer = ask(&gateway, path, coding).expect(200);
            assert_eq!(answer.header("content-encoding"), Some(coding));
            assert!(
                plain(Some(coding), &answer.body) == lines(200_000).as_bytes(),
                "{path} {coding}"
            );
        }
    }
    let mut client = Frames::connect(gateway.addr());
    let fields = [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "a.test"),
        (":path", "/own"),
        ("accept-encoding", "gzip"),
    ];
    let Outcome::Answer(text) = client.request(&fields, None) else {
        panic!("no answer over HTTP/2");
    };
    assert!(text.len() < 1_000, "{}", text.len());
}
