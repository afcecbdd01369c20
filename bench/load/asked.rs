//! What was asked of the generator, within its bounds.

use std::time::Duration;

use super::{CONNECTIONS_MAX, DURATION_MAX, RATE_MAX};

/// A bounded load.
pub(crate) struct Asked {
    pub(crate) authority: String,
    /// The request as it is sent, every time.
    pub(crate) request: Vec<u8>,
    /// Requests a second, of all connections.
    pub(crate) rate: u32,
    pub(crate) duration: Duration,
    pub(crate) connections: u32,
    /// One line for a program instead of three for a person.
    pub(crate) json: bool,
}

impl Asked {
    /// Reads the command line; what is missing has a small default.
    pub(crate) fn read(words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut words = words;
        let (mut url, mut headers) = (None, String::new());
        let (mut rate, mut seconds, mut connections) = (100, 10, 8);
        let mut json = false;
        while let Some(word) = words.next() {
            match word.as_str() {
                "--url" => url = words.next(),
                "--rate" => rate = number(&word, words.next(), &RATE_MAX)?,
                "--duration" => seconds = number(&word, words.next(), &DURATION_MAX)?,
                "--connections" => connections = number(&word, words.next(), &CONNECTIONS_MAX)?,
                "--header" => {
                    headers.push_str(&words.next().unwrap_or_default());
                    headers.push_str("\r\n");
                }
                "--json" => json = true,
                // Cargo adds it.
                "--bench" => {}
                _ => return Err(format!("unknown argument `{word}`")),
            }
        }
        let url = url.ok_or("`--url http://HOST:PORT/PATH` is missing")?;
        let rest = url.strip_prefix("http://");
        let rest = rest.ok_or("only `http://`; for `https://` there is bench/load/bounded.sh")?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let port = if host.contains(':') { "" } else { ":80" };
        let request = format!("GET /{path} HTTP/1.1\r\nhost: {host}\r\n{headers}\r\n");
        Ok(Self {
            authority: format!("{host}{port}"),
            request: request.into_bytes(),
            rate,
            duration: Duration::from_secs(seconds),
            connections,
            json,
        })
    }
}

/// A number from 1 to `most`.
fn number<T>(name: &str, word: Option<String>, most: &T) -> Result<T, String>
where
    T: std::str::FromStr + PartialOrd + From<u8> + std::fmt::Display,
{
    let word = word.ok_or_else(|| format!("`{name}` needs a number"))?;
    let number = word.parse().ok();
    let number = number.filter(|number| *number >= T::from(1) && number <= most);
    number.ok_or_else(|| format!("`{name}` takes 1 to {most}, not `{word}`"))
}
