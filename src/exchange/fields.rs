//! The headers of a request: refused where two readers could read them differently.

use std::borrow::Cow;

use super::fault::Fault;
use super::head::{After, Framing, HeadLimits};
use crate::base::canon;

/// What the header lines say, as far as it decides where the request ends and who reads it.
#[derive(Default)]
pub(super) struct Lines<'a> {
    count: usize,
    pub(super) host: Option<&'a [u8]>,
    pub(super) hosts: usize,
    content_length: Option<&'a [u8]>,
    content_lengths: usize,
    transfer_encoding: Option<&'a [u8]>,
    transfer_encodings: usize,
    expect: Option<&'a [u8]>,
    ambiguous: bool,
    authorizations: usize,
    content_types: usize,
    pub(super) upgrades: bool,
    options: usize,
    /// How many headers `Connection` names, which then belong to the client's connection alone.
    pub(super) named: usize,
}

impl<'a> Lines<'a> {
    /// Takes note of one more header.
    pub(super) fn note(
        &mut self,
        name: &'a [u8],
        value: &'a [u8],
        limits: &HeadLimits,
    ) -> Result<(), Fault> {
        self.count += 1;
        if self.count > limits.headers {
            return Err(Fault::HeadersTooLarge);
        }
        // `_` is no separator of ours but one of CGI's: `X_User_Id` and `X-User-Id` would be one header there.
        if name.is_empty() || !name.iter().all(|byte| is_token(*byte) && *byte != b'_') {
            return Err(Fault::BadRequest);
        }
        // Also a CR or NUL that stands alone.
        if value
            .iter()
            .any(|byte| (*byte < 0x20 && *byte != b'\t') || *byte == 0x7f)
        {
            return Err(Fault::BadRequest);
        }
        let value = value.trim_ascii();
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                self.hosts += 1;
                self.host = Some(value);
            }
            6 if name.eq_ignore_ascii_case(b"expect") => {
                self.ambiguous |= self.expect.is_some();
                self.expect = Some(value);
            }
            // Some clients offer h2c with every request, and go on in HTTP/1.1 when nobody takes it up.
            7 if name.eq_ignore_ascii_case(b"upgrade") => {
                self.upgrades |= !value.eq_ignore_ascii_case(b"h2c");
            }
            10 if name.eq_ignore_ascii_case(b"connection") => {
                options(value).for_each(|option| self.note_option(option));
            }
            12 if name.eq_ignore_ascii_case(b"content-type") => self.content_types += 1,
            13 if name.eq_ignore_ascii_case(b"authorization") => self.authorizations += 1,
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                self.content_lengths += 1;
                self.content_length = Some(value);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                self.transfer_encodings += 1;
                self.transfer_encoding = Some(value);
            }
            _ => {}
        }
        Ok(())
    }

    fn note_option(&mut self, option: &[u8]) {
        self.options += 1;
        self.ambiguous |= is_protected(option) || self.options > OPTIONS_MAX;
        self.named += usize::from(!is_about_connection(option));
    }

    /// What may be there once only is there once.
    pub(super) fn check(&self, minor: u8) -> Result<(), Fault> {
        let both = self.content_lengths > 0 && self.transfer_encodings > 0;
        let many = self.content_lengths > 1
            || self.transfer_encodings > 1
            || self.authorizations > 1
            || self.content_types > 1;
        if both || many || self.ambiguous || (minor == 0 && self.transfer_encodings > 0) {
            return Err(Fault::BadRequest);
        }
        Ok(())
    }

    /// The canonical host.
    pub(super) fn host(&self) -> Result<Cow<'a, str>, Fault> {
        let (1, Some(host)) = (self.hosts, self.host) else {
            return Err(Fault::BadHost);
        };
        let host = std::str::from_utf8(host).map_err(|_error| Fault::BadHost)?;
        Ok(canon::parse_authority(host)
            .map_err(|_fault| Fault::BadHost)?
            .canonical())
    }

    /// What follows the head.
    pub(super) fn framing(&self, minor: u8) -> Result<Framing, Fault> {
        if let Some(coding) = self.transfer_encoding
            && !coding.eq_ignore_ascii_case(b"chunked")
        {
            return Err(Fault::BadRequest);
        }
        let content_length = self.content_length.map(length).transpose()?;
        let expect_continue = match self.expect {
            Some(value) if value.eq_ignore_ascii_case(b"100-continue") => minor > 0,
            Some(_) => return Err(Fault::ExpectationFailed),
            None => false,
        };
        Ok(Framing {
            content_length,
            chunked: self.transfer_encoding.is_some(),
            expect_continue,
            next: After::Request,
        })
    }
}

/// More than this is no body but an overflow looking for a victim.
const LENGTH_MAX: u64 = 1 << 53;

fn length(value: &[u8]) -> Result<u64, Fault> {
    // `010` is ten to most and eight to some.
    let padded = value.len() > 1 && value.starts_with(b"0");
    if value.is_empty() || padded || !value.iter().all(u8::is_ascii_digit) {
        return Err(Fault::BadRequest);
    }
    value
        .iter()
        .try_fold(0u64, |sum, digit| {
            sum.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
        })
        .filter(|length| *length <= LENGTH_MAX)
        .ok_or(Fault::BodyTooLarge)
}

/// More options than this are no connection but an attempt to have headers taken off.
const OPTIONS_MAX: usize = 9;

/// What a line of `Connection` says (RFC 9110 section 7.6.1).
pub(super) fn options(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let options = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    options.filter(|option| !option.is_empty())
}

/// Options that say what becomes of the connection; what they name goes no further anyway.
pub(super) fn is_about_connection(option: &[u8]) -> bool {
    const OPTIONS: &[&[u8]] = &[b"close", b"keep-alive", b"upgrade", b"connection", b"te"];
    OPTIONS
        .iter()
        .any(|known| option.eq_ignore_ascii_case(known))
}

/// Headers that `Connection` must not name: naming them would take them off the request before the upstream sees it.
fn is_protected(name: &[u8]) -> bool {
    const PROTECTED: &[&[u8]] = &[
        b"authorization",
        b"cookie",
        b"host",
        b"content-length",
        b"content-type",
        b"transfer-encoding",
        b"forwarded",
        b"via",
        b"x-real-ip",
        b"x-request-id",
        b"traceparent",
        b"origin",
        b"referer",
        b"client-cert",
        b"idempotency-key",
    ];
    let starts = |prefix: &[u8]| {
        name.get(..prefix.len())
            .is_some_and(|head| head.eq_ignore_ascii_case(prefix))
    };
    PROTECTED
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known))
        || starts(b"x-forwarded-")
        || starts(b"x-user-")
}

/// RFC 9110 section 5.6.2.
const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}
