//! A client of HTTP/2 that writes frames as it is told, good or bad, and reads what comes back.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::{Client, DEADLINE};

/// Kinds of frames (RFC 9113 section 6).
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// What a client says first.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// One connection.
pub(crate) struct Frames {
    stream: TcpStream,
    buffer: Vec<u8>,
    next: u32,
    /// Whether what asks for an acknowledgement gets one.
    polite: bool,
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The body of its answer.
    Answer(String),
    /// The stream was reset, with this code.
    Reset(u32),
    /// The connection is over, with this code.
    GoAway(u32),
    /// It is over without a word.
    Closed,
}

impl Outcome {
    /// The `status` that stands in the answer's body.
    pub(crate) fn status(&self) -> Option<u64> {
        let Self::Answer(body) = self else {
            return None;
        };
        let body: serde_json::Value = serde_json::from_str(body).ok()?;
        body["status"].as_u64()
    }
}

impl Frames {
    /// Connects and says hello.
    pub(crate) fn connect(addr: SocketAddr) -> Self {
        Self::connect_with(addr, b"")
    }

    /// Connects and says hello with these settings.
    pub(crate) fn connect_with(addr: SocketAddr, settings: &[u8]) -> Self {
        let stream = TcpStream::connect_timeout(&addr, DEADLINE).unwrap();
        Self::greet(stream, settings)
    }

    /// Takes the connection of a client that said nothing yet, and says hello.
    pub(crate) fn over(client: &Client) -> Self {
        Self::greet(client.stream().try_clone().unwrap(), b"")
    }

    fn greet(stream: TcpStream, settings: &[u8]) -> Self {
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut client = Self {
            stream,
            buffer: Vec::new(),
            next: 1,
            polite: true,
        };
        client.raw(PREFACE);
        client.send(SETTINGS, 0, 0, settings);
        client
    }

    /// From now on nothing is acknowledged.
    pub(crate) fn impolite(mut self) -> Self {
        self.polite = false;
        self
    }

    /// Reads to the end on a thread of its own, and answers nothing: the code of the last GOAWAY, if there was one, or
    /// nothing when the connection did not end.
    pub(crate) fn reader(&self) -> std::thread::JoinHandle<Option<Option<u32>>> {
        let mut reader = Self {
            stream: self.stream.try_clone().unwrap(),
            buffer: Vec::new(),
            next: 1,
            polite: false,
        };
        std::thread::spawn(move || {
            let mut code = None;
            while let Some(frame) = reader.frame() {
                if frame.kind == GOAWAY {
                    code = Some(u32::from_be_bytes(frame.payload[4..8].try_into().unwrap()));
                }
            }
            reader.is_over().then_some(code)
        })
    }

    /// Whether the other side ended the connection, as opposed to a read that took too long.
    fn is_over(&self) -> bool {
        use std::io::ErrorKind::{TimedOut, WouldBlock};
        match (&self.stream).read(&mut [0]) {
            Ok(length) => length == 0,
            Err(error) => !matches!(error.kind(), TimedOut | WouldBlock),
        }
    }

    /// Bytes as they are; `false`: the gateway takes no more.
    pub(crate) fn try_raw(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// No more will be sent, and nothing read.
    pub(crate) fn close(&self) {
        // The gateway may have closed it before.
        drop(self.stream.shutdown(std::net::Shutdown::Both));
    }

    /// Bytes as they are; that the gateway has closed is no mistake here.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        drop(self.stream.write_all(bytes));
    }

    pub(crate) fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.raw(&frame(kind, flags, stream, payload));
    }

    /// Begins a request; returns its stream. `end` is `END_STREAM` for one without a body, else 0.
    pub(crate) fn begin(&mut self, fields: &[(&str, &str)], end: u8) -> u32 {
        let stream = self.next;
        self.next += 2;
        let block = block(fields);
        let mut parts = block.chunks(16_000).peekable();
        let mut kind = HEADERS;
        while let Some(part) = parts.next() {
            let last = if parts.peek().is_none() {
                END_HEADERS
            } else {
                0
            };
            let done = if kind == HEADERS { end } else { 0 };
            self.send(kind, last | done, stream, part);
            kind = CONTINUATION;
        }
        stream
    }

    /// Sends a request, and its body in one piece, and waits for what becomes of it.
    pub(crate) fn request(&mut self, fields: &[(&str, &str)], body: Option<&[u8]>) -> Outcome {
        let stream = self.begin(fields, if body.is_none() { END_STREAM } else { 0 });
        if let Some(body) = body {
            self.send(DATA, END_STREAM, stream, body);
        }
        self.outcome(stream)
    }

    pub(crate) fn outcome(&mut self, stream: u32) -> Outcome {
        let mut body = Vec::new();
        loop {
            let Some(frame) = self.frame() else {
                return Outcome::Closed;
            };
            let code = |at: usize| {
                frame
                    .payload
                    .get(at..at + 4)
                    .map_or(0, |code| u32::from_be_bytes(code.try_into().unwrap()))
            };
            match frame.kind {
                GOAWAY if code(4) != 0 => return Outcome::GoAway(code(4)),
                RST_STREAM if frame.stream == stream => return Outcome::Reset(code(0)),
                DATA if frame.stream == stream => body.extend(&frame.payload),
                _ => {}
            }
            if frame.stream == stream
                && matches!(frame.kind, DATA | HEADERS)
                && frame.flags & END_STREAM != 0
            {
                return Outcome::Answer(String::from_utf8_lossy(&body).into_owned());
            }
        }
    }

    /// The next frame; nothing at the end.
    pub(crate) fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(head) = self.buffer.get(..9) {
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
                if self.buffer.len() >= 9 + length {
                    let frame: Vec<u8> = self.buffer.drain(..9 + length).collect();
                    let (kind, flags) = (frame[3], frame[4]);
                    let stream = u32::from_be_bytes(frame[5..9].try_into().unwrap());
                    if self.polite && kind == SETTINGS && flags == 0 {
                        self.send(SETTINGS, 1, 0, b"");
                    }
                    if self.polite && kind == PING && flags == 0 {
                        self.send(PING, 1, 0, &frame[9..]);
                    }
                    return Some(Frame {
                        kind,
                        flags,
                        stream,
                        payload: frame[9..].to_vec(),
                    });
                }
            }
            let mut space = [0; 16 * 1024];
            let length = self
                .stream
                .read(&mut space)
                .ok()
                .filter(|length| *length > 0)?;
            self.buffer.extend(&space[..length]);
        }
    }
}

/// The bytes of one frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Fields as literals that are never indexed (RFC 7541 section 6.2.3).
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    let text = |text: &str, out: &mut Vec<u8>| {
        let mut left = text.len();
        if left < 127 {
            out.push(u8::try_from(left).unwrap());
        } else {
            out.push(127);
            left -= 127;
            while left >= 128 {
                out.push(u8::try_from(left % 128 + 128).unwrap());
                left /= 128;
            }
            out.push(u8::try_from(left).unwrap());
        }
        out.extend(text.as_bytes());
    };
    for (name, value) in fields {
        out.push(0x10);
        text(name, &mut out);
        text(value, &mut out);
    }
    out
}
