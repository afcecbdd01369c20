//! HTTP/2 from clients: the same rules as in HTTP/1, those of its own, and the same request for the upstream.
#![expect(
    clippy::indexing_slicing,
    reason = "a test stops at the first thing that is not as expected"
)]

use std::process::Command;

use super::control::{metric, metric_becomes};
use super::support::{DEADLINE, Frames, Gateway, Origin, Outcome, Pki, Reply, Setup, frames, run};

fn ok() -> Reply {
    let json = [("content-type", "application/json")];
    Reply::fixed(200, &json, "{\"status\":200}")
}

fn origin() -> Origin {
    Origin::answer(|_| ok())
}

fn setup(origin: &Origin, listener: &str) -> Setup {
    Setup::new(&format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\"{listener} }} }}\nadmin: {{ socket: admin.sock }}\n\
         upstreams: {{ o: {{ targets: [{{ url: \"{}\" }}] }} }}\n\
         routes: [{{ name: all, match: {{ path_prefix: / }}, upstream: o }}]\n",
        origin.url()
    ))
}

fn h2c(origin: &Origin) -> Gateway {
    setup(origin, ", protocols: [http1, h2c]").spawn()
}

/// Names and values.
type Fields<'a> = &'a [(&'a str, &'a str)];

/// A GET, with some fields changed or added; an empty value takes one out.
fn get<'a>(changes: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut fields = vec![
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "a.test"),
        (":path", "/"),
    ];
    for (name, value) in changes {
        let place = fields
            .iter()
            .position(|field| field.0 == *name && name.starts_with(':'));
        match place {
            Some(at) if value.is_empty() => drop(fields.remove(at)),
            Some(at) => fields[at].1 = value,
            None => fields.push((name, value)),
        }
    }
    fields
}

#[test]
fn a_request_means_the_same_in_either_version() {
    let origin = origin();
    let gateway = h2c(&origin);
    let mut client = Frames::connect(gateway.addr());
    let fields = get(&[
        (":authority", "A.test:80"),
        (":path", "/a/%7Eb/../c?x=%41"),
        ("cookie", "a=1"),
        ("cookie", "b=2"),
        ("x-user-id", "forged"),
        ("te", "trailers"),
    ]);
    assert_eq!(client.request(&fields, None).status(), Some(200));
    let by_2 = origin.last();
    gateway
        .client()
        .request(
            "GET",
            "/a/%7Eb/../c?x=%41",
            &[
                ("Host", "A.test:80"),
                ("Cookie", "a=1; b=2"),
                ("X-User-Id", "forged"),
            ],
            b"",
        )
        .expect(200);
    let by_1 = origin.last();
    assert_eq!(
        (&by_2.target, by_2.header("host")),
        (&by_1.target, by_1.header("host"))
    );
    assert_eq!(by_2.headers_all("cookie"), ["a=1; b=2"]);
    assert_eq!(by_2.header("x-user-id"), None);
    assert!(by_2.header("via").unwrap().starts_with("2 doorward"));
    assert!(by_1.header("via").unwrap().starts_with("1.1 doorward"));
    gateway.process().wait_line("a record of HTTP/2", |line| {
        line.contains("\"network.protocol.version\":\"2\"")
            .then_some(())
    });
}

#[test]
fn bodies_go_through_counted_or_not() {
    let origin = origin();
    let gateway = h2c(&origin);
    let mut client = Frames::connect(gateway.addr());
    let post = [(":method", "POST")];
    assert_eq!(
        client.request(&get(&post), Some(b"hello")).status(),
        Some(200)
    );
    assert_eq!(
        (
            origin.last().text().as_str(),
            origin.last().header("transfer-encoding")
        ),
        ("hello", Some("chunked"))
    );
    let counted = [(":method", "POST"), ("content-length", "5")];
    assert_eq!(
        client.request(&get(&counted), Some(b"hello")).status(),
        Some(200)
    );
    assert_eq!(
        (
            origin.last().text().as_str(),
            origin.last().header("content-length")
        ),
        ("hello", Some("5"))
    );
    let expecting = [(":method", "POST"), ("expect", "100-continue")];
    assert_eq!(
        client.request(&get(&expecting), Some(b"hello")).status(),
        Some(200)
    );
    // Trailers of a request go nowhere; the request does.
    let stream = client.begin(&get(&post), 0);
    client.send(frames::DATA, 0, stream, b"hello");
    client.send(
        frames::HEADERS,
        frames::END_HEADERS | frames::END_STREAM,
        stream,
        &frames::block(&[("x-user-id", "forged")]),
    );
    assert_eq!(client.outcome(stream).status(), Some(200));
    assert_eq!(origin.last().header("x-user-id"), None);
}

