//! Four clients at once that want nothing but to be a burden: memory and the origin are spared, honest clients are served.
#![expect(
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::type_complexity,
    clippy::unwrap_used,
    reason = "a test looks at the clock, and tells what it measured"
)]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::support::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, block, frame,
};
use super::support::{Client, DEADLINE, Frames, Gateway, Origin, Outcome, Reply, is_full, scale};

const ATTACKERS: u64 = 4;
const GROWTH_KIB_MAX: u64 = 64 * 1024;
/// How often an honest client asks, at least: before an attack, and during one.
const ASKED: usize = 200;
/// After so many requests an honest client connects anew, before the gateway asks it to.
const REQUESTS_A_CONNECTION: usize = 400;
/// What one attacker sends, in frames, at full size.
const FRAMES: u64 = 1_000_000;
/// Answers that one attacker leaves unread: as many as it may ask for at once.
const UNREAD: u32 = 100;
/// `SETTINGS_INITIAL_WINDOW_SIZE` of 0.
const NO_WINDOW: [u8; 6] = [0, 4, 0, 0, 0, 0];

fn config(origin: &Origin, listener: &str) -> String {
    format!(
        "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\", protocols: [http1, h2c]{listener} }} }}\n\
         upstreams: {{ o: {{ targets: [{{ url: \"{}\" }}] }} }}\n\
         routes: [{{ name: all, match: {{ path_prefix: / }}, upstream: o }}]\n",
        origin.url()
    )
}

/// Answers `/large` with a megabyte, `/endless` without an end, anything else with a few bytes.
fn origin() -> Origin {
    Origin::answer(|request| match request.path.as_str() {
        "/large" => Reply::large(1024 * 1024),
        "/endless" => Reply::endless(),
        _ => {
            let json = [("content-type", "application/json")];
            Reply::fixed(200, &json, "{\"status\":200}")
        }
    })
}

fn fields<'a>(method: &'a str, path: &'a str) -> [(&'a str, &'a str); 4] {
    [
        (":method", method),
        (":scheme", "http"),
        (":authority", "a.test"),
        (":path", path),
    ]
}

/// What one attacker's connection came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Came {
    /// The gateway ended it.
    Ended,
    /// It stands, and was left.
    Held,
}

/// Asks in HTTP/1 and HTTP/2 by turns, and checks each answer; the times are kept.
struct Honest {
    addr: SocketAddr,
    clients: Option<(Client, Frames)>,
    asked: usize,
    times: Vec<Duration>,
}

impl Honest {
    fn new(addr: SocketAddr) -> Self {
        Self {
            addr,
            clients: None,
            asked: 0,
            times: Vec::new(),
        }
    }

    fn ask(&mut self) {
        if self.asked.is_multiple_of(REQUESTS_A_CONNECTION) {
            self.clients = None;
        }
        let addr = self.addr;
        // From elsewhere: an address that floods is let in less often.
        let connect = || {
            let from = || Client::from([127, 0, 0, 9], addr);
            (from(), Frames::over(&from()))
        };
        let (one, two) = self.clients.get_or_insert_with(connect);
        let began = Instant::now();
        let status = if self.asked.is_multiple_of(2) {
            one.get("/honest").expect(200).json()["status"].as_u64()
        } else {
            two.request(&fields("GET", "/honest"), None).status()
        };
        self.times.push(began.elapsed());
        assert_eq!(status, Some(200), "request {}", self.asked);
        self.asked += 1;
    }

    /// Nine of ten were as fast, since the last time somebody wanted to know.
    fn p90(&mut self) -> Duration {
        let mut times = std::mem::take(&mut self.times);
        times.sort();
        times[times.len() * 9 / 10]
    }
}

/// Set when it goes, also where an assertion fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// What an attack may do to the gateway at most.
struct Bounds {
    /// Whether each attacker's connection has to end.
    ends: bool,
    /// Requests of all attackers together that an upstream sees.
    requests: u64,
    /// More of them, for each second that the attack takes.
    each_second: u64,
}

