//! What is written of an upstream holds also where an authenticator asks it: what it is shown, when nothing is sent, whom it is told of.

use super::{Policyd, ask, config, unavailable};
use crate::support::{Client, Gateway, Nginx, Origin, Reply, Setup};

const FORWARD: &str =
    "forward: { upstream: auth, path: /verify, send: [\"header:authorization\"], keep: [x-user] }";

fn upstream(url: &str, keys: &str) -> String {
    format!("auth: {{ targets: [{{ url: \"{url}\" }}], {keys} }}")
}

#[test]
fn a_service_is_shown_the_credential_of_its_upstream() {
    let (service, origin) = (Origin::answer(|_| Reply::ok("")), Origin::echo());
    for (credential, name, value) in [
        (
            "header: { name: x-gateway, value: { file: secret.txt } }",
            "x-gateway",
            "s3cr3t",
        ),
        (
            "basic: { username: gw, password: { file: secret.txt } }",
            "authorization",
            "Basic Z3c6czNjcjN0",
        ),
    ] {
        let keys = format!("credentials: {{ {credential} }}");
        let text = config(
            FORWARD,
            "[asked]",
            &upstream(&service.url(), &keys),
            &origin,
        );
        let gateway = Setup::new(&text).file("secret.txt", "s3cr3t").spawn();
        ask(&gateway, "/", &[("Authorization", "Bearer of-the-client")]).expect(200);
        assert_eq!(service.last().headers_all(name), [value]);
        assert_eq!(origin.last().header("x-gateway"), None);
    }
}

#[test]
fn a_service_that_fails_is_left_alone_and_nobody_comes_in() {
    let (service, origin) = (
        Origin::answer(|_| Reply::fixed(500, &[], "")),
        Origin::echo(),
    );
    let keys = "retries: none, circuit_breaker: { min_requests: 2, open_for: 1m }";
    let upstream = upstream(&service.url(), keys);
    let gateway = Gateway::spawn(&config(FORWARD, "[asked]", &upstream, &origin));
    for _ in 0..4 {
        unavailable(&ask(&gateway, "/", &[]));
    }
    assert_eq!((service.count(), origin.count()), (2, 0));
}

#[test]
fn a_service_of_envoys_that_fails_is_left_alone_too() {
    let (policyd, origin) = (Policyd::start(), Origin::echo());
    let keys = "retries: none, circuit_breaker: { min_requests: 2, open_for: 1m, errors: [grpc_unavailable] }";
    let url = format!("h2c://127.0.0.1:{}", policyd.port);
    let text = config(
        "ext_authz: { upstream: auth, timeout: 5s }",
        "[asked]",
        &upstream(&url, keys),
        &origin,
    );
    let gateway = Gateway::spawn(&text);
    for _ in 0..4 {
        unavailable(&ask(&gateway, "/error", &[]));
    }
    assert_eq!((policyd.count(), origin.count()), (2, 0));
}

#[test]
fn a_service_is_told_who_the_client_is() {
    let nginx = Nginx::start_http(|addr, _| {
        format!(
            "server {{ listen {addr} proxy_protocol; \
             add_header x-user \"$proxy_protocol_addr:$proxy_protocol_port\"; location / {{ return 200 ok; }} }}"
        )
    });
    let origin = Origin::echo();
    for version in ["v1", "v2"] {
        let upstream = upstream(&nginx.url(), &format!("proxy_protocol: {version}"));
        let gateway = Gateway::spawn(&config(FORWARD, "[asked]", &upstream, &origin));
        for mut client in [
            gateway.client(),
            Client::from([127, 0, 0, 5], gateway.addr()),
        ] {
            client.get("/").expect(200);
            let told = client.local_addr().to_string();
            assert_eq!(origin.last().header("x-user"), Some(told.as_str()));
        }
    }
}
