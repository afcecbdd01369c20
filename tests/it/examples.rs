//! Every file in `conf/examples` is valid as it stands, and a request shows what it is about.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test stops at the first thing that is not as expected"
)]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use regex::Regex;

use super::control::metric_becomes;
use super::keys::Redis;
use super::signatures::signed;
use super::stapling;
use super::support::{
    Client, DEADLINE, Gate, Gateway, Nginx, Origin, Pki, Recorded, Reply, Responder, Response,
    Script, Setup, Tls, TlsOrigin, free_port, run, run_cli, spoken,
};
use super::tokens;

/// One test an example; a file that is not named here fails `every_example_is_exercised`.
macro_rules! examples {
    ($($name:ident,)*) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];
        $(#[test]
        fn $name() {
            exercises::$name(Example::read(stringify!($name)));
        })*
    };
}

examples! {
    access,
    admin,
    balancing,
    auth,
    auth_services,
    authorize,
    bodies,
    body_limits,
    circuit_breaker,
    client_cert,
    compression,
    concurrency,
    connections,
    cors,
    countries,
    credentials,
    csrf,
    defaults,
    drain,
    environments,
    errors,
    expressions,
    fallback,
    food_delivery,
    grpc,
    identity,
    headers,
    health,
    interpolation,
    keys,
    lifecycle,
    limits,
    listeners,
    log,
    maintenance,
    plans,
    proxy_protocol,
    redirect,
    request,
    request_tests,
    respond,
    response,
    retries,
    revoking,
    rewrite,
    routing_conditions,
    routing_hosts,
    routing_paths,
    secrets,
    security_headers,
    shared_keys,
    signatures,
    sticky,
    telemetry,
    timeouts,
    tls,
    versions,
    websocket,
    weighted_targets,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/examples")
}

#[test]
fn every_example_is_exercised() {
    let files = std::fs::read_dir(folder()).unwrap();
    let names: BTreeSet<String> = files
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    let exercised: BTreeSet<String> = NAMES.iter().map(|&name| name.to_owned()).collect();
    assert_eq!(names, exercised);
}

/// The target `127.0.0.1:PORT`, and no other whose port only begins as this one.
pub(super) fn target(port: u16) -> Regex {
    Regex::new(&format!(r"127\.0\.0\.1:{port}\b")).unwrap()
}

/// A checked example, on its way to a gateway.
#[derive(Clone)]
struct Example {
    name: &'static str,
    text: String,
    setup: Vec<(String, String)>,
    files: Vec<(String, Vec<u8>)>,
}

impl Example {
    /// Reads an example and checks it as it stands.
    #[track_caller]
    fn read(name: &'static str) -> Self {
        let path = folder().join(format!("{name}.yaml"));
        let mut check = Command::new(env!("CARGO_BIN_EXE_doorward"));
        check
            .args(["check", "--no-env", "--deny-warnings", "--config"])
            .arg(&path);
        let checked = run(check.current_dir(folder()), DEADLINE);
        assert_eq!(checked.code, 0, "{name}: {}", checked.stderr);
        let text = std::fs::read_to_string(&path).unwrap();
        let first = text.lines().next().unwrap_or_default();
        let schema = "# yaml-language-server: $schema=/usr/share/doorward/schema.json";
        assert_eq!(first, schema, "{name}");
        let example = Self {
            name,
            text,
            setup: Vec::new(),
            files: Vec::new(),
        };
        example.replace("127.0.0.1:8080", "127.0.0.1:0")
    }

    /// Puts one text of the example in place of another; it must be there.
    #[track_caller]
    fn replace(mut self, from: &str, to: &str) -> Self {
        assert!(self.text.contains(from), "{}: no `{from}`", self.name);
        self.text = self.text.replace(from, to);
        self
    }

    /// Puts an origin in place of the target `127.0.0.1:PORT`.
    #[track_caller]
    fn target(mut self, port: u16, origin: &Origin) -> Self {
        let (from, to) = (target(port), origin.addr().to_string());
        assert!(from.is_match(&self.text), "{}: no {port}", self.name);
        self.text = from.replace_all(&self.text, to).into_owned();
        self
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.setup.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A file of the examples that the config names.
    fn with_file(self, name: &str) -> Self {
        let bytes = std::fs::read(folder().join(name)).unwrap();
        self.file(name, bytes)
    }

    fn file(mut self, name: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.files.push((name.to_owned(), bytes.into()));
        self
    }

    #[track_caller]
    fn start(self) -> Gateway {
        let left = (3001..3010).find(|&port| target(port).is_match(&self.text));
        assert_eq!(left, None, "{}: a target without an origin", self.name);
        let mut setup = Setup::new(&self.text);
        for (name, value) in &self.setup {
            setup = setup.env(name, value);
        }
        for (name, bytes) in &self.files {
            setup = setup.file(name, bytes);
        }
        setup.spawn()
    }
}

/// An origin that says its name.
fn named(name: &'static str) -> Origin {
    Origin::answer(move |_| Reply::ok(name))
}

#[track_caller]
fn ask(gateway: &Gateway, target: &str, headers: &[(&str, &str)]) -> Response {
    gateway.client().request("GET", target, headers, b"")
}

/// What a GET with these headers is answered with 200.
#[track_caller]
fn text(gateway: &Gateway, target: &str, headers: &[(&str, &str)]) -> String {
    ask(gateway, target, headers).expect(200).text()
}

/// One request through the gateway, as the origin got it.
#[track_caller]
fn seen(gateway: &Gateway, origin: &Origin, target: &str, headers: &[(&str, &str)]) -> Recorded {
    ask(gateway, target, headers).expect(200);
    origin.last()
}

mod exercises {
    use serde_json::json;

    use super::*;

    /// A trace that began elsewhere.
    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    pub(super) fn routing_hosts(example: Example) {
        let (api, tenants) = (named("api"), named("tenants"));
        let (europe, site) = (named("europe"), named("site"));
        let example = example.target(3001, &api).target(3002, &tenants);
        let gateway = example.target(3003, &europe).target(3004, &site).start();
        for (host, answer) in [
            ("api.example.com", "api"),
            ("API.example.com.:80", "api"),
            ("api.eu.example.com", "api"),
            ("shop.eu.example.com", "europe"),
            ("shop.example.com", "tenants"),
            ("a.b.example.com", "tenants"),
            ("example.com", "site"),
            ("elsewhere.test", "site"),
        ] {
            assert_eq!(text(&gateway, "/", &[("Host", host)]), answer, "{host}");
        }
    }

    pub(super) fn routing_paths(example: Example) {
        let gateway = example.start();
        for (path, answer) in [
            ("/orders/newest", "newest"),
            ("/orders/a%20b", "order a b"),
            ("/orders/17", "numbered order 17"),
            ("/files/a/b.txt", "file a/b.txt"),
            ("/docs", "docs "),
            ("/docs/x/y", "docs /x/y"),
            ("/2026-07.html", "article of 07/2026"),
        ] {
            assert_eq!(text(&gateway, path, &[]), answer, "{path}");
        }
        for path in ["/docsx", "/orders", "/orders/17/items", "/2026-7.html"] {
            ask(&gateway, path, &[]).expect(404);
        }
    }

    pub(super) fn routing_conditions(example: Example) {
        let gateway = example.start();
        let beta = ("X-Beta", "");
        let team = ("X-Team", "search");
        for (target, headers, answer) in [
            ("/search", &[][..], "search"),
            ("/search", &[beta], "search, beta"),
            ("/search?limit=100", &[], "search, wide"),
            ("/search?limit=99", &[], "search"),
            ("/search?limit=100", &[beta], "search, beta"),
            (
                "/search",
                &[("Cookie", "a=b; session=m-7")],
                "search, member",
            ),
            ("/search", &[("Cookie", "session=g-7")], "search"),
            ("/search?debug", &[team, beta], "search, staff"),
            ("/search", &[team], "search"),
            ("/intranet", &[], "intranet"),
            ("/season", &[], "in season"),
            ("/report", &[], "report"),
        ] {
            assert_eq!(
                text(&gateway, target, headers),
                answer,
                "{target} {headers:?}"
            );
        }
        let refused = gateway.client().request("POST", "/report", &[], b"");
        assert_eq!(
            refused.expect(405).header("allow"),
            Some("GET, HEAD, OPTIONS")
        );
    }

