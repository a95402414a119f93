//! Whether chunks of a run that goes on are lost: after a database was restored to an earlier point, or a queue was purged, they
//! are neither recorded nor on their way, and nobody else would notice.

use std::time::Duration;

use assay_store::{Audit, Store};
use assay_transaction::Lane;
use tokio::time::sleep;

use crate::commands::ledger::queues::{QueueProbe, QueueSnapshot};
use crate::error::CommandError;

/// How often the queues and the ledger are looked at, and how long between two looks. What is moved from one stage to the
/// next, or written, is seen by one of them.
const PROBES: u32 = 5;
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// Where the chunks are that are missing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum MissingChunks {
    /// None is missing, or what is missing may be on its way.
    #[default]
    OnTheirWay,
    /// That is not known, and why.
    Unknown(String),
    /// So many are not on their way.
    Stranded(u64),
}

/// Looks for what is missing of a run that goes on. It is stranded where no loader holds the run, nothing waits in the queues of its
/// lane, though each has its consumers, and nothing is recorded meanwhile.
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
        // Sources go by the batch lane.
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
