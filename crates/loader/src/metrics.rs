//! What is counted of the loader's own work; what concerns the broker is in `queue`.

use assay_transaction::RejectReason;
use metrics::{counter, describe_counter, describe_gauge, gauge};

const ROWS: &str = "assay_loader_rows_total";
const INVALID: &str = "assay_loader_invalid_rows_total";
const CHUNKS: &str = "assay_loader_chunks_total";
const PUBLISHED: &str = "assay_loader_published_rows_total";
const LOADS: &str = "assay_loader_loads_total";
const IN_PROGRESS: &str = "assay_loader_loads_in_progress";

/// How a load ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LoadOutcome {
    /// Its source is read to the end, and every chunk is confirmed.
    Loaded,
    /// Its source had been loaded before.
    AlreadyLoaded,
    /// Its run ends early: it was cancelled or aborted, or the source is damaged.
    EndedEarly,
    /// It stopped, and another load of the same source goes on.
    Unfinished,
}

impl LoadOutcome {
    const ALL: [Self; 4] = [Self::Loaded, Self::AlreadyLoaded, Self::EndedEarly, Self::Unfinished];

    fn label(self) -> &'static str {
        match self {
            Self::Loaded => "loaded",
            Self::AlreadyLoaded => "already_loaded",
            Self::EndedEarly => "ended_early",
            Self::Unfinished => "unfinished",
        }
    }
}

/// Says what the metrics are, and begins them at 0.
pub fn describe() {
    describe_counter!(
        ROWS,
        "Rows that were read and judged, by outcome; those before a checkpoint are not read again."
    );
    describe_counter!(INVALID, "Rows of those that a rule rejected, by reason.");
    describe_counter!(CHUNKS, "Chunks that the broker has confirmed.");
    describe_counter!(PUBLISHED, "Rows of those.");
    describe_counter!(LOADS, "Loads that ended, by how.");
    describe_gauge!(IN_PROGRESS, "Loads that are under way.");
    for outcome in ["valid", "invalid"] {
        counter!(ROWS, "outcome" => outcome).absolute(0);
    }
    for reason in RejectReason::ALL {
        counter!(INVALID, "reason" => reason.label()).absolute(0);
    }
    for outcome in &LoadOutcome::ALL {
        counter!(LOADS, "outcome" => outcome.label()).absolute(0);
    }
    for name in [CHUNKS, PUBLISHED] {
        counter!(name).absolute(0);
    }
    gauge!(IN_PROGRESS).set(0);
}

/// Rows that were judged: all, and those that a rule rejected.
pub(crate) fn judged(rows: u64, invalid: u64) {
    counter!(ROWS, "outcome" => "valid").increment(rows - invalid);
    counter!(ROWS, "outcome" => "invalid").increment(invalid);
}

pub(crate) fn rejected(reason: &RejectReason) {
    counter!(INVALID, "reason" => reason.label()).increment(1);
}

pub(crate) fn published(rows: u64) {
    counter!(CHUNKS).increment(1);
    counter!(PUBLISHED).increment(rows);
}

pub(crate) fn ended(outcome: LoadOutcome) {
    counter!(LOADS, "outcome" => outcome.label()).increment(1);
}

/// A load that is under way, until it is dropped.
pub(crate) struct InProgress(());

impl InProgress {
    pub(crate) fn begin() -> Self {
        gauge!(IN_PROGRESS).increment(1);
        Self(())
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        gauge!(IN_PROGRESS).decrement(1);
    }
}
