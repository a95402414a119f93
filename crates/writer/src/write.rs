//! Writes one batch of scored messages, however long the database is unreachable, and closes finished runs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use assay_queue::DeliveryOutcome;
use assay_store::{ChunkOutcome, IdConflict, Numbering, Store, UnnumberedMessage, WriteReport};
use assay_transaction::{ChunkId, Lane, ScoredChunk, ScoredLive, ScoredReplay};
use chrono::Utc;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, error_span, info};

use crate::WriteProgress;
use crate::feed::Feed;
use crate::message::ScoredMessage;
use crate::metrics;
use crate::retry::{CallFailure, OnRefusal, retry_store};
use crate::sweep::close_if_complete;

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
    /// Writes a batch, its chunks in one database transaction. Returns how to settle each message.
    pub(crate) async fn write(&self, messages: Vec<ScoredMessage>) -> Vec<DeliveryOutcome> {
        let mut outcomes: Vec<DeliveryOutcome> = messages.iter().map(|_| DeliveryOutcome::Release).collect();
        let (mut positions, mut chunks, mut replays) = (Vec::new(), Vec::new(), Vec::new());
        let (mut live_positions, mut live) = (Vec::new(), Vec::new());
        for (position, scored) in messages.into_iter().enumerate() {
            match scored {
                ScoredMessage::Chunk(chunk) => {
                    positions.push(position);
                    chunks.push(chunk);
                }
                ScoredMessage::Replay(part) => replays.push((position, part)),
                ScoredMessage::Live(message) => {
                    live_positions.push(position);
                    live.push(message);
                }
            }
        }
        if let Some(written) = self.write_live(&live).await {
            for (position, outcome) in live_positions.into_iter().zip(written) {
                outcomes[position] = outcome;
            }
        } else {
            for (position, numbered) in live_positions.into_iter().zip(self.number_live(live).await) {
                match numbered {
                    Ok(chunk) => {
                        positions.push(position);
                        chunks.push(chunk);
                    }
                    Err(outcome) => outcomes[position] = outcome,
                }
            }
        }
        if !chunks.is_empty() {
            for (position, outcome) in positions.into_iter().zip(self.write_chunks(&chunks).await) {
                outcomes[position] = outcome;
            }
        }
        for (position, part) in replays {
            outcomes[position] = self.write_replay(&part).await;
        }
        outcomes
    }

    /// Numbers live messages and writes them in one database transaction, which nearly always can be; `None` if it cannot.
    async fn write_live(&self, live: &[ScoredLive]) -> Option<Vec<DeliveryOutcome>> {
        if live.is_empty() {
            return None;
        }
        let write = || timed(self.store.write_live(live, self.id_conflict));
        match retry_store(&self.name(), OnRefusal::Retry, &self.shutdown, write).await {
            Ok(written) => written.map(|(chunks, written)| self.wrote(&chunks, written)),
            Err(_) => Some(live.iter().map(|_| DeliveryOutcome::Release).collect()),
        }
    }

    /// Assigns row numbers to live messages, and commits them first: a redelivered message keeps its numbers.
    async fn number_live(&self, live: Vec<ScoredLive>) -> Vec<Result<ScoredChunk, DeliveryOutcome>> {
        if live.is_empty() {
            return Vec::new();
        }
        let messages: Vec<_> =
            live.iter().map(|message| UnnumberedMessage { id: &message.id, rows: message.rows() }).collect();
        let number = || self.store.number(&messages, Utc::now());
        let numbered = retry_store(&self.name(), OnRefusal::Retry, &self.shutdown, number).await;
        let Ok(numbered) = numbered else {
            return live.iter().map(|_| Err(DeliveryOutcome::Release)).collect();
        };
        let chunk = |(message, numbering): (ScoredLive, Numbering)| match numbering {
            Numbering::Place(numbered) => Ok(message.into_chunk(numbered)),
            Numbering::Refused { reason } => {
                error!("{reason}");
                Err(DeliveryOutcome::DeadLetter { reason })
            }
        };
        live.into_iter().zip(numbered).map(chunk).collect()
    }

    async fn write_chunks(&self, chunks: &[ScoredChunk]) -> Vec<DeliveryOutcome> {
        let write = || timed(self.store.write(chunks, self.id_conflict));
        let Ok(written) = retry_store(&self.name(), OnRefusal::Retry, &self.shutdown, write).await else {
            return chunks.iter().map(|_| DeliveryOutcome::Release).collect();
        };
        let outcomes = self.wrote(chunks, written);
        // A live run is sealed an hour after its day: the sweep closes it.
        let runs: BTreeSet<_> =
            chunks.iter().filter(|chunk| chunk.lane == Lane::Batch).map(|chunk| &chunk.id.run_id).collect();
        for run_id in runs {
            close_if_complete(&*self.store, run_id, &self.progress).await;
        }
        outcomes
    }

    /// Counts and announces what was written.
    fn wrote(&self, chunks: &[ScoredChunk], written: WriteReport) -> Vec<DeliveryOutcome> {
        let recorded =
            chunks.iter().zip(&written.outcomes).filter(|(_, outcome)| matches!(outcome, ChunkOutcome::Recorded));
        metrics::wrote(chunks, &written);
        self.feed.announce(chunks, &written);
        self.progress.add(recorded.map(|(chunk, _)| chunk.range.rows).sum(), written.transactions);
        written.outcomes.into_iter().zip(chunks).map(|(outcome, chunk)| delivery_outcome(outcome, chunk)).collect()
    }

    async fn write_replay(&self, part: &ScoredReplay) -> DeliveryOutcome {
        let replay = || self.store.write_replay(part, self.id_conflict);
        match retry_store(&self.name(), OnRefusal::GiveUp, &self.shutdown, replay).await {
            Ok(done) if done.is_new => {
                let (stored, failed, gone) = (done.stored, done.failed, done.gone);
                info!("replay {}: {stored} rows stored, {failed} failed again, {gone} were done before", part.id);
                DeliveryOutcome::Done
            }
            Ok(_) => DeliveryOutcome::Done,
            Err(CallFailure::Stopped) => DeliveryOutcome::Release,
            Err(CallFailure::Refused(error)) => {
                error!("replay {} is refused: {error}", part.id);
                DeliveryOutcome::DeadLetter { reason: error.to_string() }
            }
        }
    }

    fn name(&self) -> String {
        format!("the {} lane", self.lane.as_str())
    }
}

