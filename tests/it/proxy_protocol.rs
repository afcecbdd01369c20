//! PROXY protocol: who is believed, on plaintext and before TLS, and what is no header.

use std::net::TcpStream;

use super::support::{Client, DEADLINE, Ended, Gateway, Origin, Pki, Setup, Tls};

fn setup(origin: &Origin, listener: &str) -> Setup {
    Setup::new(&format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\", {listener} }} }}\n\
         upstreams: {{ o: {{ targets: [{{ url: \"{}\" }}] }} }}\n\
         routes: [{{ name: all, match: {{ path_prefix: / }}, upstream: o }}]\n",
        origin.url()
    ))
}

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 10.0.0.1 12345 443\r\n";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\x0a\0\0\x01\x30\x39\x01\xbb";
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

/// Sends bytes on a new connection; the status, or how it ended.
fn send(gateway: &Gateway, bytes: &[u8]) -> Result<u16, Ended> {
    let mut client = gateway.client();
    client.send_raw(bytes);
    client.try_response("GET").map(|answer| answer.status)
}

#[test]
fn a_load_balancer_says_who_the_client_is() {
    let origin = Origin::echo();
    let gateway = setup(&origin, "proxy_protocol: { from: [127.0.0.0/8] }").spawn();
    for (header, client) in [
        (V1, "192.0.2.7"),
        (V2, "192.0.2.7"),
        (LOCAL, "127.0.0.1"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
    ] {
        assert_eq!(send(&gateway, &[header, GET].concat()), Ok(200));
        assert_eq!(origin.last().header("x-real-ip"), Some(client));
        // Byte by byte it is the same.
        let mut slow = gateway.client();
        for byte in [header, GET].concat() {
            slow.send_raw(&[byte]);
        }
        slow.response("GET").expect(200);
        assert_eq!(origin.last().header("x-forwarded-for"), Some(client));
    }
    let count = origin.count();
    for bad in [
        GET,
        b"PROXY TCP4 192.0.2.7 10.0.0.1 12345\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
    ] {
        assert!(send(&gateway, bad).is_err(), "{bad:?}");
    }
    assert_eq!(origin.count(), count);
}

#[test]
fn it_is_read_before_tls() {
    let (pki, origin) = (Pki::new(), Origin::echo());
    let pair = pki.issue(&["a.test"]);
    let tls = "proxy_protocol: { from: [127.0.0.1] }, tls: { certificates: [{ cert_file: a.pem, key_file: a.key }] }";
    let gateway = setup(&origin, tls)
        .file("a.pem", &pair.cert)
        .file("a.key", &pair.key)
        .spawn();
    for header in [V1, V2] {
        let mut tcp = TcpStream::connect(gateway.addr()).expect("the gateway listens");
        tcp.set_read_timeout(Some(DEADLINE))
            .expect("a socket has a timeout");
        std::io::Write::write_all(&mut tcp, header).expect("the gateway reads");
        let stream = Tls::new(&pki.ca, "a.test").over(tcp).expect("a handshake");
        let mut client = Client::secured(stream, gateway.addr());
        client
            .request("GET", "/", &[("Host", "a.test")], b"")
            .expect(200);
        assert_eq!(origin.last().header("x-real-ip"), Some("192.0.2.7"));
    }
    assert!(
        Tls::new(&pki.ca, "a.test")
            .try_connect(gateway.addr())
            .is_err(),
        "nobody comes in without"
    );
}

#[test]
fn from_others_it_is_no_header() {
    let origin = Origin::echo();
    let shut = setup(&origin, "proxy_protocol: { from: [10.0.0.0/8] }").spawn();
    assert!(send(&shut, &[V1, GET].concat()).is_err());
    assert!(send(&shut, GET).is_err());
    assert_eq!(origin.count(), 0);
    let open = setup(
        &origin,
        "proxy_protocol: { from: [10.0.0.0/8], required: false }",
    )
    .spawn();
    assert_eq!(send(&open, &[V1, GET].concat()), Ok(400));
    assert_eq!(origin.count(), 0);
    assert_eq!(send(&open, GET), Ok(200));
}

#[test]
fn it_may_be_left_out_where_that_is_said() {
    let origin = Origin::echo();
    let gateway = setup(
        &origin,
        "proxy_protocol: { from: [127.0.0.1], required: false }",
    )
    .spawn();
    assert_eq!(send(&gateway, GET), Ok(200));
    assert_eq!(origin.last().header("x-real-ip"), Some("127.0.0.1"));
    assert_eq!(send(&gateway, &[V2, GET].concat()), Ok(200));
    assert_eq!(origin.last().header("x-real-ip"), Some("192.0.2.7"));
    assert!(send(&gateway, b"PROXY nonsense\r\n").is_err());
}
