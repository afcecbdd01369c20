//! The rules of templates and conditions, one test each.

use std::net::IpAddr;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

use super::{Condition, Encoding, Moment, Scope, Template, Vocabulary};

mod condition;
mod template;

/// A request whose every part a test can set.
#[derive(Debug, Clone, Default)]
struct Sample {
    params: Vec<String>,
    path: String,
    query: Option<String>,
    headers: HeaderMap,
    status: Option<u16>,
    response_headers: HeaderMap,
}

impl Scope for Sample {
    fn param(&self, index: usize) -> Option<&str> {
        self.params.get(index).map(String::as_str)
    }
    fn request_id(&self) -> Option<&str> {
        Some("r-1")
    }
    fn method(&self) -> Option<&str> {
        Some("GET")
    }
    fn scheme(&self) -> Option<&str> {
        Some("https")
    }
    fn host(&self) -> Option<&str> {
        Some("api.example.com")
    }
    fn path(&self) -> Option<&str> {
        Some(&self.path)
    }
    fn raw_query(&self) -> Option<&str> {
        self.query.as_deref()
    }
    fn headers(&self) -> Option<&HeaderMap> {
        Some(&self.headers)
    }
    fn client_ip(&self) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, 7]))
    }
    fn route_name(&self) -> Option<&str> {
        Some("orders")
    }
    fn response_status(&self) -> Option<u16> {
        self.status
    }
    fn response_headers(&self) -> Option<&HeaderMap> {
        Some(&self.response_headers)
    }
}

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        map.append(
            HeaderName::from_static(name),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    map
}

/// `GET /v1/orders/a%20b/x/y?v=1&q=a+b%26c&v=2`, answered with 404.
fn sample() -> Sample {
    Sample {
        params: vec!["a%20b".to_owned(), "x/y".to_owned()],
        path: "/v1/orders/a%20b/x/y".to_owned(),
        query: Some("v=1&q=a+b%26c&v=2&empty".to_owned()),
        headers: headers(&[
            ("x-tenant", "acme"),
            ("x-many", "1"),
            ("x-many", "2"),
            ("cookie", "sid=s1; theme=dark"),
            ("cookie", "sid=s2"),
            ("x-long", &"a".repeat(16 * 1024 + 1)),
            ("x-up", "ACME"),
            ("x-num", "42"),
        ]),
        status: Some(404),
        response_headers: headers(&[("server", "origin")]),
    }
}

fn vocabulary(moment: Moment) -> Vocabulary<'static> {
    Vocabulary::new(["id", "rest"], moment)
}

fn any_text() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "request",
        "params",
        "client",
        ".",
        "headers",
        "path",
        "query",
        "[",
        "]",
        "(",
        ")",
        "\"",
        "'",
        "\"x\"",
        "==",
        "&&",
        "||",
        "!",
        "-",
        "has(",
        "exists(",
        "map(",
        "in",
        "?",
        ":",
        ",",
        "{",
        "}",
        "1",
        "9223372036854775808",
        "r\"",
        "\\",
        "\n",
        "é",
        "b'",
        "matches(",
        "true",
        "//",
        "`",
        "0x",
        "1u",
        "1e9",
        " ",
        "timestamp('",
    ]);
    prop_oneof![
        ".{0,60}",
        prop::collection::vec(words, 0..40).prop_map(|words| words.concat())
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn compiling_never_panics(text in any_text()) {
        for moment in [Moment::Routing, Moment::Response] {
            let length = text.chars().count();
            if let Err(error) = Template::compile(&text, &vocabulary(moment)) {
                prop_assert!(error.span.end <= length);
            }
            match Condition::compile(&text, &vocabulary(moment)) {
                Ok(condition) => drop(condition.check(&sample())),
                Err(error) => prop_assert!(error.span.end <= length, "{error:?}"),
            }
        }
    }

    #[test]
    fn rendering_gives_no_control_characters(param in "[ -~]{0,8}|\\PC{0,4}|.{0,6}", query in ".{0,12}", value in prop::collection::vec(any::<u8>(), 0..12)) {
        let mut scope = Sample { params: vec![param.clone(), param], path: "/a".to_owned(), query: Some(format!("q={query}")), ..Sample::default() };
        if let Ok(value) = HeaderValue::from_bytes(&value) {
            scope.headers.append("x", value.clone());
            scope.headers.append("cookie", value);
        }
        for text in ["{id}", "a{rest}b", "{request.query.q}", "{request.query}", "{request.headers.x}", "{request.cookies.x}"] {
            let template = Template::compile(text, &vocabulary(Moment::Request)).unwrap();
            for encoding in [Encoding::Raw, Encoding::Path, Encoding::Query] {
                if let Some(text) = template.render(&scope, encoding) {
                    prop_assert!(!text.chars().any(char::is_control), "{text:?}");
                }
            }
        }
    }
}
