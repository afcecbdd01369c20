//! What is kept of consumers and keys that are made while the gateway runs: never a key, only its digest.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};

use super::minted::mint;
use crate::base::control::{CallerWish, Fate, NotDone};
use crate::base::digest::Digest;
use crate::base::units::Date;

/// So many consumers: what is kept of them is written as a whole with each change.
const CONSUMERS_MAX: usize = 10_000;
/// So many keys: two of each consumer.
const KEYS_MAX: usize = 20_000;
/// A consumer changes its key without a pause by having two.
const LIVE_KEYS_MAX: usize = 2;
/// So many groups of one consumer.
const GROUPS_MAX: usize = 100;
/// The longest name of a consumer or group.
const NAME_MAX: usize = 64;
/// So many changes are remembered; the log of the process has them all.
const HISTORY_MAX: usize = 5_000;
/// The form of the document.
const FORMAT: u8 = 1;

/// Everything that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ledger {
    format: u8,
    /// By name.
    pub(super) consumers: BTreeMap<String, Kept>,
    /// By id.
    pub(super) keys: BTreeMap<String, KeptKey>,
    /// Names of consumers, also of the config's, that are refused for now.
    pub(super) suspended: BTreeSet<String>,
    /// The newest last.
    pub(super) history: VecDeque<Change>,
}

/// A consumer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kept {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) plan: Option<String>,
    pub(super) groups: Vec<String>,
    pub(super) created: Date,
}

/// A key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeptKey {
    pub(super) consumer: String,
    pub(super) sha256: String,
    pub(super) created: Date,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) expires: Option<Date>,
    pub(super) suspended: bool,
}

/// What somebody changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Change {
    pub(super) at: Date,
    pub(super) by: String,
    pub(super) done: String,
    pub(super) consumer: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<String>,
}

/// A change, and what is told of it.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) change: Change,
    pub(super) told: Json,
}

/// What the config says about a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Configured {
    pub(super) suspended: bool,
}

/// When and by whom something is changed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order<'a> {
    pub(super) at: Date,
    pub(super) by: &'a str,
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            format: FORMAT,
            consumers: BTreeMap::new(),
            keys: BTreeMap::new(),
            suspended: BTreeSet::new(),
            history: VecDeque::new(),
        }
    }
}

