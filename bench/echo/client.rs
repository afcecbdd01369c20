//! Clients of WebSockets: each sends a short message, waits until it is back, and sends the next.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// The length of a message, in bytes.
const MESSAGE: u8 = 64;
/// A text frame, masked with zeros: what is measured is the way, not the arithmetic.
const FRAME: [u8; 6] = [0x81, 0x80 | MESSAGE, 0, 0, 0, 0];
/// What comes back: a text frame without a mask.
const BACK: [u8; 2] = [0x81, MESSAGE];
const HEAD_BYTES_MAX: usize = 16 * 1024;
const PATIENCE: Duration = Duration::from_secs(10);

/// What all connections saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) messages: u64,
    pub(crate) failed: u64,
}

/// Keeps so many connections busy for so long.
pub(crate) async fn ask(addr: &str, connections: usize, seconds: f64) -> Seen {
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let asked: Vec<_> = (0..connections)
        .map(|_| tokio::spawn(one(addr.to_owned(), end)))
        .collect();
    let mut seen = Seen::default();
    for one in asked {
        match one.await {
            Ok(Ok(messages)) => seen.messages += messages,
            Ok(Err(_)) | Err(_) => seen.failed += 1,
        }
    }
    seen
}

async fn one(addr: String, end: Instant) -> io::Result<u64> {
    let mut stream = TcpStream::connect(&addr).await?;
    stream.set_nodelay(true)?;
    let head = format!(
        "GET /socket HTTP/1.1\r\nhost: {addr}\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let read = timeout(PATIENCE, stream.read_buf(&mut answer)).await??;
        if read == 0 || answer.len() > HEAD_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    if !answer.starts_with(b"HTTP/1.1 101") {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = [b'x'; 6 + MESSAGE as usize];
    if let Some(head) = message.get_mut(..6) {
        head.copy_from_slice(&FRAME);
    }
    let mut back = [0; 2 + MESSAGE as usize];
    let mut messages = 0;
    while Instant::now() < end {
        stream.write_all(&message).await?;
        timeout(PATIENCE, stream.read_exact(&mut back)).await??;
        if !back.starts_with(&BACK) {
            return Err(io::ErrorKind::InvalidData.into());
        }
        messages += 1;
    }
    Ok(messages)
}
