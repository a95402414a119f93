//! How much a writer has done: for whoever shows it, and for the log, which hears of it now and again.

use std::sync::atomic::{AtomicU64, Ordering};

use tracing::info;

/// Counters of one writer. The truth is in the database.
#[derive(Debug, Default)]
pub struct WriteProgress {
    rows: AtomicU64,
    transactions: AtomicU64,
    said: AtomicU64,
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

    /// Logs how many transactions were written since it was last said; nothing where none were.
    pub(crate) fn say(&self) {
        let all = self.transactions();
        let new = all - self.said.swap(all, Ordering::Relaxed);
        if new > 0 {
            info!("Successfully wrote {new} transactions to database");
        }
    }
}
