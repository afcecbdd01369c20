//! Connections to targets: how many there may be, how long they are kept, and for whom they are.
#![expect(
    clippy::disallowed_methods,
    reason = "a test stops at the first thing that is not as expected"
)]

use std::collections::BTreeSet;
use std::time::Instant;

use super::support::{
    Client, DEADLINE, Gate, Gateway, Nginx, Origin, Reply, Setup, free_port, get,
};

/// An upstream with these keys in front of these targets.
fn config(keys: &str, targets: &[String]) -> String {
    let targets: Vec<String> = targets
        .iter()
        .map(|url| format!("{{ url: \"{url}\" }}"))
        .collect();
    let targets = targets.join(", ");
    format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\" }} }}\nadmin: {{ socket: admin.sock }}\n\
         upstreams: {{ o: {{ {keys}, targets: [{targets}] }} }}\n\
         routes:\n  - {{ name: called, match: {{ path_prefix: /called }}, response: {{ body: {{ set: {{ seen: true }} }} }}, upstream: o }}\n  \
         - {{ name: all, match: {{ path_prefix: / }}, upstream: o }}\n"
    )
}

/// An nginx that tells what the PROXY header of the connection says.
fn told_of(listen: &str) -> Nginx {
    Nginx::start_http(|addr, _| {
        format!(
            "default_type application/json; server {{ listen {addr} proxy_protocol {listen}; location / {{ return 200 \
             '{{\"client\":\"$proxy_protocol_addr:$proxy_protocol_port\",\"port\":$proxy_protocol_server_port,\"connection\":$connection}}'; }} }}"
        )
    })
}

#[test]
fn targets_are_told_who_the_client_is() {
    for (version, listen, scheme) in [
        ("v1", "", "http"),
        ("v2", "", "http"),
        ("v2", "http2", "h2c"),
    ] {
        let nginx = told_of(listen);
        let url = format!("{scheme}://{}", nginx.addr());
        let gateway = Gateway::spawn(&config(&format!("proxy_protocol: {version}"), &[url]));
        let mut connections = BTreeSet::new();
        let mut clients = [
            gateway.client(),
            Client::from([127, 0, 0, 5], gateway.addr()),
        ];
        for client in &mut clients {
            let mut own = BTreeSet::new();
            for path in ["/", "/again", "/called", "/called/again"] {
                let told = client.get(path).expect(200).json();
                assert_eq!(
                    told["client"],
                    client.local_addr().to_string(),
                    "{version} {path}"
                );
                assert_eq!(told["port"], gateway.addr().port(), "{version} {path}");
                let called = path.starts_with("/called");
                assert_eq!(told["seen"] == true, called);
                own.insert((called, told["connection"].as_u64().unwrap()));
            }
            // What is streamed and what is called has connections of its own; each is used again.
            assert_eq!(own.len(), 2, "{version}: {own:?}");
            connections.extend(own.into_iter().map(|(_, connection)| connection));
        }
        assert_eq!(
            connections.len(),
            4,
            "no connection is shared by two clients"
        );
    }
}

#[test]
fn behind_a_load_balancer_its_client_is_told() {
    let nginx = told_of("");
    let config = config("proxy_protocol: v2", &[nginx.url()]).replace(
        "\"127.0.0.1:0\" }",
        "\"127.0.0.1:0\", proxy_protocol: { from: [127.0.0.1] } }",
    );
    let gateway = Gateway::spawn(&config);
    let mut client = gateway.client();
    client.send_raw(b"PROXY TCP4 192.0.2.7 10.0.0.1 12345 443\r\n");
    let told = client.get("/").expect(200).json();
    assert_eq!(told["client"], "192.0.2.7:12345");
}

#[test]
fn a_target_that_is_told_and_not_there_is_502() {
    let url = format!("http://127.0.0.1:{}", free_port());
    let gateway = Gateway::spawn(&config("proxy_protocol: v1", &[url]));
    let answer = get(gateway.addr(), "/", "a.test").expect(502);
    assert_eq!(answer.json()["type"], "urn:doorward:error:connect_failure");
}

