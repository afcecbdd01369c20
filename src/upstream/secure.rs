//! How targets are spoken to: the protocol, whose certificate is believed, and what a connection must prove before a request.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pingora::protocols::tls::TlsRef;
use pingora::protocols::{Digest, TcpKeepalive};
use pingora::tls::x509::X509;
use pingora::upstreams::peer::{HttpPeer, Peer as _};
use pingora::utils::tls::CertKey;
use pingora::{Error, ErrorType, Result as Checked};
use sha2::{Digest as _, Sha256};

use super::spec::{Protocol, Spec, TlsSpec, Verify};
use crate::base::net::{TargetScheme, TargetUrl};
use crate::base::problem::{Place, Problem, Problems};
use crate::tls::{Certificate, Refused, Version, read_authorities};

/// How many requests share one connection to a target that speaks HTTP/2.
pub(super) const STREAMS_MAX: usize = 100;
/// How much of an answer may be on its way, or wait for its client, for each stream of HTTP/2.
const STREAM_WINDOW: u32 = 1024 * 1024;
/// RFC 9113 section 6.9.1.
const WINDOW_MAX: u32 = (1 << 31) - 1;
/// How soon it is noticed that the machine of a target is gone.
const KEEPALIVE: TcpKeepalive = TcpKeepalive {
    idle: Duration::from_secs(60),
    interval: Duration::from_secs(10),
    count: 6,
    #[cfg(target_os = "linux")]
    user_timeout: Duration::ZERO,
};

/// What is common to all targets of an upstream.
#[derive(Clone, Default)]
pub struct Security {
    authorities: Option<Arc<Box<[X509]>>>,
    identity: Option<Arc<CertKey>>,
    server_name: Option<String>,
    min_version: Version,
    unverified: bool,
    protocol: Option<Protocol>,
    /// Tells settings apart: connections are shared among equal ones only.
    digest: u64,
}

impl std::fmt::Debug for Security {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Security").finish_non_exhaustive()
    }
}

impl Security {
    /// Compiles what `spec`, which stands at `place`, says of it; `files` are those it refers to, by their place.
    #[must_use]
    pub fn compile(
        spec: &Spec,
        place: &Place,
        files: &BTreeMap<Place, Bytes>,
        problems: &mut Problems,
    ) -> Self {
        check_protocol(spec, place, problems);
        let mut security = Self {
            protocol: spec.protocol,
            ..Self::default()
        };
        let mut hash = Sha256::new();
        hash.update([spec.protocol.map_or(0, |protocol| protocol as u8 + 1)]);
        if let Some(tls) = &spec.tls {
            let place = place.key("tls");
            security.server_name.clone_from(&tls.server_name);
            security.min_version = tls.min_version;
            security.unverified = tls.verify == Verify::None;
            let at = |key: &str| files.get(&place.key(key)).map_or(&[][..], |file| file);
            for part in [
                tls.server_name.as_deref().unwrap_or_default().as_bytes(),
                &[tls.min_version as u8, u8::from(security.unverified)],
                at("ca_file"),
                at("cert_file"),
                at("key_file"),
            ] {
                hash.update((part.len() as u64).to_be_bytes());
                hash.update(part);
            }
            security.read(tls, &place, files, problems);
        }
        let digest: [u8; 32] = hash.finalize().into();
        let (first, _) = digest.split_first_chunk().unwrap_or((&[0; 8], &[]));
        security.digest = u64::from_be_bytes(*first);
        security
    }

    fn read(
        &mut self,
        tls: &TlsSpec,
        place: &Place,
        files: &BTreeMap<Place, Bytes>,
        problems: &mut Problems,
    ) {
        if let Some(pem) = files.get(&place.key("ca_file")) {
            match read_authorities(pem) {
                Ok(authorities) => self.authorities = Some(Arc::new(authorities.into())),
                Err((what, hint)) => {
                    problems.push(Problem::error("E050", place.key("ca_file"), what).hint(hint));
                }
            }
        }
        let (cert_file, key_file) = (place.key("cert_file"), place.key("key_file"));
        for (one, other, missing) in [
            (&tls.cert_file, &tls.key_file, "key_file"),
            (&tls.key_file, &tls.cert_file, "cert_file"),
        ] {
            if one.is_some() && other.is_none() {
                let what = format!("`{missing}` is missing");
                let problem = Problem::error("E011", place.clone(), what);
                problems.push(problem.hint("a certificate is shown with its key, or not at all"));
            }
        }
        let (Some(chain), Some(key)) = (files.get(&cert_file), files.get(&key_file)) else {
            return;
        };
        match Certificate::read(chain, key) {
            Ok(own) => {
                let key = CertKey::new(own.chain().to_vec(), own.key().clone());
                self.identity = Some(Arc::new(key));
            }
            Err(Refused::Certificate(what, hint)) => {
                problems.push(Problem::error("E050", cert_file, what).hint(hint));
            }
            Err(Refused::Key(what, hint)) => {
                problems.push(Problem::error("E050", key_file, what).hint(hint));
            }
        }
    }

    /// A number that differs where anything here does.
    #[must_use]
    pub const fn digest(&self) -> u64 {
        self.digest
    }

