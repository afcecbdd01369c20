//! The header that a load balancer sends before everything else, to say whose connection it passes on (PROXY protocol, versions
//! 1 and 2 of the specification of 2020/03/05). Whatever is not exactly well formed is refused.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::net::canonical_ip;

/// What the first bytes of a connection say so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Header {
    /// There is more to come.
    Partial,
    /// So many bytes are the header; the client, unless it is the sender itself.
    Whole(usize, Option<SocketAddr>),
    /// Something else is spoken.
    Absent,
    /// It begins like one, and is none.
    Malformed,
}

const V1: &[u8] = b"PROXY ";
/// Section 2.1: the longest line, with its end.
const V1_BYTES_MAX: usize = 107;
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const V2_HEAD_BYTES: usize = 16;
/// More than addresses and a few extensions is no header but a burden.
const V2_BODY_BYTES_MAX: usize = 4 * 1024;
/// The extension that holds a CRC-32C of the whole header (section 2.2.3).
const TYPE_CRC32C: u8 = 3;

/// Reads the header at the beginning of `bytes`.
#[must_use]
pub fn read(bytes: &[u8]) -> Header {
    if bytes.starts_with(V1) {
        return version1(bytes);
    }
    if bytes.starts_with(V2) {
        return version2(bytes).unwrap_or(Header::Partial);
    }
    if V1.starts_with(bytes) || V2.starts_with(bytes) {
        Header::Partial
    } else {
        Header::Absent
    }
}

fn version1(bytes: &[u8]) -> Header {
    let seen = bytes.get(..bytes.len().min(V1_BYTES_MAX)).unwrap_or(bytes);
    let Some(end) = seen.iter().position(|byte| *byte == b'\n') else {
        return if bytes.len() < V1_BYTES_MAX {
            Header::Partial
        } else {
            Header::Malformed
        };
    };
    let line = seen.get(..end).and_then(|line| line.strip_suffix(b"\r"));
    let line = line.and_then(|line| std::str::from_utf8(line).ok());
    match line.and_then(client_of_line) {
        Some(client) => Header::Whole(end + 1, client),
        None => Header::Malformed,
    }
}

fn client_of_line(line: &str) -> Option<Option<SocketAddr>> {
    let mut words = line.split(' ').skip(1);
    let family = words.next()?;
    if family == "UNKNOWN" {
        return Some(None);
    }
    let (source, target) = (words.next()?, words.next()?);
    let (source_port, target_port) = (port(words.next()?)?, port(words.next()?)?);
    if words.next().is_some() {
        return None;
    }
    let (source, target) = match family {
        "TCP4" => (four(source)?, four(target)?),
        "TCP6" => (six(source)?, six(target)?),
        _ => return None,
    };
    // Where it was to go is of no interest, but has to be well formed.
    let (_, _) = (target, target_port);
    Some(Some(SocketAddr::new(canonical_ip(source), source_port)))
}

fn four(text: &str) -> Option<IpAddr> {
    text.parse::<Ipv4Addr>().ok().map(IpAddr::V4)
}

fn six(text: &str) -> Option<IpAddr> {
    text.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
}

fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let padded = text.len() > 1 && text.starts_with('0');
    text.parse().ok().filter(|_| plain && !padded)
}