#[test]
fn a_target_has_no_more_connections_than_it_may() {
    let gate = Gate::new();
    let origin = |gate: &Gate| {
        let gate = gate.clone();
        Origin::answer(move |request| {
            let reply = Reply::ok("");
            if request.path.contains("held") {
                reply.after(&gate)
            } else {
                reply
            }
        })
    };
    let all = [origin(&gate), origin(&gate)];
    let targets = all.each_ref().map(Origin::url);
    let keys = "load_balancing: round_robin, connections: { max_per_target: 1 }";
    let gateway = Gateway::spawn(&config(keys, &targets));
    let held: Vec<Client> = ["/held", "/called/held"]
        .into_iter()
        .zip(1..)
        .map(|(path, count)| {
            let mut client = gateway.client();
            client.send_request("GET", path, &[], b"");
            gate.wait_until_waiting(count);
            client
        })
        .collect();
    assert_eq!(
        all.each_ref().map(Origin::count),
        [1, 1],
        "each has its one"
    );
    for path in ["/", "/called"] {
        let refused = get(gateway.addr(), path, "a.test").expect(503);
        assert_eq!(refused.json()["type"], "urn:doorward:error:overload");
        assert!(refused.header("retry-after").is_some());
    }
    gate.open();
    for mut client in held {
        client.response("GET").expect(200);
    }
    let mut client = gateway.client();
    while client.get("/").status != 200 {
        // The last one may not have ended for the gateway.
    }
    assert_eq!(all.iter().map(Origin::count).sum::<u64>(), 3);
}

#[test]
fn a_connection_that_nobody_uses_is_closed() {
    let origin = Origin::echo();
    let gateway = Gateway::spawn(&config("connections: { idle: 200ms }", &[origin.url()]));
    gateway.client().get("/").expect(200);
    origin.wait_closed(0);
    gateway.client().get("/").expect(200);
    assert_eq!(origin.connections().len(), 2);
}

#[test]
fn a_connection_that_is_too_old_gets_no_new_request() {
    let origin = Origin::echo();
    let age = |age: &str| config(&format!("connections: {{ {age} }}"), &[origin.url()]);
    let setup = Setup::new(&age("idle: 50s"));
    let gateway = setup.spawn();
    let mut client = gateway.client();
    for _ in 0..20 {
        client.get("/").expect(200);
    }
    assert_eq!(origin.connections().len(), 1);
    let gateway = Setup::new(&age("max_age: 250ms")).spawn();
    let (mut client, began) = (gateway.client(), Instant::now());
    // So long that a span ends twice while it is in use.
    while origin.connections().len() < 4 {
        client.get("/").expect(200);
        assert!(began.elapsed() < DEADLINE, "it is never too old");
    }
    let seen = origin.connections();
    assert!(
        // The last one has just begun.
        seen[..3].iter().all(|connection| connection.requests > 1),
        "each was used again: {seen:?}"
    );
}

#[test]
fn so_many_requests_share_a_connection_of_http2() {
    let gate = Gate::new();
    let origin = {
        let gate = gate.clone();
        Origin::answer(move |_| Reply::ok("").after(&gate))
    };
    let nginx = Nginx::start_http(|addr, _| {
        format!(
            "server {{ listen {addr} http2; location / {{ proxy_pass {}; proxy_http_version 1.1; proxy_set_header connection ''; proxy_set_header x-connection $connection; }} }}",
            origin.url()
        )
    });
    let url = format!("h2c://{}", nginx.addr());
    let gateway = Gateway::spawn(&config("connections: { http2_streams: 2 }", &[url]));
    let mut clients: Vec<Client> = (0..5).map(|_| gateway.client()).collect();
    for (client, count) in clients.iter_mut().zip(1..) {
        client.send_request("GET", "/", &[], b"");
        gate.wait_until_waiting(count);
    }
    let requests = origin.requests();
    let connections: BTreeSet<&str> = requests
        .iter()
        .filter_map(|request| request.header("x-connection"))
        .collect();
    assert_eq!(connections.len(), 3, "{connections:?}");
    gate.open();
    for mut client in clients {
        client.response("GET").expect(200);
    }
}
