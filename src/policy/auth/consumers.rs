//! Consumers: who is known by name, and by which credentials.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::finding::Finding;
use super::register::Register;
use super::revoked::Revoked;
use super::rules::{Identify, Proof, Rules};
use super::usage_plan::UsagePlans;
use crate::base::digest::Digest;
use crate::base::problem::{Place, Problem, Problems};
use crate::base::units::Date;
use crate::exchange::{Consumer, Exchange, Identity, Mode};
use crate::tls::ClientCertificate;

/// So many keys may one consumer have.
const KEYS_MAX: usize = 100;
/// The use of a key is noted no more often, in milliseconds: workers do not write the same word all the time.
const NOTED_EVERY: i64 = 1_000;

/// Somebody who is known by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsumerSpec {
    /// Its plan, one of `plans`. Default: none, and every route that trusts its credential is open to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    plan: Option<String>,
    /// The groups it is in, by which routes may let it in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    groups: Vec<String>,
    /// By what else it is recognised: one rule, or a list of them.
    #[serde(default, skip_serializing_if = "is_none")]
    identify: Identify,
    /// Its API keys. Two at a time let it change them without a pause.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    api_keys: Vec<KeySpec>,
    /// Whether everything it shows is refused for now, by 403. Default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    suspended: bool,
}

fn is_none(identify: &Identify) -> bool {
    identify.0.is_empty()
}

/// An API key, known by its digest only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KeySpec {
    /// SHA-256 of the key, in 64 hexadecimal digits, e.g. from `printf %s KEY | sha256sum`.
    sha256: String,
    /// From when on it is refused, e.g. `2027-01-01`. Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<Date>,
}

/// A key, and whose it is.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) identity: Arc<Identity>,
    /// In milliseconds since 1970.
    pub(super) expires: Option<i64>,
    /// When it let somebody in last, to the second; 0 = not in this process.
    used: AtomicI64,
}

impl Key {
    /// The key of this digest, which is `consumer`'s.
    pub(super) fn new(digest: &Digest, consumer: &Arc<Consumer>, expires: Option<Date>) -> Self {
        let identity = Identity {
            method: "api_key",
            subject: Some((*consumer.name).into()),
            consumer: Some(Arc::clone(consumer)),
            credential: digest.short().into(),
            ..Identity::default()
        };
        Self {
            identity: Arc::new(identity),
            expires: expires.map(Date::unix_millis),
            used: AtomicI64::new(0),
        }
    }

    /// When it let somebody in last; none = not in this process.
    pub(super) fn last_used(&self) -> Option<Date> {
        let used = self.used.load(Ordering::Relaxed);
        (used > 0).then(|| Date::from_unix_millis(used))
    }

    /// Takes over when it was used under another config.
    pub(super) fn inherit(&self, before: &Self) {
        let used = before.used.load(Ordering::Relaxed);
        self.used.fetch_max(used, Ordering::Relaxed);
    }

    /// Whose it is, unless it is expired.
    pub(super) fn look(&self, ex: &Exchange, known: &Consumers) -> Finding {
        if self.expires.is_some_and(|until| ex.unix_millis >= until) {
            return Finding::Refused("the key is expired");
        }
        let found = known.admit(Arc::clone(&self.identity));
        let since = ex.unix_millis - self.used.load(Ordering::Relaxed);
        if matches!(found, Finding::Known(_)) && ex.mode == Mode::Live && since >= NOTED_EVERY {
            self.used.store(ex.unix_millis, Ordering::Relaxed);
        }
        found
    }
}

/// Everybody who is known.
#[derive(Debug, Default)]
pub struct Consumers {
    plans: UsagePlans,
    by_name: HashMap<Box<str>, Arc<Consumer>>,
    by_key: HashMap<Digest, Key>,
    rules: Rules,
    register: Option<Register>,
    revoked: Option<Revoked>,
}

impl ConsumerSpec {
    /// Whether it has a plan.
    #[must_use]
    pub const fn has_plan(&self) -> bool {
        self.plan.is_some()
    }

    /// What its rules take anybody's word for, each with its place, where `place` is its own.
    pub fn anybodys(&self, place: &Place) -> Vec<(Place, Proof)> {
        let rules = self.identify.0.iter().enumerate();
        let rules = rules.filter(|(_, rule)| rule.authenticator.is_none());
        rules
            .map(|(index, rule)| (self.identify.place(place, index), rule.proof()))
            .collect()
    }

    /// The authenticators whose word its rules want, each with its place, where `place` is its own.
    pub fn trusted(&self, place: &Place) -> Vec<(Place, &str)> {
        let rules = self.identify.0.iter().enumerate();
        let trusted = rules.filter_map(|(index, rule)| {
            let name = rule.authenticator.as_deref()?;
            Some((self.identify.place(place, index).key("authenticator"), name))
        });
        trusted.collect()
    }
}

impl Consumers {
    /// Nobody yet, with the plans that they may have.
    #[must_use]
    pub fn of_plans(plans: UsagePlans) -> Self {
        Self {
            plans,
            ..Self::default()
        }
    }

    /// The plans that they may have.
    pub(super) const fn plans(&self) -> &UsagePlans {
        &self.plans
    }

