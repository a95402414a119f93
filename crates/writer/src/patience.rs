//! QueuedNotice for the database: the same call again and again, at a growing pace, until it succeeds or the writer is to stop.

use std::time::Duration;

use assay_store::{ErrorClass, StoreError};
use backon::{BackoffBuilder as _, ExponentialBuilder};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::metrics;

/// The longest pause between two attempts while the database is away or refuses.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// What a writer does with data that the database refuses, where a call is about nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnData {
    /// It waits: somebody has to repair the database.
    Wait,
    /// It gives the call up.
    GiveUp,
}

/// Why a call did not succeed.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The shutdown came first.
    Stopped,
    /// The database refuses the data.
    Refused(StoreError),
}

/// Calls until the call succeeds. Says what is in the way once a kind of trouble, not once an attempt; `who` waits.
pub(crate) async fn until_done<T, F: Future<Output = Result<T, StoreError>>>(
    who: &str,
    on_data: OnData,
    shutdown: &CancellationToken,
    call: impl Fn() -> F,
) -> Result<T, Ended> {
    let mut pauses = ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(LONGEST_PAUSE)
        .without_max_times()
        .with_jitter()
        .build();
    let mut said = None;
    loop {
        match call().await {
            Ok(done) => {
                if said.is_some() {
                    info!("the database takes rows again");
                }
                return Ok(done);
            }
            Err(trouble) if trouble.class() == ErrorClass::Data && on_data == OnData::GiveUp => {
                return Err(Ended::Refused(trouble));
            }
            Err(trouble) => {
                metrics::retried(trouble.class());
                if said.replace(trouble.class()) != Some(trouble.class()) {
                    say(who, &trouble);
                }
            }
        }
        let pause = pauses.next().unwrap_or(LONGEST_PAUSE);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.cancelled() => return Err(Ended::Stopped),
        }
    }
}

fn say(who: &str, trouble: &StoreError) {
    if trouble.is_transient() {
        warn!("{who} waits for the database: {trouble}");
    } else {
        error!("{who} has stopped until this is repaired; nothing is lost: {trouble}");
    }
}
