//! Somebody else decides, asked by gRPC as Envoy asks: `envoy.service.auth.v3.Authorization/Check`.

mod proto;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HOST, TE};
use http::{HeaderName, HeaderValue, Method, StatusCode, Version};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use self::proto::{Fields, Malformed, Message, Value, unframed};
use super::carrier::Carrier;
use super::consumers::Consumers;
use super::decisions::{CacheSpec, Decisions};
use super::finding::{Finding, Vouched};
use super::vouching::{EDITS_MAX, may_be_written};
use crate::base::problem::{Place, Problem, Problems};
use crate::base::units::{ByteSize, Span};
use crate::call::{Answer, Outside, Request};
use crate::exchange::{Edit, Exchange, Facts, Headers as _, Identity, Reply, RequestHead};
use crate::exchange::{grpc_status, is_ours};
use crate::expr::Scope as _;
use crate::link::Names;
use crate::upstream::Upstream;

const CHECK: &[u8] = b"/envoy.service.auth.v3.Authorization/Check";
/// A longer answer is none.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;
const TIMEOUT_MAX: Duration = Duration::from_secs(10);
/// No longer body is shown: it goes twice, as bytes and as text, and servers of gRPC take 4 MiB where nobody says otherwise.
const BODY_BYTES_MAX: u64 = 1024 * 1024;

/// Says whether the body that is shown is cut; here it never is.
const PARTIAL: &str = "x-envoy-auth-partial-body";

const UNCLEAR: Finding = Finding::Unavailable("whoever decides gave no clear answer");

/// A service that decides about each request, as Envoy's `ext_authz` asks it. What it says of headers is done, but for those that
/// frame a message or that the gateway writes itself. Without a clear answer in time nobody comes in: 503.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The upstream that is asked; its targets speak HTTP/2.
    pub(super) upstream: String,
    /// Shows it the request's body, up to this size, from `1B` to `1MiB`, in `raw_body` and, as text, in `body`. A longer body gets
    /// 413, and a call of gRPC 415: nobody decides about what was not seen. A request with a body is then read as a whole, and
    /// so is its answer. Default: it is shown none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<ByteSize>,
    /// How long an answer may take in all, up to `10s`. Default `200ms`.
    #[serde(default = "in_time")]
    timeout: Span,
    /// Takes a yes over for a while. Default: it is asked each time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cache: Option<CacheSpec>,
}

const fn in_time() -> Span {
    Span::from_millis(200)
}

/// Asks the service.
#[derive(Debug)]
pub(super) struct ExtAuthz {
    upstream: Arc<Upstream>,
    /// The longest body that is shown, in bytes; none = none is.
    shown_max: Option<u64>,
    timeout: Duration,
    cache: Option<Decisions>,
}

impl Spec {
    /// Makes the authenticator; `place` is its own.
    pub(super) fn compile(
        &self,
        place: &Place,
        names: &Names,
        problems: &mut Problems,
    ) -> Option<ExtAuthz> {
        let at = place.key("upstream");
        let upstream = super::upstream_named(&self.upstream, &at, names, problems);
        if upstream
            .as_ref()
            .is_some_and(|upstream| !upstream.is_http2())
        {
            let what = format!("`{}` does not speak HTTP/2", self.upstream);
            let problem = Problem::error("E053", at, what);
            problems.push(problem.hint(
                "calls of gRPC need it: write its targets as `h2c://…`, or `protocol: http2`",
            ));
        }
        let timeout = self.timeout.duration();
        if timeout.is_zero() || timeout > TIMEOUT_MAX {
            let problem = Problem::error("E030", place.key("timeout"), "no time to answer in");
            problems.push(problem.hint("`1ms` to `10s`"));
        }
        let shown_max = self.body.map(ByteSize::bytes);
        if shown_max.is_some_and(|max| !(1..=BODY_BYTES_MAX).contains(&max)) {
            let what = "no size of a body that could be shown";
            let problem = Problem::error("E030", place.key("body"), what);
            problems.push(problem.hint("`1B` to `1MiB`; without `body` it is shown none"));
        }
        let cache = self.cache.as_ref();
        // All headers are sent; the others may be of no interest to it.
        let sent = [ExtAuthz::CARRIER];
        let cache = cache.map(|cache| cache.compile(&sent, &place.key("cache"), problems));
        let cache = match shown_max {
            Some(_) => cache.map(Decisions::by_body),
            None => cache,
        };
        Some(ExtAuthz {
            upstream: upstream?,
            shown_max,
            timeout,
            cache,
        })
    }
}

