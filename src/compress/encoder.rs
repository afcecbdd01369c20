//! A body in a coding, piece by piece.

use std::io::{self, Write as _};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use super::Coding;

/// How far back a coding looks: 256 KiB. With its tables an encoder takes about 1 MiB, and a decoder no more than this.
const WINDOW_LOG: u32 = 18;
/// The levels that servers of dynamic answers use: most of what can be had, at a tenth of the time.
const ZSTD_LEVEL: i32 = 3;
const BROTLI_LEVEL: u32 = 4;
const GZIP_LEVEL: u32 = 5;
/// So much is written at a time.
const BUFFER: usize = 4096;

/// Makes a coded body of a plain one.
#[derive(Debug)]
pub struct Encoder(Mutex<State>);

enum State {
    Zstd(Box<zstd::stream::write::Encoder<'static, Vec<u8>>>),
    Br(Box<brotli::CompressorWriter<Vec<u8>>>),
    Gzip(Box<flate2::write::GzEncoder<Vec<u8>>>),
    /// The end was written, or something broke.
    Ended,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("State")
    }
}

impl Encoder {
    /// Begins a body.
    ///
    /// # Errors
    /// No memory.
    pub fn new(coding: Coding) -> io::Result<Self> {
        let state = match coding {
            Coding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
                encoder.window_log(WINDOW_LOG)?;
                State::Zstd(Box::new(encoder))
            }
            Coding::Br => State::Br(Box::new(brotli::CompressorWriter::new(
                Vec::new(),
                BUFFER,
                BROTLI_LEVEL,
                WINDOW_LOG,
            ))),
            Coding::Gzip => {
                let level = flate2::Compression::new(GZIP_LEVEL);
                State::Gzip(Box::new(flate2::write::GzEncoder::new(Vec::new(), level)))
            }
        };
        // An encoder may be sent to another thread, but not be looked at by two: the lock is never waited for.
        Ok(Self(Mutex::new(state)))
    }

    /// The coded form of the next piece, which can be read whole by whoever gets it: nothing is held back for the next one.
    ///
    /// # Errors
    /// The encoder broke, or the end was written.
    pub fn encode(&mut self, piece: &[u8]) -> io::Result<Bytes> {
        let state = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        let out = match state {
            State::Zstd(encoder) => {
                encoder.write_all(piece)?;
                encoder.flush()?;
                std::mem::take(encoder.get_mut())
            }
            State::Br(encoder) => {
                encoder.write_all(piece)?;
                encoder.flush()?;
                std::mem::take(encoder.get_mut())
            }
            State::Gzip(encoder) => {
                encoder.write_all(piece)?;
                encoder.flush()?;
                std::mem::take(encoder.get_mut())
            }
            State::Ended => return Err(io::ErrorKind::BrokenPipe.into()),
        };
        Ok(out.into())
    }

    /// The last piece, and the end.
    ///
    /// # Errors
    /// The encoder broke, or the end was written before.
    pub fn finish(&mut self, piece: &[u8]) -> io::Result<Bytes> {
        let state = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        let out = match std::mem::replace(state, State::Ended) {
            State::Zstd(mut encoder) => {
                encoder.write_all(piece)?;
                encoder.finish()?
            }
            State::Br(mut encoder) => {
                encoder.write_all(piece)?;
                encoder.into_inner()
            }
            State::Gzip(mut encoder) => {
                encoder.write_all(piece)?;
                encoder.finish()?
            }
            State::Ended => return Err(io::ErrorKind::BrokenPipe.into()),
        };
        Ok(out.into())
    }
}
