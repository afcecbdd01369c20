//! How long a request over HTTP/2 may take, and how slow its client may be: as over HTTP/1, and only its stream ends.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a test stops at the first thing that is not as expected"
)]

use std::process::Command;
use std::time::{Duration, Instant};

use super::support::frames::{DATA, END_STREAM, RST_STREAM, WINDOW_UPDATE};
use super::support::{
    DEADLINE, Frames, Gateway, Origin, Outcome, Pki, Reply, Setup, dribbling, dribbling_after, run,
};

const SLOW_HEAD: &str = "HTTP/1.1 200 OK\r\nx-padding: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\ncontent-length: 9\r\n\r\n";

/// The same routes behind TLS and without it, in front of one target.
fn both(target: &str, upstream: &str, clients: &str) -> Gateway {
    let pki = Pki::new();
    let pair = pki.issue(&["a.test"]);
    let certificate = "tls: { certificates: [{ cert_file: a.pem, key_file: a.key }] }";
    Setup::new(&format!(
        "version: 1\nlisteners:\n  plain: {{ address: \"127.0.0.1:0\", protocols: [http1, h2c]{clients} }}\n\
         \x20 tls: {{ address: \"127.0.0.1:0\", {certificate}{clients} }}\n\
         upstreams: {{ o: {{ targets: [{{ url: \"{target}\" }}]{upstream} }} }}\n\
         routes: [{{ name: all, match: {{ path_prefix: / }}, upstream: o }}]\n"
    ))
    .file("a.pem", &pair.cert)
    .file("a.key", &pair.key)
    .file("ca.pem", &pki.ca)
    .spawn()
}

/// What curl says of one request over HTTP/2.
struct Told {
    status: String,
    /// From when the connection was there.
    took: Duration,
    head: String,
    body: String,
}

/// Asks over TLS, or without.
fn ask(gateway: &Gateway, listener: &str, path: &str, options: &[&str]) -> Told {
    let addr = gateway.addr_of(listener);
    let port = addr.port();
    let secure = listener == "tls";
    let scheme = if secure { "https" } else { "http" };
    let mut command = Command::new("curl");
    command.args(["-sS", "-o", "body", "-D", "head", "--cacert", "ca.pem"]);
    command.args([
        "-w",
        "%{http_version} %{response_code} %{time_pretransfer} %{time_total}",
    ]);
    command.args(["--resolve", &format!("a.test:{port}:127.0.0.1")]);
    command.arg(if secure {
        "--http2"
    } else {
        "--http2-prior-knowledge"
    });
    let url = format!("{scheme}://a.test:{port}{path}");
    let done = run(
        command.args(options).arg(url).current_dir(gateway.dir()),
        DEADLINE,
    );
    let said: Vec<&str> = done.stdout.split(' ').collect();
    let [version, status, asked, ended] = said[..] else {
        panic!("{}{}", done.stdout, done.stderr);
    };
    assert_eq!(version, "2", "{}", done.stderr);
    let seconds = |said: &str| Duration::from_secs_f64(said.parse().unwrap());
    let read = |name| std::fs::read_to_string(gateway.dir().join(name)).unwrap_or_default();
    Told {
        status: status.to_owned(),
        took: seconds(ended) - seconds(asked),
        head: read("head"),
        body: read("body"),
    }
}

fn fields<'a>(method: &'a str, path: &'a str) -> [(&'a str, &'a str); 4] {
    [
        (":method", method),
        (":scheme", "http"),
        (":authority", "a.test"),
        (":path", path),
    ]
}

