//! `explain` tells the truth: what it says of a request is what the access log says of the same request afterwards.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    clippy::wildcard_enum_match_arm,
    reason = "a test stops at the first thing that is not as expected"
)]

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use serde_json::{Value as Json, json};

use super::examples::target;
use super::support::{
    Client, DEADLINE, Gateway, Origin, Output, Pair, Reply, Script, Setup, Tls, TlsOrigin, run,
    run_cli, scale,
};

/// Numbers that look drawn by lot, the same in every run.
struct Lot(u64);

impl Lot {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `n`.
    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).unwrap()
    }

    /// True once in `n` times.
    fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn of<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> &'a T {
        items[self.below(items.len())]
    }
}

/// One request, to be explained and to be sent.
#[derive(Debug, Clone)]
struct Request {
    listener: String,
    method: String,
    target: String,
    host: String,
    /// Whether `host` stands in the URL of the question; else in a header.
    by_url: bool,
    /// Whether the listener speaks TLS.
    tls: bool,
    headers: Vec<(String, String)>,
    body: String,
}

impl Request {
    fn question(&self, port: u16) -> Json {
        let mut headers: Vec<String> = self
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}"))
            .collect();
        let url = if self.by_url {
            let scheme = if self.tls { "https" } else { "http" };
            format!("{scheme}://{}:{port}{}", self.host, self.target)
        } else {
            headers.insert(0, format!("Host: {}", self.host));
            self.target.clone()
        };
        let mut question = json!({ "method": self.method, "url": url, "headers": headers });
        if !self.by_url {
            question["listener"] = json!(self.listener);
        }
        question
    }

    /// Sends it; the id that the answer has.
    fn send(&self, served: &Served) -> String {
        let gateway = &served.gateway;
        let addr = gateway.addr_of(&self.listener);
        let host = if self.by_url {
            format!("{}:{}", self.host, addr.port())
        } else {
            self.host.clone()
        };
        let mut text = format!(
            "{} {} HTTP/1.1\r\nHost: {host}\r\n",
            self.method, self.target
        );
        for (name, value) in &self.headers {
            text += &format!("{name}: {value}\r\n");
        }
        text += &format!("\r\n{}", self.body);
        let mut client = match &served.pair {
            Some(pair) if self.tls => self.connect(addr, pair),
            Some(_) | None => Client::connect(addr),
        };
        if served.name == "proxy_protocol" {
            // Nobody comes in without.
            client.send_raw(b"PROXY TCP4 127.0.0.1 127.0.0.1 12345 8080\r\n");
        }
        client.send_raw(text.as_bytes());
        let answer = client.response(&self.method);
        let id = answer.header("x-request-id");
        id.unwrap_or_else(|| panic!("no id: {self:?} {answer:?}"))
            .to_owned()
    }

    /// Connects by the name of the host, as explaining takes for granted, and with a certificate where one is asked for.
    /// By the name of no certificate nobody connects: such a host is asked for behind another name.
    fn connect(&self, addr: SocketAddr, pair: &Pair) -> Client {
        let host = self.host.to_lowercase();
        let host = host.trim_end_matches('.');
        let known = ["api.example.com", "partner.example.com", "a.test"];
        let name = known.iter().find(|known| **known == host);
        let tls = Tls::new(&pair.cert, name.unwrap_or(&known[0]));
        tls.identity(pair).connect(addr)
    }
}

/// Requests for the routes of a config, and for what lies beside them.
struct Generator {
    lot: Lot,
    made: usize,
    routes: Vec<Json>,
    hosts: Vec<String>,
    /// Each with whether it speaks TLS.
    listeners: Vec<(String, bool)>,
}

impl Generator {
    /// Of `name` only its own seed comes, so that an example more leaves the requests of the others as they are.
    fn new(text: &str, seed: u64, name: &str) -> Self {
        let seed = name
            .bytes()
            .fold(seed, |seed, byte| Lot(seed ^ u64::from(byte)).next());
        let config: Json = serde_yaml::from_str(text).unwrap();
        let items = |json: &Json| json.as_array().cloned().unwrap_or_default();
        let routes = items(&config["routes"]);
        let named = routes
            .iter()
            .flat_map(|route| items(&route["match"]["hosts"]));
        let mut hosts: Vec<String> = named
            .map(|host| host.as_str().unwrap().replace('*', "a.b"))
            .collect();
        for environment in config["environments"]
            .as_object()
            .into_iter()
            .flat_map(|map| map.values())
        {
            let others = environment["hosts"].as_object().unwrap().values();
            hosts.extend(others.map(|host| host.as_str().unwrap().to_owned()));
        }
        let listeners = config["listeners"].as_object().unwrap();
        for tls in listeners.values().map(|listener| &listener["tls"]) {
            let partners = tls["client_auth"].as_object().into_iter().flatten();
            hosts.extend(partners.map(|(host, _)| host.clone()));
            if tls.is_object() {
                hosts.push("API.Example.com.".to_owned());
            }
        }
        Self {
            lot: Lot(seed),
            made: 0,
            routes,
            hosts,
            listeners: listeners
                .iter()
                .map(|(name, listener)| (name.clone(), listener["tls"].is_object()))
                .collect(),
        }
    }

