//! How much of a run is done, how fast it goes, and how long it will take: exact once it is sealed, estimated from bytes
//! while its source is being read. No I/O.

use assay_store::{Pace, Progress};
use assay_transaction::{Format, Run};
use serde::Serialize;

/// How much of the source is read.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct ReadProgress {
    /// Rows that are known to be published, or all that were read once the run is sealed.
    pub(super) rows: u64,
    /// The share of the source's bytes that they are, in per cent.
    pub(super) percent: Option<u64>,
}

/// How much of it is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct StoreProgress {
    pub(super) rows: u64,
    pub(super) chunks: u64,
    /// Known once the run is sealed.
    pub(super) chunks_total: Option<u64>,
}

/// How long it will take at the present rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct TimeLeft {
    pub(super) seconds: u64,
    /// Whether the number of rows is estimated.
    pub(super) is_estimated: bool,
}

/// How much of the source is read.
pub(super) fn read_progress(run: &Run, progress: Progress) -> ReadProgress {
    if let Some(sealed) = run.sealed {
        // A run that was stopped is sealed where it was stopped, not at the end of its source.
        return ReadProgress { rows: sealed.rows_read, percent: run.error.is_none().then_some(100) };
    }
    // The checkpoint of a process that holds its broker itself follows what is recorded.
    let rows = run.checkpoint.rows_before().max(progress.rows_recorded);
    // Not all of it, as long as it is not known to be.
    let percent = estimated_rows(run).map(|all| share(rows, all).min(99));
    ReadProgress { rows, percent }
}

/// How much of it is recorded.
pub(super) fn store_progress(run: &Run, progress: Progress) -> StoreProgress {
    StoreProgress {
        rows: progress.rows_recorded,
        chunks: progress.chunks_recorded,
        chunks_total: run.sealed.map(|sealed| sealed.chunks_total),
    }
}

/// Rows a second.
pub(super) fn rate(pace: Pace) -> u64 {
    // Of a first chunk that was recorded this instant, a millisecond says nothing.
    pace.rows * 1_000 / pace.millis.max(1_000)
}

/// How long the rest takes; nothing where that cannot be told.
pub(super) fn time_left(run: &Run, progress: Progress, pace: Pace) -> Option<TimeLeft> {
    let rate = Some(rate(pace)).filter(|rate| *rate > 0)?;
    let (rows, is_estimated) = match run.sealed {
        Some(sealed) => (sealed.rows_read, false),
        // It ends where it is now.
        None if run.stop.is_some() => return None,
        None => (estimated_rows(run)?, true),
    };
    Some(TimeLeft { seconds: rows.saturating_sub(progress.rows_recorded).div_ceil(rate), is_estimated })
}

/// The rows of the whole source, if it goes on as it began.
fn estimated_rows(run: &Run) -> Option<u64> {
    let (read, all) = bytes_read(run).filter(|(read, _)| *read > 0)?;
    let rows = u128::from(run.checkpoint.rows_before()) * u128::from(all) / u128::from(read);
    u64::try_from(rows).ok().filter(|rows| *rows > 0)
}

/// How many bytes of its source lie before the checkpoint, and how many there are; none where the checkpoint's offset is not
/// one in the bytes of the source itself, as that is packed, or where the size is not known.
fn bytes_read(run: &Run) -> Option<(u64, u64)> {
    let is_plain = run.settings.compression.is_none() && run.settings.format != Format::Parquet;
    let all = run.source_bytes.filter(|bytes| *bytes > 0 && is_plain)?;
    Some((run.checkpoint.at.offset, all))
}

fn share(part: u64, all: u64) -> u64 {
    u64::try_from(u128::from(part) * 100 / u128::from(all)).unwrap_or(100).min(100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::ledger::state::tests::example;
    use assay_transaction::{Checkpoint, Compression, Position, RunState, StopKind, StopOrder};

    fn loading(row: u64, offset: u64) -> Run {
        let at = Position { row, line: row + 1, offset };
        let checkpoint = Checkpoint { chunk: row / 100, ..Checkpoint::first(at) };
        Run { state: RunState::Loading, sealed: None, finished_at: None, checkpoint, ..example() }
    }

    fn recorded(rows: u64) -> Progress {
        Progress { chunks_recorded: rows / 100, rows_recorded: rows }
    }

    #[test]
    fn of_a_packed_source_no_share_is_told() {
        let mut run = loading(501, 5_000);
        assert!(read_progress(&run, recorded(500)).percent.is_some());
        run.settings.compression = Compression::Gzip;
        assert_eq!(read_progress(&run, recorded(500)).percent, None);
    }

    const PACE: Pace = Pace { rows: 600, millis: 60_000 };

    #[test]
    fn while_loading_what_is_left_is_estimated_from_bytes() {
        let run = loading(501, 50_000);
        assert_eq!(read_progress(&run, recorded(400)), ReadProgress { rows: 500, percent: Some(50) });
        assert_eq!(time_left(&run, recorded(400), PACE), Some(TimeLeft { seconds: 60, is_estimated: true }));
        let unknown = Run { source_bytes: None, ..run };
        assert_eq!(read_progress(&unknown, recorded(400)), ReadProgress { rows: 500, percent: None });
        assert_eq!(time_left(&unknown, recorded(400), PACE), None);
    }

    #[test]
    fn once_sealed_it_is_exact() {
        let run = Run { state: RunState::Sealed, finished_at: None, ..example() };
        assert_eq!(read_progress(&run, recorded(400)), ReadProgress { rows: 1_000, percent: Some(100) });
        assert_eq!(time_left(&run, recorded(400), PACE), Some(TimeLeft { seconds: 60, is_estimated: false }));
        assert_eq!(time_left(&run, recorded(400), Pace::default()), None, "nothing moves");
        assert_eq!(store_progress(&run, recorded(400)), StoreProgress { rows: 400, chunks: 4, chunks_total: Some(10) });
    }

    #[test]
    fn without_a_checkpoint_what_is_stored_was_read() {
        let run = loading(1, 0);
        assert_eq!(read_progress(&run, recorded(400)), ReadProgress { rows: 400, percent: None });
        assert_eq!(time_left(&run, recorded(400), PACE), None);
    }

    #[test]
    fn where_more_is_recorded_than_the_checkpoint_has_passed_the_share_is_that_of_the_rows() {
        let run = loading(501, 50_000);
        assert_eq!(read_progress(&run, recorded(700)), ReadProgress { rows: 700, percent: Some(70) });
        assert_eq!(read_progress(&run, recorded(1_000)).percent, Some(99), "its end is not known yet");
    }

    #[test]
    fn a_run_that_is_being_stopped_has_no_time_left() {
        let stop = StopOrder { kind: StopKind::Cancelled, reason: "mistake".into(), at: example().started_at };
        let run = Run { stop: Some(stop), ..loading(501, 50_000) };
        assert_eq!(time_left(&run, recorded(400), PACE), None);
    }

    #[test]
    fn a_rate_needs_a_second() {
        assert_eq!(rate(Pace { rows: 100, millis: 2 }), 100);
        assert_eq!(rate(PACE), 10);
    }
}
