//! One record: a JSON object or a line of the combined log format, bounded in its length, whatever the client sent.

use std::io::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use super::redact::Hidden;
use crate::base::units::{push_clf_date, push_log_date};
use crate::exchange::GRPC_CODES;

/// The longest text of one field; what is longer is cut.
const FIELD_BYTES_MAX: usize = 1024;

/// What the log says of one request. Names are those of OpenTelemetry's HTTP conventions where they define one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Record<'a> {
    /// When the head was complete, in milliseconds since 1970.
    pub unix_millis: i64,
    /// The request's id.
    pub id: &'a str,
    /// The client, behind trusted proxies too.
    pub client: Option<IpAddr>,
    /// `http.request.method`; empty where there was none.
    pub method: &'a str,
    /// The host that was asked.
    pub host: &'a str,
    /// `url.path`, canonical.
    pub path: &'a str,
    /// `url.query`; values of names that carry secrets are hidden.
    pub query: Option<&'a str>,
    /// `http.route`: the name of the route.
    pub route: &'a str,
    /// `http.response.status_code`; 0 where no answer was sent.
    pub status: u16,
    /// From the complete head to the end of the answer.
    pub duration: Duration,
    /// Bytes of the request's body.
    pub received: u64,
    /// Bytes of the answer's body.
    pub sent: u64,
    /// The upstream's name.
    pub upstream: Option<&'a str>,
    /// The target that was tried last.
    pub target: Option<&'a str>,
    /// Who called, where that is known.
    pub consumer: Option<&'a str>,
    /// The path that the upstream was asked for.
    pub upstream_path: Option<&'a str>,
    /// The clause that decided what became of the request, by its key in the config.
    pub decided_by: &'a str,
    /// Why a policy refused it, or would have; one of our own sentences.
    pub refusal: Option<&'static str>,
    /// What took the place of an upstream that failed, and why that was.
    pub fallback: Option<(&'static str, &'static str)>,
    /// How many targets were tried.
    pub attempts: u16,
    /// Why there is no answer of an upstream: the fault's code.
    pub error_type: Option<&'a str>,
    /// `rpc.response.status_code`: the status of gRPC, where it was a call that has one.
    pub grpc_status: Option<u8>,
    /// `user_agent.original`
    pub user_agent: Option<&'a str>,
    /// `http.request.header.referer`
    pub referer: Option<&'a str>,
    /// `1.1`
    pub protocol: &'a str,
    /// The id of the trace.
    pub trace_id: Option<u128>,
    /// What the route adds, in JSON only.
    pub fields: Option<&'a dyn Fields>,
}

/// Fields that a route adds to its records; they are made when the record is written, and only then.
pub trait Fields: std::fmt::Debug + Sync {
    /// Hands name and value of each to `add`.
    fn each(&self, add: &mut dyn FnMut(&str, &str));
}

/// The fields of every record, and those that are kept for later versions: no route may add one of these names.
pub const OWN_FIELDS: &[&str] = &[
    "timestamp",
    "request_id",
    "trace_id",
    "client.address",
    "http.request.method",
    "server.address",
    "url.path",
    "url.query",
    "http.route",
    "http.response.status_code",
    "duration_us",
    "http.request.body.size",
    "http.response.body.size",
    "upstream",
    "target",
    "error.type",
    "rpc.response.status_code",
    "user_agent.original",
    "http.request.header.referer",
    "attempts",
    "network.protocol.version",
    "decided_by",
    "refusal",
    "upstream.path",
    "fallback",
    "fallback.reason",
    "consumer",
    "level",
    "message",
];

