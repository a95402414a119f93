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
pub(crate) struct Sought {
    pub(crate) id: Uuid,
    /// What it says, where that is known: one that is stored with other content is another one.
    pub(crate) content: Option<EncodedTransaction>,
    /// Where it failed before it was sent this time: run and row.
    pub(crate) failed_before: Arc<HashSet<(RunId, u64)>>,
}

/// What the ledger knows of an id at a time, as far as it was asked: a message may have the same id in many rows.
#[derive(Default)]
struct Records {
    is_asked: bool,
    stored: Option<TransactionRecord>,
    failed: Option<Vec<FailedRecord>>,
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
    fn stored(record: &TransactionRecord) -> Option<Self> {
        let said = record.prediction.as_ref()?;
        let scored = Scored {
            prediction: said.prediction.clone(),
            fraud_score: said.fraud_score,
            model_version: said.model_version.clone(),
            predicted_at: said.predicted_at,
        };
        Some(Self { run_id: record.run_id.clone(), scored: Some(scored), failed: None })
    }

    fn failed(record: &FailedRecord) -> Self {
        // The reason of a conflict shows what is in both transactions.
        let failed = Failed { class: record.class.clone(), reason: mask_card_numbers(&record.reason).into_owned() };
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
    pub(crate) async fn note_failures(&self, sought: &mut [Sought]) -> Result<(), StoreError> {
        let mut known: HashMap<Uuid, Arc<HashSet<(RunId, u64)>>> = HashMap::new();
        for sought in sought {
            sought.failed_before = match known.entry(sought.id) {
                Entry::Occupied(failed) => Arc::clone(failed.get()),
                Entry::Vacant(unknown) => {
                    let failed = self.store.failed_with_id(sought.id).await?;
                    let failed = failed.into_iter().map(|record| (record.run_id, record.row)).collect();
                    Arc::clone(unknown.insert(Arc::new(failed)))
                }
            };
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
            let mut seen: HashMap<Uuid, Records> = HashMap::new();
            while let Some(next) = sought.get(found.len()) {
                match self.find(next, seen.entry(next.id).or_default()).await? {
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

    async fn find(&self, sought: &Sought, records: &mut Records) -> Result<Option<Fate>, StoreError> {
        if !records.is_asked {
            records.stored = self.store.transaction(sought.id).await?;
            records.is_asked = true;
        }
        let is_same = |record: &&TransactionRecord| {
            let content = sought.content.as_ref().map(EncodedTransaction::decode);
            content.is_none_or(|content| content.is_ok_and(|content| content == record.transaction))
        };
        let fate = records.stored.as_ref().filter(is_same).and_then(Fate::stored);
        if fate.is_some() {
            return Ok(fate);
        }
        if records.failed.is_none() {
            records.failed = Some(self.store.failed_with_id(sought.id).await?);
        }
        let is_new = |record: &&FailedRecord| !sought.failed_before.contains(&(record.run_id.clone(), record.row));
        Ok(records.failed.as_deref().unwrap_or_default().iter().rfind(is_new).map(Fate::failed))
    }
}
