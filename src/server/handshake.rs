//! The TLS handshake: who is asked for, with what it is answered, and why it fails.

use std::io;
use std::sync::Arc;

use bytes::BytesMut;
use pingora::protocols::l4::stream::Stream as L4Stream;
use pingora::protocols::tls::SslStream;
use pingora::protocols::tls::server::prepare_tls_stream;
use pingora::tls::ssl::{NameType, SslRef, SslVersion};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::tls::{
    ClientCertificate, Failure, Hello, Secured, Site, UNRECOGNIZED_NAME, Version, read_hello,
};

/// Does it.
pub(super) async fn secure(
    mut io: L4Stream,
    site: &Site,
) -> Result<(SslStream<L4Stream>, Arc<Secured>), Failure> {
    let name = hello(&mut io).await?;
    let Some(context) = site.choose(name.as_deref()) else {
        // Whether or not it still hears why.
        if io.write_all(&UNRECOGNIZED_NAME).await.is_ok() {
            drop(io.shutdown().await);
        }
        return Err(Failure::UnknownName);
    };
    let stream = prepare_tls_stream(&context.acceptor, io);
    let mut stream = stream.map_err(|_error| Failure::Protocol)?;
    let accepted = stream.accept().await;
    accepted.map_err(|error| Failure::of(&error))?;
    let ssl = stream.ssl();
    if !is_same(ssl, name.as_deref()) {
        return Err(Failure::Protocol);
    }
    let policy = context.policy();
    let client = policy.and_then(|_| ClientCertificate::of(ssl));
    let secured = Secured {
        name,
        policy,
        client,
    };
    Ok((stream, Arc::new(secured)))
}

/// The version that was agreed upon.
pub(super) fn version(ssl: &SslRef) -> Version {
    match ssl.version2() {
        Some(SslVersion::TLS1_3) => Version::V13,
        _ => Version::V12,
    }
}

/// The name that we read is the one that OpenSSL has read, or nobody comes in.
fn is_same(ssl: &SslRef, name: Option<&str>) -> bool {
    match (ssl.servername(NameType::HOST_NAME), name) {
        (Some(theirs), Some(ours)) => theirs.trim_end_matches('.').eq_ignore_ascii_case(ours),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

/// Reads which host the client wants, and puts back what was read.
async fn hello(io: &mut L4Stream) -> Result<Option<Box<str>>, Failure> {
    let gone = |_: io::Error| Failure::Closed;
    let mut bytes = BytesMut::with_capacity(2048);
    loop {
        if io.read_buf(&mut bytes).await.map_err(gone)? == 0 {
            return Err(Failure::Closed);
        }
        match read_hello(&bytes) {
            Hello::Partial => {}
            Hello::Named(name) => {
                io.rewind(&bytes);
                return Ok(name);
            }
            Hello::Malformed => return Err(Failure::NotTls),
        }
    }
}
