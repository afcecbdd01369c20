//! Where a JSON value ends, strictly read (RFC 8259): nothing is kept of it, so that a hostile one costs no memory.

use super::Unreadable;

/// How deep lists and objects may stand in one another.
const DEPTH_MAX: usize = 128;

/// Reads a text from its beginning to its end.
pub(super) struct Scan<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Scan<'a> {
    pub(super) const fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// The next byte that is no white space.
    pub(super) fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(byte) = bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Some(*byte);
            }
            self.at += 1;
        }
        None
    }

    /// Steps over `byte`, if it comes next.
    pub(super) fn step(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    /// Steps over `byte`, which has to come next.
    pub(super) fn expect(&mut self, byte: u8) -> Result<(), Unreadable> {
        if self.step(byte) {
            Ok(())
        } else {
            Err(Unreadable)
        }
    }

    /// Whether nothing is left.
    pub(super) fn ends(&mut self) -> bool {
        self.peek().is_none()
    }

    /// The text of the next value, whatever it is.
    pub(super) fn value(&mut self) -> Result<&'a str, Unreadable> {
        let first = self.peek().ok_or(Unreadable)?;
        let from = self.at;
        match first {
            b'{' | b'[' => self.nested()?,
            _ => self.scalar(first)?,
        }
        self.text.get(from..self.at).ok_or(Unreadable)
    }

    /// The next string, with its quotes.
    pub(super) fn string(&mut self) -> Result<&'a str, Unreadable> {
        if self.peek() != Some(b'"') {
            return Err(Unreadable);
        }
        let from = self.at;
        self.at += 1;
        let bytes = self.text.as_bytes();
        loop {
            let byte = bytes.get(self.at).ok_or(Unreadable)?;
            self.at += 1;
            match byte {
                b'"' => return self.text.get(from..self.at).ok_or(Unreadable),
                b'\\' => self.escape()?,
                0..0x20 => return Err(Unreadable),
                _ => {}
            }
        }
    }

    fn escape(&mut self) -> Result<(), Unreadable> {
        let bytes = self.text.as_bytes();
        let kind = bytes.get(self.at).ok_or(Unreadable)?;
        self.at += 1;
        match kind {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(()),
            b'u' => {
                let digits = bytes.get(self.at..self.at + 4).ok_or(Unreadable)?;
                self.at += 4;
                if digits.iter().all(u8::is_ascii_hexdigit) {
                    Ok(())
                } else {
                    Err(Unreadable)
                }
            }
            _ => Err(Unreadable),
        }
    }

    fn scalar(&mut self, first: u8) -> Result<(), Unreadable> {
        match first {
            b'"' => self.string().map(drop),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            b'-' | b'0'..=b'9' => self.number(),
            _ => Err(Unreadable),
        }
    }

    fn word(&mut self, word: &str) -> Result<(), Unreadable> {
        let rest = self.text.get(self.at..).ok_or(Unreadable)?;
        if !rest.starts_with(word) {
            return Err(Unreadable);
        }
        self.at += word.len();
        Ok(())
    }

    fn number(&mut self) -> Result<(), Unreadable> {
        let byte = |at: usize| self.text.as_bytes().get(at).copied();
        let digits = |mut at: usize| {
            let from = at;
            while byte(at).is_some_and(|byte| byte.is_ascii_digit()) {
                at += 1;
            }
            if at > from { Ok(at) } else { Err(Unreadable) }
        };
        let mut at = self.at + usize::from(byte(self.at) == Some(b'-'));
        at = match byte(at) {
            // No number begins with a zero that says nothing.
            Some(b'0') => at + 1,
            _ => digits(at)?,
        };
        if byte(at) == Some(b'.') {
            at = digits(at + 1)?;
        }
        if matches!(byte(at), Some(b'e' | b'E')) {
            let sign = matches!(byte(at + 1), Some(b'+' | b'-'));
            at = digits(at + 1 + usize::from(sign))?;
        }
        self.at = at;
        Ok(())
    }

    /// A list or an object, to its end. What it stands in is kept in bits: one for each level.
    fn nested(&mut self) -> Result<(), Unreadable> {
        let mut objects = 0u128;
        let mut depth = 0;
        loop {
            // A value comes next.
            let first = self.peek().ok_or(Unreadable)?;
            if matches!(first, b'{' | b'[') {
                self.at += 1;
                depth += 1;
                if depth > DEPTH_MAX {
                    return Err(Unreadable);
                }
                let object = first == b'{';
                objects = (objects << 1) | u128::from(object);
                if !self.step(if object { b'}' } else { b']' }) {
                    if object {
                        self.name()?;
                    }
                    continue;
                }
                depth -= 1;
                objects >>= 1;
            } else {
                self.scalar(first)?;
            }
            // A value ended, and perhaps what it stands in.
            loop {
                if depth == 0 {
                    return Ok(());
                }
                let object = objects & 1 == 1;
                if self.step(b',') {
                    if object {
                        self.name()?;
                    }
                    break;
                }
                self.expect(if object { b'}' } else { b']' })?;
                depth -= 1;
                objects >>= 1;
            }
        }
    }

    fn name(&mut self) -> Result<(), Unreadable> {
        self.string()?;
        self.expect(b':')
    }
}
