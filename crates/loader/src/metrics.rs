//! Metrics of the loader. Those of the broker are in `queue`.

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
    /// The source is read, and every chunk is confirmed.
    Loaded,
    /// The source was loaded before.
    AlreadyLoaded,
    /// The run ended early: cancelled, aborted, or its source is damaged.
    EndedEarly,
    /// The load stopped; another load of the source resumes the run.
    Unfinished,
    /// Another loader took over the run, as this one did not renew its lease.
    TakenOver,
}

impl LoadOutcome {
    const ALL: [Self; 5] = [Self::Loaded, Self::AlreadyLoaded, Self::EndedEarly, Self::Unfinished, Self::TakenOver];

    fn label(self) -> &'static str {
        match self {
            Self::Loaded => "loaded",
            Self::AlreadyLoaded => "already_loaded",
            Self::EndedEarly => "ended_early",
            Self::Unfinished => "unfinished",
            Self::TakenOver => "taken_over",
        }
    }
}

/// Describes the metrics, and sets them to 0.
pub fn describe() {
    describe_counter!(ROWS, "Rows read and validated, by outcome; rows before a checkpoint are not read again.");
    describe_counter!(INVALID, "Rejected rows, by reason.");
    describe_counter!(CHUNKS, "Chunks confirmed by the broker.");
    describe_counter!(PUBLISHED, "Rows of the confirmed chunks.");
    describe_counter!(LOADS, "Ended loads, by outcome.");
    describe_gauge!(IN_PROGRESS, "Loads in progress.");
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

/// Counts a load as in progress until it is dropped.
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
