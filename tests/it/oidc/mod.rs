//! A real identity provider (npm `oidc-provider`): its tokens, found by discovery; its keys, while they change and while it is
//! gone.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test stops at the first thing that is not as expected"
)]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::control::{metric, metric_becomes};
use super::support::{Client, Gateway, Node, Origin, Response, npm, scale};

/// By which tokens are asked for, each signed so.
const ALGORITHMS: [&str; 3] = ["RS256", "ES256", "EdDSA"];
/// `jwt::source::COOLDOWN`, and a moment.
const COOLDOWN: Duration = Duration::from_secs(31);

/// The provider.
pub(super) struct Provider {
    node: Node,
}

impl Provider {
    pub(super) fn start() -> Self {
        Self::start_at(0)
    }

    fn start_at(port: u16) -> Self {
        let modules = npm(&["oidc-provider@9.13.3"]);
        let modules = modules.to_string_lossy().into_owned();
        let variables = [("MODULES", &*modules), ("PORT", &*port.to_string())];
        let node = Node::start_with(include_str!("provider.cjs"), &variables);
        Self { node }
    }

    pub(super) fn url(&self) -> String {
        self.node.url()
    }

    fn addr(&self) -> SocketAddr {
        self.node.addr()
    }

    /// A token of the client `web`: signed by this algorithm, or `opaque`.
    pub(super) fn token(&self, kind: &str) -> String {
        let form = format!(
            "grant_type=client_credentials&scope=orders:read&resource=urn:api:{kind}\
             &client_id=web&client_secret=secret-of-web"
        );
        let answer = self.post("/token", &form).expect(200);
        answer.json()["access_token"].as_str().unwrap().to_owned()
    }

    pub(super) fn post(&self, path: &str, form: &str) -> Response {
        let kind = ("Content-Type", "application/x-www-form-urlencoded");
        let mut client = Client::connect(self.addr());
        client.request("POST", path, &[kind], form.as_bytes())
    }

    /// Tells it to change its keys.
    fn keys(&self, verb: &str) {
        let mut client = Client::connect(self.addr());
        client.get(&format!("/test/{verb}")).expect(200);
    }

    /// How often it was asked for this.
    pub(super) fn asked(&self, path: &str) -> u64 {
        let mut client = Client::connect(self.addr());
        let counts = client.get("/test/asked").expect(200).json();
        counts[path].as_u64().unwrap_or(0)
    }
}

fn config(issuer: &str, origin: &Origin, jwt: &str) -> String {
    format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\", limits: {{ requests_per_connection: 100000 }} }} }}\n\
         admin: {{ socket: admin.sock }}\n\
         authenticators: {{ user: {{ jwt: {{ issuer: \"{issuer}\", audiences: [api]{jwt} }} }} }}\n\
         upstreams: {{ o: {{ targets: [{{ url: \"{}\" }}] }} }}\n\
         routes: [{{ name: all, match: {{ path_prefix: / }}, auth: [user], authorize: {{ scopes: [\"orders:read\"] }}, \
           identity: {{ headers: {{ x-user: \"{{auth.sub}}\" }} }}, upstream: o }}]\n",
        origin.url()
    )
}

/// A gateway that has the keys of its issuer.
fn ready(provider: &Provider, origin: &Origin, jwt: &str) -> Gateway {
    let gateway = Gateway::spawn(&config(&provider.url(), origin, jwt));
    let fetched = "doorward_key_fetches_total{authenticator=\"user\",result=\"fetched\"}";
    metric_becomes(&gateway, fetched, |count| count > 0);
    gateway
}

fn status(client: &mut Client, token: &str) -> u16 {
    let bearer = format!("Bearer {token}");
    client
        .request("GET", "/", &[("Authorization", &bearer)], b"")
        .status
}

#[test]
fn a_provider_is_found_by_discovery_and_believed_in_each_algorithm() {
    let (provider, origin) = (Provider::start(), Origin::echo());
    let gateway = ready(&provider, &origin, "");
    let mut client = gateway.client();
    for algorithm in ALGORITHMS {
        let token = provider.token(algorithm);
        assert_eq!(status(&mut client, &token), 200, "{algorithm}");
        assert_eq!(origin.last().header("x-user"), Some("web"));
        assert_eq!(origin.last().header("authorization"), None);
        // Of what was signed, one letter is another.
        let (rest, signature) = token.rsplit_once('.').unwrap();
        let first = if signature.starts_with('A') { "B" } else { "A" };
        let (_, others) = signature.split_at(1);
        let forged = format!("{rest}.{first}{others}");
        assert_eq!(status(&mut client, &forged), 401, "{algorithm}");
    }
    assert_eq!(status(&mut client, &provider.token("opaque")), 401);
    assert_eq!(origin.count(), 3);
    assert_eq!(provider.asked("/jwks"), 1);
    assert_eq!(provider.asked("/.well-known/openid-configuration"), 1);
}

