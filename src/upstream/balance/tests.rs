//! Parts, caps and moves of every method, over a million choices.
#![expect(
    clippy::float_cmp,
    reason = "a test stops at the first thing that is not as expected, and counts in small numbers"
)]

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

const MANY: u64 = 1_000_000;

/// The size of what takes long: a fiftieth, or all of it with `DOORWARD_TEST_SIZE=full`.
fn scale(full: u64) -> u64 {
    let full_size = std::env::var_os("DOORWARD_TEST_SIZE").is_some_and(|size| size == "full");
    if full_size { full } else { full / 50 }
}

struct Field {
    names: Vec<String>,
    weights: Vec<u32>,
    loads: Vec<Load>,
    counts: Counts,
}

impl Field {
    fn of(weights: &[u32]) -> Self {
        Self {
            names: (0..weights.len())
                .map(|index| format!("10.0.0.{index}:80"))
                .collect(),
            weights: weights.to_vec(),
            loads: weights.iter().map(|_| Load::default()).collect(),
            counts: Counts::default(),
        }
    }

    fn balance(&self, method: Method) -> Balance {
        let entry = |(name, weight): (&'_ String, &u32)| (name.clone(), *weight);
        let owned: Vec<(String, u32)> = self.names.iter().zip(&self.weights).map(entry).collect();
        let entries: Vec<Entry<'_>> = owned
            .iter()
            .map(|(name, weight)| Entry {
                name,
                weight: *weight,
            })
            .collect();
        Balance::new(method, &entries)
    }

    fn choose(&self, balance: &Balance, draw: Draw) -> usize {
        self.choose_but(balance, draw, |_| false)
            .expect("there are targets")
    }

    fn choose_but(
        &self,
        balance: &Balance,
        draw: Draw,
        avoid: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let loads = |index| self.loads.get(index);
        let fit = balance.choose(draw, loads, |index| !avoid(index), &self.counts);
        fit.or_else(|| balance.choose(draw, loads, |_| true, &self.counts))
    }
}

fn key(number: u64) -> Draw {
    Draw {
        hash: Some(stable_hash(&[&number.to_le_bytes()])),
        now: 0,
    }
}

/// How many of a million requests, each done before the next, go to each target.
fn parts(method: Method, weights: &[u32]) -> Vec<u64> {
    let field = Field::of(weights);
    let balance = field.balance(method);
    let mut counts = vec![0; weights.len()];
    // Chance is drawn alike every time: a part that is off is a mistake, not bad luck.
    fastrand::seed(7);
    for number in 0..MANY {
        let index = field.choose(&balance, key(number));
        field.loads[index].leave();
        counts[index] += 1;
    }
    counts
}

/// No part differs from what its weight says by more than `permille` of it.
fn even(method: Method, weights: &[u32], permille: u64) {
    let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
    for (index, (count, weight)) in parts(method, weights).into_iter().zip(weights).enumerate() {
        let due = MANY * u64::from(*weight) / total;
        let off = count.abs_diff(due);
        assert!(
            off * 1000 <= due * permille,
            "{method:?} {weights:?}: target {index} has {count} of {due}"
        );
    }
}

#[test]
fn parts_are_even_and_by_weight() {
    let equal = [1; 10];
    let unlike = [1, 2, 3, 4];
    for (method, permille) in [
        (Method::RoundRobin, 0),
        (Method::Random, 10),
        (Method::LeastRequest, 10),
        (Method::PeakEwma, 10),
        (Method::Maglev(None), 20),
        (Method::RingHash(None), 100),
    ] {
        even(method, &equal, permille);
        even(method, &unlike, permille);
    }
}

#[test]
fn a_weight_of_nothing_gets_nothing() {
    for method in [
        Method::Random,
        Method::LeastRequest,
        Method::PeakEwma,
        Method::Maglev(None),
        Method::RingHash(None),
    ] {
        assert_eq!(parts(method, &[3, 0, 1])[1], 0, "{method:?}");
    }
}

#[test]
fn nobody_is_chosen_from_nobody() {
    for method in [
        Method::RoundRobin,
        Method::Random,
        Method::LeastRequest,
        Method::PeakEwma,
        Method::Maglev(None),
        Method::RingHash(Some(1250)),
    ] {
        let field = Field::of(&[]);
        assert_eq!(
            field.choose_but(&field.balance(method), Draw::default(), |_| false),
            None,
            "{method:?}"
        );
    }
}

#[test]
fn turns_are_exact_and_smooth() {
    let field = Field::of(&[5, 1, 1]);
    let balance = field.balance(Method::RoundRobin);
    let order: Vec<usize> = (0..7)
        .map(|_| field.choose(&balance, Draw::default()))
        .collect();
    assert_eq!(order.iter().filter(|index| **index == 0).count(), 5);
    assert!(
        order
            .windows(4)
            .all(|window| window.iter().any(|index| *index != 0)),
        "{order:?}"
    );
    assert_eq!(balance.peek(None, &field.counts), Some(order[0]));
    assert_eq!(field.counts.turns.load(Ordering::Relaxed), 7);
}

#[test]
fn turns_taken_by_several_threads_at_once_are_exact_too() {
    let field = Field::of(&[3, 1, 2]);
    let balance = field.balance(Method::RoundRobin);
    let taken = [const { AtomicU64::new(0) }; 3];
    let take = || {
        for _ in 0..30_000 {
            let index = field.choose(&balance, Draw::default());
            taken[index].fetch_add(1, Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(take))));
    let taken = taken.each_ref().map(|count| count.load(Ordering::Relaxed));
    assert_eq!(taken, [60_000, 20_000, 40_000]);
}

#[test]
fn fewer_requests_go_where_more_are_under_way() {
    let field = Field::of(&[1, 1, 2]);
    let balance = field.balance(Method::LeastRequest);
    // Nobody is ever done: parts follow the weights however long it goes on.
    let mut counts = [0u32; 3];
    for _ in 0..4000 {
        counts[field.choose(&balance, Draw::default())] += 1;
    }
    assert!(
        counts[0].abs_diff(1000) < 30 && counts[2].abs_diff(2000) < 30,
        "{counts:?}"
    );
    // One that is full is passed over by everybody who could go elsewhere.
    let field = Field::of(&[1, 1]);
    (0..100).for_each(|_| field.loads[0].enter());
    let balance = field.balance(Method::LeastRequest);
    let first = (0..90)
        .filter(|_| field.choose(&balance, Draw::default()) == 0)
        .count();
    assert_eq!(first, 0);
}

#[test]
fn the_slow_one_gets_less_and_is_tried_again() {
    let field = Field::of(&[1, 1]);
    let balance = field.balance(Method::PeakEwma);
    field.loads[0].took(Duration::from_millis(100), 0);
    field.loads[1].took(Duration::from_millis(10), 0);
    let at = |now| Draw { hash: None, now };
    for _ in 0..100 {
        let index = field.choose(&balance, at(1));
        assert_eq!(index, 1);
        field.loads[index].leave();
    }
    // Ten of them at once are as long as one at the slow target.
    let crowd: Vec<usize> = (0..12).map(|_| field.choose(&balance, at(1))).collect();
    assert!(crowd.contains(&0), "{crowd:?}");
    // Two minutes later nobody remembers.
    let late = 120_000_000_000;
    assert_eq!(Load::default().expected(late, 1), 1_000.0);
    assert!(field.loads[0].expected(late, 1) < 1e15);
    // Of whom nothing is known gets one request, and more when it was heard of.
    let field = Field::of(&[1, 1]);
    field.loads[1].took(Duration::from_millis(10), 0);
    let balance = field.balance(Method::PeakEwma);
    for _ in 0..50 {
        field.choose(&balance, at(1));
    }
    assert_eq!(field.loads[0].in_flight(), 1);
}

#[test]
fn a_peak_is_believed_at_once_and_forgotten_slowly() {
    let load = Load::default();
    load.took(Duration::from_millis(10), 0);
    load.took(Duration::from_millis(500), 1_000);
    assert!(load.expected(1_000, 1) > 490e6);
    load.took(Duration::from_millis(10), 2_000);
    assert!(load.expected(2_000, 1) > 490e6, "one good time says little");
    load.took(Duration::from_millis(10), 30_000_000_000);
    assert!(load.expected(30_000_000_000, 1) < 50e6);
}

#[test]
fn the_same_key_leads_to_the_same_target_and_few_move() {
    let keys = scale(MANY);
    for method in [Method::Maglev(None), Method::RingHash(None)] {
        for gone in [0, 4, 9] {
            let whole = Field::of(&[1; 10]);
            let mut less = Field::of(&[1; 10]);
            less.names.remove(gone);
            less.weights.remove(gone);
            let (before, after) = (whole.balance(method), less.balance(method));
            let mut moved = 0;
            for number in 0..keys {
                let was = whole.choose(&before, key(number));
                assert_eq!(was, whole.choose(&before, key(number)));
                let is = less.choose(&after, key(number));
                moved += u64::from(whole.names[was] != less.names[is]);
            }
            // Its own keys, a tenth of all, and one in twenty.
            assert!(
                moved <= keys * 15 / 100,
                "{method:?}: {moved} of {keys} moved"
            );
        }
    }
}

#[test]
fn a_bound_is_never_exceeded() {
    for method in [Method::Maglev(Some(1250)), Method::RingHash(Some(1250))] {
        for weights in [&[1u32; 10][..], &[1, 2, 3, 4]] {
            for keys in [1, 7, u64::MAX] {
                bounded(method, weights, keys);
            }
        }
    }
}

/// Requests of so many keys come, and up to 2,000 of them are under way at the same time.
fn bounded(method: Method, weights: &[u32], keys: u64) {
    let field = Field::of(weights);
    let balance = field.balance(method);
    let total: u32 = weights.iter().sum();
    let mut under_way = std::collections::VecDeque::new();
    for number in 0..scale(MANY) {
        if under_way.len() == 2_000 {
            let over: usize = under_way.pop_front().expect("the oldest");
            field.loads[over].leave();
        }
        let others = u32::try_from(under_way.len()).expect("at most 2000");
        field.counts.busy.store(others, Ordering::Relaxed);
        let index = field.choose(&balance, key(number % keys));
        under_way.push_back(index);
        let all = others + 1;
        let has = field.loads[index].in_flight();
        let cap = (f64::from(all * weights[index]) * 1.25 / f64::from(total)).ceil();
        assert!(
            f64::from(has) <= cap,
            "{method:?} {keys}: {has} above {cap} of {all}"
        );
    }
}

#[test]
fn who_was_tried_comes_last() {
    for method in [
        Method::RoundRobin,
        Method::Random,
        Method::LeastRequest,
        Method::PeakEwma,
        Method::Maglev(Some(2000)),
        Method::RingHash(None),
    ] {
        let field = Field::of(&[1; 3]);
        let balance = field.balance(method);
        for number in 0..200 {
            let index = field.choose_but(&balance, key(number), |index| index != 2);
            assert_eq!(index, Some(2), "{method:?}");
            field.loads[2].leave();
        }
        // When everybody was tried, anybody is better than nobody.
        assert!(
            field.choose_but(&balance, key(1), |_| true).is_some(),
            "{method:?}"
        );
    }
}

#[test]
fn a_million_turns_go_exactly_by_weight() {
    let turns = Turns::new(&[5, 1, 1, 3]);
    let mut counts = [0u32; 4];
    for turn in 0..1_000_000 {
        counts[turns.choice(turn).expect("a target")] += 1;
    }
    assert_eq!(counts, [500_000, 100_000, 100_000, 300_000]);
}

proptest! {
    #[test]
    fn one_cycle_has_every_weight(weights in prop::collection::vec(1u32..=1000, 1..20)) {
        let turns = Turns::new(&weights);
        let divisor = weights.iter().copied().fold(0, gcd) as usize;
        let total = weights.iter().map(|weight| *weight as usize).sum::<usize>();
        let mut counts = vec![0; weights.len()];
        for turn in 0..total / divisor {
            counts[turns.choice(turn).expect("a target")] += 1;
        }
        for (count, weight) in counts.iter().zip(&weights) {
            prop_assert_eq!(*count, *weight as usize / divisor);
        }
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}
