//! What a scorer has done so far.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::failure::ErrorClass;
use crate::metrics;

/// Counts since the scorer was made. A chunk that is delivered twice counts twice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScorerStats {
    /// Requests to score, of whatever outcome; those that checked on the model included.
    pub requests: u64,
    /// Requests that repeated one whose rows the API failed on, or confirmed that a row is at fault.
    pub retries: u64,
    /// How often a request's rows were halved.
    pub bisections: u64,
    /// Requests with a transaction that is known to be good, to tell rows at fault from a broken model.
    pub canaries: u64,
    /// How often the API turned from ready to unavailable or misconfigured.
    pub outages: u64,
    /// Transactions scored.
    pub scored: u64,
    /// Transactions that could not be scored.
    pub failed: u64,
}

/// The counters behind [`ScorerStats`].
#[derive(Debug, Default)]
pub(crate) struct ScorerCounters {
    pub(crate) requests: AtomicCount,
    pub(crate) retries: AtomicCount,
    pub(crate) bisections: AtomicCount,
    pub(crate) canaries: AtomicCount,
    pub(crate) scored: AtomicCount,
    pub(crate) failed: AtomicCount,
}

impl ScorerCounters {
    /// Counts a request that repeats one whose rows the API failed on in this way.
    pub(crate) fn retry(&self, after: ErrorClass) {
        self.retries.add(1);
        metrics::retried(after);
    }

    /// Counts a request whose rows are halved.
    pub(crate) fn bisection(&self) {
        self.bisections.add(1);
        metrics::bisected();
    }

    /// Counts a request that checks on the model.
    pub(crate) fn canary(&self) {
        self.canaries.add(1);
        metrics::canary_sent();
    }
}

/// One count.
#[derive(Debug, Default)]
pub(crate) struct AtomicCount(AtomicU64);

impl AtomicCount {
    pub(crate) fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