/// Four do `attack` at once, and an honest client asks all the while.
fn withstands(
    what: &str,
    bounds: &Bounds,
    attack: impl Fn(SocketAddr, &AtomicBool) -> Came + Sync,
) {
    let origin = origin();
    let gateway = Gateway::spawn(&config(&origin, ""));
    let mut honest = Honest::new(gateway.addr());
    (0..ASKED).for_each(|_| honest.ask());
    let alone = honest.p90();
    let before = gateway.rss_kib();
    let began = Instant::now();
    // An attacker that cannot do more holds on until the honest client is through.
    let (enough, running) = (AtomicBool::new(false), AtomicU64::new(ATTACKERS));
    let came: Vec<Came> = std::thread::scope(|scope| {
        let attackers: Vec<_> = (0..ATTACKERS)
            .map(|_| {
                scope.spawn(|| {
                    let came = attack(gateway.addr(), &enough);
                    running.fetch_sub(1, Ordering::SeqCst);
                    came
                })
            })
            .collect();
        let over = Over(&enough);
        let mut asked = 0;
        while asked < ASKED || running.load(Ordering::SeqCst) > 0 {
            honest.ask();
            asked += 1;
            enough.store(asked >= ASKED, Ordering::SeqCst);
        }
        drop(over);
        attackers
            .into_iter()
            .map(|attacker| attacker.join().unwrap())
            .collect()
    });
    let (asked, during) = (honest.times.len(), honest.p90());
    let growth = gateway.process().rss_peak_kib().saturating_sub(before);
    let seen = origin.count() - u64::try_from(honest.asked).unwrap();
    eprintln!(
        "{what}: grew {growth} KiB, {seen} requests went through, {asked} honest answers, p90 {during:?} against {alone:?} ({:.2})",
        during.as_secs_f64() / alone.as_secs_f64()
    );
    assert!(growth <= GROWTH_KIB_MAX, "{what}: grew {growth} KiB");
    let most = bounds.requests + bounds.each_second * began.elapsed().as_secs();
    assert!(seen <= most, "{what}: {seen} requests, {most} at most");
    if bounds.ends {
        assert!(
            came.iter().all(|came| *came == Came::Ended),
            "{what}: {came:?}"
        );
    }
    if is_full() {
        fair(what, &gateway, &attack);
    }
}

/// Rounds that count, and how many are tried for them.
const ROUNDS: usize = 9;
const ROUNDS_MAX: usize = 18;
/// How often one attacker begins anew in a round, and its pause after each: a burden that does not depend on how soon the
/// gateway ends it.
const ATTACKS: usize = 40;
const PAUSE: Duration = Duration::from_millis(20);
/// So many times as long may nine of ten honest requests take.
const RATIO_MAX: f64 = 2.0;
/// A round in which others used more of the machine says nothing of the gateway: cores.
const FOREIGN_MAX: f64 = 0.2;

/// Honest clients are served as fast beside an attack as without it, twice as long at most: the median of the ratios of p90 in
/// pairs of rounds, while nobody else uses the machine.
fn fair(what: &str, gateway: &Gateway, attack: &(impl Fn(SocketAddr, &AtomicBool) -> Came + Sync)) {
    let (mut ratios, mut dropped) = (Vec::new(), 0);
    while ratios.len() < ROUNDS && ratios.len() + dropped < ROUNDS_MAX {
        let usage = Usage::now(gateway);
        let mut honest = Honest::new(gateway.addr());
        (0..ASKED).for_each(|_| honest.ask());
        let alone = honest.p90();
        let enough = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..ATTACKERS {
                scope.spawn(|| {
                    for _ in 0..ATTACKS {
                        if enough.load(Ordering::SeqCst) {
                            break;
                        }
                        attack(gateway.addr(), &enough);
                        std::thread::park_timeout(PAUSE);
                    }
                });
            }
            let _over = Over(&enough);
            (0..ASKED).for_each(|_| honest.ask());
        });
        let ratio = honest.p90().as_secs_f64() / alone.as_secs_f64();
        let foreign = usage.foreign(&Usage::now(gateway));
        if foreign < FOREIGN_MAX {
            ratios.push(ratio);
        } else {
            dropped += 1;
        }
    }
    ratios.sort_by(f64::total_cmp);
    if ratios.len() < ROUNDS {
        return eprintln!(
            "{what}: only {} of {} rounds were without others on the machine, of their p90 nothing can be said: {ratios:.2?}",
            ratios.len(),
            ratios.len() + dropped
        );
    }
    let median = ratios[ratios.len() / 2];
    eprintln!("{what}: p90 is {median:.2} times as long, {ratios:.2?}, {dropped} rounds dropped");
    assert!(median <= RATIO_MAX, "{what}: {median:.2}");
}

/// Processor time so far, in ticks of 10 ms: of the machine, and of this test with its gateway.
struct Usage {
    machine: u64,
    ours: u64,
    at: Instant,
}

