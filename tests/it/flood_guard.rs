//! An address that comes far too often: held off before anything of it is read, while others notice nothing.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test stops at the first thing that is not as expected"
)]

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use super::support::frames::{
    END_HEADERS, END_STREAM, HEADERS, RST_STREAM, WINDOW_UPDATE, block, frame,
};
use super::support::{Client, DEADLINE, Frames, Gateway, Origin, Reply, Setup, get, scale};

fn before(origin: &Origin, listener: &str) -> Gateway {
    Setup::new(&format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\", {listener} }} }}\nadmin: {{ socket: admin.sock }}\n\
         upstreams: {{ o: {{ targets: [{{ url: \"{}\" }}] }} }}\n\
         routes: [{{ name: all, match: {{ path_prefix: / }}, upstream: o }}]\n",
        origin.url()
    ))
    .spawn()
}

/// The value of the metric that begins so.
fn metric(gateway: &Gateway, series: &str) -> u64 {
    let mut stream = UnixStream::connect(gateway.dir().join("admin.sock")).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let request = "GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let line = answer.lines().find(|line| line.starts_with(series));
    let value = line.and_then(|line| line.rsplit(' ').next());
    value.and_then(|value| value.parse().ok()).unwrap_or(0)
}

/// How many of a second may have come since: the seconds that began are counted, each with all it may have.
fn most(each_second: u64, began: Instant) -> u64 {
    each_second * (began.elapsed().as_secs() + 2)
}

fn warnings(gateway: &Gateway) -> usize {
    gateway.log().matches("a flood is held off").count()
}

#[test]
fn who_connects_too_often_is_closed_and_others_are_not() {
    let origin = Origin::echo();
    let gateway = before(&origin, "limits: { connection_rate_per_ip: 20/s }");
    let (began, mut came, mut closed) = (Instant::now(), 0, 0);
    for number in 0..scale(10_000) {
        let mut client = gateway.client();
        client.send_request("GET", "/", &[], b"");
        match client.try_response("GET") {
            Ok(answer) => {
                answer.expect(200);
                came += 1;
            }
            Err(_) => closed += 1,
        }
        // A neighbour that comes once meanwhile, from an address of its own.
        if number % 10 == 0 {
            let source = [127, 0, 1, u8::try_from(number / 10 % 200).unwrap()];
            Client::from(source, gateway.addr()).get("/").expect(200);
        }
    }
    assert!((20..=most(20, began)).contains(&came), "{came} came");
    assert!(closed > 0);
    let series = "doorward_connections_refused_total{limit=\"connection_rate_per_ip\"";
    assert_eq!(metric(&gateway, series), closed);
    gateway.process().wait_log("connection_rate_per_ip");
    let told = u64::try_from(warnings(&gateway)).unwrap();
    assert!(told <= most(1, began), "{told} warnings");
}

#[test]
fn who_comes_anew_to_flood_again_is_not_let_in() {
    let origin = Origin::echo();
    let gateway = before(&origin, "protocols: [http1, h2c]");
    let series = "doorward_connections_refused_total{limit=\"misuse\"";
    // More than anybody may take back on one connection.
    let fields = [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "a.test"),
        (":path", "/"),
    ];
    let taken_back: Vec<u8> = (0..300u32)
        .flat_map(|number| {
            let stream = number * 2 + 1;
            let head = frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&fields));
            [head, frame(RST_STREAM, 0, stream, &8u32.to_be_bytes())].concat()
        })
        .collect();
    let (began, mut held) = (Instant::now(), VecDeque::new());
    while metric(&gateway, series) == 0 {
        assert!(began.elapsed() < DEADLINE, "everybody is let in");
        for _ in 0..20 {
            let mut client = Frames::connect(gateway.addr());
            client.raw(&taken_back);
            held.push_back(client);
        }
        // Who leaves before it was read floods nobody.
        held.drain(..held.len().saturating_sub(200));
    }
    // A neighbour is served meanwhile, and so is the address itself a second later.
    let neighbour = || Client::from([127, 0, 1, 1], gateway.addr()).get("/");
    neighbour().expect(200);
    let again = || {
        gateway
            .client()
            .try_request("GET", "/", &[], b"")
            .is_ok_and(|answer| answer.status == 200)
    };
    while !again() {
        assert!(began.elapsed() < DEADLINE, "nobody is let in any more");
    }
}

