//! A raw HTTP/1.1 client: it sends what it is told, good or bad, and says exactly what came back.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use pingora::tls::ssl::{SslRef, SslStream};

use super::telltale::telltales;
use super::{DEADLINE, Pattern};

/// A body that is longer is read with `read_some` or `drain`.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;
const HEAD_BYTES_MAX: usize = 1024 * 1024;
/// What comes back of a request comes from its beginning.
const ASKED_BYTES_MAX: usize = 64 * 1024;

/// One connection to the gateway, kept until it is dropped.
pub(crate) struct Client {
    stream: TcpStream,
    tls: Option<SslStream<TcpStream>>,
    addr: SocketAddr,
    buffer: Vec<u8>,
    body: Body,
    closed: bool,
    /// What was sent, as far as it may come back; nothing is looked for where anything may be told.
    asked: Option<String>,
}

/// How much of the response body is still to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    Done,
    Length(u64),
    /// What is left of the present chunk.
    Chunk(u64),
    /// A line with the next size.
    Size,
    /// The line end behind a chunk.
    ChunkEnd,
    UntilClose,
}

/// Why there is no (whole) response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Closed before the first byte of a response.
    Closed,
    /// Closed inside a response.
    Truncated,
    /// RST instead of FIN.
    Reset,
    /// Nothing came within the read timeout.
    TimedOut,
    /// Not HTTP.
    Garbage(String),
}

/// A response; interim ones are only counted by status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) reason: String,
    /// In order, names as written.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) interim: Vec<u16>,
}

impl Response {
    /// The first header of that name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers_all(name).first().copied()
    }

    pub(crate) fn headers_all(&self, name: &str) -> Vec<&str> {
        let named = self
            .headers
            .iter()
            .filter(|header| header.0.eq_ignore_ascii_case(name));
        named.map(|header| header.1.as_str()).collect()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {} {:?}", self.status, self.text()))
    }

    /// The response, after a check that it has this status.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{:?} {}", self.headers, self.text());
        self
    }
}

/// One GET on its own connection.
#[track_caller]
pub(crate) fn get(addr: SocketAddr, target: &str, host: &str) -> Response {
    Client::connect(addr).request("GET", target, &[("Host", host)], b"")
}

impl Client {
    #[track_caller]
    pub(crate) fn connect(addr: SocketAddr) -> Self {
        Self::try_connect(addr).unwrap_or_else(|error| panic!("no connection to {addr}: {error}"))
    }

    pub(crate) fn try_connect(addr: SocketAddr) -> std::io::Result<Self> {
        Self::of(TcpStream::connect_timeout(&addr, DEADLINE)?, addr)
    }

