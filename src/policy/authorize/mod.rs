//! What a caller may do: by scopes, roles, groups, or a condition; all that is written has to hold.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use http::HeaderValue;
use http::header::WWW_AUTHENTICATE;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::{Env, Hooks, Stage};
use crate::base::problem::{Place, Problem};
use crate::exchange::{Edit, Exchange, Facts, Fault, Identity, RequestHead, Verdict};
use crate::expr::{Condition, Moment, Vocabulary};
use crate::link::expression_problem;

/// In `log_only` mode a route tells of so many milliseconds of refusals in one message.
const TELL_EVERY: i64 = 1000;

/// So many parameters that the path does not have may stand in one condition.
const MISSING_MAX: usize = 8;

/// What a caller has to have; all that is written has to hold.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Scopes of the credential: all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    scopes: Vec<String>,
    /// Scopes of the credential: one of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    any_scope: Vec<String>,
    /// Roles that the credential names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    roles: Option<RolesSpec>,
    /// Groups of the consumer: one of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    groups: Vec<String>,
    /// An expression (CEL), e.g. `auth.claims.tenant == params.tenant`. One that fails is a no.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expr: Option<String>,
    /// `enforce`: who does not have it gets 403. `log_only`: it is only told in the log. Default `enforce`.
    #[serde(default)]
    mode: ModeSpec,
}

/// Roles in a claim.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RolesSpec {
    /// Where they stand among the claims, as a JSON pointer (RFC 6901), e.g. `/realm_access/roles`: one text, or a list.
    claim: String,
    /// One of these.
    any_of: Vec<String>,
}

/// What becomes of a refusal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum ModeSpec {
    /// The client gets it.
    #[default]
    Enforce,
    /// The log gets it.
    LogOnly,
}

/// What a caller has to have.
#[derive(Debug)]
pub struct Authorize {
    scopes: Box<[Box<str>]>,
    any_scope: Box<[Box<str>]>,
    roles: Option<Roles>,
    groups: Box<[Box<str>]>,
    expr: Option<Condition>,
    /// What the answer says to whom more scopes would help (RFC 6750 section 3.1).
    challenge: Option<HeaderValue>,
    shadow: Option<Shadow>,
}

#[derive(Debug)]
struct Roles {
    path: Box<[Box<str>]>,
    any_of: Box<[Box<str>]>,
}

/// Refusals that are only told.
#[derive(Debug, Default)]
struct Shadow {
    told: AtomicI64,
    untold: AtomicU64,
}

impl Spec {
    /// Whether it is about who calls; a condition on the request alone is not.
    #[must_use]
    pub fn asks_who(&self) -> bool {
        let listed = [&self.scopes, &self.any_scope, &self.groups];
        let quoted = self.expr.as_deref().is_some_and(quotes_caller);
        quoted || self.roles.is_some() || listed.iter().any(|list| !list.is_empty())
    }

    /// Makes the policy.
    pub fn compile(&self, env: &mut Env<'_>) -> Option<Authorize> {
        let nothing = self.scopes.is_empty()
            && self.any_scope.is_empty()
            && self.groups.is_empty()
            && self.roles.is_none()
            && self.expr.is_none();
        if nothing {
            let problem = Problem::error("E011", env.place.clone(), "nothing is asked for");
            env.problem(problem.hint("add `scopes`, `any_scope`, `roles`, `groups` or `expr`"));
            return None;
        }
        for (key, scopes) in [("scopes", &self.scopes), ("any_scope", &self.any_scope)] {
            for (index, scope) in scopes.iter().enumerate() {
                let place = env.place.key(key).index(index);
                check_scope(scope, place, env);
            }
        }
        let roles = self.roles.as_ref().map(|roles| roles.compile(env));
        let expr = self.expr.as_ref().map(|text| condition(text, env));
        // What is wrong with either is told before nothing is made of both.
        let (roles, expr) = (
            roles.map_or(Some(None), |it| it.map(Some))?,
            expr.map_or(Some(None), |it| it.map(Some))?,
        );
        let named: Vec<&str> = self
            .scopes
            .iter()
            .chain(&self.any_scope)
            .map(String::as_str)
            .collect();
        let challenge = format!(
            "Bearer realm=\"api\", error=\"insufficient_scope\", scope=\"{}\"",
            named.join(" ")
        );
        let boxed = |words: &[String]| words.iter().map(|word| word.as_str().into()).collect();
        Some(Authorize {
            scopes: boxed(&self.scopes),
            any_scope: boxed(&self.any_scope),
            roles,
            groups: boxed(&self.groups),
            expr,
            challenge: HeaderValue::try_from(challenge).ok(),
            shadow: (self.mode == ModeSpec::LogOnly).then(Shadow::default),
        })
    }
}