    /// How to speak to a target.
    pub(super) fn manner(&self, url: &TargetUrl) -> Manner {
        let tls = url.scheme().is_tls();
        let name = self.server_name.clone();
        Manner {
            tls,
            // Without a name Pingora would verify nothing.
            name: name.unwrap_or_else(|| {
                let ip = url.ip().map(|ip| ip.to_string());
                ip.unwrap_or_else(|| url.host().to_owned())
            }),
            ip: url.ip().filter(|_| self.server_name.is_none()),
            http2: url.scheme() == TargetScheme::H2c
                || matches!(self.protocol, Some(Protocol::Http2 | Protocol::H2c)),
        }
    }

    /// Puts it into what Pingora connects by.
    pub(super) fn apply(&self, manner: &Manner, streams: usize, peer: &mut HttpPeer) {
        let options = &mut peer.options;
        if manner.http2 {
            options.set_http_version(2, 2);
            options.max_h2_streams = streams;
            options.h2_stream_window_size = Some(STREAM_WINDOW);
            // As much as all streams may have: one whose client takes nothing holds nobody else up.
            let streams = u32::try_from(streams).unwrap_or(u32::MAX);
            let window = STREAM_WINDOW.saturating_mul(streams).min(WINDOW_MAX);
            options.h2_connection_window_size = Some(window);
            // Streams may be silent for long; servers of gRPC take PINGs of HTTP/2 amiss.
            options.tcp_keepalive = Some(KEEPALIVE);
        } else {
            options.set_http_version(1, 1);
        }
        if !manner.tls {
            return;
        }
        peer.client_cert_key.clone_from(&self.identity);
        let options = &mut peer.options;
        options.ca.clone_from(&self.authorities);
        options.verify_cert = !self.unverified;
        // OpenSSL looks for a name; an address is looked for below.
        options.verify_hostname = !self.unverified && manner.ip.is_none();
        let min_version = self.min_version;
        let manner = Manner {
            ip: manner.ip.filter(|_| !self.unverified),
            ..manner.clone()
        };
        options.upstream_tls_handshake_complete_hook = Some(Arc::new(move |ssl: &TlsRef| {
            Some(Arc::new(Proof(prove(ssl, min_version, &manner))))
        }));
    }
}

/// How one target is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Manner {
    pub(super) tls: bool,
    pub(super) name: String,
    ip: Option<IpAddr>,
    pub(super) http2: bool,
}

/// Whether a connection with TLS is as it has to be; what OpenSSL does not look at.
#[derive(Debug)]
pub(super) struct Proof(Result<(), &'static str>);

impl Proof {
    /// Why nothing may be sent, if nothing may.
    #[must_use]
    pub(super) fn refusal(&self) -> Option<&'static str> {
        self.0.err()
    }
}

/// Before the first byte of a request: the connection is as private as it has to be.
///
/// # Errors
/// It is not.
pub fn check_proof(peer: &HttpPeer, digest: Option<&Digest>) -> Checked<()> {
    if !peer.tls() {
        return Ok(());
    }
    let digest = digest.and_then(|digest| digest.ssl_digest.as_ref());
    let refusal = digest
        .and_then(|digest| digest.extension.get::<Proof>())
        .map_or(Some("no proof"), Proof::refusal);
    match refusal {
        None => Ok(()),
        Some(why) => {
            let mut error = Error::explain(ErrorType::TLSHandshakeFailure, why);
            error.as_up();
            Err(error)
        }
    }
}

/// Pingora's connector takes TLS 1.0 and suites without forward secrecy; here it ends (RFC 9325 sections 3.1 and 4.1).
fn prove(ssl: &TlsRef, min_version: Version, manner: &Manner) -> Result<(), &'static str> {
    let suite = ssl.current_cipher().map_or("", |suite| suite.name());
    let sealed = suite.contains("-GCM-") || suite.contains("POLY1305");
    match (ssl.version_str(), min_version) {
        ("TLSv1.3", _) => {}
        ("TLSv1.2", Version::V12) if suite.starts_with("ECDHE-") && sealed => {}
        ("TLSv1.2", Version::V12) => return Err("a weak cipher suite"),
        _ => return Err("a version of TLS that is too old"),
    }
    if manner.http2 && ssl.selected_alpn_protocol() != Some(b"h2") {
        return Err("no HTTP/2");
    }
    let Some(ip) = manner.ip else {
        return Ok(());
    };
    let names = ssl.peer_certificate().and_then(|it| it.subject_alt_names());
    let is_ip = |bytes: &[u8]| match ip {
        IpAddr::V4(ip) => bytes == ip.octets(),
        IpAddr::V6(ip) => bytes == ip.octets(),
    };
    let mut names = names.iter().flatten();
    if names.any(|name| name.ipaddress().is_some_and(is_ip)) {
        Ok(())
    } else {
        Err("a certificate for another address")
    }
}

fn check_protocol(spec: &Spec, place: &Place, problems: &mut Problems) {
    for (index, target) in spec.targets.iter().enumerate() {
        let scheme = target.url.scheme();
        let (what, hint) = match (spec.protocol, scheme) {
            (Some(Protocol::Http2), scheme) if !scheme.is_tls() => (
                "`http2` is spoken by TLS",
                "write `https://`, or `protocol: h2c`",
            ),
            (Some(Protocol::H2c), scheme) if scheme.is_tls() => {
                ("`h2c` is spoken without TLS", "write `protocol: http2`")
            }
            (Some(Protocol::Http1), TargetScheme::H2c) => (
                "`h2c://` is no HTTP/1",
                "write `http://`, or take `protocol` out",
            ),
            _ => continue,
        };
        let place = place.key("targets").index(index).key("url");
        problems.push(Problem::error("E053", place, what).hint(hint));
    }
}
