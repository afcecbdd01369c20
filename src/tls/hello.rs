//! The first words of a TLS client: which host it wants. Its certificate decides about everything that follows, and what is
//! decided before the handshake begins can be kept apart wholly: keys of tickets, authorities, versions.

/// A longer greeting is none: those with post-quantum keys have 2 KiB.
pub const HELLO_BYTES_MAX: usize = 32 * 1024;

/// The fatal alert `unrecognized_name` (RFC 6066 section 3), as a whole record.
pub const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// What the bytes of a client say so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hello {
    /// There is more to come.
    Partial,
    /// The host it wants, in small letters; none if it does not say.
    Named(Option<Box<str>>),
    /// It does not speak TLS.
    Malformed,
}

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;
/// The longest host (RFC 1035 section 2.3.4).
const NAME_BYTES_MAX: usize = 255;
/// RFC 8446 section 5.1.
const RECORD_BYTES_MAX: usize = 16 * 1024;

/// Reads a `ClientHello` (RFC 8446 section 4.1.2), which may come in several records.
#[must_use]
pub fn read_hello(bytes: &[u8]) -> Hello {
    let mut rest = Reader(bytes);
    let mut message = Vec::new();
    loop {
        match rest.0 {
            [] => return more(bytes),
            [HANDSHAKE] | [HANDSHAKE, 3, ..] => {}
            _ => return Hello::Malformed,
        }
        let Some(length) = rest.bytes(3).and_then(|_| rest.u16()) else {
            return more(bytes);
        };
        let length = usize::from(length);
        if length == 0 || length > RECORD_BYTES_MAX {
            return Hello::Malformed;
        }
        let Some(fragment) = rest.bytes(length) else {
            return more(bytes);
        };
        message.extend_from_slice(fragment);
        let mut whole = Reader(&message);
        if whole.u8().is_some_and(|kind| kind != CLIENT_HELLO) {
            return Hello::Malformed;
        }
        let Some(length) = whole.u24() else { continue };
        if length > HELLO_BYTES_MAX {
            return Hello::Malformed;
        }
        if let Some(body) = whole.bytes(length) {
            return server_name(body).unwrap_or(Hello::Malformed);
        }
    }
}

fn more(bytes: &[u8]) -> Hello {
    if bytes.len() < HELLO_BYTES_MAX {
        Hello::Partial
    } else {
        Hello::Malformed
    }
}

/// `None`: it is not well formed.
fn server_name(body: &[u8]) -> Option<Hello> {
    let mut body = Reader(body);
    body.bytes(2 + 32)?; // version, random
    let session = body.u8()?;
    body.bytes(session.into())?;
    let suites = body.u16()?;
    body.bytes(suites.into())?;
    let compressions = body.u8()?;
    body.bytes(compressions.into())?;
    if body.0.is_empty() {
        return Some(Hello::Named(None));
    }
    let length = body.u16()?;
    let mut extensions = Reader(body.bytes(length.into())?);
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let length = extensions.u16()?;
        let data = extensions.bytes(length.into())?;
        if kind == SERVER_NAME {
            return host(data).map(|name| Hello::Named(Some(name)));
        }
    }
    Some(Hello::Named(None))
}

/// RFC 6066 section 3: a list with one name of the only kind there is.
fn host(data: &[u8]) -> Option<Box<str>> {
    let mut data = Reader(data);
    let length = data.u16()?;
    let mut list = Reader(data.bytes(length.into())?);
    if list.u8()? != HOST_NAME || !data.0.is_empty() {
        return None;
    }
    let length = usize::from(list.u16()?);
    let name = list.bytes(length)?;
    let plain = |byte: &u8| byte.is_ascii_graphic();
    let good = (1..=NAME_BYTES_MAX).contains(&length) && name.iter().all(plain);
    if !good || !list.0.is_empty() {
        return None;
    }
    let name = std::str::from_utf8(name).ok()?.to_ascii_lowercase();
    Some(name.trim_end_matches('.').into())
}

/// Takes what is in front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.bytes(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.bytes(2)?.try_into().ok()?))
    }

    fn u24(&mut self) -> Option<usize> {
        let [high, middle, low] = self.bytes(3)?.try_into().ok()?;
        usize::try_from(u32::from_be_bytes([0, high, middle, low])).ok()
    }
}
