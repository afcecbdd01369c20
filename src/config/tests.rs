//! The language below its keys: places, references, secrets, and that no mistake hides another.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::json;

use super::decode::decode;
use super::document::Threads;
use super::interpolate::interpolate;
use super::source::{Environment, parse};
use super::tree::{Node, Origin};
use super::{load, load_text, show};
use crate::base::list::OneOrMany;
use crate::base::net::Net;
use crate::base::problem::{Place, Problem, Problems};
use crate::base::units::Span;

fn tree(text: &str) -> Node {
    let mut problems = Problems::default();
    let tree = parse(text, 0, &mut problems).expect("YAML");
    assert!(problems.is_empty(), "{:?}", problems.list());
    tree
}

fn fixed(variables: &[(&str, &str)]) -> Environment {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Environment::Fixed(variables.iter().map(owned).collect::<BTreeMap<_, _>>())
}

fn told(problems: &Problems) -> Vec<String> {
    let told = |problem: &Problem| format!("{} {}: {}", problem.code, problem.place, problem.what);
    problems.list().iter().map(told).collect()
}

/// What a text becomes, or the codes of what is wrong with it.
fn replaced(text: &str, environment: &Environment) -> Result<(String, Origin), Vec<&'static str>> {
    let mut node = tree(&serde_json::Value::String(text.to_owned()).to_string());
    let mut problems = Problems::default();
    interpolate(&mut node, &Place::root(), environment, &mut problems);
    if problems.is_empty() {
        Ok((node.text().unwrap_or_default().to_owned(), node.origin))
    } else {
        Err(problems.list().iter().map(|problem| problem.code).collect())
    }
}

#[test]
fn references_are_replaced_by_this_table() {
    let environment = fixed(&[
        ("A", "1"),
        ("B_2", "{x}"),
        ("EMPTY", ""),
        ("DOLLAR", "${A}"),
    ]);
    let good: &[(&str, &str, Origin)] = &[
        ("plain", "plain", Origin::Written),
        ("${A}", "1", Origin::Reference),
        ("a${A}", "a1", Origin::Mixed),
        ("${A}${A}", "11", Origin::Mixed),
        ("${B_2}", "{x}", Origin::Reference),
        ("${EMPTY}", "", Origin::Reference),
        ("${EMPTY:-else}", "else", Origin::Reference),
        ("${EMPTY:-}", "", Origin::Reference),
        ("${NONE:-else}", "else", Origin::Reference),
        ("${NONE:-${A}}", "1", Origin::Reference),
        ("${NONE:-${NONE:-deep}}", "deep", Origin::Reference),
        ("${NONE:-a{b}c}", "a{b}c", Origin::Reference),
        ("${A:?must be}", "1", Origin::Reference),
        ("$$", "$", Origin::Written),
        ("$${A}", "${A}", Origin::Written),
        ("$$$$", "$$", Origin::Written),
        ("$$${A}", "$1", Origin::Mixed),
        ("^a$", "^a$", Origin::Written),
        ("$A $ {A}", "$A $ {A}", Origin::Written),
        // A value is no text to be read again.
        ("${DOLLAR}", "${A}", Origin::Reference),
    ];
    for (text, expected, origin) in good {
        let expected = Ok(((*expected).to_owned(), *origin));
        assert_eq!(replaced(text, &environment), expected, "{text}");
    }
    let bad: &[(&str, &[&str])] = &[
        ("${NONE}", &["E005"]),
        ("${NONE} ${A} ${NEITHER}", &["E005", "E005"]),
        ("${NONE:?say it}", &["E005"]),
        ("${EMPTY:?say it}", &["E005"]),
        ("${NONE:-${NEITHER}}", &["E005"]),
        ("${A", &["E004"]),
        ("${", &["E004"]),
        ("${}", &["E004"]),
        ("${1A}", &["E004"]),
        ("${A-b}", &["E004"]),
        ("${A:+b}", &["E004"]),
        ("${ A }", &["E004"]),
        ("${A:x} ${NONE}", &["E004", "E005"]),
    ];
    for (text, codes) in bad {
        assert_eq!(replaced(text, &environment), Err(codes.to_vec()), "{text}");
    }
}

