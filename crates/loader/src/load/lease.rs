//! The lease of a run: renewed while the run is loaded, and released if another loader is to resume it. Each renewal also
//! brings an order to stop the run, if there is one.

use std::sync::OnceLock;
use std::time::Duration;

use assay_store::{Lease, LeaseRenewal, Store};
use assay_transaction::{Run, StopOrder};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::Dependencies;
use crate::load::Load;
use crate::retry::within_grace;

/// Longest time between two renewals: short, as a person who cancels the run waits for it.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(1);

impl Load<'_> {
    /// Renews the lease, if this load has one. Stops the publishing when the run is ordered to stop. Returns only if the lease
    /// is lost, with its new owner.
    pub(super) async fn keep_lease(
        &self,
        run: &Run,
        ordered: &OnceLock<StopOrder>,
        no_more: &CancellationToken,
    ) -> Option<String> {
        let Dependencies { store, lease_timeout, .. } = self.dependencies;
        let Some(lease) = &self.lease else { return std::future::pending().await };
        renew_lease(&**store, lease, *lease_timeout, |order| {
            // A load that began with an order carries it out already.
            if run.stop.is_none() && ordered.get().is_none() {
                let (run_id, kind, reason) = (&run.run_id, order.kind.as_str(), &order.reason);
                info!("run {run_id} is {kind}: {reason}; no more of its source is read");
                let _ = ordered.set(order);
                no_more.cancel();
            }
        })
        .await
    }

    /// Releases the lease, so that others can resume the run at once. If that fails, the lease expires.
    pub(super) async fn release_lease(&self) {
        let Some(lease) = &self.lease else { return };
        match within_grace(self.dependencies.store.release_lease(lease), self.shutdown).await {
            Some(Ok(())) => {}
            Some(Err(error)) => debug!("the lease of run {} is left to expire: {error}", lease.run_id),
            None => debug!("the lease of run {} is left to expire: the database does not answer", lease.run_id),
        }
    }
}

/// Renews a lease until it is lost; returns its new owner.
async fn renew_lease(
    store: &dyn Store,
    lease: &Lease,
    timeout: Duration,
    mut on_order: impl FnMut(StopOrder),
) -> Option<String> {
    let run_id = &lease.run_id;
    loop {
        match store.renew_lease(lease, timeout).await {
            Ok(LeaseRenewal::Kept(order)) => {
                if let Some(order) = order {
                    on_order(order);
                }
            }
            Ok(LeaseRenewal::Lost { by }) => return by,
            Err(error) => debug!("cannot renew the lease of run {run_id}: {error}"),
        }
        tokio::time::sleep(RENEWAL_INTERVAL.min(timeout / 3)).await;
    }
}
