//! What is told of those who may come in; never a secret.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::{Value as Json, json};

use super::super::consumers::Consumers;
use super::ledger::Ledger;
use super::{Tables, UNREADABLE};
use crate::base::clock::SharedClock;
use crate::base::control::{CallerList, NotDone};
use crate::base::digest::Digest;
use crate::base::units::Date;

impl Consumers {
    /// What `list` asks for, of the config and of the store.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn tell(&self, list: CallerList, clock: &SharedClock) -> Result<Json, NotDone> {
        let now = clock.unix_millis();
        if list == CallerList::Revoked {
            return self.tell_revoked(now);
        }
        let ledger = self.ledger(clock.instant())?;
        let told = match list {
            CallerList::Consumers => self.tell_consumers(&ledger, now),
            CallerList::Keys => self.tell_keys(&ledger, now, clock.instant()),
            CallerList::History => ledger.history.iter().map(|it| json!(it)).collect(),
            // It was told before.
            CallerList::Revoked => Vec::new(),
        };
        Ok(Json::Array(told))
    }

    fn ledger(&self, now: Instant) -> Result<Ledger, NotDone> {
        let Some(register) = self.register() else {
            return Ok(Ledger::default());
        };
        let ledger = register.with(now, |tables: &Tables| tables.ledger.clone());
        ledger.map_err(|_unreadable| NotDone::Unavailable(UNREADABLE.to_owned()))
    }

    fn tell_consumers(&self, ledger: &Ledger, now: i64) -> Vec<Json> {
        let live = |expires: Option<i64>| expires.is_none_or(|until| now < until);
        let mut keys: BTreeMap<&str, usize> = BTreeMap::new();
        let written = self.keys().filter(|(_, key)| live(key.expires));
        let written = written.filter_map(|(_, key)| key.identity.consumer.as_ref());
        for consumer in written {
            *keys.entry(&consumer.name).or_default() += 1;
        }
        let kept = ledger.keys.values();
        for key in kept.filter(|key| live(key.expires.map(Date::unix_millis))) {
            *keys.entry(&key.consumer).or_default() += 1;
        }
        let mut told: BTreeMap<&str, Json> = BTreeMap::new();
        let line = |(name, plan): (&str, Option<&str>),
                    groups: Json,
                    source: &str,
                    suspended: bool| {
            let suspended = suspended || ledger.suspended.contains(name);
            let keys = keys.get(name).copied().unwrap_or_default();
            json!({ "name": name, "source": source, "plan": plan, "groups": groups, "keys": keys, "suspended": suspended })
        };
        for (name, kept) in &ledger.consumers {
            let mut kept_line = line(
                (name, kept.plan.as_deref()),
                json!(kept.groups),
                "store",
                false,
            );
            if let Some(line) = kept_line.as_object_mut() {
                line.insert("created".to_owned(), json!(kept.created));
            }
            told.insert(name, kept_line);
        }
        // What the config says of a name counts.
        for consumer in self.names().filter_map(|name| self.by_name(name)) {
            let groups: Vec<&str> = consumer.groups.iter().map(|group| &**group).collect();
            let plan = consumer.plan.as_ref().map(|plan| &*plan.name);
            let named = (&*consumer.name, plan);
            let line = line(named, json!(groups), "config", consumer.suspended);
            told.insert(&consumer.name, line);
        }
        told.into_values().collect()
    }

    /// When a key of the store let somebody in last, in this process.
    fn last_used(&self, sha256: &str, now: Instant) -> Option<Date> {
        let digest = Digest::parse(sha256)?;
        let used = |tables: &Tables| tables.keys.get(&digest)?.key.last_used();
        self.register()?.with(now, used).ok()?
    }

    fn tell_keys(&self, ledger: &Ledger, now: i64, instant: Instant) -> Vec<Json> {
        let expired = |expires: Option<Date>| expires.is_some_and(|it| now >= it.unix_millis());
        let mut told: BTreeMap<(String, String), Json> = BTreeMap::new();
        for (id, key) in self.keys() {
            let consumer = key.identity.consumer.as_ref();
            let consumer = consumer.map_or("", |consumer| &consumer.name);
            let expires = key.expires.map(Date::from_unix_millis);
            let line = json!({ "id": id.short(), "consumer": consumer, "source": "config", "expires": expires, "expired": expired(expires), "suspended": false, "last_used": key.last_used() });
            told.insert((consumer.to_owned(), id.short()), line);
        }
        for (id, key) in &ledger.keys {
            let line = json!({ "id": id, "consumer": key.consumer, "source": "store", "created": key.created, "expires": key.expires, "expired": expired(key.expires), "suspended": key.suspended, "last_used": self.last_used(&key.sha256, instant) });
            told.insert((key.consumer.clone(), id.clone()), line);
        }
        told.into_values().collect()
    }
}
