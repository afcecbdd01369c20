//! Who is calling: the authenticators that a route trusts, and what becomes of whom none of them knows.

mod api_key;
mod authenticator;
mod basic;
mod cache;
mod carrier;
mod client_cert;
mod consumers;
mod decisions;
mod ext_authz;
mod finding;
mod flights;
mod forward;
mod introspection;
mod jwt;
mod register;
mod revoked;
mod rules;
mod signature;
#[cfg(test)]
mod timing;
mod usage_plan;
mod vouching;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

pub use authenticator::{Authenticator, AuthenticatorSpec, Means, References};
pub use consumers::{ConsumerSpec, Consumers};
use http::header::WWW_AUTHENTICATE;
use http::{HeaderName, HeaderValue};
pub use register::{KeysSpec, Register};
pub use revoked::Revoked;
pub use rules::Proof;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
pub use usage_plan::{UsagePlanSpec, UsagePlans};

use self::carrier::{Carrier, Shown};
use self::finding::{By, Finding, Outcome, Tally, Wanted};
use super::fallback::UpstreamNamed;
use super::{Asked, Env, Hooks, Stage};
use crate::base::problem::{Place, Problem, Problems, suggest};
use crate::base::units::ByteSize;
use crate::call::Outside;
use crate::exchange::{Edit, Exchange, Fault, Identity, Mode, Reply, RequestHead, Verdict};
use crate::link::Names;
use crate::upstream::Upstream;

/// How a signature is asked for (RFC 9421 section 5.1).
const ACCEPT_SIGNATURE: HeaderName = HeaderName::from_static("accept-signature");

/// Why somebody is not let in whose credential holds.
const SUSPENDED: &str = "the consumer is suspended";
const NOT_PLANNED: &str = "the route is not in the consumer's plan";

/// Who may call. A list of names is short for `any`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Spec {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    any: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    all: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    anonymous: Option<String>,
    forward_credential: bool,
    /// Whether it is written as a list.
    #[serde(skip)]
    short: bool,
}

/// Who may call, written out.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Written {
    /// Authenticators, by name, of which one has to know the caller; the first that does counts.
    #[serde(default)]
    any: Vec<String>,
    /// Authenticators, by name, of which each has to know the caller; who it is says the last.
    #[serde(default)]
    all: Vec<String>,
    /// The consumer that those are taken for who show no credential at all. Default: they get 401.
    #[serde(default)]
    anonymous: Option<String>,
    /// Whether the upstream gets the credential too. Default false: it is taken off the request.
    #[serde(default)]
    forward_credential: bool,
}

impl<'de> Deserialize<'de> for Spec {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = Spec;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of authenticators, or a map with `any` or `all`")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Spec, A::Error> {
                let any = Vec::deserialize(SeqAccessDeserializer::new(items))?;
                Ok(Spec {
                    any,
                    short: true,
                    ..Spec::default()
                })
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Spec, A::Error> {
                let written = Written::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Spec {
                    any: written.any,
                    all: written.all,
                    anonymous: written.anonymous,
                    forward_credential: written.forward_credential,
                    short: false,
                })
            }
        }
        from.deserialize_any(Form)
    }
}

impl JsonSchema for Spec {
    fn schema_name() -> Cow<'static, str> {
        "Auth".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let written = generator.subschema_for::<Written>();
        schemars::json_schema!({
            "description": "Who may call. A list of names is short for `any`.",
            "anyOf": [{ "type": "array", "items": { "type": "string" }, "minItems": 1 }, written]
        })
    }
}

/// The authenticators of a route.
#[derive(Debug)]
pub struct Auth {
    wanted: Wanted,
    methods: Box<[Arc<Authenticator>]>,
    anonymous: Option<Arc<Identity>>,
    /// Who says whether somebody known is let in.
    consumers: Arc<Consumers>,
    /// Which plans have this route, by their numbers; empty = all have.
    planned: Box<[bool]>,
    /// What the upstream does not get.
    removed: Box<[Carrier]>,
    /// What it gets from whoever is asked only.
    kept: Box<[HeaderName]>,
}

