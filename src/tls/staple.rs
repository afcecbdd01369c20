//! What an authority says of one of our certificates (OCSP, RFC 6960), to be shown along with it (RFC 6066 section 8).

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use openssl::hash::MessageDigest;
use openssl::ocsp::{
    OcspCertId, OcspCertStatus, OcspFlag, OcspRequest, OcspResponse, OcspResponseStatus,
};
use openssl::stack::Stack;
use pingora::tls::error::ErrorStack;
use pingora::tls::ssl::SslRef;
use pingora::tls::x509::store::{X509Store, X509StoreBuilder};
use pingora::tls::x509::verify::X509VerifyFlags;
use pingora::tls::x509::{X509, X509VerifyResult};

use super::certificate::{Certificate, seconds};
use super::responder::Responder;

/// So many seconds may the clock of a responder be ahead of ours.
const CLOCK_SKEW: i64 = 300;
/// Nobody is asked more often, in seconds, because answers hold so shortly.
const AGAIN_MIN: i64 = 30;

/// A certificate with whom to ask about it, and what was said last.
pub struct Staple {
    subject: X509,
    issuer: X509,
    responder: Responder,
    /// Of the certificate and its issuer.
    digest: [[u8; 32]; 2],
    answer: ArcSwapOption<Answer>,
}

impl std::fmt::Debug for Staple {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Staple")
            .field("responder", &self.responder)
            .finish_non_exhaustive()
    }
}

/// What an authority said, checked.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    der: Box<[u8]>,
    from: i64,
    until: i64,
    again: i64,
    revoked: bool,
}

impl Answer {
    /// Whether the certificate was taken back.
    #[must_use]
    pub const fn is_revoked(&self) -> bool {
        self.revoked
    }

    /// When it is time to ask again, in seconds since 1970: half of the time is left that was left when it came.
    #[must_use]
    pub const fn again(&self) -> i64 {
        self.again
    }
}

/// Why an answer is not shown to anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// The responder says that it cannot answer.
    #[error("the responder cannot answer ({0})")]
    Refused(i32),
    /// It is no answer, or not to our question.
    #[error("{0}")]
    Invalid(&'static str),
}

impl Staple {
    /// For the first certificate of a chain.
    ///
    /// # Errors
    /// Nobody can be asked: what is missing, and what to do.
    pub fn new(certificate: &Certificate) -> Result<Self, (&'static str, &'static str)> {
        let (subject, others) = certificate.chain().split_first().ok_or(NO_ISSUER)?;
        let issued = |issuer: &&X509| issuer.issued(subject) == X509VerifyResult::OK;
        let mut issuers = others.iter().chain(std::iter::once(subject));
        let issuer = issuers.find(issued).ok_or(NO_ISSUER)?;
        // A certificate may name several: the first of the only scheme there is.
        let named = subject.ocsp_responders().map_err(|_error| NO_RESPONDER)?;
        let responder = named.iter().find_map(|url| Responder::parse(url));
        let digest = |certificate: &X509| {
            let digest = certificate.digest(MessageDigest::sha256());
            digest.ok().and_then(|digest| (&*digest).try_into().ok())
        };
        Ok(Self {
            digest: [
                digest(subject).ok_or(NO_ISSUER)?,
                digest(issuer).ok_or(NO_ISSUER)?,
            ],
            subject: subject.clone(),
            issuer: issuer.clone(),
            responder: responder.ok_or(NO_RESPONDER)?,
            answer: ArcSwapOption::empty(),
        })
    }

    /// Who is asked.
    #[must_use]
    pub const fn responder(&self) -> &Responder {
        &self.responder
    }

    /// The question, as it is sent.
    ///
    /// # Errors
    /// OpenSSL's.
    pub fn question(&self) -> Result<Vec<u8>, ErrorStack> {
        let mut request = OcspRequest::new()?;
        request.add_id(self.id()?)?;
        request.to_der()
    }

    /// By SHA-1, as RFC 5019 section 2.1.1 has it: it names the certificate, and proves nothing.
    fn id(&self) -> Result<OcspCertId, ErrorStack> {
        OcspCertId::from_cert(MessageDigest::sha1(), &self.subject, &self.issuer)
    }

