//! What may happen to a request on a route: the list of policies, and what each can do.

mod body;
mod chain;
mod headers;
mod origin;
mod respond;
mod stage;

pub mod access;
pub mod auth;
pub mod authorize;
pub mod body_limits;
pub mod circuit_breaker;
pub mod compression;
pub mod cors;
pub mod csrf;
pub mod fallback;
pub mod identity;
pub mod lifecycle;
pub mod log;
pub mod maintenance;
pub mod request;
pub mod response;
pub mod retries;
pub mod security_headers;
pub mod timeouts;
pub mod websocket;

pub use body::BodyChanges;
pub use chain::Chain;
pub use respond::{Respond, Response};
pub use stage::Stage;

use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;

use http::HeaderName;

use crate::base::net::NetList;
use crate::base::problem::Problems;
use crate::call::Outside;
use crate::exchange::{Exchange, Fault, RequestHead, ResponseHead, Verdict};
use crate::link::{Clause, Env, Names, RouteFacts, Section};

/// What somebody else says about a request, once it has come.
pub type Asked<'a> = Pin<Box<dyn Future<Output = Result<Verdict, Fault>> + Send + 'a>>;

/// What a policy can do. Hooks decide at once: they never wait, and see the head and the exchange, never session or plan.
/// Who has to ask somebody says so by [`Verdict::Ask`]; only then `ask` runs, and only for a real request.
pub trait Hooks: Send + Sync {
    /// When the policy's turn comes.
    const STAGE: Stage;
    /// Whether it looks at requests.
    const ON_REQUEST: bool = true;
    /// Whether it looks at answers.
    const ON_RESPONSE: bool = false;

    /// Decides about a request.
    ///
    /// # Errors
    /// What is wrong with it; the client gets the fault's answer.
    fn on_request(&self, _head: &RequestHead, _ex: &mut Exchange) -> Result<Verdict, Fault> {
        Ok(Verdict::Continue)
    }

    /// Decides about a request that `on_request` could not decide about. Dropped when the client goes away.
    fn ask<'a>(
        &'a self,
        _head: &'a RequestHead,
        _ex: &'a mut Exchange,
        _outside: &'a Outside<'a>,
    ) -> Asked<'a> {
        Box::pin(ready(Err(Fault::Internal)))
    }

    /// Changes an upstream's answer before the client gets it.
    fn on_response(&self, _head: &RequestHead, _answer: &mut ResponseHead, _ex: &mut Exchange) {}

    /// Changes an answer of our own that was asked for.
    fn on_reply(&self, _head: &RequestHead, _answer: &mut ResponseHead, _ex: &mut Exchange) {}

    /// What it did with a request, for people who ask; nothing where "ok" says it all.
    fn explain(&self, _ex: &Exchange) -> Option<String> {
        None
    }

    /// Whether it can only say yes to a whole body.
    fn wants_body(&self) -> bool {
        false
    }

    /// Whether it shows bodies of requests to whoever it asks.
    fn shows_body(&self) -> bool {
        false
    }

    /// The longest body that it can show whoever it is about to ask; none = it asks without.
    fn shown_max(&self, _head: &RequestHead, _ex: &Exchange) -> Option<u64> {
        None
    }

    /// What it changes in the body of a request; whole bodies are read for it.
    fn request_body(&self) -> Option<&BodyChanges> {
        None
    }

    /// The same for the body of an answer.
    fn response_body(&self) -> Option<&BodyChanges> {
        None
    }

    /// The files it looks into, which may change while it runs.
    fn lists(&self) -> &[Arc<NetList>] {
        &[]
    }

    /// When its requests are sent again.
    fn retries(&self) -> Option<&retries::Retries> {
        None
    }

    /// When nothing of the route is sent.
    fn circuit_breaker(&self) -> Option<&circuit_breaker::CircuitBreaker> {
        None
    }

    /// What its clients get where the upstream fails.
    fn fallback(&self) -> Option<&fallback::Fallback> {
        None
    }

    /// Says what is written down of a request.
    fn on_record(&self) -> Option<&log::Log> {
        None
    }

    /// The headers by which it tells upstreams who is calling.
    fn asserts(&self) -> Box<dyn Iterator<Item = &HeaderName> + '_> {
        Box::new(std::iter::empty())
    }
}

