//! Tokens that are refused though they verify: a list that is changed while the gateway runs and outlives it.

mod list;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use list::{List, Table, Token};
use serde_json::Value as Json;

use super::consumers::Consumers;
use super::finding::Finding;
use crate::base::clock::SharedClock;
use crate::base::control::{CallerWish, NotDone};
use crate::base::digest::Digest;
use crate::base::units::Date;
use crate::exchange::{Exchange, Identity, Mode};
use crate::store::{Seen, Store, Stored, Unwritten, Version};

/// The name of the document.
const DOCUMENT: &str = "revoked";
/// How often the file is looked at: what another process changed holds within a second.
const LOOK: Duration = Duration::from_millis(400);
/// How often a change is tried where others write, too.
const TRIES_MAX: u32 = 8;

const REVOKED: &str = "the token was revoked";
const UNREAD: &str = "nobody knows which tokens were revoked";
const NOWHERE: &str = "there is no place to remember it: add `runtime: { state_dir: /var/lib/doorward }` to the config";

/// The list, as requests see it.
pub struct Revoked {
    store: Store,
    /// None: not read yet.
    view: ArcSwapOption<(Table, Version)>,
    /// One reading or change after the other.
    turn: tokio::sync::Mutex<Reader>,
}

/// How the last reading went.
#[derive(Default)]
struct Reader {
    seen: Seen,
    /// Why it failed.
    failing: Option<String>,
}

impl std::fmt::Debug for Revoked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Revoked")
            .field("store", self.store.name())
            .finish_non_exhaustive()
    }
}

impl Revoked {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self {
            store,
            view: ArcSwapOption::empty(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    fn publish(&self, list: List, version: Version) {
        let view = (Table::new(list), version);
        self.view.store(Some(Arc::new(view)));
    }

    /// Reads what changed. What was read last stays where that fails: whoever was revoked then still is.
    async fn refresh(&self, reader: &mut Reader) -> Result<(), String> {
        let looked = self.store.look(DOCUMENT, &mut reader.seen).await;
        let read = looked
            .map_err(|error| error.to_string())
            .and_then(|stored| match stored {
                Some(stored) => self.take(&stored),
                None => Ok(()),
            });
        match &read {
            Ok(()) => {
                if reader.failing.take().is_some() {
                    log::info!("the list of revoked tokens can be read again");
                }
            }
            Err(error) => {
                // Next time it is read, whether it changed or not.
                reader.seen = Seen::default();
                if reader.failing.as_ref() != Some(error) {
                    log::error!(error:%; "the list of revoked tokens cannot be read: what was read last holds, and cannot be changed");
                }
                reader.failing = Some(error.clone());
            }
        }
        read
    }

    fn take(&self, stored: &Stored) -> Result<(), String> {
        let list = match &stored.bytes {
            Some(bytes) => List::read(bytes)?,
            // Somebody took it away: nobody knows what stood there.
            None if self
                .view
                .load()
                .as_ref()
                .is_some_and(|view| view.1.is_some()) =>
            {
                return Err("it is gone".to_owned());
            }
            None => List::default(),
        };
        self.publish(list, stored.version);
        Ok(())
    }

    async fn change(
        &self,
        wish: &CallerWish,
        by: &str,
        clock: &SharedClock,
    ) -> Result<Json, NotDone> {
        let mut reader = self.turn.lock().await;
        for _ in 0..TRIES_MAX {
            let read = self.refresh(&mut reader).await;
            let view = self.view.load_full().filter(|_| read.is_ok());
            let view = view.ok_or_else(|| NotDone::Unavailable(UNREAD.to_owned()))?;
            let mut list = view.0.list.clone();
            let at = Date::from_unix_millis(clock.unix_millis());
            let (told, done) = match wish {
                CallerWish::RevokeToken(which) => (list.revoke(which, at, by)?, "token revoked"),
                CallerWish::RestoreToken(id) => (list.restore(id)?, "token restored"),
                CallerWish::NewConsumer { .. }
                | CallerWish::NewKey { .. }
                | CallerWish::Consumer(..)
                | CallerWish::Key(..) => return Err(NotDone::Refused(NOWHERE.to_owned())),
            };
            let unwritable = |why: String| NotDone::Unavailable(format!("not written: {why}"));
            let bytes = list.bytes();
            let bytes = Bytes::from(bytes.ok_or_else(|| unwritable("it is no JSON".to_owned()))?);
            let version = Some(Digest::of(&bytes));
            match self.store.write(DOCUMENT, view.1, bytes).await {
                Ok(()) => {
                    self.publish(list, version);
                    // What was seen is not there any more: should the new one go before it is looked at, that is noticed.
                    reader.seen = Seen::default();
                    let id = told.get("id").and_then(Json::as_str).unwrap_or_default();
                    log::info!(by:% = by, id:% = id; "{done}");
                    return Ok(told);
                }
                Err(Unwritten::Outrun) => reader.seen = Seen::default(),
                Err(Unwritten::Failed(why)) => return Err(unwritable(why)),
            }
        }
        Err(NotDone::Unavailable("others write all the time".to_owned()))
    }
}

impl Consumers {
    /// Reads which tokens were revoked, where that is not known yet.
    ///
    /// # Errors
    /// It cannot be read: then nobody may begin to let anybody in.
    pub async fn prepare(&self) -> Result<(), String> {
        let Some(revoked) = self.revoked() else {
            return Ok(());
        };
        if revoked.view.load().is_some() {
            return Ok(());
        }
        let mut reader = revoked.turn.lock().await;
        let read = revoked.refresh(&mut reader).await;
        read.map_err(|error| {
            format!("cannot read which tokens were revoked (`revoked.json` in `runtime.state_dir`): {error}")
        })
    }

