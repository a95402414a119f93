//! One chunk: scored, and published for the writer.

use std::sync::Arc;

use assay_queue::{Broker, Message, Outcome, Route, Unpublished, Work, publish_until_confirmed};
use assay_scoring::Scorer;
use assay_transaction::{Chunk, Lane, ScoredChunk, Timestamp};
use chrono::Utc;
use tokio_util::sync::CancellationToken;

use crate::PredictProgress;

/// What it takes to score a chunk.
#[derive(Clone)]
pub(crate) struct Scoring {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) scorer: Arc<Scorer>,
    pub(crate) progress: Arc<PredictProgress>,
    pub(crate) shutdown: CancellationToken,
}

impl Scoring {
    /// Scores a chunk and publishes the result. Done means that the broker has confirmed it.
    pub(crate) async fn score(&self, chunk: Chunk, lane: Lane) -> Outcome {
        let Chunk { id, range, transactions, rejected } = chunk;
        let Ok(answer) = self.scorer.score(transactions, &self.shutdown).await else {
            return Outcome::Release;
        };
        let (predicted, failed) = (answer.predicted.len(), answer.failed.len());
        let scored = ScoredChunk {
            id,
            range,
            lane,
            predicted_at: Timestamp::from(Utc::now()),
            predicted: answer.predicted,
            failed: answer.failed,
            rejected,
        };
        let body = match scored.encode() {
            Ok(body) => body,
            Err(error) => return Outcome::Dead { reason: error.to_string() },
        };
        let message = Message::new(scored.id.to_string(), ScoredChunk::MESSAGE_TYPE, &scored.id.run_id, body);
        let route = Route { work: Work::Scored, lane };
        match publish_until_confirmed(&*self.broker, route, message, &self.shutdown).await {
            Ok(()) => {
                self.progress.add(predicted, failed);
                Outcome::Done
            }
            Err(Unpublished::Stopped) => Outcome::Release,
            Err(Unpublished::TooLarge { bytes }) => {
                Outcome::Dead { reason: format!("the scored chunk has {bytes} bytes, more than the broker takes") }
            }
        }
    }
}
