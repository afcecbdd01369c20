//! The origin: every call of gRPC gets its message back, every WebSocket its messages, any other request 200.

use std::io;

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Response};
use openssl::base64::encode_block;
use openssl::sha::sha1;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// RFC 6455 section 1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// A message of the client: a head of two bytes, a mask of four, up to 125 bytes.
const SHORT: usize = 125;

/// Serves both ports of this machine for ever.
pub(crate) async fn serve(calls: u16, sockets: u16) -> io::Result<()> {
    let calls = TcpListener::bind(("127.0.0.1", calls)).await?;
    let sockets = TcpListener::bind(("127.0.0.1", sockets)).await?;
    loop {
        tokio::select! {
            came = calls.accept() => {
                let (stream, _) = came?;
                stream.set_nodelay(true)?;
                tokio::spawn(calls_of(stream));
            }
            came = sockets.accept() => {
                let (stream, _) = came?;
                stream.set_nodelay(true)?;
                tokio::spawn(socket(stream));
            }
        }
    }
}

async fn calls_of(stream: TcpStream) {
    let Ok(mut connection) = h2::server::Builder::new()
        .max_concurrent_streams(1000)
        .handshake::<_, Bytes>(stream)
        .await
    else {
        return;
    };
    while let Some(Ok((request, answer))) = connection.accept().await {
        tokio::spawn(call(request.into_body(), answer));
    }
}

async fn call(mut asked: h2::RecvStream, mut answer: SendResponse<Bytes>) -> Result<(), h2::Error> {
    let mut message = BytesMut::new();
    while let Some(piece) = asked.data().await {
        let piece = piece?;
        asked.flow_control().release_capacity(piece.len())?;
        message.extend_from_slice(&piece);
    }
    let mut head = Response::new(());
    let kind = HeaderValue::from_static("application/grpc");
    head.headers_mut().insert("content-type", kind);
    let mut body = answer.send_response(head, false)?;
    body.send_data(message.freeze(), false)?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    body.send_trailers(trailers)
}

async fn socket(mut stream: TcpStream) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut head).await? == 0 || head.len() > HEAD_BYTES_MAX {
            return Ok(());
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let key = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key")
            .then(|| value.trim().to_owned())
    });
    let Some(key) = key else {
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        return stream.write_all(answer).await;
    };
    let accept = encode_block(&sha1(format!("{key}{GUID}").as_bytes()));
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: {accept}\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).await?;
    echo(stream).await
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut frame = [0; 6 + SHORT];
    loop {
        let (head, rest) = frame.split_at_mut(6);
        stream.read_exact(head).await?;
        let [first, length, mask @ ..] = head else {
            return Ok(());
        };
        let length = usize::from(*length & 0x7f);
        let Some(payload) = rest.get_mut(..length) else {
            return Ok(());
        };
        stream.read_exact(payload).await?;
        for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
            *byte ^= mask;
        }
        let mut answer = vec![*first, u8::try_from(length).unwrap_or(0)];
        answer.extend_from_slice(payload);
        stream.write_all(&answer).await?;
    }
}
