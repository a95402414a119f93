//! Metrics of the writer. Those of the broker are in `queue`.

use std::time::Duration;

use assay_store::{ChunkOutcome, DeadLetterOutcome, ErrorClass, WriteReport};
use assay_transaction::{FailureClass, Lane, RejectReason, ScoredChunk};
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

const CHUNKS: &str = "assay_writer_chunks_total";
const ROWS: &str = "assay_writer_rows_total";
const INVALID: &str = "assay_writer_invalid_rows_total";
const FAILED: &str = "assay_writer_failed_rows_total";
const DURATION: &str = "assay_writer_write_duration_seconds";
const RETRIES: &str = "assay_writer_write_retries_total";
const BISECTIONS: &str = "assay_writer_bisections_total";
const DEAD_LETTERS: &str = "assay_writer_dead_letters_total";
const ANNOUNCEMENTS: &str = "assay_writer_announcements_total";
const OPEN: &str = "assay_writer_open_runs";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AnnouncementOutcome {
    Sent,
    /// There was no room.
    LeftOut,
    /// RabbitMQ did not confirm it.
    Refused,
}

impl AnnouncementOutcome {
    const ALL: [Self; 3] = [Self::Sent, Self::LeftOut, Self::Refused];

    fn label(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::LeftOut => "left_out",
            Self::Refused => "refused",
        }
    }
}

/// What an open run needs next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpenState {
    /// A loader reads its source, or its day is not over.
    Loading,
    /// Its source is not read to the end, and no loader holds its lease.
    Abandoned,
    /// Its chunks are in transit.
    Sealed,
    /// A dead letter keeps it from completing.
    Stalled,
}

impl OpenState {
    const ALL: [Self; 4] = [Self::Loading, Self::Abandoned, Self::Sealed, Self::Stalled];

    fn label(self) -> &'static str {
        match self {
            Self::Loading => "loading",
            Self::Abandoned => "abandoned",
            Self::Sealed => "sealed",
            Self::Stalled => "stalled",
        }
    }
}

/// Describes the metrics, and sets them to 0.
pub(crate) fn describe() {
    describe_counter!(CHUNKS, "Scored chunks and live messages, by outcome in the database.");
    describe_counter!(ROWS, "Rows of recorded chunks, by outcome.");
    describe_counter!(INVALID, "Invalid rows of recorded chunks, by reason.");
    describe_counter!(FAILED, "Failed rows of recorded chunks, by class.");
    describe_histogram!(DURATION, "Duration of a database transaction of many chunks, successful or not.");
    describe_counter!(RETRIES, "Retried database calls, by class of error.");
    describe_counter!(BISECTIONS, "Database transactions repeated to find rows that the database rejects.");
    describe_counter!(DEAD_LETTERS, "Recorded dead letters, by outcome of their rows.");
    describe_counter!(ANNOUNCEMENTS, "Announcements of predictions, by outcome.");
    describe_gauge!(OPEN, "Unfinished runs, by state.");
    for lane in Lane::ALL {
        for outcome in ["recorded", "known", "dropped", "refused"] {
            counter!(CHUNKS, "lane" => lane.as_str(), "outcome" => outcome).absolute(0);
        }
    }
    for outcome in ["predicted", "invalid", "failed", "duplicate"] {
        counter!(ROWS, "outcome" => outcome).absolute(0);
    }
    for reason in RejectReason::ALL {
        counter!(INVALID, "reason" => reason.label()).absolute(0);
    }
    for class in FailureClass::ALL {
        counter!(FAILED, "class" => class.label()).absolute(0);
    }
    for class in [ErrorClass::Transient, ErrorClass::Data, ErrorClass::Configuration] {
        counter!(RETRIES, "class" => class.label()).absolute(0);
    }
    for outcome in
        [DeadLetterOutcome::Booked, DeadLetterOutcome::Known, DeadLetterOutcome::Unreadable, DeadLetterOutcome::Refused]
    {
        counter!(DEAD_LETTERS, "outcome" => outcome.as_str()).absolute(0);
    }
    for outcome in AnnouncementOutcome::ALL {
        counter!(ANNOUNCEMENTS, "outcome" => outcome.label()).absolute(0);
    }
    counter!(BISECTIONS).absolute(0);
}

/// Records the duration of a write, successful or not.
pub(crate) fn write_took(took: Duration) {
    histogram!(DURATION).record(took);
}

pub(crate) fn wrote(chunks: &[ScoredChunk], written: &WriteReport) {
    for (chunk, outcome) in chunks.iter().zip(&written.outcomes) {
        counter!(CHUNKS, "lane" => chunk.lane.as_str(), "outcome" => chunk_outcome(outcome)).increment(1);
        if *outcome == ChunkOutcome::Recorded {
            for row in &chunk.rejected {
                counter!(INVALID, "reason" => row.reason.label()).increment(1);
            }
        }
    }
    let tally = written.tally;
    let outcomes = [
        ("predicted", tally.predicted),
        ("invalid", tally.invalid),
        ("failed", tally.failed),
        ("duplicate", tally.duplicate),
    ];
    for (outcome, rows) in outcomes {
        counter!(ROWS, "outcome" => outcome).increment(rows);
    }
    for (class, rows) in &written.failed {
        counter!(FAILED, "class" => FailureClass::from(class.as_str()).label()).increment(*rows);
    }
    if written.is_bisected {
        counter!(BISECTIONS).increment(1);
    }
}

fn chunk_outcome(outcome: &ChunkOutcome) -> &'static str {
    match outcome {
        ChunkOutcome::Recorded => "recorded",
        ChunkOutcome::AlreadyRecorded => "known",
        ChunkOutcome::Dropped => "dropped",
        ChunkOutcome::Refused { .. } => "refused",
    }
}

pub(crate) fn retried(class: ErrorClass) {
    counter!(RETRIES, "class" => class.label()).increment(1);
}

pub(crate) fn dead_letter(outcome: DeadLetterOutcome) {
    counter!(DEAD_LETTERS, "outcome" => outcome.as_str()).increment(1);
}

pub(crate) fn announcement(outcome: AnnouncementOutcome, count: u64) {
    counter!(ANNOUNCEMENTS, "outcome" => outcome.label()).increment(count);
}

/// The states of all open runs.
pub(crate) fn open(states: &[OpenState]) {
    for state in OpenState::ALL {
        let count = states.iter().filter(|found| **found == state).count();
        #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 runs")]
        gauge!(OPEN, "state" => state.label()).set(count as f64);
    }
}
