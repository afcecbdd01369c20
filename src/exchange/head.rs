//! The request head as bytes: refused where two readers could read it differently, made canonical before anybody reads it.
//!
//! Pingora parses what [`check`] returns. Path, host and target form are canonical from here on: router, policies, log and
//! upstream all see the same value (RFC 3986 section 6.2.2, RFC 9110 section 7.2, RFC 9112 sections 2.2, 3 and 6).

use std::borrow::Cow;

use bytes::{BufMut, BytesMut};

use super::fault::Fault;
use super::query;
use crate::base::canon::{self, PathOptions};

/// How much head a client may send.
#[derive(Debug, Clone, Copy)]
pub struct HeadLimits {
    /// Bytes of the request target.
    pub uri: usize,
    /// Bytes of all header lines.
    pub header_bytes: usize,
    /// Number of header lines.
    pub headers: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self {
            uri: 8 * 1024,
            header_bytes: 16 * 1024,
            headers: 100,
        }
    }
}

impl HeadLimits {
    /// A head that is longer than this is refused without looking further.
    #[must_use]
    pub const fn head_max(&self) -> usize {
        self.uri + self.header_bytes + 1024
    }
}

/// What the head says about what follows it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Framing {
    /// The body's length, if it is given.
    pub content_length: Option<u64>,
    /// The body comes in chunks.
    pub chunked: bool,
    /// The client waits for `100 Continue`.
    pub expect_continue: bool,
    /// What may follow the request on its connection.
    pub next: Next,
}

/// What may follow a request on its connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Next {
    /// Another request.
    #[default]
    Request,
    /// Another protocol (`Upgrade`), or a body without an end (HTTP/1.0): nothing that may be read as a request.
    Anything,
}

impl Framing {
    /// Whether a body follows.
    #[must_use]
    pub fn has_body(&self) -> bool {
        self.chunked || self.content_length.is_some_and(|length| length > 0)
    }
}

/// How many bytes of `buf` the head takes, once its empty line is there. A line that ends in a bare LF ends here too: it is
/// refused by [`check`], not waited for.
#[must_use]
pub fn end_of_head(buf: &[u8], searched: usize) -> Option<usize> {
    let from = searched.saturating_sub(3);
    let tail = buf.get(from..)?;
    let mut at = 0;
    while let Some(next) = tail.get(at..)?.iter().position(|byte| *byte == b'\n') {
        let after = at + next + 1;
        let rest = tail.get(after..)?;
        if rest.starts_with(b"\r\n") {
            return Some(from + after + 2);
        }
        if rest.starts_with(b"\n") {
            return Some(from + after + 1);
        }
        at = after;
    }
    None
}

/// Drops the empty lines that a client may send before a request (RFC 9112 section 2.2).
#[must_use]
pub fn leading_empty_lines(buf: &[u8]) -> usize {
    let mut at = 0;
    while buf.get(at..).is_some_and(|rest| rest.starts_with(b"\r\n")) {
        at += 2;
    }
    at
}

/// Checks a whole head and returns it in canonical form, ready to be parsed.
///
/// # Errors
/// What is wrong with it; such a request never reaches an upstream.
pub fn check(head: &[u8], limits: &HeadLimits) -> Result<(BytesMut, Framing), Fault> {
    let (line, fields) = split_line(head)?;
    let request = RequestLine::parse(line, limits)?;
    let mut lines = Lines::default();
    lines.read(fields, limits)?;
    lines.check(request.minor)?;
    let host = lines.host()?;
    let target = Target::parse(request.method, request.target)?;
    if let Some(authority) = target.authority
        && !authority_equals(authority, &host)
    {
        return Err(Fault::BadHost);
    }
    let mut framing = lines.framing(request.minor)?;
    let unbounded = request.minor == 0
        && framing.content_length.is_none()
        && !matches!(request.method, "GET" | "HEAD");
    if unbounded || lines.upgrades {
        framing.next = Next::Anything;
    }
    Ok((write(&request, &target, fields, &lines, &host), framing))
}

