//! The rules of upstreams: exact turns by weight, names asked again, the last good address kept.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use super::resolve::{Found, NameError, Names};
use super::{Ask, Health, Observer, Outside, Spec, Tally, Upstream};
use crate::base::clock::{SharedClock, SystemClock};
use crate::base::task::{Spawner, TaskGuard};

/// Answers what it is told to, one answer after the other; the last one stays.
struct Scripted {
    answers: Mutex<Vec<Result<Found, NameError>>>,
    asked: AtomicUsize,
}

impl Scripted {
    fn new(answers: Vec<Result<Found, NameError>>) -> Self {
        let answers = Mutex::new(answers);
        Self {
            answers,
            asked: AtomicUsize::new(0),
        }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Names for Scripted {
    async fn look_up(&self, _host: &str) -> Result<Found, NameError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut answers = self.answers.lock().unwrap();
        if answers.len() > 1 {
            return answers.remove(0);
        }
        match answers.first() {
            Some(Ok(found)) => Ok(found.clone()),
            Some(Err(error)) => Err(NameError(error.0.clone())),
            None => Err(NameError("nothing".to_owned())),
        }
    }
}

fn upstream(targets: &str) -> Arc<Upstream> {
    let spec: Spec =
        serde_yaml::from_str(&format!("targets: {targets}\nload_balancing: round_robin")).unwrap();
    let mut upstream = Upstream::new("orders", 1, &spec, super::Security::default());
    upstream.ttl_min = Duration::from_millis(5);
    Arc::new(upstream)
}

/// Nobody counts here.
#[derive(Debug)]
struct Nobody;

impl Observer for Nobody {
    fn stand(&self, _: &Tally) {}
    fn checked(&self, _: Health) {}
    fn ejected(&self) {}
}

async fn start(upstream: &Arc<Upstream>, names: &Arc<dyn Names>) -> Vec<TaskGuard> {
    let clock: SharedClock = Arc::new(SystemClock);
    let outside = Outside {
        names,
        spawner: &Spawner::new(tokio::runtime::Handle::current()),
        clock: &clock,
        prober: &Arc::default(),
        observer: Arc::new(Nobody),
        patience: Duration::from_millis(100),
    };
    upstream.start(&outside).await
}

fn found(addresses: &[&str], ttl: Duration) -> Result<Found, NameError> {
    let addresses = addresses.iter().map(|ip| ip.parse::<IpAddr>().unwrap());
    Ok(Found {
        addresses: addresses.collect(),
        ttl,
    })
}

fn picked(upstream: &Upstream) -> Option<String> {
    let picked = upstream.pick(&Ask::default())?;
    Some(picked.target()?.addr()?.to_string())
}

#[tokio::test]
async fn addresses_need_no_names() {
    let upstream = upstream(
        "[{ url: \"http://127.0.0.1:8001\" }, { url: \"http://127.0.0.1:8002\", weight: 2 }]",
    );
    let names: Arc<dyn Names> = Arc::new(Scripted::new(Vec::new()));
    let guards = start(&upstream, &names).await;
    assert!(guards.is_empty());
    let mut counts: HashMap<String, u32> = HashMap::new();
    for _ in 0..300 {
        *counts.entry(picked(&upstream).unwrap()).or_default() += 1;
    }
    assert_eq!(counts["127.0.0.1:8001"], 100);
    assert_eq!(counts["127.0.0.1:8002"], 200);
}

#[tokio::test]
async fn the_same_address_twice_is_one_target_with_both_weights() {
    let upstream = upstream(
        "[{ url: \"http://127.0.0.1:8001\" }, { url: \"http://one.test:8001\" }, { url: \"http://127.0.0.1:8002\" }]",
    );
    let names: Arc<dyn Names> = Arc::new(Scripted::new(vec![found(
        &["127.0.0.1"],
        Duration::from_secs(60),
    )]));
    let _guards = start(&upstream, &names).await;
    let mut counts: HashMap<String, u32> = HashMap::new();
    for _ in 0..300 {
        *counts.entry(picked(&upstream).unwrap()).or_default() += 1;
    }
    assert_eq!(counts["127.0.0.1:8001"], 200);
    assert_eq!(counts["127.0.0.1:8002"], 100);
}

#[tokio::test]
async fn a_name_is_asked_again_when_its_time_to_live_ends() {
    let upstream = upstream("[{ url: \"http://one.test:80\" }]");
    let answers = vec![
        found(&["10.0.0.1"], Duration::from_millis(100)),
        found(&["10.0.0.2"], Duration::from_secs(30)),
    ];
    let (_guards, scripted) = started(&upstream, answers).await;
    assert_eq!(picked(&upstream).unwrap(), "10.0.0.1:80");
    assert_eq!(scripted.asked(), 1, "asked before the time to live ended");
    until(|| picked(&upstream).unwrap() == "10.0.0.2:80").await;
    assert_eq!(scripted.asked(), 2);
}

#[tokio::test]
async fn the_last_good_address_is_kept_while_a_name_fails() {
    let upstream = upstream("[{ url: \"http://one.test:80\" }]");
    let failed = || Err(NameError("no name server answers".to_owned()));
    let answers = vec![
        found(&["10.0.0.1"], Duration::from_millis(10)),
        failed(),
        failed(),
        failed(),
        found(&["10.0.0.9"], Duration::from_secs(60)),
    ];
    let (_guards, scripted) = started(&upstream, answers).await;
    until(|| {
        let kept = picked(&upstream).unwrap();
        assert!(kept == "10.0.0.1:80" || scripted.asked() >= 5, "{kept}");
        scripted.asked() >= 4
    })
    .await;
    until(|| picked(&upstream).unwrap() == "10.0.0.9:80").await;
}

#[tokio::test]
async fn a_rotated_answer_is_no_change() {
    let upstream = upstream("[{ url: \"http://one.test:80\" }]");
    let answers = vec![
        found(&["10.0.0.1", "10.0.0.2"], Duration::from_millis(10)),
        found(&["10.0.0.2", "10.0.0.1"], Duration::from_millis(10)),
    ];
    let (_guards, scripted) = started(&upstream, answers).await;
    until(|| scripted.asked() >= 4).await;
    assert_eq!(picked(&upstream).unwrap(), "10.0.0.1:80");
}

#[tokio::test]
async fn a_name_without_an_address_gives_no_target() {
    let upstream = upstream("[{ url: \"http://one.test:80\" }]");
    let names: Arc<dyn Names> = Arc::new(Scripted::new(Vec::new()));
    let _guards = start(&upstream, &names).await;
    assert_eq!(picked(&upstream), None);
}

/// Starts `upstream` with names that answer so.
async fn started(
    upstream: &Arc<Upstream>,
    answers: Vec<Result<Found, NameError>>,
) -> (Vec<TaskGuard>, Arc<Scripted>) {
    let scripted = Arc::new(Scripted::new(answers));
    let names: Arc<dyn Names> = Arc::clone(&scripted) as Arc<dyn Names>;
    let guards = start(upstream, &names).await;
    (guards, scripted)
}

/// Lets the other tasks run until `done` holds.
async fn until(mut done: impl FnMut() -> bool) {
    let waiting = async {
        while !done() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting)
        .await
        .unwrap();
}
