//! Closing a run after a commit that may have brought its last chunk. What no commit does, the `sweep` does.

use assay_store::Store;
use assay_telemetry::about_run;
use assay_transaction::{RunId, RunState};
use tracing::{info, warn};

use crate::WriteProgress;

/// Closes a run where it is sealed and whole. What fails here is left to the sweep.
pub(crate) async fn close_if_complete(store: &dyn Store, run_id: &RunId, progress: &WriteProgress) {
    match store.close_run(run_id).await {
        Ok(state) => log_finished(run_id, state, progress),
        Err(error) => about_run(run_id, || {
            warn!("cannot tell whether run {run_id} is complete, and will look again: {error}");
        }),
    }
}

/// Says so, where a run is finished; once, however many commits and sweeps find it so.
pub(crate) fn log_finished(run_id: &RunId, state: RunState, progress: &WriteProgress) {
    if state.is_finished() && progress.is_newly_finished(run_id) {
        progress.log_written();
        about_run(run_id, || info!("run {run_id} {}", state.in_words()));
    }
}
