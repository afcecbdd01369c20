//! Which certificate answers for which name, and whether a request may come by the connection it comes by.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use pingora::tls::ssl::SslAcceptor;

use super::acceptor::acceptor;
use super::certificate::{Certificate, Refused, Validity};
use super::client::Policy;
use super::spec::{Spec, UnknownName};
use super::staple::Staple;
use crate::base::problem::{Place, Problem, Problems};

/// The certificates of a listener, and who gets which.
pub struct Site {
    contexts: Box<[Context]>,
    exact: HashMap<Box<str>, usize>,
    /// By what follows the star and its dot.
    wildcard: HashMap<Box<str>, usize>,
    default: usize,
    unknown: UnknownName,
    certificates: Vec<(Place, Box<str>, Validity)>,
    staples: Box<[Arc<Staple>]>,
}

impl std::fmt::Debug for Site {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Site")
            .field("certificates", &self.certificates)
            .finish_non_exhaustive()
    }
}

/// One way a handshake can go.
pub struct Context {
    /// Does it.
    pub acceptor: SslAcceptor,
    certificate: usize,
    policy: Option<[u8; 32]>,
}

impl Context {
    /// Which policy on clients it follows: [`Policy::id`].
    #[must_use]
    pub const fn policy(&self) -> Option<[u8; 32]> {
        self.policy
    }
}

/// What is spoken once the connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offer {
    /// HTTP/1.1 (and 1.0).
    pub http1: bool,
    /// HTTP/2.
    pub http2: bool,
}

impl Site {
    /// Compiles `spec`, which stands at `place`; `files` are those it refers to, by their place.
    pub fn compile(
        spec: &Spec,
        offer: Offer,
        place: &Place,
        files: &BTreeMap<Place, Bytes>,
        problems: &mut Problems,
    ) -> Option<Self> {
        let certificates = read_certificates(spec, place, files, problems)?;
        let policies = read_policies(spec, place, files, problems)?;
        let staples = staples(spec, &certificates, place, problems);
        let best: usize = spec
            .certificates
            .iter()
            .position(|written| written.default)
            .unwrap_or(0);
        let mut building = Building {
            spec,
            offer,
            certificates: &certificates,
            staples: &staples,
            contexts: Vec::new(),
            known: HashMap::new(),
        };
        let names = building.names();
        let (mut exact, mut wildcard) = (HashMap::new(), HashMap::new());
        let default = building.context(best, None);
        let default = building.told(default, place, problems)?;
        for (name, certificate) in &names {
            let context = building.context(*certificate, policies.get(name.as_str()));
            let context = building.told(context, place, problems)?;
            match name.strip_prefix("*.") {
                Some(suffix) => wildcard.insert(suffix.into(), context),
                None => exact.insert(name.as_str().into(), context),
            };
        }
        for (host, policy) in &policies {
            let wild = host
                .split_once('.')
                .and_then(|(_, below)| names.get(format!("*.{below}").as_str()).copied());
            let certificate = names.get(host.as_str()).copied().or(wild);
            let fallback = (spec.unknown_name == UnknownName::UseDefault).then_some(best);
            let Some(certificate) = certificate.or(fallback) else {
                let place = place.key("client_auth").key(host);
                let what = format!("no certificate is for `{host}`: nobody can connect to it");
                let problem = Problem::warning("W051", place, what).at_key();
                problems.push(problem.hint("add its certificate, or take it out"));
                continue;
            };
            let context = building.context(certificate, Some(policy));
            let context = building.told(context, place, problems)?;
            exact.insert(host.as_str().into(), context);
        }
        Some(Self {
            contexts: building.contexts.into(),
            exact,
            wildcard,
            default,
            unknown: spec.unknown_name,
            certificates: shown(&certificates, place),
            staples: staples.into_iter().flatten().collect(),
        })
    }

    /// The context for a client that asks for `name`, in small letters; none: it is to be refused.
    #[must_use]
    pub fn choose(&self, name: Option<&str>) -> Option<&Context> {
        let Some(name) = name else {
            return self.contexts.get(self.default);
        };
        let found = self.find(name);
        found.or_else(|| match self.unknown {
            UnknownName::Reject => None,
            UnknownName::UseDefault => self.contexts.get(self.default),
        })
    }

