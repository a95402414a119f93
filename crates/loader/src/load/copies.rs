//! Copies: a source with the same content as another run is not loaded again, whatever its name, time and settings, except with
//! `--force`. Values that the mapping takes from the path are content too: the same bytes in the folder of another day are the
//! rows of another day.
//!
//! Copies are found before the head of the source is inspected. The ledger checks again when the run begins, so that of two
//! simultaneous copies one is loaded.

use std::time::Duration;

use assay_source::{FoundSource, SourceError, SourceUrl, Sources};
use assay_store::{RunStart, Store, StoreError};
use assay_transaction::{Mapping, PathError, Run, RunId, SourceIdentity};
use tracing::info;

use crate::{Dependencies, LoadError};

/// The fingerprint of the source being begun: a large file is hashed only once.
#[derive(Debug, Default)]
pub(crate) struct FingerprintCache(Option<(SourceIdentity, Option<String>)>);

impl FingerprintCache {
    pub(crate) async fn of(
        &mut self,
        sources: &Sources,
        url: &SourceUrl,
        found: &FoundSource,
    ) -> Result<Option<String>, SourceError> {
        if let Some((identity, fingerprint)) = &self.0
            && *identity == found.identity
        {
            return Ok(fingerprint.clone());
        }
        let fingerprint = sources.fingerprint(url, found).await?;
        self.0 = Some((found.identity.clone(), fingerprint.clone()));
        Ok(fingerprint)
    }
}

/// The fingerprint of a content, with the values that the mapping takes from its location.
pub(crate) fn with_path_values(
    fingerprint: String,
    mapping: Option<&Mapping>,
    location: &str,
) -> Result<String, PathError> {
    let values = mapping.map(|mapping| mapping.path_values(location)).transpose()?.unwrap_or_default();
    let named = values.iter().fold(fingerprint, |named, (name, value)| format!("{named} {name:?}={value:?}"));
    Ok(named)
}

/// The run that has a content, or is loading it.
pub(crate) async fn copy_of(dependencies: &Dependencies, fingerprint: &str) -> Result<Option<RunStart>, StoreError> {
    let found = dependencies.store.copy_of(fingerprint).await?;
    match found {
        Some(begun) if evict_dead_owner(dependencies, &begun).await? => dependencies.store.copy_of(fingerprint).await,
        found => Ok(found),
    }
}

/// Evicts a dead lease owner of this machine. Returns whether there was one.
pub(crate) async fn evict_dead_owner(dependencies: &Dependencies, begun: &RunStart) -> Result<bool, StoreError> {
    let Dependencies { store, lease_owner, .. } = dependencies;
    match begun {
        RunStart::Held { run, by, .. } if lease_owner.outlives(by) => {
            store.evict(&run.run_id, by).await?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

pub(crate) fn log_copy(url: &SourceUrl, run: &Run) {
    let Run { source, run_id, state, .. } = run;
    if source.location == url.to_string() {
        info!(
            "{url} is already loaded by run {run_id} ({state}), with the same content: nothing to do; --force loads it again"
        );
    } else {
        let location = &source.location;
        info!(
            "{url} is already loaded by run {run_id} ({state}), as {location} (same content): nothing to do; --force loads it \
             again"
        );
    }
}

/// Returns once a sealed run has made no progress for `a_while`: the process that held its chunks is gone.
pub(crate) async fn until_stalled(store: &dyn Store, run_id: &RunId, a_while: Duration) -> LoadError {
    let mut before = None;
    loop {
        match store.progress(run_id).await {
            Ok(progress) if before == Some(progress) => break,
            Ok(progress) => before = Some(progress),
            Err(error) if error.is_transient() => {}
            Err(error) => return error.into(),
        }
        tokio::time::sleep(a_while).await;
    }
    match store.run(run_id).await {
        Ok(Some(run)) => LoadError::CopyUnfinished { run_id: run.run_id, location: run.source.location },
        Ok(None) => LoadError::StoppedBeforeStart,
        Err(error) => error.into(),
    }
}