fn authority_equals(authority: &str, host: &str) -> bool {
    canon::parse_authority(authority).is_ok_and(|parsed| parsed.canonical() == host)
}

struct RequestLine<'a> {
    method: &'a str,
    target: &'a str,
    minor: u8,
}

impl<'a> RequestLine<'a> {
    fn parse(line: &'a [u8], limits: &HeadLimits) -> Result<Self, Fault> {
        let (method, rest) = split_byte(line, b' ').ok_or(Fault::BadRequest)?;
        let (target, version) = split_byte(rest, b' ').ok_or(Fault::BadRequest)?;
        if target.len() > limits.uri {
            return Err(Fault::UriTooLong);
        }
        let minor = match version {
            b"HTTP/1.1" => 1,
            b"HTTP/1.0" => 0,
            _ if version.starts_with(b"HTTP/") && version.len() == 8 => {
                return Err(Fault::VersionNotSupported);
            }
            _ => return Err(Fault::BadRequest),
        };
        // Methods are case-sensitive, but not to everybody: `get` is GET to some and unknown to others.
        let is_plain = |byte: &u8| byte.is_ascii_uppercase() || *byte == b'-';
        if method.is_empty() || method.len() > 32 || !method.iter().all(is_plain) {
            return Err(Fault::BadRequest);
        }
        let target = std::str::from_utf8(target).map_err(|_error| Fault::BadPath)?;
        if !target.is_ascii() {
            return Err(Fault::BadPath);
        }
        let method = std::str::from_utf8(method).map_err(|_error| Fault::BadRequest)?;
        Ok(Self {
            method,
            target,
            minor,
        })
    }
}

struct Target<'a> {
    path: Cow<'a, str>,
    query: Option<Cow<'a, str>>,
    authority: Option<&'a str>,
    as_sent: bool,
}

impl<'a> Target<'a> {
    fn parse(method: &str, target: &'a str) -> Result<Self, Fault> {
        // A tunnel through the gateway and an echo of its headers are refused (RFC 9110 sections 9.3.6 and 9.3.8).
        if matches!(method, "CONNECT" | "TRACE") {
            return Err(Fault::MethodNotAllowed);
        }
        if target == "*" {
            let star = Self {
                path: Cow::Borrowed("*"),
                query: None,
                authority: None,
                as_sent: true,
            };
            return if method == "OPTIONS" {
                Ok(star)
            } else {
                Err(Fault::BadPath)
            };
        }
        let (authority, rest) = match target.split_at_checked(7) {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http://") => {
                let end = rest.find(['/', '?']).unwrap_or(rest.len());
                let (authority, rest) = rest.split_at(end);
                (Some(authority), rest)
            }
            _ => (None, target),
        };
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        if let Some(query) = query {
            canon::check_query(query).map_err(|_fault| Fault::BadPath)?;
        }
        let query = query.map(query::canonical);
        let path = if path.is_empty() && authority.is_some() {
            "/"
        } else {
            path
        };
        if !path.starts_with('/') {
            return Err(Fault::BadPath);
        }
        let path =
            canon::canonical_path(path, PathOptions::default()).map_err(|_fault| Fault::BadPath)?;
        let as_sent = authority.is_none()
            && matches!(path, Cow::Borrowed(_))
            && !matches!(query, Some(Cow::Owned(_)));
        Ok(Self {
            path,
            query,
            authority,
            as_sent,
        })
    }
}

/// What the header lines say, as far as it decides where the request ends and who reads it.
#[derive(Default)]
struct Lines<'a> {
    count: usize,
    host: Option<&'a [u8]>,
    hosts: usize,
    content_length: Option<&'a [u8]>,
    content_lengths: usize,
    transfer_encoding: Option<&'a [u8]>,
    transfer_encodings: usize,
    expect: Option<&'a [u8]>,
    ambiguous: bool,
    authorizations: usize,
    content_types: usize,
    upgrades: bool,
}