    pub(super) fn expressions(example: Example) {
        let gateway = example.start();
        let host = ("Host", "api.test");
        let order = ask(&gateway, "/orders/4711?page=2", &[host]).json();
        let expected = serde_json::json!({ "order": "4711", "via": "GET api.test", "page": "2" });
        assert_eq!(order, expected);
        assert_eq!(ask(&gateway, "/orders/7", &[]).json()["archived"], true);
        assert_eq!(ask(&gateway, "/orders/x7", &[]).json()["order"], "x7");
        let german = [("Accept-Language", "de-CH, en")];
        assert_eq!(text(&gateway, "/hello?lang=de", &[]), "Guten Tag");
        assert_eq!(text(&gateway, "/hello", &german), "Guten Tag");
        assert_eq!(text(&gateway, "/hello", &[]), "Good day, 127.0.0.1");
        assert_eq!(text(&gateway, "/start", &[("X-Client", "ios")]), "app");
        assert_eq!(text(&gateway, "/start", &[("X-Client", "tv")]), "web");
        assert_eq!(text(&gateway, "/start", &[]), "web");
    }

    pub(super) fn rewrite(example: Example) {
        let orders =
            Origin::answer(|request| Reply::fixed(201, &[("Location", &request.path)], ""));
        let shop = named("shop");
        let gateway = example.target(3001, &orders).target(3002, &shop).start();
        let answer = ask(&gateway, "/v1/orders/a%2Cb", &[]).expect(201);
        assert_eq!(orders.last().target, "/internal/orders/a%2Cb");
        assert_eq!(answer.header("location"), Some("/v1/orders/a%2Cb"));
        let cart = seen(&gateway, &shop, "/shop/cart?x=1", &[]);
        assert_eq!(cart.target, "/cart?x=1");
        assert_eq!(cart.header("x-forwarded-prefix"), Some("/shop"));
        assert_eq!(
            seen(&gateway, &shop, "/archive/7", &[]).target,
            "/old/shop/7"
        );
        let language = [("Accept-Language", "de")];
        let search = seen(&gateway, &shop, "/search?q=tea&debug=1&v=1", &language);
        assert_eq!(search.target, "/find?q=tea&lang=de&v=2");
        assert_eq!(search.header("host"), Some("search.internal"));
    }

    pub(super) fn headers(example: Example) {
        let app = Origin::answer(|_| {
            let headers = [
                ("X-Internal-Cost", "3"),
                ("X-App-Version", "9"),
                ("Cache-Control", "public"),
            ];
            Reply::fixed(200, &headers, "")
        });
        let gateway = example.target(3001, &app).start();
        let sent = [
            ("Cookie", "a=b"),
            ("X-Old-Tenant", "t1"),
            ("X-Source", "client"),
            ("X-Page", "forged"),
            ("X-Tag", "theirs"),
        ];
        let answer = ask(&gateway, "/users/7", &sent).expect(200);
        let request = app.last();
        let pairs = [
            ("cookie", None),
            ("x-old-tenant", None),
            ("x-tenant", Some("t1")),
            ("x-source", Some("gateway")),
            ("x-path-user", Some("7")),
            ("x-page", None),
        ];
        for (name, value) in pairs {
            assert_eq!(request.header(name), value, "{name}");
        }
        assert_eq!(request.headers_all("x-tag"), ["theirs", "edge"]);
        let pairs = [
            ("x-internal-cost", None),
            ("x-app-version", None),
            ("x-version", Some("9")),
            ("cache-control", Some("no-store")),
            ("x-route", Some("app")),
        ];
        for (name, value) in pairs {
            assert_eq!(answer.header(name), value, "{name}");
        }
    }

    pub(super) fn redirect(example: Example) {
        let gateway = example.start();
        for (host, target, status, location) in [
            (
                "example.com",
                "/a?b=c",
                308,
                "https://www.example.com/a?b=c",
            ),
            ("example.net", "/old/a?b=c", 308, "/new/a?b=c"),
            (
                "example.net",
                "/go/spring",
                302,
                "http://shop.example.com/campaigns/spring",
            ),
        ] {
            let answer = ask(&gateway, target, &[("Host", host)]).expect(status);
            assert_eq!(answer.header("location"), Some(location));
        }
    }

    pub(super) fn respond(example: Example) {
        let gateway = example.with_file("files/robots.txt").start();
        let ping = ask(&gateway, "/ping", &[]).expect(200);
        assert_eq!(ping.text(), "pong\n");
        assert_eq!(
            ping.header("content-type"),
            Some("text/plain; charset=utf-8")
        );
        let who = ask(&gateway, "/who/Ada%20L", &[]).expect(203);
        let expected = serde_json::json!({ "name": "Ada L", "ip": "127.0.0.1", "known": false, "tags": ["a", "b"] });
        assert_eq!(who.json(), expected);
        assert_eq!(who.header("cache-control"), Some("no-store"));
        assert_eq!(who.header("x-request"), who.header("x-request-id"));
        let robots = std::fs::read_to_string(folder().join("files/robots.txt")).unwrap();
        assert_eq!(text(&gateway, "/robots.txt", &[]), robots);
        assert_eq!(ask(&gateway, "/favicon.ico", &[]).expect(204).text(), "");
    }