    fn find(&self, name: &str) -> Option<&Context> {
        let wild = || self.wildcard.get(name.split_once('.')?.1);
        let index = self.exact.get(name).or_else(wild)?;
        self.contexts.get(*index)
    }

    /// Whether a request for `host` may come by a connection that was made for `name` under `policy`. It may not where
    /// the host has another certificate, or its clients have to prove themselves otherwise (RFC 9110 section 15.5.20).
    #[must_use]
    pub fn admits(&self, name: Option<&str>, policy: Option<[u8; 32]>, host: &str) -> bool {
        let Some(wanted) = self.find(host) else {
            return policy.is_none();
        };
        let same = || {
            let made = self.choose(name);
            made.is_some_and(|made| made.certificate == wanted.certificate)
        };
        wanted.policy == policy && (name == Some(host) || same())
    }

    /// Each certificate: where it stands, its first name, and when it holds.
    #[must_use]
    pub fn certificates(&self) -> &[(Place, Box<str>, Validity)] {
        &self.certificates
    }

    /// The certificates whose authorities are asked about them.
    #[must_use]
    pub fn staples(&self) -> &[Arc<Staple>] {
        &self.staples
    }
}

struct Building<'a> {
    spec: &'a Spec,
    offer: Offer,
    certificates: &'a [Certificate],
    /// Of each certificate.
    staples: &'a [Option<Arc<Staple>>],
    contexts: Vec<Context>,
    known: HashMap<(usize, Option<[u8; 32]>), usize>,
}

impl Building<'_> {
    /// Every name of a certificate, with the first certificate that has it.
    fn names(&self) -> BTreeMap<String, usize> {
        let mut names = BTreeMap::new();
        for (index, certificate) in self.certificates.iter().enumerate() {
            for name in certificate.names() {
                names.entry(name.clone()).or_insert(index);
            }
        }
        names
    }

    fn context(&mut self, certificate: usize, policy: Option<&Policy>) -> Option<usize> {
        let key = (certificate, policy.map(Policy::id));
        if let Some(known) = self.known.get(&key) {
            return Some(*known);
        }
        let chosen = self.certificates.get(certificate)?;
        let staple = self.staples.get(certificate).and_then(Option::as_ref);
        let acceptor = acceptor((chosen, staple), self.spec.min_version, self.offer, policy);
        let index = self.contexts.len();
        self.contexts.push(Context {
            acceptor: acceptor.ok()?,
            certificate,
            policy: key.1,
        });
        self.known.insert(key, index);
        Some(index)
    }

    /// The context; that there is none is a mistake in the certificates that only OpenSSL sees.
    fn told(&self, context: Option<usize>, at: &Place, problems: &mut Problems) -> Option<usize> {
        if context.is_none() {
            let what = "a certificate that TLS cannot be spoken with";
            let problem = Problem::error("E050", at.key("certificates"), what);
            problems.push(problem.hint("its key may be too short, or its signature too weak"));
        }
        context
    }
}

fn read_certificates(
    spec: &Spec,
    place: &Place,
    files: &BTreeMap<Place, Bytes>,
    problems: &mut Problems,
) -> Option<Vec<Certificate>> {
    let place = place.key("certificates");
    if spec.certificates.is_empty() {
        let problem = Problem::error("E011", place, "no certificate to speak TLS with");
        problems.push(problem.hint("add `{ cert_file: …, key_file: … }`"));
        return None;
    }
    let mut defaults = spec.certificates.iter().enumerate();
    let mut defaults = defaults.by_ref().filter(|(_, written)| written.default);
    if let (Some((first, _)), Some((second, _))) = (defaults.next(), defaults.next()) {
        let at = place.index(second).key("default");
        let problem = Problem::error("E051", at, "a second default certificate");
        let first = place.index(first).key("default");
        problems.push(problem.also(first, "the first").hint("only one can be it"));
    }
    let mut certificates = Vec::with_capacity(spec.certificates.len());
    for index in 0..spec.certificates.len() {
        let place = place.index(index);
        let (cert_file, key_file) = (place.key("cert_file"), place.key("key_file"));
        // A file that cannot be read was reported where it was read.
        let (Some(chain), Some(key)) = (files.get(&cert_file), files.get(&key_file)) else {
            continue;
        };
        match Certificate::read(chain, key) {
            Ok(certificate) => certificates.push(certificate),
            Err(Refused::Certificate(what, hint)) => {
                problems.push(Problem::error("E050", cert_file, what).hint(hint));
            }
            Err(Refused::Key(what, hint)) => {
                problems.push(Problem::error("E050", key_file, what).hint(hint));
            }
        }
    }
    (certificates.len() == spec.certificates.len()).then_some(certificates)
}

