//! What both ledgers share: the natural key of a run, what to make of a run that is there already, and where a sealed run
//! ends.

use assay_transaction::{
    AmountSum, Checkpoint, ChunkId, Counted, Position, Removal, RowRange, Run, RunId, RunState, Sealed, SourceIdentity,
    StopKind, StopOrder, Timestamp,
};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::write::transaction::unsigned;
use crate::{NewRun, RecordedChunk, Sealing, StoreError};

/// How often a run is looked for that was in the way a moment ago.
pub(crate) const BEGIN_ATTEMPTS: u32 = 3;

/// The natural key: location and version, of any length, in 16 bytes.
pub(crate) fn source_key(source: &SourceIdentity) -> Uuid {
    let SourceIdentity { location, version } = source;
    Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("{}:{location}{version}", location.len()).as_bytes())
}

/// What a run is that was there before.
pub(crate) enum Prior {
    /// Unfinished: whoever gets its lease goes on.
    Loading(Run),
    /// Read to its end.
    Loaded(Run),
}

/// What to make of the run that holds the natural key of a new one.
pub(crate) fn of_same_source(run: Run) -> Prior {
    if run.state == RunState::Loading { Prior::Loading(run) } else { Prior::Loaded(run) }
}

/// What to make of the run that has the id of a new one.
pub(crate) fn of_same_id(new: &NewRun, run: Run) -> Result<Prior, StoreError> {
    if !new.explicit_id {
        return Err(StoreError::transient(format!("the run id {} was taken just now", run.run_id)));
    }
    if run.source != new.source {
        return Err(StoreError::configuration(format!(
            "run {} is taken: it loads {}; choose another BATCH_RUN_ID",
            run.run_id, run.source
        )));
    }
    if run.removal.is_some() {
        return Err(StoreError::configuration(format!(
            "run {} was removed: choose another BATCH_RUN_ID to load its source again",
            run.run_id
        )));
    }
    match run.state {
        RunState::Loading => Ok(Prior::Loading(run)),
        RunState::Sealed | RunState::Complete if !new.force && run.error.is_none() => Ok(Prior::Loaded(run)),
        state => Err(StoreError::configuration(format!(
            "run {} is {state}: choose another BATCH_RUN_ID to load its source again",
            run.run_id
        ))),
    }
}

/// The stored kind of an order to end a run.
pub(crate) fn stop_kind(stored: &str) -> Result<StopKind, StoreError> {
    StopKind::from_stored(stored).ok_or_else(|| {
        StoreError::configuration(format!("a run has the stop order `{stored}`, which this version cannot read"))
    })
}

/// Where a run ends that is stopped and has no loader any more: at its checkpoint, or behind its last recorded chunk,
/// whichever is further. The loader may have come further than either, but of that nothing is known for certain.
pub(crate) fn stopped_at(checkpoint: Checkpoint, last: Option<RecordedChunk>) -> Sealed {
    let (rows, chunks) =
        last.map_or((0, 0), |last| ((last.range.first_row + last.range.rows).saturating_sub(1), last.chunk + 1));
    let amount = Some(checkpoint.counted.amount).filter(|_| checkpoint.rows_before() >= rows);
    Sealed { rows_read: checkpoint.rows_before().max(rows), chunks_total: checkpoint.chunk.max(chunks), amount }
}

/// Where a run ends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End {
    pub(crate) sealed: Sealed,
    /// Whether somebody ordered that.
    pub(crate) is_stopped: bool,
    /// Whether it was taken back since, or is about to be: nothing more of it is stored.
    pub(crate) is_removed: bool,
}

/// Where a run was sealed, where it was.
pub(crate) fn sealed(rows_read: Option<i64>, chunks_total: Option<i64>) -> Option<Sealed> {
    let (rows_read, chunks_total) = (unsigned(rows_read?), unsigned(chunks_total?));
    Some(Sealed { rows_read, chunks_total, amount: None })
}

/// Why a chunk cannot be one of a run that is sealed so; none where it can.
pub(crate) fn beyond_end(run_id: &RunId, chunk: u64, range: RowRange, end: Sealed) -> Option<String> {
    let Sealed { rows_read, chunks_total, .. } = end;
    // Rows count from 1.
    let reaches_beyond = range.first_row.saturating_add(range.rows) > rows_read.saturating_add(1);
    (chunk >= chunks_total || reaches_beyond).then(|| {
        let id = ChunkId { run_id: run_id.clone(), chunk };
        format!("chunk {id} lies beyond the end of its run: {rows_read} rows in {chunks_total} chunks")
    })
}

