//! What has to be true of everything that reads foreign bytes, whatever the bytes are: the fuzz targets and the replay of their
//! corpora ask the same functions. Each reads the bytes a second time, by code of its own.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "whoever breaks a rule is to be seen"
)]

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use doorward::base::canon::{self, Host, PathOptions};
use doorward::base::problem::{CODES, Problems};
use doorward::base::proxy_protocol::{self, Header};
use doorward::cli::{json_report, plain_report};
use doorward::config::source::Environment;
use doorward::config::{self, Loaded};
use doorward::exchange::{
    After, Framing, HeadLimits, RequestHead, check_head, check_http2_head, end_of_head,
    leading_empty_lines,
};
use doorward::flow::read_head;
use doorward::plan;

/// Stops at bytes that break its rule.
pub(crate) type Target = fn(&[u8]);

/// Every target by its name: the folder of its corpus, and the rule.
pub(crate) const TARGETS: [(&str, Target); 6] = [
    ("canonical_path", canonical_path),
    ("authority", authority),
    ("http1_head", http1_head),
    ("http2_head", http2_head),
    ("proxy_protocol", proxy_protocol),
    ("config", config),
];

/// Paths have one form: taken again it is itself, it holds nothing that two readers read differently, and it leads where a plain
/// reader goes who decodes first and then resolves.
pub(crate) fn canonical_path(bytes: &[u8]) {
    let Ok(raw) = std::str::from_utf8(bytes) else {
        return;
    };
    for merge_slashes in [true, false] {
        let options = PathOptions { merge_slashes };
        let Ok(path) = canon::canonical_path(raw, options) else {
            continue;
        };
        let again = canon::canonical_path(&path, options);
        assert!(
            matches!(again, Ok(Cow::Borrowed(same)) if same == path),
            "{raw:?} is {path:?}, and that is {again:?}"
        );
        one_reading(&path);
        assert_eq!(
            decoded(&path),
            resolved(raw, options),
            "{raw:?} is {path:?}"
        );
        if matches!(path, Cow::Borrowed(_)) {
            assert_eq!(path, raw);
        }
    }
    if !raw.contains(['{', '}']) {
        assert_eq!(
            canon::canonical_pattern(raw),
            canon::canonical_path(raw, PathOptions::default()),
            "{raw:?}"
        );
    }
}

/// RFC 3986 §3.3: `pchar`, slashes, and escapes of what cannot stand there otherwise; no dot segments.
fn one_reading(path: &str) {
    assert!(path.starts_with('/') && !path.starts_with("//"), "{path:?}");
    for segment in path.split('/') {
        assert!(!matches!(segment, "." | ".."), "{path:?}");
        let mut bytes = segment.bytes();
        while let Some(byte) = bytes.next() {
            if byte != b'%' {
                let plain = byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte);
                assert!(plain, "{path:?}");
                continue;
            }
            let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
            let upper = |digit: &u8| matches!(digit, b'0'..=b'9' | b'A'..=b'F');
            assert!(digits.iter().all(upper), "{path:?}");
            let value = u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap();
            let unreserved = value.is_ascii_alphanumeric() || b"-._~".contains(&value);
            let divides = value < 0x20 || matches!(value, b'/' | b'\\' | 0x7f);
            assert!(!unreserved && !divides, "{path:?}");
        }
    }
}

