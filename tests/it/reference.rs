//! The full reference of the language (`tests/data/reference.yaml`: every key that will ever be): this version knows each
//! key, serves its own, and refuses the others by name. And the JSON Schema, which says the same.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first thing that is not as expected"
)]

use std::path::{Path, PathBuf};

use doorward::base::problem::{Place, Problem, Step};
use doorward::config::source::Environment;
use doorward::config::{self, Loaded};
use doorward::plan;
use serde_json::{Value as Json, json};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    String::from_utf8(std::fs::read(path).unwrap()).unwrap()
}

fn reference() -> String {
    read(&root().join("tests/data/reference.yaml"))
}

fn parse(text: &str) -> Json {
    serde_yaml::from_str(text).unwrap()
}

/// Loads and compiles a text beside the files that the reference names.
fn problems(text: &str) -> (Loaded, Vec<Problem>) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("error.html"), "{title}").unwrap();
    std::fs::write(dir.path().join("bad.txt"), "192.0.2.0/24").unwrap();
    let countries = super::support::countries(&[("192.0.2.0/24", "DE")]);
    std::fs::write(dir.path().join("countries.mmdb"), countries).unwrap();
    std::fs::write(dir.path().join("ops.htpasswd"), "").unwrap();
    let keys = include_str!("../../conf/examples/files/hooks.jwks");
    std::fs::write(dir.path().join("hooks.jwks"), keys).unwrap();
    for (name, file) in [
        ("api.pem", "a.pem"),
        ("api.key", "a.key"),
        ("partners.pem", "a.pem"),
        ("partners.crl", "a.crl"),
        ("ca.pem", "a.pem"),
        ("gw.pem", "a.pem"),
        ("gw.key", "a.key"),
    ] {
        let file = root().join("tests/data/tls").join(file);
        std::fs::copy(file, dir.path().join(name)).unwrap();
    }
    let path = dir.path().join("doorward.yaml");
    std::fs::write(&path, text).unwrap();
    for secret in ["idp", "redis"] {
        std::fs::write(dir.path().join(secret), "hush").unwrap();
    }
    let folder = dir.path().to_str().unwrap().to_owned();
    let environment = Environment::Fixed([("CREDENTIALS_DIRECTORY".to_owned(), folder)].into());
    let mut loaded = config::load(&path, &environment);
    let mut problems = std::mem::take(&mut loaded.problems);
    drop(plan::compile(&loaded.document, "test", &mut problems));
    assert_eq!(problems.left_out(), 0);
    (loaded, problems.list().to_vec())
}

fn told(loaded: &Loaded, problem: &Problem) -> String {
    let mark = loaded.mark(problem);
    let (place, line) = (&problem.place, mark.line);
    format!(
        "{}:{line} {place}: {} {}",
        problem.code,
        problem.what,
        problem.hint.as_deref().unwrap_or_default()
    )
}

#[test]
fn the_reference_is_known_to_the_last_key() {
    let (loaded, problems) = problems(&reference());
    let others: Vec<String> = problems
        .iter()
        // The reference cuts a digest short, as documents do.
        .filter(|problem| !matches!(problem.code, "E020" | "W022" | "W060" | "W061" | "W062"))
        .map(|problem| told(&loaded, problem))
        .collect();
    assert!(others.is_empty(), "{others:#?}");
}

/// What is refused and where, as a list for people: a key that a version brings goes away here.
#[test]
fn what_this_version_refuses() {
    let (_, problems) = problems(&reference());
    let mut lines: Vec<String> = problems
        .iter()
        .filter(|problem| problem.code == "E020")
        .map(|problem| format!("{}: {}", problem.place, problem.what))
        .collect();
    lines.sort();
    insta::assert_snapshot!(lines.join("\n"));
}

fn at<'j>(json: &'j mut Json, steps: &[Step]) -> Option<&'j mut Json> {
    steps.iter().try_fold(json, |json, step| match step {
        Step::Key(key) => json.get_mut(key),
        Step::Index(index) => json.get_mut(*index),
    })
}

/// Takes the refused out. A list keeps a gap until all are out, so that the other places stay right.
fn without(mut document: Json, refused: &[Place]) -> Json {
    for place in refused {
        let (last, parents) = place.steps().split_last().unwrap();
        match (last, at(&mut document, parents)) {
            // A URL with a scheme of a later version: the whole target goes.
            (Step::Key(key), Some(Json::Object(map))) if key == "url" => map.clear(),
            (Step::Key(key), Some(Json::Object(map))) => {
                map.shift_remove(key);
            }
            (Step::Index(index), Some(Json::Array(items))) => items[*index] = Json::Null,
            other => panic!("{place}: {other:?}"),
        }
    }
    close_gaps(&mut document);
    document
}

