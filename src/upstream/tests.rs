//! The rules of upstreams: exact turns by weight, names asked again, the last good address kept.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use super::resolve::{Found, NameError, Names};
use super::{Ask, Health, Member, Observer, Outcome, Outside, Spec, Tally, Upstream};
use crate::base::clock::{SharedClock, SystemClock};
use crate::base::control::Duty;
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

/// Every method, among a thousand targets, with the end of each request.
#[tokio::test]
async fn a_pick_takes_nothing_from_the_heap() {
    let targets: Vec<String> = (0..1_000)
        .map(|n| format!("{{ url: \"http://10.0.{}.{}:80\" }}", n / 250, n % 250 + 1))
        .collect();
    let targets = targets.join(", ");
    for balancing in [
        "least_request",
        "round_robin",
        "random",
        "peak_ewma",
        "{ ring_hash: { by: client_ip } }",
        "{ ring_hash: { by: client_ip, bounded_load: 125% } }",
        "{ maglev: { by: client_ip } }",
        "{ maglev: { by: client_ip, bounded_load: 125% } }",
    ] {
        // By way of a tree, as configs are read: YAML itself wants tags for what is one of several.
        let text = format!("load_balancing: {balancing}\ntargets: [{targets}]");
        let tree: serde_json::Value = serde_yaml::from_str(&text).unwrap();
        let spec: Spec = serde_json::from_value(tree).unwrap();
        let security = super::Security::default();
        let upstream = Arc::new(Upstream::new("orders", 1, &spec, security));
        let names: Arc<dyn Names> = Arc::new(Scripted::new(Vec::new()));
        let _guards = start(&upstream, &names).await;
        let pick = |key| {
            let ask = Ask {
                key: Some(key),
                ..Ask::default()
            };
            assert!(upstream.pick(&ask).is_some());
        };
        // What a thread needs once.
        pick(0);
        let taken = allocation_counter::measure(|| (0..10_000).for_each(pick));
        assert_eq!(taken.count_total, 0, "{balancing}");
    }
    let text = allocation_counter::measure(|| drop(targets.clone()));
    assert_eq!(text.count_total, 1, "somebody counts");
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

/// Picks, but not those that were tried.
fn after(upstream: &Upstream, tried: &[Arc<Member>]) -> Option<(String, Arc<Member>)> {
    let picked = upstream.pick(&Ask {
        tried,
        ..Ask::default()
    })?;
    let target = picked.target()?;
    Some((target.addr()?.to_string(), Arc::clone(target.member())))
}

#[tokio::test]
async fn who_was_tried_comes_after_everybody_else_and_after_backups() {
    let upstream = upstream(
        "[{ url: \"http://127.0.0.1:8001\" }, { url: \"http://127.0.0.1:8002\" }, { url: \"http://127.0.0.1:8003\", priority: 1 }]",
    );
    let names: Arc<dyn Names> = Arc::new(Scripted::new(Vec::new()));
    let _guards = start(&upstream, &names).await;
    for _ in 0..20 {
        let (first, one) = after(&upstream, &[]).unwrap();
        let (second, two) = after(&upstream, &[Arc::clone(&one)]).unwrap();
        let mut both = [first, second];
        both.sort();
        assert_eq!(both, ["127.0.0.1:8001", "127.0.0.1:8002"]);
        let tried = [one, two];
        let (third, backup) = after(&upstream, &tried).unwrap();
        assert_eq!(third, "127.0.0.1:8003");
        // When everybody was tried, anybody is better than nobody; but never a backup.
        let [one, two] = tried;
        let (fourth, _) = after(&upstream, &[one, two, backup]).unwrap();
        assert_ne!(fourth, "127.0.0.1:8003");
    }
}

#[tokio::test]
async fn a_request_counts_as_its_targets_until_its_choice_is_dropped() {
    let upstream = upstream("[{ url: \"http://127.0.0.1:8001\" }]");
    let names: Arc<dyn Names> = Arc::new(Scripted::new(Vec::new()));
    let _guards = start(&upstream, &names).await;
    let in_flight = || upstream.targets().next().unwrap().in_flight;
    let picks: Vec<_> = (0..3).map(|_| upstream.pick(&Ask::default())).collect();
    assert_eq!(in_flight(), 3);
    assert_eq!(upstream.set_duty("127.0.0.1:8001", Duty::Drain), Some(3));
    assert!(upstream.pick(&Ask::default()).is_none());
    assert!(!upstream.has_target());
    drop(picks);
    assert_eq!(upstream.set_duty("127.0.0.1:8001", Duty::Resume), Some(0));
    assert!(upstream.has_target());
    assert_eq!(upstream.set_duty("127.0.0.1:8002", Duty::Drain), None);
}

#[tokio::test]
async fn errors_in_a_row_eject_but_never_the_last_one() {
    let text = "targets: [{ url: \"http://127.0.0.1:8001\" }, { url: \"http://127.0.0.1:8002\" }]\n\
         load_balancing: round_robin\noutlier_detection: { consecutive_errors: 3, max_ejected: 100% }\npanic_threshold: 0%";
    let spec: Spec = serde_yaml::from_str(text).unwrap();
    let upstream = Arc::new(Upstream::new(
        "orders",
        1,
        &spec,
        super::Security::default(),
    ));
    let names: Arc<dyn Names> = Arc::new(Scripted::new(Vec::new()));
    let _guards = start(&upstream, &names).await;
    let end = |outcome: Outcome| {
        let picked = upstream.pick(&Ask::default()).unwrap();
        picked.report(outcome);
        picked.target().unwrap().addr().unwrap().port()
    };
    // What says nothing of the target neither counts nor ends a row; a good answer ends it.
    for outcome in [Outcome::Failed, Outcome::Unknown, Outcome::Answered(500)] {
        for _ in 0..2 {
            end(outcome);
        }
    }
    for _ in 0..2 {
        end(Outcome::Answered(404));
    }
    for _ in 0..4 {
        end(Outcome::Answered(503));
    }
    assert!(
        upstream
            .targets()
            .all(|target| target.ejected_for.is_none())
    );
    // The third in a row, for the one whose turn it is.
    let first = end(Outcome::Failed);
    for _ in 0..10 {
        assert_ne!(end(Outcome::Failed), first);
    }
    let ejected = upstream
        .targets()
        .filter(|target| target.ejected_for.is_some());
    assert_eq!(ejected.count(), 1);
}
