//! What the router finds and what it refuses to read; `naive.rs` compares it with the plain reading of the rules.

mod conflicts;
mod naive;

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::*;

fn parse(text: &str) -> Result<PathPattern, String> {
    let canonical = |segment: &str| Ok(segment.replace("%41", "A"));
    let mut parser = PathParser::new(&canonical);
    match (text.strip_prefix('~'), text.strip_suffix("/**")) {
        (Some(regex), _) => parser.parse_regex(regex),
        (None, Some(prefix)) => parser.parse_prefix(&format!("{prefix}/")),
        (None, None) => parser.parse_path(text),
    }
}

/// A rule from `[METHOD,METHOD ][host,host]path`; `/**` at the end makes a prefix, `~` at the start a regex.
fn rule(id: u32, text: &str) -> Rule<u32> {
    let (methods, rest) = text.split_once(' ').unwrap_or(("", text));
    let (hosts, path) = rest.split_at(rest.find(['/', '~']).unwrap());
    let mut rule = Rule::new(id, parse(path).unwrap());
    rule.hosts = hosts
        .split(',')
        .filter(|h| !h.is_empty())
        .map(|h| HostPattern::parse(h).unwrap())
        .collect();
    if !methods.is_empty() {
        rule.methods = Methods::of(methods.split(',').map(|m| m.parse().unwrap()));
    }
    rule
}

fn rules(texts: &[&str]) -> Vec<Rule<u32>> {
    (0..).zip(texts).map(|(id, text)| rule(id, text)).collect()
}

fn build(rules: impl IntoIterator<Item = Rule<u32>>) -> Result<Built<u32>, Vec<Conflict<u32>>> {
    let mut builder = Builder::new();
    rules.into_iter().for_each(|rule| builder.add(rule));
    builder.build()
}

fn router(rules: Vec<Rule<u32>>) -> Router<u32> {
    build(rules)
        .unwrap_or_else(|conflicts| panic!("{conflicts:?}"))
        .router
}

/// What the router answers: `2 [a/b, c]` for rule 2 with its parameters, `405 GET, ..`, `options GET, ..` or `404`.
fn answer(router: &Router<u32>, request: &Request<'_>) -> String {
    match router.find(request) {
        Found::Route(route) if route.params.is_empty() => route.id.to_string(),
        Found::Route(route) => {
            let values =
                (0..route.params.len()).map(|i| route.params.get(i, request.path).unwrap_or("-"));
            format!("{} [{}]", route.id, values.collect::<Vec<_>>().join(", "))
        }
        Found::MethodNotAllowed { allow } => format!("405 {allow}"),
        Found::Options { allow } => format!("options {allow}"),
        Found::NotFound => "404".to_owned(),
    }
}

/// Asks for `[METHOD ]host/path[?query]` with headers `name: value`.
fn ask(router: &Router<u32>, text: &str, headers: &[&str]) -> String {
    let (method, rest) = text.split_once(' ').unwrap_or(("GET", text));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (host, path) = rest.split_at(rest.find(['/', '*']).unwrap());
    let mut map = HeaderMap::new();
    for header in headers {
        let (name, value) = header.split_once(": ").unwrap();
        let name: HeaderName = name.parse().unwrap();
        map.append(name, HeaderValue::from_str(value).unwrap());
    }
    let method: Method = method.parse().unwrap();
    let request = Request {
        host,
        path,
        query,
        method: &method,
        headers: &map,
        client_ip: "10.1.2.3".parse().ok(),
        unix_millis: 1_000,
        scheme: "http",
        id: "",
    };
    answer(router, &request)
}

/// Rules are numbered from 0.
fn check(texts: &[&str], expected: &[(&str, &str)]) {
    let router = router(rules(texts));
    for (request, answer) in expected {
        assert_eq!(
            &ask(&router, request, &[]),
            answer,
            "{request} of {texts:?}"
        );
    }
}

#[test]
fn most_specific_host_wins() {
    check(
        &["/**", "*.x/**", "*.a.x/**", "b.a.x/p"],
        &[
            ("b.a.x/p", "3"),
            ("b.a.x/q", "2 [/q]"),
            ("c.b.a.x/p", "2 [/p]"),
            ("a.x/p", "1 [/p]"),
            ("x/p", "0 [/p]"),
            (".x/p", "0 [/p]"),
            ("ax/p", "0 [/p]"),
            ("/p", "0 [/p]"),
        ],
    );
}

