//! Whether the ids of a batch may be taken as new without a look at those that are stored.
//!
//! Most files have no id twice, and none that is stored already: taking that for granted is the fast way, and where it is wrong,
//! it costs one attempt. Where one id came again, others will: then stored ids are looked up first for a while, which costs
//! less than attempts that fail. Only time depends on this, never what is stored.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// For how many batches stored ids are looked up after one that was known.
const DOUBTFUL_BATCHES: u32 = 100;

/// What the latest batches were like.
#[derive(Debug, Default)]
pub(in super::super) struct Novelty {
    /// For how many batches more stored ids are looked up.
    doubtful: AtomicU32,
}

impl Novelty {
    /// Whether stored ids are to be looked up first.
    pub(super) fn is_doubtful(&self) -> bool {
        self.doubtful.load(Relaxed) > 0
    }

    /// Takes how many ids of a batch were stored already, where that was looked up.
    pub(super) fn found(&self, known: usize) {
        if known > 0 {
            self.doubt();
        } else {
            // Several writers may count one batch for two: it is a guess anyway.
            self.doubtful.store(self.doubtful.load(Relaxed).saturating_sub(1), Relaxed);
        }
    }

    /// An id that was taken as new was not.
    pub(super) fn doubt(&self) {
        self.doubtful.store(DOUBTFUL_BATCHES, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_id_makes_the_next_batches_doubtful() {
        let novelty = Novelty::default();
        assert!(!novelty.is_doubtful());
        novelty.doubt();
        for _ in 1..DOUBTFUL_BATCHES {
            novelty.found(0);
        }
        assert!(novelty.is_doubtful());
        novelty.found(3);
        novelty.found(0);
        assert!(novelty.is_doubtful(), "it begins anew");
        for _ in 1..DOUBTFUL_BATCHES {
            novelty.found(0);
        }
        assert!(!novelty.is_doubtful());
    }
}
