//! Certificates of clients: whose word is taken, which are revoked, and what the upstream is told of them (RFC 9440).

use std::sync::Arc;

use http::HeaderValue;
use pingora::tls::ssl::SslRef;
use pingora::tls::x509::{
    CrlStatus, GeneralNameRef, X509, X509Crl, X509Ref, X509StoreContextRef, X509VerifyResult,
};
use sha2::{Digest as _, Sha256};

use crate::base::digest::Digest;

use super::certificate::{read_authorities, seconds};
use super::spec::ClientAuthMode;

/// The longest header that is made of one certificate; a longer chain is not handed on.
const HEADER_BYTES_MAX: usize = 8 * 1024;

/// Whose certificates are taken at a host.
#[derive(Clone)]
pub struct Policy {
    pub(super) mode: ClientAuthMode,
    pub(super) authorities: Vec<X509>,
    revoked: Arc<[X509Crl]>,
    id: [u8; 32],
}

impl std::fmt::Debug for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Policy").finish_non_exhaustive()
    }
}

/// Which file is wrong, what about it, and how to mend it.
pub(super) struct Mistake {
    pub(super) key: &'static str,
    pub(super) what: &'static str,
    pub(super) hint: &'static str,
}

impl Policy {
    /// Reads authorities and lists of revoked certificates, both in PEM form.
    pub(super) fn read(
        mode: ClientAuthMode,
        ca: &[u8],
        crl: Option<&[u8]>,
    ) -> Result<Self, Mistake> {
        let authorities = read_authorities(ca).map_err(|(what, hint)| Mistake {
            key: "ca_file",
            what,
            hint,
        })?;
        let revoked = match crl {
            Some(pem) => lists(pem, &authorities)?,
            None => Vec::new(),
        };
        let mut hash = Sha256::new();
        hash.update([u8::from(mode == ClientAuthMode::Required)]);
        for part in [ca, crl.unwrap_or_default()] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Ok(Self {
            mode,
            authorities,
            revoked: revoked.into(),
            id: hash.finalize().into(),
        })
    }

    /// The same for the same mode, authorities and lists, in every config.
    #[must_use]
    pub const fn id(&self) -> [u8; 32] {
        self.id
    }

    /// What decides about each certificate of a chain, after OpenSSL has.
    pub(super) fn verdict(&self) -> impl Fn(bool, &mut X509StoreContextRef) -> bool + 'static {
        let lists = Arc::clone(&self.revoked);
        move |good, context| {
            let bad = context.current_cert().is_some_and(|it| refused(&lists, it));
            if good && bad {
                context.set_error(X509VerifyResult::APPLICATION_VERIFICATION);
            }
            good && !bad
        }
    }
}

/// Whether a list of the certificate's issuer names it, or says nothing that still holds.
fn refused(lists: &[X509Crl], certificate: &X509Ref) -> bool {
    let issuer = certificate.issuer_name().to_der().ok();
    let mut mine = lists
        .iter()
        .filter(|list| list.issuer_name().to_der().ok() == issuer)
        .peekable();
    if mine.peek().is_none() {
        return false;
    }
    let now = chrono::Utc::now().timestamp();
    mine.any(|list| {
        let over = list
            .next_update()
            .and_then(seconds)
            .is_some_and(|until| until < now);
        // `RemoveFromCrl` takes an entry of an earlier list back.
        let named = matches!(
            list.get_by_serial(certificate.serial_number()),
            CrlStatus::Revoked(_)
        );
        over || named
    })
}

/// Every list of a file, each signed by one of `authorities`.
fn lists(pem: &[u8], authorities: &[X509]) -> Result<Vec<X509Crl>, Mistake> {
    const END: &str = "-----END X509 CRL-----";
    let mistake = |what, hint| Mistake {
        key: "crl_file",
        what,
        hint,
    };
    let no_list = || {
        mistake(
            "this is no list of revoked certificates in PEM form",
            "it begins with `-----BEGIN X509 CRL-----`",
        )
    };
    let text = std::str::from_utf8(pem).map_err(|_error| no_list())?;
    let mut lists = Vec::new();
    for part in text.split_inclusive(END) {
        if !part.contains(END) {
            continue;
        }
        let list = X509Crl::from_pem(part.as_bytes()).map_err(|_error| no_list())?;
        let signed = authorities.iter().any(|authority| {
            let key = authority.public_key();
            key.is_ok_and(|key| list.verify(&key).unwrap_or(false))
        });
        if !signed {
            return Err(mistake(
                "a list that none of the authorities in `ca_file` has signed",
                "put the authority that revokes into `ca_file`",
            ));
        }
        lists.push(list);
    }
    if lists.is_empty() {
        return Err(no_list());
    }
    Ok(lists)
}

