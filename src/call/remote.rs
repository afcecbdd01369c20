//! What stands at a URL of the config, such as the keys of an issuer: asked on connections like those of upstreams, with the
//! same proofs, within a time and a size of its own. Where it says to look elsewhere, nobody does.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
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
use crate::upstream::{
    Ask, Found, NameError, Names, Outside, Security, Spec, Timeouts, Unobserved, Upstream,
};

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
    /// Who chose it: the config, or somebody else.
    chosen: Chosen,
    /// Whether its name led to nothing but local addresses when it was looked up last.
    leads_here: Arc<AtomicBool>,
}

/// On whose word something is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chosen {
    /// The config's: it may be anywhere.
    ByConfig,
    /// That of somebody whom the config names: it may not be here.
    ByOthers,
}

/// Looks up names, and at where they lead. The addresses that it lets through are those that are connected to.
struct Leads {
    names: Arc<dyn Names>,
    chosen: Chosen,
    here: Arc<AtomicBool>,
}

#[async_trait]
impl Names for Leads {
    async fn look_up(&self, host: &str) -> Result<Found, NameError> {
        let found = self.names.look_up(host).await?;
        let here = |ip: &IpAddr| is_local(*ip);
        // One among others is no accident: whoever says that gets to it at the second try.
        if self.chosen == Chosen::ByOthers && found.addresses.iter().any(here) {
            return Err(NameError("it leads to this machine or its link".to_owned()));
        }
        self.here
            .store(found.addresses.iter().all(here), Ordering::Relaxed);
        Ok(found)
    }
}

/// Whether only this machine, its link, or nobody has this address (RFC 6890), in whatever form IPv6 has for one of IPv4.
fn is_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_local_v4(ip),
        IpAddr::V6(ip) => {
            ip.is_loopback()
                || ip.is_unicast_link_local()
                || ip.is_unspecified()
                || inside(ip).is_some_and(is_local_v4)
                // Where clouds tell machines their secrets, beside 169.254.169.254.
                || ip == Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254)
        }
    }
}

const fn is_local_v4(ip: Ipv4Addr) -> bool {
    // `0.x`: this machine, for many a kernel.
    ip.is_loopback() || ip.is_link_local() || ip.octets()[0] == 0
}

