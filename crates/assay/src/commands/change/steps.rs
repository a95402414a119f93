//! Steps that change the database one transaction at a time: each is retried, as all of them may be repeated.

use assay_store::StoreError;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::error::CommandError;

/// Retries of a step after transient errors, which take long to be reported.
const ATTEMPTS: u32 = 5;

/// Takes a step, unless the command was stopped: then `stopped` is the error.
pub(super) async fn take<T>(
    shutdown: &CancellationToken,
    stopped: impl Fn() -> CommandError,
    step: impl AsyncFn() -> Result<T, StoreError>,
) -> Result<T, CommandError> {
    let mut failed = 0;
    loop {
        if shutdown.is_cancelled() {
            return Err(stopped());
        }
        match step().await {
            Err(error) if error.is_transient() && failed < ATTEMPTS => {
                info!("Retrying: {error}");
                failed += 1;
            }
            result => return Ok(result?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stopped_command_takes_no_further_step() {
        let shutdown = CancellationToken::new();
        let step = async || -> Result<u64, StoreError> {
            assert!(!shutdown.is_cancelled(), "it was stopped before");
            Ok(7)
        };
        assert_eq!(take(&shutdown, || CommandError::PurgeStopped, step).await.unwrap(), 7);
        shutdown.cancel();
        let stopped = take(&shutdown, || CommandError::PurgeStopped, step).await;
        assert!(matches!(stopped, Err(CommandError::PurgeStopped)));
    }
}
