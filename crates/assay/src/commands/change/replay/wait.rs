//! Waits until each part of a replay is recorded or dead-lettered.

use std::time::Duration;

use assay_store::{Exchanged, Store, StoreError};
use assay_transaction::RunId;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::publish::SentParts;
use crate::error::CommandError;

/// Interval of queries.
const POLL_INTERVAL: Duration = Duration::from_millis(250);

/// The replay to wait for.
pub(super) struct ReplayWait<'a> {
    pub(super) store: &'a dyn Store,
    pub(super) run_id: &'a RunId,
    pub(super) replay: u64,
    pub(super) sent: SentParts,
    pub(super) timeout: Duration,
    pub(super) shutdown: &'a CancellationToken,
}

/// Returns the sum of the recorded parts, and how many were dead-lettered.
pub(super) async fn wait(waiting: &ReplayWait<'_>) -> Result<(Exchanged, u64), CommandError> {
    let ReplayWait { run_id, replay, sent, timeout, shutdown, .. } = *waiting;
    let deadline = Instant::now() + timeout.min(Duration::MAX / 4);
    loop {
        match poll(waiting).await {
            Ok((recorded, exchanged, given_up)) if recorded + given_up >= sent.parts => {
                return Ok((exchanged, given_up));
            }
            Ok((recorded, ..)) if Instant::now() >= deadline => {
                return Err(CommandError::ReplayTimeout {
                    run_id: run_id.clone(),
                    replay,
                    recorded,
                    parts: sent.parts,
                });
            }
            Ok(_) => {}
            Err(error) if error.is_transient() && Instant::now() < deadline => debug!("waiting: {error}"),
            Err(error) => return Err(error.into()),
        }
        tokio::select! {
            () = tokio::time::sleep(POLL_INTERVAL) => {}
            () = shutdown.cancelled() => {
                return Err(CommandError::ReplayStopped { run_id: run_id.clone(), rows: sent.rows });
            }
        }
    }
}

async fn poll(waiting: &ReplayWait<'_>) -> Result<(u64, Exchanged, u64), StoreError> {
    let ReplayWait { store, run_id, replay, .. } = *waiting;
    // Recorded parts first: a dead letter that is recorded between the queries then counts as neither, instead of as both.
    let (recorded, exchanged) = store.replayed(run_id, replay).await?;
    let given_up = store.parts_given_up(run_id, replay).await?;
    Ok((recorded, exchanged, given_up))
}
