//! What is counted of the predictor's own work; what concerns the ML API is in `scoring`, what concerns the broker in `queue`.

use assay_transaction::{FailureClass, Lane};
use metrics::{counter, describe_counter};

const CHUNKS: &str = "assay_predictor_chunks_total";
const ROWS: &str = "assay_predictor_rows_total";
const FAILED: &str = "assay_predictor_failed_rows_total";

/// Outcomes of rows.
const PREDICTED: &str = "predicted";
const FAILED_ROW: &str = "failed";
const INVALID: &str = "invalid";
const KNOWN: &str = "known";

/// Says what the metrics are, and begins them at 0.
pub(crate) fn describe() {
    describe_counter!(CHUNKS, "Chunks, live messages and parts of replays that were handed on to the writer.");
    describe_counter!(
        ROWS,
        "Rows of those, by outcome; those that the loader rejected pass through as invalid, and those that are stored already as known."
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

/// The rows of a message that is handed on.
#[derive(Debug)]
pub(crate) struct RowCounts {
    pub(crate) predicted: usize,
    /// The class of each.
    pub(crate) failed: Vec<FailureClass>,
    pub(crate) invalid: usize,
    /// Stored already, and so not scored.
    pub(crate) known: usize,
}

impl RowCounts {
    /// Where so many of what is predicted were not scored now.
    pub(crate) fn with_known(self, known: usize) -> Self {
        Self { predicted: self.predicted.saturating_sub(known), known, ..self }
    }
}

/// A message that the broker has confirmed.
pub(crate) fn forwarded(lane: Lane, rows: &RowCounts) {
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
