//! Micro-batches: live messages share requests to the ML API, and nothing else.
//!
//! A batch is sent once it has `API_BATCH_SIZE` transactions, or as many messages as a predictor processes at a time, or
//! `BUFFER_TIMEOUT` after its first one; more messages join while it waits for a permit. So under load requests grow in size,
//! not in number. Each message gets its own result.

use std::sync::Arc;

use assay_scoring::{ApiPermit, ScoreError, Scorer, Scores};
use assay_transaction::Entry;
use futures_util::future::try_join_all;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::LiveOptions;

/// Capacity of the channel to the collector; the tasks that send are bounded themselves.
const MAX_QUEUED: usize = 64;

/// Sends messages to the collector.
#[derive(Debug, Clone)]
pub(crate) struct MicroBatches {
    messages: mpsc::Sender<UnscoredMessage>,
    /// Most rows of a request.
    max_rows: usize,
}

/// The scores will never come: the batch has panicked, or the process is stopping.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotScored;

/// The transactions of one message.
#[derive(Debug)]
struct UnscoredMessage {
    entries: Vec<Entry>,
    answer: oneshot::Sender<Scores>,
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
        let max_rows = options.api_batch_size.get();
        (Self { messages: sender, max_rows }, BatchCollector { messages, scorer, options, max_messages, stop })
    }

    /// Scores the transactions of one message. Fails at a shutdown, or if its batch panics.
    pub(crate) async fn score(&self, entries: Vec<Entry>) -> Result<Scores, NotScored> {
        if entries.is_empty() {
            return Ok(Scores::default());
        }
        let (answer, answered) = oneshot::channel();
        self.messages.send(UnscoredMessage { entries, answer }).await.map_err(|_| NotScored)?;
        answered.await.map_err(|_| NotScored)
    }

    /// Batches that are never scored, as after a panic; and their collector.
    #[cfg(test)]
    pub(crate) fn never_scored() -> (Self, tokio::task::JoinHandle<()>) {
        let (sender, mut messages) = mpsc::channel(MAX_QUEUED);
        let collecting = tokio::spawn(async move { while messages.recv().await.is_some() {} });
        (Self { messages: sender, max_rows: 100 }, collecting)
    }

    /// Scores them in requests of their own. Panics if scoring does; fails at a shutdown.
    pub(crate) async fn score_separately(
        &self,
        entries: Vec<Entry>,
        scorer: &Scorer,
        stop: &CancellationToken,
    ) -> Result<Scores, NotScored> {
        let mut all = Scores::default();
        for Scores { predicted, failed } in
            score_in_requests(entries, scorer, None, self.max_rows, stop).await.map_err(|_stopped| NotScored)?
        {
            all.predicted.extend(predicted);
            all.failed.extend(failed);
        }
        Ok(all)
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
            let max_rows = self.options.api_batch_size.get();
            under_way.spawn(async move { batch.score(&scorer, permit, max_rows, &stop).await });
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

    /// Waits for a permit, collecting meanwhile. `None` at a shutdown: the scorer then returns an error.
    async fn admit(&mut self, batch: &mut MicroBatch) -> Option<ApiPermit> {
        loop {
            let is_full = self.is_full(batch);
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return None,
                permit = self.scorer.acquire_live_permit(is_full) => return Some(permit),
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
        self.rows += message.entries.len();
        self.messages.push(message);
    }

    /// Scores all rows, at most `max_rows` a request, and returns each message its result. At a shutdown none is returned.
    async fn score(mut self, scorer: &Scorer, permit: Option<ApiPermit>, max_rows: usize, stop: &CancellationToken) {
        // A message that was deferred meanwhile is delivered again.
        self.messages.retain(|message| !message.answer.is_closed());
        let mut rows = Vec::with_capacity(self.rows);
        let mut entries = Vec::with_capacity(self.rows);
        let mut answers = Vec::with_capacity(self.messages.len());
        for (message, UnscoredMessage { entries: of_message, answer }) in self.messages.into_iter().enumerate() {
            for mut entry in of_message {
                // In the batch a row is numbered by its position, as two messages may both have a row 1.
                rows.push((message, entry.row));
                entry.row = rows.len() as u64;
                entries.push(entry);
            }
            answers.push((Scores::default(), answer));
        }
        let Ok(all_scores) = score_in_requests(entries, scorer, permit, max_rows, stop).await else { return };
        let place = |row: &mut u64| {
            let at = usize::try_from(*row - 1).unwrap_or(usize::MAX);
            let (message, own) = rows[at];
            *row = own;
            message
        };
        for Scores { predicted, failed } in all_scores {
            for mut scored in predicted {
                let message = place(&mut scored.entry.row);
                answers[message].0.predicted.push(scored);
            }
            for mut failure in failed {
                let message = place(&mut failure.entry.row);
                answers[message].0.failed.push(failure);
            }
        }
        for (scores, answer) in answers {
            // If the receiver is gone, its message is delivered again.
            let _ = answer.send(scores);
        }
    }
}

/// Scores entries, at most `max_rows` a request; the first request uses the permit.
async fn score_in_requests(
    mut entries: Vec<Entry>,
    scorer: &Scorer,
    permit: Option<ApiPermit>,
    max_rows: usize,
    stop: &CancellationToken,
) -> Result<Vec<Scores>, ScoreError> {
    let mut permit = permit;
    let mut requests = Vec::with_capacity(entries.len().div_ceil(max_rows));
    while !entries.is_empty() {
        let rest = entries.split_off(entries.len().min(max_rows));
        requests.push(scorer.score_live(std::mem::replace(&mut entries, rest), permit.take(), stop));
    }
    try_join_all(requests).await
}
