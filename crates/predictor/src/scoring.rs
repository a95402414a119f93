//! One chunk, or one part of a replay: scored, and published for the writer.

use std::sync::Arc;
use std::time::Duration;

use assay_queue::{Broker, Message, Outcome, Route, Unpublished, Work, publish_until_confirmed};
use assay_scoring::{Scorer, Scores};
use assay_transaction::{
    Chunk, FailedRow, Lane, LiveMessage, Predicted, RejectedRow, ReplayPart, ScoredChunk, ScoredLive, ScoredReplay,
    Timestamp, WireError,
};
use chrono::Utc;
use tokio_util::sync::CancellationToken;

use crate::PredictProgress;
use crate::metrics::{self, Rows};
use crate::micro_batch::{MicroBatches, Unanswered};
use crate::stopped::StoppedRuns;
use crate::task::Task;

/// When a live message whose batch has panicked is tried again.
const AFTER_PANIC: Duration = Duration::from_secs(1);

/// What it takes to score a chunk.
#[derive(Clone)]
pub(crate) struct Scoring {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) scorer: Arc<Scorer>,
    pub(crate) micro_batches: MicroBatches,
    pub(crate) progress: Arc<PredictProgress>,
    pub(crate) stopped: Arc<StoppedRuns>,
    pub(crate) shutdown: CancellationToken,
}

/// A message for the writer, and what is in it.
struct Scored {
    message: Result<Message, WireError>,
    rows: Rows,
}

impl Scoring {
    /// Has what a message asks for scored, and publishes the result. Done means that the broker has confirmed it.
    pub(crate) async fn score(&self, task: Task, lane: Lane) -> Outcome {
        let scored = match task {
            Task::Chunk(chunk) => self.chunk(chunk, lane).await,
            Task::Replay(part) => self.replay(part, lane).await,
            Task::Live(message) => match self.live(message).await {
                Ok(scored) => Some(scored),
                Err(Unanswered) if self.shutdown.is_cancelled() => None,
                // Its batch has panicked: a failed attempt, as the panic of a task is.
                Err(Unanswered) => return Outcome::Retry { after: AFTER_PANIC },
            },
        };
        let Some(Scored { message, rows }) = scored else { return Outcome::Release };
        let message = match message {
            Ok(message) => message,
            Err(error) => return Outcome::Dead { reason: error.to_string() },
        };
        let route = Route { work: Work::Scored, lane };
        match publish_until_confirmed(&*self.broker, route, message, &self.shutdown).await {
            Ok(()) => {
                self.progress.add(rows.predicted, rows.failed.len());
                metrics::handed_on(lane, &rows);
                Outcome::Done
            }
            Err(Unpublished::Stopped) => Outcome::Release,
            Err(Unpublished::TooLarge { bytes }) => {
                Outcome::Dead { reason: format!("the scored chunk has {bytes} bytes, more than the broker takes") }
            }
        }
    }

    /// Nothing where the shutdown, or an order to stop the run, comes first: the chunk is given back, and whoever is given
    /// it next finds the order.
    async fn chunk(&self, chunk: Chunk, lane: Lane) -> Option<Scored> {
        let scored = if let Some(notice) = self.stopped.notice(&chunk.id.run_id) {
            ScoredChunk::given_up(chunk, lane, now(), &notice.kind.failure_class(), &notice.reason)
        } else {
            let Chunk { id, range, transactions, rejected } = chunk;
            let answer = tokio::select! {
                answer = self.scorer.score(transactions, &self.shutdown) => answer.ok()?,
                () = self.stopped.stopped(&id.run_id) => return None,
            };
            let (predicted, failed) = (answer.predicted, answer.failed);
            ScoredChunk { id, range, lane, predicted_at: now(), predicted, failed, rejected }
        };
        let id = &scored.id;
        let message = |body| Message::new(id.to_string(), ScoredChunk::MESSAGE_TYPE, &id.run_id, body);
        let rows = rows(&scored.predicted, &scored.failed, &scored.rejected);
        Some(Scored { message: scored.encode().map(message), rows })
    }

    /// A message shares requests with others, and has a result of its own.
    async fn live(&self, message: LiveMessage) -> Result<Scored, Unanswered> {
        let run_id = message.id.run_id();
        let scored = if let Some(notice) = self.stopped.notice(&run_id) {
            ScoredLive::given_up(message, now(), &notice.kind.failure_class(), &notice.reason)
        } else {
            let LiveMessage { id, transactions, rejected } = message;
            let Scores { predicted, failed } = self.micro_batches.score(transactions).await?;
            ScoredLive { id, predicted_at: now(), predicted, failed, rejected }
        };
        let message = |body| Message::new(scored.id.message.clone(), ScoredLive::MESSAGE_TYPE, &run_id, body);
        let rows = rows(&scored.predicted, &scored.failed, &scored.rejected);
        Ok(Scored { message: scored.encode().map(message), rows })
    }

    /// A replay is asked for by a person, for a run that was stopped too.
    async fn replay(&self, part: ReplayPart, lane: Lane) -> Option<Scored> {
        let ReplayPart { id, transactions } = part;
        let answer = self.scorer.score(transactions, &self.shutdown).await.ok()?;
        let rows = rows(&answer.predicted, &answer.failed, &[]);
        let scored = ScoredReplay { id, lane, predicted_at: now(), predicted: answer.predicted, failed: answer.failed };
        let id = &scored.id;
        let message = |body| Message::new(id.to_string(), ScoredReplay::MESSAGE_TYPE, &id.run_id, body);
        Some(Scored { message: scored.encode().map(message), rows })
    }
}

fn rows(predicted: &[Predicted], failed: &[FailedRow], rejected: &[RejectedRow]) -> Rows {
    let failed = failed.iter().map(|row| row.class.clone()).collect();
    Rows { predicted: predicted.len(), failed, invalid: rejected.len() }
}

fn now() -> Timestamp {
    Timestamp::from(Utc::now())
}