#[test]
fn most_specific_path_wins() {
    check(
        &[
            "/a/b",
            "/a/{x}",
            "/a/{x:[0-9]+}",
            "/a/{r*}",
            "/a/**",
            "/**",
            "~/r.*",
            "/{x}/b/{r*}",
        ],
        &[
            ("/a/b", "0"),
            ("/a/c", "1 [c]"),
            ("/a/7", "2 [7]"),
            ("/a/", "3 []"),
            ("/a", "4 []"),
            ("/a/c/d", "3 [c/d]"),
            ("/a/b/d", "7 [a, d]"),
            ("/ab", "5 [/ab]"),
            ("/r", "5 [/r]"),
            ("/z/b/", "7 [z, ]"),
            ("/", "5 [/]"),
            ("*", "404"),
        ],
    );
}

#[test]
fn a_route_tells_how_specific_it_is() {
    let mut only = rule(0, "*.a.x/v1/{id:[0-9]+}/{r*}");
    only.priority = 7;
    only.conditions.after = Some(0);
    let router = router(vec![only]);
    let request = Request {
        host: "b.a.x",
        path: "/v1/7/",
        query: "",
        method: &Method::GET,
        headers: &HeaderMap::new(),
        client_ip: None,
        unix_millis: 0,
        scheme: "http",
        id: "",
    };
    let Found::Route(route) = router.find(&request) else {
        panic!("not found");
    };
    let path = PathRank::Template {
        literals: 1,
        whole: false,
        segments: 2,
        typed: 1,
    };
    let rank = Rank {
        host: HostRank::Wildcard(2),
        path,
        priority: 7,
        conditions: 1,
    };
    assert_eq!(router.rank(&route), Some(rank));
    assert_eq!(rank.path, parse("/v1/{id:[0-9]+}/{r*}").unwrap().rank());
}

#[test]
fn regexes_are_anchored_and_name_their_parameters() {
    check(
        &[
            r"GET ~/(?<year>[0-9]{4})(-(?<month>[0-9]{2}))?",
            "POST ~/q|/r",
        ],
        &[
            ("/2024-12", "0 [2024, 12]"),
            ("/2024", "0 [2024, -]"),
            ("/2024-", "404"),
            ("/x/2024", "404"),
            ("POST /q", "1"),
            ("POST /r", "1"),
            ("POST /qq", "404"),
        ],
    );
}

#[test]
fn prefixes_match_whole_segments() {
    check(
        &["/v1/", "/v1/**", "/v1/a/**", "//v1/**"],
        &[
            ("/v1", "1 []"),
            ("/v1/", "0"),
            ("/v1/x", "1 [/x]"),
            ("/v1x", "404"),
            ("/v1/a", "2 []"),
            ("/v1/ab", "1 [/ab]"),
            ("/v1/a/b/c", "2 [/b/c]"),
            ("//v1", "3 []"),
            ("/", "404"),
        ],
    );
}

#[test]
fn plain_parameters_are_never_empty() {
    check(
        &["/a/{x}", "/b/{x:[a-z]*}"],
        &[
            ("/a/", "404"),
            ("/a/x", "0 [x]"),
            ("/b/", "1 []"),
            ("/b/9", "404"),
        ],
    );
}

#[test]
fn rest_takes_zero_or_more_characters() {
    check(
        &["/files/{path*}", "/{x}/of/{path*}"],
        &[
            ("/files/", "0 []"),
            ("/files/a/b", "0 [a/b]"),
            ("/files", "404"),
            ("/me/of/", "1 [me, ]"),
            ("/me/of", "404"),
            ("//of/x", "404"),
        ],
    );
}

#[test]
fn long_paths_and_names_match_as_short_ones_do() {
    let segments = "/0123456789012345678901234567890123456789".repeat(12);
    let host = "a-rather-long-label.with-another-long-label.example.com";
    let texts = [
        format!("{host}{segments}"),
        format!("*.{host}{segments}/{{id}}"),
        format!("{segments}/**"),
    ];
    check(
        &texts.each_ref().map(String::as_str),
        &[
            (&format!("{host}{segments}"), "0"),
            (&format!("x.{host}{segments}/7"), "1 [7]"),
            (&format!("{segments}/7"), "2 [/7]"),
            (&"/x".repeat(200), "404"),
        ],
    );
    let router = router(rules(&["/**"]));
    let long = "/x".repeat(500);
    assert_eq!(
        ask(&router, &format!("h{long}"), &[]),
        format!("0 [{long}]")
    );
}

