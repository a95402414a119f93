//! What an audit finds, and whether that is lawful. No I/O: `sql::operations::audit` counts.

use assay_transaction::{Run, Tally};
use serde::Serialize;

/// Most ranges of missing chunks that are listed.
pub(crate) const MAX_RANGES: usize = 100;

/// A run, recounted from its data rows and chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// The run, as in the ledger.
    pub run: Run,
    /// Its rows by outcome.
    pub tally: Tally,
    /// Distinct row numbers with an outcome: fewer than the tally if a row has two.
    pub distinct_rows: u64,
    /// Outcomes of rows that no recorded chunk covers.
    pub uncovered_rows: u64,
    /// Transactions of the run without a prediction.
    pub unpredicted: u64,
    /// Rows that count as duplicates of a transaction that is not stored.
    pub unfounded_duplicates: u64,
    /// Stored rows, as the chunks claim.
    pub credited: u64,
    /// Chunks that are recorded.
    pub chunks_recorded: u64,
    /// The rows that they cover.
    pub rows_covered: u64,
    /// Recorded chunks that lie beyond the end of the run.
    pub chunks_beyond: u64,
    /// First and last of each range of missing chunks below the total; while the run is loading, below its checkpoint
    /// or the last recorded one.
    pub missing: Vec<(u64, u64)>,
    /// Missing chunks, including those in ranges that are not listed.
    pub chunks_missing: u64,
}

/// A violation of the law.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "breach", rename_all = "snake_case")]
pub enum AuditBreach {
    /// Rows without an outcome, or outcomes without a row.
    Sum {
        /// Rows to account for: those that were read, or those of the recorded chunks while the run is loading or being stored.
        expected: u64,
        /// Rows with an outcome.
        found: u64,
    },
    /// Rows that have more than one outcome.
    Doubled {
        /// Surplus outcomes.
        outcomes: u64,
    },
    /// Outcomes of rows that no recorded chunk covers.
    Uncovered {
        /// How many.
        outcomes: u64,
    },
    /// Transactions without a prediction.
    Unpredicted {
        /// How many.
        transactions: u64,
    },
    /// Duplicates of transactions that are not stored.
    Unfounded {
        /// How many.
        duplicates: u64,
    },
    /// Chunks claim more or fewer stored rows than there are.
    Credited {
        /// Stored rows by the chunks.
        expected: u64,
        /// Stored rows.
        found: u64,
    },
    /// Chunks of a finished run that are not recorded.
    Missing {
        /// How many.
        chunks: u64,
    },
    /// Recorded chunks beyond the end of the run.
    Beyond {
        /// How many.
        chunks: u64,
    },
}

/// Rows of a run that is not in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StrayRun {
    /// The name, as the rows have it.
    pub run_id: String,
    /// Recorded chunks.
    pub chunks: u64,
    /// Stored transactions.
    pub transactions: u64,
    /// Invalid rows.
    pub invalid: u64,
    /// Failed transactions.
    pub failed: u64,
}

/// Rows that no run accounts for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Strays {
    /// Runs that have rows or chunks but are not in the ledger.
    pub runs: u64,
    /// The first of them by name, at most 100.
    pub named: Vec<StrayRun>,
    /// Predictions without their transaction.
    pub predictions: u64,
}

impl Audit {
    /// All violations. Until a run is finished, its recorded rows must be right; missing ones may come.
    pub fn breaches(&self) -> Vec<AuditBreach> {
        let is_finished = self.run.state.is_finished();
        let sealed = self.run.sealed.map_or(0, |sealed| sealed.rows_read);
        let expected = if is_finished { sealed } else { self.rows_covered };
        let found = self.tally.total();
        let doubled = found.saturating_sub(self.distinct_rows);
        let mut breaches = Vec::new();
        if expected != found {
            breaches.push(AuditBreach::Sum { expected, found });
        }
        if doubled > 0 {
            breaches.push(AuditBreach::Doubled { outcomes: doubled });
        }
        if self.uncovered_rows > 0 {
            breaches.push(AuditBreach::Uncovered { outcomes: self.uncovered_rows });
        }
        if self.unpredicted > 0 {
            breaches.push(AuditBreach::Unpredicted { transactions: self.unpredicted });
        }
        if self.unfounded_duplicates > 0 {
            breaches.push(AuditBreach::Unfounded { duplicates: self.unfounded_duplicates });
        }
        // Missing rows and predictions are reported already. While a run is being removed, its transactions go before
        // its chunks are updated.
        let is_being_removed = self.run.removal.as_ref().is_some_and(|removal| removal.ended_at.is_none());
        let is_comparable = expected == found && self.unpredicted == 0 && !is_being_removed;
        if is_comparable && self.credited != self.tally.predicted {
            breaches.push(AuditBreach::Credited { expected: self.credited, found: self.tally.predicted });
        }
        if is_finished && self.chunks_missing > 0 {
            breaches.push(AuditBreach::Missing { chunks: self.chunks_missing });
        }
        if self.chunks_beyond > 0 {
            breaches.push(AuditBreach::Beyond { chunks: self.chunks_beyond });
        }
        breaches
    }
}

/// The numbers that a rising list leaves out, found while reading it.
pub(crate) struct Gaps {
    /// Where the list should end; none if it ends with its last number.
    total: Option<u64>,
    next: u64,
    ranges: Vec<(u64, u64)>,
    count: u64,
}

impl Gaps {
    pub(crate) fn new(total: Option<u64>) -> Self {
        Self { total, next: 0, ranges: Vec::new(), count: 0 }
    }

    /// Takes the next number of the list.
    pub(crate) fn recorded(&mut self, number: u64) {
        if self.total.is_none_or(|total| number < total) {
            self.leave_out_up_to(number);
            self.next = number + 1;
        }
    }

    /// The missing ranges, at most [`MAX_RANGES`] of them, and how many numbers are missing. A list without a total
    /// should at least reach `least`.
    pub(crate) fn end(mut self, least: u64) -> (Vec<(u64, u64)>, u64) {
        self.leave_out_up_to(self.total.unwrap_or(least));
        (self.ranges, self.count)
    }

    fn leave_out_up_to(&mut self, number: u64) {
        if number > self.next {
            self.count += number - self.next;
            if self.ranges.len() < MAX_RANGES {
                self.ranges.push((self.next, number - 1));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_is_missing() {
        type Case<'a> = (&'a [u64], Option<u64>, &'a [(u64, u64)], u64);
        let cases: [Case<'_>; 8] = [
            (&[], None, &[], 0),
            (&[], Some(0), &[], 0),
            (&[], Some(3), &[(0, 2)], 3),
            (&[0, 1, 2], Some(3), &[], 0),
            (&[1, 4], Some(7), &[(0, 0), (2, 3), (5, 6)], 5),
            (&[1, 4], None, &[(0, 0), (2, 3)], 3),
            (&[0, 1, 2, 9], Some(3), &[], 0),
            (&[9], Some(3), &[(0, 2)], 3),
        ];
        for (recorded, total, ranges, count) in cases {
            let mut gaps = Gaps::new(total);
            for number in recorded {
                gaps.recorded(*number);
            }
            assert_eq!(gaps.end(0), (ranges.to_vec(), count), "{recorded:?} below {total:?}");
        }
    }

    #[test]
    fn names_so_many_ranges_and_counts_all() {
        let mut gaps = Gaps::new(None);
        for number in 0..500 {
            gaps.recorded(2 * number + 1);
        }
        let (ranges, count) = gaps.end(1_001);
        assert_eq!((ranges.len(), count), (MAX_RANGES, 501));
    }
}
