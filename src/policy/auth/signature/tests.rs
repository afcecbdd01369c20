//! The requests of RFC 9421 appendix B, and requests that were changed, or signed in ways that prove nothing.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use openssl::sign::Signer;
use serde_json::json;
use sha2::Sha256;

use super::*;
use crate::base::clock::{Clock as _, SystemClock};
use crate::base::forwarded::Scheme;
use crate::policy::auth::jwt::Source;

/// When the signatures of RFC 9421 appendix B were made.
const CREATED: i64 = 1_618_884_473;
const SECRET: &str =
    "uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==";

/// The keys of RFC 9421 appendix B.1.
fn keys() -> Json {
    let modulus = "r4tmm3r20Wd_PbqvP1s2-QEtvpuRaV8Yq40gjUR8y2Rjxa6dpG2GXHbPfvMs8ct-Lh1GH45x28Rw3Ry53mm-oAXjyQ86OnDkZ5N8lYbggD4O3w6M6pAvLkhk95AndTrifbIFPNU8PPMO7OyrFAHqgDsznjPFmTOtCEcN2Z1FpWgchwuYLPL-Wokqltd11nqqzi-bJ9cvSKADYdUAAN5WUtzdpiy6LbTgSxP7ociU4Tn0g5I6aDZJ7A8Lzo0KSyZYoA485mqcO0GVAdVw9lq4aOT9v6d-nb4bnNkQVklLQ3fVAvJm-xdDOp9LCNCN48V2pnDOkFV6-U9nV5oyc6XI2w";
    let secret = URL_SAFE_NO_PAD.encode(STANDARD.decode(SECRET).unwrap());
    json!({ "keys": [
        { "kty": "RSA", "kid": "test-key-rsa-pss", "e": "AQAB", "n": modulus },
        { "kty": "EC", "kid": "test-key-ecc-p256", "crv": "P-256", "x": "qIVYZVLCrPZHGHjP17CTW0_-D9Lfw0EkjqF7xB4FivA", "y": "Mc4nN9LTDOBhfoUeg8Ye9WedFRhnZXZJA12Qp0zZ6F0" },
        { "kty": "OKP", "kid": "test-key-ed25519", "crv": "Ed25519", "x": "JrQLj5P_89iXES9-vFgrIy29clF9CC_oPPsw3c5D0bs" },
        { "kty": "oct", "kid": "test-shared-secret", "k": secret },
        { "kty": "oct", "kid": "512-only", "alg": "HS512", "k": secret },
    ] })
}

fn authenticator(keys: &Json, components: &[&str]) -> Signature {
    let text = keys.to_string();
    Signature {
        keys: KeySet::parse(text.as_bytes(), Source::File).unwrap(),
        components: components.iter().map(|name| (*name).into()).collect(),
        age_max: 300_000,
        skew: 30_000,
        wanted: None,
    }
}

fn head(method: &str, target: &str, headers: &[(&str, &str)]) -> RequestHead {
    let mut head = RequestHead::build(method, target.as_bytes(), None).unwrap();
    for (name, value) in headers {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        let value = HeaderValue::from_str(value).unwrap();
        head.append_header(name, value).unwrap();
    }
    head
}

fn exchange(now: i64) -> Exchange {
    Exchange::new(SystemClock.instant(), now * 1000, Scheme::Https)
}

/// Whose key it was, or why it was refused.
fn look(by: &Signature, head: &RequestHead, now: i64) -> Result<String, &'static str> {
    let name: Arc<str> = "hooks".into();
    let found = by.look(head, &exchange(now), (&name, &Consumers::default()));
    if let Finding::Known(identity) = &found {
        return Ok(identity.subject.clone().unwrap().into());
    }
    if let Finding::Refused(why) = found {
        return Err(why);
    }
    assert!(matches!(found, Finding::Absent), "{found:?}");
    Err("absent")
}

