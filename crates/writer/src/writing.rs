//! One batch of scored chunks: written, however long the database is away, and its runs closed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use assay_queue::Outcome;
use assay_store::{ChunkOutcome, IdConflict, Store, StoreError, Written};
use assay_transaction::{Lane, ScoredChunk};
use backon::{BackoffBuilder as _, ExponentialBuilder};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::WriteProgress;
use crate::closing::close;

/// The longest pause between two attempts while the database is away or refuses.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// What it takes to write a batch.
#[derive(Clone)]
pub(crate) struct Writing {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) id_conflict: IdConflict,
    pub(crate) lane: Lane,
    pub(crate) progress: Arc<WriteProgress>,
    pub(crate) shutdown: CancellationToken,
}

impl Writing {
    /// Writes a batch in one database transaction and tells what is to become of each chunk's message.
    pub(crate) async fn write(&self, chunks: Vec<ScoredChunk>) -> Vec<Outcome> {
        let Some(written) = self.until_committed(&chunks).await else {
            return chunks.iter().map(|_| Outcome::Release).collect();
        };
        let recorded =
            chunks.iter().zip(&written.outcomes).filter(|(_, outcome)| matches!(outcome, ChunkOutcome::Recorded));
        self.progress.add(recorded.map(|(chunk, _)| chunk.range.rows).sum(), written.transactions);
        let runs: BTreeSet<_> = chunks.iter().map(|chunk| &chunk.id.run_id).collect();
        for run_id in runs {
            close(&*self.store, run_id, &self.progress).await;
        }
        written.outcomes.into_iter().zip(&chunks).map(|(outcome, chunk)| settle(outcome, chunk)).collect()
    }

    /// Tries until the transaction is committed; nothing where the shutdown comes first.
    async fn until_committed(&self, chunks: &[ScoredChunk]) -> Option<Written> {
        let mut pauses = ExponentialBuilder::new()
            .with_min_delay(Duration::from_millis(100))
            .with_max_delay(LONGEST_PAUSE)
            .without_max_times()
            .with_jitter()
            .build();
        let mut said = None;
        loop {
            match self.store.write(chunks, self.id_conflict).await {
                Ok(written) => {
                    if said.is_some() {
                        info!("the database takes rows again");
                    }
                    return Some(written);
                }
                Err(trouble) => {
                    // Once a kind of trouble, not once an attempt.
                    if said.replace(trouble.class()) != Some(trouble.class()) {
                        self.say(&trouble);
                    }
                }
            }
            let pause = pauses.next().unwrap_or(LONGEST_PAUSE);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.shutdown.cancelled() => return None,
            }
        }
    }

    fn say(&self, trouble: &StoreError) {
        let lane = self.lane.as_str();
        if trouble.is_transient() {
            warn!("the {lane} lane waits for the database: {trouble}");
        } else {
            error!("the {lane} lane has stopped until this is repaired; nothing is lost: {trouble}");
        }
    }
}

fn settle(outcome: ChunkOutcome, chunk: &ScoredChunk) -> Outcome {
    match outcome {
        ChunkOutcome::Recorded | ChunkOutcome::Known => Outcome::Done,
        ChunkOutcome::Refused { reason } => {
            error!("chunk {} is refused: {reason}", chunk.id);
            Outcome::Dead { reason }
        }
    }
}
