//! Finds lost chunks of an unfinished run: after a restore of the database or a purge of a queue, they are neither recorded
//! nor in a queue, and no stage would notice.

use std::time::Duration;

use assay_store::{Audit, Store};
use assay_transaction::Lane;
use tokio::time::sleep;

use crate::error::CommandError;
use assay_report::{QueueProbe, QueueSnapshot};

/// Probes of queues and ledger, and the time between them. One of them sees a chunk that moves from stage to stage.
const PROBES: u32 = 5;
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// Where the missing chunks of a run are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum MissingChunks {
    /// None is missing, or the missing ones may be in a queue.
    #[default]
    OnTheirWay,
    /// Not known, for this reason.
    Unknown(String),
    /// This many are lost.
    Stranded(u64),
}

/// Looks for the missing chunks of an unfinished run. They are lost if no loader works on the run, the queues of its lane are
/// empty and have consumers, and nothing is recorded meanwhile.
pub(super) async fn find_missing_chunks(
    store: &dyn Store,
    probe: &QueueProbe,
    audit: &Audit,
) -> Result<MissingChunks, CommandError> {
    let run = &audit.run;
    if run.state.is_finished() || run.source.is_live() || audit.chunks_missing == 0 {
        return Ok(MissingChunks::OnTheirWay);
    }
    for look in 0..PROBES {
        if look > 0 {
            sleep(PROBE_INTERVAL).await;
        }
        let open = store.open_runs().await?.into_iter().find(|open| open.run.run_id == run.run_id);
        let is_held = open.is_none_or(|open| open.held_by.is_some());
        if is_held || store.progress(&run.run_id).await?.chunks_recorded != audit.chunks_recorded {
            return Ok(MissingChunks::OnTheirWay);
        }
        let queues = match probe.snapshot().await {
            Some(QueueSnapshot::Known(queues)) => queues,
            Some(QueueSnapshot::Unknown { error }) => return Ok(MissingChunks::Unknown(error)),
            None => return Ok(MissingChunks::Unknown("AMQP_URL is not set".to_owned())),
        };
        // Rows of sources use the batch lane.
        let queues = || queues.iter().filter(|queue| queue.queue.ends_with(Lane::Batch.as_str()));
        if queues().any(|queue| queue.waiting > 0) {
            return Ok(MissingChunks::OnTheirWay);
        }
        if let Some(idle) = queues().find(|queue| queue.consumers == 0) {
            return Ok(MissingChunks::Unknown(format!("queue {} has no consumer now", idle.queue)));
        }
    }
    Ok(MissingChunks::Stranded(audit.chunks_missing))
}
