//! Whether a batch may be copied in without looking its ids up first.
//!
//! Most files have no id twice and none that is stored already. Relying on that is fast, and costs one attempt when it is wrong.
//! After one stored id, more are likely: then ids are looked up first for a while, which costs less than failed attempts. Only
//! speed depends on this, never what is stored.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Batches whose ids are looked up after one that had a stored id: about as many lookups as cost what a failed attempt does.
const LOOKUP_BATCHES: u32 = 16;

/// What the latest batches showed.
#[derive(Debug, Default)]
pub(in super::super) struct CopyMode {
    /// Batches left whose ids are looked up.
    lookups_left: AtomicU32,
}

impl CopyMode {
    /// Whether the next batch looks its ids up first.
    pub(super) fn looks_up_ids(&self) -> bool {
        self.lookups_left.load(Relaxed) > 0
    }

    /// Records how many ids of a batch a lookup found stored.
    pub(super) fn looked_up(&self, stored: usize) {
        if stored > 0 {
            self.found_stored_id();
        } else {
            // Concurrent writers may count two batches as one: it is a guess anyway.
            self.lookups_left.store(self.lookups_left.load(Relaxed).saturating_sub(1), Relaxed);
        }
    }

    /// Records that a copied id was stored already.
    pub(super) fn found_stored_id(&self) {
        self.lookups_left.store(LOOKUP_BATCHES, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_id_makes_the_next_batches_look_up_theirs() {
        let mode = CopyMode::default();
        assert!(!mode.looks_up_ids());
        mode.found_stored_id();
        for _ in 1..LOOKUP_BATCHES {
            mode.looked_up(0);
        }
        assert!(mode.looks_up_ids());
        mode.looked_up(3);
        mode.looked_up(0);
        assert!(mode.looks_up_ids(), "a stored id restarts the count");
        for _ in 1..LOOKUP_BATCHES {
            mode.looked_up(0);
        }
        assert!(!mode.looks_up_ids());
    }
}