/// What TLS told of a client.
#[derive(Debug)]
pub struct Secured {
    /// The host it asked for, in small letters.
    pub name: Option<Box<str>>,
    /// Which policy on client certificates was followed: [`Policy::id`].
    pub policy: Option<[u8; 32]>,
    /// The certificate it showed.
    pub client: Option<ClientCertificate>,
}

/// A client's certificate, as the upstream is told (RFC 9440).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// `Client-Cert`.
    pub leaf: HeaderValue,
    /// `Client-Cert-Chain`: what the client sent of its issuers.
    pub chain: Option<HeaderValue>,
    /// The digest of the certificate, by which tokens are bound to it (RFC 8705 section 3.1).
    pub thumbprint: Digest,
    /// The URIs that it is for.
    pub uris: Box<[Box<str>]>,
    /// The DNS names that it is for.
    pub dns: Box<[Box<str>]>,
    /// Its subject, the last part first (RFC 4514).
    pub subject: Option<Box<str>>,
}

impl ClientCertificate {
    /// The certificate that the client of `ssl` has shown, and that was verified.
    #[must_use]
    pub fn of(ssl: &SslRef) -> Option<Self> {
        let shown = ssl.peer_certificate()?;
        let leaf = header(&[shown.as_ref()])?;
        let chain = ssl.peer_cert_chain();
        let own = shown.to_der().ok();
        let issuers = chain.into_iter().flatten();
        let issuers: Vec<&X509Ref> = issuers.filter(|it| it.to_der().ok() != own).collect();
        let names = || shown.subject_alt_names().into_iter().flatten();
        let texts = |text: &dyn Fn(&GeneralNameRef) -> Option<Box<str>>| {
            names().filter_map(|name| text(&name)).collect()
        };
        Some(Self {
            leaf,
            chain: header(&issuers),
            thumbprint: Digest::of(&shown.to_der().ok()?),
            uris: texts(&|name| plain(name.uri()?)),
            dns: texts(&|name| plain(name.dnsname()?)),
            subject: subject(&shown),
        })
    }
}

/// A name without what could stand for another.
fn plain(name: &str) -> Option<Box<str>> {
    let good = !name.is_empty() && !name.chars().any(char::is_control);
    good.then(|| name.into())
}

/// RFC 4514, with short names: `CN=web,O=Acme`.
fn subject(certificate: &X509Ref) -> Option<Box<str>> {
    let mut parts = Vec::new();
    for entry in certificate.subject_name().entries() {
        let kind = entry.object().nid().short_name().ok()?;
        let value = entry.data().to_string().ok()?;
        let mut text = format!("{kind}=");
        for (at, c) in value.chars().enumerate() {
            let first = at == 0 && matches!(c, '#' | ' ');
            if first || matches!(c, ',' | '+' | '"' | '\\' | '<' | '>' | ';') {
                text.push('\\');
            }
            text.push(c);
        }
        parts.push(text);
    }
    parts.reverse();
    plain(&parts.join(","))
}

/// Byte sequences of structured fields (RFC 8941 section 3.3.5), one a certificate.
fn header(certificates: &[&X509Ref]) -> Option<HeaderValue> {
    let mut text = String::new();
    for certificate in certificates {
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push(':');
        push_base64(&mut text, &certificate.to_der().ok()?);
        text.push(':');
    }
    if text.is_empty() || text.len() > HEADER_BYTES_MAX {
        return None;
    }
    HeaderValue::try_from(text).ok()
}

/// RFC 4648 section 4, with padding.
fn push_base64(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for group in bytes.chunks(3) {
        let mut four = [0u8; 4];
        for (byte, place) in group.iter().zip(four.iter_mut().skip(1)) {
            *place = *byte;
        }
        let bits = u32::from_be_bytes(four);
        for digit in 0..4usize {
            if digit > group.len() {
                text.push('=');
                continue;
            }
            let index = (bits >> (18 - 6 * digit)) & 63;
            let digit = usize::try_from(index).ok().and_then(|at| DIGITS.get(at));
            text.extend(digit.map(|digit| char::from(*digit)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::push_base64;

    #[test]
    fn base64_is_that_of_rfc_4648() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
            ("\u{7f}\0\u{7f}~?", "fwB/fj8="),
        ] {
            let mut out = String::new();
            push_base64(&mut out, bytes.as_bytes());
            assert_eq!(out, text);
        }
    }
}
