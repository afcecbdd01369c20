//! How consumers are recognised by what others vouch for: claims of tokens, names of certificates, names of users.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use crate::base::problem::{Place, Problem, Problems};
use crate::exchange::Consumer;
use crate::expr::{ClaimPath, claim_text};
use crate::tls::ClientCertificate;

/// Two credentials would be of different consumers: nobody knows whose the request is.
const TWO: &str = "it is of two consumers";

/// One rule, or a list of them; one that holds is enough.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(super) struct Identify(
    pub(super) Vec<RuleSpec>,
    /// Whether it is written as a list.
    #[serde(skip)]
    bool,
);

/// By what a consumer is recognised: exactly one of `claim` (with `equals`), `san_uri`, `san_dns`, `subject`, `basic`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleSpec {
    /// A claim of a token, e.g. `azp`, or the way to it, e.g. `realm_access.client`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    claim: Option<String>,
    /// What that claim is, to the letter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    equals: Option<String>,
    /// The authenticator whose word is taken for it. Default: any; then all of them have to be trusted with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) authenticator: Option<String>,
    /// The URI of a client's certificate, e.g. `spiffe://acme/web`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    san_uri: Option<String>,
    /// The DNS name of a client's certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    san_dns: Option<String>,
    /// The subject of a client's certificate, e.g. `CN=web,O=Acme`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    /// The user of `basic`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    basic: Option<String>,
}

/// What somebody is recognised by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// A claim of whoever vouches.
    Claim,
    /// A name in a client's certificate.
    Certificate,
    /// The user of a password.
    User,
}

impl RuleSpec {
    /// What it goes by.
    pub(super) const fn proof(&self) -> Proof {
        match (&self.claim, &self.basic) {
            (Some(_), _) => Proof::Claim,
            (None, Some(_)) => Proof::User,
            (None, None) => Proof::Certificate,
        }
    }
}

impl Identify {
    /// Where rule `index` of the consumer at `place` stands.
    pub(super) fn place(&self, place: &Place, index: usize) -> Place {
        let place = place.key("identify");
        if self.1 { place.index(index) } else { place }
    }
}

impl<'de> Deserialize<'de> for Identify {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = Identify;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map such as `{ claim: azp, equals: web }`, or a list of them")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Identify, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(items))
                    .map(|rules| Identify(rules, true))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Identify, A::Error> {
                let one = RuleSpec::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Identify(vec![one], false))
            }
        }
        from.deserialize_any(Form)
    }
}

impl JsonSchema for Identify {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Identify".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<RuleSpec>();
        schemars::json_schema!({
            "description": "One rule, or a list of them; one that holds is enough.",
            "anyOf": [one, { "type": "array", "items": one }]
        })
    }
}

type ByText = HashMap<Box<str>, Arc<Consumer>>;

/// By who vouches for it: an authenticator, or any.
type ByTrusted = BTreeMap<Option<Box<str>>, ByText>;

/// The rules of all consumers.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// By the claim as it is written, and who vouches for it.
    claims: BTreeMap<(Box<str>, Option<Box<str>>), ByClaim>,
    uris: ByTrusted,
    dns: ByTrusted,
    subjects: ByTrusted,
    users: ByTrusted,
}

/// The consumers that one claim tells apart.
#[derive(Debug)]
struct ByClaim {
    path: ClaimPath,
    consumers: ByText,
}

