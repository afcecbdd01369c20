//! An OCSP responder that says what a test wants it to, at a port of its own.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::DEADLINE;

/// From the question to the whole answer, with its head.
type Says = Box<dyn Fn(&[u8]) -> Vec<u8> + Send>;

/// Answers until it is dropped.
pub(crate) struct Responder {
    addr: SocketAddr,
    says: Arc<Mutex<Says>>,
    asked: Arc<AtomicUsize>,
    stopped: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// An answer with status 200 and this body.
pub(crate) fn spoken(body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/ocsp-response\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

impl Responder {
    /// Says nothing yet: a connection is closed.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let says: Arc<Mutex<Says>> = Arc::new(Mutex::new(Box::new(|_| Vec::new())));
        let (asked, stopped) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let thread = std::thread::spawn({
            let (says, asked) = (Arc::clone(&says), Arc::clone(&asked));
            let stopped = Arc::clone(&stopped);
            move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    if stopped.load(Ordering::SeqCst) {
                        return;
                    }
                    if let Some((mut stream, question)) = question(stream) {
                        asked.fetch_add(1, Ordering::SeqCst);
                        let says = says.lock().unwrap_or_else(PoisonError::into_inner);
                        drop(stream.write_all(&says(&question)));
                    }
                }
            }
        });
        Self {
            addr,
            says,
            asked,
            stopped,
            thread: Some(thread),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/ocsp", self.addr)
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// What it says from now on.
    pub(crate) fn say(&self, says: impl Fn(&[u8]) -> Vec<u8> + Send + 'static) {
        *self.says.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(says);
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let woken = TcpStream::connect(self.addr);
        if let Some(thread) = self.thread.take()
            && woken.is_ok()
        {
            drop(thread.join());
        }
    }
}

/// The body of a request, which says how long it is.
fn question(mut stream: TcpStream) -> Option<(TcpStream, Vec<u8>)> {
    stream.set_read_timeout(Some(DEADLINE)).ok()?;
    let (mut bytes, mut space) = (Vec::new(), [0; 4096]);
    loop {
        let length = stream.read(&mut space).ok().filter(|length| *length > 0)?;
        bytes.extend(&space[..length]);
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        assert!(head.starts_with("post /ocsp http/1.0\r\n"), "{head}");
        assert!(
            head.contains("content-type: application/ocsp-request"),
            "{head}"
        );
        let length = head.split("content-length: ").nth(1)?;
        let length: usize = length.split("\r\n").next()?.parse().ok()?;
        if let Some(body) = bytes.get(end + 4..end + 4 + length) {
            let body = body.to_vec();
            return Some((stream, body));
        }
    }
}
