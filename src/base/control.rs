//! What the admin side may ask of the running process, without knowing it.

use std::net::IpAddr;

use async_trait::async_trait;
use serde_json::Value as Json;

use super::units::Date;

/// One value of the effective config that a reload changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The path of the value, e.g. `routes.order.match.path`.
    pub key: String,
    /// What it was; none = it is new.
    pub old: Option<Json>,
    /// What it is; none = it is gone.
    pub new: Option<Json>,
    /// What is different where no value is: the content of a file.
    pub note: Option<String>,
}

/// Whether the request tests of a config have to pass before it is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tests {
    /// They are not run.
    Skip,
    /// They have to pass.
    Run,
}

/// What became of a reload.
#[derive(Debug, Clone, PartialEq)]
pub enum Reloaded {
    /// The new config is in force.
    Applied {
        /// How many configs were in force so far, with this one.
        generation: u64,
        /// What is different.
        changes: Vec<Change>,
        /// What takes effect only after a restart.
        restart: Vec<String>,
    },
    /// The new config is wrong; the old one stays.
    Invalid {
        /// What is wrong, for people.
        report: String,
    },
    /// The new config is good, but its request tests fail; the old one stays.
    TestsFailed {
        /// Which, and how, for people.
        report: String,
    },
    /// The new config can only come into force by a restart; the old one stays.
    NeedsRestart {
        /// Why.
        reasons: Vec<String>,
    },
}

/// Whether a target gets new requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// None; those under way go on to their end.
    Drain,
    /// As many as it is due.
    Resume,
}

/// What is asked about a request that nobody sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Method.
    pub method: String,
    /// `http://HOST:PORT/PATH?QUERY`, or a path with a `host` among the headers.
    pub url: String,
    /// Name and value of every header.
    pub headers: Vec<(String, String)>,
    /// The name of the listener; none = the one with the URL's port, else the first.
    pub listener: Option<String>,
    /// The address of the client; none = this machine's own.
    pub client: Option<IpAddr>,
    /// The time of day, in milliseconds since 1970; none = now.
    pub unix_millis: Option<i64>,
}

/// What a breaker is told to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerWish {
    /// Open: nothing passes.
    Open,
    /// Closed: everything passes.
    Close,
    /// As it decides for itself, beginning anew.
    Auto,
}

/// What is to become of a consumer, or of one of its keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is refused for now.
    Suspend,
    /// It is let in again.
    Resume,
    /// It is gone for good.
    Revoke,
}

/// Which tokens are refused though they verify: the one of `jti` or of `sha256`, those of `sub`, or all of `issuer`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revocation {
    /// The token of this id.
    pub jti: Option<String>,
    /// The tokens of this subject.
    pub sub: Option<String>,
    /// The token whose text has this SHA-256, in hexadecimal digits.
    pub sha256: Option<String>,
    /// Of this issuer only; alone: all of them.
    pub issuer: Option<String>,
    /// With `sub` or `issuer`: those that were made before; none = before now.
    pub before: Option<Date>,
    /// When the last of them ends, so that nobody has to remember it any more; none = never.
    pub expires: Option<Date>,
}

/// What is to change about who may come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallerWish {
    /// A new consumer.
    NewConsumer {
        /// Its name.
        name: String,
        /// The groups it is in.
        groups: Vec<String>,
        /// Its plan; none = every route that trusts its credential is open to it.
        plan: Option<String>,
    },
    /// A new key of a consumer.
    NewKey {
        /// The consumer's name.
        consumer: String,
        /// From when on it is refused; none = never.
        expires: Option<Date>,
    },
    /// About the consumer of this name.
    Consumer(String, Fate),
    /// About the key of this id.
    Key(String, Fate),
    /// Tokens that are refused from now on.
    RevokeToken(Revocation),
    /// The entry of this id is taken out: its tokens are good again.
    RestoreToken(String),
}

/// What is asked about those who may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallerList {
    /// The consumers.
    Consumers,
    /// Their keys.
    Keys,
    /// What was changed, by whom and when.
    History,
    /// Tokens that are refused though they verify.
    Revoked,
}

/// Why nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotDone {
    /// There is nothing of this name.
    #[error("{0}")]
    Unknown(String),
    /// It cannot be, as things are.
    #[error("{0}")]
    Refused(String),
    /// Nobody knows how things are, or it cannot be written down.
    #[error("{0}")]
    Unavailable(String),
}

/// The running process, as far as it can be told what to do.
#[async_trait]
pub trait Control: Send + Sync {
    /// Loads the config again; one reload after the other.
    async fn reload(&self, tests: Tests) -> Reloaded;
    /// Whether the process takes requests: false while it stops.
    fn is_ready(&self) -> bool;
    /// What would become of a request: every decision, nothing counted or changed.
    ///
    /// # Errors
    /// What cannot be asked, in words.
    fn explain(&self, question: &Question) -> Result<Json, String>;
    /// The effective config in force, secrets hidden; under `files` the version of each file it refers to.
    fn config(&self) -> Json;
    /// Takes a target out or back in, until somebody says otherwise or the process ends; how many requests are under way
    /// there.
    ///
    /// # Errors
    /// There is no such upstream or target, in words.
    fn set_duty(&self, upstream: &str, target: &str, duty: Duty) -> Result<u32, String>;
    /// Brings those metrics up to date that are only looked at when somebody reads them.
    fn observe(&self);
    /// Every breaker: its name, what it is for, its state, and what it counted.
    fn breakers(&self) -> Json;
    /// Tells the breaker of this name what to be; what it is then. `None`: there is none of this name.
    fn set_breaker(&self, name: &str, wish: BreakerWish) -> Option<Json>;
    /// Who may come in, as the config and the store of keys have it; no secrets.
    ///
    /// # Errors
    /// The store cannot be read.
    fn callers(&self, list: CallerList) -> Result<Json, NotDone>;
    /// Changes who may come in, at once, and notes who wanted it; what there is then. A new key is told once, here.
    ///
    /// # Errors
    /// Why nothing was changed.
    async fn change_callers(&self, wish: CallerWish, by: &str) -> Result<Json, NotDone>;
    /// Version, config generation, listeners.
    fn status(&self) -> Json;
}

impl Change {
    /// The change as a person reads it.
    #[must_use]
    pub fn line(&self) -> String {
        if let Some(note) = &self.note {
            return format!("~ {}: {note}", self.key);
        }
        match (&self.old, &self.new) {
            (Some(old), Some(new)) => format!("~ {}: {old} -> {new}", self.key),
            (Some(old), None) => format!("- {}: {old}", self.key),
            (None, Some(new)) => format!("+ {}: {new}", self.key),
            (None, None) => String::new(),
        }
    }

    /// The change as a program reads it.
    #[must_use]
    pub fn json(&self) -> Json {
        let mut json = serde_json::Map::new();
        json.insert("key".to_owned(), Json::String(self.key.clone()));
        for (name, value) in [("old", &self.old), ("new", &self.new)] {
            if let Some(value) = value {
                json.insert(name.to_owned(), value.clone());
            }
        }
        if let Some(note) = &self.note {
            json.insert("note".to_owned(), Json::String(note.clone()));
        }
        Json::Object(json)
    }
}
