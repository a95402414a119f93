//! The notices of the writers and of other predictors, over the control exchange.

use assay_queue::BroadcastListener;

use crate::fleet::Fleet;
use crate::id_scheme::KnownIdScheme;
use crate::stopped_runs::StoppedRuns;

/// Receives notices until the broker is closed. Each takes those of its type, and other messages, perhaps of a newer version,
/// are ignored.
pub(crate) async fn follow(
    mut listener: Box<dyn BroadcastListener>,
    stopped: &StoppedRuns,
    ids: &KnownIdScheme,
    fleet: &Fleet,
) {
    while let Some(message) = listener.next().await {
        stopped.receive(&message);
        ids.receive(&message);
        fleet.receive(&message);
    }
}
