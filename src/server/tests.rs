//! The rules of bodies: they end where their framing says, and malformed chunks end the request.

use proptest::prelude::*;

use super::body::BodyEnd;
use crate::exchange::Framing;

fn chunked() -> BodyEnd {
    BodyEnd::of(&Framing {
        chunked: true,
        ..Framing::default()
    })
}

/// How many bytes are the body's, and whether it is over; `None` when it is refused.
fn check(bytes: &[u8]) -> Option<(usize, bool)> {
    let mut end = chunked();
    let taken = end.accept(bytes).ok()?;
    Some((taken, end.is_reached()))
}

#[test]
fn a_counted_body_ends_at_its_length() {
    let mut end = BodyEnd::of(&Framing {
        content_length: Some(5),
        ..Framing::default()
    });
    assert_eq!(end.accept(b"hel").unwrap(), 3);
    assert!(!end.is_reached());
    assert_eq!(end.accept(b"loGET /").unwrap(), 2);
    assert!(end.is_reached());
}

#[test]
fn a_chunked_body_ends_at_its_last_chunk() {
    let cases: &[(&[u8], usize)] = &[
        (b"0\r\n\r\n", 5),
        (b"5\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1\r\n", 15),
        (b"1;name=value\r\nx\r\n0\r\n\r\n", 22),
        (b"0\r\nx-trailer: 1\r\n\r\nrest", 19),
        (b"00000\r\n\r\n", 9),
    ];
    for (bytes, taken) in cases {
        assert_eq!(
            check(bytes),
            Some((*taken, true)),
            "{:?}",
            String::from_utf8_lossy(bytes)
        );
    }
}

#[test]
fn malformed_chunks_are_refused() {
    let cases: &[&[u8]] = &[
        b"\r\nhello",
        b"x\r\n",
        b"5\nhello",
        b"5\r\nhelloX",
        b"5\r\nhello\nX",
        b" 5\r\nhello",
        b"5 \r\nhello",
        b"-1\r\n",
        b"0x5\r\nhello",
        b"11111111111111111\r\n",
        b"1;a\nb\r\n",
        b"0\r\n\n",
        b"0\r\nx: \x00\r\n\r\n",
    ];
    for bytes in cases {
        assert_eq!(check(bytes), None, "{:?}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn trailers_have_a_limit() {
    let mut bytes = b"0\r\n".to_vec();
    bytes.extend(std::iter::repeat_n(b'a', 10_000));
    assert_eq!(check(&bytes), None);
}

proptest! {
    #[test]
    fn where_a_body_is_cut_does_not_matter(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
        cuts in prop::collection::vec(1usize..20, 1..50),
        rest in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let mut bytes = Vec::new();
        for chunk in &chunks {
            bytes.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
            bytes.extend(chunk);
            bytes.extend(b"\r\n");
        }
        bytes.extend(b"0\r\n\r\n");
        let length = bytes.len();
        bytes.extend(&rest);
        let mut end = chunked();
        let mut taken = 0;
        for cut in cuts.iter().cycle() {
            if taken >= bytes.len() || end.is_reached() {
                break;
            }
            let piece = &bytes[taken..(taken + cut).min(bytes.len())];
            taken += end.accept(piece).unwrap();
        }
        prop_assert!(end.is_reached());
        prop_assert_eq!(taken, length);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut end = chunked();
        if let Ok(taken) = end.accept(&bytes) {
            prop_assert!(taken <= bytes.len());
        }
    }
}
