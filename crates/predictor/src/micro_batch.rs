//! Micro-batches: live messages share requests to the ML API, and nothing else.
//!
//! A batch is sent once it has `API_BATCH_SIZE` transactions, or as many messages as a predictor processes at a time, or
//! `BUFFER_TIMEOUT` after its first one; more messages join while it waits for a permit, or for the end of a pause that the ML API asked for. So under load requests grow in size,
//! not in number. Each message gets its own result.

use std::num::NonZeroUsize;
use std::sync::Arc;

use assay_scoring::{ApiPermit, Scorer};
use assay_trace::{Origins, TARGET, TraceContext, current};
use assay_transaction::{EncodedTransaction, ScoreOutcome};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span, trace_span};

use crate::LiveOptions;

/// Capacity of the channel to the collector; the tasks that send are bounded themselves.
const MAX_QUEUED: usize = 64;

/// Sends messages to the collector.
#[derive(Debug, Clone)]
pub(crate) struct MicroBatches {
    messages: mpsc::Sender<UnscoredMessage>,
}

/// The scores will never come: the batch has panicked, or the process is stopping.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotScored;

/// The transactions of one message.
#[derive(Debug)]
struct UnscoredMessage {
    transactions: Vec<EncodedTransaction>,
    /// The trace of its work.
    context: Option<TraceContext>,
    answer: oneshot::Sender<Vec<ScoreOutcome>>,
}

/// Collects messages into batches.
pub(crate) struct BatchCollector {
    messages: mpsc::Receiver<UnscoredMessage>,
    scorer: Arc<Scorer>,
    options: LiveOptions,
    /// Most messages processed at a time.
    max_messages: usize,
    stop: CancellationToken,
}

/// A batch that is being collected.
struct MicroBatch {
    messages: Vec<UnscoredMessage>,
    rows: usize,
}

impl MicroBatches {
    /// `max_messages`: most messages processed at a time.
    pub(crate) fn new(
        scorer: Arc<Scorer>,
        options: LiveOptions,
        max_messages: usize,
        stop: CancellationToken,
    ) -> (Self, BatchCollector) {
        let (sender, messages) = mpsc::channel(MAX_QUEUED);
        (Self { messages: sender }, BatchCollector { messages, scorer, options, max_messages, stop })
    }

    /// Scores the transactions of one message. Fails at a shutdown, or if its batch panics.
    pub(crate) async fn score(&self, transactions: Vec<EncodedTransaction>) -> Result<Vec<ScoreOutcome>, NotScored> {
        if transactions.is_empty() {
            return Ok(Vec::new());
        }
        let (answer, answered) = oneshot::channel();
        self.messages
            .send(UnscoredMessage { transactions, context: current(), answer })
            .await
            .map_err(|_| NotScored)?;
        answered.await.map_err(|_| NotScored)
    }

    /// Batches that are never scored, as after a panic; and their collector.
    #[cfg(test)]
    pub(crate) fn never_scored() -> (Self, tokio::task::JoinHandle<()>) {
        let (sender, mut messages) = mpsc::channel(MAX_QUEUED);
        let collecting = tokio::spawn(async move { while messages.recv().await.is_some() {} });
        (Self { messages: sender }, collecting)
    }
}

impl BatchCollector {
    /// Collects and sends until all senders are dropped.
    pub(crate) async fn run(mut self) {
        let mut under_way = JoinSet::new();
        while let Some(first) = self.messages.recv().await {
            let mut batch = MicroBatch { messages: Vec::new(), rows: 0 };
            batch.push(first);
            self.collect(&mut batch).await;
            let permit = self.admit(&mut batch).await;
            let (scorer, stop) = (Arc::clone(&self.scorer), self.stop.clone());
            let batch_size = self.options.api_batch_size;
            let span = batch.span();
            let scoring = async move { batch.score(&scorer, permit, batch_size, &stop).await };
            under_way.spawn(scoring.instrument(span));
            while under_way.try_join_next().is_some() {}
        }
        while under_way.join_next().await.is_some() {}
    }

