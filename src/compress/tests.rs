//! The rules of codings: which one is chosen, and that a body comes out as it went in, piece by piece.

use std::io::{Read as _, Write as _};

use proptest::prelude::*;

use super::{Coding, Encoder, choose};

const ALL: &[Coding] = &[Coding::Zstd, Coding::Br, Coding::Gzip];

fn chosen(accept: &[&str]) -> Option<&'static str> {
    choose(&mut accept.iter().copied(), ALL).map(Coding::name)
}

#[test]
fn the_coding_that_the_client_likes_best_is_chosen_and_ours_where_it_likes_two_the_same() {
    for (accept, expected) in [
        ("gzip, deflate, br, zstd", Some("zstd")),
        ("br, gzip", Some("br")),
        ("gzip;q=1.0, br;q=0.9", Some("gzip")),
        ("GZIP", Some("gzip")),
        ("x-gzip", Some("gzip")),
        ("gzip;q=0", None),
        ("gzip; q=0.001", Some("gzip")),
        ("*", Some("zstd")),
        ("*;q=0", None),
        ("zstd;q=0, *", Some("br")),
        ("gzip, *;q=0", Some("gzip")),
        ("identity", None),
        ("identity;q=0.5, gzip;q=0.4", None),
        ("identity;q=0.5, gzip;q=0.5", Some("gzip")),
        ("identity;q=0", None),
        ("identity;q=0, gzip", Some("gzip")),
        ("deflate", None),
        ("", None),
        ("gzip;q=2", None),
        ("gzip;q=0.0001", None),
        ("gzip;level=9", None),
        ("gzip;q=x, br", None),
    ] {
        assert_eq!(chosen(&[accept]), expected, "{accept}");
    }
    assert_eq!(chosen(&["gzip", "br;q=0.5"]), Some("gzip"));
    assert_eq!(chosen(&[]), None);
    assert_eq!(
        choose(&mut ["br, gzip"].into_iter(), &[Coding::Gzip]),
        Some(Coding::Gzip)
    );
}

fn plain(coding: Coding, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    match coding {
        Coding::Zstd => out = zstd::stream::decode_all(bytes).unwrap(),
        Coding::Br => drop(
            brotli::Decompressor::new(bytes, 4096)
                .read_to_end(&mut out)
                .unwrap(),
        ),
        Coding::Gzip => drop(
            flate2::read::MultiGzDecoder::new(bytes)
                .read_to_end(&mut out)
                .unwrap(),
        ),
    }
    out
}

/// As much of a body as can be told from its beginning.
fn beginning(coding: Coding, bytes: &[u8]) -> Vec<u8> {
    match coding {
        Coding::Zstd => {
            let mut decoder = zstd::stream::write::Decoder::new(Vec::new()).unwrap();
            decoder.write_all(bytes).unwrap();
            decoder.flush().unwrap();
            decoder.get_ref().clone()
        }
        Coding::Br => {
            let mut decoder = brotli::DecompressorWriter::new(Vec::new(), 4096);
            decoder.write_all(bytes).unwrap();
            decoder.get_ref().clone()
        }
        Coding::Gzip => {
            let mut decoder = flate2::write::GzDecoder::new(Vec::new());
            decoder.write_all(bytes).unwrap();
            decoder.flush().unwrap();
            decoder.get_ref().clone()
        }
    }
}

#[test]
fn a_short_piece_can_be_read_before_the_next_one_comes() {
    for coding in ALL {
        let mut encoder = Encoder::new(*coding).unwrap();
        let mut sent = Vec::new();
        for count in 1..=20 {
            sent.extend(encoder.encode(b"one piece of many\n").unwrap());
            let read = beginning(*coding, &sent);
            assert_eq!(read, b"one piece of many\n".repeat(count), "{coding:?}");
        }
        sent.extend(encoder.finish(b"").unwrap());
        assert_eq!(plain(*coding, &sent), b"one piece of many\n".repeat(20));
        assert!(encoder.finish(b"").is_err() && encoder.encode(b"x").is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_body_comes_out_as_it_went_in(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40_000), 0..5),
        last in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        for coding in ALL {
            let mut encoder = Encoder::new(*coding).unwrap();
            let mut sent = Vec::new();
            for piece in &pieces {
                sent.extend(encoder.encode(piece).unwrap());
            }
            sent.extend(encoder.finish(&last).unwrap());
            prop_assert_eq!(plain(*coding, &sent), [pieces.concat(), last.clone()].concat());
        }
    }
}
