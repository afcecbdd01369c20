//! What the next hop is told about the client and the hops before it.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::{ClientChain, Scheme, element};
use crate::base::net::canonical_ip;

impl ClientChain {
    /// Writes the value of `X-Forwarded-For` for the next hop behind `out`.
    pub fn x_forwarded_for(&self, out: &mut String) {
        for (index, address) in self.addresses().enumerate() {
            if index > 0 {
                out.push_str(", ");
            }
            write_address(out, address);
        }
    }

    /// Writes the value of `Forwarded` (RFC 7239) for the next hop behind `out`; `scheme` and `host` are what the client used.
    pub fn forwarded(&self, scheme: Scheme, host: &str, out: &mut String) {
        for (index, address) in self.addresses().enumerate() {
            if index > 0 {
                out.push_str(", ");
            }
            write_for(out, address);
            if index == 0 {
                out.push_str(";host=");
                write_quoted(out, host);
                out.push_str(";proto=");
                out.push_str(scheme.as_str());
            }
        }
    }
}

/// The `for` pair of an element of `Forwarded`; IPv6 in brackets and quotes (RFC 7239 §6).
#[must_use]
pub fn forwarded_for(client: IpAddr) -> String {
    let mut out = String::new();
    write_for(&mut out, client);
    out
}

fn write_for(out: &mut String, client: IpAddr) {
    out.push_str("for=");
    match canonical_ip(client) {
        client @ IpAddr::V4(_) => write_address(out, client),
        client @ IpAddr::V6(_) => {
            out.push_str("\"[");
            write_address(out, client);
            out.push_str("]\"");
        }
    }
}

/// Every request has its client's address in three headers: digits are written by hand, which `fmt` takes ten times as long for.
pub(super) fn write_address(out: &mut String, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            for (index, octet) in address.octets().into_iter().enumerate() {
                if index > 0 {
                    out.push('.');
                }
                if octet >= 100 {
                    out.push(digit(octet / 100));
                }
                if octet >= 10 {
                    out.push(digit(octet / 10 % 10));
                }
                out.push(digit(octet % 10));
            }
        }
        // A string takes everything.
        IpAddr::V6(address) => drop(write!(out, "{address}")),
    }
}

const fn digit(number: u8) -> char {
    (b'0' + number) as char
}

/// A token as it stands, all else as a quoted string (RFC 9110 §5.6.4).
pub(super) fn write_quoted(out: &mut String, text: &str) {
    if !text.is_empty() && text.bytes().all(element::is_token) {
        out.push_str(text);
        return;
    }
    out.push('"');
    for c in text.chars().filter(|c| !c.is_control()) {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
}