/// Whether a condition quotes what is known of the caller.
fn quotes_caller(expr: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || "._-\"'".contains(c);
    ["auth.", "consumer."].iter().any(|name| {
        let mut found = expr.match_indices(name);
        found.any(|(at, _)| {
            !expr
                .get(..at)
                .is_some_and(|before| before.ends_with(inside))
        })
    })
}

/// RFC 6749 section 3.3: what stands between blanks, without quotes.
fn check_scope(scope: &str, place: Place, env: &mut Env<'_>) {
    let good = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
    if scope.is_empty() || !scope.bytes().all(good) {
        let what = format!("`{}` cannot be a scope", scope.escape_debug());
        let problem = Problem::error("E030", place, what);
        env.problem(problem.hint("one word without blanks and quotes, e.g. `orders:read`"));
    }
}

/// Compiles the condition. It may stand in a clause that several routes inherit: where the path does not have a parameter that it
/// quotes, it never holds.
fn condition(text: &str, env: &mut Env<'_>) -> Option<Condition> {
    let place = env.place.key("expr");
    let mut params = env.route.params.clone();
    loop {
        let vocabulary = Vocabulary::new(params.iter().map(String::as_str), Moment::Request);
        let error = match Condition::compile(text, &vocabulary) {
            // Whatever it would make of what is never there: nobody comes in.
            Ok(_) if params.len() > env.route.params.len() => {
                return Condition::compile("false", &vocabulary).ok();
            }
            Ok(condition) => return Some(condition),
            Err(error) => error,
        };
        let missing = error.what.strip_prefix("unknown path parameter `");
        let missing = missing.and_then(|rest| rest.strip_suffix('`'));
        let Some(missing) = missing.filter(|_| params.len() < env.route.params.len() + MISSING_MAX)
        else {
            env.problem(expression_problem(&place, &error));
            return None;
        };
        let what = format!("the path of this route has no parameter `{missing}`");
        let problem = Problem::warning("W061", place.clone(), what);
        let problem = problem.part(error.span.clone());
        env.problem(problem.hint("the condition never holds, so that nobody comes in"));
        params.push(missing.to_owned());
    }
}

impl RolesSpec {
    fn compile(&self, env: &mut Env<'_>) -> Option<Roles> {
        let place = env.place.key("roles");
        if self.any_of.is_empty() {
            let problem = Problem::error("E011", place.key("any_of"), "an empty list");
            env.problem(problem.hint("name at least one role"));
        }
        let Some(rest) = self.claim.strip_prefix('/') else {
            let what = format!("`{}` is not a JSON pointer", self.claim.escape_debug());
            let problem = Problem::error("E030", place.key("claim"), what);
            env.problem(problem.hint(format!("write `/{}`", self.claim.replace('.', "/"))));
            return None;
        };
        let word = |word: &str| word.replace("~1", "/").replace("~0", "~").into();
        Some(Roles {
            path: rest.split('/').map(word).collect(),
            any_of: self
                .any_of
                .iter()
                .map(|role| role.as_str().into())
                .collect(),
        })
    }
}

