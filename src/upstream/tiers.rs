//! Which targets requests go to at all: by priority, by health, and by how few are left.

/// How a target stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing is wrong with it, as far as is known.
    Serving,
    /// It answers, but not as it should.
    Failing,
    /// Nobody takes connections there.
    Gone,
}

/// A target as it is looked at here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    /// 0 comes first.
    pub(super) priority: u8,
    pub(super) standing: Standing,
}

/// Who is chosen from.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tiers {
    /// Requests go to these.
    pub(super) first: Vec<usize>,
    /// A request that was at all of the first goes to these.
    pub(super) reserve: Vec<usize>,
    /// So few are left that it counts for nothing how the first ones stand.
    pub(super) panics: bool,
}

impl Tiers {
    /// Chooses among `candidates`: those of the lowest priority that has one that serves. Where no more than those are left,
    /// and they are less than `threshold` (from 0 to 1) of their priority, everybody there serves who takes connections:
    /// rather would many be asked in vain than few be crushed.
    pub(super) fn of(candidates: &[Candidate], threshold: f64) -> Self {
        let with = |standing: Standing, priority: u8| {
            let all = candidates.iter().enumerate();
            let all = all.filter(move |(_, it)| it.priority == priority && it.standing == standing);
            all.map(|(index, _)| index)
        };
        let mut priorities: Vec<u8> = candidates.iter().map(|it| it.priority).collect();
        priorities.sort_unstable();
        priorities.dedup();
        let serving = |priority: &u8| with(Standing::Serving, *priority).next().is_some();
        let tier = priorities.iter().copied().find(serving);
        let first: Vec<usize> = tier
            .into_iter()
            .flat_map(|tier| with(Standing::Serving, tier))
            .collect();
        let reserve: Vec<usize> = priorities
            .iter()
            .filter(|priority| tier.is_some_and(|tier| **priority > tier))
            .flat_map(|priority| with(Standing::Serving, *priority))
            .collect();
        let few = |left: usize, of: usize| {
            let (left, of) = (
                u32::try_from(left).unwrap_or(0),
                u32::try_from(of).unwrap_or(1),
            );
            f64::from(left) < f64::from(of) * threshold
        };
        // Where nobody serves at all, the first priority at which somebody takes connections is taken for what it is.
        let answers = |priority: &u8| with(Standing::Failing, *priority).next().is_some();
        let there = tier.or_else(|| priorities.iter().copied().find(answers));
        let Some(there) = there else {
            return Self::default();
        };
        let of = candidates.iter().filter(|it| it.priority == there).count();
        if !reserve.is_empty() || !few(first.len(), of) {
            return Self {
                first,
                reserve,
                panics: false,
            };
        }
        let mut first: Vec<usize> = first
            .into_iter()
            .chain(with(Standing::Failing, there))
            .collect();
        first.sort_unstable();
        Self {
            first,
            reserve,
            panics: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Standing::{Failing, Gone, Serving};
    use super::*;

    fn of(candidates: &[(u8, Standing)], percent: u32) -> Tiers {
        let candidates = candidates.iter().map(|(priority, standing)| Candidate {
            priority: *priority,
            standing: *standing,
        });
        let candidates: Vec<_> = candidates.collect();
        Tiers::of(&candidates, f64::from(percent) / 100.0)
    }

    fn calm(first: &[usize], reserve: &[usize]) -> Tiers {
        Tiers {
            first: first.to_vec(),
            reserve: reserve.to_vec(),
            panics: false,
        }
    }

    fn panic(first: &[usize]) -> Tiers {
        Tiers {
            panics: true,
            ..calm(first, &[])
        }
    }

    #[test]
    fn backups_are_used_when_the_first_are_gone_and_left_again() {
        assert_eq!(
            of(&[(0, Serving), (0, Serving), (1, Serving)], 50),
            calm(&[0, 1], &[2])
        );
        assert_eq!(
            of(&[(0, Failing), (0, Serving), (1, Serving)], 50),
            calm(&[1], &[2])
        );
        // One of three is few, but there is a backup for those that were there in vain.
        assert_eq!(
            of(&[(0, Gone), (0, Gone), (0, Serving), (1, Serving)], 50),
            calm(&[2], &[3])
        );
        assert_eq!(
            of(&[(0, Failing), (0, Gone), (1, Serving)], 50),
            calm(&[2], &[])
        );
        assert_eq!(
            of(&[(0, Gone), (3, Gone), (7, Serving)], 50),
            calm(&[2], &[])
        );
    }

    #[test]
    fn where_few_are_left_all_that_answer_serve() {
        assert_eq!(of(&[(0, Serving), (0, Failing)], 50), calm(&[0], &[]));
        assert_eq!(
            of(&[(0, Serving), (0, Failing), (0, Failing)], 50),
            panic(&[0, 1, 2])
        );
        assert_eq!(of(&[(0, Failing), (0, Failing)], 50), panic(&[0, 1]));
        // Where nobody takes connections there is nothing to be had, however few are left.
        assert_eq!(
            of(&[(0, Serving), (0, Gone), (0, Failing)], 50),
            panic(&[0, 2])
        );
        assert_eq!(of(&[(0, Gone), (0, Gone)], 50), calm(&[], &[]));
        assert_eq!(of(&[(0, Gone), (1, Failing)], 50), panic(&[1]));
    }

    #[test]
    fn without_a_threshold_nobody_serves_who_should_not() {
        assert_eq!(
            of(&[(0, Serving), (0, Failing), (0, Failing)], 0),
            calm(&[0], &[])
        );
        assert_eq!(of(&[(0, Failing)], 0), calm(&[], &[]));
    }

    #[test]
    fn nobody_is_nobody() {
        assert_eq!(of(&[], 50), Tiers::default());
    }
}