impl Usage {
    fn now(gateway: &Gateway) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap();
        let of = |pid: u32| -> u64 {
            let stat = read(&format!("/proc/{pid}/stat"));
            // Behind the name, which may hold anything: `utime` and `stime` are the fields 14 and 15.
            let fields = stat.rsplit_once(')').unwrap().1;
            fields
                .split_whitespace()
                .skip(11)
                .take(2)
                .map(|ticks| ticks.parse::<u64>().unwrap())
                .sum()
        };
        let stat = read("/proc/stat");
        let all: Vec<u64> = stat
            .lines()
            .next()
            .unwrap()
            .split_whitespace()
            .skip(1)
            .map(|ticks| ticks.parse().unwrap())
            .collect();
        Self {
            // Without `idle` and `iowait`; the time of guests is in that of users.
            machine: all[..8].iter().sum::<u64>() - all[3] - all[4],
            ours: of(std::process::id()) + of(gateway.process().pid()),
            at: Instant::now(),
        }
    }

    /// How many cores others used until `later`.
    fn foreign(&self, later: &Self) -> f64 {
        let ticks = (later.machine - self.machine).saturating_sub(later.ours - self.ours);
        let ticks = f64::from(u32::try_from(ticks).unwrap());
        ticks / 100.0 / (later.at - self.at).as_secs_f64()
    }
}

/// Sends `piece` after `piece` until so many frames are sent or the gateway takes no more, and waits for the end.
fn pour(client: &mut Frames, frames: u64, mut piece: impl FnMut() -> (u64, Vec<u8>)) -> Came {
    let reader = client.reader();
    let mut sent = 0;
    while sent < frames && !reader.is_finished() {
        let (count, bytes) = piece();
        if !client.try_raw(&bytes) {
            break;
        }
        sent += count;
    }
    // It is the gateway that has to close: nobody here does before.
    match reader.join().unwrap() {
        Some(_) => Came::Ended,
        None => Came::Held,
    }
}

/// Requests, a hundred at a time, each followed by what undoes it.
fn undone(addr: SocketAddr, end: u8, undo: &dyn Fn(u32) -> Vec<u8>) -> Came {
    let block = block(&fields("GET", "/"));
    let mut stream = 1;
    let mut client = Frames::connect(addr);
    pour(&mut client, scale(FRAMES), || {
        let mut bytes = Vec::new();
        for _ in 0..100 {
            bytes.extend(frame(HEADERS, END_HEADERS | end, stream, &block));
            bytes.extend(undo(stream));
            stream += 2;
        }
        (100, bytes)
    })
}

/// At most as many as one connection may have, and those that were on their way.
const REQUESTS_MAX: u64 = ATTACKERS * 1100;

#[test]
fn a_flood_of_resets_is_withstood() {
    let bounds = Bounds {
        ends: true,
        requests: REQUESTS_MAX,
        each_second: 0,
    };
    let cancel = |stream| frame(RST_STREAM, 0, stream, &8u32.to_be_bytes());
    withstands("resets", &bounds, |addr, _| {
        undone(addr, END_STREAM, &cancel)
    });
}

/// Requests, each undone when it is on its way to the origin, so that none of them waits to be accepted.
fn undone_late(addr: SocketAddr, undo: &dyn Fn(u32) -> Vec<u8>) -> Came {
    let block = block(&fields("GET", "/"));
    let mut client = Frames::connect(addr);
    for number in 0..scale(200_000) {
        let stream = u32::try_from(number).unwrap() * 2 + 1;
        client.send(HEADERS, END_HEADERS | END_STREAM, stream, &block);
        client.send(PING, 0, 0, &[0; 8]);
        // What came back shows that the request was read.
        while let Some(frame) = client.frame() {
            if frame.kind == PING {
                break;
            }
        }
        if !client.try_raw(&undo(stream)) {
            return Came::Ended;
        }
    }
    Came::Held
}

#[test]
fn a_flood_of_resets_that_takes_its_time_is_withstood() {
    // Two hundred in each second that is begun, and whatever each connection may take back in any case.
    let bounds = Bounds {
        ends: true,
        requests: 400 + ATTACKERS * 11,
        each_second: 200,
    };
    let cancel = |stream| frame(RST_STREAM, 0, stream, &8u32.to_be_bytes());
    withstands("resets one by one", &bounds, |addr, _| {
        undone_late(addr, &cancel)
    });
}

