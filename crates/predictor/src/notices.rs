//! The notices of the writers to all predictors, over the control exchange.

use assay_queue::{BroadcastListener, Broker};

use crate::PredictError;
use crate::id_scheme::KnownIdScheme;
use crate::stopped_runs::StoppedRuns;

/// Receives notices until the broker is closed. Each takes those of its type, and other messages, perhaps of a newer version,
/// are ignored.
pub(crate) async fn listen(
    broker: &dyn Broker,
    stopped: &StoppedRuns,
    ids: &KnownIdScheme,
) -> Result<(), PredictError> {
    let mut listener: Box<dyn BroadcastListener> = broker.listen().await?;
    while let Some(message) = listener.next().await {
        stopped.receive(&message);
        ids.receive(&message);
    }
    Ok(())
}
