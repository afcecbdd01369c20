//! What is looked at, section by section.

use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use super::{Findings, quoted};
use crate::base::net::{ListenAddress, Net};
use crate::base::problem::Place;
use crate::base::units::{Date, Share};
use crate::config::tree::Node;
use crate::config::{document, veil};
use crate::telemetry::{AccessLogFormat, Level};
use crate::upstream::Verify;

/// Rights of a file that everybody has.
pub(super) const OTHERS: u32 = 0o007;
/// The one of them that changes it.
pub(super) const OTHERS_WRITE: u32 = 0o002;
/// A shorter prefix holds networks of more than one owner.
const PREFIX_MIN: (u8, u8) = (8, 16);
/// Connections of one address at once: a network behind one address has fewer.
const PER_IP_MAX: u32 = 10_000;
/// Requests on one connection: it goes on for hours.
const PER_CONNECTION_MAX: u32 = 100_000;
/// Ten times the defaults of the rates of one address.
const CONNECTION_RATE_MAX: u32 = 50_000;
const REQUEST_RATE_MAX: u32 = 500_000;
/// Open requests of one connection in HTTP/2: browsers open 100.
const STREAMS_MAX: u16 = 500;
/// For what no honest client needs long: a handshake, a head.
const OPENING_MAX: Duration = Duration::from_mins(1);
/// For a client that does nothing.
const SILENCE_MAX: Duration = Duration::from_mins(15);

/// Headers by which upstreams know who asks.
const IDENTITY: &[&str] = &[
    "x-user",
    "remote-user",
    "x-remote-user",
    "x-forwarded-user",
    "client-cert",
    "x-client-cert",
    "x-client-verify",
];
/// The same by their beginning.
const IDENTITY_PREFIXES: &[&str] = &[
    "x-user-",
    "x-consumer-",
    "x-auth-request-",
    "x-authenticated-",
    "x-credential-",
    "x-ssl-client-",
];

/// Ends of names that no public DNS knows (RFC 6761, RFC 6762, RFC 8375, RFC 9476 and common use).
const PRIVATE_NAMES: &[&str] = &[
    ".localhost",
    ".local",
    ".internal",
    ".intranet",
    ".lan",
    ".home.arpa",
    ".private",
    ".corp",
    ".svc",
    ".consul",
    ".test",
    ".invalid",
];