    fn request(&mut self) -> Request {
        let route = self.routes[self.lot.below(self.routes.len())].clone();
        let rules = &route["match"];
        let mut query: Vec<String> = Vec::new();
        let mut headers: Vec<(String, String)> = Vec::new();
        let mut cookies: Vec<String> = Vec::new();
        for (part, is) in [("headers", 0), ("query", 1), ("cookies", 2)] {
            for (name, test) in rules[part].as_object().into_iter().flatten() {
                let Some(value) = self.fulfilled(test) else {
                    continue;
                };
                match is {
                    0 => headers.push((name.clone(), value)),
                    1 => query.push(format!("{name}={value}")),
                    _ => cookies.push(format!("{name}={value}")),
                }
            }
        }
        if !cookies.is_empty() {
            headers.push(("Cookie".to_owned(), cookies.join("; ")));
        }
        let mut target = self.path(rules);
        self.version(rules, &mut target, &mut query, &mut headers);
        self.noise(&mut query, &mut headers);
        if !query.is_empty() {
            target += &format!("?{}", query.join("&"));
        }
        let methods = rules["methods"].as_array().cloned().unwrap_or_default();
        let method = match methods.first().filter(|_| !self.lot.once_in(4)) {
            Some(method) => method.as_str().unwrap(),
            None => self.lot.of(&[
                "GET", "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "get", "QUERY",
            ]),
        };
        let host = match self.lot.below(8) {
            0 => "nobody.test".to_owned(),
            1 => "127.0.0.1".to_owned(),
            _ => self.host(rules),
        };
        let (listener, tls) = self.listeners[self.lot.below(self.listeners.len())].clone();
        let mut request = Request {
            listener,
            tls,
            method: method.to_owned(),
            target,
            host,
            by_url: self.lot.once_in(2),
            headers,
            body: String::new(),
        };
        if matches!(method, "POST" | "PUT" | "QUERY") {
            request.body = "abc".to_owned();
            request
                .headers
                .push(("Content-Length".to_owned(), "3".to_owned()));
        }
        self.made += 1;
        if self.made == 1 {
            // Nothing else is wrong with it.
            (request.listener, request.tls) = self.listeners[0].clone();
            request.method = "GET".to_owned();
            request.headers.clear();
            request.body.clear();
        }
        if self.made == 1 || self.lot.once_in(3) {
            self.spoil(&mut request);
        }
        request
    }

    fn host(&mut self, rules: &Json) -> String {
        let named = rules["hosts"].as_array().cloned().unwrap_or_default();
        if !named.is_empty() && !self.lot.once_in(4) {
            let host = named[self.lot.below(named.len())]
                .as_str()
                .unwrap()
                .to_owned();
            return host.replace('*', self.lot.of(&["a", "a.b", "api"]));
        }
        if self.hosts.is_empty() {
            return self
                .lot
                .of(&["api.example.com", "API.Example.com.", "localhost"])
                .to_owned();
        }
        self.hosts[self.lot.below(self.hosts.len())].clone()
    }

    /// A value that a rule takes, mostly; nothing for none.
    fn fulfilled(&mut self, test: &Json) -> Option<String> {
        if self.lot.once_in(4) {
            return self.lot.once_in(2).then(|| "other".to_owned());
        }
        Some(match test {
            Json::String(word) if word == "absent" => return None,
            Json::Object(map) if map.contains_key("regex") => "100".to_owned(),
            Json::Object(map) => map.values().next().unwrap().as_str().unwrap().to_owned(),
            _ => "1".to_owned(),
        })
    }

