//! Closing runs: after every commit, and by a sweep for the runs whose last chunk was recorded before they were sealed, or
//! by a writer that died right after its commit.

use std::time::Duration;

use assay_store::Store;
use assay_transaction::RunId;
use tracing::{info, warn};

use crate::WriteProgress;

/// Between two sweeps.
const SWEEP: Duration = Duration::from_secs(10);

/// Closes a run where it is sealed and whole. What fails here is left to the sweep.
pub(crate) async fn close(store: &dyn Store, run_id: &RunId, progress: &WriteProgress) {
    match store.close_run(run_id).await {
        Ok(state) if state.is_finished() => {
            progress.say();
            info!("run {run_id} is {state}");
        }
        Ok(_) => {}
        Err(error) => warn!("cannot tell whether run {run_id} is complete, and will look again: {error}"),
    }
}

/// Closes every run that can be, again and again, until it is dropped.
pub(crate) async fn sweep(store: &dyn Store, progress: &WriteProgress) -> std::convert::Infallible {
    loop {
        match store.open_runs().await {
            Ok(runs) => {
                for run_id in runs {
                    close(store, &run_id, progress).await;
                }
            }
            Err(error) => warn!("cannot look for runs to close: {error}"),
        }
        tokio::time::sleep(SWEEP).await;
    }
}