/// Whoever never answers the PING behind a GOAWAY has no more requests than others.
#[test]
fn a_goodbye_that_is_not_heard_is_one() {
    let origin = origin();
    let listener = ", limits: { requests_per_connection: 10 }";
    let gateway = Gateway::spawn(&config(&origin, listener));
    let mut client = Frames::connect(gateway.addr());
    let block = block(&fields("GET", "/"));
    let came = pour(&mut client, 1000, {
        let mut stream = 1;
        move || {
            let bytes = frame(HEADERS, END_HEADERS | END_STREAM, stream, &block);
            stream += 2;
            std::thread::park_timeout(Duration::from_millis(1));
            (1, bytes)
        }
    });
    assert_eq!(came, Came::Ended);
    assert!(origin.count() < 400, "{}", origin.count());
}

#[test]
fn resets_that_the_gateway_is_made_to_send_are_withstood() {
    let bounds = Bounds {
        ends: true,
        requests: REQUESTS_MAX,
        each_second: 0,
    };
    let most = 0x7fff_ffff_u32.to_be_bytes();
    let itself = |stream: u32| [&stream.to_be_bytes()[..], &[0]].concat();
    let ways: [(&str, &(dyn Fn(u32) -> Vec<u8> + Sync)); 5] = [
        ("a window of nothing", &|stream| {
            frame(WINDOW_UPDATE, 0, stream, &[0; 4])
        }),
        ("a window too large", &|stream| {
            frame(WINDOW_UPDATE, 0, stream, &most).repeat(2)
        }),
        ("data behind the end", &|stream| {
            frame(DATA, 0, stream, b"x")
        }),
        ("a priority too short", &|stream| {
            frame(PRIORITY, 0, stream, &[0; 4])
        }),
        ("a stream that waits for itself", &|stream| {
            frame(PRIORITY, 0, stream, &itself(stream))
        }),
    ];
    for (what, undo) in ways {
        withstands(what, &bounds, |addr, _| undone(addr, END_STREAM, undo));
        let what = format!("{what}, one by one");
        withstands(&what, &bounds, |addr, _| undone_late(addr, undo));
    }
}

#[test]
fn a_head_without_end_is_withstood() {
    for (what, piece) in [
        ("continuations", vec![0x10; 1000]),
        ("empty continuations", Vec::new()),
    ] {
        let bounds = Bounds {
            ends: true,
            requests: 0,
            each_second: 0,
        };
        withstands(what, &bounds, |addr, _| {
            let mut client = Frames::connect(addr);
            client.send(HEADERS, 0, 1, &block(&fields("GET", "/")));
            let bytes = frame(CONTINUATION, 0, 1, &piece).repeat(100);
            pour(&mut client, scale(FRAMES), || (100, bytes.clone()))
        });
    }
}

/// A line of 4,000 bytes, that the table keeps, and then again and again by its number.
#[test]
fn a_bomb_of_compressed_headers_is_withstood() {
    let bounds = Bounds {
        ends: false,
        // The first of each is a request like any other.
        requests: ATTACKERS,
        each_second: 0,
    };
    withstands("a bomb", &bounds, |addr, enough| {
        let mut client = Frames::connect(addr);
        let mut first = block(&fields("GET", "/"));
        // A literal to be indexed (RFC 7541 section 6.2.1): `x`, and 127 + 3,873 bytes.
        first.extend(b"\x40\x01x\x7f\xa1\x1e");
        first.extend([b'a'; 4000]);
        let mut again = block(&fields("GET", "/"));
        // The first place of the table that changes.
        again.extend([0xbe; 16_000]);
        client.send(HEADERS, END_HEADERS, 1, &first);
        let reader = client.reader();
        let mut stream = 3;
        for _ in 0..scale(10_000) {
            if !client.try_raw(&frame(HEADERS, END_HEADERS, stream, &again)) {
                break;
            }
            stream += 2;
        }
        hold(&client, enough);
        reader.join().unwrap().map_or(Came::Held, |_| Came::Ended)
    });
}

/// Keeps the connection until the honest client has asked often enough, and gives it up.
fn hold(client: &Frames, enough: &AtomicBool) {
    while !enough.load(Ordering::SeqCst) {
        std::thread::park_timeout(Duration::from_millis(5));
    }
    client.close();
}