/// An item of a list that is empty now goes, and so does what cannot be without it: a map without its targets, a route
/// without its action.
fn close_gaps(document: &mut Json) {
    let is_empty = |json: &Json| *json == Json::Null || *json == json!({});
    let upstreams = document["upstreams"].as_object_mut().unwrap();
    for upstream in upstreams.values_mut() {
        if let Some(targets) = upstream.get_mut("targets").and_then(Json::as_array_mut) {
            targets.retain(|target| !is_empty(target));
        }
    }
    upstreams.retain(|_, upstream| {
        upstream["targets"]
            .as_array()
            .is_some_and(|list| !list.is_empty())
    });
    let known: Vec<String> = upstreams.keys().cloned().collect();
    for listener in document["listeners"].as_object_mut().unwrap().values_mut() {
        if let Some(protocols) = listener.get_mut("protocols").and_then(Json::as_array_mut) {
            protocols.retain(|protocol| !is_empty(protocol));
        }
        let certificates = listener.pointer_mut("/tls/certificates");
        if let Some(certificates) = certificates.and_then(Json::as_array_mut) {
            certificates.retain(|certificate| !is_empty(certificate));
        }
    }
    let authenticators = document["authenticators"].as_object_mut().unwrap();
    authenticators.retain(|_, authenticator| !is_empty(authenticator));
    let trusted: Vec<String> = authenticators.keys().cloned().collect();
    for route in document["routes"].as_array_mut().unwrap() {
        // What trusted only whom nobody knows any more goes as a whole.
        let Some(auth) = route.get_mut("auth") else {
            continue;
        };
        let names = if auth.is_array() {
            &mut *auth
        } else {
            &mut auth["any"]
        };
        let names = names.as_array_mut().unwrap();
        names.retain(|name| trusted.iter().any(|known| name == known));
        if names.is_empty() {
            route.as_object_mut().unwrap().shift_remove("auth");
        }
    }
    let routes = document["routes"].as_array_mut().unwrap();
    routes.retain(|route| {
        let upstream = route.get("upstream").and_then(Json::as_str);
        upstream.is_some_and(|name| known.iter().any(|known| known == name))
            || route.get("redirect").is_some()
            || route.get("respond").is_some()
    });
    let names: Vec<Json> = routes.iter().map(|route| route["name"].clone()).collect();
    // What a plan lets its consumers call is there, too.
    for plan in document["plans"].as_object_mut().unwrap().values_mut() {
        if let Some(called) = plan.get_mut("routes").and_then(Json::as_array_mut) {
            called.retain(|name| names.contains(name));
        }
    }
    for route in document["routes"].as_array_mut().unwrap() {
        if let Some(Json::Object(lifecycle)) = route.get_mut("lifecycle") {
            let gone = lifecycle
                .get("successor")
                .is_some_and(|name| !names.contains(name));
            lifecycle.retain(|key, _| key != "successor" || !gone);
        }
    }
}

#[test]
fn the_reference_without_what_is_refused_is_a_config() {
    let (_, refused) = problems(&reference());
    let refused = refused.into_iter().filter(|problem| problem.code == "E020");
    let places: Vec<Place> = refused.map(|problem| problem.place).collect();
    let mut document = parse(&reference());
    // Templates and expressions may quote what is not there yet: their clauses are named by the problem.
    document = without(document, &places);
    let (loaded, left) = problems(&document.to_string());
    let left: Vec<String> = left.iter().map(|problem| told(&loaded, problem)).collect();
    assert!(
        left.iter().all(|problem| problem.starts_with('W')),
        "{left:#?}"
    );
    let names: Vec<&str> = loaded
        .document
        .routes
        .iter()
        .map(|route| route.name.as_str())
        .collect();
    for name in ["order", "to-https", "hello"] {
        assert!(names.contains(&name), "{name} is not among {names:?}");
    }
}

#[test]
fn the_small_gateway_of_the_reference_names_what_is_to_come() {
    let text = r#"
version: 1
listeners: { public: { address: "127.0.0.1:0" } }
upstreams:
  orders:
    targets: [{ url: "http://10.1.0.11:8080" }, { url: "http://10.1.0.12:8080", weight: 2 }]
routes:
  - name: order
    match: { hosts: [api.example.com], path: "/v1/orders/{id}", methods: [GET] }
    request: { path: "/internal/orders/{id}" }
    upstream: orders
"#;
    let (loaded, problems) = problems(text);
    let problems: Vec<String> = problems
        .iter()
        .map(|problem| told(&loaded, problem))
        .collect();
    assert!(problems.is_empty(), "{problems:#?}");
}

