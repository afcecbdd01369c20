//! Certificates of clients: TLS has verified them already; here they say who is calling.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::consumers::Consumers;
use super::finding::Finding;
use crate::exchange::{Exchange, Identity};

/// Certificates that the listener asked for (`tls.client_auth`) and verified.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// What of it says who is calling. Default `san_uri`.
    #[serde(default)]
    pub(super) identity: Part,
}

/// A part of a certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Part {
    /// Its URI, of which there has to be one, e.g. `spiffe://acme/web`.
    #[default]
    SanUri,
    /// Its DNS name, of which there has to be one.
    SanDns,
    /// Its subject, e.g. `CN=web,O=Acme`: the last part first, as RFC 4514 has it.
    Subject,
}

/// Reads certificates.
#[derive(Debug)]
pub(super) struct ClientCert {
    pub(super) part: Part,
}

impl ClientCert {
    /// Whose certificate the connection has.
    pub(super) fn look(&self, ex: &Exchange, (name, known): (&Arc<str>, &Consumers)) -> Finding {
        let client = ex
            .secured
            .as_ref()
            .and_then(|secured| secured.client.as_ref());
        let Some(client) = client else {
            return Finding::Absent;
        };
        let one = |names: &[Box<str>]| match names {
            [one] => Some(one.clone()),
            [] | [_, ..] => None,
        };
        let subject = match self.part {
            Part::SanUri => one(&client.uris),
            Part::SanDns => one(&client.dns),
            Part::Subject => client.subject.clone(),
        };
        let Some(subject) = subject else {
            return Finding::Refused("its certificate has no such name, or more than one");
        };
        let consumer = match known.of_certificate(name, client) {
            Ok(consumer) => consumer,
            Err(why) => return Finding::Refused(why),
        };
        known.admit(Arc::new(Identity {
            method: "client_cert",
            authenticator: Arc::clone(name),
            subject: Some(subject),
            credential: client.thumbprint.short().into(),
            consumer: consumer.cloned(),
            ..Identity::default()
        }))
    }
}
