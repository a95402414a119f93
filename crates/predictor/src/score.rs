//! Scores one message, and publishes the result for the writer.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use assay_queue::{Broker, ConfirmError, DeliveryOutcome, Message, QueueKind, Route, publish_until_confirmed};
use assay_scoring::Scorer;
use assay_telemetry::record_run_id;
use assay_transaction::{
    ChunkScores, EncodedTransaction, Entry, FailedRow, Lane, LiveMessage, Predicted, ReplayPart, RunId, ScoreOutcome,
    ScoredLive, ScoredReplay, Timestamp, UnscoredChunk, WireError,
};
use chrono::Utc;
use tokio_util::sync::CancellationToken;

use crate::PredictProgress;
use crate::external::ExternalReader;
use crate::message::IncomingMessage;
use crate::metrics::{self, RowCounts};
use crate::micro_batch::{MicroBatches, NotScored};
use crate::stopped_runs::StoppedRuns;

/// Delay before a live message is retried after its batch panicked.
const AFTER_PANIC: Duration = Duration::from_secs(1);

/// Scores messages of both lanes: chunks, live transactions and replays.
#[derive(Clone)]
pub(crate) struct MessageScorer {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) scorer: Arc<Scorer>,
    /// Most transactions of a request.
    pub(crate) batch_size: NonZeroUsize,
    pub(crate) micro_batches: MicroBatches,
    pub(crate) external: Arc<ExternalReader>,
    pub(crate) progress: Arc<PredictProgress>,
    pub(crate) stopped: Arc<StoppedRuns>,
    /// Rows of the chunks that are being scored.
    pub(crate) rows_in_work: Arc<AtomicUsize>,
    pub(crate) shutdown: CancellationToken,
}

/// Counts rows as in work until it is dropped.
struct InWork<'a>(&'a AtomicUsize, usize);

impl<'a> InWork<'a> {
    fn begin(all: &'a AtomicUsize, rows: usize) -> Self {
        all.fetch_add(rows, Ordering::Relaxed);
        Self(all, rows)
    }
}

impl Drop for InWork<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}

/// A message for the writer, and the counts of its rows.
struct WriterMessage {
    message: Result<Message, WireError>,
    rows: RowCounts,
}

impl WriterMessage {
    fn new(id: String, kind: &str, run_id: &RunId, encoded: Result<Vec<u8>, WireError>, rows: RowCounts) -> Self {
        Self { message: encoded.map(|body| Message::new(id, kind, run_id, body)), rows }
    }
}

impl MessageScorer {
    /// Scores a message and publishes the result. `Done` means that the broker has confirmed it.
    pub(crate) async fn score(&self, message: IncomingMessage, lane: Lane) -> DeliveryOutcome {
        let scored = match message {
            IncomingMessage::Chunk { chunk, received } => Ok(self.score_chunk(&chunk, &received, lane).await),
            IncomingMessage::Replay(part) => Ok(self.score_replay(part, lane).await),
            IncomingMessage::Live { message, is_alone } => self.score_live(message, is_alone).await,
            IncomingMessage::External(message) => self.score_external(&message).await,
        };
        let WriterMessage { message, rows } = match scored {
            Ok(Some(scored)) => scored,
            Ok(None) => return DeliveryOutcome::Release,
            Err(outcome) => return outcome,
        };
        let message = match message {
            Ok(message) => message,
            Err(error) => return DeliveryOutcome::DeadLetter { reason: error.to_string() },
        };
        let route = Route { kind: QueueKind::Scored, lane };
        match publish_until_confirmed(&*self.broker, route, message, &self.shutdown).await {
            Ok(()) => {
                self.progress.add(rows.predicted + rows.known, rows.failed.len());
                metrics::record_forwarded(lane, &rows);
                DeliveryOutcome::Done
            }
            Err(ConfirmError::Stopped) => DeliveryOutcome::Release,
            Err(ConfirmError::TooLarge { bytes }) => DeliveryOutcome::DeadLetter {
                reason: format!("the scored message has {bytes} bytes, more than the broker accepts"),
            },
        }
    }

