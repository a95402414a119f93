//! The counts of a live run: rows that its producer accepted, and rows that arrived.

use std::fmt;

use assay_store::{LiveLedger, StoreError};
use assay_transaction::{LiveRun, Run};
use chrono::{TimeDelta, Utc};
use serde::Serialize;

use crate::{counted, grouped};

/// Accepted rows that arrive later than this after their day are overdue: the wait of the writer, and some minutes.
const OVERDUE: TimeDelta = TimeDelta::minutes(70);

/// The counts of a live run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LiveCounts {
    producer: String,
    day: String,
    /// Rows that the producer has accepted; none if it does not count.
    rows_accepted: Option<u64>,
    /// Rows that have arrived, and so have a number in the run.
    rows_numbered: u64,
    rows_in_doubt: u64,
    /// Rows of earlier days that arrived too late for their own run.
    rows_late: u64,
    processes_counting: u64,
    /// Accepted rows that are overdue.
    rows_missing: u64,
    /// Accepted rows that may be overdue, as rows in doubt that arrived may mask them. Known once no more rows are expected.
    rows_possibly_missing: u64,
    /// Rows that arrived though no producer sent them.
    rows_unexplained: u64,
}

impl LiveCounts {
    /// The counts of a run, if it is live.
    pub async fn of(store: &(impl LiveLedger + ?Sized), run: &Run) -> Result<Option<Self>, StoreError> {
        if !run.source.is_live() {
            return Ok(None);
        }
        Ok(store.live_run(&run.run_id).await?.map(|live| Self::at(&live, Utc::now())))
    }

    pub(crate) fn at(live: &LiveRun, now: chrono::DateTime<Utc>) -> Self {
        let is_overdue = now > live.day.end() + OVERDUE;
        Self {
            producer: live.producer.to_string(),
            day: live.day.to_string(),
            rows_accepted: live.accepted,
            rows_numbered: live.numbered,
            rows_in_doubt: live.doubtful,
            rows_late: live.late,
            processes_counting: live.open_counts,
            rows_missing: if is_overdue { live.missing() } else { 0 },
            rows_possibly_missing: if is_overdue || live.missing() == 0 { live.possibly_missing() } else { 0 },
            rows_unexplained: live.unexplained(),
        }
    }

    /// Rows that the producer has accepted, if it counts.
    pub fn rows_accepted(&self) -> Option<u64> {
        self.rows_accepted
    }

    /// Rows that have arrived.
    pub fn rows_numbered(&self) -> u64 {
        self.rows_numbered
    }

    /// Whether accepted rows are overdue, or rows arrived that no producer sent.
    pub fn is_breach(&self) -> bool {
        self.rows_missing > 0 || self.rows_unexplained > 0
    }
}

impl fmt::Display for LiveCounts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbered = grouped(self.rows_numbered);
        let Some(accepted) = self.rows_accepted else {
            return write!(
                out,
                "{numbered} arrived; no independent count exists, as the producer keeps none: rows that it lost on their way \
                 are not detected"
            );
        };
        if self.rows_missing > 0 {
            write!(out, "{} NOT ARRIVED: ", counted(self.rows_missing, "ROW HAS", "ROWS HAVE"))?;
        }
        if self.rows_unexplained > 0 {
            write!(out, "{} NOT SENT BY ANY PRODUCER: ", counted(self.rows_unexplained, "ROW WAS", "ROWS WERE"))?;
        }
        write!(out, "{} accepted by {}, {numbered} arrived", grouped(accepted), self.producer)?;
        if self.rows_in_doubt > 0 {
            write!(out, "; {} more may have", grouped(self.rows_in_doubt))?;
        }
        if self.rows_possibly_missing > self.rows_missing {
            write!(out, "; up to {} of the accepted may be missing", grouped(self.rows_possibly_missing))?;
        }
        if self.rows_late > 0 {
            write!(out, "; {} of earlier days came late", grouped(self.rows_late))?;
        }
        match self.processes_counting {
            0 => Ok(()),
            processes => write!(out, "; {} counting", counted(processes, "process is", "processes are")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    fn live(accepted: Option<u64>, numbered: u64) -> LiveRun {
        LiveRun { counted: accepted.is_some(), accepted, ..fixture::live_run(0, numbered) }
    }

    #[test]
    fn accepted_and_arrived_rows_are_compared() {
        let at = |live, now: &str| LiveCounts::at(&live, now.parse().unwrap());
        let (noon, next_day) = ("2026-01-11T12:00:00Z", "2026-01-12T02:00:00Z");
        for (live, now, expected, is_breach) in [
            (live(Some(1_000), 1_000), noon, "1,000 accepted by shop, 1,000 arrived", false),
            (live(Some(1_000), 999), noon, "1,000 accepted by shop, 999 arrived", false),
            (live(Some(1_000), 999), next_day, "1 ROW HAS NOT ARRIVED: 1,000 accepted by shop, 999 arrived", true),
            (live(Some(5), 6), noon, "1 ROW WAS NOT SENT BY ANY PRODUCER: 5 accepted by shop, 6 arrived", true),
            (
                LiveRun { doubtful: 2, open_counts: 1, ..live(Some(5), 6) },
                next_day,
                "5 accepted by shop, 6 arrived; 2 more may have; up to 1 of the accepted may be missing; 1 process is counting",
                false,
            ),
            (
                LiveRun { doubtful: 2, ..live(Some(5), 7) },
                noon,
                "5 accepted by shop, 7 arrived; 2 more may have",
                false,
            ),
            (
                LiveRun { doubtful: 2, ..live(Some(5), 4) },
                noon,
                "5 accepted by shop, 4 arrived; 2 more may have",
                false,
            ),
            (
                LiveRun { doubtful: 2, ..live(Some(5), 4) },
                next_day,
                "1 ROW HAS NOT ARRIVED: 5 accepted by shop, 4 arrived; 2 more may have; up to 3 of the accepted may be missing",
                true,
            ),
        ] {
            let counts = at(live, now);
            assert_eq!((counts.to_string().as_str(), counts.is_breach()), (expected, is_breach));
        }
        let uncounted = at(live(None, 7), next_day);
        assert!(uncounted.to_string().starts_with("7 arrived; no independent count exists") && !uncounted.is_breach());
    }
}
