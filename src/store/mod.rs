//! Documents that outlive the process, each written as a whole: in a folder of this machine, or in a Redis.

mod folder;
mod remote;
mod spec;

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use folder::{Folder, Mark};
use remote::Redis;
pub use spec::{FileSpec, RedisSpec, StoreSpec};

use crate::base::digest::Digest;

/// The longest document: twice what the largest that anybody keeps here comes to.
pub const DOCUMENT_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What tells one writing of a document from the next: its digest; none = it was never written.
pub type Version = Option<Digest>;

/// A document cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(pub String);

/// A document was not written; the one before it is still there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unwritten {
    /// It is another one than whoever writes thinks.
    #[error("somebody else wrote it meanwhile")]
    Outrun,
    /// It cannot be.
    #[error("{0}")]
    Failed(String),
}

/// A place for documents.
#[derive(Debug)]
pub struct Store {
    name: Arc<str>,
    kind: Kind,
}

#[derive(Debug, PartialEq)]
enum Kind {
    Folder(Arc<Folder>),
    Redis(Box<Redis>),
}

/// What a reader has seen of a document.
#[derive(Debug, Default)]
pub struct Seen {
    mark: Option<Mark>,
    version: Option<Version>,
}

/// A document as it is now.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Which writing of it.
    pub version: Version,
    /// What was written; none = nothing yet.
    pub bytes: Option<Bytes>,
}

impl Store {
    /// The store `name` in the folder `path`.
    #[must_use]
    pub fn folder(name: &str, path: PathBuf) -> Self {
        Self {
            name: name.into(),
            kind: Kind::Folder(Arc::new(Folder::new(path))),
        }
    }

    /// The store `name` in a Redis.
    ///
    /// # Errors
    /// What is wrong with its URL, and how to mend it.
    pub fn redis(name: &str, spec: &RedisSpec) -> Result<Self, (String, &'static str)> {
        Ok(Self {
            name: name.into(),
            kind: Kind::Redis(Box::new(Redis::new(spec)?)),
        })
    }

    /// Its name in the config.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Whether documents of `other` are the same.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.kind == other.kind
    }

    /// The document, where it is not what `seen` says any more.
    ///
    /// # Errors
    /// It cannot be read.
    pub async fn look(
        &self,
        document: &'static str,
        seen: &mut Seen,
    ) -> Result<Option<Stored>, Unreadable> {
        let folder = match &self.kind {
            Kind::Folder(folder) => Arc::clone(folder),
            Kind::Redis(redis) => {
                let stored = redis.look(document, seen.version).await?;
                if let Some(stored) = &stored {
                    seen.version = Some(stored.version);
                }
                return Ok(stored);
            }
        };
        let known = seen.mark;
        let looked = tokio::task::spawn_blocking(move || folder.look(document, known)).await;
        let looked = looked.map_err(|error| Unreadable(error.to_string()))?;
        let looked = looked.map_err(|error| Unreadable(error.to_string()))?;
        Ok(looked.map(|(mark, bytes)| {
            seen.mark = Some(mark);
            Stored::new(bytes)
        }))
    }

    /// Writes the document, if it is still `expected`.
    ///
    /// # Errors
    /// It is another one by now, or cannot be written; then the old one stays.
    pub async fn write(
        &self,
        document: &'static str,
        expected: Version,
        bytes: Bytes,
    ) -> Result<(), Unwritten> {
        if bytes.len() > DOCUMENT_BYTES_MAX {
            return Err(Unwritten::Failed("the document is too long".to_owned()));
        }
        let folder = match &self.kind {
            Kind::Folder(folder) => Arc::clone(folder),
            Kind::Redis(redis) => return redis.write(document, expected, &bytes).await,
        };
        let write = move || folder.write(document, expected, &bytes);
        let written = tokio::task::spawn_blocking(write).await;
        written.unwrap_or_else(|error| Err(Unwritten::Failed(error.to_string())))
    }
}

impl Stored {
    fn new(bytes: Option<Bytes>) -> Self {
        Self {
            version: bytes.as_deref().map(Digest::of),
            bytes,
        }
    }
}