#[test]
fn what_http1_refuses_is_refused_with_the_same_answer() {
    let origin = origin();
    let gateway = h2c(&origin);
    let long = format!("/{}", "a".repeat(9000));
    let wide = "v".repeat(17_000);
    let cases: &[(&str, Fields<'_>, u64)] = &[
        ("an escaped slash", &[(":path", "/a%2fb")], 400),
        ("a way out", &[(":path", "/../%2e%2e/etc")], 400),
        ("an asterisk", &[(":path", "*")], 400),
        ("another scheme", &[(":scheme", "ftp")], 400),
        ("an underscore", &[("x_user_id", "1")], 400),
        (
            "two of one kind",
            &[("authorization", "a"), ("authorization", "b")],
            400,
        ),
        ("another host", &[("host", "b.test")], 400),
        (
            "a port that is none",
            &[(":authority", "a.test:99999")],
            400,
        ),
        ("a padded length", &[("content-length", "00")], 400),
        ("an expectation", &[("expect", "tea")], 417),
        ("a trace", &[(":method", "TRACE")], 405),
        ("a method in small letters", &[(":method", "get")], 400),
        ("a long path", &[(":path", &long)], 414),
        ("a long header", &[("x", &wide)], 431),
        (
            "a tunnel",
            &[(":method", "CONNECT"), (":scheme", ""), (":path", "")],
            405,
        ),
        (
            "a WebSocket",
            &[(":method", "CONNECT"), (":protocol", "websocket")],
            501,
        ),
    ];
    for (what, changes, status) in cases {
        let mut client = Frames::connect(gateway.addr());
        let mut fields = get(changes);
        // Those with a colon come first.
        fields.sort_by_key(|field| !field.0.starts_with(':'));
        let outcome = client.request(&fields, None);
        let refused = outcome.status() == Some(*status)
            // Pingora answers these before anybody else sees them.
            || matches!(what, &"another host" | &"a port that is none") && outcome == Outcome::Answer(String::new());
        assert!(refused, "{what}: {outcome:?}");
        // The connection is as good as before.
        assert_eq!(
            client.request(&get(&[]), None).status(),
            Some(200),
            "{what}"
        );
    }
    let many: Vec<(String, String)> = (0..101)
        .map(|index| (format!("x-{index}"), "1".to_owned()))
        .collect();
    let many: Vec<(&str, &str)> = many
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(
        Frames::connect(gateway.addr())
            .request(&get(&many), None)
            .status(),
        Some(431)
    );
    assert_eq!(origin.count(), u64::try_from(cases.len()).unwrap());
}

#[test]
fn what_is_no_http2_is_no_request() {
    let origin = origin();
    let gateway = h2c(&origin);
    let cases: &[(&str, Fields<'_>)] = &[
        ("a header of a connection", &[("connection", "close")]),
        ("a coding", &[("transfer-encoding", "chunked")]),
        ("an upgrade", &[("upgrade", "h2c")]),
        ("more than trailers", &[("te", "gzip")]),
        ("a capital", &[("X-A", "1")]),
        ("a line break", &[("x", "a\r\nb: c")]),
        ("a line break in a name", &[("x\r\n", "a")]),
        ("no method", &[(":method", "")]),
        ("no path", &[(":path", "")]),
        ("a path without a slash", &[(":path", "a")]),
        ("an unknown pseudo-header", &[(":what", "1")]),
        ("a status", &[(":status", "200")]),
    ];
    for (what, changes) in cases {
        let mut client = Frames::connect(gateway.addr());
        let mut fields = get(changes);
        fields.sort_by_key(|field| !field.0.starts_with(':'));
        let outcome = client.request(&fields, None);
        assert!(
            matches!(outcome, Outcome::Reset(_) | Outcome::GoAway(_)),
            "{what}: {outcome:?}"
        );
    }
    for (what, fields) in [
        (
            "two methods",
            [&[(":method", "GET")][..], &get(&[])].concat(),
        ),
        (
            "a pseudo-header behind",
            [&get(&[(":path", "")])[..], &[("x", "1"), (":path", "/")]].concat(),
        ),
    ] {
        let outcome = Frames::connect(gateway.addr()).request(&fields, None);
        assert!(
            matches!(outcome, Outcome::Reset(_) | Outcome::GoAway(_)),
            "{what}: {outcome:?}"
        );
    }
    assert_eq!(origin.count(), 0);
    // A body that is not as long as it says never becomes a whole request.
    for body in [&b"hell"[..], b"hello!"] {
        let fields = get(&[(":method", "POST"), ("content-length", "5")]);
        let outcome = Frames::connect(gateway.addr()).request(&fields, Some(body));
        assert!(!matches!(outcome.status(), Some(200)), "{outcome:?}");
    }
    assert_eq!(origin.complete(), 0);
}

#[test]
fn a_connection_that_is_mostly_nonsense_ends() {
    let origin = origin();
    let gateway = h2c(&origin);
    let mut client = Frames::connect(gateway.addr());
    let outcomes: Vec<Outcome> = (0..40)
        .map(|_| client.request(&get(&[("host", "b.test")]), None))
        .collect();
    let ended = outcomes
        .iter()
        .position(|outcome| matches!(outcome, Outcome::Closed | Outcome::GoAway(_)));
    assert!(ended.is_some_and(|at| (20..40).contains(&at)), "{ended:?}");
}

#[test]
fn a_connection_that_is_ended_is_counted_by_its_reason() {
    let origin = origin();
    let listener =
        ", protocols: [h2c], timeouts: { header: 300ms }, limits: { requests_per_connection: 1 }";
    let gateway = setup(&origin, listener).spawn();
    let ask = frames::block(&get(&[]));
    let all = frames::END_HEADERS | frames::END_STREAM;
    let ways = [
        (
            "flood",
            frames::frame(frames::PING, 0, 0, &[0; 8]).repeat(1500),
        ),
        ("head", frames::frame(frames::HEADERS, 0, 1, &ask)),
        ("protocol", frames::frame(frames::DATA, 0, 0, b"x")),
        (
            "malformed",
            (0..32)
                .flat_map(|number| {
                    let refused = frames::block(&get(&[("host", "b.test")]));
                    frames::frame(frames::HEADERS, all, number * 2 + 1, &refused)
                })
                .collect(),
        ),
    ];
    for (reason, bytes) in ways {
        let name =
            format!("doorward_connections_ended_total{{listener=\"public\",reason=\"{reason}\"}}");
        assert_eq!(metric(&gateway, &name), Some(0), "{reason}");
        let mut client = Frames::connect(gateway.addr());
        client.raw(&bytes);
        metric_becomes(&gateway, &name, |count| count == 1);
        let told = gateway.process().wait_log(&format!("reason={reason}"));
        assert!(told.contains("connection ended"), "{told}");
    }
    // Whoever does not hear the goodbye has some more, and no others.
    let mut deaf = Frames::connect(gateway.addr()).impolite();
    let answered = (0..400).take_while(|_| deaf.request(&get(&[]), None).status() == Some(200));
    assert!(answered.count() < 250);
    let name = "doorward_connections_ended_total{listener=\"public\",reason=\"requests\"}";
    metric_becomes(&gateway, name, |count| count == 1);
}

#[test]
fn a_connection_says_goodbye_after_a_thousand_requests() {
    let origin = origin();
    let gateway = setup(&origin, ", protocols: [h2c]").spawn();
    let mut client = Frames::connect(gateway.addr());
    for _ in 0..999 {
        assert_eq!(client.request(&get(&[]), None).status(), Some(200));
    }
    let last = client.begin(&get(&[]), frames::END_STREAM);
    let (mut goodbye, mut answered) = (false, false);
    while !(goodbye && answered) {
        let frame = client
            .frame()
            .unwrap_or_else(|| panic!("goodbye {goodbye}, answered {answered}"));
        goodbye |= frame.kind == frames::GOAWAY && frame.payload[4..8] == [0; 4];
        answered |= frame.stream == last && frame.flags & frames::END_STREAM != 0;
    }
}

/// A client may be late to hear it: its new streams are passed over, and so is the room it gives them.
#[test]
fn what_comes_behind_the_goodbye_disturbs_nobody() {
    let gate = super::support::Gate::new();
    let held = gate.clone();
    let origin =
        Origin::answer(move |_| Reply::gated_length(200, &[], &[b"{\"status\":200}"], &held));
    let limits = ", protocols: [h2c], limits: { requests_per_connection: 2 }";
    let gateway = setup(&origin, limits).spawn();
    let mut client = Frames::connect(gateway.addr());
    let begun = [(); 2].map(|()| client.begin(&get(&[]), frames::END_STREAM));
    origin.wait_for(2);
    let mut goodbyes = Vec::new();
    while goodbyes.len() < 2 {
        let frame = client.frame().expect("a goodbye");
        if frame.kind == frames::GOAWAY {
            goodbyes.push(u32::from_be_bytes(frame.payload[..4].try_into().unwrap()));
        }
    }
    assert_eq!(goodbyes, [i32::MAX.unsigned_abs(), begun[1]]);
    let late = client.begin(&get(&[]), frames::END_STREAM);
    client.send(frames::WINDOW_UPDATE, 0, late, &[0, 0, 0, 9]);
    client.send(frames::PING, 0, 0, &[7; 8]);
    loop {
        let frame = client.frame().expect("the connection goes on");
        if frame.kind == frames::PING && frame.payload == [7; 8] {
            break;
        }
    }
    gate.open();
    let mut left = begun.to_vec();
    while !left.is_empty() {
        let frame = client.frame().expect("both answers");
        let cut = frame.kind == frames::RST_STREAM && begun.contains(&frame.stream);
        assert!(!cut, "stream {}: {:?}", frame.stream, frame.payload);
        left.retain(|stream| *stream != frame.stream || frame.flags & frames::END_STREAM == 0);
    }
}

#[test]
fn a_stop_lets_streams_end() {
    let gate = super::support::Gate::new();
    let held = gate.clone();
    let origin = Origin::answer(move |_| {
        Reply::gated_length(
            200,
            &[("content-type", "application/json")],
            &[b"{\"status\":200}"],
            &held,
        )
    });
    let gateway = h2c(&origin);
    let mut client = Frames::connect(gateway.addr());
    let stream = client.begin(&get(&[]), frames::END_STREAM);
    origin.wait_for(1);
    gateway.process().signal("TERM");
    let goodbye = loop {
        let frame = client.frame().unwrap();
        if frame.kind == frames::GOAWAY {
            break frame.payload[4..8].to_vec();
        }
    };
    assert_eq!(goodbye, [0; 4]);
    gate.release();
    assert_eq!(client.outcome(stream).status(), Some(200));
}

#[test]
fn http2_is_spoken_where_it_is_named() {
    let origin = origin();
    let plain = setup(&origin, "").spawn();
    let mut client = Frames::connect(plain.addr());
    assert!(!matches!(
        client.request(&get(&[]), None),
        Outcome::Answer(_)
    ));
    let only = setup(&origin, ", protocols: [h2c]").spawn();
    assert!(only.client().try_request("GET", "/", &[], b"").is_err());
    assert_eq!(
        Frames::connect(only.addr())
            .request(&get(&[]), None)
            .status(),
        Some(200)
    );
}

/// What curl says of a request: the version it spoke, and the status.
fn curl(gateway: &Gateway, options: &[&str]) -> String {
    let url = format!("https://a.test:{}/", gateway.addr().port());
    let resolve = format!("a.test:{}:127.0.0.1", gateway.addr().port());
    let mut command = Command::new("curl");
    command.args([
        "-sS",
        "-o",
        "body",
        "-w",
        "%{http_version} %{response_code}",
        "--cacert",
        "ca.pem",
        "--resolve",
        &resolve,
    ]);
    let done = run(
        command.args(options).arg(url).current_dir(gateway.dir()),
        DEADLINE,
    );
    format!("{}{}", done.stdout, done.stderr)
}

#[test]
fn the_version_is_agreed_upon_by_alpn() {
    let (pki, origin) = (Pki::new(), origin());
    let pair = pki.issue(&["a.test"]);
    let tls = ", tls: { certificates: [{ cert_file: a.pem, key_file: a.key }] }";
    let secure = |listener: &str| {
        setup(&origin, listener)
            .file("a.pem", &pair.cert)
            .file("a.key", &pair.key)
            .file("ca.pem", &pki.ca)
            .spawn()
    };
    let gateway = secure(tls);
    assert_eq!(curl(&gateway, &[]), "2 200");
    assert_eq!(origin.last().header("x-forwarded-proto"), Some("https"));
    assert_eq!(curl(&gateway, &["--http1.1"]), "1.1 200");
    assert_eq!(curl(&gateway, &["--no-alpn"]), "1.1 200");
    let data = "x".repeat(300_000);
    std::fs::write(gateway.dir().join("data"), &data).unwrap();
    assert_eq!(curl(&gateway, &["--data-binary", "@data"]), "2 200");
    assert_eq!(origin.last().body_len, 300_000);
    let gateway = secure(&format!("{tls}, protocols: [http1]"));
    assert_eq!(curl(&gateway, &[]), "1.1 200");
    let gateway = secure(&format!("{tls}, protocols: [http2]"));
    assert_eq!(curl(&gateway, &[]), "2 200");
    assert!(curl(&gateway, &["--http1.1"]).starts_with("0 000"));
}

#[test]
fn an_upstream_may_speak_http2() {
    let pki = Pki::new();
    let pair = pki.issue(&["127.0.0.1"]);
    let origin = origin();
    let inner = Setup::new(&format!(
        "version: 1\nlisteners:\n  plain: {{ address: \"127.0.0.1:0\", protocols: [h2c] }}\n\
         \x20 tls: {{ address: \"127.0.0.1:0\", protocols: [http2], tls: {{ certificates: [{{ cert_file: a.pem, key_file: a.key }}] }} }}\n\
         upstreams: {{ o: {{ targets: [{{ url: \"{}\" }}] }} }}\n\
         routes: [{{ name: all, match: {{ path_prefix: / }}, upstream: o }}]\n",
        origin.url()
    ))
    .file("a.pem", &pair.cert)
    .file("a.key", &pair.key)
    .spawn();
    let (plain, tls) = (inner.addr_of("plain"), inner.addr_of("tls"));
    for (what, upstream) in [
        (
            "by its scheme",
            format!("targets: [{{ url: \"h2c://{plain}\" }}]"),
        ),
        (
            "by its protocol",
            format!("targets: [{{ url: \"http://{plain}\" }}], protocol: h2c"),
        ),
        (
            "by ALPN",
            format!(
                "targets: [{{ url: \"https://{tls}\" }}], protocol: http2, tls: {{ ca_file: ca.pem }}"
            ),
        ),
    ] {
        let outer = Setup::new(&format!(
            "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\", protocols: [http1, h2c] }} }}\n\
             upstreams: {{ o: {{ {upstream} }} }}\nroutes: [{{ name: all, match: {{ path_prefix: / }}, upstream: o }}]\n"
        ))
        .file("ca.pem", &pki.ca)
        .spawn();
        let body = vec![b'x'; 200_000];
        let mut client = outer.client();
        for _ in 0..3 {
            let answer = client.request("POST", "/p?q", &[("Host", "a.test")], &body);
            assert_eq!(answer.status, 200, "{what}");
            let seen = origin.last();
            assert_eq!(
                (seen.target.as_str(), seen.header("host"), seen.body_len),
                ("/p?q", Some("a.test"), 200_000)
            );
            let via = seen.header("via").unwrap();
            assert!(
                via.starts_with("1.1 ") && via.contains(", 2 "),
                "{what}: {via}"
            );
        }
        assert_eq!(
            Frames::connect(outer.addr())
                .request(&get(&[]), None)
                .status(),
            Some(200),
            "{what}"
        );
        assert_eq!(
            Frames::connect(outer.addr())
                .request(&get(&[(":method", "POST")]), Some(b"x"))
                .status(),
            Some(200),
            "{what}"
        );
    }
}