#[test]
fn who_asks_too_often_gets_429_before_anything_is_read() {
    let origin = Origin::echo();
    let gateway = before(&origin, "limits: { request_rate_per_ip: 20/s }");
    let (began, mut came, mut refused) = (Instant::now(), 0, 0);
    let mut client = gateway.client();
    for _ in 0..scale(10_000) {
        let answer = client.get("/");
        if answer.status == 200 {
            came += 1;
            continue;
        }
        let answer = answer.expect(429);
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(client.closed_by_gateway());
        refused += 1;
        client = gateway.client();
    }
    assert!((20..=most(20, began)).contains(&came), "{came} came");
    assert_eq!(origin.count(), came);
    assert!(refused > 0);
    let series = "doorward_faults_total{error_type=\"too_many_requests\"}";
    assert_eq!(metric(&gateway, series), refused);
    Client::from([127, 0, 0, 9], gateway.addr())
        .get("/")
        .expect(200);
    // What it says is of no interest.
    let statuses = (0..100).map(|_| {
        let mut client = gateway.client();
        client.send_raw(b"\x01 no request\r\n\r\n");
        client.response("GET").status
    });
    let statuses: Vec<u16> = statuses.collect();
    assert!(statuses.contains(&429) && statuses.iter().all(|status| [400, 429].contains(status)));
}

#[test]
fn a_stream_too_many_gets_429_and_its_connection_goes_on() {
    let json = [("content-type", "application/json")];
    let origin = Origin::answer(move |_| Reply::fixed(200, &json, "{\"status\":200}"));
    let gateway = before(
        &origin,
        "protocols: [h2c], limits: { request_rate_per_ip: 20/s, requests_per_connection: 100000 }",
    );
    let began = Instant::now();
    let mut client = Frames::connect(gateway.addr());
    // Room for all answers of the connection.
    client.send(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0, 0]);
    let fields = [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "a.test"),
        (":path", "/"),
    ];
    let statuses = (0..scale(9_000)).map(|_| client.request(&fields, None).status().unwrap());
    let statuses: Vec<u64> = statuses.collect();
    let came = statuses.iter().filter(|status| **status == 200).count();
    let came = u64::try_from(came).unwrap();
    assert!((20..=most(20, began)).contains(&came), "{came} came");
    assert!(statuses.contains(&429) && statuses.iter().all(|status| [200, 429].contains(status)));
    assert_eq!(origin.count(), came);
}

#[test]
fn behind_a_load_balancer_its_clients_are_counted_and_not_itself() {
    let origin = Origin::echo();
    let listener = "proxy_protocol: { from: [127.0.0.1] }, limits: { connection_rate_per_ip: 5/s }";
    let gateway = before(&origin, listener);
    let comes = |client: &str| {
        let mut connection = gateway.client();
        let header = format!("PROXY TCP6 {client} ::1 1 443\r\n");
        connection.send_raw(header.as_bytes());
        connection.send_request("GET", "/", &[], b"");
        connection.try_response("GET").is_ok()
    };
    let began = Instant::now();
    let flood = (0..scale(5_000)).filter(|number| comes(&format!("2001:db8::{number:x}")));
    let came = u64::try_from(flood.count()).unwrap();
    assert!((5..=most(5, began)).contains(&came), "{came} came");
    // Each from a network of its own.
    for number in 0..scale(5_000) {
        assert!(comes(&format!("2001:db8:1:{number:x}::1")), "{number}");
    }
}

#[test]
fn trusted_proxies_may_come_as_often_as_they_want() {
    let origin = Origin::echo();
    let rates = "limits: { connection_rate_per_ip: 2/s, request_rate_per_ip: 2/s }";
    let trusted = before(&origin, &format!("trusted_proxies: [127.0.0.0/8], {rates}"));
    for _ in 0..50 {
        get(trusted.addr(), "/", "a.test").expect(200);
    }
    let off = before(
        &origin,
        "limits: { connection_rate_per_ip: none, request_rate_per_ip: none }",
    );
    for _ in 0..50 {
        get(off.addr(), "/", "a.test").expect(200);
    }
    assert_eq!(warnings(&trusted) + warnings(&off), 0);
}
