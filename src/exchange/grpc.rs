//! What gRPC says over HTTP/2: metadata, deadlines, statuses, and where one message ends and the next begins.

use std::time::Duration;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue};
use pingora::http::RequestHeader;

use super::fault::Fault;

const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// A flag, and the length of what follows.
const PREFIX_BYTES: usize = 5;

/// The names of the canonical codes, by their number.
pub const GRPC_CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];
const UNKNOWN: u8 = 2;

/// Headers of a call that stand there once at most: of two, readers take different ones.
const ONCE: [&str; 3] = ["grpc-timeout", "grpc-encoding", "grpc-message-type"];
/// What a server says of a call: no client has a word in it.
const SAID: [&str; 3] = ["grpc-status", "grpc-message", "grpc-status-details-bin"];

/// Base64 as metadata has it (RFC 4648 section 4): padded or not, and one text for the same bytes.
const BINARY: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Checks the metadata of a call (gRPC over HTTP/2, `Custom-Metadata`), and takes off what only a server says. Other names of
/// gRPC's own stay: they are kept for what its two sides will tell each other.
pub(super) fn check_metadata(head: &mut RequestHeader) -> Result<(), Fault> {
    for name in head.headers.keys() {
        let lines = head.headers.get_all(name);
        let text = name.as_str();
        if text.ends_with("-bin") && !lines.iter().all(is_binary) {
            // One server would drop it, another end the call, and a third read something.
            return Err(Fault::BadRequest);
        }
        if ONCE.contains(&text) && lines.iter().nth(1).is_some() {
            return Err(Fault::BadRequest);
        }
    }
    for name in SAID {
        head.remove_header(name);
    }
    Ok(())
}

/// Whether it is one value, or several with commas between them, in base64.
fn is_binary(line: &HeaderValue) -> bool {
    let mut values = line.as_bytes().split(|byte| *byte == b',');
    values.all(|value| BINARY.decode(value.trim_ascii()).is_ok())
}

