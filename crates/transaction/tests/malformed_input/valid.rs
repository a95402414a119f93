//! Arbitrary valid messages.

use assay_transaction::{
    Chunk, ChunkId, EncodedTransaction, Entry, FailedRow, FailureClass, IdScheme, KnownRow, Lane, Predicted,
    Prediction, RawText, RejectReason, RejectedRow, RowRange, ScoredChunk, TimeZone, Timestamp, Transaction,
};
use proptest::prelude::*;
use uuid::Uuid;

fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-z ]{1,12}", any::<String>(), Just("a\0b".to_owned()), Just("\u{feff}\u{202e}\\\"\u{7f}".to_owned())]
}

fn id() -> impl Strategy<Value = Uuid> {
    any::<u128>().prop_map(Uuid::from_u128)
}

/// Small, or at the limits.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..1000_u64, Just(u64::MAX), Just(i64::MAX as u64), any::<u64>()]
}

fn timestamp() -> impl Strategy<Value = Timestamp> {
    (0..=9999_u32, 1..=12_u32, 1..=28_u32, 0..86_400_u32, 0..1_000_000_u32).prop_map(
        |(year, month, day, second, micro)| {
            let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
            let text = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micro:06}Z");
            Timestamp::parse(text.as_bytes(), TimeZone::UTC).unwrap()
        },
    )
}

pub(crate) fn transaction() -> impl Strategy<Value = Transaction> {
    let amount = (any::<bool>(), 0..10_000_000_000_000_000_u64, 0..10_000_u32, 0..=4_usize).prop_map(
        |(negative, units, fraction, decimals)| {
            let fraction = format!("{fraction:04}");
            format!("{}{units}.{}", if negative { "-" } else { "" }, &fraction[..decimals]).parse().unwrap()
        },
    );
    let attributes = prop::collection::btree_map(text(), text(), 0..3);
    (id(), text(), amount, timestamp(), prop::option::of(text()), text(), text(), attributes).prop_map(
        |(id, description, amount, timestamp, merchant, operation_type, side, attributes)| Transaction {
            id,
            description,
            amount,
            timestamp,
            merchant,
            operation_type,
            side,
            attributes,
        },
    )
}

fn encoded() -> impl Strategy<Value = EncodedTransaction> {
    let json = |text: &str| serde_json::from_str(text).unwrap();
    prop_oneof![
        6 => transaction().prop_map(|transaction| EncodedTransaction::new(&transaction).unwrap()),
        1 => prop::sample::select(crate::mutation::VALUES).prop_map(json),
    ]
}

fn entry() -> impl Strategy<Value = Entry> {
    (number(), prop::option::of(text()), encoded()).prop_map(|(row, external_id, transaction)| Entry {
        row,
        external_id,
        transaction,
    })
}

fn rejected() -> impl Strategy<Value = RejectedRow> {
    let reason = prop_oneof![
        prop::sample::select(RejectReason::ALL),
        text().prop_map(|code| RejectReason::from(code.as_str())),
    ];
    (number(), number(), reason, text(), any::<Vec<u8>>()).prop_map(|(row, line, reason, message, raw)| RejectedRow {
        row,
        line,
        reason,
        message,
        raw: RawText::from(raw),
    })
}

fn predicted() -> impl Strategy<Value = Predicted> {
    let score =
        prop::option::of(prop_oneof![0.0..=1.0, any::<f64>().prop_filter("JSON has no others", |x| x.is_finite())]);
    (entry(), text(), score, prop::option::of(text())).prop_map(|(entry, prediction, fraud_score, model_version)| {
        let prediction = Prediction {
            prediction: prediction.into(),
            fraud_score,
            model_version: model_version.map(Into::into),
            ..Prediction::default()
        };
        Predicted { entry, prediction }
    })
}

fn failed() -> impl Strategy<Value = FailedRow> {
    let class = prop_oneof![
        prop::sample::select(FailureClass::ALL),
        text().prop_map(|code| FailureClass::from(code.as_str())),
    ];
    (entry(), id(), class, text(), any::<u32>()).prop_map(|(entry, transaction_id, class, reason, attempts)| {
        FailedRow { entry, transaction_id, class, reason, attempts }
    })
}

fn identity() -> impl Strategy<Value = (ChunkId, RowRange)> {
    ("[A-Za-z0-9_-]{1,64}", number(), number(), number()).prop_map(|(run_id, chunk, first_row, rows)| {
        (ChunkId { run_id: run_id.parse().unwrap(), chunk }, RowRange { first_row, rows })
    })
}

fn ids() -> impl Strategy<Value = IdScheme> {
    prop::sample::select(vec![IdScheme::V5, IdScheme::V8])
}

pub(crate) fn chunk() -> impl Strategy<Value = Chunk> {
    let known = (number(), predicted()).prop_map(|(row, predicted)| KnownRow { row, prediction: predicted.prediction });
    let rows = (
        prop::collection::vec(entry(), 0..4),
        prop::collection::vec(rejected(), 0..3),
        prop::collection::vec(known, 0..3),
    );
    (identity(), ids(), rows).prop_map(|((id, range), ids, (transactions, rejected, known))| Chunk {
        id,
        range,
        ids,
        transactions,
        rejected,
        known,
    })
}

pub(crate) fn scored() -> impl Strategy<Value = ScoredChunk> {
    let rows = (
        prop::collection::vec(predicted(), 0..4),
        prop::collection::vec(failed(), 0..3),
        prop::collection::vec(rejected(), 0..3),
    );
    (identity(), ids(), prop::sample::select(&Lane::ALL[..]), timestamp(), rows).prop_map(
        |((id, range), ids, lane, predicted_at, (predicted, failed, rejected))| ScoredChunk {
            id,
            range,
            ids,
            lane,
            predicted_at,
            predicted,
            failed,
            rejected,
            known: Vec::new(),
        },
    )
}
