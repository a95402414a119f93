//! Rows by PostgreSQL's COPY: fast, for rows whose ids are new. COPY has no ON CONFLICT, so an id that is stored already ends the
//! transaction.
//!
//! Rows go out in pieces while they are encoded: PostgreSQL stores the first while the next ones are written, and no batch is in memory
//! once more in this form. `copy_tuples` has the format.

use sqlx::postgres::{PgConnection, PgCopyIn};

use super::copy_tuples::Tuples;
use super::{content_columns, prediction_columns};
use crate::StoreError;
use crate::values::signed;
use crate::write::transaction::StagedRow;

const TRANSACTIONS: &str = concat!(
    "COPY transactions (",
    content_columns!(),
    ", run_id, row_number, processing_type) FROM STDIN (FORMAT binary)"
);
const PREDICTIONS: &str = concat!("COPY predictions (", prediction_columns!(), ") FROM STDIN (FORMAT binary)");

/// Bytes that are sent at once.
const PIECE_BYTES: usize = 64 * 1024;

/// Writes a row as a tuple.
type Encode = fn(&mut Tuples, &StagedRow<'_>);

/// Stores new transactions with their predictions, neither of which may be stored already.
pub(in super::super) async fn copy(connection: &mut PgConnection, rows: &[&StagedRow<'_>]) -> Result<(), StoreError> {
    copy_rows(connection, TRANSACTIONS, rows, encode_transaction).await?;
    copy_rows(connection, PREDICTIONS, rows, encode_prediction).await
}

async fn copy_rows(
    connection: &mut PgConnection,
    statement: &'static str,
    rows: &[&StagedRow<'_>],
    encode: Encode,
) -> Result<(), StoreError> {
    let mut copy = connection.copy_in_raw(statement).await?;
    match send(&mut copy, rows, encode).await {
        Ok(()) => copy.finish().await.map(drop).map_err(StoreError::from),
        Err(error) => {
            // The first error is the informative one.
            let _ = copy.abort("it could not be sent").await;
            Err(error.into())
        }
    }
}

async fn send(
    copy: &mut PgCopyIn<&mut PgConnection>,
    rows: &[&StagedRow<'_>],
    encode: Encode,
) -> Result<(), sqlx::Error> {
    let mut tuples = Tuples::with_capacity(PIECE_BYTES);
    for row in rows {
        encode(&mut tuples, row);
        if tuples.bytes().len() >= PIECE_BYTES {
            copy.send(tuples.bytes()).await?;
            tuples.clear();
        }
    }
    tuples.end();
    copy.send(tuples.bytes()).await.map(drop)
}

fn encode_transaction(tuples: &mut Tuples, row: &StagedRow<'_>) {
    let content = &row.transaction;
    tuples.begin(12);
    tuples.uuid(&content.id);
    tuples.optional_text(row.external_id());
    tuples.text(&content.description);
    tuples.numeric(content.amount);
    tuples.timestamp(content.timestamp);
    tuples.optional_text(content.merchant.as_deref());
    tuples.text(&content.operation_type);
    tuples.text(&content.side);
    tuples.optional_jsonb(content.attributes);
    tuples.text(row.run_id.as_str());
    tuples.bigint(signed(row.entry.row));
    tuples.text(row.processing_type());
}

fn encode_prediction(tuples: &mut Tuples, row: &StagedRow<'_>) {
    tuples.begin(8);
    tuples.uuid(&row.transaction.id);
    tuples.text(&row.prediction.prediction);
    tuples.optional_double(row.prediction.fraud_score);
    tuples.optional_text(row.prediction.model_version.as_deref());
    tuples.text(row.run_id.as_str());
    tuples.timestamp(row.predicted_at);
    tuples.optional_jsonb(row.reasons().as_deref());
    tuples.optional_bigint(row.endpoint());
}
