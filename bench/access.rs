//! What it costs to look an address up among 50,000 networks: `cargo bench --bench access`.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use doorward::base::net::NetSet;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

const LOOKUPS: u32 = 1 << 20;
const ROUNDS: usize = 15;

#[expect(clippy::print_stdout, reason = "a report for whoever runs it")]
fn main() {
    for networks in [100, 50_000] {
        for (name, v6) in [("IPv4", false), ("IPv6", true)] {
            let nets: NetSet = (0..networks).map(|at| network(at, v6)).collect();
            let mut rounds: Vec<f64> = (0..ROUNDS).map(|_| nanos(&nets, v6)).collect();
            rounds.sort_by(f64::total_cmp);
            let median = rounds.get(ROUNDS / 2).copied().unwrap_or_default();
            println!("{networks:>6} networks of {name}: {median:.1} ns a look-up");
        }
    }
}

/// Spread over everything, and no two meet.
fn spread(at: u32) -> u32 {
    at.wrapping_mul(0x9e37_79b1)
}

#[expect(clippy::expect_used, reason = "the prefixes are written here")]
fn network(at: u32, v6: bool) -> IpNet {
    let bits = spread(at) & 0xffff_ff00;
    if v6 {
        let ip = Ipv6Addr::from_bits(u128::from(bits) << 96);
        Ipv6Net::new(ip, 24).expect("24 is at most 128").into()
    } else {
        let ip = Ipv4Addr::from_bits(bits);
        Ipv4Net::new(ip, 24).expect("24 is at most 32").into()
    }
}

/// Half of the addresses are in one of the networks.
#[expect(clippy::disallowed_methods, reason = "it is time that is measured")]
fn nanos(nets: &NetSet, v6: bool) -> f64 {
    let began = Instant::now();
    for at in 0..LOOKUPS {
        let bits = spread(at.wrapping_mul(7)) ^ at;
        let ip: IpAddr = if v6 {
            Ipv6Addr::from_bits(u128::from(bits) << 96 | 7).into()
        } else {
            Ipv4Addr::from_bits(bits).into()
        };
        black_box(nets.contains(black_box(ip)));
    }
    began.elapsed().as_nanos() as f64 / f64::from(LOOKUPS)
}