/// As much of draft-07 as the schema uses.
fn fits(value: &Json, schema: &Json, whole: &Json) -> Result<(), String> {
    let Some(rules) = schema.as_object() else {
        let taken = (schema != &json!(false)).then_some(());
        return taken.ok_or_else(|| "nothing may be here".to_owned());
    };
    for (rule, wanted) in rules {
        let all = |holds: bool| {
            let error = || format!("{rule} {wanted}: {value}");
            holds.then_some(()).ok_or_else(error)
        };
        let forms = || wanted.as_array().into_iter().flatten();
        let fitting = || {
            forms()
                .filter(|form| fits(value, form, whole).is_ok())
                .count()
        };
        match rule.as_str() {
            "$ref" => {
                let pointer = wanted.as_str().unwrap().trim_start_matches('#');
                fits(value, whole.pointer(pointer).unwrap(), whole)?;
            }
            "type" => all(is_of_type(value, wanted.as_str().unwrap_or("?")))?,
            "const" => all(value == wanted)?,
            "enum" => all(forms().any(|word| word == value))?,
            "allOf" => forms().try_for_each(|form| fits(value, form, whole))?,
            "anyOf" => all(fitting() > 0)?,
            "oneOf" => all(fitting() == 1)?,
            "required" => {
                all(!value.is_object()
                    || forms().all(|key| value.get(key.as_str().unwrap()).is_some()))?;
            }
            "minItems" => all(value
                .as_array()
                .is_none_or(|list| list.len() as u64 >= wanted.as_u64().unwrap()))?,
            "maxItems" => all(value
                .as_array()
                .is_none_or(|list| list.len() as u64 <= wanted.as_u64().unwrap()))?,
            "minimum" => all(value
                .as_f64()
                .is_none_or(|number| number >= wanted.as_f64().unwrap()))?,
            "maximum" => all(value
                .as_f64()
                .is_none_or(|number| number <= wanted.as_f64().unwrap()))?,
            "pattern" => {
                let regex = regex::Regex::new(wanted.as_str().unwrap()).unwrap();
                all(value.as_str().is_none_or(|text| regex.is_match(text)))?;
            }
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    fits(item, wanted, whole).map_err(|error| format!("[{index}] {error}"))?;
                }
            }
            "properties" | "additionalProperties" => {
                for (key, item) in value.as_object().into_iter().flatten() {
                    let own = rules.get("properties").and_then(|own| own.get(key));
                    let form = if rule == "properties" {
                        own
                    } else {
                        Some(wanted).filter(|_| own.is_none())
                    };
                    if let Some(form) = form {
                        fits(item, form, whole).map_err(|error| format!("{key}: {error}"))?;
                    }
                }
            }
            "$schema" | "title" | "description" | "default" | "examples" | "definitions"
            | "format" => {}
            other => panic!("the schema uses `{other}`, which this test does not know"),
        }
    }
    Ok(())
}

fn is_of_type(value: &Json, kind: &str) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        other => panic!("the schema has the type {other}"),
    }
}

fn shipped() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for folder in ["conf", "conf/examples"] {
        for entry in std::fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            files.extend(
                Some(path).filter(|path| path.extension().is_some_and(|ending| ending == "yaml")),
            );
        }
    }
    files.sort();
    files
}

#[test]
fn the_schema_is_draft_07_and_takes_every_config_that_is_shipped() {
    let schema = config::schema();
    assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
    for path in shipped() {
        let document = parse(&read(&path));
        if let Err(error) = fits(&document, &schema, &schema) {
            panic!("{}: {error}", path.display());
        }
    }
}

/// The part of the schema for what stands at `steps`; none where nothing may stand.
fn part<'s>(schema: &'s Json, steps: &[Step], whole: &'s Json) -> Option<&'s Json> {
    if let Some(pointer) = schema.get("$ref").and_then(Json::as_str) {
        return part(
            whole.pointer(pointer.trim_start_matches('#'))?,
            steps,
            whole,
        );
    }
    let forms = ["allOf", "anyOf", "oneOf"]
        .iter()
        .filter_map(|key| schema.get(key)?.as_array())
        .flatten();
    let inner = forms.filter_map(|form| part(form, steps, whole)).next();
    let Some((step, rest)) = steps.split_first() else {
        return Some(schema);
    };
    let next = match step {
        Step::Key(key) => schema
            .get("properties")
            .and_then(|properties| properties.get(key))
            .or_else(|| {
                schema
                    .get("additionalProperties")
                    .filter(|more| more.is_object())
            }),
        Step::Index(_) => schema.get("items"),
    };
    next.and_then(|next| part(next, rest, whole)).or(inner)
}

