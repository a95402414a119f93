//! Chunks and runs for the tests.

use std::collections::BTreeMap;
use std::time::Duration;

use assay_store::{AuditContext, Lease, NewRun, RunStart, Store};
use assay_transaction::{
    ChunkId, EncodedTransaction, Entry, FailedRow, FailureClass, IdScheme, Lane, Predicted, Prediction, RawText,
    RejectReason, RejectedRow, ReplayId, RowRange, Run, RunId, RunSettings, RunState, ScoredChunk, ScoredReplay,
    SealedTotals, SourceIdentity, TimeZone, Timestamp, Transaction,
};
use uuid::Uuid;

/// A row of a scored chunk.
#[derive(Debug, Clone)]
pub(crate) enum Row {
    /// A transaction, its label and score.
    Scored(Transaction, &'static str, f64),
    Failed(Transaction),
    Invalid(&'static [u8]),
}

pub(crate) fn run_id(name: &str) -> RunId {
    name.parse().unwrap()
}

/// A transaction with this id and amount.
pub(crate) fn transaction(id: u128, amount: &str) -> Transaction {
    Transaction {
        id: Uuid::from_u128(id),
        description: format!("Café {id}"),
        amount: amount.parse().unwrap(),
        timestamp: Timestamp::parse(b"2023-11-28T06:35:12.25Z", TimeZone::UTC).unwrap(),
        merchant: (!id.is_multiple_of(2)).then(|| "SNCF".to_owned()),
        operation_type: "card_payment".into(),
        side: "debit".into(),
        attributes: if id.is_multiple_of(3) { [("country".into(), "FR".into())].into() } else { BTreeMap::new() },
    }
}

/// A row with that transaction, scored as legitimate.
pub(crate) fn scored(id: u128, amount: &str) -> Row {
    Row::Scored(transaction(id, amount), "legitimate", 0.25)
}

fn entry(row: u64, transaction: &Transaction) -> Entry {
    Entry {
        row,
        external_id: Some(format!("id {}", transaction.id.as_u128())),
        transaction: EncodedTransaction::new(transaction).unwrap(),
    }
}

/// A chunk of a run whose rows begin at `first_row`.
pub(crate) fn chunk(run: &str, chunk: u64, first_row: u64, rows: &[Row]) -> ScoredChunk {
    let mut scored = ScoredChunk {
        id: ChunkId { run_id: run_id(run), chunk },
        range: RowRange { first_row, rows: rows.len() as u64 },
        ids: IdScheme::V8,
        lane: Lane::Batch,
        predicted_at: Timestamp::parse(b"2026-01-11T10:00:00.25Z", TimeZone::UTC).unwrap(),
        predicted: Vec::new(),
        failed: Vec::new(),
        rejected: Vec::new(),
        known: Vec::new(),
    };
    for (row, kind) in (first_row..).zip(rows) {
        match kind {
            Row::Scored(transaction, label, score) => scored.predicted.push(predicted(row, transaction, label, *score)),
            Row::Failed(transaction) => scored.failed.push(failed(row, transaction)),
            Row::Invalid(raw) => scored.rejected.push(RejectedRow {
                row,
                line: row + 1,
                reason: RejectReason::AmountScale,
                message: "`amount` has more than 4 decimals".into(),
                raw: RawText::from(*raw),
            }),
        }
    }
    scored
}

pub(crate) fn predicted(row: u64, transaction: &Transaction, label: &str, score: f64) -> Predicted {
    let prediction = Prediction {
        prediction: label.into(),
        fraud_score: Some(score),
        model_version: Some("demo-1".into()),
        ..Prediction::default()
    };
    Predicted { entry: entry(row, transaction), prediction }
}

fn failed(row: u64, transaction: &Transaction) -> FailedRow {
    FailedRow {
        entry: entry(row, transaction),
        transaction_id: transaction.id,
        class: FailureClass::Rejected,
        reason: "422 Unprocessable Entity".into(),
        attempts: 3,
    }
}

/// A part of a replay with these rows, scored or failed again.
pub(crate) fn part(run: &str, replay: u64, part: u64, rows: &[(u64, Row)]) -> ScoredReplay {
    let mut scored = ScoredReplay {
        id: ReplayId { run_id: run_id(run), replay, part },
        ids: IdScheme::V8,
        lane: Lane::Batch,
        predicted_at: Timestamp::parse(b"2026-01-12T11:00:00.5Z", TimeZone::UTC).unwrap(),
        predicted: Vec::new(),
        failed: Vec::new(),
    };
    for (row, kind) in rows {
        match kind {
            Row::Scored(transaction, label, score) => {
                scored.predicted.push(predicted(*row, transaction, label, *score));
            }
            Row::Failed(transaction) => scored.failed.push(failed(*row, transaction)),
            Row::Invalid(_) => panic!("it cannot be replayed"),
        }
    }
    scored
}

/// A chunk of scored rows with these ids.
pub(crate) fn chunk_of_ids(run: &str, number: u64, first_row: u64, ids: &[u128]) -> ScoredChunk {
    chunk(run, number, first_row, &ids.iter().map(|id| scored(*id, "-12.50")).collect::<Vec<_>>())
}

/// A new run of the newest version of a location.
pub(crate) fn new_run(name: &str, location: &str) -> NewRun {
    NewRun {
        run_id: run_id(name),
        explicit_id: false,
        source: SourceIdentity { location: location.into(), version: "etag-1".into() },
        settings: RunSettings::example(),
        force: false,
        source_bytes: Some(1_234),
        fingerprint: None,
        owner: OWNER.into(),
        lease: LEASE,
    }
}

/// The owner of leases in the tests.
pub(crate) const OWNER: &str = "host/1/ada";
/// Longer than any test takes.
pub(crate) const LEASE: Duration = Duration::from_hours(1);

/// The first lease of a run.
pub(crate) fn lease(name: &str) -> Lease {
    Lease { run_id: run_id(name), owner: OWNER.into(), epoch: 1 }
}

/// Begins a run of a source of that name.
pub(crate) async fn begin(store: &dyn Store, name: &str) -> Run {
    match store.begin_run(&new_run(name, &format!("s3://bank/{name}.csv"))).await.unwrap() {
        RunStart::Started(run, granted) => {
            assert_eq!(granted, lease(name));
            run
        }
        other => panic!("{other:?}"),
    }
}

/// Seals a run and closes it.
pub(crate) async fn finish(store: &dyn Store, name: &str, rows_read: u64, chunks_total: u64) -> RunState {
    store.seal(&lease(name), SealedTotals { rows_read, chunks_total, amount: None }, None).await.unwrap();
    store.close_run(&run_id(name)).await.unwrap()
}

/// An operator, for the table of operations.
pub(crate) fn audit_context() -> AuditContext {
    AuditContext { operator: "ada".into(), reason: Some("as agreed".into()) }
}
