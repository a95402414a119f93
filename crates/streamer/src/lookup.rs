//! Lookup: what became of a transaction, asked of the ledger until it says so.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
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
pub(crate) struct LookupTarget {
    pub(crate) id: Uuid,
    /// What it says, where that is known: one that is stored with other content is another one.
    pub(crate) content: Option<EncodedTransaction>,
    /// Where it failed before it was sent this time: run and row.
    pub(crate) failed_before: Arc<HashSet<(RunId, u64)>>,
}

/// What the ledger knows of an id at a time, as far as it was asked: a message may have the same id in many rows.
#[derive(Default)]
struct LedgerRecords {
    is_asked: bool,
    stored: Option<TransactionRecord>,
    failed: Option<Vec<FailedRecord>>,
}

/// What became of a transaction.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct TransactionResult {
    pub(crate) run_id: RunId,
    #[serde(flatten)]
    scored: Option<ScoredResult>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed: Option<FailedResult>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct ScoredResult {
    prediction: String,
    fraud_score: Option<f64>,
    model_version: Option<String>,
    predicted_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct FailedResult {
    class: String,
    reason: String,
}

impl TransactionResult {
    /// Of one that is stored, once it is predicted.
    fn stored(record: &TransactionRecord) -> Option<Self> {
        let said = record.prediction.as_ref()?;
        let scored = ScoredResult {
            prediction: said.prediction.clone(),
            fraud_score: said.fraud_score,
            model_version: said.model_version.clone(),
            predicted_at: said.predicted_at,
        };
        Some(Self { run_id: record.run_id.clone(), scored: Some(scored), failed: None })
    }

    fn failed(record: &FailedRecord) -> Self {
        // The reason of a conflict shows what is in both transactions.
        let failed =
            FailedResult { class: record.class.clone(), reason: mask_card_numbers(&record.reason).into_owned() };
        Self { run_id: record.run_id.clone(), scored: None, failed: Some(failed) }
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
    pub(crate) async fn note_failures(&self, targets: &mut [LookupTarget]) -> Result<(), StoreError> {
        let mut known: HashMap<Uuid, Arc<HashSet<(RunId, u64)>>> = HashMap::new();
        for target in targets {
            target.failed_before = match known.entry(target.id) {
                Entry::Occupied(failed) => Arc::clone(failed.get()),
                Entry::Vacant(unknown) => {
                    let failed = self.store.failed_with_id(target.id).await?;
                    let failed = failed.into_iter().map(|record| (record.run_id, record.row)).collect();
                    Arc::clone(unknown.insert(Arc::new(failed)))
                }
            };
        }
        Ok(())
    }

    /// What became of transactions, in their order, as far as it is known by then, or when `stop` says so. It is known of one
    /// message all at once: behind one of which nothing is known, none is asked for.
    pub(crate) async fn wait_for_results(
        &self,
        targets: &[LookupTarget],
        until: Instant,
        stop: &CancellationToken,
    ) -> Result<Vec<Option<TransactionResult>>, StoreError> {
        let mut found = Vec::with_capacity(targets.len());
        let mut pause = SHORTEST_PAUSE;
        loop {
            let mut seen: HashMap<Uuid, LedgerRecords> = HashMap::new();
            while let Some(next) = targets.get(found.len()) {
                match self.find(next, seen.entry(next.id).or_default()).await? {
                    Some(result) => found.push(Some(result)),
                    None => break,
                }
            }
            let now = Instant::now();
            if found.len() == targets.len() || now >= until {
                break;
            }
            if stop.run_until_cancelled(sleep_until(until.min(now + pause))).await.is_none() {
                break;
            }
            pause = (pause * 3 / 2).min(LONGEST_PAUSE);
        }
        found.resize_with(targets.len(), || None);
        Ok(found)
    }

    async fn find(
        &self,
        target: &LookupTarget,
        records: &mut LedgerRecords,
    ) -> Result<Option<TransactionResult>, StoreError> {
        if !records.is_asked {
            records.stored = self.store.transaction(target.id).await?;
            records.is_asked = true;
        }
        let is_same = |record: &&TransactionRecord| {
            let content = target.content.as_ref().map(EncodedTransaction::decode);
            content.is_none_or(|content| content.is_ok_and(|content| content == record.transaction))
        };
        let result = records.stored.as_ref().filter(is_same).and_then(TransactionResult::stored);
        if result.is_some() {
            return Ok(result);
        }
        if records.failed.is_none() {
            records.failed = Some(self.store.failed_with_id(target.id).await?);
        }
        let is_new = |record: &&FailedRecord| !target.failed_before.contains(&(record.run_id.clone(), record.row));
        Ok(records.failed.as_deref().unwrap_or_default().iter().rfind(is_new).map(TransactionResult::failed))
    }
}
