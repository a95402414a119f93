//! How a run begins: the natural key of its source, and what a run that exists already means for a new one.

use std::time::Duration;

use assay_transaction::{Run, RunId, RunSettings, RunState, SourceIdentity};
use uuid::Uuid;

use crate::{Lease, StoreError};

/// What a loader asks for at the start of a run.
#[derive(Debug, Clone)]
pub struct NewRun {
    /// The run's name, if it is new.
    pub run_id: RunId,
    /// Whether a person chose that name (`BATCH_RUN_ID`).
    pub explicit_id: bool,
    /// What it reads: its natural key.
    pub source: SourceIdentity,
    /// Its frozen settings, if it is new; the scheme of ids is that of the database in any case.
    pub settings: RunSettings,
    /// Whether a new run begins although this source was loaded before.
    pub force: bool,
    /// The size of the source, if known.
    pub source_bytes: Option<u64>,
    /// The digest of its content, if known: unless forced, no second run of the same content begins.
    pub fingerprint: Option<String>,
    /// The loader that asks, by a name that no other loader has.
    pub owner: String,
    /// How long the lease lasts unless it is renewed.
    pub lease: Duration,
}

/// Which run a loader got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunStart {
    /// A new one.
    Started(Run, Lease),
    /// An unfinished one of this source; its settings hold.
    Resumed(Run, Lease),
    /// Another live loader works on this source, or on another with the same content.
    Held {
        /// The run.
        run: Run,
        /// The owner of its lease.
        by: String,
        /// How long the lease lasts unless it is renewed.
        remaining: Duration,
    },
    /// A run read this source to its end without an error; its chunks may still be on their way. A run that ended with an
    /// error does not count: it frees its source when it is sealed.
    AlreadyLoaded(Run),
    /// A run read another source, or another version, with the same content to its end without an error; its chunks may
    /// still be on their way.
    Copied(Run),
}

/// How far runs have come with a version of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceState {
    /// No run has begun to read it.
    Not,
    /// Its only runs are loading, or were abandoned while loading.
    Loading,
    /// A run has read it, or failed to.
    Read,
}

/// Which ids other runs may have stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EarlierIds {
    /// None: there is no other run.
    Nothing,
    /// Ids that are UUIDs in their source, and so the same in every namespace.
    Uuids,
    /// Any: another run has the same namespace.
    Any,
}

/// How often a run that was in the way a moment ago is looked for again.
pub(crate) const BEGIN_ATTEMPTS: u32 = 3;

/// The natural key: location and version, of any length, in 16 bytes.
pub(crate) fn source_key(source: &SourceIdentity) -> Uuid {
    let SourceIdentity { location, version } = source;
    Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("{}:{location}{version}", location.len()).as_bytes())
}

/// A run that existed before.
pub(crate) enum PriorRun {
    /// Unfinished: the owner of its lease resumes it.
    Loading(Run),
    /// Read to its end.
    Loaded(Run),
}

/// What a run with the natural key of a new one means for it.
pub(crate) fn of_same_source(run: Run) -> PriorRun {
    if run.state == RunState::Loading { PriorRun::Loading(run) } else { PriorRun::Loaded(run) }
}

/// What a run with the id of a new one means for it.
pub(crate) fn of_same_id(new: &NewRun, run: Run) -> Result<PriorRun, StoreError> {
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
        RunState::Loading => Ok(PriorRun::Loading(run)),
        RunState::Sealed | RunState::Complete if !new.force && run.error.is_none() => Ok(PriorRun::Loaded(run)),
        state => Err(StoreError::configuration(format!(
            "run {} is {state}: choose another BATCH_RUN_ID to load its source again",
            run.run_id
        ))),
    }
}