    pub(super) fn bodies(example: Example) {
        let orders = Origin::answer(|request| {
            let order = r#"{"cust_no":7,"internal":1,"items":[{"sku":"a","cost":2}]}"#;
            match request.method.as_str() {
                "GET" => Reply::fixed(200, &[("Content-Type", "application/json")], order),
                _ => Reply::ok("thanks"),
            }
        });
        let gateway = example.target(3001, &orders).start();
        let json = [("Content-Type", "application/json")];
        let sent = br#"{"items":[{"qty":3}],"source":"forged","total":9}"#;
        let mut client = gateway.client();
        client
            .request("POST", "/v1/orders", &json, sent)
            .expect(200);
        let expected = r#"{"items":[{"quantity":3}],"source":"127.0.0.1","meta":{"version":2}}"#;
        assert_eq!(orders.last().text(), expected);
        client.request("POST", "/v1/orders", &[], sent).expect(415);
        client
            .request("POST", "/v1/orders", &json, b"{")
            .expect(400);
        assert_eq!(orders.count(), 1);
        let shown = text(&gateway, "/v1/orders/7", &[]);
        assert_eq!(shown, r#"{"customer_id":7,"items":[{"sku":"a"}]}"#);
    }

    pub(super) fn compression(example: Example) {
        let app = Origin::answer(|_| {
            Reply::fixed(200, &[("Content-Type", "text/csv")], "a,b\n".repeat(1_000))
        });
        let gateway = example.target(3001, &app).start();
        for (path, accept, coding) in [
            ("/", "gzip, br, zstd", Some("zstd")),
            ("/", "br, gzip", Some("br")),
            ("/", "deflate", None),
            ("/reports/a", "zstd, gzip", Some("gzip")),
            ("/account/a", "gzip", None),
        ] {
            let answer = ask(&gateway, path, &[("Accept-Encoding", accept)]).expect(200);
            assert_eq!(answer.header("content-encoding"), coding, "{path} {accept}");
            let short = answer.body.len() < 200;
            assert_eq!(short, coding.is_some(), "{path} {accept}");
        }
    }

    pub(super) fn grpc(example: Example) {
        // Nobody is there: the gateway says so as gRPC has it.
        let nobody = format!("127.0.0.1:{}", free_port());
        let gateway = example.replace("127.0.0.1:3001", &nobody).start();
        let kind = ("content-type", "application/grpc");
        for path in ["/acme.users.v1.Users/Get", "/acme.users.v1.Users/Watch"] {
            let call = gateway.client().request("POST", path, &[kind], b"");
            let call = call.expect(200);
            assert_eq!(call.header("grpc-status"), Some("14"));
        }
        let unknown = gateway
            .client()
            .request("POST", "/other.Service/Get", &[kind], b"");
        assert_eq!(unknown.expect(200).header("grpc-status"), Some("12"));
    }

    pub(super) fn websocket(example: Example) {
        let chat = Origin::answer(|_| Reply::upgrade(&[]));
        let gateway = example.target(3001, &chat).start();
        let asked = |origin| {
            let upgrade = [
                ("Connection", "Upgrade"),
                ("Upgrade", "websocket"),
                ("Sec-WebSocket-Version", "13"),
                ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
                ("Origin", origin),
            ];
            let mut client = gateway.client();
            client.send_request("GET", "/chat", &upgrade, b"");
            (client.response_head("GET").status, client)
        };
        assert_eq!(asked("https://elsewhere.test").0, 403);
        assert_eq!(chat.count(), 0);
        let (status, mut client) = asked("https://app.example.com");
        assert_eq!(status, 101);
        // One byte too long: only its length was sent, and it is over (1009).
        assert!(client.send_raw(&[0x82, 0xff, 0, 0, 0, 0, 0, 0x10, 0, 1, 0, 0, 0, 0]));
        assert_eq!(client.read_raw().unwrap(), [0x88, 2, 3, 0xf1]);
    }

    pub(super) fn cors(example: Example) {
        let orders = named("orders");
        let gateway = example.target(3001, &orders).start();
        for (origin, admitted) in [
            ("https://app.example.com", true),
            ("https://berlin.shop.example.com", true),
            ("https://pr-17.preview.example.com", true),
            ("https://pr-x.preview.example.com", false),
            ("https://elsewhere.test", false),
        ] {
            let asks = ("Access-Control-Request-Method", "PUT");
            let preflight = [("Origin", origin), asks];
            let mut client = gateway.client();
            let answer = client.request("OPTIONS", "/v1/orders/7", &preflight, b"");
            let allowed = answer.header("access-control-allow-origin");
            assert_eq!(allowed, admitted.then_some(origin));
        }
        assert_eq!(orders.count(), 0);
        let prices = ask(&gateway, "/v1/prices", &[]).expect(200);
        assert_eq!(prices.header("access-control-allow-origin"), Some("*"));
    }

    pub(super) fn csrf(example: Example) {
        let site = named("site");
        let gateway = example.target(3001, &site).start();
        for (origin, status) in [("https://app.example.com", 200), ("https://evil.test", 403)] {
            let forged = [("Cookie", "a=b"), ("Origin", origin)];
            let mut client = gateway.client();
            assert_eq!(client.request("POST", "/", &forged, b"").status, status);
        }
        assert_eq!(site.count(), 1);
    }

    pub(super) fn security_headers(example: Example) {
        let gateway = example.target(3001, &named("site")).start();
        for (path, framed) in [("/site", "SAMEORIGIN"), ("/hello", "DENY"), ("/", "DENY")] {
            let answer = ask(&gateway, path, &[]);
            assert_eq!(answer.header("x-frame-options"), Some(framed), "{path}");
        }
    }

    pub(super) fn access(example: Example) {
        let app = named("app");
        let example = example.target(3001, &app);
        let gateway = example.with_file("files/bad-networks.txt").start();
        let of = |ip| ("X-Forwarded-For", ip);
        for (path, headers, status) in [
            ("/", &[of("198.51.100.1")][..], 200),
            ("/", &[of("192.0.2.1")], 403),
            ("/", &[of("2001:db8:bad::1")], 403),
            ("/", &[("User-Agent", "BadBot/1.0")], 403),
            ("/.git/config", &[], 403),
            ("/.github", &[], 200),
            ("/intranet", &[of("10.1.2.3")], 200),
            ("/intranet", &[of("10.6.6.6")], 403),
            ("/intranet", &[of("198.51.100.1")], 403),
            (
                "/intranet",
                &[of("10.1.2.3"), ("Origin", "https://evil.test")],
                403,
            ),
        ] {
            assert_eq!(
                ask(&gateway, path, headers).status,
                status,
                "{path} {headers:?}"
            );
        }
        assert_eq!(app.count(), 3);
    }

    pub(super) fn auth(example: Example) {
        let orders = named("orders");
        let gateway = example.target(3001, &orders).start();
        let refused = ask(&gateway, "/orders/7", &[]).expect(401);
        assert_eq!(
            refused.header("www-authenticate"),
            Some("ApiKey realm=\"api\", in=\"header\", name=\"x-api-key\"")
        );
        let key = ("X-Api-Key", "courier-key-for-tests-only");
        assert_eq!(text(&gateway, "/orders/7", &[key]), "orders");
        let seen = orders.last();
        assert_eq!(seen.header("x-api-key"), None);
        assert_eq!(seen.header("x-served-for"), Some("courier"));
        ask(&gateway, "/orders/7", &[("X-Api-Key", "old-partner-key")]).expect(403);
        assert_eq!(text(&gateway, "/menus", &[]), "orders");
        assert_eq!(orders.last().header("x-served-for"), Some("guest"));
    }

    pub(super) fn keys(example: Example) {
        let (orders, folder) = (named("orders"), tempfile::tempdir().unwrap());
        let socket = folder.path().join("admin.sock");
        let example = example
            .target(3001, &orders)
            .env("ADMIN_SOCKET", socket.to_str().unwrap())
            .env(
                "STATE_FOLDER",
                folder.path().join("state").to_str().unwrap(),
            );
        let gateway = example.start();
        let made = |args: &[&str]| {
            let at = ["--admin", socket.to_str().unwrap()];
            let output = run_cli(&[args, &at].concat(), gateway.dir());
            assert_eq!(output.code, 0, "{}", output.stderr);
            output.stdout.trim_end().to_owned()
        };
        ask(&gateway, "/orders/7", &[]).expect(401);
        made(&["consumers", "new", "acme"]);
        for consumer in ["acme", "courier"] {
            let key = made(&["keys", "new", consumer]);
            let shown = [("X-Api-Key", key.as_str())];
            assert_eq!(text(&gateway, "/orders/7", &shown), "orders");
            assert_eq!(orders.last().header("x-served-for"), Some(consumer));
            made(&["consumers", "suspend", consumer]);
            ask(&gateway, "/orders/7", &shown).expect(403);
        }
    }

    pub(super) fn plans(example: Example) {
        let app = named("app");
        let gateway = example.target(3001, &app).start();
        for (target, key, status, plan) in [
            ("/menus", "", 200, "free"),
            ("/menus", "key-of-courier", 200, "free"),
            ("/orders/7", "key-of-courier", 403, ""),
            ("/orders/7", "key-of-acme", 200, "gold"),
        ] {
            let shown = [("X-Api-Key", key), ("X-Plan", "forged")];
            let shown = if key.is_empty() {
                &shown[1..]
            } else {
                &shown[..]
            };
            let before = app.count();
            ask(&gateway, target, shown).expect(status);
            assert_eq!(app.count() - before, u64::from(status == 200), "{target}");
            if status == 200 {
                assert_eq!(app.last().header("x-plan"), Some(plan), "{target}");
            }
        }
    }

    pub(super) fn shared_keys(example: Example) {
        let (orders, redis) = (named("orders"), Redis::start());
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("app-token"), "canary-of-redis").unwrap();
        let fleet = [(0, example.clone()), (1, example)].map(|(number, example)| {
            let socket = folder.path().join(format!("{number}.sock"));
            let gateway = example
                .target(3001, &orders)
                .replace("127.0.0.1:6379", &format!("127.0.0.1:{}", redis.port))
                .env("ADMIN_SOCKET", socket.to_str().unwrap())
                .env("CREDENTIALS_DIRECTORY", folder.path().to_str().unwrap())
                .start();
            (gateway, socket)
        });
        let [(one, socket), (other, _)] = &fleet;
        let made = |args: &[&str]| {
            let at = ["--admin", socket.to_str().unwrap()];
            let output = run_cli(&[args, &at].concat(), one.dir());
            assert_eq!(output.code, 0, "{}", output.stderr);
            output.stdout.trim_end().to_owned()
        };
        made(&["consumers", "new", "acme"]);
        let key = made(&["keys", "new", "acme"]);
        let shown = [("X-Api-Key", key.as_str())];
        assert_eq!(text(one, "/orders/7", &shown), "orders");
        // The other one hears of it within a second.
        let since = Instant::now();
        while ask(other, "/orders/7", &shown).status != 200 {
            assert!(since.elapsed() < DEADLINE, "it never hears of it");
        }
    }

    pub(super) fn countries(example: Example) {
        let app = named("app");
        let example = example.target(3001, &app);
        let gateway = example.with_file("files/countries.mmdb").start();
        for (ip, status) in [
            ("192.0.2.1", 200),
            ("198.51.100.1", 200),
            ("203.0.113.1", 403),
            ("2001:db8::1", 200),
            ("8.8.8.8", 403),
        ] {
            let answer = ask(&gateway, "/", &[("X-Forwarded-For", ip)]);
            assert_eq!(answer.status, status, "{ip}");
        }
    }

