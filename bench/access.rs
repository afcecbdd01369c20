//! What it costs to look an address up among 50,000 networks: `cargo bench --bench access`.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use doorward::base::net::NetSet;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

const LOOKUPS: u32 = 1 << 20;
const ROUNDS: usize = 15;

#[derive(Debug, Clone, Copy)]
enum Family {
    IPv4,
    IPv6,
}

#[expect(clippy::print_stdout, reason = "a report for whoever runs it")]
fn main() {
    for networks in [100, 50_000] {
        for family in [Family::IPv4, Family::IPv6] {
            let nets: NetSet = (0..networks).map(|at| network(at, family)).collect();
            let mut rounds: Vec<f64> = (0..ROUNDS).map(|_| nanos(&nets, family)).collect();
            rounds.sort_by(f64::total_cmp);
            let median = rounds.get(ROUNDS / 2).copied().unwrap_or_default();
            println!("{networks:>6} networks of {family:?}: {median:.1} ns a look-up");
        }
    }
}

/// Spread over everything, and no two meet.
fn spread(at: u32) -> u32 {
    at.wrapping_mul(0x9e37_79b1)
}

#[expect(clippy::expect_used, reason = "the prefixes are written here")]
fn network(at: u32, family: Family) -> IpNet {
    let bits = spread(at) & 0xffff_ff00;
    match family {
        Family::IPv4 => {
            let ip = Ipv4Addr::from_bits(bits);
            Ipv4Net::new(ip, 24).expect("24 is at most 32").into()
        }
        Family::IPv6 => {
            let ip = Ipv6Addr::from_bits(u128::from(bits) << 96);
            Ipv6Net::new(ip, 24).expect("24 is at most 128").into()
        }
    }
}

/// Half of the addresses are in one of the networks.
#[expect(clippy::disallowed_methods, reason = "it is time that is measured")]
fn nanos(nets: &NetSet, family: Family) -> f64 {
    let began = Instant::now();
    for at in 0..LOOKUPS {
        let bits = spread(at.wrapping_mul(7)) ^ at;
        let ip: IpAddr = match family {
            Family::IPv4 => Ipv4Addr::from_bits(bits).into(),
            Family::IPv6 => Ipv6Addr::from_bits(u128::from(bits) << 96 | 7).into(),
        };
        black_box(nets.contains(black_box(ip)));
    }
    began.elapsed().as_nanos() as f64 / f64::from(LOOKUPS)
}