    /// A connection that comes from another address of this machine.
    #[track_caller]
    pub(crate) fn from(source: [u8; 4], addr: SocketAddr) -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.unwrap();
        socket.bind(&SocketAddr::from((source, 0)).into()).unwrap();
        socket.connect_timeout(&addr.into(), DEADLINE).unwrap();
        Self::of(socket.into(), addr).unwrap()
    }

    fn of(stream: TcpStream, addr: SocketAddr) -> std::io::Result<Self> {
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            tls: None,
            addr,
            buffer: Vec::new(),
            body: Body::Done,
            closed: false,
            asked: Some(String::new()),
        })
    }

    /// A connection whose handshake is done.
    pub(crate) fn secured(tls: SslStream<TcpStream>, addr: SocketAddr) -> Self {
        Self {
            stream: tls.get_ref().try_clone().unwrap(),
            tls: Some(tls),
            addr,
            buffer: Vec::new(),
            body: Body::Done,
            closed: false,
            asked: Some(String::new()),
        }
    }

    /// No gateway answers here, or what it answers tells on purpose what others must not.
    pub(crate) fn telling(mut self) -> Self {
        self.asked = None;
        self
    }

    /// Stops at an answer that tells what none may.
    #[track_caller]
    fn scan(&self, response: &Response) {
        let Some(asked) = &self.asked else { return };
        let found = telltales(response, self.addr, asked);
        assert!(found.is_empty(), "an answer tells: {found:#?}");
    }

    /// What the handshake came to.
    #[track_caller]
    pub(crate) fn ssl(&self) -> &SslRef {
        self.tls.as_ref().expect("a connection with TLS").ssl()
    }

    /// How long one read may take.
    pub(crate) fn read_timeout(self, timeout: Duration) -> Self {
        self.stream.set_read_timeout(Some(timeout)).unwrap();
        self
    }

    /// The client's own address, as the gateway sees it.
    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.stream.local_addr().unwrap()
    }

    /// The socket, for what this client has no word for.
    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends a request and reads the whole response. Adds Host (the address) and Content-Length where they are missing
    /// and needed.
    #[track_caller]
    pub(crate) fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        let sent = self.try_request(method, target, headers, body);
        sent.unwrap_or_else(|ended| panic!("{method} {target}: {ended:?}"))
    }

    pub(crate) fn try_request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Response, Ended> {
        self.send_request(method, target, headers, body);
        self.try_response(method)
    }

    #[track_caller]
    pub(crate) fn get(&mut self, target: &str) -> Response {
        self.request("GET", target, &[], b"")
    }

    #[track_caller]
    pub(crate) fn head(&mut self, target: &str) -> Response {
        self.request("HEAD", target, &[], b"")
    }

    /// Sends a request and does not wait.
    pub(crate) fn send_request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> bool {
        let has = |name: &str| {
            headers
                .iter()
                .any(|header| header.0.eq_ignore_ascii_case(name))
        };
        let mut text = format!("{method} {target} HTTP/1.1\r\n");
        if !has("host") {
            text += &format!("Host: {}\r\n", self.addr);
        }
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        let needed = !body.is_empty() || matches!(method, "POST" | "PUT" | "PATCH");
        if needed && !has("content-length") && !has("transfer-encoding") {
            text += &format!("Content-Length: {}\r\n", body.len());
        }
        text += "\r\n";
        self.send_raw(&[text.as_bytes(), body].concat())
    }

    /// Sends bytes as they are; false when the gateway takes no more (what it answered can still be read).
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) -> bool {
        if let Some(asked) = self.asked.as_mut().filter(|it| it.len() < ASKED_BYTES_MAX) {
            let part = bytes.get(..ASKED_BYTES_MAX).unwrap_or(bytes);
            asked.push_str(&String::from_utf8_lossy(part));
        }
        match &mut self.tls {
            Some(tls) => tls.write_all(bytes).is_ok(),
            None => self.stream.write_all(bytes).is_ok(),
        }
    }

    /// Sends one chunk of a chunked request; an empty one ends the body.
    pub(crate) fn send_chunk(&mut self, data: &[u8]) -> bool {
        let size = format!("{:x}\r\n", data.len());
        self.send_raw(&[size.as_bytes(), data, b"\r\n"].concat())
    }

    /// Sends that many bytes of the pattern, without holding them; says how many were taken.
    pub(crate) fn send_pattern(&mut self, bytes: u64) -> u64 {
        let pattern = Pattern::new();
        let mut sent = 0;
        while sent < bytes {
            let piece = pattern.slice(sent, bytes - sent);
            if !self.send_raw(piece) {
                break;
            }
            sent += piece.len() as u64;
        }
        sent
    }

    /// No more will be sent; reading goes on.
    pub(crate) fn finish_sending(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Reads a whole response to a request with that method.
    #[track_caller]
    pub(crate) fn response(&mut self, method: &str) -> Response {
        let read = self.try_response(method);
        read.unwrap_or_else(|ended| panic!("no response to {method}: {ended:?}"))
    }

    pub(crate) fn try_response(&mut self, method: &str) -> Result<Response, Ended> {
        let mut response = self.try_response_head(method)?;
        while let Some(piece) = self.try_read_some()? {
            response.body.extend_from_slice(&piece);
            assert!(
                response.body.len() <= BODY_BYTES_MAX,
                "the body is too large for `response`"
            );
        }
        self.scan(&response);
        Ok(response)
    }

    /// Reads the head only; the body follows by `read_some`, `read_exactly` or `drain`.
    #[track_caller]
    pub(crate) fn response_head(&mut self, method: &str) -> Response {
        let read = self.try_response_head(method);
        read.unwrap_or_else(|ended| panic!("no response head to {method}: {ended:?}"))
    }

    pub(crate) fn try_response_head(&mut self, method: &str) -> Result<Response, Ended> {
        let mut interim = Vec::new();
        loop {
            let mut response = self.one_head()?;
            if (100..200).contains(&response.status) && response.status != 101 {
                interim.push(response.status);
                continue;
            }
            self.body = body_of(&response, method)?;
            response.interim = interim;
            return Ok(response);
        }
    }

    /// The next interim or final head, whatever it is, and no body: for tests about interim responses.
    pub(crate) fn one_head(&mut self) -> Result<Response, Ended> {
        let end = loop {
            let found = self.buffer.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(at) = found {
                break at + 4;
            }
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(Ended::Garbage("the head has no end".to_owned()));
            }
            self.fill()?;
        };
        let head: Vec<u8> = self.buffer.drain(..end).collect();
        let head =
            parse_head(&head).ok_or_else(|| Ended::Garbage(head.escape_ascii().to_string()))?;
        self.scan(&head);
        Ok(head)
    }

    /// The next bytes of the body as they arrive; nothing at its end.
    #[track_caller]
    pub(crate) fn read_some(&mut self) -> Option<Vec<u8>> {
        self.try_read_some()
            .unwrap_or_else(|ended| panic!("inside a body: {ended:?}"))
    }

    pub(crate) fn try_read_some(&mut self) -> Result<Option<Vec<u8>>, Ended> {
        loop {
            let left = match self.body {
                Body::Done => return Ok(None),
                Body::Length(0) => {
                    self.body = Body::Done;
                    continue;
                }
                Body::Chunk(0) => {
                    self.body = Body::ChunkEnd;
                    continue;
                }
                Body::ChunkEnd => {
                    self.chunk_end()?;
                    continue;
                }
                Body::Size => {
                    self.body = self.next_chunk()?;
                    continue;
                }
                Body::Length(left) | Body::Chunk(left) => left,
                Body::UntilClose => u64::MAX,
            };
            if !self.buffer.is_empty() {
                return Ok(Some(self.take_data(left)));
            }
            match self.fill() {
                Ok(()) => {}
                Err(Ended::Closed) if self.body == Body::UntilClose => self.body = Body::Done,
                Err(Ended::Closed) => return Err(Ended::Truncated),
                Err(other) => return Err(other),
            }
        }
    }

    /// Exactly that many bytes of the body, and leaves what follows.
    #[track_caller]
    pub(crate) fn read_exactly(&mut self, length: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while out.len() < length {
            let piece = self.read_some().expect("the body goes on");
            out.extend_from_slice(&piece);
        }
        let extra = out.split_off(length);
        assert!(
            extra.is_empty(),
            "more came at once than was asked for: {:?}",
            extra.escape_ascii().to_string()
        );
        out
    }

    /// Reads the rest of the body without keeping it: its length, and whether it was the pattern.
    #[track_caller]
    pub(crate) fn drain(&mut self) -> (u64, bool) {
        let pattern = Pattern::new();
        let (mut length, mut same) = (0, true);
        while let Some(piece) = self.read_some() {
            same &= pattern.matches(length, &piece);
            length += piece.len() as u64;
        }
        (length, same)
    }

    /// Bytes as they arrive, without any meaning: after 101, or to look at a broken response.
    pub(crate) fn read_raw(&mut self) -> Result<Vec<u8>, Ended> {
        if self.buffer.is_empty() {
            self.fill()?;
        }
        Ok(std::mem::take(&mut self.buffer))
    }

    /// All bytes until the gateway closes.
    pub(crate) fn read_to_end(&mut self) -> Result<Vec<u8>, Ended> {
        loop {
            match self.fill() {
                Ok(()) => assert!(self.buffer.len() <= BODY_BYTES_MAX, "there is no end of it"),
                Err(Ended::Closed | Ended::Truncated) => {
                    return Ok(std::mem::take(&mut self.buffer));
                }
                Err(other) => return Err(other),
            }
        }
    }

    /// Waits until the gateway closes this connection; false when bytes or the read timeout came first. That a
    /// connection stays open is better shown by a second request on it.
    pub(crate) fn closed_by_gateway(&mut self) -> bool {
        self.closed
            || self.buffer.is_empty() && matches!(self.fill(), Err(Ended::Closed | Ended::Reset))
    }

    fn take_data(&mut self, left: u64) -> Vec<u8> {
        let length = self
            .buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        let rest = self.buffer.split_off(length);
        let data = std::mem::replace(&mut self.buffer, rest);
        if let Body::Length(left) | Body::Chunk(left) = &mut self.body {
            *left -= data.len() as u64;
        }
        data
    }

    /// Reads the line before a chunk, and behind the last one the trailers.
    fn next_chunk(&mut self) -> Result<Body, Ended> {
        let line = self.line()?;
        let size = std::str::from_utf8(&line)
            .ok()
            .and_then(|size| u64::from_str_radix(size, 16).ok());
        match size {
            None => Err(Ended::Garbage(line.escape_ascii().to_string())),
            Some(0) => {
                while !self.line()?.is_empty() {}
                Ok(Body::Done)
            }
            Some(size) => Ok(Body::Chunk(size)),
        }
    }

    fn chunk_end(&mut self) -> Result<(), Ended> {
        let line = self.line()?;
        if !line.is_empty() {
            return Err(Ended::Garbage(line.escape_ascii().to_string()));
        }
        self.body = Body::Size;
        Ok(())
    }

    fn line(&mut self) -> Result<Vec<u8>, Ended> {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                let mut line: Vec<u8> = self.buffer.drain(..at + 2).collect();
                line.truncate(at);
                return Ok(line);
            }
            match self.fill() {
                Ok(()) => {}
                Err(Ended::Closed) => return Err(Ended::Truncated),
                Err(other) => return Err(other),
            }
        }
    }

    /// Reads once into the buffer.
    fn fill(&mut self) -> Result<(), Ended> {
        let mut space = vec![0; 64 * 1024];
        let read = match &mut self.tls {
            Some(tls) => tls.read(&mut space),
            None => self.stream.read(&mut space),
        };
        let ended = match read {
            Ok(0) if self.buffer.is_empty() => Ended::Closed,
            Ok(0) => Ended::Truncated,
            Ok(length) => {
                self.buffer.extend_from_slice(&space[..length]);
                return Ok(());
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Err(Ended::TimedOut);
            }
            Err(_) => Ended::Reset,
        };
        self.closed = true;
        Err(ended)
    }
}