    fn path(&mut self, rules: &Json) -> String {
        if rules["path_regex"].is_string() {
            return self
                .lot
                .of(&["/2026-07.html", "/2026-7.html", "/1-2.html"])
                .to_owned();
        }
        let prefix = rules["path_prefix"].as_str();
        let Some(written) = prefix.or_else(|| rules["path"].as_str()) else {
            return self.lot.of(&["/", "/a", "/a/b?c=d"]).to_owned();
        };
        let mut segments: Vec<String> = Vec::new();
        for segment in written.split('/').skip(1) {
            let filled = match segment.strip_prefix('{') {
                Some(name) if name.ends_with("*}") => self.lot.of(&["a/b.txt", "x", "%7Ea/b%20c"]),
                Some(_) => self.lot.of(&[
                    "7", "17", "4711", "x7", "a%20b", "a,b", "%41", "~", "\u{e4}", "a;b",
                ]),
                None => segment,
            };
            segments.push(filled.to_owned());
        }
        let mut path = format!("/{}", segments.join("/"));
        if prefix.is_some() {
            path = path.trim_end_matches('/').to_owned();
            path += self.lot.of(&["", "/", "/a", "/a/b", "/a//b", "x"]);
        }
        if path.starts_with('/') {
            path
        } else {
            format!("/{path}")
        }
    }

    fn version(
        &mut self,
        rules: &Json,
        target: &mut String,
        query: &mut Vec<String>,
        headers: &mut Vec<(String, String)>,
    ) {
        let version = &rules["version"];
        let Some(known) = version["any_of"].as_array() else {
            return;
        };
        let value = match self.lot.below(5) {
            0 => return,
            1 => "9999",
            _ => known[self.lot.below(known.len())].as_str().unwrap(),
        };
        if let Some(name) = version["header"].as_str() {
            headers.push((name.to_owned(), value.to_owned()));
        } else if let Some(name) = version["query"].as_str() {
            query.push(format!("{name}={value}"));
        } else if let Some(name) = version["media_type"].as_str() {
            headers.push((
                "Accept".to_owned(),
                format!("text/html, application/json;{name}={value}"),
            ));
        } else {
            *target = format!("/{value}{target}");
        }
    }

    /// What many requests have, and some rules look at.
    fn noise(&mut self, query: &mut Vec<String>, headers: &mut Vec<(String, String)>) {
        let mut header = |lot: &mut Lot, name: &str, values: &[&str]| {
            if lot.once_in(5) {
                headers.push((name.to_owned(), lot.of(values).to_owned()));
            }
        };
        let lot = &mut self.lot;
        header(lot, "X-Client", &["ios", "android", "tv"]);
        header(lot, "Accept-Language", &["de-CH", "en"]);
        header(lot, "Accept", &["text/html", "application/json", "*/*"]);
        header(lot, "Origin", &["https://shop.example.com"]);
        header(lot, "Access-Control-Request-Method", &["PUT"]);
        // One that may be kept must be of its own: records are found by it.
        let id = format!("client-{:x}", lot.next());
        header(lot, "X-Request-Id", &[&id, "bad id"]);
        header(
            lot,
            "X-Forwarded-For",
            &["192.0.2.7", "10.0.0.1, 192.0.2.1", "unknown"],
        );
        header(
            lot,
            "Forwarded",
            &["for=192.0.2.7", "for=198.51.100.1;host=x.test", "for="],
        );
        header(
            lot,
            "Content-Type",
            &["application/grpc", "application/json"],
        );
        header(lot, "X-Name", &["J\u{fc}rgen", "a  b", "  padded  ", ""]);
        for (name, values) in [
            ("lang", ["de", "en"]),
            ("limit", ["100", "9"]),
            ("q", ["a%20b", "%2F"]),
        ] {
            if self.lot.once_in(5) {
                query.push(format!("{name}={}", self.lot.of(&values)));
            }
        }
    }

