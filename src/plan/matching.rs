//! `match` of a route into rules of the router.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderName, Method};

use crate::base::canon;
use crate::base::net::Net;
use crate::base::problem::{Place, Problem, Problems};
use crate::base::units::Date;
use crate::config::document::{Match, Test as TestSpec, Version};
use crate::expr::{Condition as Expression, Moment, Scope, Vocabulary};
use crate::link::{RouteFacts, expression_problem};
use crate::router::{
    Condition, Conditions, HostPattern, Methods, Params, PathParser, PathPattern, Request, Rule,
    Test, VersionLocation, VersionMatch,
};

/// The rules of one route, without its number, and what clauses need to know of its path.
pub(super) struct Matching {
    /// One for each path the route is for.
    pub(super) rules: Vec<Rule<()>>,
    /// Path, prefix, parameters and hosts as written.
    pub(super) facts: RouteFacts,
}

/// Compiles the `match` of the route `name`.
pub(super) fn compile(
    name: &str,
    spec: &Match,
    place: &Place,
    parser: &mut PathParser<'_>,
    problems: &mut Problems,
) -> Option<Matching> {
    let mut reader = Reader {
        place,
        problems,
        good: true,
    };
    let hosts = reader.hosts(&spec.hosts);
    let methods = reader.methods(&spec.methods);
    let path = reader.path(spec, parser)?;
    let facts = facts(name, spec, &path);
    let conditions = reader.conditions(spec, &facts);
    let paths = reader.version_paths(spec, path, parser);
    let good = reader.good;
    let priority = spec.priority.unwrap_or(0);
    let rules = paths.into_iter().map(|path| Rule {
        id: (),
        hosts: hosts.clone(),
        path,
        methods: methods.clone(),
        conditions: conditions.clone(),
        priority,
    });
    let rules = rules.collect();
    good.then_some(Matching { rules, facts })
}

/// What a literal segment of a pattern looks like in a request.
pub(super) fn canonical_literal(segment: &str) -> Result<String, String> {
    let escaped = segment.replace('{', "%7B").replace('}', "%7D");
    let path = format!("/{escaped}");
    let canonical = canon::canonical_path(&path, canon::PathOptions::default())
        .map_err(|fault| fault.to_string())?;
    match canonical.strip_prefix('/') {
        Some(text) if !matches!(segment, "." | "..") => Ok(text.to_owned()),
        _ => Err(format!(
            "`{segment}` never stands in a path; hint: requests come without dot segments"
        )),
    }
}

fn facts(name: &str, spec: &Match, path: &PathPattern) -> RouteFacts {
    let params = path.names().iter().map(|name| name.to_string()).collect();
    let prefix = spec
        .path_prefix
        .as_ref()
        .map(|prefix| prefix.trim_end_matches('/').to_owned());
    let plain = spec.path.as_deref().map(plain_template);
    RouteFacts {
        name: name.into(),
        params,
        path: plain,
        prefix,
        hosts: spec.hosts.clone(),
    }
}

/// `/v1/{id:[0-9]+}` as a template that can be filled in: `/v1/{id}`.
fn plain_template(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut depth = 0usize;
    let mut skip = false;
    for c in path.chars() {
        match c {
            '{' => {
                depth += 1;
                if depth == 1 {
                    out.push(c);
                }
            }
            '}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    skip = false;
                    out.push(c);
                }
            }
            ':' if depth == 1 => skip = true,
            '*' if depth == 1 && !skip => {}
            _ if depth > 0 && skip => {}
            _ => out.push(c),
        }
    }
    out
}

struct Reader<'a> {
    place: &'a Place,
    problems: &'a mut Problems,
    good: bool,
}