/// `None`: it is not whole yet.
fn version2(bytes: &[u8]) -> Option<Header> {
    let head = bytes.get(..V2_HEAD_BYTES)?;
    let [command, family, high, low] = *head.last_chunk::<4>()?;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > V2_BODY_BYTES_MAX || !matches!(command, 0x20 | 0x21) {
        return Some(Header::Malformed);
    }
    let whole = V2_HEAD_BYTES + length;
    let bytes = bytes.get(..whole)?;
    let body = bytes.get(V2_HEAD_BYTES..)?;
    let (addresses, client) = match (family >> 4, family & 15) {
        (1, 1 | 2) => (
            12,
            ends(body).map(|(ip, port): ([u8; 4], u16)| (ip.into(), port)),
        ),
        (2, 1 | 2) => (
            36,
            ends(body).map(|(ip, port): ([u8; 16], u16)| (ip.into(), port)),
        ),
        (3, 1 | 2) => (216, None),
        (0, 0) => (0, None),
        _ => return Some(Header::Malformed),
    };
    let Some(extensions) = body.get(addresses..) else {
        return Some(Header::Malformed);
    };
    // Whoever says nothing of the family may say anything behind it.
    if family != 0 && !extensions_hold(bytes, whole - extensions.len(), extensions) {
        return Some(Header::Malformed);
    }
    let client = client.map(|(ip, port): (IpAddr, u16)| SocketAddr::new(canonical_ip(ip), port));
    // LOCAL: the sender's own connection, a probe of its health.
    Some(Header::Whole(whole, client.filter(|_| command == 0x21)))
}

/// The client's address and port: two addresses, then two ports.
fn ends<const N: usize>(body: &[u8]) -> Option<([u8; N], u16)> {
    let address = body.first_chunk::<N>()?;
    let port = body.get(2 * N..)?.first_chunk::<2>()?;
    Some((*address, u16::from_be_bytes(*port)))
}

/// Which version of the header is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// A line of text.
    One,
    /// Binary.
    Two,
}

/// The header that says that a connection is `client`'s, which was made to `gateway`; without them it says that nothing is known.
#[must_use]
pub fn write(version: Version, ends: Option<(SocketAddr, SocketAddr)>) -> Vec<u8> {
    let ends = ends.map(|(client, gateway)| {
        let (from, to) = (canonical_ip(client.ip()), canonical_ip(gateway.ip()));
        (from, client.port(), to, gateway.port())
    });
    match version {
        Version::One => line(ends).into_bytes(),
        Version::Two => binary(ends),
    }
}

type Ends = (IpAddr, u16, IpAddr, u16);

/// Section 2.1. Both addresses are of one family: where they are not, IPv6 has a form for those of IPv4.
fn line(ends: Option<Ends>) -> String {
    match ends {
        None => "PROXY UNKNOWN\r\n".to_owned(),
        Some((IpAddr::V4(from), port, IpAddr::V4(to), to_port)) => {
            format!("PROXY TCP4 {from} {to} {port} {to_port}\r\n")
        }
        Some((from, port, to, to_port)) => {
            let (from, to) = (wide(from), wide(to));
            format!("PROXY TCP6 {from} {to} {port} {to_port}\r\n")
        }
    }
}

/// Section 2.2: PROXY, and a stream; LOCAL where nothing is known.
fn binary(ends: Option<Ends>) -> Vec<u8> {
    let (command, family, body) = match ends {
        None => (0x20, 0, Vec::new()),
        Some((IpAddr::V4(from), port, IpAddr::V4(to), to_port)) => {
            let ends = [from.octets(), to.octets()].concat();
            (0x21, 0x11, with_ports(ends, port, to_port))
        }
        Some((from, port, to, to_port)) => {
            let ends = [wide(from).octets(), wide(to).octets()].concat();
            (0x21, 0x21, with_ports(ends, port, to_port))
        }
    };
    let length = u16::try_from(body.len()).unwrap_or(0).to_be_bytes();
    [V2, &[command, family], &length, &body].concat()
}

fn with_ports(mut ends: Vec<u8>, from: u16, to: u16) -> Vec<u8> {
    ends.extend(from.to_be_bytes());
    ends.extend(to.to_be_bytes());
    ends
}

const fn wide(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    }
}

