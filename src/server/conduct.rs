//! How a client of HTTP/2 behaves: frames that ask for nothing are few, and each head comes in one go.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::telemetry::Ending;

/// What a client says first (RFC 9113 section 3.4).
const PREFACE_BYTES: usize = 24;
const FRAME_HEAD_BYTES: usize = 9;
/// Kinds of frames (RFC 9113 section 6), and flags.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const PING: u8 = 6;
const PUSH_PROMISE: u8 = 5;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;
/// A kind that is none: whoever gets one passes over it (RFC 9113 section 4.1).
const UNKNOWN: u8 = 0xff;
/// Where the kind stands in the head of a frame.
const KIND_AT: usize = 3;

/// How many requests a client may take back at once, and how many more in each second: all that a browser has open when
/// somebody goes to another page, and again soon after.
const RESETS: Budget = Budget::of(200, 20);
/// The same for frames that carry nothing: PING, SETTINGS, PRIORITY, empty DATA, kinds that nobody knows.
const IDLE_FRAMES: Budget = Budget::of(1000, 1000);

/// What is known of a client. Whoever reads its frames writes; whoever serves the connection waits.
#[derive(Debug, Default)]
pub(super) struct Conduct {
    /// It sent more than it may.
    flooding: AtomicBool,
    /// The number of the head that has begun and not ended; 0 = none.
    head: AtomicU64,
    /// It was told that the connection is going to end.
    leaving: AtomicBool,
    /// How many requests it took back, of which nobody knows yet.
    taken_back: AtomicU32,
    /// Its address took back too many.
    resting: AtomicBool,
    changed: Notify,
}

impl Conduct {
    /// The client is told that the connection is going to end.
    pub(super) fn leaves(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    /// Returns when the client sent more than it may, or takes longer than `header` for one head: which of the two.
    pub(super) async fn is_bad(&self, header: Duration) -> Ending {
        // Relaxed: `Notify` orders what it tells of.
        let mut head = self.head.load(Ordering::Relaxed);
        while !self.flooding.load(Ordering::Relaxed) {
            let changed = self.changed.notified();
            if head == 0 {
                changed.await;
            } else if timeout(header, changed).await.is_err() {
                return Ending::Head;
            }
            head = self.head.load(Ordering::Relaxed);
        }
        Ending::Flood
    }

    /// How many requests it took back since this was last asked.
    pub(super) fn taken_back(&self) -> u32 {
        self.taken_back.swap(0, Ordering::Relaxed)
    }

    /// Nothing more of it is read, until it goes on.
    pub(super) fn rest(&self) {
        self.resting.store(true, Ordering::Relaxed);
    }

    /// It is read again; whoever serves the connection asks for more.
    pub(super) fn go_on(&self) {
        self.resting.store(false, Ordering::Relaxed);
    }

    /// Whether nothing more of it is read, for now or at all.
    pub(super) fn is_unread(&self) -> bool {
        self.flooding.load(Ordering::Relaxed) || self.resting.load(Ordering::Relaxed)
    }
}

/// Something a client may do so often at once, and so often in each second.
#[derive(Debug, Clone, Copy)]
struct Budget {
    most: u32,
    each_second: u32,
    left: u32,
}

impl Budget {
    const fn of(most: u32, each_second: u32) -> Self {
        Self {
            most,
            each_second,
            left: most,
        }
    }

