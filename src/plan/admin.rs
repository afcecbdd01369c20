//! `admin` into doors: who may come in by which.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::base::problem::{Place, Problem, Problems};
use crate::config::document::{Document, Role};

/// The doors of the admin interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AdminDoors {
    /// The unix socket.
    pub socket: Option<PathBuf>,
    /// The address.
    pub address: Option<SocketAddr>,
    /// Digests of the tokens for the address; none = everybody on this machine.
    pub tokens: Vec<([u8; 32], Role)>,
}

/// Compiles `admin`; mistakes are reported.
pub(super) fn compile(document: &Document, problems: &mut Problems) -> AdminDoors {
    let Some(spec) = &document.admin else {
        return AdminDoors::default();
    };
    let place = Place::root().key("admin");
    let mut tokens = Vec::new();
    for (index, token) in spec.tokens.iter().enumerate() {
        let place = place.key("tokens").index(index).key("sha256");
        match digest(&token.sha256) {
            Some(digest) => tokens.push((digest, token.role)),
            None if token.sha256.ends_with('…') => {
                // As documents write it. No token has this digest: the door stays shut.
                tokens.push(([0; 32], token.role));
                let problem = Problem::warning("W022", place, "a token that nobody can have");
                problems.push(problem.hint("write all 64 digits of the digest"));
            }
            None => {
                let problem = Problem::error("E040", place, "this is not a SHA-256 digest");
                problems.push(
                    problem.hint("64 hexadecimal digits, e.g. from `printf %s TOKEN | sha256sum`"),
                );
            }
        }
    }
    let address = spec.address.as_ref().and_then(|address| address.tcp());
    if spec.address.is_some() && address.is_none() {
        let problem = Problem::error(
            "E040",
            place.key("address"),
            "a socket where an address belongs",
        );
        problems.push(problem.hint("write `socket:` for a unix socket"));
    }
    if let Some(address) =
        address.filter(|address| !address.ip().is_loopback() && spec.tokens.is_empty())
    {
        let what = format!(
            "`{address}` can be reached from other machines, and anybody may do everything there"
        );
        problems.push(
            Problem::error("E040", place.key("address"), what)
                .hint("add `tokens`, or use `127.0.0.1`"),
        );
    }
    AdminDoors {
        socket: spec
            .socket
            .as_deref()
            .map(|socket| PathBuf::from(socket.trim_start_matches("unix:"))),
        address,
        tokens,
    }
}

fn digest(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::digest;

    #[test]
    fn a_digest_has_64_hexadecimal_digits() {
        assert_eq!(digest(&"0fA1".repeat(16)).unwrap()[..2], [0x0f, 0xa1]);
        for text in [
            "",
            "0f",
            &"0fA".repeat(21),
            &"+f".repeat(32),
            &"0g".repeat(32),
            &"é".repeat(32),
        ] {
            assert_eq!(digest(text), None, "{text}");
        }
    }
}
