//! Runs that have lost their loader: the ledger is asked for them now and again.
//!
//! Guarantee: such a run of the watched place is found within the shorter of `LEASE_TIMEOUT` and `WATCH_INTERVAL` after its lease has
//! run out, however many objects are listed and wait to be loaded: nothing of this is shared with the listing.

use std::sync::Arc;

use assay_store::StoreError;
use assay_transaction::{RunId, RunState};
use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use super::event_source::{Event, EventSource, NoReceipt, WorkItem};
use super::options::{WatchOptions, Watched};
use crate::Dependencies;

/// What the latest search has found.
pub(crate) struct Orphans {
    found: mpsc::Receiver<RunId>,
    _search_task: AbortOnDropHandle<()>,
}

impl Orphans {
    /// Searches at once, and then at intervals.
    pub(crate) fn start(dependencies: Arc<Dependencies>, watched: &Watched, options: &WatchOptions) -> Self {
        // One at a time: what waits here for long is old news.
        let (sender, found) = mpsc::channel(1);
        let (place, every) = (watched.to_string(), dependencies.lease.min(options.watch_interval));
        let searching = async move {
            loop {
                if let Err(error) = search(&dependencies, &place, &sender).await {
                    debug!("cannot look for runs without a loader: {error}");
                }
                tokio::time::sleep(every).await;
            }
        };
        Self { found, _search_task: AbortOnDropHandle::new(tokio::spawn(searching)) }
    }
}

#[async_trait]
impl EventSource for Orphans {
    async fn next(&mut self) -> Event {
        match self.found.recv().await {
            Some(run_id) => Event { items: vec![WorkItem::Orphan(run_id)], receipt: Box::new(NoReceipt) },
            None => std::future::pending().await,
        }
    }
}

/// Runs of the place that are loading, and that no loader holds any more.
async fn search(dependencies: &Dependencies, place: &str, sender: &mpsc::Sender<RunId>) -> Result<(), StoreError> {
    let Dependencies { store, holder, .. } = dependencies;
    for open in store.open_runs().await? {
        let is_held = open.held_by.as_deref().is_some_and(|by| !holder.outlives(by));
        let run = open.run;
        if run.state == RunState::Loading && !is_held && run.source.location.starts_with(place) {
            // Nobody listens any more: this ends as well.
            let _ = sender.send(run.run_id).await;
        }
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests;
