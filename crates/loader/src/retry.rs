//! Retrying what a load needs of the database and of S3: an outage must not end a load.

use std::time::Duration;

use assay_connect::{RetryPolicy, retry};
use assay_source::SourceError;
use assay_store::StoreError;
use assay_transaction::Exit;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

const STORE: RetryPolicy = RetryPolicy::new(Duration::from_secs(1), Duration::from_secs(1));
const SOURCE: RetryPolicy = RetryPolicy::new(Duration::from_secs(1), Duration::from_secs(3));
/// How long optional work may continue after the shutdown.
const GRACE: Duration = Duration::from_secs(1);

/// Does work that a later loader can do without, and gives it up shortly after `shutdown`: an unreachable database would keep
/// the process until its time-out.
pub(crate) async fn within_grace<T>(work: impl Future<Output = T>, shutdown: &CancellationToken) -> Option<T> {
    let late = async {
        shutdown.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        biased;
        done = work => Some(done),
        () = late => None,
    }
}

/// Retries transient errors of the database without end: race it against whatever may end the wait.
pub(crate) async fn retry_store<T, F>(what: &str, call: impl FnMut() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let is_retryable = |error: &StoreError| {
        if error.is_transient() {
            warn!("{what} has to wait: {error}");
        }
        error.is_transient()
    };
    retry::until_ok(STORE, call, is_retryable).await
}

/// Waits for an S3 server that is unreachable or still starting, at most for `startup`.
pub(crate) async fn retry_source<T, F>(what: &str, startup: Duration, call: impl FnMut() -> F) -> Result<T, SourceError>
where
    F: Future<Output = Result<T, SourceError>>,
{
    let is_retryable = |error: &SourceError| {
        debug!("waiting for {what}: {error}");
        error.exit() == Exit::DependencyUnavailable
    };
    retry::until_ok(SOURCE.within(startup), call, is_retryable).await
}
