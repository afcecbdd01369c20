//! Tokens (JWT): of an issuer that is asked for its keys, that changes them, that is down, slow, or lies; and tokens that are
//! not what they seem (RFC 8725).
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::disallowed_methods,
    reason = "a test stops at the first thing that is not as expected"
)]

use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use openssl::bn::BigNumContext;
use openssl::ec::{EcGroup, EcKey};
use openssl::nid::Nid;
use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use serde_json::{Value, json};

use super::control::{metric, metric_becomes, reload};
use super::support::{Gate, Gateway, Origin, Pki, Reply, Response, Script, Setup, Tls, run_cli};

fn b64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(super) fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap()
}

/// A key with which an issuer signs.
pub(super) struct Signer {
    id: &'static str,
    algorithm: Algorithm,
    key: EncodingKey,
    jwk: Value,
}

impl Signer {
    pub(super) fn rsa(id: &'static str) -> Self {
        let key = Rsa::generate(2048).unwrap();
        let jwk = json!({ "kty": "RSA", "kid": id, "n": b64(&key.n().to_vec()), "e": b64(&key.e().to_vec()) });
        let pem = key.private_key_to_pem().unwrap();
        Self {
            id,
            algorithm: Algorithm::RS256,
            key: EncodingKey::from_rsa_pem(&pem).unwrap(),
            jwk,
        }
    }

    pub(super) fn ec(id: &'static str) -> Self {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let key = EcKey::generate(&group).unwrap();
        let mut context = BigNumContext::new().unwrap();
        let point = key.public_key().to_bytes(
            &group,
            openssl::ec::PointConversionForm::UNCOMPRESSED,
            &mut context,
        );
        let point = point.unwrap();
        let jwk = json!({ "kty": "EC", "crv": "P-256", "kid": id, "x": b64(&point[1..33]), "y": b64(&point[33..]) });
        let pem = PKey::from_ec_key(key)
            .unwrap()
            .private_key_to_pem_pkcs8()
            .unwrap();
        Self {
            id,
            algorithm: Algorithm::ES256,
            key: EncodingKey::from_ec_pem(&pem).unwrap(),
            jwk,
        }
    }

    /// The same without a name.
    fn nameless(mut self) -> Self {
        self.id = "";
        drop(self.jwk.as_object_mut().unwrap().shift_remove("kid"));
        self
    }

    pub(super) fn ed(id: &'static str) -> Self {
        let key = PKey::generate_ed25519().unwrap();
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "kid": id, "x": b64(&key.raw_public_key().unwrap()) });
        let pem = key.private_key_to_pem_pkcs8().unwrap();
        Self {
            id,
            algorithm: Algorithm::EdDSA,
            key: EncodingKey::from_ed_pem(&pem).unwrap(),
            jwk,
        }
    }

    pub(super) fn secret(id: &'static str, secret: &[u8]) -> Self {
        Self {
            id,
            algorithm: Algorithm::HS256,
            key: EncodingKey::from_secret(secret),
            jwk: json!({ "kty": "oct", "kid": id, "k": b64(secret) }),
        }
    }

    fn header(&self) -> Value {
        json!({ "alg": format!("{:?}", self.algorithm), "kid": self.id, "typ": "JWT" })
    }

    /// A token with these parts, to the byte.
    pub(super) fn raw(&self, header: &[u8], claims: &[u8]) -> String {
        let signed = format!("{}.{}", b64(header), b64(claims));
        let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &self.key, self.algorithm);
        format!("{signed}.{}", signature.unwrap())
    }

    pub(super) fn token(&self, claims: &Value) -> String {
        let header = Header {
            kid: Some(self.id.to_owned()).filter(|id| !id.is_empty()),
            ..Header::new(self.algorithm)
        };
        jsonwebtoken::encode(&header, claims, &self.key).unwrap()
    }
}

/// Signs what the examples believe; the key is in `tests/data/jwt`.
pub(super) fn signer_of_the_examples() -> Signer {
    let pem = include_bytes!("../data/jwt/ed25519.pem");
    Signer {
        id: "2026-11",
        algorithm: Algorithm::EdDSA,
        key: EncodingKey::from_ed_pem(pem).unwrap(),
        jwk: Value::Null,
    }
}