/// Every escape as its byte.
fn decoded(text: &str) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let [first, after @ ..] = rest {
        let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match digits.map(|digits| u8::from_str_radix(digits, 16)) {
            Some(Ok(byte)) if *first == b'%' => {
                out.push(byte);
                rest = &after[2..];
            }
            _ => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

/// RFC 3986 §5.2.4 on segments that are decoded already.
fn resolved(raw: &str, options: PathOptions) -> Vec<u8> {
    let merge_slashes = options.merge_slashes;
    let mut kept: Vec<Vec<u8>> = Vec::new();
    let mut ends_in_slash = false;
    for segment in raw[1..].split('/').map(decoded) {
        ends_in_slash = matches!(&segment[..], b"" | b"." | b"..");
        match &segment[..] {
            b"." => {}
            b".." => drop(kept.pop().expect("above the root")),
            b"" if merge_slashes || kept.is_empty() => {}
            _ => kept.push(segment),
        }
    }
    // The last slash of all is no segment of its own.
    if !merge_slashes && raw.ends_with('/') && kept.last().is_some_and(Vec::is_empty) {
        kept.pop();
    }
    let mut out = Vec::new();
    for segment in &kept {
        out.push(b'/');
        out.extend(segment);
    }
    if ends_in_slash || kept.is_empty() {
        out.push(b'/');
    }
    out
}

/// Hosts have one form: taken again it is itself, and another reader of URIs finds the same host and port in it.
pub(crate) fn authority(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let Ok(parsed) = canon::parse_authority(text) else {
        assert!(canon::canonical_host(text).is_err(), "{text:?}");
        return;
    };
    let canonical = parsed.canonical();
    let again = canon::parse_authority(&canonical).unwrap();
    assert_eq!(again.canonical(), canonical, "{text:?}");
    assert_eq!(again.port(), parsed.port(), "{text:?}");
    let host = parsed.canonical_host();
    assert_eq!(
        canon::canonical_host(text).ok().as_deref(),
        parsed.port().is_none().then_some(&*host),
        "{text:?}"
    );
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    match parsed.host() {
        Host::Name(_) => {
            let known = |byte: u8| plain(byte) || b"-._".contains(&byte);
            assert!(host.bytes().all(known) && !host.ends_with('.'), "{text:?}");
            assert!(host.parse::<IpAddr>().is_err(), "{text:?}");
        }
        Host::Ip(ip) => {
            let inner = host
                .strip_prefix('[')
                .and_then(|rest| rest.strip_suffix(']'));
            assert_eq!(inner.is_some(), ip.is_ipv6(), "{text:?}");
            assert_eq!(inner.unwrap_or(&host).parse(), Ok(ip), "{text:?}");
        }
    }
    let other: http::uri::Authority = text.parse().expect("an authority to others too");
    assert_eq!(other.port_u16(), parsed.port(), "{text:?}");
    let other: http::uri::Authority = canonical.parse().unwrap();
    assert_eq!(other.host(), host, "{text:?}");
    assert_eq!(other.port_u16(), parsed.port(), "{text:?}");
}

/// Room for what the canonical form of a host may be longer by, and for the line that it has in HTTP/1 only.
fn wider(limits: &HeadLimits) -> HeadLimits {
    HeadLimits {
        uri: limits.uri * 3,
        header_bytes: limits.header_bytes + 512,
        headers: limits.headers + 1,
    }
}

/// A head that is taken has one reading: a second reader finds in what is written what the check found.
pub(crate) fn http1_head(bytes: &[u8]) {
    let limits = HeadLimits::default();
    let bytes = &bytes[leading_empty_lines(bytes)..];
    assert_eq!(leading_empty_lines(bytes), 0);
    let end = end_of_head(bytes, 0);
    for searched in [1, 2, 3, 5, bytes.len() / 2, bytes.len()] {
        // Whoever has looked at a part of it and found no end finds the same end later.
        let part = bytes.get(..searched).unwrap_or(bytes);
        if end_of_head(part, 0).is_none() {
            assert_eq!(end_of_head(bytes, part.len()), end);
        }
    }
    let head = &bytes[..end.unwrap_or(bytes.len())];
    let Ok((canonical, framing)) = check_head(head, &limits) else {
        assert!(read_head(head, &limits).is_err());
        return;
    };
    assert!(end.is_some() && head.len() <= limits.head_max());
    assert_eq!(end_of_head(&canonical, 0), Some(canonical.len()));
    let (again, same) = check_head(&canonical, &wider(&limits)).expect("a canonical head is taken");
    assert_eq!(again, canonical);
    assert_eq!(same, framing);
    let (line, lines) = strictly(&canonical);
    let (method, target) = line;
    assert_framing(&lines, method, framing);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if path != "*" {
        one_reading(path);
    }
    canon::check_query(query).unwrap();
    let (read, same) = read_head(head, &limits).expect("what is taken can be read");
    assert_eq!(same, framing);
    assert_eq!(read.method.as_str(), method);
    assert_eq!(read.raw_path(), target.as_bytes());
    assert_eq!(read.headers.len(), lines.len());
    for (name, value) in &lines {
        let mut values = read.headers.get_all(*name).iter();
        assert!(values.any(|known| known.as_bytes() == *value), "{name:?}");
    }
}

type Line<'a> = (&'a str, &'a [u8]);

/// Method, target and lines of a head that has nothing to be lenient about.
fn strictly(head: &[u8]) -> ((&str, &str), Vec<Line<'_>>) {
    let head = head.strip_suffix(b"\r\n\r\n").expect("an empty line");
    let mut lines = Vec::new();
    let mut rest = head;
    while let Some(at) = rest.windows(2).position(|two| two == b"\r\n") {
        lines.push(&rest[..at]);
        rest = &rest[at + 2..];
    }
    lines.push(rest);
    let one_line = |line: &&[u8]| !line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0));
    assert!(lines.iter().all(one_line));
    let first = std::str::from_utf8(lines[0]).expect("ASCII");
    let words: Vec<&str> = first.split(' ').collect();
    let [method, target, "HTTP/1.1" | "HTTP/1.0"] = words[..] else {
        panic!("{first:?}")
    };
    let fields = lines[1..].iter().map(|line| {
        let at = line.iter().position(|byte| *byte == b':').expect("a colon");
        let name = std::str::from_utf8(&line[..at]).expect("ASCII");
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^`|~".contains(&byte);
        assert!(!name.is_empty() && name.bytes().all(token), "{name:?}");
        let mut value = &line[at + 1..];
        while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
            value = rest;
        }
        (name, value)
    });
    ((method, target), fields.collect())
}

/// The values of one name.
fn values<'a>(lines: &[Line<'a>], name: &str) -> Vec<&'a [u8]> {
    let named = lines
        .iter()
        .filter(|(known, _)| known.eq_ignore_ascii_case(name));
    named.map(|(_, value)| *value).collect()
}

/// Where the body ends is said once, and as the check understood it; so is the host.
fn assert_framing(lines: &[Line<'_>], method: &str, framing: Framing) {
    let [host] = values(lines, "host")[..] else {
        panic!("one host")
    };
    let host = std::str::from_utf8(host).unwrap();
    assert_eq!(canon::parse_authority(host).unwrap().canonical(), host);
    let (lengths, codings) = (
        values(lines, "content-length"),
        values(lines, "transfer-encoding"),
    );
    match (&lengths[..], &codings[..]) {
        ([], []) => assert!(!framing.has_body() && framing.content_length.is_none()),
        ([length], []) => {
            let length: u64 = std::str::from_utf8(length).unwrap().parse().unwrap();
            assert_eq!(
                (framing.content_length, framing.chunked),
                (Some(length), false)
            );
        }
        ([], [coding]) => {
            assert!(coding.eq_ignore_ascii_case(b"chunked"));
            assert_eq!((framing.content_length, framing.chunked), (None, true));
        }
        _ => panic!("two lengths"),
    }
    let mut upgrades = values(lines, "upgrade").into_iter();
    if upgrades.any(|value| !value.eq_ignore_ascii_case(b"h2c")) {
        assert_eq!(framing.next, After::Anything, "{method}");
    }
}

/// A head of HTTP/2 that is taken is one that HTTP/1 takes as it is, with the same framing.
///
/// The bytes are lines: method, scheme, authority, path, then `name: value` each.
pub(crate) fn http2_head(bytes: &[u8]) {
    let Some(mut head) = http2(bytes) else {
        return;
    };
    let limits = HeadLimits::default();
    let Ok(framing) = check_http2_head(&mut head, &limits) else {
        return;
    };
    assert!(head.uri.scheme().is_none() && head.uri.authority().is_none());
    assert!(head.headers.get_all("cookie").iter().count() <= 1);
    let mut text = format!("{} ", head.method).into_bytes();
    text.extend(head.raw_path());
    text.extend(b" HTTP/1.1\r\n");
    for (name, value) in &head.headers {
        text.extend(name.as_str().as_bytes());
        text.extend(b": ");
        text.extend(value.as_bytes());
        text.extend(b"\r\n");
    }
    text.extend(b"\r\n");
    let (canonical, same) = check_head(&text, &wider(&limits)).expect("HTTP/1 takes it too");
    assert_eq!(canonical, text);
    assert_eq!(same, framing);
    assert_framing(&strictly(&text).1, head.method.as_str(), framing);
    let before = head.clone();
    assert_eq!(check_http2_head(&mut head, &wider(&limits)), Ok(framing));
    assert_eq!((&head.uri, &head.headers), (&before.uri, &before.headers));
}

/// What h2 makes of the pseudo headers and lines; none if it would refuse them itself.
fn http2(bytes: &[u8]) -> Option<RequestHead> {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let mut uri = http::uri::Parts::default();
    let method = http::Method::from_bytes(lines.next()?).ok()?;
    let (scheme, authority, path) = (lines.next()?, lines.next()?, lines.next()?);
    uri.scheme = match scheme {
        b"" => None,
        scheme => Some(scheme.try_into().ok()?),
    };
    uri.authority = match authority {
        b"" => None,
        authority => Some(authority.try_into().ok()?),
    };
    uri.path_and_query = match path {
        b"" => None,
        path => Some(path.try_into().ok()?),
    };
    let mut request = http::Request::new(());
    *request.method_mut() = method;
    *request.version_mut() = http::Version::HTTP_2;
    *request.uri_mut() = http::Uri::from_parts(uri).ok()?;
    for line in lines {
        let at = line.iter().position(|byte| *byte == b':')?;
        let name = http::HeaderName::from_lowercase(&line[..at]).ok()?;
        let value = line[at + 1..].trim_ascii();
        let value = http::HeaderValue::from_bytes(value).ok()?;
        request.headers_mut().try_append(name, value).ok()?;
    }
    Some(request.into_parts().0.into())
}

/// A PROXY header takes exactly its own bytes: fewer are a part of it, more change nothing, and what was said once and written anew
/// says the same.
pub(crate) fn proxy_protocol(bytes: &[u8]) {
    let seen = proxy_protocol::read(bytes);
    let more = [bytes, b"\0\r\nx"].concat();
    let mut before: Vec<usize> = (0..bytes.len()).collect();
    // Every length of a short one; of a long one those at its ends.
    if before.len() > 600 {
        before.retain(|length| *length < 300 || *length + 300 > bytes.len());
    }
    match &seen {
        Header::Whole(length, client) => {
            assert!(*length > 0 && *length <= bytes.len());
            assert_eq!(proxy_protocol::read(&bytes[..*length]), seen);
            assert_eq!(proxy_protocol::read(&more), seen);
            before.retain(|part| part < length);
            for part in before {
                assert_eq!(
                    proxy_protocol::read(&bytes[..part]),
                    Header::Partial,
                    "{part}"
                );
            }
            if let Some(client) = client {
                written_anew(*client);
            }
        }
        Header::Partial => {
            assert!(bytes.len() < 16 + 4096);
            for part in before {
                assert_eq!(
                    proxy_protocol::read(&bytes[..part]),
                    Header::Partial,
                    "{part}"
                );
            }
        }
        Header::Absent | Header::Malformed => {
            // It does not become one by what follows, and a part of it was not taken for a whole one.
            assert_eq!(proxy_protocol::read(&more), seen);
            for part in before {
                let part = proxy_protocol::read(&bytes[..part]);
                assert!(part == Header::Partial || part == seen, "{part:?}");
            }
        }
    }
}

/// The client as another load balancer would announce it, in both versions.
fn written_anew(client: SocketAddr) {
    let (family, target) = match client.ip() {
        IpAddr::V4(_) => ("TCP4", "192.0.2.1"),
        IpAddr::V6(_) => ("TCP6", "2001:db8::1"),
    };
    let (ip, port) = (client.ip(), client.port());
    let line = format!("PROXY {family} {ip} {target} {port} 443\r\n");
    let whole = Header::Whole(line.len(), Some(client));
    assert_eq!(proxy_protocol::read(line.as_bytes()), whole, "{line}");
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21".to_vec();
    match ip {
        IpAddr::V4(ip) => {
            bytes.extend([0x11, 0, 12]);
            bytes.extend(ip.octets());
            bytes.extend([0; 4]);
        }
        IpAddr::V6(ip) => {
            bytes.extend([0x21, 0, 36]);
            bytes.extend(ip.octets());
            bytes.extend([0; 16]);
        }
    }
    bytes.extend(port.to_be_bytes());
    bytes.extend([0, 0]);
    let whole = Header::Whole(bytes.len(), Some(client));
    assert_eq!(proxy_protocol::read(&bytes), whole, "{client}");
}

/// Every text is a config or has mistakes, each with a place within it; both can be printed; the same text says the same again; and
/// the effective config of one without mistakes has none either, and is its own.
pub(crate) fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    // What a config refers to is read: of this machine nothing is asked that has no end.
    if ["/dev", "/proc", "/sys"]
        .iter()
        .any(|folder| text.contains(folder))
    {
        return;
    }
    let loaded = loaded(text);
    assert_places(&loaded, text);
    let report = plain_report(&loaded);
    let json = json_report(&loaded).to_string();
    for problem in loaded.problems.list() {
        assert!(report.contains(problem.code), "{report}");
    }
    let shown = config::show(&loaded);
    let again = self::loaded(text);
    assert_eq!(plain_report(&again), report);
    assert_eq!(json_report(&again).to_string(), json);
    assert_eq!(config::show(&again), shown);
    // What is hidden is not there to be read again.
    let shown = shown.to_string();
    if loaded.problems.any_error() || text.contains("${") || shown.contains("[redacted") {
        return;
    }
    let effective = self::loaded(&shown);
    assert!(
        !effective.problems.any_error(),
        "{shown}\n{}",
        plain_report(&effective)
    );
    assert_eq!(config::show(&effective).to_string(), shown);
}

fn loaded(text: &str) -> Loaded {
    let environment = Environment::Fixed(BTreeMap::new());
    let mut loaded = config::load_text("doorward.yaml", text, &environment);
    let mut problems: Problems = std::mem::take(&mut loaded.problems);
    let plan = plan::compile(&loaded.document, "doorward-0", &mut problems);
    assert!(plan.is_some() || problems.any_error());
    loaded.problems = problems;
    loaded
}

/// Lines and columns begin at 1; what is missing at the end is missed one behind it.
fn assert_places(loaded: &Loaded, text: &str) {
    let lines: Vec<&str> = text.split('\n').collect();
    for problem in loaded.problems.list() {
        let mark = loaded.mark(problem);
        assert!(CODES.iter().any(|(code, _)| *code == problem.code));
        assert!(!problem.what.is_empty());
        assert_eq!(mark.file, 0, "{problem:?}");
        let line = mark.line.checked_sub(1).and_then(|line| lines.get(line));
        let line = line.unwrap_or_else(|| panic!("{mark:?} of {problem:?} in {text:?}"));
        let width = line.chars().count() + 1;
        assert!(
            (1..=width).contains(&mark.col) && mark.len >= 1,
            "{mark:?} of {problem:?} in {line:?}"
        );
    }
}
