//! Whoever is slow itself is to blame for it: no target is left alone, and no upstream, because its clients take their time.

use std::time::Duration;

use super::control::{at_socket, metric};
use super::support::{Client, Gate, Gateway, Origin, Reply, Response};

const CALLED: &str = ", request: { body: { omit: [x] } }";
/// A body, and the end of it.
const BODY: (&str, &str) = ("{\"a\":1", "}");

fn before(targets: &[&Origin], upstream: &str, route: &str) -> Gateway {
    let targets = targets
        .iter()
        .map(|origin| format!("{{ url: \"{}\" }}", origin.url()));
    let targets = targets.collect::<Vec<_>>().join(", ");
    Gateway::spawn(&format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\" }} }}\nadmin: {{ socket: admin.sock }}\n\
         upstreams: {{ o: {{ targets: [{targets}], retries: none, {upstream} }} }}\n\
         routes: [{{ name: all, match: {{ path_prefix: / }}, upstream: o{route} }}]\n"
    ))
}

fn ask(gateway: &Gateway) -> Response {
    gateway
        .client()
        .request("GET", "/", &[("Host", "a.test")], b"")
}

/// A request whose last byte is still to come.
fn begun(gateway: &Gateway) -> Client {
    let mut client = gateway.client();
    let (most, last) = BODY;
    let length = most.len() + last.len();
    let head = format!(
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    assert!(client.send_raw(&[head.as_bytes(), most.as_bytes()].concat()));
    client
}

/// Requests that are sent for so long; their answers' status.
fn slowly(gateway: &Gateway, requests: usize, span: Duration) -> Vec<u16> {
    let mut clients: Vec<Client> = (0..requests).map(|_| begun(gateway)).collect();
    std::thread::sleep(span);
    for client in &mut clients {
        // It may have been given up.
        client.send_raw(BODY.1.as_bytes());
    }
    let statuses = clients
        .iter_mut()
        .map(|client| client.response("POST").status);
    statuses.collect()
}

#[test]
fn a_slow_upload_is_no_slow_answer() {
    for route in ["", CALLED] {
        let origin = Origin::answer(|_| Reply::ok("good"));
        let breaker = "circuit_breaker: { min_requests: 2, slow_after: 1500ms, slow_rate: 50%, open_for: 1m }";
        let gateway = before(&[&origin], breaker, route);
        let statuses = slowly(&gateway, 3, Duration::from_millis(1700));
        assert_eq!(statuses, [200; 3], "{route}");
        ask(&gateway).expect(200);
        let told: serde_json::Value =
            serde_json::from_str(&at_socket(&gateway, "/breakers")).unwrap();
        assert_eq!(told[0]["state"], "closed", "{told}");
    }
}

#[test]
fn a_time_that_the_upload_used_up_is_nobodys() {
    for route in ["", CALLED] {
        let (one, two) = (
            Origin::answer(|_| Reply::ok("good")),
            Origin::answer(|_| Reply::ok("good")),
        );
        let clauses = "timeouts: { total: 400ms }, circuit_breaker: { min_requests: 2, open_for: 1m }, \
             load_balancing: round_robin, panic_threshold: 0%, \
             outlier_detection: { consecutive_errors: 1, base_ejection_time: 10m, max_ejected: 100% }";
        let gateway = before(&[&one, &two], clauses, route);
        let statuses = slowly(&gateway, 4, Duration::from_millis(700));
        assert_eq!(statuses, [504; 4], "the contract holds for the client");
        ask(&gateway).expect(200);
        let ejections = "doorward_upstream_ejections_total{upstream=\"o\"}";
        assert_eq!(metric(&gateway, ejections), Some(0), "{route}");
    }
}

#[test]
fn a_client_that_does_not_read_makes_no_target_late() {
    let origin = Origin::answer(|asked| match asked.path.as_str() {
        "/large" => Reply::large(64 * 1024 * 1024),
        _ => Reply::ok("good"),
    });
    let clauses = "timeouts: { total: 500ms }, circuit_breaker: { min_requests: 2, open_for: 1m }";
    let gateway = before(&[&origin], clauses, "");
    for connection in 0..3 {
        let mut client = gateway.client();
        client.send_request("GET", "/large", &[("Host", "a.test")], b"");
        origin.wait_for(connection + 1);
        origin.wait_closed(usize::try_from(connection).unwrap());
    }
    ask(&gateway).expect(200);
}

#[test]
fn a_target_that_is_late_is_still_to_blame() {
    for route in ["", CALLED] {
        let gate = Gate::new();
        let held = gate.clone();
        let origin = Origin::answer(move |_| Reply::never(&held));
        let clauses =
            "timeouts: { total: 300ms }, circuit_breaker: { min_requests: 2, open_for: 1m }";
        let gateway = before(&[&origin], clauses, route);
        for status in [504, 504, 503] {
            let headers = [("Host", "a.test"), ("Content-Type", "application/json")];
            let body = [BODY.0, BODY.1].concat();
            let mut client = gateway.client();
            let answer = client.request("POST", "/", &headers, body.as_bytes());
            assert_eq!(answer.status, status, "{route}");
        }
        gate.open();
    }
}