impl Ledger {
    /// Reads what was written.
    ///
    /// # Errors
    /// It is not what we write, so that nobody knows who may come in.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        let ledger: Self = serde_json::from_slice(bytes).map_err(|error| {
            // Its text may quote what stands there.
            let (line, column) = (error.line(), error.column());
            format!("it is not what was written: line {line}, column {column}")
        })?;
        if ledger.format != FORMAT {
            return Err(format!("it has the form {}", ledger.format));
        }
        let full = ledger.consumers.len() > CONSUMERS_MAX || ledger.keys.len() > KEYS_MAX;
        let groups = |kept: &Kept| kept.groups.iter().all(|group| is_group(group));
        let consumers = ledger.consumers.iter();
        let named = consumers.clone().all(|(name, _)| is_name(name));
        let digests = ledger.keys.iter().all(|(id, key)| {
            let digest = Digest::parse(&key.sha256);
            digest.is_some_and(|digest| digest.short() == *id)
        });
        let planned = |kept: &Kept| kept.plan.as_deref().is_none_or(is_name);
        let kept = consumers.map(|(_, kept)| kept);
        let grouped = kept.clone().all(groups) && kept.clone().all(planned);
        if full || !named || !grouped || !digests {
            return Err("it holds what nobody wrote here".to_owned());
        }
        Ok(ledger)
    }

    /// What is written; none where that cannot be.
    pub(super) fn bytes(&self) -> Option<Vec<u8>> {
        serde_json::to_vec_pretty(self).ok()
    }

    /// Does what is wished, and notes it. `configured` is what the config says about a consumer.
    pub(super) fn apply(
        &mut self,
        wish: &CallerWish,
        order: Order<'_>,
        configured: impl Fn(&str) -> Option<Configured>,
    ) -> Result<Done, NotDone> {
        let done = match wish {
            CallerWish::NewConsumer { name, groups, plan } => {
                let having = (groups.as_slice(), plan.as_deref());
                self.new_consumer(name, having, order, configured(name))
            }
            CallerWish::NewKey { consumer, expires } => {
                self.new_key(consumer, *expires, order, configured(consumer))
            }
            CallerWish::Consumer(name, fate) => {
                self.set_consumer(name, *fate, order, configured(name))
            }
            CallerWish::Key(id, fate) => self.set_key(id, *fate, order),
            CallerWish::RevokeToken(_) | CallerWish::RestoreToken(_) => {
                Err(NotDone::Refused("tokens stand elsewhere".to_owned()))
            }
        }?;
        self.history.push_back(done.change.clone());
        while self.history.len() > HISTORY_MAX {
            self.history.pop_front();
        }
        Ok(done)
    }

    fn new_consumer(
        &mut self,
        name: &str,
        (groups, plan): (&[String], Option<&str>),
        order: Order<'_>,
        configured: Option<Configured>,
    ) -> Result<Done, NotDone> {
        let refused = |why: String| Err(NotDone::Refused(why));
        if !is_name(name) {
            return refused("a name has 1 to 64 letters, digits, `-`, `_` or `.`".to_owned());
        }
        if let Some(group) = groups.iter().find(|group| !is_group(group)) {
            let group = group.escape_debug();
            return refused(format!(
                "`{group}` cannot be a group: a word without commas"
            ));
        }
        if groups.len() > GROUPS_MAX {
            return refused(format!("at most {GROUPS_MAX} groups of one consumer"));
        }
        if configured.is_some() || self.consumers.contains_key(name) {
            return refused(format!("there is a consumer `{name}` already"));
        }
        if self.consumers.len() >= CONSUMERS_MAX {
            return refused(format!("there are {CONSUMERS_MAX} consumers already"));
        }
        let kept = Kept {
            plan: plan.map(str::to_owned),
            groups: groups.to_vec(),
            created: order.at,
        };
        // Whoever had this name before is no concern of it, and their keys open nothing in its name.
        self.suspended.remove(name);
        self.keys.retain(|_, key| key.consumer != name);
        self.consumers.insert(name.to_owned(), kept);
        let told = json!({ "name": name, "groups": groups, "plan": plan, "source": "store", "suspended": false });
        Ok(order.done("consumer made", name, None, told))
    }

    fn new_key(
        &mut self,
        consumer: &str,
        expires: Option<Date>,
        order: Order<'_>,
        configured: Option<Configured>,
    ) -> Result<Done, NotDone> {
        if configured.is_none() && !self.consumers.contains_key(consumer) {
            return Err(unknown_consumer(consumer));
        }
        if expires.is_some_and(|expires| expires <= order.at) {
            return Err(NotDone::Refused("it would be expired already".to_owned()));
        }
        let over = |key: &KeptKey| key.expires.is_some_and(|expires| expires <= order.at);
        // Those that are over make room.
        self.keys
            .retain(|_, key| key.consumer != consumer || !over(key));
        let live = self.keys.values().filter(|key| key.consumer == consumer);
        if live.count() >= LIVE_KEYS_MAX {
            let what = format!("`{consumer}` has {LIVE_KEYS_MAX} live keys: revoke one first");
            return Err(NotDone::Refused(what));
        }
        if self.keys.len() >= KEYS_MAX {
            let what = format!("there are {KEYS_MAX} keys already");
            return Err(NotDone::Refused(what));
        }
        let no_chance = || NotDone::Unavailable("there is no chance to make a key of".to_owned());
        let secret = mint().ok_or_else(no_chance)?;
        let digest = Digest::of(secret.as_bytes());
        let id = digest.short();
        if self.keys.contains_key(&id) {
            // One in 2^48 of each other key.
            return Err(NotDone::Unavailable("try again".to_owned()));
        }
        let key = KeptKey {
            consumer: consumer.to_owned(),
            sha256: digest.hex(),
            created: order.at,
            expires,
            suspended: false,
        };
        self.keys.insert(id.clone(), key);
        let told = json!({ "id": id, "consumer": consumer, "key": secret, "expires": expires });
        Ok(order.done("key made", consumer, Some(&id), told))
    }

    fn set_consumer(
        &mut self,
        name: &str,
        fate: Fate,
        order: Order<'_>,
        configured: Option<Configured>,
    ) -> Result<Done, NotDone> {
        let kept = self.consumers.contains_key(name);
        if configured.is_none() && !kept && !self.suspended.contains(name) {
            return Err(unknown_consumer(name));
        }
        let refused = |why: &str| Err(NotDone::Refused(format!("`{name}` {why}")));
        let done = match fate {
            Fate::Suspend => {
                if !self.suspended.insert(name.to_owned()) {
                    return refused("is suspended already");
                }
                if self.suspended.len() > CONSUMERS_MAX {
                    return refused("cannot be suspended: too many are");
                }
                "consumer suspended"
            }
            Fate::Resume => {
                if configured.is_some_and(|it| it.suspended) {
                    return refused("is suspended by the config: take it out there");
                }
                if !self.suspended.remove(name) {
                    return refused("is not suspended");
                }
                "consumer resumed"
            }
            Fate::Revoke => {
                if configured.is_some() {
                    return refused("stands in the config: take it out there, or suspend it");
                }
                self.consumers.remove(name);
                self.suspended.remove(name);
                self.keys.retain(|_, key| key.consumer != name);
                "consumer revoked"
            }
        };
        let suspended = self.suspended.contains(name) || configured.is_some_and(|it| it.suspended);
        let told = match fate {
            Fate::Revoke => json!({ "name": name, "revoked": true }),
            Fate::Suspend | Fate::Resume => json!({ "name": name, "suspended": suspended }),
        };
        Ok(order.done(done, name, None, told))
    }

    fn set_key(&mut self, id: &str, fate: Fate, order: Order<'_>) -> Result<Done, NotDone> {
        let unknown = || {
            let id = id.escape_debug();
            let what = format!("no key that was made at run time has the id `{id}`");
            NotDone::Unknown(what)
        };
        let key = self.keys.get_mut(id).ok_or_else(unknown)?;
        let consumer = key.consumer.clone();
        let wanted = fate == Fate::Suspend;
        let (done, told) = match fate {
            Fate::Suspend | Fate::Resume if key.suspended == wanted => {
                let state = if wanted { "already" } else { "not" };
                return Err(NotDone::Refused(format!("`{id}` is {state} suspended")));
            }
            Fate::Suspend | Fate::Resume => {
                key.suspended = wanted;
                let done = if wanted {
                    "key suspended"
                } else {
                    "key resumed"
                };
                let told = json!({ "id": id, "consumer": consumer, "suspended": wanted });
                (done, told)
            }
            Fate::Revoke => {
                self.keys.remove(id);
                let told = json!({ "id": id, "consumer": consumer, "revoked": true });
                ("key revoked", told)
            }
        };
        Ok(order.done(done, &consumer, Some(id), told))
    }
}

impl Order<'_> {
    fn done(&self, done: &str, consumer: &str, key: Option<&str>, told: Json) -> Done {
        let change = Change {
            at: self.at,
            by: self.by.to_owned(),
            done: done.to_owned(),
            consumer: consumer.to_owned(),
            key: key.map(str::to_owned),
        };
        Done { change, told }
    }
}

fn unknown_consumer(name: &str) -> NotDone {
    NotDone::Unknown(format!("unknown consumer `{}`", name.escape_debug()))
}

/// As the config has it: names stand in logs, metrics and commands.
fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(plain) && name != "none"
}

/// Headers quote several with commas between them.
fn is_group(group: &str) -> bool {
    let plain = |c: char| !c.is_control() && c != ',';
    (1..=NAME_MAX).contains(&group.len()) && group.chars().all(plain)
}