    pub(super) fn client_cert(example: Example) {
        let (app, pki) = (named("app"), Pki::new());
        let mut server = pki.issue(&["partner.example.com"]);
        server.cert.push_str(&pki.ca);
        let gateway = example
            .target(3001, &app)
            .file("files/example.pem", server.cert.as_bytes())
            .file("files/example.key", server.key.as_bytes())
            .file("files/example.crl", pki.crl().as_bytes())
            .start();
        let (acme, other) = (
            pki.issue(&["web.acme.example.com"]),
            pki.issue(&["web.example.com"]),
        );
        let tls = || Tls::new(&pki.ca, "partner.example.com");
        for (tls, status) in [
            (tls().identity(&acme), 200),
            (tls().identity(&other), 403),
            (tls(), 401),
        ] {
            let mut client = tls.connect(gateway.addr());
            let host = [("Host", "partner.example.com")];
            client
                .request("GET", "/orders/7", &host, b"")
                .expect(status);
        }
        assert_eq!(app.count(), 1);
        assert_eq!(app.last().header("x-user-id"), Some("acme"));
    }

    pub(super) fn credentials(example: Example) {
        let app = named("app");
        let given = serde_json::json!({ "access_token": "t", "token_type": "bearer" });
        let script = Script::new(move |_| Reply::json(200, &given));
        let authority = Origin::start(script.probed_at("/token"));
        let example = example.target(3001, &app).target(3002, &authority);
        let example = example
            .env("CLIENT_SECRET", "a")
            .env("PRICES_PASSWORD", "b");
        let gateway = example.env("SEARCH_KEY", "c").env("AWS_KEY", "d").start();
        for (path, name, begins) in [
            ("/orders", "authorization", "Bearer t"),
            ("/prices", "authorization", "Basic Z2F0ZXdheTpi"),
            ("/search", "x-api-key", "c"),
            (
                "/pictures",
                "authorization",
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/",
            ),
        ] {
            let request = seen(&gateway, &app, path, &[]);
            let shown = request.header(name).unwrap_or_default();
            assert!(shown.starts_with(begins), "{path}: {shown}");
        }
    }

    /// A token of the issuer whose key is in `files/keys.json`.
    fn bearer(with: &serde_json::Value) -> String {
        let claims = tokens::claims("https://id.example.com", with);
        format!("Bearer {}", tokens::signer_of_the_examples().token(&claims))
    }

    pub(super) fn auth_services(example: Example) {
        let app = named("app");
        let issuer = Origin::answer(|request| match request.text().as_str() {
            "token=good&token_type_hint=access_token" => Reply::json(
                200,
                &json!({ "active": true, "sub": "user-7", "scope": "orders:read" }),
            ),
            _ => Reply::json(200, &json!({ "active": false })),
        });
        let sessions = Origin::answer(|request| match request.header("cookie") {
            Some("session=7") => Reply::fixed(200, &[("X-User-Id", "user-7")], ""),
            _ => Reply::fixed(302, &[("Location", "https://id.test/")], ""),
        });
        let example = example.with_file("files/auth-secret.txt");
        let example = example.target(3001, &app).target(3002, &issuer);
        let gateway = example.target(3003, &sessions).start();
        for (target, credential, status) in [
            ("/orders/1", ("Authorization", "Bearer good"), 200),
            ("/orders/1", ("Authorization", "Bearer bad"), 401),
            ("/pages/1", ("Cookie", "session=7"), 200),
            ("/pages/1", ("Cookie", "session=8"), 302),
            // Nobody is there.
            ("/machines/1", ("Authorization", "Bearer good"), 503),
        ] {
            let before = app.count();
            ask(&gateway, target, &[credential, ("X-User-Id", "admin")]).expect(status);
            assert_eq!(app.count() - before, u64::from(status == 200), "{target}");
            assert_eq!(app.last().header("x-user-id"), Some("user-7"), "{target}");
        }
        let before = app.count();
        for (bytes, status) in [(1024, 503), (1025, 413)] {
            let mut client = gateway.client();
            let answer = client.request("POST", "/machines/1", &[], &vec![b'x'; bytes]);
            assert_eq!(answer.status, status, "{bytes}");
        }
        assert_eq!(app.count(), before);
    }

    pub(super) fn signatures(example: Example) {
        let app = named("app");
        let gateway = example
            .with_file("files/hooks.jwks")
            .target(3001, &app)
            .start();
        let body = b"{\"order\":7}";
        let headers = signed("shop-1", "POST", "/hooks/orders", body);
        let headers = headers
            .each_ref()
            .map(|(name, value)| (*name, value.as_str()));
        let mut client = gateway.client();
        drop(
            client
                .request("POST", "/hooks/orders", &headers, body)
                .expect(200),
        );
        assert_eq!(app.last().header("x-served-for"), Some("shop"));
        assert_eq!(app.last().body, body);
        let other = b"{\"order\":8}";
        drop(
            client
                .request("POST", "/hooks/orders", &headers, other)
                .expect(401),
        );
        assert_eq!(app.count(), 1);
    }

    pub(super) fn revoking(example: Example) {
        let (app, folder) = (named("app"), tempfile::tempdir().unwrap());
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let socket = path("admin.sock");
        let example = example.with_file("files/keys.json").target(3001, &app);
        let example = example.env("ADMIN_SOCKET", &socket);
        let gateway = example.env("STATE_FOLDER", &path("state")).start();
        let (one, other) = (json!({ "jti": "7f3c" }), json!({ "jti": "7f3d" }));
        let asked = |claims| {
            let with = json!({ "aud": "shop", "jti": claims });
            ask(&gateway, "/orders", &[("Authorization", &bearer(&with))])
        };
        for claims in [&one, &other] {
            asked(&claims["jti"]).expect(200);
        }
        let args = ["tokens", "revoke", "--jti", "7f3c", "--admin", &socket];
        let output = run_cli(&args, gateway.dir());
        assert_eq!(output.code, 0, "{}", output.stderr);
        asked(&one["jti"]).expect(401);
        asked(&other["jti"]).expect(200);
    }

    pub(super) fn authorize(example: Example) {
        let app = named("app");
        let example = example.with_file("files/keys.json");
        let example = example.with_file("files/ops.htpasswd");
        let gateway = example.target(3001, &app).start();
        let roles = json!({ "roles": ["customer"] });
        let good = json!({ "aud": "shop", "scope": "a orders:read", "tenant": "a", "realm_access": roles });
        let asked = |target: &str, token: &str| ask(&gateway, target, &[("Authorization", token)]);
        asked("/tenants/a/orders/7", &bearer(&good)).expect(200);
        asked("/tenants/b/orders/7", &bearer(&good)).expect(403);
        for (name, value) in [
            ("scope", json!("orders:write")),
            ("realm_access", json!({ "roles": ["guest"] })),
            ("realm_access", json!("customer")),
            ("tenant", json!(["a"])),
            ("tenant", json!(null)),
        ] {
            let mut claims = good.clone();
            claims[name] = value;
            let answer = asked("/tenants/a/orders/7", &bearer(&claims)).expect(403);
            let challenge = answer.header("www-authenticate");
            let expected =
                "Bearer realm=\"api\", error=\"insufficient_scope\", scope=\"orders:read\"";
            assert_eq!(challenge, (name == "scope").then_some(expected));
        }
        asked("/partners/1", &bearer(&good)).expect(403);
        let partner = json!({ "aud": "shop", "azp": "acme-web", "scope": "admin" });
        asked("/partners/1", &bearer(&partner)).expect(200);
        asked("/vouchers/1", &bearer(&partner)).expect(200);
        asked("/vouchers/1", &bearer(&good)).expect(403);
        // `night-shift:counting-vouchers`: it has no scopes, and is an operator.
        let ops = "Basic bmlnaHQtc2hpZnQ6Y291bnRpbmctdm91Y2hlcnM=";
        asked("/vouchers/1", ops).expect(403);
        let before = app.count();
        asked("/menus/1", ops).expect(200);
        asked("/menus/1", &bearer(&good)).expect(200);
        gateway.process().wait_log("a request would be refused");
        assert_eq!(app.count(), before + 2);
    }

    pub(super) fn identity(example: Example) {
        let app = named("app");
        let example = example.with_file("files/keys.json");
        let gateway = example.target(3001, &app).start();
        let claims = json!({ "aud": "shop", "realm_access": { "roles": ["a", "b"] } });
        let token = bearer(&claims);
        let forged = [
            ("X-User-Id", "admin"),
            ("X-Roles", "admin"),
            ("x-tenant", "other"),
        ];
        let headers = [&[("Authorization", token.as_str())], &forged[..]].concat();
        let seen = seen(&gateway, &app, "/orders/7", &headers);
        assert_eq!(seen.headers_all("x-user-id"), ["user-7"]);
        assert_eq!(seen.headers_all("x-roles"), ["a,b"]);
        assert_eq!(seen.header("x-tenant"), None);
        assert_eq!(seen.header("authorization"), None);
        ask(&gateway, "/orders/7", &forged).expect(401);
    }

