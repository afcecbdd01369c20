//! A file of networks, and the last good reading of it.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::{Net, NetSet};

/// The longest file that is read: more than half a million networks.
const LIST_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Networks that stand in a file, one a line.
pub struct NetList {
    path: PathBuf,
    nets: ArcSwap<NetSet>,
}

impl fmt::Debug for NetList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetList")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl NetList {
    /// The networks in `bytes`, which were read from `path`.
    ///
    /// # Errors
    /// What is wrong with the first line that is no network.
    pub fn new(path: PathBuf, bytes: &[u8]) -> Result<Self, String> {
        let nets = ArcSwap::from_pointee(parse(bytes)?);
        Ok(Self { path, nets })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether `ip` is in one of the networks.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.nets.load().contains(ip)
    }

    /// Takes what the file holds now.
    ///
    /// # Errors
    /// As [`NetList::new`]; then what was read before holds on.
    pub fn read_again(&self, bytes: &[u8]) -> Result<(), String> {
        self.nets.store(Arc::new(parse(bytes)?));
        Ok(())
    }
}

/// One network a line; what follows `#` or `;` is for people.
fn parse(bytes: &[u8]) -> Result<NetSet, String> {
    if bytes.len() > LIST_BYTES_MAX {
        return Err(format!("larger than {} MiB", LIST_BYTES_MAX / 1024 / 1024));
    }
    let text = std::str::from_utf8(bytes).map_err(|_error| "not a text".to_owned())?;
    let mut nets: Vec<Net> = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let net = line.split(['#', ';']).next().unwrap_or_default().trim();
        if !net.is_empty() {
            let net = net.parse();
            nets.push(net.map_err(|error| format!("line {number}: {error}"))?);
        }
    }
    Ok(nets.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_file_changes_nothing() {
        let text = b"# bad\n10.0.0.0/8 ; SBL1\n\n2001:db8::/32\r\n192.0.2.7";
        let list = NetList::new("bad.txt".into(), text).unwrap();
        let all = |ips: [&str; 3]| ips.map(|ip| list.contains(ip.parse().unwrap()));
        assert_eq!(all(["10.1.2.3", "2001:db8::1", "192.0.2.7"]), [true; 3]);
        let broken = list.read_again(b"10.0.0.0/8\n10.0.0.1/8\n").unwrap_err();
        assert!(broken.starts_with("line 2: `10.0.0.1/8`"), "{broken}");
        assert!(list.read_again(b"\xff").is_err());
        assert_eq!(all(["10.1.2.3", "2001:db8::1", "192.0.2.7"]), [true; 3]);
        list.read_again(b"").unwrap();
        assert_eq!(all(["10.1.2.3", "2001:db8::1", "192.0.2.7"]), [false; 3]);
    }
}
