//! Signed requests (RFC 9421): what was signed is what the upstream gets, to the last byte of the body.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test stops at the first thing that is not as expected"
)]

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256, Sha512};

use super::support::{Gateway, Origin, Response, Setup, run_cli, scale};

/// The secret of the examples, and of the tests here.
const SECRET: &[u8] = b"a-secret-of-the-examples-and-of-tests-only";
const COVERED: &str = r#"("@method" "@path" "content-digest")"#;

/// A set with that secret, under this name.
fn keys(id: &str) -> String {
    let secret = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(SECRET);
    serde_json::json!({ "keys": [{ "kty": "oct", "kid": id, "alg": "HS256", "k": secret }] })
        .to_string()
}

fn digest(body: &[u8]) -> String {
    format!("sha-512=:{}:", STANDARD.encode(Sha512::digest(body)))
}

/// The headers of a signed request, with `digest` for its body and these words at the end of what is signed.
pub(super) fn sign(
    (id, more): (&str, &str),
    (method, path): (&str, &str),
    digest: &str,
) -> [(&'static str, String); 3] {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let params = format!("{COVERED};created={};keyid=\"{id}\"{more}", now.as_secs());
    let base = format!(
        "\"@method\": {method}\n\"@path\": {path}\n\"content-digest\": {digest}\n\"@signature-params\": {params}"
    );
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET).unwrap();
    mac.update(base.as_bytes());
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    [
        ("Content-Digest", digest.to_owned()),
        ("Signature-Input", format!("sig1={params}")),
        ("Signature", format!("sig1=:{signature}:")),
    ]
}

/// The same for this body.
pub(super) fn signed(
    id: &str,
    method: &str,
    path: &str,
    body: &[u8],
) -> [(&'static str, String); 3] {
    sign((id, ""), (method, path), &digest(body))
}

fn gateway(origin: &Origin, clauses: &str) -> Gateway {
    let text = format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\", protocols: [http1, h2c] }} }}\n\
         authenticators: {{ hooks: {{ signature: {{ keys_file: hooks.jwks, components: [\"@method\", \"@path\", content-digest], max_age: 5m }} }} }}\n\
         consumers: {{ shop: {{ groups: [partners], identify: {{ claim: keyid, equals: shop-1, authenticator: hooks }} }} }}\n\
         upstreams: {{ o: {{ targets: [{{ url: \"{}\" }}] }} }}\n\
         routes: [{{ name: all, match: {{ path_prefix: / }}, {clauses}, upstream: o,\n\
         \x20 request: {{ headers: {{ set: {{ x-told: \"{{auth.method}}/{{auth.sub}}/{{consumer.name}}\" }} }} }} }}]\n",
        origin.url()
    );
    Setup::new(&text).file("hooks.jwks", keys("shop-1")).spawn()
}

