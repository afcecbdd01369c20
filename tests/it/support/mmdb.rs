//! Files that say which country an address is of, as MaxMind writes them (MaxMind DB file format, version 2.0).

use std::net::{IpAddr, Ipv6Addr};

/// One end of the tree, or a node.
#[derive(Clone, Copy)]
enum Record {
    Nothing,
    Node(usize),
    Country(usize),
}

/// A file with these networks, each with its country.
pub(crate) fn countries(networks: &[(&str, &str)]) -> Vec<u8> {
    let mut nodes = vec![[Record::Nothing; 2]];
    let mut data = Vec::new();
    for (network, country) in networks {
        let (ip, bits) = network.split_once('/').unwrap();
        let bits: u32 = bits.parse().unwrap();
        let (ip, bits) = match ip.parse().unwrap() {
            IpAddr::V4(ip) => (u128::from(ip.to_bits()), bits + 96),
            IpAddr::V6(ip) => (Ipv6Addr::to_bits(ip), bits),
        };
        let mut at = 0;
        for depth in 0..bits {
            let side = usize::from(ip >> (127 - depth) & 1 == 1);
            if depth + 1 == bits {
                nodes[at][side] = Record::Country(data.len());
            } else if let Record::Node(next) = nodes[at][side] {
                at = next;
            } else {
                nodes.push([Record::Nothing; 2]);
                nodes[at][side] = Record::Node(nodes.len() - 1);
                at = nodes.len() - 1;
            }
        }
        data.extend(map(&[("country", map(&[("iso_code", text(country))]))]));
    }
    let count = nodes.len();
    let mut file = Vec::new();
    for record in nodes.iter().flatten() {
        let value = match *record {
            Record::Nothing => count,
            Record::Node(number) => number,
            Record::Country(offset) => count + 16 + offset,
        };
        file.extend(&u32::try_from(value).unwrap().to_be_bytes()[1..]);
    }
    file.extend([0; 16]);
    file.extend(data);
    file.extend(b"\xab\xcd\xefMaxMind.com");
    file.extend(map(&[
        ("node_count", number(6, count as u64)),
        ("record_size", number(5, 24)),
        ("ip_version", number(5, 6)),
        ("database_type", text("Test-Country")),
        ("languages", vec![0, 4]),
        ("binary_format_major_version", number(5, 2)),
        ("binary_format_minor_version", number(5, 0)),
        ("build_epoch", number(9, 1_700_000_000)),
        ("description", map(&[])),
    ]));
    file
}

fn text(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).unwrap();
    assert!(length < 29);
    let mut out = vec![2 << 5 | length];
    out.extend(text.as_bytes());
    out
}

fn map(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut out = vec![7 << 5 | u8::try_from(entries.len()).unwrap()];
    for (key, value) in entries {
        out.extend(text(key));
        out.extend(value);
    }
    out
}

/// An unsigned number of that type: 5, 6 or 9 have 16, 32 or 64 bits.
fn number(kind: u8, value: u64) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    let used = 8 - bytes.iter().take_while(|byte| **byte == 0).count();
    let length = u8::try_from(used).unwrap();
    let mut out = if kind < 8 {
        vec![kind << 5 | length]
    } else {
        vec![length, kind - 7]
    };
    out.extend(&bytes[8 - used..]);
    out
}
