//! One way of finding out who is calling, by the name that routes give it.

use std::collections::BTreeMap;
use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::api_key::{self, ApiKey};
use super::basic::{self, Basic};
use super::carrier::Carrier;
use super::client_cert::{self, ClientCert};
use super::consumers::Consumers;
use super::ext_authz::{self, ExtAuthz};
use super::finding::{By, Finding};
use super::forward::{self, Forward};
use super::introspection::{self, Introspection};
use super::jwt::{self, Jwt};
use super::rules::Proof;
use super::signature::{self, Signature};
use crate::base::clock::SharedClock;
use crate::base::problem::{Place, Problems};
use crate::base::task::{Spawner, TaskGuard};
use crate::call::{Http, Outside};
use crate::exchange::{Exchange, RequestHead};
use crate::link::Names;
use crate::telemetry::Telemetry;
use crate::upstream::Names as HostNames;

/// Who gets 401 is told how to do better (RFC 9110 section 15.5.2), also where no scheme is registered for it.
const BY_TLS: &str = "ClientCertificate realm=\"api\"";
const SIGNED: &str = "Signature realm=\"api\"";
/// RFC 6750 section 3.1.
const INVALID_TOKEN: &str = "Bearer realm=\"api\", error=\"invalid_token\"";

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
    /// Tokens that their issuer is asked about.
    Introspection(introspection::Spec),
    /// A service that decides, asked by HTTP.
    Forward(forward::Spec),
    /// The same, asked by gRPC.
    ExtAuthz(ext_authz::Spec),
    /// Requests that their client signs.
    Signature(signature::Spec),
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
    Introspection(Box<Introspection>),
    Forward(Box<Forward>),
    ExtAuthz(Box<ExtAuthz>),
    Signature(Box<Signature>),
}

impl std::fmt::Debug for References<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("References").finish_non_exhaustive()
    }
}

/// What an authenticator may refer to.
#[derive(Clone, Copy)]
pub struct References<'a> {
    /// Whom it may know.
    pub consumers: &'a Arc<Consumers>,
    /// Files, by where they are named.
    pub files: &'a BTreeMap<Place, Bytes>,
    /// Upstreams.
    pub names: &'a Names,
}

