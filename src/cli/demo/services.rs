//! Four small services: users, orders, recommendations, and reviews, which often fail; each on a port of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Method, Response, StatusCode};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use pingora::apps::ServerApp as _;
use pingora::apps::http_app::{HttpServer, ServeHttp};
use pingora::protocols::http::ServerSession;
use pingora::protocols::l4::stream::Stream as L4Stream;
use serde_json::{Value as Json, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::LOCAL;
use crate::base::clock::{Clock as _, SystemClock};
use crate::base::task::Spawner;

/// How long a token of the sample login is good.
const TOKEN_SECONDS: i64 = 3600;
/// What the key of the login is called.
const KEY_ID: &str = "demo";

/// Signs the tokens of the sample login; new with every start.
struct Login {
    key: EncodingKey,
    /// By which others verify them (RFC 7517).
    public: Json,
}

impl Login {
    fn new() -> Result<Self, openssl::error::ErrorStack> {
        let key = openssl::pkey::PKey::generate_ed25519()?;
        let public = URL_SAFE_NO_PAD.encode(key.raw_public_key()?);
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": KEY_ID, "x": public });
        Ok(Self {
            key: EncodingKey::from_ed_der(&key.private_key_to_pkcs8()?),
            public: json!({ "keys": [jwk] }),
        })
    }

    /// A signed token (RFC 7519) for a sample customer.
    fn token(&self) -> (StatusCode, Json) {
        let now = SystemClock.unix_millis() / 1000;
        let claims = json!({ "iss": "demo", "aud": "shop", "sub": "7", "name": "Ada", "roles": ["customer"], "iat": now, "exp": now + TOKEN_SECONDS });
        let header = Header {
            kid: Some(KEY_ID.to_owned()),
            ..Header::new(Algorithm::EdDSA)
        };
        match encode(&header, &claims, &self.key) {
            Ok(token) => (
                StatusCode::OK,
                json!({ "access_token": token, "token_type": "Bearer", "expires_in": TOKEN_SECONDS }),
            ),
            Err(_) => (
                StatusCode::INTERNAL_SERVER_ERROR,
                json!({ "error": "no token" }),
            ),
        }
    }
}

/// The services, which stop when this is dropped.
pub(super) struct Services {
    addresses: Vec<(&'static str, SocketAddr)>,
    _runtime: tokio::runtime::Runtime,
}

impl Services {
    /// Name and address of each.
    pub(super) fn addresses(&self) -> &[(&'static str, SocketAddr)] {
        &self.addresses
    }
}

/// Starts the services on a thread of their own.
pub(super) fn start() -> std::io::Result<Services> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("sample")
        .enable_all()
        .build()?;
    let spawner = Spawner::new(runtime.handle().clone());
    let login = Arc::new(Login::new()?);
    let mut addresses = Vec::new();
    for kind in [
        Kind::Users,
        Kind::Orders,
        Kind::Recommendations,
        Kind::Reviews,
    ] {
        let listener = runtime.block_on(TcpListener::bind(LOCAL))?;
        addresses.push((kind.name(), listener.local_addr()?));
        spawner.detach(accept(
            listener,
            Arc::new(HttpServer::new_app(Service {
                kind,
                login: Arc::clone(&login),
                asked: AtomicU64::new(0),
            })),
            spawner.clone(),
        ));
    }
    Ok(Services {
        addresses,
        _runtime: runtime,
    })
}

async fn accept(listener: TcpListener, app: Arc<HttpServer<Service>>, spawner: Spawner) {
    // The sender lives as long as the loop: the services stop with their runtime.
    let (_stop, shutdown) = watch::channel(false);
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            return;
        };
        let (app, shutdown) = (Arc::clone(&app), shutdown.clone());
        spawner.detach(async move {
            drop(
                app.process_new(Box::new(L4Stream::from(stream)), &shutdown)
                    .await,
            );
        });
    }
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Users,
    Orders,
    Recommendations,
    /// Fails every other time.
    Reviews,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Users => "users",
            Self::Orders => "orders",
            Self::Recommendations => "recommendations",
            Self::Reviews => "reviews",
        }
    }
}

struct Service {
    kind: Kind,
    login: Arc<Login>,
    /// How often it was asked.
    asked: AtomicU64,
}

#[async_trait]
impl ServeHttp for Service {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let head = session.req_header();
        let path: Vec<&str> = head.uri.path().split('/').skip(1).collect();
        let query = head.uri.query().unwrap_or_default();
        let (status, body) = match (self.kind, &head.method, path.as_slice()) {
            (Kind::Users, &Method::POST, ["internal", "tokens"]) => self.login.token(),
            (Kind::Users, _, ["internal", "keys"]) => (StatusCode::OK, self.login.public.clone()),
            (Kind::Users, _, ["v1", "me"]) => {
                // Nobody but the gateway writes it.
                let id = head.headers.get("x-user-id");
                user(id.and_then(|id| id.to_str().ok()).unwrap_or_default())
            }
            (Kind::Users, _, ["v1", "users", id]) => user(id),
            (Kind::Orders, _, ["orders", ""] | ["orders"]) => (StatusCode::OK, orders(query)),
            (Kind::Orders, _, ["orders", id]) => (StatusCode::OK, order(id, query)),
            (Kind::Recommendations, _, ["for", user]) => (StatusCode::OK, recommendations(user)),
            (Kind::Reviews, _, ["reviews", product]) => self.reviews(product),
            _ => (StatusCode::NOT_FOUND, json!({ "error": "no such thing" })),
        };
        let body = format!("{body}\n").into_bytes();
        let response = Response::builder()
            .status(status)
            .header("content-type", "application/json")
            .header("content-length", body.len())
            .header("x-powered-by", "doorward sample service");
        response.body(body).unwrap_or_default()
    }
}

impl Service {
    /// Good every other time; about biscuits nobody ever gets an answer.
    fn reviews(&self, product: &str) -> (StatusCode, Json) {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        if product == "biscuits" || asked.is_multiple_of(2) {
            let busy = json!({ "error": "busy" });
            return (StatusCode::SERVICE_UNAVAILABLE, busy);
        }
        (
            StatusCode::OK,
            json!({ "product": product, "stars": 4, "text": "Warm and wet." }),
        )
    }
}

fn user(id: &str) -> (StatusCode, Json) {
    match id {
        "7" => (
            StatusCode::OK,
            json!({ "id": 7, "name": "Ada", "city": "London" }),
        ),
        "8" => (
            StatusCode::OK,
            json!({ "id": 8, "name": "Alan", "city": "Manchester" }),
        ),
        _ => (StatusCode::NOT_FOUND, json!({ "error": "no such user" })),
    }
}

fn order(id: &str, query: &str) -> Json {
    let base = json!({ "id": id, "user": 7, "status": "on its way", "total": { "amount": "23.50", "currency": "EUR" } });
    if query.split('&').any(|pair| pair == "v=2") {
        json!({ "order": base, "version": 2 })
    } else {
        base
    }
}

fn orders(query: &str) -> Json {
    let user = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("user="))
        .unwrap_or("7");
    json!({ "user": user, "items": [order("42", ""), order("43", "")] })
}

fn recommendations(user: &str) -> Json {
    json!({ "for": user, "items": [{ "product": "tea", "score": 0.93 }, { "product": "biscuits", "score": 0.87 }] })
}
