//! One batch of what was scored: written, however long the database is away, and its runs closed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use assay_queue::Outcome;
use assay_store::{ChunkOutcome, IdConflict, LiveArrival, Numbering, Store};
use assay_transaction::{Lane, ScoredChunk, ScoredLive, ScoredReplay};
use chrono::Utc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info};

use crate::WriteProgress;
use crate::close::close_if_complete;
use crate::feed::Feed;
use crate::message::ScoredMessage;
use crate::metrics;
use crate::patience::{Ended, OnData, until_done};

/// What it takes to write a batch.
#[derive(Clone)]
pub(crate) struct BatchWriter {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) id_conflict: IdConflict,
    pub(crate) lane: Lane,
    pub(crate) progress: Arc<WriteProgress>,
    pub(crate) feed: Feed,
    pub(crate) shutdown: CancellationToken,
}

impl BatchWriter {
    /// Writes a batch, its chunks in one database transaction, and tells what is to become of each message.
    pub(crate) async fn write(&self, messages: Vec<ScoredMessage>) -> Vec<Outcome> {
        let mut outcomes: Vec<Outcome> = messages.iter().map(|_| Outcome::Release).collect();
        let (mut places, mut chunks, mut replays, mut live) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (place, scored) in messages.into_iter().enumerate() {
            match scored {
                ScoredMessage::Chunk(chunk) => {
                    places.push(place);
                    chunks.push(chunk);
                }
                ScoredMessage::Replay(part) => replays.push((place, part)),
                ScoredMessage::Live(message) => live.push((place, message)),
            }
        }
        for (place, numbered) in self.with_places(live).await {
            match numbered {
                Ok(chunk) => {
                    places.push(place);
                    chunks.push(chunk);
                }
                Err(outcome) => outcomes[place] = outcome,
            }
        }
        if !chunks.is_empty() {
            for (place, outcome) in places.into_iter().zip(self.chunks(&chunks).await) {
                outcomes[place] = outcome;
            }
        }
        for (place, part) in replays {
            outcomes[place] = self.replay(&part).await;
        }
        outcomes
    }

    /// Gives live messages their places, committed before anything is written: from there on they are chunks, and one that
    /// comes again has the same place.
    async fn with_places(&self, live: Vec<(usize, ScoredLive)>) -> Vec<(usize, Result<ScoredChunk, Outcome>)> {
        if live.is_empty() {
            return Vec::new();
        }
        let messages: Vec<_> =
            live.iter().map(|(_, message)| LiveArrival { id: &message.id, rows: message.rows() }).collect();
        let number = || self.store.number(&messages, Utc::now());
        let numbered = until_done(&self.name(), OnData::Wait, &self.shutdown, number).await;
        let Ok(numbered) = numbered else {
            return live.into_iter().map(|(place, _)| (place, Err(Outcome::Release))).collect();
        };
        let chunk = |((place, message), numbering): ((usize, ScoredLive), Numbering)| match numbering {
            Numbering::Place(numbered) => (place, Ok(message.numbered(numbered))),
            Numbering::Refused { reason } => {
                error!("{reason}");
                (place, Err(Outcome::Dead { reason }))
            }
        };
        live.into_iter().zip(numbered).map(chunk).collect()
    }

    async fn chunks(&self, chunks: &[ScoredChunk]) -> Vec<Outcome> {
        let write = || async {
            let began = Instant::now();
            let written = self.store.write(chunks, self.id_conflict).await;
            metrics::write_took(began.elapsed());
            written
        };
        let Ok(written) = until_done(&self.name(), OnData::Wait, &self.shutdown, write).await else {
            return chunks.iter().map(|_| Outcome::Release).collect();
        };
        let recorded =
            chunks.iter().zip(&written.outcomes).filter(|(_, outcome)| matches!(outcome, ChunkOutcome::Recorded));
        metrics::wrote(chunks, &written);
        self.feed.announce(chunks, &written);
        self.progress.add(recorded.map(|(chunk, _)| chunk.range.rows).sum(), written.transactions);
        let runs: BTreeSet<_> = chunks.iter().map(|chunk| &chunk.id.run_id).collect();
        for run_id in runs {
            close_if_complete(&*self.store, run_id, &self.progress).await;
        }
        written.outcomes.into_iter().zip(chunks).map(|(outcome, chunk)| settle(outcome, chunk)).collect()
    }

    async fn replay(&self, part: &ScoredReplay) -> Outcome {
        let replay = || self.store.exchange(part, self.id_conflict);
        match until_done(&self.name(), OnData::GiveUp, &self.shutdown, replay).await {
            Ok(done) if done.is_new => {
                let (stored, failed, gone) = (done.stored, done.failed, done.gone);
                info!("replay {}: {stored} rows stored, {failed} failed again, {gone} were done before", part.id);
                Outcome::Done
            }
            Ok(_) => Outcome::Done,
            Err(Ended::Stopped) => Outcome::Release,
            Err(Ended::Refused(error)) => {
                error!("replay {} is refused: {error}", part.id);
                Outcome::Dead { reason: error.to_string() }
            }
        }
    }

    fn name(&self) -> String {
        format!("the {} lane", self.lane.as_str())
    }
}

fn settle(outcome: ChunkOutcome, chunk: &ScoredChunk) -> Outcome {
    match outcome {
        ChunkOutcome::Recorded | ChunkOutcome::Known => Outcome::Done,
        ChunkOutcome::Dropped => {
            debug!("chunk {} is dropped: its run was stopped before it, or removed", chunk.id);
            Outcome::Done
        }
        ChunkOutcome::Refused { reason } => {
            error!("chunk {} is refused: {reason}", chunk.id);
            Outcome::Dead { reason }
        }
    }
}
