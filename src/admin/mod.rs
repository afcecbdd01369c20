//! The private side: what the gateway tells about itself, and what it may be told to do.

mod access;
mod answer;
mod callers;
mod question;

use std::sync::Arc;

use async_trait::async_trait;
use http::header::ALLOW;
use http::{Method, Response, StatusCode};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;
use serde_json::{Value as Json, json};

use crate::base::control::{BreakerWish, CallerList, Control, Duty, Question, Reloaded, Tests};
use crate::telemetry::Telemetry;
use access::Right;
pub use access::{Access, Door};
use answer::{plain, problem, to_json};
use callers::Changed;
pub use question::Written as WrittenQuestion;

/// The description of this interface, served as it is.
const OPENAPI: &str = include_str!("openapi.yaml");

/// The admin interface behind one door.
pub struct Admin {
    /// What it speaks for.
    pub control: Arc<dyn Control>,
    /// The metrics.
    pub telemetry: Arc<Telemetry>,
    /// Who may do what.
    pub access: Access,
}

#[async_trait]
impl ServeHttp for Admin {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let head = session.req_header();
        let (method, path) = (head.method.clone(), head.uri.path().to_owned());
        let query = head.uri.query().unwrap_or_default().to_owned();
        let Some((route, right)) = Route::of(&path) else {
            return problem(
                StatusCode::NOT_FOUND,
                "not_found",
                "nothing is served at this address",
            );
        };
        if !route.takes(&method) {
            return route.not_with_this_method();
        }
        let asker = match self.access.check(&head.headers, right) {
            Ok(asker) => asker,
            Err(refusal) => return refusal.answer(),
        };
        if let Route::ChangeCallers(change) = route {
            return self.change_callers(change, &query, &asker).await;
        }
        if route == Route::Explain {
            return match question::read(session).await {
                Ok(question) => self.explain(&question),
                Err(refusal) => refusal,
            };
        }
        self.act(route, &query).await
    }
}

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Route {
    Live,
    Ready,
    Metrics,
    Config,
    Upstreams,
    Breakers,
    SetBreaker,
    Status,
    OpenApi,
    Explain,
    Reload,
    Drain,
    Resume,
    Callers(CallerList),
    ChangeCallers(Changed),
}

impl Route {
    /// The route of a path, and the right that it takes.
    fn of(path: &str) -> Option<(Self, Right)> {
        Some(match path {
            // `/healthz` is what older orchestrators ask.
            "/livez" | "/healthz" => (Self::Live, Right::Nobody),
            "/readyz" => (Self::Ready, Right::Nobody),
            "/metrics" => (Self::Metrics, Right::View),
            "/config" => (Self::Config, Right::View),
            "/upstreams" => (Self::Upstreams, Right::View),
            "/breakers" => (Self::Breakers, Right::View),
            "/breakers/set" => (Self::SetBreaker, Right::Operate),
            "/status" => (Self::Status, Right::View),
            "/openapi.yaml" => (Self::OpenApi, Right::View),
            // It tells what would be, and changes nothing.
            "/explain" => (Self::Explain, Right::View),
            "/reload" => (Self::Reload, Right::Operate),
            "/upstreams/drain" => (Self::Drain, Right::Operate),
            "/upstreams/resume" => (Self::Resume, Right::Operate),
            "/consumers" => (Self::Callers(CallerList::Consumers), Right::Know),
            "/consumers/history" => (Self::Callers(CallerList::History), Right::Know),
            "/keys" => (Self::Callers(CallerList::Keys), Right::Know),
            "/tokens/revoked" => (Self::Callers(CallerList::Revoked), Right::Know),
            _ => (Self::ChangeCallers(Changed::of(path)?), Right::Admit),
        })
    }

    fn takes(self, method: &Method) -> bool {
        self.methods().contains(method)
    }

    fn methods(self) -> &'static [Method] {
        match self {
            Self::Explain
            | Self::Reload
            | Self::Drain
            | Self::Resume
            | Self::SetBreaker
            | Self::ChangeCallers(_) => &[Method::POST],
            Self::Live
            | Self::Ready
            | Self::Metrics
            | Self::Config
            | Self::Upstreams
            | Self::Breakers
            | Self::Status
            | Self::Callers(_)
            | Self::OpenApi => &[Method::GET, Method::HEAD],
        }
    }

    fn not_with_this_method(self) -> Response<Vec<u8>> {
        let why = "not with this method";
        let mut answer = problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", why);
        let methods: Vec<&str> = self.methods().iter().map(Method::as_str).collect();
        if let Ok(methods) = methods.join(", ").parse() {
            answer.headers_mut().insert(ALLOW, methods);
        }
        answer
    }
}

