//! Why a call has no answer: from Pingora's error to a fault.

use pingora::{Error, ErrorSource, ErrorType};

use crate::exchange::Fault;

/// A call without an answer.
#[derive(Debug)]
pub struct Failed {
    /// What the client hears of it.
    pub fault: Fault,
    /// What is written down of it.
    pub cause: Box<Error>,
}

impl Failed {
    /// A failure that we noticed ourselves.
    pub(super) fn new(fault: Fault, why: &'static str) -> Self {
        let mut cause = Error::explain(ErrorType::InternalError, why);
        cause.as_up();
        Self { fault, cause }
    }
}

impl From<Box<Error>> for Failed {
    fn from(mut cause: Box<Error>) -> Self {
        cause.as_up();
        Self {
            fault: fault_of(&cause),
            cause,
        }
    }
}

/// What an error of Pingora's means.
#[must_use]
pub fn fault_of(error: &Error) -> Fault {
    if *error.esource() == ErrorSource::Downstream {
        let silent = *error.etype() == ErrorType::ReadTimedout;
        return if silent {
            Fault::BodyTimeout
        } else {
            Fault::ClientError
        };
    }
    if let Some(fault) = of_http2(error) {
        return fault;
    }
    match error.etype() {
        ErrorType::ConnectTimedout => Fault::ConnectTimeout,
        ErrorType::ConnectRefused
        | ErrorType::ConnectNoRoute
        | ErrorType::ConnectError
        | ErrorType::ConnectProxyFailure
        | ErrorType::SocketError
        | ErrorType::BindError => Fault::ConnectFailure,
        ErrorType::TLSHandshakeFailure
        | ErrorType::TLSHandshakeTimedout
        | ErrorType::TLSWantX509Lookup
        | ErrorType::InvalidCert
        | ErrorType::HandshakeError
        | ErrorType::H2Downgrade => Fault::TlsFailure,
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => Fault::Timeout,
        ErrorType::InvalidHTTPHeader
        | ErrorType::H1Error
        | ErrorType::H2Error
        | ErrorType::InvalidH2 => Fault::ProtocolError,
        ErrorType::ReadError | ErrorType::WriteError | ErrorType::ConnectionClosed => Fault::Reset,
        ErrorType::HTTPStatus(400) => Fault::BadRequest,
        ErrorType::AcceptError
        | ErrorType::HTTPStatus(_)
        | ErrorType::FileOpenError
        | ErrorType::FileCreateError
        | ErrorType::FileReadError
        | ErrorType::FileWriteError
        | ErrorType::InternalError
        | ErrorType::UnknownError
        | ErrorType::Custom(_)
        | ErrorType::CustomCode(..) => rare(error),
    }
}

/// What a target of HTTP/2 said itself, by RST_STREAM or GOAWAY. `RefusedStream`: that it did nothing with the request (RFC 9113
/// section 8.7); of a GOAWAY only those streams hear that are beyond the last one it saw to (section 6.8).
fn of_http2(error: &Error) -> Option<Fault> {
    let cause = error.root_cause().downcast_ref::<h2::Error>()?;
    if !cause.is_remote() || *error.etype() == ErrorType::H2Downgrade {
        return None;
    }
    let refused = cause.is_go_away() || cause.reason() == Some(h2::Reason::REFUSED_STREAM);
    Some(if refused {
        Fault::RefusedStream
    } else {
        Fault::Reset
    })
}

/// What comes from no peer, as far as we know.
fn rare(error: &Error) -> Fault {
    if *error.esource() == ErrorSource::Upstream {
        Fault::ProtocolError
    } else {
        Fault::Internal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_target_of_http2_says_is_taken_as_it_is_meant() {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.build().unwrap();
        let goaway = |last: u8| [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, last, 0, 0, 0, 0];
        let reset = |code: u8| [0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, code];
        for (said, fault) in [
            (&goaway(0)[..], Fault::RefusedStream),
            (&reset(7), Fault::RefusedStream),
            (&reset(2), Fault::Reset),
            (&reset(8), Fault::Reset),
            // It may have done something: the connection ends without a word about the stream.
            (&goaway(1), Fault::Reset),
        ] {
            let error = runtime.block_on(told(said));
            let kind = if error.is_io() {
                ErrorType::ReadError
            } else {
                ErrorType::H2Error
            };
            let error = Error::because(kind, "reading", error).into_up();
            assert_eq!(fault_of(&error), fault, "{said:?}: {error:?}");
        }
    }

    /// What a request ends with where a target says this to it, and nothing more.
    async fn told(said: &[u8]) -> h2::Error {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let (ours, mut theirs) = tokio::io::duplex(64 * 1024);
        let (client, connection) = h2::client::handshake(ours).await.unwrap();
        let connection = tokio::spawn(connection);
        let mut client = client.ready().await.unwrap();
        let head = http::Request::builder().uri("http://a.test/").body(());
        let (answer, _) = client.send_request(head.unwrap(), true).unwrap();
        theirs
            .write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0])
            .await
            .unwrap();
        let mut read = Vec::new();
        // The head of the request, on the first stream.
        while !read.windows(5).any(|it| it == [1, 5, 0, 0, 0]) {
            theirs.read_buf(&mut read).await.unwrap();
        }
        theirs.write_all(said).await.unwrap();
        drop(theirs);
        let error = answer.await.unwrap_err();
        drop(connection.await);
        error
    }

    #[test]
    fn a_client_that_stops_sending_is_told_so() {
        let mut error = Error::new(ErrorType::ReadTimedout);
        error.as_down();
        assert_eq!(fault_of(&error), Fault::BodyTimeout);
        error.as_up();
        assert_eq!(fault_of(&error), Fault::Timeout);
    }
}
