//! A database that is away for a while must not end a load: what a load asks of it is asked again until it answers.

use std::time::Duration;

use assay_store::StoreError;
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Between two attempts.
const PAUSE: Duration = Duration::from_secs(1);
/// How long what a later loader can do without may still take when time is up.
const LAST_MOMENT: Duration = Duration::from_secs(1);

/// Does something that a later loader can do without, as far as it is done soon after time is up. Else a database that is
/// away would keep the process for as long as it takes to notice that.
pub(crate) async fn while_there_is_time<T>(work: impl Future<Output = T>, up: &CancellationToken) -> Option<T> {
    let late = async {
        up.cancelled().await;
        tokio::time::sleep(LAST_MOMENT).await;
    };
    tokio::select! {
        biased;
        done = work => Some(done),
        () = late => None,
    }
}

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