    pub(super) fn maintenance(example: Example) {
        let app = named("app");
        let gateway = example.target(3001, &app).start();
        let reports = ask(&gateway, "/reports/7", &[]).expect(503);
        assert_eq!(reports.header("retry-after"), Some("600"));
        assert_eq!(reports.json()["detail"], "Reports are back at noon.");
        let export = ask(&gateway, "/export", &[]).expect(503);
        assert_eq!(export.header("retry-after"), Some("60"));
        assert_eq!(text(&gateway, "/other", &[]), "app");
        assert_eq!(app.count(), 1);
    }

    pub(super) fn timeouts(example: Example) {
        let gate = Gate::new();
        let held = gate.clone();
        let orders = Origin::answer(move |request| match request.path.as_str() {
            "/v1/quick" => Reply::never(&held),
            _ => Reply::ok("an order"),
        });
        let reports = named("reports");
        let example = example.target(3001, &orders).target(3002, &reports);
        let gateway = example.start();
        ask(&gateway, "/v1/quick", &[]).expect(504);
        gate.open();
        ask(&gateway, "/v1/orders/7", &[]).expect(200);
        ask(&gateway, "/v1/reports", &[]).expect(200);
    }

    pub(super) fn circuit_breaker(example: Example) {
        let orders = Origin::answer(|_| Reply::fixed(500, &[], "bad"));
        let gateway = example.target(3001, &orders).start();
        for _ in 0..3 {
            ask(&gateway, "/v1/reports", &[]).expect(500);
        }
        let open = ask(&gateway, "/v1/reports", &[]).expect(503);
        assert_eq!(open.header("retry-after"), Some("60"));
        for _ in 0..20 {
            ask(&gateway, "/v1/orders/7", &[]).expect(500);
        }
        let open = ask(&gateway, "/v1/orders/7", &[]).expect(503);
        assert_eq!(open.header("retry-after"), Some("15"));
        ask(&gateway, "/v1/health", &[]).expect(500);
        assert_eq!(orders.count(), 24);
    }

    pub(super) fn concurrency(example: Example) {
        let gate = Gate::new();
        let held = gate.clone();
        let orders = Origin::answer(move |_| Reply::ok("an order").after(&held));
        let search = named("search");
        let example = example.target(3001, &orders).target(3002, &search);
        let gateway = example.start();
        let mut clients: Vec<_> = (0..2).map(|_| gateway.client()).collect();
        for client in &mut clients {
            client.send_request("GET", "/v1/orders/7", &[("Host", "a.test")], b"");
        }
        orders.wait_for(2);
        let mut third = gateway.client();
        third.send_request("GET", "/v1/orders/7", &[("Host", "a.test")], b"");
        for _ in 0..20 {
            ask(&gateway, "/v1/search", &[]).expect(200);
        }
        assert_eq!(orders.count(), 2);
        gate.open();
        for client in clients.iter_mut().chain([&mut third]) {
            client.response("GET").expect(200);
        }
    }

    pub(super) fn fallback(example: Example) {
        let (orders, spare) = (
            Origin::answer(|_| Reply::fixed(500, &[], "bad")),
            Origin::answer(|request| match request.path.as_str() {
                "/v1/orders/7" => Reply::ok("spare"),
                _ => Reply::fixed(500, &[], "bad too"),
            }),
        );
        let gateway = example.target(3001, &orders).target(3002, &spare).start();
        let answer = ask(&gateway, "/v1/orders/7", &[]).expect(200);
        assert_eq!(answer.header("gateway-fallback"), Some("upstream"));
        let answer = ask(&gateway, "/v1/orders/8", &[]).expect(200);
        assert_eq!(answer.header("gateway-fallback"), Some("respond"));
        assert_eq!(answer.json()["note"], "from memory");
    }

    pub(super) fn retries(example: Example) {
        let busy = || Origin::answer(|_| Reply::fixed(503, &[], "busy"));
        let (bad, good, reports) = (busy(), named("good"), busy());
        let example = example.target(3001, &bad).target(3002, &good);
        let example = example.target(3003, &reports);
        let gate = Gate::new();
        let prices = [(); 2].map(|()| {
            let held = gate.clone();
            Origin::answer(move |request| match request.header("x-attempt") {
                None => Reply::never(&held),
                Some(_) => Reply::ok("a price"),
            })
        });
        let example = example.target(3004, &prices[0]).target(3005, &prices[1]);
        let gateway = example.start();
        for _ in 0..2 {
            ask(&gateway, "/v1/orders/7", &[]).expect(200);
        }
        assert_eq!(
            ask(&gateway, "/v1/prices", &[]).expect(200).text(),
            "a price"
        );
        gate.open();
        assert_eq!(good.count(), 2);
        ask(&gateway, "/v1/reports", &[]).expect(503);
        assert_eq!(reports.count(), 2);
        ask(&gateway, "/v1/reports/start", &[]).expect(503);
        assert_eq!(reports.count(), 3);
    }

    pub(super) fn body_limits(example: Example) {
        let orders = Origin::answer(|request| match request.path.as_str() {
            "/v1/orders/long" => Reply::large(2 * 1024 * 1024),
            _ => Reply::ok("an order"),
        });
        let gateway = example.target(3001, &orders).start();
        ask(&gateway, "/v1/orders/7", &[]).expect(200);
        ask(&gateway, "/v1/orders/long", &[]).expect(502);
        let mut client = gateway.client();
        let long = [("Host", "a.test"), ("Content-Length", "65537")];
        client.send_request("POST", "/v1/orders", &long, b"");
        client.response("POST").expect(413);
        let long = vec![b'a'; 65537];
        let mut client = gateway.client();
        client.request("POST", "/v1/upload", &[], &long).expect(200);
    }

    pub(super) fn lifecycle(example: Example) {
        let app = named("app");
        let gateway = example.target(3001, &app).start();
        let old = ask(&gateway, "/v1/orders/7", &[]).expect(200);
        assert_eq!(old.header("deprecation"), Some("@1788220800"));
        assert_eq!(old.header("sunset"), Some("Thu, 31 Dec 2099 00:00:00 GMT"));
        let links = old.headers_all("link").join(", ");
        assert!(
            links.contains("</v2/orders/7>; rel=\"successor-version\""),
            "{links}"
        );
        assert!(
            links.contains("<https://docs.example.com/v2>; rel=\"deprecation\""),
            "{links}"
        );
        let new = ask(&gateway, "/v2/orders/7", &[]).expect(200);
        assert_eq!(new.header("deprecation"), None);
        let gone = ask(&gateway, "/v0/orders/7", &[]).expect(410);
        assert_eq!(
            gone.header("link"),
            Some("</v2/orders/7>; rel=\"successor-version\"")
        );
        assert_eq!(app.count(), 2);
    }

    pub(super) fn versions(example: Example) {
        let gateway = example.start();
        let version = |version| [("Api-Version", version)];
        let accept = [("Accept", "text/html, application/json;version=3")];
        assert_eq!(text(&gateway, "/orders", &[]), "orders of 2026-07");
        assert_eq!(
            text(&gateway, "/orders", &version("2026-07")),
            "orders of 2026-07"
        );
        assert_eq!(
            text(&gateway, "/orders", &version("2025-06")),
            "orders of 2025"
        );
        ask(&gateway, "/orders", &version("2024-01")).expect(404);
        assert_eq!(text(&gateway, "/users?v=2", &[]), "users 2");
        ask(&gateway, "/users", &[]).expect(404);
        assert_eq!(text(&gateway, "/items", &accept), "items 3");
        ask(&gateway, "/items", &[("Accept", "application/json")]).expect(404);
        assert_eq!(text(&gateway, "/v1/news", &[]), "news 1");
        assert_eq!(text(&gateway, "/news", &[]), "news 1");
        assert_eq!(text(&gateway, "/v2/news", &[]), "news 2");
    }

    pub(super) fn environments(example: Example) {
        let (orders, next, users) = (named("orders"), named("next"), named("users"));
        let example = example.target(3001, &orders).target(3002, &next);
        let gateway = example.target(3003, &users).start();
        let production = [("Host", "api.example.com")];
        let staging = [("Host", "api.staging.example.com")];
        assert_eq!(text(&gateway, "/v1/orders/7", &production), "orders");
        assert_eq!(text(&gateway, "/v1/orders/7", &staging), "next");
        assert_eq!(next.last().path, "/orders/7");
        assert_eq!(text(&gateway, "/v1/users/7", &staging), "users");
        ask(&gateway, "/v1/users/7", &[("Host", "other.example.com")]).expect(404);
    }