impl Rules {
    /// Adds a rule of `consumer`, which stands at `place`; mistakes are reported.
    pub(super) fn add(
        &mut self,
        consumer: &Arc<Consumer>,
        spec: &RuleSpec,
        place: &Place,
        problems: &mut Problems,
    ) {
        let written = [
            &spec.claim,
            &spec.san_uri,
            &spec.san_dns,
            &spec.subject,
            &spec.basic,
        ];
        let several = written.iter().filter(|it| it.is_some()).count() != 1;
        let of_claim = spec.claim.is_some();
        if several || spec.equals.is_some() != of_claim {
            let what = "this says nothing by which somebody is recognised";
            let problem = Problem::error("E060", place.clone(), what);
            let hint = "one of `{ claim: azp, equals: web }`, `{ san_uri: … }`, `{ san_dns: … }`, `{ subject: … }`, `{ basic: … }`";
            return problems.push(problem.hint(hint));
        }
        let trusted = || spec.authenticator.as_deref().map(Into::into);
        let (map, value) = match (
            &spec.claim,
            &spec.san_uri,
            &spec.san_dns,
            &spec.subject,
            &spec.basic,
        ) {
            (Some(claim), ..) => (self.by_claim(claim, spec), spec.equals.as_ref()),
            (_, Some(uri), ..) => (self.uris.entry(trusted()).or_default(), Some(uri)),
            (_, _, Some(name), ..) => (self.dns.entry(trusted()).or_default(), Some(name)),
            (_, _, _, Some(subject), _) => {
                (self.subjects.entry(trusted()).or_default(), Some(subject))
            }
            (.., user) => (self.users.entry(trusted()).or_default(), user.as_ref()),
        };
        let Some(value) = value else { return };
        let before = map.insert(value.as_str().into(), Arc::clone(consumer));
        if before.is_some() {
            let what = "somebody is recognised by this already";
            let problem = Problem::error("E061", place.clone(), what);
            problems.push(problem.hint("a credential is one consumer's, and stands there once"));
        }
    }

    fn by_claim(&mut self, claim: &str, spec: &RuleSpec) -> &mut ByText {
        let authenticator = spec.authenticator.as_deref().map(Into::into);
        let found = self.claims.entry((claim.into(), authenticator));
        let found = found.or_insert_with(|| ByClaim {
            path: ClaimPath::new(claim),
            consumers: ByText::new(),
        });
        &mut found.consumers
    }

    /// Whom the claims speak of, that `authenticator` vouches for.
    pub(super) fn of_claims(
        &self,
        authenticator: &str,
        claims: &Map<String, Json>,
    ) -> Result<Option<Arc<Consumer>>, &'static str> {
        let found = self.claims.iter().filter_map(|((_, trusted), it)| {
            if trusted.as_deref().is_some_and(|name| name != authenticator) {
                return None;
            }
            let claim = it.path.of(claims)?;
            // A list of names is no name.
            if claim.is_array() || claim.is_object() {
                return None;
            }
            it.consumers.get(&*claim_text(claim)?)
        });
        only(found).map(|consumer| consumer.cloned())
    }

    /// Whose certificate it is, that `authenticator` vouches for.
    pub(super) fn of_certificate(
        &self,
        authenticator: &str,
        client: &ClientCertificate,
    ) -> Result<Option<&Arc<Consumer>>, &'static str> {
        let uris = client.uris.iter();
        let uris = uris.flat_map(|uri| of(&self.uris, authenticator, uri));
        let dns = client.dns.iter();
        let dns = dns.flat_map(|name| of(&self.dns, authenticator, name));
        let subject = client.subject.iter();
        let subject = subject.flat_map(|it| of(&self.subjects, authenticator, it));
        only(uris.chain(dns).chain(subject))
    }

    /// Who the user is, that `authenticator` vouches for.
    pub(super) fn of_user(
        &self,
        authenticator: &str,
        user: &str,
    ) -> Result<Option<&Arc<Consumer>>, &'static str> {
        only(of(&self.users, authenticator, user))
    }
}

/// Whom the text stands for, where `authenticator` is trusted with it.
fn of<'c>(
    map: &'c ByTrusted,
    authenticator: &str,
    text: &str,
) -> impl Iterator<Item = &'c Arc<Consumer>> + use<'c> {
    let trusted = map.get(&Some(authenticator.into()));
    let anybody = map.get(&None);
    let found = [trusted, anybody].map(|it| it.and_then(|it| it.get(text)));
    found.into_iter().flatten()
}

fn only<'c>(
    mut found: impl Iterator<Item = &'c Arc<Consumer>>,
) -> Result<Option<&'c Arc<Consumer>>, &'static str> {
    let first = found.next();
    match first {
        Some(first) if found.any(|other| other.name != first.name) => Err(TWO),
        first => Ok(first),
    }
}