impl Roles {
    fn are_in(&self, claims: &Map<String, Json>) -> bool {
        let Some((first, rest)) = self.path.split_first() else {
            return false;
        };
        let found = rest.iter().try_fold(claims.get(&**first), |found, word| {
            found.map(|found| match found {
                Json::Object(map) => map.get(&**word),
                Json::Array(items) => word.parse::<usize>().ok().and_then(|at| items.get(at)),
                Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => None,
            })
        });
        let named = |role: &Json| {
            let role = role.as_str();
            role.is_some_and(|role| self.any_of.iter().any(|known| **known == *role))
        };
        match found.flatten() {
            Some(Json::Array(roles)) => roles.iter().any(named),
            Some(role) => named(role),
            None => false,
        }
    }
}

impl Authorize {
    /// Why the caller may not, if so.
    fn refusal(&self, head: &RequestHead, ex: &Exchange) -> Option<&'static str> {
        let identity = ex.identity.as_deref();
        let held = identity.map_or(&[][..], |it| &it.scopes);
        let has = |scope| held.contains(scope);
        if !self.scopes.iter().all(has) {
            return Some("a scope is missing");
        }
        if !self.any_scope.is_empty() && !self.any_scope.iter().any(has) {
            return Some("none of the scopes is there");
        }
        if let Some(roles) = &self.roles
            && !identity.is_some_and(|it| roles.are_in(&it.claims))
        {
            return Some("none of the roles is there");
        }
        let consumer = identity.and_then(|it| it.consumer.as_ref());
        let groups = consumer.map_or(&[][..], |it| &it.groups);
        if !self.groups.is_empty() && !self.groups.iter().any(|group| groups.contains(group)) {
            return Some("it is in none of the groups");
        }
        let facts = Facts::of(head, ex);
        if self.expr.as_ref().is_some_and(|expr| !expr.holds(&facts)) {
            return Some("the condition does not hold");
        }
        None
    }
}

impl Shadow {
    /// Tells that a request would have been refused; not of each, when there are many.
    fn tell(&self, why: &'static str, ex: &Exchange) {
        let (now, told) = (ex.unix_millis, self.told.load(Ordering::Relaxed));
        let turn = (now.saturating_sub(told) >= TELL_EVERY || now < told)
            && self
                .told
                .compare_exchange(told, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if !turn {
            self.untold.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let others = self.untold.swap(0, Ordering::Relaxed);
        log::warn!(route:% = ex.route_name, id:% = ex.id.text(), reason:% = why, others; "a request would be refused");
    }
}

/// Whether more scopes would be another token of the same kind.
fn is_bearer(identity: Option<&Identity>) -> bool {
    identity.is_some_and(|it| matches!(it.method, "jwt" | "introspection" | "test"))
}

impl Hooks for Authorize {
    const STAGE: Stage = Stage::Authorize;

    fn on_request(&self, head: &RequestHead, ex: &mut Exchange) -> Result<Verdict, Fault> {
        let Some(why) = self.refusal(head, ex) else {
            return Ok(Verdict::Continue);
        };
        ex.refusal = Some(why);
        if let Some(shadow) = &self.shadow {
            if ex.mode == crate::exchange::Mode::Live {
                shadow.tell(why, ex);
            }
            return Ok(Verdict::Continue);
        }
        if why.contains("scope")
            && is_bearer(ex.identity.as_deref())
            && let Some(challenge) = &self.challenge
        {
            let edit = Edit::Set(WWW_AUTHENTICATE, challenge.clone());
            ex.to_client.push(edit);
        }
        Err(Fault::Forbidden)
    }

    fn explain(&self, ex: &Exchange) -> Option<String> {
        let why = ex.refusal?;
        Some(match self.shadow {
            Some(_) => format!("{why}, which is only logged"),
            None => why.to_owned(),
        })
    }
}
