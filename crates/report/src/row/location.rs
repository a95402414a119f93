//! Locates a row without an outcome by the checkpoint, the seal, the recorded chunks around it and the dead letters of its run.

use std::fmt;

use assay_store::{DeadLetterOutcome, RecordedChunk, Store, StoreError};
use assay_transaction::{Checkpoint, Run, RunId};
use serde::Serialize;

use crate::{grouped, one_line};

/// Dead letters of a run that are searched.
const MAX_LETTERS: u32 = 1_000;

/// Where a row is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RowLocation {
    OnItsWay(TransitStage),
    NeverRead { why: String },
    Lost,
}

/// The stage of a row on its way.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "stage", rename_all = "snake_case")]
pub enum TransitStage {
    /// Beyond the checkpoint: not read yet, or not confirmed by the broker.
    Unconfirmed { checkpoint_row: u64, is_stopping: bool },
    /// Its chunk was confirmed by the broker, but is not recorded.
    Published { chunks: ChunkRange },
    /// Its chunk may be a dead letter.
    Stalled { chunks: ChunkRange, letter: u64, message_id: Option<String>, reason: String },
}

/// The first and the last chunk that may hold the row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ChunkRange(u64, u64);

impl fmt::Display for ChunkRange {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(first, last) = self;
        if first == last { write!(out, "chunk {first}") } else { write!(out, "one of the chunks {first} to {last}") }
    }
}

impl fmt::Display for TransitStage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unconfirmed { is_stopping: true, .. } => {
                out.write_str("its run is being stopped, and it may not be published: perhaps it will never be read")
            }
            Self::Unconfirmed { checkpoint_row, .. } => write!(
                out,
                "the checkpoint is at row {}: it is not read yet, or not confirmed by the broker",
                grouped(*checkpoint_row)
            ),
            Self::Published { chunks } => write!(out, "published in {chunks}, waiting to be scored or stored"),
            Self::Stalled { chunks, letter, message_id, reason } => {
                write!(out, "stalled: it is in {chunks}, and dead letter {letter}")?;
                if let Some(message_id) = message_id {
                    write!(out, " ({})", one_line(message_id, 100))?;
                }
                write!(out, " keeps its run from being complete: {}", one_line(reason, 500))
            }
        }
    }
}

/// Locates a row.
pub(super) async fn locate(store: &dyn Store, run: &Run, row: u64) -> Result<RowLocation, StoreError> {
    if row == 0 {
        return Ok(RowLocation::NeverRead { why: "rows count from 1".to_owned() });
    }
    if run.sealed.is_none()
        && let Some(live) = store.live_run(&run.run_id).await?
    {
        if row > live.numbered {
            let why = format!("the run has {} rows so far: they are numbered as they arrive", grouped(live.numbered));
            return Ok(RowLocation::NeverRead { why });
        }
        return locate_published(store, run, row).await;
    }
    let Some(sealed) = run.sealed else {
        if run.checkpoint.at.row <= row {
            let stage =
                TransitStage::Unconfirmed { checkpoint_row: run.checkpoint.at.row, is_stopping: run.stop.is_some() };
            return Ok(RowLocation::OnItsWay(stage));
        }
        return locate_published(store, run, row).await;
    };
    if row > sealed.rows_read {
        let end = grouped(sealed.rows_read);
        let why = match &run.error {
            Some(error) => format!("reading ended after row {end}: {}", one_line(error, 500)),
            None => format!("the source has {end} rows"),
        };
        return Ok(RowLocation::NeverRead { why });
    }
    if run.state.is_finished() {
        return Ok(RowLocation::Lost);
    }
    locate_published(store, run, row).await
}

async fn locate_published(store: &dyn Store, run: &Run, row: u64) -> Result<RowLocation, StoreError> {
    let chunks = chunks_around(store, run, row).await?;
    if store.blocking_dead_letters(&run.run_id).await? > 0 {
        let letters = store.dead_letters(Some(&run.run_id), MAX_LETTERS).await?;
        let blocking = letters.into_iter().find(|letter| {
            let blocks = matches!(letter.letter.outcome, DeadLetterOutcome::Unreadable | DeadLetterOutcome::Refused);
            blocks
                && letter.resolved_at.is_none()
                && may_hold_row(letter.letter.message_id.as_deref(), &run.run_id, chunks)
        });
        if let Some(record) = blocking {
            let (message_id, reason) = (record.letter.message_id, record.letter.reason);
            return Ok(RowLocation::OnItsWay(TransitStage::Stalled { chunks, letter: record.id, message_id, reason }));
        }
    }
    Ok(RowLocation::OnItsWay(TransitStage::Published { chunks }))
}

/// Whether a dead letter may be one of these chunks, according to its id, if it has one.
fn may_hold_row(message_id: Option<&str>, run_id: &RunId, ChunkRange(first, last): ChunkRange) -> bool {
    let name = message_id.and_then(|id| id.strip_prefix(run_id.as_str())?.strip_prefix('/'));
    match name.map(str::parse::<u64>) {
        Some(Ok(chunk)) => (first..=last).contains(&chunk),
        // A part of a replay holds recorded rows.
        Some(Err(_)) => name.is_none_or(|name| !name.contains('/')),
        None => true,
    }
}

