//! The files of the config, watched: when one changes, the config is loaded again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::base::control::{Control, Tests};

/// How long it has to be quiet before the files are read: editors and deployments write several in a row.
const QUIET: Duration = Duration::from_millis(200);
/// How long one waits for that: a file that is written again and again is read in between.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many folders are watched: each takes memory of the kernel's, and a config of more is a mistake.
const FOLDERS_MAX: usize = 1_000;
/// How many links one path may go through; the kernel's own limit.
const LINKS_MAX: usize = 40;
/// The folder beside the config whose files belong to it.
const CONF_D: &str = "conf.d";

/// The names to look for, by the folder they stand in.
type Wanted = BTreeMap<PathBuf, BTreeSet<OsString>>;

/// Watches the folders of files. Links are followed: each name on the way may be turned to another file.
pub struct FileWatch {
    watcher: Mutex<RecommendedWatcher>,
    wanted: Arc<Mutex<Wanted>>,
    changed: Arc<Notify>,
}

impl FileWatch {
    /// Watches nothing yet.
    ///
    /// # Errors
    /// The kernel has no more watches.
    pub fn new() -> Result<Self, notify::Error> {
        let wanted = Arc::<Mutex<Wanted>>::default();
        let changed = Arc::<Notify>::default();
        let (looked_for, hears) = (Arc::clone(&wanted), Arc::clone(&changed));
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let wanted = looked_for.lock().unwrap_or_else(PoisonError::into_inner);
            // What could not be read may have been about our files.
            if event.is_ok_and(|event| !concerns(&event, &wanted)) {
                return;
            }
            hears.notify_one();
        })?;
        Ok(Self {
            watcher: Mutex::new(watcher),
            wanted,
            changed,
        })
    }

    /// Watches `paths`, whether they are there or not, and the `conf.d` beside the first; nothing else any more. `true`:
    /// a folder is new, so what was read there may have changed before anybody looked.
    #[must_use]
    pub fn follow(&self, paths: &[PathBuf]) -> bool {
        let mut wanted = Wanted::new();
        let beside = |name: &str| paths.first().map(|config| config.with_file_name(name));
        let base = paths.first().and_then(|config| config.parent());
        let base = base.and_then(|folder| std::path::absolute(folder).ok());
        for path in paths {
            names(path, base.as_deref(), &mut wanted);
        }
        for path in [beside(CONF_D), beside(&format!("{CONF_D}/*"))] {
            names(&path.unwrap_or_default(), base.as_deref(), &mut wanted);
        }
        while wanted.len() > FOLDERS_MAX {
            let left_out = wanted.pop_last().map(|(folder, _)| folder);
            log::warn!(folder:? = left_out; "too many folders to watch: a change there is not noticed");
        }
        let before = {
            let mut before = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *before, wanted.clone())
        };
        let mut watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner);
        for folder in before.keys().filter(|known| !wanted.contains_key(*known)) {
            // It may be gone, and its watch with it.
            drop(watcher.unwatch(folder));
        }
        for folder in wanted.keys() {
            // Again also where it is watched already: it may be another folder of the same name.
            if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
                log::warn!(folder:% = folder.display(), error:% = error; "cannot watch: a change there is not noticed");
            }
        }
        !wanted.keys().all(|folder| before.contains_key(folder))
    }

    /// Loads the config again each time a file has changed.
    pub async fn reload(&self, control: Arc<dyn Control>) {
        loop {
            self.changed.notified().await;
            let patience = Instant::now() + PATIENCE;
            while Instant::now() < patience && timeout(QUIET, self.changed.notified()).await.is_ok()
            {
            }
            log::info!("a file of the config changed");
            drop(control.reload(Tests::Skip).await);
        }
    }
}

impl std::fmt::Debug for FileWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileWatch").finish_non_exhaustive()
    }
}

/// Whether something was written or turned to another file that the config is made of.
fn concerns(event: &Event, wanted: &Wanted) -> bool {
    if event.need_rescan() {
        return true;
    }
    // That we read them is no change.
    if matches!(event.kind, EventKind::Access(_)) {
        return false;
    }
    event.paths.iter().any(|path| {
        let names = path.parent().and_then(|folder| wanted.get(folder));
        let name = path.file_name().unwrap_or_default();
        let of_conf_d = || {
            let ending = Path::new(name).extension();
            ending.is_some_and(|ending| ending == "yaml" || ending == "yml")
        };
        names.is_some_and(|names| {
            names.contains(name) || names.contains(OsStr::new("*")) && of_conf_d()
        })
    })
}

/// Every name on the way to `path` that may lead elsewhere: links, the file itself, the first that is not there, and
/// folders below `base`.
fn names(path: &Path, base: Option<&Path>, wanted: &mut Wanted) {
    let Ok(path) = std::path::absolute(path) else {
        return;
    };
    let mut ahead: VecDeque<OsString> = steps(&path).collect();
    let (mut folder, mut links) = (PathBuf::from("/"), 0);
    while let Some(name) = ahead.pop_front() {
        if name == ".." {
            folder.pop();
            continue;
        }
        let whole = folder.join(&name);
        let link = std::fs::read_link(&whole).ok();
        let goes_on = link.is_none() && whole.is_dir() && !ahead.is_empty();
        if !goes_on || base.is_some_and(|base| folder.starts_with(base)) {
            wanted.entry(folder.clone()).or_default().insert(name);
        }
        match link {
            Some(target) if links < LINKS_MAX => {
                links += 1;
                if target.is_absolute() {
                    folder = PathBuf::from("/");
                }
                let rest = std::mem::take(&mut ahead);
                ahead = steps(&target).chain(rest).collect();
            }
            None if goes_on => folder = whole,
            Some(_) | None => return,
        }
    }
}

fn steps(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|step| match step {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}
