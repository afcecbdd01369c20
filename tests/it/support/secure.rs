//! TLS for the tests: a client that is told what to bring and what to accept.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use pingora::tls::pkey::PKey;
use pingora::tls::ssl::{
    NameType, SslAcceptor, SslAcceptorBuilder, SslConnector, SslConnectorBuilder, SslMethod,
    SslStream, SslVerifyMode, SslVersion,
};
use pingora::tls::x509::X509;
use pingora::tls::x509::store::X509StoreBuilder;

use super::pki::Pair;
use super::{Client, DEADLINE};

/// What a client brings to a handshake.
pub(crate) struct Tls {
    builder: SslConnectorBuilder,
    name: Option<String>,
}

impl Tls {
    /// Trusts that authority, and asks for that name.
    pub(crate) fn new(ca: &str, name: &str) -> Self {
        let mut builder = SslConnector::builder(SslMethod::tls()).unwrap();
        let mut store = X509StoreBuilder::new().unwrap();
        store
            .add_cert(X509::from_pem(ca.as_bytes()).unwrap())
            .unwrap();
        builder.set_cert_store(store.build());
        Self {
            builder,
            name: Some(name.to_owned()),
        }
    }

    /// Asks for no name; the certificate is looked at by nobody.
    pub(crate) fn nameless(mut self) -> Self {
        self.name = None;
        self.builder.set_verify(SslVerifyMode::NONE);
        self
    }

    pub(crate) fn identity(mut self, pair: &Pair) -> Self {
        self.builder
            .set_certificate(&X509::from_pem(pair.cert.as_bytes()).unwrap())
            .unwrap();
        self.builder
            .set_private_key(&PKey::private_key_from_pem(pair.key.as_bytes()).unwrap())
            .unwrap();
        self
    }

    /// Names of protocols, the best first.
    pub(crate) fn alpn(mut self, names: &[&str]) -> Self {
        let mut wire = Vec::new();
        for name in names {
            wire.push(u8::try_from(name.len()).unwrap());
            wire.extend(name.as_bytes());
        }
        self.builder.set_alpn_protos(&wire).unwrap();
        self
    }

    pub(crate) fn versions(mut self, from: SslVersion, to: SslVersion) -> Self {
        self.builder.set_min_proto_version(Some(from)).unwrap();
        self.builder.set_max_proto_version(Some(to)).unwrap();
        self
    }

    pub(crate) fn suites(mut self, suites: &str) -> Self {
        self.builder.set_security_level(0);
        self.builder.set_cipher_list(suites).unwrap();
        self
    }

    /// Does the handshake over a connection that stands.
    pub(crate) fn over(self, tcp: TcpStream) -> Result<SslStream<TcpStream>, String> {
        let connector = self.builder.build();
        let mut setup = connector.configure().unwrap();
        setup.set_use_server_name_indication(self.name.is_some());
        setup.set_verify_hostname(self.name.is_some());
        let ssl = setup
            .into_ssl(self.name.as_deref().unwrap_or("nobody"))
            .unwrap();
        ssl.connect(tcp).map_err(|error| error.to_string())
    }

    pub(crate) fn try_connect(self, addr: SocketAddr) -> Result<Client, String> {
        let tcp = TcpStream::connect_timeout(&addr, DEADLINE).map_err(|error| error.to_string())?;
        tcp.set_read_timeout(Some(DEADLINE)).unwrap();
        tcp.set_write_timeout(Some(DEADLINE)).unwrap();
        tcp.set_nodelay(true).unwrap();
        Ok(Client::secured(self.over(tcp)?, addr))
    }

    #[track_caller]
    pub(crate) fn connect(self, addr: SocketAddr) -> Client {
        self.try_connect(addr)
            .unwrap_or_else(|error| panic!("no handshake with {addr}: {error}"))
    }
}

/// An origin with TLS that notes every byte it hears after a handshake, and answers each request with `ok`.
pub(crate) struct TlsOrigin {
    addr: SocketAddr,
    heard: Arc<Mutex<Heard>>,
    stopped: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

/// What such an origin noted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Heard {
    /// Connections, whatever became of them.
    pub(crate) connections: usize,
    /// Every byte behind a handshake.
    pub(crate) bytes: Vec<u8>,
    /// How many requests were answered.
    pub(crate) requests: usize,
    /// The subject of the certificate that the latest client showed.
    pub(crate) client: Option<String>,
    /// The name that the latest client asked for.
    pub(crate) name: Option<String>,
}

impl TlsOrigin {
    /// Shows `pair`; `configure` says what else is special about it.
    pub(crate) fn start(pair: &Pair, configure: impl FnOnce(&mut SslAcceptorBuilder)) -> Self {
        let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).unwrap();
        let certificate = X509::from_pem(pair.cert.as_bytes()).unwrap();
        builder.set_certificate(&certificate).unwrap();
        let key = PKey::private_key_from_pem(pair.key.as_bytes()).unwrap();
        builder.set_private_key(&key).unwrap();
        configure(&mut builder);
        let acceptor = builder.build();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let heard = Arc::<Mutex<Heard>>::default();
        let stopped = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (heard, stopped) = (Arc::clone(&heard), Arc::clone(&stopped));
            move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    if stopped.load(Ordering::SeqCst) {
                        return;
                    }
                    let (acceptor, heard) = (acceptor.clone(), Arc::clone(&heard));
                    std::thread::spawn(move || listen(&acceptor, stream, &heard));
                }
            }
        });
        Self {
            addr,
            heard,
            stopped,
            acceptor: Some(thread),
        }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn heard(&self) -> Heard {
        self.heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for TlsOrigin {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let woken = TcpStream::connect(self.addr);
        if let Some(acceptor) = self.acceptor.take()
            && woken.is_ok()
        {
            drop(acceptor.join());
        }
    }
}

fn listen(acceptor: &SslAcceptor, stream: TcpStream, heard: &Mutex<Heard>) {
    let note =
        |edit: &dyn Fn(&mut Heard)| edit(&mut heard.lock().unwrap_or_else(PoisonError::into_inner));
    drop(stream.set_read_timeout(Some(DEADLINE)));
    note(&|heard| heard.connections += 1);
    let Ok(mut stream) = acceptor.accept(stream) else {
        return;
    };
    let subject = stream
        .ssl()
        .peer_certificate()
        .map(|it| format!("{:?}", it.subject_name()));
    let name = stream
        .ssl()
        .servername(NameType::HOST_NAME)
        .map(str::to_owned);
    note(&|heard| (heard.client, heard.name) = (subject.clone(), name.clone()));
    let (mut space, mut head) = ([0; 4096], Vec::new());
    while let Ok(length @ 1..) = stream.read(&mut space) {
        note(&|heard| heard.bytes.extend(&space[..length]));
        head.extend(&space[..length]);
        if is_whole(&head) {
            // Whoever asks for the head only gets no more.
            let body = if head.starts_with(b"HEAD ") { "" } else { "ok" };
            head.clear();
            note(&|heard| heard.requests += 1);
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{body}");
            if stream.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}

/// Whether a request is there with the body that its head promises.
fn is_whole(bytes: &[u8]) -> bool {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return false;
    };
    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
    if head.contains("\r\ntransfer-encoding: chunked") {
        return bytes.ends_with(b"0\r\n\r\n");
    }
    let length = head.split("\r\ncontent-length: ").nth(1);
    let length = length.map_or(0, |rest| {
        rest.split("\r\n").next().unwrap().parse().unwrap()
    });
    bytes.len() >= end + 4 + length
}
