//! A stream of HTTP/2 comes home from Pingora: when its request is dropped, or to be answered on directly.

use std::sync::{Mutex, PoisonError};

use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::HttpSession;
use pingora_proxy::Session;

use super::state::State;

/// Where the stream of a request comes back to.
#[derive(Debug, Default)]
pub struct StreamHome(Mutex<Option<Box<Returned>>>);

/// A stream with the head of its request.
pub struct Returned {
    /// The stream; its own head is empty.
    pub stream: HttpSession,
    /// The head.
    pub head: RequestHeader,
}

impl std::fmt::Debug for Returned {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Returned").finish_non_exhaustive()
    }
}

impl StreamHome {
    /// It came back.
    pub fn put(&self, lent: Returned) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(lent));
    }

    /// What came back.
    #[must_use]
    pub fn take(&self) -> Option<Box<Returned>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Takes the stream of a request back from Pingora; nothing for HTTP/1. Only while there is no answer.
pub(super) fn own_stream<'s>(
    session: &'s mut Session,
    state: &State,
) -> Option<&'s mut HttpSession> {
    let downstream = &mut *session.downstream_session;
    if matches!(downstream, ServerSession::Custom(_)) {
        // Whoever lets go of the loan sends it home.
        let nobody = ServerSession::Custom(Box::new(()));
        drop(std::mem::replace(downstream, nobody));
        let Returned { mut stream, head } = *state.signals.stream.take()?;
        *stream.req_header_mut() = head;
        *downstream = ServerSession::H2(stream);
    }
    if let ServerSession::H2(stream) = downstream {
        Some(stream)
    } else {
        None
    }
}
