//! Files of networks that are read again when they change, without a reload.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::Plan;
use crate::base::net::NetList;
use crate::base::problem::{Place, Problem, Problems};
use crate::config::document::Document;
use crate::config::source::read_bytes;
use crate::link::Names;
use crate::policy::access::{Countries, Unread};

/// How often a file is looked at: what changed holds within a second.
const LOOK: Duration = Duration::from_millis(400);

/// Reads what clauses refer to, and makes it known by its place.
pub(super) fn compile(document: &Document, names: &mut Names, problems: &mut Problems) {
    for (place, file) in document.net_lists() {
        let (Some(bytes), Some(path)) = (document.files.get(&place), document.paths.get(&place))
        else {
            continue;
        };
        match NetList::new(path.clone(), bytes) {
            Ok(list) => names.insert(&place.to_string(), Arc::new(list)),
            Err(why) => {
                let problem = Problem::error("E030", place, format!("`{file}`, {why}"));
                problems.push(problem.hint("one network a line, e.g. `192.0.2.0/24`"));
            }
        }
    }
    let Some(geoip) = &document.geoip else { return };
    let place = Place::root().key("geoip").key("file");
    let Some(bytes) = document.files.get(&place) else {
        return names.insert("", Unread);
    };
    match Countries::read(bytes.clone()) {
        Ok(countries) => names.insert("", Arc::new(countries)),
        Err(why) => {
            names.insert("", Unread);
            let what = format!("`{}` does not tell countries: {why}", geoip.file);
            let problem = Problem::error("E030", place, what);
            problems.push(problem.hint("a file in MaxMind's format, e.g. `GeoLite2-Country.mmdb`"));
        }
    }
}

/// A task for each file.
pub(super) fn keep(plan: &Plan) -> impl Iterator<Item = impl Future<Output = ()> + Send + use<>> {
    let sites = plan.listeners.iter().map(|listener| &listener.site);
    let routes = sites.flat_map(|site| &site.routes);
    let mut seen = HashSet::new();
    let lists: Vec<Arc<NetList>> = routes
        .flat_map(|route| route.chain.lists())
        .filter(|list| seen.insert(Arc::as_ptr(list)))
        .cloned()
        .collect();
    lists.into_iter().map(watch)
}

/// What tells one version of a file from the next.
type Version = Option<(i64, i64, u64, u64)>;

fn version(path: &Path) -> Version {
    let file = std::fs::metadata(path).ok()?;
    Some((file.mtime(), file.mtime_nsec(), file.size(), file.ino()))
}

async fn watch(list: Arc<NetList>) {
    // The first look reads it: it may have changed since the config was read.
    let mut known = None;
    loop {
        let looked = Arc::clone(&list);
        let look = move || look(&looked, known);
        if let Ok(now) = tokio::task::spawn_blocking(look).await {
            known = now;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Reads the file if it is another than the `known` one.
fn look(list: &NetList, known: Option<Version>) -> Option<Version> {
    let now = version(list.path());
    if known == Some(now) {
        return known;
    }
    let read = read_bytes(list.path()).and_then(|bytes| list.read_again(&bytes));
    let file = list.path().display();
    match (read, known) {
        (Ok(()), Some(_)) => log::info!(file:%; "networks were read again"),
        (Ok(()), None) => {}
        (Err(error), _) => {
            log::warn!(file:%, error:%; "networks were not read: those before hold on");
        }
    }
    Some(now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::task::Spawner;

    /// Time stands still but for sleeping, so that a busy machine changes nothing about what is measured.
    #[tokio::test(start_paused = true)]
    async fn a_changed_file_holds_within_a_second() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bad.txt");
        std::fs::write(&path, "192.0.2.0/24\n").unwrap();
        let list = Arc::new(NetList::new(path.clone(), b"192.0.2.0/24\n").unwrap());
        let spawner = Spawner::new(tokio::runtime::Handle::current());
        let _watching = spawner.spawn(watch(Arc::clone(&list)));
        // Long after the first look.
        tokio::time::sleep(LOOK * 5).await;
        let (one, other) = ("192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap());
        assert!(list.contains(one) && !list.contains(other));
        std::fs::write(&path, "2001:db8::/32\n").unwrap();
        let since = tokio::time::Instant::now();
        while list.contains(one) || !list.contains(other) {
            tokio::time::sleep(Duration::from_millis(10)).await;
            assert!(since.elapsed() <= Duration::from_secs(1));
        }
    }
}