impl Reader<'_> {
    fn wrong(&mut self, problem: Problem) {
        self.problems.push(problem);
        self.good = false;
    }

    fn hosts(&mut self, hosts: &[String]) -> Vec<HostPattern> {
        let place = self.place.key("hosts");
        let mut patterns = Vec::with_capacity(hosts.len());
        for (index, host) in hosts.iter().enumerate() {
            match HostPattern::parse(host) {
                Ok(pattern) => patterns.push(pattern),
                Err(error) => self.wrong(text_problem("E030", place.index(index), &error)),
            }
        }
        patterns
    }

    fn methods(&mut self, methods: &[String]) -> Methods {
        if methods.is_empty() {
            return Methods::all();
        }
        let mut known = Vec::with_capacity(methods.len());
        for (index, text) in methods.iter().enumerate() {
            let place = self.place.key("methods").index(index);
            let standard = text.to_ascii_uppercase();
            match Method::from_bytes(text.as_bytes()) {
                Ok(Method::CONNECT | Method::TRACE) => {
                    let problem =
                        Problem::error("E030", place, format!("`{text}` is never served"));
                    self.wrong(problem.hint("the gateway answers it with 405"));
                }
                Ok(method) if *text == standard => known.push(method),
                _ => {
                    let problem =
                        Problem::error("E030", place, format!("`{text}` is not a method"));
                    self.wrong(
                        problem.hint(format!("methods are written in capitals: `{standard}`")),
                    );
                }
            }
        }
        Methods::of(known)
    }

    fn path(&mut self, spec: &Match, parser: &mut PathParser<'_>) -> Option<PathPattern> {
        let written = [
            ("path", &spec.path),
            ("path_prefix", &spec.path_prefix),
            ("path_regex", &spec.path_regex),
        ];
        let mut given = written
            .iter()
            .filter_map(|(key, text)| text.as_deref().map(|text| (*key, text)));
        let (first, second) = (given.next(), given.next());
        if let (Some((first, _)), Some((second, _))) = (first, second) {
            let problem = Problem::error(
                "E035",
                self.place.key(second),
                format!("both `{first}` and `{second}`"),
            );
            self.wrong(
                problem
                    .hint("a route has one path: keep one of them, or make two routes")
                    .at_key(),
            );
            return None;
        }
        let Some((key, text)) = first else {
            return parser.parse_prefix("/").ok();
        };
        let parsed = match key {
            "path" => parser.parse_path(text),
            "path_prefix" => parser.parse_prefix(text),
            _ => parser.parse_regex(text),
        };
        match parsed {
            Ok(pattern) => Some(pattern),
            Err(error) => {
                self.wrong(text_problem("E035", self.place.key(key), &error));
                None
            }
        }
    }

    fn conditions(&mut self, spec: &Match, facts: &RouteFacts) -> Conditions {
        let mut conditions = Conditions {
            client_ips: spec
                .client_ips
                .iter()
                .map(|net: &Net| net.ip_net())
                .collect(),
            after: spec.after.map(Date::unix_millis),
            before: spec.before.map(Date::unix_millis),
            ..Conditions::default()
        };
        for (name, test) in &spec.headers {
            let place = self.place.key("headers").key(name);
            let Some(name) = self.header(&place, name) else {
                continue;
            };
            conditions
                .headers
                .extend(self.test(&place, test).map(|test| (name, test)));
        }
        let texts = |tests: &BTreeMap<String, TestSpec>, key: &str, reader: &mut Self| {
            let place = reader.place.key(key);
            let test = |(name, test): (&String, &TestSpec)| {
                Some((name.as_str().into(), reader.test(&place.key(name), test)?))
            };
            tests
                .iter()
                .filter_map(test)
                .collect::<Vec<(Box<str>, Test)>>()
        };
        conditions.query = texts(&spec.query, "query", self);
        conditions.cookies = texts(&spec.cookies, "cookies", self);
        conditions.version = spec
            .version
            .as_ref()
            .and_then(|version| self.version(version));
        conditions.when = spec.when.as_ref().and_then(|text| self.when(text, facts));
        conditions
    }

    fn header(&mut self, place: &Place, name: &str) -> Option<HeaderName> {
        let parsed = HeaderName::from_bytes(name.as_bytes()).ok();
        if parsed.is_none() {
            let problem = Problem::error(
                "E033",
                place.clone(),
                format!("`{name}` is not a header's name"),
            );
            self.wrong(
                problem
                    .hint("letters, digits and dashes, e.g. `x-tenant`")
                    .at_key(),
            );
        }
        parsed
    }

    fn test(&mut self, place: &Place, test: &TestSpec) -> Option<Test> {
        match test {
            TestSpec::Exact(text) => Some(Test::Exact(text.as_str().into())),
            TestSpec::Prefix(text) => Some(Test::Prefix(text.as_str().into())),
            TestSpec::Present => Some(Test::Present(true)),
            TestSpec::Absent => Some(Test::Present(false)),
            TestSpec::Regex(text) => match Test::regex(text) {
                Ok(test) => Some(test),
                Err(error) => {
                    self.wrong(text_problem("E036", place.key("regex"), &error));
                    None
                }
            },
        }
    }

    fn version(&mut self, version: &Version) -> Option<VersionMatch> {
        let place = self.place.key("version");
        let mut locations = Vec::new();
        if let Some(name) = &version.header {
            locations.extend(
                self.header(&place.key("header"), name)
                    .map(VersionLocation::Header),
            );
        }
        locations.extend(
            version
                .query
                .as_ref()
                .map(|name| VersionLocation::Query(name.as_str().into())),
        );
        locations.extend(
            version
                .media_type
                .as_ref()
                .map(|name| VersionLocation::MediaType(name.as_str().into())),
        );
        let count = locations.len() + usize::from(version.path);
        if count != 1 {
            let problem = Problem::error(
                "E037",
                place.clone(),
                format!("{count} places for a version"),
            );
            self.wrong(problem.hint("exactly one of `header`, `query`, `media_type`, `path`"));
        }
        if version.any_of.is_empty() {
            let problem = Problem::error("E037", place.key("any_of"), "no version is named");
            self.wrong(problem.hint("e.g. `any_of: [\"2026-07\"]`"));
        }
        let location = locations.into_iter().next()?;
        let any_of = version.any_of.clone();
        Some(VersionMatch {
            location,
            any_of,
            default: version.default,
        })
    }

    /// A version in the path's first segment: the path once for each version, and as it is for requests that name none.
    fn version_paths(
        &mut self,
        spec: &Match,
        path: PathPattern,
        parser: &mut PathParser<'_>,
    ) -> Vec<PathPattern> {
        let Some(version) = spec.version.as_ref().filter(|version| version.path) else {
            return vec![path];
        };
        let mut paths = Vec::new();
        for any in &version.any_of {
            let parsed = match (&spec.path, &spec.path_prefix) {
                (Some(path), _) => parser.parse_path(&format!("/{any}{path}")),
                (None, Some(prefix)) => parser.parse_prefix(&format!("/{any}{prefix}")),
                (None, None) => parser.parse_prefix(&format!("/{any}")),
            };
            match parsed {
                Ok(path) if spec.path_regex.is_none() => paths.push(path),
                Ok(_) => {
                    let problem = Problem::error(
                        "E037",
                        self.place.key("version"),
                        "a version in the path beside `path_regex`",
                    );
                    self.wrong(problem.hint("put the version into the regular expression"));
                }
                Err(error) => self.wrong(text_problem("E037", self.place.key("version"), &error)),
            }
        }
        if version.default {
            paths.push(path);
        }
        paths
    }

    fn when(&mut self, text: &str, facts: &RouteFacts) -> Option<Arc<dyn Condition>> {
        let vocabulary = Vocabulary::new(facts.params.iter().map(String::as_str), Moment::Routing);
        match Expression::compile(text, &vocabulary) {
            Ok(expression) => Some(Arc::new(When(expression))),
            Err(error) => {
                self.wrong(expression_problem(&self.place.key("when"), &error));
                None
            }
        }
    }
}

