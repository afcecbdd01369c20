//! Documents as files of a folder: whoever reads one sees all of a writing or nothing of it, also after a crash.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Error, ErrorKind, Read as _, Result, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;

use super::{DOCUMENT_BYTES_MAX, Unwritten, Version};
use crate::base::digest::Digest;

/// How often somebody tries to write while another process does, and how long it waits between: two seconds in all.
const TRIES_MAX: u32 = 100;
const TRY_AGAIN: Duration = Duration::from_millis(20);

/// What tells one version of a file from the next; none = it is missing.
pub(super) type Mark = Option<(i64, i64, u64, u64)>;

/// A folder of documents.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Nothing is touched before it is used.
    pub(super) const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    fn file(&self, document: &str) -> PathBuf {
        self.path.join(format!("{document}.json"))
    }

    /// The document, where its file is not what it was.
    pub(super) fn look(
        &self,
        document: &str,
        known: Option<Mark>,
    ) -> Result<Option<(Mark, Option<Bytes>)>> {
        let file = self.file(document);
        // Before it is read: a file that changes meanwhile is read again.
        let mark = mark(&file)?;
        if known == Some(mark) {
            return Ok(None);
        }
        Ok(Some((mark, read(&file)?.map(Bytes::from))))
    }

    /// Writes the document, if it is still `expected`: another file first, which then takes its place.
    pub(super) fn write(
        &self,
        document: &str,
        expected: Version,
        bytes: &[u8],
    ) -> std::result::Result<(), Unwritten> {
        let failed = |error: Error| Unwritten::Failed(error.to_string());
        let _turn = self.turn(document).map_err(failed)?;
        let file = self.file(document);
        let there = read(&file).map_err(failed)?;
        if there.as_deref().map(Digest::of) != expected {
            return Err(Unwritten::Outrun);
        }
        let new = self.path.join(format!("{document}.json.new"));
        put(&new, &file, bytes)
            .and_then(|()| File::open(&self.path)?.sync_all())
            .map_err(failed)
    }

    /// One writer after the other, also of several processes. Whoever dies lets go.
    fn turn(&self, document: &str) -> Result<File> {
        let mut folder = DirBuilder::new();
        folder.recursive(true).mode(0o700).create(&self.path)?;
        let lock = self.path.join(format!("{document}.lock"));
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let lock = options.open(lock)?;
        for _ in 0..TRIES_MAX {
            match lock.try_lock() {
                Ok(()) => return Ok(lock),
                Err(TryLockError::WouldBlock) => std::thread::sleep(TRY_AGAIN),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Err(Error::new(ErrorKind::TimedOut, "another process writes"))
    }
}

fn mark(file: &Path) -> Result<Mark> {
    match std::fs::metadata(file) {
        Ok(it) => Ok(Some((it.mtime(), it.mtime_nsec(), it.size(), it.ino()))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn read(file: &Path) -> Result<Option<Vec<u8>>> {
    let opened = match File::open(file) {
        Ok(opened) => opened,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    let most = u64::try_from(DOCUMENT_BYTES_MAX).unwrap_or(u64::MAX);
    opened
        .take(most.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if bytes.len() > DOCUMENT_BYTES_MAX {
        return Err(Error::new(ErrorKind::InvalidData, "it is too long"));
    }
    Ok(Some(bytes))
}

/// Writes `new`, down to the disk, and puts it in the place of `file`.
fn put(new: &Path, file: &Path, bytes: &[u8]) -> Result<()> {
    // What a crash left behind is no part of anything.
    match std::fs::remove_file(new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut options = OpenOptions::new();
    let mut written = options.write(true).create_new(true).mode(0o600).open(new)?;
    written.write_all(bytes)?;
    written.sync_all()?;
    std::fs::rename(new, file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn version(bytes: &[u8]) -> Version {
        Some(Digest::of(bytes))
    }

    #[test]
    fn a_document_is_written_whole_and_for_nobody_else() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/state");
        let folder = Folder::new(path.clone());
        let (mark, nothing) = folder.look("keys", None).unwrap().unwrap();
        assert_eq!((mark, nothing), (None, None));
        folder.write("keys", None, b"one").unwrap();
        let (mark, bytes) = folder.look("keys", Some(mark)).unwrap().unwrap();
        assert_eq!(bytes.unwrap(), "one");
        assert!(folder.look("keys", Some(mark)).unwrap().is_none());
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&path.join("keys.json")), 0o600);
        // What is left of a writing that a crash ended changes nothing.
        std::fs::write(path.join("keys.json.new"), "ha").unwrap();
        assert!(folder.look("keys", Some(mark)).unwrap().is_none());
        folder.write("keys", version(b"one"), b"two").unwrap();
        assert_eq!(std::fs::read(path.join("keys.json")).unwrap(), b"two");
    }

    #[test]
    fn whoever_is_late_changes_nothing() {
        let parent = tempfile::tempdir().unwrap();
        let folder = Folder::new(parent.path().to_owned());
        folder.write("keys", None, b"one").unwrap();
        for expected in [None, version(b"two")] {
            let late = folder.write("keys", expected, b"three");
            assert_eq!(late, Err(Unwritten::Outrun));
        }
        assert_eq!(
            std::fs::read(parent.path().join("keys.json")).unwrap(),
            b"one"
        );
    }

    #[test]
    fn of_many_writers_each_counts_once() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().to_owned();
        let writers: Vec<_> = (0..4)
            .map(|_| {
                let folder = Folder::new(path.clone());
                std::thread::spawn(move || {
                    for _ in 0..25 {
                        loop {
                            let (_, there) = folder.look("n", None).unwrap().unwrap();
                            let number = there.as_ref().map_or(0, Bytes::len);
                            let expected = there.as_deref().map(Digest::of);
                            let next = vec![b'x'; number + 1];
                            match folder.write("n", expected, &next) {
                                Ok(()) => break,
                                Err(Unwritten::Outrun) => {}
                                Err(error) => panic!("{error}"),
                            }
                        }
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.join().unwrap();
        }
        assert_eq!(std::fs::read(path.join("n.json")).unwrap().len(), 100);
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let parent = tempfile::tempdir().unwrap();
        let file = parent.path().join("file");
        std::fs::write(&file, "").unwrap();
        let folder = Folder::new(file);
        folder.look("keys", None).unwrap_err();
        let failed = folder.write("keys", None, b"one");
        assert!(matches!(failed, Err(Unwritten::Failed(_))), "{failed:?}");
    }
}