/// Whether the extensions end where the header ends, and its checksum is right if there is one.
fn extensions_hold(header: &[u8], begin: usize, extensions: &[u8]) -> bool {
    let (mut rest, mut at) = (extensions, begin);
    while let Some(([kind, high, low], after)) = rest.split_first_chunk::<3>() {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let Some((value, after)) = after.split_at_checked(length) else {
            return false;
        };
        at += 3;
        if *kind == TYPE_CRC32C {
            let Ok(sum) = <[u8; 4]>::try_from(value) else {
                return false;
            };
            if crc32c(header, at..at + 4) != u32::from_be_bytes(sum) {
                return false;
            }
        }
        at += length;
        rest = after;
    }
    rest.is_empty()
}

/// CRC-32C (RFC 9260 appendix A), where the bytes in `zero` count as zero.
fn crc32c(bytes: &[u8], zero: std::ops::Range<usize>) -> u32 {
    let mut sum = u32::MAX;
    for (index, byte) in bytes.iter().enumerate() {
        let byte = if zero.contains(&index) { 0 } else { *byte };
        sum ^= u32::from(byte);
        for _ in 0..8 {
            sum = (sum >> 1) ^ (0x82f6_3b78 & (sum & 1).wrapping_neg());
        }
    }
    !sum
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn addr(text: &str) -> Option<SocketAddr> {
        Some(text.parse().unwrap())
    }

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = V2.to_vec();
        bytes.extend([command, family]);
        bytes.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        bytes.extend(body);
        bytes
    }

    const FOUR: [u8; 12] = [192, 0, 2, 7, 10, 0, 0, 1, 0x30, 0x39, 1, 187];

    #[test]
    fn version_1_says_who_the_client_is() {
        let cases = [
            (
                "PROXY TCP4 192.0.2.7 10.0.0.1 12345 443\r\n",
                addr("192.0.2.7:12345"),
            ),
            (
                "PROXY TCP6 2001:db8::7 ::1 1 65535\r\n",
                addr("[2001:db8::7]:1"),
            ),
            (
                "PROXY TCP6 ::ffff:192.0.2.7 ::1 1 2\r\n",
                addr("192.0.2.7:1"),
            ),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN ffff:f...f:ffff whatever\r\n", None),
        ];
        for (line, client) in cases {
            let text = format!("{line}GET / HTTP/1.1\r\n");
            assert_eq!(
                read(text.as_bytes()),
                Header::Whole(line.len(), client),
                "{line}"
            );
            for length in 0..line.len() {
                assert_eq!(
                    read(&line.as_bytes()[..length]),
                    Header::Partial,
                    "{line} {length}"
                );
            }
        }
    }

    #[test]
    fn a_line_that_is_not_exact_is_none() {
        for line in [
            "PROXY TCP4 192.0.2.7 10.0.0.1 12345 443\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 12345\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 12345 443 \r\n",
            "PROXY TCP4  192.0.2.7 10.0.0.1 12345 443\r\n",
            "PROXY TCP4 192.0.2.07 10.0.0.1 12345 443\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 012345 443\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 +1 443\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.1 65536 443\r\n",
            "PROXY TCP4 2001:db8::7 ::1 1 2\r\n",
            "PROXY TCP6 192.0.2.7 10.0.0.1 1 2\r\n",
            "PROXY TCP6 ::1%eth0 ::1 1 2\r\n",
            "PROXY tcp4 192.0.2.7 10.0.0.1 1 2\r\n",
            "PROXY UDP4 192.0.2.7 10.0.0.1 1 2\r\n",
            "PROXY \r\n",
        ] {
            assert_eq!(read(line.as_bytes()), Header::Malformed, "{line}");
        }
        let endless = [b"PROXY UNKNOWN ", &[b'x'; 200][..]].concat();
        assert_eq!(read(&endless), Header::Malformed);
        assert_eq!(read(b"GET / HTTP/1.1\r\n"), Header::Absent);
        assert_eq!(read(b"PROXYTCP4"), Header::Absent);
    }

    #[test]
    fn version_2_says_who_the_client_is() {
        let mut six = [0; 36];
        six[..2].copy_from_slice(&[0x20, 1]);
        six[15] = 7;
        six[32..34].copy_from_slice(&[0, 9]);
        let extended = [&FOUR[..], &[4, 0, 2, 0, 0]].concat();
        let cases = [
            (v2(0x21, 0x11, &FOUR), addr("192.0.2.7:12345")),
            (v2(0x21, 0x12, &FOUR), addr("192.0.2.7:12345")),
            (v2(0x21, 0x11, &extended), addr("192.0.2.7:12345")),
            (v2(0x21, 0x21, &six), addr("[2001::7]:9")),
            (v2(0x21, 0x31, &[0; 216]), None),
            (v2(0x20, 0x11, &FOUR), None),
            (v2(0x20, 0, &[]), None),
            (v2(0x21, 0, b"whatever"), None),
        ];
        for (bytes, client) in cases {
            let followed = [&bytes[..], b"GET /"].concat();
            assert_eq!(
                read(&followed),
                Header::Whole(bytes.len(), client),
                "{bytes:?}"
            );
            for length in 0..bytes.len() {
                assert_eq!(
                    read(&bytes[..length]),
                    Header::Partial,
                    "{bytes:?} {length}"
                );
            }
        }
    }

    #[test]
    fn a_version_2_that_is_not_exact_is_none() {
        for bytes in [
            v2(0x11, 0x11, &FOUR),
            v2(0x22, 0x11, &FOUR),
            v2(0x21, 0x13, &FOUR),
            v2(0x21, 0x41, &FOUR),
            v2(0x21, 0x11, &FOUR[..11]),
            v2(0x21, 0x21, &FOUR),
            v2(0x21, 0x11, &[&FOUR[..], &[4, 0, 9, 0]].concat()),
            v2(0x21, 0x11, &[&FOUR[..], &[4, 0]].concat()),
            v2(0x21, 0x11, &[0; 5000]),
        ] {
            assert_eq!(read(&bytes), Header::Malformed, "{bytes:?}");
        }
    }

    #[test]
    fn a_checksum_is_checked() {
        assert_eq!(crc32c(b"123456789", 0..0), 0xe306_9283);
        let mut bytes = v2(
            0x21,
            0x11,
            &[&FOUR[..], &[TYPE_CRC32C, 0, 4, 0, 0, 0, 0]].concat(),
        );
        assert_eq!(read(&bytes), Header::Malformed);
        let end = bytes.len();
        let sum = crc32c(&bytes, end - 4..end).to_be_bytes();
        bytes[end - 4..].copy_from_slice(&sum);
        assert_eq!(read(&bytes), Header::Whole(end, addr("192.0.2.7:12345")));
        bytes[17] ^= 1;
        assert_eq!(read(&bytes), Header::Malformed);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), version in 0u8..3) {
            let start = match version { 0 => &b""[..], 1 => V1, _ => V2 };
            let bytes = [start, &bytes].concat();
            if let Header::Whole(length, _) = read(&bytes) {
                prop_assert!(length <= bytes.len());
            }
        }
    }

    #[test]
    fn what_is_written_is_read_the_same() {
        let all = [
            ("192.0.2.1:51000", "198.51.100.7:443"),
            ("[2001:db8::1]:51000", "[2001:db8::2]:443"),
            ("[2001:db8::1]:1", "192.0.2.1:65535"),
            ("192.0.2.1:0", "[2001:db8::2]:443"),
            ("[::ffff:192.0.2.1]:7", "192.0.2.2:8"),
        ];
        for version in [Version::One, Version::Two] {
            for (client, gateway) in all {
                let client: SocketAddr = client.parse().unwrap();
                let written = write(version, Some((client, gateway.parse().unwrap())));
                let client = SocketAddr::new(canonical_ip(client.ip()), client.port());
                assert_eq!(read(&written), Header::Whole(written.len(), Some(client)));
            }
            let unknown = write(version, None);
            assert_eq!(read(&unknown), Header::Whole(unknown.len(), None));
        }
    }
}
