//! One way of finding out who is calling, by the name that routes give it.

use std::collections::BTreeMap;
use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::api_key::{self, ApiKey};
use super::basic::{self, Basic};
use super::carrier::Carrier;
use super::client_cert::{self, ClientCert};
use super::consumers::Consumers;
use super::finding::Finding;
use super::jwt::{self, Jwt};
use crate::base::clock::SharedClock;
use crate::base::problem::{Place, Problems};
use crate::base::task::{Spawner, TaskGuard};
use crate::call::{Http, Outside};
use crate::exchange::{Exchange, RequestHead};
use crate::telemetry::Telemetry;
use crate::upstream::Names;

impl std::fmt::Debug for Means {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Means").finish_non_exhaustive()
    }
}

/// One kind of authenticator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuthenticatorSpec {
    /// API keys of consumers.
    ApiKey(api_key::Spec),
    /// Signed tokens of an issuer.
    Jwt(jwt::Spec),
    /// Names and passwords of a file.
    Basic(basic::Spec),
    /// Certificates that clients show.
    ClientCert(client_cert::Spec),
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
    /// The same for whom its credential does not help.
    invalid: Option<HeaderValue>,
}

#[derive(Debug)]
enum Kind {
    ApiKey(ApiKey),
    Jwt(Box<Jwt>),
    Basic(Box<Basic>),
    ClientCert(ClientCert),
}

/// What tasks of authenticators need to fetch anything.
#[derive(Clone)]
pub struct Means {
    /// Who knows the addresses of names.
    pub names: Arc<dyn Names>,
    /// Starts tasks.
    pub spawner: Spawner,
    /// The time.
    pub clock: SharedClock,
    /// Connections.
    pub http: Arc<Http>,
}

impl AuthenticatorSpec {
    /// The file it refers to, with its place, where `place` is its own.
    #[must_use]
    pub fn file(&self, place: &Place) -> Option<(Place, String)> {
        match self {
            Self::ApiKey(_) | Self::ClientCert(_) => None,
            Self::Jwt(spec) => spec.file(&place.key("jwt")),
            Self::Basic(spec) => {
                let place = place.key("basic").key("htpasswd_file");
                Some((place, spec.htpasswd_file.clone()))
            }
        }
    }

    /// Makes the authenticator `name`, which stands at `place`; `files` are those that the config refers to.
    pub fn compile(
        &self,
        name: &str,
        place: &Place,
        (consumers, files): (&Arc<Consumers>, &BTreeMap<Place, Bytes>),
        problems: &mut Problems,
    ) -> Option<Authenticator> {
        let (kind, carriers, challenge, invalid) = match self {
            Self::ApiKey(spec) => {
                let kind = spec.compile(&place.key("api_key"), problems)?;
                let carriers = vec![kind.carrier.clone()];
                let challenge = kind.challenge.clone();
                (Kind::ApiKey(kind), carriers, Some(challenge), None)
            }
            Self::Jwt(spec) => {
                let kind = spec.compile(&place.key("jwt"), files, problems)?;
                let carriers = kind.carriers.clone();
                let invalid = "Bearer realm=\"api\", error=\"invalid_token\"".to_owned();
                let challenge = "Bearer realm=\"api\"".to_owned();
                (
                    Kind::Jwt(Box::new(kind)),
                    carriers,
                    Some(challenge),
                    Some(invalid),
                )
            }
            Self::Basic(spec) => {
                let at = self.file(place);
                let file = at.and_then(|(at, _)| files.get(&at));
                let kind = spec.compile(&place.key("basic"), file, problems)?;
                let challenge = Basic::CHALLENGE.to_owned();
                (
                    Kind::Basic(Box::new(kind)),
                    vec![Basic::CARRIER],
                    Some(challenge),
                    None,
                )
            }
            Self::ClientCert(spec) => {
                let kind = ClientCert {
                    part: spec.identity,
                };
                (Kind::ClientCert(kind), Vec::new(), None, None)
            }
        };
        let header = |text: Option<String>| HeaderValue::try_from(text?).ok();
        Some(Authenticator {
            name: name.into(),
            kind,
            consumers: Arc::clone(consumers),
            carriers: carriers.into(),
            challenge: header(challenge),
            invalid: header(invalid),
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
        let known = (&self.name, &*self.consumers);
        match &self.kind {
            Kind::ApiKey(kind) => kind.look(head, ex, &self.consumers),
            Kind::Jwt(kind) => kind.look(head, ex, known),
            Kind::Basic(kind) => kind.look(head, &self.consumers),
            Kind::ClientCert(kind) => kind.look(ex, known),
        }
    }

    /// Asks, after [`Finding::Ask`]; says anything else.
    pub(super) fn ask<'a>(
        &'a self,
        head: &'a RequestHead,
        ex: &'a Exchange,
        _outside: &'a Outside<'a>,
    ) -> Looked<'a> {
        let known = (&self.name, &*self.consumers);
        match &self.kind {
            Kind::Jwt(kind) => Box::pin(kind.ask(head, ex, known)),
            Kind::Basic(kind) => Box::pin(kind.ask(head, known)),
            // They never have to.
            Kind::ApiKey(_) | Kind::ClientCert(_) => {
                Box::pin(ready(Finding::Unavailable("nobody can be asked")))
            }
        }
    }

    /// Begins what needs a task.
    #[must_use]
    pub fn start(&self, means: &Means, telemetry: &Telemetry) -> Option<TaskGuard> {
        match &self.kind {
            Kind::Jwt(kind) => kind.start(&self.name, means, || telemetry.keys_of(&self.name)),
            Kind::ApiKey(_) | Kind::Basic(_) | Kind::ClientCert(_) => None,
        }
    }

    /// Takes over what was found out under another config.
    pub fn inherit(&self, before: &Self) {
        if let (Kind::Jwt(mine), Kind::Jwt(theirs)) = (&self.kind, &before.kind) {
            mine.inherit(theirs);
        }
    }

    /// What is asked of others while the gateway runs, for people.
    #[must_use]
    pub fn fetched(&self) -> Option<String> {
        match &self.kind {
            Kind::Jwt(kind) => kind.fetched(),
            Kind::ApiKey(_) | Kind::Basic(_) | Kind::ClientCert(_) => None,
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

    /// The same, once one was shown that does not hold (RFC 6750 section 3).
    pub(super) fn invalid(&self) -> Option<&HeaderValue> {
        self.invalid.as_ref().or(self.challenge.as_ref())
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