    /// `None` at a shutdown, or if the run is stopped meanwhile: the chunk is released, and found stopped at its next
    /// delivery.
    async fn score_chunk(&self, chunk: &UnscoredChunk, received: &Message, lane: Lane) -> Option<WriterMessage> {
        let run_id = &chunk.id.run_id;
        let (scores, rows) = if let Some(notice) = self.stopped.notice(run_id) {
            let class = notice.kind.failure_class();
            let scores = ChunkScores::all_failed(chunk, lane, now(), &class, &notice.reason);
            let failed = vec![class; scores.failed.len()];
            (scores, RowCounts { predicted: 0, failed, invalid: chunk.rejected(), known: 0 })
        } else {
            // Rows already stored with the same content are not scored again.
            let transactions = chunk.to_score();
            let _in_work = InWork::begin(&self.rows_in_work, transactions.len());
            let outcomes = tokio::select! {
                outcomes = self.scorer.score(&transactions, self.batch_size, &self.shutdown) => outcomes.ok()?,
                () = self.stopped.stopped(run_id) => return None,
            };
            let rows = RowCounts { invalid: chunk.rejected(), known: chunk.known(), ..RowCounts::of(&outcomes) };
            (ChunkScores::new(chunk, lane, now(), outcomes), rows)
        };
        let message =
            WriterMessage::new(chunk.id.to_string(), ChunkScores::MESSAGE_TYPE, run_id, scores.encode(), rows);
        Some(WriterMessage { message: message.message.map(|scores| scores.enclosing(received)), ..message })
    }

    /// A message of an external producer is a live one once it is read.
    async fn score_external(&self, message: &Message) -> Result<Option<WriterMessage>, DeliveryOutcome> {
        let read = self.external.read(message).await;
        let live = read.map_err(|reason| DeliveryOutcome::DeadLetter { reason })?;
        record_run_id(&live.id.run_id());
        self.score_live(live, message.attempt > 0).await
    }

    /// A message shares requests with others, unless `is_alone`, and gets a result of its own. It is scored even if its run is
    /// stopped, as it was accepted. `None` at a shutdown.
    async fn score_live(&self, message: LiveMessage, is_alone: bool) -> Result<Option<WriterMessage>, DeliveryOutcome> {
        let LiveMessage { id, ids, transactions, rejected } = message;
        let encoded = encoded(&transactions);
        let outcomes = if is_alone {
            let scoring = self.scorer.score_live(&encoded, self.batch_size, None, &self.shutdown);
            scoring.await.map_err(|_stopped| NotScored)
        } else {
            self.micro_batches.score(encoded).await
        };
        let outcomes = match outcomes {
            Ok(outcomes) => outcomes,
            Err(NotScored) if self.shutdown.is_cancelled() => return Ok(None),
            // Its batch has panicked, through any of its messages: a failed attempt, after which each is scored alone. A message
            // that panics alone uses up its own attempts only.
            Err(NotScored) => return Err(DeliveryOutcome::Retry { after: AFTER_PANIC }),
        };
        let run_id = id.run_id();
        let rows = RowCounts { invalid: rejected.len(), ..RowCounts::of(&outcomes) };
        let (predicted, failed) = by_outcome(transactions, outcomes);
        let scored = ScoredLive { id, ids, predicted_at: now(), predicted, failed, rejected };
        let encoded = scored.encode();
        Ok(Some(WriterMessage::new(scored.id.message, ScoredLive::MESSAGE_TYPE, &run_id, encoded, rows)))
    }

    /// A replay is scored even if its run is stopped, as an operator ordered it.
    async fn score_replay(&self, part: ReplayPart, lane: Lane) -> Option<WriterMessage> {
        let ReplayPart { id, ids, transactions } = part;
        let outcomes = self.scorer.score(&encoded(&transactions), self.batch_size, &self.shutdown).await.ok()?;
        let rows = RowCounts::of(&outcomes);
        let (predicted, failed) = by_outcome(transactions, outcomes);
        let scored = ScoredReplay { id, ids, lane, predicted_at: now(), predicted, failed };
        let (id, encoded) = (&scored.id, scored.encode());
        Some(WriterMessage::new(id.to_string(), ScoredReplay::MESSAGE_TYPE, &id.run_id, encoded, rows))
    }
}

/// The transactions, which share the bytes of the entries.
fn encoded(entries: &[Entry]) -> Vec<EncodedTransaction> {
    entries.iter().map(|entry| entry.transaction.clone()).collect()
}

/// The scored and the failed ones, each in order.
fn by_outcome(entries: Vec<Entry>, outcomes: Vec<ScoreOutcome>) -> (Vec<Predicted>, Vec<FailedRow>) {
    let (mut predicted, mut failed) = (Vec::with_capacity(entries.len()), Vec::new());
    for (entry, outcome) in entries.into_iter().zip(outcomes) {
        match outcome {
            Ok(prediction) => predicted.push(Predicted { entry, prediction }),
            Err(failure) => failed.push(FailedRow::new(entry, failure)),
        }
    }
    (predicted, failed)
}

fn now() -> Timestamp {
    Timestamp::from(Utc::now())
}

