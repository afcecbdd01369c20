//! One check of one target, on a connection of its own, by the upstream's protocol and TLS.

use std::sync::OnceLock;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_TYPE, HOST, TE, USER_AGENT};
use http::{HeaderName, HeaderValue, Method, Uri};
use pingora::connectors::http::{v1, v2};
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::{HttpPeer, Peer as _};
use pingora::{Error, ErrorType, Result as Outcome};
use pingora_load_balancing::health_check::{HealthCheck as _, TcpHealthCheck};
use tokio::time::{Instant, timeout_at};

use super::{Check, Ill, Kind};
use crate::upstream::{Target, Timeouts, check_proof};

/// So much of an answer's body is looked at.
const BODY_MAX: usize = 64 * 1024;
/// The path of the service that says how a server of gRPC is (grpc.health.v1).
const GRPC_PATH: &str = "/grpc.health.v1.Health/Check";
/// An empty message, which asks for the server as a whole: not compressed, no bytes.
const GRPC_QUESTION: &[u8] = &[0; 5];
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// Who asks targets how they are; its connections are its own. Nothing is set up before the first check.
#[derive(Default)]
pub struct Prober {
    http1: OnceLock<v1::Connector>,
    http2: OnceLock<v2::Connector>,
    tcp: OnceLock<Box<TcpHealthCheck>>,
}

impl std::fmt::Debug for Prober {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prober").finish_non_exhaustive()
    }
}

impl Prober {
    /// Asks once.
    pub(super) async fn probe(&self, target: &Target, check: &Check) -> Result<(), Ill> {
        let due = Instant::now() + check.timeout;
        if matches!(check.kind, Kind::Tcp) {
            let tcp = self.tcp.get_or_init(TcpHealthCheck::new);
            return match timeout_at(due, tcp.check(target.backend())).await {
                Ok(checked) => checked.map_err(Ill::gone),
                Err(_elapsed) => Err(Ill::gone("no connection in time")),
            };
        }
        let times = Timeouts {
            connect: check.timeout,
            ..Timeouts::default()
        };
        let Some(peer) = target.peer(&times) else {
            return Err(Ill::gone("no address"));
        };
        let mut session = match timeout_at(due, self.connect(&peer)).await {
            Ok(connected) => connected.map_err(|error| unconnected(&error))?,
            Err(_elapsed) => return Err(Ill::gone("no connection in time")),
        };
        match timeout_at(due, ask(&mut session, &peer, target, check)).await {
            Ok(answered) => answered,
            Err(_elapsed) => Err(Ill::failing("no answer in time")),
        }
    }

    /// A new connection: one that was kept would say nothing of who takes new ones.
    async fn connect(&self, peer: &HttpPeer) -> Outcome<HttpSession> {
        if peer
            .get_peer_options()
            .is_some_and(|options| options.alpn.get_min_http_version() == 2)
        {
            let http2 = self.http2.get_or_init(|| v2::Connector::new(None));
            let mut peer = peer.clone();
            // It is nobody else's: it closes when the check is over.
            peer.options.max_h2_streams = 1;
            return http2.new_http_session::<_, ()>(&peer).await;
        }
        let http1 = self.http1.get_or_init(|| v1::Connector::new(None));
        let (session, _) = http1.get_http_session(peer).await?;
        Ok(HttpSession::H1(session))
    }
}

/// Whoever is there and cannot prove who it is, answers.
fn unconnected(error: &Error) -> Ill {
    let unproven = matches!(
        error.etype(),
        ErrorType::TLSHandshakeFailure
            | ErrorType::TLSHandshakeTimedout
            | ErrorType::InvalidCert
            | ErrorType::H2Downgrade
            | ErrorType::HandshakeError
    );
    if unproven {
        Ill::failing(error)
    } else {
        Ill::gone(error)
    }
}

async fn ask(
    session: &mut HttpSession,
    peer: &HttpPeer,
    target: &Target,
    check: &Check,
) -> Result<(), Ill> {
    check_proof(peer, session.digest()).map_err(Ill::failing)?;
    match &check.kind {
        Kind::Http {
            path,
            host,
            statuses,
            body,
        } => {
            let mut head = head(&Method::GET, path.as_str(), (peer, target), session)?;
            if let Some(host) = host {
                address(&mut head, (peer, host), session)?;
            }
            let (status, read) = answer(session, head, None).await?;
            if !statuses.iter().any(|range| range.contains(&status)) {
                return Err(Ill::failing(format_args!("status {status}")));
            }
            match body {
                Some(body) if !contains(&read, body.as_bytes()) => {
                    Err(Ill::failing("another body"))
                }
                Some(_) | None => Ok(()),
            }
        }
        Kind::Grpc => {
            let mut head = head(&Method::POST, GRPC_PATH, (peer, target), session)?;
            let set = |head: &mut RequestHeader, name, value| {
                let set = head.insert_header(name, HeaderValue::from_static(value));
                set.map_err(Ill::failing)
            };
            set(&mut head, CONTENT_TYPE, "application/grpc")?;
            set(&mut head, TE, "trailers")?;
            let question = Bytes::from_static(GRPC_QUESTION);
            let (status, read) = answer(session, head, Some(question)).await?;
            if status != 200 {
                return Err(Ill::failing(format_args!("status {status}")));
            }
            called(session).await?;
            if serving(&read) {
                Ok(())
            } else {
                Err(Ill::failing("not serving"))
            }
        }
        Kind::Tcp => Ok(()),
    }
}