impl Spec {
    /// The names of the authenticators.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.any.iter().chain(&self.all).map(String::as_str)
    }

    /// Makes the policy.
    pub fn compile(&self, env: &mut Env<'_>) -> Option<Auth> {
        let (key, wanted, names) = match (self.any.as_slice(), self.all.as_slice()) {
            ([], []) => {
                let problem = Problem::error("E011", env.place.clone(), "no authenticator");
                env.problem(problem.hint("name one, or write `auth: none`"));
                return None;
            }
            (any, []) => ("any", Wanted::Any, any),
            ([], all) => ("all", Wanted::All, all),
            (_, _) => {
                let what = "both `any` and `all`";
                let problem = Problem::error("E060", env.place.key("all"), what);
                env.problem(problem.hint("keep one of them").at_key());
                return None;
            }
        };
        let mut methods = Vec::with_capacity(names.len());
        for (index, name) in names.iter().enumerate() {
            let place = match self.short {
                true => env.place.index(index),
                false => env.place.key(key).index(index),
            };
            methods.extend(method(name, &place, env));
        }
        let anonymous = match &self.anonymous {
            Some(name) => Some(self.nobody(name, env)?),
            None => None,
        };
        let mut removed: Vec<Carrier> = Vec::new();
        for method in &methods {
            let carriers = method.carriers().iter();
            removed.extend(carriers.filter(|_| !self.forward_credential).cloned());
        }
        removed.dedup();
        let consumers = env.names.get::<Arc<Consumers>>("").cloned();
        let consumers = consumers.unwrap_or_default();
        let planned = consumers.plans().of_route(&env.route.name);
        let kept = methods.iter().flat_map(|method| method.keeps());
        let kept = kept.cloned().collect();
        // Without one that could be asked, nobody may come in.
        (methods.len() == names.len()).then(|| Auth {
            wanted,
            methods: methods.into(),
            anonymous,
            consumers,
            planned,
            removed: removed.into(),
            kept,
        })
    }

    fn nobody(&self, name: &str, env: &mut Env<'_>) -> Option<Arc<Identity>> {
        let consumers = env.names.get::<Arc<Consumers>>("").cloned();
        let consumers = consumers.unwrap_or_default();
        if let Some(consumer) = consumers.by_name(name) {
            return Some(Arc::new(Identity::anonymous(Arc::clone(consumer))));
        }
        let place = env.place.key("anonymous");
        let problem = Problem::error("E031", place, format!("unknown consumer `{name}`"));
        let hint = suggest(name, consumers.names())
            .unwrap_or_else(|| "no consumer has this name: add it to `consumers`".to_owned());
        env.problem(problem.hint(hint));
        None
    }
}

/// A name whose authenticator was refused already, so that it is no further mistake.
#[derive(Debug)]
pub struct RefusedAuthenticator;

/// The upstream that an authenticator asks.
fn upstream_named(
    name: &str,
    place: &Place,
    names: &Names,
    problems: &mut Problems,
) -> Option<Arc<Upstream>> {
    if let Some(UpstreamNamed(known)) = names.get::<UpstreamNamed>(name) {
        return known.clone();
    }
    let hint = suggest(name, names.names::<UpstreamNamed>());
    let hint = hint.unwrap_or_else(|| "name one of `upstreams`".to_owned());
    let problem = Problem::error("E031", place.clone(), format!("unknown upstream `{name}`"));
    problems.push(problem.hint(hint));
    None
}

fn method(name: &str, place: &Place, env: &mut Env<'_>) -> Option<Arc<Authenticator>> {
    let found = env.names.get::<Arc<Authenticator>>(name).cloned();
    if found.is_none() && env.names.get::<RefusedAuthenticator>(name).is_none() {
        let what = format!("unknown authenticator `{name}`");
        let problem = Problem::error("E031", place.clone(), what);
        let known = env.names.names::<Arc<Authenticator>>();
        let hint = suggest(name, known).unwrap_or_else(|| {
            "no authenticator has this name: add it to `authenticators`".to_owned()
        });
        env.problem(problem.hint(hint));
    }
    found
}

