//! Whose a run is, and whether it is to end early: a loader keeps its lease and hears of such an order while it loads, and
//! gives one where a source was replaced.

use std::time::Duration;

use assay_store::{Act, Lease, Renewed, Store, StoreError};
use assay_transaction::{Run, RunState, SourceIdentity, StopKind, StopOrder};
use tracing::{debug, info, warn};

/// Between two renewals of a lease.
const RENEW: Duration = Duration::from_secs(1);

/// Keeps a lease, and passes on the order to end its run, where there is one, with each renewal. Runs beside the load, and
/// returns only if the lease is lost; then with who has it now.
pub(crate) async fn hold(
    store: &dyn Store,
    lease: &Lease,
    time: Duration,
    mut hear: impl FnMut(StopOrder),
) -> Option<String> {
    let run_id = &lease.run_id;
    loop {
        match store.renew_lease(lease, time).await {
            Ok(Renewed::Kept(order)) => {
                if let Some(order) = order {
                    hear(order);
                }
            }
            Ok(Renewed::Lost { by }) => return by,
            Err(error) => debug!("cannot renew the lease of run {run_id}: {error}"),
        }
        // Often, however long it lasts: a person who cancels the run waits.
        tokio::time::sleep(RENEW.min(time / 3)).await;
    }
}

/// Says that a source has changed since it was loaded, and aborts the runs that can never read the rest of what is gone.
pub(crate) async fn abort_runs_of_replaced_source(
    store: &dyn Store,
    source: &SourceIdentity,
    known: &[Run],
    act: &Act,
) -> Result<(), StoreError> {
    // What comes through a pipe takes the place of nothing.
    if source.piped_sha256().is_some() {
        return Ok(());
    }
    let earlier: Vec<&Run> = known.iter().filter(|run| run.source.version != source.version).collect();
    if let Some(latest) = earlier.first() {
        info!("{} has changed since run {}: this version is a new source", source.location, latest.run_id);
    }
    for run in earlier {
        if run.state != RunState::Loading || run.stop.is_some() {
            continue;
        }
        let reason = format!("its source was replaced: version {} is gone", run.source.version);
        warn!("run {} is aborted: {reason}", run.run_id);
        store.order_stop(&run.run_id, StopKind::Aborted, &reason, act).await?;
    }
    Ok(())
}
