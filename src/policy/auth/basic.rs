//! Name and password (RFC 7617), against a file of hashes that take their time: verified apart from requests, and remembered by
//! a digest that nobody else can make.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use argon2::Argon2;
use argon2::password_hash::PasswordVerifier as _;
use argon2::password_hash::phc::PasswordHash;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::cache::Cache;
use super::carrier::{Carrier, Shown};
use super::consumers::Consumers;
use super::finding::Finding;
use super::flights::Flights;
use crate::base::digest::Digest;
use crate::base::problem::{Place, Problem, Problems};
use crate::exchange::{Identity, Mode, RequestHead};

const NOT_TOGETHER: Finding = Finding::Refused("name and password do not belong together");
const BUSY: Finding = Finding::Unavailable("too many passwords are being verified");

/// A longer pair is none.
const PAIR_BYTES_MAX: usize = 1024;
/// What it takes to remember that a pair was verified.
const PROOF_BYTES: usize = 64;
/// bcrypt reads no more of a password: what comes after it would not be looked at.
const BCRYPT_BYTES_MAX: usize = 72;
/// So many passwords are verified at a time: each takes a core and, with argon2, its memory …
const AT_ONCE: usize = 2;
/// … and so many may wait for it; more get 503.
const WAITING_MAX: usize = 64;
/// A cost beyond this would take seconds.
const BCRYPT_COST_MAX: u32 = 14;
/// The same in KiB: 256 MiB.
const ARGON2_MEMORY_MAX: u32 = 256 * 1024;
const ARGON2_PASSES_MAX: u32 = 16;

/// Names and passwords of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// A file with a line `name:hash` for each, as `htpasswd -B` writes it: bcrypt or argon2. Read when the config is loaded.
    pub(super) htpasswd_file: String,
}

/// Verifies pairs.
pub(super) struct Basic {
    users: HashMap<Box<str>, Arc<str>>,
    /// The hashes of all of them.
    hashes: Box<[Arc<str>]>,
    /// Whose pairs were verified.
    known: Cache<Arc<Identity>>,
    proofs: OnceLock<Arc<Proofs>>,
    flights: Flights<Finding>,
    turns: Arc<Semaphore>,
    waiting: Semaphore,
}

/// What was found out about a file: it holds as long as the file is the same.
struct Proofs {
    /// What the digests of pairs are made with; it never leaves the process.
    key: [u8; 32],
    verified: Cache<()>,
}

impl Default for Proofs {
    fn default() -> Self {
        let mut key = [0; 32];
        for half in key.chunks_mut(16) {
            half.copy_from_slice(uuid::Uuid::new_v4().as_bytes());
        }
        let verified = Cache::default();
        Self { key, verified }
    }
}

impl std::fmt::Debug for Basic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Basic").finish_non_exhaustive()
    }
}

impl Spec {
    /// Makes the authenticator of the file's text; `place` is its own.
    pub(super) fn compile(
        &self,
        place: &Place,
        file: Option<&Bytes>,
        problems: &mut Problems,
    ) -> Option<Basic> {
        let place = place.key("htpasswd_file");
        // Where it cannot be read, that was said.
        let text = std::str::from_utf8(file?).ok();
        let mut users: HashMap<Box<str>, Arc<str>> = HashMap::new();
        let mut wrong = |line: usize, what: &str| {
            let what = format!("line {line} of the file {what}");
            let problem = Problem::error("E060", place.clone(), what);
            problems
                .push(problem.hint("lines as `htpasswd -nB NAME` prints them: bcrypt or argon2"));
        };
        for (number, line) in (1..).zip(text.unwrap_or("\u{fffd}").lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match line.split_once(':') {
                Some((name, hash)) if !name.is_empty() => match unusable(hash) {
                    Some(why) => wrong(number, why),
                    None if users.insert(name.into(), hash.into()).is_some() => {
                        wrong(number, "has a name that stands there already");
                    }
                    None => {}
                },
                // What stands there may be a password: it is not quoted.
                Some(_) | None => wrong(number, "is no name with a hash"),
            }
        }
        Some(Basic {
            hashes: users.values().cloned().collect(),
            users,
            known: Cache::default(),
            proofs: OnceLock::new(),
            flights: Flights::default(),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            waiting: Semaphore::new(WAITING_MAX),
        })
    }
}

/// Why a hash cannot be used.
fn unusable(hash: &str) -> Option<&'static str> {
    const OTHER: Option<&str> = Some("has a hash that is neither bcrypt nor argon2");
    const DEAR: Option<&str> = Some("has a hash whose cost is too high");
    if is_bcrypt(hash) {
        let parts: Result<bcrypt::HashParts, _> = hash.parse();
        return match parts {
            Ok(parts) if parts.get_cost() > BCRYPT_COST_MAX => DEAR,
            Ok(_) => None,
            Err(_) => OTHER,
        };
    }
    let Ok(parsed) = PasswordHash::new(hash) else {
        return OTHER;
    };
    let params = argon2::Params::try_from(&parsed);
    match params {
        Ok(_) if !parsed.algorithm.as_str().starts_with("argon2") || parsed.hash.is_none() => OTHER,
        Ok(params)
            if params.m_cost() > ARGON2_MEMORY_MAX || params.t_cost() > ARGON2_PASSES_MAX =>
        {
            DEAR
        }
        Ok(_) => None,
        Err(_) => OTHER,
    }
}

fn is_bcrypt(hash: &str) -> bool {
    ["$2y$", "$2b$", "$2a$"]
        .iter()
        .any(|kind| hash.starts_with(kind))
}

