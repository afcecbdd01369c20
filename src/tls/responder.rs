//! Asking an OCSP responder over HTTP (RFC 6960 appendix A), which needs no secrecy: its answers are signed.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A whole exchange takes no longer.
const PATIENCE: Duration = Duration::from_secs(10);
/// A longer answer is none: those of public authorities have 2 KiB.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Of the addresses of a responder so many are tried.
const ADDRESSES_MAX: usize = 4;

/// Where somebody can be asked about a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Responder {
    /// Its host, without brackets.
    host: Box<str>,
    port: u16,
    /// Host and port as they are written.
    authority: Box<str>,
    target: Box<str>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// Nobody answered in time.
    #[error("{0}")]
    Unreachable(#[from] io::Error),
    /// What was answered is no answer of a responder.
    #[error("{0}")]
    Refused(&'static str),
}

impl Responder {
    /// Reads a URL from a certificate; nothing but `http` is spoken.
    #[must_use]
    pub fn parse(url: &str) -> Option<Self> {
        // What is written into the head of the request must not end its line.
        if !url.bytes().all(|byte| byte.is_ascii_graphic()) {
            return None;
        }
        let scheme = url.get(..7)?;
        let rest = url.get(7..)?;
        if !scheme.eq_ignore_ascii_case("http://") {
            return None;
        }
        let rest = rest.split('#').next()?;
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at_checked(end)?;
        let parsed = crate::base::canon::parse_authority(authority).ok()?;
        let host = parsed.canonical_host();
        Some(Self {
            host: host.trim_matches(['[', ']']).into(),
            port: parsed.port().unwrap_or(80),
            authority: authority.into(),
            target: if target.starts_with('/') {
                target.into()
            } else {
                format!("/{target}").into()
            },
        })
    }

    /// Its host: a name or an address.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Sends it a question, at one of `addresses`, and returns what it says, as it came.
    ///
    /// # Errors
    /// See [`Unanswered`].
    pub async fn ask(&self, addresses: &[IpAddr], question: &[u8]) -> Result<Vec<u8>, Unanswered> {
        let asked = tokio::time::timeout(PATIENCE, self.exchange(addresses, question)).await;
        asked.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
    }

    async fn exchange(&self, addresses: &[IpAddr], question: &[u8]) -> Result<Vec<u8>, Unanswered> {
        let mut stream = self.connect(addresses).await?;
        // Of HTTP/1.0, so that the answer comes in one piece and the connection ends with it.
        let head = format!(
            "POST {} HTTP/1.0\r\nHost: {}\r\nContent-Type: application/ocsp-request\r\nContent-Length: {}\r\n\r\n",
            self.target,
            self.authority,
            question.len()
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(question).await?;
        let mut answer = Vec::new();
        loop {
            if stream.read_buf(&mut answer).await? == 0 {
                return match read(&answer) {
                    Some(Read::Whole(body) | Read::ToTheEnd(body)) => Ok(body.to_vec()),
                    Some(Read::Not200) => Err(NOT_200),
                    None => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                };
            }
            match read(&answer) {
                Some(Read::Whole(body)) => return Ok(body.to_vec()),
                Some(Read::Not200) => return Err(NOT_200),
                Some(Read::ToTheEnd(_)) | None => {}
            }
            if answer.len() > ANSWER_BYTES_MAX {
                return Err(Unanswered::Refused("an answer of more than 64 KiB"));
            }
        }
    }

    async fn connect(&self, addresses: &[IpAddr]) -> io::Result<TcpStream> {
        let mut last = io::Error::other("its name has no address");
        for ip in addresses.iter().take(ADDRESSES_MAX) {
            match TcpStream::connect(SocketAddr::new(*ip, self.port)).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

const NOT_200: Unanswered = Unanswered::Refused("an answer whose status is not 200");

/// How much of an answer is there.
#[derive(Debug, PartialEq, Eq)]
enum Read<'a> {
    /// As much as its head says.
    Whole(&'a [u8]),
    /// Its head does not say how much there will be.
    ToTheEnd(&'a [u8]),
    /// Its status is another.
    Not200,
}

/// `None`: there has to be more.
fn read(bytes: &[u8]) -> Option<Read<'_>> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let (head, body) = bytes.split_at_checked(end)?;
    let body = body.get(4..)?;
    let head = String::from_utf8_lossy(head);
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1));
    if status != Some("200") {
        return Some(Read::Not200);
    }
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let length = name.eq_ignore_ascii_case("content-length");
        length.then(|| value.trim().parse::<usize>())
    });
    match length {
        Some(length) => body.get(..length.ok()?).map(Read::Whole),
        None => Some(Read::ToTheEnd(body)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_http_is_spoken() {
        let found = Responder::parse("HTTP://OCSP.example.com/a?b#c").unwrap();
        assert_eq!(found.host(), "ocsp.example.com");
        assert_eq!((found.port, &*found.target), (80, "/a?b"));
        let found = Responder::parse("http://[::1]:2560").unwrap();
        assert_eq!(
            (found.host(), found.port, &*found.target),
            ("::1", 2560, "/")
        );
        for wrong in [
            "https://ocsp.example.com/",
            "ldap://ocsp.example.com/",
            "http://",
            "http://user@ocsp.example.com/",
            "http://ocsp.example.com/\r\nX: y",
            "",
        ] {
            assert_eq!(Responder::parse(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn an_answer_is_read_when_it_is_whole() {
        let ok = b"HTTP/1.1 200 OK\r\ncontent-LENGTH: 3\r\n\r\nabcd";
        assert_eq!(read(ok), Some(Read::Whole(b"abc")));
        assert_eq!(read(&ok[..ok.len() - 2]), None);
        assert_eq!(read(&ok[..20]), None);
        let open = b"HTTP/1.0 200 OK\r\n\r\nab";
        assert_eq!(read(open), Some(Read::ToTheEnd(b"ab")));
        let moved = b"HTTP/1.1 301 Moved\r\nLocation: http://b/\r\n\r\n";
        assert_eq!(read(moved), Some(Read::Not200));
        let wrong = b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\nabc";
        assert_eq!(read(wrong), None);
    }
}
