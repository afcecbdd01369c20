//! One request and its answer: the facts as they become known, and what is left to do for it.

mod answer_head;
mod careful;
mod content_digest;
mod edits;
mod events;
mod fallen;
mod fault;
mod fields;
mod grpc;
mod head;
mod http2;
mod id;
mod identity;
mod key;
mod meaning;
mod ours;
mod page;
mod path_back;
mod plain;
mod query;
mod reply;
mod retry_after;
mod scope;
pub mod structured;
mod target;
#[cfg(test)]
mod tests;
mod trace;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use answer_head::{
    DIGESTS, Upgrade, check as check_answer, check_own as check_own_answer, weaken,
};
use bytes::Bytes;
pub use careful::Careful;
pub use content_digest::is_told_body;
pub use edits::{Edit, HeaderEdits, Headers};
pub use events::{Decision, Event, Events, Step};
pub use fallen::{Fallen, Reason, Served};
pub use fault::Fault;
pub use grpc::{GRPC_CODES, GrpcMessages, grpc_status, grpc_timeout, is_grpc};
pub use head::{After, Framing, HeadLimits};
pub use head::{check as check_head, end_of_head, leading_empty_lines};
use http::{HeaderValue, Version};
pub use http2::{check as check_http2_head, unbind_values};
pub use id::RequestId;
pub use identity::{Consumer, Identity, UsagePlan};
pub use key::key_hash;
pub use meaning::Meaning;
pub use ours::is_ours;
pub use page::{Reader, preflight_for};
pub use path_back::{PathBack, Piece};
pub use pingora::http::{RequestHeader as RequestHead, ResponseHeader as ResponseHead};
pub use plain::{edit_answer, edit_request, unspell};
pub use reply::{Reply, Verdict};
pub use retry_after::retry_after;
pub use scope::{Facts, host_of};
pub use trace::TraceContext;

use crate::base::forwarded::{ClientChain, Scheme};
use crate::compress::Coding;
use crate::router::{Allow, Params};
use crate::tls::Secured;
use crate::upstream::{Ends, Timeouts};

/// Everything known about one request, in the order it becomes known. Each field names its one writer.
#[derive(Debug)]
pub struct Exchange {
    /// When the head was complete. (server)
    pub started: Instant,
    /// The time of day then, in milliseconds since 1970. (server)
    pub unix_millis: i64,
    /// What follows the head. (server)
    pub framing: Framing,
    /// How the client reached us. (server)
    pub scheme: Scheme,
    /// In which version of HTTP. (server)
    pub version: Version,
    /// What TLS told of its connection; none without TLS. (server)
    pub secured: Option<Arc<Secured>>,
    /// What is wrong with its head, where it stays a request all the same. (server)
    pub refused: Option<Fault>,
    /// The number of the listener it came in by. (server)
    pub listener: usize,
    /// The peer of its connection; none on a unix socket. (server)
    pub peer: Option<IpAddr>,
    /// The port of that peer. (server)
    pub peer_port: u16,
    /// The ends of its connection, where a target is told. (gateway/peer)
    pub ends: Option<Ends>,
    /// Whether it is real, or only asked about. (server, flow/explain)
    pub mode: Mode,
    /// What was decided, in order. (flow, policies' chain)
    pub events: Events,
    /// Who the client is. (flow/arrive)
    pub client: Option<ClientChain>,
    /// The `Host` that was asked for, canonical, with its port. (flow/arrive)
    pub asked_host: Option<HeaderValue>,
    /// The request's id: ours, or a trusted proxy's. (flow/arrive)
    pub id: RequestId,
    /// Its place in a trace. (flow/arrive)
    pub trace: Option<TraceContext>,
    /// The environment's host, if it was asked at one. (flow/find)
    pub environment: Option<Box<str>>,
    /// The route's index in the site. (flow/find)
    pub route: usize,
    /// The name of that route. (flow/find)
    pub route_name: Arc<str>,
    /// What the path's parameters stand for. (flow/find)
    pub params: Params,
    /// What the address takes, when the method was not it. (flow/find)
    pub allow: Option<Allow>,
    /// Which page asks, where the route cares. (flow/find, policy/cors)
    pub reader: Reader,
    /// What the answer tells browsers. (policy/security_headers)
    pub careful: Option<Careful>,
    /// Why it was refused, for people who ask. (policies)
    pub refusal: Option<&'static str>,
    /// Who is calling. (policy/auth)
    pub identity: Option<Arc<Identity>>,
    /// Whether its body has to be the one that its signed `Content-Digest` tells of. (policy/auth)
    pub body_is_signed: bool,
    /// Its whole body, where it had to be read before somebody could decide. (gateway/ask, flow/trial)
    pub body: Option<Bytes>,
    /// Who is taken to be calling, where nothing real is. (flow/trial)
    pub assumed: Option<Arc<Identity>>,
    /// The policy that has to ask somebody, by its place in the chain. (policies' chain)
    pub asking: u8,
    /// How long bodies may be. (policy/body_limits)
    pub limits: BodyLimits,
    /// What holds for it once it is a WebSocket; none = only what always does. (policy/websocket)
    pub websocket: Option<WebSocketRules>,
    /// How long its steps may take; none = as its upstream says. (policy/timeouts)
    pub timeouts: Option<Timeouts>,
    /// What the upstream gets instead of what the client sent. (policies)
    pub to_upstream: UpstreamRequest,
    /// Changes to the answer's headers, also to answers of our own. (policies)
    pub to_client: HeaderEdits,
    /// The content coding that the answer gets on its way. (policy/compression)
    pub coding: Option<Coding>,
    /// Whether it is a call of gRPC over HTTP/2. (gateway/peer)
    pub is_call: bool,
    /// The status of gRPC that the client got. (gateway/call, gateway/answer)
    pub grpc_status: Option<u8>,
    /// What went wrong. (whoever ended it)
    pub fault: Option<Fault>,
    /// What to say of the fault instead of the table's sentence. (policies)
    pub detail: Option<Arc<str>>,
    /// What took the place of its upstream. (flow/ladder)
    pub fallen: Option<Fallen>,
    /// When its client is to come back, where that is known. (gateway/peer, call)
    pub retry_after: Option<Duration>,
    /// How many targets were tried. (gateway/peer)
    pub attempts: u16,
    /// The authority of the target that was tried last. (gateway/peer)
    pub target: Option<Arc<str>>,
    /// The name of its upstream. (gateway/peer)
    pub upstream: Option<Arc<str>>,
    /// The cookie by which the client stays with that target, where it does not have it. (gateway/peer)
    pub sticky: Option<HeaderValue>,
}

