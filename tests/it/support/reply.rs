//! What the scripted origin answers: replies are lists of steps, well-formed or not.

use super::{Gate, Recorded};

/// What the origin does, told by closures.
pub(crate) struct Script {
    pub(super) early: Box<dyn Fn(&Recorded) -> Early + Send + Sync>,
    pub(super) answer: Box<dyn Fn(&Recorded) -> Reply + Send + Sync>,
    pub(super) probe_paths: Vec<String>,
}

/// What the origin does when the head is there and the body is not.
pub(crate) enum Early {
    /// Reads the body, then asks for the answer.
    Read,
    /// Leaves the body in the socket until the gate lets it go on.
    Hold(Gate),
    /// Answers now; the body is still read and checked (unless the reply closes), but not asked about again.
    Answer(Reply),
}

impl Script {
    /// Answers each whole request.
    pub(crate) fn new(answer: impl Fn(&Recorded) -> Reply + Send + Sync + 'static) -> Self {
        Self {
            early: Box::new(|_| Early::Read),
            answer: Box::new(answer),
            probe_paths: Vec::new(),
        }
    }

    /// Answers with what arrived, as JSON.
    pub(crate) fn echo() -> Self {
        Self::new(Reply::echo)
    }

    /// Answers each request alike.
    pub(crate) fn fixed(status: u16, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Self {
        let reply = Reply::fixed(status, headers, body);
        Self::new(move |_| reply.clone())
    }

    /// Decides when the head is there.
    pub(crate) fn early(
        mut self,
        early: impl Fn(&Recorded) -> Early + Send + Sync + 'static,
    ) -> Self {
        self.early = Box::new(early);
        self
    }

    /// Reads no body before the gate lets it: then the client's upload must stall.
    pub(crate) fn hold_bodies(self, gate: &Gate) -> Self {
        let gate = gate.clone();
        self.early(move |_| Early::Hold(gate.clone()))
    }

    /// Requests for this path are the gateway's own (probes, key sets) and carry no X-Request-Id.
    pub(crate) fn probed_at(mut self, path: &str) -> Self {
        self.probe_paths.push(path.to_owned());
        self
    }
}

/// One answer: interim responses, a head, a body, and what becomes of the connection.
#[derive(Clone)]
pub(crate) struct Reply {
    pub(super) head: Vec<Step>,
    /// Left out when the request was HEAD.
    pub(super) body: Vec<Step>,
    pub(super) then: Then,
}

#[derive(Clone)]
pub(super) enum Step {
    Send(Vec<u8>),
    Wait(Gate),
    /// That many bytes of the pattern.
    Pattern(u64),
    /// That many bytes of the pattern in chunks of at most 64 KiB, and the last chunk.
    Chunks(u64),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    Keep,
    Close,
    Reset,
    /// Whatever arrives is sent back as it is.
    Echo,
}

impl Reply {
    /// A complete response with Content-Length (not for 1xx, 204 and 304, which have none).
    pub(crate) fn fixed(status: u16, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        let length = body.len().to_string();
        let mut all = headers.to_vec();
        if status >= 200 && status != 204 && status != 304 {
            all.push(("Content-Length", &length));
        }
        Self::of(head(status, &all), vec![Step::Send(body)])
    }

    pub(crate) fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self::fixed(200, &[], body)
    }

    pub(crate) fn json(status: u16, value: &serde_json::Value) -> Self {
        Self::fixed(
            status,
            &[("Content-Type", "application/json")],
            value.to_string(),
        )
    }

    /// What arrived: `method`, `path`, `query`, `headers` as pairs, `body` (null unless kept whole and UTF-8),
    /// `body_len`, `body_sum` (hex), `connection`.
    pub(crate) fn echo(request: &Recorded) -> Self {
        let whole = request.body.len() as u64 == request.body_len;
        let body = String::from_utf8(request.body.clone())
            .ok()
            .filter(|_| whole);
        let value = serde_json::json!({
            "method": request.method,
            "path": request.path,
            "query": request.query,
            "headers": request.headers,
            "body": body,
            "body_len": request.body_len,
            "body_sum": format!("{:016x}", request.body_sum),
            "connection": request.connection,
        });
        Self::json(200, &value)
    }

    /// A chunked response, each piece one chunk.
    pub(crate) fn chunked(status: u16, headers: &[(&str, &str)], pieces: &[&[u8]]) -> Self {
        Self::chunks(status, headers, pieces, None)
    }

    /// The same, but each chunk and then the end needs a permit of `gate`. The head is sent at once.
    pub(crate) fn gated(
        status: u16,
        headers: &[(&str, &str)],
        pieces: &[&[u8]],
        gate: &Gate,
    ) -> Self {
        Self::chunks(status, headers, pieces, Some(gate))
    }