    async fn collect(&mut self, batch: &mut MicroBatch) {
        let due = Instant::now() + self.options.buffer_timeout;
        while !self.is_full(batch) {
            tokio::select! {
                biased;
                Some(message) = self.messages.recv() => batch.push(message),
                () = sleep_until(due) => return,
            }
        }
    }

    /// Waits for the end of a pause and for a permit, collecting meanwhile. It does not wait for a circuit to close, as its request may
    /// be the one that finds the ML API well again. `None` at a shutdown: the scorer then returns an error.
    async fn admit(&mut self, batch: &mut MicroBatch) -> Option<ApiPermit> {
        loop {
            let is_full = self.is_full(batch);
            let admitted = async {
                self.scorer.pace().wait_out_hold().await;
                self.scorer.acquire_live_permit(is_full).await
            };
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return None,
                permit = admitted => return Some(permit),
                Some(message) = self.messages.recv(), if !is_full => batch.push(message),
            }
        }
    }

    fn is_full(&self, batch: &MicroBatch) -> bool {
        batch.rows >= self.options.api_batch_size.get() || batch.messages.len() >= self.max_messages
    }
}

impl MicroBatch {
    fn push(&mut self, message: UnscoredMessage) {
        self.rows += message.transactions.len();
        self.messages.push(message);
    }

    /// The trace of its requests, linked to its messages.
    fn span(&self) -> Span {
        let origins = Origins::of(self.messages.iter().filter_map(|message| message.context));
        trace_span!(
            target: TARGET,
            "micro-batch",
            otel.parent = origins.parent(),
            otel.links = origins.links(),
            messaging.batch.message_count = self.messages.len(),
        )
    }

    /// Scores all rows, and returns each message its outcomes. At a shutdown none is returned.
    async fn score(
        mut self,
        scorer: &Scorer,
        permit: Option<ApiPermit>,
        batch_size: NonZeroUsize,
        stop: &CancellationToken,
    ) {
        // A message that was deferred meanwhile is delivered again.
        self.messages.retain(|message| !message.answer.is_closed());
        let mut transactions = Vec::with_capacity(self.rows);
        let mut answers = Vec::with_capacity(self.messages.len());
        for UnscoredMessage { transactions: of_message, context: _, answer } in self.messages {
            answers.push((of_message.len(), answer));
            transactions.extend(of_message);
        }
        let Ok(outcomes) = scorer.score_live(&transactions, batch_size, permit, stop).await else { return };
        let mut outcomes = outcomes.into_iter();
        for (rows, answer) in answers {
            // If the receiver is gone, its message is delivered again.
            let _ = answer.send(outcomes.by_ref().take(rows).collect());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use assay_scoring::{ApiOptions, ToldHold};
    use futures_util::future::join_all;

    use super::*;
    use crate::score::tests::serve_model;

    fn transaction(number: u64) -> EncodedTransaction {
        let json = format!(
            r#"{{"id":"00000000-0000-0000-0000-{number:012}","description":"x","amount":1.0,"timestamp":"2026-01-11T10:00:00Z","merchant":null,"operation_type":"x","side":"debit"}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    #[tokio::test]
    async fn messages_of_a_pause_share_a_request() {
        let stop = CancellationToken::new();
        let url = serve_model(&stop).await;
        let scorer = Arc::new(Scorer::new(&url, &ApiOptions::default()).unwrap());
        let options = LiveOptions { buffer_timeout: Duration::from_millis(1), ..LiveOptions::default() };
        let (batches, collector) = MicroBatches::new(Arc::clone(&scorer), options, 64, stop.clone());
        let collecting = tokio::spawn(collector.run());
        scorer.pace().heed(ToldHold::RetryAfter { hold: Duration::from_secs(1), rate: None });
        let answers = join_all((0..5).map(async |number: u32| {
            tokio::time::sleep(number * Duration::from_millis(100)).await;
            batches.score(vec![transaction(number.into())]).await.unwrap()
        }));
        assert!(answers.await.iter().all(|outcomes| outcomes.len() == 1 && outcomes[0].is_ok()));
        assert_eq!(scorer.stats().requests, 1);
        drop(batches);
        collecting.await.unwrap();
        stop.cancel();
    }
}