/// The longest bodies, in bytes; none = any.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BodyLimits {
    /// Of the request.
    pub request: Option<u64>,
    /// Of the answer.
    pub response: Option<u64>,
}

/// What holds for a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WebSocketRules {
    /// How long nothing may pass in either direction.
    pub idle: Duration,
    /// How often both sides are asked whether they are there; none = never.
    pub ping: Option<Duration>,
    /// The longest message, as it is on the wire; none = any.
    pub message_bytes_max: Option<u64>,
    /// How old the connection may become; none = any age.
    pub age_max: Option<Duration>,
    /// Whether the two sides agreed on an extension that compresses.
    pub compressed: bool,
}

/// Whether a request is real.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// It is.
    #[default]
    Live,
    /// Somebody asks what would become of it: what is counted or taken is only looked at.
    Dry,
    /// The same, where no gateway runs: nothing is known of targets, so that they count as there.
    Offline,
}

/// What the upstream gets instead of what the client sent; nothing means: the same.
#[derive(Debug, Default)]
pub struct UpstreamRequest {
    /// Canonical path.
    pub path: Option<String>,
    /// What stands after the `?`; an empty text takes the query away.
    pub query: Option<String>,
    /// `Host`.
    pub host: Option<HeaderValue>,
    /// How a path of the upstream's answer becomes one of the client's again.
    pub back: Option<Arc<PathBack>>,
    /// The prefix that was taken off the path, for `X-Forwarded-Prefix`.
    pub stripped_prefix: Option<HeaderValue>,
    /// Changes to the headers.
    pub headers: HeaderEdits,
}

impl Exchange {
    /// An exchange of which nothing is known but that it began.
    #[must_use]
    pub fn new(started: Instant, unix_millis: i64, scheme: Scheme) -> Self {
        Self {
            started,
            unix_millis,
            framing: Framing::default(),
            scheme,
            version: Version::HTTP_11,
            secured: None,
            refused: None,
            listener: 0,
            peer: None,
            peer_port: 0,
            ends: None,
            mode: Mode::Live,
            events: Events::default(),
            client: None,
            asked_host: None,
            id: RequestId::default(),
            trace: None,
            environment: None,
            route: 0,
            route_name: Arc::default(),
            params: Params::default(),
            allow: None,
            reader: Reader::Nobody,
            careful: None,
            refusal: None,
            identity: None,
            body_is_signed: false,
            body: None,
            assumed: None,
            asking: 0,
            limits: BodyLimits::default(),
            websocket: None,
            timeouts: None,
            to_upstream: UpstreamRequest::default(),
            to_client: HeaderEdits::default(),
            coding: None,
            is_call: false,
            grpc_status: None,
            fault: None,
            detail: None,
            fallen: None,
            retry_after: None,
            attempts: 0,
            target: None,
            upstream: None,
            sticky: None,
        }
    }

    /// The time of day when it began, in seconds since 1970.
    #[must_use]
    pub fn unix_secs(&self) -> u64 {
        u64::try_from(self.unix_millis / 1000).unwrap_or(0)
    }

    /// How the client spoke: what a trusted proxy says, else how it reached us.
    #[must_use]
    pub fn client_scheme(&self) -> Scheme {
        self.client
            .as_ref()
            .and_then(|client| client.scheme)
            .unwrap_or(self.scheme)
    }
}