#[test]
fn a_missing_method_is_not_a_missing_path() {
    check(
        &[
            "GET,PURGE /a",
            "POST /{x}",
            "DELETE x/a",
            "PUT /b",
            "OPTIONS,GET /c",
            "/d",
        ],
        &[
            ("HEAD y/a", "0"),
            ("PURGE y/a", "0"),
            ("POST y/a", "1 [a]"),
            ("PATCH y/a", "405 GET, HEAD, POST, OPTIONS, PURGE"),
            ("PATCH x/a", "405 GET, HEAD, POST, DELETE, OPTIONS, PURGE"),
            ("BREW y/b", "405 POST, PUT, OPTIONS"),
            ("OPTIONS y/b", "options POST, PUT, OPTIONS"),
            ("OPTIONS y/c", "4"),
            ("OPTIONS y/d", "5"),
            ("BREW y/d", "5"),
            ("OPTIONS y/a/b", "404"),
        ],
    );
}

#[test]
fn every_level_falls_through() {
    check(
        &["POST a.x/p", "PUT *.x/p", "GET /p", "DELETE a.x/**"],
        &[
            ("POST a.x/p", "0"),
            ("PUT a.x/p", "1"),
            ("GET a.x/p", "2"),
            ("DELETE a.x/p", "3 [/p]"),
            ("PATCH a.x/p", "405 GET, HEAD, POST, PUT, DELETE, OPTIONS"),
        ],
    );
}

#[test]
fn priority_decides_before_conditions_but_after_the_path() {
    let mut list = rules(&["/a", "/a", "/a", "/{x}"]);
    list[1].conditions.headers = vec![("x-a".parse().unwrap(), Test::Present(true))];
    list[2].conditions.headers = vec![("x-b".parse().unwrap(), Test::Present(true))];
    list[2].priority = -1;
    list[3].priority = 9;
    let router = router(list);
    assert_eq!(ask(&router, "/a", &["x-a: 1", "x-b: 1"]), "1");
    assert_eq!(ask(&router, "/a", &["x-b: 1"]), "0");
    assert_eq!(ask(&router, "/b", &[]), "3 [b]");
}

/// A router of one rule with these conditions.
fn with(change: impl FnOnce(&mut Conditions)) -> Router<u32> {
    let mut only = rule(0, "/{x}");
    change(&mut only.conditions);
    router(vec![only])
}

#[test]
fn conditions_look_at_the_first_value_of_a_name() {
    let header = with(|c| c.headers = vec![("x-a".parse().unwrap(), Test::regex("a+|b").unwrap())]);
    assert_eq!(ask(&header, "/p", &["x-a: aa"]), "0 [p]");
    assert_eq!(ask(&header, "/p", &["x-a: ab"]), "404");
    assert_eq!(ask(&header, "/p", &["x-a: c", "x-a: b"]), "404");
    let query = with(|c| c.query = vec![("a b".into(), Test::Exact("1+1 é".into()))]);
    assert_eq!(ask(&query, "/p?x&a+b=1%2B1%20%c3%A9", &[]), "0 [p]");
    assert_eq!(ask(&query, "/p?a%20b=1+1&a+b=1%2B1%20%c3%A9", &[]), "404");
    let cookie = with(|c| c.cookies = vec![("b".into(), Test::Prefix("v".into()))]);
    assert_eq!(
        ask(&cookie, "/p", &["cookie: a=1; b=v2", "cookie: b=x"]),
        "0 [p]"
    );
    assert_eq!(ask(&cookie, "/p", &["cookie: a=1; b=w; b=v2"]), "404");
    let absent = with(|c| c.query = vec![("q".into(), Test::Present(false))]);
    assert_eq!(ask(&absent, "/p", &[]), "0 [p]");
    assert_eq!(ask(&absent, "/p?q", &[]), "404");
}

