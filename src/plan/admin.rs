//! `admin` into doors: who may come in by which.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::base::digest::Digest;
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
        match Digest::parse(&token.sha256) {
            Some(digest) => tokens.push((digest.bytes(), token.role)),
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