/// The address of IPv4 in one of IPv6: mapped or compatible (RFC 4291 section 2.5.5), translated (RFC 6052), by 6to4 (RFC 3056).
fn inside(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let ([0, 0, 0, 0, 0, 0 | 0xffff, high, low]
    | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
    | [0x2002, high, low, ..]) = ip.segments()
    else {
        return None;
    };
    Some(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)))
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
            chosen: Chosen::ByConfig,
            leads_here: Arc::default(),
        })
    }

    /// The same on somebody else's word: a name that leads to this machine or its link leads nowhere.
    #[must_use]
    pub fn chosen_by_others(mut self) -> Self {
        self.chosen = Chosen::ByOthers;
        self
    }

    /// Whether it proves who it is.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.url.scheme().is_tls()
    }

    /// Whether it is at an address that only this machine, its link, or nobody has: nobody else's word leads there.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self.url.ip() {
            Some(ip) => is_local(ip),
            // RFC 6761 section 6.3.
            None if self.url.host() == "localhost" => true,
            None => self.leads_here.load(Ordering::Relaxed),
        }
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
        let leads: Arc<dyn Names> = Arc::new(Leads {
            names: Arc::clone(names),
            chosen: self.chosen,
            here: Arc::clone(&self.leads_here),
        });
        let outside = Outside {
            names: &leads,
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
    use std::net::TcpListener;
    use std::sync::Mutex;

    use pingora::server::configuration::ServerConf;

    use super::*;
    use crate::base::clock::SystemClock;

    /// Names that lead to one address after the other.
    struct Rebound(Mutex<Vec<Vec<IpAddr>>>);

    #[async_trait]
    impl Names for Rebound {
        async fn look_up(&self, _host: &str) -> Result<Found, NameError> {
            let mut answers = self.0.lock().unwrap();
            let addresses = match answers.len() {
                1 => answers[0].clone(),
                _ => answers.remove(0),
            };
            let ttl = Duration::from_millis(1);
            Ok(Found { addresses, ttl })
        }
    }

    /// Asks somebody on somebody else's word, or not; whether anybody knocked here.
    async fn knocks(addresses: &[&[&str]], chosen: Chosen) -> (bool, bool) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        let answers = addresses.iter().map(|answer| {
            let parsed = answer.iter().map(|ip| ip.parse().unwrap());
            parsed.collect()
        });
        let names: Arc<dyn Names> = Arc::new(Rebound(Mutex::new(answers.collect())));
        let mut remote = Remote::parse(&format!("http://keys.test:{port}/keys")).unwrap();
        if chosen == Chosen::ByOthers {
            remote = remote.chosen_by_others();
        }
        let spawner = Spawner::new(tokio::runtime::Handle::current());
        let clock: SharedClock = Arc::new(SystemClock);
        let _guards = remote.start(&names, &spawner, &clock).await;
        let http = Http::new(&ServerConf::default());
        let question = (Method::GET, Bytes::new());
        let asked = remote.ask(&http, question, &[], 1024);
        let patience = Duration::from_secs(20);
        let accept = async {
            loop {
                if listener.accept().is_ok() {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        let knocked = tokio::select! {
            biased;
            () = accept => true,
            _ = asked => listener.accept().is_ok(),
            () = tokio::time::sleep(patience) => false,
        };
        (knocked, remote.is_local())
    }

    #[tokio::test]
    async fn nobody_elses_word_leads_to_this_machine() {
        // What the config says does.
        assert_eq!(
            knocks(&[&["127.0.0.1"]], Chosen::ByConfig).await,
            (true, true)
        );
        for answer in [
            &["127.0.0.1"][..],
            &["::ffff:127.0.0.1"],
            &["192.0.2.1", "127.0.0.1"],
            &["127.0.0.1", "192.0.2.1"],
            &["0.0.0.0"],
            &["::1"],
            &["::"],
        ] {
            let (knocked, _) = knocks(&[answer], Chosen::ByOthers).await;
            assert!(!knocked, "{answer:?}");
        }
    }

    #[tokio::test]
    async fn a_name_that_moves_here_is_not_followed() {
        let names: Arc<dyn Names> = Arc::new(Rebound(Mutex::new(vec![
            vec![[192, 0, 2, 1].into()],
            vec![[127, 0, 0, 1].into()],
        ])));
        let leads = |chosen| Leads {
            names: Arc::clone(&names),
            chosen,
            here: Arc::default(),
        };
        let others = leads(Chosen::ByOthers);
        assert!(others.look_up("keys.test").await.is_ok());
        assert!(others.look_up("keys.test").await.is_err());
        let config = leads(Chosen::ByConfig);
        assert!(config.look_up("id.test").await.is_ok());
        assert!(config.here.load(Ordering::Relaxed));
    }

    #[test]
    fn an_address_is_local_in_whatever_form() {
        for (ip, local) in [
            ("127.0.0.1", true),
            ("127.8.9.10", true),
            ("169.254.169.254", true),
            ("0.0.0.0", true),
            ("0.1.2.3", true),
            ("::1", true),
            ("::", true),
            ("fe80::1", true),
            ("::ffff:169.254.169.254", true),
            ("::127.0.0.1", true),
            ("64:ff9b::7f00:1", true),
            ("2002:a9fe:a9fe::1", true),
            ("fd00:ec2::254", true),
            ("10.0.0.1", false),
            ("192.0.2.1", false),
            ("128.0.0.1", false),
            ("2001:db8::1", false),
            ("::ffff:192.0.2.1", false),
            ("fd00::1", false),
        ] {
            assert_eq!(is_local(ip.parse().unwrap()), local, "{ip}");
        }
        for url in [
            "http://localhost/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::1]:8080/",
        ] {
            assert!(Remote::parse(url).unwrap().is_local(), "{url}");
        }
        // No number is an address: it is a name, and looked at when it is looked up.
        for url in ["http://2130706433/", "http://0177.0.0.1/", "http://0x7f.1/"] {
            let found = Remote::parse(url);
            assert!(found.is_err() || found.unwrap().url.ip().is_none(), "{url}");
        }
    }

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
        assert_eq!(named, USER_IN_URL);
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