    /// Checks an answer: whose it is, of which certificate, and whether it holds at `now` (seconds since 1970).
    ///
    /// # Errors
    /// Why nobody may see it.
    pub fn check(&self, der: &[u8], now: i64) -> Result<Answer, Unusable> {
        let no_answer = |_| Unusable::Invalid("no answer of OCSP");
        let response = OcspResponse::from_der(der).map_err(no_answer)?;
        let status = response.status();
        if status != OcspResponseStatus::SUCCESSFUL {
            return Err(Unusable::Refused(status.as_raw()));
        }
        let basic = response.basic().map_err(no_answer)?;
        let ours = |_| Unusable::Invalid("the certificate cannot be asked about");
        let none = Stack::new().map_err(ours)?;
        let store = self.authority().map_err(ours)?;
        // Only the issuer, or whom it lets answer for it (RFC 6960 section 4.2.2.2).
        basic
            .verify(&none, &store, OcspFlag::NO_EXPLICIT)
            .map_err(|_error| Unusable::Invalid("not signed by the issuer of the certificate"))?;
        let id = self.id().map_err(ours)?;
        let other = Unusable::Invalid("an answer about another certificate");
        let said = basic.find_status(&id).ok_or(other)?;
        let revoked = match said.status {
            OcspCertStatus::GOOD => false,
            OcspCertStatus::REVOKED => true,
            _ => return Err(Unusable::Invalid("the responder does not know it")),
        };
        let untimed = Unusable::Invalid("an answer that does not say how long it holds");
        let from = seconds(said.this_update).ok_or(untimed)?;
        let until = said.next_update().and_then(seconds).ok_or(untimed)?;
        if from > now + CLOCK_SKEW {
            return Err(Unusable::Invalid("an answer that does not hold yet"));
        }
        if until <= now {
            return Err(Unusable::Invalid("an answer that does not hold any more"));
        }
        Ok(Answer {
            der: der.into(),
            from,
            until,
            again: now + ((until - now) / 2).max(AGAIN_MIN),
            revoked,
        })
    }

    /// The issuer, whether or not it is at the top.
    fn authority(&self) -> Result<X509Store, ErrorStack> {
        let mut store = X509StoreBuilder::new()?;
        store.add_cert(self.issuer.clone())?;
        store.set_flags(X509VerifyFlags::PARTIAL_CHAIN)?;
        Ok(store.build())
    }

    /// What is shown now.
    #[must_use]
    pub fn answer(&self) -> Option<Arc<Answer>> {
        self.answer.load_full()
    }

    /// Shows `answer` from now on.
    ///
    /// # Errors
    /// It is older than the one that is shown: who sends it may want to hide what was said since.
    pub fn take(&self, answer: Answer) -> Result<(), Unusable> {
        let known = self.answer.load();
        if known.as_ref().is_some_and(|known| known.from > answer.from) {
            return Err(Unusable::Invalid("an answer older than the last one"));
        }
        self.answer.store(Some(Arc::new(answer)));
        Ok(())
    }

    /// Shows nothing any more once the answer does not hold at `now`.
    pub fn expire(&self, now: i64) {
        if self.answer().is_some_and(|answer| answer.until <= now) {
            self.answer.store(None);
        }
    }

    /// Goes on with what `before` knew, if it is of the same certificate.
    pub fn inherit(&self, before: &Self) {
        if self.digest == before.digest && self.answer.load().is_none() {
            self.answer.store(before.answer());
        }
    }

    /// Adds the answer to a handshake, if there is one; whether it did.
    pub(super) fn show(&self, ssl: &mut SslRef) -> Result<bool, ErrorStack> {
        match &*self.answer.load() {
            Some(answer) => ssl.set_ocsp_status(&answer.der).map(|()| true),
            None => Ok(false),
        }
    }
}

const NO_ISSUER: (&str, &str) = (
    "a certificate whose issuer is not in its file: what is said of it cannot be checked",
    "add the issuer's certificate after it",
);
const NO_RESPONDER: (&str, &str) = (
    "a certificate that names nobody who can be asked about it",
    "its authority has no OCSP responder at `http://…`: clients go without; take `ocsp_stapling` out, or use another authority",
);