    /// Makes a request one that somebody sends who means no good.
    fn spoil(&mut self, request: &mut Request) {
        let nine = (0..9)
            .map(|hop| format!("1.1 doorward-{hop}"))
            .collect::<Vec<_>>()
            .join(", ");
        let mut header =
            |name: &str, value: &str| request.headers.push((name.to_owned(), value.to_owned()));
        let kind = self.lot.below(20);
        // The first of all is of a kind that few examples refuse.
        match if self.made == 1 { 19 } else { kind } {
            0 => header("Via", &nine),
            1 => header("Via", "1.0 somebody, 1.1 doorward-1"),
            2 => {
                header("Host", "second.test");
                request.by_url = false;
            }
            3 => header("X_Under_Score", "1"),
            4 => {
                header("Content-Length", "7");
                header("Content-Length", "8");
            }
            5 => header("Transfer-Encoding", "gzip"),
            6 => header("Bad Name", "1"),
            7 => header("X-Bell", "a\u{7}b"),
            8 => header("Upgrade", "websocket"),
            9 => {
                header("Max-Forwards", "0");
                request.method = "OPTIONS".to_owned();
            }
            10 => request.method = "CONNECT".to_owned(),
            11 => request.method = "G@T".to_owned(),
            12 => {
                request.method = "OPTIONS".to_owned();
                request.target = "*".to_owned();
                request.by_url = false;
            }
            13 => request.host = "a..b".to_owned(),
            14 => request.target += "/../../..",
            15 => request.target.insert_str(1, "%2F"),
            16 => request.target.insert_str(1, "a/%2e%2E/"),
            17 => request.target.insert_str(1, "%zz"),
            18 => request.target.insert(1, '\\'),
            _ => {
                header("X-Forwarded-For", "192.0.2.1");
                header("Forwarded", "for=198.51.100.9");
            }
        }
    }
}