fn parse_head(head: &[u8]) -> Option<Response> {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split("\r\n");
    let mut words = lines.next()?.splitn(3, ' ');
    words
        .next()
        .filter(|version| version.starts_with("HTTP/1."))?;
    let status = words.next()?.parse().ok()?;
    let reason = words.next().unwrap_or_default().to_owned();
    let mut headers = Vec::new();
    for line in lines.filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':')?;
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    Some(Response {
        status,
        reason,
        headers,
        body: Vec::new(),
        interim: Vec::new(),
    })
}

/// RFC 9112 §6.3; two framings at once are garbage here.
fn body_of(response: &Response, method: &str) -> Result<Body, Ended> {
    if method == "HEAD" || matches!(response.status, 101 | 204 | 304) {
        return Ok(Body::Done);
    }
    let lengths = response.headers_all("content-length");
    let codings = response.headers_all("transfer-encoding");
    match (&lengths[..], &codings[..]) {
        ([], []) => Ok(Body::UntilClose),
        ([], ["chunked"]) => Ok(Body::Size),
        ([length], []) => match length.parse() {
            Ok(length) => Ok(Body::Length(length)),
            Err(_) => Err(Ended::Garbage(format!("Content-Length: {length}"))),
        },
        _ => Err(Ended::Garbage(format!("{:?}", response.headers))),
    }
}
