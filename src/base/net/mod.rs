//! Networks, the addresses the gateway listens on, and the addresses it calls.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::units::{TextError, TextForm, text_form};

mod list;
mod listen;
mod ranges;
mod target;
#[cfg(test)]
mod tests;

pub use list::NetList;
pub use listen::ListenAddress;
use ranges::Ranges;
pub use target::{TargetScheme, TargetUrl, USER_IN_URL, user_of};

text_form!(Net, ListenAddress, TargetUrl);

/// IPv4-mapped IPv6 (`::ffff:192.0.2.1`, RFC 4291 §2.5.5.2) is the IPv4 address it stands for.
#[must_use]
pub fn canonical_ip(ip: IpAddr) -> IpAddr {
    ip.to_canonical()
}

/// The first address of the network that `ip` is in: `v4_bits` long for IPv4 (at most 32), `v6_bits` for IPv6 (at most 128).
/// One client often has a whole /64.
#[must_use]
pub fn network_of(ip: IpAddr, v4_bits: u8, v6_bits: u8) -> IpAddr {
    match canonical_ip(ip) {
        IpAddr::V4(ip) => {
            let mask = u32::MAX
                .checked_shl(32_u32.saturating_sub(v4_bits.into()))
                .unwrap_or(0);
            Ipv4Addr::from_bits(ip.to_bits() & mask).into()
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX
                .checked_shl(128_u32.saturating_sub(v6_bits.into()))
                .unwrap_or(0);
            Ipv6Addr::from_bits(ip.to_bits() & mask).into()
        }
    }
}

/// A network or a single address: `10.0.0.0/8`, `2001:db8::/32`, `192.0.2.7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Net(IpNet);

impl Net {
    /// In CIDR form; an IPv4-mapped network is the IPv4 network.
    #[must_use]
    pub fn ip_net(self) -> IpNet {
        self.0
    }
}

impl TextForm for Net {
    const WHAT: &'static str = "a network";
    const EXAMPLE: &'static str = "10.0.0.0/8";
    const PATTERN: &'static str = r"[0-9A-Fa-f:.]+(?:/[0-9]{1,3})?";
}

impl FromStr for Net {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self(canonical_ip(ip).into()));
        }
        let net = parse_net(text).ok_or_else(|| no_net(text))?;
        if net.trunc() != net {
            let (right, one) = (net.trunc(), net.addr());
            return Err(TextError::new(format!(
                "`{text}` has bits set beyond its prefix: write `{right}`, or `{one}` for the one address"
            )));
        }
        Ok(Self(unmapped(net)))
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() {
            write!(f, "{}", self.0.addr())
        } else {
            write!(f, "{}", self.0)
        }
    }
}

/// Stricter than `IpNet`, which reads `010.0.0.0/8`: to others that is octal.
fn parse_net(text: &str) -> Option<IpNet> {
    let (ip, prefix) = text.split_once('/')?;
    let plain = prefix.bytes().all(|byte| byte.is_ascii_digit());
    let prefix = prefix.parse().ok().filter(|_| plain)?;
    IpNet::new(ip.parse().ok()?, prefix).ok()
}

fn no_net(text: &str) -> TextError {
    let hint = match text.split_once('/') {
        Some((ip, _)) if ip.parse::<Ipv4Addr>().is_ok() => "the prefix is a number from 0 to 32",
        Some((ip, _)) if ip.parse::<Ipv6Addr>().is_ok() => "the prefix is a number from 0 to 128",
        _ => "write an address or e.g. `10.0.0.0/8`",
    };
    TextError::new(format!("`{text}` is not a network: {hint}"))
}

fn unmapped(net: IpNet) -> IpNet {
    match net {
        IpNet::V6(v6) if v6.prefix_len() >= 96 => {
            let v4 = v6.addr().to_ipv4_mapped();
            let v4 = v4.and_then(|ip| Ipv4Net::new(ip, v6.prefix_len() - 96).ok());
            v4.map_or(net, IpNet::V4)
        }
        IpNet::V4(_) | IpNet::V6(_) => net,
    }
}

/// A set of networks, asked by binary search. `::/0` is every IPv6 address and no IPv4 one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetSet {
    v4: Vec<(u32, u32)>,
    v6: Ranges,
}

impl NetSet {
    /// Whether `ip` is in one of the networks; IPv4-mapped IPv6 counts as IPv4.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        match canonical_ip(ip) {
            IpAddr::V4(ip) => holds(&self.v4, ip.to_bits()),
            IpAddr::V6(ip) => self.v6.holds(ip.to_bits()),
        }
    }

    /// Whether it holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

impl From<Vec<IpNet>> for NetSet {
    fn from(nets: Vec<IpNet>) -> Self {
        nets.into_iter().collect()
    }
}

impl FromIterator<Net> for NetSet {
    fn from_iter<I: IntoIterator<Item = Net>>(nets: I) -> Self {
        nets.into_iter().map(Net::ip_net).collect()
    }
}

impl FromIterator<IpNet> for NetSet {
    fn from_iter<I: IntoIterator<Item = IpNet>>(nets: I) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for net in nets {
            match unmapped(net) {
                IpNet::V4(net) => v4.push(range_v4(net)),
                IpNet::V6(net) => v6.push(range_v6(net)),
            }
        }
        Self {
            v4: merged(v4, |end| end.checked_add(1)),
            v6: Ranges::new(&merged(v6, |end| end.checked_add(1))),
        }
    }
}

fn range_v4(net: Ipv4Net) -> (u32, u32) {
    (net.network().to_bits(), net.broadcast().to_bits())
}

fn range_v6(net: Ipv6Net) -> (u128, u128) {
    (net.network().to_bits(), net.broadcast().to_bits())
}

/// Sorted, and no two ranges meet.
fn merged<T: Copy + Ord>(mut ranges: Vec<(T, T)>, next: impl Fn(T) -> Option<T>) -> Vec<(T, T)> {
    ranges.sort_unstable();
    ranges.dedup_by(|later, kept| {
        let meets = next(kept.1).is_none_or(|next| later.0 <= next);
        if meets {
            kept.1 = kept.1.max(later.1);
        }
        meets
    });
    ranges
}

fn holds<T: Copy + Ord>(ranges: &[(T, T)], wanted: T) -> bool {
    let after = ranges.partition_point(|(start, _)| *start <= wanted);
    let last = after.checked_sub(1).and_then(|at| ranges.get(at));
    last.is_some_and(|(_, end)| wanted <= *end)
}
