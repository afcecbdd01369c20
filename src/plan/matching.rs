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
    /// One for each path the route is for; none when something is wrong with it.
    pub(super) rules: Vec<Rule<()>>,
    /// Path, prefix, parameters and hosts as written; none when the path cannot be read.
    pub(super) facts: Option<RouteFacts>,
}

/// Compiles the `match` of the route `name`.
pub(super) fn compile(
    name: &str,
    spec: &Match,
    place: &Place,
    parser: &mut PathParser<'_>,
    problems: &mut Problems,
) -> Matching {
    let mut reader = Reader {
        place,
        problems,
        good: true,
    };
    let hosts = reader.hosts(&spec.hosts);
    let methods = reader.methods(&spec.methods);
    let path = reader.path(spec, parser);
    let facts = path.as_ref().map(|path| facts(name, spec, path));
    let conditions = reader.conditions(spec, facts.as_ref());
    let paths = path.map(|path| reader.version_paths(spec, path, parser));
    let paths = paths.filter(|_| reader.good).unwrap_or_default();
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
    Matching { rules, facts }
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

/// `/v1/{id:[0-9]+}/{rest*}` without patterns: `/v1/{id}/{rest*}`.
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
                Err(error) => self.wrong(host_problem(place.index(index), &error)),
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
                result => {
                    let problem =
                        Problem::error("E030", place, format!("`{text}` is not a method"));
                    self.wrong(match result {
                        Ok(_) => problem.hint(format!("write `{standard}`, in capitals")),
                        Err(_) => problem.hint("a method is one word, e.g. `GET`"),
                    });
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
                let place = self.place.key(key);
                self.wrong(if error.contains("\nerror: ") {
                    regex_problem("E035", place, text, &error)
                } else {
                    Problem::of_text("E035", place, &error, PATHS)
                });
                None
            }
        }
    }

    fn conditions(&mut self, spec: &Match, facts: Option<&RouteFacts>) -> Conditions {
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
            let at_key = |what| Problem::error("E033", place.clone(), what).at_key();
            let Some(name) = self.header(name, at_key) else {
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
        conditions.when = spec
            .when
            .as_ref()
            .zip(facts)
            .and_then(|(text, facts)| self.when(text, facts));
        conditions
    }

    fn header(&mut self, name: &str, problem_at: impl Fn(String) -> Problem) -> Option<HeaderName> {
        let parsed = HeaderName::from_bytes(name.as_bytes()).ok();
        if parsed.is_none() {
            let problem = problem_at(format!("`{name}` is not a header's name"));
            self.wrong(problem.hint("letters, digits and dashes, e.g. `x-tenant`"));
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
                    self.wrong(regex_problem("E036", place.key("regex"), text, &error));
                    None
                }
            },
        }
    }

    fn version(&mut self, version: &Version) -> Option<VersionMatch> {
        let place = self.place.key("version");
        let mut locations = Vec::new();
        if let Some(name) = &version.header {
            let at_value = |what| Problem::error("E033", place.key("header"), what);
            let header = self.header(name, at_value);
            locations.extend(header.map(VersionLocation::Header));
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
        let given = [
            ("header", version.header.is_some()),
            ("query", version.query.is_some()),
            ("media_type", version.media_type.is_some()),
            ("path", version.path),
        ];
        let mut given = given
            .iter()
            .filter(|(_, given)| *given)
            .map(|(key, _)| *key);
        let hint =
            "exactly one of `header`, `query`, `media_type` and `path: true` says where it is";
        match (given.next(), given.next()) {
            (Some(_), None) => {}
            (None, _) => {
                let problem =
                    Problem::error("E037", place.clone(), "nothing says where the version is");
                self.wrong(problem.hint(hint).at_key());
            }
            (Some(first), Some(second)) => {
                let what = format!("two places for a version: `{first}` and `{second}`");
                let problem = Problem::error("E037", place.key(second), what);
                self.wrong(problem.hint(hint).at_key());
            }
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
        for (index, any) in version.any_of.iter().enumerate() {
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
                    let hint = "put the version into the regular expression";
                    self.wrong(problem.hint(hint).at_key());
                    break;
                }
                Err(error) => {
                    let place = self.place.key("version").key("any_of").index(index);
                    self.wrong(Problem::of_text("E037", place, &error, PATHS));
                }
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

/// How paths are written.
const PATHS: &str = "a path is e.g. `/v1/orders/{id}`, or `/files/{path*}` for all that follows";

/// A host that cannot be read.
pub(super) fn host_problem(place: Place, error: &str) -> Problem {
    let hint = "an exact host is e.g. `api.example.com`, every host below one `*.example.com`";
    Problem::of_text("E030", place, error, hint)
}

/// A regular expression that cannot be read: the parser draws a picture, of which the last line says what is wrong.
fn regex_problem(code: &'static str, place: Place, text: &str, error: &str) -> Problem {
    let last = error.lines().last().unwrap_or(error);
    match last.strip_prefix("error: ") {
        Some(reason) => {
            let what = format!("the regular expression cannot be read: {reason}");
            let hint = "it is for the whole text, without look-around; a `\\` before a sign takes it literally";
            Problem::error(code, place, what)
                .hint(hint)
                .part(0..text.chars().count())
        }
        None => Problem::of_text(code, place, error, "say it more shortly"),
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
