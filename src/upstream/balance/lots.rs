//! Chance by weight in constant time: Vose's alias method.

/// One lot in the urn: `index` as often as `threshold` says, else `alias`.
#[derive(Debug, Clone, Copy)]
struct Lot {
    threshold: u32,
    alias: u32,
}

/// Targets to be drawn, each as often as its weight says.
#[derive(Debug)]
pub(super) struct Lots(Box<[Lot]>);

impl Lots {
    /// Fills the urn. Weights of 0 are never drawn.
    pub(super) fn new(weights: &[u32]) -> Self {
        let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        let count = weights.len() as u64;
        if total == 0 {
            return Self(Box::default());
        }
        // Shares of one lot, in parts of 2^32: what one has too little another has too much.
        let unit = 1u64 << 32;
        let share = |weight: &u32| {
            let share =
                u128::from(*weight) * u128::from(count) * u128::from(unit) / u128::from(total);
            u64::try_from(share).unwrap_or(u64::MAX)
        };
        let mut left: Vec<u64> = weights.iter().map(share).collect();
        let mut lots: Vec<Lot> = (0u32..)
            .zip(weights)
            .map(|(index, _)| Lot {
                threshold: u32::MAX,
                alias: index,
            })
            .collect();
        let (mut poor, mut rich): (Vec<usize>, Vec<usize>) =
            (0..left.len()).partition(|index| left.get(*index).is_some_and(|share| *share < unit));
        while let (Some(small), Some(large)) = (poor.pop(), rich.pop()) {
            let (Some(has), Some(gives)) = (left.get(small).copied(), left.get(large).copied())
            else {
                break;
            };
            if let Some(lot) = lots.get_mut(small) {
                lot.threshold = u32::try_from(has).unwrap_or(u32::MAX);
                lot.alias = u32::try_from(large).unwrap_or(0);
            }
            let rest = gives.saturating_sub(unit - has);
            if let Some(share) = left.get_mut(large) {
                *share = rest;
            }
            if rest < unit {
                poor.push(large);
            } else {
                rich.push(large);
            }
        }
        // What rounding left over: nobody with a weight of 0 is among them unless its alias was found above.
        for index in poor {
            if weights.get(index) == Some(&0)
                && let (Some(lot), Some(heavy)) = (
                    lots.get_mut(index),
                    weights.iter().position(|weight| *weight > 0),
                )
            {
                *lot = Lot {
                    threshold: 0,
                    alias: u32::try_from(heavy).unwrap_or(0),
                };
            }
        }
        Self(lots.into())
    }

    /// Draws one.
    pub(super) fn draw(&self) -> Option<usize> {
        let chance = fastrand::u64(..);
        let (which, whether) = (chance >> 32, chance & u64::from(u32::MAX));
        // Lemire's reduction: the upper bits of a product are as even as the chance.
        let index = usize::try_from((which * self.0.len() as u64) >> 32).ok()?;
        let lot = self.0.get(index)?;
        if lot.threshold == u32::MAX || whether < u64::from(lot.threshold) {
            Some(index)
        } else {
            usize::try_from(lot.alias).ok()
        }
    }
}