/// One of `conf/examples`, served.
struct Served {
    name: String,
    gateway: Gateway,
    text: String,
    env: Vec<(&'static str, String)>,
    /// Where TLS is spoken, its certificate.
    pair: Option<Pair>,
    /// What stands behind it, and where its sockets are, as long as it is needed.
    _origins: Vec<Origin>,
    _secure: Option<TlsOrigin>,
    _folder: tempfile::TempDir,
}

fn examples() -> Vec<String> {
    let files = std::fs::read_dir(folder()).unwrap();
    let mut names: Vec<String> = files
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/examples")
}

/// The config beside every file that an example names.
fn with_files(text: &str, pair: Option<&Pair>) -> Setup {
    let mut setup = Setup::new(text).file("app.key", "canary-signing");
    for file in [
        "files/robots.txt",
        "files/error.html",
        "files/bad-networks.txt",
        "files/keys.json",
        "files/ops.htpasswd",
        "files/auth-secret.txt",
        "files/hooks.jwks",
        "files/example.crl",
        "files/countries.mmdb",
    ] {
        setup = setup.file(file, std::fs::read(folder().join(file)).unwrap());
    }
    if let Some(pair) = pair {
        setup = setup.file("files/example.pem", &pair.cert);
        setup = setup.file("files/example.key", &pair.key);
    }
    setup
}

/// An origin in the place of each target.
fn origins(text: &mut String) -> Vec<Origin> {
    let mut origins = Vec::new();
    for port in 3000..3010 {
        let target = target(port);
        if target.is_match(text) {
            let script = Script::new(|request| match request.path.as_str() {
                // Where tokens for upstreams come from.
                "/token" => Reply::ok(r#"{"access_token":"t","token_type":"bearer"}"#),
                _ => Reply::ok("here, and ok"),
            });
            let origin = Origin::start(script.probed_at("/healthz").probed_at("/token"));
            *text = target
                .replace_all(text, origin.addr().to_string())
                .into_owned();
            origins.push(origin);
        }
    }
    origins
}

/// Brings an example to run: free ports, an origin for each target that answers 200, an admin socket.
fn serve(name: &str) -> Served {
    let mut text = std::fs::read_to_string(folder().join(format!("{name}.yaml"))).unwrap();
    let folder_of_sockets = tempfile::tempdir().unwrap();
    let socket = folder_of_sockets.path().join("http.sock");
    for (from, to) in [
        // Every request has a record, or there would be nothing to compare.
        ("log: none", "log: { sample: 100% }"),
        ("log: { sample: 20% }", "log: { sample: 100% }"),
        // What is decided does not depend on what the target speaks; the origin speaks HTTP/1.
        ("h2c://127.0.0.1", "http://127.0.0.1"),
        ("    proxy_protocol: v2 ", "    #"),
        ("127.0.0.1:8080", "127.0.0.1:0"),
        ("127.0.0.1:8081", "127.0.0.1:0"),
        ("127.0.0.1:9901", "127.0.0.2:0"),
        ("/run/doorward/http.sock", socket.to_str().unwrap()),
        ("${ADMIN_SOCKET:-/run/doorward/admin.sock}", "admin.sock"),
    ] {
        text = text.replace(from, to);
    }
    let pair = text.contains("files/example.pem").then(|| {
        let read = |name: &str| std::fs::read_to_string(folder().join("files").join(name)).unwrap();
        Pair::of(&read("example.pem"), &read("example.key"))
    });
    let secure = pair.as_ref().map(|pair| TlsOrigin::start(pair, |_| {}));
    if let Some(secure) = &secure {
        let target = format!("https://{}", secure.addr());
        text = text.replace("https://127.0.0.1:3001", &target);
    }
    let mut origins = origins(&mut text);
    if !text.contains("\nadmin:") {
        text += "\nadmin: { socket: admin.sock }\n";
    }
    let mut env = vec![("APP_API_KEY", "canary-key".to_owned())];
    for name in [
        "CLIENT_SECRET",
        "PRICES_PASSWORD",
        "SEARCH_KEY",
        "AWS_KEY",
        "STICKY_SECRET",
    ] {
        env.push((name, "canary-secret-of-ours".to_owned()));
    }
    env.push((
        "CREDENTIALS_DIRECTORY",
        folder_of_sockets.path().to_str().unwrap().to_owned(),
    ));
    std::fs::write(folder_of_sockets.path().join("app-token"), "canary-token").unwrap();
    if text.contains("APP_ADDRESS") {
        let origin = Origin::answer(|_| Reply::ok("here"));
        env.push(("APP_ADDRESS", origin.addr().to_string()));
        origins.push(origin);
    }
    let mut setup = with_files(&text, pair.as_ref());
    for (name, value) in &env {
        setup = setup.env(name, value);
    }
    Served {
        name: name.to_owned(),
        gateway: setup.spawn(),
        text,
        env,
        pair,
        _origins: origins,
        _secure: secure,
        _folder: folder_of_sockets,
    }
}

/// Asks at the admin socket; status and body.
fn at_socket(dir: &Path, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = UnixStream::connect(dir.join("admin.sock")).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    // Whoever is refused is answered before all is read.
    drop(stream.write_all(body.as_bytes()));
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (
        head.split(' ').nth(1).unwrap().parse().unwrap(),
        body.to_owned(),
    )
}

fn explained(gateway: &Gateway, question: &Json) -> Json {
    let (status, body) = at_socket(gateway.dir(), "POST", "/explain", &question.to_string());
    assert_eq!(status, 200, "{question}: {body}");
    serde_json::from_str(&body).unwrap()
}

/// The record of the request with this id.
fn record(gateway: &Gateway, id: &str) -> Json {
    let wanted = format!("\"request_id\":\"{id}\"");
    let line = gateway.process().wait_log(&wanted);
    serde_json::from_str(&line).unwrap()
}

/// What `explain` calls it, and what the access log does.
const SAME: &[(&str, &str)] = &[
    ("route", "http.route"),
    ("decided_by", "decided_by"),
    ("status", "http.response.status_code"),
    ("error_type", "error.type"),
    ("upstream", "upstream"),
    ("target", "target"),
    ("upstream_path", "upstream.path"),
];

#[track_caller]
fn compare(served: &Served, told: &Json, record: &Json, left_out: &[&str], request: &Request) {
    // Who asks sends no body: that it cannot be read nobody can tell before it comes.
    let by_body = told["called_by"]
        .as_array()
        .is_some_and(|clauses| clauses.contains(&json!("request.body")));
    if by_body && record["error.type"] == "bad_body" {
        return;
    }
    // Up to who is asked it is the same; what that one says only a real request hears.
    let asks = told["status_from"] == "whoever is asked";
    for (ours, theirs) in SAME {
        if !left_out.contains(ours) && (!asks || *ours == "route") {
            assert_eq!(
                told[*ours], record[*theirs],
                "{}, {ours} of {request:?}:\n{told:#}\n{record:#}",
                served.name
            );
        }
    }
}

/// Which of several targets has its turn only a running gateway knows, and of chance nobody does.
fn left_open(told: &Json) -> &'static [&'static str] {
    if told["targets"].is_array() {
        &["target"]
    } else {
        &[]
    }
}

#[test]
fn explain_tells_of_every_example_what_the_access_log_says_afterwards() {
    let names = examples();
    let count = scale(2_000).div_ceil(names.len() as u64).max(16);
    let mut met = std::collections::BTreeSet::new();
    for name in &names {
        let served = serve(name);
        let mut generator = Generator::new(&served.text, 1, name);
        for _ in 0..count {
            let request = generator.request();
            let port = served.gateway.addr_of(&request.listener).port();
            let told = explained(&served.gateway, &request.question(port));
            let record = record(&served.gateway, &request.send(&served));
            compare(&served, &told, &record, left_open(&told), &request);
            met.insert(told["decided_by"].as_str().unwrap().to_owned());
        }
    }
    // Whatever can decide did.
    for clause in [
        "http",
        "hosts",
        "via",
        "match",
        "upstream",
        "redirect",
        "respond",
        "maintenance",
        "lifecycle",
        "trusted_proxies",
    ] {
        assert!(met.contains(clause), "{clause} decided nothing: {met:?}");
    }
}

fn command(served: &Served, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_doorward"));
    for (name, value) in &served.env {
        command.env(name, value);
    }
    run(
        command.args(args).current_dir(served.gateway.dir()),
        DEADLINE,
    )
}

#[test]
fn explain_from_the_file_tells_the_same() {
    let names = examples();
    let count = scale(200).div_ceil(names.len() as u64).max(2);
    for name in &names {
        let served = serve(name);
        let mut generator = Generator::new(&served.text, 2, name);
        for number in 0..count {
            let request = generator.request();
            let question = request.question(served.gateway.addr_of(&request.listener).port());
            let mut args = vec![
                "explain",
                "--format",
                "json",
                "--listener",
                &request.listener,
            ];
            // Once by the running gateway, so that both ways of the command are walked.
            if number == 0 {
                args.push("--live");
            }
            args.extend([
                question["method"].as_str().unwrap(),
                question["url"].as_str().unwrap(),
            ]);
            for header in question["headers"].as_array().unwrap() {
                args.extend(["-H", header.as_str().unwrap()]);
            }
            let output = command(&served, &args);
            assert_eq!(output.code, 0, "{request:?}: {}", output.stderr);
            let told: Json = serde_json::from_str(&output.stdout).unwrap();
            let record = record(&served.gateway, &request.send(&served));
            compare(&served, &told, &record, left_open(&told), &request);
        }
    }
}

// What explaining leaves as it was.

/// The lines of `/metrics` that a request could change; the process's own go on by themselves.
fn counted(gateway: &Gateway) -> Vec<String> {
    let (status, text) = at_socket(gateway.dir(), "GET", "/metrics", "");
    assert_eq!(status, 200);
    let ours = text.lines().filter(|line| !line.starts_with("process_"));
    ours.map(str::to_owned).collect()
}

/// Waits until no request counts as begun and no connection as open: records are written a moment before.
fn wait_until_idle(gateway: &Gateway) {
    let since = Instant::now();
    let busy = |line: &String| {
        let gauge = line.starts_with("http_server_active_requests ")
            || line.starts_with("doorward_connections_active{");
        gauge && !line.ends_with(" 0")
    };
    while counted(gateway).iter().any(busy) {
        assert!(since.elapsed() < DEADLINE, "{:#?}", counted(gateway));
    }
}

fn seen(gateway: &Gateway, path: &str) -> String {
    let (status, body) = at_socket(gateway.dir(), "GET", path, "");
    assert_eq!(status, 200, "{path}: {body}");
    body
}

#[test]
fn explaining_counts_nothing_and_takes_no_turn() {
    let served = serve("weighted_targets");
    let gateway = &served.gateway;
    let question =
        json!({ "method": "GET", "url": "/", "headers": ["Host: a.test"], "listener": "public" });
    let ask = || {
        let mut client = Client::connect(gateway.addr());
        let answer = client.get("/").expect(200);
        record(gateway, answer.header("x-request-id").unwrap())
    };
    // One answered request first, so that there is something that could change.
    ask();
    wait_until_idle(gateway);
    let before = (
        counted(gateway),
        seen(gateway, "/status"),
        seen(gateway, "/upstreams"),
    );
    let list = command(&served, &["upstreams", "list"]).stdout;
    assert!(!list.is_empty());
    let targets = |told: &Json| told["target"].as_str().unwrap().to_owned();
    let first = targets(&explained(gateway, &question));
    for _ in 0..scale(1_000).max(20) {
        assert_eq!(targets(&explained(gateway, &question)), first);
    }
    let wrong = json!({ "method": "GET", "url": "/%2F", "headers": ["Host: a.test"] });
    assert_eq!(explained(gateway, &wrong)["status"], 400);
    let after = (
        counted(gateway),
        seen(gateway, "/status"),
        seen(gateway, "/upstreams"),
    );
    assert_eq!(before, after);
    assert_eq!(command(&served, &["upstreams", "list"]).stdout, list);
    // The turn is where it was, and goes on as ever: light once, heavy twice.
    let mut turns = vec![targets(&ask())];
    assert_eq!(turns[0], first);
    for _ in 0..2 {
        let expected = targets(&explained(gateway, &question));
        turns.push(targets(&ask()));
        assert_eq!(turns.last(), Some(&expected));
    }
    turns.sort();
    turns.dedup();
    assert_eq!(turns.len(), 2, "{turns:?}");
    // The log holds the requests and nothing of the questions.
    assert_eq!(gateway.process().stop().unwrap().code(), Some(0));
    assert_eq!(
        gateway.log().matches("\"request_id\"").count(),
        4,
        "{}",
        gateway.log()
    );
}

#[test]
fn a_question_has_64_kib_at_most() {
    let gateway = Gateway::spawn(&answering(""));
    let sized = |bytes: usize| {
        let empty = json!({ "method": "GET", "url": "/", "headers": ["x-long: "] })
            .to_string()
            .len();
        let long = format!("x-long: {}", "a".repeat(bytes - empty));
        let question = json!({ "method": "GET", "url": "/", "headers": [long] }).to_string();
        assert_eq!(question.len(), bytes);
        at_socket(gateway.dir(), "POST", "/explain", &question)
    };
    let (status, body) = sized(64 * 1024);
    assert_eq!(status, 200, "{body}");
    let told: Json = serde_json::from_str(&body).unwrap();
    assert_eq!(told["status"], 431);
    let (status, body) = sized(64 * 1024 + 1);
    assert_eq!(status, 413, "{body}");
    assert!(body.contains("64 KiB"), "{body}");
}

/// A gateway that answers everything itself.
fn answering(admin: &str) -> String {
    format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\" }} }}\nadmin: {{ socket: admin.sock{admin} }}\n\
         routes: [{{ name: a, match: {{ path_prefix: / }}, respond: {{ text: a }} }}]\n"
    )
}

