//! Which of many good requests are recorded: exactly the share that was asked for.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::units::Share;

/// A share of requests, counted out evenly.
#[derive(Debug)]
pub struct Sample {
    /// In parts of [`Share::WHOLE`].
    share: u32,
    /// Adds up the shares: a record is written each time it passes the whole.
    credit: AtomicU64,
}

/// What becomes of the record of one request. Those that fail are recorded whatever the share is.
#[derive(Debug, Clone, Copy)]
pub enum Recording<'a> {
    /// As the access log says for all.
    Usual,
    /// By the share of the route.
    Sampled(&'a Sample),
    /// There is none, not even of a failure.
    Off,
}

impl Sample {
    /// Counts out `share`.
    #[must_use]
    pub const fn new(share: Share) -> Self {
        Self {
            share: share.parts(),
            credit: AtomicU64::new(0),
        }
    }

    /// Whether a good request is recorded: exactly the share of them that was asked for.
    #[must_use]
    pub fn has_its_turn(&self) -> bool {
        if self.share >= Share::WHOLE {
            return true;
        }
        let (share, whole) = (u64::from(self.share), u64::from(Share::WHOLE));
        let before = self.credit.fetch_add(share, Ordering::Relaxed);
        (before % whole) + share >= whole
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Sample;
    use crate::base::units::Share;

    #[test]
    fn a_share_is_exact_whoever_counts() {
        for (share, expected) in [
            ("0%", 0),
            ("0.5%", 50),
            ("33.3333%", 3333),
            ("100%", 10_000),
        ] {
            let sample = Arc::new(Sample::new(share.parse::<Share>().unwrap()));
            let counted = |sample: Arc<Sample>| (0..2500).filter(|_| sample.has_its_turn()).count();
            let threads: Vec<_> = (0..4)
                .map(|_| Arc::clone(&sample))
                .map(|sample| std::thread::spawn(move || counted(sample)))
                .collect();
            let total: usize = threads.into_iter().map(|one| one.join().unwrap()).sum();
            assert_eq!(total, expected, "{share}");
        }
    }
}
