//! One record: a JSON object or a line of the combined log format, never longer than 8 KiB.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::redact::Hidden;
use crate::base::units::{clf_date, log_date};

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
    pub seconds: f64,
    /// Bytes of the request's body.
    pub received: u64,
    /// Bytes of the answer's body.
    pub sent: u64,
    /// The upstream's name.
    pub upstream: Option<&'a str>,
    /// The target that was tried last.
    pub target: Option<&'a str>,
    /// The path that the upstream was asked for.
    pub upstream_path: Option<&'a str>,
    /// The clause that decided what became of the request, by its key in the config.
    pub decided_by: &'a str,
    /// How many targets were tried.
    pub attempts: u16,
    /// Why there is no answer of an upstream: the fault's code.
    pub error_type: Option<&'a str>,
    /// `user_agent.original`
    pub user_agent: Option<&'a str>,
    /// `http.request.header.referer`
    pub referer: Option<&'a str>,
    /// `1.1`
    pub protocol: &'a str,
    /// The id of the trace.
    pub trace_id: &'a str,
}

impl Record<'_> {
    /// One JSON object on one line.
    #[must_use]
    pub fn json(&self, hidden: &Hidden) -> Vec<u8> {
        let mut out = String::with_capacity(640);
        out.push_str("{\"timestamp\":\"");
        out.push_str(&log_date(self.unix_millis));
        out.push('"');
        text(&mut out, "request_id", self.id);
        text(&mut out, "trace_id", self.trace_id);
        if let Some(client) = self.client {
            put(&mut out, format_args!(",\"client.address\":\"{client}\""));
        }
        text(&mut out, "http.request.method", self.method);
        text(&mut out, "server.address", self.host);
        text(&mut out, "url.path", self.path);
        if let Some(query) = self.query {
            let mut clean = String::with_capacity(query.len());
            hidden.push_query(&mut clean, query);
            text(&mut out, "url.query", &clean);
        }
        text(&mut out, "http.route", self.route);
        let micros = self.seconds * 1e6;
        put(
            &mut out,
            format_args!(
                ",\"http.response.status_code\":{},\"duration_us\":{micros:.0},\"http.request.body.size\":{},\"http.response.body.size\":{}",
                self.status, self.received, self.sent
            ),
        );
        let referer = hidden.url("referer", self.referer);
        for (name, value) in [
            ("upstream", self.upstream),
            ("target", self.target),
            ("upstream.path", self.upstream_path),
            ("decided_by", Some(self.decided_by)),
            ("error.type", self.error_type),
            (
                "user_agent.original",
                hidden.header("user-agent", self.user_agent),
            ),
            ("http.request.header.referer", referer.as_deref()),
        ] {
            if let Some(value) = value {
                text(&mut out, name, value);
            }
        }
        if self.attempts > 0 {
            put(&mut out, format_args!(",\"attempts\":{}", self.attempts));
        }
        text(&mut out, "network.protocol.version", self.protocol);
        out.push_str("}\n");
        out.into_bytes()
    }

    /// One line of the combined log format.
    #[must_use]
    pub fn clf(&self, hidden: &Hidden) -> Vec<u8> {
        let mut out = String::with_capacity(320);
        match self.client {
            Some(client) => put(&mut out, format_args!("{client}")),
            None => out.push('-'),
        }
        put(
            &mut out,
            format_args!(" - - [{}] \"", clf_date(self.unix_millis)),
        );
        let mut target = self.path.to_owned();
        if let Some(query) = self.query {
            target.push('?');
            hidden.push_query(&mut target, query);
        }
        escape(
            &mut out,
            if self.method.is_empty() {
                "-"
            } else {
                self.method
            },
        );
        out.push(' ');
        escape(&mut out, &target);
        put(
            &mut out,
            format_args!(" HTTP/{}\" {} {} \"", self.protocol, self.status, self.sent),
        );
        let referer = hidden.url("referer", self.referer);
        escape(&mut out, referer.as_deref().unwrap_or("-"));
        out.push_str("\" \"");
        escape(
            &mut out,
            hidden.header("user-agent", self.user_agent).unwrap_or("-"),
        );
        out.push_str("\"\n");
        out.into_bytes()
    }
}

fn text(out: &mut String, name: &str, value: &str) {
    if value.is_empty() {
        return;
    }
    out.push_str(",\"");
    out.push_str(name);
    out.push_str("\":\"");
    escape(out, value);
    out.push('"');
}

/// Writing into a text cannot fail.
fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    if out.write_fmt(text).is_err() {
        out.push('?');
    }
}

/// As in a JSON text (RFC 8259 section 7), cut where it is too long; also safe inside the quotes of the combined format.
fn escape(out: &mut String, value: &str) {
    let mut end = value.len().min(FIELD_BYTES_MAX);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    for c in value.get(..end).unwrap_or_default().chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => put(out, format_args!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    if end < value.len() {
        out.push('…');
    }
}
