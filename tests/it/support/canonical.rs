//! The one form in which a request may reach an origin, checked byte by byte.
//!
//! It is stricter than RFC 9112: where two parsers could disagree, only one spelling passes.

use std::fmt;

/// No head that is sent upstream is longer.
pub(crate) const HEAD_BYTES_MAX: usize = 32 * 1024;

/// How the body is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    Empty,
    Length(u64),
    Chunked,
}

/// A request head in canonical form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parsed {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) framing: Framing,
}

/// The rule that was broken, and the bytes that broke it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) rule: &'static str,
    pub(crate) seen: String,
}

impl Violation {
    pub(crate) fn new(rule: &'static str, seen: &[u8]) -> Self {
        let shown = &seen[..seen.len().min(400)];
        Self {
            rule,
            seen: shown.escape_ascii().to_string(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: \"{}\"", self.rule, self.seen)
    }
}

/// Checks a whole head: from the method to the empty line, with the request id that every exchange carries.
pub(crate) fn check_request(head: &[u8]) -> Result<Parsed, Violation> {
    let parsed = check_form(head)?;
    check_request_id(&parsed)?;
    Ok(parsed)
}

/// The same without the request id, for probes and key sets, which no client asked for.
pub(crate) fn check_form(head: &[u8]) -> Result<Parsed, Violation> {
    if head_end(head)? != Some(head.len()) {
        return Err(Violation::new("a head ends with its only empty line", head));
    }
    let mut lines = head[..head.len() - 4].split(|byte| *byte == b'\n');
    let mut next = || {
        lines
            .next()
            .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
    };
    let (method, target) = check_request_line(next().unwrap_or_default())?;
    let (path, query) = check_target(&method, &target)?;
    let mut headers = Vec::new();
    while let Some(line) = next() {
        headers.push(check_field(line)?);
    }
    let framing = check_framing(&headers)?;
    check_host(&headers)?;
    check_hop_by_hop(&headers)?;
    check_repeated(&headers)?;
    Ok(Parsed {
        method,
        target,
        path,
        query,
        headers,
        framing,
    })
}

/// Exactly one request id, and not an empty one.
pub(crate) fn check_request_id(parsed: &Parsed) -> Result<(), Violation> {
    match values(&parsed.headers, "x-request-id")[..] {
        [id] if !id.is_empty() => Ok(()),
        ref ids => Err(Violation::new(
            "exactly one X-Request-Id",
            format!("{} {ids:?}", parsed.target).as_bytes(),
        )),
    }
}

/// Where the head ends in what has arrived so far; an error as soon as no canonical head can come of it.
pub(crate) fn head_end(bytes: &[u8]) -> Result<Option<usize>, Violation> {
    let mut line_start = 0;
    for (i, byte) in bytes.iter().enumerate().take(HEAD_BYTES_MAX) {
        let before = i.checked_sub(1).map(|at| bytes[at]);
        if *byte == b'\n' && before != Some(b'\r') {
            return Err(Violation::new("lines end with CRLF, not LF", bytes));
        }
        if before == Some(b'\r') && *byte != b'\n' {
            return Err(Violation::new("no CR without LF", bytes));
        }
        if *byte != b'\n' {
            continue;
        }
        match i - line_start {
            1 if line_start == 0 => {
                return Err(Violation::new("no empty line before a request", bytes));
            }
            1 => return Ok(Some(i + 1)),
            _ => line_start = i + 1,
        }
    }
    if bytes.len() >= HEAD_BYTES_MAX {
        return Err(Violation::new("a head has at most 32 KiB", bytes));
    }
    Ok(None)
}

fn check_request_line(line: &[u8]) -> Result<(String, String), Violation> {
    let parts: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let [method, target, b"HTTP/1.1"] = parts[..] else {
        return Err(Violation::new(
            "request line is METHOD SP target SP HTTP/1.1",
            line,
        ));
    };
    let upper = |byte: &u8| byte.is_ascii_uppercase() || *byte == b'-';
    if method.is_empty() || !method.iter().all(upper) {
        return Err(Violation::new("a method is upper-case letters", line));
    }
    if target.is_empty() || !target.iter().all(u8::is_ascii_graphic) {
        return Err(Violation::new("a target is visible ASCII", line));
    }
    Ok((text(method), text(target)))
}

fn check_target(method: &str, target: &str) -> Result<(String, Option<String>), Violation> {
    let broken = |rule| Err(Violation::new(rule, target.as_bytes()));
    if target == "*" {
        return match method {
            "OPTIONS" => Ok(("*".to_owned(), None)),
            _ => broken("only OPTIONS has the target *"),
        };
    }
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let Some(inside) = path.strip_prefix('/') else {
        return broken("a target is in origin form");
    };
    let segments: Vec<&str> = inside.split('/').collect();
    for (i, segment) in segments.iter().enumerate() {
        if segment.is_empty() && i + 1 < segments.len() {
            return broken("no empty segment in a path");
        }
        if matches!(segment.split(';').next(), Some("." | "..")) {
            return broken("no dot segment in a path");
        }
        check_escapes(segment, target, Strictness::Path)?;
    }
    check_escapes(query.unwrap_or_default(), target, Strictness::Query)?;
    Ok((path.to_owned(), query.map(str::to_owned)))
}

#[derive(Clone, Copy, PartialEq)]
enum Strictness {
    Path,
    Query,
}

/// RFC 3986 §3.3 and §3.4: pchar; a query may also hold `/` and `?`.
fn check_escapes(part: &str, target: &str, strictness: Strictness) -> Result<(), Violation> {
    let broken = |rule| Err(Violation::new(rule, target.as_bytes()));
    let mut bytes = part.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {}
            b'/' | b'?' if strictness == Strictness::Query => continue,
            _ if unreserved(byte) || b"!$&'()*+,;=:@".contains(&byte) => continue,
            _ => return broken("only pchar in a target"),
        }
        let digits = [bytes.next().unwrap_or(b' '), bytes.next().unwrap_or(b' ')];
        let Some(value) = hex(&digits) else {
            return broken("an escape is % and two hex digits");
        };
        if strictness == Strictness::Query {
            continue;
        }
        if digits.iter().any(u8::is_ascii_lowercase) {
            return broken("escapes in a path are upper-case");
        }
        match u8::try_from(value).unwrap_or(0) {
            0..=0x1f | 0x7f | b'/' | b'\\' => {
                return broken("no escaped slash, backslash or control in a path");
            }
            plain if unreserved(plain) => return broken("no escaped unreserved byte in a path"),
            _ => {}
        }
    }
    Ok(())
}