/// Makes everything from one line a policy: `NAMES`, `Specs` (as written, one field a clause), `Policy` (as run), and one
/// `match` a hook. For `maintenance: Maintenance` it writes
/// `struct Specs { pub maintenance: Clause<maintenance::Spec> }`, `enum Policy { Maintenance(maintenance::Maintenance) }` and
/// `Policy::Maintenance(policy) => policy.on_request(head, ex)`.
macro_rules! policies {
    ($($module:ident: $Kind:ident,)*) => {
        /// The key of every policy.
        pub const NAMES: &[&str] = &[$(stringify!($module)),*];

        /// The policies of one route, as written.
        #[derive(Debug, Default)]
        pub struct Specs { $(
            /// The clause of this name.
            pub $module: Clause<$module::Spec>,
        )* }

        impl Specs {
            /// Takes the clauses out of a section.
            pub fn take(section: &mut impl Section) -> Self {
                Self { $($module: section.clause(stringify!($module)),)* }
            }

            /// These clauses; where one is left out, the inherited one.
            #[must_use]
            pub fn or(&self, inherited: &Self) -> Self {
                Self { $($module: self.$module.or(&inherited.$module),)* }
            }

            /// The policies that hold, in the order of their stages.
            pub fn compile(&self, names: &Names, route: &RouteFacts, problems: &mut Problems) -> Chain {
                let mut policies = Vec::new();
                $(if let Some((spec, place)) = self.$module.spec() {
                    let mut env = Env { names, route, place, problems };
                    let policy = spec.compile(&mut env).map(Policy::$Kind);
                    policies.extend(policy.map(|policy| (policy, place.clone())));
                })*
                // The clauses whose `none` is more than nothing.
                if matches!(self.log, Clause::Off) {
                    policies.push((Policy::Log(log::Log::off()), crate::base::problem::Place::root()));
                }
                if matches!(self.retries, Clause::Off) {
                    policies.push((Policy::Retries(retries::Retries::off()), crate::base::problem::Place::root()));
                }
                if matches!(self.circuit_breaker, Clause::Off) {
                    let off = circuit_breaker::CircuitBreaker::off();
                    policies.push((Policy::CircuitBreaker(off), crate::base::problem::Place::root()));
                }
                Chain::new(policies)
            }

            /// The clauses that hold, by key, for `config show`.
            pub fn show(&self) -> Vec<(&'static str, serde_json::Value)> {
                let mut shown = Vec::new();
                $(if let Some((spec, _)) = self.$module.spec() {
                    shown.push((stringify!($module), serde_json::to_value(spec).unwrap_or_default()));
                })*
                shown
            }

            /// Where the clauses of [`Specs::show`] stand, in the same order.
            pub fn places(&self) -> Vec<crate::base::problem::Place> {
                let mut places = Vec::new();
                $(if let Some((_, place)) = self.$module.spec() {
                    places.push(place.clone());
                })*
                places
            }

            /// The schema of every clause, by key.
            pub fn schemas(generator: &mut schemars::SchemaGenerator) -> Vec<(&'static str, schemars::Schema)> {
                vec![$((stringify!($module), generator.subschema_for::<$module::Spec>()),)*]
            }
        }

        /// A policy, as run.
        #[derive(Debug)]
        pub enum Policy { $(
            /// The policy of this name.
            $Kind($module::$Kind),
        )* }

        impl Policy {
            /// Its key in the config.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self { $(Self::$Kind(_) => stringify!($module),)* }
            }
            fn stage(&self) -> Stage {
                match self { $(Self::$Kind(_) => $module::$Kind::STAGE,)* }
            }
            fn on_request_wanted(&self) -> bool {
                match self { $(Self::$Kind(_) => $module::$Kind::ON_REQUEST,)* }
            }
            fn on_response_wanted(&self) -> bool {
                match self { $(Self::$Kind(_) => $module::$Kind::ON_RESPONSE,)* }
            }
            fn on_request(&self, head: &RequestHead, ex: &mut Exchange) -> Result<Verdict, Fault> {
                match self { $(Self::$Kind(policy) => policy.on_request(head, ex),)* }
            }
            fn ask<'a>(&'a self, head: &'a RequestHead, ex: &'a mut Exchange, outside: &'a Outside<'a>) -> Asked<'a> {
                match self { $(Self::$Kind(policy) => policy.ask(head, ex, outside),)* }
            }
            fn on_response(&self, head: &RequestHead, answer: &mut ResponseHead, ex: &mut Exchange) {
                match self { $(Self::$Kind(policy) => policy.on_response(head, answer, ex),)* }
            }
            fn on_reply(&self, head: &RequestHead, answer: &mut ResponseHead, ex: &mut Exchange) {
                match self { $(Self::$Kind(policy) => policy.on_reply(head, answer, ex),)* }
            }
            fn explain(&self, ex: &Exchange) -> Option<String> {
                match self { $(Self::$Kind(policy) => policy.explain(ex),)* }
            }
            fn wants_body(&self) -> bool {
                match self { $(Self::$Kind(policy) => policy.wants_body(),)* }
            }
            fn shows_body(&self) -> bool {
                match self { $(Self::$Kind(policy) => policy.shows_body(),)* }
            }
            fn shown_max(&self, head: &RequestHead, ex: &Exchange) -> Option<u64> {
                match self { $(Self::$Kind(policy) => policy.shown_max(head, ex),)* }
            }
            fn request_body(&self) -> Option<&BodyChanges> {
                match self { $(Self::$Kind(policy) => policy.request_body(),)* }
            }
            fn response_body(&self) -> Option<&BodyChanges> {
                match self { $(Self::$Kind(policy) => policy.response_body(),)* }
            }
            fn lists(&self) -> &[Arc<NetList>] {
                match self { $(Self::$Kind(policy) => policy.lists(),)* }
            }
            fn retries(&self) -> Option<&retries::Retries> {
                match self { $(Self::$Kind(policy) => policy.retries(),)* }
            }
            fn circuit_breaker(&self) -> Option<&circuit_breaker::CircuitBreaker> {
                match self { $(Self::$Kind(policy) => policy.circuit_breaker(),)* }
            }
            fn fallback(&self) -> Option<&fallback::Fallback> {
                match self { $(Self::$Kind(policy) => policy.fallback(),)* }
            }
            fn on_record(&self) -> Option<&log::Log> {
                match self { $(Self::$Kind(policy) => policy.on_record(),)* }
            }
            fn asserts(&self) -> Box<dyn Iterator<Item = &HeaderName> + '_> {
                match self { $(Self::$Kind(policy) => policy.asserts(),)* }
            }
        }
    };
}

policies! {
    cors: Cors,
    security_headers: SecurityHeaders,
    csrf: Csrf,
    auth: Auth,
    authorize: Authorize,
    maintenance: Maintenance,
    access: Access,
    lifecycle: Lifecycle,
    body_limits: BodyLimits,
    websocket: Websocket,
    timeouts: Timeouts,
    retries: Retries,
    circuit_breaker: CircuitBreaker,
    fallback: Fallback,
    identity: Told,
    request: Request,
    compression: Compression,
    response: Response,
    log: Log,
}
