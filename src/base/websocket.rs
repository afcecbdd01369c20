//! Frames of WebSocket (RFC 6455 section 5), followed as they pass: nothing is held back but what is too short to say what it is.

use bytes::BytesMut;

/// The longest payload of a frame that is no data.
const CONTROL_BYTES_MAX: u64 = 125;
/// Two bytes, a length of eight, a mask of four.
const HEAD_BYTES_MAX: usize = 14;
const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const RSV: u8 = 0x70;
const MASKED: u8 = 0x80;

/// Why a connection is closed (RFC 6455 section 7.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseCode {
    /// Who sends it goes away.
    GoingAway = 1001,
    /// The other side broke the rules.
    ProtocolError = 1002,
    /// The other side sent a message that is too long.
    TooBig = 1009,
}

/// Frames that are no data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// The last frame.
    Close = 8,
    /// To be answered.
    Ping = 9,
    /// The answer.
    Pong = 10,
}

/// Whose frames they are: a client masks them, a server does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// Who asked for the connection.
    Client,
    /// Who was asked.
    Server,
}

/// How far it is with a goodbye of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// There is none.
    Open,
    /// It waits.
    Near,
    /// It went: nothing passes any more.
    Over,
}

/// One direction of a connection.
#[derive(Debug)]
pub struct Lane {
    sender: Sender,
    /// Whether an extension is spoken that takes the first reserved bit (RFC 7692).
    compressed: bool,
    message_bytes_max: u64,
    head: [u8; HEAD_BYTES_MAX],
    have: usize,
    /// How much of the payload is still to come.
    left: u64,
    /// The frame that has begun is no data: it is held until it is whole.
    control: Option<(Control, BytesMut)>,
    /// How long the message is so far; none between two.
    message: Option<u64>,
    /// What of ours goes before the next frame.
    ours: BytesMut,
    end: End,
    passed: u64,
}

impl Lane {
    /// The direction of `sender`, whose messages may be so long, in bytes; none = any length.
    #[must_use]
    pub fn new(sender: Sender, message_bytes_max: Option<u64>) -> Self {
        Self {
            sender,
            compressed: false,
            message_bytes_max: message_bytes_max.unwrap_or(u64::MAX),
            head: [0; HEAD_BYTES_MAX],
            have: 0,
            left: 0,
            control: None,
            message: None,
            ours: BytesMut::new(),
            end: End::Open,
            passed: 0,
        }
    }

    /// How many bytes of the sender's passed.
    #[must_use]
    pub const fn passed(&self) -> u64 {
        self.passed
    }

    /// The two agreed on an extension that compresses messages (RFC 7692).
    pub fn compresses(&mut self) {
        self.compressed = true;
    }

    fn is_masked(&self) -> bool {
        self.sender == Sender::Client
    }

    /// Sends a frame of our own as soon as no other one is under way.
    pub fn send(&mut self, kind: Control, payload: &[u8], key: [u8; 4]) {
        if self.end != End::Open {
            return;
        }
        if kind == Control::Close {
            self.end = End::Near;
        }
        let length = u8::try_from(payload.len()).unwrap_or(0) & 0x7f;
        let mask = if self.is_masked() { MASKED } else { 0 };
        self.ours
            .extend_from_slice(&[FIN | kind as u8, mask | length]);
        if self.is_masked() {
            self.ours.extend_from_slice(&key);
            let hidden = payload.iter().zip(key.iter().cycle());
            self.ours.extend(hidden.map(|(byte, key)| byte ^ key));
        } else {
            self.ours.extend_from_slice(payload);
        }
    }

    /// Whether something of ours waits for the end of a frame.
    #[must_use]
    pub fn waits(&self) -> bool {
        !self.ours.is_empty()
    }

    /// What of ours may go now goes to `out`.
    pub fn flush(&mut self, out: &mut BytesMut) {
        if self.left == 0 || self.control.is_some() {
            out.extend_from_slice(&self.ours.split());
            if self.end == End::Near {
                self.end = End::Over;
            }
        }
    }