impl Auth {
    /// What the findings come to.
    fn conclude(
        &self,
        outcome: Outcome,
        head: &RequestHead,
        ex: &mut Exchange,
    ) -> Result<Verdict, Fault> {
        match outcome {
            Outcome::Known(identity, vouched) => {
                ex.body_is_signed = self.covers_body(&identity, ex);
                self.admit(identity, ex)?;
                carrier::remove(&self.removed, head, ex);
                self.forget(ex);
                for vouched in vouched {
                    let edits = vouched.to_upstream.iter();
                    edits.for_each(|edit| ex.to_upstream.headers.push(edit.clone()));
                    let edits = vouched.to_client.iter();
                    edits.for_each(|edit| ex.to_client.push(edit.clone()));
                }
                Ok(Verdict::Continue)
            }
            Outcome::Nobody => match &self.anonymous {
                Some(nobody) => {
                    self.admit(Arc::clone(nobody), ex)?;
                    // What nobody here could read is not for the upstream either.
                    carrier::remove(&self.removed, head, ex);
                    self.forget(ex);
                    Ok(Verdict::Continue)
                }
                None => Err(self.refuse("no credential is shown", head, ex)),
            },
            Outcome::Refused(why) => Err(self.refuse(why, head, ex)),
            Outcome::Answered(reply) => {
                ex.refusal = Some("whoever was asked says no");
                Ok(Verdict::Respond(Reply::clone(&reply)))
            }
            Outcome::Barred(why) => {
                ex.refusal = Some(why);
                Err(Fault::Forbidden)
            }
            Outcome::Ask => Ok(Verdict::Ask),
            Outcome::Unavailable(why) => {
                ex.refusal = Some(why);
                Err(Fault::AuthUnavailable)
            }
        }
    }

    /// One more credential of a caller who is known already: whether its consumer was suspended at run time.
    fn seen(&self, found: Finding, tally: &Tally, ex: &Exchange) -> Finding {
        let identity = match &found {
            Finding::Known(identity) => identity,
            Finding::Vouched(vouched) => &vouched.identity,
            Finding::Absent
            | Finding::Refused(_)
            | Finding::Answered(_)
            | Finding::Barred(_)
            | Finding::Ask
            | Finding::Unavailable(_) => return found,
        };
        if !tally.is_enough() {
            return found;
        }
        match self.consumers.bars(identity, ex) {
            Some((why, Fault::Forbidden)) => Finding::Barred(why),
            Some(_) | None => found,
        }
    }

    /// Lets somebody in who is known, unless they are suspended, or nobody can say whether they are.
    fn admit(&self, identity: Arc<Identity>, ex: &mut Exchange) -> Result<(), Fault> {
        let unplanned = || self.unplanned(&identity);
        match self.consumers.bars(&identity, ex).or_else(unplanned) {
            None => {
                ex.identity = Some(identity);
                Ok(())
            }
            Some((why, fault)) => {
                ex.refusal = Some(why);
                Err(fault)
            }
        }
    }

    /// What keeps out whose plan does not have this route.
    fn unplanned(&self, identity: &Identity) -> Option<(&'static str, Fault)> {
        let plan = identity.consumer.as_ref()?.plan.as_ref()?;
        let planned = self.planned.is_empty() || self.planned.get(plan.number) == Some(&true);
        (!planned).then_some((NOT_PLANNED, Fault::Forbidden))
    }

    /// Whether the caller is known by a signature over a digest of the body, which then has to be looked at.
    fn covers_body(&self, identity: &Identity, ex: &Exchange) -> bool {
        let real = ex.assumed.is_none();
        let is_it = |name: &str| self.wanted == Wanted::All || *identity.authenticator == *name;
        let mut methods = self.methods.iter();
        real && methods.any(|method| method.covers_body() && is_it(method.name()))
    }

    /// Nobody but who is asked writes these.
    fn forget(&self, ex: &mut Exchange) {
        for name in &self.kept {
            ex.to_upstream.headers.push(Edit::Remove(name.clone()));
        }
    }