/// Whether a request with these headers is a call of gRPC.
#[must_use]
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let rest = kind.and_then(|kind| kind.strip_prefix(b"application/grpc"));
    // `application/grpc-web` is another protocol.
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// How long the client waits for the end of its call; none for ever, or where it says nothing that means a time.
#[must_use]
pub fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(&TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let plain = (1..=8).contains(&digits.len()) && digits.bytes().all(|it| it.is_ascii_digit());
    let number: u64 = digits.parse().ok().filter(|_| plain)?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// The status that these headers, or trailers, say; a number that is no code is `UNKNOWN`.
#[must_use]
pub fn grpc_status(headers: &HeaderMap) -> Option<u8> {
    let text = headers.get(&STATUS)?.to_str().unwrap_or_default();
    let code = text.parse().ok();
    Some(
        code.filter(|code| usize::from(*code) < GRPC_CODES.len())
            .unwrap_or(UNKNOWN),
    )
}

/// Follows the messages of one direction, wherever the pieces are cut.
#[derive(Debug, Default)]
pub struct GrpcMessages {
    prefix: [u8; PREFIX_BYTES],
    have: usize,
    /// How much of the message that has begun is still to come.
    left: u64,
}

impl GrpcMessages {
    /// Takes the next piece; `false`: a message begins that is longer than `max` bytes.
    #[must_use]
    pub fn pass(&mut self, mut piece: &[u8], max: u64) -> bool {
        while let Some((byte, rest)) = piece.split_first() {
            if self.left > 0 {
                let length = usize::try_from(self.left).unwrap_or(usize::MAX);
                let length = length.min(piece.len());
                self.left -= length as u64;
                piece = piece.get(length..).unwrap_or_default();
                continue;
            }
            if let Some(place) = self.prefix.get_mut(self.have) {
                *place = *byte;
            }
            self.have += 1;
            piece = rest;
            if self.have == PREFIX_BYTES {
                self.have = 0;
                let [_, length @ ..] = self.prefix;
                self.left = u64::from(u32::from_be_bytes(length));
                if self.left > max {
                    return false;
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_that_servers_would_read_differently_is_refused() {
        let head = |lines: &[(&str, &str)]| {
            let mut head = RequestHeader::build("POST", b"/a.B/C", None).unwrap();
            for (name, value) in lines {
                head.append_header(name.to_string(), *value).unwrap();
            }
            head
        };
        for good in [
            &[("a-bin", "")][..],
            &[("a-bin", "aGk")],
            &[("a-bin", "aGk=")],
            &[("a-bin", "aGk=, aGk"), ("a-bin", "/+8")],
            &[("a", "not base64!"), ("grpc-timeout", "1S")],
            &[
                ("grpc-trace-bin", "aGk"),
                ("grpc-new", "1"),
                ("grpc-new", "2"),
            ],
        ] {
            assert_eq!(check_metadata(&mut head(good)), Ok(()), "{good:?}");
        }
        for bad in [
            &[("a-bin", "a")][..],
            &[("a-bin", "aGk!")],
            &[("a-bin", "aGl")],
            &[("a-bin", "a_8")],
            &[("a-bin", "aG k")],
            &[("a-bin", "aGk"), ("a-bin", "%%")],
            &[("a-bin", "aGk,=")],
            &[("grpc-trace-bin", "?")],
            &[("grpc-timeout", "1S"), ("grpc-timeout", "1H")],
            &[("grpc-encoding", "gzip"), ("grpc-encoding", "identity")],
        ] {
            let refused = Err(Fault::BadRequest);
            assert_eq!(check_metadata(&mut head(bad)), refused, "{bad:?}");
        }
        let mut said = head(&[
            ("grpc-status", "0"),
            ("grpc-message", "fine"),
            ("grpc-status-details-bin", "aGk"),
            ("grpc-previous-rpc-attempts", "1"),
        ]);
        check_metadata(&mut said).unwrap();
        let names: Vec<&str> = said.headers.keys().map(|name| name.as_str()).collect();
        assert_eq!(names, ["grpc-previous-rpc-attempts"]);
    }

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        )])
    }

    #[test]
    fn a_timeout_is_read_as_it_is_written() {
        for (text, read) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("99999999S", Some(Duration::from_secs(99_999_999))),
            ("250m", Some(Duration::from_millis(250))),
            ("7u", Some(Duration::from_micros(7))),
            ("0n", Some(Duration::ZERO)),
            ("", None),
            ("S", None),
            ("5", None),
            ("+5S", None),
            ("5 S", None),
            ("123456789S", None),
        ] {
            assert_eq!(grpc_timeout(&headers("grpc-timeout", text)), read, "{text}");
        }
    }

    #[test]
    fn only_grpc_itself_is_grpc() {
        for (kind, is) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=utf-8", true),
            ("application/grpc-web+proto", false),
            ("application/grpcish", false),
            ("application/json", false),
        ] {
            assert_eq!(is_grpc(&headers("content-type", kind)), is, "{kind}");
        }
    }

    #[test]
    fn a_status_is_a_code() {
        for (text, code) in [("0", 0), ("16", 16), ("17", 2), ("-1", 2), ("ok", 2)] {
            assert_eq!(grpc_status(&headers("grpc-status", text)), Some(code));
        }
        assert_eq!(grpc_status(&HeaderMap::new()), None);
    }

    #[test]
    fn messages_are_followed_wherever_they_are_cut() {
        let one = [&[0, 0, 0, 0, 3][..], b"abc"].concat();
        let none = [1, 0, 0, 0, 0];
        let all = [&one[..], &none, &one, &one].concat();
        for size in 1..=all.len() {
            let mut messages = GrpcMessages::default();
            for piece in all.chunks(size) {
                assert!(messages.pass(piece, 3), "{size}");
            }
            assert_eq!((messages.left, messages.have), (0, 0), "{size}");
            let mut strict = GrpcMessages::default();
            assert!(!all.chunks(size).all(|piece| strict.pass(piece, 2)));
        }
    }
}