fn ask(
    gateway: &Gateway,
    (method, path): (&str, &str),
    headers: &[(&'static str, String)],
    body: &[u8],
) -> Response {
    let headers = headers.iter().map(|(name, value)| (*name, value.as_str()));
    let headers: Vec<_> = headers.collect();
    gateway.client().request(method, path, &headers, body)
}

#[test]
fn a_signed_request_comes_in_and_its_signature_stays_here() {
    let origin = Origin::echo();
    let gateway = gateway(&origin, "auth: [hooks]");
    let long = vec![b'x'; usize::try_from(scale(8 << 20)).unwrap()];
    for body in [&b"{\"id\":7}"[..], b"", &long] {
        let headers = signed("shop-1", "POST", "/hooks/a", body);
        ask(&gateway, ("POST", "/hooks/a?b=1"), &headers, body).expect(200);
        let seen = origin.last();
        assert_eq!(seen.header("x-told"), Some("signature/shop-1/shop"));
        assert_eq!(seen.header("signature"), None);
        assert_eq!(seen.header("signature-input"), None);
        assert_eq!(seen.header("content-digest"), Some(&*digest(body)));
        assert_eq!(seen.body_len, body.len() as u64);
    }
    // Whoever signs for itself alone may have it handed on.
    let gateway = self::gateway(&origin, "auth: { any: [hooks], forward_credential: true }");
    let headers = signed("shop-1", "PUT", "/a", b"x");
    ask(&gateway, ("PUT", "/a"), &headers, b"x").expect(200);
    assert_eq!(origin.last().header("signature"), Some(&*headers[2].1));
}

#[test]
#[expect(clippy::too_many_lines, reason = "it is one table")]
fn of_a_request_that_was_changed_the_upstream_sees_nothing() {
    let origin = Origin::echo();
    let gateway = gateway(&origin, "auth: [hooks], body_limits: { request: 64KiB }");
    let good = signed("shop-1", "POST", "/a", b"one");
    let with = |at: usize, value: &str| {
        let mut headers = good.clone();
        headers[at].1 = value.to_owned();
        headers
    };
    let md5 = sign(("shop-1", ""), ("POST", "/a"), "md5=:AAAA:");
    let expired = sign(("shop-1", ";expires=1"), ("POST", "/a"), &digest(b"one"));
    let confused = sign(
        ("shop-1", ";alg=\"ed25519\""),
        ("POST", "/a"),
        &digest(b"one"),
    );
    let stranger = signed("shop-2", "POST", "/a", b"one");
    let short = good[1].1.replace(" \"content-digest\"", "");
    for (what, method, path, headers, body, status) in [
        ("the body", "POST", "/a", good.clone(), &b"two"[..], 401),
        ("no body", "POST", "/a", good.clone(), b"", 401),
        ("the path", "POST", "/b", good.clone(), b"one", 401),
        ("the method", "PUT", "/a", good.clone(), b"one", 401),
        (
            "its digest",
            "POST",
            "/a",
            with(0, &digest(b"two")),
            b"two",
            401,
        ),
        (
            "what is covered",
            "POST",
            "/a",
            with(1, &short),
            b"one",
            401,
        ),
        (
            "the signature",
            "POST",
            "/a",
            with(2, "sig1=:AAAA:"),
            b"one",
            401,
        ),
        (
            "its label",
            "POST",
            "/a",
            with(2, &good[2].1.replace("sig1", "sig2")),
            b"one",
            401,
        ),
        ("a broken digest", "POST", "/a", md5, b"one", 401),
        ("its end", "POST", "/a", expired, b"one", 401),
        ("its algorithm", "POST", "/a", confused, b"one", 401),
        ("its key", "POST", "/a", stranger, b"one", 401),
        (
            "the length",
            "POST",
            "/a",
            good.clone(),
            &[b'x'; 65 * 1024],
            413,
        ),
    ] {
        let answer = ask(&gateway, (method, path), &headers, body);
        assert_eq!(answer.status, status, "{what}");
        let asked = answer.headers_all("www-authenticate");
        assert_eq!(asked.len(), usize::from(status == 401), "{what}");
    }
    assert_eq!(origin.count(), 0);
    // In chunks, one byte after the other: the same.
    for (body, status) in [("one", 200), ("two", 401)] {
        let mut client = gateway.client();
        let mut head =
            "POST /a HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n".to_owned();
        for (name, value) in &good {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        assert!(client.send_raw((head + "\r\n").as_bytes()));
        for byte in body.bytes() {
            assert!(client.send_chunk(&[byte]));
        }
        assert!(client.send_raw(b"0\r\n\r\n"));
        assert_eq!(client.response("POST").status, status, "{body}");
    }
    assert_eq!(origin.count(), 1);
}

#[test]
fn whoever_does_not_sign_is_told_what_to_sign() {
    let origin = Origin::echo();
    let gateway = gateway(&origin, "auth: [hooks]");
    let answer = ask(&gateway, ("GET", "/a"), &[], b"").expect(401);
    assert_eq!(
        answer.header("accept-signature"),
        Some(r#"sig=("@method" "@path" "content-digest");created;keyid"#)
    );
    assert_eq!(
        answer.headers_all("www-authenticate"),
        ["Signature realm=\"api\""]
    );
    assert_eq!(origin.count(), 0);
    // What is read as a whole is said.
    let checked = run_cli(&["check"], gateway.dir());
    assert_eq!(checked.code, 0, "{}", checked.stderr);
    let told = format!("{}{}", checked.stdout, checked.stderr);
    assert!(told.contains("all (auth)"), "{told}");
}
