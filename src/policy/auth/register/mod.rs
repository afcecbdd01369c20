//! Consumers and keys that are made while the gateway runs: what a store keeps of them, as requests see it.

mod ledger;
mod minted;
mod spec;
mod tell;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use ledger::{Configured, Ledger, Order};
use serde_json::Value as Json;
pub use spec::KeysSpec;

use super::SUSPENDED;
use super::consumers::{Consumers, Key};
use super::finding::Finding;
use crate::base::clock::SharedClock;
use crate::base::control::{CallerWish, NotDone};
use crate::base::digest::Digest;
use crate::base::units::Date;
use crate::exchange::{Consumer, Exchange, Fault, Identity, Mode};
use crate::store::{Seen, Store, Unwritten, Version};

/// The name of the document.
const DOCUMENT: &str = "keys";
/// How often the store is looked at: what another process changed holds within a second.
const LOOK: Duration = Duration::from_millis(400);
/// How long start-up waits for the first reading.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often a change is tried where others write, too.
const TRIES_MAX: u32 = 8;

/// Why somebody who may have been suspended or revoked is not let in.
const UNREADABLE: &str = "the store of consumers and keys cannot be read";
const KEY_SUSPENDED: &str = "the key is suspended";
const UNKNOWN: &str = "the key is not known";
const NO_PLAN: &str = "the consumer's plan is not in the config";

/// What is kept, as requests see it.
pub struct Register {
    store: Arc<Store>,
    /// For so long the last good reading holds.
    max_age: Duration,
    /// None: never read.
    view: ArcSwapOption<View>,
    /// One reading or change after the other, so that no older one takes the place of a newer one.
    turn: tokio::sync::Mutex<Reader>,
}

impl std::fmt::Debug for Register {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Register")
            .field("store", self.store.name())
            .finish_non_exhaustive()
    }
}

/// What the store was seen to hold, and when.
struct View {
    tables: Arc<Tables>,
    seen: Instant,
}

/// What is kept, and what is looked up in it.
struct Tables {
    ledger: Ledger,
    version: Version,
    keys: HashMap<Digest, Held>,
}

/// A key that was made at run time.
struct Held {
    /// Its consumer's plan is not in the config.
    unplanned: bool,
    key: Key,
    suspended: bool,
}

/// How the last reading went.
#[derive(Default)]
struct Reader {
    seen: Seen,
    /// Why it failed.
    failing: Option<String>,
}

impl Tables {
    fn new(ledger: Ledger, version: Version, known: &Consumers) -> Self {
        let mut made: HashMap<&str, Arc<Consumer>> = HashMap::new();
        for (name, kept) in &ledger.consumers {
            let groups = kept.groups.iter().map(|group| group.as_str().into());
            let plan = kept.plan.as_deref();
            let consumer = Consumer {
                name: name.as_str().into(),
                plan: plan.and_then(|plan| known.plans().by_name(plan)).cloned(),
                groups: groups.collect(),
                // That is looked up for each request.
                ..Consumer::default()
            };
            made.insert(name, Arc::new(consumer));
        }
        let keys = ledger.keys.values().filter_map(|key| {
            let digest = Digest::parse(&key.sha256)?;
            let name = key.consumer.as_str();
            // What the config says of a name counts; where nobody has it any more, its keys are nobody's.
            let consumer = known.by_name(name).or_else(|| made.get(name))?;
            // A plan that is not in the config any more says nothing of what its consumers may call: they may call nothing.
            let kept = ledger
                .consumers
                .get(name)
                .filter(|_| known.by_name(name).is_none());
            let planned = kept.is_some_and(|kept| kept.plan.is_some());
            let held = Held {
                unplanned: planned && consumer.plan.is_none(),
                key: Key::new(&digest, consumer, key.expires),
                suspended: key.suspended,
            };
            Some((digest, held))
        });
        let keys = keys.collect();
        Self {
            ledger,
            version,
            keys,
        }
    }

    /// Takes over when keys were used.
    fn inherit(&self, before: &Self) {
        for (digest, held) in &self.keys {
            if let Some(before) = before.keys.get(digest) {
                held.key.inherit(&before.key);
            }
        }
    }
}

