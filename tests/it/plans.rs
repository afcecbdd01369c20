//! What each shipped config means: its effective form, with everything that was left out.
#![expect(
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not as expected"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use doorward::config::source::Environment;
use doorward::{config, plan};

fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "yaml"))
        .collect();
    files.sort();
    files
}

/// What the examples ask of the environment.
fn environment(credentials: &Path) -> Environment {
    let variables = [
        ("APP_ADDRESS", "127.0.0.1:3001"),
        ("APP_API_KEY", "canary-api-key"),
        ("CLIENT_SECRET", "canary-client"),
        ("STICKY_SECRET", "canary-sticky-0123456789"),
        ("PRICES_PASSWORD", "canary-password"),
        ("SEARCH_KEY", "canary-search"),
        ("AWS_KEY", "canary-aws"),
        ("CREDENTIALS_DIRECTORY", credentials.to_str().unwrap()),
    ];
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    Environment::Fixed(BTreeMap::from_iter(variables.map(owned)))
}

/// A copy of the shipped configs with the secrets that they ask for beside them.
fn copy() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for path in files("conf").into_iter().chain(files("conf/examples")) {
        std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/examples/files");
    std::fs::create_dir_all(dir.path().join("files")).unwrap();
    for entry in std::fs::read_dir(beside).into_iter().flatten() {
        let path = entry.unwrap().path();
        std::fs::copy(
            &path,
            dir.path().join("files").join(path.file_name().unwrap()),
        )
        .unwrap();
    }
    for secret in ["app.key", "app-token"] {
        std::fs::write(dir.path().join(secret), "canary-in-a-file\n").unwrap();
    }
    dir
}

#[test]
fn every_shipped_config_means_what_it_did() {
    let dir = copy();
    let environment = environment(dir.path());
    for path in files("conf").into_iter().chain(files("conf/examples")) {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let copied = dir.path().join(path.file_name().unwrap());
        let mut loaded = config::load(&copied, &environment);
        let mut problems = std::mem::take(&mut loaded.problems);
        assert!(
            plan::compile(&loaded.document, "test", &mut problems).is_some(),
            "{name}: {:#?}",
            problems.list()
        );
        assert!(problems.is_empty(), "{name}: {:#?}", problems.list());
        let shown = serde_yaml::to_string(&config::show(&loaded)).unwrap();
        assert!(!shown.contains("canary"), "{name}: {shown}");
        insta::with_settings!({ omit_expression => true, snapshot_suffix => name }, {
            insta::assert_snapshot!("shown", shown);
        });
        // What is shown is a config, and the same one.
        let again = dir.path().join("shown-again.yaml");
        std::fs::write(&again, &shown).unwrap();
        let mut loaded = config::load(&again, &environment);
        let mut problems = std::mem::take(&mut loaded.problems);
        assert!(
            plan::compile(&loaded.document, "test", &mut problems).is_some(),
            "{name}: {:#?}",
            problems.list()
        );
        assert_eq!(
            serde_yaml::to_string(&config::show(&loaded)).unwrap(),
            shown,
            "{name}"
        );
    }
}
