//! A bare Pingora proxy, what Doorward is compared with: `bare UPSTREAM PLAIN TLS CERT KEY THREADS`.
//!
//! The same Pingora, TLS library, allocator and profile as Doorward; no routes, no metrics, no log.

use async_trait::async_trait;
use pingora::apps::HttpServerOptions;
use pingora::http::RequestHeader;
use pingora::listeners::tls::TlsSettings;
use pingora::server::Server;
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use pingora_proxy::{HttpProxy, ProxyHttp, Session, http_proxy_service};

struct Bare(HttpPeer);

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();
    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _: &mut Session, (): &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(self.0.clone()))
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        head: &mut RequestHeader,
        (): &mut (),
    ) -> Result<()> {
        let client = session.client_addr().and_then(|client| client.as_inet());
        let client = client.map(|client| client.ip().to_string());
        head.insert_header("x-forwarded-for", client.unwrap_or_default())
    }
}

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
    let mut next = || {
        let word = words.next();
        word.ok_or_else(|| Error::explain(ErrorType::InternalError, "six arguments"))
    };
    let (upstream, plain, tls) = (next()?, next()?, next()?);
    let (certificate, key, threads) = (next()?, next()?, next()?);
    let conf = ServerConf {
        threads: threads.parse().unwrap_or(1),
        // One worker has nobody to take work from.
        work_stealing: threads != "1",
        upstream_keepalive_pool_size: 1024,
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let peer = HttpPeer::new(&*upstream, false, String::new());
    let mut service = http_proxy_service(&server.configuration, Bare(peer));
    service.add_tcp(&plain);
    let mut settings = TlsSettings::intermediate(&certificate, &key)?;
    settings.enable_h2();
    service.add_tls_with_settings(&tls, None, settings);
    let logic: Option<&mut HttpProxy<Bare, ()>> = service.app_logic_mut();
    if let Some(logic) = logic {
        let mut options = HttpServerOptions::default();
        options.h2c = true;
        logic.server_options = Some(options);
    }
    server.add_service(service);
    server.run_forever()
}
