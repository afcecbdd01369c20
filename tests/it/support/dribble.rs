//! A target that answers just fast enough to look alive.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

/// A target that reads a request and then writes these bytes one by one, and after each waits so long for its peer to leave.
pub(crate) fn dribbling(bytes: &'static str, pause: Duration) -> SocketAddr {
    dribbling_after("", bytes, pause)
}

/// The same, where `begin` comes in one piece.
pub(crate) fn dribbling_after(
    begin: &'static str,
    bytes: &'static str,
    pause: Duration,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().take(64) {
            let stream = stream.unwrap();
            thread::spawn(move || dribble(stream, (begin, bytes), pause));
        }
    });
    addr
}

fn dribble(mut stream: TcpStream, (begin, bytes): (&str, &str), pause: Duration) {
    let mut heard = [0; 4096];
    if stream.read(&mut heard).unwrap_or(0) == 0 {
        return;
    }
    stream.set_read_timeout(Some(pause)).unwrap();
    if stream.write_all(begin.as_bytes()).is_err() {
        return;
    }
    for byte in bytes.bytes() {
        // Nothing to read is an end; that nothing came in time is none.
        if stream.write_all(&[byte]).is_err() || matches!(stream.read(&mut heard), Ok(0)) {
            return;
        }
    }
}
