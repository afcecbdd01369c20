//! Whether the time that it takes to look a key up tells anything about the keys that are good: by how it is done, and measured.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "what is measured is the time that passes, and told"
)]

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::hint::black_box;
use std::time::Instant;

use super::consumers::{ConsumerSpec, Consumers, Key};
use crate::base::digest::Digest;
use crate::base::problem::{Place, Problems};

/// The key that is good; what is shown is as long.
const GOOD: &str = "dw_7Qm2ZrXc5Vb8Nk1Lp4Hs6Jd9Fg3Ta0Yu3jZRME";
/// Above this, two samples are not of one and the same (Reparaz, Balasch and Verbauwhede, "Dude, is my code constant time?").
const T_MAX: f64 = 4.5;
/// Everything above so many tenths is somebody else's turn, and cut off.
const CROP_TENTHS: usize = 9;
/// So many different keys are shown of each class: no place of the table is one class's own.
const KEYS: usize = 512;

fn scale(full: usize) -> usize {
    let full_size = std::env::var_os("DOORWARD_TEST_SIZE").is_some_and(|size| size == "full");
    if full_size { full } else { full / 100 }
}

/// Chance that is the same each time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % end
    }

    fn letter(&mut self) -> u8 {
        b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"[self.below(62)]
    }
}

fn known() -> Consumers {
    let mut known = Consumers::default();
    let spec = serde_json::json!({ "api_keys": [{ "sha256": Digest::of(GOOD.as_bytes()).hex() }] });
    let spec: ConsumerSpec = serde_json::from_value(spec).unwrap();
    known.add("acme", &spec, &Place::root(), &mut Problems::default());
    assert!(known.by_key(&Digest::of(GOOD.as_bytes())).is_some());
    known
}

/// Welch's t of what `look` takes for the two classes of what is shown: both take turns by chance.
fn welch<T>(shown: &[Vec<T>; 2], samples: usize, look: impl Fn(&T)) -> f64 {
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    let mut taken: Vec<(usize, u64)> = Vec::with_capacity(samples);
    for _ in 0..samples + samples / 10 {
        let (class, at) = (chance.below(2), chance.below(KEYS));
        let one = black_box(&shown[class][at]);
        let since = Instant::now();
        look(one);
        let nanos = u64::try_from(since.elapsed().as_nanos()).unwrap();
        taken.push((class, nanos));
    }
    // The first ones warm up.
    taken.drain(..samples / 10);
    let mut all: Vec<u64> = taken.iter().map(|(_, nanos)| *nanos).collect();
    all.sort_unstable();
    let crop = all[all.len() / 10 * CROP_TENTHS];
    let of = |class: usize| -> Vec<f64> {
        let of_class = taken
            .iter()
            .filter(|(its, nanos)| *its == class && *nanos <= crop);
        of_class.map(|(_, nanos)| *nanos as f64).collect()
    };
    let moments = |sample: &[f64]| {
        let count = sample.len() as f64;
        let mean = sample.iter().sum::<f64>() / count;
        let squares: f64 = sample.iter().map(|it| (it - mean).powi(2)).sum();
        (mean, squares / (count - 1.0) / count)
    };
    let ((one, one_error), (other, other_error)) = (moments(&of(0)), moments(&of(1)));
    let t = (one - other) / (one_error + other_error).sqrt().max(f64::MIN_POSITIVE);
    println!("{samples} samples: {one:.1} ns and {other:.1} ns, t = {t:.2}");
    t
}

/// J16: a key is found by its digest, at a place that is keyed by chance; there is no table by the key itself.
#[test]
fn a_key_is_looked_up_by_its_digest_in_a_table_with_a_secret_of_its_own() {
    /// The key of the place, SipHash's, is drawn for each table.
    const fn is_keyed(_: &HashMap<Digest, Key, RandomState>) {}
    let (one, other) = (known(), known());
    is_keyed(one.table());
    let digest = Digest::of(GOOD.as_bytes());
    let place = |known: &Consumers| known.table().hasher().hash_one(digest);
    assert_ne!(place(&one), place(&other));
}

/// Each of 256 bits counts, wherever it stands.
#[test]
fn digests_that_differ_in_one_bit_are_not_equal() {
    let digest = Digest::of(GOOD.as_bytes());
    for bit in 0..256 {
        let mut bytes = digest.bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_ne!(Digest::parse(&hex), Some(digest), "{bit}");
    }
}

/// J16, measured: keys that differ from the good one in the first letter, and those that differ in the last alone.
#[test]
fn how_near_a_key_is_to_a_good_one_takes_no_time() {
    let known = known();
    let mut chance = Chance(88_172_645_463_325_252);
    let mut near = |first: usize| -> Vec<String> {
        let keys = (0..KEYS).map(|_| {
            loop {
                let mut key = GOOD.as_bytes().to_vec();
                for byte in &mut key[first..] {
                    *byte = chance.letter();
                }
                let key = String::from_utf8(key).unwrap();
                if key != GOOD {
                    return key;
                }
            }
        });
        keys.collect()
    };
    let shown = [near(0), near(GOOD.len() - 2)];
    let t = welch(&shown, scale(100_000), |key| {
        let digest = Digest::of(black_box(key.as_bytes()));
        assert!(black_box(known.by_key(&digest)).is_none());
    });
    assert!(t.abs() < T_MAX, "t = {t}");
}

/// The same where two digests stand beside each other: where they differ first takes no time.
#[test]
fn where_two_digests_differ_takes_no_time() {
    let good = Digest::of(GOOD.as_bytes());
    let other = |at: usize, bit: usize| {
        let mut bytes = good.bytes();
        bytes[at] ^= 1 << (bit % 8);
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Digest::parse(&hex).unwrap()
    };
    let near = |at: usize| (0..KEYS).map(|bit| other(at, bit)).collect();
    let shown = [near(0), near(31)];
    let t = welch(&shown, scale(100_000), |digest| {
        for _ in 0..64 {
            assert!(black_box(digest) != black_box(&good));
        }
    });
    assert!(t.abs() < T_MAX, "t = {t}");
}

/// What the measure is worth: a comparison that ends where the first byte differs does not pass it.
#[test]
fn a_comparison_that_ends_early_is_seen() {
    let good = Digest::of(GOOD.as_bytes()).bytes();
    let near = |at: usize| -> Vec<[u8; 32]> {
        let others = (0..KEYS).map(|bit| {
            let mut bytes = good;
            bytes[at] ^= 1 << (bit % 8);
            bytes
        });
        others.collect()
    };
    let shown = [near(0), near(31)];
    let t = welch(&shown, scale(100_000), |other| {
        for _ in 0..64 {
            let mut pairs = black_box(other).iter().zip(black_box(&good));
            assert!(pairs.any(|(one, other)| black_box(one) != black_box(other)));
        }
    });
    assert!(t.abs() > T_MAX, "t = {t}");
}
