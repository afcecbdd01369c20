//! The files a config refers to: which they are, and what tells two versions of one apart.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json, json};
use sha2::{Digest as _, Sha256};

use super::Loaded;
use crate::base::problem::{Place, Step};

/// Under this key the files stand beside the effective config.
pub(super) const KEY: &str = "files";

/// A file that something in the config names.
#[derive(Debug)]
pub(super) struct Referenced {
    /// What names it.
    pub(super) place: Place,
    /// As it is written.
    pub(super) name: String,
    /// Where it is.
    pub(super) path: PathBuf,
    /// What tells this version from another.
    pub(super) version: Version,
}

/// What tells two versions of a file apart.
#[derive(Debug)]
pub(super) enum Version {
    /// What it holds, as a digest.
    Content(String),
    /// When it was written, and which file it is: it holds a secret, which a digest would help to guess.
    Written(String),
}

impl Version {
    /// Of a file that holds no secret.
    pub(super) fn of(content: &[u8]) -> Self {
        let digest = Sha256::digest(content);
        Self::Content(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Of a file that holds a secret.
    pub(super) fn of_secret(path: &Path) -> Self {
        let written = std::fs::metadata(path).map_or_else(
            |_| "never".to_owned(),
            |file| format!("{}.{:09}/{}", file.mtime(), file.mtime_nsec(), file.ino()),
        );
        Self::Written(written)
    }
}

impl Loaded {
    /// Every file that takes part in the config, there or not: of the config itself, of its `conf.d`, and what they name.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        let sources = self.sources.iter().map(|source| source.path.clone());
        let named = self.referenced.iter().map(|file| file.path.clone());
        sources.chain(named).collect()
    }
}

/// The versions of the files that `loaded` names, by the key that names them.
pub(super) fn shown(loaded: &Loaded) -> Json {
    let files = loaded.referenced.iter().map(|file| {
        let shown = match &file.version {
            Version::Content(digest) => json!({ "file": file.name, "sha256": digest }),
            Version::Written(when) => json!({ "file": file.name, "written": when }),
        };
        (key(loaded, &file.place), shown)
    });
    Json::Object(files.collect::<Map<_, _>>())
}

/// The place as the difference names it: routes go by their names.
fn key(loaded: &Loaded, place: &Place) -> String {
    let mut words = Vec::new();
    let mut before = Place::root();
    for step in place.steps() {
        before = before.with(step.clone());
        words.push(match step {
            Step::Key(key) => key.clone(),
            Step::Index(index) => {
                let mut routes = loaded.document.routes.iter();
                let route = routes.find(|route| route.place == before);
                route.map_or_else(|| index.to_string(), |route| route.name.clone())
            }
        });
    }
    words.join(".")
}
