//! A service that is split in two and one that is retired, by reloads under load; its end comes by a moved clock.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first thing that is not as expected"
)]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use doorward::base::clock::ManualClock;
use doorward::base::control::{Control as _, Reloaded, Tests};
use doorward::config::source::Environment;
use doorward::config::{self, Loaded};
use doorward::plan::{self, Plan};
use doorward::server::{self, Candidate, Running, Surroundings};
use doorward::upstream::SystemNames;
use tokio::runtime::Runtime;

use super::support::{Client, Origin, Recorded, Reply, scale};

/// 2026-07-01.
const BEFORE: i64 = 1_782_864_000_000;

/// A gateway in this process, whose clock and config the test has in its hand.
struct Inside {
    runtime: Runtime,
    running: Option<Running>,
    addr: SocketAddr,
    clock: Arc<ManualClock>,
    text: Arc<Mutex<String>>,
}

fn compiled(text: &str) -> (Loaded, Option<Plan>) {
    let mut loaded = config::load_text("test", text, &Environment::Fixed(Default::default()));
    let mut problems = std::mem::take(&mut loaded.problems);
    let plan = plan::compile(&loaded.document, "doorward-test", &mut problems);
    assert!(!problems.any_error(), "{:?}", problems.list());
    (loaded, plan)
}

impl Inside {
    fn start(first: &str) -> Self {
        let runtime = Runtime::new().unwrap();
        let clock = Arc::new(ManualClock::at(BEFORE));
        let text = Arc::new(Mutex::new(first.to_owned()));
        let (loaded, plan) = compiled(first);
        let now = Arc::clone(&text);
        let loader = Arc::new(move |_| {
            let (loaded, plan) = compiled(&now.lock().unwrap());
            Candidate {
                failed_tests: None,
                plan,
                report: String::new(),
                shown: config::compared(&loaded),
            }
        });
        let surroundings = Surroundings {
            names: Arc::new(SystemNames::new()),
            clock: Arc::clone(&clock) as _,
            loader,
            shown: config::compared(&loaded),
            doors: Vec::new(),
        };
        let running = runtime.block_on(async {
            let plan = plan.unwrap();
            let bound = server::bind(&plan).unwrap();
            server::start(plan, bound, surroundings).await.unwrap()
        });
        let addr = running.tcp()[0];
        Self {
            runtime,
            running: Some(running),
            addr,
            clock,
            text,
        }
    }

    #[track_caller]
    fn reload(&self, text: &str) {
        text.clone_into(&mut self.text.lock().unwrap());
        let control = self.running.as_ref().unwrap().control();
        let reloaded = self.runtime.block_on(control.reload(Tests::Skip));
        assert!(matches!(reloaded, Reloaded::Applied { .. }), "{reloaded:?}");
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            self.runtime.block_on(running.stop(|_| {}));
        }
    }
}

fn named(name: &'static str) -> Origin {
    Origin::answer(move |_: &Recorded| Reply::ok(name))
}

/// One service, then three, then one of them on its way out.
fn stages(shop: &Origin, orders: &Origin, users: &Origin) -> [String; 3] {
    let config = |routes: &str| {
        format!(
            // For a clock that stands still all that comes does so within one second.
            "version: 1\nlisteners: {{ public: {{ address: \"127.0.0.1:0\", limits: {{ connection_rate_per_ip: none, request_rate_per_ip: none }} }} }}\n\
             telemetry: {{ access_log: {{ format: none }} }}\nupstreams:\n  shop: {{ targets: [{{ url: \"{}\" }}] }}\n  \
             orders: {{ targets: [{{ url: \"{}\" }}] }}\n  users: {{ targets: [{{ url: \"{}\" }}] }}\nroutes:\n{routes}",
            shop.url(),
            orders.url(),
            users.url(),
        )
    };
    let whole = config("  - { name: shop, match: { path_prefix: /shop }, upstream: shop }\n");
    let parts = "  - { name: shop, match: { path_prefix: /shop }, upstream: shop }\n  \
                 - { name: orders, match: { path_prefix: /shop/orders }, upstream: orders }\n";
    let both = |rest: &str| {
        config(&format!(
            "{parts}  - {{ name: users, match: {{ path_prefix: /shop/users }}, upstream: users{rest} }}\n"
        ))
    };
    let (split, retired) = (
        both(""),
        both(
            ", lifecycle: { deprecated: \"2026-06-01\", sunset: \"2026-08-01\", successor: orders }",
        ),
    );
    [whole, split, retired]
}

/// Brings each config into force, `rounds` times, while six clients ask; none of them may see anything of it.
fn reload_under_load(gateway: &Inside, configs: &[&str], rounds: u64) {
    let ended = AtomicBool::new(false);
    let answered = [const { AtomicU64::new(0) }; 6];
    thread::scope(|threads| {
        let mut clients = Vec::new();
        for (at, count) in answered.iter().enumerate() {
            let (ended, addr) = (&ended, gateway.addr);
            let path = ["/shop/orders/7", "/shop/users/7", "/shop/else"][at % 3];
            clients.push(threads.spawn(move || {
                let mut client = Client::connect(addr);
                while !ended.load(Ordering::SeqCst) {
                    let answer = client.get(path).expect(200);
                    count.fetch_add(1, Ordering::SeqCst);
                    if at >= 3 || answer.header("connection") == Some("close") {
                        client = Client::connect(addr);
                    }
                }
            }));
        }
        let wait_for_more = || {
            let counts = || {
                let counts = answered.each_ref();
                counts.map(|count| count.load(Ordering::SeqCst))
            };
            let before = counts();
            while !counts()
                .iter()
                .zip(before)
                .all(|(now, then)| *now >= then + 5)
            {
                // A client that saw a failure has ended: the test ends with it.
                if clients.iter().any(thread::ScopedJoinHandle::is_finished) {
                    return false;
                }
                thread::yield_now();
            }
            true
        };
        for _ in 0..rounds {
            for config in configs {
                if !wait_for_more() {
                    break;
                }
                gateway.reload(config);
            }
        }
        wait_for_more();
        ended.store(true, Ordering::SeqCst);
    });
}

#[test]
fn a_service_is_split_and_one_retired_without_a_failed_request() {
    let (shop, orders, users) = (named("shop"), named("orders"), named("users"));
    let [whole, split, retired] = stages(&shop, &orders, &users);
    let gateway = Inside::start(&whole);
    reload_under_load(&gateway, &[&split, &retired, &whole], scale(200));
    reload_under_load(&gateway, &[&split, &retired], 1);
    let mut client = Client::connect(gateway.addr);
    // Each part of the service is its own now.
    assert_eq!(client.get("/shop/orders/7").expect(200).text(), "orders");
    assert_eq!(client.get("/shop/else").expect(200).text(), "shop");
    let told = client.get("/shop/users/7").expect(200);
    assert_eq!(told.text(), "users");
    assert_eq!(told.header("sunset"), Some("Sat, 01 Aug 2026 00:00:00 GMT"));
    assert_eq!(told.header("deprecation"), Some("@1780272000"));
    // One second before its end, and at it.
    gateway
        .clock
        .advance(Duration::from_secs(31 * 24 * 3600 - 1));
    client.get("/shop/users/7").expect(200);
    let asked = users.count();
    gateway.clock.advance(Duration::from_secs(1));
    let gone = client.get("/shop/users/7").expect(410);
    assert!(
        gone.header("link")
            .is_some_and(|link| link.contains("successor-version"))
    );
    assert_eq!(users.count(), asked);
    assert_eq!(client.get("/shop/orders/7").expect(200).text(), "orders");
    drop(client);
}