impl Findings<'_> {
    /// Looks at all of it.
    pub(super) fn look(&mut self) {
        self.secrets();
        self.listeners();
        self.targets();
        self.authenticators();
        self.in_urls();
        self.vouching();
        self.unplanned();
        self.shared_secrets();
        self.stores();
        self.folders();
        self.admin();
        self.telemetry();
        self.sections();
    }

    fn secrets(&mut self) {
        let loaded = self.loaded;
        let privates = veil::privates(&loaded.tree);
        for private in privates.iter().filter(|it| it.is_written()) {
            let what = "a secret stands in the config".to_owned();
            self.add("A001", &private.place, what);
        }
        let base = loaded.sources.first().and_then(|first| first.path.parent());
        let base = base.unwrap_or_else(|| Path::new(""));
        for (place, (source, name)) in &loaded.secrets {
            if source != "file" {
                continue;
            }
            let mode = std::fs::metadata(base.join(name)).map(|file| file.permissions().mode());
            if mode.is_ok_and(|mode| mode & OTHERS != 0) {
                let what = format!("everybody on this machine may use the file `{name}`");
                self.add("A002", place, what);
            }
        }
    }

    fn listeners(&mut self) {
        let document = &self.loaded.document;
        for listener in &document.listeners {
            let at = listener.place.key("trusted_proxies");
            for (place, net) in believed(&listener.spec.trusted_proxies, &at) {
                let what = format!("`{net}` is believed whatever it says of the client");
                self.add("A003", &place, what);
            }
            if let Some(said) = &listener.spec.proxy_protocol {
                let at = listener.place.key("proxy_protocol").key("from");
                for (place, net) in believed(&said.from, &at) {
                    let what = format!("`{net}` is believed whatever client it names");
                    self.add("A017", &place, what);
                }
            }
            self.client_auth(listener);
            self.limits(listener);
            let public =
                |address: &&ListenAddress| address.tcp().is_some_and(|tcp| !tcp.ip().is_loopback());
            let Some(address) = listener.spec.address.0.iter().find(public) else {
                continue;
            };
            if listener.spec.tls.is_none() {
                let place = listener.place.key("address");
                let what = format!("other machines reach `{address}` without TLS");
                self.add("A006", &place, what);
            }
            self.hosts(listener);
        }
    }

    fn client_auth(&mut self, listener: &document::Named<document::Listener>) {
        let place = listener.place.key("tls").key("client_auth");
        let Some(tls) = &listener.spec.tls else {
            return;
        };
        for (host, written) in &tls.client_auth {
            if written.crl_file.is_none() {
                let what = format!("no certificate of a client of `{host}` is ever revoked");
                self.add("A019", &place.key(host), what);
            }
        }
    }

    /// Whether one client may have or take much more than by default.
    fn limits(&mut self, listener: &document::Named<document::Listener>) {
        let (limits, times) = (&listener.spec.limits, &listener.spec.timeouts);
        let counts = [
            (
                "connections_per_ip",
                limits.connections_per_ip.get(),
                PER_IP_MAX,
            ),
            (
                "requests_per_connection",
                limits.requests_per_connection.get(),
                PER_CONNECTION_MAX,
            ),
            (
                "http2_streams",
                limits.http2_streams.get().into(),
                STREAMS_MAX.into(),
            ),
        ];
        for (key, count, _) in counts.into_iter().filter(|(_, count, max)| count > max) {
            let what = format!("one client may have {count} `{key}`");
            self.add("A020", &listener.place.key("limits").key(key), what);
        }
        let rates = [
            (
                "connection_rate_per_ip",
                limits.connection_rate_per_ip,
                CONNECTION_RATE_MAX,
            ),
            (
                "request_rate_per_ip",
                limits.request_rate_per_ip,
                REQUEST_RATE_MAX,
            ),
        ];
        for (key, rate, max) in rates {
            if rate.per_second().is_none_or(|rate| rate > max) {
                let what = format!("the `{key}` of one client is `{rate}`");
                self.add("A020", &listener.place.key("limits").key(key), what);
            }
        }
        let spans = [
            ("handshake", &times.handshake, OPENING_MAX),
            ("header", &times.header, OPENING_MAX),
            ("idle", &times.idle, SILENCE_MAX),
            ("write", &times.write, SILENCE_MAX),
        ];
        for (key, span, max) in spans {
            if span.duration() > max {
                let what = format!("a client that does nothing is waited for for {span}");
                self.add("A020", &listener.place.key("timeouts").key(key), what);
            }
        }
    }

    /// Whether a listener that other machines reach serves whatever host is asked.
    fn hosts(&mut self, listener: &document::Named<document::Listener>) {
        if !listener.spec.hosts.is_empty() {
            return;
        }
        let open = self.loaded.document.routes.iter().filter(|route| {
            let matches = &route.matches;
            let here = matches.listeners.is_empty() || matches.listeners.contains(&listener.name);
            here && matches.hosts.is_empty()
        });
        let count = open.count();
        if count > 0 {
            let (name, s) = (&listener.name, if count == 1 { "" } else { "s" });
            let what = format!("{count} route{s} on `{name}` for whatever host is asked");
            self.add("A013", &listener.place, what);
        }
    }

    fn targets(&mut self) {
        for upstream in &self.loaded.document.upstreams {
            let tls = upstream.spec.tls.as_ref();
            if tls.is_some_and(|tls| tls.verify == Verify::None) {
                let place = upstream.place.key("tls").key("verify");
                let what = format!("whoever stands in between may be `{}`", upstream.name);
                self.add("A016", &place, what);
            }
            self.token_url(upstream);
            for (index, target) in upstream.spec.targets.iter().enumerate() {
                let url = &target.url;
                if url.scheme().is_tls() || is_private(url.ip(), url.host()) {
                    continue;
                }
                let place = upstream.place.key("targets").index(index).key("url");
                let what = format!(
                    "`{}` is reached over foreign networks without TLS",
                    url.host()
                );
                self.add("A007", &place, what);
            }
        }
    }

    fn admin(&mut self) {
        let Some(admin) = &self.loaded.document.admin else {
            return;
        };
        let Some(address) = admin.address.as_ref().and_then(|address| address.tcp()) else {
            return;
        };
        let place = Place::root().key("admin").key("address");
        if !address.ip().is_loopback() {
            let what = format!("other machines reach the admin interface at `{address}`");
            self.add("A008", &place, what);
        } else if admin.tokens.is_empty() {
            let what = format!("everybody on this machine may reload at `{address}`");
            self.add("A009", &place, what);
        }
    }

    fn telemetry(&mut self) {
        let telemetry = &self.loaded.document.telemetry;
        let place = Place::root().key("telemetry");
        let log = &telemetry.access_log;
        let at = place.key("access_log");
        if log.format == AccessLogFormat::None {
            let what = "requests leave no record".to_owned();
            self.add("A010", &at.key("format"), what);
        } else if log.sample.parts() < Share::WHOLE {
            let what = format!("only {} of good requests are recorded", log.sample);
            self.add("A011", &at.key("sample"), what);
        }
        if matches!(telemetry.log.level, Level::Debug | Level::Trace) {
            let what = "messages tell of every request".to_owned();
            self.add("A012", &place.key("log").key("level"), what);
        }
    }

    /// Whatever holds clauses of routes.
    fn sections(&mut self) {
        let loaded = self.loaded;
        let mut shared = vec![Place::root().key("defaults").key("routes")];
        let listeners = loaded.document.listeners.iter();
        shared.extend(listeners.map(|item| item.place.key("defaults")));
        for place in &shared {
            if let Some(node) = loaded.tree.at(place) {
                self.clauses(node, place);
                // What one route says of its own records was meant so; this is about many.
                self.recording(node, place);
                if node.child("body_limits").is_some_and(Node::is_none_word) {
                    let what = "bodies may be of any length".to_owned();
                    self.add("A018", &place.key("body_limits"), what);
                }
            }
        }
        for route in &loaded.document.routes {
            if let Some(node) = loaded.tree.at(&route.place) {
                self.clauses(node, &route.place);
            }
        }
    }

    fn recording(&mut self, node: &Node, place: &Place) {
        let log = node.child("log");
        let at = place.key("log");
        if log.is_some_and(Node::is_none_word) {
            self.add("A011", &at, "requests leave no record".to_owned());
        }
        let sample = log.and_then(|log| log.child("sample")?.text()?.parse::<Share>().ok());
        if let Some(sample) = sample.filter(|sample| sample.parts() < Share::WHOLE) {
            let what = format!("only {sample} of good requests are recorded");
            self.add("A011", &at.key("sample"), what);
        }
    }

    fn clauses(&mut self, node: &Node, place: &Place) {
        self.headers(node, &place.key("request"), Self::request_header);
        self.headers(node, &place.key("response"), Self::response_header);
        let respond = node
            .child("respond")
            .and_then(|clause| clause.child("headers"));
        let respond_at = place.key("respond").key("headers");
        for entry in respond.map(Node::entries).unwrap_or_default() {
            let value = entry.node.text().unwrap_or_default();
            self.response_header(&entry.key, value, &respond_at.key(&entry.key));
        }
        self.renamed(node, place);
        self.pages(node, place);
        let mode = node
            .child("authorize")
            .and_then(|clause| clause.child("mode"));
        if mode.and_then(Node::text) == Some("log_only") {
            let what = "whoever may not is let in, and only the log says so";
            self.add("A025", &place.key("authorize").key("mode"), what.to_owned());
        }
        let sunset = node
            .child("lifecycle")
            .and_then(|clause| clause.child("sunset"));
        let sunset = sunset.and_then(|node| node.text()?.parse::<Date>().ok());
        if let Some(sunset) = sunset.filter(|sunset| sunset.unix_millis() <= self.unix_millis) {
            let place = place.key("lifecycle").key("sunset");
            self.add("A014", &place, format!("its time ended {sunset}"));
        }
    }

    /// Hands every header that the clause at `place` writes to `look`.
    fn headers(&mut self, section: &Node, place: &Place, look: fn(&mut Self, &str, &str, &Place)) {
        let clause = place.steps().last();
        let headers = clause.and_then(|step| section.step(step)?.child("headers"));
        for key in ["set", "add"] {
            let changes = headers.and_then(|headers| headers.child(key));
            for entry in changes.map(Node::entries).unwrap_or_default() {
                let place = place.key("headers").key(key).key(&entry.key);
                look(
                    self,
                    &entry.key,
                    entry.node.text().unwrap_or_default(),
                    &place,
                );
            }
        }
    }

    fn request_header(&mut self, name: &str, value: &str, place: &Place) {
        if is_identity(name)
            && let Some(source) = quoted(value).find(|name| is_clients(name))
        {
            let what = format!("`{source}`, which every client can write, becomes `{name}`");
            self.add("A004", place, what);
        }
    }

    fn response_header(&mut self, name: &str, value: &str, place: &Place) {
        let lower = name.to_ascii_lowercase();
        if matches!(lower.as_str(), "location" | "content-location" | "refresh") {
            let start = value
                .find("url=")
                .map_or(value, |at| value.get(at + 4..).unwrap_or(value));
            if let Some(source) = host_of_client(start) {
                let what = format!("`{source}` says where the browser goes");
                self.add("A005", place, what);
            }
        }
        if matches!(lower.as_str(), "server" | "x-powered-by") {
            let what = format!("`{name}` tells clients what runs here");
            self.add("A015", place, what);
        }
    }

    fn renamed(&mut self, node: &Node, place: &Place) {
        let headers = node
            .child("request")
            .and_then(|clause| clause.child("headers"));
        let renamed = headers.and_then(|headers| headers.child("rename"));
        for entry in renamed.map(Node::entries).unwrap_or_default() {
            let to = entry.node.text().unwrap_or_default();
            if is_identity(to) {
                let place = place.key("request").key("headers").key("rename");
                let what = format!(
                    "`{}`, which every client can write, becomes `{to}`",
                    entry.key
                );
                self.add("A004", &place.key(&entry.key), what);
            }
        }
    }
}

