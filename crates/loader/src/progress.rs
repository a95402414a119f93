//! Progress of one load, or of several together.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Counters of one load. They only grow; the ledger is authoritative.
#[derive(Debug, Default)]
pub struct LoadProgress {
    source_bytes: AtomicU64,
    bytes_before: AtomicU64,
    bytes_read: AtomicU64,
    rows_before: AtomicU64,
    rows_read: AtomicU64,
    rows_invalid: AtomicU64,
    rows_skipped: AtomicU64,
    rows_published: AtomicU64,
    rows_recorded: AtomicU64,
    /// The sum over several loads, including this one.
    whole: Option<Arc<LoadProgress>>,
    before_complete: OnceLock<LogHook>,
}

struct LogHook(Box<dyn Fn() + Send + Sync>);

impl fmt::Debug for LogHook {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("LogHook")
    }
}

impl LoadProgress {
    /// Counters of one of several loads, which are added to the whole.
    pub fn part_of(whole: Arc<Self>) -> Self {
        Self { whole: Some(whole), ..Self::default() }
    }

    /// Rows of the whole source, estimated from the bytes read so far; none before there is anything to go by.
    pub fn estimated_rows(&self) -> Option<u64> {
        let (bytes, read) = (u128::from(self.source_bytes()), u128::from(self.bytes_read()));
        let rows = u128::from(self.rows_read()) * bytes.max(read);
        u64::try_from(rows.checked_div(read)?).ok().filter(|_| bytes > 0)
    }

    /// Lets a writer in this process log what it has written, before a load logs that it is complete.
    pub fn log_before_complete(&self, log: impl Fn() + Send + Sync + 'static) {
        let _ = self.before_complete.set(LogHook(Box::new(log)));
    }

    pub(crate) fn log_stored(&self) {
        let hook = self.before_complete.get().or_else(|| self.whole.as_ref()?.before_complete.get());
        if let Some(LogHook(log)) = hook {
            log();
        }
    }
}

macro_rules! counters {
    ($($(#[$docs:meta])* $name:ident <- $set:ident;)*) => {
        impl LoadProgress {
            $(
                $(#[$docs])*
                pub fn $name(&self) -> u64 {
                    self.$name.load(Ordering::Relaxed)
                }

                pub(crate) fn $set(&self, value: u64) {
                    let before = self.$name.fetch_max(value, Ordering::Relaxed);
                    if let Some(whole) = &self.whole {
                        whole.$name.fetch_add(value.saturating_sub(before), Ordering::Relaxed);
                    }
                }
            )*
        }
    };
}

counters! {
    /// Bytes of the source.
    source_bytes <- set_source_bytes;
    /// Bytes before the row at which this process began: a resumed load begins at its checkpoint.
    bytes_before <- set_bytes_before;
    /// Bytes before the next row.
    bytes_read <- set_bytes_read;
    /// Rows before the one at which this process began.
    rows_before <- set_rows_before;
    /// Data rows read, including those before a resumed checkpoint.
    rows_read <- set_rows_read;
    /// Rows that this process rejected.
    rows_invalid <- set_rows_invalid;
    /// Rows whose chunks an earlier process had stored, so that this one left them out.
    rows_skipped <- set_rows_skipped;
    /// Rows whose chunks are confirmed by the broker.
    rows_published <- set_rows_published;
    /// Rows whose chunks are recorded in the database; updated only while the load waits.
    rows_recorded <- set_rows_recorded;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up() {
        let whole = Arc::new(LoadProgress::default());
        let [one, other] = [0, 1].map(|_| LoadProgress::part_of(Arc::clone(&whole)));
        for value in [5, 3, 9] {
            one.set_rows_read(value);
        }
        other.set_rows_read(7);
        assert_eq!([one.rows_read(), other.rows_read(), whole.rows_read()], [9, 7, 16]);
    }

    #[test]
    fn the_rows_of_the_source_are_estimated_from_bytes() {
        let progress = LoadProgress::default();
        assert_eq!(progress.estimated_rows(), None);
        progress.set_source_bytes(1_000);
        assert_eq!(progress.estimated_rows(), None);
        progress.set_bytes_read(250);
        progress.set_rows_read(10);
        assert_eq!(progress.estimated_rows(), Some(40));
        let pipe = LoadProgress::default();
        pipe.set_bytes_read(250);
        pipe.set_rows_read(10);
        assert_eq!(pipe.estimated_rows(), None, "its size is not known");
    }
}
