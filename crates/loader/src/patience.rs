//! What is away for a while must not end a load. What a load asks of the database is asked again until it answers; S3 may take a
//! while at the start.

use std::time::Duration;

use assay_source::SourceError;
use assay_store::StoreError;
use assay_transaction::Exit;
use backon::{BackoffBuilder as _, ExponentialBuilder};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// Between two attempts.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest between two attempts to reach S3.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
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

/// Asks until an S3 server answers that is away, or still starting; for so long at the most.
pub(crate) async fn until_reached<T, F>(
    what: &str,
    startup: Duration,
    mut ask: impl FnMut() -> F,
) -> Result<T, SourceError>
where
    F: Future<Output = Result<T, SourceError>>,
{
    let deadline = Instant::now() + startup;
    let mut pauses = ExponentialBuilder::new().with_jitter().without_max_times().with_max_delay(LONGEST_PAUSE).build();
    loop {
        let pause = pauses.next().unwrap_or(LONGEST_PAUSE);
        match ask().await {
            Err(error) if error.exit() == Exit::DependencyAway && Instant::now() + pause < deadline => {
                debug!("waiting for {what}: {error}");
                tokio::time::sleep(pause).await;
            }
            answer => return answer,
        }
    }
}
