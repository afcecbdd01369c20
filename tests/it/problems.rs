//! Wrong configs, one rule a file: every mistake is found, its place is right to the character, and the report says how
//! to mend it. A file says itself what is wrong with it: `#~ E012 10min` behind a line means that the report has E012
//! with the caret under `10min` of that line.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test stops at the first thing that is not as expected"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use doorward::base::problem::{CODES, Mark, Severity};
use doorward::config::source::Environment;
use doorward::config::{self, Loaded};
use doorward::plan;

use super::support::{Output, run_cli};

/// What cannot be read as YAML cannot be marked in the file: the place, and what stands under the caret.
const UNMARKED: &[(&str, &str, usize, usize)] = &[
    ("yaml_tab", "E001", 3, 1),
    ("yaml_unquoted_braces", "E001", 4, 37),
    ("yaml_colon_in_plain_text", "E001", 7, 15),
    ("yaml_unclosed_bracket", "E001", 3, 1),
    ("yaml_unclosed_quote", "E001", 2, 33),
    ("yaml_wrong_indentation", "E001", 4, 3),
    ("yaml_two_documents", "E001", 3, 1),
    ("yaml_unknown_alias", "E001", 2, 22),
    ("yaml_alias_to_itself", "E001", 3, 24),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/problems")
}

/// Every case: its name, and its config, relative to the folder.
fn cases() -> Vec<(String, PathBuf)> {
    let mut cases = Vec::new();
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let file = path.strip_prefix(folder()).unwrap().to_owned();
        let config = if path.is_dir() {
            file.join("doorward.yaml")
        } else {
            file
        };
        cases.push((name, config));
    }
    cases.sort();
    cases
}

fn check(args: &[&str], config: &Path) -> Output {
    let mut all = vec![
        "check",
        "--color",
        "never",
        "--config",
        config.to_str().unwrap(),
    ];
    all.extend(args);
    run_cli(&all, &folder())
}

/// One finding: file, line, code, and what the caret covers.
type Finding = (String, usize, String, String);

fn load(config: &Path) -> (Loaded, doorward::base::problem::Problems) {
    let environment = Environment::Fixed(Default::default());
    let mut loaded = config::load(&folder().join(config), &environment);
    let mut problems = std::mem::take(&mut loaded.problems);
    drop(plan::compile(&loaded.document, "test", &mut problems));
    // As `check` does: what stands in the place of a variable is not judged.
    problems.retain(|problem| {
        matches!(problem.code, "E004" | "E005") || !loaded.is_opaque(&problem.place)
    });
    (loaded, problems)
}

fn file_of(loaded: &Loaded, mark: Mark) -> String {
    let path = &loaded.sources[mark.file].path;
    let file = path.file_name().unwrap().to_str().unwrap();
    file.to_owned()
}

fn covered(loaded: &Loaded, mark: Mark) -> String {
    let text = &loaded.sources[mark.file].text;
    let line = text.lines().nth(mark.line - 1).unwrap_or_default();
    line.chars().skip(mark.col - 1).take(mark.len).collect()
}

fn found(config: &Path) -> Vec<Finding> {
    let (loaded, problems) = load(config);
    let mut found: Vec<Finding> = problems
        .list()
        .iter()
        .map(|problem| {
            let mark = loaded.mark(problem);
            let covered = covered(&loaded, mark);
            let file = file_of(&loaded, mark);
            (file, mark.line, problem.code.to_owned(), covered)
        })
        .collect();
    found.sort();
    found
}

fn expected(config: &Path) -> Vec<Finding> {
    let (loaded, _) = load(config);
    let mut expected = Vec::new();
    for source in &loaded.sources {
        let file = source.path.file_name().unwrap().to_str().unwrap();
        for (index, line) in source.text.lines().enumerate() {
            for mark in line.split("#~ ").skip(1) {
                let (code, word) = mark.trim_end().split_once(' ').unwrap();
                let finding = (file.to_owned(), index + 1, code.to_owned(), word.to_owned());
                expected.push(finding);
            }
        }
    }
    expected.sort();
    expected
}