    /// Takes one, if there is one; `earning` is since when it was not looked at what was earned.
    fn take(&mut self, earning: &mut Instant, now: Instant) -> bool {
        if self.left == 0 {
            let span = now.saturating_duration_since(*earning).as_millis();
            let earned = span * u128::from(self.each_second) / 1000;
            self.left = u32::try_from(earned).unwrap_or(u32::MAX).min(self.most);
            *earning = now;
        }
        let left = self.left.checked_sub(1);
        self.left = left.unwrap_or(0);
        left.is_some()
    }
}

/// Follows the frames of one client, wherever a read may have cut them.
#[derive(Debug)]
pub(super) struct Follower {
    preface: usize,
    /// The head of the frame that has begun.
    frame: [u8; FRAME_HEAD_BYTES],
    have: usize,
    /// How much of its payload is still to come, and whether that is part of a head.
    left: usize,
    /// A head has begun, and this frame does not end it.
    block: bool,
    /// The frame whose payload comes is part of a head.
    of_head: bool,
    heads: u64,
    /// The last stream that was begun, and the last that is still served after the goodbye.
    stream: u32,
    last: Option<u32>,
    resets: (Budget, Instant),
    idle_frames: (Budget, Instant),
}

impl Follower {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            preface: PREFACE_BYTES,
            frame: [0; FRAME_HEAD_BYTES],
            have: 0,
            left: 0,
            block: false,
            of_head: false,
            heads: 0,
            stream: 0,
            last: None,
            resets: (RESETS, now),
            idle_frames: (IDLE_FRAMES, now),
        }
    }

    /// Takes what was read next, and notes what that says of the client.
    ///
    /// After the goodbye h2 passes over streams that come too late, as it should, but takes it for a mistake when one of them is
    /// given room (WINDOW_UPDATE), and ends the connection with everything on it. Such a frame is made one of a kind that nobody
    /// knows.
    ///
    /// Returns how many of the bytes may be taken: none behind what was too much.
    pub(super) fn read(&mut self, bytes: &mut [u8], conduct: &Conduct) -> usize {
        let mut at = self.preface.min(bytes.len());
        self.preface -= at;
        let mut good = true;
        while at < bytes.len() && good {
            if self.left > 0 {
                let passed = self.left.min(bytes.len() - at);
                self.left -= passed;
                at += passed;
                continue;
            }
            self.heads += u64::from(self.have == 0 && !self.block);
            if let (Some(place), Some(byte)) = (self.frame.get_mut(self.have), bytes.get(at)) {
                *place = *byte;
            }
            self.have += 1;
            at += 1;
            if self.have == FRAME_HEAD_BYTES {
                self.have = 0;
                good = self.begin(conduct);
                let kind = at.checked_sub(FRAME_HEAD_BYTES - KIND_AT);
                let kind = kind.and_then(|kind| bytes.get_mut(kind));
                if let (true, Some(kind)) = (self.is_too_late(), kind) {
                    *kind = UNKNOWN;
                }
            }
        }
        let within = self.have > 0 || self.block || self.of_head && self.left > 0;
        let head = if within { self.heads } else { 0 };
        let before = conduct.head.swap(head, Ordering::Relaxed);
        if !good {
            conduct.flooding.store(true, Ordering::Relaxed);
        }
        if before != head || !good {
            conduct.changed.notify_one();
        }
        if good {
            bytes.len()
        } else {
            at.saturating_sub(FRAME_HEAD_BYTES)
        }
    }

    /// Whether the frame that begins gives room to a stream that is passed over.
    fn is_too_late(&self) -> bool {
        let [_, _, _, kind, _, number @ ..] = self.frame;
        kind == WINDOW_UPDATE
            && self
                .last
                .is_some_and(|last| u32::from_be_bytes(number) > last)
    }

    /// The head of a frame is whole; `false`: it is one too many.
    fn begin(&mut self, conduct: &Conduct) -> bool {
        let [high, middle, low, kind, flags, number @ ..] = self.frame;
        if kind == HEADERS {
            self.stream = self.stream.max(u32::from_be_bytes(number));
        }
        // h2 asks by PING whether the goodbye was heard, and nobody else asks; what came until then is served.
        if kind == PING && flags & ACK != 0 && conduct.leaving.load(Ordering::Relaxed) {
            self.last.get_or_insert(self.stream);
        }
        let length = u32::from_be_bytes([0, high, middle, low]);
        self.left = usize::try_from(length).unwrap_or(usize::MAX);
        self.of_head = matches!(kind, HEADERS | CONTINUATION);
        if self.of_head {
            self.block = flags & END_HEADERS == 0;
        }
        let budget = match kind {
            RST_STREAM => {
                conduct.taken_back.fetch_add(1, Ordering::Relaxed);
                &mut self.resets
            }
            // They carry something, or h2 ends the connection by itself.
            HEADERS | CONTINUATION | PUSH_PROMISE | GOAWAY | WINDOW_UPDATE => return true,
            DATA if length > 0 || flags & END_STREAM != 0 => return true,
            _ => &mut self.idle_frames,
        };
        let (budget, earning) = budget;
        budget.take(earning, Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn greeted() -> (Follower, Conduct) {
        let (mut follower, conduct) = (Follower::new(Instant::now()), Conduct::default());
        follower.read(&mut b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), &conduct);
        (follower, conduct)
    }

    #[test]
    fn frames_are_followed_wherever_a_read_cuts_them() {
        let one = [
            frame(4, 0, &[0; 6]),
            frame(HEADERS, END_HEADERS, b"abc"),
            frame(DATA, 0, b"hello"),
            frame(RST_STREAM, 0, &[0; 4]),
        ];
        let all = one.concat().repeat(200);
        for length in [1, 2, 7, 10, 1000, all.len()] {
            let (mut follower, conduct) = greeted();
            for piece in all.chunks(length) {
                follower.read(&mut piece.to_vec(), &conduct);
            }
            assert!(!conduct.is_unread(), "{length}");
            assert_eq!(conduct.head.load(Ordering::Relaxed), 0, "{length}");
            assert_eq!(follower.idle_frames.0.left, 800, "{length}");
            follower.read(&mut one[3].clone(), &conduct);
            assert!(conduct.is_unread(), "{length}");
        }
    }

    #[test]
    fn a_head_is_open_until_its_last_frame_is_whole() {
        let (mut follower, conduct) = greeted();
        let open = |follower: &mut Follower, bytes: &[u8]| {
            follower.read(&mut bytes.to_vec(), &conduct);
            conduct.head.load(Ordering::Relaxed)
        };
        let begun = open(&mut follower, &frame(HEADERS, END_STREAM, b"a"));
        assert!(begun > 0);
        let next = frame(CONTINUATION, END_HEADERS, b"bc");
        assert_eq!(open(&mut follower, &next[..3]), begun);
        assert_eq!(open(&mut follower, &next[3..10]), begun);
        assert_eq!(open(&mut follower, &next[10..]), 0);
        // A body may take its time, and the next head has a time of its own.
        assert_eq!(open(&mut follower, &frame(DATA, 0, b"abc")[..10]), 0);
        assert_eq!(open(&mut follower, b"bc"), 0);
        assert!(open(&mut follower, &frame(HEADERS, 0, b"")[..4]) > begun);
    }

    #[test]
    fn room_for_streams_that_come_too_late_is_passed_over() {
        let of = |kind, flags, stream, payload: &[u8]| {
            let mut bytes = frame(kind, flags, payload);
            bytes[8] = stream;
            bytes
        };
        let room = |stream| of(WINDOW_UPDATE, 0, stream, &[0, 0, 0, 9]);
        let seen = |follower: &mut Follower, conduct: &Conduct, mut bytes: Vec<u8>| {
            follower.read(&mut bytes, conduct);
            bytes[KIND_AT]
        };
        let (mut follower, conduct) = greeted();
        let begun = |follower: &mut Follower, stream| {
            follower.read(&mut of(HEADERS, END_HEADERS, stream, b"a"), &conduct);
        };
        begun(&mut follower, 3);
        follower.read(&mut of(PING, ACK, 0, &[0; 8]), &conduct);
        begun(&mut follower, 5);
        assert_eq!(seen(&mut follower, &conduct, room(5)), WINDOW_UPDATE);
        conduct.leaves();
        begun(&mut follower, 7);
        follower.read(&mut of(PING, ACK, 0, &[0; 8]), &conduct);
        begun(&mut follower, 9);
        for stream in [0, 3, 7] {
            assert_eq!(seen(&mut follower, &conduct, room(stream)), WINDOW_UPDATE);
        }
        assert_eq!(seen(&mut follower, &conduct, room(9)), UNKNOWN);
        assert_eq!(seen(&mut follower, &conduct, of(DATA, 0, 9, b"a")), DATA);
    }

    #[test]
    fn what_was_spent_is_earned_again() {
        let mut earning = Instant::now();
        let start = earning;
        let mut budget = Budget::of(3, 10);
        let spend = |budget: &mut Budget, earning: &mut Instant, now| {
            (0..10).filter(|_| budget.take(earning, now)).count()
        };
        assert_eq!(spend(&mut budget, &mut earning, start), 3);
        let later = start + Duration::from_millis(200);
        assert_eq!(spend(&mut budget, &mut earning, later), 2);
        let much_later = later + Duration::from_secs(60);
        assert_eq!(spend(&mut budget, &mut earning, much_later), 3);
    }
}
