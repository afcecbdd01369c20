//! README says what is so: its configs load, its commands print what stands under them, its tables are the code's.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test stops at the first thing that is not as expected"
)]

use std::path::Path;
use std::process::Command;

use doorward::base::problem::CODES;
use doorward::exchange::Fault;

use serde_json::json;

use super::support::{DEADLINE, Output, Process, debian, run};
use super::tokens;

/// A fenced block: what stands behind the fence, and the lines inside.
struct Block {
    kind: String,
    text: String,
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn blocks() -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for line in read("README.md").lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(kind), None) => {
                let (kind, text) = (kind.to_owned(), String::new());
                open = Some(Block { kind, text });
            }
            (None, Some(block)) => block.text += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block without an end");
    blocks
}

/// What `doorward` with these arguments makes of a config.
fn with_config(yaml: &str, arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("doorward.yaml"), yaml).unwrap();
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls");
    for (file, names) in [
        (
            "a.pem",
            &["api.pem", "other.pem", "partners.pem", "ca.pem", "gw.pem"][..],
        ),
        ("a.key", &["api.key", "other.key", "gw.key"]),
        ("a.crl", &["partners.crl"]),
    ] {
        for name in names {
            std::fs::copy(data.join(file), folder.path().join(name)).unwrap();
        }
    }
    std::fs::write(folder.path().join("secret.txt"), "hush").unwrap();
    let keys = include_str!("../../conf/examples/files/hooks.jwks");
    std::fs::write(folder.path().join("hooks.jwks"), keys).unwrap();
    let keys = include_str!("../../conf/examples/files/keys.json");
    std::fs::write(folder.path().join("keys.json"), keys).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_doorward"));
    run(
        command
            .args(arguments)
            .env("NO_COLOR", "1")
            .current_dir(folder.path()),
        DEADLINE,
    )
}

/// Around a block that holds only routes.
const FRAME: &str = "version: 1\nlisteners: { public: { address: \"127.0.0.1:8080\" } }\n\
                     upstreams: { app: { targets: [{ url: \"http://127.0.0.1:3000\" }] } }\nroutes:\n";

#[test]
fn every_config_loads() {
    let mut loaded = 0;
    for block in blocks().iter().filter(|block| block.kind == "yaml") {
        let whole = if block.text.starts_with("- name:") {
            let spare = "- { name: spare, match: { path: /spare }, upstream: app }\n";
            // Some name a second upstream.
            let frame = if block.text.contains("upstream: spare") {
                let more = "app: { targets: [{ url: \"http://127.0.0.1:3000\" }] }, spare: ";
                FRAME.replace("app: ", more)
            } else {
                FRAME.to_owned()
            };
            format!("{frame}{spare}{}", block.text)
        } else {
            block.text.clone()
        };
        let checked = with_config(&whole, &["check", "--deny-warnings"]);
        assert_eq!(checked.code, 0, "{whole}\n{}", checked.stderr);
        loaded += 1;
    }
    assert!(loaded >= 5, "{loaded} configs");
}

#[test]
fn a_wrong_config_is_reported_as_shown() {
    let blocks = blocks();
    let at = blocks
        .iter()
        .position(|block| block.kind == "yaml wrong")
        .unwrap();
    let [wrong, shown] = &blocks[at..at + 2] else {
        panic!("nothing is shown of the wrong config");
    };
    let checked = with_config(&wrong.text, &["check"]);
    assert_eq!(checked.code, 78);
    let shown = shown.text.strip_prefix("$ doorward check\n").unwrap();
    assert_eq!(checked.stderr.trim(), shown.trim());
}

#[test]
fn what_is_explained_and_tested_is_printed_as_shown() {
    let blocks = blocks();
    let is_tested = |block: &Block| block.kind == "yaml" && block.text.contains("\ntests:");
    let at = blocks.iter().position(is_tested).unwrap();
    let [config, shown] = &blocks[at..at + 2] else {
        panic!("nothing is shown of the tested config");
    };
    let commands: Vec<&str> = shown.text.split("$ doorward ").skip(1).collect();
    assert!(commands.len() >= 4, "{}", shown.text);
    for command in commands {
        let (line, expected) = command.split_once('\n').unwrap();
        let arguments: Vec<&str> = line.split(' ').collect();
        let output = with_config(&config.text, &arguments);
        assert_eq!(output.code, 0, "{line}: {}", output.stderr);
        assert_eq!(output.stdout, expected, "{line}");
    }
}

/// The words of a line as a shell reads them, with a token of the examples' issuer for `$TOKEN`.
fn words(line: &str) -> Vec<String> {
    let with = json!({ "aud": "shop", "scope": "profile" });
    let claims = tokens::claims("https://id.example.com", &with);
    let token = tokens::signer_of_the_examples().token(&claims);
    let mut words = Vec::new();
    for (at, part) in line.split('"').enumerate() {
        match at % 2 {
            0 => words.extend(part.split_ascii_whitespace().map(str::to_owned)),
            _ => words.push(part.replace("$TOKEN", &token)),
        }
    }
    words
}

#[test]
fn what_is_explained_of_callers_is_printed_as_shown() {
    let blocks = blocks();
    let asks = |block: &Block| block.text.contains("$TOKEN");
    let at = blocks.iter().position(asks).unwrap();
    let [config, shown] = &blocks[at - 1..=at] else {
        panic!("nothing is shown of the config");
    };
    for command in shown.text.split("$ doorward ").skip(1) {
        let (line, expected) = command.split_once('\n').unwrap();
        let arguments = words(line);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let output = with_config(&config.text, &arguments);
        assert_eq!(output.stdout, expected, "{line}\n{}", output.stderr);
    }
}