    pub(super) fn balancing(example: Example) {
        let (one, other, backup) = (named("one"), named("other"), named("backup"));
        let example = example.target(3001, &one).target(3002, &other);
        let gateway = example.target(3003, &backup).start();
        let of = |tenant: &str| text(&gateway, "/", &[("x-tenant", tenant)]);
        let tenants: Vec<String> = (0..20).map(|tenant| tenant.to_string()).collect();
        for tenant in &tenants {
            assert_eq!(of(tenant), of(tenant));
        }
        let seen: BTreeSet<String> = tenants.iter().map(|tenant| of(tenant)).collect();
        assert_eq!(Vec::from_iter(seen), ["one", "other"]);
        assert_eq!(backup.count(), 0);
    }

    pub(super) fn health(example: Example) {
        let probed = |name: &'static str, body: &'static str| {
            let answer = move |asked: &Recorded| {
                let probe = asked.path == "/healthz";
                Reply::ok(if probe { body } else { name })
            };
            Origin::start(Script::new(answer).probed_at("/healthz"))
        };
        let (one, other, backup) = (
            probed("one", "ok"),
            probed("other", "out of order"),
            probed("backup", "ok"),
        );
        let example = example
            .replace("interval: 5s", "interval: 20ms")
            .replace("version: 1", "version: 1\nadmin: { socket: admin.sock }")
            .target(3001, &one)
            .target(3002, &other);
        let gateway = example.target(3003, &backup).start();
        gateway.process().wait_log("target is not well");
        let unhealthy = "doorward_upstream_targets{state=\"unhealthy\",upstream=\"app\"}";
        metric_becomes(&gateway, unhealthy, |now| now == 1);
        for _ in 0..10 {
            assert_eq!(text(&gateway, "/", &[]), "one");
        }
    }

    pub(super) fn sticky(example: Example) {
        let (one, other) = (named("one"), named("other"));
        let example = example.target(3001, &one).target(3002, &other);
        let example = example.env("STICKY_SECRET", "0123456789abcdef0123456789abcdef");
        let gateway = example.start();
        for path in ["/", "/cart"] {
            let answer = gateway.client().get(path).expect(200);
            let cookie = answer.header("set-cookie").unwrap();
            let (cookie, _) = cookie.split_once(';').unwrap();
            for _ in 0..10 {
                assert_eq!(text(&gateway, path, &[("Cookie", cookie)]), answer.text());
            }
        }
    }

    pub(super) fn connections(example: Example) {
        let small = named("small");
        let mail = Nginx::start_http(|addr, _| {
            format!(
                "server {{ listen {addr} proxy_protocol; location / {{ return 200 $proxy_protocol_addr; }} }}"
            )
        });
        let example = example.replace("127.0.0.1:3002", &mail.addr().to_string());
        let gateway = example.target(3001, &small).start();
        assert_eq!(text(&gateway, "/", &[]), "small");
        assert_eq!(text(&gateway, "/mail", &[]), "127.0.0.1");
    }

    pub(super) fn weighted_targets(example: Example) {
        let (light, heavy) = (named("light"), named("heavy"));
        let gateway = example.target(3001, &light).target(3002, &heavy).start();
        let mut client = gateway.client();
        for _ in 0..30 {
            client.get("/").expect(200);
        }
        assert_eq!((light.count(), heavy.count()), (10, 20));
    }

    pub(super) fn proxy_protocol(example: Example) {
        let app = named("app");
        let gateway = example.target(3001, &app).start();
        let mut client = gateway.client();
        client.send_raw(b"PROXY TCP4 192.0.2.7 10.0.0.1 12345 443\r\n");
        client.get("/").expect(200);
        assert_eq!(app.last().header("x-real-ip"), Some("192.0.2.7"));
        let ended = gateway.client().try_request("GET", "/", &[], b"");
        assert!(ended.is_err(), "nobody comes in without");
    }

    pub(super) fn tls(example: Example) {
        // As the file has it, but with an authority that answers.
        let (pki, responder) = (Pki::new(), Responder::start());
        let names = ["a.test", "api.example.com", "partner.example.com"];
        let mut pair = pki.issue_with_responder(&names, &responder.url());
        pair.cert.push_str(&pki.ca);
        let ca = pki.ca.clone();
        responder.say(move |question| spoken(&pki.answer(question, None, " -ndays 7")));
        let app = TlsOrigin::start(&pair, |_| {});
        let example = example
            .replace("127.0.0.1:3001", &app.addr().to_string())
            .replace("version: 1", "version: 1\nadmin: { socket: admin.sock }")
            .file("files/example.pem", pair.cert.as_bytes())
            .file("files/example.key", pair.key.as_bytes());
        let gateway = example.start();
        stapling::fetched(&gateway, "good", 1);
        stapling::shows(&gateway, "good");
        let tls = |name: &str| Tls::new(&ca, name);
        let get = |mut client: Client, host: &str| {
            let answer = client.try_request("GET", "/", &[("Host", host)], b"");
            answer.map(|answer| answer.status)
        };
        let open = tls("api.example.com").connect(gateway.addr());
        assert_eq!(get(open, "api.example.com"), Ok(200));
        let open = tls("api.example.com").connect(gateway.addr());
        assert_eq!(get(open, "partner.example.com"), Ok(421));
        let partner = tls("partner.example.com")
            .identity(&pair)
            .connect(gateway.addr());
        assert_eq!(get(partner, "partner.example.com"), Ok(200));
        let nobody = tls("partner.example.com").try_connect(gateway.addr());
        let nobody = nobody.is_ok_and(|client| get(client, "partner.example.com").is_ok());
        assert!(!nobody, "a certificate is required");
        assert!(tls("elsewhere.test").try_connect(gateway.addr()).is_err());
        let heard = app.heard();
        assert_eq!((heard.requests, heard.name.as_deref()), (2, Some("a.test")));
        let told = String::from_utf8_lossy(&heard.bytes).to_lowercase();
        assert_eq!(told.matches("client-cert: :mi").count(), 1, "{told}");
    }

    pub(super) fn limits(example: Example) {
        let app = named("app");
        let gateway = example.target(3001, &app).start();
        let path = |length: usize| format!("/{}", "a".repeat(length - 1));
        ask(&gateway, &path(2048), &[]).expect(200);
        ask(&gateway, &path(2049), &[]).expect(414);
    }

    pub(super) fn listeners(example: Example) {
        let app = named("app");
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("http.sock");
        let example = example
            .target(3001, &app)
            .replace("127.0.0.1:8081", "127.0.0.1:0")
            .replace("/run/doorward/http.sock", socket.to_str().unwrap());
        let gateway = example.start();
        let get = |addr: SocketAddr, target: &str, headers: &[(&str, &str)]| {
            Client::connect(addr).request("GET", target, headers, b"")
        };
        let (public, internal) = (gateway.addr_of("public"), gateway.addr_of("internal"));
        let host = ("Host", "api.example.com");
        let forwarded = [host, ("X-Forwarded-For", "192.0.2.7")];
        get(public, "/", &[("Host", "example.net")]).expect(421);
        let answer = get(public, "/", &forwarded).expect(200);
        assert_eq!(answer.header("x-listener"), None);
        assert_eq!(app.last().header("x-real-ip"), Some("192.0.2.7"));
        let answer = get(internal, "/", &forwarded).expect(200);
        assert_eq!(answer.header("x-listener"), Some("internal"));
        assert_eq!(app.last().header("x-real-ip"), Some("127.0.0.1"));
        assert_eq!(get(internal, "/status", &[host]).expect(200).text(), "up");
        assert_eq!(get(public, "/status", &[host]).expect(200).text(), "app");
        assert_eq!(over_socket(&socket), "up");
    }

    /// The body of `/status` over a socket of the file system.
    fn over_socket(path: &Path) -> String {
        use std::io::{Read as _, Write as _};
        let mut stream = std::os::unix::net::UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let request = "GET /status HTTP/1.1\r\nHost: local\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    pub(super) fn errors(example: Example) {
        let app = Origin::answer(|_| Reply::close());
        let gone = Origin::echo();
        let example = example.target(3001, &gone).with_file("files/error.html");
        drop((app, gone));
        let gateway = example.start();
        let missing = ask(&gateway, "/nothing", &[]).expect(404).json();
        assert_eq!(missing["type"], "https://errors.example.com/not_found");
        assert_eq!(missing["title"], "Nothing here");
        assert_eq!(missing["detail"], "Have a look at https://docs.example.com");
        let page = ask(&gateway, "/nothing", &[("Accept", "text/html")]).expect(404);
        let id = page.header("x-request-id").unwrap().to_owned();
        let page = page.text();
        assert!(page.contains("<title>404 Nothing here</title>"), "{page}");
        assert!(
            page.contains(&format!("Tell us this number: {id}")),
            "{page}"
        );
        let refused = ask(&gateway, "/app", &[]).expect(502).json();
        assert_eq!(
            refused["type"],
            "https://errors.example.com/connect_failure"
        );
        assert_eq!(refused["detail"], "We will be back in a minute.");
    }

