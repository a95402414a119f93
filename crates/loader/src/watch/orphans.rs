//! Orphans: runs that have lost their loader, searched for in the ledger at intervals.
//!
//! Guarantee: an orphan is found within the shorter of `LEASE_TIMEOUT` and `WATCH_INTERVAL` after its lease has expired, however
//! many objects wait to be loaded: the search shares nothing with the listing.

use std::sync::Arc;

use assay_store::StoreError;
use assay_transaction::{RunId, RunState};
use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use super::event_source::{Event, EventSource, NoReceipt, WorkItem};
use super::options::{WatchOptions, WatchTarget};
use crate::Dependencies;

pub(crate) struct Orphans {
    found: mpsc::Receiver<RunId>,
    _search_task: AbortOnDropHandle<()>,
}

impl Orphans {
    pub(crate) fn start(dependencies: Arc<Dependencies>, watched: &WatchTarget, options: &WatchOptions) -> Self {
        // One at a time, as waiting ones become outdated.
        let (sender, found) = mpsc::channel(1);
        let (place, every) = (watched.to_string(), dependencies.lease_timeout.min(options.watch_interval));
        let searching = async move {
            loop {
                if let Err(error) = search(&dependencies, &place, &sender).await {
                    debug!("cannot search for runs without a loader: {error}");
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

/// Sends the runs of the target that are loading and have no living loader.
async fn search(dependencies: &Dependencies, place: &str, sender: &mpsc::Sender<RunId>) -> Result<(), StoreError> {
    let Dependencies { store, lease_owner, .. } = dependencies;
    for open in store.open_runs().await? {
        let is_held = open.held_by.as_deref().is_some_and(|by| !lease_owner.outlives(by));
        let run = open.run;
        if run.state == RunState::Loading && !is_held && run.source.location.starts_with(place) {
            // Fails only if the watch has ended.
            let _ = sender.send(run.run_id).await;
        }
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests;
