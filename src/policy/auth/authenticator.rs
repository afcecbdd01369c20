//! One way of finding out who is calling, by the name that routes give it.

use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;

use http::HeaderValue;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::api_key::{self, ApiKey};
use super::carrier::Carrier;
use super::consumers::Consumers;
use super::finding::Finding;
use crate::base::problem::{Place, Problems};
use crate::call::Outside;
use crate::exchange::{Exchange, RequestHead};

/// One kind of authenticator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuthenticatorSpec {
    /// API keys of consumers.
    ApiKey(api_key::Spec),
}

/// What an authenticator finds once somebody was asked.
pub(super) type Looked<'a> = Pin<Box<dyn Future<Output = Finding> + Send + 'a>>;

/// An authenticator, as run.
#[derive(Debug)]
pub struct Authenticator {
    name: Arc<str>,
    kind: Kind,
    consumers: Arc<Consumers>,
    carriers: Box<[Carrier]>,
    challenge: Option<HeaderValue>,
}

#[derive(Debug)]
enum Kind {
    ApiKey(ApiKey),
}

impl AuthenticatorSpec {
    /// Makes the authenticator `name`, which stands at `place`.
    pub fn compile(
        &self,
        name: &str,
        place: &Place,
        consumers: &Arc<Consumers>,
        problems: &mut Problems,
    ) -> Option<Authenticator> {
        let (kind, carriers, challenge) = match self {
            Self::ApiKey(spec) => {
                let kind = spec.compile(&place.key("api_key"), problems)?;
                let carriers = vec![kind.carrier.clone()];
                let challenge = kind.challenge.clone();
                (Kind::ApiKey(kind), carriers, Some(challenge))
            }
        };
        Some(Authenticator {
            name: name.into(),
            kind,
            consumers: Arc::clone(consumers),
            carriers: carriers.into(),
            challenge: challenge.and_then(|text| HeaderValue::try_from(text).ok()),
        })
    }
}

impl Authenticator {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Looks at what the request shows. Never waits.
    pub(super) fn look(&self, head: &RequestHead, ex: &Exchange) -> Finding {
        match &self.kind {
            Kind::ApiKey(kind) => kind.look(head, ex, &self.consumers),
        }
    }

    /// Looks again after [`Finding::Ask`], and asks.
    pub(super) fn ask<'a>(
        &'a self,
        _head: &'a RequestHead,
        _ex: &'a Exchange,
        _outside: &'a Outside<'a>,
    ) -> Looked<'a> {
        match &self.kind {
            // Never has to.
            Kind::ApiKey(_) => Box::pin(ready(Finding::Unavailable("nobody can be asked"))),
        }
    }

    /// Where in a request its credentials are.
    pub(super) fn carriers(&self) -> &[Carrier] {
        &self.carriers
    }

    /// How it wants to be shown one (RFC 9110 section 11.6.1); nothing where no header could say.
    pub(super) const fn challenge(&self) -> Option<&HeaderValue> {
        self.challenge.as_ref()
    }

    /// Names of headers and query parameters that hold secrets, for logs.
    pub fn secret_names(&self) -> impl Iterator<Item = String> + '_ {
        self.carriers.iter().filter_map(|carrier| match carrier {
            Carrier::Header(name) => Some(name.to_string()),
            Carrier::Query(name) => Some(name.to_string()),
            Carrier::Authorization(_) | Carrier::Cookie(_) => None,
        })
    }
}