    pub(super) fn defaults(example: Example) {
        let app = named("app");
        let gateway = example.target(3001, &app).start();
        let found = |path: &str| {
            let answer = ask(&gateway, path, &[]).expect(200);
            let header = |name: &str| answer.header(name).map(str::to_owned);
            (header("x-gateway"), header("cache-control"))
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(found("/inherits"), (some("edge"), some("no-store")));
        assert_eq!(found("/replaces"), (None, some("max-age=60")));
        assert_eq!(found("/plain"), (None, None));
    }

    pub(super) fn interpolation(example: Example) {
        let app = named("app");
        let address = app.addr().to_string();
        let set = example.env("APP_ADDRESS", &address).env("STAGE", "test");
        let gateway = set.env("APP_WEIGHT", "3").start();
        assert_eq!(
            seen(&gateway, &app, "/", &[]).header("x-stage"),
            Some("test")
        );
        assert_eq!(text(&gateway, "/stage", &[]), "${STAGE} is test");
        let example = Example::read("interpolation").env("APP_ADDRESS", &address);
        let gateway = example.start();
        assert_eq!(
            seen(&gateway, &app, "/", &[]).header("x-stage"),
            Some("local")
        );
        let text = Example::read("interpolation").text;
        let missing = Setup::new(&text).fails();
        assert_eq!(missing.code, 78);
        let message = "the address of the app, as host:port";
        assert!(missing.stderr.contains(message), "{}", missing.stderr);
    }

    pub(super) fn secrets(example: Example) {
        let app = named("app");
        let credentials = tempfile::tempdir().unwrap();
        std::fs::write(credentials.path().join("app-token"), "token-3\n").unwrap();
        let example = example
            .target(3001, &app)
            .env("APP_API_KEY", "key-{1}")
            .env(
                "CREDENTIALS_DIRECTORY",
                credentials.path().to_str().unwrap(),
            )
            .file("app.key", "signing-2\n");
        let gateway = example.start();
        let request = seen(&gateway, &app, "/", &[("X-Api-Key", "client")]);
        assert_eq!(request.headers_all("x-api-key"), ["key-{1}"]);
        assert_eq!(request.header("x-signing-key"), Some("signing-2"));
        assert_eq!(request.header("x-token"), Some("token-3"));
        let mut show = Command::new(env!("CARGO_BIN_EXE_doorward"));
        show.args(["config", "show"])
            .current_dir(gateway.dir())
            .env("APP_API_KEY", "key-{1}")
            .env("CREDENTIALS_DIRECTORY", credentials.path());
        let shown = run(&mut show, DEADLINE);
        assert_eq!(shown.code, 0, "{}", shown.stderr);
        assert!(shown.stdout.contains("x-signing-key"), "{}", shown.stdout);
        for secret in ["key-", "signing-2", "token-3"] {
            let clean = shown
                .stdout
                .replace("x-signing-key", "")
                .replace("x-api-key", "");
            assert!(!clean.contains(secret), "{}", shown.stdout);
        }
    }

    pub(super) fn telemetry(example: Example) {
        let app = Origin::answer(|request| match request.path.as_str() {
            "/fails" => Reply::close(),
            _ => Reply::fixed(201, &[], "five!"),
        });
        let example = example.replace("127.0.0.1:3000", &app.addr().to_string());
        let with = |from: &str, to: &str| {
            assert!(example.text.contains(from), "no `{from}`");
            Setup::new(&example.text.replace(from, to)).spawn()
        };
        let headers = [
            ("User-Agent", "canary/1"),
            ("Referer", "http://from.test/"),
            ("Traceparent", TRACE),
        ];
        let target = "/a%20b?email=canary&token=canary&q=tea";

        let gateway = with("format: json", "format: clf");
        ask(&gateway, target, &headers).expect(201);
        let line = gateway.process().wait_log("127.0.0.1 - - [");
        let asked = "] \"GET /a%20b?email=***&token=***&q=tea HTTP/1.1\" 201 5 \"http://from.test/\" \"***\"";
        assert!(line.ends_with(asked), "{line}");

        // Those that fail are recorded although no other is.
        let gateway = with("sample: 100%", "sample: 0%");
        ask(&gateway, "/good", &[]).expect(201);
        ask(&gateway, "/fails", &[]).expect(502);
        let line = gateway.process().wait_log("\"request_id\"");
        assert!(line.contains("\"error.type\":\"reset\""), "{line}");

        let gateway = with("file: stdout", "file: access.log");
        ask(&gateway, target, &headers).expect(201);
        assert_eq!(gateway.process().stop().unwrap().code(), Some(0));
        let written = std::fs::read_to_string(gateway.dir().join("access.log")).unwrap();
        assert!(written.contains("\"url.path\":\"/a%20b\""), "{written}");
        let log = gateway.log();
        assert!(!log.contains("request_id"), "{log}");
        assert!(log.contains("stopping"), "{log}");

        let gateway = with("level: info", "level: error");
        assert_eq!(gateway.process().stop().unwrap().code(), Some(0));
        assert!(!gateway.log().contains("stopping"), "{}", gateway.log());

        let gateway = with("format: json", "format: none");
        ask(&gateway, target, &headers).expect(201);
        assert_eq!(gateway.process().stop().unwrap().code(), Some(0));
        assert!(!gateway.log().contains("a%20b"), "{}", gateway.log());

        let gateway = example.start();
        let answer = ask(&gateway, target, &headers).expect(201);
        let line = gateway.process().wait_log("\"request_id\"");
        is_record_of(&line, &answer, &app);
        let traceparent = app.last().header("traceparent").unwrap().to_owned();
        let (trace, theirs) = TRACE.split_at(36);
        assert!(traceparent.starts_with(trace), "{traceparent}");
        assert!(!traceparent.ends_with(theirs), "{traceparent}");
    }

    /// Whether a line of the access log is about the request of `telemetry`.
    #[track_caller]
    fn is_record_of(line: &str, answer: &Response, app: &Origin) {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        for (key, value) in [
            ("request_id", answer.header("x-request-id").unwrap()),
            ("client.address", "127.0.0.1"),
            ("http.request.method", "GET"),
            ("server.address", "127.0.0.1"),
            ("url.path", "/a%20b"),
            ("url.query", "email=***&token=***&q=tea"),
            ("http.route", "app"),
            ("upstream", "app"),
            ("target", &app.addr().to_string()),
            ("user_agent.original", "***"),
            ("http.request.header.referer", "http://from.test/"),
            ("network.protocol.version", "1.1"),
            ("trace_id", "4bf92f3577b34da6a3ce929d0e0e4736"),
        ] {
            assert_eq!(record[key], value, "{key}: {line}");
        }
        for (key, value) in [
            ("http.response.status_code", 201),
            ("http.response.body.size", 5),
            ("http.request.body.size", 0),
            ("attempts", 1),
        ] {
            assert_eq!(record[key], value, "{key}: {line}");
        }
    }

    pub(super) fn drain(example: Example) {
        let gate = Gate::new();
        let held = gate.clone();
        let origin = Origin::answer(move |_| Reply::ok("late").after(&held));
        let short = example
            .target(3001, &origin)
            .replace("requests: 30s", "requests: 100ms");
        let gateway = short.start();
        let mut client = gateway.client();
        client.send_request("GET", "/", &[], b"");
        gate.wait_until_waiting(1);
        gateway.process().signal("TERM");
        let answer = client.response("GET").expect(503);
        assert_eq!(answer.json()["type"], "urn:doorward:error:stopped");
        assert_eq!(gateway.process().wait_exit().code(), Some(0));
    }

    pub(super) fn log(example: Example) {
        let app = Origin::answer(|request| match request.path.as_str() {
            "/feed/fails" => Reply::close(),
            _ => Reply::fixed(200, &[("X-Cache", "hit")], "x"),
        });
        let gateway = example
            .target(3001, &app)
            .replace("redact:", "file: access.log, redact:")
            .start();
        let headers = [("X-Tenant", "acme"), ("X-Email", "canary")];
        ask(&gateway, "/orders/a%20b", &headers).expect(200);
        ask(&gateway, "/orders/2", &[]).expect(200);
        for _ in 0..10 {
            ask(&gateway, "/feed/x", &[]).expect(200);
        }
        ask(&gateway, "/feed/fails", &[]).expect(502);
        ask(&gateway, "/health", &[]).expect(200);
        assert_eq!(gateway.process().stop().unwrap().code(), Some(0));
        let written = std::fs::read_to_string(gateway.dir().join("access.log")).unwrap();
        let records: Vec<serde_json::Value> = written
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let of = |route: &str| records.iter().filter(|r| r["http.route"] == route).count();
        assert_eq!(
            (of("orders"), of("feed"), of("health")),
            (2, 3, 0),
            "{written}"
        );
        let one = &records[0];
        assert_eq!(
            (&one["order"], &one["tenant"], &one["cache"]),
            (&"a b".into(), &"acme".into(), &"hit".into())
        );
        assert!(records[1].get("tenant").is_none(), "{written}");
        assert!(!written.contains("canary"), "{written}");
    }

    pub(super) fn admin(example: Example) {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("admin.sock");
        let example = example
            .replace("127.0.0.1:9901", "127.0.0.2:0")
            .replace(
                "${ADMIN_SOCKET:-/run/doorward/admin.sock}",
                socket.to_str().unwrap(),
            )
            .replace("hello\\n", "hello");
        let gateway = example.start();
        assert_eq!(text(&gateway, "/hello", &[]), "hello");
        let door: SocketAddr = gateway.process().wait_line("its admin address", |line| {
            line.strip_prefix("admin on http://")?.parse().ok()
        });
        let look = |target: &str| Client::connect(door).get(target);
        for target in ["/livez", "/readyz", "/healthz"] {
            assert_eq!(look(target).expect(200).text(), "ok\n", "{target}");
        }
        let counted = "http_server_request_duration_seconds_count{http_route=\"hello\",status_class=\"2xx\"} 1";
        // It is counted when the answer has ended, which its reader may see earlier.
        let since = Instant::now();
        loop {
            let metrics = look("/metrics").expect(200).text();
            if metrics.contains(counted) {
                break;
            }
            assert!(since.elapsed() < DEADLINE, "{metrics}");
        }
        assert_eq!(
            look("/config").expect(200).json()["routes"][0]["name"],
            "hello"
        );
        let change = |headers: &[(&str, &str)]| {
            let mut client = Client::connect(door);
            client.request("POST", "/reload", headers, b"").status
        };
        assert_eq!(change(&[]), 403);
        assert_eq!(change(&[("doorward-admin", "1")]), 200);
        assert_eq!(
            change(&[("doorward-admin", "1"), ("Host", "evil.test")]),
            421
        );
        let status = run_cli(&["status", "--format", "json"], gateway.dir());
        assert_eq!(status.code, 0, "{}", status.stderr);
        let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
        assert_eq!(status["generation"], 2);
        assert_eq!(status["listeners"][0]["name"], "public");
        let reload = run_cli(&["reload", "--wait"], gateway.dir());
        assert_eq!(reload.code, 0, "{}", reload.stderr);
        assert_eq!(reload.stdout, "generation 3 is in force, 0 changed\n");
    }

    /// The story itself is told sentence by sentence in `mission.rs`.
    pub(super) fn food_delivery(example: Example) {
        let (orders, restaurants) = (named("orders"), named("restaurants"));
        let backup = named("backup");
        let example = example.target(3001, &orders).target(3002, &restaurants);
        let example = example.target(3003, &backup);
        let auth = Origin::answer(|_| {
            Reply::json(
                200,
                &json!({ "active": true, "sub": "7", "roles": ["customer"] }),
            )
        });
        let example = example
            .target(3004, &auth)
            .with_file("files/auth-secret.txt");
        let gateway = example.with_file("files/error.html").start();
        let host = ("Host", "api.food.example");
        let request = seen(
            &gateway,
            &orders,
            "/orders",
            &[host, ("Authorization", "Bearer t")],
        );
        assert_eq!(request.header("authorization"), None);
        assert_eq!(request.header("x-user-id"), Some("7"));
        assert_eq!(
            text(&gateway, "/restaurants/12/menu", &[host]),
            "restaurants"
        );
        ask(&gateway, "/vouchers", &[host]).expect(503);
    }

    /// Its tests pass as they stand, each fails when the config is another, and the gateway does what they say.
    pub(super) fn request_tests(example: Example) {
        let tested = |text: &str| {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("doorward.yaml"), text).unwrap();
            run_cli(&["test"], dir.path())
        };
        let good = tested(&example.text);
        assert_eq!(good.code, 0, "{}{}", good.stdout, good.stderr);
        assert!(
            good.stdout.ends_with("7 passed, 0 failed\n"),
            "{}",
            good.stdout
        );
        for (from, to, failed) in [
            (
                "path: \"/internal/orders/{id}\"",
                "path: \"/other/{id}\"",
                1,
            ),
            ("x-served-for: \"{params.id}\"", "x-served-for: nobody", 1),
            ("pick: [items], ", "", 1),
            ("sunset: \"2027-01-01\"", "sunset: \"2028-01-01\"", 1),
            ("client_ips: [10.0.0.0/8]", "client_ips: [192.0.2.0/24]", 2),
            (
                "status: 502, calls: { orders: 3 }",
                "status: 503, calls: { orders: 3 }",
                1,
            ),
        ] {
            assert!(example.text.contains(from), "no `{from}`");
            let bad = tested(&example.text.replace(from, to));
            assert_eq!(bad.code, 1, "{from}: {}{}", bad.stdout, bad.stderr);
            let end = format!("{} passed, {failed} failed\n", 7 - failed);
            assert!(bad.stdout.ends_with(&end), "{from}: {}", bad.stdout);
        }
        let orders = Origin::answer(|_| Reply::fixed(200, &[("Server", "secret/1.0")], "{}"));
        let gateway = example.target(3001, &orders).start();
        let answer = ask(&gateway, "/v1/orders/7", &[("Host", "api.example.com")]).expect(200);
        assert_eq!(orders.last().path, "/internal/orders/7");
        assert_eq!(
            (answer.header("x-served-for"), answer.header("server")),
            (Some("7"), None)
        );
    }

