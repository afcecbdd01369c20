//! One answer of HTTP/1.1, as far as a load needs it: its status, and where it ends.

use std::io::{self, Read};

/// Longest answer that is read.
const BYTES_MAX: usize = 64 * 1024 * 1024;

/// Where the body ends.
enum End {
    After(usize),
    LastChunk,
    Close,
}

/// Reads one answer to its end: its status, and whether the connection may go on.
pub(crate) fn read_answer(from: &mut impl Read) -> io::Result<(u16, bool)> {
    let mut bytes = Vec::with_capacity(4096);
    let head = loop {
        if let Some(at) = find(&bytes, b"\r\n\r\n") {
            break at + 4;
        }
        if !more(from, &mut bytes)? {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    let text = String::from_utf8_lossy(bytes.get(..head).unwrap_or_default()).to_lowercase();
    let status = text.split(' ').nth(1).and_then(|word| word.parse().ok());
    let status = status.ok_or(io::ErrorKind::InvalidData)?;
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.map(str::trim)
    };
    let end = match value("content-length:").and_then(|length| length.parse::<usize>().ok()) {
        Some(length) => End::After(head + length),
        None if value("transfer-encoding:").is_some() => End::LastChunk,
        None if status == 204 || status == 304 => End::After(head),
        None => End::Close,
    };
    let persists = text.starts_with("http/1.1") && value("connection:") != Some("close");
    let goes_on = persists && !matches!(end, End::Close);
    while !is_whole(&bytes, head, &end) {
        if !more(from, &mut bytes)? {
            let closed = matches!(end, End::Close);
            return closed
                .then_some((status, false))
                .ok_or_else(|| io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok((status, goes_on))
}

fn is_whole(bytes: &[u8], head: usize, end: &End) -> bool {
    match end {
        End::After(length) => bytes.len() >= *length,
        End::LastChunk => {
            let body = bytes.get(head..).unwrap_or_default();
            body == b"0\r\n\r\n" || body.ends_with(b"\r\n0\r\n\r\n")
        }
        End::Close => false,
    }
}

/// `false`: there is no more.
fn more(from: &mut impl Read, bytes: &mut Vec<u8>) -> io::Result<bool> {
    if bytes.len() > BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut piece = [0u8; 16 * 1024];
    let read = from.read(&mut piece)?;
    bytes.extend_from_slice(piece.get(..read).unwrap_or_default());
    Ok(read > 0)
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
