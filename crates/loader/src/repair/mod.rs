//! Repair: reads the source of a run again, and publishes only the chunks that the ledger lacks.
//!
//! For losses that a load cannot see: a purged queue, a broker without its disk, a restored database. Chunks always have the
//! same boundaries, and an id is stored once: a repair does no harm if nothing is missing, or if lost chunks arrive after all.

pub(crate) mod reread;

use std::num::NonZeroUsize;
use std::sync::Arc;

use assay_source::SourceUrl;
use assay_store::{Lease, LeaseAttempt};
use assay_transaction::{Checkpoint, Run, RunState, SealedTotals};
use clap::Args;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::load::begin::first_row;
use crate::load::lease_owner::evict_if_gone;
use crate::load::read::{ReadEnd, ReaderMessage};
use crate::load::stored::RecordedChunks;
use crate::load::{Load, PassScope};
use crate::repair::reread::same_source;
use crate::{Dependencies, LoadError, LoadProgress};

/// Options of a repair.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Repairing")]
pub struct RepairOptions {
    /// Rows read and validated together
    #[arg(long, env = "ROW_BATCH_SIZE", default_value = "5000", value_name = "ROWS")]
    pub row_batch_size: NonZeroUsize,
    /// Only count what is missing
    #[arg(long)]
    pub dry_run: bool,
}

/// Result of a repair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RepairCounts {
    /// Chunks that the ledger lacked.
    pub chunks_missing: u64,
    /// Their rows.
    pub rows_missing: u64,
    /// Whether they were published.
    pub is_published: bool,
    /// Contents of the source, up to the end of the run.
    pub sealed: SealedTotals,
}

/// Reads a run's source again with its frozen settings, and publishes what is missing. Seals the run if it is not sealed. Fails
/// if the source was replaced.
pub async fn repair(
    dependencies: &Dependencies,
    run: &Run,
    options: &RepairOptions,
    progress: &Arc<LoadProgress>,
    shutdown: &CancellationToken,
) -> Result<RepairCounts, LoadError> {
    let repairing = Box::pin(begin_repair(dependencies, run));
    let Some(begun) = shutdown.run_until_cancelled(repairing).await else { return Err(LoadError::StoppedBeforeStart) };
    let (url, from, size) = begun?;
    progress.set_source_bytes(size);
    info!("Reading {} again for run {}", run.source.location, run.run_id);
    let lease = if options.dry_run { None } else { take_lease(dependencies, run).await? };
    let load = Load::new(dependencies, &url, options.row_batch_size, lease, progress, shutdown);
    if options.dry_run {
        return count(&load, run, from).await;
    }
    // Batches are not reported.
    let (batches, _) = mpsc::unbounded_channel();
    let scope = PassScope { from, until: None, only_missing: true };
    let loaded = load.run(run, scope, batches).await.map_err(|unfinished| unfinished.error)?;
    Ok(RepairCounts {
        chunks_missing: loaded.chunks,
        rows_missing: loaded.rows,
        is_published: true,
        sealed: loaded.sealed,
    })
}

/// Takes the lease of a run that is not sealed. Fails if another loader holds it.
async fn take_lease(dependencies: &Dependencies, run: &Run) -> Result<Option<Lease>, LoadError> {
    let Dependencies { store, lease_owner, lease_timeout, .. } = dependencies;
    if run.state != RunState::Loading {
        return Ok(None);
    }
    evict_if_gone(&**store, &run.run_id).await?;
    match store.take_lease(&run.run_id, &lease_owner.to_string(), *lease_timeout).await? {
        LeaseAttempt::Granted(_, lease) => Ok(Some(lease)),
        LeaseAttempt::Held { run, by, .. } => Err(LoadError::Held { run_id: run.run_id, by }),
        LeaseAttempt::NotLoading(_) => Ok(None),
    }
}

/// The source of a run, if it is unchanged; with its first row and its size.
async fn begin_repair(dependencies: &Dependencies, run: &Run) -> Result<(SourceUrl, Checkpoint, u64), LoadError> {
    let Dependencies { sources, startup, .. } = dependencies;
    let (url, found) = same_source(sources, run, *startup).await?;
    let first = first_row(sources, &url, run).await?;
    Ok((url, first, found.size))
}

async fn count(load: &Load<'_>, run: &Run, from: Checkpoint) -> Result<RepairCounts, LoadError> {
    let scope = PassScope { from, until: run.sealed.map(|sealed| sealed.chunks_total), only_missing: true };
    let (reading, mut chunks) = load.start_reading(run, scope).await?;
    let mut recorded = RecordedChunks::of(&*load.dependencies.store, &run.run_id);
    let (mut chunks_missing, mut rows_missing) = (0, 0);
    while let Some(read) = load.shutdown.run_until_cancelled(chunks.recv()).await.flatten() {
        let ReaderMessage::Cut(cut) = read else { continue };
        let asking = recorded.has(cut.chunk.id.chunk);
        let Some(is_recorded) = load.shutdown.run_until_cancelled(asking).await else { break };
        if !is_recorded? {
            chunks_missing += 1;
            rows_missing += cut.chunk.range.rows;
        }
    }
    if load.shutdown.is_cancelled() {
        return Err(LoadError::StoppedBeforeStart);
    }
    let (end, _) = reading.await.map_err(|_| LoadError::Reader)??;
    match end {
        ReadEnd::Complete(at, _) => {
            Ok(RepairCounts { chunks_missing, rows_missing, is_published: false, sealed: SealedTotals::at(at) })
        }
        ReadEnd::Broken(error, _) => Err(error.into()),
        ReadEnd::Abandoned | ReadEnd::BudgetSpent(_) => Err(LoadError::StoppedBeforeStart),
    }
}