    /// 401 asks for what would help, each way once (RFC 9110 section 11.6.1).
    fn refuse(&self, why: &'static str, head: &RequestHead, ex: &mut Exchange) -> Fault {
        ex.refusal = Some(why);
        let mut asked: SmallVec<[&HeaderValue; 4]> = SmallVec::new();
        for method in &self.methods {
            let shown = method
                .carriers()
                .iter()
                .any(|carrier| carrier.read(head) != Shown::Nothing);
            let challenge = match shown {
                // Where all are wanted another one may be missing: what holds is not called invalid.
                true if self.wanted == Wanted::All && method.look(head, ex).is_good() => continue,
                true => method.invalid(),
                false => method.challenge(),
            };
            if let Some(challenge) = challenge.filter(|challenge| !asked.contains(challenge)) {
                asked.push(challenge);
            }
        }
        if asked.is_empty() {
            asked.extend(self.methods.iter().find_map(|method| method.challenge()));
        }
        for challenge in asked {
            ex.to_client
                .push(Edit::Add(WWW_AUTHENTICATE, challenge.clone()));
        }
        let mut signatures = self.methods.iter().filter_map(|it| it.wanted_signature());
        if let Some(wanted) = signatures.next() {
            ex.to_client
                .push(Edit::Add(ACCEPT_SIGNATURE, wanted.clone()));
        }
        Fault::Unauthenticated
    }
}

impl Hooks for Auth {
    const STAGE: Stage = Stage::Authenticate;

    fn asserts(&self) -> Box<dyn Iterator<Item = &HeaderName> + '_> {
        Box::new(self.kept.iter())
    }

    fn on_request(&self, head: &RequestHead, ex: &mut Exchange) -> Result<Verdict, Fault> {
        if ex.mode != Mode::Live
            && let Some(assumed) = ex.assumed.clone()
        {
            let outcome = match &assumed.consumer {
                Some(consumer) if consumer.suspended => Outcome::Barred(SUSPENDED),
                _ => Outcome::Known(assumed, Vec::new()),
            };
            return self.conclude(outcome, head, ex);
        }
        let mut tally = Tally::new(self.wanted);
        for method in &self.methods {
            let found = self.seen(method.look(head, ex), &tally, ex);
            if let Some(outcome) = tally.add(found, method.finds_out()) {
                return self.conclude(outcome, head, ex);
            }
        }
        self.conclude(tally.end(), head, ex)
    }

    fn ask<'a>(
        &'a self,
        head: &'a RequestHead,
        ex: &'a mut Exchange,
        outside: &'a Outside<'a>,
    ) -> Asked<'a> {
        Box::pin(async move {
            let mut tally = Tally::new(self.wanted);
            for method in &self.methods {
                let mut found = method.look(head, ex);
                let by = method.finds_out();
                // Nobody else is asked about a caller who is known already.
                if matches!(found, Finding::Ask) && (by == By::Us || !tally.is_enough()) {
                    found = method.ask(head, ex, outside).await;
                }
                let found = self.seen(found, &tally, ex);
                if let Some(outcome) = tally.add(found, by) {
                    return self.conclude(outcome, head, ex);
                }
            }
            self.conclude(tally.end(), head, ex)
        })
    }

    fn wants_body(&self) -> bool {
        self.methods.iter().any(|method| method.covers_body())
    }

    fn shows_body(&self) -> bool {
        self.methods.iter().any(|it| it.shown_max().is_some())
    }

    fn shown_max(&self, head: &RequestHead, ex: &Exchange) -> Option<u64> {
        let asking = |method: &&Arc<Authenticator>| matches!(method.look(head, ex), Finding::Ask);
        // Whoever is shown less than there is would decide about what it did not see: the shortest counts.
        let shows = self.methods.iter().filter(|it| it.shown_max().is_some());
        shows.filter(asking).filter_map(|it| it.shown_max()).min()
    }

    fn explain(&self, ex: &Exchange) -> Option<String> {
        let Some(identity) = &ex.identity else {
            if let Some(why) = ex.refusal {
                return Some(why.to_owned());
            }
            let names: Vec<&str> = self.methods.iter().map(|method| method.name()).collect();
            let shown = self.methods.iter().filter_map(|it| it.shown_max()).min();
            let shown = shown.map_or_else(String::new, |max| {
                format!(", shows bodies of up to {}", ByteSize::from_bytes(max))
            });
            return Some(format!("asks {}{shown}", names.join(", ")));
        };
        let mut told = match &*identity.authenticator {
            "" => identity.method.to_owned(),
            name => format!("{name} ({})", identity.method),
        };
        if let Some(subject) = &identity.subject {
            told.push_str(&format!(", sub {subject}"));
        }
        if let Some(consumer) = &identity.consumer {
            told.push_str(&format!(", consumer {}", consumer.name));
            if let Some(plan) = &consumer.plan {
                told.push_str(&format!(" (plan {})", plan.name));
            }
        }
        Some(told)
    }
}
