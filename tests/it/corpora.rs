//! What the fuzz targets began with and found, asked the same questions again.
#![expect(
    clippy::unwrap_used,
    reason = "a test stops at the first thing that is not as expected"
)]

#[path = "../fuzz/invariants.rs"]
mod invariants;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use invariants::TARGETS;

fn data(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)
}

/// The contents of every file of a folder, by name.
fn files(folder: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(data(folder)).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.retain(|path| path.is_file());
    let read = paths.into_iter().map(|path| {
        let bytes = fs::read(&path).unwrap();
        (path, bytes)
    });
    read.collect()
}

/// Asks about every file; the one that broke a rule is named.
fn replay(files: Vec<(PathBuf, Vec<u8>)>, target: fn(&[u8])) {
    for (path, bytes) in files {
        let asked = std::panic::catch_unwind(|| target(&bytes));
        assert!(asked.is_ok(), "{} breaks the rule above", path.display());
    }
}

#[test]
fn every_corpus_holds_the_rules_of_its_target() {
    for (name, target) in TARGETS {
        let found = files(&format!("tests/data/fuzz/{name}"));
        assert!(found.len() >= 10, "{name}: {} files", found.len());
        replay(found, target);
    }
}

#[test]
fn every_config_of_the_tests_and_examples_holds_the_rules_of_configs() {
    for folder in ["tests/data/problems", "conf/examples", "conf"] {
        replay(files(folder), invariants::config);
    }
}

#[test]
fn every_target_is_built_and_run() {
    let known: BTreeSet<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    let manifest = fs::read(data("tests/fuzz/Cargo.toml")).unwrap();
    let manifest = String::from_utf8(manifest).unwrap();
    let built = manifest.split("[[bin]]\nname = \"").skip(1);
    let built: BTreeSet<&str> = built.filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(built, known);
    for script in ["tests/fuzz.sh", "tests/fuzz/instrument.sh"] {
        let text = String::from_utf8(fs::read(data(script)).unwrap()).unwrap();
        for name in &known {
            assert!(text.contains(name), "{script}: {name}");
        }
    }
}
