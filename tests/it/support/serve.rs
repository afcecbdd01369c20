//! One connection of the scripted origin: one thread reads and checks, and slow replies have a second one.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread::{self, JoinHandle};

use super::canonical::{check_form, check_request_id, head_end};
use super::gate::Passage;
use super::origin::{KEPT_BYTES_MAX, Shared};
use super::reply::{Step, Then};
use super::{BodyCheck, Checksum, Early, Framing, Recorded, Reply, Violation};

const CHUNK_BYTES: u64 = 64 * 1024;

/// What the reading and the writing thread of a connection tell each other.
#[derive(Default)]
pub(super) struct Link {
    /// The connection is over.
    pub(super) gone: AtomicBool,
    /// A request waits, and not one byte of its answer was sent.
    unanswered: AtomicBool,
    mode: AtomicU8,
}

/// Bytes are requests.
const REQUESTS: u8 = 0;
/// Bytes come back.
const ECHO: u8 = 1;
/// Bytes come too late: the origin closes.
const CLOSING: u8 = 2;
/// The last descriptor to be closed sends RST, so nothing may send FIN.
const RESET: u8 = 3;

struct Connection {
    shared: Arc<Shared>,
    stream: TcpStream,
    id: usize,
    link: Arc<Link>,
    buffer: Vec<u8>,
    writer: Option<JoinHandle<()>>,
}

/// Serves a connection to its end.
pub(super) fn serve(shared: &Arc<Shared>, stream: TcpStream, id: usize, link: Arc<Link>) {
    let mut connection = Connection {
        shared: Arc::clone(shared),
        stream,
        id,
        link,
        buffer: Vec::new(),
        writer: None,
    };
    let ended = connection.run();
    if let Err(violation) = ended {
        shared.broken(id, violation);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.closed(self.id);
        if self.link.mode.load(Ordering::SeqCst) != RESET {
            // Ends a write that nobody reads; the other side may have closed it before.
            drop(self.stream.shutdown(Shutdown::Both));
        }
        self.join_writer();
    }
}

impl Connection {
    fn run(&mut self) -> Result<(), Violation> {
        // Small writes in a row are what the tests look at.
        drop(self.stream.set_nodelay(true));
        while let Some((request, framing)) = self.read_head()? {
            if !self.exchange(request, framing)? {
                break;
            }
        }
        Ok(())
    }

    /// Reads up to the end of a head; nothing when the connection ends or stops being HTTP.
    fn read_head(&mut self) -> Result<Option<(Recorded, Framing)>, Violation> {
        let end = loop {
            if let Some(end) = head_end(&self.buffer)? {
                break end;
            }
            if !self.fill()? {
                return Ok(None);
            }
            let unanswered = self.link.unanswered.load(Ordering::SeqCst);
            match self.link.mode.load(Ordering::SeqCst) {
                ECHO => self.echo(),
                CLOSING => self.buffer.clear(),
                _ if unanswered || self.shared.waits_inside_answer(self.id) => {
                    return Err(Violation::new("no byte before the answer", &self.buffer));
                }
                _ => {}
            }
        };
        let raw_head: Vec<u8> = self.buffer.drain(..end).collect();
        let parsed = check_form(&raw_head)?;
        if !self.shared.script.probe_paths.contains(&parsed.path) {
            check_request_id(&parsed)?;
        }
        let request = Recorded {
            method: parsed.method,
            target: parsed.target,
            path: parsed.path,
            query: parsed.query,
            headers: parsed.headers,
            body_is_pattern: true,
            connection: self.id,
            raw_head,
            ..Recorded::default()
        };
        Ok(Some((request, parsed.framing)))
    }

    /// One request and its reply; false when the connection is over.
    fn exchange(&mut self, mut request: Recorded, framing: Framing) -> Result<bool, Violation> {
        let shared = Arc::clone(&self.shared);
        let number = shared.began(&request);
        self.join_writer();
        self.link.unanswered.store(true, Ordering::SeqCst);
        let early = (shared.script.early)(&request);
        let answered = matches!(early, Early::Answer(_));
        match early {
            Early::Read => {}
            Early::Hold(gate) => {
                let mut pen = self.pen(&request.method)?;
                pen.wait(&gate);
            }
            Early::Answer(reply) => self.start_writer(reply, &request)?,
        }
        let outcome = self.read_body(&mut request, framing, number);
        shared.ended(number, &request);
        if !outcome? {
            return Ok(false);
        }
        if answered {
            return Ok(true);
        }
        if !self.buffer.is_empty() || self.more_waits() {
            return Err(Violation::new(
                "no byte before the answer",
                &request.raw_head,
            ));
        }
        let reply = (shared.script.answer)(&request);
        if reply.is_quick() {
            self.pen(&request.method)?.perform(&reply);
        } else {
            self.start_writer(reply, &request)?;
        }
        Ok(true)
    }

    /// Reads the body to its end; false when the connection ends before.
    fn read_body(
        &mut self,
        request: &mut Recorded,
        framing: Framing,
        number: usize,
    ) -> Result<bool, Violation> {
        let mut check = BodyCheck::new(framing);
        let mut sum = Checksum::default();
        loop {
            let taken = check.feed(&self.buffer, |data| {
                let room = KEPT_BYTES_MAX.saturating_sub(request.body.len());
                request
                    .body
                    .extend_from_slice(&data[..data.len().min(room)]);
                request.body_is_pattern &= self.shared.pattern.matches(request.body_len, data);
                request.body_len += data.len() as u64;
                sum.add(data);
            })?;
            self.buffer.drain(..taken);
            request.body_sum = sum.value();
            if check.is_done() {
                request.complete = true;
                return Ok(true);
            }
            self.shared.progress(number, request.body_len);
            if self.link.mode.load(Ordering::SeqCst) == CLOSING {
                self.buffer.clear();
            }
            if !self.fill()? {
                return Ok(false);
            }
        }
    }

