//! Has the database summarise written rows, so that counts and removals find the rows of a run, and sum up by the minute what commits
//! noted. No result depends on it.

use std::convert::Infallible;
use std::time::Duration;

use assay_store::Store;
use tracing::{debug, warn};

use crate::WriteProgress;

/// Interval between two looks at what was written.
const INTERVAL: Duration = Duration::from_secs(5);
/// Transactions that may wait until nothing is written: reading them takes a quarter of a second.
const MOST_WAITING: u64 = 2_000_000;

/// Summarises when nothing was written for a while, or many rows wait, until it is dropped: a load has better things to do.
pub(crate) async fn summarise(store: &dyn Store, progress: &WriteProgress) -> Infallible {
    let (mut summarised, mut seen, mut is_warned) = (0, 0, false);
    loop {
        tokio::time::sleep(INTERVAL).await;
        sum_up(store).await;
        let written = progress.transactions();
        let is_idle = written == std::mem::replace(&mut seen, written);
        if written == summarised || !is_idle && written - summarised < MOST_WAITING {
            continue;
        }
        match store.summarise_rows().await {
            Ok(()) => summarised = written,
            Err(error) if error.is_transient() => debug!("rows are summarised later: {error}"),
            Err(error) => {
                if !is_warned {
                    warn!("the rows of new runs take long to count: {error}");
                }
                is_warned = true;
                summarised = written;
            }
        }
    }
}

/// Sums up all that is old. Another writer may do so too.
async fn sum_up(store: &dyn Store) {
    loop {
        match store.sum_up_statistics().await {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => return debug!("statistics are summed up later: {error}"),
        }
    }
}
