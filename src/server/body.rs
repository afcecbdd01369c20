//! Where a request's body ends: counted or in chunks, read strictly (RFC 9112 sections 6.3 and 7.1).

use std::io;

use crate::exchange::Framing;

/// The longest line before a chunk: a size of 16 digits and an extension nobody uses.
const SIZE_LINE_MAX: usize = 256;
/// All trailers together; they are not passed on.
const TRAILERS_BYTES_MAX: usize = 8 * 1024;
/// So many lines of them.
const TRAILERS_MAX: u8 = 100;

/// How far a body has come.
#[derive(Debug)]
pub(super) enum BodyEnd {
    /// So many bytes are left.
    Length(u64),
    /// In chunks.
    Chunks(Chunks),
}

/// The state between two bytes of a chunked body.
#[derive(Debug)]
pub(super) struct Chunks {
    step: Step,
    left: u64,
    line: usize,
    trailers: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    TrailerStart,
    Trailer,
    TrailerLf,
    LastLf,
    Done,
}

impl BodyEnd {
    /// No body.
    pub(super) const fn none() -> Self {
        Self::Length(0)
    }

    /// As the head says.
    pub(super) fn of(framing: &Framing) -> Self {
        if framing.chunked {
            Self::Chunks(Chunks {
                step: Step::Size,
                left: 0,
                line: 0,
                trailers: 0,
            })
        } else {
            Self::Length(framing.content_length.unwrap_or(0))
        }
    }

    /// Whether the body is over.
    pub(super) fn is_reached(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunks(chunks) => chunks.step == Step::Done,
        }
    }

    /// How many of `bytes` are part of the body.
    ///
    /// # Errors
    /// The chunks are not well formed; the request breaks off.
    pub(super) fn accept(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Length(left) => {
                let taken = usize::try_from(*left)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len());
                *left = left.saturating_sub(taken as u64);
                Ok(taken)
            }
            Self::Chunks(chunks) => chunks.accept(bytes),
        }
    }
}

impl Chunks {
    fn accept(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut taken = 0;
        while let Some(byte) = bytes.get(taken).copied() {
            if self.step == Step::Done {
                break;
            }
            if self.step == Step::Data {
                let length = usize::try_from(self.left)
                    .unwrap_or(usize::MAX)
                    .min(bytes.len() - taken);
                self.left = self.left.saturating_sub(length as u64);
                taken += length;
                if self.left == 0 {
                    self.step = Step::DataCr;
                }
                continue;
            }
            self.step = self
                .next(byte)
                .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "malformed chunk"))?;
            taken += 1;
        }
        Ok(taken)
    }

    /// The step after `byte`; none where it cannot stand.
    fn next(&mut self, byte: u8) -> Option<Step> {
        self.line += 1;
        match (self.step, byte) {
            (Step::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if self.line <= 16 => {
                let digit = char::from(byte).to_digit(16)?;
                self.left = self.left.checked_mul(16)?.checked_add(u64::from(digit))?;
                Some(Step::Size)
            }
            (Step::Size, b'\r') if self.line > 1 => Some(Step::SizeLf),
            (Step::Size, b';') if self.line > 1 => Some(Step::Extension),
            (Step::Extension, b'\r') => Some(Step::SizeLf),
            (Step::Extension, b'\t' | 0x20..=0x7e | 0x80..) if self.line <= SIZE_LINE_MAX => {
                Some(Step::Extension)
            }
            (Step::SizeLf, b'\n') => {
                self.line = 0;
                Some(if self.left == 0 {
                    Step::TrailerStart
                } else {
                    Step::Data
                })
            }
            (Step::DataCr, b'\r') => Some(Step::DataLf),
            (Step::DataLf, b'\n') => {
                self.line = 0;
                Some(Step::Size)
            }
            (Step::TrailerStart, b'\r') => Some(Step::LastLf),
            (Step::TrailerStart | Step::Trailer, b'\t' | 0x20..=0x7e | 0x80..)
                if self.line <= TRAILERS_BYTES_MAX =>
            {
                Some(Step::Trailer)
            }
            (Step::Trailer, b'\r') if self.trailers < TRAILERS_MAX => {
                self.trailers += 1;
                Some(Step::TrailerLf)
            }
            (Step::TrailerLf, b'\n') => Some(Step::TrailerStart),
            (Step::LastLf, b'\n') => Some(Step::Done),
            _ => None,
        }
    }
}
