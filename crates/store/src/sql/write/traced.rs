//! The trace of a database transaction that writes, by the conventions of OpenTelemetry for databases.

use assay_trace::TARGET;
use tracing::{Instrument as _, trace_span};

use super::dialect;
use crate::StoreError;

/// Traces a database transaction that writes the rows of so many messages.
pub(super) async fn traced<T>(
    messages: usize,
    transaction: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let span = trace_span!(
        target: TARGET,
        "BATCH INSERT",
        otel.kind = "client",
        db.system.name = dialect::SYSTEM,
        db.operation.name = "BATCH INSERT",
        db.operation.batch.size = messages,
    );
    let watched = async {
        let ended = transaction.await;
        if let Err(error) = &ended {
            assay_trace::fail(error.class().label());
        }
        ended
    };
    watched.instrument(span).await
}
