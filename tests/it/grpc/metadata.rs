//! Metadata of calls (I09): what servers would read differently never reaches one, nor does what only a server or the gateway says.

use crate::support::{Frames, Gateway, Origin, Outcome};

fn gateway(origin: &Origin) -> Gateway {
    Gateway::spawn(&format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\", protocols: [http1, h2c] }} }}\n\
         upstreams: {{ o: {{ targets: [{{ url: \"{}\" }}] }} }}\n\
         routes: [{{ name: all, match: {{ path_prefix: / }}, upstream: o, identity: {{ headers: {{ x-team-bin: \"{{route.name}}\" }} }} }}]\n",
        origin.url()
    ))
}

fn ask(gateway: &Gateway, kind: &str, metadata: &[(&str, &str)]) -> Outcome {
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "a.test"),
        (":path", "/a.B/C"),
        ("content-type", kind),
        ("te", "trailers"),
    ];
    let fields = [&fields[..], metadata].concat();
    Frames::connect(gateway.addr()).request(&fields, Some(b"\0\0\0\0\0"))
}

#[test]
fn metadata_that_is_no_base64_is_refused_before_a_server_sees_it() {
    let origin = Origin::echo();
    let gateway = gateway(&origin);
    for bad in [
        &[("x-trace-bin", "no base64!")][..],
        &[("x-trace-bin", "aGk"), ("x-trace-bin", "a")],
        &[("grpc-trace-bin", "a_8")],
        &[("grpc-timeout", "1S"), ("grpc-timeout", "1H")],
    ] {
        let outcome = ask(&gateway, "application/grpc+proto", bad);
        // A head alone, with a status of gRPC.
        assert_eq!(outcome, Outcome::Answer(String::new()), "{bad:?}");
    }
    assert_eq!(origin.count(), 0);
    gateway.process().wait_log("\"error.type\":\"bad_request\"");
    // What is no call may say what it likes.
    let plain = ask(
        &gateway,
        "application/json",
        &[("x-trace-bin", "no base64!")],
    );
    assert!(matches!(plain, Outcome::Answer(_)), "{plain:?}");
    assert_eq!(origin.last().header("x-trace-bin"), Some("no base64!"));
}

#[test]
fn what_only_a_server_or_the_gateway_says_is_taken_off_a_call() {
    let origin = Origin::echo();
    let gateway = gateway(&origin);
    let told = [
        ("grpc-status", "0"),
        ("grpc-message", "fine"),
        ("grpc-status-details-bin", "aGk"),
        ("x-user-id-bin", "YWRtaW4"),
        ("x-real-ip-bin", "fwAAAQ"),
        ("x-team-bin", "YWRtaW4"),
        ("grpc-previous-rpc-attempts", "1"),
        ("x-trace-bin", "aGk="),
    ];
    let outcome = ask(&gateway, "application/grpc", &told);
    assert!(matches!(outcome, Outcome::Answer(_)), "{outcome:?}");
    let seen = origin.last();
    for (name, _) in &told[..5] {
        assert_eq!(seen.header(name), None, "{name}");
    }
    assert_eq!(seen.headers_all("x-team-bin"), ["all"]);
    // What gRPC keeps for its two sides passes, and so does what is the application's.
    for (name, value) in &told[6..] {
        assert_eq!(seen.header(name), Some(*value), "{name}");
    }
}