/// What the service says.
#[derive(Debug, Default)]
struct Said {
    /// The code of a status of gRPC: 0 lets in.
    code: u64,
    denied: Option<Reply>,
    to_upstream: Vec<Edit>,
    to_client: Vec<Edit>,
    claims: Map<String, Json>,
}

impl ExtAuthz {
    /// The credential that most decide by.
    pub(super) const CARRIER: Carrier = Carrier::Authorization(&[]);

    /// The longest body that is shown; none = none is.
    pub(super) const fn shown_max(&self) -> Option<u64> {
        self.shown_max
    }

    /// What it said before.
    pub(super) fn look(&self, head: &RequestHead, ex: &Exchange, known: &Consumers) -> Finding {
        let cache = self.cache.as_ref();
        let found = cache.map_or(Finding::Ask, |cache| cache.look(head, ex));
        known.admitted(found)
    }

    /// Asks it.
    pub(super) async fn ask(
        &self,
        head: &RequestHead,
        ex: &Exchange,
        (name, known): (&Arc<str>, &Consumers),
        outside: &Outside<'_>,
    ) -> Finding {
        let ask = Box::pin(async {
            let Some(request) = self.question(head, ex) else {
                return Finding::Unavailable("the question cannot be sent");
            };
            let mut times = *self.upstream.timeouts();
            times.total = Some(self.timeout);
            match outside
                .call(&self.upstream, request, times, ANSWER_BYTES_MAX)
                .await
            {
                Ok(answer) => read(&answer, (name, known)),
                Err(_failed) => Finding::Unavailable("whoever decides cannot be asked"),
            }
        });
        let found = match &self.cache {
            Some(cache) => cache.ask(head, ex, ask).await,
            None => ask.await,
        };
        known.admitted(found)
    }