impl<'a> Lines<'a> {
    fn read(&mut self, mut rest: &'a [u8], limits: &HeadLimits) -> Result<(), Fault> {
        if rest.len() > limits.header_bytes {
            return Err(Fault::HeadersTooLarge);
        }
        loop {
            let (line, after) = split_line(rest)?;
            if line.is_empty() {
                return if after.is_empty() {
                    Ok(())
                } else {
                    Err(Fault::BadRequest)
                };
            }
            self.count += 1;
            if self.count > limits.headers {
                return Err(Fault::HeadersTooLarge);
            }
            self.field(line)?;
            rest = after;
        }
    }

    fn field(&mut self, line: &'a [u8]) -> Result<(), Fault> {
        let (name, value) = split_byte(line, b':').ok_or(Fault::BadRequest)?;
        // `_` is no separator of ours but one of CGI's: `X_User_Id` and `X-User-Id` would be one header there.
        if name.is_empty() || !name.iter().all(|byte| is_token(*byte) && *byte != b'_') {
            return Err(Fault::BadRequest);
        }
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
                self.ambiguous |= value
                    .split(|byte| *byte == b',')
                    .any(|option| is_protected(option.trim_ascii()));
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

    fn check(&self, minor: u8) -> Result<(), Fault> {
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

    fn host(&self) -> Result<Cow<'a, str>, Fault> {
        let (1, Some(host)) = (self.hosts, self.host) else {
            return Err(Fault::BadHost);
        };
        let host = std::str::from_utf8(host).map_err(|_error| Fault::BadHost)?;
        Ok(canon::parse_authority(host)
            .map_err(|_fault| Fault::BadHost)?
            .canonical())
    }

    fn framing(&self, minor: u8) -> Result<Framing, Fault> {
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
            next: Next::Request,
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

fn write(
    request: &RequestLine<'_>,
    target: &Target<'_>,
    fields: &[u8],
    lines: &Lines<'_>,
    host: &str,
) -> BytesMut {
    let mut out = BytesMut::with_capacity(request.target.len() + fields.len() + 128);
    out.put_slice(request.method.as_bytes());
    out.put_u8(b' ');
    if target.as_sent {
        out.put_slice(request.target.as_bytes());
    } else {
        out.put_slice(target.path.as_bytes());
        if let Some(query) = &target.query {
            out.put_u8(b'?');
            out.put_slice(query.as_bytes());
        }
    }
    out.put_slice(if request.minor == 0 {
        b" HTTP/1.0\r\n"
    } else {
        b" HTTP/1.1\r\n"
    });
    if lines.host == Some(host.as_bytes()) {
        out.put_slice(fields);
        return out;
    }
    out.put_slice(b"Host: ");
    out.put_slice(host.as_bytes());
    out.put_slice(b"\r\n");
    for line in fields.split_inclusive(|byte| *byte == b'\n') {
        if !line
            .get(..5)
            .is_some_and(|name| name.eq_ignore_ascii_case(b"host:"))
        {
            out.put_slice(line);
        }
    }
    out
}

/// Splits at the CRLF; a CR or LF that stands alone is refused.
fn split_line(bytes: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    let end = bytes
        .iter()
        .position(|byte| *byte == b'\n')
        .ok_or(Fault::BadRequest)?;
    let (line, rest) = bytes.split_at_checked(end + 1).ok_or(Fault::BadRequest)?;
    let line = line.strip_suffix(b"\r\n").ok_or(Fault::BadRequest)?;
    if line.contains(&b'\r') || line.contains(&0) {
        return Err(Fault::BadRequest);
    }
    Ok((line, rest))
}

fn split_byte(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let index = bytes.iter().position(|byte| *byte == at)?;
    Some((bytes.get(..index)?, bytes.get(index + 1..)?))
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