/// Takes its time.
fn verifies(password: &str, hash: &str) -> bool {
    if is_bcrypt(hash) {
        return password.len() <= BCRYPT_BYTES_MAX
            && bcrypt::verify(password, hash).unwrap_or(false);
    }
    PasswordHash::new(hash).is_ok_and(|hash| {
        Argon2::default()
            .verify_password(password.as_bytes(), &hash)
            .is_ok()
    })
}

impl Basic {
    pub(super) const CARRIER: Carrier = Carrier::Authorization(&["basic"]);
    pub(super) const CHALLENGE: &'static str = "Basic realm=\"api\", charset=\"UTF-8\"";

    /// Who shows a pair that was verified before.
    pub(super) fn look(&self, head: &RequestHead, known: &Consumers) -> Finding {
        let pair = match shown(head) {
            Ok(Some(pair)) => pair,
            Ok(None) => return Finding::Absent,
            Err(why) => return Finding::Refused(why),
        };
        match self.known.find(&self.digest(&pair)) {
            Some(identity) => known.admit(identity),
            None => Finding::Ask,
        }
    }

    /// Verifies the pair, when it is its turn; whoever shows the same meanwhile hears the same.
    pub(super) async fn ask(
        &self,
        head: &RequestHead,
        mode: Mode,
        (name, known): (&Arc<str>, &Consumers),
    ) -> Finding {
        let Ok(Some(pair)) = shown(head) else {
            return Finding::Absent;
        };
        let digest = self.digest(&pair);
        let ask = Box::pin(async {
            // It may have been found out since this one looked, or under the config before.
            if let Some(identity) = self.known.find(&digest) {
                return known.admit(identity);
            }
            let (user, password) = pair;
            if self.proofs().verified.find(&digest).is_none() {
                match self.verified(user.clone(), password, mode).await {
                    Some(true) => self.proofs().verified.keep(digest, (), PROOF_BYTES),
                    Some(false) => return NOT_TOGETHER,
                    None => return BUSY,
                }
            }
            self.recognise(user, digest, (name, known))
        });
        self.flights.join(digest, ask).await.unwrap_or(BUSY)
    }

    /// Whether they belong together; nothing: too many want to know that.
    async fn verified(&self, user: String, password: String, mode: Mode) -> Option<bool> {
        let _place = self.waiting.try_acquire().ok()?;
        let turn = Arc::clone(&self.turns).acquire_owned().await.ok()?;
        // Somebody who is not there takes as long as somebody who is: as the same one each time, where hashes differ in cost.
        let there = self.users.get(&*user);
        let hash = there.or_else(|| self.anybody(&user)).cloned();
        let is_there = there.is_some();
        let verify = move || {
            // The turn ends with the work, also where nobody waits for it any more.
            let _turn = turn;
            hash.is_some_and(|hash| verifies(&password, &hash)) && is_there
        };
        Some(match mode {
            Mode::Live => tokio::task::spawn_blocking(verify).await.unwrap_or(false),
            // Nobody else is kept waiting.
            Mode::Dry | Mode::Offline => verify(),
        })
    }

    /// Who it is that has the right password.
    fn recognise(
        &self,
        user: String,
        digest: Digest,
        (name, known): (&Arc<str>, &Consumers),
    ) -> Finding {
        let consumer = match known.of_user(name, &user) {
            Ok(consumer) => consumer.cloned(),
            Err(why) => return Finding::Refused(why),
        };
        let identity = Arc::new(Identity {
            method: "basic",
            authenticator: Arc::clone(name),
            consumer,
            credential: user.as_str().into(),
            subject: Some(user.into()),
            ..Identity::default()
        });
        self.known
            .keep(digest, Arc::clone(&identity), PAIR_BYTES_MAX);
        known.admit(identity)
    }

    /// The hash that a name is verified with that stands nowhere: nobody outside can foretell which, and it stays the same.
    fn anybody(&self, user: &str) -> Option<&Arc<str>> {
        let parts = [&self.proofs().key, user.as_bytes()];
        let [first, second, ..] = Digest::of(&parts.concat()).bytes();
        let number = usize::from(u16::from_be_bytes([first, second]));
        self.hashes.get(number.checked_rem(self.hashes.len())?)
    }

    /// What was verified under another config still holds, where the file is the same.
    pub(super) fn inherit(&self, before: &Self) {
        if self.users == before.users {
            self.proofs.get_or_init(|| Arc::clone(before.proofs()));
        }
    }

    fn proofs(&self) -> &Arc<Proofs> {
        self.proofs.get_or_init(Arc::default)
    }

    fn digest(&self, (user, password): &(String, String)) -> Digest {
        let key = &self.proofs().key;
        let length = (user.len() as u64).to_be_bytes();
        let parts = [key, &length[..], user.as_bytes(), password.as_bytes(), key];
        Digest::of(&parts.concat())
    }
}

/// The pair that the request shows.
fn shown(head: &RequestHead) -> Result<Option<(String, String)>, &'static str> {
    const NONE: &str = "this is no name with a password";
    let headers: &HeaderMap = &head.headers;
    if !headers.contains_key(AUTHORIZATION) {
        return Ok(None);
    }
    let text = match Basic::CARRIER.read(head) {
        Shown::Nothing => return Ok(None),
        Shown::Unclear => return Err(NONE),
        Shown::One(text) => text,
    };
    if text.len() > PAIR_BYTES_MAX {
        return Err(NONE);
    }
    let pair = STANDARD.decode(&*text).map_err(|_error| NONE)?;
    let pair = String::from_utf8(pair).map_err(|_error| NONE)?;
    let (user, password) = pair.split_once(':').ok_or(NONE)?;
    if user.is_empty() || pair.chars().any(char::is_control) {
        return Err(NONE);
    }
    Ok(Some((user.to_owned(), password.to_owned())))
}
