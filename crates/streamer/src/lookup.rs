//! Lookup: what became of a transaction, asked of the ledger until it says so.

use std::sync::Arc;
use std::time::Duration;

use assay_store::{FailedRecord, Store, StoreError, TransactionRecord};
use assay_transaction::{EncodedTransaction, RunId, Timestamp, mask_card_numbers};
use serde::Serialize;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Between two questions: at first, and at most.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// A transaction that is looked for.
pub(crate) struct Sought {
    pub(crate) id: Uuid,
    /// What it says, where that is known: one that is stored with other content is another one.
    pub(crate) content: Option<EncodedTransaction>,
    /// Where it failed before it was sent this time: run and row.
    pub(crate) failed_before: Vec<(RunId, u64)>,
}

/// What became of a transaction.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Fate {
    pub(crate) run_id: RunId,
    #[serde(flatten)]
    scored: Option<Scored>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<Failed>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Scored {
    prediction: String,
    fraud_score: Option<f64>,
    model_version: Option<String>,
    predicted_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct Failed {
    class: String,
    reason: String,
}

impl Fate {
    /// Of one that is stored, once it is predicted.
    fn stored(record: TransactionRecord) -> Option<Self> {
        let said = record.prediction?;
        let scored = Scored {
            prediction: said.prediction,
            fraud_score: said.fraud_score,
            model_version: said.model_version,
            predicted_at: said.predicted_at,
        };
        Some(Self { run_id: record.run_id, scored: Some(scored), failed: None })
    }

    fn failed(record: FailedRecord) -> Self {
        // The reason of a conflict shows what is in both transactions.
        let failed = Failed { class: record.class, reason: mask_card_numbers(&record.reason).into_owned() };
        Self { run_id: record.run_id, scored: None, failed: Some(failed) }
    }
}

/// Asks the ledger.
pub(crate) struct Lookup {
    store: Arc<dyn Store>,
}

impl Lookup {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// Notes where transactions that are about to be sent have failed before.
    pub(crate) async fn note_failures(&self, sought: &mut [Sought]) -> Result<(), StoreError> {
        for sought in sought {
            let failed = self.store.failed_with_id(sought.id).await?;
            sought.failed_before = failed.into_iter().map(|record| (record.run_id, record.row)).collect();
        }
        Ok(())
    }

    /// What became of transactions, in their order, as far as it is known by then, or when `stop` says so. It is known of one
    /// message all at once: behind one of which nothing is known, none is asked for.
    pub(crate) async fn settle(
        &self,
        sought: &[Sought],
        until: Instant,
        stop: &CancellationToken,
    ) -> Result<Vec<Option<Fate>>, StoreError> {
        let mut found = Vec::with_capacity(sought.len());
        let mut pause = SHORTEST_PAUSE;
        loop {
            while let Some(next) = sought.get(found.len()) {
                match self.find(next).await? {
                    Some(fate) => found.push(Some(fate)),
                    None => break,
                }
            }
            let now = Instant::now();
            if found.len() == sought.len() || now >= until {
                break;
            }
            if stop.run_until_cancelled(sleep_until(until.min(now + pause))).await.is_none() {
                break;
            }
            pause = (pause * 3 / 2).min(LONGEST_PAUSE);
        }
        found.resize_with(sought.len(), || None);
        Ok(found)
    }

    async fn find(&self, sought: &Sought) -> Result<Option<Fate>, StoreError> {
        let stored = self.store.transaction(sought.id).await?;
        let is_same = |record: &TransactionRecord| {
            let content = sought.content.as_ref().map(EncodedTransaction::decode);
            content.is_none_or(|content| content.is_ok_and(|content| content == record.transaction))
        };
        if let Some(fate) = stored.filter(is_same).and_then(Fate::stored) {
            return Ok(Some(fate));
        }
        let failed = self.store.failed_with_id(sought.id).await?;
        let is_new = |record: &FailedRecord| {
            sought.failed_before.iter().all(|(run, row)| (run, *row) != (&record.run_id, record.row))
        };
        Ok(failed.into_iter().rfind(is_new).map(Fate::failed))
    }
}