#[test]
fn floods_of_frames_that_say_nothing_are_withstood() {
    let kinds = [
        ("PING", frame(PING, 0, 0, &[7; 8])),
        ("SETTINGS", frame(SETTINGS, 0, 0, b"")),
        ("PRIORITY", frame(PRIORITY, 0, 9, &[0, 0, 0, 7, 1])),
        ("an unknown kind", frame(200, 0, 0, b"")),
    ];
    for (what, one) in kinds {
        let bounds = Bounds {
            ends: true,
            requests: 0,
            each_second: 0,
        };
        withstands(what, &bounds, |addr, _| {
            let bytes = one.repeat(500);
            pour(&mut Frames::connect(addr), scale(FRAMES), || {
                (500, bytes.clone())
            })
        });
    }
    let bounds = Bounds {
        ends: true,
        requests: ATTACKERS,
        each_second: 0,
    };
    withstands("empty DATA", &bounds, |addr, _| {
        let mut client = Frames::connect(addr);
        let stream = client.begin(&fields("POST", "/"), 0);
        let bytes = frame(DATA, 0, stream, b"").repeat(500);
        pour(&mut client, scale(FRAMES), || (500, bytes.clone()))
    });
}

/// Answers of a megabyte that nobody takes: by the windows of HTTP/2, or by those of TCP.
#[test]
fn answers_that_nobody_reads_are_withstood() {
    let open = 0x7fff_ffff_u32.to_be_bytes();
    let wide = [&[0, 4][..], &open].concat();
    for (what, settings) in [("no window", &NO_WINDOW[..]), ("nothing read", &wide)] {
        let bounds = Bounds {
            ends: false,
            requests: ATTACKERS * u64::from(UNREAD),
            each_second: 0,
        };
        withstands(what, &bounds, |addr, enough| {
            let mut client = Frames::connect_with(addr, settings);
            client.send(WINDOW_UPDATE, 0, 0, &0x7000_0000_u32.to_be_bytes());
            // All at once: none of them is taken before the last is asked for.
            let block = block(&fields("GET", "/large"));
            let ask = |number| frame(HEADERS, END_HEADERS | END_STREAM, number * 2 + 1, &block);
            client.raw(&(0..UNREAD).flat_map(ask).collect::<Vec<u8>>());
            hold(&client, enough);
            Came::Held
        });
    }
}

#[test]
fn heads_that_never_end_are_withstood() {
    let bounds = Bounds {
        ends: true,
        requests: 0,
        each_second: 0,
    };
    let listener = ", timeouts: { header: 300ms }";
    let origin = origin();
    let gateway = Gateway::spawn(&config(&origin, listener));
    let before = gateway.rss_kib();
    std::thread::scope(|scope| {
        for _ in 0..ATTACKERS {
            scope.spawn(|| {
                let mut slow: Vec<Client> = (0..60).map(|_| gateway.client()).collect();
                for client in &mut slow {
                    client.send_raw(b"GET / HTTP/1.1\r\nhost: a.test\r\n");
                }
                let began = Instant::now();
                // A byte each, until all of them are told.
                while began.elapsed() < Duration::from_secs(1) {
                    for client in &mut slow {
                        client.send_raw(b"x");
                    }
                    std::thread::park_timeout(Duration::from_millis(50));
                }
                for mut client in slow {
                    let answer = client.try_response("GET");
                    assert!(
                        answer.is_ok_and(|answer| answer.status == 408)
                            || client.closed_by_gateway()
                    );
                }
            });
        }
        let mut honest = Honest::new(gateway.addr());
        (0..ASKED).for_each(|_| honest.ask());
        assert_eq!(honest.asked, ASKED);
    });
    let growth = gateway.process().rss_peak_kib().saturating_sub(before);
    assert!(growth <= GROWTH_KIB_MAX, "grew {growth} KiB");
    assert_eq!(
        origin.count(),
        u64::try_from(ASKED).unwrap() + bounds.requests
    );
}

/// What becomes of the connection that was told nothing more.
fn ends(client: &Frames) -> bool {
    client.reader().join().unwrap().is_some()
}