impl Record<'_> {
    /// One JSON object on one line.
    #[must_use]
    pub fn json(&self, hidden: &Hidden) -> Vec<u8> {
        let mut out = Vec::with_capacity(1024);
        out.extend_from_slice(b"{\"timestamp\":\"");
        push_log_date(&mut out, self.unix_millis);
        out.push(b'"');
        text(&mut out, ",\"request_id\":\"", self.id);
        if let Some(trace) = self.trace_id {
            out.extend_from_slice(b",\"trace_id\":\"");
            hex(&mut out, trace);
            out.push(b'"');
        }
        if let Some(client) = self.client {
            out.extend_from_slice(b",\"client.address\":\"");
            address(&mut out, client);
            out.push(b'"');
        }
        text(&mut out, ",\"http.request.method\":\"", self.method);
        text(&mut out, ",\"server.address\":\"", self.host);
        text(&mut out, ",\"url.path\":\"", self.path);
        if let Some(query) = self.query {
            let mut clean = String::with_capacity(query.len());
            hidden.push_query(&mut clean, query);
            text(&mut out, ",\"url.query\":\"", &clean);
        }
        own(&mut out, ",\"http.route\":\"", self.route);
        let micros = u64::try_from(self.duration.as_micros()).unwrap_or(u64::MAX);
        for (name, value) in [
            (",\"http.response.status_code\":", u64::from(self.status)),
            (",\"duration_us\":", micros),
            (",\"http.request.body.size\":", self.received),
            (",\"http.response.body.size\":", self.sent),
        ] {
            out.extend_from_slice(name.as_bytes());
            number(&mut out, value);
        }
        own(
            &mut out,
            ",\"upstream\":\"",
            self.upstream.unwrap_or_default(),
        );
        own(&mut out, ",\"target\":\"", self.target.unwrap_or_default());
        text(
            &mut out,
            ",\"upstream.path\":\"",
            self.upstream_path.unwrap_or(""),
        );
        self.outcome(&mut out);
        self.headers(&mut out, hidden);
        if self.attempts > 0 {
            out.extend_from_slice(b",\"attempts\":");
            number(&mut out, u64::from(self.attempts));
        }
        own(&mut out, ",\"network.protocol.version\":\"", self.protocol);
        if let Some(fields) = self.fields {
            fields.each(&mut |name, value| {
                out.extend_from_slice(b",\"");
                out.extend_from_slice(name.as_bytes());
                text(&mut out, "\":\"", value);
            });
        }
        out.extend_from_slice(b"}\n");
        out
    }

    /// Who answered, and what went wrong.
    fn outcome(&self, out: &mut Vec<u8>) {
        text(out, ",\"consumer\":\"", self.consumer.unwrap_or_default());
        own(out, ",\"decided_by\":\"", self.decided_by);
        own(out, ",\"refusal\":\"", self.refusal.unwrap_or(""));
        let (served, reason) = self.fallback.unwrap_or_default();
        own(out, ",\"fallback\":\"", served);
        own(out, ",\"fallback.reason\":\"", reason);
        own(out, ",\"error.type\":\"", self.error_type.unwrap_or(""));
        let status = self.grpc_status.and_then(grpc_name).unwrap_or_default();
        own(out, ",\"rpc.response.status_code\":\"", status);
    }

    /// What the client said of itself.
    fn headers(&self, out: &mut Vec<u8>, hidden: &Hidden) {
        let agent = hidden.header("user-agent", self.user_agent);
        let agent = agent.unwrap_or_default();
        text(out, ",\"user_agent.original\":\"", agent);
        let referer = hidden.url("referer", self.referer);
        let referer = referer.as_deref().unwrap_or_default();
        text(out, ",\"http.request.header.referer\":\"", referer);
    }

    /// One line of the combined log format.
    #[must_use]
    pub fn clf(&self, hidden: &Hidden) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        match self.client {
            Some(client) => address(&mut out, client),
            None => out.push(b'-'),
        }
        out.extend_from_slice(b" - - [");
        push_clf_date(&mut out, self.unix_millis);
        out.extend_from_slice(b"] \"");
        if self.method.is_empty() {
            // It was refused before it had one.
            out.push(b'-');
        } else {
            self.request_line(&mut out, hidden);
        }
        out.extend_from_slice(b"\" ");
        if self.status == 0 {
            // Three digits also where no answer was sent, as nginx has it.
            out.extend_from_slice(b"000");
        } else {
            number(&mut out, u64::from(self.status));
        }
        out.push(b' ');
        number(&mut out, self.sent);
        out.extend_from_slice(b" \"");
        let referer = hidden.url("referer", self.referer);
        escape(&mut out, referer.as_deref().unwrap_or("-"));
        out.extend_from_slice(b"\" \"");
        let agent = hidden.header("user-agent", self.user_agent);
        escape(&mut out, agent.unwrap_or("-"));
        out.extend_from_slice(b"\"\n");
        out
    }

    /// Method, target and version.
    fn request_line(&self, out: &mut Vec<u8>, hidden: &Hidden) {
        escape(out, self.method);
        out.push(b' ');
        match self.query {
            None => escape(out, self.path),
            Some(query) => {
                let mut target = String::with_capacity(self.path.len() + query.len() + 1);
                target.push_str(self.path);
                target.push('?');
                hidden.push_query(&mut target, query);
                escape(out, &target);
            }
        }
        out.extend_from_slice(b" HTTP/");
        out.extend_from_slice(self.protocol.as_bytes());
    }
}