#[test]
fn versions_are_read_where_the_rule_says() {
    let version = |location, default| {
        let any_of = vec!["2".to_owned(), "3".to_owned()];
        let version = VersionMatch {
            location,
            any_of,
            default,
        };
        with(|c| c.version = Some(version))
    };
    let header = version(VersionLocation::Header("x-v".parse().unwrap()), false);
    assert_eq!(ask(&header, "/p", &["x-v: 3"]), "0 [p]");
    assert_eq!(ask(&header, "/p", &[]), "404");
    let query = version(VersionLocation::Query("v".into()), true);
    assert_eq!(ask(&query, "/p?v=2", &[]), "0 [p]");
    assert_eq!(ask(&query, "/p?v=", &[]), "0 [p]");
    assert_eq!(ask(&query, "/p?v=4", &[]), "404");
    let accept = version(VersionLocation::MediaType("version".into()), false);
    assert_eq!(
        ask(&accept, "/p", &["accept: text/html;q=1, a/b;Version=\"2\""]),
        "0 [p]"
    );
    assert_eq!(
        ask(&accept, "/p", &["accept: a/b;t=\"x;version=2\""]),
        "404"
    );
    assert_eq!(
        ask(&accept, "/p", &["accept: a/b;version=1, a/b;version=2"]),
        "404"
    );
}

#[test]
fn clients_times_and_expressions_are_checked() {
    struct FirstIs(&'static str);
    impl Condition for FirstIs {
        fn holds(&self, request: &Request<'_>, params: &Params) -> bool {
            params.get(0, request.path) == Some(self.0)
        }
    }
    let here = with(|c| c.client_ips = vec!["10.1.0.0/16".parse().unwrap()]);
    let there = with(|c| c.client_ips = vec!["10.2.0.0/16".parse().unwrap()]);
    assert_eq!(
        (ask(&here, "/p", &[]), ask(&there, "/p", &[])),
        ("0 [p]".to_owned(), "404".to_owned())
    );
    let after = with(|c| c.after = Some(1_000));
    let before = with(|c| c.before = Some(1_000));
    assert_eq!(
        (ask(&after, "/p", &[]), ask(&before, "/p", &[])),
        ("0 [p]".to_owned(), "404".to_owned())
    );
    let when = with(|c| c.when = Some(Arc::new(FirstIs("yes"))));
    assert_eq!(
        (ask(&when, "/yes", &[]), ask(&when, "/no", &[])),
        ("0 [yes]".to_owned(), "404".to_owned())
    );
}

#[test]
fn patterns_that_cannot_be_meant_are_refused() {
    for (text, what) in [
        ("a", "begin with `/`"),
        ("/{a", "not closed"),
        ("/a}", "without"),
        ("/{a}b", "whole one"),
        ("/b{a}", "whole one"),
        ("/{a}/{a}", "twice"),
        ("/{a*}/b", "last segment"),
        ("/{a*:x}", "takes no pattern"),
        ("/{}", "no valid name"),
        ("/{1}", "no valid name"),
        ("/{a:(}", "cannot be read"),
        ("/{a:x)|(y}", "cannot be read"),
        ("/{a:[a-z]{2}", "not closed"),
        ("/{a:(\\w{50}){50}}", "too big"),
        ("/a?b", "`query`"),
        ("/{a}/**", "no parameters"),
        ("~a)|(b", "cannot be read"),
    ] {
        let error = parse(text).expect_err(text);
        assert!(error.contains(what), "{text}: {error}");
    }
    check(
        &["/{a:[0-9]{2}}/{b:/}", "/{{a}}/%41", "/{{/**"],
        &[("/12/b", "404"), ("/{a}/A", "1"), ("/{/x", "2 [/x]")],
    );
    assert_eq!(
        parse("/{b-1}/{a}/{c*}").unwrap().names(),
        ["b-1", "a", "c"].map(Box::<str>::from)
    );
}

#[test]
fn hosts_are_read_in_the_form_requests_have() {
    let parse = |text| HostPattern::parse(text).map(|host| host.to_string());
    assert_eq!(parse("API.Example.com.").as_deref(), Ok("api.example.com"));
    assert_eq!(parse("*.Example.com").as_deref(), Ok("*.example.com"));
    assert_eq!(parse("127.0.0.1").as_deref(), Ok("127.0.0.1"));
    assert_eq!(parse("[2001:DB8:0::1]").as_deref(), Ok("[2001:db8::1]"));
    assert_eq!(parse("2001:db8::1").as_deref(), Ok("[2001:db8::1]"));
    for text in [
        "",
        "*",
        "*.",
        ".",
        "a..b",
        "a.*.b",
        "*a.b",
        "a:80",
        "-a",
        "a b",
        "1.2.3",
        "*.0.0.1",
        "bücher.de",
    ] {
        assert!(parse(text).is_err(), "{text}");
    }
    assert!(parse("bücher.de").is_err_and(|e| e.contains("xn--")));
}