/// Whether a run is still to be sealed; else what came of that already, or is in the way. `last` is its last recorded chunk: as
/// chunks do not overlap, none reaches further.
pub(crate) fn to_seal(run: &Run, sealed: Sealed, last: Option<RecordedChunk>) -> Result<Option<Sealing>, StoreError> {
    let run_id = &run.run_id;
    if run.state == RunState::Loading {
        let beyond = last.and_then(|last| beyond_end(run_id, last.chunk, last.range, sealed));
        return Ok(beyond.map(|reason| {
            let reason = format!("run {run_id} cannot be sealed: {reason}");
            Sealing::RecordedBeyond { reason }
        }));
    }
    match run.sealed {
        Some(before) if before.ends_as(sealed) => Ok(Some(Sealing::Done)),
        Some(Sealed { rows_read, chunks_total, .. }) => {
            let reason =
                format!("run {run_id} was sealed at {rows_read} rows in {chunks_total} chunks by another loader");
            Ok(Some(Sealing::Elsewhere { reason }))
        }
        None => Err(StoreError::data(format!("run {run_id} is {} and cannot be sealed", run.state))),
    }
}

/// A row of `runs`, as both databases give it.
pub(crate) struct RunRow {
    pub(crate) run_id: String,
    pub(crate) source: SourceIdentity,
    pub(crate) state: String,
    pub(crate) settings: String,
    /// Chunk, row, line, offset.
    pub(crate) checkpoint: [i64; 4],
    pub(crate) checkpoint_invalid: i64,
    pub(crate) checkpoint_other: i64,
    pub(crate) checkpoint_amount: String,
    pub(crate) rows_read: Option<i64>,
    pub(crate) chunks_total: Option<i64>,
    pub(crate) amount_read: Option<String>,
    pub(crate) error: Option<String>,
    pub(crate) stop_kind: Option<String>,
    pub(crate) stop_reason: Option<String>,
    pub(crate) stop_at: Option<DateTime<Utc>>,
    pub(crate) source_bytes: Option<i64>,
    pub(crate) started_at: DateTime<Utc>,
    pub(crate) finished_at: Option<DateTime<Utc>>,
    pub(crate) removal_at: Option<DateTime<Utc>>,
    pub(crate) removal_by: Option<String>,
    pub(crate) removal_reason: Option<String>,
    pub(crate) removed_at: Option<DateTime<Utc>>,
}

impl RunRow {
    pub(crate) fn read(self) -> Result<Run, StoreError> {
        let unreadable = |what: &str| {
            StoreError::configuration(format!("run {} has {what} that this version cannot read", self.run_id))
        };
        let [chunk, row, line, offset] = self.checkpoint.map(unsigned);
        let amount = |text: &str| text.parse::<AmountSum>().map_err(|_| unreadable("a sum"));
        let counted = Counted {
            invalid: unsigned(self.checkpoint_invalid),
            amount: amount(&self.checkpoint_amount)?,
            other_reading: unsigned(self.checkpoint_other),
        };
        let sealed = sealed(self.rows_read, self.chunks_total);
        let amount = self.amount_read.as_deref().map(amount).transpose()?;
        let stop = match (&self.stop_kind, self.stop_at) {
            (Some(kind), Some(at)) => Some(StopOrder {
                kind: stop_kind(kind)?,
                reason: self.stop_reason.clone().unwrap_or_default(),
                at: at.into(),
            }),
            _ => None,
        };
        let removal = self.removal_at.map(|began_at| Removal {
            by: self.removal_by.clone().unwrap_or_default(),
            reason: self.removal_reason.clone().unwrap_or_default(),
            began_at: began_at.into(),
            ended_at: self.removed_at.map(Timestamp::from),
        });
        Ok(Run {
            removal,
            run_id: self.run_id.parse().map_err(|_| unreadable("a name"))?,
            state: self.state.parse().map_err(|_| unreadable("a state"))?,
            settings: serde_json::from_str(&self.settings).map_err(|_| unreadable("settings"))?,
            checkpoint: Checkpoint { chunk, at: Position { row, line, offset }, counted },
            sealed: sealed.map(|sealed| Sealed { amount, ..sealed }),
            source: self.source,
            error: self.error,
            stop,
            source_bytes: self.source_bytes.map(unsigned),
            started_at: Timestamp::from(self.started_at),
            finished_at: self.finished_at.map(Timestamp::from),
        })
    }
}

/// What a sealed run becomes when its chunks are all recorded.
pub(crate) fn end_state(error: Option<&str>, stop: Option<StopKind>) -> RunState {
    match (stop, error) {
        (Some(kind), _) => kind.end_state(),
        (None, Some(_)) => RunState::Failed,
        (None, None) => RunState::Complete,
    }
}
