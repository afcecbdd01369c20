//! The rules of conditions.

use super::super::ErrorKind::{self, NotHere, NotInThisVersion, Syntax, TooLarge, Type, Unknown};
use super::super::{Condition, ExprError, Moment};
use super::{Sample, headers, sample, vocabulary};

fn condition(text: &str) -> Condition {
    Condition::compile(text, &vocabulary(Moment::Response))
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn denied(text: &str) -> ExprError {
    match Condition::compile(text, &vocabulary(Moment::Request)) {
        Ok(_) => panic!("{text} was accepted"),
        Err(error) => error,
    }
}

#[test]
fn conditions_see_the_names_of_templates() {
    for text in [
        r#"request.method == "GET" && request.scheme == "https""#,
        r#"request["host"].endsWith(".example.com")"#,
        r#"request.path.startsWith("/v1/")"#,
        r#"request.headers["X-Tenant"] == "acme""#,
        r#"request.headers["x-many"] == "1, 2""#,
        r#"request.query.v == "1" && request.query["q"] == "a b&c""#,
        r#"request.cookies.sid == "s1""#,
        r#"params.id == "a b" && params["rest"] == "x/y""#,
        r#"client.ip == "192.0.2.7""#,
        r#"route.name in ["orders", "users"]"#,
        "response.status >= 400 && response.status < 500",
        r#"int(request.headers["x-num"]) == 42"#,
        r#"request.headers["x-up"].lowerAscii() == "acme""#,
        r#"request.path.matches(r"^/v\d+/")"#,
        r#"matches(request.path, "^/v[0-9]")"#,
        r#"!request.host.matches("internal$") ? size(request.host) == 15 : false"#,
        r#"duration("90s") > duration("1m")"#,
    ] {
        assert_eq!(condition(text).check(&sample()), Ok(true), "{text}");
    }
}

#[test]
fn a_missing_value_equals_nothing() {
    for (text, expected) in [
        (r#"request.headers["absent"] == "y""#, false),
        (r#"request.headers["absent"] != "y""#, true),
        (r#"request.headers["absent"] == null"#, true),
        (r#"null == request.headers["absent"]"#, true),
        (r#"request.headers["absent"] != null"#, false),
        (
            r#"request.headers["absent"] == request.query.absent"#,
            false,
        ),
        (r#"request.headers["absent"] != request.query.absent"#, true),
        (
            r#"request.query.absent in [request.headers["absent"]]"#,
            false,
        ),
        (r#""absent" in request.headers"#, false),
        (r#""X-Tenant" in request.headers"#, true),
        (r#"!("absent" in request.query)"#, true),
        ("has(request.headers.absent)", false),
        ("has(request.cookies.sid)", true),
        ("has(request.query.empty)", true),
        (
            "has(request.path) && has(params.id) && has(request.headers)",
            true,
        ),
        (r#""id" in params"#, true),
        (r#"request.cookies["absent"] in ["a", "b"]"#, false),
    ] {
        assert_eq!(condition(text).check(&sample()), Ok(expected), "{text}");
    }
}

#[test]
fn maps_can_be_used_as_a_whole() {
    for (text, expected) in [
        (
            r#"request.headers.exists(k, k.startsWith("x-") && request.headers[k] == "acme")"#,
            true,
        ),
        (r#"request.query.all(k, k in ["v", "q", "empty"])"#, true),
        (
            r#"request.cookies.map(k, k + "!").exists(k, k == "theme!")"#,
            true,
        ),
        (
            r#"params.filter(k, params[k].contains("/")) == ["rest"]"#,
            true,
        ),
        ("size(response.headers) == 1", true),
        (r#"request.path in request.headers"#, false),
    ] {
        let scope = Sample {
            headers: headers(&[("x-tenant", "acme"), ("cookie", "theme=dark")]),
            ..sample()
        };
        assert_eq!(condition(text).check(&scope), Ok(expected), "{text}");
    }
}

#[test]
fn an_error_does_not_hold() {
    for text in [
        r#"request.headers["absent"].startsWith("x")"#,
        r#"request.headers[request.path] == "x""#,
        r#"request.headers["x-long"] != "x""#,
        "size(request.headers) > 0",
        r#"int(request.headers["x-tenant"]) == 1"#,
        "1 / (response.status - 404) == 0",
        "9223372036854775807 + response.status > 0",
        r#"request.query["v"] > 1"#,
        r#"true ? request.path : false"#,
        r#"request.headers["absent"].matches("x")"#,
        r#"!(request.headers["absent"].startsWith("x"))"#,
    ] {
        let condition = condition(text);
        assert!(condition.check(&sample()).is_err(), "{text}");
        assert!(!condition.holds(&sample()), "{text}");
    }
}

/// Text, kind of the mistake, what is marked (all of it when empty), hint.
const REFUSED: &[(&str, ErrorKind, &str, &str)] = &[
    ("é == 1", Syntax, "é", ""),
    (
        "request.pth == 'é'",
        Unknown,
        "request.pth",
        "did you mean `path`?",
    ),
    (
        "'é' == request.pth",
        Unknown,
        "request.pth",
        "did you mean `path`?",
    ),
    (
        "true || has(request.header.x)",
        Unknown,
        "request.header.x",
        "did you mean `headers`?",
    ),
    (
        "'é' != params['idd']",
        Unknown,
        "params['idd']",
        "did you mean `id`?",
    ),
    ("id == '1'", Unknown, "id", "did you mean `params.id`?"),
    ("request == 1", Unknown, "request", "e.g. `request.id`"),
    ("'x' in request.path.y", Unknown, "request.path.y", ""),
    (
        "request.headers['x'].y == 1",
        Unknown,
        "request.headers['x'].y",
        "",
    ),
    (
        "response.status == 1",
        NotHere,
        "response.status",
        "it is known when the answer has come",
    ),
    (
        "size(response.headers) == 1",
        NotHere,
        "response.headers",
        "it is known when the answer has come",
    ),
    (
        "client.country == 'x'",
        NotInThisVersion,
        "client.country",
        "",
    ),
    ("steps.a == 'x'", NotInThisVersion, "steps.a", ""),
    (
        "consumer == 'x'",
        Unknown,
        "consumer",
        "e.g. `consumer.name`",
    ),
    (
        "auth.claim.tier == 'x'",
        Unknown,
        "auth.claim.tier",
        "did you mean `claims`?",
    ),
    ("optional.of(1) == 1", Unknown, "(", ""),
    (
        "request.path.startWith('/')",
        Unknown,
        "(",
        "did you mean `startsWith`?",
    ),
    ("request.path.exists(k)", Syntax, "(", ""),
    ("size('a', 'b') == 1", Syntax, "(", ""),
    ("Foo{a: 1} == 1", Unknown, "{", ""),
    (
        "['a'].exists(request, true)",
        Syntax,
        "(",
        "it is a name already",
    ),
    ("request.path.matches('(')", Type, "'('", "unclosed group"),
    (
        "request.path.matches(request.host)",
        Type,
        "(",
        "a text in quotes, not a value of the request",
    ),
    (
        "request.path",
        Type,
        "request.path",
        "compare it, e.g. with `==`",
    ),
    ("1 + 1", Type, "1 + 1", "compare it, e.g. with `==`"),
    ("'a' == \n 'b", Syntax, "'", "a ' is missing"),
    (
        "'\\d' == request.path",
        Syntax,
        "\\d",
        "in a pattern write r\"…\"",
    ),
    ("x\"a\" == 'b'", Syntax, "\"", ""),
    (" ", Syntax, " ", ""),
    (
        "request.headers.exists(a, request.headers.exists(b, a == b))",
        TooLarge,
        "",
        "loops within loops multiply",
    ),
];

#[test]
fn a_condition_that_cannot_work_is_refused_at_its_place() {
    for (text, kind, marked, hint) in REFUSED.iter().copied() {
        let error = denied(text);
        let found: String = text
            .chars()
            .skip(error.span.start)
            .take(error.span.len())
            .collect();
        assert_eq!(error.kind, kind, "{text}: {error}");
        assert_eq!(
            error.hint.as_deref().unwrap_or_default(),
            hint,
            "{text}: {error}"
        );
        assert_eq!(
            found,
            if marked.is_empty() { text } else { marked },
            "{text}: {error}"
        );
    }
}

#[test]
fn what_is_too_large_never_reaches_the_parser() {
    for text in [
        format!("'{}' == ''", "a".repeat(5000)),
        format!("{}true{}", "(".repeat(100), ")".repeat(100)),
        format!("1{} == 1", "+1".repeat(1500)),
        format!("request{} == 1", ".a".repeat(1500)),
        format!("{}true", "true ? true : ".repeat(100)),
        format!("{}true", "!".repeat(1500)),
        format!("'\\'' == ''{}", " in ''".repeat(600)),
    ] {
        assert_eq!(denied(&text).kind, TooLarge, "{text}");
    }
}

#[test]
fn work_for_one_request_is_bounded() {
    for text in [
        format!("['a']{} == []", ".map(x, x + x + x)".repeat(30)),
        "[1,2,3,4,5,6,7,8].map(a, [1,2,3,4,5,6,7,8].map(b, [1,2,3,4,5,6,7,8].map(c, [1,2,3,4,5,6,7,8].map(d, d)))) == []"
            .to_owned(),
    ] {
        assert_eq!(denied(&text).kind, TooLarge, "{text}");
    }
    let terms = vec![r#"request.headers["x"] == "y""#; 60].join(" || ");
    assert_eq!(condition(&terms).check(&sample()), Ok(false));
    condition("['a', 'b'].exists(a, ['c', 'd'].exists(b, a == b))");
}

#[test]
fn deepest_expressions_fit_a_small_stack() {
    let accepted = [
        format!("1{} == 61", "+1".repeat(60)),
        format!("{}true{}", "(true && !".repeat(24), ")".repeat(24)),
        format!("{}[1]{}", "[1].exists(x, [2] == ".repeat(7), ")".repeat(7)),
        format!("'a'{} == 'a'", ".trim()".repeat(60)),
        format!("{}true", "true ? true : ".repeat(24)),
    ];
    let refused = [
        format!("1{} == 1", "+1".repeat(240)),
        format!("'a'{} == 'a'", ".trim()".repeat(120)),
    ];
    let run = move || {
        for text in &accepted {
            assert!(condition(text).check(&sample()).is_ok(), "{text}");
        }
        for text in &refused {
            assert_eq!(denied(text).kind, TooLarge, "{text}");
        }
    };
    std::thread::Builder::new()
        .stack_size(1536 * 1024)
        .spawn(run)
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn conditions_can_be_shared() {
    fn shared<T: Send + Sync + std::fmt::Debug>(_: &T) {}
    shared(&condition("true"));
    assert_eq!(condition("true").source(), "true");
}