    /// A Content-Length response whose pieces each need a permit of `gate`.
    pub(crate) fn gated_length(
        status: u16,
        headers: &[(&str, &str)],
        pieces: &[&[u8]],
        gate: &Gate,
    ) -> Self {
        let length = pieces
            .iter()
            .map(|piece| piece.len())
            .sum::<usize>()
            .to_string();
        let mut all = headers.to_vec();
        all.push(("Content-Length", &length));
        let steps = pieces
            .iter()
            .flat_map(|piece| [Step::Wait(gate.clone()), Step::Send(piece.to_vec())]);
        Self::of(head(status, &all), steps.collect())
    }

    fn chunks(
        status: u16,
        headers: &[(&str, &str)],
        pieces: &[&[u8]],
        gate: Option<&Gate>,
    ) -> Self {
        let mut all = headers.to_vec();
        all.push(("Transfer-Encoding", "chunked"));
        let mut body = Vec::new();
        for piece in pieces.iter().chain([&b"".as_slice()]) {
            body.extend(gate.map(|gate| Step::Wait(gate.clone())));
            let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
            chunk.extend_from_slice(piece);
            chunk.extend_from_slice(b"\r\n");
            body.push(Step::Send(chunk));
        }
        Self::of(head(status, &all), body)
    }

    /// `bytes` of the pattern with Content-Length; nothing is held in memory.
    pub(crate) fn large(bytes: u64) -> Self {
        let length = bytes.to_string();
        let head = head(200, &[("Content-Length", &length)]);
        Self::of(head, vec![Step::Pattern(bytes)])
    }

    /// The same in chunks.
    pub(crate) fn large_chunked(bytes: u64) -> Self {
        let head = head(200, &[("Transfer-Encoding", "chunked")]);
        Self::of(head, vec![Step::Chunks(bytes)])
    }

    /// The pattern in chunks, without end.
    pub(crate) fn endless() -> Self {
        Self::large_chunked(u64::MAX)
    }

    /// Content-Length `declared`, then only `body`, then the connection closes.
    pub(crate) fn truncated(declared: u64, body: impl Into<Vec<u8>>) -> Self {
        let length = declared.to_string();
        let head = head(200, &[("Content-Length", &length)]);
        Self::of(head, vec![Step::Send(body.into())]).then_close()
    }

    /// These bytes and nothing else, then the connection closes unless `then_keep` is said.
    pub(crate) fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self::of(bytes.into(), Vec::new()).then_close()
    }

    /// Bytes that are no HTTP at all.
    pub(crate) fn garbage() -> Self {
        Self::raw(&b"\x16\x03\x01\0\xff\xfeno http here\r\n\r\n\0\0"[..])
    }

    /// The connection closes without an answer.
    pub(crate) fn close() -> Self {
        Self::raw(Vec::new())
    }

    /// The connection is reset (RST) without an answer.
    pub(crate) fn reset() -> Self {
        Self::raw(Vec::new()).then_reset()
    }

    /// No answer until the gate opens; then the connection closes.
    pub(crate) fn never(gate: &Gate) -> Self {
        Self::close().after(gate)
    }

    /// 101 for a WebSocket; from then on every byte comes back.
    pub(crate) fn upgrade(headers: &[(&str, &str)]) -> Self {
        let mut all = vec![("Connection", "Upgrade"), ("Upgrade", "websocket")];
        all.extend_from_slice(headers);
        let mut reply = Self::of(head(101, &all), Vec::new());
        reply.then = Then::Echo;
        reply
    }

    /// An interim response before this one; called again, it comes before the others.
    pub(crate) fn interim(mut self, status: u16, headers: &[(&str, &str)]) -> Self {
        self.head.insert(0, Step::Send(head(status, headers)));
        self
    }

    /// Nothing before the gate lets it.
    pub(crate) fn after(mut self, gate: &Gate) -> Self {
        self.head.insert(0, Step::Wait(gate.clone()));
        self
    }

    pub(crate) fn then_keep(mut self) -> Self {
        self.then = Then::Keep;
        self
    }

    pub(crate) fn then_close(mut self) -> Self {
        self.then = Then::Close;
        self
    }

    pub(crate) fn then_reset(mut self) -> Self {
        self.then = Then::Reset;
        self
    }

    /// Whether it can be written at once, without a thread of its own.
    pub(super) fn is_quick(&self) -> bool {
        let quick = |step: &Step| matches!(step, Step::Send(bytes) if bytes.len() <= 64 * 1024);
        self.head.iter().chain(&self.body).all(quick)
    }

    fn of(head: Vec<u8>, body: Vec<Step>) -> Self {
        Self {
            head: vec![Step::Send(head)],
            body,
            then: Then::Keep,
        }
    }
}

fn head(status: u16, headers: &[(&str, &str)]) -> Vec<u8> {
    let reason = http::StatusCode::from_u16(status)
        .ok()
        .and_then(|code| code.canonical_reason());
    let mut text = format!("HTTP/1.1 {status} {}\r\n", reason.unwrap_or("Unknown"));
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    text += "\r\n";
    text.into_bytes()
}