/// What a good token says, with these claims besides, or instead.
pub(super) fn claims(issuer: &str, with: &Value) -> Value {
    let mut claims = json!({ "iss": issuer, "aud": "api", "sub": "user-7", "exp": now() + 600, "iat": now(), "azp": "web" });
    for (name, value) in with.as_object().unwrap() {
        if value.is_null() {
            drop(claims.as_object_mut().unwrap().shift_remove(name));
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

type Answers = Box<dyn Fn() -> Reply + Send + Sync>;

/// An identity provider: what it says of itself, and its keys.
pub(super) struct Provider {
    pub(super) origin: Origin,
    keys: Arc<Mutex<Answers>>,
}

pub(super) fn set(signers: &[&Signer]) -> Value {
    let keys: Vec<&Value> = signers.iter().map(|signer| &signer.jwk).collect();
    json!({ "keys": keys })
}

impl Provider {
    pub(super) fn start(signers: &[&Signer]) -> Self {
        let keys: Arc<Mutex<Answers>> = Arc::new(Mutex::new(Box::new(Reply::close)));
        let (held, url) = (Arc::clone(&keys), Arc::new(OnceLock::<String>::new()));
        let own = Arc::clone(&url);
        let script = Script::new(move |request| match request.path.as_str() {
            "/.well-known/openid-configuration" => {
                let issuer = own.wait();
                let keys = format!("{issuer}/keys");
                Reply::json(200, &json!({ "issuer": issuer, "jwks_uri": keys }))
            }
            "/keys" => (held.lock().unwrap())(),
            _ => Reply::fixed(404, &[], ""),
        });
        let origin = Origin::start(
            script
                .probed_at("/keys")
                .probed_at("/.well-known/openid-configuration")
                .probed_at("/.well-known/oauth-authorization-server"),
        );
        url.set(origin.url()).unwrap();
        let provider = Self { origin, keys };
        provider.publish(signers);
        provider
    }

    pub(super) fn url(&self) -> String {
        self.origin.url()
    }

    fn publish(&self, signers: &[&Signer]) {
        let set = set(signers);
        self.say(move || Reply::json(200, &set));
    }

    pub(super) fn say(&self, answer: impl Fn() -> Reply + Send + Sync + 'static) {
        *self.keys.lock().unwrap() = Box::new(answer);
    }

    /// How often it was asked for its keys.
    pub(super) fn asked(&self) -> usize {
        let requests = self.origin.requests();
        requests
            .iter()
            .filter(|request| request.path == "/keys")
            .count()
    }
}

pub(super) fn config(origin: &Origin, jwt: &str, clauses: &str) -> String {
    format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\", protocols: [http1, h2c] }} }}\n\
         admin: {{ socket: admin.sock }}\n\
         authenticators: {{ user: {{ jwt: {{ audiences: [api], {jwt} }} }} }}\n\
         consumers: {{ acme: {{ groups: [partners], identify: {{ claim: azp, equals: acme-web }} }}, \
           gone: {{ suspended: true, identify: [{{ claim: client.id, equals: gone, authenticator: user }}] }} }}\n\
         upstreams: {{ o: {{ targets: [{{ url: \"{}\" }}] }} }}\n\
         routes: [{{ name: all, match: {{ path_prefix: / }}, auth: [user], {clauses} upstream: o }}]\n",
        origin.url()
    )
}

fn ask(gateway: &Gateway, token: &str) -> Response {
    let bearer = format!("Bearer {token}");
    gateway
        .client()
        .request("GET", "/", &[("Authorization", &bearer)], b"")
}

#[track_caller]
fn refused(answer: &Response, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    let kind = format!("urn:doorward:error:{code}");
    assert_eq!(answer.json()["type"], kind.as_str(), "{}", answer.text());
}

/// A gateway that has the keys of its issuer.
fn ready(provider: &Provider, text: &str) -> Gateway {
    let gateway = Gateway::spawn(text);
    let fetched = "doorward_key_fetches_total{authenticator=\"user\",result=\"fetched\"}";
    metric_becomes(&gateway, fetched, |count| count > 0);
    assert_eq!(provider.asked(), 1);
    let when = "doorward_keys_fetched_timestamp_seconds{authenticator=\"user\"}";
    // Of this century, and in seconds.
    metric_becomes(&gateway, when, |at| {
        (1_700_000_000..10_000_000_000).contains(&at)
    });
    gateway
}

const TOLD: &str = "identity: { headers: { x-user: \"{auth.sub}\", x-roles: \"{auth.claims.realm.roles}\", x-by: \"{consumer.name}\" } },";

#[test]
fn tokens_of_an_issuer_are_believed_in_each_algorithm() {
    let signers = [Signer::rsa("r"), Signer::ec("e"), Signer::ed("d")];
    let all: Vec<&Signer> = signers.iter().collect();
    let (provider, origin) = (Provider::start(&all), Origin::echo());
    let issuer = provider.url();
    let gateway = ready(
        &provider,
        &config(&origin, &format!("issuer: \"{issuer}\""), TOLD),
    );
    for signer in &signers {
        let with = json!({ "realm": { "roles": ["a", "b"] }, "azp": "acme-web" });
        let token = signer.token(&claims(&issuer, &with));
        for _ in 0..2 {
            ask(&gateway, &token).expect(200);
            let seen = origin.last();
            assert_eq!(seen.header("authorization"), None);
            assert_eq!(seen.header("x-user"), Some("user-7"));
            assert_eq!(seen.header("x-roles"), Some("a,b"));
            assert_eq!(seen.header("x-by"), Some("acme"));
        }
    }
    let aud = json!({ "aud": ["other", "api"], "azp": "nobody" });
    ask(&gateway, &signers[0].token(&claims(&issuer, &aud))).expect(200);
    assert_eq!(origin.last().header("x-by"), None);
    let gone = json!({ "client": { "id": "gone" } });
    refused(
        &ask(&gateway, &signers[0].token(&claims(&issuer, &gone))),
        403,
        "forbidden",
    );
    let nothing = gateway.client().get("/");
    refused(&nothing, 401, "unauthenticated");
    assert_eq!(
        nothing.header("www-authenticate"),
        Some("Bearer realm=\"api\"")
    );
    assert_eq!(provider.asked(), 1);
    assert!(!gateway.log().contains("eyJ"), "{}", gateway.log());
}

/// Each is a token that somebody, somewhere, has believed: the rows that have this in their name.
#[expect(clippy::too_many_lines, reason = "it is one table")]
fn are_refused(row: &str) {
    let (rsa, ec) = (Signer::rsa("r"), Signer::ec("e"));
    let (provider, origin) = (Provider::start(&[&rsa, &ec]), Origin::echo());
    let url = provider.url();
    let jwt = format!("issuer: \"{url}\", jwks_url: \"{url}/keys\", clock_skew: 0s");
    let gateway = ready(&provider, &config(&origin, &jwt, ""));
    let good = claims(&url, &json!({}));
    let bytes = |json: &Value| json.to_string().into_bytes();
    let with = |claim: &str, value: Value| rsa.token(&claims(&url, &json!({ claim: value })));
    let header = |name: &str, value: Value| {
        let mut header = rsa.header();
        header[name] = value;
        rsa.raw(&bytes(&header), &bytes(&good))
    };
    let of_header = |header: &str| rsa.raw(header.as_bytes(), &bytes(&good));
    let token = rsa.token(&good);
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (head, body) = signed.split_once('.').unwrap();
    let forged = Signer {
        id: "r",
        ..Signer::secret("r", rsa.jwk["n"].as_str().unwrap().as_bytes())
    };
    let other = Signer {
        id: "r",
        ..Signer::rsa("x")
    };
    let mut wrong: Vec<(String, String)> = Vec::new();
    let mut add = |what: &str, token: String| {
        if what.starts_with(row) {
            wrong.push((what.to_owned(), token));
        }
    };
    for alg in [
        "none", "None", "nOnE", "NONE", "", "RS1", "ES512", "HS256", "rs256",
    ] {
        let header = json!({ "alg": alg, "kid": "r" });
        add("J01 algorithm", format!("{}.{body}.", b64(&bytes(&header))));
        add("J01 algorithm", rsa.raw(&bytes(&header), &bytes(&good)));
    }
    add("J01 none at all", of_header(r#"{"kid":"r"}"#));
    add("J02 public key as a secret", forged.token(&good));
    add("J02 another key of the name", other.token(&good));
    add(
        "J02 the key of another algorithm",
        ec.raw(
            &bytes(&json!({ "alg": "ES256", "kid": "r" })),
            &bytes(&good),
        ),
    );
    for name in ["jwk", "jku", "x5u", "x5c", "crit", "b64", "zip"] {
        add("J03 header", header(name, json!([format!("{url}/other")])));
    }
    for id in ["../../dev/null", "' OR 1=1", "a\u{0}", &"k".repeat(5_000)] {
        add("J04 key id", header("kid", json!(id)));
    }
    add("J04 key id", header("kid", json!(7)));
    add(
        "J04 two ids",
        of_header(r#"{"alg":"RS256","kid":"x","kid":"r"}"#),
    );
    for aud in [
        json!("ap"),
        json!("apix"),
        json!(["other"]),
        json!([]),
        json!({ "api": 1 }),
        Value::Null,
    ] {
        add("J05 audience", with("aud", aud));
    }
    for issuer in [
        format!("{url}/"),
        format!("{url}x"),
        "http://other.test".to_owned(),
    ] {
        add("J05 issuer", with("iss", json!(issuer)));
    }
    add("J05 issuer", with("iss", Value::Null));
    for exp in [
        json!(now() - 1),
        json!(-1),
        json!(1.9e9),
        json!("9999999999"),
        json!(1e300),
        json!(u64::MAX),
        json!([1]),
        Value::Null,
    ] {
        add("J06 exp", with("exp", exp));
    }
    add("J06 nbf", with("nbf", json!(now() + 60)));
    add("J06 nbf", with("nbf", json!("0")));
    add("J06 iat", with("iat", json!(now() + 60)));
    for kind in ["logout+jwt", "dpop+jwt", "secevent+jwt", "JWE"] {
        add("J07 kind", header("typ", json!(kind)));
    }
    add("J07 ID token", with("at_hash", json!("x")));
    add(
        "J08 a claim twice",
        rsa.raw(
            &bytes(&rsa.header()),
            format!("{{\"aud\":\"x\",{}", &good.to_string()[1..]).as_bytes(),
        ),
    );
    let deep = [b"[".repeat(2000), b"]".repeat(2000)].concat();
    let deep = format!(
        "{{\"a\":{},{}",
        String::from_utf8(deep).unwrap(),
        &good.to_string()[1..]
    );
    add("J08 depth", rsa.raw(&bytes(&rsa.header()), deep.as_bytes()));
    let by_ec = ec.token(&good);
    let (by_ec, _) = by_ec.rsplit_once('.').unwrap();
    add("J09 r and s are 0", format!("{by_ec}.{}", b64(&[0; 64])));
    add(
        "J09 DER",
        format!("{by_ec}.{}", b64(&[0x30, 6, 2, 1, 1, 2, 1, 1])),
    );
    add("J09 empty", format!("{by_ec}."));
    for text in [
        format!("{token}="),
        format!("{token}\u{20}x"),
        format!("{head}=.{body}.{signature}"),
        format!("{head}. {body}.{signature}"),
        format!("{head}.{body}"),
        format!("{head}.{body}.{signature}.{signature}"),
        format!("{head}.{body}.{signature}.a.b"),
        format!(".{body}.{signature}"),
        "a.b.c".to_owned(),
        "...".to_owned(),
        "opaque".to_owned(),
        "x".repeat(15_000),
    ] {
        add("J10 form", text);
    }
    let swapped = signature.replace(['-', '_'], "+");
    add("J10 alphabet", format!("{head}.{body}.{swapped}+"));
    add(
        "J12 encrypted",
        format!(
            "{}.{body}.a.b.c",
            b64(br#"{"alg":"PBES2-HS256+A128KW","enc":"A128GCM","p2c":1000000000,"zip":"DEF"}"#)
        ),
    );
    let keyed = with("cnf", json!({ "x5t#S256": b64(&[7; 32]) }));
    add("E7 bound to a certificate", keyed);
    add("E7 bound to a key", with("cnf", json!({ "jkt": "x" })));
    assert!(!wrong.is_empty());
    ask(&gateway, &token).expect(200);
    let mut client = gateway.client();
    for (what, token) in &wrong {
        let bearer = format!("Bearer {token}");
        let answer = client.request("GET", "/", &[("Authorization", &bearer)], b"");
        assert_eq!(answer.status, 401, "{what}: {token}");
        let challenge = answer.header("www-authenticate").unwrap();
        assert_eq!(
            challenge, "Bearer realm=\"api\", error=\"invalid_token\"",
            "{what}"
        );
    }
    drop(ask(&gateway, &token).expect(200));
    assert_eq!(origin.count(), 2);
    // What a token brings along is never asked.
    let asked = provider.origin.requests();
    assert!(asked.iter().all(|request| request.path != "/other"));
}

macro_rules! refused {
    ($($name:ident: $row:literal,)*) => {
        $(#[test]
        fn $name() {
            are_refused($row);
        })*
    };
}

refused! {
    an_algorithm_that_proves_nothing_is_none: "J01",
    a_key_verifies_its_own_algorithm_only: "J02",
    a_token_brings_no_keys_and_no_rules_of_its_own: "J03",
    the_name_of_a_key_leads_nowhere_else: "J04",
    issuer_and_audience_are_those_of_the_config_to_the_letter: "J05",
    times_are_whole_seconds_and_a_token_ends: "J06",
    tokens_of_another_kind_let_nobody_in: "J07",
    json_with_two_readings_is_no_token: "J08",
    signatures_that_hold_for_everything_hold_for_nothing: "J09",
    a_token_is_written_in_one_way: "J10",
    encrypted_tokens_are_not_even_unpacked: "J12",
    what_is_bound_to_something_else_is_not_believed: "E7",
}

/// J15: what was found out holds for the whole token, where it was found out, and until it ends.
#[test]
fn a_token_that_was_verified_is_good_where_it_was_and_until_it_ends() {
    let signer = Signer::secret("s", &[1; 32]);
    let origin = Origin::echo();
    let jwt = |audience: &str| {
        format!("jwt: {{ jwks_file: keys.json, clock_skew: 0s, audiences: [{audience}] }}")
    };
    let text = format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\" }} }}\n\
         authenticators: {{ a: {{ {} }}, b: {{ {} }} }}\n\
         upstreams: {{ o: {{ targets: [{{ url: \"{}\" }}] }} }}\n\
         routes: [{{ name: a, match: {{ path: /a }}, auth: [a], upstream: o }}, \
           {{ name: b, match: {{ path: /b }}, auth: [b], upstream: o }}, \
           {{ name: c, match: {{ path: /c }}, auth: [a], authorize: {{ scopes: [x] }}, upstream: o }}]\n",
        jwt("api"),
        jwt("other"),
        origin.url()
    );
    let gateway = Setup::new(&text)
        .file("keys.json", set(&[&signer]).to_string())
        .spawn();
    let mut client = gateway.client();
    let mut status = |path: &str, token: &str| {
        let bearer = format!("Bearer {token}");
        client
            .request("GET", path, &[("Authorization", &bearer)], b"")
            .status
    };
    let ends = now() + 3;
    let token = signer.token(&claims("me", &json!({ "exp": ends })));
    for _ in 0..2 {
        let found = ["/a", "/b", "/c"].map(|path| status(path, &token));
        assert_eq!(found, [200, 401, 403]);
    }
    // Another signature, or none, under the same claims is another token.
    let (signed, _) = token.rsplit_once('.').unwrap();
    let last = b64(&[7; 32]);
    for wrong in [signed.to_owned(), format!("{signed}.{last}")] {
        assert_eq!(status("/a", &wrong), 401);
    }
    while status("/a", &token) == 200 {
        assert!(now() <= ends, "it is believed after its end");
        std::thread::park_timeout(Duration::from_millis(20));
    }
    assert!(now() >= ends);
    assert_eq!(status("/a", &token), 401);
}

/// X01: whatever stands in a claim, a header has one line.
#[test]
fn a_claim_never_ends_a_line() {
    let signer = Signer::secret("s", &[1; 32]);
    let origin = Origin::echo();
    let told = "identity: { headers: { x-user: \"{auth.sub}\", x-team: \"{auth.claims.team}\" } },";
    let gateway = Setup::new(&config(&origin, "jwks_file: keys.json", told))
        .file("keys.json", set(&[&signer]).to_string())
        .spawn();
    for wrong in ["a\r\nx-admin: 1", "a\nb", "a\u{0}b", "\r", "a\u{7f}"] {
        let token = signer.token(&claims("me", &json!({ "sub": wrong, "team": "t" })));
        let answer = ask(&gateway, &token);
        if answer.status == 200 {
            let seen = origin.last();
            assert_eq!(seen.header("x-team"), Some("t"));
            assert_eq!(seen.header("x-admin"), None, "{wrong:?}");
            assert_eq!(seen.header("x-user"), None, "{wrong:?}");
        }
    }
}

/// The cooldown is counted from the last attempt: the first one was when the gateway began.
#[test]
fn a_new_key_is_fetched_when_the_first_token_needs_it() {
    std::thread::scope(|scope| {
        scope.spawn(|| rotates(&Signer::ec("old"), &Signer::ec("new")));
        // Where keys have no names, a signature that none of them made says so.
        let nameless = || Signer::ec("").nameless();
        scope.spawn(move || rotates(&nameless(), &nameless()));
    });
}

fn rotates(old: &Signer, new: &Signer) {
    const PATIENCE: Duration = Duration::from_secs(90);
    let (provider, origin) = (Provider::start(&[old]), Origin::echo());
    let url = provider.url();
    let gateway = ready(
        &provider,
        &config(&origin, &format!("issuer: \"{url}\""), ""),
    );
    let before = old.token(&claims(&url, &json!({})));
    ask(&gateway, &before).expect(200);
    provider.publish(&[old, new]);
    let after = new.token(&claims(&url, &json!({})));
    let since = Instant::now();
    // Nobody can be asked again so soon: the key is not known.
    ask(&gateway, &after).expect(401);
    assert_eq!(provider.asked(), 1);
    while ask(&gateway, &after).status != 200 {
        ask(&gateway, &before).expect(200);
        assert!(since.elapsed() < PATIENCE, "the new key was never fetched");
        std::thread::park_timeout(Duration::from_millis(200));
    }
    assert_eq!(provider.asked(), 2);
    // What is taken out counts from the next fetch on; until then both are good.
    ask(&gateway, &before).expect(200);
}

#[test]
fn keys_without_names_are_tried_one_after_the_other() {
    let origin = Origin::echo();
    let nameless = || Signer::ec("").nameless();
    let signers: Vec<Signer> = (0..5).map(|_| nameless()).collect();
    let rsa = Signer::rsa("").nameless();
    let all: Vec<&Signer> = [&rsa].into_iter().chain(&signers).collect();
    let gateway = Setup::new(&config(
        &origin,
        "issuer: \"https://id.example.com\", jwks_file: keys.json",
        "",
    ))
    .file("keys.json", set(&all).to_string())
    .spawn();
    let claims = claims("https://id.example.com", &json!({}));
    // Four of one kind; no request costs more.
    for (signer, status) in all.iter().zip([200, 200, 200, 200, 200, 401]) {
        assert_eq!(ask(&gateway, &signer.token(&claims)).status, status);
        // A name that nobody gave to a key says nothing.
        let header = json!({ "alg": format!("{:?}", signer.algorithm), "kid": "x" });
        let named = signer.raw(header.to_string().as_bytes(), claims.to_string().as_bytes());
        assert_eq!(ask(&gateway, &named).status, status);
    }
    refused(
        &ask(&gateway, &nameless().token(&claims)),
        401,
        "unauthenticated",
    );
}

#[test]
fn while_the_issuer_is_down_its_keys_hold_until_they_are_too_old() {
    const PATIENCE: Duration = Duration::from_secs(60);
    let signer = Signer::ec("k");
    let (provider, origin) = (Provider::start(&[&signer]), Origin::echo());
    let url = provider.url();
    let jwt = format!("issuer: \"{url}\", keys_max_age: 10s");
    let gateway = ready(&provider, &config(&origin, &jwt, ""));
    provider.say(Reply::close);
    let token = signer.token(&claims(&url, &json!({})));
    let failed = "doorward_key_fetches_total{authenticator=\"user\",result=\"unreachable\"}";
    metric_becomes(&gateway, failed, |count| count > 0);
    ask(&gateway, &token).expect(200);
    let since = Instant::now();
    let answer = loop {
        let answer = ask(&gateway, &token);
        if answer.status != 200 {
            break answer;
        }
        assert!(since.elapsed() < PATIENCE, "keys are believed for ever");
        std::thread::park_timeout(Duration::from_millis(100));
    };
    refused(&answer, 503, "auth_unavailable");
    assert_eq!(answer.header("www-authenticate"), None);
    assert!(answer.header("retry-after").is_some());
    // And whoever shows nothing hears that first.
    refused(&gateway.client().get("/"), 401, "unauthenticated");
}

#[test]
fn an_issuer_that_lies_or_is_not_there_lets_nobody_in() {
    let signer = Signer::ec("k");
    let large = vec![b' '; 10 << 20];
    let answers: Vec<(Answers, &str)> = vec![
        (Box::new(Reply::close), "unreachable"),
        (Box::new(|| Reply::fixed(500, &[], "")), "refused"),
        (
            Box::new(|| Reply::fixed(302, &[("Location", "http://169.254.169.254/")], "")),
            "refused",
        ),
        (
            Box::new(|| Reply::json(200, &json!({ "keys": [] }))),
            "invalid",
        ),
        (
            Box::new(|| {
                Reply::json(
                    200,
                    &json!({ "keys": [{ "kty": "oct", "kid": "k", "k": b64(&[1; 64]) }] }),
                )
            }),
            "invalid",
        ),
        (Box::new(|| Reply::json(200, &json!([]))), "invalid"),
        (
            Box::new(move || Reply::fixed(200, &[], large.clone())),
            "unreachable",
        ),
    ];
    for (answer, result) in answers {
        let (provider, origin) = (Provider::start(&[]), Origin::echo());
        *provider.keys.lock().unwrap() = answer;
        let url = provider.url();
        let gateway = Gateway::spawn(&config(&origin, &format!("issuer: \"{url}\""), ""));
        let counted =
            format!("doorward_key_fetches_total{{authenticator=\"user\",result=\"{result}\"}}");
        metric_becomes(&gateway, &counted, |count| count == 1);
        let answer = ask(&gateway, &signer.token(&claims(&url, &json!({}))));
        refused(&answer, 503, "auth_unavailable");
        let forged = Signer::secret("k", &[1; 64]);
        let status = ask(&gateway, &forged.token(&claims(&url, &json!({})))).status;
        assert_eq!((status, origin.count()), (401, 0), "{result}");
    }
}

#[test]
fn who_comes_before_the_keys_waits_for_them_unless_it_goes() {
    let signer = Signer::ec("k");
    let (provider, origin) = (Provider::start(&[]), Origin::echo());
    let (gate, set) = (Gate::new(), set(&[&signer]));
    let held = gate.clone();
    provider.say(move || Reply::json(200, &set).after(&held));
    let url = provider.url();
    let gateway = Gateway::spawn(&config(&origin, &format!("issuer: \"{url}\""), ""));
    let bearer = format!("Bearer {}", signer.token(&claims(&url, &json!({}))));
    let headers = [("Authorization", bearer.as_str())];
    let (mut stays, mut goes) = (gateway.client(), gateway.client());
    stays.send_request("GET", "/", &headers, b"");
    goes.send_request("GET", "/", &headers, b"");
    gate.wait_until_waiting(1);
    drop(goes);
    let count = |result: &str| {
        format!("doorward_ask_duration_seconds_count{{clause=\"auth\",result=\"{result}\"}}")
    };
    metric_becomes(&gateway, &count("abandoned"), |count| count == 1);
    gate.open();
    stays.response("GET").expect(200);
    metric_becomes(&gateway, &count("passed"), |count| count == 1);
    assert_eq!((origin.count(), provider.asked()), (1, 1));
}

#[test]
fn keys_of_a_file_are_those_of_the_last_reload() {
    let (old, new) = (Signer::secret("s", &[1; 32]), Signer::secret("s", &[2; 32]));
    let origin = Origin::echo();
    let text = config(
        &origin,
        "issuer: me, jwks_file: keys.json, from: [\"cookie:session\", authorization]",
        "",
    );
    let gateway = Setup::new(&text)
        .file("keys.json", set(&[&old]).to_string())
        .spawn();
    let tokens = [&old, &new].map(|signer| signer.token(&claims("me", &json!({}))));
    assert_eq!(
        [
            ask(&gateway, &tokens[0]).status,
            ask(&gateway, &tokens[1]).status
        ],
        [200, 401]
    );
    let cookie = format!("a=1; session={}", tokens[0]);
    gateway
        .client()
        .request("GET", "/", &[("Cookie", &cookie)], b"")
        .expect(200);
    assert_eq!(origin.last().header("cookie"), Some("a=1"));
    std::fs::write(gateway.dir().join("keys.json"), set(&[&new]).to_string()).unwrap();
    let output = reload(&gateway, 0);
    assert!(output.stdout.contains("keys.json"), "{}", output.stdout);
    assert_eq!(
        [
            ask(&gateway, &tokens[0]).status,
            ask(&gateway, &tokens[1]).status
        ],
        [401, 200]
    );
    assert_eq!(metric(&gateway, "doorward_key_fetches_total"), None);
}

#[test]
fn a_token_that_is_bound_to_a_certificate_comes_with_it() {
    let pki = Pki::new();
    let (server, client, other) = (
        pki.issue(&["api.test"]),
        pki.issue(&["web"]),
        pki.issue(&["other"]),
    );
    let signer = Signer::secret("s", &[1; 32]);
    let origin = Origin::echo();
    let tls = "tls: { certificates: [{ cert_file: s.pem, key_file: s.key }], client_auth: { api.test: { mode: optional, ca_file: ca.pem } } }";
    let text = config(&origin, "issuer: me, jwks_file: keys.json", "")
        .replace("protocols: [http1, h2c]", tls);
    let gateway = Setup::new(&text)
        .file("keys.json", set(&[&signer]).to_string())
        .file("s.pem", &server.cert)
        .file("s.key", &server.key)
        .file("ca.pem", &pki.ca)
        .spawn();
    let x509 = openssl::x509::X509::from_pem(client.cert.as_bytes()).unwrap();
    let thumbprint = x509.digest(openssl::hash::MessageDigest::sha256()).unwrap();
    let bound = json!({ "cnf": { "x5t#S256": b64(&thumbprint) } });
    let bearer = format!("Bearer {}", signer.token(&claims("me", &bound)));
    let headers = [("Host", "api.test"), ("Authorization", bearer.as_str())];
    let connect = || Tls::new(&pki.ca, "api.test");
    for (tls, status) in [
        (connect().identity(&client), 200),
        (connect().identity(&other), 401),
        (connect(), 401),
        (connect().identity(&client), 200),
    ] {
        let mut client = tls.connect(gateway.addr());
        client.request("GET", "/", &headers, b"").expect(status);
    }
}

#[test]
fn check_asks_nobody_and_says_so() {
    let (provider, origin) = (Provider::start(&[]), Origin::echo());
    let url = provider.url();
    let setup = Setup::new(&config(&origin, &format!("issuer: \"{url}\""), ""));
    let output = run_cli(&["check"], setup.dir());
    assert_eq!(output.code, 0, "{}{}", output.stdout, output.stderr);
    let expected = format!(
        "not verified offline: keys of `user` ({}/.well-known/openid-configuration)",
        &url[7..]
    );
    assert!(output.stdout.contains(&expected), "{}", output.stdout);
    let explained = run_cli(
        &[
            "explain",
            "GET",
            "http://a.test/",
            "-H",
            "authorization: Bearer e30.e30.e30",
        ],
        setup.dir(),
    );
    assert!(explained.stdout.contains("auth"), "{}", explained.stdout);
    assert_eq!(provider.origin.count(), 0);
}