/// The chunks that may hold a row that no recorded chunk covers.
async fn chunks_around(store: &dyn Store, run: &Run, row: u64) -> Result<ChunkRange, StoreError> {
    let per_chunk = u64::from(run.settings.chunk_rows.get());
    // Rows of recorded chunks increase with their numbers: a binary search finds the first chunk above the row.
    let (mut low, mut high) = ((row - 1) / per_chunk, row);
    while low < high {
        let middle = low + (high - low) / 2;
        match next(store, run, middle).await? {
            Some(chunk) if chunk.range.first_row <= row => low = middle + 1,
            _ => high = middle,
        }
    }
    let above = next(store, run, low).await?.map(|chunk| chunk.chunk);
    let below = match low.checked_sub(1) {
        Some(before) => next(store, run, before).await?.filter(|chunk| chunk.chunk == before),
        None => None,
    };
    let known = ChunkBounds {
        below,
        above,
        confirmed: Some(run.checkpoint).filter(|checkpoint| checkpoint.at.row > row),
        total: run.sealed.map(|sealed| sealed.chunks_total),
    };
    Ok(known.narrow(row, low, per_chunk))
}

async fn next(store: &dyn Store, run: &Run, chunk: u64) -> Result<Option<RecordedChunk>, StoreError> {
    Ok(store.recorded_chunks(&run.run_id, chunk, 1).await?.pop())
}

/// Bounds for the chunk of a row.
struct ChunkBounds {
    /// The recorded chunk directly below.
    below: Option<RecordedChunk>,
    /// The next recorded chunk above.
    above: Option<u64>,
    /// The checkpoint, if it is behind the row.
    confirmed: Option<Checkpoint>,
    total: Option<u64>,
}

impl ChunkBounds {
    /// Narrows the range, as a chunk has 1 to `per_chunk` rows.
    fn narrow(&self, row: u64, low: u64, per_chunk: u64) -> ChunkRange {
        let start = self.below.map_or(1, |chunk| chunk.range.first_row + chunk.range.rows);
        let ahead = row.saturating_sub(start);
        let (base, first) = match self.below {
            Some(chunk) => (chunk.chunk + 1, chunk.chunk + 1 + ahead / per_chunk),
            None => (0, low),
        };
        let bounds = [self.above, self.total, self.confirmed.map(|at| at.chunk)];
        let last = bounds.into_iter().flatten().map(|bound| bound.saturating_sub(1)).fold(base + ahead, u64::min);
        ChunkRange(first.min(last), last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use assay_transaction::{Position, RowRange};

    fn recorded(chunk: u64, first_row: u64, rows: u64) -> RecordedChunk {
        RecordedChunk { chunk, range: RowRange { first_row, rows } }
    }

    #[test]
    fn the_range_of_chunks_is_as_narrow_as_the_bounds_allow() {
        let cases = [
            (
                "between two that are recorded",
                Some(recorded(3, 301, 100)),
                Some(5),
                None,
                Some(10),
                450,
                4,
                ChunkRange(4, 4),
            ),
            ("nothing is recorded", None, None, None, None, 450, 4, ChunkRange(4, 449)),
            ("nothing but the end", None, None, None, Some(10), 450, 4, ChunkRange(4, 9)),
            ("after a short one", Some(recorded(3, 301, 10)), Some(9), None, None, 450, 4, ChunkRange(5, 8)),
            ("the first row of all", None, Some(1), None, None, 1, 0, ChunkRange(0, 0)),
            ("up to the checkpoint", None, None, Some(6), None, 450, 4, ChunkRange(4, 5)),
        ];
        for (what, below, above, confirmed, total, row, low, expected) in cases {
            let confirmed = confirmed
                .map(|chunk| Checkpoint { chunk, ..Checkpoint::first(Position { row: 601, ..Position::START }) });
            let known = ChunkBounds { below, above, confirmed, total };
            assert_eq!(known.narrow(row, low, 100), expected, "{what}");
        }
    }

    #[test]
    fn a_dead_letter_may_hold_the_row_unless_its_id_says_otherwise() {
        let run_id: RunId = "run".parse().unwrap();
        let cases = [
            (Some("run/4"), true),
            (Some("run/6"), false),
            (Some("run/1/0"), false),
            (Some("running/6"), true),
            (None, true),
        ];
        for (message_id, expected) in cases {
            assert_eq!(may_hold_row(message_id, &run_id, ChunkRange(4, 5)), expected, "{message_id:?}");
        }
    }

    #[test]
    fn stages_are_shown_in_one_line() {
        let unconfirmed = |is_stopping| TransitStage::Unconfirmed { checkpoint_row: 4_001, is_stopping };
        let cases = [
            (unconfirmed(false), "the checkpoint is at row 4,001: it is not read yet, or not confirmed by the broker"),
            (unconfirmed(true), "its run is being stopped, and it may not be published: perhaps it will never be read"),
            (
                TransitStage::Published { chunks: ChunkRange(4, 4) },
                "published in chunk 4, waiting to be scored or stored",
            ),
            (
                TransitStage::Stalled {
                    chunks: ChunkRange(4, 5),
                    letter: 1,
                    message_id: Some("run/4".into()),
                    reason: "not a readable assay.chunk.v1".into(),
                },
                "stalled: it is in one of the chunks 4 to 5, and dead letter 1 (run/4) keeps its run from being \
                 complete: not a readable assay.chunk.v1",
            ),
        ];
        for (stage, expected) in cases {
            assert_eq!(stage.to_string(), expected);
        }
        let json = serde_json::to_value(TransitStage::Published { chunks: ChunkRange(4, 4) }).unwrap();
        assert_eq!(json, serde_json::json!({ "stage": "published", "chunks": [4, 4] }));
    }
}
