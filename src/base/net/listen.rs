//! The addresses the gateway listens on.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::base::units::{TextError, TextForm};

/// The longest path of a Unix socket: `sockaddr_un` has 108 bytes, one of them NUL (unix(7)).
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Where to listen: `[::]:443`, `0.0.0.0:80`, `:8080` (every address), `unix:/run/doorward/http.sock`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ListenAddress {
    /// An address and a port; port 0 takes a free one.
    Tcp(SocketAddr),
    /// A Unix socket at an absolute path.
    Unix(PathBuf),
}

impl ListenAddress {
    /// The address and port, unless it is a Unix socket.
    #[must_use]
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }

    /// The path, when it is a Unix socket.
    #[must_use]
    pub fn unix(&self) -> Option<&Path> {
        match self {
            Self::Tcp(_) => None,
            Self::Unix(path) => Some(path),
        }
    }
}

impl TextForm for ListenAddress {
    const WHAT: &'static str = "an address to listen on";
    const EXAMPLE: &'static str = "[::]:8080";
    const PATTERN: &'static str = r"(?:[0-9.]+|\[[0-9A-Fa-f:.%]+\])?:[0-9]{1,5}|unix:/.+";
}

impl FromStr for ListenAddress {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return parse_socket_path(text, path);
        }
        let every = text
            .strip_prefix(':')
            .filter(|port| parse_port(port).is_some());
        let parsed = match every {
            Some(port) => format!("[::]:{port}").parse().ok(),
            None => text.parse().ok(),
        };
        parsed.map(Self::Tcp).ok_or_else(|| no_listen_address(text))
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

fn parse_socket_path(text: &str, path: &str) -> Result<ListenAddress, TextError> {
    if !path.starts_with('/') || path.ends_with('/') {
        return Err(TextError::new(format!(
            "`{text}` has no absolute path to a socket: write e.g. `unix:/run/doorward/http.sock`"
        )));
    }
    if path.contains('\0') || path.len() > SOCKET_PATH_BYTES_MAX {
        return Err(TextError::new(format!(
            "the path of `{text}` is too long for a socket: at most {SOCKET_PATH_BYTES_MAX} bytes"
        )));
    }
    Ok(ListenAddress::Unix(path.into()))
}

fn parse_port(text: &str) -> Option<u16> {
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}

fn no_listen_address(text: &str) -> TextError {
    if parse_port(text).is_some() {
        return TextError::new(format!("`{text}` is only a port: write `:{text}`"));
    }
    let split = text.rsplit_once(':');
    if let Some((host, port)) = split.filter(|(host, _)| host.parse::<Ipv6Addr>().is_ok()) {
        let right = format!("[{host}]:{port}");
        return TextError::new(format!(
            "`{text}` has an IPv6 address without brackets: write e.g. `{right}`"
        ));
    }
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = bare.parse::<IpAddr>() {
        let example = SocketAddr::new(ip, 8080);
        return TextError::new(format!("`{text}` has no port: write e.g. `{example}`"));
    }
    let hint = match split {
        Some((_, port)) if parse_port(port).is_none() => {
            "the port is a number from 0 to 65535".to_owned()
        }
        Some(("localhost", port)) => {
            format!("a name is not looked up: write `127.0.0.1:{port}` or `[::1]:{port}`")
        }
        Some(("*", port)) => format!("write `:{port}` for every address"),
        _ => "write e.g. `0.0.0.0:80`, `[::]:443` or `unix:/run/doorward/http.sock`".to_owned(),
    };
    TextError::new(format!("`{text}` is not an address to listen on: {hint}"))
}