/// The machine adds to what the gateway takes: the least of some counts.
#[test]
fn a_head_that_dribbles_is_504_in_time_over_http2() {
    let target = dribbling(SLOW_HEAD, Duration::from_millis(30));
    for (clause, expected) in [("total: 400ms", 400), ("per_try: 300ms", 300)] {
        let upstream = format!(", timeouts: {{ {clause} }}");
        let gateway = both(&format!("http://{target}"), &upstream, "");
        let expected = Duration::from_millis(expected);
        for listener in ["plain", "tls"] {
            let mut least = Duration::MAX;
            for round in 0..5 {
                let path = format!("/{listener}-{round}");
                let told = ask(&gateway, listener, &path, &[]);
                assert_eq!(told.status, "504", "{}", told.body);
                assert!(told.took >= expected, "{:?}", told.took);
                let body: serde_json::Value = serde_json::from_str(&told.body).unwrap();
                assert_eq!(body["status"], 504);
                assert!(
                    told.head.contains("application/problem+json"),
                    "{}",
                    told.head
                );
                let record = gateway.process().wait_log(&format!("\"{path}\""));
                for part in [
                    "\"http.response.status_code\":504".to_owned(),
                    "\"error.type\":\"timeout\"".to_owned(),
                    format!("\"http.response.body.size\":{}", told.body.len()),
                ] {
                    assert!(record.contains(&part), "{part}: {record}");
                }
                least = least.min(told.took);
            }
            eprintln!("{clause}, {listener}: {least:?}");
            assert!(least <= expected + Duration::from_millis(100), "{least:?}");
        }
    }
}

#[test]
fn what_is_given_up_over_http2_is_told_as_the_client_reads_it() {
    let target = dribbling(SLOW_HEAD, Duration::from_millis(30));
    let upstream = ", timeouts: { total: 200ms }";
    let gateway = both(&format!("http://{target}"), upstream, "");
    let grpc = ["-H", "content-type: application/grpc", "--data-binary", ""];
    let told = ask(&gateway, "tls", "/s/M", &grpc);
    assert_eq!(told.status, "200");
    assert!(told.head.contains("grpc-status: 4\r\n"), "{}", told.head);
    assert_eq!(told.body, "");
    let told = ask(&gateway, "plain", "/head", &["-I"]);
    assert_eq!(told.status, "504");
    assert!(told.head.contains("content-length: "), "{}", told.head);
    assert!(!told.head.contains("content-length: 0"), "{}", told.head);
    let record = gateway.process().wait_log("\"/head\"");
    assert!(record.contains("\"http.response.body.size\":0"), "{record}");
}

#[test]
fn an_answer_that_has_begun_over_http2_is_reset() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 9000\r\n\r\n";
    let body = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz";
    let target = dribbling_after(head, body, Duration::from_millis(40));
    let upstream = ", timeouts: { total: 2500ms }";
    let gateway = both(&format!("http://{target}"), upstream, "");
    let mut client = Frames::connect(gateway.addr_of("plain"));
    let outcome = client.request(&fields("GET", "/begun"), None);
    assert!(matches!(outcome, Outcome::Reset(_)), "{outcome:?}");
    let record = gateway.process().wait_log("\"/begun\"");
    assert!(
        record.contains("\"http.response.status_code\":200"),
        "{record}"
    );
    assert!(record.contains("\"error.type\":\"timeout\""), "{record}");
}

#[test]
fn a_body_that_does_not_come_over_http2_is_408() {
    let origin = Origin::echo();
    let gateway = both(&origin.url(), "", ", timeouts: { write: 300ms }");
    let mut client = Frames::connect(gateway.addr_of("plain"));
    let post = client.begin(&fields("POST", "/late"), 0);
    client.send(DATA, 0, post, b"hello");
    assert_eq!(client.outcome(post).status(), Some(408));
    let record = gateway.process().wait_log("\"/late\"");
    assert!(
        record.contains("\"http.response.status_code\":408"),
        "{record}"
    );
    // Only the stream is over.
    let whole = client.request(&fields("POST", "/whole"), Some(b"hello"));
    assert!(matches!(whole, Outcome::Answer(_)), "{whole:?}");
    assert_eq!(origin.complete(), 1);
}

