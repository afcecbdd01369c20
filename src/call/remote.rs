//! What stands at a URL of the config, such as the keys of an issuer: asked on connections like those of upstreams, with the
//! same proofs, within a time and a size of its own. Where it says to look elsewhere, nobody does.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderName};
use http::{HeaderValue, Method};

use super::{Answer, Failed, Http, Request, Terms};
use crate::base::clock::SharedClock;
use crate::base::digest::Digest;
use crate::base::forwarded::Scheme;
use crate::base::net::{TargetScheme, TargetUrl, USER_IN_URL, user_of};
use crate::base::problem::{Place, Problems};
use crate::base::task::{Spawner, TaskGuard};
use crate::exchange::{Exchange, Fault, RequestHead};
use crate::upstream::{Ask, Names, Outside, Security, Spec, Timeouts, Unobserved, Upstream};

/// A whole exchange takes no longer.
const PATIENCE: Duration = Duration::from_secs(5);
/// So long of it may the connection take.
const CONNECT_MAX: Duration = Duration::from_secs(2);
/// How long somebody waits for the address of its host before it is asked.
const NAMES_PATIENCE: Duration = Duration::from_secs(2);

/// Something at a URL.
#[derive(Debug)]
pub struct Remote {
    upstream: Arc<Upstream>,
    url: TargetUrl,
    host: HeaderValue,
    target: Box<str>,
}

impl Remote {
    /// Reads a URL; nothing is asked or started yet.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) || text.contains('#') {
            return Err("not a URL that can be asked");
        }
        if user_of(text).is_some() {
            return Err(USER_IN_URL);
        }
        let (scheme, rest) = text.split_once("://").ok_or("not a URL")?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at_checked(end).unwrap_or((rest, ""));
        let url: Result<TargetUrl, _> = format!("{scheme}://{authority}").parse();
        let url = url.map_err(|_error| "not a URL")?;
        if !matches!(url.scheme(), TargetScheme::Http | TargetScheme::Https) {
            return Err("not a URL of `https://`");
        }
        let path = if target.starts_with('/') {
            target.to_owned()
        } else {
            format!("/{target}")
        };
        let host = HeaderValue::from_str(&url.authority()).map_err(|_error| "not a URL")?;
        let target =
            serde_json::json!({ "targets": [{ "url": format!("{scheme}://{authority}") }] });
        let spec: Spec = serde_json::from_value(target).map_err(|_error| "not a URL")?;
        let (root, none) = (Place::root(), BTreeMap::new());
        let security = Security::compile(&spec, &root, &none, &mut Problems::default());
        // Connections are shared with nothing that the config calls an upstream.
        let digest = Digest::of(format!("remote {scheme} {authority}").as_bytes()).bytes();
        let group = digest.iter().take(8);
        let group = group.fold(0, |group, byte| (group << 8) | u64::from(*byte));
        let upstream = Upstream::new(&url.authority(), group, &spec, security);
        Ok(Self {
            upstream: Arc::new(upstream),
            url,
            host,
            target: path.into(),
        })
    }

    /// Whether it proves who it is.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.url.scheme().is_tls()
    }

    /// Whether it is at an address that only this machine, or nobody, has: nobody else's word leads there.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.url.ip().is_some_and(|ip| match ip {
            IpAddr::V4(ip) => ip.is_loopback() || ip.is_link_local() || ip.is_unspecified(),
            IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unspecified(),
        })
    }

    /// Host and port.
    #[must_use]
    pub fn authority(&self) -> String {
        self.url.authority()
    }

    /// Host, port and path, for people: its query may hold a key.
    #[must_use]
    pub fn shown(&self) -> String {
        let path = self.target.split('?').next().unwrap_or_default();
        format!("{}{path}", self.authority())
    }

    /// Whether it is the same place, asked in the same way.
    #[must_use]
    pub fn is_at(&self, other: &Self) -> bool {
        self.is_tls() == other.is_tls() && self.host == other.host && self.target == other.target
    }

    /// Looks its name up, and keeps it looked up as long as the guards live.
    pub async fn start(
        &self,
        names: &Arc<dyn Names>,
        spawner: &Spawner,
        clock: &SharedClock,
    ) -> Vec<TaskGuard> {
        let prober = Arc::default();
        let outside = Outside {
            names,
            spawner,
            clock,
            // It has no health that anybody asks for.
            prober: &prober,
            observer: Arc::new(Unobserved),
            patience: NAMES_PATIENCE,
        };
        self.upstream.start(&outside).await
    }

    /// Asks it something that changes nothing there; the answer's body may have so many bytes at most.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn ask(
        &self,
        http: &Http,
        (method, body): (Method, Bytes),
        headers: &[(HeaderName, HeaderValue)],
        answer_max: u64,
    ) -> Result<Answer, Failed> {
        let unsendable = || Failed::new(Fault::Internal, "a URL that cannot be asked");
        let mut head = RequestHead::build(method, self.target.as_bytes(), Some(headers.len() + 1))
            .map_err(|_error| unsendable())?;
        for (name, value) in std::iter::once(&(HOST, self.host.clone())).chain(headers) {
            head.insert_header(name, value.clone())
                .map_err(|_error| unsendable())?;
        }
        let now = tokio::time::Instant::now().into_std();
        let mut exchange = Exchange::new(now, 0, Scheme::Https);
        let terms = Terms {
            ours: true,
            harmless: true,
            times: Timeouts {
                connect: CONNECT_MAX,
                first_byte: PATIENCE,
                between_bytes: PATIENCE,
                total_to_head: PATIENCE,
                total: Some(PATIENCE),
                ..Timeouts::default()
            },
            since: now,
            answer_max,
            meter: None,
            retries: None,
            breaker: None,
            ask: Ask::default(),
        };
        let request = Request { head, body };
        http.call(&self.upstream, &request, &terms, &mut exchange)
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::Remote;

    #[test]
    fn a_url_is_read_with_its_path_and_query() {
        let found = Remote::parse("https://Id.example.com/a/b?c=d").unwrap();
        assert_eq!(
            (&*found.target, &*found.authority()),
            ("/a/b?c=d", "id.example.com")
        );
        assert!(found.is_tls() && !found.is_local());
        // A query may hold a key.
        assert_eq!(found.shown(), "id.example.com/a/b");
        let found = Remote::parse("http://127.0.0.1:8080?x").unwrap();
        assert_eq!(
            (&*found.target, &*found.authority()),
            ("/?x", "127.0.0.1:8080")
        );
        assert!(!found.is_tls() && found.is_local());
        assert!(Remote::parse("http://169.254.169.254/").unwrap().is_local());
        let named = Remote::parse("https://a:b@id.example.com/").unwrap_err();
        assert_eq!(named, crate::base::net::USER_IN_URL);
        for wrong in [
            "",
            "id.example.com",
            "ftp://id.example.com/",
            "https://user@id.example.com/",
            "https://id.example.com/a b",
            "https://id.example.com/#a",
            "https:///a",
            "https://id.example.com/\r\n",
        ] {
            assert!(Remote::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
