//! Rows as columns: what `UNNEST` takes, one array for each column.

use std::collections::BTreeMap;

use assay_transaction::{Amount, Transaction, TransactionView};
use chrono::{DateTime, Utc};
use rust_decimal::Decimal;
use sqlx::Row as _;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use uuid::Uuid;

use crate::StoreError;
use crate::values::{signed, unsigned};
use crate::write::transaction::{FailureRow, InvalidRow, StagedRow, StoredTransaction, stored_attributes};

type Bound<'q> = Query<'q, sqlx::Postgres, PgArguments>;

/// Arrays of the content columns, as $1 to $9. JSON goes in as text.
macro_rules! content_arrays {
    () => {
        "$1::uuid[], $2::text[], $3::text[], $4::numeric[], $5::timestamptz[], $6::text[], $7::text[], $8::text[], $9::text[]"
    };
}
pub(super) use content_arrays;

pub(super) fn ids(rows: &[&StagedRow<'_>]) -> Vec<Uuid> {
    rows.iter().map(|row| row.transaction.id).collect()
}

pub(super) fn run_ids<'a>(rows: &[&StagedRow<'a>]) -> Vec<&'a str> {
    rows.iter().map(|row| row.run_id.as_str()).collect()
}

pub(super) fn row_numbers(rows: &[&StagedRow<'_>]) -> Vec<i64> {
    rows.iter().map(|row| signed(row.entry.row)).collect()
}

pub(super) fn processing_types(rows: &[&StagedRow<'_>]) -> Vec<&'static str> {
    rows.iter().map(|row| row.processing_type()).collect()
}

/// Binds $1 to $9.
pub(super) fn bind_content<'q>(query: Bound<'q>, rows: &[&'q StagedRow<'_>]) -> Bound<'q> {
    let texts = |of: for<'r> fn(&'r TransactionView<'_>) -> &'r str| {
        rows.iter().map(|row| of(&row.transaction)).collect::<Vec<_>>()
    };
    let amounts: Vec<Decimal> = rows.iter().map(|row| row.transaction.amount.as_decimal()).collect();
    let timestamps: Vec<DateTime<Utc>> = rows.iter().map(|row| row.transaction.timestamp.as_datetime()).collect();
    query
        .bind(ids(rows))
        .bind(rows.iter().map(|row| row.external_id()).collect::<Vec<_>>())
        .bind(texts(|transaction| &transaction.description))
        .bind(amounts)
        .bind(timestamps)
        .bind(rows.iter().map(|row| row.transaction.merchant.as_deref()).collect::<Vec<_>>())
        .bind(texts(|transaction| &transaction.operation_type))
        .bind(texts(|transaction| &transaction.side))
        .bind(rows.iter().map(|row| row.transaction.attributes).collect::<Vec<_>>())
}

/// Binds $1 to $8.
pub(super) fn bind_predictions<'q>(query: Bound<'q>, rows: &[&'q StagedRow<'_>]) -> Bound<'q> {
    query
        .bind(ids(rows))
        .bind(rows.iter().map(|row| &*row.prediction.prediction).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.prediction.fraud_score).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.prediction.model_version.as_deref()).collect::<Vec<_>>())
        .bind(run_ids(rows))
        .bind(rows.iter().map(|row| row.predicted_at.as_datetime()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.reasons()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.endpoint()).collect::<Vec<_>>())
}

/// Binds $1 to $6: the columns of `invalid_transactions`.
pub(super) fn bind_invalid<'q>(query: Bound<'q>, rows: &'q [InvalidRow<'_>]) -> Bound<'q> {
    query
        .bind(rows.iter().map(|row| row.run_id.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| signed(row.rejected.row)).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| signed(row.rejected.line)).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| &*row.reason).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| &*row.message).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.rejected.raw.as_bytes()).collect::<Vec<_>>())
}

/// Binds $1 to $8: the columns of `failed_transactions`.
pub(super) fn bind_failed<'q>(query: Bound<'q>, rows: &'q [FailureRow<'_>]) -> Bound<'q> {
    query
        .bind(rows.iter().map(|row| row.run_id.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| signed(row.row)).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.transaction_id).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| &*row.class).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| &*row.reason).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| i64::from(row.attempts)).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.payload.as_slice()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.operation).collect::<Vec<_>>())
}

/// A row of the content columns, `run_id` and `row_number`.
pub(super) fn read_stored(row: &PgRow) -> Result<StoredTransaction, StoreError> {
    let id: Uuid = row.try_get("id")?;
    let unreadable = |what: &str| StoreError::configuration(format!("transaction {id} has {what} that cannot be read"));
    Ok(StoredTransaction {
        external_id: row.try_get("external_id")?,
        run_id: row.try_get("run_id")?,
        row: unsigned(row.try_get("row_number")?),
        transaction: Transaction {
            id,
            description: row.try_get("description")?,
            amount: Amount::try_from(row.try_get::<Decimal, _>("amount")?).map_err(|_| unreadable("an amount"))?,
            timestamp: row.try_get::<DateTime<Utc>, _>("timestamp")?.into(),
            merchant: row.try_get("merchant")?,
            operation_type: row.try_get("operation_type")?,
            side: row.try_get("side")?,
            attributes: BTreeMap::new(),
        },
        attributes: stored_attributes(row.try_get("attributes")?, &id)?,
    })
}
