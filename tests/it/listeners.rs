//! Listeners that come, go and move by a reload, and many of them.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};

use serde_json::Value as Json;

use super::support::{
    Client, DEADLINE, Frames, Gate, Gateway, Origin, Pki, Reply, Response, Setup, Tls, free_port,
    get, run_cli, scale,
};

/// A config with these listeners, each with an answer that names it.
fn config(listeners: &[(&str, &str)]) -> String {
    let written = listeners
        .iter()
        .map(|(name, rest)| format!("  {name}: {{ {rest} }}\n"));
    let routes = listeners.iter().map(|(name, _)| {
        format!("  - {{ name: {name}, match: {{ path: /, listeners: [{name}] }}, respond: {{ text: {name} }} }}\n")
    });
    format!(
        "version: 1\nadmin: {{ socket: admin.sock }}\nlisteners:\n{}routes:\n{}",
        written.collect::<String>(),
        routes.collect::<String>()
    )
}

#[track_caller]
fn reload(gateway: &Gateway, config: &str, code: i32) -> String {
    gateway.write_config(config);
    let output = run_cli(&["reload", "--admin", "./admin.sock"], gateway.dir());
    assert_eq!(output.code, code, "{}", output.stderr);
    output.stderr
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Waits until the listener `name` is not at `addr` any more: who waited to be accepted is served first, and somebody
/// else's gateway may have the port already.
#[track_caller]
fn gone(addr: SocketAddr, name: &str) {
    wait_for(|| {
        let Ok(mut client) = Client::try_connect(addr) else {
            return true;
        };
        let answer = client.try_request("GET", "/", &[("Host", "a")], b"");
        answer.is_ok_and(|answer| answer.text() != name)
    });
}

#[track_caller]
#[expect(clippy::disallowed_methods, reason = "a test has a deadline")]
fn wait_for(done: impl Fn() -> bool) {
    let began = std::time::Instant::now();
    while !done() {
        assert!(began.elapsed() < DEADLINE, "it never came to that");
        std::thread::yield_now();
    }
}

#[test]
fn a_reload_opens_and_closes_listeners() {
    let (one, two) = (free_port(), free_port());
    let (a, b) = (
        format!("address: \"127.0.0.1:{one}\""),
        format!("address: [\"127.0.0.1:{two}\", \"unix:/tmp/doorward-{two}.sock\"]"),
    );
    let start = config(&[("public", "address: \"127.0.0.1:0\""), ("a", &a)]);
    let gateway = Gateway::spawn(&start);
    let mut kept = gateway.client();
    assert_eq!(kept.get("/").text(), "public");
    let mut leaving = Client::connect(at(one));
    assert_eq!(leaving.get("/").text(), "a");
    reload(
        &gateway,
        &config(&[("b", &b), ("public", "address: \"127.0.0.1:0\"")]),
        0,
    );
    assert_eq!(get(at(two), "/", "b").text(), "b");
    assert!(std::path::Path::new(&format!("/tmp/doorward-{two}.sock")).exists());
    gone(at(one), "a");
    // Who was connected gets one more answer.
    let last = leaving.get("/");
    assert_eq!(
        (last.text().as_str(), last.header("connection")),
        ("a", Some("close"))
    );
    assert_eq!(kept.get("/").text(), "public");
    assert_eq!(get(gateway.addr(), "/", "x").text(), "public");
    let status = run_cli(
        &["status", "--admin", "./admin.sock", "--format", "json"],
        gateway.dir(),
    );
    assert!(
        status.stdout.contains(&format!("http://127.0.0.1:{two}"))
            && !status.stdout.contains(&one.to_string()),
        "{}",
        status.stdout
    );
    reload(&gateway, &start, 0);
    assert_eq!(get(at(one), "/", "a").text(), "a");
    gone(at(two), "b");
    let path = format!("/tmp/doorward-{two}.sock");
    wait_for(|| !std::path::Path::new(&path).exists());
    assert_eq!(kept.get("/").text(), "public");
}

#[test]
fn an_address_that_cannot_be_had_changes_nothing() {
    let gateway = Gateway::spawn(&config(&[("public", "address: \"127.0.0.1:0\"")]));
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("it is bound").port();
    let other = free_port();
    let (a, b) = (
        format!("address: \"127.0.0.1:{other}\""),
        format!("address: \"127.0.0.1:{port}\""),
    );
    let said = reload(&gateway, &config(&[("a", &a), ("b", &b)]), 78);
    assert!(
        said.contains(&format!("cannot listen on 127.0.0.1:{port}")),
        "{said}"
    );
    assert_eq!(gateway.client().get("/").text(), "public");
    // What was opened for nothing is closed.
    gone(at(other), "a");
}

#[test]
fn an_address_may_go_to_another_listener() {
    let (one, two) = (free_port(), free_port());
    let (a, b) = (
        format!("address: \"127.0.0.1:{one}\""),
        format!("address: \"127.0.0.1:{two}\""),
    );
    let gateway = Gateway::spawn(&config(&[
        ("public", "address: \"127.0.0.1:0\""),
        ("a", &a),
        ("b", &b),
    ]));
    assert_eq!(get(at(one), "/", "x").text(), "a");
    reload(
        &gateway,
        &config(&[("public", "address: \"127.0.0.1:0\""), ("a", &b), ("b", &a)]),
        0,
    );
    assert_eq!(get(at(one), "/", "x").text(), "b");
    assert_eq!(get(at(two), "/", "x").text(), "a");
}

#[test]
fn a_request_in_flight_outlives_its_listener() {
    let gate = Gate::new();
    let held = gate.clone();
    let origin = Origin::answer(move |_| Reply::gated_length(200, &[], &[b"late"], &held));
    let port = free_port();
    let config = |more: &str| {
        format!(
            "version: 1\nadmin: {{ socket: admin.sock }}\nlisteners: {{ public: {{ address: \"127.0.0.1:0\" }}{more} }}\n\
             upstreams: {{ o: {{ targets: [{{ url: \"{}\" }}] }} }}\n\
             routes: [{{ name: all, match: {{ path_prefix: / }}, upstream: o }}]\n",
            origin.url()
        )
    };
    let gateway = Gateway::spawn(&config(&format!(
        ", a: {{ address: \"127.0.0.1:{port}\", protocols: [http1, h2c] }}"
    )));
    let mut client = Client::connect(at(port));
    client.send_request("GET", "/", &[], b"");
    let mut frames = Frames::connect(at(port));
    let head = [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "a.test"),
        (":path", "/"),
    ];
    let stream = frames.begin(&head, super::support::frames::END_STREAM);
    origin.wait_for(2);
    reload(&gateway, &config(""), 0);
    gate.release_many(2);
    let answer: Response = client.response("GET");
    assert_eq!(answer.text(), "late");
    assert_eq!(
        frames.outcome(stream),
        super::support::Outcome::Answer("late".to_owned())
    );
}