/// Whom to ask about each certificate; that nobody can be asked is no reason to serve nobody.
fn staples(
    spec: &Spec,
    certificates: &[Certificate],
    place: &Place,
    problems: &mut Problems,
) -> Vec<Option<Arc<Staple>>> {
    if !spec.ocsp_stapling {
        return Vec::new();
    }
    let place = place.key("certificates");
    let each = certificates.iter().enumerate().map(|(index, certificate)| {
        let (what, hint) = match Staple::new(certificate) {
            Ok(staple) => return Some(Arc::new(staple)),
            Err(missing) => missing,
        };
        let place = place.index(index).key("cert_file");
        problems.push(Problem::warning("W052", place, what).hint(hint));
        None
    });
    each.collect()
}

fn read_policies(
    spec: &Spec,
    place: &Place,
    files: &BTreeMap<Place, Bytes>,
    problems: &mut Problems,
) -> Option<BTreeMap<String, Policy>> {
    let mut policies = BTreeMap::new();
    for (host, written) in &spec.client_auth {
        let place = place.key("client_auth").key(host);
        let canonical = crate::base::canon::parse_authority(host)
            .ok()
            .filter(|parsed| parsed.port().is_none() && !host.contains('*'));
        let Some(canonical) = canonical else {
            let problem = Problem::error("E052", place, format!("`{host}` is no host")).at_key();
            problems.push(problem.hint("client certificates are asked for at exact hosts"));
            continue;
        };
        let crl_file = place.key("crl_file");
        let crl = files.get(&crl_file);
        let Some(ca) = files.get(&place.key("ca_file")) else {
            continue;
        };
        if written.crl_file.is_some() && crl.is_none() {
            continue;
        }
        match Policy::read(written.mode, ca, crl.map(|bytes| &bytes[..])) {
            Ok(policy) => {
                policies.insert(canonical.canonical_host().into_owned(), policy);
            }
            Err(mistake) => {
                let at = place.key(mistake.key);
                problems.push(Problem::error("E050", at, mistake.what).hint(mistake.hint));
            }
        }
    }
    (policies.len() == spec.client_auth.len()).then_some(policies)
}

fn shown(certificates: &[Certificate], place: &Place) -> Vec<(Place, Box<str>, Validity)> {
    let place = place.key("certificates");
    let each = certificates.iter().enumerate().map(|(index, certificate)| {
        let name = certificate.names().first().map_or("?", String::as_str);
        let place = place.index(index).key("cert_file");
        (place, name.into(), certificate.validity())
    });
    each.collect()
}

/// What `check` says of certificates: `api.example.com: 61 days left`.
#[must_use]
pub fn listed(sites: &[&Arc<Site>], now: i64) -> String {
    let mut seen: BTreeMap<&str, i64> = BTreeMap::new();
    for (_, name, validity) in sites.iter().flat_map(|site| site.certificates()) {
        let days = validity.days_left(now);
        let least = seen.entry(name).or_insert(days);
        *least = days.min(*least);
    }
    let each = seen.iter().map(|(name, days)| {
        let unit = if *days == 1 { "day" } else { "days" };
        format!("{name}: {days} {unit} left")
    });
    each.collect::<Vec<_>>().join(", ")
}