    pub(super) fn request(example: Example) {
        let orders = named("orders");
        let gateway = example.target(3001, &orders).start();
        let sent = [("Cookie", "a=b"), ("X-Old", "1"), ("X-Tag", "theirs")];
        let request = seen(&gateway, &orders, "/v1/orders/7?debug=1&a=b", &sent);
        assert_eq!(request.target, "/internal/orders/7?a=b&v=2");
        assert_eq!(request.header("host"), Some("orders.internal"));
        assert_eq!(request.header("x-order"), Some("7"));
        assert_eq!(request.headers_all("x-tag"), ["theirs", "edge"]);
        assert_eq!(request.header("x-new"), Some("1"));
        assert_eq!(
            (request.header("x-old"), request.header("cookie")),
            (None, None)
        );
    }

    pub(super) fn response(example: Example) {
        let app = Origin::answer(|request| {
            let location = format!("http://{}/login", request.header("host").unwrap());
            let headers = [
                ("Location", location.as_str()),
                (
                    "Set-Cookie",
                    "sid=1; Path=/form; Domain=app.internal; HttpOnly",
                ),
                ("Vary", "accept"),
                ("X-Old", "7"),
                ("X-Debug", "1"),
            ];
            Reply::fixed(201, &headers, "")
        });
        let gateway = example.target(3001, &app).start();
        let host = [("Host", "api.example.com")];
        let answer = ask(&gateway, "/v1/form", &host).expect(201);
        assert_eq!(app.last().path, "/form");
        let location = Some("http://api.example.com/v1/login");
        assert_eq!(answer.header("location"), location);
        let cookie = "sid=1; Path=/; Domain=api.example.com; HttpOnly";
        assert_eq!(answer.header("set-cookie"), Some(cookie));
        assert_eq!(answer.header("x-status"), Some("201"));
        assert_eq!(answer.headers_all("vary"), ["accept", "accept-encoding"]);
        assert_eq!(answer.header("x-new"), Some("7"));
        assert_eq!(
            (answer.header("x-old"), answer.header("x-debug")),
            (None, None)
        );
        let raw = ask(&gateway, "/raw/form", &host).expect(201);
        assert_eq!(raw.header("location"), Some("http://api.example.com/login"));
        let cookie = "sid=1; Path=/form; Domain=app.internal; HttpOnly";
        assert_eq!(raw.header("set-cookie"), Some(cookie));
    }
}
