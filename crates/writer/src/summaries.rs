//! Has the database summarise written rows, so that `assay row` and a removal find them. No result depends on it.

use std::convert::Infallible;
use std::time::Duration;

use assay_store::Store;
use tracing::{debug, warn};

use crate::WriteProgress;

/// Interval between two calls: the rows written meanwhile are read by every lookup.
const INTERVAL: Duration = Duration::from_millis(500);
/// Longest wait for the last call, for which a shutdown waits.
const LAST_CALL: Duration = Duration::from_secs(2);

/// Calls at intervals while rows are written, until it is dropped.
pub(crate) async fn summarise(store: &dyn Store, progress: &WriteProgress) -> Infallible {
    let (mut summarised, mut is_warned) = (0, false);
    loop {
        tokio::time::sleep(INTERVAL).await;
        let written = progress.transactions();
        if written == summarised {
            continue;
        }
        match store.summarise_rows().await {
            Ok(()) => summarised = written,
            Err(error) if error.is_transient() => debug!("rows are summarised later: {error}"),
            Err(error) => {
                if !is_warned {
                    warn!("rows that were written lately take long to find: {error}");
                }
                is_warned = true;
                summarised = written;
            }
        }
    }
}

/// Summarises the last rows. What is left is done by the next writer.
pub(crate) async fn summarise_at_end(store: &dyn Store) {
    if let Ok(Err(error)) = tokio::time::timeout(LAST_CALL, store.summarise_rows()).await {
        debug!("the last rows are not summarised: {error}");
    }
}
