//! Who the client is, when proxies stand before the gateway, and what the next hop is told about it.

use std::net::IpAddr;

use http::HeaderMap;
use http::header::FORWARDED;
use smallvec::SmallVec;

use super::net::{NetSet, canonical_ip};

mod element;
#[cfg(test)]
mod tests;
mod told;

pub use told::forwarded_for;

/// How many hops are walked; a longer chain of trusted proxies is a loop or a trick.
const HOPS_MAX: usize = 16;
/// The longest request id that is taken over.
const REQUEST_ID_BYTES_MAX: usize = 128;

const X_FORWARDED_FOR: &str = "x-forwarded-for";
const X_FORWARDED_PROTO: &str = "x-forwarded-proto";
const X_FORWARDED_HOST: &str = "x-forwarded-host";

/// How the client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Without TLS.
    Http,
    /// With TLS.
    Https,
}

impl Scheme {
    /// As in a URL.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Http, Self::Https]
            .into_iter()
            .find(|scheme| scheme.as_str().eq_ignore_ascii_case(text))
    }
}

/// The client of a request, and the hops between it and the gateway.
///
/// The peer of the socket is the client, unless it is trusted; then the last entry of `X-Forwarded-For` or `Forwarded` (RFC 7239),
/// which that peer wrote, names the hop before it; and so on from right to left. The walk ends at the first address that is not
/// trusted, at an entry that cannot be read (the hop that wrote it is then the client), or where the entries end.
///
/// When both headers are there, one of them may be the client's own, passed on by a proxy that only knows the other. Then only the hops
/// on which both agree count, and `conflict` says that they differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientChain {
    /// The client's address; never an IPv4-mapped one.
    pub client: IpAddr,
    /// How the client spoke to the first trusted proxy, when a trusted one says so.
    pub scheme: Option<Scheme>,
    /// The canonical host, and port, that the client asked for, when a trusted proxy says so.
    pub host: Option<String>,
    /// Whether the peer of the socket is a trusted proxy.
    pub trusted_peer: bool,
    /// Whether `Forwarded` and `X-Forwarded-*` contradict each other: who cares about addresses should refuse such a request.
    pub conflict: bool,
    peer: IpAddr,
    /// From the peer's neighbour to the client.
    hops: Hops,
}

type Hops = SmallVec<[IpAddr; 4]>;

impl ClientChain {
    /// Reads `headers`, when `peer` is in `trusted`.
    #[must_use]
    pub fn resolve(peer: IpAddr, trusted: &NetSet, headers: &HeaderMap) -> Self {
        let peer = canonical_ip(peer);
        if !trusted.contains(peer) {
            return Self::direct(peer);
        }
        let old = read_x_forwarded(trusted, headers);
        let new = read_forwarded(trusted, headers);
        let (hops, hops_differ) = common(new.hops, old.hops);
        let (scheme, schemes_differ) = agreed(new.scheme, old.scheme);
        let (host, hosts_differ) = agreed(new.host, old.host);
        let client = hops.last().copied().unwrap_or(peer);
        let conflict = hops_differ || schemes_differ || hosts_differ;
        Self {
            client,
            scheme,
            host,
            trusted_peer: true,
            conflict,
            peer,
            hops,
        }
    }

    /// The chain of a request whose client is the peer of the socket.
    #[must_use]
    pub fn direct(peer: IpAddr) -> Self {
        let peer = canonical_ip(peer);
        let (scheme, host, hops) = (None, None, Hops::new());
        Self {
            client: peer,
            scheme,
            host,
            trusted_peer: false,
            conflict: false,
            peer,
            hops,
        }
    }

    /// The peer of the socket.
    #[must_use]
    pub fn peer(&self) -> IpAddr {
        self.peer
    }

    /// From the client to the peer of the socket; what no trusted proxy vouches for is not in it.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.hops.iter().rev().copied().chain([self.peer])
    }
}

/// Whether a request id from outside may be taken over: 1 to 128 letters, digits, `.`, `_` and `-`, which mean nothing to any log,
/// header or query.
#[must_use]
pub fn request_id_valid(id: &str) -> bool {
    (1..=REQUEST_ID_BYTES_MAX).contains(&id.len())
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// What one kind of header says.
#[derive(Debug, Default)]
struct Claim {
    /// From the peer's neighbour on; `None` without the header.
    hops: Option<Hops>,
    scheme: Option<Scheme>,
    host: Option<String>,
}

fn read_x_forwarded(trusted: &NetSet, headers: &HeaderMap) -> Claim {
    let scheme = last_entry(headers, X_FORWARDED_PROTO).and_then(Scheme::parse);
    let host = last_entry(headers, X_FORWARDED_HOST).and_then(element::parse_host);
    if !headers.contains_key(X_FORWARDED_FOR) {
        return Claim {
            hops: None,
            scheme,
            host,
        };
    }
    let mut hops = Hops::new();
    'walk: for line in headers.get_all(X_FORWARDED_FOR).iter().rev() {
        let Ok(line) = line.to_str() else { break };
        for entry in line.rsplit(',') {
            let Some(hop) = element::parse_hop(entry.trim_matches([' ', '\t'])) else {
                break 'walk;
            };
            hops.push(hop);
            if !goes_on(&hops, trusted) {
                break 'walk;
            }
        }
    }
    Claim {
        hops: Some(hops),
        scheme,
        host,
    }
}

/// The element that describes the client's own connection is the last one walked to: its `proto` and `host` count.
fn read_forwarded(trusted: &NetSet, headers: &HeaderMap) -> Claim {
    if !headers.contains_key(FORWARDED) {
        return Claim::default();
    }
    let (mut hops, mut scheme, mut host) = (Hops::new(), None, None);
    'walk: for line in headers.get_all(FORWARDED).iter().rev() {
        let mut rest = line.to_str().ok();
        loop {
            let Some((before, element)) = rest.and_then(element::split_last) else {
                break 'walk;
            };
            (scheme, host) = (element.scheme, element.host);
            let Some(hop) = element.hop else { break 'walk };
            hops.push(hop);
            if !goes_on(&hops, trusted) {
                break 'walk;
            }
            if before.is_none() {
                break;
            }
            rest = before;
        }
    }
    Claim {
        hops: Some(hops),
        scheme,
        host,
    }
}

/// Whether the hop walked to last is trusted, so that what it wrote counts.
fn goes_on(hops: &Hops, trusted: &NetSet) -> bool {
    hops.len() < HOPS_MAX && hops.last().is_some_and(|hop| trusted.contains(*hop))
}

/// The last entry of a header that is a list: the peer's own.
fn last_entry<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let line = headers.get_all(name).iter().next_back()?.to_str().ok()?;
    line.rsplit(',')
        .next()
        .map(|entry| entry.trim_matches([' ', '\t']))
}

/// The hops that both name, and whether they differ after those.
fn common(new: Option<Hops>, old: Option<Hops>) -> (Hops, bool) {
    let (new, old) = match (new, old) {
        (Some(new), Some(old)) => (new, old),
        (new, old) => return (new.or(old).unwrap_or_default(), false),
    };
    let same: Hops = new
        .iter()
        .zip(&old)
        .take_while(|(new, old)| new == old)
        .map(|(hop, _)| *hop)
        .collect();
    let differ = same.len() != new.len() || same.len() != old.len();
    (same, differ)
}

fn agreed<T: PartialEq>(new: Option<T>, old: Option<T>) -> (Option<T>, bool) {
    match (&new, &old) {
        (Some(one), Some(other)) if one != other => (None, true),
        _ => (new.or(old), false),
    }
}
