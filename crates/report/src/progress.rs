//! Progress, rate and time left of a run: exact once it is sealed, estimated from bytes while its source is read. No I/O.

use assay_store::{RecordedProgress, RunPace};
use assay_transaction::{Format, Run, Tally};
use serde::Serialize;

use crate::LiveCounts;

/// What is read of the source.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ReadProgress {
    /// Rows that are known to be published; all rows, once the run is sealed.
    pub rows: u64,
    /// Their share of the source, in per cent.
    pub percent: Option<u64>,
}

/// What is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct StoreProgress {
    /// Recorded rows.
    pub rows: u64,
    /// Recorded chunks.
    pub chunks: u64,
    /// Known once the run is sealed.
    pub chunks_total: Option<u64>,
}

/// The time left at the present rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TimeLeft {
    /// Seconds from now.
    pub seconds: u64,
    /// Whether the number of rows is estimated.
    pub is_estimated: bool,
}

/// What is read of the source.
pub fn read_progress(run: &Run, progress: RecordedProgress) -> ReadProgress {
    if let Some(sealed) = run.sealed {
        // A stopped run is sealed before the end of its source.
        return ReadProgress { rows: sealed.rows_read, percent: run.error.is_none().then_some(100) };
    }
    // With the in-process broker, the checkpoint follows the recorded rows.
    let rows = run.checkpoint.rows_before().max(progress.rows_recorded);
    // Less than 100 % until the end is known.
    let percent = estimated_rows(run).map(|all| share(rows, all).min(99));
    ReadProgress { rows, percent }
}

/// Rows that a list shows as read. An unfinished run has confirmed, recorded or arrived rows: the most of these.
pub fn rows_so_far(run: &Run, tally: Tally, live: Option<&LiveCounts>) -> u64 {
    let arrived = live.map_or(0, LiveCounts::rows_numbered);
    match run.sealed {
        Some(sealed) => sealed.rows_read,
        None => run.checkpoint.rows_before().max(tally.total()).max(arrived),
    }
}

/// What is recorded.
pub fn store_progress(run: &Run, progress: RecordedProgress) -> StoreProgress {
    StoreProgress {
        rows: progress.rows_recorded,
        chunks: progress.chunks_recorded,
        chunks_total: run.sealed.map(|sealed| sealed.chunks_total),
    }
}

/// Rows a second.
pub fn rate(pace: RunPace) -> u64 {
    // Over a second at least, as a first chunk would yield any rate.
    pace.rows * 1_000 / pace.millis.max(1_000)
}

/// The time left, if it can be estimated.
pub fn time_left(run: &Run, progress: RecordedProgress, pace: RunPace) -> Option<TimeLeft> {
    let rate = Some(rate(pace)).filter(|rate| *rate > 0)?;
    let (rows, is_estimated) = match run.sealed {
        Some(sealed) => (sealed.rows_read, false),
        // It ends early.
        None if run.stop.is_some() => return None,
        None => (estimated_rows(run)?, true),
    };
    Some(TimeLeft { seconds: rows.saturating_sub(progress.rows_recorded).div_ceil(rate), is_estimated })
}

/// The estimated rows of the whole source.
fn estimated_rows(run: &Run) -> Option<u64> {
    let (read, all) = bytes_read(run).filter(|(read, _)| *read > 0)?;
    let rows = u128::from(run.checkpoint.rows_before()) * u128::from(all) / u128::from(read);
    u64::try_from(rows).ok().filter(|rows| *rows > 0)
}

/// Bytes of the source before the checkpoint, and all of them. None if the source is compressed, as the checkpoint counts
/// decompressed bytes, or if its size is unknown.
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
    use crate::fixture::example;
    use assay_transaction::{Checkpoint, Compression, Position, RunState, StopKind, StopOrder};

    fn loading(row: u64, offset: u64) -> Run {
        let at = Position { row, line: row + 1, offset };
        let checkpoint = Checkpoint { chunk: row / 100, ..Checkpoint::first(at) };
        Run { state: RunState::Loading, sealed: None, finished_at: None, checkpoint, ..example() }
    }

    fn recorded(rows: u64) -> RecordedProgress {
        RecordedProgress { chunks_recorded: rows / 100, rows_recorded: rows }
    }

    #[test]
    fn a_compressed_source_has_no_share() {
        let mut run = loading(501, 5_000);
        assert!(read_progress(&run, recorded(500)).percent.is_some());
        run.settings.compression = Compression::Gzip;
        assert_eq!(read_progress(&run, recorded(500)).percent, None);
    }

    const PACE: RunPace = RunPace { rows: 600, millis: 60_000 };

    #[test]
    fn while_loading_the_time_left_is_estimated_from_bytes() {
        let run = loading(501, 50_000);
        assert_eq!(read_progress(&run, recorded(400)), ReadProgress { rows: 500, percent: Some(50) });
        assert_eq!(time_left(&run, recorded(400), PACE), Some(TimeLeft { seconds: 60, is_estimated: true }));
        let unknown = Run { source_bytes: None, ..run };
        assert_eq!(read_progress(&unknown, recorded(400)), ReadProgress { rows: 500, percent: None });
        assert_eq!(time_left(&unknown, recorded(400), PACE), None);
    }

    #[test]
    fn once_sealed_the_time_left_is_exact() {
        let run = Run { state: RunState::Sealed, finished_at: None, ..example() };
        assert_eq!(read_progress(&run, recorded(400)), ReadProgress { rows: 1_000, percent: Some(100) });
        assert_eq!(time_left(&run, recorded(400), PACE), Some(TimeLeft { seconds: 60, is_estimated: false }));
        assert_eq!(time_left(&run, recorded(400), RunPace::default()), None, "nothing moves");
        assert_eq!(store_progress(&run, recorded(400)), StoreProgress { rows: 400, chunks: 4, chunks_total: Some(10) });
    }

    #[test]
    fn without_a_checkpoint_the_stored_rows_count_as_read() {
        let run = loading(1, 0);
        assert_eq!(read_progress(&run, recorded(400)), ReadProgress { rows: 400, percent: None });
        assert_eq!(time_left(&run, recorded(400), PACE), None);
    }

    #[test]
    fn with_more_rows_recorded_than_checkpointed_the_share_is_that_of_the_rows() {
        let run = loading(501, 50_000);
        assert_eq!(read_progress(&run, recorded(700)), ReadProgress { rows: 700, percent: Some(70) });
        assert_eq!(read_progress(&run, recorded(1_000)).percent, Some(99), "the end is not known yet");
    }

    #[test]
    fn a_run_that_is_being_stopped_has_no_time_left() {
        let stop = StopOrder { kind: StopKind::Cancelled, reason: "mistake".into(), at: example().started_at };
        let run = Run { stop: Some(stop), ..loading(501, 50_000) };
        assert_eq!(time_left(&run, recorded(400), PACE), None);
    }

    #[test]
    fn a_rate_needs_a_second() {
        assert_eq!(rate(RunPace { rows: 100, millis: 2 }), 100);
        assert_eq!(rate(PACE), 10);
    }
}
