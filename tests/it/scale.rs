//! The router with very many routes: each is found, nothing else is. What it costs is measured by `make bench`.

use std::fmt::Write as _;

use doorward::router::{Builder, Found, HostPattern, PathParser, Request, Rule};
use http::{HeaderMap, Method};

use crate::support::scale;

const HOSTS: u64 = 1000;

/// Exact paths, templates and prefixes by turns, spread over the hosts.
fn path(number: u64) -> String {
    match number % 3 {
        0 => format!("/v1/things-{number}/list"),
        1 => format!("/v1/orders-{number}/{{id}}/items"),
        _ => format!("/v2/files-{number}"),
    }
}

/// A request that falls under route `number`, and what its path ends in.
fn asked(number: u64) -> String {
    match number % 3 {
        0 => format!("/v1/things-{number}/list"),
        1 => format!("/v1/orders-{number}/{}/items", number * 7),
        _ => format!("/v2/files-{number}/a/b"),
    }
}

#[test]
fn each_of_very_many_routes_is_found_and_nothing_else() {
    let count = scale(100_000);
    let canonical = |segment: &str| Ok(segment.to_owned());
    let mut parser = PathParser::new(&canonical);
    let mut builder = Builder::new();
    for number in 0..count {
        let text = path(number);
        let path = match number % 3 {
            2 => parser.parse_prefix(&text),
            _ => parser.parse_path(&text),
        };
        let mut rule = Rule::new(number, path.unwrap());
        rule.hosts =
            vec![HostPattern::parse(&format!("host-{}.example.com", number % HOSTS)).unwrap()];
        builder.add(rule);
    }
    let built = builder
        .build()
        .unwrap_or_else(|conflicts| panic!("{} conflicts", conflicts.len()));
    assert!(built.warnings.is_empty());
    let headers = HeaderMap::new();
    let mut host = String::new();
    let mut find = |host_number: u64, path: &str| {
        host.clear();
        write!(host, "host-{host_number}.example.com").unwrap();
        let found = built.router.find(&Request {
            host: &host,
            path,
            query: "",
            method: &Method::GET,
            headers: &headers,
            client_ip: None,
            unix_millis: 0,
            scheme: "http",
            id: "",
        });
        match &found {
            Found::Route(route) => Some(route.id),
            Found::NotFound => None,
            Found::MethodNotAllowed { .. } | Found::Options { .. } => panic!("{found:?}"),
        }
    };
    for number in 0..count {
        let path = asked(number);
        assert_eq!(find(number % HOSTS, &path), Some(number), "{path}");
        assert_eq!(
            find((number + 1) % HOSTS, &path),
            None,
            "{path} on another host"
        );
        assert_eq!(find(number % HOSTS, &format!("/x{path}")), None);
    }
}