/// As providers do it that say so before: the keys are there before anything is signed with them.
#[test]
fn keys_that_are_announced_change_without_a_failed_request() {
    let (provider, origin) = (Provider::start(), Origin::echo());
    let gateway = ready(&provider, &origin, ", keys_max_age: 4s");
    let mut client = gateway.client();
    let old: Vec<String> = ALGORITHMS.iter().map(|it| provider.token(it)).collect();
    // Each takes as long as keys live.
    for round in 0..scale(300).min(30) {
        provider.keys("announce");
        let before = provider.asked("/jwks");
        while provider.asked("/jwks") < before + 2 {
            for token in old.iter().filter(|_| round == 0) {
                assert_eq!(status(&mut client, token), 200);
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        // Whoever asked twice since then has them.
        provider.keys("use");
        for algorithm in ALGORITHMS {
            let token = provider.token(algorithm);
            assert_eq!(status(&mut client, &token), 200, "{algorithm}");
        }
    }
}

/// As others do it: the first that is heard of a new key is a token that names it.
#[test]
fn keys_that_change_at_once_fail_no_request() {
    let (provider, origin) = (Provider::start(), Origin::echo());
    let gateway = ready(&provider, &origin, "");
    let since = Instant::now();
    let (mut client, addr) = (gateway.client(), gateway.addr());
    let old: Vec<String> = ALGORITHMS.iter().map(|it| provider.token(it)).collect();
    while since.elapsed() < COOLDOWN {
        for token in &old {
            assert_eq!(status(&mut client, token), 200);
        }
        std::thread::park_timeout(Duration::from_millis(100));
    }
    assert_eq!(provider.asked("/jwks"), 1);
    provider.keys("rotate");
    let new: Vec<String> = ALGORITHMS.iter().map(|it| provider.token(it)).collect();
    std::thread::scope(|scope| {
        for token in new.iter().chain(&old) {
            scope.spawn(move || {
                let mut client = Client::connect(addr);
                for _ in 0..scale(10_000) / 6 + 1 {
                    assert_eq!(status(&mut client, token), 200);
                }
            });
        }
    });
    assert_eq!(provider.asked("/jwks"), 2);
}

#[test]
fn a_provider_that_is_gone_is_believed_for_a_while_and_then_nobody_comes_in() {
    let (provider, origin) = (Provider::start(), Origin::echo());
    let gateway = ready(&provider, &origin, ", keys_max_age: 8s");
    let (mut client, port) = (gateway.client(), provider.addr().port());
    let known = provider.token("ES256");
    provider.node.process().stop();
    assert_eq!(status(&mut client, &known), 200);
    let unreachable = "doorward_key_fetches_total{authenticator=\"user\",result=\"unreachable\"}";
    metric_becomes(&gateway, unreachable, |count| count > 0);
    let since = Instant::now();
    let last = loop {
        match status(&mut client, &known) {
            200 => assert!(since.elapsed() < COOLDOWN, "keys are believed for ever"),
            other => break other,
        }
        std::thread::park_timeout(Duration::from_millis(50));
    };
    assert_eq!(last, 503);
    let before = origin.count();
    for token in [&*known, "e30.e30.e30"] {
        assert_ne!(status(&mut client, token), 200);
    }
    assert_eq!(origin.count(), before);
    // It comes back with other keys: whose were its own before are nobody's now.
    let provider = Provider::start_at(port);
    let since = Instant::now();
    while metric(
        &gateway,
        "doorward_key_fetches_total{authenticator=\"user\",result=\"fetched\"}",
    )
    .is_none_or(|count| count < 2)
    {
        assert!(since.elapsed() < COOLDOWN * 2, "it is not asked again");
        std::thread::park_timeout(Duration::from_millis(50));
    }
    assert_eq!(status(&mut client, &provider.token("ES256")), 200);
    assert_eq!(status(&mut client, &known), 401);
}