#[test]
fn every_mistake_is_found_and_the_caret_is_under_it() {
    let mut wrong = String::new();
    for (name, config) in cases() {
        if UNMARKED.iter().any(|(unmarked, ..)| *unmarked == name) {
            continue;
        }
        let (found, expected) = (found(&config), expected(&config));
        assert!(!expected.is_empty(), "{name} says nothing of what is wrong");
        if found != expected {
            wrong.push_str(&format!(
                "{name}\n  found    {found:?}\n  expected {expected:?}\n"
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn what_is_no_yaml_is_shown_where_it_stops_being_it() {
    let mut wrong = String::new();
    for (name, code, line, col) in UNMARKED {
        let (loaded, problems) = load(Path::new(&format!("{name}.yaml")));
        let found: Vec<_> = problems
            .list()
            .iter()
            .map(|problem| {
                let mark = loaded.mark(problem);
                (problem.code, mark.line, mark.col)
            })
            .collect();
        if found != [(*code, *line, *col)] {
            wrong.push_str(&format!("{name}: {found:?}\n"));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn every_report_names_place_line_caret_and_mend() {
    for (name, config) in cases() {
        let output = check(&[], &config);
        let report = &output.stderr;
        let warnings = found(&config)
            .iter()
            .all(|(_, _, code, _)| code.starts_with('W'));
        assert_eq!(
            output.code,
            if warnings { 0 } else { 78 },
            "{name}: {report}"
        );
        assert!(!report.contains("panicked"), "{name}: {report}");
        let stem = if config.components().count() > 1 {
            ""
        } else {
            config.to_str().unwrap()
        };
        let blocks: Vec<&str> = report
            .split("\n\n")
            .filter(|block| block.contains("error[") || block.contains("warning["))
            .collect();
        assert!(!blocks.is_empty(), "{name}: {report}");
        for block in blocks {
            assert!(
                block.contains(&format!("--> {stem}")),
                "{name}: no place in\n{block}"
            );
            assert!(block.contains('^'), "{name}: no caret in\n{block}");
            assert!(block.contains("= hint: "), "{name}: no hint in\n{block}");
        }
        insta::with_settings!({ omit_expression => true, snapshot_suffix => name.as_str() }, {
            insta::assert_snapshot!("report", report);
        });
    }
}

#[test]
fn problems_are_told_in_the_order_of_the_file_errors_first() {
    for (name, config) in cases() {
        let output = check(&["--format", "json"], &config);
        let report: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
        let places: Vec<(bool, String, u64, u64)> = report["problems"]
            .as_array()
            .unwrap()
            .iter()
            .map(|problem| {
                (
                    problem["severity"] == "warning",
                    problem["file"]
                        .as_str()
                        .unwrap_or_default()
                        .replace("conf.d/", "~"),
                    problem["line"].as_u64().unwrap(),
                    problem["column"].as_u64().unwrap(),
                )
            })
            .collect();
        assert!(places.is_sorted(), "{name}: {places:?}");
    }
}

#[test]
fn what_is_wrong_is_told_in_the_style_of_the_house() {
    for (name, config) in cases() {
        for problem in load(&config).1.list() {
            let hint = problem.hint.as_deref().unwrap_or_default();
            for text in [problem.what.as_str(), hint] {
                let start = text.chars().next().unwrap_or('X');
                let shouts = start.is_uppercase() && !text.starts_with("YAML");
                let good = !shouts && !text.ends_with('.') && !text.contains('\n');
                assert!(good, "{name}: {text:?}");
            }
            assert!(
                CODES.iter().any(|(code, _)| *code == problem.code),
                "{name}: {}",
                problem.code
            );
            let warning = problem.code.starts_with('W');
            assert_eq!(problem.severity == Severity::Warning, warning, "{name}");
        }
    }
}

#[test]
fn every_code_has_a_case() {
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for (_, config) in cases() {
        seen.extend(found(&config).into_iter().map(|(_, _, code, _)| code));
    }
    // The file that cannot be read has a test of its own.
    seen.insert("E000".to_owned());
    // What only time tells has one among the tests of TLS.
    seen.insert("W050".to_owned());
    let missing: Vec<&str> = CODES
        .iter()
        .map(|(code, _)| *code)
        .filter(|code| !seen.contains(*code))
        .collect();
    assert!(missing.is_empty(), "no case for {missing:?}");
    assert!(cases().len() >= 50, "{} cases", cases().len());
}

#[test]
fn warnings_let_the_config_pass_unless_they_are_denied() {
    for name in ["upstream_unused", "route_shadowed", "route_never_in_time"] {
        let config = PathBuf::from(format!("{name}.yaml"));
        let allowed = check(&[], &config);
        assert_eq!(allowed.code, 0, "{name}: {}", allowed.stderr);
        assert!(
            allowed.stdout.starts_with("  ok  "),
            "{name}: {}",
            allowed.stdout
        );
        assert_eq!(check(&["--deny-warnings"], &config).code, 1, "{name}");
    }
}

#[test]
fn a_missing_file_is_an_error_and_never_means_defaults() {
    let output = check(&[], Path::new("nowhere.yaml"));
    assert_eq!(output.code, 78);
    insta::assert_snapshot!("report@file_missing", output.stderr);
}

/// A config that is made here, because no editor would keep it.
fn refused(bytes: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("doorward.yaml"), bytes).unwrap();
    let output = run_cli(&["check", "--color", "never"], dir.path());
    assert_eq!(output.code, 78, "{}", output.stderr);
    output.stderr
}

#[test]
fn an_empty_file_is_no_config() {
    for text in ["", "\n", "# nothing but a comment\n"] {
        let report = refused(text.as_bytes());
        assert!(
            report.contains("error[E003]: `version` is missing"),
            "{report}"
        );
        assert!(report.contains("error[E015]: no listener"), "{report}");
    }
    for text in ["---\n", "~\n"] {
        let report = refused(text.as_bytes());
        assert!(
            report.contains("error[E012]: nothing where the config belongs"),
            "{report}"
        );
    }
}

#[test]
fn a_file_that_is_no_text_is_refused() {
    let report = refused(b"version: 1\nlisteners: {}\n# \xff\xfe\n");
    assert!(report.contains("error[E000]"), "{report}");
    assert!(report.contains("= hint: save it as UTF-8"), "{report}");
    for bytes in [&b"\0\0\0"[..], b"version: \x01\n", b"version: 1\0\n"] {
        let report = refused(bytes);
        assert!(report.contains("error[E001]"), "{report}");
    }
}

#[test]
fn deep_nesting_ends_with_an_error() {
    for (open, close) in [("[", "]"), ("{a: ", "}"), ("- ", ""), ("[", "")] {
        let text = format!("version: {}{}\n", open.repeat(20_000), close.repeat(20_000));
        let report = refused(text.as_bytes());
        assert!(report.contains("error[E001]"), "{open}: {report}");
    }
    let text = format!("version: 1\nroutes: {}{}\n", "[".repeat(65), "]".repeat(65));
    assert!(refused(text.as_bytes()).contains("nested deeper than 64 levels"));
}

#[test]
fn aliases_that_multiply_end_with_an_error() {
    let mut text = String::from("version: 1\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let last = format!("*a{}, ", level - 1).repeat(10);
        text.push_str(&format!("a{level}: &a{level} [{last}]\n"));
    }
    let report = refused(text.as_bytes());
    assert!(
        report.contains("error[E001]: aliases that stand for more than"),
        "{report}"
    );
}

#[test]
fn two_hundred_problems_are_shown_and_the_others_counted() {
    let mut text =
        String::from("version: 1\nlisteners: { public: { address: \"127.0.0.1:0\" } }\nroutes:\n");
    for index in 0..300 {
        text.push_str(&format!(
            "  - {{ name: r{index}, match: {{ path: x{index} }}, respond: {{}} }}\n"
        ));
    }
    let report = refused(text.as_bytes());
    assert_eq!(report.matches("error[E035]").count(), 200);
    assert!(report.contains("and 100 more\n"), "{report}");
    assert!(report.trim_end().ends_with("300 errors"), "{report}");
}

#[test]
fn a_place_counts_characters_and_not_bytes() {
    let report = refused("version: 1\nlisteners: { public: { address: \"127.0.0.1:0\" } }\nroutes:\n  - { name: a, match: { path: /äöü }, respond: { text: \"äöü\", stats: 1 } }\n".as_bytes());
    assert!(report.contains("doorward.yaml:4:63"), "{report}");
}

#[test]
fn the_same_mistake_on_two_listeners_is_told_once() {
    let report = refused(b"version: 1\nlisteners: { a: { address: \"127.0.0.1:0\" }, b: { address: \"127.0.0.1:0\" } }\nroutes:\n  - { name: a, match: { path: /a }, respond: { text: \"{nope}\" } }\n");
    assert_eq!(report.matches("error[").count(), 1, "{report}");
}

#[test]
fn no_cut_or_changed_config_panics() {
    let whole =
        String::from_utf8(std::fs::read(folder().join("../reference.yaml")).unwrap()).unwrap();
    let environment = Environment::Fixed(Default::default());
    let looks_sane = |text: &str| {
        let mut loaded = config::load_text("t.yaml", text, &environment);
        let mut problems = std::mem::take(&mut loaded.problems);
        drop(plan::compile(&loaded.document, "test", &mut problems));
        for problem in problems.list() {
            let mark = loaded.mark(problem);
            let lines = text.lines().count().max(1);
            assert!(
                (1..=lines + 1).contains(&mark.line),
                "{mark:?} of {lines} lines"
            );
        }
    };
    let lines: Vec<&str> = whole.lines().collect();
    for gone in 0..lines.len() {
        let text: Vec<&str> = lines
            .iter()
            .enumerate()
            .filter(|(index, _)| *index != gone)
            .map(|(_, line)| *line)
            .collect();
        looks_sane(&text.join("\n"));
    }
    let cuts: Vec<usize> = (0..whole.len())
        .step_by(41)
        .filter(|at| whole.is_char_boundary(*at))
        .collect();
    for at in &cuts {
        looks_sane(&whole[..*at]);
    }
    for (index, with) in [
        "{", "}", "[", "\"", "'", ":", "\t", "&a ", "*a", "!t ", "ä", "\0", "? ",
    ]
    .into_iter()
    .enumerate()
    {
        for at in cuts.iter().skip(index).step_by(29) {
            looks_sane(&format!("{}{with}{}", &whole[..*at], &whole[*at..]));
        }
    }
    // The report is drawn by the real binary.
    for at in cuts.iter().step_by(23) {
        let report = refused(&whole.as_bytes()[..*at]);
        assert!(!report.contains("panicked"), "{report}");
    }
}