#[test]
fn who_explains_may_look() {
    let token = "token-1";
    let digest = "3f08aace122ee2368432c1ca23a049bc640bafbf00fdf33a52429f38ba12dbf9";
    let gateway = Gateway::spawn(&answering(&format!(
        ", address: \"127.0.0.2:0\", tokens: [{{ sha256: {digest}, role: viewer }}]"
    )));
    let addr = gateway.process().wait_line("its admin address", |line| {
        line.strip_prefix("admin on http://")?
            .parse::<SocketAddr>()
            .ok()
    });
    let question = json!({ "method": "GET", "url": "/", "headers": ["Host: a.test"] }).to_string();
    let ask = |method: &str, headers: &[(&str, &str)]| {
        Client::connect(addr).request(method, "/explain", headers, question.as_bytes())
    };
    assert_eq!(ask("POST", &[]).status, 401);
    assert_eq!(
        ask("POST", &[("Authorization", "Bearer wrong")]).status,
        401
    );
    let authorization = format!("Bearer {token}");
    let told = ask("POST", &[("Authorization", &authorization)])
        .expect(200)
        .json();
    assert_eq!(told["route"], "a");
    assert_eq!(ask("GET", &[("Authorization", &authorization)]).status, 405);
    // The same token may not change anything.
    let reload =
        Client::connect(addr).request("POST", "/reload", &[("Authorization", &authorization)], b"");
    assert_eq!(reload.status, 403);
}

