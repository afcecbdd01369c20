//! Smooth weighted round robin: heavy targets come often, but never twice where it can be helped.

/// The longest cycle that is laid out; weights beyond it are scaled down.
const CYCLE_MAX: u64 = 65_536;

/// One cycle of choices, laid out in advance.
#[derive(Debug)]
pub(super) struct Turns(Box<[u32]>);

impl Turns {
    /// Lays out a cycle in which target `i` comes `weights[i]` times.
    #[must_use]
    pub(super) fn new(weights: &[u32]) -> Self {
        let divisor = weights.iter().copied().fold(0, gcd).max(1);
        let mut scaled: Vec<u64> = weights
            .iter()
            .map(|weight| u64::from(weight / divisor))
            .collect();
        let total: u64 = scaled.iter().sum();
        if total > CYCLE_MAX {
            for weight in &mut scaled {
                *weight = (*weight * CYCLE_MAX / total).max(1);
            }
        }
        Self(lay_out(&scaled))
    }

    /// Whose turn number `turn` is; `None` when there is nobody.
    pub(super) fn choice(&self, turn: usize) -> Option<usize> {
        let index = turn.checked_rem(self.0.len())?;
        self.0
            .get(index)
            .and_then(|choice| usize::try_from(*choice).ok())
    }
}

/// Each turn the target with the most credit is chosen and pays one round; everybody earns their weight.
/// A heap keeps the turn at log(n): the k-th turn of a weight w is due at (2k+1)/2w of the cycle.
fn lay_out(weights: &[u64]) -> Box<[u32]> {
    let total: u64 = weights.iter().sum();
    let mut due: Vec<(u64, u32)> = Vec::with_capacity(usize::try_from(total).unwrap_or(0));
    for (index, weight) in (0u32..).zip(weights) {
        for turn in 0..*weight {
            // Scaled by 2^32, so that turns of unlike weights compare without fractions.
            due.push((((2 * turn + 1) << 32) / (2 * weight), index));
        }
    }
    due.sort_unstable();
    due.into_iter().map(|(_, index)| index).collect()
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}