/// Whether `output` is `expected`, where `…` stands for anything.
fn is_like(output: &str, expected: &str) -> bool {
    let mut pieces = expected.split('…');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = output.strip_prefix(first) else {
        return false;
    };
    let mut pieces = pieces.peekable();
    while let Some(piece) = pieces.next() {
        let found = if pieces.peek().is_none() && rest.ends_with(piece) {
            Some(rest.len() - piece.len())
        } else {
            rest.find(piece)
        };
        let Some(at) = found else { return false };
        rest = rest.get(at + piece.len()..).unwrap_or_default();
    }
    rest.is_empty()
}

#[test]
fn a_dash_stands_for_anything_and_nothing_else_does() {
    assert!(is_like("a 1 b 2", "a … b …") && is_like("a", "a") && is_like("ab", "a…b"));
    assert!(!is_like("a 1 b", "a … c") && !is_like("a b", "a") && !is_like("a", "b…"));
}

/// Every `$ curl` line of README with what stands under it.
fn curl_lines() -> Vec<(String, String)> {
    let mut lines: Vec<(String, String)> = Vec::new();
    for block in blocks().iter().filter(|block| block.kind == "console") {
        for line in block.text.lines() {
            match (line.strip_prefix("$ "), lines.last_mut()) {
                (Some(command), _) => lines.push((command.to_owned(), String::new())),
                (None, Some((_, output))) => *output += &format!("{line}\n"),
                (None, None) => panic!("`{line}` belongs to no command"),
            }
        }
    }
    lines.retain(|(command, _)| command.starts_with("curl "));
    lines
}

#[test]
fn the_demo_prints_what_readme_says() {
    debian("curl", "curl");
    let mut command = Command::new(env!("CARGO_BIN_EXE_doorward"));
    let demo = Process::start(command.args(["demo", "--listen", "127.0.0.1:0"]));
    let address = demo.wait_line("its address", |line| {
        Some(line.strip_prefix("listening on public http://")?.to_owned())
    });
    let lines = curl_lines();
    assert!(lines.len() >= 8, "{} lines", lines.len());
    for (line, expected) in lines {
        let mut shell = Command::new("sh");
        let output = run(
            shell
                .arg("-c")
                .arg(line.replace("127.0.0.1:8080", &address)),
            DEADLINE,
        );
        assert_eq!(output.code, 0, "{line}: {}", output.stderr);
        let printed = output.stdout.replace('\r', "");
        let alike = is_like(printed.trim_end(), expected.trim_end());
        assert!(alike, "{line}\nprints\n{printed}\nREADME says\n{expected}");
    }
}

#[test]
fn every_address_of_the_demo_is_served() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_doorward"));
    let demo = Process::start(command.args(["demo", "--listen", "127.0.0.1:0"]));
    // The greeting is the last line before requests.
    demo.wait_log("Ctrl-C ends it");
    let log = demo.log();
    let greeted: Vec<&str> = log
        .lines()
        .filter_map(|line| line.trim().strip_prefix("curl "))
        .collect();
    assert!(greeted.len() >= 5, "{log}");
    for line in greeted {
        let url = line.trim_start_matches("-i ");
        let (address, path) = url
            .strip_prefix("http://")
            .unwrap()
            .split_once('/')
            .unwrap();
        let answer = super::support::get(address.parse().unwrap(), &format!("/{path}"), address);
        let expected = match path {
            "nothing-here" => 404,
            path if path.starts_with("old/") => 308,
            _ => 200,
        };
        assert_eq!(answer.status, expected, "{line}");
    }
}

#[test]
fn every_fault_is_in_the_table() {
    let readme = read("README.md");
    let rows: Vec<&str> = readme
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    for fault in Fault::all() {
        let meaning = fault.meaning();
        let (status, proxy) = (meaning.status.as_u16(), meaning.proxy_status);
        let row = format!(
            "| `{}` | {status} | {} | {} | `{proxy}` |",
            meaning.code, meaning.detail, meaning.grpc
        );
        assert!(rows.contains(&row.as_str()), "README.md has no row\n{row}");
    }
}

#[test]
fn every_command_is_described() {
    let readme = read("README.md");
    let help = with_config("", &["--help"]).stdout;
    let verbs = help
        .split_once("Commands:\n")
        .unwrap()
        .1
        .split_once("\n\n")
        .unwrap()
        .0;
    let mut count = 0;
    // A long help goes on in the next line, further in.
    let lines = verbs.lines().filter(|line| !line.starts_with("   "));
    for verb in lines.filter_map(|line| line.split_whitespace().next()) {
        assert!(
            readme.contains(&format!("`doorward {verb}")),
            "`doorward {verb}`"
        );
        count += 1;
    }
    assert_eq!(count, 18, "{verbs}");
}

#[test]
fn the_schema_is_that_of_this_version() {
    let schema = with_config("", &["config", "schema"]).stdout;
    let shipped = read("conf/schema.json");
    assert!(
        schema == shipped,
        "run `doorward config schema > conf/schema.json`"
    );
}

#[test]
fn the_architecture_names_every_diagnostic() {
    let architecture = read("src/ARCHITECTURE.md");
    for (code, rule) in CODES {
        let row = format!("| `{code}` | {rule} |");
        assert!(
            architecture.contains(&row),
            "src/ARCHITECTURE.md has no row\n{row}"
        );
    }
}
