//! Somebody else decides: a service of one's own is asked about each request, by HTTP. What it answers with 2xx comes in.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{COOKIE, HOST, HeaderName};
use http::{HeaderValue, Method, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::carrier::Carrier;
use super::consumers::Consumers;
use super::decisions::{CacheSpec, Decisions, names};
use super::finding::{Finding, Vouched};
use super::vouching;
use crate::base::problem::{Place, Problem, Problems};
use crate::call::{Answer, Outside, Request};
use crate::exchange::{Exchange, Facts, Headers as _, Identity, Reply, RequestHead, is_ours};
use crate::expr::Scope as _;
use crate::link::Names;
use crate::upstream::Upstream;

/// A longer answer is none.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;
/// Nobody waits longer for a decision, whatever the timeouts of the upstream are.
const PATIENCE: Duration = Duration::from_secs(10);

/// A service that decides about each request. It gets `GET` with `X-Forwarded-Method`, `-Proto`, `-Host`, `-Uri` and `-For`, and
/// the request's id. 2xx lets the caller in; what it answers with 3xx or 4xx is what the client gets; without a clear answer
/// nobody comes in: 503.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The upstream that is asked, within its timeouts and 10 s.
    pub(super) upstream: String,
    /// The path it is asked for, e.g. `/verify`.
    path: String,
    /// What else of the request it gets: `header:x` or `cookie:x`. `header:authorization` and cookies that are named here
    /// are taken off the request for the upstream of the route.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    send: Vec<String>,
    /// Headers of its answer that the upstream of the route gets; the client's own are taken off. Conditions and templates
    /// know them as `auth.claims.NAME`, and the first as `auth.sub`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    keep: Vec<String>,
    /// Takes a yes over for a while. Default: it is asked each time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cache: Option<CacheSpec>,
}

/// Asks the service.
#[derive(Debug)]
pub(super) struct Forward {
    upstream: Arc<Upstream>,
    path: Box<str>,
    send: Vec<Carrier>,
    keep: Vec<HeaderName>,
    cache: Option<Decisions>,
}

impl Spec {
    /// Makes the authenticator; `place` is its own.
    pub(super) fn compile(
        &self,
        place: &Place,
        names_known: &Names,
        problems: &mut Problems,
    ) -> Option<Forward> {
        let upstream = super::upstream_named(
            &self.upstream,
            &place.key("upstream"),
            names_known,
            problems,
        );
        let plain = |byte: u8| byte.is_ascii_graphic() && !b"?#{}\\\"<>".contains(&byte);
        if !self.path.starts_with('/') || !self.path.bytes().all(plain) {
            let what = format!("`{}` is no path", self.path.escape_debug());
            let problem = Problem::error("E034", place.key("path"), what);
            problems.push(problem.hint("begins with `/`, without a query, e.g. `/verify`"));
        }
        let mut send = Vec::new();
        for (index, text) in self.send.iter().enumerate() {
            let carrier = carrier(text);
            if carrier.is_none() {
                let what = format!("`{}` cannot be sent along", text.escape_debug());
                let problem = Problem::error("E060", place.key("send").index(index), what);
                problems.push(problem.hint(
                    "`header:x` or `cookie:x`; method, host and address go along in any case",
                ));
            }
            send.extend(carrier);
        }
        let keep = names(&self.keep, &place.key("keep"), problems);
        let cache = self.cache.as_ref();
        let cache = cache.map(|cache| cache.compile(&send, &place.key("cache"), problems));
        Some(Forward {
            upstream: upstream?,
            path: self.path.as_str().into(),
            send,
            keep,
            cache,
        })
    }
}

fn carrier(text: &str) -> Option<Carrier> {
    let (kind, name) = text.split_once(':')?;
    match kind {
        "header" => {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            let goes = vouching::may_be_written(&name) || name == http::header::CONTENT_TYPE;
            (goes && !is_ours(name.as_str())).then_some(Carrier::Header(name))
        }
        "cookie" if !name.is_empty() => Some(Carrier::Cookie(name.into())),
        _ => None,
    }
}

impl Forward {
    /// What the upstream of a route does not get of a request.
    pub(super) fn carriers(&self) -> Vec<Carrier> {
        let of_header = |name: &HeaderName| match name.as_str() {
            "authorization" => Some(Carrier::Authorization(&[])),
            _ => None,
        };
        let send = self.send.iter();
        send.filter_map(|carrier| match carrier {
            Carrier::Header(name) => of_header(name),
            Carrier::Cookie(_) | Carrier::Query(_) | Carrier::Authorization(_) => {
                Some(carrier.clone())
            }
        })
        .collect()
    }