/// The listeners of the running gateway, and where each is.
#[expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first thing that is not as expected"
)]
fn open(gateway: &Gateway) -> BTreeMap<String, SocketAddr> {
    let args = ["status", "--admin", "./admin.sock", "--format", "json"];
    let status = run_cli(&args, gateway.dir());
    let status: Json = serde_json::from_str(&status.stdout).expect("JSON");
    let listeners = status["listeners"].as_array().expect("a list").iter();
    let each = listeners.map(|listener| {
        let text = |key: &str| listener[key].as_str().expect("a text");
        let (_, address) = text("address").split_once("://").expect("a URL");
        (
            text("name").to_owned(),
            address.parse().expect("an address"),
        )
    });
    each.collect()
}

/// Every other one speaks TLS; with each reload 16 go and 16 come.
#[test]
fn there_may_be_64_listeners() {
    let pki = Pki::new();
    let pair = pki.issue(&["a.test"]);
    let is_tls = |index: u64| index % 2 == 1;
    let of_round = |round: u64| {
        let names: Vec<String> = (round * 16..round * 16 + 64)
            .map(|index| format!("l{index}"))
            .collect();
        let each = names.iter().zip(round * 16..);
        let listeners: Vec<(&str, &str)> = each
            .map(|(name, index)| {
                let tls = "address: \"127.0.0.1:0\", tls: { certificates: [{ cert_file: a.pem, key_file: a.key }] }";
                let plain = "address: \"127.0.0.1:0\"";
                (name.as_str(), if is_tls(index) { tls } else { plain })
            })
            .collect();
        config(&listeners)
    };
    let gateway = Setup::new(&of_round(0))
        .file("a.pem", &pair.cert)
        .file("a.key", &pair.key)
        .spawn();
    let answers = |addr: SocketAddr, index: u64| {
        if is_tls(index) {
            let mut client = Tls::new(&pki.ca, "a.test").connect(addr);
            client
                .request("GET", "/", &[("Host", "a.test")], b"")
                .text()
        } else {
            get(addr, "/", "a.test").text()
        }
    };
    let mut before = open(&gateway);
    for round in 0..=scale(40).max(2) {
        if round > 0 {
            reload(&gateway, &of_round(round), 0);
        }
        let now = open(&gateway);
        assert_eq!(now.len(), 64, "round {round}");
        for index in round * 16..round * 16 + 64 {
            let name = format!("l{index}");
            assert_eq!(answers(now[&name], index), name, "round {round}");
            // Who stays, stays where it was.
            assert!(before.get(&name).is_none_or(|addr| *addr == now[&name]));
        }
        for (name, addr) in before.iter().filter(|(name, _)| !now.contains_key(*name)) {
            gone(*addr, name);
        }
        before = now;
    }
}