#[test]
fn a_head_of_http2_that_comes_byte_by_byte_ends_the_connection() {
    let origin = origin();
    let gateway = Gateway::spawn(&config(&origin, ", timeouts: { header: 300ms }"));
    let whole = block(&fields("GET", "/"));
    let open = frame(HEADERS, END_STREAM, 1, &whole);
    let cases = [
        (
            "within a frame",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &whole)[..20].to_vec(),
        ),
        ("between frames", open.clone()),
        ("in the head of a frame", [&open[..], &[0, 0]].concat()),
    ];
    for (what, begun) in cases {
        let mut client = Frames::connect(gateway.addr());
        // A stream that is open changes nothing.
        client.raw(&frame(HEADERS, END_HEADERS, 3, &whole)[..0]);
        client.raw(&begun);
        let began = Instant::now();
        assert!(ends(&client), "{what}");
        assert!(began.elapsed() >= Duration::from_millis(200), "{what}");
    }
    // Whoever takes long between requests is no such client.
    let mut client = Frames::connect(gateway.addr());
    for _ in 0..2 {
        assert_eq!(
            client.request(&fields("GET", "/"), None).status(),
            Some(200)
        );
        std::thread::park_timeout(Duration::from_millis(500));
    }
}

#[test]
fn a_connection_of_http2_that_only_says_hello_is_idle() {
    let origin = origin();
    let gateway = Gateway::spawn(&config(&origin, ", timeouts: { idle: 250ms }"));
    assert!(ends(&Frames::connect(gateway.addr())));
    let mut used = Frames::connect(gateway.addr());
    assert_eq!(used.request(&fields("GET", "/"), None).status(), Some(200));
    assert!(ends(&used));
}

#[test]
fn a_stream_whose_body_stops_ends_and_others_go_on() {
    let origin = origin();
    let gateway = Gateway::spawn(&config(&origin, ", timeouts: { write: 300ms }"));
    let mut client = Frames::connect(gateway.addr());
    let post = client.begin(&fields("POST", "/"), 0);
    client.send(DATA, 0, post, b"hello");
    assert_eq!(
        client.request(&fields("GET", "/"), None).status(),
        Some(200)
    );
    let outcome = client.outcome(post);
    assert!(
        !matches!(outcome, Outcome::Closed | Outcome::GoAway(_)),
        "{outcome:?}"
    );
    assert_ne!(outcome.status(), Some(200));
    assert_eq!(
        client.request(&fields("GET", "/"), None).status(),
        Some(200)
    );
    assert_eq!(origin.complete(), 2);
}

#[test]
fn a_stream_whose_body_dribbles_ends_and_others_go_on() {
    let origin = origin();
    let gateway = Gateway::spawn(&config(&origin, ""));
    let mut client = Frames::connect(gateway.addr());
    let post = client.begin(&fields("POST", "/"), 0);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(12) {
        client.send(DATA, 0, post, b"a");
        let outcome = client.request(&fields("GET", "/"), None);
        assert_eq!(outcome.status(), Some(200));
        std::thread::park_timeout(Duration::from_secs(1));
    }
    gateway.process().wait_log("body_timeout");
    assert_eq!(origin.complete() + 1, origin.count());
}

#[test]
fn a_stream_that_nobody_reads_ends_and_others_go_on() {
    let origin = origin();
    let gateway = Gateway::spawn(&config(&origin, ", timeouts: { write: 300ms }"));
    let mut client = Frames::connect(gateway.addr());
    let stuck = client.begin(&fields("GET", "/endless"), END_STREAM);
    let began = Instant::now();
    // What is read is never made good on that stream, and always for the connection.
    let mut answers = 0;
    let outcome = loop {
        assert!(began.elapsed() < DEADLINE, "it never ends");
        let next = client.begin(&fields("GET", "/"), END_STREAM);
        let mut over = None;
        while let Some(frame) = client.frame() {
            if frame.kind == DATA && !frame.payload.is_empty() {
                let length = u32::try_from(frame.payload.len()).unwrap();
                client.send(WINDOW_UPDATE, 0, 0, &length.to_be_bytes());
            }
            if frame.kind == RST_STREAM && frame.stream == stuck {
                over = Some(frame.clone());
            }
            if frame.stream == next
                && frame.flags & END_STREAM != 0
                && matches!(frame.kind, DATA | HEADERS)
            {
                answers += 1;
                break;
            }
        }
        if let Some(over) = over {
            break over;
        }
        std::thread::park_timeout(Duration::from_millis(20));
    };
    assert_eq!(outcome.payload.len(), 4);
    assert!(answers > 0);
    let requests = origin.requests();
    let endless = requests.iter().find(|request| request.path == "/endless");
    origin.wait_closed(endless.unwrap().connection);
    assert_eq!(
        client.request(&fields("GET", "/"), None).status(),
        Some(200)
    );
}
