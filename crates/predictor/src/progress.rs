//! How much a predictor has done, for whoever shows it.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one predictor. A chunk that is delivered twice counts twice; the truth is in the database.
#[derive(Debug, Default)]
pub struct PredictProgress {
    scored: AtomicU64,
    failed: AtomicU64,
}

impl PredictProgress {
    /// Transactions that were scored.
    pub fn scored(&self) -> u64 {
        self.scored.load(Ordering::Relaxed)
    }

    /// Transactions that could not be scored.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, scored: usize, failed: usize) {
        self.scored.fetch_add(scored as u64, Ordering::Relaxed);
        self.failed.fetch_add(failed as u64, Ordering::Relaxed);
    }
}
