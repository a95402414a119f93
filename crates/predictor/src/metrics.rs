//! Metrics and progress of the predictor's own work; those of the ML API are in `scoring`, those of the broker in `queue`.

use std::sync::atomic::{AtomicU64, Ordering};

use assay_transaction::{FailureClass, Lane, ScoreOutcome};
use metrics::{counter, describe_counter};

const CHUNKS: &str = "assay_predictor_chunks_total";
const ROWS: &str = "assay_predictor_rows_total";
const FAILED: &str = "assay_predictor_failed_rows_total";

/// Outcomes of rows.
const PREDICTED: &str = "predicted";
const FAILED_ROW: &str = "failed";
const INVALID: &str = "invalid";
const KNOWN: &str = "known";

/// Describes the metrics, and starts them at 0.
pub(crate) fn describe() {
    describe_counter!(CHUNKS, "Chunks, live messages and parts of replays forwarded to the writer.");
    describe_counter!(
        ROWS,
        "Rows of those, by outcome; rows rejected by the loader pass through as invalid, rows already stored as known."
    );
    describe_counter!(FAILED, "Rows of those that could not be scored, by class.");
    for lane in Lane::ALL {
        counter!(CHUNKS, "lane" => lane.as_str()).absolute(0);
        for outcome in [PREDICTED, FAILED_ROW, INVALID, KNOWN] {
            counter!(ROWS, "lane" => lane.as_str(), "outcome" => outcome).absolute(0);
        }
    }
    for class in FailureClass::ALL {
        counter!(FAILED, "class" => class.label()).absolute(0);
    }
}

/// The rows of a message for the writer.
#[derive(Debug)]
pub(crate) struct RowCounts {
    pub(crate) predicted: usize,
    /// The class of each.
    pub(crate) failed: Vec<FailureClass>,
    pub(crate) invalid: usize,
    /// Already stored, and so not scored.
    pub(crate) known: usize,
}

impl RowCounts {
    /// The counts of scored transactions.
    pub(crate) fn of(outcomes: &[ScoreOutcome]) -> Self {
        let failed: Vec<_> =
            outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).map(|failure| failure.class.clone()).collect();
        Self { predicted: outcomes.len() - failed.len(), failed, invalid: 0, known: 0 }
    }
}

/// Records a message that the broker has confirmed.
pub(crate) fn record_forwarded(lane: Lane, rows: &RowCounts) {
    let lane = lane.as_str();
    counter!(CHUNKS, "lane" => lane).increment(1);
    let outcomes =
        [(PREDICTED, rows.predicted), (FAILED_ROW, rows.failed.len()), (INVALID, rows.invalid), (KNOWN, rows.known)];
    for (outcome, count) in outcomes {
        counter!(ROWS, "lane" => lane, "outcome" => outcome).increment(count as u64);
    }
    for class in &rows.failed {
        counter!(FAILED, "class" => class.label()).increment(1);
    }
}

/// Counters of one predictor. A chunk that is delivered twice counts twice; the database has the exact numbers.
#[derive(Debug, Default)]
pub struct PredictProgress {
    scored: AtomicU64,
    failed: AtomicU64,
}

impl PredictProgress {
    /// Transactions scored.
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
