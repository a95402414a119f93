//! Micro-batches: live messages share requests to the ML API, and nothing else.
//!
//! A batch is sent once it has `API_BATCH_SIZE` transactions, or all messages that a predictor has in work at a time, or
//! `BUFFER_TIMEOUT` after its first one came; and while it waits for a permit, others join it. So under load requests grow
//! instead of their number. Each message has its own answer.

use std::sync::Arc;

use assay_scoring::{RequestPermit, ScoreError, Scorer, Scores};
use assay_transaction::Entry;
use futures_util::future::try_join_all;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::LiveOptions;

/// Where messages wait to be collected: the tasks that serve them are bounded themselves.
const MAX_QUEUED: usize = 64;

/// The way to the batches.
#[derive(Debug, Clone)]
pub(crate) struct MicroBatches {
    messages: mpsc::Sender<PendingMessage>,
    /// RowCounts of a request.
    max_rows: usize,
}

/// Nobody answers any more.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotScored;

/// The transactions of one message.
#[derive(Debug)]
struct PendingMessage {
    entries: Vec<Entry>,
    answer: oneshot::Sender<Scores>,
}

/// Who collects.
pub(crate) struct BatchCollector {
    messages: mpsc::Receiver<PendingMessage>,
    scorer: Arc<Scorer>,
    options: LiveOptions,
    /// Messages that there can be at a time.
    max_messages: usize,
    stop: CancellationToken,
}

/// A batch that is being collected.
struct MicroBatch {
    messages: Vec<PendingMessage>,
    rows: usize,
}

impl MicroBatches {
    /// `messages` are the most that are asked for at a time.
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

    /// Has the transactions of one message scored. Fails where the shutdown comes first, or where its batch has panicked.
    pub(crate) async fn score(&self, entries: Vec<Entry>) -> Result<Scores, NotScored> {
        if entries.is_empty() {
            return Ok(Scores::default());
        }
        let (answer, answered) = oneshot::channel();
        self.messages.send(PendingMessage { entries, answer }).await.map_err(|_| NotScored)?;
        answered.await.map_err(|_| NotScored)
    }

    /// Batches that are never answered, as each of them panics; and who collects them.
    #[cfg(test)]
    pub(crate) fn never_scored() -> (Self, tokio::task::JoinHandle<()>) {
        let (sender, mut messages) = mpsc::channel(MAX_QUEUED);
        let collecting = tokio::spawn(async move { while messages.recv().await.is_some() {} });
        (Self { messages: sender, max_rows: 100 }, collecting)
    }

    /// Has them scored in requests of their own. It panics where scoring them does. Fails where the shutdown comes first.
    pub(crate) async fn score_separately(
        &self,
        entries: Vec<Entry>,
        scorer: &Scorer,
        stop: &CancellationToken,
    ) -> Result<Scores, NotScored> {
        let mut all = Scores::default();
        for Scores { predicted, failed } in
            ask(entries, scorer, None, self.max_rows, stop).await.map_err(|_stopped| NotScored)?
        {
            all.predicted.extend(predicted);
            all.failed.extend(failed);
        }
        Ok(all)
    }
}

impl BatchCollector {
    /// Collects and sends until nobody is left who asks.
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
        while !self.is_whole(batch) {
            tokio::select! {
                biased;
                Some(message) = self.messages.recv() => batch.push(message),
                () = sleep_until(due) => return,
            }
        }
    }

    /// Waits for a permit, collecting on. None at the shutdown: the scorer refuses then.
    async fn admit(&mut self, batch: &mut MicroBatch) -> Option<RequestPermit> {
        loop {
            let is_whole = self.is_whole(batch);
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return None,
                permit = self.scorer.acquire_live_permit(is_whole) => return Some(permit),
                Some(message) = self.messages.recv(), if !is_whole => batch.push(message),
            }
        }
    }

    fn is_whole(&self, batch: &MicroBatch) -> bool {
        batch.rows >= self.options.api_batch_size.get() || batch.messages.len() >= self.max_messages
    }
}

impl MicroBatch {
    fn push(&mut self, message: PendingMessage) {
        self.rows += message.entries.len();
        self.messages.push(message);
    }

    /// Asks for all of it, at most so many rows a request, and answers each message. At a shutdown nobody is answered.
    async fn score(
        mut self,
        scorer: &Scorer,
        permit: Option<RequestPermit>,
        max_rows: usize,
        stop: &CancellationToken,
    ) {
        // Whoever was put off meanwhile has gone, and asks again.
        self.messages.retain(|message| !message.answer.is_closed());
        let mut rows = Vec::with_capacity(self.rows);
        let mut entries = Vec::with_capacity(self.rows);
        let mut answers = Vec::with_capacity(self.messages.len());
        for (message, PendingMessage { entries: of_message, answer }) in self.messages.into_iter().enumerate() {
            for mut entry in of_message {
                // In the batch a row is named by its place, as two messages may both have a first one.
                rows.push((message, entry.row));
                entry.row = rows.len() as u64;
                entries.push(entry);
            }
            answers.push((Scores::default(), answer));
        }
        let Ok(answered) = ask(entries, scorer, permit, max_rows, stop).await else { return };
        let place = |row: &mut u64| {
            let at = usize::try_from(*row - 1).unwrap_or(usize::MAX);
            let (message, own) = rows[at];
            *row = own;
            message
        };
        for Scores { predicted, failed } in answered {
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
            // Whoever has gone away is given the message again.
            let _ = answer.send(scores);
        }
    }
}

/// Asks for entries, at most so many a request; the first request uses the permit.
async fn ask(
    mut entries: Vec<Entry>,
    scorer: &Scorer,
    permit: Option<RequestPermit>,
    max_rows: usize,
    stop: &CancellationToken,
) -> Result<Vec<Scores>, ScoreError> {
    let mut permit = permit;
    let mut asking = Vec::with_capacity(entries.len().div_ceil(max_rows));
    while !entries.is_empty() {
        let rest = entries.split_off(entries.len().min(max_rows));
        asking.push(scorer.score_live(std::mem::replace(&mut entries, rest), permit.take(), stop));
    }
    try_join_all(asking).await
}
