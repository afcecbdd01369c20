//! A request that nobody sends: the bytes that a client would have sent, read by the same check as theirs.

use std::net::{IpAddr, Ipv4Addr};

use http::{HeaderName, HeaderValue};

use crate::base::control::Question;
use crate::base::forwarded::Scheme;
use crate::base::net::ListenAddress;
use crate::exchange::{Fault, Framing, HeadLimits, RequestHead, check_head};
use crate::plan::{Listener, Plan};

/// A request with what is known before its head is looked at.
pub(super) struct Asked {
    /// The number of the listener.
    pub(super) listener: usize,
    /// How that listener is reached.
    pub(super) scheme: Scheme,
    /// The client; none on a unix socket.
    pub(super) peer: Option<IpAddr>,
    /// The head, or why it is refused before anything else.
    pub(super) head: Result<(RequestHead, Framing), Fault>,
}

impl Asked {
    /// Makes the request that `question` is about. `bound` are the names and addresses of listeners that are open.
    pub(super) fn new(
        plan: &Plan,
        question: &Question,
        bound: &[(std::sync::Arc<str>, String)],
    ) -> Result<Self, String> {
        let url = Url::parse(&question.url)?;
        let number = listener(plan, question, &url, bound)?;
        let listener = plan.listeners.get(number);
        let local = listener.is_none_or(only_sockets);
        let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let limits = listener.map(|listener| listener.clients.head);
        let limits = limits.unwrap_or_default();
        Ok(Self {
            listener: number,
            scheme: match listener.and_then(|listener| listener.entrance.tls.as_ref()) {
                Some(_) => Scheme::Https,
                None => Scheme::Http,
            },
            peer: question.client.or_else(|| (!local).then_some(here)),
            head: read(&bytes(question, &url)?, &limits),
        })
    }
}

fn only_sockets(listener: &Listener) -> bool {
    listener
        .addresses
        .iter()
        .all(|address| address.tcp().is_none())
}

/// The parts of a URL as they are written.
struct Url<'a> {
    authority: &'a str,
    port: u16,
    target: &'a str,
}

impl<'a> Url<'a> {
    fn parse(text: &'a str) -> Result<Self, String> {
        let text = text.split('#').next().unwrap_or_default();
        if text.is_empty() || text.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            return Err(format!("`{}` is not a URL", text.escape_debug()));
        }
        if text.starts_with('/') || text == "*" {
            return Ok(Self {
                authority: "",
                port: 0,
                target: text,
            });
        }
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let usual = match scheme {
            "http" => 80,
            "https" => 443,
            _ => {
                return Err(format!(
                    "a URL begins with `http://`, not with `{scheme}://`"
                ));
            }
        };
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at_checked(end).unwrap_or((rest, ""));
        if authority.is_empty() || authority.contains('@') {
            return Err(format!(
                "`{text}` names no host, or a user: send those in a header"
            ));
        }
        let port = authority.rsplit_once(':').map(|(_, port)| port.parse());
        let port = port.and_then(Result::ok).unwrap_or(usual);
        Ok(Self {
            authority,
            port,
            target,
        })
    }
}

/// By name, by the port of the URL, or the first.
fn listener(
    plan: &Plan,
    question: &Question,
    url: &Url<'_>,
    bound: &[(std::sync::Arc<str>, String)],
) -> Result<usize, String> {
    let position = |wanted: &dyn Fn(&Listener) -> bool| {
        let mut listeners = plan.listeners.iter();
        listeners.position(|it| !it.retired && wanted(it))
    };
    if let Some(name) = &question.listener {
        let found = position(&|listener| *listener.name == **name);
        return found.ok_or_else(|| format!("no listener is called `{name}`"));
    }
    let written = |listener: &Listener| {
        let ports = listener.addresses.iter().filter_map(ListenAddress::tcp);
        ports.into_iter().any(|address| address.port() == url.port)
    };
    let suffix = format!(":{}", url.port);
    let open = |listener: &Listener| {
        bound
            .iter()
            .any(|(name, address)| *name == listener.name && address.ends_with(&suffix))
    };
    Ok(position(&|listener| open(listener) || written(listener)).unwrap_or(0))
}

/// The head as a client writes it. What would be more than one head is refused.
fn bytes(question: &Question, url: &Url<'_>) -> Result<Vec<u8>, String> {
    let method = &question.method;
    if method.is_empty() || method.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return Err(format!("`{}` is not a method", method.escape_debug()));
    }
    let mut out = format!("{method} ");
    if !url.target.starts_with('/') && url.target != "*" {
        out.push('/');
    }
    out.push_str(url.target);
    out.push_str(" HTTP/1.1\r\n");
    let named = |name: &str| {
        let mut names = question.headers.iter().map(|(name, _)| name);
        names.any(|header| header.eq_ignore_ascii_case(name))
    };
    if !named("host") {
        out.push_str("host: ");
        out.push_str(url.authority);
        out.push_str("\r\n");
    }
    for (name, value) in &question.headers {
        if [name, value]
            .iter()
            .any(|text| text.contains(['\r', '\n', '\0']))
        {
            return Err(format!(
                "the header `{}` is not one line",
                name.escape_debug()
            ));
        }
        out.push_str(&format!("{name}: {value}\r\n"));
    }
    out.push_str("\r\n");
    Ok(out.into_bytes())
}

/// Checks a head like one that was received, and reads what the check made of it.
///
/// # Errors
/// What is wrong with the head.
pub fn read(raw: &[u8], limits: &HeadLimits) -> Result<(RequestHead, Framing), Fault> {
    let (canonical, framing) = check_head(raw, limits)?;
    let mut lines = canonical.as_ref().split(|byte: &u8| *byte == b'\n');
    let mut words = lines.next().unwrap_or_default().split(|byte| *byte == b' ');
    let method = words.next().unwrap_or_default();
    let target = words.next().unwrap_or_default();
    let mut head = RequestHead::build(method, target, None).map_err(|_error| Fault::BadRequest)?;
    for line in lines {
        let line = line.trim_ascii_end();
        if line.is_empty() {
            break;
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let colon = colon.ok_or(Fault::BadRequest)?;
        let (name, value) = line.split_at_checked(colon).ok_or(Fault::BadRequest)?;
        let name = HeaderName::from_bytes(name);
        // A value may hold bytes beyond ASCII (RFC 9110 section 5.5), as on the wire.
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) else {
            return Err(Fault::BadRequest);
        };
        drop(head.append_header(name, value));
    }
    Ok((head, framing))
}
