//! Names of targets: asked asynchronously, asked again as their time to live ends, the last good answer kept.

use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;

use super::Upstream;

/// A shorter time to live is taken for this: a name is not asked for with every request.
pub(super) const TTL_MIN: Duration = Duration::from_secs(1);
/// A longer one is taken for this: a move is noticed within the hour.
pub(super) const TTL_MAX: Duration = Duration::from_secs(3600);

/// What a name stands for.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its addresses, in the order of the answer.
    pub addresses: Vec<IpAddr>,
    /// How long the answer may be used.
    pub ttl: Duration,
}

/// Why a name has no address.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NameError(pub String);

/// Somebody who knows names.
#[async_trait]
pub trait Names: Send + Sync {
    /// The addresses of `host`.
    async fn look_up(&self, host: &str) -> Result<Found, NameError>;
}

/// The names of `/etc/hosts` and of the name servers in `/etc/resolv.conf`.
#[derive(Debug)]
pub struct SystemNames(Option<TokioResolver>);

impl SystemNames {
    /// Reads the system's settings; without any, every name is unknown.
    #[must_use]
    pub fn new() -> Self {
        let resolver = TokioResolver::builder_tokio().and_then(|mut builder| {
            // Both kinds: who serves `localhost` may do so at one of them only.
            builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
            builder.build()
        });
        match resolver {
            Ok(resolver) => Self(Some(resolver)),
            Err(error) => {
                log::warn!(error:% = error; "no name servers are known; targets need addresses");
                Self(None)
            }
        }
    }
}

impl Default for SystemNames {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Names for SystemNames {
    #[expect(
        clippy::disallowed_methods,
        reason = "the resolver counts its time to live on the machine's clock"
    )]
    async fn look_up(&self, host: &str) -> Result<Found, NameError> {
        let resolver = self
            .0
            .as_ref()
            .ok_or_else(|| NameError("no name servers are known".to_owned()))?;
        let answer = resolver
            .lookup_ip(host)
            .await
            .map_err(|error| NameError(error.to_string()))?;
        let addresses: Vec<IpAddr> = answer.iter().collect();
        if addresses.is_empty() {
            return Err(NameError("the answer holds no address".to_owned()));
        }
        Ok(Found {
            addresses,
            ttl: answer
                .valid_until()
                .saturating_duration_since(std::time::Instant::now()),
        })
    }
}

/// Asks again and again for the name of target `index`, until the upstream is gone.
pub(super) async fn keep(
    owner: Arc<Upstream>,
    index: usize,
    names: Arc<dyn Names>,
    first: Duration,
) {
    let host = owner
        .targets
        .get(index)
        .map(|written| Arc::clone(&written.host));
    let upstream: Weak<Upstream> = Arc::downgrade(&owner);
    drop(owner);
    let (Some(host), mut wait) = (host, first) else {
        return;
    };
    loop {
        tokio::time::sleep(wait).await;
        let answer = names.look_up(&host).await;
        let Some(upstream) = upstream.upgrade() else {
            return;
        };
        wait = upstream.found(index, answer);
        upstream.rebuild();
    }
}