const DIGEST: &str = "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:";

/// The request of RFC 9421 appendix B.2.
const REQUEST: [(&str, &str); 5] = [
    ("host", "example.com"),
    ("date", "Tue, 20 Apr 2021 02:07:55 GMT"),
    ("content-type", "application/json"),
    ("content-digest", DIGEST),
    ("content-length", "18"),
];

/// Appendix B.2, its requests: what is covered, and the signature.
const SIGNED: [(&str, &str); 5] = [
    (
        r#"sig-b21=();created=1618884473;keyid="test-key-rsa-pss";nonce="b3k2pp5k7z-50gnwp.yemd""#,
        "sig-b21=:d2pmTvmbncD3xQm8E9ZV2828BjQWGgiwAaw5bAkgibUopemLJcWDy/lkbbHAve4cRAtx31Iq786U7it++wgGxbtRxf8Udx7zFZsckzXaJMkA7ChG52eSkFxykJeNqsrWH5S+oxNFlD4dzVuwe8DhTSja8xxbR/Z2cOGdCbzR72rgFWhzx2VjBqJzsPLMIQKhO4DGezXehhWwE56YCE+O6c0mKZsfxVrogUvA4HELjVKWmAvtl6UnCh8jYzuVG5WSb/QEVPnP5TmcAnLH1g+s++v6d4s8m0gCw1fV5/SITLq9mhho8K3+7EPYTU8IU1bLhdxO5Nyt8C8ssinQ98Xw9Q==:",
    ),
    (
        r#"sig-b22=("@authority" "content-digest" "@query-param";name="Pet");created=1618884473;keyid="test-key-rsa-pss";tag="header-example""#,
        "sig-b22=:LjbtqUbfmvjj5C5kr1Ugj4PmLYvx9wVjZvD9GsTT4F7GrcQEdJzgI9qHxICagShLRiLMlAJjtq6N4CDfKtjvuJyE5qH7KT8UCMkSowOB4+ECxCmT8rtAmj/0PIXxi0A0nxKyB09RNrCQibbUjsLS/2YyFYXEu4TRJQzRw1rLEuEfY17SARYhpTlaqwZVtR8NV7+4UKkjqpcAoFqWFQh62s7Cl+H2fjBSpqfZUJcsIk4N6wiKYd4je2U/lankenQ99PZfB4jY3I5rSV2DSBVkSFsURIjYErOs0tFTQosMTAoxk//0RoKUqiYY8Bh0aaUEb0rQl3/XaVe4bXTugEjHSw==:",
    ),
    (
        r#"sig-b23=("date" "@method" "@path" "@query" "@authority" "content-type" "content-digest" "content-length");created=1618884473;keyid="test-key-rsa-pss""#,
        "sig-b23=:bbN8oArOxYoyylQQUU6QYwrTuaxLwjAC9fbY2F6SVWvh0yBiMIRGOnMYwZ/5MR6fb0Kh1rIRASVxFkeGt683+qRpRRU5p2voTp768ZrCUb38K0fUxN0O0iC59DzYx8DFll5GmydPxSmme9v6ULbMFkl+V5B1TP/yPViV7KsLNmvKiLJH1pFkh/aYA2HXXZzNBXmIkoQoLd7YfW91kE9o/CCoC1xMy7JA1ipwvKvfrs65ldmlu9bpG6A9BmzhuzF8Eim5f8ui9eH8LZH896+QIF61ka39VBrohr9iyMUJpvRX2Zbhl5ZJzSRxpJyoEZAFL2FUo5fTIztsDZKEgM4cUA==:",
    ),
    (
        r#"sig-b25=("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret""#,
        "sig-b25=:pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=:",
    ),
    (
        r#"sig-b26=("date" "@method" "@path" "@authority" "content-type" "content-length");created=1618884473;keyid="test-key-ed25519""#,
        "sig-b26=:wqcAqbmYJ2ji2glfAMaRy4gruYYnx2nEFN2HN6jrnDnQCK1u02Gb04v9EDgwUPiu4A0w6vuQv5lIp5WPpBKRCw==:",
    ),
];

