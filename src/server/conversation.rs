//! A WebSocket as its route wants it: silence, age and the length of messages have an end, and whoever is cut off is told why.

use std::collections::hash_map::RandomState;
use std::future::Future as _;
use std::hash::{BuildHasher as _, Hasher as _};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::base::websocket::{CloseCode, Control, Lane, Sender};
use crate::exchange::{Fault, WebSocketRules};
use crate::gateway::Signals;

/// How long the two sides may take to agree to the end.
const GOODBYE: Duration = Duration::from_secs(1);
/// What our pings carry, so that their answers are known.
const OUR_PING: &[u8] = b"doorward";

/// The two directions, and what is to be sent of each. Both are driven by the side that reads from the client.
#[derive(Debug)]
pub(super) struct Conversation {
    rules: WebSocketRules,
    signals: Arc<Signals>,
    from_client: Lane,
    to_client: Lane,
    /// What the upstream and the client are to get.
    pub(super) up: BytesMut,
    pub(super) down: BytesMut,
    /// How much of the head that begins it went to the client: its end is an empty line.
    head: usize,
    began: Instant,
    /// When anything passed last that is not ours.
    passed: Instant,
    /// Whether client and upstream were asked whether they are there, and said nothing since.
    asked: (bool, bool),
    ping: Option<Instant>,
    /// Until when the end is waited for.
    end: Option<Instant>,
    /// Who said goodbye: client, upstream.
    gone: (bool, bool),
    timer: Option<Pin<Box<Sleep>>>,
}

impl Conversation {
    /// The upstream agreed to begin one, with these rules.
    pub(super) fn begin(rules: WebSocketRules, signals: Arc<Signals>) -> Box<Self> {
        let lane = |sender| {
            let mut lane = Lane::new(sender, rules.message_bytes_max);
            if rules.compressed {
                lane.compresses();
            }
            lane
        };
        let now = Instant::now();
        Box::new(Self {
            from_client: lane(Sender::Client),
            to_client: lane(Sender::Server),
            up: BytesMut::new(),
            down: BytesMut::new(),
            head: 0,
            began: now,
            passed: now,
            asked: (false, false),
            ping: rules.ping.map(|ping| now + ping),
            end: None,
            gone: (false, false),
            timer: None,
            rules,
            signals,
        })
    }

    /// The client sent this.
    pub(super) fn hear_client(&mut self, bytes: &[u8]) {
        let (gone, before) = (&mut self.gone.0, self.from_client.passed());
        self.asked.0 = false;
        let passed = self
            .from_client
            .pass(bytes, &mut self.up, &mut |kind, payload| {
                *gone |= kind == Control::Close;
                kind != Control::Pong || payload != OUR_PING
            });
        if self.from_client.passed() != before {
            self.passed = Instant::now();
        }
        match passed {
            Ok(()) => {}
            Err(CloseCode::TooBig) => self.refuse(
                (CloseCode::TooBig, CloseCode::GoingAway),
                Fault::BodyTooLarge,
            ),
            Err(code) => self.refuse((code, CloseCode::GoingAway), Fault::ClientError),
        }
    }

    /// The upstream sent this; the head of its agreement comes first.
    pub(super) fn hear_upstream(&mut self, bytes: &[u8]) {
        const END: &[u8] = b"\r\n\r\n";
        let mut rest = bytes;
        while self.head < END.len() {
            let Some((byte, after)) = rest.split_first() else {
                break;
            };
            let goes_on = END.get(self.head) == Some(byte);
            self.head = if goes_on {
                self.head + 1
            } else {
                usize::from(*byte == b'\r')
            };
            rest = after;
        }
        let head = bytes.len() - rest.len();
        self.down
            .extend_from_slice(bytes.get(..head).unwrap_or_default());
        if rest.is_empty() {
            return;
        }
        let (gone, before) = (&mut self.gone.1, self.to_client.passed());
        self.asked.1 = false;
        let passed = self
            .to_client
            .pass(rest, &mut self.down, &mut |kind, payload| {
                *gone |= kind == Control::Close;
                kind != Control::Pong || payload != OUR_PING
            });
        if self.to_client.passed() != before {
            self.passed = Instant::now();
        }
        match passed {
            Ok(()) => {}
            Err(CloseCode::TooBig) => self.refuse(
                (CloseCode::GoingAway, CloseCode::TooBig),
                Fault::ResponseTooLarge,
            ),
            Err(code) => self.refuse((CloseCode::GoingAway, code), Fault::ProtocolError),
        }
    }

    /// Looks at the clock: what is due is done, and whoever polls is woken when something else is.
    pub(super) fn tick(&mut self, cx: &mut Context<'_>) {
        loop {
            let now = Instant::now();
            if self.signals.goodbye.load(Ordering::Acquire) {
                self.close(Fault::Stopped);
            }
            let due = match self.end {
                Some(until) => {
                    let agreed = self.gone == (true, true) && self.up.is_empty();
                    if agreed || until <= now {
                        self.signals.watch.over();
                        cx.waker().wake_by_ref();
                        return;
                    }
                    until
                }
                None => match self.next(now) {
                    Some(due) => due,
                    None => continue,
                },
            };
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(due)));
            if timer.deadline() != due {
                timer.as_mut().reset(due);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return;
            }
            self.timer = None;
        }
    }

    /// When the next thing is due; none when something was, and was done.
    fn next(&mut self, now: Instant) -> Option<Instant> {
        let mut due = self.passed + self.rules.idle;
        if let Some(age) = self.rules.age_max {
            due = due.min(self.began + age);
        }
        if due <= now {
            self.close(Fault::Timeout);
            return None;
        }
        let (Some(ping), Some(every)) = (self.ping, self.rules.ping) else {
            return Some(due);
        };
        if now < ping {
            return Some(due.min(ping));
        }
        // Who was not reached yet could not answer.
        let (client, upstream) = (self.to_client.waits(), self.from_client.waits());
        if self.asked.0 && !client {
            self.close(Fault::ClientError);
            return None;
        }
        if self.asked.1 && !upstream {
            self.close(Fault::Timeout);
            return None;
        }
        self.asked = (!client, !upstream);
        self.ping = Some(now + every);
        if !client {
            self.to_client.send(Control::Ping, OUR_PING, [0; 4]);
        }
        if !upstream {
            self.from_client.send(Control::Ping, OUR_PING, key());
        }
        self.flush();
        None
    }

    fn close(&mut self, fault: Fault) {
        self.refuse((CloseCode::GoingAway, CloseCode::GoingAway), fault);
    }

    /// Says goodbye to client and upstream, with these codes.
    fn refuse(&mut self, (client, upstream): (CloseCode, CloseCode), fault: Fault) {
        if self.end.is_some() {
            return;
        }
        self.signals.watch.ends(fault);
        self.end = Some(Instant::now() + GOODBYE);
        let payload = |code| (code as u16).to_be_bytes();
        self.to_client
            .send(Control::Close, &payload(client), [0; 4]);
        self.from_client
            .send(Control::Close, &payload(upstream), key());
        self.flush();
    }

    fn flush(&mut self) {
        self.to_client.flush(&mut self.down);
        self.from_client.flush(&mut self.up);
    }
}

/// What a frame is masked by: nobody can foretell it (RFC 6455 section 5.3).
fn key() -> [u8; 4] {
    let [a, b, c, d, ..] = RandomState::new().build_hasher().finish().to_be_bytes();
    [a, b, c, d]
}
