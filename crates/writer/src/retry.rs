//! Retrying calls of the database until they succeed or the writer shuts down.

use std::time::Duration;

use assay_connect::{RetryPolicy, retry};
use assay_store::{ErrorClass, StoreError};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::metrics;

const STORE: RetryPolicy = RetryPolicy::new(Duration::from_millis(100), Duration::from_secs(15));

/// What a writer does when the database refuses the data of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnRefusal {
    /// It retries until the database is repaired, as the call may be about other data as well.
    Retry,
    /// It gives the call up.
    GiveUp,
}

/// Why a call did not succeed.
#[derive(Debug)]
pub(crate) enum CallFailure {
    /// The writer shuts down.
    Stopped,
    /// The database refuses the data.
    Refused(StoreError),
}

/// Calls until the call succeeds. Logs each class of error once in a row, not once an attempt; `who` waits.
pub(crate) async fn retry_store<T, F: Future<Output = Result<T, StoreError>>>(
    who: &str,
    on_refusal: OnRefusal,
    shutdown: &CancellationToken,
    call: impl Fn() -> F,
) -> Result<T, CallFailure> {
    let mut logged = None;
    let is_retryable = |error: &StoreError| {
        let class = error.class();
        if class == ErrorClass::Data && on_refusal == OnRefusal::GiveUp {
            return false;
        }
        metrics::retried(class);
        if logged.replace(class) != Some(class) {
            log_error(who, error);
        }
        true
    };
    match retry::until_ok_or_stopped(STORE, shutdown, call, is_retryable).await {
        None => Err(CallFailure::Stopped),
        Some(Err(error)) => Err(CallFailure::Refused(error)),
        Some(Ok(done)) => {
            if logged.is_some() {
                info!("the database takes rows again");
            }
            Ok(done)
        }
    }
}

fn log_error(who: &str, error: &StoreError) {
    if error.is_transient() {
        warn!("{who} waits for the database: {error}");
    } else {
        error!("{who} has stopped until this is repaired; nothing is lost: {error}");
    }
}