/// What tasks of authenticators need to fetch anything.
#[derive(Clone)]
pub struct Means {
    /// Who knows the addresses of names.
    pub names: Arc<dyn HostNames>,
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
            Self::Jwt(spec) => spec.file(&place.key("jwt")),
            Self::Basic(spec) => {
                let place = place.key("basic").key("htpasswd_file");
                Some((place, spec.htpasswd_file.clone()))
            }
            Self::Signature(spec) => {
                let place = place.key("signature").key("keys_file");
                Some((place, spec.keys_file.clone()))
            }
            Self::ApiKey(_)
            | Self::ClientCert(_)
            | Self::Introspection(_)
            | Self::Forward(_)
            | Self::ExtAuthz(_) => None,
        }
    }

    /// What it asks that is no upstream: its kind, the key that says where, and the URL.
    #[must_use]
    pub fn asks(&self) -> Option<(&'static str, &'static str, &str)> {
        match self {
            Self::Jwt(spec) => spec.asks().map(|(key, url)| ("jwt", key, url)),
            Self::Introspection(spec) => Some(("introspection", "endpoint", spec.asks())),
            Self::ApiKey(_)
            | Self::ClientCert(_)
            | Self::Basic(_)
            | Self::Forward(_)
            | Self::ExtAuthz(_)
            | Self::Signature(_) => None,
        }
    }

    /// What it vouches for, that consumers may be recognised by.
    #[must_use]
    pub const fn proof(&self) -> Option<Proof> {
        match self {
            Self::Jwt(_) | Self::Introspection(_) => Some(Proof::Claim),
            Self::Basic(_) => Some(Proof::User),
            Self::ClientCert(_) => Some(Proof::Certificate),
            Self::Signature(_) => Some(Proof::Claim),
            Self::ApiKey(_) | Self::Forward(_) | Self::ExtAuthz(_) => None,
        }
    }

    /// The upstream that it asks.
    #[must_use]
    pub fn upstream(&self) -> Option<&str> {
        match self {
            Self::Forward(spec) => Some(&spec.upstream),
            Self::ExtAuthz(spec) => Some(&spec.upstream),
            Self::ApiKey(_)
            | Self::ClientCert(_)
            | Self::Introspection(_)
            | Self::Jwt(_)
            | Self::Basic(_)
            | Self::Signature(_) => None,
        }
    }

    /// Makes the authenticator `name`, which stands at `place`.
    pub fn compile(
        &self,
        name: &str,
        place: &Place,
        refer: References<'_>,
        problems: &mut Problems,
    ) -> Option<Authenticator> {
        let bearer = || Some("Bearer realm=\"api\"".to_owned());
        let (kind, carriers, challenge) = match self {
            Self::ApiKey(spec) => {
                let kind = spec.compile(&place.key("api_key"), problems)?;
                let carriers = vec![kind.carrier.clone()];
                let challenge = kind.challenge.clone();
                (Kind::ApiKey(kind), carriers, Some(challenge))
            }
            Self::Jwt(spec) => {
                let kind = spec.compile(&place.key("jwt"), refer.files, problems)?;
                let carriers = kind.carriers.clone();
                (Kind::Jwt(Box::new(kind)), carriers, bearer())
            }
            Self::Introspection(spec) => {
                let kind = spec.compile(&place.key("introspection"), problems)?;
                let carriers = kind.carriers.clone();
                (Kind::Introspection(Box::new(kind)), carriers, bearer())
            }
            Self::Basic(spec) => {
                let at = self.file(place);
                let file = at.and_then(|(at, _)| refer.files.get(&at));
                let kind = spec.compile(&place.key("basic"), file, problems)?;
                let challenge = Basic::CHALLENGE.to_owned();
                let kind = Kind::Basic(Box::new(kind));
                (kind, vec![Basic::CARRIER], Some(challenge))
            }
            Self::ClientCert(spec) => {
                let part = spec.identity;
                let kind = Kind::ClientCert(ClientCert { part });
                (kind, Vec::new(), Some(BY_TLS.to_owned()))
            }
            Self::Forward(spec) => {
                let kind = spec.compile(&place.key("forward"), refer.names, problems)?;
                let carriers = kind.carriers();
                (Kind::Forward(Box::new(kind)), carriers, None)
            }
            Self::ExtAuthz(spec) => {
                let kind = spec.compile(&place.key("ext_authz"), refer.names, problems)?;
                let carriers = vec![ExtAuthz::CARRIER];
                (Kind::ExtAuthz(Box::new(kind)), carriers, None)
            }
            Self::Signature(spec) => {
                let file = self.file(place).and_then(|(at, _)| refer.files.get(&at));
                let kind = spec.compile(&place.key("signature"), file, problems)?;
                let kind = Kind::Signature(Box::new(kind));
                (kind, Signature::carriers(), Some(SIGNED.to_owned()))
            }
        };
        let invalid = matches!(kind, Kind::Jwt(_) | Kind::Introspection(_))
            .then_some(HeaderValue::from_static(INVALID_TOKEN));
        Some(Authenticator {
            name: name.into(),
            kind,
            consumers: Arc::clone(refer.consumers),
            carriers: carriers.into(),
            challenge: challenge.and_then(|text| HeaderValue::try_from(text).ok()),
            invalid,
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
            Kind::Introspection(kind) => kind.look(head, ex, &self.consumers),
            Kind::Forward(kind) => kind.look(head, ex, &self.consumers),
            Kind::ExtAuthz(kind) => kind.look(head, ex, &self.consumers),
            Kind::Signature(kind) => kind.look(head, ex, known),
        }
    }

    /// Asks, after [`Finding::Ask`]; says anything else.
    pub(super) fn ask<'a>(
        &'a self,
        head: &'a RequestHead,
        ex: &'a Exchange,
        outside: &'a Outside<'a>,
    ) -> Looked<'a> {
        let known = (&self.name, &*self.consumers);
        match &self.kind {
            Kind::Jwt(kind) => Box::pin(kind.ask(head, ex, known)),
            Kind::Basic(kind) => Box::pin(kind.ask(head, ex.mode, known)),
            Kind::Introspection(kind) => Box::pin(kind.ask(head, ex, known, outside)),
            Kind::Forward(kind) => Box::pin(kind.ask(head, ex, known, outside)),
            Kind::ExtAuthz(kind) => Box::pin(kind.ask(head, ex, known, outside)),
            // They never have to.
            Kind::ApiKey(_) | Kind::ClientCert(_) | Kind::Signature(_) => {
                Box::pin(ready(Finding::Unavailable("nobody can be asked")))
            }
        }
    }

    /// Who finds out what it asks for.
    pub(super) const fn finds_out(&self) -> By {
        match self.kind {
            Kind::Basic(_) => By::Us,
            Kind::ApiKey(_)
            | Kind::ClientCert(_)
            | Kind::Jwt(_)
            | Kind::Introspection(_)
            | Kind::Forward(_)
            | Kind::ExtAuthz(_)
            | Kind::Signature(_) => By::Others,
        }
    }

    /// Begins what needs a task, and waits a little for the names of those it asks.
    pub async fn start(&self, means: &Means, telemetry: &Telemetry) -> Vec<TaskGuard> {
        match &self.kind {
            Kind::Jwt(kind) => {
                let keeper = kind.start(&self.name, means, || telemetry.keys_of(&self.name));
                keeper.into_iter().collect()
            }
            Kind::Introspection(kind) => kind.start(means).await,
            Kind::ApiKey(_)
            | Kind::Basic(_)
            | Kind::ClientCert(_)
            | Kind::Forward(_)
            | Kind::ExtAuthz(_)
            | Kind::Signature(_) => Vec::new(),
        }
    }

    /// Takes over what was found out under another config.
    pub fn inherit(&self, before: &Self) {
        match (&self.kind, &before.kind) {
            (Kind::Jwt(mine), Kind::Jwt(theirs)) => mine.inherit(theirs),
            (Kind::Basic(mine), Kind::Basic(theirs)) => mine.inherit(theirs),
            _ => {}
        }
    }

    /// What is asked of others while the gateway runs, for people.
    #[must_use]
    pub fn fetched(&self) -> Option<String> {
        let (what, at) = match &self.kind {
            Kind::Jwt(kind) => ("keys of", kind.fetched()?),
            Kind::Introspection(kind) => ("answers for", kind.asked()),
            Kind::ApiKey(_)
            | Kind::Basic(_)
            | Kind::ClientCert(_)
            | Kind::Forward(_)
            | Kind::ExtAuthz(_)
            | Kind::Signature(_) => return None,
        };
        Some(format!("{what} `{}` ({at})", self.name))
    }

    /// Headers for the upstream that only it writes.
    pub(super) fn keeps(&self) -> &[HeaderName] {
        match &self.kind {
            Kind::Forward(kind) => kind.keeps(),
            Kind::ApiKey(_)
            | Kind::Basic(_)
            | Kind::ClientCert(_)
            | Kind::Jwt(_)
            | Kind::Introspection(_)
            | Kind::ExtAuthz(_)
            | Kind::Signature(_) => &[],
        }
    }

    /// Whether the body of whoever it knows has to be the one that was signed.
    pub(super) fn covers_body(&self) -> bool {
        matches!(&self.kind, Kind::Signature(kind) if kind.covers_body())
    }

    /// The longest body that it can show whoever it asks; none = it shows none.
    pub(super) fn shown_max(&self) -> Option<u64> {
        match &self.kind {
            Kind::ExtAuthz(kind) => kind.shown_max(),
            Kind::ApiKey(_)
            | Kind::Basic(_)
            | Kind::ClientCert(_)
            | Kind::Jwt(_)
            | Kind::Introspection(_)
            | Kind::Forward(_)
            | Kind::Signature(_) => None,
        }
    }

    /// The signature that it wants, as `Accept-Signature` says it.
    pub(super) fn wanted_signature(&self) -> Option<&HeaderValue> {
        match &self.kind {
            Kind::Signature(kind) => kind.wanted.as_ref(),
            Kind::ApiKey(_)
            | Kind::Basic(_)
            | Kind::ClientCert(_)
            | Kind::Jwt(_)
            | Kind::Introspection(_)
            | Kind::Forward(_)
            | Kind::ExtAuthz(_) => None,
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