fn signed(request: &[(&str, &str)], target: &str, at: usize) -> RequestHead {
    let (input, signature) = SIGNED[at];
    let mut all = request.to_vec();
    all.extend([("signature-input", input), ("signature", signature)]);
    head("POST", target, &all)
}

#[test]
fn requests_of_the_standard_are_known() {
    let by = authenticator(&keys(), &[]);
    let target = "/foo?param=Value&Pet=dog";
    for (at, (input, _)) in SIGNED.iter().enumerate() {
        let head = signed(&REQUEST, target, at);
        let id = look(&by, &head, CREATED + 60).unwrap();
        assert!(input.contains(&format!("keyid=\"{id}\"")), "{input}: {id}");
    }
    // Appendix B.3: what a proxy signs in front of us, and appendix B.4, with a header in two lines.
    let certificate = ":MIIBqDCCAU6gAwIBAgIBBzAKBggqhkjOPQQDAjA6MRswGQYDVQQKDBJMZXQncyBBdXRoZW50aWNhdGUxGzAZBgNVBAMMEkxBIEludGVybWVkaWF0ZSBDQTAeFw0yMDAxMTQyMjU1MzNaFw0yMTAxMjMyMjU1MzNaMA0xCzAJBgNVBAMMAkJDMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE8YnXXfaUgmnMtOXU/IncWalRhebrXmckC8vdgJ1p5Be5F/3YC8OthxM4+k1M6aEAEFcGzkJiNy6J84y7uzo9M6NyMHAwCQYDVR0TBAIwADAfBgNVHSMEGDAWgBRm3WjLa38lbEYCuiCPct0ZaSED2DAOBgNVHQ8BAf8EBAMCBsAwEwYDVR0lBAwwCgYIKwYBBQUHAwIwHQYDVR0RAQH/BBMwEYEPYmRjQGV4YW1wbGUuY29tMAoGCCqGSM49BAMCA0gAMEUCIBHda/r1vaL6G3VliL4/Di6YK0Q6bMjeSkC3dFCOOB8TAiEAx/kHSB4urmiZ0NX5r5XarmPk0wmuydBVoU4hBVZ1yhk=:";
    let proxied = head(
        "POST",
        target,
        &[
            ("host", "service.internal.example"),
            ("client-cert", certificate),
            (
                "signature-input",
                r#"ttrp=("@path" "@query" "@method" "@authority" "client-cert");created=1618884473;keyid="test-key-ecc-p256""#,
            ),
            (
                "signature",
                "ttrp=:xVMHVpawaAC/0SbHrKRs9i8I3eOs5RtTMGCWXm/9nvZzoHsIg6Mce9315T6xoklyy0yzhD9ah4JHRwMLOgmizw==:",
            ),
        ],
    );
    assert_eq!(look(&by, &proxied, CREATED).unwrap(), "test-key-ecc-p256");
    let transformed = |target: &str, host: &str, accept: &[&str]| {
        let mut headers = vec![
            ("host", host),
            ("date", "Fri, 15 Jul 2022 14:24:55 GMT"),
            (
                "signature-input",
                r#"transform=("@method" "@path" "@authority" "accept");created=1618884473;keyid="test-key-ed25519""#,
            ),
            (
                "signature",
                "transform=:ZT1kooQsEHpZ0I1IjCqtQppOmIqlJPeo7DHR3SoMn0s5JZ1eRGS0A+vyYP9t/LXlh5QMFFQ6cpLt2m0pmj3NDA==:",
            ),
        ];
        headers.extend(accept.iter().map(|line| ("accept", *line)));
        look(&by, &head("GET", target, &headers), CREATED)
    };
    let both = ["application/json", "*/*"];
    transformed("/demo?name1=Value1&Name2=value2", "example.org", &both).unwrap();
    transformed("/demo?other", "example.org:443", &["application/json, */*"]).unwrap();
    for changed in [
        transformed("/demo/", "example.org", &both),
        transformed("/demo", "example.com", &both),
        transformed("/demo", "example.org:444", &both),
        transformed("/demo", "example.org", &["*/*", "application/json"]),
        transformed("/demo", "example.org", &["*/*"]),
    ] {
        assert_eq!(changed, Err("the signature does not hold"));
    }
}