/// Measures a write, successful or not.
async fn timed<T>(write: impl Future<Output = T>) -> T {
    let began = Instant::now();
    let written = write.await;
    metrics::write_took(began.elapsed());
    written
}

fn delivery_outcome(outcome: ChunkOutcome, chunk: &ScoredChunk) -> DeliveryOutcome {
    let ChunkId { run_id, chunk: number } = &chunk.id;
    let _span = error_span!("chunk", %run_id, chunk = number, lane = chunk.lane.as_str()).entered();
    match outcome {
        ChunkOutcome::Recorded | ChunkOutcome::AlreadyRecorded => {
            debug!("chunk {} is stored", chunk.id);
            DeliveryOutcome::Done
        }
        ChunkOutcome::Dropped => {
            debug!("chunk {} is dropped: its run was stopped before it, or removed", chunk.id);
            DeliveryOutcome::Done
        }
        ChunkOutcome::Refused { reason } => {
            error!("chunk {} is refused: {reason}", chunk.id);
            DeliveryOutcome::DeadLetter { reason }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::Duration;

    use assay_queue::InProcess;
    use assay_store::DatabaseOptions;
    use assay_telemetry::{LogFormat, LogOptions, init_logs_to};
    use assay_transaction::{IdScheme, RejectReason, RejectedRow, RowRange, Timestamp};
    use tracing::level_filters::LevelFilter;

    use super::*;
    use crate::PredictionFeed;

    #[tokio::test]
    async fn json_log_lines_of_a_chunk_have_its_run_chunk_and_lane() {
        let folder = tempfile::tempdir().unwrap();
        let (log, options) =
            (folder.path().join("log"), LogOptions { log_format: LogFormat::Json, ..LogOptions::default() });
        let file = File::create(&log).unwrap();
        init_logs_to(&options, LevelFilter::TRACE, move || file.try_clone().unwrap()).unwrap();
        let url = format!("sqlite://{}", folder.path().join("assay.db").display());
        let (database, timeout) = (DatabaseOptions::default().or_default(&url), Duration::from_secs(30));
        assay_store::migrate(&database, timeout).await.unwrap();
        let writer = BatchWriter {
            store: assay_store::connect(&database, "test", timeout).await.unwrap(),
            id_conflict: IdConflict::Fail,
            lane: Lane::Batch,
            progress: Arc::default(),
            feed: Feed::start(PredictionFeed::Off, &(InProcess::new(1) as _)).0,
            shutdown: CancellationToken::new(),
        };
        let (reason, message, raw) = (RejectReason::JsonFormat, String::new(), Vec::new().into());
        let chunk = ScoredChunk {
            id: ChunkId { run_id: "january".parse().unwrap(), chunk: 7 },
            range: RowRange { first_row: 701, rows: 1 },
            ids: IdScheme::V8,
            lane: Lane::Batch,
            predicted_at: Timestamp::from(Utc::now()),
            predicted: Vec::new(),
            failed: Vec::new(),
            rejected: vec![RejectedRow { row: 701, line: 702, reason, message, raw }],
            known: Vec::new(),
        };
        // No run has this name.
        let [outcome] =
            <[DeliveryOutcome; 1]>::try_from(writer.write(vec![ScoredMessage::Chunk(chunk)]).await).unwrap();
        assert!(matches!(outcome, DeliveryOutcome::DeadLetter { .. }), "{outcome:?}");
        let text = std::fs::read_to_string(log).unwrap();
        let line = text.lines().find(|line| line.contains("chunk january/7 is refused")).expect("it is logged");
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!((&line["run_id"], &line["chunk"], &line["lane"]), (&"january".into(), &7.into(), &"batch".into()));
    }
}
