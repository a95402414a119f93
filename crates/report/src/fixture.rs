//! Runs, transactions and a time, for tests.

use assay_store::{FailedRecord, OperationRecord, PredictionRecord, TransactionRecord};
use assay_transaction::{
    Checkpoint, LiveRun, ModelEndpoint, Position, ReasonCode, Run, RunId, RunSettings, RunState, SealedTotals,
    SourceIdentity, TimeZone, Timestamp,
};

use crate::LiveCounts;

/// A moment on the day of the examples.
///
/// # Panics
///
/// If it is no time of day.
pub fn at(time: &str) -> Timestamp {
    Timestamp::parse(format!("2026-01-11 {time}").as_bytes(), TimeZone::UTC).expect("a time of day")
}

/// A complete run of 1,000 rows in 10 chunks.
///
/// # Panics
///
/// Never: the name is valid.
pub fn example() -> Run {
    Run {
        run_id: "batch_20260111_100000_3f9a1c".parse().expect("a valid name"),
        source: SourceIdentity { location: "s3://transactions/2026.csv".into(), version: "\"etag\"".into() },
        state: RunState::Complete,
        settings: RunSettings::example(),
        checkpoint: Checkpoint {
            chunk: 10,
            ..Checkpoint::first(Position { row: 1_001, line: 1_002, offset: 100_000 })
        },
        sealed: Some(SealedTotals { rows_read: 1_000, chunks_total: 10, amount: None }),
        error: None,
        stop: None,
        source_bytes: Some(100_000),
        started_at: at("10:00:00"),
        finished_at: Some(at("10:00:50")),
        removal: None,
    }
}

/// A live run of which so many rows were accepted, and so many have arrived.
///
/// # Panics
///
/// Never: the names are valid.
pub fn live_run(accepted: u64, numbered: u64) -> LiveRun {
    LiveRun {
        run_id: "live_shop_20260111".parse().expect("a valid name"),
        producer: "shop".parse().expect("a valid name"),
        day: "2026-01-11".parse().expect("a day"),
        counted: true,
        accepted: Some(accepted),
        doubtful: 0,
        late: 0,
        numbered,
        messages: numbered,
        open_counts: 0,
    }
}

/// Its counts, on its day.
///
/// # Panics
///
/// Never.
pub fn live_counts(accepted: u64, numbered: u64) -> LiveCounts {
    LiveCounts::at(&live_run(accepted, numbered), at("12:00:00").as_datetime())
}

/// A transaction with card numbers in its texts.
///
/// # Panics
///
/// Never: its parts are valid.
pub fn record() -> TransactionRecord {
    let json = r#"{"id":"67e55044-10b1-426f-9247-bb680e5fe0c8","description":"CB 4111111111111111 EDF","amount":-952.40,"timestamp":"2023-11-28T06:35:12Z","merchant":"EDF","operation_type":"refund","side":"debit","attributes":{"card":"4111111111111111"}}"#;
    let run_id: RunId = "first".parse().expect("valid");
    TransactionRecord {
        transaction: serde_json::from_str(json).expect("valid"),
        external_id: Some("4711".into()),
        run_id: run_id.clone(),
        row: 3,
        processing_type: "batch".into(),
        created_at: at("10:00:02"),
        prediction: Some(PredictionRecord {
            prediction: "fraud".into(),
            fraud_score: Some(0.97),
            model_version: Some("demo-1".into()),
            reasons: vec![
                ReasonCode::Contribution { feature: "amount".into(), contribution: 0.25 },
                ReasonCode::Code("R07 4111111111111111".into()),
            ],
            endpoint: Some(ModelEndpoint::new("http://ml-api:8000/predict".into(), Some("0123456789abcdef".into()))),
            run_id,
            predicted_at: at("10:00:01"),
        }),
        replaced: 0,
    }
}

/// One that failed.
///
/// # Panics
///
/// Never: its parts are valid.
pub fn failed() -> FailedRecord {
    let json = r#"{"row":7,"external_id":"4711","transaction":{"id":"67e55044-10b1-426f-9247-bb680e5fe0c8","description":"CB 4111111111111111 EDF","amount":-952.40,"timestamp":"2023-11-28T06:35:12Z","merchant":null,"operation_type":"refund","side":"debit"}}"#;
    FailedRecord {
        run_id: "first".parse().expect("valid"),
        row: 7,
        transaction_id: "67e55044-10b1-426f-9247-bb680e5fe0c8".parse().expect("valid"),
        class: "rejected".into(),
        reason: "HTTP status 422".into(),
        attempts: 2,
        payload: json.into(),
        operation: None,
    }
}

/// An erasure by ada.
///
/// # Panics
///
/// Never.
pub fn erasure() -> OperationRecord {
    OperationRecord {
        id: 7,
        operator: "ada".into(),
        action: "erase".into(),
        run_id: None,
        reason: Some("as asked\u{1b}[2J".into()),
        details: None,
        done_at: at("10:00:00"),
    }
}