#[test]
fn the_schema_has_the_keys_of_this_version_and_no_other() {
    let schema = config::schema();
    let (_, refused) = problems(&reference());
    let keys = refused.iter().filter(|problem| {
        let last = problem.place.steps().last();
        let refused =
            |key: &str| problem.at_key && problem.what == format!("`{key}` is not in this version");
        matches!(last, Some(Step::Key(key)) if refused(key))
            && !problem.place.to_string().starts_with("errors.override")
    });
    let mut count = 0;
    for problem in keys {
        assert!(
            part(&schema, problem.place.steps(), &schema).is_none(),
            "{} is in the schema",
            problem.place
        );
        count += 1;
    }
    assert!(count > 0, "no key is left for later");
    let places: Vec<Place> = refused
        .iter()
        .filter(|problem| problem.code == "E020")
        .map(|problem| problem.place.clone())
        .collect();
    let served = without(parse(&reference()), &places);
    if let Err(error) = fits(&served, &schema, &schema) {
        panic!("{error}");
    }
}

#[test]
fn the_schema_refuses_what_check_refuses() {
    let schema = config::schema();
    let good = json!({
        "version": 1,
        "listeners": { "public": { "address": "127.0.0.1:0" } },
        "upstreams": { "app": { "targets": [{ "url": "http://127.0.0.1:1", "weight": "${WEIGHT}" }] } },
        "routes": [{ "name": "a", "match": { "path": "/" }, "upstream": "app", "maintenance": { "retry_after": "5s" } }],
    });
    assert_eq!(fits(&good, &schema, &schema), Ok(()));
    for (pointer, wrong) in [
        ("/version", json!(2)),
        ("/listeners/public/address", json!([])),
        ("/listeners/public/adress", json!("127.0.0.1:0")),
        ("/listeners/public/protocols", json!(["http3"])),
        ("/upstreams/app/targets/0/weight", json!(0)),
        ("/upstreams/app/targets/0/weight", json!(1001)),
        ("/upstreams/app/targets/0/weight", json!("heavy")),
        ("/upstreams/app/targets/0/url", json!("127.0.0.1:1")),
        ("/routes/0/match/path", json!(null)),
        ("/routes/0/maintenance/retry_after", json!(5)),
        ("/routes/0/maintenance/retry_after", json!("5 s")),
        ("/routes/0/maintenance", json!("off")),
        ("/routes/0/respond", json!({})),
        ("/routes/0/cors", json!({})),
        ("/defaults", json!({ "routes": { "upstream": "app" } })),
        ("/openapi", json!({})),
        ("/telemetry", json!({ "metrics": { "consumer_label": {} } })),
        (
            "/telemetry",
            json!({ "metrics": { "latency_buckets": [] } }),
        ),
        ("/telemetry", json!({ "log": { "level": "warning" } })),
        ("/telemetry", json!({ "log": { "format": "xml" } })),
        ("/telemetry", json!({ "access_log": { "format": "xml" } })),
        ("/telemetry", json!({ "access_log": { "sample": 0.1 } })),
        ("/admin", json!({ "dashboard": true })),
        ("/admin", json!({ "address": "somewhere" })),
        (
            "/admin",
            json!({ "tokens": [{ "sha256": "00", "role": "root" }] }),
        ),
    ] {
        let mut document = good.clone();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        document.pointer_mut(parent).unwrap()[key] = wrong.clone();
        assert!(
            fits(&document, &schema, &schema).is_err(),
            "{pointer}: {wrong}"
        );
    }
}

#[test]
fn every_key_of_the_schema_says_what_it_is() {
    fn walk(schema: &Json, path: &str, silent: &mut Vec<String>) {
        for (key, form) in schema
            .get("properties")
            .and_then(Json::as_object)
            .into_iter()
            .flatten()
        {
            let path = format!("{path}.{key}");
            if form.get("description").is_none()
                && form.get("$ref").is_none()
                && form.get("anyOf").is_none()
            {
                silent.push(path.clone());
            }
            walk(form, &path, silent);
        }
        for inner in ["items", "additionalProperties"] {
            if let Some(form) = schema.get(inner) {
                walk(form, path, silent);
            }
        }
        for (name, form) in schema
            .get("definitions")
            .and_then(Json::as_object)
            .into_iter()
            .flatten()
        {
            walk(form, name, silent);
        }
    }
    let mut silent = Vec::new();
    walk(&config::schema(), "", &mut silent);
    assert!(silent.is_empty(), "{silent:#?}");
}
