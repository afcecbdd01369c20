//! Which country an address is of, by a file in MaxMind's format.

use std::fmt;
use std::net::IpAddr;

use bytes::Bytes;
use maxminddb::{Reader, geoip2};

/// The file's answers.
pub struct Countries(Reader<Bytes>);

/// Stands for a file that could not be read, which was reported.
pub struct Unread;

impl fmt::Debug for Countries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Countries")
    }
}

impl Countries {
    /// The answers that stand in `bytes`.
    ///
    /// # Errors
    /// Why they cannot be read.
    pub fn read(bytes: Bytes) -> Result<Self, String> {
        Reader::from_source(bytes)
            .map(Self)
            .map_err(|error| error.to_string())
    }

    /// The country of an address, as ISO 3166 has it: where the line is, else where its owner is.
    #[must_use]
    pub fn of(&self, ip: IpAddr) -> Option<[u8; 2]> {
        let found: geoip2::Country<'_> = self.0.lookup(ip).ok()?.decode().ok()??;
        let code = found
            .country
            .iso_code
            .or(found.registered_country.iso_code)?;
        code.as_bytes().try_into().ok()
    }
}
