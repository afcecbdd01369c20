//! A listening socket closed so that nobody is lost who connected before.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use pingora::protocols::l4::stream::Stream as L4Stream;
use socket2::{SockFilter, SockRef};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::listener::{Socket, is_passing, next, of_tcp};

/// How long a client may take to end the handshake that it began: one round trip around the earth.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_millis(300);
/// The same on this machine, where another processor may be in the middle of it.
const HANDSHAKE_TIME_HERE: Duration = Duration::from_millis(20);

/// In the order of the kernel's classic filters: a packet that begins a connection (SYN without ACK) is dropped, every
/// other passes. Its sender tries again after a second, and is refused then.
const NO_MORE: [(u16, u8, u8, u32); 5] = [
    (0x30, 0, 0, 13),       // the flags of TCP
    (0x54, 0, 0, 0x12),     // SYN and ACK of them
    (0x15, 0, 1, 0x02),     // SYN alone?
    (0x06, 0, 0, 0),        // drop
    (0x06, 0, 0, u32::MAX), // pass
];

/// Lets nobody begin a connection any more, hands those to `serve` who have, and closes.
///
/// # Errors
/// The socket cannot be accepted from.
pub(super) async fn gently(
    socket: Socket,
    serve: impl Fn(L4Stream, Option<SocketAddr>),
) -> io::Result<()> {
    let time = match &socket {
        Socket::Tcp(listener) => {
            let filter = NO_MORE.map(|(code, yes, no, k)| SockFilter::new(code, yes, no, k));
            if let Err(error) = SockRef::from(listener).attach_filter(&filter) {
                // Without it somebody may come in between the last look and the end.
                log::debug!(error:% = error; "no filter for new connections");
            }
            if listener.local_addr()?.ip().is_loopback() {
                HANDSHAKE_TIME_HERE
            } else {
                HANDSHAKE_TIME_MAX
            }
        }
        Socket::Unix(_, path) => {
            // Without its name nobody finds it.
            drop(std::fs::remove_file(path));
            HANDSHAKE_TIME_HERE
        }
    };
    let rest = async {
        loop {
            match next(&socket).await {
                Ok((stream, peer)) => serve(stream, peer),
                Err(error) if is_passing(&error) => {}
                Err(error) => return error,
            }
        }
    };
    if let Ok(error) = tokio::time::timeout(time, rest).await {
        return Err(error);
    }
    match socket {
        Socket::Tcp(listener) => last_of_tcp(listener, &serve),
        Socket::Unix(listener, _) => last_of_unix(listener, &serve),
    }
}

fn last_of_tcp(
    listener: TcpListener,
    serve: &impl Fn(L4Stream, Option<SocketAddr>),
) -> io::Result<()> {
    let listener = listener.into_std()?;
    while let Some((stream, peer)) = waiting(|| listener.accept())? {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        serve(of_tcp(TcpStream::from_std(stream)?), Some(peer));
    }
    Ok(())
}

fn last_of_unix(
    listener: UnixListener,
    serve: &impl Fn(L4Stream, Option<SocketAddr>),
) -> io::Result<()> {
    let listener = listener.into_std()?;
    while let Some((stream, _)) = waiting(|| listener.accept())? {
        stream.set_nonblocking(true)?;
        serve(L4Stream::from(UnixStream::from_std(stream)?), None);
    }
    Ok(())
}

/// The next connection that waits; none when nobody does.
fn waiting<T>(accept: impl Fn() -> io::Result<T>) -> io::Result<Option<T>> {
    loop {
        match accept() {
            Ok(connection) => return Ok(Some(connection)),
            Err(error) if is_passing(&error) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}