/// A text that a parser refused: what stands after `; hint: ` is the hint.
pub(super) fn text_problem(code: &'static str, place: Place, error: &str) -> Problem {
    match error.split_once("; hint: ") {
        Some((what, hint)) => Problem::error(code, place, what).hint(hint),
        None => Problem::error(code, place, error),
    }
}

/// An expression as a condition of the router.
struct When(Expression);

impl Condition for When {
    fn holds(&self, request: &Request<'_>, params: &Params) -> bool {
        self.0.holds(&Candidate { request, params })
    }
}

/// A request while its route is being chosen.
struct Candidate<'a> {
    request: &'a Request<'a>,
    params: &'a Params,
}

impl Scope for Candidate<'_> {
    fn param(&self, index: usize) -> Option<&str> {
        self.params.get(index, self.request.path)
    }
    fn request_id(&self) -> Option<&str> {
        Some(self.request.id)
    }
    fn method(&self) -> Option<&str> {
        Some(self.request.method.as_str())
    }
    fn scheme(&self) -> Option<&str> {
        Some(self.request.scheme)
    }
    fn host(&self) -> Option<&str> {
        Some(self.request.host)
    }
    fn path(&self) -> Option<&str> {
        Some(self.request.path)
    }
    fn raw_query(&self) -> Option<&str> {
        Some(self.request.query)
    }
    fn headers(&self) -> Option<&http::HeaderMap> {
        Some(self.request.headers)
    }
    fn client_ip(&self) -> Option<std::net::IpAddr> {
        self.request.client_ip
    }
}
