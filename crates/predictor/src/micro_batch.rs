//! Micro-batches: live messages share requests to the ML API, and nothing else.
//!
//! A batch is sent once it has `API_BATCH_SIZE` transactions, or all messages that a predictor has in work at a time, or
//! `BUFFER_TIMEOUT` after its first one came; and while it waits for a permit, others join it. So under load requests grow
//! instead of their number. Each message has its own answer.

use std::sync::Arc;

use assay_scoring::{Permit, ScoreError, Scorer, Scores};
use assay_transaction::Entry;
use futures_util::future::try_join_all;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::LiveOptions;

/// Where messages wait to be collected: the tasks that serve them are bounded themselves.
const WAITING: usize = 64;

/// The way to the batches.
#[derive(Debug, Clone)]
pub(crate) struct MicroBatches {
    parts: mpsc::Sender<Part>,
    /// Rows of a request.
    most: usize,
}

/// Nobody answers any more.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unanswered;

/// The transactions of one message.
#[derive(Debug)]
struct Part {
    entries: Vec<Entry>,
    answer: oneshot::Sender<Scores>,
}

/// Who collects.
pub(crate) struct Collector {
    parts: mpsc::Receiver<Part>,
    scorer: Arc<Scorer>,
    options: LiveOptions,
    /// Messages that there can be at a time.
    messages: usize,
    stop: CancellationToken,
}

/// A batch that is being collected.
struct Batch {
    parts: Vec<Part>,
    rows: usize,
}

impl MicroBatches {
    /// `messages` are the most that are asked for at a time.
    pub(crate) fn new(
        scorer: Arc<Scorer>,
        options: LiveOptions,
        messages: usize,
        stop: CancellationToken,
    ) -> (Self, Collector) {
        let (sender, parts) = mpsc::channel(WAITING);
        let most = options.api_batch_size.get();
        (Self { parts: sender, most }, Collector { parts, scorer, options, messages, stop })
    }

    /// Has the transactions of one message scored. Fails where the shutdown comes first, or where its batch has panicked.
    pub(crate) async fn score(&self, entries: Vec<Entry>) -> Result<Scores, Unanswered> {
        if entries.is_empty() {
            return Ok(Scores::default());
        }
        let (answer, answered) = oneshot::channel();
        self.parts.send(Part { entries, answer }).await.map_err(|_| Unanswered)?;
        answered.await.map_err(|_| Unanswered)
    }

    /// Batches that are never answered, as each of them panics; and who collects them.
    #[cfg(test)]
    pub(crate) fn unanswered() -> (Self, tokio::task::JoinHandle<()>) {
        let (sender, mut parts) = mpsc::channel(WAITING);
        let collecting = tokio::spawn(async move { while parts.recv().await.is_some() {} });
        (Self { parts: sender, most: 100 }, collecting)
    }

    /// Has them scored in requests of their own. It panics where scoring them does. Fails where the shutdown comes first.
    pub(crate) async fn score_alone(
        &self,
        entries: Vec<Entry>,
        scorer: &Scorer,
        stop: &CancellationToken,
    ) -> Result<Scores, Unanswered> {
        let mut all = Scores::default();
        for Scores { predicted, failed } in
            ask(entries, scorer, None, self.most, stop).await.map_err(|_stopped| Unanswered)?
        {
            all.predicted.extend(predicted);
            all.failed.extend(failed);
        }
        Ok(all)
    }
}

impl Collector {
    /// Collects and sends until nobody is left who asks.
    pub(crate) async fn run(mut self) {
        let mut under_way = JoinSet::new();
        while let Some(first) = self.parts.recv().await {
            let mut batch = Batch { parts: Vec::new(), rows: 0 };
            batch.push(first);
            self.collect(&mut batch).await;
            let permit = self.admit(&mut batch).await;
            let (scorer, stop) = (Arc::clone(&self.scorer), self.stop.clone());
            let most = self.options.api_batch_size.get();
            under_way.spawn(async move { batch.score(&scorer, permit, most, &stop).await });
            while under_way.try_join_next().is_some() {}
        }
        while under_way.join_next().await.is_some() {}
    }

    async fn collect(&mut self, batch: &mut Batch) {
        let due = Instant::now() + self.options.buffer_timeout;
        while !self.is_whole(batch) {
            tokio::select! {
                biased;
                Some(part) = self.parts.recv() => batch.push(part),
                () = sleep_until(due) => return,
            }
        }
    }

    /// Waits for a permit, collecting on. None at the shutdown: the scorer refuses then.
    async fn admit(&mut self, batch: &mut Batch) -> Option<Permit> {
        loop {
            let is_whole = self.is_whole(batch);
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return None,
                permit = self.scorer.admit_live(is_whole) => return Some(permit),
                Some(part) = self.parts.recv(), if !is_whole => batch.push(part),
            }
        }
    }

    fn is_whole(&self, batch: &Batch) -> bool {
        batch.rows >= self.options.api_batch_size.get() || batch.parts.len() >= self.messages
    }
}

impl Batch {
    fn push(&mut self, part: Part) {
        self.rows += part.entries.len();
        self.parts.push(part);
    }

    /// Asks for all of it, at most so many rows a request, and answers each message. At a shutdown nobody is answered.
    async fn score(mut self, scorer: &Scorer, permit: Option<Permit>, most: usize, stop: &CancellationToken) {
        // Whoever was put off meanwhile has gone, and asks again.
        self.parts.retain(|part| !part.answer.is_closed());
        let mut rows = Vec::with_capacity(self.rows);
        let mut entries = Vec::with_capacity(self.rows);
        let mut answers = Vec::with_capacity(self.parts.len());
        for (message, Part { entries: of_message, answer }) in self.parts.into_iter().enumerate() {
            for mut entry in of_message {
                // In the batch a row is named by its place, as two messages may both have a first one.
                rows.push((message, entry.row));
                entry.row = rows.len() as u64;
                entries.push(entry);
            }
            answers.push((Scores::default(), answer));
        }
        let Ok(answered) = ask(entries, scorer, permit, most, stop).await else { return };
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
    permit: Option<Permit>,
    most: usize,
    stop: &CancellationToken,
) -> Result<Vec<Scores>, ScoreError> {
    let mut permit = permit;
    let mut asking = Vec::with_capacity(entries.len().div_ceil(most));
    while !entries.is_empty() {
        let rest = entries.split_off(entries.len().min(most));
        asking.push(scorer.score_live(std::mem::replace(&mut entries, rest), permit.take(), stop));
    }
    try_join_all(asking).await
}
