//! `tls` of a listener as written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::base::problem::Place;

/// How clients are spoken to in private.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Certificates with their keys; names are read from the certificate, an exact one wins over a wildcard. At least one.
    pub certificates: Vec<CertificateSpec>,
    /// The oldest version that is spoken: `"1.2"` or `"1.3"`. Default `"1.2"`.
    #[serde(default)]
    pub min_version: Version,
    /// What a client gets that asks for a name of no certificate: `reject`, or `use_default`. Default `reject`.
    #[serde(default)]
    pub unknown_name: UnknownName,
    /// Whether clients that ask are shown what each certificate's authority says of it (OCSP); its responder is asked in the
    /// background, and no handshake waits for it. Default false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ocsp_stapling: bool,
    /// Hosts whose clients show a certificate of their own, by exact host. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub client_auth: BTreeMap<String, ClientAuthSpec>,
}

impl Spec {
    /// The files it refers to, with their places, where `place` is its own.
    #[must_use]
    pub fn files(&self, place: &Place) -> Vec<(Place, String)> {
        let mut files = Vec::new();
        let certificates = place.key("certificates");
        for (index, written) in self.certificates.iter().enumerate() {
            let place = certificates.index(index);
            files.push((place.key("cert_file"), written.cert_file.clone()));
            files.push((place.key("key_file"), written.key_file.clone()));
        }
        for (host, written) in &self.client_auth {
            let place = place.key("client_auth").key(host);
            files.push((place.key("ca_file"), written.ca_file.clone()));
            let crl = written.crl_file.clone();
            files.extend(crl.map(|file| (place.key("crl_file"), file)));
        }
        files
    }
}

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificateSpec {
    /// The certificate in PEM form, then those of its issuers; a relative path is relative to the config file.
    pub cert_file: String,
    /// Its private key in PEM form, without a passphrase.
    pub key_file: String,
    /// Whether clients get it that ask for no name, or for one of no certificate. Default false; the first, if none is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub default: bool,
}

/// Whether clients of a host show a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClientAuthSpec {
    /// `required`: nobody connects without; `optional`: who shows one shows a good one. Default `required`.
    #[serde(default)]
    pub mode: ClientAuthMode,
    /// The authorities that may have issued it, in PEM form.
    pub ca_file: String,
    /// Lists of revoked certificates in PEM form, one of each authority. Default: nothing is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crl_file: Option<String>,
}

/// Whether a client must show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuthMode {
    /// It must.
    #[default]
    Required,
    /// It may.
    Optional,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
pub enum Version {
    /// TLS 1.2 (RFC 5246).
    #[default]
    #[serde(rename = "1.2")]
    V12,
    /// TLS 1.3 (RFC 8446).
    #[serde(rename = "1.3")]
    V13,
}

/// What a client gets that asks for a name of no certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnknownName {
    /// No connection: the alert `unrecognized_name`.
    #[default]
    Reject,
    /// The default certificate.
    UseDefault,
}