    /// Reads once; false at the end of the connection.
    fn fill(&mut self) -> Result<bool, Violation> {
        let mut space = [0; 64 * 1024];
        match self.stream.read(&mut space) {
            Ok(0) => Ok(false),
            Ok(length) => {
                let bytes = &space[..length];
                self.shared.received(self.id, bytes);
                self.buffer.extend_from_slice(bytes);
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(true),
            Err(_) => Ok(false),
        }
    }

    /// Whether the next byte is already here, though nothing was answered.
    fn more_waits(&self) -> bool {
        let looked = (|| {
            self.stream.set_nonblocking(true)?;
            let looked = self.stream.peek(&mut [0]);
            self.stream.set_nonblocking(false)?;
            looked
        })();
        matches!(looked, Ok(length) if length > 0)
    }

    fn echo(&mut self) {
        // When the gateway is gone, the next read says so.
        drop((&self.stream).write_all(&self.buffer));
        self.buffer.clear();
    }

    fn pen(&self, method: &str) -> Result<Pen, Violation> {
        let stream = self.stream.try_clone();
        let stream = stream.map_err(|error| {
            Violation::new(
                "the origin has no descriptors left",
                error.to_string().as_bytes(),
            )
        })?;
        Ok(Pen {
            shared: Arc::clone(&self.shared),
            stream,
            id: self.id,
            link: Arc::clone(&self.link),
            with_body: method != "HEAD",
        })
    }

    fn start_writer(&mut self, reply: Reply, request: &Recorded) -> Result<(), Violation> {
        let mut pen = self.pen(&request.method)?;
        self.writer = Some(thread::spawn(move || pen.perform(&reply)));
        Ok(())
    }

    fn join_writer(&mut self) {
        if let Some(writer) = self.writer.take() {
            // A writer has nothing that could panic but the lack of memory.
            drop(writer.join());
        }
    }
}

/// Writes one reply.
struct Pen {
    shared: Arc<Shared>,
    stream: TcpStream,
    id: usize,
    link: Arc<Link>,
    with_body: bool,
}

impl Pen {
    fn perform(&mut self, reply: &Reply) {
        let body = if self.with_body { &reply.body[..] } else { &[] };
        let steps = reply.head.iter().chain(body);
        // Waits come first, so that a request which waits is still unanswered.
        let mut begun = false;
        for step in steps {
            if let Step::Wait(gate) = step {
                if !self.wait(gate) {
                    return;
                }
                continue;
            }
            if !begun {
                self.begin(reply.then);
                begun = true;
            }
            if self.write(step).is_err() {
                return;
            }
        }
        if !begun {
            self.begin(reply.then);
        }
        self.end(reply.then);
    }

    fn begin(&self, then: Then) {
        let mode = match then {
            Then::Keep => REQUESTS,
            Then::Close | Then::Reset => CLOSING,
            Then::Echo => ECHO,
        };
        self.link.mode.store(mode, Ordering::SeqCst);
        self.link.unanswered.store(false, Ordering::SeqCst);
    }

    fn end(&self, then: Then) {
        // Each of these fails only when the gateway closed first.
        drop(match then {
            Then::Keep | Then::Echo => Ok(()),
            Then::Close => self.stream.shutdown(Shutdown::Write),
            Then::Reset => self.reset(),
        });
    }

    /// Waits at a gate; false when the connection ended meanwhile.
    fn wait(&mut self, gate: &super::Gate) -> bool {
        self.shared.waits(self.id, Some(gate));
        let passage = gate.pass(&self.link.gone);
        self.shared.waits(self.id, None);
        if passage == Passage::Stuck {
            self.shared.broken(
                self.id,
                Violation::new("the test never released the gate", b""),
            );
        }
        passage == Passage::Granted
    }

    fn write(&mut self, step: &Step) -> io::Result<()> {
        match step {
            Step::Send(bytes) => self.stream.write_all(bytes),
            Step::Wait(_) => Ok(()),
            Step::Pattern(bytes) => self.write_pattern(0, *bytes),
            Step::Chunks(bytes) => self.write_chunks(*bytes),
        }
    }

    fn write_chunks(&mut self, bytes: u64) -> io::Result<()> {
        let mut offset = 0;
        while offset < bytes {
            let length = CHUNK_BYTES.min(bytes - offset);
            self.stream
                .write_all(format!("{length:x}\r\n").as_bytes())?;
            self.write_pattern(offset, length)?;
            self.stream.write_all(b"\r\n")?;
            offset += length;
        }
        self.stream.write_all(b"0\r\n\r\n")
    }

    fn write_pattern(&mut self, mut offset: u64, bytes: u64) -> io::Result<()> {
        let end = offset + bytes;
        while offset < end {
            let piece = self.shared.pattern.slice(offset, end - offset);
            self.stream.write_all(piece)?;
            self.shared.sent(self.id, piece.len() as u64);
            offset += piece.len() as u64;
        }
        Ok(())
    }

    /// With SO_LINGER 0 the last close sends RST. Only tokio's sockets have that option in stable Rust; the read
    /// side is shut so that the reading thread lets go of the connection as well.
    fn reset(&self) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()?;
        let guard = runtime.enter();
        let copy = self.stream.try_clone()?;
        copy.set_nonblocking(true)?;
        tokio::net::TcpStream::from_std(copy)?.set_zero_linger()?;
        self.stream.set_nonblocking(false)?;
        drop(guard);
        self.link.mode.store(RESET, Ordering::SeqCst);
        self.stream.shutdown(Shutdown::Read)
    }
}
