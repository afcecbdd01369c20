//! The router against the plain reading of the rules: filter all, take the best.

use std::cmp::Reverse;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method};
use proptest::prelude::*;
use proptest::sample::select;

use super::super::*;
use super::{answer, build, parse};

/// A rule in the form that is plainest to check.
#[derive(Clone, Debug)]
struct Spec {
    hosts: Vec<&'static str>,
    path: Path,
    methods: Option<Vec<&'static str>>,
    only: Vec<Only>,
    priority: i32,
}

#[derive(Clone, Debug)]
enum Path {
    Segments(Vec<&'static str>, Rest),
    Prefix(Vec<&'static str>),
    Regex(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Rest {
    None,
    Any,
}

/// A condition. Of every kind but headers a rule has at most one.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Only {
    Header(&'static str, &'static str),
    Absent(&'static str),
    Query(&'static str),
    Client(&'static str),
    After(i64),
    Before(i64),
    Version(&'static [&'static str], &'static str),
    FirstIsA,
}

struct FirstIsA;

impl Condition for FirstIsA {
    fn holds(&self, request: &Request<'_>, params: &Params) -> bool {
        params.get(0, request.path) == Some("a")
    }
}

#[derive(Clone, Debug)]
struct Ask {
    host: &'static str,
    path: String,
    method: &'static str,
    header: (&'static str, &'static str),
    query: &'static str,
    client: &'static str,
    time: i64,
}

fn spec() -> impl Strategy<Value = Spec> {
    let host = select(vec!["x", "a.x", "b.a.x", "*.x", "*.a.x", "*.b.a.x"]);
    let segment = select(vec!["a", "a", "b", "b", "", "{", "{", "{:[ab]", "{:a?"]);
    let literal = select(vec!["a", "b", ""]);
    let rest = select(vec![Rest::None, Rest::None, Rest::Any]);
    let regex = select(vec!["/.*", "/(?<p>[ab])(/(?<q>b))?", "/a/(?<p>.*)"]);
    let path = prop_oneof![
        6 => (prop::collection::vec(segment, 1..4), rest).prop_map(|(s, rest)| Path::Segments(s, rest)),
        2 => prop::collection::vec(literal, 0..3).prop_map(Path::Prefix),
        1 => regex.prop_map(Path::Regex),
    ];
    let method = select(vec!["GET", "HEAD", "POST", "OPTIONS", "PURGE", "BREW"]);
    let only = select(vec![
        Only::Header("1", "exact"),
        Only::Header("12", "exact"),
        Only::Header("1", "prefix"),
        Only::Header("1.*", "regex"),
        Only::Absent("y"),
        Only::Query("1"),
        Only::Query("2"),
        Only::Client("10.0.0.0/8"),
        Only::Client("10.1.0.0/16"),
        Only::Client("11.0.0.0/8"),
        Only::After(10),
        Only::Before(10),
        Only::Before(20),
        Only::Version(&["1"], "default"),
        Only::Version(&["1", "2"], ""),
        Only::Version(&["3"], ""),
        Only::FirstIsA,
    ]);
    let few = prop_oneof![3 => Just(0..1_usize), 1 => Just(1..3)];
    (
        prop_oneof![2 => Just(vec![]), 3 => prop::collection::vec(host, 1..3)],
        path,
        prop::option::of(prop::collection::vec(method, 1..3)),
        few.prop_flat_map(move |few| prop::collection::vec(only.clone(), few)),
        0..2,
    )
        .prop_map(|(hosts, mut path, methods, mut only, priority)| {
            if let Path::Prefix(segments) = &mut path {
                while segments.last() == Some(&"") {
                    segments.pop(); // a trailing slash is ignored
                }
            }
            let mut kinds = Vec::new();
            only.retain(|only| {
                let kind = std::mem::discriminant(only);
                let new = matches!(only, Only::Header(..)) || !kinds.contains(&kind);
                kinds.push(kind);
                new
            });
            Spec {
                hosts,
                path,
                methods,
                only,
                priority,
            }
        })
}

fn ask() -> impl Strategy<Value = Ask> {
    let segment = select(vec!["a", "a", "b", "b", "", "c"]);
    (
        select(vec!["x", "a.x", "b.a.x", "c.b.a.x", "y"]),
        prop::collection::vec(segment, 1..5),
        select(vec!["GET", "HEAD", "POST", "OPTIONS", "PURGE", "PUT"]),
        select(vec![("x", "1"), ("x", "12"), ("y", "1"), ("z", "")]),
        select(vec!["", "q=1&q=2", "v=1", "q=2&v=3", "v=&q=1"]),
        select(vec!["10.1.0.1", "10.2.0.1", "11.0.0.1"]),
        select(vec![5, 15, 25]),
    )
        .prop_map(|(host, segments, method, header, query, client, time)| {
            let path = format!("/{}", segments.join("/"));
            Ask {
                host,
                path,
                method,
                header,
                query,
                client,
                time,
            }
        })
}

fn rule(id: u32, spec: &Spec) -> Rule<u32> {
    let text = match &spec.path {
        Path::Regex(regex) => format!("~{regex}"),
        Path::Prefix(segments) => {
            segments.iter().map(|s| format!("/{s}")).collect::<String>() + "/**"
        }
        Path::Segments(segments, rest) => {
            let named = (segments.iter().enumerate()).map(|(i, s)| match s.strip_prefix('{') {
                Some(regex) => format!("/{{p{i}{regex}}}"),
                None => format!("/{s}"),
            });
            let rest = if *rest == Rest::Any { "/{r*}" } else { "" };
            named.collect::<String>() + rest
        }
    };
    let mut rule = Rule::new(id, parse(&text).unwrap());
    rule.hosts = spec
        .hosts
        .iter()
        .map(|host| HostPattern::parse(host).unwrap())
        .collect();
    if let Some(methods) = &spec.methods {
        rule.methods = Methods::of(methods.iter().map(|m| m.parse().unwrap()));
    }
    rule.priority = spec.priority;
    let conditions = &mut rule.conditions;
    for only in &spec.only {
        match *only {
            Only::Header(value, "exact") => conditions
                .headers
                .push(("x".parse().unwrap(), Test::Exact(value.into()))),
            Only::Header(value, "prefix") => conditions
                .headers
                .push(("x".parse().unwrap(), Test::Prefix(value.into()))),
            Only::Header(value, _) => conditions
                .headers
                .push(("x".parse().unwrap(), Test::regex(value).unwrap())),
            Only::Absent(name) => conditions
                .headers
                .push((name.parse().unwrap(), Test::Present(false))),
            Only::Query(value) => conditions
                .query
                .push(("q".into(), Test::Exact(value.into()))),
            Only::Client(net) => conditions.client_ips.push(net.parse().unwrap()),
            Only::After(time) => conditions.after = Some(time),
            Only::Before(time) => conditions.before = Some(time),
            Only::Version(any_of, default) => {
                conditions.version = Some(VersionMatch {
                    location: VersionLocation::Query("v".into()),
                    any_of: any_of.iter().map(|v| (*v).to_owned()).collect(),
                    default: default == "default",
                });
            }
            Only::FirstIsA => conditions.when = Some(Arc::new(FirstIsA)),
        }
    }
    rule
}

fn takes(spec: &Spec, method: &str) -> bool {
    let Some(methods) = &spec.methods else {
        return true;
    };
    methods.contains(&method) || method == "HEAD" && methods.contains(&"GET")
}

/// The parameters, if the path matches.
fn path_matches(path: &Path, asked: &str) -> Option<Vec<String>> {
    let asked_segments: Vec<&str> = asked.split('/').skip(1).collect();
    match path {
        Path::Regex(regex) => {
            let regex = regex::Regex::new(&format!("^({regex})$")).unwrap();
            let found = regex.captures(asked)?;
            let names = regex.capture_names().flatten();
            Some(
                names
                    .map(|n| found.name(n).map_or("-", |m| m.as_str()).to_owned())
                    .collect(),
            )
        }
        Path::Prefix(segments) => {
            let start = asked_segments.get(..segments.len())?;
            let left = asked_segments[segments.len()..].iter();
            let left = left.map(|segment| format!("/{segment}")).collect();
            (start == segments.as_slice()).then(|| vec![left])
        }
        Path::Segments(segments, rest) => {
            let mut params = Vec::new();
            let start = asked_segments.get(..segments.len())?;
            let left = &asked_segments[segments.len()..];
            if left.is_empty() == (*rest == Rest::Any) {
                return None;
            }
            for (segment, asked) in segments.iter().zip(start) {
                let matches = match segment.strip_prefix('{') {
                    None => segment == asked,
                    Some("") => !asked.is_empty(),
                    Some(":[ab]") => matches!(*asked, "a" | "b"),
                    Some(_) => matches!(*asked, "" | "a"),
                };
                if !matches {
                    return None;
                }
                if segment.starts_with('{') {
                    params.push((*asked).to_owned());
                }
            }
            if *rest == Rest::Any {
                params.push(left.join("/"));
            }
            Some(params)
        }
    }
}

fn only_holds(only: Only, ask: &Ask, params: &[String]) -> bool {
    let query = |name: &str| {
        let pairs = ask.query.split('&').filter_map(|pair| pair.split_once('='));
        pairs
            .into_iter()
            .find(|(n, _)| *n == name)
            .map(|(_, value)| value)
    };
    let header = |name| (ask.header.0 == name).then_some(ask.header.1);
    match only {
        Only::Header(value, "exact") => header("x") == Some(value),
        Only::Header(_, _) => header("x").is_some_and(|v| v.starts_with('1')),
        Only::Absent(name) => header(name).is_none(),
        Only::Query(value) => query("q") == Some(value),
        Only::Client("10.0.0.0/8") => ask.client.starts_with("10."),
        Only::Client("10.1.0.0/16") => ask.client.starts_with("10.1."),
        Only::Client(_) => ask.client.starts_with("11."),
        Only::After(time) => ask.time >= time,
        Only::Before(time) => ask.time < time,
        Only::Version(any_of, default) => match query("v") {
            None | Some("") => default == "default",
            Some(version) => any_of.contains(&version),
        },
        Only::FirstIsA => params.first().is_some_and(|p| p == "a"),
    }
}

type Order = (usize, usize, usize, Reverse<bool>, usize, usize, i32, usize);

/// How well a rule matches but for the method, and its parameters.
fn matches(spec: &Spec, ask: &Ask) -> Option<(Order, Vec<String>)> {
    let host = |pattern: &&str| match pattern.strip_prefix('*') {
        Some(suffix) if ask.host.ends_with(suffix) => Some(suffix.len()),
        None if *pattern == ask.host => Some(1000),
        _ => None,
    };
    let host = if spec.hosts.is_empty() {
        0
    } else {
        spec.hosts.iter().filter_map(host).max()?
    };
    let params = path_matches(&spec.path, &ask.path)?;
    if !spec.only.iter().all(|only| only_holds(*only, ask, &params)) {
        return None;
    }
    let (class, literals, rest, segments, typed) = match &spec.path {
        Path::Segments(s, Rest::None) if !s.iter().any(|s| s.starts_with('{')) => {
            (3, 0, false, 0, 0)
        }
        Path::Segments(segments, rest) => {
            let count = |what: &str| segments.iter().filter(|s| s.starts_with(what)).count();
            let literals = segments.len() - count("{");
            (2, literals, *rest == Rest::Any, segments.len(), count("{:"))
        }
        Path::Prefix(segments) => (1, 0, false, segments.len(), 0),
        Path::Regex(_) => (0, 0, false, 0, 0),
    };
    let order = (
        host,
        class,
        literals,
        Reverse(rest),
        segments,
        typed,
        spec.priority,
        spec.only.len(),
    );
    Some((order, params))
}

enum Naive {
    Tie,
    Answer(String),
}

fn naive(specs: &[Spec], ask: &Ask) -> Naive {
    let all: Vec<_> = (specs.iter().enumerate())
        .filter_map(|(at, spec)| matches(spec, ask).map(|(order, params)| (order, at, params)))
        .collect();
    let taken: Vec<_> = all
        .iter()
        .filter(|(_, at, _)| takes(&specs[*at], ask.method))
        .collect();
    if let Some((order, at, params)) = taken.iter().max_by_key(|(order, ..)| order) {
        if taken.iter().filter(|(other, ..)| other == order).count() > 1 {
            return Naive::Tie;
        }
        let list = if params.is_empty() {
            String::new()
        } else {
            format!(" [{}]", params.join(", "))
        };
        return Naive::Answer(format!("{at}{list}"));
    }
    if all.is_empty() {
        return Naive::Answer("404".to_owned());
    }
    let known = ["GET", "HEAD", "POST", "OPTIONS", "BREW", "PURGE"];
    let allowed =
        |m: &&&str| **m == "OPTIONS" || all.iter().any(|(_, at, _)| takes(&specs[*at], m));
    let allow: Vec<_> = known.iter().filter(allowed).copied().collect();
    let kind = if ask.method == "OPTIONS" {
        "options"
    } else {
        "405"
    };
    Naive::Answer(format!("{kind} {}", allow.join(", ")))
}

fn answer_to(router: &Router<u32>, ask: &Ask) -> String {
    let mut headers = HeaderMap::new();
    headers.insert(ask.header.0, HeaderValue::from_static(ask.header.1));
    let method: Method = ask.method.parse().unwrap();
    let request = Request {
        host: ask.host,
        path: &ask.path,
        query: ask.query,
        method: &method,
        headers: &headers,
        client_ip: ask.client.parse().ok(),
        unix_millis: ask.time,
        scheme: "http",
        id: "",
    };
    answer(router, &request)
}

fn build_specs(specs: &[Spec]) -> Result<Built<u32>, Vec<Conflict<u32>>> {
    build((0..).zip(specs).map(|(id, spec)| rule(id, spec)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn the_best_of_all_rules_is_found(
        mut specs in prop::collection::vec(spec(), 1..12),
        asks in prop::collection::vec(ask(), 40),
    ) {
        // With a priority of its own for each, no two rules tie.
        for (priority, spec) in (0..).zip(&mut specs) {
            spec.priority = (priority * 7 + 3) % 13;
        }
        let built = build_specs(&specs).map_err(|c| TestCaseError::fail(format!("{c:?}")))?;
        for ask in &asks {
            let Naive::Answer(expected) = naive(&specs, ask) else {
                return Err(TestCaseError::fail("a tie"));
            };
            prop_assert_eq!(answer_to(&built.router, ask), expected.clone(), "{:?}", ask);
            let never = built.warnings.iter().any(|w| expected.split(' ').next() == Some(&w.rule.to_string()));
            prop_assert!(!never, "{:?} matches {:?}", ask, built.warnings);
        }
    }

    #[test]
    fn rules_that_tie_are_reported(
        mut specs in prop::collection::vec(spec(), 1..6),
        only_paths in any::<bool>(),
        asks in prop::collection::vec(ask(), 60),
    ) {
        if only_paths {
            for spec in &mut specs {
                *spec = Spec { path: spec.path.clone(), hosts: vec![], methods: None, only: vec![], priority: 0 };
            }
        }
        match build_specs(&specs) {
            Err(conflicts) => prop_assert!(!conflicts.is_empty()),
            Ok(built) => for ask in &asks {
                let Naive::Answer(expected) = naive(&specs, ask) else {
                    return Err(TestCaseError::fail(format!("{ask:?} ties")));
                };
                prop_assert_eq!(answer_to(&built.router, ask), expected, "{:?}", ask);
            },
        }
    }
}