fn check_field(line: &[u8]) -> Result<(String, String), Violation> {
    let broken = |rule| Err(Violation::new(rule, line));
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return broken("no folded header");
    }
    let Some(colon) = line.iter().position(|byte| *byte == b':') else {
        return broken("a header has a colon");
    };
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let name_byte = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^`|~".contains(byte);
    if name.is_empty() || !name.iter().all(name_byte) {
        return broken("a header name is a token without `_`");
    }
    if value.iter().any(u8::is_ascii_control) {
        return broken("no control byte in a header");
    }
    let value = match value {
        [b' ', rest @ ..] if rest.trim_ascii() == rest => rest,
        [] => value,
        _ => return broken("one space before a value, none after it"),
    };
    Ok((text(name), text(value)))
}

fn check_framing(headers: &[(String, String)]) -> Result<Framing, Violation> {
    let broken = |rule| Err(Violation::new(rule, format!("{headers:?}").as_bytes()));
    let lengths = values(headers, "content-length");
    let codings = values(headers, "transfer-encoding");
    match (&lengths[..], &codings[..]) {
        ([], []) => Ok(Framing::Empty),
        ([], ["chunked"]) => Ok(Framing::Chunked),
        ([], _) => broken("Transfer-Encoding is exactly `chunked`"),
        ([length], []) => {
            let canonical = |number: &u64| number.to_string() == *length;
            match length.parse().ok().filter(canonical) {
                Some(number) => Ok(Framing::Length(number)),
                None => broken("Content-Length is a plain number"),
            }
        }
        (_, []) => broken("at most one Content-Length"),
        _ => broken("never Content-Length with Transfer-Encoding"),
    }
}

fn check_host(headers: &[(String, String)]) -> Result<(), Violation> {
    let hosts = values(headers, "host");
    let [host] = hosts[..] else {
        return Err(Violation::new(
            "exactly one Host",
            format!("{hosts:?}").as_bytes(),
        ));
    };
    if authority(host) {
        return Ok(());
    }
    Err(Violation::new("Host is a valid authority", host.as_bytes()))
}

/// RFC 9110 §7.6.1: what concerns one connection is never forwarded.
fn check_hop_by_hop(headers: &[(String, String)]) -> Result<(), Violation> {
    let websocket =
        matches!(values(headers, "upgrade")[..], [one] if one.eq_ignore_ascii_case("websocket"));
    let upgrade =
        matches!(values(headers, "connection")[..], [one] if one.eq_ignore_ascii_case("upgrade"));
    for (name, value) in headers {
        let allowed = match name.to_ascii_lowercase().as_str() {
            "connection" | "upgrade" => websocket && upgrade,
            "keep-alive"
            | "proxy-connection"
            | "proxy-authorization"
            | "te"
            | "trailer"
            | "http2-settings"
            | "expect" => false,
            _ => true,
        };
        if !allowed {
            let seen = format!("{name}: {value}");
            return Err(Violation::new("no hop-by-hop header", seen.as_bytes()));
        }
    }
    Ok(())
}

/// Two of these would let two readers pick different ones.
fn check_repeated(headers: &[(String, String)]) -> Result<(), Violation> {
    const SINGLE: [&str; 7] = [
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-forwarded-host",
        "authorization",
        "cookie",
        "content-type",
        "via",
    ];
    for name in SINGLE {
        let found = values(headers, name);
        if found.len() > 1 {
            let seen = format!("{name}: {found:?}");
            return Err(Violation::new(
                "this header comes at most once",
                seen.as_bytes(),
            ));
        }
    }
    Ok(())
}

/// Checks a body as it arrives.
pub(crate) struct BodyCheck {
    state: BodyState,
}

enum BodyState {
    Done,
    Length(u64),
    Size(Vec<u8>),
    Data(u64),
    DataEnd(Vec<u8>),
    LastEnd(Vec<u8>),
}

impl BodyCheck {
    pub(crate) fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::Empty | Framing::Length(0) => BodyState::Done,
            Framing::Length(length) => BodyState::Length(length),
            Framing::Chunked => BodyState::Size(Vec::new()),
        };
        Self { state }
    }

    pub(crate) fn is_done(&self) -> bool {
        matches!(self.state, BodyState::Done)
    }

    /// Takes what belongs to this body, hands its data on, and says how many bytes it took.
    pub(crate) fn feed(
        &mut self,
        bytes: &[u8],
        mut data: impl FnMut(&[u8]),
    ) -> Result<usize, Violation> {
        let mut taken = 0;
        while taken < bytes.len() && !self.is_done() {
            let rest = &bytes[taken..];
            taken += match &mut self.state {
                BodyState::Length(left) | BodyState::Data(left) => {
                    let length = rest.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    data(&rest[..length]);
                    *left -= length as u64;
                    length
                }
                BodyState::Size(line) | BodyState::DataEnd(line) | BodyState::LastEnd(line) => {
                    line.push(rest[0]);
                    1
                }
                BodyState::Done => 0,
            };
            self.step()?;
        }
        Ok(taken)
    }

    /// Goes on to the next part when the present one is whole.
    fn step(&mut self) -> Result<(), Violation> {
        let next = match &self.state {
            BodyState::Length(0) => BodyState::Done,
            BodyState::Data(0) => BodyState::DataEnd(Vec::new()),
            BodyState::Size(line) => match chunk_size(line)? {
                Some(0) => BodyState::LastEnd(Vec::new()),
                Some(size) => BodyState::Data(size),
                None => return Ok(()),
            },
            BodyState::DataEnd(line) if line == b"\r\n" => BodyState::Size(Vec::new()),
            BodyState::LastEnd(line) if line == b"\r\n" => BodyState::Done,
            BodyState::DataEnd(line) if !b"\r\n".starts_with(line) => {
                return Err(Violation::new("a chunk ends with CRLF", line));
            }
            BodyState::LastEnd(line) if !b"\r\n".starts_with(line) => {
                return Err(Violation::new("no trailers", line));
            }
            BodyState::Done | BodyState::Length(_) | BodyState::Data(_) => return Ok(()),
            BodyState::DataEnd(_) | BodyState::LastEnd(_) => return Ok(()),
        };
        self.state = next;
        Ok(())
    }
}

/// The size in a chunk's first line, or nothing yet while the line is not whole.
fn chunk_size(line: &[u8]) -> Result<Option<u64>, Violation> {
    let broken = || Violation::new("a chunk size is plain hex and CRLF", line);
    let digits = line
        .iter()
        .take_while(|byte| byte.is_ascii_hexdigit())
        .count();
    let (size, end) = line.split_at(digits);
    if !b"\r\n".starts_with(end) || (size.is_empty() && !end.is_empty()) || digits > 16 {
        return Err(broken());
    }
    if digits > 1 && size[0] == b'0' {
        return Err(broken());
    }
    if end != b"\r\n" {
        return Ok(None);
    }
    hex(size).map(Some).ok_or_else(broken)
}

/// A name, an IPv4 address or a bracketed IPv6 address, and perhaps a port. No user, no escapes.
fn authority(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (host, None),
    };
    let name_good = match name
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !name.is_empty() && name.len() <= 255 && name.bytes().all(unreserved),
    };
    let port_good = port.is_none_or(|port| {
        port.bytes().all(|byte| byte.is_ascii_digit())
            && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    name_good && port_good
}

fn unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

fn hex(digits: &[u8]) -> Option<u64> {
    let plain = digits.iter().all(u8::is_ascii_hexdigit);
    let digits = std::str::from_utf8(digits).ok().filter(|_| plain)?;
    u64::from_str_radix(digits, 16).ok()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn values<'a>(headers: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    let named = headers
        .iter()
        .filter(|header| header.0.eq_ignore_ascii_case(name));
    named.map(|header| header.1.as_str()).collect()
}
