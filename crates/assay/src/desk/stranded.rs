//! Whether chunks of a run that goes on are lost: after a database was restored to an earlier point, or a queue was purged, they
//! are neither recorded nor on their way, and nobody else would notice.

use std::time::Duration;

use assay_store::{Audit, Store};
use assay_transaction::Lane;
use tokio::time::sleep;

use super::queues::{Glimpse, Queues};
use crate::error::CommandError;

/// How often the queues and the ledger are looked at, and how long between two looks. What is moved from one stage to the
/// next, or written, is seen by one of them.
const LOOKS: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);

/// How many chunks are missing that nothing brings: none where that is not known. No loader holds the run, nothing waits in the
/// queues of its lane, though each has its consumers, and nothing is recorded meanwhile.
pub(super) async fn stranded(store: &dyn Store, glimpse: &Glimpse, audit: &Audit) -> Result<u64, CommandError> {
    let run = &audit.run;
    if run.state.is_finished() || run.source.is_live() || audit.chunks_missing == 0 {
        return Ok(0);
    }
    for look in 0..LOOKS {
        if look > 0 {
            sleep(PAUSE).await;
        }
        let Some(Queues::Known(queues)) = glimpse.look().await else { return Ok(0) };
        // Sources go by the batch lane.
        let mut queues = queues.iter().filter(|queue| queue.queue.ends_with(Lane::Batch.as_str()));
        if queues.any(|queue| queue.waiting > 0 || queue.consumers == 0) {
            return Ok(0);
        }
        let open = store.open_runs().await?.into_iter().find(|open| open.run.run_id == run.run_id);
        let is_held = open.is_none_or(|open| open.held_by.is_some());
        if is_held || store.progress(&run.run_id).await?.chunks_recorded != audit.chunks_recorded {
            return Ok(0);
        }
    }
    Ok(audit.chunks_missing)
}
