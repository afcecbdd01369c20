//! One call through an upstream: a whole request goes, within limits and time; a whole answer comes, or a fault.
//!
//! Whoever calls drops the future when nobody waits for the answer any more: the connection it used is closed, the stream
//! reset.

mod again;
mod attempt;
mod dues;
mod errors;
mod http;
mod last_good;
mod outside;
mod passage;
mod remote;
mod run;
mod scripted;
mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

pub use self::http::Http;
use ::http::HeaderMap;
pub use again::{Attempted, is_repeatable};
pub use attempt::{changes_nothing, nobody_free, nobody_there, outcome_of};
use bytes::Bytes;
pub use errors::{Failed, fault_of};
pub use last_good::{Forgetful, LastGood};
pub use outside::{Meters, Outside};
pub use passage::{Ended, Held, Passage};
pub use remote::Remote;
pub use scripted::Scripted;
pub use wire::strip_connection;

use crate::exchange::{Exchange, Fault, RequestHead, ResponseHead};
use crate::upstream::{Ask, Breaker, Retries, Timeouts, Upstream};

/// A whole request.
#[derive(Debug)]
pub struct Request {
    /// Its head, as an upstream gets it, but for where the body ends: that is written as it is sent.
    pub head: RequestHead,
    /// Its body.
    pub body: Bytes,
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// Its head, checked.
    pub head: ResponseHead,
    /// Its body.
    pub body: Bytes,
    /// What came behind the body, where somebody has to know: of gRPC.
    pub trailers: Option<Box<HeaderMap>>,
}

/// Within what a call has to come to its end.
#[derive(Clone, Copy)]
pub struct Terms<'a> {
    /// Whether no client gets the answer.
    pub ours: bool,
    /// Whether it changes nothing where it goes, whatever its method is: then it may be sent once more when a connection that was
    /// kept turned out to be dead.
    pub harmless: bool,
    /// How long its steps may take.
    pub times: Timeouts,
    /// What its target is chosen by.
    pub ask: Ask<'a>,
    /// Since when the total counts.
    pub since: Instant,
    /// The longest body of an answer, in bytes.
    pub answer_max: u64,
    /// What may hold it back.
    pub breaker: Option<&'a Arc<Breaker>>,
    /// When it is made again; none = never.
    pub retries: Option<&'a Retries>,
    /// Where it is counted.
    pub meter: Option<&'a dyn Meter>,
}

/// What counts attempts at targets.
pub trait Meter: Send + Sync {
    /// A connection was made.
    fn connected(&self);
    /// A connection was there already.
    fn reused(&self);
    /// A request is tried once more.
    fn retried(&self);
    /// It would be, but too many are.
    fn exhausted(&self);
    /// A request was sent to a second target while the first has not answered.
    fn hedged(&self);
    /// Its answer is the one that is taken.
    fn hedge_won(&self);
    /// An attempt was given up after so long, since another one was sooner.
    fn outrun(&self, seconds: f64);
    /// A target answered, with this status; so long it took to the end of its answer.
    fn answered(&self, status: u16, seconds: f64);
    /// An attempt failed after so long.
    fn failed(&self, fault: Fault, seconds: f64);
}

/// How calls reach their upstream.
#[derive(Debug)]
pub enum Transport<'a> {
    /// By HTTP, over the network.
    Http(&'a Http),
    /// Not at all: what the upstream would say is written down. Ready at once, and without a clock.
    Scripted(&'a Scripted),
    /// The same for several upstreams, by name; of others nobody knows anything.
    Each(&'a BTreeMap<String, Scripted>),
}

impl Transport<'_> {
    /// Makes one call. Attempts and the target are noted in `exchange`.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn call(
        &self,
        upstream: &Upstream,
        request: &Request,
        terms: &Terms<'_>,
        exchange: &mut Exchange,
    ) -> Result<Answer, Failed> {
        match self {
            Self::Http(http) => http.call(upstream, request, terms, exchange).await,
            Self::Scripted(scripted) => scripted.call(upstream, request, terms, exchange),
            Self::Each(all) => match all.get(&**upstream.name()) {
                Some(scripted) => scripted.call(upstream, request, terms, exchange),
                None => Err(Failed::new(Fault::NoTarget, "nobody is asked")),
            },
        }
    }
}
