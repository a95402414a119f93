//! Where a run ends, and what lies beyond its end.

use assay_transaction::{Checkpoint, ChunkId, RowRange, Run, RunId, RunState, SealedTotals, StopKind};

use crate::values::unsigned;
use crate::{RecordedChunk, StoreError};

/// The result of sealing a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SealOutcome {
    /// It is sealed as asked, by this call or by the same one before.
    Done,
    /// Another loader that took the run over sealed it elsewhere; nothing changed.
    Elsewhere {
        /// For a person.
        reason: String,
    },
    /// A recorded chunk lies beyond, so the run cannot end there; nothing changed.
    RecordedBeyond {
        /// For a person.
        reason: String,
    },
}

/// The end of a stopped run without a loader: its checkpoint, or its last recorded chunk, whichever is further. The loader may
/// have got further than both, but nothing certain is known of that.
pub(crate) fn stopped_at(checkpoint: Checkpoint, last: Option<RecordedChunk>) -> SealedTotals {
    let (rows, chunks) =
        last.map_or((0, 0), |last| ((last.range.first_row + last.range.rows).saturating_sub(1), last.chunk + 1));
    let amount = Some(checkpoint.counted.amount).filter(|_| checkpoint.rows_before() >= rows);
    SealedTotals { rows_read: checkpoint.rows_before().max(rows), chunks_total: checkpoint.chunk.max(chunks), amount }
}

/// The end of a sealed run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunEnd {
    pub(crate) sealed: SealedTotals,
    /// Whether the run was ordered to stop.
    pub(crate) is_stopped: bool,
    /// Whether it was removed since, or is being removed: nothing more of it is stored.
    pub(crate) is_removed: bool,
}

/// Run, rows read, total of chunks, whether it is stopped, whether it is removed.
pub(crate) type RunEndRow = (String, Option<i64>, Option<i64>, bool, bool);

impl RunEnd {
    /// Reads the columns of `run_ends!`: the run, and its end if it is sealed.
    pub(crate) fn read((run_id, rows_read, chunks_total, is_stopped, is_removed): RunEndRow) -> (String, Option<Self>) {
        (run_id, sealed(rows_read, chunks_total).map(|sealed| Self { sealed, is_stopped, is_removed }))
    }
}

/// Where a run is sealed, if it is.
pub(crate) fn sealed(rows_read: Option<i64>, chunks_total: Option<i64>) -> Option<SealedTotals> {
    let (rows_read, chunks_total) = (unsigned(rows_read?), unsigned(chunks_total?));
    Some(SealedTotals { rows_read, chunks_total, amount: None })
}

/// Why a chunk cannot belong to a run with this end; none if it can.
pub(crate) fn beyond_end(run_id: &RunId, chunk: u64, range: RowRange, end: SealedTotals) -> Option<String> {
    let SealedTotals { rows_read, chunks_total, .. } = end;
    // Rows count from 1.
    let reaches_beyond = range.first_row.saturating_add(range.rows) > rows_read.saturating_add(1);
    (chunk >= chunks_total || reaches_beyond).then(|| {
        let id = ChunkId { run_id: run_id.clone(), chunk };
        format!("chunk {id} lies beyond the end of its run: {rows_read} rows in {chunks_total} chunks")
    })
}

/// The result of sealing a run if it cannot be sealed now; none if it can. `last` is its last recorded chunk: as chunks do not
/// overlap, none reaches further.
pub(crate) fn settled_seal(
    run: &Run,
    sealed: SealedTotals,
    last: Option<RecordedChunk>,
) -> Result<Option<SealOutcome>, StoreError> {
    let run_id = &run.run_id;
    if run.state == RunState::Loading {
        let beyond = last.and_then(|last| beyond_end(run_id, last.chunk, last.range, sealed));
        return Ok(beyond.map(|reason| {
            let reason = format!("run {run_id} cannot be sealed: {reason}");
            SealOutcome::RecordedBeyond { reason }
        }));
    }
    match run.sealed {
        Some(before) if before.ends_like(sealed) => Ok(Some(SealOutcome::Done)),
        Some(SealedTotals { rows_read, chunks_total, .. }) => {
            let reason =
                format!("run {run_id} was sealed at {rows_read} rows in {chunks_total} chunks by another loader");
            Ok(Some(SealOutcome::Elsewhere { reason }))
        }
        None => Err(StoreError::data(format!("run {run_id} is {} and cannot be sealed", run.state))),
    }
}

/// The final state of a sealed run, once its chunks are all recorded.
pub(crate) fn end_state(error: Option<&str>, stop: Option<StopKind>) -> RunState {
    match (stop, error) {
        (Some(kind), _) => kind.end_state(),
        (None, Some(_)) => RunState::Failed,
        (None, None) => RunState::Complete,
    }
}
