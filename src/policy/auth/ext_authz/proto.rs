//! The messages of `envoy.service.auth.v3`, as far as they are used here: protocol buffers, written and read by hand.

/// What is written.
#[derive(Debug, Default)]
pub(super) struct Message(Vec<u8>);

/// One field that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'m> {
    /// A number, or a yes.
    Number(u64),
    /// Text, bytes, or a message inside.
    Bytes(&'m [u8]),
    /// Eight or four bytes, which nothing here is.
    Fixed,
}

/// The fields of a message, in order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'m>(&'m [u8]);

/// What was read is no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

impl Message {
    /// A number; 0 is not written.
    pub(super) fn number(mut self, field: u32, number: u64) -> Self {
        if number != 0 {
            self.varint(u64::from(field) << 3);
            self.varint(number);
        }
        self
    }

    /// Text; an empty one is not written.
    pub(super) fn text(self, field: u32, text: &str) -> Self {
        if text.is_empty() {
            return self;
        }
        self.bytes(field, text.as_bytes())
    }

    /// A message inside, or bytes.
    pub(super) fn bytes(mut self, field: u32, bytes: &[u8]) -> Self {
        self.varint((u64::from(field) << 3) | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    /// The same.
    pub(super) fn message(self, field: u32, message: &Self) -> Self {
        self.bytes(field, &message.0)
    }

    /// An entry of a map of texts.
    pub(super) fn entry(self, field: u32, key: &str, value: &str) -> Self {
        self.message(field, &Self::default().text(1, key).text(2, value))
    }

    /// As it goes over the wire of gRPC: not compressed, and its length before it.
    pub(super) fn framed(self) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        let mut framed = vec![0];
        framed.extend_from_slice(&length.to_be_bytes());
        framed.extend(self.0);
        framed
    }

    fn varint(&mut self, mut number: u64) {
        loop {
            let low = u8::try_from(number & 0x7f).unwrap_or(0);
            number >>= 7;
            if number == 0 {
                return self.0.push(low);
            }
            self.0.push(low | 0x80);
        }
    }
}

/// The one message in a body of gRPC, which is not compressed.
pub(super) fn unframed(body: &[u8]) -> Option<Fields<'_>> {
    let ([0, length @ ..], message) = body.split_first_chunk::<5>()? else {
        return None;
    };
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    (message.len() == length).then_some(Fields(message))
}

impl<'m> Fields<'m> {
    /// Of the message inside.
    pub(super) const fn of(bytes: &'m [u8]) -> Self {
        Self(bytes)
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(Malformed)?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Malformed)
    }

    fn take(&mut self, length: u64) -> Result<&'m [u8], Malformed> {
        let length = usize::try_from(length).map_err(|_error| Malformed)?;
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn field(&mut self) -> Result<(u32, Value<'m>), Malformed> {
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).map_err(|_error| Malformed)?;
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            1 => self.take(8).map(|_eight| Value::Fixed)?,
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_four| Value::Fixed)?,
            _ => return Err(Malformed),
        };
        Ok((number, value))
    }
}

impl<'m> Iterator for Fields<'m> {
    type Item = Result<(u32, Value<'m>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let message = Message::default()
            .number(1, 300)
            .number(2, 0)
            .text(3, "a")
            .entry(20, "k", "v");
        let framed = message.framed();
        let fields: Result<Vec<_>, _> = unframed(&framed).unwrap().collect();
        assert_eq!(
            fields.unwrap(),
            [
                (1, Value::Number(300)),
                (3, Value::Bytes(b"a")),
                (20, Value::Bytes(b"\x0a\x01k\x12\x01v")),
            ]
        );
    }

    #[test]
    fn what_is_cut_or_lies_about_its_length_is_no_message() {
        for wrong in [
            &b""[..],
            b"\0\0\0\0",
            b"\x01\0\0\0\0",
            b"\0\0\0\0\x01",
            b"\0\0\0\0\0a",
        ] {
            assert!(unframed(wrong).is_none(), "{wrong:?}");
        }
        for wrong in [
            &b"\x0a\x05ab"[..],
            b"\x08",
            b"\x0b",
            b"\x09\0",
            b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        ] {
            assert!(Fields::of(wrong).any(|field| field.is_err()), "{wrong:?}");
        }
        assert!(unframed(b"\0\0\0\0\0").unwrap().next().is_none());
    }
}
