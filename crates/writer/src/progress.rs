//! Progress of a writer, for displays and for the log.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use assay_transaction::RunId;
use tracing::info;

/// Finished runs that are remembered: more than can finish between two sweeps of one of them.
const REMEMBERED: usize = 1_000;

/// Counters of one writer. The database is authoritative.
#[derive(Debug, Default)]
pub struct WriteProgress {
    rows: AtomicU64,
    transactions: AtomicU64,
    logged: AtomicU64,
    finished: Mutex<VecDeque<RunId>>,
}

impl WriteProgress {
    /// Recorded rows, with any outcome.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// New transactions in the database.
    pub fn transactions(&self) -> u64 {
        self.transactions.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, rows: u64, transactions: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.transactions.fetch_add(transactions, Ordering::Relaxed);
    }

    /// Whether this is the first call for a finished run.
    pub(crate) fn is_newly_finished(&self, run_id: &RunId) -> bool {
        let mut finished = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
        if finished.contains(run_id) {
            return false;
        }
        finished.truncate(REMEMBERED - 1);
        finished.push_front(run_id.clone());
        true
    }

    /// Logs the transactions written since the last call, if there are any.
    pub fn log_written(&self) {
        let all = self.transactions();
        let new = all - self.logged.swap(all, Ordering::Relaxed);
        if new > 0 {
            info!("Successfully wrote {new} transactions to database");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_newly_finished_once() {
        let progress = WriteProgress::default();
        let news: Vec<bool> =
            ["a", "b", "a"].iter().map(|run_id| progress.is_newly_finished(&run_id.parse().unwrap())).collect();
        assert_eq!(news, [true, true, false]);
    }
}
