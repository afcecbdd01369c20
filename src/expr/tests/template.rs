//! The rules of templates.

use std::borrow::Cow;

use super::super::{Encoding, ErrorKind, ExprError, Moment, Name, Template, Vocabulary};
use super::{Sample, sample, vocabulary};

fn rendered(text: &str, encoding: Encoding) -> Option<String> {
    let template = Template::compile(text, &vocabulary(Moment::Response)).unwrap();
    template.render(&sample(), encoding).map(Cow::into_owned)
}

fn refused(text: &str, moment: Moment) -> ExprError {
    Template::compile(text, &vocabulary(moment)).unwrap_err()
}

#[test]
fn each_name_gives_its_value() {
    for (text, expected) in [
        ("{id}", "a b"),
        ("{params.rest}", "x/y"),
        ("{request.id}", "r-1"),
        (
            "{request.method} {request.scheme}://{request.host}",
            "GET https://api.example.com",
        ),
        ("{request.path}", "/v1/orders/a%20b/x/y"),
        ("{request.query}", "v=1&q=a+b%26c&v=2&empty"),
        ("{request.query.q}", "a b&c"),
        ("{request.query.v}", "1"),
        ("{request.query.empty}", ""),
        ("{request.headers.X-Tenant}", "acme"),
        ("{request.headers.x-many}", "1, 2"),
        ("{request.cookies.sid}/{request.cookies.theme}", "s1/dark"),
        ("{client.ip}", "192.0.2.7"),
        ("{route.name}", "orders"),
        ("{response.status}", "404"),
        ("{response.headers.server}", "origin"),
        ("<{{{id}}}>", "<{a b}>"),
        ("{{}}", "{}"),
        ("", ""),
    ] {
        assert_eq!(
            rendered(text, Encoding::Raw).as_deref(),
            Some(expected),
            "{text}"
        );
    }
}

#[test]
fn in_paths_and_queries_a_value_is_one_encoded_value() {
    for (text, encoding, expected) in [
        ("/o/{id}", Encoding::Path, "/o/a%20b"),
        ("/o/{rest}", Encoding::Path, "/o/x/y"),
        (
            "/v2{request.path}",
            Encoding::Path,
            "/v2/v1/orders/a%20b/x/y",
        ),
        ("/o/{request.query.q}", Encoding::Path, "/o/a%20b%26c"),
        ("/o/{request.headers.x-many}", Encoding::Path, "/o/1%2C%202"),
        ("u={id}", Encoding::Query, "u=a%20b"),
        ("u={rest}", Encoding::Query, "u=x%2Fy"),
        ("u={request.query.q}", Encoding::Query, "u=a%20b%26c"),
    ] {
        assert_eq!(
            rendered(text, encoding).as_deref(),
            Some(expected),
            "{text}"
        );
    }
}

#[test]
fn a_missing_value_gives_nothing() {
    for text in [
        "{request.headers.absent}",
        "x{request.query.absent}",
        "{request.cookies.absent}",
        "{response.headers.x}",
    ] {
        assert_eq!(rendered(text, Encoding::Raw), None, "{text}");
    }
}

#[test]
fn a_template_without_names_is_borrowed() {
    let template = Template::compile("a {{b}}", &vocabulary(Moment::Routing)).unwrap();
    assert_eq!(template.literal(), Some("a {b}"));
    assert!(matches!(
        template.render(&Sample::default(), Encoding::Raw),
        Some(Cow::Borrowed("a {b}"))
    ));
}

#[test]
fn a_single_name_is_borrowed_too() {
    let template =
        Template::compile("{request.headers.x-tenant}", &vocabulary(Moment::Routing)).unwrap();
    assert!(matches!(
        template.render(&sample(), Encoding::Raw),
        Some(Cow::Borrowed("acme"))
    ));
    assert_eq!(template.names().count(), 1);
}

