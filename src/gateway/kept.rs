//! What was read of a call's request, kept until its answer begins: so far it can be sent again.

use std::collections::VecDeque;

use bytes::Bytes;

/// The beginning of a request.
#[derive(Debug, Default)]
pub struct Kept {
    pieces: Vec<Bytes>,
    /// What is still to be sent once more.
    again: VecDeque<Bytes>,
    bytes: u64,
    /// It became too long, or is not kept any more.
    cut: bool,
    /// The client said that there is no more.
    ended: bool,
}

impl Kept {
    /// A piece was read; more than `max` bytes are not kept.
    pub(super) fn read(&mut self, piece: &Bytes, max: u64) {
        self.bytes += piece.len() as u64;
        if self.bytes > max {
            self.let_go();
        } else if !self.cut {
            self.pieces.push(piece.clone());
        }
    }

    /// The request is whole.
    pub(super) const fn end(&mut self) {
        self.ended = true;
    }

    /// Whether the client said so.
    pub(super) const fn is_ended(&self) -> bool {
        self.ended
    }

    /// It will not be sent again.
    pub(super) fn let_go(&mut self) {
        self.cut = true;
        self.pieces = Vec::new();
    }

    /// Whether something of it is not there any more.
    pub(super) const fn is_cut(&self) -> bool {
        self.cut
    }

    /// It is sent from its beginning.
    pub(super) fn rewind(&mut self) {
        self.again = self.pieces.iter().cloned().collect();
    }

    /// The next piece that is sent once more.
    pub(super) fn next(&mut self) -> Option<Bytes> {
        self.again.pop_front()
    }
}
