//! The rules of greetings and times.

use proptest::prelude::*;

use super::certificate::{Validity, seconds};
use super::hello::{Hello, read_hello};

/// A greeting that asks for `name`, cut into records of at most `piece` bytes.
fn greeting(name: Option<&str>, piece: usize) -> Vec<u8> {
    let mut extensions = vec![0, 23, 0, 0];
    if let Some(name) = name {
        let length = u16::try_from(name.len()).unwrap();
        extensions.extend([0, 0]);
        extensions.extend((length + 5).to_be_bytes());
        extensions.extend((length + 3).to_be_bytes());
        extensions.push(0);
        extensions.extend(length.to_be_bytes());
        extensions.extend(name.as_bytes());
    }
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([0, 0, 2, 19, 1, 1, 0]);
    body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
    body.extend(extensions);
    let mut message = vec![1, 0];
    message.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    message.extend(body);
    let records = message.chunks(piece).map(|part| {
        let mut record = vec![22, 3, 1];
        record.extend(u16::try_from(part.len()).unwrap().to_be_bytes());
        record.extend(part);
        record
    });
    records.collect::<Vec<_>>().concat()
}

#[test]
fn a_greeting_says_which_host_is_wanted() {
    let named = |name: &str| Hello::Named(Some(name.into()));
    let cases = [
        (Some("api.example.com"), named("api.example.com")),
        (Some("API.Example.Com."), named("api.example.com")),
        (None, Hello::Named(None)),
        (Some(""), Hello::Malformed),
        (Some("a b"), Hello::Malformed),
        (Some("\u{e9}"), Hello::Malformed),
    ];
    for (name, read) in cases {
        for piece in [1, 3, 50, 1000] {
            assert_eq!(read_hello(&greeting(name, piece)), read, "{name:?} {piece}");
        }
    }
}

#[test]
fn a_greeting_is_waited_for() {
    let whole = greeting(Some("a.test"), 40);
    for length in 0..whole.len() {
        assert_eq!(read_hello(&whole[..length]), Hello::Partial, "{length}");
    }
}

#[test]
fn what_is_no_tls_is_no_greeting() {
    for bytes in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"\x80\x2e\x01\x03\x01",
        b"\x16\x02",
        b"\x15\x03\x03\x00\x02\x02\x28",
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01\xff\xff",
        b"\x16\x03\x01\x00\x04\x02\x00\x00\x00",
    ] {
        assert_eq!(read_hello(bytes), Hello::Malformed, "{bytes:?}");
    }
}

#[test]
fn a_greeting_without_an_end_is_none() {
    let mut bytes = Vec::new();
    while bytes.len() < 64 * 1024 {
        bytes.extend([22, 3, 1, 0, 1, if bytes.is_empty() { 1 } else { 0 }]);
    }
    assert_eq!(read_hello(&bytes[..600]), Hello::Malformed);
    assert_eq!(read_hello(&bytes), Hello::Malformed);
}

#[test]
fn the_time_of_a_certificate_is_read() {
    assert_eq!(seconds("Jan  2 03:04:05 1970 GMT"), Some(97_445));
    assert_eq!(seconds("Nov 22 05:44:44 2026 GMT"), Some(1_795_326_284));
    assert_eq!(seconds("Bad time value"), None);
    let validity = Validity {
        from: 0,
        until: 10 * 86_400,
    };
    assert_eq!(validity.days_left(0), 10);
    assert_eq!(validity.days_left(1), 9);
    assert_eq!(validity.days_left(10 * 86_400 + 1), -1);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        drop(read_hello(&bytes));
    }

    #[test]
    fn no_change_of_a_greeting_makes_it_panic(
        at in 0usize..90, byte in any::<u8>(), piece in 1usize..100,
    ) {
        let mut bytes = greeting(Some("api.example.com"), piece);
        let at = at % bytes.len();
        bytes[at] = byte;
        drop(read_hello(&bytes));
    }
}