    /// The headers that only the service writes.
    pub(super) fn keeps(&self) -> &[HeaderName] {
        &self.keep
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
            times.total = Some(times.total.map_or(PATIENCE, |total| total.min(PATIENCE)));
            match outside
                .call(&self.upstream, request, times, ANSWER_BYTES_MAX)
                .await
            {
                Ok(answer) => self.read(answer, (name, known)),
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
        let facts = Facts::of(head, ex);
        let mut asked = RequestHead::build(Method::GET, self.path.as_bytes(), None).ok()?;
        let host = self.upstream.authorities().next()?;
        asked.set(&HOST, HeaderValue::from_str(host).ok()?);
        let mut cookies: Vec<Vec<u8>> = Vec::new();
        for carrier in &self.send {
            match carrier {
                Carrier::Header(name) => {
                    for value in head.headers.get_all(name) {
                        asked.add(name, value.clone());
                    }
                }
                Carrier::Cookie(name) => {
                    let values = carrier.every(head);
                    let pair = |value: Vec<u8>| [name.as_bytes(), b"=", &value].concat();
                    cookies.extend(values.into_iter().map(pair));
                }
                Carrier::Authorization(_) | Carrier::Query(_) => {}
            }
        }
        if !cookies.is_empty() {
            let line = HeaderValue::from_bytes(&cookies.join(&b"; "[..])).ok()?;
            asked.add(&COOKIE, line);
        }
        let uri = head.uri.path_and_query().map_or("/", |uri| uri.as_str());
        let client = facts.client_ip().map(|ip| ip.to_string());
        for (name, value) in [
            ("x-forwarded-method", Some(head.method.as_str())),
            ("x-forwarded-proto", facts.scheme()),
            ("x-forwarded-uri", Some(uri)),
            ("x-forwarded-for", client.as_deref()),
        ] {
            if let Some(value) = value {
                asked.set(
                    &HeaderName::from_static(name),
                    HeaderValue::from_str(value).ok()?,
                );
            }
        }
        if let Some(host) = head.headers.get(HOST) {
            asked.set(&HeaderName::from_static("x-forwarded-host"), host.clone());
        }
        if let Some(id) = ex.id.value() {
            asked.set(&HeaderName::from_static("x-request-id"), id.clone());
        }
        let body = Bytes::new();
        Some(Request { head: asked, body })
    }

    fn read(&self, answer: Answer, (name, known): (&Arc<str>, &Consumers)) -> Finding {
        let Answer { head, body, .. } = answer;
        match head.status.as_u16() {
            200..=299 => {}
            // What there is not changed is nothing that a client has asked for.
            300..=499 if head.status != StatusCode::NOT_MODIFIED => {
                return Finding::Answered(Arc::new(Reply {
                    status: head.status,
                    headers: vouching::told(&head),
                    body,
                }));
            }
            _ => return Finding::Unavailable("whoever decides gave no clear answer"),
        }
        let mut to_upstream = Vec::with_capacity(self.keep.len());
        let mut claims = Map::new();
        for kept in &self.keep {
            let values = head.headers.get_all(kept);
            vouching::write(kept, &head.headers.get_all(kept), &mut to_upstream);
            if let Some(text) = values.iter().next().and_then(|value| value.to_str().ok()) {
                claims.insert(kept.as_str().to_owned(), Json::String(text.to_owned()));
            }
        }
        let subject = self.keep.first().and_then(|kept| claims.get(kept.as_str()));
        let subject: Option<Box<str>> = subject.and_then(Json::as_str).map(Into::into);
        let consumer = match known.of_claims(name, &claims) {
            Ok(consumer) => consumer,
            Err(why) => return Finding::Refused(why),
        };
        let identity = Identity {
            method: "forward",
            authenticator: Arc::clone(name),
            credential: subject.clone().unwrap_or_default(),
            subject,
            claims,
            consumer,
            ..Identity::default()
        };
        Finding::Vouched(Arc::new(Vouched {
            identity: Arc::new(identity),
            to_upstream,
            to_client: Vec::new(),
        }))
    }
}