impl Admin {
    async fn act(&self, route: Route, query: &str) -> Response<Vec<u8>> {
        match route {
            Route::Live => plain(StatusCode::OK, "text/plain; charset=utf-8", "ok\n"),
            Route::Ready => self.ready(query),
            Route::Metrics => {
                self.control.observe();
                let text = self.telemetry.text();
                plain(
                    StatusCode::OK,
                    "text/plain; version=0.0.4; charset=utf-8",
                    &text,
                )
            }
            Route::Breakers => to_json(StatusCode::OK, &self.control.breakers()),
            Route::SetBreaker => self.set_breaker(query),
            Route::Config => to_json(StatusCode::OK, &self.control.config()),
            Route::Upstreams => {
                let status = self.control.status();
                to_json(
                    StatusCode::OK,
                    status.get("upstreams").unwrap_or(&Json::Null),
                )
            }
            Route::Status => to_json(StatusCode::OK, &self.control.status()),
            Route::OpenApi => plain(StatusCode::OK, "application/yaml", OPENAPI),
            Route::Callers(list) => self.callers(list),
            // Their questions were read before.
            Route::Explain | Route::ChangeCallers(_) => {
                problem(StatusCode::BAD_REQUEST, "question", "nothing was asked")
            }
            Route::Reload => {
                let mut names = query.split('&').filter_map(|pair| pair.split('=').next());
                let run = names.any(|name| name == "test");
                let tests = if run { Tests::Run } else { Tests::Skip };
                reloaded(&self.control.reload(tests).await)
            }
            Route::Drain => self.set_duty(query, Duty::Drain),
            Route::Resume => self.set_duty(query, Duty::Resume),
        }
    }

    fn set_duty(&self, query: &str, duty: Duty) -> Response<Vec<u8>> {
        let named = |name| question::parameter(query, name);
        let (Some(upstream), Some(target)) = (named("upstream"), named("target")) else {
            let why = "say which: `?upstream=NAME&target=HOST:PORT`";
            return problem(StatusCode::BAD_REQUEST, "question", why);
        };
        match self.control.set_duty(&upstream, &target, duty) {
            Ok(in_flight) => {
                let drained = duty == Duty::Drain;
                let told = json!({ "upstream": upstream, "target": target, "drained": drained, "in_flight": in_flight });
                to_json(StatusCode::OK, &told)
            }
            Err(why) => problem(StatusCode::NOT_FOUND, "not_found", &why),
        }
    }

    /// `name=NAME&state=open|close|auto`.
    fn set_breaker(&self, query: &str) -> Response<Vec<u8>> {
        let value = |wanted| question::parameter(query, wanted);
        let wish = match value("state").as_deref() {
            Some("open") => BreakerWish::Open,
            Some("close") => BreakerWish::Close,
            Some("auto") => BreakerWish::Auto,
            _ => {
                let why = "`state` is one of open, close, auto";
                return problem(StatusCode::BAD_REQUEST, "breaker", why);
            }
        };
        let name = value("name").unwrap_or_default();
        match self.control.set_breaker(&name, wish) {
            Some(told) => to_json(StatusCode::OK, &told),
            None => problem(StatusCode::NOT_FOUND, "breaker", "no breaker has this name"),
        }
    }

    fn explain(&self, question: &Question) -> Response<Vec<u8>> {
        match self.control.explain(question) {
            Ok(told) => to_json(StatusCode::OK, &told),
            Err(why) => problem(StatusCode::BAD_REQUEST, "question", &why),
        }
    }

    fn ready(&self, query: &str) -> Response<Vec<u8>> {
        let ready = self.control.is_ready();
        let status = if ready {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        let word = if ready { "ok" } else { "stopping" };
        if query.split('&').any(|name| name == "verbose") {
            return to_json(
                status,
                &json!({ "ready": ready, "checks": { "config": "ok", "listeners": "ok", "process": word } }),
            );
        }
        plain(status, "text/plain; charset=utf-8", &format!("{word}\n"))
    }
}

fn reloaded(reloaded: &Reloaded) -> Response<Vec<u8>> {
    match reloaded {
        Reloaded::Applied {
            generation,
            changes,
            restart,
        } => {
            let lines: Vec<Json> = changes
                .iter()
                .map(crate::base::control::Change::json)
                .collect();
            let body = json!({ "result": "applied", "generation": generation, "changes": lines, "needs_restart": restart });
            to_json(StatusCode::OK, &body)
        }
        Reloaded::Invalid { report } => to_json(
            StatusCode::UNPROCESSABLE_ENTITY,
            &json!({ "result": "invalid", "report": report }),
        ),
        Reloaded::TestsFailed { report } => to_json(
            StatusCode::UNPROCESSABLE_ENTITY,
            &json!({ "result": "tests_failed", "report": report }),
        ),
        Reloaded::NeedsRestart { reasons } => to_json(
            StatusCode::CONFLICT,
            &json!({ "result": "needs_restart", "reasons": reasons }),
        ),
    }
}