/// Those of `nets`, a list at `place`, that hold networks of more than one owner.
fn believed(nets: &[Net], place: &Place) -> Vec<(Place, ipnet::IpNet)> {
    let nets = nets.iter().map(|net| net.ip_net()).enumerate();
    let wide = nets.filter(|(_, net)| {
        let (v4, v6) = PREFIX_MIN;
        let least = if net.addr().is_ipv4() { v4 } else { v6 };
        net.prefix_len() < least && !net.addr().is_loopback()
    });
    wide.map(|(index, net)| (place.index(index), net)).collect()
}

fn is_identity(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let prefixed = |prefix: &&str| name.starts_with(*prefix);
    IDENTITY.contains(&name.as_str()) || IDENTITY_PREFIXES.iter().any(prefixed)
}

/// Whether a quoted name is what a client writes as it likes.
fn is_clients(name: &str) -> bool {
    ["request.headers.", "request.query", "request.cookies."]
        .iter()
        .any(|start| name.starts_with(start))
}

/// The quoted name that decides the host of an address; none where the host is written, or it has none.
fn host_of_client(address: &str) -> Option<&str> {
    let rest = address
        .split_once("://")
        .map_or(address, |(_, rest)| rest)
        .trim_start();
    let host = if rest.starts_with('{') {
        // Braces hold no slash: all up to the first behind them is the host.
        rest.split_once('}').map_or(rest, |(name, _)| name)
    } else {
        rest.split('/').next().unwrap_or_default()
    };
    let end = host.len() + usize::from(rest.get(host.len()..)?.starts_with('}'));
    quoted(rest.get(..end)?).find(|name| is_clients(name) || *name == "request.host")
}