#[test]
fn what_is_more_than_one_request_is_no_question() {
    let gateway = Gateway::spawn(&answering(""));
    for (question, why) in [
        (
            json!({ "method": "GET", "url": "/", "headers": ["x: a\r\ny: b"] }),
            "not one line",
        ),
        (
            json!({ "method": "GET", "url": "/", "headers": ["x: a\nb"] }),
            "not one line",
        ),
        (
            json!({ "method": "GET", "url": "/", "headers": ["x\r\ny: b"] }),
            "not one line",
        ),
        (
            json!({ "method": "GET", "url": "/", "headers": ["x: a\u{0}"] }),
            "not one line",
        ),
        (
            json!({ "method": "GET", "url": "/", "headers": ["no colon"] }),
            "not a header",
        ),
        (
            json!({ "method": "GET / HTTP/1.1\r\nx: y\r\n\r\nGET", "url": "/" }),
            "not a method",
        ),
        (json!({ "method": "GET\r\n", "url": "/" }), "not a method"),
        (json!({ "method": "", "url": "/" }), "not a method"),
        (
            json!({ "method": "GET", "url": "/ HTTP/1.1\r\nx: y" }),
            "not a URL",
        ),
        (
            json!({ "method": "GET", "url": "http://a b/" }),
            "not a URL",
        ),
        (json!({ "method": "GET", "url": "" }), "not a URL"),
        (json!({ "method": "GET", "url": "ftp://a/" }), "ftp://"),
        (json!({ "method": "GET", "url": "http://user@a/" }), "user"),
        (json!({ "method": "GET", "url": "http:///x" }), "no host"),
        (
            json!({ "method": "GET", "url": "/", "listener": "nobody" }),
            "nobody",
        ),
        (
            json!({ "method": "GET", "url": "/", "at": "yesterday" }),
            "yesterday",
        ),
        (
            json!({ "method": "GET", "url": "/", "client": "here" }),
            "IP",
        ),
        (json!({ "method": "GET", "url": "/", "spy": true }), "spy"),
        (json!({ "url": "/" }), "method"),
        (json!("GET /"), "expected"),
    ] {
        let (status, body) = at_socket(gateway.dir(), "POST", "/explain", &question.to_string());
        assert_eq!(status, 400, "{question}: {body}");
        assert!(body.contains(why), "{question}: {body}");
    }
    let (status, body) = at_socket(gateway.dir(), "POST", "/explain", "");
    assert_eq!(status, 400, "{body}");
    let usage = run_cli(
        &["explain", "GET", "/", "-H", "x: a\r\ny: b"],
        gateway.dir(),
    );
    assert_eq!(usage.code, 2, "{}", usage.stdout);
    assert!(usage.stderr.contains("not one line"), "{}", usage.stderr);
}