    /// Adds the consumer `name`, which stands at `place`; mistakes are reported.
    pub fn add(&mut self, name: &str, spec: &ConsumerSpec, place: &Place, problems: &mut Problems) {
        let plan = spec.plan.as_deref();
        let plan = plan.and_then(|plan| self.plans.of_consumer(plan, place.key("plan"), problems));
        let consumer = Arc::new(Consumer {
            name: name.into(),
            plan,
            groups: spec
                .groups
                .iter()
                .map(|group| group.as_str().into())
                .collect(),
            suspended: spec.suspended,
        });
        for (index, group) in spec.groups.iter().enumerate() {
            // Headers quote several with commas between them.
            if group.is_empty() || group.contains(',') || group.chars().any(char::is_control) {
                let place = place.key("groups").index(index);
                let what = format!("`{}` cannot be a group", group.escape_debug());
                let problem = Problem::error("E014", place, what);
                problems.push(problem.hint("a word without commas"));
            }
        }
        if spec.api_keys.len() > KEYS_MAX {
            let what = format!("{} keys of one consumer", spec.api_keys.len());
            let problem = Problem::error("E030", place.key("api_keys"), what);
            problems.push(problem.hint("at most 100; make more consumers"));
        }
        for (index, key) in spec.api_keys.iter().enumerate() {
            let place = place.key("api_keys").index(index).key("sha256");
            self.key(&consumer, key, place, problems);
        }
        for (index, rule) in spec.identify.0.iter().enumerate() {
            let place = spec.identify.place(place, index);
            self.rules.add(&consumer, rule, &place, problems);
        }
        self.by_name.insert(name.into(), consumer);
    }

    fn key(
        &mut self,
        consumer: &Arc<Consumer>,
        spec: &KeySpec,
        place: Place,
        problems: &mut Problems,
    ) {
        let Some(digest) = Digest::parse(&spec.sha256) else {
            let problem = if spec.sha256.ends_with('…') {
                // As documents write it. No key has this digest.
                Problem::warning("W022", place, "a key that nobody can have")
                    .hint("write all 64 digits of the digest")
            } else {
                Problem::error("E061", place, "this is not a SHA-256 digest").hint(
                    "64 hexadecimal digits, e.g. from `printf %s KEY | sha256sum`; never the key itself",
                )
            };
            return problems.push(problem);
        };
        let key = Key::new(&digest, consumer, spec.expires);
        if self.by_key.insert(digest, key).is_some() {
            let problem = Problem::error("E061", place, "this key is somebody's already");
            problems.push(problem.hint("a credential is one consumer's, and stands there once"));
        }
    }

    /// The consumer of this name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Arc<Consumer>> {
        self.by_name.get(name)
    }

    /// Everybody's names.
    pub fn names(&self) -> impl Iterator<Item = &str> + Clone {
        self.by_name.keys().map(|name| &**name)
    }

    /// The table that keys are looked up in.
    #[cfg(test)]
    pub(super) const fn table(&self) -> &HashMap<Digest, Key> {
        &self.by_key
    }

    pub(super) fn by_key(&self, digest: &Digest) -> Option<&Key> {
        self.by_key.get(digest)
    }

    pub(super) fn of_claims(
        &self,
        authenticator: &str,
        claims: &Map<String, Json>,
    ) -> Result<Option<Arc<Consumer>>, &'static str> {
        self.rules.of_claims(authenticator, claims)
    }

    pub(super) fn of_certificate(
        &self,
        authenticator: &str,
        client: &ClientCertificate,
    ) -> Result<Option<&Arc<Consumer>>, &'static str> {
        self.rules.of_certificate(authenticator, client)
    }

    pub(super) fn of_user(
        &self,
        authenticator: &str,
        user: &str,
    ) -> Result<Option<&Arc<Consumer>>, &'static str> {
        self.rules.of_user(authenticator, user)
    }

    /// The keys of the config.
    pub(super) fn keys(&self) -> impl Iterator<Item = (&Digest, &Key)> {
        self.by_key.iter()
    }

    /// Adds those who are made at run time.
    #[must_use]
    pub fn with_register(mut self, register: Option<Register>) -> Self {
        self.register = register;
        self
    }

    /// Those who are made at run time; none = nobody is.
    #[must_use]
    pub const fn register(&self) -> Option<&Register> {
        self.register.as_ref()
    }

    /// Adds the tokens that are refused though they verify.
    #[must_use]
    pub fn with_revoked(mut self, revoked: Option<Revoked>) -> Self {
        self.revoked = revoked;
        self
    }

    /// The tokens that are refused though they verify; none = there is no place to remember them.
    pub(super) const fn revoked(&self) -> Option<&Revoked> {
        self.revoked.as_ref()
    }

    /// The same for what somebody who was asked says.
    pub(super) fn admitted(&self, found: Finding) -> Finding {
        if let Finding::Vouched(vouched) = &found
            && let barred @ Finding::Barred(_) = self.admit(Arc::clone(&vouched.identity))
        {
            return barred;
        }
        found
    }

    /// Lets somebody in whose credential holds, unless they are suspended.
    pub(super) fn admit(&self, identity: Arc<Identity>) -> Finding {
        let consumer = identity.consumer.as_ref();
        if consumer.is_some_and(|consumer| consumer.suspended) {
            return Finding::Barred(super::SUSPENDED);
        }
        Finding::Known(identity)
    }
}
