//! The request path: one line per phase, in the order of a request's life. The only module that sees Pingora's session.

mod again;
mod answer;
mod ask;
mod attempt;
mod blame;
mod bodies;
mod called;
mod fail;
mod finish;
mod grpc;
mod home;
mod kept;
mod pace;
mod peer;
mod request;
mod response;
mod rest;
mod state;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderMap;
use pingora::apps::HttpServerOptions;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Digest;
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, Result};
use pingora_cache::{NoCacheReason, RespCacheable};
use pingora_proxy::{FailToProxy, HttpProxy, ProxyHttp, ProxyWarnLogContext, Session};

pub use attempt::Attempt;
pub use grpc::GrpcCalls;
pub use home::{Returned, StreamHome};
pub use kept::Kept;
pub use rest::{Rest, rest_of};
pub use state::{Signals, State, admit};
pub use watch::Watch;

use crate::call;
use crate::flow;
use crate::telemetry::Telemetry;
use crate::upstream::check_proof;

/// The gateway as Pingora sees it.
#[derive(Debug)]
pub struct Gateway {
    /// Where counts and warnings go.
    pub telemetry: Arc<Telemetry>,
    /// How whole requests reach their upstreams.
    pub calls: Arc<call::Http>,
    /// The connections that calls of gRPC share.
    pub grpc: Arc<GrpcCalls>,
}

/// The gateway with Pingora around it: connections to upstreams, and the phases of a request.
pub type Proxy = HttpProxy<Gateway>;

impl Gateway {
    /// Puts Pingora around it.
    #[must_use]
    pub fn into_proxy(self, conf: ServerConf) -> Proxy {
        let mut proxy = HttpProxy::new(self, Arc::new(conf));
        let mut options = HttpServerOptions::default();
        // It comes to us as far as HTTP/2 lets it; we refuse it with a record.
        options.allow_connect_method_proxying = true;
        proxy.server_options = Some(options);
        // Pingora's modules are not set up: the only one is a compression that is off, and each request pays for it.
        proxy
    }
}

/// What Pingora carries from phase to phase: the request's state, once the connection handed it over.
#[derive(Debug, Default)]
pub struct Ctx(Option<Box<State>>);

impl Drop for Ctx {
    fn drop(&mut self) {
        // A request that is dropped before its end leaves its state behind: it is answered and noted all the same.
        if let Some(state) = self.0.take().filter(|state| !state.noted) {
            let signals = Arc::clone(&state.signals);
            signals.watch.keep(state);
        }
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Ctx;

    fn new_ctx(&self) -> Ctx {
        Ctx::default()
    }

    fn on_connection_reuse(
        &self,
        _session: &mut Session,
        ctx: &mut Ctx,
        admitted: Box<dyn std::any::Any + Send + Sync>,
    ) {
        ctx.0 = admitted.downcast().ok();
    }

    async fn early_request_filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<()> {
        if ctx.0.is_none() {
            ctx.0 = state::admitted(session.req_header());
        }
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
        request::filter(session, state::of(ctx)?, self).await
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Ctx,
    ) -> Result<()> {
        let state = state::of(ctx)?;
        if end {
            state.signals.watch.sent();
        }
        bodies::request(body.as_ref(), state)
    }

    async fn upstream_peer(&self, session: &mut Session, ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
        peer::choose(session, state::of(ctx)?).await
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        head: &mut RequestHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        request::send(session.req_header(), head, state::of(ctx)?)
    }

    async fn upstream_response_filter(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        response::check(session, head, state::of(ctx)?)
    }

    async fn connected_to_upstream(
        &self,
        _: &mut Session,
        reused: bool,
        peer: &HttpPeer,
        _: std::os::unix::io::RawFd,
        digest: Option<&Digest>,
        ctx: &mut Ctx,
    ) -> Result<()> {
        match ctx.0.as_deref() {
            Some(state) if reused => attempt::reused(state),
            Some(state) => attempt::connected(state),
            None => {}
        }
        check_proof(peer, digest)
    }

    fn response_cache_filter(
        &self,
        _: &Session,
        _: &ResponseHeader,
        _: &mut Ctx,
    ) -> Result<RespCacheable> {
        // Nothing is stored until a route can say so.
        Ok(RespCacheable::Uncacheable(NoCacheReason::NeverEnabled))
    }

    fn upstream_response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Ctx,
    ) -> Result<Option<Duration>> {
        let state = state::of(ctx)?;
        if end {
            attempt::ends(state);
        }
        bodies::response(body.as_ref(), state)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        ctx: &mut Ctx,
    ) -> Result<()> {
        let state = state::of(ctx)?;
        flow::shape(&state.plan, session.req_header(), head, &mut state.exchange);
        response::begins(session, head, state)
    }

    fn response_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Ctx,
    ) -> Result<Option<Duration>> {
        let state = state::of(ctx)?;
        if end {
            bodies::finish(body, state)?;
        } else {
            bodies::encode(body, state)?;
        }
        Ok(None)
    }

    async fn response_trailer_filter(
        &self,
        _: &mut Session,
        _: &mut HeaderMap,
        ctx: &mut Ctx,
    ) -> Result<Option<Bytes>> {
        let mut last = None;
        let state = state::of(ctx)?;
        if state.encoder.is_some() {
            // A coded body ends with its own end; who takes codings needs no trailers.
            bodies::finish(&mut last, state)?;
        }
        Ok(last)
    }

    fn fail_to_connect(
        &self,
        session: &mut Session,
        peer: &HttpPeer,
        ctx: &mut Ctx,
        error: Box<Error>,
    ) -> Box<Error> {
        match ctx.0.as_deref_mut() {
            Some(state) => peer::not_connected(session, peer, state, error),
            None => error,
        }
    }

    fn error_while_proxy(
        &self,
        _: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        ctx: &mut Ctx,
        reused: bool,
    ) -> Box<Error> {
        match ctx.0.as_deref_mut() {
            Some(state) => peer::broke(session, state, error, reused),
            None => {
                let mut error = error;
                error.set_retry(false);
                error
            }
        }
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut Ctx,
    ) -> FailToProxy {
        fail::answer(session, error, ctx, &self.telemetry).await
    }

    fn suppress_proxy_warn_log(
        &self,
        _: &Session,
        _: &Ctx,
        _: &Error,
        _: ProxyWarnLogContext,
    ) -> bool {
        // An attempt that is followed by another is counted, and its number stands in the record.
        true
    }

    fn suppress_error_log(&self, _: &Session, _: &Ctx, _: &Error) -> bool {
        // `finish` writes one record for every request.
        true
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut Ctx) {
        finish::record(session, error, ctx, &self.telemetry);
    }
}