#[test]
fn no_secret_is_explained() {
    let served = serve("secrets");
    let question =
        json!({ "method": "GET", "url": "/a?b=c", "headers": ["Host: a.test", "X-Api-Key: mine"] });
    let told = explained(&served.gateway, &question).to_string();
    let args = ["explain", "GET", "http://a.test/", "--format"];
    let json = command(&served, &[&args[..], &["json"]].concat());
    let human = command(&served, &[&args[..], &["human"]].concat());
    for told in [
        told,
        json.stdout + &json.stderr,
        human.stdout + &human.stderr,
    ] {
        assert!(told.contains("upstream") || told.contains("app"), "{told}");
        assert!(!told.contains("canary"), "{told}");
    }
}

#[test]
fn a_socket_of_the_file_system_has_no_client_address() {
    let config = answering("").replace("\"127.0.0.1:0\"", "[\"127.0.0.1:0\"]").replace(
        "routes: [",
        "routes: [{ name: here, match: { path: /x, client_ips: [127.0.0.0/8] }, respond: { text: h } }, ",
    );
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("http.sock");
    let second = format!(
        "}}, local: {{ address: \"unix:{}\" }} }}\nadmin",
        socket.display()
    );
    let config = config.replacen("} }\nadmin", &second, 1);
    let gateway = Gateway::spawn(&config);
    for (listener, client, route) in [
        ("public", None, "here"),
        ("public", Some("192.0.2.1"), "a"),
        ("local", None, "a"),
    ] {
        let mut question =
            json!({ "method": "GET", "url": "http://a.test/x", "listener": listener });
        if let Some(client) = client {
            question["client"] = json!(client);
        }
        assert_eq!(explained(&gateway, &question)["route"], route, "{question}");
        let mut args = vec![
            "explain",
            "--format",
            "json",
            "GET",
            "http://a.test/x",
            "--listener",
            listener,
        ];
        args.extend(client.iter().flat_map(|client| ["--client", client]));
        let told: Json = serde_json::from_str(&run_cli(&args, gateway.dir()).stdout).unwrap();
        assert_eq!(told["route"], route, "{question}");
    }
}

#[test]
fn the_time_can_be_chosen() {
    let served = serve("request_tests");
    for (at, status, clause) in [
        ("2026-12-31T23:59:59Z", 200, "upstream"),
        ("2027-01-01", 410, "lifecycle"),
    ] {
        let args = [
            "explain",
            "--format",
            "json",
            "--at",
            at,
            "GET",
            "http://api.example.com/v0/orders/7",
        ];
        for live in [&[][..], &["--live"]] {
            let output = command(&served, &[&args[..], live].concat());
            let told: Json = serde_json::from_str(&output.stdout).unwrap();
            assert_eq!(
                (&told["status"], &told["decided_by"]),
                (&json!(status), &json!(clause)),
                "{told:#}"
            );
        }
    }
}