/// The head of a question.
fn head(
    method: &Method,
    path: &str,
    (peer, target): (&HttpPeer, &Target),
    session: &HttpSession,
) -> Result<RequestHeader, Ill> {
    let mut head =
        RequestHeader::build(method.clone(), path.as_bytes(), None).map_err(Ill::failing)?;
    let agent = concat!("doorward/", env!("CARGO_PKG_VERSION"), " health check");
    let set = |head: &mut RequestHeader, name, value| {
        head.insert_header(name, HeaderValue::from_static(value))
            .map_err(Ill::failing)
    };
    set(&mut head, USER_AGENT, agent)?;
    set(&mut head, ACCEPT, "*/*")?;
    let host = HeaderValue::from_str(&target.authority).map_err(Ill::failing)?;
    address(&mut head, (peer, &host), session)?;
    Ok(head)
}

/// Says who is asked, in the way of the protocol.
fn address(
    head: &mut RequestHeader,
    (peer, host): (&HttpPeer, &HeaderValue),
    session: &HttpSession,
) -> Result<(), Ill> {
    if session.as_http2().is_none() {
        return head.insert_header(HOST, host.clone()).map_err(Ill::failing);
    }
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let uri = Uri::builder()
        .scheme(if peer.tls() { "https" } else { "http" })
        .authority(host.as_bytes())
        .path_and_query(path)
        .build();
    head.set_uri(uri.map_err(Ill::failing)?);
    head.set_version(http::Version::HTTP_2);
    Ok(())
}

/// Sends the question; the status of the answer, and as much of its body as is looked at.
async fn answer(
    session: &mut HttpSession,
    head: RequestHeader,
    question: Option<Bytes>,
) -> Result<(u16, Bytes), Ill> {
    let head = Box::new(head);
    match session {
        HttpSession::H2(stream) => {
            let sent = stream.write_request_header(head, question.is_none());
            sent.map_err(Ill::failing)?;
            if let Some(question) = question {
                let sent = stream.write_request_body(question, true).await;
                sent.map_err(Ill::failing)?;
            }
        }
        HttpSession::H1(_) | HttpSession::Custom(()) => {
            let sent = session.write_request_header(head).await;
            sent.map_err(Ill::failing)?;
            session.finish_request_body().await.map_err(Ill::failing)?;
        }
    }
    let status = loop {
        session.read_response_header().await.map_err(Ill::failing)?;
        let status = session
            .response_header()
            .map_or(0, |head| head.status.as_u16());
        if !(100..200).contains(&status) {
            break status;
        }
    };
    let mut body = BytesMut::new();
    while body.len() < BODY_MAX {
        match session.read_response_body().await.map_err(Ill::failing)? {
            Some(piece) => body.extend_from_slice(&piece),
            None => break,
        }
    }
    body.truncate(BODY_MAX);
    Ok((status, body.freeze()))
}

/// Whether the call ended well.
async fn called(session: &mut HttpSession) -> Result<(), Ill> {
    let HttpSession::H2(stream) = session else {
        return Err(Ill::failing("no HTTP/2"));
    };
    let early = stream
        .response_header()
        .and_then(|head| head.headers.get(GRPC_STATUS).cloned());
    let trailers = match early {
        Some(_) => None,
        None => stream.read_trailers().await.map_err(Ill::failing)?,
    };
    let status = early.or_else(|| trailers?.get(GRPC_STATUS).cloned());
    match status.as_ref().map(HeaderValue::as_bytes) {
        Some(b"0") => Ok(()),
        Some(other) => Err(Ill::failing(format_args!(
            "grpc-status {}",
            String::from_utf8_lossy(other)
        ))),
        None => Err(Ill::failing("no grpc-status")),
    }
}

/// Whether a `HealthCheckResponse` says `SERVING`: field 1 is a varint of value 1.
fn serving(message: &[u8]) -> bool {
    let Some(([0, length @ ..], message)) = message.split_first_chunk::<5>() else {
        return false;
    };
    let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
    message.len() == length && matches!(message, [0x08, 0x01, ..])
}

fn contains(body: &[u8], text: &[u8]) -> bool {
    text.is_empty() || body.windows(text.len()).any(|window| window == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_serves_says_so() {
        assert!(serving(&[0, 0, 0, 0, 2, 8, 1]));
        for other in [
            &[0, 0, 0, 0, 2, 8, 2][..],
            &[0, 0, 0, 0, 0],
            &[1, 0, 0, 0, 2, 8, 1],
            &[0, 0, 0, 0, 3, 8, 1],
            &[0, 0, 0, 0],
            &[],
        ] {
            assert!(!serving(other), "{other:?}");
        }
    }

    #[test]
    fn a_text_may_stand_anywhere_in_a_body() {
        assert!(contains(b"all ok here", b"ok"));
        assert!(contains(b"", b""));
        assert!(!contains(b"o", b"ok"));
    }
}
