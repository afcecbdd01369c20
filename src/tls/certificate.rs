//! A certificate with its key: read, checked against each other, and asked for its names and its time.

use chrono::NaiveDateTime;
use pingora::tls::nid::Nid;
use pingora::tls::pkey::{PKey, Private};
use pingora::tls::x509::{X509, X509Ref};

/// A certificate chain and the private key of its first certificate.
#[derive(Clone)]
pub struct Certificate {
    chain: Vec<X509>,
    key: PKey<Private>,
    names: Vec<String>,
    validity: Validity,
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificate")
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

/// When a certificate holds, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// Not before this.
    pub from: i64,
    /// Not after this.
    pub until: i64,
}

impl Validity {
    /// Whole days that are left at `now`; negative once it is over.
    #[must_use]
    pub const fn days_left(&self, now: i64) -> i64 {
        (self.until - now).div_euclid(86_400)
    }
}

/// What is wrong with a file, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// With the certificate's.
    Certificate(&'static str, &'static str),
    /// With the key's.
    Key(&'static str, &'static str),
}

impl Certificate {
    /// Reads a chain and its key, both in PEM form.
    ///
    /// # Errors
    /// One cannot be read, or they do not belong together.
    pub fn read(chain: &[u8], key: &[u8]) -> Result<Self, Refused> {
        let chain =
            read_authorities(chain).map_err(|(what, hint)| Refused::Certificate(what, hint))?;
        let unreadable = |_| {
            Refused::Key(
                "this is no private key in PEM form without a passphrase",
                "it begins with `-----BEGIN PRIVATE KEY-----`; `openssl pkey -in FILE` takes a passphrase off",
            )
        };
        // Without the callback OpenSSL would ask for a passphrase on the terminal.
        let key = PKey::private_key_from_pem_callback(key, |_| Ok(0)).map_err(unreadable)?;
        let Some(first) = chain.first() else {
            return Err(Refused::Certificate(NO_CERTIFICATE.0, NO_CERTIFICATE.1));
        };
        let matches = first
            .public_key()
            .is_ok_and(|public| public.public_eq(&key));
        if !matches {
            return Err(Refused::Key(
                "the key is not that of the certificate",
                "the first certificate of `cert_file` is the one of the key, those of its issuers follow",
            ));
        }
        let Some(validity) = validity(first) else {
            return Err(Refused::Certificate(
                "the certificate has no time that can be read",
                "have it issued anew",
            ));
        };
        Ok(Self {
            names: names(first),
            validity,
            chain,
            key,
        })
    }

    /// The certificate, then those of its issuers.
    #[must_use]
    pub fn chain(&self) -> &[X509] {
        &self.chain
    }

    /// The private key.
    #[must_use]
    pub const fn key(&self) -> &PKey<Private> {
        &self.key
    }

    /// The names it is for, in small letters: hosts, `*.` hosts, addresses.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// When it holds.
    #[must_use]
    pub const fn validity(&self) -> Validity {
        self.validity
    }
}

const NO_CERTIFICATE: (&str, &str) = (
    "this is no certificate in PEM form",
    "it begins with `-----BEGIN CERTIFICATE-----`",
);

/// Every certificate of a file in PEM form; at least one.
///
/// # Errors
/// What is wrong, and how to mend it.
pub fn read_authorities(pem: &[u8]) -> Result<Vec<X509>, (&'static str, &'static str)> {
    let chain = X509::stack_from_pem(pem).map_err(|_error| NO_CERTIFICATE)?;
    if chain.is_empty() {
        return Err(NO_CERTIFICATE);
    }
    Ok(chain)
}

fn names(certificate: &X509) -> Vec<String> {
    let mut names = Vec::new();
    if let Some(alternatives) = certificate.subject_alt_names() {
        for name in &alternatives {
            if let Some(host) = name.dnsname() {
                names.push(host.trim_end_matches('.').to_ascii_lowercase());
            } else if let Some(ip) = name.ipaddress().and_then(ip) {
                names.push(ip);
            }
        }
        return names;
    }
    // Before there were alternative names, the host was the subject.
    let common = certificate.subject_name().entries_by_nid(Nid::COMMONNAME);
    names.extend(common.filter_map(|entry| {
        let name = entry.data().to_string().ok()?;
        Some(name.to_ascii_lowercase())
    }));
    names
}

fn ip(bytes: &[u8]) -> Option<String> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(std::net::Ipv4Addr::from(four).to_string());
    }
    let sixteen = <[u8; 16]>::try_from(bytes).ok()?;
    // As `Host` has it.
    Some(format!("[{}]", std::net::Ipv6Addr::from(sixteen)))
}

fn validity(certificate: &X509Ref) -> Option<Validity> {
    Some(Validity {
        from: seconds(certificate.not_before())?,
        until: seconds(certificate.not_after())?,
    })
}

/// A time as OpenSSL writes it (`Jan  2 03:04:05 2030 GMT`), in seconds since 1970.
pub(super) fn seconds(time: impl std::fmt::Display) -> Option<i64> {
    let text = time.to_string();
    let time = NaiveDateTime::parse_from_str(&text, "%b %e %H:%M:%S %Y GMT").ok()?;
    Some(time.and_utc().timestamp())
}
