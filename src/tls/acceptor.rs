//! How a handshake goes with one certificate and one policy on clients (RFC 9325).

use std::sync::Arc;

use pingora::tls::error::ErrorStack;
use pingora::tls::ssl::{
    AlpnError, SslAcceptor, SslMethod, SslOptions, SslSessionCacheMode, SslVerifyMode, SslVersion,
    select_next_proto,
};
use pingora::tls::x509::store::X509StoreBuilder;

use super::certificate::Certificate;
use super::client::Policy;
use super::site::Offer;
use super::spec::{ClientAuthMode, Version};
use super::staple::Staple;

/// RFC 9325 section 4.2, and ChaCha20 for what has no AES: forward secrecy and authenticated encryption, nothing else.
const SUITES: &str = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:\
    ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:\
    ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";

/// The names of protocols as ALPN has them, each with its length before it (RFC 7301 section 3.1), the best first.
const BOTH: &[u8] = b"\x02h2\x08http/1.1\x08http/1.0";
const HTTP2: &[u8] = b"\x02h2";
const HTTP1: &[u8] = b"\x08http/1.1\x08http/1.0";

/// What a handshake shows: a certificate, and what is said of it, if anybody is asked.
pub(super) type Shown<'a> = (&'a Certificate, Option<&'a Arc<Staple>>);

/// Puts it together. Each acceptor has keys of its own for tickets: a session goes on where it began, and nowhere else.
pub(super) fn acceptor(
    (certificate, staple): Shown<'_>,
    min_version: Version,
    offer: Offer,
    policy: Option<&Policy>,
) -> Result<SslAcceptor, ErrorStack> {
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls())?;
    builder.set_cipher_list(SUITES)?;
    builder.set_min_proto_version(Some(match min_version {
        Version::V12 => SslVersion::TLS1_2,
        Version::V13 => SslVersion::TLS1_3,
    }))?;
    builder.set_max_proto_version(Some(SslVersion::TLS1_3))?;
    // A client that renegotiates lets us work for nothing.
    builder.set_options(SslOptions::NO_RENEGOTIATION | SslOptions::NO_COMPRESSION);
    // Sessions live in the client's ticket, never in our memory.
    builder.set_session_cache_mode(SslSessionCacheMode::OFF);
    builder.set_session_id_context(b"doorward")?;
    if let Some((leaf, issuers)) = certificate.chain().split_first() {
        builder.set_certificate(leaf)?;
        for issuer in issuers {
            builder.add_extra_chain_cert(issuer.clone())?;
        }
    }
    builder.set_private_key(certificate.key())?;
    builder.check_private_key()?;
    if let Some(staple) = staple.map(Arc::clone) {
        builder.set_status_callback(move |ssl| staple.show(ssl))?;
    }
    let names = offer.names();
    builder.set_alpn_select_callback(move |_, wanted| {
        select_next_proto(names, wanted).ok_or(AlpnError::ALERT_FATAL)
    });
    if let Some(policy) = policy {
        let mut store = X509StoreBuilder::new()?;
        for authority in &policy.authorities {
            store.add_cert(authority.clone())?;
            builder.add_client_ca(authority)?;
        }
        builder.set_verify_cert_store(store.build())?;
        let mode = match policy.mode {
            ClientAuthMode::Required => SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT,
            ClientAuthMode::Optional => SslVerifyMode::PEER,
        };
        builder.set_verify_callback(mode, policy.verdict());
        // A ticket would outlive the certificate's time and its revocation: it is looked at each time.
        builder.set_options(SslOptions::NO_TICKET);
    }
    Ok(builder.build())
}

impl Offer {
    /// What is offered by ALPN.
    const fn names(self) -> &'static [u8] {
        match (self.http1, self.http2) {
            (true, true) => BOTH,
            (false, true) => HTTP2,
            (_, false) => HTTP1,
        }
    }
}