#[test]
fn an_opaque_variable_is_a_value_of_its_own() {
    let opaque = Environment::Opaque;
    let name = "DOORWARD_TEST_NOBODY_SETS_THIS";
    let text = format!("a ${{{name}}}");
    let (value, origin) = replaced(&text, &opaque).expect("no mistake");
    assert_eq!(origin, Origin::Opaque);
    assert_eq!(value, "a unset-doorward-test-nobody-sets-this");
    // A default is no guess.
    let text = format!("${{{name}:-x}}");
    let expected = Ok(("x".to_owned(), Origin::Reference));
    assert_eq!(replaced(&text, &opaque), expected);
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Clause {
    #[serde(default)]
    time: Option<Span>,
    #[serde(default)]
    nets: Vec<Net>,
    #[serde(default)]
    inner: BTreeMap<String, Inner>,
    #[serde(default)]
    list: Vec<Inner>,
    #[serde(default)]
    kind: Option<Kind>,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Inner {
    count: u16,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Plain,
    Sized(u16),
}

fn decoded(text: &str) -> (Option<Clause>, Vec<String>) {
    let mut problems = Problems::default();
    let clause = decode(&tree(text), &Place::root().key("c"), &mut problems);
    let mut told = told(&problems);
    told.sort();
    (clause, told)
}

#[test]
fn one_mistake_hides_no_other() {
    let (clause, told) = decoded(
        "{ time: 5, tiem: 5s, nets: [10.0.0.1/8, 10.0.0.0/8, x], \
         inner: { a: { count: 1 }, b: { count: many }, c: { size: 1 } }, \
         list: [{ count: 70000 }, { count: 1 }, {}, nothing, { count: -1 }], kind: { sized: x } }",
    );
    assert_eq!(clause, None);
    assert_eq!(
        told,
        [
            "E010 c.inner.c.size: unknown key `size`",
            "E010 c.tiem: unknown key `tiem`",
            "E011 c.inner.c: `count` is missing",
            "E011 c.list[2]: `count` is missing",
            "E012 c.inner.b.count: a text where a whole number belongs",
            "E012 c.kind.sized: a text where a whole number belongs",
            "E012 c.list[0].count: `70000` does not fit here",
            "E012 c.list[3]: a text where a map belongs",
            "E012 c.list[4].count: `-1` does not fit here",
            "E012 c.nets[0]: `10.0.0.1/8` has bits set beyond its prefix",
            "E012 c.nets[2]: `x` is not a network",
            "E012 c.time: bare number `5` has no unit",
        ]
    );
}

#[test]
fn a_key_without_a_value_is_never_a_default() {
    let (clause, told) = decoded("{ time: , inner: { a: { count: ~ } }, list: [] }");
    assert_eq!(clause, None);
    assert_eq!(
        told,
        [
            "E012 c.inner.a.count: `count` has no value",
            "E012 c.time: `time` has no value"
        ]
    );
}

#[test]
fn what_is_right_is_read() {
    let (clause, told) = decoded("{ time: 300ms, list: [{ count: 2 }], kind: plain }");
    assert!(told.is_empty(), "{told:?}");
    let expected = Clause {
        time: Some(Span::from_millis(300)),
        nets: Vec::new(),
        inner: BTreeMap::new(),
        list: vec![Inner { count: 2 }],
        kind: Some(Kind::Plain),
    };
    assert_eq!(clause, Some(expected));
}

#[test]
fn one_or_many_takes_one_or_many_and_not_none() {
    type Texts = OneOrMany<String>;
    let read = |text: &str| {
        let mut problems = Problems::default();
        let texts = decode::<Texts>(&tree(text), &Place::root().key("a"), &mut problems);
        (texts.map(|texts| texts.0.join("|")), told(&problems))
    };
    assert_eq!(read("one"), (Some("one".to_owned()), Vec::new()));
    assert_eq!(read("[one]"), (Some("one".to_owned()), Vec::new()));
    assert_eq!(read("[one, two]"), (Some("one|two".to_owned()), Vec::new()));
    assert_eq!(read("[]").1, ["E012 a: the list is empty"]);
    assert_eq!(
        read("{ one: two }").1,
        ["E012 a: a map where a text or a list of texts belongs"]
    );
    assert_eq!(
        read("[one, [two]]").1,
        ["E012 a[1]: a list where a text belongs"]
    );
    let shown = |texts: &[&str]| {
        let texts = texts.iter().map(|text| (*text).to_owned()).collect();
        serde_json::to_value(OneOrMany::<String>(texts)).expect("texts")
    };
    assert_eq!(shown(&["one"]), json!("one"));
    assert_eq!(shown(&["one", "two"]), json!(["one", "two"]));
}

#[test]
fn threads_are_a_number_or_auto() {
    let read = |text: &str| {
        let mut problems = Problems::default();
        decode::<Threads>(&tree(text), &Place::root().key("threads"), &mut problems)
    };
    assert_eq!(read("auto"), Some(Threads::Auto));
    assert_eq!(read("1"), Some(Threads::Count(1)));
    assert_eq!(read("1024"), Some(Threads::Count(1024)));
    for wrong in ["0", "1025", "many", "-1", "1.5", "[1]", "\"1\""] {
        assert_eq!(read(wrong), None, "{wrong}");
    }
}

const SECRETS: &str = "version: 1\nlisteners: { a: { address: \"127.0.0.1:0\" } }\n\
    upstreams: { u: { targets: [{ url: \"http://127.0.0.1:1\" }] } }\n\
    routes: [{ name: r, match: { path: / }, upstream: u, request: { headers: { set: { x-a: SECRET } } } }]\n";

#[test]
fn secrets_come_from_the_environment_a_file_or_a_credential() {
    let dir = tempfile::tempdir().expect("a folder");
    for (name, text) in [("one", "from a file\n"), ("two", "two\nlines\r\n")] {
        std::fs::write(dir.path().join(name), text).expect("a file");
    }
    let credentials = dir.path().display().to_string();
    let environment = fixed(&[("X", "from {X}"), ("CREDENTIALS_DIRECTORY", &credentials)]);
    let read = |secret: &str| {
        let path = dir.path().join("doorward.yaml");
        std::fs::write(&path, SECRETS.replace("SECRET", secret)).expect("a file");
        let loaded = load(&path, &environment);
        let place = "routes[0].request.headers.set.x-a";
        let problems = told(&loaded.problems);
        assert!(
            problems.iter().all(|problem| problem.contains(place)),
            "{problems:?}"
        );
        let set = loaded
            .tree
            .child("routes")
            .and_then(|routes| routes.items().first());
        let set = ["request", "headers", "set", "x-a"]
            .iter()
            .try_fold(set?, |node, key| node.child(key))?;
        let shown = show(&loaded)["routes"][0]["request"]["headers"]["set"]["x-a"].clone();
        Some((set.text()?.to_owned(), shown, problems.len()))
    };
    let good = |text: &str, shown: serde_json::Value| Some((text.to_owned(), shown, 0));
    // Its braces are no template.
    assert_eq!(
        read("{ env: X }"),
        good("from {{X}}", json!({ "env": "X" }))
    );
    assert_eq!(
        read("{ file: one }"),
        good("from a file", json!({ "file": "one" }))
    );
    assert_eq!(
        read("{ credential: one }"),
        good("from a file", json!({ "credential": "one" }))
    );
    // Written in the open it is shown; that is for `audit`.
    assert_eq!(read("open"), good("open", json!("open")));
    for wrong in [
        "{ env: Y }",
        "{ file: three }",
        "{ credential: three }",
        "{ credential: ./one }",
        "{ env: X, file: one }",
        "{ env: [X] }",
        "{ ENV: X }",
        "{}",
    ] {
        let (text, _, problems) = read(wrong).expect("a text");
        let unread = "a secret that was not read";
        assert_eq!((text.as_str(), problems), (unread, 1), "{wrong}");
    }
    // A line break inside would end the header.
    let (_, _, problems) = read("{ file: two }").expect("a text");
    assert_eq!(problems, 0);
}

#[test]
fn files_are_merged_by_name_and_lists_one_after_the_other() {
    let dir = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    };
    let route =
        |name: &str| format!("{{ name: {name}, match: {{ path: /{name} }}, respond: {{}} }}");
    write("doorward.yaml", "# all of it is in conf.d\n");
    write(
        "conf.d/b.yml",
        &format!(
            "routes: [{}]\nlisteners: {{ b: {{ address: \":2\" }} }}\n",
            route("b")
        ),
    );
    write(
        "conf.d/a.yaml",
        &format!(
            "version: 1\nroutes: [{}]\nlisteners: {{ a: {{ address: \":1\" }} }}\n",
            route("a")
        ),
    );
    write(
        "conf.d/c.yaml",
        &format!("version: 1\nroutes: [{}]\n", route("c")),
    );
    write("conf.d/d.yaml", "");
    write("conf.d/e.yaml.bak", "not: read\n");
    let loaded = load(&dir.path().join("doorward.yaml"), &fixed(&[]));
    assert_eq!(told(&loaded.problems), Vec::<String>::new());
    let routes: Vec<&str> = loaded
        .document
        .routes
        .iter()
        .map(|route| route.name.as_str())
        .collect();
    assert_eq!(routes, ["a", "b", "c"]);
    let listeners = loaded
        .document
        .listeners
        .iter()
        .map(|listener| listener.name.as_str());
    assert_eq!(listeners.collect::<Vec<_>>(), ["a", "b"]);
    // A place is where it was written.
    let place = loaded
        .document
        .routes
        .get(1)
        .map(|route| route.place.key("name"));
    let mark = loaded.mark_of(&place.expect("a second route"));
    let file = loaded
        .sources
        .get(mark.file)
        .map(|source| source.path.ends_with("conf.d/b.yml"));
    assert_eq!((file, mark.line), (Some(true), 1));
}

#[test]
fn values_from_variables_take_the_type_that_belongs() {
    let text = "version: \"${V}\"\nruntime: { threads: \"${T}\" }\n\
        listeners: { a: { address: \"127.0.0.1:0\" } }\n\
        upstreams: { u: { targets: [{ url: \"http://127.0.0.1:1\", weight: \"${W}\" }] } }\n\
        routes: [{ name: r, match: { path: / }, upstream: u, response: { rewrite_location: \"${B}\" } }]\n";
    let variables = [("V", "1"), ("T", "3"), ("W", "7"), ("B", "false")];
    let loaded = load_text("a", text, &fixed(&variables));
    assert_eq!(told(&loaded.problems), Vec::<String>::new());
    let shown = show(&loaded);
    assert_eq!(shown["runtime"]["threads"], 3);
    assert_eq!(shown["upstreams"]["u"]["targets"][0]["weight"], 7);
    assert_eq!(shown["routes"][0]["response"]["rewrite_location"], false);
    // A text stays one, whatever it looks like; and a number in quotes is a text.
    let quoted = text.replace("${W}", "7");
    let loaded = load_text("a", &quoted, &fixed(&variables));
    assert_eq!(
        told(&loaded.problems),
        ["E012 upstreams.u.targets[0].weight: a text where a whole number of 1 or more belongs"]
    );
}

#[test]
fn keys_none_means_those_of_the_file_alone() {
    let text = "version: 1\nlisteners: { a: { address: \"127.0.0.1:0\" } }\nkeys: none\n";
    let loaded = load_text("a", text, &fixed(&[]));
    assert_eq!(told(&loaded.problems), Vec::<String>::new());
    assert!(loaded.document.keys.is_none());
    assert_eq!(show(&loaded).get("keys"), None);
}

#[test]
fn every_node_knows_its_place() {
    let text = "a: 1\nb:\n  - x: \"q\"  # note\n    ä: [ 'it''s', z ]\n  - &n { k: v }\nc: *n\n";
    let loaded = load_text("t", text, &fixed(&[]));
    let at = |place: Place| {
        let mark = loaded.mark_of(&place);
        (mark.line, mark.col, mark.len)
    };
    let item = Place::root().key("b").index(0);
    assert_eq!(at(Place::root().key("a")), (1, 4, 1));
    assert_eq!(at(item.clone()), (3, 5, 1));
    assert_eq!(at(item.key("x")), (3, 8, 3));
    assert_eq!(at(item.key("ä")), (4, 8, 1));
    assert_eq!(at(item.key("ä").index(0)), (4, 10, 7));
    assert_eq!(at(item.key("ä").index(1)), (4, 19, 1));
    // What an alias stands for is where it is written.
    assert_eq!(at(Place::root().key("c").key("k")), (5, 13, 1));
    // What is not there is where it would be.
    assert_eq!(at(item.key("nothing")), (3, 5, 1));
}