#[cfg(test)]
pub(crate) mod tests {
    use assay_ml_api::{Model, ModelServerOptions};
    use assay_queue::InProcess;
    use assay_scoring::ApiOptions;
    use assay_transaction::{Chunk, IdScheme, Prediction};
    use tokio::net::TcpListener;

    use super::*;
    use crate::LiveOptions;
    use crate::id_scheme::KnownIdScheme;
    use crate::message::decode;

    /// A message of an external producer, after so many failed attempts.
    fn external_message(attempt: u32) -> IncomingMessage {
        let body = r#"{"id":1,"description":"Café","amount":1,"timestamp":"2026-01-11 10:00:00","operation_type":"x","side":"debit"}"#;
        let message = Message { attempt, ..Message::new("m-1", "", &"x".parse().unwrap(), body) };
        decode(&message, Lane::Realtime).unwrap()
    }

    /// Serves the reference model until `stop`; returns the address.
    pub(crate) async fn serve_model(stop: &CancellationToken) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let model = Arc::new(Model::bundled());
        tokio::spawn(assay_ml_api::serve(listener, model, ModelServerOptions::default(), stop.clone()));
        url
    }

    fn message_scorer(url: &str, micro_batches: MicroBatches, shutdown: &CancellationToken) -> MessageScorer {
        let scorer = Arc::new(Scorer::new(url, &ApiOptions::default()).unwrap());
        let (broker, shutdown) = (InProcess::new(10), shutdown.clone());
        let ids = Arc::new(KnownIdScheme::known(IdScheme::V8));
        let external = Arc::new(ExternalReader::new(LiveOptions::default(), ids));
        let batch_size = LiveOptions::default().api_batch_size;
        let (progress, stopped, rows_in_work) = (Arc::default(), Arc::default(), Arc::default());
        MessageScorer { broker, scorer, batch_size, micro_batches, external, progress, stopped, rows_in_work, shutdown }
    }

    #[tokio::test]
    async fn a_message_whose_batch_panicked_is_scored_alone() {
        let shutdown = CancellationToken::new();
        let url = serve_model(&shutdown).await;
        // Each batch ends without scores, as after a panic.
        let (micro_batches, panicking) = MicroBatches::never_scored();
        let scoring = message_scorer(&url, micro_batches, &shutdown);
        assert_eq!(
            scoring.score(external_message(0), Lane::Realtime).await,
            DeliveryOutcome::Retry { after: AFTER_PANIC }
        );
        assert_eq!(scoring.score(external_message(1), Lane::Realtime).await, DeliveryOutcome::Done);
        let downstream = Route { kind: QueueKind::Scored, lane: Lane::Realtime };
        assert_eq!(scoring.broker.depth(downstream).await.unwrap().messages, 1);
        panicking.abort();
        shutdown.cancel();
    }

    #[tokio::test]
    async fn a_stored_row_is_forwarded_without_a_request() {
        let body = r#"{"run_id":"r","chunk":0,"first_row":1,"rows":2,"transactions":[
            {"row":1,"transaction":{"id":"00000000-0000-0000-0000-000000000001"}},
            {"row":2,"transaction":{"id":"00000000-0000-0000-0000-000000000002"}}],
            "known":[{"row":2,"prediction":{"prediction":"fraud"}},{"row":1,"prediction":{"prediction":"fraud"}}]}"#;
        let received = Message::new("r/0", Chunk::MESSAGE_TYPE, &"r".parse().unwrap(), body);
        let chunk = UnscoredChunk::decode_within(&received.body).unwrap();
        let prediction = Prediction { prediction: "fraud".into(), fraud_score: None, ..Prediction::default() };
        let forwarded = |entry: &Entry| Predicted { entry: entry.clone(), prediction: prediction.clone() };
        let entries = Chunk::decode_within(&received.body).unwrap().transactions;
        let predicted: Vec<_> = entries.iter().map(forwarded).collect();
        let (micro_batches, collecting) = MicroBatches::never_scored();
        // Nothing listens there.
        let scoring = message_scorer("http://127.0.0.1:1", micro_batches, &CancellationToken::new());
        let WriterMessage { message, rows } = scoring.score_chunk(&chunk, &received, Lane::Batch).await.unwrap();
        assert_eq!((rows.predicted, rows.known), (0, 2));
        assert_eq!(scoring.rows_in_work.load(Ordering::Relaxed), 0);
        let message = message.unwrap();
        let scores = ChunkScores::decode(&message.body).unwrap();
        let written = scores.with_chunk(&message.enclosed.unwrap()).unwrap();
        assert!(written.accounts_for_its_rows());
        assert_eq!((written.predicted, written.known), (predicted, vec![1, 2]));
        collecting.abort();
    }
}
