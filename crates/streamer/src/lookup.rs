//! Looks up the outcomes of transactions in the ledger, and waits for them.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use assay_store::{FailedRecord, Store, StoreError, TransactionRecord};
use assay_transaction::{EncodedTransaction, ReasonCode, RunId, Timestamp, mask_card_numbers};
use serde::Serialize;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Shortest and longest pause between two queries.
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// A transaction to look up.
pub(crate) struct LookupTarget {
    pub(crate) id: Uuid,
    /// Its content, if it is known: a stored one with other content is another transaction.
    pub(crate) content: Option<EncodedTransaction>,
    /// Runs and rows in which it failed before it was sent this time.
    pub(crate) failed_before: Arc<HashSet<(RunId, u64)>>,
}

/// Records of an id, cached for one round of queries, as many rows of a message may have the same id.
#[derive(Default)]
struct LedgerRecords {
    is_asked: bool,
    stored: Option<TransactionRecord>,
    failed: Option<Vec<FailedRecord>>,
}

/// Outcome of a transaction.
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
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<ReasonCode>,
    predicted_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct FailedResult {
    class: String,
    reason: String,
}

impl TransactionResult {
    /// The outcome of a stored transaction, if it has a prediction.
    fn stored(record: &TransactionRecord) -> Option<Self> {
        let prediction = record.prediction.as_ref()?;
        let scored = ScoredResult {
            prediction: prediction.prediction.clone(),
            fraud_score: prediction.fraud_score,
            model_version: prediction.model_version.clone(),
            reasons: prediction.reasons.clone(),
            predicted_at: prediction.predicted_at,
        };
        Some(Self { run_id: record.run_id.clone(), scored: Some(scored), failed: None })
    }

    fn failed(record: &FailedRecord) -> Self {
        // The reason of a conflict quotes both transactions.
        let failed =
            FailedResult { class: record.class.clone(), reason: mask_card_numbers(&record.reason).into_owned() };
        Self { run_id: record.run_id.clone(), scored: None, failed: Some(failed) }
    }
}

pub(crate) struct Lookup {
    store: Arc<dyn Store>,
}

impl Lookup {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// Notes earlier failures of transactions that are about to be sent.
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

    /// Waits for the outcomes of transactions, in their order, until a deadline or `stop`. All outcomes of a message appear at
    /// once: after the first unknown one, no other is queried.
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
