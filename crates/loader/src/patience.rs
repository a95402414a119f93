//! A database that is away for a while must not end a load: what a load asks of it is asked again until it answers.

use std::time::Duration;

use assay_store::StoreError;
use tracing::warn;

/// Between two attempts.
const PAUSE: Duration = Duration::from_secs(1);

/// Asks until there is an answer that trying again does not change. To be raced against whatever may end the wait.
pub(crate) async fn until_answered<T, F>(what: &str, mut ask: impl FnMut() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    loop {
        match ask().await {
            Err(error) if error.is_transient() => warn!("{what} has to wait: {error}"),
            answer => return answer,
        }
        tokio::time::sleep(PAUSE).await;
    }
}