#[test]
fn whatever_is_covered_cannot_be_changed() {
    let by = authenticator(&keys(), &[]);
    let changed = |at: usize, name: &str, value: &str| {
        let mut request = REQUEST;
        let line = request.iter_mut().find(|(known, _)| *known == name);
        line.unwrap().1 = value;
        look(
            &by,
            &signed(&request, "/foo?param=Value&Pet=dog", at),
            CREATED,
        )
    };
    const WRONG: Result<String, &str> = Err("the signature does not hold");
    assert_eq!(changed(1, "content-digest", "sha-512=:AAAA:"), WRONG);
    assert_eq!(changed(1, "host", "example.net"), WRONG);
    assert_eq!(changed(2, "content-length", "19"), WRONG);
    assert_eq!(changed(3, "date", "Tue, 20 Apr 2021 02:07:56 GMT"), WRONG);
    assert_eq!(changed(4, "content-type", "application/xml"), WRONG);
    // Not covered.
    assert!(changed(4, "content-digest", "sha-512=:AAAA:").is_ok());
    for (at, target) in [
        (1, "/foo?param=Value&Pet=cat"),
        (2, "/foo?param=Value&Pet=dog&more=1"),
        (2, "/fop?param=Value&Pet=dog"),
        (4, "/"),
    ] {
        assert_eq!(look(&by, &signed(&REQUEST, target, at), CREATED), WRONG);
    }
    assert!(look(&by, &signed(&REQUEST, "/bar?Pet=dog", 1), CREATED).is_ok());
    for at in [2, 4] {
        let mut head = signed(&REQUEST, "/foo?param=Value&Pet=dog", at);
        head.set_method(http::Method::PUT);
        assert_eq!(look(&by, &head, CREATED), WRONG);
    }
}

/// Signs with the secret whatever `input` says.
fn sign(input: &str, method: &str, target: &str) -> RequestHead {
    let mut head = head(method, target, &REQUEST);
    let text = format!("s={input}");
    let value = HeaderValue::from_str(&text).unwrap();
    head.append_header(SIGNATURE_INPUT, value).unwrap();
    let parsed = sfv::Parser::parse_dictionary(text.as_bytes()).unwrap();
    let Some(ListEntry::InnerList(list)) = parsed.get("s") else {
        panic!("{input}");
    };
    let base = base::base(list, &head, &exchange(CREATED)).unwrap_or_default();
    let mut mac = Hmac::<Sha256>::new_from_slice(&STANDARD.decode(SECRET).unwrap()).unwrap();
    mac.update(base.as_bytes());
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    let value = HeaderValue::from_str(&format!("s=:{signature}:")).unwrap();
    head.append_header(SIGNATURE, value).unwrap();
    head
}

