//! What a policy that has to ask somebody may use: calls through upstreams, counted like any other.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method};

use super::{Answer, Failed, Meter, Remote, Request, Terms, Transport};
use crate::base::forwarded::Scheme;
use crate::exchange::{Exchange, Fault};
use crate::upstream::{Ask, Ends, Payload, Timeouts, Upstream};

/// Finds what counts the attempts at an upstream.
pub trait Meters: Sync {
    /// What counts those at this one.
    fn of(&self, upstream: &Upstream) -> Option<&dyn Meter>;
}

/// The world outside, for as long as one request asks.
pub struct Outside<'a> {
    transport: Transport<'a>,
    meters: &'a dyn Meters,
    unix_millis: i64,
    ends: Option<Ends>,
}

impl std::fmt::Debug for Outside<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outside").finish_non_exhaustive()
    }
}

impl<'a> Outside<'a> {
    /// Everything that `transport` reaches.
    #[must_use]
    pub const fn new(transport: Transport<'a>, meters: &'a dyn Meters) -> Self {
        Self {
            transport,
            meters,
            unix_millis: 0,
            ends: None,
        }
    }

    /// Asked for the sake of a request of that time, with these ends of its client's connection: upstreams are shown what they
    /// are to be shown by then, and told of the ends where they want to be.
    #[must_use]
    pub fn about(self, unix_millis: i64, ends: Option<Ends>) -> Self {
        Self {
            unix_millis,
            ends,
            ..self
        }
    }

    /// Asks what stands at a URL of the config; the answer's body may have so many bytes at most.
    ///
    /// # Errors
    /// Why there is no answer; also where nobody is asked at all.
    pub async fn ask(
        &self,
        remote: &Remote,
        question: (Method, Bytes),
        headers: &[(HeaderName, HeaderValue)],
        answer_max: u64,
    ) -> Result<Answer, Failed> {
        match &self.transport {
            Transport::Http(http) => remote.ask(http, question, headers, answer_max).await,
            Transport::Scripted(_) | Transport::Each(_) => {
                Err(Failed::new(Fault::NoTarget, "nobody is asked"))
            }
        }
    }

    /// Makes one call through `upstream` of the plan, within `times`; its answer may have so many bytes at most. It is held back
    /// and shown what any request to the upstream would be. What the request itself is sent to later is not touched by it.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn call(
        &self,
        upstream: &Upstream,
        mut request: Request,
        times: Timeouts,
        answer_max: u64,
    ) -> Result<Answer, Failed> {
        let asks = matches!(self.transport, Transport::Http(_));
        if let Some(credentials) = upstream.credentials().filter(|_| asks) {
            let Request { head, body } = &mut request;
            let shown = credentials.show(head, self.unix_millis, Payload::Whole(body));
            shown.map_err(|_none| Failed::new(Fault::NoCredential, "nothing to show it"))?;
        }
        let now = tokio::time::Instant::now().into_std();
        let mut own = Exchange::new(now, self.unix_millis, Scheme::Https);
        own.ends = self.ends;
        let terms = Terms {
            ours: true,
            // It is a question.
            harmless: true,
            times,
            since: own.started,
            answer_max,
            // Whoever asks for a policy has no route that could have one of its own.
            breaker: upstream.resilience().breaker().filter(|_| asks),
            retries: upstream.resilience().retries(),
            meter: self.meters.of(upstream),
            ask: Ask::default(),
        };
        self.transport
            .call(upstream, &request, &terms, &mut own)
            .await
    }
}
