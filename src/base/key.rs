//! What makes requests alike: `client_ip`, `header:x-tenant`, several of these together.

use std::fmt;
use std::hash::{DefaultHasher, Hasher as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use http::HeaderName;

use super::list::OneOrMany;
use super::units::{TextError, TextForm, text_form};

/// What makes requests alike, as the config writes it: one part, or several together.
pub type Key = OneOrMany<KeyPart>;

/// One thing of a request that makes it like others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyPart {
    /// The client's address, or its network of so many bits: `client_ip/64`. What is more than an IPv4 address has means 24
    /// bits of one; up to 32 bits are meant for IPv4, and mean 64 bits of an IPv6 address.
    ClientIp(Option<u8>),
    /// Who asks.
    Consumer,
    /// By what it proved that.
    Credential,
    /// The plan of who asks.
    Plan,
    /// The route.
    Route,
    /// The host that was asked for.
    Host,
    /// A header.
    Header(HeaderName),
    /// A parameter of the query.
    Query(Box<str>),
    /// A cookie.
    Cookie(Box<str>),
    /// A claim of the token.
    Claim(Box<str>),
    /// A parameter of the route's path.
    Param(Box<str>),
}

const WORDS: &str = "`client_ip`, `consumer`, `credential`, `plan`, `route`, `host`, `header:x`, `query:x`, `cookie:x`, `claim:x` or `param:x`";

impl TextForm for KeyPart {
    const WHAT: &'static str = "a key";
    const EXAMPLE: &'static str = "header:x-tenant";
    const PATTERN: &'static str = "client_ip(?:/[0-9]{1,3})?|consumer|credential|plan|route|host|(?:header|query|cookie|claim|param):.+";
}

text_form!(KeyPart);

impl FromStr for KeyPart {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let unknown = || TextError::new(format!("`{text}` is not a key: write {WORDS}"));
        if let Some(bits) = text.strip_prefix("client_ip/") {
            let bits = bits.parse().ok().filter(|bits| (1..=128).contains(bits));
            let wrong = || {
                TextError::new(format!(
                    "`{text}`: the bits of a network are a number from 1 to 128, e.g. `client_ip/64`"
                ))
            };
            return bits
                .map(|bits| Self::ClientIp(Some(bits)))
                .ok_or_else(wrong);
        }
        let Some((kind, name)) = text.split_once(':') else {
            return match text {
                "client_ip" => Ok(Self::ClientIp(None)),
                "consumer" => Ok(Self::Consumer),
                "credential" => Ok(Self::Credential),
                "plan" => Ok(Self::Plan),
                "route" => Ok(Self::Route),
                "host" => Ok(Self::Host),
                _ => Err(unknown()),
            };
        };
        if name.is_empty() {
            return Err(TextError::new(format!(
                "`{text}` names nothing: write e.g. `{kind}:x`"
            )));
        }
        match kind {
            "header" => name
                .parse()
                .map(Self::Header)
                .map_err(|_error| TextError::new(format!("`{name}` is not the name of a header"))),
            "query" => Ok(Self::Query(name.into())),
            "cookie" => Ok(Self::Cookie(name.into())),
            "claim" => Ok(Self::Claim(name.into())),
            "param" => Ok(Self::Param(name.into())),
            _ => Err(unknown()),
        }
    }
}

impl fmt::Display for KeyPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientIp(None) => f.write_str("client_ip"),
            Self::ClientIp(Some(bits)) => write!(f, "client_ip/{bits}"),
            Self::Consumer => f.write_str("consumer"),
            Self::Credential => f.write_str("credential"),
            Self::Plan => f.write_str("plan"),
            Self::Route => f.write_str("route"),
            Self::Host => f.write_str("host"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Query(name) => write!(f, "query:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Claim(name) => write!(f, "claim:{name}"),
            Self::Param(name) => write!(f, "param:{name}"),
        }
    }
}

/// A hash of the parts of a key: the same on every machine that runs this version.
#[derive(Debug, Default)]
pub struct KeyHash(DefaultHasher);

impl KeyHash {
    /// Adds a part, or that it is missing; says whether it is there.
    pub fn part(&mut self, bytes: Option<&[u8]>) -> bool {
        self.0.write(bytes.unwrap_or_default());
        // No text has these bytes: what ends here cannot end anywhere else.
        self.0.write_u8(if bytes.is_some() { 0xff } else { 0xfe });
        bytes.is_some()
    }

    /// Adds an address, or that it is missing; says whether it is there.
    pub fn ip(&mut self, ip: Option<IpAddr>) -> bool {
        match ip {
            Some(IpAddr::V4(ip)) => self.part(Some(&ip.octets())),
            Some(IpAddr::V6(ip)) => self.part(Some(&ip.octets())),
            None => self.part(None),
        }
    }

    /// The hash of all parts.
    #[must_use]
    pub fn finish(&self) -> u64 {
        self.0.finish()
    }
}

/// The network of `ip` as `client_ip/BITS` means it.
#[must_use]
pub fn network_of(ip: IpAddr, bits: u8) -> IpAddr {
    let cut = |kept: u8, of: u8| u32::from(of.saturating_sub(kept));
    match ip {
        IpAddr::V4(ip) => {
            let kept = if bits <= 32 { bits } else { 24 };
            let mask = u32::MAX.checked_shl(cut(kept, 32)).unwrap_or(0);
            Ipv4Addr::from_bits(ip.to_bits() & mask).into()
        }
        IpAddr::V6(ip) => {
            let kept = if bits > 32 { bits } else { 64 };
            let mask = u128::MAX.checked_shl(cut(kept, 128)).unwrap_or(0);
            Ipv6Addr::from_bits(ip.to_bits() & mask).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_written_alike() {
        for text in [
            "client_ip",
            "client_ip/64",
            "consumer",
            "credential",
            "route",
            "host",
            "header:x-tenant",
            "query:page",
            "cookie:session",
            "claim:azp",
            "param:id",
        ] {
            assert_eq!(text.parse::<KeyPart>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for text in [
            "",
            "ip",
            "header:",
            "header:a b",
            "client_ip/0",
            "client_ip/129",
            "client_ip/x",
            "headers:x",
        ] {
            assert!(text.parse::<KeyPart>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_network_has_its_bits_in_either_family() {
        let cut = |ip: &str, bits| network_of(ip.parse().unwrap(), bits).to_string();
        assert_eq!(cut("192.0.2.77", 64), "192.0.2.0");
        assert_eq!(cut("192.0.2.77", 16), "192.0.0.0");
        assert_eq!(cut("192.0.2.77", 32), "192.0.2.77");
        assert_eq!(cut("2001:db8:1:2:3:4:5:6", 64), "2001:db8:1:2::");
        assert_eq!(cut("2001:db8:1:2:3:4:5:6", 48), "2001:db8:1::");
        assert_eq!(cut("2001:db8:1:2:3:4:5:6", 24), "2001:db8:1:2::");
        assert_eq!(cut("2001:db8:1:2:3:4:5:6", 128), "2001:db8:1:2:3:4:5:6");
    }
}