/// Whether an address or name is of this machine or of a network of its own.
pub(super) fn is_private(ip: Option<IpAddr>, host: &str) -> bool {
    match ip {
        Some(IpAddr::V4(ip)) => {
            let [first, second, _, _] = ip.octets();
            // Shared by the customers of one provider (RFC 6598).
            let shared = first == 100 && (64..128).contains(&second);
            ip.is_loopback() || ip.is_private() || ip.is_link_local() || shared
        }
        Some(IpAddr::V6(ip)) => {
            ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local()
        }
        None => {
            let host = host.trim_end_matches('.');
            !host.contains('.') || PRIVATE_NAMES.iter().any(|end| host.ends_with(end))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{host_of_client, is_private};

    #[test]
    fn the_host_of_an_address_is_not_the_clients() {
        for (address, source) in [
            ("{request.query.next}", Some("request.query.next")),
            ("https://{request.headers.x}/a", Some("request.headers.x")),
            ("https://{request.host}/a", Some("request.host")),
            ("https://a.test/{request.query.next}", None),
            ("/a/{request.query.next}", None),
            ("https://{id}.a.test/", None),
            ("https://x-{request.query.a}.test/", Some("request.query.a")),
        ] {
            assert_eq!(host_of_client(address), source, "{address}");
        }
    }

    #[test]
    fn private_networks_are_known() {
        let ip = |text: &str| is_private(Some(text.parse().unwrap()), text);
        for private in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "::1",
            "fd00::1",
        ] {
            assert!(ip(private), "{private}");
        }
        for public in ["8.8.8.8", "100.128.0.1", "172.32.0.1", "2001:4860::1"] {
            assert!(!ip(public), "{public}");
        }
        for name in ["orders", "orders.internal", "a.b.svc", "localhost"] {
            assert!(is_private(None, name), "{name}");
        }
        for name in ["api.example.com", "internal.example.com"] {
            assert!(!is_private(None, name), "{name}");
        }
    }
}
