//! Whether a large router is as fast as a small one: `cargo bench --bench router`.

use std::hint::black_box;
use std::ops::Range;
use std::time::Instant;

use doorward::router::{Builder, Found, HostPattern, Methods, PathParser, Request, Router, Rule};
use http::{HeaderMap, Method};

const REQUESTS: usize = 1 << 17;
const ROUNDS: usize = 15;
const PART: usize = 512;

/// So many hosts with so many paths each.
#[derive(Clone, Copy)]
struct Size {
    hosts: usize,
    paths: usize,
}

#[expect(clippy::print_stdout, reason = "a report for whoever runs it")]
fn main() {
    let small = Size {
        hosts: 10,
        paths: 10,
    };
    for (hosts, paths) in [(1_000, 100), (10_000, 10), (100_000, 1), (1, 100_000)] {
        let large = Size { hosts, paths };
        let (one, _) = scenario(small);
        let (two, build_ms) = scenario(large);
        let mut ratios: Vec<(f64, f64, f64)> = Vec::new();
        one.nanos_per_find();
        two.nanos_per_find();
        for _ in 0..ROUNDS {
            let (small, large) = (one.nanos_per_find(), two.nanos_per_find());
            ratios.push((large / small, small, large));
        }
        ratios.sort_by(|a, b| a.0.total_cmp(&b.0));
        let ratio = |at: usize| ratios.get(at).copied().unwrap_or_default();
        let (median, small, large) = ratio(ROUNDS / 2);
        let (low, high) = (ratio(0).0, ratio(ROUNDS - 1).0);
        println!(
            "{hosts:>6} hosts x {paths:>6} paths: {large:.1} ns, 10 x 10: {small:.1} ns, ratio {median:.2} ({low:.2} to {high:.2}), \
             built in {build_ms} ms, routed {:.1} %",
            two.share * 100.0
        );
    }
}

/// A router and what is asked of it, in one text, so that reading the requests costs next to nothing.
struct Scenario {
    router: Router<u32>,
    text: String,
    requests: Vec<(Range<usize>, Range<usize>)>,
    share: f64,
}

impl Scenario {
    /// The median over parts of the requests, so that what else runs on the machine matters less.
    #[expect(clippy::disallowed_methods, reason = "it is time that is measured")]
    fn nanos_per_find(&self) -> f64 {
        let headers = HeaderMap::new();
        let mut nanos: Vec<f64> = Vec::new();
        for part in self.requests.chunks_exact(PART) {
            let start = Instant::now();
            for (host, path) in part {
                let host = self.text.get(host.clone()).unwrap_or_default();
                let path = self.text.get(path.clone()).unwrap_or_default();
                black_box(self.router.find(&request(host, path, &headers)));
            }
            nanos.push(start.elapsed().as_secs_f64() * 1e9 / PART as f64);
        }
        nanos.sort_by(f64::total_cmp);
        nanos.get(nanos.len() / 2).copied().unwrap_or_default()
    }
}

fn request<'a>(host: &'a str, path: &'a str, headers: &'a HeaderMap) -> Request<'a> {
    Request {
        host,
        path,
        query: "",
        method: &Method::GET,
        headers,
        client_ip: None,
        unix_millis: 0,
        scheme: "http",
        id: "",
    }
}

#[expect(clippy::disallowed_methods, reason = "it is time that is measured")]
fn scenario(size: Size) -> (Scenario, u128) {
    let canonical = |segment: &str| Ok(segment.to_owned());
    let mut parser = PathParser::new(&canonical);
    let start = Instant::now();
    let mut builder = Builder::new();
    let mut id = 0_u32;
    for host in 0..size.hosts {
        for path in 0..size.paths {
            let kind = if size.paths == 1 { host } else { path };
            let pattern = pattern(kind, path);
            let path = match pattern.strip_suffix("/**") {
                Some(prefix) => parser.parse_prefix(prefix),
                None => parser.parse_path(&pattern),
            };
            let mut rule = Rule::new(id, path.unwrap_or_else(|e| unreachable!("{e}")));
            rule.hosts.extend(HostPattern::parse(&host_name(host)));
            rule.methods = Methods::of([Method::GET, Method::POST]);
            builder.add(rule);
            id += 1;
        }
    }
    let router = builder.build().map(|built| built.router);
    let router = router.unwrap_or_else(|_| unreachable!("the rules do not tie"));
    let build_ms = start.elapsed().as_millis();
    let mut scenario = Scenario {
        router,
        text: String::new(),
        requests: Vec::new(),
        share: 0.0,
    };
    scenario.draw(size);
    (scenario, build_ms)
}

impl Scenario {
    /// Draws hosts and paths; one in ten has an unknown host, one in ten an unknown path.
    fn draw(&mut self, size: Size) {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut below = |max: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state >> 16).unwrap_or_default() % max
        };
        let mut routed = 0_u32;
        let headers = HeaderMap::new();
        for _ in 0..REQUESTS {
            let miss = below(10);
            let host = below(size.hosts);
            let path = below(size.paths);
            let kind = if size.paths == 1 { host } else { path };
            let host = if miss == 0 { host + 1_000_000 } else { host };
            let path = if miss == 1 { path + 1_000_000 } else { path };
            let (host, path) = (host_name(host), sample(kind, path, below(90_000) + 10_000));
            if matches!(
                self.router.find(&request(&host, &path, &headers)),
                Found::Route(_)
            ) {
                routed += 1;
            }
            let middle = self.text.len() + host.len();
            self.requests
                .push((self.text.len()..middle, middle..middle + path.len()));
            self.text.push_str(&host);
            self.text.push_str(&path);
        }
        self.share = f64::from(routed) / f64::from(u32::try_from(REQUESTS).unwrap_or(1));
    }
}

fn host_name(host: usize) -> String {
    format!("tenant-{host}.api.example.com")
}

/// Four exact paths, four templates of three shapes, two prefixes of two lengths.
fn pattern(kind: usize, path: usize) -> String {
    match kind % 10 {
        0 | 1 => format!("/v1/catalog/item-{path}"),
        2 | 3 => format!("/v1/catalog/item-{path}/details"),
        4 | 5 => format!("/v1/orders-{path}/{{id}}"),
        6 => format!("/v1/orders-{path}/{{id}}/lines/{{line}}"),
        7 => format!("/{{tenant}}/v1/report-{path}"),
        8 => format!("/assets/bundle-{path}/**"),
        _ => format!("/files-{path}/**"),
    }
}

fn sample(kind: usize, path: usize, number: usize) -> String {
    match kind % 10 {
        0 | 1 => format!("/v1/catalog/item-{path}"),
        2 | 3 => format!("/v1/catalog/item-{path}/details"),
        4 | 5 => format!("/v1/orders-{path}/{number}"),
        6 => format!("/v1/orders-{path}/{number}/lines/7"),
        7 => format!("/t{number}/v1/report-{path}"),
        8 => format!("/assets/bundle-{path}/js/{number}.js"),
        _ => format!("/files-{path}/{number}"),
    }
}
