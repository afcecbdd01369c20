//! The request head as bytes: refused where two readers could read it differently, made canonical before anybody reads it.
//!
//! Pingora parses what [`check`] returns. Path, host and target form are canonical from here on: router, policies, log and
//! upstream all see the same value (RFC 3986 section 6.2.2, RFC 9110 section 7.2, RFC 9112 sections 2.2, 3 and 6).

use bytes::{BufMut, BytesMut};

use super::fault::Fault;
use super::fields::{Lines, is_about_connection, options};
use super::target::Target;
use crate::base::canon;

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
    pub next: After,
}

/// What may follow a request on its connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum After {
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
    if line.contains(&b'\r') || line.contains(&0) {
        return Err(Fault::BadRequest);
    }
    let request = RequestLine::parse(line, limits)?;
    let mut lines = Lines::default();
    read_fields(&mut lines, fields, limits)?;
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
        framing.next = After::Anything;
    }
    Ok((write(&request, &target, fields, &lines, &host), framing))
}

pub(super) fn authority_equals(authority: &str, host: &str) -> bool {
    canon::parse_authority(authority).is_ok_and(|parsed| parsed.canonical() == host)
}

/// Methods are case-sensitive, but not to everybody: `get` is GET to some and unknown to others.
pub(super) fn check_method(method: &[u8]) -> Result<(), Fault> {
    let is_plain = |byte: &u8| byte.is_ascii_uppercase() || *byte == b'-';
    if method.is_empty() || method.len() > 32 || !method.iter().all(is_plain) {
        return Err(Fault::BadRequest);
    }
    Ok(())
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
        check_method(method)?;
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
    let same_host = lines.host == Some(host.as_bytes());
    if same_host && lines.named == 0 {
        out.put_slice(fields);
        return out;
    }
    if !same_host {
        out.put_slice(b"Host: ");
        out.put_slice(host.as_bytes());
        out.put_slice(b"\r\n");
    }
    let each = || fields.split_inclusive(|byte| *byte == b'\n');
    let connections = each().filter_map(|line| connection(split_byte(line, b':')?));
    let named: Vec<&[u8]> = connections
        .flat_map(options)
        .filter(|option| !is_about_connection(option))
        .collect();
    for line in each() {
        match split_byte(line, b':') {
            Some((name, _)) if name.eq_ignore_ascii_case(b"host") && !same_host => {}
            // RFC 9110 section 7.6.1: for this connection only. Nobody behind it, whoever is asked about the request
            // included, sees another request than the upstream.
            Some((name, _)) if named.iter().any(|it| it.eq_ignore_ascii_case(name)) => {}
            Some(field) if !named.is_empty() && connection(field).is_some() => {
                write_options(&mut out, field.1);
            }
            Some(_) | None => out.put_slice(line),
        }
    }
    out
}

/// The value of a field, where it is `Connection`.
fn connection<'a>((name, value): (&[u8], &'a [u8])) -> Option<&'a [u8]> {
    name.eq_ignore_ascii_case(b"connection").then_some(value)
}

/// `Connection` with what it says of the connection, without the names of headers that are not there any more.
fn write_options(out: &mut BytesMut, value: &[u8]) {
    let kept: Vec<&[u8]> = options(value)
        .filter(|option| is_about_connection(option))
        .collect();
    if !kept.is_empty() {
        out.put_slice(b"Connection: ");
        out.put_slice(&kept.join(&b", "[..]));
        out.put_slice(b"\r\n");
    }
}

/// Reads every line up to the empty one.
fn read_fields<'a>(
    lines: &mut Lines<'a>,
    mut rest: &'a [u8],
    limits: &HeadLimits,
) -> Result<(), Fault> {
    if rest.len() > limits.header_bytes {
        return Err(Fault::HeadersTooLarge);
    }
    loop {
        // What may not stand in a line is looked for where its name and value are.
        let (line, after) = split_line(rest)?;
        if line.is_empty() {
            return if after.is_empty() {
                Ok(())
            } else {
                Err(Fault::BadRequest)
            };
        }
        let (name, value) = split_byte(line, b':').ok_or(Fault::BadRequest)?;
        lines.note(name, value, limits)?;
        rest = after;
    }
}

/// Splits at the CRLF; an LF that stands alone is refused.
fn split_line(bytes: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    let end = bytes
        .iter()
        .position(|byte| *byte == b'\n')
        .ok_or(Fault::BadRequest)?;
    let (line, rest) = bytes.split_at_checked(end + 1).ok_or(Fault::BadRequest)?;
    let line = line.strip_suffix(b"\r\n").ok_or(Fault::BadRequest)?;
    Ok((line, rest))
}

fn split_byte(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let index = bytes.iter().position(|byte| *byte == at)?;
    Some((bytes.get(..index)?, bytes.get(index + 1..)?))
}
