//! The law of the house as a test: layers, sizes, module docs, examples, dependencies. It links nothing of the gateway.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::string_slice,
    clippy::disallowed_methods,
    reason = "a test stops at the first thing that is not as expected"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Who may import whom: a module imports only from lower layers. `src/ARCHITECTURE.md` quotes this table.
const LAYERS: &[(&str, u8)] = &[
    ("base", 0),
    ("compress", 1),
    ("expr", 1),
    ("shape", 1),
    ("store", 1),
    ("tls", 1),
    ("router", 2),
    ("upstream", 2),
    ("exchange", 3),
    ("link", 3),
    ("call", 4),
    ("telemetry", 4),
    ("policy", 5),
    ("config", 6),
    ("plan", 7),
    ("flow", 8),
    ("gateway", 9),
    ("admin", 10),
    ("server", 11),
    ("cli", 12),
];

/// Longest file, without its tests.
const FILE_LINES_MAX: usize = 500;
/// Longest function.
const FUNCTION_LINES_MAX: usize = 70;

/// The packages of the design card, and the module that uses each.
const CARD: &[(&str, &str)] = &[
    ("pingora", "pingora::"),
    ("pingora-proxy", "pingora_proxy::"),
    ("pingora-load-balancing", "pingora_load_balancing::"),
    ("pingora-limits", "pingora_limits::"),
    ("pingora-cache", "pingora_cache::"),
    ("async-trait", "async_trait"),
    ("serde_yaml", "serde_yaml::"),
    ("jsonwebtoken", "jsonwebtoken::"),
    ("prometheus", "prometheus::"),
    ("log", "log::"),
];

struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    fn name(&self) -> String {
        self.path
            .strip_prefix(root())
            .unwrap()
            .display()
            .to_string()
    }

    /// The code before the tests, without comments and texts.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate();
        lines
            .take_while(|(_, line)| !line.starts_with("#[cfg(test)]") || !self.tests_follow())
            .map(|(at, line)| (at + 1, line))
    }

    fn tests_follow(&self) -> bool {
        self.text.contains("#[cfg(test)]\nmod tests {")
    }

    fn is_test(&self) -> bool {
        let name = self.name();
        name.starts_with("tests/") || name.ends_with("/tests.rs") || name.contains("/tests/")
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn walk(folder: &str, ending: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for path in entries.map(|entry| entry.unwrap().path()) {
            if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == ending) {
                let text = fs::read_to_string(&path).unwrap();
                found.push(Source { path, text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn report(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

fn layer(module: &str) -> Option<u8> {
    LAYERS
        .iter()
        .find(|(name, _)| *name == module)
        .map(|(_, layer)| *layer)
}

#[test]
fn modules_import_only_from_lower_layers() {
    let mut wrong = Vec::new();
    for source in walk("src", "rs") {
        let name = source.name();
        let Some(own) = name
            .strip_prefix("src/")
            .and_then(|rest| rest.split_once('/'))
        else {
            continue;
        };
        let Some(own_layer) = layer(own.0) else {
            wrong.push(format!("{name}: `{}` has no layer", own.0));
            continue;
        };
        for (at, line) in source.text.lines().enumerate() {
            if line.trim_start().starts_with("//") {
                continue;
            }
            for import in line.split("crate::").skip(1) {
                let module: String = import
                    .chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect();
                let allowed =
                    module == own.0 || layer(&module).is_none_or(|layer| layer < own_layer);
                if !allowed {
                    wrong.push(format!("{name}:{}: `{}` imports `{module}`", at + 1, own.0));
                }
            }
        }
    }
    report("imports against the layers", &wrong);
}

#[test]
fn only_the_gateway_sees_pingoras_session() {
    let outside = |source: &Source| !source.name().starts_with("src/gateway/");
    let uses = |source: &Source| source.text.contains("pingora_proxy::");
    let found: Vec<String> = walk("src", "rs")
        .iter()
        .filter(|s| outside(s) && uses(s))
        .map(Source::name)
        .collect();
    report("`pingora_proxy` outside `gateway`", &found);
}

/// What a request passes to get its target: nobody there waits for anybody.
const PICKING: [&str; 4] = [
    "src/upstream/balance/",
    "src/upstream/choosing.rs",
    "src/upstream/ready.rs",
    "src/upstream/tiers.rs",
];

#[test]
fn a_pick_takes_no_lock() {
    let sources = walk("src/upstream", "rs");
    let mut wrong = Vec::new();
    for place in PICKING {
        let of_it = |source: &&Source| source.name().starts_with(place) && !source.is_test();
        let mut found = sources.iter().filter(of_it).peekable();
        assert!(found.peek().is_some(), "{place} is not there");
        for source in found {
            let locks = |line: &str| {
                ["Mutex", "RwLock", ".lock("]
                    .iter()
                    .any(|it| line.contains(it))
            };
            let lines = source.code().filter(|(_, line)| locks(line));
            wrong.extend(lines.map(|(at, line)| format!("{}:{at}: {line}", source.name())));
        }
    }
    report("locks on the way to a target", &wrong);
}

#[test]
fn every_file_opens_with_one_sentence() {
    let mut wrong = Vec::new();
    for source in ["src", "tests", "bench"]
        .into_iter()
        .flat_map(|folder| walk(folder, "rs"))
    {
        let first = source.text.lines().next().unwrap_or_default();
        if !first.starts_with("//! ") && !first.starts_with("#![doc") {
            wrong.push(source.name());
        }
    }
    report("files without a `//!` sentence", &wrong);
}

#[test]
fn files_and_functions_stay_small() {
    let mut wrong = Vec::new();
    for source in walk("src", "rs").iter().filter(|source| !source.is_test()) {
        let lines: Vec<(usize, &str)> = source.code().collect();
        if lines.len() > FILE_LINES_MAX {
            wrong.push(format!("{}: {} lines", source.name(), lines.len()));
        }
        for (index, (at, line)) in lines.iter().enumerate() {
            let trimmed = line.trim_start();
            let indent = &line[..line.len() - trimmed.len()];
            let is_function = [
                "fn ",
                "pub fn ",
                "async fn ",
                "pub async fn ",
                "const fn ",
                "pub const fn ",
            ]
            .iter()
            .any(|start| trimmed.starts_with(start))
                || (trimmed.starts_with("pub(") && trimmed.contains(" fn "));
            if !is_function || line.ends_with(';') || line.ends_with('}') {
                continue;
            }
            let end = lines[index..]
                .iter()
                .position(|(_, line)| *line == format!("{indent}}}"));
            let length = end.map_or(0, |end| end + 1);
            if length > FUNCTION_LINES_MAX {
                wrong.push(format!(
                    "{}:{at}: a function of {length} lines",
                    source.name()
                ));
            }
        }
    }
    report("too long", &wrong);
}

#[test]
fn there_is_no_unsafe_and_nothing_left_to_do() {
    assert!(read("Cargo.toml").contains("unsafe_code = \"forbid\""));
    // Put together here, so that this file is held to it too.
    let words = [
        ["TO", "DO"].concat(),
        ["to", "do!("].concat(),
        ["db", "g!("].concat(),
    ];
    let mut wrong = Vec::new();
    for source in ["src", "tests", "bench", "conf"]
        .into_iter()
        .flat_map(|folder| {
            ["rs", "yaml", "sh"]
                .into_iter()
                .flat_map(move |ending| walk(folder, ending))
        })
    {
        for (at, line) in source.text.lines().enumerate() {
            let unfinished = words.iter().any(|word| line.contains(word));
            let space = line.ends_with(' ') || line.contains('\t');
            let data = source.name().starts_with("tests/data/");
            if unfinished || (space && !data) {
                wrong.push(format!("{}:{}", source.name(), at + 1));
            }
        }
    }
    report("unfinished, or with tabs or trailing spaces", &wrong);
}

#[test]
fn every_policy_has_an_example() {
    let policies: BTreeSet<String> = fs::read_dir(root().join("src/policy"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .map(|path| path.file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    let missing: Vec<String> = policies
        .into_iter()
        .filter(|policy| !root().join(format!("conf/examples/{policy}.yaml")).exists())
        .collect();
    report("policies without conf/examples/NAME.yaml", &missing);
}

#[test]
fn the_documents_name_every_module_and_metric() {
    let architecture = read("src/ARCHITECTURE.md");
    let mut missing: Vec<String> = LAYERS
        .iter()
        .filter(|(module, _)| !architecture.contains(&format!("`{module}`")))
        .map(|(module, _)| format!("src/ARCHITECTURE.md: module `{module}`"))
        .collect();
    let readme = read("README.md");
    for source in walk("src/telemetry", "rs") {
        let names = source.text.split('"').filter(|text| {
            ["http_", "doorward_", "process_"]
                .iter()
                .any(|start| text.starts_with(start))
        });
        missing.extend(
            names
                .filter(|name| !readme.contains(*name))
                .map(|name| format!("README.md: metric `{name}`")),
        );
    }
    report("not documented", &missing);
}

#[test]
fn every_dependency_says_what_it_is_for() {
    let manifest = read("Cargo.toml");
    let mut inside = false;
    let mut wrong = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.contains("dependencies]");
        } else if inside && line.contains(" = ") && !line.starts_with('#') && !line.contains(" # ")
        {
            wrong.push(line.to_owned());
        }
    }
    report("dependencies without a word on what for", &wrong);
}

#[test]
fn the_cards_packages_are_used() {
    let manifest = read("Cargo.toml");
    let sources = walk("src", "rs");
    let mut missing = Vec::new();
    for (package, import) in CARD {
        if !manifest
            .lines()
            .any(|line| line.starts_with(&format!("{package} = ")))
        {
            missing.push(format!("{package}: not in Cargo.toml"));
        }
        let used = |source: &Source| {
            source
                .code()
                .any(|(_, line)| line.contains(import) && !line.trim_start().starts_with("//"))
        };
        if !sources.iter().any(used) {
            missing.push(format!("{package}: not used"));
        }
    }
    report("packages of the design card", &missing);
}