#[test]
fn the_parts_of_a_request_are_those_of_the_standard() {
    let input = r#"s=("@method" "@target-uri" "@authority" "@scheme" "@request-target" "@path" "@query" "@query-param";name="a%20b" "@query-param";name="e" "x-list";bs "x-dict";key="a" "x-dict";key="l" "x-two");keyid="k";created=1"#;
    let head = head(
        "GET",
        "/p/q?a+b=c%20d%2fe~*&e",
        &[
            ("host", "Example.com:443"),
            ("x-list", " a, b"),
            ("x-list", "c"),
            ("x-dict", "a=1;x, l=(1 2)"),
            ("x-two", "  one\t"),
            ("x-two", ""),
        ],
    );
    let parsed = sfv::Parser::parse_dictionary(input.as_bytes()).unwrap();
    let Some(ListEntry::InnerList(list)) = parsed.get("s") else {
        panic!("{input}");
    };
    let base = base::base(list, &head, &exchange(CREATED)).unwrap();
    let expected = [
        r#""@method": GET"#,
        r#""@target-uri": https://example.com/p/q?a+b=c%20d%2fe~*&e"#,
        r#""@authority": example.com"#,
        r#""@scheme": https"#,
        r#""@request-target": /p/q?a+b=c%20d%2fe~*&e"#,
        r#""@path": /p/q"#,
        r#""@query": ?a+b=c%20d%2fe~*&e"#,
        r#""@query-param";name="a%20b": c%20d%2Fe%7E*"#,
        r#""@query-param";name="e": "#,
        r#""x-list";bs: :YSwgYg==:, :Yw==:"#,
        r#""x-dict";key="a": 1;x"#,
        r#""x-dict";key="l": (1 2)"#,
        r#""x-two": one, "#,
        &format!(
            "\"@signature-params\": {}",
            input.strip_prefix("s=").unwrap()
        ),
    ];
    let expected = expected.join("\n");
    assert_eq!(base, expected);
}