#[test]
fn a_line_never_gets_control_characters() {
    let scope = Sample {
        params: vec!["a%0D%0Ax: y".to_owned()],
        ..sample()
    };
    let template = Template::compile("{id}", &vocabulary(Moment::Routing)).unwrap();
    assert_eq!(template.render(&scope, Encoding::Raw), None);
    assert_eq!(
        template.render(&scope, Encoding::Text).as_deref(),
        Some("a\r\nx: y")
    );
    let two_lines = Template::compile("a\nb", &vocabulary(Moment::Routing)).unwrap();
    assert!(!two_lines.is_one_line());
    assert_eq!(two_lines.render(&scope, Encoding::Raw), None);
    assert_eq!(
        two_lines.render(&scope, Encoding::Text).as_deref(),
        Some("a\nb")
    );
}

#[test]
fn a_value_cannot_climb_out_of_a_path() {
    let scope = Sample {
        params: vec![".".to_owned(), "/evil.example".to_owned()],
        query: Some("v=..&w=.&x=a&slash=..%2F..".to_owned()),
        ..sample()
    };
    for (text, expected) in [
        ("/a/{request.query.v}/b", None),
        ("/a/{request.query.w}", None),
        ("/a/{id}{id}/b", None),
        ("/a/{id}{id};v/b", None),
        ("/{rest}", None),
        ("/a/{request.query.slash}", Some("/a/..%2F..")),
        ("/a/{request.query.x}..", Some("/a/a..")),
    ] {
        let template = Template::compile(text, &vocabulary(Moment::Routing)).unwrap();
        assert_eq!(
            template.render(&scope, Encoding::Path).as_deref(),
            expected,
            "{text}"
        );
    }
}

#[test]
fn a_name_that_cannot_exist_is_refused_at_its_place() {
    use ErrorKind::{NotHere, NotInThisVersion, Syntax, Unknown};
    let here = Moment::Request;
    for (text, kind, span, hint) in [
        ("a{idd}", Unknown, 2..5, "did you mean `id`?"),
        ("é{path}", Unknown, 2..6, "did you mean `request.path`?"),
        ("{rest*}", Unknown, 1..6, "did you mean `rest`?"),
        (
            "{request.header.x}",
            Unknown,
            1..17,
            "did you mean `headers`?",
        ),
        (
            "{request.headers}",
            Unknown,
            1..16,
            "name one of its keys: `request.headers.NAME`",
        ),
        ("{request.path.x}", Unknown, 1..15, ""),
        ("{request.headers.a b}", Unknown, 1..20, ""),
        ("{request.headers.}", Unknown, 1..17, ""),
        ("{reqest.path}", Unknown, 1..12, "did you mean `request`?"),
        ("{request}", Unknown, 1..8, "e.g. `request.id`"),
        (
            "{response.status}",
            NotHere,
            1..16,
            "it is known when the answer has come",
        ),
        ("{client.country}", NotInThisVersion, 1..15, ""),
        ("{request.body.a.b}", NotInThisVersion, 1..17, ""),
        ("{steps.user.name}", NotInThisVersion, 1..16, ""),
        ("{keys}", NotInThisVersion, 1..5, ""),
        ("{}", Syntax, 0..2, "`{{` and `}}` give braces"),
        ("a{id", Syntax, 1..2, "write `{{` for a brace"),
        ("a}", Syntax, 1..2, "write `}}` for a brace"),
        ("{a{id}", Syntax, 0..1, "write `{{` for a brace"),
    ] {
        let error = refused(text, here);
        assert_eq!(
            (error.kind, error.span.clone()),
            (kind, span),
            "{text}: {error}"
        );
        assert_eq!(
            error.hint.as_deref().unwrap_or_default(),
            hint,
            "{text}: {error}"
        );
    }
}

#[test]
fn routing_knows_no_route() {
    assert_eq!(
        refused("{route.name}", Moment::Routing).kind,
        ErrorKind::NotHere
    );
}

#[test]
fn a_parameter_wins_over_a_later_name() {
    let vocabulary = Vocabulary::new(["keys"], Moment::Routing);
    assert_eq!(Name::parse("keys", &vocabulary), Ok(Name::Param(0)));
}