impl Register {
    /// Nothing is read yet.
    #[must_use]
    pub fn new(store: Arc<Store>, spec: &KeysSpec) -> Self {
        Self {
            store,
            max_age: spec.max_age.duration(),
            view: ArcSwapOption::empty(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// What `look` finds in what is kept.
    fn with<T>(&self, now: Instant, look: impl FnOnce(&Tables) -> T) -> Result<T, &'static str> {
        let view = self.view.load();
        let fresh = |view: &&Arc<View>| now.saturating_duration_since(view.seen) <= self.max_age;
        match view.as_ref().filter(fresh) {
            Some(view) => Ok(look(&view.tables)),
            None => Err(UNREADABLE),
        }
    }

    fn publish(&self, tables: Arc<Tables>, seen: Instant) {
        if let Some(before) = self.view.load().as_ref()
            && !Arc::ptr_eq(&before.tables, &tables)
        {
            tables.inherit(&before.tables);
        }
        self.view.store(Some(Arc::new(View { tables, seen })));
    }

    /// The name of its store.
    #[must_use]
    pub fn store(&self) -> &Arc<str> {
        self.store.name()
    }

    /// Whether the store could be read lately.
    #[must_use]
    pub fn is_readable(&self, now: Instant) -> bool {
        self.with(now, |_| ()).is_ok()
    }

    /// Takes over what `before` has read, as `known` sees it.
    fn inherit(&self, before: &Self, known: &Consumers) {
        if self.store.is(&before.store)
            && let Some(view) = before.view.load_full()
        {
            let (ledger, version) = (view.tables.ledger.clone(), view.tables.version);
            let tables = Arc::new(Tables::new(ledger, version, known));
            tables.inherit(&view.tables);
            self.publish(tables, view.seen);
        }
    }

    /// Reads what changed. What cannot be read leaves what was read before, until that is too old.
    async fn refresh(&self, known: &Consumers, clock: &SharedClock, reader: &mut Reader) {
        let now = clock.instant();
        let read = self.read(known, reader).await;
        let store = self.store.name();
        match read {
            Ok(tables) => {
                self.publish(tables, now);
                if reader.failing.take().is_some() {
                    log::info!(store:%; "consumers and keys can be read again");
                }
            }
            Err(error) => {
                // Next time it is read, whether it changed or not.
                reader.seen = Seen::default();
                let new = reader.failing.as_ref() != Some(&error);
                if new {
                    log::error!(store:%, error:%; "consumers and keys cannot be read: who needs them is refused once the last reading is too old");
                }
                reader.failing = Some(error);
            }
        }
    }

    async fn read(&self, known: &Consumers, reader: &mut Reader) -> Result<Arc<Tables>, String> {
        let looked = self.store.look(DOCUMENT, &mut reader.seen).await;
        let before = self.view.load_full().map(|view| Arc::clone(&view.tables));
        let stored = match (looked.map_err(|error| error.to_string())?, before) {
            (None, Some(before)) => return Ok(before),
            (None, None) => return Err("it was not read yet".to_owned()),
            // Somebody took it away: nobody knows who was suspended.
            (Some(stored), Some(before)) if stored.bytes.is_none() && before.version.is_some() => {
                return Err("it is gone".to_owned());
            }
            (Some(stored), _) => stored,
        };
        let ledger = match &stored.bytes {
            Some(bytes) => Ledger::read(bytes)?,
            None => Ledger::default(),
        };
        Ok(Arc::new(Tables::new(ledger, stored.version, known)))
    }

    /// Makes a change: writes it down, then lets requests see it.
    async fn change(
        &self,
        known: &Consumers,
        wish: &CallerWish,
        order: Order<'_>,
        clock: &SharedClock,
    ) -> Result<Json, NotDone> {
        let mut reader = self.turn.lock().await;
        for _ in 0..TRIES_MAX {
            self.refresh(known, clock, &mut reader).await;
            let view = self.view.load_full().filter(|_| reader.failing.is_none());
            let view = view.ok_or_else(|| NotDone::Unavailable(UNREADABLE.to_owned()))?;
            let mut ledger = view.tables.ledger.clone();
            let done = ledger.apply(wish, order, |name| configured(known, name))?;
            let unwritable = |why: String| NotDone::Unavailable(format!("not written: {why}"));
            let bytes = ledger.bytes();
            let bytes = Bytes::from(bytes.ok_or_else(|| unwritable("it is no JSON".to_owned()))?);
            let version = Some(Digest::of(&bytes));
            let expected = view.tables.version;
            match self.store.write(DOCUMENT, expected, bytes).await {
                Ok(()) => {
                    let tables = Tables::new(ledger, version, known);
                    self.publish(Arc::new(tables), clock.instant());
                    // What was seen is not there any more: should the new one go before it is looked at, that is noticed.
                    reader.seen = Seen::default();
                    let change = &done.change;
                    let key = change.key.as_deref().unwrap_or("none");
                    log::info!(by:% = change.by, consumer:% = change.consumer, key:% = key; "{}", change.done);
                    return Ok(done.told);
                }
                Err(Unwritten::Outrun) => reader.seen = Seen::default(),
                Err(Unwritten::Failed(why)) => return Err(unwritable(why)),
            }
        }
        Err(NotDone::Unavailable("others write all the time".to_owned()))
    }
}

fn configured(known: &Consumers, name: &str) -> Option<Configured> {
    let consumer = known.by_name(name)?;
    Some(Configured {
        suspended: consumer.suspended,
    })
}

impl Consumers {
    /// Reads what is kept of those who were made at run time; then keeps on looking, for as long as the future is polled.
    pub async fn watch(
        self: &Arc<Self>,
        clock: &SharedClock,
    ) -> Option<impl Future<Output = ()> + Send + 'static + use<>> {
        let register = self.register()?;
        let mut reader = register.turn.lock().await;
        let first = register.refresh(self, clock, &mut reader);
        // Whoever is late is waited for by nobody: until then nobody is let in.
        drop(tokio::time::timeout(PATIENCE, first).await);
        drop(reader);
        let (known, clock) = (Arc::clone(self), Arc::clone(clock));
        Some(async move {
            loop {
                tokio::time::sleep(LOOK).await;
                if let Some(register) = known.register() {
                    let mut reader = register.turn.lock().await;
                    register.refresh(&known, &clock, &mut reader).await;
                }
            }
        })
    }

    /// Takes over what was read under another config.
    pub fn inherit(&self, before: &Self) {
        if let (Some(mine), Some(theirs)) = (self.register(), before.register()) {
            mine.inherit(theirs, self);
        }
        self.inherit_revoked(before);
        for (digest, key) in self.keys() {
            if let Some(before) = before.by_key(digest) {
                key.inherit(before);
            }
        }
    }

    /// Makes a change; what there is then.
    ///
    /// # Errors
    /// Why nothing was changed.
    pub async fn change(
        &self,
        wish: &CallerWish,
        by: &str,
        clock: &SharedClock,
    ) -> Result<Json, NotDone> {
        if let CallerWish::RevokeToken(_) | CallerWish::RestoreToken(_) = wish {
            return self.change_revoked(wish, by, clock).await;
        }
        let none = "no store is set: add `keys: { store: NAME }` to the config";
        let register = self.register();
        let register = register.ok_or_else(|| NotDone::Refused(none.to_owned()))?;
        if let CallerWish::NewConsumer {
            plan: Some(plan), ..
        } = wish
            && self.plans().by_name(plan).is_none()
        {
            let plan = plan.escape_debug();
            return Err(NotDone::Unknown(format!(
                "unknown plan `{plan}`: add it to `plans` in the config"
            )));
        }
        let at = Date::from_unix_millis(clock.unix_millis());
        register.change(self, wish, Order { at, by }, clock).await
    }

    /// Whose key it is, where it was made at run time.
    pub(super) fn kept(&self, key: &str, digest: &Digest, ex: &Exchange) -> Finding {
        // In a request test nobody but the config is known.
        let register = self.register().filter(|_| ex.mode != Mode::Offline);
        let Some(register) = register.filter(|_| minted::has_form(key)) else {
            return Finding::Refused(UNKNOWN);
        };
        let found = register.with(ex.started, |tables| match tables.keys.get(digest) {
            None => Finding::Refused(UNKNOWN),
            Some(held) if held.suspended => Finding::Barred(KEY_SUSPENDED),
            Some(held) if held.unplanned => Finding::Barred(NO_PLAN),
            Some(held) => held.key.look(ex, self),
        });
        found.unwrap_or_else(Finding::Unavailable)
    }

    /// What keeps somebody out whose credential holds; nothing, where it is let in.
    pub(super) fn bars(&self, identity: &Identity, ex: &Exchange) -> Option<(&'static str, Fault)> {
        let consumer = identity.consumer.as_ref()?;
        if consumer.suspended {
            return Some((SUSPENDED, Fault::Forbidden));
        }
        let register = self.register().filter(|_| ex.mode != Mode::Offline)?;
        let suspended = register.with(ex.started, |tables| {
            let suspended = &tables.ledger.suspended;
            !suspended.is_empty() && suspended.contains(&*consumer.name)
        });
        match suspended {
            Ok(true) => Some((SUSPENDED, Fault::Forbidden)),
            Ok(false) => None,
            Err(why) => Some((why, Fault::AuthUnavailable)),
        }
    }
}