    fn question(&self, head: &RequestHead, ex: &Exchange) -> Option<Request> {
        let mut asked = RequestHead::build(Method::POST, CHECK, None).ok()?;
        let host = self.upstream.authorities().next()?;
        let timeout = format!("{}m", self.timeout.as_millis());
        asked.set(&HOST, HeaderValue::from_str(host).ok()?);
        asked.set(&CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        asked.set(&TE, HeaderValue::from_static("trailers"));
        asked.set(
            &HeaderName::from_static("grpc-timeout"),
            HeaderValue::try_from(timeout).ok()?,
        );
        let shown = match (self.shown_max, &ex.body) {
            (None, _) => None,
            // It was not read: nobody decides about what was not seen.
            (Some(_), None) if ex.framing.has_body() => return None,
            (Some(max), Some(body)) if body.len() as u64 > max => return None,
            (Some(_), body) => Some(body.as_deref().unwrap_or_default()),
        };
        let message = Message::default().message(1, &attributes(head, ex, shown));
        let body = Bytes::from(message.framed());
        Some(Request { head: asked, body })
    }
}

/// `AttributeContext`: who asks, and for what, with the body where it is shown.
fn attributes(head: &RequestHead, ex: &Exchange, shown: Option<&[u8]>) -> Message {
    let facts = Facts::of(head, ex);
    let mut source = Message::default();
    if let Some(ip) = facts.client_ip() {
        let address = Message::default().text(2, &ip.to_string());
        let address = address.number(3, u64::from(ex.peer_port));
        source = source.message(1, &Message::default().message(1, &address));
    }
    let client = ex.secured.as_ref().and_then(|it| it.client.as_ref());
    if let Some(client) = client {
        let names = client.uris.iter().chain(&client.dns).map(|name| &**name);
        let principal = names.chain(client.subject.as_deref()).next();
        source = source.text(4, principal.unwrap_or_default());
    }
    let millis = u64::try_from(ex.unix_millis).unwrap_or(0);
    let time = Message::default()
        .number(1, millis / 1000)
        .number(2, millis % 1000 * 1_000_000);
    let request = Message::default().message(1, &time);
    let mut http = http_request(head, ex, &facts);
    if let Some(body) = shown {
        http = show(http, body);
    }
    let request = request.message(2, &http);
    let attributes = Message::default();
    attributes.message(1, &source).message(4, &request)
}

/// The whole body, as bytes and as text: services read the one or the other. What is no text there is in the bytes only.
fn show(http: Message, body: &[u8]) -> Message {
    let http = http.entry(3, PARTIAL, "false");
    if body.is_empty() {
        return http;
    }
    let text = String::from_utf8_lossy(body);
    http.text(11, &text).bytes(12, body)
}

/// `AttributeContext.HttpRequest`. What a client writes that only a gateway may is not among its headers.
fn http_request(head: &RequestHead, ex: &Exchange, facts: &Facts<'_>) -> Message {
    let authority = head.headers.get(HOST).and_then(|host| host.to_str().ok());
    let authority = authority.unwrap_or_default();
    let path = head.uri.path_and_query().map_or("/", |uri| uri.as_str());
    let scheme = facts.scheme().unwrap_or_default();
    let method = head.method.as_str();
    let client = facts.client_ip().map(|ip| ip.to_string());
    let length = head.headers.get(CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let length = ex.body.as_ref().map(|body| body.len() as u64).or(length);
    let mut message = Message::default().text(1, ex.id.text()).text(2, method);
    for name in head.headers.keys() {
        if is_ours(name.as_str()) || name == HOST || name == PARTIAL {
            continue;
        }
        let lines = head.headers.get_all(name).iter();
        let lines: Vec<_> = lines
            .map(|line| String::from_utf8_lossy(line.as_bytes()))
            .collect();
        message = message.entry(3, name.as_str(), &lines.join(","));
    }
    for (name, value) in [
        (":authority", authority),
        (":method", method),
        (":path", path),
        (":scheme", scheme),
        ("x-request-id", ex.id.text()),
        ("x-forwarded-proto", scheme),
        ("x-forwarded-for", client.as_deref().unwrap_or_default()),
    ] {
        message = message.entry(3, name, value);
    }
    message
        .text(4, path)
        .text(5, authority)
        .text(6, scheme)
        .number(9, length.unwrap_or(0))
        .text(
            10,
            match ex.version {
                Version::HTTP_2 => "HTTP/2",
                Version::HTTP_10 => "HTTP/1.0",
                _ => "HTTP/1.1",
            },
        )
}

/// What an answer comes to.
fn read(answer: &Answer, (name, known): (&Arc<str>, &Consumers)) -> Finding {
    // A status stands behind the message, or in the head where there is none (gRPC over HTTP/2).
    let trailers = answer.trailers.as_deref().unwrap_or(&answer.head.headers);
    if answer.head.status != StatusCode::OK || grpc_status(trailers) != Some(0) {
        return UNCLEAR;
    }
    let Some(Ok(said)) = unframed(&answer.body).map(response) else {
        return UNCLEAR;
    };
    if said.code != 0 {
        // As Envoy has it, where the refusal names no status.
        let plain = || Reply::empty(StatusCode::FORBIDDEN);
        let mut denied = said.denied.unwrap_or_else(plain);
        // It is about this caller.
        denied.headers.retain(|(name, _)| name != CACHE_CONTROL);
        let no_store = HeaderValue::from_static("no-store");
        denied.headers.push((CACHE_CONTROL, no_store));
        return Finding::Answered(Arc::new(denied));
    }
    let consumer = match known.of_claims(name, &said.claims) {
        Ok(consumer) => consumer,
        Err(why) => return Finding::Refused(why),
    };
    let identity = Identity {
        method: "ext_authz",
        authenticator: Arc::clone(name),
        claims: said.claims,
        consumer,
        ..Identity::default()
    };
    Finding::Vouched(Arc::new(Vouched {
        identity: Arc::new(identity),
        to_upstream: said.to_upstream,
        to_client: said.to_client,
    }))
}

/// `CheckResponse`.
fn response(fields: Fields<'_>) -> Result<Said, Malformed> {
    let mut said = Said::default();
    for field in fields {
        match field? {
            (1, Value::Bytes(status)) => {
                for field in Fields::of(status) {
                    if let (1, Value::Number(code)) = field? {
                        said.code = code;
                    }
                }
            }
            (2, Value::Bytes(denied)) => said.denied = Some(refusal(denied)?),
            (3, Value::Bytes(ok)) => allowance(ok, &mut said)?,
            // A field that is there in another form, or one that nobody here knows.
            (1..=3, Value::Number(_) | Value::Fixed) => return Err(Malformed),
            _ => {}
        }
    }
    Ok(said)
}

/// `OkHttpResponse`.
fn allowance(message: &[u8], said: &mut Said) -> Result<(), Malformed> {
    for field in Fields::of(message) {
        match field? {
            (2, Value::Bytes(option)) => {
                let (name, value, add) = header_option(option)?;
                if let Ok(text) = value.to_str() {
                    let text = Json::String(text.to_owned());
                    said.claims.insert(name.as_str().to_owned(), text);
                }
                push(&mut said.to_upstream, (name, value, add))?;
            }
            (5, Value::Bytes(name)) => {
                let name = HeaderName::from_bytes(name).map_err(|_error| Malformed)?;
                if may_be_written(&name) {
                    said.to_upstream.push(Edit::Remove(name));
                }
            }
            (6, Value::Bytes(option)) => {
                let (name, value, add) = header_option(option)?;
                push(&mut said.to_client, (name, value, add))?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// `DeniedHttpResponse`.
fn refusal(message: &[u8]) -> Result<Reply, Malformed> {
    let (mut status, mut body, mut headers) = (403, Bytes::new(), Vec::new());
    for field in Fields::of(message) {
        match field? {
            (1, Value::Bytes(inside)) => {
                for field in Fields::of(inside) {
                    if let (1, Value::Number(code)) = field? {
                        status = code;
                    }
                }
            }
            (2, Value::Bytes(option)) => {
                let (name, value, _add) = header_option(option)?;
                let told = may_be_written(&name) || name == CONTENT_TYPE;
                if told && headers.len() < EDITS_MAX {
                    headers.push((name, value));
                }
            }
            (3, Value::Bytes(text)) => body = Bytes::copy_from_slice(text),
            _ => {}
        }
    }
    let status = u16::try_from(status)
        .ok()
        .filter(|status| (300..600).contains(status));
    let status = status.and_then(|status| StatusCode::from_u16(status).ok());
    Ok(Reply {
        // A refusal that says that all is well is none that can be understood.
        status: status.ok_or(Malformed)?,
        headers,
        body,
    })
}

/// `HeaderValueOption`: the header, its value, and whether it comes beside those that are there.
fn header_option(message: &[u8]) -> Result<(HeaderName, HeaderValue, bool), Malformed> {
    let (mut name, mut value, mut add) = (&b""[..], &b""[..], false);
    for field in Fields::of(message) {
        match field? {
            (1, Value::Bytes(header)) => {
                for field in Fields::of(header) {
                    match field? {
                        (1, Value::Bytes(text)) => name = text,
                        (2 | 3, Value::Bytes(text)) if !text.is_empty() => value = text,
                        _ => {}
                    }
                }
            }
            // `google.protobuf.BoolValue`.
            (2, Value::Bytes(yes)) => {
                add = Fields::of(yes).any(|field| field == Ok((1, Value::Number(1))));
            }
            _ => {}
        }
    }
    let name = HeaderName::from_bytes(name).map_err(|_error| Malformed)?;
    let value = HeaderValue::from_bytes(value).map_err(|_error| Malformed)?;
    Ok((name, value, add))
}

fn push(
    edits: &mut Vec<Edit>,
    (name, value, add): (HeaderName, HeaderValue, bool),
) -> Result<(), Malformed> {
    if edits.len() >= EDITS_MAX {
        return Err(Malformed);
    }
    if may_be_written(&name) {
        edits.push(match add {
            true => Edit::Add(name, value),
            false => Edit::Set(name, value),
        });
    }
    Ok(())
}
