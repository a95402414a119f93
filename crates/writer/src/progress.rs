//! How much a writer has done: for whoever shows it, and for the log, which hears of it now and again.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use assay_transaction::RunId;
use tracing::info;

/// Runs that were finished lately, and are remembered as such: more than finish while one of them is still looked at.
const REMEMBERED: usize = 1_000;

/// Counters of one writer. The truth is in the database.
#[derive(Debug, Default)]
pub struct WriteProgress {
    rows: AtomicU64,
    transactions: AtomicU64,
    logged: AtomicU64,
    finished: Mutex<VecDeque<RunId>>,
}

impl WriteProgress {
    /// Rows whose outcome was recorded, whatever it is.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Transactions that are new in the database.
    pub fn transactions(&self) -> u64 {
        self.transactions.load(Ordering::Relaxed)
    }

    pub(crate) fn add(&self, rows: u64, transactions: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.transactions.fetch_add(transactions, Ordering::Relaxed);
    }

    /// Whether a run that is finished was not known to be so.
    pub(crate) fn is_newly_finished(&self, run_id: &RunId) -> bool {
        let mut finished = self.finished.lock().unwrap_or_else(PoisonError::into_inner);
        if finished.contains(run_id) {
            return false;
        }
        finished.truncate(REMEMBERED - 1);
        finished.push_front(run_id.clone());
        true
    }

    /// Logs how many transactions were written since it was last logged; nothing where none were.
    pub(crate) fn log_written(&self) {
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
    fn the_end_of_a_run_is_news_once() {
        let progress = WriteProgress::default();
        let news: Vec<bool> =
            ["a", "b", "a"].iter().map(|run_id| progress.is_newly_finished(&run_id.parse().unwrap())).collect();
        assert_eq!(news, [true, true, false]);
    }
}
