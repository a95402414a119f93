//! Orders to end a run early: a loader looks for one while it loads, and gives one where a budget is spent.

use std::convert::Infallible;
use std::sync::OnceLock;
use std::time::Duration;

use assay_store::{Act, Store, StoreError};
use assay_transaction::{Run, RunId, RunState, SourceIdentity, StopKind, StopOrder};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// Between two looks at the ledger.
const LOOK: Duration = Duration::from_secs(1);

/// Looks for an order to end the run. Once there is one, it is kept in `ordered` and the intake ends. Runs beside the load
/// and never returns.
pub(crate) async fn watch(
    store: &dyn Store,
    run_id: &RunId,
    ordered: &OnceLock<StopOrder>,
    intake: &CancellationToken,
) -> Infallible {
    loop {
        match store.stop_order(run_id).await {
            Ok(Some(order)) => {
                info!("run {run_id} is {}: {}; no more of its source is read", order.kind.as_str(), order.reason);
                // It is given once.
                let _ = ordered.set(order);
                intake.cancel();
                return std::future::pending().await;
            }
            Ok(None) => {}
            Err(error) => debug!("cannot look for an order to end run {run_id}: {error}"),
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Says that a source has changed since it was loaded, and aborts the runs that can never read the rest of what is gone.
pub(crate) async fn abort_replaced(
    store: &dyn Store,
    source: &SourceIdentity,
    known: &[Run],
    act: &Act,
) -> Result<(), StoreError> {
    let mut earlier = known.iter().filter(|run| run.source.version != source.version).peekable();
    if let Some(latest) = earlier.peek() {
        info!("{} has changed since run {}: this version is a new source", source.location, latest.run_id);
    }
    for run in earlier.filter(|run| run.state == RunState::Loading && run.stop.is_none()) {
        let reason = format!("its source was replaced: version {} is gone", run.source.version);
        warn!("run {} is aborted: {reason}", run.run_id);
        store.order_stop(&run.run_id, StopKind::Aborted, &reason, act).await?;
    }
    Ok(())
}
