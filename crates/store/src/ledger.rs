//! What both ledgers share: the natural key of a run, and what to make of a run that is there already.

use assay_transaction::{Checkpoint, Run, RunState, Sealed, SourceIdentity, Timestamp};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::session::unsigned;
use crate::{Begun, NewRun, StoreError};

/// How often a run is looked for that was in the way a moment ago.
pub(crate) const BEGIN_ATTEMPTS: u32 = 3;

/// The natural key: location and version, of any length, in 16 bytes.
pub(crate) fn source_key(source: &SourceIdentity) -> Uuid {
    let SourceIdentity { location, version } = source;
    Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("{}:{location}{version}", location.len()).as_bytes())
}

/// What to make of the run that holds the natural key of a new one.
pub(crate) fn of_same_source(run: Run) -> Begun {
    if run.state == RunState::Loading { Begun::Resumed(run) } else { Begun::AlreadyLoaded(run) }
}

/// What to make of the run that has the id of a new one.
pub(crate) fn of_same_id(new: &NewRun, run: Run) -> Result<Begun, StoreError> {
    if !new.explicit_id {
        return Err(StoreError::transient(format!("the run id {} was taken just now", run.run_id)));
    }
    if run.source != new.source {
        return Err(StoreError::configuration(format!(
            "run {} is taken: it loads {}; choose another BATCH_RUN_ID",
            run.run_id, run.source
        )));
    }
    match run.state {
        RunState::Loading => Ok(Begun::Resumed(run)),
        RunState::Sealed | RunState::Complete if !new.force && run.error.is_none() => Ok(Begun::AlreadyLoaded(run)),
        state => Err(StoreError::configuration(format!(
            "run {} is {state}: choose another BATCH_RUN_ID to load its source again",
            run.run_id
        ))),
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
    pub(crate) rows_read: Option<i64>,
    pub(crate) chunks_total: Option<i64>,
    pub(crate) error: Option<String>,
    pub(crate) started_at: DateTime<Utc>,
    pub(crate) finished_at: Option<DateTime<Utc>>,
}

impl RunRow {
    pub(crate) fn read(self) -> Result<Run, StoreError> {
        let unreadable = |what: &str| {
            StoreError::configuration(format!("run {} has {what} that this version cannot read", self.run_id))
        };
        let [chunk, row, line, offset] = self.checkpoint.map(unsigned);
        let sealed = self.rows_read.zip(self.chunks_total);
        Ok(Run {
            run_id: self.run_id.parse().map_err(|_| unreadable("a name"))?,
            state: self.state.parse().map_err(|_| unreadable("a state"))?,
            settings: serde_json::from_str(&self.settings).map_err(|_| unreadable("settings"))?,
            checkpoint: Checkpoint { chunk, row, line, offset },
            sealed: sealed.map(|(rows_read, chunks_total)| Sealed {
                rows_read: unsigned(rows_read),
                chunks_total: unsigned(chunks_total),
            }),
            source: self.source,
            error: self.error,
            started_at: Timestamp::from(self.started_at),
            finished_at: self.finished_at.map(Timestamp::from),
        })
    }
}

/// What a sealed run becomes when its chunks are all recorded.
pub(crate) fn end_state(error: Option<&str>) -> RunState {
    if error.is_some() { RunState::Failed } else { RunState::Complete }
}