/// The name of a status of gRPC.
fn grpc_name(status: u8) -> Option<&'static str> {
    GRPC_CODES.get(usize::from(status)).copied()
}

/// A field with what came from outside; none without a value. `name` is with all that stands around it.
fn text(out: &mut Vec<u8>, name: &str, value: &str) {
    if !value.is_empty() {
        out.extend_from_slice(name.as_bytes());
        escape(out, value);
        out.push(b'"');
    }
}

/// A field with a word of our own or a name of the config: there is nothing in it to escape.
fn own(out: &mut Vec<u8>, name: &str, value: &str) {
    if !value.is_empty() {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(value.as_bytes());
        out.push(b'"');
    }
}

// By hand: the machinery of `format!` costs a record more than all the rest.

/// 32 digits.
fn hex(out: &mut Vec<u8>, value: u128) {
    let mut digits = [b'0'; 32];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(value.to_be_bytes()) {
        for (digit, half) in pair.iter_mut().zip([byte >> 4, byte & 0xf]) {
            *digit = if half < 10 {
                b'0' + half
            } else {
                b'a' + half - 10
            };
        }
    }
    out.extend_from_slice(&digits);
}

/// A number in as many digits as it takes.
fn number(out: &mut Vec<u8>, value: u64) {
    let mut digits = [b'0'; 20];
    let mut rest = value;
    let mut first = digits.len();
    for (at, digit) in digits.iter_mut().enumerate().rev() {
        *digit = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        first = at;
        if rest == 0 {
            break;
        }
    }
    let digits = digits.get(first..).unwrap_or_default();
    out.extend_from_slice(digits);
}

fn address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            for (at, part) in address.octets().into_iter().enumerate() {
                if at > 0 {
                    out.push(b'.');
                }
                number(out, u64::from(part));
            }
        }
        IpAddr::V6(address) => put(out, format_args!("{address}")),
    }
}

/// Writing into a text cannot fail.
fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    if out.write_fmt(text).is_err() {
        out.push(b'?');
    }
}

/// As in a JSON text (RFC 8259 section 7), cut where it is too long; also safe inside the quotes of the combined format.
fn escape(out: &mut Vec<u8>, value: &str) {
    let mut end = value.len().min(FIELD_BYTES_MAX);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    let kept = value.get(..end).unwrap_or_default();
    // Nearly always nothing needs an escape: then it is one copy.
    if is_plain(kept.as_bytes()) {
        out.extend_from_slice(kept.as_bytes());
    } else {
        for c in kept.chars() {
            match c {
                '"' => out.extend_from_slice(b"\\\""),
                '\\' => out.extend_from_slice(b"\\\\"),
                c if c.is_control() => put(out, format_args!("\\u{:04x}", u32::from(c))),
                c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
    }
    if end < value.len() {
        out.extend_from_slice("…".as_bytes());
    }
}

/// Whether all of it is ASCII that stands for itself. Without a branch inside, so that many bytes are looked at at once.
fn is_plain(bytes: &[u8]) -> bool {
    let odd = |byte: &u8| {
        let control = u8::from(byte.wrapping_sub(b' ') > b'~' - b' ');
        control | u8::from(*byte == b'"') | u8::from(*byte == b'\\')
    };
    bytes.iter().fold(0, |all, byte| all | odd(byte)) == 0
}