#[test]
#[expect(clippy::too_many_lines, reason = "it is one table")]
fn only_a_signature_over_all_that_counts_is_one() {
    let by = authenticator(&keys(), &["@method", "@path", "content-digest"]);
    let all = r#"("@method" "@path" "content-digest")"#;
    let good = format!(r#"{all};created={CREATED};keyid="test-shared-secret""#);
    let at = |input: &str| look(&by, &sign(input, "POST", "/foo?a=1&a=2"), CREATED);
    assert_eq!(at(&good).unwrap(), "test-shared-secret");
    assert!(at(&format!(r#"{good};alg="hmac-sha256""#)).is_ok());
    assert!(at(&format!("{good};expires={}", CREATED + 1)).is_ok());
    let less = "the signature does not cover all that it has to";
    let unknown = "the signature covers what cannot be looked at here";
    let algorithm = "the algorithm of the signature is not its key's";
    let none = "one of the times of the signature is none";
    let end = format!(r#";created={CREATED};keyid="test-shared-secret""#);
    for (input, why) in [
        // A part is missing, or stands there in another form.
        (format!("(){end}"), less),
        (format!(r#"("@method" "@path"){end}"#), less),
        (
            format!(r#"("@method" "@path" "content-digest";bs){end}"#),
            less,
        ),
        (
            format!(r#"("@method" "@path" "content-digest";key="sha-512"){end}"#),
            less,
        ),
        // Parts that this is no place for, that are not there, that are there twice.
        (
            format!(r#"("@method" "@path" "content-digest" "@status"){end}"#),
            unknown,
        ),
        (
            format!(r#"("@method" "@path" "content-digest" "@signature-params"){end}"#),
            unknown,
        ),
        (
            format!(r#"("@method" "@path" "content-digest" "@method";req){end}"#),
            unknown,
        ),
        (
            format!(r#"("@method" "@path" "content-digest" "x-t";tr){end}"#),
            "the signature covers what the request does not have",
        ),
        (
            format!(r#"("@method" "@path" "content-digest" "date";tr){end}"#),
            unknown,
        ),
        (
            format!(r#"("@method" "@path" "content-digest" "date";sf){end}"#),
            unknown,
        ),
        (
            format!(r#"("@method" "@path" "content-digest" "Date"){end}"#),
            unknown,
        ),
        (
            format!(r#"("@method" "@path" "content-digest" "@query-param";name="a"){end}"#),
            unknown,
        ),
        (
            format!(r#"("@method" "@path" "content-digest" "@query-param"){end}"#),
            unknown,
        ),
        (
            format!(r#"("@method" "@path" "content-digest" "@query-param";name="b"){end}"#),
            "the signature covers what the request does not have",
        ),
        (
            format!(r#"("@method" "@path" "content-digest" date){end}"#),
            unknown,
        ),
        (
            format!(r#"("@method" "@path" "content-digest" "@method"){end}"#),
            "the signature covers something twice",
        ),
        // Keys and algorithms.
        (
            format!("{all};created={CREATED}"),
            "the signature names no key",
        ),
        (
            format!(r#"{all};created={CREATED};keyid="other""#),
            "the key of the signature is not known",
        ),
        (
            format!(r#"{all};created={CREATED};keyid="512-only""#),
            algorithm,
        ),
        (format!(r#"{good};alg="rsa-pss-sha512""#), algorithm),
        (format!(r#"{good};alg="HS256""#), algorithm),
        (format!("{good};alg=1"), algorithm),
        // A public key is no secret (RFC 9421 section 7.3.6).
        (
            format!(r#"{all};created={CREATED};keyid="test-key-ed25519";alg="hmac-sha256""#),
            algorithm,
        ),
        (
            format!(r#"{all};created={CREATED};keyid="test-key-ed25519""#),
            "the signature does not hold",
        ),
        // Times.
        (
            format!(r#"{all};keyid="test-shared-secret""#),
            "the signature does not say when it was made",
        ),
        (
            format!(
                r#"{all};created={};keyid="test-shared-secret""#,
                CREATED - 301
            ),
            "the signature is too old",
        ),
        (
            format!(
                r#"{all};created={};keyid="test-shared-secret""#,
                CREATED + 31
            ),
            "the signature was made in the future",
        ),
        (
            format!("{good};expires={}", CREATED - 30),
            "the signature is expired",
        ),
        (
            format!(r#"{all};created=-1;keyid="test-shared-secret""#),
            none,
        ),
        (
            format!(r#"{all};created="1";keyid="test-shared-secret""#),
            none,
        ),
        (format!("{good};expires=1.5"), none),
    ] {
        assert_eq!(at(&input), Err(why), "{input}");
    }
    for (age, fits) in [
        (-30, true),
        (0, true),
        (300, true),
        (301, false),
        (-31, false),
    ] {
        let head = sign(&good, "POST", "/foo");
        assert_eq!(look(&by, &head, CREATED + age).is_ok(), fits, "{age}");
    }
}

#[test]
fn a_signature_is_shown_in_one_way() {
    let by = authenticator(&keys(), &["@method"]);
    let good = sign(
        &format!(r#"("@method");created={CREATED};keyid="test-shared-secret""#),
        "POST",
        "/foo",
    );
    let text = |name: &HeaderName| good.headers.get(name).unwrap().to_str().unwrap().to_owned();
    let (input, signature) = (text(&SIGNATURE_INPUT), text(&SIGNATURE));
    let shown = |inputs: &[&str], signatures: &[&str]| {
        let mut lines = REQUEST.to_vec();
        lines.extend(inputs.iter().map(|line| ("signature-input", *line)));
        lines.extend(signatures.iter().map(|line| ("signature", *line)));
        look(&by, &head("POST", "/foo", &lines), CREATED)
    };
    assert!(shown(&[&input], &[&signature]).is_ok());
    assert_eq!(shown(&[], &[]), Err("absent"));
    // Beside one of somebody else, before or after it, in one line or two.
    let other = r#"other=();created=1;keyid="theirs""#;
    assert!(shown(&[other, &input], &[&signature, "other=:AA==:"]).is_ok());
    let (both, two) = (
        format!("{input}, {other}"),
        format!("other=:AA==:,{signature}"),
    );
    assert!(shown(&[&both], &[&two]).is_ok());
    // One of ours that does not hold makes no other wrong: keys are changed so.
    let old = r#"old=("@method");created=1618884473;keyid="test-key-ed25519""#;
    assert!(shown(&[old, &input], &["old=:AA==:", &signature]).is_ok());
    let nine = (0..9)
        .map(|n| format!("s{n}=()"))
        .collect::<Vec<_>>()
        .join(", ");
    let none = (0..9)
        .map(|n| format!("s{n}=::"))
        .collect::<Vec<_>>()
        .join(", ");
    let twice = format!("{input};created=1");
    for (inputs, signatures) in [
        (&[&*input][..], &[][..]),
        (&[], &[&*signature]),
        (&[&input], &["other=:AA==:"]),
        (&[&input], &[&signature, "other=:AA==:"]),
        (&[&input, other], &[&signature]),
        // A label, or a parameter, that stands there twice has two readings.
        (&[&input, &input], &[&signature]),
        (&[&input], &[&signature, &signature]),
        (&[&input], &["s=:AA==:", &signature]),
        (&[&twice], &[&signature]),
        (&[&input], &["s=1"]),
        (&[&input], &["s=::"]),
        (&["s=1"], &[&signature]),
        (&["s"], &["s"]),
        (&[""], &[""]),
        (&[&nine], &[&none]),
    ] {
        let found = shown(inputs, signatures);
        assert!(
            found.is_err_and(|why| why != "absent"),
            "{inputs:?} {signatures:?}"
        );
    }
}

#[test]
fn a_key_is_good_for_what_it_says() {
    let private = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
    let rsa = private.rsa().unwrap();
    let key = |id: &str, algorithm: Option<&str>| {
        let number = |it: &openssl::bn::BigNumRef| URL_SAFE_NO_PAD.encode(it.to_vec());
        let mut key =
            json!({ "kty": "RSA", "kid": id, "n": number(rsa.n()), "e": number(rsa.e()) });
        if let Some(algorithm) = algorithm {
            key["alg"] = algorithm.into();
        }
        key
    };
    let keys = json!({ "keys": [key("old", Some("RS256")), key("new", Some("PS512")), key("any", None), key("two", None), key("two", None)] });
    let by = authenticator(&keys, &["@method"]);
    let shown = |id: &str, said: &str, pss: bool| {
        let input = format!(r#"("@method");created={CREATED};keyid="{id}"{said}"#);
        let base = format!("\"@method\": GET\n\"@signature-params\": {input}");
        let digest = match pss {
            true => MessageDigest::sha512(),
            false => MessageDigest::sha256(),
        };
        let mut signer = Signer::new(digest, &private).unwrap();
        if pss {
            signer
                .set_rsa_padding(openssl::rsa::Padding::PKCS1_PSS)
                .unwrap();
            signer
                .set_rsa_pss_saltlen(openssl::sign::RsaPssSaltlen::custom(64))
                .unwrap();
        }
        let signature = signer.sign_oneshot_to_vec(base.as_bytes()).unwrap();
        let headers = [
            ("signature-input", &*format!("s={input}")),
            ("signature", &*format!("s=:{}:", STANDARD.encode(signature))),
        ];
        look(&by, &head("GET", "/", &headers), CREATED).is_ok()
    };
    let (old, new) = (r#";alg="rsa-v1_5-sha256""#, r#";alg="rsa-pss-sha512""#);
    for (id, said, pss, good) in [
        ("old", "", false, true),
        ("old", old, false, true),
        ("old", new, true, false),
        ("old", "", true, false),
        ("new", "", true, true),
        ("new", old, false, false),
        ("new", "", false, false),
        // Nobody says which: the better one.
        ("any", "", true, true),
        ("any", "", false, false),
        ("any", old, false, true),
        // Nobody knows which is meant.
        ("two", "", true, false),
    ] {
        assert_eq!(shown(id, said, pss), good, "{id} {said} {pss}");
    }
}