    /// Passes `bytes` on to `out`. `heard` is told of each frame that is no data, and says whether it passes too.
    ///
    /// # Errors
    /// What the sender did: nothing of such a frame passes.
    pub fn pass(
        &mut self,
        mut bytes: &[u8],
        out: &mut BytesMut,
        heard: &mut impl FnMut(Control, &[u8]) -> bool,
    ) -> Result<(), CloseCode> {
        loop {
            self.flush(out);
            let Some((first, rest)) = bytes.split_first() else {
                return Ok(());
            };
            if self.left == 0 {
                if let Some(place) = self.head.get_mut(self.have) {
                    *place = *first;
                }
                self.have += 1;
                bytes = rest;
                if self.have == self.head_bytes() {
                    self.begin(out)?;
                    self.end_control(out, heard);
                }
                continue;
            }
            let length = usize::try_from(self.left).unwrap_or(usize::MAX);
            let (payload, rest) = bytes.split_at(length.min(bytes.len()));
            self.left -= payload.len() as u64;
            bytes = rest;
            match &mut self.control {
                Some((_, held)) => held.extend_from_slice(payload),
                None => self.put(payload, out),
            }
            self.end_control(out, heard);
        }
    }

    /// How long the head is, as far as it is known.
    fn head_bytes(&self) -> usize {
        let [_, second, ..] = self.head;
        let length = match second & !MASKED {
            _ if self.have < 2 => return 2,
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + length + if second & MASKED == 0 { 0 } else { 4 }
    }

    /// The head of a frame is whole.
    fn begin(&mut self, out: &mut BytesMut) -> Result<(), CloseCode> {
        let [first, second, extended @ ..] = self.head;
        let [a, b, c, d, e, f, g, h, ..] = extended;
        let length = match second & !MASKED {
            126 => u64::from(u16::from_be_bytes([a, b])),
            127 => u64::from_be_bytes([a, b, c, d, e, f, g, h]),
            short => u64::from(short),
        };
        let (fin, kind, reserved) = (first & FIN != 0, first & 0x0f, first & RSV);
        let control = match kind {
            0..=2 => None,
            8 => Some(Control::Close),
            9 => Some(Control::Ping),
            10 => Some(Control::Pong),
            _ => return Err(CloseCode::ProtocolError),
        };
        // Only the first frame of a message says that it is compressed.
        let may_be_reserved = self.compressed && matches!(kind, 1 | 2);
        let good = (second & MASKED != 0) == self.is_masked()
            && (reserved == 0 || reserved == RSV1 && may_be_reserved)
            && length >> 63 == 0
            && match control {
                Some(_) => fin && length <= CONTROL_BYTES_MAX,
                None => (kind == 0) == self.message.is_some(),
            };
        if !good {
            return Err(CloseCode::ProtocolError);
        }
        let bytes = self.head;
        let head = bytes.get(..self.have).unwrap_or_default();
        self.have = 0;
        self.left = length;
        if let Some(control) = control {
            self.control = Some((control, BytesMut::from(head)));
            return Ok(());
        }
        let message = self.message.unwrap_or(0).saturating_add(length);
        if message > self.message_bytes_max {
            self.left = 0;
            return Err(CloseCode::TooBig);
        }
        self.message = (!fin).then_some(message);
        self.put(head, out);
        Ok(())
    }

    /// A frame that is no data is whole, if it is.
    fn end_control(&mut self, out: &mut BytesMut, heard: &mut impl FnMut(Control, &[u8]) -> bool) {
        if self.left > 0 {
            return;
        }
        let Some((kind, held)) = self.control.take() else {
            return;
        };
        let head = if self.is_masked() { 6 } else { 2 };
        let payload = held.get(head..).unwrap_or_default();
        let passes = if self.is_masked() {
            let key = held.get(2..6).unwrap_or_default();
            let shown = payload.iter().zip(key.iter().cycle());
            let shown: BytesMut = shown.map(|(byte, key)| byte ^ key).collect();
            heard(kind, &shown)
        } else {
            heard(kind, payload)
        };
        if passes {
            self.put(&held, out);
        }
    }

    fn put(&mut self, bytes: &[u8], out: &mut BytesMut) {
        if self.end != End::Over {
            out.extend_from_slice(bytes);
            self.passed = self.passed.wrapping_add(bytes.len() as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What passes of `bytes` in pieces of `size`, and the frames without data that were heard.
    fn passed(lane: &mut Lane, bytes: &[u8], size: usize) -> Result<(Vec<u8>, usize), CloseCode> {
        let (mut out, mut heard) = (BytesMut::new(), 0);
        for piece in bytes.chunks(size) {
            lane.pass(piece, &mut out, &mut |_, _| {
                heard += 1;
                true
            })?;
        }
        Ok((out.to_vec(), heard))
    }

    #[test]
    fn frames_pass_as_they_are_wherever_they_are_cut() {
        let long = [&[0x82, 126, 1, 0][..], &[7; 256]].concat();
        let parts = [0x01, 2, b'a', b'b', 0x89, 1, b'p', 0x80, 1, b'c'];
        let all = [&long[..], &parts, &[0x88, 2, 3, 232]].concat();
        for size in [1, 2, 3, 5, 100, 1000] {
            let mut lane = Lane::new(Sender::Server, Some(256));
            assert_eq!(
                passed(&mut lane, &all, size),
                Ok((all.clone(), 2)),
                "{size}"
            );
        }
    }

    #[test]
    fn what_breaks_the_rules_does_not_pass() {
        for (what, bytes) in [
            ("masked by the server", &[0x81, 0x81, 1, 2, 3, 4, 5][..]),
            ("reserved bits", &[0xc1, 0]),
            ("an unknown kind", &[0x83, 0]),
            ("a ping in parts", &[0x09, 0]),
            ("a long ping", &[0x89, 126, 0, 126]),
            ("a part of nothing", &[0x80, 0]),
            ("a message inside another", &[0x01, 0, 0x81, 0]),
            (
                "a length beyond reason",
                &[0x82, 127, 128, 0, 0, 0, 0, 0, 0, 0],
            ),
        ] {
            let mut lane = Lane::new(Sender::Server, None);
            let passed = passed(&mut lane, bytes, 1);
            assert_eq!(passed, Err(CloseCode::ProtocolError), "{what}");
        }
        let mut lane = Lane::new(Sender::Client, None);
        assert!(passed(&mut lane, &[0x81, 0], 1).is_err(), "not masked");
        let mut lane = Lane::new(Sender::Server, None);
        lane.compresses();
        assert!(passed(&mut lane, &[0xc1, 0, 0x81, 0], 1).is_ok());
        assert!(passed(&mut lane, &[0x41, 0, 0xc0, 0], 1).is_err());
    }

    #[test]
    fn a_message_is_measured_over_all_its_parts() {
        let parts = [0x02, 2, 1, 2, 0x00, 2, 3, 4, 0x80, 1, 5];
        let mut lane = Lane::new(Sender::Server, Some(5));
        assert!(passed(&mut lane, &parts, 1).is_ok());
        let mut lane = Lane::new(Sender::Server, Some(4));
        assert_eq!(passed(&mut lane, &parts, 1), Err(CloseCode::TooBig));
    }

    #[test]
    fn ours_go_between_two_frames_and_nothing_behind_the_last() {
        let (mut lane, mut out) = (Lane::new(Sender::Server, None), BytesMut::new());
        let mut pass = |lane: &mut Lane, bytes: &[u8]| {
            lane.pass(bytes, &mut out, &mut |_, _| true).unwrap();
            out.split().to_vec()
        };
        assert_eq!(pass(&mut lane, &[0x81, 2, b'a']), [0x81, 2, b'a']);
        lane.send(Control::Ping, b"x", [0; 4]);
        lane.send(Control::Close, &1001u16.to_be_bytes(), [0; 4]);
        assert_eq!(pass(&mut lane, &[]), [0u8; 0]);
        let ours = [b'b', 0x89, 1, b'x', 0x88, 2, 3, 233];
        assert_eq!(pass(&mut lane, &[b'b', 0x81, 1, b'c']), ours);
        assert_eq!(lane.end, End::Over);
        let mut masked = Lane::new(Sender::Client, None);
        masked.send(Control::Ping, b"ab", [1, 2, 3, 4]);
        let sent = pass(&mut masked, &[]);
        assert_eq!(sent, [0x89, 0x82, 1, 2, 3, 4, b'a' ^ 1, b'b' ^ 2]);
    }
}
