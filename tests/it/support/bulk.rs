//! Bodies too large to keep: a pattern in which every byte has its place, and a checksum.

/// Prime, so that no power-of-two buffer size hides a block that is missing, doubled or out of order.
const PERIOD: usize = 65_521;

/// The endless body: the byte at each offset is known without the bytes before it.
pub(crate) struct Pattern {
    table: Vec<u8>,
}

impl Pattern {
    pub(crate) fn new() -> Self {
        let byte = |i: usize| ((i % PERIOD) * 167 + (i % PERIOD) / 251).to_le_bytes()[0];
        Self {
            table: (0..2 * PERIOD).map(byte).collect(),
        }
    }

    /// The bytes from `offset` on: at most `bytes_max`, at most one period.
    pub(crate) fn slice(&self, offset: u64, bytes_max: u64) -> &[u8] {
        let start = usize::try_from(offset % PERIOD as u64).unwrap();
        let length = usize::try_from(bytes_max.min(PERIOD as u64)).unwrap();
        &self.table[start..start + length]
    }

    /// Whether `bytes` are what the pattern has at `offset`.
    pub(crate) fn matches(&self, mut offset: u64, bytes: &[u8]) -> bool {
        bytes.chunks(PERIOD).all(|piece| {
            let same = self.slice(offset, piece.len() as u64) == piece;
            offset += piece.len() as u64;
            same
        })
    }
}

/// A fast 64-bit checksum that does not depend on how the bytes were cut into pieces. Not for secrets.
#[derive(Default)]
pub(crate) struct Checksum {
    state: u64,
    tail: Vec<u8>,
    length: u64,
}

impl Checksum {
    pub(crate) fn add(&mut self, mut bytes: &[u8]) {
        self.length += bytes.len() as u64;
        if !self.tail.is_empty() {
            let (first, rest) = bytes.split_at(bytes.len().min(8 - self.tail.len()));
            self.tail.extend_from_slice(first);
            bytes = rest;
            if self.tail.len() < 8 {
                return;
            }
            let full = std::mem::take(&mut self.tail);
            self.word(u64::from_le_bytes(full.try_into().unwrap()));
        }
        let words = bytes.chunks_exact(8);
        self.tail.extend_from_slice(words.remainder());
        words.for_each(|word| self.word(u64::from_le_bytes(word.try_into().unwrap())));
    }

    pub(crate) fn value(&self) -> u64 {
        let mut last = [0; 8];
        last[..self.tail.len()].copy_from_slice(&self.tail);
        let mut end = Self {
            state: self.state,
            ..Self::default()
        };
        end.word(u64::from_le_bytes(last));
        end.word(self.length);
        end.state
    }

    fn word(&mut self, word: u64) {
        self.state = (self.state.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

/// The checksum of one piece.
pub(crate) fn checksum(bytes: &[u8]) -> u64 {
    let mut sum = Checksum::default();
    sum.add(bytes);
    sum.value()
}