#[test]
fn a_stream_that_is_taken_by_the_byte_ends_and_others_go_on() {
    let origin = Origin::answer(|request| match request.path.as_str() {
        "/large" => Reply::large(1024 * 1024),
        _ => Reply::ok("short"),
    });
    let gateway = both(&origin.url(), "", "");
    // `SETTINGS_INITIAL_WINDOW_SIZE` of 0: each stream gets what it is given.
    let mut client = Frames::connect_with(gateway.addr_of("plain"), &[0, 4, 0, 0, 0, 0]);
    let slow = client.begin(&fields("GET", "/large"), END_STREAM);
    let began = Instant::now();
    let over = loop {
        assert!(began.elapsed() < DEADLINE, "it never ends");
        client.send(WINDOW_UPDATE, 0, slow, &1u32.to_be_bytes());
        let next = client.begin(&fields("GET", "/short"), END_STREAM);
        client.send(WINDOW_UPDATE, 0, next, &1000u32.to_be_bytes());
        let (mut answered, mut reset) = (false, false);
        while !answered {
            let frame = client.frame().unwrap();
            reset |= frame.kind == RST_STREAM && frame.stream == slow;
            answered = frame.kind == DATA && frame.stream == next && frame.flags & END_STREAM != 0;
        }
        if reset {
            break began.elapsed();
        }
        std::thread::park_timeout(Duration::from_millis(500));
    };
    // Ten seconds are forgiven, and it never had 256 bytes in one.
    assert!(over >= Duration::from_secs(9), "{over:?}");
    assert!(over < Duration::from_secs(20), "{over:?}");
    let record = gateway.process().wait_log("\"/large\"");
    assert!(
        record.contains("\"error.type\":\"client_error\""),
        "{record}"
    );
}

/// gRPC asks for its status in this way.
#[test]
fn trailers_are_asked_for_between_two_streams() {
    let inner = Gateway::spawn(
        "version: 1\nlisteners: { public: { address: \"127.0.0.1:0\", protocols: [h2c] } }\n\
         routes: [{ name: all, match: { path_prefix: / }, respond: { text: \"te={request.headers.te}\" } }]\n",
    );
    let outer = both(&format!("h2c://{}", inner.addr()), "", "");
    let mut asked = fields("GET", "/").to_vec();
    for (te, heard) in [(None, "te="), (Some(("te", "trailers")), "te=trailers")] {
        asked.extend(te);
        let outcome = Frames::connect(outer.addr_of("plain")).request(&asked, None);
        assert_eq!(outcome, Outcome::Answer(heard.to_owned()));
    }
}

/// Large answers that nobody takes make others of the connection wait, and when they are taken all of them come whole.
#[test]
fn what_waits_for_others_of_its_connection_comes_whole() {
    const LARGE: u64 = 1024 * 1024;
    const STREAMS: usize = 60;
    let origin = Origin::answer(|request| match request.path.as_str() {
        "/large" => Reply::large(LARGE),
        _ => Reply::ok("short"),
    });
    let gateway = both(&origin.url(), "", "");
    let mut client = Frames::connect_with(gateway.addr_of("plain"), &[0, 4, 0, 0, 0, 0]);
    let streams: Vec<u32> = (0..STREAMS)
        .map(|_| client.begin(&fields("GET", "/large"), END_STREAM))
        .collect();
    std::thread::park_timeout(Duration::from_millis(500));
    // Another connection is another matter.
    let mut other = Frames::connect(gateway.addr_of("plain"));
    assert!(matches!(
        other.request(&fields("GET", "/short"), None),
        Outcome::Answer(_)
    ));
    client.send(WINDOW_UPDATE, 0, 0, &0x7000_0000_u32.to_be_bytes());
    for stream in &streams {
        let most = u32::try_from(LARGE).unwrap();
        client.send(WINDOW_UPDATE, 0, *stream, &most.to_be_bytes());
    }
    let (mut bytes, mut whole) = (0, 0);
    while whole < STREAMS {
        let frame = client.frame().unwrap();
        assert_ne!(frame.kind, RST_STREAM);
        if frame.kind == DATA {
            bytes += u64::try_from(frame.payload.len()).unwrap();
            whole += usize::from(frame.flags & END_STREAM != 0);
        }
    }
    assert_eq!(bytes, LARGE * u64::try_from(STREAMS).unwrap());
}