    /// Keeps on looking at the list, for as long as the future is polled.
    pub fn watch_revoked(
        self: &Arc<Self>,
    ) -> Option<impl Future<Output = ()> + Send + 'static + use<>> {
        self.revoked()?;
        let known = Arc::clone(self);
        Some(async move {
            loop {
                tokio::time::sleep(LOOK).await;
                if let Some(revoked) = known.revoked() {
                    let mut reader = revoked.turn.lock().await;
                    // It was said.
                    let _read = revoked.refresh(&mut reader).await;
                }
            }
        })
    }

    /// Takes over what was read under another config.
    pub(super) fn inherit_revoked(&self, before: &Self) {
        if let (Some(mine), Some(theirs)) = (self.revoked(), before.revoked())
            && mine.store.is(&theirs.store)
        {
            mine.view.store(theirs.view.load_full());
        }
    }

    pub(super) async fn change_revoked(
        &self,
        wish: &CallerWish,
        by: &str,
        clock: &SharedClock,
    ) -> Result<Json, NotDone> {
        match self.revoked() {
            Some(revoked) => revoked.change(wish, by, clock).await,
            None => Err(NotDone::Refused(NOWHERE.to_owned())),
        }
    }

    /// The entries of the list.
    pub(super) fn tell_revoked(&self, now: i64) -> Result<Json, NotDone> {
        let Some(revoked) = self.revoked() else {
            return Ok(Json::Array(Vec::new()));
        };
        let view = revoked.view.load();
        let view = view.as_ref();
        let view = view.ok_or_else(|| NotDone::Unavailable(UNREAD.to_owned()))?;
        Ok(view.0.list.tell(now))
    }

    /// What becomes of a token that holds, by the digests of its text and of the text's twin, where it does not count any more.
    pub(super) fn takes_back(
        &self,
        identity: &Identity,
        (digest, twin): (&Digest, Option<&Digest>),
        ex: &Exchange,
    ) -> Option<Finding> {
        // In a request test nobody but the config is known.
        let revoked = self.revoked().filter(|_| ex.mode != Mode::Offline)?;
        let view = revoked.view.load();
        match view.as_ref() {
            Some(view) => {
                let token = Token {
                    identity,
                    digest,
                    twin,
                };
                let has = view.0.has(token, ex.unix_millis);
                has.then_some(Finding::Refused(REVOKED))
            }
            None => Some(Finding::Unavailable(UNREAD)),
        }
    }
}
